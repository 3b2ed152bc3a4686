"""Depthwise: one or few channels a group, computed in place.

With few channels a group there is nothing for a matrix product to win: its columns would cost more
than it. So compiled loops go through the taps of the kernel, over rows of x as they lie, or over a
padded copy of the channels of one group (kernels/depthwise.pxi); or, where planes are small or read
at a stride, over many channels at once, one in each lane of a vector (kernels/lanes.pxi). Any
geometry is served.

    forward       y   = sum over taps of w * x          straight into y
    input_grad    dx  = the same over dy, the kernel flipped and its channel axes swapped: with
                  stride s, s interleaved parts an axis, each by the taps that reach it; or where
                  the kernels know how (stride 2, a few sizes), as each cell of dy spreads
    weight_grad   dw  = sum over positions of dy * x    parts summed in a fixed order

Work is cut into images, groups and, where those are few, boxes of the output.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from cyconv import kernels, threads
from cyconv.algorithms.phases import Box, Phase, phases_of
from cyconv.geometry import Geometry
from cyconv.outline import Outline, counted, extent
from cyconv.record import Record
from cyconv.tiling import PIECES, length, pieces
from cyconv.types import Array, Integers

if TYPE_CHECKING:
    from cyconv.plan import Plan


# Work is cut into PIECES tasks or about as many, but not into shorter ones than this (seconds):
# between two tasks a thread may have to wait for the interpreter, which costs as much. Where tasks
# are taken within a kernel, a third of it was as good and a sixth took up to 1.7 times as long: two
# threads that end together want the interpreter together.
TASK_SECONDS = 6e-5
# Kernels may do as many channels together as a vector has lanes, so groups are best cut in so many.
# With more than one channel or filter a group, for weight gradients, and for input gradients with a
# stride, they never do: even parts are better, eight of 18 groups 1.15 times as fast on two threads
# as nine of 16.
TOGETHER = 16
# The padded copy of a group, in bytes, stays well within a core's second cache.
BAND_BYTES = 512 << 10
# What a multiply-add, and a cell that comes from or goes to memory, took on one core (seconds).
PER_MULTIPLY_ADD = 4e-11
PER_CELL = 1.5e-10
# Work of at most so many multiply-adds is better one call of direct's kernel, which is slower but
# saves 3 us of Python; forwards, with the filters of one group, it is no slower.
ONE_CALL = {"forward": 1 << 22, "input_grad": 100_000, "weight_grad": 6_000}
ONE_CALL_IN_GROUPS = 20_000


class Piece(Record):
    """A convolution that is part of the whole: which cells of the result it fills (those of dx, for
    the input gradient), its axes, and which phase of the kernel is its own. There may be two, for
    the even and the odd columns of the cells."""

    out: Box
    axes: tuple[Integers, ...]
    phases: tuple[int, ...]


class Task(Record):
    """Pieces, of some images and groups; `part` is the accumulator of a sum that they belong to."""

    images: slice
    channels: slice
    filters: slice
    pieces: tuple[Piece, ...]
    part: int


class Work(Record):
    """The tasks of a pass, an estimate of their seconds on one thread, the taps of each phase of
    the kernel, whether there are cells of dx that no tap reaches, and whether it is filled as dy
    spreads, and not by phases.

    Where all tasks are of one box, which fills the result, and sum apart, `axes` are its axes, and
    `table` has the tasks as the kernels take them: rows of (first image, last image, first group,
    last group)."""

    tasks: tuple[Task, ...]
    seconds: float
    parts: int
    phases: tuple[Box, ...]
    gaps: bool
    spreads: bool
    axes: Integers | None
    table: Integers


def pays(g: Geometry, pass_: str, itemsize: int) -> bool:
    """Whether this is faster than lowering, measured against it with AVX-512 BLAS.

    It is with up to three filters a group, however many channels they read: 1.5 times with two of
    each, 2.5 to 8 with one. With four it is 1.0 to 1.3 times on two threads (it needs less memory),
    but for dw only on small planes or with few channels in all; with six, 1.2 to 1.6 in one group
    of one channel. For the input gradient lowering is about as fast either way round, so the larger
    of the two counts. With one tap there is little to win: one channel a group took a sixth of
    pointwise's time, but its sums for dw, and two channels, took longer than that.
    """
    c, f = g.group_channels, g.group_filters
    if g.taps == 1:
        return c == f == 1 and pass_ != "weight_grad"
    few = max(c, f) if pass_ == "input_grad" else f
    if few == 4 and pass_ == "weight_grad":
        return g.positions <= 256 or c == 1 or g.groups == 1
    return few <= 4 or (few <= 6 and g.groups == min(c, f) == 1)


def is_one_call(g: Geometry, pass_: str, work: Work) -> bool:
    """Whether the work is small enough to leave all of it to `direct.whole`."""
    limit = ONE_CALL[pass_]
    if g.groups > 1:
        limit = min(limit, ONE_CALL_IN_GROUPS)
    alone = work.axes is not None and len(work.table) == 1 and not work.spreads
    return alone and g.multiply_adds <= limit


def tiles(g: Geometry, itemsize: int, pass_: str) -> Work:
    """What a pass goes through."""
    cells = g.batch * (g.channels * math.prod(g.size) + g.filters * g.positions)
    seconds = g.multiply_adds * PER_MULTIPLY_ADD + cells * PER_CELL
    number = max(1, min(PIECES, int(seconds / TASK_SECONDS)))
    images, groups = _images_and_groups(g, pass_, number)
    spreads = pass_ == "input_grad" and _spreads(g, itemsize)
    phases, gaps = phases_of(g, "forward" if spreads else pass_)
    wholes = _pairs(phases, g) if pass_ == "input_grad" else _singles(phases)
    channels = g.group_filters if pass_ == "input_grad" else g.group_channels
    number = -(-number // (len(images) * len(groups)))
    # Phases interleave in dx: if there are tasks enough, one has all, while dx is in cache.
    together = number == 1
    number = -(-number // max(1, len(wholes)))
    boxes = wholes
    if not spreads:
        boxes = [box for whole in wholes for box in _boxes(whole, channels, itemsize, number)]
    batches = [tuple(boxes)] if together and pass_ == "input_grad" else [(box,) for box in boxes]
    axes = None
    apart = pass_ != "weight_grad" or len(images) == 1
    if apart and not gaps and len(boxes) == len(boxes[0].axes) == 1:
        axes = boxes[0].axes[0]
    tasks = [
        Task(images=n, channels=c, filters=f, pieces=batch, part=i * len(batches) + j)
        for i, n in enumerate(images)
        for j, batch in enumerate(batches)
        for c, f in groups
    ]
    size = g.group_channels
    rows = [(n.start, n.stop, c.start // size, c.stop // size) for n in images for c, _ in groups]
    return Work(
        tasks=tuple(tasks),
        seconds=seconds,
        parts=len(images) * len(batches),
        phases=tuple(phase.taps for phase in phases),
        gaps=gaps,
        spreads=spreads,
        axes=axes,
        table=np.array(rows, np.intp),
    )


def _images_and_groups(
    g: Geometry, pass_: str, number: int
) -> tuple[tuple[slice, ...], list[tuple[slice, slice]]]:
    """About `number` blocks of images, and of groups as (channels, filters). A sum over images is
    in one part if there are groups enough."""
    summed = pass_ == "weight_grad" and g.groups >= number
    images = pieces(g.batch, 1 if summed else number)
    c, f = g.group_channels, g.group_filters
    number = -(-number // len(images))
    lanes = c == f == 1 and (
        pass_ == "forward" or (pass_ == "input_grad" and g.stride == (1, 1, 1))
    )
    unit = TOGETHER if lanes and g.groups >= number * TOGETHER else 1
    return images, [
        (slice(part.start * c, part.stop * c), slice(part.start * f, part.stop * f))
        for part in pieces(g.groups, number, unit)
    ]


def _spreads(g: Geometry, itemsize: int) -> bool:
    """Whether the input gradient is filled in one pass, as dy spreads."""
    alone = g.group_channels == g.group_filters == 1
    return alone and bool(kernels.run.depthwise_spreads(g.axes(), itemsize))


def _singles(phases: list[Phase]) -> list[Piece]:
    return [Piece(out=phase.out, axes=(phase.axes,), phases=(i,)) for i, phase in enumerate(phases)]


def _pairs(phases: list[Phase], g: Geometry) -> list[Piece]:
    """Where the stride along W is 2, join each phase of the even columns of dx to its neighbour of
    the odd ones: they are written together, row by row. (One long row is better cut into boxes.)"""
    columns = len({phase.out[2].start for phase in phases})
    if g.stride[2] != 2 or columns != 2 or g.size[0] * g.size[1] == 1:
        return _singles(phases)
    pairs = []
    for i in range(0, len(phases), 2):
        even, odd = phases[i], phases[i + 1]
        out = (even.out[0], even.out[1], slice(0, g.size[2]))
        pairs.append(Piece(out=out, axes=(even.axes, odd.axes), phases=(i, i + 1)))
    return pairs


def _boxes(whole: Piece, channels: int, itemsize: int, number: int) -> Iterator[Piece]:
    """Cut a piece into about `number` boxes, or more so that the copy of a group stays small; but
    pairs of columns not along W."""
    first = whole.axes[0]
    output = [int(size) for size in first[:, 5]]
    positions = math.prod(output)
    cells = channels * math.prod(min(int(k), int(s)) for k, s in first[:, 1:3])
    number = max(number, positions * cells * itemsize // BAND_BYTES)
    cuts = []
    for size in output[: 3 if len(whole.axes) == 1 else 2]:
        cuts.append(pieces(size, min(size, number)))
        number = -(-number // len(cuts[-1]))
    for box in itertools.product(*cuts):
        start = np.array([b.start for b in box])
        parts = [axes.copy() for axes in whole.axes]
        for part in parts:
            part[: len(box), 4] -= start * part[: len(box), 2]
            part[: len(box), 5] = [length(side) for side in box]
        out = list(whole.out)
        for axis, b in enumerate(box):
            o = out[axis]
            step = o.step or 1
            out[axis] = slice(o.start + b.start * step, o.start + (b.stop - 1) * step + 1, step)
        yield Piece(out=(out[0], out[1], out[2]), axes=tuple(parts), phases=whole.phases)


def forward(plan: "Plan", x: Array, w: Array, b: Array | None, y: Array) -> None:
    """Fill y (N, F, od, oh, ow) from x (N, C, d, h, w) and w (F, C/groups, kd, kh, kw)."""
    work: Work = plan.tiles
    if work.axes is not None:
        _share(work, kernels.run.depthwise_forward, x, w, b, y)
        return

    def task(index: int) -> None:
        t = work.tasks[index]
        (piece,) = t.pieces
        part = y[t.images, t.filters, *piece.out]
        bias = None if b is None else b[t.filters]
        kernels.run.depthwise_forward(
            x[t.images, t.channels], w[t.filters], bias, part, piece.axes[0]
        )

    threads.run(task, len(work.tasks), work.seconds, blas=False)


def _share(work: Work, kernel: Callable[..., None], *arrays: Array | None) -> None:
    """Have threads take the tasks of a table within a kernel; or, if there is only one, call it:
    small ones are all call."""
    if len(work.table) == 1:
        kernel(*arrays, work.axes)
        return
    taken = np.zeros(1, np.longlong)

    def task(rings: bool) -> None:
        kernel(*arrays, work.axes, work.table, taken, rings)

    threads.drain(task, len(work.table), work.seconds)


def input_grad(plan: "Plan", dy: Array, w: Array, dx: Array) -> None:
    """Fill dx (N, C, d, h, w) from dy (N, F, od, oh, ow)."""
    g = plan.geometry
    work: Work = plan.tiles
    if work.spreads:
        _share(work, kernels.run.depthwise_spread, dy, w, dx)
        return
    by_group = w.reshape(g.groups, g.group_filters, g.group_channels, *g.kernel).swapaxes(1, 2)
    turned = []
    for taps in work.phases:
        phase = np.ascontiguousarray(by_group[:, :, :, *taps])
        turned.append(phase.reshape(g.channels, g.group_filters, *phase.shape[3:]))
    if work.gaps:
        dx[:] = 0
    if work.axes is not None:
        _share(work, kernels.run.depthwise_forward, dy, turned[0], None, dx)
        return

    def task(index: int) -> None:
        t = work.tasks[index]
        part = dy[t.images, t.filters]
        for piece in t.pieces:
            out = dx[t.images, t.channels, *piece.out]
            weights = [turned[phase][t.channels] for phase in piece.phases]
            if len(weights) == 1:
                kernels.run.depthwise_forward(part, *weights, None, out, *piece.axes)
            else:
                kernels.run.depthwise_pair(part, *weights, out, *piece.axes)

    threads.run(task, len(work.tasks), work.seconds, blas=False)


def weight_grad(plan: "Plan", dy: Array, x: Array, dw: Array) -> None:
    """Fill dw (F, C/groups, kd, kh, kw) from dy (N, F, od, oh, ow) and x (N, C, d, h, w)."""
    work: Work = plan.tiles
    if work.axes is not None:
        _share(work, kernels.run.depthwise_weight_grad, dy, x, dw)
        return
    parts = dw[None] if work.parts == 1 else np.empty((work.parts, *dw.shape), dw.dtype)

    def task(index: int) -> None:
        t = work.tasks[index]
        (piece,) = t.pieces
        kernels.run.depthwise_weight_grad(
            dy[t.images, t.filters, *piece.out],
            x[t.images, t.channels],
            parts[t.part, t.filters],
            piece.axes[0],
        )

    threads.run(task, len(work.tasks), work.seconds, blas=False)
    if work.parts > 1:
        with threads.quiet():
            np.sum(parts, axis=0, out=dw)


def outline(plan: "Plan") -> Outline:
    """What a pass goes through and takes, for `describe`."""
    g = plan.geometry
    work: Work = plan.tiles
    shared = 0
    if plan.pass_ == "input_grad" and not work.spreads:  # w, turned
        shared = math.prod(g.w_shape)
    elif plan.pass_ == "weight_grad" and work.parts > 1:
        shared = work.parts * math.prod(g.w_shape)
    images = max(length(task.images) for task in work.tasks)
    channels = max(length(task.channels) for task in work.tasks)
    boxes = [axes for task in work.tasks for piece in task.pieces for axes in piece.axes]
    largest = max(boxes, key=_positions)
    words = (
        f"{counted(len(boxes), 'box')} of {'up to ' * (len(boxes) > 1)}{extent(largest[:, 5])} "
        f"positions, {counted(images, 'image')}, {counted(channels, 'channel')}"
    )
    return Outline(
        name="direct",
        module="depthwise",
        method="taps over rows of the image, a group at a time",
        tiles=words,
        tasks=len(work.tasks),
        threads=threads.members(len(work.tasks), work.seconds, blas=False),
        shared=shared,
        own=0 if work.spreads else max(_task_items(plan, task) for task in work.tasks),
    )


def _positions(axes: Integers) -> int:
    return int(axes[:, 5].prod())


def _task_items(plan: "Plan", task: Task) -> int:
    """What the kernels take for a task, in items."""
    g = plan.geometry
    sizes = (g.group_channels, g.group_filters)
    if plan.pass_ == "input_grad":
        sizes = sizes[::-1]
    most = 0
    for piece in task.pieces:
        forward = plan.pass_ != "weight_grad" and len(piece.axes) == 1
        items = sum(
            kernels.run.depthwise_memory(axes, *sizes, plan.dtype.itemsize, forward)
            for axes in piece.axes
        )
        if piece.out[2].step not in (None, 1):  # a plane to be scattered
            items += math.prod(int(size) for size in piece.axes[0][1:, 5])
        elif len(piece.axes) == 2:  # two, to be joined
            items += sum(math.prod(int(size) for size in axes[1:, 5]) for axes in piece.axes)
        most = max(most, items)
    if plan.pass_ == "weight_grad":  # sums in float64
        taps = g.group_channels * g.taps
        most += (length(task.filters) + 2) * taps * 8 // plan.dtype.itemsize
    return most
