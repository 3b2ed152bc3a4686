"""Direct: a microkernel over a table of taps, and no columns at all.

Any convolution on the fast road. For a run of output positions each tap reads a run of cells at a
constant offset, in a padded copy of a part of x, its band, or in x itself; so the taps are gone
through one by one, with the sums of some filters and positions in vector registers
(kernels/direct.pxi). Weights are read where they lie, in any order that a few steps describe.

    forward       y   = sum over taps of w * x       straight into y
    input_grad    dx  = the same over dy, by channels instead of filters (which are turned first
                  where they are many); with stride s, s parts an axis, each by the taps that
                  reach it
    weight_grad   dw  = sum over positions of x * dy, positions now being what the microkernel
                  goes through, and dy transposed a box at a time; parts summed in a fixed order

Work is cut into tasks, each a box of the output of one image and group, and some filters. Threads
take tasks from a common counter, without the interpreter from the first to the last.
"""

import itertools
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from cyconv import kernels, threads
from cyconv.algorithms.phases import Box, Phase, phases_of
from cyconv.geometry import Geometry
from cyconv.outline import Outline, counted, extent
from cyconv.record import Record
from cyconv.scratch import scratch
from cyconv.tiling import blocks, boxes, length, pieces, wanted_pieces
from cyconv.types import Array, Integers

if TYPE_CHECKING:
    from cyconv.plan import Plan


# A band stays in a core's second cache, beside the weights of some filters (bytes).
BAND_BYTES = 512 << 10
# With more weights a group than this, channels are gone through some at a time, of so many taps.
# Else the band of many channels is of a few positions only, and for each few of these all weights
# are read anew. With AVX-512, an Intel Xeon, it took (of the time where all channels go together)
#
#                                      forward       input gradient    in float64
#       3x3, dilated by 12, 2048, 33x33     0.5             0.7         0.3,  0.6
#       3x3, dilated by 6,   512, 65x65     0.8             0.7         0.85, 0.7
#       3x3, dilated by 4,   512, 28x28     1.0             0.65        0.95, 0.55
#       5x5, 256 channels, 14x14            0.9             0.85        0.8,  0.7
#       5x5,  96 channels, 27x27            1.05            1.05        1.05, 1.05
#       1x7, 192 channels, 17x17            1.1             1.0         1.1,  1.0
#
# and with twice as many taps at a time 1.02, in float64 1.04 times as long.
MANY_WEIGHTS, TOGETHER = 1 << 20, 512
# Rows are cut into whole vectors: 1x1 on planes of 14x14 with 1024 channels, in four boxes, took a
# seventh less time.
LINE_BYTES = 64
# Filters are cut into blocks of whole rows of the microkernel.
ROWS = 8
# The parts of an input gradient with a stride interleave. So they are computed one after another
# for as much of dx as stays in cache (bytes): 1.1 times as fast as each for the whole batch.
BLOCK_BYTES = 2 << 20
# Slots of a thread's scratch memory.
BAND, SUMS, TURNED = range(3)
# For the weight gradient: whole vectors of filters; a transposed box of dy, and all accumulators
# (bytes); and the fewest rows of the sum that are worth transposing dy for.
LANES = 16
TURNED_BYTES = 512 << 10
# With AVX2, rows of dy, transposed, that are a multiple of so many bytes long are a vector longer,
# or all would compete for a few lines of the nearest cache: 1.1 times as fast, and 1.5 at twice as
# many bytes. (Half as many: 0.95. AVX-512: 0.97 to 1.02, so none there.)
CROWDED_BYTES = 2048 if kernels.BUILD == "avx2" else 0
SUM_BYTES = 4 << 20
LEAST_ROWS = 64
# Of one tap, as of 1x1, an input gradient reads a column of the weights for each of its channels,
# every cell on a line, and often a page, of its own. Turned first, from so many weights and
# positions on, it took 0.6 to 0.95 times as long (512 and 2048 channels on 7x7, 64 and 256 on
# 56x56). With more taps, which lie together, that took longer: 1.2 to 1.4 times for 5x5. Rows are
# turned so many at a time; what a weight takes (seconds).
TURNED_WEIGHTS, TURNED_POSITIONS = 128**2, 256
TURNED_ROWS = 64
PER_TURNED = 5e-10
# Sums of more boxes than this are made of sums of so many, which are more accurate.
LONG_SUM = 64
# Work of at most so many multiply-adds, in at most so many bytes of memory, is one call.
SMALL = 1 << 22
WHOLE_BYTES = 512 << 10
# An input gradient's weights lie far apart, filters often by a power of two, and each few rows read
# all of them anew. So it pays for so many channels times filters at most: of 1x1, with a stride,
# and of others. Beside `gemm` it took beyond here
#
#                                                 float32        float64
#       512 and 1024 channels, 7x7 to 14x14     0.95 to 1.6
#       512 and 2048                            1.0  to 1.8    1.1 to 1.5
#       3x3, stride 2, 128 and 256, 28x28       1.05 to 1.25   1.05 to 1.4
#       4x4, stride 2, 128 and 256, 32x32       1.15 to 1.5    1.15 to 1.3
#       4x4, stride 2, 256 and 512, 16x16       1.65 to 1.8    1.35 to 1.65
#
# times as long with AVX-512, an Intel Xeon, more for one image than for eight. AVX2's 16 registers
# have room for the sums of 4 rows only. There, with OpenBLAS's kernels for AVX2, it took 0.83 times
# as long up to here (float64: 0.93), and beyond 1.6 and 1.7 times, up to 4 on planes of 7x7; 1x1
# whose weights are turned first, still 1.1 to 1.4 (float64: 0.9 to 1.3).
MOST_WEIGHTS = (512**2, 128**2, math.inf)
MOST_WEIGHTS_AVX2 = (128**2, 64**2, 64**2)
# A forward pass is slower there with more than so many channels times filters, and multiply-adds:
# 1.12 times as long as lowering, and in float64 1.19.
LARGE_WEIGHTS, LARGE_WORK = 256**2, 400_000_000
# On the plain road it takes up to so many multiply-adds, by the bytes of an item: about where
# `small` overtakes it, with OpenBLAS's kernels for AVX-512; with Haswell's, at half as many again.
PLAIN = {
    "forward": {4: 120_000, 8: 60_000},
    "input_grad": {4: 300_000, 8: 120_000},
    "weight_grad": {4: 100_000, 8: 50_000},
}
PLAIN_1X1 = {4: 60_000, 8: 30_000}


