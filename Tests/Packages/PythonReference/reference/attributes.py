"""qm-format.md, "Operations": the numbers, names and attributes of the operations.

A kind of attribute has two methods: `read(reader, types)` and `write(writer, value)`.
"""

from dataclasses import dataclass
from types import SimpleNamespace

from .errors import require
from .types import CODE_RANGES, FLOAT32, INT8

# The functions of one number in the order of their codes, and how many parameters they have.
FUNCTIONS = {
    'relu': 0, 'clip': 2, 'leakyRelu': 1, 'thresholdedRelu': 1, 'elu': 1, 'selu': 2, 'celu': 1,
    'hardSigmoid': 2, 'hardSwish': 0, 'sigmoid': 0, 'silu': 0, 'tanh': 0, 'erf': 0, 'gelu': 0,
    'geluTanh': 0, 'softplus': 0, 'softsign': 0, 'mish': 0, 'exponential': 0, 'logarithm': 0,
    'squareRoot': 0, 'reciprocal': 0, 'square': 0, 'absolute': 0, 'negate': 0, 'sign': 0, 'floor': 0,
    'ceiling': 0, 'round': 0, 'sine': 0, 'cosine': 0, 'tangent': 0, 'affine': 2,
}
FUNCTION_NAMES = list(FUNCTIONS)


@dataclass(frozen=True)
class Function:
    name: str
    parameters: tuple = ()


@dataclass(frozen=True)
class Output:
    """How a result is stored: float32 without quantization, or codes."""
    element: int = FLOAT32
    quantization: object = None


@dataclass(frozen=True)
class Epilogue:
    function: object = None
    second_function: object = None
    output: Output = Output()


EXPLICIT, SAME_UPPER, SAME_LOWER = range(3)


@dataclass(frozen=True)
class Padding:
    kind: int
    before: tuple = ()
    after: tuple = ()


# Kinds of attributes

class Choice:
    """A number below a count."""

    def __init__(self, count):
        self.count = count

    def read(self, reader, types):
        return reader.choice('choice', self.count)

    def write(self, writer, value):
        writer.u8(value)


class Flag:
    def read(self, reader, types):
        return reader.flag()

    def write(self, writer, value):
        writer.u8(int(value))


class Signed:
    def read(self, reader, types):
        return reader.signed()

    def write(self, writer, value):
        writer.signed(value)


class Float32:
    def read(self, reader, types):
        return reader.f32()

    def write(self, writer, value):
        writer.f32(value)


class Numbers:
    """A `list`."""

    def read(self, reader, types):
        return tuple(reader.list())

    def write(self, writer, value):
        writer.list(value)


class Element:
    def read(self, reader, types):
        return types.element()

    def write(self, writer, value):
        writer.u8(value)


class OptionalFunction:
    def read(self, reader, types):
        code = reader.u8()
        if code == 0:
            return None
        require(code <= len(FUNCTION_NAMES), f'the function {code - 1} is unknown')
        name = FUNCTION_NAMES[code - 1]
        count = reader.u8()
        require(count == FUNCTIONS[name], f'{name} has {FUNCTIONS[name]} parameters, not {count}')
        return Function(name, tuple(reader.f32() for _ in range(count)))

    def write(self, writer, value):
        if value is None:
            writer.u8(0)
            return
        writer.u8(1 + FUNCTION_NAMES.index(value.name))
        writer.u8(len(value.parameters))
        for parameter in value.parameters:
            writer.f32(parameter)


class OneFunction(OptionalFunction):
    def read(self, reader, types):
        function = super().read(reader, types)
        require(function is not None, 'a function is missing')
        return function


class OutputKind:
    def read(self, reader, types):
        element = reader.u8()
        if element == 0:
            return Output()
        require(element in CODE_RANGES, f'an output has the element type {element}')
        return Output(element, types.fixed(element))

    def write(self, writer, value):
        if value.quantization is None:
            writer.u8(0)
        else:
            CodesKind().write(writer, value)


class CodesKind:
    """Element type, scale and zero point of Quantize."""

    def read(self, reader, types):
        element = types.element()
        require(element in CODE_RANGES, f'codes of element type {element}')
        return Output(element, types.scale_and_zero_point(element))

    def write(self, writer, value):
        writer.u8(value.element)
        writer.f32(value.quantization.scale)
        writer.signed(value.quantization.zero_point)


