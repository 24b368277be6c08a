"""qm-format.md, "Probes": inputs of the network with what they give."""

import hashlib
import math
from dataclasses import dataclass

import numpy as np

from .bytereader import ByteReader
from .container import PROBES
from .errors import require
from .types import BOOL

COUNT_LIMIT = 64


@dataclass
class Probe:
    inputs: dict         # arrays by name
    float_outputs: dict  # arrays by name
    digest: bytes


def varint(number):
    result = b''
    while number >= 128:
        result, number = result + bytes([number & 127 | 128]), number >> 7
    return result + bytes([number])


def read_probes(container, program):
    """Whether the inputs are made, and the probes; none if the file has no section of them."""
    sections = container.of(PROBES)
    if not sections:
        return False, []
    reader = ByteReader(sections[0].content())
    are_made = reader.flag()
    count = reader.count('probes', COUNT_LIMIT)
    require(count >= 1, 'a section of probes has none')
    inputs = list(zip(program.input_names, program.types))
    outputs = [(name, program.types[value]) for name, value in program.outputs]

    def tensors(ports):
        return {name: read_tensor(reader, type) for name, type in ports}

    probes = [Probe(tensors(inputs), tensors(outputs), bytes(reader.bytes(32))) for _ in range(count)]
    reader.end('the probes')
    return are_made, probes


def read_tensor(reader, type):
    rank = reader.varint()
    require(rank == type.rank, f'a tensor of {rank} axes, not {type.rank}')
    shape = tuple(reader.varint() for _ in range(rank))
    require(all(extent == axis or not isinstance(axis, int) for extent, axis in zip(shape, type.axes)),
            f'a tensor of the shape {shape}, not {type.axes}')
    content = reader.bytes(math.prod(shape) * type.dtype.itemsize)
    array = np.frombuffer(content, type.dtype).reshape(shape)
    require(type.element != BOOL or (array <= 1).all(), 'a bool element is neither 0 nor 1')
    return array


def digest(outputs):
    """The digest of the program's own outputs, in their order."""
    result = hashlib.sha256()
    for array in outputs:
        result.update(b''.join(varint(number) for number in (array.ndim, *array.shape)))
        result.update(np.ascontiguousarray(array).tobytes())
    return result.digest()
