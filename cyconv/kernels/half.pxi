# float16 to float32 and back: see half.h. Halves come as their bits.

from libc.stdint cimport uint16_t

cdef extern from "half.h" nogil:
    void cyconv_widen_row(const uint16_t* halves, float* cells, Py_ssize_t n)
    void cyconv_narrow_row(const float* cells, uint16_t* halves, Py_ssize_t n)


cdef int check_halves(
    const Py_ssize_t* source, const Py_ssize_t* target, Py_ssize_t source_step, Py_ssize_t target_step
) except -1:
    cdef Py_ssize_t a
    for a in range(5):
        if source[a] != target[a]:
            raise ValueError(f"{source[a]} cells along axis {a}, but the result is for {target[a]}")
    if source[4] > 1 and (source_step != 1 or target_step != 1):
        raise ValueError("both arrays must be contiguous along their last axis")
    return 0


def half_to_float(
    const uint16_t[:, :, :, :, :] halves not None, float[:, :, :, :, :] cells not None,
    /,
):
    """Fill cells (n, c, d, h, w) of float32 from float16, seen as uint16; rows are contiguous."""
    check_halves(halves.shape, cells.shape, halves.strides[4] // 2, cells.strides[4] // 4)
    cdef Py_ssize_t n, c, d, h
    if cells.shape[4] == 0:
        return
    with nogil:
        for n in range(cells.shape[0]):
            for c in range(cells.shape[1]):
                for d in range(cells.shape[2]):
                    for h in range(cells.shape[3]):
                        cyconv_widen_row(&halves[n, c, d, h, 0], &cells[n, c, d, h, 0], cells.shape[4])


def float_to_half(
    const float[:, :, :, :, :] cells not None, uint16_t[:, :, :, :, :] halves not None,
    /,
):
    """Fill halves (n, c, d, h, w), float16 seen as uint16, from float32; rows are contiguous."""
    check_halves(cells.shape, halves.shape, cells.strides[4] // 4, halves.strides[4] // 2)
    cdef Py_ssize_t n, c, d, h
    if cells.shape[4] == 0:
        return
    with nogil:
        for n in range(cells.shape[0]):
            for c in range(cells.shape[1]):
                for d in range(cells.shape[2]):
                    for h in range(cells.shape[3]):
                        cyconv_narrow_row(&cells[n, c, d, h, 0], &halves[n, c, d, h, 0], cells.shape[4])
