"""Models and sessions."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Mapping, Sequence
from ctypes import POINTER, byref, c_int64, c_size_t, c_uint64, c_void_p
from dataclasses import dataclass

import numpy as np

from ._library import (MEMORIES, InputStructure, Options, OutputStructure, PortStructure, QMError,
                       SelfTestStructure, ShapeStructure, check, library, text)

# numpy has no bfloat16: its bits are there as uint16.
_DTYPES = {1: np.float32, 2: np.float16, 3: np.int8, 4: np.uint8, 5: np.int16, 6: np.int32, 7: np.int64,
           8: np.bool_, 9: np.float64, 10: np.uint16, 11: np.uint32, 12: np.uint64, 13: np.uint16}


@dataclass(frozen=True)
class Port:
    """An input or output of a model.

    Attributes:
        name: its name in the network.
        dtype: the numpy type of its elements.
        shape: the extent of each axis; a name, which may be empty, or ``None`` where each run chooses it.
        scale: if elements are codes, they stand for ``scale * (code - zero_point)``; otherwise 0.
        zero_point: see ``scale``.
    """

    name: str
    dtype: np.dtype
    shape: tuple[int | str | None, ...]
    scale: float = 0.0
    zero_point: int = 0


def _port(structure: PortStructure) -> Port:
    shape: list[int | str | None] = []
    for axis in range(structure.rank):
        extent = structure.shape[axis]
        shape.append(extent if extent >= 0 else text(structure.axis_names[axis]) or None)
    return Port(text(structure.name), np.dtype(_DTYPES[structure.element_type]), tuple(shape),
                structure.scale, structure.zero_point)


@dataclass(frozen=True)
class SelfTest:
    """What the probes of a file say about a model on this machine.

    Attributes:
        probes: their number.
        agreeing: the number of those whose outputs have the bits that the file states.
        median_sqnr: SQNR in dB of the worst output, the median over the probes.
        worst_sqnr: SQNR in dB of the worst probe of the worst output.
        made_inputs: whether the inputs were made from noise, so that the SQNR does not bound that of
            real inputs.
    """

    probes: int
    agreeing: int
    median_sqnr: float
    worst_sqnr: float
    made_inputs: bool

    @property
    def passed(self) -> bool:
        """Whether the outputs for every probe have the bits that the file states."""
        return self.agreeing == self.probes


def _options(threads: int, memory: str, kernels: str | None, run_byte_limit: int) -> Options:
    if memory not in MEMORIES:
        raise QMError("usage", f"memory is '{memory}'; expected {' or '.join(MEMORIES)}")
    return Options(ctypes.sizeof(Options), threads, MEMORIES[memory],
                   kernels.encode() if kernels else None, run_byte_limit)


def memory_needed(file: str | os.PathLike | bytes, *, memory: str = "standard") -> int:
    """A bound on the bytes that the weights of a file take once it is open, from its listing alone.

    Args:
        file: a path, or the content of a ``.qm`` file.
        memory: ``standard`` or ``compact``.
    """
    options = _options(0, memory, None, 0)
    result = c_uint64()
    if isinstance(file, (bytes, bytearray, memoryview)):
        content = bytes(file)
        check(library.qm_memory_needed_bytes(content, len(content), byref(options), byref(result)))
    else:
        check(library.qm_memory_needed(os.fsencode(file), byref(options), byref(result)))
    return result.value


class _Handle:
    """What is closed at the end of ``with``, or when nobody holds it."""

    def __init__(self, free) -> None:
        self._free, self._handle = free, c_void_p()

    def close(self) -> None:
        """Frees the memory; a second call does nothing."""
        self._free(self._handle)
        self._handle = c_void_p()

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            self.close()


class Model(_Handle):
    """A network that is ready to run.

    >>> with Model("out.qm") as model:
    ...     outputs = model.run({"x": image})

    May be used by several threads at the same time. The same inputs give the same bits on every machine.

    Args:
        file: a path, or the content of a ``.qm`` file.
        threads: threads of a run.
        memory: what weights take: ``standard``, or ``compact`` for about a byte each or less.
        kernels: one of ``kernel_sets()``; by default the fastest.
        run_byte_limit: bytes that the values of one run may take; 0 for any number.

    Raises:
        QMError: if the file cannot be opened, or breaks a rule of the format.
    """

    def __init__(self, file: str | os.PathLike | bytes, *, threads: int = 1, memory: str = "standard",
                 kernels: str | None = None, run_byte_limit: int = 0) -> None:
        super().__init__(library.qm_model_close)
        self._idle: list[Session] = []
        self._lock = threading.Lock()
        options = _options(threads, memory, kernels, run_byte_limit)
        if isinstance(file, (bytes, bytearray, memoryview)):
            content = bytes(file)
            check(library.qm_model_open_bytes(
                content, len(content), byref(options), byref(self._handle)))
        else:
            check(library.qm_model_open(os.fsencode(file), byref(options), byref(self._handle)))
        self.inputs = self._ports(library.qm_model_input_count, library.qm_model_input)
        self.outputs = self._ports(library.qm_model_output_count, library.qm_model_output)
        keys = [library.qm_model_metadata_key(self._handle, index)
                for index in range(library.qm_model_metadata_count(self._handle))]
        self.metadata: dict[str, str] = {
            text(key): text(library.qm_model_metadata(self._handle, key)) for key in keys}

    def _ports(self, count, port) -> tuple[Port, ...]:
        ports = []
        for index in range(count(self._handle)):
            structure = PortStructure(ctypes.sizeof(PortStructure))
            check(port(self._handle, index, byref(structure)))
            ports.append(_port(structure))
        return tuple(ports)

    @property
    def weight_bytes(self) -> int:
        """Bytes that the weights take."""
        result = c_uint64()
        check(library.qm_model_weight_bytes(self._handle, byref(result)))
        return result.value

    def self_test(self, content: bytes | None = None) -> SelfTest:
        """Runs the probes of the file, which is read again: an open model does not hold them.

        Args:
            content: the content of the file, if the model was opened from it and not from a path.

        Raises:
            QMError: if the file has no probes, or has changed.
        """
        result = SelfTestStructure(ctypes.sizeof(SelfTestStructure))
        if content is None:
            check(library.qm_model_self_test(self._handle, byref(result)))
        else:
            content = bytes(content)
            check(library.qm_model_self_test_bytes(
                self._handle, content, len(content), byref(result)))
        return SelfTest(result.probe_count, result.agreeing_count, result.median_sqnr,
                        result.worst_sqnr, bool(result.made_inputs))

    def session(self) -> Session:
        """A session, to run without copies or to cancel runs."""
        return Session(self)

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Runs the model.

        Args:
            inputs: an array for each input, of its type and a shape that it admits.

        Returns:
            An array for each output, by name.

        Raises:
            QMError: if an array is missing, unknown, or does not fit.
        """
        with self._lock:
            session = self._idle.pop() if self._idle else Session(self)
        try:
            return session.run(inputs)
        finally:
            with self._lock:
                self._idle.append(session)

    def close(self) -> None:
        """Frees the model. Sessions keep what they need of it."""
        library.qm_model_close(self._handle)
        super().__init__(library.qm_model_close)
        self._idle = []

    def __repr__(self) -> str:
        return f"Model(inputs={self.inputs}, outputs={self.outputs})"


