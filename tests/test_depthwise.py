"""The depthwise kernels, compiled and in NumPy, and algorithm="direct" through the public face.

Kernels get arrays with guards: what they read or write beside one is seen.
"""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import reference
from builds import BUILDS, DTYPES, each_build, each_compiled, each_dtype, kept, kernels_of
from guards import (
    apart,
    assert_untouched,
    can_protect,
    in_another_process,
    output,
    packed,
    protected,
)
from hypothesis import given
from hypothesis import strategies as st
from strategies import Case, cases

import cyconv
from cyconv.algorithms import depthwise
from cyconv.geometry import geometry
from cyconv.kernels import fallback

# Each way through the kernel: rows in place with and without ends, bands cut by phase and by tap,
# split in two and not, planes copied whole; and what is ragged in them.
CASES = {
    "tiny": Case((1, 1, 10, 10), (1, 1, 3, 3), padding=1),
    "one cell": Case((1, 1, 1, 1), (1, 1, 3, 3), padding=1),
    "in place": Case((2, 3, 9, 47), (3, 1, 3, 3), padding=1, groups=3),
    "in place, no ends": Case((2, 2, 6, 40), (2, 1, 3, 2), padding=(1, 0), groups=2),
    "in place, far ends": Case((1, 2, 5, 90), (2, 1, 2, 3), padding=(2, 3), dilation=3, groups=2),
    "in place, rows apart": Case((1, 2, 11, 45), (2, 1, 3, 3), (3, 1), 1, (2, 1), groups=2),
    "in place, long": Case((2, 1, 5000), (1, 1, 9), padding=4),
    "in place, volume": Case((1, 2, 4, 5, 41), (2, 1, 3, 2, 3), 1, 1, groups=2),
    "in place, all rows in the padding": Case((1, 1, 1, 40), (1, 1, 2, 1), padding=((4, 4), 0)),
    "groups": Case((2, 8, 6, 45), (12, 2, 3, 3), padding=1, groups=4),
    "narrow": Case((3, 4, 14, 14), (4, 1, 3, 3), padding=1, groups=4),
    "narrow, uneven": Case((2, 2, 7, 5), (2, 1, 4, 4), padding=((1, 2), (2, 1)), groups=2),
    "narrow, valid": Case((2, 2, 9, 8), (2, 1, 3, 3), groups=2),
    "narrow, volume": Case((2, 2, 4, 6, 7), (2, 1, 3, 3, 3), padding=1, groups=2),
    "stride 2": Case((2, 3, 28, 28), (3, 1, 3, 3), 2, 1, groups=3),
    "stride 2, odd": Case((2, 3, 13, 57), (3, 1, 3, 3), 2, ((0, 1), (2, 0)), groups=3),
    "stride 2, dilated along H": Case((2, 2, 13, 21), (2, 1, 3, 3), 2, 2, (2, 1), groups=2),
    "stride 2, dilated along W": Case((2, 2, 13, 21), (2, 1, 3, 3), 2, 2, (1, 2), groups=2),
    "stride 2, dilated": Case((2, 2, 13, 31), (2, 1, 3, 4), 2, 3, (2, 3), groups=2),
    "stride 2, one row": Case((2, 2, 301), (2, 1, 5), 2, 2, groups=2),
    "stride 3": Case((2, 2, 17, 40), (2, 1, 4, 5), (2, 3), 2, groups=2),
    "stride 3, several blocks of rows": Case((1, 2, 160, 163), (2, 1, 3, 3), 3, 1, groups=2),
    "stride over kernel": Case((2, 2, 17, 23), (2, 1, 2, 2), (5, 3), 1, groups=2),
    "wide kernel": Case((1, 2, 9, 33), (2, 1, 5, 11), padding=(2, 5), groups=2),
    "pointwise": Case((2, 6, 5, 7), (4, 3, 1, 1), groups=2),
}


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


@pytest.fixture(params=DTYPES, ids=["float32", "float64"])
def dtype(request):
    return np.dtype(request.param)


@pytest.fixture(params=BUILDS)
def build(request, dtype):
    return kernels_of(request.param)


