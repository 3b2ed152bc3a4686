"""Strided Winograd: convolutions with a stride that become 3x3 or 4x4 ones with stride 1.

By algorithm="winograd", in the fallback too; that they are chosen at all: test_plan.py.
"""

import numpy as np
import pytest
from builds import each_dtype
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import Case
from test_winograd import assert_close

import cyconv
from cyconv.algorithms import strided
from cyconv.geometry import geometry
from cyconv.plan import plan

CASES = [
    Case((2, 3, 31, 34), (20, 3, 11, 11), stride=4),
    Case((3, 17, 14, 13), (18, 17, 5, 5), stride=2, padding=2),
    Case((2, 5, 12, 19), (7, 5, 6, 8), stride=(2, 3), padding=((5, 0), (0, 4))),
    Case((1, 4, 9, 21), (5, 4, 3, 9), stride=(1, 4), padding=1),
    Case((2, 3, 21, 9), (4, 3, 13, 3), stride=(6, 1)),
    Case((1, 2, 3, 3), (3, 2, 5, 5), stride=2, padding=2),
    Case((2, 3, 30, 27), (20, 3, 7, 7), stride=2, padding=3),
    Case((2, 5, 21, 19), (7, 5, 8, 11), stride=(2, 3), padding=((5, 0), (0, 4))),
    Case((1, 2, 9, 21), (5, 2, 4, 13), stride=(1, 4), padding=1),
    Case((1, 2, 1, 3), (3, 2, 7, 7), stride=2, padding=((9, 0), (3, 8))),
    Case((2, 3, 4, 11, 12), (5, 3, 3, 7, 7), stride=(1, 2, 2), padding=(2, 1, 3)),
    # Windows that end before the first cell, or with it.
    Case((2, 2, 1, 30), (3, 2, 9, 9), stride=4, padding=((14, 0), (2, 2))),
    Case((2, 2, 9, 1), (3, 2, 5, 5), stride=2, padding=((2, 2), (7, 0))),
    Case((1, 2, 2, 1), (3, 2, 9, 9), stride=4, padding=((13, 0), (12, 0))),
    Case((2, 1, 12, 4), (1, 1, 5, 5), stride=2, padding=((4, 7), (9, 4))),
    Case((2, 3, 4, 11, 12), (5, 3, 3, 5, 5), stride=(1, 2, 2), padding=(2, 1, 0)),
    Case((2, 3, 5, 9, 9), (4, 3, 2, 6, 5), (1, 2, 2), (0, 2, 2), (3, 1, 1)),
]


@st.composite
def convolutions(draw):
    strides = draw(st.sampled_from([(2, 2), (1, 2), (3, 1), (4, 3), (2, 5)]))
    side = draw(st.sampled_from([3, 4]))
    kernel = [draw(st.integers((side - 1) * s + 1, side * s)) for s in strides]
    pads = [(draw(st.integers(0, 20)), draw(st.integers(0, 12))) for _ in strides]
    size = [
        draw(st.integers(max(1, k + s - sum(pad)), 30))  # two outputs at least
        for k, s, pad in zip(kernel, strides, pads, strict=True)
    ]
    n, c, f = draw(st.integers(1, 4)), draw(st.integers(1, 5)), draw(st.integers(1, 20))
    seed = draw(st.integers(0, 9))
    return Case((n, c, *size), (f, c, *kernel), strides, tuple(pads), seed=seed)


@each_dtype
@pytest.mark.parametrize("case", CASES, ids=str)
def test_close(case, dtype):
    assert chosen(case) is strided
    assert_close(case, dtype)


@each_dtype
@settings(max_examples=40)
@given(case=convolutions())
def test_any_convolution(dtype, case):
    assert chosen(case) is strided
    assert_close(case, dtype)


def described(case):
    return geometry(case.x_shape, case.w_shape, case.stride, case.padding, case.dilation, 1)


def chosen(case):
    return plan(described(case), np.dtype(np.float32), "forward", "winograd").algorithm


@pytest.mark.parametrize("images", [1, 5])
def test_blocks_of_images(images, monkeypatch):
    """Of x' that would be large: at most two images at a time."""
    case = Case((images, 3, 23, 21), (10, 3, 5, 5), 2, ((1, 0), (0, 2)))
    inner = strided._sorted(described(case))
    monkeypatch.setattr(strided, "BLOCK_BYTES", 8 * inner.channels * 12 * 12 * 2)
    cut = strided.tiles(described(case), 8, "forward")
    numbers = [block.geometry.batch for block in cut.blocks]
    assert numbers == ([1] if images == 1 else [1, 1, 2, 1])
    assert_close(case, np.float64)


def test_what_it_becomes():
    """The example of the module: cells and taps by their remainders."""
    x, w = np.arange(7.0).reshape(1, 1, 1, 7), np.arange(1.0, 16).reshape(1, 1, 3, 5)
    case = Case(x.shape, w.shape, (1, 2), ((1, 1), (0, 0)))
    made = plan(described(case), x.dtype, "forward", "winograd")
    images = strided._sort(made, made.tiles.blocks[0], x[:, :, None])
    assert images.shape == (1, 2, 1, 3, 4)
    np.testing.assert_array_equal(images[0, :, 0, 1], [[0, 2, 4, 6], [1, 3, 5, 0]])
    assert not images[0, :, 0, [0, 2]].any()
    taps = strided._sort_taps(made, w[:, :, None])
    np.testing.assert_array_equal(taps[0, :, 0, 0], [[1, 3, 5], [2, 4, 0]])


