"""What the families of operations share.

An operation is a class with its name. `inputs` is how many inputs it needs and how many it may have.
`types(a, *inputs)` is its type rule: from the attributes and the operands to the types of the outputs,
with dynamic axes or without. `run(a, outputs, *inputs)` computes the arrays of the outputs.
"""

import math
from dataclasses import dataclass

import numpy as np

from .errors import require
from .types import (BOOL, CODE_RANGES, FLOAT32, INT8, INT32, INT64, Dynamic, DynamicAxis, Fixed, Type, Weights)

ANY_AXIS = DynamicAxis()


@dataclass
class Operand:
    """`elements` are there in a run, and in the rule if they are known before the run."""
    type: Type
    elements: np.ndarray = None

    @property
    def axes(self):
        return self.type.axes

    @property
    def rank(self):
        return self.type.rank

    @property
    def quantization(self):
        return self.type.quantization

    def is_plain(self, *elements):
        return self.type.quantization is None and self.type.element in (elements or (self.type.element,))


def is_known(axis):
    return isinstance(axis, int)


def all_known(axes):
    return all(is_known(axis) for axis in axes)


def number_of(axes):
    return math.prod(axes) if all_known(axes) else 0 if 0 in axes else ANY_AXIS


def equal_axes(a, b, what):
    """Extents that must be equal: the known one."""
    require(not (is_known(a) and is_known(b)) or a == b, f'{what}: {a} and {b} differ')
    return a if is_known(a) else b if is_known(b) else ANY_AXIS


def equal_shapes(a, b, what):
    require(len(a) == len(b), f'{what}: {len(a)} and {len(b)} axes')
    return tuple(equal_axes(x, y, what) for x, y in zip(a, b))


def broadcast(*shapes):
    rank = max(len(shape) for shape in shapes)
    result = [1] * rank
    for shape in shapes:
        for i, axis in enumerate((1,) * (rank - len(shape)) + tuple(shape)):
            other = result[i]
            if axis == 1:
                continue
            if other == 1:
                result[i] = axis if is_known(axis) else ANY_AXIS
            else:
                result[i] = equal_axes(axis, other, 'broadcasting')
    return tuple(result)


def broadcast_array(x, rank):
    return x.reshape((1,) * (rank - x.ndim) + x.shape)


def float32(axes):
    return Type(FLOAT32, None, tuple(axes))


def of_output(output, axes):
    return Type(output.element, output.quantization, tuple(axes))


def require_float32(*operands):
    for operand in operands:
        require(operand is None or operand.is_plain(FLOAT32), 'an operand is not float32')


def is_codes(operand):
    return isinstance(operand.quantization, Fixed) and operand.type.element in CODE_RANGES


def require_float32_or_codes(*operands):
    for operand in operands:
        require(operand.is_plain(FLOAT32) or is_codes(operand), 'an operand is neither float32 nor codes')


def require_movable(*operands):
    """Without quantization or with fixed quantization."""
    for operand in operands:
        require(operand.quantization is None or isinstance(operand.quantization, Fixed),
                'moved elements have weights or dynamic quantization')


def require_integers(operand):
    """Integers: int32 or int64 without quantization, of rank 0 or 1."""
    require(operand.is_plain(INT32, INT64) and operand.rank <= 1, 'an operand is not a list of integers')


def integers(operand):
    """The known integers of an operand, else None."""
    if operand.elements is None:
        return None
    return [int(x) for x in operand.elements.reshape(-1)]


def integer_count(operand):
    """How many integers an operand has, or a dynamic axis."""
    return 1 if operand.rank == 0 else operand.axes[0]


def known_integer_count(operand, what):
    count = integer_count(operand)
    require(is_known(count), f'{what}: the number of integers must be known')
    return count


def require_axis(axis, rank):
    require(0 <= axis < rank, f'the axis {axis} is none of {rank}')


def require_ascending(axes, rank):
    require(all(0 <= axis < rank for axis in axes) and all(a < b for a, b in zip(axes, axes[1:])),
            f'the axes {axes} are not ascending axes of {rank}')


def require_parameters(operand, axes):
    """Scales and zero points of rows: float32 with the shape of these axes, and 2."""
    require(operand is not None, 'the scales of a run are absent')
    require_float32(operand)
    equal_shapes(operand.axes, (*axes, 2), 'scales of a run')


