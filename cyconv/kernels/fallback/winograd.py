"""Winograd's F(4x4, 3x3) and F(4x4, 4x4) in NumPy: the transforms as the matrices that they are.

A tile is 4x4 outputs. For a 3x3 kernel it is computed from 6x6 inputs through 36 products instead
of 144, for a 4x4 kernel from 7x7 inputs through 49 instead of 256:

    y = A^T [ (G w G^T) * (B^T x B) ] A

(Lavin, Gray: Fast Algorithms for Convolutional Neural Networks, 2015, section 4.1.) The matrices
follow from interpolation at the points 0, +-1/sqrt(2), +-sqrt(2) and infinity, or +-sqrt(0.1),
+-sqrt(0.7), +-sqrt(3) and infinity. Shapes below are those of 3x3 kernels; with 4x4 there are 49
planes for 36.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cyconv.kernels.fallback.waiting import first_phase, second_phase
from cyconv.types import Array, Counters, Integers


class Matrices(NamedTuple):
    """Of as many rows as there are points."""

    # Evaluation of a polynomial of degree 3 (four outputs) at the points; "at infinity", its
    # leading coefficient.
    A: Array
    # The same for the taps of a filter, over the product of each point's distances from the others.
    G: Array
    # Row i: the coefficients of the polynomial that vanishes at all points but the i-th; for
    # infinity, the one that vanishes at all.
    BT: Array


def _evaluate(points: Sequence[float], terms: int) -> Array:
    """Powers of each point, and the leading coefficient."""
    powers = [[p**j for j in range(terms)] for p in points]
    return np.array([*powers, [0.0] * (terms - 1) + [1.0]])


def _six() -> Matrices:
    a, b = 0.5**0.5, 2**0.5
    points = (0.0, a, -a, b, -b)
    shares = np.array([1, -2 / 3, -2 / 3, 1 / 6, 1 / 6, 1])
    vanishing = [
        [1, 0, -2.5, 0, 1, 0],
        [0, -2 * a, -2, a, 1, 0],
        [0, 2 * a, -2, -a, 1, 0],
        [0, -b / 2, -0.5, b, 1, 0],
        [0, b / 2, -0.5, -b, 1, 0],
        [0, 1, 0, -2.5, 0, 1],
    ]
    return Matrices(
        _evaluate(points, 4), shares[:, None] * _evaluate(points, 3), np.array(vanishing)
    )


def _seven() -> Matrices:
    """Rows of B^T are over the point, and those of G times it, to be halves that pairs share."""
    squares = a, b, c = 0.1, 0.7, 3.0
    points = [sign * square**0.5 for square in squares for sign in (1, -1)]
    shares, vanishing = [], []
    for p, square in zip(points, np.repeat(squares, 2).tolist(), strict=True):
        q, r = (other for other in squares if other != square)
        shares.append(0.5 / ((square - q) * (square - r)))
        vanishing.append([q * r, q * r / p, -q - r, (-q - r) / p, 1, 1 / p, 0])
    vanishing.append([-a * b * c, 0, a * b + a * c + b * c, 0, -a - b - c, 0, 1])
    evaluate = _evaluate(points, 4)
    return Matrices(evaluate, np.array([*shares, 1])[:, None] * evaluate, np.array(vanishing))


# By the number of planes of transformed tiles.
MATRICES = {36: _six(), 49: _seven()}


def _points(axes: Integers) -> int:
    """How many there are, which are also the cells of a row of a tile of x."""
    return int(axes[1, 1]) + 3


def _count(x: Array, axes: Integers) -> int:
    return len(x) * int(axes[0, 5]) * math.prod(_tile_grid(axes))


def _tile_grid(axes: Integers) -> tuple[int, int]:
    return -(-int(axes[1, 5]) // 4), -(-int(axes[2, 5]) // 4)


def _find_tiles(axes: Integers, images: int, first: int, tiles: int) -> tuple[Integers, ...]:
    """Image, plane of the output, row and column of some tiles, numbered through all images."""
    grid = (images, int(axes[0, 5]), *_tile_grid(axes))
    return np.unravel_index(np.arange(first, first + tiles), grid)


def _overlap(low: int, need: int, size: int) -> tuple[slice, slice]:
    """Where the cells of x are among those needed, and which these are; `low` come before."""
    start = max(0, low)
    stop = max(start, min(need, low + size))
    return slice(start, stop), slice(start - low, stop - low)


def _read_tiles(
    x: Array, axes: Integers, low: tuple[int, int, int], width: int, first: int, tiles: int
) -> Array:
    """Some tiles of width x width cells, 4 apart, from -low on: (c, tiles, width, width)."""
    th, tw = _tile_grid(axes)
    image, plane, row, column = _find_tiles(axes, len(x), first, tiles)
    need = (int(axes[0, 5]), 4 * th - 4 + width, 4 * tw - 4 + width)
    padded = np.zeros((*x.shape[:2], *need), x.dtype)
    to, cells = zip(*map(_overlap, low, need, x.shape[2:]), strict=True)
    padded[:, :, *to] = x[:, :, *cells]
    windows = np.lib.stride_tricks.sliding_window_view(padded, (width, width), axis=(3, 4))
    return windows[image, :, plane, 4 * row, 4 * column].swapaxes(0, 1)


def _transform(matrix: Array, tiles: Array, u: Array) -> None:
    """u (36, c, >= tiles) = matrix @ tile @ matrix.T; zero past the last tile."""
    matrix = matrix.astype(tiles.dtype)
    done = matrix @ tiles @ matrix.T
    u[:, :, : tiles.shape[1]] = done.reshape(*done.shape[:2], len(u)).transpose(2, 0, 1)
    u[:, :, tiles.shape[1] :] = 0


def winograd_input(x: Array, u: Array, axes: Integers, first: int, tiles: int) -> None:
    """u (36, c, >= tiles) = B^T x B for tiles of x (n, c, 1, h, w); zero past the last tile."""
    cells = _read_tiles(x, axes, _low(axes), _points(axes), first, tiles)
    _transform(MATRICES[len(u)].BT, cells, u)


def _low(axes: Integers, tap: int = 0) -> tuple[int, int, int]:
    """The low pads of what is read by one tap along the depth."""
    depth, height, width = axes[:, 4].tolist()
    return depth - tap * int(axes[0, 3]), height, width


def _input(x: Array, axes: Integers, first: int, tiles: int) -> Array:
    """U (36, KD * c, tiles) of tiles of x (n, c, d, h, w), tap by tap along the depth."""
    depth, c = int(axes[0, 1]), x.shape[1]
    points = _points(axes)
    u = np.empty((points**2, depth * c, tiles), x.dtype)
    for tap in range(depth):
        part = u[:, tap * c : (tap + 1) * c]
        cells = _read_tiles(x, axes, _low(axes, tap), points, first, tiles)
        _transform(MATRICES[len(u)].BT, cells, part)
    return u


def winograd_output_grad(dy: Array, u: Array, axes: Integers, first: int, tiles: int) -> None:
    """u (36, f, >= tiles) = A dy A^T for tiles of dy (n, f, 1, h, w); zero past the last tile."""
    _transform(MATRICES[len(u)].A, _read_tiles(dy, axes, (0, 0, 0), 4, first, tiles), u)


def winograd_output(
    m: Array, b: Array | None, y: Array, axes: Integers, first: int, tiles: int
) -> None:
    """Write the tiles A^T m A + b of y (n, f, d, h, w), for m (36, f, >= tiles)."""
    at = MATRICES[len(m)].A.T.astype(m.dtype)
    points = at.shape[1]
    products = m[:, :, :tiles].transpose(1, 2, 0).reshape(y.shape[1], tiles, points, points)
    cells = at @ products @ at.T
    if b is not None:
        cells = cells + b[:, None, None, None]
    for tile, *place in zip(
        cells.swapaxes(0, 1), *_find_tiles(axes, len(y), first, tiles), strict=True
    ):
        image, plane, row, column = place
        part = y[image, :, plane, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
        part[:] = tile[:, : part.shape[1], : part.shape[2]]


def winograd_weight(w: Array, u: Array) -> None:
    """u (36, f, c) = G w G^T for w (f, c, 3, 3), of any strides."""
    g = MATRICES[len(u)].G.astype(w.dtype)
    u[:] = (g @ w @ g.T).reshape(*w.shape[:2], len(u)).transpose(2, 0, 1)


def winograd_weight_grad(u: Array, dw: Array) -> None:
    """dw (f, c, 3, 3) = G^T u G for u (36, f, c)."""
    gt = MATRICES[len(u)].G.T.astype(u.dtype)
    points = gt.shape[1]
    dw[:] = gt @ u.transpose(1, 2, 0).reshape(*u.shape[1:], points, points) @ gt.T


def winograd_filters(w: Array, v: Array) -> None:
    """v (36, KD * C, F or more), a panel, = G w G^T for w (F, C, KD, 3, 3), of any strides; zero
    past the last."""
    filters, channels, depth = w.shape[:3]
    for tap in range(depth):
        part = v[:, tap * channels : (tap + 1) * channels]
        winograd_weight(w[:, :, tap].swapaxes(0, 1), part[:, :, :filters])
        part[:, :, filters:] = 0


def winograd_by_tiles(
    x: Array,
    w: Array,
    v: Array,
    b: Array | None,
    y: Array,
    axes: Integers,
    filters: Integers,
    tiles: Integers,
    columns: int,
    progress: Counters,
    memory: Array,
    rings: bool = False,
) -> None:
    """Fill y (n, F, od, oh, ow) from x (n, C, d, h, w), w (F, C, KD, 3, 3) and b (F,) or None:
    first blocks of filters are transformed into v (36, panels, KD * C, rows) (none, if they are in
    v already), then blocks of tiles are transformed, multiplied and transformed back."""
    rows = v.shape[3]

    def transform(t: int) -> None:
        start, stop = filters[t].tolist()
        for panel in range(start // rows, -(-stop // rows)):
            first, last = max(start, panel * rows), min(stop, panel * rows + rows)
            part = v[:, panel, :, first - panel * rows : last - panel * rows]
            winograd_filters(w[first:last], part)

    first_phase(progress, len(filters), transform, rings)
    for t in second_phase(progress, len(tiles)):
        first, count = int(tiles[t, 0]), int(tiles[t, 1] - tiles[t, 0])
        u = _input(x, axes, first, count)
        m = (v.swapaxes(2, 3) @ u[:, None]).reshape(len(v), -1, count)
        winograd_output(m[:, : len(w)], b, y, axes, first, count)


def winograd_by_filters(
    x: Array,
    w: Array,
    v: Array | None,
    b: Array | None,
    y: Array,
    axes: Integers,
    u: Array,
    channels: Integers,
    filters: Integers,
    columns: int,
    progress: Counters,
    memory: Array,
    rings: bool = False,
) -> None:
    """The same for few tiles and many filters: first all tiles are transformed into u (36, KD * C
    * tiles or more), by blocks of channels, then blocks of filters, unless these are in v (36,
    panels, KD * C, rows), each block in one panel."""
    total, depth, all_channels = _count(x, axes), w.shape[2], w.shape[1] * w.shape[2]
    tiles = u[:, : all_channels * total].reshape(len(u), all_channels, total)
    by_tap = tiles.reshape(len(u), depth, -1, total)

    def transform(t: int) -> None:
        part = slice(*channels[t])
        by_tap[:, :, part] = _input(x[:, part], axes, 0, total).reshape(len(u), depth, -1, total)

    first_phase(progress, len(channels), transform, rings)
    for t in second_phase(progress, len(filters)):
        part = slice(*filters[t])
        if v is not None:
            rows = v.shape[3]
            panel = v[:, part.start // rows]
            mine = panel[:, :, part.start % rows : (part.stop - 1) % rows + 1]
        else:
            mine = np.empty((len(u), all_channels, part.stop - part.start), w.dtype)
            winograd_filters(w[part], mine)
        bias = None if b is None else b[part]
        winograd_output(mine.swapaxes(1, 2) @ tiles, bias, y[:, part], axes, 0, total)


def winograd_sum_by_tiles(
    dy: Array,
    x: Array,
    sums: Array,
    dw: Array,
    axes: Integers,
    tiles: Integers,
    parts: Integers,
    channels: Integers,
    width: int,
    rows: int,
    progress: Counters,
    memory: Array,
    rings: bool = False,
) -> None:
    """Fill dw (F, C, KD, 3, 3) from dy (n, F, od, oh, ow) and x (n, C, d, h, w).

    First parts of the blocks of tiles (start and stop in `tiles`) are summed, each in sums of its
    own, (36, KD * C, F and more), then, by blocks of channels, the parts are added in order and
    transformed back."""
    filters = dy.shape[1]

    def add_up(t: int) -> None:
        sums[t] = 0
        for start, stop in tiles[slice(*parts[t])].tolist():
            sums[t, :, :, :filters] += _products(dy, x, axes, start, stop)

    first_phase(progress, len(parts), add_up, rings)
    for t in second_phase(progress, len(channels)):
        part = slice(*channels[t])
        by_tap = sums[..., :filters].reshape(*sums.shape[:2], dw.shape[2], -1, filters)
        _output_sums(by_tap[:, :, :, part].sum(0), dw[:, part])


def winograd_sum_by_channels(
    dy: Array,
    x: Array,
    d: Array,
    sums: Array,
    dw: Array,
    axes: Integers,
    blocks: Integers,
    tiles: Integers,
    channels: Integers,
    width: int,
    add: bool,
    last: bool,
    progress: Counters,
    memory: Array,
    rings: bool = False,
) -> None:
    """The same where dw is large, for consecutive blocks of tiles: blocks of channels are summed in
    sums (36, KD * C * F and more), or in memory of their own if that has no columns. `add` says
    that there were tiles before these, `last` that there are none after them."""
    depth, filters = dw.shape[2], dy.shape[1]
    # dy is transformed where it is multiplied.
    first_phase(progress, len(blocks), lambda _: None, rings)
    for t in second_phase(progress, len(channels)):
        part = slice(*channels[t])
        total = _products(dy, x[:, part], axes, int(tiles[0, 0]), int(tiles[-1, 1]))
        total = total.reshape(len(sums), depth, -1, filters)
        if sums.shape[1]:
            view = sums[:, : depth * x.shape[1] * filters].reshape(len(sums), depth, -1, filters)
            kept = view[:, :, part]
            kept[:] = kept + total if add else total
            total = kept
        if last:
            _output_sums(total, dw[:, part])


def _products(dy: Array, x: Array, axes: Integers, start: int, stop: int) -> Array:
    """The sum over tiles of U @ D, (36, KD * C, F)."""
    u = _input(x, axes, start, stop - start)
    d = np.empty((len(u), dy.shape[1], stop - start), x.dtype)
    winograd_output_grad(dy, d, axes, start, stop - start)
    return np.asarray(u @ d.swapaxes(1, 2))


def _output_sums(sums: Array, dw: Array) -> None:
    """dw (F, C, KD, 3, 3) = G^T sums G for sums (36, KD, C, F)."""
    for tap in range(dw.shape[2]):
        winograd_weight_grad(sums[:, tap].swapaxes(1, 2), dw[:, :, tap])
