"""The worker pool, the BLAS limit, and tiles over workers.

A convolution is one region: a number of tiles and a function that computes one. The caller takes
tiles, from the front, until there are none left; workers that are idle join in, from the back. So
a core is at work on the same part of an array from one call to the next, and finds it in its cache:
a layer of 0.13 ms took 0.21 where cores took turns. A region ends when its tiles are done, never
when some number of workers has arrived, so nothing waits for a worker that another region holds, a
forked child (which has no workers yet) just works, and where threads cannot start the caller works
alone. While a region multiplies matrices, BLAS is held to one thread.

Tiles do not depend on the number of threads, and each is computed by one thread in a fixed order,
so results are the same to the bit for any number of threads.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import os
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from cyconv import kernels
from cyconv.integers import integer
from cyconv.types import Counters

# Waking a worker and waiting for it costs some tens of microseconds: less work than this (seconds,
# estimated) stays on the calling thread.
SMALL = 1e-4
# OpenBLAS itself runs products of at most this many multiply-adds on one thread.
SMALL_PRODUCT = 262_144
# The kernels of OpenBLAS, as threadpoolctl names them, that do not pack small matrices.
UNPACKING = ("SkylakeX", "Cooperlake", "Sapphirerapids")
# How long a thread waits awake before it sleeps (nanoseconds): waking one that sleeps takes about
# as long.
AWAKE = 50_000
# Two that want the interpreter at the same time cost a sleep, which is as long; at every call, that
# is half of a small layer's speed. So signs are given by who has let go of it: the caller by a
# bell, which the kernel rings that threads share, and helpers when they wait again. Where the
# caller's work is not one such kernel, workers come a little later (nanoseconds), when it has gone
# into its first.
WORKER_AFTER = 6_000


def available_cores() -> int:
    """The number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _initial_threads() -> int:
    value = os.environ.get("CYCONV_NUM_THREADS", "")
    if not value:
        return available_cores()
    if not value.isdecimal() or len(value) > 9 or int(value) < 1:
        raise ValueError(f"CYCONV_NUM_THREADS must be an integer of at least 1, got {value!r}")
    return int(value)


def set_num_threads(n: int) -> None:
    """Set the number of threads that a convolution may use.

    Parameters
    ----------
    n : int
        At least 1; the calling thread counts as one. The environment variable
        ``CYCONV_NUM_THREADS`` sets it at import; without it, it is the number of cores that the
        process may use. Results are the same to the bit for any number.

    Raises
    ------
    TypeError
        Where n is not an integer.
    ValueError
        Where n is below 1.

    Examples
    --------
    >>> import cyconv
    >>> before = cyconv.get_num_threads()
    >>> cyconv.set_num_threads(1)
    >>> cyconv.get_num_threads()
    1
    >>> cyconv.set_num_threads(before)
    """
    global _num_threads
    _num_threads = integer("n", n, 1)


def get_num_threads() -> int:
    """Return the number of threads that a convolution may use.

    Returns
    -------
    int
        At least 1.

    Examples
    --------
    >>> import cyconv
    >>> cyconv.get_num_threads() >= 1
    True
    """
    return _num_threads


class _Blas:
    """Holds BLAS to one thread while any region multiplies; many regions may do so at once.

    A signal's exception may come between any two steps. So both `hold` and `release` can be begun
    again from wherever they were: who holds is a set, not a count, and what the limits were before
    is forgotten last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._libraries: list[Any] | None = None
        self._holders: set[object] = set()
        self._before: list[int] | None = None
        self._held = False

    @property
    def libraries(self) -> list[Any]:
        if self._libraries is None:  # milliseconds, so not at import
            from threadpoolctl import ThreadpoolController

            found = ThreadpoolController().select(user_api="blas")
            self._libraries = list(found.lib_controllers)
        return self._libraries

    def describe(self) -> list[str]:
        return [f"{b.internal_api} {b.version}" for b in self.libraries]

    @functools.cached_property
    def small_unpacked(self) -> bool:
        return any(
            library.internal_api == "openblas" and library.architecture in UNPACKING
            for library in self.libraries
        )

    def hold(self, holder: object) -> None:
        with self._lock:
            self._holders.add(holder)
            if self._before is None:
                self._before = [library.get_num_threads() for library in self.libraries]
            if not self._held:
                self._set([1] * len(self._before))
                self._held = True

    def release(self, holder: object) -> None:
        with self._lock:
            self._holders.discard(holder)
            if not self._holders:
                self._restore()

    def _restore(self) -> None:
        self._held = False
        if self._before is not None:
            self._set(self._before)
            self._before = None

    def _set(self, numbers: list[int]) -> None:
        for library, number in zip(self.libraries, numbers, strict=True):
            library.set_num_threads(number)
            if library.get_num_threads() != number and hasattr(library, "clear_controlling_thread"):
                # From 3.8 on, threadpoolctl listens only to the first thread that sets a limit,
                # unless told that it no longer controls. Here it is the lock that keeps order.
                library.clear_controlling_thread(force=True)
                library.set_num_threads(number)

    def after_fork(self) -> None:
        """In the child no region is under way, whatever the parent's other threads were doing."""
        self._lock = threading.Lock()
        self._holders.clear()
        self._restore()


