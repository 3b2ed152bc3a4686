# The weight gradient in place: the same microkernel, with positions for its taps.
#
#     dw[k, f] = sum over positions p of x[where tap k reads for p] * dy[p, f]
#
# For each position the microkernel loads the dy of some filters, from a transposed copy of a box of
# it, and adds them, times the cell that each of some taps reads there, to sums in registers. (It
# calls cells what here is dy, and weights what here are cells of the band.) So no columns are made,
# and padding, strides and gaps between rows are again only numbers in a table.
#
# A share is some of the tasks, summed in their order by whoever takes it; shares that sum over
# different positions have accumulators of their own, added in the end, in order.

cdef enum:
    # A share: the accumulator, and its tasks (start and stop). All are of one group and block of
    # channels, which stands where a forward task has filters.
    PART = 0
    TASKS = 1


cdef struct Step:
    # Of dy, in items.
    Py_ssize_t image, filter, depth, height, width


cdef void transpose_box(
    const real* dy, const Step* step, const Py_ssize_t* box, Py_ssize_t filters, real* turned, Py_ssize_t columns
) noexcept nogil:
    """turned (positions, columns) = a box of dy (filters, od, oh, ow), row by row unless these
    follow each other."""
    cdef Py_ssize_t d, h, w, OH = box[3] - box[2], OW = box[5] - box[4]
    cdef const real* plane
    for d in range(box[0], box[1]):
        plane = dy + d * step.depth + box[2] * step.height + box[4] * step.width
        if step.width != 1:  # channels last
            for h in range(OH):
                for w in range(OW):
                    memcpy(
                        turned + (h * OW + w) * columns, plane + h * step.height + w * step.width,
                        filters * sizeof(real),
                    )
        elif OW == step.height:
            transpose(plane, step.filter, filters, OH * OW, turned, columns)
        else:
            for h in range(OH):
                transpose(
                    plane + h * step.height, step.filter, filters, OW, turned + h * OW * columns, columns
                )
        turned += OH * OW * columns


cdef Py_ssize_t list_positions(
    const Py_ssize_t* box, Py_ssize_t depth_step, Py_ssize_t row_step, Py_ssize_t columns, Tap* positions
) noexcept nogil:
    """Where each position of a box is in the transposed copy of dy, and reads in the band."""
    cdef Py_ssize_t d, h, w, p = 0
    for d in range(box[1] - box[0]):
        for h in range(box[3] - box[2]):
            for w in range(box[5] - box[4]):
                positions[p].cell = p * columns
                positions[p].weight = d * depth_step + h * row_step + w
                p += 1
    repeat_last(positions, p)
    return p


