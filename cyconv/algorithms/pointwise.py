"""Pointwise: a 1x1 convolution is a matrix product on the arrays as they are.

With one tap, stride 1 and no padding, the columns of an image are the image itself, (C, positions).
(With a stride they are every s-th cell of it: lowering, with one tap, copies just those.)

    forward       y tile  = w @ x tile         straight into y
    input_grad    dx tile = w.T @ dy tile      straight into dx
    weight_grad   dw     += dy tile @ x.T      tiles summed in a fixed order
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cyconv import threads
from cyconv.algorithms.products import (
    COLS,
    as_matrices,
    beside_items,
    block_length,
    multiply,
    outline_products,
    outline_sum,
    sum_block_length,
    sum_products,
    take,
)
from cyconv.geometry import Geometry
from cyconv.outline import Outline, made_of
from cyconv.tiling import PIECES, Share, Tile, cut, cut_sums, length, pieces, wanted_pieces
from cyconv.types import Array

if TYPE_CHECKING:
    from cyconv.plan import Plan


# The part of x and y that a tile touches, in bytes. Nothing is copied, so tiles only need to be
# few enough for BLAS to work at full speed, and as many as there is work to share.
TILE_BYTES = 8 << 20
# Images with fewer positions than this are copied next to each other, to be one product.
SMALL_IMAGE = 128
# All accumulators of a sum, in bytes: where dw is large there are fewer, for blocks of channels.
SUM_BYTES = 2 << 20


def serves(g: Geometry) -> bool:
    return g.kernel == g.stride == (1, 1, 1) and g.size == g.output and g.low == (0, 0, 0)


def tiles(g: Geometry, itemsize: int, pass_: str) -> Any:
    """What each pass goes through, in order: tiles of some filters, or parts of a sum."""
    made = g.channels if pass_ == "input_grad" else g.filters
    if pass_ != "weight_grad" and g.groups == 1 and made > g.batch * g.positions:
        # The weights are larger than the arrays: each piece reads a part of them, and all of x.
        (tile,) = cut(g, g.batch * g.positions, 1)
        return [(tile, part) for part in pieces(made, wanted_pieces(g))]
    limit = max(SMALL_IMAGE, TILE_BYTES // itemsize // (g.channels + g.filters))
    if g.positions >= SMALL_IMAGE:
        limit = min(limit, g.positions)
    if pass_ == "weight_grad":
        number = -(-PIECES * g.filters * g.group_channels * itemsize // SUM_BYTES)
        return cut_sums(g, limit, min(number, PIECES // 2))
    return [(tile, slice(0, made)) for tile in cut(g, limit, wanted_pieces(g))]


def forward(plan: Plan, x: Array, w: Array, b: Array | None, y: Array) -> None:
    """Fill y (N, F, d, h, w) from x (N, C, d, h, w) and w (F, C/groups, 1, 1, 1)."""
    _multiply_all(plan, as_matrices(w, plan.geometry), x, b, y)


def input_grad(plan: Plan, dy: Array, w: Array, dx: Array) -> None:
    """Fill dx (N, C, d, h, w) from dy (N, F, d, h, w)."""
    _multiply_all(plan, as_matrices(w, plan.geometry).swapaxes(1, 2), dy, None, dx)


def _multiply_all(plan: Plan, w: Array, x: Array, b: Array | None, y: Array) -> None:
    g, block = plan.geometry, block_length(plan)
    x = x.reshape(g.batch, -1, g.positions)
    y = y.reshape(g.batch, -1, g.positions)

    def task(index: int) -> None:
        tile, part = plan.tiles[index]
        rows = w if len(w) > 1 else w[:, part]
        bias = None if b is None else b[part]
        cols = take(x, slice(None), tile, g.groups, block)
        multiply(plan, rows, cols, bias, y[:, part], tile, block)

    threads.run(task, len(plan.tiles), plan.seconds, blas=True)


def weight_grad(plan: Plan, dy: Array, x: Array, dw: Array) -> None:
    """Fill dw (F, C/groups, 1, 1, 1) from dy (N, F, d, h, w) and x (N, C, d, h, w)."""
    g, block = plan.geometry, sum_block_length(plan)
    x = x.reshape(g.batch, -1, g.positions)

    def columns(share: Share, tile: Tile) -> Array:
        groups = 1 if g.groups == 1 else length(share.channels) // g.group_channels
        return take(x, share.channels, tile, groups, block, COLS)

    sum_products(plan, columns, dy.reshape(g.batch, -1, g.positions), dw)


def outline(plan: Plan) -> Outline:
    """What a pass goes through and takes, for `describe`."""
    g = plan.geometry
    shared = 0
    if plan.pass_ == "weight_grad":

        def columns(share: Share, tile: Tile) -> int:
            return beside_items(length(share.channels), tile, sum_block_length(plan))

        words, tasks, shared, own = outline_sum(plan, columns)
        method = "matrix products of the arrays as they are, summed"
    else:
        read = g.channels if plan.pass_ == "forward" else g.filters
        block = block_length(plan)
        tasks = len(plan.tiles)
        own = max(beside_items(read, tile, block) for tile, _ in plan.tiles)
        own += max(beside_items(length(part), tile, block) for tile, part in plan.tiles)
        longest = max(tile.positions for tile, _ in plan.tiles)
        words = made_of(tasks, "tile", longest, "position")
        words += f", up to {max(length(part) for _, part in plan.tiles):,} rows each"
        method = "a matrix product of the arrays as they are"
    return outline_products(plan, "pointwise", method, words, tasks, shared, own)
