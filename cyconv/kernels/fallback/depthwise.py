"""Depthwise and grouped convolution in NumPy: the definition of the compiled kernels.

The loop goes over taps only: for one tap, the cells read by all positions are a strided slice of x.
Channels are seen as (group, channel of the group), so that one product serves all groups.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cyconv.kernels.fallback.lowering import each_tap
from cyconv.kernels.fallback.waiting import all_tasks, ring
from cyconv.types import Array, Counters, Integers


def depthwise_forward(
    x: Array,
    w: Array,
    b: Array | None,
    y: Array,
    axes: Integers,
    tasks: Integers | None = None,
    taken: Counters | None = None,
    rings: bool = False,
    /,
) -> None:
    """Fill y (n, F, od, oh, ow) from x (n, C, d, h, w), w (F, C/groups, kd, kh, kw) and b (F,) or
    None: all of it, or the tasks that are left to take, counted in `taken`. A task is a row of
    (first image, last image, first group, last group)."""
    groups = x.shape[1] // w.shape[1]
    ring(rings)
    if tasks is not None:
        assert taken is not None
        for images, channels, filters in _shares(tasks, taken, rings, x, w):
            bias = None if b is None else b[filters]
            part = y[images, filters]
            depthwise_forward(x[images, channels], w[filters], bias, part, axes)
        return
    y[:] = 0 if b is None else b.reshape(-1, 1, 1, 1)
    for (_, *tap, _, od, oh, ow), cells in each_tap(axes):
        weights = w[:, :, *tap].reshape(groups, -1, w.shape[1])
        read = _by_group(x[cells], groups)
        products = np.einsum("gfc,ngcdhw->ngfdhw", weights, read)
        y[:, :, od, oh, ow] += products.reshape(y[:, :, od, oh, ow].shape)


def depthwise_pair(
    x: Array,
    even_w: Array,
    odd_w: Array,
    y: Array,
    even_axes: Integers,
    odd_axes: Integers,
    /,
) -> None:
    """Two convolutions of x (n, C, d, h, w), one into the even columns of y (n, F, od, oh, ow), one
    into the odd ones."""
    depthwise_forward(x, even_w, None, y[..., ::2], even_axes)
    depthwise_forward(x, odd_w, None, y[..., 1::2], odd_axes)


def depthwise_spread(
    dy: Array,
    w: Array,
    dx: Array,
    axes: Integers,
    tasks: Integers | None = None,
    taken: Counters | None = None,
    rings: bool = False,
    /,
) -> None:
    """Fill dx (n, C, d, h, w), with the gradient of depthwise_forward, from dy (n, C, od, oh, ow)
    and w (C, 1, kd, kh, kw): all of it, or the tasks that are left to take."""
    ring(rings)
    if tasks is not None:
        assert taken is not None
        for images, channels, _ in _shares(tasks, taken, rings, dx, w):
            depthwise_spread(dy[images, channels], w[channels], dx[images, channels], axes)
        return
    dx[:] = 0
    for (_, *tap, _, od, oh, ow), cells in each_tap(axes):
        dx[cells] += w[:, :1, *tap, None, None] * dy[:, :, od, oh, ow]


def depthwise_spreads(axes: Integers, itemsize: int, /) -> bool:
    """Whether `depthwise_spread` is for this convolution."""
    return bool((axes[1:, 2] == 2).all())


def depthwise_weight_grad(
    dy: Array,
    x: Array,
    dw: Array,
    axes: Integers,
    tasks: Integers | None = None,
    taken: Counters | None = None,
    rings: bool = False,
    /,
) -> None:
    """Fill dw (F, C/groups, kd, kh, kw) from dy (n, F, od, oh, ow) and x (n, C, d, h, w): all of
    it, or the tasks that are left to take."""
    groups = x.shape[1] // dw.shape[1]
    ring(rings)
    if tasks is not None:
        assert taken is not None
        for images, channels, filters in _shares(tasks, taken, rings, x, dw):
            depthwise_weight_grad(dy[images, filters], x[images, channels], dw[filters], axes)
        return
    for (_, *tap, _, od, oh, ow), cells in each_tap(axes):
        step = _by_group(dy[:, :, od, oh, ow], groups)
        sums = np.einsum("ngfdhw,ngcdhw->gfc", step, _by_group(x[cells], groups))
        dw[:, :, *tap] = sums.reshape(dw.shape[:2])


def depthwise_memory(
    axes: Integers,
    channels: int,
    filters: int,
    itemsize: int,
    forward: bool = True,
    /,
) -> int:
    """How many items of memory a compiled kernel would take."""
    return 0


def _by_group(a: Array, groups: int) -> Array:
    """(n, C, d, h, w) as (n, groups, C/groups, d, h, w)."""
    return a.reshape(a.shape[0], groups, a.shape[1] // groups, *a.shape[2:])


def _shares(
    tasks: Integers, taken: Counters, rings: bool, x: Array, w: Array
) -> Iterator[tuple[slice, slice, slice]]:
    """The images, channels and filters of each task that is left to take."""
    channels = w.shape[1]
    filters = len(w) // (x.shape[1] // channels)
    for t in all_tasks(taken, len(tasks), from_back=not rings):
        first, last, start, stop = tasks[t].tolist()
        yield (
            slice(first, last),
            slice(start * channels, stop * channels),
            slice(start * filters, stop * filters),
        )
