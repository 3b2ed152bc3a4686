"""Convolutions in chunks are those of the whole."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import Case, cases

import cyconv

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")

from cyconv.interop import dask as chunked  # noqa: E402


@pytest.fixture(autouse=True, scope="module")
def _synchronous():
    with dask.config.set(scheduler="synchronous"):
        yield


def cut(array, seed):
    """In chunks at random, of every axis."""
    rng = np.random.default_rng(seed)
    chunks = []
    for size in array.shape:
        ends = rng.integers(0, size + 1, rng.integers(0, 3))
        ends = [0, *np.unique(ends[(ends > 0) & (ends < size)]), size]
        chunks.append(tuple(int(b - a) for a, b in itertools.pairwise(ends)))
    return da.from_array(array, chunks=tuple(chunks))


def assert_same(got, wanted):
    """What is computed has the dtype and the shape that were told before, and is right."""
    result = got.compute()
    assert result.dtype == got.dtype
    assert result.shape == got.shape
    np.testing.assert_array_equal(result, wanted, strict=True)


def check(x, w, b, options, seed=0):
    """All three functions against those of NumPy; arrays are of integers, so sums are exact."""
    y = cyconv.conv(x, w, b, **options)
    got = chunked.conv(cut(x, seed), w, b, **options)
    assert_same(got, y)
    dy = np.random.default_rng(seed).integers(-4, 5, y.shape).astype(y.dtype)
    dx = chunked.conv_input_grad(cut(dy, seed + 1), w, x.shape, **options)
    assert_same(dx, cyconv.conv_input_grad(dy, w, x.shape, **options))
    dw = chunked.conv_weight_grad(cut(dy, seed + 2), cut(x, seed + 3), w.shape, **options)
    assert_same(dw, cyconv.conv_weight_grad(dy, x, w.shape, **options))
    assert dw.npartitions == 1


@settings(max_examples=25)
@given(cases(spare=9), st.integers(0, 9))
def test_any_case(case, seed):
    x, w, b, _ = case.integers()
    check(x, w, b, case.options, seed)


IMAGE = Case((2, 4, 11, 13), (6, 2, 3, 2), (2, 1), ((1, 0), (2, 1)), (1, 2), groups=2)
MODES = ["reflect", "symmetric", "replicate", "circular"]
WIDE = ((10, 3), (0, 12))  # as wide as reflect may be
MORE = [
    *({"padding_mode": mode} for mode in MODES),
    *({"padding_mode": mode, "padding": WIDE} for mode in MODES),
    *({"padding": padding} for padding in ["same", "same_lower", "valid", 3, [1, (0, 2)]]),
    {"padding": np.array([1, 2]), "stride": np.array([1, 2])},
    {"padding": "same", "padding_mode": "reflect", "dilation": 1},
    {"stride": 7},
    {"stride": (100, 5)},
    {"padding": 9, "stride": 4},  # windows that read padding alone
    {"data_format": "channels_last"},
    {"data_format": "channels_last", "padding_mode": "circular"},
    {"algorithm": "gemm"},
]


@pytest.mark.parametrize("more", MORE, ids=str)
def test_options(more):
    x, w, b, _ = IMAGE.integers()
    if more.get("data_format"):
        x = np.moveaxis(x, 1, -1)
    check(x, w, b, {**IMAGE.options, **more})


@pytest.mark.parametrize("data_format", ["channels_first", "channels_last"])
def test_without_a_batch(data_format):
    x, w, b, _ = IMAGE.integers()
    x = np.moveaxis(x[0], 0, -1) if data_format == "channels_last" else x[0]
    check(x, w, b, {**IMAGE.options, "data_format": data_format})


def test_causal():
    case = Case((2, 2, 17), (3, 2, 3), dilation=2)
    x, w, b, _ = case.integers()
    check(x, w, b, {**case.options, "padding": "causal"})


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int8, bool])
def test_dtypes(rng, dtype):
    x = rng.integers(0, 2, (2, 3, 9, 8)).astype(dtype)
    w = rng.integers(0, 2, (4, 3, 3, 3)).astype(dtype)
    check(x, w, np.zeros(4, dtype), {})


def test_gradients_of_integers(rng):
    """They are float64, as cyconv has it, and so are the sums."""
    x, dy = rng.integers(0, 2**30, (2, 3, 9)), rng.integers(0, 2**20, (2, 4, 7), dtype=np.int32)
    w = rng.integers(0, 9, (4, 3, 3))
    dw = chunked.conv_weight_grad(cut(dy, 1), cut(x, 2), w.shape)
    assert_same(dw, cyconv.conv_weight_grad(dy, x, w.shape))
    assert dw.dtype == np.float64
    dx = chunked.conv_input_grad(cut(dy, 1), w, x.shape)
    assert_same(dx, cyconv.conv_input_grad(dy, w, x.shape))


def test_mixed_dtypes(rng):
    x, w = rng.integers(-3, 4, (2, 1, 3, 9)).astype(np.float32)[0], np.ones((2, 3, 3))
    check(x, w, None, {})  # float64
    check(x, w.astype(np.float32), np.ones(2), {})  # by b alone


def test_float16_is_summed_in_float32():
    """2,049 - 2,048: float16 has no 2,049."""
    dy = da.ones((1, 1, 4097), chunks=(1, 1, (2049, 2048)), dtype=np.float16)
    x = da.where(da.arange(4097, chunks=dy.chunks[2]) < 2049, np.float16(1), np.float16(-1))
    dw = chunked.conv_weight_grad(dy, x[np.newaxis, np.newaxis], (1, 1, 1))
    assert_same(dw, np.ones((1, 1, 1), np.float16))


def test_chunks_of_dy_need_not_be_those_of_x():
    x, w, _, dy = IMAGE.integers()
    wanted = cyconv.conv_weight_grad(dy, x, w.shape, **IMAGE.options)
    for in_x, in_dy in [((2, 4, 5, 6), (1, 6, 2, 5)), ((1, 2, 9, 13), (2, 3, 1, 1))]:
        x, dy = da.asarray(x).rechunk(in_x), da.asarray(dy).rechunk(in_dy)
        assert_same(chunked.conv_weight_grad(dy, x, w.shape, **IMAGE.options), wanted)


def test_weights_may_be_chunked(rng):
    x, w, b, _ = IMAGE.integers()
    y = chunked.conv(cut(x, 1), cut(w, 2), cut(b, 3), **IMAGE.options)
    assert_same(y, cyconv.conv(x, w, b, **IMAGE.options))


def test_within_threads(rng):
    x, w = rng.integers(-3, 4, (2, 3, 40, 50)).astype(float), np.ones((4, 3, 3, 3))
    y = chunked.conv(da.from_array(x, chunks=(1, 3, 10, 10)), w, padding=1)
    wanted = cyconv.conv(x, w, padding=1)
    np.testing.assert_array_equal(y.compute(scheduler="threads"), wanted)


def test_chunks_stay_what_they_are():
    x = da.zeros((4, 2, 100, 90), chunks=(2, 1, (30, 50, 20), 45))
    y = chunked.conv(x, np.zeros((3, 2, 5, 5)), padding=2)
    assert y.chunks == ((2, 2), (3,), (30, 50, 20), (45, 45))
    dx = chunked.conv_input_grad(y, np.zeros((3, 2, 5, 5)), x.shape, padding=2)
    assert dx.chunks == ((2, 2), (2,), (30, 50, 20), (45, 45))
    y = chunked.conv(x, np.zeros((3, 2, 4, 4)), stride=2, padding=1)
    assert y.chunks == ((2, 2), (3,), (15, 25, 10), (23, 22))


def test_of_its_neighbours_a_chunk_reads_only_what_it_needs():
    """No more than nine chunks are made."""
    made = []

    def make(block_id):
        made.append(block_id)
        return np.ones((1, 1, 100, 100), np.float32)

    chunks = ((1,), (1,), *[(100,) * 9] * 2)
    meta = np.empty((0,) * 4, np.float32)
    x = da.map_blocks(make, chunks=chunks, meta=meta, dtype=np.float32)
    y = chunked.conv(x, np.ones((1, 1, 5, 5), np.float32), padding=2)
    part = y.blocks[0, 0, 3, 6].compute()
    np.testing.assert_array_equal(part, np.full((1, 1, 100, 100), 25))
    near = itertools.product([0], [0], [2, 3, 4], [5, 6, 7])
    assert sorted(made) == sorted(near)


def test_a_halo_does_not_keep_the_chunk_that_it_is_of():
    chunk = np.arange(100)
    halo = chunked._detached(chunk[:5])
    assert halo.base is None
    np.testing.assert_array_equal(halo, chunk[:5])
    assert chunked._detached(chunk[5:]).base is chunk  # most of it: a copy would be dear
    assert chunked._detached(chunk) is chunk


def test_the_weight_gradient_is_summed_in_a_tree():
    """No task waits for all chunks."""
    x = da.zeros((1, 1, 256, 256), chunks=(1, 1, 32, 32))
    dw = chunked.conv_weight_grad(x, x, (1, 1, 3, 3), padding=1)
    graph = dict(dw.__dask_graph__())
    waits = [len(dask.core.get_dependencies(graph, key)) for key in graph]
    assert max(waits) <= 16


def test_wrong_arguments_are_refused_before_anything_is_computed():
    x, w = da.zeros((2, 3, 9), chunks=4), np.zeros((4, 3, 3))
    y = chunked.conv(x, w)
    with pytest.raises(ValueError, match="channels"):
        chunked.conv(x, w[:, :2])
    with pytest.raises(TypeError, match="stride"):
        chunked.conv(x, w, stride=1.5)
    with pytest.raises(ValueError, match="b must have shape"):
        chunked.conv(x, w, np.zeros(3))
    with pytest.raises(ValueError, match=r"dy must have the shape of the output, \(0, 4, 7\)"):
        chunked.conv_input_grad(y[..., 1:], w, x.shape)
    with pytest.raises(ValueError, match="got 1 and 2"):
        chunked.conv_input_grad(y[1:], w, x.shape)
    with pytest.raises(ValueError, match="got 1 and 2"):
        chunked.conv_weight_grad(y[1:], x, w.shape)
    with pytest.raises(ValueError, match="compute_chunk_sizes"):
        chunked.conv(x[:, :, x[0, 0] == 0], w)
