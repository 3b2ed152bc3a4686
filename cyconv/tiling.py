"""Tiling: a convolution cut into tiles of its output.

A tile is either some whole images or a box of the output of one image, chosen so that its positions
are a contiguous span of the flattened output. A box of the output is itself the output of a
convolution with a shifted low pad, so kernels need no notion of a tile: they get its `axes`.

Tiles depend on the geometry alone, never on the number of threads: so do the bits of the result.
"""

import itertools
import math
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from cyconv.geometry import Geometry, Triple
from cyconv.types import Integers

# Work is cut into at least this many pieces, so that one image or a small batch occupies all cores,
# but not into pieces of fewer multiply-adds: for some 30 us no thread is worth waking.
PIECES = 8
PIECE_WORK = 3_000_000
# An image is cut, to be summed in parts, only into about so many positions or more. (Half or twice
# as many: 1.0 to 1.1 times as long.)
FEWEST_SUMMED = 512


class Tile(NamedTuple):
    """Images `first` to `last`, and of each the flattened output positions of `span`."""

    first: int
    last: int
    span: slice
    axes: Integers

    @property
    def images(self) -> slice:
        return slice(self.first, self.last)

    @property
    def single(self) -> bool:
        return self.last - self.first == 1

    @property
    def positions(self) -> int:
        """Output positions of the tile, over all of its images."""
        return (self.last - self.first) * length(self.span)


class Share(NamedTuple):
    """What one worker sums up by itself, in order: some tiles, for a block of the channels."""

    channels: slice
    tiles: tuple[Tile, ...]


