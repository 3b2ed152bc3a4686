"""What one has without an engine: the im2col of the tutorials, and SciPy's correlate."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from ..layers import Arrays, Layer
from .base import Peer, Prepared, Run


class NaiveNumpy(Peer):
    """Whole-batch im2col by fancy indexing, and its adjoint by np.add.at, as courses teach it."""

    name = "naive NumPy"
    modules = ("threadpoolctl",)
    dtypes = (np.float32, np.float64)
    trains = True
    most_macs = 1e9  # np.add.at already takes a second there

    def supports(self, layer: Layer, dtype: type) -> bool:
        return layer.groups == 1 and super().supports(layer, dtype)

    def prepare(self, layer: Layer, arrays: Arrays) -> Prepared:
        from threadpoolctl import threadpool_limits

        x, w, b, dy = arrays.x, arrays.w, arrays.b, arrays.dy
        p, (N, _, h, w_out), (_, C, H, W) = layer.padding, layer.y_shape, layer.x_shape
        pads = ((0, 0), (0, 0), (p, p), (p, p))

        def lower() -> tuple[np.ndarray, Any, np.ndarray]:
            index = im2col_indices(layer)
            cols = np.pad(x, pads)[:, *index]  # (N, C*k*k, h*w)
            cols = cols.transpose(1, 2, 0).reshape(cols.shape[1], -1)
            y = w.reshape(layer.F, -1) @ cols + b[:, None]
            return cols, index, y.reshape(layer.F, h, w_out, N).transpose(3, 0, 1, 2)

        def train_step() -> tuple[np.ndarray, ...]:
            cols, index, y = lower()
            rows = dy.transpose(1, 2, 3, 0).reshape(layer.F, -1)
            dw = (rows @ cols.T).reshape(w.shape)
            dcols = (w.reshape(layer.F, -1).T @ rows).reshape(cols.shape[0], -1, N)
            padded = np.zeros((N, C, H + 2 * p, W + 2 * p), x.dtype)
            np.add.at(padded, (slice(None), *index), dcols.transpose(2, 0, 1))
            return y, padded[:, :, p : p + H, p : p + W], dw, dy.sum(axis=(0, 2, 3))

        inside = partial(threadpool_limits, self.threads, "blas")
        return Prepared(Run(lambda: lower()[-1], inside), Run(train_step, inside))


def im2col_indices(layer: Layer) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Channel (C*k*k, 1), row and column (C*k*k, h*w) of every cell of the lowered image."""
    k, s, (h, w_out) = layer.kernel, layer.stride, layer.y_shape[2:]
    tap_row = np.tile(np.repeat(np.arange(k), k), layer.C)
    tap_column = np.tile(np.arange(k), k * layer.C)
    row = tap_row[:, None] + s * np.repeat(np.arange(h), w_out)
    column = tap_column[:, None] + s * np.tile(np.arange(w_out), h)
    return np.repeat(np.arange(layer.C), k * k)[:, None], row, column


class Scipy(Peer):
    """scipy.signal.correlate, an image and a filter at a time; it knows neither stride nor bias."""

    name = "SciPy correlate"
    modules = ("scipy",)
    dtypes = (np.float32, np.float64)
    most_macs = 3e7

    def supports(self, layer: Layer, dtype: type) -> bool:
        return layer.groups == 1 and super().supports(layer, dtype)

    def prepare(self, layer: Layer, arrays: Arrays) -> Prepared:
        from scipy.signal import correlate

        p, s = layer.padding, layer.stride
        x, w, b = arrays.x, arrays.w, arrays.b

        def forward() -> np.ndarray:
            y = np.empty(layer.y_shape, x.dtype)
            for image, out in zip(np.pad(x, ((0, 0), (0, 0), (p, p), (p, p))), y, strict=True):
                for f in range(layer.F):
                    out[f] = correlate(image, w[f], mode="valid")[0, ::s, ::s] + b[f]
            return y

        return Prepared(Run(forward))
