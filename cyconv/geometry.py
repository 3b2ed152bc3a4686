"""Geometry: one convolution in integers.

Everything below this module sees three spatial axes: a 1-D or 2-D convolution is a 3-D one whose
leading axes have size 1, kernel 1, stride 1 and no padding. All argument checks that need only
integers are made here, once, before anything is allocated.
"""

from __future__ import annotations

import math
import operator
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Triple = tuple[int, int, int]
Pads = tuple[tuple[int, int], ...]

# Sizes and positions live in a Py_ssize_t, and arrays of 8-byte items must be countable in bytes.
LARGEST = sys.maxsize
LARGEST_COUNT = LARGEST // 8


def integer(name: str, value: Any, minimum: int) -> int:
    """Return `value` as an int of at least `minimum`.

    An integer is anything with ``__index__`` except a bool.
    """
    if isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, not {value!r}")
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, not {value!r}") from None
    if number < minimum:
        raise ValueError(f"{name} must be at least {minimum}, got {number}")
    if number > LARGEST:
        raise ValueError(f"{name} must be at most {LARGEST} (a Py_ssize_t), got {number}")
    return number


def _sequence(name: str, value: Any) -> tuple[Any, ...] | None:
    """Return the entries of `value`, or None where it is not a sequence."""
    if isinstance(value, (str, bytes)):
        raise TypeError(f"{name} must be an integer or a sequence of integers, not {value!r}")
    if isinstance(value, Sequence) or (isinstance(value, np.ndarray) and value.ndim > 0):
        return tuple(value)
    return None


def integers(name: str, value: Any, rank: int, minimum: int) -> tuple[int, ...]:
    """Return `value`, one integer or one an axis, as a tuple of `rank` ints."""
    entries = _sequence(name, value)
    if entries is None:
        return (integer(name, value, minimum),) * rank
    if len(entries) != rank:
        raise ValueError(
            f"{name} must be one integer or {rank} (one a spatial axis), got {value!r}"
        )
    return tuple(integer(name, entry, minimum) for entry in entries)


def paddings(value: Any, rank: int) -> Pads:
    """Return `padding` as a tuple of `rank` (low, high) pairs.

    It may be an integer, one integer an axis, or a (low, high) pair an axis.
    """
    entries = _sequence("padding", value)
    if entries is None:
        pad = integer("padding", value, 0)
        return ((pad, pad),) * rank
    if len(entries) != rank:
        raise ValueError(
            f"padding must be one integer, or {rank} integers or (low, high) pairs "
            f"(one a spatial axis), got {value!r}"
        )
    return tuple((low, high) for low, high in (integers("padding", e, 2, 0) for e in entries))


def shape(name: str, value: Any) -> tuple[int, ...]:
    """Return the shape given as an argument as a tuple of ints."""
    plain = type(value) is tuple and value and _INT.issuperset(map(type, value))
    if plain and min(value) >= 0 and max(value) <= LARGEST:  # as x.shape is: not worth a loop
        return value  # type: ignore[no-any-return]
    entries = _sequence(name, value)
    if entries is None:
        raise TypeError(f"{name} must be a sequence of integers, not {value!r}")
    return tuple(integer(name, entry, 0) for entry in entries)


_INT = frozenset((int,))


def check_countable(what: str, dims: Iterable[int]) -> None:
    """Raise ValueError where an array of this shape is more than a Py_ssize_t can count."""
    dims = tuple(dims)
    if math.prod(max(1, size) for size in dims) > LARGEST_COUNT:
        raise ValueError(f"{what} of shape {dims} is more than a Py_ssize_t can count")


def as_triple(values: Sequence[int], filler: int) -> Triple:
    """Return values of 1 to 3 spatial axes as those of three."""
    a, b, c = (filler,) * (3 - len(values)) + tuple(values)
    return a, b, c


