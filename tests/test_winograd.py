"""Winograd: the transforms and what is made of them, in every build, and algorithm="winograd".

The transforms are checked against their matrices, and the matrices against the definition. Kernels
get arrays with guards: what they read or write beside one is seen.
"""

import itertools
import math
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
import reference
from builds import each_build, each_compiled, each_dtype, kernels_of, refused
from guards import (
    assert_untouched,
    can_protect,
    in_another_process,
    output,
    packed,
    planes,
    protected,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import Case

import cyconv
from cyconv import kernels
from cyconv.algorithms import fused, winograd
from cyconv.geometry import geometry
from cyconv.kernels import fallback
from cyconv.kernels.fallback.winograd import BT, A, G
from cyconv.plan import plan

LANES = 16
CLOSE = {np.float32: 1e-5, np.float64: 1e-13}  # a transform, relative to its largest value
TOLERANCE = {np.float32: 5e-6, np.float64: 1e-12}  # a convolution
PATIENCE = 10  # seconds


def gaps(values, dtype, guard=np.nan):
    """A copy with memory on all sides of it, and between its rows."""
    shape = values.shape
    memory = np.full((*(size + 2 for size in shape[:-1]), shape[-1] + 5), guard, dtype)
    view = memory[tuple(slice(1, 1 + size) for size in shape)]
    view[...] = values
    return view


def assert_filled(view, wanted, dtype):
    """The view has the wanted values, and nothing else was written."""
    assert abs(view - wanted).max() <= CLOSE[dtype] * max(1e-30, abs(wanted).max())
    assert_untouched(view)


@st.composite
def some_tiles(draw):
    """A geometry that Winograd serves or, for its input gradient, one with negative low pads; and
    some of its tiles."""
    h, w = draw(st.integers(1, 20)), draw(st.integers(1, 20))
    pads = [(draw(st.integers(0, 6)), draw(st.integers(0, 6))) for _ in range(2)]
    pads = [
        (low, high + max(0, 3 - n - low - high))
        for n, (low, high) in zip((h, w), pads, strict=True)
    ]
    n, c, f = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    g = geometry((n, c, h, w), (f, c, 3, 3), 1, tuple(pads), 1, 1)
    if draw(st.booleans()):
        g = g.flipped()
    first = draw(st.integers(0, winograd.count_tiles(g) - 1))
    tiles = draw(st.integers(0, winograd.count_tiles(g) - first))
    spare = draw(st.integers(0, 1))
    columns = max(1, -(-tiles // LANES) + spare) * LANES
    return SimpleNamespace(g=g, first=first, tiles=tiles, columns=columns)


def places(p):
    """Of each tile: its lane, its image, and its first row and column."""
    down, across = (-(-size // 4) for size in p.g.output[1:])
    for lane in range(p.tiles):
        n, row, column = np.unravel_index(p.first + lane, (p.g.batch, down, across))
        yield lane, n, 4 * row, 4 * column


def cut_out(plane, top, left, size):
    """size x size cells, zero where there are none."""
    rows, columns = (np.arange(start, start + size) for start in (top, left))
    inside = np.logical_and.outer(
        (rows >= 0) & (rows < plane.shape[-2]), (columns >= 0) & (columns < plane.shape[-1])
    )
    cells = plane[:, rows.clip(0, plane.shape[-2] - 1)][..., columns.clip(0, plane.shape[-1] - 1)]
    return np.where(inside, cells, 0)


def both(matrix, tiles):
    """matrix @ tile @ matrix.T, with its elements in front: (rows * rows, ...)."""
    done = matrix @ tiles @ matrix.T
    return np.moveaxis(done.reshape(*done.shape[:-2], -1), -1, 0)


def test_matrices():
    """A^T [(G w G^T) * (B^T x B)] A is the correlation of a tile; its adjoints are the others."""
    rng = np.random.default_rng(0)
    x, w, dy = (rng.standard_normal((size, size)) for size in (6, 3, 4))
    y = A.T @ ((G @ w @ G.T) * (BT @ x @ BT.T)) @ A
    dw = G.T @ ((A @ dy @ A.T) * (BT @ x @ BT.T)) @ G
    wanted_y, wanted_dw = (
        sum(b[i, j] * x[i : i + n, j : j + n] for i in range(len(b)) for j in range(len(b)))
        for b, n in ((w, 4), (dy, 3))
    )
    np.testing.assert_allclose(y, wanted_y, rtol=0, atol=1e-13)
    np.testing.assert_allclose(dw, wanted_dw, rtol=0, atol=1e-13)


@each_dtype
@each_build
@given(p=some_tiles())
def test_input(build, dtype, p):
    run = kernels_of(build, dtype)
    rng = np.random.default_rng(p.first)
    x = rng.standard_normal((p.g.batch, p.g.channels, 1, *p.g.size[1:]))
    wanted = np.zeros((36, p.g.channels, p.columns))
    for lane, n, top, left in places(p):
        tile = cut_out(x[n, :, 0], top - p.g.low[1], left - p.g.low[2], 6)
        wanted[:, :, lane] = both(BT, tile)
    u = output(wanted.shape, dtype, planes)
    run.winograd_input(gaps(x, dtype), u, p.g.axes(), p.first, p.tiles)
    assert_filled(u, wanted, dtype)
    assert not u[:, :, p.tiles :].any()


@each_dtype
@each_build
@given(p=some_tiles())
def test_output_grad(build, dtype, p):
    run = kernels_of(build, dtype)
    dy = np.random.default_rng(p.first).standard_normal(p.g.y_shape)
    wanted = np.zeros((36, p.g.filters, p.columns))
    for lane, n, top, left in places(p):
        wanted[:, :, lane] = both(A, cut_out(dy[n, :, 0], top, left, 4))
    u = output(wanted.shape, dtype, gaps)
    run.winograd_output_grad(gaps(dy, dtype), u, p.g.axes(), p.first, p.tiles)
    assert_filled(u, wanted, dtype)
    assert not u[:, :, p.tiles :].any()


@each_dtype
@each_build
@given(p=some_tiles(), biased=st.booleans())
def test_output(build, dtype, p, biased):
    """Lanes past the last tile are NaN, and cells of other tiles stay as they are."""
    run = kernels_of(build, dtype)
    rng = np.random.default_rng(p.first)
    m = np.full((36, p.g.filters, p.columns), np.nan)
    m[:, :, : p.tiles] = rng.standard_normal((36, p.g.filters, p.tiles))
    b = rng.standard_normal(p.g.filters)
    wanted = np.full(p.g.y_shape, np.nan)
    for lane, n, top, left in places(p):
        tile = A.T @ m[:, :, lane].T.reshape(-1, 6, 6) @ A
        part = wanted[n, :, 0, top : top + 4, left : left + 4]
        part[:] = tile[:, : part.shape[1], : part.shape[2]] + biased * b[:, None, None]
    y = output(wanted.shape, dtype, gaps)
    bias = packed(b, dtype) if biased else None
    run.winograd_output(planes(m, dtype), bias, y, p.g.axes(), p.first, p.tiles)
    filled = ~np.isnan(wanted)
    np.testing.assert_array_equal(~np.isnan(y), filled)
    assert_untouched(y)
    if p.tiles:
        error = abs(y[filled] - wanted[filled]).max()
        assert error <= CLOSE[dtype] * abs(wanted[filled]).max()


STRIDES = {
    "as they are": lambda w: w.copy(),
    "flipped": lambda w: w[:, :, ::-1, ::-1].copy()[:, :, ::-1, ::-1],
    "swapped": lambda w: w.swapaxes(0, 1).copy().swapaxes(0, 1),
    "taps first": lambda w: w.transpose(2, 3, 1, 0).copy().transpose(3, 2, 0, 1),
    "apart": lambda w: np.repeat(np.repeat(w, 2, axis=1), 3, axis=3)[:, ::2, :, ::3],
}


@each_dtype
@each_build
@pytest.mark.parametrize("strides", STRIDES)
def test_weights(build, dtype, strides):
    run = kernels_of(build, dtype)
    rng = np.random.default_rng(1)
    for f, c in [(1, 1), (3, 15), (2, 16), (1, 17), (2, 40)]:
        w = rng.standard_normal((f, c, 3, 3))
        u = output((36, f, c), dtype, gaps)
        run.winograd_weight(STRIDES[strides](w.astype(dtype)), u)
        assert_filled(u, both(G, w), dtype)

        v = rng.standard_normal((36, f, c))
        dw = STRIDES[strides](np.full((f, c, 3, 3), np.nan, dtype))
        run.winograd_weight_grad(gaps(v, dtype), dw)
        wanted = np.moveaxis(both(G.T, v.transpose(1, 2, 0).reshape(f, c, 6, 6)), 0, -1)
        assert abs(dw - wanted.reshape(dw.shape)).max() <= CLOSE[dtype] * abs(wanted).max()
        dw = output((f, c, 3, 3), dtype, gaps)
        run.winograd_weight_grad(gaps(v, dtype), dw)
        assert_filled(dw, wanted.reshape(dw.shape), dtype)


@each_dtype
@each_compiled
def test_kernels_check_what_would_crash(build, dtype):
    run = kernels_of(build, dtype)
    g = geometry((2, 3, 9, 10), (4, 3, 3, 3), 1, 1, 1, 1)  # 2 * 3 * 3 tiles
    x, y, b = np.zeros(g.x_shape, dtype), np.zeros(g.y_shape, dtype), np.zeros(4, dtype)
    u, m = np.zeros((36, 3, 32), dtype), np.zeros((36, 4, 32), dtype)
    w, v = np.zeros((4, 3, 3, 3), dtype), np.zeros((36, 4, 3), dtype)
    axes = g.axes()

    def changed(row, column, value):
        other = axes.copy()
        other[row, column] = value
        return other

    wrong_axes = [
        axes[:2],
        axes[:, :5].copy(),
        *(changed(1, column, 2) for column in (1, 2, 3)),  # kernel, stride, dilation
        changed(1, 0, 8),
        changed(2, 5, 0),
        changed(0, 1, 3),
        changed(0, 4, 1),
        changed(0, 5, 2),
    ]
    calls = [
        lambda axes, first, tiles, u=u, x=x: run.winograd_input(x, u, axes, first, tiles),
        lambda axes, first, tiles, u=m, x=y: run.winograd_output_grad(x, u, axes, first, tiles),
        lambda axes, first, tiles, u=m, x=y: run.winograd_output(u, b, x, axes, first, tiles),
    ]
    for call, right, array in zip(calls, (u, m, m), (x, y, y), strict=True):
        call(axes, 0, 18)
        for wrong in wrong_axes[:5] + wrong_axes[6:]:
            with pytest.raises(ValueError, match=r"axes|size|Winograd|array"):
                call(wrong, 0, 18)
        for first, tiles in ((-1, 2), (1, 18), (0, 33), (0, -1), (18, 1)):
            with pytest.raises(ValueError, match="tiles"):
                call(axes, first, tiles)
        others = [right[:35], right[:, :2], right[:, :, :31], right[:, :, ::2]]
        if call is not calls[1]:
            others.append(right[:, :, :16])  # rows that do not follow each other
        for other in others:
            with pytest.raises(ValueError, match=r"tiles|contiguous"):
                call(axes, 0, 16, u=other)
        for other in (array[..., :-1], array[..., ::-1], array[:, :2], array[:, :, :, 1:]):
            with pytest.raises(ValueError, match=r"size|tiles|contiguous"):
                call(axes, 0, 16, x=other)
    with pytest.raises(ValueError, match="size"):
        run.winograd_input(x, u, changed(1, 0, 8), 0, 18)
    with pytest.raises(ValueError, match="b must"):
        run.winograd_output(m, b[:3], y, axes, 0, 18)
    for kernel, arrays in ((run.winograd_weight, (w, v)), (run.winograd_weight_grad, (v, w))):
        kernel(*arrays)
        for filters, transformed in (
            (w[:, :, :2], v),
            (w[..., :2], v),
            (w[:3], v),
            (w, v[:35]),
            (w, v[:, :, :2]),
            (w, np.zeros((36, 4, 6), dtype)[:, :, ::2]),
        ):
            wrong = (filters, transformed)
            with pytest.raises(ValueError, match=r"filters|contiguous"):
                kernel(*(wrong if kernel is run.winograd_weight else wrong[::-1]))


# From here on: Winograd from end to end.


def rows_of(size, points=(), limit=10**9):
    """Blocks of at most `limit`, also cut at these points, as rows of (start, stop)."""
    bounds = sorted({0, size, *(point % size for point in points), *range(0, size, limit)})
    return np.array(list(itertools.pairwise(bounds)), np.intp).reshape(-1, 2)


def rounded(size):
    return -(-size // LANES) * LANES


class Fused:
    """Arrays for a convolution, its result by the fallback's transforms, and a call of either
    kernel for it."""

    def __init__(self, n=2, c=3, f=5, size=(9, 10), pads=((1, 1), (1, 1)), flip=False, seed=0):
        g = geometry((n, c, *size), (f, c, 3, 3), 1, pads, 1, 1)
        self.g = g = g.flipped() if flip else g
        rng = np.random.default_rng(seed)
        self.x, self.b = rng.standard_normal(g.x_shape), rng.standard_normal(g.filters)
        self.w = rng.standard_normal((g.filters, g.channels, 3, 3))
        self.total = winograd.count_tiles(g)
        self.v = np.empty((36, g.filters, g.channels))
        fallback.winograd_weight(self.w, self.v)
        self.y = self.expected(self.v)

    def expected(self, v):
        u = np.empty((36, self.g.channels, self.total))
        fallback.winograd_input(self.x, u, self.g.axes(), 0, self.total)
        y = np.empty(self.g.y_shape)
        fallback.winograd_output(v @ u, self.b, y, self.g.axes(), 0, self.total)
        return y

    def by_tiles(self, dtype, filters=None, tiles=None, rows=3, spare=0, **changes):
        """Arguments by name, in order."""
        filters = rows_of(self.g.filters) if filters is None else filters
        tiles = rows_of(self.total) if tiles is None else tiles
        columns = rounded(int((tiles[:, 1] - tiles[:, 0]).max())) + spare * LANES
        size = 36 * (self.g.channels * columns + rows * columns + 2 * LANES)
        return self.arrays(dtype) | {
            "axes": self.g.axes(), "filters": filters, "tiles": tiles, "columns": columns,
            "rows": rows, **self.shared(dtype, size), **changes,
        }  # fmt: skip

    def by_filters(
        self, dtype, channels=None, filters=None, prepared=False, columns=LANES, **changes
    ):
        channels = rows_of(self.g.channels) if channels is None else channels
        filters = rows_of(self.g.filters) if filters is None else filters
        rows = int((filters[:, 1] - filters[:, 0]).max())
        own = 0 if prepared else rows * self.g.channels + LANES
        v = self.v if prepared else self.v[:, :0]
        return self.arrays(dtype) | {
            "v": packed(v, dtype),
            "axes": self.g.axes(),
            "u": output((36, self.g.channels, rounded(self.total)), dtype, planes),
            "channels": channels, "filters": filters, "prepared": prepared, "columns": columns,
            **self.shared(dtype, 36 * (own + rows * columns + LANES)), **changes,
        }  # fmt: skip

    def arrays(self, dtype):
        return {
            "x": gaps(self.x, dtype),
            "w": gaps(self.w, dtype),
            "v": output(self.v.shape, dtype),
            "b": packed(self.b, dtype),
            "y": output(self.y.shape, dtype, gaps),
        }

    def shared(self, dtype, size):
        return {"progress": np.zeros(3, np.longlong), "memory": output(size, dtype)}

    def check(self, arguments, dtype, wanted=None):
        """What was computed, and that nothing else was touched."""
        wanted = self.y if wanted is None else wanted
        filled = ~np.isnan(wanted)
        np.testing.assert_array_equal(~np.isnan(arguments["y"]), filled)
        error = abs(arguments["y"] - wanted)[filled].max(initial=0)
        assert error <= 4 * CLOSE[dtype] * abs(self.y).max()
        for name in ("y", "memory", "u"):
            if name in arguments:
                assert_untouched(arguments[name])


WAYS_OF_KERNELS = ["winograd_by_tiles", "winograd_by_filters"]
each_kernel = pytest.mark.parametrize("kernel", WAYS_OF_KERNELS)


@st.composite
def fused_works(draw):
    size = draw(st.integers(1, 30)), draw(st.integers(1, 30))
    pads = tuple(
        (low, high + max(0, 3 - n - low - high))
        for n, low, high in ((n, draw(st.integers(0, 6)), draw(st.integers(0, 6))) for n in size)
    )
    n, c, f = draw(st.integers(1, 3)), draw(st.integers(1, 19)), draw(st.integers(1, 40))
    work = Fused(n, c, f, size, pads, draw(st.booleans()), draw(st.integers(0, 9)))
    points = st.lists(st.integers(0, 999), max_size=3)
    return work, [draw(points) for _ in range(2)], draw(st.integers(1, 40)), draw(st.booleans())


@each_dtype
@each_build
@given(drawn=fused_works())
def test_by_tiles(build, dtype, drawn):
    """Cut anywhere; filters transformed, or given."""
    work, points, rows, prepared = drawn
    filters = rows_of(work.g.filters, points[0])
    tiles = rows_of(work.total, points[1], 5 * LANES)
    arguments = work.by_tiles(dtype, filters, tiles, rows, spare=rows % 2)
    if prepared:
        arguments["filters"] = filters[:0]
        arguments["v"] = packed(work.v, dtype)
        arguments["w"] = np.full_like(arguments["w"], np.nan)
    kernels_of(build, dtype).winograd_by_tiles(*arguments.values())
    work.check(arguments, dtype)
    if not prepared:
        assert_filled(arguments["v"], work.v, dtype)
    done = len(arguments["filters"])
    assert arguments["progress"].tolist() == [done + 1, done, len(tiles) + 1]


@each_dtype
@each_build
@given(drawn=fused_works())
def test_by_filters(build, dtype, drawn):
    work, points, rows, prepared = drawn
    channels, filters = rows_of(work.g.channels, points[0]), rows_of(work.g.filters, points[1])
    columns = (1 + rows % 4) * LANES
    arguments = work.by_filters(dtype, channels, filters, prepared, columns)
    if prepared:
        arguments["w"] = np.full_like(arguments["w"], np.nan)
    kernels_of(build, dtype).winograd_by_filters(*arguments.values())
    work.check(arguments, dtype)
    assert not arguments["u"][:, :, work.total :].any()
    done = len(channels)
    assert arguments["progress"].tolist() == [done + 1, done, len(filters) + 1]


@each_dtype
@each_build
@each_kernel
def test_end_to_end_without_bias(kernel, build, dtype):
    work = Fused()
    work.y -= work.b.reshape(-1, 1, 1, 1)
    arguments = getattr(work, kernel[9:])(dtype, b=None)
    getattr(kernels_of(build, dtype), kernel)(*arguments.values())
    work.check(arguments, dtype)


@each_dtype
@each_build
@each_kernel
@pytest.mark.parametrize("strides", STRIDES)
def test_end_to_end_reads_any_filters(strides, kernel, build, dtype):
    """As forward passes have them, and input gradients: flipped, and channels first."""
    work = Fused(c=20, f=7)
    w = STRIDES[strides](work.w.astype(dtype))
    arguments = getattr(work, kernel[9:])(dtype, w=w)
    getattr(kernels_of(build, dtype), kernel)(*arguments.values())
    work.check(arguments, dtype)


@each_dtype
@each_build
def test_by_tiles_begins_where_others_are(build, dtype):
    """Filters that others have transformed are used; tiles that others have taken, left alone."""
    work = Fused(2, 4, 11, (17, 18))
    filters, tiles = rows_of(11, (2, 5, 9)), rows_of(work.total, (), 9)
    for first, second in itertools.product((0, 1, 3, 4, 6), (0, 1, 2, len(tiles), 9)):
        other = work.v.copy()
        mine = filters[first][0] if first < 4 else 11
        other[:, :mine] *= 2  # not the transform of w: so it shows
        v = output(work.v.shape, dtype)
        v[:, :mine] = other[:, :mine]
        progress = np.array([first, min(first, 4), second], np.longlong)
        arguments = work.by_tiles(dtype, filters, tiles, v=v, progress=progress)
        kernels_of(build, dtype).winograd_by_tiles(*arguments.values())
        wanted = work.expected(other)
        for t in range(tiles[second][0] if second < len(tiles) else work.total):
            image, row, column = np.unravel_index(t, (2, 5, 5))
            wanted[image, :, 0, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = np.nan
        work.check(arguments, dtype, wanted)
        assert progress.tolist() == [max(first, 4) + 1, 4, max(second, len(tiles)) + 1]


@each_dtype
@each_build
def test_by_filters_begins_where_others_are(build, dtype):
    work = Fused(1, 11, 8, (17, 18))
    channels, filters = rows_of(11, (2, 5, 9)), rows_of(8, (1, 4))
    for first, second in itertools.product((0, 1, 3, 4, 6), (0, 1, 2, 3, 9)):
        arguments = work.by_filters(dtype, channels, filters)
        arguments["progress"][:] = first, min(first, 4), second
        mine = channels[first][0] if first < 4 else 11
        arguments["u"][:, :mine] = 0  # not the transform of x: so it shows
        kernels_of(build, dtype).winograd_by_filters(*arguments.values())
        left = Fused(1, 11, 8, (17, 18))
        left.x[:, :mine] = 0
        wanted = left.expected(left.v)
        wanted[:, : filters[second][0] if second < 3 else 8] = np.nan
        work.check(arguments, dtype, wanted)
        assert arguments["progress"].tolist() == [max(first, 4) + 1, 4, max(second, 3) + 1]


@each_dtype
@each_build
@each_kernel
def test_the_second_phase_waits_for_the_first(kernel, build, dtype):
    """For a block that another thread has taken, until that says that it is done."""
    work = Fused(2, 6, 6)
    parts = rows_of(6, (2, 4))
    name = "filters" if kernel == "winograd_by_tiles" else "channels"
    arguments = getattr(work, kernel[9:])(dtype, **{name: parts})
    progress = arguments["progress"]
    progress[:] = 1, 0, 0
    call = getattr(kernels_of(build, dtype), kernel)
    helper = threading.Thread(target=call, args=tuple(arguments.values()), daemon=True)
    helper.start()
    until = time.monotonic() + PATIENCE
    while progress[1] < 2 and time.monotonic() < until:
        time.sleep(1e-3)
    time.sleep(0.01)
    assert progress.tolist() == [4, 2, 0]
    assert helper.is_alive()
    assert np.isnan(arguments["y"]).all()
    if name == "filters":
        arguments["v"][:, :2] = work.v[:, :2]
    else:
        u = np.empty((36, 2, rounded(work.total)))
        fallback.winograd_input(work.x[:, :2], u, work.g.axes(), 0, work.total)
        arguments["u"][:, :2] = u
    progress[1] = 3
    helper.join(PATIENCE)
    assert not helper.is_alive()
    work.check(arguments, dtype)


@each_dtype
@each_build
@each_kernel
def test_threads_share_progress(kernel, build, dtype):
    work = Fused(3, 20, 24, (30, 31))
    blocks = {"filters": rows_of(24, (), 3)}
    if kernel == "winograd_by_tiles":
        blocks["tiles"] = rows_of(work.total, (), 10)
    else:
        blocks["channels"] = rows_of(20, (), 3)
    alone = getattr(work, kernel[9:])(dtype, **blocks)
    call = getattr(kernels_of(build, dtype), kernel)
    call(*alone.values())
    for number in (2, 5):
        arguments = getattr(work, kernel[9:])(dtype, **blocks)
        start = threading.Barrier(number)

        def help_out(arguments=arguments, start=start):
            mine = {**arguments, "memory": np.full_like(arguments["memory"], np.nan)}
            start.wait(PATIENCE)
            call(*mine.values())

        helpers = [threading.Thread(target=help_out, daemon=True) for _ in range(number)]
        for helper in helpers:
            helper.start()
        for helper in helpers:
            helper.join(PATIENCE)
            assert not helper.is_alive()
        work.check(arguments, dtype)
        np.testing.assert_array_equal(arguments["y"], alone["y"])
        others = np.array([number - 1, 0, number - 1])
        np.testing.assert_array_equal(arguments["progress"], alone["progress"] + others)


@each_dtype
@each_compiled
@each_kernel
def test_end_to_end_checks_what_would_crash(kernel, build, dtype):
    run = getattr(kernels_of(build, dtype), kernel)
    work = Fused(2, 4, 6, (9, 10))
    make = getattr(work, kernel[9:])
    right = make(dtype)
    x, w, b, y, axes = (right[name] for name in ("x", "w", "b", "y", "axes"))

    def changed(row, column, value):
        other = axes.copy()
        other[row, column] = value
        return other

    def blocks(*rows):
        return np.array(rows, np.intp).reshape(len(rows), -1)

    of_six = [blocks((0, 7)), blocks((-1, 2)), blocks((3, 3)), blocks((4, 2)), blocks((0, 1, 2))]
    wrong = [
        *({"x": a} for a in (x[:1], x[:, :3], x[..., :9], x[..., ::-1], x[..., :8, :])),
        *({"w": a} for a in (w[:5], w[:, :3], w[..., :2], w[:, :, :2], w[:0])),
        *({"b": a} for a in (b[:5], np.zeros(7, dtype))),
        *({"y": a} for a in (y[:1], y[:, :5], y[..., :9], y[..., ::-1], y[..., :8, :])),
        *({"axes": a} for a in (axes[:2], axes[:, :5].copy(), changed(0, 1, 3), changed(0, 4, 1))),
        *({"axes": changed(1, column, 2)} for column in (0, 1, 2, 3, 5)),
        *({"filters": a} for a in of_six),
        *({"columns": n} for n in (0, -16, 8, 17)),
        *({"progress": np.zeros(n, np.longlong)} for n in (0, 2, 4)),
        *({"progress": np.array(n, np.longlong)} for n in ([-1, 0, 0], [0, -1, 0], [0, 0, -1])),
        {"memory": right["memory"][:-1]},
        {"memory": right["memory"][:0]},
    ]
    if kernel == "winograd_by_tiles":
        v = right["v"]
        wide = np.zeros((36, 6, 5), dtype)
        wrong += [{"v": a} for a in (v[:35], v[:, :5], v[:, :, :3], wide, wide[:, :, :4])]
        of_tiles = [blocks((0, 19)), blocks((-1, 2)), blocks((3, 3)), blocks((0, 1, 2))]
        wrong += [{"tiles": a} for a in of_tiles]
        wrong += [{"columns": 16}, {"columns": 48}, {"rows": 0}, {"rows": -1}, {"rows": 4}]
    else:
        u, wide = right["u"], np.zeros((36, 4, 48), dtype)
        others = u[:35], u[:, :3], u[:, :, :16], u[:, :, :31], wide[:, :, :32], wide[:, :, :47]
        wrong += [{"u": a} for a in others]
        wrong += [{"channels": a} for a in of_six]
        wrong += [{"columns": 32}, {"v": np.zeros((36, 0, 3), dtype)}]
        prepared = make(dtype, prepared=True)
        run(*prepared.values())
        v, other = prepared["v"], np.zeros((36, 6, 5), dtype)
        for array in (v[:35], v[:, :5], v[:, :, :3], other, other[:, :, :4], v[:, :0]):
            prepared["progress"][:] = 0
            assert refused(run, *{**prepared, "v": array}.values())
    run(*right.values())
    right["y"][...] = 7
    for change in wrong:
        right["progress"][:] = 0
        assert refused(run, *{**right, **change}.values())
    assert (right["y"] == 7).all()


def check_nothing_outside(build, dtype):
    """A read that spoils nothing is not seen by guards: beside these arrays, it crashes."""
    run = kernels_of(build, dtype)
    for kernel, prepared, start in itertools.product(WAYS_OF_KERNELS, (False, True), (False, True)):
        for size, c, f in (((9, 10), 4, 7), ((1, 2), 1, 1), ((22, 31), 17, 9), ((4, 4), 16, 8)):
            work = Fused(2, c, f, size)
            if kernel == "winograd_by_tiles":
                arguments = work.by_tiles(dtype, tiles=rows_of(work.total, (), 20))
                if prepared:
                    arguments |= {"filters": np.zeros((0, 2), np.intp), "v": work.v}
            else:
                arguments = work.by_filters(dtype, prepared=prepared)
            for name in ("x", "w", "v", "b", "y", "u", "memory"):
                if name in arguments:
                    arguments[name] = protected(arguments[name], dtype, start)
            getattr(run, kernel)(*arguments.values())
            assert abs(arguments["y"] - work.y).max() <= 1e-5 * abs(work.y).max()


@can_protect
@each_dtype
@each_compiled
def test_nothing_is_touched_outside_of_arrays(build, dtype):
    in_another_process("test_winograd", "check_nothing_outside", build, dtype)


# From here on: the public face.

# What a computation goes through: as it is, or with so small bounds that it is cut everywhere.
# On both roads, whichever is the one of this build.
SMALL = {"SHARE_SECONDS": 1e-9}
WAYS = {
    "plain": {},
    "plain, small blocks": SMALL
    | {"BLOCK_FILTERS": 3, "BLOCK_TILES": 16, "BLOCK_BYTES": 1, "FEW_TILES": 0},
    "plain, few tiles": SMALL
    | {"BLOCK_FILTERS": 3, "FEW_TILES": 10**9, "MANY_WEIGHTS": 0, "LARGE_SUM": 0},
    "plain, chunks": SMALL
    | {"BLOCK_FILTERS": 3, "LARGE_SUM": 0, "CHUNK_BYTES": 1, "BLOCK_TILES": 16},
    "plain, sums": {"LARGE_SUM": 10**9, "BLOCK_BYTES": 1, "BLOCK_TILES": 16, "SUM_PARTS": 3},
    "fast": {},
    "fast, small blocks": SMALL | {"COLUMNS": 16, "ROWS": 3, "FEW_TILES": 0},
    "fast, few tiles": SMALL | {"COLUMNS": 16, "ROWS": 3, "FEW_TILES": 10**9, "MANY_WEIGHTS": 0},
}


def take(way, patch):
    """Let this way be taken."""
    forget_plans()
    fast = way.startswith("fast")
    patch.setattr(kernels, "VECTOR", fast)
    for name, value in WAYS[way].items():
        patch.setattr(fused if fast else winograd, name, value)


@pytest.fixture
def way(request, monkeypatch):
    take(request.param, monkeypatch)
    yield request.param
    forget_plans()


def forget_plans():
    plan.cache_clear()
    cyconv.prepare._prepare_once.cache_clear()


every_way = pytest.mark.parametrize("way", WAYS, indirect=True)


@st.composite
def convolutions(draw):
    pad = st.integers(0, 7)
    pads = [(draw(pad), draw(pad)) for _ in range(2)]
    size = [draw(st.integers(max(1, 3 - sum(p)), 30)) for p in pads]
    n, c, f = draw(st.integers(1, 9)), draw(st.integers(1, 40)), draw(st.integers(1, 40))
    n = min(n, max(1, 8000 // math.prod(size)))
    return Case((n, c, *size), (f, c, 3, 3), padding=tuple(pads), seed=draw(st.integers(0, 9)))


CASES = [
    Case((1, 1, 1, 1), (1, 1, 3, 3), padding=1),
    Case((1, 1, 3, 3), (1, 1, 3, 3)),
    Case((9, 40, 30, 30), (40, 40, 3, 3), padding=1),
    Case((5, 17, 13, 6), (33, 17, 3, 3), padding=((5, 0), (0, 7))),
    Case((1, 8, 4, 29), (8, 8, 3, 3), padding=(0, 4)),
    Case((2, 3, 5, 5), (40, 3, 3, 3), padding=((3, 3), (9, 4))),
]


def assert_close(case, dtype, algorithm="winograd"):
    x, w, b, dy = case.arrays(dtype)
    for name, arguments, shape in (
        ("conv", (x, w, b), dy.shape),
        ("conv", (x, w), dy.shape),
        ("conv_input_grad", (dy, w, x.shape), x.shape),
        ("conv_weight_grad", (dy, x, w.shape), w.shape),
    ):
        out = np.full(shape, np.nan, dtype)
        getattr(cyconv, name)(*arguments, algorithm=algorithm, out=out, **case.options)
        wanted = getattr(reference, name)(*arguments, **case.options)
        assert abs(out - wanted).max() <= TOLERANCE[dtype] * abs(wanted).max(), name


@every_way
@each_dtype
@pytest.mark.parametrize("case", CASES, ids=str)
def test_close(way, case, dtype):
    assert_close(case, dtype)


@each_dtype
@settings(max_examples=40)
@given(case=convolutions(), name=st.sampled_from(list(WAYS)))
def test_any_convolution(dtype, case, name):
    with pytest.MonkeyPatch.context() as patch:
        take(name, patch)
        assert_close(case, dtype)
    forget_plans()


@every_way
def test_ways_differ(way):
    """Each way cuts as its name says."""
    g = geometry((3, 12, 30, 30), (10, 12, 3, 3), 1, 1, 1, 1)
    forward, back, summed = (
        winograd.tiles(g, 4, pass_) for pass_ in ("forward", "input_grad", "weight_grad")
    )
    road, _, name = way.partition(", ")
    for cut in (forward, back):
        assert isinstance(cut, fused.Blocks if road == "fast" else winograd.Blocks)
        assert cut.few == (name == "few tiles")
        assert (len(cut.filters) > 1) == (name in ("small blocks", "few tiles", "chunks"))
        assert (len(cut.weights) > 1) == (name in ("small blocks", "few tiles", "chunks"))
    assert isinstance(summed, winograd.Blocks)
    if road == "fast":
        assert len(forward.tiles) > (8 if name else 1)
        assert forward.columns == (16 if name else 48)
    else:
        assert (len(forward.tiles) > 1) == (name in ("small blocks", "sums"))
        assert (len(summed.tiles) > 8) == (name in ("small blocks", "chunks", "sums"))
        assert summed.few == (name in ("few tiles", "chunks"))


@pytest.mark.parametrize("way", ["fast, small blocks", "fast, few tiles"], indirect=True)
@each_dtype
def test_prepared_filters(way, dtype):
    """Transformed ahead, they give the same result, and w is not read."""
    case = Case((2, 20, 18, 21), (13, 20, 3, 3), padding=1)
    x, w, b, _ = case.arrays(dtype)
    g = geometry(case.x_shape, case.w_shape, 1, 1, 1, 1)
    made = plan(g, np.dtype(dtype), "forward", "winograd")
    v = fused.prepare(made, w)
    unread = np.full_like(w, np.nan)
    y = np.full(g.y_shape, np.nan, dtype)
    fused.convolve(made, x.reshape(g.x_shape), unread, b, y, v)
    wanted = cyconv.conv(x, w, b, padding=1, algorithm="winograd")
    np.testing.assert_array_equal(y.reshape(wanted.shape), wanted)


@pytest.mark.parametrize(
    "case",
    [
        Case((1, 2, 9, 9), (2, 2, 5, 5)),
        Case((1, 2, 9, 9), (2, 2, 3, 1)),
        Case((1, 2, 9, 9), (2, 2, 3, 3), stride=2),
        Case((1, 2, 9, 9), (2, 2, 3, 3), stride=(1, 2)),
        Case((1, 2, 9, 9), (2, 2, 3, 3), dilation=2),
        Case((1, 2, 9, 9), (2, 1, 3, 3), groups=2),
        Case((1, 2, 9), (2, 2, 3)),
        Case((1, 2, 9, 9, 9), (2, 2, 3, 3, 3)),
        Case((1, 2, 2, 9, 9), (2, 2, 1, 3, 3)),
    ],
    ids=str,
)
def test_what_winograd_cannot_serve(case):
    x, w, b, dy = case.arrays()
    for call in (
        lambda **options: cyconv.conv(x, w, b, **options),
        lambda **options: cyconv.conv_input_grad(dy, w, x.shape, **options),
    ):
        with pytest.raises(ValueError, match="winograd"):
            call(algorithm="winograd", **case.options)
        call(algorithm="auto", **case.options)


def test_auto_leaves_winograd_where_float32_would_be_too_far_off():
    """The error grows with the channels that are summed: C forward, F backward."""

    def pays(channels, filters, pass_, itemsize):
        g = geometry((8, channels, 28, 28), (filters, channels, 3, 3), 1, 1, 1, 1)
        return winograd.pays(g, pass_, itemsize)

    assert pays(512, 64, "forward", 4)
    assert not pays(513, 64, "forward", 4)
    assert pays(64, 513, "forward", 4)
    assert pays(64, 512, "input_grad", 4)
    assert not pays(64, 513, "input_grad", 4)
    assert pays(513, 64, "input_grad", 4)
    assert pays(600, 600, "weight_grad", 4)
    for pass_ in ("forward", "input_grad", "weight_grad"):
        assert pays(600, 600, pass_, 8)
        assert not pays(8, 64, pass_, 4)


@pytest.mark.parametrize("channels", [64, 256, 512])
def test_float32_error_of_auto(channels):
    """At most 5e-6 of the largest value, on planes just large enough for Winograd to be chosen."""
    size = {64: 68, 256: 20, 512: 14}[channels]
    case = Case((2, channels, size, size), (channels, channels, 3, 3), padding=1)
    g = geometry(case.x_shape, case.w_shape, 1, 1, 1, 1)
    assert all(winograd.pays(g, pass_, 4) for pass_ in ("forward", "input_grad", "weight_grad"))
    assert_close(case, np.float32, "auto")
    if kernels.BUILD is None:  # where auto does not choose it
        assert_close(case, np.float32)
