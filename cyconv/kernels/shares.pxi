# What threads share of a call of a kernel: each takes what is left of its tasks, rows of (first image, last
# image, first group, last group), as in `direct`. Without a table, one task is all there is.

cdef struct Shares:
    const Py_ssize_t* tasks
    Py_ssize_t number
    long long* taken
    bint from_back
    # Without a table: the task, and its count.
    Py_ssize_t[4] everything
    long long none


cdef int share(
    Shares* shares, const Array* tasks, long long* taken, bint rings, Py_ssize_t images,
    Py_ssize_t groups
) except -1:
    """The tasks of a table, or one of everything. (Shares points into itself: it is not to be copied.)"""
    cdef Py_ssize_t t
    if tasks == NULL:
        shares.everything, shares.none = [0, images, 0, groups], 0
        shares.tasks, shares.number, shares.taken = &shares.everything[0], 1, &shares.none
        shares.from_back = False
        return 0
    if tasks.shape[0] == 0 or tasks.shape[1] != 4:
        raise ValueError("tasks must have rows of four numbers")
    for t in range(tasks.shape[0]):
        if not (0 <= at(tasks, t, 0) <= at(tasks, t, 1) <= images and 0 <= at(tasks, t, 2) <= at(tasks, t, 3) <= groups):
            raise ValueError(f"task {t} reaches beyond {images} and {groups}")
    if taken == NULL:
        raise ValueError("tasks need a count of those that are taken")
    shares.tasks, shares.number, shares.taken = row_of(tasks, 0), tasks.shape[0], taken
    shares.from_back = not rings
    return 0


cdef inline const Py_ssize_t* next_task(const Shares* shares) noexcept nogil:
    """Take a task; NULL where none is left."""
    cdef long long t = cyconv_take(shares.taken, shares.number, shares.from_back)
    return shares.tasks + 4 * t if t < shares.number else NULL
