"""qm-format.md, "Names" and "Metadata": what does not affect the results."""

from dataclasses import dataclass, field

from .bytereader import ByteReader
from .errors import require


def read_names(content, program):
    """Names of the values from the first constant on, then of the nodes."""
    reader = ByteReader(content)
    count = len(program.types) - len(program.input_names) + len(program.nodes)
    names = [reader.text() for _ in range(count)]
    reader.end('the names')
    return names


@dataclass
class Metadata:
    producer: str = ''
    source_name: str = ''
    source_digest: bytes = b''
    recipe: list = field(default_factory=list)
    measurements: list = field(default_factory=list)
    input_keys: list = field(default_factory=list)
    output_keys: list = field(default_factory=list)
    notes: list = field(default_factory=list)
    others: list = field(default_factory=list)


def read_metadata(content, program):
    reader = ByteReader(content)

    def entries():
        return [(reader.text(), reader.text()) for _ in range(reader.count('entries', size=2))]

    def for_each(what, total, read):
        count = reader.count(what)
        require(count in (0, total), f'{count} {what}, not {total}')
        return [read() for _ in range(count)]

    result = Metadata(reader.text(), reader.text())
    size = reader.varint()
    require(size in (0, 32), f'a digest of {size} bytes')
    result.source_digest = reader.bytes(size)
    result.recipe = entries()
    for _ in range(reader.count('measurements')):
        output = reader.varint()
        require(output < len(program.outputs), 'a measurement of no output')
        part = read_part(reader) if reader.flag() else None
        measure, value, samples = reader.choice('measure', 7), reader.f32(), reader.varint()
        result.measurements.append((output, part, measure, value, samples))
    result.input_keys = for_each('keys of inputs', len(program.input_names), reader.text)
    result.output_keys = for_each('keys of outputs', len(program.outputs), reader.text)
    result.notes = for_each('notes', len(program.nodes), lambda: (reader.choice('mode', 4), reader.text()))
    result.others = entries()
    reader.end('the metadata')
    return result


def read_part(reader):
    form = reader.choice('form', 3)
    after_a_step, inner_value = reader.flag(), reader.text()
    count = reader.count('ranges', size=2)
    axis = reader.signed() if count or form == 2 else None
    return form, after_a_step, inner_value, axis, [(reader.varint(), reader.varint()) for _ in range(count)]
