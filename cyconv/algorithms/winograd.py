"""Winograd: 3x3 convolutions with stride 1 through 36 products a 4x4 tile instead of 144.

(And 4x4 through 49 instead of 256: with 49 planes below, where there are 36.)

F(4x4, 3x3) of Lavin and Gray (Fast Algorithms for Convolutional Neural Networks, 2015): tiles of x
and the filters are transformed, multiplied element by element, which over channels is 36 matrix
products, and the products transformed back.

    forward       y tiles = A^T [ U @ V ] A
    input_grad    the same over dy, with the kernel flipped and its channel axes swapped
    weight_grad   dw      = G^T [ sum over tiles of D^T @ U ] G, in a fixed order

with U = B^T x B, V = G w G^T and D = A dy A^T.

With stride 2, where the kernels are 3x3, there are 81 planes of tiles and 36 of filters, of which
some meet several (why: kernels/fallback/matrices.py). With a dilation the cells of a tile are as
far apart as the taps, and other tiles, from neighbouring cells on, lie between them. A volume is a
matter of channels: each plane of the output has tiles, whose channels are those of the planes that
it reads, one for each tap of the kernel along the depth; so a 3x3x3 kernel takes 108 products for
432.

Without vectors it goes step by step, with BLAS for the products: `nonfused`. With them one call of
a kernel does all: `fused`. Of fixed filters, what is transformed is kept (`prepare`).
"""

import math
from typing import TYPE_CHECKING, Any

from cyconv import kernels
from cyconv.algorithms import fused, nonfused
from cyconv.geometry import Geometry
from cyconv.outline import Outline
from cyconv.types import Array

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


def tiles(g: Geometry, itemsize: int, pass_: str) -> nonfused.Blocks | fused.Blocks | fused.Sums:
    g = _with_one_stride(g)
    if pass_ == "input_grad":
        return tiles(_flipped(g), itemsize, "forward")
    g = _read(g)
    way: Any = fused if kernels.VECTOR else nonfused
    cut = way.cut if pass_ == "forward" else way.cut_sums
    made: nonfused.Blocks | fused.Blocks | fused.Sums = cut(g, count_tiles(g), itemsize)
    return made


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


def _way(plan: "Plan") -> Any:
    return nonfused if isinstance(plan.tiles, nonfused.Blocks) else fused


def prepare(plan: "Plan", w: Array) -> Array:
    """The transformed filters of a pass, for `run` to take, of the filters of the convolution that
    the pass is."""
    kept: Array = _way(plan).prepare(plan, _filters(plan, w))
    return kept


def forward(
    plan: "Plan", x: Array, w: Array, b: Array | None, y: Array, v: Array | None = None
) -> None:
    """Fill y (N, F, od, oh, ow) from x (N, C, d, h, w) and w (F, C, kd, 3, 3)."""
    _way(plan).convolve(plan, _what_is_read(plan, x), _filters(plan, w), b, y, v)


def input_grad(plan: "Plan", dy: Array, w: Array, dx: Array, v: Array | None = None) -> None:
    """Fill dx (N, C, d, h, w) from dy (N, F, od, oh, ow)."""
    _way(plan).convolve(plan, _what_is_read(plan, dy), _filters(plan, w), None, dx, v)


def weight_grad(plan: "Plan", dy: Array, x: Array, dw: Array) -> None:
    """Fill dw (F, C, kd, 3, 3) from dy (N, F, od, oh, ow) and x (N, C, d, h, w)."""
    _way(plan).sum_weight_grad(plan, dy, _what_is_read(plan, x), dw)


def _filters(plan: "Plan", w: Array) -> Array:
    """The filters of the convolution that a pass is."""
    if plan.pass_ == "forward":
        return w
    return w[:, :, ::-1, ::-1, ::-1].swapaxes(0, 1)


def _what_is_read(plan: "Plan", x: Array) -> Array:
    size = tuple(plan.tiles.axes[1:, 0].tolist())
    return x if x.shape[3:] == size else x[..., : size[0], : size[1]]


def outline(plan: "Plan") -> Outline:
    """What a pass goes through and takes, for `describe`."""
    found: Outline = _way(plan).outline(plan)
    return found
