"""The types that annotations name."""

from typing import Any

import numpy as np

# What `numpy.typing` calls NDArray, without importing that, which takes half a millisecond.
Array = np.ndarray[Any, np.dtype[Any]]
Integers = np.ndarray[Any, np.dtype[np.intp]]
Counters = np.ndarray[Any, np.dtype[np.longlong]]
DType = np.dtype[Any]
