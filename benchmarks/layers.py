"""Which convolutions are timed: layers of real networks, small and large, early and late."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Layer:
    """One square 2-D convolution: x (N, C, H, W), w (F, C/groups, kernel, kernel), b (F,)."""

    name: str
    N: int
    C: int
    H: int
    W: int
    F: int
    kernel: int
    stride: int = 1
    padding: int = 0
    groups: int = 1

    @property
    def x_shape(self) -> tuple[int, int, int, int]:
        return self.N, self.C, self.H, self.W

    @property
    def w_shape(self) -> tuple[int, int, int, int]:
        return self.F, self.C // self.groups, self.kernel, self.kernel

    @property
    def y_shape(self) -> tuple[int, int, int, int]:
        h, w = ((n + 2 * self.padding - self.kernel) // self.stride + 1 for n in (self.H, self.W))
        return self.N, self.F, h, w

    @property
    def macs(self) -> int:
        """Multiply-adds of one forward pass, counted by the definition."""
        return int(np.prod(self.y_shape)) * int(np.prod(self.w_shape[1:]))

    def batch(self, n: int) -> Layer:
        """The same layer with another batch size."""
        return replace(self, N=n)


@dataclass(frozen=True)
class Arrays:
    """The operands of one layer, and the output gradient of its training step."""

    x: np.ndarray
    w: np.ndarray
    b: np.ndarray
    dy: np.ndarray

    def image(self) -> Arrays:
        """The first image of the batch."""
        return Arrays(self.x[:1], self.w, self.b, self.dy[:1])

    def astype(self, dtype: type) -> Arrays:
        return Arrays(*(a.astype(dtype) for a in (self.x, self.w, self.b, self.dy)))


def make_arrays(layer: Layer, seed: int = 0) -> Arrays:
    """Float32 operands; the weights scaled so that outputs stay near one, as trained ones do."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(layer.x_shape, dtype=np.float32)
    w = rng.standard_normal(layer.w_shape, dtype=np.float32)
    w /= np.float32(np.sqrt(np.prod(layer.w_shape[1:])))
    b = rng.standard_normal(layer.F, dtype=np.float32)
    dy = rng.standard_normal(layer.y_shape, dtype=np.float32)
    return Arrays(x, w, b, dy)


# name, N, C, H, W, F, kernel, stride, padding, groups
LAYERS = [
    Layer("lenet1", 64, 1, 28, 28, 6, 5, 1, 2, 1),
    Layer("cifar", 64, 32, 32, 32, 32, 3, 1, 1, 1),
    Layer("cs231n", 50, 3, 31, 31, 25, 3, 2, 1, 1),
    Layer("alexnet1", 8, 3, 227, 227, 96, 11, 4, 0, 1),
    Layer("vgg1_1", 2, 3, 224, 224, 64, 3, 1, 1, 1),
    Layer("vgg1_2", 2, 64, 224, 224, 64, 3, 1, 1, 1),
    Layer("vgg3_2", 4, 256, 56, 56, 256, 3, 1, 1, 1),
    Layer("vgg5", 8, 512, 14, 14, 512, 3, 1, 1, 1),
    Layer("r50_7x7s2", 8, 3, 224, 224, 64, 7, 2, 3, 1),
    Layer("r50_56_1x1a", 8, 64, 56, 56, 64, 1, 1, 0, 1),
    Layer("r50_56_3x3", 8, 64, 56, 56, 64, 3, 1, 1, 1),
    Layer("r50_56_1x1b", 8, 64, 56, 56, 256, 1, 1, 0, 1),
    Layer("r50_28_3x3s2", 8, 128, 56, 56, 128, 3, 2, 1, 1),
    Layer("r50_28_3x3", 8, 128, 28, 28, 128, 3, 1, 1, 1),
    Layer("r50_14_3x3", 8, 256, 14, 14, 256, 3, 1, 1, 1),
    Layer("r50_14_1x1", 8, 1024, 14, 14, 256, 1, 1, 0, 1),
    Layer("r50_7_3x3", 8, 512, 7, 7, 512, 3, 1, 1, 1),
    Layer("r50_ds_1x1s2", 8, 256, 56, 56, 512, 1, 2, 0, 1),
    Layer("mbv2_dw112", 8, 32, 112, 112, 32, 3, 1, 1, 32),
    Layer("mbv2_dw56s2", 8, 144, 56, 56, 144, 3, 2, 1, 144),
    Layer("mbv2_dw14", 8, 576, 14, 14, 576, 3, 1, 1, 576),
    Layer("resnext_g32", 8, 128, 56, 56, 128, 3, 1, 1, 32),
]

LATENCY = [
    Layer("1x1x10x10", 1, 1, 10, 10, 1, 3, 1, 1),
    Layer("1x3x32x32", 1, 3, 32, 32, 16, 3, 1, 1),
    Layer("1x16x28x28", 1, 16, 28, 28, 32, 3, 1, 1),
]

BY_NAME = {layer.name: layer for layer in [*LAYERS, *LATENCY]}

# One of each kind: double precision is for science and gradient checks, not for every layer.
FLOAT64 = {
    *("cifar", "vgg1_2", "r50_56_3x3", "r50_28_3x3s2"),
    *("r50_14_3x3", "r50_7x7s2", "r50_14_1x1", "mbv2_dw14"),
}
# Whose memory is measured with every engine, not with cyconv alone: where whole-batch im2col would
# take gigabytes, and where it would not.
MEMORY = {"vgg1_2", "vgg3_2", "r50_7x7s2", "mbv2_dw112"}
MEMORY_BATCH = 16
# A Winograd layer on large planes, one on small, a strided first layer, a depthwise one.
BATCH = {"r50_56_3x3", "r50_14_3x3", "r50_7x7s2", "mbv2_dw14"}

# The sets that figures are quoted for.
SETS: dict[str, Callable[[Layer], bool]] = {
    "all": lambda layer: True,
    "3x3 stride 1, 32 channels or more": lambda layer: (
        (layer.kernel, layer.stride, layer.groups) == (3, 1, 1) and min(layer.C, layer.F) >= 32
    ),
    "1x1": lambda layer: layer.kernel == 1,
    "first layers": lambda layer: layer.C <= 3,
    "depthwise and grouped": lambda layer: layer.groups > 1,
}


def is_large(layer: Layer) -> bool:
    """Enough work that waking a second core costs nothing beside it."""
    return layer.macs >= 800_000_000
