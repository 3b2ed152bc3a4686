# Any convolution in place: a microkernel over a table of taps, and no columns.
#
# For a run of output positions, each tap of the kernel reads a run of cells at a constant offset: in
# a band (bands.pxi), or, where no tap leaves x and the stride is 1, in x itself. So a convolution is
# a matrix product whose right operand is never made: for each tap (channel, kd, kh, kw) in turn the
# microkernel (simd.h) loads the cells of some 48 positions from there, and adds them, times the
# weight of each of some 8 filters, to sums that stay in registers.
#
# A run is a row of the output, or a whole plane where its rows follow each other in the band with
# little or nothing in between: sums of the cells in between are computed too, and dropped.
#
# Channels may be gone through some at a time (`together`), what the next ones give added to y: then a band
# is small however many there are, and their weights and the table stay in cache.
#
# An input gradient is the same over dy, its rows the channels of x; with a stride, once for each
# remainder of the positions of dx by the stride, by the taps that reach it. All that differs is
# where weights are found: `steps`.

cdef enum:
    # `steps`: from a filter, a channel and a group to the next in w; where the first tap is, and from
    # a tap to the next along each axis.
    ROW_STEP = 0
    CHANNEL_STEP = 1
    GROUP_STEP = 2
    FIRST_TAP = 3
    TAP_STEPS = 4
    # A task: image, group, the box of the output (start and stop of each axis), filters of the group.
    IMAGE = 0
    GROUP = 1
    BOX = 2
    FILTERS = 8
    # Weights of this many bytes stay in a core's second cache. Then all of them are gone through for
    # a part of the positions, as many tiles as have so many taps in all; else all positions for each
    # few filters. A part of one tile, whose rows are written too far from each other for the processor
    # to see what comes, took 1.3 times as long for 1x1 from 64 to 256 channels.
    SMALL_WEIGHTS = 524288
    NEAR_TAPS = 1536
    # Sums of more products than this are made of sums of so many, which are more accurate: one sum
    # of 12,800 terms of one sign was off by 5.2e-6 of the largest.
    LONG_SUM = 512
    # A tile, for where it cannot go straight to y: 8 rows of 6 vectors of 64 bytes at most.
    TILE_ITEMS = 512
    # Planes a multiple of this many bytes apart compete for the same few lines of the nearest cache. So
    # many channels of them are copied, for so many filters: on an Intel Xeon 1x1 of 64 channels took 1.1
    # to 1.2 times as long in place on 64x64, of 512 on 32x32 2.0 times; of 16 and 24 0.85 to 1.0 times.
    CROWDED_BYTES = 4096
    CROWDED_CHANNELS = 48
    CROWDED_FILTERS = 16


cdef struct Direct:
    Layout band
    bint in_place
    bint placed  # the only box has been laid out
    Tap* taps
    bint steady  # these are equal steps
    Py_ssize_t w_step  # from a filter to the next
    Py_ssize_t memory  # items of the band, and room for the last vector to read past it


cdef struct Runs:
    # The positions of a box: runs of `length`, `per_plane` in each plane: its rows, or all of it,
    # in which rows of `width` begin every `row_step` cells. Each is computed in `tiles` tiles.
    Py_ssize_t per_plane, length, width, row_step, tiles


cdef Py_ssize_t longest(const Array* tasks, Py_ssize_t axis, bint shortest) noexcept nogil:
    """The largest, or the smallest, extent of the boxes along one axis."""
    cdef Py_ssize_t t, extent, best = at(tasks, 0, BOX + 2 * axis + 1) - at(tasks, 0, BOX + 2 * axis)
    for t in range(1, tasks.shape[0]):
        extent = at(tasks, t, BOX + 2 * axis + 1) - at(tasks, t, BOX + 2 * axis)
        best = min(best, extent) if shortest else max(best, extent)
    return best


