"""freeze and unfreeze: fixed weights, and what is kept of them."""

import copy
import multiprocessing
import os
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from builds import forget_plans
from test_layers import CASES, COPIES, layer_of, says

import cyconv
from cyconv import frozen, kernels
from cyconv.algorithms import fused, nonfused, winograd

TOLERANCE = {np.float16: 2e-3, np.float32: 5e-6, np.float64: 1e-12}
DTYPES = [np.float32, np.float64]
PATIENCE = 30


@pytest.fixture(params=["fast road", "plain road"])
def road(request, monkeypatch):
    """Winograd on the microkernel, or on BLAS; each has its code in every build."""
    monkeypatch.setattr(kernels, "VECTOR", request.param == "fast road")


@pytest.fixture(params=["few tiles", "many tiles"])
def way(request, monkeypatch):
    few = request.param == "few tiles"
    for module in (nonfused, fused):
        monkeypatch.setattr(module, "FEW_TILES", 10**9 if few else 0)
        monkeypatch.setattr(module, "MANY_WEIGHTS", 0)
        monkeypatch.setattr(module, "SHARE_SECONDS", 1e-9)  # weights are transformed in shares
    monkeypatch.setattr(nonfused, "BLOCK_FILTERS", 3)


@pytest.fixture
def made(monkeypatch):
    """The packs that are made, in order."""
    packs, make = [], winograd.prepare

    def prepare(plan, w):
        packs.append(make(plan, w))
        return packs[-1]

    monkeypatch.setattr(winograd, "prepare", prepare)
    return packs


def winograd_layer(kind=cyconv.Conv2D, **options):
    options = {"padding": 1, "rng": 0, "algorithm": "winograd", **options}
    return kind(5, 7, 3, **options)


@pytest.fixture
def layer():
    return winograd_layer()


@pytest.fixture
def x(rng):
    return rng.standard_normal((2, 5, 9, 10)).astype(np.float32)


def assert_near(ours, theirs, dtype=np.float32):
    assert ours.dtype == theirs.dtype == dtype
    assert ours.shape == theirs.shape
    difference = abs(ours.astype(float) - theirs).max(initial=0)
    assert difference <= TOLERANCE[dtype] * abs(theirs.astype(float)).max(initial=0)


# What they compute


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("algorithm", ["auto", "gemm", "direct"])
@pytest.mark.parametrize("name", CASES)
def test_a_frozen_layer_computes_the_same(road, name, algorithm, dtype):
    case = CASES[name]
    x, _, _, dy = case.arrays(dtype)
    layer = layer_of(case, dtype, algorithm=algorithm)
    wanted = layer(x), layer.forward(x), layer.backward(dy), layer.weight_grad, layer.bias_grad
    layer.freeze()
    for _ in range(2):
        found = layer(x), layer.forward(x), layer.backward(dy), layer.weight_grad, layer.bias_grad
        for ours, theirs in zip(found, wanted, strict=True):
            assert_near(ours, theirs, dtype)


KINDS = {"convolution": cyconv.Conv2D, "transposed": cyconv.ConvTranspose2D}


@pytest.mark.parametrize("data_format", ["channels_first", "channels_last"])
@pytest.mark.parametrize("dtype", [np.float16, *DTYPES])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_winograd_computes_the_same(road, way, made, rng, kind, bias, dtype, data_format):
    """With one pack, for every size of x, and for forward as for the call."""
    layer = winograd_layer(KINDS[kind], bias=bias, dtype=dtype, data_format=data_format)
    other = copy.deepcopy(layer)
    assert layer.freeze() is layer
    for shape in ((2, 5, 9, 10), (1, 5, 4, 30), (5, 13, 6), (3, 5, 9, 10)):
        x = rng.standard_normal(shape).astype(dtype)
        x = np.moveaxis(x, -3, -1) if data_format == "channels_last" else x
        y = layer(x)
        assert_near(y, other(x), dtype)
        np.testing.assert_array_equal(layer.forward(x), y)
        other.forward(x)
        assert_near(layer.backward(y), other.backward(y), dtype)
        assert_near(layer.weight_grad, other.weight_grad, dtype)
    assert len(made) == 1
    made[0][...] = 0  # it is the pack that y is computed from
    b = 0 if layer.bias is None else layer.bias
    y = layer(x) if data_format == "channels_last" else np.moveaxis(layer(x), -3, -1)
    assert (y == b).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_pack_is_of_one_stride(road, made, rng, kind):
    """Where x leaves one output, 2 is as good as 1, and that is another transform."""
    layer = winograd_layer(KINDS[kind], stride=2)
    other = copy.deepcopy(layer)
    layer.freeze()
    for size in ((1, 1), (9, 10), (2, 2), (1, 7), (12, 1), (1, 1)):
        x = rng.standard_normal((2, 5, *size)).astype(np.float32)
        assert_near(layer(x), other(x))
    assert len(made) > 1


