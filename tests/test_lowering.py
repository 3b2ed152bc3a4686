"""im2col and col2im, compiled and in NumPy, and the tiles that lowering goes through.

Kernels get arrays with guards: what they read or write beside one is seen.
"""

import itertools

import numpy as np
import pytest
import reference
from builds import each_build, each_compiled, each_dtype, forget_plans, kernels_of
from guards import UNTOUCHED, assert_untouched, gaps, output, packed, spread
from hypothesis import example, given
from hypothesis import strategies as st
from reference import columns
from strategies import Case, cases, described

import cyconv
from cyconv import threads, tiling
from cyconv.algorithms import lowering, pointwise, products
from cyconv.plan import plan

AS_IS = [1, 1, 1, 1, 0, 1]  # size, kernel, stride, dilation, low pad, output


def back(cols, x, axes):
    """Add the columns to a copy of x, cell by cell."""
    x, numbers = x.copy(), np.arange(1, x.size + 1).reshape(x.shape)
    targets = columns(numbers, axes)  # of each column's cell the number, or 0
    np.add.at(x.reshape(-1), targets[targets > 0] - 1, cols[targets > 0])
    return x


def cells_read(axes, size):
    """Which cells of an image some position reads."""
    counts = np.zeros((1, 1, *size))
    taps, positions = (int(np.prod([axis[i] for axis in axes])) for i in (1, 5))
    return back(np.ones((taps, positions)), counts, axes)[0, 0] > 0


@st.composite
def windows(draw):
    """Any axes at all: also outputs that read nothing, and negative low pads; or of outputs as
    wide as the image, with stride 1, which is copied whole."""
    axis = st.tuples(
        st.integers(1, 9),  # size
        st.integers(1, 4),  # kernel
        st.integers(1, 9),  # stride
        st.one_of(st.integers(1, 4), st.integers(5, 30)),  # dilation
        st.integers(-6, 12),  # low pad
        st.integers(1, 6),  # output
    )
    wide = st.tuples(*[st.integers(1, top) for top in (40, 4, 9, 12)], st.integers(-6, 12))
    last = draw(st.one_of(axis, st.tuples(wide, st.integers(1, 40)).map(lambda a: (*a[0], a[1]))))
    rank = draw(st.integers(1, 3))
    axes = [AS_IS] * (3 - rank) + [list(draw(axis)) for _ in range(rank - 1)] + [list(last)]
    if draw(st.booleans()):
        size, kernel, _, dilation, low, _ = axes[2]
        axes[2] = [size, kernel, 1, dilation, low, size]
        axes[1] = [*axes[1][:2], 1, *axes[1][3:]]
    return axes


def check_kernels(run, dtype, axes, n=2, c=2):
    rng = np.random.default_rng(0)
    x = rng.integers(-9, 10, (n, c, *(axis[0] for axis in axes)))
    wanted = columns(x, axes)
    numbers = np.array(axes, np.intp)
    for arrange in (packed, spread):
        given_x = arrange(x, dtype)
        given_x.flags.writeable = False
        cols = output(wanted.shape, dtype)
        run.im2col(given_x, cols, numbers)
        np.testing.assert_array_equal(cols, wanted)
        assert_untouched(cols)

        values = rng.integers(-9, 10, wanted.shape)
        given_cols = packed(values, dtype)
        given_cols.flags.writeable = False
        got = arrange(x, dtype, guard=UNTOUCHED)
        run.col2im(given_cols, got, numbers)
        np.testing.assert_array_equal(got, back(values, x, axes))
        assert_untouched(got)


@each_dtype
@each_build
@given(axes=windows())
def test_kernels(build, dtype, axes):
    check_kernels(kernels_of(build), dtype, axes)


