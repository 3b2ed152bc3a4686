# Winograd's weight gradient from end to end, on the microkernel.
#
#     dw = G^T [ sum over tiles of D^T U ] G,    D = A dy A^T, U = B^T x B
#
# As in direct_grad.pxi the taps of the microkernel are what is summed over, here tiles: it loads D of
# some filters, which stands transposed, and multiplies it by U of some channels, which does not. So
# sums have shape (36, channels, filters in whole vectors).

cdef void transform_turned(
    const real* dy, const Grid* g, Py_ssize_t filters, Py_ssize_t first, Py_ssize_t tiles,
    real* d, Py_ssize_t plane_step, Py_ssize_t row_step, real* block
) noexcept nogil:
    """d (36, tiles in steps of LANES, filters) = A dy A^T, transposed; `block` has room for 36 LANES^2
    items."""
    cdef Py_ssize_t f, t, i, chunk, some, lanes
    for chunk in range((tiles + LANES - 1) // LANES):
        t = chunk * LANES
        for some in range((filters + LANES - 1) // LANES):
            f = some * LANES
            lanes = min(LANES, filters - f)
            for i in range(lanes):
                transform_output_grad(
                    dy + (f + i) * g.channel_step, g, first + t, min(LANES, tiles - t), block + i * 36 * LANES
                )
            for i in range(36):
                transpose(block + i * LANES, 36 * LANES, lanes, LANES, d + i * plane_step + t * row_step + f, row_step)


cdef void add_planes(
    const real* u, Py_ssize_t u_plane, Py_ssize_t u_step, const real* d, Py_ssize_t d_plane, Py_ssize_t columns,
    real* sums, Py_ssize_t sums_plane, Py_ssize_t channels, const Tap* taps, Py_ssize_t tiles, int add
) noexcept nogil:
    """sums[i] (channels, columns) = or += u[i] (channels, tiles) @ d[i] (tiles, columns), 36 times."""
    cdef Py_ssize_t lanes = VECTOR_BYTES // sizeof(real)
    cdef Py_ssize_t vectors = columns // lanes, panels = (channels + MOST_ROWS - 1) // MOST_ROWS
    cdef Py_ssize_t parts = (vectors + MOST_VECTORS - 1) // MOST_VECTORS
    cdef Py_ssize_t i, panel, part, c, rows, first
    cdef Py_ssize_t[MOST_ROWS] row_at
    equal_steps(u_step, &row_at[0])
    for i in range(36):
        for panel in range(panels):
            c = channels * panel // panels
            rows = channels * (panel + 1) // panels - c
            for part in range(parts):
                first = vectors * part // parts
                multiply_tile(
                    <int>rows, <int>(vectors * (part + 1) // parts - first), d + i * d_plane + first * lanes,
                    taps, tiles, u + i * u_plane + c * u_step, &row_at[0], <const real*>NULL, add,
                    sums + i * sums_plane + c * columns + first * lanes, columns,
                )


cdef void transform_sums(
    const real* sums, Py_ssize_t plane_step, Py_ssize_t columns, Py_ssize_t filters, Py_ssize_t channels,
    real* dw, const Filters* steps
) noexcept nogil:
    """dw (filters, channels, 3, 3) = G^T sums G for sums (36, channels, columns)."""
    cdef Py_ssize_t f, c, i, j, lane, lanes, chunk
    cdef real* tap
    cdef real[36 * LANES] v
    for c in range(channels):
        for chunk in range((filters + LANES - 1) // LANES):
            f = chunk * LANES
            lanes = min(LANES, filters - f)
            load_lanes(sums + c * columns + f, v, plane_step, LANES)
            for i in range(6):
                weight_grad_1d(&v[i * LANES], 6 * LANES)
            for i in range(3):
                weight_grad_1d(&v[i * 6 * LANES], LANES)
            for i in range(3):
                for j in range(3):
                    tap = dw + f * steps.filter_step + c * steps.channel_step + i * steps.row_step + j * steps.column_step
                    for lane in range(lanes):
                        tap[lane * steps.filter_step] = v[(i * 6 + j) * LANES + lane]


cdef Tap* list_tiles(Py_ssize_t tiles, Py_ssize_t columns) except NULL:
    """Tiles as the microkernel's taps."""
    cdef Tap* taps = <Tap*>malloc((tiles + AHEAD) * sizeof(Tap))
    cdef Py_ssize_t t
    if taps == NULL:
        raise MemoryError
    for t in range(tiles):
        taps[t].cell, taps[t].weight = t * columns, t
    repeat_last(taps, tiles)
    return taps


cdef int check_sums(
    Py_ssize_t[5] x, Py_ssize_t[5] dy, const real[:, :, :, :] dw, const Py_ssize_t[:, ::1] axes,
    const Py_ssize_t[:, ::1] tiles, Py_ssize_t width, Py_ssize_t columns, Py_ssize_t progress
) except -1:
    cdef Py_ssize_t[3] u = [36, x[1], 0]
    cdef Py_ssize_t[3] d = [36, dy[1], 0]
    check_winograd(x, u, axes, 0, 0, False)
    check_winograd(dy, d, axes, 0, 0, True)
    if x[0] != dy[0] or dw.shape[0] != dy[1] or dw.shape[1] != x[1] or dw.shape[2] != 3 or dw.shape[3] != 3:
        raise ValueError(f"dw must have shape ({dy[1]}, {x[1]}, 3, 3), and x and dy as many images")
    if columns < dy[1] or columns % LANES or width < 1 or width % LANES or progress != 3:
        raise ValueError(f"filters and tiles must come in steps of {LANES}, and progress have three elements")
    check_blocks(tiles, x[0] * ((axes[1, OUTPUT] + 3) // 4) * ((axes[2, OUTPUT] + 3) // 4), width, "block of tiles")
    return 0


def winograd_sum_by_tiles(
    const real[:, :, :, :, :] dy not None,
    const real[:, :, :, :, :] x not None,
    real[:, :, :, ::1] sums not None,
    real[:, :, :, :] dw not None,
    const Py_ssize_t[:, ::1] axes not None,
    const Py_ssize_t[:, ::1] tiles not None,
    const Py_ssize_t[:, ::1] parts not None,
    const Py_ssize_t[:, ::1] channels not None,
    Py_ssize_t width,
    long long[::1] progress not None,
    real[::1] memory not None,
):
    """Fill dw (F, C, 3, 3) from dy (n, F, 1, oh, ow) and x (n, C, 1, h, w): first parts of the blocks
    of at most `width` tiles (start and stop in `tiles`), each in sums of its own, (36, C, F in whole
    vectors), then, by blocks of channels, the parts are added in order and transformed back."""
    cdef Py_ssize_t[5] x_shape = [x.shape[0], x.shape[1], x.shape[2], x.shape[3], x.shape[4]]
    cdef Py_ssize_t[5] y_shape = [dy.shape[0], dy.shape[1], dy.shape[2], dy.shape[3], dy.shape[4]]
    cdef Py_ssize_t C = x.shape[1], F = dy.shape[1], columns = sums.shape[3], size = sizeof(real)
    check_sums(x_shape, y_shape, dw, axes, tiles, width, columns, progress.shape[0])
    check_rows(x.strides[4], x.shape[4], dy.strides[4], dy.shape[4], size)
    check_blocks(parts, tiles.shape[0], tiles.shape[0], "part")
    check_blocks(channels, C, C, "block of channels")
    if sums.shape[0] != parts.shape[0] or sums.shape[1] != 36 or sums.shape[2] != C:
        raise ValueError(f"sums must have shape ({parts.shape[0]}, 36, {C}, {columns})")
    cdef Py_ssize_t u_plane = C * width + LANES, d_plane = width * columns + LANES
    if memory.shape[0] < 36 * (u_plane + d_plane + LANES * LANES):
        raise ValueError(f"memory must have {36 * (u_plane + d_plane + LANES * LANES)} items")
    cdef Grid grid_in = grid_of(x, axes, False), grid_out = grid_of(dy, axes, True)
    cdef Filters steps = filters_of(dw)
    cdef real* u = &memory[0]
    cdef real* d = u + 36 * u_plane
    cdef real* block = d + 36 * d_plane
    cdef real* total
    cdef Py_ssize_t plane = C * columns, part_step = sums.strides[0] // size, i, j, part, first, count, wide, c, items
    cdef long long t
    cdef Tap* taps = list_tiles(width, columns)
    with nogil:
        zero(d, 36 * d_plane)  # filters past the last are multiplied, too
        t = cyconv_count(&progress[FIRST_TAKEN])
        while t < parts.shape[0]:
            for i in range(parts[t, 0], parts[t, 1]):
                first, count = tiles[i, 0], tiles[i, 1] - tiles[i, 0]
                wide = (count + LANES - 1) // LANES * LANES
                transform_input(&x[0, 0, 0, 0, 0], &grid_in, C, first, count, u, u_plane, width, wide)
                transform_turned(&dy[0, 0, 0, 0, 0], &grid_out, F, first, count, d, d_plane, columns, block)
                add_planes(
                    u, u_plane, width, d, d_plane, columns, &sums[t, 0, 0, 0], plane, C, taps, count,
                    i > parts[t, 0],
                )
            cyconv_count(&progress[FIRST_DONE])
            t = cyconv_count(&progress[FIRST_TAKEN])
        cyconv_wait_until(&progress[FIRST_DONE], parts.shape[0])
        t = cyconv_count(&progress[SECOND_TAKEN])
        while t < channels.shape[0]:
            c, items = channels[t, 0], (channels[t, 1] - channels[t, 0]) * columns
            for i in range(36):
                total = &sums[0, i, c, 0]
                for part in range(1, parts.shape[0]):
                    for j in range(items):
                        total[j] += total[part * part_step + j]
            transform_sums(
                &sums[0, 0, c, 0], plane, columns, F, channels[t, 1] - c, &dw[0, c, 0, 0], &steps
            )
            t = cyconv_count(&progress[SECOND_TAKEN])
    free(taps)


def winograd_sum_by_channels(
    const real[:, :, :, :, :] dy not None,
    const real[:, :, :, :, :] x not None,
    real[:, ::1] d not None,
    real[:, ::1] sums not None,
    real[:, :, :, :] dw not None,
    const Py_ssize_t[:, ::1] axes not None,
    const Py_ssize_t[:, ::1] filters not None,
    const Py_ssize_t[:, ::1] tiles not None,
    const Py_ssize_t[:, ::1] channels not None,
    Py_ssize_t width,
    Py_ssize_t columns,
    bint add,
    bint last,
    long long[::1] progress not None,
    real[::1] memory not None,
):
    """The same where dw is large, for consecutive blocks of tiles: first dy is transformed into d (36,
    tiles * columns, and LANES to spare), by blocks of filters, then blocks of channels of x are
    transformed, multiplied and added to sums (36, C * columns); or, if that has no columns, summed in
    memory. `add` says that there were tiles before these, `last` that there are none after them."""
    cdef Py_ssize_t[5] x_shape = [x.shape[0], x.shape[1], x.shape[2], x.shape[3], x.shape[4]]
    cdef Py_ssize_t[5] y_shape = [dy.shape[0], dy.shape[1], dy.shape[2], dy.shape[3], dy.shape[4]]
    cdef Py_ssize_t C = x.shape[1], F = dy.shape[1], size = sizeof(real), i, rows = 0
    cdef bint shared = sums.shape[1] > 0
    check_sums(x_shape, y_shape, dw, axes, tiles, width, columns, progress.shape[0])
    check_rows(x.strides[4], x.shape[4], dy.strides[4], dy.shape[4], size)
    check_blocks(filters, F, F, "block of filters")
    check_blocks(channels, C, C, "block of channels")
    for i in range(channels.shape[0]):
        rows = max(rows, channels[i, 1] - channels[i, 0])
    if tiles.shape[0] == 0:
        raise ValueError("there must be tiles")
    cdef Py_ssize_t begin = tiles[0, 0], total = tiles[tiles.shape[0] - 1, 1] - begin
    cdef Py_ssize_t wide = (total + LANES - 1) // LANES * LANES
    if d.shape[0] != 36 or d.shape[1] < wide * columns or sums.shape[0] != 36 or (shared and sums.shape[1] < C * columns):
        raise ValueError(f"d must have {wide * columns} columns, and sums none or {C * columns}")
    if not shared and (add or not last):
        raise ValueError("sums of several calls must be shared")
    cdef Py_ssize_t u_plane = rows * width + LANES, own_plane = 0 if shared else rows * columns + LANES
    if memory.shape[0] < 36 * (u_plane + own_plane + LANES * LANES):
        raise ValueError(f"memory must have {36 * (u_plane + own_plane + LANES * LANES)} items")
    cdef Grid grid_in = grid_of(x, axes, False), grid_out = grid_of(dy, axes, True)
    cdef Filters steps = filters_of(dw)
    cdef real* block = &memory[0]
    cdef real* u = block + 36 * LANES * LANES
    cdef real* m
    cdef Py_ssize_t d_plane = d.strides[0] // size, m_plane = sums.strides[0] // size if shared else own_plane
    cdef Py_ssize_t f, c, first, count, number
    cdef long long t
    cdef Tap* taps = list_tiles(width, columns)
    with nogil:
        t = cyconv_count(&progress[FIRST_TAKEN])
        while t < filters.shape[0]:
            f = filters[t, 0]
            transform_turned(
                &dy[0, f, 0, 0, 0], &grid_out, filters[t, 1] - f, begin, total, &d[0, f], d_plane, columns, block
            )
            if filters[t, 1] == F:  # filters past the last are multiplied, too
                for i in range(36 if columns > F else 0):
                    for c in range(wide):
                        zero(&d[i, c * columns + F], columns - F)
            cyconv_count(&progress[FIRST_DONE])
            t = cyconv_count(&progress[FIRST_TAKEN])
        cyconv_wait_until(&progress[FIRST_DONE], filters.shape[0])
        t = cyconv_count(&progress[SECOND_TAKEN])
        while t < channels.shape[0]:
            c, number = channels[t, 0], channels[t, 1] - channels[t, 0]
            m = &sums[0, c * columns] if shared else u + 36 * u_plane
            for i in range(tiles.shape[0]):
                first, count = tiles[i, 0], tiles[i, 1] - tiles[i, 0]
                transform_input(
                    &x[0, c, 0, 0, 0], &grid_in, number, first, count, u, u_plane, width,
                    (count + LANES - 1) // LANES * LANES,
                )
                add_planes(
                    u, u_plane, width, &d[0, (first - begin) * columns], d_plane, columns, m, m_plane, number,
                    taps, count, add or i > 0,
                )
            if last:
                transform_sums(m, m_plane, columns, F, number, &dw[0, c, 0, 0], &steps)
            t = cyconv_count(&progress[SECOND_TAKEN])
    free(taps)
