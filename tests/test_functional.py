"""Every public function against the definition, and against numbers printed by others."""

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import Case, cases

import cyconv

DTYPES = [np.float64, np.float32]
TOLERANCE = {np.float64: 1e-12, np.float32: 5e-6}  # relative to the largest value

CASES = {
    "tutorial": Case((5, 1, 10, 10), (20, 1, 3, 3), padding=1),
    "smallest": Case((1, 1, 1, 1), (1, 1, 1, 1)),
    "pointwise": Case((3, 5, 6, 7), (4, 5, 1, 1)),
    "pointwise-strided": Case((2, 6, 7, 9), (4, 3, 1, 1), stride=(2, 3), groups=2),
    "pointwise-padded": Case((2, 3, 4, 5), (4, 3, 1, 1), padding=((0, 2), (1, 0))),
    "non-square": Case((2, 3, 9, 14), (5, 3, 2, 5), stride=(3, 1), padding=(0, 2)),
    "asymmetric": Case((2, 3, 9, 8), (5, 3, 3, 4), padding=((2, 0), (1, 3))),
    "dilated": Case((2, 3, 15, 13), (4, 3, 3, 2), dilation=(2, 5), padding=(3, 1)),
    "dilated-strided": Case((1, 2, 17, 16), (3, 2, 3, 3), 3, 2, 2),
    "cells-never-read": Case((2, 2, 11, 12), (3, 2, 2, 1), stride=(4, 5)),
    "windows-in-padding": Case((2, 2, 2, 3), (3, 2, 2, 2), stride=2, padding=((5, 4), (0, 7))),
    "whole-image": Case((3, 4, 5, 6), (7, 4, 5, 6)),
    "grouped": Case((2, 6, 7, 8), (9, 2, 3, 3), padding=1, groups=3),
    "depthwise": Case((2, 6, 9, 8), (6, 1, 3, 3), stride=2, padding=1, groups=6),
    "depthwise-multiplied": Case((2, 3, 9, 8), (6, 1, 3, 3), padding=1, groups=3),
    "one-row": Case((2, 3, 1, 12), (4, 3, 1, 3)),
    "one-column": Case((2, 3, 12, 1), (4, 3, 3, 1)),
    "line": Case((2, 3, 30), (4, 3, 5), stride=2, padding=((4, 1),), dilation=3),
    "long-line": Case((2, 4, 20_000), (3, 4, 7), padding=3),
    "volume": Case(
        (2, 3, 5, 6, 7), (4, 3, 3, 2, 1), (1, 2, 3), ((1, 0), (0, 2), (1, 1)), (1, 2, 1)
    ),
    "volume-grouped": Case((1, 4, 8, 9, 10), (6, 2, 3, 3, 3), 2, 1, groups=2),
    "several-tiles": Case((2, 64, 61, 67), (8, 64, 3, 3), padding=1),
    "several-tiles-strided": Case((2, 3, 190, 177), (16, 3, 7, 7), stride=2, padding=3),
    "many-filters": Case((2, 256, 7, 7), (300, 256, 3, 3), padding=1),
    "many-images": Case((130, 2, 5, 4), (3, 2, 3, 3), padding=1),
}


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


def results(case, arrays, algorithm="auto"):
    """What the package makes of x, w, b and dy, and what the definition does."""
    x, w, b, dy = arrays
    options = {**case.options, "algorithm": algorithm}
    out, cache = cyconv.conv_forward(x, w, b, **options)
    got = {
        "conv": cyconv.conv(x, w, b, **options),
        "conv without b": cyconv.conv(x, w, **options),
        "conv_input_grad": cyconv.conv_input_grad(dy, w, x.shape, **options),
        "conv_weight_grad": cyconv.conv_weight_grad(dy, x, w.shape, **options),
        "conv_forward": out,
        **dict(zip(["dX", "dW", "db"], cyconv.conv_backward(dy, cache), strict=True)),
    }
    y = reference.conv(x, w, b, **case.options)
    dx = reference.conv_input_grad(dy, w, x.shape, **case.options)
    dw = reference.conv_weight_grad(dy, x, w.shape, **case.options)
    db = np.float64(dy).sum(axis=(0, *range(2, dy.ndim)))
    y_without_b = reference.conv(x, w, **case.options)
    return zip(got, got.values(), [y, y_without_b, dx, dw, y, dx, dw, db], strict=True)


