"""The direct kernel, in every build, and algorithm="direct" through the public face.

Kernels are checked against the definition, in integers: to the bit. They get arrays with guards,
and memory full of NaN: what they read or write beside an array, or leave out, is seen.
"""

import copy
import itertools
import threading

import numpy as np
import pytest
import reference
from builds import (
    DTYPES,
    each_build,
    each_compiled,
    each_dtype,
    forget_plans,
    kept,
    kernels_of,
    refused,
)
from guards import (
    apart,
    assert_untouched,
    can_protect,
    channels_last,
    in_another_process,
    output,
    packed,
    protected,
    protected_last,
    spread,
)
from hypothesis import given
from hypothesis import strategies as st
from strategies import Case, cases

import cyconv
from cyconv import threads, tiling
from cyconv.algorithms import direct
from cyconv.plan import TABLE

PATIENCE = 30  # seconds
AS_IS = [1, 1, 1, 1, 0, 1]  # size, kernel, stride, dilation, low pad, output


def as_stored(w):
    """Weights (groups, F, C, *kernel) in memory, and the steps that lead through them."""
    (_, f, c, *kernel), taps = w.shape, w[0, 0, 0].size
    tap_steps = [kernel[1] * kernel[2], kernel[2], 1]
    return w.reshape(-1), [c * taps, taps, f * c * taps, 0, *tap_steps]


def flipped(w):
    """As an input gradient reads w: channels before filters, and taps from last to first."""
    memory = w[..., ::-1, ::-1, ::-1].swapaxes(1, 2)
    (_, c, f, *kernel), taps = memory.shape, w[0, 0, 0].size
    tap_steps = [kernel[1] * kernel[2], kernel[2], 1]
    steps = [taps, f * taps, f * c * taps, taps - 1, *(-step for step in tap_steps)]
    return memory.reshape(-1), steps


def every_second(w):
    """As a phase reads w: every second tap along each axis, from the second on."""
    groups, f, c, *kernel = w.shape
    memory = np.full((groups, f, c, *(2 * size for size in kernel)), np.nan)
    memory[..., 1::2, 1::2, 1::2] = w
    taps = 8 * w[0, 0, 0].size
    depth, height = 4 * kernel[1] * kernel[2], 2 * kernel[2]
    steps = [c * taps, taps, f * c * taps, depth + height + 1, 2 * depth, 2 * height, 2]
    return memory.reshape(-1), steps


WEIGHTS = [as_stored, flipped, every_second]
# How x lies, and how y does.
INPUTS = [packed, apart, spread, channels_last]
OUTPUTS = [
    {},
    {"arrange": apart},
    {"arrange": apart, "step": 2},
    {"arrange": apart, "step": 3},
    {"arrange": channels_last},
]


PROTECTED = [protected, protected_last]


def cut(size, points):
    """From 0 to `size`, cut at these points."""
    return list(itertools.pairwise(sorted({0, size, *(point % size for point in points)})))


def tasks_of(images, groups, shape, filters, cuts=((), (), ()), filter_cuts=()):
    """All of the output, in boxes and blocks of filters."""
    boxes = itertools.product(*(cut(size, at) for size, at in zip(shape, cuts, strict=True)))
    rows = itertools.product(range(images), range(groups), boxes, cut(filters, filter_cuts))
    return np.array([(n, g, *sum(box, ()), *part) for n, g, box, part in rows], np.intp)


