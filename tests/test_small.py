"""Small: what lowering and pointwise compute, in a few calls; also where these do it."""

import numpy as np
import pytest
import reference
from builds import DTYPES, each_dtype, forget_plans
from hypothesis import given
from hypothesis import strategies as st
from strategies import Case, cases, described
from test_arrays import read_only, spread, unaligned
from test_functional import results

import cyconv
from cyconv import threads
from cyconv.algorithms import small
from cyconv.plan import plan

PASSES = ["forward", "input_grad", "weight_grad"]
CASES = {
    "one block": Case((1, 3, 12, 14), (4, 3, 3, 3), padding=1),
    "blocks": Case((1, 3, 32, 32), (16, 3, 3, 3), padding=1),
    "blocks of uneven length": Case((1, 4, 39, 41), (16, 4, 3, 3), padding=1),
    "images": Case((2, 8, 16, 16), (16, 8, 3, 3), padding=1),
    "flipped": Case((1, 12, 16, 16), (4, 12, 3, 3)),
    "flipped images": Case((3, 12, 15, 15), (4, 12, 3, 3), padding=(2, 1)),
    "stride 2": Case((2, 5, 30, 31), (9, 5, 3, 3), 2, 1),
    "pointwise": Case((1, 48, 15, 15), (60, 48, 1, 1)),
    "pointwise images": Case((3, 20, 15, 15), (60, 20, 1, 1)),
    "pointwise groups": Case((2, 20, 15, 15), (60, 10, 1, 1), groups=2),
    "groups": Case((1, 12, 20, 20), (24, 6, 3, 3), padding=1, groups=2),
    "images of groups": Case((3, 12, 11, 12), (24, 6, 3, 3), padding=1, groups=2),
    "more weights": Case((1, 16, 14, 14), (20, 16, 3, 3), padding=1),
    "many weights": Case((1, 64, 5, 5), (64, 64, 3, 3), padding=1),
    "one position": Case((1, 20, 3, 3), (30, 20, 3, 3)),
    "line": Case((2, 6, 700), (12, 6, 5), padding=2),
    "volume": Case((1, 3, 6, 9, 8), (8, 3, 2, 3, 3), padding=1),
}
# Weights for which a pass is not in blocks, and so left to others: in float64 every pass.
MANY = ("many weights", "more weights", "pointwise")
BLOCKS_OF_MANY = {("more weights", "forward"), ("more weights", "input_grad")}
BLOCKS_OF_MANY |= {("pointwise", "forward"), ("pointwise", "input_grad")}


@pytest.fixture(params=["small", "in tiles"])
def either(request, monkeypatch):
    """With it, and without."""
    if request.param == "in tiles":
        monkeypatch.setattr(small, "FEW_PRODUCTS", 0)
    monkeypatch.setattr(threads, "small_unpacked", lambda: True)
    forget_plans()
    yield request.param == "small"
    forget_plans()


@each_dtype
@pytest.mark.parametrize("name", CASES)
def test_exact(either, name, dtype):
    case = CASES[name]
    for pass_ in PASSES:
        made = plan(described(case), np.dtype(dtype), pass_, "gemm")
        in_blocks = dtype == np.float32 and (name, pass_) in BLOCKS_OF_MANY
        fits = either and (name not in MANY or in_blocks)
        assert (made.algorithm is small) == fits, pass_
    for what, got, wanted in results(case, case.integers(dtype), "gemm"):
        np.testing.assert_array_equal(got, wanted, err_msg=what)


@pytest.mark.parametrize("packs", [False, True])
@given(case=cases(spare=8), dtype=st.sampled_from(DTYPES))
def test_any_case_in_tiles_is_exact(packs, case, dtype):
    """The general way, which only larger work takes otherwise."""
    forget_plans()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(small, "FEW_PRODUCTS", 0)
        patch.setattr(threads, "small_unpacked", lambda: not packs)
        for what, got, wanted in results(case, case.integers(dtype), "gemm"):
            np.testing.assert_array_equal(got, wanted, err_msg=what)
    forget_plans()


