"""dask: convolutions of arrays in chunks, larger than memory, on as many machines as there are.

    >>> import dask.array as da
    >>> import numpy as np
    >>> from cyconv.interop.dask import conv
    >>> image = da.random.default_rng(0).random((1, 1, 400, 600), chunks=(1, 1, 100, 200))
    >>> blur = np.full((1, 1, 5, 5), 1 / 25)
    >>> y = conv(image, blur, padding="same")
    >>> y.shape, y.chunks[3]   # nothing is computed yet
    ((1, 1, 400, 600), (200, 200, 200))
    >>> float(y.mean().compute().round(3))
    0.497

An array may be chunked in its batch and its spatial axes; channels are brought together. Each
chunk of x makes the outputs whose windows have their middle in it. For that it needs some cells of
its neighbours, a halo; they are all that travels:

    chunks of x     . . . . . . . .|. . . . . . . .     kernel 5, stride 2; O is the middle
    output 0        x x O x x      |
    output 1            x x O x x  |                    outputs 0 to 2 are made of the left chunk
    output 2                x x O x|x                   and one cell of the right one,
    output 3                    x x|O x x               the others of the right chunk
    output 4                       |x x O x x           and two cells of the left one
    output 5                       |    x x O x x

So x is padded, cut along each axis into windowfuls that overlap, and what is left is a convolution
without padding of each. The results are those of cyconv's functions, up to the order of sums. The
gradient by the weights adds up those of all chunks, in a tree.

dask works on several chunks at once, so let each have one thread: ``CYCONV_NUM_THREADS=1``, in the
environment of the workers, or `cyconv.set_num_threads`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import cyconv
from cyconv.interop.chunks import Axis, Range, axes_of, overlap, sizes

try:
    import dask.array as da
except ImportError as error:
    raise ImportError(
        "cyconv.interop.dask needs the package dask: pip install 'cyconv[dask]'"
    ) from error

Array = NDArray[Any]
DaskArray = Any
Options = dict[str, Any]

# What numpy.pad, and so dask.array.pad, calls the padding modes.
PAD_MODES = {
    "zeros": "constant",
    "reflect": "reflect",
    "symmetric": "symmetric",
    "replicate": "edge",
    "circular": "wrap",
}


def conv(
    x: DaskArray,
    w: Any,
    b: Any | None = None,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
    data_format: str = "channels_first",
    algorithm: str = "auto",
) -> DaskArray:
    """Convolve an array in chunks with a bank of filters: `cyconv.conv`, when computed.

    Parameters
    ----------
    x : dask array, shape (N, C, *spatial) or (C, *spatial)
    w : array, shape (F, C/groups, *kernel)
        A NumPy array, or a dask array, of which one chunk is made.
    b : array, shape (F,), optional
    stride, padding, dilation, groups, padding_mode, data_format, algorithm
        As for `cyconv.conv`.

    Returns
    -------
    dask array, shape (N, F, *output)
        In chunks about like those of x.

    Raises
    ------
    TypeError, ValueError
        As `cyconv.conv`, at once and not when computed.

    Examples
    --------
    >>> import dask.array as da
    >>> import numpy as np
    >>> from cyconv.interop.dask import conv
    >>> x = da.arange(10, chunks=5).reshape(1, 1, 10)
    >>> conv(x, np.ones((1, 1, 3)), padding=1, stride=2).compute()
    array([[[ 1.,  6., 12., 18., 24.]]])
    """
    x, w, b = _read("x", x), _whole(w), None if b is None else _whole(b)
    options = {
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
        "groups": groups,
        "padding_mode": padding_mode,
        "data_format": data_format,
        "algorithm": algorithm,
    }
    if x.ndim == w.ndim - 1:
        return conv(x[np.newaxis], w, b, **options)[0]
    # An empty batch computes nothing, but has every argument checked.
    y = cyconv.conv(_empty(x), _blank(w), None if b is None else _blank(b), **options)
    plan = _plan(x.shape, w.shape, y.shape, options)
    x, outputs = plan.windows(x)
    return da.blockwise(
        _conv_window,
        plan.index("f"),
        *(x, plan.index("c")),
        *(w, plan.w_index),
        *(b, None if b is None else "f"),
        options=plan.inner,
        adjust_chunks=plan.chunks(outputs),
        align_arrays=False,
        concatenate=True,
        token="conv",
        meta=np.empty((0,) * x.ndim, y.dtype),
    )


def conv_input_grad(
    dy: DaskArray,
    w: Any,
    x_shape: Iterable[int],
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
    data_format: str = "channels_first",
    algorithm: str = "auto",
) -> DaskArray:
    """Compute the gradient of a convolution by its input: `cyconv.conv_input_grad`, when computed.

    Parameters
    ----------
    dy : dask array, shape (N, F, *output)
    w : array, shape (F, C/groups, *kernel)
    x_shape : tuple of int
    stride, padding, dilation, groups, padding_mode, data_format, algorithm
        As for `cyconv.conv`.

    Returns
    -------
    dask array, shape x_shape
        In such chunks as `conv` makes those of dy from.

    Raises
    ------
    TypeError, ValueError
        As `cyconv.conv_input_grad`, at once and not when computed.

    Examples
    --------
    >>> import dask.array as da
    >>> import numpy as np
    >>> from cyconv.interop.dask import conv_input_grad
    >>> dy = da.ones((1, 1, 6), chunks=(1, 1, 3))
    >>> dx = conv_input_grad(dy, np.ones((1, 1, 3)), (1, 1, 6), padding=1)
    >>> dx.chunks[2]
    (3, 3)
    >>> dx.compute()
    array([[[2., 3., 3., 3., 3., 2.]]])
    """
    dy, w, x_shape = _read("dy", dy), _whole(w), tuple(x_shape)
    options = {
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
        "groups": groups,
        "padding_mode": padding_mode,
        "data_format": data_format,
        "algorithm": algorithm,
    }
    if dy.ndim == w.ndim - 1:
        return conv_input_grad(dy[np.newaxis], w, (1, *x_shape), **options)[0]
    dx = cyconv.conv_input_grad(_empty(dy), _blank(w), (0, *x_shape[1:]), **options)
    _check_batch(dy, x_shape)
    plan = _plan(x_shape, w.shape, dy.shape, options)
    dy = plan.together(dy)
    border = padding_mode != "zeros"
    spans = [axis.spans(dy.chunks[plan.first + k], border) for k, axis in enumerate(plan.axes)]
    places = []  # of each axis: where a chunk of dx begins, among the cells of its dy, and its size
    for k, axis in enumerate(plan.axes):
        readers = [axis.readers(span) for span in spans[k]]
        dy = _cut(dy, plan.first + k, readers)
        starts = [a - axis.cells(r)[0] for (a, _), r in zip(spans[k], readers, strict=True)]
        rows = np.stack([starts, sizes(spans[k])], axis=1)
        places += [da.from_array(rows, chunks=(1, 2)), (f"i{k}", "place")]
    dx = da.blockwise(
        _grad_of_cells,
        plan.index("c"),
        *(dy, plan.index("f")),
        *(w, plan.w_index),
        *places,
        channels=x_shape[plan.channel],
        plan=plan,
        adjust_chunks=plan.chunks(spans),
        new_axes={"c": x_shape[plan.channel]},
        align_arrays=False,
        concatenate=True,
        token="conv_input_grad",
        meta=np.empty((0,) * dy.ndim, dx.dtype),
    )
    return plan.fold(dx) if border else dx


def conv_weight_grad(
    dy: DaskArray,
    x: DaskArray,
    w_shape: Iterable[int],
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
    data_format: str = "channels_first",
    algorithm: str = "auto",
) -> DaskArray:
    """Compute the gradient of a convolution by its filters: `cyconv.conv_weight_grad`, when
    computed.

    Each chunk has a gradient of its own; they are summed in a tree.

    Parameters
    ----------
    dy : dask array, shape (N, F, *output)
        Chunked anew where its chunks are not those that `conv` makes of x.
    x : dask array, shape (N, C, *spatial)
    w_shape : tuple of int
    stride, padding, dilation, groups, padding_mode, data_format, algorithm
        As for `cyconv.conv`.

    Returns
    -------
    dask array, shape w_shape
        In one chunk.

    Raises
    ------
    TypeError, ValueError
        As `cyconv.conv_weight_grad`, at once and not when computed.

    Examples
    --------
    >>> import dask.array as da
    >>> from cyconv.interop.dask import conv_weight_grad
    >>> x = da.arange(8, chunks=2).reshape(1, 1, 8)
    >>> conv_weight_grad(da.ones((1, 1, 6), chunks=3), x, (1, 1, 3)).compute()
    array([[[15., 21., 27.]]])
    """
    dy, x, w_shape = _read("dy", dy), _read("x", x), tuple(w_shape)
    options = {
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
        "groups": groups,
        "padding_mode": padding_mode,
        "data_format": data_format,
        "algorithm": algorithm,
    }
    if dy.ndim == x.ndim == len(w_shape) - 1:
        return conv_weight_grad(dy[np.newaxis], x[np.newaxis], w_shape, **options)
    dw = cyconv.conv_weight_grad(_empty(dy), _empty(x), w_shape, **options)
    _check_batch(dy, x.shape)
    plan = _plan(x.shape, w_shape, dy.shape, options)
    x, outputs = plan.windows(x)
    axes = {plan.first + k: sizes(ranges) for k, ranges in enumerate(outputs)}
    dy = plan.together(dy).rechunk({0: x.chunks[0], **axes}, method="tasks")
    spread = ("n", *plan.chunks(outputs))
    sums_in = np.promote_types(dw.dtype, np.float32)  # float16 is summed in float32
    parts = da.blockwise(
        _grad_of_weights,
        (*spread, *plan.w_index),
        *(dy, plan.index("f")),
        *(x, plan.index("c")),
        w_shape=w_shape,
        options=plan.inner,
        sums_in=sums_in,
        adjust_chunks=dict.fromkeys(spread, lambda size: 1),
        new_axes=dict(zip(plan.w_index[1:], w_shape[1:], strict=True)),
        align_arrays=False,
        concatenate=True,
        token="conv_weight_grad",
        meta=np.empty((0,) * (len(spread) + len(w_shape)), sums_in),
    )
    return parts.sum(axis=tuple(range(len(spread)))).astype(dw.dtype)


def _conv_window(x: Array, w: Array, b: Array | None, options: Options) -> Array:
    return cyconv.conv(x, w, b, **options)


def _grad_of_cells(dy: Array, w: Array, *places: Array, channels: int, plan: Plan) -> Array:
    """The gradient of some cells of x, from all dy that read them (and read others as well)."""
    outputs = dy.shape[plan.first : plan.first + len(plan.axes)]
    lengths = [axis.cells((0, n))[1] for axis, n in zip(plan.axes, outputs, strict=True)]
    dx = cyconv.conv_input_grad(dy, w, plan.shape(len(dy), channels, lengths), **plan.inner)
    placed = np.zeros(plan.shape(len(dy), channels, [place[0, 1] for place in places]), dx.dtype)
    rows = zip((place[0] for place in places), lengths, strict=True)
    slices = [overlap(start, size, length) for (start, size), length in rows]
    before = (slice(None),) * plan.first
    placed[*before, *(there for _, there in slices)] = dx[*before, *(here for here, _ in slices)]
    return placed


def _grad_of_weights(
    dy: Array, x: Array, w_shape: tuple[int, ...], options: Options, sums_in: np.dtype[Any]
) -> Array:
    """The gradient of one chunk, with an axis of size 1 for each along which there are chunks."""
    dw = cyconv.conv_weight_grad(dy.astype(sums_in, copy=False), x, w_shape, **options)
    return dw[(np.newaxis,) * (len(w_shape) - 1)]


@dataclass(frozen=True)
class Plan:
    """A convolution whose spatial axes begin at array axis `first`, cut into windowfuls; `inner`
    are the options of the convolution, without padding, of each."""

    axes: tuple[Axis, ...]
    first: int
    padding_mode: str
    inner: Options

    @property
    def channel(self) -> int:
        """The array axis of channels."""
        return 1 if self.first == 2 else 1 + len(self.axes)

    @property
    def w_index(self) -> tuple[str, ...]:
        """The names of the axes of w, for `blockwise`."""
        return ("f", "g", *(f"k{k}" for k in range(len(self.axes))))

    def index(self, channel: str) -> tuple[str, ...]:
        """The names of the axes of an array with these channels."""
        return self._ordered("n", channel, [f"i{k}" for k in range(len(self.axes))])

    def shape(self, n: int, channels: int, spatial: Iterable[int]) -> tuple[int, ...]:
        return self._ordered(n, channels, spatial)

    def _ordered(self, n: Any, channel: Any, spatial: Iterable[Any]) -> tuple[Any, ...]:
        return (n, channel, *spatial) if self.first == 2 else (n, *spatial, channel)

    def chunks(self, ranges: Iterable[Iterable[Range]]) -> dict[str, tuple[int, ...]]:
        """The chunks along each spatial axis, by its name."""
        return {f"i{k}": sizes(along) for k, along in enumerate(ranges)}

    def together(self, x: DaskArray) -> DaskArray:
        """All channels in one chunk."""
        return x.rechunk({self.channel: -1}, method="tasks")

    def windows(self, x: DaskArray) -> tuple[DaskArray, list[list[Range]]]:
        """Return x in chunks of all that some outputs read, and which outputs these are."""
        x = self.together(x)
        outputs = [axis.outputs(x.chunks[self.first + k]) for k, axis in enumerate(self.axes)]
        pads = [(axis.low, axis.high) for axis in self.axes]
        if any(map(any, pads)):
            x = da.pad(x, self._ordered((0, 0), (0, 0), pads), PAD_MODES[self.padding_mode])
        for k, axis in enumerate(self.axes):
            x = _cut(x, self.first + k, [axis.cells(some) for some in outputs[k]])
        return x, outputs

    def fold(self, dx: DaskArray) -> DaskArray:
        """Add the gradient of each cell of the padding to that of the cell it was copied from."""
        for k, axis in enumerate(self.axes):
            dx = _fold(dx, self.first + k, axis, self.padding_mode)
        return dx


def _plan(
    x_shape: tuple[int, ...], w_shape: tuple[int, ...], y_shape: tuple[int, ...], options: Options
) -> Plan:
    rank = len(w_shape) - 2
    first = 1 if options["data_format"] == "channels_last" else 2
    spatial = slice(first, first + rank)
    axes = axes_of(x_shape[spatial], w_shape[2:], y_shape[spatial], options)
    inner = {**options, "padding": 0, "padding_mode": "zeros"}
    return Plan(axes, first, options["padding_mode"], inner)


def _cut(x: DaskArray, axis: int, ranges: list[Range]) -> DaskArray:
    """Cut an axis into ranges, which may overlap, and make each a chunk."""
    parts = [x[_along(axis, *some)].map_blocks(_detached, meta=x._meta) for some in ranges]
    return da.concatenate(parts, axis=axis).rechunk({axis: sizes(ranges)}, method="tasks")


def _detached(part: Array) -> Array:
    """A halo is a view, and would keep the chunk that it was cut from in memory."""
    whole = part.base
    return part if whole is None or 2 * part.nbytes > whole.nbytes else part.copy()


def _fold(dx: DaskArray, axis: int, along: Axis, mode: str) -> DaskArray:
    low, size, high = along.low, along.size, along.high
    inside = dx[_along(axis, low, low + size)]
    head, tail = dx[_along(axis, 0, low)], dx[_along(axis, low + size, low + size + high)]
    if mode in ("reflect", "symmetric"):
        head, tail = da.flip(head, axis), da.flip(tail, axis)
    if mode == "replicate":
        head, tail = (end.sum(axis=axis, keepdims=True) for end in (head, tail))
    starts = {
        "reflect": (1, size - 1 - high),
        "symmetric": (0, size - high),
        "replicate": (0, size - 1),
        "circular": (size - low, 0),
    }
    total = inside
    for end, start in zip((head, tail), starts[mode], strict=True):
        if end.shape[axis]:
            pads = [(0, 0)] * dx.ndim
            pads[axis] = start, size - start - end.shape[axis]
            total = total + da.pad(end, pads)
    return total.rechunk(inside.chunks, method="tasks")


def _along(axis: int, start: int, stop: int) -> tuple[slice, ...]:
    return (*(slice(None),) * axis, slice(start, stop))


def _read(name: str, x: Any) -> DaskArray:
    x = da.asanyarray(x)
    if np.isnan(x.shape).any():
        raise ValueError(f"{name} must have chunks of known sizes: call its compute_chunk_sizes()")
    return x


def _whole(w: Any) -> DaskArray:
    """An array in one chunk."""
    return w.rechunk(-1) if isinstance(w, da.Array) else da.from_array(np.asarray(w), chunks=-1)


def _empty(x: DaskArray) -> Array:
    """What is like x, but for its batch, which is empty."""
    return np.empty((0, *x.shape[1:]), x.dtype)


def _blank(w: DaskArray) -> Array:
    """What is like w, but takes no memory."""
    return np.broadcast_to(np.zeros((), w.dtype), w.shape)


def _check_batch(dy: DaskArray, x_shape: tuple[int, ...]) -> None:
    if len(dy) != x_shape[0]:
        raise ValueError(f"dy and x must have as many images: got {len(dy)} and {x_shape[0]}")
