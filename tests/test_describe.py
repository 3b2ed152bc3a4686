"""describe: the plan, as it runs."""

import inspect
import itertools
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import cyconv
from cyconv import blocks, kernels, prepare, scratch, threads
from cyconv.description import OPTIONS, PASSES, TRANSPOSED_OPTIONS
from cyconv.plan import plan
from cyconv.transposed import transpose_input_grad, transpose_weight_grad

CONVOLUTIONS = ("forward", "input_grad", "weight_grad")
LAST = {"data_format": "channels_last"}
# Each way to compute a pass: shapes of x and w, and options.
CASES = {
    "columns": ((4, 16, 40, 41), (24, 16, 3, 3), {"padding": 1}),
    "columns back": ((4, 16, 40, 41), (24, 16, 3, 3), {"stride": 2}),
    "columns of one image": ((1, 8, 90, 91), (8, 8, 3, 3), {"stride": 2}),
    "columns by filter": ((20, 32, 5, 5), (640, 32, 3, 3), {"padding": 1}),
    "columns of groups": ((9, 12, 15, 16), (24, 4, 3, 3), {"groups": 3}),
    "columns of a line": ((4, 16, 2000), (24, 16, 9), {}),
    "columns of a volume": ((2, 8, 9, 16, 17), (12, 8, 3, 3, 3), {"padding": 1}),
    "one tap": ((4, 48, 40, 40), (64, 48, 1, 1), {}),
    "one tap, many weights": ((4, 144, 12, 12), (160, 144, 1, 1), {}),
    "one tap, small": ((32, 48, 7, 7), (64, 48, 1, 1), {}),
    "one tap, wide": ((2, 200, 7, 7), (400, 200, 1, 1), {}),
    "one tap, last": ((4, 40, 40, 48), (64, 48, 1, 1), LAST),
    "one tap, wide, last": ((16, 7, 7, 64), (1600, 64, 1, 1), LAST),
    "few tiles": ((2, 144, 14, 14), (160, 144, 3, 3), {"padding": 1}),
    "many tiles": ((6, 48, 40, 40), (64, 48, 3, 3), {"padding": 1}),
    "stride 2": ((6, 48, 40, 40), (64, 48, 3, 3), {"stride": 2, "padding": 1}),
    "stride 2, few tiles": ((2, 144, 14, 14), (160, 144, 3, 3), {"stride": 2, "padding": 1}),
    "tiles of a volume": ((2, 40, 6, 30, 30), (48, 40, 3, 3, 3), {"padding": 1}),
    "few tiles of a volume": ((1, 90, 4, 10, 10), (96, 90, 3, 3, 3), {"padding": 1}),
    "tiles apart": ((2, 40, 31, 30), (48, 40, 3, 3), {"padding": 3, "dilation": 3}),
    "strided": ((3, 3, 131, 131), (64, 3, 11, 11), {"stride": 4}),
    "depthwise": ((4, 24, 40, 40), (24, 1, 3, 3), {"groups": 24, "padding": 1}),
    "depthwise, strided": ((4, 48, 40, 40), (48, 1, 5, 5), {"groups": 48, "stride": 2}),
    "few filters": ((8, 200, 20, 20), (4, 200, 5, 5), {}),
    "small": ((1, 3, 10, 10), (4, 3, 3, 3), {"padding": 1}),
    "small, blocks": ((1, 3, 40, 40), (16, 3, 3, 3), {"padding": 1}),
    "small, images": ((6, 1, 40, 40), (12, 1, 3, 3), {}),
    "small, flipped": ((2, 12, 14, 14), (6, 12, 3, 3), {}),
    "small, one tap": ((1, 48, 14, 14), (64, 48, 1, 1), {}),
    "small, one tap, images": ((3, 48, 8, 8), (64, 48, 1, 1), {}),
    "reflect": ((5, 16, 30, 30), (16, 16, 3, 3), {"padding": 1, "padding_mode": "reflect"}),
    "last": ((5, 30, 30, 16), (24, 16, 3, 3), {"padding": 1, **LAST}),
}
# Which algorithms can be asked for; what needs vectors runs without them too, but elsewhere.
NAMES = {
    "columns": "auto gemm direct",
    "columns back": "auto gemm direct",
    "columns of one image": "auto gemm direct",
    "columns by filter": "auto gemm direct",
    "columns of groups": "auto gemm direct",
    "columns of a line": "auto gemm direct",
    "columns of a volume": "auto gemm direct",
    "one tap": "auto gemm direct",
    "one tap, many weights": "auto gemm direct",
    "few tiles": "auto gemm winograd",
    "many tiles": "auto gemm winograd",
    "stride 2": "auto gemm direct winograd",
    "stride 2, few tiles": "auto gemm winograd",
    "tiles of a volume": "auto gemm winograd",
    "few tiles of a volume": "auto gemm winograd",
    "tiles apart": "auto gemm winograd",
    "strided": "auto gemm winograd",
    "depthwise": "auto gemm direct",
    "depthwise, strided": "auto gemm direct",
    "few filters": "auto gemm direct",
    "small, one tap": "auto gemm direct",
    "last": "auto gemm direct winograd",
}
WAYS = [
    (name, algorithm, pass_)
    for name in CASES
    for algorithm in NAMES.get(name, "auto gemm").split()
    for pass_ in CONVOLUTIONS
]
each_way = pytest.mark.parametrize(("name", "algorithm", "pass_"), WAYS)
# Tables, Python's own objects, and the buffers of a NumPy function (64 KB, twice in a kernel of the
# fallback).
SMALL_CHANGE = (96 if kernels.BUILD else 192) << 10


