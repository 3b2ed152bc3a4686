"""Convolution layers: a weight, a bias, their gradients, and the functions of `cyconv.functional`.

    layer = Conv2D(3, 16, kernel_size=3, padding=1)
    y = layer.forward(x)      # remembers x
    dx = layer.backward(dy)   # sets layer.weight_grad and layer.bias_grad
    y = layer(x)              # inference: remembers nothing

All layers are one class, `_Conv`; the public ones only say over how many axes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from cyconv.arguments import Array, array, check_dy, check_real
from cyconv.functional import conv, conv_backward, conv_forward
from cyconv.integers import Pads, check_countable, integer, integers, paddings
from cyconv.plan import check_algorithm

DTYPES = (np.dtype(np.float32), np.dtype(np.float64))


class _Conv:
    """A convolution over `rank` spatial axes and the parameters it learns."""

    rank: ClassVar[int]

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
        *,
        dtype: DTypeLike = np.float32,
        rng: int | np.random.Generator | None = None,
        algorithm: str = "auto",
    ) -> None:
        self.in_channels = integer("in_channels", in_channels, 1)
        self.out_channels = integer("out_channels", out_channels, 1)
        self.kernel_size = integers("kernel_size", kernel_size, self.rank, 1)
        self.stride = integers("stride", stride, self.rank, 1)
        self.padding = _short(paddings(padding, self.rank))
        self.dilation = integers("dilation", dilation, self.rank, 1)
        self.groups = integer("groups", groups, 1)
        for name in ("in_channels", "out_channels"):
            if getattr(self, name) % self.groups:
                raise ValueError(f"groups must divide {name} ({getattr(self, name)}), got {groups}")
        if not isinstance(bias, (bool, np.bool_)):
            raise TypeError(f"bias must be True or False, not {bias!r}")
        if dtype is None or dtype not in DTYPES:
            raise TypeError(f"dtype must be float32 or float64, not {dtype!r}")
        self.algorithm = check_algorithm(algorithm)

        shape = (self.out_channels, self.in_channels // self.groups, *self.kernel_size)
        check_countable("weight", shape)
        bound = 1 / math.sqrt(math.prod(shape[1:]))  # Kaiming uniform, a = sqrt(5), comes to this
        try:
            rng = np.random.default_rng(rng)
        except (TypeError, ValueError) as error:
            raise type(error)(f"rng must be None, a seed or a Generator, got {rng!r}") from None
        shapes = {"weight": shape, "bias": shape[:1]} if bias else {"weight": shape}
        self._named: dict[str, Array] = {
            name: rng.uniform(-bound, bound, size).astype(dtype) for name, size in shapes.items()
        }
        self.weight_grad: Array | None = None
        self.bias_grad: Array | None = None
        self._cache: Any = None  # from conv_forward to conv_backward; it holds x

    def __call__(self, x: ArrayLike) -> Array:
        """Return y, (N, F, *output), for x, (N, C, *size), and remember nothing.

        Any number of threads may call one layer at the same time.
        """
        return conv(_cast("x", x, self.dtype), self.weight, self.bias, **self._options())

    def forward(self, x: ArrayLike) -> Array:
        """Return y, (N, F, *output), for x, (N, C, *size), and remember x for `backward`.

        An x of the layer's dtype is remembered by reference: do not change it in between.
        """
        x = _cast("x", x, self.dtype)
        y, self._cache = conv_forward(x, self.weight, self.bias, **self._options())
        return y

    def backward(self, dy: ArrayLike, input_grad: bool = True) -> Array | None:
        """Set `weight_grad` and `bias_grad`, and return dx, (N, C, *size).

        dy, (N, F, *output), is the gradient of the loss with respect to what the last `forward`
        returned. With `input_grad=False`, as a network's first layer can have it, dx is None and
        costs nothing. Raises RuntimeError if there has been no `forward`.
        """
        if self._cache is None:
            raise RuntimeError("backward has no x to work with: call forward(x) first")
        dy = _cast("dy", dy, self.dtype)
        check_dy("dy", dy, self._cache.out_shape)
        need = ("X", "W", "b") if input_grad else ("W", "b")
        dx, self.weight_grad, self.bias_grad = conv_backward(dy, self._cache, need=need)
        return dx

    def _options(self) -> dict[str, Any]:
        names = ("stride", "padding", "dilation", "groups", "algorithm")
        return {name: getattr(self, name) for name in names}

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32 or float64: x and dy are cast to it."""
        return self.weight.dtype

    @property
    def weight(self) -> Array:
        """The kernels, (F, C/groups, *kernel). Assigning copies into this same array."""
        return self._named["weight"]

    @weight.setter
    def weight(self, value: ArrayLike) -> None:
        self._copy_in({"weight": value})

    @property
    def bias(self) -> Array | None:
        """A number a filter, (F,), or None. Assigning copies into this same array."""
        return self._named.get("bias")

    @bias.setter
    def bias(self, value: ArrayLike | None) -> None:
        if self.bias is not None:
            self._copy_in({"bias": value})
        elif value is not None:
            raise ValueError("bias must be None: the layer was made with bias=False")

    def parameters(self) -> Iterator[tuple[Array, Array | None]]:
        """Yield (parameter, gradient) pairs, for an optimiser that updates parameters in place.

        Ask again after each `backward`: the parameters stay the same arrays as long as the layer
        lives, the gradients are new ones each time (None before the first).
        """
        for name, parameter in self._named.items():
            yield parameter, getattr(self, f"{name}_grad")

    def state_dict(self) -> dict[str, Array]:
        """Return copies of the parameters under the names weight and, if there is one, bias."""
        return {name: parameter.copy() for name, parameter in self._named.items()}

    def load_state_dict(self, state: Mapping[str, ArrayLike]) -> None:
        """Copy all parameters in, or on any error none.

        `state` has the names and shapes of `state_dict`: that of another layer, here or in
        PyTorch, or an open ``.npz``. Raises KeyError if a name is missing or not expected.
        """
        if not isinstance(state, Mapping):
            raise TypeError(f"state must map names to arrays, not {type(state).__name__}")
        missing = [name for name in self._named if name not in state]
        unexpected = [name for name in state if name not in self._named]
        if missing or unexpected:
            keys = list(self._named)
            raise KeyError(f"state must have {keys}: missing {missing}, unexpected {unexpected}")
        self._copy_in(state)

    def _copy_in(self, values: Mapping[str, ArrayLike | None]) -> None:
        """Cast and check all values, and only then copy any."""
        arrays = {name: _cast(name, value, self.dtype) for name, value in values.items()}
        for name, a in arrays.items():
            if a.shape != (shape := self._named[name].shape):
                raise ValueError(f"{name} must have shape {shape}, got {a.shape}")
        for name, a in arrays.items():
            self._named[name][...] = a

    def __repr__(self) -> str:
        options = {  # said only where they are not as usual, like PyTorch
            "padding": (self.padding, (0,) * self.rank),
            "dilation": (self.dilation, (1,) * self.rank),
            "groups": (self.groups, 1),
            "bias": (self.bias is not None, True),
            "dtype": (str(self.dtype), "float32"),
            "algorithm": (self.algorithm, "auto"),
        }
        said = [f", {name}={value!r}" for name, (value, usual) in options.items() if value != usual]
        return (
            f"{type(self).__name__}({self.in_channels}, {self.out_channels}, "
            f"kernel_size={self.kernel_size}, stride={self.stride}{''.join(said)})"
        )

    def __getstate__(self) -> dict[str, Any]:
        """What pickle and copy take along: everything but the remembered x."""
        return {**self.__dict__, "_cache": None}


def _short(pads: str | Pads) -> str | tuple[int, ...] | Pads:
    """One integer an axis where that says it all."""
    if isinstance(pads, str) or any(low != high for low, high in pads):
        return pads
    return tuple(low for low, _ in pads)


def _cast(name: str, value: ArrayLike | None, dtype: np.dtype[Any]) -> Array:
    """Return `value` as an array of `dtype`: the same array, if it is one."""
    a = array(name, value)
    check_real(name, a.dtype)
    return a.astype(dtype, copy=False)


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
    dtype : float32 or float64
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
