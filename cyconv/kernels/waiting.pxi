# Where this thread runs, on what processor, and short waits for other threads, without the GIL:
# see threads.py.

cdef extern from "waiting.h" nogil:
    bint cyconv_wait_for_change(
        const long long* word, long long seen, long long nanoseconds, long long after,
        const long long* bell, long long heard
    )
    int cyconv_current_core()
    long long cyconv_count(long long* word)
    long long cyconv_take(long long* word, long long number, bint from_back)
    void cyconv_wait_until(const long long* word, long long value)

cdef extern from "cpu.h" nogil:
    int cyconv_vector_level()


cdef enum:
    SECOND = 1000000000


def vector_level():
    """Which vector builds can run here: 2 those for AVX-512 too, 1 for AVX2, 0 the others."""
    return cyconv_vector_level()


def current_core():
    """The core that this thread runs on, or -1 where the platform does not say."""
    return cyconv_current_core()


def wait_for_change(
    const long long[::1] word not None, long long seen, long long nanoseconds, long long after,
    const long long[::1] bell=None, long long heard=0, long long[::1] sign=None,
):
    """Wait until word[0] is no longer `seen`, and then `after` more; or until bell[0], if there is one,
    is no longer `heard`; at most about `nanoseconds`. Return whether one of them changed. First of all,
    without the GIL, add one to sign[0], for another thread that waits."""
    if word.shape[0] != 1 or not 0 <= nanoseconds <= SECOND or not 0 <= after <= SECOND:
        raise ValueError("word must have one element, and waits be of a second at most")
    cdef const long long* rings = bell_of(bell)
    cdef long long* told = bell_of(sign)
    cdef bint changed
    with nogil:
        ring(told)
        changed = cyconv_wait_for_change(&word[0], seen, nanoseconds, after, rings, heard)
    return changed


# The bell of the pool: a kernel that threads may share rings it when it has let go of the GIL, which
# those who hear it need first of all.

cdef long long* bell_of(const long long[::1] bell) except? NULL:
    """Where it is, or NULL where there is none."""
    if bell is None:
        return NULL
    if bell.shape[0] != 1:
        raise ValueError("bell must have one element")
    return <long long*>&bell[0]


cdef inline void ring(long long* bell) noexcept nogil:
    if bell != NULL:
        cyconv_count(bell)


# Threads that are in the same call of a kernel with two phases share `progress`: it counts the tasks
# of the first phase that were taken and that are done, and those of the second that were taken. The
# second phase begins when the tasks of the first are done.
cdef enum:
    FIRST_TAKEN = 0
    FIRST_DONE = 1
    SECOND_TAKEN = 2


cdef int check_progress(const long long[::1] progress) except -1:
    if progress.shape[0] != 3 or min(progress[0], progress[1], progress[2]) < 0:
        raise ValueError("progress must have three elements, none of them negative")
    return 0