def described(name, algorithm, pass_, dtype=np.float32):
    x_shape, w_shape, options = CASES[name]
    return cyconv.describe(x_shape, w_shape, dtype, pass_, algorithm=algorithm, **options)


def arrays_of(found, dtype):
    """Of a description: those that the pass takes, by name."""
    shapes = {"x": found.x_shape, "w": found.w_shape, "dy": found.y_shape}
    rng = np.random.default_rng(3)
    names = [name for name in PASSES[found.pass_][0] if name in shapes]
    return {name: (9 * rng.standard_normal(shapes[name])).astype(dtype) for name in names}


def call(found, options, dtype=np.float32):
    """The call that is described, with a place for its result."""
    arrays = arrays_of(found, dtype)
    out = np.empty(found.output_shape, found.dtype)
    if found.pass_.startswith("transpose"):
        chosen = tuple((TRANSPOSED_OPTIONS | options).values())
        function = {
            "transpose": lambda: cyconv.conv_transpose(**arrays, out=out, **options),
            "transpose_input_grad": lambda: transpose_input_grad(
                arrays["dy"], arrays["w"], found.x_shape, chosen
            ),
            "transpose_weight_grad": lambda: transpose_weight_grad(
                arrays["dy"], arrays["x"], found.w_shape, chosen
            ),
        }
        return function[found.pass_]
    function, shape = {
        "forward": (cyconv.conv, {}),
        "input_grad": (cyconv.conv_input_grad, {"x_shape": found.x_shape}),
        "weight_grad": (cyconv.conv_weight_grad, {"w_shape": found.w_shape}),
    }[found.pass_]
    return lambda: function(**arrays, **shape, out=out, **options)


def of_case(found, name, algorithm):
    return call(found, {**CASES[name][2], "algorithm": algorithm})


@pytest.fixture
def set_threads():
    before = cyconv.get_num_threads()
    yield cyconv.set_num_threads
    cyconv.set_num_threads(before)


@pytest.fixture
def plain_road(monkeypatch):
    """With the kernels of this build."""
    monkeypatch.setattr(kernels, "VECTOR", False)


def who_runs(function):
    """The (module, function) pairs of cyconv that this thread goes through."""
    seen = set()

    def note(frame, event, _):
        module = frame.f_globals.get("__name__", "")
        if event == "call" and module.startswith("cyconv."):
            seen.add((module, frame.f_code.co_name))

    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(None)
    return seen


def ran(found):
    """What runs, by the description."""
    if found.module == "rows":
        return {("cyconv.rows", "run")}
    modules = ("strided", "winograd") if found.module == "strided" else (found.module,)
    return {(f"cyconv.algorithms.{module}", found.pass_) for module in modules}


ALGORITHMS = {"lowering", "pointwise", "direct", "depthwise", "winograd", "strided"}


