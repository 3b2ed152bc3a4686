"""autograd's own check of derivatives, to the second order, of every option."""

import numpy as np
import pytest
from hypothesis import given, settings
from strategies import Case
from test_gradients import CASES
from test_transposed import transposed

import cyconv

autograd = pytest.importorskip("autograd")

from autograd.test_util import check_grads  # noqa: E402

from cyconv.interop.autograd import conv, conv_transpose  # noqa: E402

IMAGE = CASES["image"]
OPTIONS = {
    **{name: (case, {}) for name, case in CASES.items()},
    **{
        mode: (IMAGE, {"padding_mode": mode})
        for mode in ("reflect", "symmetric", "replicate", "circular")
    },
    "same": (IMAGE, {"padding": "same"}),
    "causal": (CASES["line"], {"padding": "causal"}),
    "channels last": (CASES["image-dilated"], {"data_format": "channels_last"}),
}
# The last two cells of y are beyond what the adjoint reads, along both axes.
SPREAD = {"stride": 2, "padding": (0, 1), "output_padding": (2, 3), "dilation": (3, 4)}
TRANSPOSED = {
    "plain": {},
    "strided": {"stride": (2, 3), "padding": 1, "output_padding": (1, 2)},
    "spread": SPREAD,
    "spread, channels last": {**SPREAD, "data_format": "channels_last"},
}


def laid_out(array, options):
    """Channels first or last, as the options say."""
    return np.moveaxis(array, 1, -1) if options.get("data_format") else array


@pytest.fixture(autouse=True)
def _same_directions():
    """check_grads draws them from NumPy's global generator."""
    np.random.seed(0)  # noqa: NPY002


@pytest.mark.parametrize("name", OPTIONS)
def test_conv(name):
    case, more = OPTIONS[name]
    x, w, b, _ = case.arrays()
    x = laid_out(x, more)
    options = {**case.options, **more}
    check_grads(lambda x, w, b: conv(x, w, b, **options), (0, 1, 2), order=2)(x, w, b)
    np.testing.assert_array_equal(conv(x, w, b, **options), cyconv.conv(x, w, b, **options))


@pytest.mark.parametrize("name", TRANSPOSED)
@pytest.mark.parametrize("groups", [1, 2])
def test_conv_transpose(rng, name, groups):
    options = {**TRANSPOSED[name], "groups": groups}
    x = laid_out(rng.standard_normal((2, 4, 3, 2)), options)
    w, b = rng.standard_normal((4, 3, 3, 2)), rng.standard_normal(3 * groups)
    check_grads(lambda *xwb: conv_transpose(*xwb, **options), (0, 1, 2), order=2)(x, w, b)
    wanted = cyconv.conv_transpose(x, w, b, **options)
    np.testing.assert_array_equal(conv_transpose(x, w, b, **options), wanted)


@settings(max_examples=30)
@given(transposed())
def test_conv_transpose_of_any_sizes(drawn):
    x, w, _, options = drawn
    if len(x):
        check_grads(lambda x, w: conv_transpose(x, w, **options), (0, 1), order=1)(x, w)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("function", [conv, conv_transpose])
def test_without_a_batch(rng, function, rank):
    x, w, b = (rng.standard_normal(shape) for shape in [(2, 5, 4, 3)[: rank + 1], (2,) * 5, 2])
    w = w[(..., *[0] * (3 - rank))]
    check_grads(lambda x, w, b: function(x, w, b, stride=2), (0, 1, 2), order=2)(x, w, b)


def test_third_order():
    case = Case((1, 2, 4), (2, 2, 2), stride=2, padding=1)
    x, w, _, _ = case.arrays()
    check_grads(lambda x, w: conv(x, w, **case.options) ** 2, (0, 1), modes=["rev"], order=3)(x, w)


@pytest.mark.parametrize("function", [conv, conv_transpose])
def test_float32_stays_float32(rng, function):
    x, w, b = (rng.standard_normal(n).astype(np.float32) for n in [(1, 2, 5), (2, 2, 3), 2])
    gradients = autograd.grad(lambda a: function(*a).sum())((x, w, b))
    assert [g.dtype for g in gradients] == [np.float32] * 3
    for argument, array in enumerate((x, w, b)):
        _, change = autograd.make_jvp(function, argument)(x, w, b)(array)
        assert change.dtype == np.float32


def test_an_array_twice(rng):
    """Both gradients arrive at the one array."""
    x = rng.standard_normal((2, 2, 3))
    check_grads(lambda x: conv(x, x, padding=1), order=2)(x)


def test_wrong_arguments_are_refused_as_ever(rng):
    x, w = rng.standard_normal((1, 2, 5)), rng.standard_normal((2, 3, 3))
    with pytest.raises(ValueError, match="channels"):
        autograd.grad(lambda w: conv(x, w).sum())(w)
