"""Bias: added to images, and its gradient, which is a sum over everything but the channels."""

from __future__ import annotations

import math

import numpy as np

from cyconv import threads
from cyconv.arguments import computed_in
from cyconv.tiling import PIECES, pieces
from cyconv.types import Array, DType

# A sum over fewer bytes is not cut into parts.
SMALL_SUM = 1 << 20
# So many rows are added up one after the other: rounding errors of 100,000 equal float64 terms came
# to 2e-12 of their sum, and to 1e-15 in such steps, which take as long.
STEP = 64


def add_bias(images: Array, b: Array | None) -> None:
    """Add a number a channel to images (n, C, d, h, w)."""
    if b is not None:
        with threads.quiet():
            images += b[:, None, None, None]


def bias_grad(dy: Array, rank: int, last: bool) -> Array:
    """Sum dy, of images with `rank` spatial axes, to (F,). dy is C-contiguous."""
    if last:
        return _sum_of_rows(dy.reshape(-1, dy.shape[-1]))
    f = dy.shape[-1 - rank]
    n = dy.shape[0] if dy.ndim == rank + 2 else 1
    # NumPy's pairwise sums are accurate along the last axis only: see `_fold`.
    rows = dy.reshape(n * f, math.prod(dy.shape[-rank:]))
    inner = computed_in(dy.dtype)
    with threads.quiet():
        small = dy.nbytes < SMALL_SUM
        sums = np.add.reduce(rows, axis=1, dtype=inner) if small else _row_sums(rows, inner)
        if n > 1:
            sums = _fold(sums.reshape(n, f))
        return sums.astype(dy.dtype, copy=False) if n else np.zeros(f, dy.dtype)


def _fold(rows: Array) -> Array:
    """Sum over the first axis, in float64 and in steps of a few rows: NumPy adds up pairwise along
    the last axis only."""
    while len(rows) > STEP:
        whole = len(rows) // STEP * STEP
        steps = rows[:whole].reshape(-1, STEP, rows.shape[1])
        folded = np.add.reduce(steps, axis=1, dtype=np.float64)
        rows = folded if whole == len(rows) else np.concatenate([folded, rows[whole:]])
    total: Array = np.add.reduce(rows, axis=0, dtype=np.float64)
    return total


def _row_sums(rows: Array, dtype: DType) -> Array:
    sums = np.empty(len(rows), dtype)
    parts = pieces(len(rows), PIECES)

    def task(index: int) -> None:
        part = parts[index]
        np.add.reduce(rows[part], axis=1, dtype=dtype, out=sums[part])

    threads.run(task, len(parts), rows.nbytes * 2e-10, blas=False)
    return sums


def _sum_of_rows(rows: Array) -> Array:
    """Sum (positions, F) to (F,)."""
    parts = pieces(len(rows), PIECES if rows.nbytes >= SMALL_SUM else 1)
    sums = np.zeros((max(1, len(parts)), rows.shape[1]))

    def task(index: int) -> None:
        sums[index] = _fold(rows[parts[index]])

    threads.run(task, len(parts), rows.nbytes * 5e-10, blas=False)
    with threads.quiet():
        total: Array = np.add.reduce(sums, axis=0).astype(rows.dtype)
    return total
