# im2col and col2im: an image as the columns of a matrix, and back.
#
# Row (c, kd, kh, kw) of the columns holds, for each output position (n, od, oh, ow), the input cell
# that tap (kd, kh, kw) reads there in channel c, or zero where that cell lies in the padding. A tile
# of the output is a convolution of its own, with a smaller output and a shifted low pad, so these
# kernels know nothing of tiles. Along W, a run of cells inside the image is handled as a run; the
# few outputs of a row that fall into the padding stand before `lo` and after `hi`.
#
# `axes` has a row an axis of size, kernel, stride, dilation, low pad, output (Geometry.axes).

cdef enum:
    SIZE = 0
    KERNEL = 1
    STRIDE = 2
    DILATION = 3
    LOW = 4
    OUTPUT = 5


cdef inline Py_ssize_t first_inside(Py_ssize_t start, Py_ssize_t limit, Py_ssize_t stride) noexcept nogil:
    """How many of the positions start, start + stride, ... lie below limit: ceil, without overflow."""
    return (limit - start - 1) // stride + 1 if limit > start else 0


cdef inline void gather(
    const real* cells, real* row, Py_ssize_t lo, Py_ssize_t hi, Py_ssize_t count, Py_ssize_t stride
) noexcept nogil:
    """row[i] = cells[i * stride] for lo <= i < hi, and zero beside."""
    cdef Py_ssize_t i
    for i in range(lo):
        row[i] = 0
    if stride == 1:
        for i in range(lo, hi):
            row[i] = cells[i]
    elif stride == 2:
        for i in range(lo, hi):
            row[i] = cells[2 * i]
    else:
        for i in range(lo, hi):
            row[i] = cells[i * stride]
    for i in range(hi, count):
        row[i] = 0


cdef inline void scatter(
    const real* row, real* cells, Py_ssize_t lo, Py_ssize_t hi, Py_ssize_t stride
) noexcept nogil:
    """cells[i * stride] += row[i] for lo <= i < hi."""
    cdef Py_ssize_t i
    if stride == 1:
        for i in range(lo, hi):
            cells[i] += row[i]
    else:
        for i in range(lo, hi):
            cells[i * stride] += row[i]


cdef int check_lowering(
    Py_ssize_t[5] x, Py_ssize_t[2] cols, const Py_ssize_t[:, ::1] axes
) except -1:
    """The cheap part of what the public face has checked, for those who call the kernels."""
    if axes.shape[0] != 3 or axes.shape[1] != 6:
        raise ValueError("axes must have shape (3, 6)")
    cdef Py_ssize_t a, taps = 1, positions = 1
    for a in range(3):
        if x[2 + a] != axes[a, SIZE]:
            raise ValueError(f"x must have size {axes[a, SIZE]} along spatial axis {a}, got {x[2 + a]}")
        if axes[a, KERNEL] < 1 or axes[a, STRIDE] < 1 or axes[a, DILATION] < 1 or axes[a, OUTPUT] < 1:
            raise ValueError(f"kernel, stride, dilation and output must be at least 1 along axis {a}")
        taps *= axes[a, KERNEL]
        positions *= axes[a, OUTPUT]
    if cols[0] != x[1] * taps or cols[1] != x[0] * positions:
        raise ValueError(
            f"cols must have shape ({x[1] * taps}, {x[0] * positions}), got ({cols[0]}, {cols[1]})"
        )
    return 0


