"""Threads: the same bits on any number of them, and nothing left behind when they are done.

A task that must run on two threads at once meets there at a barrier; every wait has a timeout, so
that what would hang fails instead.
"""

import contextlib
import multiprocessing
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import reference
from calls import calls
from strategies import Case

import cyconv
from cyconv import kernels, threads, tiling
from cyconv.algorithms import depthwise, direct, fused, lowering, winograd
from cyconv.geometry import geometry
from cyconv.plan import plan

DTYPES = [np.float32, np.float64]
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
    (tiling, "PIECE_WORK", 100_000),
    (depthwise, "TASK_SECONDS", 1e-6),
    (winograd, "SHARE_SECONDS", 1e-6),
    (fused, "SHARE_SECONDS", 1e-6),
]


@pytest.fixture(autouse=True)
def as_before(monkeypatch):
    """Everything is cut small and shared, however little it is; and the settings come back."""
    before = cyconv.get_num_threads(), blas()
    for setting in SETTINGS:
        monkeypatch.setattr(*setting)
    forget_plans()
    set_blas(2)
    yield
    forget_plans()
    set_blas(*before[1][:1])
    cyconv.set_num_threads(before[0])


def forget_plans():
    plan.cache_clear()
    cyconv.prepare._prepare_once.cache_clear()


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


def test_set_num_threads():
    for number in (1, 3, np.int64(2), sys.maxsize):
        cyconv.set_num_threads(number)
        assert cyconv.get_num_threads() == number
        assert type(cyconv.get_num_threads()) is int
    for wrong, error in [(0, ValueError), (-1, ValueError), (sys.maxsize + 1, ValueError)] + [
        (wrong, TypeError) for wrong in (1.0, True, None, "2", [2])
    ]:
        with pytest.raises(error, match=r"\bn\b"):
            cyconv.set_num_threads(wrong)
    assert cyconv.get_num_threads() == sys.maxsize


@pytest.mark.parametrize("value", ["0", "-1", "2.5", "two", " ", "1e3", "+"])
def test_wrong_variable(monkeypatch, value):
    monkeypatch.setenv("CYCONV_NUM_THREADS", value)
    with pytest.raises(ValueError, match="CYCONV_NUM_THREADS"):
        threads._initial_threads()


