"""qm-format.md, "Container": header, table of sections, sections, content digest."""

import hashlib
import struct
import zlib
from dataclasses import dataclass

from .bytereader import ByteReader
from .errors import Malformed, Unsupported, require

VERSIONS = 2, 3
MAGIC = bytes.fromhex('514D890D0A1A0A00')
HEADER_SIZE = 68
STRUCTURE, DATA, NAMES, METADATA, PROBES = 1, 2, 128, 129, 130
STORED, DEFLATED = 0, 1
TEXT_SECTION_LIMIT = 16 << 20


@dataclass(frozen=True)
class Section:
    kind: int
    encoding: int
    stored: bytes
    inflated_size: int

    def content(self):
        if self.encoding == STORED:
            return self.stored
        inflater = zlib.decompressobj(wbits=-15)
        try:
            content = inflater.decompress(self.stored, self.inflated_size + 1)
        except zlib.error as error:
            raise Malformed(f'a section is not a stream of DEFLATE: {error}') from error
        require(inflater.eof and not inflater.unused_data and len(content) == self.inflated_size,
                f'a section does not inflate to {self.inflated_size} bytes')
        return content


class Container:
    def __init__(self, file):
        """Reads and checks the header, the table, and the checksum of each section."""
        require(len(file) >= HEADER_SIZE, f'{len(file)} bytes are no header')
        require(file[:8] == MAGIC, 'not a .qm file')
        (self.write_version, self.read_version, table_size, count, reserved, size) = struct.unpack_from(
            '<HHIIIQ', file, 8)
        self.digest = file[32:64]
        table = file[HEADER_SIZE:HEADER_SIZE + table_size]
        require(self.read_version <= self.write_version, 'the read version exceeds the write version')
        if self.write_version < VERSIONS[0] or self.read_version > VERSIONS[1]:
            raise Unsupported(f'for readers of version {self.read_version}; this is one of version {VERSIONS[1]}')
        require(len(table) == table_size, 'the table of sections is cut off')
        require(zlib.crc32(table, zlib.crc32(file[:64])) == struct.unpack_from('<I', file, 64)[0],
                'the checksum of header and table is wrong')
        require(reserved == 0, 'a reserved field is not 0')
        require(size == len(file), f'the file has {len(file)} bytes, the header says {size}')

        self.sections = []
        rows = ByteReader(table)
        position = HEADER_SIZE + table_size
        for _ in range(count):
            kind, encoding = rows.u8(), rows.choice('encoding', 2)
            stored_size, inflated_size = rows.varint(), rows.varint()
            checksum = rows.number('I')
            require(kind in (STRUCTURE, DATA) or kind >= 128, f'a section has the unknown kind {kind}')
            require(inflated_size == stored_size if encoding == STORED
                    else inflated_size < 1032 * (stored_size + 1), 'an inflated size is impossible')
            require(kind == DATA or kind > PROBES or inflated_size <= TEXT_SECTION_LIMIT,
                    f'a section of {inflated_size} bytes is too large')
            stored = file[position:position + stored_size]
            require(len(stored) == stored_size, 'a section reaches beyond the file')
            require(zlib.crc32(stored) == checksum, 'the checksum of a section is wrong')
            self.sections.append(Section(kind, encoding, stored, inflated_size))
            position += stored_size
        rows.end('the rows of the table')
        require(position == len(file), 'bytes behind the last section')
        require(len(self.of(STRUCTURE)) == 1, 'there is not exactly one structure section')
        for kind in NAMES, METADATA, PROBES:
            require(len(self.of(kind)) <= 1, f'there are several sections of kind {kind}')

    def of(self, kind):
        return [section for section in self.sections if section.kind == kind]

    def computed_digest(self):
        digest = hashlib.sha256()
        for section in self.sections:
            content = section.content()
            digest.update(struct.pack('<BQ', section.kind, len(content)) + hashlib.sha256(content).digest())
        return digest.digest()

    def check_digest(self):
        require(self.computed_digest() == self.digest, 'the content digest is wrong')