def described(case):
    g = geometry(case.x_shape, case.w_shape, case.stride, case.padding, case.dilation, case.groups)
    x, w, b, dy = case.integers()
    return g, x.reshape(g.x_shape), w.reshape(g.w_shape), b, dy.reshape(g.y_shape)


@kept
def defined(case):
    """The output and the gradients, as kernels see them."""
    g, (x, w, b, dy) = described(case)[0], case.integers()
    y = reference.conv(x, w, b, **case.options).reshape(g.y_shape)
    dw = reference.conv_weight_grad(dy, x, w.shape, **case.options).reshape(g.w_shape)
    dx = reference.conv_input_grad(dy, w, x.shape, **case.options).reshape(g.x_shape)
    return SimpleNamespace(y=y, dw=dw, dx=dx)


def check_forward(build, case, dtype):
    g, x, w, b, _ = described(case)
    wanted = defined(case).y
    x, w, b = apart(x, dtype), packed(w, dtype), packed(b, dtype)
    for step in (0, 1, 2, 3):
        for bias in (b, None):
            y = output(g.y_shape, dtype, apart, step=step) if step else output(g.y_shape, dtype)
            build.depthwise_forward(x, w, bias, y, g.axes())
            without = 0 if bias is not None else b.reshape(-1, 1, 1, 1)
            np.testing.assert_array_equal(y, wanted - without)
            assert_untouched(y)


def check_weight_grad(build, case, dtype):
    g, x, _, _, dy = described(case)
    wanted = defined(case).dw
    for arrange in (packed, apart):
        dw = output(g.w_shape, dtype)
        build.depthwise_weight_grad(arrange(dy, dtype), arrange(x, dtype), dw, g.axes())
        np.testing.assert_array_equal(dw, wanted)
        assert_untouched(dw)


def test_forward(build, case, dtype):
    check_forward(build, case, dtype)


def test_weight_grad(build, case, dtype):
    check_weight_grad(build, case, dtype)


@pytest.mark.parametrize("width", [1, 2, 9, 45])
def test_pair(build, dtype, width):
    """Two convolutions, with kernels and pads of their own, into every other column; the last is
    either one's."""
    for high in (0, 1):
        even = Case((2, 4, 3, 5, width), (6, 2, 2, 3, 2), 1, ((1, 0), 1, (0, 1)), groups=2)
        odd = Case((2, 4, 3, 5, width), (6, 2, 1, 5, 2), 1, (0, 2, (0, high)), groups=2, seed=1)
        if min(odd.output) < 1:
            continue
        x, even_w, *_ = even.integers()
        odd_w = odd.integers()[1]
        axes = [described(case)[0].axes() for case in (even, odd)]
        y = output((2, 6, 3, 5, even.output[-1] + odd.output[-1]), dtype)
        build.depthwise_pair(apart(x, dtype), packed(even_w, dtype), packed(odd_w, dtype), y, *axes)
        np.testing.assert_array_equal(y[..., ::2], reference.conv(x, even_w, **even.options))
        np.testing.assert_array_equal(y[..., 1::2], reference.conv(x, odd_w, **odd.options))
        assert_untouched(y)


@each_dtype
@each_build
@given(case=cases())
def test_any_geometry(build, dtype, case):
    run = kernels_of(build)
    check_forward(run, case, np.dtype(dtype))
    check_weight_grad(run, case, np.dtype(dtype))


def test_boxes_are_convolutions_of_their_own(build, dtype):
    """A box of the output has another low pad, which is negative inside of the image."""
    g, x, w, b, _ = described(CASES["stride 3"])
    x, w, b = (a.astype(dtype) for a in (x, w, b))
    whole = np.empty(g.y_shape, dtype)
    build.depthwise_forward(x, w, b, whole, g.axes())
    for top, left in itertools.product(range(0, g.output[1], 2), range(0, g.output[2], 5)):
        box = whole[:, :, :, top : top + 2, left : left + 5]
        axes = g.axes()
        axes[1:, 4] -= np.array([top, left]) * axes[1:, 2]
        axes[:, 5] = box.shape[2:]
        y = output(box.shape, dtype, apart)
        build.depthwise_forward(apart(x), w, b, y, axes)
        np.testing.assert_array_equal(y, box)


