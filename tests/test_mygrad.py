"""conv for mygrad, beside its own and beside cyconv's functions."""

import numpy as np
import pytest
from hypothesis import given
from strategies import Case, cases

import cyconv

mygrad = pytest.importorskip("mygrad")

from mygrad.nnet import conv_nd  # noqa: E402

from cyconv.interop.mygrad import conv  # noqa: E402

# Of those that conv_nd takes: the same pads at both ends, strides that come out even, no groups.
CASES = {
    "line": Case((2, 3, 9), (4, 3, 3), stride=2, padding=1),
    "image": Case((2, 2, 6, 6), (3, 2, 3, 2), stride=(1, 3), padding=(2, 1), dilation=(2, 1)),
    "volume": Case((1, 2, 4, 6, 3), (2, 2, 2, 3, 1), stride=(2, 1, 1), dilation=(1, 2, 1)),
}


def gradients_of(function, *arrays, dy, **options):
    """The result, and the gradients of all arrays."""
    tensors = [mygrad.tensor(array) for array in arrays]
    y = function(*tensors, **options)
    y.backward(dy)
    return [y.data, *(tensor.grad for tensor in tensors)]


@pytest.mark.parametrize("name", CASES)
def test_agrees_with_its_own(name):
    case = CASES[name]
    x, w, _, dy = case.arrays()
    wanted = gradients_of(conv_nd, x, w, dy=dy, **case.geometry)
    for a, b in zip(gradients_of(conv, x, w, dy=dy, **case.geometry), wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def assert_as_functions(x, w, b, **options):
    """The result and the gradients are those of conv_forward and conv_backward."""
    y, cache = cyconv.conv_forward(x, w, b, **options)
    dy = np.random.default_rng(1).standard_normal(y.shape)
    wanted = y, *cyconv.conv_backward(dy, cache)
    got = gradients_of(conv, x, w, b, dy=dy, **options)
    for ours, theirs in zip(got, wanted, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)


MORE = [
    {},
    {"padding_mode": "replicate"},
    {"data_format": "channels_last"},
    {"padding": "same", "stride": 1},
]


@pytest.mark.parametrize("more", MORE, ids=str)
@pytest.mark.parametrize("batch", [True, False])
def test_every_option(more, batch):
    case = Case((2, 4, 6, 5), (6, 2, 3, 2), 2, ((1, 0), (2, 1)), (1, 2), groups=2)
    x, w, b, _ = case.arrays()
    if not batch:
        x = x[0]
    if more.get("data_format"):
        x = np.moveaxis(x, -3, -1)
    assert_as_functions(x, w, b, **{**case.options, **more})


@given(cases())
def test_any_case(case):
    x, w, b, _ = case.arrays()
    assert_as_functions(x, w, b, **case.options)


def test_within_a_graph(rng):
    """Gradients add up where a tensor is used twice, and go on to what it came from."""
    x, w = mygrad.tensor(rng.standard_normal((1, 2, 5))), mygrad.tensor(rng.random((2, 2, 3)))
    scale = mygrad.tensor(3.0)
    loss = conv(conv(scale * x, w, padding=1), w).sum()
    loss.backward()
    np.testing.assert_allclose(scale.grad, loss.data / 3, rtol=1e-12)  # linear in scale
    np.testing.assert_allclose(np.vdot(w.grad, w.data), 2 * loss.data, rtol=1e-12)  # quadratic in w


def test_constants(rng):
    x, w = rng.standard_normal((1, 2, 5)), mygrad.tensor(rng.standard_normal((2, 2, 3)))
    y = conv(x, w)  # x is an array
    y.sum().backward()
    assert y.constant is False
    assert w.grad.shape == w.shape
    assert conv(x, w, constant=True).constant


def test_float32_stays_float32(rng):
    x, w = (rng.standard_normal(n).astype(np.float32) for n in [(1, 2, 5), (2, 2, 3)])
    y, dx, dw = gradients_of(conv, x, w, dy=np.float32(1))
    assert y.dtype == dx.dtype == dw.dtype == np.float32