def quiet() -> np.errstate:
    """Where Inf and NaN go is the definition's affair: nobody is warned of it. (Which thread would
    warn depends on who took which tile, and NumPy's settings are each thread's own.)"""
    return np.errstate(all="ignore")


class _Region:
    """The tiles of one convolution, and who is at work on them."""

    __slots__ = (
        "_alarm",
        "_lock",
        "_next",
        "_stop",
        "count",
        "error",
        "helpers",
        "left",
        "places",
        "rings",
        "task",
    )

    def __init__(self, task: Callable[[int], None], count: int, *, rings: bool) -> None:
        self.task = task
        self.count = count
        self.rings = rings  # the caller's task rings the bell
        self.places = 0  # for helpers who may still join
        self.error: BaseException | None = None
        self.helpers = 0
        self._next, self._stop = 0, count  # those in between are left to take
        self._lock = threading.Lock()
        self._alarm: threading.Lock | None = None  # of a caller who sleeps
        self.left = np.zeros(1, np.longlong)  # a sign for the caller that a helper has left

    def work(self, *, helping: bool = False) -> None:
        """Compute tiles until there are none left to take; after an error there are none."""
        try:
            with quiet():
                while (tile := self._take(helping)) is not None:
                    self.task(tile)
        except BaseException as error:
            with self._lock:
                self._next = self._stop
                self.error = self.error or error

    def _take(self, helping: bool) -> int | None:
        with self._lock:
            if self._next >= self._stop:
                return None
            if helping:
                self._stop -= 1
                return self._stop
            self._next += 1
            return self._next - 1

    def join(self) -> None:
        with self._lock:
            self.helpers += 1
            self.places -= 1

    def leave(self) -> None:
        with self._lock:
            self.helpers -= 1
            if not self.helpers and self._alarm is not None:
                self._alarm.release()
                self._alarm = None

    def wait(self) -> None:
        """Wait for the tiles that helpers are still computing."""
        while self.helpers:
            left = int(self.left[0])
            if not self.helpers or kernels.wait_for_change(self.left, left, AWAKE, 0):
                continue
            with self._lock:
                if not self.helpers:
                    return
                alarm = self._alarm = threading.Lock()
                alarm.acquire()
            alarm.acquire()


