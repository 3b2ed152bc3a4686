# Winograd's tiles on their way from an image to the products, and back.
#
# WIDE channels or filters stand side by side in the lanes of vectors, so that it does not matter how
# narrow an image is: rows of an image are transposed as they are read, and again as they are written,
# or, where its channels come last, read and written as they lie. Tiles that follow each other along a
# row, or lie between each other, are turned together (grid.pxi says where a tile begins).
#
# In a volume each plane of the output has tiles, whose channels are those of all the planes that it
# reads: for each of the taps along the depth, C in steps of WIDE, zero outside of the volume.

cdef inline void find_tile(const Grid* g, Py_ssize_t t, Py_ssize_t* n, Py_ssize_t* th, Py_ssize_t* tw) noexcept nogil:
    n[0], th[0], tw[0] = t // (g.TH * g.TW), t // g.TW % g.TH, t % g.TW


cdef inline const real* plane_of(const real* x, const Grid* g, Py_ssize_t n, Py_ssize_t tap) noexcept nogil:
    """What this tap along the depth reads for the n-th plane of the output; NULL outside."""
    cdef Py_ssize_t d = n % g.planes - g.low_d + tap * g.apart_d
    return x + n // g.planes * g.image_step + d * g.plane_step if 0 <= d < g.D else NULL


cdef inline void turn_row(
    const real* plane, const Grid* g, Py_ssize_t channels, Py_ssize_t h, Py_ssize_t w, Py_ssize_t step,
    Py_ssize_t count, Py_ssize_t lo, Py_ssize_t hi, real* line
) noexcept nogil:
    """line (count, WIDE) = `count` cells of up to WIDE channels, from (h, w) on, `step` apart, which is 1
    where columns follow each other; those from lo to hi are inside, and the others zero."""
    cdef Py_ssize_t i
    cdef const real* cell
    if plane == NULL or not 0 <= h < g.H:
        lo = hi = count
    if channels < WIDE:
        lo, hi = min(lo, hi), hi
        zero(line, count * WIDE)
    else:
        zero(line, lo * WIDE)
        zero(line + hi * WIDE, (count - hi) * WIDE)
    if lo == hi:
        return
    cell = plane + h * g.row_step + (w + lo * step) * g.column_step
    if g.column_step == 1:
        transpose(cell, g.channel_step, channels, hi - lo, line + lo * WIDE, WIDE)
    else:
        for i in range(lo, hi):
            copy_some(cell + (i - lo) * step * g.column_step, channels, line + i * WIDE)


cdef inline void copy_some(const real* a, Py_ssize_t count, real* to) noexcept nogil:
    """Copy up to WIDE items."""
    cdef Py_ssize_t i
    if count == WIDE:
        memcpy(to, a, WIDE * sizeof(real))
    else:
        for i in range(count):
            to[i] = a[i]


