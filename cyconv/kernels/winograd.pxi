# Winograd's F(4x4, 3x3): the transforms of tiles and filters.
#
# A tile is 4x4 outputs, computed from 6x6 inputs through 36 products instead of 144:
#
#     y = A^T [ (G w G^T) * (B^T x B) ] A
#
# (Lavin, Gray: Fast Algorithms for Convolutional Neural Networks, 2015, section 4.1). The matrices
# follow from interpolation at the points 0, +-1/sqrt(2), +-sqrt(2) and infinity; with these, rather
# than the customary 0, +-1, +-2, the float32 error is a quarter. Points of opposite sign share their
# even and odd halves, which is what the one-dimensional transforms below spell out.
#
# Tiles are numbered through the batch, t = (n * TH + th) * TW + tw, so that small images fill one
# block. Transforms work on LANES tiles at once, side by side: v[k][lane] is element k of each.

cdef inline void input_1d(real* v, Py_ssize_t step) noexcept nogil:
    """B^T on six vectors, in place."""
    cdef real a = 0.7071067811865476, b = 1.4142135623730951, half = 0.5, two = 2, middle = 2.5
    cdef real x0, x1, x2, x3, x4, x5, even, odd
    cdef Py_ssize_t i
    for i in range(LANES):
        x0 = v[i]
        x1 = v[i + step]
        x2 = v[i + 2 * step]
        x3 = v[i + 3 * step]
        x4 = v[i + 4 * step]
        x5 = v[i + 5 * step]
        v[i] = x0 - middle * x2 + x4
        even = x4 - two * x2
        odd = a * (x3 - two * x1)
        v[i + step] = even + odd
        v[i + 2 * step] = even - odd
        even = x4 - half * x2
        odd = b * (x3 - half * x1)
        v[i + 3 * step] = even + odd
        v[i + 4 * step] = even - odd
        v[i + 5 * step] = x1 - middle * x3 + x5


cdef inline void output_1d(real* v, Py_ssize_t step) noexcept nogil:
    """A^T: six vectors to four, in place."""
    cdef real a = 0.7071067811865476, b = 1.4142135623730951, half = 0.5, two = 2
    cdef real even1, even2, odd1, odd2
    cdef Py_ssize_t i
    for i in range(LANES):
        even1 = v[i + step] + v[i + 2 * step]
        odd1 = a * (v[i + step] - v[i + 2 * step])
        even2 = v[i + 3 * step] + v[i + 4 * step]
        odd2 = b * (v[i + 3 * step] - v[i + 4 * step])
        v[i] = v[i] + even1 + even2
        v[i + step] = odd1 + odd2
        v[i + 2 * step] = half * even1 + two * even2
        v[i + 3 * step] = half * odd1 + two * odd2 + v[i + 5 * step]


cdef inline void output_grad_1d(real* v, Py_ssize_t step) noexcept nogil:
    """A: four vectors to six, in place."""
    cdef real a = 0.7071067811865476, b = 1.4142135623730951, half = 0.5, two = 2
    cdef real y0, y1, y2, y3, even, odd
    cdef Py_ssize_t i
    for i in range(LANES):
        y0 = v[i]
        y1 = v[i + step]
        y2 = v[i + 2 * step]
        y3 = v[i + 3 * step]
        even = y0 + half * y2
        odd = a * (y1 + half * y3)
        v[i + step] = even + odd
        v[i + 2 * step] = even - odd
        even = y0 + two * y2
        odd = b * (y1 + two * y3)
        v[i + 3 * step] = even + odd
        v[i + 4 * step] = even - odd
        v[i + 5 * step] = y3


cdef inline void weight_1d(real* v, Py_ssize_t step) noexcept nogil:
    """G: three vectors to six, in place."""
    cdef real a = 0.7071067811865476, b = 1.4142135623730951, half = 0.5, two = 2
    cdef real third = -0.6666666666666666, sixth = 0.16666666666666666
    cdef real w0, w1, w2, even, odd
    cdef Py_ssize_t i
    for i in range(LANES):
        w0 = v[i]
        w1 = v[i + step]
        w2 = v[i + 2 * step]
        even = third * (w0 + half * w2)
        odd = third * a * w1
        v[i + step] = even + odd
        v[i + 2 * step] = even - odd
        even = sixth * (w0 + two * w2)
        odd = sixth * b * w1
        v[i + 3 * step] = even + odd
        v[i + 4 * step] = even - odd
        v[i + 5 * step] = w2


