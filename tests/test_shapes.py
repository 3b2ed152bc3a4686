"""Arrays whose shapes do not fit, sizes too large to count, and large ones that are legal."""

import tracemalloc

import numpy as np
import pytest
import reference
from calls import CROOKED, assert_raises, calls

import cyconv

HUGE = 2**62


def huge(*shape, dtype=np.float32):
    """An array of one cell, which says that it has more."""
    return np.broadcast_to(np.zeros((), dtype), shape)


# For the crooked case: x (2, 4, 6, 7), w (6, 2, 3, 2), b (6,), y (2, 6, 3, 8), cols (2, 24, 24),
# in 2 groups. Function, argument, a shape it must not have, numbers that the message shows.
WRONG_SHAPES = [
    # ranks
    ("conv", "x", (), [()]),
    ("conv", "x", (6, 7), [(6, 7)]),
    ("conv", "x", (2, 4, 1, 6, 7), [(2, 4, 1, 6, 7)]),
    ("conv", "w", (), [()]),
    ("conv", "w", (6, 2), [(6, 2)]),
    ("conv", "w", (6, 2, 1, 1, 1, 1), [(6, 2, 1, 1, 1, 1)]),
    ("conv_forward", "X", (6, 7), [(6, 7)]),
    ("conv_forward", "W", (6, 2), [(6, 2)]),
    ("conv_input_grad", "dy", (6, 3, 8), [(6, 3, 8)]),
    ("conv_input_grad", "w", (6, 2), [(6, 2)]),
    ("conv_weight_grad", "dy", (2, 6, 3, 8, 1), [(2, 6, 3, 8, 1)]),
    ("conv_weight_grad", "x", (6, 7), [(6, 7)]),
    ("im2col", "x", (4, 6), [(4, 6)]),
    ("im2col", "x", (2, 4, 1, 1, 6, 7), [(2, 4, 1, 1, 6, 7)]),
    ("col2im", "cols", (24, 24), [(24, 24)]),
    ("col2im", "cols", (1, 2, 24, 24), [(1, 2, 24, 24)]),
    # without a batch axis: then dy has none, and channels are still counted
    ("conv", "x", (6, 6, 7), [6]),
    ("conv", "x", (0, 6, 7), [0]),
    ("conv_backward", "dout", (6, 3, 8), [(6, 3, 8)]),
    # channels and filters
    ("conv", "x", (2, 6, 6, 7), [6]),
    ("conv", "w", (6, 4, 3, 2), [4]),
    ("conv", "w", (5, 2, 3, 2), [5, 2]),
    ("conv_forward", "X", (2, 6, 6, 7), [6]),
    ("conv_forward", "W", (5, 2, 3, 2), [5, 2]),
    ("conv_input_grad", "dy", (2, 5, 3, 8), [5, 6]),
    ("conv_weight_grad", "dy", (2, 4, 3, 8), [4, 6]),
    ("conv_weight_grad", "x", (2, 5, 6, 7), [5]),
    ("conv_backward", "dout", (2, 5, 3, 8), [5, 6]),
    # b
    ("conv", "b", (), []),
    ("conv", "b", (5,), [5, 6]),
    ("conv", "b", (1,), [1, 6]),
    ("conv", "b", (6, 1), [6]),
    ("conv", "b", (1, 6), [6]),
    ("conv", "b", (0,), [0, 6]),
    ("conv_forward", "b", (5,), [5, 6]),
    ("conv_forward", "b", (1, 6), [6]),
    ("conv_forward", "b", (6, 2), [6]),
    ("conv_forward", "b", (6, 1, 1), [6]),
    ("conv_forward", "b", (5, 1), [5, 6]),
    # batches and sizes of dy
    ("conv_input_grad", "dy", (3, 6, 3, 8), [3, 2]),
    ("conv_input_grad", "dy", (1, 6, 3, 8), [1, 2]),
    ("conv_input_grad", "dy", (2, 6, 4, 8), [4, 3]),
    ("conv_input_grad", "dy", (2, 6, 3, 7), [7, 8]),
    ("conv_weight_grad", "dy", (3, 6, 3, 8), [3, 2]),
    ("conv_weight_grad", "dy", (2, 6, 2, 8), [2, 3]),
    ("conv_weight_grad", "dy", (2, 6, 3, 1), [1, 8]),
    ("conv_backward", "dout", (1, 6, 3, 8), [1, 2]),
    ("conv_backward", "dout", (2, 6, 3, 9), [9, 8]),
    ("conv_backward", "dout", (2, 6, 24), [24]),
    ("conv_backward", "dout", (), []),
    # columns
    ("col2im", "cols", (2, 25, 24), [25]),
    ("col2im", "cols", (2, 5, 24), [5]),
    ("col2im", "cols", (2, 24, 23), [23, 24]),
    # zero dimensions, other than N
    ("conv", "x", (2, 0, 6, 7), [0]),
    ("conv", "x", (2, 4, 0, 7), [0]),
    ("conv", "w", (0, 2, 3, 2), [0]),
    ("conv", "w", (6, 0, 3, 2), [0]),
    ("conv", "w", (6, 2, 3, 0), [0]),
    ("conv_forward", "X", (2, 4, 6, 0), [0]),
    ("conv_forward", "W", (6, 2, 0, 2), [0]),
    ("conv_input_grad", "dy", (2, 0, 3, 8), [0]),
    ("conv_input_grad", "dy", (2, 6, 0, 8), [0]),
    ("conv_input_grad", "w", (6, 2, 3, 0), [0]),
    ("conv_weight_grad", "dy", (2, 6, 3, 0), [0]),
    ("conv_weight_grad", "x", (2, 4, 0, 7), [0]),
    ("im2col", "x", (2, 0, 6, 7), [0]),
    ("im2col", "x", (2, 4, 6, 0), [0]),
    ("col2im", "cols", (2, 0, 24), [0]),
    ("col2im", "cols", (2, 24, 0), [0]),
    # kernels larger than the padded input, which is 7 by 10; that of w is dilated to 3 by 3
    ("conv", "w", (6, 2, 8, 2), [8, 7]),
    ("conv", "w", (6, 2, 3, 7), [10]),
    ("conv", "x", (2, 4, 1, 7), [2, 3]),
    ("conv_forward", "W", (6, 2, 8, 2), [8, 7]),
    ("conv_input_grad", "w", (6, 2, 8, 2), [8, 7]),
    ("conv_weight_grad", "x", (2, 4, 1, 7), [2, 3]),
    ("im2col", "x", (2, 4, 1, 7), [2, 3]),
]


