"""Small networks that give the same bits on every machine: run, convert and verify ``.qm`` files.

>>> import swift_qm as qm
>>> qm.convert("in.onnx", "out.qm", bits=4, samples="calib")["outputs"]
>>> qm.Model("out.qm").run({"x": array})
"""

from ._library import QMError, library, text
from ._model import Model, Port, SelfTest, Session, kernel_sets, memory_needed
from ._tools import convert, verify

__version__ = text(library.qm_version())
__all__ = ["Model", "Port", "QMError", "SelfTest", "Session", "convert", "kernel_sets", "memory_needed",
           "verify"]
