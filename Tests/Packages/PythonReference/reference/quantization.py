"""arithmetic.md, "Quantization": Quantize, DynamicQuantize, Dequantize."""

import numpy as np

from .arithmetic import F, SMALLEST_NORMAL, canonical, decode, encode
from .errors import require
from .operation import equal_shapes, float32, is_known, require_float32, require_parameters
from .products import zero_point_of_run
from .types import INT8, PER_CHANNEL, PER_TENSOR, Dynamic, Fixed, Type, Weights


def quantize_rows(x):
    """(80) to (82) over the last axis: codes, and scales and zero points with an axis of extent 1."""
    # Zeros of either sign give the same scale and zero point, so that the order of comparisons is free.
    low = np.fmin(np.fmin.reduce(x, axis=-1, keepdims=True, initial=np.inf), F(0)).astype(F)
    high = np.fmax(np.fmax.reduce(x, axis=-1, keepdims=True, initial=-np.inf), F(0)).astype(F)
    scale = (high - low) / F(255)
    scale = np.where((scale >= F(SMALLEST_NORMAL)) & (scale < np.inf), scale, F(1))
    zero = encode(F(-128) - low / scale, 1, 0, INT8).astype(np.int32)
    return encode(x, scale, zero, INT8), scale, zero


class Quantize:
    inputs = 1, 1

    @staticmethod
    def types(a, x):
        require_float32(x)
        return [Type(a.output.element, a.output.quantization, x.axes)]

    @staticmethod
    def run(a, outputs, x):
        quantization = a.output.quantization
        return [encode(x.elements, quantization.scale, quantization.zero_point, a.output.element)]


class DynamicQuantize:
    inputs = 1, 1

    @staticmethod
    def types(a, x):
        require_float32(x)
        require(0 <= a.axes <= x.rank, f'scales over {a.axes} axes of {x.rank}')
        return [Type(INT8, Dynamic(a.axes), x.axes), float32((*x.axes[:a.axes], 2))]

    @staticmethod
    def run(a, outputs, x):
        rows = x.elements.reshape(*x.axes[:a.axes], int(np.prod(x.axes[a.axes:], dtype=np.int64)))
        codes, scale, zero = quantize_rows(rows)
        return [codes.reshape(x.axes), np.concatenate([scale, zero.astype(F)], axis=-1)]


class Dequantize:
    inputs = 1, 2

    @staticmethod
    def types(a, x, scales):
        quantization = x.quantization
        require(quantization is not None, 'numbers are no codes')
        require((scales is None) == isinstance(quantization, Fixed), 'scales of codes, or none, are missing')
        if isinstance(quantization, Dynamic):
            require_parameters(scales, x.axes[:quantization.axes])
        if isinstance(quantization, Weights):
            require_float32(scales)
            if quantization.granularity == PER_TENSOR:
                shape = (1,)
            elif quantization.granularity == PER_CHANNEL:
                shape = (x.axes[quantization.axis],)
            else:
                shape = list(x.axes)
                if is_known(shape[quantization.axis]):
                    shape[quantization.axis] = -(-shape[quantization.axis] // quantization.size)
            equal_shapes(scales.axes, shape, 'scales of weights')
        return [float32(x.axes)]

    @staticmethod
    def run(a, outputs, x, scales):
        quantization, codes = x.quantization, x.elements
        if isinstance(quantization, Fixed):
            scale, zero = quantization.scale, quantization.zero_point
        elif isinstance(quantization, Dynamic):
            rows = scales.elements.reshape(*codes.shape[:quantization.axes],
                                           *(1,) * (codes.ndim - quantization.axes), 2)
            scale, zero = rows[..., 0], zero_point_of_run(rows[..., 1])
        else:
            scale, zero = scales.elements, 0
            axis = quantization.axis
            if quantization.granularity == PER_TENSOR:
                scale = scale[0]
            elif quantization.granularity == PER_CHANNEL:
                scale = scale.reshape(-1, *(1,) * (codes.ndim - axis - 1))
            else:
                scale = np.repeat(scale, quantization.size, axis=axis)
                scale = scale.take(np.arange(codes.shape[axis]), axis=axis)
        return [canonical(decode(codes, scale, zero))]
