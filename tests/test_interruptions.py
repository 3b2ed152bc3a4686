"""Exceptions, signals and want of memory in mid-region: they reach the caller, and leave the pool
of workers and the BLAS limit as they were."""

import gc
import sys
import threading
import time

import numpy as np
import pytest
import sharing
from sharing import PATIENCE, WORK, all_passes, blas, in_threads, run_on_two

import cyconv
from cyconv import threads
from cyconv.kernels.fallback import waiting

cut_small = pytest.fixture(autouse=True)(sharing.cut_small)


def assert_quiet(before):
    """No region is open, nobody holds BLAS, and both work."""
    for lock in (threads._pool._lock, threads._blas._lock):
        assert lock.acquire(timeout=PATIENCE)
        lock.release()
    assert not threads._pool._open
    assert not threads._blas._holders
    assert blas() == before
    assert len(set(run_on_two())) == 2


@pytest.mark.parametrize("error", [ArithmeticError, MemoryError, KeyboardInterrupt, SystemExit])
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
        assert_quiet(before)
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


def test_a_failed_task_is_not_waited_for():
    """Those who wait for the first phase to end hear of it too (in C nothing can fail there)."""
    progress = np.zeros(3, np.longlong)

    def fail(task):
        raise MemoryError

    with pytest.raises(MemoryError):
        waiting.first_phase(progress, 1, fail)
    in_threads(1, lambda _: waiting.first_phase(progress, 1, fail))


class Interruption:
    """Raises KeyboardInterrupt where Python would, were a signal to come in the middle of a region:
    when a function begins or has returned, and after each call of a compiled one."""

    EVENTS = ("call", "return", "c_return")

    def __init__(self, after):
        self.left = after

    def __enter__(self):
        sys.setprofile(self)

    def __exit__(self, *_):
        sys.setprofile(None)

    def __call__(self, frame, event, argument):
        module = frame.f_globals.get("__name__")
        if module in (threads.__name__, "threadpoolctl") and event in self.EVENTS:
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt


def asleep():
    """A pool whose only worker sleeps."""
    pool = threads._Pool()
    with pool._lock:
        pool._grow(1)
    give_up = time.monotonic() + PATIENCE
    while not pool._sleepers:
        assert time.monotonic() < give_up
        time.sleep(1e-3)
    return pool


def assert_closes(pool):
    """As at exit: no worker sleeps on."""
    closing = threading.Thread(target=pool.close, daemon=True)
    closing.start()
    closing.join(PATIENCE)
    assert not closing.is_alive()


@pytest.mark.parametrize("use_blas", [True, False])
def test_an_interruption_at_any_step_of_a_region(use_blas, monkeypatch):
    before, finished, after = blas(), False, 0
    cyconv.set_num_threads(2)
    while not finished:
        after += 1
        under_way = set()
        monkeypatch.setattr(threads, "_pool", asleep())

        def task(index, under_way=under_way):
            under_way.add(index)
            time.sleep(1e-4)
            under_way.remove(index)

        interruption = Interruption(after)
        try:
            with interruption:
                threads.run(task, 4, 1.0, blas=use_blas)
        except KeyboardInterrupt:
            pass
        finished = interruption.left > 0
        assert not under_way, "a worker writes into arrays that are the caller's again"
        assert_quiet(before)
        assert_closes(threads._pool)
    assert after > 20


def test_a_second_interruption_while_the_first_is_cleaned_up(monkeypatch):
    before, left = blas(), {"_end": 2, "release": 2}

    def interrupted(owner, name):
        original = getattr(owner, name)

        def method(*arguments):
            if threading.current_thread() is threading.main_thread() and left[name]:
                left[name] -= 1
                raise KeyboardInterrupt(name)
            original(*arguments)

        monkeypatch.setattr(owner, name, method)

    interrupted(threads._pool, "_end")
    interrupted(threads._blas, "release")
    with pytest.raises(KeyboardInterrupt, match="release"):
        run_on_two()
    assert left == {"_end": 0, "release": 0}
    assert_quiet(before)


def at_signal(exception):
    def interrupt(*_):
        raise exception

    return interrupt


@pytest.fixture
def alarms():
    """`signal`, where it has timers; none goes off any more after the test. The collector rests:
    a signal in one of its callbacks (Hypothesis has one) would not reach the caller."""
    signal = pytest.importorskip("signal")
    if not hasattr(signal, "setitimer"):
        pytest.skip("no timer signals on this platform")
    handler = signal.signal(signal.SIGALRM, at_signal(TimeoutError))
    gc.disable()
    yield signal
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, handler)
    gc.enable()


def test_a_signal_while_the_caller_waits(alarms):
    """When the caller is back, nobody writes to his arrays any more."""
    ended = []

    def task(index):
        if threading.current_thread() is threading.main_thread():
            alarms.setitimer(alarms.ITIMER_REAL, 0.1)
        else:
            time.sleep(0.3)
            ended.append(index)

    before = blas()
    with pytest.raises(TimeoutError):
        run_on_two(task)
    assert len(ended) == 1
    assert_quiet(before)


@pytest.mark.parametrize("algorithm", ["gemm", "winograd", "direct"])
def test_signals_at_any_time(alarms, algorithm):
    rng, before = np.random.default_rng(3), blas()
    cyconv.set_num_threads(3)
    alone = all_passes(*WORK[algorithm])
    begun = time.perf_counter()
    all_passes(*WORK[algorithm])
    seconds, stopped = time.perf_counter() - begun, 0
    for _ in range(20):
        try:
            alarms.setitimer(alarms.ITIMER_REAL, rng.uniform(1e-5, seconds))
            all_passes(*WORK[algorithm])
            alarms.setitimer(alarms.ITIMER_REAL, 0)
        except TimeoutError:
            stopped += 1
        assert_quiet(before)
        cyconv.set_num_threads(3)
    assert stopped
    assert all_passes(*WORK[algorithm]) == alone


def test_nobody_waits_for_a_task_that_was_taken_and_left(monkeypatch):
    """A signal may come after a task of a first phase was taken, and before it is begun."""
    progress, others = np.zeros(3, np.longlong), []

    def interrupted(taken, number, from_back):
        waiting.count(taken)
        raise KeyboardInterrupt
        yield

    with monkeypatch.context() as patch:
        patch.setattr(waiting, "all_tasks", interrupted)
        with pytest.raises(KeyboardInterrupt):
            waiting.first_phase(progress, 2, others.append)
    helper = threading.Thread(
        target=waiting.first_phase, args=(progress, 2, others.append), daemon=True
    )
    helper.start()
    helper.join(PATIENCE)
    assert not helper.is_alive()
    assert others == [1]
