"""cs231n: the fast layers of the course's assignments, and the im2col of its tutorials.

A notebook runs by changing where it imports from:

    from cs231n.fast_layers import conv_forward_fast, conv_backward_fast       # before
    from cyconv.interop.cs231n import conv_forward_fast, conv_backward_fast    # after

    >>> import numpy as np
    >>> from cyconv.interop.cs231n import conv_forward_fast, conv_backward_fast
    >>> x, w, b = np.ones((2, 3, 8, 8)), np.ones((4, 3, 3, 3)), np.zeros(4)
    >>> out, cache = conv_forward_fast(x, w, b, {"stride": 1, "pad": 1})
    >>> dx, dw, db = conv_backward_fast(np.ones_like(out), cache)
    >>> out.shape, dx.shape, dw.shape, db.shape
    ((2, 4, 8, 8), (2, 3, 8, 8), (4, 3, 3, 3), (4,))

There is nothing to compile, filters need not be square, and strides need not come out even.

`im2col_indices` has the batch within its columns, where `cyconv.im2col` has it outside:

    function                   shape              column (i, j) of image n
    cyconv.im2col(x, k)        (N, C*k*k, h*w)    cols[n, :, i*w + j]
    im2col_indices(x, k, k)    (C*k*k, h*w*N)     cols[:, (i*w + j)*N + n]

so that one matrix product serves the whole batch. Rows are the same: channel, then tap.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

import cyconv

Array = NDArray[Any]


def conv_forward_fast(
    x: Array, w: Array, b: Array, conv_param: Mapping[str, int]
) -> tuple[Array, Any]:
    """Convolve: the assignment's forward pass.

    Parameters
    ----------
    x : array, shape (N, C, H, W)
    w : array, shape (F, C, HH, WW)
    b : array, shape (F,)
    conv_param : dict
        "stride" and "pad", ints.

    Returns
    -------
    out : array, shape (N, F, H', W')
    cache
        For `conv_backward_fast`. It refers to x and w, which must not change in between.
    """
    return cyconv.conv_forward(x, w, b, conv_param["stride"], conv_param["pad"])


def conv_backward_fast(dout: Array, cache: Any) -> tuple[Array, Array, Array]:
    """Compute the gradients of `conv_forward_fast` by x, w and b."""
    dx, dw, db = cyconv.conv_backward(dout, cache)
    assert dx is not None
    assert dw is not None
    assert db is not None
    return dx, dw, db


def max_pool_forward_fast(x: Array, pool_param: Mapping[str, int]) -> tuple[Array, Any]:
    """Take the largest cell of each window.

    Parameters
    ----------
    x : array, shape (N, C, H, W)
    pool_param : dict
        "pool_height", "pool_width" and "stride", ints.

    Returns
    -------
    out : array, shape (N, C, H', W')
    cache
        For `max_pool_backward_fast`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.interop.cs231n import max_pool_backward_fast, max_pool_forward_fast
    >>> x = np.arange(16.0).reshape(1, 1, 4, 4)
    >>> pool_param = {"pool_height": 2, "pool_width": 2, "stride": 2}
    >>> out, cache = max_pool_forward_fast(x, pool_param)
    >>> out
    array([[[[ 5.,  7.],
             [13., 15.]]]])
    >>> max_pool_backward_fast(out, cache)[0, 0]
    array([[ 0.,  0.,  0.,  0.],
           [ 0.,  5.,  0.,  7.],
           [ 0.,  0.,  0.,  0.],
           [ 0., 13.,  0., 15.]])
    """
    kernel = pool_param["pool_height"], pool_param["pool_width"]
    stride = pool_param["stride"]
    n, c, height, width = x.shape
    out_height, out_width = (
        (size - k) // stride + 1 for size, k in zip((height, width), kernel, strict=True)
    )
    # (N, C*taps, H'*W'), where each channel has its own taps
    cols = cyconv.im2col(x, kernel, stride).reshape(n, c, -1, out_height * out_width)
    largest = cols.argmax(axis=2, keepdims=True)
    out = np.take_along_axis(cols, largest, axis=2).reshape(n, c, out_height, out_width)
    return out, (largest, cols.shape, (height, width), kernel, stride)


def max_pool_backward_fast(dout: Array, cache: Any) -> Array:
    """Compute the gradient of `max_pool_forward_fast`: all of it goes to the largest cell, and
    where several are, to the first of them."""
    largest, cols_shape, size, kernel, stride = cache
    n, c, taps, positions = cols_shape
    cols = np.zeros(cols_shape, dout.dtype)
    np.put_along_axis(cols, largest, dout.reshape(n, c, 1, positions), axis=2)
    return cyconv.col2im(cols.reshape(n, c * taps, positions), size, kernel, stride)


def im2col_indices(
    x: Array, field_height: int, field_width: int, padding: int = 1, stride: int = 1
) -> Array:
    """Lower a batch of images to columns, the images side by side in each position.

    Parameters
    ----------
    x : array, shape (N, C, H, W)
    field_height, field_width, padding, stride : int
        Note the default padding of 1.

    Returns
    -------
    array, shape (C * field_height * field_width, H' * W' * N)

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.interop.cs231n import im2col_indices
    >>> x = np.array([[[[1, 2], [3, 4]]], [[[10, 20], [30, 40]]]])  # two images
    >>> im2col_indices(x, 1, 2, padding=0).astype(int)
    array([[ 1, 10,  3, 30],
           [ 2, 20,  4, 40]])
    """
    cols = cyconv.im2col(x, (field_height, field_width), stride, padding)
    return np.ascontiguousarray(cols.transpose(1, 2, 0)).reshape(cols.shape[1], -1)


def col2im_indices(
    cols: Array,
    x_shape: tuple[int, int, int, int],
    field_height: int = 3,
    field_width: int = 3,
    padding: int = 1,
    stride: int = 1,
) -> Array:
    """Add the cells of columns back to where they came from: the adjoint of `im2col_indices`.

    Parameters
    ----------
    cols : array, shape (C * field_height * field_width, H' * W' * N)
    x_shape : tuple of int
        (N, C, H, W).
    field_height, field_width, padding, stride : int

    Returns
    -------
    array, shape x_shape

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.interop.cs231n import col2im_indices
    >>> col2im_indices(np.ones((4, 4)), (1, 1, 3, 3), 2, 2, padding=0)
    array([[[[1., 2., 1.],
             [2., 4., 2.],
             [1., 2., 1.]]]])
    """
    n, _, *size = x_shape
    by_image = cols.reshape(len(cols), -1, n).transpose(2, 0, 1)
    return cyconv.col2im(by_image, size, (field_height, field_width), stride, padding)
