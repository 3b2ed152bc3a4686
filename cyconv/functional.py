"""The functions: read the arguments, make the plan, run it."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from cyconv.arguments import array, check_dy, check_real, native
from cyconv.bias import bias_grad
from cyconv.frozen import Packs
from cyconv.integers import shape
from cyconv.prepare import prepare
from cyconv.types import Array, DType

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def conv(
    x: "ArrayLike",
    w: "ArrayLike",
    b: "ArrayLike | None" = None,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
    data_format: str = "channels_first",
    algorithm: str = "auto",
    out: Array | None = None,
) -> Array:
    """Convolve a batch with a bank of filters, over 1, 2 or 3 spatial axes.

    As everywhere in deep learning this is cross-correlation: the kernel is not flipped.

    Parameters
    ----------
    x : array, shape (N, C, *spatial) or (C, *spatial)
        The input. Any memory layout; it is not written. Without a batch axis, y has none either.
    w : array, shape (F, C/groups, *kernel)
        The filters; their number of axes says how many are spatial.
    b : array, shape (F,), optional
        The bias, one number a filter.
    stride, dilation : int or one int a spatial axis
        The step of the window, and the step between its taps. At least 1.
    padding : int, one int or (low, high) pair a spatial axis, or str
        How many zeros to put at the ends of each axis. "valid" is none; "same" as many as make
        ceil(size / stride) positions, the odd one at the high end, and "same_lower" at the low
        end; "causal", over one axis, (kernel - 1) * dilation at the low end.
    groups : int
        Filters are split into this many groups, each of which reads its own C/groups channels.
    padding_mode : {"zeros", "reflect", "symmetric", "replicate", "circular"}
        What the padding holds: zeros; the cells inside the border, mirrored at the outermost one or
        at its edge (as "reflect" and "symmetric" of ``numpy.pad``); the outermost one, repeated; or
        those of the other end. It may be less wide than the axis for "reflect", as wide for
        "symmetric" and "circular".
    data_format : {"channels_first", "channels_last"}
        With "channels_last", x is (N, *spatial, C) and y (N, *output, F); w stays what it is.
    algorithm : {"auto", "gemm", "direct", "winograd"}
        How to compute; "auto" chooses by measured thresholds. "gemm" lowers x to columns and
        multiplies matrices; "direct" goes through the taps in place, best with one or few channels
        a group; "winograd" takes 36 products for 144, for 3x3 kernels with stride and groups of 1
        and a dilation of up to 15, or 49 for 256, for 4x4 with up to 10, or 81 for 144, for 3x3
        with stride 2; for larger ones of two to four times their stride (5x5 or 7x7 with 2, 11x11
        with 4), and volumes whose kernel has such planes. (There a NaN or Inf may also mark the
        other cells of its tile of 4x4 outputs, which are as far apart as the dilation is.)
    out : array, optional
        Where to put the result: exactly its shape and dtype, C-contiguous, writeable, sharing no
        memory with an input.

    Returns
    -------
    array, shape (N, F, *output)
        Along each axis ``floor((size + pads - dilation*(kernel-1) - 1) / stride) + 1`` positions.
        Its dtype is ``np.result_type`` of the arrays, or float64 where that is no float; float16
        is computed in float32. New, writeable and C-contiguous, unless it is `out`.

    Raises
    ------
    TypeError
        Where an array is not of real numbers of at most 64 bits, or an integer is not one.
    ValueError
        Where sizes, channels, groups, padding or `out` do not fit, or the algorithm asked for
        cannot serve them; the message names the argument.

    References
    ----------
    Chellapilla, Puri, Simard: High Performance Convolutional Neural Networks for Document
    Processing (2006), section 4.1: convolution as a matrix product. Lavin, Gray: Fast Algorithms
    for Convolutional Neural Networks (2015), section 4.1: Winograd's.

    Examples
    --------
    >>> import numpy as np
    >>> import cyconv
    >>> x = np.arange(16.0).reshape(1, 1, 4, 4)
    >>> w = np.ones((1, 1, 3, 3))
    >>> cyconv.conv(x, w)
    array([[[[45., 54.],
             [81., 90.]]]])
    """
    x, w = array("x", x), array("w", w)
    if b is not None:
        b = array("b", b)
    made = prepare(
        "forward",
        (x.shape, w.shape, None if b is None else b.shape),
        (stride, padding, dilation, groups, padding_mode, data_format, algorithm),
        ("x", "w", "b"),
        (x.dtype, w.dtype, None if b is None else b.dtype),
    )
    return made.run((x, w, b), out)


def convolve(
    x: Array, w: Array, b: Array | None, options: tuple[Any, ...], packs: Packs | None = None
) -> Array:
    """`conv` for layers: of arrays that are known to fit but for x, with all options, in the order
    of its signature up to algorithm, and what is kept of w."""
    shapes = x.shape, w.shape, None if b is None else b.shape
    dtypes = x.dtype, w.dtype, None if b is None else b.dtype
    made = prepare("forward", shapes, options, ("x", "w", "b"), dtypes)
    return made.run((x, w, b), None, packs)


def conv_input_grad(
    dy: "ArrayLike",
    w: "ArrayLike",
    x_shape: Iterable[int],
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
    data_format: str = "channels_first",
    algorithm: str = "auto",
    out: Array | None = None,
) -> Array:
    """Compute the gradient of a convolution with respect to its input.

    This is the adjoint of ``x -> conv(x, w)``: each cell of dy returns, through the filters, to the
    cells of x that it was computed from.

    Parameters
    ----------
    dy : array, shape (N, F, *output)
        The gradient with respect to the output; as x, it may lack the batch axis.
    w : array, shape (F, C/groups, *kernel)
        The filters.
    x_shape : tuple of int
        The shape of x, (N, C, *spatial): with a stride, several sizes have the same output size.
    stride, padding, dilation, groups, padding_mode, data_format, algorithm, out
        As for `conv`.

    Returns
    -------
    array, shape x_shape
        The gradient with respect to x, of the dtype that `conv` would give dy and w.

    Raises
    ------
    TypeError, ValueError
        As `conv`, and where the shape of dy is not that of the output.

    See Also
    --------
    conv_weight_grad : The gradient with respect to the filters.
    conv_transpose : The same as an operation of its own, with a bias.

    Examples
    --------
    >>> import numpy as np
    >>> import cyconv
    >>> dy = np.ones((1, 1, 2, 2))
    >>> w = np.ones((1, 1, 2, 2))
    >>> cyconv.conv_input_grad(dy, w, (1, 1, 3, 3))
    array([[[[1., 2., 1.],
             [2., 4., 2.],
             [1., 2., 1.]]]])
    """
    dy, w = array("dy", dy), array("w", w)
    made = prepare(
        "input_grad",
        (shape("x_shape", x_shape), w.shape, dy.shape),
        (stride, padding, dilation, groups, padding_mode, data_format, algorithm),
        ("dy", "w"),
        (dy.dtype, w.dtype),
    )
    return made.run((dy, w), out)


def conv_weight_grad(
    dy: "ArrayLike",
    x: "ArrayLike",
    w_shape: Iterable[int],
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
    data_format: str = "channels_first",
    algorithm: str = "auto",
    out: Array | None = None,
) -> Array:
    """Compute the gradient of a convolution with respect to its filters.

    This is the adjoint of ``w -> conv(x, w)``: each tap sums, over the batch and all positions, dy
    times the cell that it read there.

    Parameters
    ----------
    dy : array, shape (N, F, *output)
        The gradient with respect to the output.
    x : array, shape (N, C, *spatial)
        The input.
    w_shape : tuple of int
        The shape of w, (F, C/groups, *kernel).
    stride, padding, dilation, groups, padding_mode, data_format, algorithm, out
        As for `conv`. A weight gradient that the algorithm lacks is computed by "gemm".

    Returns
    -------
    array, shape w_shape
        The gradient with respect to w, summed over the batch, of the dtype that `conv` would give
        dy and x.

    Raises
    ------
    TypeError, ValueError
        As `conv`, and where the shape of dy is not that of the output.

    Examples
    --------
    >>> import numpy as np
    >>> import cyconv
    >>> x = np.arange(9.0).reshape(1, 1, 3, 3)
    >>> dy = np.ones((1, 1, 2, 2))
    >>> cyconv.conv_weight_grad(dy, x, (1, 1, 2, 2))
    array([[[[ 8., 12.],
             [20., 24.]]]])
    """
    dy, x = array("dy", dy), array("x", x)
    made = prepare(
        "weight_grad",
        (x.shape, shape("w_shape", w_shape), dy.shape),
        (stride, padding, dilation, groups, padding_mode, data_format, algorithm),
        ("dy", "x"),
        (dy.dtype, x.dtype),
    )
    return made.run((dy, x), out)


GRADIENTS = ("X", "W", "b")


class Cache(NamedTuple):
    """What a backward pass needs: the inputs themselves, and the options."""

    X: Array
    W: Array
    b_shape: tuple[int, ...] | None
    out_shape: tuple[int, ...]
    dtype: DType
    options: dict[str, Any]


def conv_forward(
    X: "ArrayLike",
    W: "ArrayLike",
    b: "ArrayLike | None" = None,
    stride: Any = 1,
    padding: Any = 1,
    dilation: Any = 1,
    groups: int = 1,
    **options: Any,
) -> tuple[Array, Cache]:
    """Convolve, and keep what `conv_backward` needs: the tutorial's function.

    Parameters
    ----------
    X : array, shape (N, C, *spatial)
        The input.
    W : array, shape (F, C/groups, *kernel)
        The filters.
    b : array, shape (F,) or (F, 1), optional
        The bias, one number a filter.
    stride, padding, dilation, groups
        As for `conv`; but note the padding of 1, which fits 3x3 filters.
    **options
        As for `conv`: padding_mode, data_format, algorithm, out.

    Returns
    -------
    out : array, shape (N, F, *output)
        As `conv` returns it.
    cache : object
        To be handed to `conv_backward`. It refers to X and W and copies neither, so they must not
        change in between.

    Raises
    ------
    TypeError, ValueError
        As `conv`.

    Examples
    --------
    >>> import numpy as np
    >>> import cyconv
    >>> X = np.ones((5, 1, 10, 10))
    >>> W = np.ones((20, 1, 3, 3))
    >>> out, cache = cyconv.conv_forward(X, W, np.zeros(20))
    >>> out.shape
    (5, 20, 10, 10)
    """
    X, W = array("X", X), array("W", W)
    flat = b_shape = None
    if b is not None:
        b = array("b", b)
        b_shape, flat = b.shape, b
        if W.ndim and b_shape == (W.shape[0], 1):
            flat = b[:, 0]
    options |= {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    out = conv(X, W, flat, **options)
    options.pop("out", None)
    return out, Cache(X, W, b_shape, out.shape, out.dtype, options)


def conv_backward(
    dout: "ArrayLike", cache: Cache, *, need: Iterable[str] = GRADIENTS
) -> tuple[Array | None, Array | None, Array | None]:
    """Compute the gradients of a convolution from that of its output.

    Parameters
    ----------
    dout : array, shape (N, F, *output)
        The gradient with respect to the output of `conv_forward`.
    cache : object
        What `conv_forward` returned.
    need : iterable of {"X", "W", "b"}
        Which gradients to compute.

    Returns
    -------
    dX : array, shape of X, or None
        None where it is not needed, and so for the others.
    dW : array, shape of W, or None
        Summed over the batch.
    db : array, shape of b, or None
        None also where there was no b. All three are of the dtype of the output.

    Raises
    ------
    TypeError
        Where dout is not an array of real numbers, or cache is not what `conv_forward` returned.
    ValueError
        Where the shape of dout is not that of the output, or `need` names something else.

    Examples
    --------
    >>> import numpy as np
    >>> import cyconv
    >>> X = np.ones((5, 1, 10, 10))
    >>> W = np.ones((20, 1, 3, 3))
    >>> out, cache = cyconv.conv_forward(X, W, np.zeros(20))
    >>> dX, dW, db = cyconv.conv_backward(np.ones_like(out), cache)
    >>> dX.shape, dW.shape, db.shape
    ((5, 1, 10, 10), (20, 1, 3, 3), (20,))
    """
    if not isinstance(cache, Cache):
        raise TypeError(f"cache must be what conv_forward returned, not {type(cache).__name__}")
    if need is not GRADIENTS:
        try:
            need = frozenset(need)
        except TypeError:
            raise TypeError(f"need must be an iterable of names, not {need!r}") from None
        if unknown := need.difference(GRADIENTS):
            raise ValueError(f'need must name "X", "W" or "b", got {sorted(map(repr, unknown))}')
    X, W, dtype = cache.X, cache.W, cache.dtype
    dy = array("dout", dout)
    check_real("dout", dy.dtype)
    check_dy("dout", dy.shape, cache.out_shape)
    dy = native(dy, dtype)
    dX = dW = db = None
    if "X" in need:
        dX = conv_input_grad(dy, W.astype(dtype, copy=False), X.shape, **cache.options)
    if "W" in need:
        dW = conv_weight_grad(dy, X.astype(dtype, copy=False), W.shape, **cache.options)
    if "b" in need and cache.b_shape is not None:
        last = cache.options.get("data_format") == "channels_last"
        db = bias_grad(dy, W.ndim - 2, last).reshape(cache.b_shape)
    return dX, dW, db
