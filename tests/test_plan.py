"""The plan: which algorithm computes what, made once for each convolution."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from builds import forget_plans
from strategies import Case, described

import cyconv
from cyconv import kernels, prepare, threads
from cyconv.algorithms import depthwise, direct, lowering, pointwise, small, strided, winograd
from cyconv.geometry import geometry
from cyconv.plan import TABLE, check_algorithm, plan

sys.path.append(str(Path(__file__).parents[1]))  # last: an installed cyconv stays the one tested

from benchmarks.layers import BY_NAME, LAYERS

PASSES = ["forward", "input_grad", "weight_grad"]
FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
# With and without vectors: all three are tested on every build, since the table is data.
ROADS = {"fallback": (None, False), "plain": ("portable", False), "fast": ("avx512", True)}


@pytest.fixture(params=ROADS)
def road(request, monkeypatch):
    """As on a build of each kind; which kernels there are makes no difference to the choice."""
    build, vector = ROADS[request.param]
    monkeypatch.setattr(kernels, "BUILD", build)
    monkeypatch.setattr(kernels, "VECTOR", vector)
    if kernels.backend == "numpy":  # which has no calls that do all
        monkeypatch.setattr(direct, "whole", lambda *_: None)
    return request.param


def of_layer(layer):
    return geometry(layer.x_shape, layer.w_shape, layer.stride, layer.padding, 1, layer.groups)


def chosen(g, pass_="forward", algorithm="auto", dtype=FLOAT32):
    return plan(g, dtype, pass_, algorithm).algorithm


def in_products(layer):
    """What computes with BLAS."""
    return pointwise if (layer.kernel, layer.stride, layer.groups) == (1, 1, 1) else lowering


def in_place(layer, pass_, dtype):
    """Whether direct is worth its while, where there are vectors."""
    if pass_ == "weight_grad":
        return layer.F // layer.groups >= 8
    strided = pass_ == "input_grad" and layer.stride > 1
    return not strided or (layer.kernel > 1 and layer.C // layer.groups >= 16)


@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64], ids=str)
@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
def test_auto_on_the_layers_of_the_benchmark(road, layer, dtype):
    for pass_ in PASSES:
        found = chosen(of_layer(layer), pass_, dtype=dtype)
        fast = road == "fast" and in_place(layer, pass_, dtype)
        wanted = direct if fast else in_products(layer)
        kind = layer.kernel, layer.stride, layer.groups
        if road == "fallback":
            assert found is in_products(layer)
        elif layer.groups == layer.C:
            assert found is depthwise
        elif min(layer.C, layer.F) >= 32 and kind == (3, 1, 1):
            assert found is winograd
        elif min(layer.C, layer.F) >= 32 and kind == (3, 2, 1):
            multiplied = road == "plain" and (pass_ == "weight_grad" or dtype == FLOAT64)
            assert found is (lowering if multiplied else winograd)
        elif kind == (11, 4, 1):
            assert found is strided
        elif kind == (7, 2, 1):
            assert found is (lowering if road == "plain" and pass_ == "input_grad" else strided)
        elif layer.groups > 1 or (kind, layer.C) == ((5, 1, 1), 1):  # few channels or filters
            assert found in (depthwise, wanted)
        else:
            assert found is wanted


def test_the_layers_are_of_every_kind(road):
    assert len(LAYERS) == 22
    found = {chosen(of_layer(layer), pass_) for layer in LAYERS for pass_ in PASSES}
    wanted = {lowering, direct if road == "fast" else pointwise}
    if road != "fallback":
        wanted |= {winograd, strided, depthwise}
    assert found == wanted


def test_this_build_takes_one_of_these_roads():
    assert (kernels.BUILD is None) == (kernels.backend == "numpy")
    assert (kernels.BUILD in ("neon", "avx2", "avx512")) == kernels.VECTOR


@pytest.mark.parametrize("pass_", PASSES)
def test_auto_does_not_waste(road, pass_):
    """Small or narrow convolutions, for which the transforms would cost more than they save."""
    for case in (
        Case((1, 64, 8, 8), (64, 64, 3, 3), padding=1),
        Case((8, 3, 64, 64), (64, 3, 3, 3), padding=1),
        Case((8, 64, 64, 64), (8, 64, 3, 3), padding=1),
        Case((8, 64, 56, 56), (64, 64, 3, 3), stride=3, padding=1),
        Case((8, 64, 56, 56), (64, 64, 3, 3), dilation=16),
        Case((8, 64, 56, 56), (64, 64, 5, 5)),
        Case((8, 64, 3136), (64, 64, 3)),
        Case((1, 64, 14, 14, 14), (64, 64, 3, 3, 2)),
        Case((1, 64, 2, 8, 8), (64, 64, 3, 3, 3), padding=1),
    ):
        wanted = direct if road == "fast" else lowering
        assert chosen(described(case), pass_) is wanted, case


@pytest.mark.parametrize("pass_", PASSES)
def test_where_winograd_begins(road, pass_):
    """With some tiles, counted as outputs would fill them, of enough channels and filters; with 4x4
    kernels, for which it saves more, sooner."""
    for side, images, channels, size, *pays in (  # on the fast road, and on the plain one
        (3, 1, 16, 28, "fwd dx dw", "fwd dx dw"),
        (3, 1, 16, 24, "", "fwd dx dw"),
        (3, 1, 16, 15, "", "fwd dx dw"),
        (3, 1, 16, 14, "", "dw"),
        (3, 1, 16, 12, "", ""),
        (3, 1, 12, 20, "", "fwd dx dw"),
        (3, 1, 12, 19, "", "dw"),
        (3, 1, 11, 40, "", ""),
        (3, 3, 64, 8, "fwd dx dw", "fwd dx dw"),
        (3, 4, 256, 6, "fwd dx dw", "fwd dx dw"),
        (3, 3, 256, 6, "fwd dx", "fwd dx dw"),
        (3, 1, 256, 10, "fwd dx", "fwd dx dw"),
        (3, 1, 256, 7, "fwd dx", ""),
        (3, 1, 512, 6, "", ""),
        (3, 64, 64, 5, "fwd dx dw", "fwd dx dw"),
        (3, 25, 32, 2, "", "fwd dx dw"),
        (3, 250, 64, 1, "fwd dx dw", ""),
        (4, 4, 12, 28, "fwd dx dw", "fwd dx dw"),
        (4, 4, 11, 28, "", ""),
        (4, 1, 32, 13, "fwd dx dw", "fwd dx dw"),
        (4, 1, 32, 12, "", "fwd dx dw"),
        (4, 1, 16, 10, "", "fwd dx dw"),
        (4, 1, 16, 9, "", ""),
        (4, 1, 64, 9, "fwd dx", "fwd dx dw"),
        (4, 1, 64, 7, "", "fwd dx dw"),
        (4, 1, 64, 6, "", ""),
        (4, 2, 256, 8, "fwd dx", "fwd dx dw"),
        (4, 2, 256, 9, "fwd dx dw", "fwd dx dw"),
    ):
        low, high = 1, side - 2  # as many outputs as cells
        weights = (channels, channels, side, side)
        padding = ((low, high),) * 2
        found = chosen(described(Case((images, channels, size, size), weights, 1, padding)), pass_)
        wanted = {"fast": pays[0], "plain": pays[1], "fallback": ""}[road].split()
        name = dict(zip(PASSES, ("fwd", "dx", "dw"), strict=True))[pass_]
        assert (found is winograd) == (name in wanted), (side, images, channels, size)
    four = described(Case((1, 256, 8, 8), (256, 256, 3, 3), 1, 1))
    three = described(Case((1, 256, 7, 7), (256, 256, 3, 3), 1, 1))
    soon = road == "fast" and pass_ != "weight_grad"
    assert (chosen(four, pass_, dtype=FLOAT64) is winograd) == soon
    assert chosen(three, pass_, dtype=FLOAT64) is not winograd
    for size, pays in ((2, False), (5, True)):  # in float64, of fuller tiles
        g = described(Case((64, 64, size, size), (64, 64, 3, 3), padding=1))
        pays = road == "fast" or (road == "plain" and pays)
        assert (chosen(g, pass_, dtype=FLOAT64) is winograd) == pays, size


@pytest.mark.parametrize("build", ["avx2", "avx512"])
def test_where_winograd_begins_with_stride_2(road, build, monkeypatch):
    """For an input gradient with few channels; in float64, of full tiles. On the plain road in
    float32, with so many tiles and so few channels that its products are fast."""
    monkeypatch.setattr(kernels, "BUILD", kernels.BUILD and build)
    wide = build == "avx512"
    for channels, size, images, *pays, plain in (  # float32, and float64; float32 without vectors
        (32, 64, 4, "fwd dx dw", "fwd dx dw", "fwd dx"),
        (31, 64, 4, "dx", "dx", "fwd dx"),
        (16, 64, 4, "dx", "dx", "fwd dx"),
        (15, 64, 4, "", "", ""),
        (64, 64, 1, "fwd dx dw", "fwd dx dw", "fwd dx"),
        (32, 32, 3, "dx", "dx", "fwd dx"),
        (256, 8, 8, "fwd dx", "fwd dx", ""),
        (256, 8, 7, "", "", ""),
        (128, 14, 8, "fwd dx dw", "fwd dx" if wide else "", "fwd dx"),
        (128, 14, 7, "fwd dx", "fwd dx" if wide else "", ""),
        (129, 14, 8, "fwd dx dw", "fwd dx" if wide else "", ""),
    ):
        g = described(Case((images, channels, size, size), (channels, channels, 3, 3), 2, 1))
        pays = {"fast": pays, "plain": [plain, ""], "fallback": ["", ""]}[road]
        for dtype, wanted in zip((FLOAT32, FLOAT64), pays, strict=True):
            found = [chosen(g, pass_, dtype=dtype) is winograd for pass_ in PASSES]
            assert found == [name in wanted.split() for name in ("fwd", "dx", "dw")], (g, dtype)


@pytest.mark.parametrize("pass_", PASSES)
def test_where_strided_winograd_begins(road, pass_):
    """With many filters and tiles, which are worth the copies."""
    for filters, size, pays in ((64, 47, True), (63, 47, False), (64, 45, False)):
        g = described(Case((4, 16, size, size), (filters, 16, 5, 5), 2, 1))
        found = chosen(g, pass_)
        assert (found is strided) == (pays and road != "fallback"), (filters, size)


@pytest.mark.parametrize("pass_", PASSES)
def test_where_strided_winograd_begins_with_four_strides(road, pass_):
    """With fewer filters; without vectors, of few channels, with more tiles or for sums alone."""
    fast = road == "fast"
    for channels, filters, size, pays in (
        (3, 32, 224, fast or pass_ != "input_grad"),
        (3, 31, 224, False),
        (2, 32, 224, False),
        (3, 32, 97, fast or pass_ == "weight_grad"),
        (8, 32, 97, True),
        (8, 32, 89, False),
    ):
        g = described(Case((1, channels, size, size), (filters, channels, 7, 7), 2, 3))
        found = chosen(g, pass_)
        assert (found is strided) == (pays and road != "fallback"), (channels, filters, size)


@pytest.mark.parametrize("pass_", PASSES)
def test_auto_takes_winograd_for_volumes(road, pass_):
    """On the plain road with six tiles for each tap along the depth, too."""
    for case in (
        Case((1, 64, 14, 14, 14), (64, 64, 3, 3, 3)),
        Case((2, 32, 16, 28, 28), (32, 32, 2, 3, 3), dilation=(2, 1, 1)),
        Case((4, 64, 8, 28, 28), (64, 64, 1, 3, 3)),
    ):
        wanted = lowering if road == "fallback" else winograd
        assert chosen(described(case), pass_) is wanted, case
    for depth in (4, 5):
        g = described(Case((1, 64, depth, 8, 8), (64, 64, 3, 3, 3), padding=1))
        pays = road == "fast" or (road == "plain" and depth == 5)
        assert (chosen(g, pass_) is winograd) == pays, depth


def test_auto_multiplies_where_there_is_less_than_a_vector(road):
    """Of positions; for a weight gradient, eight filters."""
    for case, products in (
        (Case((16, 64, 3, 3), (64, 64, 3, 3)), lowering),
        (Case((8, 64, 5, 5), (64, 64, 3, 3)), lowering),
        (Case((64, 256, 1, 1), (64, 256, 1, 1)), pointwise),
        (Case((32, 64, 15), (64, 64, 1)), pointwise),
    ):
        for pass_ in PASSES[:2]:
            assert chosen(described(case), pass_) is products, case
        assert (chosen(described(case), "weight_grad") is direct) == (road == "fast")
    for pass_ in PASSES[:2]:
        g = described(Case((8, 64, 8), (64, 64, 1)))
        assert (chosen(g, pass_, dtype=FLOAT64) is direct) == (road == "fast")
    for filters in (7, 8):
        g = described(Case((2, 64, 20, 20), (filters, 64, 5, 5)))
        wanted = direct if filters == 8 and road == "fast" else lowering
        assert chosen(g, "weight_grad") is wanted


@pytest.mark.parametrize("pass_", PASSES)
def test_small_work_is_direct_without_vectors_too(road, pass_):
    """BLAS is faster, but what comes before and after it is not. NumPy alone gains nothing."""
    wanted = small if road == "fallback" else direct
    for size, dtype in ((20, FLOAT32), (12, FLOAT64)):
        tiny = described(Case((1, 3, size, size), (10, 3, 3, 3)))
        assert chosen(tiny, pass_, dtype=dtype) is wanted
    if road == "plain":
        for size, dtype in ((36, FLOAT32), (24, FLOAT64)):
            larger = described(Case((1, 3, size, size), (10, 3, 3, 3)))
            assert chosen(larger, pass_, dtype=dtype) is small
        strided = described(Case((1, 3, 30, 30), (10, 3, 3, 3), stride=2))
        assert chosen(strided, pass_) is (small if pass_ == "input_grad" else direct)


@pytest.mark.parametrize("pass_", PASSES)
def test_few_products_are_one_function(monkeypatch, pass_):
    """With products that BLAS makes on one thread; see test_small.py."""
    monkeypatch.setattr(threads, "small_unpacked", lambda: True)
    for case, *takes in (
        (Case((1, 3, 60, 60), (10, 3, 3, 3)), True, True, True),
        (Case((2, 8, 30, 30), (4, 8, 1, 1)), True, True, True),
        (Case((1, 3, 70, 70), (10, 3, 3, 3)), False, False, False),
        (Case((1, 16, 14, 14), (20, 16, 3, 3), padding=1), True, True, False),
        (Case((1, 64, 5, 5), (64, 64, 3, 3), padding=1), False, False, False),
        (Case((1, 64, 2, 2), (64, 64, 3, 3), padding=1), True, True, True),
        (Case((1, 24, 18, 18), (16, 24, 3, 3)), True, False, False),  # dx is larger
    ):
        fits = takes[PASSES.index(pass_)]
        assert (chosen(described(case), pass_, "gemm") is small) == fits, case


@pytest.mark.skipif(kernels.BUILD is None, reason="NumPy multiplies everything")
@pytest.mark.parametrize("pass_", PASSES)
def test_what_needs_no_blas_does_not_look_for_it(pass_, monkeypatch):
    """That takes milliseconds. The case is one of which small would ask."""

    def look():
        raise AssertionError

    monkeypatch.setattr(threads, "small_unpacked", look)
    g = described(Case((1, 16, 14, 14), (20, 16, 3, 3), padding=1))
    for algorithm in ("direct", "winograd"):
        plan.__wrapped__(g, FLOAT32, pass_, algorithm)
    if pass_ != "weight_grad":  # of which there are fewer
        with pytest.raises(AssertionError):
            plan.__wrapped__(g, FLOAT32, pass_, "gemm")
    tiny = described(Case((1, 16, 14, 14), (4, 16, 3, 3), padding=1))
    plan.__wrapped__(tiny, FLOAT32, pass_, "gemm")


@pytest.mark.skipif(kernels.BUILD is None, reason="the fallback has no calls that do all")
@pytest.mark.parametrize("pass_", PASSES)
def test_what_is_tiny_is_one_call(pass_):
    """Also of depthwise convolutions, whose own kernels soon overtake it."""
    made = plan(described(Case((1, 3, 12, 12), (10, 3, 3, 3))), FLOAT32, pass_, "auto")
    assert made.whole is not None
    for channels in (1, 200):
        case = Case((2, channels, 9, 9), (channels, 1, 3, 3), groups=channels)
        made = plan(described(case), FLOAT32, pass_, "auto")
        assert made.algorithm is depthwise
        assert (made.whole is not None) == (channels == 1)


def test_auto_multiplies_where_few_phases_would_interleave(road):
    """An input gradient with a stride, of few channels or one tap."""
    for channels, kernel, pays in ((15, 5, False), (16, 5, True), (64, 1, False)):
        case = Case((2, channels, 41, 41), (63, channels, kernel, kernel), 2)
        found = chosen(described(case), "input_grad")
        assert found is (direct if pays and road == "fast" else lowering), case
        forward = chosen(described(case))
        assert forward is (direct if road == "fast" else lowering), case


def test_auto_multiplies_large_forward_passes_with_avx2(monkeypatch):
    monkeypatch.setattr(kernels, "VECTOR", True)
    for build, channels, images, pays in (
        ("avx2", 257, 32, False), ("avx2", 256, 32, True), ("avx2", 257, 31, True),
        ("avx512", 257, 32, True),
    ):  # fmt: skip
        forget_plans()
        monkeypatch.setattr(kernels, "BUILD", build)
        case = Case((images, channels, 14, 14), (256, channels, 1, 1))
        assert chosen(described(case)) is (direct if pays else pointwise), case
        assert chosen(described(case), "weight_grad") is direct


@pytest.mark.parametrize(
    ("build", "channels", "filters", "kernel", "stride", "few"),
    [
        ("avx2", 128, 128, 1, 1, True),
        ("avx2", 129, 128, 1, 1, False),
        ("avx2", 64, 64, 4, 2, True),
        ("avx2", 64, 65, 4, 2, False),
        ("avx2", 64, 64, 5, 1, True),
        ("avx2", 64, 65, 5, 1, False),
        ("avx512", 512, 512, 1, 1, True),
        ("avx512", 513, 512, 1, 1, False),
        ("avx512", 128, 128, 4, 2, True),
        ("avx512", 128, 129, 4, 2, False),
        ("avx512", 513, 512, 5, 1, True),
    ],
)
def test_auto_multiplies_for_input_gradients_of_many_weights(
    monkeypatch, build, channels, filters, kernel, stride, few
):
    """Direct reads them in no good order. (Pointwise takes what is 1x1.)"""
    monkeypatch.setattr(kernels, "VECTOR", True)
    monkeypatch.setattr(kernels, "BUILD", build)
    g = described(Case((2, channels, 14, 14), (filters, channels, kernel, kernel), stride))
    assert chosen(g, "input_grad") is (direct if few else (lowering, pointwise)[kernel == 1])
    for pass_ in ("forward", "weight_grad"):
        assert chosen(g, pass_) is direct


@pytest.mark.parametrize("pass_", PASSES)
def test_auto_takes_direct_for_long_sums_too(road, pass_):
    """They are cut, so that float32 stays close: see test_direct.py."""
    for channels, filters, side in ((16, 16, 5), (2048, 16, 5), (16, 2048, 5), (2048, 64, 2)):
        g = described(Case((1, channels, 20, 20), (filters, channels, side, side)))
        assert chosen(g, pass_) is (direct if road == "fast" else lowering)


@pytest.mark.parametrize("pass_", PASSES)
def test_what_each_name_gives(road, pass_):
    """The same on every build."""
    wide = described(Case((2, 64, 56, 56), (64, 64, 3, 3), padding=1))
    one_tap = described(Case((2, 64, 56, 56), (64, 64, 1, 1)))
    thin = described(Case((2, 160, 28, 28), (160, 1, 3, 3), groups=160))
    for g in (wide, thin):
        assert chosen(g, pass_, "gemm") is lowering
    tiny = described(Case((2, 8, 28, 28), (8, 1, 3, 3), groups=8))
    assert chosen(tiny, pass_, "gemm") is small
    assert chosen(one_tap, pass_, "gemm") is pointwise
    assert chosen(thin, pass_, "direct") is depthwise
    assert chosen(wide, pass_, "direct") is direct
    assert chosen(one_tap, pass_, "direct") is direct
    assert chosen(wide, pass_, "winograd") is winograd
    for other in (one_tap, thin):
        with pytest.raises(ValueError, match="winograd"):
            plan(other, FLOAT32, pass_, "winograd")
    for padded in (((0, 0), (0, 1)), ((1, 0), (0, 0))):  # not the image as it is
        g = described(Case((2, 64, 18, 18), (64, 64, 1, 1), padding=padded))
        assert chosen(g, pass_, "gemm") is lowering


def test_a_plan_has_what_its_pass_needs():
    for layer in (BY_NAME["cifar"], BY_NAME["r50_28_3x3s2"], BY_NAME["mbv2_dw14"]):
        for pass_ in PASSES:
            g = of_layer(layer)
            made = plan(g, FLOAT32, pass_, "auto")
            assert (made.geometry, made.dtype, made.pass_) == (g, FLOAT32, pass_)
            assert made.run is getattr(made.algorithm, pass_)
            assert made.seconds > 0


def test_small_passes_are_one_call():
    """Of what direct computes, or depthwise in a single task: see test_whole.py."""
    tiny = described(Case((1, 1, 10, 10), (1, 1, 3, 3), padding=1))
    wide = described(Case((1, 9, 10, 10), (20, 9, 3, 3), padding=1))
    for pass_ in PASSES:
        for g, algorithm in ((tiny, depthwise), (wide, direct)):
            made = plan(g, FLOAT32, pass_, "direct")
            assert made.algorithm is algorithm
            assert (made.whole is None) == (kernels.BUILD is None)
        assert plan(tiny, FLOAT32, pass_, "gemm").algorithm is small
        for name in ("mbv2_dw112", "r50_28_3x3s2"):
            assert plan(of_layer(BY_NAME[name]), FLOAT32, pass_, "direct").whole is None


def test_a_plan_is_made_once():
    g = described(Case((2, 4, 9, 8), (6, 4, 3, 3), padding=1))
    same = described(Case((2, 4, 9, 8), (6, 4, 3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1)))
    made = plan(g, FLOAT32, "forward", "auto")
    assert plan(same, FLOAT32, "forward", "auto") is made
    assert plan(g, FLOAT64, "forward", "auto") is not made
    assert plan(g, FLOAT32, "weight_grad", "auto") is not made


def test_a_call_is_prepared_once():
    usual = {
        "stride": 1,
        "padding": 1,
        "dilation": 1,
        "groups": 1,
        "padding_mode": "zeros",
        "data_format": "channels_first",
        "algorithm": "auto",
    }

    def prepared(x=(2, 4, 8, 9), dtype=FLOAT32, **changes):
        options = tuple((usual | changes).values())
        shapes = (x, (6, 4, 3, 3), None)
        dtypes = (dtype, dtype, None)
        return prepare.prepare("forward", shapes, options, ("x", "w", "b"), dtypes)

    made = prepared()
    assert prepared() is made
    for changes in (
        {"stride": 2},
        {"padding": ((1, 1), (1, 2))},
        {"padding": "same", "stride": 2},
        {"x": (3, 4, 8, 9)},
        {"padding_mode": "circular"},
        {"data_format": "channels_last", "x": (2, 8, 9, 4)},
        {"dtype": FLOAT64},
        {"algorithm": "gemm"},
    ):
        assert prepared(**changes) is not made
        assert prepared(**changes) is prepared(**changes)
    # Equal to 1, hence the same key in a dict, but they are no integers.
    for wrong in (True, 1.0, np.True_, (1, True), (1, 1.0)):
        prepared(stride=(1, 1))
        with pytest.raises(TypeError, match="stride"):
            prepared(stride=wrong)
    assert prepared(stride=np.int64(1)).plan is made.plan
    assert prepared(padding=[1, 1]).plan is made.plan
    assert prepared(padding=np.array([[1, 1], [1, 1]])).plan is made.plan


def test_what_is_kept_is_bounded():
    for cache in (plan, prepare._prepare_once):
        assert cache.cache_info().maxsize is not None


def test_an_error_is_not_kept():
    """The same wrong call fails again, and does not spoil the right one."""
    x, w = np.ones((1, 2, 5, 5)), np.ones((2, 2, 5, 5))
    for _ in range(2):
        with pytest.raises(ValueError, match="winograd"):
            cyconv.conv(x, w, algorithm="winograd")
        assert cyconv.conv(x, w).shape == (1, 2, 1, 1)


def test_unknown_algorithms():
    for wrong in ("fft", "", "AUTO", "gemm "):
        with pytest.raises(ValueError, match=r"algorithm must be one of 'auto', 'gemm'"):
            check_algorithm(wrong)
    for wrong in (None, 1, ["auto"], b"auto"):
        with pytest.raises(TypeError, match="algorithm"):
            check_algorithm(wrong)
    for name in TABLE:
        assert check_algorithm(name) == name


def test_the_documented_names():
    """The docstring of conv names the algorithms of the table, no more and no fewer."""
    (listed,) = re.findall(r"algorithm : \{(.*?)\}", cyconv.conv.__doc__, re.DOTALL)
    assert sorted(re.findall(r'"(\w+)"', listed)) == sorted(TABLE)


def test_auto_always_finds_one(road):
    """The last way of the table serves everything, and each name has what it promises."""
    odd = described(Case((1, 6, 2, 3, 4), (3, 2, 2, 1, 3), (2, 1, 1), 1, (1, 3, 1), groups=3))
    for pass_ in PASSES:
        assert chosen(odd, pass_) is (small if road == "fallback" else depthwise)
        assert chosen(odd, pass_, "gemm") is small
        assert chosen(odd, pass_, "direct") is depthwise


def test_direct_lengthens_rows_that_crowd_the_cache(monkeypatch):
    """Of dy, transposed, for the weight gradient."""
    monkeypatch.setattr(direct, "CROWDED_BYTES", 2048)
    for filters, itemsize, columns in (
        (512, 4, 528), (497, 4, 528), (496, 4, 496), (256, 4, 256), (256, 8, 272), (1000, 8, 1008),
    ):  # fmt: skip
        g = described(Case((1, 3, 8, 8), (filters, 3, 1, 1)))
        assert direct.tiles(g, itemsize, "weight_grad").sums[2] == columns
    monkeypatch.setattr(direct, "CROWDED_BYTES", 0)
    assert direct.tiles(g, 8, "weight_grad").sums[2] == 1008


@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64], ids=str)
def test_direct_cuts_rows_into_whole_vectors(dtype):
    """A box that ends within one would compute the rest of it for nothing."""
    g = described(Case((8, 1024, 14, 14), (256, 1024, 1, 1)))
    tasks = direct.tiles(g, dtype.itemsize, "forward").parts[0].tasks
    starts = set(tasks[:, 6].tolist())
    assert len(starts) > 1
    assert all(start % (64 // dtype.itemsize) == 0 for start in starts)


def test_depthwise_cuts_groups_by_lanes_where_kernels_go_by_them():
    """And else evenly."""
    for stride, pass_, by_lanes in (
        (1, "forward", True), (2, "forward", True), (1, "input_grad", True),
        (2, "input_grad", False), (1, "weight_grad", False), (2, "weight_grad", False),
    ):  # fmt: skip
        g = described(Case((1, 144, 56, 56), (144, 1, 3, 3), stride, 1, groups=144))
        channels = [task.channels for task in depthwise.tiles(g, 4, pass_).tasks]
        sizes = {part.stop - part.start for part in channels}
        assert len(channels) > 1
        if by_lanes:
            assert all(size % 16 == 0 for size in sizes)
        else:
            assert max(sizes) - min(sizes) <= 1
