# The weight gradient of depthwise.pxi: for each tap, the products of dy with the cells that it reads,
# summed. Runs are those of the forward pass: rows of x in place, narrow planes with masks, or a band.

cdef extern from "rows.h" nogil:
    void dot_taps_float(
        const float* dy, Py_ssize_t dy_step, const float* x, Py_ssize_t x_step,
        const Py_ssize_t* offsets, Py_ssize_t taps, Py_ssize_t rows, Py_ssize_t n, Py_ssize_t stride,
        double* sums)
    void dot_taps_double(
        const double* dy, Py_ssize_t dy_step, const double* x, Py_ssize_t x_step,
        const Py_ssize_t* offsets, Py_ssize_t taps, Py_ssize_t rows, Py_ssize_t n, Py_ssize_t stride,
        double* sums)

cdef extern from "narrow.h" nogil:
    void dot_narrow_float(
        const Narrow* g, const float* dy, Py_ssize_t dy_step, const float* x, Py_ssize_t x_step,
        double* totals)
    void dot_narrow_double(
        const Narrow* g, const double* dy, Py_ssize_t dy_step, const double* x, Py_ssize_t x_step,
        double* totals)


cdef inline void dot_block(
    const real* dy, Py_ssize_t dy_step, const real* x, Py_ssize_t x_step, const Py_ssize_t* offsets,
    Py_ssize_t taps, Py_ssize_t rows, Py_ssize_t n, Py_ssize_t stride, double* sums
) noexcept nogil:
    """sums[t] += the sum over r and j of dy[r, j] * x[r, offsets[t] + stride * j]."""
    cdef Py_ssize_t j = 0, count
    while j < n:
        count = min(n - j, <Py_ssize_t>BLOCK)
        if real is float:
            dot_taps_float(dy + j, dy_step, x + j * stride, x_step, offsets, taps, rows, count, stride, sums)
        else:
            dot_taps_double(dy + j, dy_step, x + j * stride, x_step, offsets, taps, rows, count, stride, sums)
        j += count


