"""Small: what `lowering` and `pointwise` do for a few small images, in a few calls.

    forward       y  = w @ im2col(x) + b
    input_grad    dx = col2im(w.T @ dy), or with stride 1 rather the forward pass over dy
    weight_grad   dw = dy @ im2col(x).T

There is one tile, and nothing to hand out: what is left are these lines, with all sizes known
before. (To look them up takes some 10 us, longer than BLAS takes for 3 channels, 16 filters and
32x32; without that, forward, dx and dw went from 20, 27 and 25 us to 15, 19 and 13.) Nor is BLAS
held to one thread, which takes 6 us: products are in blocks of positions, each so small that it
keeps to one anyway.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from cyconv import kernels, threads
from cyconv.algorithms import lowering, pointwise
from cyconv.algorithms.products import (
    COLS,
    FEW_WEIGHTS,
    IMAGES,
    PRODUCT,
    product_over,
    unpacked,
)
from cyconv.arguments import native
from cyconv.geometry import Geometry
from cyconv.outline import Outline, made_of
from cyconv.scratch import scratch
from cyconv.types import Array, DType

if TYPE_CHECKING:
    from cyconv.plan import Plan


# So many multiply-adds where products are in blocks, and else as many as BLAS takes at once.
FEW_PRODUCTS = 1 << 20

# Of the arrays of a pass, and its result: it does all, and returns True.
Whole = Callable[[tuple[Any, ...], Array], bool]


def pays(g: Geometry, pass_: str, itemsize: int) -> bool:
    """Whether all products are such as BLAS makes on one thread, and few."""
    if pass_ == "input_grad" and _is_forward(g):
        g = g.flipped()
    if not 0 < g.multiply_adds <= FEW_PRODUCTS:
        return False
    if g.multiply_adds <= threads.SMALL_PRODUCT:
        return True
    few = pass_ != "weight_grad" or g.group_weights <= FEW_WEIGHTS
    return few and unpacked(g.group_weights, itemsize) > 0


def _is_forward(g: Geometry) -> bool:
    """Whether an input gradient is a forward pass over dy."""
    return pointwise.serves(g) or lowering.flips(g)


def tiles(g: Geometry, itemsize: int, pass_: str) -> Whole:
    """All of a pass, in one function."""
    dtype = np.dtype(f"f{itemsize}")
    if pass_ == "weight_grad":
        return _weight_grad(g, dtype)
    if pass_ == "forward":
        return _forward(g, dtype, _weights(g, dtype))
    if _is_forward(g):
        return _forward(g.flipped(), dtype, _flipped_weights(g, dtype))
    return _input_grad(g, dtype)


def forward(plan: Plan, x: Array, w: Array, b: Array | None, y: Array) -> None:
    """Fill y (N, F, od, oh, ow) from x (N, C, d, h, w) and w (F, C/groups, kd, kh, kw)."""
    plan.tiles((x, w, b), y)


def input_grad(plan: Plan, dy: Array, w: Array, dx: Array) -> None:
    """Fill dx (N, C, d, h, w) from dy (N, F, od, oh, ow)."""
    plan.tiles((dy, w), dx)


def weight_grad(plan: Plan, dy: Array, x: Array, dw: Array) -> None:
    """Fill dw (F, C/groups, kd, kh, kw) from dy (N, F, od, oh, ow) and x (N, C, d, h, w)."""
    plan.tiles((dy, x), dw)


def _forward(g: Geometry, dtype: DType, weights: Callable[[Array], Array]) -> Whole:
    """Of x, w and b; or, as its input gradient, of dy, w and perhaps a bias."""
    columns, parts = _columns(g, dtype), _parts(g, dtype)
    shape, single = _matrices(g, g.filters, g.positions), g.batch == 1
    by_image = g.batch, g.filters, g.positions
    by_filter = g.filters, g.batch, g.positions

    def multiply(arrays: tuple[Any, ...], y: Array) -> bool:
        x, w, *bias = arrays
        with threads.quiet():
            w, cols = weights(w), columns(x)
            out = y.reshape(shape) if single else scratch(PRODUCT, shape, dtype)
            for part in parts:
                np.matmul(w, cols[:, :, part], out=out[:, :, part])
            if single and (not bias or bias[0] is None):
                return True
            images, y = out.reshape(by_filter).swapaxes(0, 1), y.reshape(by_image)
            if bias and bias[0] is not None:
                kernels.run.add_bias(images, native(bias[0], dtype), y)
            else:
                y[...] = images
        return True

    return multiply


def _input_grad(g: Geometry, dtype: DType) -> Whole:
    """Of dy, w and, as a transposed convolution may have it, a bias."""
    weights, parts = _weights(g, dtype), _parts(g, dtype)
    beside = _beside(g, g.filters, dtype, IMAGES)
    columns, axes = _matrices(g, g.channels * g.taps, g.positions), g.axes()
    shape, cells = (columns[0] * columns[1], columns[2]), g.size[0] * g.size[1] * g.size[2]

    def add_back(arrays: tuple[Any, ...], dx: Array) -> bool:
        dy, w, *bias = arrays
        with threads.quiet():
            w, dy, cols = weights(w).swapaxes(1, 2), beside(dy), scratch(COLS, columns, dtype)
            for part in parts:
                np.matmul(w, dy[:, :, part], out=cols[:, :, part])
            dx = dx.reshape(g.x_shape)
            dx[...] = 0
            kernels.run.col2im(cols.reshape(shape), dx, axes)
            if bias and bias[0] is not None:
                images = dx.reshape(g.batch, g.channels, cells)
                kernels.run.add_bias(images, native(bias[0], dtype), images)
        return True

    return add_back


def _weight_grad(g: Geometry, dtype: DType) -> Whole:
    columns, parts = _columns(g, dtype), _parts(g, dtype)
    beside = _beside(g, g.filters, dtype, IMAGES)
    shape = g.groups, g.group_filters, g.group_channels * g.taps
    product_of = product_over(g.batch * g.positions)

    def add_up(arrays: tuple[Any, ...], dw: Array) -> bool:
        dy, x = arrays
        with threads.quiet():
            dy, cols, dw = beside(dy), columns(x).swapaxes(1, 2), dw.reshape(shape)
            first, *others = parts
            product_of(dy[:, :, first], cols[:, first], out=dw)
            for part in others:
                dw += product_of(dy[:, :, part], cols[:, part])
        return True

    return add_up


def _weights(g: Geometry, dtype: DType) -> Callable[[Array], Array]:
    """The weights as a matrix a group: (groups, F/groups, C/groups * taps)."""
    shape = g.groups, g.group_filters, g.group_channels * g.taps
    return lambda w: native(w, dtype).reshape(shape)


def _flipped_weights(g: Geometry, dtype: DType) -> Callable[[Array], Array]:
    """Those of the flipped convolution: (groups, C/groups, F/groups * taps)."""
    if g.taps == 1:
        matrices = _weights(g, dtype)
        return lambda w: matrices(w).swapaxes(1, 2)
    shape = g.groups, g.group_channels, g.group_filters * g.taps
    return lambda w: lowering.flip(native(w, dtype), g).reshape(shape)


def _columns(g: Geometry, dtype: DType) -> Callable[[Array], Array]:
    """The columns of images, (groups, C/groups * taps, N * positions)."""
    if pointwise.serves(g):
        return _beside(g, g.channels, dtype, COLS)
    axes, shape = g.axes(), _matrices(g, g.channels * g.taps, g.positions)
    whole = shape[0] * shape[1], shape[2]

    def columns(x: Array) -> Array:
        cols = scratch(COLS, whole, dtype)
        kernels.run.im2col(native(x, dtype).reshape(g.x_shape), cols, axes)
        return cols.reshape(shape)

    return columns


def _beside(g: Geometry, channels: int, dtype: DType, slot: int) -> Callable[[Array], Array]:
    """Images next to each other: (groups, channels/groups, N * positions)."""
    shape = _matrices(g, channels, g.positions)
    if g.batch == 1:
        return lambda images: images.reshape(shape)

    def beside(images: Array) -> Array:
        copy = scratch(slot, (channels, g.batch, g.positions), dtype)
        copy[...] = images.reshape(g.batch, channels, g.positions).swapaxes(0, 1)
        return copy.reshape(shape)

    return beside


def _matrices(g: Geometry, rows: int, positions: int) -> tuple[int, int, int]:
    return g.groups, rows // g.groups, g.batch * positions


def _parts(g: Geometry, dtype: DType) -> list[slice]:
    """Even blocks of the positions of all images, of whole vectors."""
    positions, weights = g.batch * g.positions, g.group_weights
    if positions * weights <= threads.SMALL_PRODUCT:
        return [slice(0, positions)]
    block = unpacked(weights, dtype.itemsize, threads.SMALL_PRODUCT)
    number = -(-positions // block)
    step = min(block, -(-positions // number // 16) * 16)
    return [slice(start, min(start + step, positions)) for start in range(0, positions, step)]


def outline(plan: Plan) -> Outline:
    """What a pass goes through and takes, for `describe`."""
    g, dtype = plan.geometry, plan.dtype
    weights = math.prod(g.w_shape)
    flipped = plan.pass_ == "input_grad" and _is_forward(g)
    own = weights if flipped and g.taps > 1 else 0
    g = g.flipped() if flipped else g
    positions, parts = g.batch * g.positions, _parts(g, dtype)
    several = g.batch > 1
    if not pointwise.serves(g):
        own += g.channels * g.taps * positions
    elif several:
        own += g.channels * positions
    if several:
        own += g.filters * positions
    if plan.pass_ == "weight_grad" and len(parts) > 1:
        own += weights
    method = "the image as it is" if pointwise.serves(g) else "im2col of all"
    if plan.pass_ == "input_grad" and not flipped:
        method = "col2im of all"
    words = made_of(len(parts), "block", parts[0].stop, "position")
    return Outline(
        name="gemm",
        module="small",
        method=f"{method}, and matrix products",
        tiles=words,
        tasks=1,
        threads=1,
        shared=0,
        own=own,
    )