@dataclass(frozen=True)
class Geometry:
    """One convolution: what is read, with which step, and what comes out.

    Along each axis, output position o reads with tap k the input cell
    ``o * stride - low + k * dilation``, a cell outside of ``[0, size)`` being zero. (The high pads
    follow from these numbers, and are negative where the last cells are never read.) A stride or
    dilation that makes no difference (one output position, one tap) is 1, so that equal
    convolutions have equal geometries.
    """

    rank: int
    batch: int
    channels: int
    filters: int
    groups: int
    size: Triple
    kernel: Triple
    stride: Triple
    dilation: Triple
    low: Triple
    output: Triple

    @cached_property
    def taps(self) -> int:
        return math.prod(self.kernel)

    @cached_property
    def positions(self) -> int:
        """Output positions of one image."""
        return math.prod(self.output)

    @cached_property
    def group_channels(self) -> int:
        return self.channels // self.groups

    @cached_property
    def group_filters(self) -> int:
        return self.filters // self.groups

    @cached_property
    def multiply_adds(self) -> int:
        return self.batch * self.positions * self.filters * self.group_channels * self.taps

    # Shapes with three spatial axes, as the algorithms see the arrays.
    @cached_property
    def x_shape(self) -> tuple[int, ...]:
        return (self.batch, self.channels, *self.size)

    @cached_property
    def w_shape(self) -> tuple[int, ...]:
        return (self.filters, self.group_channels, *self.kernel)

    @cached_property
    def y_shape(self) -> tuple[int, ...]:
        return (self.batch, self.filters, *self.output)

    def public(self, full: tuple[int, ...]) -> tuple[int, ...]:
        """Drop from a shape with three spatial axes those which the caller's arrays lack."""
        return full[:2] + full[5 - self.rank :]

    def _columns(self) -> tuple[Triple, ...]:
        return self.size, self.kernel, self.stride, self.dilation, self.low, self.output

    def axes(self) -> NDArray[np.intp]:
        """The integers that kernels read: a row an axis of size, kernel, stride, dilation, low
        pad, output."""
        return np.array(self._columns(), dtype=np.intp).T.copy()

    def flipped(self) -> Geometry:
        """The stride 1 convolution over dy, with the kernel flipped and its channel axes swapped,
        that is this one's input gradient. Its low pad is negative where this one pads by more
        than the kernel reaches."""
        low = tuple(
            (k - 1) * d - p for k, d, p in zip(self.kernel, self.dilation, self.low, strict=True)
        )
        return Geometry(
            rank=self.rank,
            batch=self.batch,
            channels=self.filters,
            filters=self.channels,
            groups=self.groups,
            size=self.output,
            kernel=self.kernel,
            stride=(1, 1, 1),
            dilation=self.dilation,
            low=(low[0], low[1], low[2]),
            output=self.size,
        )


def geometry(
    x_shape: tuple[int, ...],
    w_shape: tuple[int, ...],
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
    x_name: str = "x",
    w_name: str = "w",
) -> Geometry:
    """Check the integers of a convolution and return its Geometry.

    Raises TypeError for what is no integer and ValueError for what does not fit, naming the
    argument; `x_name` and `w_name` say what the caller calls the two shapes.
    """
    if not 3 <= len(w_shape) <= 5:
        raise ValueError(
            f"{w_name} must have 1 to 3 spatial axes, as (F, C/groups, *kernel); "
            f"got shape {w_shape}"
        )
    rank = len(w_shape) - 2
    if len(x_shape) != rank + 2:
        raise ValueError(
            f"{x_name} must have {rank + 2} axes, (N, C, *spatial), as {w_name} has; "
            f"got shapes {x_shape} and {w_shape}"
        )
    strides = integers("stride", stride, rank, 1)
    dilations = integers("dilation", dilation, rank, 1)
    pads = paddings(padding, rank)
    groups = integer("groups", groups, 1)
    if 0 in x_shape[1:]:
        raise ValueError(f"{x_name} must have no axis of size 0 but the batch, got shape {x_shape}")
    if 0 in w_shape:
        raise ValueError(f"{w_name} must have no axis of size 0, got shape {w_shape}")
    batch, channels = x_shape[:2]
    filters, group_channels = w_shape[:2]
    if channels != group_channels * groups:
        raise ValueError(
            f"{x_name} has {channels} channels, but {w_name} has {group_channels} for each of "
            f"{groups} groups; got shapes {x_shape} and {w_shape}"
        )
    if filters % groups:
        raise ValueError(
            f"groups must divide the number of filters of {w_name}: {filters} filters, "
            f"{groups} groups"
        )
    sizes, kernels = x_shape[2:], w_shape[2:]
    outputs = tuple(
        _output_size(*axis, x_name, w_name)
        for axis in zip(sizes, kernels, strides, dilations, pads, strict=True)
    )
    check_countable(x_name, x_shape)
    check_countable(w_name, w_shape)
    check_countable(
        f"the output for {x_name} {x_shape} and padding {pads}", (batch, filters, *outputs)
    )
    return Geometry(
        rank=rank,
        batch=batch,
        channels=channels,
        filters=filters,
        groups=groups,
        size=as_triple(sizes, 1),
        kernel=as_triple(kernels, 1),
        stride=as_triple([s if o > 1 else 1 for s, o in zip(strides, outputs, strict=True)], 1),
        dilation=as_triple([d if k > 1 else 1 for d, k in zip(dilations, kernels, strict=True)], 1),
        low=as_triple([low for low, _ in pads], 0),
        output=as_triple(outputs, 1),
    )


def _output_size(
    size: int,
    kernel: int,
    stride: int,
    dilation: int,
    pads: tuple[int, int],
    x_name: str,
    w_name: str,
) -> int:
    padded = size + sum(pads)
    if padded > LARGEST:
        raise ValueError(
            f"padding {pads} on an axis of size {size} of {x_name} is more than a Py_ssize_t "
            f"can count"
        )
    extent = dilation * (kernel - 1) + 1
    if extent > padded:
        raise ValueError(
            f"{w_name} is larger than the padded input: its kernel of {kernel}, with dilation "
            f"{dilation}, reaches over {extent} cells, but {x_name} has {size}, with padding "
            f"{pads} {padded}"
        )
    return (padded - extent) // stride + 1
