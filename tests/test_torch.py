"""400 random convolutions against PyTorch in float64, and the reference held against it too."""

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from strategies import cases

import cyconv

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """PyTorch's idle threads spin, which takes a core from everyone for want of any work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def by_torch(case, x, w, b, dy):
    """The output, and the gradients of x, w and b."""
    rank = x.ndim - 2
    convolve = getattr(torch.nn.functional, f"conv{rank}d")
    x, w, b = (torch.tensor(array, requires_grad=True) for array in (x, w, b))
    pads = [pad for pair in reversed(case.padding) for pad in pair]  # the last axis comes first
    padded = torch.nn.functional.pad(x, pads)
    y = convolve(padded, w, b, stride=case.stride, dilation=case.dilation, groups=case.groups)
    y.backward(torch.tensor(dy))
    return [t.detach().numpy() for t in (y, x.grad, w.grad, b.grad)]


def assert_agree(got, wanted):
    for a, b in zip(got, wanted, strict=True):
        assert a.shape == b.shape
        # What is left where terms cancel has no relative accuracy: hence atol.
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12 * abs(b).max(initial=0))


@settings(max_examples=400)
@given(cases())
def test_agrees_with_torch(case):
    x, w, b, dy = case.arrays()
    out, cache = cyconv.conv_forward(x, w, b, **case.options)
    dx = cyconv.conv_input_grad(dy, w, x.shape, **case.options)
    dw = cyconv.conv_weight_grad(dy, x, w.shape, **case.options)
    wanted = by_torch(case, x, w, b, dy)
    assert_agree([out, *cyconv.conv_backward(dy, cache)], wanted)
    assert_agree([cyconv.conv(x, w, b, **case.options), dx, dw], wanted[:3])


@given(cases())
def test_reference_agrees_with_torch(case):
    x, w, b, dy = case.arrays()
    y = reference.conv(x, w, b, **case.options)
    dx = reference.conv_input_grad(dy, w, x.shape, **case.options)
    dw = reference.conv_weight_grad(dy, x, w.shape, **case.options)
    assert_agree([y, dx, dw], by_torch(case, x, w, b, dy)[:3])


@pytest.mark.parametrize("lower", [cyconv.im2col, reference.im2col])
@pytest.mark.parametrize("raise_", [cyconv.col2im, reference.col2im])
def test_lowering_has_the_layout_of_unfold(rng, lower, raise_):
    x = rng.standard_normal((2, 3, 9, 8))
    kernel = (3, 2)
    options = {"stride": (2, 1), "padding": (1, 2), "dilation": (2, 3)}
    cols = torch.nn.functional.unfold(torch.tensor(x), kernel, **options)
    np.testing.assert_array_equal(lower(x, kernel, **options), cols)
    dx = torch.nn.functional.fold(cols, x.shape[2:], kernel, **options)
    np.testing.assert_allclose(raise_(cols.numpy(), x.shape[2:], kernel, **options), dx, rtol=1e-12)
