"""The layers: what they compute, what they remember, and their parameters."""

import copy
import gc
import inspect
import io
import math
import pickle
import re
import weakref
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType

import numpy as np
import pytest
import reference
from strategies import Case
from test_gradients import central_difference

import cyconv

LAYERS = {1: cyconv.Conv1D, 2: cyconv.Conv2D, 3: cyconv.Conv3D}

# Nothing square, nothing symmetric, nothing left at its default.
CASES = {
    "line": Case((2, 4, 9), (6, 2, 3), stride=(2,), padding=((2, 1),), dilation=(2,), groups=2),
    "image": Case((2, 4, 6, 7), (6, 2, 3, 2), (2, 1), ((1, 0), (2, 1)), (1, 2), groups=2),
    "volume": Case((1, 4, 3, 4, 5), (2, 2, 2, 3, 1), (1, 2, 2), (1, 1, 0), (2, 1, 1), groups=2),
}


def layer_of(case, dtype=np.float64, **options):
    """A layer for this case, with the weights of its arrays."""
    _, w, b, _ = case.arrays()
    make = LAYERS[len(case.kernel)]
    channels = case.x_shape[1], case.w_shape[0]
    layer = make(*channels, case.kernel, **case.options, dtype=dtype, **options)
    layer.weight = w
    if layer.bias is not None:
        layer.bias = b
    return layer


@pytest.fixture
def layer():
    return cyconv.Conv2D(2, 4, (3, 2), padding=1, rng=0)


@pytest.fixture
def x(rng):
    return rng.standard_normal((3, 2, 5, 6)).astype(np.float32)


def says(*words):
    """A pattern of all these words, in any order."""
    return re.compile("".join(f"(?=.*{re.escape(str(word))})" for word in words), re.DOTALL)


# What they compute


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("bias", [True, False])
def test_forward_and_backward_are_the_definition(name, bias):
    case = CASES[name]
    x, w, b, dy = case.arrays()
    layer = layer_of(case, bias=bias)
    y = layer.forward(x)
    dx = layer.backward(dy)
    near = {"rtol": 1e-11, "atol": 1e-12}
    np.testing.assert_allclose(y, reference.conv(x, w, b if bias else None, **case.options), **near)
    wanted = reference.conv_input_grad(dy, w, x.shape, **case.options)
    np.testing.assert_allclose(dx, wanted, **near)
    wanted = reference.conv_weight_grad(dy, x, w.shape, **case.options)
    np.testing.assert_allclose(layer.weight_grad, wanted, **near)
    if bias:
        wanted = dy.sum(axis=(0, *range(2, dy.ndim)))
        np.testing.assert_allclose(layer.bias_grad, wanted, **near)
    else:
        assert layer.bias is None
        assert layer.bias_grad is None


