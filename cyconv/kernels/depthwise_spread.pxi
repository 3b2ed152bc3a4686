# The input gradient of depthwise.pxi with stride 2, in one pass over dx (narrow.h): for planes as narrow
# as are read masked, and one channel and filter a group. (Others are phases: convolutions over dy, of
# which each fills every second row or column of dx.)

cdef extern from "narrow.h" nogil:
    void spread_narrow_float(
        const Narrow* g, const float* dy, Py_ssize_t dy_step, const float* weights, float* dx,
        Py_ssize_t dx_step)
    void spread_narrow_double(
        const Narrow* g, const double* dy, Py_ssize_t dy_step, const double* weights, double* dx,
        Py_ssize_t dx_step)


cdef bint spreads(const Axis* axes, Py_ssize_t lanes) noexcept nogil:
    """Whether there is code for it."""
    cdef const Axis* depth = &axes[0]
    cdef const Axis* height = &axes[1]
    cdef const Axis* width = &axes[2]
    return (
        depth.kernel == depth.stride == 1 and depth.low == 0 and depth.size == depth.output
        and height.stride == width.stride == 2 and height.dilation == width.dilation == 1
        and cyconv_narrow_kernel(height.kernel, width.kernel, 2)
        and 0 <= height.low < height.kernel and 0 <= width.low < width.kernel
        and width.size <= 2 * MOST_ACROSS * lanes and height.output <= SHORT_SUM  # others are cut into boxes
    )


cdef void lay_spread(Narrow* g, const Axis* axes, Py_ssize_t lanes) noexcept nogil:
    cdef const Axis* height = &axes[1]
    cdef const Axis* width = &axes[2]
    cdef Py_ssize_t j, k
    cdef Column* column
    g.kernel = cyconv_narrow_kernel(height.kernel, width.kernel, 2)
    g.size, g.low, g.rows = height.size, height.low, height.output
    g.width, g.low_odd = width.size, width.low % 2
    for j in range(((width.size + 1) // 2 - 1) // lanes + 1):
        for k in range(width.kernel):
            column = &g.columns[j][k]
            # Cell 2 * v, or if low and k are not both even or odd, 2 * v + 1, reads v and so many more.
            column.cell = j * lanes + ((width.low + k) % 2 + width.low - k) // 2
            column.first = min(lanes, max(<Py_ssize_t>0, -column.cell))
            column.last = max(column.first, min(lanes, width.output - column.cell))
            if column.first == column.last:
                column.cell = 0


def depthwise_spreads(axes, Py_ssize_t itemsize, /):
    """Whether `depthwise_spread` is for this convolution."""
    cdef Held held
    cdef Axis[3] read
    hold_nothing(&held)
    try:
        check_axes(hold_table(&held, axes, "axes"))
        if itemsize not in (4, 8):
            raise ValueError(f"items must be float32 or float64, not of {itemsize} bytes")
        read_axes(&read[0], hold_table(&held, axes, "axes"))
        return spreads(&read[0], VECTOR_BYTES // itemsize)
    finally:
        let_go(&held)


cdef void spread_groups(
    const real* dy, const Array* of, const real* w, const Array* dx, const Axis* axes, const Shares* shares
) noexcept nogil:
    cdef Py_ssize_t taps = axes[1].kernel * axes[2].kernel, n, c, d
    cdef const Py_ssize_t* task
    cdef const real* cells
    cdef real* to
    cdef Narrow g
    lay_spread(&g, axes, VECTOR_BYTES // sizeof(real))
    task = next_task(shares)
    while task != NULL:
        for n in range(task[0], task[1]):
            for c in range(task[2], task[3]):
                for d in range(axes[0].size):
                    cells = dy + n * of.steps[0] + c * of.steps[1] + d * of.steps[2]
                    to = <real*>dx.cells + n * dx.steps[0] + c * dx.steps[1] + d * dx.steps[2]
                    if real is float:
                        spread_narrow_float(&g, cells, of.steps[3], w + c * taps, to, dx.steps[3])
                    else:
                        spread_narrow_double(&g, cells, of.steps[3], w + c * taps, to, dx.steps[3])
        task = next_task(shares)


def depthwise_spread(
    dy,
    w,
    dx,
    axes,
    tasks=None,
    taken=None,
    bint rings=False,
    /,
):
    """Fill dx (n, C, d, h, w), with the gradient of depthwise_forward, from dy (n, C, od, oh, ow) and w (C,
    1, 1, kh, kw): all of it, or the tasks that are left to take."""
    cdef Held held
    hold_nothing(&held)
    try:
        depthwise_spread_held(
            hold(&held, dy, "dy", 5, READ), hold(&held, w, "w", 5, READ | CONTIGUOUS), hold(&held, dx, "dx", 5, FILL),
            hold_table(&held, axes, "axes"), hold_table(&held, tasks, "tasks", READ | OR_NONE),
            hold_counters(&held, taken, "taken", 1, FILL | OR_NONE), rings,
        )
    finally:
        let_go(&held)


cdef int depthwise_spread_held(
    const Array* dy, const Array* w, const Array* dx, const Array* axes, const Array* tasks, long long* taken,
    bint rings
) except -1:
    check_depthwise(dx.shape, w.shape, dy.shape, axes)
    check_contiguous(dx, "dx")
    check_contiguous(dy, "dy")
    cdef Axis[3] read
    cdef Shares shares
    read_axes(&read[0], axes)
    if w.shape[1] != 1 or w.shape[0] != dx.shape[1] or not spreads(&read[0], VECTOR_BYTES // dy.itemsize):
        raise ValueError("there is no code for these axes, or this many channels or filters in a group")
    share(&shares, tasks, taken, rings, dx.shape[0], dx.shape[1])
    with nogil:
        ring(rings)
        if dy.itemsize == sizeof(float):
            spread_groups(<const float*>dy.cells, dy, <const float*>w.cells, dx, &read[0], &shares)
        else:
            spread_groups(<const double*>dy.cells, dy, <const double*>w.cells, dx, &read[0], &shares)
    return 0
