"""The whole space of options: a Trial is one convolution and all that may be asked of it.

Hypothesis draws it (`trials`), `Trial.results` asks cyconv, and `Trial.wanted` the definition.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import reference
from hypothesis import strategies as st
from test_arrays import ODD
from test_padding import MODES, bordered, fold, pads_of

import cyconv

FLOATS = ["float16", "float32", "float64"]
DTYPES = [*FLOATS, "float32", "float64", "int8", "uint8", "int32", "int64", "bool"]
LAYERS = {
    (False, 1): cyconv.Conv1D,
    (False, 2): cyconv.Conv2D,
    (False, 3): cyconv.Conv3D,
    (True, 1): cyconv.ConvTranspose1D,
    (True, 2): cyconv.ConvTranspose2D,
    (True, 3): cyconv.ConvTranspose3D,
}


@dataclass(frozen=True)
class Trial:
    """One convolution, or transposed convolution, by functions or by a layer. Its shapes are those
    of a batch with channels first; `pads` are what `padding` comes to."""

    x_shape: tuple[int, ...]
    w_shape: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    padding: Any
    pads: tuple[tuple[int, int], ...]
    mode: str = "zeros"
    transposed: bool = False
    extra: tuple[int, ...] = ()  # output_padding
    algorithm: str = "auto"
    last: bool = False
    batched: bool = True
    bias: bool = True
    layer: str = ""  # "", "layer" or "frozen"
    dtypes: tuple[str, ...] = ("float64",) * 4  # of x, w, b, dy; a layer has that of w
    layouts: tuple[str, ...] = ("",) * 4
    out: bool = False
    threads: int = 1
    normal: bool = False  # normally distributed values, not small integers
    seed: int = 0

    @property
    def rank(self):
        return len(self.stride)

    @property
    def filters(self):
        return self.w_shape[1] * self.groups if self.transposed else self.w_shape[0]

    @property
    def output(self):
        numbers = self.stride, self.dilation, self.pads
        axes = zip(self.x_shape[2:], self.w_shape[2:], *numbers, strict=True)
        if not self.transposed:
            return tuple((n + sum(p) - d * (k - 1) - 1) // s + 1 for n, k, s, d, p in axes)
        return tuple(
            (n - 1) * s + d * (k - 1) + 1 + e - sum(p)
            for (n, k, s, d, p), e in zip(axes, self.extra, strict=True)
        )

    @property
    def options(self):
        """As the functions take them."""
        shared = {
            "stride": self.stride,
            "padding": self.padding,
            "dilation": self.dilation,
            "groups": self.groups,
            "data_format": "channels_last" if self.last else "channels_first",
            "algorithm": self.algorithm,
        }
        if self.transposed:
            return shared | {"output_padding": self.extra}
        return shared | {"padding_mode": self.mode}

    def arrays(self):
        """x, w, b, dy as they are handed over."""
        rng = np.random.default_rng(self.seed)
        y_shape = self.x_shape[0], self.filters, *self.output
        given = []
        for i, shape in enumerate((self.x_shape, self.w_shape, (self.filters,), y_shape)):
            dtype = np.dtype(self.dtypes[i])
            if self.normal:
                values = rng.standard_normal(shape)
            else:  # so small that sums are exact, even in float32
                values = rng.integers(-4 if dtype.kind in "if" else 0, 5, shape)
            values = values.astype(dtype)
            if i in (0, 3):
                values = values if self.batched else values[0]
                values = last(values, self.rank) if self.last else values
            if self.layouts[i] and values.size:
                values = ODD[self.layouts[i]](values)
            given.append(values)
        return given

    @property
    def dtype(self):
        """Of a layer."""
        dtype = np.dtype(self.dtypes[1])
        return dtype if dtype.kind == "f" else np.dtype(np.float64)

    @property
    def result_dtypes(self):
        """Of y, dx, dw and db."""
        if self.layer:
            return (self.dtype,) * 4
        x, w, b, dy = self.dtypes
        y = common(x, w, b) if self.bias else common(x, w)
        return (y, *(self.dtype,) * 3) if self.transposed else (y, common(dy, w), common(dy, x))

    @property
    def may_be_winograd(self):
        """Whether sums need not be exact."""
        strides = {*self.stride[:-2], self.groups}, self.stride[-2:]
        served = self.rank > 1 and self.w_shape[-2:] == (3, 3) and strides[0] == {1}
        served = served and strides[1] in ((1, 1), (2, 2))
        return served and self.algorithm in ("auto", "winograd")

    def results(self, image=None):
        """y, dx, dw and, of a layer, db, of all images or of one. What no function of the face
        computes, a layer does."""
        x, w, b, dy = self.arrays()
        b = b if self.bias else None
        if image is not None:
            x, dy = x[image : image + 1], dy[image : image + 1]
        if self.layer:
            return self._by_layer(x, w, b, dy, self.layer == "frozen")
        if self.transposed:
            y = self._call(cyconv.conv_transpose, (x, w, b), dy.shape)
            return [y, *self._by_layer(x, w, b, dy, False)[1:]]
        return [
            self._call(cyconv.conv, (x, w, b), dy.shape),
            self._call(cyconv.conv_input_grad, (dy, w, x.shape), x.shape),
            self._call(cyconv.conv_weight_grad, (dy, x, w.shape), w.shape),
        ]

    def _call(self, function, arguments, shape):
        if not self.out:
            return function(*arguments, **self.options)
        out = np.full(shape, np.nan, common(*(a for a in arguments if isinstance(a, np.ndarray))))
        assert function(*arguments, **self.options, out=out) is out
        return out

    def _by_layer(self, x, w, b, dy, frozen):
        kind = LAYERS[self.transposed, self.rank]
        channels = self.x_shape[1], self.filters
        options = {"bias": b is not None, "dtype": self.dtype, **self.options}
        made = kind(*channels, self.w_shape[2:], **options)
        made.load_state_dict({"weight": w} if b is None else {"weight": w, "bias": b})
        y = made.freeze()(x) if frozen else made.forward(x)
        made.forward(x)
        dx = made.backward(dy)
        return [y, dx, made.weight_grad] + ([] if b is None else [made.bias_grad])

    def wanted(self, of=np.array):
        """The same by the definition, in float64: of the arrays, or of `of` each of them."""
        x, w, b, dy = (of(np.float64(a)) for a in self.arrays())
        x, dy = self._first(x), self._first(dy)
        define = self._transposed if self.transposed else self._plain
        y, dx, dw = define(x, w, dy)
        if self.bias:
            y = y + b.reshape(-1, *[1] * self.rank)
        # NumPy adds equal terms up one by one here, and their rounding errors with them.
        db = dy.sum(axis=(0, *range(2, dy.ndim)), dtype=np.longdouble).astype(np.float64)
        return [self._back(y), self._back(dx), dw, db]

    def _plain(self, x, w, dy):
        numbers = {"stride": self.stride, "dilation": self.dilation, "groups": self.groups}
        if self.mode == "zeros" or not len(x):
            numbers["padding"] = self.pads
            padded = x
        else:
            padded = bordered(x, self.pads, self.mode)
        y = reference.conv(padded, w, **numbers)
        dx = reference.conv_input_grad(dy, w, padded.shape, **numbers)
        if padded is not x:
            dx = fold(dx, x.shape, self.pads, self.mode)
        return y, dx, reference.conv_weight_grad(dy, padded, w.shape, **numbers)

    def _transposed(self, x, w, dy):
        """The adjoint of a convolution over the whole output, before `pads` are cut off. Where
        output_padding makes that convolution longer than x, x goes on with zeros."""
        numbers = {"stride": self.stride, "dilation": self.dilation, "groups": self.groups}
        whole = [n + sum(p) for n, p in zip(self.output, self.pads, strict=True)]
        sizes = zip(whole, self.w_shape[2:], self.stride, self.dilation, strict=True)
        longer = [(n - d * (k - 1) - 1) // s + 1 for n, k, s, d in sizes]
        high = [(0, a - b) for a, b in zip(longer, x.shape[2:], strict=True)]
        x_long = np.pad(x, [(0, 0), (0, 0), *high])
        dy_whole = np.pad(dy, [(0, 0), (0, 0), *self.pads])
        y = reference.conv_input_grad(x_long, w, dy_whole.shape, **numbers)
        inside = [slice(low, low + n) for (low, _), n in zip(self.pads, self.output, strict=True)]
        dx = reference.conv(dy_whole, w, **numbers)
        dx = dx[(..., *(slice(0, n) for n in x.shape[2:]))]
        return (
            y[(..., *inside)],
            dx,
            reference.conv_weight_grad(x_long, dy_whole, w.shape, **numbers),
        )

    def _first(self, images):
        """A batch with channels first."""
        images = np.moveaxis(images, -1, -1 - self.rank) if self.last else images
        return images if self.batched else images[None]

    def _back(self, images):
        images = images if self.batched else images[0]
        return np.moveaxis(images, -1 - self.rank, -1) if self.last else images


def common(*arrays):
    """The dtype of what is computed of them."""
    dtype = np.result_type(*arrays)
    return dtype.newbyteorder("=") if dtype.kind == "f" else np.dtype(np.float64)


def last(images, rank):
    return np.ascontiguousarray(np.moveaxis(images, -1 - rank, -1))


# Sizes of a kind each: the most channels and filters of a group, groups, images, taps an axis, and
# cells of the last axis and of the others beyond the fewest.
KINDS = {
    "tiny": (3, 3, 3, 3, 4, 6, 6),
    "wide": (24, 24, 2, 2, 3, 12, 6),
    "thin": (2, 2, 20, 3, 3, 20, 8),
    "long": (5, 12, 2, 2, 7, 300, 2),
    "winograd": (34, 34, 1, 5, 3, 30, 30),
}


@st.composite
def trials(draw, algorithms=("auto", "gemm", "direct", "winograd")):
    """Any Trial at all. Those that ask for Winograd, and some of the others, can have it."""
    algorithm = draw(st.sampled_from(algorithms))
    kind = "winograd" if algorithm == "winograd" else draw(st.sampled_from([*KINDS]))
    channels, filters, groups, images, taps, along, across = KINDS[kind]
    only = kind == "winograd"
    rank = draw(st.integers(2, 3) if only else st.integers(1, 3))

    def numbers(strategy):
        return tuple(draw(strategy) for _ in range(rank))

    kernel = numbers(st.integers(1, taps))
    # A stride may be any number, and so may the dilation of a single tap.
    far = [1, 1, 1, 2, 2, 3, 4, 2**40]
    stride = numbers(st.sampled_from(far))
    dilation = numbers(st.integers(1, 3))
    if only:  # 3x3 planes, and along the depth any kernel
        planar = draw(st.sampled_from([1, 1, 2]))
        apart = [draw(st.sampled_from([1, 1, 2, 3, 7] if planar == 1 else [1])) for _ in range(2)]
        kernel, dilation = (*kernel[:-2], 3, 3), (*dilation[:-2], *apart)
        stride = (*(1 for _ in kernel[:-2]), planar, planar)
    groups = draw(st.integers(1, groups))
    transposed = draw(st.booleans())
    if transposed:
        stride = tuple(min(s, 4) for s in stride)
    channels, filters = draw(st.integers(1, channels)), draw(st.integers(1, filters))
    shared = {
        "stride": stride,
        "dilation": dilation,
        "groups": groups,
        "transposed": transposed,
        "algorithm": algorithm,
        **draw(_manners()),
    }
    axes = list(zip(kernel, stride, dilation, strict=True))
    most = [min(across, 4) if rank == 3 else across, across, along][-rank:]
    fewest = [2 * (only and s == 2) for s in stride]  # with one output there is no stride
    spare = [draw(st.integers(*cells)) for cells in zip(fewest, most, strict=True)]
    batch = draw(st.integers(0, images)) if shared["batched"] else 1
    define = _transposed if transposed else _plain
    size, more = draw(define(axes, spare))
    batch = min(batch, max(1, 20_000 // math.prod(size)))
    ends = (channels * groups, filters) if transposed else (filters * groups, channels)
    x_shape = batch, channels * groups, *size
    return Trial(x_shape, (*ends, *kernel), **shared, **more)


@st.composite
def _manners(draw):
    """How it is asked for."""
    normal = draw(st.booleans())
    dtype = st.sampled_from(FLOATS if normal else DTYPES)
    layout = st.sampled_from(["", "", *ODD])
    return {
        "last": draw(st.booleans()),
        "batched": draw(st.integers(0, 3)) > 0,
        "bias": draw(st.booleans()),
        "layer": draw(st.sampled_from(["", "", "layer", "frozen"])),
        "dtypes": (draw(dtype),) * 4 if draw(st.booleans()) else tuple(draw(dtype) for _ in "xwby"),
        "layouts": tuple(draw(layout) for _ in "xwby"),
        "out": draw(st.booleans()),
        "threads": draw(st.integers(1, 8)),
        "normal": normal,
        "seed": draw(st.integers(0, 9999)),
    }


@st.composite
def _plain(draw, axes, spare):
    """The size of x, and the padding of a convolution."""
    names = ["valid", "same", "same_lower", *(["causal"] if len(axes) == 1 else [])]
    name = draw(st.sampled_from(["", "", *names]))
    mode = draw(st.sampled_from(["zeros"] * 4 + [*MODES]))
    pad = st.integers(0, 4)
    pads, size = [], []
    for (k, s, d), more in zip(axes, spare, strict=True):
        reach = d * (k - 1) + 1
        pair = draw(pad), draw(pad)
        least = reach if name else max(1, reach - sum(pair))
        if mode != "zeros":
            least = max(least, *pair, reach) + 1
        size.append(least + more)
        pads.append(pads_of(name, size[-1], k, s, d) if name else pair)
    padding = name or tuple(pads)
    return size, {"padding": padding, "pads": tuple(pads), "mode": mode}


@st.composite
def _transposed(draw, axes, spare):
    """The size of x, and the padding of a transposed convolution."""
    pads, size, extra = [], [], []
    for (k, s, d), more in zip(axes, spare, strict=True):
        size.append(1 + more // s)
        extra.append(draw(st.integers(0, max(s, d) - 1)))
        most = ((size[-1] - 1) * s + d * (k - 1) + extra[-1]) // 2
        pads.append(draw(st.integers(0, min(4, most))))
    pairs = tuple((p, p) for p in pads)
    return size, {"padding": tuple(pads), "pads": pairs, "extra": tuple(extra)}