@pytest.mark.parametrize("name", CASES)
def test_central_differences(name):
    case = CASES[name]
    x, _, _, dy = case.arrays()
    layer = layer_of(case)

    def loss():
        return (layer(x) * dy).sum()

    layer.forward(x)
    gradients = [layer.backward(dy), layer.weight_grad, layer.bias_grad]
    for array, gradient in zip([x, layer.weight, layer.bias], gradients, strict=True):
        np.testing.assert_allclose(gradient, central_difference(loss, array), rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("algorithm", ["auto", "gemm"])
def test_a_layer_is_the_functions(name, dtype, algorithm):
    """To the bit: a layer adds nothing to the numbers."""
    case = CASES[name]
    x, w, b, dy = case.arrays(dtype)
    layer = layer_of(case, dtype, algorithm=algorithm)
    options = {**case.options, "algorithm": algorithm}
    y = cyconv.conv(x, w, b, **options)
    np.testing.assert_array_equal(layer(x), y, strict=True)
    np.testing.assert_array_equal(layer.forward(x), y, strict=True)
    dx = cyconv.conv_input_grad(dy, w, x.shape, **options)
    np.testing.assert_array_equal(layer.backward(dy), dx, strict=True)
    dw = cyconv.conv_weight_grad(dy, x, w.shape, **options)
    np.testing.assert_array_equal(layer.weight_grad, dw, strict=True)


def test_gradients_are_set_and_not_summed(layer, x):
    y = layer.forward(x)
    layer.backward(y)
    first = layer.weight_grad, layer.bias_grad
    kept = [gradient.copy() for gradient in first]
    layer.backward(2 * y)  # again from the same forward
    second = layer.weight_grad, layer.bias_grad
    for gradient, old, copied in zip(second, first, kept, strict=True):
        np.testing.assert_allclose(gradient, 2 * copied, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(old, copied)  # what one held is left alone


def test_input_grad_false_computes_the_rest_alone(layer, x):
    y = layer.forward(x)
    layer.backward(y)
    weight_grad, bias_grad = layer.weight_grad, layer.bias_grad
    layer.weight_grad = layer.bias_grad = None
    assert layer.backward(y, input_grad=False) is None
    np.testing.assert_array_equal(layer.weight_grad, weight_grad)
    np.testing.assert_array_equal(layer.bias_grad, bias_grad)


def test_an_empty_batch(layer):
    y = layer.forward(np.empty((0, 2, 5, 6)))
    assert y.shape == (0, 4, 5, 7)
    assert layer.backward(y).shape == (0, 2, 5, 6)
    assert not layer.weight_grad.any()
    assert not layer.bias_grad.any()


def test_attributes_can_be_changed(layer, x):
    layer.stride, layer.padding = (2, 2), ((0, 1), (1, 0))
    wanted = cyconv.conv(x, layer.weight, layer.bias, stride=2, padding=((0, 1), (1, 0)))
    np.testing.assert_array_equal(layer(x), wanted)
    layer.algorithm = "none of these"
    for method in (layer, layer.forward):
        with pytest.raises(ValueError, match=says("algorithm", "none of these")):
            method(x)


@pytest.mark.torch
@pytest.mark.parametrize("rank", LAYERS)
@pytest.mark.parametrize("bias", [True, False])
def test_agrees_with_torch(rng, rank, bias):
    torch = pytest.importorskip("torch")
    options = {"kernel_size": (3, 2, 1)[:rank], "stride": (2, 1, 2)[:rank]}
    options |= {"padding": (1, 2, 0)[:rank], "dilation": (1, 2, 1)[:rank]}
    options |= {"groups": 2, "bias": bias}
    theirs = getattr(torch.nn, f"Conv{rank}d")(4, 6, **options).double()
    ours = LAYERS[rank](4, 6, **options, dtype=np.float64)
    ours.load_state_dict(theirs.state_dict())

    x = torch.tensor(rng.standard_normal((2, 4, 7, 6, 5)[: rank + 2]), requires_grad=True)
    y = theirs(x)
    dy = rng.standard_normal(y.shape)
    y.backward(torch.tensor(dy))
    near = {"rtol": 1e-9, "atol": 1e-12}
    np.testing.assert_allclose(ours.forward(x.detach().numpy()), y.detach(), **near)
    np.testing.assert_allclose(ours.backward(dy), x.grad, **near)
    for (parameter, gradient), their in zip(ours.parameters(), theirs.parameters(), strict=True):
        np.testing.assert_array_equal(parameter, their.detach())
        np.testing.assert_allclose(gradient, their.grad, **near)

    back = {name: torch.from_numpy(array) for name, array in ours.state_dict().items()}
    assert str(theirs.load_state_dict(back)) == "<All keys matched successfully>"
    shown = re.sub(r"\bConv(\d)d\b", r"Conv\1D", repr(theirs))
    assert repr(ours) == shown.removesuffix(")") + ", dtype='float64')"


# Casts


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, "float32", "f8", float, "d"])
def test_dtypes_of_a_layer(x, dtype):
    layer = cyconv.Conv2D(2, 4, 3, dtype=dtype)
    assert layer.dtype == np.dtype(dtype)
    y = layer.forward(x)
    dx = layer.backward(y)
    everything = [y, dx, layer.weight, layer.bias, layer.weight_grad, layer.bias_grad]
    assert {array.dtype for array in everything} == {np.dtype(dtype)}
    assert layer(x).dtype == np.dtype(dtype)


GIVEN = [np.float16, np.float32, np.float64, ">f4", ">f8", np.int8, np.uint64, np.int64, bool]


@pytest.mark.parametrize("given", GIVEN)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_x_and_dy_are_cast(rng, given, dtype):
    layer = cyconv.Conv2D(2, 4, 3, dtype=dtype)
    x = rng.integers(0, 2, (2, 2, 5, 5)).astype(given)
    dy = rng.integers(0, 2, (2, 4, 3, 3)).astype(given)
    y = layer.forward(x)
    dx = layer.backward(dy)
    weight_grad = layer.weight_grad
    np.testing.assert_array_equal(layer(x), y, strict=True)
    np.testing.assert_array_equal(layer.forward(x.astype(dtype)), y, strict=True)
    np.testing.assert_array_equal(layer.backward(dy.astype(dtype)), dx, strict=True)
    np.testing.assert_array_equal(layer.weight_grad, weight_grad, strict=True)
    assert y.dtype == dx.dtype == weight_grad.dtype == dtype


def test_nested_lists_are_arrays():
    layer = cyconv.Conv1D(1, 1, 2)
    layer.weight, layer.bias = [[[1, 10]]], [0.5]
    assert layer.forward([[[1, 2, 3]]]).tolist() == [[[21.5, 32.5]]]
    assert layer.backward([[[1, 1]]]).tolist() == [[[1, 11, 10]]]