class TableCodes:
    """Scale and zero point of the result of Table."""

    def read(self, reader, types):
        return types.scale_and_zero_point(INT8)

    def write(self, writer, value):
        writer.f32(value.scale)
        writer.signed(value.zero_point)


class EpilogueKind:
    def read(self, reader, types):
        function = OptionalFunction()
        return Epilogue(function.read(reader, types), function.read(reader, types), OutputKind().read(reader, types))

    def write(self, writer, value):
        OptionalFunction().write(writer, value.function)
        OptionalFunction().write(writer, value.second_function)
        OutputKind().write(writer, value.output)


class PaddingKind:
    def read(self, reader, types):
        kind = reader.choice('padding', 3)
        if kind != EXPLICIT:
            return Padding(kind)
        return Padding(kind, tuple(reader.list()), tuple(reader.list()))

    def write(self, writer, value):
        writer.u8(value.kind)
        if value.kind == EXPLICIT:
            writer.list(value.before)
            writer.list(value.after)


class Optional:
    """A flag and, if it is 1, a value."""

    def __init__(self, kind):
        self.kind = kind

    def read(self, reader, types):
        return self.kind.read(reader, types) if reader.flag() else None

    def write(self, writer, value):
        writer.u8(int(value is not None))
        if value is not None:
            self.kind.write(writer, value)


class Several:
    """A count and as many values."""

    def __init__(self, kind):
        self.kind = kind

    def read(self, reader, types):
        return tuple(self.kind.read(reader, types) for _ in range(reader.count('values')))

    def write(self, writer, value):
        writer.varint(len(value))
        for item in value:
            self.kind.write(writer, item)


class Parts:
    """Sizes of parts, a tuple, or their number."""

    def read(self, reader, types):
        return tuple(reader.list()) if reader.choice('split', 2) == 0 else reader.signed()

    def write(self, writer, value):
        if isinstance(value, tuple):
            writer.u8(0)
            writer.list(value)
        else:
            writer.u8(1)
            writer.signed(value)


class ResizeMode:
    """Pairs: ('nearest', rounding), ('linear', None) or ('cubic', coefficient)."""

    def read(self, reader, types):
        mode = reader.choice('mode', 3)
        if mode == 0:
            return 'nearest', reader.choice('rounding', 4)
        return ('linear', None) if mode == 1 else ('cubic', reader.f32())

    def write(self, writer, value):
        mode, parameter = value
        writer.u8(['nearest', 'linear', 'cubic'].index(mode))
        if mode == 'nearest':
            writer.u8(parameter)
        if mode == 'cubic':
            writer.f32(parameter)


class Body:
    """The nodes of a loop: (operation, attributes, inputs, number of outputs) each."""
    deepest = 4

    def __init__(self):
        self.depth = 0

    def read(self, reader, types):
        self.depth += 1
        try:
            require(self.depth <= self.deepest, 'loops within each other, too deep')
            nodes = []
            for _ in range(reader.varint()):
                operation, attributes = read_operation(reader, types)
                inputs = [reader.varint() for _ in range(reader.varint())]
                nodes.append((operation, attributes, [None if x == 0 else x - 1 for x in inputs], reader.varint()))
                require(1 <= nodes[-1][3] <= 1 << 16, 'a node without outputs, or with too many')
            return nodes
        finally:
            self.depth -= 1

    def write(self, writer, value):
        writer.varint(len(value))
        for operation, attributes, inputs, outputs in value:
            write_operation(writer, operation, attributes)
            writer.varint(len(inputs))
            for number in inputs:
                writer.varint(0 if number is None else number + 1)
            writer.varint(outputs)


ORDER = ('order', Choice(2))
OUTPUT = ('output', OutputKind())
AXIS = ('axis', Signed())
EPSILON = ('epsilon', Float32())
WINDOW = [('strides', Numbers()), ('dilations', Numbers()), ('padding', PaddingKind())]
CONVOLUTION = [ORDER, *WINDOW, ('groups', Signed()), ('epilogue', EpilogueKind())]
BLOCKS = [('block', Signed()), ('channels_first', Flag()), ORDER]

