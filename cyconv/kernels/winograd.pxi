# Winograd on the plain road: the transforms of tiles, between which BLAS multiplies. They are the fast
# road's (tiles.pxi, winograd_grad.pxi), as are those of filters; here it is said where arrays have them.
# What is transformed has channels or filters in its columns, in steps of WIDE: u (36, tiles, C), v (36, C,
# F), and their product (36, tiles, F). Of 4x4 kernels there are 49 planes for 36, and with stride 2 81 of
# tiles. A volume is transformed for one tap along the depth at a time.

cdef int check_winograd(
    const Array* x, const Array* u, const Array* axes, Py_ssize_t first, bint output, name
) except -1:
    """The cheap part of what the public face has checked, for those who call the kernels."""
    check_served(axes)
    cdef Py_ssize_t a, which = OUTPUT if output else SIZE, planes
    cdef double tiles
    for a in range(3):
        if x.shape[2 + a] != at(axes, a, which):
            raise ValueError(
                f"{name} must have size {at(axes, a, which)} along spatial axis {a}, got {x.shape[2 + a]}"
            )
    check_order(x, name)
    planes = points_of(kind_of(at(axes, 1, KERNEL), at(axes, 1, STRIDE))) ** 2
    if u.shape[0] != planes or u.shape[2] != in_wides(x.shape[1]):
        raise ValueError(f"transformed tiles must have shape ({planes}, tiles, {in_wides(x.shape[1])})")
    check_rows(0, 1, u.steps[2], u.shape[2])
    tiles = x.shape[0] * <double>at(axes, 0, OUTPUT) * count_along(axes, 1) * count_along(axes, 2)
    if tiles > MOST_ITEMS or not 0 <= first <= tiles - u.shape[1]:
        raise ValueError(f"there are not so many tiles as {first} and {u.shape[1]} more")
    return 0


def winograd_input(x, u, axes, Py_ssize_t first, Py_ssize_t tap=0, /):
    """u (36, tiles, C) = B^T x B for as many tiles of x (n, c, d, h, w) as it has room for, from the
    `first` on, as this tap along the depth reads them; zero past the last channel, to a whole WIDE."""
    cdef Held held
    hold_nothing(&held)
    try:
        winograd_input_held(
            hold(&held, x, "x", 5, READ), hold(&held, u, "u", 3, FILL), hold_table(&held, axes, "axes"), first,
            tap,
        )
    finally:
        let_go(&held)


cdef int winograd_input_held(
    const Array* x, const Array* u, const Array* axes, Py_ssize_t first, Py_ssize_t tap
) except -1:
    check_winograd(x, u, axes, first, False, "x")
    if not 0 <= tap < at(axes, 0, KERNEL):
        raise ValueError(f"there is no tap {tap} along the depth, which has {at(axes, 0, KERNEL)}")
    cdef Grid g = grid_of(x, axes, False)
    cdef Py_ssize_t channels = x.shape[1], tiles = u.shape[1]
    with nogil:
        if x.itemsize == sizeof(float):
            turn_input(<const float*>x.cells, &g, channels, tap, first, tiles, <float*>u.cells, u.steps[0], u.steps[1])
        else:
            turn_input(<const double*>x.cells, &g, channels, tap, first, tiles, <double*>u.cells, u.steps[0], u.steps[1])
    return 0


def winograd_output_grad(dy, d, axes, Py_ssize_t first, /):
    """d (36, tiles, F) = A dy A^T for as many tiles of dy (n, f, d, h, w) as it has room for, from the
    `first` on; zero past the last filter, to a whole WIDE."""
    cdef Held held
    hold_nothing(&held)
    try:
        winograd_output_grad_held(
            hold(&held, dy, "dy", 5, READ), hold(&held, d, "d", 3, FILL), hold_table(&held, axes, "axes"), first
        )
    finally:
        let_go(&held)


