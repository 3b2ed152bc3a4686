"""A bias for each filter, in NumPy."""

import numpy as np

from cyconv.types import Array


def add_bias(a: Array, b: Array, y: Array, /) -> None:
    """y (n, F, positions) = a (n, F, positions) + b (F,), where y may be a; rows are contiguous."""
    np.add(a, b[:, None], out=y)
