"""Direct: a microkernel over a table of taps, and no columns at all.

Any convolution on the fast road. For a run of output positions each tap reads a run of cells at a
constant offset, in a padded copy of a part of x, its band, or in x itself; so the taps are gone
through one by one, with the sums of some filters and positions in vector registers
(kernels/direct.pxi). Weights are read where they lie, in any order that a few steps describe.

    forward       y   = sum over taps of w * x       straight into y
    input_grad    dx  = the same over dy, by channels instead of filters; with stride s, s parts
                  an axis, each by the taps that reach it
    weight_grad   by lowering

Work is cut into tasks, each a box of the output of one image and group, and some filters. Threads
take tasks from a common counter, without the interpreter from the first to the last.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cyconv import kernels, threads
from cyconv.algorithms import lowering
from cyconv.algorithms.phases import Box, Phase, phases_of
from cyconv.geometry import Geometry
from cyconv.tiling import boxes, pieces, wanted_pieces

if TYPE_CHECKING:
    from cyconv.plan import Plan

Array = NDArray[Any]

# A band stays in a core's second cache, beside the weights of some filters (bytes).
BAND_BYTES = 512 << 10
# Filters are cut into blocks of whole rows of the microkernel.
ROWS = 8
# Slot of a thread's scratch memory.
BAND = 0
# A float32 sum of terms of one sign is off by up to 4.2e-6 of the largest of 200,000 results after
# this many, and 5.1e-6 after 4608: BLAS, which adds up sums of a few hundred each, by 0.3e-6.
LONGEST_SUM = 4096
# The multiply-adds a second of one core, cautiously, to judge what is worth sharing.
MULTIPLY_ADDS = 4e10


@dataclass(frozen=True, slots=True)
class Part:
    """A convolution into some cells of the result: `out`, or None for all of them. The kernel's
    arguments: axes, where weights are found, tasks, and items of memory."""

    out: Box | None
    axes: NDArray[np.intp]
    steps: NDArray[np.intp]
    tasks: NDArray[np.intp]
    memory: int


@dataclass(frozen=True, slots=True)
class Work:
    """The parts of a pass, and whether there are cells of the result in none of them."""

    parts: tuple[Part, ...]
    gaps: bool


def serves(g: Geometry, pass_: str) -> bool:
    return pass_ != "weight_grad"


def pays(g: Geometry, pass_: str, itemsize: int) -> bool:
    """Whether this beats lowering, on planes of a vector of positions or more, and keeps float32
    within the promised error."""
    if not (serves(g, pass_) and kernels.VECTOR and g.positions * itemsize >= 64):
        return False
    return itemsize > 4 or longest_sum(g, pass_) <= LONGEST_SUM


def longest_sum(g: Geometry, pass_: str) -> int:
    """How many products are added up, one after the other."""
    if pass_ == "forward":
        return g.group_channels * g.taps
    steps = (s // math.gcd(s, d) for s, d in zip(g.stride, g.dilation, strict=True))
    taps = (-(-k // step) for k, step in zip(g.kernel, steps, strict=True))
    return g.group_filters * math.prod(taps)


def tiles(g: Geometry, itemsize: int, pass_: str) -> Work:
    """What a pass goes through."""
    filters, channels = g.group_channels * g.taps, g.taps  # from one to the next, in w
    if pass_ == "input_grad":
        filters, channels = channels, filters
    group = g.group_filters * g.group_channels * g.taps
    phases, gaps = phases_of(g, pass_)
    turned = g if pass_ == "forward" else g.flipped()
    parts = [
        _part(turned, phase, (filters, channels, group), itemsize, len(phases) == 1 and not gaps)
        for phase in phases
    ]
    return Work(tuple(parts), gaps)


def _part(g: Geometry, phase: Phase, steps: tuple[int, ...], itemsize: int, whole: bool) -> Part:
    axes = _flat(phase.axes) if whole else phase.axes
    _, height, width = g.kernel
    first = 0
    for taps, kernel, step in zip(phase.taps, g.kernel, (height * width, width, 1), strict=True):
        start, _, by = taps.indices(kernel)
        first += start * step
        steps += (by * step,)
    tasks = _tasks(g, axes, itemsize)
    return Part(
        out=None if whole else phase.out,
        axes=axes,
        steps=np.array((*steps[:3], first, *steps[3:]), np.intp),
        tasks=tasks,
        memory=kernels.of[np.dtype(f"f{itemsize}")].direct_memory(
            axes, tasks, g.group_channels, itemsize
        ),
    )


def _flat(axes: NDArray[np.intp]) -> NDArray[np.intp]:
    """A 1x1 convolution of the image as it is goes over one axis: then its rows are long."""
    size, kernel, stride, _, low, output = axes.T
    if (kernel == 1).all() and (stride == 1).all() and (low == 0).all() and (size == output).all():
        return np.array([[1, 1, 1, 1, 0, 1]] * 2 + [[p := size.prod(), 1, 1, 1, 0, p]], np.intp)
    return axes


def _tasks(g: Geometry, axes: NDArray[np.intp], itemsize: int) -> NDArray[np.intp]:
    """Cut into boxes whose bands are small, and these into enough blocks of filters; a row each of
    image, group, box and filters. Those of one band follow each other."""
    output = axes[:, 5].tolist()
    cells = math.prod(min(int(kernel), int(stride)) for kernel, stride in axes[:, 1:3])
    limit = max(1, BAND_BYTES // (itemsize * g.group_channels * cells))
    cut = list(boxes((output[0], output[1], output[2]), limit))
    number = -(-wanted_pieces(g) // (g.batch * g.groups * len(cut)))
    filters = pieces(g.group_filters, number, ROWS)
    return np.array(
        [
            (image, group, *itertools.chain(*zip(start, stop, strict=True)), part.start, part.stop)
            for image in range(g.batch)
            for group in range(g.groups)
            for start, stop in cut
            for part in filters
        ],
        np.intp,
    ).reshape(-1, 10)


def forward(plan: Plan, x: Array, w: Array, b: Array | None, y: Array) -> None:
    """Fill y (N, F, od, oh, ow) from x (N, C, d, h, w) and w (F, C/groups, kd, kh, kw)."""
    (part,) = plan.tiles.parts
    _run(plan, part, x, w, b, y)


def input_grad(plan: Plan, dy: Array, w: Array, dx: Array) -> None:
    """Fill dx (N, C, d, h, w) from dy (N, F, od, oh, ow)."""
    if plan.tiles.gaps:
        dx[...] = 0
    for part in plan.tiles.parts:
        _run(plan, part, dy, w, None, dx if part.out is None else dx[:, :, *part.out])


weight_grad = lowering.weight_grad


def _run(plan: Plan, part: Part, x: Array, w: Array, b: Array | None, y: Array) -> None:
    """Do all tasks of a part, on several threads where that pays."""
    g = plan.geometry
    taken = np.zeros(1, np.longlong)
    if part.out is None:  # perhaps over one axis
        x = x.reshape(*x.shape[:2], *part.axes[:, 0])
        y = y.reshape(*y.shape[:2], *part.axes[:, 5])

    def work(_: int) -> None:
        memory = threads.scratch(BAND, (max(1, part.memory),), x.dtype)
        plan.kernels.direct(
            x, w.reshape(-1), b, y, part.axes, part.steps, g.groups, part.tasks, taken, memory
        )

    threads.run(work, min(len(part.tasks), threads.get_num_threads()), plan.seconds, blas=False)
