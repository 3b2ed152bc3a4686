"""conv_transpose and its layers: by the definition, as the adjoint of conv, and by PyTorch."""

import copy
import inspect
import pickle

import numpy as np
import pytest
import reference
from calls import assert_plain
from hypothesis import given
from hypothesis import strategies as st
from test_arrays import ODD

import cyconv
from cyconv.bias import add_bias

LAYERS = {
    1: cyconv.ConvTranspose1D,
    2: cyconv.ConvTranspose2D,
    3: cyconv.ConvTranspose3D,
}


def conv_transpose(x, w, b=None, *, stride, padding, output_padding, dilation, groups):
    """The definition: each cell of x adds its multiple of the kernel to y."""
    rank = x.ndim - 2
    n, c = x.shape[:2]
    fg = w.shape[1]
    full = [
        (size - 1) * s + d * (k - 1) + 1 + e
        for size, s, d, k, e in zip(
            x.shape[2:], stride, dilation, w.shape[2:], output_padding, strict=True
        )
    ]
    y = np.zeros((n, fg * groups, *full))
    for cell in np.ndindex(*x.shape[2:]):
        for tap in np.ndindex(*w.shape[2:]):
            place = tuple(
                i * s + t * d for i, s, t, d in zip(cell, stride, tap, dilation, strict=True)
            )
            for g in range(groups):
                channels = slice(g * c // groups, (g + 1) * c // groups)
                part = x[(slice(None), channels, *cell)] @ w[(channels, slice(None), *tap)]
                y[(slice(None), slice(g * fg, (g + 1) * fg), *place)] += part
    ends = [slice(p, size - p) for p, size in zip(padding, full, strict=True)]
    y = y[(..., *ends)]
    return y if b is None else y + b.reshape(-1, *[1] * rank)


@st.composite
def transposed(draw, spare=3):
    """x, w, b, and options: up to 3 axes, nothing square."""
    rank = draw(st.integers(1, 3))
    small = st.tuples(*[st.integers(1, 3)] * rank)
    groups, c, f = (draw(st.integers(1, 3)) for _ in range(3))
    kernel, stride, dilation, size = draw(small), draw(small), draw(small), draw(small)
    extra = tuple(
        draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True)
    )
    padding = tuple(
        draw(st.integers(0, min(4, ((n - 1) * s + d * (k - 1) + e) // 2)))
        for n, s, d, k, e in zip(size, stride, dilation, kernel, extra, strict=True)
    )
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    x = rng.integers(-4, 5, (draw(st.integers(0, 2)), groups * c, *size)).astype(float)
    w = rng.integers(-4, 5, (groups * c, f, *kernel)).astype(float)
    b = rng.integers(-4, 5, groups * f).astype(float)
    options = {"stride": stride, "padding": padding, "output_padding": extra}
    return x, w, b, {**options, "dilation": dilation, "groups": groups}


def layer_of(x, w, b, options, **more):
    layer = LAYERS[x.ndim - 2](
        w.shape[0], len(b), w.shape[2:], **options, **{"dtype": np.float64, **more}
    )
    layer.weight, layer.bias = w, b
    return layer


@given(transposed())
def test_definition(drawn):
    x, w, b, options = drawn
    wanted = conv_transpose(x, w, b, **options)
    np.testing.assert_array_equal(cyconv.conv_transpose(x, w, b, **options), wanted, strict=True)
    without = conv_transpose(x, w, **options)
    np.testing.assert_array_equal(cyconv.conv_transpose(x, w, **options), without)
    np.testing.assert_array_equal(layer_of(*drawn)(x), wanted)


@given(transposed())
def test_adjoint_of_conv(drawn):
    x, w, _, options = drawn
    y = cyconv.conv_transpose(x, w, **options)
    extra = options.pop("output_padding")
    pads = tuple((p, p - e) for p, e in zip(options["padding"], extra, strict=True))
    if all(high >= 0 for _, high in pads):
        options["padding"] = pads
        dx = cyconv.conv_input_grad(x, w, y.shape, **options)
        np.testing.assert_array_equal(y, dx)


@given(transposed(), st.sampled_from(["channels_first", "channels_last"]))
def test_gradients(drawn, data_format):
    """y is linear in each of x, w and b: its gradients are the adjoints."""
    x, w, b, options = drawn
    moved = data_format == "channels_last"
    layer = layer_of(x, w, b, options, data_format=data_format)
    given_x = np.moveaxis(x, 1, -1) if moved else x
    y = layer.forward(given_x)
    dy = np.random.default_rng(1).integers(-4, 5, y.shape).astype(float)
    dx = layer.backward(dy)
    assert dx.shape == given_x.shape
    no_bias = conv_transpose(x, w, **options)
    first = np.moveaxis(dy, -1, 1) if moved else dy
    np.testing.assert_array_equal(
        np.moveaxis(y, -1, 1) if moved else y, conv_transpose(x, w, b, **options)
    )
    total = np.vdot(no_bias, first)
    assert np.vdot(dx, given_x) == total
    assert np.vdot(layer.weight_grad, w) == total
    axes = (0, *range(2, x.ndim))
    np.testing.assert_array_equal(layer.bias_grad, first.sum(axis=axes))
    # Linear in x: one cell at a time gives one cell of the gradient.
    if x.size:
        for cell in list(np.ndindex(*x.shape))[:3]:
            one = np.zeros_like(x)
            one[cell] = 1
            wanted = np.vdot(conv_transpose(one, w, **options), first)
            assert (np.moveaxis(dx, -1, 1) if moved else dx)[cell] == wanted
    for cell in list(np.ndindex(*w.shape))[:3]:
        one = np.zeros_like(w)
        one[cell] = 1
        assert layer.weight_grad[cell] == np.vdot(conv_transpose(x, one, **options), first)


@pytest.mark.torch
@given(transposed())
def test_agrees_with_torch(drawn):
    torch = pytest.importorskip("torch")
    x, w, b, options = drawn
    rank = x.ndim - 2
    if not len(x):
        return
    theirs = getattr(torch.nn, f"ConvTranspose{rank}d")(
        w.shape[0], len(b), w.shape[2:], **options
    ).double()
    theirs.weight.data, theirs.bias.data = torch.tensor(w), torch.tensor(b)
    xt = torch.tensor(x, requires_grad=True)
    y = theirs(xt)
    dy = np.random.default_rng(1).integers(-4, 5, y.shape).astype(float)
    y.backward(torch.tensor(dy))
    layer = LAYERS[rank](w.shape[0], len(b), w.shape[2:], **options, dtype=np.float64)
    layer.load_state_dict(theirs.state_dict())
    np.testing.assert_array_equal(layer.forward(x), y.detach())
    np.testing.assert_array_equal(layer.backward(dy), xt.grad)
    np.testing.assert_array_equal(layer.weight_grad, theirs.weight.grad)
    np.testing.assert_array_equal(layer.bias_grad, theirs.bias.grad)


@pytest.mark.torch
@pytest.mark.parametrize("rank", LAYERS)
def test_repr_is_that_of_torch(rank):
    torch = pytest.importorskip("torch")
    options = {"stride": 3, "padding": 1, "output_padding": 2, "groups": 2, "dilation": 2}
    for given_options in ({}, options):
        theirs = getattr(torch.nn, f"ConvTranspose{rank}d")(4, 6, 3, **given_options)
        shown = repr(theirs).replace(f"{rank}d", f"{rank}D")
        assert repr(LAYERS[rank](4, 6, 3, **given_options)) == shown


EXTRA = {"stride": 2, "padding": 1, "output_padding": 1, "groups": 2}


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("data_format", ["channels_first", "channels_last"])
def test_dtypes_formats_and_out(rng, dtype, data_format):
    x = rng.integers(-4, 5, (3, 4, 5, 6)).astype(dtype)
    w, b = rng.integers(-4, 5, (4, 3, 3, 2)).astype(dtype), rng.integers(-4, 5, 6).astype(dtype)
    wanted = cyconv.conv_transpose(*map(np.float64, (x, w, b)), **EXTRA)
    if data_format == "channels_last":
        x, wanted = np.moveaxis(x, 1, -1), np.moveaxis(wanted, 1, -1)
    options = {**EXTRA, "data_format": data_format}
    y = cyconv.conv_transpose(x, w, b, **options)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, wanted)
    out = np.zeros_like(y, order="C")
    assert cyconv.conv_transpose(x, w, b, **options, out=out) is out
    np.testing.assert_array_equal(out, wanted)
    np.testing.assert_array_equal(cyconv.conv_transpose(x[0], w, b, **options), wanted[0])


def test_pointwise_channels_last(rng):
    x, w, b = rng.standard_normal((3, 5, 6, 4)), rng.standard_normal((4, 7, 1, 1)), np.ones(7)
    y = cyconv.conv_transpose(x, w, b, data_format="channels_last")
    np.testing.assert_allclose(y, x @ w[:, :, 0, 0] + 1, atol=1e-12)


def test_the_definition_is_that_of_the_reference(rng):
    x, w = rng.standard_normal((2, 4, 5)), rng.standard_normal((4, 3, 3))
    options = {"stride": (2,), "padding": (1,), "dilation": (1,)}
    y = conv_transpose(x, w, output_padding=(0,), groups=1, **options)
    wanted = reference.conv_input_grad(x, w, y.shape, **options)
    np.testing.assert_allclose(y, wanted, atol=1e-12)


# x (2, 4, 5, 6), w (4, 3, 3, 2), b (6,), and EXTRA. Argument, its value, error, what is said.
ERRORS = [
    ("x", np.zeros((5, 6)), ValueError, r"\(5, 6\)"),
    ("x", np.zeros((2, 3, 5, 6)), ValueError, "3.*4"),
    ("x", np.zeros((2, 4, 0, 6)), ValueError, "0"),
    ("x", np.zeros((2, 4, 5, 6), complex), TypeError, "complex"),
    ("w", np.zeros((4, 3)), ValueError, r"\(4, 3\)"),
    ("w", np.zeros((5, 3, 3, 2)), ValueError, "4.*5"),
    ("w", np.zeros((4, 0, 3, 2)), ValueError, "0"),
    ("b", np.zeros(3), ValueError, "6.*3"),
    ("groups", 3, ValueError, "4.*3"),
    ("groups", 0, ValueError, "0"),
    ("stride", 0, ValueError, "0"),
    ("stride", 2.0, TypeError, "2.0"),
    ("stride", 2**62, ValueError, str(2**62)),
    ("dilation", (1, 0), ValueError, "0"),
    ("dilation", 2**62, ValueError, str(2**62)),
    ("padding", -1, ValueError, "-1"),
    ("padding", "same", TypeError, "same"),
    ("padding", ((1, 1), (1, 1)), TypeError, r"\(1, 1\)"),
    ("padding", (1,), ValueError, "2"),
    ("padding", 9, ValueError, "9"),
    ("output_padding", 2, ValueError, "smaller.*2"),
    ("output_padding", -1, ValueError, "-1"),
    ("output_padding", True, TypeError, "True"),
    ("output_padding", (0, 1, 0), ValueError, "2"),
    ("algorithm", "magic", ValueError, "magic"),
    ("data_format", "NHWC", ValueError, "NHWC"),
    ("out", np.zeros((2, 6, 10, 12)), ValueError, "11"),
]


@pytest.mark.parametrize(("argument", "value", "error", "words"), ERRORS)
def test_errors(argument, value, error, words):
    arguments = {"x": np.ones((2, 4, 5, 6)), "w": np.ones((4, 3, 3, 2)), "b": np.ones(6), **EXTRA}
    cyconv.conv_transpose(**arguments)
    with pytest.raises(error, match=rf"(?s)(?=.*\b{argument}\b).*{words}"):
        cyconv.conv_transpose(**{**arguments, argument: value})
    with pytest.raises(TypeError, match="padding_mode"):
        cyconv.conv_transpose(**arguments, padding_mode="zeros")


def test_layer_errors():
    layer = cyconv.ConvTranspose2D(4, 6, 3)
    with pytest.raises(RuntimeError, match="forward"):
        layer.backward(np.ones((1, 6, 5, 5)))
    y = layer.forward(np.ones((1, 4, 3, 3)))
    with pytest.raises(ValueError, match="dy"):
        layer.backward(y[:, :, 1:])
    assert layer.weight_grad is None
    with pytest.raises(ValueError, match="output_padding"):
        cyconv.ConvTranspose2D(4, 6, 3, output_padding=1)
    with pytest.raises(TypeError, match="padding"):
        cyconv.ConvTranspose2D(4, 6, 3, padding="same")
    with pytest.raises(TypeError, match="padding_mode"):
        cyconv.ConvTranspose2D(4, 6, 3, padding_mode="zeros")
    with pytest.raises(ValueError, match="groups"):
        cyconv.ConvTranspose2D(4, 6, 3, groups=4)


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("argument", ["x", "w", "b"])
@pytest.mark.parametrize("stride", [1, 2])
def test_odd_arrays(rng, argument, odd, stride):
    arrays = {
        "x": rng.standard_normal((2, 4, 5, 6)),
        "w": rng.standard_normal((4, 3, 3, 2)),
        "b": rng.standard_normal(6),
    }
    options = {"stride": stride, "groups": 2}
    if arrays[argument].ndim == 1 and odd in ("channels last", "gap after rows"):
        return
    array = ODD[odd](arrays[argument])
    plain = np.array(array, float, order="C")
    before = array.tobytes()
    got = cyconv.conv_transpose(**{**arrays, argument: array}, **options)
    wanted = cyconv.conv_transpose(**{**arrays, argument: plain}, **options)
    np.testing.assert_allclose(got, wanted, atol=1e-12)
    assert_plain(got, np.float64)
    assert array.tobytes() == before


def test_no_images():
    layer = cyconv.ConvTranspose2D(4, 6, 3, stride=2)
    y = layer.forward(np.ones((0, 4, 5, 6)))
    assert y.shape == (0, 6, 11, 13)
    assert layer.backward(y).shape == (0, 4, 5, 6)
    assert not layer.weight_grad.any()
    assert layer.bias_grad.shape == (6,)


def test_copies_and_states():
    layer = cyconv.ConvTranspose1D(2, 4, 3, rng=0, groups=2)
    x = np.random.default_rng(0).random((2, 2, 5), np.float32)
    y = layer.forward(x)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        np.testing.assert_array_equal(other(x), y)
        with pytest.raises(RuntimeError, match="forward"):
            other.backward(y)
    other = cyconv.ConvTranspose1D(2, 4, 3, rng=1, groups=2)
    other.load_state_dict(layer.state_dict())
    np.testing.assert_array_equal(other(x), y)
    bound = 1 / np.sqrt(2 * 3)
    for parameter in layer.state_dict().values():
        assert abs(parameter).max() <= bound


def test_signature_is_that_of_torch():
    parameters = inspect.signature(cyconv.ConvTranspose2D).parameters.values()
    said = [(p.name, p.default) for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    none = inspect.Parameter.empty
    assert said == [
        ("in_channels", none),
        ("out_channels", none),
        ("kernel_size", none),
        ("stride", 1),
        ("padding", 0),
        ("output_padding", 0),
        ("groups", 1),
        ("bias", True),
        ("dilation", 1),
    ]


@pytest.mark.parametrize("algorithm", ["gemm", "direct", "winograd"])
def test_algorithms(rng, algorithm):
    x, w = rng.standard_normal((2, 16, 9, 8)), rng.standard_normal((16, 12, 3, 3))
    wanted = cyconv.conv_transpose(x, w, padding=1)
    y = cyconv.conv_transpose(x, w, padding=1, algorithm=algorithm)
    np.testing.assert_allclose(y, wanted, atol=1e-4)
    wanted = cyconv.conv_transpose(x, w, stride=2)
    y = cyconv.conv_transpose(x, w, stride=2, algorithm=algorithm)
    np.testing.assert_allclose(y, wanted, atol=1e-4)
    if algorithm == "winograd":
        with pytest.raises(ValueError, match="winograd"):
            cyconv.conv_transpose(x, w, stride=3, algorithm=algorithm)


@pytest.mark.parametrize("small", [True, False])
def test_a_bias_is_added_however_images_lie(small, monkeypatch):
    """At once, by workers, and to images that are no rows."""
    monkeypatch.setattr("cyconv.threads.SMALL", 1 if small else 0)
    rng = np.random.default_rng(0)
    images, b = rng.integers(-9, 9, (2, 11, 1, 5, 7)).astype(np.float32), np.arange(11.0, dtype="f")
    wanted = images + b[:, None, None, None]
    last = np.ascontiguousarray(images.transpose(0, 2, 3, 4, 1)).transpose(0, 4, 1, 2, 3)
    for array in (images.copy(), last, np.repeat(images, 2, axis=1)[:, ::2]):
        add_bias(array, None)
        add_bias(array, b)
        np.testing.assert_array_equal(array, wanted)
        with np.errstate(all="raise"):
            add_bias(array, np.full_like(b, np.inf))
            add_bias(array, np.full_like(b, -np.inf))
        assert np.isnan(array).all()
