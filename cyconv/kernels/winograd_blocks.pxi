# Winograd from end to end: blocks of tiles are transformed, multiplied by the microkernel and
# transformed back while they are in cache, in one call and without the interpreter.
#
# Threads that are in the same call share `progress`: it counts the tasks of its first phase that
# were taken and that are done, and those of the second phase that were taken. The second phase
# begins when the tasks of the first are done.

cdef enum:
    FIRST_TAKEN = 0
    FIRST_DONE = 1
    SECOND_TAKEN = 2


cdef void multiply_planes(
    const real* v, Py_ssize_t v_plane, Py_ssize_t v_step, const real* u, Py_ssize_t u_plane, Py_ssize_t u_step,
    real* m, Py_ssize_t m_plane, Py_ssize_t m_step, Py_ssize_t filters, Py_ssize_t channels, Py_ssize_t columns,
    const Tap* taps
) noexcept nogil:
    """m[i] (filters, columns) = v[i] (filters, channels) @ u[i] (channels, columns), 36 times."""
    cdef Py_ssize_t lanes = VECTOR_BYTES // sizeof(real)
    cdef Py_ssize_t vectors = columns // lanes, panels = (filters + MOST_ROWS - 1) // MOST_ROWS
    cdef Py_ssize_t tiles = (vectors + MOST_VECTORS - 1) // MOST_VECTORS
    cdef Py_ssize_t i, panel, tile, f, rows, first, count
    for i in range(36):
        for panel in range(panels):
            f = filters * panel // panels
            rows = filters * (panel + 1) // panels - f
            for tile in range(tiles):
                first = vectors * tile // tiles
                count = vectors * (tile + 1) // tiles - first
                multiply_tile(
                    <int>rows, <int>count, u + i * u_plane + first * lanes, taps, channels,
                    v + i * v_plane + f * v_step, v_step, <const real*>NULL,
                    m + i * m_plane + f * m_step + first * lanes, m_step,
                )


cdef int check_blocks(const Py_ssize_t[:, ::1] blocks, Py_ssize_t size, Py_ssize_t unit, name) except -1:
    cdef Py_ssize_t i
    if blocks.shape[1] != 2:
        raise ValueError(f"{name} must have shape (number, 2)")
    for i in range(blocks.shape[0]):
        if not 0 <= blocks[i, 0] < blocks[i, 1] <= size or blocks[i, 1] - blocks[i, 0] > unit:
            raise ValueError(f"{name} {i} is not within {size}, or longer than {unit}")
    return 0


cdef Tap* list_channels(Py_ssize_t channels, Py_ssize_t step) except NULL:
    """The channels of transformed tiles, as the microkernel's taps."""
    cdef Tap* taps = <Tap*>malloc((channels + 8) * sizeof(Tap))
    cdef Py_ssize_t c
    if taps == NULL:
        raise MemoryError
    for c in range(channels):
        taps[c].cell, taps[c].weight = c * step, c
    for c in range(8):
        taps[channels + c] = taps[channels - 1]
    return taps


cdef int check_arrays(
    Py_ssize_t[5] x, Py_ssize_t[5] y, Py_ssize_t[4] w, Py_ssize_t[3] v, const Py_ssize_t[:, ::1] axes,
    Py_ssize_t b, const long long[::1] progress
) except -1:
    cdef Py_ssize_t[3] none_in = [36, x[1], 0]
    cdef Py_ssize_t[3] none_out = [36, y[1], 0]
    check_winograd(x, none_in, axes, 0, 0, False)
    check_winograd(y, none_out, axes, 0, 0, True)
    if x[0] != y[0] or b not in (0, y[1]):
        raise ValueError("x, y and b do not fit")
    if progress.shape[0] != 3 or min(progress[0], progress[1], progress[2]) < 0:
        raise ValueError("progress must have three elements, none of them negative")
    check_filters(w[0], w[1], w[2], w[3], v[0], v[1], v[2])
    if w[0] != y[1] or w[1] != x[1]:
        raise ValueError(f"w must have shape ({y[1]}, {x[1]}, 3, 3)")
    return 0


