"""The gradients, without the reference: central differences, and adjointness."""

import numpy as np
import pytest
from hypothesis import given
from strategies import Case, cases

import cyconv

CASES = {
    "line": Case((2, 4, 9), (4, 2, 3), stride=2, padding=((2, 1),), dilation=2, groups=2),
    "image": Case((2, 2, 5, 4), (3, 2, 3, 2), stride=(2, 1), padding=((1, 0), (0, 2))),
    "image-dilated": Case((1, 4, 6, 5), (2, 2, 2, 3), padding=1, dilation=(3, 2), groups=2),
    "pointwise": Case((2, 3, 3, 4), (4, 3, 1, 1)),
    "depthwise": Case((2, 3, 4, 5), (3, 1, 3, 3), padding=1, groups=3),
    "volume": Case((1, 2, 3, 4, 3), (2, 2, 2, 3, 1), stride=(1, 2, 2), padding=(1, 1, 0)),
}


def central_difference(function, array, step=0.5):
    """The gradient of a function that is linear in `array`, where any step is exact."""
    gradient = np.empty_like(array)
    for index in np.ndindex(array.shape):
        here = array[index]
        array[index] = here + step
        above = function()
        array[index] = here - step
        below = function()
        array[index] = here
        gradient[index] = (above - below) / (2 * step)
    return gradient


@pytest.mark.parametrize("name", CASES)
def test_central_differences(name):
    case = CASES[name]
    x, w, b, dy = case.arrays()

    def loss():
        return (cyconv.conv(x, w, b, **case.options) * dy).sum()

    _, cache = cyconv.conv_forward(x, w, b, **case.options)
    gradients = cyconv.conv_backward(dy, cache)
    for array, gradient in zip([x, w, b], gradients, strict=True):
        np.testing.assert_allclose(gradient, central_difference(loss, array), rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", CASES)
def test_central_differences_of_the_adjoints(name):
    """The two gradients are functions too, bilinear as `conv` is."""
    case = CASES[name]
    x, w, _, dy = case.arrays()

    def input_grad():
        return (cyconv.conv_input_grad(dy, w, x.shape, **case.options) * x).sum()

    def weight_grad():
        return (cyconv.conv_weight_grad(dy, x, w.shape, **case.options) * w).sum()

    y = cyconv.conv(x, w, **case.options)
    np.testing.assert_allclose(central_difference(input_grad, dy), y, rtol=0, atol=1e-10)
    np.testing.assert_allclose(central_difference(weight_grad, dy), y, rtol=0, atol=1e-10)


def assert_same_product(*pairs):
    """The inner products of all pairs agree to 1e-12 of the sum of their terms' sizes."""
    products = [np.vdot(a, b) for a, b in pairs]
    scale = max(np.vdot(abs(a), abs(b)) for a, b in pairs)
    assert np.ptp(products) <= 1e-12 * scale


@given(cases())
def test_convolutions_are_adjoint(case):
    x, w, _, dy = case.arrays()
    y = cyconv.conv(x, w, **case.options)
    dx = cyconv.conv_input_grad(dy, w, x.shape, **case.options)
    dw = cyconv.conv_weight_grad(dy, x, w.shape, **case.options)
    assert_same_product((y, dy), (x, dx), (w, dw))


@given(cases())
def test_lowerings_are_adjoint(case):
    x, *_ = case.arrays()
    cols = cyconv.im2col(x, case.kernel, **case.geometry)
    dcols = np.random.default_rng(case.seed).standard_normal(cols.shape)
    dx = cyconv.col2im(dcols, x.shape[2:], case.kernel, **case.geometry)
    assert_same_product((cols, dcols), (x, dx))


@given(cases())
def test_a_convolution_is_its_lowering_times_the_weights(case):
    x, w, _, _ = case.integers()
    cols = cyconv.im2col(x, case.kernel, **case.geometry)
    n, groups = len(x), case.groups
    y = np.matmul(
        w.reshape(groups, len(w) // groups, -1),
        cols.reshape(n, groups, cols.shape[1] // groups, cols.shape[2]),
    )
    conv = cyconv.conv(x, w, algorithm="gemm", **case.options)
    np.testing.assert_array_equal(y.reshape(conv.shape), conv)


OPTIONS = [{}, {"padding_mode": "circular"}, {"data_format": "channels_last"}]


@pytest.mark.parametrize("more", OPTIONS, ids=["plain", "circular", "channels last"])
@pytest.mark.parametrize("name", CASES)
def test_closed_under_differentiation(name, more):
    """docs/derivatives.md: of any of the three, the gradient by any argument is another of them."""
    case = CASES[name]
    x, w, _, dy = case.arrays()
    if more.get("data_format"):
        x, dy = (np.ascontiguousarray(np.moveaxis(a, 1, -1)) for a in (x, dy))
    options = {**case.options, **more}

    def conv(x, w):
        return cyconv.conv(x, w, **options)

    def input_grad(dy, w):
        return cyconv.conv_input_grad(dy, w, x.shape, **options)

    def weight_grad(dy, x):
        return cyconv.conv_weight_grad(dy, x, w.shape, **options)

    table = [
        (conv, (x, w), lambda g: (input_grad(g, w), weight_grad(g, x))),
        (input_grad, (dy, w), lambda g: (conv(g, w), weight_grad(dy, g))),
        (weight_grad, (dy, x), lambda g: (conv(x, g), input_grad(dy, g))),
    ]
    for function, arguments, gradients in table:
        result = function(*arguments)
        g = np.random.default_rng(3).standard_normal(result.shape)
        for argument, gradient in zip(arguments, gradients(g), strict=True):
            wanted = central_difference(
                lambda function=function, arguments=arguments, g=g: (
                    function(*arguments) * g
                ).sum(),
                argument,
            )
            np.testing.assert_allclose(gradient, wanted, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_double_backward(name):
    """A penalty on the gradient of x: its own gradients, by differences that are exact for a
    quadratic."""
    case = CASES[name]
    x, w, _, dy = case.arrays()

    def penalty():
        return (cyconv.conv_input_grad(dy, w, x.shape, **case.options) ** 2).sum()

    g = 2 * cyconv.conv_input_grad(dy, w, x.shape, **case.options)
    by_dy = cyconv.conv(g, w, **case.options)
    by_w = cyconv.conv_weight_grad(dy, g, w.shape, **case.options)
    np.testing.assert_allclose(by_dy, central_difference(penalty, dy), rtol=0, atol=1e-9)
    np.testing.assert_allclose(by_w, central_difference(penalty, w), rtol=0, atol=1e-9)
