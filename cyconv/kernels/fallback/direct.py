"""Direct convolution in NumPy: the definition of the compiled kernel.

The loop goes over taps only: for one tap, the cells read by all positions are a strided slice of x,
which its weights multiply. `steps` says where weights are: from a filter, a channel and a group to
the next in w; where the first tap is, and from a tap to the next along each axis. A row of `tasks`
is an image, a group, start and stop of a box of the output along each axis, and start and stop of
the filters of the group.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cyconv.kernels.fallback.lowering import each_tap
from cyconv.kernels.fallback.waiting import take

Array = NDArray[Any]
Integers = NDArray[np.intp]


def direct_memory(axes: Integers, tasks: Integers, channels: int, itemsize: int) -> int:
    """How many items of memory `direct` needs."""
    return 0


def direct(
    x: Array,
    w: Array,
    b: Array | None,
    y: Array,
    axes: Integers,
    steps: Integers,
    groups: int,
    tasks: Integers,
    taken: NDArray[np.longlong],
    memory: Array,
) -> None:
    """Fill y (n, F, od, oh, ow) from x (n, C, d, h, w), w in memory order and b (F,) or None: the
    tasks that are left to take, counted in `taken`."""
    channels, filters = x.shape[1] // groups, y.shape[1] // groups
    while (index := take(taken)) < len(tasks):
        image, group, d0, d1, h0, h1, w0, w1, first, last = tasks[index].tolist()
        part = axes.copy()
        part[:, 4] -= np.array([d0, h0, w0]) * part[:, 2]
        part[:, 5] = [d1 - d0, h1 - h0, w1 - w0]
        mine = slice(group * filters + first, group * filters + last)
        out = y[image, mine, d0:d1, h0:h1, w0:w1]
        out[:] = 0 if b is None else b[mine].reshape(-1, 1, 1, 1)
        start = group * steps[2] + first * steps[0]
        rows = np.arange(last - first)[:, None] * steps[0] + np.arange(channels) * steps[1] + start
        for (_, *tap, _, od, oh, ow), (_, _, *cells) in each_tap(part):
            weights = w[rows + steps[3] + np.array(tap) @ steps[4:]]
            read = x[image, group * channels : (group + 1) * channels, *cells]
            out[:, od, oh, ow] += np.einsum("fc,cdhw->fdhw", weights, read)
