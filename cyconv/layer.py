"""Layer: what the layers of convolution and of transposed convolution have in common."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from cyconv.form import form_of, is_last
from cyconv.integers import integer, integers, shape
from cyconv.parameters import Parameters, cast
from cyconv.plan import check_algorithm
from cyconv.types import Array

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike


class Layer(Parameters):
    """What convolutions and transposed ones have in common: `rank` spatial axes, options, and that
    forward remembers x for backward."""

    rank: ClassVar[int]
    # The options of the function that computes a layer, in its order.
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
        """Compute y, and remember nothing.

        Any number of threads may call one layer at the same time.

        Parameters
        ----------
        x : array, shape (N, C, *size)
            The input; cast to the layer's dtype.

        Returns
        -------
        array, shape (N, F, *output)
            Of the layer's dtype.

        Examples
        --------
        >>> import numpy as np
        >>> import cyconv
        >>> cyconv.Conv2D(1, 2, kernel_size=3)(np.ones((5, 1, 8, 8))).shape
        (5, 2, 6, 6)
        """
        return self._compute(cast("x", x, self.dtype))

    def forward(self, x: ArrayLike) -> Array:
        """Compute y, and remember x for `backward`.

        Parameters
        ----------
        x : array, shape (N, C, *size)
            The input; cast to the layer's dtype. If it has that dtype it is remembered by
            reference: do not change it before `backward`.

        Returns
        -------
        array, shape (N, F, *output)
            Of the layer's dtype.

        Examples
        --------
        >>> import numpy as np
        >>> import cyconv
        >>> layer = cyconv.Conv1D(1, 2, kernel_size=3, dtype=np.float64)
        >>> y = layer.forward(np.ones((5, 1, 8)))
        >>> y.shape, y.dtype
        ((5, 2, 6), dtype('float64'))
        """
        y, self._cache = self._remember(cast("x", x, self.dtype))
        return y

    def backward(self, dy: ArrayLike, input_grad: bool = True) -> Array | None:
        """Set `weight_grad` and `bias_grad`, and compute dx.

        The gradients are set anew, not added to those of an earlier call.

        Parameters
        ----------
        dy : array, shape (N, F, *output)
            The gradient of the loss with respect to what the last `forward` returned; cast to the
            layer's dtype.
        input_grad : bool
            Whether dx is wanted. A network's first layer can do without, and saves the time.

        Returns
        -------
        array, shape (N, C, *size), or None
            The gradient of the loss with respect to x, where it is wanted.

        Raises
        ------
        RuntimeError
            If there has been no `forward`.

        Examples
        --------
        >>> import numpy as np
        >>> import cyconv
        >>> layer = cyconv.Conv1D(1, 2, kernel_size=3)
        >>> y = layer.forward(np.ones((5, 1, 8)))
        >>> layer.backward(np.ones_like(y)).shape
        (5, 1, 8)
        >>> layer.bias_grad
        array([30., 30.], dtype=float32)
        """
        if self._cache is None:
            raise RuntimeError("backward has no x to work with: call forward(x) first")
        need = ("X", "W", "b") if input_grad else ("W", "b")
        gradients = self._gradients(cast("dy", dy, self.dtype), need)
        dx, self.weight_grad, self.bias_grad = gradients
        return dx

    def output_shape(self, x_shape: Iterable[int]) -> tuple[int, ...]:
        """Return the shape of y for an x of this shape, computing nothing else.

        Parameters
        ----------
        x_shape : tuple of int
            The shape of x, (N, C, *size).

        Returns
        -------
        tuple of int
            The shape of y, (N, F, *output).

        Raises
        ------
        ValueError
            Where the layer cannot take such an x.

        Examples
        --------
        >>> import cyconv
        >>> cyconv.Conv2D(3, 8, kernel_size=3, stride=2).output_shape((1, 3, 224, 224))
        (1, 8, 111, 111)
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

    def _options(self) -> tuple[Any, ...]:
        return tuple([getattr(self, name) for name in self.options])

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
