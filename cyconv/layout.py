"""Copies between layouts and dtypes: channels first and last, float16 and float32."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cyconv import threads
from cyconv.tiling import blocks

Array = NDArray[Any]
Box = tuple[slice, ...]

# What one task reads and writes, in bytes: a transposed copy strides through one of the two, whose
# lines should still be in cache when their next cell is due.
BOX_BYTES = 128 << 10
# A cautious estimate of the time a cell takes on one core (seconds).
PER_CELL = 1e-9


def channels_first(images: Array) -> Array:
    """Images (n, d, h, w, c), seen as (n, c, d, h, w)."""
    return images.transpose(0, 4, 1, 2, 3)


def copy(target: Array, source: Array) -> None:
    """Copy and cast `source` to `target`, both (N, C, d, h, w) with any strides."""
    itemsize = max(target.itemsize, source.itemsize)
    if target.flags.c_contiguous and source.flags.c_contiguous:  # in one run, as fast as it goes
        target, source = target.reshape(-1), source.reshape(-1)
        boxes: Sequence[Any] = blocks(target.size, BOX_BYTES // itemsize)
    else:
        boxes = _boxes(target.shape, itemsize)

    def task(index: int) -> None:
        np.copyto(target[boxes[index]], source[boxes[index]], casting="unsafe")

    threads.run(task, len(boxes), target.size * PER_CELL, blas=False)


@lru_cache(maxsize=256)
def _boxes(shape: tuple[int, ...], itemsize: int) -> tuple[Box, ...]:
    """Cut an array into boxes of some rows, or of a part of one row, with all channels."""
    n, c, d, h, w = shape
    cells = max(1, BOX_BYTES // (2 * itemsize * c))
    width = min(w, cells)
    height = min(h, max(1, cells // width))
    starts = itertools.product(range(n), range(d), range(0, h, height), range(0, w, width))
    return tuple(
        (
            slice(i, i + 1),
            slice(None),
            slice(j, j + 1),
            slice(y, min(h, y + height)),
            slice(x, min(w, x + width)),
        )
        for i, j, y, x in starts
    )
