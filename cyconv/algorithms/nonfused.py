"""Winograd step by step: kernels transform, and BLAS multiplies. What `fused` does in one call.

With U = B^T x B (36, tiles, C), V = G w G^T (36, C, F) and D = A dy A^T (36, tiles, F) the products
are U @ V, and D^T @ U for the weight gradient. So no operand is read across but in the sum, and
there it is the left one, which costs BLAS least: the sum over columns, D @ U^T with tiles in the
columns of both, took up to twice as long. Channels and filters in columns come in steps of WIDE,
zero past the last.

Transformed arrays live block by block in a worker's scratch memory. Where tiles are few and filters
many it is the other way round: the tiles are transformed once, and the filters block by block.

With a stride planes are the square that they are, 9 x 9 of tiles and 6 x 6 of filters, in which the
last row and column of filters meet the last four of tiles.
"""

import math
from typing import TYPE_CHECKING

import numpy as np

from cyconv import kernels, threads
from cyconv.algorithms.planes import (
    APART,
    WIDE,
    method,
    plane_items,
    planes_of,
    rounded,
    weight_planes_of,
)
from cyconv.algorithms.products import UNPACKED, product
from cyconv.geometry import Geometry
from cyconv.outline import Outline, counted, made_of
from cyconv.record import Record
from cyconv.scratch import scratch
from cyconv.tiling import PIECES, blocks, length, pieces
from cyconv.types import Array, Integers

if TYPE_CHECKING:
    from cyconv.plan import Plan


# Slots of a thread's scratch memory.
TILES, OTHER, FILTERS, SUMS, PRODUCT = range(5)
# Rows or columns of planes, of the squares that they are with a stride: the last of filters' meets
# four of tiles'. All in two parts, and one by one, the most work first.
HALVES = slice(0, 5), slice(5, 9)
EACH = slice(5, 9), *(slice(i, i + 1) for i in range(5))
# Blocks of tiles are in steps of this many.
STEP = 8
# A block of tiles, its input and output transformed, should stay in a core's cache (bytes), but is
# no smaller than so many: with 256 channels and filters 128 tiles took 1.2 times as long as 64, and
# in float64 32 did. Nor is it so large that BLAS packs what it need not: with 128 channels and
# filters, products of 56 tiles were 1.3 times as fast as those of 64; where it must, those of 96
# were 1.1 times as fast as those of 64. The sums of a weight gradient are of more.
BLOCK_BYTES = 2 << 20
BLOCK_TILES, SUM_TILES = 64, 128
FEWEST_TILES, PACKED_TILES = 48, 96
# Few tiles and many filters: it pays to transform filters block by block, next to their product.
FEW_TILES = 160
MANY_WEIGHTS = 128**2
BLOCK_FILTERS = 64
# Sums over more channels than this are made of sums of so many, which are more accurate: in one
# piece, 384 and more were off by 5.1e-6 of the largest value with some of OpenBLAS's kernels.
# With 4x4 kernels it is a quarter as many; and sums over tiles, in one piece off by 7.7e-6, are of
# so many.
LONG_CHANNELS = 256
LONG_TILES = 128
# The sum over tiles: where dw is large (or two thirds as wide, and tiles are few), both operands
# are transformed whole, a chunk (bytes) at a time, and workers take some of the planes of the
# product, whose sums (bytes) are of as many filters as there is room for: BLAS multiplies 256 rows
# half as fast again as 64. Where dw is small, they take tiles, so many that BLAS does not pack
# them: with 128 channels and filters on 28x28 that took 0.8 of the time. They sum in few parts,
# since to add these takes as long as the parts are far from cache: eight took 1.1 times as long.
LARGE_SUM, FEW_SUM = 129**2, 88**2
CHUNK_BYTES = 32 << 20
PRODUCT_BYTES = 20 << 20
SUM_PARTS = 4
# What it takes to transform a tile of a channel, and a weight (seconds; a third of it if the other
# workers had not read what is there); a share of such work should be this long, or the workers wait
# for each other more than they work.
PER_TILE, PER_WEIGHT = 1.5e-8, 1.3e-8
SHARE_SECONDS = 1e-4


