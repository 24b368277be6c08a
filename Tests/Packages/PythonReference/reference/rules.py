"""qm-format.md, "Rules of a program": what must hold beyond the type rules of the operations."""

import numpy as np

from .errors import require
from .operations import FAMILIES, operands
from .types import (INT8, INT16, INT32, Dynamic, Fixed, Weights, is_normal_scale)

PRODUCTS = ('Convolution', 'TransposedConvolution', 'MatrixMultiply')


def check(program):
    first_constant = len(program.input_names)
    for value in range(first_constant):
        quantization = program.types[value].quantization
        require(quantization is None or isinstance(quantization, Fixed), 'an input with another quantization')
    for value, elements in program.constants.items():
        quantization = program.types[value].quantization
        require(not isinstance(quantization, Dynamic), 'a constant with dynamic quantization')
        if isinstance(quantization, Weights) and elements.size:
            limit = 1 << (quantization.bits - 1)
            require(elements.min() >= -limit and elements.max() < limit, 'a code of weights beyond its bits')
    for node in program.nodes:
        check_types(program, node)
        check_scales_of_weights(program, node)
        if node.operation in PRODUCTS:
            check_accumulators(program, node)
        if node.operation == 'Recurrent':
            for value in node.inputs[1:3]:
                if program.types[value].element == INT8:
                    check_constant_product(program, value, 0, 255, 0)


def check_types(program, node):
    """Declared types are those of the rule, for the declared types and the elements of constants."""
    inputs = [None if value is None else (program.types[value], program.constants.get(value))
              for value in node.inputs]
    family = FAMILIES[node.operation]
    types = family.types(node.attributes, *operands(family, inputs))
    require(len(types) == len(node.outputs), f'{node.operation} has {len(types)} outputs')
    for value, type in zip(node.outputs, types):
        check_declared(node, type, program.types[value])
    if node.operation == 'Gather':
        check_constant_indices(program, node)


def check_constant_indices(program, node):
    extent, indices = program.types[node.inputs[0]].axes[node.attributes.axis], program.constants.get(node.inputs[1])
    if isinstance(extent, int) and indices is not None:
        require(((-extent <= indices) & (indices < extent)).all(), 'a constant index of Gather outside its axis')


def check_declared(node, type, declared):
    require(type.with_axes(()) == declared.with_axes(()) and type.rank == declared.rank
            and all(not isinstance(axis, int) or axis == other for axis, other in zip(type.axes, declared.axes)),
            f'{node.operation}: an output is {declared}, the rule gives {type}')


def scales_of(node):
    """Pairs of positions: of codes with weights quantization, and of their scales; and of the input."""
    if node.operation in PRODUCTS:
        return [(1, 3, 0)]
    if node.operation == 'Recurrent':
        return [(1, 8, None), (2, 9, None)]
    if node.operation == 'Dequantize':
        return [(0, 1, None)]
    return []


def check_scales_of_weights(program, node):
    for codes, scales, input in scales_of(node):
        if not isinstance(program.types[node.inputs[codes]].quantization, Weights):
            continue
        require(node.inputs[scales] in program.constants, 'scales of weights are no constant')
        elements = program.constants[node.inputs[scales]]
        require(all(map(is_normal_scale, elements.reshape(-1).tolist())), 'a scale of weights is no normal number')
        quantization = None if input is None else program.types[node.inputs[input]].quantization
        if isinstance(quantization, Fixed):
            with np.errstate(all='ignore'):
                products = np.float32(quantization.scale) * elements
            require(all(map(is_normal_scale, products.reshape(-1).tolist())), 'a scale of a product is no normal number')


def check_accumulators(program, node):
    left, right = (program.types[value] for value in node.inputs[:2])
    if left.quantization is None:
        return
    span = 65535 if left.element == INT16 else 255
    channel_axis = 0
    if node.operation == 'MatrixMultiply':
        channel_axis = right.rank - 1 if node.attributes.right_layout == 0 else right.rank - 2
    if node.inputs[1] in program.constants:
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        magnitudes = 0
        if bias is not None and program.types[bias].element == INT32:
            require(bias in program.constants, 'an integer bias is no constant')
            magnitudes = np.abs(program.constants[bias].astype(np.int64))
        zero_point = right.quantization.zero_point if isinstance(right.quantization, Fixed) else 0
        check_constant_product(program, node.inputs[1], channel_axis, span, magnitudes, zero_point)
    else:
        require(not isinstance(right.quantization, Weights), 'codes with weights quantization are no constant')
        depth = right.axes[right.rank - 1 if node.attributes.right_layout == 1 else right.rank - 2]
        require(not isinstance(depth, int) or depth * span * 255 < 1 << 31, 'a sum beyond 32 bits')


def check_constant_product(program, value, channel_axis, span, bias, zero_point=0):
    weights = np.abs(program.constants[value].astype(np.int64) - zero_point)
    axes = tuple(axis for axis in range(weights.ndim) if axis != channel_axis)
    if weights.ndim > 2 and channel_axis > 0:   # a matrix product: leading axes are no terms
        axes = (weights.ndim - 2 if channel_axis == weights.ndim - 1 else weights.ndim - 1,)
    sums = weights.sum(axis=axes)
    require((sums * span + bias < 1 << 31).all(), 'a sum beyond 32 bits')