def test_huge_steps(build, dtype):
    """Two outputs, or taps, as far apart as can be: nothing overflows, and no memory is taken."""
    far = 2**61
    stride = [[1, 1, 1, 1, 0, 1], [1, 1, 1, 1, 0, 1], [5, 2, far, 1, 1, 2]]
    dilation = [[1, 1, 1, 1, 0, 1], [1, 1, 1, 1, 0, 1], [5, 2, 1, far, 1, 3]]
    x = np.arange(1, 6, dtype=dtype).reshape(1, 1, 1, 1, 5)
    w = np.array([2, 3], dtype).reshape(1, 1, 1, 1, 2)
    for axes, wanted in ((stride, [3, 0]), (dilation, [0, 2, 4])):
        y = np.full((1, 1, 1, 1, len(wanted)), np.nan, dtype)
        build.depthwise_forward(apart(x), w, None, y, np.array(axes, np.intp))
        np.testing.assert_array_equal(y.ravel(), wanted)


@each_dtype
@each_build
def test_tasks_are_shared(build, dtype):
    """Calls take turns at what is left: from the front, from the back, and nothing at all."""
    g = described(Case((3, 8, 7, 9), (12, 2, 3, 2), padding=1, groups=4))[0]
    rng, run = np.random.default_rng(0), kernels_of(build)
    x, w, dy = (rng.integers(-4, 5, s).astype(dtype) for s in (g.x_shape, g.w_shape, g.y_shape))
    b = np.arange(g.filters, dtype=dtype)
    y, dw = np.empty_like(dy), np.empty_like(w)
    run.depthwise_forward(x, w, b, y, g.axes())
    run.depthwise_weight_grad(dy, x, dw, g.axes())
    for kernel, arrays, wanted, table in (
        (run.depthwise_forward, (x, w, b), y, [(0, 1, 0, 4), (1, 3, 0, 1), (1, 3, 1, 4)]),
        (run.depthwise_weight_grad, (dy, x), dw, [(0, 3, 0, 2), (0, 3, 2, 3), (0, 3, 3, 4)]),
    ):
        tasks = np.array(table, np.intp)
        for t, (first, last, start, stop) in enumerate(table):  # the others are taken: one is done
            out, taken = np.full_like(wanted, 99), np.array([t + ((2 - t) << 32)], np.longlong)
            kernel(*arrays, out, g.axes(), tasks, taken, t % 2 == 0)
            part = (slice(3 * start, 3 * stop),)
            part = (slice(first, last), *part) if wanted is y else part
            np.testing.assert_array_equal(out[part], wanted[part])
            out[part] = 99
            assert (out == 99).all()
            kernel(*arrays, out, g.axes(), tasks, taken)
            assert (out == 99).all()
        out, taken = np.full_like(wanted, 99), np.zeros(1, np.longlong)
        kernel(*arrays, out, g.axes(), tasks, taken)
        np.testing.assert_array_equal(out, wanted)