@pytest.mark.parametrize("dtype", DTYPES)
def test_close(case, dtype):
    for name, got, wanted in results(case, case.arrays(dtype)):
        assert got.dtype == dtype, name
        assert got.shape == wanted.shape, name
        assert abs(got - wanted).max() <= TOLERANCE[dtype] * abs(wanted).max(), name


@pytest.mark.parametrize("dtype", DTYPES)
def test_exact(case, dtype):
    for name, got, wanted in results(case, case.integers(dtype), "gemm"):
        np.testing.assert_array_equal(got, wanted, err_msg=name)


@given(cases(), st.sampled_from(DTYPES))
def test_any_case_is_exact(case, dtype):
    for name, got, wanted in results(case, case.integers(dtype), "gemm"):
        assert got.dtype == dtype, name
        np.testing.assert_array_equal(got, wanted, err_msg=name)
        assert got.shape == wanted.shape, name


@settings(max_examples=50)
@given(cases(spare=30), st.sampled_from(DTYPES))
def test_any_larger_case_is_exact(case, dtype):
    """Large enough to be cut into tiles, of whole images and of parts of one."""
    for name, got, wanted in results(case, case.integers(dtype), "gemm"):
        np.testing.assert_array_equal(got, wanted, err_msg=name)


@pytest.mark.parametrize(
    "case",
    [
        Case((300_000, 2, 1), (3, 2, 1)),
        Case((100_000, 1, 4), (3, 1, 3), padding=1),
        Case((1, 2, 1_000_000), (2, 2, 3), padding=1),
        Case((2, 512, 9, 9), (16, 512, 5, 5), padding=2),
    ],
    ids=["many-images", "many-small-images", "long-line", "many-channels"],
)
def test_float32_error_of_long_sums(case):
    """Of terms of one sign, so that the sums grow long, and rounding with them."""
    for name, got, wanted in results(case, [abs(array) for array in case.arrays(np.float32)]):
        assert abs(got - wanted).max() <= 5e-6 * abs(wanted).max(), name


def check_lowering(case, dtype):
    x, *_ = case.integers(dtype)
    size, kernel = x.shape[2:], case.kernel
    cols = cyconv.im2col(x, kernel, **case.geometry)
    wanted = reference.im2col(x, kernel, **case.geometry)
    assert cols.dtype == dtype
    assert cols.shape == wanted.shape
    np.testing.assert_array_equal(cols, wanted)
    cols = np.random.default_rng(case.seed).integers(-4, 5, cols.shape).astype(dtype)
    dx = cyconv.col2im(cols, size, kernel, **case.geometry)
    assert dx.dtype == dtype
    assert dx.shape == x.shape
    np.testing.assert_array_equal(dx, reference.col2im(cols, size, kernel, **case.geometry))


@pytest.mark.parametrize("dtype", DTYPES)
def test_lowering(case, dtype):
    check_lowering(case, dtype)


@given(cases(), st.sampled_from(DTYPES))
def test_any_lowering(case, dtype):
    check_lowering(case, dtype)


def test_im2col_by_hand():
    x = np.arange(12.0).reshape(1, 1, 3, 4)
    cols = cyconv.im2col(x, 2, stride=(1, 2))
    np.testing.assert_array_equal(
        cols, [[[0, 2, 4, 6], [1, 3, 5, 7], [4, 6, 8, 10], [5, 7, 9, 11]]]
    )
    counts = cyconv.col2im(np.ones((1, 4, 6)), (3, 4), 2)
    np.testing.assert_array_equal(counts, [[[[1, 2, 2, 1], [2, 4, 4, 2], [1, 2, 2, 1]]]])


def test_cs231n():
    x = np.linspace(-0.1, 0.5, 96).reshape(2, 3, 4, 4)
    w = np.linspace(-0.2, 0.3, 144).reshape(3, 3, 4, 4)
    b = np.linspace(-0.1, 0.2, 3)
    printed = """
        -0.08759809 -0.10987781 -0.18387192 -0.2109216 0.21027089 0.21661097 0.22847626 0.23004637
        0.50813986 0.54309974 0.64082444 0.67101435 -0.98053589 -1.03143541 -1.19128892 -1.24695841
        0.69108355 0.66880383 0.59480972 0.56776003 2.36270298 2.36904306 2.38090835 2.38247847
    """
    out, _ = cyconv.conv_forward(x, w, b, stride=2, padding=1)
    assert out.shape == (2, 3, 2, 2)
    wanted = np.array(printed.split(), dtype=float).reshape(out.shape)
    assert (abs(out - wanted) / np.maximum(1e-8, abs(out) + abs(wanted))).max() < 3e-8


