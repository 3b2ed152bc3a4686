# Winograd's weight gradient from end to end, on the microkernel.
#
#     dw = G^T [ sum over tiles of U D ] G,    U = B^T x B, D = A dy A^T
#
# As in direct_grad.pxi the taps of the microkernel are what is summed over, here tiles: its rows are
# channels, its positions filters, and sums have shape (36, channels, filters in steps of WIDE); of a
# volume, with channels for each of the taps along the depth. D is in panels of filters, as v is forwards.

cdef void turn_output_grad(
    const real* dy, const Grid* g, Py_ssize_t first_filter, Py_ssize_t last_filter, Py_ssize_t first,
    Py_ssize_t tiles, real* d, Py_ssize_t plane_step, Py_ssize_t rows
) noexcept nogil:
    """d (points * points, panels, tiles, rows) = A dy A^T for some filters, from a whole WIDE of them on; zero past the
    last."""
    cdef Py_ssize_t f = first_filter, t, n, th, tw, run, i, row, column
    cdef const real* cells
    cdef real* to
    cdef real[4 * LINE] lines
    while f < last_filter:
        t = 0
        while t < tiles:
            find_tile(g, first + t, &n, &th, &tw)
            run = tiles_together(g, tw, tiles - t)
            cells = turn_rows(
                plane_of(dy, g, n, 0) + f * g.channel_step, g, last_filter - f, 4 * th, 4 * tw, 4, 4 * run, &lines[0],
                &row, &column,
            )
            for i in range(run):
                to = d + (f // rows * tiles + t + i) * rows + f % rows
                output_grad_tile(g.kind, cells + 4 * i * column, row, column, to, plane_step)
            t += run
        f += WIDE


cdef void turn_sums(
    const real* sums, Py_ssize_t plane_step, Py_ssize_t columns, Py_ssize_t filters, Py_ssize_t channels,
    real* dw, const Filters* steps
) noexcept nogil:
    """dw (filters, channels, side, side) = G^T sums G for sums (weights * weights, channels, columns)."""
    cdef Py_ssize_t f, c
    cdef real[MOST_TAPS * WIDE] taps
    for c in range(channels):
        f = 0
        while f < filters:
            weight_grad_tile(steps.kind, sums + c * columns + f, plane_step, &taps[0])
            turn_taps_back(
                &taps[0], min(filters - f, <Py_ssize_t>WIDE), dw + f * steps.filter_step + c * steps.channel_step,
                steps, steps.filter_step,
            )
            f += WIDE


cdef int check_sums(
    Py_ssize_t[5] x, Py_ssize_t[5] dy, const real[:, :, :, :, :] dw, const Py_ssize_t[:, ::1] axes,
    const Py_ssize_t[:, ::1] tiles, Py_ssize_t width, const long long[::1] progress,
    const real[::1] memory
) except -1:
    cdef Py_ssize_t[5] w = [dw.shape[0], dw.shape[1], dw.shape[2], dw.shape[3], dw.shape[4]]
    check_arrays(x, dy, w, axes, dy[1])
    if axes[1, STRIDE] < 0:
        raise ValueError("the stride must be that of the forward pass")
    check_progress(progress)
    check_room(width, memory)
    check_blocks(
        tiles, x[0] * axes[0, OUTPUT] * count_along(axes, 1) * count_along(axes, 2), width, 1, "block of tiles",
    )
    return 0


def winograd_sum_by_tiles(
    const real[:, :, :, :, :] dy not None,
    const real[:, :, :, :, :] x not None,
    real[:, :, :, ::1] sums not None,
    real[:, :, :, :, :] dw not None,
    const Py_ssize_t[:, ::1] axes not None,
    const Py_ssize_t[:, ::1] tiles not None,
    const Py_ssize_t[:, ::1] parts not None,
    const Py_ssize_t[:, ::1] channels not None,
    Py_ssize_t width,
    Py_ssize_t rows,
    long long[::1] progress not None,
    real[::1] memory not None,
    bint rings=False,
    /,
):
    """Fill dw (F, C, KD, 3, 3), or (F, C, KD, 4, 4) with 49 planes for 36, from dy (n, F, od, oh, ow) and x
    (n, C, d, h, w): first parts of the
    blocks of at most `width` tiles (start and stop in `tiles`), each in sums of its own, (36, KD * C, F
    in steps of WIDE), with D in panels of `rows` filters; then, by blocks of channels, the parts are added in
    order and transformed back."""
    cdef Py_ssize_t[5] x_shape = [x.shape[0], x.shape[1], x.shape[2], x.shape[3], x.shape[4]]
    cdef Py_ssize_t[5] y_shape = [dy.shape[0], dy.shape[1], dy.shape[2], dy.shape[3], dy.shape[4]]
    cdef Py_ssize_t C = x.shape[1], F = dy.shape[1], size = sizeof(real), CW = in_wides(x.shape[1])
    cdef Py_ssize_t KD = dw.shape[2], k, columns = in_wides(dy.shape[1]), panels
    check_sums(x_shape, y_shape, dw, axes, tiles, width, progress, memory)
    check_order(x, "x")
    check_order(dy, "dy")
    cdef Grid grid_in = grid_of(x, axes, False), grid_out = grid_of(dy, axes, True)
    cdef Py_ssize_t planes = points_of(grid_in.kind) ** 2, weight_planes = weights_of(grid_in.kind) ** 2
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
    panels = (F + rows - 1) // rows
    check_items(memory.shape[0], planes * (width * (CW + panels * <double>rows) + 2 * WIDE), "memory")
    cdef Py_ssize_t u_plane = width * CW + WIDE, d_plane = width * panels * rows + WIDE
    cdef Filters steps = filters_of(dw[:, :, 0], axes[1, STRIDE])
    cdef real* u = &memory[0]
    cdef real* d = u + planes * u_plane
    cdef real* total
    cdef Py_ssize_t plane = KD * C * columns, part_step = sums.strides[0] // size, i, j, part, first, count, c, items
    cdef long long t
    with nogil:
        ring(rings)
        t = cyconv_count(&progress[FIRST_TAKEN])
        while t < parts.shape[0]:
            for i in range(parts[t, 0], parts[t, 1]):
                first, count = tiles[i, 0], tiles[i, 1] - tiles[i, 0]
                turn_output_grad(&dy[0, 0, 0, 0, 0], &grid_out, 0, F, first, count, d, d_plane, rows)
                for k in range(KD):
                    turn_input(&x[0, 0, 0, 0, 0], &grid_in, C, k, first, count, u, u_plane, CW)
                    multiply_planes(
                        grid_in.kind, u, u_plane, 1, CW, d, d_plane, count * rows, rows, &sums[t, 0, k * C, 0], plane,
                        columns, C, columns, count, i > parts[t, 0], True,
                    )
            cyconv_count(&progress[FIRST_DONE])
            t = cyconv_count(&progress[FIRST_TAKEN])
        cyconv_wait_until(&progress[FIRST_DONE], parts.shape[0])
        t = cyconv_count(&progress[SECOND_TAKEN])
        while t < channels.shape[0]:
            c, items = channels[t, 0], (channels[t, 1] - channels[t, 0]) * columns
            for k in range(KD):
                for i in range(weight_planes):
                    total = &sums[0, i, k * C + c, 0]
                    for part in range(1, parts.shape[0]):
                        for j in range(items):
                            total[j] += total[part * part_step + j]
                turn_sums(
                    &sums[0, 0, k * C + c, 0], plane, columns, F, channels[t, 1] - c, &dw[0, c, k, 0, 0], &steps
                )
            t = cyconv_count(&progress[SECOND_TAKEN])


def winograd_sum_by_channels(
    const real[:, :, :, :, :] dy not None,
    const real[:, :, :, :, :] x not None,
    real[:, :, :, :] d not None,
    real[:, ::1] sums not None,
    real[:, :, :, :, :] dw not None,
    const Py_ssize_t[:, ::1] axes not None,
    const Py_ssize_t[:, ::1] filters not None,
    const Py_ssize_t[:, ::1] tiles not None,
    const Py_ssize_t[:, ::1] channels not None,
    Py_ssize_t width,
    bint add,
    bint last,
    long long[::1] progress not None,
    real[::1] memory not None,
    bint rings=False,
    /,
):
    """The same where dw is large, for consecutive blocks of tiles: first dy is transformed into d (36,
    panels, tiles, rows), by blocks of filters, then blocks of channels of x are transformed, multiplied and
    added to sums (36, KD * C * F in steps of WIDE); or, if that has no columns, summed in memory. `add` says
    that there were tiles before these, `last` that there are none after them."""
    cdef Py_ssize_t[5] x_shape = [x.shape[0], x.shape[1], x.shape[2], x.shape[3], x.shape[4]]
    cdef Py_ssize_t[5] y_shape = [dy.shape[0], dy.shape[1], dy.shape[2], dy.shape[3], dy.shape[4]]
    cdef Py_ssize_t C = x.shape[1], F = dy.shape[1], size = sizeof(real), i, most = 0, KD = dw.shape[2], k
    cdef Py_ssize_t columns = in_wides(dy.shape[1]), rows = d.shape[3]
    cdef bint shared = sums.shape[1] > 0
    check_sums(x_shape, y_shape, dw, axes, tiles, width, progress, memory)
    check_order(x, "x")
    check_order(dy, "dy")
    cdef Grid grid_in = grid_of(x, axes, False), grid_out = grid_of(dy, axes, True)
    cdef Py_ssize_t planes = points_of(grid_in.kind) ** 2, weight_planes = weights_of(grid_in.kind) ** 2
    check_blocks(filters, F, F, WIDE, "block of filters")
    check_blocks(channels, C, C, 1, "block of channels")
    for i in range(channels.shape[0]):
        most = max(most, channels[i, 1] - channels[i, 0])
    if tiles.shape[0] == 0:
        raise ValueError("there must be tiles")
    cdef Py_ssize_t begin = tiles[0, 0], total = tiles[tiles.shape[0] - 1, 1] - begin, CW = in_wides(most)
    check_panels(d, planes, F, total, "d")
    if sums.shape[0] != weight_planes:
        raise ValueError(f"sums must have {weight_planes} rows")
    if shared:
        check_items(sums.shape[1], KD * C * <double>columns, "a row of sums")
    for i in range(tiles.shape[0]):
        if tiles[i, 0] < begin or tiles[i, 1] > begin + total:
            raise ValueError("tiles must be consecutive")
    if not shared and (add or not last):
        raise ValueError("sums of several calls must be shared")
    check_items(
        memory.shape[0],
        planes * (width * <double>CW + WIDE)
        + (0 if shared else weight_planes * (KD * most * <double>columns + WIDE)), "memory",
    )
    cdef Py_ssize_t u_plane = width * CW + WIDE, own_plane = 0 if shared else KD * most * columns + WIDE
    cdef Filters steps = filters_of(dw[:, :, 0], axes[1, STRIDE])
    cdef real* u = &memory[0]
    cdef real* m
    cdef Py_ssize_t d_plane = d.strides[0] // size, m_plane = sums.strides[0] // size if shared else own_plane
    cdef Py_ssize_t c, first, count, number
    cdef long long t
    with nogil:
        ring(rings)
        t = cyconv_count(&progress[FIRST_TAKEN])
        while t < filters.shape[0]:
            turn_output_grad(
                &dy[0, 0, 0, 0, 0], &grid_out, filters[t, 0], filters[t, 1], begin, total, &d[0, 0, 0, 0], d_plane,
                rows,
            )
            cyconv_count(&progress[FIRST_DONE])
            t = cyconv_count(&progress[FIRST_TAKEN])
        cyconv_wait_until(&progress[FIRST_DONE], filters.shape[0])
        t = cyconv_count(&progress[SECOND_TAKEN])
        while t < channels.shape[0]:
            c, number = channels[t, 0], channels[t, 1] - channels[t, 0]
            for k in range(KD):
                m = &sums[0, (k * C + c) * columns] if shared else u + planes * u_plane + k * most * columns
                for i in range(tiles.shape[0]):
                    first, count = tiles[i, 0], tiles[i, 1] - tiles[i, 0]
                    turn_input(&x[0, c, 0, 0, 0], &grid_in, number, k, first, count, u, u_plane, CW)
                    # d was transformed long ago, and by others too: fetched ahead, sums take 0.7 to 0.95
                    # times as long. (What this thread has just transformed is near enough.)
                    multiply_planes(
                        grid_in.kind, u, u_plane, 1, CW, &d[0, 0, first - begin, 0], d_plane, total * rows, rows, m,
                        m_plane, columns, number, columns, count, add or i > 0, True, True,
                    )
                if last:
                    turn_sums(m, m_plane, columns, F, number, &dw[0, c, k, 0, 0], &steps)
            t = cyconv_count(&progress[SECOND_TAKEN])
