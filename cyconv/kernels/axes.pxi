# What all kernels share: the axes of a convolution, as Geometry.axes has them, a row each.

from libc.stdlib cimport calloc, free, malloc, qsort
from libc.string cimport memcpy, memset

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


cdef int check_order(const real[:, :, :, :, :] x, name) except -1:
    """That columns follow each other, or channels do."""
    cdef Py_ssize_t size = sizeof(real)
    if (x.strides[4] != size and x.shape[4] > 1) and (x.strides[1] != size and x.shape[1] > 1):
        raise ValueError(f"{name} must be contiguous along its last axis, or along channels")
    return 0
