# Matrices turned round.

def turn(const real[:, :] a not None, real[:, :] to not None, /):
    """to (columns, rows) = a (rows, columns); rows of both are contiguous."""
    cdef Py_ssize_t size = sizeof(real)
    if to.shape[0] != a.shape[1] or to.shape[1] != a.shape[0]:
        raise ValueError(f"to must have shape ({a.shape[1]}, {a.shape[0]})")
    check_rows(a.strides[1], a.shape[1], to.strides[1], to.shape[1], size)
    if a.shape[0] and a.shape[1]:
        with nogil:
            transpose(&a[0, 0], a.strides[0] // size, a.shape[0], a.shape[1], &to[0, 0], to.strides[0] // size)
