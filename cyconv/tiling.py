"""Tiling: a convolution cut into tiles of its output.

A tile is either some whole images or a box of the output of one image, chosen so that its positions
are a contiguous span of the flattened output. A box of the output is itself the output of a
convolution with a shifted low pad, so kernels need no notion of a tile: they get its `axes`.

Tiles depend on the geometry alone, never on the number of threads: so do the bits of the result.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cyconv.geometry import Geometry, Triple

# Work is cut into at least this many pieces, so that one image or a small batch occupies all cores,
# but not into pieces of fewer multiply-adds: that is some 30 us, for which no thread is woken.
PIECES = 8
PIECE_WORK = 2_000_000


@dataclass(frozen=True, slots=True)
class Tile:
    """Images `first` to `last`, and of each the flattened output positions of `span`."""

    first: int
    last: int
    span: slice
    axes: NDArray[np.intp]

    @property
    def images(self) -> slice:
        return slice(self.first, self.last)

    @property
    def single(self) -> bool:
        return self.last - self.first == 1

    @property
    def count(self) -> int:
        """Output positions of the tile, over all of its images."""
        length: int = self.span.stop - self.span.start
        return (self.last - self.first) * length


@dataclass(frozen=True, slots=True)
class Share:
    """What one worker sums up by itself, in order: some tiles, for a block of the channels."""

    channels: slice
    tiles: tuple[Tile, ...]


def cut(g: Geometry, limit: int) -> tuple[Tile, ...]:
    """Cut the output into tiles of about `limit` positions or fewer."""
    pieces = max(1, min(PIECES, g.multiply_adds // PIECE_WORK))
    limit = max(1, min(limit, -(-g.batch * g.positions // pieces)))
    return tuple(tile for images in _cut_images(g, limit) for tile in images)


def cut_images(g: Geometry, limit: int, channels: list[slice]) -> tuple[Share, ...]:
    """One share for each image (or few small images) and block of channels: for sums over tiles
    that overlap in x."""
    return tuple(Share(block, images) for images in _cut_images(g, limit) for block in channels)


def cut_sums(g: Geometry, limit: int, channels: list[slice]) -> tuple[tuple[Share, ...], ...]:
    """For sums over all positions: a few parts of the tiles, and for each a share a block of
    channels. Parts are summed in order by the caller."""
    tiles = [tile for images in _cut_images(g, limit) for tile in images]
    parts = [tuple(tiles[part]) for part in pieces(len(tiles), PIECES // len(channels))]
    return tuple(tuple(Share(block, part) for block in channels) for part in parts)


def channel_blocks(g: Geometry, number: int) -> list[slice]:
    """Cut the channels into about `number` blocks; groups stay whole where there are several."""
    unit = 1 if g.groups == 1 else g.group_channels
    return pieces(g.channels, number, unit)


def pieces(size: int, number: int, unit: int = 1) -> list[slice]:
    """Cut `size` into about `number` blocks."""
    return blocks(size, -(-size // max(1, number)), unit)


def _cut_images(g: Geometry, limit: int) -> Iterator[tuple[Tile, ...]]:
    """Yield the tiles of each image, or one tile of several small images."""
    axes = g.axes()
    if limit >= 2 * g.positions:
        whole = slice(0, g.positions)
        for images in blocks(g.batch, limit // g.positions):
            yield (Tile(images.start, images.stop, whole, axes),)
    else:
        boxes = [_box(axes, start, stop) for start, stop in _boxes(g.output, limit)]
        for n in range(g.batch):
            yield tuple(Tile(n, n + 1, *box) for box in boxes)


def blocks(size: int, limit: int, unit: int = 1) -> list[slice]:
    """Cut `size` into blocks of about `limit` at most, as even as whole units allow, and where
    there are several into an even number of them, for an even number of workers."""
    parts = -(-size // max(1, limit))
    parts += parts % 2 if parts > 1 else 0
    bounds = [min(size, round(size * i / parts / unit) * unit) for i in range(parts)] + [size]
    return [slice(a, b) for a, b in itertools.pairwise(bounds) if a < b]


def _boxes(output: Triple, limit: int) -> Iterator[tuple[Triple, Triple]]:
    """Yield start and stop of each box: cut along the outermost axis whose slices are within the
    limit, at one position of the axes outside of it."""
    axis = next(a for a in range(3) if a == 2 or math.prod(output[a + 1 :]) <= limit)
    inner = output[axis + 1 :]
    parts = blocks(output[axis], limit // math.prod(inner))
    for outer in itertools.product(*(range(size) for size in output[:axis])):
        for part in parts:
            start = (*outer, part.start, *(0 for _ in inner))
            stop = (*(o + 1 for o in outer), part.stop, *inner)
            yield (start[0], start[1], start[2]), (stop[0], stop[1], stop[2])


def _box(axes: NDArray[np.intp], start: Triple, stop: Triple) -> tuple[slice, NDArray[np.intp]]:
    """The span of flattened positions of a box, and the axes of the convolution that it is."""
    _, _, stride, _, low, output = axes.T
    shifted = axes.copy()
    shifted[:, 4] = low - np.array(start) * stride
    shifted[:, 5] = np.array(stop) - np.array(start)
    first = int(np.ravel_multi_index(start, tuple(output)))
    return slice(first, first + int(shifted[:, 5].prod())), shifted
