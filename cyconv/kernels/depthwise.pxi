# Convolutions with one or few channels a group, in place: no columns, no matrix products.
#
# For all positions of a run of the output, a tap of the kernel reads a run of cells at a constant
# offset; rows.h goes through runs, nine taps at once. Where rows are long, stride along W is 1 and
# few outputs touch the padding, runs are rows of x itself, and the outputs at their ends are done
# one by one. Planes of short rows are read in place too, where vectors have masks (narrow.h). Else runs
# are from a band (bands.pxi). Or, forwards, many channels are done at once, a lane each (lanes.pxi).

cdef extern from "rows.h" nogil:
    void sum_taps_float(
        const float* x, Py_ssize_t x_step, const Py_ssize_t* offsets, const float* weights,
        Py_ssize_t taps, float* y, Py_ssize_t y_step, Py_ssize_t rows, Py_ssize_t n, Py_ssize_t stride,
        float bias)
    void sum_taps_double(
        const double* x, Py_ssize_t x_step, const Py_ssize_t* offsets, const double* weights,
        Py_ssize_t taps, double* y, Py_ssize_t y_step, Py_ssize_t rows, Py_ssize_t n, Py_ssize_t stride,
        double bias)
    void join_row_float(const float* even, const float* odd, float* cells, Py_ssize_t n)
    void join_row_double(const double* even, const double* odd, double* cells, Py_ssize_t n)

cdef extern from "narrow.h" nogil:
    void sum_narrow_float(
        const Narrow* g, const float* x, Py_ssize_t x_step, const float* weights, float bias, bint add,
        float* y, Py_ssize_t y_step)
    void sum_narrow_double(
        const Narrow* g, const double* x, Py_ssize_t x_step, const double* weights, double bias, bint add,
        double* y, Py_ssize_t y_step)


cdef enum:
    # Positions that all taps go through before the next ones: x and y of them stay in the nearest
    # cache, and the float32 sums of products are short.
    BLOCK = 2048


cdef inline void sum_block(
    const real* x, Py_ssize_t x_step, const Py_ssize_t* offsets, const real* weights, Py_ssize_t taps,
    real* y, Py_ssize_t y_step, Py_ssize_t rows, Py_ssize_t n, Py_ssize_t stride, real bias
) noexcept nogil:
    """y[r, j] = bias + the sum over taps t of weights[t] * x[r, offsets[t] + stride * j]."""
    cdef Py_ssize_t j = 0, count
    while j < n:
        count = min(n - j, <Py_ssize_t>BLOCK)
        if real is float:
            sum_taps_float(
                x + j * stride, x_step, offsets, weights, taps, y + j, y_step, rows, count, stride, bias
            )
        else:
            sum_taps_double(
                x + j * stride, x_step, offsets, weights, taps, y + j, y_step, rows, count, stride, bias
            )
        j += count


cdef Py_ssize_t list_taps(
    const Layout* g, Py_ssize_t od, Py_ssize_t oh, const Source* s
) noexcept nogil:
    """In place: list the taps that are inside of x in a row of the output, with all taps along W;
    their offsets are from the first cell of the group to the one read by output (od, oh, left)."""
    cdef const Axis* depth = &g.axes[0]
    cdef const Axis* height = &g.axes[1]
    cdef const Axis* width = &g.axes[2]
    cdef Py_ssize_t c, kd, kh, kw, d0, d1, h0, h1, d, h, count = 0
    taps_inside(depth, od, &d0, &d1)
    taps_inside(height, oh, &h0, &h1)
    for c in range(g.channels):
        for kd in range(d0, d1):
            d = od * depth.stride - depth.low + kd * depth.dilation
            for kh in range(h0, h1):
                h = oh * height.stride - height.low + kh * height.dilation
                for kw in range(width.kernel):
                    g.offsets[count] = (
                        c * s.channel_step + d * s.depth_step + h * s.height_step
                        + g.left * width.stride + kw * width.dilation - width.low
                    )
                    g.places[count] = (
                        (c * depth.kernel + kd) * height.kernel + kh
                    ) * width.kernel + kw
                    count += 1
    return count


cdef inline Py_ssize_t list_end(const Layout* g, Py_ssize_t taps, Py_ssize_t ow) noexcept nogil:
    """In place: list, after the taps of a row, those which are inside of x along W at output ow, an
    end of the row. Their places are in the list of the row."""
    cdef Py_ssize_t t = 0, k, k0, k1, count = taps
    taps_inside(&g.axes[2], ow, &k0, &k1)
    while t < taps:
        for k in range(t + k0, t + k1):
            g.offsets[count] = g.offsets[k] + (ow - g.left) * g.axes[2].stride
            g.places[count] = k
            count += 1
        t += g.axes[2].kernel
    return count - taps


