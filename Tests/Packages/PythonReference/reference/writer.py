"""qm-format.md again, from a program to the bytes of a file: for programs that no converter writes."""

import hashlib
import struct
import zlib

from .attributes import write_operation
from .container import DATA, DEFLATED, HEADER_SIZE, MAGIC, STORED, STRUCTURE, VERSIONS
from .types import Dynamic, DynamicAxis, Fixed, Weights, PER_GROUP


class ByteWriter:
    def __init__(self):
        self.content = bytearray()

    def u8(self, value):
        self.content.append(value)

    def number(self, format, value):
        self.content += struct.pack('<' + format, value)

    def f32(self, value):
        self.number('f', value)

    def varint(self, value):
        while value >= 128:
            self.u8(value & 127 | 128)
            value >>= 7
        self.u8(value)

    def signed(self, value):
        self.varint(2 * value if value >= 0 else -2 * value - 1)

    def list(self, values):
        self.varint(len(values))
        for value in values:
            self.signed(value)

    def text(self, value):
        content = value.encode()
        self.varint(len(content))
        self.content += content

    def type(self, type):
        self.u8(type.element)
        quantization = type.quantization
        if quantization is None:
            self.u8(0)
        elif isinstance(quantization, Fixed):
            self.u8(1)
            self.f32(quantization.scale)
            self.signed(quantization.zero_point)
        elif isinstance(quantization, Dynamic):
            self.u8(2)
            self.varint(quantization.axes)
        elif isinstance(quantization, Weights):
            self.u8(3)
            self.u8(quantization.bits)
            self.u8(quantization.granularity)
            if quantization.granularity:
                self.varint(quantization.axis)
            if quantization.granularity == PER_GROUP:
                self.varint(quantization.size)
        self.varint(len(type.axes))
        for axis in type.axes:
            self.varint(2 * axis.number + 1 if isinstance(axis, DynamicAxis) else 2 * axis)


def structure(program):
    """Every constant is in a plain data section of its own; no axis has a name."""
    writer = ByteWriter()
    writer.varint(0)
    writer.varint(len(program.input_names))
    for name, type in zip(program.input_names, program.types):
        writer.text(name)
        writer.type(type)
    constants = sorted(program.constants)
    writer.varint(len(constants))
    for value in constants:
        writer.type(program.types[value])
    writer.varint(len(constants))
    for index in range(len(constants)):
        writer.u8(0)
        writer.varint(1)
        writer.varint(index)
    writer.varint(len(program.nodes))
    next_constant = len(program.input_names)
    for node in program.nodes:
        write_operation(writer, node.operation, node.attributes)
        writer.varint(len(node.inputs))
        for value in node.inputs:
            if value is None:
                writer.varint(0)
            elif value == next_constant and value in program.constants:
                writer.varint(1)
                next_constant += 1
            else:
                writer.varint(node.outputs[0] - value + 1)
        writer.varint(len(node.outputs))
        for value in node.outputs:
            writer.type(program.types[value])
    writer.varint(len(program.outputs))
    for name, value in program.outputs:
        writer.text(name)
        writer.varint(value)
    return bytes(writer.content)


def container(sections):
    """A file of sections, pairs of kind and content."""
    table, body, digest = ByteWriter(), b'', hashlib.sha256()
    for kind, content in sections:
        deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
        deflated = deflate.compress(content) + deflate.flush()
        encoding, stored = (DEFLATED, deflated) if len(deflated) < len(content) else (STORED, content)
        table.u8(kind)
        table.u8(encoding)
        table.varint(len(stored))
        table.varint(len(content))
        table.number('I', zlib.crc32(stored))
        body += stored
        digest.update(struct.pack('<BQ', kind, len(content)) + hashlib.sha256(content).digest())
    table = bytes(table.content)
    header = MAGIC + struct.pack('<HHIIIQ', VERSIONS[1], VERSIONS[0], len(table), len(sections), 0,
                                 HEADER_SIZE + len(table) + len(body)) + digest.digest()
    return header + struct.pack('<I', zlib.crc32(header + table)) + table + body


def write(program):
    """The bytes of a file."""
    return container([(STRUCTURE, structure(program))]
                     + [(DATA, program.constants[value].tobytes()) for value in sorted(program.constants)])
