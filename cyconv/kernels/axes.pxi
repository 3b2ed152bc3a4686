# What all kernels share: the axes of a convolution, as Geometry.axes has them, a row each.

from cpython.pyport cimport PY_SSIZE_T_MAX
from libc.stdlib cimport calloc, free, malloc, qsort
from libc.string cimport memcpy, memset

cdef extern from *:
    """
    /* No array in memory has more items. Sizes that must be those of an array are multiplied as
       doubles, which are exact up to here and do not overflow. */
    #define MOST_ITEMS 4503599627370496.0
    """
    double MOST_ITEMS

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


cdef int check_order(const Array* x, name) except -1:
    """That columns follow each other, or channels do."""
    if (x.steps[4] != 1 and x.shape[4] > 1) and (x.steps[1] != 1 and x.shape[1] > 1):
        raise ValueError(f"{name} must be contiguous along its last axis, or along channels")
    return 0


cdef int check_axes(const Array* axes, bint signed_strides=False) except -1:
    """That no number which is computed from these is more than a Py_ssize_t can hold: cells are
    computed as output * stride - low + tap * dilation, and compared with size. Strides may be negative
    if `signed_strides` says so."""
    if axes.shape[0] != 3 or axes.shape[1] != 6:
        raise ValueError("axes must have shape (3, 6)")
    cdef Py_ssize_t a, low, outputs, taps, stride
    cdef double positions = 1, kernel = 1
    for a in range(3):
        stride = at(axes, a, STRIDE)
        if signed_strides and stride < 0:
            stride = -max(stride, -PY_SSIZE_T_MAX)
        if min(at(axes, a, SIZE), at(axes, a, KERNEL), stride, at(axes, a, DILATION), at(axes, a, OUTPUT)) < 1:
            raise ValueError(f"size, kernel, stride, dilation and output must be at least 1 along axis {a}")
        positions *= at(axes, a, OUTPUT)
        kernel *= at(axes, a, KERNEL)
        low, outputs, taps = at(axes, a, LOW), at(axes, a, OUTPUT) - 1, at(axes, a, KERNEL) - 1
        if (
            outputs > 0 and stride > PY_SSIZE_T_MAX // outputs
            or taps > 0 and at(axes, a, DILATION) > (PY_SSIZE_T_MAX - 1) // taps
            or low < -PY_SSIZE_T_MAX or low > PY_SSIZE_T_MAX - at(axes, a, SIZE)
        ):
            raise ValueError(f"numbers are too large to compute with along axis {a}")
        outputs, taps = outputs * stride, taps * at(axes, a, DILATION)
        if (
            low < 0 and max(outputs, taps) > PY_SSIZE_T_MAX + low
            or outputs > low and taps > PY_SSIZE_T_MAX - (outputs - low)
        ):
            raise ValueError(f"numbers are too large to compute with along axis {a}")
    if max(positions, kernel) > MOST_ITEMS:
        raise ValueError("there are more taps or outputs than an array has items")
    return 0