@pytest.mark.parametrize(("name", "argument", "shape", "numbers"), WRONG_SHAPES)
def test_wrong_shapes(name, argument, shape, numbers):
    assert_raises(ValueError, calls()[name], *numbers, **{argument: np.zeros(shape)})


# The same for shapes that are arguments themselves, and for groups.
WRONG_OPTIONS = [
    ("conv_input_grad", "x_shape", (), [()]),
    ("conv_input_grad", "x_shape", (4, 6), [(4, 6)]),
    ("conv_input_grad", "x_shape", (2, 4, 6, 7, 8), [(2, 4, 6, 7, 8)]),
    ("conv_input_grad", "x_shape", (2, 6, 7), [2]),
    ("conv_input_grad", "x_shape", (2, 5, 6, 7), [5]),
    ("conv_input_grad", "x_shape", (2, 2, 6, 7), [2]),
    ("conv_input_grad", "x_shape", (2, 0, 6, 7), [0]),
    ("conv_input_grad", "x_shape", (2, 4, 6, 0), [0]),
    ("conv_input_grad", "x_shape", (2, 4, 1, 7), [2, 3]),
    ("conv_weight_grad", "w_shape", (), [()]),
    ("conv_weight_grad", "w_shape", (6, 2, 3), [(6, 2, 3)]),
    ("conv_weight_grad", "w_shape", (6, 2, 3, 2, 1, 1), [(6, 2, 3, 2, 1, 1)]),
    ("conv_weight_grad", "w_shape", (6, 4, 3, 2), [4]),
    ("conv_weight_grad", "w_shape", (5, 2, 3, 2), [5, 2]),
    ("conv_weight_grad", "w_shape", (0, 2, 3, 2), [0]),
    ("conv_weight_grad", "w_shape", (6, 2, 0, 2), [0]),
    ("conv_weight_grad", "w_shape", (6, 2, 8, 2), [8, 7]),
    ("col2im", "x_size", (), [()]),
    ("col2im", "x_size", (1, 1, 6, 7), [(1, 1, 6, 7)]),
    ("col2im", "x_size", (6, 0), [0]),
    ("col2im", "x_size", (1, 7), [2, 3]),
    ("col2im", "kernel_size", (3, 2, 1), [2]),
    ("col2im", "kernel_size", (8, 3), [8, 7]),
    ("im2col", "kernel_size", (8, 2), [8, 7]),
    ("im2col", "kernel_size", (3, 7), [10]),
    ("conv", "groups", 3, [3]),
    ("conv", "groups", 4, [4]),
    ("conv", "groups", 1, [1]),
    ("conv_forward", "groups", 3, [3]),
    ("conv_input_grad", "groups", 4, [4]),
    ("conv_weight_grad", "groups", 4, [4]),
    ("conv_weight_grad", "groups", 3, [3]),
]


