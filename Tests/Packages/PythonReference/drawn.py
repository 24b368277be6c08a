"""Programs of one operation, drawn at random and written from the text: attributes, types and shapes
that no converter writes, NaN, infinities, zeros of either sign, subnormal numbers, dynamic axes."""

import random
from types import SimpleNamespace

import numpy as np

from reference.attributes import (CODE_RANGES, EXPLICIT, FUNCTIONS, NUMBERS, Epilogue, Function, Output, Padding)
from reference.errors import Malformed
from reference.operation import Operand
from reference.operations import FAMILIES, operands
from reference.structure import Node, Program
from reference.types import (BFLOAT16, BOOL, DTYPES, FLOAT16, FLOAT32, FLOAT64, FLOATS, INT8, INT16, INT32, INT64,
                             INTEGERS, PER_CHANNEL, PER_GROUP, PER_TENSOR, UINT8, UINT16, UINT32, UINT64, Dynamic,
                             DynamicAxis, Fixed, Type, Weights)

SPECIAL = np.array([np.nan, np.inf, -np.inf, -0.0, 0.0, 1e-40, -3e-45, 3e38, -3e38, 1e-38, 0.5, -1.5, 2.5, 88.5, -103.9,
                    8e9, -5e20, 1e10], np.float32)
EXTENTS = [1, 1, 2, 2, 3, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33]