def im2col(
    const real[:, :, :, :, :] x not None,
    real[:, ::1] cols not None,
    const Py_ssize_t[:, ::1] axes not None,
):
    """Write the columns of x (n, c, d, h, w) into cols (c * taps, n * positions)."""
    cdef Py_ssize_t[5] x_shape = [x.shape[0], x.shape[1], x.shape[2], x.shape[3], x.shape[4]]
    cdef Py_ssize_t[2] cols_shape = [cols.shape[0], cols.shape[1]]
    check_lowering(x_shape, cols_shape, axes)
    if x.strides[4] != sizeof(real) and x.shape[4] > 1:
        raise ValueError("x must be contiguous along its last axis")
    cdef Py_ssize_t OD = axes[0, OUTPUT], OH = axes[1, OUTPUT], OW = axes[2, OUTPUT]
    cdef Py_ssize_t stride = axes[2, STRIDE]
    cdef Py_ssize_t n, c, kd, kh, kw, od, oh, lo, hi, d, h, w, k = 0
    cdef real* row
    with nogil:
        for c in range(x.shape[1]):
            for kd in range(axes[0, KERNEL]):
                for kh in range(axes[1, KERNEL]):
                    for kw in range(axes[2, KERNEL]):
                        row = &cols[k, 0]
                        k += 1
                        w = kw * axes[2, DILATION] - axes[2, LOW]
                        lo = min(OW, first_inside(w, 0, stride))
                        hi = max(lo, min(OW, first_inside(w, axes[2, SIZE], stride)))
                        if lo == hi:
                            w = 0  # this tap reads padding only: form no pointer far outside
                        for n in range(x.shape[0]):
                            for od in range(OD):
                                d = od * axes[0, STRIDE] - axes[0, LOW] + kd * axes[0, DILATION]
                                for oh in range(OH):
                                    h = oh * axes[1, STRIDE] - axes[1, LOW] + kh * axes[1, DILATION]
                                    if 0 <= d < axes[0, SIZE] and 0 <= h < axes[1, SIZE]:
                                        gather(&x[n, c, d, h, 0] + w, row, lo, hi, OW, stride)
                                    else:
                                        gather(NULL, row, 0, 0, OW, 1)
                                    row += OW


def col2im(
    const real[:, ::1] cols not None,
    real[:, :, :, :, :] x not None,
    const Py_ssize_t[:, ::1] axes not None,
):
    """Add each cell of cols (c * taps, n * positions) to the cell of x (n, c, d, h, w) that it
    came from: the adjoint of im2col."""
    cdef Py_ssize_t[5] x_shape = [x.shape[0], x.shape[1], x.shape[2], x.shape[3], x.shape[4]]
    cdef Py_ssize_t[2] cols_shape = [cols.shape[0], cols.shape[1]]
    check_lowering(x_shape, cols_shape, axes)
    if x.strides[4] != sizeof(real) and x.shape[4] > 1:
        raise ValueError("x must be contiguous along its last axis")
    cdef Py_ssize_t OD = axes[0, OUTPUT], OH = axes[1, OUTPUT], OW = axes[2, OUTPUT]
    cdef Py_ssize_t stride = axes[2, STRIDE]
    cdef Py_ssize_t n, c, kd, kh, kw, od, oh, lo, hi, d, h, w, k = 0
    cdef const real* row
    with nogil:
        for c in range(x.shape[1]):
            for kd in range(axes[0, KERNEL]):
                for kh in range(axes[1, KERNEL]):
                    for kw in range(axes[2, KERNEL]):
                        row = &cols[k, 0]
                        k += 1
                        w = kw * axes[2, DILATION] - axes[2, LOW]
                        lo = min(OW, first_inside(w, 0, stride))
                        hi = max(lo, min(OW, first_inside(w, axes[2, SIZE], stride)))
                        if lo == hi:
                            w = 0  # this tap reads padding only: form no pointer far outside
                        for n in range(x.shape[0]):
                            for od in range(OD):
                                d = od * axes[0, STRIDE] - axes[0, LOW] + kd * axes[0, DILATION]
                                for oh in range(OH):
                                    h = oh * axes[1, STRIDE] - axes[1, LOW] + kh * axes[1, DILATION]
                                    if 0 <= d < axes[0, SIZE] and 0 <= h < axes[1, SIZE]:
                                        scatter(row, &x[n, c, d, h, 0] + w, lo, hi, stride)
                                    row += OW
