# Bands: the channels of a group, copied so that taps of the kernel read runs of cells.
#
# For all positions of a run of the output, a tap reads a run of cells at a constant offset. For that
# the axes of x, padded, are cut into sheets. An axis is cut by phase, a sheet a remainder of the
# padded position by the stride (with stride 1 that is a padded copy); or by tap, where a sheet holds,
# output by output, what its tap reads. A band that is cut by tap along W has no margins there, so
# that whole planes of the output are one run: that suits narrow planes. In a band lie, one after the
# other, channels; in each the sheets of D, in each those of H, in each those of W; in each of these
# the positions. Margins are zeroed once a call, since all images and channels leave them alone.
#
# No band is needed where the runs are rows of x itself ("in place", see depthwise.pxi), or where vectors
# have masks and planes are narrow ("masked").

cdef extern from "rows.h" nogil:
    void copy_row_float(const float* cells, float* row, Py_ssize_t n)
    void copy_row_double(const double* cells, double* row, Py_ssize_t n)
    void add_row_float(const float* cells, float* row, Py_ssize_t n)
    void add_row_double(const double* cells, double* row, Py_ssize_t n)
    void copy_rows_float(
        const float* cells, Py_ssize_t cell_step, float* to, Py_ssize_t to_step, Py_ssize_t rows,
        Py_ssize_t n, Py_ssize_t stride)
    void copy_rows_double(
        const double* cells, Py_ssize_t cell_step, double* to, Py_ssize_t to_step, Py_ssize_t rows,
        Py_ssize_t n, Py_ssize_t stride)
    void split_rows_float(
        const float* cells, Py_ssize_t cell_step, float* even, float* odd, Py_ssize_t to_step,
        Py_ssize_t rows, Py_ssize_t n)
    void split_rows_double(
        const double* cells, Py_ssize_t cell_step, double* even, double* odd, Py_ssize_t to_step,
        Py_ssize_t rows, Py_ssize_t n)

cdef extern from "narrow.h" nogil:
    enum:
        MOST_ACROSS
        REGISTERS
        VECTOR_BYTES
    ctypedef struct Column:
        Py_ssize_t cell, first, last
    ctypedef struct Narrow:
        Py_ssize_t kernel, size, dilation, low, rows, width
        bint low_odd
        Column[4][5] columns
    Py_ssize_t cyconv_narrow_kernel(Py_ssize_t height, Py_ssize_t width, Py_ssize_t stride)


cdef enum:
    # Rows of at least this many positions are read in place if some of their outputs touch the
    # padding: a 3x3 kernel took 0.60 us on 28x28 so and 0.45 in a band, but 4.7 and 6.3 on 112x112.
    LONG_ROW = 32
    # Planes narrower than this are one run, cut by tap along W, if that makes few copies: with AVX-512
    # 14x14 took 0.12 us so and 0.15 row by row, 28x28 the same either way. Depthwise, rows of two whole
    # vectors do as well by themselves: with 4 lanes 14x14 took 0.19 us row by row and 0.23 as one run,
    # with 2 lanes 7x7 0.11 and 0.13. At a stride each cell is copied more often so than by phase, which
    # pays where it is read for this many times as many planes of the output as there are channels.
    NARROW = 20
    FEW_TAPS = 5
    MANY_PLANES = 4
    # A sum of the products of so many rows at most is kept a lane, in float32.
    SHORT_SUM = 64


cdef struct Run:
    Py_ssize_t lo, hi  # these positions of the sheet
    Py_ssize_t cell  # of x, at position lo


cdef struct Axis:
    Py_ssize_t size, kernel, stride, dilation, low, output
    bint by_tap
    bint split  # in two phases
    Py_ssize_t sheets  # into which the band cuts this axis
    Py_ssize_t length  # positions of a sheet along this axis
    Py_ssize_t sheet_step, step  # from a sheet, and from a position, to the next
    Run* runs  # of each sheet: the positions that hold cells of x


