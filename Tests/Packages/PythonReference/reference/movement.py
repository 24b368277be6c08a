"""arithmetic.md, "Layout and data movement", "Positions and patterns", "Control flow"."""

import math

import numpy as np

from .arithmetic import F, apply_two, apply_two_integers, canonical, encode
from .errors import RunError, require
from .operation import (ANY_AXIS, all_known, broadcast, broadcast_array, equal_axes, equal_shapes, integer_count,
                        integers, is_known, known_integer_count, number_of, require_ascending, require_axis,
                        require_float32, require_integers, require_movable)
from .types import (BOOL, FLOAT32, INT8, INT32, INT64, PER_CHANNEL, Dynamic, Fixed, Type, Weights)


class Identity:
    inputs = 1, 1

    @staticmethod
    def types(a, x):
        return [x.type]

    @staticmethod
    def run(a, outputs, x):
        return [x.elements]


class SameElements:
    """Operations that only give the elements another shape (66)."""

    @staticmethod
    def run(a, outputs, x, *_):
        return [x.elements.reshape(outputs[0].axes)]


class Reshape(SameElements):
    inputs = 2, 2

    @staticmethod
    def types(a, x, shape):
        """(67)"""
        require_movable(x)
        require_integers(shape)
        target = integers(shape)
        if target is None:
            return [x.type.with_axes([ANY_AXIS] * known_integer_count(shape, 'Reshape'))]
        axes, copied = [], []
        for i, extent in enumerate(target):
            require(extent >= -1, f'an extent of {extent}')
            if extent == 0 and not a.zero_is_zero:
                require(i < x.rank, 'an extent is that of an axis that is missing')
                axes.append(x.axes[i])
                copied.append(i)
            else:
                axes.append(extent)
        require(target.count(-1) <= 1, 'two extents are -1')
        require(not (a.zero_is_zero and -1 in target and 0 in target), 'extents of -1 and of 0')
        # Axes that are copied and dynamic stand on both sides.
        dynamic = [i for i, axis in enumerate(x.axes) if not is_known(axis)]
        elements = math.prod(axis for axis in x.axes if is_known(axis))
        others = math.prod(axis for axis in axes if is_known(axis) and axis != -1)
        countable = all(i in copied for i in dynamic)
        if -1 in target:
            position = axes.index(-1)
            if countable:
                require(others != 0 and elements % others == 0, f'{elements} elements do not divide into {others}')
                axes[position] = elements // others
            else:
                axes[position] = ANY_AXIS
        elif countable:
            require(elements == others, f'{elements} elements in a shape of {others}')
        return [x.type.with_axes(axes)]


class Flatten(SameElements):
    inputs = 1, 1

    @staticmethod
    def types(a, x):
        require_movable(x)
        require(0 <= a.axis <= x.rank, f'axis {a.axis} of {x.rank}')
        return [x.type.with_axes((number_of(x.axes[:a.axis]), number_of(x.axes[a.axis:])))]


class Squeeze(SameElements):
    inputs = 1, 1

    @staticmethod
    def types(a, x):
        require_movable(x)
        if a.axes is None:
            return [x.type.with_axes(axis for axis in x.axes if axis != 1)]
        require_ascending(a.axes, x.rank)
        require(all(x.axes[axis] == 1 or not is_known(x.axes[axis]) for axis in a.axes), 'an axis of more than 1')
        return [x.type.with_axes(axis for i, axis in enumerate(x.axes) if i not in a.axes)]


class Unsqueeze(SameElements):
    inputs = 1, 1

    @staticmethod
    def types(a, x):
        require_movable(x)
        rank = x.rank + len(a.axes)
        require_ascending(a.axes, rank)
        others = iter(x.axes)
        return [x.type.with_axes(1 if i in a.axes else next(others) for i in range(rank))]


