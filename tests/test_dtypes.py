"""Which dtype comes out, and which ones do not go in."""

import numpy as np
import pytest
import reference
from calls import ARGUMENTS, CROOKED, NAMES, PLAIN, assert_plain, calls, spoken
from strategies import Case

import cyconv

# The dtypes of x, w and b, and that of the result.
PROMOTIONS = [
    ("f4", "f4", "f4", "f4"),
    ("f8", "f8", "f8", "f8"),
    ("f8", "f4", "f4", "f8"),
    ("f4", "f8", "f4", "f8"),
    ("f4", "f4", "f8", "f8"),
    (">f4", "<f4", ">f4", "f4"),
    ("f2", "f4", "f4", "f4"),
    ("f4", "f2", "f2", "f4"),
    ("f2", "i4", "i4", "f8"),
    ("i1", "f4", "f4", "f4"),
    ("u2", "f4", "?", "f4"),
    ("i4", "f4", "f4", "f8"),
    ("f4", "f4", "i8", "f8"),
    ("?", "f4", "f4", "f4"),
    ("i8", "i8", "i8", "f8"),
    ("u1", "u1", "u1", "f8"),
    ("?", "?", "?", "f8"),
    ("f2", "f2", "f2", "f2"),
    (">f2", "<f2", "f2", "f2"),
    ("f2", "i1", "?", "f2"),
    ("u1", "f2", "f2", "f2"),
    ("f2", "i2", "f2", "f4"),
]


@pytest.mark.parametrize(("x_type", "w_type", "b_type", "result_type"), PROMOTIONS)
@pytest.mark.parametrize("case", [CROOKED, PLAIN], ids=["crooked", "plain"])
def test_dtypes(case, x_type, w_type, b_type, result_type):
    types = [x_type, w_type, b_type]
    x, w, b, dy = (
        abs(array).astype(dtype)
        for array, dtype in zip(case.integers(), [*types, result_type], strict=True)
    )
    wanted = reference.conv(x, w, b, **case.options)
    out, cache = cyconv.conv_forward(x, w, b, **case.options)
    for y in (cyconv.conv(x, w, b, **case.options), out):
        assert_plain(y, result_type)
        np.testing.assert_array_equal(y, wanted)
    # The gradients have the dtype of the output, whatever dout comes as.
    for dout in (dy, dy.astype("f8"), dy.astype("f4"), dy.astype("i4"), dy.astype("?")):
        dx, dw, db = cyconv.conv_backward(dout, cache)
        for gradient in (dx, dw, db):
            assert_plain(gradient, result_type)
        np.testing.assert_array_equal(
            dx, reference.conv_input_grad(dout, w, x.shape, **case.options)
        )
        np.testing.assert_array_equal(
            dw, reference.conv_weight_grad(dout, x, w.shape, **case.options)
        )


@pytest.mark.parametrize(
    ("dy_type", "other_type", "result_type"),
    [
        ("f4", "f4", "f4"),
        ("f8", "f8", "f8"),
        ("f4", "f8", "f8"),
        ("f8", "f4", "f8"),
        ("<f4", ">f4", "f4"),
        ("f4", "f2", "f4"),
        ("i2", "f4", "f4"),
        ("f4", "i4", "f8"),
        ("?", "i1", "f8"),
        ("f2", "f2", "f2"),
        ("i1", "f2", "f2"),
        ("f2", "i4", "f8"),
    ],
)
def test_dtypes_of_the_adjoints(dy_type, other_type, result_type):
    x, w, _, dy = (abs(array) for array in CROOKED.integers())
    options = CROOKED.options
    dy, x, w = dy.astype(dy_type), x.astype(other_type), w.astype(other_type)
    dx = cyconv.conv_input_grad(dy, w, x.shape, **options)
    dw = cyconv.conv_weight_grad(dy, x, w.shape, **options)
    assert_plain(dx, result_type)
    assert_plain(dw, result_type)
    np.testing.assert_array_equal(dx, reference.conv_input_grad(dy, w, x.shape, **options))
    np.testing.assert_array_equal(dw, reference.conv_weight_grad(dy, x, w.shape, **options))


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f2", ">f4", "i1", "i8", "u4", "?"])
def test_dtypes_of_the_lowerings(dtype):
    x, *_ = CROOKED.integers(dtype)
    kernel, options = CROOKED.kernel, CROOKED.geometry
    result = dtype[-2:] if dtype[-2:] in ("f2", "f4") else "f8"
    cols = cyconv.im2col(x, kernel, **options)
    assert_plain(cols, result)
    np.testing.assert_array_equal(cols, reference.im2col(x, kernel, **options))
    dx = cyconv.col2im(cols.astype(dtype), x.shape[2:], kernel, **options)
    assert_plain(dx, result)
    cols = cols.astype(dtype)
    np.testing.assert_array_equal(dx, reference.col2im(cols, x.shape[2:], kernel, **options))


