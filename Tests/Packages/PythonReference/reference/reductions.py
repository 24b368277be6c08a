"""arithmetic.md, "Pooling and reduction", "Normalization and softmax", "Ordering"."""

import itertools
import math

import numpy as np

from . import windows
from .arithmetic import F, apply, canonical, exp, log, number, store, tree, truncated_quotient
from .errors import RunError, require
from .operation import (ANY_AXIS, equal_axes, equal_shapes, float32, integers, is_codes, is_known, of_output,
                        require_ascending, require_axis, require_float32, require_float32_or_codes)
from .types import CODE_RANGES, FLOAT32, INT32, INT64, Fixed, Type


def spatial_axes(x, order):
    return slice(2, None) if order == 0 else slice(1, -1)


class Pooling:
    inputs = 1, 1

    @staticmethod
    def types(a, x):
        require_float32_or_codes(x)
        require(x.rank >= 3, 'pooling without a spatial axis')
        windows.check(a.window, a.strides, a.dilations, a.padding, x.rank - 2)
        require(math.prod(a.window) < 1 << 31, 'a window of too many taps')
        axes = list(x.axes)
        spatial = spatial_axes(x, a.order)
        axes[spatial] = windows.positions(axes[spatial], a.window, a.strides, a.dilations, a.padding, a.rounds_up)
        return [x.type.with_axes(axes) if a.kind == 0 else of_output(a.output, axes)]

    @staticmethod
    def run(a, outputs, x):
        rank = x.rank - 2
        # Spatial axes last: […, positions].
        elements = np.moveaxis(x.elements, -1, 1) if a.order == 1 else x.elements
        along = [windows.along(n, a.window[i], a.strides[i], a.dilations[i], a.padding, i, a.rounds_up)
                 for i, n in enumerate(elements.shape[2:])]
        shape = elements.shape[:2] + tuple(axis.positions for axis in along)
        codes = is_codes(x)
        if a.kind == 0:
            lowest = CODE_RANGES[x.type.element][0] if codes else -np.inf
            result = np.full(shape, lowest, elements.dtype)
        else:
            values = elements.astype(np.int64) - x.quantization.zero_point if codes else elements
            result = np.zeros(shape, values.dtype)
        taps = np.zeros(shape[2:], np.int64)      # I, and P
        padded = np.zeros(shape[2:], np.int64)
        places = [axis.places() for axis in along]
        for tap in itertools.product(*(range(axis.taps) for axis in along)):
            inside, reached, indices = True, True, []
            for i, axis in enumerate(along):
                place = places[i][:, tap[i]]
                form = (1,) * i + (-1,) + (1,) * (rank - i - 1)
                inside = inside & ((place >= 0) & (place < axis.extent)).reshape(form)
                reached = reached & (place < axis.extent + axis.after).reshape(form)
                indices.append(np.clip(place, 0, max(axis.extent - 1, 0)))
            taps += inside
            padded += reached
            if 0 in elements.shape or not np.any(inside):
                continue
            read = (np.arange(shape[0]), np.arange(shape[1]), *indices)
            if a.kind == 0:
                value = elements[np.ix_(*read)]
                result = np.where(inside & (value > result), value, result)
            else:
                result = np.where(inside, result + values[np.ix_(*read)], result)
        if a.kind != 0:
            n = np.maximum(1, taps if a.kind == 1 else padded).astype(F)
            if codes:   # (56)
                result = store(result.astype(F) * (F(x.quantization.scale) / n), a.output)
            else:       # (55)
                result = store(canonical(result / n), a.output)
        return [np.moveaxis(result, 1, -1) if a.order == 1 else result]


MEAN, SUM, MAXIMUM, MINIMUM, PRODUCT, ABSOLUTE, ROOT, SQUARES, LOG, LOG_EXP = range(10)


class Reduction:
    inputs = 1, 1

    @staticmethod
    def types(a, x):
        require_ascending(a.axes, x.rank)
        axes = [1 if i in a.axes else axis for i, axis in enumerate(x.axes)
                if a.keeps_axes or i not in a.axes]
        if x.is_plain(INT32, INT64):
            require(a.kind <= PRODUCT, 'a reduction of integers')
            return [x.type.with_axes(axes)]
        require_float32_or_codes(x)
        if is_codes(x) and a.kind in (MAXIMUM, MINIMUM):
            return [x.type.with_axes(axes)]
        return [of_output(a.output, axes)]

    @staticmethod
    def run(a, outputs, x):
        kept = [i for i in range(x.rank) if i not in a.axes]
        n = math.prod(x.axes[i] for i in a.axes)
        rows = x.elements.transpose(*kept, *a.axes).reshape(*(x.axes[i] for i in kept), n)
        if x.is_plain(INT32, INT64):
            result = reduce_integers(a.kind, rows)
        elif is_codes(x) and a.kind in (MAXIMUM, MINIMUM):   # (59)
            low, high = CODE_RANGES[x.type.element]
            result = rows.max(axis=-1, initial=low) if a.kind == MAXIMUM else rows.min(axis=-1, initial=high)
        elif is_codes(x) and a.kind in (MEAN, SUM):   # (58)
            total = (rows.astype(np.int64) - x.quantization.zero_point).sum(axis=-1).astype(F)
            scale = F(x.quantization.scale)
            result = store(canonical(total * (scale / F(n) if a.kind == MEAN else scale)), a.output)
        else:
            result = store(canonical(reduce_numbers(a.kind, number(rows, x.quantization))), a.output)
        return [result.reshape(outputs[0].axes)]


