"""What can be wrong with an argument, by the kind of it: values, and the error that each is."""

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np

Wrong = Iterator[tuple[Any, type[Exception]]]

BELOW = [-1, -(2**63), -(2**70)]
BEYOND = [2**63, 2**64, 10**30]
NO_INTEGERS = [
    0.0, 1.0, 2.5, float("nan"), float("inf"), np.float64(1), np.float32(1), np.array(1.0),
    True, False, np.True_, np.array(True), Fraction(1), 1j, None, "1", "11", b"1", {}, {1},
    object(),
]  # fmt: skip
NO_ARRAYS = [
    None, "abc", b"abc", {}, {1, 2}, object(), 1j, [None], ["a", "b"], iter([1.0]),
    np.complex64(1), np.longdouble(1), np.datetime64("2020"), Ellipsis, len,
]  # fmt: skip
NO_DTYPES = [complex, np.complex64, object, "U1", "S1", "V8", "M8[s]", "m8[s]", [("a", "f4")]]
if np.dtype(np.longdouble).itemsize > 8:
    NO_DTYPES.append(np.longdouble)


def integer(least: int) -> Wrong:
    """One integer of at least so much."""
    yield from ((value, ValueError) for value in (*BELOW, *BEYOND, least - 1))
    yield from (
        (value, TypeError) for value in (*NO_INTEGERS, (least,), [least], np.array([least]))
    )


def within(wrong: Wrong, right: tuple[Any, ...], place: int) -> Wrong:
    """At a place among others that are right, in a list or a tuple by turns."""
    for i, (value, error) in enumerate(wrong):
        entries = [*right[:place], value, *right[place + 1 :]]
        yield (entries if i % 2 else tuple(entries)), error


def per_axis(rank: int, least: int) -> Wrong:
    """One integer, or one an axis."""
    yield from ((value, ValueError) for value in (*BELOW, *BEYOND, least - 1))
    yield from ((value, TypeError) for value in NO_INTEGERS)
    for axis in range(rank):
        yield from within(integer(least), (least,) * rank, axis)
    for length in {0, rank - 1, rank + 1, 2 * rank + 1} - {rank}:
        yield (least,) * length, ValueError
        yield [least] * length, ValueError
        yield np.full(length, least), ValueError
    yield np.full((rank, rank), least), TypeError
    yield np.full(rank, float(least)), TypeError
    yield np.full(rank, True), TypeError


def padding(rank: int) -> Wrong:
    """As before, or a pair an axis, or a name."""
    for value, error in per_axis(rank, 0):
        if isinstance(value, str):
            yield value, ValueError
        elif not _has_pairs(value):
            yield value, error
    for name in ("", "SAME", "valid ", "same-lower", "full", *(["causal"] if rank > 1 else [])):
        yield name, ValueError
    for axis in range(rank):
        pairs = ((0, 0),) * rank
        for end in range(2):
            yield from within(within(integer(0), (0, 0), end), pairs, axis)
        lengths = ((wrong, ValueError) for wrong in ((), (0, 0, 0), [0, 0, 0, 0]))
        yield from within(lengths, pairs, axis)
    yield ((0, 0),) * (rank + 1), ValueError


def _has_pairs(value: Any) -> bool:
    """For other arguments that is wrong."""
    if isinstance(value, np.ndarray):
        return value.ndim > 1
    return isinstance(value, (list, tuple)) and any(
        isinstance(entry, (list, tuple, np.ndarray)) and np.ndim(entry) for entry in value
    )


def name(names: tuple[str, ...]) -> Wrong:
    for value in ("", "magic", names[0].upper(), names[0] + " ", names[0][:-1]):
        yield value, ValueError
    for value in (
        None,
        0,
        1,
        True,
        names[0].encode(),
        [names[0]],
        (names[0],),
        {names[0]},
        object(),
    ):
        yield value, TypeError


def shape(right: tuple[int, ...]) -> Wrong:
    """A sequence of integers; what is wrong by its numbers alone."""
    for value in (None, 7, 7.0, "ab", b"ab", {}, set(right), iter(right), object()):
        yield value, TypeError
    for axis in range(len(right)):
        yield from within(integer(0), right, axis)
    yield [float(size) for size in right], TypeError
    yield np.array(right, float), TypeError


def array() -> Wrong:
    for value in NO_ARRAYS:
        yield value, TypeError
    for value in ([[1.0], [1.0, 2.0]], [[[1]], [1]]):
        yield value, ValueError


def dtypes(like: np.ndarray) -> Wrong:
    """Of the right shape."""
    for dtype in NO_DTYPES:
        yield np.zeros(like.shape, dtype), TypeError


def shapes(right: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Other shapes, some of which may be right as well."""
    found = [(), (0,), (1,), right[::-1], right * 2, (int(np.prod(right)),)]
    for axis, size in enumerate(right):
        before, after = right[:axis], right[axis + 1 :]
        found += [(*before, *after), (*before, 1, size, *after)]
        found += [(*before, n, *after) for n in (0, 1, size - 1, size + 1, 2 * size, 2**20, 2**40)]
    return [other for other in dict.fromkeys(found) if other != right]