cdef void add_products(
    const Tap* taps, Py_ssize_t rows, const real* cells, const Tap* positions, Py_ssize_t count,
    bint steady, const real* turned, Py_ssize_t columns, int add, real* sums
) noexcept nogil:
    """sums (rows, columns) = or += the sum over positions of the cells of each tap times dy. These are
    equal steps if `steady`."""
    cdef Py_ssize_t lanes = VECTOR_BYTES // sizeof(real)
    cdef Py_ssize_t vectors = columns // lanes, limit, tiles, tile, panel, panels, k, number, first, i
    cdef Py_ssize_t[MOST_ROWS] row_at
    panels = (rows + MOST_ROWS - 1) // MOST_ROWS
    limit = 2 * MOST_VECTORS if 2 * ((rows + panels - 1) // panels) <= MOST_ROWS else MOST_VECTORS
    tiles = (vectors + limit - 1) // limit
    for panel in range(panels):
        k = rows * panel // panels
        number = rows * (panel + 1) // panels - k
        for i in range(number):
            row_at[i] = taps[k + i].cell
        for tile in range(tiles):
            first = vectors * tile // tiles
            multiply_tile(
                <int>number, <int>(vectors * (tile + 1) // tiles - first), turned + first * lanes, positions,
                steady, count, cells, &row_at[0], <const real*>NULL, add, sums + k * columns + first * lanes,
                columns,
            )


cdef void sum_shares(
    Direct* g, const real* dy, const Step* step, const real* x, Py_ssize_t image_step, const Source* source,
    real* sums, Py_ssize_t parts_step, Py_ssize_t columns, Py_ssize_t filters, Py_ssize_t channels, Py_ssize_t taps,
    const Array* axes, const Array* tasks, const Array* shares,
    long long* progress, Tap* positions, real* memory
) noexcept nogil:
    """Do shares until there are none left to take. `channels` and `taps` are those of a group."""
    cdef Layout* band = &g.band
    cdef real* turned = memory + g.memory
    cdef const Py_ssize_t* task
    cdef const real* cells
    cdef Py_ssize_t i, first, rows, depth_step, row_step, count = 0
    cdef bint steady = False
    cdef long long t = cyconv_count(&progress[FIRST_TAKEN])
    while t < shares.shape[0]:
        first = at(shares, t, TASKS)
        for i in range(first, at(shares, t, TASKS + 1)):
            task = row_of(tasks, i)
            band.channels = task[FILTERS + 1] - task[FILTERS]
            cells = (
                x + task[IMAGE] * image_step
                + (task[GROUP] * channels + task[FILTERS]) * source.channel_step
            )
            if g.in_place:
                depth_step, row_step = source.depth_step, source.height_step
                cells += (
                    (task[BOX] - at(axes, 0, LOW)) * depth_step + (task[BOX + 2] - at(axes, 1, LOW)) * row_step
                    + task[BOX + 4] - at(axes, 2, LOW)
                )
            else:
                depth_step, row_step = band.axes[0].step, band.axes[1].step
                if i == first or not same_box(row_of(tasks, i - 1), task, BOX):
                    if not g.placed:
                        place_box(band, axes, task + BOX)
                    clear_margins(band, memory)
                fill(band, cells, source, memory)
                cells = memory
            if i == first or not same_box(row_of(tasks, i - 1), task, BOX):
                count = list_positions(task + BOX, depth_step, row_step, columns, positions)
                steady = are_steady(positions, count)
            transpose_box(
                dy + task[IMAGE] * step.image + task[GROUP] * filters * step.filter, step, task + BOX, filters,
                turned, columns,
            )
            rows = task[GROUP] * channels * taps + task[FILTERS] * taps
            add_products(
                g.taps, band.channels * taps, cells, positions, count, steady,
                turned, columns, i > first,
                sums + at(shares, t, PART) * parts_step + rows * columns,
            )
        cyconv_count(&progress[FIRST_DONE])
        t = cyconv_count(&progress[FIRST_TAKEN])


cdef void weight_grad(
    Direct* g, const real* dy, const Step* step, const real* x, Py_ssize_t image_step, const Source* source,
    real* sums, Py_ssize_t parts, Py_ssize_t columns, Py_ssize_t groups, Py_ssize_t filters, Py_ssize_t channels,
    real* dw, const Array* axes, const Array* tasks, const Array* shares,
    const Array* blocks, long long* progress, Tap* listed, real* memory, Py_ssize_t positions
) noexcept nogil:
    """Both phases, as far as there is something left to take. `positions` is the most of a box."""
    cdef Py_ssize_t taps = at(axes, 0, KERNEL) * at(axes, 1, KERNEL) * at(axes, 2, KERNEL), i, k, part, rows
    cdef Py_ssize_t part_step = groups * channels * taps * columns
    cdef real* total
    cdef long long t
    if columns > filters:
        zero(memory + g.memory, positions * columns)  # filters past the last are multiplied, too
    sum_shares(
        g, dy, step, x, image_step, source, sums, part_step, columns, filters, channels, taps, axes, tasks,
        shares, progress, listed, memory,
    )
    cyconv_wait_until(&progress[FIRST_DONE], shares.shape[0])
    t = cyconv_count(&progress[SECOND_TAKEN])
    while t < blocks.shape[0]:
        k = at(blocks, t, 0) * channels * taps + at(blocks, t, 1)
        rows = at(blocks, t, 2) - at(blocks, t, 1)
        total = sums + k * columns
        for part in range(1, parts):
            for i in range(rows * columns):
                total[i] += total[part * part_step + i]
        transpose(
            total, columns, rows, filters, dw + at(blocks, t, 0) * filters * channels * taps + at(blocks, t, 1),
            channels * taps,
        )
        t = cyconv_count(&progress[SECOND_TAKEN])


cdef Py_ssize_t most_positions(const Array* tasks) noexcept nogil:
    """The positions of the largest box."""
    cdef Py_ssize_t i, most = 0
    for i in range(tasks.shape[0]):
        most = max(
            most,
            (at(tasks, i, BOX + 1) - at(tasks, i, BOX)) * (at(tasks, i, BOX + 3) - at(tasks, i, BOX + 2))
            * (at(tasks, i, BOX + 5) - at(tasks, i, BOX + 4)),
        )
    return most


cdef int check_shares(
    const Array* tasks, const Array* shares, const Array* blocks,
    Py_ssize_t parts, Py_ssize_t groups, Py_ssize_t rows
) except -1:
    cdef Py_ssize_t i
    if shares.shape[1] != 3 or blocks.shape[1] != 3 or tasks.shape[0] == 0 or parts < 1:
        raise ValueError("shares and blocks must have three columns, and there must be tasks and a part")
    for i in range(shares.shape[0]):
        if not 0 <= at(shares, i, PART) < parts or not 0 <= at(shares, i, TASKS) < at(shares, i, TASKS + 1) <= tasks.shape[0]:
            raise ValueError(f"share {i} is of a part or of tasks that do not exist")
    for i in range(blocks.shape[0]):
        if not 0 <= at(blocks, i, 0) < groups or not 0 <= at(blocks, i, 1) < at(blocks, i, 2) <= rows:
            raise ValueError(f"block {i} is of rows that do not exist")
    return 0


def direct_weight_grad(
    dy,
    x,
    sums,
    dw,
    axes,
    Py_ssize_t groups,
    tasks,
    shares,
    blocks,
    progress,
    memory,
    bint rings=False,
    /,
):
    """Fill dw (F, C/groups * taps) from dy (n, F, od, oh, ow) and x (n, C, d, h, w): first shares are
    summed in sums (parts, C * taps, F/groups in whole vectors), then these added up and transposed,
    by blocks: group, and start and stop of its rows."""
    cdef Held held
    hold_nothing(&held)
    try:
        direct_weight_grad_held(
            hold(&held, dy, "dy", 5, READ), hold(&held, x, "x", 5, READ),
            hold(&held, sums, "sums", 3, FILL | CONTIGUOUS), hold(&held, dw, "dw", 1, FILL | CONTIGUOUS),
            hold_table(&held, axes, "axes"), groups, hold_table(&held, tasks, "tasks"),
            hold_table(&held, shares, "shares"), hold_table(&held, blocks, "blocks"),
            hold_counters(&held, progress, "progress", 3), hold(&held, memory, "memory", 1, FILL | CONTIGUOUS), rings,
        )
    finally:
        let_go(&held)


cdef int direct_weight_grad_held(
    const Array* dy, const Array* x, const Array* sums, const Array* dw, const Array* axes,
    Py_ssize_t groups, const Array* tasks, const Array* shares,
    const Array* blocks, long long* progress, const Array* memory, bint rings
) except -1:
    # As for a forward pass into an array that has channels where this one has filters.
    cdef Py_ssize_t[5] turned_shape = [x.shape[0], x.shape[1], dy.shape[2], dy.shape[3], dy.shape[4]]
    if dy.shape[0] != x.shape[0] or groups < 1 or dy.shape[1] < 1 or dy.shape[1] % groups:
        raise ValueError(f"dy and x do not fit, or {dy.shape[1]} filters do not make {groups} groups")
    check_direct(x.shape, 1, turned_shape, axes, NO_STEPS, tasks, groups)
    check_order(x, "x")
    check_order(dy, "dy")
    cdef Py_ssize_t size = x.itemsize, lanes = VECTOR_BYTES // size
    cdef Py_ssize_t channels = x.shape[1] // groups, filters = dy.shape[1] // groups, columns = sums.shape[2]
    cdef Py_ssize_t taps = at(axes, 0, KERNEL) * at(axes, 1, KERNEL) * at(axes, 2, KERNEL), most = 0, i
    cdef Py_ssize_t positions = most_positions(tasks)
    cdef double rows = x.shape[1] * <double>taps, weights = dy.shape[1] * <double>channels * taps
    if max(rows, weights) > MOST_ITEMS or sums.shape[1] != rows or columns < filters or columns % lanes:
        raise ValueError(f"sums must have shape (parts, {rows:.0f}, {filters} in steps of {lanes})")
    if dw.shape[0] != weights:
        raise ValueError(f"dw must have {weights:.0f} items, got {dw.shape[0]}")
    check_shares(tasks, shares, blocks, sums.shape[0], groups, channels * taps)
    for i in range(tasks.shape[0]):
        most = max(most, at(tasks, i, FILTERS + 1) - at(tasks, i, FILTERS))
    cdef Source source = source_of(x)
    cdef Source from_dy = source_of(dy)
    cdef Step step = [
        dy.steps[0], from_dy.channel_step, from_dy.depth_step, from_dy.height_step, from_dy.column_step
    ]
    cdef Direct g
    lay_out_direct(&g, axes, tasks, NO_STEPS, most, 0, &source, size)
    cdef double items = g.memory + positions * <double>columns
    if memory.shape[0] < items:
        free(g.taps)
        raise ValueError(f"memory must have {items:.0f} items, got {memory.shape[0]}")
    cdef Tap* listed = <Tap*>malloc((positions + AHEAD) * sizeof(Tap))
    if listed == NULL:
        free(g.taps)
        raise MemoryError("no memory for a list of positions")
    with nogil:
        ring(rings)
        if size == sizeof(float):
            weight_grad(
                &g, <const float*>dy.cells, &step, <const float*>x.cells, x.steps[0], &source, <float*>sums.cells,
                sums.shape[0], columns, groups, filters, channels, <float*>dw.cells, axes, tasks, shares, blocks,
                progress, listed, <float*>memory.cells, positions,
            )
        else:
            weight_grad(
                &g, <const double*>dy.cells, &step, <const double*>x.cells, x.steps[0], &source, <double*>sums.cells,
                sums.shape[0], columns, groups, filters, channels, <double*>dw.cells, axes, tasks, shares, blocks,
                progress, listed, <double*>memory.cells, positions,
            )
    free(g.taps)
    free(listed)
    return 0
