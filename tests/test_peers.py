"""Arrays of other libraries, on the CPU, are taken for what they hold: PyTorch's, and DLPack's."""

import numpy as np
import pytest
from calls import ARGUMENTS, CROOKED, NAMES, assert_plain, calls

import cyconv

try:
    import torch
except ImportError:
    torch = None

needs_torch = [pytest.mark.torch, pytest.mark.skipif(torch is None, reason="no torch here")]


class Exchanged:
    """An array that can be had by DLPack, and in no other way."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


def tensor(array):
    return torch.from_numpy(array)


def strided(array):
    """A tensor whose memory has its axes in the reverse order."""
    axes = tuple(range(array.ndim))[::-1]
    return torch.from_numpy(np.ascontiguousarray(array.transpose(axes))).permute(axes)


kinds = pytest.mark.parametrize(
    "kind",
    [Exchanged, pytest.param(tensor, marks=needs_torch), pytest.param(strided, marks=needs_torch)],
)


@kinds
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("name", NAMES)
def test_of_every_function(name, dtype, kind):
    call = calls(dtype=dtype)[name]
    others = {key: kind(array) for key, array in call.arrays.items()}
    for got, wanted in zip(call.results(**others), call.results(), strict=True):
        assert_plain(got, wanted.dtype)
        np.testing.assert_array_equal(got, wanted)


@kinds
@pytest.mark.parametrize(("name", "argument"), ARGUMENTS)
def test_beside_arrays_of_numpy(name, argument, kind):
    call = calls()[name]
    results = call.results(**{argument: kind(call.arrays[argument])})
    for got, wanted in zip(results, call.results(), strict=True):
        np.testing.assert_array_equal(got, wanted)


@kinds
@pytest.mark.parametrize("layer_of", [cyconv.Conv2D, cyconv.ConvTranspose2D])
def test_of_layers(rng, layer_of, kind):
    layer = layer_of(4, 2, 3, padding=1, rng=rng)
    x = rng.standard_normal((2, 4, 6, 5), dtype=np.float32)
    y = layer.forward(x)
    dx = layer.backward(y)
    gradient = layer.weight_grad
    np.testing.assert_array_equal(layer(kind(x)), y)
    np.testing.assert_array_equal(layer.forward(kind(x)), y)
    np.testing.assert_array_equal(layer.backward(kind(y)), dx)
    np.testing.assert_array_equal(layer.weight_grad, gradient)
    layer.weight, layer.bias = kind(2 * layer.weight), kind(2 * layer.bias)
    np.testing.assert_array_equal(layer(x), 2 * y)


@kinds
def test_conv_transpose(rng, kind):
    x, w, b = (rng.standard_normal(n) for n in [(2, 4, 6, 5), (4, 2, 3, 2), 2])
    wanted = cyconv.conv_transpose(x, w, b, stride=2)
    np.testing.assert_array_equal(
        cyconv.conv_transpose(kind(x), kind(w), kind(b), stride=2), wanted, strict=True
    )


@kinds
def test_they_are_not_written(kind):
    arrays = CROOKED.arrays()[:3]
    cyconv.conv(*map(kind, arrays), **CROOKED.options)
    for array, wanted in zip(arrays, CROOKED.arrays(), strict=False):
        np.testing.assert_array_equal(array, wanted)


@pytest.mark.torch
def test_a_tensor_within_a_graph_is_refused():
    """Its gradient would silently not come to be; PyTorch says what to do instead."""
    torch = pytest.importorskip("torch")
    x, w = torch.ones((1, 1, 4), requires_grad=True), np.ones((1, 1, 2))
    with pytest.raises(RuntimeError, match="detach"):
        cyconv.conv(x, w)
