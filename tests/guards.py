"""Arrays with memory on all sides of them that no kernel may touch.

What surrounds an input is NaN, so that a cell that is read beside it spoils the result. What
surrounds an output is a number that no test computes: then also a NaN that is written there shows.
"""

import ctypes
import mmap
import subprocess
import sys

import numpy as np
import pytest

GUARD = 64
UNTOUCHED = -1234.5


def packed(values, dtype=None, guard=np.nan):
    """A C-contiguous copy."""
    values = np.asarray(values, dtype)
    memory = np.full(values.size + 2 * GUARD, guard, values.dtype)
    view = memory[GUARD : GUARD + values.size].reshape(values.shape)
    view[...] = values
    return view


def apart(values, dtype=None, guard=np.nan, step=1):
    """A copy (n, c, d, h, w) whose rows are contiguous, but do not follow each other, nor do its
    channels. With `step`, its columns lie apart too."""
    values = np.asarray(values, dtype)
    n, c, d, h, w = values.shape
    rows = packed(np.full((n, c + 1, d, h, w * step + 3), guard, values.dtype), guard=guard)
    view = rows[:, :c, :, :, : w * step : step]
    view[...] = values
    return view


def spread(values, dtype=None, guard=np.nan):
    """A copy of which only the last axis is contiguous; channels go backwards."""
    values = np.asarray(values, dtype)
    rows = tuple(2 * size for size in values.shape[:-1])
    memory = np.full((*rows, values.shape[-1] + 7), guard, values.dtype)
    view = memory[1::2, ::-2, 1::2, ::2, 3:-4]
    view[...] = values
    return view


def channels_last(values, dtype=None, guard=np.nan):
    """A copy (n, c, d, h, w) with its channels last in memory; neither positions nor rows
    follow each other."""
    values = np.asarray(values, dtype)
    n, c, d, h, w = values.shape
    memory = np.full((n + 2, d, h, w + 1, c + 3), guard, values.dtype)
    view = memory[1:-1, :, :, :w, 1 : 1 + c].transpose(0, 4, 1, 2, 3)
    view[...] = values
    return view


def gaps(values, dtype, guard=np.nan):
    """A copy with memory on all sides of it, and between its rows."""
    shape = values.shape
    memory = np.full((*(size + 2 for size in shape[:-1]), shape[-1] + 5), guard, dtype)
    view = memory[tuple(slice(1, 1 + size) for size in shape)]
    view[...] = values
    return view


def planes(values, dtype=None, guard=np.nan):
    """A copy whose rows follow each other, but not its planes along the first axis."""
    values = np.asarray(values, dtype)
    size = values[0].size
    memory = np.full((len(values) + 2, size + 2 * GUARD), guard, values.dtype)
    view = memory[1:-1, GUARD : GUARD + size].reshape(values.shape)
    view[...] = values
    return view


def output(shape, dtype, arrange=packed, **options):
    """An array of NaN to be filled."""
    return arrange(np.full(shape, np.nan), dtype, guard=UNTOUCHED, **options)


def assert_untouched(view):
    """Nothing was written but the array."""
    memory = view
    while memory.base is not None:
        memory = memory.base
    assert np.count_nonzero(memory == UNTOUCHED) == memory.size - view.size


can_protect = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="needs pages that may be neither read nor written"
)
_kept = []


def protected(values, dtype, start=False):
    """A copy at the end, or the start, of pages between two that crash whoever touches them."""
    values = np.asarray(values, dtype)
    size = -(-max(1, values.nbytes) // mmap.PAGESIZE) * mmap.PAGESIZE
    memory = mmap.mmap(-1, size + 2 * mmap.PAGESIZE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for page in (address, address + mmap.PAGESIZE + size):
        assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(page), mmap.PAGESIZE, 0) == 0
    _kept.append(memory)
    offset = mmap.PAGESIZE + (0 if start else size - values.nbytes)
    view = np.frombuffer(memory, values.dtype, values.size, offset).reshape(values.shape)
    view[...] = values
    return view


def protected_last(values, dtype, start=False):
    """The same, with channels last."""
    return protected(values.transpose(0, 2, 3, 4, 1), dtype, start).transpose(0, 4, 1, 2, 3)


def in_another_process(module, function, build):
    """Run a function of a module of tests with this build, where it may crash."""
    program = f"import {module}; {module}.{function}({build!r})"
    setup = f"import sys, faulthandler; sys.path[:] = {sys.path!r}; faulthandler.enable(); "
    done = subprocess.run(
        [sys.executable, "-c", setup + program],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