cdef inline Py_ssize_t tiles_together(const Grid* g, Py_ssize_t tw, Py_ssize_t tiles, Py_ssize_t* starts) noexcept nogil:
    """How many tiles, from column tw on, to turn together, and where each of them begins after the first;
    one where there is nothing to turn. All phases of tiles that lie between each other, if there is room."""
    cdef Py_ssize_t phases = g.phases_w, phase = tw % phases, count = min(g.TW - tw, tiles), start = 0, i
    cdef Py_ssize_t most = g.line // WIDE - (g.cells - 1) * g.apart_w
    if g.column_step != 1:
        count = 1
    elif phase or min(count, most) < phases:
        count = min(min(count, phases - phase), most)
    else:
        count = min(count // phases, 1 + (most - phases) // (g.pitch * g.apart_w)) * phases
    for i in range(count):
        starts[i] = start
        start, phase = start + 1, phase + 1
        if phase == phases:
            start, phase = start + g.pitch * g.apart_w - phases, 0
    return count


cdef inline Py_ssize_t end_of(const Grid* g, Py_ssize_t start) noexcept nogil:
    """Where a tile ends along a row, if it begins at `start`."""
    return start + (g.cells - 1) * g.apart_w + 1


cdef inline bint in_place(const Grid* g, Py_ssize_t channels, Py_ssize_t h, Py_ssize_t w) noexcept nogil:
    """Whether a tile can be read or written where it lies: channels last, WIDE of them, not at an edge."""
    return (
        g.column_step != 1 and channels >= WIDE and 0 <= h < g.H - (g.cells - 1) * g.apart_h
        and 0 <= w <= g.W - end_of(g, 0)
    )


cdef inline const real* turn_rows(
    const real* plane, const Grid* g, Py_ssize_t channels, Py_ssize_t h, Py_ssize_t w, Py_ssize_t last,
    real* lines, Py_ssize_t* row_step, Py_ssize_t* column_step
) noexcept nogil:
    """Where to read up to WIDE channels of tiles that begin at (h, w), the last of them `last` later: in
    place, or turned into lines."""
    cdef Py_ssize_t i, step = 1, count = end_of(g, last), lo = -w, hi = g.W - w
    if plane != NULL and in_place(g, channels, h, w):
        row_step[0], column_step[0] = g.apart_h * g.row_step, g.apart_w * g.column_step
        return plane + h * g.row_step + w * g.column_step
    if g.column_step != 1:
        step, count = g.apart_w, g.cells
        lo, hi = first_inside(w, 0, step), first_inside(w, g.W, step)
    lo = min(count, max(<Py_ssize_t>0, lo))
    hi = max(lo, min(count, hi))
    for i in range(g.cells):
        turn_row(
            plane, g, min(channels, <Py_ssize_t>WIDE), h + i * g.apart_h, w, step, count, lo, hi, lines + i * g.line
        )
    row_step[0], column_step[0] = g.line, g.apart_w // step * WIDE
    return lines


cdef void turn_input(
    const real* x, const Grid* g, Py_ssize_t channels, Py_ssize_t tap, Py_ssize_t first, Py_ssize_t tiles,
    real* u, Py_ssize_t plane_step, Py_ssize_t row_step
) noexcept nogil:
    """u (points * points, tiles, channels) = B^T x B, for one tap along the depth."""
    cdef Py_ssize_t c = 0, t, n, th, tw, run, i, row, column, top, left
    cdef const real* plane
    cdef const real* cells
    cdef real* to
    cdef real[LINES] lines
    cdef Py_ssize_t[MOST_RUN] starts
    t = 0
    while t < tiles:
        find_tile(g, first + t, &n, &th, &tw)
        run = tiles_together(g, tw, tiles - t, &starts[0])
        plane = plane_of(x, g, n, tap)
        top, left = top_of(g, th), left_of(g, tw)
        c = 0
        while c < channels:
            cells = turn_rows(
                plane + c * g.channel_step if plane != NULL else NULL, g, channels - c, top, left, starts[run - 1],
                &lines[0], &row, &column,
            )
            for i in range(run):
                to = u + (t + i) * row_step + c
                input_tile(g.kind, cells + starts[i] * WIDE, row, column, to, plane_step)
            c += WIDE
        t += run


cdef void turn_output(
    const real* m, Py_ssize_t plane_step, Py_ssize_t row_step, const real* b, real* y, const Grid* g,
    Py_ssize_t filters, Py_ssize_t first, Py_ssize_t tiles
) noexcept nogil:
    """Write the tiles A^T m A + b of y, for m (points * points, tiles, filters); b may be NULL."""
    cdef Py_ssize_t f = 0, t, n, th, tw, run, i, some, row, column, top, left
    cdef const real* products
    cdef real* to
    cdef real* cells
    cdef real[LINES] lines
    cdef Py_ssize_t[MOST_RUN] starts
    cdef real[WIDE] bias
    cdef bint whole
    while f < filters:
        some = min(filters - f, <Py_ssize_t>WIDE)
        for i in range(WIDE):
            bias[i] = b[f + i] if b != NULL and i < some else 0
        t = 0
        while t < tiles:
            find_tile(g, first + t, &n, &th, &tw)
            run = tiles_together(g, tw, tiles - t, &starts[0])
            to = y + n // g.planes * g.image_step + n % g.planes * g.plane_step + f * g.channel_step
            top, left = top_of(g, th), left_of(g, tw)
            to += top * g.row_step + left * g.column_step
            cells, row, column = &lines[0], g.line, g.apart_w * WIDE
            if in_place(g, some, top, left):
                cells, row, column = to, g.apart_h * g.row_step, g.apart_w * g.column_step
            for i in range(run):
                products = m + (t + i) * row_step + f
                output_tile(
                    g.kind, products, plane_step, cells + starts[i] * WIDE, row, column,
                    &bias[0] if b != NULL else NULL,
                )
            if cells == &lines[0]:
                whole = run % g.phases_w == 0
                for i in range(first_inside(top, 0, g.apart_h), min(g.cells, first_inside(top, g.H, g.apart_h))):
                    write_row(
                        &lines[i * g.line], g, whole, run, &starts[0], left, some, to + i * g.apart_h * g.row_step
                    )
            t += run
        f += WIDE


cdef inline void write_row(
    const real* line, const Grid* g, bint whole, Py_ssize_t run, const Py_ssize_t* starts, Py_ssize_t left,
    Py_ssize_t filters, real* to
) noexcept nogil:
    """Write what a run of tiles has in one row, up to WIDE filters of it, from column `left` on: all cells in
    one piece, if it is `whole` and there are no others between them."""
    cdef Py_ssize_t lo = max(<Py_ssize_t>0, -left), hi, i, j
    if g.column_step == 1 and whole:
        hi = min(end_of(g, starts[run - 1]), g.W - left)
        transpose(line + lo * WIDE, WIDE, hi - lo, filters, to + lo, g.channel_step)
        return
    for i in range(run):
        j = starts[i]
        while j < min(end_of(g, starts[i]), g.W - left):
            if j < lo:
                pass
            elif g.column_step == 1:
                transpose(line + j * WIDE, WIDE, 1, filters, to + j, g.channel_step)
            else:
                copy_some(line + j * WIDE, filters, to + j * g.column_step)
            j += g.apart_w


cdef enum:
    # Channels of filters that are turned together, where their taps lie one after another: that takes
    # fewer vectors, and whole ones. One image of 14x14 with 256 or 512 channels took 0.8 of the time
    # (AVX-512; AVX2 0.95, plain C as long).
    CHANNELS_TURNED = 16
    # Filters are fetched so many channels ahead, or as many as are turned together. Eight images of 7x7 with 512 channels took 0.88 of the
    # time (AVX2 0.94, plain C 0.83 to 0.95) and, while the machine's memory was slow, 0.72.
    FILTERS_AHEAD = 4


cdef void turn_weight(
    const real* w, const Filters* steps, Py_ssize_t filters, Py_ssize_t channels,
    real* v, Py_ssize_t plane_step, Py_ssize_t row_step
) noexcept nogil:
    """v (weights * weights, channels, filters) = G w G^T, zero past the last filter."""
    cdef Py_ssize_t number = steps.side * steps.side, f, c = 0, i, count, some, ahead
    cdef Py_ssize_t most = CHANNELS_TURNED if in_order(steps, 1) and steps.channel_step == number else 1
    cdef const real* first
    cdef real[CHANNELS_TURNED * MOST_TAPS * WIDE] taps
    ahead = max(most, <Py_ssize_t>FILTERS_AHEAD)
    while c < channels:  # not filters first: v is many planes, which are best written as they lie
        some, f = min(most, channels - c), 0
        while f < filters:
            first, count = w + f * steps.filter_step + c * steps.channel_step, min(filters - f, <Py_ssize_t>WIDE)
            if count < WIDE:
                zero(&taps[0], some * number * WIDE)
            for i in range(min(some, channels - c - ahead)):
                fetch_starts(first + (ahead + i) * steps.channel_step, steps.filter_step, count)
            turn_taps(first, steps, count, some, &taps[0])
            for i in range(some):
                transform_taps(&taps[i * number * WIDE], steps, v + (c + i) * row_step + f, plane_step)
            f += WIDE
        c += some