@kept
class Work:
    """Integers for a convolution, the definition's result, and how to call a kernel for it."""

    def __init__(self, axes, n=1, groups=1, channels=2, filters=3, seed=0):
        rng = np.random.default_rng(seed)
        self.axes = np.array(axes, np.intp)
        self.groups, self.channels, self.filters = groups, channels, filters
        self.x = rng.integers(-4, 5, (n, groups * channels, *self.axes[:, 0]))
        self.w = rng.integers(-4, 5, (groups, filters, channels, *self.axes[:, 1]))
        self.b = rng.integers(-4, 5, groups * filters)
        self.y = reference.convolve(self.x, self.w, self.b, self.axes)

    def tasks(self, cuts=((), (), ()), filter_cuts=()):
        shape = self.axes[:, 5].tolist()
        return tasks_of(len(self.x), self.groups, shape, self.filters, cuts, filter_cuts)

    def run(
        self,
        run,
        dtype,
        tasks=None,
        x=packed,
        w=as_stored,
        b=True,
        taken=None,
        rings=True,
        together=None,
        **out,
    ):
        """Compute into a guarded array, and return it."""
        together = self.channels if together is None else together
        tasks = self.tasks() if tasks is None else tasks
        weights, steps = w(self.w)
        y = output(self.y.shape, dtype, **out)
        itemsize = np.dtype(dtype).itemsize
        at_once = min(together, self.channels)
        size = run.direct_memory(
            self.axes, tasks, at_once, self.filters, itemsize, x is channels_last
        )
        memory = output(size, dtype)
        image, weights = x(self.x, dtype), packed(weights, dtype)
        bias = packed(self.b, dtype) if b else None
        for array in (image, weights) + (() if bias is None else (bias,)):
            array.flags.writeable = False
        taken = np.zeros(1, np.longlong) if taken is None else taken
        run.direct(
            image, weights, bias, y, self.axes, np.array(steps, np.intp), self.groups, together,
            tasks, taken, memory, rings,
        )  # fmt: skip
        assert_untouched(y)
        assert_untouched(memory)
        return y

    def check(self, run, dtype, **options):
        y = self.run(run, dtype, **options)
        without = 0 if options.get("b", True) else self.b.reshape(-1, 1, 1, 1)
        np.testing.assert_array_equal(y, self.y - without)


def line(width, kernel=1, stride=1, dilation=1, low=0, less=0):
    """An axis with as many outputs as there are in x and its low pad, but for `less`."""
    output = (width + low - (kernel - 1) * dilation - 1) // stride + 1 - less
    return [width, kernel, stride, dilation, low, output]


# Around the lengths of one to six vectors of 4, 8 or 16 items.
WIDTHS = [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 48, 49, 63, 65, 95, 97, 100]
FILTERS = [1, 2, 3, 4, 5, 8, 9, 25]

# Each way through the kernel, along the last axis for a width of outputs: in place and in a band,
# cut by phase, in two of them, and by tap; rows by themselves and whole planes.
KINDS = {
    "as it is": lambda n: [AS_IS, AS_IS, line(n)],
    "as it is, rows": lambda n: [AS_IS, line(5), line(n)],
    "valid": lambda n: [AS_IS, AS_IS, line(n + 2, 3)],
    "valid, rows": lambda n: [AS_IS, line(6, 3), line(n + 2, 3)],
    "valid, wide": lambda n: [AS_IS, line(4, 2), line(n + 30, 11, 1, 3)],
    "inside": lambda n: [AS_IS, line(9, 3, low=-2), [n + 9, 4, 1, 2, -2, n]],
    "volume": lambda n: [line(4, 2), line(3, 2), line(n + 1, 2)],
    "padded": lambda n: [AS_IS, [4, 3, 1, 1, 1, 4], [n, 3, 1, 1, 1, n]],
    "padded, volume": lambda n: [[2, 3, 1, 1, 1, 2], [3, 2, 1, 1, 1, 4], [n, 3, 1, 1, 2, n + 2]],
    "padded by six": lambda n: [AS_IS, [2, 2, 1, 1, 6, 9], [n, 5, 1, 1, 6, n + 8]],
    "stride 2": lambda n: [AS_IS, [9, 3, 2, 1, 1, 5], [2 * n + 1, 5, 2, 1, 2, n]],
    "stride 2, one tap": lambda n: [AS_IS, [9, 1, 2, 1, 0, 5], [2 * n, 1, 2, 1, 0, n]],
    "stride 3, dilated": lambda n: [AS_IS, [5, 2, 1, 3, 2, 4], [3 * n, 3, 3, 2, 2, n]],
    "beyond both ends": lambda n: [AS_IS, [2, 2, 1, 1, 4, 9], [max(1, n - 9), 2, 1, 1, 5, n]],
    "nothing inside": lambda n: [AS_IS, [2, 2, 1, 1, 9, 3], [3, 2, 1, 1, -9, n]],
}