def test_what_is_not_read_makes_no_difference():
    """The last tap of some remainders is none, and cells beyond the last window are in no tile."""
    case = Case((2, 3, 30, 33), (4, 3, 7, 5), stride=(3, 2))
    x, w, _, dy = case.arrays(np.float32)
    height, width = ((o - 1) * s + k for o, s, k in zip(case.output, (3, 2), (7, 5), strict=True))
    assert (height, width) == (28, 33)
    spoilt = x.copy()
    spoilt[:, :, height:] = np.nan
    options = {"stride": (3, 2), "algorithm": "winograd"}
    for name, arguments in (("conv", (w,)), ("conv_weight_grad", (w.shape,))):
        function = getattr(cyconv, name)
        first, second = ((dy, x), (dy, spoilt)) if "grad" in name else ((x,), (spoilt,))
        wanted, found = (function(*arrays, *arguments, **options) for arrays in (first, second))
        np.testing.assert_array_equal(found, wanted)
    dx = cyconv.conv_input_grad(dy, w, x.shape, **options)
    assert (dx[:, :, height:] == 0).all()
    assert (dx[:, :, :height] != 0).all()


@each_dtype
@pytest.mark.parametrize("transposed", [False, True])
def test_frozen(dtype, transposed, rng, monkeypatch):
    """One pack for every size of x, of which the result is made."""
    packs, make = [], strided.prepare
    monkeypatch.setattr(strided, "prepare", lambda *given: packs.append(make(*given)) or packs[-1])
    kind = cyconv.ConvTranspose2D if transposed else cyconv.Conv2D
    options = {"stride": 2, "padding": 2, "rng": 0, "algorithm": "winograd", "dtype": dtype}
    layer, other = kind(3, 7, 5, **options), kind(3, 7, 5, **options)
    layer.freeze()
    for size in (12, 9, 40):
        x = rng.standard_normal((2, 3, size, size + 1)).astype(dtype)
        wanted = other(x)
        np.testing.assert_allclose(layer(x), wanted, atol=1e-6 * abs(wanted).max())
    assert len(packs) == 1
    packs[0][...] = 0
    assert (layer(x) == layer.bias[:, None, None]).all()


@pytest.mark.parametrize("data_format", ["channels_first", "channels_last"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_other_arrays(rng, data_format, dtype):
    """Other layouts and types, strange strides, and a border that is not zero."""
    x = rng.standard_normal((2, 4, 19, 20)).astype(dtype)
    w = rng.standard_normal((6, 4, 5, 5)).astype(dtype)
    options = {"stride": 2, "padding": 2, "padding_mode": "reflect"}
    wanted = cyconv.conv(x, w, algorithm="gemm", **options)
    last = data_format == "channels_last"
    given = np.asfortranarray(np.moveaxis(x, 1, -1)) if last else np.repeat(x, 2, -1)[..., ::2]
    found = cyconv.conv(given, w, data_format=data_format, algorithm="winograd", **options)
    found = np.moveaxis(found, -1, 1) if last else found
    bound = 2e-3 if dtype == np.float16 else 5e-6
    assert abs(found - wanted).max() <= bound * abs(wanted).max()


@pytest.mark.parametrize(
    "case",
    [
        Case((1, 2, 9, 9), (2, 2, 4, 4), stride=2),
        Case((1, 2, 9, 9), (2, 2, 9, 9), stride=2),
        Case((1, 2, 9, 9), (2, 2, 7, 5), stride=2),
        Case((1, 2, 9, 9), (2, 2, 5, 3), stride=2),
        Case((1, 2, 15, 15), (2, 2, 5, 5), stride=2, dilation=(1, 2)),
        Case((1, 2, 9, 9), (2, 1, 5, 5), stride=2, groups=2),
        Case((1, 2, 9, 9, 9), (2, 2, 3, 5, 5), stride=2),
        Case((1, 2, 9), (2, 2, 5), stride=2),
    ],
    ids=str,
)
def test_what_it_cannot_serve(case):
    x, w, *_ = case.arrays()
    with pytest.raises(ValueError, match="winograd"):
        cyconv.conv(x, w, algorithm="winograd", **case.options)


def test_float32_error():
    """At most 5e-6 of the largest value, where auto takes it."""
    case = Case((4, 3, 227, 227), (96, 3, 11, 11), stride=4)
    g = described(case)
    for pass_ in ("forward", "input_grad", "weight_grad"):
        assert strided.pays(g, pass_, 4)
    assert_close(case, np.float32)


def test_adjoint():
    """y . dy = x . dx = w . dw"""
    case = CASES[2]
    x, w, _, dy = case.arrays()
    options = {**case.options, "algorithm": "winograd"}
    y = cyconv.conv(x, w, **options)
    dx = cyconv.conv_input_grad(dy, w, x.shape, **options)
    dw = cyconv.conv_weight_grad(dy, x, w.shape, **options)
    np.testing.assert_allclose([(x * dx).sum(), (w * dw).sum()], (y * dy).sum())
