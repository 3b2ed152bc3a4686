# Winograd's tiles and filters in memory, and checks: what both of its roads share.

cdef struct Grid:
    # Where tiles stand in an array (images, c, D, H, W), in items: t = (n * TH + th) * TW + tw, for
    # the n-th plane of the output: of an image, or of a volume, whose planes are many.
    # Either columns follow each other (column_step 1), or channels do (channel_step 1).
    Py_ssize_t D, H, W, low_d, low_h, low_w, planes, dilation, TH, TW
    Py_ssize_t image_step, channel_step, plane_step, row_step, column_step
    int points  # cells of a row of a tile of x, and points of interpolation


cdef inline bint is_side(Py_ssize_t height, Py_ssize_t width) noexcept nogil:
    """Whether there are transforms for kernels with such planes."""
    return height == width and 3 <= height <= 4


cdef inline int points_of(Py_ssize_t side) noexcept nogil:
    """Of interpolation, for 4 outputs in a row."""
    return <int>side + 3


cdef inline Grid grid_of(const real[:, :, :, :, :] x, const Py_ssize_t[:, ::1] axes, bint output) noexcept:
    """Where tiles stand in x or, if `output`, in y."""
    cdef Py_ssize_t size = sizeof(real)
    cdef Grid g
    g.D, g.H, g.W = x.shape[2], x.shape[3], x.shape[4]
    g.low_d, g.low_h, g.low_w = axes[0, LOW], axes[1, LOW], axes[2, LOW]
    if output:
        g.low_d = g.low_h = g.low_w = 0
    g.points = points_of(axes[1, KERNEL])
    g.planes, g.dilation = axes[0, OUTPUT], axes[0, DILATION]
    g.TH, g.TW = (axes[1, OUTPUT] + 3) // 4, (axes[2, OUTPUT] + 3) // 4
    g.image_step, g.channel_step = x.strides[0] // size, x.strides[1] // size
    g.plane_step, g.row_step = x.strides[2] // size, x.strides[3] // size
    g.column_step = x.strides[4] // size if g.W > 1 else 1
    return g


cdef struct Filters:
    # Where the taps of w (F, C, side, side) stand, in items.
    Py_ssize_t side, filter_step, channel_step, row_step, column_step


cdef inline Filters filters_of(const real[:, :, :, :] w) noexcept:
    cdef Py_ssize_t size = sizeof(real)
    return Filters(
        w.shape[2], w.strides[0] // size, w.strides[1] // size, w.strides[2] // size, w.strides[3] // size
    )


cdef inline void zero(real* v, Py_ssize_t count) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(count):
        v[i] = 0


cdef int check_items(Py_ssize_t number, double wanted, name) except -1:
    """That there is room, for a number of items that may be too large to count."""
    if number < wanted or wanted > MOST_ITEMS:
        raise ValueError(f"{name} must have {wanted:.0f} items, got {number}")
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
