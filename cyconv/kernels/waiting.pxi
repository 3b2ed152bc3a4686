# Where this thread runs, on what processor, and short waits for other threads, without the GIL:
# see threads.py.

cdef extern from "waiting.h" nogil:
    bint cyconv_wait_for_change(
        const long long* word, long long seen, long long nanoseconds, long long after
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
    const long long[::1] word not None, long long seen, long long nanoseconds, long long after
):
    """Wait until word[0] is no longer `seen`, at most about `nanoseconds`, and then `after` more;
    return whether it changed."""
    if word.shape[0] != 1 or not 0 <= nanoseconds <= SECOND or not 0 <= after <= SECOND:
        raise ValueError("word must have one element, and waits be of a second at most")
    cdef bint changed
    with nogil:
        changed = cyconv_wait_for_change(&word[0], seen, nanoseconds, after)
    return changed


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
