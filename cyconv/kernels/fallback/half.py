"""float16 to float32 and back in NumPy; halves come as their bits."""

from __future__ import annotations

import numpy as np

from cyconv.types import Array


def half_to_float(halves: Array, cells: Array, /) -> None:
    """Fill cells (n, c, d, h, w) of float32 from float16, seen as uint16."""
    cells[...] = halves.view(np.float16)


def float_to_half(cells: Array, halves: Array, /) -> None:
    """Fill halves (n, c, d, h, w), float16 seen as uint16, from float32."""
    halves.view(np.float16)[...] = cells
