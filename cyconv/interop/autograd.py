"""autograd: conv and conv_transpose that autograd differentiates, as often as asked.

    >>> import autograd.numpy as np
    >>> from autograd import grad, hessian_vector_product
    >>> from cyconv.interop.autograd import conv
    >>> x, w = np.arange(16.0).reshape(1, 1, 4, 4), np.ones((1, 1, 3, 3))
    >>> def energy(w):
    ...     return np.sum(conv(x, w) ** 2) / 2
    >>> float(grad(energy)(w)[0, 0, 0, 0])
    828.0
    >>> v = np.arange(9.0).reshape(1, 1, 3, 3)   # quadratic: how the slope changes along v
    >>> bool(np.allclose(hessian_vector_product(energy)(w, v), grad(energy)(v)))
    True

Any order is there because the three functions below are closed under differentiation: each is
linear in both of its arrays, and the gradient of any by either array is another of the three.

    result                    by its first array       by its second array
    y  = _conv(x, w)          _input_grad(g, w)        _weight_grad(g, x)
    dx = _input_grad(dy, w)   _conv(g, w)              _weight_grad(dy, g)
    dw = _weight_grad(dy, x)  _conv(x, g)              _input_grad(dy, g)

A transposed convolution is the second row, written with other options.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import cyconv

try:
    import autograd.numpy as anp
    from autograd.extend import defjvp, defvjp, primitive
except ImportError as error:
    raise ImportError(
        "cyconv.interop.autograd needs the package autograd: pip install 'cyconv[autograd]'"
    ) from error

# Arrays, or autograd's boxes around them; and the options of the functions of cyconv.
Array = Any
Options = dict[str, Any]


def conv(
    x: Array,
    w: Array,
    b: Array | None = None,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
    data_format: str = "channels_first",
    algorithm: str = "auto",
) -> Array:
    """Convolve, so that autograd can differentiate by x, w and b: see `cyconv.conv`.

    Examples
    --------
    >>> import autograd.numpy as np
    >>> from autograd import grad
    >>> from cyconv.interop.autograd import conv
    >>> x, w = np.arange(4.0).reshape(1, 1, 4), np.array([[[1.0, 2.0]]])
    >>> grad(lambda w: np.sum(conv(x, w)))(w)
    array([[[3., 6.]]])
    """
    options = {
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
        "groups": groups,
        "padding_mode": padding_mode,
        "data_format": data_format,
        "algorithm": algorithm,
    }
    return _conv(x, w, b, options)


def conv_transpose(
    x: Array,
    w: Array,
    b: Array | None = None,
    *,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
    data_format: str = "channels_first",
    algorithm: str = "auto",
) -> Array:
    """Convolve transposed, so that autograd can differentiate by x, w and b: see
    `cyconv.conv_transpose`.

    Examples
    --------
    >>> import autograd.numpy as np
    >>> from autograd import grad
    >>> from cyconv.interop.autograd import conv_transpose
    >>> x, w = np.arange(4.0).reshape(1, 1, 4), np.array([[[1.0, 2.0]]])
    >>> grad(lambda x: np.sum(conv_transpose(x, w, stride=2)))(x)
    array([[[3., 3., 3., 3.]]])
    """
    options = {
        "stride": stride,
        "padding": padding,
        "output_padding": output_padding,
        "dilation": dilation,
        "groups": groups,
        "data_format": data_format,
        "algorithm": algorithm,
    }
    return _conv_transpose(x, w, b, options)


def _forward(x: Array, w: Array, b: Array | None, options: Options) -> Array:
    return cyconv.conv(x, w, b, **options)


def _forward_transposed(x: Array, w: Array, b: Array | None, options: Options) -> Array:
    return cyconv.conv_transpose(x, w, b, **options)


def _to_input(dy: Array, w: Array, x_shape: tuple[int, ...], options: Options) -> Array:
    return cyconv.conv_input_grad(dy, w, x_shape, **options)


def _to_weight(dy: Array, x: Array, w_shape: tuple[int, ...], options: Options) -> Array:
    return cyconv.conv_weight_grad(dy, x, w_shape, **options)


_conv = primitive(_forward)
_conv_transpose = primitive(_forward_transposed)
_input_grad = primitive(_to_input)
_weight_grad = primitive(_to_weight)


def _by_bias(
    y: Array, x: Array, w: Array, b: Array | None, options: Options
) -> Callable[[Array], Array]:
    """The gradient by b: it was added to every position of its filter."""
    axes = tuple(axis for axis in range(y.ndim) if axis != _filter_axis(y, w, options))
    return lambda g: anp.sum(g, axis=axes)


def _along_bias(g: Array, y: Array, x: Array, w: Array, b: Array | None, options: Options) -> Array:
    """How y changes where b changes by g."""
    shape = [1] * y.ndim
    shape[_filter_axis(y, w, options)] = -1
    return anp.zeros(y.shape, y.dtype) + anp.reshape(g, shape)


def _filter_axis(y: Array, w: Array, options: Options) -> int:
    last = options["data_format"] == "channels_last"
    return int(y.ndim - 1 if last else y.ndim - w.ndim + 1)


def _adjoint(y: Array, w: Array, options: Options) -> tuple[tuple[slice, ...], Options]:
    """What of the output y of a transposed convolution its adjoint reads, and with which options.

    Pads of that convolution are `padding` below and ``padding - output_padding`` above. Where that
    is negative, as many cells at the high end are never read.
    """
    rank = w.ndim - 2
    low = np.broadcast_to(options["padding"], rank).tolist()
    extra = np.broadcast_to(options["output_padding"], rank).tolist()
    high = [p - e for p, e in zip(low, extra, strict=True)]
    read = tuple(slice(h) if h < 0 else slice(None) for h in high)
    last = (slice(None),) * (options["data_format"] == "channels_last")
    pads = tuple((p, max(0, h)) for p, h in zip(low, high, strict=True))
    rest = {name: value for name, value in options.items() if name != "output_padding"}
    return (..., *read, *last), rest | {"padding": pads}


def _transpose_by_input(
    y: Array, x: Array, w: Array, b: Array | None, options: Options
) -> Callable[[Array], Array]:
    read, adjoint = _adjoint(y, w, options)
    return lambda g: _conv(g[read], w, None, adjoint)


def _transpose_by_weight(
    y: Array, x: Array, w: Array, b: Array | None, options: Options
) -> Callable[[Array], Array]:
    read, adjoint = _adjoint(y, w, options)
    return lambda g: _weight_grad(x, g[read], w.shape, adjoint)


# Reverse mode: of each array, the gradient from that of the result.
defvjp(
    _conv,
    lambda y, x, w, b, options: lambda g: _input_grad(g, w, x.shape, options),
    lambda y, x, w, b, options: lambda g: _weight_grad(g, x, w.shape, options),
    _by_bias,
)
defvjp(
    _input_grad,
    lambda dx, dy, w, shape, options: lambda g: _conv(g, w, None, options),
    lambda dx, dy, w, shape, options: lambda g: _weight_grad(dy, g, w.shape, options),
)
defvjp(
    _weight_grad,
    lambda dw, dy, x, shape, options: lambda g: _conv(x, g, None, options),
    lambda dw, dy, x, shape, options: lambda g: _input_grad(dy, g, x.shape, options),
)
defvjp(_conv_transpose, _transpose_by_input, _transpose_by_weight, _by_bias)

# Forward mode: all are linear in each array, so it changes as the array does.
for function in (_conv, _conv_transpose):
    defjvp(
        function,
        lambda g, y, x, w, b, options, f=function: f(g, w, None, options),
        lambda g, y, x, w, b, options, f=function: f(x, g, None, options),
        _along_bias,
    )
defjvp(_input_grad, "same", "same")
defjvp(_weight_grad, "same", "same")