cdef bint reads_inside(const Array* axes) noexcept nogil:
    """Whether no tap leaves x, and runs are runs of x."""
    cdef Py_ssize_t a
    for a in range(3):
        if at(axes, a, STRIDE) != 1 or at(axes, a, LOW) > 0:
            return False
        if at(axes, a, OUTPUT) - 1 - at(axes, a, LOW) + (at(axes, a, KERNEL) - 1) * at(axes, a, DILATION) >= at(axes, a, SIZE):
            return False
    return True


cdef bint are_crowded(const Array* axes, Py_ssize_t channels, Py_ssize_t filters, Py_ssize_t itemsize) noexcept nogil:
    """Whether planes are better copied than read where they lie, one after another."""
    cdef Py_ssize_t a, apart = itemsize
    for a in range(3):
        apart = apart * (at(axes, a, SIZE) % CROWDED_BYTES) % CROWDED_BYTES
    return apart == 0 and channels >= CROWDED_CHANNELS and filters >= CROWDED_FILTERS


cdef int lay_out_direct(
    Direct* g, const Array* axes, const Array* tasks, const Py_ssize_t* steps,
    Py_ssize_t channels, Py_ssize_t filters, const Source* source, Py_ssize_t itemsize
) except -1 nogil:
    """Decide how x is read, and list the taps; for the weight gradient, `filters` is 0."""
    cdef Layout* band = &g.band
    cdef Py_ssize_t a, c, kd, kh, kw, cell, k = 0
    cdef double cells = shape_axes(band, axes, channels, filters, NARROW)
    cdef Axis* depth = &band.axes[0]
    cdef Axis* height = &band.axes[1]
    cdef Axis* width = &band.axes[2]
    # A tile may begin before the end of its run, so as not to end after it; not before its start.
    g.in_place = (
        reads_inside(axes) and source.column_step == 1 and longest(tasks, 2, True) >= VECTOR_BYTES // itemsize
        and not are_crowded(axes, channels, filters, itemsize)
    )
    g.placed = False
    g.w_step = steps[ROW_STEP]
    g.taps = NULL
    if depth.kernel * <double>height.kernel * width.kernel * channels > MOST_ITEMS:
        with gil:
            raise MemoryError("no memory for so many taps")
    if not g.in_place:
        cells = 1
        for a in range(3):
            band.axes[a].length += longest(tasks, a, False) - band.axes[a].output
            cells *= band.axes[a].sheets * <double>band.axes[a].length
    g.taps = <Tap*>malloc(
        (band.taps + AHEAD) * sizeof(Tap) + (depth.sheets + height.sheets + width.sheets) * sizeof(Run)
    )
    # More cells than this are more bytes than a Py_ssize_t counts, or memory holds.
    if g.taps == NULL or cells * channels > 1e17:
        free(g.taps)
        g.taps = NULL
        with gil:
            raise MemoryError("no memory for a band")
    if g.in_place:
        g.memory = 0
    else:
        lay_band(band, <Run*>(g.taps + band.taps + AHEAD))
        # An odd number of lines apart, planes have all places of the nearest cache.
        band.cells = ((band.cells * itemsize + CACHE_LINE - 1) // CACHE_LINE | 1) * CACHE_LINE // itemsize
        g.memory = channels * band.cells + VECTOR_BYTES // itemsize
    for c in range(channels):
        for kd in range(depth.kernel):
            for kh in range(height.kernel):
                for kw in range(width.kernel):
                    if g.in_place:
                        cell = (
                            c * source.channel_step + kd * depth.dilation * source.depth_step
                            + kh * height.dilation * source.height_step + kw * width.dilation
                        )
                    else:
                        cell = (
                            c * band.cells + offset_of(depth, kd) + offset_of(height, kh)
                            + offset_of(width, kw)
                        )
                    g.taps[k].cell = cell
                    g.taps[k].weight = (
                        steps[FIRST_TAP] + c * steps[CHANNEL_STEP] + kd * steps[TAP_STEPS]
                        + kh * steps[TAP_STEPS + 1] + kw * steps[TAP_STEPS + 2]
                    )
                    k += 1
    repeat_last(g.taps, k)
    # With 32 registers a table costs no time, and those who read it fetch cells ahead.
    g.steady = REGISTERS == 16 and are_steady(g.taps, k)
    return 0


cdef void place_box(Layout* band, const Array* axes, const Py_ssize_t* box) noexcept nogil:
    """Find the runs of a box of the output."""
    cdef Py_ssize_t a
    for a in range(3):
        band.axes[a].low = at(axes, a, LOW) - box[2 * a] * at(axes, a, STRIDE)
    find_runs(band)


cdef void clear_margins(const Layout* g, real* band) noexcept nogil:
    """Zero what `fill` leaves alone."""
    cdef const Axis* depth = &g.axes[0]
    cdef const Axis* height = &g.axes[1]
    cdef const Axis* width = &g.axes[2]
    cdef Py_ssize_t c, sd, sh, sw, d, h
    cdef Run deep, high, wide
    cdef real* plane
    cdef real* row
    for c in range(g.channels):
        for sd in range(depth.sheets):
            deep = depth.runs[sd]
            for sh in range(height.sheets):
                high = height.runs[sh]
                for sw in range(width.sheets):
                    wide = width.runs[sw]
                    for d in range(depth.length):
                        plane = (
                            band + c * g.cells + sd * depth.sheet_step + sh * height.sheet_step
                            + sw * width.sheet_step + d * depth.step
                        )
                        if not deep.lo <= d < deep.hi or wide.lo == wide.hi:
                            memset(plane, 0, depth.step * sizeof(real))
                            continue
                        memset(plane, 0, high.lo * height.step * sizeof(real))
                        row = plane + high.hi * height.step
                        memset(row, 0, (height.length - high.hi) * height.step * sizeof(real))
                        for h in range(high.lo, high.hi):
                            row = plane + h * height.step
                            zero(row, wide.lo)
                            zero(row + wide.hi, width.length - wide.hi)


cdef inline double run_cost(Py_ssize_t length, Py_ssize_t lanes, Py_ssize_t limit) noexcept nogil:
    """Of a run, in vectors: one by itself takes half as long again as one of several."""
    cdef Py_ssize_t vectors = (length + lanes - 1) // lanes
    return vectors + 0.5 * ((vectors + limit - 1) // limit)


cdef inline Runs runs_of(
    const Direct* g, const Py_ssize_t* box, Py_ssize_t row_step, const Py_ssize_t* y_steps,
    Py_ssize_t lanes, Py_ssize_t limit
) noexcept nogil:
    """How the positions of a box are gone through, at the least cost."""
    cdef Py_ssize_t OH = box[3] - box[2], OW = box[5] - box[4]
    cdef Py_ssize_t plane = (OH - 1) * row_step + OW, vectors
    cdef double scattered = 10.0 / g.band.taps * plane / (limit * lanes)  # to copy rows out of tiles
    cdef Runs runs
    runs.row_step = row_step
    if row_step == OW and y_steps[3] == OW and y_steps[4] == 1:
        runs.per_plane, runs.length, runs.width, runs.row_step = 1, plane, plane, plane
    elif row_step >= OW and OH * run_cost(OW, lanes, limit) > run_cost(plane, lanes, limit) + scattered:
        runs.per_plane, runs.length, runs.width = 1, plane, OW
    else:
        runs.per_plane, runs.length, runs.width = OH, OW, OW
        runs.row_step = max(row_step, OW)
    vectors = (runs.length + lanes - 1) // lanes
    runs.tiles = (vectors + limit - 1) // limit
    if g.in_place and vectors > 1 and vectors * lanes > runs.length:
        runs.tiles = max(runs.tiles, <Py_ssize_t>2)  # so that none is longer than the run
    return runs


cdef inline void put_row(const real* cells, real* to, Py_ssize_t n, bint add) noexcept nogil:
    """to = or += cells."""
    if real is float:
        if add:
            add_row_float(cells, to, n)
        else:
            copy_row_float(cells, to, n)
    else:
        if add:
            add_row_double(cells, to, n)
        else:
            copy_row_double(cells, to, n)


cdef inline void scatter(
    const real* tile, Py_ssize_t tile_step, Py_ssize_t rows, Py_ssize_t start, Py_ssize_t n,
    const Runs* runs, bint add, real* y, const Py_ssize_t* y_steps
) noexcept nogil:
    """Write, or add, positions `start` to `start + n` of a run to their rows of y."""
    cdef Py_ssize_t row = start // runs.row_step, col = start % runs.row_step, i, j, count
    cdef const real* cells
    cdef real* to
    cdef real[TILE_ITEMS] turned
    while n > 0:
        count = min(n, runs.width - col)
        if count > 0 and y_steps[1] == 1:  # channels last
            to = y + row * y_steps[3] + col * y_steps[4]
            if add:
                transpose(tile, tile_step, rows, count, &turned[0], rows)
                for j in range(count):
                    put_row(&turned[j * rows], to + j * y_steps[4], rows, True)
            else:
                transpose(tile, tile_step, rows, count, to, y_steps[4])
        elif count > 0:
            for i in range(rows):
                cells = tile + i * tile_step
                to = y + i * y_steps[1] + row * y_steps[3] + col * y_steps[4]
                if y_steps[4] == 1:
                    put_row(cells, to, count, add)
                else:
                    for j in range(count):
                        to[j * y_steps[4]] = cells[j] + (to[j * y_steps[4]] if add else 0)
        tile += runs.row_step - col
        n -= runs.row_step - col
        col = 0
        row += 1


cdef inline void multiply_taps(
    const Direct* g, int rows, int vectors, const real* x, const real* weights, const Py_ssize_t* row_at,
    const real* bias, bint add, real* y, Py_ssize_t y_step
) noexcept nogil:
    """A tile over all taps, some at a time; y, or what is added to it, where `add` is set."""
    cdef Py_ssize_t done = 0, count
    while done < g.band.taps:
        count = min(<Py_ssize_t>LONG_SUM, g.band.taps - done)
        multiply_tile(
            rows, vectors, x, g.taps + done, g.steady, count, weights, row_at, bias if done == 0 else NULL,
            add or done > 0, y, y_step,
        )
        done += count


cdef void multiply_box(
    const Direct* g, const Py_ssize_t* box, const real* cells, Py_ssize_t depth_step, Py_ssize_t row_step,
    const real* w, const real* b, Py_ssize_t filters, bint add, real* y, const Py_ssize_t* y_steps
) noexcept nogil:
    """Fill a box of y, or add to it, for some filters and channels, from where its first position
    reads."""
    cdef Py_ssize_t lanes = VECTOR_BYTES // sizeof(real)
    cdef Py_ssize_t panels = (filters + MOST_ROWS - 1) // MOST_ROWS
    cdef Py_ssize_t most = (filters + panels - 1) // panels
    cdef Runs runs = runs_of(
        g, box, row_step, y_steps, lanes, 2 * MOST_VECTORS if 2 * most <= MOST_ROWS else MOST_VECTORS
    )
    cdef Py_ssize_t tiles = (box[1] - box[0]) * runs.per_plane * runs.tiles
    cdef Py_ssize_t vectors = (runs.length + lanes - 1) // lanes
    cdef Py_ssize_t parts = 1, part, outer, tile, panel, f, rows, first, count, start, d, h, run, col, again
    cdef const real* x
    cdef const real* weights
    cdef const real* bias
    cdef real* to
    cdef Py_ssize_t[MOST_ROWS] row_at
    cdef real[TILE_ITEMS] buffer
    equal_steps(g.w_step, &row_at[0])
    if filters * g.band.taps * <Py_ssize_t>sizeof(real) <= SMALL_WEIGHTS:
        parts = min(tiles, (tiles * g.band.taps + NEAR_TAPS - 1) // NEAR_TAPS)
    for outer in range(parts * panels):
        part, panel = outer // panels, outer % panels
        for tile in range(tiles * part // parts, tiles * (part + 1) // parts):
            f = filters * panel // panels
            rows = filters * (panel + 1) // panels - f
            run = tile // runs.tiles
            d, h = run // runs.per_plane, run % runs.per_plane
            first = vectors * (tile % runs.tiles) // runs.tiles
            count = vectors * (tile % runs.tiles + 1) // runs.tiles - first
            start = max(<Py_ssize_t>0, min(first * lanes, runs.length - count * lanes))
            again = first * lanes - start  # so many of the tile before: written again, but not added again
            x = cells + d * depth_step + h * row_step + start
            weights = w + f * g.w_step
            bias = b + f if b != NULL else NULL
            to = y + f * y_steps[1] + d * y_steps[2] + h * y_steps[3]
            col = start % runs.row_step
            if y_steps[4] == 1 and col + count * lanes <= runs.width and not (add and again):
                to += start // runs.row_step * y_steps[3] + col
                fetch_tile(to, y_steps[1], <int>rows, <int>count)
                multiply_taps(g, <int>rows, <int>count, x, weights, &row_at[0], bias, add, to, y_steps[1])
            else:
                multiply_taps(
                    g, <int>rows, <int>count, x, weights, &row_at[0], bias, False, &buffer[0], count * lanes
                )
                scatter(
                    &buffer[again], count * lanes, rows, start + again,
                    min(count * lanes, runs.length - start) - again, &runs, add, to, y_steps,
                )


cdef bint same_box(const Py_ssize_t* a, const Py_ssize_t* b, Py_ssize_t first) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(first, FILTERS):
        if a[i] != b[i]:
            return False
    return True


cdef void direct_tasks(
    Direct* g, const real* x, Py_ssize_t image_step, const Source* source, const real* w, const real* b,
    real* y, const Py_ssize_t* y_steps, Py_ssize_t channels, Py_ssize_t filters, const Array* axes,
    const Py_ssize_t* steps, const Array* tasks, long long* taken, bint from_back, real* memory
) noexcept nogil:
    """Do tasks until there are none left to take. `channels` and `filters` are those of a group."""
    cdef Layout* band = &g.band
    cdef const Py_ssize_t* task
    cdef const Py_ssize_t* held = NULL
    cdef const real* cells
    cdef Py_ssize_t most = band.channels, taps = band.taps // most, f, part, first, depth_step, row_step
    cdef Py_ssize_t parts = (channels + most - 1) // most
    cdef long long t = cyconv_take(taken, tasks.shape[0], from_back)
    while t < tasks.shape[0]:
        task = row_of(tasks, t)
        f = task[GROUP] * filters + task[FILTERS]
        if not g.in_place and (held == NULL or not same_box(held, task, BOX)):
            if not g.placed:
                place_box(band, axes, task + BOX)
            band.channels = most
            clear_margins(band, memory)
            zero(memory + most * band.cells, VECTOR_BYTES // sizeof(real))
        for part in range(parts):
            first = channels * part // parts
            band.channels = channels * (part + 1) // parts - first
            band.taps = band.channels * taps
            cells = x + task[IMAGE] * image_step + (task[GROUP] * channels + first) * source.channel_step
            if g.in_place:
                depth_step, row_step = source.depth_step, source.height_step
                cells += (
                    (task[BOX] - at(axes, 0, LOW)) * depth_step + (task[BOX + 2] - at(axes, 1, LOW)) * row_step
                    + task[BOX + 4] - at(axes, 2, LOW)
                )
            else:
                depth_step, row_step = band.axes[0].step, band.axes[1].step
                if held == NULL or parts > 1 or not same_box(held, task, IMAGE):
                    fill(band, cells, source, memory)
                cells = memory
            multiply_box(
                g, task + BOX, cells, depth_step, row_step,
                w + task[GROUP] * steps[GROUP_STEP] + task[FILTERS] * g.w_step + first * steps[CHANNEL_STEP],
                b + f if b != NULL and part == 0 else NULL, task[FILTERS + 1] - task[FILTERS], part > 0,
                y + task[IMAGE] * y_steps[0] + f * y_steps[1] + task[BOX] * y_steps[2]
                + task[BOX + 2] * y_steps[3] + task[BOX + 4] * y_steps[4],
                y_steps,
            )
        held = task
        t = cyconv_take(taken, tasks.shape[0], from_back)


cdef int check_numbers(const Array* axes, const Array* tasks) except -1:
    """That the band can be laid out."""
    check_axes(axes)
    if tasks.shape[1] != 10:
        raise ValueError("tasks must have shape (number, 10)")
    cdef Py_ssize_t a, t
    for t in range(tasks.shape[0]):
        for a in range(3):
            if not 0 <= at(tasks, t, BOX + 2 * a) < at(tasks, t, BOX + 2 * a + 1) <= at(axes, a, OUTPUT):
                raise ValueError(f"task {t} is of positions that do not exist")
    return 0


cdef int check_direct(
    const Py_ssize_t* x, Py_ssize_t weights, const Py_ssize_t* y, const Array* axes,
    const Py_ssize_t* steps, const Array* tasks, Py_ssize_t groups
) except -1:
    """The cheap part of what the public face has checked, for those who call the kernels."""
    check_numbers(axes, tasks)
    if groups < 1 or x[1] < 1 or x[1] % groups or y[1] % groups or x[0] != y[0]:
        raise ValueError(f"{x[1]} channels and {y[1]} filters do not make {groups} groups")
    cdef Py_ssize_t a, t
    cdef double low = steps[FIRST_TAP], high = steps[FIRST_TAP], reach
    for a in range(3):
        if x[2 + a] != at(axes, a, SIZE) or y[2 + a] != at(axes, a, OUTPUT):
            raise ValueError(f"x and y do not have the sizes of axes along spatial axis {a}")
        reach = (at(axes, a, KERNEL) - 1) * <double>steps[TAP_STEPS + a]
        low, high = low + min(<double>0, reach), high + max(<double>0, reach)
    high += (
        (x[1] // groups - 1) * <double>steps[CHANNEL_STEP] + (y[1] // groups - 1) * <double>steps[ROW_STEP]
        + (groups - 1) * <double>steps[GROUP_STEP]
    )
    if weights > MOST_ITEMS or low < 0 or high >= weights or min(steps[ROW_STEP], steps[CHANNEL_STEP], steps[GROUP_STEP]) < 0:
        raise ValueError("steps lead out of w")
    for t in range(tasks.shape[0]):
        if not (0 <= at(tasks, t, IMAGE) < x[0] and 0 <= at(tasks, t, GROUP) < groups):
            raise ValueError(f"task {t} is of an image or group that does not exist")
        if not 0 <= at(tasks, t, FILTERS) < at(tasks, t, FILTERS + 1) <= y[1] // groups:
            raise ValueError(f"task {t} is of filters that do not exist")
    return 0


cdef const Py_ssize_t* hold_steps(Held* held, steps) except NULL:
    cdef Array* array = hold_integers(held, steps, "steps", 1, READ, sizeof(Py_ssize_t))
    if array.shape[0] != 7:
        raise ValueError(f"steps must have 7 elements, got {array.shape[0]}")
    return <const Py_ssize_t*>array.cells


# For the weight gradient, which reads no weights.
cdef Py_ssize_t[7] NO_STEPS


def direct_memory(
    axes, tasks, Py_ssize_t channels, Py_ssize_t filters, Py_ssize_t itemsize, bint last=False, /
):
    """How many items of memory `direct` needs, for so many channels together and groups of so many filters;
    these are 0 for `direct_weight_grad`. `last` says that x has its channels last."""
    cdef Held held
    hold_nothing(&held)
    try:
        return memory_of_tasks(
            hold_table(&held, axes, "axes"), hold_table(&held, tasks, "tasks"), channels, filters, itemsize, last
        )
    finally:
        let_go(&held)


cdef Py_ssize_t memory_of_tasks(
    const Array* axes, const Array* tasks, Py_ssize_t channels, Py_ssize_t filters, Py_ssize_t itemsize, bint last
) except -1:
    check_numbers(axes, tasks)
    if channels < 1 or filters < 0 or itemsize not in (4, 8):
        raise ValueError("channels must be at least 1, filters not negative, and items of 4 or 8 bytes")
    cdef Direct g
    cdef Source source = [0, 0, 0, 0 if last else 1]
    if tasks.shape[0] == 0:
        return 0
    lay_out_direct(&g, axes, tasks, NO_STEPS, channels, filters, &source, itemsize)
    free(g.taps)
    return g.memory


def direct(
    x,
    w,
    b,
    y,
    axes,
    steps,
    Py_ssize_t groups,
    Py_ssize_t together,
    tasks,
    taken,
    memory,
    bint rings=False,
    /,
):
    """Fill y (n, F, od, oh, ow) from x (n, C, d, h, w), w in memory order and b (F,) or None: the
    tasks that are left to take, counted in `taken`, whoever else is taking some; so many channels of a
    group `together`, at most. Who rings takes them from the front, others from the back."""
    cdef Held held
    hold_nothing(&held)
    try:
        direct_held(
            hold(&held, x, "x", 5, READ), hold(&held, w, "w", 1, READ | CONTIGUOUS),
            hold(&held, b, "b", 1, READ | CONTIGUOUS | OR_NONE), hold(&held, y, "y", 5, FILL),
            hold_table(&held, axes, "axes"), hold_steps(&held, steps), groups, together,
            hold_table(&held, tasks, "tasks"),
            hold_counters(&held, taken, "taken", 1), hold(&held, memory, "memory", 1, FILL | CONTIGUOUS), rings,
        )
    finally:
        let_go(&held)


cdef int direct_held(
    const Array* x, const Array* w, const Array* b, const Array* y, const Array* axes,
    const Py_ssize_t* steps, Py_ssize_t groups, Py_ssize_t together, const Array* tasks, long long* taken,
    const Array* memory, bint rings
) except -1:
    check_direct(x.shape, w.shape[0], y.shape, axes, steps, tasks, groups)
    check_order(x, "x")
    if b != NULL and b.shape[0] != y.shape[1]:
        raise ValueError(f"b must have shape ({y.shape[1]},), got ({b.shape[0]},)")
    if tasks.shape[0] == 0 or together < 1:
        raise ValueError(f"there must be tasks, and a channel together, not {together}")
    cdef Source source = source_of(x)
    cdef Py_ssize_t channels = x.shape[1] // groups, filters = y.shape[1] // groups
    cdef void* bias = b.cells if b != NULL else NULL
    cdef Direct g
    lay_out_direct(&g, axes, tasks, steps, min(together, channels), filters, &source, x.itemsize)
    if g.memory > memory.shape[0]:
        free(g.taps)
        raise ValueError(f"memory must have {g.memory} items, got {memory.shape[0]}")
    with nogil:
        ring(rings)
        if x.itemsize == sizeof(float):
            direct_tasks(
                &g, <const float*>x.cells, x.steps[0], &source, <const float*>w.cells, <const float*>bias,
                <float*>y.cells, y.steps, channels, filters, axes, steps, tasks, taken, not rings,
                <float*>memory.cells,
            )
        else:
            direct_tasks(
                &g, <const double*>x.cells, x.steps[0], &source, <const double*>w.cells, <const double*>bias,
                <double*>y.cells, y.steps, channels, filters, axes, steps, tasks, taken, not rings,
                <double*>memory.cells,
            )
    free(g.taps)
    return 0
