"""arithmetic.md, "Element-wise" and Select."""

import numpy as np

from .arithmetic import (BINARY_NAMES, CODE_RANGES, F, NAN, apply, apply_two, apply_two_integers, number, store)
from .errors import RunError, require
from .operation import (broadcast, equal_shapes, is_codes, of_output, require_float32, require_float32_or_codes,
                        require_movable)
from .types import (BFLOAT16, BOOL, DTYPES, FLOAT16, FLOAT32, FLOAT64, FLOATS, INT8, INT32, INT64, INTEGERS, Dynamic,
                    Fixed, Type)


class Unary:
    inputs = 1, 1

    @staticmethod
    def types(a, x):
        if x.is_plain(INT32, INT64):
            require(a.function.name in ('absolute', 'negate', 'sign'), f'{a.function.name} of integers')
            return [x.type]
        require_float32_or_codes(x)
        return [of_output(a.output, x.axes)]

    @staticmethod
    def run(a, outputs, x):
        elements = x.elements
        if x.is_plain(INT32, INT64):   # (49)
            if a.function.name == 'negate':
                return [-elements]
            return [np.where(elements < 0, -elements, elements) if a.function.name == 'absolute' else np.sign(elements)]
        return [store(apply(a.function, number(elements, x.quantization)), a.output)]


class Binary:
    inputs = 2, 2

    @staticmethod
    def types(a, left, right):
        axes = broadcast(left.axes, right.axes)
        if left.is_plain(INT32, INT64):
            require(right.is_plain(left.type.element), 'integers of two types')
            require(BINARY_NAMES[a.kind] != 'parametricRelu', 'parametricRelu of integers')
            return [left.type.with_axes(axes)]
        require_float32_or_codes(left, right)
        return [of_output(a.output, axes)]

    @staticmethod
    def run(a, outputs, left, right):
        name = BINARY_NAMES[a.kind]
        x, y = left.elements, right.elements
        if left.is_plain(INT32, INT64):
            x, y = np.broadcast_arrays(x, y)
            if name in ('divide', 'remainder'):
                require((y != 0).all(), 'a division by 0', RunError)
            if name == 'power':
                require(((y >= 0) | (x != 0)).all(), '0 to a negative power', RunError)
            return [apply_two_integers(name, x, y)]
        r = apply_two(name, number(x, left.quantization), number(y, right.quantization))
        return [store(apply(a.second_function, r), a.output)]


class Compare:
    inputs = 2, 2

    @staticmethod
    def types(a, left, right):
        if left.is_plain(*INTEGERS, BOOL):
            require(right.is_plain(left.type.element), 'a comparison of two types')
            require(left.type.element != BOOL or a.kind == 0, 'an order of truth values')
        else:
            require_float32_or_codes(left, right)
        return [Type(BOOL, None, broadcast(left.axes, right.axes))]

    @staticmethod
    def run(a, outputs, left, right):
        relation = [np.equal, np.less, np.less_equal, np.greater, np.greater_equal][a.kind]
        return [relation(number(left.elements, left.quantization),
                         number(right.elements, right.quantization)).astype(np.uint8)]


class Logic:
    inputs = 2, 2

    @staticmethod
    def types(a, left, right):
        require(left.is_plain(BOOL) and right.is_plain(BOOL), 'logic of other types than bool')
        return [Type(BOOL, None, broadcast(left.axes, right.axes))]

    @staticmethod
    def run(a, outputs, left, right):
        return [[np.bitwise_and, np.bitwise_or, np.bitwise_xor][a.kind](left.elements, right.elements)]


class IsNaNOrInf:
    inputs = 1, 1

    @staticmethod
    def types(a, x):
        require_float32(x)
        return [Type(BOOL, None, x.axes)]

    @staticmethod
    def run(a, outputs, x):
        return [[np.isnan, np.isinf, np.isposinf, np.isneginf][a.kind](x.elements).astype(np.uint8)]


class Cast:
    inputs = 1, 1

    @staticmethod
    def types(a, x):
        require(x.quantization is None or isinstance(x.quantization, Fixed) or x.quantization == Dynamic(0),
                'a cast of other codes')
        return [Type(a.element, None, x.axes)]

    @staticmethod
    def run(a, outputs, x):
        return [cast(x.elements, x.type.element, a.element)]


def cast(x, source, target):
    """(53)"""
    if source == target:
        return x
    if source == BFLOAT16:
        x = (x.astype(np.uint32) << 16).view(F)
    if target == BOOL:
        return (x != 0).astype(np.uint8)
    if source == BOOL:
        x = (x != 0).astype(np.uint8)
    if target in INTEGERS:
        return saturated(x, DTYPES[target]) if source in FLOATS else x.astype(DTYPES[target])
    if target in (FLOAT16, BFLOAT16) and source not in FLOATS:
        x = x.astype(F)
    if target == BFLOAT16:
        return to_bfloat16(x.astype(np.float64))
    result = x.astype(DTYPES[target])
    not_a_number = {FLOAT32: 0x7FC00000, FLOAT64: 0x7FF8000000000000, FLOAT16: 0x7E00}[target]
    pattern = np.array(not_a_number, f'u{result.itemsize}').view(result.dtype)
    return np.where(np.isnan(result), pattern, result)


def saturated(x, dtype):
    limits = np.iinfo(dtype)
    x = np.trunc(x.astype(np.float64))
    # The largest numbers of 64 bits are no doubles: what reaches the next one is beyond them.
    result = np.where((x > limits.min) & (x < limits.max), x, 0).astype(dtype)
    result = np.where(x <= limits.min, dtype.type(limits.min), result)
    return np.where(x >= limits.max, dtype.type(limits.max), result)


def to_bfloat16(x):
    """Patterns of doubles with one rounding: to odd as float32, then to nearest."""
    nearest = x.astype(F)
    error = x - nearest.astype(np.float64)
    pattern = nearest.view(np.uint32).astype(np.int64)
    toward = np.where((error > 0) == (nearest >= 0), 1, -1)
    toward = np.where((nearest == 0), 1, toward)
    moves = (error != 0) & np.isfinite(x) & (pattern & 1 == 0) & np.isfinite(nearest)
    pattern = np.where(moves, pattern + toward, pattern)
    rounded = (pattern + 0x7FFF + (pattern >> 16 & 1)) >> 16
    return np.where(np.isnan(x), 0x7FC0, rounded).astype(np.uint16)


class Table:
    inputs = 2, 2

    @staticmethod
    def types(a, x, table):
        require(x.type.element == INT8 and isinstance(x.quantization, Fixed), 'a table of other codes')
        require(table.is_plain(INT8), 'a table of another type')
        equal_shapes(table.axes, (256,), 'a table')
        return [Type(INT8, a.quantization, x.axes)]

    @staticmethod
    def run(a, outputs, x, table):
        return [table.elements[x.elements.astype(np.int64) + 128]]


class Select:
    inputs = 3, 3

    @staticmethod
    def types(a, condition, when_true, when_false):
        require(condition.is_plain(BOOL), 'a condition is not bool')
        require_movable(when_true, when_false)
        require(when_true.type.with_axes(()) == when_false.type.with_axes(()), 'a selection of two types')
        return [when_true.type.with_axes(broadcast(condition.axes, when_true.axes, when_false.axes))]

    @staticmethod
    def run(a, outputs, condition, when_true, when_false):
        # Bytes are moved: a NaN keeps its pattern.
        return [np.where(condition.elements == 1, when_true.elements, when_false.elements)]