def reduce_numbers(kind, x):
    """(57)"""
    if kind == MEAN:
        return tree('sum', x) / F(x.shape[-1])
    if kind in (SUM, MAXIMUM, MINIMUM, PRODUCT):
        return tree({SUM: 'sum', MAXIMUM: 'maximum', MINIMUM: 'minimum', PRODUCT: 'product'}[kind], x)
    if kind == ABSOLUTE:
        return tree('sum', np.abs(x))
    if kind == ROOT:
        return np.sqrt(tree('sum', x * x))
    if kind == SQUARES:
        return tree('sum', x * x)
    if kind == LOG:
        return canonical(log(tree('sum', x)))
    m = tree('maximum', x)
    m = np.where(np.isfinite(m), m, F(0))
    return canonical(log(tree('sum', canonical(exp(x - m[..., None]))))) + m


def reduce_integers(kind, x):
    """(60)"""
    limits = np.iinfo(x.dtype)
    if kind == MAXIMUM:
        return x.max(axis=-1, initial=limits.min)
    if kind == MINIMUM:
        return x.min(axis=-1, initial=limits.max)
    if kind == PRODUCT:
        return x.prod(axis=-1, dtype=x.dtype)
    total = x.sum(axis=-1, dtype=x.dtype)
    if kind == SUM:
        return total
    require(x.shape[-1] > 0 or total.size == 0, 'an integer mean of no elements', RunError)
    return truncated_quotient(total, max(x.shape[-1], 1)).astype(x.dtype)


def with_channels(axes, order, parameters):
    """The axes of x, whose channels are as many as each parameter has."""
    axes, channel = list(axes), 1 if order == 0 else -1
    for parameter in parameters:
        axes[channel], = equal_shapes(parameter.axes, (axes[channel],), 'a normalization')
    return axes


class BatchNormalization:
    inputs = 5, 5

    @staticmethod
    def types(a, x, *parameters):
        require_float32(x, *parameters)
        require(x.rank >= 2, 'a normalization without channels')
        return [x.type.with_axes(with_channels(x.axes, a.order, parameters))]

    @staticmethod
    def run(a, outputs, x, scale, bias, mean, variance):
        s = scale.elements / np.sqrt(variance.elements + F(a.epsilon))
        t = bias.elements - mean.elements * s
        if a.order == 0:
            s, t = (v.reshape(-1, *(1,) * (x.rank - 2)) for v in (s, t))
        return [canonical(x.elements * s + t)]


class LayerNormalization:
    inputs = 1, 3

    @staticmethod
    def types(a, x, scale, bias):
        require_float32_or_codes(x)
        require_axis(a.axis, x.rank)
        require_float32(scale, bias)
        axes = x.axes
        for parameter in scale, bias:
            if parameter is not None:
                axes = (*axes[:a.axis], *equal_shapes(parameter.axes, axes[a.axis:], 'a normalization'))
        return [of_output(a.output, axes)]

    @staticmethod
    def run(a, outputs, x, scale, bias):
        n = math.prod(x.axes[a.axis:])
        rows = number(x.elements, x.quantization).reshape(*x.axes[:a.axis], n)
        y = normalized(rows, a.epsilon)
        if scale is not None:
            y = y * scale.elements.reshape(n)
        if bias is not None:
            y = y + bias.elements.reshape(n)
        return [store(canonical(y.reshape(x.axes)), a.output)]


def normalized(rows, epsilon):
    """(64), (65) without scale and bias, along the last axis."""
    n = F(rows.shape[-1])
    d = rows - (tree('sum', rows) / n)[..., None]
    v = tree('sum', d * d) / n
    return d * (F(1) / np.sqrt(v + F(epsilon)))[..., None]


