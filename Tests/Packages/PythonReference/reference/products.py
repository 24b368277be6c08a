"""arithmetic.md, "Products": MatrixMultiply, Convolution, TransposedConvolution."""

import itertools
import math

import numpy as np

from . import windows
from .arithmetic import F, apply, canonical, fma, number, store
from .errors import require
from .operation import (ANY_AXIS, all_known, broadcast, equal_axes, equal_shapes, is_known, of_output,
                        require_float32, require_parameters)
from .types import (FLOAT32, INT8, INT16, INT32, PER_CHANNEL, PER_GROUP, PER_TENSOR, UINT8, Dynamic, Fixed, Weights)

DIMENSION_LIMIT = (1 << 31) - 1


def is_product_of_codes(left, right, right_may_be_fixed):
    """Whether a product is one of codes; refuses what is neither one of codes nor of floats."""
    if left.is_plain(FLOAT32) and right.is_plain(FLOAT32):
        return False
    weights = right.type.element == INT8 and isinstance(right.quantization, Weights)
    fixed = right.type.element == INT8 and isinstance(right.quantization, Fixed) and right_may_be_fixed
    if left.type.element == INT8 and isinstance(left.quantization, (Fixed, Dynamic)):
        allowed = weights or fixed
    else:
        allowed = (left.type.element == INT16 and isinstance(left.quantization, Fixed)
                   and left.quantization.zero_point == 0 and weights)
    require(allowed, 'a product of these types')
    return True


