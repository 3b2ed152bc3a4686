"""Convolution layers: a weight, a bias, their gradients, and the functions of `cyconv.functional`.

    layer = Conv2D(3, 16, kernel_size=3, padding=1)
    y = layer.forward(x)      # remembers x
    dx = layer.backward(dy)   # sets layer.weight_grad and layer.bias_grad
    y = layer(x)              # inference: remembers nothing
    layer.freeze()            # fixed weights: inference is faster

Layers of all ranks are one class, `_Conv`; the public ones only say over how many axes. Those of
`cyconv.transposed_layers` are alike: `cyconv.layer` has what they share.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cyconv.arguments import check_dy
from cyconv.functional import Cache, conv_backward, convolve
from cyconv.geometry import geometry_and_pads
from cyconv.integers import Pads, choice, paddings
from cyconv.layer import Layer
from cyconv.padding import PADDING_MODES, border_of
from cyconv.types import Array

if TYPE_CHECKING:
    from numpy.typing import DTypeLike


class _Conv(Layer):
    """A convolution and the parameters it learns."""

    options = (
        "stride",
        "padding",
        "dilation",
        "groups",
        "padding_mode",
        "data_format",
        "algorithm",
    )

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: str | int | Sequence[int] | Sequence[tuple[int, int]] = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        *,
        data_format: str = "channels_first",
        dtype: DTypeLike = np.float32,
        rng: int | np.random.Generator | None = None,
        algorithm: str = "auto",
    ) -> None:
        self.padding = _short(paddings(padding, self.rank))
        self.padding_mode = choice("padding_mode", padding_mode, PADDING_MODES)
        sizes = {"kernel_size": kernel_size, "stride": stride, "dilation": dilation}
        channels = in_channels, out_channels
        super().__init__(channels, sizes, groups, bias, data_format, dtype, rng, algorithm)

    def _weight_shape(self) -> tuple[int, ...]:
        return (self.out_channels, self.in_channels // self.groups, *self.kernel_size)

    def _y_shape(self, x_shape: tuple[int, ...], last: bool) -> tuple[int, ...]:
        numbers = self.stride, self.padding, self.dilation, self.groups
        w_shape = self.weight.shape
        g, pads = geometry_and_pads(x_shape, w_shape, *numbers, "x_shape", "weight", last)
        border_of(self.padding_mode, pads, g, "x_shape")
        return g.y_shape

    def _compute(self, x: Array) -> Array:
        return convolve(x, self.weight, self.bias, self._options(), self._packs)

    def _remember(self, x: Array) -> tuple[Array, Any]:
        y = self._compute(x)
        b_shape = None if self.bias is None else self.bias.shape
        options = dict(zip(self.options, self._options(), strict=True))
        return y, Cache(x, self.weight, b_shape, y.shape, y.dtype, options)

    def _gradients(
        self, dy: Array, need: tuple[str, ...]
    ) -> tuple[Array | None, Array | None, Array | None]:
        check_dy("dy", dy.shape, self._cache.out_shape)
        return conv_backward(dy, self._cache, need=need)


def _short(pads: str | Pads) -> str | tuple[int, ...] | Pads:
    """One integer an axis where that says it all."""
    if isinstance(pads, str) or any(low != high for low, high in pads):
        return pads
    return tuple(low for low, _ in pads)


class Conv1D(_Conv):
    """Convolution over one axis, from x (N, C, L) to y (N, F, L').

    Methods, attributes and errors are those of `Conv2D`.

    Parameters
    ----------
    in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias
        As for `Conv2D`.
    padding_mode, data_format, dtype, rng, algorithm
        As for `Conv2D`.

    Examples
    --------
    >>> import numpy as np
    >>> import cyconv
    >>> layer = cyconv.Conv1D(2, 4, kernel_size=5, stride=2, padding=2)
    >>> layer(np.ones((8, 2, 100))).shape
    (8, 4, 50)
    """

    rank = 1


class Conv2D(_Conv):
    """Convolution over two axes, from x (N, C, H, W) to y (N, F, H', W').

    Parameters
    ----------
    in_channels, out_channels : int
        C and F, the number of filters.
    kernel_size, stride, dilation : int or sequence of int
        One for all axes, or one an axis.
    padding : int, sequence of int, sequence of (low, high), or str
        Zeros around x: as many everywhere, by axis, or by axis and end; or, as for `conv`, "valid",
        "same", "same_lower" or "causal".
    groups : int
        Filters and channels are split into so many groups, and a filter sees those of its own.
    bias : bool
        Whether each filter adds a number to its output.
    padding_mode : str
        As for `conv`: "zeros", "reflect", "symmetric", "replicate" or "circular".
    data_format : {"channels_first", "channels_last"}
        With "channels_last", x is (N, H, W, C) and y (N, H', W', F).
    dtype : float16, float32 or float64
        Of the parameters and the results; x and dy are cast to it.
    rng : int, numpy.random.Generator or None
        Draws the first weight and bias, as in PyTorch: uniform within
        1/sqrt(C/groups * prod(kernel)) of zero. An int is a seed.
    algorithm : str
        As for `conv`.

    Attributes
    ----------
    weight, bias : ndarray
        (F, C/groups, *kernel), and (F,) or None.
    weight_grad, bias_grad : ndarray or None
        What the last `backward` found.
    frozen : bool
        Whether weight and bias are fixed, from `freeze` to `unfreeze`.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type or is out of range; from the methods, if an array does
        not hold real numbers or its shape does not fit.

    References
    ----------
    He, Zhang, Ren, Sun: Delving Deep into Rectifiers (2015), section 2.2: the first weights, with
    PyTorch's slope of sqrt(5).

    Examples
    --------
    >>> import numpy as np
    >>> import cyconv
    >>> layer = cyconv.Conv2D(1, 8, kernel_size=3, padding=1, rng=0)
    >>> layer
    Conv2D(1, 8, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))
    >>> y = layer.forward(np.ones((16, 1, 28, 28)))
    >>> y.shape, y.dtype
    ((16, 8, 28, 28), dtype('float32'))
    >>> dx = layer.backward(np.ones_like(y))
    >>> dx.shape
    (16, 1, 28, 28)
    >>> for parameter, gradient in layer.parameters():  # a step of gradient descent
    ...     parameter -= 0.01 * gradient
    """

    rank = 2


class Conv3D(_Conv):
    """Convolution over three axes, from x (N, C, D, H, W) to y (N, F, D', H', W').

    Methods, attributes and errors are those of `Conv2D`.

    Parameters
    ----------
    in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias
        As for `Conv2D`.
    padding_mode, data_format, dtype, rng, algorithm
        As for `Conv2D`.

    Examples
    --------
    >>> import numpy as np
    >>> import cyconv
    >>> layer = cyconv.Conv3D(1, 4, kernel_size=(1, 3, 3), padding=(0, 1, 1))
    >>> layer(np.ones((2, 1, 5, 16, 16))).shape
    (2, 4, 5, 16, 16)
    """

    rank = 3
