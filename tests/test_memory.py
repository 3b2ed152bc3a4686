"""Memory: calls do not keep any, and where there is little of it they raise MemoryError."""

import sys

import pytest
from sharing import python

linux = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="reads sizes from /proc, or limits address space"
)

GROWTH = """
import gc, os, tracemalloc
import numpy as np
import cyconv, sharing
from calls import calls
from cyconv import threads
for setting in sharing.SETTINGS:
    setattr(*setting)
cyconv.set_num_threads(2)

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

def growth(call, number):
    for _ in range(5):
        call()
    tracemalloc.start()
    call()
    gc.collect()
    traced, size = tracemalloc.get_traced_memory()[0], resident()
    for _ in range(number):
        call()
    gc.collect()
    traced, size = tracemalloc.get_traced_memory()[0] - traced, resident() - size
    tracemalloc.stop()
    return traced, size

def layer_step():
    layer = cyconv.Conv2D(4, 6, 3, padding="same")
    layer.backward(layer.forward(x))
    layer.freeze()(x)

def refused():
    try:
        cyconv.conv(x, x)
    except ValueError:
        pass

def in_a_thread():
    sharing.in_threads(1, lambda i: sharing.all_passes(*sharing.WORK["gemm, groups"]))

x = np.ones((2, 4, 9, 9), np.float32)
half = x.astype(np.float16)
w = np.ones((6, 4, 3, 3), np.float32)
tasks = {name: call.results for name, call in calls().items()}
tasks |= {"layer": layer_step, "refused": refused, "half": lambda: cyconv.conv(half, w)}
tasks |= {"thread": in_a_thread}
for name in ("gemm", "winograd", "winograd, few tiles", "depthwise, strided", "direct"):
    tasks[name] = lambda name=name: sharing.all_passes(*sharing.WORK[name])
for name, task in tasks.items():
    large = name in sharing.WORK or name == "thread"
    number = NUMBER // 40 if large else NUMBER
    traced, size = growth(task, number)
    if traced >= 20_000 or size >= 3 << 20:
        # From threads that come and go, on a busy machine, 100 calls kept 15 kB, 2000 no more than
        # 33: no leak, which would show again.
        traced, size = growth(task, number)
    assert traced < 20_000, f"{name}: {traced} bytes more after {number} calls"
    assert size < 3 << 20, f"{name}: {size} bytes more resident after {number} calls"
"""


@linux
@pytest.mark.parametrize("number", [120, pytest.param(10_000, marks=pytest.mark.soak)])
def test_calls_keep_nothing(number):
    """Neither what Python allocates nor what the kernels do grows with the number of calls."""
    code, printed = python(f"NUMBER = {number}\n{GROWTH}", patience=30 * number)
    assert (code, printed) == (0, "")


LITTLE_MEMORY = """
import resource, threading
import numpy as np, cyconv
from cyconv import scratch, threads
threads.SMALL = 0
cyconv.set_num_threads(2)
rng = np.random.default_rng(1)
small = rng.integers(-2, 3, (2, 16, 20, 20)).astype(np.float32)
x, w = np.zeros((2, 16, 500, 500), np.float32), np.ones((16, 16, 3, 3), np.float32)
y, dy, grouped = np.empty_like(x), x, np.ones((16, 1, 3, 3), np.float32)
wanted = {a: cyconv.conv(small, w, padding=1, algorithm=a) for a in ("gemm", "winograd", "direct")}
limits = [library.get_num_threads() for library in threads._blas.libraries]
meeting, square = threading.Barrier(2), np.ones((500, 500), np.float32)
def meet(tile):
    # OpenBLAS ends the process where it finds no memory for the first products of two threads at
    # once: let it have that beforehand.
    meeting.wait(30)
    for _ in range(20):
        square @ square
threads.run(meet, 2, 1.0, blas=True)

def calls(algorithm):
    options = {"padding": 1, "algorithm": algorithm}
    yield lambda: cyconv.conv(x, w, out=y, **options)
    yield lambda: cyconv.conv_input_grad(dy, w, x.shape, out=y, **options)
    yield lambda: cyconv.conv_weight_grad(dy, x, w.shape, **options)
    yield lambda: cyconv.conv(x[:1].astype(np.float16), w, **options)
    if algorithm == "direct":
        yield lambda: cyconv.conv(x, grouped, groups=16, out=y, **options)
        yield lambda: cyconv.conv_weight_grad(dy, x, grouped.shape, groups=16, **options)

def address_space():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()

refused = served = 0
hard = resource.getrlimit(resource.RLIMIT_AS)[1]
for spare in SPARE:
    for algorithm in wanted:
        for call in calls(algorithm):
            scratch._scratch.buffers.clear()
            scratch._scratch.arrays.clear()
            resource.setrlimit(resource.RLIMIT_AS, (address_space() + (spare << 20), hard))
            try:
                call()
                served += 1
            except MemoryError:
                refused += 1
            resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
            assert not threads._pool._open and not threads._blas._holders
            assert [library.get_num_threads() for library in threads._blas.libraries] == limits
    for algorithm, result in wanted.items():
        assert abs(cyconv.conv(small, w, padding=1, algorithm=algorithm) - result).max() == 0
    threads.run(meet, 2, 1.0, blas=True)
print(refused, served)
"""


@linux
@pytest.mark.parametrize(
    "spare", [(0, 1, 8), pytest.param(tuple(range(40)), marks=pytest.mark.soak)]
)
def test_little_memory(spare):
    """With so many MiB of address space left, a call is served or raises MemoryError; and the
    pool and the limit of BLAS are as before."""
    code, printed = python(LITTLE_MEMORY.replace("SPARE", repr(spare)), patience=60 * len(spare))
    assert code == 0, printed
    refused, *_ = map(int, printed.split())
    assert refused > 0, printed
