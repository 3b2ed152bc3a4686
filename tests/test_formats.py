"""channels_last and unbatched x: the same numbers as channels_first and a batch of one."""

import tracemalloc

import numpy as np
import pytest
from builds import forget_plans
from calls import CROOKED, PLAIN, calls
from hypothesis import given
from hypothesis import strategies as st
from strategies import Case, cases

import cyconv
import cyconv.blocks
from cyconv import prepare, rows, tiling
from cyconv.algorithms import products
from cyconv.kernels import VECTOR

WITH_FORMAT = ["conv", "conv_input_grad", "conv_weight_grad", "conv_forward", "conv_backward"]
IMAGES = ("x", "X", "dy", "dout")
# Which results are images: of conv_backward, the first.
RESULTS = {"conv_weight_grad": (), "conv_backward": (0,)}

CASES = {
    "crooked": CROOKED,
    "plain": PLAIN,
    "tutorial": Case((5, 1, 10, 10), (20, 1, 3, 3), padding=1),
    "line": Case((3, 4, 900), (4, 2, 5), stride=2, groups=2),
    "pointwise": Case((4, 64, 14, 15), (48, 64, 1, 1)),
    "few positions": Case((1, 64, 2, 1), (48, 64, 1, 1)),
    "depthwise": Case((3, 8, 12, 11), (8, 1, 3, 3), padding=1, groups=8),
    "volume": Case((2, 3, 5, 6, 7), (4, 3, 2, 3, 1), padding=1),
    "many channels": Case((2, 64, 14, 14), (64, 64, 3, 3), padding=1),
    "wide filters": Case((1, 40, 21, 19), (70, 40, 3, 3), padding=1),
    "one long row": Case((1, 40, 3, 2000), (8, 40, 1, 3)),
}


def last(array):
    """(N, C, *spatial) -> (N, *spatial, C), in memory too."""
    return np.ascontiguousarray(np.moveaxis(array, 1, -1))


def in_last(call, arrays, options):
    """The call's arguments in channels_last."""
    arrays = {name: last(a) if name in IMAGES else a for name, a in arrays.items()}
    if "x_shape" in options:
        n, c, *size = options["x_shape"]
        options = {**options, "x_shape": (n, *size, c)}
    return call.function(**arrays, **options, data_format="channels_last")


def assert_same_in_last(name, call, dtype, exact):
    results = in_last(call, call.arrays, call.options)
    results = results if isinstance(results, tuple) else (results,)
    for i, (got, wanted) in enumerate(zip(results, call.results(), strict=True)):
        wanted = last(wanted) if i in RESULTS.get(name, (0,)) else wanted
        assert got.flags.c_contiguous
        assert got.dtype == wanted.dtype == dtype
        assert got.shape == wanted.shape
        if exact:
            np.testing.assert_array_equal(got, wanted)
        else:
            tolerance = 64 * np.finfo(dtype).eps * abs(wanted).max(initial=0)
            np.testing.assert_allclose(got, wanted, rtol=0, atol=tolerance)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("name", WITH_FORMAT)
@pytest.mark.parametrize("case", CASES)
def test_channels_last(case, name, dtype):
    assert_same_in_last(name, calls(CASES[case], dtype)[name], dtype, exact=False)


@given(cases(), st.sampled_from(["zeros", "replicate"]))
def test_channels_last_is_channels_first(case, mode):
    for name in WITH_FORMAT:
        call = calls(case)[name]
        call.options["padding_mode"] = mode
        assert_same_in_last(name, call, np.float64, exact=False)


@pytest.mark.skipif(not VECTOR, reason="what reads images as they lie is on the fast road")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("algorithm", ["direct", "winograd"])
@pytest.mark.parametrize("case", ["tutorial", "many channels", "wide filters"])
def test_read_as_they_lie(case, algorithm, dtype):
    """No images are converted, and sums are the same, so the results are, to the bit."""
    for name in ("conv", "conv_input_grad", "conv_weight_grad"):
        call = calls(CASES[case], dtype)[name]
        call.options["algorithm"] = algorithm
        assert_same_in_last(name, call, dtype, exact=True)
    x_shape, w_shape = CASES[case].x_shape, CASES[case].w_shape
    x_last = (x_shape[0], *x_shape[2:], x_shape[1])
    options = (1, 1, 1, 1, "zeros", "channels_last", algorithm)
    for pass_ in ("forward", "input_grad", "weight_grad"):
        shapes = x_last, w_shape, None
        made = prepare.prepare(pass_, shapes, options, ("x",), (np.dtype(dtype),))
        assert made.detour is None


