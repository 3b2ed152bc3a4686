"""A short wait for another thread (NumPy cannot wait without the GIL, so it does not wait), and
counting together with one."""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray


def current_core() -> int:
    """The core that this thread runs on, or -1 where the platform does not say."""
    return -1


def wait_for_change(word: NDArray[np.longlong], seen: int, nanoseconds: int, after: int) -> bool:
    """Return whether word[0] is no longer `seen`."""
    return int(word[0]) != seen


_counting = threading.Lock()


def take(word: NDArray[np.longlong]) -> int:
    """Add one to word[0], and return what it was."""
    with _counting:
        word += 1
        return int(word[0]) - 1