class Draw:
    """One program, with inputs that it runs on."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.arrays = np.random.default_rng(self.random.getrandbits(64))
        self.types, self.inputs, self.constants, self.nodes = [], {}, {}, []
        self.emptiness = 0.3 if self.chance(0.1) else 0   # chance of an extent of 0

    def chance(self, probability):
        return self.random.random() < probability

    def choice(self, items):
        return self.random.choice(list(items))

    def extent(self):
        return 0 if self.chance(self.emptiness) else self.choice(EXTENTS)

    def shape(self, low=0, high=4, limit=4000):
        while True:
            shape = tuple(self.extent() for _ in range(self.random.randint(low, high)))
            if np.prod(shape, dtype=np.int64) <= limit:
                return shape

    # Values: an operand with the elements of constants, and its reference

    def value(self, reference, type, elements=None):
        operand = Operand(type, elements)
        operand.reference = reference
        return operand

    def constant(self, array, quantization=None, element=None):
        array = np.asarray(array)
        element = element or next(e for e, dtype in DTYPES.items() if dtype == array.dtype)
        reference = ('constant', len(self.constants))
        self.constants[reference] = (Type(element, quantization, array.shape), array)
        return self.value(reference, self.constants[reference][0], array)

    def input(self, array, element=None, dynamic=True):
        array = np.asarray(array)
        element = element or next(e for e, dtype in DTYPES.items() if dtype == array.dtype)
        axes = tuple(DynamicAxis() if dynamic and self.chance(0.2) else extent for extent in array.shape)
        reference = ('input', len(self.inputs))
        self.inputs[reference] = (Type(element, None, axes), array)
        return self.value(reference, self.inputs[reference][0])

    def node(self, name, inputs, /, **attributes):
        family = FAMILIES[name]
        attributes = SimpleNamespace(**attributes)
        types = family.types(attributes, *operands(family, [
            None if x is None else (x.type, x.elements) for x in inputs]))
        index = len(self.nodes)
        self.nodes.append((name, attributes, [None if x is None else x.reference for x in inputs], types))
        return [self.value(('node', index, i), type) for i, type in enumerate(types)]

    def either(self, array, dynamic=True):
        """An input or a constant."""
        return self.constant(array) if self.chance(0.4) else self.input(array, dynamic=dynamic)

    # Numbers

    def normal(self, shape, scale=None):
        scale = scale or self.choice([0.1, 1, 1, 3, 30])
        return (self.arrays.standard_normal(shape) * scale).astype(np.float32)

    def floats(self, shape, special=0.3, dynamic=True):
        """float32, some of them special."""
        if self.chance(0.1):
            array = np.round(self.normal(shape, 2))
            return self.input(array, dynamic=dynamic)
        x = self.input(self.normal(shape), dynamic=dynamic)
        if not self.chance(special):
            return x
        mask = (self.arrays.random(shape) < self.choice([0.05, 0.3, 0.9])).astype(np.uint8)
        chooses = self.input(mask, BOOL, dynamic=False)
        if any(isinstance(axis, DynamicAxis) for axis in x.axes):
            other = self.constant(self.choice(SPECIAL))
        else:
            other = self.constant(self.arrays.choice(SPECIAL, shape))
        return self.node('Select', [chooses, other, x])[0]

    def fixed(self, element=None):
        element = element or self.choice(CODE_RANGES)
        low, high = CODE_RANGES[element]
        scale = float(np.float32(self.choice([0.003, 0.02, 0.1, 0.25, 1, 1.7]) / (200 if element == INT16 else 1)))
        zero = self.choice([0, 0, low, high, self.random.randint(low, high)])
        return element, Fixed(scale, zero)

    def codes(self, x, element=None, zero=None):
        element, fixed = self.fixed(element)
        if zero is not None:
            fixed = Fixed(fixed.scale, zero)
        return self.node('Quantize', [x], output=Output(element, fixed))[0]

    def numbers(self, shape, dynamic=True):
        """float32 or codes."""
        x = self.floats(shape, dynamic=dynamic)
        return self.codes(x) if self.chance(0.4) else x

    def output(self, elements=CODE_RANGES):
        return Output(*self.fixed(self.choice(elements))) if self.chance(0.4) else Output()

    def function(self):
        name = self.choice(FUNCTIONS)
        ranges = {'clip': [(-1.0, 1.0), (0.0, 6.0), (2.0, -2.0), (float('-inf'), 0.5)]}
        if name in ranges:
            return Function(name, self.choice(ranges[name]))
        return Function(name, tuple(float(np.float32(self.choice([0.01, 0.2, 0.5, 1.0, 1.673, -0.3, 3.0])))
                                    for _ in range(FUNCTIONS[name])))

    def optional_function(self):
        return self.function() if self.chance(0.4) else None

    def integers(self, shape, element=None):
        element = element or self.choice([INT32, INT64])
        limits = np.iinfo(DTYPES[element])
        array = self.arrays.integers(-20, 20, shape)
        if self.chance(0.2):
            array = self.arrays.choice([limits.min, limits.max, limits.min + 1, -1, 0, 1, 2, 7], shape)
        return self.either(array.astype(DTYPES[element]))

    def list_of(self, values, known=True):
        """Integers of data movement: a constant, or an input."""
        array = np.array(values, self.choice([np.int32, np.int64]))
        return self.constant(array) if known or self.chance(0.6) else self.input(array, dynamic=False)

    def any_elements(self, shape):
        """Of any type, without quantization or with fixed quantization."""
        kind = self.choice(['numbers', 'numbers', 'integers', 'bool', 'other'])
        if kind == 'numbers':
            return self.numbers(shape)
        if kind == 'integers':
            return self.integers(shape)
        if kind == 'bool':
            return self.input((self.arrays.random(shape) < 0.5).astype(np.uint8), BOOL)
        element = self.choice([FLOAT16, FLOAT64, UINT8, INT8, INT16, UINT16, UINT32, UINT64])
        return self.node('Cast', [self.floats(shape)], element=element)[0]

    def axis(self, x):
        return self.random.randrange(x.rank)

    # Programs

    def program(self):
        """The program and its inputs by name. Every output of every node is an output."""
        program = Program()
        numbers = {}
        for reference, (type, _) in [*self.inputs.items(), *self.constants.items()]:
            numbers[reference] = len(program.types)
            program.types.append(type)
        program.input_names = [f'x{i}' for i in range(len(self.inputs))]
        program.constants = {numbers[reference]: array for reference, (_, array) in self.constants.items()}
        for index, (name, attributes, inputs, types) in enumerate(self.nodes):
            outputs = list(range(len(program.types), len(program.types) + len(types)))
            for i, (value, type) in enumerate(zip(outputs, types)):
                numbers['node', index, i] = value
                program.types.append(type)
                # Codes whose scales are another value, and what NumPy lacks, are seen through what reads them.
                if not isinstance(type.quantization, (Dynamic, Weights)) and type.element != BFLOAT16:
                    program.outputs.append((f'y{value}', value))
            inputs = [None if reference is None else numbers[reference] for reference in inputs]
            while inputs and inputs[-1] is None:
                inputs.pop()
            program.nodes.append(Node(name, attributes, inputs, outputs))
        return program, {f'x{i}': array for i, (_, array) in enumerate(self.inputs.values())}


# One function for each operation. They draw what is valid most of the time.

def weights_of(d, shape, channel_axis, group_axis):
    """Codes with weights quantization and their scales."""
    bits = d.random.randint(2, 8)
    codes = d.arrays.integers(-(1 << bits - 1), 1 << bits - 1, shape).astype(np.int8)
    granularity = d.choice([PER_TENSOR, PER_CHANNEL, PER_CHANNEL, PER_GROUP])
    if granularity == PER_GROUP and group_axis is None:
        granularity = PER_CHANNEL
    axis, size, scales = 0, 0, (1,)
    if granularity == PER_CHANNEL:
        axis, scales = channel_axis, (shape[channel_axis],)
    if granularity == PER_GROUP:
        axis, size = group_axis, d.choice([1, 2, 3, 4, 16])
        scales = tuple(-(-n // size) if i == axis else n for i, n in enumerate(shape))
    scales = (d.arrays.random(scales) * 0.1 + 0.001).astype(np.float32)
    return d.constant(codes, Weights(bits, granularity, axis, size)), d.constant(scales)


def epilogue(d):
    return Epilogue(d.optional_function(), d.optional_function(), d.output([INT8, INT16]))


def factors(d, left_shape, right_shape, channel_axis, group_axis, rows, right_may_vary):
    """Input, weights, scales of weights, scales of the run, whether the bias may be an integer."""
    kind = d.choice(['floats', 'fixed', 'int16', 'dynamic'] + (['both'] if right_may_vary else []))
    if kind == 'floats':
        x = d.floats(left_shape)
        w = d.floats(right_shape) if right_may_vary and d.chance(0.4) else d.constant(d.normal(right_shape))
        return x, w, None, None, False
    x = d.floats(left_shape)
    parameters = None
    if kind == 'dynamic' or kind == 'both' and d.chance(0.5):
        x, parameters = d.node('DynamicQuantize', [x], axes=rows)
    else:
        x = d.codes(x, INT16 if kind == 'int16' else INT8, 0 if kind == 'int16' else None)
    if kind == 'both':
        if d.chance(0.5):
            w = d.codes(d.floats(right_shape), INT8)
        else:
            w = d.constant(d.arrays.integers(-128, 128, right_shape).astype(np.int8), d.fixed(INT8)[1])
        return x, w, None, parameters, isinstance(x.quantization, Fixed)
    w, scales = weights_of(d, right_shape, channel_axis, group_axis)
    return x, w, scales, parameters, isinstance(x.quantization, Fixed) and w.quantization.granularity != PER_GROUP


def product_inputs(d, name, x, w, scales, parameters, integer_bias, channels, **attributes):
    bias = None
    if d.chance(0.6):
        bias = d.constant(d.arrays.integers(-9999, 9999, channels).astype(np.int32)
                          if integer_bias and d.chance(0.6) else d.normal((channels,)))
    residual = None
    if d.chance(0.3):
        count = len(d.nodes)
        shape = d.node(name, [x, w, bias, scales, parameters, None], **attributes)[0].axes
        del d.nodes[count:]
        if all(isinstance(axis, int) for axis in shape):
            residual = d.floats(shape, dynamic=False)
            if d.chance(0.5):
                residual = d.codes(residual, INT8)
    d.node(name, [x, w, bias, scales, parameters, residual], **attributes)


def matrix_multiply(d):
    m, k, n = (d.extent() for _ in range(3))
    right_layout = d.choice([0, 1])
    leading = d.choice([(), (), (2,), (3, 2)])
    right_leading = d.choice([(), (), leading, tuple(d.choice([1, extent]) for extent in leading)])
    left_leading = d.choice([leading, tuple(d.choice([1, extent]) for extent in leading)])
    left, right = (*left_leading, m, k), (*right_leading, *((k, n) if right_layout == 0 else (n, k)))
    columns, depth = (len(right) - 1, len(right) - 2) if right_layout == 0 else (len(right) - 2, len(right) - 1)
    x, w, scales, parameters, integer_bias = factors(
        d, left, right, columns, depth if len(right) == 2 else None, len(left) - 1, True)
    product_inputs(d, 'MatrixMultiply', x, w, scales, parameters, integer_bias, n,
                   right_layout=right_layout, epilogue=epilogue(d))


def padding(d, rank, explicit=False):
    if explicit or d.chance(0.6):
        return Padding(EXPLICIT, *(tuple(d.random.randint(0, 3) for _ in range(rank)) for _ in range(2)))
    return Padding(d.choice([1, 2]))


def convolution(d, transposed=False):
    rank = d.choice([1, 2, 2, 2, 3])
    order, groups = d.choice([0, 1]), d.choice([1, 1, 1, 2, 4, 8])
    depth, count = d.choice([1, 1, 2, 3, 4, 16]), d.choice([1, 1, 2, 3, 8])
    window = tuple(d.choice([1, 2, 3, 3, 5] if rank < 3 else [1, 2, 3]) for _ in range(rank))
    spatial = tuple(d.choice([1, 3, 5, 8, 11] if rank < 3 else [1, 3, 4]) for _ in range(rank))
    samples = d.choice([1, 1, 2])
    if d.emptiness:
        samples, spatial = d.choice([0, 1]), tuple(d.choice([0, extent]) for extent in spatial)
    x_shape = (samples, groups * depth, *spatial) if order == 0 else (samples, *spatial, groups * depth)
    w_shape = (groups * count, depth, *window) if order == 0 else (groups * count, *window, depth)
    x, w, scales, parameters, integer_bias = factors(
        d, x_shape, w_shape, 0, len(w_shape) - 1 if order == 1 else None, 1, False)
    attributes = dict(order=order, strides=tuple(d.choice([1, 1, 2, 3]) for _ in range(rank)),
                      dilations=tuple(d.choice([1, 1, 1, 2]) for _ in range(rank)), padding=padding(d, rank, transposed),
                      groups=groups, epilogue=epilogue(d))
    if transposed:
        attributes['strides'] = (1,) * rank
        attributes['spacing'] = tuple(d.choice([1, 2, 3]) for _ in range(rank))
        if max(attributes['spacing']) == 1:
            attributes['spacing'] = (2,) * rank
    product_inputs(d, 'TransposedConvolution' if transposed else 'Convolution', x, w, scales, parameters, integer_bias,
                   groups * count, **attributes)


def transposed_convolution(d):
    convolution(d, True)


def recurrent(d):
    cell, direction = d.random.randrange(5), d.random.randrange(3)
    gates, directions = [1, 3, 3, 4, 4][cell], 2 if direction == 2 else 1
    steps, batch = d.choice([1, 2, 5]), d.choice([1, 2, 3])
    if d.emptiness:
        steps, batch = d.choice([0, 2]), d.choice([0, 2])
    width, hidden = d.choice([1, 2, 5, 16, 17]), d.choice([1, 3, 8, 17])
    rows = directions * gates * hidden
    x = d.floats((steps, batch, width), 0.1)
    if d.chance(0.5):
        weights, recurrence = d.constant(d.normal((rows, width), 0.5)), d.constant(d.normal((rows, hidden), 0.5))
        scales = recurrence_scales = None
    else:
        weights, scales = weights_of(d, (rows, width), 0, None)
        recurrence, recurrence_scales = weights_of(d, (rows, hidden), 0, None)
    count = [1, 2, 2, 3, 3][cell] * directions
    usual = [Function('sigmoid'), Function('tanh'), Function('relu'), Function('hardSigmoid', (0.25, 0.5))]
    state = lambda: d.floats((directions, batch, hidden), 0) if d.chance(0.5) else None
    lengths = d.arrays.integers(0, steps + 1 + d.chance(0.05), batch).astype(np.int32)
    d.node('Recurrent', [
        x, weights, recurrence, d.constant(d.normal((directions, 2 * gates * hidden))) if d.chance(0.6) else None,
        d.either(lengths) if d.chance(0.4) else None, state(), state() if cell >= 3 else None,
        d.constant(d.normal((directions, 3 * hidden))) if cell >= 3 and d.chance(0.4) else None,
        scales, recurrence_scales],
        cell=cell, direction=direction, functions=tuple(d.choice(usual) if d.chance(0.8) else d.function() for _ in range(count)),
        clip=d.choice([None, None, 0.5, 3.0]), inputs=1 if scales else d.choice([0, 1]))


def unary(d):
    if d.chance(0.15):
        d.node('Unary', [d.integers(d.shape())], function=Function(d.choice(['absolute', 'negate', 'sign'])), output=Output())
    else:
        d.node('Unary', [d.numbers(d.shape())], function=d.function(), output=d.output())


def broadcast_shapes(d, count=2):
    """Shapes that can be broadcast."""
    shape = d.shape(0, 4, 1000)
    result = []
    for _ in range(count):
        part = tuple(d.choice([extent, extent, extent, 1]) for extent in shape)
        result.append(part[d.choice([0, 0, 0, d.random.randint(0, len(part))]):])
    return result


def binary(d):
    left, right = broadcast_shapes(d)
    if d.chance(0.25):
        element = d.choice([INT32, INT64])
        d.node('Binary', [d.integers(left, element), d.integers(right, element)], kind=d.random.randrange(8),
               second_function=None, output=Output())
    else:
        right = d.constant(d.normal(right)) if d.chance(0.3) else d.numbers(right)
        d.node('Binary', [d.numbers(left), right], kind=d.random.randrange(9), second_function=d.optional_function(),
               output=d.output())


def table(d):
    x = d.codes(d.floats(d.shape()), INT8)
    entries = d.constant(d.arrays.integers(-128, 128, 256).astype(np.int8))
    d.node('Table', [x, entries], quantization=d.fixed(INT8)[1])


def cast(d):
    shape = d.shape()
    x = d.floats(shape) if d.chance(0.6) else d.integers(shape)
    if d.chance(0.3):
        x = d.codes(d.floats(shape))
    elif d.chance(0.6):
        x = d.node('Cast', [x], element=d.choice(DTYPES))[0]
    if x.type.element == FLOAT32 and d.chance(0.4):
        x = d.node('Binary', [x, d.constant(np.float32(d.choice([100, 4e4, 1e9, 1e19, 1e-7])))], kind=2, second_function=None,
                   output=Output())[0]
    y, = d.node('Cast', [x], element=d.choice(DTYPES))
    if y.type.element == BFLOAT16:
        d.node('Cast', [y], element=FLOAT32)


def compare(d):
    left, right = broadcast_shapes(d)
    if d.chance(0.3):
        element = d.choice([INT32, INT64])
        operands = d.integers(left, element), d.integers(right, element)
    elif d.chance(0.1):
        boolean = lambda shape: d.input((d.arrays.random(shape) < 0.5).astype(np.uint8), BOOL)
        return d.node('Compare', [boolean(left), boolean(right)], kind=0)
    else:
        operands = d.numbers(left), d.numbers(right)
    d.node('Compare', operands, kind=d.random.randrange(5))


def logic(d):
    d.node('Logic', [d.input((d.arrays.random(shape) < 0.5).astype(np.uint8), BOOL) for shape in broadcast_shapes(d)],
           kind=d.random.randrange(3))


def is_nan_or_inf(d):
    d.node('IsNaNOrInf', [d.floats(d.shape(), 0.8)], kind=d.random.randrange(4))


def alike(d, shapes):
    """Operands of one type."""
    element, fixed = d.fixed()
    coded = d.chance(0.4)
    for shape in shapes:
        x = d.floats(shape)
        yield d.node('Quantize', [x], output=Output(element, fixed))[0] if coded else x


def select(d):
    condition, *others = broadcast_shapes(d, 3)
    d.node('Select', [d.input((d.arrays.random(condition) < 0.5).astype(np.uint8), BOOL), *alike(d, others)])


def pooling(d):
    rank, order = d.choice([1, 2, 2, 3]), d.choice([0, 1])
    spatial = tuple(d.choice([1, 3, 5, 8]) for _ in range(rank))
    n, c = d.choice([1, 2]), d.choice([1, 3, 8, 17, 33])
    if d.emptiness:
        n, c, spatial = d.choice([0, 1]), d.choice([0, 3]), tuple(d.choice([0, extent]) for extent in spatial)
    x = d.numbers((n, c, *spatial) if order == 0 else (n, *spatial, c))
    d.node('Pooling', [x], kind=d.random.randrange(3), order=order, window=tuple(d.choice([1, 2, 3]) for _ in range(rank)),
           strides=tuple(d.choice([1, 1, 2, 3]) for _ in range(rank)), dilations=tuple(d.choice([1, 1, 2]) for _ in range(rank)),
           padding=padding(d, rank), rounds_up=d.chance(0.4), output=d.output())


def some_axes(d, rank):
    return tuple(sorted(d.random.sample(range(rank), d.random.randint(0, rank))))


def reduction(d):
    shape = d.shape(1, 4)
    integer = d.chance(0.2)
    x = d.integers(shape) if integer else d.numbers(shape)
    d.node('Reduction', [x], kind=d.random.randrange(5 if integer else 10), axes=some_axes(d, len(shape)),
           keeps_axes=d.chance(0.5), output=d.output())


def softmax(d):
    x = d.numbers(d.shape(1))
    d.node('Softmax', [x], kind=d.choice([0, 1]), axis=d.axis(x), output=d.output())


def batch_normalization(d):
    shape, order = d.shape(2), d.choice([0, 1])
    c = shape[1 if order == 0 else -1]
    d.node('BatchNormalization', [d.floats(shape), *(d.either(d.normal((c,))) for _ in range(3)),
                                  d.either(np.abs(d.normal((c,))))], order=order, epsilon=1e-5)


def layer_normalization(d):
    x = d.numbers(d.shape(1), dynamic=False)
    axis = d.axis(x)
    parameter = lambda: d.either(d.normal(x.axes[axis:]), False) if d.chance(0.6) else None
    d.node('LayerNormalization', [x, parameter(), parameter()], axis=axis, epsilon=d.choice([0.0, 1e-5]), output=d.output())


def group_normalization(d):
    order, groups = d.choice([0, 1]), d.choice([0, 1, 2, 3])
    c = max(groups, 1) * d.choice([1, 2, 3, 8])
    shape = (d.choice([1, 2]), c, *d.shape(1, 2, 60)) if order == 0 else (d.choice([1, 2]), *d.shape(1, 2, 60), c)
    d.node('GroupNormalization', [d.numbers(shape), d.either(d.normal((c,))), d.either(d.normal((c,)))], groups=groups,
           order=order, epsilon=1e-5, output=d.output())


def ordered(d, shape):
    return d.integers(shape) if d.chance(0.3) else d.numbers(shape)


def arg_min_max(d):
    x = ordered(d, d.shape(1))
    d.node('ArgMinMax', [x], kind=d.choice([0, 1]), axis=d.axis(x), keeps_axis=d.chance(0.5), takes_last=d.chance(0.5))


def top_k(d):
    shape = d.shape(1)
    axis = d.random.randrange(len(shape))
    x = ordered(d, shape)
    d.node('TopK', [x, d.list_of([d.random.randint(0, shape[axis])], False)], axis=axis, takes_largest=d.chance(0.5))


def cumulative_sum(d):
    x = d.integers(d.shape(1)) if d.chance(0.3) else d.floats(d.shape(1))
    d.node('CumulativeSum', [x], axis=d.axis(x), excludes_own=d.chance(0.5), from_end=d.chance(0.5))


def resize(d):
    rank = d.choice([1, 2, 3, 4])
    shape = tuple(d.choice([1, 2, 3, 5, 8]) for _ in range(rank))
    axes = tuple(sorted(d.random.sample(range(rank), d.choice([1, 1, 2]) if rank > 1 else 1)))
    mode = d.choice([('nearest', d.random.randrange(4)), ('linear', None), ('cubic', d.choice([-0.75, -0.5]))])
    coordinates = d.random.randrange(7)
    x = d.numbers(shape) if mode[0] == 'nearest' and coordinates != 6 else d.floats(shape)
    if d.chance(0.5):
        target = np.array([d.choice([0.3, 0.5, 0.7, 1, 1.3, 2, 2.5, 3]) for _ in axes], np.float32)
    else:
        target = np.array([d.choice([1, 2, 3, 5, 7, 8]) for _ in axes], np.int64)
    region = scales = None
    if coordinates == 6:
        region = d.constant(np.array([d.choice([0, -0.3, 0.2, 0.5]) for _ in axes]
                                     + [d.choice([1, 1.3, 0.7]) for _ in axes], np.float32))
    if target.dtype == np.int64 and d.chance(0.3):
        scales = d.constant(np.array([d.choice([0.5, 0.7, 1, 1.6, 2]) for _ in axes], np.float32))
    d.node('Resize', [x, d.constant(target), region, scales], mode=mode, coordinates=coordinates, antialias=d.chance(0.3),
           excludes_outside=d.chance(0.3), extrapolation=d.choice([0.0, 2.5]), axes=axes)


def identity(d):
    d.node('Identity', [d.any_elements(d.shape())])


def factored(d, count):
    """A shape of as many elements."""
    result = []
    for prime in (2, 2, 3, 2, 3, 5, 7):
        if count % prime == 0 and count and d.chance(0.6):
            result.append(prime)
            count //= prime
    result.append(count)
    d.random.shuffle(result)
    return result


def reshape(d):
    shape = d.shape(0, 4)
    x = d.any_elements(shape)
    target = factored(d, int(np.prod(shape, dtype=np.int64)))
    for i, extent in enumerate(target):
        if i < len(shape) and extent == shape[i] and d.chance(0.5):
            target[i] = 0
    if d.chance(0.4):
        target[d.random.randrange(len(target))] = -1
    d.node('Reshape', [x, d.list_of(target, False)], zero_is_zero=d.chance(0.1))


def flatten(d):
    x = d.any_elements(d.shape())
    d.node('Flatten', [x], axis=d.random.randint(0, x.rank))


def squeeze(d):
    shape = list(d.shape(0, 3))
    for _ in range(2):
        shape.insert(d.random.randint(0, len(shape)), 1)
    x = d.any_elements(tuple(shape))
    axes = tuple(i for i, extent in enumerate(shape) if extent == 1 and d.chance(0.7))
    d.node('Squeeze', [x], axes=None if d.chance(0.3) else axes)


def unsqueeze(d):
    x = d.any_elements(d.shape(0, 3))
    rank = x.rank + d.choice([1, 2])
    d.node('Unsqueeze', [x], axes=tuple(sorted(d.random.sample(range(rank), rank - x.rank))))


def transpose(d):
    x = d.any_elements(d.shape())
    d.node('Transpose', [x], permutation=tuple(d.random.sample(range(x.rank), x.rank)))


def concatenate(d):
    shape = d.shape(1)
    axis = d.random.randrange(len(shape))
    shapes = [(*shape[:axis], d.extent(), *shape[axis + 1:]) for _ in range(d.choice([1, 2, 3]))]
    d.node('Concatenate', list(alike(d, shapes)), axis=axis)


def split(d):
    shape = list(d.shape(1))
    axis = d.random.randrange(len(shape))
    sizes = tuple(d.choice([0, 1, 2, 3, 16]) for _ in range(d.choice([1, 2, 3])))
    if d.chance(0.5):
        shape[axis] = sum(sizes)
        d.node('Split', [d.any_elements(tuple(shape))], axis=axis, parts=sizes)
    else:
        d.node('Split', [d.any_elements(tuple(shape))], axis=axis, parts=d.choice([1, 2, 3]))


def slice_(d):
    x = d.any_elements(d.shape(1))
    axes = d.random.sample(range(x.rank), d.random.randint(1, x.rank))
    place = lambda: d.choice([0, 1, 2, 5, -1, -2, -9, 40, -40, (1 << 31) - 1, -(1 << 31)])
    starts, ends = [[place() for _ in axes] for _ in range(2)]
    steps = [d.choice([1, 1, 2, 3, -1, -1, -2]) for _ in axes]
    named = [axis - x.rank if d.chance(0.3) else axis for axis in axes]
    known = d.chance(0.8)
    element = d.choice([np.int32, np.int64])
    integers = lambda values: (d.constant if known or d.chance(0.5) else d.input)(np.array(values, element))
    inputs = [x, integers(starts), integers(ends), integers(named), integers(steps)]
    if axes == list(range(len(axes))) and d.chance(0.5):
        inputs[3] = None
    if d.chance(0.3):
        inputs[4] = None
    d.node('Slice', inputs)


def pad(d):
    x = d.any_elements(d.shape(1, 3, 200))
    axes = sorted(d.random.sample(range(x.rank), d.random.randint(1, x.rank)))
    if d.chance(0.4):
        axes = list(range(x.rank))
    pads = [d.choice([0, 0, 1, 2, 5, -1]) for _ in range(2 * len(axes))]
    constant = None
    if d.chance(0.6):
        if x.quantization or x.type.element == FLOAT32:
            constant = d.constant(np.float32(d.choice([0.3, -2, np.inf, np.nan])))
            if d.chance(0.3):
                constant = d.input(np.float32(1.5))
        elif x.type.element in (INT32, INT64):
            constant = d.constant(np.array(7, x.type.dtype))
    d.node('Pad', [x, d.list_of(pads, False), constant, d.list_of(axes) if len(axes) < x.rank or d.chance(0.3) else None],
           mode=d.random.randrange(4))


def indices_of(d, shape, extent):
    array = d.arrays.integers(-extent, extent, shape) if extent else np.zeros(shape)
    if d.chance(0.03):
        array = array + 1
    return d.either(array.astype(d.choice([np.int32, np.int64])))


def gather(d):
    if d.chance(0.2):   # rows of codes
        rows, width = d.choice([3, 9]), d.choice([2, 17])
        bits = 4
        codes = d.arrays.integers(-8, 8, (rows, width)).astype(np.int8)
        table = d.constant(codes, Weights(bits, PER_CHANNEL, 0))
        indices = indices_of(d, d.shape(0, 2, 20), rows)
        chosen, = d.node('Gather', [table, indices], axis=0)
        parameters = np.stack([d.arrays.random(rows) + 0.1, np.zeros(rows)], axis=1).astype(np.float32)
        chosen_parameters, = d.node('Gather', [d.constant(parameters), indices], axis=0)
        d.node('Dequantize', [chosen, chosen_parameters])
        return
    shape = d.shape(1, 3)
    axis = d.random.randrange(len(shape))
    d.node('Gather', [d.any_elements(shape), indices_of(d, d.shape(0, 2, 20), shape[axis])], axis=axis)


def gather_elements(d):
    shape = d.shape(1, 3)
    axis = d.random.randrange(len(shape))
    own = tuple(d.extent() if i == axis else d.random.randint(min(n, 1), n) for i, n in enumerate(shape))
    d.node('GatherElements', [d.any_elements(shape), indices_of(d, own, shape[axis])], axis=axis)


def gather_nd(d):
    shape = d.shape(1, 4)
    batch = d.random.randint(0, len(shape) - 1)
    k = d.random.randint(1, len(shape) - batch)
    own = (*shape[:batch], *d.shape(0, 2, 20), k)
    least = min(shape[batch:batch + k])
    d.node('GatherND', [d.any_elements(shape), indices_of(d, own, least)], batch_axes=batch)


def scatter_operands(d, shape, updates):
    if d.chance(0.3):
        element = d.choice([INT32, INT64])
        return d.integers(shape, element), d.integers(updates, element)
    return tuple(alike(d, [shape, updates]))


def reduction_of(d, x):
    return d.random.randrange(5) if x.quantization is None else 0


def scatter_elements(d):
    shape = d.shape(1, 3, 500)
    axis = d.random.randrange(len(shape))
    own = tuple(d.extent() if i == axis else d.random.randint(min(n, 1), n) for i, n in enumerate(shape))
    x, updates = scatter_operands(d, shape, own)
    d.node('ScatterElements', [x, indices_of(d, own, shape[axis]), updates], axis=axis, reduction=reduction_of(d, x))


def scatter_nd(d):
    shape = d.shape(1, 3, 500)
    k = d.random.randint(1, len(shape))
    own = d.shape(0, 2, 20)
    x, updates = scatter_operands(d, shape, (*own, *shape[k:]))
    d.node('ScatterND', [x, indices_of(d, (*own, k), min(shape[:k])), updates], reduction=reduction_of(d, x))


def expand(d):
    x, target = broadcast_shapes(d)
    d.node('Expand', [d.any_elements(x), d.list_of(target, False)])


def tile(d):
    x = d.any_elements(d.shape(1, 3, 200))
    d.node('Tile', [x, d.list_of([d.choice([0, 1, 2, 3]) if d.chance(0.2) else d.choice([1, 2, 3]) for _ in range(x.rank)], False)])


def trilu(d):
    d.node('Trilu', [d.any_elements(d.shape(2)), d.list_of(d.choice([0, 1, -1, 3, -5]), False) if d.chance(0.6) else None],
           upper=d.chance(0.5))


def blocks(name):
    def draw(d):
        b, order = d.choice([1, 2, 3]), d.choice([0, 1])
        n, c, h, w = d.choice([1, 2]), d.choice([1, 3, 8]), d.choice([1, 2, 4]), d.choice([1, 3, 5])
        if name == 'DepthToSpace':
            c *= b * b
        else:
            h, w = h * b, w * b
        d.node(name, [d.any_elements((n, c, h, w) if order == 0 else (n, h, w, c))], block=b, channels_first=d.chance(0.5),
               order=order)
    return draw


def shape(d):
    d.node('Shape', [d.any_elements(d.shape())], start=d.choice([0, 0, 1, -1, -9, 9]),
           end=d.choice([None, None, 1, 2, -1, -9, 9]))


def fill(d):
    x = d.constant(d.choice(SPECIAL)) if d.chance(0.5) else d.any_elements(d.choice([(), (1,), (1, 1)]))
    d.node('Fill', [d.list_of(d.shape(0, 3), False), x])


def range_(d):
    element = d.choice([np.float32, np.int32, np.int64])
    start, limit, delta = d.choice([0, 1, -3]), d.choice([0, 5, 10, -7]), d.choice([1, 2, -1, 3, -2])
    if element == np.float32 and d.chance(0.5):
        start, delta = start + 0.3, delta * 0.1
    d.node('Range', [d.constant(np.array(x, element).reshape(d.choice([(), (1,)]))) if d.chance(0.7)
                     else d.input(np.array(x, element)) for x in (start, limit, delta)])


def one_hot(d):
    indices = d.either(d.arrays.integers(-6, 6, d.shape(0, 2, 50)))
    d.node('OneHot', [indices, d.list_of(d.choice([0, 1, 4, 6, [5]]), False), next(alike(d, [(2,)]))],
           axis=d.random.randint(0, indices.rank))


def non_zero(d):
    x = d.floats(d.shape(), 0.8) if d.chance(0.5) else d.integers(d.shape())
    d.node('NonZero', [x])


def if_(d):
    rank_shape = d.shape(0, 3)
    condition = d.either(np.array(d.chance(0.5), np.uint8).reshape(d.choice([(), (1,)])))
    if condition.type.element != BOOL:
        condition = d.node('Cast', [condition], element=BOOL)[0]
    d.node('If', [condition, *alike(d, [rank_shape, rank_shape if d.chance(0.6) else tuple(d.extent() for _ in rank_shape)])])


def loop(d):
    """A counter, a sum and a value that may grow; a condition on the counter, nested once in a while."""
    x, w = d.floats(d.shape(1, 2, 60)), d.floats((1,))
    counter = d.constant(np.array(d.random.randint(-2, 1), np.int64))
    step, limit = d.constant(np.array(1, np.int64)), d.constant(np.array(d.random.randint(0, 3), np.int64))
    plain = Output(FLOAT32, None)
    grows = d.chance(0.3)
    nodes = [
        ('Binary', SimpleNamespace(kind=0, second_function=None, output=plain), [1, 5], 1),       # 7: counter
        ('Binary', SimpleNamespace(kind=2, second_function=None, output=plain), [2, 4], 1),       # 8: x · w
        ('Unary', SimpleNamespace(function=Function('sine'), output=plain), [8], 1),              # 9
        ('Concatenate', SimpleNamespace(axis=0), [3, 8] if grows else [3], 1),                    # 10
        ('Compare', SimpleNamespace(kind=1), [7, 6], 1),                                          # 11
    ]
    ends = d.chance(0.6)
    results = [7, 9, 10] + ([0, 9] if d.chance(0.7) else [])
    attributes = dict(carried=3, nodes=nodes, condition=11 if ends else None, results=results)
    count = None if ends and d.chance(0.5) else d.either(np.array(d.random.randint(0, 4), np.int64), dynamic=False)
    first = None
    if d.chance(0.3):
        first = d.node('Cast', [d.either(np.array(d.random.randint(0, 1), np.int32), dynamic=False)], element=BOOL)[0]
    inputs = [count, first, counter, x, x, w, step, limit]
    if d.chance(0.3):
        # The whole loop is the body of another one, which runs it on what it left.
        outer = [('Loop', SimpleNamespace(**(attributes | dict(results=[7, 9, 10]))), [4, None, 1, 2, 3, 5, 6, 7], 3)]
        attributes = dict(carried=3, nodes=outer, condition=None, results=[8, 9, 10])
        two = d.constant(np.array(2, np.int64))
        inputs = [two, None, counter, x, x, two, w, step, limit]
    d.node('Loop', inputs, **attributes)


def quantize(d):
    d.codes(d.floats(d.shape()))


def dynamic_quantize(d):
    x = d.floats(d.shape())
    codes, parameters = d.node('DynamicQuantize', [x], axes=d.random.randint(0, x.rank))
    d.node('Dequantize', [codes, parameters])


def dequantize(d):
    if d.chance(0.5):
        d.node('Dequantize', [d.codes(d.floats(d.shape()))])
    else:
        shape = d.shape(1)
        if 0 in shape:
            raise Malformed('no weights')
        d.node('Dequantize', list(weights_of(d, shape, d.random.randrange(len(shape)), d.random.randrange(len(shape)))))


OPERATIONS = {
    'Convolution': convolution, 'MatrixMultiply': matrix_multiply, 'Recurrent': recurrent,
    'TransposedConvolution': transposed_convolution, 'Unary': unary, 'Binary': binary, 'Table': table, 'Cast': cast,
    'Compare': compare, 'Logic': logic, 'IsNaNOrInf': is_nan_or_inf, 'Select': select, 'Pooling': pooling,
    'Reduction': reduction, 'Softmax': softmax, 'BatchNormalization': batch_normalization,
    'LayerNormalization': layer_normalization, 'ArgMinMax': arg_min_max, 'TopK': top_k,
    'CumulativeSum': cumulative_sum, 'Resize': resize, 'GroupNormalization': group_normalization, 'Identity': identity,
    'Reshape': reshape, 'Flatten': flatten, 'Squeeze': squeeze, 'Unsqueeze': unsqueeze, 'Transpose': transpose,
    'Concatenate': concatenate, 'Split': split, 'Slice': slice_, 'Pad': pad, 'Gather': gather, 'Expand': expand,
    'Tile': tile, 'Shape': shape, 'Fill': fill, 'Range': range_, 'OneHot': one_hot, 'Trilu': trilu,
    'GatherElements': gather_elements, 'GatherND': gather_nd, 'ScatterElements': scatter_elements,
    'ScatterND': scatter_nd, 'NonZero': non_zero, 'DepthToSpace': blocks('DepthToSpace'),
    'SpaceToDepth': blocks('SpaceToDepth'), 'If': if_, 'Loop': loop, 'Quantize': quantize, 'DynamicQuantize': dynamic_quantize,
    'Dequantize': dequantize,
}
assert OPERATIONS.keys() == NUMBERS.keys()


def draw(operation, number):
    """A valid program of an operation, and its inputs."""
    for attempt in range(100):
        d = Draw(f'{operation} {number} {attempt}')
        try:
            OPERATIONS[operation](d)
        except Malformed:
            continue
        if d.inputs and d.nodes:
            return d.program()
    raise AssertionError(f'{operation}: nothing valid was drawn')
