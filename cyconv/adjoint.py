"""Adjoint: the integers of a transposed convolution.

It is the adjoint of a convolution whose x has the shape of its output: along an axis,

    output = (size - 1) * stride - low - high + dilation * (kernel - 1) + output_padding + 1

and a convolution over that, with the high pads ``high - output_padding``, has `size` outputs. So it
needs no algorithms of its own, and neither do its gradients, which are that convolution itself and
its weight gradient.
"""

from __future__ import annotations

from typing import Any

from cyconv.geometry import Geometry, assemble, read_shapes
from cyconv.integers import LARGEST, Pads, check_countable, integer, integers, paddings


def transposed_geometry(
    x_shape: tuple[int, ...],
    w_shape: tuple[int, ...],
    stride: Any,
    padding: Any,
    output_padding: Any,
    dilation: Any,
    groups: Any,
    last: bool = False,
    pairs: bool = False,
    x_name: str = "x",
    w_name: str = "w",
) -> Geometry:
    """Check the integers of a transposed convolution; return the Geometry that it is adjoint to.

    Its x is the transposed convolution's output, and its y that one's x. With `pairs`, padding may
    be (low, high) pairs, and output_padding anything from 0.
    """
    batch, channels, *sizes = read_shapes(
        x_shape, w_shape, last, x_name, w_name, "(C, F/groups, *kernel)"
    )
    rank = len(sizes)
    strides = integers("stride", stride, rank, 1)
    dilations = integers("dilation", dilation, rank, 1)
    groups = integer("groups", groups, 1)
    pads = _pads(padding, rank, pairs)
    extras = integers("output_padding", output_padding, rank, 0)
    if not pairs:
        check_output_padding(extras, strides, dilations)
    if channels != w_shape[0]:
        raise ValueError(
            f"{x_name} has {channels} channels, but {w_name} has filters for {w_shape[0]}; "
            f"got shapes {x_shape} and {w_shape}"
        )
    if channels % groups:
        raise ValueError(
            f"groups must divide the number of channels of {x_name}: {channels} channels, "
            f"{groups} groups"
        )
    kernels = w_shape[2:]
    outputs = tuple(
        _output_size(*axis)
        for axis in zip(sizes, kernels, strides, dilations, pads, extras, strict=True)
    )
    filters = w_shape[1] * groups
    check_countable(x_name, x_shape)
    check_countable(w_name, w_shape)
    check_countable(
        f"the output for {x_name} {x_shape} and {w_name} {w_shape}", (batch, filters, *outputs)
    )
    lows = [low for low, _ in pads]
    axes = zip(outputs, kernels, strides, dilations, lows, sizes, strict=True)
    return assemble(batch, filters, channels, groups, axes)


def check_output_padding(
    extras: tuple[int, ...], strides: tuple[int, ...], dilations: tuple[int, ...]
) -> None:
    """Raise ValueError where it is not below stride or dilation, as PyTorch has it."""
    for extra, stride, dilation in zip(extras, strides, dilations, strict=True):
        if extra >= max(stride, dilation):
            raise ValueError(
                f"output_padding must be smaller than stride or dilation: got {extra} for a "
                f"stride of {stride} and a dilation of {dilation}"
            )


def _pads(padding: Any, rank: int, pairs: bool) -> Pads:
    if not pairs:
        return tuple((pad, pad) for pad in integers("padding", padding, rank, 0))
    pads = paddings(padding, rank)
    assert not isinstance(pads, str)
    return pads


def _output_size(
    size: int, kernel: int, stride: int, dilation: int, pads: tuple[int, int], extra: int
) -> int:
    reach = (size - 1) * stride + dilation * (kernel - 1) + 1 + extra
    if reach > LARGEST:
        raise ValueError(
            f"stride {stride} and dilation {dilation} spread an axis of size {size} of x, with a "
            f"kernel of {kernel}, over {reach} cells, more than a Py_ssize_t can count"
        )
    if reach <= sum(pads):
        raise ValueError(
            f"padding {pads} leaves nothing of an output of {reach} cells; got an axis of size "
            f"{size} of x and a kernel of {kernel} of w"
        )
    return reach - sum(pads)