cdef void dot_in_place(
    const Layout* g, Py_ssize_t od, const real* dy, Py_ssize_t dy_step, const real* x,
    const Source* s, double* sums, double* totals
) noexcept nogil:
    """Add to each tap's total the products of one plane of dy with the cells that it reads."""
    cdef const Axis* height = &g.axes[1]
    cdef Py_ssize_t top, bottom, oh = 0, ow, rows, done, t, taps, count, x_step
    cdef Py_ssize_t block = max(<Py_ssize_t>1, BLOCK // g.axes[2].output)
    outputs_inside(height, &top, &bottom)
    while oh < height.output:
        rows = bottom - oh if top <= oh < bottom else 1
        x_step = height.stride * s.height_step if rows > 1 else 0
        taps = list_taps(g, od, oh, s)
        for t in range(2 * taps):
            sums[t] = 0
        done = 0
        while done < rows:
            dot_block(
                dy + done * dy_step + g.left, dy_step, x + done * x_step, x_step, g.offsets, taps,
                min(block, rows - done), g.right - g.left, g.axes[2].stride, sums,
            )
            done += block
        ow = next_end(g, -1)
        while ow < g.axes[2].output:
            count = list_end(g, taps, ow)
            dot_block(dy + ow, dy_step, x, x_step, g.offsets + taps, count, rows, 1, 1, sums + taps)
            for t in range(taps, taps + count):
                sums[g.places[t]] += sums[t]
                sums[t] = 0
            ow = next_end(g, ow)
        for t in range(taps):
            totals[g.places[t]] += sums[t]
        oh += rows
        dy += rows * dy_step


cdef void dot_masked(
    const Layout* g, Py_ssize_t od, const real* dy, Py_ssize_t dy_step, const real* x,
    const Source* s, double* totals
) noexcept nogil:
    """Add to each tap's total the products of one plane of dy with the cells that it reads."""
    cdef const Axis* depth = &g.axes[0]
    cdef Py_ssize_t taps = g.axes[1].kernel * g.axes[2].kernel, c, kd, d
    for c in range(g.channels):
        for kd in range(depth.kernel):
            d = od * depth.stride - depth.low + kd * depth.dilation
            if 0 <= d < depth.size:
                if real is float:
                    dot_narrow_float(&g.narrow, dy, dy_step, x + d * s.depth_step, s.height_step, totals)
                else:
                    dot_narrow_double(&g.narrow, dy, dy_step, x + d * s.depth_step, s.height_step, totals)
            totals += taps
        x += s.channel_step


cdef void dot_in_band(
    const Layout* g, const real* dy, Py_ssize_t dy_step, const real* band, double* totals
) noexcept nogil:
    """Add to each tap's total the products of one plane of dy with the cells that it reads."""
    cdef Py_ssize_t rows, n, block
    plane_blocks(g, dy_step, &rows, &n, &block)
    while rows > 0:
        dot_block(dy, dy_step, band, g.axes[1].step, g.offsets, g.taps, min(block, rows), n, 1, totals)
        rows -= block
        if rows > 0:
            band += block * g.axes[1].step
            dy += block * dy_step


cdef int dot_groups(
    const real* dy, const Array* of, const Array* x, const Array* dw, const Array* axes,
    const Shares* shares
) except -1 nogil:
    cdef Py_ssize_t channels = dw.shape[1], groups = x.shape[1] // channels, filters = dw.shape[0] // groups
    cdef Py_ssize_t n, group, f, od, t, most = 0
    cdef Source source = source_of(x)
    cdef Layout g
    cdef real* band = NULL
    cdef double* sums  # of each tap, in place; then the totals of each filter of a task, and tap
    cdef double* totals
    cdef const real* cells
    cdef const real* plane
    cdef const Py_ssize_t* task
    cdef real* to
    for t in range(shares.number):
        most = max(most, (shares.tasks[4 * t + 3] - shares.tasks[4 * t + 2]) * filters)
    lay_out(&g, axes, channels, filters, sizeof(real))
    sums = <double*>calloc((most + 2) * g.taps, sizeof(double))
    if not g.in_place:
        band = <real*>calloc(g.cells * channels, sizeof(real))
    if sums == NULL or (band == NULL and not g.in_place):
        free(sums)
        free(band)
        free(g.offsets)
        with gil:
            raise MemoryError("no memory for the sums of a task, or a copy of the channels of a group")
    task = next_task(shares)
    while task != NULL:
        for n in range(task[0], task[1]):
            for group in range(task[2], task[3]):
                cells = <const real*>x.cells + n * x.steps[0] + group * channels * source.channel_step
                if not g.in_place:
                    fill(&g, cells, &source, band)
                for f in range(group * filters, (group + 1) * filters):
                    totals = sums + (f - task[2] * filters + 2) * g.taps
                    for od in range(of.shape[2]):
                        plane = dy + n * of.steps[0] + f * of.steps[1] + od * of.steps[2]
                        if g.masked:
                            dot_masked(&g, od, plane, of.steps[3], cells, &source, totals)
                        elif g.in_place:
                            dot_in_place(&g, od, plane, of.steps[3], cells, &source, sums, totals)
                        else:
                            dot_in_band(&g, plane, of.steps[3], band + od * g.axes[0].step, totals)
        to = <real*>dw.cells + task[2] * filters * g.taps
        for t in range((task[3] - task[2]) * filters * g.taps):
            to[t] = <real>sums[2 * g.taps + t]
            sums[2 * g.taps + t] = 0
        task = next_task(shares)
    free(sums)
    free(band)
    free(g.offsets)
    return 0


def depthwise_weight_grad(
    dy,
    x,
    dw,
    axes,
    tasks=None,
    taken=None,
    bint rings=False,
    /,
):
    """Fill dw (F, C/groups, kd, kh, kw) from dy (n, F, od, oh, ow) and x (n, C, d, h, w): all of it, or
    the tasks that are left to take. Products are summed in float64 across blocks, so that the error
    does not grow with the batch."""
    cdef Held held
    hold_nothing(&held)
    try:
        depthwise_weight_grad_held(
            hold(&held, dy, "dy", 5, READ), hold(&held, x, "x", 5, READ), hold(&held, dw, "dw", 5, FILL | CONTIGUOUS),
            hold_table(&held, axes, "axes"), hold_table(&held, tasks, "tasks", READ | OR_NONE),
            hold_counters(&held, taken, "taken", 1, FILL | OR_NONE), rings,
        )
    finally:
        let_go(&held)


cdef int depthwise_weight_grad_held(
    const Array* dy, const Array* x, const Array* dw, const Array* axes,
    const Array* tasks, long long* taken, bint rings
) except -1:
    check_depthwise(x.shape, dw.shape, dy.shape, axes)
    check_contiguous(x, "x")
    check_contiguous(dy, "dy")
    cdef Shares shares
    share(&shares, tasks, taken, rings, x.shape[0], x.shape[1] // dw.shape[1])
    with nogil:
        ring(rings)
        if dy.itemsize == sizeof(float):
            dot_groups(<const float*>dy.cells, dy, x, dw, axes, &shares)
        else:
            dot_groups(<const double*>dy.cells, dy, x, dw, axes, &shares)
    return 0
