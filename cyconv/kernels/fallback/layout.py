"""Matrices turned round, in NumPy."""

import numpy as np

from cyconv.types import Array


def turn(a: Array, to: Array, /) -> None:
    """to (columns, rows) = a (rows, columns); rows of both are contiguous."""
    np.copyto(to, a.T)