class Part(Record):
    """A convolution into some cells of the result: `out`, or None for all of them. The kernel's
    arguments: axes, where weights are found, how many channels together, tasks, and items of
    memory, also with channels last."""

    out: Box | None
    axes: Integers
    steps: Integers
    together: int
    tasks: Integers
    memory: int
    memory_last: int


class Work(Record):
    """The parts of a pass, and whether there are cells of the result in none of them."""

    parts: tuple[Part, ...]
    gaps: bool
    # Weights that are turned first, filters to the columns of a matrix: groups, and rows of it.
    turned: tuple[tuple[int, slice], ...]


class Sum(Record):
    """The weight gradient: axes, tasks, shares of them and blocks of rows of the sum, as the kernel
    takes them, the shape of the accumulators, and items of memory."""

    axes: Integers
    tasks: Integers
    shares: Integers
    blocks: Integers
    sums: tuple[int, int, int]
    memory: int
    memory_last: int


def serves(g: Geometry) -> bool:
    return True


def pays(g: Geometry, pass_: str, itemsize: int) -> bool:
    """Whether this beats lowering, measured with AVX-512: on planes of a vector of positions or
    more; for a weight gradient, with eight filters, or on the plain road half a vector: four of
    float64 in groups of four channels took 1.3 times as long as lowering. An input gradient with a
    stride is in parts that interleave, which costs more than it saves where channels or taps are
    few: 10 ms for 5 with three channels and a stride of 4, 6.2 for 4.7 with 1x1 and a stride of 2.
    It is also slow where there are many weights (MOST_WEIGHTS); with AVX2, a forward pass too
    (LARGE_WEIGHTS).

    On the plain road the kernel has half the rate of BLAS or less, but is one call and copies
    nothing: up to PLAIN multiply-adds it took as long as `small`, or as little as a third."""
    strided = pass_ == "input_grad" and g.stride != (1, 1, 1)
    if kernels.VECTOR:
        vector, filters = 64, 8
        suits = not strided or (g.group_channels >= 16 and g.taps > 1)
        suits = suits and _weights_suit(g, pass_)
    else:
        vector, filters = 16, 8 // itemsize
        limit = (PLAIN_1X1 if g.taps == 1 else PLAIN[pass_])[itemsize]
        suits = not strided and g.multiply_adds <= limit
    if pass_ == "weight_grad":
        return suits and g.group_filters >= filters
    return suits and g.positions * itemsize >= vector


