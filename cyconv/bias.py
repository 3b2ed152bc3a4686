"""Bias: added to images, and its gradient, which is a sum over everything but the channels."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from cyconv import kernels, threads
from cyconv.arguments import HALF, SINGLE
from cyconv.layout import cast
from cyconv.tiling import PIECES, blocks, boxes, pieces
from cyconv.types import Array, Integers

# Of a byte, on one core (seconds).
PER_BYTE = 2e-11
# Columns are cut into whole lines of cache, of which some are read together.
COLUMNS = 32
# So many cells of float16 are cast at a time.
HALVES = 4 << 20


def add_bias(images: Array, b: Array | None) -> None:
    """Add a number a channel to images (n, C, d, h, w)."""
    if b is None:
        return
    if not images.flags.c_contiguous:
        with threads.quiet():
            images += b[:, None, None, None]
        return
    rows, seconds = images.reshape(*images.shape[:2], -1), images.nbytes * PER_BYTE
    parts = pieces(len(b), PIECES if seconds > threads.SMALL else 1)

    def task(index: int) -> None:
        part = parts[index]
        kernels.run.add_bias(rows[:, part], b[part], rows[:, part])

    threads.run(task, len(parts), seconds, blas=False)


def bias_grad(dy: Array, rank: int, last: bool) -> Array:
    """Sum dy, of images with `rank` spatial axes, to (F,). dy is C-contiguous."""
    n = dy.shape[0] if dy.ndim == rank + 2 else 1
    f = dy.shape[-1 if last else -1 - rank]
    spatial = dy.shape[-1 - rank : -1] if last else dy.shape[-rank:]
    positions = math.prod(spatial)
    with threads.quiet():
        sums = _sums(dy.reshape(n, positions, f) if last else dy.reshape(n * f, positions, 1))
        if n != 1:
            sums = _sums(sums.reshape(1, n, f))
        return sums.reshape(f).astype(dy.dtype, copy=False)


def _sums(x: Array) -> Array:
    """Sum x (a, b, c) to (a, c), in float64."""
    sums = np.empty((x.shape[0], x.shape[2]))
    if x.dtype == HALF:
        for part in blocks(len(x), HALVES // max(1, x.shape[1] * x.shape[2])):
            some = x[part]
            sums[part] = _sums(cast(some.reshape(1, 1, *some.shape), SINGLE).reshape(some.shape))
        return sums
    kernel, seconds = kernels.run.sum_middle, x.nbytes * PER_BYTE
    if seconds <= threads.SMALL:
        kernel(x, sums)
        return sums
    table = _tasks(*sums.shape)
    taken = np.zeros(1, np.longlong)

    def task(rings: bool) -> None:
        kernel(x, sums, table, taken, rings)

    threads.drain(task, len(table), seconds)
    return sums


@lru_cache(maxsize=256)
def _tasks(rows: int, columns: int) -> Integers:
    """Cut sums into about PIECES boxes: (first row, last row, first column, last column)."""
    found = boxes((1, rows, columns), -(-rows * columns // PIECES), COLUMNS)
    return np.array([(a[1], b[1], a[2], b[2]) for a, b in found], np.intp)
