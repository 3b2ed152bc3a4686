"""Arguments: the caller's arrays, and what must hold for them.

Together with `geometry` this is where everything is checked, once. Below, every array is
C-contiguous, aligned, of the dtype that is computed in, and has three spatial axes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cyconv.types import Array, DType

HALF, SINGLE = np.dtype(np.float16), np.dtype(np.float32)


def array(name: str, value: Any) -> Array:
    """The argument as an array, without a copy where it is one, or lies in memory as one does.

    Arrays of other libraries come by `__array__` or the buffer protocol, as in NumPy; those that
    speak DLPack alone, which `np.asarray` would take for an object, come by that.
    """
    if type(value) is np.ndarray:
        return value
    if hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
        return np.from_dlpack(value)
    try:
        return np.asarray(value)
    except ValueError as error:  # a ragged nest of lists
        raise ValueError(f"{name} must be an array: {error}") from None


def result_dtype(names: tuple[str, ...], dtypes: tuple[DType | None, ...]) -> DType:
    """The dtype of the result: NumPy's rule, and float64 for what is not floating."""
    for name, dtype in zip(names, dtypes, strict=True):
        if dtype is not None:
            check_real(name, dtype)
    result = np.result_type(*(dtype for dtype in dtypes if dtype is not None))
    return result.newbyteorder("=") if result.kind == "f" else np.dtype(np.float64)


def check_real(name: str, dtype: DType) -> None:
    """Raise TypeError for an array of anything but real numbers of at most 64 bits."""
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise TypeError(
            f"{name} must be an array of real numbers of at most 64 bits, not of {dtype}"
        )


def computed_in(dtype: DType) -> DType:
    """The dtype in which a result of this one is computed."""
    return SINGLE if dtype == HALF else dtype


def native(array: Array, dtype: DType) -> Array:
    """The array itself where kernels can read it, or a copy that they can."""
    if array.dtype is dtype or array.dtype == dtype:
        flags = array.flags
        if flags.c_contiguous and flags.aligned:
            return array
    return np.require(array, dtype, ("C", "A"))


def check_dy(name: str, shape: tuple[int, ...], y_shape: tuple[int, ...]) -> None:
    """Raise ValueError where dy has not the shape of the output."""
    if shape != y_shape:
        raise ValueError(f"{name} must have the shape of the output, {y_shape}; got {shape}")


def check_b(shape: tuple[int, ...], filters: int) -> None:
    """Raise ValueError where b is not one number a filter."""
    if shape != (filters,):
        raise ValueError(f"b must have shape {(filters,)}, one number a filter; got {shape}")


def check_out(
    out: Any, wanted: tuple[int, ...], dtype: DType, arrays: tuple[Array | None, ...]
) -> None:
    """Raise where a result of this shape and dtype cannot be written to `out`."""
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
