"""What a layer should return: the definition of convolution, in float64, one kernel tap at a time.

Independent of cyconv and of every peer, so that whoever is wrong is found out before it is timed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .layers import Arrays, Layer

# Relative to the largest value. Winograd in float32 reaches 5e-6; what passes these is a mistake.
TOLERANCE = {np.float32: 3e-5, np.float64: 1e-12}


@dataclass(frozen=True)
class Expected:
    """Float64 results: y (N, F, h, w), and the gradients dx, dw, db (None if not asked for)."""

    y: np.ndarray
    dx: np.ndarray | None = None
    dw: np.ndarray | None = None
    db: np.ndarray | None = None


def expect(layer: Layer, arrays: Arrays, gradients: bool = True) -> Expected:
    """Sum over the taps: tap (i, j) multiplies a strided window of the padded image."""
    g, p, s, k = layer.groups, layer.padding, layer.stride, layer.kernel
    N, C, H, W = layer.x_shape
    F, h, w_out = layer.y_shape[1:]
    padded = np.pad(arrays.x.astype(np.float64), ((0, 0), (0, 0), (p, p), (p, p)))
    # (k, k, groups, F/groups, C/groups): each tap's matrix contiguous, or matmul leaves BLAS aside.
    taps = np.ascontiguousarray(arrays.w.reshape(g, F // g, C // g, k, k).transpose(3, 4, 0, 1, 2))
    taps = taps.astype(np.float64)
    dy = arrays.dy.astype(np.float64).reshape(N, g, F // g, h * w_out)
    y, dpadded, dtaps = np.zeros_like(dy), np.zeros_like(padded), np.zeros_like(taps)
    for i, j in np.ndindex(k, k):
        window = np.s_[:, :, i : i + s * (h - 1) + 1 : s, j : j + s * (w_out - 1) + 1 : s]
        cells = padded[window].reshape(N, g, C // g, h * w_out)
        y += taps[i, j] @ cells
        if gradients:
            dtaps[i, j] = (dy @ cells.swapaxes(-1, -2)).sum(axis=0)
            dpadded[window] += (taps[i, j].swapaxes(-1, -2) @ dy).reshape(N, C, h, w_out)
    y = y.reshape(layer.y_shape) + arrays.b.astype(np.float64)[:, None, None]
    if not gradients:
        return Expected(y)
    dw = dtaps.transpose(2, 3, 4, 0, 1).reshape(layer.w_shape)
    db = dy.sum(axis=(0, 3)).reshape(F)
    return Expected(y, dpadded[:, :, p : p + H, p : p + W], dw, db)


def relative_error(got: np.ndarray, expected: np.ndarray) -> float:
    """The largest deviation, relative to the largest expected value; NaN counts as infinite."""
    if got.shape != expected.shape:
        raise ValueError(f"expected shape {expected.shape}, got {got.shape}")
    error = float(np.abs(got - expected).max() / np.abs(expected).max())
    return error if np.isfinite(error) else float("inf")
