"""Small convolutions in one call: as their kernels compute them, or not at all."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from builds import BUILDS, each_compiled, each_dtype, kernels_of, refused
from strategies import Case, described

import cyconv
from cyconv import kernels
from cyconv.algorithms import direct
from cyconv.plan import Plan, plan

CASES = {
    "tiny": Case((1, 1, 10, 10), (1, 1, 3, 3), padding=1),
    "one cell": Case((2, 5, 1, 1), (6, 5, 1, 1)),
    "in place": Case((2, 9, 8, 20), (8, 9, 3, 3)),
    "padded": Case((2, 9, 6, 7), (25, 9, 3, 3), padding=1),
    "pointwise": Case((2, 24, 7, 7), (17, 24, 1, 1)),
    "stride 2": Case((1, 3, 17, 18), (5, 3, 3, 3), 2, 1),
    "groups": Case((3, 8, 6, 9), (12, 4, 3, 2), padding=((0, 1), (2, 1)), groups=2),
    "line": Case((2, 4, 40), (9, 4, 5), padding=2, dilation=2),
    "volume": Case((1, 2, 4, 5, 6), (3, 2, 2, 3, 3), padding=1),
    "long sums": Case((1, 96, 5, 5), (8, 96, 3, 3), padding=1),
}
# What takes several calls of a kernel, or sums in several shares.
SEVERAL = {("stride 2", "input_grad"), ("groups", "weight_grad")}
# What is left to depthwise's kernel, which is faster.
DEPTHWISE = {("volume", "weight_grad")}
PASSES = ["forward", "input_grad", "weight_grad"]
compiled = pytest.mark.skipif(kernels.BUILD is None, reason="of compiled kernels only")


class Work:
    """One pass of a case on one build: arrays, what is made for it, and what its kernel does."""

    def __init__(self, monkeypatch, build, case, pass_, dtype):
        monkeypatch.setattr(kernels, "run", BUILDS[build])
        monkeypatch.setattr(kernels, "BUILD", build)
        self.g = g = described(case)
        made = plan(g, np.dtype(dtype), pass_, "direct")
        tiles = direct.tiles(g, made.dtype.itemsize, pass_)
        self.plan = Plan(**{**vars(made), "algorithm": direct, "tiles": tiles})
        self.whole = direct.whole(g, made.dtype.itemsize, pass_)
        x, w, b, dy = case.arrays(dtype)
        x, w, dy = x.reshape(g.x_shape), w.reshape(g.w_shape), dy.reshape(g.y_shape)
        self.arrays, self.shape = {
            "forward": ((x, w, b), g.y_shape),
            "input_grad": ((dy, w), g.x_shape),
            "weight_grad": ((dy, x), g.w_shape),
        }[pass_]
        self.dtype, self.pass_ = dtype, pass_

    def by_kernel(self, arrays=None):
        result = np.full(self.shape, np.nan, self.dtype)
        getattr(direct, self.pass_)(self.plan, *(arrays or self.arrays), result)
        return result


@each_dtype
@each_compiled
@pytest.mark.parametrize("pass_", PASSES)
@pytest.mark.parametrize("name", CASES)
def test_equal_to_the_kernels(monkeypatch, name, pass_, build, dtype):
    """To the bit, call after call."""
    work = Work(monkeypatch, build, CASES[name], pass_, dtype)
    assert (work.whole is None) == ((name, pass_) in SEVERAL)
    if work.whole is None:
        return
    ways = [work.arrays]
    if pass_ == "forward":
        ways += [work.arrays[:2], (*work.arrays[:2], None)]
    for arrays in ways:
        wanted = work.by_kernel(
            arrays if len(arrays) != 2 or pass_ != "forward" else (*arrays, None)
        )
        for _ in range(2):
            result = np.full(work.shape, np.nan, dtype)
            for array in arrays:
                if array is not None:
                    array.flags.writeable = False
            assert work.whole(arrays, result) is True
            np.testing.assert_array_equal(result, wanted)


def misplaced(array):
    """Its bytes, one byte off."""
    memory = np.empty(array.nbytes + 1, np.uint8)[1:]
    memory[:] = array.reshape(-1).view(np.uint8)
    view = memory.view(array.dtype).reshape(array.shape)
    assert not view.flags.aligned
    return view


def not_as_it_must_be(array):
    """What a call must not take for this array."""
    twice = np.repeat(array[..., None], 2, -1)[..., 0]
    return [twice, np.concatenate([array, array]), array[:0], misplaced(array), array[::-1]]


@each_dtype
@each_compiled
@pytest.mark.parametrize("pass_", PASSES)
def test_what_it_cannot_do_it_leaves_alone(monkeypatch, pass_, build, dtype):
    work = Work(monkeypatch, build, CASES["padded"], pass_, dtype)
    result = np.full(work.shape, 7, dtype)
    for i, array in enumerate(work.arrays):
        for other in not_as_it_must_be(array):
            arrays = (*work.arrays[:i], other, *work.arrays[i + 1 :])
            assert work.whole(arrays, result) is False
    assert (result == 7).all()
    fixed = result.copy()
    fixed.flags.writeable = False
    for other in (*not_as_it_must_be(result), fixed, np.asfortranarray(result)):
        assert work.whole(work.arrays, other) is False
        assert (other == 7).all()
    for i, other in enumerate((None, [1.0], "x")[: len(work.arrays)]):
        arrays = (*work.arrays[:i], other, *work.arrays[i + 1 :])
        assert work.whole(arrays, result) is False
    assert work.whole(work.arrays, None) is False
    for arrays in ((), work.arrays[:1], (*work.arrays, None, None)):
        assert work.whole(arrays, result) is False
    assert (result == 7).all()
    for wrong in (None, list(work.arrays)):
        with pytest.raises(TypeError):
            work.whole(wrong, result)
    assert work.whole(work.arrays, result) is True  # and still works


@each_dtype
@each_compiled
@pytest.mark.parametrize("pass_", PASSES)
def test_what_it_cannot_do_is_not_held(monkeypatch, pass_, build, dtype):
    """An array that is let go can be resized: which NumPy refuses while memory is held."""
    work = Work(monkeypatch, build, CASES["tiny"], pass_, dtype)
    first = work.arrays[0].copy()
    arrays = (first, *work.arrays[1:])
    result = np.empty(work.shape, dtype)
    assert work.whole(arrays, result) is True
    assert work.whole(arrays, result[..., ::-1]) is False
    assert work.whole((*arrays[:-1], misplaced(arrays[-1])), result) is False
    memory = bytearray(first.tobytes())
    assert work.whole((memory, *arrays[1:]), result[..., ::-1]) is False
    memory.clear()  # a BufferError, if it were held


@each_dtype
@each_compiled
@pytest.mark.parametrize("pass_", PASSES)
def test_many_threads_call_one(monkeypatch, pass_, build, dtype):
    work = Work(monkeypatch, build, CASES["padded"], pass_, dtype)
    rng = np.random.default_rng(0)
    sets = [
        tuple(rng.standard_normal(a.shape).astype(dtype) for a in work.arrays) for _ in range(8)
    ]
    wanted = [work.by_kernel(arrays) for arrays in sets]

    def call(index):
        results = []
        for _ in range(50):
            results.append(np.full(work.shape, np.nan, dtype))
            assert work.whole(sets[index], results[-1]) is True
        return results

    with ThreadPoolExecutor(8) as pool:
        for results, right in zip(pool.map(call, range(8)), wanted, strict=True):
            for result in results:
                np.testing.assert_array_equal(result, right)


@each_compiled
def test_arguments_are_checked(monkeypatch, build):
    run = kernels_of(build)
    work = Work(monkeypatch, build, CASES["groups"], "forward", np.float32)
    (part,) = work.plan.tiles.parts
    axes, steps, tasks = part.axes, part.steps, part.tasks
    right = {
        "axes": axes, "steps": steps, "groups": 2, "together": 4, "tasks": tasks,
        "weights": 12 * 4 * 6,
        "images": 3, "channels": 8, "filters": 12, "itemsize": 4,
    }  # fmt: skip

    def changed(array, index, value):
        other = array.copy()
        other[index] = value
        return other

    wrong = [
        {"axes": axes[:2]},
        {"axes": axes[:, :5].copy()},
        *({"axes": changed(axes, (a, i), 0)} for a in range(3) for i in (1, 2, 3, 5)),
        *({"groups": n} for n in (0, -1, 3, 5)),
        *({"images": n} for n in (0, 1, -1)),
        *({"channels": n} for n in (0, -8)),
        *({"filters": n} for n in (0, 4, -12)),
        *({"itemsize": n} for n in (0, -4, 2, 16)),
        {"tasks": tasks[:0]},
        {"tasks": tasks[:, :9].copy()},
        *({"tasks": changed(tasks, (0, i), 99)} for i in (0, 1, 9)),
    ]
    forward = [
        *({"together": n} for n in (0, -1)),
        {"steps": steps[:6]},
        {"steps": changed(steps, 3, -1)},
        {"steps": changed(steps, 2, 999)},
        {"weights": 12 * 4 * 6 - 1},
        {"weights": 0},
        {"filters": 14},
        {"channels": 10},
        {"tasks": changed(tasks, (-1, 5), 4)},  # of another box
    ]
    run.Whole(*right.values())
    for change in wrong + forward:
        assert refused(run.Whole, *(right | change).values()), change
    with pytest.raises(ValueError, match="twice"):
        work.whole.__init__(*right.values())
    unmade = run.Whole.__new__(run.Whole)
    assert unmade((np.empty(0), np.empty(0)), np.empty(0)) is False

    work = Work(monkeypatch, build, CASES["groups"], "weight_grad", np.float32)
    cut = work.plan.tiles
    axes, tasks, shares, blocks = cut.axes, cut.tasks, cut.shares, cut.blocks
    right = {
        "axes": axes, "groups": 2, "tasks": tasks, "shares": shares, "blocks": blocks,
        "columns": cut.sums[2], "images": 3, "channels": 8, "filters": 12, "itemsize": 4,
    }  # fmt: skip
    shares, blocks = (changed(array, (0, 0), 0) for array in (shares, blocks))
    summed = [
        {"shares": shares[:, :2].copy()},
        {"blocks": blocks[:, :2].copy()},
        *({"shares": changed(shares, (0, i), -1)} for i in range(3)),
        *({"shares": changed(shares, (0, i), 99)} for i in range(3)),
        *({"blocks": changed(blocks, (0, i), -1)} for i in range(3)),
        *({"blocks": changed(blocks, (0, i), 99)} for i in range(3)),
        *({"columns": n} for n in (0, 5, 17, -16)),
    ]
    run.WholeWeightGrad(*right.values())
    for change in [c for c in wrong if "filters" not in c and "tasks" not in c] + summed:
        assert refused(run.WholeWeightGrad, *(right | change).values()), change
    unmade = run.WholeWeightGrad.__new__(run.WholeWeightGrad)
    assert unmade((np.empty(0), np.empty(0)), np.empty(0)) is False


# From here on: plans, and the public face.


@compiled
@pytest.mark.parametrize("pass_", PASSES)
def test_small_plans_have_one(pass_):
    small, large = Case((1, 4, 10, 10), (6, 4, 3, 3)), Case((8, 64, 56, 56), (64, 64, 3, 3))
    float32 = np.dtype(np.float32)
    assert plan(described(small), float32, pass_, "direct").whole is not None
    assert plan(described(large), float32, pass_, "direct").whole is None
    for algorithm, case in (("gemm", large), ("winograd", small), ("winograd", large)):
        assert plan(described(case), float32, pass_, algorithm).whole is None
    empty = Case((0, 4, 10, 10), (6, 4, 3, 3))
    assert plan(described(empty), float32, pass_, "direct").whole is None


@pytest.fixture
def calls(monkeypatch):
    """What calls in one there were: whether each did something."""
    made, answers = direct.whole, []

    def whole(*arguments):
        call = made(*arguments)
        return call and (lambda *arrays: answers.append(call(*arrays)) or answers[-1])

    monkeypatch.setattr(direct, "whole", whole)
    return answers


def all_passes(case, arrays, algorithm, **options):
    x, w, b, dy = arrays
    options = {**case.options, "algorithm": algorithm, **options}
    return [
        cyconv.conv(x, w, b, **options),
        cyconv.conv(x, w, **options),
        cyconv.conv_input_grad(dy, w, x.shape, **options),
        cyconv.conv_weight_grad(dy, x, w.shape, **options),
    ]


@compiled
@each_dtype
@pytest.mark.parametrize("name", CASES)
def test_functions_use_it(calls, name, dtype):
    case = CASES[name]
    arrays = case.integers(dtype)
    for got, like in zip(
        all_passes(case, arrays, "direct"), all_passes(case, arrays, "gemm"), strict=True
    ):
        np.testing.assert_array_equal(got, like)
    number = 4 - sum(name == other for other, _ in SEVERAL | DEPTHWISE)
    assert calls == [True] * number  # none by gemm

    # And for an array of the caller's, so that the bits are the same.
    x, w, b, _ = arrays
    out = np.full_like(cyconv.conv(x, w, b, **case.options), np.nan)
    del calls[:]
    assert cyconv.conv(x, w, b, out=out, algorithm="direct", **case.options) is out
    np.testing.assert_array_equal(out, cyconv.conv(x, w, b, algorithm="gemm", **case.options))
    assert calls == [True]


@compiled
def test_arrays_that_it_cannot_read(calls):
    """Are copied, and computed all the same."""
    case = CASES["padded"]
    arrays = case.integers(np.float32)
    wanted = all_passes(case, arrays, "gemm")
    for change in (np.asfortranarray, misplaced, lambda a: np.repeat(a[..., None], 2, -1)[..., 0]):
        for got, like in zip(
            all_passes(case, [change(a) for a in arrays], "direct"), wanted, strict=True
        ):
            np.testing.assert_array_equal(got, like)
    assert not all(calls)
    assert calls.count(True) == 3 * 4  # with and without b, and the gradients
    del calls[:]
    for other in (">f4", np.float16, np.int32):
        changed = [a.astype(other) for a in arrays]
        for got, like in zip(all_passes(case, changed, "direct"), wanted, strict=True):
            np.testing.assert_array_equal(got, like)
    assert all(calls)


@compiled
def test_a_layer_is_pickled_after_use(calls):
    layer = cyconv.Conv2D(4, 6, 3, padding=1, algorithm="direct", rng=0)
    x = np.random.default_rng(0).standard_normal((1, 4, 7, 7)).astype(np.float32)
    y = layer.forward(x)
    layer.backward(y)
    assert calls.count(True) >= 3
    other = pickle.loads(pickle.dumps(layer))
    np.testing.assert_array_equal(other(x), y)