def check_operands(a, left, right, bias, scales, parameters, channel_axis, channels, group_axis, right_may_be_fixed):
    """The rules that all products share."""
    codes = is_product_of_codes(left, right, right_may_be_fixed)
    quantization = right.quantization
    require((scales is not None) == isinstance(quantization, Weights), 'scales of weights, or none, are missing')
    per_group = False
    if scales is not None:
        require_float32(scales)
        if quantization.granularity == PER_TENSOR:
            equal_shapes(scales.axes, (1,), 'scales of weights')
        elif quantization.granularity == PER_CHANNEL:
            require(quantization.axis == channel_axis, 'scales along another axis than the channels')
            equal_shapes(scales.axes, (channels,), 'scales of weights')
        else:
            per_group = True
            require(quantization.axis == group_axis, 'scales of groups along another axis')
            extents = list(right.axes)
            if is_known(extents[group_axis]):
                extents[group_axis] = -(-extents[group_axis] // quantization.size)
            equal_shapes(scales.axes, extents, 'scales of groups')
    require((parameters is not None) == isinstance(left.quantization, Dynamic), 'scales of the run, or none, are missing')
    if bias is not None:
        require(bias.is_plain(FLOAT32) or bias.is_plain(INT32) and codes and isinstance(left.quantization, Fixed)
                and right.elements is not None and not per_group, 'a bias of another type')
        equal_shapes(bias.axes, (channels,), 'bias')
    require(a.epilogue.output.element != UINT8, 'a product that is stored as uint8')


def check_residual(residual, axes):
    if residual is not None:
        require(residual.is_plain(FLOAT32) or residual.type.element == INT8 and isinstance(residual.quantization, Fixed),
                'a residual of another type')
        equal_shapes(residual.axes, axes, 'residual')


def zero_point_of_run(parameter):
    """(38)"""
    y = np.where(parameter > -128, parameter, F(-128))
    return np.where(y < 127, y, F(127)).astype(np.int32)


def wrapped(accumulator):
    """An integer as one of 32 bits."""
    return accumulator.astype(np.int64).astype(np.int32)


def input_scale(left, parameters, shape):
    """sₓ and zₓ; those of a run have the shape of their rows, if there is not one pair for all."""
    if isinstance(left.quantization, Fixed):
        return F(left.quantization.scale), left.quantization.zero_point
    if left.quantization.axes == 0:
        s, z = parameters.elements
        return s, zero_point_of_run(z)
    rows = parameters.elements.reshape(*shape, 2)
    return rows[..., 0], zero_point_of_run(rows[..., 1])


def finish(epilogue, r, bias, residual):
    """(42) to (45), with the output channels last in r, bias and residual."""
    if bias is not None:
        r = r + bias
    if residual is not None:
        r = r + residual
    r = apply(epilogue.second_function, apply(epilogue.function, r))
    return store(canonical(r), epilogue.output)


def numbers_of(residual):
    return None if residual is None else number(residual.elements, residual.quantization)


def scaled(accumulate, group_steps, s_x, scales, weight_scale, bias):
    """(39) to (41) and (97): from accumulators to numbers. `accumulate(steps)` sums over a slice of the
    steps, `scales(group)` are the scales of a group. Without groups, there is one accumulator."""
    if group_steps is None:
        accumulator = wrapped(accumulate(None))
        if bias is not None and bias.dtype == np.int32:
            accumulator, bias = accumulator + bias, None
        return accumulator.astype(F) * (s_x * weight_scale), bias
    r = F(0)
    for group, steps in enumerate(group_steps):
        r = r + wrapped(accumulate(steps)).astype(F) * (s_x * scales(group))
    return r, bias


class MatrixMultiply:
    inputs = 2, 6

    @staticmethod
    def types(a, left, right, bias, scales, parameters, residual):
        require(left.rank >= 2 and right.rank >= 2, 'a matrix of less than two axes')
        columns, depth = (right.rank - 1, right.rank - 2) if a.right_layout == 0 else (right.rank - 2, right.rank - 1)
        for axis in (*left.axes, *right.axes):
            require(not is_known(axis) or axis <= DIMENSION_LIMIT, f'a matrix product over an extent of {axis}')
        equal_axes(left.axes[-1], right.axes[depth], 'depth of a matrix product')
        check_operands(a, left, right, bias, scales, parameters, columns, right.axes[columns],
                       depth if right.rank == 2 else None, True)
        if isinstance(left.quantization, Dynamic):
            require(left.quantization.axes in (0, left.rank - 1), 'a matrix with scales of other rows')
            require_parameters(parameters, left.axes[:left.quantization.axes])
        axes = (*broadcast(left.axes[:-2], right.axes[:-2]), left.axes[-2], right.axes[columns])
        check_residual(residual, axes)
        return [of_output(a.epilogue.output, axes)]

    @staticmethod
    def run(a, outputs, left, right, bias, scales, parameters, residual):
        x, w = left.elements, right.elements
        if a.right_layout == 1:
            w = np.swapaxes(w, -1, -2)   # […, K, N]
        bias = None if bias is None else bias.elements
        if left.type.element == FLOAT32:
            return [finish(a.epilogue, float_product(x, w, outputs[0].axes), bias, numbers_of(residual))]
        s_x, z_x = input_scale(left, parameters, left.axes[:-1])
        s_x, z_x = np.asarray(s_x)[..., None], np.asarray(z_x)[..., None]
        z_w = 0 if scales is not None else right.quantization.zero_point
        # Exact in double: less than 2⁵³ / 2²⁴ steps of less than 2²⁴ each.
        x, w = x.astype(np.float64) - z_x, w.astype(np.float64) - z_w

        def accumulate(steps):
            steps = slice(None) if steps is None else steps
            return x[..., steps] @ w[..., steps, :]

        groups, weight_scale, group_scales = None, None, None
        if scales is None:
            weight_scale = F(right.quantization.scale)
        elif right.quantization.granularity == PER_GROUP:
            size, depth = right.quantization.size, w.shape[-2]
            groups = [slice(start, start + size) for start in range(0, depth, size)]
            table = scales.elements if a.right_layout == 0 else scales.elements.T
            group_scales = lambda group: table[group]
        else:
            weight_scale = scales.elements
        r, bias = scaled(accumulate, groups, s_x, group_scales, weight_scale, bias)
        return [finish(a.epilogue, r, bias, numbers_of(residual))]


def float_product(x, w, shape):
    """(36) in the order of (47)."""
    acc = np.zeros(shape, F)
    for k in range(x.shape[-1]):
        acc = fma(x[..., :, k, None], w[..., None, k, :], acc)
    return acc


def channels_last(x, order):
    return np.moveaxis(x, 1, -1) if order == 0 else x


class Convolution:
    inputs = 2, 6

    @staticmethod
    def spacing(a, rank):
        return (1,) * rank

    @classmethod
    def types(cls, a, x, weights, bias, scales, parameters, residual):
        rank = x.rank - 2
        require(1 <= rank <= 3 and weights.rank == x.rank, 'a convolution of other axes')
        require(all_known(weights.axes), 'a convolution with weights of unknown shape')
        spatial, channel = (slice(2, None), 1) if a.order == 0 else (slice(1, -1), -1)
        window, depth = weights.axes[spatial], weights.axes[channel]
        outputs = weights.axes[0]
        require(depth >= 1 and outputs >= 1, 'weights of no channels')
        require(a.groups >= 1 and outputs % a.groups == 0, f'{outputs} channels in {a.groups} groups')
        equal_axes(x.axes[channel], a.groups * depth, 'channels of a convolution')
        windows.check(window, a.strides, a.dilations, a.padding, rank)
        check_operands(a, x, weights, bias, scales, parameters, 0, outputs,
                       weights.rank - 1 if a.order == 1 else None, False)
        if isinstance(x.quantization, Dynamic):
            require(x.quantization.axes in (0, 1), 'a convolution with scales of other rows')
            require_parameters(parameters, x.axes[:x.quantization.axes])
        spacing = cls.spacing(a, rank)
        places = [(n - 1) * g + 1 if is_known(n) else n for n, g in zip(x.axes[spatial], spacing)]
        positions = windows.positions(places, window, a.strides, a.dilations, a.padding)
        axes = (x.axes[0], outputs, *positions) if a.order == 0 else (x.axes[0], *positions, outputs)
        check_residual(residual, axes)
        return [of_output(a.epilogue.output, axes)]

    @classmethod
    def run(cls, a, outputs, x, weights, bias, scales, parameters, residual):
        rank = x.rank - 2
        spacing = cls.spacing(a, rank)
        elements, w = channels_last(x.elements, a.order), channels_last(weights.elements, a.order)
        window = w.shape[1:-1]
        along = [windows.along((n - 1) * g + 1, window[i], a.strides[i], a.dilations[i], a.padding, i)
                 for i, (n, g) in enumerate(zip(elements.shape[1:-1], spacing))]
        samples, depth, count, groups = len(elements), w.shape[-1], w.shape[0], a.groups
        shape = (samples, *(axis.positions for axis in along), count)
        taps = Taps(elements.shape[1:-1], along, spacing)
        w = w.reshape(groups, count // groups, -1, depth)
        bias = None if bias is None else bias.elements
        if x.type.element == FLOAT32:
            acc = np.zeros((*shape[:-1], groups, count // groups), F)
            for number, tap in enumerate(taps.all()):
                patch, steps = taps.read(elements, tap)
                patch = patch.reshape(*patch.shape[:-1], groups, depth, 1)
                for c in range(depth):
                    next = fma(patch[..., c, :], w[:, :, number, c], acc)
                    acc = next if steps is None else np.where(steps[..., None], next, acc)
            r = acc.reshape(shape)
        else:
            s_x, z_x = input_scale(x, parameters, x.axes[:1])
            rows = (samples,) + (1,) * (rank + 1)
            s_x, z_x = (v if np.ndim(v) == 0 else v.reshape(rows) for v in (s_x, z_x))
            centred = elements.astype(np.float64) - z_x

            def accumulate(steps):
                """Over all taps and channels, or over some channels of one tap."""
                total = np.zeros((groups, math.prod(shape[:-1]), count // groups))
                for number, tap in enumerate(taps.all()):
                    if steps is not None and number != steps[0]:
                        continue
                    channels = slice(None) if steps is None else steps[1]
                    patch, _ = taps.read(centred, tap)
                    patch = np.moveaxis(patch.reshape(-1, groups, depth), 1, 0)[..., channels]
                    total += patch @ np.swapaxes(w[:, :, number, channels].astype(np.float64), -1, -2)
                return np.moveaxis(total, 0, 1).reshape(shape)

            group_steps, weight_scale, group_scales = None, None, None
            if weights.quantization.granularity == PER_GROUP:
                size = weights.quantization.size
                group_steps = [(tap, slice(start, start + size))
                               for tap in range(math.prod(window)) for start in range(0, depth, size)]
                table = scales.elements.reshape(count, -1)
                group_scales = lambda group: table[:, group]
            else:
                weight_scale = scales.elements
            r, bias = scaled(accumulate, group_steps, s_x, group_scales, weight_scale, bias)
        added = numbers_of(residual)
        added = None if added is None else channels_last(added, a.order)
        result = finish(a.epilogue, r, bias, added)
        return [np.moveaxis(result, -1, 1) if a.order == 0 else result]


class Taps:
    """The taps of a window over several spatial axes, in row-major order."""

    def __init__(self, extents, along, spacing):
        self.extents, self.along, self.spacing = extents, along, spacing
        self.places = [axis.places() for axis in along]

    def all(self):
        return itertools.product(*(range(axis.taps) for axis in self.along))

    def read(self, elements, tap):
        """What a tap reads at all positions, 0 in the padding; and where it is a step at all (None:
        everywhere), (90)."""
        rank = len(tap)
        inside, at_element, indices = True, True, []
        for axis, t in enumerate(tap):
            place = self.places[axis][:, t]
            shape = (1,) * (axis + 1) + (-1,) + (1,) * (rank - axis)
            spacing, extent = self.spacing[axis], self.extents[axis]
            at_element = at_element & (place % spacing == 0).reshape(shape)
            inside = inside & ((place >= 0) & (place <= (extent - 1) * spacing)).reshape(shape)
            indices.append(np.clip(place // spacing, 0, max(extent - 1, 0)))
        if 0 in self.extents:
            shape = (len(elements), *(len(index) for index in indices), elements.shape[-1])
            patch = np.zeros(shape, elements.dtype)
        else:
            patch = elements[np.ix_(np.arange(len(elements)), *indices)]
        patch = np.where(inside & at_element, patch, elements.dtype.type(0))
        return patch, None if np.all(at_element) else at_element


class TransposedConvolution(Convolution):
    @staticmethod
    def spacing(a, rank):
        require(len(a.spacing) == rank and all(g >= 1 for g in a.spacing) and any(g != 1 for g in a.spacing),
                f'spacing {a.spacing}')
        require(all(stride == 1 for stride in a.strides) and a.padding.kind == 0,
                'a transposed convolution with strides, or without explicit padding')
        return a.spacing
