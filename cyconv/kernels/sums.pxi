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


def sum_middle(
    const real[:, :, ::1] x not None,
    double[:, ::1] sums not None,
    const Py_ssize_t[:, ::1] tasks=None,
    long long[::1] taken=None,
    bint rings=False,
    /,
):
    """Fill sums (a, c) with those of x (a, b, c) over b: all of them, or the tasks that are left to take,
    rows of (first a, last a, first c, last c)."""
    cdef Py_ssize_t rows = x.shape[1], columns = x.shape[2]
    cdef Py_ssize_t[4] everything = [0, x.shape[0], 0, columns]
    cdef long long none = 0
    cdef Shares shares = [&everything[0], 1, &none, False]
    cdef const Py_ssize_t* task
    if sums.shape[0] != x.shape[0] or sums.shape[1] != columns:
        raise ValueError(f"sums must be ({x.shape[0]}, {columns}), got ({sums.shape[0]}, {sums.shape[1]})")
    share(&shares, tasks, taken, rings, x.shape[0], columns)
    if sums.shape[0] == 0 or columns == 0:
        return
    with nogil:
        ring(rings)
        task = next_task(&shares)
        while task != NULL:
            sum_box(&x[0, 0, 0] if rows else NULL, task, rows, columns, &sums[0, 0])
            task = next_task(&shares)
