"""qm-format.md, "Structure" and "Data": the values and nodes of a program."""

import math
import unicodedata
from dataclasses import dataclass, field

from . import layouts
from .attributes import read_operation
from .bytereader import ByteReader
from .container import DATA, STRUCTURE
from .errors import require
from .types import BOOL, DynamicAxis, Type, TypeReader

NODE_LIMIT = 1 << 20
VALUE_LIMIT = 1 << 21
PORT_LIMIT = 65536


@dataclass
class Node:
    operation: str
    attributes: object
    inputs: list   # numbers of values; None is an optional input that is absent
    outputs: list  # numbers of values


@dataclass
class Program:
    """Values are numbered: inputs, constants, then the outputs of all nodes."""
    types: list = field(default_factory=list)      # of values
    input_names: list = field(default_factory=list)
    constants: dict = field(default_factory=dict)  # arrays by number of value
    nodes: list = field(default_factory=list)
    outputs: list = field(default_factory=list)    # (name, number of value)


def check_names(names, what):
    require(all(names), f'{what} has no name')
    require(len({unicodedata.normalize('NFC', name) for name in names}) == len(names),
            f'two {what}s have one name')


def read_program(container):
    content = container.of(STRUCTURE)[0].content()
    reader = ByteReader(content)
    types = TypeReader(reader)
    program = Program()

    axis_names = [reader.text() for _ in range(reader.count('names of axes'))]
    require(all(axis_names) and len(set(axis_names)) == len(axis_names),
            'a dynamic axis has no name, or the name of another')
    types.axis_name_count = len(axis_names)

    for _ in range(reader.count('inputs', PORT_LIMIT)):
        program.input_names.append(reader.text())
        program.types.append(types.type())
    first_constant = len(program.types)
    constant_types = [types.type() for _ in range(reader.count('constants', VALUE_LIMIT))]
    require(all(type.is_concrete for type in constant_types), 'a constant has a dynamic axis')
    program.types += constant_types

    for data_section, indices, layout in read_data_sections(reader, container, constant_types):
        read_constants(program, data_section, [first_constant + index for index in indices], layout)
    require(len(program.constants) == len(constant_types), 'a constant is in no data section')

    next_constant = 0
    for _ in range(reader.count('nodes', NODE_LIMIT)):
        name, attributes = read_operation(reader, types)
        first = len(program.types)
        inputs = []
        for _ in range(reader.count('inputs of a node', PORT_LIMIT)):
            reference = reader.varint()
            if reference == 0:
                inputs.append(None)
            elif reference == 1:
                require(next_constant < len(constant_types), 'an operand is a constant beyond the last')
                inputs.append(first_constant + next_constant)
                next_constant += 1
            else:
                require(reference - 1 <= first, 'an operand is before the first value')
                inputs.append(first - (reference - 1))
        count = reader.count('outputs of a node', PORT_LIMIT)
        require(count >= 1, 'a node has no outputs')
        program.types += [types.type() for _ in range(count)]
        program.nodes.append(Node(name, attributes, inputs, list(range(first, first + count))))
    require(len(program.types) <= VALUE_LIMIT, f'{len(program.types)} values')

    count = reader.count('outputs', PORT_LIMIT)
    require(count >= 1, 'there are no outputs')
    for _ in range(count):
        name, value = reader.text(), reader.varint()
        require(value < len(program.types), 'an output is no value')
        program.outputs.append((name, value))
    reader.end('the structure')

    check_names(program.input_names, 'input')
    check_names([name for name, _ in program.outputs], 'output')
    return program


def read_data_sections(reader, container, constant_types):
    """For each data section: the section, the indices of its constants, its layout."""
    sections = container.of(DATA)
    count = reader.count('data sections')
    require(count == len(sections), f'{count} data sections, but there are {len(sections)}')
    result, seen, byte_count = [], set(), 0
    for section in sections:
        layout = layouts.read_layout(reader)
        count = reader.count('constants of a section')
        require(count >= 1, 'a data section holds no constant')
        indices, previous = [], -1
        for _ in range(count):
            previous += 1 + reader.varint()
            require(previous < len(constant_types), 'a data section holds a constant beyond the last')
            require(previous not in seen, 'a constant is in two data sections')
            seen.add(previous)
            indices.append(previous)
        types = [constant_types[index] for index in indices]
        require(len({type.element for type in types}) == 1, 'a data section holds two element types')
        byte_count += sum(math.prod(type.axes) * type.dtype.itemsize for type in types)
        result.append((section, indices, layout))
    file_size = sum(len(section.stored) for section in container.sections)
    require(byte_count <= min(4 << 30, max(64 << 20, 256 * file_size)), f'{byte_count} bytes of constants')
    return result


def read_constants(program, section, values, layout):
    counts = [math.prod(program.types[value].axes) for value in values]
    element = program.types[values[0]].element
    layouts.check_element(layout, element)
    require(section.inflated_size == layouts.content_size(layout, sum(counts), element),
            'the size of a data section is not that of its constants')
    stream = layouts.elements(layout, section.content(), sum(counts), element)
    require(element != BOOL or (stream <= 1).all(), 'an element of the type bool is neither 0 nor 1')
    position = 0
    for value, count in zip(values, counts):
        program.constants[value] = stream[position:position + count].reshape(program.types[value].axes)
        position += count