# Some planes; with a stride, some rows and columns of the square that they are.
Where = slice | tuple[slice, slice]


class Blocks(Record):
    """Blocks of tiles, channels and filters, each a slice; `few` says which of the two ways."""

    few: bool
    large_products: bool  # which BLAS might spread over threads of its own
    planes: int  # of tiles
    weight_planes: int  # of filters
    stride: int
    depth: int  # taps along it
    met: tuple[Where, ...]  # planes that are multiplied at once
    shares: tuple[Where, ...]  # the same, for workers to take
    rows: int  # of V: channels; of a volume, as in U
    sums: tuple[slice, ...]  # parts of the rows
    row: int  # of U: channels in steps of WIDE, for each tap along the depth
    tiles: tuple[slice, ...]
    channels: tuple[slice, ...]
    filters: tuple[slice, ...]
    weights: tuple[slice, ...]  # filters again, to be transformed by themselves
    axes: Integers


def cut(g: Geometry, total: int, itemsize: int) -> Blocks:
    """The blocks of a forward pass over `total` tiles."""
    weights = g.kernel[0] * g.channels * g.filters
    few = total <= FEW_TILES and weights >= MANY_WEIGHTS
    limit = min(max(BLOCK_TILES, BLOCK_BYTES // _tile_bytes(g, itemsize)), UNPACKED // weights)
    limit = total if few else limit if limit >= FEWEST_TILES else PACKED_TILES
    filters = min(BLOCK_FILTERS, -(-g.filters // 2)) if few else BLOCK_FILTERS
    return _blocks(g, total, limit, filters, few=few)


def cut_sums(g: Geometry, total: int, itemsize: int) -> Blocks:
    """The blocks of a weight gradient over `total` tiles."""
    weights, tile_bytes = g.kernel[0] * g.channels * g.filters, _tile_bytes(g, itemsize)
    few = weights >= (FEW_SUM if total <= FEW_TILES else LARGE_SUM)
    limit = max(SUM_TILES, (CHUNK_BYTES if few else BLOCK_BYTES) // tile_bytes)
    if not few:
        half = -(-total // 2)
        limit = min(limit, UNPACKED // weights, half if half >= FEWEST_TILES else total)
    if planes_of(g) == 49 and itemsize == 4:
        limit = min(limit, LONG_TILES)
    filter_bytes = planes_of(g) * g.kernel[0] * g.channels * itemsize
    filters = max(BLOCK_FILTERS, PRODUCT_BYTES // filter_bytes)
    return _blocks(g, total, limit, filters, few=few, per_filter=total * PER_TILE)


def _tile_bytes(g: Geometry, itemsize: int) -> int:
    return planes_of(g) * itemsize * (g.kernel[0] * g.channels + g.filters)


def _blocks(
    g: Geometry, total: int, limit: int, filters: int, *, few: bool, per_filter: float = 0
) -> Blocks:
    """Blocks of so many tiles and filters, of which each takes so long (seconds) to transform, or
    as long as its weights."""
    depth, planes, strided = g.kernel[0], planes_of(g), g.stride[1] != 1
    of_tiles, of_filters = blocks(total, limit, STEP), blocks(g.filters, filters, WIDE)
    row = depth * rounded(g.channels)
    rows = g.channels if depth == 1 else row
    most = max(map(length, of_filters)) if few else g.filters
    largest = rounded(most) * row * max(map(length, of_tiles))
    return Blocks(
        few=few,
        large_products=largest > threads.SMALL_PRODUCT,
        planes=planes,
        weight_planes=weight_planes_of(g),
        stride=g.stride[1],
        depth=depth,
        met=_pairs(HALVES) if strided else (slice(0, planes),),
        shares=_pairs(EACH) if strided else pieces(planes, PIECES),
        rows=rows,
        row=row,
        sums=pieces(rows, -(-rows // (LONG_CHANNELS // 4 if planes == 49 else LONG_CHANNELS))),
        tiles=of_tiles,
        channels=_shares(g.channels, depth * total * PER_TILE),
        filters=of_filters,
        weights=_shares(g.filters, max(depth * g.channels * PER_WEIGHT, per_filter)),
        axes=g.axes(),
    )


def _shares(size: int, seconds: float) -> tuple[slice, ...]:
    """Cut what takes `seconds` each into shares that are worth handing out, of whole WIDE."""
    return pieces(size, max(1, min(PIECES, int(size * seconds / SHARE_SECONDS))), WIDE)


def _columns(part: slice) -> slice:
    """The columns of some channels or filters."""
    return slice(part.start, rounded(part.stop))


def _pairs(parts: tuple[slice, ...]) -> tuple[Where, ...]:
    return tuple((rows, columns) for rows in parts for columns in parts)


def _square(planes: Array) -> Array:
    """Planes of tiles or filters as the square that they are."""
    return planes.reshape(math.isqrt(len(planes)), -1, *planes.shape[1:])


Shape = tuple[int, int, int]


def _shapes(cut: Blocks, filters: int, tiles: int) -> tuple[Shape, Shape, Shape]:
    """Of V, U and their product (or D), for so many."""
    columns = rounded(filters)
    v, u = (cut.weight_planes, cut.rows, columns), (cut.planes, tiles, cut.row)
    return v, u, (cut.planes, tiles, columns)


def prepare(plan: "Plan", w: Array) -> Array:
    """The transformed filters, V, for w (F, C, KD, side, side)."""
    v = np.empty(_shapes(plan.tiles, len(w), 0)[0], w.dtype)
    _transform_filters(plan, w, v)
    return v


def _transform_filters(plan: "Plan", w: Array, v: Array) -> None:
    cut: Blocks = plan.tiles

    def transform(index: int) -> None:
        part = cut.weights[index]
        _turn_filters(cut, w[part], v[:, :, _columns(part)])

    threads.run(transform, len(cut.weights), len(w) * cut.rows * PER_WEIGHT, blas=False)


def _turn_filters(cut: Blocks, w: Array, v: Array) -> None:
    """Fill V of some filters, tap by tap along the depth."""
    step = cut.rows // cut.depth
    for tap in range(cut.depth):
        start, stop = tap * step, tap * step + w.shape[1]
        kernels.run.winograd_filters(w[:, :, tap : tap + 1], v[:, start:stop], cut.stride)
        v[:, stop : start + step] = 0


def _turn_input(cut: Blocks, x: Array, u: Array, first: int, start: int = 0) -> None:
    """Fill U of tiles of x from the `first` on, tap by tap along the depth; x has channels from
    `start` on."""
    step, columns = cut.row // cut.depth, rounded(x.shape[1])
    for tap in range(cut.depth):
        column = tap * step + start
        of_tap = u[:, :, column : column + columns]
        kernels.run.winograd_input(x, of_tap, cut.axes, first, tap)


def convolve(plan: "Plan", x: Array, w: Array, b: Array | None, y: Array, v: Array | None) -> None:
    """Fill y (N, F, od, oh, ow) from x (N, C, d, h, w) and w (F, C, KD, side, side), or from the
    transformed filters v."""
    run = _filters_in_blocks if plan.tiles.few else _tiles_in_blocks
    run(plan, x, w, b, y, v)


def _tiles_in_blocks(
    plan: "Plan", x: Array, w: Array, b: Array | None, y: Array, kept: Array | None
) -> None:
    cut: Blocks = plan.tiles
    v = kept
    if v is None:
        v = scratch(FILTERS, _shapes(cut, len(w), 0)[0], y.dtype, APART)
        _transform_filters(plan, w, v)

    def convolve(index: int) -> None:
        block = cut.tiles[index]
        _, of_tiles, of_product = _shapes(cut, len(w), length(block))
        u = scratch(TILES, of_tiles, y.dtype, APART)
        _turn_input(cut, x, u, block.start)
        m = scratch(OTHER, of_product, y.dtype, APART)
        _multiply(cut, u, v, m)
        kernels.run.winograd_output(m, b, y, cut.axes, block.start)

    threads.run(convolve, len(cut.tiles), plan.seconds, blas=cut.large_products)


def _filters_in_blocks(
    plan: "Plan", x: Array, w: Array, b: Array | None, y: Array, kept: Array | None
) -> None:
    cut: Blocks = plan.tiles
    count = cut.tiles[-1].stop
    u = scratch(FILTERS, _shapes(cut, len(w), count)[1], y.dtype, APART)

    def transform(index: int) -> None:
        part = cut.channels[index]
        _turn_input(cut, x[:, part], u, 0, part.start)

    def convolve(index: int) -> None:
        part = cut.filters[index]
        of_filters, _, of_product = _shapes(cut, length(part), count)
        if kept is None:
            v = scratch(TILES, of_filters, y.dtype, APART)
            _turn_filters(cut, w[part], v)
        else:
            v = kept[:, :, _columns(part)]
        m = scratch(OTHER, of_product, y.dtype, APART)
        _multiply(cut, u, v, m)
        bias = None if b is None else b[part]
        kernels.run.winograd_output(m, bias, y[:, part], cut.axes, 0)

    threads.run(transform, len(cut.channels), cut.row * count * PER_TILE, blas=False)
    threads.run(convolve, len(cut.filters), plan.seconds, blas=cut.large_products)


def _multiply(cut: Blocks, u: Array, v: Array, m: Array) -> None:
    """m (36, tiles, F) = u (36, tiles, C) @ v (36, C, F)."""
    if cut.stride == 1:
        _multiply_planes(cut, u, v, m)
        return
    u, v, m = map(_square, (u, v, m))
    for met in cut.met:
        _multiply_planes(cut, u[met], v[met], m[met])


def _multiply_planes(cut: Blocks, u: Array, v: Array, m: Array) -> None:
    first, *others = cut.sums
    product(u[..., first], v[..., first, :], m)
    for part in others:
        more = scratch(PRODUCT, m.shape, m.dtype)
        product(u[..., part], v[..., part, :], more)
        _add_to(m, more)


def _add_to(planes: Array, others: Array) -> None:
    """Add planes as rows, or NumPy would first copy what has both gaps and more axes."""
    shape = (*planes.shape[:-2], -1)
    rows, more = planes.reshape(shape), others.reshape(shape)
    for part in range(len(rows)) if rows.ndim > 2 else (slice(None),):
        rows[part] += more[part]


def sum_weight_grad(plan: "Plan", dy: Array, x: Array, dw: Array) -> None:
    """Fill dw (F, C, KD, side, side) from dy (N, F, od, oh, ow) and x (N, C, d, h, w)."""
    if plan.tiles.few:
        _sum_by_planes(plan, dy, x, dw)
    else:
        _sum_by_tiles(plan, dy, x, dw)


def _sum_by_planes(plan: "Plan", dy: Array, x: Array, dw: Array) -> None:
    """Transform both operands, a chunk of tiles at a time; workers multiply some planes each."""
    cut: Blocks = plan.tiles
    several = len(cut.tiles) > 1
    most = dw.shape[0] if several else max(map(length, cut.filters))
    sums = scratch(FILTERS, _of_sums(cut, most), dw.dtype, APART)
    for chunk in cut.tiles:
        u, d = _both(plan, dy, x, chunk)
        for part in cut.filters:
            own = sums[:, part] if several else sums[:, : length(part)]
            _add(plan, d[:, :, part], u, own, first=chunk is cut.tiles[0])
            if chunk is cut.tiles[-1]:
                _turn_back(plan, own, dw[part])


def _of_sums(cut: Blocks, filters: int) -> Shape:
    return cut.weight_planes, filters, cut.row


def _both(plan: "Plan", dy: Array, x: Array, chunk: slice) -> tuple[Array, Array]:
    """The transformed tiles of x, (36, tiles, C), and of dy, (36, tiles, F)."""
    cut: Blocks = plan.tiles
    _, of_tiles, of_grad = _shapes(cut, dy.shape[1], length(chunk))
    u = scratch(TILES, of_tiles, x.dtype, APART)
    d = scratch(OTHER, of_grad, x.dtype, APART)

    def transform(index: int) -> None:
        if index < len(cut.channels):
            part = cut.channels[index]
            _turn_input(cut, x[:, part], u, chunk.start, part.start)
        else:
            part = cut.weights[index - len(cut.channels)]
            of_part = d[:, :, _columns(part)]
            kernels.run.winograd_output_grad(dy[:, part], of_part, cut.axes, chunk.start)

    number = len(cut.channels) + len(cut.weights)
    seconds = (cut.row + dy.shape[1]) * length(chunk) * PER_TILE
    threads.run(transform, number, seconds, blas=False)
    return u, d


def _add(plan: "Plan", d: Array, u: Array, sums: Array, *, first: bool) -> None:
    """Add the products of a chunk to sums, (36, F, C), or begin them."""
    cut: Blocks = plan.tiles

    def add(index: int) -> None:
        _add_products(cut, cut.shares[index], d, u, sums, first=first)

    seconds = plan.seconds / len(cut.tiles) * d.shape[2] / plan.geometry.filters
    threads.run(add, len(cut.shares), seconds, blas=cut.large_products)


def _add_products(cut: Blocks, met: Where, d: Array, u: Array, sums: Array, *, first: bool) -> None:
    """Add them to some planes of sums, (36, F, C), or begin these; several may meet one of them."""
    if cut.stride == 1:
        _add_product(d[met], u[met], sums[met], first=first)
        return
    d, u, sums = (_square(planes)[met] for planes in (d, u, sums))
    down, across = (number // of for number, of in zip(u.shape, sums.shape[:2], strict=False))
    for i in range(down):
        for j in range(across):
            here = slice(i, None, down), slice(j, None, across)
            _add_product(d[here], u[here], sums, first=first and i == j == 0)


def _add_product(d: Array, u: Array, sums: Array, *, first: bool) -> None:
    if first:
        np.matmul(d.swapaxes(-2, -1), u, out=sums)
    else:
        more = scratch(PRODUCT, sums.shape, sums.dtype)
        _add_to(sums, np.matmul(d.swapaxes(-2, -1), u, out=more))


def _turn_back(plan: "Plan", sums: Array, dw: Array) -> None:
    """Fill dw, of some filters, from their sums."""
    cut: Blocks = plan.tiles
    shares = pieces(len(dw), len(cut.weights))

    def transform(index: int) -> None:
        part = shares[index]
        _turn_sums(cut, sums[:, part], dw[part])

    threads.run(transform, len(shares), len(dw) * cut.row * PER_WEIGHT, blas=False)


def _turn_sums(cut: Blocks, sums: Array, dw: Array) -> None:
    """Fill dw, of some filters, tap by tap along the depth."""
    step = cut.row // cut.depth
    for tap in range(cut.depth):
        of_tap = sums[:, :, tap * step : tap * step + step]
        kernels.run.winograd_weight_grad(of_tap, dw[:, :, tap : tap + 1], cut.stride)


def _parts(cut: Blocks) -> list[tuple[slice, ...]]:
    """The blocks of tiles of each accumulator."""
    return [cut.tiles[part] for part in pieces(len(cut.tiles), SUM_PARTS)]


def _sum_by_tiles(plan: "Plan", dy: Array, x: Array, dw: Array) -> None:
    """Workers take some of the blocks of tiles, and sum in accumulators of their own."""
    cut: Blocks = plan.tiles
    parts = _parts(cut)
    sums = scratch(SUMS, (len(parts), *_of_sums(cut, len(dw))), dw.dtype)

    def add(index: int) -> None:
        for block in parts[index]:
            _sum_block(cut, dy, x, block, sums[index], first=block is parts[index][0])

    threads.run(add, len(parts), plan.seconds, blas=cut.large_products)
    with threads.quiet():
        for part in sums[1:]:
            sums[0] += part
    _turn_sums(cut, sums[0], dw)


def _sum_block(cut: Blocks, dy: Array, x: Array, block: slice, sums: Array, *, first: bool) -> None:
    _, of_tiles, of_grad = _shapes(cut, dy.shape[1], length(block))
    u = scratch(TILES, of_tiles, x.dtype, APART)
    d = scratch(OTHER, of_grad, x.dtype, APART)
    _turn_input(cut, x, u, block.start)
    kernels.run.winograd_output_grad(dy, d, cut.axes, block.start)
    for met in cut.met:
        _add_products(cut, met, d[:, :, : dy.shape[1]], u, sums, first=first)


def outline(plan: "Plan") -> Outline:
    """What a pass goes through and takes, for `describe`."""
    cut: Blocks = plan.tiles
    g = plan.geometry.flipped() if plan.pass_ == "input_grad" else plan.geometry
    tiles, filters = max(map(length, cut.tiles)), max(map(length, cut.filters))
    v, u, m = (plane_items(*p) * n for n, *p in _shapes(cut, g.filters, tiles))
    some_v, _, some_m = (plane_items(*p) * n for n, *p in _shapes(cut, filters, tiles))
    count = len(cut.filters) if cut.few else len(cut.tiles)
    if plan.pass_ != "weight_grad":
        shared, own = (u, some_v + some_m) if cut.few else (v, u + m)
        if len(cut.sums) > 1:
            most = max(_planes_of(met) for met in cut.met)
            own += most * math.prod(_shapes(cut, filters if cut.few else g.filters, tiles)[2][1:])
    elif cut.few:
        count, several = len(cut.shares), len(cut.tiles) > 1
        planes, *some_sums = _of_sums(cut, filters)
        sums = g.filters * cut.row if several else math.prod(some_sums)
        shared = u + m + planes * plane_items(sums)
        own = max(_added(met, begun=several) for met in cut.shares) * math.prod(some_sums)
    else:
        count, total = len(_parts(cut)), math.prod(_of_sums(cut, g.filters))
        begun = len(cut.tiles) > count
        shared = count * total
        most = max(_added(met, begun=begun) for met in cut.met)
        own = u + m + most * total // cut.weight_planes
    side = 8 if cut.stride < 0 else 4
    words = f"{counted(cut.tiles[-1].stop, 'tile')} of {side}x{side} outputs, "
    words += made_of(len(cut.tiles), "block", tiles, "tile")
    if cut.few:
        words += f", {made_of(len(cut.filters), 'block', filters, 'filter')}"
    return Outline(
        name="winograd",
        module="winograd",
        method=method(plan.geometry, cut.planes, "matrix products"),
        tiles=words,
        tasks=count,
        threads=threads.members(count, plan.seconds, blas=cut.large_products),
        shared=shared,
        own=own,
    )


def _planes_of(met: Where) -> int:
    """How many planes of tiles that are."""
    return length(met) if isinstance(met, slice) else math.prod(map(length, met))


def _added(met: Where, *, begun: bool) -> int:
    """How many planes of sums, of which a square is 6 x 6, are added to those that have begun, or
    to others that several meet."""
    of = length(met) if isinstance(met, slice) else math.prod(len(range(6)[part]) for part in met)
    return of if begun or of < _planes_of(met) else 0