def _weights_suit(g: Geometry, pass_: str) -> bool:
    """Whether there are few enough of them."""
    weights, avx2 = g.group_channels * g.group_filters, kernels.BUILD == "avx2"
    if pass_ == "input_grad":
        one_tap, strided, others = MOST_WEIGHTS_AVX2 if avx2 else MOST_WEIGHTS
        most = strided if g.stride != (1, 1, 1) else one_tap if g.taps == 1 else others
        return weights <= most
    few = weights <= LARGE_WEIGHTS or g.multiply_adds <= LARGE_WORK
    return pass_ == "weight_grad" or few or not avx2


def tiles(g: Geometry, itemsize: int, pass_: str) -> Work | Sum:
    """What a pass goes through."""
    if pass_ == "weight_grad":
        return _sum(g, itemsize)
    filters, channels, tap = g.group_channels * g.taps, g.taps, 1  # from one to the next, in w
    turned = _turned_parts(g) if pass_ == "input_grad" else ()
    if turned:
        filters, channels, tap = g.taps * g.group_filters, 1, g.group_filters
    elif pass_ == "input_grad":
        filters, channels = channels, filters
    steps = filters, channels, g.group_filters * g.group_channels * g.taps, tap
    phases, gaps = phases_of(g, pass_)
    as_forward = g if pass_ == "forward" else g.flipped()
    parts = [
        _part(as_forward, phase, steps, itemsize, len(phases) == 1 and not gaps) for phase in phases
    ]
    return Work(parts=tuple(parts), gaps=gaps, turned=turned)


def _turned_parts(g: Geometry) -> tuple[tuple[int, slice], ...]:
    """What an input gradient should turn first, by a thread at a time: see TURNED_WEIGHTS."""
    one_tap = all(kernel <= stride for kernel, stride in zip(g.kernel, g.stride, strict=True))
    many = g.group_filters * g.group_channels >= TURNED_WEIGHTS
    if not one_tap or not many or g.batch * g.positions < TURNED_POSITIONS:
        return ()
    rows = blocks(g.group_channels * g.taps, TURNED_ROWS)
    return tuple(itertools.product(range(g.groups), rows))


