# Winograd's transforms for either type, and the taps of filters in the lanes of vectors: what both
# of its roads share.
#
# A tile is 4x4 outputs. For a 3x3 kernel it is computed from 6x6 inputs through 36 products instead of
# 144, for a 4x4 kernel from 7x7 inputs through 49 instead of 256:
#
#     y = A^T [ (G w G^T) * (B^T x B) ] A
#
# (Lavin, Gray: Fast Algorithms for Convolutional Neural Networks, 2015, section 4.1). The matrices
# follow from interpolation at as many points as a tile has cells in a row: 0, +-1/sqrt(2), +-sqrt(2) and
# infinity; with these, rather than the customary 0, +-1, +-2, the float32 error is a quarter. Or
# +-sqrt(0.1), +-sqrt(0.7), +-sqrt(3) and infinity: among the most accurate of 600 tried, with one and a
# half times that error. Points of opposite sign share their even and odd halves, which is what the
# one-dimensional transforms of winograd.h spell out.
#
# With stride 2 (of 3x3 kernels) the even cells of a row meet the first and last of three taps, at five
# points, +-sqrt(0.15), +-sqrt(1.5) and infinity, and the odd cells meet the second as they are, at four:
# nine in a row, 81 products for 144. A filter has six in a row, the last of which meets those four; so
# weights are 6 x 6 where points are 9 x 9. Of the input gradient it is the outputs that are even or
# odd, counted with the pad: 8x8 of them, from an odd one on, take 5x5 cells of dy.
#
# Each transforms WIDE tiles or filters, side by side. Cells of a tile are `row` and `column` apart,
# transformed ones `plane`; of a transformed filter too.

cdef extern from "winograd.h" nogil:
    void input_tile_float(
        int kind, const float* a, Py_ssize_t row, Py_ssize_t column, float* to, Py_ssize_t to_row,
        Py_ssize_t to_column, const float* bias)
    void input_tile_double(
        int kind, const double* a, Py_ssize_t row, Py_ssize_t column, double* to, Py_ssize_t to_row,
        Py_ssize_t to_column, const double* bias)
    void output_tile_float(
        int kind, const float* a, Py_ssize_t row, Py_ssize_t column, float* to, Py_ssize_t to_row,
        Py_ssize_t to_column, const float* bias)
    void output_tile_double(
        int kind, const double* a, Py_ssize_t row, Py_ssize_t column, double* to, Py_ssize_t to_row,
        Py_ssize_t to_column, const double* bias)
    void output_grad_tile_float(
        int kind, const float* a, Py_ssize_t row, Py_ssize_t column, float* to, Py_ssize_t to_row,
        Py_ssize_t to_column, const float* bias)
    void output_grad_tile_double(
        int kind, const double* a, Py_ssize_t row, Py_ssize_t column, double* to, Py_ssize_t to_row,
        Py_ssize_t to_column, const double* bias)
    void weight_tile_float(
        int kind, const float* a, Py_ssize_t row, Py_ssize_t column, float* to, Py_ssize_t to_row,
        Py_ssize_t to_column, const float* bias)
    void weight_tile_double(
        int kind, const double* a, Py_ssize_t row, Py_ssize_t column, double* to, Py_ssize_t to_row,
        Py_ssize_t to_column, const double* bias)
    void weight_grad_tile_float(
        int kind, const float* a, Py_ssize_t row, Py_ssize_t column, float* to, Py_ssize_t to_row,
        Py_ssize_t to_column, const float* bias)
    void weight_grad_tile_double(
        int kind, const double* a, Py_ssize_t row, Py_ssize_t column, double* to, Py_ssize_t to_row,
        Py_ssize_t to_column, const double* bias)


cdef enum:
    MOST_TAPS = 16  # with 4x4 kernels


cdef inline void input_tile(
    int kind, const real* x, Py_ssize_t row, Py_ssize_t column, real* u, Py_ssize_t plane
) noexcept nogil:
    """u (points * points) = B^T x B for x (cells, cells)."""
    cdef Py_ssize_t plane_row = points_of(kind) * plane
    if real is float:
        input_tile_float(kind, x, row, column, u, plane_row, plane, NULL)
    else:
        input_tile_double(kind, x, row, column, u, plane_row, plane, NULL)


