"""Convolution layers: a weight, a bias, their gradients, and the functions of `cyconv.functional`.

    layer = Conv2D(3, 16, kernel_size=3, padding=1)
    y = layer.forward(x)      # remembers x
    dx = layer.backward(dy)   # sets layer.weight_grad and layer.bias_grad
    y = layer(x)              # inference: remembers nothing

Layers of all ranks are one class, `_Conv`; the public ones only say over how many axes. Those of
`cyconv.transposed_layers` share `Layer` with them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from cyconv.arguments import Array, check_dy
from cyconv.form import form_of, is_last
from cyconv.functional import conv, conv_backward, conv_forward
from cyconv.geometry import Geometry, geometry
from cyconv.integers import Pads, choice, integer, integers, paddings, shape
from cyconv.padding import PADDING_MODES
from cyconv.parameters import Parameters, cast
from cyconv.plan import check_algorithm


class Layer(Parameters):
    """What convolutions and transposed ones have in common: `rank` spatial axes, options, and that
    forward remembers x for backward."""

    rank: ClassVar[int]
    # The options of the function that computes a layer.
    options: ClassVar[tuple[str, ...]]

    def __init__(
        self,
        channels: tuple[Any, Any],
        sizes: dict[str, Any],
        groups: int,
        bias: bool,
        data_format: str,
        dtype: DTypeLike,
        rng: int | np.random.Generator | None,
        algorithm: str,
    ) -> None:
        self.in_channels = integer("in_channels", channels[0], 1)
        self.out_channels = integer("out_channels", channels[1], 1)
        self.kernel_size = integers("kernel_size", sizes["kernel_size"], self.rank, 1)
        self.stride = integers("stride", sizes["stride"], self.rank, 1)
        self.dilation = integers("dilation", sizes["dilation"], self.rank, 1)
        self.groups = integer("groups", groups, 1)
        for name in ("in_channels", "out_channels"):
            if getattr(self, name) % self.groups:
                raise ValueError(f"groups must divide {name} ({getattr(self, name)}), got {groups}")
        if not isinstance(bias, (bool, np.bool_)):
            raise TypeError(f"bias must be True or False, not {bias!r}")
        is_last(data_format)
        self.data_format = data_format
        self.algorithm = check_algorithm(algorithm)
        super().__init__(self._weight_shape(), self.out_channels if bias else None, dtype, rng)
        self._cache: Any = None  # from forward to backward; it holds x

    def __call__(self, x: ArrayLike) -> Array:
        """Return y, (N, F, *output), for x, (N, C, *size), and remember nothing.

        Any number of threads may call one layer at the same time.
        """
        return self._compute(cast("x", x, self.dtype))

    def forward(self, x: ArrayLike) -> Array:
        """Return y, (N, F, *output), for x, (N, C, *size), and remember x for `backward`.

        An x of the layer's dtype is remembered by reference: do not change it in between.
        """
        y, self._cache = self._remember(cast("x", x, self.dtype))
        return y

    def backward(self, dy: ArrayLike, input_grad: bool = True) -> Array | None:
        """Set `weight_grad` and `bias_grad`, and return dx, (N, C, *size).

        dy, (N, F, *output), is the gradient of the loss with respect to what the last `forward`
        returned. With `input_grad=False`, as a network's first layer can have it, dx is None and
        costs nothing. Raises RuntimeError if there has been no `forward`.
        """
        if self._cache is None:
            raise RuntimeError("backward has no x to work with: call forward(x) first")
        need = ("X", "W", "b") if input_grad else ("W", "b")
        gradients = self._gradients(cast("dy", dy, self.dtype), need)
        dx, self.weight_grad, self.bias_grad = gradients
        return dx

    def output_shape(self, x_shape: Iterable[int]) -> tuple[int, ...]:
        """Return the shape of y for an x of this shape, computing nothing else.

        Raises ValueError where the layer cannot take such an x.
        """
        sizes = shape("x_shape", x_shape)
        last = is_last(self.data_format)
        form = form_of(sizes, self.weight.shape, last, "x_shape", "weight")
        return form.write(self._y_shape(sizes, last))

    # What a kind of layer says about itself.

    def _weight_shape(self) -> tuple[int, ...]:
        raise NotImplementedError

    def _y_shape(self, x_shape: tuple[int, ...], last: bool) -> tuple[int, ...]:
        """(N, F, d, h, w)"""
        raise NotImplementedError

    def _compute(self, x: Array) -> Array:
        raise NotImplementedError

    def _remember(self, x: Array) -> tuple[Array, Any]:
        """y, and what `_gradients` needs."""
        raise NotImplementedError

    def _gradients(
        self, dy: Array, need: tuple[str, ...]
    ) -> tuple[Array | None, Array | None, Array | None]:
        """dx, dw, db"""
        raise NotImplementedError

    def _options(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.options}

    def __repr__(self) -> str:
        options = {  # said only where they are not as usual, like PyTorch
            "padding": (getattr(self, "padding", None), (0,) * self.rank),
            "dilation": (self.dilation, (1,) * self.rank),
            "output_padding": (getattr(self, "output_padding", None), (0,) * self.rank),
            "groups": (self.groups, 1),
            "bias": (self.bias is not None, True),
            "padding_mode": (getattr(self, "padding_mode", None), "zeros"),
            "data_format": (self.data_format, "channels_first"),
            "dtype": (str(self.dtype), "float32"),
            "algorithm": (self.algorithm, "auto"),
        }
        said = [
            f", {name}={value!r}"
            for name, (value, usual) in options.items()
            if value not in (usual, None)
        ]
        return (
            f"{type(self).__name__}({self.in_channels}, {self.out_channels}, "
            f"kernel_size={self.kernel_size}, stride={self.stride}{''.join(said)})"
        )

    def __getstate__(self) -> dict[str, Any]:
        """What pickle and copy take along: everything but the remembered x."""
        return {**self.__dict__, "_cache": None}


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
        made: Geometry = geometry(x_shape, self.weight.shape, *numbers, "x_shape", "weight", last)
        return made.y_shape

    def _compute(self, x: Array) -> Array:
        return conv(x, self.weight, self.bias, **self._options())

    def _remember(self, x: Array) -> tuple[Array, Any]:
        return conv_forward(x, self.weight, self.bias, **self._options())

    def _gradients(
        self, dy: Array, need: tuple[str, ...]
    ) -> tuple[Array | None, Array | None, Array | None]:
        check_dy("dy", dy, self._cache.out_shape)
        return conv_backward(dy, self._cache, need=need)


def _short(pads: str | Pads) -> str | tuple[int, ...] | Pads:
    """One integer an axis where that says it all."""
    if isinstance(pads, str) or any(low != high for low, high in pads):
        return pads
    return tuple(low for low, _ in pads)


class Conv1D(_Conv):
    """Convolution over one axis, from x (N, C, L) to y (N, F, L'). All else as `Conv2D`.

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

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type or is out of range; from the methods, if an array does
        not hold real numbers or its shape does not fit.

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
    All else as `Conv2D`.

    Examples
    --------
    >>> import numpy as np
    >>> import cyconv
    >>> layer = cyconv.Conv3D(1, 4, kernel_size=(1, 3, 3), padding=(0, 1, 1))
    >>> layer(np.ones((2, 1, 5, 16, 16))).shape
    (2, 4, 5, 16, 16)
    """

    rank = 3