@each_compiled
def test_shapes_are_checked(build, dtype):
    """Cheap checks, in compiled code: a wrong call must not reach foreign memory."""
    run, axes = kernels_of(build), described(CASES["narrow"])[0].axes()
    x, w, b, y = (np.zeros(s, dtype) for s in ((3, 4, 1, 14, 14), (4, 1, 1, 3, 3), (4,), 0))
    y = np.zeros_like(x)
    forward, weight_grad = run.depthwise_forward, run.depthwise_weight_grad
    forward(x, w, b, y, axes)
    taken, fine = np.zeros(1, np.longlong), np.array([[0, 3, 0, 4]], np.intp)
    rows = ([0, 4, 0, 4], [0, 3, 0, 5], [2, 1, 0, 4], [0, 3, 2, 1], [-1, 3, 0, 4], [0, 3, 0])
    wrong_shares = [(np.array([row], np.intp), taken) for row in rows] + [(fine[:0], taken)]
    wrong_shares += [(fine, counter) for counter in (None, np.zeros(2, np.longlong), taken - 1)]
    strided = geometry((3, 4, 14, 14), (4, 1, 3, 3), 2, 1, 1, 4)
    dy, in_front, pairs = np.zeros(strided.y_shape, dtype), strided.axes(), np.repeat(w, 2, 1)
    in_front[1, 4] -= 2
    wrong_spreads = [(y, w, x, axes), (dy, w, x, in_front), (dy, pairs, x, strided.axes())]
    for wrong in (
        lambda: forward(x[:2], w, b, y, axes),
        lambda: forward(x[:, :3], w, b, y, axes),
        lambda: forward(x, w[:3], b, y, axes),
        lambda: forward(x, w, b[:3], y, axes),
        lambda: forward(x, w, b, y[:, :, :, 1:], axes),
        lambda: forward(x[..., ::-1], w, b, y, axes),
        lambda: forward(x, w, b, y, axes[:2]),
        lambda: forward(x, w, b, y, axes * 0),
        *(lambda rest=rest: forward(x, w, b, y, axes, *rest) for rest in wrong_shares),
        *(lambda rest=rest: weight_grad(y, x, w, axes, *rest) for rest in wrong_shares),
        lambda: weight_grad(y[:, 1:], x, w, axes),
        lambda: weight_grad(y[..., ::-1], x, w, axes),
        lambda: weight_grad(y, x, w[:, :, :, :2].copy(), axes),
        lambda: run.depthwise_pair(x, w, w, y, axes, axes),
        lambda: run.depthwise_spreads(axes[:2], 4),
        lambda: run.depthwise_spreads(axes, 2),
        *(lambda wrong=wrong: run.depthwise_spread(*wrong) for wrong in wrong_spreads),
        lambda: run.depthwise_memory(axes[:2], 1, 1, 4),
        lambda: run.depthwise_memory(axes * 0, 1, 1, 4),
        lambda: run.depthwise_memory(axes, 0, 1, 4),
        lambda: run.depthwise_memory(axes, 1, 0, 4),
        lambda: run.depthwise_memory(axes, 1, 1, 0),
    ):
        with pytest.raises(ValueError):  # noqa: PT011
            wrong()


# Outputs of a row: around whole vectors of 2, 4, 8 and 16 items, and half of them.
WIDTHS = [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 19, 20, 21, 28, 31, 32, 33, 47, 49]
# In place and through bands: as far as the last tap of the last output is the last cell of x.
STRIDED = {
    "valid": lambda n: ((9, 2 * n + 1), (3, 3), 0),
    "valid, two taps": lambda n: ((9, 2 * n), (3, 2), 0),
    "valid, one tap": lambda n: ((9, 2 * n - 1), (3, 1), 0),
    "valid, ten taps": lambda n: ((7, 2 * n + 3), (2, 5), 0),
    "padded": lambda n: ((9, 2 * n), (3, 3), 1),
    "padded, odd": lambda n: ((9, 2 * n - 1), (3, 3), 1),
    "padded in front": lambda n: ((9, 2 * n), (3, 3), ((1, 1), (1, 0))),
    "padded by two": lambda n: ((6, 2 * n - 1), (3, 3), (2, ((2, 0)))),
    "one row": lambda n: ((1, 2 * n), (3, 3), 1),
    "5x5": lambda n: ((9, 2 * n), (5, 5), 2),
    "5x5, valid": lambda n: ((9, 2 * n + 3), (5, 5), 0),
    "5x5, padded in front": lambda n: ((6, 2 * n - 1), (5, 5), ((3, 0), (4, 0))),
    "a cell unread": lambda n: ((8, 2 * n + 2), (3, 3), 0),
    "rows in the padding": lambda n: ((3, 2 * n), (3, 3), ((3, 5), 1)),
}


def strided(kind, width, groups=2, filters=1):
    size, kernel, pads = STRIDED[kind](width)
    case = Case((2, groups, *size), (groups * filters, 1, *kernel), 2, pads, groups=groups)
    assert described(case)[0].output[2] == width
    return case


