"""Scratch memory, of each thread its own: what a task fills and nobody reads after it.

A worker meets the same shapes call after call, so buffers are kept, a slot each, and with them the
arrays that were made of them.
"""

import math
import threading
from typing import Any

import numpy as np

from cyconv.types import Array, DType

# A worker keeps its scratch memory for the next region up to this size (bytes, each slot).
KEPT_SCRATCH = 40 << 20
KEPT_ARRAYS = 64
HUGE_PAGE = 2 << 20


class _Scratch(threading.local):
    """The memory of one thread: a buffer a slot, and the arrays last made of them, since making
    one takes half a microsecond."""

    def __init__(self) -> None:
        self.buffers: dict[int, np.ndarray[Any, np.dtype[np.uint8]]] = {}
        self.arrays: dict[tuple[int, tuple[int, ...], DType, int], Array] = {}


def scratch(slot: int, shape: tuple[int, ...], dtype: DType, apart: int = 0) -> Array:
    """Return uninitialised memory that belongs to this thread until it asks for the slot again;
    between the arrays that the first axis counts, with so many items `apart`."""
    key = (slot, shape, dtype, apart)
    array = _scratch.arrays.get(key)
    if array is not None:
        return array
    size = (math.prod(shape) + (shape[0] * apart if apart else 0)) * dtype.itemsize
    buffer = _scratch.buffers.get(slot)
    if buffer is None or buffer.nbytes < size:
        if size > KEPT_SCRATCH:
            return _shaped(_aligned(size)[:size].view(dtype), shape, apart)
        buffer = None  # the smaller one goes, with all arrays of it, before there is another
        _scratch.buffers.pop(slot, None)
        _scratch.arrays.clear()
        buffer = _scratch.buffers[slot] = _aligned(size)
    if len(_scratch.arrays) >= KEPT_ARRAYS:
        _scratch.arrays.clear()
    array = _scratch.arrays[key] = _shaped(buffer[:size].view(dtype), shape, apart)
    return array


def _shaped(items: Array, shape: tuple[int, ...], apart: int) -> Array:
    if not apart:
        return items.reshape(shape)
    return items.reshape(shape[0], -1)[:, :-apart].reshape(shape)


def _aligned(size: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Fresh memory, aligned to a page. NumPy asks for huge pages from 4 MB on: with small ones,
    which cost a Winograd layer up to a quarter of its speed, it is a matter of luck where in the
    caches a buffer comes to lie."""
    page = HUGE_PAGE if size >= HUGE_PAGE // 8 else 64
    size = max(size, 4 << 20) if page == HUGE_PAGE else size
    memory = np.empty(size + page, np.uint8)
    start = -memory.ctypes.data % page
    return memory[start : start + size]


_scratch = _Scratch()