def test_tutorial_shapes():
    out, cache = cyconv.conv_forward(np.ones((5, 1, 10, 10)), np.ones((20, 1, 3, 3)), np.ones(20))
    assert out.shape == (5, 20, 10, 10)
    assert [d.shape for d in cyconv.conv_backward(out, cache)] == [
        (5, 1, 10, 10),
        (20, 1, 3, 3),
        (20,),
    ]
    out, _ = cyconv.conv_forward(np.ones((1, 1, 10, 10)), np.ones((1, 1, 3, 3)))
    assert out.shape == (1, 1, 10, 10)


def test_default_paddings(rng):
    x, w = rng.standard_normal((2, 3, 5, 6)), rng.standard_normal((4, 3, 3, 3))
    np.testing.assert_array_equal(cyconv.conv_forward(x, w)[0], cyconv.conv(x, w, padding=1))
    assert cyconv.conv(x, w).shape == (2, 4, 3, 4)
    assert cyconv.im2col(x, 3).shape == (2, 27, 12)


def test_positional_arguments(rng):
    x, w, b = (rng.standard_normal(shape) for shape in [(2, 4, 9, 8), (6, 2, 2, 2), 6])
    options = {"stride": 2, "padding": 0, "dilation": 3, "groups": 2}
    np.testing.assert_array_equal(
        cyconv.conv_forward(x, w, b, *options.values())[0], cyconv.conv(x, w, b, **options)
    )
    with pytest.raises(TypeError, match="positional"):
        cyconv.conv(x, w, b, 2)
    with pytest.raises(TypeError, match="positional"):
        cyconv.conv_input_grad(x, w, x.shape, 2)
    cols = cyconv.im2col(x, 2, 2, 0, 3)
    np.testing.assert_array_equal(cols, cyconv.im2col(x, 2, stride=2, padding=0, dilation=3))
    np.testing.assert_array_equal(
        cyconv.col2im(cols, (9, 8), 2, 2, 0, 3),
        cyconv.col2im(cols, (9, 8), (2, 2), stride=2, padding=0, dilation=3),
    )


@pytest.mark.parametrize("padding", [2, (2, 2), [2, 2], ((2, 2), (2, 2)), np.array([2, 2])])
def test_ways_to_say_padding(rng, padding):
    x, w = rng.standard_normal((2, 3, 5, 6)), rng.standard_normal((4, 3, 3, 2))
    wanted = reference.conv(x, w, padding=2)
    np.testing.assert_allclose(cyconv.conv(x, w, padding=padding), wanted, rtol=0, atol=1e-12)


def test_a_pair_is_two_axes_or_one():
    """(1, 2) is one int an axis of an image; a line has one axis, hence ((1, 2),)."""
    image, line = np.ones((1, 1, 3, 3)), np.ones((1, 1, 3))
    assert cyconv.conv(image, image[..., :1, :1], padding=(1, 2)).shape == (1, 1, 5, 7)
    assert cyconv.conv(line, line[..., :1], padding=((1, 2),)).shape == (1, 1, 6)
    assert cyconv.conv(line, line[..., :1], padding=(1,)).shape == (1, 1, 5)
    with pytest.raises(ValueError, match="padding"):
        cyconv.conv(line, line[..., :1], padding=(1, 2))


def test_repeats_to_the_bit_on_any_number_of_threads(case):
    x, w, b, dy = case.arrays(np.float32)

    def run(threads):
        cyconv.set_num_threads(threads)
        out, cache = cyconv.conv_forward(x, w, b, **case.options)
        return [array.tobytes() for array in (out, *cyconv.conv_backward(dy, cache))]

    before = cyconv.get_num_threads()
    try:
        alone = run(1)
        assert all(run(threads) == alone for threads in (1, 2, 3))
    finally:
        cyconv.set_num_threads(before)
