"""Sums over an axis, as the gradient of a bias is: the kernel of each build against exact sums."""

import itertools
import math

import numpy as np
import pytest
from builds import DTYPES, each_build, each_compiled, each_dtype, kernels_of, refused
from guards import output

import cyconv
from cyconv import bias, tiling

LENGTHS = [0, 1, 3, 7, 15, 16, 17, 49, 64, 70, 127, 196, 1025, 4100]
COLUMNS = [2, 3, 5, 8, 15, 16, 17, 25, 63, 64, 65, 130]


def exact(x):
    """Of each (a, c), the sum over b, rounded once."""
    found = [[math.fsum(x[a, :, c].tolist()) for c in range(x.shape[2])] for a in range(len(x))]
    return np.array(found).reshape(len(x), x.shape[2])


def summed(build, x, *shares):
    sums = output((len(x), x.shape[2]), np.float64)
    kernels_of(build).sum_middle(x, sums, *shares)
    return sums


@each_dtype
@each_build
@pytest.mark.parametrize(
    ("length", "columns"),
    [*itertools.product(LENGTHS, [1]), *itertools.product([0, 1, 7, 9, 300], COLUMNS)],
)
def test_sums(rng, build, dtype, length, columns):
    """Of integers: each cell once, whatever the order."""
    x = rng.integers(-8, 9, (3, length, columns)).astype(dtype)
    np.testing.assert_array_equal(summed(build, x), x.sum(axis=1, dtype=np.float64))


@each_build
@pytest.mark.parametrize("shape", [(0, 70, 1), (0, 70, 2), (0, 0, 3), (2, 70, 0)])
def test_no_sums(build, shape):
    assert summed(build, np.zeros(shape)).shape == (shape[0], shape[2])


@each_dtype
@each_build
@pytest.mark.parametrize("shape", [(2, 4100, 1), (2, 4100, 3), (1, 1000, 70)])
def test_rounding(rng, build, dtype, shape):
    x = rng.random(shape).astype(dtype)
    wanted = exact(x)
    assert (abs(summed(build, x) - wanted) <= 6 * np.finfo(dtype).eps * wanted).all()


@each_dtype
@each_build
@pytest.mark.parametrize("columns", [1, 20])
def test_equal_terms(build, dtype, columns):
    """Their rounding errors add up."""
    x = np.full((1, 300_000 // columns, columns), 0.1, dtype)
    single = 3e-7 if columns == 1 else 7e-8 if build == "fallback" else 2e-7
    wanted = float(x[0, 0, 0]) * x.shape[1]
    rtol = single if dtype == np.float32 else 2e-15
    np.testing.assert_allclose(summed(build, x), np.full((1, columns), wanted), rtol=rtol)


@each_dtype
@each_build
def test_not_a_number_and_infinity(build, dtype):
    for columns, place, value in itertools.product([1, 4, 30], [0, 80, 199], [np.nan, np.inf]):
        x = np.ones((1, 200, columns), dtype)
        x[0, place, 0] = value
        wanted = np.full((1, columns), 200.0)
        wanted[0, 0] = value
        np.testing.assert_array_equal(summed(build, x), wanted)


@each_dtype
@each_build
def test_tasks_are_shared(build, dtype):
    x = np.random.default_rng(0).integers(-9, 10, (5, 33, 40)).astype(dtype)
    tasks = np.array([(0, 2, 0, 40), (2, 5, 0, 13), (2, 5, 13, 40)], np.intp)
    wanted = x.sum(axis=1)
    for t, (first, last, left, right) in enumerate(tasks):  # one is left
        sums, taken = np.full((5, 40), 99.0), np.array([t + ((2 - t) << 32)], np.longlong)
        kernels_of(build).sum_middle(x, sums, tasks, taken, t == 1)
        part = slice(first, last), slice(left, right)
        np.testing.assert_array_equal(sums[part], wanted[part])
        sums[part] = 99
        assert (sums == 99).all()
    np.testing.assert_array_equal(summed(build, x, tasks, np.zeros(1, np.longlong)), wanted)


@each_compiled
def test_shapes_are_checked(build):
    sum_middle = kernels_of(build).sum_middle
    x, sums, taken = np.zeros((3, 4, 5)), np.zeros((3, 5)), np.zeros(1, np.longlong)
    for wrong in ((2, 5), (3, 4), (3, 6)):
        assert refused(sum_middle, x, np.zeros(wrong))
    for row in ([0, 4, 0, 5], [0, 3, 0, 6], [2, 1, 0, 5], [-1, 3, 0, 5], [0, 3, 0]):
        assert refused(sum_middle, x, sums, np.array([row], np.intp), taken)
    assert refused(sum_middle, x, sums, np.array([[0, 3, 0, 5]], np.intp), None)


@pytest.mark.parametrize("dtype", [np.float16, *DTYPES])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize(
    "shape",
    [
        (3, 5, 6, 7),
        (1, 40, 6, 7),
        (2, 300, 3, 3),
        (5, 6, 7),
        (0, 5, 9, 9),
        (0, 1, 6, 7),
        (3, 5, 0, 7),
    ],
)
def test_threads_share_the_bias_gradient(monkeypatch, rng, shape, last, dtype):
    """With one thread, and with three; dy may be without an axis of images."""
    dy = rng.integers(-4, 5, shape).astype(dtype)
    axes = tuple(a for a in range(dy.ndim) if a != dy.ndim - 3)
    wanted = dy.sum(axis=axes)
    dy = np.ascontiguousarray(np.moveaxis(dy, -3, -1)) if last else dy
    monkeypatch.setattr(bias, "HALVES", 100)
    monkeypatch.setattr("cyconv.threads.SMALL", 0)
    before = cyconv.get_num_threads()
    for number in (1, 3):
        cyconv.set_num_threads(number)
        found = bias.bias_grad(dy, 2, last)
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, wanted)
    cyconv.set_num_threads(before)


def test_tasks_cover_all_sums_once():
    for rows, columns in itertools.product([1, 3, 64, 4608], [1, 3, 31, 64, 1000]):
        count = np.zeros((rows, columns), int)
        for first, last, left, right in bias._tasks(rows, columns):
            count[first:last, left:right] += 1
        assert (count == 1).all()
    assert len(bias._tasks(1, 256)) == len(bias._tasks(4608, 1)) == tiling.PIECES
