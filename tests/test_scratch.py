"""Scratch memory: reused, bounded, and each thread's own."""

import numpy as np
from sharing import in_threads

from cyconv import scratch


def test_scratch():
    a = scratch.scratch(90, (3, 4), np.dtype(np.float32))
    assert (a.shape, a.dtype, a.flags.c_contiguous) == ((3, 4), np.float32, True)
    assert scratch.scratch(90, (3, 4), np.dtype(np.float32)) is a
    assert np.shares_memory(a, scratch.scratch(90, (5,), np.dtype(np.float64)))
    assert not np.shares_memory(a, scratch.scratch(91, (3, 4), np.dtype(np.float32)))
    (other,) = in_threads(1, lambda i: scratch.scratch(90, (3, 4), np.dtype(np.float32)))
    assert not np.shares_memory(a, other)
    longer = scratch.scratch(90, (1000,), np.dtype(np.float64))
    assert np.shares_memory(longer, scratch.scratch(90, (3, 4), np.dtype(np.float32)))
    for count in range(2 * scratch.KEPT_ARRAYS):
        scratch.scratch(90, (count + 1,), np.dtype(np.float32))
    assert len(scratch._scratch.arrays) <= scratch.KEPT_ARRAYS


def test_scratch_is_bounded():
    size = scratch.KEPT_SCRATCH
    assert scratch.scratch(92, (size,), np.dtype(np.uint8)) is not None
    large = scratch.scratch(92, (size + 1,), np.dtype(np.uint8))
    assert not np.shares_memory(large, scratch.scratch(92, (size + 1,), np.dtype(np.uint8)))
    assert scratch._scratch.buffers[92].nbytes == size
    assert all(array.nbytes <= size for array in scratch._scratch.arrays.values())
    scratch._scratch.buffers.pop(92)
    scratch._scratch.arrays.clear()
