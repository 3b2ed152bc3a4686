"""im2col and col2im as public functions: the whole lowering of an image, and its adjoint."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from cyconv import kernels, threads
from cyconv.arguments import array, computed_in, native, result_dtype
from cyconv.geometry import Geometry, geometry
from cyconv.integers import check_countable, integers, shape
from cyconv.types import Array

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def im2col(
    x: ArrayLike, kernel_size: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1
) -> Array:
    """Lower an image to columns: under each window position, the cells that it covers.

    The layout is that of ``torch.nn.Unfold``: rows by channel, then by tap.

    Parameters
    ----------
    x : array, shape (N, C, *spatial)
        The images. Always with a batch axis: its number of axes says how many are spatial.
    kernel_size : int or one int a spatial axis
        The size of the window.
    stride, padding, dilation
        As for `conv`.

    Returns
    -------
    array, shape (N, C * prod(kernel_size), prod(output))
        Of the dtype of x, or float64 where that is no float.

    Raises
    ------
    TypeError, ValueError
        As `conv`.

    References
    ----------
    Chellapilla, Puri, Simard: High Performance Convolutional Neural Networks for Document
    Processing (2006), section 4.1.

    Examples
    --------
    >>> import numpy as np
    >>> import cyconv
    >>> x = np.arange(9.0).reshape(1, 1, 3, 3)
    >>> cyconv.im2col(x, 2)
    array([[[0., 1., 3., 4.],
            [1., 2., 4., 5.],
            [3., 4., 6., 7.],
            [4., 5., 7., 8.]]])
    """
    x = array("x", x)
    dtype = result_dtype(("x",), (x.dtype,))
    g = _window_geometry(x.shape, kernel_size, stride, padding, dilation, "x")
    cols = np.empty((g.batch, g.channels * g.taps, g.positions), dtype)
    inner = computed_in(dtype)
    x = native(x, dtype).reshape(g.x_shape)
    axes = g.axes()
    for n in range(g.batch):
        made = cols[n] if inner == dtype else np.empty(cols.shape[1:], inner)
        kernels.run.im2col(native(x[n : n + 1], inner), made, axes)
        if made.dtype != dtype:
            cols[n] = made
    return cols


def col2im(
    cols: ArrayLike,
    x_size: Iterable[int],
    kernel_size: Any,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
) -> Array:
    """Add the cells of columns back to where they came from: the exact adjoint of `im2col`.

    Parameters
    ----------
    cols : array, shape (N, C * prod(kernel_size), prod(output))
        Columns, or a gradient with respect to them.
    x_size : tuple of int
        The spatial size of the image.
    kernel_size, stride, padding, dilation
        As for `im2col`.

    Returns
    -------
    array, shape (N, C, *x_size)
        Each cell is the sum of its copies. Of the dtype of cols, or float64 where that is no float.

    Raises
    ------
    TypeError, ValueError
        As `conv`, and where the shape of cols does not belong to the sizes.

    Examples
    --------
    >>> import numpy as np
    >>> import cyconv
    >>> cyconv.col2im(np.ones((1, 4, 4)), (3, 3), 2)
    array([[[[1., 2., 1.],
             [2., 4., 2.],
             [1., 2., 1.]]]])
    """
    cols = array("cols", cols)
    dtype = result_dtype(("cols",), (cols.dtype,))
    size = shape("x_size", x_size)
    if not 1 <= len(size) <= 3:
        raise ValueError(f"x_size must have 1 to 3 entries, one a spatial axis; got {size}")
    if cols.ndim != 3:
        raise ValueError(
            f"cols must have 3 axes, (N, C * prod(kernel_size), prod(output)); "
            f"got shape {cols.shape}"
        )
    taps = math.prod(integers("kernel_size", kernel_size, len(size), 1))
    if cols.shape[1] == 0 or cols.shape[1] % taps:
        raise ValueError(
            f"cols must have C * {taps} rows, {taps} taps for each of C channels; "
            f"got shape {cols.shape}"
        )
    x_shape = (cols.shape[0], cols.shape[1] // taps, *size)
    g = _window_geometry(x_shape, kernel_size, stride, padding, dilation, "x_size")
    if cols.shape[2] != g.positions:
        raise ValueError(
            f"cols must have {g.positions} columns, one an output position; got shape {cols.shape}"
        )
    inner = computed_in(dtype)
    x = np.zeros(g.x_shape, dtype)
    cols = native(cols, dtype)
    axes = g.axes()
    for n in range(g.batch):
        made = x[n : n + 1].astype(inner, copy=False)
        kernels.run.col2im(native(cols[n], inner), made, axes)
        if made.dtype != dtype:
            with threads.quiet():
                x[n : n + 1] = made
    return x.reshape(x_shape)


def _window_geometry(
    x_shape: tuple[int, ...], kernel: Any, stride: Any, padding: Any, dilation: Any, x_name: str
) -> Geometry:
    """The geometry of one window that runs over every channel by itself."""
    rank = len(x_shape) - 2
    if not 1 <= rank <= 3:
        raise ValueError(
            f"{x_name} must have 1 to 3 spatial axes, as (N, C, *spatial); got shape {x_shape}"
        )
    kernel = integers("kernel_size", kernel, rank, 1)
    w_shape = (x_shape[1], 1, *kernel)
    g = geometry(
        x_shape, w_shape, stride, padding, dilation, max(1, x_shape[1]), x_name, "kernel_size"
    )
    check_countable("cols", (g.batch, g.channels * g.taps, g.positions))
    return g
