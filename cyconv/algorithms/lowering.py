"""Lowering: im2col tile by tile, a matrix product, and back through col2im.

Any convolution on any machine. The columns of a tile, (C * taps, positions), hold under each output
position the cells that it reads; times the weights, (F, C * taps), they are the output. Columns
live for one tile in a worker's scratch memory, small enough to stay in cache, and are made again
in the backward pass: that is cheaper than keeping them.

    forward       y tile  = w @ im2col(x)           straight into y
    input_grad    dx     += col2im(w.T @ dy tile)   with stride 1 rather the forward pass over dy,
                                                    the kernel flipped, which needs no col2im
    weight_grad   dw     += dy tile @ im2col(x).T   tiles summed in a fixed order
"""

import math
from typing import TYPE_CHECKING, Any

from cyconv import kernels, threads
from cyconv.algorithms.products import (
    COLS,
    as_matrices,
    as_taken,
    beside_items,
    block_length,
    block_of,
    filters_of,
    multiply,
    outline_products,
    outline_sum,
    product,
    sum_block_length,
    sum_products,
    take,
)
from cyconv.geometry import Geometry
from cyconv.outline import Outline, counted, made_of
from cyconv.record import Record
from cyconv.scratch import scratch
from cyconv.tiling import (
    PIECES,
    Share,
    Tile,
    channel_blocks,
    cut,
    cut_overlapping,
    cut_sums,
    length,
    pieces,
    wanted_pieces,
)
from cyconv.types import Array

if TYPE_CHECKING:
    from cyconv.plan import Plan


# The columns of a tile, in bytes: enough that BLAS, which repacks the weights at each call, works
# at full speed, and few enough that they stay in cache.
COLUMN_BYTES = 3 << 20
# A sum over positions adds to an accumulator as large as dw after each tile, so its tiles are long
# in positions, and rather narrow in channels.
SUM_POSITIONS = 1024


# Where there are more filters than positions, the columns are made whole, and what is handed out
# are blocks of at least this many filters: each tile would read all of the weights again.
BLOCK_FILTERS = 16
# What it takes to copy a weight flipped, to lower a cell, and to add one back, in like units: which
# way an input gradient with stride 1 goes.
FLIP_COST, LOWER_COST, ADD_COST = 2.0, 0.15, 0.3


def serves(g: Geometry) -> bool:
    return True


class ByFilter(Record):
    """One tile of everything, lowered by blocks of channels and multiplied by blocks of filters."""

    tile: Tile
    channels: tuple[slice, ...]
    filters: tuple[slice, ...]


