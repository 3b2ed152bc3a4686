"""Layers of transposed convolution: `cyconv.transposed` as `cyconv.layers` has `conv`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cyconv.adjoint import check_output_padding, transposed_geometry
from cyconv.arguments import check_dy, native
from cyconv.bias import bias_grad
from cyconv.form import is_last
from cyconv.integers import integers
from cyconv.layer import Layer
from cyconv.transposed import transpose, transpose_input_grad, transpose_weight_grad
from cyconv.types import Array

if TYPE_CHECKING:
    from numpy.typing import DTypeLike


class _ConvTranspose(Layer):
    """A transposed convolution and the parameters it learns."""

    options = (
        "stride",
        "padding",
        "output_padding",
        "dilation",
        "groups",
        "data_format",
        "algorithm",
    )

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] = 0,
        output_padding: int | Sequence[int] = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: int | Sequence[int] = 1,
        *,
        data_format: str = "channels_first",
        dtype: DTypeLike = np.float32,
        rng: int | np.random.Generator | None = None,
        algorithm: str = "auto",
    ) -> None:
        self.padding = integers("padding", padding, self.rank, 0)
        self.output_padding = integers("output_padding", output_padding, self.rank, 0)
        strides = integers("stride", stride, self.rank, 1)
        dilations = integers("dilation", dilation, self.rank, 1)
        check_output_padding(self.output_padding, strides, dilations)
        sizes = {"kernel_size": kernel_size, "stride": strides, "dilation": dilations}
        channels = in_channels, out_channels
        super().__init__(channels, sizes, groups, bias, data_format, dtype, rng, algorithm)

    def _weight_shape(self) -> tuple[int, ...]:
        return (self.in_channels, self.out_channels // self.groups, *self.kernel_size)

    def _y_shape(self, x_shape: tuple[int, ...], last: bool) -> tuple[int, ...]:
        numbers = self.stride, self.padding, self.output_padding, self.dilation, self.groups
        return transposed_geometry(
            x_shape, self.weight.shape, *numbers, last=last, x_name="x_shape", w_name="weight"
        ).x_shape

    def _compute(self, x: Array) -> Array:
        return transpose(x, self.weight, self.bias, self._options(), self._packs)

    def _remember(self, x: Array) -> tuple[Array, Any]:
        y = self._compute(x)
        return y, (x, y.shape)

    def _gradients(
        self, dy: Array, need: tuple[str, ...]
    ) -> tuple[Array | None, Array | None, Array | None]:
        x, y_shape = self._cache
        check_dy("dy", dy.shape, y_shape)
        options = self._options()
        dx = transpose_input_grad(dy, self.weight, x.shape, options) if "X" in need else None
        dw = transpose_weight_grad(dy, x, self.weight.shape, options)
        if self.bias is None:
            return dx, dw, None
        last = is_last(self.data_format)
        return dx, dw, bias_grad(native(dy, self.dtype), self.rank, last)


class ConvTranspose1D(_ConvTranspose):
    """Transposed convolution over one axis, from x (N, C, L) to y (N, F, L').

    Methods, attributes and errors are those of `ConvTranspose2D`.

    Parameters
    ----------
    in_channels, out_channels, kernel_size, stride, padding, output_padding, groups, bias
        As for `ConvTranspose2D`.
    dilation, data_format, dtype, rng, algorithm
        As for `ConvTranspose2D`.

    Examples
    --------
    >>> import numpy as np
    >>> import cyconv
    >>> layer = cyconv.ConvTranspose1D(4, 2, kernel_size=4, stride=2, padding=1)
    >>> layer(np.ones((8, 4, 50))).shape
    (8, 2, 100)
    """

    rank = 1


class ConvTranspose2D(_ConvTranspose):
    """Transposed convolution over two axes, from x (N, C, H, W) to y (N, F, H', W').

    Its methods are those of `Conv2D`.

    Parameters
    ----------
    in_channels, out_channels : int
        C and F.
    kernel_size, stride, padding, output_padding, dilation : int or sequence of int
        One for all axes, or one an axis; as for `conv_transpose`.
    groups : int
        Channels of x and y are split into so many groups, each of which makes its own.
    bias : bool
        Whether a number is added to each channel of y.
    data_format, dtype, rng, algorithm
        As for `Conv2D`.

    Attributes
    ----------
    weight, bias : ndarray
        (C, F/groups, *kernel), and (F,) or None.
    weight_grad, bias_grad : ndarray or None
        What the last `backward` found.
    frozen : bool
        As of `Conv2D`.

    Raises
    ------
    TypeError, ValueError
        As `Conv2D`.

    Examples
    --------
    >>> import numpy as np
    >>> import cyconv
    >>> layer = cyconv.ConvTranspose2D(8, 1, kernel_size=3, stride=2, padding=1, output_padding=1)
    >>> y = layer.forward(np.ones((16, 8, 14, 14)))
    >>> y.shape
    (16, 1, 28, 28)
    >>> layer.backward(y).shape
    (16, 8, 14, 14)
    """

    rank = 2


class ConvTranspose3D(_ConvTranspose):
    """Transposed convolution over three axes, from x (N, C, D, H, W) to y (N, F, D', H', W').

    Methods, attributes and errors are those of `ConvTranspose2D`.

    Parameters
    ----------
    in_channels, out_channels, kernel_size, stride, padding, output_padding, groups, bias
        As for `ConvTranspose2D`.
    dilation, data_format, dtype, rng, algorithm
        As for `ConvTranspose2D`.

    Examples
    --------
    >>> import numpy as np
    >>> import cyconv
    >>> layer = cyconv.ConvTranspose3D(4, 1, kernel_size=2, stride=2)
    >>> layer(np.ones((2, 4, 5, 8, 8))).shape
    (2, 1, 10, 16, 16)
    """

    rank = 3
