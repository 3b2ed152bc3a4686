"""Defects of the tutorial and of cs231n's layers, which this one must not have."""

import numpy as np
import pytest
import reference
from strategies import Case

import cyconv


def test_the_output_is_contiguous():
    """The tutorial's is a transposed view."""
    out, cache = cyconv.conv_forward(np.ones((5, 2, 10, 10)), np.ones((4, 2, 3, 3)), np.ones(4))
    assert all(array.flags.c_contiguous for array in (out, *cyconv.conv_backward(out, cache)))


@pytest.mark.parametrize("positions", [(1, 1), (2, 3)])
def test_b_adds_to_filters(rng, positions):
    """The tutorial's adds a b of shape (F,) to positions: it raises, or is wrong if F = N*h*w."""
    n, (height, width) = 2, positions
    filters = n * height * width
    x = rng.standard_normal((n, 3, height, width))
    w, b = rng.standard_normal((filters, 3, 3, 3)), rng.standard_normal(filters)
    wanted = reference.conv(x, w, b, padding=1)
    np.testing.assert_allclose(cyconv.conv_forward(x, w, b)[0], wanted, rtol=0, atol=1e-12)
    np.testing.assert_allclose(cyconv.conv_forward(x, w, b[:, None])[0], wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kernel", [(1, 4), (4, 1), (2, 3), (3, 2)])
def test_kernels_need_not_be_square(kernel):
    """cs231n's Cython counts rows of columns by the wrong side of the kernel."""
    case = Case((2, 3, 7, 8), (4, 3, *kernel), padding=1)
    x, w, b, dy = case.integers()
    out, cache = cyconv.conv_forward(x, w, b, padding=1)
    dx, dw, _ = cyconv.conv_backward(dy, cache)
    np.testing.assert_array_equal(out, reference.conv(x, w, b, padding=1))
    np.testing.assert_array_equal(dx, reference.conv_input_grad(dy, w, x.shape, padding=1))
    np.testing.assert_array_equal(dw, reference.conv_weight_grad(dy, x, w.shape, padding=1))


def test_fortran_order_is_read_as_what_it_is():
    """cs231n's strided version takes C order for granted."""
    case = Case((2, 3, 5, 6), (4, 3, 3, 3), padding=1)
    x, w, b, _ = case.integers()
    out, _ = cyconv.conv_forward(np.asfortranarray(x), w, b, padding=1)
    np.testing.assert_array_equal(out, reference.conv(x, w, b, padding=1))
