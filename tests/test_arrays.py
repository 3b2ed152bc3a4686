"""Odd arrays in, plain arrays out: memory layouts, and a batch of none."""

import numpy as np
import pytest
import reference
from calls import ARGUMENTS, CROOKED, NAMES, PLAIN, assert_plain, calls
from strategies import Case

import cyconv


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def unaligned(array):
    memory = np.zeros(array.nbytes + 1, np.uint8)
    result = memory[1:].view(array.dtype).reshape(array.shape)
    result[...] = array
    assert result.flags.aligned == (array.itemsize == 1)
    return result


def bad(array):
    """A value that spoils whatever it is added to."""
    return {"f": np.nan, "b": True}.get(array.dtype.kind, 99)


def spread(array):
    """Every other cell of a larger array, along every axis; nothing good lies between."""
    memory = np.full([2 * size + 1 for size in array.shape], bad(array), array.dtype)
    result = memory[tuple(slice(1, None, 2) for _ in array.shape)]
    result[...] = array
    return result


def gap_after_rows(array):
    memory = np.full((*array.shape[:-1], array.shape[-1] + 3), bad(array), array.dtype)
    memory[..., :-3] = array
    return memory[..., :-3]


def channels_last(array):
    if array.ndim < 3:
        return array
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(array, 1, -1)), -1, 1)


# Each makes an odd array out of a plain one. The broadcast ones have other values, too.
ODD = {
    "Fortran": np.asfortranarray,
    "channels last": channels_last,
    "negative strides": lambda array: np.flip(np.flip(array).copy()),
    "one negative stride": lambda array: array[..., ::-1].copy()[..., ::-1],
    "every other cell": spread,
    "gap after rows": gap_after_rows,
    "one image, broadcast": lambda array: np.broadcast_to(array[:1], array.shape),
    "one row, broadcast": lambda array: np.broadcast_to(array[..., :1], array.shape),
    "one cell, broadcast": lambda array: np.broadcast_to(array.flat[0], array.shape),
    "read-only": read_only,
    "unaligned": unaligned,
    "byte-swapped": lambda array: array.astype(array.dtype.newbyteorder()),
    "byte-swapped, unaligned": lambda a: unaligned(a.astype(a.dtype.newbyteorder())),
}

CASES = {"crooked": CROOKED, "plain": PLAIN, "line": Case((2, 2, 9), (3, 2, 3), 2, 1)}


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize(("name", "argument"), ARGUMENTS)
def test_odd_arrays(case, name, argument, odd, dtype):
    call = calls(case, dtype)[name]
    array = ODD[odd](call.arrays[argument])
    plain = np.array(array, dtype, order="C")
    before = array.tobytes()
    for got, wanted in zip(
        call.results(**{argument: array}), call.results(**{argument: plain}), strict=True
    ):
        tolerance = 20 * np.finfo(dtype).eps * abs(wanted).max()
        np.testing.assert_allclose(got, wanted, rtol=0, atol=tolerance)
        assert_plain(got, dtype)
    assert array.tobytes() == before


@pytest.mark.parametrize("name", NAMES)
def test_results_are_new_and_inputs_stay(case, name):
    """Even where a 1x1 kernel makes the result the input, or nothing but a reshape of it."""
    call = calls(case)[name]
    before = {argument: array.tobytes() for argument, array in call.arrays.items()}
    results = call.results()
    for result in results:
        assert_plain(result, np.float64)
        assert not any(np.shares_memory(result, array) for array in call.arrays.values())
        result[...] = np.nan
    assert before == {argument: array.tobytes() for argument, array in call.arrays.items()}
    for once, again in zip(call.results(), call.results(), strict=True):
        assert not np.isnan(once).any()
        assert not np.shares_memory(once, again)


@pytest.mark.parametrize("case", [CROOKED, PLAIN], ids=["crooked", "plain"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_no_images(case, dtype):
    empty = Case((0, *case.x_shape[1:]), case.w_shape, **case.options)
    x, w, b, dy = empty.arrays(dtype)
    out, cache = cyconv.conv_forward(x, w, b, **case.options)
    assert out.shape == dy.shape
    assert_plain(out, dtype)
    dx, dw, db = cyconv.conv_backward(dy, cache)
    assert dx.shape == x.shape
    np.testing.assert_array_equal(dw, np.zeros_like(w))
    np.testing.assert_array_equal(db, np.zeros_like(b))
    assert cyconv.conv(x, w, b, **case.options).shape == dy.shape
    assert cyconv.conv_input_grad(dy, w, x.shape, **case.options).shape == x.shape
    dw = cyconv.conv_weight_grad(dy, x, w.shape, **case.options)
    np.testing.assert_array_equal(dw, np.zeros_like(w))
    cols = cyconv.im2col(x, case.kernel, **case.geometry)
    assert cols.shape == reference.im2col(x, case.kernel, **case.geometry).shape
    assert cyconv.col2im(cols, x.shape[2:], case.kernel, **case.geometry).shape == x.shape


@pytest.mark.parametrize(("channels", "groups"), [(1, 1), (2, 1), (3, 1), (4, 4)])
def test_bits_of_small_convolutions_do_not_depend_on_how_arrays_lie(rng, channels, groups):
    """Nor on `out`: what is one compiled call for some arrays must be for all."""
    x = rng.standard_normal((2, channels, 13, 12)).astype(np.float32)
    w = rng.standard_normal((4, channels // groups, 3, 3)).astype(np.float32)
    b = rng.standard_normal(4).astype(np.float32)
    options = {"padding": 1, "groups": groups}
    y = cyconv.conv(x, w, b, **options)
    dw = cyconv.conv_weight_grad(y, x, w.shape, **options)
    dx = cyconv.conv_input_grad(y, w, x.shape, **options)
    other, dy = np.asfortranarray(x), np.asfortranarray(y)
    for again, wanted in (
        (cyconv.conv(other, w, b, **options), y),
        (cyconv.conv(x, w, b, out=np.empty_like(y), **options), y),
        (cyconv.conv_weight_grad(y, other, w.shape, **options), dw),
        (cyconv.conv_weight_grad(y, x, w.shape, out=np.empty_like(dw), **options), dw),
        (cyconv.conv_input_grad(dy, w, x.shape, **options), dx),
        (cyconv.conv_input_grad(y, w, x.shape, out=np.empty_like(dx), **options), dx),
    ):
        np.testing.assert_array_equal(again, wanted)
