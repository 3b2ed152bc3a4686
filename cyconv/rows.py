"""Rows: a 1x1 convolution of channels_last arrays is a matrix product on them as they are.

With positions in the rows, x is (N * positions, C) and y (N * positions, F): nothing is copied.

    forward       y   = x @ w.T       rows, or where they are fewer, filters, over workers
    input_grad    dx  = dy @ w
    weight_grad   dw  = dy.T @ x      parts summed in a fixed order
"""

from collections.abc import Sequence

import numpy as np

from cyconv import threads
from cyconv.algorithms import pointwise
from cyconv.algorithms.products import (
    add_product,
    outline_products,
    product,
    rows_at_a_time,
    summed_at_a_time,
)
from cyconv.arguments import native
from cyconv.frozen import Packs
from cyconv.geometry import Geometry
from cyconv.outline import Outline, made_of
from cyconv.plan import Plan
from cyconv.record import Record
from cyconv.tiling import blocks, length, pieces, wanted_pieces
from cyconv.types import Array

# All accumulators of a weight gradient, in bytes.
SUM_BYTES = 8 << 20
# With fewer rows than this, it takes longer to turn w than it saves.
MANY_ROWS = 512
# How many blocks of rows are multiplied before they are added up.
BLOCKS = 32


def serves(g: Geometry, algorithm: str) -> bool:
    return pointwise.serves(g) and g.groups == 1 and algorithm in ("auto", "gemm")


class Rows(Record):
    """A pass of a convolution, as one product of matrices cut into pieces."""

    plan: Plan

    def run(
        self,
        arrays: Sequence[Array | None],
        shapes: Sequence[tuple[int, ...]],
        result: Array,
        packs: Packs | None = None,
    ) -> None:
        """Compute into `result`; arrays of images have their channels last. A product takes w as it
        is, and has no use for packs."""
        g, dtype = self.plan.geometry, self.plan.dtype
        first, second, *bias = (None if a is None else native(a, dtype) for a in arrays)
        assert first is not None
        assert second is not None
        if self.plan.pass_ == "weight_grad":
            dy, x = first.reshape(-1, g.filters), second.reshape(-1, g.channels)
            self._sum(dy, x, result.reshape(g.filters, g.channels))
            return
        w = second.reshape(g.filters, g.channels)
        w = w.T if self.plan.pass_ == "forward" else w
        x, y = first.reshape(-1, w.shape[0]), result.reshape(-1, w.shape[1])
        self._multiply(x, w, bias[0] if bias else None, y)

    def _multiply(self, x: Array, w: Array, b: Array | None, y: Array) -> None:
        by_row, parts = self._cut()
        if self._turns():
            w = np.ascontiguousarray(w)

        def task(index: int) -> None:
            part = parts[index]
            if by_row:
                tile = y[part]
                product(x[part], w, tile)
            else:
                tile = y[:, part]
                tile[...] = x @ w[:, part]
            if b is not None:
                tile += b if by_row else b[part]

        threads.run(task, len(parts), self.plan.seconds, blas=self._large())

    def _large(self) -> bool:
        """Whether there may be products that BLAS spreads over threads of its own."""
        return self.plan.geometry.multiply_adds > threads.SMALL_PRODUCT

    def _cut(self) -> tuple[bool, tuple[slice, ...]]:
        """Pieces of the rows of x, or where there are more of those, of the columns of w."""
        g = self.plan.geometry
        rows = g.batch * g.positions
        columns = g.filters if self.plan.pass_ == "forward" else g.channels
        return rows >= columns, pieces(max(rows, columns), wanted_pieces(g))

    def _turns(self) -> bool:
        """Whether w is turned first, so that the products of blocks of rows need not be packed."""
        g = self.plan.geometry
        rows = g.batch * g.positions
        pays = self.plan.pass_ == "forward" and rows >= max(MANY_ROWS, g.filters)
        return pays and rows_at_a_time(rows, g.channels, g.filters) > 0

    def _sum(self, dy: Array, x: Array, dw: Array) -> None:
        by_row, parts = self._cut_sum()
        if not by_row:  # large weights: a block of filters is a product of its own

            def fill(index: int) -> None:
                np.matmul(dy[:, parts[index]].T, x, out=dw[parts[index]])

            threads.run(fill, len(parts), self.plan.seconds, blas=self._large())
            return
        sums = np.empty((len(parts), *dw.shape), dw.dtype)
        block = summed_at_a_time(dw.size)

        def add(index: int) -> None:
            left, right, total = dy[parts[index]].T, x[parts[index]], sums[index]
            if not block:
                np.matmul(left, right, out=total)
                return
            for rows in _stretches(parts[index], block):
                tile = left[None, :, rows], right[None, rows].swapaxes(1, 2)
                add_product(*tile, total[None], block, first=rows.start == 0)

        threads.run(add, len(parts), self.plan.seconds, blas=self._large())
        with threads.quiet():
            np.sum(sums, axis=0, out=dw)

    def _cut_sum(self) -> tuple[bool, tuple[slice, ...]]:
        """Pieces of the rows of dy and x, or where few accumulators are allowed, of the filters."""
        g = self.plan.geometry
        nbytes = g.filters * g.channels * self.plan.dtype.itemsize
        number = min(wanted_pieces(g), max(1, SUM_BYTES // nbytes))
        if number == 1:
            return False, pieces(g.filters, wanted_pieces(g))
        return True, pieces(g.batch * g.positions, number)

    def outline(self) -> Outline:
        """What the pass goes through and takes, for `describe`."""
        g, shared, own = self.plan.geometry, 0, 0
        if self.plan.pass_ == "weight_grad":
            by_row, parts = self._cut_sum()
            weights = g.filters * g.channels
            block = summed_at_a_time(weights)
            shared = len(parts) * weights if by_row else 0
            if by_row and block:
                own = max(length(s) for p in parts for s in _stretches(p, block)) // block * weights
        else:
            by_row, parts = self._cut()
            shared = g.filters * g.channels if self._turns() else 0
            own = 0 if by_row else g.batch * g.positions * max(map(length, parts))
        words = made_of(len(parts), "piece", max(map(length, parts)), "row" if by_row else "column")
        method = "a matrix product of the arrays as they are, channels last"
        return outline_products(self.plan, "rows", method, words, len(parts), shared, own)


def _stretches(part: slice, block: int) -> tuple[slice, ...]:
    """The rows of a part, as many at a time as are multiplied before they are added up."""
    return blocks(length(part), BLOCKS * block)
