"""cs231n's layers: its printed numbers, its column order by its own definition, and max-pooling."""

import numpy as np
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st

from cyconv.interop import cs231n

# What its notebook prints and checks.
FORWARD = """
-0.08759809 -0.10987781 -0.18387192 -0.2109216 0.21027089 0.21661097 0.22847626 0.23004637
0.50813986 0.54309974 0.64082444 0.67101435 -0.98053589 -1.03143541 -1.19128892 -1.24695841
0.69108355 0.66880383 0.59480972 0.56776003 2.36270298 2.36904306 2.38090835 2.38247847
"""
POOLED = """
-0.26315789 -0.24842105 -0.20421053 -0.18947368 -0.14526316 -0.13052632 -0.08631579 -0.07157895
-0.02736842 -0.01263158 0.03157895 0.04631579 0.09052632 0.10526316 0.14947368 0.16421053
0.20842105 0.22315789 0.26736842 0.28210526 0.32631579 0.34105263 0.38526316 0.4
"""


def relative_error(a, b):
    return np.max(abs(a - b) / np.maximum(1e-8, abs(a) + abs(b)))


def test_the_notebook_s_convolution():
    x = np.linspace(-0.1, 0.5, 96).reshape(2, 3, 4, 4)
    w = np.linspace(-0.2, 0.3, 144).reshape(3, 3, 4, 4)
    b = np.linspace(-0.1, 0.2, 3)
    out, _ = cs231n.conv_forward_fast(x, w, b, {"stride": 2, "pad": 1})
    assert relative_error(out, np.fromstring(FORWARD, sep=" ").reshape(2, 3, 2, 2)) < 3e-8


def test_the_notebook_s_pooling():
    x = np.linspace(-0.3, 0.4, 96).reshape(2, 3, 4, 4)
    pool_param = {"pool_height": 2, "pool_width": 2, "stride": 2}
    out, _ = cs231n.max_pool_forward_fast(x, pool_param)
    assert relative_error(out, np.fromstring(POOLED, sep=" ").reshape(2, 3, 2, 2)) < 3e-7


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_gradients_of_the_convolution(rng, stride):
    x, w, b = (rng.standard_normal(n) for n in [(3, 2, 7, 6), (4, 2, 3, 2), 4])
    options = {"stride": stride, "padding": 1}
    out, cache = cs231n.conv_forward_fast(x, w, b, {"stride": stride, "pad": 1})
    dout = rng.standard_normal(out.shape)
    wanted = (
        reference.conv_input_grad(dout, w, x.shape, **options),
        reference.conv_weight_grad(dout, x, w.shape, **options),
        dout.sum(axis=(0, 2, 3)),
    )
    for a, b in zip(cs231n.conv_backward_fast(dout, cache), wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


@st.composite
def windows(draw):
    """A small batch, and the arguments of im2col_indices."""
    height, width = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    padding, stride = draw(st.integers(0, 2)), draw(st.integers(1, 3))
    shape = (
        *(draw(st.integers(1, 3)), draw(st.integers(1, 3))),
        *(draw(st.integers(max(1, k - 2 * padding), k + 4)) for k in (height, width)),
    )
    return shape, height, width, padding, stride


def columns_one_by_one(x, height, width, padding, stride):
    """As the course draws it: position by position and, within it, image by image."""
    ends = (padding, padding)
    x = np.pad(x, ((0, 0), (0, 0), ends, ends))
    cols = [
        image[:, i : i + height, j : j + width].ravel()
        for i in range(0, x.shape[2] - height + 1, stride)
        for j in range(0, x.shape[3] - width + 1, stride)
        for image in x
    ]
    return np.stack(cols, axis=1)


@given(windows())
def test_the_order_of_columns(drawn):
    shape, *window = drawn
    x = np.arange(1.0, 1 + np.prod(shape)).reshape(shape)
    cols = cs231n.im2col_indices(x, *window)
    np.testing.assert_array_equal(cols, columns_one_by_one(x, *window), strict=True)
    # Back: each cell comes home as often as windows cover it.
    often = cs231n.col2im_indices(np.ones_like(cols), shape, *window)
    np.testing.assert_array_equal(cs231n.col2im_indices(cols, shape, *window), x * often)
    assert often.sum() == columns_one_by_one(np.ones(shape), *window).sum()


def test_default_windows(rng):
    """3x3 in col2im_indices, a padding of 1 in both: as in the tutorial."""
    x = rng.standard_normal((2, 1, 4, 4))
    cols = cs231n.im2col_indices(x, 3, 3)
    assert cols.shape == (9, 32)
    assert cs231n.col2im_indices(cols, x.shape).shape == x.shape


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("kernel", "stride"), [((2, 2), 2), ((3, 2), 1), ((2, 3), 2), ((1, 1), 3)])
def test_pooling(rng, kernel, stride, dtype):
    """Window by window; no two cells are alike."""
    x = rng.permutation(2 * 3 * 7 * 8).reshape(2, 3, 7, 8).astype(dtype)
    pool_param = dict(zip(["pool_height", "pool_width"], kernel, strict=True), stride=stride)
    out, cache = cs231n.max_pool_forward_fast(x, pool_param)
    dout = rng.integers(-9, 9, out.shape).astype(dtype)
    wanted, dx = np.empty_like(out), np.zeros_like(x)
    for n, c, i, j in np.ndindex(*out.shape):
        corner = np.array([i, j]) * stride
        rows, columns = (slice(a, a + k) for a, k in zip(corner, kernel, strict=True))
        window = x[n, c, rows, columns]
        wanted[n, c, i, j] = window.max()
        dx[n, c, rows, columns] += dout[n, c, i, j] * (window == window.max())
    np.testing.assert_array_equal(out, wanted, strict=True)
    np.testing.assert_array_equal(cs231n.max_pool_backward_fast(dout, cache), dx, strict=True)
    assert out.shape[2:] == tuple(
        (n - k) // stride + 1 for n, k in zip(x.shape[2:], kernel, strict=True)
    )


def test_the_first_of_equals_is_taken():
    """As after a ReLU, where many are 0: the gradient arrives once, not once for each."""
    out, cache = cs231n.max_pool_forward_fast(
        np.zeros((1, 1, 2, 2)), {"pool_height": 2, "pool_width": 2, "stride": 2}
    )
    dx = cs231n.max_pool_backward_fast(np.ones_like(out), cache)
    np.testing.assert_array_equal(dx[0, 0], [[1, 0], [0, 0]])
