"""The command-line tools, and their reports as dictionaries."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from ._library import FOLDER, QMError

# One program, which is the tool whose name it is called by.
_PROGRAM = os.environ.get("QM_TOOLS") or str(FOLDER / "bin" / "qtools")


def _run(tool: str, arguments: list[str]) -> dict[str, Any]:
    done = subprocess.run([tool, *arguments, "--json", "--quiet"], executable=_PROGRAM,
                          capture_output=True, encoding="utf-8")
    try:
        report = json.loads(done.stdout)
    except json.JSONDecodeError:
        report = None
    # qverify has a report of files that it fails, too.
    if report is None or done.returncode not in (0, 1):
        message = done.stderr.strip().splitlines() or [f"{tool} ended with {done.returncode}"]
        raise QMError(str(done.returncode), message[-1].removeprefix(f"{tool}: "))
    return report


def _options(options: dict[str, Any]) -> list[str]:
    """``keep_float="conv1"`` as ``--keep-float conv1``; a list repeats the option."""
    arguments: list[str] = []
    for name, value in options.items():
        option = "--" + name.replace("_", "-")
        for one in value if isinstance(value, (list, tuple)) else [value]:
            if one is True:
                arguments.append(option)
            elif one is not None and one is not False:
                arguments += [option, os.fspath(one) if isinstance(one, os.PathLike) else str(one)]
    return arguments


def convert(network: str | os.PathLike, output: str | os.PathLike, **options: Any) -> dict[str, Any]:
    """Converts a network or a checkpoint with ``qconvert``.

    Args:
        network: an ``.onnx`` file, or arrays.
        output: the ``.qm`` file to write.
        options: those of the command, such as ``bits=4``, ``samples="calib"``, ``keep_float=["a", "b"]``.

    Returns:
        The report, as ``qconvert --json`` prints it.

    Raises:
        QMError: with the tool's exit status as its code.
    """
    return _run("qconvert", [os.fspath(network), os.fspath(output), *_options(options)])


def verify(file: str | os.PathLike, samples: str | os.PathLike | None = None, **options: Any
           ) -> dict[str, Any]:
    """Verifies a file with ``qverify``; ``passed`` of the report is the verdict.

    Args:
        file: the ``.qm`` file.
        samples: a folder or an archive with samples.
        options: those of the command, such as ``reference="in.onnx"``.

    Raises:
        QMError: if the file or the samples cannot be read.
    """
    return _run("qverify", [os.fspath(file), *([os.fspath(samples)] if samples else []),
                            *_options(options)])


def main() -> None:
    """Runs the tool of the script's name in its place."""
    os.execv(_PROGRAM, [os.path.basename(sys.argv[0]), *sys.argv[1:]])
