# Winograd's tiles and filters in memory, and checks: what both of its roads share.

cdef enum:
    LANES = 16


cdef struct Grid:
    # Where tiles stand in an array (n, c, 1, H, W), in items: t = (n * TH + th) * TW + tw.
    # Either columns follow each other (column_step 1), or channels do (channel_step 1).
    Py_ssize_t H, W, low_h, low_w, TH, TW, image_step, channel_step, row_step, column_step


cdef inline Grid grid_of(const real[:, :, :, :, :] x, const Py_ssize_t[:, ::1] axes, bint output) noexcept:
    """Where tiles stand in x or, if `output`, in y."""
    cdef Py_ssize_t size = sizeof(real)
    cdef Grid g
    g.H, g.W = x.shape[3], x.shape[4]
    g.low_h, g.low_w = 0 if output else axes[1, LOW], 0 if output else axes[2, LOW]
    g.TH, g.TW = (axes[1, OUTPUT] + 3) // 4, (axes[2, OUTPUT] + 3) // 4
    g.image_step, g.channel_step, g.row_step = x.strides[0] // size, x.strides[1] // size, x.strides[3] // size
    g.column_step = x.strides[4] // size if g.W > 1 else 1
    return g


cdef struct Filters:
    # Where the taps of w (F, C, 3, 3) stand, in items.
    Py_ssize_t filter_step, channel_step, row_step, column_step


cdef inline Filters filters_of(const real[:, :, :, :] w) noexcept:
    cdef Py_ssize_t size = sizeof(real)
    return Filters(w.strides[0] // size, w.strides[1] // size, w.strides[2] // size, w.strides[3] // size)


cdef inline void zero(real* v, Py_ssize_t count) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(count):
        v[i] = 0


cdef int check_winograd(
    Py_ssize_t[5] x, Py_ssize_t[3] u, const Py_ssize_t[:, ::1] axes, Py_ssize_t first, Py_ssize_t tiles,
    bint output
) except -1:
    """The cheap part of what the public face has checked, for those who call the kernels."""
    if axes.shape[0] != 3 or axes.shape[1] != 6:
        raise ValueError("axes must have shape (3, 6)")
    cdef Py_ssize_t a, which = OUTPUT if output else SIZE
    for a in range(3):
        if x[2 + a] != axes[a, which] or axes[a, OUTPUT] < 1:
            raise ValueError(f"the array must have size {axes[a, which]} along spatial axis {a}, got {x[2 + a]}")
        if axes[a, KERNEL] != (3 if a else 1) or axes[a, STRIDE] != 1 or axes[a, DILATION] != 1:
            raise ValueError("Winograd needs a 3x3 kernel, stride 1 and dilation 1")
    if axes[0, OUTPUT] != 1 or axes[0, SIZE] != 1 or axes[0, LOW] != 0:
        raise ValueError("Winograd needs two spatial axes")
    if u[0] != 36 or u[1] != x[1] or u[2] % LANES or not 0 <= tiles <= u[2]:
        raise ValueError(f"transformed tiles must have shape (36, {x[1]}, tiles in steps of {LANES})")
    if first < 0 or first + tiles > x[0] * ((axes[1, OUTPUT] + 3) // 4) * ((axes[2, OUTPUT] + 3) // 4):
        raise ValueError("there are not so many tiles")
    return 0


cdef int check_lanes(Py_ssize_t row_step, Py_ssize_t columns, Py_ssize_t rows, Py_ssize_t itemsize) except -1:
    if row_step != columns * itemsize and rows > 1:
        raise ValueError("the rows of transformed tiles must follow each other")
    return 0


cdef int check_rows(
    Py_ssize_t step, Py_ssize_t size, Py_ssize_t u_step, Py_ssize_t u_size, Py_ssize_t itemsize
) except -1:
    if (step != itemsize and size > 1) or (u_step != itemsize and u_size > 1):
        raise ValueError("arrays must be contiguous along their last axis")
    return 0