@pytest.mark.parametrize(("name", "argument", "value", "numbers"), WRONG_OPTIONS)
def test_wrong_options(name, argument, value, numbers):
    """Of groups and channels nobody knows which one is wrong: the message may name either."""
    with pytest.raises(ValueError, match=rf"\b({argument}|w|x|X|W|w_shape)\b") as error:
        calls()[name](**{argument: value})
    for number in numbers:
        assert str(number) in str(error.value)


def test_batches_that_differ():
    with pytest.raises(ValueError, match=r"\b(dy|x_shape)\b.*\b[23]\b.*\b[23]\b"):
        calls()["conv_input_grad"](x_shape=(3, 4, 6, 7))
    with pytest.raises(ValueError, match=r"\b(dy|x)\b.*\b[23]\b.*\b[23]\b"):
        calls()["conv_weight_grad"](x=np.zeros((3, 4, 6, 7)))
    with pytest.raises(ValueError, match=r"\bdy\b.*\(6, 3, 8\).*\(2, 6, 3, 8\)"):
        calls()["conv_weight_grad"](x=np.zeros((4, 6, 7)))  # x has no batch axis, and dy has


@pytest.mark.parametrize("name", calls())
def test_dilated_beyond_the_padded_input(name):
    with pytest.raises(ValueError, match=r"\b(dilation|w|W|w_shape|kernel_size|kernel)\b"):
        calls()[name](dilation=(4, 2))
    with pytest.raises(ValueError, match=r"\b(dilation|w|W|w_shape|kernel_size|kernel)\b"):
        calls()[name](dilation=HUGE)
    with pytest.raises(ValueError, match=r"\b(dilation|w|W|w_shape|kernel_size|kernel)\b"):
        calls()[name](dilation=2**63 - 1)


@pytest.mark.parametrize("name", calls())
def test_padding_too_large_to_add(name):
    assert_raises(ValueError, calls()[name], padding=2**63 - 1)
    assert_raises(ValueError, calls()[name], padding=((0, 0), (HUGE, HUGE)))


# Results, or columns, of more cells than a Py_ssize_t can count. The arguments take one cell each.
MANY = 2**30
UNCOUNTABLE = [
    ("conv", {"x": huge(MANY, 1, MANY), "w": huge(MANY, 1, 1)}),
    ("conv", {"x": huge(2, 1, 4, 5), "w": huge(3, 1, 1, 1), "padding": MANY}),
    ("conv", {"x": huge(1, 1, 3), "w": huge(1, 1, 1), "padding": 2**61}),
    ("conv_forward", {"X": huge(MANY, 1, MANY), "W": huge(MANY, 1, 3)}),
    (
        "conv_input_grad",
        {
            "dy": huge(MANY, 1, 1),
            "w": huge(1, MANY, 1),
            "x_shape": (MANY, MANY, MANY),
            "stride": MANY,
        },
    ),
    (
        "conv_weight_grad",
        {"dy": huge(1, MANY, 1), "x": huge(1, MANY, MANY), "w_shape": (MANY, MANY, MANY)},
    ),
    ("im2col", {"x": huge(MANY, 1, MANY), "kernel_size": 2**29}),
    ("im2col", {"x": huge(1, 1, 3, 3), "kernel_size": 2, "padding": MANY * 2}),
    ("col2im", {"cols": huge(MANY, MANY, 1), "x_size": (MANY,), "kernel_size": 1, "stride": MANY}),
]


@pytest.mark.parametrize(("name", "arguments"), UNCOUNTABLE)
def test_uncountable(name, arguments):
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"\b(x|X|w|W|dy|cols|x_shape|w_shape|x_size|padding)\b"):
        getattr(cyconv, name)(**arguments)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20  # nothing has been allocated for it