# Narrow planes, by the width of the output; for most of these kernels there is code that masks off
# what lies beside a row. Also with rows and columns all of which are in the padding, and with none.
NARROW = {
    "3x3": lambda n: ((n, n), (3, 3), 1, 1),
    "3x3, one row": lambda n: ((1, n), (3, 3), 1, 1),
    "3x3, valid": lambda n: ((4, n + 2), (3, 3), 0, 1),
    "3x3, dilated": lambda n: ((7, n), (3, 3), (2, 3), (2, 3)),
    "3x3, far apart": lambda n: ((5, n), (3, 3), (5, n), (5, n)),
    "3x3, padded in front": lambda n: ((5, n), (3, 3), ((6, 0), (2, 0)), 1),
    "3x3, padded at the end": lambda n: ((5, n), (3, 3), ((0, 6), (0, 2)), 1),
    "5x5": lambda n: ((n, n), (5, 5), 2, 1),
    "7x7": lambda n: ((n, n), (7, 7), 3, 1),
    "7x7, dilated": lambda n: ((9, n), (7, 7), (6, 3), (2, 1)),
    "5x5, dilated": lambda n: ((9, n), (5, 5), (4, 2), (2, 1)),
    "2x2": lambda n: ((6, n), (2, 2), ((1, 0), (1, 0)), 1),
    "1x2": lambda n: ((6, n), (1, 2), ((0, 0), (0, 1)), 1),
    "2x1": lambda n: ((6, n), (2, 1), ((0, 1), (0, 0)), 1),
    "1x1, padded": lambda n: ((3, n), (1, 1), ((1, 2), (0, 0)), 1),
    "4x3": lambda n: ((6, n), (4, 3), (2, 1), 1),
    "a volume": lambda n: ((3, 5, n), (3, 3, 3), 1, (2, 1, 1)),
}


def narrow(kind, width, per_group=1):
    size, kernel, pads, dilation = NARROW[kind](width)
    w_shape = (3 * per_group, per_group, *kernel)
    case = Case((2, 3 * per_group, *size), w_shape, 1, pads, dilation, groups=3)
    assert described(case)[0].output[2] == width
    return case


@pytest.mark.parametrize("kind", NARROW)
def test_narrow_planes(build, kind, dtype):
    for width in WIDTHS:
        case = narrow(kind, width, per_group=1 + width % 2)
        check_forward(build, case, dtype)
        check_weight_grad(build, case, dtype)


@pytest.mark.parametrize("kind", NARROW)
def test_nothing_beside_narrow_planes_counts(build, kind, dtype):
    """Products with what is beside dy would make NaN of a bad cell of x, in the wrong taps."""
    for width in (1, 7, 14, 17):
        check_nothing_beside(build, narrow(kind, width), dtype)


@pytest.mark.parametrize("kind", STRIDED)
def test_nothing_beside_every_second_cell_counts(build, kind, dtype):
    for width in (1, 7, 14, 17, 28):
        check_nothing_beside(build, strided(kind, width), dtype)


def check_nothing_beside(build, case, dtype):
    g, x, w, _, dy = (a if i == 0 else a.astype(dtype) for i, a in enumerate(described(case)))
    last, first = x.copy(), x.copy()
    last[..., 0], last[..., -1, :], first[..., 0, :] = np.nan, np.inf, np.inf
    with np.errstate(invalid="ignore"):
        for bad in (last, first):
            wanted, dw = np.empty_like(w), np.empty_like(w)
            fallback.depthwise_weight_grad(dy, bad, wanted, g.axes())
            build.depthwise_weight_grad(dy, bad, dw, g.axes())
            np.testing.assert_array_equal(dw, wanted)
            wanted, y = np.empty_like(dy), np.empty_like(dy)
            fallback.depthwise_forward(bad, w, None, wanted, g.axes())
            build.depthwise_forward(bad, w, None, y, g.axes())
            np.testing.assert_array_equal(y, wanted)


