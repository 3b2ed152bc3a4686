"""The direct kernel of weight gradients, in every build: as defined, in integers, to the bit.

As in test_direct.py, whose geometries these are: with guards, and memory full of NaN.
"""

import itertools
import threading
import time

import numpy as np
import pytest
import reference
from builds import DTYPES, each_build, each_compiled, each_dtype, kept, kernels_of, refused
from guards import (
    assert_untouched,
    can_protect,
    channels_last,
    in_another_process,
    output,
    packed,
    protected,
    protected_last,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from test_direct import FILTERS, INPUTS, KINDS, PROTECTED, WIDTHS, cut, works

PATIENCE = 30  # seconds
LANES = 16  # whole vectors in every build, of both dtypes


@kept
class Grad:
    """Integers for a weight gradient, the definition's result, and a call of the kernel for it."""

    def __init__(self, axes, n=1, groups=1, channels=2, filters=3, seed=0):
        rng = np.random.default_rng(seed)
        self.axes = np.array(axes, np.intp)
        self.groups, self.channels, self.filters = groups, channels, filters
        self.x = rng.integers(-4, 5, (n, groups * channels, *self.axes[:, 0]))
        self.dy = rng.integers(-4, 5, (n, groups * filters, *self.axes[:, 5]))
        self.taps = int(self.axes[:, 1].prod())
        self.rows = channels * self.taps
        self.by_image = np.concatenate([self.summed([image]) for image in range(n)])
        self.dw = self.by_image.sum(0)

    def summed(self, images):
        """(1, groups, F, C * taps)"""
        dy = np.split(self.dy[images].swapaxes(0, 1), self.groups)
        x = np.split(self.x[images], self.groups, axis=1)
        parts = [
            a.reshape(self.filters, -1) @ reference.columns(b, self.axes).T
            for a, b in zip(dy, x, strict=True)
        ]
        return np.array(parts)[None]

    def arguments(self, run, dtype, parts=1, cuts=((), (), ()), points=(), x=packed, dy=packed):
        """By name, in order: `parts` sums of their own, of images and boxes cut at `cuts`; channels
        cut at `points`, and rows in the end."""
        shape = self.axes[:, 5].tolist()
        each = itertools.product(*(cut(size, at) for size, at in zip(shape, cuts, strict=True)))
        boxes = [sum(box, ()) for box in each]
        items = list(itertools.product(range(len(self.x)), boxes))
        tasks, shares, parts = [], [], min(parts, len(items))
        for part, some in enumerate(np.array_split(np.arange(len(items)), parts)):
            for group, block in itertools.product(range(self.groups), cut(self.channels, points)):
                shares.append((part, len(tasks), len(tasks) + len(some)))
                tasks += [(items[i][0], group, *items[i][1], *block) for i in some]
        tasks = np.array(tasks, np.intp)
        columns = -(-self.filters // LANES) * LANES
        largest = max((b - a) * (d - c) * (f - e) for a, b, c, d, e, f in boxes)
        most = max(b - a for a, b in cut(self.channels, points))
        band = run.direct_memory(
            self.axes, tasks, most, 0, np.dtype(dtype).itemsize, x is channels_last
        )
        blocks = itertools.product(range(self.groups), cut(self.rows, points))
        arguments = {
            "dy": dy(self.dy, dtype), "x": x(self.x, dtype),
            "sums": output((parts, self.groups * self.rows, columns), dtype),
            "dw": output(self.dw.size, dtype), "axes": self.axes, "groups": self.groups,
            "tasks": tasks, "shares": np.array(shares, np.intp),
            "blocks": np.array([(group, *rows) for group, rows in blocks], np.intp),
            "progress": np.zeros(3, np.longlong),
            "memory": output(band + largest * columns, dtype),
        }  # fmt: skip
        for name in ("dy", "x"):
            arguments[name].flags.writeable = False
        return arguments

    def check(self, run, dtype, **options):
        arguments = self.arguments(run, dtype, **options)
        run.direct_weight_grad(*arguments.values())
        assert_right(arguments, self.dw)
        shares, blocks = len(arguments["shares"]), len(arguments["blocks"])
        assert arguments["progress"].tolist() == [shares + 1, shares, blocks + 1]


def assert_right(arguments, wanted):
    np.testing.assert_array_equal(arguments["dw"], wanted.ravel())
    for name in ("dw", "sums", "memory"):
        assert_untouched(arguments[name])


@each_dtype
@each_build
@pytest.mark.parametrize("kind", KINDS)
def test_widths(build, dtype, kind):
    """In place and through bands; every width, with some number of filters each."""
    run = kernels_of(build)
    for i, width in enumerate(WIDTHS):
        work = Grad(KINDS[kind](width), 1 + i % 3, 1 + i % 2, 1 + i % 3, FILTERS[i % 8], i)
        work.check(run, dtype, x=INPUTS[i % 4], dy=INPUTS[i // 2 % 4])
        work.check(run, dtype, x=channels_last, dy=channels_last)
        work.check(run, dtype, parts=3, cuts=((), (1,), (7, 20)), points=(1, 17))


@each_dtype
@each_build
@pytest.mark.parametrize("filters", [*FILTERS, 15, 16, 17, 33, 50])
def test_filters(build, dtype, filters):
    for kind, groups in itertools.product(("valid, rows", "padded"), (1, 3)):
        Grad(KINDS[kind](19), 2, groups, 5, filters).check(kernels_of(build), dtype)


@each_dtype
@each_build
@settings(max_examples=40)
@given(drawn=works(), data=st.data())
def test_any_work(build, dtype, drawn, data):
    """Any axes at all, cut anywhere."""
    like, options = drawn
    work = Grad(like.axes, len(like.x), like.groups, like.channels, like.filters)
    points = st.lists(st.integers(0, 99), max_size=3)
    work.check(
        kernels_of(build),
        dtype,
        parts=data.draw(st.integers(1, 4)),
        cuts=[data.draw(points) for _ in range(3)],
        points=data.draw(points),
        x=options["x"],
        dy=data.draw(st.sampled_from(INPUTS)),
    )


@each_dtype
@each_build
def test_a_bad_cell_stays_with_its_taps(build, dtype):
    """Channels beside it, and filters past the last, are not touched by a NaN."""
    run = kernels_of(build)
    for kind in ("valid, rows", "padded", "stride 2"):
        work = Grad(KINDS[kind](20), 2, 2, 3, 5)
        arguments = work.arguments(run, dtype)
        dy = arguments["dy"].copy()
        dy[1, 7] = np.nan  # the third filter of the second group
        run.direct_weight_grad(*(arguments | {"dy": dy}).values())
        wanted = work.dw.astype(float)
        wanted[1, 2] = np.nan
        assert_right(arguments, wanted)


@each_dtype
@each_build
def test_begins_where_others_are(build, dtype):
    """Shares that others have summed are added; rows that others have taken, left alone."""
    run, work = kernels_of(build), Grad(KINDS["padded"](20), 3, filters=9)
    for first, second in itertools.product((0, 1, 2, 3, 5), (0, 1, 2, 9)):
        arguments = work.arguments(run, dtype, parts=3, points=(7,))
        shares, blocks = arguments["shares"], arguments["blocks"]
        done = min(first, len(shares))
        arguments["progress"][:] = first, done, second
        wanted = work.by_image.astype(float)
        for part, start, _ in shares[:done]:
            begin, end = (work.taps * arguments["tasks"][start, 8:]).tolist()
            arguments["sums"][part, begin:end] = part + 1
            wanted[part, :, :, begin:end] = part + 1
        wanted = wanted.sum(0)
        for _, begin, end in blocks[:second]:
            wanted[:, :, begin:end] = np.nan
        run.direct_weight_grad(*arguments.values())
        assert_right(arguments, wanted)
        ends = max(first, len(shares)) + 1, len(shares), max(second, len(blocks)) + 1
        assert tuple(arguments["progress"]) == ends


@each_dtype
@each_build
def test_the_second_phase_waits_for_the_first(build, dtype):
    run, work = kernels_of(build), Grad(KINDS["padded"](20), 3, filters=9)
    arguments = work.arguments(run, dtype, parts=3)
    progress = arguments["progress"]
    progress[0] = 1
    helper = threading.Thread(
        target=run.direct_weight_grad, args=tuple(arguments.values()), daemon=True
    )
    helper.start()
    until = time.monotonic() + PATIENCE
    while progress[1] < 2 and time.monotonic() < until:
        time.sleep(1e-3)
    time.sleep(0.01)
    assert progress.tolist() == [4, 2, 0]
    assert helper.is_alive()
    assert np.isnan(arguments["dw"]).all()
    arguments["sums"][0] = 0
    arguments["sums"][0, :, :9] = work.by_image[0, 0].T
    progress[1] = 3
    helper.join(PATIENCE)
    assert not helper.is_alive()
    assert_right(arguments, work.dw)


@each_dtype
@each_build
def test_threads_share_progress(build, dtype):
    run, work = kernels_of(build), Grad(KINDS["padded"](40), 6, 2, 8, 16)
    options = {"parts": 5, "cuts": ((), (2,), (7, 20)), "points": (3, 5, 20)}
    for number in (2, 5):
        arguments = work.arguments(run, dtype, **options)
        start = threading.Barrier(number)

        def help_out(arguments=arguments, start=start):
            mine = {**arguments, "memory": np.full_like(arguments["memory"], np.nan)}
            start.wait(PATIENCE)
            run.direct_weight_grad(*mine.values())

        helpers = [threading.Thread(target=help_out, daemon=True) for _ in range(number)]
        for helper in helpers:
            helper.start()
        for helper in helpers:
            helper.join(PATIENCE)
            assert not helper.is_alive()
        assert_right(arguments, work.dw)
        shares, blocks = len(arguments["shares"]), len(arguments["blocks"])
        assert arguments["progress"].tolist() == [shares + number, shares, blocks + number]


@each_dtype
@each_compiled
def test_arguments_are_checked(build, dtype):
    run = kernels_of(build)
    axes = [[1, 1, 1, 1, 0, 1], [5, 3, 1, 1, 1, 5], [6, 2, 2, 1, 0, 3]]
    work = Grad(axes, 2, 2, 2, 3)
    right = work.arguments(run, dtype, parts=2, cuts=((), (2,), ()), points=(1,))
    run.direct_weight_grad(*right.values())
    right["dw"][...] = 7
    x, dy, axes, sums, dw = (right[name] for name in ("x", "dy", "axes", "sums", "dw"))
    tasks, shares, blocks = right["tasks"], right["shares"], right["blocks"]
    memory = right["memory"]

    def changed(array, index, value):
        other = array.copy()
        other[index] = value
        return other

    none = np.zeros((0, 10), np.intp)
    wrong = [
        *({"x": a} for a in (x[:1], x[:, :3], x[..., :5], x[..., ::-1], x[:, :, :, 1:])),
        *({"dy": a} for a in (dy[:1], dy[:, :5].copy(), dy[..., :2].copy(), dy[..., ::-1])),
        {"dy": np.zeros((2, 0, 1, 5, 3), dtype), "dw": dw[:0]},
        {"sums": sums[:, :-1].copy()},
        {"sums": sums[..., :2].copy()},
        {"sums": np.zeros((2, 24, 17), dtype)},
        {"sums": sums[:1]},
        {"sums": sums[:0]},
        *({"dw": a} for a in (dw[:-1], dw[:0], np.zeros(2 * dw.size, dtype)[::2])),
        {"axes": axes[:2]},
        {"axes": axes[:, :5].copy()},
        *({"axes": changed(axes, (a, i), 0)} for a in range(3) for i in (0, 1, 2, 3, 5)),
        *({"groups": n} for n in (0, -1, 3, 4)),
        {"tasks": tasks[:, :9].copy()},
        {"tasks": none},
        {"tasks": none, "shares": shares[:0]},
        {"tasks": none, "shares": shares[:0], "sums": sums[:0]},
        {"shares": shares[:0], "sums": sums[:0]},
        *({"tasks": changed(tasks, (-1, i), -1)} for i in range(10)),
        *({"tasks": changed(tasks, (3, i), 9)} for i in (0, 1, *range(2, 10))),
        *({"tasks": changed(tasks, (0, i), tasks[0, i - 1])} for i in (3, 5, 7, 9)),
        {"shares": shares[:, :2].copy()},
        *({"shares": changed(shares, (1, i), -1)} for i in range(3)),
        *({"shares": changed(shares, (1, i), 99)} for i in range(3)),
        {"blocks": blocks[:, :2].copy()},
        *({"blocks": changed(blocks, (1, i), -1)} for i in range(3)),
        *({"blocks": changed(blocks, (1, i), 99)} for i in range(3)),
        *({"progress": np.zeros(n, np.longlong)} for n in (0, 2, 4)),
        *({"progress": np.array(n, np.longlong)} for n in ([-1, 0, 0], [0, -1, 0], [0, 0, -1])),
        *({"memory": a} for a in (memory[:-1], memory[:0], np.zeros(9999, dtype)[::2])),
    ]
    for change in wrong:
        right["progress"][:] = 0
        assert refused(run.direct_weight_grad, *{**right, **change}.values()), change
    assert (right["dw"] == 7).all()


def check_nothing_outside(build):
    """A read that spoils nothing is not seen by guards: beside these arrays, it crashes."""
    run = kernels_of(build)
    ways = itertools.product(KINDS, (1, 3, 16, 20, 33), (False, True), PROTECTED, DTYPES)
    for kind, width, start, lay, dtype in ways:
        work = Grad(KINDS[kind](width), 2, 2, 2, 5)
        for columns in ((), (7, 18)):
            x = channels_last if lay is protected_last else packed
            arguments = work.arguments(run, dtype, cuts=((), (1,), columns), points=(1,), x=x)
            for name in ("dy", "x"):
                arguments[name] = lay(arguments[name], dtype, start)
            for name in ("sums", "dw", "memory"):
                arguments[name] = protected(arguments[name], dtype, start)
            run.direct_weight_grad(*arguments.values())
            np.testing.assert_array_equal(arguments["dw"], work.dw.ravel())


@can_protect
@each_compiled
def test_nothing_is_touched_outside_of_arrays(build):
    in_another_process("test_direct_grad", "check_nothing_outside", build)