def winograd_by_tiles(
    const real[:, :, :, :, :] x not None,
    const real[:, :, :, :] w not None,
    real[:, :, ::1] v not None,
    const real[::1] b,
    real[:, :, :, :, :] y not None,
    const Py_ssize_t[:, ::1] axes not None,
    const Py_ssize_t[:, ::1] filters not None,
    const Py_ssize_t[:, ::1] tiles not None,
    Py_ssize_t columns,
    Py_ssize_t rows,
    long long[::1] progress not None,
    real[::1] memory not None,
):
    """Fill y (n, F, 1, oh, ow) from x (n, C, 1, h, w), w (F, C, 3, 3) of any strides, and b (F,) or
    None: first blocks of filters are transformed into v (36, F, C) (none, if they are in v already),
    then blocks of at most `columns` tiles, `rows` filters at a time."""
    cdef Py_ssize_t[5] x_shape = [x.shape[0], x.shape[1], x.shape[2], x.shape[3], x.shape[4]]
    cdef Py_ssize_t[5] y_shape = [y.shape[0], y.shape[1], y.shape[2], y.shape[3], y.shape[4]]
    cdef Py_ssize_t[4] w_shape = [w.shape[0], w.shape[1], w.shape[2], w.shape[3]]
    cdef Py_ssize_t[3] v_shape = [v.shape[0], v.shape[1], v.shape[2]]
    cdef Py_ssize_t F = y.shape[1], C = x.shape[1], size = sizeof(real)
    check_arrays(x_shape, y_shape, w_shape, v_shape, axes, b.shape[0] if b is not None else 0, progress)
    check_rows(x.strides[4], x.shape[4], y.strides[4], y.shape[4], size)
    cdef Grid grid_in = grid_of(x, axes, False), grid_out = grid_of(y, axes, True)
    check_blocks(filters, F, F, "block of filters")
    check_blocks(tiles, x.shape[0] * grid_in.TH * grid_in.TW, columns, "block of tiles")
    cdef Py_ssize_t u_plane = C * columns + LANES, m_plane = rows * columns + LANES
    if rows < 1 or columns < 1 or columns % LANES or memory.shape[0] < 36 * (u_plane + m_plane):
        raise ValueError(f"memory must have {36 * (u_plane + m_plane)} items, and columns be in steps of {LANES}")
    cdef Filters steps = filters_of(w)
    cdef real* u = &memory[0]
    cdef real* m = u + 36 * u_plane
    cdef Py_ssize_t v_plane = v.strides[0] // size, first, count, wide, f, number
    cdef long long t
    cdef Tap* taps = list_channels(C, columns)
    with nogil:
        t = cyconv_count(&progress[FIRST_TAKEN])
        while t < filters.shape[0]:
            transform_weight(
                &w[filters[t, 0], 0, 0, 0], &steps, filters[t, 1] - filters[t, 0], C, &v[0, filters[t, 0], 0],
                v_plane, C,
            )
            cyconv_count(&progress[FIRST_DONE])
            t = cyconv_count(&progress[FIRST_TAKEN])
        cyconv_wait_until(&progress[FIRST_DONE], filters.shape[0])
        t = cyconv_count(&progress[SECOND_TAKEN])
        while t < tiles.shape[0]:
            first, count = tiles[t, 0], tiles[t, 1] - tiles[t, 0]
            wide = (count + LANES - 1) // LANES * LANES
            transform_input(&x[0, 0, 0, 0, 0], &grid_in, C, first, count, u, u_plane, columns, wide)
            f = 0
            while f < F:
                number = min(rows, F - f)
                multiply_planes(
                    &v[0, f, 0], v_plane, C, u, u_plane, columns, m, m_plane, columns, number, C, wide, taps
                )
                transform_output(
                    m, m_plane, columns, &b[f] if b is not None else NULL, &y[0, f, 0, 0, 0], &grid_out,
                    number, first, count,
                )
                f += number
            t = cyconv_count(&progress[SECOND_TAKEN])
    free(taps)