def tiles(g: Geometry, itemsize: int, pass_: str) -> Any:
    """What each pass goes through, in order: tiles, phases of shares, or parts of a sum."""
    cells = COLUMN_BYTES // itemsize
    rows = g.channels * g.taps
    if pass_ == "forward":
        if g.filters > g.batch * g.positions and g.groups == 1 and wanted_pieces(g) > 1:
            (tile,) = cut(g, g.batch * g.positions, 1)
            number = min(wanted_pieces(g), -(-g.filters // BLOCK_FILTERS))
            return ByFilter(
                tile=tile,
                channels=channel_blocks(g, PIECES),
                filters=pieces(g.filters, number),
            )
        return cut(g, cells // rows, wanted_pieces(g))
    if pass_ == "input_grad":
        if flips(g):
            return tiles(g.flipped(), itemsize, "forward")
        return cut_overlapping(g, cells // rows)
    positions = g.batch * g.positions
    number = -(-rows * min(SUM_POSITIONS, positions) // cells)
    return cut_sums(g, cells // -(-rows // number), number)


def flips(g: Geometry) -> bool:
    """Whether the input gradient is the forward pass of the flipped convolution: with stride 1,
    unless there is much more to flip and to lower than there would be to add back."""
    positions = g.batch * g.positions
    flip = g.filters * (FLIP_COST * g.group_channels + LOWER_COST * positions)
    return g.stride == (1, 1, 1) and flip <= ADD_COST * g.channels * positions


def flip(w: Array, g: Geometry) -> Array:
    """The weights of the flipped convolution: taps reversed, channels and filters swapped."""
    by_tap = w.reshape(g.groups, g.group_filters, g.group_channels, g.taps)
    return by_tap[..., ::-1].swapaxes(1, 2).reshape(g.flipped().w_shape)


def forward(plan: "Plan", x: Array, w: Array, b: Array | None, y: Array) -> None:
    """Fill y (N, F, od, oh, ow) from x (N, C, d, h, w) and w (F, C/groups, kd, kh, kw)."""
    g = plan.geometry
    _forward(plan, g, x, as_matrices(w, g), b, y)


def _forward(plan: "Plan", g: Geometry, x: Array, w: Array, b: Array | None, y: Array) -> None:
    flat = y.reshape(g.batch, g.filters, g.positions)
    block = block_length(plan)
    if isinstance(plan.tiles, ByFilter):
        _by_filter(plan, g, x, w, b, flat)
        return

    def task(index: int) -> None:
        tile = plan.tiles[index]
        cols = as_taken(_columns(g, x, slice(0, g.channels), tile), tile, block)
        multiply(plan, w, cols, b, flat, tile, block)

    threads.run(task, len(plan.tiles), plan.seconds, blas=True)


def _by_filter(plan: "Plan", g: Geometry, x: Array, w: Array, b: Array | None, y: Array) -> None:
    cut: ByFilter = plan.tiles
    block = block_length(plan)
    cols = scratch(COLS, _columns_shape(slice(0, g.channels), cut.tile, g), x.dtype)

    def lower(index: int) -> None:
        part = cut.channels[index]
        rows = cols[part.start * g.taps : part.stop * g.taps]
        kernels.run.im2col(x[:, part], rows, cut.tile.axes)

    def task(index: int) -> None:
        part = cut.filters[index]
        bias = None if b is None else b[part]
        multiply(plan, w[:, part], lowered, bias, y[:, part], cut.tile, block)

    lowered = as_taken(cols[None], cut.tile, block)
    threads.run(lower, len(cut.channels), cols.size * 2e-10, blas=False)
    threads.run(task, len(cut.filters), plan.seconds, blas=True)


def input_grad(plan: "Plan", dy: Array, w: Array, dx: Array) -> None:
    """Fill dx (N, C, d, h, w) from dy (N, F, od, oh, ow)."""
    g = plan.geometry
    if flips(g):
        flipped = g.flipped()
        _forward(plan, flipped, dy, as_matrices(flip(w, g), flipped), None, dx)
        return
    matrices = as_matrices(w, g)
    flat = dy.reshape(g.batch, g.filters, g.positions)
    if len(plan.tiles) > 1:
        dx[...] = 0  # else each share clears what only it adds to
    for shares in plan.tiles:
        _add_back(plan, flat, matrices, dx, shares)


def _add_back(plan: "Plan", dy: Array, w: Array, dx: Array, shares: tuple[Share, ...]) -> None:
    """Add to dx what comes back through some tiles of dy."""
    g = plan.geometry
    block = block_length(plan)

    def task(index: int) -> None:
        share = shares[index]
        part = block_of(w, share.channels, g).swapaxes(1, 2)
        if len(plan.tiles) == 1:
            dx[share.tiles[0].images, share.channels] = 0
        for tile in share.tiles:
            cols = scratch(COLS, _columns_shape(share.channels, tile, g), dx.dtype)
            dy_tile = take(dy, filters_of(share.channels, g), tile, len(part), block)
            out = as_taken(cols.reshape(len(part), -1, tile.positions), tile, block)
            product(part, dy_tile, out)
            kernels.run.col2im(cols, dx[tile.images, share.channels], tile.axes)

    seconds = plan.seconds / len(plan.tiles)
    threads.run(task, len(shares), seconds, blas=True)


def weight_grad(plan: "Plan", dy: Array, x: Array, dw: Array) -> None:
    """Fill dw (F, C/groups, kd, kh, kw) from dy (N, F, od, oh, ow) and x (N, C, d, h, w)."""
    g, block = plan.geometry, sum_block_length(plan)
    flat = dy.reshape(g.batch, g.filters, g.positions)

    def columns(share: Share, tile: Tile) -> Array:
        return as_taken(_columns(g, x, share.channels, tile), tile, block)

    sum_products(plan, columns, flat, dw)


def _columns(g: Geometry, x: Array, channels: slice, tile: Tile) -> Array:
    """The columns of a tile, (groups, C/groups * taps, positions), for some of the channels."""
    cols = scratch(COLS, _columns_shape(channels, tile, g), x.dtype)
    kernels.run.im2col(x[tile.images, channels], cols, tile.axes)
    groups = 1 if g.groups == 1 else length(channels) // g.group_channels
    return cols.reshape(groups, -1, tile.positions)


def _columns_shape(channels: slice, tile: Tile, g: Geometry) -> tuple[int, int]:
    return length(channels) * g.taps, tile.positions


def outline(plan: "Plan") -> Outline:
    """What a pass goes through and takes, for `describe`."""
    g = plan.geometry
    block = block_length(plan)
    if plan.pass_ == "forward":
        return _outline_forward(plan, g, 0)
    if plan.pass_ == "input_grad" and flips(g):
        return _outline_forward(plan, g.flipped(), math.prod(g.w_shape))

    def columns(share: Share, tile: Tile) -> int:
        return math.prod(_columns_shape(share.channels, tile, g))

    if plan.pass_ == "weight_grad":
        words, tasks, shared, own = outline_sum(plan, columns)
        return _outline(plan, "im2col by tiles, products with dy summed", words, tasks, shared, own)
    phases: tuple[tuple[Share, ...], ...] = plan.tiles
    pairs = [(share, tile) for shares in phases for share in shares for tile in share.tiles]
    own = max(columns(*pair) for pair in pairs)
    own += max(beside_items(length(filters_of(s.channels, g)), tile, block) for s, tile in pairs)
    channels = max(length(share.channels) for share, _ in pairs)
    longest = max(tile.positions for _, tile in pairs)
    words = f"{made_of(len(pairs), 'tile', longest, 'position')} of {counted(channels, 'channel')}"
    method = "matrix products, and col2im by tiles"
    return _outline(plan, method, words, max(map(len, phases)), 0, own)


def _outline_forward(plan: "Plan", g: Geometry, shared: int) -> Outline:
    block = block_length(plan)
    method = "im2col by tiles, and matrix products"
    if isinstance(plan.tiles, ByFilter):
        cut: ByFilter = plan.tiles
        shared += math.prod(_columns_shape(slice(0, g.channels), cut.tile, g))
        filters = max(map(length, cut.filters))
        words = f"1 tile of {counted(cut.tile.positions, 'position')}, "
        words += made_of(len(cut.filters), "block", filters, "filter")
        own = beside_items(filters, cut.tile, block)
        return _outline(plan, method, words, len(cut.filters), shared, own)
    tiles: tuple[Tile, ...] = plan.tiles
    own = max(math.prod(_columns_shape(slice(0, g.channels), tile, g)) for tile in tiles)
    own += max(beside_items(g.filters, tile, block) for tile in tiles)
    words = made_of(len(tiles), "tile", max(tile.positions for tile in tiles), "position")
    return _outline(plan, method, words, len(tiles), shared, own)


def _outline(plan: "Plan", method: str, tiles: str, tasks: int, shared: int, own: int) -> Outline:
    return outline_products(plan, "lowering", method, tiles, tasks, shared, own)
