"""What lowering and pointwise share: the matrix products of a tile.

With the columns of a tile, ``cols`` of shape (groups, C/groups * taps, positions), the three passes
are products with the weights (groups, F/groups, C/groups * taps) and with the tile of y or dy,
(groups, F/groups, positions).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from cyconv import threads
from cyconv.geometry import Geometry
from cyconv.outline import counted, made_of
from cyconv.tiling import Share, Tile, length
from cyconv.types import Array

if TYPE_CHECKING:
    from cyconv.plan import Plan


# Slots of a thread's scratch memory.
COLS, IMAGES, PRODUCT = range(3)
# A product whose rows are as many as this gains nothing from having more of them.
LONG_SIDE = 256


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


def beside_items(channels: int, tile: Tile) -> int:
    """What that takes; nothing if the tile is of one image, which is used where it is."""
    return 0 if tile.single else math.prod(beside_shape(channels, tile))


def multiply(w: Array, cols: Array, b: Array | None, y: Array, tile: Tile) -> None:
    """Write the tile of y = w @ cols + b, where y is (N, F, positions).

    One image is written straight into y; several are one product, copied to their places.
    """
    groups, filters, _ = w.shape
    if tile.single:
        out = y[tile.first].reshape(groups, filters, -1)[:, :, tile.span]
        np.matmul(w, cols, out=out)
        if b is not None:
            out += b.reshape(groups, filters, 1)
        return
    beside = threads.scratch(PRODUCT, beside_shape(groups * filters, tile), y.dtype)
    np.matmul(w, cols, out=beside.reshape(groups, filters, tile.positions))
    images = beside.swapaxes(0, 1)
    if b is None:
        y[tile.images] = images
    else:
        np.add(images, b.reshape(-1, 1), out=y[tile.images])


def take(y: Array, channels: slice, tile: Tile, groups: int, slot: int = IMAGES) -> Array:
    """The tile of some channels of y (N, C, positions) as (groups, channels/groups, positions)."""
    if tile.single:
        return y[tile.first, channels].reshape(groups, -1, y.shape[2])[:, :, tile.span]
    part = y[tile.images, channels].swapaxes(0, 1)
    images = threads.scratch(slot, beside_shape(len(part), tile), y.dtype)
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
    turned = shape[2] > shape[1] < LONG_SIDE
    sums = np.empty((len(parts), shape[0], *(shape[:0:-1] if turned else shape[1:])), dw.dtype)
    # The accumulators by filter, whichever way they lie.
    by_filter = sums.swapaxes(2, 3) if turned else sums
    shares = [(block_of(by_filter[i], s.channels, g), s) for i, p in enumerate(parts) for s in p]

    def task(index: int) -> None:
        total, share = shares[index]
        for tile in share.tiles:
            dy_tile = take(dy, filters_of(share.channels, g), tile, len(total))
            left, right = dy_tile, columns(share, tile).swapaxes(1, 2)
            out = total
            if turned:
                left, right, out = (a.swapaxes(1, 2) for a in (right, left, total))
            if tile is share.tiles[0]:
                np.matmul(left, right, out=out)
            else:
                out += np.matmul(left, right, out=threads.scratch(PRODUCT, out.shape, out.dtype))

    threads.run(task, len(shares), plan.seconds, blas=plan.large_products)
    with threads.quiet():
        for part in sums[1:]:
            sums[0] += part
    dw.reshape(shape)[...] = by_filter[0]


def _weights_of(channels: slice, g: Geometry) -> int:
    """How many weights meet a block of the channels."""
    by_filter = length(channels) if g.groups == 1 else g.group_channels
    return length(filters_of(channels, g)) * by_filter * g.taps


def outline_sum(plan: Plan, columns: Callable[[Share, Tile], int]) -> tuple[str, int, int, int]:
    """In words what such a sum goes through, the number of its shares, and items of memory: all
    accumulators, and what a thread takes, with so many for the columns of a tile."""
    g = plan.geometry
    shares = [share for part in plan.tiles for share in part]
    tiles = max(len(share.tiles) for share in shares)
    channels = max(length(share.channels) for share in shares)
    copies = max(
        columns(share, tile) + beside_items(length(filters_of(share.channels, g)), tile)
        for share in shares
        for tile in share.tiles
    )
    # A tile after the first is multiplied into memory of its own, and then added.
    product = max((len(s.tiles) > 1) * _weights_of(s.channels, g) for s in shares)
    longest = max(tile.positions for share in shares for tile in share.tiles)
    words = (
        f"{made_of(len(shares), 'share', tiles, 'tile')} (of up to {counted(longest, 'position')} "
        f"of {counted(channels, 'channel')})"
    )
    return words, len(shares), len(plan.tiles) * math.prod(g.w_shape), copies + product
