"""Geometry: one convolution in integers.

Everything below this module sees three spatial axes: a 1-D or 2-D convolution is a 3-D one whose
leading axes have size 1, kernel 1, stride 1 and no padding. All argument checks that need only
integers are made here, once, before anything is allocated.
"""

import math
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from cyconv.form import form_of
from cyconv.integers import LARGEST, Pads, check_countable, integer, integers, paddings
from cyconv.types import Integers

Triple = tuple[int, int, int]


def as_triple(values: Sequence[int], filler: int) -> Triple:
    """Return values of 1 to 3 spatial axes as those of three."""
    a, b, c = (filler,) * (3 - len(values)) + tuple(values)
    return a, b, c


class _Numbers(NamedTuple):
    """What a Geometry is made of."""

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


class Geometry(_Numbers):
    """One convolution: what is read, with which step, and what comes out.

    Along each axis, output position o reads with tap k the input cell
    ``o * stride - low + k * dilation``, a cell outside of ``[0, size)`` being zero. (The high pads
    follow from these numbers, and are negative where the last cells are never read.) A stride or
    dilation that makes no difference (one output position, one tap) is 1, so that equal
    convolutions have equal geometries.
    """

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
    def group_weights(self) -> int:
        return self.group_filters * self.group_channels * self.taps

    @cached_property
    def multiply_adds(self) -> int:
        return self.batch * self.positions * self.groups * self.group_weights

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

    def _columns(self) -> tuple[Triple, ...]:
        return self.size, self.kernel, self.stride, self.dilation, self.low, self.output

    def axes(self) -> Integers:
        """The integers that kernels read: a row an axis of size, kernel, stride, dilation, low
        pad, output."""
        return np.array(self._columns(), dtype=np.intp).T.copy()

    def flipped(self) -> "Geometry":
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


def geometry(*arguments: Any) -> Geometry:
    """Check the integers of a convolution and return its Geometry: see `geometry_and_pads`."""
    return geometry_and_pads(*arguments)[0]


def read_shapes(
    x_shape: tuple[int, ...],
    w_shape: tuple[int, ...],
    last: bool,
    x_name: str,
    w_name: str,
    w_axes: str,
) -> tuple[int, ...]:
    """Check two shapes by themselves; return that of x as (N, C, *spatial)."""
    if not 3 <= len(w_shape) <= 5:
        raise ValueError(
            f"{w_name} must have 1 to 3 spatial axes, as {w_axes}; got shape {w_shape}"
        )
    full = form_of(x_shape, w_shape, last, x_name, w_name).read(x_shape)
    if 0 in full[1:]:
        raise ValueError(f"{x_name} must have no axis of size 0 but the batch, got shape {x_shape}")
    if 0 in w_shape:
        raise ValueError(f"{w_name} must have no axis of size 0, got shape {w_shape}")
    return full


def geometry_and_pads(
    x_shape: tuple[int, ...],
    w_shape: tuple[int, ...],
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
    x_name: str = "x",
    w_name: str = "w",
    last: bool = False,
) -> tuple[Geometry, Pads]:
    """Check the integers of a convolution; return its Geometry, and the pads of each axis.

    x may lack its batch axis, and has its channels last if `last` says so. Raises TypeError for
    what is no integer and ValueError for what does not fit, naming the argument; `x_name` and
    `w_name` say what the caller calls the two shapes.
    """
    batch, channels, *sizes = read_shapes(
        x_shape, w_shape, last, x_name, w_name, "(F, C/groups, *kernel)"
    )
    rank = len(sizes)
    strides = integers("stride", stride, rank, 1)
    dilations = integers("dilation", dilation, rank, 1)
    groups = integer("groups", groups, 1)
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
    kernels = w_shape[2:]
    pads = find_pads(padding, sizes, kernels, strides, dilations)
    outputs = tuple(
        _output_size(*axis, x_name, w_name)
        for axis in zip(sizes, kernels, strides, dilations, pads, strict=True)
    )
    check_countable(x_name, x_shape)
    check_countable(w_name, w_shape)
    check_countable(
        f"the output for {x_name} {x_shape} and padding {pads}", (batch, filters, *outputs)
    )
    lows = [low for low, _ in pads]
    axes = zip(sizes, kernels, strides, dilations, lows, outputs, strict=True)
    return assemble(batch, channels, filters, groups, axes), pads


def assemble(
    batch: int, channels: int, filters: int, groups: int, axes: Iterable[tuple[int, ...]]
) -> Geometry:
    """Return the Geometry of one to three axes, each (size, kernel, stride, dilation, low pad,
    output), all of them checked."""
    size, kernel, stride, dilation, low, output = zip(*axes, strict=True)
    return Geometry(
        rank=len(size),
        batch=batch,
        channels=channels,
        filters=filters,
        groups=groups,
        size=as_triple(size, 1),
        kernel=as_triple(kernel, 1),
        stride=as_triple([s if o > 1 else 1 for s, o in zip(stride, output, strict=True)], 1),
        dilation=as_triple([d if k > 1 else 1 for d, k in zip(dilation, kernel, strict=True)], 1),
        low=as_triple(low, 0),
        output=as_triple(output, 1),
    )


def find_pads(
    padding: Any,
    sizes: Sequence[int],
    kernels: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
) -> Pads:
    """Return the (low, high) pair of each axis, whatever `padding` is."""
    given = paddings(padding, len(sizes))
    if not isinstance(given, str):
        return given
    axes = zip(sizes, kernels, strides, dilations, strict=True)
    return tuple(named_pads(given, *axis) for axis in axes)


def named_pads(name: str, size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """Return the (low, high) pads of one axis that a name of PADDINGS stands for.

    "same" makes ceil(size / stride) outputs, like TensorFlow and ONNX's SAME_UPPER: an odd cell
    goes to the high end, and with "same_lower" to the low one. "causal" lets output o read nothing
    beyond cell o * stride.

    Examples
    --------
    >>> named_pads("same", size=5, kernel=4, stride=1, dilation=1)
    (1, 2)
    >>> named_pads("causal", size=5, kernel=4, stride=1, dilation=2)
    (6, 0)
    """
    reach = dilation * (kernel - 1)
    if name == "valid":
        return 0, 0
    if name == "causal":
        return reach, 0
    total = max(0, (-(-size // stride) - 1) * stride + reach + 1 - size)
    small, large = total // 2, total - total // 2
    return (small, large) if name == "same" else (large, small)


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
