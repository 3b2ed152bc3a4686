"""`need` and the shapes of b in the tutorial's functions; `out` in the others."""

import itertools

import numpy as np
import pytest
import reference
from calls import CROOKED, PLAIN, calls
from strategies import Case

import cyconv

GRADIENTS = ("X", "W", "b")
WITH_OUT = ["conv", "conv_input_grad", "conv_weight_grad"]


@pytest.fixture(params=["crooked", "plain"])
def case(request):
    return {"crooked": CROOKED, "plain": PLAIN}[request.param]


def test_b_may_be_a_column(case):
    """The tutorial's b has shape (F, 1); so then has db."""
    x, w, b, dy = case.arrays()
    out, cache = cyconv.conv_forward(x, w, b, **case.options)
    *_, db = cyconv.conv_backward(dy, cache)
    out_column, cache = cyconv.conv_forward(x, w, b[:, None], **case.options)
    *_, db_column = cyconv.conv_backward(dy, cache)
    np.testing.assert_array_equal(out_column, out)
    np.testing.assert_array_equal(db_column, db[:, None])
    assert (db.shape, db_column.shape) == (b.shape, (len(b), 1))


def test_column_b_only_in_the_tutorials_functions(case):
    x, w, b, _ = case.arrays()
    with pytest.raises(ValueError, match=r"\bb\b"):
        cyconv.conv(x, w, b[:, None], **case.options)


def test_without_b(case):
    x, w, _, dy = case.arrays()
    out, cache = cyconv.conv_forward(x, w, **case.options)
    np.testing.assert_array_equal(out, cyconv.conv(x, w, **case.options))
    dx, dw, db = cyconv.conv_backward(dy, cache)
    assert (dx.shape, dw.shape, db) == (x.shape, w.shape, None)


@pytest.mark.parametrize("container", [tuple, list, set, iter])
@pytest.mark.parametrize(
    "need", [need for r in range(4) for need in itertools.combinations(GRADIENTS, r)]
)
def test_need(case, need, container):
    x, w, b, dy = case.arrays()
    _, cache = cyconv.conv_forward(x, w, b, **case.options)
    everything = cyconv.conv_backward(dy, cache)
    got = cyconv.conv_backward(dy, cache, need=container(need))
    for name, part, wanted in zip(GRADIENTS, got, everything, strict=True):
        if name in need:
            np.testing.assert_array_equal(part, wanted)
        else:
            assert part is None


@pytest.mark.parametrize("need", [("Z",), ("X", "w"), ("X", "W", "b", "dout"), ("",)])
def test_unknown_need(case, need):
    x, w, b, dy = case.arrays()
    _, cache = cyconv.conv_forward(x, w, b, **case.options)
    with pytest.raises(ValueError, match="need") as error:
        cyconv.conv_backward(dy, cache, need=need)
    assert repr((set(need) - set(GRADIENTS)).pop()) in str(error.value)


def test_a_cache_serves_many_backward_passes(case):
    x, w, b, dy = case.arrays()
    _, cache = cyconv.conv_forward(x, w, b, **case.options)
    first = cyconv.conv_backward(dy, cache)
    cyconv.conv_backward(2 * dy, cache)
    for again, wanted in zip(cyconv.conv_backward(dy, cache), first, strict=True):
        np.testing.assert_array_equal(again, wanted)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", WITH_OUT)
def test_out(case, name, dtype):
    call = calls(case, dtype)[name]
    wanted = call()
    out = np.full_like(wanted, np.nan)
    assert call(out=out) is out
    np.testing.assert_array_equal(out, wanted)


@pytest.mark.parametrize("name", WITH_OUT)
def test_out_may_be_unaligned_or_a_file(case, name, tmp_path):
    call = calls(case)[name]
    wanted = call()
    memory = np.zeros(wanted.nbytes + 1, np.uint8)
    unaligned = memory[1:].view(wanted.dtype).reshape(wanted.shape)
    file = np.memmap(tmp_path / "out", wanted.dtype, "w+", shape=wanted.shape)
    for out in (unaligned, file):
        assert call(out=out) is out
        np.testing.assert_array_equal(out, wanted)


@pytest.mark.parametrize("name", WITH_OUT)
def test_out_is_optional_and_empty_is_fine(name):
    empty = calls(Case((0, 2, 4, 5), (3, 2, 3, 3)))[name]
    out = np.full_like(empty(), np.nan)
    assert empty(out=out) is out
    assert not np.isnan(out).any()
    np.testing.assert_array_equal(empty(out=None), out)