def test_blocks(monkeypatch):
    """Several blocks of images: the same results, and sums in the order of blocks."""
    case = Case((7, 6, 9, 8), (4, 3, 3, 3), padding=1, groups=2)
    wanted = {name: calls(case)[name].results() for name in WITH_FORMAT}
    halves = {name: calls(case, np.float16)[name].results() for name in WITH_FORMAT}
    monkeypatch.setattr(cyconv.blocks, "BLOCK_BYTES", 12_000)
    forget_plans()
    for name in WITH_FORMAT:
        call = calls(case)[name]
        for i, (got, result) in enumerate(
            zip(np.atleast_1d(in_last_list(call)), wanted[name], strict=True)
        ):
            result = last(result) if i in RESULTS.get(name, (0,)) else result
            np.testing.assert_allclose(got, result, rtol=1e-12, atol=1e-12)
        for got, result in zip(calls(case, np.float16)[name].results(), halves[name], strict=True):
            np.testing.assert_allclose(got, result, rtol=1e-3, atol=1e-2)
    made = cyconv.prepare._prepare_once(
        "forward",
        ((7, 9, 8, 6), (4, 3, 3, 3), None),
        (1, 1, 1, 2, "zeros", "channels_last", "auto"),
        ("x", "w"),
        (np.dtype(float),) * 2,
    )
    assert [part.stop - part.start for part in made.detour.parts] == [1, 2, 2, 2] or all(
        0 < part.stop - part.start < 3 for part in made.detour.parts
    )


def in_last_list(call):
    results = in_last(call, call.arrays, call.options)
    out = np.empty(len(results) if isinstance(results, tuple) else 1, object)
    out[:] = list(results) if isinstance(results, tuple) else [results]
    return out


@pytest.mark.parametrize("name", WITH_FORMAT)
@pytest.mark.parametrize("data_format", ["channels_first", "channels_last"])
@pytest.mark.parametrize("case", [CROOKED, PLAIN], ids=["crooked", "plain"])
def test_unbatched(case, name, data_format):
    """Without the batch axis: the numbers of a batch of one."""
    single = Case((1, *case.x_shape[1:]), case.w_shape, **case.options)
    call = calls(single)[name]
    call.options["data_format"] = data_format
    arrays, options = dict(call.arrays), dict(call.options)
    if data_format == "channels_last":
        arrays = {key: last(a) if key in IMAGES else a for key, a in arrays.items()}
        if "x_shape" in options:
            n, c, *size = options["x_shape"]
            options["x_shape"] = (n, *size, c)
    batched = call.function(**arrays, **options)
    arrays = {key: a[0] if key in IMAGES else a for key, a in arrays.items()}
    if "x_shape" in options:
        options["x_shape"] = options["x_shape"][1:]
    alone = call.function(**arrays, **options)
    batched, alone = (r if isinstance(r, tuple) else (r,) for r in (batched, alone))
    for i, (got, wanted) in enumerate(zip(alone, batched, strict=True)):
        wanted = wanted[0] if i in RESULTS.get(name, (0,)) else wanted
        np.testing.assert_array_equal(got, wanted, strict=True)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("name", WITH_FORMAT[:3])
@pytest.mark.parametrize("case", ["crooked", "plain"])
def test_out(case, name, dtype):
    call = calls(CASES[case], dtype)[name]
    wanted = in_last(call, call.arrays, call.options)
    out = np.full_like(wanted, np.nan)
    call.options["out"] = out
    assert in_last(call, call.arrays, call.options) is out
    np.testing.assert_array_equal(out, wanted)
    memory = np.zeros(wanted.nbytes + 1, np.uint8)
    unaligned = memory[1:].view(wanted.dtype).reshape(wanted.shape)
    call.options["out"] = unaligned
    assert in_last(call, call.arrays, call.options) is unaligned
    np.testing.assert_array_equal(unaligned, wanted)


