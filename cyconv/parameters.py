"""Parameters: what a layer learns, its gradients, its state, and whether it is frozen."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from cyconv.arguments import array, check_real
from cyconv.frozen import Packs
from cyconv.integers import check_countable
from cyconv.types import Array, DType

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike

DTYPES = tuple(map(np.dtype, (np.float16, np.float32, np.float64)))


class Parameters:
    """A weight and perhaps a bias."""

    def __init__(
        self,
        shape: tuple[int, ...],
        filters: int | None,
        dtype: DTypeLike,
        rng: int | np.random.Generator | None,
    ) -> None:
        """Draw a weight of this shape, and a bias of so many filters, if any."""
        if not _is_known(dtype):
            raise TypeError(f"dtype must be float16, float32 or float64, not {dtype!r}")
        check_countable("weight", shape)
        bound = 1 / math.sqrt(math.prod(shape[1:]))  # Kaiming uniform, a = sqrt(5), comes to this
        try:
            rng = np.random.default_rng(rng)
        except (TypeError, ValueError) as error:
            raise type(error)(f"rng must be None, a seed or a Generator, got {rng!r}") from None
        shapes = {"weight": shape} if filters is None else {"weight": shape, "bias": (filters,)}
        self._named: dict[str, Array] = {
            name: rng.uniform(-bound, bound, size).astype(dtype) for name, size in shapes.items()
        }
        self.weight_grad: Array | None = None
        self.bias_grad: Array | None = None
        self._packs = Packs()

    @property
    def dtype(self) -> DType:
        """The dtype of the parameters and of the results, to which x and dy are cast."""
        return self.weight.dtype

    @property
    def weight(self) -> Array:
        """The kernels, (F, C/groups, *kernel), or (C, F/groups, *kernel) of a transposed layer.

        Assigning copies into this same array.
        """
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
        lives, the gradients are new ones each time.

        Yields
        ------
        tuple of (array, array or None)
            The weight, and the bias if there is one, each with its gradient: None before the
            first `backward`.

        Examples
        --------
        >>> import numpy as np
        >>> import cyconv
        >>> layer = cyconv.Conv2D(1, 2, kernel_size=3)
        >>> dx = layer.backward(layer.forward(np.ones((1, 1, 8, 8))))
        >>> for parameter, gradient in layer.parameters():
        ...     parameter -= 0.01 * gradient
        """
        for name, parameter in self._named.items():
            yield parameter, getattr(self, f"{name}_grad")

    def state_dict(self) -> dict[str, Array]:
        """Return copies of the parameters by their names.

        Returns
        -------
        dict of {str: array}
            ``weight`` and, if there is one, ``bias``.

        Examples
        --------
        >>> import cyconv
        >>> {name: a.shape for name, a in cyconv.Conv2D(1, 2, kernel_size=3).state_dict().items()}
        {'weight': (2, 1, 3, 3), 'bias': (2,)}
        """
        return {name: parameter.copy() for name, parameter in self._named.items()}

    def load_state_dict(self, state: Mapping[str, ArrayLike]) -> None:
        """Copy all parameters in, or on any error none.

        Parameters
        ----------
        state : mapping of {str: array}
            With the names and shapes of `state_dict`: that of another layer, here or in PyTorch,
            or an open ``.npz``. Cast to the layer's dtype.

        Raises
        ------
        TypeError
            If state is no mapping, or holds no real numbers.
        KeyError
            If a name is missing or not expected.
        ValueError
            If a shape is another.
        RuntimeError
            If the layer is frozen.

        Examples
        --------
        >>> import cyconv
        >>> layer, other = (cyconv.Conv2D(1, 2, kernel_size=3, rng=seed) for seed in (0, 1))
        >>> layer.load_state_dict(other.state_dict())
        >>> bool((layer.weight == other.weight).all())
        True
        """
        if not isinstance(state, Mapping):
            raise TypeError(f"state must map names to arrays, not {type(state).__name__}")
        missing = [name for name in self._named if name not in state]
        unexpected = [name for name in state if name not in self._named]
        if missing or unexpected:
            keys = list(self._named)
            raise KeyError(f"state must have {keys}: missing {missing}, unexpected {unexpected}")
        self._copy_in(state)

    @property
    def frozen(self) -> bool:
        """Whether weight and bias are fixed."""
        return self._packs.on

    def freeze(self) -> Self:
        """Fix weight and bias for inference, and return the layer.

        From now on the layer keeps what its algorithms make of the weights (Winograd's transformed
        filters, four times as large, from the first x on that is computed with them), so it is
        faster, most of all on one image. Weight and bias are read-only: changing them raises, and
        assigning or loading raises RuntimeError, until `unfreeze`. `backward` works as before.
        Copies and pickles are frozen, too.

        A view of a part of the weight that was made before can still be written through: do not.

        Returns
        -------
        the layer
            So that it can be frozen as it is made.

        Examples
        --------
        >>> import numpy as np
        >>> import cyconv
        >>> layer = cyconv.Conv2D(1, 2, kernel_size=3).freeze()
        >>> layer(np.ones((1, 8, 8))).shape
        (2, 6, 6)
        >>> layer.weight[...] = 0
        Traceback (most recent call last):
            ...
        ValueError: assignment destination is read-only
        """
        for parameter in self._named.values():
            parameter.flags.writeable = False
        self._packs.switch(True)
        return self

    def unfreeze(self) -> Self:
        """Drop what was kept of the weights, and make weight and bias writeable.

        Returns
        -------
        the layer
            As `freeze` does.

        Examples
        --------
        >>> import cyconv
        >>> layer = cyconv.Conv2D(1, 2, kernel_size=3).freeze()
        >>> layer.unfreeze().frozen
        False
        """
        self._packs.switch(False)
        for name, parameter in self._named.items():
            try:
                parameter.flags.writeable = True
            except ValueError:  # it lies in memory that is read-only, as from a pickle
                self._named[name] = parameter.copy()
        return self

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Make a copy; the arrays of one may be writeable."""
        self.__dict__.update(state)
        if self.frozen:
            self.freeze()

    def _copy_in(self, values: Mapping[str, ArrayLike | None]) -> None:
        """Cast and check all values, and only then copy any."""
        if self.frozen:
            raise RuntimeError(f"{' and '.join(values)} cannot change: call unfreeze() first")
        arrays = {name: cast(name, value, self.dtype) for name, value in values.items()}
        for name, a in arrays.items():
            if a.shape != (shape := self._named[name].shape):
                raise ValueError(f"{name} must have shape {shape}, got {a.shape}")
        for name, a in arrays.items():
            self._named[name][...] = a


def _is_known(dtype: DTypeLike) -> bool:
    try:
        return dtype is not None and np.dtype(dtype) in DTYPES
    except (TypeError, ValueError):  # it describes no dtype at all
        return False


def cast(name: str, value: ArrayLike | None, dtype: DType) -> Array:
    """Return `value` as an array of `dtype`: the same array, if it is one."""
    a = array(name, value)
    check_real(name, a.dtype)
    if a.dtype == dtype:
        return a
    with np.errstate(over="ignore"):
        return a.astype(dtype)