@pytest.mark.parametrize("wrong", [np.complex64, np.longdouble, object, "U3", "M8[s]"])
def test_what_is_not_real_is_refused(layer, x, wrong):
    if np.dtype(wrong).itemsize <= 8 and wrong is np.longdouble:
        pytest.skip("a longdouble is a double here")
    bad = np.zeros(x.shape, wrong)
    with pytest.raises(TypeError, match=says("x", bad.dtype)):
        layer(bad)
    with pytest.raises(TypeError, match=says("x", bad.dtype)):
        layer.forward(bad)
    y = layer.forward(x)
    with pytest.raises(TypeError, match=says("dy", bad.dtype)):
        layer.backward(np.zeros(y.shape, wrong))
    assert layer.weight_grad is None
    with pytest.raises(TypeError, match=says("weight", bad.dtype)):
        layer.weight = np.zeros(layer.weight.shape, wrong)
    with pytest.raises(TypeError, match=says("bias", bad.dtype)):
        layer.bias = np.zeros(layer.bias.shape, wrong)


def test_ragged_lists_are_refused(layer, x):
    ragged = [[1], [2, 3]]
    with pytest.raises(ValueError, match=says("x", "array")):
        layer(ragged)
    layer.forward(x)
    with pytest.raises(ValueError, match=says("dy", "array")):
        layer.backward(ragged)
    with pytest.raises(ValueError, match=says("weight", "array")):
        layer.weight = ragged


@pytest.mark.parametrize("layout", ["fortran", "reversed", "read-only", "broadcast"])
def test_any_layout(layer, x, layout):
    odd = {
        "fortran": np.asfortranarray(x),
        "reversed": x[:, :, ::-1, ::-1].copy()[:, :, ::-1, ::-1],
        "read-only": x.copy(),
        "broadcast": np.broadcast_to(x[:1, :, :, :1], x.shape),
    }[layout]
    odd.flags.writeable = False
    plain = np.ascontiguousarray(odd).copy()
    y = layer.forward(plain)
    dx = layer.backward(y)
    np.testing.assert_array_equal(layer(odd), y)
    np.testing.assert_array_equal(layer.forward(odd), y)
    np.testing.assert_array_equal(layer.backward(np.asfortranarray(y)), dx)


# What they remember


def test_backward_needs_a_forward(layer, x):
    y = layer(x)  # inference: nothing is remembered
    with pytest.raises(RuntimeError, match="forward"):
        layer.backward(y)
    assert layer.weight_grad is None
    assert layer.bias_grad is None


def test_x_is_remembered_by_reference(layer, x):
    y = layer.forward(x)
    x *= 2
    layer.backward(y)
    dw = cyconv.conv_weight_grad(y, x, layer.weight.shape, padding=1)
    np.testing.assert_array_equal(layer.weight_grad, dw)


def test_inference_leaves_the_remembered_x(layer, x):
    y = layer.forward(x)
    layer.backward(y)
    weight_grad = layer.weight_grad
    layer(np.ones((1, 2, 9, 9)))
    layer.backward(y)
    np.testing.assert_array_equal(layer.weight_grad, weight_grad)


def test_lifetime_of_x(layer, x):
    called, forwarded, later = x.copy(), x.copy(), x.copy()
    references = [weakref.ref(array) for array in (called, forwarded)]
    layer(called)
    layer.forward(forwarded)
    del called, forwarded
    gc.collect()
    assert [reference() is not None for reference in references] == [False, True]
    layer.forward(later)  # takes the other's place
    gc.collect()
    assert references[1]() is None


def test_arguments_are_not_written(layer, x):
    dy = np.ones((3, 4, 5, 7), np.float32)
    before = x.copy(), layer.weight.copy(), layer.bias.copy()
    layer.forward(x)
    layer.backward(dy)
    for array, old in zip((x, layer.weight, layer.bias), before, strict=True):
        np.testing.assert_array_equal(array, old)
    assert (dy == 1).all()


@pytest.mark.parametrize("shape", [(3, 4, 5, 6), (2, 4, 5, 7), (3, 4, 35), (), (3, 1, 1, 1)])
def test_dy_has_the_shape_of_y(layer, x, shape):
    layer.forward(x)
    with pytest.raises(ValueError, match=says("dy", (3, 4, 5, 7), shape)):
        layer.backward(np.ones(shape))
    assert layer.weight_grad is None
    assert layer.bias_grad is None


