/* Which vector builds this processor and operating system can run: asked, not tried. */
#ifndef CYCONV_CPU_H
#define CYCONV_CPU_H

#if defined(__x86_64__) || defined(_M_X64)

#if defined(_MSC_VER)
#include <intrin.h>
static void cyconv_cpuid(int leaf, unsigned r[4]) { __cpuidex((int *)r, leaf, 0); }
static unsigned cyconv_saved(void) { return (unsigned)_xgetbv(0); }
#else
#include <cpuid.h>
static void cyconv_cpuid(int leaf, unsigned r[4]) {
    if (!__get_cpuid_count((unsigned)leaf, 0, &r[0], &r[1], &r[2], &r[3])) r[0] = r[1] = r[2] = r[3] = 0;
}
static unsigned cyconv_saved(void) {
    unsigned low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}
#endif

/* 2 for AVX-512 (F, DQ, BW, VL), 1 for AVX2 with FMA and F16C, 0 for neither. (Intel, Software Developer's
   Manual, volume 1, sections 14.3 and 15.2: the processor must have the instructions, and the
   system must save the registers.) */
static int cyconv_vector_level(void) {
    unsigned one[4], seven[4], saved;
    cyconv_cpuid(1, one);
    if (!(one[2] >> 27 & 1) || !(one[2] >> 28 & 1)) return 0; /* OSXSAVE, AVX */
    if (!(one[2] >> 12 & 1) || !(one[2] >> 29 & 1)) return 0; /* FMA, F16C */
    saved = cyconv_saved();
    cyconv_cpuid(7, seven);
    if ((saved & 0x06) != 0x06 || !(seven[1] >> 5 & 1)) return 0; /* AVX2 */
    if ((saved & 0xe0) != 0xe0 || !(seven[1] >> 16 & 1) || !(seven[1] >> 17 & 1) || !(seven[1] >> 30 & 1)
        || !(seven[1] >> 31 & 1))
        return 1;
    return 2;
}

#else

static int cyconv_vector_level(void) { return 0; }

#endif

#endif