# A lane a channel: one filter each, planes that are small, or narrow, or read at a stride. Cells
# and outputs fewer than a vector has lanes, and more, with a ragged rest; rows in one part and not.
LANES = {
    "7x7": ((7, 7), (7, 7), 1, 3, 1),
    "5x5": ((9, 10), (5, 5), 1, 2, 1),
    "3x3": ((4, 3), (3, 3), 1, 1, 1),
    "a cell": ((1, 1), (3, 3), 1, 1, 1),
    "an output": ((4, 5), (4, 5), 1, 0, 1),
    "long": ((61,), (5,), 1, 2, 1),
    "stride 2": ((14, 13), (5, 5), 2, 2, 1),
    "stride 2, uneven": ((9, 17), (3, 4), (1, 2), ((0, 1), (2, 0)), 1),
    "stride 3, dilated": ((17, 21), (3, 3), 3, (2, 4), (2, 3)),
    "stride over kernel": ((9, 13), (2, 2), (3, 4), 0, 1),
    "rows in the padding": ((2, 6), (3, 3), 1, ((5, 4), (3, 4)), (1, 2)),
    "far apart": ((5, 4), (3, 3), 1, (5, 4), (5, 4)),
    "volume": ((3, 4, 5), (3, 3, 3), (1, 2, 1), 1, 1),
    "volume, planes in the padding": ((2, 3, 4), (2, 3, 3), 1, ((3, 2), (4, 1), 1), 1),
}


@pytest.mark.parametrize("channels", [1, 3, 15, 16, 17, 37])
@pytest.mark.parametrize("kind", LANES)
def test_channels_in_lanes(build, kind, channels, dtype):
    size, kernel, stride, pads, dilation = LANES[kind]
    w_shape = (channels, 1, *kernel)
    case = Case((2, channels, *size), w_shape, stride, pads, dilation, groups=channels)
    g, x, w, b, _ = described(case)
    wanted = defined(case).y
    x, w, b = packed(x, dtype), packed(w, dtype), packed(b, dtype)
    cut = channels // 3
    tasks = np.array([[0, 1, 0, channels], [1, 2, 0, cut], [1, 2, cut, channels]], np.intp)
    for bias, shared in ((b, False), (None, False), (b, channels > 1)):
        y = output(g.y_shape, dtype)
        table = (tasks, np.zeros(1, np.longlong)) if shared else ()
        build.depthwise_forward(x, w, bias, y, g.axes(), *table)
        without = 0 if bias is not None else b.reshape(-1, 1, 1, 1)
        np.testing.assert_array_equal(y, wanted - without)
        assert_untouched(y)


@pytest.mark.parametrize("kind", LANES)
def test_lanes_are_apart(build, kind, dtype):
    """A channel of NaN spoils its own outputs, and those of no other channel."""
    size, kernel, stride, pads, dilation = LANES[kind]
    case = Case((1, 17, *size), (17, 1, *kernel), stride, pads, dilation, groups=17)
    g, x, w, b, _ = (a if i == 0 else a.astype(dtype) for i, a in enumerate(described(case)))
    wanted, y = np.empty(g.y_shape, dtype), np.empty(g.y_shape, dtype)
    x[:, [0, 5, 16]] = np.nan
    fallback.depthwise_forward(x, w, b, wanted, g.axes())
    build.depthwise_forward(x, w, b, y, g.axes())
    np.testing.assert_array_equal(y, wanted)


@pytest.mark.parametrize("kind", STRIDED)
def test_stride_2(build, kind, dtype):
    for width in WIDTHS:
        case = strided(kind, width, filters=1 + width % 2)
        check_forward(build, case, dtype)
        check_weight_grad(build, case, dtype)


def spreading(build, dtype):
    """Input gradients of stride 2 that are filled in one pass, if there are any; with all of dx in
    reach, and not."""
    for which in itertools.product(STRIDED, WIDTHS):
        case = strided(*which, groups=3)
        g, *_, dy = described(case)
        if build.depthwise_spreads(g.axes(), dtype.itemsize):
            yield case, g, dy


def test_spread(build, dtype):
    widths = set()
    for case, g, dy in spreading(build, dtype):
        widths.add(g.size[2])
        w = packed(described(case)[2], dtype)
        dx = output(g.x_shape, dtype, apart)
        build.depthwise_spread(apart(dy, dtype), w, dx, g.axes())
        np.testing.assert_array_equal(dx, defined(case).dx)
        assert_untouched(dx)
    in_vectors = any(build is kernels_of(name) for name in ("avx2", "avx512") if name in BUILDS)
    assert len(widths) > 20 or not in_vectors


