"""Planes: transformed tiles and filters in memory, which both ways of Winograd share.

A tile is transformed to 36 values (49 for 4x4 kernels, 81 with stride 2), and each is an element of
a matrix of its own, a plane: of tiles (tiles, C), of filters (C, F), of their products (tiles, F).
"""

import math

from cyconv.geometry import Geometry

# Channels and filters come in steps of this many (WIDE in the kernel).
WIDE = 16
# Planes of tiles with stride 2.
STRIDED_PLANES = 81
# Planes lie so many items apart, so as not to compete for cache lines; in the kernels, too.
APART = WIDE


def planes_of(g: Geometry) -> int:
    """Planes of transformed tiles, of 4x4 outputs: 36 for 3x3 kernels, 49 for 4x4; 81 with a
    stride."""
    return weight_planes_of(g) if g.stride[1] == 1 else STRIDED_PLANES


def weight_planes_of(g: Geometry) -> int:
    """Planes of transformed filters: with a stride, of 3x3 kernels, some meet several of tiles."""
    return (g.kernel[1] + 3) ** 2


def rounded(size: int) -> int:
    """Up to a whole WIDE."""
    return -(-size // WIDE) * WIDE


def plane_items(*shape: int) -> int:
    """The items of a plane, and of the gap after it."""
    return math.prod(shape) + APART


def method(g: Geometry, planes: int, products: str) -> str:
    """In words: how many of them for how many."""
    side = g.kernel[1]
    name = f"F(4x4, {side}x{side})" + (" with stride 2" if planes == STRIDED_PLANES else "")
    if g.dilation[1:] != (1, 1):
        name += f" with dilation {g.dilation[1:]}"
    return f"{name}, {planes} {products} for {16 * side * side}"