cdef inline void weight_grad_1d(real* v, Py_ssize_t step) noexcept nogil:
    """G^T: six vectors to three, in place."""
    cdef real a = 0.7071067811865476, b = 1.4142135623730951, half = 0.5, two = 2
    cdef real third = -0.6666666666666666, sixth = 0.16666666666666666
    cdef real even1, even2, odd1, odd2
    cdef Py_ssize_t i
    for i in range(LANES):
        even1 = third * (v[i + step] + v[i + 2 * step])
        odd1 = third * a * (v[i + step] - v[i + 2 * step])
        even2 = sixth * (v[i + 3 * step] + v[i + 4 * step])
        odd2 = sixth * b * (v[i + 3 * step] - v[i + 4 * step])
        v[i] = v[i] + even1 + even2
        v[i + step] = odd1 + odd2
        v[i + 2 * step] = half * even1 + two * even2 + v[i + 5 * step]


cdef inline void split_by_4(const real* line, real* v, Py_ssize_t tiles, Py_ssize_t width) noexcept nogil:
    """v[k][i] = line[4 * i + k] for `tiles` tiles of `width` (4 or 6) cells each."""
    cdef Py_ssize_t i
    for i in range(tiles):
        v[i] = line[4 * i]
        v[i + LANES] = line[4 * i + 1]
        v[i + 2 * LANES] = line[4 * i + 2]
        v[i + 3 * LANES] = line[4 * i + 3]
    if width == 6:
        for i in range(tiles):
            v[i + 4 * LANES] = line[4 * i + 4]
            v[i + 5 * LANES] = line[4 * i + 5]


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


cdef inline void read_tiles(
    const real* plane, Py_ssize_t row_step, Py_ssize_t H, Py_ssize_t W, real* v,
    Py_ssize_t h, Py_ssize_t w, Py_ssize_t tiles, Py_ssize_t width
) noexcept nogil:
    """Read `tiles` tiles of width x width cells that stand side by side, 4 apart, from (h, w) on;
    v[i][j][lane], zero outside of the plane."""
    cdef real[4 * LANES + 2] line
    cdef Py_ssize_t i, k, count = 4 * tiles + width - 4
    for i in range(width):
        if not 0 <= h + i < H:
            for k in range(width):
                zero(v + (i * width + k) * LANES, tiles)
        elif w >= 0 and w + count <= W:
            split_by_4(plane + (h + i) * row_step + w, v + i * width * LANES, tiles, width)
        else:
            read_line(plane + (h + i) * row_step, line, w, count, W)
            split_by_4(line, v + i * width * LANES, tiles, width)


cdef inline void gather_tiles(
    const real* plane0, Py_ssize_t image_step, Py_ssize_t row_step, Py_ssize_t H, Py_ssize_t W,
    Py_ssize_t low_h, Py_ssize_t low_w, Py_ssize_t TH, Py_ssize_t TW,
    Py_ssize_t first, Py_ssize_t tiles, Py_ssize_t width, real* v
) noexcept nogil:
    """Read tiles `first` to `first + tiles` of one channel into v, a row of tiles at a time."""
    cdef Py_ssize_t lane = 0, t = first, n, th, tw, run
    if tiles < LANES:
        zero(v, width * width * LANES)
    while lane < tiles:
        n, th, tw = t // (TH * TW), t // TW % TH, t % TW
        run = min(TW - tw, tiles - lane)
        read_tiles(
            plane0 + n * image_step, row_step, H, W, v + lane, 4 * th - low_h, 4 * tw - low_w, run, width
        )
        lane += run
        t += run


cdef inline void scatter_tiles(
    real* plane0, Py_ssize_t image_step, Py_ssize_t row_step, Py_ssize_t H, Py_ssize_t W,
    Py_ssize_t TH, Py_ssize_t TW, Py_ssize_t first, Py_ssize_t tiles, const real* v, real bias
) noexcept nogil:
    """Write tiles of 4x4 outputs, v[i][j][lane] in steps of 6 LANES and LANES, plus the bias."""
    cdef real[4 * LANES] line
    cdef Py_ssize_t lane = 0, t = first, n, th, tw, run, i, k, count
    cdef const real* from_row
    cdef real* row
    while lane < tiles:
        n, th, tw = t // (TH * TW), t // TW % TH, t % TW
        run = min(TW - tw, tiles - lane)
        count = min(4 * run, W - 4 * tw)
        for i in range(min(4, H - 4 * th)):
            from_row = v + i * 6 * LANES + lane
            for k in range(run):
                line[4 * k] = from_row[k] + bias
                line[4 * k + 1] = from_row[k + LANES] + bias
                line[4 * k + 2] = from_row[k + 2 * LANES] + bias
                line[4 * k + 3] = from_row[k + 3 * LANES] + bias
            row = plane0 + n * image_step + (4 * th + i) * row_step + 4 * tw
            for k in range(count):
                row[k] = line[k]
        lane += run
        t += run


