# im2col and col2im: an image as the columns of a matrix, and back.
#
# Row (c, kd, kh, kw) of the columns holds, for each output position (n, od, oh, ow), the input cell
# that tap (kd, kh, kw) reads there in channel c, or zero where that cell lies in the padding. A tile
# of the output is a convolution of its own, with a smaller output and a shifted low pad, so these
# kernels know nothing of tiles.
#
# Each row of x is read once, into lines: what tap kw reads of it, every stride-th cell, zero in the
# padding, is a run of a line. Taps whole strides apart share a line, so with stride 1 there is one
# line, the padded row. The runs are then copied to all the taps and output rows that read this row.
# col2im goes the same way back, adding.
#
# Where stride is 1 and the output as wide as the image, what a tap reads is the image itself, shifted
# by so many rows and columns: im2col copies it whole, and then blots what came from the wrong row.
#
# `axes` has a row an axis of size, kernel, stride, dilation, low pad, output (Geometry.axes).

cdef struct Read:
    # Output `out` reads with tap `tap` the input cell `cell`.
    Py_ssize_t cell, tap, out


cdef struct Lines:
    # `number` lines of `length` cells: cell j of line i is cell first[i] + j * stride of the row,
    # which lies inside of the row for lo[i] <= j < hi[i]. The run of tap kw starts at run[kw], in
    # cells from the start of the first line.
    Py_ssize_t number, length, stride
    Py_ssize_t* first
    Py_ssize_t* lo
    Py_ssize_t* hi
    Py_ssize_t* run


cdef int by_cell(const void* a, const void* b) noexcept nogil:
    cdef const Read* one = <const Read*>a
    cdef const Read* other = <const Read*>b
    if one.cell != other.cell:
        return -1 if one.cell < other.cell else 1
    return -1 if one.tap < other.tap else 1


cdef void list_reads(const Py_ssize_t* axis, Read* reads) noexcept nogil:
    """Who reads what along an axis, in the order of cells."""
    cdef Py_ssize_t tap, out, i = 0
    for tap in range(axis[KERNEL]):
        for out in range(axis[OUTPUT]):
            reads[i] = Read(out * axis[STRIDE] - axis[LOW] + tap * axis[DILATION], tap, out)
            i += 1
    if axis[KERNEL] > 1:
        qsort(reads, i, sizeof(Read), by_cell)


cdef void lay_lines(const Py_ssize_t* axis, Lines* lines) noexcept nogil:
    """Lay the lines of a row: shared by taps whole strides apart, unless dilation makes them longer
    than a line a tap would be."""
    cdef Py_ssize_t tap, line, shift, output = axis[OUTPUT]
    lines.stride, lines.length, lines.number = axis[STRIDE], output, 0
    for tap in range(axis[KERNEL]):
        line = 0
        while line < lines.number and (tap * axis[DILATION] - axis[LOW] - lines.first[line]) % axis[STRIDE]:
            line += 1
        if line == lines.number:
            lines.first[line] = tap * axis[DILATION] - axis[LOW]
            lines.number += 1
        shift = (tap * axis[DILATION] - axis[LOW] - lines.first[line]) // axis[STRIDE]
        lines.length = max(lines.length, shift + output)
        lines.run[tap] = shift
    if lines.length > axis[KERNEL] * output // lines.number:
        lines.number, lines.length = axis[KERNEL], output
        for tap in range(axis[KERNEL]):
            lines.first[tap] = tap * axis[DILATION] - axis[LOW]
            lines.run[tap] = tap * output
    elif lines.number > 1:
        for tap in range(axis[KERNEL]):
            line = 0
            while (tap * axis[DILATION] - axis[LOW] - lines.first[line]) % axis[STRIDE]:
                line += 1
            lines.run[tap] += line * lines.length
    for line in range(lines.number):
        lines.lo[line] = min(lines.length, first_inside(lines.first[line], 0, axis[STRIDE]))
        lines.hi[line] = min(lines.length, first_inside(lines.first[line], axis[SIZE], axis[STRIDE]))


cdef inline void read_row(const real* row, real* line, const Lines* lines) noexcept nogil:
    """Fill the lines from a row of x; zero where they reach beyond it."""
    cdef Py_ssize_t i, j, lo, hi, start, stride = lines.stride
    for i in range(lines.number):
        start, lo, hi = lines.first[i], lines.lo[i], max(lines.lo[i], lines.hi[i])
        for j in range(lo):
            line[j] = 0
        if lo < hi:  # the usual strides by name, which vectorises
            if stride == 1:
                copy_run(row + start + lo, line + lo, hi - lo)
            elif stride == 2:
                for j in range(lo, hi):
                    line[j] = row[start + 2 * j]
            elif stride == 4:
                for j in range(lo, hi):
                    line[j] = row[start + 4 * j]
            else:
                for j in range(lo, hi):
                    line[j] = row[start + j * stride]
        for j in range(hi, lines.length):
            line[j] = 0
        line += lines.length


