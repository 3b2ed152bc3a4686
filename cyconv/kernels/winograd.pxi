# Winograd's F(4x4, 3x3) and F(4x4, 4x4) on the plain road: the transforms of tiles and filters, between which BLAS
# multiplies.
#
# Tiles are numbered through the batch, t = (n * TH + th) * TW + tw, so that small images fill one
# block. WIDE of them stand side by side in the lanes of vectors, as channels do on the fast road:
# cell k of each at v[k * STEP + lane].

cdef extern from "winograd.h" nogil:
    void split_tiles_float(const float* cells, Py_ssize_t tiles, int width, float* v, Py_ssize_t step)
    void split_tiles_double(const double* cells, Py_ssize_t tiles, int width, double* v, Py_ssize_t step)


cdef enum:
    # A vector more than WIDE: rows of tiles are read and written in whole vectors, a little past the
    # last.
    STEP = 20


cdef inline void read_line(
    const real* row, real* line, Py_ssize_t first, Py_ssize_t count, Py_ssize_t size
) noexcept nogil:
    """line[i] = row[first + i], and zero where that lies outside of [0, size)."""
    cdef Py_ssize_t i, lo = min(count, max(0, -first)), hi = max(lo, min(count, size - first))
    for i in range(lo):
        line[i] = 0
    if lo < hi:
        row += first
        for i in range(lo, hi):
            line[i] = row[i]
    for i in range(hi, count):
        line[i] = 0


cdef inline void split(const real* cells, Py_ssize_t tiles, int width, real* v) noexcept nogil:
    """v[k * STEP + i] = cells[4 * i + k], for tiles in fours."""
    if real is float:
        split_tiles_float(cells, tiles, width, v, STEP)
    else:
        split_tiles_double(cells, tiles, width, v, STEP)


cdef inline Py_ssize_t in_fours(Py_ssize_t tiles) noexcept nogil:
    return (tiles + 3) // 4 * 4


cdef inline void read_tiles(
    const real* plane, Py_ssize_t row_step, Py_ssize_t H, Py_ssize_t W, real* v,
    Py_ssize_t h, Py_ssize_t w, Py_ssize_t tiles, int width
) noexcept nogil:
    """Read `tiles` tiles of width x width cells that stand side by side, 4 apart, from (h, w) on;
    v[i][j][lane], zero outside of the plane."""
    cdef real[SEVEN][4 * WIDE + 4] lines  # all of them first: what was just written is slow to read
    cdef Py_ssize_t i, k, count = 4 * in_fours(tiles) + (4 if width > 4 else 0)
    cdef Py_ssize_t low = min(width, max(<Py_ssize_t>0, -h)), high = max(low, min(<Py_ssize_t>width, H - h))
    cdef bint inside = w >= 0 and w + count <= W
    if not inside:
        for i in range(low, high):
            read_line(plane + (h + i) * row_step, lines[i], w, count, W)
    for i in range(width):
        if low <= i < high:
            split(plane + (h + i) * row_step + w if inside else lines[i], tiles, width, v + i * width * STEP)
        else:
            for k in range(width):
                zero(v + (i * width + k) * STEP, tiles)


cdef inline void gather_tiles(
    const real* plane0, const Grid* g, Py_ssize_t low_h, Py_ssize_t low_w,
    Py_ssize_t first, Py_ssize_t tiles, int width, real* v
) noexcept nogil:
    """Read tiles `first` to `first + tiles` of one channel into v, a row of tiles at a time; zero past
    the last."""
    cdef Py_ssize_t lane = 0, n, th, tw, run, k
    while lane < tiles:
        find_tile(g, first + lane, &n, &th, &tw)
        run = min(g.TW - tw, tiles - lane)
        read_tiles(
            plane0 + n * g.image_step, g.row_step, g.H, g.W, v + lane, 4 * th - low_h, 4 * tw - low_w, run, width
        )
        lane += run
    if tiles < WIDE:
        for k in range(width * width):
            zero(v + k * STEP + tiles, WIDE - tiles)


