"""Whole convolutions: a Case makes its own arrays, and Hypothesis draws valid cases."""

from dataclasses import dataclass

import numpy as np
import reference
from hypothesis import strategies as st

from cyconv.geometry import geometry


@dataclass(frozen=True)
class Case:
    """One convolution. Its arrays come from the seed, so an example prints as one short line."""

    x_shape: tuple[int, ...]
    w_shape: tuple[int, ...]
    stride: int | tuple[int, ...] = 1
    padding: int | tuple = 0
    dilation: int | tuple[int, ...] = 1
    groups: int = 1
    seed: int = 0

    @property
    def geometry(self):
        """The options of im2col and col2im."""
        return {"stride": self.stride, "padding": self.padding, "dilation": self.dilation}

    @property
    def options(self):
        """The options of the convolutions."""
        return {**self.geometry, "groups": self.groups}

    @property
    def kernel(self):
        return self.w_shape[2:]

    @property
    def output(self):
        return reference.output_size(self.x_shape[2:], self.kernel, **self.geometry)

    @property
    def shapes(self):
        """The shapes of x, w, b, y."""
        f = self.w_shape[0]
        return self.x_shape, self.w_shape, (f,), (self.x_shape[0], f, *self.output)

    def arrays(self, dtype=np.float64):
        """x, w, b, dy, normally distributed."""
        rng = np.random.default_rng(self.seed)
        return [rng.standard_normal(shape).astype(dtype) for shape in self.shapes]

    def integers(self, dtype=np.float64):
        """x, w, b, dy of integers so small that every sum is exact, even in float32."""
        rng = np.random.default_rng(self.seed)
        return [rng.integers(-4, 5, shape).astype(dtype) for shape in self.shapes]


def described(case):
    """The case as cyconv's own integers."""
    return geometry(
        case.x_shape, case.w_shape, case.stride, case.padding, case.dilation, case.groups
    )


@st.composite
def cases(draw, spare=6):
    """A random convolution: 1 to 3 spatial axes, and nothing square. Each axis of x is up to
    `spare` cells longer than its least, which makes as many more outputs at stride 1."""
    rank = draw(st.integers(1, 3))
    axes = st.tuples(*[st.integers(1, 4)] * rank)
    groups = draw(st.integers(1, 3))
    channels, filters = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    kernel, stride, dilation = draw(axes), draw(axes), draw(axes)
    pads = draw(st.tuples(*[st.tuples(st.integers(0, 4), st.integers(0, 4))] * rank))
    size = []
    for k, d, pad in zip(kernel, dilation, pads, strict=True):
        least = max(1, d * (k - 1) + 1 - sum(pad))
        size.append(draw(st.integers(least, least + spare)))
    return Case(
        x_shape=(draw(st.integers(0, 3)), groups * channels, *size),
        w_shape=(groups * filters, channels, *kernel),
        stride=stride,
        padding=pads,
        dilation=dilation,
        groups=groups,
        seed=draw(st.integers(0, 99)),
    )