def _part(g: Geometry, phase: Phase, steps: tuple[int, ...], itemsize: int, whole: bool) -> Part:
    """`steps` lead through the weights: from one channel of the result, channel that is read, group
    and tap to the next."""
    axes = _flat(phase.axes) if whole else phase.axes
    _, height, width = g.kernel
    first, by_axis = 0, []
    for taps, kernel, step in zip(phase.taps, g.kernel, (height * width, width, 1), strict=True):
        start, _, by = taps.indices(kernel)
        first += start * step * steps[3]
        by_axis.append(by * step * steps[3])
    number = int(axes[:, 1].prod())
    few = g.group_filters * g.group_channels * number <= MANY_WEIGHTS
    together = g.group_channels if few else min(g.group_channels, max(1, TOGETHER // number))
    tasks = _tasks(g, axes, together, itemsize)
    needs = kernels.run.direct_memory
    return Part(
        out=None if whole else phase.out,
        axes=axes,
        steps=np.array((*steps[:3], first, *by_axis), np.intp),
        together=together,
        tasks=tasks,
        memory=needs(axes, tasks, together, g.group_filters, itemsize),
        memory_last=needs(axes, tasks, together, g.group_filters, itemsize, True),
    )


def _flat(axes: Integers) -> Integers:
    """A 1x1 convolution of the image as it is goes over one axis: then its rows are long."""
    size, kernel, stride, _, low, output = axes.T
    if (kernel == 1).all() and (stride == 1).all() and (low == 0).all() and (size == output).all():
        return np.array([[1, 1, 1, 1, 0, 1]] * 2 + [[p := size.prod(), 1, 1, 1, 0, p]], np.intp)
    return axes


def _boxes(channels: int, axes: Integers, limit: int, itemsize: int) -> list[Any]:
    """Cut the output into boxes of at most `limit` positions, whose bands are small."""
    cells = math.prod(min(int(kernel), int(stride)) for kernel, stride in axes[:, 1:3])
    limit = min(limit, BAND_BYTES // (itemsize * channels * cells))
    depth, height, width = axes[:, 5].tolist()
    lanes = LINE_BYTES // itemsize
    return list(boxes((depth, height, width), max(1, limit), lanes if limit >= lanes else 1))


def _tasks(g: Geometry, axes: Integers, together: int, itemsize: int) -> Integers:
    """Cut into boxes, and these into enough blocks of filters; a row each of image, group, box and
    filters. Those of one band follow each other."""
    wanted = -(-wanted_pieces(g) // (g.batch * g.groups))
    number = -(-wanted // -(-g.group_filters // ROWS))  # of boxes, where filters are too few
    cut = _boxes(together, axes, -(-int(axes[:, 5].prod()) // number), itemsize)
    filters = pieces(g.group_filters, -(-wanted // len(cut)), ROWS)
    return _table(
        (image, group, *itertools.chain(*zip(start, stop, strict=True)), part.start, part.stop)
        for image in range(g.batch)
        for group in range(g.groups)
        for start, stop in cut
        for part in filters
    )


def _table(rows: Iterable[tuple[int, ...]]) -> Integers:
    return np.array(list(rows), np.intp)


def _sum(g: Geometry, itemsize: int) -> Sum:
    """Cut the positions into parts with accumulators of their own, not too large in all, and if
    these are few, channels into blocks."""
    axes = _flat(g.axes())
    rows, columns = g.group_channels * g.taps, -(-g.group_filters // LANES) * LANES
    if CROWDED_BYTES and columns * itemsize % CROWDED_BYTES == 0:
        columns += LANES
    cut = _boxes(g.group_channels, axes, TURNED_BYTES // (itemsize * columns), itemsize)
    items = [(image, box) for image in range(g.batch) for box in cut]
    wanted = -(-wanted_pieces(g) // g.groups)
    number = max(wanted, -(-len(items) // LONG_SUM))
    most = max(1, SUM_BYTES // (itemsize * g.groups * rows * columns))
    parts = pieces(len(items), min(number, most))
    channels = pieces(g.group_channels, min(-(-wanted // len(parts)), -(-rows // LEAST_ROWS)))
    tasks: list[tuple[int, ...]] = []
    shares: list[tuple[int, ...]] = []
    for i, part in enumerate(parts):
        for group, block in itertools.product(range(g.groups), channels):
            shares.append((i, len(tasks), len(tasks) + length(part)))
            for image, (start, stop) in items[part]:
                box = itertools.chain(*zip(start, stop, strict=True))
                tasks.append((image, group, *box, block.start, block.stop))
    table = _table(tasks)
    band, band_last = (
        kernels.run.direct_memory(axes, table, max(map(length, channels)), 0, itemsize, last)
        for last in (False, True)
    )
    turned = columns * max(math.prod(b - a for a, b in zip(*box, strict=True)) for box in cut)
    blocks = [
        (group, block.start, block.stop)
        for group in range(g.groups)
        for block in pieces(rows, wanted, ROWS)
    ]
    return Sum(
        axes=axes,
        tasks=table,
        shares=_table(shares),
        blocks=_table(blocks),
        sums=(len(parts), g.groups * rows, columns),
        memory=band + turned,
        memory_last=band_last + turned,
    )


def _is_small(tasks: Integers, memory: int) -> bool:
    return memory <= WHOLE_BYTES and bool((tasks[:, 2:8] == tasks[0, 2:8]).all())


def _own(work: Any, g: Geometry, itemsize: int, pass_: str) -> Work | Sum:
    """The work of `direct`, where what is given may be that of another algorithm."""
    return work if isinstance(work, (Work, Sum)) else tiles(g, itemsize, pass_)


def whole(g: Geometry, itemsize: int, pass_: str, work: Any = None) -> Any:
    """Small work in one compiled call, or None; `work` is what the algorithm goes through."""
    if kernels.BUILD is None or not g.batch:
        return None
    work = _own(work, g, itemsize, pass_)
    sizes = (g.batch, g.channels, g.filters)
    if isinstance(work, Sum):
        if not _is_small(work.tasks, work.memory * itemsize) or len(work.shares) > 1:
            return None
        return kernels.run.WholeWeightGrad(
            work.axes,
            g.groups,
            work.tasks,
            work.shares,
            work.blocks,
            work.sums[2],
            *sizes,
            itemsize,
        )
    if len(work.parts) != 1 or work.gaps or work.turned:
        return None
    (part,) = work.parts
    if part.out is not None or not _is_small(part.tasks, part.memory * itemsize):
        return None
    if pass_ == "input_grad":
        sizes = (g.batch, g.filters, g.channels)
    weights = math.prod(g.w_shape)
    return kernels.run.Whole(
        part.axes, part.steps, g.groups, part.together, part.tasks, weights, *sizes, itemsize
    )


def forward(plan: "Plan", x: Array, w: Array, b: Array | None, y: Array) -> None:
    """Fill y (N, F, od, oh, ow) from x (N, C, d, h, w) and w (F, C/groups, kd, kh, kw)."""
    _run(plan, x, w, b, y)


def input_grad(plan: "Plan", dy: Array, w: Array, dx: Array) -> None:
    """Fill dx (N, C, d, h, w) from dy (N, F, od, oh, ow)."""
    if plan.tiles.gaps:
        dx[...] = 0
    _run(plan, dy, _turned(plan, w) if plan.tiles.turned else w, None, dx)


def _turned(plan: "Plan", w: Array) -> Array:
    """The weights (groups, C/groups * taps, F/groups)."""
    g = plan.geometry
    w = w.reshape(g.groups, g.group_filters, -1)
    turned, parts = scratch(TURNED, (g.groups, w.shape[2], w.shape[1]), w.dtype), plan.tiles.turned

    def task(index: int) -> None:
        group, rows = parts[index]
        kernels.run.turn(w[group, :, rows], turned[group, rows])

    threads.run(task, len(parts), w.size * PER_TURNED, blas=False)
    return turned


def weight_grad(plan: "Plan", dy: Array, x: Array, dw: Array) -> None:
    """Fill dw (F, C/groups, kd, kh, kw) from dy (N, F, od, oh, ow) and x (N, C, d, h, w)."""
    work: Sum = plan.tiles
    x = x.reshape(*x.shape[:2], *work.axes[:, 0])
    dy = dy.reshape(*dy.shape[:2], *work.axes[:, 5])
    sums = scratch(SUMS, work.sums, dw.dtype)
    progress, last = np.zeros(3, np.longlong), not x.flags.c_contiguous

    def task(rings: bool) -> None:
        memory = scratch(BAND, (_memory(work, last),), dw.dtype)
        kernels.run.direct_weight_grad(
            dy, x, sums, dw.reshape(-1), work.axes, plan.geometry.groups, work.tasks, work.shares,
            work.blocks, progress, memory, rings,
        )  # fmt: skip

    threads.drain(task, len(work.shares), plan.seconds)


def _memory(work: Part | Sum, last: bool) -> int:
    return work.memory_last if last else work.memory


def _run(plan: "Plan", x: Array, w: Array, b: Array | None, y: Array) -> None:
    """Do all tasks of all parts, on several threads where that pays."""
    work: Work = plan.tiles
    groups, last, weights = plan.geometry.groups, not x.flags.c_contiguous, w.reshape(-1)
    items = max([1, *(_memory(part, last) for part in work.parts)])
    calls = [
        (*_operands(part, x[images], y[images]), part, _tasks_of(part, images, len(x)))
        for images in _together(work, y)
        for part in work.parts
    ]
    taken = np.zeros((len(calls), 1), np.longlong)

    def task(rings: bool) -> None:
        memory = scratch(BAND, (items,), x.dtype)
        for (source, to, part, tasks), counter in zip(calls, taken, strict=True):
            kernels.run.direct(
                source, weights, b, to, part.axes, part.steps, groups, part.together, tasks,
                counter, memory, rings,
            )  # fmt: skip

    threads.drain(task, sum(len(part.tasks) for part in work.parts), plan.seconds)


def _together(work: Work, y: Array) -> tuple[slice, ...]:
    """The images that are done one after another: parts interleave."""
    if len(work.parts) == 1:
        return (slice(0, len(y)),)
    return blocks(len(y), max(1, BLOCK_BYTES * len(y) // y.nbytes))


def _operands(part: Part, x: Array, y: Array) -> tuple[Array, Array]:
    """Of some images, what a part reads and what it fills."""
    if part.out is not None:
        return x, y[:, :, *part.out]
    sizes, outputs = part.axes[:, 0], part.axes[:, 5]  # perhaps over one axis
    return x.reshape(*x.shape[:2], *sizes), y.reshape(*y.shape[:2], *outputs)


def _tasks_of(part: Part, images: slice, batch: int) -> Integers:
    """As many as so many images have; they are alike."""
    return part.tasks[: len(part.tasks) // batch * length(images)]


def outline(plan: "Plan", once: bool = False, last: bool = False) -> Outline:
    """What a pass goes through and takes, for `describe`; with `once` in one call, as the `whole`
    of the plan of this or another algorithm does it; with `last` where channels are last."""
    g = plan.geometry
    work = _own(plan.tiles, g, plan.dtype.itemsize, plan.pass_)
    shared, own = 0, 0
    if isinstance(work, Sum):
        count, shared, own = len(work.shares), math.prod(work.sums), _memory(work, last)
        boxes, largest, rest = len(work.tasks), work.tasks, "channel"
    else:
        count = max(len(part.tasks) for part in work.parts)
        own = max(_memory(part, last) for part in work.parts)
        boxes = sum(len(part.tasks) for part in work.parts)
        largest = max((p.tasks for p in work.parts), key=_positions)
        rest = "filter" if plan.pass_ == "forward" else "channel"
        shared = math.prod(g.w_shape) if work.turned else 0
    sides = (largest[:, 3:8:2] - largest[:, 2:8:2]).max(axis=0)
    others = int((largest[:, -1] - largest[:, -2]).max())
    words = f"{counted(boxes, 'box')} of {'up to ' * (boxes > 1)}{extent(sides)} positions"
    words += f", {counted(others, rest)}"
    steps = "positions" if isinstance(work, Sum) else "taps"
    source = "bands of the image" if own else "the image in place"
    if not isinstance(work, Sum) and work.turned:
        source += ", weights turned first"
    seconds = 0.0 if once else plan.seconds
    return Outline(
        name="direct",
        module="direct",
        method=f"{steps} over {source}, sums in registers{', in one call' * once}",
        tiles=words,
        tasks=count if isinstance(work, Sum) else boxes,
        threads=threads.members(count, seconds, blas=False),
        shared=shared,
        own=own,
    )


def _positions(tasks: Integers) -> int:
    """Those of the largest box."""
    return int((tasks[:, 3:8:2] - tasks[:, 2:8:2]).prod(axis=1).max())
