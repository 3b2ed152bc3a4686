/* float16 to float32 and back, over runs of cells: half.pxi. Rounding is to the nearest, and to the
   even one of two as near; what is too large becomes Inf, and NaN stays NaN. float16 has no type of
   its own here: halves are its bits. */

#ifndef CYCONV_HALF_H
#define CYCONV_HALF_H

#include <stdint.h>

#include "simd.h"

/* So many cells at once. */
#if defined(CYCONV_AVX512)
#define HALVES_AT_ONCE 16
ALWAYS_INLINE void cyconv_widen(const uint16_t *halves, float *cells) {
    _mm512_storeu_ps(cells, _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)halves)));
}
ALWAYS_INLINE void cyconv_narrow(const float *cells, uint16_t *halves) {
    _mm256_storeu_si256(
        (__m256i *)halves,
        _mm512_cvtps_ph(_mm512_loadu_ps(cells), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
#elif defined(CYCONV_AVX2)
#define HALVES_AT_ONCE 8
ALWAYS_INLINE void cyconv_widen(const uint16_t *halves, float *cells) {
    _mm256_storeu_ps(cells, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)halves)));
}
ALWAYS_INLINE void cyconv_narrow(const float *cells, uint16_t *halves) {
    _mm_storeu_si128(
        (__m128i *)halves, _mm256_cvtps_ph(_mm256_loadu_ps(cells), _MM_FROUND_TO_NEAREST_INT));
}
#elif defined(CYCONV_NEON)
#define HALVES_AT_ONCE 4
ALWAYS_INLINE void cyconv_widen(const uint16_t *halves, float *cells) {
    vst1q_f32(cells, vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(halves))));
}
ALWAYS_INLINE void cyconv_narrow(const float *cells, uint16_t *halves) {
    vst1_u16(halves, vreinterpret_u16_f16(vcvt_f16_f32(vld1q_f32(cells))));
}
#else
/* With integers, and without branches, so that compilers make vectors of it. A float32 has 8 bits of
   exponent, biased by 127, and 23 of mantissa; a float16 has 5, biased by 15, and 10. Below 2^-14 its
   cells are multiples of 2^-24: there an addition or subtraction of floats does the shifting. */
#define HALVES_AT_ONCE 8
#define SMALLEST_NORMAL 0x38800000u /* 2^-14 */
#define ONE_HALF 0x3f000000u /* a float from there to 1 is a multiple of 2^-24 */
#define INF 0x7f800000u

ALWAYS_INLINE float cyconv_float(uint32_t bits) {
    float cell;
    memcpy(&cell, &bits, sizeof cell);
    return cell;
}
ALWAYS_INLINE uint32_t cyconv_bits(float cell) {
    uint32_t bits;
    memcpy(&bits, &cell, sizeof bits);
    return bits;
}
ALWAYS_INLINE uint32_t cyconv_choose(int condition, uint32_t yes, uint32_t no) {
    const uint32_t mask = (uint32_t)-condition;
    return (yes & mask) | (no & ~mask);
}

ALWAYS_INLINE float cyconv_widen_one(uint16_t half) {
    const uint32_t sign = (uint32_t)(half & 0x8000) << 16, rest = (uint32_t)(half & 0x7fff) << 13;
    const uint32_t normal = rest + ((127 - 15) << 23);
    const uint32_t small = cyconv_bits(
        cyconv_float(rest | SMALLEST_NORMAL) - cyconv_float(SMALLEST_NORMAL));
    const uint32_t bits = cyconv_choose((half & 0x7c00) == 0, small, normal);
    return cyconv_float(sign | cyconv_choose((half & 0x7c00) == 0x7c00, rest | INF, bits));
}
ALWAYS_INLINE uint16_t cyconv_narrow_one(float cell) {
    const uint32_t bits = cyconv_bits(cell), sign = bits >> 16 & 0x8000, rest = bits & 0x7fffffff;
    /* Half of the last place that is kept, less one where that place is even. */
    const uint32_t round = 0x0fff + (rest >> 13 & 1);
    const uint32_t normal = (rest + round - ((127 - 15) << 23)) >> 13;
    const uint32_t small = cyconv_bits(cyconv_float(rest) + cyconv_float(ONE_HALF)) - ONE_HALF;
    const uint32_t some = cyconv_choose((int32_t)rest < (int32_t)SMALLEST_NORMAL, small, normal);
    const uint32_t finite = cyconv_choose((int32_t)some > 0x7c00, 0x7c00, some);
    return (uint16_t)(sign | cyconv_choose((int32_t)rest > (int32_t)INF, 0x7e00, finite));
}
ALWAYS_INLINE void cyconv_widen(const uint16_t *halves, float *cells) {
    for (int i = 0; i < HALVES_AT_ONCE; i++) cells[i] = cyconv_widen_one(halves[i]);
}
ALWAYS_INLINE void cyconv_narrow(const float *cells, uint16_t *halves) {
    for (int i = 0; i < HALVES_AT_ONCE; i++) halves[i] = cyconv_narrow_one(cells[i]);
}
#endif

/* A row of n cells; what is left of it in the end goes through a small copy. */
static void cyconv_widen_row(const uint16_t *halves, float *cells, ptrdiff_t n) {
    uint16_t from[HALVES_AT_ONCE] = {0};
    float to[HALVES_AT_ONCE];
    for (; n >= HALVES_AT_ONCE; n -= HALVES_AT_ONCE, halves += HALVES_AT_ONCE, cells += HALVES_AT_ONCE)
        cyconv_widen(halves, cells);
    if (n == 0) return;
    memcpy(from, halves, n * sizeof *halves);
    cyconv_widen(from, to);
    memcpy(cells, to, n * sizeof *cells);
}

static void cyconv_narrow_row(const float *cells, uint16_t *halves, ptrdiff_t n) {
    float from[HALVES_AT_ONCE] = {0};
    uint16_t to[HALVES_AT_ONCE];
    for (; n >= HALVES_AT_ONCE; n -= HALVES_AT_ONCE, halves += HALVES_AT_ONCE, cells += HALVES_AT_ONCE)
        cyconv_narrow(cells, halves);
    if (n == 0) return;
    memcpy(from, cells, n * sizeof *cells);
    cyconv_narrow(from, to);
    memcpy(halves, to, n * sizeof *halves);
}

#endif
