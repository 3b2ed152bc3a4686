"""im2col and col2im in NumPy: the definition of the compiled ones.

Row (c, kd, kh, kw) of the columns holds, for each output position (n, od, oh, ow), the input cell
that tap (kd, kh, kw) reads there in channel c, or zero where that cell lies in the padding. The
loop goes over taps only: for one tap, the cells read by all positions are a strided slice of x.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from cyconv.types import Array, Integers

Index = tuple[int | slice, ...]


def inside(tap: int, axis: list[int]) -> tuple[slice, slice]:
    """Along one axis: the outputs at which this tap falls inside the image, and the cells that
    it reads there."""
    size, _, stride, dilation, low, output = axis
    start = tap * dilation - low
    lo = min(output, max(0, -(start // stride)))
    hi = max(lo, min(output, (size - start - 1) // stride + 1))
    first = lo * stride + start
    return slice(lo, hi), slice(first, first + max(0, hi - lo - 1) * stride + (hi > lo), stride)


def each_tap(axes: Integers) -> Iterator[tuple[Index, Index]]:
    """For each tap of the kernel, yield where its outputs stand in the columns, seen as
    (c, kd, kh, kw, n, od, oh, ow), and the cells that it reads in x (n, c, d, h, w)."""
    every = slice(None)
    taps = [[(k, *inside(k, axis)) for k in range(axis[1])] for axis in axes.tolist()]
    for (kd, od, d), (kh, oh, h), (kw, ow, w) in itertools.product(*taps):
        yield (every, kd, kh, kw, every, od, oh, ow), (every, every, d, h, w)


def im2col(x: Array, cols: Array, axes: Integers, /) -> None:
    """Write the columns of x (n, c, d, h, w) into cols (c * taps, n * positions)."""
    n, c = x.shape[:2]
    view = cols.reshape(c, *axes[:, 1], n, *axes[:, 5])
    cols[:] = 0
    for outputs, cells in each_tap(axes):
        view[outputs] = x[cells].swapaxes(0, 1)


def col2im(cols: Array, x: Array, axes: Integers, /) -> None:
    """Add each cell of cols (c * taps, n * positions) to the cell of x (n, c, d, h, w) that it
    came from: the adjoint of im2col."""
    n, c = x.shape[:2]
    view = cols.reshape(c, *axes[:, 1], n, *axes[:, 5])
    for outputs, cells in each_tap(axes):
        x[cells] += view[outputs].swapaxes(0, 1)
