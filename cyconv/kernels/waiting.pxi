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
    word, long long seen, long long nanoseconds, long long after, bell=None, long long heard=0, sign=None, /
):
    """Wait until word[0] is no longer `seen`, and then `after` more; or until bell[0], if there is one,
    is no longer `heard`; at most about `nanoseconds`. Return whether one of them changed. First of all,
    without the GIL, add one to sign[0], for another thread that waits."""
    if not 0 <= nanoseconds <= SECOND or not 0 <= after <= SECOND:
        raise ValueError("waits must be of a second at most")
    cdef Held held
    hold_nothing(&held)
    cdef long long* watched
    cdef long long* heeded
    cdef long long* told
    cdef bint changed
    try:
        watched = hold_words(&held, word, "word", 1, READ)
        heeded = hold_words(&held, bell, "bell", 1, READ | OR_NONE)
        told = hold_words(&held, sign, "sign", 1, FILL | OR_NONE)
        with nogil:
            if told != NULL:
                cyconv_count(told)
            changed = cyconv_wait_for_change(watched, seen, nanoseconds, after, heeded, heard)
    finally:
        let_go(&held)
    return changed


# The bell of the pool: a kernel that threads may share rings it, for the one of them that asks, when it
# has let go of the GIL, which those who hear it need first of all.
cdef long long* the_bell = NULL
cdef object hung = None


def hang_bell(word, /):
    """From now on word[0] is the bell."""
    global the_bell, hung
    cdef Held held
    hold_nothing(&held)
    try:
        the_bell, hung = hold_words(&held, word, "word", 1, FILL | OR_NONE), word
    finally:
        let_go(&held)


cdef inline void ring(bint rings) noexcept nogil:
    if rings and the_bell != NULL:
        cyconv_count(the_bell)


# Threads that are in the same call of a kernel with two phases share `progress`: it counts the tasks
# of the first phase that were taken and that are done, and those of the second that were taken. The
# second phase begins when the tasks of the first are done.
cdef enum:
    FIRST_TAKEN = 0
    FIRST_DONE = 1
    SECOND_TAKEN = 2