@each_dtype
def test_its_products_are_not_for_threads_of_blas(monkeypatch, dtype):
    """So there is no need to hold it to one."""
    monkeypatch.setattr(threads, "small_unpacked", lambda: True)

    sizes, multiply = [], np.matmul

    def measure(a, b, out=None):
        sizes.append(a.shape[-2] * a.shape[-1] * b.shape[-1])
        return multiply(a, b, out=out)

    def hold(_):
        raise AssertionError

    monkeypatch.setattr(threads._blas, "hold", hold)
    monkeypatch.setattr(np, "matmul", measure)
    forget_plans()  # they keep np.matmul
    several = dict.fromkeys(PASSES, 0)
    for name, case in CASES.items():
        for pass_ in PASSES:
            made = plan(described(case), np.dtype(dtype), pass_, "gemm")
            if made.algorithm is not small:
                continue
            arrays, shape = work(case, pass_, dtype)
            sizes.clear()
            made.whole(arrays, np.empty(shape, dtype))
            outer = (name, pass_) == ("one position", "weight_grad")  # which np.multiply makes
            assert bool(sizes) != outer, (name, pass_)
            assert max(sizes, default=0) <= threads.SMALL_PRODUCT, (name, pass_)
            several[pass_] += len(sizes) > 1
    assert min(several.values()) >= 3, several
    forget_plans()


def work(case, pass_, dtype):
    """The arrays of a pass, and the shape of its result."""
    x, w, b, dy = case.integers(dtype)
    return {
        "forward": ((x, w, b), dy.shape),
        "input_grad": ((dy, w), x.shape),
        "weight_grad": ((dy, x), w.shape),
    }[pass_]


@each_dtype
@pytest.mark.parametrize("pass_", PASSES)
@pytest.mark.parametrize("name", ["blocks", "flipped images", "stride 2", "pointwise images"])
def test_arrays_may_lie_anyhow(name, pass_, dtype):
    """Apart, not aligned, or read only; and what is there is not written."""
    case = CASES[name]
    arrays, shape = work(case, pass_, dtype)
    if pass_ == "input_grad":  # as a transposed convolution has it
        arrays = *arrays, np.arange(case.x_shape[1]).astype(dtype)
    made = plan(described(case), np.dtype(dtype), pass_, "gemm")
    assert made.algorithm is small
    wanted = np.full(shape, np.nan, dtype)
    assert made.whole(tuple(arrays), wanted)
    for arrange in (spread, unaligned, read_only):
        given_arrays = tuple(arrange(array) for array in arrays)
        result = np.full(shape, np.nan, dtype)
        assert made.whole(given_arrays, result)
        np.testing.assert_array_equal(result, wanted)
        for got, array in zip(given_arrays, arrays, strict=True):
            np.testing.assert_array_equal(got, array)


@each_dtype
@pytest.mark.parametrize("name", ["blocks", "images", "stride 2", "pointwise", "pointwise images"])
def test_a_bias_of_a_transposed_convolution(name, dtype):
    case = CASES[name]
    x, w, _, dy = case.integers(dtype)
    b = np.arange(x.shape[1]).astype(dtype)
    extra = [
        (size + 2 * pad - kernel) % stride
        for size, pad, kernel, stride in zip(
            x.shape[2:], (case.padding,) * 2, w.shape[2:], (case.stride,) * 2, strict=True
        )
    ]
    options = {**case.options, "output_padding": tuple(extra), "algorithm": "gemm"}
    got = cyconv.conv_transpose(dy, w, b, **options)
    wanted = reference.conv_input_grad(dy, w, x.shape, **case.options) + b[:, None, None]
    np.testing.assert_array_equal(got, wanted)


@each_dtype
def test_nobody_is_warned(dtype, recwarn):
    case = CASES["blocks"]
    x, w, b, dy = case.arrays(dtype)
    x[0, 0, 3, 3], dy[0, 0, 4, 4], w[0] = np.inf, np.inf, 0
    w[1, 0, 0, 0], b[2] = -np.inf, np.nan
    options = {**case.options, "algorithm": "gemm"}
    assert np.isnan(cyconv.conv(x, w, b, **options)).any()
    assert np.isnan(cyconv.conv_input_grad(dy, w, x.shape, **options)).any()
    cyconv.conv_weight_grad(dy, x, w.shape, **options)
    assert not recwarn.list
