"""Timing engines side by side on a machine that is never quiet.

Times drift, between runs and between machines; what holds still is the ratio of two times taken
within the same second. So the runs of one case take turns in blocks (A B C, then C B A, ...), each
block gives a median, each round gives ratios, and the medians of those are what is reported.

Each block opens with a pause and an untimed run: for some milliseconds after a call, the workers
of PyTorch and ONNX Runtime spin, and would take a core from whoever comes next. Engines differ much
in what a busy machine does to them, so a block waits a little for quiet, and blocks during which
other processes kept a core are set aside, as long as there are others.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median
from time import perf_counter

from .bystanders import Bystanders, wait_for_quiet
from .peers.base import Run

PAUSE = 0.03
# A sample shorter than this is mostly the clock's own noise: repeat the call within it.
SHORTEST_SAMPLE = 200e-6


# Cores that others may keep busy during a block before it counts as disturbed.
QUIET = 0.2


@dataclass(frozen=True)
class Effort:
    """How long to go on: full blocks and rounds unless a run is slow enough to spend its budget.

    `rounds` undisturbed ones are wanted, but never more than `most` in all. A block waits up to
    `patience` seconds for other processes to leave the machine alone.
    """

    rounds: int = 9
    most: int = 18
    block: float = 0.08
    budget: float = 2.0
    patience: float = 0.5


FULL = Effort()
QUICK = Effort(rounds=2, most=3, block=0.02, budget=0.2, patience=0.1)


@dataclass(frozen=True)
class Block:
    """Seconds a call in one block, and whether other processes left it alone."""

    seconds: float
    quiet: bool


@dataclass(frozen=True)
class Timing:
    """Seconds a call (median over blocks), and that time relative to the base run's.

    `ratio` above 1 means slower than the base: peer / cyconv, where cyconv is the base. `quiet` of
    the `rounds` were undisturbed; if there were any, only those count.
    """

    seconds: float
    ratio: float
    rounds: int
    quiet: int


def compare(runs: Mapping[str, Run], base: str, effort: Effort = FULL) -> dict[str, Timing]:
    """Time every run against `base`, in alternating blocks."""
    blocks: dict[str, dict[int, Block]] = {name: {} for name in runs}
    spent = dict.fromkeys(runs, 0.0)
    quiet_rounds = 0
    for i in range(effort.most):
        # Everyone takes part in the first round; whoever has spent its budget leaves the others.
        going = {name for name in runs if i == 0 or spent[name] < effort.budget}
        if not going or (going == {base} and len(runs) > 1) or quiet_rounds == effort.rounds:
            break
        turn = [name for name in runs if name in going or name == base]
        for name in turn if i % 2 == 0 else reversed(turn):
            start = perf_counter()
            blocks[name][i] = time_block(runs[name], effort.block, effort.patience)
            spent[name] += perf_counter() - start
        quiet_rounds += all(blocks[name][i].quiet for name in turn)
    return {name: settle(mine, blocks[base]) for name, mine in blocks.items()}


def settle(mine: Mapping[int, Block], base: Mapping[int, Block]) -> Timing:
    """Medians over the undisturbed pairs of blocks, or over all if there is none."""
    pairs = [(block, base[i]) for i, block in mine.items()]
    quiet = [pair for pair in pairs if pair[0].quiet and pair[1].quiet]
    return Timing(
        seconds=median(block.seconds for block, _ in quiet or pairs),
        ratio=median(block.seconds / other.seconds for block, other in quiet or pairs),
        rounds=len(pairs),
        quiet=len(quiet),
    )


def time_block(run: Run, length: float, patience: float = 0) -> Block:
    """The median time of a call, over the calls that fit into `length` seconds (at least one)."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        with run.inside():
            wait_for_quiet(PAUSE, patience)
            bystanders = Bystanders()
            start = perf_counter()
            run.call()
            calls = max(1, math.ceil(SHORTEST_SAMPLE / (perf_counter() - start)))
            samples: list[float] = []
            deadline = perf_counter() + length
            while not samples or perf_counter() < deadline:
                samples.append(time_calls(run, calls))
            return Block(median(samples), bystanders.load() <= QUIET)
    finally:
        if collecting:
            gc.enable()


def time_calls(run: Run, calls: int) -> float:
    call = run.call
    start = perf_counter()
    for _ in range(calls):
        call()
    return (perf_counter() - start) / calls


def geomean(values: Iterable[float]) -> float:
    """The geometric mean, the only mean under which ratios can be inverted; NaN of nothing."""
    logarithms = [math.log(value) for value in values]
    return math.exp(math.fsum(logarithms) / len(logarithms)) if logarithms else math.nan