def wrong_outs(wanted):
    """Arrays that a result like `wanted` must not be written to."""
    doubled = np.zeros((*wanted.shape[:-1], wanted.shape[-1] * 2))
    backwards = np.zeros_like(wanted)[::-1]
    read_only = np.zeros_like(wanted)
    read_only.flags.writeable = False
    return {
        "one row short": np.zeros_like(wanted)[:-1],
        "flat": np.zeros(wanted.size),
        "an axis too many": np.zeros((1, *wanted.shape)),
        "broadcastable": np.zeros((2, *wanted.shape)),
        "float32": np.zeros(wanted.shape, np.float32),
        "integers": np.zeros(wanted.shape, np.int64),
        "complex": np.zeros(wanted.shape, complex),
        "byte-swapped": np.zeros(wanted.shape, wanted.dtype.newbyteorder()),
        "Fortran": np.asfortranarray(np.zeros_like(wanted)),
        "every other cell": doubled[..., ::2],
        "backwards": backwards,
        "read-only": read_only,
        "one cell, broadcast": np.broadcast_to(0.0, wanted.shape),
    }


@pytest.mark.parametrize("what", wrong_outs(np.zeros((2, 2))))
@pytest.mark.parametrize("name", WITH_OUT)
def test_wrong_out(case, name, what):
    call = calls(case)[name]
    out = wrong_outs(call())[what]
    with pytest.raises(ValueError, match=r"\bout\b"):
        call(out=out)
    assert not out.any()


@pytest.mark.parametrize("name", WITH_OUT)
def test_out_is_an_array(case, name):
    call = calls(case)[name]
    with pytest.raises((TypeError, ValueError), match=r"\bout\b"):
        call(out=call().tolist())


# Here x, y and w, flattened, have the same size: any of them could be mistaken for the result.
SAME_SIZE = Case((6, 6, 1, 1), (6, 6, 1, 1))


@pytest.mark.parametrize(
    ("name", "argument"),
    [(name, argument) for name in WITH_OUT for argument in calls(SAME_SIZE)[name].arrays],
)
@pytest.mark.parametrize("shift", [0, 1, -1])
def test_out_shares_memory_with_an_input(name, argument, shift):
    call = calls(SAME_SIZE)[name]
    array = call.arrays[argument]
    memory = np.zeros(40)
    start = 2 if array.size > 6 else 20
    inside = memory[start : start + array.size].reshape(array.shape)
    inside[...] = array
    out = memory[2 + shift : 38 + shift].reshape(6, 6, 1, 1)
    before = memory.copy()
    with pytest.raises(ValueError, match=r"\bout\b"):
        call(**{argument: inside}, out=out)
    np.testing.assert_array_equal(memory, before)


@pytest.mark.parametrize("name", WITH_OUT)
def test_out_between_the_rows_of_an_input(name):
    """The two lie within each other's bounds and yet share nothing."""
    call = calls(SAME_SIZE)[name]
    argument, array = next(iter(call.arrays.items()))
    memory = np.zeros((6, 100))
    apart = memory[:, :6].reshape(array.shape)
    apart[...] = array
    assert np.shares_memory(apart, memory)
    out = memory[2, 50:86].reshape(6, 6, 1, 1)
    wanted = call()
    assert call(**{argument: apart}, out=out) is out
    np.testing.assert_array_equal(out, wanted)


@pytest.mark.parametrize("name", WITH_OUT)
def test_out_is_untouched_when_another_argument_is_wrong(case, name):
    call = calls(case)[name]
    out = np.full_like(call(), 7.0)
    with pytest.raises(ValueError, match="stride"):
        call(stride=0, out=out)
    with pytest.raises(ValueError, match="algorithm"):
        call(algorithm="magic", out=out)
    assert (out == 7.0).all()


@pytest.mark.parametrize("algorithm", ["auto", "gemm", "direct"])
@pytest.mark.parametrize("groups", [1, 4])
def test_cells_that_no_output_reads_have_no_gradient(algorithm, groups):
    """Whatever `out` held there."""
    case = Case((2, 4, 11, 13), (8, 4 // groups, 2, 2), 3, groups=groups)
    _, w, _, dy = case.integers()
    options = {**case.options, "algorithm": algorithm}
    out = np.full(case.x_shape, np.nan)
    cyconv.conv_input_grad(dy, w, case.x_shape, **options, out=out)
    np.testing.assert_array_equal(
        out, reference.conv_input_grad(dy, w, case.x_shape, **case.options)
    )
