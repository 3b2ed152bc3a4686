"""Winograd from end to end in compiled kernels, its products made by the microkernel.

What `winograd` computes with BLAS, in one call a thread (kernels/winograd_blocks.pxi). Two ways:

    by tiles      all filters are transformed, by blocks; then each block of tiles of x is
                  transformed, multiplied by some filters at a time and transformed back, in cache
    by filters    where tiles are few and filters many: all tiles are transformed, by each thread
                  for itself or, if that is much, by blocks of channels; then each block of
                  filters is transformed, multiplied, and so on

Threads take blocks from common counters. Filters may come transformed ("frozen"): `prepare`.
"""

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from cyconv import kernels, threads
from cyconv.algorithms.planes import (
    APART,
    STRIDED_PLANES,
    WIDE,
    method,
    plane_items,
    planes_of,
    rounded,
    weight_planes_of,
)
from cyconv.geometry import Geometry
from cyconv.outline import Outline, counted, made_of
from cyconv.record import Record
from cyconv.scratch import scratch
from cyconv.tiling import PIECES, blocks, length, pieces
from cyconv.types import Array, Counters, Integers

if TYPE_CHECKING:
    from cyconv.plan import Plan


# Slots of a thread's scratch memory.
SHARED, OWN, TOTAL = range(3)
# Blocks of tiles, the microkernel's rows here, in steps of this many.
TILES = 8
# Filters of a panel, by the bytes of an item: with 16 registers that is whole threes of vectors:
# panels of 32 took 1.1 times as long, and so did those of 64, whose rows compete for the nearest
# cache. With 32 registers 32 and 48 were alike, but 32 divides what layers have; in float64, 32
# took 1.01 times as long as 16, and 1.04 to 1.15 with 256 channels.
ROWS = {4: 32, 8: 16} if kernels.BUILD == "avx512" else {4: 48, 8: 48}
# Tiles of a block. Up to 48 stay in the second cache from panel to panel, with a product (96 took
# 1.05 to 1.1 times as long, 32 and 64 1.02); of 16 channels or fewer, twice as many (48: 1.05).
# Not where a tile has channels of 1 KB or more, in all its taps along the depth: then panels and
# tiles come from further away each time, and as many tiles as 128 should meet a panel (96 took 1.05
# to 1.1 times as long), and panels of 256 bytes of filters one after another a plane of tiles (half
# as many took 1.02 to 1.08). With a stride, whose tiles have more than twice as many planes, 96
# tiles took 1.03 (float64 1.08) times as long as 40.
NARROW_COLUMNS, COLUMNS, WIDE_COLUMNS, STRIDED_COLUMNS = 96, 48, 128, 40
WIDE_BYTES, TOGETHER_BYTES = 1 << 10, 256
# By filters, channels of a panel that are transformed and multiplied before the next ones, while
# they are in the second cache: with all of 512 at once, one image of 14x14 took 1.4 times as long,
# eight of 7x7 1.2. What is multiplied is added up in memory each time, so twice as many where tiles
# are more (128 tiles: 1.07).
SPAN, SPAN_TILES = 128, 48
# The weight gradient: channels of a block.
CHANNELS = 32
# By filters (and the weight gradient by channels) where there are at most this many tiles and at
# least so many weights: with 32 channels and filters on 28x28, by tiles took three quarters as
# long, though one thread does it alone; with 64, a tenth longer. With a stride, 128 tiles by
# filters took 1.06 times as long as by tiles (AVX2 1.3), and 49 were alike.
FEW_TILES, STRIDED_FEW_TILES = 160, 64
MANY_WEIGHTS = 48**2
# By filters, tiles are transformed by each thread if they take so many bytes or less: those of
# another core would come from its cache line by line, and with 64 channels and filters on 28x28 or
# 14x14 two threads took 1.35 times as long so, with 512 on 7x7 1.05 times. With 5 to 9 MB it made
# no difference; with 42 MB, which then each thread needs, it took 1.3 times as long to transform
# them twice.
OWN_TILES = 8 << 20
# The weight gradient is summed by channels also where it is at least so large, with dy transformed
# in chunks of at most so many bytes; else by tiles, in parts. A block has at most so many tiles; by
# tiles those of a panel are of at most so many bytes (with 48 filters in float64, 96 tiles took
# 1.07 times as long as 48).
LARGE_SUM = 96**2
CHUNK_BYTES = 48 << 20
SUM_PARTS = 8
SUM_COLUMNS, PANEL_BYTES = 96, 18 << 10
# What it takes to transform a tile of a channel, and a weight (seconds); shares of such work should
# take at least SHARE_SECONDS.
PER_TILE, PER_WEIGHT = 1e-8, 4e-9
SHARE_SECONDS = 2e-5


