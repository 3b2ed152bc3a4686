"""What mutate.py breaks: a sign, a bound, an off-by-one, a swapped stride, a skipped tile."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Break:
    """`old`, which the file has once, becomes `new`; `tests` is a module of tests, and words that
    choose some of it."""

    file: str
    old: str
    new: str
    tests: str

    def __str__(self) -> str:
        old, new = (" ".join(text.split()) for text in (self.old, self.new))
        return f"{self.file}: {old[:60]} -> {new[:60]}  ({self.tests})"


def breaks(file: str, tests: str, *changes: tuple[str, str]) -> list[Break]:
    return [Break(f"cyconv/{file}", old, new, tests) for old, new in changes]


LOWERING = "test_lowering.py portable"
DEPTHWISE = "test_depthwise.py portable"
DIRECT = "test_direct.py portable"
DIRECT_GRAD = "test_direct_grad.py portable"
WINOGRAD = "test_winograd.py portable"
BLOCKS = "test_winograd_blocks.py portable"

BREAKS = [
    # What takes hold of arrays: types, axes and lengths that are not checked, arrays not let go.
    *breaks(
        "kernels/arrays.pxi",
        "test_kernel_arguments.py portable",
        ('b"ilqn"', 'b"ilqnLQ"'),
        ("if buffer.ndim != axes:", "if buffer.ndim < axes:"),
        ("if array.itemsize != held.itemsize:", "if array.itemsize < held.itemsize:"),
        ("array.itemsize != itemsize:", "array.itemsize > itemsize:"),
        ("range(held.count)", "range(held.count - 1)"),
    ),
    *breaks(
        "kernels/arrays.pxi",
        DIRECT,
        ("if array.shape[0] != number:", "if array.shape[0] > number:"),
    ),
    # A bound of what lies inside the image; a count that is one too many.
    *breaks("kernels/axes.pxi", LOWERING, ("(limit - start - 1) //", "(limit - start) //")),
    *breaks(
        "kernels/lowering.pxi",
        LOWERING,
        ("first_inside(lines.first[line], 0, axis", "first_inside(lines.first[line], 1, axis"),
        ("* OH + h[j].out) * OW", "* OW + h[j].out) * OH"),
        ("row[start + j * stride] += line[j]", "row[start + j * stride] -= line[j]"),
        ("0 <= h[h0].cell < at(axes, 1", "0 < h[h0].cell < at(axes, 1"),
        ("for j in range(W - last, W)", "for j in range(W - last + 1, W)"),
        ("clear_run(run, top * W)", "clear_run(run, 0)"),
        ("clear_run(run + bottom * W, (OH - bottom) * W)", "pass"),
        ("if 0 <= d < at(axes, 0, SIZE)", "if 0 < d < at(axes, 0, SIZE)"),
    ),
    *breaks(
        "kernels/bands.pxi",
        DEPTHWISE,
        ("+ tap * a.dilation // a.stride * a.step", "+ tap // a.stride * a.step"),
        ("g.axes[2].sheet_step * g.axes[2].sheets", "g.axes[2].sheet_step * g.axes[1].sheets"),
        ("rows * a.size - run.lo - run.cell", "rows * a.size - run.lo"),
        ("pairs = min(run.hi, odd.hi) - run.lo", "pairs = min(run.hi, odd.hi) - run.lo - 1"),
    ),
    *breaks(
        "kernels/depthwise.pxi",
        DEPTHWISE,
        ("if ow + 1 != g.left else g.right", "if ow + 1 != g.left else g.right + 1"),
        ("            y += block * y_step", "            y += (block - 1) * y_step"),
    ),
    *breaks(
        "kernels/depthwise_grad.pxi",
        DEPTHWISE,
        ("sums[g.places[t]] += sums[t]", "sums[g.places[t]] = sums[t]"),
        ("(f - task[2] * filters + 2) * g.taps", "(f + 2) * g.taps"),
        ("            sums[2 * g.taps + t] = 0\n", ""),
        ("+ task[2] * filters * g.taps\n", "\n"),
    ),
    *breaks(
        "kernels/shares.pxi",
        DEPTHWISE,
        ("return shares.tasks + 4 * t if", "return shares.tasks + 4 if"),
    ),
    *breaks(
        "kernels/lanes.pxi",
        DEPTHWISE,
        ("if 0 <= w + a.low < g.width", "if 0 <= w + a.low <= g.width"),
        ("oh * height.stride - height.low\n", "oh * height.stride + height.low\n"),
        ("d0, d1, h0, h1 = 0, 1, 0, 0", "d0, d1 = 0, 1"),
        ("start, step = y, g.lanes\n", "start, step = y, 0\n"),
        ("min(g.lanes, task[3] - c)", "g.lanes"),
    ),
    *breaks(
        "kernels/lanes.h",
        DEPTHWISE,
        ("cells - LANES : i", "cells - LANES + 1 : i"),
        ("(c < channels ? c : channels - 1)", "c"),
        ("        start += some * start_step;\n", ""),
        ("sums + (i + j) * LANES", "sums + i * LANES"),
    ),
    *breaks(
        "kernels/microkernel.pxi",
        DIRECT,
        ("taps[i].cell - taps[i - 1].cell != taps[1].cell - taps[0].cell", "False"),
    ),
    *breaks(
        "kernels/direct.pxi",
        DIRECT,
        ("width.length - wide.hi)", "width.length - wide.hi - 1)"),
        ("kh * steps[TAP_STEPS + 1] + kw *", "kw * steps[TAP_STEPS + 1] + kh *"),
        (
            "if done == 0 else NULL,\n            add or done > 0, y",
            "if done == 0 else NULL,\n            add or done < 0, y",
        ),
        ("tiles * (part + 1) // parts)", "tiles * (part + 1) // parts - 1)"),
        ("outer // panels, outer % panels", "0, outer % panels"),
        (" and not (add and again)", ""),
        ("&buffer[again]", "&buffer[0]"),
        ("and part == 0 else NULL", "else NULL"),
        ("+ first * steps[CHANNEL_STEP]", ""),
        ("parts > 1 or not", "not"),
        ("band.channels = most\n", "band.channels = 1\n"),
        ("&turned[j * rows]", "&turned[0]"),
        ("not same_box(held, task, IMAGE)", "not same_box(held, task, GROUP)"),
        ("        and not are_crowded(axes, channels, filters, itemsize)\n", ""),
        ("apart == 0 and channels >= CROWDED_CHANNELS and", "channels >= CROWDED_CHANNELS and"),
        (
            "channels >= CROWDED_CHANNELS and filters >= CROWDED_FILTERS",
            "channels >= CROWDED_CHANNELS",
        ),
        ("// CACHE_LINE | 1)", "// CACHE_LINE)"),
        ("- box[2 * a] * at(axes, a, STRIDE)", "+ box[2 * a] * at(axes, a, STRIDE)"),
    ),
    *breaks(
        "kernels/direct_grad.pxi",
        DIRECT_GRAD,
        ("columns, i > first,", "columns, i > first + 1,"),
        ("turned + h * OW * columns", "turned + h * columns"),
        (
            "not same_box(row_of(tasks, i - 1), task, BOX):\n                count",
            "False:\n                count",
        ),
    ),
    *breaks(
        "kernels/whole.pxi",
        "test_whole.py portable",
        ("buffer.len != sizes[3 if i == number else i] * itemsize or ", ""),
        ("self.image_step = channels * volume", "self.image_step = volume"),
    ),
    *breaks(
        "kernels/simd.h",
        WINOGRAD,
        ("TURN(rows - LANES, j)", "TURN(rows - LANES - 1, j)"),
        ("TURN_SOME(i, right, LANES, c)", "TURN_SOME(i, right, LANES, c - 1)"),
    ),
    *breaks(
        "kernels/simd.h",
        DIRECT,
        ("(sums[i][j], weights[i], cells[j])", "(sums[i][j], weights[0], cells[j])"),
        ("NAME(load)(from + (vectors - 1) * LANES)", "NAME(load)(from + (vectors - 2) * LANES)"),
    ),
    *breaks(
        "kernels/winograd_grad.pxi",
        BLOCKS,
        ("(f // rows * tiles + t + i) * rows + f % rows", "(f // rows * tiles + t + i) * rows"),
        ("(rows, memory)\n    if rows % WIDE:", "(rows, memory)\n    if False:"),
    ),
    # The transforms of the plain road, and those of the fast one.
    *breaks(
        "kernels/winograd.pxi",
        WINOGRAD,
        ("first <= tiles - u.shape[1]", "first <= tiles"),
        ("not 0 <= tap < at(axes, 0, KERNEL)", "not 0 <= tap"),
        ('"dy")\n    check_forwards(axes)\n', '"dy")\n'),
        ("stride < 0 or not is_served", "not is_served"),
        ("u.shape[2] != in_wides(x.shape[1])", "u.shape[2] < in_wides(x.shape[1])"),
        (
            "steps.filter_step, steps.channel_step = steps.channel_step, steps.filter_step",
            "pass",
        ),
    ),
    *breaks(
        "kernels/winograd.h",
        WINOGRAD,
        (
            "ROOT_HALF, SUBTRACT(x[1], x[2]));\n    const VECTOR even2 = TIMES(1.0",
            "ROOT_HALF, ADD(x[1], x[2]));\n    const VECTOR even2 = TIMES(1.0",
        ),
        ("-(SQUARE_A + SQUARE_B + SQUARE_C)", "-(SQUARE_A + SQUARE_B - SQUARE_C)"),
        (
            "odd##i = PLUS(PLUS(x[5], -(q + r), x[3])",
            "odd##i = PLUS(PLUS(x[5], q + r, x[3])",
        ),
        ("-SHARE(p, q, r) * root", "SHARE(p, q, r) * root"),
    ),
    *breaks(
        "kernels/transforms.pxi",
        WINOGRAD,
        (
            "taps + steps.side * row - column, -row, -column,",
            "taps + steps.side * row - column, -column, -row,",
        ),
        ("w - (number - 1)", "w - 8"),
    ),
    *breaks(
        "kernels/winograd.h",
        BLOCKS,
        (
            "    y[2] = PLUS(TIMES(0.5, even1), 2, even2)",
            "    y[2] = PLUS(TIMES(0.5, even1), -2, even2)",
        ),
        (
            "    y[3] = ADD(PLUS(PLUS(TIMES(SQUARE_A, odds",
            "    y[3] = SUBTRACT(PLUS(PLUS(TIMES(SQUARE_A, odds",
        ),
        ("(y[4], SQUARE_D * SQUARE_E, x[0])", "(y[4], -SQUARE_D * SQUARE_E, x[0])"),
        ("y[2 * i] = x[5 + i]", "y[2 * i] = x[4 + i]"),
        ("y[i] = ADD(y[i], x[5 + i])", "y[i] = SUBTRACT(y[i], x[5 + i])"),
        ("PLUS(x[4], share, odds)", "PLUS(x[4], -share, odds)"),
        ("y[i + 1] = PLUS(first##i, -0.5", "y[i + 1] = PLUS(first##i, 0.5"),
    ),
    *breaks(
        "kernels/grid.pxi",
        BLOCKS,
        ("(1 - at(axes, axis, LOW)) & 1", "at(axes, axis, LOW) & 1"),
        ("5, g.low_h >> 1, g.low_w >> 1", "5, g.low_h >> 1, g.low_w"),
        ("g.pitch = 8\n    elif", "g.pitch = 4\n    elif"),
        ("first_tile(axes, axis) + phases - 1) //", "first_tile(axes, axis)) //"),
        ("min(at(axes, axis, DILATION), at(axes, axis, OUTPUT))", "at(axes, axis, DILATION)"),
        ("at(axes, a, DILATION) > most_apart(", "at(axes, a, DILATION) > 1 + most_apart("),
    ),
    *breaks(
        "kernels/tiles.pxi",
        BLOCKS,
        ("            if count < WIDE:\n", "            if False:\n"),
        ("zero(&taps[0], some * number * WIDE)", "zero(&taps[0], number * WIDE)"),
        ("steps, 1) and steps.channel_step == number else", "steps, 1) else"),
        ("v + (c + i) * row_step + f", "v + c * row_step + f"),
        ("hi = g.W - w\n", "hi = g.W - w - 1\n"),
        ("first_inside(w, g.W, step)", "first_inside(w, g.W - 1, step)"),
        ("first_inside(w, 0, step)", "first_inside(w, 0, 1)"),
        ("max(<Py_ssize_t>0, lo))", "lo)"),
        ("min(g.cells, first_inside(top, g.H, g.apart_h))", "min(g.cells - 1, g.H - top)"),
        ("lo = max(<Py_ssize_t>0, -left), hi", "lo = 0, hi"),
        ("whole = run % g.phases_w == 0", "whole = True"),
        ("    elif phase or min(count", "    elif min(count"),
        ("start + g.pitch * g.apart_w - phases", "start + g.pitch * g.apart_w - 1"),
        ("min(min(count, phases - phase), most)", "min(count, phases - phase)"),
        ("1 + (most - phases) //", "2 + (most - phases) //"),
        ("h + i * g.apart_h, w, step", "h + i * g.apart_w, w, step"),
        ("step, count = g.apart_w, g.cells", "step, count = 1, g.cells"),
        ("0 <= h < g.H - (g.cells - 1) * g.apart_h", "0 <= h < g.H - (g.cells - 1)"),
        ("j < min(end_of(g, starts[i]), g.W - left)", "j < end_of(g, starts[i])"),
    ),
    *breaks(
        "kernels/winograd_blocks.pxi",
        BLOCKS,
        ("max(i // points, i % points) >= weights", "i // points >= weights"),
        ("            panel += panel_step\n", ""),
        ("k * C * v_step + f % v_step", "k * C * v_step"),
        ("+ first * w.steps[1] ", ""),
        ("u.cells + k * CW + first", "u.cells + k * CW"),
        ("count, k > 0 or first > 0", "count, k > 0"),
        ("v.steps[0], KD * C * rows,", "v.steps[0], C * rows,"),
    ),
    *breaks(
        "kernels/bias.pxi",
        "test_lowering.py bias",
        ("target[i] += b[f]", "target[i] += b[0]"),
        (
            "cells + n * a.steps[0] + f * a.steps[1], to",
            "cells + n * y.steps[0] + f * y.steps[1], to",
        ),
        ("if b.shape[0] != y.shape[1]:", "if b.shape[0] > y.shape[1]:"),
        ("    check_rows(", "    0 and check_rows("),
    ),
    *breaks(
        "kernels/layout.pxi",
        "test_direct.py portable and turn",
        ("a.shape[0], a.shape[1], <real*>", "a.shape[0], a.shape[1] - 1, <real*>"),
        ("target.shape[0] != source.shape[1] or ", ""),
        ("    check_rows(", "    0 and check_rows("),
    ),
    *breaks(
        "kernels/winograd_grad.pxi",
        BLOCKS,
        ("i > at(parts, t, 0),", "i > at(parts, t, 0) + 1,"),
        ("range(1, parts.shape[0])", "range(2, parts.shape[0])"),
        ("count, add or i > 0", "count, i > 0"),
    ),
    *breaks(
        "kernels/rows.h",
        DEPTHWISE,
        ("REAL sum = add ? y[r * y_step] : bias;", "REAL sum = bias;              "),
    ),
    *breaks(
        "kernels/waiting.h",
        BLOCKS,
        ("cyconv_read(word) < value;", "cyconv_read(word) < value - 1;"),
    ),
    *breaks(
        "kernels/direct.pxi",
        "test_threads.py ring",
        ("        ring(rings)\n", ""),
    ),
    # Tasks from the front and from the back.
    *breaks(
        "kernels/waiting.h",
        DIRECT,
        ("front + back >= number", "front >= number"),
        ("number - 1 - back : front", "number - back : front"),
    ),
    *breaks(
        "kernels/rows.h",
        DEPTHWISE,
        (
            "for (ptrdiff_t j = n - n % LANES; j < n; j++) ",
            "for (ptrdiff_t j = n - n % LANES + 1; j < n; j++) ",
        ),
    ),
    *breaks(
        "kernels/rows.h",
        DIRECT,
        ("for (; j < n; j++) row[j] += cells[j];", ""),
    ),
    # The fallback.
    *breaks(
        "kernels/fallback/lowering.py",
        "test_lowering.py fallback",
        ("(size - start - 1) // stride", "(size - start) // stride"),
        ("x[cells] += view[outputs]", "x[cells] = view[outputs]"),
    ),
    *breaks(
        "kernels/fallback/depthwise.py",
        "test_depthwise.py fallback",
        ("y[:, :, od, oh, ow] += products", "y[:, :, od, oh, ow] = products"),
        ("y[..., 1::2], odd_axes", "y[..., ::2], odd_axes"),
    ),
    *breaks(
        "kernels/fallback/direct.py",
        "test_direct_grad.py fallback",
        ("if t == begin:", "if t == 0:"),
    ),
    # Integers: outputs, pads, tiles.
    *breaks(
        "geometry.py",
        "test_shapes.py",
        ("return (padded - extent) // stride + 1", "return -(-(padded - extent) // stride) + 1"),
    ),
    *breaks(
        "geometry.py",
        "test_padding.py",
        ('(small, large) if name == "same"', '(large, small) if name == "same"'),
    ),
    *breaks("geometry.py", "test_functional.py", ("(k - 1) * d - p for", "(k - 1) * d + p for")),
    *breaks(
        "adjoint.py",
        "test_transposed.py",
        ("dilation * (kernel - 1) + 1 + extra", "dilation * (kernel - 1) + 1"),
    ),
    *breaks(
        "tiling.py",
        "test_threads.py bits or right",
        ("* int(output[2]) + start[2]", "* int(output[1]) + start[2]"),
        ("for n in range(g.batch):", "for n in range(g.batch - 1):"),
    ),
    *breaks(
        "tiling.py",
        "test_lowering.py as_named",
        ("if fewer and len(tiles) > 1", "if len(tiles) > 1"),
        ("if fewer and len(tiles) > 1", "if False and len(tiles) > 1"),
    ),
    *breaks(
        "tiling.py",
        "test_lowering.py one_image",
        ("limit = min(_share_images(g, limit), share)", "limit = _share_images(g, limit)"),
        ("share = max(FEWEST_SUMMED, ", "share = max(1, "),
        ("g.positions * number // wanted", "g.positions // wanted"),
    ),
    *breaks(
        "algorithms/phases.py",
        "test_threads.py right",
        ("shift = (p + low - last * dilation)", "shift = (p + low - first * dilation)"),
    ),
    # What is done around the kernels.
    *breaks(
        "padding.py",
        "test_padding.py",
        ("inside[1 : low + 1][::-1]", "inside[:low][::-1]"),
        ("source += border", "source[...] = border"),
    ),
    *breaks("layout.py", "test_formats.py", ("min(h, y + height)", "min(h, y + height - 1)")),
    *breaks(
        "rows.py",
        "test_formats.py",
        ("np.sum(sums, axis=0, out=dw)", "np.sum(sums[1:], axis=0, out=dw)"),
    ),
    *breaks(
        "bias.py",
        "test_sums.py",
        ("_sums(sums.reshape(1, n, f))", "sums.reshape(n, f)[:1]"),
        ("boxes((1, rows, columns)", "boxes((1, rows, columns - 1)"),
        ("sums[part] = _sums", "sums[: len(some)] = _sums"),
    ),
    *breaks(
        "kernels/fallback/sums.py",
        "test_sums.py fallback",
        ("np.add.reduce(steps, axis=2, dtype=np.float64)", "np.add.reduce(steps, axis=2)"),
        ("    while x.shape[1] > STEP:", "    while False:"),
    ),
    *breaks(
        "kernels/sums.pxi",
        "test_sums.py",
        ("sum_cells_float(x + i * rows, rows)", "sum_cells_float(x + i, rows)"),
        ("if columns == 1 and task[2] < task[3]", "if columns == 2 and task[2] < task[3]"),
        ("task[3] - task[2])\n        elif", "task[3] - task[2] - 1)\n        elif"),
    ),
    *breaks(
        "kernels/sums.h",
        "test_sums.py",
        ("load_some)(x + i, n - i)", "load_some)(x + i, n - i - 1)"),
        ("columns - j < LANES ? columns - j : LANES;", "LANES;"),
        ("if (n > CELLS_AT_ONCE * LANES)", "if (0)"),
        ("if (rows > SOME_ROWS)", "if (0)"),
        ("sums[0] = NAME(add)(sums[0], NAME(load)(x + i))", "sums[0] = NAME(load)(x + i)"),
        ("rows - r < ROWS_AT_ONCE ? rows - r : ROWS_AT_ONCE", "ROWS_AT_ONCE"),
    ),
    *breaks("prepare.py", "test_transposed.py", ("            add_bias(images, bias)\n", "")),
    *breaks(
        "algorithms/products.py",
        "test_functional.py",
        ("add_bias(place, b, place)", "add_bias(place, -b, place)"),
        ("first=tile is share.tiles[0]", "first=True"),
    ),
    *breaks(
        "algorithms/products.py",
        "test_lowering.py shared or blocks",
        ("    if end < positions:\n        np", "    if False:\n        np"),
        ("    if end:\n", "    if end > block:\n"),
        (".transpose(2, 0, 1, 3)", ".transpose(2, 0, 1, 3)[::-1]"),
        ("== 3 else total.sum(axis=0)", "== 3 else total[0]"),
    ),
    *breaks(
        "algorithms/products.py",
        "test_lowering.py at_once",
        ("weights > limit or", "weights >= limit or"),
        ("(weights > FEW_WEIGHTS and not", "(weights >= FEW_WEIGHTS and not"),
        ("if itemsize == 4 else FEW_WEIGHTS", "if itemsize else FEW_WEIGHTS"),
    ),
    *breaks(
        "algorithms/small.py",
        "test_small.py",
        ("or g.group_weights <= FEW_WEIGHTS", "or True"),
        ("and unpacked(g.group_weights, itemsize) > 0", "and True"),
        ("    if positions * weights <= threads.SMALL_PRODUCT:\n", "    if True:\n"),
        ("itemsize, threads.SMALL_PRODUCT)", "itemsize)"),
        ("min(start + step, positions)", "start + step - 1"),
        ("g.channels, dtype, COLS)", "g.channels, dtype, IMAGES)"),
        ("if g.batch == 1:\n        return lambda", "if True:\n        return lambda"),
        ("                y[...] = images\n", "                pass\n"),
        ("            dx[...] = 0\n", ""),
        ("dw += product_of", "dw -= product_of"),
        ("with threads.quiet():\n            w, cols", "if True:\n            w, cols"),
        ("with threads.quiet():\n            w, dy", "if True:\n            w, dy"),
        ("with threads.quiet():\n            dy, cols", "if True:\n            dy, cols"),
        ("native(bias[0], dtype), y)", "bias[0], y)"),
        ("native(bias[0], dtype), images)", "bias[0], images)"),
    ),
    *breaks(
        "algorithms/small.py",
        "test_plan.py few_products",
        ("        g = g.flipped()\n", "        pass\n"),
        ("<= FEW_PRODUCTS:", "< 9 * FEW_PRODUCTS:"),
    ),
    *breaks(
        "algorithms/small.py",
        "test_describe.py extra_memory",
        ("own += g.filters * positions", "own += 0"),
    ),
    *breaks(
        "algorithms/products.py",
        "test_lowering.py by_rows",
        ("    if end < rows:\n", "    if False:\n"),
        ("not FEWEST_ROWS <= most < count", "not FEWEST_ROWS < most <= count"),
        ("1 < width <= WIDEST", "1 < width < WIDEST"),
        ("-(-count // -(-count // most))", "most // 2"),
    ),
    *breaks(
        "rows.py",
        "test_formats.py blocks",
        ("first=rows.start == 0", "first=True"),
        ("right[None, rows]", "right[None, : length(rows)]"),
    ),
    *breaks(
        "threads.py",
        "test_threads.py which_blas",
        ('library.internal_api == "openblas" and ', ""),
        ("library.architecture in UNPACKING", "True"),
    ),
    *breaks(
        "algorithms/direct.py",
        "test_options.py",
        ("    if plan.tiles.gaps:\n        dx[...] = 0\n", ""),
    ),
    # Threads, and what is kept.
    *breaks(
        "threads.py",
        "test_threads.py blas",
        ("            if not self._holders:\n", "            if self._holders:\n"),
    ),
    *breaks(
        "scratch.py",
        "test_scratch.py",
        ("if size > KEPT_SCRATCH:", "if size >= KEPT_SCRATCH:"),
    ),
    *breaks(
        "threads.py",
        "test_threads.py begins or warned",
        (
            "                self._stop -= 1\n                return self._stop",
            "                self._next += 1\n                return self._next - 1",
        ),
        (
            "                while (tile := self._take(helping))",
            "                while (tile := self._take(not helping))",
        ),
        (
            "    if number == 1:\n        with quiet():\n",
            "    if number == 1:\n        with contextlib.nullcontext():\n",
        ),
    ),
    *breaks(
        "algorithms/winograd.py",
        "test_winograd.py close",
        ("(last + 2 - g.low[axis]) // 2 + 1", "(last + 2 - g.low[axis]) // 2"),
        ("+ 1 - g.low[axis] % 2) // 8", "- g.low[axis] % 2) // 8"),
    ),
    *breaks(
        "algorithms/nonfused.py",
        "test_winograd.py close or memory",
        ("first=chunk is cut.tiles[0]", "first=True"),
        ("first=first and i == j == 0", "first=first"),
        (
            "slice(i, None, down), slice(j, None, across)",
            "slice(i, None, down), slice(i, None, across)",
        ),
        ("column = tap * step + start", "column = tap * step"),
        ("v[:, start:stop], cut.stride)", "v[:, start:stop], 1)"),
        ("        rows[part] += more[part]\n", "        rows[part] += more[0]\n"),
        ("*(slice(i, i + 1) for i in range(5))", "*(slice(i, i + 1) for i in range(4))"),
        ("        v[:, stop : start + step] = 0\n", ""),
    ),
    *breaks(
        "algorithms/winograd.py",
        "test_winograd.py difference",
        ("(last + 2 - g.low[axis]) // 2 + 1", "(last + 2 - g.low[axis]) // 2 + 2"),
        ("dy, _what_is_read(plan, x), dw)", "dy, x, dw)"),
        ('"forward")\n    g = _read(g)', '"forward")'),
    ),
    *breaks(
        "algorithms/depthwise.py",
        "test_plan.py lanes",
        ("unit = TOGETHER if lanes and", "unit = TOGETHER if"),
    ),
    *breaks(
        "algorithms/direct.py",
        "test_plan.py direct or avx2 or many_weights",
        ("columns * itemsize % CROWDED_BYTES", "columns % CROWDED_BYTES"),
        ("return weights <= most", "return weights < most"),
        ("else one_tap if g.taps == 1", "else one_tap if False"),
        ("strided if g.stride != (1, 1, 1) else one", "strided if False else one"),
        ("g.multiply_adds <= LARGE_WORK", "g.multiply_adds <= LARGE_WEIGHTS"),
    ),
    *breaks(
        "algorithms/direct.py",
        "test_direct.py small",
        (
            "len(part.tasks) // batch * length(images)",
            "len(part.tasks) // batch * (length(images) - 1)",
        ),
        ("g.taps * g.group_filters, 1, g.group_filters", "g.taps * g.group_filters, 1, 1"),
        ("or work.gaps or work.turned", "or work.gaps"),
        ("turned[group, rows])", "turned[0, rows])"),
    ),
    *breaks(
        "algorithms/strided.py",
        "test_strided.py",
        ("min(g.size[axis], read)", "g.size[axis]"),
        ("                taps[0] += own\n", "                pass\n"),
        ("    x[block.images] = 0\n", ""),
        ("own = _sort(plan, block, x), taps[min(i, 1)]", "own = _sort(plan, block, x), taps[0]"),
        ("max(1, BLOCK_BYTES // image_bytes)", "g.batch"),
        ("reads=min(size for size, *_ in rows) > 0", "reads=True"),
    ),
    *breaks(
        "threads.py",
        "test_interruptions.py",
        ("                _blas.release(holder)\n", "                pass\n"),
        ("                    region.wait()\n", "                    pass\n"),
    ),
    *breaks(
        "frozen.py",
        "test_freeze.py",
        ("        if on != self.on:\n", "        if on:\n"),
    ),
]
