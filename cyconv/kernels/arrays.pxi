# Arrays as kernels see them: where their cells are, and how far apart. What is done with float32 and
# float64 is compiled for each, but who takes hold of an array need not know which it is: with typed
# memoryviews, in one function for each type and one that chose between these, a build was half as large
# again, and a call took 0.2 us longer an array.

from cpython.buffer cimport (
    PyBUF_C_CONTIGUOUS, PyBUF_FORMAT, PyBUF_STRIDES, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer,
)

cdef extern from *:
    """
    /* Kernels that check themselves (tools/checks.py) stop where a table has no such number. */
    #if defined(CYCONV_CHECKS)
    #include <stdlib.h>
    #define cyconv_within(place, size) ((place) >= 0 && (place) < (size) ? (void)0 : abort())
    #else
    #define cyconv_within(place, size) ((void)0)
    #endif
    """
    void cyconv_within(Py_ssize_t place, Py_ssize_t size) noexcept nogil

cdef enum:
    MOST_HELD = 12
    MOST_AXES = 5
    # What is wanted of an array.
    READ = PyBUF_FORMAT | PyBUF_STRIDES
    FILL = PyBUF_FORMAT | PyBUF_STRIDES | PyBUF_WRITABLE
    CONTIGUOUS = PyBUF_C_CONTIGUOUS
    OR_NONE = 1 << 30


cdef struct Array:
    void* cells
    Py_ssize_t itemsize
    Py_ssize_t[MOST_AXES] shape, steps  # in items


cdef struct Held:
    # What a call has taken hold of, and must let go.
    Py_buffer[MOST_HELD] buffers
    Array[MOST_HELD] arrays
    int count
    Py_ssize_t itemsize  # of what is real


cdef inline void hold_nothing(Held* held) noexcept:
    held.count, held.itemsize = 0, 0


cdef void let_go(Held* held) noexcept:
    cdef int i
    for i in range(held.count):
        PyBuffer_Release(&held.buffers[i])


cdef Array* hold_some(Held* held, owner, name, int axes, int wanted, const char* formats, what) except? NULL:
    """Take hold of an array with so many axes, and items of one of these formats. NULL where there is no
    array, and need not be one."""
    cdef Py_buffer* buffer = &held.buffers[held.count]
    cdef Array* array = &held.arrays[held.count]
    cdef Py_ssize_t a
    if wanted & OR_NONE and owner is None:
        return NULL
    if held.count == MOST_HELD:
        raise ValueError("no call has so many arrays")
    PyObject_GetBuffer(owner, buffer, wanted & ~OR_NONE)
    held.count += 1
    array.cells, array.itemsize = buffer.buf, buffer.itemsize
    while buffer.format != NULL and formats[0] and (buffer.format[0] != formats[0] or buffer.format[1]):
        formats += 1
    if buffer.format == NULL or not formats[0]:
        raise ValueError(f"{name} must be of {what}")
    if buffer.ndim != axes:
        raise ValueError(f"{name} must have {axes} axes, got {buffer.ndim}")
    for a in range(axes):
        array.shape[a], array.steps[a] = buffer.shape[a], buffer.strides[a] // array.itemsize
        if buffer.strides[a] % array.itemsize:
            raise ValueError(f"the cells of {name} must be whole items apart")
    return array


cdef Array* hold(Held* held, owner, name, int axes, int wanted) except? NULL:
    """Of float32 or float64, as the others that are held are."""
    cdef Array* array = hold_some(held, owner, name, axes, wanted, b"fd", "float32 or float64")
    if array != NULL:
        if held.itemsize == 0:
            held.itemsize = array.itemsize
        if array.itemsize != held.itemsize:
            raise ValueError(f"{name} must have items of {held.itemsize} bytes, as other arrays have")
    return array


cdef Array* hold_integers(Held* held, owner, name, int axes, int wanted, Py_ssize_t itemsize) except? NULL:
    """Signed, of so many bytes, and contiguous."""
    cdef Array* array = hold_some(held, owner, name, axes, wanted | CONTIGUOUS, b"ilqn", "signed integers")
    if array != NULL and array.itemsize != itemsize:
        raise ValueError(f"{name} must have items of {itemsize} bytes, got {array.itemsize}")
    return array


cdef Array* hold_table(Held* held, owner, name, int wanted=READ) except? NULL:
    """Rows of sizes, as intp."""
    return hold_integers(held, owner, name, 2, wanted, sizeof(Py_ssize_t))


cdef inline const Py_ssize_t* row_of(const Array* table, Py_ssize_t row) noexcept nogil:
    cyconv_within(row, table.shape[0])
    return <const Py_ssize_t*>table.cells + row * table.shape[1]


cdef inline Py_ssize_t at(const Array* table, Py_ssize_t row, Py_ssize_t column) noexcept nogil:
    cyconv_within(column, table.shape[1])
    return row_of(table, row)[column]


cdef long long* hold_words(Held* held, owner, name, Py_ssize_t number, int wanted) except? NULL:
    """So many long long, which threads share."""
    cdef Array* array = hold_integers(held, owner, name, 1, wanted, sizeof(long long))
    if array == NULL:
        return NULL
    if array.shape[0] != number:
        raise ValueError(f"{name} must have {number} elements, got {array.shape[0]}")
    return <long long*>array.cells


cdef long long* hold_counters(Held* held, owner, name, Py_ssize_t number, int wanted=FILL) except? NULL:
    """Words none of which is negative."""
    cdef long long* words = hold_words(held, owner, name, number, wanted)
    cdef Py_ssize_t i
    if words != NULL:
        for i in range(number):
            if words[i] < 0:
                raise ValueError(f"{name} must not be negative")
    return words
