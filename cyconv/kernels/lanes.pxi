# Depthwise with a lane a channel: see lanes.h. For planes that are small, or narrow, or read at a stride,
# with one filter a channel.
#
# Of as many channels as a vector has lanes, the cells are copied into one padded image of vectors, turned
# on their way; outputs are summed row by row, and then turned back.

cdef extern from "lanes.h" nogil:
    void turn_cells_float(
        const float* x, Py_ssize_t x_step, Py_ssize_t channels, Py_ssize_t cells, const Py_ssize_t* places,
        float* to)
    void turn_cells_double(
        const double* x, Py_ssize_t x_step, Py_ssize_t channels, Py_ssize_t cells, const Py_ssize_t* places,
        double* to)
    void turn_sums_float(
        const float* sums, Py_ssize_t positions, Py_ssize_t channels, float* y, Py_ssize_t y_step)
    void turn_sums_double(
        const double* sums, Py_ssize_t positions, Py_ssize_t channels, double* y, Py_ssize_t y_step)
    void sum_lanes_float(
        const float* x, Py_ssize_t step, const Py_ssize_t* offsets, const float* weights, Py_ssize_t taps,
        const float* start, Py_ssize_t start_step, float* y, Py_ssize_t n)
    void sum_lanes_double(
        const double* x, Py_ssize_t step, const Py_ssize_t* offsets, const double* weights, Py_ssize_t taps,
        const double* start, Py_ssize_t start_step, double* y, Py_ssize_t n)


cdef enum:
    # The padded image of vectors, and the outputs, stay in a core's second cache.
    LANES_BYTES = 256 << 10
    # Half as much beside rows that are read masked: a volume of 8x14x14 took 1.6 times as long in float64.
    NARROW_BYTES = 128 << 10
    # Longer rows are better read as they lie, and with few taps planes of more outputs than this many
    # vectors hold: with two lanes 3x3 on 10x10 took 1.3 times as long, and with stride 2 on 40x40 1.6.
    WIDE_ROW = 256
    SOME_VECTORS = 32
    # So that nothing overflows.
    FAR = 1 << 24


cdef struct Lanes:
    Axis[3] axes
    Py_ssize_t lanes
    Py_ssize_t taps, cells, positions  # of a channel
    Py_ssize_t width  # of a row of the padded image, in vectors
    Py_ssize_t padded  # vectors of the padded image, and one for cells that no tap reads
    Py_ssize_t items  # of memory
    Py_ssize_t* offsets  # of each tap in the padded image, from where an output's first one would be
    Py_ssize_t* places  # of each cell


cdef bint shape_lanes(Lanes* g, const Array* axes, Py_ssize_t itemsize) noexcept nogil:
    """Find the sizes, unless they are too large, or most cells are not read (as where a box is but a
    part of the output)."""
    cdef Py_ssize_t i
    cdef Axis* a
    cdef double extent = 1, read = 1, cells = 1, positions = 1, taps = 1, vectors
    g.lanes = VECTOR_BYTES // itemsize
    read_axes(&g.axes[0], axes)
    for i in range(3):
        a = &g.axes[i]
        extent = (a.output - 1) * <double>a.stride + (a.kernel - 1) * <double>a.dilation + 1
        if max(extent, a.low, -a.low) > FAR:
            return False
        read *= extent
        cells *= a.size
        positions *= a.output
        taps *= a.kernel
    vectors = cells / a.size * extent + 1 + positions + taps + 2
    if max(vectors, cells) * VECTOR_BYTES > LANES_BYTES or cells > 2 * read:
        return False
    g.cells, g.positions, g.taps = <Py_ssize_t>cells, <Py_ssize_t>positions, <Py_ssize_t>taps
    g.width = <Py_ssize_t>extent
    g.padded = g.axes[0].size * g.axes[1].size * g.width + 1
    g.items = <Py_ssize_t>vectors * g.lanes
    return True


