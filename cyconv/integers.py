"""Integers: what the arguments of a convolution are made of, and their checks."""

from __future__ import annotations

import math
import operator
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

Pads = tuple[tuple[int, int], ...]

# Sizes and positions live in a Py_ssize_t, and arrays of 8-byte items must be countable in bytes.
LARGEST = sys.maxsize
LARGEST_COUNT = LARGEST // 8

# What padding may be called. The sizes decide how much it is: see `geometry.named_pads`.
PADDINGS = ("valid", "same", "same_lower", "causal")

_INT = frozenset((int,))


def integer(name: str, value: Any, minimum: int) -> int:
    """Return `value` as an int of at least `minimum`.

    An integer is anything with ``__index__`` except a bool.
    """
    if isinstance(value, (bool, np.bool)):  # older NumPy's has an __index__
        raise TypeError(f"{name} must be an integer, not {value!r}")
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, not {value!r}") from None
    if number < minimum:
        raise ValueError(f"{name} must be at least {minimum}, got {number}")
    if number > LARGEST:
        raise ValueError(f"{name} must be at most {LARGEST} (a Py_ssize_t), got {number}")
    return number


def _sequence(name: str, value: Any) -> tuple[Any, ...] | None:
    """Return the entries of `value`, or None where it is not a sequence."""
    if isinstance(value, (str, bytes)):
        raise TypeError(f"{name} must be an integer or a sequence of integers, not {value!r}")
    if isinstance(value, Sequence) or (isinstance(value, np.ndarray) and value.ndim > 0):
        return tuple(value)
    return None


def integers(name: str, value: Any, rank: int, minimum: int) -> tuple[int, ...]:
    """Return `value`, one integer or one an axis, as a tuple of `rank` ints."""
    entries = _sequence(name, value)
    if entries is None:
        return (integer(name, value, minimum),) * rank
    if len(entries) != rank:
        raise ValueError(
            f"{name} must be one integer or {rank} (one a spatial axis), got {value!r}"
        )
    return tuple(integer(name, entry, minimum) for entry in entries)


def paddings(value: Any, rank: int) -> str | Pads:
    """Return `padding` as a tuple of `rank` (low, high) pairs, or its name.

    It may be an integer, one integer an axis, a (low, high) pair an axis, or one of PADDINGS.
    """
    if isinstance(value, str):
        choice("padding", value, PADDINGS)
        if value == "causal" and rank != 1:
            raise ValueError(f"padding may be 'causal' over 1 spatial axis only, not over {rank}")
        return value
    entries = _sequence("padding", value)
    if entries is None:
        pad = integer("padding", value, 0)
        return ((pad, pad),) * rank
    if len(entries) != rank:
        raise ValueError(
            f"padding must be one integer, {rank} integers or (low, high) pairs (one a spatial "
            f"axis), or a name; got {value!r}"
        )
    return tuple((low, high) for low, high in (integers("padding", e, 2, 0) for e in entries))


def choice(name: str, value: Any, names: Iterable[str]) -> str:
    """Return `value`, one of some names."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, not {value!r}")
    if value not in names:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, names))}; got {value!r}")
    return value


def shape(name: str, value: Any) -> tuple[int, ...]:
    """Return the shape given as an argument as a tuple of ints."""
    plain = type(value) is tuple and value and _INT.issuperset(map(type, value))
    if plain and min(value) >= 0 and max(value) <= LARGEST:  # as x.shape is: not worth a loop
        return value  # type: ignore[no-any-return]
    entries = _sequence(name, value)
    if entries is None:
        raise TypeError(f"{name} must be a sequence of integers, not {value!r}")
    return tuple(integer(name, entry, 0) for entry in entries)


def check_countable(what: str, dims: Iterable[int]) -> None:
    """Raise ValueError where an array of this shape is more than a Py_ssize_t can count."""
    dims = tuple(dims)
    if math.prod(max(1, size) for size in dims) > LARGEST_COUNT:
        raise ValueError(f"{what} of shape {dims} is more than a Py_ssize_t can count")