AXES = {
    "one cell": [AS_IS, AS_IS, AS_IS],
    "one line": [AS_IS, [7, 3, 1, 1, 1, 7], [50, 5, 1, 1, 2, 50]],
    "stride 2": [AS_IS, [9, 3, 2, 1, 1, 5], [33, 7, 2, 1, 3, 17]],
    "stride 4": [AS_IS, [9, 3, 4, 1, 0, 2], [67, 11, 4, 1, 2, 16]],
    "stride 3, dilated by 2": [AS_IS, AS_IS, [40, 5, 3, 2, 4, 13]],
    "strides share no line": [AS_IS, AS_IS, [40, 2, 9, 4, 4, 5]],
    "a line a tap": [AS_IS, AS_IS, [200, 3, 1, 90, 0, 20]],
    "volume": [[4, 3, 2, 1, 1, 2], [5, 2, 1, 3, 2, 6], [6, 3, 1, 1, 1, 6]],
    "all in the padding": [AS_IS, [2, 2, 1, 1, 9, 4], [3, 2, 1, 1, 9, 4]],
    "beyond the end": [AS_IS, [2, 2, 1, 1, -9, 4], [3, 2, 1, 1, -9, 4]],
    "from the middle": [AS_IS, [9, 3, 1, 1, -4, 3], [9, 3, 2, 1, -5, 3]],
}


@each_dtype
@each_build
@pytest.mark.parametrize("name", AXES)
def test_kernels_in_every_way(build, dtype, name):
    for n, c in ((1, 1), (3, 2)):
        check_kernels(kernels_of(build), dtype, AXES[name], n, c)


@each_dtype
@each_build
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_huge_steps(build, dtype, axis):
    """Outputs, taps or pads as far apart as can be: nothing overflows, no memory is taken."""
    far = 2**61
    run = kernels_of(build)
    x = np.arange(1, 6, dtype=dtype).reshape([5 if a == axis else 1 for a in (-2, -1, 0, 1, 2)])
    for row, wanted in (
        ([5, 1, far, 1, 0, 2], [[1, 0]]),
        ([5, 1, far, 1, far, 2], [[0, 1]]),
        ([5, 2, 1, far, 0, 3], [[1, 2, 3], [0, 0, 0]]),
        ([5, 2, 1, far, far - 1, 3], [[0, 0, 0], [2, 3, 4]]),
        ([5, 1, 1, 1, far, 2], [[0, 0]]),
        ([5, 1, 1, 1, -far, 2], [[0, 0]]),
    ):
        axes = np.array([row if a == axis else AS_IS for a in range(3)], np.intp)
        cols = output(np.shape(wanted), dtype)
        run.im2col(x, cols, axes)
        np.testing.assert_array_equal(cols, wanted)
        got = np.zeros_like(x)
        run.col2im(cols, got, axes)
        np.testing.assert_array_equal(got, np.where(np.isin(x, wanted), x, 0))


def test_huge_steps_of_the_public_face():
    far, x = 2**61, np.arange(1.0, 6.0).reshape(1, 1, 5)
    np.testing.assert_array_equal(cyconv.im2col(x, 2, stride=far), [[[1], [2]]])
    w = np.array([[[10.0, 1.0]]])
    for options, wanted in (
        ({"stride": far, "padding": ((0, far),)}, [[[12, 0]]]),
        ({"stride": far, "padding": ((far, 0),)}, [[[0, 12]]]),
    ):
        y = cyconv.conv(x, w, algorithm="gemm", **options)
        np.testing.assert_array_equal(y, wanted)
        dx = cyconv.conv_input_grad(y, w, x.shape, algorithm="gemm", **options)
        np.testing.assert_array_equal(dx, [[[120, 12, 0, 0, 0]]])
        dw = cyconv.conv_weight_grad(y, x, w.shape, algorithm="gemm", **options)
        np.testing.assert_array_equal(dw, [[[12, 24]]])