cdef struct Layout:
    Axis[3] axes
    Py_ssize_t channels, taps  # of a group; taps over its channels
    Py_ssize_t cells  # of the band, a channel
    Py_ssize_t left, right  # in place: the outputs of a row whose taps are all inside x
    bint masked  # in place, with the cells beside a row masked off: see narrow.h
    Narrow narrow
    bint in_place, flat  # flat: rows of the output follow each other in the band without a gap
    Py_ssize_t* offsets  # of each tap: in the band, or in place in the rows being worked on
    Py_ssize_t* places  # in place: which tap that is
    # (Twice as many as there are taps: see list_end.)


cdef struct Source:
    # Where the channels of a group lie in x, in items. Columns follow each other (column_step 1), or,
    # where x has its channels last, channels do.
    Py_ssize_t channel_step, depth_step, height_step, column_step


cdef inline Source source_of(const Array* x) noexcept nogil:
    return Source(x.steps[1], x.steps[2], x.steps[3], x.steps[4] if x.shape[4] > 1 else 1)


cdef inline Py_ssize_t offset_of(const Axis* a, Py_ssize_t tap) noexcept nogil:
    """Where in the band this tap's run for output 0 begins, along one axis."""
    if a.by_tap:
        return tap * a.sheet_step
    return tap * a.dilation % a.stride * a.sheet_step + tap * a.dilation // a.stride * a.step


cdef inline Run run_of(const Axis* a, Py_ssize_t sheet) noexcept nogil:
    """The positions of a sheet that hold cells of x. These are a stride apart, and divisions are
    slow, so this is done once a call."""
    cdef Py_ssize_t start = sheet * (a.dilation if a.by_tap else 1) - a.low
    cdef Run run
    run.lo = min(a.length, first_inside(start, 0, a.stride))
    run.hi = max(run.lo, min(a.length, first_inside(start, a.size, a.stride)))
    run.cell = start + run.lo * a.stride if run.lo < run.hi else 0
    return run


cdef inline void taps_inside(
    const Axis* a, Py_ssize_t output, Py_ssize_t* lo, Py_ssize_t* hi
) noexcept nogil:
    """Which taps are inside of x at one output position."""
    cdef Py_ssize_t cell = output * a.stride - a.low
    lo[0] = min(a.kernel, first_inside(cell, 0, a.dilation))
    hi[0] = max(lo[0], min(a.kernel, first_inside(cell, a.size, a.dilation)))


cdef inline void outputs_inside(const Axis* a, Py_ssize_t* lo, Py_ssize_t* hi) noexcept nogil:
    """The outputs all of whose taps are inside of x."""
    lo[0] = min(a.output, first_inside(-a.low, 0, a.stride))
    hi[0] = max(lo[0], min(a.output, first_inside((a.kernel - 1) * a.dilation - a.low, a.size, a.stride)))


cdef void read_axes(Axis* to, const Array* axes) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(3):
        to[i].size, to[i].kernel, to[i].stride = at(axes, i, SIZE), at(axes, i, KERNEL), at(axes, i, STRIDE)
        to[i].dilation, to[i].low, to[i].output = at(axes, i, DILATION), at(axes, i, LOW), at(axes, i, OUTPUT)