ATTRIBUTES = {
    1: ('Convolution', CONVOLUTION),
    2: ('MatrixMultiply', [('right_layout', Choice(2)), ('epilogue', EpilogueKind())]),
    3: ('Recurrent', [('cell', Choice(5)), ('direction', Choice(3)), ('functions', Several(OneFunction())),
                      ('clip', Optional(Float32())), ('inputs', Choice(2))]),
    8: ('TransposedConvolution', [*CONVOLUTION, ('spacing', Numbers())]),
    16: ('Unary', [('function', OneFunction()), OUTPUT]),
    17: ('Binary', [('kind', Choice(9)), ('second_function', OptionalFunction()), OUTPUT]),
    18: ('Table', [('quantization', TableCodes())]),
    19: ('Cast', [('element', Element())]),
    20: ('Compare', [('kind', Choice(5))]),
    21: ('Logic', [('kind', Choice(3))]),
    22: ('IsNaNOrInf', [('kind', Choice(4))]),
    23: ('Select', []),
    32: ('Pooling', [('kind', Choice(3)), ORDER, ('window', Numbers()), *WINDOW, ('rounds_up', Flag()), OUTPUT]),
    33: ('Reduction', [('kind', Choice(10)), ('axes', Numbers()), ('keeps_axes', Flag()), OUTPUT]),
    34: ('Softmax', [('kind', Choice(2)), AXIS, OUTPUT]),
    35: ('BatchNormalization', [ORDER, EPSILON]),
    36: ('LayerNormalization', [AXIS, EPSILON, OUTPUT]),
    37: ('ArgMinMax', [('kind', Choice(2)), AXIS, ('keeps_axis', Flag()), ('takes_last', Flag())]),
    38: ('TopK', [AXIS, ('takes_largest', Flag())]),
    39: ('CumulativeSum', [AXIS, ('excludes_own', Flag()), ('from_end', Flag())]),
    40: ('Resize', [('mode', ResizeMode()), ('coordinates', Choice(7)), ('antialias', Flag()),
                    ('excludes_outside', Flag()), ('extrapolation', Float32()), ('axes', Numbers())]),
    41: ('GroupNormalization', [('groups', Signed()), ORDER, EPSILON, OUTPUT]),
    64: ('Identity', []),
    65: ('Reshape', [('zero_is_zero', Flag())]),
    66: ('Flatten', [AXIS]),
    67: ('Squeeze', [('axes', Optional(Numbers()))]),
    68: ('Unsqueeze', [('axes', Numbers())]),
    69: ('Transpose', [('permutation', Numbers())]),
    70: ('Concatenate', [AXIS]),
    71: ('Split', [AXIS, ('parts', Parts())]),
    72: ('Slice', []),
    73: ('Pad', [('mode', Choice(4))]),
    74: ('Gather', [AXIS]),
    75: ('Expand', []),
    76: ('Tile', []),
    77: ('Shape', [('start', Signed()), ('end', Optional(Signed()))]),
    78: ('Fill', []),
    79: ('Range', []),
    80: ('OneHot', [AXIS]),
    81: ('Trilu', [('upper', Flag())]),
    82: ('GatherElements', [AXIS]),
    83: ('GatherND', [('batch_axes', Signed())]),
    84: ('ScatterElements', [AXIS, ('reduction', Choice(5))]),
    85: ('ScatterND', [('reduction', Choice(5))]),
    86: ('NonZero', []),
    87: ('DepthToSpace', BLOCKS),
    88: ('SpaceToDepth', BLOCKS),
    89: ('If', []),
    90: ('Loop', [('carried', Signed()), ('nodes', Body()), ('condition', Optional(Signed())), ('results', Numbers())]),
    96: ('Quantize', [('output', CodesKind())]),
    97: ('DynamicQuantize', [('axes', Signed())]),
    98: ('Dequantize', []),
}
NUMBERS = {name: number for number, (name, _) in ATTRIBUTES.items()}


def read_operation(reader, types):
    """The name of an operation, and its attributes."""
    number = reader.u8()
    require(number in ATTRIBUTES, f'the operation {number} is unknown')
    name, fields = ATTRIBUTES[number]
    return name, SimpleNamespace(**{key: kind.read(reader, types) for key, kind in fields})


def write_operation(writer, name, attributes):
    number = NUMBERS[name]
    writer.u8(number)
    for key, kind in ATTRIBUTES[number][1]:
        kind.write(writer, getattr(attributes, key))
