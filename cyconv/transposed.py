"""The transposed convolution and its gradients: passes of the convolution that it is adjoint to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cyconv.arguments import array
from cyconv.frozen import Packs
from cyconv.prepare import prepare
from cyconv.types import Array

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def conv_transpose(
    x: ArrayLike,
    w: ArrayLike,
    b: ArrayLike | None = None,
    *,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
    data_format: str = "channels_first",
    algorithm: str = "auto",
    out: Array | None = None,
) -> Array:
    """Spread a batch through a bank of filters, over 1, 2 or 3 spatial axes.

    This is the adjoint of `conv`, with a bias: ``conv_transpose(y, w, stride=s, padding=p)`` is
    ``conv_input_grad(y, w, x_shape, stride=s, padding=p)``, for an x_shape that `output_padding`
    chooses among those that a stride makes alike.

    Parameters
    ----------
    x : array, shape (N, C, *spatial) or (C, *spatial)
        The input. Any memory layout; it is not written. Without a batch axis, y has none either.
    w : array, shape (C, F/groups, *kernel)
        The filters, as those of the convolution from y to x.
    b : array, shape (F,), optional
        The bias, one number a channel of the output.
    stride, dilation : int or one int a spatial axis
        The step between the places of two cells of x, and between the taps. At least 1.
    padding : int or one int a spatial axis
        How many cells to cut off at both ends of each axis.
    output_padding : int or one int a spatial axis
        How many to add at the high end; less than stride or than dilation.
    groups : int
        Channels are split into this many groups, each of which makes its own F/groups.
    data_format, algorithm, out
        As for `conv`.

    Returns
    -------
    array, shape (N, F, *output)
        Along each axis ``(size-1)*stride - 2*padding + dilation*(kernel-1) + output_padding + 1``
        cells. Its dtype is that of `conv`.

    Raises
    ------
    TypeError, ValueError
        As `conv`.

    References
    ----------
    Dumoulin, Visin: A guide to convolution arithmetic for deep learning (2016), section 4.

    Examples
    --------
    >>> import numpy as np
    >>> import cyconv
    >>> x = np.array([[[1.0, 10.0]]])
    >>> w = np.array([[[1.0, 2.0, 3.0]]])
    >>> cyconv.conv_transpose(x, w, stride=2)
    array([[[ 1.,  2., 13., 20., 30.]]])
    """
    options = stride, padding, output_padding, dilation, groups, data_format, algorithm
    return _transpose("transpose", x, w, b, options, out, None)


def transpose(
    x: Array, w: Array, b: Array | None, options: tuple[Any, ...], packs: Packs | None = None
) -> Array:
    """`conv_transpose` for layers: with options as for the padded one, and what is kept of w."""
    return _transpose("transpose", x, w, b, options, None, packs)


def conv_transpose_padded(
    x: ArrayLike, w: ArrayLike, b: ArrayLike | None, options: tuple[Any, ...]
) -> Array:
    """conv_transpose with padding of (low, high) pairs, and any output_padding: for ONNX.

    `options` are stride, padding, output_padding, dilation, groups, data_format and algorithm.
    """
    return _transpose("transpose_padded", x, w, b, options, None, None)


def _transpose(
    pass_: str,
    x: ArrayLike,
    w: ArrayLike,
    b: ArrayLike | None,
    options: tuple[Any, ...],
    out: Array | None,
    packs: Packs | None,
) -> Array:
    x, w = array("x", x), array("w", w)
    if b is None:
        dtypes = x.dtype, w.dtype
        made = prepare(pass_, (x.shape, w.shape, None), options, ("x", "w"), dtypes)
        return made.run((x, w), out, packs)
    b = array("b", b)
    names, dtypes_b = ("x", "w", "b"), (x.dtype, w.dtype, b.dtype)
    made = prepare(pass_, (x.shape, w.shape, b.shape), options, names, dtypes_b)
    return made.run((x, w, b), out, packs)


def transpose_input_grad(
    dy: Array, w: Array, x_shape: tuple[int, ...], options: tuple[Any, ...]
) -> Array:
    """The gradient of conv_transpose with respect to x; `options` as for the padded one."""
    shapes = x_shape, w.shape, dy.shape
    return _gradient("transpose_input_grad", (dy, w), shapes, options, ("dy", "w"))


def transpose_weight_grad(
    dy: Array, x: Array, w_shape: tuple[int, ...], options: tuple[Any, ...]
) -> Array:
    """The gradient of conv_transpose with respect to w; `options` as for the padded one."""
    shapes = x.shape, w_shape, dy.shape
    return _gradient("transpose_weight_grad", (x, dy), shapes, options, ("x", "dy"))


def _gradient(
    pass_: str,
    arrays: tuple[Array, Array],
    shapes: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]],
    options: tuple[Any, ...],
    names: tuple[str, str],
) -> Array:
    made = prepare(pass_, shapes, options, names, (arrays[0].dtype, arrays[1].dtype))
    if pass_ == "transpose_input_grad":
        return made.run((*arrays, None), None)
    return made.run(arrays, None)
