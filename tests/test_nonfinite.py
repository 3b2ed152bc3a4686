"""NaN and Inf go where the definition sends them, and nowhere else; denormals and zeros too."""

import numpy as np
import pytest
import reference
from builds import BUILDS, computing_with
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import Case, cases

import cyconv

VALUES = [np.nan, np.inf, -np.inf]
CASES = {
    "pointwise": Case((2, 3, 4, 5), (4, 3, 1, 1)),
    "padded": Case((2, 3, 6, 5), (4, 3, 3, 3), padding=1),
    "strided": Case((2, 3, 9, 8), (4, 3, 2, 3), stride=(3, 2), padding=((0, 2), (1, 0))),
    "dilated": Case((2, 4, 9, 8), (6, 2, 3, 2), padding=2, dilation=(2, 3), groups=2),
    "depthwise": Case((2, 4, 7, 6), (4, 1, 3, 3), padding=1, groups=4),
    "volume": Case((1, 2, 4, 5, 6), (3, 2, 2, 3, 2), stride=2, padding=1),
}


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


def nonzero(case, dtype):
    """x, w, b, dy without a zero, so that an Inf stays an Inf wherever it lands."""
    return [np.where(array == 0, 1, array).astype(dtype) for array in case.integers()]


def assert_as_defined(function, *arguments, **options):
    with np.errstate(invalid="ignore"):
        got = getattr(cyconv, function)(*arguments, **options)
        wanted = getattr(reference, function)(*arguments, **options)
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("value", VALUES)
def test_one_bad_cell(case, value, dtype):
    """One at a time, in every array, and at cells of the border and of the middle."""
    for position in (0, 0.4, 0.7, 1):
        x, w, b, dy = nonzero(case, dtype)
        for array in (x, b, dy):
            cell = round(position * (array.size - 1))
            keep, array.flat[cell] = array.flat[cell], value
            assert_as_defined("conv", x, w, b, **case.options)
            assert_as_defined("conv_input_grad", dy, w, x.shape, **case.options)
            if array is x or case.padding == 0:  # else padding meets a NaN or Inf
                assert_as_defined("conv_weight_grad", dy, x, w.shape, **case.options)
            array.flat[cell] = keep


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("value", VALUES)
def test_bad_weight(case, value, dtype):
    """Without padding, which may make NaN or 0 of it."""
    x, w, b, _ = nonzero(case, dtype)
    w.flat[w.size // 2] = value
    assert_as_defined("conv", x, w, b, **{**case.options, "padding": 0})


@pytest.mark.parametrize("function", ["conv", "conv_input_grad"])
@pytest.mark.parametrize("value", VALUES)
def test_bad_weight_meets_padding(case, value, function):
    """Where it meets nothing but padding, of x or of dy, it may do nothing or make a NaN."""
    x, w, _, dy = nonzero(case, np.float64)

    def run(module, weight):
        w.flat[w.size // 2] = weight
        arguments = {"conv": (x, w), "conv_input_grad": (dy, w, x.shape)}[function]
        with np.errstate(invalid="ignore"):
            return getattr(module, function)(*arguments, **case.options)

    without = run(reference, 0)
    met = run(reference, 1) != without  # the cells that this weight has a part in
    its_channel = met.any(axis=(0, *range(2, met.ndim)), keepdims=True)
    got = run(cyconv, value)
    np.testing.assert_array_equal(got[met], run(reference, value)[met])
    assert ((got == without) | (np.isnan(got) & its_channel))[~met].all()


@pytest.mark.parametrize("value", VALUES)
def test_bad_gradient_meets_padding(value):
    """Off the padding the weight gradient is as defined; on it a tap may be NaN or left alone."""
    case = Case((1, 1, 5, 5), (1, 1, 3, 3), padding=1)
    x, w, _, dy = nonzero(case, np.float64)
    dy[0, 0, 0, 2] = value  # the first row: the first row of taps lies in the padding
    with np.errstate(invalid="ignore"):
        dw = cyconv.conv_weight_grad(dy, x, w.shape, padding=1)
        wanted = reference.conv_weight_grad(dy, x, w.shape, padding=1)
    np.testing.assert_array_equal(dw[..., 1:, :], wanted[..., 1:, :])
    dy[0, 0, 0, 2] = 0
    clean = reference.conv_weight_grad(dy, x, w.shape, padding=1)[..., 0, :]
    assert (np.isnan(dw[..., 0, :]) | (dw[..., 0, :] == clean)).all()


@pytest.mark.parametrize("value", VALUES)
def test_lowerings(case, value):
    x, *_ = nonzero(case, np.float64)
    x.flat[x.size // 3] = value
    assert_as_defined("im2col", x, case.kernel, **case.geometry)
    cols = reference.im2col(x, case.kernel, **case.geometry)
    assert_as_defined("col2im", cols, x.shape[2:], case.kernel, **case.geometry)


@given(cases(), st.sampled_from(VALUES), st.integers(0, 10**6))
def test_any_case(case, value, cell):
    x, w, b, dy = nonzero(case, np.float32)
    if x.size:
        x.flat[cell % x.size] = value
        assert_as_defined("conv", x, w, b, **case.options)
        assert_as_defined("conv_weight_grad", dy, x, w.shape, **case.options)
        dy.flat[cell % dy.size] = value
        assert_as_defined("conv_input_grad", dy, w, x.shape, **case.options)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_errstate_holds_for_all_of_a_large_convolution(rng, dtype):
    """On whatever thread: the caller who says that Inf - Inf is no accident is not warned."""
    x = rng.standard_normal((8, 32, 80, 80)).astype(dtype)
    w = rng.standard_normal((32, 32, 3, 3)).astype(dtype)
    x[:, 0, :, ::7], x[:, 1] = np.inf, -np.inf  # a NaN is quiet, to make one is not
    with np.errstate(all="ignore"):
        y = cyconv.conv(x, w, padding=1)
        dx = cyconv.conv_input_grad(x, w, x.shape, padding=1)
        dw = cyconv.conv_weight_grad(x, x, w.shape, padding=1)
    assert all(np.isnan(array).any() for array in (y, dx, dw))


def test_inf_minus_inf_and_zero_times_inf():
    x = np.array([[[np.inf, 1.0, np.inf, 0.0, -np.inf]]])
    with np.errstate(invalid="ignore"):
        y = cyconv.conv(x, np.array([[[1.0, 0.0, -1.0]]]))
    np.testing.assert_array_equal(y, [[[np.nan, np.nan, np.inf]]])


# By each algorithm that may be asked for, in each build.


@pytest.fixture(scope="module", params=BUILDS)
def build(request):
    with computing_with(request.param):
        yield request.param


def spoil(array, value, cells):
    """Set some cells, counted through the array and around."""
    for cell in cells if array.size else ():
        array.flat[cell % array.size] = value


CELLS = st.lists(st.integers(0, 10**6), min_size=1, max_size=3)


@pytest.mark.parametrize("algorithm", ["gemm", "direct"])
@settings(max_examples=15)
@given(case=cases(), value=st.sampled_from(VALUES), cells=CELLS)
def test_each_algorithm_as_defined(build, algorithm, case, value, cells):
    x, w, b, dy = nonzero(case, np.float32)
    options = {**case.options, "algorithm": algorithm}

    def check(function, *arguments):
        with np.errstate(invalid="ignore"):
            got = getattr(cyconv, function)(*arguments, **options)
            wanted = getattr(reference, function)(*arguments, **case.options)
        np.testing.assert_array_equal(got, wanted)

    spoil(x, value, cells)
    check("conv", x, w, b)
    check("conv_weight_grad", dy, x, w.shape)
    spoil(dy, value, cells)
    check("conv_input_grad", dy, w, x.shape)


def tiles_with(marked, size=4, start=(0, 0)):
    """All cells of the tiles that have a marked one; the first begin so many cells before it."""
    *rest, h, w = marked.shape
    (top, left), (rows, columns) = (
        start,
        (-(-(n + s) // size) for n, s in zip((h, w), start, strict=True)),
    )
    pads = (top, rows * size - h - top), (left, columns * size - w - left)
    padded = np.pad(marked, [*((0, 0) for _ in rest), *pads])
    tiles = padded.reshape(*rest, rows, size, columns, size).any(axis=(-3, -1))
    return tiles.repeat(size, -2).repeat(size, -1)[..., top : top + h, left : left + w]


def tiles_apart(marked, dilation):
    """The same with a dilation: every second cell, say, is of other tiles."""
    found = np.empty_like(marked)
    for phase in np.ndindex(*map(min, dilation, marked.shape[-2:])):
        cells = (..., *(slice(start, None, d) for start, d in zip(phase, dilation, strict=True)))
        found[cells] = tiles_with(marked[cells])
    return found


@st.composite
def winograd_cases(draw):
    pads = tuple((draw(st.integers(0, 6)), draw(st.integers(0, 6))) for _ in range(2))
    side, stride = draw(st.sampled_from([(3, 1), (4, 1), (3, 2)]))
    dilation = tuple(draw(st.sampled_from([1, 1, 2, 5] if stride == 1 else [1])) for _ in pads)
    size = [
        draw(st.integers(max(1, (side - 1) * d + 2 * stride - 1 - sum(pad)), 19 + d))
        for pad, d in zip(pads, dilation, strict=True)
    ]
    n, c, f = draw(st.integers(1, 3)), draw(st.integers(1, 20)), draw(st.integers(1, 20))
    seed = draw(st.integers(0, 99))
    return Case((n, c, *size), (f, c, side, side), stride, pads, dilation, seed=seed)


def assert_near(got, wanted, allowed):
    """Marked where defined; elsewhere near, but for what may be marked."""
    bad = ~np.isfinite(wanted)
    assert not np.isfinite(got[bad]).any()
    assert allowed[~np.isfinite(got)].all()
    good = np.isfinite(got)
    np.testing.assert_allclose(got[good], wanted[good], rtol=0, atol=1e-2)


@settings(max_examples=25)
@given(case=winograd_cases(), value=st.sampled_from(VALUES), cells=CELLS)
def test_winograd_marks_its_tiles_alone(build, case, value, cells):
    """Of y and dx; of dw, all taps from a channel that is bad, or to such a filter."""
    x, w, b, dy = nonzero(case, np.float32)
    options = {**case.options, "algorithm": "winograd"}
    clean = dy.copy()
    spoil(x, value, cells)
    spoil(dy, value, cells)
    with np.errstate(invalid="ignore"):
        wanted = reference.conv(x, w, b, **case.options)
        got = cyconv.conv(x, w, b, **options)
        assert_near(got, wanted, tiles_apart(~np.isfinite(wanted), case.dilation))
        wanted = reference.conv_input_grad(dy, w, x.shape, **case.options)
        got = cyconv.conv_input_grad(dy, w, x.shape, **options)
        bad = ~np.isfinite(wanted)
        if case.stride == 1:
            tiles = tiles_apart(bad, case.dilation)
        else:
            tiles = tiles_with(bad, 8, [1 - low % 2 for low, _ in case.padding])
        assert_near(got, wanted, tiles)
        wanted = reference.conv_weight_grad(clean, x, w.shape, **case.options)
        got = cyconv.conv_weight_grad(clean, x, w.shape, **options)
    channels = ~np.isfinite(x).all(axis=(0, 2, 3))
    assert_near(got, wanted, np.broadcast_to(channels[:, None, None], got.shape))


@pytest.mark.parametrize("algorithm", ["gemm", "direct", "winograd"])
@settings(max_examples=10)
@given(case=winograd_cases())
def test_denormals_are_numbers(build, algorithm, case):
    """Sums of multiples of one are exact, if nothing is flushed to zero; Winograd's are near."""
    unit = 1024 * np.finfo(np.float32).smallest_subnormal
    x, w, _, dy = case.integers(np.float32)
    options = {**case.options, "algorithm": algorithm}
    for name, array, arguments in (
        ("conv", x, (w,)),
        ("conv_input_grad", dy, (w, x.shape)),
        ("conv_weight_grad", dy, (x, w.shape)),
    ):
        wanted = getattr(reference, name)(array, *arguments, **case.options)
        got = getattr(cyconv, name)(array * unit, *arguments, **options)
        near = 0 if algorithm != "winograd" else 1 + 0.01 * abs(wanted).max(initial=0)
        assert abs(got / np.float64(unit) - wanted).max(initial=0) <= near, name


@pytest.mark.parametrize("algorithm", ["gemm", "direct", "winograd"])
def test_zeros_of_both_signs(build, algorithm):
    """-0 is 0: it adds nothing, and meets a NaN as 0 does."""
    case = Case((2, 5, 9, 10), (6, 5, 3, 3), padding=1)
    x, w, b, dy = case.integers(np.float32)
    zeros = np.zeros_like(x)
    zeros[..., ::2] *= -1
    options = {**case.options, "algorithm": algorithm}
    y = cyconv.conv(zeros, w, b, **options)
    np.testing.assert_array_equal(y, np.broadcast_to(b[:, None, None], y.shape))
    assert not cyconv.conv_weight_grad(dy, zeros, w.shape, **options).any()
    assert not cyconv.conv_input_grad(-0.0 * dy, w, x.shape, **options).any()
    zeros[0, 0, 4, 4] = np.nan
    assert np.isnan(cyconv.conv(zeros, -0.0 * w, b, **options)[0, :, 4, 4]).all()
