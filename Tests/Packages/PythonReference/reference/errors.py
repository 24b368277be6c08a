class Malformed(Exception):
    """The file violates a rule of the format."""


class Unsupported(Exception):
    """The file is for a reader of another version."""


class RunError(Exception):
    """A run ends without outputs."""


def require(condition, message, error=Malformed):
    if not condition:
        raise error(message)
