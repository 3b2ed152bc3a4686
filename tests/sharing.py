"""Work that is shared by threads, and threads that share it.

A task that must run on two threads at once meets there at a barrier; every wait has a timeout, so
that what would hang fails instead.
"""

import os
import subprocess
import sys
import threading

import numpy as np
from strategies import Case

import cyconv
from cyconv import threads, tiling
from cyconv.algorithms import depthwise, fused, nonfused, small

PATIENCE = 30  # seconds

# An algorithm and work for it, cut into tiles in each of the ways that there are.
WORK = {
    "gemm": ("gemm", Case((8, 32, 20, 20), (24, 32, 3, 3), padding=1)),
    "gemm, one image": ("gemm", Case((1, 64, 45, 47), (48, 64, 3, 3), padding=1)),
    "gemm, by filters": ("gemm", Case((1, 128, 6, 6), (160, 128, 3, 3), padding=1)),
    "gemm, dx in phases": ("gemm", Case((1, 32, 64, 64), (64, 32, 3, 3), 2, 1)),
    "gemm, dx by channels": ("gemm", Case((1, 64, 21, 21), (32, 64, 7, 7), 2, 3)),
    "gemm, many images": ("gemm", Case((130, 8, 9, 8), (16, 8, 3, 3), 2, 1)),
    "gemm, groups": ("gemm", Case((2, 32, 40, 40), (64, 8, 3, 3), 2, 1, groups=4)),
    "gemm, line": ("gemm", Case((1, 8, 20_000), (16, 8, 9), padding=4)),
    "gemm, volume": ("gemm", Case((1, 8, 12, 13, 14), (24, 8, 3, 3, 3), 1, 1)),
    "pointwise": ("gemm", Case((8, 96, 28, 28), (64, 96, 1, 1))),
    "pointwise, one image": ("gemm", Case((1, 96, 56, 56), (64, 96, 1, 1))),
    "pointwise, strided": ("gemm", Case((8, 96, 28, 28), (128, 96, 1, 1), 2)),
    "winograd": ("winograd", Case((8, 32, 28, 28), (32, 32, 3, 3), padding=1)),
    "winograd, one image": ("winograd", Case((1, 32, 75, 77), (32, 32, 3, 3))),
    "winograd, few tiles": ("winograd", Case((1, 128, 15, 14), (136, 128, 3, 3), padding=1)),
    "winograd, 4x4": ("winograd", Case((8, 32, 29, 29), (32, 32, 4, 4), padding=1)),
    "winograd, stride 2": ("winograd", Case((8, 32, 57, 57), (32, 32, 3, 3), 2, 1)),
    "winograd, stride 2, few tiles": ("winograd", Case((1, 64, 28, 30), (72, 64, 3, 3), 2, 1)),
    "winograd, large tiles": ("winograd", Case((1, 512, 45, 45), (70, 512, 3, 3), padding=1)),
    "winograd, dilated": ("winograd", Case((2, 40, 45, 47), (36, 40, 3, 3), 1, 3, 3)),
    "winograd, strided": ("winograd", Case((3, 8, 40, 40), (32, 8, 5, 5), 2, 2)),
    "winograd, strided, one image": ("winograd", Case((1, 3, 99, 99), (64, 3, 11, 11), 4)),
    "winograd, strided, 4x4": ("winograd", Case((2, 3, 96, 96), (64, 3, 7, 7), 2, 3)),
    "depthwise": ("direct", Case((8, 16, 40, 40), (16, 1, 3, 3), padding=1, groups=16)),
    "depthwise, one image": ("direct", Case((1, 2, 150, 150), (2, 1, 3, 3), 1, 1, groups=2)),
    "depthwise, strided": ("direct", Case((8, 24, 41, 41), (24, 1, 3, 3), 2, 1, groups=24)),
    "depthwise, few groups": ("direct", Case((2, 8, 40, 40), (8, 4, 3, 3), padding=1, groups=2)),
    "direct": ("direct", Case((2, 32, 28, 28), (48, 32, 3, 3), padding=1)),
    "direct, one image": ("direct", Case((1, 64, 45, 47), (48, 64, 3, 3), padding=1)),
    "direct, strided": ("direct", Case((8, 24, 41, 41), (40, 24, 3, 3), 2, 1)),
    "direct, first layer": ("direct", Case((2, 3, 80, 80), (32, 3, 7, 7), 2, 3)),
    "direct, pointwise": ("direct", Case((8, 96, 28, 28), (64, 96, 1, 1))),
    "direct, volume": ("direct", Case((1, 16, 12, 13, 14), (24, 16, 3, 3, 3), 1, 1)),
    "auto": ("auto", Case((2, 64, 28, 28), (64, 64, 3, 3), padding=1)),
}

SETTINGS = [
    (threads, "SMALL", 0),
    (small, "FEW_PRODUCTS", 0),
    (tiling, "PIECE_WORK", 100_000),
    (depthwise, "TASK_SECONDS", 1e-6),
    (nonfused, "SHARE_SECONDS", 1e-6),
    (fused, "SHARE_SECONDS", 1e-6),
]


def cut_small(monkeypatch):
    """A fixture: everything is cut small and shared, however little it is, and what the tests set
    is set back."""
    before = cyconv.get_num_threads(), blas()
    for setting in SETTINGS:
        monkeypatch.setattr(*setting)
    set_blas(2)
    yield
    set_blas(*before[1][:1])
    cyconv.set_num_threads(before[0])


def set_blas(number=1):
    for library in threads._blas.libraries:
        release(library)
        library.set_num_threads(number)
        release(library)


def release(library):
    """threadpoolctl from 3.7 on lets one thread alone set the limit, until it is released."""
    getattr(library, "clear_controlling_thread", lambda force: None)(force=True)


def blas():
    return [library.get_num_threads() for library in threads._blas.libraries]


def all_passes(algorithm, case, dtype=np.float32):
    """The bytes of y, dx and dw."""
    x, w, b, dy = case.arrays(dtype)
    options = {**case.options, "algorithm": algorithm}
    y = cyconv.conv(x, w, b, **options)
    dx = cyconv.conv_input_grad(dy, w, x.shape, **options)
    dw = cyconv.conv_weight_grad(dy, x, w.shape, **options)
    return [array.tobytes() for array in (y, dx, dw)]


def run_on_two(task=lambda i: None, use_blas=True):
    """Run a task twice, at the same time, on two threads; return who ran it."""
    meeting, who = threading.Barrier(2), []

    def tile(index):
        meeting.wait(PATIENCE)
        who.append(threading.current_thread())
        task(index)

    cyconv.set_num_threads(2)
    threads.run(tile, 2, 1.0, blas=use_blas)
    return who


def in_threads(number, function):
    """Call function(i) on threads of the user's, at once; return the results."""
    results, failures = [None] * number, []

    def call(i):
        try:
            results[i] = function(i)
        except BaseException as failure:
            failures.append(failure)

    crowd = [threading.Thread(target=call, args=(i,), daemon=True) for i in range(number)]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join(PATIENCE)
        assert not thread.is_alive(), "hangs"
    if failures:
        raise failures[0]
    return results


def python(program, patience=2 * PATIENCE, **environment):
    """Run a program in an interpreter of its own; return what it prints, also on stderr."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=patience,
        text=True,
    )
    return done.returncode, done.stdout
