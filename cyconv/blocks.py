"""Blocks: a convolution whose arrays are not what algorithms compute with, some images at a time.

float16, padding modes other than zeros, and channels last for those algorithms that do not read
them as they lie, are converted on the way in and out: never whole arrays, but blocks of a few
images, which go through scratch memory.

    forward       load x, compute y, store y
    input_grad    load dy, compute dx, store dx
    weight_grad   load dy and x, compute dw, add it to the sum, in the order of the blocks
"""

import math
from collections.abc import Sequence

import numpy as np

from cyconv import layout, threads
from cyconv.arguments import native
from cyconv.bias import add_bias
from cyconv.frozen import Packs
from cyconv.geometry import Geometry
from cyconv.padding import Border, within
from cyconv.plan import Plan, plan
from cyconv.record import Record
from cyconv.scratch import scratch
from cyconv.tiling import blocks, length
from cyconv.types import Array, DType

# What the converted images of a block may take, in bytes; but it is at least one image.
BLOCK_BYTES = 32 << 20
# Slots of scratch memory, none of which an algorithm uses.
X, Y = 16, 17


class Side(Record):
    """How the images on one side of a convolution are brought into (n, C, d, h, w), and back."""

    slot: int
    image: tuple[int, ...]
    border: Border | None
    last: bool
    # Whether images that have their channels last may keep them there.
    takes_last: bool
    dtype: DType

    def is_native(self, images: Array) -> bool:
        """Whether the algorithms can work on these images as they are."""
        return self.takes(images.dtype) and images.flags.c_contiguous and images.flags.aligned

    def takes(self, dtype: DType) -> bool:
        """Whether C-contiguous images of this dtype need no conversion."""
        return self.border is None and not self.last and dtype == self.dtype

    def shape(self, images: int) -> tuple[int, ...]:
        """That of so many images, converted."""
        return (images, *self.image)

    def buffer(self, images: Array) -> Array:
        """Where to compute these images: in place, or in scratch memory."""
        if self.is_native(images):
            return images
        if self.last and self.takes_last:
            n, channels, *size = self.shape(len(images))
            last = scratch(self.slot, (n, *size, channels), self.dtype)
            return layout.channels_first(last)
        return scratch(self.slot, self.shape(len(images)), self.dtype)

    def load(self, images: Array) -> Array:
        buffer = self.buffer(images)
        if buffer is not images:
            layout.copy(self._interior(buffer), self._first(images))
            if self.border is not None:
                self.border.fill(buffer)
        return buffer

    def store(self, buffer: Array, images: Array) -> None:
        """Write what was computed into the caller's images."""
        if buffer is not images:
            if self.border is not None:
                with threads.quiet():
                    self.border.fold(buffer)
            layout.copy(self._first(images), self._interior(buffer))

    def _interior(self, buffer: Array) -> Array:
        return buffer if self.border is None else self.border.interior(buffer)

    def _first(self, images: Array) -> Array:
        return layout.channels_first(images) if self.last else images


class Blocks(Record):
    """A pass over blocks of images; `plans` has that of each block."""

    parts: tuple[slice, ...]
    plans: tuple[Plan, ...]
    x: Side
    y: Side

    def run(
        self,
        arrays: Sequence[Array | None],
        shapes: Sequence[tuple[int, ...]],
        result: Array,
        packs: Packs | None = None,
    ) -> None:
        """Compute into `result`, like the arrays of one of these shapes each (it is the last).
        Arrays of images are converted by blocks, and w and b whole."""
        first, second, *bias = (
            a if a is None else a.reshape(shape) for a, shape in zip(arrays, shapes, strict=False)
        )
        assert first is not None
        assert second is not None
        if self.plans[0].pass_ == "weight_grad":
            self._weight_grad(first, second, result)
            return
        packs = packs or Packs()
        w = native(packs.cast(second, self.x.dtype), self.x.dtype)
        b = None if not bias or bias[0] is None else native(bias[0], self.x.dtype)
        if self.plans[0].pass_ == "forward":
            self._forward(first, w, b, result, packs)
        else:
            self._input_grad(first, w, b, result, packs)

    def _forward(self, x: Array, w: Array, b: Array | None, result: Array, packs: Packs) -> None:
        for part, made in zip(self.parts, self.plans, strict=True):
            images = result[part]
            y = self.y.buffer(images)
            made.run(made, self.x.load(x[part]), w, b, y, *packs.of(made, w))
            self.y.store(y, images)

    def _input_grad(
        self, dy: Array, w: Array, b: Array | None, result: Array, packs: Packs
    ) -> None:
        """With a bias, as a transposed convolution may have it."""
        for part, made in zip(self.parts, self.plans, strict=True):
            images = result[part]
            dx = self.x.buffer(images)
            made.run(made, self.y.load(dy[part]), w, dx, *packs.of(made, w))
            add_bias(dx, b)
            self.x.store(dx, images)

    def _weight_grad(self, dy: Array, x: Array, result: Array) -> None:
        total: Array | None = None
        for part, made in zip(self.parts, self.plans, strict=True):
            dw = np.empty(result.shape, made.dtype)
            made.run(made, self.y.load(dy[part]), self.x.load(x[part]), dw)
            with threads.quiet():
                total = dw if total is None else np.add(total, dw, out=total)
        assert total is not None
        layout.copy(result, total)

    def nbytes(self, dtype: DType, result: DType) -> int:
        """What conversions take, if arrays are of one dtype and the result of another."""
        pass_, inner = self.plans[0].pass_, self.x.dtype
        x_dtype, y_dtype = {
            "forward": (dtype, result),
            "input_grad": (result, dtype),
            "weight_grad": (dtype, dtype),
        }[pass_]
        images = max(map(length, self.parts))
        items = sum(
            math.prod(side.shape(images))
            for side, its in ((self.x, x_dtype), (self.y, y_dtype))
            if not side.takes(its)
        )
        weights = math.prod(self.plans[0].geometry.w_shape)
        if pass_ == "weight_grad":  # the sum, and what is added to it
            items += weights * min(2, len(self.parts))
        elif dtype != inner:
            items += weights
        return items * inner.itemsize


def make_blocks(
    g: Geometry, border: Border | None, last: bool, dtype: DType, pass_: str, algorithm: str
) -> Blocks:
    """Cut a convolution of at least one image into blocks, and plan each."""
    padded = within(g, border)
    image = math.prod(padded.x_shape[1:]) + math.prod(padded.y_shape[1:])
    parts = blocks(g.batch, max(1, BLOCK_BYTES // (image * dtype.itemsize)))
    plans = tuple(
        plan(padded._replace(batch=length(part)), dtype, pass_, algorithm) for part in parts
    )
    takes_last = border is None and all(made.takes_last for made in plans)

    def side(slot: int, image: tuple[int, ...], border: Border | None) -> Side:
        return Side(
            slot=slot, image=image, border=border, last=last, takes_last=takes_last, dtype=dtype
        )

    return Blocks(
        parts=parts,
        plans=plans,
        x=side(X, padded.x_shape[1:], border),
        y=side(Y, padded.y_shape[1:], None),
    )
