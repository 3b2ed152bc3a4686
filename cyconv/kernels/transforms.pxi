# Winograd's transforms for either type, and the taps of filters in the lanes of vectors: what both
# of its roads share.
#
# A tile is 4x4 outputs, computed from 6x6 inputs through 36 products instead of 144:
#
#     y = A^T [ (G w G^T) * (B^T x B) ] A
#
# (Lavin, Gray: Fast Algorithms for Convolutional Neural Networks, 2015, section 4.1). The matrices
# follow from interpolation at the points 0, +-1/sqrt(2), +-sqrt(2) and infinity; with these, rather
# than the customary 0, +-1, +-2, the float32 error is a quarter. Points of opposite sign share their
# even and odd halves, which is what the one-dimensional transforms of winograd.h spell out.
#
# Each transforms WIDE tiles or filters, side by side. Cells of a tile are `row` and `column` apart,
# transformed ones `plane`; of a transformed filter too.

cdef extern from "winograd.h" nogil:
    enum:
        WIDE
    void input_tile_float(
        const float* a, Py_ssize_t row, Py_ssize_t column, float* to, Py_ssize_t to_row, Py_ssize_t to_column,
        const float* bias)
    void input_tile_double(
        const double* a, Py_ssize_t row, Py_ssize_t column, double* to, Py_ssize_t to_row, Py_ssize_t to_column,
        const double* bias)
    void output_tile_float(
        const float* a, Py_ssize_t row, Py_ssize_t column, float* to, Py_ssize_t to_row, Py_ssize_t to_column,
        const float* bias)
    void output_tile_double(
        const double* a, Py_ssize_t row, Py_ssize_t column, double* to, Py_ssize_t to_row, Py_ssize_t to_column,
        const double* bias)
    void output_grad_tile_float(
        const float* a, Py_ssize_t row, Py_ssize_t column, float* to, Py_ssize_t to_row, Py_ssize_t to_column,
        const float* bias)
    void output_grad_tile_double(
        const double* a, Py_ssize_t row, Py_ssize_t column, double* to, Py_ssize_t to_row, Py_ssize_t to_column,
        const double* bias)
    void weight_tile_float(
        const float* a, Py_ssize_t row, Py_ssize_t column, float* to, Py_ssize_t to_row, Py_ssize_t to_column,
        const float* bias)
    void weight_tile_double(
        const double* a, Py_ssize_t row, Py_ssize_t column, double* to, Py_ssize_t to_row, Py_ssize_t to_column,
        const double* bias)
    void weight_grad_tile_float(
        const float* a, Py_ssize_t row, Py_ssize_t column, float* to, Py_ssize_t to_row, Py_ssize_t to_column,
        const float* bias)
    void weight_grad_tile_double(
        const double* a, Py_ssize_t row, Py_ssize_t column, double* to, Py_ssize_t to_row, Py_ssize_t to_column,
        const double* bias)


cdef inline void input_tile(
    const real* x, Py_ssize_t row, Py_ssize_t column, real* u, Py_ssize_t plane
) noexcept nogil:
    """u (36) = B^T x B for x (6, 6)."""
    if real is float:
        input_tile_float(x, row, column, u, 6 * plane, plane, NULL)
    else:
        input_tile_double(x, row, column, u, 6 * plane, plane, NULL)


cdef inline void output_tile(
    const real* m, Py_ssize_t plane, real* y, Py_ssize_t row, Py_ssize_t column, const real* bias
) noexcept nogil:
    """y (4, 4) = A^T m A + bias for m (36); bias (WIDE) may be NULL."""
    if real is float:
        output_tile_float(m, 6 * plane, plane, y, row, column, bias)
    else:
        output_tile_double(m, 6 * plane, plane, y, row, column, bias)


cdef inline void output_grad_tile(
    const real* dy, Py_ssize_t row, Py_ssize_t column, real* d, Py_ssize_t plane
) noexcept nogil:
    """d (36) = A dy A^T for dy (4, 4)."""
    if real is float:
        output_grad_tile_float(dy, row, column, d, 6 * plane, plane, NULL)
    else:
        output_grad_tile_double(dy, row, column, d, 6 * plane, plane, NULL)


cdef inline void weight_tile(
    const real* w, Py_ssize_t row, Py_ssize_t column, real* v, Py_ssize_t plane
) noexcept nogil:
    """v (36) = G w G^T for w (3, 3)."""
    if real is float:
        weight_tile_float(w, row, column, v, 6 * plane, plane, NULL)
    else:
        weight_tile_double(w, row, column, v, 6 * plane, plane, NULL)


cdef inline void weight_grad_tile(const real* sums, Py_ssize_t plane, real* dw) noexcept nogil:
    """dw (9, WIDE) = G^T sums G for sums (36)."""
    if real is float:
        weight_grad_tile_float(sums, 6 * plane, plane, dw, 3 * WIDE, WIDE, NULL)
    else:
        weight_grad_tile_double(sums, 6 * plane, plane, dw, 3 * WIDE, WIDE, NULL)


cdef inline bint in_order(const Filters* steps, Py_ssize_t sign) noexcept nogil:
    """Whether the nine taps of a filter's channel follow each other, forwards or backwards."""
    return steps.column_step == sign and steps.row_step == 3 * sign


cdef inline void turn_taps(
    const real* w, const Filters* steps, Py_ssize_t step, Py_ssize_t count, real* taps
) noexcept nogil:
    """taps (9, WIDE): those of `count` filters, or channels of one, that are `step` apart. Backwards
    where they are so in memory."""
    cdef Py_ssize_t i, lane
    if in_order(steps, 1):
        transpose(w, step, count, 9, taps, WIDE)
    elif in_order(steps, -1):
        transpose(w - 8, step, count, 9, taps, WIDE)
    else:
        for i in range(9):
            for lane in range(count):
                taps[i * WIDE + lane] = w[lane * step + i // 3 * steps.row_step + i % 3 * steps.column_step]


cdef inline void transform_taps(const real* taps, const Filters* steps, real* v, Py_ssize_t plane) noexcept nogil:
    """v (36) = G w G^T for what turn_taps made of w."""
    if in_order(steps, -1):
        weight_tile(taps + 8 * WIDE, -3 * WIDE, -WIDE, v, plane)
    else:
        weight_tile(taps, 3 * WIDE, WIDE, v, plane)


cdef inline void turn_taps_back(
    const real* taps, Py_ssize_t count, real* w, const Filters* steps, Py_ssize_t step
) noexcept nogil:
    """Write taps (9, WIDE) to `count` filters, or channels of one, that are `step` apart."""
    cdef Py_ssize_t i, lane
    if in_order(steps, 1):
        transpose(taps, WIDE, 9, count, w, step)
    else:
        for i in range(9):
            for lane in range(count):
                w[lane * step + i // 3 * steps.row_step + i % 3 * steps.column_step] = taps[i * WIDE + lane]
