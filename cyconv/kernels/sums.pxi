# Sums over the middle axis of three, which the gradient of a bias is: see sums.h.

cdef extern from "sums.h" nogil:
    double sum_cells_float(const float* x, Py_ssize_t n)
    double sum_cells_double(const double* x, Py_ssize_t n)
    void sum_rows_float(const float* x, Py_ssize_t step, Py_ssize_t rows, Py_ssize_t columns, double* sums)
    void sum_rows_double(const double* x, Py_ssize_t step, Py_ssize_t rows, Py_ssize_t columns, double* sums)


cdef void sum_box(
    const real* x, const Py_ssize_t* task, Py_ssize_t rows, Py_ssize_t columns, double* sums
) noexcept nogil:
    """Fill the sums of a task."""
    cdef Py_ssize_t i
    for i in range(task[0], task[1]):
        if rows == 0:
            zero(sums + i * columns + task[2], task[3] - task[2])
        elif columns == 1 and task[2] < task[3]:
            if real is float:
                sums[i] = sum_cells_float(x + i * rows, rows)
            else:
                sums[i] = sum_cells_double(x + i * rows, rows)
        else:
            if real is float:
                sum_rows_float(
                    x + i * rows * columns + task[2], columns, rows, task[3] - task[2],
                    sums + i * columns + task[2],
                )
            else:
                sum_rows_double(
                    x + i * rows * columns + task[2], columns, rows, task[3] - task[2],
                    sums + i * columns + task[2],
                )


cdef void sum_boxes(const real* x, const Array* shape, double* sums, const Shares* shares) noexcept nogil:
    cdef const Py_ssize_t* task = next_task(shares)
    while task != NULL:
        sum_box(x, task, shape.shape[1], shape.shape[2], sums)
        task = next_task(shares)


def sum_middle(
    x,
    sums,
    tasks=None,
    taken=None,
    bint rings=False,
    /,
):
    """Fill sums (a, c) with those of x (a, b, c) over b: all of them, or the tasks that are left to take,
    rows of (first a, last a, first c, last c)."""
    cdef Held held
    hold_nothing(&held)
    try:
        sum_middle_held(
            hold(&held, x, "x", 3, READ | CONTIGUOUS), hold_some(&held, sums, "sums", 2, FILL | CONTIGUOUS, b"d", "float64"),
            hold_table(&held, tasks, "tasks", READ | OR_NONE), hold_counters(&held, taken, "taken", 1, FILL | OR_NONE),
            rings,
        )
    finally:
        let_go(&held)


cdef int sum_middle_held(
    const Array* x, const Array* sums, const Array* tasks, long long* taken, bint rings
) except -1:
    if sums.shape[0] != x.shape[0] or sums.shape[1] != x.shape[2]:
        raise ValueError(f"sums must be ({x.shape[0]}, {x.shape[2]}), got ({sums.shape[0]}, {sums.shape[1]})")
    cdef Shares shares
    share(&shares, tasks, taken, rings, sums.shape[0], sums.shape[1])
    if sums.shape[0] == 0 or sums.shape[1] == 0:
        return 0
    with nogil:
        ring(rings)
        if x.itemsize == sizeof(float):
            sum_boxes(<const float*>x.cells, x, <double*>sums.cells, &shares)
        else:
            sum_boxes(<const double*>x.cells, x, <double*>sums.cells, &shares)
    return 0