def python(program, **environment):
    """Run a program in an interpreter of its own; return what it prints, also on stderr."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=2 * PATIENCE,
        text=True,
    )
    return done.returncode, done.stdout


def test_variable():
    program = "import cyconv; print(cyconv.get_num_threads())"
    assert python(program, CYCONV_NUM_THREADS="3") == (0, "3\n")
    assert python(program, CYCONV_NUM_THREADS="") == (0, f"{threads.available_cores()}\n")
    code, printed = python(program, CYCONV_NUM_THREADS="0")
    assert code == 1
    assert "ValueError: CYCONV_NUM_THREADS" in printed


@pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "float64"])
@pytest.mark.parametrize("name", WORK)
def test_bits_do_not_depend_on_threads(monkeypatch, name, dtype):
    algorithm, case = WORK[name]
    offered = []
    run = threads._Pool.run
    monkeypatch.setattr(
        threads._Pool, "run", lambda pool, *args: (offered.append(args), run(pool, *args))
    )
    cyconv.set_num_threads(1)
    alone = all_passes(algorithm, case, dtype)
    assert not offered
    for number in (2, 3, 7):
        cyconv.set_num_threads(number)
        offered.clear()
        assert all_passes(algorithm, case, dtype) == alone, number
        assert len(offered) >= 2  # a pass has one region or more; some sums are a single tile
        assert all(region.count > 1 and 0 < helpers < number for region, helpers in offered)


def test_the_work_is_of_all_kinds():
    """So that the table above does not quietly become one of the same."""

    def made(name, pass_):
        algorithm, case = WORK[name]
        g = geometry(case.x_shape, case.w_shape, case.stride, case.padding, 1, case.groups)
        return plan(g, np.dtype(np.float32), pass_, algorithm)

    def tiles(name, pass_):
        return made(name, pass_).tiles

    assert isinstance(tiles("gemm, by filters", "forward"), lowering.ByFilter)
    assert len(tiles("gemm, dx in phases", "input_grad")) == 2
    by_channels = tiles("gemm, dx by channels", "input_grad")
    assert len(by_channels) == 1
    assert len({share.channels.start for share in by_channels[0]}) > 1
    for name in ("gemm", "gemm, line", "pointwise"):
        assert sum(map(len, tiles(name, "weight_grad"))) > 1
    assert tiles("winograd, few tiles", "forward").few
    assert tiles("winograd, few tiles", "weight_grad").few
    for name in ("winograd", "winograd, one image"):
        assert not tiles(name, "forward").few
        assert len(tiles(name, "forward").tiles) > 1
        summed = tiles(name, "weight_grad")
        assert not summed.few
        assert len(summed.parts if kernels.VECTOR else summed.tiles) > 1
    for name in ("winograd", "winograd, few tiles"):
        assert isinstance(tiles(name, "forward"), fused.Blocks) == kernels.VECTOR
        assert isinstance(tiles(name, "weight_grad"), fused.Sums) == kernels.VECTOR
    for name, (algorithm, _) in WORK.items():
        if algorithm == "direct":
            wanted = depthwise if name.startswith("depthwise") else direct
            for pass_ in ("forward", "input_grad"):
                assert made(name, pass_).algorithm is wanted, name
                if wanted is direct:
                    assert all(len(part.tasks) > 1 for part in tiles(name, pass_).parts), name
            if wanted is direct:
                assert made(name, "weight_grad").algorithm is direct
                assert len(tiles(name, "weight_grad").shares) > 1
    assert len(tiles("direct, strided", "input_grad").parts) == 4


def test_chunks_of_a_winograd_sum(monkeypatch):
    """Too large for the others: several chunks, each a region of its own."""
    forget_plans()
    for module in (winograd, fused):
        monkeypatch.setattr(module, "CHUNK_BYTES", 1)
    monkeypatch.setattr(winograd, "BLOCK_TILES", 16)
    monkeypatch.setattr(fused, "SUM_COLUMNS", 16)
    monkeypatch.setattr(fused, "FEW_TILES", 0)
    case = Case((2, 96, 22, 23), (96, 96, 3, 3), padding=1)
    bits = []
    for number in (1, 2, 3, 7):
        cyconv.set_num_threads(number)
        bits.append(all_passes("winograd", case))
    g = geometry(case.x_shape, case.w_shape, 1, 1, 1, 1)
    cut = winograd.tiles(g, 4, "weight_grad")
    assert len(cut.chunks if kernels.VECTOR else cut.tiles) > 1
    forget_plans()
    assert all(b == bits[0] for b in bits)


def test_every_tile_once():
    cyconv.set_num_threads(4)
    for _ in range(20):
        counts = np.zeros(500, int)

        def task(index, counts=counts):
            counts[index] += 1

        threads.run(task, len(counts), 1.0, blas=False)
        assert (counts == 1).all()


def test_a_region_ends_when_its_tiles_are_done():
    """Not when they have been taken: the caller waits for a slow worker, awake or asleep."""
    for seconds in (0, 1e-5, 0.05):
        done = []

        def task(index, seconds=seconds, done=done):
            if threading.current_thread() is not threading.main_thread():
                time.sleep(seconds)
            done.append(index)

        run_on_two(task)
        assert sorted(done) == [0, 1]


def test_no_more_threads_than_set():
    """Also where there are more workers, from before, who may be awake."""
    for number in (7, 2, 3, 7, 1, 2):
        cyconv.set_num_threads(number)
        seen = set()

        def task(index, seen=seen):
            seen.add(threading.get_ident())
            time.sleep(1e-3)

        threads.run(task, 30, 1.0, blas=False)
        assert len(seen) <= number


@pytest.mark.parametrize("error", [ArithmeticError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("who", ["caller", "worker", "both"])
def test_an_exception_reaches_the_caller(error, who):
    alone = all_passes(*WORK["gemm"])
    raised = []

    def task(index):
        assert blas() == [1] * len(blas())
        here = threading.current_thread() is threading.main_thread()
        if who in ("both", "caller" if here else "worker"):
            raised.append(error(f"tile {index}"))
            raise raised[-1]

    before = blas()
    for _ in range(3):
        with pytest.raises(error, match="tile") as caught:
            run_on_two(task)
        assert caught.value in raised
        assert blas() == before
    assert len(set(run_on_two())) == 2
    assert all_passes(*WORK["gemm"]) == alone


def test_after_an_exception_no_tile_is_begun():
    begun, joined = [], threading.Event()

    def task(index):
        begun.append(index)
        if index == 0:
            assert joined.wait(PATIENCE)
            raise ArithmeticError
        joined.set()
        time.sleep(1e-3)

    cyconv.set_num_threads(3)
    for shared in (True, False):
        begun.clear()
        with pytest.raises(ArithmeticError):
            threads.run(task, 100, 1.0 if shared else -1.0, blas=True)
        assert len(begun) < (50 if shared else 2)


def test_blas_is_held_to_one_thread():
    before = blas()
    within = []
    run_on_two(lambda index: within.append(blas()))
    assert within == [[1] * len(before)] * 2
    run_on_two(lambda index: within.append(blas()), use_blas=False)
    assert within[2:] == [before] * 2
    assert blas() == before


def test_blas_is_held_by_any_thread():
    """Whoever set the limit before, and whoever ends last: the first caller, or another."""
    before = blas()
    run_on_two()  # the main thread has had the limit
    within = []

    def hold(index):
        within.append(blas())

    in_threads(2, lambda i: threads.run(hold, 1, 0, blas=True))
    assert within == [[1] * len(before)] * 2
    assert blas() == before
    first_in, second_in, first_out = (threading.Event() for _ in range(3))

    def second():
        assert first_in.wait(PATIENCE)
        with threads._blas:
            second_in.set()
            assert first_out.wait(PATIENCE)

    other = threading.Thread(target=second)
    other.start()
    with threads._blas:
        first_in.set()
        assert second_in.wait(PATIENCE)
    first_out.set()
    other.join()
    assert blas() == before


def test_blas_is_restored_after_a_signal_on_the_way_in(monkeypatch):
    before, set_limits = blas(), threads._blas._set

    def interrupted(numbers):
        set_limits(numbers)
        monkeypatch.setattr(threads._blas, "_set", set_limits)
        raise KeyboardInterrupt

    monkeypatch.setattr(threads._blas, "_set", interrupted)
    with pytest.raises(KeyboardInterrupt):
        threads.run(lambda index: None, 1, 0, blas=True)
    assert blas() == before
    threads.run(lambda index: None, 1, 0, blas=True)
    assert blas() == before


def test_many_callers():
    """Eight at once, of all kinds, while the number of threads changes under them."""
    names = list(WORK)
    before, alone = blas(), {name: all_passes(*WORK[name]) for name in names}
    interval = sys.getswitchinterval()
    over = threading.Event()

    def change():
        number = 0
        while not over.wait(1e-3):
            number = number % 5 + 1
            cyconv.set_num_threads(number)

    changer = threading.Thread(target=change)
    changer.start()
    sys.setswitchinterval(1e-5)
    try:
        chosen = [[names[(i + 3 * k) % len(names)] for k in range(6)] for i in range(8)]
        results = in_threads(8, lambda i: [all_passes(*WORK[name]) for name in chosen[i]])
    finally:
        sys.setswitchinterval(interval)
        over.set()
        changer.join()
    assert results == [[alone[name] for name in row] for row in chosen]
    assert blas() == before
    assert not threads._pool._open


def test_a_convolution_within_a_tile():
    alone, before, results = all_passes(*WORK["winograd"]), blas(), []
    run_on_two(lambda index: results.append(all_passes(*WORK["winograd"])))
    assert results == [alone] * 2
    assert blas() == before


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


forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
quietly = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


@pytest.mark.parametrize("method", [pytest.param("fork", marks=[forks, quietly]), "spawn"])
def test_a_child(method):
    for name in ("gemm", "winograd"):
        alone = all_passes(*WORK[name])
        run_on_two()
        set_blas(2)
        before = blas()
        bits, limits, workers = child(method, WORK[name])
        assert (bits, workers) == (alone, 2)
        if method == "fork":  # a spawned one has libraries and limits of its own
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


@pytest.mark.parametrize("algorithm", ["gemm", "winograd", "direct"])
def test_exit_while_a_daemon_computes(algorithm):
    program = f"""
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
"""
    for _ in range(2):
        assert python(program) == (0, "")


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


def test_where_affinity_is_forbidden(monkeypatch):
    """As in some sandboxes: it is a wish, not a need."""

    def forbidden(*_):
        raise PermissionError

    monkeypatch.setattr(os, "sched_setaffinity", forbidden, raising=False)
    monkeypatch.setattr(threads, "_pool", threads._Pool())
    assert len(set(run_on_two())) == 2
    threads._pool.close()


@pytest.mark.parametrize("after", [0, 1])
def test_where_threads_cannot_start(monkeypatch, after):
    """Not one, or no more than one."""
    alone = all_passes(*WORK["winograd"])
    monkeypatch.setattr(threads, "_pool", threads._Pool())
    start, started = threading.Thread.start, []

    def refuse(thread):
        if len(started) >= after:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    cyconv.set_num_threads(3)
    assert all_passes(*WORK["winograd"]) == alone
    assert len(threads._pool._workers) == len(started) == after
    threads._pool.close()


def test_scratch():
    a = threads.scratch(90, (3, 4), np.dtype(np.float32))
    assert (a.shape, a.dtype, a.flags.c_contiguous) == ((3, 4), np.float32, True)
    assert threads.scratch(90, (3, 4), np.dtype(np.float32)) is a
    assert np.shares_memory(a, threads.scratch(90, (5,), np.dtype(np.float64)))
    assert not np.shares_memory(a, threads.scratch(91, (3, 4), np.dtype(np.float32)))
    (other,) = in_threads(1, lambda i: threads.scratch(90, (3, 4), np.dtype(np.float32)))
    assert not np.shares_memory(a, other)
    longer = threads.scratch(90, (1000,), np.dtype(np.float64))
    assert np.shares_memory(longer, threads.scratch(90, (3, 4), np.dtype(np.float32)))
    for count in range(2 * threads.KEPT_ARRAYS):
        threads.scratch(90, (count + 1,), np.dtype(np.float32))
    assert len(threads._scratch.arrays) <= threads.KEPT_ARRAYS


def test_scratch_is_bounded():
    size = threads.KEPT_SCRATCH
    assert threads.scratch(92, (size,), np.dtype(np.uint8)) is not None
    large = threads.scratch(92, (size + 1,), np.dtype(np.uint8))
    assert not np.shares_memory(large, threads.scratch(92, (size + 1,), np.dtype(np.uint8)))
    assert threads._scratch.buffers[92].nbytes == size
    assert all(array.nbytes <= size for array in threads._scratch.arrays.values())
    threads._scratch.buffers.pop(92)
    threads._scratch.arrays.clear()


@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize("name", ["gemm", "pointwise", "winograd", "depthwise"])
def test_errstate_of_the_caller_is_his(name, number):
    """No thread warns of Inf - Inf or of overflow, and none changes what the caller has set."""
    algorithm, case = WORK[name]
    x, w, _, dy = case.arrays(np.float32)
    x[::2], x[1::2] = 3e38, -3e38
    w[:], dy[:] = 1e30, 1e30
    options = {**case.options, "algorithm": algorithm}
    cyconv.set_num_threads(number)
    with np.errstate(all="raise", under="warn"):
        state = np.geterr()
        cyconv.conv(x, w, **options)
        cyconv.conv_input_grad(dy, w, x.shape, **options)
        cyconv.conv_weight_grad(dy, x, w.shape, **options)
        assert np.geterr() == state


def test_calls_of_the_whole_face_in_eight_threads():
    """On the crooked case of the other tests, small and shared all the same."""
    table = calls()
    for name, call in table.items():
        wanted = [None if r is None else r.tobytes() for r in call.results()]
        cyconv.set_num_threads(3)
        for results in in_threads(8, lambda i, call=call: call.results()):
            assert [None if r is None else r.tobytes() for r in results] == wanted, name


def test_a_signal_while_the_caller_waits():
    """It may come at any time; when the caller is back, nobody writes to his arrays any more."""
    signal = pytest.importorskip("signal")
    if not hasattr(signal, "setitimer"):
        pytest.skip("no timer signals on this platform")
    ended = []

    def task(index):
        if threading.current_thread() is threading.main_thread():
            signal.setitimer(signal.ITIMER_REAL, 0.1)
        else:
            time.sleep(0.3)
            ended.append(index)

    def interrupt(*_):
        raise TimeoutError

    before, handler = blas(), signal.signal(signal.SIGALRM, interrupt)
    try:
        with contextlib.suppress(TimeoutError):
            run_on_two(task)
        assert len(ended) == 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
    assert blas() == before
    assert len(set(run_on_two())) == 2


def test_results_are_right():
    """Bits that are equal could be equally wrong."""
    cyconv.set_num_threads(3)
    for algorithm, case in WORK.values():
        x, w, b, dy = case.arrays()
        options = {**case.options, "algorithm": algorithm}
        for got, wanted in (
            (cyconv.conv(x, w, b, **options), reference.conv(x, w, b, **case.options)),
            (
                cyconv.conv_input_grad(dy, w, x.shape, **options),
                reference.conv_input_grad(dy, w, x.shape, **case.options),
            ),
            (
                cyconv.conv_weight_grad(dy, x, w.shape, **options),
                reference.conv_weight_grad(dy, x, w.shape, **case.options),
            ),
        ):
            assert abs(got - wanted).max() <= 1e-12 * abs(wanted).max()
