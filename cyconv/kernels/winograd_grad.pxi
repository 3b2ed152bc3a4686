# Winograd's weight gradient from end to end, on the microkernel.
#
#     dw = G^T [ sum over tiles of U D ] G,    U = B^T x B, D = A dy A^T
#
# As in direct_grad.pxi the taps of the microkernel are what is summed over, here tiles: its rows are
# channels, its positions filters, and sums have shape (36, channels, filters in steps of WIDE); of a
# volume, with channels for each of the taps along the depth. D is in panels of filters, as v is forwards.

cdef enum:
    # Channels whose sums are turned back one after another, before more filters are, if it is channels that
    # lie together in dw: with 512 of both, one at a time took twice as long.
    TOGETHER = 16
    # Sums are fetched so many channels ahead, a line of each of their planes: weight gradients of 256 and
    # 512 channels on 14x14 and 7x7 took 0.95 to 0.97 of the time (AVX2 1.0).
    SUMS_AHEAD = 3


cdef void turn_output_grad(
    const real* dy, const Grid* g, Py_ssize_t first_filter, Py_ssize_t last_filter, Py_ssize_t first,
    Py_ssize_t tiles, real* d, Py_ssize_t plane_step, Py_ssize_t rows
) noexcept nogil:
    """d (points * points, panels, tiles, rows) = A dy A^T for some filters, from a whole WIDE of them on; zero past the
    last."""
    cdef Py_ssize_t f, start, stop = first_filter, t, n, th, tw, run, i, row, column
    cdef const real* plane
    cdef const real* cells
    cdef real* to
    cdef real[LINES] lines
    cdef Py_ssize_t[MOST_RUN] starts
    while stop < last_filter:  # panel by panel
        start, t = stop, 0
        stop = min(last_filter, (start // rows + 1) * rows)
        while t < tiles:
            find_tile(g, first + t, &n, &th, &tw)
            run = tiles_together(g, tw, tiles - t, &starts[0])
            plane = plane_of(dy, g, n, 0)
            f = start
            while f < stop:
                cells = turn_rows(
                    plane + f * g.channel_step, g, last_filter - f, top_of(g, th), left_of(g, tw), starts[run - 1],
                    &lines[0], &row, &column,
                )
                for i in range(run):
                    to = d + (f // rows * tiles + t + i) * rows + f % rows
                    output_grad_tile(g.kind, cells + starts[i] * WIDE, row, column, to, plane_step)
                f += WIDE
            t += run


cdef void turn_sums(
    const real* sums, Py_ssize_t plane_step, Py_ssize_t columns, Py_ssize_t filters, Py_ssize_t channels,
    real* dw, const Filters* steps
) noexcept nogil:
    """dw (filters, channels, side, side) = G^T sums G for sums (weights * weights, channels, columns)."""
    cdef Py_ssize_t f, c, first, last = 0, together = TOGETHER if steps.filter_step > steps.channel_step else 1
    cdef real[MOST_TAPS * WIDE] taps
    while last < channels:
        first, f = last, 0
        last = min(channels, first + together)
        while f < filters:
            for c in range(first, last):
                if c + SUMS_AHEAD < last:
                    fetch_starts(sums + (c + SUMS_AHEAD) * columns + f, plane_step, weights_of(steps.kind) ** 2)
                weight_grad_tile(steps.kind, sums + c * columns + f, plane_step, &taps[0])
                turn_taps_back(
                    &taps[0], min(filters - f, <Py_ssize_t>WIDE),
                    dw + f * steps.filter_step + c * steps.channel_step, steps,
                )
            f += WIDE


cdef int check_sums(
    const Array* x, const Array* dy, const Array* dw, const Array* axes,
    const Array* tiles, Py_ssize_t width, const Array* memory
) except -1:
    check_arrays(x.shape, dy.shape, dw.shape, axes, dy.shape[1])
    check_forwards(axes)
    check_order(x, "x")
    check_order(dy, "dy")
    check_room(width, memory)
    check_blocks(
        tiles, x.shape[0] * at(axes, 0, OUTPUT) * count_along(axes, 1) * count_along(axes, 2), width, 1, "block of tiles",
    )
    return 0


cdef void sums_by_tiles(
    real* u, const Array* dy, const Array* x, const Array* sums, const Array* dw, const Grid* grid_in,
    const Grid* grid_out, const Filters* steps, const Array* tiles, const Array* parts,
    const Array* channels, Py_ssize_t width, Py_ssize_t rows, long long* progress, bint from_back
) noexcept nogil:
    """Both phases, in memory from u on."""
    cdef Py_ssize_t C = x.shape[1], F = dy.shape[1], KD = dw.shape[2], CW = in_wides(C), columns = in_wides(F)
    cdef Py_ssize_t u_plane = width * CW + WIDE, d_plane = width * ((F + rows - 1) // rows) * rows + WIDE
    cdef Py_ssize_t plane = KD * C * columns, part_step = sums.steps[0], i, j, k, part, first, count, c, items
    cdef real* d = u + points_of(grid_in.kind) ** 2 * u_plane
    cdef real* of = <real*>sums.cells
    cdef real* total
    cdef long long t = cyconv_take(&progress[FIRST_TAKEN], parts.shape[0], from_back)
    while t < parts.shape[0]:
        for i in range(at(parts, t, 0), at(parts, t, 1)):
            first, count = at(tiles, i, 0), at(tiles, i, 1) - at(tiles, i, 0)
            turn_output_grad(<const real*>dy.cells, grid_out, 0, F, first, count, d, d_plane, rows)
            for k in range(KD):
                turn_input(<const real*>x.cells, grid_in, C, k, first, count, u, u_plane, CW)
                multiply_planes(
                    grid_in.kind, u, u_plane, 1, CW, d, d_plane, count * rows, rows,
                    of + t * part_step + k * C * columns, plane, columns, C, columns, count, i > at(parts, t, 0), True,
                )
        cyconv_count(&progress[FIRST_DONE])
        t = cyconv_take(&progress[FIRST_TAKEN], parts.shape[0], from_back)
    cyconv_wait_until(&progress[FIRST_DONE], parts.shape[0])
    t = cyconv_take(&progress[SECOND_TAKEN], channels.shape[0], from_back)
    while t < channels.shape[0]:
        c, items = at(channels, t, 0), (at(channels, t, 1) - at(channels, t, 0)) * columns
        for k in range(KD):
            for i in range(weights_of(grid_in.kind) ** 2):
                total = of + i * plane + (k * C + c) * columns
                for part in range(1, parts.shape[0]):
                    for j in range(items):
                        total[j] += total[part * part_step + j]
            turn_sums(
                of + (k * C + c) * columns, plane, columns, F, at(channels, t, 1) - c,
                <real*>dw.cells + c * dw.steps[1] + k * dw.steps[2], steps,
            )
        t = cyconv_take(&progress[SECOND_TAKEN], channels.shape[0], from_back)


def winograd_sum_by_tiles(
    dy,
    x,
    sums,
    dw,
    axes,
    tiles,
    parts,
    channels,
    Py_ssize_t width,
    Py_ssize_t rows,
    progress,
    memory,
    bint rings=False,
    /,
):
    """Fill dw (F, C, KD, 3, 3), or (F, C, KD, 4, 4) with 49 planes for 36, from dy (n, F, od, oh, ow) and x
    (n, C, d, h, w): first parts of the
    blocks of at most `width` tiles (start and stop in `tiles`), each in sums of its own, (36, KD * C, F
    in steps of WIDE), with D in panels of `rows` filters; then, by blocks of channels, the parts are added in
    order and transformed back."""
    cdef Held held
    hold_nothing(&held)
    try:
        winograd_sum_by_tiles_held(
            hold(&held, dy, "dy", 5, READ), hold(&held, x, "x", 5, READ),
            hold(&held, sums, "sums", 4, FILL | CONTIGUOUS), hold(&held, dw, "dw", 5, FILL),
            hold_table(&held, axes, "axes"), hold_table(&held, tiles, "tiles"), hold_table(&held, parts, "parts"),
            hold_table(&held, channels, "channels"), width, rows, hold_counters(&held, progress, "progress", 3),
            hold(&held, memory, "memory", 1, FILL | CONTIGUOUS), rings,
        )
    finally:
        let_go(&held)


cdef int winograd_sum_by_tiles_held(
    const Array* dy, const Array* x, const Array* sums, const Array* dw, const Array* axes,
    const Array* tiles, const Array* parts, const Array* channels,
    Py_ssize_t width, Py_ssize_t rows, long long* progress, const Array* memory, bint rings
) except -1:
    cdef Py_ssize_t C = x.shape[1], F = dy.shape[1], KD = dw.shape[2], columns = in_wides(F)
    check_sums(x, dy, dw, axes, tiles, width, memory)
    cdef Grid grid_in = grid_of(x, axes, False), grid_out = grid_of(dy, axes, True)
    cdef Py_ssize_t weight_planes = weights_of(grid_in.kind) ** 2
    check_blocks(parts, tiles.shape[0], tiles.shape[0], 1, "part")
    check_blocks(channels, C, C, 1, "block of channels")
    if (
        parts.shape[0] < 1 or sums.shape[0] != parts.shape[0] or sums.shape[1] != weight_planes or sums.shape[2] != KD * C
        or sums.shape[3] != columns
    ):
        raise ValueError(f"sums must have shape ({parts.shape[0]}, {weight_planes}, {KD * C}, {columns}), of one part or more")
    check_room(rows, memory)
    if rows % WIDE:
        raise ValueError(f"panels must have rows in steps of {WIDE}, got {rows}")
    check_items(
        memory.shape[0],
        points_of(grid_in.kind) ** 2 * (width * (in_wides(C) + (F + rows - 1) // rows * <double>rows) + 2 * WIDE), "memory",
    )
    cdef Filters steps = filters_of(dw, 3, at(axes, 1, STRIDE))
    with nogil:
        ring(rings)
        if x.itemsize == sizeof(float):
            sums_by_tiles(
                <float*>memory.cells, dy, x, sums, dw, &grid_in, &grid_out, &steps, tiles, parts, channels, width, rows,
                progress, not rings,
            )
        else:
            sums_by_tiles(
                <double*>memory.cells, dy, x, sums, dw, &grid_in, &grid_out, &steps, tiles, parts, channels, width, rows,
                progress, not rings,
            )
    return 0


cdef void sums_by_channels(
    real* u, const Array* dy, const Array* x, const Array* d, const Array* sums, const Array* dw,
    const Grid* grid_in, const Grid* grid_out, const Filters* steps, const Array* filters,
    const Array* tiles, const Array* channels, Py_ssize_t width, Py_ssize_t most,
    bint add, bint last, long long* progress, bint from_back
) noexcept nogil:
    """Both phases, in memory from u on: tiles of at most `most` channels, and sums that are not shared."""
    cdef Py_ssize_t C = x.shape[1], F = dy.shape[1], KD = dw.shape[2], columns = in_wides(F), rows = d.shape[3]
    cdef bint shared = sums.shape[1] > 0
    cdef Py_ssize_t CW = in_wides(most), u_plane = width * CW + WIDE, d_plane = d.steps[0]
    cdef Py_ssize_t m_plane = sums.steps[0] if shared else KD * most * columns + WIDE
    cdef Py_ssize_t begin = at(tiles, 0, 0), total = at(tiles, tiles.shape[0] - 1, 1) - begin, i, k, c, first, count, number
    cdef real* own = u + points_of(grid_in.kind) ** 2 * u_plane
    cdef real* m
    cdef long long t = cyconv_count(&progress[FIRST_TAKEN])
    while t < filters.shape[0]:
        turn_output_grad(
            <const real*>dy.cells, grid_out, at(filters, t, 0), at(filters, t, 1), begin, total, <real*>d.cells, d_plane, rows
        )
        cyconv_count(&progress[FIRST_DONE])
        t = cyconv_count(&progress[FIRST_TAKEN])
    cyconv_wait_until(&progress[FIRST_DONE], filters.shape[0])
    t = cyconv_take(&progress[SECOND_TAKEN], channels.shape[0], from_back)
    while t < channels.shape[0]:
        c, number = at(channels, t, 0), at(channels, t, 1) - at(channels, t, 0)
        for k in range(KD):
            m = <real*>sums.cells + (k * C + c) * columns if shared else own + k * most * columns
            for i in range(tiles.shape[0]):
                first, count = at(tiles, i, 0), at(tiles, i, 1) - at(tiles, i, 0)
                turn_input(<const real*>x.cells + c * x.steps[1], grid_in, number, k, first, count, u, u_plane, CW)
                # d was transformed long ago, and by others too: fetched ahead, sums take 0.7 to 0.95
                # times as long. (What this thread has just transformed is near enough.)
                multiply_planes(
                    grid_in.kind, u, u_plane, 1, CW, <const real*>d.cells + (first - begin) * rows, d_plane, total * rows,
                    rows, m, m_plane, columns, number, columns, count, add or i > 0, True, True,
                )
            if last:
                turn_sums(
                    m, m_plane, columns, F, number, <real*>dw.cells + c * dw.steps[1] + k * dw.steps[2], steps
                )
        t = cyconv_take(&progress[SECOND_TAKEN], channels.shape[0], from_back)


def winograd_sum_by_channels(
    dy,
    x,
    d,
    sums,
    dw,
    axes,
    filters,
    tiles,
    channels,
    Py_ssize_t width,
    bint add,
    bint last,
    progress,
    memory,
    bint rings=False,
    /,
):
    """The same where dw is large, for consecutive blocks of tiles: first dy is transformed into d (36,
    panels, tiles, rows), by blocks of filters, then blocks of channels of x are transformed, multiplied and
    added to sums (36, KD * C * F in steps of WIDE); or, if that has no columns, summed in memory. `add` says
    that there were tiles before these, `last` that there are none after them."""
    cdef Held held
    hold_nothing(&held)
    try:
        winograd_sum_by_channels_held(
            hold(&held, dy, "dy", 5, READ), hold(&held, x, "x", 5, READ), hold(&held, d, "d", 4, FILL),
            hold(&held, sums, "sums", 2, FILL | CONTIGUOUS), hold(&held, dw, "dw", 5, FILL),
            hold_table(&held, axes, "axes"), hold_table(&held, filters, "filters"), hold_table(&held, tiles, "tiles"),
            hold_table(&held, channels, "channels"), width, add, last, hold_counters(&held, progress, "progress", 3),
            hold(&held, memory, "memory", 1, FILL | CONTIGUOUS), rings,
        )
    finally:
        let_go(&held)


cdef int winograd_sum_by_channels_held(
    const Array* dy, const Array* x, const Array* d, const Array* sums, const Array* dw,
    const Array* axes, const Array* filters, const Array* tiles,
    const Array* channels, Py_ssize_t width, bint add, bint last, long long* progress,
    const Array* memory, bint rings
) except -1:
    cdef Py_ssize_t C = x.shape[1], F = dy.shape[1], KD = dw.shape[2], columns = in_wides(F), i, most = 0
    cdef bint shared = sums.shape[1] > 0
    check_sums(x, dy, dw, axes, tiles, width, memory)
    cdef Grid grid_in = grid_of(x, axes, False), grid_out = grid_of(dy, axes, True)
    cdef Py_ssize_t planes = points_of(grid_in.kind) ** 2, weight_planes = weights_of(grid_in.kind) ** 2
    check_blocks(filters, F, F, WIDE, "block of filters")
    check_blocks(channels, C, C, 1, "block of channels")
    for i in range(channels.shape[0]):
        most = max(most, at(channels, i, 1) - at(channels, i, 0))
    if tiles.shape[0] == 0:
        raise ValueError("there must be tiles")
    cdef Py_ssize_t begin = at(tiles, 0, 0), total = at(tiles, tiles.shape[0] - 1, 1) - begin
    check_panels(d, planes, F, total, "d")
    if sums.shape[0] != weight_planes:
        raise ValueError(f"sums must have {weight_planes} rows")
    if shared:
        check_items(sums.shape[1], KD * C * <double>columns, "a row of sums")
    for i in range(tiles.shape[0]):
        if at(tiles, i, 0) < begin or at(tiles, i, 1) > begin + total:
            raise ValueError("tiles must be consecutive")
    if not shared and (add or not last):
        raise ValueError("sums of several calls must be shared")
    check_items(
        memory.shape[0],
        planes * (width * <double>in_wides(most) + WIDE)
        + (0 if shared else weight_planes * (KD * most * <double>columns + WIDE)), "memory",
    )
    cdef Filters steps = filters_of(dw, 3, at(axes, 1, STRIDE))
    with nogil:
        ring(rings)
        if x.itemsize == sizeof(float):
            sums_by_channels(
                <float*>memory.cells, dy, x, d, sums, dw, &grid_in, &grid_out, &steps, filters, tiles, channels, width,
                most, add, last, progress, not rings,
            )
        else:
            sums_by_channels(
                <double*>memory.cells, dy, x, d, sums, dw, &grid_in, &grid_out, &steps, filters, tiles, channels, width,
                most, add, last, progress, not rings,
            )
    return 0