@pytest.mark.parametrize("shape", [(3, 3, 5, 6), (5, 6), (3, 2, 5, 6, 1), (), (1, 2, 5, 0)])
def test_x_has_the_axes_and_channels_of_the_layer(layer, shape):
    for method in (layer, layer.forward):
        with pytest.raises(ValueError, match=says("x")):
            method(np.ones(shape, np.float32))
    with pytest.raises(RuntimeError, match="forward"):
        layer.backward(np.ones(shape))


def test_threads_share_a_layer(rng):
    layer = cyconv.Conv2D(3, 8, 3, padding=1, rng=0)
    batches = [rng.standard_normal((n, 3, 12, 9 + n)) for n in (1, 2, 3, 4)] * 8
    wanted = [layer(x) for x in batches]
    with ThreadPoolExecutor(8) as pool:
        for y, alone in zip(pool.map(layer, batches), wanted, strict=True):
            np.testing.assert_array_equal(y, alone)


# Parameters


def test_signature_is_that_of_torch():
    parameters = inspect.signature(cyconv.Conv2D).parameters.values()
    positional = {p.name: p.default for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD}
    keyword = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    none = inspect.Parameter.empty
    assert list(positional.items()) == [
        ("in_channels", none),
        ("out_channels", none),
        ("kernel_size", none),
        ("stride", 1),
        ("padding", 0),
        ("dilation", 1),
        ("groups", 1),
        ("bias", True),
        ("padding_mode", "zeros"),
    ]
    usual = {"data_format": "channels_first", "dtype": np.float32, "rng": None, "algorithm": "auto"}
    assert keyword == usual


@pytest.mark.parametrize("rank", LAYERS)
def test_attributes(rank):
    layer = LAYERS[rank](np.int64(4), 6, 3, stride=np.uint8(2), padding=[1] * rank, groups=2)
    assert (layer.in_channels, layer.out_channels, layer.groups) == (4, 6, 2)
    assert layer.kernel_size == (3,) * rank
    assert layer.stride == (2,) * rank
    assert layer.padding == (1,) * rank
    assert layer.dilation == (1,) * rank
    assert layer.algorithm == "auto"
    assert layer.dtype == np.float32
    assert layer.weight.shape == (6, 2, *(3,) * rank)
    assert layer.bias.shape == (6,)
    assert layer.weight.flags.c_contiguous
    assert layer.weight_grad is layer.bias_grad is None


def test_padding_of_pairs():
    layer = cyconv.Conv2D(1, 1, 3, padding=((0, 1), (2, 2)))
    assert layer.padding == ((0, 1), (2, 2))
    assert layer(np.ones((1, 1, 5, 5))).shape == (1, 1, 4, 7)
    assert cyconv.Conv2D(1, 1, 3, padding=((1, 1), (2, 2))).padding == (1, 2)


@pytest.mark.parametrize("name", CASES)
def test_first_weights_are_uniform_within_the_bound_of_torch(name):
    case = CASES[name]
    channels = case.x_shape[1], 1200
    layer = LAYERS[len(case.kernel)](*channels, case.kernel, groups=2, rng=3)
    bound = 1 / math.sqrt(math.prod(layer.weight.shape[1:]))
    for array in (layer.weight, layer.bias):
        assert abs(array).max() <= bound * (1 + 1e-6)
        # Uniform: its quartiles lie halfway to the bound.
        quartiles = np.quantile(array, [0.25, 0.5, 0.75])
        np.testing.assert_allclose(quartiles, [-bound / 2, 0, bound / 2], atol=bound / 10)
    assert not np.array_equal(layer.weight.ravel()[:1200], layer.bias)


def test_rng():
    def make(rng, **options):
        layer = cyconv.Conv2D(3, 4, 3, rng=rng, **options)
        return np.concatenate([layer.weight.ravel(), layer.bias])

    np.testing.assert_array_equal(make(5), make(5))
    np.testing.assert_array_equal(make(5), make(np.random.default_rng(5)))
    np.testing.assert_allclose(make(5), make(5, dtype=np.float64), rtol=1e-6)
    assert (make(5) != make(6)).all()
    assert (make(None) != make(None)).any()
    generator = np.random.default_rng(5)
    assert (make(generator) != make(generator)).all()  # it goes on from where it is


def test_the_global_generator_is_left_alone():
    np.random.seed(0)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    cyconv.Conv2D(3, 4, 3)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_parameters(layer, x):
    (weight, none), (bias, nothing) = layer.parameters()
    assert weight is layer.weight
    assert bias is layer.bias
    assert none is nothing is None
    layer.backward(layer.forward(x))
    pairs = list(layer.parameters())
    assert pairs[0][0] is weight
    assert pairs[1][0] is bias
    assert pairs[0][1] is layer.weight_grad
    assert pairs[1][1] is layer.bias_grad
    (pair,) = cyconv.Conv2D(1, 1, 3, bias=False).parameters()
    assert pair[0].shape == (1, 1, 3, 3)


