"""The functions of qm.h, called through ctypes."""

from __future__ import annotations

import ctypes
import os
from ctypes import POINTER, Structure, c_char_p, c_double, c_float, c_int32, c_int64, c_size_t, c_uint64, c_void_p
from pathlib import Path

FOLDER = Path(__file__).parent


class QMError(Exception):
    """What a file, an option or an array made impossible.

    Attributes:
        code: ``usage``, ``malformed``, ``unsupported``, ``cannot_open``, ``out_of_memory``,
            ``invalid_input``, ``cancelled`` or ``internal``; of a tool, its exit status as text.
        remedy: what can be done about it; empty where the message suffices.
    """

    def __init__(self, code: str, message: str, remedy: str = "") -> None:
        super().__init__(message + (f"; {remedy}" if remedy else ""))
        self.code = code
        self.remedy = remedy


CODES = ["ok", "usage", "malformed", "unsupported", "cannot_open", "out_of_memory", "invalid_input",
         "cancelled", "internal"]
MEMORIES = {"standard": 0, "compact": 1}


class Options(Structure):
    _fields_ = [("struct_size", c_size_t), ("threads", c_int32), ("memory", c_int32),
                ("kernels", c_char_p), ("run_byte_limit", c_uint64)]


class PortStructure(Structure):
    _fields_ = [("struct_size", c_size_t), ("name", c_char_p), ("element_type", c_int32),
                ("rank", c_int32), ("shape", POINTER(c_int64)), ("axis_names", POINTER(c_char_p)),
                ("scale", c_float), ("zero_point", c_int32)]


class InputStructure(Structure):
    _fields_ = [("data", c_void_p), ("byte_count", c_size_t), ("shape", POINTER(c_int64)),
                ("rank", c_size_t)]


class ShapeStructure(Structure):
    _fields_ = [("extents", POINTER(c_int64)), ("rank", c_size_t)]


class OutputStructure(Structure):
    _fields_ = [("struct_size", c_size_t), ("element_type", c_int32), ("rank", c_int32),
                ("shape", POINTER(c_int64)), ("data", c_void_p), ("byte_count", c_size_t)]


class SelfTestStructure(Structure):
    _fields_ = [("struct_size", c_size_t), ("probe_count", c_size_t), ("agreeing_count", c_size_t),
                ("median_sqnr", c_double), ("worst_sqnr", c_double), ("made_inputs", c_int32)]


def _open() -> ctypes.CDLL:
    path = os.environ.get("QM_LIBRARY") or FOLDER / "libqm.so"
    library = ctypes.CDLL(str(path))
    texts = {
        "qm_version": [], "qm_last_error": [], "qm_last_error_remedy": [], "qm_kernel_sets": [],
        "qm_model_metadata": [c_void_p, c_char_p], "qm_model_metadata_key": [c_void_p, c_size_t],
    }
    counts = {name: [c_void_p] for name in
              ["qm_model_input_count", "qm_model_output_count", "qm_model_metadata_count"]}
    statuses = {
        "qm_last_error_status": [],
        "qm_model_open": [c_char_p, POINTER(Options), POINTER(c_void_p)],
        "qm_model_open_bytes": [c_void_p, c_size_t, POINTER(Options), POINTER(c_void_p)],
        "qm_memory_needed": [c_char_p, POINTER(Options), POINTER(c_uint64)],
        "qm_memory_needed_bytes": [c_void_p, c_size_t, POINTER(Options), POINTER(c_uint64)],
        "qm_model_weight_bytes": [c_void_p, POINTER(c_uint64)],
        "qm_model_input": [c_void_p, c_size_t, POINTER(PortStructure)],
        "qm_model_output": [c_void_p, c_size_t, POINTER(PortStructure)],
        "qm_model_self_test": [c_void_p, POINTER(SelfTestStructure)],
        "qm_model_self_test_bytes": [c_void_p, c_void_p, c_size_t, POINTER(SelfTestStructure)],
        "qm_session_create": [c_void_p, POINTER(c_void_p)],
        "qm_session_run": [c_void_p, POINTER(InputStructure), c_size_t],
        "qm_session_memory_needed":
            [c_void_p, POINTER(ShapeStructure), c_size_t, POINTER(c_uint64)],
        "qm_session_prepare": [c_void_p, POINTER(ShapeStructure), c_size_t],
        "qm_session_input": [c_void_p, c_size_t, POINTER(c_void_p), POINTER(c_size_t)],
        "qm_session_run_in_place": [c_void_p],
        "qm_session_output": [c_void_p, c_size_t, POINTER(OutputStructure)],
        "qm_session_copy_output": [c_void_p, c_size_t, c_void_p, c_size_t],
        "qm_session_cancel": [c_void_p],
    }
    for names, result in [(texts, c_char_p), (counts, c_size_t), (statuses, c_int32)]:
        for name, arguments in names.items():
            function = getattr(library, name)
            function.argtypes, function.restype = arguments, result
    for name in ["qm_model_close", "qm_session_close"]:
        function = getattr(library, name)
        function.argtypes, function.restype = [c_void_p], None
    return library


library = _open()


def check(status: int) -> None:
    """Raises what a function of the library found."""
    if status == 0:
        return
    code = CODES[status] if 0 < status < len(CODES) else "internal"
    raise QMError(code, library.qm_last_error().decode(), library.qm_last_error_remedy().decode())


def text(bytes_: bytes | None) -> str:
    return (bytes_ or b"").decode()
