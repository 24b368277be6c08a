"""qm-format.md, "Numbers and texts"."""

import math
import struct

from .errors import Malformed, require

TEXT_LIMIT = 1 << 20


class ByteReader:
    """Reads numbers and texts from bytes, from the first to the last."""

    def __init__(self, content):
        self.content = content
        self.position = 0

    @property
    def remaining(self):
        return len(self.content) - self.position

    def bytes(self, count):
        require(count <= self.remaining, f'{count} bytes expected at {self.position}, {self.remaining} left')
        self.position += count
        return self.content[self.position - count:self.position]

    def end(self, what):
        require(self.remaining == 0, f'{self.remaining} bytes behind {what}')

    def u8(self):
        return self.bytes(1)[0]

    def number(self, format):
        return struct.unpack('<' + format, self.bytes(struct.calcsize(format)))[0]

    def f32(self):
        value = self.number('f')
        require(not math.isnan(value), 'a number is NaN')
        return value

    def flag(self):
        return bool(self.choice('flag', 2))

    def choice(self, what, count):
        number = self.u8()
        require(number < count, f'{what} {number} is unknown')
        return number

    def varint(self):
        result = 0
        for index in range(9):
            byte = self.u8()
            result |= (byte & 127) << 7 * index
            if byte < 128:
                require(byte != 0 or index == 0, 'a varint is not in its shortest form')
                return result
        raise Malformed('a varint has more than 63 bits')

    def signed(self):
        code = self.varint()
        require(code < 1 << 32, 'a signed number has more than 32 bits')
        return (code >> 1) ^ -(code & 1)

    def count(self, what, limit=None, size=1):
        """A count of items of at least `size` bytes, which must remain."""
        count = self.varint()
        require(limit is None or count <= limit, f'{count} {what}, at most {limit} are allowed')
        require(count * size <= self.remaining, f'{count} {what} do not fit into {self.remaining} bytes')
        return count

    def text(self):
        content = self.bytes(self.count('bytes of a text', TEXT_LIMIT))
        try:
            return bytes(content).decode('utf-8')
        except UnicodeDecodeError as error:
            raise Malformed('a text is not UTF-8') from error

    def list(self):
        return [self.signed() for _ in range(self.count('numbers of a list'))]