@each_dtype
@each_compiled
def test_kernels_check_what_would_crash(build, dtype):
    run = kernels_of(build)
    x, cols = np.zeros((2, 3, 1, 5, 6), dtype), np.zeros((27, 2 * 12), dtype)
    axes = np.array([AS_IS, [5, 3, 1, 1, 0, 3], [6, 3, 1, 1, 0, 4]], np.intp)
    wrong = [(x, cols, axes[:2]), (x, cols, axes[:, :5].copy())]
    for row, column in itertools.product(range(3), (0, 1, 2, 3, 5)):
        other = axes.copy()
        other[row, column] = 0
        wrong.append((x, cols, other))
    for other in (x[:1], x[:, :2], x[..., :5], x[..., ::-1], x[:, :, :, :4]):
        wrong.append((other, cols, axes))  # noqa: PERF401
    for other in (cols[:26], cols[:, :12].copy(), cols[:, ::2], cols[::-1], cols[0]):
        wrong.append((x, other, axes))  # noqa: PERF401
    wrong.append((x.astype(np.float16), cols, axes))
    run.im2col(x, cols, axes)
    run.col2im(cols, x, axes)
    for image, matrix, numbers in wrong:
        with pytest.raises(ValueError):  # noqa: PT011
            run.im2col(image, matrix, numbers)
        with pytest.raises(ValueError):  # noqa: PT011
            run.col2im(matrix, image, numbers)
    read_only = x.copy()
    read_only.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        run.col2im(cols, read_only, axes)


# From here on: tiles.


@st.composite
def tilings(draw):
    """A geometry, a limit of positions a tile, and how little work is worth a piece."""
    g = described(draw(cases(spare=draw(st.sampled_from([6, 20])))))
    if g.batch == 0:
        g = described(Case((1, 1, 9, 8), (1, 1, 3, 3)))
    return g, draw(st.integers(0, 200)), draw(st.sampled_from([1, 100, 10**9]))


def positions_of(g, tiles, channels=slice(None)):
    """How often each (image, channel, position) is in the tiles."""
    counts = np.zeros((g.batch, g.channels, g.positions), int)
    for tile in tiles:
        counts[tile.images, channels, tile.span] += 1
        assert tile.positions == (tile.last - tile.first) * (tile.span.stop - tile.span.start)
        assert tile.single == (tile.last - tile.first == 1)
    return counts


def assert_reads_as_the_whole(g, tile):
    """A tile is a convolution of its own: at its positions it reads what the whole reads there."""
    if g.size[0] * g.size[1] * g.size[2] * g.taps * g.positions > 10**5:
        return
    numbers = np.arange(1, np.prod(g.size) + 1).reshape(1, 1, *g.size)
    whole = columns(numbers, g.axes().tolist())
    np.testing.assert_array_equal(columns(numbers, tile.axes.tolist()), whole[:, tile.span])


