# Winograd's tiles and filters in memory, and checks: what both of its roads share.

cdef extern from "winograd.h" nogil:
    enum:
        WIDE
        SIX
        SEVEN
        STRIDED
        STRIDED_BACK


cdef struct Grid:
    # Where tiles stand in an array (images, c, D, H, W), in items: t = (n * TH + th) * TW + tw, for
    # the n-th plane of the output: of an image, or of a volume, whose planes are many.
    # Either columns follow each other (column_step 1), or channels do (channel_step 1).
    # A tile has cells * cells of them, and the first begins at -low. From one to the next it is `pitch`;
    # with a dilation those of a tile are so many apart, and `phases` tiles lie between each other, from
    # neighbouring cells on.
    Py_ssize_t D, H, W, low_d, low_h, low_w, planes, TH, TW, cells, pitch
    Py_ssize_t apart_d, apart_h, apart_w, phases_h, phases_w
    Py_ssize_t line  # items from one row of cells to the next, where they are transposed
    Py_ssize_t image_step, channel_step, plane_step, row_step, column_step
    int kind  # of tiles: see winograd.h


cdef enum:
    # Items of a row of transposed cells: 12 tiles of seven, 4 apart, of WIDE items each. There are at
    # most so many rows as STRIDED; with a dilation there are fewer, but longer ones.
    LINE = 816
    LINES = 7344
    # Tiles side by side that are transposed together are fewer than the cells of a row, of four.
    MOST_RUN = 114


cdef inline Py_ssize_t line_of(Py_ssize_t cells) noexcept nogil:
    """The longest row of which so many have room."""
    return LINES // cells // WIDE * WIDE


cdef inline bint is_served(Py_ssize_t height, Py_ssize_t width, Py_ssize_t stride) noexcept nogil:
    """Whether there are transforms for kernels with such planes and such strides."""
    return height == width and (3 <= height <= 4 if stride == 1 else height == 3 and stride in (2, -2))


