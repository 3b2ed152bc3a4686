# float16 to float32 and back: see half.h. Halves come as their bits.

from libc.stdint cimport uint16_t

cdef extern from "half.h" nogil:
    void cyconv_widen_row(const uint16_t* halves, float* cells, Py_ssize_t n)
    void cyconv_narrow_row(const float* cells, uint16_t* halves, Py_ssize_t n)


cdef int check_halves(const Array* source, const Array* target) except -1:
    cdef Py_ssize_t a
    for a in range(5):
        if source.shape[a] != target.shape[a]:
            raise ValueError(f"{source.shape[a]} cells along axis {a}, but the result is for {target.shape[a]}")
    if source.shape[4] > 1 and (source.steps[4] != 1 or target.steps[4] != 1):
        raise ValueError("both arrays must be contiguous along their last axis")
    return 0


cdef void cast_rows(const Array* source, const Array* target, bint widen) noexcept nogil:
    """Row by row: to float32 if `widen` says so, else from it."""
    cdef Py_ssize_t n, c, d, h, first, to
    for n in range(source.shape[0]):
        for c in range(source.shape[1]):
            for d in range(source.shape[2]):
                for h in range(source.shape[3]):
                    first = n * source.steps[0] + c * source.steps[1] + d * source.steps[2] + h * source.steps[3]
                    to = n * target.steps[0] + c * target.steps[1] + d * target.steps[2] + h * target.steps[3]
                    if widen:
                        cyconv_widen_row(<const uint16_t*>source.cells + first, <float*>target.cells + to, source.shape[4])
                    else:
                        cyconv_narrow_row(<const float*>source.cells + first, <uint16_t*>target.cells + to, source.shape[4])


def half_to_float(halves, cells, /):
    """Fill cells (n, c, d, h, w) of float32 from float16, seen as uint16; rows are contiguous."""
    cast(halves, cells, True)


def float_to_half(cells, halves, /):
    """Fill halves (n, c, d, h, w), float16 seen as uint16, from float32; rows are contiguous."""
    cast(cells, halves, False)


cdef int cast(source, target, bint widen) except -1:
    cdef Held held
    hold_nothing(&held)
    cdef const Array* of
    cdef const Array* to
    try:
        if widen:
            of = hold_some(&held, source, "halves", 5, READ, b"H", "uint16")
            to = hold_some(&held, target, "cells", 5, FILL, b"f", "float32")
        else:
            of = hold_some(&held, source, "cells", 5, READ, b"f", "float32")
            to = hold_some(&held, target, "halves", 5, FILL, b"H", "uint16")
        check_halves(of, to)
        if of.shape[4]:
            with nogil:
                cast_rows(of, to, widen)
    finally:
        let_go(&held)
    return 0
