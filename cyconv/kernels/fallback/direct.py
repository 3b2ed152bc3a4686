"""Direct convolution in NumPy: the definition of the compiled kernel.

The loop goes over taps only: for one tap, the cells read by all positions are a strided slice of x,
which its weights multiply. `steps` says where weights are: from a filter, a channel and a group to
the next in w; where the first tap is, and from a tap to the next along each axis. A row of `tasks`
is an image, a group, start and stop of a box of the output along each axis, and start and stop of
the filters of the group.
"""

from __future__ import annotations

import numpy as np

from cyconv.kernels.fallback.lowering import each_tap
from cyconv.kernels.fallback.waiting import all_tasks, first_phase, ring, second_phase
from cyconv.types import Array, Counters, Integers


def direct_memory(
    axes: Integers,
    tasks: Integers,
    channels: int,
    filters: int,
    itemsize: int,
    last: bool = False,
    /,
) -> int:
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
    together: int,
    tasks: Integers,
    taken: Counters,
    memory: Array,
    rings: bool = False,
    /,
) -> None:
    """Fill y (n, F, od, oh, ow) from x (n, C, d, h, w), w in memory order and b (F,) or None: the
    tasks that are left to take, counted in `taken`. (Here all channels go together.)"""
    channels, filters = x.shape[1] // groups, y.shape[1] // groups
    ring(rings)
    for t in all_tasks(taken, len(tasks), from_back=not rings):
        image, group, *bounds, first, last = tasks[t].tolist()
        box, part = _box(axes, bounds)
        mine = slice(group * filters + first, group * filters + last)
        out = y[image, mine, *box]
        out[:] = 0 if b is None else b[mine].reshape(-1, 1, 1, 1)
        start = group * steps[2] + first * steps[0]
        rows = np.arange(last - first)[:, None] * steps[0] + np.arange(channels) * steps[1] + start
        for (_, *tap, _, od, oh, ow), (_, _, *cells) in each_tap(part):
            weights = w[rows + steps[3] + np.array(tap) @ steps[4:]]
            read = x[image, group * channels : (group + 1) * channels, *cells]
            out[:, od, oh, ow] += np.einsum("fc,cdhw->fdhw", weights, read)


def _box(axes: Integers, bounds: list[int]) -> tuple[tuple[slice, ...], Integers]:
    """A box of the output, from start and stop of each axis, and the axes of the convolution that
    it is."""
    starts, stops = bounds[::2], bounds[1::2]
    part = axes.copy()
    part[:, 4] -= np.array(starts) * part[:, 2]
    part[:, 5] = np.subtract(stops, starts)
    return tuple(map(slice, starts, stops)), part


def direct_weight_grad(
    dy: Array,
    x: Array,
    sums: Array,
    dw: Array,
    axes: Integers,
    groups: int,
    tasks: Integers,
    shares: Integers,
    blocks: Integers,
    progress: Counters,
    memory: Array,
    rings: bool = False,
    /,
) -> None:
    """Fill dw (F, C/groups * taps) from dy (n, F, od, oh, ow) and x (n, C, d, h, w).

    First shares (a part, and start and stop of tasks, whose last numbers are channels) are summed
    in sums (parts, C * taps, F/groups or more), then these added up and transposed, by blocks: a
    group, and start and stop of its rows."""
    channels, filters = x.shape[1] // groups, dy.shape[1] // groups
    kernel = axes[:, 1].tolist()
    by_tap = sums.reshape(len(sums), groups, channels, *kernel, -1)[..., :filters]

    def add_up(s: int) -> None:
        part, begin, end = shares[s].tolist()
        for t in range(begin, end):
            image, group, *bounds, first, last = tasks[t].tolist()
            box, inner = _box(axes, bounds)
            step = dy[image, group * filters : (group + 1) * filters, *box]
            total = by_tap[part, group, first:last]
            if t == begin:
                total[:] = 0
            for (_, *tap, _, od, oh, ow), (_, _, *cells) in each_tap(inner):
                read = x[image, group * channels + first : group * channels + last, *cells]
                total[:, *tap] += np.einsum("cdhw,fdhw->cf", read, step[:, od, oh, ow])

    first_phase(progress, len(shares), add_up, rings)
    matrices = dw.reshape(groups, filters, -1)
    for b in second_phase(progress, len(blocks)):
        group, start, stop = blocks[b].tolist()
        rows = sums.reshape(len(sums), groups, -1, sums.shape[2])[:, group, start:stop, :filters]
        matrices[group, :, start:stop] = rows.sum(0).T