@each_way
def test_it_names_what_runs(name, algorithm, pass_):
    found = described(name, algorithm, pass_)
    seen = who_runs(of_case(found, name, algorithm))
    passes = {
        (module, function)
        for module, function in seen
        if (module, function) == ("cyconv.rows", "run")
        or (module.rpartition(".")[2] in ALGORITHMS and function in CONVOLUTIONS)
    }
    if found.module == "small":  # its functions are made for the plan
        called = {function for module, function in seen if module == "cyconv.algorithms.small"}
        (made,) = called & {"multiply", "add_back", "add_up"}
        assert (made == "add_back") == found.method.startswith("col2im")
        assert (made == "add_up") == (pass_ == "weight_grad")
        passes |= ran(found)
    assert passes == (set() if "in one call" in found.method else ran(found))
    assert ("cyconv.blocks", "run") in seen or not found.conversion
    assert algorithm in ("auto", found.algorithm)


class Memory:
    """Measures what a call takes, with `number` threads that take turns at the tasks, so that each
    of them needs its workspaces. Workspaces are not rounded up to pages. The first call makes the
    plan, and before it sees whether there is memory for a result; it is not measured."""

    def __init__(self, monkeypatch, number):
        self.helpers = [ThreadPoolExecutor(1) for _ in range(number - 1)]
        self.monkeypatch = monkeypatch
        cyconv.set_num_threads(number)
        monkeypatch.setattr(scratch, "_aligned", lambda size: np.empty(size, np.uint8))
        monkeypatch.setattr(threads, "_run", self.run)

    def run(self, task, count, number, rings=False):
        with threads.quiet():
            for index in range(count):
                turn = index % number
                if turn == 0:
                    task(index)
                else:
                    self.helpers[turn - 1].submit(task, index).result()

    def of(self, function):
        function()
        self.monkeypatch.setattr(scratch, "_scratch", scratch._Scratch())
        tracemalloc.start()
        try:
            function()
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
            for helper in self.helpers:
                helper.shutdown()


def assert_takes(describe, measured):
    """The measured peak is what is described: to 1% by one thread, and by more at most so much,
    since not all need the largest workspace. What compiled kernels ask of C is not measured."""
    found = describe()
    assert measured <= 1.01 * found.extra_memory + SMALL_CHANGE
    cyconv.set_num_threads(2)
    two = describe()
    cyconv.set_num_threads(1)
    one = describe()
    least = one.extra_memory
    if in_c(found):  # what is there once
        least = 2 * least - two.extra_memory if two.threads > 1 else 0
    assert measured >= 0.99 * least - SMALL_CHANGE


def in_c(found):
    """Whether the memory of a thread is asked for by a kernel."""
    return found.module == "depthwise" or "in one call" in found.method


# On the fallback the kernels of these make temporary arrays; products have none of their own.
measured_here = pytest.mark.skipif(
    kernels.BUILD is None, reason="kernels in NumPy make temporary arrays"
)


@pytest.mark.parametrize("number", [1, 3])
@each_way
def test_extra_memory(name, algorithm, pass_, number, monkeypatch, set_threads):
    if kernels.BUILD is None and algorithm not in ("auto", "gemm"):
        pytest.skip("kernels in NumPy make temporary arrays")
    memory = Memory(monkeypatch, number)
    measured = memory.of(of_case(described(name, algorithm, pass_), name, algorithm))
    assert_takes(lambda: described(name, algorithm, pass_), measured)


@measured_here
@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize("pass_", CONVOLUTIONS)
@pytest.mark.parametrize(
    "name", [name for name in NAMES if "tiles" in name] + ["stride 2", "strided"]
)
def test_extra_memory_of_winograd_on_blas(
    name, pass_, number, monkeypatch, set_threads, plain_road
):
    memory = Memory(monkeypatch, number)
    found = described(name, "winograd", pass_)
    assert not found.vector
    measured = memory.of(of_case(found, name, "winograd"))
    assert_takes(lambda: described(name, "winograd", pass_), measured)