cdef bint lanes_pay(
    Lanes* g, const Array* axes, Py_ssize_t groups, Py_ssize_t itemsize
) noexcept nogil:
    """Whether to go by lanes; the sizes then are known. Of a plane of float32 a kernel took (nanoseconds,
    for those it took row by row, a channel at a time)

                             AVX-512         AVX2            portable
        3x3,        7x7      38 for 41       47 for 44       61 for 87
                  14x14     113 for 57      119 for 90      188 for 195
        5x5,        7x7      53 for 110      56 for 80      114 for 186
                  14x14     183 for 181     188 for 207     341 for 447
        7x7,        7x7      75 for 191      76 for 127     138 for 272
                  28x28    1124 for 1116   1164 for 1724   2273 for 2783
        3x3 / 2,  28x28                                     277 for 323
        5x5 / 2,    7x7      30 for 167      31 for 130      47 for 113
                  28x28     260 for 775     271 for 353     446 for 569
        9, a row of  64      35 for 264      37 for 285      59 for 259
                   1024     705 for 530     669 for 512     904 for 784

    Rows read where they lie, masked, go by vectors whose last lanes may be idle, and lanes for channels
    that there are not; beside these a vector of cells that is turned costs about as much as six. With
    stride 2 what is read masked costs twice as much (3x3: with 16 lanes 14x14 took 0.95 of the time by
    lanes and 20x20 1.16, with eight 7x7 0.6 to 0.8 and 14x14 1.1 to 1.7), or less with 25 taps and 32
    registers (28x28 took 1.5 of the time by lanes)."""
    cdef double masked, turned, cells
    if not shape_lanes(g, axes, itemsize) or 2 * groups < g.lanes:
        return False
    if is_narrow(&g.axes[0], g.lanes):
        if g.items * itemsize > NARROW_BYTES:
            return False
        # Vectors that are read: of a row, and of all channels there are and are not.
        masked = g.taps * g.positions // g.axes[2].output * ((g.axes[2].output - 1) // g.lanes + 1)
        if g.axes[2].stride == 2:
            masked *= 1.4 if g.axes[2].kernel == 5 and REGISTERS == 32 else 2
        turned = g.taps * g.positions * ((groups - 1) // g.lanes + 1) / <double>groups
        cells = (g.cells + g.positions) * ((groups - 1) // g.lanes + 1) / <double>groups
        return masked > (0.8 if REGISTERS == 32 else 0.6) * turned + 6 * cells
    return g.axes[2].output <= WIDE_ROW and (
        g.taps >= 16 and g.taps * g.lanes >= 64
        or g.taps >= 3 and g.positions < SOME_VECTORS * g.lanes
    )


cdef void lay_lanes(Lanes* g) noexcept nogil:
    """Fill the tables."""
    cdef Py_ssize_t kd, kh, kw, row, w, k = 0
    cdef Axis* a = &g.axes[2]
    for kd in range(g.axes[0].kernel):
        for kh in range(g.axes[1].kernel):
            row = (kd * g.axes[0].dilation * g.axes[1].size + kh * g.axes[1].dilation) * g.width
            for kw in range(a.kernel):
                g.offsets[k] = (row + kw * a.dilation) * g.lanes
                k += 1
    k = 0
    for row in range(g.axes[0].size * g.axes[1].size):
        for w in range(a.size):
            if 0 <= w + a.low < g.width:
                g.places[k] = (row * g.width + w + a.low) * g.lanes
            else:
                g.places[k] = (g.padded - 1) * g.lanes
            k += 1


cdef void sum_rows_of_lanes(
    const Lanes* g, const real* x, const real* w, const real* bias, real* y
) noexcept nogil:
    """Fill the outputs of some channels, all turned, row by row."""
    cdef const Axis* depth = &g.axes[0]
    cdef const Axis* height = &g.axes[1]
    cdef Py_ssize_t od, oh, kd, d0, d1, h0, h1, first, tap, taps, step, n = g.axes[2].output
    cdef Py_ssize_t column_step = g.axes[2].stride * g.lanes
    cdef const real* start
    for od in range(depth.output):
        for oh in range(height.output):
            taps_inside(depth, od, &d0, &d1)
            taps_inside(height, oh, &h0, &h1)
            if d0 == d1:
                d0, d1, h0, h1 = 0, 1, 0, 0  # no taps, once
            # A row that is beside the image has an offset, but is not read.
            first = (od * depth.stride - depth.low) * height.size + oh * height.stride - height.low
            first *= g.width * g.lanes
            start, step = bias, 0
            for kd in range(d0, d1):
                tap, taps = (kd * height.kernel + h0) * g.axes[2].kernel, (h1 - h0) * g.axes[2].kernel
                if real is float:
                    sum_lanes_float(
                        x + first, column_step, g.offsets + tap, w + tap * g.lanes, taps, start, step, y, n
                    )
                else:
                    sum_lanes_double(
                        x + first, column_step, g.offsets + tap, w + tap * g.lanes, taps, start, step, y, n
                    )
                start, step = y, g.lanes
            y += n * g.lanes


cdef int sum_by_lanes(
    Lanes* g, const real* x, Py_ssize_t x_step, Py_ssize_t channel_step, const real* w, const real* b,
    real* y, const Py_ssize_t* y_steps, const Shares* shares
) except -1 nogil:
    """Fill y; the cells of a channel of x, and the outputs of a filter, follow each other."""
    cdef Py_ssize_t n, c, i, channels
    cdef const Py_ssize_t* task
    cdef const real* cells
    cdef real* to
    cdef real* memory = <real*>calloc(g.items, sizeof(real))
    # A vector that lies across two lines of a cache takes twice as long.
    cdef real* image = memory + (-<size_t>memory) % VECTOR_BYTES // sizeof(real)
    cdef real* sums = image + g.padded * g.lanes
    cdef real* weights = sums + g.positions * g.lanes
    cdef real* bias = weights + g.taps * g.lanes
    g.offsets = <Py_ssize_t*>malloc((g.taps + g.cells) * sizeof(Py_ssize_t))
    if memory == NULL or g.offsets == NULL:
        free(memory)
        free(g.offsets)
        with gil:
            raise MemoryError("no memory for some channels, turned")
    g.places = g.offsets + g.taps
    lay_lanes(g)
    task = next_task(shares)
    while task != NULL:
        c = task[2]
        while c < task[3]:
            channels = min(g.lanes, task[3] - c)
            transpose(w + c * g.taps, g.taps, channels, g.taps, weights, g.lanes)
            for i in range(channels):
                bias[i] = b[c + i] if b != NULL else 0
            for n in range(task[0], task[1]):
                cells = x + n * x_step + c * channel_step
                to = y + n * y_steps[0] + c * y_steps[1]
                if real is float:
                    turn_cells_float(cells, channel_step, channels, g.cells, g.places, image)
                    sum_rows_of_lanes(g, image, weights, bias, sums)
                    turn_sums_float(sums, g.positions, channels, to, y_steps[1])
                else:
                    turn_cells_double(cells, channel_step, channels, g.cells, g.places, image)
                    sum_rows_of_lanes(g, image, weights, bias, sums)
                    turn_sums_double(sums, g.positions, channels, to, y_steps[1])
            c += channels
        task = next_task(shares)
    free(memory)
    free(g.offsets)
    return 0