@each_dtype
@each_build
@pytest.mark.parametrize("kind", KINDS)
def test_widths(build, dtype, kind):
    """Every width, with some number of filters, weights, inputs and outputs each."""
    run, ways = kernels_of(build), itertools.count()
    for width in WIDTHS:
        i = next(ways)
        work = Work(KINDS[kind](width), 2, 1 + i % 2, 1 + i % 3, FILTERS[i % 8], i)
        work.check(run, dtype, w=WEIGHTS[i % 3], **OUTPUTS[0])
        work.check(run, dtype, x=apart, b=False, **OUTPUTS[1])
        work.check(run, dtype, x=INPUTS[i % 4], w=WEIGHTS[i // 3 % 3], **OUTPUTS[2 + i % 3])
        work.check(run, dtype, x=channels_last, w=WEIGHTS[i % 3], arrange=channels_last)


@each_dtype
@each_compiled
@pytest.mark.parametrize("kind", KINDS)
def test_channels_some_at_a_time(build, dtype, kind):
    """What the next give is added once to each output, and the bias with the first alone. (The
    fallback takes all at once.)"""
    run = kernels_of(build)
    for i, width in enumerate(WIDTHS):
        work = Work(KINDS[kind](width), 2, 1 + i % 2, 5, FILTERS[i % 8], i)
        for j, out in enumerate(OUTPUTS):
            tasks = work.tasks(((), (1,), (7,)), (3,)) if j % 2 else None
            ways = {"x": INPUTS[(i + j) % 4], "w": WEIGHTS[i % 3], "b": j != 1}
            work.check(run, dtype, tasks=tasks, together=1 + (i + j) % 4, **ways, **out)


@each_dtype
@each_build
@pytest.mark.parametrize("filters", FILTERS)
def test_filters(build, dtype, filters):
    """Every number of filters, on planes of several tiles and with what is left of them."""
    run = kernels_of(build)
    for kind in ("as it is", "valid, rows", "padded", "stride 2"):
        for width in (16, 37, 103):
            for groups in (1, 3):
                Work(KINDS[kind](width), 1, groups, 2, filters).check(run, dtype)


@each_dtype
@each_compiled
@pytest.mark.parametrize(
    ("channels", "filters", "worth"), [(48, 16, True), (47, 16, False), (48, 15, False)]
)
def test_crowded_planes_are_copied(build, dtype, channels, filters, worth):
    """Those a multiple of 4096 bytes apart, to where they are an odd number of lines apart."""
    run, itemsize = kernels_of(build), np.dtype(dtype).itemsize
    for height, width, crowded in ((4, 2048, True), (2, 1024, False), (1, 12288, True)):
        axes = [AS_IS, line(height), line(width // itemsize)]
        work = Work(axes, 2, 1, channels, filters)
        items = run.direct_memory(work.axes, work.tasks(), channels, filters, itemsize)
        assert (items > 0) == (crowded and worth)
        if items:
            assert items // channels * itemsize % 128 == 64
        for x in (packed, apart):
            work.check(run, dtype, x=x)


@each_dtype
@each_build
def test_more_weights_than_cache(build, dtype):
    """Then the positions are gone through for each few filters."""
    for axes in (KINDS["valid, rows"](50), KINDS["padded"](21)):
        work = Work(axes, channels=700, filters=25)
        assert 25 * 700 * 9 * np.dtype(dtype).itemsize > 524288
        work.check(kernels_of(build), dtype)
        work.check(kernels_of(build), dtype, together=57)


@each_dtype
@each_build
def test_positions_in_parts(build, dtype):
    """Where weights stay in cache, but not all cells that are read; also with one tap."""
    run = kernels_of(build)
    for axes in (KINDS["valid, rows"](50), KINDS["padded"](41)):
        Work(axes, channels=100, filters=17).check(run, dtype)
    Work(KINDS["as it is"](301), channels=600, filters=17).check(run, dtype)


@st.composite
def works(draw):
    """Any axes at all: also outputs that read nothing, and negative low pads; any cuts."""
    axis = st.tuples(
        st.integers(1, 9),  # size
        st.integers(1, 4),  # kernel
        st.integers(1, 5),  # stride
        st.one_of(st.integers(1, 4), st.integers(5, 30)),  # dilation
        st.integers(-6, 9),  # low pad
        st.integers(1, 6),  # output
    )
    wide = st.tuples(
        st.integers(1, 80),
        st.integers(1, 5),
        st.integers(1, 4),
        st.integers(1, 4),
        st.integers(-6, 9),
        st.integers(1, 60),
    )
    valid = st.builds(line, st.integers(20, 80), st.integers(1, 5), low=st.integers(-3, 0))
    last = draw(st.one_of(axis, wide, valid))
    rank = draw(st.integers(1, 3))
    rows = st.one_of(axis, st.builds(line, st.integers(3, 9), st.integers(1, 3)))
    axes = [AS_IS] * (3 - rank) + [list(draw(rows)) for _ in range(rank - 1)] + [list(last)]
    small = st.integers(1, 3)
    filters = draw(st.one_of(small, st.integers(4, 20)))
    work = Work(axes, draw(small), draw(small), draw(small), filters, draw(st.integers(0, 9)))
    points = st.lists(st.integers(0, 99), max_size=3)
    tasks = work.tasks([draw(points) for _ in range(3)], draw(points))
    if draw(st.booleans()):
        tasks = np.random.default_rng(0).permutation(tasks)
    return work, {
        "tasks": tasks,
        "x": draw(st.sampled_from(INPUTS)),
        "w": draw(st.sampled_from(WEIGHTS)),
        "b": draw(st.booleans()),
        "together": draw(small),
        **draw(st.sampled_from(OUTPUTS)),
    }


@each_dtype
@each_build
@given(drawn=works())
def test_any_work(build, dtype, drawn):
    work, options = drawn
    work.check(kernels_of(build), dtype, **options)


@each_dtype
@each_build
@pytest.mark.parametrize("kind", KINDS)
def test_tasks(build, dtype, kind):
    """Cut along each axis and into blocks of filters, in any order: boxes of unlike size use the
    same memory one after the other."""
    run = kernels_of(build)
    work = Work(KINDS[kind](41), 2, 2, 2, 11)
    filter_cuts = itertools.cycle([(), (8,), (3, 4)])
    for cuts in itertools.product([(), (17,), (3, 30)], [(), (2, 3)], [(), (1,)]):
        tasks = work.tasks(cuts[::-1], next(filter_cuts))
        work.check(run, dtype, tasks=tasks)
        work.check(run, dtype, tasks=tasks[::-1].copy(), x=apart, **OUTPUTS[2])


@each_dtype
@each_build
def test_huge_steps(build, dtype):
    """Outputs, taps or pads as far apart as can be: nothing overflows, no memory is taken."""
    far, run = 2**61, kernels_of(build)
    for axis in range(3):
        for row, wanted in (
            ([5, 1, far, 1, 0, 2], [10, 0]),
            ([5, 1, far, 1, far, 2], [0, 10]),
            ([5, 2, 1, far, 0, 3], [10, 20, 30]),
            ([5, 2, 1, far, far - 1, 3], [2, 3, 4]),
            ([5, 1, 1, 1, far, 2], [0, 0]),
            ([5, 1, 1, 1, -far, 2], [0, 0]),
        ):
            axes = np.array([row if a == axis else AS_IS for a in range(3)], np.intp)
            x = packed(np.arange(1, 6), dtype).reshape(1, 1, *axes[:, 0])
            y = output((1, 1, *axes[:, 5]), dtype)
            tasks = tasks_of(1, 1, axes[:, 5].tolist(), 1)
            steps = np.array([0, 0, 0, 0, 1, 1, 1], np.intp)
            size = run.direct_memory(axes, tasks, 1, 1, x.itemsize)
            assert size < 1000
            run.direct(
                x, np.array([10, 1], dtype), None, y, axes, steps, 1, 1, tasks,
                np.zeros(1, np.longlong), np.empty(size, dtype),
            )  # fmt: skip
            np.testing.assert_array_equal(y.ravel(), wanted)


@each_dtype
@each_build
def test_a_bad_cell_stays_in_its_windows(build, dtype):
    """Also not where sums of what lies between rows are computed and dropped."""
    for kind in ("as it is, rows", "valid, rows", "padded", "stride 2"):
        work = Work(KINDS[kind](20), filters=9)
        reached = np.zeros(work.x.shape)
        for cell in np.ndindex(1, 1, *work.x.shape[2:]):
            reached[...] = 0
            reached[cell] = 1
            hit = reference.convolve(reached, np.ones(work.w.shape), None, work.axes) > 0
            spoilt = copy.copy(work)
            spoilt.x = np.where(reached, np.nan, work.x)
            y = spoilt.run(kernels_of(build), dtype)
            np.testing.assert_array_equal(y, np.where(hit, np.nan, work.y))


@each_dtype
@each_build
@pytest.mark.parametrize("kind", ["as it is, rows", "padded"])
def test_long_sums(kind, build, dtype):
    """Of several sums, with the bias in the first; with a table of taps, and in equal steps."""
    work = Work(KINDS[kind](20), channels=1100, filters=5)
    y = work.run(kernels_of(build), dtype)
    np.testing.assert_array_equal(y, work.y)


@each_dtype
@each_build
def test_taken_tasks_are_left_alone(build, dtype):
    run, work = kernels_of(build), Work(KINDS["padded"](20), 2, filters=9)
    tasks = work.tasks(((), (2,), (7,)), (3,))
    some = (0, 1, 5, len(tasks), len(tasks) + 3)
    for front, back, rings in itertools.product(some, some, (True, False)):
        taken = np.array([front + (back << 32)], np.longlong)
        y = work.run(run, dtype, tasks, taken=taken, rings=rings)
        more = max(0, len(tasks) - front - back) + 1
        assert taken[0] == front + (back << 32) + (more if rings else more << 32)
        wanted = work.y.astype(float)
        for n, _, d0, d1, h0, h1, w0, w1, f0, f1 in [
            *tasks[:front],
            *tasks[len(tasks) - min(back, len(tasks)) :],
        ]:
            wanted[n, f0:f1, d0:d1, h0:h1, w0:w1] = np.nan
        np.testing.assert_array_equal(y, wanted)


@each_dtype
@each_build
def test_threads_share_a_counter(build, dtype):
    """Each task is done once, by either of them."""
    run, work = kernels_of(build), Work(KINDS["padded"](40), 2, 2, 8, 16)
    tasks = work.tasks(((), (2,), (7, 20)), (8,))
    axes, (weights, steps) = work.axes, as_stored(work.w)
    size = run.direct_memory(axes, tasks, work.channels, work.filters, np.dtype(dtype).itemsize)
    x, w, b = (a.astype(dtype) for a in (work.x, weights, work.b))
    for number in (2, 5):
        y, taken = output(work.y.shape, dtype), np.zeros(1, np.longlong)
        start = threading.Barrier(number)

        def help_out(rings, y=y, taken=taken, start=start):
            start.wait(PATIENCE)
            memory = np.full(size, np.nan, dtype)
            at = np.array(steps, np.intp)
            run.direct(x, w, b, y, axes, at, 2, work.channels, tasks, taken, memory, rings)

        helpers = [
            threading.Thread(target=help_out, args=(i == 0,), daemon=True) for i in range(number)
        ]
        for helper in helpers:
            helper.start()
        for helper in helpers:
            helper.join(PATIENCE)
            assert not helper.is_alive()
        assert sum(divmod(int(taken[0]), 1 << 32)) == len(tasks) + number
        np.testing.assert_array_equal(y, work.y)
        assert_untouched(y)


@each_dtype
@each_compiled
def test_arguments_are_checked(build, dtype):
    """Cheap checks, in compiled code: a wrong call must not reach foreign memory."""
    run = kernels_of(build)
    axes = np.array([AS_IS, [5, 3, 1, 1, 1, 5], [6, 2, 2, 1, 0, 3]], np.intp)
    x, y = np.zeros((2, 4, 1, 5, 6), dtype), np.zeros((2, 6, 1, 5, 3), dtype)
    w, b = np.zeros(6 * 2 * 6, dtype), np.zeros(6, dtype)
    steps = np.array([12, 6, 36, 0, 6, 2, 1], np.intp)
    tasks = tasks_of(2, 2, (1, 5, 3), 3, ((), (2,), ()), (1,))
    size = run.direct_memory(axes, tasks, 2, 3, x.itemsize)
    memory, taken = np.zeros(size, dtype), np.zeros(1, np.longlong)
    right = {
        "x": x, "w": w, "b": b, "y": y, "axes": axes, "steps": steps, "groups": 2,
        "together": 2, "tasks": tasks, "taken": taken, "memory": memory,
    }  # fmt: skip

    def changed(array, index, value):
        other = array.copy()
        other[index] = value
        return other

    wrong = [
        *({"x": a} for a in (x[:1], x[:, :3], x[..., :5], x[..., ::-1], x[:, :, :, 1:])),
        *({"y": a} for a in (y[:1], y[:, :5], y[:, :4], y[..., :2], y[:, :, :, 1:], y[:0])),
        {"w": w[:-1]},
        {"w": w[:0]},
        {"w": np.zeros((2, 36), dtype)},
        {"w": np.zeros(144, dtype)[::2]},
        {"b": b[:5]},
        {"b": np.zeros(7, dtype)},
        {"axes": axes[:2]},
        {"axes": axes[:, :5].copy()},
        *({"axes": changed(axes, (a, i), 0)} for a in range(3) for i in (0, 1, 2, 3, 5)),
        {"steps": steps[:6]},
        *({"steps": changed(steps, i, -1)} for i in (0, 1, 2, 3, 5, 6)),
        *({"steps": changed(steps, i, 50)} for i in (0, 1, 2, 3, 5, 6)),
        *({"groups": n} for n in (0, -1, 3, 4)),
        *({"together": n} for n in (0, -1)),
        {"tasks": tasks[:, :9].copy()},
        {"tasks": tasks[:0]},
        *({"tasks": changed(tasks, (-1, i), -1)} for i in range(10)),
        *({"tasks": changed(tasks, (3, i), 9)} for i in (0, 1, *range(2, 10))),
        *({"tasks": changed(tasks, (0, i), tasks[0, i - 1])} for i in (3, 5, 7, 9)),
        {"taken": np.zeros(2, np.longlong)},
        {"taken": np.zeros(0, np.longlong)},
        {"taken": np.full(1, -1, np.longlong)},
        {"memory": memory[:-1]},
        {"memory": memory[:0]},
        {"memory": np.zeros(2 * size, dtype)[::2]},
        {"x": x.astype(np.float16)},
        {"y": np.broadcast_to(y, y.shape)},  # read-only
    ]
    run.direct(*right.values())
    for change in wrong:
        taken[:] = 0
        assert refused(run.direct, *{**right, **change}.values())
    assert not y.any()
    for change in (
        {"axes": axes[:2]},
        *({"axes": changed(axes, (a, i), 0)} for a in range(3) for i in (1, 2, 3, 5)),
        {"tasks": tasks[:, :9].copy()},
        {"channels": 0},
        {"channels": -1},
        {"filters": -1},
        {"itemsize": 0},
    ):
        arguments = {"axes": axes, "tasks": tasks, "channels": 2, "filters": 3, "itemsize": 4}
        assert refused(run.direct_memory, *(arguments | change).values())
    assert run.direct_memory(axes, tasks[:0], 2, 3, 4) == 0
    far = np.array([[1 << 17, 1, 1, 1, 1, 1 << 17]] * 3, np.intp)
    with pytest.raises(MemoryError):
        run.direct_memory(far, tasks_of(1, 1, [1 << 17] * 3, 1), 64, 64, 4)


def check_nothing_outside(build):
    """A read that spoils nothing is not seen by guards: beside these arrays, it crashes."""
    run = kernels_of(build)
    widths, cuts = (1, 3, 6, 16, 20, 33, 50), ((), (7,), (18,))
    ways = itertools.product(KINDS, widths, cuts, (False, True), PROTECTED, DTYPES)
    for kind, width, columns, start, lay, dtype in ways:
        work = Work(KINDS[kind](width), 2, 2, 2, 5)
        tasks = work.tasks(((), (1,), columns))
        weights, steps = as_stored(work.w)
        itemsize = np.dtype(dtype).itemsize
        together = 1 if start else 2
        last = lay is protected_last
        size = run.direct_memory(work.axes, tasks, together, 5, itemsize, last)
        w, b, memory = (
            protected(array, dtype, start) for array in (weights, work.b, np.zeros(size))
        )
        x, y = (lay(array, dtype, start) for array in (work.x, np.full(work.y.shape, np.nan)))
        taken = np.zeros(1, np.longlong)
        at = np.array(steps, np.intp)
        run.direct(x, w, b, y, work.axes, at, 2, together, tasks, taken, memory)
        np.testing.assert_array_equal(y, work.y)


@can_protect
@each_compiled
def test_nothing_is_touched_outside_of_arrays(build):
    in_another_process("test_direct", "check_nothing_outside", build)


@each_dtype
@each_build
@pytest.mark.parametrize("rows", [1, 3, 15, 16, 17, 40])
def test_turn(build, dtype, rows):
    """All of a matrix, or some of its columns to as many rows."""
    turn = kernels_of(build).turn
    for columns in (1, 2, 8, 15, 16, 33, 70):
        a = packed(np.arange(rows * columns).reshape(rows, columns), dtype)
        to = output((columns, rows), dtype)
        turn(a, to)
        np.testing.assert_array_equal(to, a.T)
        assert_untouched(to)
        to = output((columns, rows), dtype)
        some = slice(columns // 3, columns - columns // 4)
        turn(a[:, some], to[some])
        np.testing.assert_array_equal(to[some], a.T[some])
        assert np.isnan(np.delete(to, some, 0)).all()
    for shape in ((0, 3), (3, 0)):
        turn(np.zeros(shape, dtype), np.zeros(shape[::-1], dtype))


@each_dtype
@each_compiled
def test_what_cannot_be_turned_is_refused(build, dtype):
    turn, a, to = kernels_of(build).turn, np.ones((6, 8), dtype), np.zeros((8, 6), dtype)
    wrong = [(a[:5], to), (a[:, :7], to), (a, to[:, :5]), (a[:, ::-1], to), (a, to[:, ::-1])]
    wrong += [(a.T, to.T), (np.asfortranarray(a), to), (a, np.asfortranarray(to)), (a[0], to)]
    for arrays in wrong:
        assert refused(turn, *arrays)
    assert not to.any()


# From here on: the public face.


@pytest.fixture(params=["as it is", "alone", "cut small"])
def way(request, monkeypatch):
    """With depthwise, which takes what has few channels a group; without; and in many tasks, some
    channels at a time, input gradients an image at a time, weights of one tap turned first, weight
    gradients with longer rows of dy."""
    if request.param != "as it is":
        monkeypatch.setitem(TABLE, "direct", TABLE["direct"][1:])
    if request.param == "cut small":
        monkeypatch.setattr(direct, "BAND_BYTES", 512)
        monkeypatch.setattr(tiling, "PIECE_WORK", 100)
        monkeypatch.setattr(threads, "SMALL", 0)
        monkeypatch.setattr(direct, "MANY_WEIGHTS", 0)
        monkeypatch.setattr(direct, "TOGETHER", 20)
        monkeypatch.setattr(direct, "BLOCK_BYTES", 1)
        monkeypatch.setattr(direct, "CROWDED_BYTES", 64)
        monkeypatch.setattr(direct, "TURNED_WEIGHTS", 1)
        monkeypatch.setattr(direct, "TURNED_POSITIONS", 1)
        monkeypatch.setattr(direct, "TURNED_ROWS", 7)
    return request.param


EXACT = {
    "tiny": Case((1, 1, 10, 10), (1, 1, 3, 3), padding=1),
    "one cell": Case((2, 5, 1, 1), (6, 5, 1, 1)),
    "first layer": Case((2, 3, 33, 35), (20, 3, 7, 7), 2, 3),
    "first layer, stride 4": Case((1, 3, 47, 51), (12, 3, 11, 11), 4, 2),
    "pointwise": Case((2, 24, 13, 14), (17, 24, 1, 1)),
    "pointwise, groups": Case((2, 24, 5, 9), (18, 8, 1, 1), groups=3),
    "pointwise, strided": Case((2, 24, 13, 14), (17, 24, 1, 1), 2),
    "valid": Case((2, 9, 12, 40), (8, 9, 3, 3)),
    "padded": Case((2, 9, 14, 14), (25, 9, 3, 3), padding=1),
    "stride over kernel": Case((2, 8, 17, 23), (9, 8, 2, 2), (5, 3), 1),
    "dilated": Case((1, 8, 17, 23), (9, 8, 3, 3), (2, 3), (4, 3), (3, 2)),
    "groups": Case((2, 32, 9, 20), (48, 8, 3, 3), 2, 1, groups=4),
    "uneven": Case((2, 8, 9, 20), (7, 8, 2, 4), padding=((0, 3), (2, 0))),
    "line": Case((2, 8, 300), (9, 8, 5), 2, 2),
    "volume": Case((2, 6, 5, 7, 18), (8, 6, 3, 2, 3), (1, 2, 1), 1),
}


def assert_like_gemm(case, dtype):
    """To the bit, since the sums of these integers are exact, and as defined."""
    x, w, b, dy = case.integers(dtype)
    for name, arguments in (
        ("conv", (x, w, b)),
        ("conv", (x, w)),
        ("conv_input_grad", (dy, w, x.shape)),
        ("conv_weight_grad", (dy, x, w.shape)),
    ):
        wanted = getattr(reference, name)(*arguments, **case.options)
        for algorithm in ("direct", "gemm"):
            out = np.full(wanted.shape, np.nan, dtype)
            getattr(cyconv, name)(*arguments, algorithm=algorithm, out=out, **case.options)
            np.testing.assert_array_equal(out, wanted, err_msg=f"{name}, {algorithm}")


@each_dtype
@pytest.mark.parametrize("name", EXACT)
def test_direct_is_exact(way, name, dtype):
    assert_like_gemm(EXACT[name], dtype)


@each_dtype
@given(case=cases(spare=20))
def test_direct_on_any_geometry(dtype, case):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(TABLE, "direct", TABLE["direct"][1:])
        patch.setattr(direct, "BAND_BYTES", 1024)
        forget_plans()
        assert_like_gemm(case, dtype)


@pytest.mark.parametrize(
    "options",
    [
        {"padding_mode": "circular", "padding": 1},
        {"padding_mode": "reflect", "padding": ((1, 2), (0, 1)), "stride": 2},
        {"padding": "same", "dilation": 2},
        {"data_format": "channels_last", "padding": 1},
        {"data_format": "channels_last", "stride": (2, 3), "groups": 2},
    ],
    ids=str,
)
def test_direct_takes_all_options(way, options):
    case = Case((2, 12, 11, 13), (10, 12 // options.get("groups", 1), 3, 3))
    x, w, b, _ = case.integers(np.float32)
    if "data_format" in options:
        x = np.moveaxis(x, 1, -1).copy()
    y, like = (cyconv.conv(x, w, b, algorithm=name, **options) for name in ("direct", "gemm"))
    np.testing.assert_array_equal(y, like)
    dy = np.random.default_rng(0).integers(-4, 5, y.shape).astype(np.float32)
    for function, arguments in (
        (cyconv.conv_input_grad, (dy, w, x.shape)),
        (cyconv.conv_weight_grad, (dy, x, w.shape)),
    ):
        got, like = (function(*arguments, algorithm=name, **options) for name in ("direct", "gemm"))
        np.testing.assert_array_equal(got, like)


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_direct_transposed(way, stride):
    """Its forward pass is an input gradient: with a bias, and with high pads of any sign."""
    x, _, b, _ = Case((2, 12, 7, 20), (10, 12, 3, 3)).integers(np.float32)
    w = Case((2, 12, 3, 3), (12, 5, 3, 3)).integers(np.float32)[1]
    w = np.concatenate([w, w], axis=1)
    for padding, extra in ((0, 0), (1, stride - 1), (2, 0)):
        options = {"stride": stride, "padding": padding, "output_padding": extra}
        got, like = (
            cyconv.conv_transpose(x, w, b, algorithm=name, **options) for name in ("direct", "gemm")
        )
        np.testing.assert_array_equal(got, like)


# Long sums, of both signs and of one, at which the order of adding shows.
LONG = {
    "first layer": Case((2, 3, 112, 112), (64, 3, 7, 7), 2, 3),
    "stride 2": Case((2, 128, 28, 28), (128, 128, 3, 3), 2, 1),
    "pointwise": Case((1, 2048, 7, 7), (512, 2048, 1, 1)),
    "dilated": Case((1, 1024, 15, 15), (128, 1024, 3, 3), 1, 5, 5),
    "4096 taps": Case((8, 256, 14, 14), (64, 256, 4, 4), 2, 1),
    "25600 taps": Case((1, 1024, 8, 12), (32, 1024, 5, 5), padding=2),
    "many positions": Case((8, 4, 112, 112), (16, 4, 3, 3), padding=1),
    "volume": Case((1, 64, 8, 9, 10), (64, 64, 3, 3, 3), padding=1),
    "groups": Case((2, 256, 14, 14), (256, 64, 3, 3), padding=1, groups=4),
}


@pytest.mark.parametrize("name", LONG)
@pytest.mark.parametrize("algorithm", ["auto", "direct"])
def test_float32_error(algorithm, name):
    """At most 5e-6 of the largest value, forward and gradients."""
    case = LONG[name]
    x, w, _, dy = case.arrays(np.float32)
    for function, arguments in (
        ("conv", (x, w)),
        ("conv", (abs(x), abs(w))),
        ("conv_input_grad", (dy, w, x.shape)),
        ("conv_input_grad", (abs(dy), abs(w), x.shape)),
        ("conv_weight_grad", (dy, x, w.shape)),
        ("conv_weight_grad", (abs(dy), abs(x), w.shape)),
    ):
        got = getattr(cyconv, function)(*arguments, algorithm=algorithm, **case.options)
        wanted = getattr(reference, function)(*arguments, **case.options)
        assert abs(got - wanted).max() <= 5e-6 * abs(wanted).max(), function
