"""qm-format.md, "Types": element types, quantization, axes."""

import math
from dataclasses import dataclass

import numpy as np

from .errors import require

FLOAT32, FLOAT16, INT8, UINT8, INT16, INT32, INT64, BOOL, FLOAT64, UINT16, UINT32, UINT64, BFLOAT16 = range(1, 14)

# NumPy has no bfloat16: its elements are kept as their bit patterns.
DTYPES = {
    FLOAT32: '<f4', FLOAT16: '<f2', INT8: 'i1', UINT8: 'u1', INT16: '<i2', INT32: '<i4', INT64: '<i8',
    BOOL: 'u1', FLOAT64: '<f8', UINT16: '<u2', UINT32: '<u4', UINT64: '<u8', BFLOAT16: '<u2',
}
DTYPES = {element: np.dtype(name) for element, name in DTYPES.items()}
CODE_RANGES = {INT8: (-128, 127), UINT8: (0, 255), INT16: (-32768, 32767)}
INTEGERS = (INT8, UINT8, INT16, INT32, INT64, UINT16, UINT32, UINT64)
FLOATS = (FLOAT32, FLOAT16, FLOAT64, BFLOAT16)

RANK_LIMIT = 16
ELEMENT_LIMIT = 1 << 48

PER_TENSOR, PER_CHANNEL, PER_GROUP = range(3)


@dataclass(frozen=True)
class Fixed:
    scale: float
    zero_point: int


@dataclass(frozen=True)
class Dynamic:
    axes: int


@dataclass(frozen=True)
class Weights:
    bits: int
    granularity: int
    axis: int = 0
    size: int = 0


@dataclass(frozen=True)
class DynamicAxis:
    """An axis whose extent is not known before a run. Number 0: without a name."""
    number: int = 0


@dataclass(frozen=True)
class Type:
    """`axes` holds extents and dynamic axes."""
    element: int
    quantization: object  # None, Fixed, Dynamic or Weights
    axes: tuple

    @property
    def rank(self):
        return len(self.axes)

    @property
    def is_concrete(self):
        return all(isinstance(axis, int) for axis in self.axes)

    @property
    def dtype(self):
        return DTYPES[self.element]

    def with_axes(self, axes):
        return Type(self.element, self.quantization, tuple(axes))


def is_normal_scale(scale):
    """Whether the scale is a positive normal float32."""
    return float(np.finfo(np.float32).tiny) <= scale <= float(np.finfo(np.float32).max)


def check_fixed(element, quantization):
    require(element in CODE_RANGES, f'codes of element type {element}')
    with np.errstate(all='ignore'):
        inverse = float(np.float32(1) / np.float32(quantization.scale))
    require(is_normal_scale(quantization.scale) and is_normal_scale(inverse),
            f'the scale {quantization.scale} or its inverse is no positive normal number')
    low, high = CODE_RANGES[element]
    require(low <= quantization.zero_point <= high, f'the zero point {quantization.zero_point} is no code')


class TypeReader:
    """Reads types and outputs, which may repeat the scale that stood last before them."""

    def __init__(self, reader):
        self.reader = reader
        self.last = None
        self.axis_name_count = 0

    def element(self):
        element = self.reader.u8()
        require(element in DTYPES, f'the element type {element} is unknown')
        return element

    def scale_and_zero_point(self, element):
        result = Fixed(self.reader.f32(), self.reader.signed())
        check_fixed(element, result)
        return result

    def fixed(self, element):
        """As `scale_and_zero_point`, of a type or of an attribute of the kind *output*."""
        self.last = self.scale_and_zero_point(element)
        return self.last

    def type(self):
        reader = self.reader
        element = self.element()
        kind = reader.choice('quantization', 5)
        quantization = None
        if kind == 1:
            quantization = self.fixed(element)
        elif kind == 2:
            quantization = Dynamic(reader.varint())
        elif kind == 3:
            bits, granularity = reader.u8(), reader.choice('granularity', 3)
            require(2 <= bits <= 8, f'weights of {bits} bits')
            quantization = Weights(bits, granularity, reader.varint() if granularity else 0,
                                   reader.varint() if granularity == PER_GROUP else 0)
        elif kind == 4:
            require(self.last is not None, 'a type repeats a scale, but there is none before it')
            quantization = self.last
            check_fixed(element, quantization)
        axes = []
        for _ in range(reader.count('axes', RANK_LIMIT)):
            number = reader.varint()
            require(number % 2 == 0 or number // 2 <= self.axis_name_count, 'an axis has a name that is missing')
            axes.append(DynamicAxis(number // 2) if number % 2 else number // 2)
        count = math.prod(axis for axis in axes if isinstance(axis, int) and axis > 0)
        require(count <= ELEMENT_LIMIT, f'a value has {count} elements')
        if isinstance(quantization, (Dynamic, Weights)):
            require(element == INT8, 'codes with weights or dynamic quantization are not int8')
        if isinstance(quantization, Dynamic):
            require(quantization.axes <= len(axes), 'dynamic quantization over axes that are missing')
        if isinstance(quantization, Weights) and quantization.granularity:
            require(quantization.axis < len(axes), 'weights quantization along an axis that is missing')
            require(quantization.granularity != PER_GROUP or quantization.size >= 1, 'a group of no weights')
        return Type(element, quantization, tuple(axes))
