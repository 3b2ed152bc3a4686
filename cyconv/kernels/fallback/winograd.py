"""Winograd in NumPy: the transforms as the matrices that they are (matrices.py says which and why).

Shapes below are those of 3x3 kernels with stride 1; with 4x4 there are 49 planes for 36, and with
stride 2 81 of tiles.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from cyconv.kernels.fallback.matrices import MATRICES, MET, Matrices, kind_of
from cyconv.kernels.fallback.waiting import all_tasks, first_phase, second_phase
from cyconv.types import Array, Counters, Integers

# Sums over more tiles than this are made of sums of so many, which are more accurate: with 4x4
# kernels those of 200 and more were off by 6.9e-6 of the largest value.
LONG_SUM = 64


class Grid(NamedTuple):
    """How tiles stand in an array: where each row and each column of them begins, the first `low`
    cells before the array; cells of a row of each tile, and how far apart they are."""

    rows: Integers
    columns: Integers
    low: tuple[int, int]
    cells: int
    apart: tuple[int, int]


def _grids(axes: Integers) -> tuple[Grid, Grid]:
    """Those of x and of y."""
    low, output = axes[1:, 4], axes[1:, 5]
    matrices = _matrices(axes)
    cells, outputs = matrices.BT.shape[1], matrices.A.shape[1]
    start, pitch = np.array([0, 0]), 4 * max(1, int(axes[1, 2]))
    if axes[1, 2] < 0:
        start, low = 1 - low % 2, low // 2
    apart = tuple(axes[1:, 3].tolist())

    def grid(pitch: int, low: Integers, cells: int) -> Grid:
        rows, columns = (
            _starts(number, pitch, outputs, step)
            for number, step in zip((output + start).tolist(), apart, strict=True)
        )
        return Grid(rows, columns, tuple(low.tolist()), cells, apart)

    return grid(pitch, low, cells), grid(outputs, start, outputs)


def _starts(positions: int, pitch: int, outputs: int, apart: int) -> Integers:
    """Where the tiles of a row of positions begin, of so many outputs each. With a dilation these
    are `apart`, and as many tiles, from neighbouring cells on, lie between each other."""
    phases = min(apart, positions)
    number = -(-positions // (outputs * phases))
    return np.add.outer(np.arange(number) * pitch * apart, np.arange(phases)).ravel()


def _matrices(axes: Integers) -> Matrices:
    return MATRICES[kind_of(*axes[1, 1:3].tolist())]


def _met(v: Array, tiles: int) -> Array:
    """Of transformed filters, those that each plane of tiles meets."""
    return v if len(v) == tiles else v[MET]


def _count(x: Array, axes: Integers) -> int:
    return len(x) * int(axes[0, 5]) * math.prod(map(len, _grids(axes)[0][:2]))


def _find_tiles(axes: Integers, images: int, first: int, tiles: int) -> tuple[Integers, ...]:
    """Image, plane of the output, row and column of some tiles, numbered through all images."""
    grid = (images, int(axes[0, 5]), *map(len, _grids(axes)[0][:2]))
    return np.unravel_index(np.arange(first, first + tiles), grid)


def _overlap(low: int, need: int, size: int) -> tuple[slice, slice]:
    """Where the cells of x are among those needed, and which these are; `low` come before."""
    start = max(0, low)
    stop = max(start, min(need, low + size))
    return slice(start, stop), slice(start - low, stop - low)


def _read_tiles(
    x: Array, axes: Integers, grid: Grid, depth_low: int, first: int, tiles: int
) -> Array:
    """Some tiles of x: (c, tiles, cells, cells)."""
    low, spans = (depth_low, *grid.low), [(grid.cells - 1) * apart + 1 for apart in grid.apart]
    image, plane, row, column = _find_tiles(axes, len(x), first, tiles)
    height, across = (starts[-1] + span for starts, span in zip(grid[:2], spans, strict=True))
    need = (int(axes[0, 5]), height, across)
    padded = np.zeros((*x.shape[:2], *need), x.dtype)
    to, cells = zip(*map(_overlap, low, need, x.shape[2:]), strict=True)
    padded[:, :, *to] = x[:, :, *cells]
    windows = np.lib.stride_tricks.sliding_window_view(padded, spans, axis=(3, 4))
    windows = windows[..., :: grid.apart[0], :: grid.apart[1]]
    return windows[image, :, plane, grid.rows[row], grid.columns[column]].swapaxes(0, 1)


def _transform(matrix: Array, tiles: Array) -> Array:
    """matrix @ tile @ matrix.T of tiles (c, tiles, cells, cells): (36, tiles, c)."""
    matrix = matrix.astype(tiles.dtype)
    done = matrix @ tiles @ matrix.T
    return done.reshape(*done.shape[:2], -1).transpose(2, 1, 0)


def _fill(u: Array, transformed: Array) -> None:
    """u (36, tiles, >= c) = transformed (36, tiles, c), and zero past the last channel."""
    u[:, :, : transformed.shape[2]] = transformed
    u[:, :, transformed.shape[2] :] = 0


def _of_input(x: Array, axes: Integers, first: int, tiles: int, tap: int) -> Array:
    depth_low = int(axes[0, 4] - tap * axes[0, 3])
    cells = _read_tiles(x, axes, _grids(axes)[0], depth_low, first, tiles)
    return _transform(_matrices(axes).BT, cells)


def _of_output_grad(dy: Array, axes: Integers, first: int, tiles: int) -> Array:
    return _transform(_matrices(axes).A, _read_tiles(dy, axes, _grids(axes)[1], 0, first, tiles))


def winograd_input(x: Array, u: Array, axes: Integers, first: int, tap: int = 0, /) -> None:
    """u (36, tiles, >= c) = B^T x B for tiles of x (n, c, d, h, w), as this tap along the depth
    reads them; zero past the last channel."""
    _fill(u, _of_input(x, axes, first, u.shape[1], tap))


def winograd_output_grad(dy: Array, d: Array, axes: Integers, first: int, /) -> None:
    """d (36, tiles, >= f) = A dy A^T for tiles of dy (n, f, d, h, w); zero past the last filter."""
    _fill(d, _of_output_grad(dy, axes, first, d.shape[1]))


def _input(x: Array, axes: Integers, first: int, tiles: int) -> Array:
    """U (36, tiles, KD * c) of tiles of x (n, c, d, h, w), tap by tap along the depth."""
    parts = [_of_input(x, axes, first, tiles, tap) for tap in range(int(axes[0, 1]))]
    return np.concatenate(parts, axis=2)


def winograd_output(m: Array, b: Array | None, y: Array, axes: Integers, first: int, /) -> None:
    """Write the tiles A^T m A + b of y (n, f, d, h, w), for m (36, tiles, >= f)."""
    at, grid = _matrices(axes).A.T.astype(m.dtype), _grids(axes)[1]
    points, tiles = at.shape[1], m.shape[1]
    products = m[:, :, : y.shape[1]].transpose(2, 1, 0).reshape(-1, tiles, points, points)
    cells = at @ products @ at.T
    if b is not None:
        cells = cells + b[:, None, None, None]
    for tile, *place in zip(
        cells.swapaxes(0, 1), *_find_tiles(axes, len(y), first, tiles), strict=True
    ):
        image, plane, row, column = place
        starts = int(grid.rows[row]), int(grid.columns[column])
        rows, columns = (
            _within(start - low, grid.cells, apart, size)
            for start, low, apart, size in zip(
                starts, grid.low, grid.apart, y.shape[3:], strict=True
            )
        )
        y[image, :, plane, rows[1], columns[1]] = tile[:, rows[0], columns[0]]


def _within(start: int, cells: int, apart: int, size: int) -> tuple[slice, slice]:
    """Which of some cells, the first at `start`, lie in an array of this size, and where."""
    first = max(0, -(start // apart))
    last = max(first, min(cells, -((start - size) // apart)))
    return slice(first, last), slice(start + first * apart, start + last * apart, apart)


def winograd_weight_grad(sums: Array, dw: Array, stride: int = 1, /) -> None:
    """dw (f, c, 1, 3, 3) = G^T sums G for sums (36, f, >= c)."""
    gt = MATRICES[kind_of(dw.shape[3], stride)].G.T.astype(sums.dtype)
    points = gt.shape[1]
    tiles = sums[:, :, : dw.shape[1]].transpose(1, 2, 0)
    dw[:, :, 0] = gt @ tiles.reshape(*dw.shape[:2], points, points) @ gt.T


def winograd_filters(w: Array, v: Array, stride: int = 1, /) -> None:
    """v (36, KD * C, F or more), a panel, = G w G^T for w (F, C, KD, 3, 3), of any strides; zero
    past the last."""
    g = MATRICES[kind_of(w.shape[3], stride)].G.astype(w.dtype)
    filters, channels, depth = w.shape[:3]
    for tap in range(depth):
        done = (g @ w[:, :, tap] @ g.T).reshape(filters, channels, len(v))
        v[:, tap * channels : (tap + 1) * channels, :filters] = done.transpose(2, 1, 0)
    v[:, :, filters:] = 0


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
    together: int,
    progress: Counters,
    memory: Array,
    rings: bool = False,
    /,
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
            winograd_filters(w[first:last], part, int(axes[1, 2]))

    first_phase(progress, len(filters), transform, rings)
    for t in second_phase(progress, len(tiles), from_back=not rings):
        first, count = int(tiles[t, 0]), int(tiles[t, 1] - tiles[t, 0])
        u = _input(x, axes, first, count)
        m = (u[:, None] @ _met(v, len(u))).swapaxes(1, 2).reshape(len(u), count, -1)
        winograd_output(m, b, y, axes, first)


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
    span: int,
    progress: Counters,
    taken: Counters,
    memory: Array,
    rings: bool = False,
    /,
) -> None:
    """The same for few tiles and many filters: first all tiles are transformed into u (36, KD * C
    * tiles or more), by blocks of channels, then blocks of filters, unless these are in v (36,
    panels, KD * C, rows), each block in one panel. `progress` counts the blocks of channels that
    were taken and that are done, `taken` those of filters."""
    total, depth, all_channels = _count(x, axes), w.shape[2], w.shape[1] * w.shape[2]
    tiles = u[:, : all_channels * total].reshape(len(u), total, all_channels)
    by_tap = tiles.reshape(len(u), total, depth, -1)

    def transform(t: int) -> None:
        part = slice(*channels[t])
        by_tap[..., part] = _input(x[:, part], axes, 0, total).reshape(len(u), total, depth, -1)

    first_phase(progress, len(channels), transform, rings)
    for t in all_tasks(taken, len(filters), from_back=not rings):
        part = slice(*filters[t])
        if v is not None:
            rows = v.shape[3]
            panel = v[:, part.start // rows]
            mine = panel[:, :, part.start % rows : (part.stop - 1) % rows + 1]
        else:
            weights = len(_matrices(axes).G) ** 2
            mine = np.empty((weights, all_channels, part.stop - part.start), w.dtype)
            winograd_filters(w[part], mine, int(axes[1, 2]))
        bias = None if b is None else b[part]
        winograd_output(tiles @ _met(mine, len(u)), bias, y[:, part], axes, 0)


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
    /,
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

    first_phase(progress, len(parts), add_up, rings, from_back=not rings)
    for t in second_phase(progress, len(channels), from_back=not rings):
        part = slice(*channels[t])
        by_tap = sums[..., :filters].reshape(*sums.shape[:2], dw.shape[2], -1, filters)
        _output_sums(by_tap[:, :, :, part].sum(0), dw[:, part], axes)


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
    /,
) -> None:
    """The same where dw is large, for consecutive blocks of tiles: blocks of channels are summed in
    sums (36, KD * C * F and more), or in memory of their own if that has no columns. `add` says
    that there were tiles before these, `last` that there are none after them."""
    depth, filters = dw.shape[2], dy.shape[1]
    # dy is transformed where it is multiplied.
    first_phase(progress, len(blocks), lambda _: None, rings)
    for t in second_phase(progress, len(channels), from_back=not rings):
        part = slice(*channels[t])
        total = _products(dy, x[:, part], axes, int(tiles[0, 0]), int(tiles[-1, 1]))
        total = total.reshape(len(sums), depth, -1, filters)
        if sums.shape[1]:
            view = sums[:, : depth * x.shape[1] * filters].reshape(len(sums), depth, -1, filters)
            kept = view[:, :, part]
            kept[:] = kept + total if add else total
            total = kept
        if last:
            _output_sums(total, dw[:, part], axes)


def _products(dy: Array, x: Array, axes: Integers, start: int, stop: int) -> Array:
    """The sum over tiles of U @ D, (36, KD * C, F); and over those that meet the same plane."""
    u = _input(x, axes, start, stop - start)
    d = _of_output_grad(dy, axes, start, stop - start)
    parts = [slice(first, first + LONG_SUM) for first in range(0, stop - start, LONG_SUM)]
    products: Array = np.sum([u[:, part].swapaxes(1, 2) @ d[:, part] for part in parts], axis=0)
    weights = len(_matrices(axes).G) ** 2
    if weights == len(products):
        return products
    sums = np.zeros((weights, *products.shape[1:]), x.dtype)
    np.add.at(sums, MET, products)
    return sums


def _output_sums(sums: Array, dw: Array, axes: Integers) -> None:
    """dw (F, C, KD, 3, 3) = G^T sums G for sums (36, KD, C, F)."""
    for tap in range(dw.shape[2]):
        of_tap = dw[:, :, tap : tap + 1]
        winograd_weight_grad(sums[:, tap].swapaxes(1, 2), of_tap, int(axes[1, 2]))
