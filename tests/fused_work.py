"""Work for Winograd's kernels that go from end to end: arrays, arguments, and what is right."""

import itertools

import numpy as np
import reference
from builds import kept
from guards import assert_untouched, gaps, output, packed, planes
from test_winograd import CLOSE, both

from cyconv.algorithms import planes as transformed
from cyconv.algorithms import winograd
from cyconv.geometry import geometry
from cyconv.kernels import fallback
from cyconv.kernels.fallback.matrices import MATRICES, MET, kind_of

WIDE = 16


def wide(size):
    return -(-size // WIDE) * WIDE


def rows_of(size, points=(), limit=10**9, unit=1):
    """Blocks of at most `limit`, also cut at these points, as rows of (start, stop); in steps of
    `unit`."""
    bounds = {*(point % size for point in points), *range(0, size, limit)}
    bounds = sorted({0, size, *(bound // unit * unit for bound in bounds)})
    return np.array(list(itertools.pairwise(bounds)), np.intp).reshape(-1, 2)


def by_channel(u, build, channels, tiles):
    """(36, tiles * C or more), in which C may come in steps of WIDE, as (36, C, tiles)."""
    row = channels if build == "fallback" else wide(channels)
    return u[:, : row * tiles].reshape(len(u), tiles, row).swapaxes(1, 2)[:, :channels]


def in_panels(v, blocks, rows):
    """Transformed filters (36, C, F) in panels (36, blocks, C, rows), NaN where there are none."""
    panels = np.full((len(v), len(blocks), v.shape[1], rows), np.nan)
    for panel, (start, stop) in enumerate(blocks):
        width = wide(stop - start)
        panels[:, panel, :, :width] = v[:, :, start : start + width]
    return panels


@kept
class Fused:
    """Arrays for a convolution, its result by the fallback's transforms, its weight gradient by the
    definition, and the arguments of each kernel for it, by name and in order. `lay` says how images
    lie in memory."""

    def __init__(
        self, n=2, c=3, f=5, size=(9, 10), pads=1, flip=False, seed=0, lay=gaps, depth=1,
        dilation=1, side=3, stride=1, apart=(1, 1),
    ):  # fmt: skip
        """With three sizes, a volume, and a kernel of this depth and dilation; its planes have this
        side, stride and `apart` for dilation. What is flipped is an input gradient, with a stride
        without a weight gradient."""
        self.lay = lay
        kernel, dilations = (side, side), apart
        if len(size) == 3:
            kernel, dilations = (depth, *kernel), (dilation, *apart)
        strides = (*(1 for _ in size[2:]), stride, stride)
        g = geometry((n, c, *size), (f, c, *kernel), strides, pads, dilations, 1)
        g = g._replace(stride=(1, stride, stride))  # also where that makes no difference
        self.g = g = winograd._flipped(g) if flip else g
        self.planes = transformed.planes_of(g)
        self.weight_planes = transformed.weight_planes_of(g)
        matrix = MATRICES[kind_of(side, g.stride[1])].G
        rng = np.random.default_rng(seed)
        self.x, self.b = rng.standard_normal(g.x_shape), rng.standard_normal(g.filters)
        self.w = rng.standard_normal(g.w_shape)
        self.dy = rng.standard_normal(g.y_shape)
        self.total = winograd.count_tiles(g)
        # Channels, for each tap along the depth: as they are, and as rows of transformed tiles.
        self.rows, self.row = depth * g.channels, depth * wide(g.channels)
        self.v = np.zeros((self.weight_planes, self.rows, wide(g.filters)))
        by_tap = self.v[:, :, : g.filters].reshape(-1, depth, g.channels, g.filters)
        for tap in range(depth):
            by_tap[:, tap] = both(matrix, self.w[:, :, tap]).swapaxes(1, 2)
        self.y = self.expected(self.v)
        if g.stride[1] < 0:
            return
        columns = reference.columns(self.x, g.axes())
        self.dw = self.dy.swapaxes(0, 1).reshape(g.filters, -1) @ columns.T
        self.dw = self.dw.reshape(self.w.shape)

    def expected(self, v):
        y = np.empty(self.g.y_shape)
        met = v if len(v) == self.planes else v[MET]
        products = self.transformed(self.x).swapaxes(1, 2) @ met
        fallback.winograd_output(products, self.b, y, self.g.axes(), 0)
        return y

    def transformed(self, x):
        """(36, KD * C, tiles), tap by tap along the depth: that reads x with a shifted pad."""
        u = np.empty((self.planes, self.g.kernel[0], x.shape[1], self.total))
        for tap in range(self.g.kernel[0]):
            axes = self.g.axes()
            axes[0, 4] -= tap * axes[0, 3]
            fallback.winograd_input(x, u[:, tap].swapaxes(1, 2), axes, 0)
        return u.reshape(self.planes, -1, self.total)

    def products(self, first, last):
        """The sum over some tiles, (planes, KD * C, F)."""
        d = np.empty((self.planes, self.total, self.g.filters))
        fallback.winograd_output_grad(self.dy, d, self.g.axes(), 0)
        return self.transformed(self.x)[:, :, first:last] @ d[:, first:last]

    def by_tiles(
        self, dtype, filters=None, tiles=None, rows=WIDE, spare=0, prepared=False, together=1,
        **changes,
    ):  # fmt: skip
        filters = rows_of(self.g.filters) if filters is None else filters
        tiles = rows_of(self.total) if tiles is None else tiles
        columns = longest(tiles) + spare
        panels = rows_of(self.g.filters, (), rows)
        products = min(together, len(panels)) * rows
        size = self.planes * (columns * (self.row + products) + 2 * WIDE)
        v = output((self.weight_planes, len(panels), self.rows, rows), dtype, planes)
        if prepared:
            filters, v = filters[:0], self.in_panels(rows, dtype)
        return self.arrays(dtype) | {
            "v": v, "axes": self.g.axes(), "filters": filters, "tiles": tiles, "columns": columns,
            "together": together, **shared(dtype, size), **changes,
        }  # fmt: skip

    def by_filters(self, dtype, channels=None, filters=None, panel=0, span=7, **changes):
        """Filters are given in panels of so many, if any."""
        channels = rows_of(self.g.channels) if channels is None else channels
        filters = rows_of(self.g.filters) if filters is None else filters
        rows = wide(longest(filters))
        own = 0 if panel else self.weight_planes * (rows * min(span, self.g.channels) + WIDE)
        rest = shared(dtype, own + self.planes * (rows * self.total + WIDE))
        first, second = np.split(rest.pop("progress"), [2])
        return self.arrays(dtype) | {
            "v": self.in_panels(panel, dtype) if panel else None,
            "axes": self.g.axes(),
            "u": output((self.planes, self.total * self.row + 5), dtype),
            "channels": channels, "filters": filters, "span": span, "progress": first,
            "taken": second, **rest, **changes,
        }  # fmt: skip

    def in_panels(self, rows, dtype):
        return packed(in_panels(self.v, rows_of(self.g.filters, (), rows), rows), dtype)

    def arrays(self, dtype):
        return {
            "x": self.lay(self.x, dtype),
            "w": gaps(self.w, dtype),
            "v": None,
            "b": packed(self.b, dtype),
            "y": output(self.y.shape, dtype, self.lay),
        }

    def sum_by_tiles(self, dtype, tiles=None, parts=None, channels=None, spare=0, rows=WIDE):
        tiles = rows_of(self.total) if tiles is None else tiles
        parts = rows_of(len(tiles)) if parts is None else parts
        channels = rows_of(self.g.channels) if channels is None else channels
        c, columns, width = self.g.channels, wide(self.g.filters), longest(tiles) + spare
        panels = -(-self.g.filters // rows)
        return {
            "dy": self.lay(self.dy, dtype),
            "x": self.lay(self.x, dtype),
            "sums": output((len(parts), self.weight_planes, self.rows, columns), dtype),
            "dw": output(self.dw.shape, dtype, gaps),
            "axes": self.g.axes(), "tiles": tiles, "parts": parts, "channels": channels,
            "width": width, "rows": rows,
            **shared(dtype, self.planes * (width * (wide(c) + panels * rows) + 2 * WIDE)),
        }  # fmt: skip

    def sum_by_channels(
        self, dtype, filters=None, tiles=None, channels=None, spare=0, own=True, rows=WIDE
    ):
        """With sums of its own, or shared ones."""
        filters = rows_of(self.g.filters) if filters is None else filters
        tiles = rows_of(self.total) if tiles is None else tiles
        channels = rows_of(self.g.channels) if channels is None else channels
        columns, width, most = wide(self.g.filters), longest(tiles) + spare, longest(channels)
        total, panels = int(tiles[-1, 1] - tiles[0, 0]), -(-self.g.filters // rows)
        size = self.planes * (width * wide(most) + WIDE)
        size += self.weight_planes * (self.g.kernel[0] * most * columns + WIDE) if own else 0
        return {
            "dy": self.lay(self.dy, dtype),
            "x": self.lay(self.x, dtype),
            "d": output((self.planes, panels, total, rows), dtype, planes),
            "sums": output((self.weight_planes, 0 if own else self.rows * columns + 5), dtype),
            "dw": output(self.dw.shape, dtype, gaps),
            "axes": self.g.axes(), "filters": filters, "tiles": tiles, "channels": channels,
            "width": width, "add": False, "last": True,
            **shared(dtype, size),
        }  # fmt: skip

    def check(self, arguments, dtype, wanted=None):
        """What was computed, and that nothing else was touched."""
        name, right = ("dw", self.dw) if "dw" in arguments else ("y", self.y)
        wanted = right if wanted is None else wanted
        filled = ~np.isnan(wanted)
        np.testing.assert_array_equal(~np.isnan(arguments[name]), filled)
        error = abs(arguments[name] - wanted)[filled].max(initial=0)
        assert error <= 4 * CLOSE[dtype] * abs(right).max()
        for array in ("y", "dw", "memory", "u", "d", "sums"):
            if array in arguments:
                assert_untouched(arguments[array])


def longest(blocks):
    return int((blocks[:, 1] - blocks[:, 0]).max())


def shared(dtype, size):
    """Counts of tasks, memory of so many items, and that this is not a helper."""
    taken = np.zeros(3, np.longlong)
    return {"progress": taken, "memory": output(size, dtype), "rings": True}
