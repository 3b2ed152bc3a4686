# What all kernels share: the axes of a convolution, as Geometry.axes has them, a row each.

from libc.stdlib cimport calloc, free, malloc, qsort
from libc.string cimport memset

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
