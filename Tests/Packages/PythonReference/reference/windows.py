"""arithmetic.md, "Windows"."""

from dataclasses import dataclass

import numpy as np

from .attributes import EXPLICIT, SAME_UPPER
from .errors import require
from .operation import ANY_AXIS, is_known

LIMIT = (1 << 31) - 1


@dataclass(frozen=True)
class Window:
    """A window along one spatial axis."""
    extent: int       # n
    taps: int         # k
    stride: int
    dilation: int
    before: int
    after: int
    positions: int    # m

    def places(self):
        """(16): positions × taps."""
        return (np.arange(self.positions, dtype=np.int64)[:, None] * self.stride
                + np.arange(self.taps, dtype=np.int64) * self.dilation - self.before)


def check(window, strides, dilations, padding, rank):
    require(len(window) == len(strides) == len(dilations) == rank, 'a window of another number of axes')
    require(all(1 <= x <= LIMIT for x in (*window, *strides, *dilations)), 'a window without extent')
    if padding.kind == EXPLICIT:
        require(len(padding.before) == len(padding.after) == rank, 'padding of another number of axes')
        require(all(0 <= x <= LIMIT for x in (*padding.before, *padding.after)), 'padding below 0')


def along(n, k, stride, dilation, padding, axis, rounds_up=False):
    """(13) to (15)."""
    reach = (k - 1) * dilation + 1
    if padding.kind == EXPLICIT:
        before, after = padding.before[axis], padding.after[axis]
    else:
        o = -(-n // stride)
        total = max(0, (o - 1) * stride + reach - n)
        before = total // 2 if padding.kind == SAME_UPPER else total - total // 2
        after = total - before
    room = n + before + after - reach
    m = room // stride + 1
    if rounds_up and room % stride != 0 and m * stride < n + before:
        m += 1
    if m < 1:
        require(n <= 0, f'a window of {reach} elements does not fit into {n + before + after}')
        m = 0
    return Window(n, k, stride, dilation, before, after, m)


def positions(extents, window, strides, dilations, padding, rounds_up=False):
    return tuple(
        along(n, window[i], strides[i], dilations[i], padding, i, rounds_up).positions if is_known(n) else ANY_AXIS
        for i, n in enumerate(extents))
