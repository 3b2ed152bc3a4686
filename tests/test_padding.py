"""Padding by name, and the padding modes: against np.pad and the definition."""

import math

import numpy as np
import pytest
import reference
from calls import calls
from hypothesis import given
from hypothesis import strategies as st
from strategies import Case, cases

import cyconv

LAYERS = {1: cyconv.Conv1D, 2: cyconv.Conv2D, 3: cyconv.Conv3D}


def pads_of(name, size, kernel, stride, dilation):
    """The pads of one axis, by their definition: as few as make so many outputs."""
    if name == "valid":
        return 0, 0
    if name == "causal":
        return (kernel - 1) * dilation, 0
    wanted = math.ceil(size / stride)
    total = 0
    while (size + total - dilation * (kernel - 1) - 1) // stride + 1 < wanted:
        total += 1
    few, many = total // 2, total - total // 2
    return (few, many) if name == "same" else (many, few)


def named(case, name):
    """The same case with the pads that the name stands for."""
    axes = zip(case.x_shape[2:], case.kernel, case.stride, case.dilation, strict=True)
    pads = tuple(pads_of(name, *axis) for axis in axes)
    return Case(case.x_shape, case.w_shape, case.stride, pads, case.dilation, case.groups)


def names(rank):
    return ["valid", "same", "same_lower", *(["causal"] if rank == 1 else [])]


@given(cases(), st.data())
def test_every_function_takes_a_name(case, data):
    name = data.draw(st.sampled_from(names(len(case.kernel))))
    case = named(case, name)
    reach = [d * (k - 1) + 1 for k, d in zip(case.kernel, case.dilation, strict=True)]
    if name == "valid" and any(r > s for r, s in zip(reach, case.x_shape[2:], strict=True)):
        with pytest.raises(ValueError, match="kernel"):
            cyconv.im2col(np.zeros(case.x_shape), case.kernel, dilation=case.dilation)
        return
    for function, call in calls(case).items():
        for got, wanted in zip(call.results(padding=name), call.results(), strict=True):
            np.testing.assert_array_equal(got, wanted, err_msg=function)
    if name.startswith("same"):
        sizes = zip(case.x_shape[2:], case.stride, strict=True)
        assert case.output == tuple(math.ceil(size / stride) for size, stride in sizes)
    if name == "causal":
        assert case.output == ((case.x_shape[2] - 1) // case.stride[0] + 1,)


def test_causal_reads_no_later_cell(rng):
    x, w = rng.standard_normal((2, 3, 20)), rng.standard_normal((4, 3, 3))
    y = cyconv.conv(x, w, padding="causal", dilation=2, stride=3)
    x[:, :, 10:] = np.nan
    later = cyconv.conv(x, w, padding="causal", dilation=2, stride=3)
    np.testing.assert_array_equal(later[:, :, :4], y[:, :, :4])
    assert np.isnan(later[:, :, 4:]).all()


@pytest.mark.parametrize("rank", LAYERS)
def test_layers_take_a_name(rng, rank):
    x = rng.standard_normal((2, 3, 7, 6, 5)[: rank + 2])
    for name in names(rank):
        layer = LAYERS[rank](3, 4, 2, stride=2, padding=name, dtype=np.float64)
        assert layer.padding == name
        y = layer.forward(x)
        pads = [pads_of(name, size, 2, 2, 1) for size in x.shape[2:]]
        wanted = reference.conv(x, layer.weight, layer.bias, stride=2, padding=pads)
        np.testing.assert_allclose(y, wanted, atol=1e-12)
        dx = reference.conv_input_grad(y, layer.weight, x.shape, stride=2, padding=pads)
        np.testing.assert_allclose(layer.backward(y), dx, atol=1e-12)


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore:Using padding='same'")  # it says that it makes a copy
@pytest.mark.parametrize("name", ["same", "valid"])
def test_names_mean_what_they_mean_in_torch(rng, name):
    torch = pytest.importorskip("torch")
    x, w = rng.standard_normal((2, 3, 8, 9)), rng.standard_normal((4, 3, 4, 3))
    options = {"padding": name, "dilation": (1, 2)}
    wanted = torch.nn.functional.conv2d(torch.tensor(x), torch.tensor(w), **options)
    np.testing.assert_allclose(cyconv.conv(x, w, **options), wanted, atol=1e-12)
