"""Strided Winograd: space to depth, and then Winograd.

A convolution with stride s reads, with each tap, every s-th row and column of x. Sorted by their
remainders, these are s * s smaller images, side by side as channels, and the taps are sorted like
them: a convolution of stride 1, with s * s times the channels and a kernel of an s-th.

    x, stride 2     0 1 2 3 4 5 6 ...        x'  0 2 4 6 ...    1 3 5 ...
    5 taps          a b c d e                w'  a c e          b d -

So 5x5 with stride 2 or 11x11 with stride 4 are 3x3 convolutions, for which `winograd` takes a
quarter of the products, and 7x7 with stride 2 is a 4x4 one, for which it takes a fifth. Where taps
are no multiple of the stride, the last ones are zero.

    forward       y   = winograd's, of x' and w'
    input_grad    dx' = winograd's, whose cells go back to where x' has them from
    weight_grad   dw' = winograd's, whose taps likewise

Windows as large as their stride do not overlap: x' are the columns of such a convolution (im2col),
and the way back is col2im. They are made for a few megabytes of images at a time.
"""

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from cyconv import kernels, threads
from cyconv.algorithms import winograd
from cyconv.geometry import Geometry
from cyconv.outline import Outline, made_of
from cyconv.record import Record
from cyconv.scratch import scratch
from cyconv.tiling import PIECES, blocks, length, pieces
from cyconv.types import Array, Integers

if TYPE_CHECKING:
    from cyconv.plan import Plan


# A slot of the caller's scratch memory that winograd leaves free, and the bytes of x' there.
SORTED = 5
BLOCK_BYTES = 32 << 20
# What it takes to copy a cell of x (seconds).
PER_CELL = 5e-10


class Block(Record):
    """Some images, and what winograd's plan for them has in the place of this one's."""

    images: slice
    geometry: Geometry
    tiles: Any


class Work(Record):
    """Blocks of images, and the axes of the convolution whose columns they are; `reads` says
    whether it reads anything, or all of its windows lie in the padding."""

    blocks: tuple[Block, ...]
    axes: Integers
    reads: bool


def serves(g: Geometry) -> bool:
    return (
        g.stride[0] == 1
        and g.stride[1:] != (1, 1)
        and g.dilation[1:] == (1, 1)
        and g.groups == 1
        and _side(g, 1) == _side(g, 2)
        and 3 <= _side(g, 1) <= 4
    )


