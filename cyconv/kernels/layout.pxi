# Matrices turned round.

cdef void turn_matrix(const real* cells, const Array* a, const Array* to) noexcept nogil:
    transpose(cells, a.steps[0], a.shape[0], a.shape[1], <real*>to.cells, to.steps[0])


def turn(a, to, /):
    """to (columns, rows) = a (rows, columns); rows of both are contiguous."""
    cdef Held held
    cdef const Array* source
    cdef const Array* target
    hold_nothing(&held)
    try:
        source, target = hold(&held, a, "a", 2, READ), hold(&held, to, "to", 2, FILL)
        if target.shape[0] != source.shape[1] or target.shape[1] != source.shape[0]:
            raise ValueError(f"to must have shape ({source.shape[1]}, {source.shape[0]})")
        check_rows(source.steps[1], source.shape[1], target.steps[1], target.shape[1])
        with nogil:
            if source.itemsize == sizeof(float):
                turn_matrix(<const float*>source.cells, source, target)
            else:
                turn_matrix(<const double*>source.cells, source, target)
    finally:
        let_go(&held)