def test_gradient_descent_finds_the_weights_of_another_layer(rng):
    teacher = cyconv.Conv2D(2, 3, 3, dtype=np.float64, rng=1)
    pupil = cyconv.Conv2D(2, 3, 3, dtype=np.float64, rng=2)
    x = rng.standard_normal((16, 2, 6, 6))
    for _ in range(200):
        error = pupil.forward(x) - teacher(x)
        pupil.backward(error / len(x))
        for parameter, gradient in pupil.parameters():
            parameter -= 0.04 * gradient
    np.testing.assert_allclose(pupil.weight, teacher.weight, atol=1e-6)
    np.testing.assert_allclose(pupil.bias, teacher.bias, atol=1e-6)


def test_assignment_casts_and_copies_into_the_same_array(layer):
    weight, bias = layer.weight, layer.bias
    given = np.arange(48.0).reshape(4, 2, 3, 2)
    layer.weight = given
    layer.bias = [1, 2, 3, 4]
    given += 1
    assert layer.weight is weight
    assert layer.bias is bias
    assert weight.dtype == bias.dtype == np.float32
    assert weight.ravel().tolist() == list(range(48))
    assert bias.tolist() == [1, 2, 3, 4]


def test_assignment_in_place(layer):
    weight, old = layer.weight, layer.weight.copy()
    layer.weight *= 2
    layer.weight = layer.weight[::-1]  # a view of itself
    assert layer.weight is weight
    np.testing.assert_array_equal(weight, 2 * old[::-1])


@pytest.mark.parametrize("shape", [(2, 4, 3, 2), (4, 2, 3, 3), (4, 2, 6), (1, 2, 3, 2), ()])
def test_assignment_of_another_shape(layer, shape):
    old = layer.weight.copy()
    with pytest.raises(ValueError, match=says("weight", (4, 2, 3, 2), shape)):
        layer.weight = np.zeros(shape)
    with pytest.raises(ValueError, match=says("bias", (4,), shape)):
        layer.bias = np.zeros(shape)
    np.testing.assert_array_equal(layer.weight, old)


def test_assignment_of_a_bias_to_a_layer_without():
    layer = cyconv.Conv2D(1, 4, 3, bias=False)
    layer.bias = None
    with pytest.raises(ValueError, match=says("bias", "None", "bias=False")):
        layer.bias = np.zeros(4)
    with pytest.raises(TypeError, match="bias"):
        cyconv.Conv2D(1, 4, 3).bias = None


# State


def test_state_dict_is_a_copy(layer):
    state = layer.state_dict()
    assert list(state) == ["weight", "bias"]
    for name, array in state.items():
        np.testing.assert_array_equal(array, getattr(layer, name), strict=True)
        assert not np.shares_memory(array, getattr(layer, name))
    assert list(cyconv.Conv2D(1, 1, 3, bias=False).state_dict()) == ["weight"]


def test_load_state_dict(layer, x):
    other = cyconv.Conv2D(2, 4, (3, 2), padding=1, rng=9)
    held = other.weight, other.bias
    state = layer.state_dict()
    assert other.load_state_dict(state) is None
    np.testing.assert_array_equal(other(x), layer(x))
    state["weight"] += 1
    np.testing.assert_array_equal(other(x), layer(x))
    assert other.weight is held[0]
    assert other.bias is held[1]


def test_load_state_dict_takes_what_asarray_takes(layer):
    weight = np.arange(48).reshape(4, 2, 3, 2)
    for given in (weight, weight.tolist(), weight.astype(">f8"), np.float16(weight)):
        layer.load_state_dict(MappingProxyType({"bias": (1, 2, 3, 4), "weight": given}))
        assert layer.weight.ravel().tolist() == list(range(48))
        assert layer.weight.dtype == layer.bias.dtype == np.float32
        assert layer.bias.tolist() == [1, 2, 3, 4]
        layer.weight = np.zeros_like(weight)


def test_load_state_dict_from_npz(layer, x):
    file = io.BytesIO()
    np.savez(file, **layer.state_dict())
    file.seek(0)
    other = cyconv.Conv2D(2, 4, (3, 2), padding=1)
    with np.load(file) as state:
        other.load_state_dict(state)
    np.testing.assert_array_equal(other(x), layer(x))