cdef inline void output_tile(
    int kind, const real* m, Py_ssize_t plane, real* y, Py_ssize_t row, Py_ssize_t column, const real* bias
) noexcept nogil:
    """y (cells, cells) = A^T m A + bias for m (points * points); bias (WIDE) may be NULL."""
    cdef Py_ssize_t plane_row = points_of(kind) * plane
    if real is float:
        output_tile_float(kind, m, plane_row, plane, y, row, column, bias)
    else:
        output_tile_double(kind, m, plane_row, plane, y, row, column, bias)


cdef inline void output_grad_tile(
    int kind, const real* dy, Py_ssize_t row, Py_ssize_t column, real* d, Py_ssize_t plane
) noexcept nogil:
    """d (points * points) = A dy A^T for dy (4, 4)."""
    cdef Py_ssize_t plane_row = points_of(kind) * plane
    if real is float:
        output_grad_tile_float(kind, dy, row, column, d, plane_row, plane, NULL)
    else:
        output_grad_tile_double(kind, dy, row, column, d, plane_row, plane, NULL)


cdef inline void weight_tile(
    int kind, const real* w, Py_ssize_t row, Py_ssize_t column, real* v, Py_ssize_t plane
) noexcept nogil:
    """v (weights * weights) = G w G^T for w (side, side)."""
    cdef Py_ssize_t plane_row = weights_of(kind) * plane
    if real is float:
        weight_tile_float(kind, w, row, column, v, plane_row, plane, NULL)
    else:
        weight_tile_double(kind, w, row, column, v, plane_row, plane, NULL)


cdef inline void weight_grad_tile(
    int kind, const real* sums, Py_ssize_t plane, real* dw
) noexcept nogil:
    """dw (side * side, WIDE) = G^T sums G for sums (weights * weights)."""
    cdef Py_ssize_t plane_row = weights_of(kind) * plane
    if real is float:
        weight_grad_tile_float(kind, sums, plane_row, plane, dw, (weights_of(kind) - 3) * WIDE, WIDE, NULL)
    else:
        weight_grad_tile_double(kind, sums, plane_row, plane, dw, (weights_of(kind) - 3) * WIDE, WIDE, NULL)


cdef inline bint in_order(const Filters* steps, Py_ssize_t sign) noexcept nogil:
    """Whether the taps of a filter's channel follow each other, forwards or backwards."""
    return steps.column_step == sign and steps.row_step == steps.side * sign


cdef inline void turn_taps(
    const real* w, const Filters* steps, Py_ssize_t count, Py_ssize_t channels, real* taps
) noexcept nogil:
    """taps (channels * side * side, WIDE): those of `count` filters, and of several channels only where all
    lie one after another. Backwards where they are so in memory."""
    cdef Py_ssize_t side = steps.side, step = steps.filter_step, number = side * side, i, lane
    if in_order(steps, 1):
        transpose(w, step, count, channels * number, taps, WIDE)
    elif in_order(steps, -1):
        transpose(w - (number - 1), step, count, number, taps, WIDE)
    else:
        for i in range(number):
            for lane in range(count):
                taps[i * WIDE + lane] = w[
                    lane * step + i // side * steps.row_step + i % side * steps.column_step
                ]


cdef inline void transform_taps(const real* taps, const Filters* steps, real* v, Py_ssize_t plane) noexcept nogil:
    """v (weights * weights) = G w G^T for what turn_taps made of w."""
    cdef Py_ssize_t row = steps.side * WIDE, column = WIDE
    if in_order(steps, -1):
        weight_tile(steps.kind, taps + steps.side * row - column, -row, -column, v, plane)
    else:
        weight_tile(steps.kind, taps, row, column, v, plane)


cdef inline void turn_taps_back(
    const real* taps, Py_ssize_t count, real* w, const Filters* steps
) noexcept nogil:
    """Write taps (side * side, WIDE) to `count` filters."""
    cdef Py_ssize_t side = steps.side, step = steps.filter_step, i, lane
    if in_order(steps, 1):
        transpose(taps, WIDE, side * side, count, w, step)
    else:
        for i in range(side * side):
            for lane in range(count):
                w[lane * step + i // side * steps.row_step + i % side * steps.column_step] = taps[i * WIDE + lane]