class Transpose:
    inputs = 1, 1

    @staticmethod
    def types(a, x):
        if not (isinstance(x.quantization, Dynamic) and x.quantization.axes == 0):
            require_movable(x)
        require(sorted(a.permutation) == list(range(x.rank)), f'{a.permutation} is no order of {x.rank} axes')
        return [x.type.with_axes(x.axes[axis] for axis in a.permutation)]

    @staticmethod
    def run(a, outputs, x):
        return [x.elements.transpose(a.permutation)]


class Concatenate:
    inputs = 1, None

    @staticmethod
    def types(a, *inputs):
        require_movable(*inputs)
        first = inputs[0]
        require_axis(a.axis, first.rank)
        axes = list(first.axes)
        for x in inputs[1:]:
            require(x.type.with_axes(()) == first.type.with_axes(()) and x.rank == first.rank, 'inputs of two types')
            for i, axis in enumerate(x.axes):
                if i != a.axis:
                    axes[i] = equal_axes(axes[i], axis, 'an axis of Concatenate')
                elif axes[i] == 0 or axis == 0:
                    axes[i] = axis if axes[i] == 0 else axes[i]
                else:
                    axes[i] = axes[i] + axis if is_known(axis) and is_known(axes[i]) else ANY_AXIS
        return [first.type.with_axes(axes)]

    @staticmethod
    def run(a, outputs, *inputs):
        return [np.concatenate([x.elements for x in inputs], axis=a.axis)]


