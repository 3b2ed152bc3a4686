"""Winograd: 3x3 convolutions with stride 1 through 36 products a 4x4 tile instead of 144.

(And 4x4 through 49 instead of 256: with 49 planes below, where there are 36.)

F(4x4, 3x3) of Lavin and Gray (Fast Algorithms for Convolutional Neural Networks, 2015): tiles of x
and the filters are transformed, multiplied element by element, which over channels is 36 matrix
products, and the products transformed back.

    forward       y tiles = A^T [ U @ V ] A
    input_grad    the same over dy, with the kernel flipped and its channel axes swapped
    weight_grad   dw      = G^T [ sum over tiles of D^T @ U ] G, in a fixed order

with U = B^T x B (36, tiles, C), V = G w G^T (36, C, F) and D = A dy A^T (36, tiles, F). So no
operand is read across but in the sum, and there it is the left one, which costs BLAS least: the sum
over columns, D @ U^T with tiles in the columns of both, took up to twice as long. Channels and
filters in columns come in steps of WIDE, zero past the last.

With stride 2, where the kernels are 3x3, there are 81 planes of tiles and 36 of filters, of which
some meet several (why: kernels/fallback/matrices.py). With a dilation the cells of a tile are as
far apart as the taps, and other tiles, from neighbouring cells on, lie between them. A volume is a
matter of channels: each plane of the output has tiles, whose channels are those of the planes that
it reads, one for each tap of the kernel along the depth; so a 3x3x3 kernel takes 108 products for
432.

On the plain road transformed arrays live block by block in a worker's scratch memory. Where tiles
are few and filters many it is the other way round: the tiles are transformed once, and the filters
block by block. Of fixed filters, V is kept (`prepare`). On the fast road see `fused`.
"""

import math
from typing import TYPE_CHECKING

import numpy as np

from cyconv import kernels, threads
from cyconv.algorithms import fused
from cyconv.algorithms.products import UNPACKED, product
from cyconv.geometry import Geometry
from cyconv.outline import Outline, counted, made_of
from cyconv.record import Record
from cyconv.scratch import scratch
from cyconv.tiling import PIECES, blocks, length, pieces
from cyconv.types import Array, Integers

if TYPE_CHECKING:
    from cyconv.plan import Plan


# Kernels and strides, and the largest dilation: more of a row of a tile has no room when kernels
# transpose it.
SERVED = {((3, 3), (1, 1, 1)): 15, ((4, 4), (1, 1, 1)): 10, ((3, 3), (1, 2, 2)): 1}
# With a dilation, how full of outputs tiles are: 0.3 full, Winograd took 0.65 to 1.3 times as long
# as direct (weight gradients 1.2 to 1.5), 0.1 full two to three times; from 0.45 on 0.3 to 1.
FILLED = 0.4
# The same on the plain road, without a dilation, by the bytes of an item.
PLAIN_FILLED = {4: 0.25, 8: 0.39}
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
# them: with 128 channels and filters on 28x28 that took 0.8 of the time.
LARGE_SUM, FEW_SUM = 129**2, 88**2
CHUNK_BYTES = 32 << 20
PRODUCT_BYTES = 20 << 20
SUM_PARTS = 8
# What it takes to transform a tile of a channel, and a weight (seconds); a share of such work
# should be this long, or the workers wait for each other more than they work.
PER_TILE, PER_WEIGHT = 1.5e-8, 6e-9
SHARE_SECONDS = 1e-4


def serves(g: Geometry) -> bool:
    g = _with_one_stride(g)
    return max(g.dilation[1:]) <= SERVED.get((g.kernel[1:], g.stride), 0) and g.groups == 1


def _with_one_stride(g: Geometry) -> Geometry:
    """The same with that of the one axis for the other, if that has one output, and so stride 1."""
    strides = {s for s, o in zip(g.stride[1:], g.output[1:], strict=True) if o > 1}
    both = strides.pop() if len(strides) == 1 else 0
    return g._replace(stride=(g.stride[0], both, both)) if both else g