cdef inline void add_to_row(const real* line, real* row, const Lines* lines) noexcept nogil:
    """Add the lines to the row of x that they belong to; what lies beyond it is dropped."""
    cdef Py_ssize_t i, j, lo, hi, start, stride = lines.stride
    for i in range(lines.number):
        start, lo, hi = lines.first[i], lines.lo[i], max(lines.lo[i], lines.hi[i])
        for j in range(lo, hi):
            row[start + j * stride] += line[j]
        line += lines.length


cdef inline void copy_run(const real* cells, real* run, Py_ssize_t count) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(count):
        run[i] = cells[i]


cdef inline void add_run(const real* run, real* cells, Py_ssize_t count) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(count):
        cells[i] += run[i]


cdef inline void clear_run(real* run, Py_ssize_t count) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(count):
        run[i] = 0


cdef inline void clear_column(real* cells, Py_ssize_t count, Py_ssize_t step) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(count):
        cells[i * step] = 0


cdef inline void shift_plane(
    const real* plane, Py_ssize_t H, Py_ssize_t W, Py_ssize_t down, Py_ssize_t right, real* run, Py_ssize_t OH
) noexcept nogil:
    """run[i, j] = plane[i + down, j + right] for OH rows as wide as those of the plane; zero outside."""
    cdef Py_ssize_t top = min(OH, max(<Py_ssize_t>0, -down)), bottom = max(top, min(OH, H - down)), j
    cdef Py_ssize_t first = min(W, max(<Py_ssize_t>0, -right)), last = min(W, max(<Py_ssize_t>0, right))
    clear_run(run, top * W)
    if top < bottom and first < W and last < W:
        memcpy(
            run + top * W + first, plane + (top + down) * W + first + right,
            ((bottom - top) * W - first - last) * sizeof(real),
        )
    for j in range(first):
        clear_column(run + top * W + j, bottom - top, W)
    for j in range(W - last, W):
        clear_column(run + top * W + j, bottom - top, W)
    clear_run(run + bottom * W, (OH - bottom) * W)


cdef void shift_planes(real* x, const Array* of, real* cols, const Array* axes) noexcept nogil:
    cdef Py_ssize_t KD = at(axes, 0, KERNEL), KH = at(axes, 1, KERNEL), KW = at(axes, 2, KERNEL)
    cdef Py_ssize_t OD = at(axes, 0, OUTPUT), OH = at(axes, 1, OUTPUT), W = at(axes, 2, SIZE)
    cdef Py_ssize_t columns = of.shape[0] * OD * OH * W, n, c, kd, kh, kw, od, d
    cdef const real* plane
    cdef real* run = cols
    for c in range(of.shape[1]):
        for kd in range(KD):
            for kh in range(KH):
                for kw in range(KW):
                    for n in range(of.shape[0]):
                        for od in range(OD):
                            d = od * at(axes, 0, STRIDE) - at(axes, 0, LOW) + kd * at(axes, 0, DILATION)
                            if 0 <= d < at(axes, 0, SIZE):
                                plane = x + n * of.steps[0] + c * of.steps[1] + d * of.steps[2]
                                shift_plane(
                                    plane, at(axes, 1, SIZE), W, kh * at(axes, 1, DILATION) - at(axes, 1, LOW),
                                    kw * at(axes, 2, DILATION) - at(axes, 2, LOW), run, OH,
                                )
                            else:
                                clear_run(run, OH * W)
                            run += OH * W


cdef int check_lowering(
    const Py_ssize_t* x, const Py_ssize_t* cols, const Array* axes
) except -1:
    """The cheap part of what the public face has checked, for those who call the kernels."""
    check_axes(axes)
    cdef Py_ssize_t a
    cdef double rows = x[1], columns = x[0]
    for a in range(3):
        if x[2 + a] != at(axes, a, SIZE):
            raise ValueError(f"x must have size {at(axes, a, SIZE)} along spatial axis {a}, got {x[2 + a]}")
        rows *= at(axes, a, KERNEL)
        columns *= at(axes, a, OUTPUT)
    if cols[0] != rows or cols[1] != columns or max(rows, columns) > MOST_ITEMS:
        raise ValueError(f"cols must have shape ({rows:.0f}, {columns:.0f}), got ({cols[0]}, {cols[1]})")
    return 0


