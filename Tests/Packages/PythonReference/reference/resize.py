"""arithmetic.md, "Resizing"."""

import math

import numpy as np

from .arithmetic import F, canonical
from .errors import require
from .operation import (ANY_AXIS, equal_shapes, integers, is_known, require_ascending, require_float32,
                        require_movable)
from .types import FLOAT32, INT64

(HALF_PIXEL, PYTORCH_HALF_PIXEL, HALF_PIXEL_SYMMETRIC, TF_HALF_PIXEL_FOR_NN, ASYMMETRIC, ALIGN_CORNERS,
 TF_CROP_AND_RESIZE) = range(7)


def place(coordinates, i, s, length, extent, start, end):
    """p, in float32."""
    i, l, m, half, one = F(i), F(length), F(extent), F(0.5), F(1)
    if coordinates == HALF_PIXEL:
        return (i + half) / s - half
    if coordinates == PYTORCH_HALF_PIXEL:
        return (i + half) / s - half if extent > 1 else F(0)
    if coordinates == HALF_PIXEL_SYMMETRIC:
        return l / F(2) * (one - m / (s * l)) + ((i + half) / s - half)
    if coordinates == TF_HALF_PIXEL_FOR_NN:
        return (i + half) / s
    if coordinates == ASYMMETRIC:
        return i / s
    if coordinates == ALIGN_CORNERS:
        return i * (l - one) / (m - one) if extent > 1 else F(0)
    if extent > 1:
        return start * (l - one) + i * ((end - start) * (l - one) / (m - one))
    return half * (start + end) * (l - one)


def cubic(a, u):
    """(93)"""
    if u <= 1:
        return ((a + F(2)) * u - (a + F(3))) * u * u + F(1)
    if u < 2:
        return ((a * u - F(5) * a) * u + F(8) * a) * u - F(4) * a
    return F(0)


def clamped(j, length):
    return min(max(j, 0), length - 1)


class Resize:
    inputs = 2, 4

    @staticmethod
    def types(a, x, target, region, scales):
        require_ascending(sorted(a.axes), x.rank)
        if a.mode[0] == 'nearest' and a.coordinates != TF_CROP_AND_RESIZE:
            require_movable(x)
        else:
            require_float32(x)
        require(target.is_plain(FLOAT32, INT64), 'a target of another type')
        equal_shapes(target.axes, (len(a.axes),), 'a target')
        require(region is not None or a.coordinates != TF_CROP_AND_RESIZE, 'a region is missing')
        axes = list(x.axes)
        for i, axis in enumerate(a.axes):
            axes[axis] = Resize.extent(x.axes[axis], target, i)
        return [x.type.with_axes(axes)]

    @staticmethod
    def extent(length, target, i):
        """M"""
        if target.elements is None:
            return ANY_AXIS
        if target.type.element == INT64:
            extent = int(target.elements[i])
        else:
            require(0 < target.elements[i] < np.inf, 'a scale that is not positive and finite')
            extent = int(np.floor(F(length) * target.elements[i])) if is_known(length) else ANY_AXIS
        require(not is_known(extent) or extent >= 0 and (extent == 0 or length != 0), f'{extent} elements of {length}')
        return extent

    @staticmethod
    def run(a, outputs, x, target, region, scales):
        result = x.elements
        for i, axis in enumerate(a.axes):
            length, extent = x.axes[axis], outputs[0].axes[axis]
            if target.type.element == FLOAT32:
                s = target.elements[i]
            elif scales is not None:
                s = scales.elements[i]
            else:
                s = F(extent) / F(length)
            crops = a.coordinates == TF_CROP_AND_RESIZE
            if not crops and s == 1 and extent == length:
                continue
            start, end = (region.elements[i], region.elements[i + len(a.axes)]) if crops else (F(0), F(0))
            places = [place(a.coordinates, position, s, length, extent, start, end) for position in range(extent)]
            outside = [crops and (p < 0 or p > F(length) - F(1)) for p in places]
            if a.mode[0] == 'nearest':
                result = Resize.nearest(a, result, axis, length, places, outside)
            else:
                result = Resize.interpolate(a, result, axis, length, s, places, outside)
        return [result]

    @staticmethod
    def nearest(a, x, axis, length, places, outside):
        half = F(0.5)
        choose = [lambda p: np.ceil(p - half), lambda p: np.floor(p + half), np.floor, np.ceil][a.mode[1]]
        indices = [clamped(int(choose(p)), length) for p in places]
        result = x.take(np.array(indices, np.int64), axis=axis)
        if any(outside):
            outside = np.array(outside).reshape(-1, *(1,) * (x.ndim - axis - 1))
            result = np.where(outside, F(a.extrapolation), result)
        return result

    @staticmethod
    def weights(a, length, s, p):
        """The elements that a place reads, and their weights."""
        r = (s if s < 1 else F(1)) if a.antialias else F(1)
        kind, coefficient = a.mode
        h = (F(1) if kind == 'linear' else F(2)) / r
        result = {}
        for j in range(int(np.ceil(p - h)), int(np.floor(p + h)) + 1):
            u = np.abs(F(j) - p) * r
            if kind == 'linear':
                weight = F(1) - u
                weight = F(0) if weight < 0 else weight
            else:
                weight = cubic(F(coefficient), u)
            if weight == 0:
                continue
            if a.excludes_outside and not 0 <= j < length:
                continue
            j = clamped(j, length)
            result[j] = result[j] + weight if j in result else weight
        if a.antialias or a.excludes_outside:
            total = F(0)
            for weight in result.values():
                total = total + weight
            result = {j: weight / total for j, weight in result.items()}
        return result or {clamped(int(np.floor(p)), length): F(1)}

    @classmethod
    def interpolate(cls, a, x, axis, length, s, places, outside):
        rows = np.moveaxis(x, axis, 0)
        table = [None if out else cls.weights(a, length, s, p) for p, out in zip(places, outside)]
        if len(table) == length and all(weights == {i: 1} for i, weights in enumerate(table)):
            return x
        result = np.empty((len(places), *rows.shape[1:]), F)
        for i, weights in enumerate(table):
            if weights is None:
                result[i] = F(a.extrapolation)
                continue
            y = None
            for j, weight in weights.items():
                y = rows[j] * weight if y is None else y + rows[j] * weight   # (94)
            result[i] = canonical(y)
        return np.moveaxis(result, 0, axis)