@pytest.mark.parametrize("kernel", [3, 5])
def test_a_pack_is_of_volumes_or_of_planes(road, rng, kernel):
    """Which the two roads transform differently."""
    stride = (1, kernel // 2, kernel // 2)
    options = {"padding": (0, 1, 1), "stride": stride, "rng": 0, "algorithm": "winograd"}
    layer = cyconv.Conv3D(5, 7, (1, kernel, kernel), **options)
    other = copy.deepcopy(layer)
    layer.freeze()
    for depth in (1, 4, 1):
        x = rng.standard_normal((2, 5, depth, 9, 10)).astype(np.float32)
        assert_near(layer(x), other(x))


@pytest.mark.parametrize("filters", [40, 64, 112, 256])
@pytest.mark.parametrize("rows", [32, 48])
def test_a_pack_serves_few_tiles_and_many(monkeypatch, made, rng, rows, filters):
    """Also where threads take parts of the panels that it is in."""
    monkeypatch.setattr(kernels, "VECTOR", True)
    monkeypatch.setattr(fused, "ROWS", {4: rows})
    layer = cyconv.Conv2D(33, filters, 3, padding=1, rng=0, algorithm="winograd")
    other = copy.deepcopy(layer)
    layer.freeze()
    for size in (9, 60):
        x = rng.standard_normal((1, 33, size, size)).astype(np.float32)
        assert_near(layer(x), other(x))
    assert len(made) == 1


@pytest.mark.parametrize("mode", ["reflect", "symmetric", "replicate", "circular"])
def test_padding_modes(road, made, x, mode):
    layer = winograd_layer(padding_mode=mode)
    y = layer(x)
    layer.freeze()
    for _ in range(2):
        assert_near(layer(x), y)
    assert len(made) == 1


@pytest.mark.parametrize("channels", [64, 256, 512])
def test_error(channels, rng):
    """Against float64, on planes on which auto chooses Winograd (with compiled kernels)."""
    size = {64: 68, 256: 20, 512: 14}[channels]
    x = rng.standard_normal((1, channels, size, size)).astype(np.float32)
    options = {"padding": 1, "algorithm": "auto" if kernels.BUILD else "winograd"}
    layer = cyconv.Conv2D(channels, channels, 3, rng=0, **options)
    exact = cyconv.Conv2D(channels, channels, 3, padding=1, dtype=np.float64, algorithm="gemm")
    exact.load_state_dict(layer.state_dict())
    wanted = exact(x)
    assert abs(layer.freeze()(x) - wanted).max() <= 5e-6 * abs(wanted).max()
    assert len(layer._packs._kept) == 1


def test_half_precision_keeps_single(rng):
    layer = cyconv.Conv2D(3, 4, 3, dtype=np.float16, rng=0)
    x = rng.standard_normal((2, 3, 6, 7)).astype(np.float16)
    y = layer(x)
    layer.freeze()
    np.testing.assert_array_equal(layer(x), y)
    (kept,) = layer._packs._kept.values()
    assert kept.dtype == np.float32
    kept[...] = 0
    assert (layer(x) == layer.bias[:, None, None]).all()


def test_no_images_and_no_packs(layer, made):
    layer.freeze()
    assert layer(np.empty((0, 5, 8, 8))).shape == (0, 7, 8, 8)
    assert made == []


def test_unfrozen_layers_and_functions_keep_nothing(layer, made, x):
    layer(x)
    layer.backward(layer.forward(x))
    cyconv.conv(x, layer.weight, padding=1, algorithm="winograd")
    assert made == []
    assert layer._packs._kept is None


def test_other_weights_have_other_packs(road, layer, made, x):
    first = layer.freeze()(x)
    layer.unfreeze().weight *= 2
    doubled = layer(x)
    assert_near(layer.freeze()(x), doubled)
    assert abs(doubled - first).max() > 0.1
    assert len(made) == 2
    layer.freeze()  # nothing new
    layer(x)
    assert len(made) == 2


def test_attributes_can_be_changed(layer, x):
    layer.freeze()
    layer(x)
    layer.padding, layer.stride, layer.algorithm = (0, 2), (2, 1), "auto"
    wanted = cyconv.conv(x, layer.weight, layer.bias, padding=(0, 2), stride=(2, 1))
    np.testing.assert_array_equal(layer(x), wanted)
    layer.algorithm = "winograd"
    with pytest.raises(ValueError, match="winograd"):
        layer(x)


# Read-only


@pytest.mark.parametrize("kind", KINDS)
def test_frozen_parameters_do_not_change(kind, x):
    layer = KINDS[kind](5, 7, 3)
    weight, bias, state = layer.weight, layer.bias, layer.state_dict()
    assert layer.frozen is False
    assert layer.freeze() is layer
    assert layer.frozen is True
    assert layer.weight is weight
    assert layer.bias is bias
    for array in (weight, bias, *(parameter for parameter, _ in layer.parameters())):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
    with pytest.raises(ValueError, match="read-only"):
        layer.weight *= 2
    for name in ("weight", "bias"):
        with pytest.raises(RuntimeError, match=says(name, "unfreeze()")):
            setattr(layer, name, np.zeros_like(state[name]))
    with pytest.raises(RuntimeError, match=says("weight", "bias", "unfreeze()")):
        layer.load_state_dict(state)
    with pytest.raises(AttributeError):
        layer.frozen = False
    for name, array in layer.state_dict().items():
        np.testing.assert_array_equal(array, state[name])
        array[...] = 0  # a copy, as ever

    assert layer.unfreeze() is layer
    assert layer.frozen is False
    weight[...] = 1
    bias += 1
    layer.weight *= 2
    assert layer.weight is weight
    assert (layer.weight == 2).all()
    layer.load_state_dict(state)
    np.testing.assert_array_equal(bias, state["bias"])
    assert layer.unfreeze() is layer


def test_parameters_of_a_frozen_layer(layer, x):
    layer.freeze()
    layer.backward(layer.forward(x))
    (weight, weight_grad), (bias, bias_grad) = layer.parameters()
    assert weight is layer.weight
    assert bias is layer.bias
    assert weight_grad is layer.weight_grad
    assert bias_grad is layer.bias_grad
    weight_grad[...] = 0


def test_a_layer_without_bias(x):
    layer = cyconv.Conv2D(5, 7, 3, bias=False).freeze()
    layer.bias = None
    assert layer(x).shape == (2, 7, 7, 8)
    assert layer.unfreeze().bias is None


def test_repr_is_how_to_make_one(layer):
    before = repr(layer)
    assert repr(layer.freeze()) == before


# Threads and processes


def test_threads_make_a_pack_once(road, made, rng):
    layer = cyconv.Conv2D(24, 40, 3, padding=1, algorithm="winograd", rng=0)
    batches = [rng.standard_normal((n, 24, 12, 9 + n)) for n in range(1, 9)]
    wanted = [layer(x) for x in batches]
    for trial in range(1, 11):
        barrier = threading.Barrier(8)
        layer.unfreeze().freeze()

        def first(x, barrier=barrier):
            barrier.wait(PATIENCE)
            return layer(x)

        with ThreadPoolExecutor(8) as pool:
            for y, alone in zip(pool.map(first, batches), wanted, strict=True):
                assert_near(y, alone)
        assert len(made) == trial


def test_a_pack_that_cannot_be_made(monkeypatch, layer, x):
    """There is no memory for it: nothing is kept, and nobody waits for it."""
    wanted = layer(x)
    layer.freeze()

    def prepare(plan, w):
        raise MemoryError

    with monkeypatch.context() as broken:
        broken.setattr(winograd, "prepare", prepare)
        forget_plans()
        with ThreadPoolExecutor(1) as pool, pytest.raises(MemoryError):
            pool.submit(layer, x).result(PATIENCE)
    forget_plans()
    assert_near(layer(x), wanted)


def send(connection, layer, x):
    connection.send(layer(x))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_does_not_wait_for_a_thread_of_its_parent(layer, x):
    wanted = layer(x)
    layer.freeze()
    making, done = threading.Event(), threading.Event()

    def hold():
        with frozen._making:
            making.set()
            done.wait(PATIENCE)

    with ThreadPoolExecutor(1) as pool:
        pool.submit(hold)
        making.wait(PATIENCE)
        context = multiprocessing.get_context("fork")
        here, there = context.Pipe()
        process = context.Process(target=send, args=(there, layer, x), daemon=True)
        process.start()
        try:
            assert here.poll(PATIENCE), "the child hangs"
            assert_near(here.recv(), wanted)
        finally:
            done.set()
            process.join(1)
            process.kill()


# Copies


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("kind", KINDS)
def test_copies_are_frozen(made, x, kind, how):
    layer = winograd_layer(KINDS[kind]).freeze()
    y = layer(x)
    other = COPIES[how](layer)
    assert other.frozen
    assert other._packs._kept == {}
    np.testing.assert_array_equal(other(x), y)
    assert len(made) == 2
    for array in (other.weight, other.bias):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
    with pytest.raises(RuntimeError, match=says("unfreeze")):
        other.load_state_dict(layer.state_dict())

    other.unfreeze()
    other.weight[...] = 0
    other.bias = np.ones(7)
    assert (other(x) == 1).all()
    assert layer.frozen
    np.testing.assert_array_equal(layer(x), y)
    assert not COPIES[how](layer.unfreeze()).frozen


def test_a_pickle_does_not_grow_with_packs(layer, x):
    before = len(pickle.dumps(layer.freeze()))
    layer(x)
    assert len(pickle.dumps(layer)) == before


def test_a_shallow_copy_shares_what_it_is_frozen_for(layer, x):
    """Both have the same weight: one that thaws it must not leave the other with its old packs."""
    layer.freeze()
    y = layer(x)
    other = copy.copy(layer)
    assert other.frozen
    other.unfreeze().weight *= 2
    assert not layer.frozen
    doubled = layer(x)
    assert abs(doubled - y).max() > 0.1
    layer.freeze()
    assert other.frozen
    np.testing.assert_array_equal(other(x), layer(x))
