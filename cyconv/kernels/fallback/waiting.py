"""A short wait for another thread (NumPy cannot wait without the GIL, so it does not wait), and
counting together with one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

from cyconv.types import Counters


def current_core() -> int:
    """The core that this thread runs on, or -1 where the platform does not say."""
    return -1


def wait_for_change(
    word: Counters,
    seen: int,
    nanoseconds: int,
    after: int,
    bell: Counters | None = None,
    heard: int = 0,
    sign: Counters | None = None,
    /,
) -> bool:
    """Add one to sign[0], and return whether word[0] is no longer `seen`, or bell[0] no longer
    `heard`."""
    if sign is not None:
        count(sign)
    return int(word[0]) != seen or (bell is not None and int(bell[0]) != heard)


_counting = threading.Lock()


def count(word: Counters, by: int = 1) -> int:
    """Add to word[0], and return what it was."""
    with _counting:
        word += by
        return int(word[0]) - by


def all_tasks(taken: Counters, number: int, from_back: bool = False) -> Iterator[int]:
    """Yield the tasks that are left to take. The lower half of the word counts those taken from the
    front, the upper half those from the back."""
    while True:
        back, front = divmod(count(taken, 1 << 32 if from_back else 1), 1 << 32)
        if front + back >= number:
            return
        yield number - 1 - back if from_back else front


_hung: list[Counters] = []


def hang_bell(word: Counters, /) -> None:
    """From now on word[0] is the bell."""
    if len(word) != 1:
        raise ValueError("a word must have one element")
    _hung[:] = [word]


def ring(rings: bool) -> None:
    """Tell those who wait for it that there is something to take."""
    for word in _hung if rings else []:
        count(word)


def first_phase(
    progress: Counters,
    number: int,
    do: Callable[[int], None],
    rings: bool = False,
    from_back: bool = False,
) -> None:
    """Do tasks of the first of two phases, then wait until others have done theirs."""
    ring(rings)
    try:
        for t in all_tasks(progress[:1], number, from_back):
            do(t)
            count(progress[1:2])
    except BaseException:  # a signal's, too, between any two steps: others would wait for ever
        progress[1] = number
        raise
    while progress[1] < number:
        time.sleep(0)


def second_phase(progress: Counters, number: int, from_back: bool = False) -> Iterator[int]:
    """Yield tasks of the second phase."""
    return all_tasks(progress[2:], number, from_back)
