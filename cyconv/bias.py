"""Bias: added to images, and its gradient, which is a sum over everything but the channels."""

from __future__ import annotations

import itertools
import math
from functools import lru_cache

import numpy as np

from cyconv import kernels, threads
from cyconv.arguments import HALF
from cyconv.kernels import fallback
from cyconv.tiling import PIECES, pieces
from cyconv.types import Array, Integers

# Sums over so many bytes are one call; threads share the tasks of longer ones.
SMALL_SUM = 1 << 18
# Of a byte, on one core (seconds).
PER_BYTE = 2e-11
# Columns are cut into whole lines of cache, of which some are read together.
COLUMNS = 32


def add_bias(images: Array, b: Array | None) -> None:
    """Add a number a channel to images (n, C, d, h, w)."""
    if b is not None:
        with threads.quiet():
            images += b[:, None, None, None]


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
        return sums.reshape(f).astype(dy.dtype)


def _sums(x: Array) -> Array:
    """Sum x (a, b, c) to (a, c), in float64."""
    sums = np.empty((x.shape[0], x.shape[2]))
    # Compiled kernels know no float16.
    kernel = (fallback if x.dtype == HALF else kernels.of[x.dtype]).sum_middle
    if x.nbytes <= SMALL_SUM:
        kernel(x, sums)
        return sums
    table = _tasks(*sums.shape)
    taken = np.zeros(1, np.longlong)

    def task(rings: bool) -> None:
        kernel(x, sums, table, taken, rings)

    threads.drain(task, len(table), x.nbytes * PER_BYTE)
    return sums


@lru_cache(maxsize=256)
def _tasks(rows: int, columns: int) -> Integers:
    """Cut sums into about PIECES boxes: (first row, last row, first column, last column)."""
    cut = pieces(rows, PIECES)
    across = pieces(columns, -(-PIECES // max(1, len(cut))), COLUMNS)
    boxes = itertools.product(cut, across)
    return np.array([(a.start, a.stop, c.start, c.stop) for a, c in boxes], np.intp)