class _Pool:
    """Workers that wait until a region is offered: awake at first, for the next call often follows
    closely, then asleep. `_lock` guards the list of open regions, who joins them (only while they
    are in the list) and who sleeps."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: list[_Region] = []
        self._offers = np.zeros(1, np.longlong)
        self._sleepers: list[threading.Lock] = []
        self._workers: list[threading.Thread] = []
        self._avoided = -1
        # A closed pool has no workers: who ends another interpreter does not end its threads first,
        # and Python 3.11 aborts when it finds them.
        self._closed = not _in_main_interpreter()

    def run(self, region: _Region, helpers: int) -> None:
        """Work on the region, with up to `helpers` workers beside the caller."""
        region.places = helpers
        interruption = None
        try:
            with self._lock:
                self._grow(helpers)
                self._keep_off(kernels.current_core())
                self._open.append(region)
                self._offers += not region.rings
                self._wake(helpers)
            region.work()
        finally:
            # Come what may: helpers write into arrays of the caller's.
            while True:  # here, since a signal may end a function before its first line
                try:
                    self._end(region)
                    region.wait()
                    break
                except BaseException as signal:
                    interruption = signal
            if interruption is not None:
                raise interruption

    def _keep_off(self, core: int) -> None:
        """Keep the workers off the core of the caller, where the system likes to wake them: there
        they would wait for it, while another core idles."""
        if core == self._avoided or core < 0:
            return
        self._avoided = core
        with contextlib.suppress(OSError):  # not allowed here, or the worker has ended: no harm
            others = os.sched_getaffinity(0) - {core}
            for worker in self._workers:
                if others and worker.native_id is not None:
                    os.sched_setaffinity(worker.native_id, others)

    def _wake(self, number: int) -> None:
        """Wake so many of those who sleep. It is they who leave the list: were a signal's exception
        to come between taking one out and waking it, it would sleep for ever."""
        for alarm in self._sleepers:
            if number and alarm.locked():
                alarm.release()
                number -= 1

    def _end(self, region: _Region) -> None:
        """No tile is left to take, so nobody needs to join any more."""
        with self._lock:
            if region in self._open:
                self._open.remove(region)

    def _grow(self, size: int) -> None:
        while len(self._workers) < size and not self._closed:
            try:
                worker = threading.Thread(target=self._serve, name="cyconv", daemon=True)
                self._workers.append(worker)  # first, should a signal come while it starts
                worker.start()
            except RuntimeError:  # no threads on this platform or in this interpreter, or no more
                self._workers = [worker for worker in self._workers if worker.ident is not None]
                return
            self._avoided = -1

    def _serve(self) -> None:
        alarm = threading.Lock()
        alarm.acquire()
        sign: Counters | None = None  # to give to who waits, when this lets go of the interpreter
        while not self._closed:
            with self._lock:
                region = next((r for r in self._open if r.places), None)
                offers, heard = int(self._offers[0]), int(_bell[0])
                if region is not None:
                    region.join()
            given, sign = sign, None
            if region is not None:
                if given is not None:
                    given += 1
                region.work(helping=True)
                self._end(region)
                region.leave()
                sign = region.left
                continue
            if not kernels.wait_for_change(
                self._offers, offers, AWAKE, WORKER_AFTER, _bell, heard, given
            ):
                with self._lock:
                    if self._closed or any(region.places for region in self._open):
                        continue
                    self._sleepers.append(alarm)
                alarm.acquire()
                with self._lock:
                    self._sleepers.remove(alarm)

    def close(self) -> None:
        """At exit: no worker may be in Python code while the interpreter goes away."""
        with self._lock:
            self._closed = True
            self._offers += 1
            self._wake(len(self._sleepers))
        for worker in self._workers:
            if worker.is_alive():
                worker.join()


def run(task: Callable[[int], None], count: int, seconds: float, *, blas: bool) -> None:
    """Call task(0), ..., task(count - 1), on several threads where that pays.

    `seconds` is an estimate of the whole work on one thread; `blas` says that a tile has a product
    that BLAS might spread over threads of its own. The first exception that a tile raises reaches
    the caller, after all tiles that were under way have ended.
    """
    if not blas:
        _run(task, count, members(count, seconds, blas=False))
        return
    holder, interruption = object(), None
    try:
        _blas.hold(holder)
        _run(task, count, members(count, seconds, blas=True))
    finally:
        while True:  # here, since a signal may end a function before its first line
            try:
                _blas.release(holder)
                break
            except BaseException as signal:
                interruption = signal
        if interruption is not None:
            raise interruption


def drain(task: Callable[[bool], None], count: int, seconds: float) -> None:
    """Call task here, and on as many other threads as pay, at most `count` in all: each takes what
    there is to do from a counter that they share, until nothing is left, so that one call alone can
    do it all. The caller's has the kernel ring the bell: task(True)."""
    number = members(count, seconds, blas=False)
    _run(lambda member: task(member == 0), number, number, rings=True)


def members(count: int, seconds: float, *, blas: bool) -> int:
    """How many threads a region of `count` tasks is for, the caller among them: see `run`."""
    if _num_threads < 2 or count < 2 or seconds < SMALL or (blas and not _blas.libraries):
        return 1
    return min(_num_threads, count)


def _run(task: Callable[[int], None], count: int, number: int, *, rings: bool = False) -> None:
    if number == 1:
        with quiet():
            for tile in range(count):
                task(tile)
        return
    region = _Region(task, count, rings=rings)
    _pool.run(region, number - 1)
    if region.error is not None:
        raise region.error


def describe_blas() -> list[str]:
    """The BLAS libraries that are loaded, as "openblas 0.3.31"."""
    return _blas.describe()


def small_unpacked() -> bool:
    """Whether BLAS multiplies small matrices where they lie, without packing them first."""
    return _blas.small_unpacked


def _in_main_interpreter() -> bool:
    try:
        of_this, of_main = (
            ctypes.PYFUNCTYPE(ctypes.c_void_p)((f"PyInterpreterState_{name}", ctypes.pythonapi))()
            for name in ("Get", "Main")
        )
    except AttributeError:  # a Python that has only one
        return True
    return bool(of_this == of_main)


def _after_fork() -> None:
    """A child has none of the parent's threads, and perhaps locks that nobody will release."""
    global _pool
    _pool = _Pool()
    _blas.after_fork()


_num_threads = _initial_threads()
_blas = _Blas()
_pool = _Pool()
_bell = np.zeros(1, np.longlong)
kernels.hang_bell(_bell)
atexit.register(lambda: _pool.close())
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