cdef void transform_input(
    const real* x, const Grid* g, Py_ssize_t channels, Py_ssize_t first, Py_ssize_t tiles,
    real* u, Py_ssize_t plane_step, Py_ssize_t row_step, Py_ssize_t columns
) noexcept nogil:
    """u (36, channels, columns) = B^T x B; zero past the last tile."""
    cdef Py_ssize_t c, t, i, chunk
    cdef real[36 * LANES] v
    for c in range(channels):
        for chunk in range(columns // LANES):
            t = chunk * LANES
            gather_tiles(
                x + c * g.channel_step, g.image_step, g.row_step, g.H, g.W, g.low_h, g.low_w, g.TH, g.TW,
                first + t, max(0, min(LANES, tiles - t)), 6, &v[0],
            )
            for i in range(6):
                input_1d(&v[i * 6 * LANES], LANES)
            for i in range(6):
                input_1d(&v[i * LANES], 6 * LANES)
            store_lanes(v, u + c * row_step + t, plane_step)


cdef void transform_output(
    const real* m, Py_ssize_t plane_step, Py_ssize_t row_step, const real* b, real* y, const Grid* g,
    Py_ssize_t filters, Py_ssize_t first, Py_ssize_t tiles
) noexcept nogil:
    """Write the tiles A^T m A + b of y, for m (36, filters, columns); b may be NULL."""
    cdef Py_ssize_t f, t, i, chunk
    cdef real[36 * LANES] v
    for f in range(filters):
        for chunk in range((tiles + LANES - 1) // LANES):
            t = chunk * LANES
            load_lanes(m + f * row_step + t, v, plane_step, LANES)
            for i in range(6):
                output_1d(&v[i * LANES], 6 * LANES)
            for i in range(4):
                output_1d(&v[i * 6 * LANES], LANES)
            scatter_tiles(
                y + f * g.channel_step, g.image_step, g.row_step, g.H, g.W, g.TH, g.TW,
                first + t, min(LANES, tiles - t), &v[0], b[f] if b != NULL else 0,
            )


cdef int check_winograd(
    Py_ssize_t[5] x, Py_ssize_t[3] u, const Py_ssize_t[:, ::1] axes, Py_ssize_t first, Py_ssize_t tiles,
    bint output
) except -1:
    """The cheap part of what the public face has checked, for those who call the kernels."""
    check_axes(axes)
    cdef Py_ssize_t a, which = OUTPUT if output else SIZE, grid
    for a in range(3):
        if x[2 + a] != axes[a, which]:
            raise ValueError(f"the array must have size {axes[a, which]} along spatial axis {a}, got {x[2 + a]}")
        if axes[a, KERNEL] != (3 if a else 1) or axes[a, STRIDE] != 1 or axes[a, DILATION] != 1:
            raise ValueError("Winograd needs a 3x3 kernel, stride 1 and dilation 1")
    if axes[0, OUTPUT] != 1 or axes[0, SIZE] != 1 or axes[0, LOW] != 0:
        raise ValueError("Winograd needs two spatial axes")
    if u[0] != 36 or u[1] != x[1] or u[2] % LANES or not 0 <= tiles <= u[2]:
        raise ValueError(f"transformed tiles must have shape (36, {x[1]}, tiles in steps of {LANES})")
    grid = ((axes[1, OUTPUT] + 3) // 4) * ((axes[2, OUTPUT] + 3) // 4)
    if x[0] * <double>grid > MOST_ITEMS or not 0 <= first <= x[0] * grid - tiles:
        raise ValueError("there are not so many tiles")
    return 0


def winograd_input(
    const real[:, :, :, :, :] x not None,
    real[:, :, :] u not None,
    const Py_ssize_t[:, ::1] axes not None,
    Py_ssize_t first,
    Py_ssize_t tiles,
):
    """u (36, c, >= tiles) = B^T x B for tiles of x (n, c, 1, h, w); zero past the last tile."""
    cdef Py_ssize_t[5] x_shape = [x.shape[0], x.shape[1], x.shape[2], x.shape[3], x.shape[4]]
    cdef Py_ssize_t[3] u_shape = [u.shape[0], u.shape[1], u.shape[2]]
    check_winograd(x_shape, u_shape, axes, first, tiles, False)
    check_rows(x.strides[4], x.shape[4], u.strides[2], u.shape[2], sizeof(real))
    check_lanes(u.strides[1], u.shape[2], u.shape[1], sizeof(real))
    cdef Grid g = grid_of(x, axes, False)
    with nogil:
        transform_input(
            &x[0, 0, 0, 0, 0], &g, x.shape[1], first, tiles,
            &u[0, 0, 0], u.strides[0] // <Py_ssize_t>sizeof(real), u.shape[2], u.shape[2],
        )


cdef void transform_output_grad(
    const real* dy, const Grid* g, Py_ssize_t first, Py_ssize_t tiles, real* v
) noexcept nogil:
    """v (36, LANES) = A dy A^T for up to LANES tiles of one filter, zero past the last."""
    cdef Py_ssize_t i, k
    cdef real[16 * LANES] cells
    gather_tiles(
        dy, g.image_step, g.row_step, g.H, g.W, 0, 0, g.TH, g.TW, first, tiles, 4, &cells[0],
    )
    for i in range(4):
        for k in range(4 * LANES):
            v[i * 6 * LANES + k] = cells[i * 4 * LANES + k]
        output_grad_1d(v + i * 6 * LANES, LANES)
    for i in range(6):
        output_grad_1d(v + i * LANES, 6 * LANES)


def winograd_output_grad(
    const real[:, :, :, :, :] dy not None,
    real[:, :, :] u not None,
    const Py_ssize_t[:, ::1] axes not None,
    Py_ssize_t first,
    Py_ssize_t tiles,
):
    """u (36, f, >= tiles) = A dy A^T for tiles of dy (n, f, 1, h, w); zero past the last tile."""
    cdef Py_ssize_t[5] dy_shape = [dy.shape[0], dy.shape[1], dy.shape[2], dy.shape[3], dy.shape[4]]
    cdef Py_ssize_t[3] u_shape = [u.shape[0], u.shape[1], u.shape[2]]
    check_winograd(dy_shape, u_shape, axes, first, tiles, True)
    check_rows(dy.strides[4], dy.shape[4], u.strides[2], u.shape[2], sizeof(real))
    cdef Grid g = grid_of(dy, axes, True)
    cdef Py_ssize_t plane_step = u.strides[0] // <Py_ssize_t>sizeof(real)
    cdef Py_ssize_t f, t, chunk
    cdef real[36 * LANES] v
    with nogil:
        for f in range(dy.shape[1]):
            for chunk in range(u.shape[2] // LANES):
                t = chunk * LANES
                transform_output_grad(
                    &dy[0, f, 0, 0, 0], &g, first + t, max(0, min(LANES, tiles - t)), &v[0]
                )
                store_lanes(v, &u[0, f, t], plane_step)


def winograd_output(
    const real[:, :, :] m not None,
    const real[::1] b,
    real[:, :, :, :, :] y not None,
    const Py_ssize_t[:, ::1] axes not None,
    Py_ssize_t first,
    Py_ssize_t tiles,
):
    """Write the tiles A^T m A + b of y (n, f, 1, h, w), for m (36, f, >= tiles)."""
    cdef Py_ssize_t[5] y_shape = [y.shape[0], y.shape[1], y.shape[2], y.shape[3], y.shape[4]]
    cdef Py_ssize_t[3] m_shape = [m.shape[0], m.shape[1], m.shape[2]]
    check_winograd(y_shape, m_shape, axes, first, tiles, True)
    check_rows(y.strides[4], y.shape[4], m.strides[2], m.shape[2], sizeof(real))
    check_lanes(m.strides[1], m.shape[2], m.shape[1], sizeof(real))
    if b is not None and b.shape[0] != y.shape[1]:
        raise ValueError(f"b must have shape ({y.shape[1]},)")
    cdef Grid g = grid_of(y, axes, True)
    with nogil:
        transform_output(
            &m[0, 0, 0], m.strides[0] // <Py_ssize_t>sizeof(real), m.shape[2],
            &b[0] if b is not None else NULL, &y[0, 0, 0, 0, 0], &g, y.shape[1], first, tiles,
        )


cdef void transform_weight(
    const real* w, const Filters* steps, Py_ssize_t filters, Py_ssize_t channels, real* u, Py_ssize_t plane_step,
    Py_ssize_t filter_step
) noexcept nogil:
    """u (36, filters, channels) = G w G^T."""
    cdef Py_ssize_t f, c, i, j, lane, lanes, chunk
    cdef const real* tap
    cdef real* to
    cdef real[36 * LANES] v
    zero(&v[0], 36 * LANES)
    for f in range(filters):
        for chunk in range((channels + LANES - 1) // LANES):
            c = chunk * LANES
            lanes = min(LANES, channels - c)
            for i in range(3):
                for j in range(3):
                    tap = w + f * steps.filter_step + c * steps.channel_step + i * steps.row_step + j * steps.column_step
                    for lane in range(lanes):
                        v[(i * 6 + j) * LANES + lane] = tap[lane * steps.channel_step]
            for i in range(3):
                weight_1d(&v[i * 6 * LANES], LANES)
            for i in range(6):
                weight_1d(&v[i * LANES], 6 * LANES)
            to = u + f * filter_step + c
            if lanes == LANES:
                store_lanes(v, to, plane_step)
            else:
                for i in range(36):
                    for lane in range(lanes):
                        to[i * plane_step + lane] = v[i * LANES + lane]


def winograd_weight(const real[:, :, :, :] w not None, real[:, :, :] u not None):
    """u (36, f, c) = G w G^T for w (f, c, 3, 3), of any strides."""
    check_filters(w.shape[0], w.shape[1], w.shape[2], w.shape[3], u.shape[0], u.shape[1], u.shape[2])
    check_rows(0, 1, u.strides[2], u.shape[2], sizeof(real))
    cdef Filters steps = filters_of(w)
    cdef Py_ssize_t size = sizeof(real)
    with nogil:
        transform_weight(
            &w[0, 0, 0, 0], &steps, w.shape[0], w.shape[1], &u[0, 0, 0], u.strides[0] // size,
            u.strides[1] // size,
        )


def winograd_weight_grad(const real[:, :, :] u not None, real[:, :, :, :] dw not None):
    """dw (f, c, 3, 3) = G^T u G for u (36, f, c)."""
    check_filters(dw.shape[0], dw.shape[1], dw.shape[2], dw.shape[3], u.shape[0], u.shape[1], u.shape[2])
    check_rows(0, 1, u.strides[2], u.shape[2], sizeof(real))
    cdef Py_ssize_t plane_step = u.strides[0] // <Py_ssize_t>sizeof(real)
    cdef Py_ssize_t step = dw.strides[1] // <Py_ssize_t>sizeof(real)
    cdef Py_ssize_t f, c, i, j, lane, lanes, chunk
    cdef real* tap
    cdef real[36 * LANES] v
    with nogil:
        zero(&v[0], 36 * LANES)
        for f in range(dw.shape[0]):
            for chunk in range((dw.shape[1] + LANES - 1) // LANES):
                c = chunk * LANES
                lanes = min(LANES, dw.shape[1] - c)
                if lanes == LANES:  # a constant, which vectorises
                    load_lanes(&u[0, f, c], v, plane_step, LANES)
                else:
                    load_lanes(&u[0, f, c], v, plane_step, lanes)
                for i in range(6):
                    weight_grad_1d(&v[i * LANES], 6 * LANES)
                for i in range(3):
                    weight_grad_1d(&v[i * 6 * LANES], LANES)
                for i in range(3):
                    for j in range(3):
                        tap = &dw[f, c, i, j]
                        for lane in range(lanes):
                            tap[lane * step] = v[(i * 6 + j) * LANES + lane]


cdef inline void store_lanes(const real* v, real* u, Py_ssize_t plane_step) noexcept nogil:
    cdef Py_ssize_t i, lane
    for i in range(36):
        for lane in range(LANES):
            u[lane] = v[lane]
        u += plane_step
        v += LANES


cdef inline void load_lanes(const real* u, real* v, Py_ssize_t plane_step, Py_ssize_t lanes) noexcept nogil:
    cdef Py_ssize_t i, lane
    for i in range(36):
        for lane in range(lanes):
            v[lane] = u[lane]
        u += plane_step
        v += LANES


cdef int check_filters(
    Py_ssize_t f, Py_ssize_t c, Py_ssize_t kh, Py_ssize_t kw, Py_ssize_t uk, Py_ssize_t uf, Py_ssize_t uc
) except -1:
    if kh != 3 or kw != 3 or uk != 36 or uf != f or uc != c:
        raise ValueError(f"filters must be 3x3, and transformed (36, {f}, {c})")
    return 0