def pays(g: Geometry, pass_: str, itemsize: int) -> bool:
    """Whether Winograd beats lowering and direct.

    Measured in sqrt(C * F) * tiles, with tiles counted as the outputs would fill them: from 700 on,
    with three tiles (one image of 7x7; in float64 four) and 16 channels and filters, it took as
    long or half as long; with half as many tiles (5x5) 1.2 to 2 times as long; a weight gradient
    with nine 0.7 to 1 times, with six up to 1.3. With 4x4 kernels, where it saves more, 12 channels
    do, and 300 in five tiles (it took 0.5 to 0.9 times as long).

    On the plain road six tiles do (one image of 10x10), from 200 on: 0.7 to 1.1 times as long
    there, 0.3 to 0.6 from 700 on; with 12 to 15 channels or filters from 300 on, 0.8 to 1 times. A
    weight gradient takes 150: 0.6 to 0.9 times. With fewer channels it took 0.6 to 1.3 times as
    long, however many tiles there were. With 4x4 kernels three tiles do (one of 7x7), and 90: 0.6
    to 1 times. Of outputs of 2x2, which fill a quarter of a tile, it took 0.5 to 1 times as long,
    in float64 up to 1.4, where of 5x5 it took as long or half; of 1x1 2.5 times. Volumes took 0.35
    to 0.95, with as many tiles for each tap along the depth (with fewer up to 1.2), and dilated
    kernels 0.4 to 0.95. Of 16 channels and 256 filters (or the other way round) it took 0.5 to 1,
    of 16 and 512 1.2 to 1.7.

    In float32 it stays within the promised error, since long sums are cut: up to 2.6e-6 of the
    largest value with 512 to 2048 channels (4x4 3e-6).
    """
    g = _with_one_stride(g)
    if not serves(g):
        return False
    if g.stride != (1, 1, 1):
        return _strided_pays(g, pass_, itemsize)
    large, fewest = g.kernel[1] > 3, min(g.channels, g.filters)
    filled, each = g.batch * g.positions / 16, math.sqrt(g.channels * g.filters)
    if g.dilation[1:] != (1, 1) and filled < FILLED * count_tiles(g):
        return False
    if kernels.VECTOR:
        least, enough = (5, 300) if large else (4 if itemsize == 8 else 3, 700)
        if pass_ == "weight_grad":
            least = 9
        return fewest >= (12 if large else 16) and filled >= least and each * filled >= enough
    if filled < PLAIN_FILLED[itemsize] * count_tiles(g) or max(g.channels, g.filters) > 16 * fewest:
        return False
    least, enough = 6, 150 if pass_ == "weight_grad" else 200 if fewest >= 16 else 300
    if large:
        least, enough = 3, 90
    return fewest >= 12 and filled >= least * g.kernel[0] and each * filled >= enough


def _strided_pays(g: Geometry, pass_: str, itemsize: int) -> bool:
    """The same with stride 2, where the vector kernels beat direct, which skips no products and, of
    an input gradient, goes through four phases. Measured with 16 to 512 channels and filters, on
    8x8 to 112x112: with 32 channels, 2000 and 8 full tiles it took 0.6 to 1 times as long (0.65 to
    0.8 from 3000 on), with 16 up to 1.3; an input gradient 0.55 to 0.95 also with 16 and any number
    of them; a weight gradient 0.7 to 1 from 3000 and 24 tiles on, and below that up to 1.2. In
    float64 tiles that are three quarters full (7x7, 14x14) took 1.05 to 1.2 times as long for a
    weight gradient, and with AVX2 up to 1.3 for all.

    On the plain road 24 tiles of 16 to 128 channels and filters took 0.5 to 1.15 times as long, in
    the mean 0.87; with more channels, in float64 (0.7 to 1.4), with fewer tiles, and for a weight
    gradient (1 to 2) it is not worth it."""
    filled, each = g.batch * g.positions / 16, math.sqrt(g.channels * g.filters)
    if not kernels.VECTOR:
        some = min(g.channels, g.filters) >= 16 and max(g.channels, g.filters) <= 128
        return some and pass_ != "weight_grad" and itemsize == 4 and filled >= 24
    least, tiles, enough = {
        "forward": (32, 8.0, 2000), "input_grad": (16, 8.0, 0), "weight_grad": (32, 24.0, 3000),
    }[pass_]  # fmt: skip
    if itemsize == 8 and (pass_ == "weight_grad" or kernels.BUILD != "avx512"):
        tiles = max(tiles, 0.8 * count_tiles(g))
    return min(g.channels, g.filters) >= least and filled >= tiles and each * filled >= enough