cdef int winograd_output_grad_held(const Array* dy, const Array* d, const Array* axes, Py_ssize_t first) except -1:
    check_winograd(dy, d, axes, first, True, "dy")
    check_forwards(axes)
    cdef Grid g = grid_of(dy, axes, True)
    cdef Py_ssize_t filters = dy.shape[1], tiles = d.shape[1]
    with nogil:
        if dy.itemsize == sizeof(float):
            turn_output_grad(
                <const float*>dy.cells, &g, 0, filters, first, tiles, <float*>d.cells, d.steps[0], d.steps[1]
            )
        else:
            turn_output_grad(
                <const double*>dy.cells, &g, 0, filters, first, tiles, <double*>d.cells, d.steps[0], d.steps[1]
            )
    return 0


def winograd_output(m, b, y, axes, Py_ssize_t first, /):
    """Write the tiles A^T m A + b of y (n, f, d, h, w), from the `first` on, for m (36, tiles, F)."""
    cdef Held held
    hold_nothing(&held)
    try:
        winograd_output_held(
            hold(&held, m, "m", 3, READ), hold(&held, b, "b", 1, READ | CONTIGUOUS | OR_NONE),
            hold(&held, y, "y", 5, FILL), hold_table(&held, axes, "axes"), first,
        )
    finally:
        let_go(&held)


cdef int winograd_output_held(
    const Array* m, const Array* b, const Array* y, const Array* axes, Py_ssize_t first
) except -1:
    check_winograd(y, m, axes, first, True, "y")
    if b != NULL and b.shape[0] != y.shape[1]:
        raise ValueError(f"b must have shape ({y.shape[1]},)")
    cdef Grid g = grid_of(y, axes, True)
    cdef Py_ssize_t filters = y.shape[1], tiles = m.shape[1]
    cdef const void* bias = b.cells if b != NULL else NULL
    with nogil:
        if y.itemsize == sizeof(float):
            turn_output(
                <const float*>m.cells, m.steps[0], m.steps[1], <const float*>bias, <float*>y.cells, &g, filters,
                first, tiles,
            )
        else:
            turn_output(
                <const double*>m.cells, m.steps[0], m.steps[1], <const double*>bias, <double*>y.cells, &g, filters,
                first, tiles,
            )
    return 0


def winograd_weight_grad(sums, dw, Py_ssize_t stride=1, /):
    """dw (f, c, 1, 3, 3) = G^T sums G for sums (36, f, C), of any strides; that of the convolution is
    `stride`."""
    cdef Held held
    hold_nothing(&held)
    try:
        winograd_weight_grad_held(hold(&held, sums, "sums", 3, READ), hold(&held, dw, "dw", 5, FILL), stride)
    finally:
        let_go(&held)


cdef int winograd_weight_grad_held(const Array* sums, const Array* dw, Py_ssize_t stride) except -1:
    if (
        stride < 0 or not is_served(dw.shape[3], dw.shape[4], stride)
        or sums.shape[0] != weights_of(kind_of(dw.shape[3], stride)) ** 2 or dw.shape[2] != 1
        or sums.shape[1] != dw.shape[0] or sums.shape[2] < in_wides(dw.shape[1])
    ):
        raise ValueError(
            f"filters must be 3x3 or 4x4, and their sums (36 or 49, {dw.shape[0]}, {in_wides(dw.shape[1])}); "
            f"with stride 2, not {stride}, 3x3"
        )
    check_rows(0, 1, sums.steps[2], sums.shape[2])
    cdef Filters steps = filters_of(dw, 3, stride)
    # Here it is channels that have columns, in which dw follows.
    steps.filter_step, steps.channel_step = steps.channel_step, steps.filter_step
    with nogil:
        if dw.itemsize == sizeof(float):
            turn_sums(
                <const float*>sums.cells, sums.steps[0], sums.steps[1], dw.shape[1], dw.shape[0], <float*>dw.cells, &steps
            )
        else:
            turn_sums(
                <const double*>sums.cells, sums.steps[0], sums.steps[1], dw.shape[1], dw.shape[0], <double*>dw.cells,
                &steps,
            )
    return 0