STATES = {
    "missing": (KeyError, says("bias", "missing"), lambda s: s.pop("bias")),
    "unexpected": (KeyError, says("scale", "unexpected"), lambda s: s.update(scale=0)),
    "renamed": (KeyError, says("kernel", "weight"), lambda s: s.update(kernel=s.pop("weight"))),
    "shape": (ValueError, says("bias", (3,), (4,)), lambda s: s.update(bias=np.zeros(3))),
    "broadcastable": (ValueError, says("bias", "()", (4,)), lambda s: s.update(bias=0)),
    "complex": (TypeError, says("bias", "complex"), lambda s: s.update(bias=s["bias"] * 1j)),
    "none": (TypeError, says("bias"), lambda s: s.update(bias=None)),
}


@pytest.mark.parametrize("name", STATES)
def test_load_state_dict_is_strict_and_all_or_nothing(layer, name):
    error, message, spoil = STATES[name]
    before = layer.state_dict()
    state = {"weight": np.zeros_like(layer.weight), "bias": np.zeros_like(layer.bias)}
    spoil(state)
    for ordered in (state, dict(reversed(state.items()))):
        with pytest.raises(error, match=message):
            layer.load_state_dict(ordered)
    for parameter, old in before.items():
        np.testing.assert_array_equal(getattr(layer, parameter), old)


def test_load_state_dict_without_bias():
    layer = cyconv.Conv2D(1, 1, 1, bias=False)
    layer.load_state_dict({"weight": [[[[3]]]]})
    assert layer.weight.item() == 3
    with pytest.raises(KeyError, match=says("bias", "unexpected")):
        layer.load_state_dict({"weight": [[[[3]]]], "bias": [0]})


@pytest.mark.parametrize("state", [None, [1, 2], "weight", np.zeros(3)])
def test_load_state_dict_of_no_mapping(layer, state):
    with pytest.raises(TypeError, match=says("state", type(state).__name__)):
        layer.load_state_dict(state)


# Copies


COPIES = {
    "deepcopy": copy.deepcopy,
    **{
        f"pickle {protocol}": lambda layer, protocol=protocol: pickle.loads(
            pickle.dumps(layer, protocol)
        )
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1)
    },
}


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("name", CASES)
def test_copies(name, how):
    case = CASES[name]
    x, _, _, dy = case.arrays()
    layer = layer_of(case)
    layer.forward(x)
    layer.backward(dy)
    other = COPIES[how](layer)
    assert type(other) is type(layer)
    assert repr(other) == repr(layer)
    np.testing.assert_array_equal(other(x), layer(x), strict=True)
    for name in ("weight", "bias", "weight_grad", "bias_grad"):
        mine, its = getattr(layer, name), getattr(other, name)
        np.testing.assert_array_equal(its, mine, strict=True)
        assert not np.shares_memory(its, mine)
    with pytest.raises(RuntimeError, match="forward"):
        other.backward(dy)  # it has no x
    layer.backward(dy)  # the layer itself still has
    other.forward(x)
    np.testing.assert_array_equal(other.backward(dy), layer.backward(dy))


@pytest.mark.parametrize("how", COPIES)
def test_copies_of_a_new_layer(how):
    layer = COPIES[how](cyconv.Conv1D(1, 2, 3, bias=False, rng=0))
    assert layer.bias is None
    assert layer.weight_grad is None
    assert [gradient for _, gradient in layer.parameters()] == [None]


def test_a_shallow_copy_shares_parameters_but_not_x(layer, x):
    y = layer.forward(x)
    other = copy.copy(layer)
    assert other.weight is layer.weight
    with pytest.raises(RuntimeError, match="forward"):
        other.backward(y)
    other.forward(x[:1])
    layer.backward(y)
    assert other.weight_grad is None


def test_a_pickle_does_not_grow_with_x(layer):
    before = len(pickle.dumps(layer))
    layer.forward(np.zeros((64, 2, 32, 32), np.float32))
    assert len(pickle.dumps(layer)) == before


def test_a_subclass_keeps_its_own_attributes(x):
    other = copy.deepcopy(Named(2, 4, 3, rng=0))
    assert other.name == "mine"
    assert repr(other) == "Named(2, 4, kernel_size=(3, 3), stride=(1, 1))"
    assert pickle.loads(pickle.dumps(other)).name == "mine"


class Named(cyconv.Conv2D):
    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.name = "mine"


# repr


