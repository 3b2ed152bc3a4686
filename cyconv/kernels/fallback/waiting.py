"""A short wait for another thread. NumPy cannot wait without the GIL, so it does not wait."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def current_core() -> int:
    """The core that this thread runs on, or -1 where the platform does not say."""
    return -1


def wait_for_change(word: NDArray[np.longlong], seen: int, nanoseconds: int, after: int) -> bool:
    """Return whether word[0] is no longer `seen`."""
    return int(word[0]) != seen
