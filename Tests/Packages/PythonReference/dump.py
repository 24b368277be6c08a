"""The dump in schema/qm-format.md shows the bytes of a fixture: offset, bytes, meaning."""

import re

EQUAL, DIFFERENT = 'equal', 'different'
LINE = re.compile(r'^    ([0-9A-F]{4})  ((?:[0-9A-F]{2} )*[0-9A-F]{2})(?:   |$)', re.MULTILINE)


def check_dump(text, fixtures):
    """An outcome and a remark."""
    section = text.read_text(encoding='utf-8').split('\n## Example\n')[1].split('\n## ')[0]
    file = (fixtures.parent / re.search('`(fixtures/[^`]*)`', section)[1]).read_bytes()
    content = b''
    for offset, line in LINE.findall(section):
        if int(offset, 16) != len(content):
            return DIFFERENT, f'the line of {offset} follows {len(content):04X}'
        content += bytes.fromhex(line)
    return (EQUAL, '') if content == file else (DIFFERENT, 'the dump does not show the bytes of its file')
