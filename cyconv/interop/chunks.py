"""Chunks: which outputs of a convolution read which cells of its input, along one axis.

Integers alone, for whoever cuts an array into pieces. Cells are counted from the low end of the
padded axis, outputs from 0, and a range is (first, one past the last):

    padded cells    0 1 2 3 4 5 6 7 8 9     stride 2, kernel 3, so a reach of 2: output o reads
    output 0        x x x                   cells 2*o to 2*o + 2, and its middle is 2*o + 1
    output 1            x x x
    output 2                x x x
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

Range = tuple[int, int]


@dataclass(frozen=True)
class Axis:
    """One spatial axis: the cells of x, the outputs, how far a window reaches beyond its first
    cell, the step between windows, and the pad at the low end."""

    size: int
    output: int
    reach: int
    stride: int
    low: int

    @property
    def high(self) -> int:
        """How many cells of padding windows read at the high end."""
        return max(0, self.cells((0, self.output))[1] - self.low - self.size)

    def cells(self, outputs: Range) -> Range:
        """The cells that these outputs read, and those between."""
        first, end = outputs
        return first * self.stride, (end - 1) * self.stride + self.reach + 1

    def readers(self, cells: Range) -> Range:
        """The outputs that read any of these cells; where there is none, some one output."""
        start, stop = cells
        first = min(max(0, -((self.reach - start) // self.stride)), self.output - 1)
        return first, max(first + 1, min(self.output, (stop - 1) // self.stride + 1))

    def outputs(self, chunks: Iterable[int]) -> list[Range]:
        """For chunks of x, the outputs whose middle lies in each; chunks that have none are left
        out.

        Examples
        --------
        >>> Axis(size=10, output=8, reach=2, stride=1, low=0).outputs([5, 5])
        [(0, 4), (4, 8)]
        """
        ends = (end + self.low - self.reach // 2 for end in accumulate(chunks))
        return _ranges((-(-end // self.stride) for end in ends), self.output)

    def spans(self, chunks: Iterable[int], border: bool) -> list[Range]:
        """For chunks of y, the cells of x that go with them, as padded cells; with their padding at
        both ends if `border`.

        Examples
        --------
        >>> axis = Axis(size=10, output=10, reach=2, stride=1, low=1)
        >>> axis.spans([5, 5], border=False), axis.spans([5, 5], border=True)
        ([(1, 6), (6, 11)], [(0, 6), (6, 12)])
        """
        ends = (end * self.stride + self.reach // 2 - self.low for end in accumulate(chunks))
        spans = [(a + self.low, b + self.low) for a, b in _ranges(ends, self.size)]
        if border:
            spans[0] = 0, spans[0][1]
            spans[-1] = spans[-1][0], self.low + self.size + self.high
        return spans


def _ranges(ends: Iterable[int], size: int) -> list[Range]:
    """The ranges between these ends, the last of which is at `size`, but for empty ones."""
    cuts = [min(max(0, end), size) for end in ends]
    return [(a, b) for a, b in pairwise([0, *cuts[:-1], size]) if a < b]


def sizes(ranges: Iterable[Range]) -> tuple[int, ...]:
    return tuple(stop - start for start, stop in ranges)


def overlap(start: int, size: int, length: int) -> tuple[slice, slice]:
    """Where `length` cells lie within `size` that begin `start` cells after them: which of the
    cells, and where among the others.

    Examples
    --------
    >>> overlap(-1, 4, 5)
    (slice(0, 3, None), slice(1, 4, None))
    """
    common = max(0, min(length, start + size) - max(0, start))
    return slice(max(0, start), max(0, start) + common), slice(
        max(0, -start), max(0, -start) + common
    )


def axes_of(
    size: Sequence[int], kernel: Sequence[int], output: Sequence[int], options: dict[str, Any]
) -> tuple[Axis, ...]:
    """The axes of a convolution whose arguments have been checked; `options` are those of
    `cyconv.conv`."""
    rank = len(size)
    strides = np.broadcast_to(options["stride"], rank).tolist()
    dilations = np.broadcast_to(options["dilation"], rank).tolist()
    padding = options["padding"]
    pads = tuple(padding) if isinstance(padding, Iterable) else (padding,) * rank
    axes = []
    for k in range(rank):
        reach = dilations[k] * (kernel[k] - 1)
        if isinstance(padding, str):
            read = (output[k] - 1) * strides[k] + reach + 1
            low = _low_pad(padding, max(0, read - size[k]), reach)
        else:
            low = int(np.ravel(pads[k])[0])  # of an int, or of a pair
        axes.append(Axis(size[k], output[k], reach, strides[k], low))
    return tuple(axes)


def _low_pad(name: str, total: int, reach: int) -> int:
    """The pad at the low end that a name stands for; `total` is that of both ends."""
    lows = {"valid": 0, "same": total // 2, "same_lower": total - total // 2, "causal": reach}
    return lows[name]