def count_tiles(g: Geometry) -> int:
    """Tiles of 4x4 outputs, as far apart as the dilation is; of the input gradient of stride 2, of
    8x8, which begin with an odd one."""
    return g.batch * g.output[0] * _count_along(g, 1) * _count_along(g, 2)


def _count_along(g: Geometry, axis: int) -> int:
    if g.stride[axis] < 0:
        return -(-(g.output[axis] + 1 - g.low[axis] % 2) // 8)
    phases = min(g.dilation[axis], g.output[axis])
    return phases * -(-g.output[axis] // (4 * phases))


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


def tiles(g: Geometry, itemsize: int, pass_: str) -> Blocks | fused.Blocks | fused.Sums:
    g = _with_one_stride(g)
    if pass_ == "input_grad":
        return tiles(_flipped(g), itemsize, "forward")
    g = _read(g)
    total = count_tiles(g)
    if kernels.VECTOR:
        cut = fused.cut if pass_ == "forward" else fused.cut_sums
        return cut(g, total, itemsize)
    depth, planes = g.kernel[0], fused.planes_of(g)
    channels = depth * g.channels
    weights, tile_bytes = channels * g.filters, planes * itemsize * (channels + g.filters)
    if pass_ == "forward":
        few = total <= FEW_TILES and weights >= MANY_WEIGHTS
        limit = min(max(BLOCK_TILES, BLOCK_BYTES // tile_bytes), UNPACKED // weights)
        limit = total if few else limit if limit >= FEWEST_TILES else PACKED_TILES
    else:
        few = weights >= (FEW_SUM if total <= FEW_TILES else LARGE_SUM)
        limit = max(SUM_TILES, (CHUNK_BYTES if few else BLOCK_BYTES) // tile_bytes)
        if not few:
            half = -(-total // 2)
            limit = min(limit, UNPACKED // weights, half if half >= FEWEST_TILES else total)
        if planes > 36 and itemsize == 4:
            limit = min(limit, LONG_TILES)
    filters, share = BLOCK_FILTERS, channels * PER_WEIGHT
    if pass_ == "weight_grad":
        filters = max(BLOCK_FILTERS, PRODUCT_BYTES // (planes * itemsize * channels))
        share = max(share, total * PER_TILE)  # of filters, also where it is dy that is transformed
    elif few:
        filters = min(filters, -(-g.filters // 2))
    of_tiles, of_filters = blocks(total, limit, STEP), blocks(g.filters, filters, fused.WIDE)
    row = depth * fused.rounded(g.channels)
    most = max(map(length, of_filters)) if few else g.filters
    largest = fused.rounded(most) * row * max(map(length, of_tiles))
    rows, strided = g.channels if depth == 1 else row, g.stride[1] != 1
    return Blocks(
        few=few,
        large_products=largest > threads.SMALL_PRODUCT,
        planes=planes,
        weight_planes=fused.weight_planes_of(g),
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
        weights=_shares(g.filters, share),
        axes=g.axes(),
    )


def _read(g: Geometry) -> Geometry:
    """Without the cells of x past the last that an output reads (as there may be with a stride, or
    of dy, with more padding than taps), which would else be in the last tile, and a NaN there mark
    it."""
    height, width = (min(g.size[axis], max(1, _reach(g, axis))) for axis in (1, 2))
    return g._replace(size=(g.size[0], height, width))


def _reach(g: Geometry, axis: int) -> int:
    """How many cells there are up to the last that the last output reads."""
    last = g.output[axis] - 1
    if g.stride[axis] > 0:
        taps = g.kernel[axis] - 1
        return last * g.stride[axis] + taps * g.dilation[axis] + 1 - g.low[axis]
    return (last + 2 - g.low[axis]) // 2 + 1


def _flipped(g: Geometry) -> Geometry:
    """The convolution over dy that is the input gradient; of stride 2, with stride -2: two outputs
    for a step over dy."""
    return g.flipped()._replace(stride=(1, 1, 1) if g.stride == (1, 1, 1) else (1, -2, -2))


def _shares(size: int, seconds: float) -> tuple[slice, ...]:
    """Cut what takes `seconds` each into shares that are worth handing out, of whole WIDE."""
    return pieces(size, max(1, min(PIECES, int(size * seconds / SHARE_SECONDS))), fused.WIDE)


def _columns(part: slice) -> slice:
    """The columns of some channels or filters."""
    return slice(part.start, fused.rounded(part.stop))


def _pairs(parts: tuple[slice, ...]) -> tuple[Where, ...]:
    return tuple((rows, columns) for rows in parts for columns in parts)


def _square(planes: Array) -> Array:
    """Planes of tiles or filters as the square that they are."""
    return planes.reshape(math.isqrt(len(planes)), -1, *planes.shape[1:])


Shape = tuple[int, int, int]


def _shapes(cut: Blocks, filters: int, tiles: int) -> tuple[Shape, Shape, Shape]:
    """Of V, U and their product (or D), for so many."""
    columns = fused.rounded(filters)
    v, u = (cut.weight_planes, cut.rows, columns), (cut.planes, tiles, cut.row)
    return v, u, (cut.planes, tiles, columns)


def prepare(plan: "Plan", w: Array) -> Array:
    """The transformed filters of a pass, for `run` to take: V, (36, C, F), of the filters of the
    convolution that the pass is; on the fast road as `fused` has it."""
    filters = _filters(plan, w)
    if isinstance(plan.tiles, fused.Blocks):
        return fused.prepare(plan, filters)
    v = np.empty(_shapes(plan.tiles, len(filters), 0)[0], w.dtype)
    _transform_filters(plan, filters, v)
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
    step, columns = cut.row // cut.depth, fused.rounded(x.shape[1])
    for tap in range(cut.depth):
        column = tap * step + start
        of_tap = u[:, :, column : column + columns]
        kernels.run.winograd_input(x, of_tap, cut.axes, first, tap)


def forward(
    plan: "Plan", x: Array, w: Array, b: Array | None, y: Array, v: Array | None = None
) -> None:
    """Fill y (N, F, od, oh, ow) from x (N, C, d, h, w) and w (F, C, kd, 3, 3)."""
    _convolve(plan, x, _filters(plan, w), b, y, v)


def input_grad(plan: "Plan", dy: Array, w: Array, dx: Array, v: Array | None = None) -> None:
    """Fill dx (N, C, d, h, w) from dy (N, F, od, oh, ow)."""
    _convolve(plan, dy, _filters(plan, w), None, dx, v)


def _filters(plan: "Plan", w: Array) -> Array:
    """The filters of the convolution that a pass is."""
    if plan.pass_ == "forward":
        return w
    return w[:, :, ::-1, ::-1, ::-1].swapaxes(0, 1)


def _convolve(plan: "Plan", x: Array, w: Array, b: Array | None, y: Array, v: Array | None) -> None:
    x = _what_is_read(plan, x)
    if isinstance(plan.tiles, fused.Blocks):
        fused.convolve(plan, x, w, b, y, v)
    elif plan.tiles.few:
        _filters_in_blocks(plan, x, w, b, y, v)
    else:
        _tiles_in_blocks(plan, x, w, b, y, v)


def _what_is_read(plan: "Plan", x: Array) -> Array:
    size = tuple(plan.tiles.axes[1:, 0].tolist())
    return x if x.shape[3:] == size else x[..., : size[0], : size[1]]


def _tiles_in_blocks(
    plan: "Plan", x: Array, w: Array, b: Array | None, y: Array, kept: Array | None
) -> None:
    cut: Blocks = plan.tiles
    v = kept
    if v is None:
        v = scratch(FILTERS, _shapes(cut, len(w), 0)[0], y.dtype, fused.APART)
        _transform_filters(plan, w, v)

    def convolve(index: int) -> None:
        block = cut.tiles[index]
        _, of_tiles, of_product = _shapes(cut, len(w), length(block))
        u = scratch(TILES, of_tiles, y.dtype, fused.APART)
        _turn_input(cut, x, u, block.start)
        m = scratch(OTHER, of_product, y.dtype, fused.APART)
        _multiply(cut, u, v, m)
        kernels.run.winograd_output(m, b, y, cut.axes, block.start)

    threads.run(convolve, len(cut.tiles), plan.seconds, blas=cut.large_products)


def _filters_in_blocks(
    plan: "Plan", x: Array, w: Array, b: Array | None, y: Array, kept: Array | None
) -> None:
    cut: Blocks = plan.tiles
    count = cut.tiles[-1].stop
    u = scratch(FILTERS, _shapes(cut, len(w), count)[1], y.dtype, fused.APART)

    def transform(index: int) -> None:
        part = cut.channels[index]
        _turn_input(cut, x[:, part], u, 0, part.start)

    def convolve(index: int) -> None:
        part = cut.filters[index]
        of_filters, _, of_product = _shapes(cut, length(part), count)
        if kept is None:
            v = scratch(TILES, of_filters, y.dtype, fused.APART)
            _turn_filters(cut, w[part], v)
        else:
            v = kept[:, :, _columns(part)]
        m = scratch(OTHER, of_product, y.dtype, fused.APART)
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


def weight_grad(plan: "Plan", dy: Array, x: Array, dw: Array) -> None:
    """Fill dw (F, C, kd, 3, 3) from dy (N, F, od, oh, ow) and x (N, C, d, h, w)."""
    x = _what_is_read(plan, x)
    if isinstance(plan.tiles, fused.Sums):
        fused.sum_weight_grad(plan, dy, x, dw)
    elif plan.tiles.few:
        _sum_by_planes(plan, dy, x, dw)
    else:
        _sum_by_tiles(plan, dy, x, dw)


def _sum_by_planes(plan: "Plan", dy: Array, x: Array, dw: Array) -> None:
    """Transform both operands, a chunk of tiles at a time; workers multiply some planes each."""
    cut: Blocks = plan.tiles
    several = len(cut.tiles) > 1
    most = dw.shape[0] if several else max(map(length, cut.filters))
    sums = scratch(FILTERS, _of_sums(cut, most), dw.dtype, fused.APART)
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
    u = scratch(TILES, of_tiles, x.dtype, fused.APART)
    d = scratch(OTHER, of_grad, x.dtype, fused.APART)

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
    filters = len(dw)
    sums = scratch(SUMS, (len(parts), *_of_sums(cut, filters)), dw.dtype)

    def add(index: int) -> None:
        for block in parts[index]:
            _, of_tiles, of_grad = _shapes(cut, filters, length(block))
            u = scratch(TILES, of_tiles, dw.dtype, fused.APART)
            d = scratch(OTHER, of_grad, dw.dtype, fused.APART)
            _turn_input(cut, x, u, block.start)
            kernels.run.winograd_output_grad(dy, d, cut.axes, block.start)
            first, of_filters = block is parts[index][0], d[:, :, :filters]
            for met in cut.met:
                _add_products(cut, met, of_filters, u, sums[index], first=first)

    threads.run(add, len(parts), plan.seconds, blas=cut.large_products)
    with threads.quiet():
        for part in sums[1:]:
            sums[0] += part
    _turn_sums(cut, sums[0], dw)


def outline(plan: "Plan") -> Outline:
    """What a pass goes through and takes, for `describe`."""
    if not isinstance(plan.tiles, Blocks):
        return fused.outline(plan)
    cut: Blocks = plan.tiles
    g = plan.geometry.flipped() if plan.pass_ == "input_grad" else plan.geometry
    tiles, filters = max(map(length, cut.tiles)), max(map(length, cut.filters))
    v, u, m = (fused.plane_items(*p) * n for n, *p in _shapes(cut, g.filters, tiles))
    some_v, _, some_m = (fused.plane_items(*p) * n for n, *p in _shapes(cut, filters, tiles))
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
        shared = u + m + planes * fused.plane_items(sums)
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
        method=fused.method(plan.geometry, cut.planes, "matrix products"),
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
    """How many planes of sums are added at once to such as have begun, or to others."""
    of = length(met) if isinstance(met, slice) else math.prod(len(range(6)[part]) for part in met)
    return of if begun or of < _planes_of(met) else 0