cdef inline void scatter_tiles(
    real* plane0, const Grid* g, Py_ssize_t first, Py_ssize_t tiles, const real* v
) noexcept nogil:
    """Write tiles of 4x4 outputs, v[i][j][lane]."""
    cdef real[4 * WIDE] line
    cdef Py_ssize_t lane = 0, n, th, tw, run, i, k, count
    cdef real* row
    while lane < tiles:
        find_tile(g, first + lane, &n, &th, &tw)
        run = min(g.TW - tw, tiles - lane)
        count = min(4 * run, g.W - 4 * tw)
        for i in range(min(4, g.H - 4 * th)):
            row = plane0 + n * g.image_step + (4 * th + i) * g.row_step + 4 * tw
            if count == 4 * in_fours(run):
                transpose(v + i * 4 * STEP + lane, STEP, 4, run, row, 4)
            else:
                transpose(v + i * 4 * STEP + lane, STEP, 4, in_fours(run), &line[0], 4)
                for k in range(count):
                    row[k] = line[k]
        lane += run


cdef int check_winograd(
    const Py_ssize_t* x, const Py_ssize_t* u, const Array* axes, Py_ssize_t first, Py_ssize_t tiles,
    bint output
) except -1:
    """The cheap part of what the public face has checked, for those who call the kernels."""
    check_axes(axes)
    cdef Py_ssize_t a, which = OUTPUT if output else SIZE, grid, planes
    for a in range(3):
        if x[2 + a] != at(axes, a, which):
            raise ValueError(f"the array must have size {at(axes, a, which)} along spatial axis {a}, got {x[2 + a]}")
        if at(axes, a, STRIDE) != 1 or at(axes, a, DILATION) != 1:
            raise ValueError("Winograd needs stride 1 and dilation 1")
    if at(axes, 0, KERNEL) != 1 or not is_served(at(axes, 1, KERNEL), at(axes, 2, KERNEL), 1):
        raise ValueError("Winograd needs a 3x3 or 4x4 kernel")
    if at(axes, 0, OUTPUT) != 1 or at(axes, 0, SIZE) != 1 or at(axes, 0, LOW) != 0:
        raise ValueError("Winograd needs two spatial axes")
    planes = points_of(kind_of(at(axes, 1, KERNEL), 1)) ** 2
    if u[0] != planes or u[1] != x[1] or u[2] % WIDE or not 0 <= tiles <= u[2]:
        raise ValueError(f"transformed tiles must have shape ({planes}, {x[1]}, tiles in steps of {WIDE})")
    grid = ((at(axes, 1, OUTPUT) + 3) // 4) * ((at(axes, 2, OUTPUT) + 3) // 4)
    if x[0] * <double>grid > MOST_ITEMS or not 0 <= first <= x[0] * grid - tiles:
        raise ValueError("there are not so many tiles")
    return 0


cdef void input_tiles(
    const real* x, const Array* of, const Array* u, const Grid* g, Py_ssize_t first, Py_ssize_t tiles
) noexcept nogil:
    cdef Py_ssize_t c, t, chunk
    cdef real[SEVEN * SEVEN * STEP] v
    for c in range(of.shape[1]):
        for chunk in range(u.shape[2] // WIDE):
            t = chunk * WIDE
            gather_tiles(
                x + c * of.steps[1], g, g.low_h, g.low_w, first + t,
                max(<Py_ssize_t>0, min(<Py_ssize_t>WIDE, tiles - t)), g.cells, &v[0],
            )
            input_tile(
                g.kind, &v[0], g.cells * STEP, STEP, <real*>u.cells + c * u.steps[1] + t * u.steps[2], u.steps[0]
            )


def winograd_input(x, u, axes, Py_ssize_t first, Py_ssize_t tiles, /):
    """u (36, c, >= tiles) = B^T x B for tiles of x (n, c, 1, h, w); zero past the last tile. For kernels of
    4x4 there are 49 planes, here and below."""
    cdef Held held
    hold_nothing(&held)
    try:
        winograd_input_held(
            hold(&held, x, "x", 5, READ), hold(&held, u, "u", 3, FILL), hold_table(&held, axes, "axes"), first, tiles
        )
    finally:
        let_go(&held)


cdef int winograd_input_held(
    const Array* x, const Array* u, const Array* axes, Py_ssize_t first, Py_ssize_t tiles
) except -1:
    check_winograd(x.shape, u.shape, axes, first, tiles, False)
    check_rows(x.steps[4], x.shape[4], u.steps[2], u.shape[2])
    check_lanes(u.steps[1], u.shape[2], u.shape[1])
    cdef Grid g = grid_of(x, axes, False)
    with nogil:
        if x.itemsize == sizeof(float):
            input_tiles(<const float*>x.cells, x, u, &g, first, tiles)
        else:
            input_tiles(<const double*>x.cells, x, u, &g, first, tiles)
    return 0


cdef void output_grad_tiles(
    const real* dy, const Array* of, const Array* u, const Grid* g, Py_ssize_t first, Py_ssize_t tiles
) noexcept nogil:
    cdef Py_ssize_t f, t, chunk
    cdef real[16 * STEP] v
    for f in range(of.shape[1]):
        for chunk in range(u.shape[2] // WIDE):
            t = chunk * WIDE
            gather_tiles(
                dy + f * of.steps[1], g, 0, 0, first + t,
                max(<Py_ssize_t>0, min(<Py_ssize_t>WIDE, tiles - t)), 4, &v[0],
            )
            output_grad_tile(
                g.kind, &v[0], 4 * STEP, STEP, <real*>u.cells + f * u.steps[1] + t * u.steps[2], u.steps[0]
            )


def winograd_output_grad(dy, u, axes, Py_ssize_t first, Py_ssize_t tiles, /):
    """u (36, f, >= tiles) = A dy A^T for tiles of dy (n, f, 1, h, w); zero past the last tile."""
    cdef Held held
    hold_nothing(&held)
    try:
        winograd_output_grad_held(
            hold(&held, dy, "dy", 5, READ), hold(&held, u, "u", 3, FILL), hold_table(&held, axes, "axes"), first, tiles
        )
    finally:
        let_go(&held)


cdef int winograd_output_grad_held(
    const Array* dy, const Array* u, const Array* axes, Py_ssize_t first, Py_ssize_t tiles
) except -1:
    check_winograd(dy.shape, u.shape, axes, first, tiles, True)
    check_rows(dy.steps[4], dy.shape[4], u.steps[2], u.shape[2])
    cdef Grid g = grid_of(dy, axes, True)
    with nogil:
        if dy.itemsize == sizeof(float):
            output_grad_tiles(<const float*>dy.cells, dy, u, &g, first, tiles)
        else:
            output_grad_tiles(<const double*>dy.cells, dy, u, &g, first, tiles)
    return 0


cdef void output_tiles(
    const real* m, const Array* of, const Array* b, const Array* y, const Grid* g, Py_ssize_t first,
    Py_ssize_t tiles
) noexcept nogil:
    cdef Py_ssize_t f, t, chunk, i
    cdef real[16 * STEP] v
    cdef real[WIDE] bias
    for f in range(y.shape[1]):
        for i in range(WIDE):
            bias[i] = (<const real*>b.cells)[f] if b != NULL else 0
        for chunk in range((tiles + WIDE - 1) // WIDE):
            t = chunk * WIDE
            output_tile(
                g.kind, m + f * of.steps[1] + t * of.steps[2], of.steps[0], &v[0], 4 * STEP, STEP,
                &bias[0] if b != NULL else NULL,
            )
            scatter_tiles(<real*>y.cells + f * y.steps[1], g, first + t, min(<Py_ssize_t>WIDE, tiles - t), &v[0])


def winograd_output(m, b, y, axes, Py_ssize_t first, Py_ssize_t tiles, /):
    """Write the tiles A^T m A + b of y (n, f, 1, h, w), for m (36, f, >= tiles)."""
    cdef Held held
    hold_nothing(&held)
    try:
        winograd_output_held(
            hold(&held, m, "m", 3, READ), hold(&held, b, "b", 1, READ | CONTIGUOUS | OR_NONE),
            hold(&held, y, "y", 5, FILL), hold_table(&held, axes, "axes"), first, tiles,
        )
    finally:
        let_go(&held)


cdef int winograd_output_held(
    const Array* m, const Array* b, const Array* y, const Array* axes, Py_ssize_t first,
    Py_ssize_t tiles
) except -1:
    check_winograd(y.shape, m.shape, axes, first, tiles, True)
    check_rows(y.steps[4], y.shape[4], m.steps[2], m.shape[2])
    check_lanes(m.steps[1], m.shape[2], m.shape[1])
    if b != NULL and b.shape[0] != y.shape[1]:
        raise ValueError(f"b must have shape ({y.shape[1]},)")
    cdef Grid g = grid_of(y, axes, True)
    with nogil:
        if m.itemsize == sizeof(float):
            output_tiles(<const float*>m.cells, m, b, y, &g, first, tiles)
        else:
            output_tiles(<const double*>m.cells, m, b, y, &g, first, tiles)
    return 0


cdef void transform_filters(const real* w, const Array* of, const Array* u) noexcept nogil:
    cdef Filters steps = filters_of(of, 2, 1)
    cdef Py_ssize_t f, c, lanes, chunk
    cdef real* to
    cdef real[MOST_TAPS * WIDE] taps
    cdef real[SEVEN * SEVEN * WIDE] v
    zero(&taps[0], MOST_TAPS * WIDE)
    for f in range(of.shape[0]):
        for chunk in range((of.shape[1] + WIDE - 1) // WIDE):
            c = chunk * WIDE
            lanes = min(<Py_ssize_t>WIDE, of.shape[1] - c)
            to = <real*>u.cells + f * u.steps[1] + c * u.steps[2]
            turn_taps(w + f * of.steps[0] + c * of.steps[1], &steps, steps.channel_step, lanes, &taps[0])
            if lanes == WIDE:
                transform_taps(&taps[0], &steps, to, u.steps[0])
            else:
                transform_taps(&taps[0], &steps, &v[0], WIDE)
                copy_lanes(u.shape[0], &v[0], WIDE, lanes, to, u.steps[0])


def winograd_weight(w, u, /):
    """u (36, f, c) = G w G^T for w (f, c, 3, 3), of any strides."""
    cdef Held held
    cdef const Array* filters
    cdef const Array* transformed
    hold_nothing(&held)
    try:
        filters, transformed = hold(&held, w, "w", 4, READ), hold(&held, u, "u", 3, FILL)
        check_filters(filters, transformed)
        with nogil:
            if filters.itemsize == sizeof(float):
                transform_filters(<const float*>filters.cells, filters, transformed)
            else:
                transform_filters(<const double*>filters.cells, filters, transformed)
    finally:
        let_go(&held)


cdef void transform_back(const real* u, const Array* of, const Array* dw) noexcept nogil:
    cdef Filters steps = filters_of(dw, 2, 1)
    cdef Py_ssize_t f, c, lanes, chunk
    cdef const real* source
    cdef real[MOST_TAPS * WIDE] taps
    cdef real[SEVEN * SEVEN * WIDE] v
    zero(&v[0], SEVEN * SEVEN * WIDE)
    for f in range(dw.shape[0]):
        for chunk in range((dw.shape[1] + WIDE - 1) // WIDE):
            c = chunk * WIDE
            lanes = min(<Py_ssize_t>WIDE, dw.shape[1] - c)
            source = u + f * of.steps[1] + c * of.steps[2]
            if lanes == WIDE:
                weight_grad_tile(steps.kind, source, of.steps[0], &taps[0])
            else:
                copy_lanes(of.shape[0], source, of.steps[0], lanes, &v[0], WIDE)
                weight_grad_tile(steps.kind, &v[0], WIDE, &taps[0])
            turn_taps_back(
                &taps[0], lanes, <real*>dw.cells + f * dw.steps[0] + c * dw.steps[1], &steps, steps.channel_step
            )


def winograd_weight_grad(u, dw, /):
    """dw (f, c, 3, 3) = G^T u G for u (36, f, c)."""
    cdef Held held
    cdef const Array* sums
    cdef const Array* filters
    hold_nothing(&held)
    try:
        sums, filters = hold(&held, u, "u", 3, READ), hold(&held, dw, "dw", 4, FILL)
        check_filters(filters, sums)
        with nogil:
            if sums.itemsize == sizeof(float):
                transform_back(<const float*>sums.cells, sums, filters)
            else:
                transform_back(<const double*>sums.cells, sums, filters)
    finally:
        let_go(&held)


cdef inline void copy_lanes(
    Py_ssize_t vectors, const real* a, Py_ssize_t step, Py_ssize_t lanes, real* to, Py_ssize_t to_step
) noexcept nogil:
    """Some lanes of each of some vectors."""
    cdef Py_ssize_t i, lane
    for i in range(vectors):
        for lane in range(lanes):
            to[i * to_step + lane] = a[i * step + lane]


cdef int check_filters(const Array* w, const Array* u) except -1:
    if (
        not is_served(w.shape[2], w.shape[3], 1) or u.shape[0] != points_of(kind_of(w.shape[2], 1)) ** 2
        or u.shape[1] != w.shape[0] or u.shape[2] != w.shape[1]
    ):
        raise ValueError(f"filters must be 3x3 or 4x4, and transformed (36 or 49, {w.shape[0]}, {w.shape[1]})")
    return check_rows(0, 1, u.steps[2], u.shape[2])
