"""What lowering and pointwise share: the matrix products of a tile.

With the columns of a tile, ``cols`` of shape (groups, C/groups * taps, positions), the three passes
are products with the weights (groups, F/groups, C/groups * taps) and with the tile of y or dy,
(groups, F/groups, positions).

BLAS copies ("packs") its operands into an order of its own, which takes as long as the product
where few filters meet few taps. OpenBLAS leaves that out for small matrices; so such a product is
made in blocks of positions, in one stacked call. Where weights are many, as in what Winograd
multiplies or images with their channels last, blocks of rows may do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from cyconv import kernels, threads
from cyconv.geometry import Geometry
from cyconv.outline import Outline, counted, made_of
from cyconv.scratch import scratch
from cyconv.tiling import Share, Tile, length
from cyconv.types import Array

if TYPE_CHECKING:
    from cyconv.plan import Plan


# Slots of a thread's scratch memory.
COLS, IMAGES, PRODUCT = range(3)
# A product whose rows are as many as this gains nothing from having more of them.
LONG_SIDE = 256
# OpenBLAS packs nothing up to this many multiply-adds. Blocks of that size took, on one core,
# 0.4 to 0.5 of the time for 6 filters and 25 taps or 16 and 144, 0.7 to 0.9 for 64 and 27 or 32
# and 144.
UNPACKED = 1_000_000
# Blocks of fewer positions than this, as for more than 7,812 weights, take longer than all at once:
# of 48 positions, for 64 filters and 256 channels of 1x1, 1.2 to 1.8 times as long, and of 112, for
# 64 and 128, up to 1.15 times.
SHORTEST = 128
# Images of fewer positions than this lie beside each other, to be one product.
FEW_POSITIONS = 48
# Blocks of rows are read as they lie, and pay where the other operand is larger, too: on one core,
# 256 rows and channels by 64 tiles took 0.7 of the time in float32 and 0.85 in float64; 64 and 256
# by 64, 0.8 and 0.7; 3136 rows of 64 by 256, 0.9; 1000 of 1024 by 8, 0.7 and 0.55. But with kernels
# that pack whatever they get (OpenBLAS's for Haswell, on the same core) the first were 1.3, 1.3 and
# 1.1; with rows of 384 or 512 in the other operand 1.1 to 1.5; and with rows that lie across, up to
# 1.3. Blocks of both rows and columns, for all products, gained in a loop and lost in layers. Sums
# over rows took 0.6 of the time for 16 x 96 weights, 0.85 for 64 x 64, 1.2 for 64 x 96.
FEWEST_ROWS, WIDEST, FEW_SUMS = 24, 256, 5_000
# Each block of a sum has a product of its own, which is added up. With so few weights, the time
# went to 0.4 (25 filters and 27 taps) or 0.75 (16 and 75); with more it did not change. In float64
# this bounds the other products, too: 64 filters and 27 taps took 1.15 times as long in blocks. So
# it does with kernels that pack whatever they get, of which the same took 1.2 times as long, and 64
# and 64 of 1x1 1.1 to 1.3 times.
FEW_WEIGHTS = 1_250


def as_matrices(w: Array, g: Geometry) -> Array:
    """The weights as a matrix a group: (groups, F/groups, C/groups * taps)."""
    return w.reshape(g.groups, g.group_filters, g.group_channels * g.taps)


def block_of(w: Array, channels: slice, g: Geometry) -> Array:
    """The part of such matrices that meets a block of the channels: some columns of the only
    group, or some whole groups."""
    if g.groups == 1:
        return w[:, :, channels.start * g.taps : channels.stop * g.taps]
    return w[_groups_of(channels, g)]


def _groups_of(channels: slice, g: Geometry) -> slice:
    return slice(channels.start // g.group_channels, channels.stop // g.group_channels)


def filters_of(channels: slice, g: Geometry) -> slice:
    """The filters that read a block of the channels: all of the only group's, or whole groups'."""
    if g.groups == 1:
        return slice(0, g.filters)
    groups = _groups_of(channels, g)
    return slice(groups.start * g.group_filters, groups.stop * g.group_filters)


def beside_shape(channels: int, tile: Tile) -> tuple[int, int, int]:
    """The shape of the images of a tile, next to each other: (channels, images, positions)."""
    number = tile.last - tile.first
    return channels, number, tile.positions // number


def beside_items(channels: int, tile: Tile, block: int) -> int:
    """What that takes; nothing where images are used where they are."""
    return 0 if tile.single or apart(tile, block) else math.prod(beside_shape(channels, tile))


def block_length(plan: Plan) -> int:
    """How many positions at a time the weights of a group should meet; 0 for all at once."""
    return unpacked(plan.geometry.group_weights, plan.dtype.itemsize)


def unpacked(weights: int, itemsize: int, multiply_adds: int = UNPACKED) -> int:
    """The same for so many weights, and products of at most so many multiply-adds."""
    limit = UNPACKED // SHORTEST if itemsize == 4 else FEW_WEIGHTS
    if weights > limit or (weights > FEW_WEIGHTS and not threads.small_unpacked()):
        return 0
    return _whole_vectors(multiply_adds, weights)


def product(a: Array, b: Array, out: Array) -> None:
    """Write a @ b, for stacks of matrices: few weights in blocks of positions, else by rows."""
    block = unpacked(a.shape[-2] * a.shape[-1], a.itemsize)
    positions = b.shape[-1]
    if not 0 < block < positions:
        _product_by_rows(a, b, out)
        return
    number = -(-positions // block)
    if positions % number == 0:  # one call, without a rest
        block = positions // number
    end = positions // block * block
    np.matmul(a[..., None, :, :], _in_blocks(b, block, end), out=_in_blocks(out, block, end))
    if end < positions:
        np.matmul(a, b[..., end:], out=out[..., end:])


def _in_blocks(matrices: Array, block: int, end: int) -> Array:
    """The columns up to `end` as a stack of blocks: (..., blocks, rows, block)."""
    stack = matrices[..., :end].reshape(*matrices.shape[:-1], -1, block)
    return stack.swapaxes(-2, -3)


def _product_by_rows(a: Array, b: Array, out: Array) -> None:
    rows = a.shape[-2]
    block = rows_at_a_time(rows, *b.shape[-2:]) if a.strides[-1] == a.itemsize else 0
    if not block:
        np.matmul(a, b, out=out)
        return
    end = rows // block * block
    np.matmul(_in_rows(a, block, end), b[..., None, :, :], out=_in_rows(out, block, end))
    if end < rows:
        np.matmul(a[..., end:, :], b, out=out[..., end:, :])


def rows_at_a_time(count: int, height: int, width: int) -> int:
    """How many of so many rows should meet height x width matrices at a time; 0 for all at once."""
    most = UNPACKED // (height * width)
    if not FEWEST_ROWS <= most < count or not 1 < width <= WIDEST or not threads.small_unpacked():
        return 0
    return -(-count // -(-count // most))


def summed_at_a_time(weights: int) -> int:
    """How many products of columns and rows should be added to so many weights at a time."""
    small = weights <= FEW_SUMS and threads.small_unpacked()
    return _whole_vectors(UNPACKED, weights) if small else 0


def _whole_vectors(multiply_adds: int, weights: int) -> int:
    """How many positions so many weights meet in so many multiply-adds."""
    return multiply_adds // weights // 16 * 16


def _in_rows(matrices: Array, block: int, end: int) -> Array:
    """The rows up to `end` as a stack of blocks: (..., blocks, block, columns)."""
    *stack, _, columns = matrices.shape
    return matrices[..., :end, :].reshape(*stack, -1, block, columns)


def apart(tile: Tile, block: int) -> bool:
    """Whether the products of a tile's images are made apart, straight from and to where they are:
    what is done in blocks of positions anyway need not lie beside each other."""
    return not tile.single and block > 0 and length(tile.span) >= FEW_POSITIONS


def as_taken(cols: Array, tile: Tile, block: int) -> Array:
    """The columns of a tile, (groups, rows, positions), as `take` gives what they are multiplied
    with: where images are apart, (images, groups, rows, positions)."""
    if not apart(tile, block):
        return cols
    groups, rows, _ = cols.shape
    return cols.reshape(groups, rows, tile.last - tile.first, -1).transpose(2, 0, 1, 3)


def multiply(
    plan: Plan, w: Array, cols: Array, b: Array | None, y: Array, tile: Tile, block: int
) -> None:
    """Write the tile of y = w @ cols + b, where y is (N, F, positions) and cols are as taken.

    One image is written straight into y, and so are several that are multiplied apart; else several
    are one product, copied to their places.
    """
    groups, filters, _ = w.shape
    if tile.single or apart(tile, block):
        out = _as_it_is(y, slice(None), tile, groups)
        product(w, cols, out)
        if b is not None:
            place = y[tile.images, :, tile.span]
            kernels.run.add_bias(place, b, place)
        return
    beside = scratch(PRODUCT, beside_shape(groups * filters, tile), y.dtype)
    out = beside.reshape(groups, filters, tile.positions)
    product(w, cols, out)
    images = beside.swapaxes(0, 1)
    if b is None:
        y[tile.images] = images
    else:
        kernels.run.add_bias(images, b, y[tile.images])


def _as_it_is(y: Array, channels: slice, tile: Tile, groups: int) -> Array:
    """The tile of some channels of y (N, C, positions) as a view: (groups, channels/groups,
    positions), with an axis of the images before that where they are several."""
    if tile.single:
        return y[tile.first, channels].reshape(groups, -1, y.shape[2])[:, :, tile.span]
    return y[tile.images, channels].reshape(tile.last - tile.first, groups, -1, y.shape[2])


def take(
    y: Array, channels: slice, tile: Tile, groups: int, block: int, slot: int = IMAGES
) -> Array:
    """The tile of some channels of y (N, C, positions) as (groups, channels/groups, positions), or
    where images are apart, with an axis of them before that."""
    if tile.single or apart(tile, block):
        return _as_it_is(y, channels, tile, groups)
    part = y[tile.images, channels].swapaxes(0, 1)
    images = scratch(slot, beside_shape(len(part), tile), y.dtype)
    images[:] = part
    return images.reshape(groups, -1, tile.positions)


def sum_products(plan: Plan, columns: Callable[[Share, Tile], Array], dy: Array, dw: Array) -> None:
    """Fill dw with the sum over all tiles of dy tile @ cols.T, for dy (N, F, positions).

    Each part of the tiles has an accumulator of its own; they are added in order, so that the sum
    does not depend on who computed what. BLAS works best with the larger side in the rows.
    """
    g = plan.geometry
    parts: Sequence[Sequence[Share]] = plan.tiles
    shape = (g.groups, g.group_filters, g.group_channels * g.taps)
    block = sum_block_length(plan)
    turned = shape[2] > shape[1] < LONG_SIDE
    sums = np.empty((len(parts), shape[0], *(shape[:0:-1] if turned else shape[1:])), dw.dtype)
    # The accumulators by filter, whichever way they lie.
    by_filter = sums.swapaxes(2, 3) if turned else sums
    shares = [(block_of(by_filter[i], s.channels, g), s) for i, p in enumerate(parts) for s in p]

    def task(index: int) -> None:
        total, share = shares[index]
        for tile in share.tiles:
            left = take(dy, filters_of(share.channels, g), tile, len(total), block)
            right, out = columns(share, tile), total
            if turned:
                left, right, out = right, left, total.swapaxes(1, 2)
            add_product(left, right, out, block, first=tile is share.tiles[0])

    threads.run(task, len(shares), plan.seconds, blas=True)
    with threads.quiet():
        for part in sums[1:]:
            sums[0] += part
    dw.reshape(shape)[...] = by_filter[0]


def sum_block_length(plan: Plan) -> int:
    """As `block_length`, for a sum over positions."""
    return block_length(plan) if plan.geometry.group_weights <= FEW_WEIGHTS else 0


def add_product(left: Array, right: Array, out: Array, block: int, *, first: bool) -> None:
    """Add left @ right.T, for stacks of matrices, to `out`, or write it there."""
    product_of = product_over(left.shape[-1])
    if block:
        part = _sum_blocks(left, right, block)
    elif first:
        product_of(left, right.swapaxes(1, 2), out=out)
        return
    else:
        memory = scratch(PRODUCT, out.shape, out.dtype)
        part = product_of(left, right.swapaxes(1, 2), out=memory)
    if first:
        out[...] = part
    else:
        out += part


def product_over(length: int) -> np.ufunc:
    """What multiplies columns by rows of this length: np.matmul has no BLAS for an outer product,
    and takes 3.5 times as long."""
    return np.multiply if length == 1 else np.matmul


def _sum_blocks(left: Array, right: Array, block: int) -> Array:
    """left @ right.T as a sum over blocks of positions and, where images are apart, over these."""
    end = left.shape[-1] // block * block
    total: Array = np.matmul(left[..., end:], right[..., end:].swapaxes(-2, -1))
    if end:
        left, right = (_in_blocks(a, block, end) for a in (left, right))
        parts = scratch(PRODUCT, (*left.shape[:-1], right.shape[-2]), left.dtype)
        np.matmul(left, right.swapaxes(-2, -1), out=parts)
        total += parts.sum(axis=-3)
    return total if total.ndim == 3 else total.sum(axis=0)


def _met_by(channels: slice, g: Geometry) -> int:
    """How many weights meet a block of the channels."""
    by_filter = length(channels) if g.groups == 1 else g.group_channels
    return length(filters_of(channels, g)) * by_filter * g.taps


def _blocks_of(tile: Tile, block: int) -> int:
    """How many products of a tile of a sum are added up."""
    number = tile.last - tile.first if apart(tile, block) else 1
    return number * (1 + tile.positions // number // block)


def outline_sum(plan: Plan, columns: Callable[[Share, Tile], int]) -> tuple[str, int, int, int]:
    """In words what such a sum goes through, the number of its shares, and items of memory: all
    accumulators, and what a thread takes, with so many for the columns of a tile."""
    g = plan.geometry
    shares = [share for part in plan.tiles for share in part]
    tiles = max(len(share.tiles) for share in shares)
    channels = max(length(share.channels) for share in shares)
    block = sum_block_length(plan)
    copies = max(
        columns(share, tile)
        + beside_items(length(filters_of(share.channels, g)), tile, block)
        + (_blocks_of(tile, block) * _met_by(share.channels, g) if block else 0)
        for share in shares
        for tile in share.tiles
    )
    # A tile after the first is multiplied into memory of its own, and then added.
    product = max((not block and len(s.tiles) > 1) * _met_by(s.channels, g) for s in shares)
    longest = max(tile.positions for share in shares for tile in share.tiles)
    words = (
        f"{made_of(len(shares), 'share', tiles, 'tile')} (of up to {counted(longest, 'position')} "
        f"of {counted(channels, 'channel')})"
    )
    return words, len(shares), len(plan.tiles) * math.prod(g.w_shape), copies + product


def outline_products(
    plan: Plan, module: str, method: str, words: str, tasks: int, shared: int, own: int
) -> Outline:
    """The outline of a pass that BLAS multiplies for."""
    return Outline(
        name="gemm",
        module=module,
        method=method,
        tiles=words,
        tasks=tasks,
        threads=threads.members(tasks, plan.seconds, blas=True),
        shared=shared,
        own=own,
    )