def im2col(x, cols, axes, /):
    """Write the columns of x (n, c, d, h, w) into cols (c * taps, n * positions)."""
    cdef Held held
    hold_nothing(&held)
    try:
        lower_held(
            hold(&held, x, "x", 5, READ), hold(&held, cols, "cols", 2, FILL | CONTIGUOUS),
            hold_table(&held, axes, "axes"), False
        )
    finally:
        let_go(&held)


def col2im(cols, x, axes, /):
    """Add each cell of cols (c * taps, n * positions) to the cell of x (n, c, d, h, w) that it
    came from: the adjoint of im2col."""
    cdef Held held
    hold_nothing(&held)
    try:
        lower_held(
            hold(&held, x, "x", 5, FILL), hold(&held, cols, "cols", 2, READ | CONTIGUOUS),
            hold_table(&held, axes, "axes"), True
        )
    finally:
        let_go(&held)


cdef int lower_held(const Array* x, const Array* cols, const Array* axes, bint back) except -1:
    check_lowering(x.shape, cols.shape, axes)
    check_contiguous(x, "x")
    if x.itemsize == sizeof(float):
        lower(<float*>x.cells, x, <float*>cols.cells, axes, back)
    else:
        lower(<double*>x.cells, x, <double*>cols.cells, axes, back)
    return 0


cdef int lower(
    real* x, const Array* of, real* cols, const Array* axes, bint back
) except -1:
    """im2col from x into cols or, going `back`, col2im from cols into x."""
    if of.shape[0] == 0 or of.shape[1] == 0:
        return 0
    cdef Py_ssize_t KD = at(axes, 0, KERNEL), KH = at(axes, 1, KERNEL), KW = at(axes, 2, KERNEL)
    cdef Py_ssize_t OD = at(axes, 0, OUTPUT), OH = at(axes, 1, OUTPUT), OW = at(axes, 2, OUTPUT)
    cdef Py_ssize_t columns = of.shape[0] * OD * OH * OW
    if not back and at(axes, 1, STRIDE) == at(axes, 2, STRIDE) == 1 and OW == at(axes, 2, SIZE) == of.steps[3]:
        with nogil:
            shift_planes(x, of, cols, axes)
        return 0
    cdef Lines lines
    cdef Read* d = <Read*>malloc((KD * OD + KH * OH) * sizeof(Read) + 4 * KW * sizeof(Py_ssize_t))
    if d == NULL:
        raise MemoryError("no memory for the reads of a tile")
    cdef Read* h = d + KD * OD
    lines.first = <Py_ssize_t*>(h + KH * OH)
    lines.lo = lines.first + KW
    lines.hi = lines.lo + KW
    lines.run = lines.hi + KW
    lay_lines(row_of(axes, 2), &lines)
    cdef real* line = <real*>malloc(lines.number * lines.length * sizeof(real))
    if line == NULL:
        free(d)
        raise MemoryError("no memory for a padded row")
    cdef Py_ssize_t n, c, d0, d1, h0, h1, i, j, kw
    cdef real* run
    cdef real* row
    cdef bint inside
    with nogil:
        list_reads(row_of(axes, 0), d)
        list_reads(row_of(axes, 1), h)
        for c in range(of.shape[1]):
            for n in range(of.shape[0]):
                d0 = 0
                while d0 < KD * OD:  # reads d0 to d1 are of the same plane, h0 to h1 of the same row
                    d1 = d0 + 1
                    while d1 < KD * OD and d[d1].cell == d[d0].cell:
                        d1 += 1
                    h0 = 0
                    while h0 < KH * OH:
                        h1 = h0 + 1
                        while h1 < KH * OH and h[h1].cell == h[h0].cell:
                            h1 += 1
                        inside = 0 <= d[d0].cell < at(axes, 0, SIZE) and 0 <= h[h0].cell < at(axes, 1, SIZE)
                        row = NULL
                        if inside:
                            row = x + n * of.steps[0] + c * of.steps[1] + d[d0].cell * of.steps[2] + h[h0].cell * of.steps[3]
                            if back:
                                clear_run(line, lines.number * lines.length)
                            else:
                                read_row(row, line, &lines)
                        for i in range(d0, d1):
                            for j in range(h0, h1):
                                run = cols + (((c * KD + d[i].tap) * KH + h[j].tap) * KW) * columns
                                run += ((n * OD + d[i].out) * OH + h[j].out) * OW
                                for kw in range(KW):
                                    if back:
                                        if inside:
                                            add_run(run, line + lines.run[kw], OW)
                                    elif inside:
                                        copy_run(line + lines.run[kw], run, OW)
                                    else:
                                        clear_run(run, OW)
                                    run += columns
                        if back and inside:
                            add_to_row(line, row, &lines)
                        h0 = h1
                    d0 = d1
    free(line)
    free(d)
    return 0