class GroupNormalization:
    inputs = 3, 3

    @staticmethod
    def types(a, x, scale, bias):
        require_float32_or_codes(x)
        require(x.rank >= 3, 'a normalization without positions')
        require_float32(scale, bias)
        axes = with_channels(x.axes, a.order, (scale, bias))
        channels = axes[1 if a.order == 0 else -1]
        require(a.groups >= 0 and (a.groups == 0 or not is_known(channels) or channels % a.groups == 0),
                f'{channels} channels in {a.groups} groups')
        return [of_output(a.output, axes)]

    @staticmethod
    def run(a, outputs, x, scale, bias):
        elements = number(x.elements, x.quantization)
        if a.order == 0:
            elements = np.moveaxis(elements, 1, -1)
        samples, channels = elements.shape[0], elements.shape[-1]
        groups = a.groups or channels
        rows = elements.reshape(samples, -1, groups, channels // max(groups, 1))
        rows = rows.transpose(0, 2, 1, 3)   # sample, group, position, channel
        y = normalized(rows.reshape(samples, groups, -1), a.epsilon).reshape(rows.shape)
        y = y.transpose(0, 2, 1, 3).reshape(elements.shape)
        y = canonical(y * scale.elements + bias.elements)
        return [store(np.moveaxis(y, -1, 1) if a.order == 0 else y, a.output)]


class Softmax:
    inputs = 1, 1

    @staticmethod
    def types(a, x):
        require_float32_or_codes(x)
        require_axis(a.axis, x.rank)
        return [of_output(a.output, x.axes)]

    @staticmethod
    def run(a, outputs, x):
        rows = np.moveaxis(number(x.elements, x.quantization), a.axis, -1)
        shifted = rows - tree('maximum', rows)[..., None]
        e = canonical(exp(shifted))
        s = tree('sum', e)[..., None]
        result = canonical(e / s if a.kind == 0 else shifted - canonical(log(s)))
        return [store(np.moveaxis(result, -1, a.axis), a.output)]


def require_ordered(x):
    require(x.is_plain(FLOAT32, INT32, INT64) or is_codes(x), 'elements without an order')


def order_keys(x):
    """Integers in the order of the elements: NaN is the largest, zeros of either sign are equal."""
    if x.dtype != F:
        return x.astype(np.int64)
    pattern = (x + F(0)).view(np.int32).astype(np.int64)
    keys = np.where(pattern < 0, -(pattern & 0x7FFFFFFF), pattern)
    return np.where(np.isnan(x), 0x7FFFFFFF, keys)


class ArgMinMax:
    inputs = 1, 1

    @staticmethod
    def types(a, x):
        require_ordered(x)
        require_axis(a.axis, x.rank)
        require(x.axes[a.axis] != 0, 'an axis without elements has no largest one')
        axes = list(x.axes)
        axes[a.axis:a.axis + 1] = [1] if a.keeps_axis else []
        return [Type(INT64, None, tuple(axes))]

    @staticmethod
    def run(a, outputs, x):
        keys = order_keys(x.elements)
        if a.kind == 1:
            keys = ~keys
        if a.takes_last:
            result = x.axes[a.axis] - 1 - np.argmax(np.flip(keys, a.axis), axis=a.axis)
        else:
            result = np.argmax(keys, axis=a.axis)
        return [result.astype(np.int64).reshape(outputs[0].axes)]


class TopK:
    inputs = 2, 2

    @staticmethod
    def types(a, x, k):
        require_ordered(x)
        require_axis(a.axis, x.rank)
        require(k.is_plain(INT32, INT64), 'k is no integer')
        axes = list(x.axes)
        count = integers(k)
        if count is None:
            axes[a.axis] = ANY_AXIS
        else:
            require(len(count) == 1 and count[0] >= 0, 'k is not one number')
            require(not is_known(axes[a.axis]) or count[0] <= axes[a.axis], f'{count[0]} of {axes[a.axis]} elements')
            axes[a.axis] = count[0]
        return [x.type.with_axes(axes), Type(INT64, None, tuple(axes))]

    @staticmethod
    def run(a, outputs, x, k):
        keys = order_keys(x.elements)
        order = np.argsort(~keys if a.takes_largest else keys, axis=a.axis, kind='stable')
        indices = order.take(np.arange(outputs[0].axes[a.axis]), axis=a.axis).astype(np.int64)
        return [np.take_along_axis(x.elements, indices, axis=a.axis), indices]


class CumulativeSum:
    inputs = 1, 1

    @staticmethod
    def types(a, x):
        require(x.is_plain(FLOAT32, INT32, INT64), 'a sum of other elements')
        require_axis(a.axis, x.rank)
        return [x.type]

    @staticmethod
    def run(a, outputs, x):
        elements = np.moveaxis(x.elements, a.axis, 0)
        result = np.empty_like(elements)
        s = np.zeros(elements.shape[1:], elements.dtype)
        indices = range(len(elements))
        for i in reversed(indices) if a.from_end else indices:
            t = s + elements[i]
            if elements.dtype == F:
                t = canonical(t)
            result[i] = s if a.excludes_own else t
            s = t
        return [np.moveaxis(result, 0, a.axis)]