@given(tilings(), st.integers(1, 9))
def test_cut(drawn, number):
    g, limit, _ = drawn
    tiles = tiling.cut(g, limit, number)
    assert (positions_of(g, tiles) == 1).all()
    assert all(tile.positions <= max(1, limit) for tile in tiles)
    assert len(tiles) >= g.batch * g.positions / -(-g.batch * g.positions // number)
    for tile in (tiles[0], tiles[len(tiles) // 2], tiles[-1]):
        assert_reads_as_the_whole(g, tile)


@given(tilings())
@example((described(Case((1, 2, 60, 4), (2, 2, 2, 2), 2)), 2, 1))
@example((described(Case((2, 2, 90), (2, 2, 2))), 3, 1))
def test_cut_overlapping(drawn):
    """Everything is added once; the shares of a phase never touch the same cell of x."""
    g, limit, work = drawn
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiling, "PIECE_WORK", work)
        phases = tiling.cut_overlapping(g, limit)
    counts = 0
    for shares in phases:
        touched = np.zeros((g.batch, g.channels, *g.size), int)
        for share in shares:
            mine = np.zeros(touched.shape, bool)
            counts = counts + positions_of(g, share.tiles, share.channels)
            for tile in share.tiles:
                mine[tile.images, share.channels] |= cells_read(tile.axes.tolist(), g.size)
            touched += mine
            group = 1 if g.groups == 1 else g.group_channels
            assert share.channels.start % group == share.channels.stop % group == 0
        assert touched.max() <= 1
        if len(phases) == 1:  # then each clears the images that it adds to, so they are its own
            seen = [(s.channels.start, t.first) for s in shares for t in s.tiles[:1]]
            assert len(set(seen)) == len(seen)
            assert all(t.images == s.tiles[0].images for s in shares for t in s.tiles)
    assert (counts == 1).all()


@given(tilings(), st.integers(1, 5))
def test_cut_sums(drawn, number):
    g, limit, work = drawn
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiling, "PIECE_WORK", work)
        parts = tiling.cut_sums(g, limit, number)
    counts = sum(positions_of(g, s.tiles, s.channels) for shares in parts for s in shares)
    assert (counts == 1).all()
    assert len({tuple(s.channels.start for s in shares) for shares in parts}) == 1


@given(st.integers(0, 300), st.integers(0, 40), st.integers(1, 20))
def test_blocks(size, limit, unit):
    parts = tiling.blocks(size, limit, unit)
    assert [i for part in parts for i in range(part.start, part.stop)] == list(range(size))
    assert all(part.start % unit == 0 for part in parts)
    assert all(part.stop - part.start < max(1, limit) + unit for part in parts)
    if unit == 1:
        assert len(parts) in (0, 1) or len(parts) % 2 == 0 or size == len(parts)


SHARED = {
    "by filter": Case((1, 128, 6, 6), (160, 128, 3, 3), padding=1),
    "by filter, images": Case((2, 64, 4, 5), (300, 64, 3, 3), padding=1),
    "phases": Case((1, 32, 64, 64), (64, 32, 3, 3), 2, 1),
    "phases, two images": Case((2, 16, 90, 50), (64, 16, 3, 3), 2, ((0, 1), (2, 0))),
    "phases, line": Case((1, 16, 3000), (256, 16, 5), 2, 2),
    "channels": Case((1, 64, 21, 21), (32, 64, 7, 7), 2, 3),
    "channels, windows apart": Case((1, 256, 40, 40), (64, 256, 1, 1), 2),
    "channels of groups": Case((1, 64, 21, 21), (64, 16, 7, 7), 2, 3, groups=4),
    "volume": Case((1, 16, 12, 14, 13), (32, 16, 3, 3, 3), 2, 1),
    "blocks": Case((1, 16, 30, 30), (24, 16, 3, 3)),
    "blocks, images": Case((24, 12, 14, 14), (64, 12, 3, 3), padding=1),
    "blocks, images of groups": Case((16, 24, 14, 15), (128, 12, 3, 3), padding=1, groups=2),
    "summed blocks": Case((1, 3, 50, 50), (25, 3, 3, 3), padding=1),
    "summed blocks, images": Case((24, 3, 40, 40), (16, 3, 5, 5), padding=2),
    "summed blocks, images of groups": Case((24, 6, 40, 40), (32, 3, 5, 5), padding=2, groups=2),
    "summed blocks, beside": Case((200, 3, 6, 6), (16, 3, 3, 3), padding=1),
}


@each_dtype
@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize("name", SHARED)
def test_shared_work_is_exact(monkeypatch, name, number, dtype):
    monkeypatch.setattr(threads, "SMALL", 0)
    monkeypatch.setattr(threads, "small_unpacked", lambda: True)
    before, case = cyconv.get_num_threads(), SHARED[name]
    x, w, b, dy = case.integers(dtype)
    cyconv.set_num_threads(number)
    try:
        for function, arguments, out in (
            ("conv", (x, w, b), dy),
            ("conv_input_grad", (dy, w, x.shape), x),
            ("conv_weight_grad", (dy, x, w.shape), w),
        ):
            out = np.full(out.shape, np.nan, dtype)
            getattr(cyconv, function)(*arguments, algorithm="gemm", out=out, **case.options)
            wanted = getattr(reference, function)(*arguments, **case.options)
            np.testing.assert_array_equal(out, wanted, err_msg=function)
    finally:
        cyconv.set_num_threads(before)


def test_shared_work_is_as_named(monkeypatch):
    monkeypatch.setattr(threads, "small_unpacked", lambda: True)
    for name, case in SHARED.items():
        for itemsize in (4, 8):
            g = described(case)
            forward, back = (lowering.tiles(g, itemsize, p) for p in ("forward", "input_grad"))
            assert isinstance(forward, lowering.ByFilter) == name.startswith("by filter"), name
            if name.startswith("phases"):
                assert len(back) == 2, name
            if name.startswith("channels"):
                assert len(back) == 1 < len({s.channels.start for s in back[0]}), name
        block = products.unpacked(g.group_weights, 4)
        tiles = plan(g, np.dtype(np.float32), "forward", "gemm").tiles
        if "blocks" in name:
            each = tiles[0].positions if name.endswith("beside") else g.positions
            assert 0 < block < each, name
            assert each % block, name
            assert products.apart(tiles[0], block) == ("images" in name), name
        assert name.startswith("summed") == (g.group_weights <= products.FEW_WEIGHTS), name


def test_sums_of_one_image_are_over_parts_of_it():
    """Not over all of it, a few channels at a time; but where it is small."""
    for case, positions, blocks in (
        (Case((1, 16, 112, 112), (96, 16, 1, 1)), 1568, 1),
        (Case((1, 16, 160, 160), (32, 16, 3, 3), 2, 1), 800, 1),
        (Case((2, 64, 40, 40), (128, 64, 1, 1)), 400, 1),
        (Case((1, 64, 20, 20), (256, 64, 1, 1)), 400, 2),
        (Case((1, 128, 64, 64), (1024, 128, 1, 1)), 1024, 2),
    ):
        g = described(case)
        parts = plan(g, np.dtype(np.float32), "weight_grad", "gemm").tiles
        shares = [share for part in parts for share in part]
        assert max(tile.positions for share in shares for tile in share.tiles) == positions, case
        assert len({share.channels.start for share in shares}) == blocks, case


@pytest.mark.parametrize(("weights", "unpacked", "blocks"), [
    (1_250, False, (800, 800)),
    (1_251, False, (0, 0)),
    (1_251, True, (784, 0)),
    (7_812, True, (128, 0)),
    (7_813, True, (0, 0)),
])  # fmt: skip
def test_many_weights_are_multiplied_at_once(monkeypatch, weights, unpacked, blocks):
    """In float64, and where BLAS packs whatever it gets, all but the fewest."""
    monkeypatch.setattr(threads, "small_unpacked", lambda: unpacked)
    assert tuple(products.unpacked(weights, itemsize) for itemsize in (4, 8)) == blocks


@each_dtype
def test_products_in_blocks_are_written_once_and_nowhere_else(monkeypatch, dtype):
    monkeypatch.setattr(threads, "small_unpacked", lambda: True)
    rng = np.random.default_rng(0)
    for stack, rows, inner, positions in (
        ((2,), 25, 27, 3000), ((3, 1), 16, 75, 1700), ((1,), 4, 6, 90), ((1,), 200, 30, 700)
    ):  # fmt: skip
        w = rng.integers(-8, 9, (stack[-1], rows, inner)).astype(dtype)
        cols = rng.integers(-8, 9, (*stack, inner, positions)).astype(dtype)
        whole = np.full((*stack, rows, positions + 7), np.nan, dtype)
        products.product(w, cols, whole[..., 3:-4])
        np.testing.assert_array_equal(whole[..., 3:-4], np.matmul(w, cols))
        assert np.isnan(whole[..., :3]).all()
        assert np.isnan(whole[..., -4:]).all()


@each_dtype
@pytest.mark.parametrize(("count", "blocks"), [(60, 1), (61, 2), (120, 2), (200, 4)])
def test_products_by_rows_are_cut_where_that_pays(monkeypatch, dtype, count, blocks):
    rng = np.random.default_rng(0)
    for name, limit in (("UNPACKED", 60 * 16 * 32), ("FEWEST_ROWS", 60), ("WIDEST", 32)):
        monkeypatch.setattr(products, name, limit)
    a, b = (rng.integers(-8, 9, shape).astype(dtype) for shape in ((3, count, 16), (3, 16, 32)))
    for unpacked, number in ((True, blocks), (False, 1)):
        monkeypatch.setattr(threads, "small_unpacked", lambda unpacked=unpacked: unpacked)
        out = np.full((3, count + 4, 32), np.nan, dtype)
        products.product(a, b, out[:, 2:-2])
        np.testing.assert_array_equal(out[:, 2:-2], a @ b)
        assert np.isnan(out[:, :2]).all()
        assert np.isnan(out[:, -2:]).all()
        block = products.rows_at_a_time(count, 16, 32) or count
        assert -(-count // block) == number
    monkeypatch.setattr(threads, "small_unpacked", lambda: True)
    for name, limit in (("FEWEST_ROWS", 61), ("WIDEST", 31)):
        with monkeypatch.context() as patch:
            patch.setattr(products, name, limit)
            assert products.rows_at_a_time(count, 16, 32) == 0, name


@pytest.mark.parametrize("pass_", ["forward", "input_grad", "weight_grad"])
def test_tiles_do_not_depend_on_threads(pass_):
    before, seen = cyconv.get_num_threads(), []
    table = [described(case) for case in SHARED.values()]
    table.append(described(Case((4, 64, 30, 30), (64, 64, 1, 1))))
    try:
        for number in (1, 2, 7):
            cyconv.set_num_threads(number)
            forget_plans()
            made = [plan(g, np.dtype(np.float32), pass_, "gemm") for g in table]
            assert {m.algorithm for m in made} == {lowering, pointwise}
            seen.append([str(m.tiles) for m in made])
    finally:
        cyconv.set_num_threads(before)
    assert seen[0] == seen[1] == seen[2]


@each_dtype
@each_build
@pytest.mark.parametrize(
    "shape", [(2, 3, 37), (1, 5, 1), (3, 1, 16), (2, 0, 5), (0, 3, 5), (1, 2, 0)]
)
def test_a_bias_for_each_filter(shape, build, dtype):
    """Of another array, whose rows lie elsewhere, or in place; with gaps between rows."""
    run = kernels_of(build)
    rng = np.random.default_rng(0)
    a, b = rng.integers(-9, 9, shape), rng.integers(-9, 9, shape[1])
    wanted = a + b[:, None]
    y = output(shape, dtype, gaps)
    run.add_bias(packed(a, dtype), packed(b, dtype), y)
    np.testing.assert_array_equal(y, wanted)
    assert_untouched(y)
    y[...] = a
    run.add_bias(y, packed(b, dtype), y)
    np.testing.assert_array_equal(y, wanted)
    assert_untouched(y)


@each_dtype
@each_compiled
def test_a_bias_is_checked(build, dtype):
    run = kernels_of(build)
    a, b, y = np.zeros((2, 3, 8), dtype), np.zeros(3, dtype), np.zeros((2, 3, 8), dtype)
    run.add_bias(a, b, y)
    for wrong in (a[:1], a[:, :2], a[..., :7], a.swapaxes(0, 1)):
        with pytest.raises(ValueError, match="a and y"):
            run.add_bias(wrong, b, y)
    with pytest.raises(ValueError, match="b must"):
        run.add_bias(a, b[:2], y)
    with pytest.raises(ValueError, match="contiguous"):
        run.add_bias(np.zeros((2, 3, 16), dtype)[..., ::2], b, y)