@pytest.mark.parametrize("odd", ["reversed", "broadcast", "swapped", "first"])
@pytest.mark.parametrize("case", ["crooked", "plain"])
def test_odd_arrays(case, odd):
    x, w, b, dy = CASES[case].arrays()
    x, dy = last(x), last(dy)
    options = {**CASES[case].options, "data_format": "channels_last"}
    odd = {
        "reversed": lambda a: a[:, ::-1, :, ::-1].copy()[:, ::-1, :, ::-1],
        "broadcast": lambda a: np.broadcast_to(a[:1], a.shape),
        "swapped": lambda a: a.astype(a.dtype.newbyteorder()),
        "first": lambda a: np.moveaxis(np.moveaxis(a, -1, 1).copy(), 1, -1),
    }[odd]
    for function, arrays, rest in [
        (cyconv.conv, (x, w, b), ()),
        (cyconv.conv_input_grad, (dy, w), (x.shape,)),
        (cyconv.conv_weight_grad, (dy, x), (w.shape,)),
    ]:
        given = [odd(a) if a.ndim == 4 and a is not w else a for a in arrays]
        plain = [np.array(a, np.float64, order="C") for a in given]
        got = function(*given, *rest, **options)
        np.testing.assert_allclose(got, function(*plain, *rest, **options), atol=1e-12)


def test_threads_make_no_difference():
    before = cyconv.get_num_threads()
    results = []
    for threads in (1, 2, 5):
        cyconv.set_num_threads(threads)
        made = []
        for case in (CASES["many channels"], CASES["pointwise"]):
            for dtype in (np.float16, np.float32):
                for name in WITH_FORMAT:
                    call = calls(case, dtype)[name]
                    made += [*in_last_list(call), *call.results()]
        results.append(made)
    cyconv.set_num_threads(before)
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_no_images():
    x, w, dy = np.ones((0, 6, 7, 4)), np.ones((6, 4, 3, 3)), np.ones((0, 4, 5, 6))
    for options in ({"data_format": "channels_last"},):
        assert cyconv.conv(x, w, **options).shape == dy.shape
        assert cyconv.conv_input_grad(dy, w, x.shape, **options).shape == x.shape
        assert not cyconv.conv_weight_grad(dy, x, w.shape, **options).any()
        *_, db = cyconv.conv_backward(dy, cyconv.conv_forward(x, w, np.ones(6), 1, 0, **options)[1])
        assert db.tolist() == [0] * 6


@pytest.mark.parametrize("options", [{}, {"data_format": "channels_last"}])
def test_no_whole_array_is_converted(options):
    """Blocks of 32 MB at most, for arrays of which float32 copies would take 200."""
    shape = (48, 160, 160, 20) if options else (48, 20, 160, 160)
    x, w = np.zeros(shape, np.float16), np.zeros((20, 1, 3, 3), np.float16)
    options = {"padding": 1, "groups": 20, **options}
    limit = (32 << 20) + (16 << 20)  # and what an algorithm needs for itself
    for run in (
        lambda: cyconv.conv(x, w, **options),
        lambda: cyconv.conv_input_grad(x, w, x.shape, **options),
        lambda: cyconv.conv_weight_grad(x, x, w.shape, **options),
    ):
        tracemalloc.start()
        result = run()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < result.nbytes + limit
        del result


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("data_format", ["channels_first", "channels_last"])
def test_bias_gradients_of_large_images_are_accurate(rng, data_format, dtype):
    """Summed in parts, and not one after the other in what is returned."""
    dy = (rng.random((3, 220, 200, 16)) / 4).astype(dtype)
    axes = (0, 1, 2) if data_format == "channels_last" else (0, 2, 3)
    x = np.ones((*dy.shape[:3], 1), dtype) if axes == (0, 1, 2) else dy[:, :1]
    w = np.ones((dy.shape[-1 if axes == (0, 1, 2) else 1], 1, 1, 1), dtype)
    b = np.zeros(len(w), dtype)
    _, cache = cyconv.conv_forward(x, w, b, padding=0, data_format=data_format)
    *_, db = cyconv.conv_backward(dy, cache, need=["b"])
    wanted = dy.sum(axis=axes, dtype=np.float64)
    np.testing.assert_allclose(db, wanted.astype(dtype), rtol=1e-6 if dtype == np.float32 else 5e-4)