@pytest.mark.parametrize("stride", [HUGE, 2**63 - 1, (HUGE, 1, HUGE)])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_huge_stride(rng, rank, stride):
    """With one output an axis no step is ever taken."""
    if isinstance(stride, tuple):
        stride = stride[:rank]
    size, kernel = (5, 4, 6)[:rank], (2, 4, 3)[:rank]
    x = rng.integers(-4, 5, (2, 3, *size)).astype(float)
    w = rng.integers(-4, 5, (4, 3, *kernel)).astype(float)
    y = cyconv.conv(x, w, stride=stride)
    np.testing.assert_array_equal(y, reference.conv(x, w, stride=stride))
    np.testing.assert_array_equal(
        cyconv.conv_input_grad(y, w, x.shape, stride=stride),
        reference.conv_input_grad(y, w, x.shape, stride=stride),
    )
    np.testing.assert_array_equal(
        cyconv.conv_weight_grad(y, x, w.shape, stride=stride),
        reference.conv_weight_grad(y, x, w.shape, stride=stride),
    )
    cols = cyconv.im2col(x, kernel, stride=stride)
    np.testing.assert_array_equal(cols, reference.im2col(x, kernel, stride=stride))
    dx = cyconv.col2im(cols, size, kernel, stride=stride)
    np.testing.assert_array_equal(dx, reference.col2im(cols, size, kernel, stride=stride))


def test_huge_dilation_of_one_tap(rng):
    x, w = rng.standard_normal((2, 3, 5, 6)), rng.standard_normal((4, 3, 1, 1))
    y = cyconv.conv(x, w, dilation=HUGE)
    np.testing.assert_array_equal(y, cyconv.conv(x, w))
    dx = cyconv.conv_input_grad(y, w, x.shape, dilation=HUGE)
    np.testing.assert_array_equal(dx, cyconv.conv_input_grad(y, w, x.shape))


@pytest.mark.parametrize("far", [2**40, 2**60])
def test_strides_and_dilations_across_far_padding(far):
    x = np.array([[[1.0, 2.0, 3.0]]])
    y = cyconv.conv(x, np.array([[[10.0]]]), padding=far, stride=far)
    np.testing.assert_array_equal(y, [[[0, 10, 0]]])
    w = np.array([[[10.0, 100.0]]])
    y = cyconv.conv(x, w, padding=((0, far),), dilation=far)
    np.testing.assert_array_equal(y, [[[10, 20, 30]]])
    dx = cyconv.conv_input_grad(y, w, x.shape, padding=((far, 0),), dilation=far)
    np.testing.assert_array_equal(dx, [[[1000, 2000, 3000]]])