cdef double shape_axes(
    Layout* g, const Array* axes, Py_ssize_t channels, Py_ssize_t filters, Py_ssize_t narrow
) noexcept nogil:
    """Decide how the band cuts each axis; return how many cells of a channel it would have. So many
    `filters` read it, or 0 where that is no reason to cut by tap; planes narrower than `narrow` are."""
    cdef Axis* a
    cdef Py_ssize_t i, extent
    cdef double cells = 1, length
    read_axes(&g.axes[0], axes)
    for i in range(3):
        a = &g.axes[i]
        extent = (a.kernel - 1) * a.dilation
        a.sheets = min(a.stride, extent + 1)
        length = a.output + <double>(extent // a.stride)  # may be more than can be counted
        # By tap also where phases hold more: most of them, or of their cells, are never read.
        a.by_tap = (
            a.kernel * <double>a.output <= a.sheets * length
            or i == 2 and a.output < narrow and a.kernel <= FEW_TAPS
            and (a.stride == 1 or filters >= MANY_PLANES * channels)
            and g.axes[0].output * g.axes[1].output > 1
        )
        if a.by_tap:
            a.sheets, a.length = a.kernel, a.output
        else:
            a.length = a.output + extent // a.stride
        a.split = not a.by_tap and a.stride == 2 and a.sheets == 2
        cells *= a.sheets * <double>a.length
    g.channels = channels
    g.taps = channels * g.axes[0].kernel * g.axes[1].kernel * g.axes[2].kernel
    return cells


cdef void lay_band(Layout* g, Run* runs) noexcept nogil:
    """Give each position of the band its place, and each sheet its run."""
    cdef Py_ssize_t i
    g.axes[2].step = 1
    g.axes[1].step = g.axes[2].length
    g.axes[0].step = g.axes[1].step * g.axes[1].length
    g.axes[2].sheet_step = g.axes[0].step * g.axes[0].length
    g.axes[1].sheet_step = g.axes[2].sheet_step * g.axes[2].sheets
    g.axes[0].sheet_step = g.axes[1].sheet_step * g.axes[1].sheets
    g.cells = g.axes[0].sheet_step * g.axes[0].sheets
    for i in range(3):
        g.axes[i].runs = runs
        runs += g.axes[i].sheets
    find_runs(g)


cdef void find_runs(Layout* g) noexcept nogil:
    cdef Py_ssize_t i, sheet
    for i in range(3):
        for sheet in range(g.axes[i].sheets):
            g.axes[i].runs[sheet] = run_of(&g.axes[i], sheet)


cdef bint is_narrow(const Axis* axes, Py_ssize_t lanes) noexcept nogil:
    """Whether rows are read where they lie, with the cells beside them masked off: see narrow.h. Of a
    plane of float32 a kernel took (nanoseconds for those of a band, with the next plane's cells in the
    second cache)

                      y, AVX-512      dw          y, AVX2         dw
        3x3,  7x7     43 for 79     45 for 130    45 for 78     48 for 99
            14x14     76 for 166    82 for 223   114 for 152   125 for 180
            28x28    265 for 503   276 for 575   400 for 466   422 for 511
        5x5, 14x14   204 for 332   292 for 486   236 for 309   430 for 378
            28x28    725 for 1075  988 for 1244
        7x7,   7x7   182 for 577    304 for 598   123 for 230   234 for 333
            14x14    311 for 1240   514 for 867   375 for 547   548 for 642
            28x28   1107 for 1839  1787 for 2236
            56x56   4455 for 7116  7533 for 8299

    and with AVX2 a 5x5 kernel on 28x28 0.76 times as long for y, but 1.4 times for dw; kernels of fewer
    than nine taps, as the phases of a stride have, 1.15 times. With stride 2 3x3 and 5x5 took 0.45 to 1
    times as long for y and 0.35 to 1.05 for dw as in place or in a band."""
    cdef const Axis* height = &axes[1]
    cdef const Axis* width = &axes[2]
    return (
        width.stride == height.stride and width.output <= MOST_ACROSS * lanes
        and (width.stride == 1 or width.dilation == height.dilation == 1)
        and height.output <= SHORT_SUM
        and height.dilation <= SHORT_SUM and height.low >= -height.size  # so that nothing overflows
        and cyconv_narrow_kernel(height.kernel, width.kernel, width.stride)
        and (REGISTERS == 32 or width.output <= 2 * lanes or width.kernel == 3)
    )


cdef void lay_narrow(Layout* g, Py_ssize_t lanes) noexcept nogil:
    cdef const Axis* height = &g.axes[1]
    cdef const Axis* width = &g.axes[2]
    cdef Py_ssize_t stride = width.stride, j, k, part, start, outputs
    cdef Column* column
    g.narrow.kernel = cyconv_narrow_kernel(height.kernel, width.kernel, stride)
    g.narrow.size, g.narrow.dilation, g.narrow.low = height.size, height.dilation, height.low
    g.narrow.rows, g.narrow.width = height.output, width.output
    for j in range((width.output - 1) // lanes + 1):
        outputs = min(lanes, width.output - j * lanes)
        for k in range((width.kernel + stride - 1) // stride * stride):
            column = &g.narrow.columns[j][k]
            part = k % stride * lanes
            start = stride * j * lanes + (k - k % stride) * width.dilation + part - width.low
            column.first = min(lanes, max(<Py_ssize_t>0, -start))
            column.last = max(column.first, min(min(lanes, stride * outputs - part), width.size - start))
            column.cell = start if column.first < column.last else 0


cdef int lay_out(
    Layout* g, const Array* axes, Py_ssize_t channels, Py_ssize_t filters, Py_ssize_t itemsize
) except -1 nogil:
    """Decide how x is read; allocates the tables."""
    cdef Axis* a = &g.axes[2]
    cdef Py_ssize_t kd, kh, kw, c, k = 0
    cdef Py_ssize_t lanes = VECTOR_BYTES // itemsize
    cdef double cells = shape_axes(g, axes, channels, 0, min(<Py_ssize_t>NARROW, 2 * lanes))
    outputs_inside(a, &g.left, &g.right)
    g.masked = is_narrow(&g.axes[0], lanes)
    if g.masked:
        lay_narrow(g, lanes)
        g.in_place = True
    elif g.left == 0 and g.right == a.output:
        g.in_place = a.stride <= 2 and a.output >= NARROW
    else:
        g.in_place = (
            a.stride <= 2 and a.output >= (LONG_ROW if a.stride == 1 else NARROW)
            and 8 * (g.right - g.left) >= 7 * a.output
            and filters == 1 and g.taps <= 9 * channels
        )
    g.flat = a.length == a.output and not g.in_place
    g.offsets = <Py_ssize_t*>malloc(
        4 * g.taps * sizeof(Py_ssize_t)
        + (g.axes[0].sheets + g.axes[1].sheets + a.sheets) * sizeof(Run)
    )
    # More cells than this are more bytes than a Py_ssize_t counts, or memory holds.
    if g.offsets == NULL or cells * channels > 1e17:
        free(g.offsets)
        with gil:
            raise MemoryError
    g.places = g.offsets + 2 * g.taps
    if g.in_place:
        return 0
    lay_band(g, <Run*>(g.places + 2 * g.taps))
    for c in range(channels):
        for kd in range(g.axes[0].kernel):
            for kh in range(g.axes[1].kernel):
                for kw in range(a.kernel):
                    g.offsets[k] = (
                        c * g.cells + offset_of(&g.axes[0], kd) + offset_of(&g.axes[1], kh) + offset_of(a, kw)
                    )
                    k += 1
    return 0


cdef inline void copy_rows(
    const real* cells, Py_ssize_t cell_step, real* to, Py_ssize_t to_step, Py_ssize_t rows, Py_ssize_t n,
    Py_ssize_t stride
) noexcept nogil:
    """to[r, j] = cells[r, j * stride]."""
    if real is float:
        copy_rows_float(cells, cell_step, to, to_step, rows, n, stride)
    else:
        copy_rows_double(cells, cell_step, to, to_step, rows, n, stride)


cdef void fill_rows(
    const Layout* g, const real* cells, Py_ssize_t cell_step, real* to, Py_ssize_t rows
) noexcept nogil:
    """Copy rows of x, `cell_step` apart, into the sheets of rows of the band."""
    cdef const Axis* a = &g.axes[2]
    cdef Py_ssize_t step = g.axes[1].step, sheet, pairs, r
    cdef Run run = a.runs[0], odd
    if a.split:
        # Both phases in one go, from where both are inside of x to where one of them is not.
        odd = a.runs[1]
        if odd.lo < run.lo:
            for r in range(rows):
                to[r * step + a.sheet_step + odd.lo] = cells[r * cell_step + odd.cell]
        pairs = min(run.hi, odd.hi) - run.lo
        if pairs > 0:
            if real is float:
                split_rows_float(
                    cells + run.cell, cell_step, to + run.lo, to + a.sheet_step + run.lo, step, rows, pairs
                )
            else:
                split_rows_double(
                    cells + run.cell, cell_step, to + run.lo, to + a.sheet_step + run.lo, step, rows, pairs
                )
        if run.hi > run.lo and run.hi > odd.hi:
            for r in range(rows):
                to[r * step + run.hi - 1] = cells[r * cell_step + run.cell + 2 * (run.hi - 1 - run.lo)]
        return
    for sheet in range(a.sheets):
        run = a.runs[sheet]
        copy_rows(
            cells + run.cell, cell_step, to + sheet * a.sheet_step + run.lo, step, rows, run.hi - run.lo, a.stride
        )


cdef void fill_plane(const Layout* g, const real* cells, real* plane, Py_ssize_t rows) noexcept nogil:
    """Copy `rows` whole rows of x, at stride 1 and as long as the output's, into the sheets by tap of
    W: a plane at a time, and then zeros to where a shifted row ran into the next."""
    cdef const Axis* a = &g.axes[2]
    cdef Run run
    cdef Py_ssize_t sheet, r, j, count
    cdef real* to
    for sheet in range(a.sheets):
        run = a.runs[sheet]
        if run.lo == run.hi:
            continue
        to = plane + sheet * a.sheet_step
        # One of these is 0: either the first outputs of a row are in the padding, or the last.
        count = rows * a.size - run.lo - run.cell
        copy_rows(cells + run.cell, 0, to + run.lo, 0, 1, count, 1)
        for j in range(run.lo):
            for r in range(rows):
                to[r * a.size + j] = 0
        for j in range(run.hi, a.length):
            for r in range(rows):
                to[r * a.size + j] = 0


cdef void fill(const Layout* g, const real* x, const Source* s, real* band) noexcept nogil:
    """Copy the channels of a group into the band, but for its margins."""
    cdef const Axis* depth = &g.axes[0]
    cdef const Axis* height = &g.axes[1]
    cdef const Axis* width = &g.axes[2]
    cdef Py_ssize_t c, sd, sh, d
    cdef Run deep, high
    cdef const real* cells
    cdef real* plane
    cdef bint planes = (
        width.by_tap and width.stride == 1 and width.size == width.length
        and height.stride == 1 and s.height_step == width.size
    )
    if s.column_step != 1:
        fill_turned(g, x, s, band)
        return
    for c in range(g.channels):
        for sd in range(depth.sheets):
            deep = depth.runs[sd]
            for sh in range(height.sheets):
                high = height.runs[sh]
                for d in range(deep.hi - deep.lo):
                    cells = (
                        x + c * s.channel_step + (deep.cell + d * depth.stride) * s.depth_step
                        + high.cell * s.height_step
                    )
                    plane = (
                        band + c * g.cells + sd * depth.sheet_step + sh * height.sheet_step
                        + (deep.lo + d) * depth.step + high.lo * height.step
                    )
                    if planes:
                        fill_plane(g, cells, plane, high.hi - high.lo)
                    else:
                        fill_rows(g, cells, height.stride * s.height_step, plane, high.hi - high.lo)


cdef void fill_turned(const Layout* g, const real* x, const Source* s, real* band) noexcept nogil:
    """The same where x has its channels last: rows are transposed on their way."""
    cdef const Axis* depth = &g.axes[0]
    cdef const Axis* height = &g.axes[1]
    cdef const Axis* width = &g.axes[2]
    cdef Py_ssize_t sd, sh, sw, d, h
    cdef Run deep, high, wide
    for sd in range(depth.sheets):
        deep = depth.runs[sd]
        for d in range(deep.hi - deep.lo):
            for sh in range(height.sheets):
                high = height.runs[sh]
                for h in range(high.hi - high.lo):
                    for sw in range(width.sheets):
                        wide = width.runs[sw]
                        transpose(
                            x + (deep.cell + d * depth.stride) * s.depth_step
                            + (high.cell + h * height.stride) * s.height_step + wide.cell * s.column_step,
                            width.stride * s.column_step, wide.hi - wide.lo, g.channels,
                            band + sd * depth.sheet_step + sh * height.sheet_step + sw * width.sheet_step
                            + (deep.lo + d) * depth.step + (high.lo + h) * height.step + wide.lo,
                            g.cells,
                        )