@pytest.mark.parametrize("number", [1, 3])
def test_sums_over_rows_are_cut(monkeypatch, number):
    """A 1x1 weight gradient of channels_last arrays: in parts, or where weights are large, by
    filters."""
    monkeypatch.setattr(tiling, "PIECE_WORK", 100)
    case = Case((3, 5, 9, 8), (7, 5, 1, 1))
    x, _, _, dy = case.integers()
    wanted = cyconv.conv_weight_grad(dy, x, case.w_shape)
    before = cyconv.get_num_threads()
    cyconv.set_num_threads(number)
    for size in (rows.SUM_BYTES, 1):
        monkeypatch.setattr(rows, "SUM_BYTES", size)
        monkeypatch.setattr("cyconv.threads.SMALL", 0)
        got = cyconv.conv_weight_grad(
            last(dy), last(x), case.w_shape, data_format="channels_last", algorithm="gemm"
        )
        np.testing.assert_array_equal(got, wanted)
    cyconv.set_num_threads(before)


@pytest.mark.parametrize("unpacked", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_are_multiplied_and_summed_in_blocks(monkeypatch, unpacked, dtype):
    """As where BLAS does not pack small matrices; here blocks of 28 and of 16 rows."""
    monkeypatch.setattr(tiling, "PIECE_WORK", 100)
    monkeypatch.setattr(products, "UNPACKED", 1_000)
    monkeypatch.setattr(rows, "MANY_ROWS", 1)
    monkeypatch.setattr(rows, "BLOCKS", 1)
    monkeypatch.setattr("cyconv.threads.small_unpacked", lambda: unpacked)
    case = Case((3, 5, 19, 28), (7, 5, 1, 1))
    x, w, b, dy = case.integers(dtype)
    assert products.summed_at_a_time(w.size) == (16 if unpacked else 0)
    assert (products.rows_at_a_time(200, 5, 7) > 0) == unpacked

    def results(data_format, x, dy):
        options = {"data_format": data_format, "algorithm": "gemm"}
        return (
            cyconv.conv(x, w, b, **options),
            cyconv.conv_input_grad(dy, w, x.shape, **options),
            cyconv.conv_weight_grad(dy, x, w.shape, **options),
        )

    y, dx, dw = results("channels_first", x, dy)
    got = results("channels_last", last(x), last(dy))
    for result, wanted in zip(got, (last(y), last(dx), dw), strict=True):
        np.testing.assert_array_equal(result, wanted)


def test_bias_gradients_of_many_images_are_accurate(rng):
    dy = rng.random((40_000, 2, 2, 2), np.float32)
    x, w = np.zeros((len(dy), 1, 2, 2), np.float32), np.zeros((2, 1, 1, 1), np.float32)
    cache = cyconv.conv_forward(x, w, np.zeros(2, np.float32), padding=0)[1]
    *_, db = cyconv.conv_backward(dy, cache, need=["b"])
    wanted = dy.sum((0, 2, 3), np.float64)
    assert (abs(db - wanted) <= 2e-7 * wanted).all()


@pytest.mark.parametrize("shape", [(1, 300, 300, 3), (20_000, 3, 1, 3), (4097, 1, 1, 1)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bias_gradients_of_equal_terms_are_accurate(shape, dtype):
    """Rounding errors of equal terms add up, unless sums are made in steps."""
    for data_format, dy in (
        ("channels_last", np.full(shape, 0.1, dtype)),
        ("channels_first", np.full((*shape[:1], *shape[:0:-1]), 0.1, dtype)),
    ):
        terms = dy.size // shape[-1]
        x = np.zeros(
            (*shape[:3], 1) if data_format == "channels_last" else (len(dy), 1, *dy.shape[2:])
        )
        w, b = np.zeros((shape[-1], 1, 1, 1), dtype), np.zeros(shape[-1], dtype)
        cache = cyconv.conv_forward(x, w, b, padding=0, data_format=data_format)[1]
        *_, db = cyconv.conv_backward(dy, cache, need=["b"])
        wanted = terms * float(dtype(0.1))
        single = 3e-7 if data_format == "channels_first" else 7e-8  # pairwise, or in float64
        np.testing.assert_allclose(db, wanted, rtol=single if dtype == np.float32 else 4e-15)