# Axes of x, the numbers of which just fit: size, kernel, stride, dilation, low and high pad.
LARGEST = 2**63 - 1
JUST_FITTING = [
    (4, 1, 2**62 - 1, 1, 0, LARGEST - 4),  # three outputs, of which one reads something
    (4, 1, LARGEST - 1, 1, 0, LARGEST - 4),
    (4, 1, 2**62 - 1, LARGEST, LARGEST - 4, 0),
    (3, 2, 2**20, LARGEST - 2, 2**62 - 3, 2**62 - 2),
    (4, 2, LARGEST // 3, LARGEST - 2, 3, LARGEST - 7),
    (5, 3, LARGEST, 2**62 - 1, 2**62 - 3, 2**62 - 3),
    (2, 2, LARGEST - 1, LARGEST - 1, 0, LARGEST - 2),
    (3, 4, 2**61, 2**61, 2**61, 2**62 - 1),
    (5, 2, 2**62 - 1, 2**62 - 2, 2**62, 2**62 - 6),
    (1, 1, 2**62 - 1, 1, 2**62 - 1, 2**62 - 1),
    (5, 2, 1, LARGEST - 1, 0, LARGEST - 5),
    (5, 2, 1, LARGEST - 6, LARGEST - 8, 3),
]


@pytest.mark.parametrize("algorithm", ["auto", "gemm", "direct"])
@pytest.mark.parametrize("axis", JUST_FITTING, ids=str)
def test_the_largest_numbers_that_fit(rng, axis, algorithm):
    """Along one axis, before and after a plain one."""
    plain = (5, 2, 1, 1, 1, 0)
    for both in ([axis, plain], [plain, axis], [axis]):
        size, kernel, stride, dilation, low, high = zip(*both, strict=True)
        padding = tuple(zip(low, high, strict=True))
        x = rng.integers(-4, 5, (2, 4, *size)).astype(float)
        w = rng.integers(-4, 5, (6, 2, *kernel)).astype(float)
        options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": 2}
        options["algorithm"] = algorithm
        y = cyconv.conv(x, w, **options)
        output = y.shape[2:]
        assert output == reference.output_size(size, kernel, **geometry_of(options))
        dy = rng.integers(-4, 5, y.shape).astype(float)
        dx = cyconv.conv_input_grad(dy, w, x.shape, **options)
        dw = cyconv.conv_weight_grad(dy, x, w.shape, **options)
        cols = cyconv.im2col(x, kernel, **geometry_of(options))

        # The same with three axes, as the definition has it.
        axes = [(1, 1, 1, 1, 0, 1)] * (3 - len(both))
        axes += zip(size, kernel, stride, dilation, low, output, strict=True)
        sizes, kernels, *_ = zip(*axes, strict=True)
        images, filters = x.reshape(2, 4, *sizes), w.reshape(2, 3, 2, *kernels)
        np.testing.assert_array_equal(
            y, reference.convolve(images, filters, None, axes).reshape(y.shape)
        )
        matrix = reference.columns(images, axes).reshape(*cols.shape[1:2], 2, -1).swapaxes(0, 1)
        np.testing.assert_array_equal(cols, matrix)
        rows = dy.reshape(2, 2, 3, -1).swapaxes(0, 1)  # (groups, n, filters, positions)
        by_group = matrix.reshape(2, 2, -1, matrix.shape[2]).swapaxes(0, 1)
        sums = np.einsum("gnfp,gnkp->gfk", rows, by_group)
        np.testing.assert_array_equal(dw, sums.reshape(dw.shape))
        cells = np.eye(x[0].size).reshape(-1, 4, *sizes)  # what each cell of an image does to y
        effects = reference.convolve(cells, filters, None, axes).reshape(len(cells), -1)
        np.testing.assert_array_equal(dx.reshape(2, -1), dy.reshape(2, -1) @ effects.T)
        back = rng.integers(-4, 5, cols.shape).astype(float)
        image = cyconv.col2im(back, size, kernel, **geometry_of(options))
        assert np.vdot(image, x) == np.vdot(back, cols)


def geometry_of(options):
    return {name: options[name] for name in ("stride", "padding", "dilation")}


@pytest.mark.parametrize("algorithm", ["auto", "gemm", "direct"])
@pytest.mark.parametrize(
    ("size", "kernel", "options"),
    [
        (2, 1, {"stride": LARGEST - 1, "padding": 2**62 - 2}),
        (2, 2, {"stride": 2**62 - 1, "dilation": 2**62 - 1, "padding": 2**62 - 1}),
        (2, 2, {"stride": 2**62, "dilation": 2**62 - 2, "padding": 2**62 - 3}),
        (1, 2, {"dilation": LARGEST - 1, "padding": 2**62 - 2}),
        (1, 2, {"dilation": 2**62 - 1, "output_padding": 2**62 - 2, "padding": 2**62 - 3}),
        (1, 1, {"stride": LARGEST, "output_padding": LARGEST - 1, "padding": 2**62 - 3}),
    ],
    ids=str,
)
def test_the_largest_numbers_of_a_transposed_convolution(rng, size, kernel, options, algorithm):
    x = rng.integers(-4, 5, (2, 4, size)).astype(float)
    w = rng.integers(-4, 5, (4, 3, kernel)).astype(float)
    y = cyconv.conv_transpose(x, w, algorithm=algorithm, **options)
    assert 1 <= y.shape[2] <= 9
    wanted = np.zeros_like(y)
    for i in range(size):
        for k in range(kernel):
            place = i * options.get("stride", 1) + k * options.get("dilation", 1)
            place -= options["padding"]
            if 0 <= place < y.shape[2]:
                wanted[:, :, place] += x[:, :, i] @ w[:, :, k]
    np.testing.assert_array_equal(y, wanted)
    layer = cyconv.ConvTranspose1D(4, 3, kernel, bias=False, dtype=float, **options)
    layer.weight = w
    np.testing.assert_array_equal(layer.forward(x), y)
    dy = rng.integers(-4, 5, y.shape).astype(float)
    dx = layer.backward(dy)
    assert np.vdot(dx, x) == np.vdot(dy, y) == np.vdot(layer.weight_grad, w)


def test_kernel_just_fits():
    x = np.ones((1, 4, 6, 7))
    options = {"x": x, "padding": ((1, 0), (1, 1))}
    assert cyconv.conv(w=np.ones((2, 4, 7, 9)), **options).shape == (1, 2, 1, 1)
    assert_raises(ValueError, cyconv.conv, 10, 9, w=np.ones((2, 4, 7, 10)), **options)


def test_crooked_is_as_the_tables_say():
    assert CROOKED.shapes == ((2, 4, 6, 7), (6, 2, 3, 2), (6,), (2, 6, 3, 8))
    assert calls()["col2im"].arrays["cols"].shape == (2, 24, 24)