REPRS = [
    (cyconv.Conv2D(1, 8, 3), "Conv2D(1, 8, kernel_size=(3, 3), stride=(1, 1))"),
    (cyconv.Conv1D(1, 8, 3, 2), "Conv1D(1, 8, kernel_size=(3,), stride=(2,))"),
    (
        cyconv.Conv3D(4, 8, (1, 2, 3), 2, 1, 3, 4, False),
        "Conv3D(4, 8, kernel_size=(1, 2, 3), stride=(2, 2, 2), padding=(1, 1, 1), "
        "dilation=(3, 3, 3), groups=4, bias=False)",
    ),
    (
        cyconv.Conv2D(1, 8, 3, padding=((0, 1), (2, 2)), dtype=float, algorithm="gemm"),
        "Conv2D(1, 8, kernel_size=(3, 3), stride=(1, 1), padding=((0, 1), (2, 2)), "
        "dtype='float64', algorithm='gemm')",
    ),
    (
        cyconv.Conv2D(
            1, 8, 3, 1, 1, padding_mode="reflect", data_format="channels_last", dtype="e"
        ),
        "Conv2D(1, 8, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), padding_mode='reflect', "
        "data_format='channels_last', dtype='float16')",
    ),
    (
        cyconv.Conv1D(1, 8, 3, padding="causal"),
        "Conv1D(1, 8, kernel_size=(3,), stride=(1,), padding='causal')",
    ),
]


@pytest.mark.parametrize(("layer", "shown"), REPRS)
def test_repr(layer, shown):
    assert repr(layer) == str(layer) == shown
    again = eval(shown, dict(vars(cyconv)))
    assert repr(again) == shown
    assert again.weight.shape == layer.weight.shape


# Errors of the constructor

HUGE = 2**70
ERRORS = [
    ({"in_channels": 0}, ValueError, ("in_channels", 0)),
    ({"in_channels": 2.0}, TypeError, ("in_channels", 2.0)),
    ({"in_channels": "2"}, TypeError, ("in_channels", "2")),
    ({"in_channels": True}, TypeError, ("in_channels", True)),
    ({"in_channels": HUGE}, ValueError, ("in_channels", HUGE)),
    ({"out_channels": -1}, ValueError, ("out_channels", -1)),
    ({"out_channels": None}, TypeError, ("out_channels", None)),
    ({"out_channels": (4,)}, TypeError, ("out_channels", (4,))),
    ({"kernel_size": 0}, ValueError, ("kernel_size", 0)),
    ({"kernel_size": (3, 0)}, ValueError, ("kernel_size", 0)),
    ({"kernel_size": (3, 3, 3)}, ValueError, ("kernel_size", (3, 3, 3), 2)),
    ({"kernel_size": (3,)}, ValueError, ("kernel_size", (3,), 2)),
    ({"kernel_size": ()}, ValueError, ("kernel_size", (), 2)),
    ({"kernel_size": 1.5}, TypeError, ("kernel_size", 1.5)),
    ({"kernel_size": "3"}, TypeError, ("kernel_size", "3")),
    ({"kernel_size": (2**31, 2**31)}, ValueError, ("weight", 2**31)),
    ({"stride": 0}, ValueError, ("stride", 0)),
    ({"stride": (1, -2)}, ValueError, ("stride", -2)),
    ({"stride": (1, 2, 3)}, ValueError, ("stride", (1, 2, 3), 2)),
    ({"stride": True}, TypeError, ("stride", True)),
    ({"stride": (1, 2.0)}, TypeError, ("stride", 2.0)),
    ({"stride": HUGE}, ValueError, ("stride", HUGE)),
    ({"padding": -1}, ValueError, ("padding", -1)),
    ({"padding": (0, -1)}, ValueError, ("padding", -1)),
    ({"padding": ((0, 1), (0, -1))}, ValueError, ("padding", -1)),
    ({"padding": (1,)}, ValueError, ("padding", (1,), 2)),
    ({"padding": ((1, 1, 1), (1, 1, 1))}, ValueError, ("padding", (1, 1, 1))),
    ({"padding": 1.0}, TypeError, ("padding", 1.0)),
    ({"padding": "full"}, ValueError, ("padding", "full", "valid", "same", "same_lower")),
    ({"padding": "causal"}, ValueError, ("padding", "causal", 1, 2)),
    ({"padding": None}, TypeError, ("padding", None)),
    ({"dilation": 0}, ValueError, ("dilation", 0)),
    ({"dilation": (1, 1, 1)}, ValueError, ("dilation", (1, 1, 1), 2)),
    ({"dilation": [True, 1]}, TypeError, ("dilation", True)),
    ({"groups": 0}, ValueError, ("groups", 0)),
    ({"groups": False}, TypeError, ("groups", False)),
    ({"groups": 4}, ValueError, ("groups", "in_channels", 6, 4)),
    ({"groups": 3}, ValueError, ("groups", "out_channels", 4, 3)),
    ({"bias": None}, TypeError, ("bias", None)),
    ({"bias": np.zeros(4)}, TypeError, ("bias",)),
    ({"padding_mode": "wrap"}, ValueError, ("padding_mode", "wrap", "zeros", "circular")),
    ({"padding_mode": None}, TypeError, ("padding_mode", None)),
    ({"data_format": "NHWC"}, ValueError, ("data_format", "NHWC", "channels_last")),
    ({"data_format": 1}, TypeError, ("data_format", 1)),
    ({"dtype": np.longdouble}, TypeError, ("dtype", "float16", "float32", "float64")),
    ({"dtype": int}, TypeError, ("dtype", "float32", "float64", "int")),
    ({"dtype": "complex64"}, TypeError, ("dtype", "complex64")),
    ({"dtype": ">f4"}, TypeError, ("dtype", ">f4")),
    ({"dtype": "nonsense"}, TypeError, ("dtype", "nonsense")),
    ({"dtype": None}, TypeError, ("dtype", None)),
    ({"rng": 1.5}, TypeError, ("rng", 1.5)),
    ({"rng": -1}, ValueError, ("rng", -1)),
    ({"algorithm": "fast"}, ValueError, ("algorithm", "fast", "auto", "gemm")),
    ({"algorithm": None}, TypeError, ("algorithm", None)),
]


