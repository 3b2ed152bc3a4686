"""Phases: the convolutions that a pass is made of.

A forward pass is one. An input gradient is a convolution of dy by the flipped kernel, and with a
stride several, interleaved: cells of dx with the same remainder by the stride are reached by the
same taps.
"""

import itertools
import math

import numpy as np

from cyconv.geometry import Geometry
from cyconv.record import Record
from cyconv.types import Integers

Box = tuple[slice, slice, slice]


class Phase(Record):
    """A convolution by some taps of the kernel; `out` are the cells of the result that it fills."""

    axes: Integers
    out: Box
    taps: Box


def phases_of(g: Geometry, pass_: str) -> tuple[list[Phase], bool]:
    """The convolutions of a pass, and whether there are cells of the result in none of them."""
    if pass_ == "input_grad":
        return _of_input_grad(g)
    d, h, w = (slice(0, size) for size in g.output)
    return [Phase(axes=g.axes(), out=(d, h, w), taps=(slice(None),) * 3)], False


def _of_input_grad(g: Geometry) -> tuple[list[Phase], bool]:
    """The input gradient as convolutions of stride 1 over dy, one for each remainder of the
    positions of dx by the stride; and whether some remainders are reached by no tap.

    Along an axis, position i * stride + p of dx is reached by the taps k for which
    p + low - k * dilation is a multiple of the stride, from output i + that multiple. They are
    every (stride / gcd)-th tap, and read, from last to first, every (dilation / gcd)-th output.
    """
    by_axis = []
    gaps = False
    for size, kernel, stride, dilation, low, output in g.axes().tolist():
        common = math.gcd(stride, dilation)
        step = stride // common
        rows = []
        for first in range(min(step, kernel)):
            p = (first * dilation - low) % stride
            if p < size:
                last = first + (kernel - 1 - first) // step * step
                shift = (p + low - last * dilation) // stride
                count = (size - 1 - p) // stride + 1
                number = (last - first) // step + 1
                by = step if number > 1 else 1  # the stride may be larger than any index
                taps = slice(last, first - 1 if first else None, -by)
                row = [output, number, 1, dilation // common if number > 1 else 1, -shift, count]
                rows.append((row, slice(p, size, stride), taps))
        rows.sort(key=lambda row: row[1].start)
        gaps = gaps or len(rows) < min(stride, size)
        by_axis.append(rows)
    phases = []
    for (ad, od, td), (ah, oh, th), (aw, ow, tw) in itertools.product(*by_axis):
        axes = np.array([ad, ah, aw], np.intp)
        phases.append(Phase(axes=axes, out=(od, oh, ow), taps=(td, th, tw)))
    return phases, gaps