def test_nothing_beside_what_spreads_counts(build, dtype):
    """A bad cell of dy is in those of dx that it reaches, and in no others."""
    for case, g, dy in spreading(build, dtype):
        dy, w = dy.astype(dtype), described(case)[2].astype(dtype)
        dy[..., 0], dy[..., -1, :] = np.nan, np.inf
        wanted, dx = np.empty(g.x_shape, dtype), np.empty(g.x_shape, dtype)
        with np.errstate(invalid="ignore"):
            fallback.depthwise_spread(dy, w, wanted, g.axes())
            build.depthwise_spread(dy, w, dx, g.axes())
        np.testing.assert_array_equal(dx, wanted)


def test_tasks_of_spreading_are_shared(build, dtype):
    for case, g, dy in spreading(build, dtype):
        dy, w = dy.astype(dtype), described(case)[2].astype(dtype)
        tasks = np.array([(0, 1, 0, 3), (1, 2, 0, 1), (1, 2, 1, 3)], np.intp)
        dx, taken = np.full(g.x_shape, 99, dtype), np.array([1 + (1 << 32)], np.longlong)
        build.depthwise_spread(dy, w, dx, g.axes(), tasks, taken)  # the second alone
        wanted = defined(case).dx
        np.testing.assert_array_equal(dx[1, 0], wanted[1, 0])
        dx[1, 0] = 99
        assert (dx == 99).all()
        build.depthwise_spread(dy, w, dx, g.axes(), tasks, np.zeros(1, np.longlong))
        np.testing.assert_array_equal(dx, wanted)


def check_nothing_outside(build):
    """A read that spoils nothing is not seen by guards: beside these arrays, it crashes. (What ends
    there is the last row of the last channel of the last image.)"""
    run = kernels_of(build)
    strided_cases = [strided(*which) for which in itertools.product(STRIDED, WIDTHS)]
    narrow_cases = [narrow(*which) for which in itertools.product(NARROW, WIDTHS)]
    lanes_cases = [
        Case((2, c, *size), (c, 1, *kernel), *rest, groups=c)
        for size, kernel, *rest in LANES.values()
        for c in (16, 19)
    ]
    all_cases = [*strided_cases, *narrow_cases, *lanes_cases, *CASES.values()]
    for case, start, dtype in itertools.product(all_cases, (False, True), DTYPES):
        g, *arrays = described(case)
        x, w, b, dy = (protected(array, dtype, start) for array in arrays)
        y, dw = (protected(np.full(s, np.nan), dtype, start) for s in (g.y_shape, g.w_shape))
        run.depthwise_forward(x, w, b, y, g.axes())
        run.depthwise_weight_grad(dy, x, dw, g.axes())
        np.testing.assert_array_equal(y, defined(case).y)
        np.testing.assert_array_equal(dw, defined(case).dw)
    for start, dtype in itertools.product((False, True), map(np.dtype, DTYPES)):
        for case, g, dy in spreading(run, dtype):
            dx = protected(np.full(g.x_shape, np.nan), dtype, start)
            w = protected(described(case)[2], dtype, start)
            run.depthwise_spread(protected(dy, dtype, start), w, dx, g.axes())
            np.testing.assert_array_equal(dx, defined(case).dx)


@can_protect
@each_compiled
def test_nothing_is_touched_outside_of_arrays(build):
    in_another_process("test_depthwise", "check_nothing_outside", build)


@each_dtype
@each_compiled
def test_every_second_cell_is_read_and_no_other(build, dtype):
    """With one tap, in place: the cells between those read do not count, and where x ends with the
    last that is read, nothing follows it. (In a band there would be copies of both.)"""
    run = kernels_of(build)
    for width in [width for width in WIDTHS if width >= 20]:
        g, x, w, b, dy = described(strided("valid, one tap", width))
        unread = x.astype(dtype)
        unread[..., 1::2] = np.nan
        y, dw = output(g.y_shape, dtype), output(g.w_shape, dtype)
        run.depthwise_forward(apart(unread, dtype), w.astype(dtype), b.astype(dtype), y, g.axes())
        run.depthwise_weight_grad(dy.astype(dtype), apart(unread, dtype), dw, g.axes())
        assert np.isfinite(y).all()
        assert np.isfinite(dw).all()


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("small", [False, True], ids=["many tasks", "few tasks"])
def test_direct_is_exact(monkeypatch, case, dtype, threads, small):
    """Through the public face, cut into one task and into as many as there can be."""
    if not small:
        monkeypatch.setattr(depthwise, "TASK_SECONDS", 1e-12)
        monkeypatch.setattr(depthwise, "BAND_BYTES", 256)
        monkeypatch.setattr("cyconv.threads.SMALL", 0)
    before = cyconv.get_num_threads()
    cyconv.set_num_threads(threads)
    try:
        assert_direct(case, dtype)
    finally:
        cyconv.set_num_threads(before)