def cut(g: Geometry, limit: int, number: int) -> tuple[Tile, ...]:
    """Cut the output into at least `number` tiles of about `limit` positions or fewer."""
    limit = max(1, min(limit, -(-g.batch * g.positions // number)))
    return tuple(tile for images in _cut_images(g, limit) for tile in images)


def cut_overlapping(g: Geometry, limit: int) -> tuple[tuple[Share, ...], ...]:
    """For sums over tiles that overlap in x: phases of shares, the shares of a phase apart.

    Images are apart. Where there are too few of them, every other tile of an image is, if tiles are
    as long as the overlap of windows; and blocks of channels are. Each tile is multiplied by all
    weights, and each block by all of dy; it is tiles where that is less to read. (One image of 256
    channels took 1.4 times as long in 28 tiles as in 8 blocks for 512 filters of 1x1 with a stride
    of 2, and in float64 1.7 times.)
    """
    everything = slice(0, g.channels)
    images = list(_cut_images(g, _share_images(g, limit)))
    lacking = -(-wanted_pieces(g) // max(1, len(images)))
    if lacking == 1:
        return (tuple(Share(everything, tiles) for tiles in images),)
    images = list(_cut_images(g, min(limit, -(-g.positions // (2 * lacking)))))
    tiles = images[0]
    fewer = len(tiles) * g.channels * g.taps <= lacking * g.positions
    if fewer and len(tiles) > 1 and all(_apart(g, tile.axes) for tile in tiles):
        return tuple(
            tuple(Share(everything, (tile,)) for tiles in images for tile in tiles[odd::2])
            for odd in range(2)
        )
    channels = channel_blocks(g, lacking)
    rows = -(-limit * g.channels // len(channels))
    return (tuple(Share(block, tiles) for tiles in _cut_images(g, rows) for block in channels),)


def _apart(g: Geometry, axes: Integers) -> bool:
    """Whether the tiles before and after this one, in one row of tiles, read no common cell."""
    cut = axes[:, 5] != g.output
    outermost = next(a for a in range(3) if a == 2 or g.output[a] > 1)
    _, kernel, stride, dilation, _, output = (int(number) for number in axes[outermost])
    return (
        bool(cut[outermost]) and cut.sum() == 1 and output * stride >= (kernel - 1) * dilation + 1
    )


def cut_sums(g: Geometry, limit: int, number: int) -> tuple[tuple[Share, ...], ...]:
    """For sums over all positions: a few parts of the tiles, and for each a share a block of
    channels. Parts are summed in order by the caller; there are at least `number` blocks, and more
    where there are few tiles. So that these are not, few images are cut: products with a few
    channels each took, of one image, 1.2 to 2 times as long, and with two or three 5 times."""
    wanted = wanted_pieces(g)
    share = max(FEWEST_SUMMED, -(-g.batch * g.positions * number // wanted))
    limit = min(_share_images(g, limit), share)
    tiles = [tile for images in _cut_images(g, limit) for tile in images]
    channels = channel_blocks(g, max(number, -(-wanted // len(tiles))))
    parts = [tuple(tiles[part]) for part in pieces(len(tiles), wanted // len(channels))]
    return tuple(tuple(Share(block, part) for block in channels) for part in parts)


def _share_images(g: Geometry, limit: int) -> int:
    """Lower the limit so that there are pieces enough, as far as whole images allow."""
    share = -(-g.batch * g.positions // wanted_pieces(g))
    return min(limit, max(g.positions, share))


def wanted_pieces(g: Geometry) -> int:
    """How many pieces the work should be cut into at least."""
    return max(1, min(PIECES, g.multiply_adds // PIECE_WORK))


def channel_blocks(g: Geometry, number: int) -> tuple[slice, ...]:
    """Cut the channels into about `number` blocks; groups stay whole where there are several."""
    unit = 1 if g.groups == 1 else g.group_channels
    return pieces(g.channels, number, unit)


def length(part: slice) -> int:
    """How many a slice with start and stop has."""
    number: int = part.stop - part.start
    return number


def pieces(size: int, number: int, unit: int = 1) -> tuple[slice, ...]:
    """Cut `size` into about `number` blocks."""
    return blocks(size, -(-size // max(1, number)), unit)


def _cut_images(g: Geometry, limit: int) -> Iterator[tuple[Tile, ...]]:
    """Yield the tiles of each image, or one tile of several small images."""
    axes = g.axes()
    if limit >= 2 * g.positions or limit >= g.batch * g.positions:
        whole = slice(0, g.positions)
        for images in blocks(g.batch, limit // g.positions):
            yield (Tile(images.start, images.stop, whole, axes),)
    else:
        parts = [_box(axes, start, stop) for start, stop in boxes(g.output, limit)]
        for n in range(g.batch):
            yield tuple(Tile(n, n + 1, *part) for part in parts)


@lru_cache(maxsize=1024)
def blocks(size: int, limit: int, unit: int = 1) -> tuple[slice, ...]:
    """Cut `size` into blocks of about `limit` at most, as even as whole units allow, and where
    there are several into an even number of them, for an even number of workers."""
    parts = -(-size // max(1, limit))
    parts += parts % 2 if parts > 1 else 0
    bounds = [min(size, round(size * i / parts / unit) * unit) for i in range(parts)] + [size]
    return tuple(slice(a, b) for a, b in itertools.pairwise(bounds) if a < b)


def boxes(output: Triple, limit: int, unit: int = 1) -> Iterator[tuple[Triple, Triple]]:
    """Yield start and stop of each box: cut along the outermost axis whose slices are within the
    limit, at one position of the axes outside of it; a row, into whole units."""
    axis = next(a for a in range(3) if a == 2 or math.prod(output[a + 1 :]) <= limit)
    inner = output[axis + 1 :]
    parts = blocks(output[axis], limit // math.prod(inner), unit if axis == 2 else 1)
    for outer in itertools.product(*(range(size) for size in output[:axis])):
        for part in parts:
            start = (*outer, part.start, *(0 for _ in inner))
            stop = (*(o + 1 for o in outer), part.stop, *inner)
            yield (start[0], start[1], start[2]), (stop[0], stop[1], stop[2])


def _box(axes: Integers, start: Triple, stop: Triple) -> tuple[slice, Integers]:
    """The span of flattened positions of a box, and the axes of the convolution that it is."""
    _, _, stride, _, low, output = axes.T
    shifted = axes.copy()
    shifted[:, 4] = low - np.array(start) * stride
    shifted[:, 5] = np.array(stop) - np.array(start)
    first = (start[0] * int(output[1]) + start[1]) * int(output[2]) + start[2]
    return slice(first, first + int(shifted[:, 5].prod())), shifted
