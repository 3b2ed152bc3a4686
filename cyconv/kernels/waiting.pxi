# Where this thread runs, and a short wait for another one, without the GIL: see threads.py.

cdef extern from "waiting.h" nogil:
    bint cyconv_wait_for_change(
        const long long* word, long long seen, long long nanoseconds, long long after
    )
    int cyconv_current_core()


def current_core():
    """The core that this thread runs on, or -1 where the platform does not say."""
    return cyconv_current_core()


def wait_for_change(
    const long long[::1] word not None, long long seen, long long nanoseconds, long long after
):
    """Wait until word[0] is no longer `seen`, at most about `nanoseconds`, and then `after` more;
    return whether it changed."""
    if word.shape[0] != 1:
        raise ValueError("word must have one element")
    cdef bint changed
    with nogil:
        changed = cyconv_wait_for_change(&word[0], seen, nanoseconds, after)
    return changed