cdef inline Py_ssize_t most_apart(Py_ssize_t side, Py_ssize_t stride) noexcept nogil:
    """The largest dilation: a row of a tile must have room when it is transposed."""
    return (line_of(side + 3) // WIDE - 1) // (side + 2) if stride == 1 else 1


cdef inline int kind_of(Py_ssize_t side, Py_ssize_t stride) noexcept nogil:
    """Of tiles for such kernels and strides; of an input gradient, the stride is negative: of the output."""
    if stride == 1:
        return SIX if side == 3 else SEVEN
    return STRIDED if stride > 0 else STRIDED_BACK


cdef inline int points_of(int kind) noexcept nogil:
    """Of interpolation, in a row."""
    return -kind if kind < 0 else kind


cdef inline int weights_of(int kind) noexcept nogil:
    """What a row of a filter is transformed to: with a stride, the last serves several points."""
    return SEVEN if kind == SEVEN else SIX


cdef inline Py_ssize_t first_tile(const Array* axes, int axis) noexcept:
    """How many cells before the first output its first tile begins."""
    return (1 - at(axes, axis, LOW)) & 1 if at(axes, axis, STRIDE) < 0 else 0


cdef inline Py_ssize_t phases_along(const Array* axes, int axis) noexcept:
    return min(at(axes, axis, DILATION), at(axes, axis, OUTPUT))


cdef inline Py_ssize_t count_along(const Array* axes, int axis) noexcept:
    """How many tiles there are in a row, or in a column."""
    cdef Py_ssize_t size = 8 if at(axes, axis, STRIDE) < 0 else 4, phases = phases_along(axes, axis)
    cdef Py_ssize_t outputs = (at(axes, axis, OUTPUT) + first_tile(axes, axis) + phases - 1) // phases
    return phases * ((outputs + size - 1) // size)


cdef inline Py_ssize_t start_of(const Grid* g, Py_ssize_t tile, Py_ssize_t phases, Py_ssize_t apart) noexcept nogil:
    """Where along an axis a tile begins, counted from the first: the more, the later it comes."""
    return tile * g.pitch if phases == 1 else tile // phases * g.pitch * apart + tile % phases


cdef inline Py_ssize_t top_of(const Grid* g, Py_ssize_t th) noexcept nogil:
    return start_of(g, th, g.phases_h, g.apart_h) - g.low_h


cdef inline Py_ssize_t left_of(const Grid* g, Py_ssize_t tw) noexcept nogil:
    return start_of(g, tw, g.phases_w, g.apart_w) - g.low_w


cdef inline Grid grid_of(const Array* x, const Array* axes, bint output) noexcept:
    """Where tiles stand in x or, if `output`, in y."""
    cdef Grid g
    g.D, g.H, g.W = x.shape[2], x.shape[3], x.shape[4]
    g.kind = kind_of(at(axes, 1, KERNEL), at(axes, 1, STRIDE))
    g.low_d, g.low_h, g.low_w = at(axes, 0, LOW), at(axes, 1, LOW), at(axes, 2, LOW)
    g.cells, g.pitch = points_of(g.kind), 4
    if g.kind == STRIDED:
        g.pitch = 8
    elif g.kind == STRIDED_BACK:  # tiles of 8 outputs begin with an odd one, read from this input on
        g.cells, g.low_h, g.low_w = 5, g.low_h >> 1, g.low_w >> 1
    if output:
        g.cells, g.pitch = (8, 8) if g.kind == STRIDED_BACK else (4, 4)
        g.low_d, g.low_h, g.low_w = 0, first_tile(axes, 1), first_tile(axes, 2)
    g.planes = at(axes, 0, OUTPUT)
    g.apart_d, g.apart_h, g.apart_w = at(axes, 0, DILATION), at(axes, 1, DILATION), at(axes, 2, DILATION)
    g.phases_h, g.phases_w = phases_along(axes, 1), phases_along(axes, 2)
    g.TH, g.TW = count_along(axes, 1), count_along(axes, 2)
    g.line = LINE if g.apart_w == 1 else line_of(g.cells)
    g.image_step, g.channel_step, g.plane_step, g.row_step = x.steps[0], x.steps[1], x.steps[2], x.steps[3]
    g.column_step = x.steps[4] if g.W > 1 else 1
    return g


cdef int check_served(const Array* axes) except -1:
    """That there are transforms for such a convolution; axes have stride -2 for the input gradient of 2."""
    check_axes(axes, True)
    cdef Py_ssize_t a, side = at(axes, 1, KERNEL), stride = at(axes, 1, STRIDE)
    if at(axes, 0, STRIDE) != 1 or at(axes, 2, STRIDE) != stride:
        raise ValueError("Winograd needs stride 1 along the depth, and the same along both other axes")
    if not is_served(side, at(axes, 2, KERNEL), stride):
        raise ValueError(
            "Winograd needs 3x3 or 4x4 planes of the kernel and stride 1, or 3x3 and 2, or -2 for the input "
            "gradient of 2"
        )
    for a in range(1, 3):
        if at(axes, a, DILATION) > most_apart(side, stride):
            raise ValueError("Winograd needs a smaller dilation, or with a stride none, along the planes of the kernel")
    return 0


cdef int check_forwards(const Array* axes) except -1:
    if at(axes, 1, STRIDE) < 0:
        raise ValueError("the stride must be that of the forward pass")
    return 0


cdef inline Py_ssize_t in_wides(Py_ssize_t size) noexcept nogil:
    return (size + WIDE - 1) // WIDE * WIDE


cdef struct Filters:
    # Where the taps of w (F, C, side, side) stand, in items, and the kind of their tiles.
    Py_ssize_t side, filter_step, channel_step, row_step, column_step
    int kind


cdef inline Filters filters_of(const Array* w, int rows, Py_ssize_t stride) noexcept nogil:
    """`rows` is the axis of those of the taps; between channels and them there may be one of the depth."""
    return Filters(
        w.shape[rows], w.steps[0], w.steps[1], w.steps[rows], w.steps[rows + 1], kind_of(w.shape[rows], stride)
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


cdef int check_lanes(Py_ssize_t row_step, Py_ssize_t columns, Py_ssize_t rows) except -1:
    if row_step != columns and rows > 1:
        raise ValueError("the rows of transformed tiles must follow each other")
    return 0


cdef int check_rows(Py_ssize_t step, Py_ssize_t size, Py_ssize_t u_step, Py_ssize_t u_size) except -1:
    if (step != 1 and size > 1) or (u_step != 1 and u_size > 1):
        raise ValueError("arrays must be contiguous along their last axis")
    return 0
