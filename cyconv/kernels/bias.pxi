# A bias for each filter, which BLAS does not add as it multiplies. (NumPy takes up to three times as
# long to add it, which was a sixth of layers of 1x1 kernels.)

cdef void add_to_rows(const Array* a, const real* cells, const real* b, const Array* y, real* to) noexcept nogil:
    cdef Py_ssize_t n, f, i
    cdef const real* source
    cdef real* target
    for n in range(y.shape[0]):
        for f in range(y.shape[1]):
            source, target = cells + n * a.steps[0] + f * a.steps[1], to + n * y.steps[0] + f * y.steps[1]
            if source == target:  # which a compiler would take for arrays that overlap
                for i in range(y.shape[2]):
                    target[i] += b[f]
            else:
                for i in range(y.shape[2]):
                    target[i] = source[i] + b[f]


def add_bias(a, b, y, /):
    """y (n, F, positions) = a (n, F, positions) + b (F,), where y may be a; rows are contiguous."""
    cdef Held held
    hold_nothing(&held)
    try:
        add_bias_held(
            hold(&held, a, "a", 3, READ), hold(&held, b, "b", 1, READ | CONTIGUOUS), hold(&held, y, "y", 3, FILL)
        )
    finally:
        let_go(&held)


cdef int add_bias_held(const Array* a, const Array* b, const Array* y) except -1:
    cdef Py_ssize_t i
    for i in range(3):
        if a.shape[i] != y.shape[i]:
            raise ValueError(f"a and y must have the same shape, but have {a.shape[i]} and {y.shape[i]} along axis {i}")
    if b.shape[0] != y.shape[1]:
        raise ValueError(f"b must have shape ({y.shape[1]},), got ({b.shape[0]},)")
    check_rows(a.steps[2], a.shape[2], y.steps[2], y.shape[2])
    with nogil:
        if y.itemsize == sizeof(float):
            add_to_rows(a, <const float*>a.cells, <const float*>b.cells, y, <float*>y.cells)
        else:
            add_to_rows(a, <const double*>a.cells, <const double*>b.cells, y, <double*>y.cells)
    return 0