@pytest.mark.parametrize(("changed", "error", "words"), ERRORS)
def test_errors_of_the_constructor(changed, error, words):
    arguments = {"in_channels": 6, "out_channels": 4, "kernel_size": 3, **changed}
    with pytest.raises(error, match=says(*words)):
        cyconv.Conv2D(**arguments)


@pytest.mark.parametrize("option", ["device", "output_padding"])
def test_options_that_do_not_exist(option):
    with pytest.raises(TypeError, match=option):
        cyconv.Conv2D(1, 1, 3, **{option: "zeros"})


@pytest.mark.parametrize("rank", LAYERS)
def test_lengths_are_the_rank(rank):
    for name in ("kernel_size", "stride", "padding", "dilation"):
        arguments = {"in_channels": 1, "out_channels": 1, "kernel_size": 1, name: (1,) * rank}
        LAYERS[rank](**arguments)
        for wrong in (rank - 1, rank + 1):
            with pytest.raises(ValueError, match=says(name, rank)):
                LAYERS[rank](**arguments | {name: (1,) * wrong})


# output_shape, unbatched x, and formats


FORMS = ["channels_first", "channels_last"]


@pytest.mark.parametrize("data_format", FORMS)
@pytest.mark.parametrize("batch", [(), (0,), (3,)])
@pytest.mark.parametrize("rank", LAYERS)
def test_output_shape(rank, batch, data_format):
    size = (7, 6, 5)[:rank]
    one = {"stride": 2, "dilation": 2, "data_format": data_format}
    layers = [
        LAYERS[rank](3, 4, 2, padding="same", **one),
        getattr(cyconv, f"ConvTranspose{rank}D")(3, 4, 2, padding=1, output_padding=1, **one),
    ]
    x_shape = (*batch, *size, 3) if data_format == "channels_last" else (*batch, 3, *size)
    for layer in layers:
        y = layer.forward(np.ones(x_shape))
        assert layer.output_shape(x_shape) == layer.output_shape(list(x_shape)) == y.shape
        dx = layer.backward(y)
        assert dx.shape == x_shape
        assert layer.bias_grad.shape == (4,)
        with pytest.raises(ValueError, match=says("x_shape", "weight")):
            layer.output_shape((2, *x_shape) if batch else x_shape[:-1])
        with pytest.raises(TypeError, match="x_shape"):
            layer.output_shape(3)


@pytest.mark.parametrize("name", CASES)
def test_channels_last(name):
    """A state moves between formats unchanged."""
    case = CASES[name]
    x, _, _, dy = case.arrays()
    first = layer_of(case)
    other = layer_of(case, data_format="channels_last", rng=5)
    other.load_state_dict(first.state_dict())
    x_last, dy_last = np.moveaxis(x, 1, -1), np.moveaxis(dy, 1, -1)
    near = {"rtol": 1e-11, "atol": 1e-12}
    np.testing.assert_allclose(other.forward(x_last), np.moveaxis(first.forward(x), 1, -1), **near)
    dx = np.moveaxis(first.backward(dy), 1, -1)
    np.testing.assert_allclose(other.backward(dy_last), dx, **near)
    np.testing.assert_allclose(other.weight_grad, first.weight_grad, **near)
    np.testing.assert_allclose(other.bias_grad, first.bias_grad, **near)
    np.testing.assert_allclose(other(x_last[0]), other(x_last)[0], **near)


def test_output_shape_of_what_cannot_be():
    layer = cyconv.Conv1D(3, 4, 3, padding=5, padding_mode="reflect")
    assert layer.output_shape((3, 6)) == (4, 14)
    for call in (layer.output_shape, lambda shape: layer(np.ones(shape))):
        with pytest.raises(ValueError, match=says("padding", "reflect", 5)):
            call((3, 5))
    with pytest.raises(ValueError, match=says("x_shape", 4)):
        layer.output_shape((4, 6))
