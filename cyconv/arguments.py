"""Arguments: what stands between the caller's arrays and options and a plan.

Together with `geometry` this is where everything is checked, once. Below, every array is
C-contiguous, aligned, of the dtype that is computed in, and has three spatial axes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cyconv.geometry import geometry
from cyconv.plan import Plan, check_algorithm, plan

Array = NDArray[Any]
DType = np.dtype[Any]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A plan, with what is needed to read the caller's arrays and to return one of theirs."""

    plan: Plan
    shapes: tuple[tuple[int, ...], ...]
    out_shape: tuple[int, ...]
    y_shape: tuple[int, ...]
    # For small work on arrays of the very dtype that is computed in: one call does it all.
    whole: tuple[Any, ...] | None

    def run(self, arrays: tuple[Array | None, ...], out: Array | None) -> Array:
        """Compute into `out`, or into a new array."""
        plan = self.plan
        dtype = plan.dtype
        if out is None:
            result = np.empty(self.out_shape, dtype)
            if self.whole and plan.kernels.depthwise_whole(*arrays, result, *self.whole):
                return result
        else:
            _check_out(out, self.out_shape, dtype, arrays)
            result = np.asarray(out) if out.flags.aligned else np.empty(self.out_shape, dtype)
        if plan.geometry.batch == 0:
            result[...] = 0  # nothing, or a sum of nothing
        else:
            full: list[Array | None] = [
                a if a is None else native(a, dtype).reshape(shape)
                for a, shape in zip(arrays, self.shapes, strict=False)
            ]
            plan.run(plan, *full, result.reshape(self.shapes[-1]))
        if out is None:
            return result
        if not out.flags.aligned:
            out[...] = result
        return out


def prepare(
    pass_: str,
    shapes: tuple[tuple[int, ...], tuple[int, ...]],
    options: tuple[Any, ...],
    names: tuple[str, ...],
    dtypes: tuple[DType | None, ...],
) -> Prepared:
    """Check everything that does not depend on the values of arrays, and make the plan.

    `shapes` are those of x and w, `options` stride, padding, dilation, groups and algorithm;
    `names` and `dtypes` belong to the arrays of the call.
    """
    if _PLAIN.issuperset(map(type, options)) or all(map(_is_key, options)):
        return _prepare_once(pass_, shapes, options, names, dtypes)
    return _prepare(pass_, shapes, options, names, dtypes)


_PLAIN = frozenset((int, str))


def _is_key(option: Any) -> bool:
    """Whether equal options mean the same: True and 1.0 are equal to 1, but are no integers."""
    kind = type(option)
    return kind in _PLAIN or (kind is tuple and all(map(_is_key, option)))


def _prepare(
    pass_: str,
    shapes: tuple[tuple[int, ...], tuple[int, ...]],
    options: tuple[Any, ...],
    names: tuple[str, ...],
    dtypes: tuple[DType | None, ...],
) -> Prepared:
    dtype = compute_dtype(names, dtypes)
    stride, padding, dilation, groups, algorithm = options
    x_name = "x_shape" if pass_ == "input_grad" else "x"
    w_name = "w_shape" if pass_ == "weight_grad" else "w"
    g = geometry(*shapes, stride, padding, dilation, groups, x_name, w_name)
    x, w, y = g.x_shape, g.w_shape, g.y_shape
    full: dict[str, tuple[tuple[int, ...], ...]] = {
        "forward": (x, w, (g.filters,), y),
        "input_grad": (y, w, x),
        "weight_grad": (y, x, w),
    }
    made = plan(g, dtype, pass_, check_algorithm(algorithm))
    return Prepared(
        plan=made,
        shapes=full[pass_],
        out_shape=g.public(full[pass_][-1]),
        y_shape=g.public(y),
        whole=made.whole if all(d is None or d == dtype for d in dtypes) else None,
    )


_prepare_once = lru_cache(maxsize=4096)(_prepare)


def array(name: str, value: Any) -> Array:
    """The argument as an array, without a copy where it is one."""
    if type(value) is np.ndarray:
        return value
    try:
        return np.asarray(value)
    except ValueError as error:  # a ragged nest of lists
        raise ValueError(f"{name} must be an array: {error}") from None


def compute_dtype(names: tuple[str, ...], dtypes: tuple[DType | None, ...]) -> DType:
    """The dtype of the result: NumPy's rule, and float64 for what is not floating."""
    for name, dtype in zip(names, dtypes, strict=True):
        if dtype is not None and (dtype.kind not in "biuf" or dtype.itemsize > 8):
            raise TypeError(
                f"{name} must be an array of real numbers of at most 64 bits, not of {dtype}"
            )
    result = np.result_type(*(dtype for dtype in dtypes if dtype is not None))
    if result.kind != "f":
        return np.dtype(np.float64)
    if result.itemsize < 4:
        raise TypeError(
            f"{names[0]} must be an array of float32 or float64 (or integers), not of {result}"
        )
    return result.newbyteorder("=")


def native(array: Array, dtype: DType) -> Array:
    """The array itself where kernels can read it, or a copy that they can."""
    if array.dtype is dtype or array.dtype == dtype:
        flags = array.flags
        if flags.c_contiguous and flags.aligned:
            return array
    return np.require(array, dtype, ("C", "A"))


def check_dy(name: str, dy: Array, y_shape: tuple[int, ...]) -> None:
    """Raise ValueError where dy has not the shape of the output."""
    if dy.shape != y_shape:
        raise ValueError(f"{name} must have the shape of the output, {y_shape}; got {dy.shape}")


def _check_out(
    out: Any, wanted: tuple[int, ...], dtype: DType, arrays: tuple[Array | None, ...]
) -> None:
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out must be a NumPy array, not {type(out).__name__}")
    if out.shape != wanted or out.dtype != dtype:
        raise ValueError(
            f"out must have shape {wanted} and dtype {dtype}; got {out.shape} and {out.dtype}"
        )
    if not (out.flags.c_contiguous and out.flags.writeable):
        raise ValueError("out must be C-contiguous and writeable")
    if any(a is not None and np.shares_memory(out, a) for a in arrays):
        raise ValueError("out must share no memory with an input")