def winograd_by_filters(
    const real[:, :, :, :, :] x not None,
    const real[:, :, :, :] w not None,
    real[:, :, ::1] v not None,
    const real[::1] b,
    real[:, :, :, :, :] y not None,
    const Py_ssize_t[:, ::1] axes not None,
    real[:, :, :] u not None,
    const Py_ssize_t[:, ::1] channels not None,
    const Py_ssize_t[:, ::1] filters not None,
    bint prepared,
    Py_ssize_t columns,
    long long[::1] progress not None,
    real[::1] memory not None,
):
    """The same for few tiles and many filters: first all tiles are transformed into u (36, C, tiles),
    by blocks of channels, then blocks of filters, `columns` tiles at a time. If v is `prepared`
    it holds all transformed filters; else it has no filters, and they are transformed in memory."""
    cdef Py_ssize_t[5] x_shape = [x.shape[0], x.shape[1], x.shape[2], x.shape[3], x.shape[4]]
    cdef Py_ssize_t[5] y_shape = [y.shape[0], y.shape[1], y.shape[2], y.shape[3], y.shape[4]]
    cdef Py_ssize_t[4] w_shape = [w.shape[0], w.shape[1], w.shape[2], w.shape[3]]
    cdef Py_ssize_t[3] v_shape = [v.shape[0], v.shape[1] if prepared else y.shape[1], v.shape[2]]
    cdef Py_ssize_t[3] u_shape = [u.shape[0], u.shape[1], u.shape[2]]
    cdef Py_ssize_t F = y.shape[1], C = x.shape[1], size = sizeof(real), i, rows = 0
    check_arrays(x_shape, y_shape, w_shape, v_shape, axes, b.shape[0] if b is not None else 0, progress)
    check_rows(x.strides[4], x.shape[4], y.strides[4], y.shape[4], size)
    cdef Grid grid_in = grid_of(x, axes, False), grid_out = grid_of(y, axes, True)
    cdef Py_ssize_t total = x.shape[0] * grid_in.TH * grid_in.TW
    check_winograd(x_shape, u_shape, axes, 0, total, False)
    check_rows(0, 1, u.strides[2], u.shape[2], size)
    check_lanes(u.strides[1], u.shape[2], u.shape[1], size)
    check_blocks(channels, C, C, "block of channels")
    check_blocks(filters, F, F, "block of filters")
    for i in range(filters.shape[0]):
        rows = max(rows, filters[i, 1] - filters[i, 0])
    cdef Py_ssize_t own_plane = 0 if prepared else rows * C + LANES, m_plane = rows * columns + LANES
    if columns < 1 or columns % LANES or memory.shape[0] < 36 * (own_plane + m_plane):
        raise ValueError(f"memory must have {36 * (own_plane + m_plane)} items, and columns be in steps of {LANES}")
    cdef Filters steps = filters_of(w)
    cdef real* own = &memory[0]
    cdef real* m = own + 36 * own_plane
    cdef real* from_v
    cdef Py_ssize_t v_plane = v.strides[0] // size, u_plane = u.strides[0] // size, wide = u.shape[2]
    cdef Py_ssize_t first, count, f, number
    cdef long long t
    cdef Tap* taps = list_channels(C, wide)
    with nogil:
        t = cyconv_count(&progress[FIRST_TAKEN])
        while t < channels.shape[0]:
            f = channels[t, 0]
            transform_input(
                &x[0, f, 0, 0, 0], &grid_in, channels[t, 1] - f, 0, total, &u[0, f, 0], u_plane, wide, wide
            )
            cyconv_count(&progress[FIRST_DONE])
            t = cyconv_count(&progress[FIRST_TAKEN])
        cyconv_wait_until(&progress[FIRST_DONE], channels.shape[0])
        t = cyconv_count(&progress[SECOND_TAKEN])
        while t < filters.shape[0]:
            f, number = filters[t, 0], filters[t, 1] - filters[t, 0]
            if prepared:
                from_v = &v[0, f, 0]
            else:
                from_v, v_plane = own, own_plane
                transform_weight(&w[f, 0, 0, 0], &steps, number, C, own, own_plane, C)
            first = 0
            while first < total:
                count = min(columns, wide - first)
                multiply_planes(
                    from_v, v_plane, C, &u[0, 0, first], u_plane, wide, m, m_plane, columns, number, C, count,
                    taps,
                )
                transform_output(
                    m, m_plane, columns, &b[f] if b is not None else NULL, &y[0, f, 0, 0, 0], &grid_out,
                    number, first, min(count, total - first),
                )
                first += count
            t = cyconv_count(&progress[SECOND_TAKEN])
    free(taps)
