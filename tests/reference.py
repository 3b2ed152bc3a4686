"""The definition of convolution and its adjoints, in float64, as plain loops over the taps.

The oracle of the other tests. x is (N, C, *size), w is (F, C / groups, *kernel), y is
(N, F, *output). Padding is an int, an int an axis, or a (low, high) pair an axis; stride and
dilation are an int, or one an axis.

At the end the same as kernels see it: three rows of `axes`, each size, kernel, stride, dilation,
low pad (which may be negative) and output, and whatever outputs there are, also such that read
nothing.
"""

import math

import numpy as np


def conv(x, w, b=None, *, groups=1, **geometry):
    """(N, C, *size), (F, C / groups, *kernel), (F,) -> (N, F, *output)."""
    pads, output, taps = windows(x.shape[2:], w.shape[2:], **geometry)
    x, w = _pad(_grouped(x, 1, groups), pads), _grouped(w, 0, groups)
    y = np.zeros((len(x), *w.shape[:2], math.prod(output)))
    for tap, cells in taps.items():
        y += w[..., *tap] @ _flat(x[cells])
    y = y.reshape(len(x), groups * w.shape[1], *output)
    return y if b is None else y + np.float64(b).reshape(-1, *[1] * len(output))


def conv_input_grad(dy, w, x_shape, *, groups=1, **geometry):
    """(N, F, *output), (F, C / groups, *kernel) -> (N, C, *size)."""
    pads, output, taps = windows(x_shape[2:], w.shape[2:], **geometry)
    dy, w = _flat(_grouped(dy, 1, groups)), _grouped(w, 0, groups)
    channels = (len(dy), groups, w.shape[2])
    dx = np.zeros((*channels, *(s + sum(pad) for s, pad in zip(x_shape[2:], pads, strict=True))))
    for tap, cells in taps.items():
        dx[cells] += (w[..., *tap].swapaxes(1, 2) @ dy).reshape(*channels, *output)
    return _crop(dx, x_shape[2:], pads).reshape(x_shape)


def conv_weight_grad(dy, x, w_shape, *, groups=1, **geometry):
    """(N, F, *output), (N, C, *size) -> (F, C / groups, *kernel)."""
    pads, _, taps = windows(x.shape[2:], w_shape[2:], **geometry)
    dy, x = _flat(_grouped(dy, 1, groups)), _pad(_grouped(x, 1, groups), pads)
    dw = np.empty((groups, w_shape[0] // groups, *w_shape[1:]))
    for tap, cells in taps.items():
        dw[..., *tap] = (dy @ _flat(x[cells]).swapaxes(2, 3)).sum(0)  # over the images
    return dw.reshape(w_shape)


def im2col(x, kernel_size, **geometry):
    """(N, C, *size) -> (N, C * prod(kernel), prod(output))."""
    pads, output, taps = windows(x.shape[2:], kernel_size, **geometry)
    x = _pad(np.float64(x), pads)
    n, c = x.shape[:2]
    cols = np.empty((n, c, len(taps), *output))
    for k, cells in enumerate(taps.values()):
        cols[:, :, k] = x[cells]
    return cols.reshape(n, c * len(taps), math.prod(output))


def col2im(cols, x_size, kernel_size, **geometry):
    """(N, C * prod(kernel), prod(output)) -> (N, C, *size): each cell is added where it belongs."""
    pads, output, taps = windows(x_size, kernel_size, **geometry)
    n, c = cols.shape[0], cols.shape[1] // len(taps)
    dx = np.zeros((n, c, *(size + sum(pad) for size, pad in zip(x_size, pads, strict=True))))
    for k, cells in enumerate(taps.values()):
        dx[cells] += cols[:, k :: len(taps)].reshape(n, c, *output)
    return _crop(dx, x_size, pads)


def output_size(size, kernel, **geometry):
    """The spatial axes of y."""
    return windows(size, kernel, **geometry)[1]


def windows(size, kernel, *, stride=1, padding=0, dilation=1):
    """The pads, the output size, and for each tap of the kernel the padded cells that it meets."""
    rank = len(size)
    stride, dilation, padding = (
        (value,) * rank if isinstance(value, int) else value
        for value in (stride, dilation, padding)
    )
    pads = [(pad, pad) if isinstance(pad, int) else pad for pad in padding]
    output = tuple(
        (n + sum(pad) - d * (k - 1) - 1) // s + 1
        for n, pad, k, d, s in zip(size, pads, kernel, dilation, stride, strict=True)
    )
    taps = {
        tap: (
            ...,
            *(
                slice(t * d, t * d + (o - 1) * s + 1, s)
                for t, d, o, s in zip(tap, dilation, output, stride, strict=True)
            ),
        )
        for tap in np.ndindex(*kernel)
    }
    return pads, output, taps


def _grouped(array, axis, groups):
    """In float64, with the axis of channels split in two: groups, channels of a group."""
    *before, channels = array.shape[: axis + 1]
    shape = (*before, groups, channels // groups, *array.shape[axis + 1 :])
    return np.float64(array).reshape(shape)


def _flat(array):
    """The spatial axes as one."""
    return array.reshape(*array.shape[:3], math.prod(array.shape[3:]))


def _pad(x, pads):
    return np.pad(x, [(0, 0)] * (x.ndim - len(pads)) + pads)


def _crop(dx, size, pads):
    return dx[(..., *(slice(low, low + n) for n, (low, _) in zip(size, pads, strict=True)))]


def cells_of(axes):
    """Of each axis: the cell that each tap reads at each output, (kernel, output), and whether
    there is one."""
    for size, kernel, stride, dilation, low, output in axes:
        cells = np.add.outer(np.arange(kernel) * dilation, np.arange(output) * stride) - low
        yield cells.clip(0, size - 1), (cells >= 0) & (cells < size)


def columns(x, axes):
    """(n, c, d, h, w) -> (c * taps, n * positions), cell by cell."""
    (d, in_d), (h, in_h), (w, in_w) = cells_of(axes)
    inside = in_d[:, :, None, None, None, None] & in_h[:, :, None, None] & in_w
    cells = x[:, :, d[:, :, None, None, None, None], h[:, :, None, None], w]
    cols = np.where(inside, cells, 0).transpose(1, 2, 4, 6, 0, 3, 5, 7)
    return cols.reshape(x.shape[1] * inside[:, 0, :, 0, :, 0].size, -1)


def convolve(x, w, b, axes):
    """(n, C, d, h, w), (groups, F, C / groups, *kernel), (groups * F,) -> (n, groups * F, *output),
    where F is the filters of a group."""
    parts = [
        filters.reshape(len(filters), -1) @ columns(images, axes)
        for images, filters in zip(np.split(x, len(w), axis=1), w, strict=True)
    ]
    y = np.concatenate(parts).reshape(-1, len(x), *(axis[5] for axis in axes)).swapaxes(0, 1)
    return y if b is None else y + b.reshape(-1, 1, 1, 1)
