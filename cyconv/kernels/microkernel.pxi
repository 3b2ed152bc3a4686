# The microkernel of simd.h for either type, and what stands beside it there. From rows of weights and
# runs of cells it makes a tile of sums, tap by tap, in registers. direct.pxi has it read the image, and
# winograd_blocks.pxi transformed tiles.

cdef extern from "simd.h" nogil:
    enum:
        MOST_ROWS
        MOST_VECTORS
        AHEAD
        CACHE_LINE
    ctypedef struct Tap:
        Py_ssize_t cell, weight
    void multiply_tile_float(
        int rows, int vectors, const float* x, const Tap* taps, bint steady, Py_ssize_t count,
        const float* weights,
        const Py_ssize_t* row_at, const float* bias, int add, float* y, Py_ssize_t y_step)
    void multiply_tile_double(
        int rows, int vectors, const double* x, const Tap* taps, bint steady, Py_ssize_t count,
        const double* weights,
        const Py_ssize_t* row_at, const double* bias, int add, double* y, Py_ssize_t y_step)
    void fetch_rows_float(const float* x, Py_ssize_t items)
    void fetch_rows_double(const double* x, Py_ssize_t items)
    void fetch_starts_float(const float* x, Py_ssize_t step, Py_ssize_t rows)
    void fetch_starts_double(const double* x, Py_ssize_t step, Py_ssize_t rows)
    void fetch_tile_float(const float* y, Py_ssize_t y_step, int rows, int vectors)
    void fetch_tile_double(const double* y, Py_ssize_t y_step, int rows, int vectors)
    void transpose_float(
        const float* a, Py_ssize_t a_step, Py_ssize_t rows, Py_ssize_t columns, float* to, Py_ssize_t to_step)
    void transpose_double(
        const double* a, Py_ssize_t a_step, Py_ssize_t rows, Py_ssize_t columns, double* to,
        Py_ssize_t to_step)


cdef inline void multiply_tile(
    int rows, int vectors, const real* x, const Tap* taps, bint steady, Py_ssize_t count, const real* weights,
    const Py_ssize_t* row_at, const real* bias, int add, real* y, Py_ssize_t y_step
) noexcept nogil:
    if real is float:
        multiply_tile_float(rows, vectors, x, taps, steady, count, weights, row_at, bias, add, y, y_step)
    else:
        multiply_tile_double(rows, vectors, x, taps, steady, count, weights, row_at, bias, add, y, y_step)


cdef bint are_steady(const Tap* taps, Py_ssize_t count) noexcept nogil:
    """Whether taps are equal steps, as the channels' of 1x1 are."""
    cdef Py_ssize_t i
    for i in range(2, count):
        if (
            taps[i].cell - taps[i - 1].cell != taps[1].cell - taps[0].cell
            or taps[i].weight - taps[i - 1].weight != taps[1].weight - taps[0].weight
        ):
            return False
    return True


cdef inline void repeat_last(Tap* taps, Py_ssize_t count) noexcept nogil:
    """Taps that the microkernel fetches, but does not use."""
    cdef Py_ssize_t i
    for i in range(AHEAD):
        taps[count + i] = taps[count - 1]


cdef inline void equal_steps(Py_ssize_t step, Py_ssize_t* row_at) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(MOST_ROWS):
        row_at[i] = i * step


cdef inline void transpose(
    const real* a, Py_ssize_t a_step, Py_ssize_t rows, Py_ssize_t columns, real* to, Py_ssize_t to_step
) noexcept nogil:
    """to (columns, rows) = a (rows, columns)."""
    if real is float:
        transpose_float(a, a_step, rows, columns, to, to_step)
    else:
        transpose_double(a, a_step, rows, columns, to, to_step)


cdef inline void fetch_starts(const real* x, Py_ssize_t step, Py_ssize_t rows) noexcept nogil:
    if real is float:
        fetch_starts_float(x, step, rows)
    else:
        fetch_starts_double(x, step, rows)


cdef inline void fetch_rows(const real* x, Py_ssize_t items) noexcept nogil:
    if real is float:
        fetch_rows_float(x, items)
    else:
        fetch_rows_double(x, items)


cdef inline void fetch_tile(const real* y, Py_ssize_t y_step, int rows, int vectors) noexcept nogil:
    if real is float:
        fetch_tile_float(y, y_step, rows, vectors)
    else:
        fetch_tile_double(y, y_step, rows, vectors)
