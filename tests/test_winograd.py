"""Winograd: the transforms in every build, and algorithm="winograd" (the kernels from end to end:
test_winograd_blocks.py).

The transforms are checked against their matrices, and the matrices against the definition; with a
stride, a dilation or a depth, the compiled ones against the fallback's, and these by what comes of
them. Kernels get arrays with guards: what they read or write beside one is seen.
"""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import reference
from builds import each_build, each_compiled, each_dtype, forget_plans, kernels_of
from guards import assert_untouched, channels_last, gaps, output, packed
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import Case

import cyconv
from cyconv import kernels
from cyconv.algorithms import fused, nonfused, winograd
from cyconv.algorithms.planes import planes_of
from cyconv.algorithms.planes import rounded as wide
from cyconv.geometry import geometry
from cyconv.kernels import fallback
from cyconv.kernels.fallback.matrices import MATRICES, MET
from cyconv.plan import plan
from cyconv.scratch import scratch

CLOSE = {np.float32: 1e-5, np.float64: 1e-13}  # a transform, relative to its largest value
TOLERANCE = {np.float32: 5e-6, np.float64: 1e-12}  # a convolution
PATIENCE = 10  # seconds


pytestmark = pytest.mark.usefixtures("as_in_a_region")


def assert_filled(view, wanted, dtype):
    """The view has the wanted values, and nothing else was written."""
    assert abs(view - wanted).max() <= CLOSE[dtype] * max(1e-30, abs(wanted).max())
    assert_untouched(view)


@st.composite
def some_tiles(draw):
    """A geometry that Winograd serves or, for its input gradient, one with negative low pads; and
    some of its tiles."""
    side = draw(st.sampled_from([3, 4]))
    h, w = draw(st.integers(1, 20)), draw(st.integers(1, 20))
    pads = [(draw(st.integers(0, 6)), draw(st.integers(0, 6))) for _ in range(2)]
    pads = [
        (low, high + max(0, side - n - low - high))
        for n, (low, high) in zip((h, w), pads, strict=True)
    ]
    n, c, f = draw(st.integers(1, 3)), draw(st.integers(1, 18)), draw(st.integers(1, 18))
    g = geometry((n, c, h, w), (f, c, side, side), 1, tuple(pads), 1, 1)
    if draw(st.booleans()):
        g = g.flipped()
    first = draw(st.integers(0, winograd.count_tiles(g) - 1))
    tiles = draw(st.integers(1, winograd.count_tiles(g) - first))
    points = side + 3
    return SimpleNamespace(
        g=g,
        first=first,
        tiles=tiles,
        points=points,
        planes=points**2,
        matrices=MATRICES[points**2],
    )


arrangements = st.sampled_from([gaps, channels_last])


