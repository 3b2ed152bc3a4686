"""Winograd from end to end: kernels that transform, multiply and transform back, in every build.

Forward by the fallback's transforms, weight gradients by the definition; with guards, and memory
full of NaN.
"""

import copy
import itertools
import threading
import time

import numpy as np
import pytest
import reference
from builds import DTYPES, each_build, each_compiled, each_dtype, kernels_of, refused
from fused_work import WIDE, Fused, by_channel, in_panels, rows_of, wide
from guards import (
    assert_untouched,
    can_protect,
    channels_last,
    gaps,
    in_another_process,
    output,
    packed,
    protected,
    protected_last,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from test_winograd import CLOSE, STRIDES, assert_filled, both

from cyconv.algorithms import winograd
from cyconv.kernels import fallback
from cyconv.kernels.fallback.matrices import MATRICES, kind_of

PATIENCE = 10  # seconds

pytestmark = pytest.mark.usefixtures("as_in_a_region")


def counts(arguments):
    """How many tasks of the first phase were taken and are done, and how many of the second were
    taken."""
    return [*arguments["progress"].tolist(), *arguments.get("taken", np.zeros(0)).tolist()]


FORWARD = ["winograd_by_tiles", "winograd_by_filters"]
SUMS = ["winograd_sum_by_tiles", "winograd_sum_by_channels"]
# What each kernel's first phase goes through, and its second.
PHASES = {
    "winograd_by_tiles": ("filters", "tiles"),
    "winograd_by_filters": ("channels", "filters"),
    "winograd_sum_by_tiles": ("parts", "channels"),
    "winograd_sum_by_channels": ("filters", "channels"),
}
# Of kernels, with their strides.
SIDES = [(3, 1), (4, 1), (3, 2), (3, -2)]
each_forward = pytest.mark.parametrize("kernel", FORWARD)
each_sum = pytest.mark.parametrize("kernel", SUMS)
each_kernel = pytest.mark.parametrize("kernel", FORWARD + SUMS)


@st.composite
def works(draw, sums=False):
    """A convolution, two lists of places to cut, a number, and yes or no."""
    small, some = st.integers(1, 3), st.integers(1, 20)
    side, stride = draw(st.sampled_from([(3, 1), (4, 1), (3, 2)]))
    most = 1 if stride > 1 else winograd.SERVED[(side, side), (1, 1, 1)]
    apart = [draw(st.sampled_from([1, 1, min(2, most), min(5, most), most])) for _ in range(2)]
    depth, dilation, kernel = 1, 1, [(side - 1) * d + 1 for d in apart]
    size = [draw(st.integers(1, 30)) for _ in range(2)]
    if draw(st.booleans()):  # a volume
        depth, dilation, size = draw(small), draw(small), [draw(some) for _ in range(3)]
        kernel = [(depth - 1) * dilation + 1, *kernel]
    pads = []
    for n, extent in zip(size, kernel, strict=True):
        low, high = draw(st.integers(0, 6)), draw(st.integers(0, 6))
        pads.append((low, high + max(0, extent - n - low - high)))
    n, c, f = draw(small), draw(st.integers(1, 35)), draw(st.integers(1, 70))
    lay, seed = draw(st.sampled_from([gaps, channels_last])), draw(st.integers(0, 9))
    flip = draw(st.booleans()) and not (sums and stride > 1)
    work = Fused(n, c, f, size, tuple(pads), flip, seed, lay, depth, dilation, side, stride, apart)
    points = st.lists(st.integers(0, 999), max_size=3)
    return work, [draw(points) for _ in range(2)], draw(st.integers(1, 40)), draw(st.booleans())


def make(work, kernel, dtype, **options):
    return getattr(work, kernel.removeprefix("winograd_"))(dtype, **options)


def assert_done(arguments, kernel):
    """Each block was taken once, and then one more was asked for."""
    first, second = (len(arguments[name]) for name in PHASES[kernel])
    assert counts(arguments) == [first + 1, first, second + 1]


@each_dtype
@each_build
@pytest.mark.parametrize("strides", STRIDES)
@pytest.mark.parametrize(("side", "stride"), SIDES)
def test_filters(side, stride, strides, build, dtype):
    """Of any strides; zero past the last."""
    rng = np.random.default_rng(1)
    number, G = (side + 3) ** 2, MATRICES[kind_of(side, stride)].G
    for f, c in [(1, 1), (15, 3), (16, 2), (17, 1), (40, 5)]:
        w = rng.standard_normal((f, c, side, side))
        wanted = np.zeros((number, c, wide(f)))
        wanted[:, :, :f] = both(G, w).swapaxes(1, 2)
        for arrange in (packed, gaps):
            v = output(wanted.shape, dtype, arrange)
            planes = STRIDES[strides](w.astype(dtype))[:, :, None]
            kernels_of(build).winograd_filters(planes, v, stride)
            assert_filled(v, wanted, dtype)
            assert not v[:, :, f:].any()


@each_dtype
@each_build
@settings(max_examples=25)
@given(drawn=works())
def test_by_tiles(build, dtype, drawn):
    """Cut anywhere; filters transformed, or given."""
    work, points, number, prepared = drawn
    filters = rows_of(work.g.filters, points[0], unit=WIDE)
    tiles = rows_of(work.total, points[1], 50)
    rows = WIDE * (1 + number % 4)
    together = 1 + number % 3
    arguments = work.by_tiles(dtype, filters, tiles, rows, number % 2, prepared, together)
    if prepared:
        arguments["w"] = np.full_like(arguments["w"], np.nan)
    kernels_of(build).winograd_by_tiles(*arguments.values())
    work.check(arguments, dtype)
    if not prepared:
        v = (
            arguments["v"]
            .swapaxes(1, 2)
            .reshape(work.weight_planes, work.rows, -1)[:, :, : work.g.filters]
        )
        error = abs(v - work.v[:, :, : work.g.filters]).max()
        assert error <= CLOSE[dtype] * abs(work.v).max()
        assert_untouched(arguments["v"])
    assert_done(arguments, "winograd_by_tiles")


# Sizes, and dilations along both axes: all phases of several tiles are turned together, or of one,
# or not all of them, or a tile alone; some tiles have no output, and some phases none.
APART = [((33, 37), (2, 3)), ((50, 65), (12, 12)), ((9, 75), (1, 14)), ((70, 20), (15, 15))]


@each_dtype
@each_build
@each_kernel
@pytest.mark.parametrize("lay", [gaps, channels_last])
@pytest.mark.parametrize(("size", "apart"), APART)
def test_dilated(size, apart, lay, kernel, build, dtype):
    """Beside the definition. Blocks of tiles begin and end among the phases, and what one of them
    does not have, another may have written before."""
    work = Fused(2, 19, 20, size, apart, lay=lay, apart=apart)
    columns = reference.columns(work.x, work.g.axes())
    wanted = (work.w.reshape(20, -1) @ columns).reshape(20, 2, *work.y.shape[2:]).swapaxes(0, 1)
    wanted += work.b.reshape(-1, 1, 1, 1)
    np.testing.assert_allclose(work.y, wanted, rtol=0, atol=1e-12)
    blocks = rows_of(work.total, (), 25)
    backwards = blocks[::-1].copy() if kernel == "winograd_by_tiles" else blocks
    options = {} if kernel == "winograd_by_filters" else {"tiles": backwards}
    arguments = make(work, kernel, dtype, **options)
    getattr(kernels_of(build), kernel)(*arguments.values())
    work.check(arguments, dtype)


@each_dtype
@each_build
@pytest.mark.parametrize("prepared", [False, True])
@pytest.mark.parametrize("together", [1, 2, 3, 4])
def test_panels_together(together, prepared, build, dtype):
    """All of them, or some and what is left; of a volume, whose panels have channels for each tap
    along the depth."""
    work = Fused(2, 19, 3 * WIDE - 5, (4, 9, 10), depth=3)
    arguments = work.by_tiles(dtype, prepared=prepared, together=together)
    kernels_of(build).winograd_by_tiles(*arguments.values())
    work.check(arguments, dtype)


@each_dtype
@each_build
@settings(max_examples=25)
@given(drawn=works())
def test_by_filters(build, dtype, drawn):
    work, points, span, prepared = drawn
    channels = rows_of(work.g.channels, points[0], unit=WIDE)
    panel = WIDE * (1 + span % 4) if prepared else 0
    filters = rows_of(work.g.filters, points[1], panel or 10**9, WIDE)
    arguments = work.by_filters(dtype, channels, filters, panel, span)
    if prepared:
        arguments["w"] = np.full_like(arguments["w"], np.nan)
    kernels_of(build).winograd_by_filters(*arguments.values())
    work.check(arguments, dtype)
    assert np.isnan(arguments["u"][:, work.total * work.row :]).all()
    assert_done(arguments, "winograd_by_filters")


@each_dtype
@each_build
@settings(max_examples=25)
@given(drawn=works(sums=True))
def test_sum_by_tiles(build, dtype, drawn):
    work, points, number, _ = drawn
    tiles = rows_of(work.total, points[0], 50)
    parts = rows_of(len(tiles), (), number % 4 + 1)
    channels = rows_of(work.g.channels, points[1])
    rows = WIDE * (1 + number % 4)
    arguments = work.sum_by_tiles(dtype, tiles, parts, channels, number % 3, rows)
    kernels_of(build).winograd_sum_by_tiles(*arguments.values())
    work.check(arguments, dtype)
    assert_done(arguments, "winograd_sum_by_tiles")


@each_dtype
@each_build
@settings(max_examples=25)
@given(drawn=works(sums=True))
def test_sum_by_channels(build, dtype, drawn):
    """In one call, with sums of each thread's own or shared ones."""
    work, points, number, own = drawn
    filters = rows_of(work.g.filters, points[0], unit=WIDE)
    tiles = rows_of(work.total, (), number)
    channels = rows_of(work.g.channels, points[1])
    rows = WIDE * (1 + number % 4)
    arguments = work.sum_by_channels(dtype, filters, tiles, channels, number % 3, own, rows)
    kernels_of(build).winograd_sum_by_channels(*arguments.values())
    work.check(arguments, dtype)
    assert_done(arguments, "winograd_sum_by_channels")


@each_dtype
@each_build
@settings(max_examples=25)
@given(drawn=works(sums=True))
def test_sum_by_channels_in_several_calls(build, dtype, drawn):
    """Chunks of consecutive tiles, with sums that stay: dw is written by the last of them."""
    work, points, number, _ = drawn
    tiles = rows_of(work.total, points[0], number)
    channels = rows_of(work.g.channels, points[1])
    calls = rows_of(len(tiles), (), -(-len(tiles) // (1 + number % 4)))
    right = work.sum_by_channels(dtype, None, tiles, channels, own=False)
    run = kernels_of(build).winograd_sum_by_channels
    for first, last in calls:
        assert np.isnan(right["dw"]).all()
        call = work.sum_by_channels(dtype, None, tiles[first:last], channels, own=False)
        call |= {name: right[name] for name in ("sums", "dw", "width", "memory")}
        arguments = call | {"add": first > 0, "last": last == len(tiles)}
        run(*arguments.values())
        assert_done(arguments, "winograd_sum_by_channels")
    work.check(right, dtype)
    assert np.isnan(right["sums"][:, work.rows * wide(work.g.filters) :]).all()


@each_dtype
@each_build
@each_forward
def test_without_bias(kernel, build, dtype):
    work = copy.copy(Fused())
    work.y = work.y - work.b.reshape(-1, 1, 1, 1)
    arguments = make(work, kernel, dtype, b=None)
    getattr(kernels_of(build), kernel)(*arguments.values())
    work.check(arguments, dtype)


@each_dtype
@each_build
@each_forward
@pytest.mark.parametrize("strides", STRIDES)
@pytest.mark.parametrize(("side", "stride"), SIDES)
def test_any_filters_are_read(side, stride, strides, kernel, build, dtype):
    """As forward passes have them, and input gradients: flipped, and channels first."""
    work = Fused(c=20, f=18, side=side, stride=abs(stride), flip=stride < 0)
    w = STRIDES[strides](work.w[:, :, 0].astype(dtype))[:, :, None]
    arguments = make(work, kernel, dtype, w=w)
    getattr(kernels_of(build), kernel)(*arguments.values())
    work.check(arguments, dtype)


@each_dtype
@each_build
@each_sum
@pytest.mark.parametrize("strides", STRIDES)
@pytest.mark.parametrize(("side", "stride"), SIDES[:3])
def test_any_filters_are_written(side, stride, strides, kernel, build, dtype):
    work = Fused(c=20, f=18, side=side, stride=stride)
    dw = STRIDES[strides](np.full(work.dw[:, :, 0].shape, np.nan, dtype))[:, :, None]
    arguments = make(work, kernel, dtype)
    getattr(kernels_of(build), kernel)(*(arguments | {"dw": dw}).values())
    assert abs(dw - work.dw).max() <= 4 * CLOSE[dtype] * abs(work.dw).max()


# Blocks that others have taken, or are about to have done.


@each_dtype
@each_build
def test_by_tiles_begins_where_others_are(build, dtype):
    """Filters that others have transformed are used; tiles that others have taken, left alone."""
    work = Fused(2, 4, 50, (17, 18))
    filters, tiles = rows_of(50, (), 16), rows_of(work.total, (), 9)
    for first, second in itertools.product((0, 1, 3, 4, 6), (0, 1, 2, len(tiles), 9)):
        other = work.v.copy()
        mine = filters[first][0] if first < 4 else 64
        other[:, :, :mine] *= 2  # not the transform of w: so it shows
        v = output((36, 2, work.rows, 32), dtype)
        panels = in_panels(other, rows_of(50, (), 32), 32)
        for f in range(0, mine, 16):
            v[:, f // 32, :, f % 32 :][..., :16] = panels[:, f // 32, :, f % 32 :][..., :16]
        progress = np.array([first, min(first, 4), second], np.longlong)
        arguments = work.by_tiles(dtype, filters, tiles, 32, v=v, progress=progress)
        kernels_of(build).winograd_by_tiles(*arguments.values())
        wanted = work.expected(other)
        for t in range(tiles[second][0] if second < len(tiles) else work.total):
            image, row, column = np.unravel_index(t, (2, 5, 5))
            wanted[image, :, 0, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = np.nan
        work.check(arguments, dtype, wanted)
        assert progress.tolist() == [max(first, 4) + 1, 4, max(second, len(tiles)) + 1]


@each_dtype
@each_build
def test_by_filters_begins_where_others_are(build, dtype):
    work = Fused(1, 50, 40, (17, 18))
    channels, filters = rows_of(50, (), 16), rows_of(40, (), 16)
    for first, second in itertools.product((0, 1, 3, 4, 6), (0, 1, 2, 3, 9)):
        arguments = work.by_filters(dtype, channels, filters)
        arguments["progress"][:], arguments["taken"][:] = (first, min(first, 4)), second
        mine = channels[first][0] if first < 4 else 50
        # Not the transform of x: so it shows.
        by_channel(arguments["u"], build, 50, work.total)[:, :mine] = 0
        kernels_of(build).winograd_by_filters(*arguments.values())
        left = copy.copy(work)
        left.x = np.where(np.arange(50).reshape(50, 1, 1, 1) < mine, 0, work.x)
        wanted = left.expected(left.v)
        wanted[:, : filters[second][0] if second < 3 else 40] = np.nan
        work.check(arguments, dtype, wanted)
        assert counts(arguments) == [max(first, 4) + 1, 4, max(second, 3) + 1]


@each_dtype
@each_build
def test_sum_by_tiles_begins_where_others_are(build, dtype):
    """Parts that others have summed are added; channels that others have taken, left alone."""
    work = Fused(2, 7, 18, (17, 18))
    tiles, channels = rows_of(work.total, (), 9), rows_of(7, (), 3)
    parts = rows_of(len(tiles), (), 2)
    assert (len(parts), len(channels)) == (3, 3)
    for first, second in itertools.product((0, 1, 3, 5), (0, 1, 3, 9)):
        arguments = work.sum_by_tiles(dtype, tiles, parts, channels)
        arguments["progress"][:] = first, min(first, 3), second
        total = work.products(tiles[parts[first][0]][0] if first < 3 else work.total, work.total)
        for part in range(min(first, 3)):
            arguments["sums"][part] = part + 1
            total += part + 1
        kernels_of(build).winograd_sum_by_tiles(*arguments.values())
        wanted = np.empty(work.dw.shape)
        fallback.winograd_weight_grad(total.swapaxes(1, 2), wanted)
        wanted[:, : channels[second][0] if second < 3 else 7] = np.nan
        work.check(arguments, dtype, wanted)
        assert arguments["progress"].tolist() == [max(first, 3) + 1, 3, max(second, 3) + 1]


@each_dtype
@each_build
def test_sum_by_channels_begins_where_others_are(build, dtype):
    work = Fused(2, 7, 40, (17, 18))
    filters, channels = rows_of(40, (), 16), rows_of(7, (), 3)
    for first, second in itertools.product((0, 1, 3, 5), (0, 1, 3, 9)):
        own = bool(second % 2)
        arguments = work.sum_by_channels(dtype, filters, None, channels, own=own, rows=48)
        arguments["progress"][:] = first, min(first, 3), second
        wanted = work.dw.copy()
        if build != "fallback":  # which transforms dy where it is multiplied
            mine = filters[first][0] if first < 3 else 40
            d = arguments["d"][:, 0]
            d[..., :mine] = d[..., 40:] = 0
            wanted[:mine] = 0
        wanted[:, : channels[second][0] if second < 3 else 7] = np.nan
        kernels_of(build).winograd_sum_by_channels(*arguments.values())
        work.check(arguments, dtype, wanted)
        assert arguments["progress"].tolist() == [max(first, 3) + 1, 3, max(second, 3) + 1]


@each_dtype
@each_build
@each_kernel
def test_the_second_phase_waits_for_the_first(kernel, build, dtype):
    """For a block that another thread has taken, until that says that it is done."""
    work = Fused(2, 40, 45)
    tiles = rows_of(work.total, (), 4)
    blocks = {"filters": rows_of(45, (), 16)}
    if kernel == "winograd_by_filters":
        blocks["channels"] = rows_of(40, (), 16)
    if kernel == "winograd_sum_by_tiles":
        blocks = {"tiles": tiles, "parts": rows_of(len(tiles), (), 2)}
    arguments = make(work, kernel, dtype, **blocks)
    progress, result = arguments["progress"], arguments["y" if kernel in FORWARD else "dw"]
    number = len(arguments[PHASES[kernel][0]])
    progress[0] = 1
    call = getattr(kernels_of(build), kernel)
    helper = threading.Thread(target=call, args=tuple(arguments.values()), daemon=True)
    helper.start()
    until = time.monotonic() + PATIENCE
    while progress[1] < number - 1 and time.monotonic() < until:
        time.sleep(1e-3)
    time.sleep(0.01)
    assert counts(arguments) == [number + 1, number - 1, 0]
    assert helper.is_alive()
    assert np.isnan(result).all()
    if kernel == "winograd_by_tiles":
        arguments["v"][:, 0] = work.v[:, :, :16]
    elif kernel == "winograd_by_filters":
        u = by_channel(arguments["u"], build, 40, work.total)
        u[:, :16] = work.transformed(work.x[:, :16])
    elif kernel == "winograd_sum_by_tiles":
        arguments["sums"][0] = 0
        arguments["sums"][0, :, :, :45] = work.products(0, tiles[2][0])
    elif build != "fallback":
        fallback.winograd_output_grad(work.dy[:, :16], arguments["d"][:, 0], work.g.axes(), 0)
    progress[1] = number
    helper.join(PATIENCE)
    assert not helper.is_alive()
    work.check(arguments, dtype)


@each_dtype
@each_build
@each_kernel
def test_threads_share_progress(kernel, build, dtype):
    work = Fused(3, 40, 56, (30, 31))
    blocks = {"filters": rows_of(56, (), 16)}
    if "by_tiles" not in kernel:
        blocks["channels"] = rows_of(40, (), 16)
    else:
        blocks = {"tiles": rows_of(work.total, (), 10)}
    if kernel == "winograd_sum_by_tiles":
        blocks["parts"] = rows_of(len(blocks["tiles"]), (), 3)
    alone = make(work, kernel, dtype, **blocks)
    call = getattr(kernels_of(build), kernel)
    call(*alone.values())
    result = "y" if kernel in FORWARD else "dw"
    for number in (2, 5):
        arguments = make(work, kernel, dtype, **blocks)
        start = threading.Barrier(number)

        def help_out(rings, arguments=arguments, start=start):
            memory = np.full_like(arguments["memory"], np.nan)
            mine = {**arguments, "memory": memory, "rings": rings}
            start.wait(PATIENCE)
            call(*mine.values())

        helpers = [
            threading.Thread(target=help_out, args=(i == 0,), daemon=True) for i in range(number)
        ]
        for helper in helpers:
            helper.start()
        for helper in helpers:
            helper.join(PATIENCE)
            assert not helper.is_alive()
        work.check(arguments, dtype)
        np.testing.assert_array_equal(arguments[result], alone[result])
        assert_shared(arguments, kernel, number)


def assert_shared(arguments, kernel, number):
    """Each task was taken once, by the first thread from the front and by others from the back, and
    then each thread asked for one more."""
    taken, done, *taken_of_second = counts(arguments)
    assert done == len(arguments[PHASES[kernel][0]])
    for name, count in zip(PHASES[kernel], (taken, *taken_of_second), strict=True):
        back, front = divmod(count, 1 << 32)
        assert front + back == len(arguments[name]) + number
        if name != PHASES[kernel][0] or kernel == "winograd_sum_by_tiles":
            assert min(front, back) > 0


# Wrong calls, and reads outside of arrays.


def block_rows(*rows):
    return np.array(rows, np.intp).reshape(len(rows), -1)


def wrong_blocks(size, unit=WIDE):
    """Of `size` channels, filters or tiles, more than `unit`."""
    wrong = [
        block_rows((0, size + 1)), block_rows((-unit, unit)), block_rows((unit, unit)),
        block_rows((unit, 0)), block_rows((0, 1, 2)), np.zeros((0, 3), np.intp),
    ]  # fmt: skip
    if unit > 1:
        wrong += [block_rows((1, size)), block_rows((0, 15)), block_rows((0, 16), (17, size))]
    return wrong


def wrong_panels(v):
    """Of the shape of v, or in other strides."""
    panels, channels, rows = v.shape[1:]
    wrong = [
        v[:35], v[:, :0], v[:, :, : channels - 1], v[:, :, :0], v[..., : rows - 1], v[..., :0],
        np.zeros((36, panels + 1, channels, rows), v.dtype),
    ]  # fmt: skip
    apart = np.zeros((36, 2 * panels, 2 * channels, 2 * rows), v.dtype)
    wrong += [apart[:, :panels, :channels, ::2], apart[:, :panels, ::2, :rows]]
    return wrong if panels == 1 else [*wrong, apart[:, ::2, :channels, :rows]]


def wrong_calls(kernel, right, dtype):
    """Changes of the arguments, each of which must be refused."""
    axes, memory, phases = right["axes"], right["memory"], len(right["progress"])

    def changed(row, column, value):
        other = axes.copy()
        other[row, column] = value
        return other

    x, (y_name, w_name) = right["x"], ("y", "w") if kernel in FORWARD else ("dy", "dw")
    y, w = right[y_name], right[w_name]
    wrong = [
        *({"x": a} for a in (x[:1], x[:, :18], x[..., :9], x[..., ::-1], x[..., :8, :], x[:, :0])),
        *({w_name: a} for a in (w[:17], w[:, :3], w[..., :2], w[..., :2, :], w[:, :, :0], w[:0])),
        *({y_name: a} for a in (y[:1], y[:, :17], y[..., :9], y[..., ::-1], y[..., :8, :])),
        *({"axes": a} for a in (axes[:2], axes[:, :5].copy(), changed(0, 1, 3), changed(0, 2, 2))),
        *({"axes": changed(1, column, 2)} for column in (0, 1, 2, 5)),
        *({"axes": changed(axis, 3, apart)} for axis in (1, 2) for apart in (0, 16, 1 << 40)),
        {"axes": changed(slice(1, 3), slice(2, 4), 2)},
        {"axes": changed(slice(1, 3), 1, 4)},
        *({"axes": changed(slice(1, 3), 2, stride)} for stride in (0, -1, 2, -2, 3, -(2**63))),
        *({w_name: np.zeros((*w.shape[:3], n, n), dtype)} for n in (2, 4, 5)),
        *({"progress": np.zeros(n, np.longlong)} for n in (0, phases - 1, phases + 1)),
        *({"progress": -row} for row in np.eye(phases, dtype=np.longlong)),
        *({"memory": a} for a in (memory[:-1], memory[:0], np.zeros(2 * memory.size, dtype)[::2])),
    ]
    if "filters" in right:
        wrong += [{"filters": a} for a in wrong_blocks(18)]
    if kernel in FORWARD:
        wrong += [{"b": a} for a in (right["b"][:17], np.zeros(19, dtype))]
    else:
        wrong += [{"width": n} for n in (0, -1, right["width"] + 1, right["width"] - 1, 1 << 59)]
        wrong += [{"channels": a} for a in wrong_blocks(19, 1)]
    if "by_tiles" in kernel:
        wrong += [{"tiles": a} for a in wrong_blocks(18, 1)]
    if kernel == "winograd_by_tiles":
        wrong += [{"v": a} for a in wrong_panels(right["v"])]
        columns = right["columns"]
        wrong += [{"columns": n} for n in (0, -16, columns - 1, columns + 1, 1 << 59)]
        wrong += [{"together": n} for n in (0, -1, 2, 1 << 62)]
        wrong += [
            {"v": np.zeros((36, n, 19, rows), dtype)} for n, rows in ((3, 8), (2, 17), (1, 32))
        ]
    elif kernel == "winograd_by_filters":
        u, total = right["u"], 18 * 32
        changes = u[:35], u[:, : total - 1].copy(), u[:, ::2], u[:, : total + 3]
        wrong += [{"u": a} for a in changes]
        wrong += [{"span": n} for n in (0, -1, right["span"] + 1, 1 << 62)]
        wrong += [{"channels": a} for a in wrong_blocks(19)]
        wrong += [{"taken": np.array(n, np.longlong)} for n in ([], [0, 0], [-1])]
    elif kernel == "winograd_sum_by_tiles":
        sums = right["sums"]
        other = np.zeros((1, 36, 19, 48), dtype)
        changes = sums[:0], sums[:, :35], sums[:, :, :18].copy(), sums[..., :18].copy(), other
        wrong += [{"sums": a} for a in changes]
        wrong += [{"rows": n} for n in (0, -16, 8, 17, 48, 1 << 59)]
        wrong += [{"parts": a} for a in wrong_blocks(1, 1)]
        wrong += [{"parts": np.zeros((0, 2), np.intp), "sums": sums[:0]}]
    else:
        wrong += [{"d": a} for a in wrong_panels(right["d"])]
        wrong += [{"sums": np.zeros((35, 0), dtype)}, {"sums": np.zeros((36, 19 * 32 - 1), dtype)}]
        wrong += [{"tiles": a} for a in wrong_blocks(18, 1)]
        wrong += [{"tiles": np.zeros((0, 2), np.intp)}, {"tiles": block_rows((9, 18), (0, 9))}]
        wrong += [{"tiles": block_rows((0, 9), (12, 18), (9, 12))}]
        wrong += [{"add": True}, {"last": False}]
    return wrong


@each_dtype
@each_compiled
@each_kernel
def test_what_would_crash_is_refused(kernel, build, dtype):
    run = getattr(kernels_of(build), kernel)
    work = Fused(2, 19, 18, (9, 10))  # 18 tiles
    right = make(work, kernel, dtype)
    run(*right.values())
    result = right["y" if kernel in FORWARD else "dw"]
    result[...] = 7
    for change in wrong_calls(kernel, right, dtype):
        right["progress"][:] = 0
        assert refused(run, *{**right, **change}.values()), change
    assert (result == 7).all()


@each_dtype
@each_compiled
def test_wrong_transformed_filters_are_refused(build, dtype):
    run, work = kernels_of(build), Fused(2, 19, 18)
    right = work.by_filters(dtype, filters=rows_of(18, (), 16), panel=16)
    run.winograd_by_filters(*right.values())
    wrong = [{"v": a} for a in wrong_panels(right["v"])] + [{"filters": rows_of(18)}]
    for change in (*wrong, {"v": np.zeros((36, 3, 19, 8), dtype)}):
        right["progress"][:] = 0
        assert refused(run.winograd_by_filters, *(right | change).values()), change
    w, v = np.zeros((18, 19, 1, 3, 3), dtype), np.zeros((36, 19, 32), dtype)
    run.winograd_filters(w, v)
    others = [np.zeros((18, 19, 1, n, n), dtype) for n in (2, 4, 5)]
    more = np.zeros((33, 19, 1, 3, 3), dtype)
    for array in (w[..., :2, :], w[..., :2], w[:, :18], more, *others):
        assert refused(run.winograd_filters, array, v)
    apart = np.zeros((36, 19, 64), dtype)
    for array in (v[:35], v[:, :18], v[:, :, :31], v[:, :, :0], apart[:, :, ::2]):
        assert refused(run.winograd_filters, w, array)
    for stride in (0, -1, 3, 2**62):
        assert refused(run.winograd_filters, w, v, stride)
    assert refused(run.winograd_filters, others[1], np.zeros((49, 19, 32), dtype), 2)


def check_nothing_outside(build):
    """A read that spoils nothing is not seen by guards: beside these arrays, it crashes."""
    run = kernels_of(build)
    sizes = (((9, 10), 4, 7), ((1, 2), 1, 1), ((22, 31), 17, 9), ((4, 4), 16, 16), ((5, 49), 3, 33))
    volumes = (((3, 4, 9), 4, 7), ((1, 2, 1), 17, 1))
    ways = itertools.product(
        (*sizes, *volumes),
        (*SIDES, (3, 1, 2, 7)),
        (False, True),
        FORWARD + SUMS,
        (protected, protected_last),
        DTYPES,
    )
    for (size, c, f), (side, stride, *apart), start, kernel, lay, dtype in ways:
        if stride < 0 and kernel in SUMS:
            continue
        apart = apart or (1, 1)
        pads, depth = 1 if min(size[-2:]) > 1 else 2, 3 if len(size) == 3 else 1
        work = Fused(
            2, c, f, size, (*(1 for _ in size[2:]), *(pads * d for d in apart)), stride < 0,
            depth=depth, side=side, stride=abs(stride), apart=apart,
        )  # fmt: skip
        calls = [{}]
        tiles = rows_of(work.total, (), 20)
        if kernel == "winograd_by_tiles":
            calls = [{"prepared": False}, {"prepared": True}]
        if kernel == "winograd_by_filters":
            calls = [{"panel": 0}, {"panel": wide(work.g.filters)}]
        if kernel == "winograd_sum_by_channels":
            calls = [{"own": True}, {"own": False}]
        for options in calls:
            if kernel != "winograd_by_filters":
                options["tiles"] = tiles
            arguments = make(work, kernel, dtype, **options)
            for name, array in arguments.items():
                if isinstance(array, np.ndarray) and array.dtype.kind == "f" and array.size:
                    arguments[name] = (lay if name in ("x", "y", "dy") else protected)(
                        array, dtype, start
                    )
            getattr(run, kernel)(*arguments.values())
            result, wanted = (
                (arguments["y"], work.y) if kernel in FORWARD else (arguments["dw"], work.dw)
            )
            assert abs(result - wanted).max() <= 4e-5 * abs(wanted).max()
    several = itertools.product((1, 7, 16, 33), SIDES, (False, True), DTYPES)
    for f, (side, stride), start, dtype in several:
        w, v = np.ones((f, 2, 1, side, side)), np.zeros(((side + 3) ** 2, 2, wide(f)))
        run.winograd_filters(protected(w, dtype, start), protected(v, dtype, start), stride)
        flipped = protected(w, dtype, start)[:, :, :, ::-1, ::-1].swapaxes(0, 1)
        run.winograd_filters(flipped, protected(np.zeros((len(v), f, 16)), dtype, start), stride)


@can_protect
@each_compiled
def test_nothing_is_touched_outside_of_arrays(build):
    in_another_process("test_winograd_blocks", "check_nothing_outside", build)
