/* What working together with another thread needs and Cython has no words for: an atomic read, a
   count, a pause that spares the other thread of the core, a clock, and on which core we are. */
#ifndef CYCONV_WAITING_H
#define CYCONV_WAITING_H

#include <time.h>

#if defined(__linux__)
extern int sched_getcpu(void); /* in sched.h only with _GNU_SOURCE, which Python.h may not set */
#define cyconv_current_core() sched_getcpu()
#else
#define cyconv_current_core() (-1)
#endif

#if defined(_MSC_VER)
#include <intrin.h>
__declspec(dllimport) int __stdcall SwitchToThread(void);
#if defined(_M_X64) || defined(_M_IX86)
#define cyconv_pause() _mm_pause()
#else
#define cyconv_pause() __yield()
#endif
static __inline long long cyconv_read(const long long *word) { return *(const volatile long long *)word; }
static __inline long long cyconv_add(long long *word, long long n) { return _InterlockedExchangeAdd64(word, n); }
#define cyconv_let_others_run() SwitchToThread()
#else
#include <sched.h>
#define cyconv_let_others_run() sched_yield()
#if defined(__x86_64__) || defined(__i386__)
#define cyconv_pause() __builtin_ia32_pause()
#elif defined(__aarch64__) || (defined(__arm__) && __ARM_ARCH >= 7)
#define cyconv_pause() __asm__ volatile("yield")
#else
#define cyconv_pause() ((void)0)
#endif
static inline long long cyconv_read(const long long *word) { return __atomic_load_n(word, __ATOMIC_ACQUIRE); }
static inline long long cyconv_add(long long *word, long long n) { return __atomic_fetch_add(word, n, __ATOMIC_ACQ_REL); }
#endif

/* Add one to *word, and return what it was. */
static inline long long cyconv_count(long long *word) { return cyconv_add(word, 1); }

/* Take one of `number` tasks, the first that is left or the last, and return which; or `number`, where
   none is left. The lower half of *word counts those taken from the front, the upper half the others. */
static inline long long cyconv_take(long long *word, long long number, int from_back)
{
    const long long before = cyconv_add(word, from_back ? 1LL << 32 : 1);
    const long long front = before & 0xffffffff, back = before >> 32;
    if (front + back >= number)
        return number;
    return from_back ? number - 1 - back : front;
}

/* Nanoseconds of the clock; it may jump, so a wait is bounded by its rounds as well. */
static inline long long cyconv_clock(void)
{
    struct timespec now;
    timespec_get(&now, TIME_UTC);
    return (long long)now.tv_sec * 1000000000LL + now.tv_nsec;
}

/* Wait until *word is no longer `seen`, and then `after` more; or, if there is a bell, until it is no
   longer as it was `heard`; at most about `nanoseconds`. Return whether one of them changed. */
static inline int cyconv_wait_for_change(const long long *word, long long seen, long long nanoseconds,
                                         long long after, const long long *bell, long long heard)
{
    long long start = cyconv_clock(), now = start, until = start + nanoseconds;
    int changed = 0;
    for (long long rounds = (nanoseconds + after) / 20 + 2; rounds > 0; rounds--) {
        if (bell && cyconv_read(bell) != heard)
            return 1;
        if (!changed && cyconv_read(word) != seen) {
            changed = 1;
            until = now + after;
        }
        if (now >= until || now < start)
            break;
        cyconv_pause();
        now = cyconv_clock();
    }
    return changed;
}

/* Wait until *word is `value` or more: for other threads that are in the middle of a tile, so not for long,
   unless there are more threads than cores. */
static inline void cyconv_wait_until(const long long *word, long long value)
{
    for (long rounds = 0; cyconv_read(word) < value; rounds++) {
        if (rounds < 2000)
            cyconv_pause();
        else
            cyconv_let_others_run();
    }
}

#endif