@given(case=cases(), dtype=st.sampled_from(DTYPES))
def test_direct_on_any_geometry(case, dtype):
    assert_direct(case, dtype)


def assert_direct(case, dtype):
    x, w, b, dy = case.integers(dtype)
    results = {
        "conv": ((x, w, b), dy.shape),
        "conv_input_grad": ((dy, w, x.shape), x.shape),
        "conv_weight_grad": ((dy, x, w.shape), w.shape),
    }
    for name, (arguments, shape) in results.items():
        out = np.full(shape, np.nan, dtype)
        got = getattr(cyconv, name)(*arguments, algorithm="direct", out=out, **case.options)
        wanted = getattr(reference, name)(*arguments, **case.options)
        np.testing.assert_array_equal(got, wanted, err_msg=name)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_bad_cell_stays_in_its_windows(case, dtype, value):
    """Also not where rows, planes or the phases of a stride follow each other in memory."""
    x, w, b, dy = (np.where(a == 0, 1, a) for a in case.integers(dtype))
    for position in (0, 0.3, 0.7, 1):
        for array in (x, dy):
            cell = round(position * (array.size - 1))
            keep, array.flat[cell] = array.flat[cell], value
            for name, arguments in {
                "conv": (x, w, b),
                "conv_input_grad": (dy, w, x.shape),
                "conv_weight_grad": (dy, x, w.shape),
            }.items():
                with np.errstate(invalid="ignore"):
                    got = getattr(cyconv, name)(*arguments, algorithm="direct", **case.options)
                    wanted = getattr(reference, name)(*arguments, **case.options)
                if name == "conv_weight_grad" and array is dy:
                    # Where padding meets a NaN or Inf, it may make NaN of it, as the reference
                    # does; or be left out, as in the fallback.
                    may_be_nan, wanted = np.isnan(wanted), without_padding(case, dy, x)
                    got = np.where(np.isnan(got) & may_be_nan, wanted, got)
                np.testing.assert_array_equal(got, wanted, err_msg=name)
            array.flat[cell] = keep


def without_padding(case, dy, x):
    g = described(case)[0]
    dw = np.empty(g.w_shape, x.dtype)
    with np.errstate(invalid="ignore"):
        fallback.depthwise_weight_grad(dy.reshape(g.y_shape), x.reshape(g.x_shape), dw, g.axes())
    return dw.reshape(case.w_shape)


def test_sums_over_long_batches_stay_exact(dtype):
    """Products are summed in float64 across blocks: the error does not grow with the batch."""
    rng = np.random.default_rng(3)
    x, dy = (rng.uniform(1, 2, (16, 1, 64, 64)).astype(dtype) for _ in range(2))
    dw = cyconv.conv_weight_grad(dy, x, (1, 1, 3, 3), padding=1, algorithm="direct")
    wanted = reference.conv_weight_grad(dy, x, (1, 1, 3, 3), padding=1)
    assert np.max(abs(dw - wanted) / wanted) < (2e-6 if dtype == np.float32 else 1e-14)


def test_pays_is_for_few_channels():
    """What auto asks; nothing here is about speed."""
    depthwise_case = described(CASES["narrow"])[0]
    dense = geometry((1, 64, 14, 14), (64, 64, 3, 3), 1, 1, 1, 1)
    for pass_ in ("forward", "input_grad", "weight_grad"):
        assert depthwise.pays(depthwise_case, pass_, 4)
        assert not depthwise.pays(dense, pass_, 4)
