"""Children, exit while work is under way, and other interpreters: each in a process of its own,
where it may crash."""

import multiprocessing
import os
import sys
import threading

import pytest
import sharing
from sharing import PATIENCE, SETTINGS, WORK, all_passes, blas, in_threads, python, run_on_two

import cyconv
from cyconv import threads

cut_small = pytest.fixture(autouse=True)(sharing.cut_small)

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
quietly = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


def report(connection, work):
    """What a child says of itself."""
    for setting in SETTINGS:
        setattr(*setting)  # which a child that was not forked does not have
    connection.send((all_passes(*work), blas(), len(set(run_on_two()))))


def child(method, work):
    """Run `report` in a child."""
    context = multiprocessing.get_context(method)
    here, there = context.Pipe()
    process = context.Process(target=report, args=(there, work), daemon=True)
    process.start()
    try:
        assert here.poll(2 * PATIENCE), "the child hangs"
        return here.recv()
    finally:
        process.join(1)
        process.kill()


@pytest.mark.parametrize(
    "method",
    [
        pytest.param("fork", marks=[forks, quietly]),
        pytest.param("forkserver", marks=forks),
        "spawn",
    ],
)
def test_a_child(method):
    for name in ("gemm", "winograd") if method == "fork" else ("auto",):
        alone = all_passes(*WORK[name])
        run_on_two()
        sharing.set_blas(2)
        before = blas()
        bits, limits, workers = child(method, WORK[name])
        assert (bits, workers) == (alone, 2)
        if method == "fork":  # another has libraries and limits of its own
            assert limits == before
    assert len(set(run_on_two())) == 2


@forks
@quietly
def test_a_child_of_a_second_thread():
    """The first is in a region, whose locks and limit the child must not inherit."""
    alone, before = all_passes(*WORK["gemm"]), blas()
    seen = []

    def task(index):
        if threading.current_thread() is threading.main_thread():
            with threads._pool._lock, threads._blas._lock:
                seen.extend(in_threads(1, lambda i: child("fork", WORK["gemm"])))

    run_on_two(task)
    assert seen == [(alone, before, 2)]
    assert all_passes(*WORK["gemm"]) == alone
    assert blas() == before


@forks
@quietly
def test_a_child_of_a_worker():
    """It is in the middle of a tile, which in the child nobody will finish."""
    alone, before = all_passes(*WORK["gemm"]), blas()
    seen = []

    def task(index):
        if threading.current_thread() is not threading.main_thread():
            seen.append(child("fork", WORK["gemm"]))

    run_on_two(task)
    assert seen == [(alone, before, 2)]
    assert all_passes(*WORK["gemm"]) == alone
    assert blas() == before


@forks
@quietly
def test_a_child_of_a_child():
    context, alone = multiprocessing.get_context("fork"), all_passes(*WORK["winograd"])
    here, there = context.Pipe()

    def generation():
        run_on_two()
        process = context.Process(target=report, args=(there, WORK["winograd"]))
        process.start()
        process.join(PATIENCE)

    process = context.Process(target=generation)
    process.start()
    try:
        assert here.poll(2 * PATIENCE), "the child hangs"
        bits, _, workers = here.recv()
    finally:
        process.join(PATIENCE)
        process.kill()
    assert (bits, workers) == (alone, 2)


def endless(algorithm, begin):
    """A program whose threads are in the middle of convolutions when it comes to its end."""
    return f"""
import threading, time
import numpy as np, cyconv
cyconv.set_num_threads(2)
x, w = np.ones((4, 16, 56, 56), np.float32), np.ones((16, 16, 3, 3), np.float32)
begun = threading.Event()
def compute():
    while True:
        cyconv.conv(x, w, padding=1, algorithm={algorithm!r})
        begun.set()
for _ in range(2):
    threading.Thread(target=compute, daemon=True).start()
begun.wait()
time.sleep(0.02)
{begin}
"""


@pytest.mark.parametrize("algorithm", ["gemm", "winograd", "direct"])
def test_exit_while_a_daemon_computes(algorithm):
    for _ in range(2):
        assert python(endless(algorithm, "")) == (0, "")


@pytest.mark.skipif(sys.platform == "win32", reason="a signal ends a process there")
def test_interrupted_while_daemons_compute():
    """As by Ctrl-C: the main thread is in a convolution of its own."""
    ending = """
import os, signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
compute()
"""
    code, printed = python(endless("auto", ending))
    assert code != 0
    assert printed.rstrip().endswith("KeyboardInterrupt"), printed
    assert printed.count("Traceback") == 1, printed


def test_a_closed_pool_still_serves(monkeypatch):
    """At exit its workers are gone, which a daemon thread that computes does not know."""
    monkeypatch.setattr(threads, "_pool", threads._Pool())
    alone = all_passes(*WORK["gemm"])
    run_on_two()
    threads._pool.close()
    assert not any(worker.is_alive() for worker in threads._pool._workers)
    for core in (0, 1):
        monkeypatch.setattr("cyconv.kernels.current_core", lambda core=core: core)
        cyconv.set_num_threads(3)
        assert all_passes(*WORK["gemm"]) == alone


# What an interpreter says of itself. NumPy serves one interpreter of a process: the first that
# imports it, and none that has a GIL of its own.
SUBINTERPRETER = """
import warnings
warnings.simplefilter("ignore")
try:
    import numpy as np, cyconv
except ImportError:
    print("refuses", flush=True)
else:
    from cyconv import threads
    threads.SMALL = 0
    cyconv.set_num_threads(2)
    x, w = np.ones((4, 16, 30, 30), np.float32), np.ones((16, 16, 3, 3), np.float32)
    for algorithm in ("gemm", "winograd", "direct"):
        assert abs(cyconv.conv(x, w, algorithm=algorithm) - 144).max() < 1e-3
    print("works", flush=True)
"""
INTERPRETERS = f"""
import sys
try:
    import _interpreters as interpreters
except ImportError:  # before Python 3.13
    import _xxsubinterpreters as interpreters
def run(isolated):
    try:
        one = interpreters.create("isolated" if isolated else "legacy")
    except TypeError:
        one = interpreters.create(isolated=isolated)
    failure = interpreters.run_string(one, f"import sys; sys.path[:] = {{sys.path}}" + PROGRAM)
    assert failure is None, failure
    interpreters.destroy(one)
PROGRAM = {SUBINTERPRETER!r}
"""


@pytest.mark.parametrize("isolated", [True, False], ids=["isolated", "legacy"])
@pytest.mark.parametrize("first", ["main", "other"])
def test_another_interpreter(first, isolated):
    """It works or refuses, and ends without a crash; and so does the main one."""
    if sys.implementation.name != "cpython":
        pytest.skip("one interpreter is all there is")
    parts = ["exec(PROGRAM)", f"run({isolated})"]
    code, printed = python(INTERPRETERS + "\n".join(parts if first == "main" else parts[::-1]))
    assert code == 0, printed
    assert sorted({*printed.split(), "refuses"}) == ["refuses", "works"], printed
    if first == "main":
        assert printed.startswith("works")