def places(p):
    """Of each tile: its number, its image, and its first row and column."""
    down, across = (-(-size // 4) for size in p.g.output[1:])
    for tile in range(p.tiles):
        n, row, column = np.unravel_index(p.first + tile, (p.g.batch, down, across))
        yield tile, n, 4 * row, 4 * column


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


@pytest.mark.parametrize("side", [3, 4])
def test_matrices(side):
    """A^T [(G w G^T) * (B^T x B)] A is the correlation of a tile; its adjoints are the others."""
    rng = np.random.default_rng(0)
    A, G, BT = MATRICES[(side + 3) ** 2]
    x, w, dy = (rng.standard_normal((size, size)) for size in (side + 3, side, 4))
    y = A.T @ ((G @ w @ G.T) * (BT @ x @ BT.T)) @ A
    dw = G.T @ ((A @ dy @ A.T) * (BT @ x @ BT.T)) @ G
    wanted_y, wanted_dw = (
        sum(b[i, j] * x[i : i + n, j : j + n] for i in range(len(b)) for j in range(len(b)))
        for b, n in ((w, 4), (dy, side))
    )
    np.testing.assert_allclose(y, wanted_y, rtol=0, atol=1e-13)
    np.testing.assert_allclose(dw, wanted_dw, rtol=0, atol=1e-13)


def test_matrices_with_stride():
    """The same, where several planes of tiles meet one of filters; and the input gradient, whose
    even cells, beginning with the second, meet two taps and whose odd ones meet one."""
    rng = np.random.default_rng(0)
    (A, G, BT), (A_back, G_back, BT_back) = MATRICES[81], MATRICES[-81]
    assert G_back is G
    met = [0, 1, 2, 3, 4, 5, 5, 5, 5]
    w, x = rng.standard_normal((3, 3)), rng.standard_normal((9, 9))
    dy, more = rng.standard_normal((4, 4)), rng.standard_normal((5, 5))
    v = (G @ w @ G.T)[np.ix_(met, met)]
    np.testing.assert_array_equal((G @ w @ G.T).ravel()[MET], v.ravel())
    y = A.T @ (v * (BT @ x @ BT.T)) @ A
    sums = np.zeros((6, 6))
    np.add.at(sums, np.ix_(met, met), (A @ dy @ A.T) * (BT @ x @ BT.T))
    dx = A_back.T @ (v * (BT_back @ more @ BT_back.T)) @ A_back
    wanted_y, wanted_dw, wanted_dx = np.zeros((4, 4)), np.zeros((3, 3)), np.zeros((8, 8))
    flipped = w[::-1, ::-1]
    for i, j in np.ndindex(3, 3):
        wanted_y += w[i, j] * x[i : i + 7 : 2, j : j + 7 : 2]
        wanted_dw[i, j] = (dy * x[i : i + 7 : 2, j : j + 7 : 2]).sum()
        for row, column in np.ndindex(5, 5):  # output o meets cells 2 o to 2 o + 2
            cell = 2 * row + i - 1, 2 * column + j - 1
            if min(cell) >= 0 and max(cell) < 8:
                wanted_dx[cell] += flipped[i, j] * more[row, column]
    np.testing.assert_allclose(y, wanted_y, rtol=0, atol=1e-13)
    np.testing.assert_allclose(G.T @ sums @ G, wanted_dw, rtol=0, atol=1e-13)
    np.testing.assert_allclose(dx, wanted_dx, rtol=0, atol=1e-13)


@each_dtype
@each_build
@given(p=some_tiles(), lay=arrangements)
def test_input(build, dtype, p, lay):
    run = kernels_of(build)
    rng = np.random.default_rng(p.first)
    x = rng.standard_normal((p.g.batch, p.g.channels, 1, *p.g.size[1:]))
    wanted = np.zeros((p.planes, p.tiles, wide(p.g.channels)))
    for t, n, top, left in places(p):
        tile = cut_out(x[n, :, 0], top - p.g.low[1], left - p.g.low[2], p.points)
        wanted[:, t, : p.g.channels] = both(p.matrices.BT, tile)
    u = output(wanted.shape, dtype, gaps)
    run.winograd_input(lay(x, dtype), u, p.g.axes(), p.first)
    assert_filled(u, wanted, dtype)
    assert not u[:, :, p.g.channels :].any()


@each_dtype
@each_build
@given(p=some_tiles(), lay=arrangements)
def test_output_grad(build, dtype, p, lay):
    run = kernels_of(build)
    dy = np.random.default_rng(p.first).standard_normal(p.g.y_shape)
    wanted = np.zeros((p.planes, p.tiles, wide(p.g.filters)))
    for t, n, top, left in places(p):
        tile = cut_out(dy[n, :, 0], top, left, 4)
        wanted[:, t, : p.g.filters] = both(p.matrices.A, tile)
    d = output(wanted.shape, dtype, gaps)
    run.winograd_output_grad(lay(dy, dtype), d, p.g.axes(), p.first)
    assert_filled(d, wanted, dtype)
    assert not d[:, :, p.g.filters :].any()


@each_dtype
@each_build
@given(p=some_tiles(), biased=st.booleans(), lay=arrangements)
def test_output(build, dtype, p, biased, lay):
    """Columns past the last filter are NaN, and cells of other tiles stay as they are."""
    run = kernels_of(build)
    rng = np.random.default_rng(p.first)
    m = np.full((p.planes, p.tiles, wide(p.g.filters)), np.nan)
    m[:, :, : p.g.filters] = rng.standard_normal((p.planes, p.tiles, p.g.filters))
    b = rng.standard_normal(p.g.filters)
    wanted = np.full(p.g.y_shape, np.nan)
    for t, n, top, left in places(p):
        products = m[:, t, : p.g.filters].T.reshape(-1, p.points, p.points)
        tile = p.matrices.A.T @ products @ p.matrices.A
        part = wanted[n, :, 0, top : top + 4, left : left + 4]
        part[:] = tile[:, : part.shape[1], : part.shape[2]] + biased * b[:, None, None]
    y = output(wanted.shape, dtype, lay)
    bias = packed(b, dtype) if biased else None
    run.winograd_output(gaps(m, dtype), bias, y, p.g.axes(), p.first)
    filled = ~np.isnan(wanted)
    np.testing.assert_array_equal(~np.isnan(y), filled)
    assert_untouched(y)
    error = abs(y[filled] - wanted[filled]).max()
    assert error <= CLOSE[dtype] * abs(wanted[filled]).max()


STRIDES = {
    "as they are": lambda w: w.copy(),
    "flipped": lambda w: w[..., ::-1, ::-1].copy()[..., ::-1, ::-1],
    "swapped": lambda w: w.swapaxes(0, 1).copy().swapaxes(0, 1),
    "taps first": lambda w: w.T.copy().T,
    "apart": lambda w: np.repeat(np.repeat(w, 2, axis=1), 3, axis=-1)[:, ::2, ..., ::3],
}


@each_dtype
@each_build
@pytest.mark.parametrize("strides", STRIDES)
@pytest.mark.parametrize("side", [3, 4])
def test_weight_grad(side, build, dtype, strides):
    """Columns past the last channel are NaN."""
    run = kernels_of(build)
    rng = np.random.default_rng(1)
    points, GT = side + 3, MATRICES[(side + 3) ** 2].G.T
    for f, c in [(1, 1), (3, 15), (2, 16), (40, 17), (2, 40)]:
        sums = np.full((points**2, f, wide(c)), np.nan)
        sums[:, :, :c] = rng.standard_normal((points**2, f, c))
        tiles = sums[:, :, :c].transpose(1, 2, 0).reshape(f, c, points, points)
        wanted = (GT @ tiles @ GT.T)[:, :, None]
        dw = STRIDES[strides](np.full(wanted.shape, np.nan, dtype))
        run.winograd_weight_grad(gaps(sums, dtype), dw)
        assert abs(dw - wanted).max() <= CLOSE[dtype] * abs(wanted).max()
        dw = output(wanted.shape, dtype, gaps)
        run.winograd_weight_grad(gaps(sums, dtype), dw)
        assert_filled(dw, wanted, dtype)


@st.composite
def any_tiles(draw):
    """A geometry of three axes that Winograd serves, or that of its input gradient, some of its
    tiles, and a tap along the depth."""
    side, stride = draw(st.sampled_from([(3, 1), (4, 1), (3, 2)]))
    most = 1 if stride > 1 else winograd.SERVED[(side, side), (1, 1, 1)]
    apart = [1, *(draw(st.sampled_from([1, 1, 2, min(3, most), most])) for _ in range(2))]
    if stride > 1:
        apart = [1, 1, 1]
    apart[0] = draw(st.integers(1, 3))
    kernel = draw(st.integers(1, 3)), side, side
    pads = [(draw(st.integers(0, 6)), draw(st.integers(0, 6))) for _ in kernel]
    sizes = [draw(st.integers(1, most)) for most in (4, 20, 20)]
    size = [
        max(n, (k - 1) * d + 1 - sum(p))
        for n, k, d, p in zip(sizes, kernel, apart, pads, strict=True)
    ]
    n, c, f = draw(st.integers(1, 2)), draw(st.integers(1, 18)), draw(st.integers(1, 18))
    strides = (1, stride, stride)
    g = geometry((n, c, *size), (f, c, *kernel), strides, tuple(pads), tuple(apart), 1)
    g = g._replace(stride=strides)
    g = winograd._read(winograd._flipped(g) if draw(st.booleans()) else g)
    first = draw(st.integers(0, winograd.count_tiles(g) - 1))
    return SimpleNamespace(
        g=g,
        first=first,
        tiles=draw(st.integers(1, min(40, winograd.count_tiles(g) - first))),
        tap=draw(st.integers(0, kernel[0] - 1)),
        planes=planes_of(g),
        lay=draw(arrangements),
    )


@each_dtype
@each_compiled
@given(p=any_tiles())
def test_like_the_fallback(build, dtype, p):
    run, rng = kernels_of(build), np.random.default_rng(p.first)
    x, dy, b = (rng.standard_normal(s) for s in (p.g.x_shape, p.g.y_shape, (p.g.filters,)))
    axes = p.g.axes()
    shape = p.planes, p.tiles, wide(p.g.channels)
    wanted, u = np.empty(shape), output(shape, dtype, gaps)
    fallback.winograd_input(x, wanted, axes, p.first, p.tap)
    run.winograd_input(p.lay(x, dtype), u, axes, p.first, p.tap)
    assert_filled(u, wanted, dtype)
    shape = p.planes, p.tiles, wide(p.g.filters)
    if p.g.stride[1] > 0:
        wanted, d = np.empty(shape), output(shape, dtype, gaps)
        fallback.winograd_output_grad(dy, wanted, axes, p.first)
        run.winograd_output_grad(p.lay(dy, dtype), d, axes, p.first)
        assert_filled(d, wanted, dtype)
    m = rng.standard_normal(shape)
    wanted, y = np.full(p.g.y_shape, np.nan), output(p.g.y_shape, dtype, p.lay)
    fallback.winograd_output(m, b, wanted, axes, p.first)
    run.winograd_output(gaps(m, dtype), packed(b, dtype), y, axes, p.first)
    np.testing.assert_array_equal(np.isnan(y), np.isnan(wanted))
    assert_untouched(y)
    filled = ~np.isnan(wanted)
    error = abs(y - wanted)[filled].max(initial=0)
    assert error <= CLOSE[dtype] * abs(wanted[filled]).max(initial=1e-30)


@each_dtype
@each_compiled
def test_weight_grad_with_stride_is_like_the_fallbacks(build, dtype):
    sums = np.random.default_rng(0).standard_normal((36, 3, 32))
    wanted, dw = np.empty((3, 18, 1, 3, 3)), output((3, 18, 1, 3, 3), dtype, gaps)
    fallback.winograd_weight_grad(sums, wanted, 2)
    kernels_of(build).winograd_weight_grad(gaps(sums, dtype), dw, 2)
    assert_filled(dw, wanted, dtype)


@each_dtype
@each_compiled
def test_kernels_check_what_would_crash(build, dtype):
    run = kernels_of(build)
    g = geometry((2, 3, 9, 10), (4, 3, 3, 3), 1, 1, 1, 1)  # 2 * 3 * 3 tiles
    x, y, b = np.zeros(g.x_shape, dtype), np.zeros(g.y_shape, dtype), np.zeros(4, dtype)
    u, m = np.zeros((36, 18, 16), dtype), np.zeros((36, 18, 16), dtype)
    dw, sums = np.zeros((4, 3, 1, 3, 3), dtype), np.zeros((36, 4, 16), dtype)
    axes = g.axes()

    def changed(row, column, value):
        other = axes.copy()
        other[row, column] = value
        return other

    wrong_axes = [
        axes[:2],
        axes[:, :5].copy(),
        changed(1, 1, 2),
        changed(1, 2, 2),
        changed(0, 2, 2),
        changed(1, 3, 16),
        changed(slice(1, 3), 2, 2),  # with u of stride 1
        changed(slice(1, 3), 1, 4),  # 4x4, with u of 3x3
        changed(2, 5, 0),
    ]
    calls = [
        lambda axes, first, u=u, x=x: run.winograd_input(x, u, axes, first),
        lambda axes, first, u=m, x=y: run.winograd_output_grad(x, u, axes, first),
        lambda axes, first, u=m, x=y: run.winograd_output(u, b, x, axes, first),
    ]
    for call, right, array in zip(calls, (u, m, m), (x, y, y), strict=True):
        call(axes, 0)
        for wrong in wrong_axes:
            with pytest.raises(ValueError, match=r"axes|size|Winograd|array|tiles"):
                call(wrong, 0)
        for first in (-1, 1, 18, 2**63 - 1):
            with pytest.raises(ValueError, match="tiles"):
                call(axes, first)
        apart = np.zeros((36, 18, 32), dtype)
        for other in (right[:35], right[:, :, :15], apart, apart[:, :, ::2]):
            with pytest.raises(ValueError, match=r"tiles|contiguous"):
                call(axes, 0, u=other)
        few = np.zeros((2, 17, *array.shape[2:]), dtype)
        for other in (array[..., :-1], array[..., ::-1], few, array[:, :, :, 1:], array[:1]):
            with pytest.raises(ValueError, match=r"size|tiles|contiguous"):
                call(axes, 0, x=other)
    with pytest.raises(ValueError, match="size"):
        run.winograd_input(x, u, changed(1, 0, 8), 0)
    for array, call in zip((y, y), calls[1:], strict=True):
        for wrong in (changed(0, 5, 2), changed(1, 5, 8)):
            with pytest.raises(ValueError, match="size"):
                call(wrong, 0, x=array)
    for tap in (-1, 1):
        with pytest.raises(ValueError, match="tap"):
            run.winograd_input(x, u, axes, 0, tap)
    many = np.zeros((81, 1, 16), dtype)
    with pytest.raises(ValueError, match="forward"):
        run.winograd_output_grad(y, many, changed(slice(1, 3), 2, -2), 0)
    for stride in (0, -2, 3, 2**62):
        with pytest.raises(ValueError, match="filters"):
            run.winograd_weight_grad(sums, dw, stride)
    with pytest.raises(ValueError, match="b must"):
        run.winograd_output(m, b[:3], y, axes, 0)
    run.winograd_weight_grad(sums, dw)
    for filters, transformed in (
        (dw[:, :, :, :2], sums),
        (dw[..., :2], sums),
        (np.zeros((4, 3, 1, 4, 4), dtype), sums),
        (np.zeros((4, 3, 2, 3, 3), dtype), sums),
        (np.zeros((4, 17, 1, 3, 3), dtype), sums),
        (dw, np.zeros((49, 4, 16), dtype)),
        (np.zeros((4, 3, 1, 5, 5), dtype), np.zeros((64, 4, 16), dtype)),
        (dw[:3], sums),
        (dw, sums[:35]),
        (dw, sums[:, :, :15]),
        (dw, np.zeros((36, 4, 32), dtype)[:, :, ::2]),
    ):
        with pytest.raises(ValueError, match=r"filters|contiguous"):
            run.winograd_weight_grad(transformed, filters)


# From here on: the public face.

# What a computation goes through: as it is, or with so small bounds that it is cut everywhere.
# On both roads, whichever is the one of this build.
SMALL = {"SHARE_SECONDS": 1e-9}
PLAIN = SMALL | {"LONG_CHANNELS": 7}
SIXTEEN = {4: 16, 8: 16}
WAYS = {
    "plain": {},
    "plain, small blocks": PLAIN
    | {"BLOCK_FILTERS": 3, "BLOCK_TILES": 16, "SUM_TILES": 16, "BLOCK_BYTES": 1, "FEW_TILES": 0}
    | {"FEWEST_TILES": 16},
    "plain, few tiles": PLAIN
    | {"BLOCK_FILTERS": 3, "FEW_TILES": 10**9, "MANY_WEIGHTS": 0, "FEW_SUM": 0},
    "plain, chunks": SMALL
    | {"BLOCK_FILTERS": 3, "LARGE_SUM": 0, "FEW_TILES": 0, "CHUNK_BYTES": 1, "SUM_TILES": 16},
    "plain, sums": {"LARGE_SUM": 10**9, "FEW_TILES": 0, "BLOCK_BYTES": 1}
    | {"BLOCK_TILES": 16, "SUM_TILES": 16, "SUM_PARTS": 3, "FEWEST_TILES": 16},
    "fast": {},
    "fast, small blocks": SMALL
    | {"COLUMNS": 16, "ROWS": SIXTEEN, "FEW_TILES": 0, "LARGE_SUM": 10**9, "SUM_COLUMNS": 16},
    "fast, few tiles": SMALL
    | {"SPAN": 16, "SPAN_TILES": 0, "ROWS": SIXTEEN, "FEW_TILES": 10**9, "MANY_WEIGHTS": 0}
    | {"SUM_COLUMNS": 16},
    "fast, wide": SMALL
    | {"WIDE_BYTES": 0, "WIDE_COLUMNS": 16, "ROWS": SIXTEEN, "FEW_TILES": 0, "SUM_COLUMNS": 16},
    "fast, chunks": SMALL
    | {"ROWS": SIXTEEN, "LARGE_SUM": 0, "FEW_TILES": 0, "SUM_COLUMNS": 16, "CHUNK_BYTES": 1},
    "fast, sums": {"LARGE_SUM": 10**9, "FEW_TILES": 0, "SUM_COLUMNS": 16, "SUM_PARTS": 3},
}


def take(way, patch):
    """Let this way be taken."""
    forget_plans()
    fast = way.startswith("fast")
    patch.setattr(kernels, "VECTOR", fast)
    for name, value in WAYS[way].items():
        patch.setattr(fused if fast else nonfused, name, value)


@pytest.fixture
def way(request, monkeypatch):
    take(request.param, monkeypatch)
    return request.param


every_way = pytest.mark.parametrize("way", WAYS, indirect=True)


@st.composite
def convolutions(draw):
    pad = st.integers(0, 7)
    pads = [(draw(pad), draw(pad)) for _ in range(2)]
    side, stride = draw(st.sampled_from([(3, 1), (4, 1), (3, 2)]))
    most = 1 if stride > 1 else winograd.SERVED[(side, side), (1, 1, 1)]
    dilation = tuple(draw(st.sampled_from([1, 1, 2, 3, most])) if most > 1 else 1 for _ in pads)
    least = [(side - 1) * d + 2 * stride - 1 - sum(p) for d, p in zip(dilation, pads, strict=True)]
    size = [draw(st.integers(max(1, n), max(30, n))) for n in least]
    n, c, f = draw(st.integers(1, 9)), draw(st.integers(1, 40)), draw(st.integers(1, 40))
    n = min(n, max(1, 8000 // math.prod(size)))
    weights = (f, c, side, side)
    return Case((n, c, *size), weights, stride, tuple(pads), dilation, seed=draw(st.integers(0, 9)))


CASES = [
    Case((1, 1, 1, 1), (1, 1, 3, 3), padding=1),
    Case((1, 1, 3, 3), (1, 1, 3, 3)),
    Case((9, 40, 30, 30), (40, 40, 3, 3), padding=1),
    Case((5, 17, 13, 6), (33, 17, 3, 3), padding=((5, 0), (0, 7))),
    Case((1, 8, 4, 29), (8, 8, 3, 3), padding=(0, 4)),
    Case((2, 3, 5, 5), (40, 3, 3, 3), padding=((3, 3), (9, 4))),
    Case((2, 5, 4, 9, 10), (7, 5, 3, 3, 3), padding=1),
    Case((2, 20, 3, 7, 8), (18, 20, 2, 3, 3), padding=((2, 5), (0, 1), (1, 0)), dilation=(3, 1, 1)),
    Case((1, 3, 6, 5, 6), (4, 3, 1, 3, 3)),
    Case((1, 1, 1, 1), (1, 1, 4, 4), padding=((2, 1), (1, 2))),
    Case((9, 40, 30, 29), (40, 40, 4, 4), padding=1),
    Case((5, 17, 13, 6), (33, 17, 4, 4), padding=((6, 0), (0, 7))),
    Case((2, 18, 4, 9, 10), (20, 18, 2, 4, 4), padding=(1, 2, 1), dilation=(2, 1, 1)),
    Case((9, 40, 30, 29), (40, 40, 3, 3), stride=2, padding=1),
    Case((2, 17, 13, 22), (33, 17, 3, 3), stride=2, padding=((5, 0), (0, 7))),
    Case((1, 2, 3, 4), (3, 2, 3, 3), stride=2, padding=((2, 2), (1, 0))),
    Case((3, 40, 30, 29), (40, 40, 3, 3), padding=3, dilation=2),
    Case((2, 17, 33, 26), (33, 17, 3, 3), padding=((15, 9), (0, 17)), dilation=(12, 5)),
    Case((1, 18, 40, 31), (19, 18, 4, 4), padding=(15, 3), dilation=(10, 3)),
    Case((2, 5, 4, 9, 10), (7, 5, 3, 3, 3), padding=1, dilation=(1, 2, 3)),
    # One row of outputs, or one column: any stride will do along it, and so 2.
    Case((2, 3, 3, 12), (4, 3, 3, 3), stride=2),
    Case((2, 3, 12, 4), (4, 3, 3, 3), stride=(2, 7)),
    Case((2, 3, 1, 1), (4, 3, 3, 3), stride=2, padding=1),
    Case((2, 5, 4, 9, 10), (7, 5, 3, 3, 3), stride=(1, 2, 2), padding=1),
    # One cell of depth, and the only output reads the padding before it.
    Case((2, 3, 1, 5, 6), (4, 3, 1, 3, 3), stride=(2, 1, 1), padding=((1, 0), (1, 1), (1, 1))),
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


@every_way
@pytest.mark.parametrize("case", CASES[::3], ids=str)
def test_whatever_memory_has(way, case, monkeypatch):
    """Before it is filled."""

    def spoilt(*arguments):
        array = scratch(*arguments)
        array[...] = np.nan
        return array

    for module in (nonfused, fused):
        monkeypatch.setattr(module, "scratch", spoilt)
    assert_close(case, np.float32)


@each_dtype
@settings(max_examples=40)
@given(case=convolutions(), name=st.sampled_from(list(WAYS)))
def test_any_convolution(dtype, case, name):
    with pytest.MonkeyPatch.context() as patch:
        take(name, patch)
        assert_close(case, dtype)


@every_way
def test_ways_differ(way):
    """Each way cuts as its name says."""
    g = geometry((2, 36, 30, 30), (24, 36, 3, 3), 1, 1, 1, 1)  # 128 tiles
    forward, back, summed = (
        winograd.tiles(g, 4, pass_) for pass_ in ("forward", "input_grad", "weight_grad")
    )
    road, _, name = way.partition(", ")
    fast = road == "fast"
    for cut in (forward, back):
        assert isinstance(cut, fused.Blocks if fast else nonfused.Blocks)
        assert cut.few == (name == "few tiles")
        if name in ("small blocks", "few tiles", "wide", "chunks"):
            assert len(cut.filters) > 1
            assert len(cut.weights) > 1
    if fast:
        assert len(forward.tiles) == {"small blocks": 8, "few tiles": 1, "wide": 8}.get(name, 4)
        assert forward.columns == {"small blocks": 16, "few tiles": 128, "wide": 16}.get(name, 32)
        assert forward.span == (32 if name == "few tiles" else 36)
        assert forward.together == (2 if name == "wide" else 1)
        assert forward.rows == (32 if name in ("", "sums") else 16)
        assert isinstance(summed, fused.Sums)
        assert summed.few == (name in ("few tiles", "chunks"))
        assert len(summed.chunks) == (8 if name == "chunks" else 1)
        assert summed.width == (16 if name else 64)
        assert len(summed.parts) == {"": 2, "sums": 4}.get(name, 8)
        assert len(summed.channels) > 1
        assert len(summed.filters) == 2
    else:
        assert isinstance(summed, nonfused.Blocks)
        assert (len(forward.filters) > 1) == (name in ("small blocks", "few tiles", "chunks"))
        assert (len(forward.tiles) > 1) == (name in ("small blocks", "sums"))
        assert (len(summed.tiles) > 1) == (name != "few tiles")
        assert summed.few == (name in ("few tiles", "chunks"))


def test_a_stride_is_described():
    """By what it takes, and by tiles of y or, of dx, twice as wide."""
    shapes = (2, 3, 21, 20), (4, 3, 3, 3)
    for pass_, tiles in (("forward", "18 tiles of 4x4"), ("input_grad", "18 tiles of 8x8")):
        found = cyconv.describe(*shapes, np.float32, pass_, stride=2, algorithm="winograd")
        assert "F(4x4, 3x3) with stride 2, 81 " in found.method
        assert found.tiles.startswith(tiles)


def test_a_dilation_is_described():
    found = cyconv.describe((2, 3, 21, 20), (4, 3, 3, 3), dilation=(1, 2), algorithm="winograd")
    assert "F(4x4, 3x3) with dilation (1, 2), 36 " in found.method
    assert found.tiles.startswith("40 tiles of 4x4 outputs")


def test_auto_takes_winograd_where_tiles_are_filled():
    """With a dilation larger than a plane most outputs of a tile would be none."""
    for dilation, pays in ((2, True), (4, True), (6, False), (12, False)):
        g = geometry((1, 256, 14, 14), (256, 256, 3, 3), 1, dilation, dilation, 1)
        for pass_ in ("forward", "input_grad", "weight_grad"):
            assert winograd.pays(g, pass_, 4) == pays


def test_what_is_not_read_makes_no_difference():
    """With a stride: cells of x past the last window, and windows that lie in the padding, though
    they would be in the last tile."""
    case = Case((2, 3, 12, 12), (4, 3, 3, 3), stride=2, padding=((0, 5), (1, 6)))
    x, w, _, dy = case.arrays(np.float32)
    options = {**case.options, "algorithm": "winograd"}
    assert dy.shape[2:] == (8, 9)
    spoilt = dy.copy()
    spoilt[:, :, 6:] = spoilt[..., 7:] = np.nan
    wanted, found = (cyconv.conv_input_grad(a, w, x.shape, **options) for a in (dy, spoilt))
    np.testing.assert_array_equal(found, wanted)
    options["padding"] = 0
    spoilt = x.copy()
    spoilt[:, :, 11:] = spoilt[..., 11:] = np.nan
    wanted, found = (cyconv.conv(a, w, **options) for a in (x, spoilt))
    np.testing.assert_array_equal(found, wanted)
    dy = wanted.copy()
    wanted, found = (cyconv.conv_weight_grad(dy, a, w.shape, **options) for a in (x, spoilt))
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("way", ["fast, few tiles"], indirect=True)
@each_dtype
def test_tiles_are_shared_where_they_are_large(way, dtype, monkeypatch):
    """Else each thread transforms all of them, with the same result."""
    monkeypatch.setattr("cyconv.threads.SMALL", 0)
    case = Case((2, 40, 18, 21), (70, 40, 3, 3), padding=1)
    x, w, b, _ = case.arrays(dtype)
    wanted = reference.conv(x, w, b, **case.options)
    found = []
    for most, shared in ((10**9, False), (0, True)):
        forget_plans()
        monkeypatch.setattr(fused, "OWN_TILES", most)
        cut = winograd.tiles(geometry(x.shape, w.shape, 1, 1, 1, 1), x.itemsize, "forward")
        assert (cut.few, cut.shares_tiles, len(cut.channels) > 1) == (True, shared, shared)
        for number in (1, 3):
            monkeypatch.setattr("cyconv.threads._num_threads", number)
            found.append(cyconv.conv(x, w, b, algorithm="winograd", **case.options))
    assert abs(found[0] - wanted).max() <= TOLERANCE[dtype] * abs(wanted).max()
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])


@pytest.mark.parametrize("way", ["fast, small blocks", "fast, few tiles"], indirect=True)
@each_dtype
@pytest.mark.parametrize("stride", [1, 2])
def test_prepared_filters(stride, way, dtype):
    """Transformed ahead, they give the same result, and w is not read."""
    case = Case((2, 20, 18, 21), (13, 20, 3, 3), stride, padding=1)
    x, w, b, _ = case.arrays(dtype)
    g = geometry(case.x_shape, case.w_shape, stride, 1, 1, 1)
    made = plan(g, np.dtype(dtype), "forward", "winograd")
    v = fused.prepare(made, w[:, :, None])
    unread = np.full(g.w_shape, np.nan, dtype)
    y = np.full(g.y_shape, np.nan, dtype)
    fused.convolve(made, x.reshape(g.x_shape), unread, b, y, v)
    wanted = cyconv.conv(x, w, b, algorithm="winograd", **case.options)
    np.testing.assert_array_equal(y.reshape(wanted.shape), wanted)


@pytest.mark.parametrize(
    "case",
    [
        Case((1, 2, 9, 9), (2, 2, 5, 5)),
        Case((1, 2, 9, 9), (2, 2, 3, 1)),
        Case((1, 2, 9, 9), (2, 2, 3, 4)),
        Case((1, 2, 34, 9), (2, 2, 4, 4), dilation=(11, 1)),
        Case((1, 2, 9, 34), (2, 2, 3, 3), dilation=(1, 16)),
        Case((1, 2, 9, 9), (2, 2, 4, 4), stride=2),
        Case((1, 2, 9, 9), (2, 2, 3, 3), stride=3),
        Case((1, 2, 9, 9), (2, 2, 3, 3), stride=(1, 2)),
        Case((1, 2, 9, 9, 9), (2, 2, 3, 3, 3), stride=2),
        Case((1, 2, 9, 9), (2, 2, 3, 3), stride=2, dilation=2),
        Case((1, 2, 9, 9), (2, 1, 3, 3), groups=2),
        Case((1, 2, 9), (2, 2, 3)),
        Case((1, 2, 9, 9, 9), (2, 2, 3, 3, 2)),
        Case((1, 2, 9, 9, 9), (2, 2, 3, 3, 3), stride=(2, 1, 1)),
        Case((1, 2, 9, 9, 34), (2, 2, 3, 3, 3), dilation=(1, 2, 16)),
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


def test_auto_takes_winograd_however_many_channels(monkeypatch):
    """Since sums are cut; but not of few."""

    def pays(channels, filters, pass_, itemsize):
        g = geometry((8, channels, 28, 28), (filters, channels, 3, 3), 1, 1, 1, 1)
        return winograd.pays(g, pass_, itemsize)

    for vector in (True, False):
        monkeypatch.setattr(kernels, "VECTOR", vector)
        for pass_ in ("forward", "input_grad", "weight_grad"):
            for itemsize in (4, 8):
                assert pays(2048, 2048, pass_, itemsize)
                assert not pays(8, 64, pass_, itemsize)
            assert pays(16, 256, pass_, 4)
            assert pays(256, 16, pass_, 4)
            assert pays(16, 272, pass_, 4) == vector
            assert pays(272, 16, pass_, 4) == vector


@pytest.mark.parametrize("channels", [64, 256, 512])
@pytest.mark.parametrize(("side", "stride"), [(3, 1), (4, 1), (3, 2)])
def test_float32_error_of_auto(side, stride, channels):
    """At most 5e-6 of the largest value, on planes just large enough for Winograd to be chosen."""
    size = {64: 14, 256: 10, 512: 10}[channels] + side - 3
    images = 2
    if stride == 2:
        images, size = {64: (1, 56), 256: (8, 14), 512: (8, 14)}[channels]
    case = Case((images, channels, size, size), (channels, channels, side, side), stride, padding=1)
    g = geometry(case.x_shape, case.w_shape, stride, 1, 1, 1)
    passes = ("forward", "input_grad", "weight_grad")
    if kernels.VECTOR or stride == 1:
        assert all(winograd.pays(g, pass_, 4) for pass_ in passes)
    assert_close(case, np.float32, "auto")
    if kernels.BUILD is None:  # where auto does not choose it
        assert_close(case, np.float32)


@pytest.mark.parametrize("way", ["plain", "fast", "fast, few tiles"], indirect=True)
@pytest.mark.parametrize(("channels", "filters"), [(2048, 16), (16, 2048)])
def test_sums_over_many_channels_are_cut(way, channels, filters):
    """In one piece they were off by 8e-6 of the largest value, forward or backward; on the plain
    road by what BLAS makes of them, from 3e-6 on."""
    if kernels.BUILD is None and way != "plain":
        pytest.skip("products of the fallback's twins are whole")
    case = Case((1, channels, 8, 15), (filters, channels, 3, 3), padding=1)
    x, w, _, dy = case.arrays(np.float32)
    y = cyconv.conv(x, w, padding=1, algorithm="winograd")
    dx = cyconv.conv_input_grad(dy, w, x.shape, padding=1, algorithm="winograd")
    for got, wanted in (
        (y, reference.conv(x, w, padding=1)),
        (dx, reference.conv_input_grad(dy, w, x.shape, padding=1)),
    ):
        assert abs(got - wanted).max() <= 3e-6 * abs(wanted).max()
