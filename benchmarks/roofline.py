"""The roofline: what each layer makes of the cores, beside what cores and memory can give.

A layer that does I floating-point operations for each byte it must move cannot do more of them a
second than min(peak, I * bandwidth) (Williams, Waterman, Patterson: Roofline, 2009). Operations are
counted by the definition, two for a multiply-add, whatever the algorithm really does; bytes are
those of x, w and y, each once. So two kinds of layers may stand above the roof: those of Winograd,
which does a fifth to three fifths of the products that it is counted for, and those whose arrays
stay in the last cache from one call to the next.

The roofs are measured, not looked up, with as many threads as the layers have, and of several
blocks the fastest counts:

    microkernel   on the fast road: `direct` of the build that runs, on a 1x1 convolution that it
                  reads in place: 32 filters, 96 channels, 48 positions, 37 KB with x, w and y.
                  The image repeats along a batch axis of stride 0, so that one call a thread goes
                  through it 2000 times and all but the first find it in the nearest cache.
    np.matmul     two 512x512 matrices a thread, BLAS on one thread each: on the plain road it is
                  BLAS that makes the products.
    memory        np.copyto, a thread a pair of arrays, 256 MiB in all, read and written both
                  counted (as x and y of a layer are).
    last cache    the same with 4 MiB in all, as much as a smaller layer has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from .contest import Row, Tables, contest
from .layers import Layer, make_arrays
from .peers import Cyconv, Peer, Run
from .peers.ours import limited
from .reference import expect
from .timing import Block, Effort, time_block

FILTERS, CHANNELS, POSITIONS, IMAGES = 32, 96, 48, 2000
SIDE, PRODUCTS = 512, 8
BYTES = {"memory": 256 << 20, "last cache": 4 << 20}

Task = Callable[[int], Any]


def measure_roofs(threads: int, effort: Effort) -> Tables:
    """Billions of operations, and of bytes, a second."""
    from cyconv import kernels

    rows: dict[str, Row] = {}

    def enter(name: str, unit: str, task: Task, amount: int, blas: bool = False) -> None:
        """`amount` is what the tasks of all threads do, or move, together."""
        blocks = time_region(task, threads, blas, effort)
        value = amount / min(block.seconds for block in blocks) / 1e9
        quiet = sum(block.quiet for block in blocks)
        rows[name] = {unit: {"value": value, "rounds": len(blocks), "quiet": quiet}}

    if kernels.VECTOR:
        task, _ = microkernel_task(threads)
        work = 2 * FILTERS * CHANNELS * POSITIONS * IMAGES * threads
        enter("microkernel", "GFLOP/s", task, work)
    enter("np.matmul", "GFLOP/s", matmul_task(threads), 2 * SIDE**3 * PRODUCTS * threads, blas=True)
    for name, size in BYTES.items():
        enter(name, "GB/s", *copy_task(threads, size))
    return {"roofs": rows}


def time_region(task: Task, threads: int, blas: bool, effort: Effort) -> list[Block]:
    """Blocks of a region that has a task a thread."""
    from cyconv.threads import run

    whole = partial(run, task, threads, 1.0, blas=blas)
    timed = Run(whole, partial(limited, threads))
    return [time_block(timed, effort.block, effort.patience) for _ in range(effort.most)]


def microkernel_task(threads: int) -> tuple[Task, list[Any]]:
    """The task, and each thread's x, w and y."""
    from cyconv import kernels
    from cyconv.geometry import geometry
    from cyconv.plan import plan

    float32 = np.dtype(np.float32)
    x_shape, w_shape = (IMAGES, CHANNELS, 1, POSITIONS), (FILTERS, CHANNELS, 1, 1)
    made = plan(geometry(x_shape, w_shape, 1, 0, 1, 1), float32, "forward", "direct")
    (part,) = made.tiles.parts
    operands = []
    for seed in range(threads):
        rng = np.random.default_rng(seed)
        x = rng.standard_normal((1, CHANNELS, 1, 1, POSITIONS), dtype=np.float32)
        w = rng.standard_normal(FILTERS * CHANNELS, dtype=np.float32)
        y = np.empty((1, FILTERS, 1, 1, POSITIONS), np.float32)
        operands.append((repeat(x), w, repeat(y)))

    def task(index: int) -> None:
        x, w, y = operands[index]
        taken, memory = np.zeros(1, np.longlong), np.empty(max(1, part.memory), np.float32)
        kernels.run.direct(
            x, w, None, y, part.axes, part.steps, 1, part.together, part.tasks, taken, memory
        )

    return task, operands


def repeat(image: np.ndarray) -> np.ndarray:
    """A batch of IMAGES, all of them the same memory."""
    shape, strides = (IMAGES, *image.shape[1:]), (0, *image.strides[1:])
    return np.lib.stride_tricks.as_strided(image, shape, strides)


def matmul_task(threads: int) -> Task:
    operands = np.ones((threads, 3, SIDE, SIDE), np.float32)

    def task(index: int) -> None:
        a, b, c = operands[index]
        for _ in range(PRODUCTS):
            np.matmul(a, b, out=c)

    return task


def copy_task(threads: int, size: int) -> tuple[Task, int]:
    """The task, and how many bytes all of them read and write."""
    pairs = np.ones((threads, 2, size // (2 * threads)), np.uint8)
    times = max(1, BYTES["memory"] // size)

    def task(index: int) -> None:
        source, target = pairs[index]
        for _ in range(times):
            np.copyto(target, source)

    return task, pairs.nbytes * times


def measure_layer(layer: Layer, peers: Sequence[Peer], effort: Effort) -> Tables:
    """The forward pass of cyconv, the first of the peers."""
    arrays = make_arrays(layer)
    expected = expect(layer, arrays, gradients=False)
    row = contest(layer, arrays, expected, "forward", peers[:1], effort)
    record = row[Cyconv.name]
    record["algorithm"] = algorithm_of(layer)
    record["GFLOP/s"] = 2 * layer.macs / record["ms"] / 1e6
    record["FLOP/byte"] = intensity(layer)
    return {"roofline": {layer.name: row}}


def intensity(layer: Layer) -> float:
    """Operations for each byte of x, w and y in float32."""
    shapes = layer.x_shape, layer.w_shape, layer.y_shape
    return 2 * layer.macs / (4 * sum(int(np.prod(shape)) for shape in shapes))


def algorithm_of(layer: Layer) -> str:
    """The module that computes it here."""
    from cyconv import describe

    options = {"stride": layer.stride, "padding": layer.padding, "groups": layer.groups}
    return describe(layer.x_shape, layer.w_shape, **options).module


def roof_at(flop_per_byte: float, roofs: dict[str, Any]) -> float:
    """What memory and the fastest way to multiply allow, in GFLOP/s."""
    return min(peak_of(roofs), flop_per_byte * roofs["memory"]["GB/s"]["value"])


def peak_of(roofs: dict[str, Any]) -> float:
    return max(row["GFLOP/s"]["value"] for row in roofs.values() if "GFLOP/s" in row)
