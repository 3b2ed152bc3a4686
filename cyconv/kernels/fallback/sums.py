"""Sums over the middle axis of three in NumPy: the definition of the compiled kernel."""

from __future__ import annotations

import numpy as np

from cyconv.kernels.fallback.waiting import all_tasks, ring
from cyconv.types import Array, Counters, Integers

# NumPy adds up pairwise along the last axis only. Along another, so many rows are added up one
# after the other: rounding errors of 100,000 equal float64 terms came to 2e-12 of their sum, and to
# 1e-15 in such steps, which take as long.
STEP = 64


def sum_middle(
    x: Array,
    sums: Array,
    tasks: Integers | None = None,
    taken: Counters | None = None,
    rings: bool = False,
    /,
) -> None:
    """Fill sums (a, c) of float64 with those of x (a, b, c) over b: all of them, or the tasks that
    are left to take, counted in `taken`. A task is a row of (first a, last a, first c, last c)."""
    ring(rings)
    if tasks is None:
        sums[...] = _sums(x)
        return
    assert taken is not None
    for t in all_tasks(taken, len(tasks), from_back=not rings):
        first, last, left, right = tasks[t].tolist()
        sums[first:last, left:right] = _sums(x[first:last, :, left:right])


def _sums(x: Array) -> Array:
    if x.shape[2] == 1:
        pairwise: Array = np.add.reduce(x[:, :, 0], axis=1)
        return pairwise[:, None]
    while x.shape[1] > STEP:
        number = x.shape[1] // STEP
        whole = number * STEP
        steps = x[:, :whole].reshape(len(x), number, STEP, x.shape[2])
        folded = np.add.reduce(steps, axis=2, dtype=np.float64)
        x = np.concatenate([folded, x[:, whole:]], axis=1)
    total: Array = np.add.reduce(x, axis=1, dtype=np.float64)
    return total
