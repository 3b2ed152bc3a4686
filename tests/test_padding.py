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


# Padding modes, and what np.pad calls them.
MODES = {"reflect": "reflect", "symmetric": "symmetric", "replicate": "edge", "circular": "wrap"}


def bordered(x, pads, mode):
    return np.pad(x, [(0, 0), (0, 0), *pads], MODES[mode])


def fold(dx, x_shape, pads, mode):
    """The adjoint of `bordered`: number the cells, pad the numbers, and add up by number."""
    cells = np.arange(np.prod(x_shape)).reshape(x_shape)
    numbers = bordered(cells, pads, mode)
    total = np.bincount(numbers.ravel(), dx.ravel(), minlength=cells.size)
    return total.reshape(x_shape)


@st.composite
def moded(draw):
    """A case whose pads its mode allows, and the mode."""
    case, mode = draw(cases()), draw(st.sampled_from([*MODES]))
    least = [max(pair) + (mode == "reflect") for pair in case.padding]
    sizes = [max(size, n) for size, n in zip(case.x_shape[2:], least, strict=True)]
    x_shape = (*case.x_shape[:2], *sizes)
    rest = case.w_shape, case.stride, case.padding, case.dilation, case.groups, case.seed
    return Case(x_shape, *rest), mode


@given(moded())
def test_modes_are_the_definition(drawn):
    case, mode = drawn
    x, w, b, dy = case.integers()
    pads, plain = case.padding, {**case.options, "padding": 0}
    options = {**case.options, "padding_mode": mode}
    padded = bordered(x, pads, mode) if len(x) else np.pad(x, [(0, 0), (0, 0), *pads])
    y, cache = cyconv.conv_forward(x, w, b, **options)
    np.testing.assert_array_equal(y, reference.conv(padded, w, b, **plain))
    wanted = reference.conv_input_grad(dy, w, padded.shape, **plain)
    wanted = fold(wanted, x.shape, pads, mode) if len(x) else np.zeros(x.shape)
    dx, dw, db = cyconv.conv_backward(dy, cache)
    np.testing.assert_array_equal(dx, wanted)
    np.testing.assert_array_equal(cyconv.conv_input_grad(dy, w, x.shape, **options), wanted)
    wanted = reference.conv_weight_grad(dy, padded, w.shape, **plain)
    np.testing.assert_array_equal(dw, wanted)
    np.testing.assert_array_equal(cyconv.conv_weight_grad(dy, x, w.shape, **options), wanted)
    np.testing.assert_array_equal(db, dy.sum(axis=(0, *range(2, dy.ndim))))


@given(moded())
def test_modes_are_adjoint(drawn):
    case, mode = drawn
    x, w, _, dy = case.arrays()
    options = {**case.options, "padding_mode": mode}
    y = cyconv.conv(x, w, **options)
    dx = cyconv.conv_input_grad(dy, w, x.shape, **options)
    dw = cyconv.conv_weight_grad(dy, x, w.shape, **options)
    scale = np.vdot(abs(y), abs(dy)) + np.vdot(abs(x), abs(dx))
    assert abs(np.vdot(y, dy) - np.vdot(x, dx)) <= 1e-12 * scale
    assert abs(np.vdot(y, dy) - np.vdot(w, dw)) <= 1e-12 * scale


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["same", "same_lower", "causal"])
def test_modes_with_names(rng, mode, name):
    x, w = rng.standard_normal((2, 3, 9)), rng.standard_normal((4, 3, 4))
    padded = bordered(x, [pads_of(name, 9, 4, 2, 2)], mode)
    y = cyconv.conv(x, w, stride=2, dilation=2, padding=name, padding_mode=mode)
    np.testing.assert_allclose(y, cyconv.conv(padded, w, stride=2, dilation=2), atol=1e-12)


@pytest.mark.parametrize("mode", MODES)
def test_widest_border(rng, mode):
    x, w = rng.standard_normal((2, 1, 3, 1)), np.ones((1, 1, 1, 1))
    limit = {"reflect": (2, 0), "replicate": (50, 50)}.get(mode, (3, 1))
    y = cyconv.conv(x, w, padding=limit, padding_mode=mode)
    pads = [(pad, pad) for pad in limit]
    np.testing.assert_array_equal(y, bordered(x, pads, mode))
    np.testing.assert_allclose(
        cyconv.conv_input_grad(y, w, x.shape, padding=limit, padding_mode=mode),
        fold(y, x.shape, pads, mode),
    )
    if mode != "replicate":
        for axis in range(2):
            wide = list(limit)
            wide[axis] += 1
            for call in calls(Case(x.shape, w.shape, padding=tuple(wide))).values():
                if "groups" in call.options:
                    with pytest.raises(ValueError, match=rf"padding.*{mode}.*{wide[axis]}"):
                        call(padding_mode=mode)


def test_border_too_large_to_count():
    options = {"padding": 2**58, "stride": 2**59, "padding_mode": "replicate"}
    with pytest.raises(ValueError, match="padding"):
        cyconv.conv(np.ones((1, 8, 3)), np.ones((1, 8, 1)), **options)


def test_zeros_make_no_padded_copy(monkeypatch):
    """Nor does any mode where there is nothing to pad."""
    monkeypatch.setattr("cyconv.layout.copy", None)
    x, w = np.ones((2, 3, 9, 9)), np.ones((4, 3, 3, 3))
    cyconv.conv(x, w, padding=1)
    for mode in MODES:
        cyconv.conv(x, w, padding_mode=mode)


@pytest.mark.torch
@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("rank", LAYERS)
def test_layers_agree_with_torch(rng, rank, mode):
    torch = pytest.importorskip("torch")
    options = {"stride": (2, 1, 1)[:rank], "padding": (2, 1, 3)[:rank], "padding_mode": mode}
    theirs = getattr(torch.nn, f"Conv{rank}d")(4, 6, 3, **options).double()
    ours = LAYERS[rank](4, 6, 3, **options, dtype=np.float64)
    ours.load_state_dict(theirs.state_dict())
    x = torch.tensor(rng.standard_normal((2, 4, 7, 6, 5)[: rank + 2]), requires_grad=True)
    y = theirs(x)
    dy = rng.standard_normal(y.shape)
    y.backward(torch.tensor(dy))
    near = {"rtol": 1e-9, "atol": 1e-12}
    np.testing.assert_allclose(ours.forward(x.detach().numpy()), y.detach(), **near)
    np.testing.assert_allclose(ours.backward(dy), x.grad, **near)
    np.testing.assert_allclose(ours.weight_grad, theirs.weight.grad, **near)