cdef inline Py_ssize_t next_end(const Layout* g, Py_ssize_t ow) noexcept nogil:
    """In place: the next output that is not in the middle of a row, after ow."""
    return ow + 1 if ow + 1 != g.left else g.right


cdef void sum_in_place(
    const Layout* g, Py_ssize_t od, const real* x, const Source* s, const real* w, real* weights,
    real bias, real* y, Py_ssize_t y_step
) noexcept nogil:
    """Fill one plane of y, at depth od, reading x where it lies."""
    cdef const Axis* height = &g.axes[1]
    cdef Py_ssize_t top, bottom, oh = 0, ow, rows, done, t, taps, count, x_step
    cdef Py_ssize_t block = max(<Py_ssize_t>1, BLOCK // g.axes[2].output)
    outputs_inside(height, &top, &bottom)
    while oh < height.output:
        rows = bottom - oh if top <= oh < bottom else 1
        x_step = height.stride * s.height_step if rows > 1 else 0
        taps = list_taps(g, od, oh, s)
        for t in range(taps):
            weights[t] = w[g.places[t]]
        done = 0
        while done < rows:
            sum_block(
                x + done * x_step, x_step, g.offsets, weights, taps, y + done * y_step + g.left, y_step,
                min(block, rows - done), g.right - g.left, g.axes[2].stride, bias,
            )
            done += block
        ow = next_end(g, -1)
        while ow < g.axes[2].output:
            count = list_end(g, taps, ow)
            for t in range(taps, taps + count):
                weights[t] = weights[g.places[t]]
            sum_block(
                x, x_step, g.offsets + taps, weights + taps, count, y + ow, y_step, rows, 1, 1, bias
            )
            ow = next_end(g, ow)
        oh += rows
        y += rows * y_step


cdef void sum_masked(
    const Layout* g, Py_ssize_t od, const real* x, const Source* s, const real* w, real bias, real* y,
    Py_ssize_t y_step
) noexcept nogil:
    """Fill one plane of y, at depth od, plane by plane of x."""
    cdef const Axis* depth = &g.axes[0]
    cdef Py_ssize_t taps = g.axes[1].kernel * g.axes[2].kernel, c, kd, d, oh, ow
    cdef bint add = False
    for c in range(g.channels):
        for kd in range(depth.kernel):
            d = od * depth.stride - depth.low + kd * depth.dilation
            if 0 <= d < depth.size:
                if real is float:
                    sum_narrow_float(&g.narrow, x + d * s.depth_step, s.height_step, w, bias, add, y, y_step)
                else:
                    sum_narrow_double(&g.narrow, x + d * s.depth_step, s.height_step, w, bias, add, y, y_step)
                add, bias = True, 0
            w += taps
        x += s.channel_step
    if not add:  # all of them in the padding
        for oh in range(g.axes[1].output):
            for ow in range(g.axes[2].output):
                y[oh * y_step + ow] = bias


cdef inline void plane_blocks(
    const Layout* g, Py_ssize_t y_step, Py_ssize_t* rows, Py_ssize_t* n, Py_ssize_t* block
) noexcept nogil:
    """Rows of a plane of y or dy and their length, one where they lie as in the band; and how many
    rows make a block."""
    rows[0], n[0] = g.axes[1].output, g.axes[2].output
    if g.flat and y_step == n[0]:
        rows[0], n[0] = 1, rows[0] * n[0]
    block[0] = max(<Py_ssize_t>1, BLOCK // n[0])


cdef void sum_in_band(
    const Layout* g, const real* band, const real* w, real bias, real* y, Py_ssize_t y_step
) noexcept nogil:
    """Fill one plane of y, from where the band begins for its depth."""
    cdef Py_ssize_t rows, n, block
    plane_blocks(g, y_step, &rows, &n, &block)
    while rows > 0:
        sum_block(band, g.axes[1].step, g.offsets, w, g.taps, y, y_step, min(block, rows), n, 1, bias)
        rows -= block
        if rows > 0:
            band += block * g.axes[1].step
            y += block * y_step


cdef inline void join_row(
    const real* even, const real* odd, real* cells, Py_ssize_t n
) noexcept nogil:
    if real is float:
        join_row_float(even, odd, cells, n)
    else:
        join_row_double(even, odd, cells, n)


cdef inline Py_ssize_t workspace(const Layout* g) noexcept nogil:
    """Items of memory that sum_plane needs: the band, or in place the weights of listed taps."""
    return 2 * g.taps if g.in_place else g.cells * g.channels


cdef inline void sum_plane(
    const Layout* g, Py_ssize_t od, const real* x, const Source* s, const real* w, real bias,
    real* memory, real* y, Py_ssize_t y_step
) noexcept nogil:
    """Fill the plane of y at depth od; the band has been filled."""
    if g.masked:
        sum_masked(g, od, x, s, w, bias, y, y_step)
    elif g.in_place:
        sum_in_place(g, od, x, s, w, memory, bias, y, y_step)
    else:
        sum_in_band(g, memory + od * g.axes[0].step, w, bias, y, y_step)


cdef int check_depthwise(
    const Py_ssize_t* x, const Py_ssize_t* w, const Py_ssize_t* y, const Array* axes
) except -1:
    """The cheap part of what the public face has checked, for those who call the kernels."""
    check_axes(axes)
    cdef Py_ssize_t a
    for a in range(3):
        if x[2 + a] != at(axes, a, SIZE) or w[2 + a] != at(axes, a, KERNEL) or y[2 + a] != at(axes, a, OUTPUT):
            raise ValueError(f"x, w and y do not have the sizes of axes along spatial axis {a}")
    if x[0] != y[0] or w[0] != y[1]:
        raise ValueError(f"{x[0]} images and {w[0]} filters, but y is for {y[0]} and {y[1]}")
    if min(w[0], w[1], x[1]) < 1 or x[1] % w[1] or w[0] % (x[1] // w[1]):
        raise ValueError(f"{x[1]} channels and {w[0]} filters do not make groups of {w[1]} channels")
    return 0


cdef int check_contiguous(const Array* x, name) except -1:
    if x.steps[4] != 1 and x.shape[4] > 1:
        raise ValueError(f"{name} must be contiguous along its last axis")
    return 0


cdef bint dense(const Array* x) noexcept nogil:
    """Whether the cells of a channel follow each other."""
    cdef Py_ssize_t step = 1, a
    for a in range(4, 1, -1):
        if x.shape[a] > 1 and x.steps[a] != step:
            return False
        step *= x.shape[a]
    return True


def depthwise_memory(axes, Py_ssize_t channels, Py_ssize_t filters, Py_ssize_t itemsize, bint forward=True, /):
    """How many items of memory a call takes for groups of so many channels and filters; `forward` is
    depthwise_forward."""
    cdef Held held
    hold_nothing(&held)
    try:
        return memory_of_groups(hold_table(&held, axes, "axes"), channels, filters, itemsize, forward)
    finally:
        let_go(&held)


cdef Py_ssize_t memory_of_groups(
    const Array* axes, Py_ssize_t channels, Py_ssize_t filters, Py_ssize_t itemsize, bint forward
) except -1:
    check_axes(axes)
    cdef double taps = channels * <double>at(axes, 0, KERNEL) * at(axes, 1, KERNEL) * at(axes, 2, KERNEL)
    if channels < 1 or filters < 1 or taps > MOST_ITEMS:
        raise ValueError(f"no group has {channels} channels, {filters} filters and {taps:.0f} taps")
    if itemsize not in (4, 8):
        raise ValueError(f"items must be float32 or float64, not of {itemsize} bytes")
    cdef Layout g
    cdef Lanes lanes
    lay_out(&g, axes, channels, filters, itemsize)
    free(g.offsets)
    if forward and channels == filters == 1 and lanes_pay(&lanes, axes, VECTOR_BYTES // itemsize, itemsize):
        return max(workspace(&g), lanes.items)
    return workspace(&g)


cdef int sum_groups(
    const real* x, Py_ssize_t x_step, const Source* source, const real* w, const real* b,
    real* y, const Py_ssize_t* y_steps, const Shares* shares,
    Py_ssize_t channels, Py_ssize_t filters, const Array* axes
) except -1 nogil:
    """Fill y, whose steps along its five axes are y_steps."""
    cdef Py_ssize_t OD = at(axes, 0, OUTPUT), OH = at(axes, 1, OUTPUT), OW = at(axes, 2, OUTPUT)
    cdef Py_ssize_t taps = channels * at(axes, 0, KERNEL) * at(axes, 1, KERNEL) * at(axes, 2, KERNEL)
    cdef Py_ssize_t n, group, f, od, oh, ow
    cdef bint scattered = y_steps[4] != 1 and OW > 1
    cdef const Py_ssize_t* task
    cdef Layout g
    cdef real* memory
    cdef real* plane
    cdef real* to
    cdef const real* cells
    cdef real bias = 0
    lay_out(&g, axes, channels, filters, sizeof(real))
    memory = <real*>calloc(workspace(&g) + (OH * OW if scattered else 0), sizeof(real))
    if memory == NULL:
        free(g.offsets)
        with gil:
            raise MemoryError("no memory for a copy of the channels of a group")
    plane = memory + workspace(&g)
    task = next_task(shares)
    while task != NULL:
        for n in range(task[0], task[1]):
            for group in range(task[2], task[3]):
                cells = x + n * x_step + group * channels * source.channel_step
                if not g.in_place:
                    fill(&g, cells, source, memory)
                for f in range(group * filters, (group + 1) * filters):
                    if b != NULL:
                        bias = b[f]
                    for od in range(OD):
                        to = y + n * y_steps[0] + f * y_steps[1] + od * y_steps[2]
                        if not scattered:
                            sum_plane(&g, od, cells, source, w + f * taps, bias, memory, to, y_steps[3])
                            continue
                        sum_plane(&g, od, cells, source, w + f * taps, bias, memory, plane, OW)
                        for oh in range(OH):
                            for ow in range(OW):
                                to[oh * y_steps[3] + ow * y_steps[4]] = plane[oh * OW + ow]
        task = next_task(shares)
    free(memory)
    free(g.offsets)
    return 0


cdef int forward_groups(
    const real* x, const Array* of, const Array* w, const Array* b, const Array* y,
    const Array* axes, const Shares* shares
) except -1 nogil:
    """The tasks, by lanes where that pays."""
    cdef const real* bias = <const real*>b.cells if b != NULL else NULL
    cdef Py_ssize_t groups = of.shape[1] // w.shape[1], filters = w.shape[0] // groups
    cdef Source source = source_of(of)
    cdef Lanes lanes
    if w.shape[1] == filters == 1 and dense(of) and dense(y) and lanes_pay(&lanes, axes, groups, sizeof(real)):
        return sum_by_lanes(
            &lanes, x, of.steps[0], source.channel_step, <const real*>w.cells, bias, <real*>y.cells, y.steps, shares,
        )
    return sum_groups(
        x, of.steps[0], &source, <const real*>w.cells, bias, <real*>y.cells, y.steps, shares, w.shape[1], filters, axes,
    )


def depthwise_forward(
    x,
    w,
    b,
    y,
    axes,
    tasks=None,
    taken=None,
    bint rings=False,
    /,
):
    """Fill y (n, F, od, oh, ow) from x (n, C, d, h, w), w (F, C/groups, kd, kh, kw) and b (F,) or
    None: all of it, or the tasks that are left to take, counted in `taken`."""
    cdef Held held
    hold_nothing(&held)
    try:
        depthwise_forward_held(
            hold(&held, x, "x", 5, READ), hold(&held, w, "w", 5, READ | CONTIGUOUS),
            hold(&held, b, "b", 1, READ | CONTIGUOUS | OR_NONE), hold(&held, y, "y", 5, FILL),
            hold_table(&held, axes, "axes"), hold_table(&held, tasks, "tasks", READ | OR_NONE),
            hold_counters(&held, taken, "taken", 1, FILL | OR_NONE), rings,
        )
    finally:
        let_go(&held)


cdef int depthwise_forward_held(
    const Array* x, const Array* w, const Array* b, const Array* y, const Array* axes,
    const Array* tasks, long long* taken, bint rings
) except -1:
    check_depthwise(x.shape, w.shape, y.shape, axes)
    check_contiguous(x, "x")
    if b != NULL and b.shape[0] != w.shape[0]:
        raise ValueError(f"b must have shape ({w.shape[0]},), got ({b.shape[0]},)")
    if x.shape[0] == 0:
        return 0
    cdef Shares shares
    share(&shares, tasks, taken, rings, x.shape[0], x.shape[1] // w.shape[1])
    with nogil:
        ring(rings)
        if x.itemsize == sizeof(float):
            forward_groups(<const float*>x.cells, x, w, b, y, axes, &shares)
        else:
            forward_groups(<const double*>x.cells, x, w, b, y, axes, &shares)
    return 0


cdef int join_groups(
    const real* x, const Array* of, const Array* even_w, const Array* odd_w, const Array* y,
    const Array* even_axes, const Array* odd_axes
) except -1 nogil:
    cdef Py_ssize_t OH = y.shape[3], EVEN = (y.shape[4] + 1) // 2, ODD = y.shape[4] // 2
    cdef Py_ssize_t channels = even_w.shape[1], groups = of.shape[1] // channels, filters = even_w.shape[0] // groups
    cdef Py_ssize_t n, group, f, od, oh
    cdef Source source = source_of(of)
    cdef Layout even, odd
    cdef real* memory = NULL
    cdef real* even_memory
    cdef real* odd_memory
    cdef const real* cells
    cdef real* plane
    cdef real* to
    lay_out(&even, even_axes, channels, filters, sizeof(real))
    odd.offsets = NULL
    try:
        lay_out(&odd, odd_axes, channels, filters, sizeof(real))
        memory = <real*>calloc(workspace(&even) + workspace(&odd) + OH * y.shape[4], sizeof(real))
        if memory == NULL:
            with gil:
                raise MemoryError("no memory for copies of the channels of a group")
        even_memory = memory + OH * y.shape[4]
        odd_memory = even_memory + workspace(&even)
        for n in range(of.shape[0]):
            for group in range(groups):
                cells = x + n * of.steps[0] + group * channels * source.channel_step
                if not even.in_place:
                    fill(&even, cells, &source, even_memory)
                if not odd.in_place:
                    fill(&odd, cells, &source, odd_memory)
                for f in range(group * filters, (group + 1) * filters):
                    for od in range(y.shape[2]):
                        sum_plane(
                            &even, od, cells, &source, <const real*>even_w.cells + f * even.taps, <real>0,
                            even_memory, memory, EVEN,
                        )
                        sum_plane(
                            &odd, od, cells, &source, <const real*>odd_w.cells + f * odd.taps, <real>0,
                            odd_memory, memory + OH * EVEN, ODD,
                        )
                        plane = <real*>y.cells + n * y.steps[0] + f * y.steps[1] + od * y.steps[2]
                        for oh in range(OH):
                            to = plane + oh * y.steps[3]
                            join_row(memory + oh * EVEN, memory + OH * EVEN + oh * ODD, to, ODD)
                            if EVEN > ODD:
                                to[2 * ODD] = memory[oh * EVEN + ODD]
    finally:
        free(memory)
        free(even.offsets)
        free(odd.offsets)
    return 0


def depthwise_pair(
    x,
    even_w,
    odd_w,
    y,
    even_axes,
    odd_axes,
    /,
):
    """Two convolutions of x (n, C, d, h, w), one into the even columns of y (n, F, od, oh, ow), one
    into the odd ones: the input gradient where the stride is 2, written row by row."""
    cdef Held held
    hold_nothing(&held)
    try:
        depthwise_pair_held(
            hold(&held, x, "x", 5, READ), hold(&held, even_w, "even_w", 5, READ | CONTIGUOUS),
            hold(&held, odd_w, "odd_w", 5, READ | CONTIGUOUS), hold(&held, y, "y", 5, FILL),
            hold_table(&held, even_axes, "even_axes"), hold_table(&held, odd_axes, "odd_axes"),
        )
    finally:
        let_go(&held)


cdef int depthwise_pair_held(
    const Array* x, const Array* even_w, const Array* odd_w, const Array* y,
    const Array* even_axes, const Array* odd_axes
) except -1:
    cdef Py_ssize_t[5] y_shape = [y.shape[0], y.shape[1], y.shape[2], y.shape[3], (y.shape[4] + 1) // 2]
    check_depthwise(x.shape, even_w.shape, y_shape, even_axes)
    y_shape[4] = y.shape[4] // 2
    check_depthwise(x.shape, odd_w.shape, y_shape, odd_axes)
    check_contiguous(x, "x")
    check_contiguous(y, "y")
    if even_w.shape[1] != odd_w.shape[1]:
        raise ValueError("both convolutions must have the same groups")
    with nogil:
        if x.itemsize == sizeof(float):
            join_groups(<const float*>x.cells, x, even_w, odd_w, y, even_axes, odd_axes)
        else:
            join_groups(<const double*>x.cells, x, even_w, odd_w, y, even_axes, odd_axes)
    return 0