@pytest.mark.parametrize("name", NAMES)
def test_lists(name):
    call = calls()[name]
    lists = {argument: array.tolist() for argument, array in call.arrays.items()}
    for got, wanted in zip(call.results(**lists), call.results(), strict=True):
        np.testing.assert_array_equal(got, wanted)


def not_numbers(array):
    return {
        "complex": array.astype(complex),
        "complex64": array.astype(np.complex64),
        "longdouble": array.astype(np.longdouble),
        "object": array.astype(object),
        "strings": array.astype(str),
        "bytes": array.astype(bytes),
        "dates": array.astype("M8[s]"),
        "durations": array.astype("m8[s]"),
        "records": array.astype([("cell", array.dtype)]),
        "a string": "image",
        "a dict": {},
    }


@pytest.mark.parametrize("what", not_numbers(np.zeros(3)))
@pytest.mark.parametrize(("name", "argument"), ARGUMENTS)
def test_not_numbers(name, argument, what):
    call = calls()[name]
    array = not_numbers(call.arrays[argument])[what]
    if what == "longdouble" and array.dtype == np.float64:
        pytest.skip("longdouble is float64 here")
    with pytest.raises(TypeError, match=spoken(argument)):
        call(**{argument: array})


@pytest.mark.parametrize(("name", "argument"), [row for row in ARGUMENTS if row[1] != "b"])
def test_none_is_no_array(name, argument):
    with pytest.raises(TypeError, match=spoken(argument)):
        calls()[name](**{argument: None})


HALF = {
    "crooked": CROOKED,
    "plain": PLAIN,
    "tutorial": Case((5, 1, 10, 10), (20, 1, 3, 3), padding=1),
    "many channels": Case((2, 64, 14, 14), (64, 64, 3, 3), padding=1),
    "line": Case((3, 4, 900), (4, 2, 5), stride=2, groups=2),
}


@pytest.mark.parametrize("name", HALF)
def test_float16_is_computed_in_float32(name):
    """What comes back is the exact result, rounded once: within half a unit, and what float32
    makes of it."""
    case = HALF[name]
    for function, call in calls(case, np.float16).items():
        exact = calls(case, np.float16)[function]
        arrays = {argument: np.float64(array) for argument, array in exact.arrays.items()}
        for got, wanted in zip(call.results(), exact.results(**arrays), strict=True):
            assert_plain(got, np.float16)
            near = 2.0**-11 * 1.01 * abs(wanted) + 2e-6 * abs(wanted).max(initial=0) + 2.0**-24
            assert (abs(got - wanted) <= near).all(), function


def test_float16_overflows_to_infinity_without_a_warning():
    x = np.full((1, 1, 4, 4), 300, np.float16)
    assert np.isposinf(cyconv.conv(x, x)).all()
    cols = np.full((1, 2, 2), 6e4, np.float16)
    assert cyconv.col2im(cols, (3,), 2).tolist() == [[[np.float16(6e4), np.inf, np.float16(6e4)]]]
