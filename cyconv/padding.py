"""Padding modes other than zeros: a border that repeats cells of the image, and its adjoint.

Zeros are never written anywhere: the algorithms know where the image ends. The other modes are
laid around a copy of some images, over which a valid convolution goes; its gradient, folded back,
is that of the image.

    mode        cells 0 1 2 3 4 with a border of 2
    reflect     2 1 | 0 1 2 3 4 | 3 2
    symmetric   1 0 | 0 1 2 3 4 | 4 3
    replicate   0 0 | 0 1 2 3 4 | 4 4
    circular    3 4 | 0 1 2 3 4 | 0 1
"""

from collections.abc import Iterator

import numpy as np

from cyconv.geometry import Geometry, as_triple
from cyconv.integers import Pads, check_countable
from cyconv.record import Record
from cyconv.types import Array

PADDING_MODES = ("zeros", "reflect", "symmetric", "replicate", "circular")


class Border(Record):
    """The pads of three spatial axes, of any mode but zeros."""

    mode: str
    pads: Pads

    def interior(self, padded: Array) -> Array:
        """The image within its border; arrays are (N, C, d, h, w)."""
        ends = zip(padded.shape[2:], self.pads, strict=True)
        depth, height, width = (slice(low, size - high) for size, (low, high) in ends)
        return padded[..., depth, height, width]

    def fill(self, padded: Array) -> None:
        """Write the border of a padded image, from what is in its interior.

        Examples
        --------
        >>> padded = np.array([[[[[0, 0, 1, 2, 3, 0]]]]])
        >>> Border(mode="reflect", pads=((0, 0), (0, 0), (2, 1))).fill(padded)
        >>> padded[0, 0, 0, 0]
        array([3, 2, 1, 2, 3, 2])
        """
        for border, source in self._copies(padded):
            border[...] = source

    def fold(self, padded: Array) -> None:
        """Add each cell of the border to the cell that `fill` copies it from: the adjoint.

        Examples
        --------
        >>> padded = np.array([[[[[1, 10, 0, 0, 0, 100]]]]])
        >>> Border(mode="reflect", pads=((0, 0), (0, 0), (2, 1))).fold(padded)
        >>> padded[0, 0, 0, 0, 2:5]
        array([  0, 110,   1])
        """
        for border, source in self._copies(padded):  # axis by axis, in any order
            if source.shape != border.shape:  # one cell, repeated
                axis = next(a for a in (2, 3, 4) if source.shape[a] != border.shape[a])
                border = border.sum(axis=axis, keepdims=True)
            source += border

    def _copies(self, padded: Array) -> Iterator[tuple[Array, Array]]:
        """Yield each border and what is copied into it. Of later axes the borders come along
        unwritten, and are written when it is their turn."""
        for axis, (low, high) in enumerate(self.pads, 2):
            along = np.moveaxis(padded, axis, 0)  # only to slice; what is yielded is moved back
            size = len(along) - low - high
            inside = along[low : low + size]
            ends = (along[:low], along[low + size :])
            for border, source in zip(ends, self._sources(inside, low, high), strict=True):
                if len(border):
                    yield np.moveaxis(border, 0, axis), np.moveaxis(source, 0, axis)

    def _sources(self, inside: Array, low: int, high: int) -> tuple[Array, Array]:
        """What is copied to the low and the high end, along the first axis."""
        size = len(inside)
        if self.mode == "reflect":
            return inside[1 : low + 1][::-1], inside[size - 1 - high : size - 1][::-1]
        if self.mode == "symmetric":
            return inside[:low][::-1], inside[size - high :][::-1]
        if self.mode == "circular":
            return inside[size - low :], inside[:high]
        return inside[:1], inside[size - 1 :]  # replicate


def border_of(mode: str, pads: Pads, g: Geometry, name: str) -> Border | None:
    """The border that a convolution needs; None for zeros, and where nothing is padded.

    Raises ValueError where the image, called `name`, has too few cells for it.
    """
    if mode == "zeros" or not any(map(any, pads)):
        return None
    spare = {"reflect": 1, "symmetric": 0, "circular": 0}.get(mode)
    sizes = g.size[3 - g.rank :]
    for size, pair in zip(sizes, pads, strict=True):
        if spare is not None and max(pair) > size - spare:
            limit = "less than" if spare else "at most"
            raise ValueError(
                f"padding must be {limit} the size of the axis with padding_mode {mode!r}: "
                f"got {pair} for an axis of size {size} of {name}"
            )
    lows = as_triple([low for low, _ in pads], 0)
    highs = as_triple([high for _, high in pads], 0)
    border = Border(mode=mode, pads=tuple(zip(lows, highs, strict=True)))
    check_countable(f"{name} with its padding", within(g, border).x_shape)
    return border


def within(g: Geometry, border: Border | None) -> Geometry:
    """The convolution over images that have their border already."""
    if border is None:
        return g
    a, b, c = (n + low + high for n, (low, high) in zip(g.size, border.pads, strict=True))
    return g._replace(size=(a, b, c), low=(0, 0, 0))