class Blocks(Record):
    """Blocks as rows of (start, stop), and the sizes of memory; see the kernels."""

    few: bool
    planes: int  # of tiles
    weight_planes: int  # of filters
    axes: Integers
    tiles: Integers
    channels: Integers
    filters: Integers
    weights: Integers  # filters again, to be transformed by themselves
    columns: int
    span: int  # of channels
    together: int  # panels
    rows: int
    total: int
    # Items of the transformed filters, which threads share unless tiles are few; of the tiles,
    # which they share if that says so; and of their product.
    weight_items: int
    tile_items: int
    shares_tiles: bool
    product: int


def cut(g: Geometry, total: int, itemsize: int) -> Blocks:
    """The blocks of a forward pass over `total` tiles."""
    depth, planes, weight_planes = g.kernel[0], planes_of(g), weight_planes_of(g)
    strided = planes == STRIDED_PLANES
    few = total <= (STRIDED_FEW_TILES if strided else FEW_TILES)
    few = few and g.channels * g.filters >= MANY_WEIGHTS
    wide = depth * g.channels * itemsize >= WIDE_BYTES
    if strided:
        most = STRIDED_COLUMNS
    elif wide:
        most = WIDE_COLUMNS
    else:
        most = COLUMNS if depth * g.channels > WIDE else NARROW_COLUMNS
    tiles = blocks(total, total if few else most, TILES)
    columns = max(map(length, tiles))
    rows = _panel(g.filters, itemsize)
    filters = _in_panels(g.filters, rows)
    span, together = g.channels, 1
    if few:
        rows = max(rounded(length(part)) for part in filters)
        span = min(span, SPAN if total <= SPAN_TILES else 2 * SPAN)
        weight_items = weight_planes * plane_items(span, rows)
    else:
        panels = -(-g.filters // rows)
        if wide:
            together = min(panels, max(1, TOGETHER_BYTES // (rows * itemsize)))
        weight_items = weight_planes * plane_items(panels, depth * g.channels, rows)
    tile_items = planes * plane_items(columns, depth * rounded(g.channels))
    shares_tiles = few and tile_items * itemsize > OWN_TILES
    return Blocks(
        few=few,
        planes=planes,
        weight_planes=weight_planes,
        axes=g.axes(),
        tiles=_rows(tiles),
        channels=_shares(g.channels, shares_tiles * depth * total * PER_TILE),
        filters=_rows(filters),
        weights=_shares(g.filters, depth * g.channels * PER_WEIGHT),
        columns=columns,
        span=span,
        together=together,
        rows=rows,
        total=total,
        weight_items=weight_items,
        tile_items=tile_items,
        shares_tiles=shares_tiles,
        product=planes * plane_items(together * rows, columns),
    )


def _panel(filters: int, itemsize: int) -> int:
    """How many filters a panel has."""
    return min(ROWS[itemsize], rounded(filters))


def _in_panels(filters: int, panel: int) -> tuple[slice, ...]:
    """Blocks of filters for threads to take, each within a panel: an even number of whole panels,
    or halves of all, then halves of what is left. (Quarters of 64, with AVX-512 a vector each, took
    1.1 to 1.3 times as long.)"""
    most = min(panel, rounded(-(-filters // 2)))
    whole = filters // (2 * most) * 2 * most
    half = min(filters, whole + rounded(-(-(filters - whole) // 2)))
    bounds = {*range(0, whole, most), whole, half, *range(0, filters, panel), filters}
    return tuple(slice(*pair) for pair in itertools.pairwise(sorted(bounds)))


def _rows(parts: tuple[slice, ...]) -> Integers:
    return np.array([(part.start, part.stop) for part in parts], np.intp).reshape(-1, 2)


def _shares(size: int, seconds: float) -> Integers:
    """Cut what takes `seconds` each into shares that are worth handing out."""
    return _rows(pieces(size, max(1, min(PIECES, int(size * seconds / SHARE_SECONDS))), WIDE))


def prepare(plan: "Plan", w: Array) -> Array:
    """The transformed filters, (planes, panels, KD * C, rows), for w (F, C, KD, side, side)."""
    filters, channels, rows = len(w), w.shape[1] * w.shape[2], _panel(len(w), w.itemsize)
    v = np.empty((plan.tiles.weight_planes, -(-filters // rows), channels, rows), w.dtype)
    stride = int(plan.tiles.axes[1, 2])

    def transform(panel: int) -> None:
        kernels.run.winograd_filters(w[panel * rows : (panel + 1) * rows], v[:, panel], stride)

    threads.run(transform, v.shape[1], filters * channels * PER_WEIGHT, blas=False)
    return v


def convolve(plan: "Plan", x: Array, w: Array, b: Array | None, y: Array, v: Array | None) -> None:
    """Fill y (N, F, od, oh, ow) from x (N, C, d, h, w) and w (F, C, KD, side, side), or from the
    transformed filters v."""
    cut: Blocks = plan.tiles
    if cut.few:
        taken = np.zeros(1, np.longlong)
        own = cut.product + (cut.weight_items if v is None else 0)

        def tiles() -> tuple[Array, Counters]:
            """Room for the transformed ones, of all or of the thread that asks, and the counts of
            that phase."""
            shape = cut.planes, cut.tile_items // cut.planes
            return scratch(SHARED, shape, x.dtype), np.zeros(2, np.longlong)

        common = tiles() if cut.shares_tiles else None

        def work(rings: bool) -> None:
            memory = scratch(OWN, (own,), x.dtype)
            u, progress = common or tiles()
            kernels.run.winograd_by_filters(
                x, w, v, b, y, cut.axes, u, cut.channels, cut.filters, cut.span, progress, taken,
                memory, rings,
            )  # fmt: skip

        count = len(cut.filters)
    else:
        progress = np.zeros(3, np.longlong)
        panels = (cut.weight_planes, -(-len(w) // cut.rows), w.shape[1] * w.shape[2], cut.rows)
        given = v if v is not None else scratch(SHARED, panels, x.dtype, APART)
        weights = cut.weights if v is None else cut.weights[:0]

        def work(rings: bool) -> None:
            memory = scratch(OWN, (cut.tile_items + cut.product,), x.dtype)
            kernels.run.winograd_by_tiles(
                x, w, given, b, y, cut.axes, weights, cut.tiles, cut.columns, cut.together,
                progress, memory, rings,
            )  # fmt: skip

        count = len(cut.tiles)
    threads.drain(work, count, plan.seconds)


class Sums(Record):
    """The weight gradient: chunks of blocks of tiles, parts of the first, and blocks of channels
    and filters, as rows of (start, stop); tiles and filters in whole vectors."""

    few: bool
    planes: int
    weight_planes: int
    axes: Integers
    chunks: tuple[Integers, ...]
    parts: Integers
    channels: Integers
    filters: Integers
    width: int
    rows: int
    columns: int
    # Items: of what all threads share (accumulators of the parts, or dy transformed if few), of the
    # accumulators of all chunks, where there are several, and of what each thread has.
    shared: int
    sums: int
    own: int


def cut_sums(g: Geometry, total: int, itemsize: int) -> Sums:
    """The blocks of a weight gradient over `total` tiles."""
    depth, weights = g.kernel[0], g.channels * g.filters
    planes, weight_planes = planes_of(g), weight_planes_of(g)
    few = depth * weights >= (MANY_WEIGHTS if total <= FEW_TILES else LARGE_SUM)
    columns, panel = rounded(g.filters), _panel(g.filters, itemsize)
    limit = SUM_COLUMNS if few else min(SUM_COLUMNS, PANEL_BYTES // (panel * itemsize))
    tiles = blocks(total, limit, TILES)
    panels, width = -(-g.filters // panel), max(map(length, tiles))
    each = planes * itemsize * panels * panel * width
    number = -(-len(tiles) * each // CHUNK_BYTES) if few else 1
    chunks = [tiles[part] for part in pieces(len(tiles), number)]
    parts = pieces(len(tiles), SUM_PARTS)
    rows = g.channels
    shared, sums, own = len(parts) * weight_planes * depth * g.channels * columns, 0, 0
    if few:
        channels = blocks(g.channels, min(CHANNELS, -(-g.channels // 4)), TILES)
        rows = max(map(length, channels))
        shared = planes * plane_items(panels, max(c[-1].stop - c[0].start for c in chunks), panel)
        if len(chunks) > 1:
            sums = weight_planes * plane_items(depth * g.channels, columns)
        else:
            own = weight_planes * plane_items(depth * rows, columns)
    else:
        channels = pieces(g.channels, SUM_PARTS)
        own = planes * plane_items(width * panels, panel)
    return Sums(
        few=few,
        planes=planes,
        weight_planes=weight_planes,
        axes=g.axes(),
        chunks=tuple(map(_rows, chunks)),
        parts=_rows(parts),
        channels=_rows(channels),
        filters=_rows(blocks(g.filters, WIDE, WIDE)),
        width=width,
        rows=panel,
        columns=columns,
        shared=shared,
        sums=sums,
        own=planes * plane_items(width, rounded(rows)) + own,
    )


def sum_weight_grad(plan: "Plan", dy: Array, x: Array, dw: Array) -> None:
    """Fill dw (F, C, KD, side, side) from dy (N, F, od, oh, ow) and x (N, C, d, h, w)."""
    if plan.tiles.few:
        _sum_by_channels(plan, dy, x, dw)
    else:
        _sum_by_tiles(plan, dy, x, dw)


def _sum_by_tiles(plan: "Plan", dy: Array, x: Array, dw: Array) -> None:
    cut: Sums = plan.tiles
    sums = scratch(SHARED, (cut.shared,), dw.dtype)
    sums = sums.reshape(len(cut.parts), cut.weight_planes, -1, cut.columns)
    progress = np.zeros(3, np.longlong)

    def work(rings: bool) -> None:
        memory = scratch(OWN, (cut.own,), dw.dtype)
        kernels.run.winograd_sum_by_tiles(
            dy, x, sums, dw, cut.axes, cut.chunks[0], cut.parts, cut.channels, cut.width, cut.rows,
            progress, memory, rings,
        )  # fmt: skip

    threads.drain(work, len(cut.parts), plan.seconds)


def _sum_by_channels(plan: "Plan", dy: Array, x: Array, dw: Array) -> None:
    cut: Sums = plan.tiles
    chunks = len(cut.chunks)
    panels = -(-dw.shape[0] // cut.rows)
    sums = scratch(TOTAL, (cut.weight_planes, cut.sums // cut.weight_planes), dw.dtype)
    for i, tiles in enumerate(cut.chunks):
        total = int(tiles[-1, 1] - tiles[0, 0])
        d = scratch(SHARED, (cut.planes, panels, total, cut.rows), dw.dtype, APART)
        progress = np.zeros(3, np.longlong)

        def work(
            rings: bool, i: int = i, tiles: Integers = tiles, d: Array = d, progress: Any = progress
        ) -> None:
            memory = scratch(OWN, (cut.own,), dw.dtype)
            kernels.run.winograd_sum_by_channels(
                dy, x, d, sums, dw, cut.axes, cut.filters, tiles, cut.channels, cut.width,
                i > 0, i == chunks - 1, progress, memory, rings,
            )  # fmt: skip

        threads.drain(work, len(cut.channels), plan.seconds / chunks)


def outline(plan: "Plan") -> Outline:
    """What a pass goes through and takes, for `describe`."""
    cut: Blocks | Sums = plan.tiles
    if isinstance(cut, Blocks):
        total, few = cut.total, cut.few
        blocks, noun = (cut.filters, "filter") if few else (cut.tiles, "tile")
        shared, own = cut.weight_items, cut.tile_items + cut.product
        if few:
            shared, own = 0, shared + own
        if cut.shares_tiles:
            shared, own = cut.tile_items, own - cut.tile_items
    else:
        total, few = int(cut.chunks[-1][-1, 1]), cut.few
        shared, own = cut.shared + cut.sums, cut.own
        blocks, noun = (cut.channels, "channel") if few else (np.concatenate(cut.chunks), "tile")
    side = 8 if cut.axes[1, 2] < 0 else 4
    words = f"{counted(total, 'tile')} of {side}x{side} outputs, "
    words += made_of(len(blocks), "block", int((blocks[:, 1] - blocks[:, 0]).max()), noun)
    count = len(cut.parts) if isinstance(cut, Sums) and not few else len(blocks)
    chunks = len(cut.chunks) if isinstance(cut, Sums) else 1
    return Outline(
        name="winograd",
        module="winograd",
        method=f"{method(plan.geometry, cut.planes, 'products')}, made in registers",
        tiles=words,
        tasks=count,
        threads=threads.members(count, plan.seconds / chunks, blas=False),
        shared=shared,
        own=own,
    )