@pytest.mark.parametrize("pass_", CONVOLUTIONS)
@pytest.mark.parametrize("dtype", ["float16", "float32", "int32"])
@pytest.mark.parametrize("mode", ["zeros", "symmetric"])
def test_extra_memory_of_conversions(mode, dtype, pass_, monkeypatch, set_threads):
    """By even blocks of a few images, or of whole arrays that are of another dtype."""
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 500_000)
    memory = Memory(monkeypatch, 1)
    x_shape, w_shape = (8, 96, 12, 12), (96, 96, 3, 3)
    options = {"padding": 1, "padding_mode": mode, "algorithm": "gemm"}

    def describe():
        return cyconv.describe(x_shape, w_shape, dtype, pass_, **options)

    assert ("blocks of" in describe().conversion) == (mode != "zeros" or dtype == "float16")
    measured = memory.of(call(describe(), options, dtype))
    assert_takes(describe, measured)


@pytest.mark.skipif(kernels.BUILD is None, reason="the band is that of compiled kernels")
@pytest.mark.parametrize("number", [1, 2])
def test_memory_that_kernels_ask_for(number, set_threads):
    """In each thread: a padded plane of a group; for the weight gradient, sums in float64 too."""
    set_threads(number)
    shapes, options = ((16, 32, 40, 24), (32, 1, 3, 2)), {"groups": 32, "padding": 1}
    found = cyconv.describe(*shapes, algorithm="direct", **options)
    assert found.module == "depthwise"
    assert found.threads == number
    plane = 4 * 42 * 26
    assert found.extra_memory == number * plane
    found = cyconv.describe(*shapes, np.float32, "weight_grad", algorithm="direct", **options)
    filters = -(-32 // found.tasks)
    assert found.extra_memory == number * (plane + 8 * (filters + 2) * 6)


def test_weights_are_turned_once(set_threads):
    """For all threads; of one tap, and not for a forward pass."""
    set_threads(1)
    taken = {}
    for pass_, kernel in itertools.product(("forward", "input_grad"), (1, 3)):
        found = cyconv.describe(
            (4, 144, 12, 12), (160, 144, kernel, kernel), np.float32, pass_, algorithm="direct"
        )
        taken[pass_, kernel] = found.extra_memory
        assert ("turned" in found.method) == (pass_ == "input_grad" and kernel == 1)
    assert taken["input_grad", 1] - taken["forward", 1] == 4 * 160 * 144


@pytest.mark.skipif(kernels.BUILD is None, reason="the lanes are those of compiled kernels")
def test_memory_of_lanes(set_threads):
    """The cells of as many channels as a vector has lanes, padded; their outputs, weights and
    biases; and what it takes to begin where a vector may."""
    set_threads(1)
    lanes = {"portable": 4, "neon": 4, "avx2": 8, "avx512": 16}[kernels.BUILD]
    found = cyconv.describe((64, 32, 7, 7), (32, 1, 5, 5), padding=2, groups=32, algorithm="direct")
    assert found.module == "depthwise"
    assert found.extra_memory == 4 * lanes * (7 * 11 + 1 + 7 * 7 + 5 * 5 + 2)


# Threads, shapes, dtypes

FORMS = [
    ((2, 3, 9, 8), (4, 3, 3, 2), {"stride": (2, 1), "padding": "same"}),
    ((3, 9, 8), (4, 3, 3, 2), {"padding": ((1, 0), (2, 1))}),
    ((9, 8, 3), (4, 3, 3, 2), LAST),
    ((2, 3, 20), (4, 3, 5), {"padding": "causal", "dilation": 2}),
    ((2, 4, 5, 6, 7), (6, 2, 2, 3, 2), {"groups": 2}),
    ((2, 5, 6, 3), (4, 3, 1, 1), LAST),
    ((2, 3, 9, 8), (4, 3, 3, 2), {"padding": 2, "padding_mode": "circular"}),
    ((0, 3, 9, 8), (4, 3, 3, 2), {}),
]
TRANSPOSED_FORMS = [
    ((2, 4, 9, 8), (4, 3, 3, 2), {"stride": 2, "padding": 1, "output_padding": (1, 0)}),
    ((20, 4), (4, 3, 5), {"dilation": 2, **LAST}),
]
EACH_FORM = [(form, pass_) for form in FORMS for pass_ in CONVOLUTIONS]
EACH_FORM += [(f, p) for f in TRANSPOSED_FORMS for p in PASSES if p not in CONVOLUTIONS]


@pytest.mark.parametrize("dtype", ["float32", "float16", "int32", ">f8"])
@pytest.mark.parametrize(("form", "pass_"), EACH_FORM)
def test_it_agrees_with_the_result(form, pass_, dtype):
    x_shape, w_shape, options = form
    found = cyconv.describe(x_shape, w_shape, dtype, pass_, **options)
    result = call(found, options, dtype)()
    assert found.output_shape == result.shape
    assert found.dtype == result.dtype
    assert found.computed_in == ("float32" if dtype == "float16" else result.dtype)
    forward = "transpose" if pass_.startswith("transpose") else "forward"
    y = cyconv.describe(x_shape, w_shape, dtype, forward, **options)
    assert found.y_shape == y.output_shape
    assert found.multiply_adds == y.multiply_adds
    arrays = arrays_of(found, dtype)
    assert found.bytes_moved == sum(a.nbytes for a in arrays.values()) + result.nbytes


def test_multiply_adds_are_those_of_the_definition():
    for options in ({}, {"padding_mode": "reflect"}, {"algorithm": "winograd"}):
        for pass_ in CONVOLUTIONS:
            found = cyconv.describe(
                (5, 8, 10, 12), (6, 8, 3, 3), np.float32, pass_, padding=1, **options
            )
            assert found.multiply_adds == 5 * 6 * 10 * 12 * 8 * 9
    grouped = cyconv.describe((5, 8, 10, 12), (6, 4, 3, 3), stride=2, groups=2)
    assert grouped.multiply_adds == 5 * 6 * 4 * 5 * 4 * 9


def test_it_is_the_plan_that_runs():
    """No plan is made anew for the call that was described, nor for what is described again."""
    x_shape, w_shape = (3, 5, 17, 19), (7, 5, 3, 3)
    found = [cyconv.describe(x_shape, w_shape, np.float64, p, padding=1) for p in CONVOLUTIONS]
    assert plan.cache_info().misses == 3
    for each in found:
        call(each, {"padding": 1}, np.float64)()
        assert cyconv.describe(x_shape, w_shape, "f8", each.pass_, padding=1) == each
    assert plan.cache_info().misses == 3
    # The functions also ask whether b or dy fit; a convolution without b is the very same.
    assert prepare._prepare_once.cache_info().misses == 3 + 2


def test_threads_are_those_that_would_take_part(set_threads):
    large, tiny = ((8, 64, 56, 56), (64, 64, 3, 3)), ((1, 1, 10, 10), (1, 1, 3, 3))
    for number in (1, 2, 5, 100):
        set_threads(number)
        for pass_ in CONVOLUTIONS:
            for algorithm in ("gemm", "direct", "winograd"):
                found = cyconv.describe(*large, np.float32, pass_, algorithm=algorithm)
                assert found.threads == min(number, found.tasks), (algorithm, pass_)
            assert cyconv.describe(*tiny, np.float32, pass_).threads == 1


# Errors

WRONG = [
    {"x_shape": (2, 3, 9)},
    {"x_shape": (2, 4, 9, 8)},
    {"x_shape": (2, 3, 0, 8)},
    {"x_shape": (2, 3, 2, 8)},
    {"w_shape": (4, 3)},
    {"w_shape": (4, 3, 0, 3)},
    {"dtype": np.complex64},
    {"dtype": object},
    {"stride": 0},
    {"stride": (1, 1, 1)},
    {"stride": True},
    {"stride": 1.0},
    {"padding": -1},
    {"padding": "full"},
    {"padding": "causal"},
    {"dilation": 2**70},
    {"groups": 2},
    {"padding_mode": "wrap"},
    {"padding_mode": "reflect", "padding": 9},
    {"data_format": "NHWC"},
    {"algorithm": "fft"},
    {"algorithm": None},
    {"algorithm": "winograd", "stride": (1, 3)},
]


def output_of(x, w, given):
    """Or any array, where nothing could fit."""
    try:
        return cyconv.conv(x, w, **given | {"algorithm": "auto"})
    except (TypeError, ValueError):
        return w


@pytest.mark.parametrize("changes", WRONG, ids=str)
def test_errors_are_those_of_the_function(changes):
    given = {"x_shape": (2, 3, 9, 8), "w_shape": (4, 3, 3, 3), "dtype": np.float32} | changes
    x_shape, w_shape, dtype = (given.pop(name) for name in ("x_shape", "w_shape", "dtype"))
    x, w = np.empty(x_shape, dtype), np.empty(w_shape, dtype)
    dy = output_of(x, w, given)
    calls = {
        "forward": lambda: cyconv.conv(x, w, **given),
        "input_grad": lambda: cyconv.conv_input_grad(dy, w, x_shape, **given),
        "weight_grad": lambda: cyconv.conv_weight_grad(dy, x, w_shape, **given),
    }
    for pass_, function in calls.items():
        with pytest.raises((TypeError, ValueError)) as expected:
            function()
        with pytest.raises(type(expected.value)) as found:
            cyconv.describe(x_shape, w_shape, dtype, pass_, **given)
        assert str(found.value) == str(expected.value)


def test_its_own_errors():
    shapes = (2, 3, 9, 8), (4, 3, 3, 3)
    for name in ("out", "b", "frozen", "output_padding"):
        with pytest.raises(TypeError, match=f"unexpected keyword argument '{name}'.*padding_mode"):
            cyconv.describe(*shapes, **{name: 1})
    with pytest.raises(TypeError, match=r"'padding_mode'.*output_padding"):
        cyconv.describe(*shapes, pass_="transpose", padding_mode="zeros")
    with pytest.raises(ValueError, match="pass_ must be one of 'forward', 'input_grad'"):
        cyconv.describe(*shapes, pass_="backward")
    with pytest.raises(TypeError, match="pass_"):
        cyconv.describe(*shapes, pass_=None)
    for wrong in (None, "float99", 3.0):
        with pytest.raises(TypeError, match="dtype"):
            cyconv.describe(*shapes, wrong)
    with pytest.raises(TypeError, match="x_shape"):
        cyconv.describe(3, shapes[1])
    with pytest.raises(TypeError, match="w_shape"):
        cyconv.describe(shapes[0], (4, 3, 3.0, 3))
    assert cyconv.describe(np.array(shapes[0]), list(shapes[1])) == cyconv.describe(*shapes)


# What it looks like

REFLECTED = """\
input gradient of a convolution
  dy             (80, 64, 64, 16)
  w              (16, 16, 3, 3)
  dx             (80, 64, 64, 16) float16, computed in float32
  algorithm      gemm (lowering): im2col by tiles, and matrix products
  build          avx9, the plain road
  conversion     channels last to first, float16 to float32, padding_mode 'reflect'; \
2 blocks of up to 40 images
  tiles          40 tiles of up to 4,356 positions
  threads        2 for 40 tasks
  multiply-adds  754,974,720
  bytes moved    20,976,128 (20 MiB)
  extra memory   26,673,664 (25.4 MiB)"""


def test_repr(monkeypatch, set_threads):
    set_threads(2)
    monkeypatch.setattr(kernels, "BUILD", "avx9")
    monkeypatch.setattr(kernels, "VECTOR", False)
    options = {"padding": 1, "padding_mode": "reflect", "algorithm": "gemm", **LAST}
    found = cyconv.describe((80, 64, 64, 16), (16, 16, 3, 3), "f2", "input_grad", **options)
    assert repr(found) == REFLECTED


def test_what_is_read_as_it_lies_is_not_said_to_be_turned():
    """Float16 with channels last is converted, and keeps its channels there; not by NumPy alone."""
    options = {"padding": 1, "algorithm": "winograd", **LAST}
    found = cyconv.describe((8, 20, 20, 32), (32, 32, 3, 3), "f2", **options)
    turned = "" if kernels.BUILD else "channels last to first, "
    assert found.conversion == f"{turned}float16 to float32; 1 block of 8 images"


def test_repr_without_images():
    found = cyconv.describe((0, 16, 8, 8), (16, 16, 3, 3))
    assert "algorithm      none: there are no images" in repr(found)
    assert found.extra_memory == found.multiply_adds == found.tasks == 0


def test_options_are_those_of_the_functions():
    for function, options in ((cyconv.conv, OPTIONS), (cyconv.conv_transpose, TRANSPOSED_OPTIONS)):
        signature = inspect.signature(function).parameters.values()
        keywords = {p.name: p.default for p in signature if p.kind is p.KEYWORD_ONLY}
        assert keywords.pop("out") is None
        assert keywords == options