def _side(g: Geometry, axis: int) -> int:
    """How many taps w' has along an axis."""
    return -(-g.kernel[axis] // g.stride[axis])


def pays(g: Geometry, pass_: str, itemsize: int) -> bool:
    """Whether this beats direct and lowering: with 64 filters and 128 tiles, filled by the outputs.
    Measured: 11x11 with stride 4 and 96 filters took half to three quarters as long, an image alone
    as long or less, 5x5 with stride 2 from 64 channels to 128 filters three quarters; with 16 or 32
    filters, or few tiles, the copies of x and w took what was saved, or up to three times that.

    Of kernels of four strides, 32 filters do: 7x7 with stride 2 took half to three quarters as
    long. Without vectors, where x' has few channels, it took as long or a quarter longer up to
    768 tiles, and an input gradient, which has few filters then, on any number."""
    large = _side(g, 1) > 3
    filters, tiles = 32 if large else 64, 128
    if large and not kernels.VECTOR and pass_ != "weight_grad" and _sorted(g).channels < 32:
        if pass_ == "input_grad":
            return False
        tiles = 768
    if g.filters < filters or g.batch * g.positions < tiles * 16:
        return False
    return serves(g) and winograd.pays(_sorted(g), pass_, itemsize)


def _sorted(g: Geometry) -> Geometry:
    """The convolution of stride 1, over x'."""
    side = _side(g, 1)
    return g._replace(
        channels=g.channels * g.stride[1] * g.stride[2],
        size=(g.size[0], g.output[1] + side - 1, g.output[2] + side - 1),
        kernel=(g.kernel[0], side, side),
        stride=(1, 1, 1),
        low=(g.low[0], 0, 0),
    )


def tiles(g: Geometry, itemsize: int, pass_: str) -> Work:
    """What a pass goes through."""
    inner = _sorted(g)
    image_bytes = math.prod(inner.x_shape[1:]) * itemsize
    parts = blocks(g.batch, max(1, BLOCK_BYTES // image_bytes))
    by_number = {number: inner._replace(batch=number) for number in map(length, parts)}
    cut = {number: winograd.tiles(part, itemsize, pass_) for number, part in by_number.items()}
    depth, side = g.size[0], _side(g, 1)
    rows = [(depth, 1, 1, 1, 0, depth)]
    for axis in (1, 2):
        stride, low, output = g.stride[axis], g.low[axis], g.output[axis]
        read = (output - 1) * stride + g.kernel[axis] - low  # the cells beyond would be in windows
        rows.append((min(g.size[axis], read), stride, stride, 1, low, output + side - 1))
    return Work(
        blocks=tuple(
            Block(images=part, geometry=by_number[length(part)], tiles=cut[length(part)])
            for part in parts
        ),
        axes=np.array(rows, np.intp),
        reads=min(size for size, *_ in rows) > 0,
    )


def _inner(plan: "Plan", block: Block) -> "Plan":
    """Winograd's plan."""
    return plan.but(
        algorithm=winograd,
        geometry=block.geometry,
        tiles=block.tiles,
        seconds=plan.seconds * block.geometry.batch / plan.geometry.batch,
    )


def prepare(plan: "Plan", w: Array) -> Array:
    """What winograd keeps of w'."""
    return winograd.prepare(_inner(plan, plan.tiles.blocks[0]), _sort_taps(plan, w))


def forward(
    plan: "Plan", x: Array, w: Array, b: Array | None, y: Array, v: Array | None = None
) -> None:
    """Fill y (N, F, od, oh, ow) from x (N, C, d, h, w) and w (F, C, kd, kh, kw)."""
    taps = _sort_taps(plan, w, v)
    for block in plan.tiles.blocks:
        images = _sort(plan, block, x)
        winograd.forward(_inner(plan, block), images, taps, b, y[block.images], v)


def input_grad(plan: "Plan", dy: Array, w: Array, dx: Array, v: Array | None = None) -> None:
    """Fill dx (N, C, d, h, w) from dy (N, F, od, oh, ow)."""
    taps = _sort_taps(plan, w, v)
    for block in plan.tiles.blocks:
        images = _images(block, dx)
        winograd.input_grad(_inner(plan, block), dy[block.images], taps, images, v)
        _sort_back(plan, block, images, dx)


def weight_grad(plan: "Plan", dy: Array, x: Array, dw: Array) -> None:
    """Fill dw (F, C, kd, kh, kw) from dy (N, F, od, oh, ow) and x (N, C, d, h, w)."""
    cut: Work = plan.tiles
    taps = np.empty((min(2, len(cut.blocks)), *cut.blocks[0].geometry.w_shape), dw.dtype)
    for i, block in enumerate(cut.blocks):
        images, own = _sort(plan, block, x), taps[min(i, 1)]
        winograd.weight_grad(_inner(plan, block), dy[block.images], images, own)
        if i:
            with threads.quiet():
                taps[0] += own
    _sort_taps_back(plan, taps[0], dw)


def _images(block: Block, x: Array) -> Array:
    """Memory for x', (n, C sh sw, d, h', w')."""
    return scratch(SORTED, block.geometry.x_shape, x.dtype)


def _sort(plan: "Plan", block: Block, x: Array) -> Array:
    """x' of the images of a block."""
    images = _images(block, x)
    if plan.tiles.reads:
        _each_part(plan, x[block.images], images, kernels.run.im2col)
    else:
        images[...] = 0
    return images


def _sort_back(plan: "Plan", block: Block, images: Array, x: Array) -> None:
    """Fill the images of a block from x'."""

    def copy(cells: Array, columns: Array, axes: Integers) -> None:
        kernels.run.col2im(columns, cells, axes)

    x[block.images] = 0
    if plan.tiles.reads:
        _each_part(plan, x[block.images], images, copy)


def _each_part(plan: "Plan", x: Array, images: Array, copy: Any) -> None:
    """Call copy(cells, columns, axes) for parts of x and of x'."""
    (_, height, width), channels = plan.tiles.axes[:, 0], x.shape[1]
    windows = images.reshape(len(x), channels, images.shape[1] // channels, -1)
    parts = pieces(channels, -(-PIECES // len(x)))

    def each(index: int) -> None:
        image, part = index // len(parts), parts[index % len(parts)]
        cells = x[image : image + 1, part, :, :height, :width]
        columns = windows[image, part]
        copy(cells, columns.reshape(-1, columns.shape[-1]), plan.tiles.axes)

    threads.run(each, len(x) * len(parts), images.size * PER_CELL, blas=False)


def _sort_taps(plan: "Plan", w: Array, v: Array | None = None) -> Array:
    """w', (F, C sh sw, kd, side, side); without its values if winograd has kept what it needs."""
    g = plan.geometry
    (_, down, right), (depth, height, width), side = g.stride, g.kernel, _side(g, 1)
    shape = g.filters, g.channels * down * right, depth, side, side
    if v is not None:
        return np.empty(shape, w.dtype)
    whole = np.zeros((g.filters, g.channels, depth, side * down, side * right), w.dtype)
    whole[..., :height, :width] = w
    apart = whole.reshape(g.filters, g.channels, depth, side, down, side, right)
    return apart.transpose(0, 1, 4, 6, 2, 3, 5).reshape(shape)


def _sort_taps_back(plan: "Plan", taps: Array, dw: Array) -> None:
    g = plan.geometry
    (_, down, right), (depth, height, width), side = g.stride, g.kernel, _side(g, 1)
    apart = taps.reshape(g.filters, g.channels, down, right, depth, side, side)
    whole = apart.transpose(0, 1, 4, 5, 2, 6, 3)
    whole = whole.reshape(g.filters, g.channels, depth, side * down, side * right)
    dw[...] = whole[..., :height, :width]


def outline(plan: "Plan") -> Outline:
    """What a pass goes through and takes, for `describe`."""
    number = len(plan.tiles.blocks)
    largest: Block = max(plan.tiles.blocks, key=lambda block: length(block.images))
    inner = winograd.outline(_inner(plan, largest))
    words = inner.tiles
    if number > 1:
        words = f"{made_of(number, 'block', length(largest.images), 'image')}, each {words}"
    taps = (2 if plan.pass_ == "weight_grad" else 1) * math.prod(largest.geometry.w_shape)
    return inner.but(
        module="strided",
        method=f"space to depth, and {inner.method}",
        tiles=words,
        shared=inner.shared + math.prod(largest.geometry.x_shape) + taps,
    )
