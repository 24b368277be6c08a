"""qm-format.md, "Data": from the bytes of a section to the elements of its constants."""

from dataclasses import dataclass

import numpy as np

from .errors import require
from .types import DTYPES, INT8, INT16, INT32, INT64

PLAIN, BITS, DIGITS, PLANES, PLANE_DIFFERENCES, SIGN_PLANES, TUPLES = range(7)


@dataclass(frozen=True)
class Layout:
    kind: int
    width: int = 0     # bits
    radix: int = 0     # digits
    minimum: int = 0
    size: int = 0      # tuples
    count: int = 0
    escapes: int = 0


def read_layout(reader):
    kind = reader.choice('layout', 7)
    if kind == BITS:
        layout = Layout(kind, width=reader.u8())
        require(2 <= layout.width <= 8, f'codes of {layout.width} bits')
    elif kind == DIGITS:
        layout = Layout(kind, radix=reader.u8(), minimum=reader.signed())
        require(2 <= layout.radix <= 16, f'digits of radix {layout.radix}')
        require(-128 <= layout.minimum <= 128 - layout.radix, 'digits beyond int8')
    elif kind == TUPLES:
        layout = Layout(kind, size=reader.u8(), count=reader.varint(), escapes=reader.varint())
        require(2 <= layout.size <= 8, f'tuples of {layout.size} elements')
        require(1 <= layout.count <= (255 if layout.escapes else 256), f'a table of {layout.count} tuples')
        require(layout.escapes <= 1 << 48, f'{layout.escapes} escapes')
    else:
        layout = Layout(kind)
    return layout


def check_element(layout, element):
    if layout.kind in (BITS, DIGITS, TUPLES):
        require(element == INT8, 'a layout of codes holds elements of another type')
    if layout.kind == SIGN_PLANES:
        require(element in (INT16, INT32, INT64), 'sign planes of another type than int16, int32, int64')


def digits_per_byte(radix):
    return max(k for k in range(1, 9) if radix ** k <= 256)


def content_size(layout, n, element):
    """The inflated size of n elements."""
    if layout.kind == BITS:
        return -(-n * layout.width // 8)
    if layout.kind == DIGITS:
        return -(-n // digits_per_byte(layout.radix))
    if layout.kind == TUPLES:
        return layout.size * (layout.count + layout.escapes) + -(-n // layout.size)
    return n * DTYPES[element].itemsize


def elements(layout, content, n, element):
    """The stream of n elements."""
    check_element(layout, element)
    require(len(content) == content_size(layout, n, element),
            f'a data section has {len(content)} bytes, not {content_size(layout, n, element)}')
    dtype = DTYPES[element]
    data = np.frombuffer(content, np.uint8)
    if layout.kind == PLAIN:
        return data.view(dtype)
    if layout.kind == BITS:
        bits = np.unpackbits(data, bitorder='little')
        require(not bits[n * layout.width:].any(), 'unused bits are not 0')
        codes = bits[:n * layout.width].reshape(n, layout.width).astype(np.int32) @ (1 << np.arange(layout.width))
        return np.where(codes >> (layout.width - 1), codes - (1 << layout.width), codes).astype(np.int8)
    if layout.kind == DIGITS:
        k = digits_per_byte(layout.radix)
        powers = layout.radix ** np.arange(k)
        if n:
            require(data.max() < layout.radix ** k, 'a byte is no digits')
            require(data[-1] < layout.radix ** (n - k * (len(data) - 1)), 'the last byte holds too many digits')
        digits = data[:, None] // powers % layout.radix
        return (digits.reshape(-1)[:n] + layout.minimum).astype(np.int8)
    if layout.kind == TUPLES:
        table_size = layout.size * layout.count
        tuples = data[:table_size + layout.size * layout.escapes].view(np.int8).reshape(-1, layout.size)
        words = data[len(tuples) * layout.size:].astype(np.int64)
        escaped = words == layout.count
        require((words <= layout.count).all() and escaped.sum() == layout.escapes,
                'a byte is no tuple, or the escapes are not those that are used')
        words[escaped] = layout.count + np.arange(layout.escapes)
        stream = tuples[words].reshape(-1)
        require(not stream[n:].any(), 'the stream is not filled with 0')
        return stream[:n]
    if layout.kind == PLANE_DIFFERENCES:
        data = np.cumsum(data, dtype=np.uint8)
    unsigned = np.ascontiguousarray(data.reshape(dtype.itemsize, n).T).view(f'<u{dtype.itemsize}').reshape(n)
    if layout.kind == SIGN_PLANES:
        one = unsigned.dtype.type(1)
        unsigned = (unsigned >> one) ^ (~(unsigned & one) + one)
    return unsigned.view(dtype)