class Split:
    inputs = 1, 1

    @staticmethod
    def types(a, x):
        require_movable(x)
        require_axis(a.axis, x.rank)
        extent = x.axes[a.axis]
        if isinstance(a.parts, tuple):
            require(a.parts and min(a.parts) >= 0, 'a part of less than nothing')
            require(not is_known(extent) or sum(a.parts) == extent, f'parts {a.parts} of {extent}')
            sizes = a.parts
        else:
            require(a.parts >= 1, f'{a.parts} parts')
            if a.parts == 1:
                sizes = [extent]
            elif not is_known(extent):
                sizes = [ANY_AXIS] * a.parts
            else:
                size = -(-extent // a.parts)
                sizes = [size] * (a.parts - 1) + [extent - (a.parts - 1) * size]
                require(sizes[-1] >= 0, f'{extent} elements in {a.parts} parts')
        return [x.type.with_axes((*x.axes[:a.axis], size, *x.axes[a.axis + 1:])) for size in sizes]

    @staticmethod
    def run(a, outputs, x):
        sizes = [output.axes[a.axis] for output in outputs]
        return np.split(x.elements, np.cumsum(sizes)[:-1], axis=a.axis)


def slice_range(n, start, end, step):
    """(71): first and count."""
    a = start + n if start < 0 else start
    z = end + n if end < 0 else end
    if step > 0:
        first, last = min(max(a, 0), n), min(max(z, 0), n)
        return first, (last - first - 1) // step + 1 if last > first else 0
    first, last = min(max(a, min(0, n - 1)), n - 1), min(max(z, -1), n - 1)
    return first, (first - last - 1) // -step + 1 if first > last else 0


def named_axes(axes, count, rank):
    """The axes that an input names, None if it does not tell them yet; the first ones without it."""
    require(not is_known(count) or count <= rank, f'{count} axes of {rank}')
    if axes is None:
        return list(range(count)) if is_known(count) else None
    named = integers(axes)
    if named is None:
        return None
    named = [axis + rank if axis < 0 else axis for axis in named]
    require(all(0 <= axis < rank for axis in named) and len(set(named)) == len(named), f'axes {named} of {rank}')
    return named


class Slice:
    inputs = 3, 5

    @staticmethod
    def types(a, x, starts, ends, axes, steps):
        require_movable(x)
        count = integer_count(starts)
        for operand in starts, ends, axes, steps:
            if operand is not None:
                require_integers(operand)
                count = equal_axes(count, integer_count(operand), 'a slice')
        named = named_axes(axes, count, x.rank)
        if named is None:
            return [x.type.with_axes([ANY_AXIS] * x.rank)]
        result = list(x.axes)
        known = [integers(operand) for operand in (starts, ends)]
        known.append([1] * len(named) if steps is None else integers(steps))
        if known[2] is not None:
            require(0 not in known[2], 'a step of 0')
        for position, axis in enumerate(named):
            if None in known or not is_known(result[axis]):
                result[axis] = ANY_AXIS
            else:
                result[axis] = slice_range(result[axis], *(numbers[position] for numbers in known))[1]
        return [x.type.with_axes(result)]

    @staticmethod
    def run(a, outputs, x, starts, ends, axes, steps):
        starts, ends = integers(starts), integers(ends)
        named = named_axes(axes, len(starts), x.rank)
        steps = [1] * len(named) if steps is None else integers(steps)
        result = x.elements
        for axis, start, end, step in zip(named, starts, ends, steps):
            first, count = slice_range(x.axes[axis], start, end, step)
            result = result.take(first + np.arange(count, dtype=np.int64) * step, axis=axis)
        return [result]


class Pad:
    inputs = 2, 4

    @staticmethod
    def types(a, x, pads, constant, axes):
        require_movable(x)
        require_integers(pads)
        if constant is not None:
            require(constant.type.with_axes(()) == Pad.constant_type(x), 'a constant of another type')
            require(not all_known(constant.axes) or math.prod(constant.axes) == 1, 'a constant of several elements')
        if axes is not None:
            require_integers(axes)
        named = list(range(x.rank)) if axes is None else named_axes(axes, integer_count(axes), x.rank)
        numbers = integers(pads)
        if named is None or numbers is None:
            return [x.type.with_axes([ANY_AXIS] * x.rank)]
        require(len(numbers) == 2 * len(named), f'{len(numbers)} pads of {len(named)} axes')
        result = list(x.axes)
        for i, axis in enumerate(named):
            if is_known(result[axis]):
                result[axis] = len(pad_sources(a.mode, result[axis], numbers[i], numbers[i + len(named)]))
            else:
                result[axis] = ANY_AXIS
        return [x.type.with_axes(result)]

    @staticmethod
    def constant_type(x):
        return Type(FLOAT32, None, ()) if isinstance(x.quantization, Fixed) else x.type.with_axes(())

    @staticmethod
    def run(a, outputs, x, pads, constant, axes):
        named = list(range(x.rank)) if axes is None else named_axes(axes, integer_count(axes), x.rank)
        numbers = integers(pads)
        value = np.zeros((), x.elements.dtype)
        if constant is not None:
            value = constant.elements.reshape(())
        if isinstance(x.quantization, Fixed):
            c = F(0) if constant is None else value
            value = encode(np.asarray(c), x.quantization.scale, x.quantization.zero_point, x.type.element)
        result = x.elements
        for i, axis in enumerate(named):
            sources = np.array(pad_sources(a.mode, x.axes[axis], numbers[i], numbers[i + len(named)]), np.int64)
            outside = (sources < 0).reshape(-1, *(1,) * (x.rank - axis - 1))
            if x.axes[axis] == 0:
                shape = list(result.shape)
                shape[axis] = len(sources)
                result = np.broadcast_to(value, shape)
            else:
                result = np.where(outside, value, result.take(np.maximum(sources, 0), axis=axis))
        return [result]


def pad_sources(mode, n, before, after):
    """(73), (74): the source of each position, −1 for the constant."""
    kept = n + min(before, 0) + min(after, 0)
    require(kept >= 0, f'{-before} and {-after} elements are cropped from {n}')
    first = max(-before, 0)
    if before > 0 or after > 0:
        require(mode != 1 or max(before, after) < kept, 'a reflection of more than there is')
        require(mode not in (2, 3) or kept > 0, 'nothing to repeat')
    sources = []
    for position in range(kept + max(before, 0) + max(after, 0)):
        i = position - max(before, 0)
        if 0 <= i < kept:
            sources.append(first + i)
        elif mode == 0:
            sources.append(-1)
        elif mode == 1:
            sources.append(first + (-i if i < 0 else 2 * (kept - 1) - i))
        elif mode == 2:
            sources.append(first + (0 if i < 0 else kept - 1))
        else:
            sources.append(first + i % kept)
    return sources


class Expand:
    inputs = 2, 2

    @staticmethod
    def types(a, x, shape):
        require_movable(x)
        require_integers(shape)
        target = integers(shape)
        if target is None:
            rank = max(known_integer_count(shape, 'Expand'), x.rank)
            return [x.type.with_axes([ANY_AXIS] * rank)]
        require(all(extent >= 0 for extent in target), 'an extent below 0')
        return [x.type.with_axes(broadcast(x.axes, target))]

    @staticmethod
    def run(a, outputs, x, shape):
        return [np.broadcast_to(broadcast_array(x.elements, len(outputs[0].axes)), outputs[0].axes)]


class Tile:
    inputs = 2, 2

    @staticmethod
    def types(a, x, repeats):
        require_movable(x)
        require_integers(repeats)
        equal_axes(integer_count(repeats), x.rank, 'repeats')
        numbers = integers(repeats)
        if numbers is None:
            return [x.type.with_axes([ANY_AXIS] * x.rank)]
        require(all(number >= 0 for number in numbers), 'a repeat below 0')
        return [x.type.with_axes(axis * number if is_known(axis) else 0 if number == 0 else ANY_AXIS
                                 for axis, number in zip(x.axes, numbers))]

    @staticmethod
    def run(a, outputs, x, repeats):
        return [np.tile(x.elements, integers(repeats)) if x.rank else x.elements]


class Trilu:
    inputs = 1, 2

    @staticmethod
    def types(a, x, diagonal):
        require_movable(x)
        require(x.rank >= 2, 'a triangle of less than two axes')
        if diagonal is not None:
            require(diagonal.is_plain(INT32, INT64), 'a diagonal is no integer')
        return [x.type]

    @staticmethod
    def run(a, outputs, x, diagonal):
        d = 0 if diagonal is None else integers(diagonal)[0]
        rows, columns = x.axes[-2:]
        # Not as a difference with d, which may be any integer of 64 bits.
        offsets = np.arange(columns, dtype=np.int64)[None, :] - np.arange(rows, dtype=np.int64)[:, None]
        keeps = offsets >= d if a.upper else offsets <= d
        zero = x.quantization.zero_point if x.quantization else 0
        return [np.where(keeps, x.elements, x.elements.dtype.type(zero))]


def blocks_axes(x, order):
    """Sample, channels, rows and columns."""
    return x.axes if order == 0 else (x.axes[0], x.axes[3], x.axes[1], x.axes[2])


class DepthToSpace:
    inputs = 1, 1

    @staticmethod
    def types(a, x):
        require_movable(x)
        require(x.rank == 4 and a.block >= 1, 'blocks of other axes')
        n, c, h, w = blocks_axes(x, a.order)
        b = a.block
        require(not is_known(c) or c % (b * b) == 0, f'{c} channels in blocks of {b}')
        c, h, w = c // (b * b) if is_known(c) else c, h * b if is_known(h) else ANY_AXIS, w * b if is_known(w) else ANY_AXIS
        return [x.type.with_axes((n, c, h, w) if a.order == 0 else (n, h, w, c))]

    @staticmethod
    def run(a, outputs, x):
        elements = x.elements if a.order == 0 else np.moveaxis(x.elements, 3, 1)
        n, c, h, w = elements.shape
        b, c = a.block, c // (a.block * a.block)
        if a.channels_first:
            result = elements.reshape(n, c, b, b, h, w).transpose(0, 1, 4, 2, 5, 3)
        else:
            result = elements.reshape(n, b, b, c, h, w).transpose(0, 3, 4, 1, 5, 2)
        result = result.reshape(n, c, h * b, w * b)
        return [result if a.order == 0 else np.moveaxis(result, 1, 3)]


class SpaceToDepth:
    inputs = 1, 1

    @staticmethod
    def types(a, x):
        require_movable(x)
        require(x.rank == 4 and a.block >= 1, 'blocks of other axes')
        n, c, h, w = blocks_axes(x, a.order)
        b = a.block
        require(all(not is_known(axis) or axis % b == 0 for axis in (h, w)), f'{h} × {w} in blocks of {b}')
        c, h, w = c * b * b if is_known(c) else ANY_AXIS, h // b if is_known(h) else ANY_AXIS, w // b if is_known(w) else ANY_AXIS
        return [x.type.with_axes((n, c, h, w) if a.order == 0 else (n, h, w, c))]

    @staticmethod
    def run(a, outputs, x):
        elements = x.elements if a.order == 0 else np.moveaxis(x.elements, 3, 1)
        n, c, h, w = elements.shape
        b = a.block
        blocks = elements.reshape(n, c, h // b, b, w // b, b)
        order = (0, 1, 3, 5, 2, 4) if a.channels_first else (0, 3, 5, 1, 2, 4)
        result = blocks.transpose(order).reshape(n, c * b * b, h // b, w // b)
        return [result if a.order == 0 else np.moveaxis(result, 1, 3)]


def require_indices(operand):
    require(operand.is_plain(INT32, INT64), 'indices are no integers')


def resolved(indices, extent):
    """Indices as they count from the front."""
    indices = indices.astype(np.int64)
    indices = np.where(indices < 0, indices + extent, indices)
    require(((0 <= indices) & (indices < extent)).all(), 'an index outside its axis', RunError)
    return indices


class Gather:
    inputs = 2, 2

    @staticmethod
    def types(a, x, indices):
        require_indices(indices)
        require_axis(a.axis, x.rank)
        axes = (*x.axes[:a.axis], *indices.axes, *x.axes[a.axis + 1:])
        quantization = x.quantization
        if isinstance(quantization, Weights):
            require(a.axis == 0 and quantization.granularity == PER_CHANNEL and quantization.axis == 0,
                    'rows of other codes')
            return [Type(x.type.element, Dynamic(indices.rank), axes)]
        require_movable(x)
        return [x.type.with_axes(axes)]

    @staticmethod
    def run(a, outputs, x, indices):
        return [x.elements.take(resolved(indices.elements, x.axes[a.axis]), axis=a.axis)]


class GatherElements:
    inputs = 2, 2

    @staticmethod
    def types(a, x, indices):
        require_movable(x)
        require_indices(indices)
        require_axis(a.axis, x.rank)
        require(indices.rank == x.rank, 'indices of another rank')
        for i, (n, m) in enumerate(zip(x.axes, indices.axes)):
            require(i == a.axis or not is_known(n) or not is_known(m) or m <= n, 'more indices than elements')
        return [x.type.with_axes(indices.axes)]

    @staticmethod
    def run(a, outputs, x, indices):
        return [x.elements[along_axis(indices.elements, a.axis, x.axes[a.axis])]]


def along_axis(indices, axis, extent):
    """The own index of each element, with the indices along an axis."""
    grid = list(np.ix_(*(np.arange(n) for n in indices.shape)))
    grid[axis] = resolved(indices, extent)
    return tuple(grid)


class GatherND:
    inputs = 2, 2

    @staticmethod
    def types(a, x, indices):
        require_movable(x)
        require_indices(indices)
        b = a.batch_axes
        require(0 <= b < min(x.rank, indices.rank), f'{b} axes in front')
        front = equal_shapes(x.axes[:b], indices.axes[:b], 'axes in front')
        k = indices.axes[-1]
        require(is_known(k) and 1 <= k <= x.rank - b, f'indices of {k} axes')
        return [x.type.with_axes((*front, *indices.axes[b:-1], *x.axes[b + k:]))]

    @staticmethod
    def run(a, outputs, x, indices):
        b, k = a.batch_axes, indices.axes[-1]
        grid = np.ix_(*(np.arange(n) for n in x.axes[:b])) if b else ()
        grid = [index.reshape(index.shape + (1,) * (indices.rank - 1 - b)) for index in grid]
        chosen = [resolved(indices.elements[..., i], x.axes[b + i]) for i in range(k)]
        return [x.elements[(*grid, *chosen)]]


REDUCTIONS = [None, 'add', 'multiply', 'minimum', 'maximum']


def scatter(x, places, updates, reduction):
    """Changes elements one after another, since places may repeat."""
    result = x.copy()
    name = REDUCTIONS[reduction]
    for place, update in zip(places, updates):
        if name is None:
            result[place] = update
        elif x.dtype == F:
            result[place] = apply_two(name, np.asarray(result[place]), np.asarray(update))
        else:
            result[place] = apply_two_integers(name, np.asarray(result[place]), np.asarray(update))
    return result


def check_scatter(a, x, updates):
    require_movable(x)
    require(updates.type.with_axes(()) == x.type.with_axes(()), 'updates of another type')
    require(a.reduction == 0 or x.is_plain(FLOAT32, INT32, INT64), 'a reduction of other elements')


class ScatterElements:
    inputs = 3, 3

    @staticmethod
    def types(a, x, indices, updates):
        check_scatter(a, x, updates)
        require_indices(indices)
        require_axis(a.axis, x.rank)
        equal_shapes(indices.axes, updates.axes, 'updates')
        require(indices.rank == x.rank, 'indices of another rank')
        for i, (n, m) in enumerate(zip(x.axes, indices.axes)):
            require(i == a.axis or not is_known(n) or not is_known(m) or m <= n, 'more indices than elements')
        return [x.type]

    @staticmethod
    def run(a, outputs, x, indices, updates):
        grid = along_axis(indices.elements, a.axis, x.axes[a.axis])
        places = zip(*(index.reshape(-1) for index in np.broadcast_arrays(*grid)))
        return [scatter(x.elements, places, updates.elements.reshape(-1), a.reduction)]


class ScatterND:
    inputs = 3, 3

    @staticmethod
    def types(a, x, indices, updates):
        check_scatter(a, x, updates)
        require_indices(indices)
        require(indices.rank >= 1, 'indices without an axis')
        k = indices.axes[-1]
        require(is_known(k) and 1 <= k <= x.rank, f'indices of {k} axes')
        equal_shapes(updates.axes, (*indices.axes[:-1], *x.axes[k:]), 'updates')
        return [x.type]

    @staticmethod
    def run(a, outputs, x, indices, updates):
        k = indices.axes[-1]
        chosen = [resolved(indices.elements[..., i], x.axes[i]).reshape(-1) for i in range(k)]
        rows = updates.elements.reshape(len(chosen[0]), *x.axes[k:])
        return [scatter(x.elements, zip(*chosen), rows, a.reduction)]


class Shape:
    inputs = 1, 1

    @staticmethod
    def range(a, rank):
        """(77)"""
        def place(b):
            return min(max(b + rank if b < 0 else b, 0), rank)
        first = place(a.start)
        return first, max(first, place(rank if a.end is None else a.end))

    @staticmethod
    def types(a, x):
        first, last = Shape.range(a, x.rank)
        return [Type(INT64, None, (last - first,))]

    @staticmethod
    def run(a, outputs, x):
        first, last = Shape.range(a, x.rank)
        return [np.array(x.axes[first:last], np.int64)]


class Fill:
    inputs = 2, 2

    @staticmethod
    def types(a, shape, x):
        require_movable(x)
        require_integers(shape)
        require(not all_known(x.axes) or math.prod(x.axes) == 1, 'several elements fill a tensor')
        extents = integers(shape)
        if extents is None:
            return [x.type.with_axes([ANY_AXIS] * known_integer_count(shape, 'Fill'))]
        require(all(extent >= 0 for extent in extents), 'an extent below 0')
        return [x.type.with_axes(extents)]

    @staticmethod
    def run(a, outputs, shape, x):
        return [np.broadcast_to(x.elements.reshape(()), outputs[0].axes)]


class Range:
    inputs = 3, 3

    @staticmethod
    def types(a, start, limit, delta):
        require(start.is_plain(FLOAT32, INT32, INT64), 'a range of other elements')
        axes = ANY_AXIS
        for operand in limit, delta:
            require(operand.type.with_axes(()) == start.type.with_axes(()), 'a range of two types')
        if all(operand.elements is not None for operand in (start, limit, delta)):
            require(all(operand.elements.size == 1 for operand in (start, limit, delta)), 'a range of several elements')
            axes = Range.count(*(operand.elements.reshape(-1)[0] for operand in (start, limit, delta)))
        return [start.type.with_axes((axes,))]

    @staticmethod
    def count(start, limit, delta):
        require(delta != 0, 'a range without a step')
        if isinstance(start, np.floating):
            count = np.ceil((np.float64(limit) - np.float64(start)) / np.float64(delta))
            require(np.isfinite(count), 'a range without an end')
            return max(int(count), 0)
        return max(-((int(start) - int(limit)) // int(delta)), 0)

    @staticmethod
    def run(a, outputs, start, limit, delta):
        start, delta = start.elements.reshape(()), delta.elements.reshape(())
        i = np.arange(outputs[0].axes[0]).astype(start.dtype)
        result = start + i * delta   # (92)
        return [canonical(result) if start.dtype == F else result]


class OneHot:
    inputs = 3, 3

    @staticmethod
    def types(a, indices, depth, values):
        require(indices.is_plain(INT64), 'indices are not int64')
        require(depth.is_plain(INT32, INT64), 'a depth is no integer')
        require_movable(values)
        require(0 <= a.axis <= indices.rank, f'axis {a.axis} of {indices.rank}')
        equal_shapes(values.axes, (2,), 'values')
        extent = ANY_AXIS
        if depth.elements is not None:
            require(depth.elements.size == 1, 'several depths')
            extent = integers(depth)[0]
            require(extent >= 0, f'a depth of {extent}')
        return [values.type.with_axes((*indices.axes[:a.axis], extent, *indices.axes[a.axis:]))]

    @staticmethod
    def run(a, outputs, indices, depth, values):
        depth = integers(depth)[0]
        chosen = np.expand_dims(indices.elements, a.axis)
        chosen = np.where(chosen < 0, chosen + depth, chosen)
        own = np.arange(depth).reshape(-1, *(1,) * (indices.rank - a.axis))
        return [np.where(chosen == own, values.elements[1], values.elements[0])]


class NonZero:
    inputs = 1, 1

    @staticmethod
    def types(a, x):
        require(x.quantization is None, 'codes are no numbers')
        count = ANY_AXIS if x.elements is None else np.count_nonzero(x.elements)
        return [Type(INT64, None, (x.rank, count))]

    @staticmethod
    def run(a, outputs, x):
        return [np.array(np.nonzero(np.atleast_1d(x.elements)), np.int64)[:x.rank].reshape(outputs[0].axes)]


class If:
    """The interpreter computes only the input that is chosen."""
    inputs = 3, 3

    @staticmethod
    def types(a, condition, when_true, when_false):
        require(condition.is_plain(BOOL), 'a condition is not bool')
        require_movable(when_true, when_false)
        require(when_true.type.with_axes(()) == when_false.type.with_axes(()) and when_true.rank == when_false.rank,
                'a choice of two types')
        if condition.elements is not None:
            require(condition.elements.size == 1, 'a condition of several elements')
            return [(when_true if condition.elements.reshape(())[()] else when_false).type]
        return [when_true.type.with_axes(x if x == y else ANY_AXIS for x, y in zip(when_true.axes, when_false.axes))]