class Session(_Handle):
    """Runs a model, one run at a time, and holds the memory of runs.

    Without copies:

    >>> session = model.session()
    >>> session.prepare({"x": (1, 64)})
    >>> session.input("x")[:] = image
    >>> session.run_in_place()
    >>> scores = session.output("y")

    Only ``cancel`` may be called while another thread uses the session.
    """

    def __init__(self, model: Model) -> None:
        super().__init__(library.qm_session_close)
        check(library.qm_session_create(model._handle, byref(self._handle)))
        self.inputs, self.outputs = model.inputs, model.outputs
        self._shapes_in_memory: list[tuple[int, ...]] = []

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """As ``Model.run``."""
        known = {port.name for port in self.inputs}
        unknown = sorted(set(inputs) - known)
        if unknown:
            raise QMError("invalid_input", f"no input is named '{unknown[0]}'; inputs are "
                          + ", ".join(f"'{name}'" for name in sorted(known)))
        arrays = []
        for port in self.inputs:
            if port.name not in inputs:
                raise QMError("invalid_input", f"input '{port.name}' is missing")
            array = np.asarray(inputs[port.name])
            if array.dtype != port.dtype:
                raise QMError("invalid_input", f"input '{port.name}' is {array.dtype}, expected "
                              f"{port.dtype}", f"convert it with astype('{port.dtype}')")
            arrays.append(np.ascontiguousarray(array).reshape(array.shape))
        structures = (InputStructure * len(arrays))()
        for structure, array in zip(structures, arrays):
            structure.data, structure.byte_count = array.ctypes.data, array.nbytes
            structure.shape, structure.rank = _extents(array.shape), array.ndim
        check(library.qm_session_run(self._handle, structures, len(arrays)))
        self._shapes_in_memory = [array.shape for array in arrays]
        return {port.name: self._output(index).copy() for index, port in enumerate(self.outputs)}

    def memory_needed(self, shapes: Mapping[str, Sequence[int]]) -> int:
        """Bytes for the values of a run on inputs of these shapes, known without a run."""
        result = c_uint64()
        structures = self._shapes(shapes)
        check(library.qm_session_memory_needed(
            self._handle, structures, len(structures), byref(result)))
        return result.value

    def prepare(self, shapes: Mapping[str, Sequence[int]]) -> None:
        """Allocates the memory of runs without copies, filled with zeros."""
        structures = self._shapes(shapes)
        check(library.qm_session_prepare(self._handle, structures, len(structures)))
        self._shapes_in_memory = [tuple(shapes[port.name]) for port in self.inputs]

    def input(self, name: str) -> np.ndarray:
        """The memory of an input, to be filled. Valid until the shapes change or the session is freed."""
        index = self._index(name, self.inputs, "input")
        data, byte_count = c_void_p(), c_size_t()
        check(library.qm_session_input(self._handle, index, byref(data), byref(byte_count)))
        return self._view(data.value, byte_count.value, self.inputs[index].dtype,
                          self._shapes_in_memory[index])

    def run_in_place(self) -> None:
        """Runs on the content of the inputs' memory; copies nothing."""
        check(library.qm_session_run_in_place(self._handle))

    def output(self, name: str) -> np.ndarray:
        """An output of the last run in the session's memory. Valid until the next run."""
        view = self._output(self._index(name, self.outputs, "output"))
        view.flags.writeable = False
        return view

    def cancel(self) -> None:
        """Ends the run in progress within milliseconds: it raises ``QMError`` with code ``cancelled``."""
        check(library.qm_session_cancel(self._handle))

    def close(self) -> None:
        """Frees the session. Arrays that ``input`` and ``output`` returned are no longer valid."""
        super().close()

    def _output(self, index: int) -> np.ndarray:
        structure = OutputStructure(ctypes.sizeof(OutputStructure))
        check(library.qm_session_output(self._handle, index, byref(structure)))
        shape = tuple(structure.shape[axis] for axis in range(structure.rank))
        return self._view(structure.data, structure.byte_count,
                          np.dtype(_DTYPES[structure.element_type]), shape)

    def _view(self, address: int | None, byte_count: int, dtype: np.dtype,
              shape: tuple[int, ...]) -> np.ndarray:
        if not byte_count:
            return np.empty(shape, dtype)
        memory = _Memory(byte_count).from_address(address)
        # The array keeps the memory's owner alive.
        memory.owner = self
        return np.frombuffer(memory, dtype).reshape(shape)

    def _shapes(self, shapes: Mapping[str, Sequence[int]]) -> ctypes.Array:
        structures = (ShapeStructure * len(self.inputs))()
        for structure, port in zip(structures, self.inputs):
            if port.name not in shapes:
                raise QMError("invalid_input", f"the shape of input '{port.name}' is missing")
            extents = tuple(shapes[port.name])
            structure.extents, structure.rank = _extents(extents), len(extents)
        return structures

    @staticmethod
    def _index(name: str, ports: tuple[Port, ...], what: str) -> int:
        for index, port in enumerate(ports):
            if port.name == name:
                return index
        raise QMError("usage", f"no {what} is named '{name}'; there are "
                      + ", ".join(f"'{port.name}'" for port in ports))


def _extents(shape: Sequence[int]) -> ctypes.pointer:
    return ctypes.cast((c_int64 * max(len(shape), 1))(*shape), POINTER(c_int64))


def _Memory(byte_count: int) -> type:
    """A type of memory that may have an owner, which arrays of ctypes have not."""
    return type("Memory", (ctypes.c_uint8 * byte_count,), {})


def kernel_sets() -> list[str]:
    """The sets of kernels that this machine can run, the slowest first; all give the same bits."""
    return text(library.qm_kernel_sets()).split()
