# Winograd from end to end: blocks of tiles are transformed, multiplied by the microkernel and
# transformed back while they are in cache (tiles.pxi), in one call and without the interpreter.
#
# For each of the 36 products (49, of 4x4 kernels) the microkernel has tiles for rows and filters for
# positions,
#
#     m (tiles, filters) = u (tiles, channels) @ v (channels, filters)
#
# with channels and filters in steps of WIDE, zero or of no meaning past the last. Filters are in
# panels, v (36, panels, channels, rows): those that are multiplied together lie together, or else, far
# apart by a power of two, they would compete for the same few lines of the nearest cache.

cdef enum:
    # Sums over more channels than this are made of sums of so many, which are more accurate; with seven
    # points, of half as many.
    LONG_CHANNELS = 128


cdef void multiply_planes(
    int kind, const real* u, Py_ssize_t u_plane, Py_ssize_t tile_step, Py_ssize_t channel_step,
    const real* v, Py_ssize_t v_plane, Py_ssize_t panel_step, Py_ssize_t rows,
    real* m, Py_ssize_t m_plane, Py_ssize_t m_step,
    Py_ssize_t tiles, Py_ssize_t columns, Py_ssize_t channels, bint add, bint sums=False, bint fetch=False
) noexcept nogil:
    """m[i] (tiles, columns) = or += u[i] (tiles, channels) @ v[i] (panels, channels, rows), for columns
    in those panels, of each plane of tiles. With a stride several of them meet one plane of v; or of m, if
    these are `sums` for filters, and then they are added up. Panels are fetched ahead if `fetch` says so."""
    cdef Py_ssize_t i, j, f, most = LONG_CHANNELS if kind != SEVEN else LONG_CHANNELS // 2
    cdef Py_ssize_t points = points_of(kind), weights = weights_of(kind)
    cdef const real* panel
    cdef const real* after
    for i in range(points * points):
        j = min(i // points, weights - 1) * weights + min(i % points, weights - 1)
        panel = v + (i if sums else j) * v_plane
        f = 0
        while f < columns:
            after = panel + panel_step if f + rows < columns else v + (i + 1) * v_plane
            multiply_panel(
                u + i * u_plane, tile_step, channel_step, panel, rows,
                m + (j if sums else i) * m_plane + f, m_step, tiles, min(rows, columns - f), channels, most,
                add or (sums and max(i // points, i % points) >= weights), after if fetch else NULL,
            )
            f += rows
            panel += panel_step


cdef inline void multiply_panel(
    const real* u, Py_ssize_t tile_step, Py_ssize_t channel_step, const real* v, Py_ssize_t v_step,
    real* m, Py_ssize_t m_step, Py_ssize_t tiles, Py_ssize_t columns, Py_ssize_t channels, Py_ssize_t most,
    bint add, const real* after
) noexcept nogil:
    """m (tiles, columns) = or += u (tiles, channels) @ v (channels, columns), `most` channels at a time.
    Fetch the v `after` this one, if any."""
    cdef Py_ssize_t lanes = VECTOR_BYTES // sizeof(real)
    cdef Py_ssize_t vectors = columns // lanes, groups = (tiles + MOST_ROWS - 1) // MOST_ROWS
    cdef Py_ssize_t parts = (vectors + MOST_VECTORS - 1) // MOST_VECTORS, part, first, group, t, done, some
    cdef Py_ssize_t[MOST_ROWS] row_at
    cdef Tap[2] taps = [Tap(0, 0), Tap(v_step, channel_step)]  # and on in equal steps
    equal_steps(tile_step, &row_at[0])
    for part in range(parts):
        first = vectors * part // parts
        for group in range(groups):
            t = tiles * group // groups
            if after != NULL:
                done = channels * group // groups
                fetch_rows(after + done * v_step, (channels * (group + 1) // groups - done) * v_step)
            done = 0
            while done < channels:
                some = min(most, channels - done)
                multiply_tile(
                    <int>(tiles * (group + 1) // groups - t), <int>(vectors * (part + 1) // parts - first),
                    v + done * v_step + first * lanes, &taps[0], True, some,
                    u + t * tile_step + done * channel_step, &row_at[0], <const real*>NULL, add or done > 0,
                    m + t * m_step + first * lanes, m_step,
                )
                done += some


cdef int check_blocks(
    const Array* blocks, Py_ssize_t size, Py_ssize_t most, Py_ssize_t unit, name
) except -1:
    cdef Py_ssize_t i
    if blocks.shape[1] != 2:
        raise ValueError(f"{name} must have shape (number, 2)")
    for i in range(blocks.shape[0]):
        if not 0 <= at(blocks, i, 0) < at(blocks, i, 1) <= size or at(blocks, i, 1) - at(blocks, i, 0) > most:
            raise ValueError(f"{name} {i} is not within {size}, or longer than {most}")
        if at(blocks, i, 0) % unit or (at(blocks, i, 1) % unit and at(blocks, i, 1) < size):
            raise ValueError(f"{name} {i} is not in steps of {unit}")
    return 0


cdef int check_room(Py_ssize_t size, const Array* memory) except -1:
    """That of so many rows or columns there are not so many items that they cannot be counted."""
    if not 1 <= size <= memory.shape[0]:
        raise ValueError(f"there must be at least one row, column and tile, and memory for them, not {size}")
    return 0


cdef int check_arrays(
    const Py_ssize_t* x, const Py_ssize_t* y, const Py_ssize_t* w, const Array* axes, Py_ssize_t b
) except -1:
    check_served(axes)
    cdef Py_ssize_t a
    cdef double tiles
    for a in range(3):
        if x[2 + a] != at(axes, a, SIZE) or y[2 + a] != at(axes, a, OUTPUT):
            raise ValueError(f"x and y do not have the sizes of axes along spatial axis {a}")
        if w[2 + a] != at(axes, a, KERNEL):
            raise ValueError(f"the filters must have size {at(axes, a, KERNEL)} along spatial axis {a}")
    tiles = x[0] * <double>at(axes, 0, OUTPUT) * count_along(axes, 1) * count_along(axes, 2)
    if tiles > MOST_ITEMS:
        raise ValueError("there are more tiles than an array has items")
    if x[0] != y[0] or x[1] < 1 or y[1] < 1 or b != y[1]:
        raise ValueError("x, y and b do not fit")
    if w[0] != y[1] or w[1] != x[1]:
        raise ValueError(f"there must be {y[1]} filters of {x[1]} channels")
    if w[2] * <double>w[1] * w[0] > MOST_ITEMS:
        raise ValueError("there are more filters than an array has items")
    return 0


cdef int check_panels(
    const Array* v, Py_ssize_t planes, Py_ssize_t filters, double channels, name
) except -1:
    """That v (planes, panels, channels, rows) has room for so many filters, in panels that lie together; or
    d, with tiles for channels."""
    cdef Py_ssize_t panels = v.shape[1], rows = v.shape[3]
    if (
        v.shape[0] != planes or v.shape[2] != channels or rows < 1 or rows % WIDE
        or panels != (filters + rows - 1) // rows
    ):
        raise ValueError(f"{name} must have shape ({planes}, panels, {channels:.0f}, rows), and room for all filters")
    check_lanes(v.steps[3], 1, rows)
    check_lanes(v.steps[2], rows, v.shape[2])
    check_lanes(v.steps[1], v.shape[2] * rows, panels)
    return 0


cdef void turn_filters(const real* w, const Array* of, const Array* v, const Filters* steps) noexcept nogil:
    cdef Py_ssize_t k
    for k in range(of.shape[2]):
        turn_weight(
            w + k * of.steps[2], steps, of.shape[0], of.shape[1], <real*>v.cells + k * of.shape[1] * v.steps[1],
            v.steps[0], v.steps[1],
        )


def winograd_filters(w, v, Py_ssize_t stride=1, /):
    """v (36, KD * C, F or more in steps of WIDE), a panel, = G w G^T for w (F, C, KD, 3, 3), or v (49, ...)
    for w (F, C, KD, 4, 4), of any strides; zero past the last filter, to a whole WIDE. `stride` is that of
    the convolution, 2 or -2 too for 3x3 kernels."""
    cdef Held held
    hold_nothing(&held)
    try:
        winograd_filters_held(hold(&held, w, "w", 5, READ), hold(&held, v, "v", 3, FILL), stride)
    finally:
        let_go(&held)


cdef int winograd_filters_held(const Array* w, const Array* v, Py_ssize_t stride) except -1:
    cdef Py_ssize_t C = w.shape[1]
    if (
        not is_served(w.shape[3], w.shape[4], stride) or v.shape[0] != weights_of(kind_of(w.shape[3], stride)) ** 2
        or v.shape[2] < in_wides(w.shape[0]) or w.shape[2] * <double>C > MOST_ITEMS or v.shape[1] != w.shape[2] * C
    ):
        raise ValueError(
            f"filters must be 3x3 or 4x4, and transformed (36 or 49, {w.shape[2] * C}, {in_wides(w.shape[0])}); "
            f"with stride 2 or -2, not {stride}, 3x3"
        )
    check_rows(0, 1, v.steps[2], v.shape[2])
    if w.shape[0] == 0 or C == 0 or w.shape[2] == 0:
        return 0
    cdef Filters steps = filters_of(w, 3, stride)
    with nogil:
        if w.itemsize == sizeof(float):
            turn_filters(<const float*>w.cells, w, v, &steps)
        else:
            turn_filters(<const double*>w.cells, w, v, &steps)
    return 0


cdef void blocks_by_tiles(
    real* u, const Array* x, const Array* w, const Array* v, const Array* b, const Array* y,
    const Grid* grid_in, const Grid* grid_out, const Filters* steps, const Array* filters,
    const Array* tiles, Py_ssize_t columns, Py_ssize_t together, long long* progress, bint from_back
) noexcept nogil:
    """Both phases, in memory from u on."""
    cdef Py_ssize_t F = y.shape[1], C = x.shape[1], KD = w.shape[2], CW = in_wides(C), row = KD * CW, rows = v.shape[3]
    cdef Py_ssize_t u_plane = columns * row + WIDE, m_plane = columns * together + WIDE, first, count, f, number, k
    cdef real* m = u + points_of(grid_in.kind) ** 2 * u_plane
    cdef real* panel
    cdef const real* bias = <const real*>b.cells if b != NULL else NULL
    cdef long long t = cyconv_count(&progress[FIRST_TAKEN])
    while t < filters.shape[0]:
        f = at(filters, t, 0)
        while f < at(filters, t, 1):
            number = min(<Py_ssize_t>WIDE, at(filters, t, 1) - f)
            panel = <real*>v.cells + f // rows * v.steps[1] + f % rows
            for k in range(KD):
                turn_weight(
                    <const real*>w.cells + f * w.steps[0] + k * w.steps[2], steps, number, C, panel + k * C * rows,
                    v.steps[0], rows,
                )
            f += WIDE
        cyconv_count(&progress[FIRST_DONE])
        t = cyconv_count(&progress[FIRST_TAKEN])
    cyconv_wait_until(&progress[FIRST_DONE], filters.shape[0])
    t = cyconv_take(&progress[SECOND_TAKEN], tiles.shape[0], from_back)
    while t < tiles.shape[0]:
        first, count = at(tiles, t, 0), at(tiles, t, 1) - at(tiles, t, 0)
        for k in range(KD):
            turn_input(<const real*>x.cells, grid_in, C, k, first, count, u + k * CW, u_plane, row)
        f = 0
        while f < F:
            number = min(together, F - f)
            panel = <real*>v.cells + f // rows * v.steps[1]
            for k in range(KD):
                multiply_planes(
                    grid_in.kind, u + k * CW, u_plane, row, 1, panel + k * C * rows, v.steps[0], KD * C * rows,
                    rows, m, m_plane, together, count, in_wides(number), C, k > 0,
                )
            turn_output(
                m, m_plane, together, bias + f if bias != NULL else NULL, <real*>y.cells + f * y.steps[1], grid_out,
                number, first, count,
            )
            f += number
        t = cyconv_take(&progress[SECOND_TAKEN], tiles.shape[0], from_back)


def winograd_by_tiles(
    x,
    w,
    v,
    b,
    y,
    axes,
    filters,
    tiles,
    Py_ssize_t columns,
    Py_ssize_t together,
    progress,
    memory,
    bint rings=False,
    /,
):
    """Fill y (n, F, od, oh, ow) from x (n, C, d, h, w), w (F, C, KD, 3, 3) of any strides, and b (F,)
    or None: first blocks of filters are transformed into v (36, panels, KD * C, rows) (none, if they
    are in v already; 49 for w (F, C, KD, 4, 4), here and below), then blocks of at most
    `columns` tiles: they are multiplied by so many panels of filters `together`, and transformed back."""
    cdef Held held
    hold_nothing(&held)
    try:
        winograd_by_tiles_held(
            hold(&held, x, "x", 5, READ), hold(&held, w, "w", 5, READ), hold(&held, v, "v", 4, FILL),
            hold(&held, b, "b", 1, READ | CONTIGUOUS | OR_NONE), hold(&held, y, "y", 5, FILL),
            hold_table(&held, axes, "axes"), hold_table(&held, filters, "filters"), hold_table(&held, tiles, "tiles"),
            columns, together, hold_counters(&held, progress, "progress", 3),
            hold(&held, memory, "memory", 1, FILL | CONTIGUOUS), rings,
        )
    finally:
        let_go(&held)


cdef int winograd_by_tiles_held(
    const Array* x, const Array* w, const Array* v, const Array* b, const Array* y,
    const Array* axes, const Array* filters, const Array* tiles,
    Py_ssize_t columns, Py_ssize_t together, long long* progress, const Array* memory, bint rings
) except -1:
    cdef Py_ssize_t F = y.shape[1], C = x.shape[1], KD = w.shape[2], rows = v.shape[3]
    check_arrays(x.shape, y.shape, w.shape, axes, b.shape[0] if b != NULL else F)
    check_order(x, "x")
    check_order(y, "y")
    cdef Grid grid_in = grid_of(x, axes, False), grid_out = grid_of(y, axes, True)
    check_blocks(filters, F, F, WIDE, "block of filters")
    check_blocks(tiles, x.shape[0] * grid_in.planes * grid_in.TH * grid_in.TW, columns, 1, "block of tiles")
    check_room(columns, memory)
    check_room(rows, memory)
    check_panels(v, weights_of(grid_in.kind) ** 2, F, KD * <double>C, "v")
    if together < 1:
        raise ValueError(f"there must be at least one panel together, not {together}")
    together = min(together, v.shape[1]) * rows
    check_items(
        memory.shape[0],
        points_of(grid_in.kind) ** 2 * (columns * (KD * <double>in_wides(C) + together) + 2 * WIDE), "memory",
    )
    cdef Filters steps = filters_of(w, 3, at(axes, 1, STRIDE))
    with nogil:
        ring(rings)
        if x.itemsize == sizeof(float):
            blocks_by_tiles(
                <float*>memory.cells, x, w, v, b, y, &grid_in, &grid_out, &steps, filters, tiles, columns, together,
                progress, not rings,
            )
        else:
            blocks_by_tiles(
                <double*>memory.cells, x, w, v, b, y, &grid_in, &grid_out, &steps, filters, tiles, columns, together,
                progress, not rings,
            )
    return 0


cdef void blocks_by_filters(
    real* own, const Array* x, const Array* w, const Array* v, const Array* b, const Array* y, const Array* u,
    const Grid* grid_in, const Grid* grid_out, const Filters* steps, const Array* channels,
    const Array* filters, Py_ssize_t span, Py_ssize_t rows, long long* progress, long long* taken, bint from_back
) noexcept nogil:
    """Both phases, in memory from `own` on: filters, unless they are in v, and products."""
    cdef Py_ssize_t C = x.shape[1], KD = w.shape[2], CW = in_wides(C), row = KD * CW
    cdef Py_ssize_t total = x.shape[0] * grid_in.planes * grid_in.TH * grid_in.TW, m_plane = total * rows + WIDE
    cdef Py_ssize_t v_plane = v.steps[0] if v != NULL else span * rows + WIDE
    cdef Py_ssize_t v_step = v.shape[3] if v != NULL else rows
    cdef real* m = own + (0 if v != NULL else weights_of(grid_in.kind) ** 2 * v_plane)
    cdef real* from_v
    cdef const real* bias = <const real*>b.cells if b != NULL else NULL
    cdef Py_ssize_t first, count, f, number, k
    cdef long long t = cyconv_count(&progress[FIRST_TAKEN])
    while t < channels.shape[0]:
        f = at(channels, t, 0)
        for k in range(KD):
            turn_input(
                <const real*>x.cells + f * x.steps[1], grid_in, at(channels, t, 1) - f, k, 0, total,
                <real*>u.cells + k * CW + f, u.steps[0], row,
            )
        cyconv_count(&progress[FIRST_DONE])
        t = cyconv_count(&progress[FIRST_TAKEN])
    cyconv_wait_until(&progress[FIRST_DONE], channels.shape[0])
    t = cyconv_take(taken, filters.shape[0], from_back)
    while t < filters.shape[0]:
        f, number = at(filters, t, 0), at(filters, t, 1) - at(filters, t, 0)
        for k in range(KD):
            first = 0
            while first < C:
                count = C - first
                if v != NULL:
                    from_v = <real*>v.cells + f // v_step * v.steps[1] + k * C * v_step + f % v_step
                else:
                    from_v, count = own, min(span, count)
                    turn_weight(
                        <const real*>w.cells + f * w.steps[0] + first * w.steps[1] + k * w.steps[2], steps, number, count,
                        own, v_plane, rows,
                    )
                multiply_planes(
                    grid_in.kind, <const real*>u.cells + k * CW + first, u.steps[0], row, 1, from_v, v_plane, 0, v_step, m,
                    m_plane, rows, total, in_wides(number), count, k > 0 or first > 0,
                )
                first += count
        turn_output(
            m, m_plane, rows, bias + f if bias != NULL else NULL, <real*>y.cells + f * y.steps[1], grid_out, number, 0,
            total,
        )
        t = cyconv_take(taken, filters.shape[0], from_back)


def winograd_by_filters(
    x,
    w,
    v,
    b,
    y,
    axes,
    u,
    channels,
    filters,
    Py_ssize_t span,
    progress,
    taken,
    memory,
    bint rings=False,
    /,
):
    """The same for few tiles and many filters: first all tiles are transformed into u (36, tiles * KD * C
    in steps of WIDE), by blocks of channels, then blocks of filters. These are transformed in memory, at most
    `span` channels at a time or, with v (36, panels, KD * C, rows), are in that, each block in one panel. Threads
    that have the same u share `progress`, which counts its blocks that were taken and that are done; all share
    `taken`, which counts those of filters."""
    cdef Held held
    hold_nothing(&held)
    try:
        winograd_by_filters_held(
            hold(&held, x, "x", 5, READ), hold(&held, w, "w", 5, READ), hold(&held, v, "v", 4, FILL | OR_NONE),
            hold(&held, b, "b", 1, READ | CONTIGUOUS | OR_NONE), hold(&held, y, "y", 5, FILL),
            hold_table(&held, axes, "axes"), hold(&held, u, "u", 2, FILL | CONTIGUOUS),
            hold_table(&held, channels, "channels"), hold_table(&held, filters, "filters"), span,
            hold_counters(&held, progress, "progress", 2), hold_counters(&held, taken, "taken", 1),
            hold(&held, memory, "memory", 1, FILL | CONTIGUOUS), rings,
        )
    finally:
        let_go(&held)


cdef int winograd_by_filters_held(
    const Array* x, const Array* w, const Array* v, const Array* b, const Array* y,
    const Array* axes, const Array* u, const Array* channels, const Array* filters, Py_ssize_t span,
    long long* progress, long long* taken, const Array* memory, bint rings
) except -1:
    cdef Py_ssize_t F = y.shape[1], C = x.shape[1], KD = w.shape[2], i, rows = 0
    check_arrays(x.shape, y.shape, w.shape, axes, b.shape[0] if b != NULL else F)
    check_order(x, "x")
    check_order(y, "y")
    cdef Grid grid_in = grid_of(x, axes, False), grid_out = grid_of(y, axes, True)
    cdef Py_ssize_t planes = points_of(grid_in.kind) ** 2, weight_planes = weights_of(grid_in.kind) ** 2
    cdef Py_ssize_t total = x.shape[0] * grid_in.planes * grid_in.TH * grid_in.TW
    check_blocks(channels, C, C, WIDE, "block of channels")
    check_blocks(filters, F, F, WIDE, "block of filters")
    if u.shape[0] != planes:
        raise ValueError(f"u must have {planes} rows")
    check_items(u.shape[1], total * (KD * <double>in_wides(C)), "a row of u")
    for i in range(filters.shape[0]):
        rows = max(rows, in_wides(at(filters, i, 1) - at(filters, i, 0)))
    if v != NULL:
        check_panels(v, weight_planes, F, KD * <double>C, "v")
        for i in range(filters.shape[0]):
            if at(filters, i, 0) // v.shape[3] != (at(filters, i, 1) - 1) // v.shape[3]:
                raise ValueError("each block of filters must be in one panel")
    if span < 1:
        raise ValueError(f"span must be at least 1, got {span}")
    span = min(span, C)
    check_items(
        memory.shape[0],
        (0 if v != NULL else weight_planes * (span * <double>rows + WIDE))
        + planes * (total * <double>rows + WIDE), "memory"
    )
    cdef Filters steps = filters_of(w, 3, at(axes, 1, STRIDE))
    with nogil:
        ring(rings)
        if x.itemsize == sizeof(float):
            blocks_by_filters(
                <float*>memory.cells, x, w, v, b, y, u, &grid_in, &grid_out, &steps, channels, filters, span, rows,
                progress, taken, not rings,
            )
        else:
            blocks_by_filters(
                <double*>memory.cells, x, w, v, b, y, u, &grid_in, &grid_out, &steps, channels, filters, span, rows,
                progress, taken, not rings,
            )
    return 0
