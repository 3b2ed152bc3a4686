/* Vectors: a type and a few operations for each instruction set, and on top of them the microkernel
   and a transposition.

   setup.py compiles the same kernels once for each set, which it names by one of CYCONV_AVX512,
   CYCONV_AVX2 and CYCONV_NEON; without a name it is plain C, in the 16-byte vectors that GCC and
   Clang have for every processor, or small arrays elsewhere.

   The file includes itself once for float and once for double; NAME(f) is f_float or f_double. */

#ifndef REAL

#ifndef CYCONV_SIMD_H
#define CYCONV_SIMD_H

#include <stddef.h>
#include <string.h>

#if defined(_MSC_VER)
#define ALWAYS_INLINE static __forceinline
#define UNROLL
#define RESTRICT __restrict
#if defined(_M_X64)
#define PREFETCH(cells) _mm_prefetch((const char *)(cells), _MM_HINT_T0)
#define PREFETCH_NEAR(cells) _mm_prefetch((const char *)(cells), _MM_HINT_T1)
#else
#define PREFETCH(cells) ((void)(cells))
#define PREFETCH_NEAR(cells) ((void)(cells))
#endif
#else
#define ALWAYS_INLINE static inline __attribute__((always_inline))
#define RESTRICT __restrict__
#define PREFETCH(cells) __builtin_prefetch(cells)
/* Into the second cache, for which there is more to do before it is read. */
#define PREFETCH_NEAR(cells) __builtin_prefetch(cells, 0, 2)
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif
#endif

#if defined(CYCONV_AVX512) || defined(CYCONV_AVX2)
#include <immintrin.h>
#elif defined(CYCONV_NEON)
#include <arm_neon.h>
#endif

#if defined(CYCONV_AVX512)
#define VECTOR_BYTES 64
#define MASKS
#elif defined(CYCONV_AVX2)
#define VECTOR_BYTES 32
#define MASKS
/* Masks: n lanes that are on, followed by lanes that are off, begin 8 - n from its start. */
static const int cyconv_some[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};
/* Stores are of whole halves and quarters: with masks they take a dozen cycles on AMD's processors, and
   depthwise planes of 14x14 took 1.7 times as long. */
ALWAYS_INLINE void store_some_float(float *cells, __m256 v, ptrdiff_t n) {
    __m128 left = _mm256_castps256_ps128(v);
    if (n & 8) {
        _mm256_storeu_ps(cells, v);
        return;
    }
    if (n & 4) {
        _mm_storeu_ps(cells, left);
        left = _mm256_extractf128_ps(v, 1);
        cells += 4;
    }
    if (n & 2) {
        _mm_storel_pi((__m64 *)cells, left);
        left = _mm_movehl_ps(left, left);
        cells += 2;
    }
    if (n & 1) _mm_store_ss(cells, left);
}
ALWAYS_INLINE void store_some_double(double *cells, __m256d v, ptrdiff_t n) {
    __m128d left = _mm256_castpd256_pd128(v);
    if (n & 4) {
        _mm256_storeu_pd(cells, v);
        return;
    }
    if (n & 2) {
        _mm_storeu_pd(cells, left);
        left = _mm256_extractf128_pd(v, 1);
        cells += 2;
    }
    if (n & 1) _mm_store_sd(cells, left);
}
#else
#define VECTOR_BYTES 16
#endif

/* The microkernel keeps MOST_ROWS x MOST_VECTORS sums in registers, beside as many vectors of cells
   and a weight: of 32 registers, or of 16. With few rows there is room for twice as many vectors. */
#define MOST_VECTORS 3
#if defined(CYCONV_AVX512) || defined(CYCONV_NEON)
#define REGISTERS 32
#define MOST_ROWS 8
#define FOR_EACH_ROWS(DO) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8)
#define FOR_FEW_ROWS(DO) DO(1) DO(2) DO(3) DO(4)
#else
#define REGISTERS 16
#define MOST_ROWS 4
#define FOR_EACH_ROWS(DO) DO(1) DO(2) DO(3) DO(4)
#define FOR_FEW_ROWS(DO) DO(1) DO(2)
#endif
/* Whether sums, cells and a weight take more registers than there are; without fused multiplication and
   addition a product takes one too. Compilers that have read all cells at once then keep a sum in
   memory, to which each tap adds there, one after another. After NOT_SO_SOON they cannot have read
   what follows yet. */
#if defined(CYCONV_AVX512) || defined(CYCONV_AVX2) || defined(CYCONV_NEON)
#define CROWDED(rows, vectors) (((rows) + 1) * (vectors) + 1 > REGISTERS)
#else
#define CROWDED(rows, vectors) (((rows) + 1) * (vectors) + 2 > REGISTERS)
/* Images that plain C reads in place are small, and in the nearest cache. */
#undef PREFETCH
#define PREFETCH(cells) ((void)(cells))
#endif
#if defined(__GNUC__) && REGISTERS == 16
#define NOT_SO_SOON __asm__ volatile("" ::: "memory")
#else
#define NOT_SO_SOON ((void)0)
#endif

/* Where a tap reads the input, and its weight: steps from where the tile and its first row begin. */
typedef struct { ptrdiff_t cell, weight; } Tap;
/* How many taps ahead cells are fetched: with 1024 channels, 6% faster than not at all. */
#define AHEAD 8
/* What is about to be filled, from memory to the nearest cache: with AVX-512 depthwise planes that are
   far away took 0.4 to 0.6 of the time, with AVX2 1.0 to 1.1. */
#if defined(CYCONV_AVX512)
#define PREFETCH_RESULT(cells) PREFETCH(cells)
#else
#define PREFETCH_RESULT(cells) ((void)(cells))
#endif
#define CACHE_LINE 64

#define REAL float
#define NAME(function) function##_float
#if defined(CYCONV_AVX512)
#define INTRINSIC(operation) _mm512_##operation##_ps
#define ZIP_LOW _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define ZIP_HIGH _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)
#define SOME(n) ((__mmask16)((1u << (n)) - 1))
#define EVEN _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 17, 19, 21, 23, 25, 27, 29, 31)
#define EVEN_OF _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30)
#define ODD_OF _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31)
typedef __m512 vector_float;
typedef __mmask16 mask_float;
#elif defined(CYCONV_AVX2)
#define INTRINSIC(operation) _mm256_##operation##_ps
#define HALVES _mm256_permute2f128_ps
#define SOME(n) _mm256_loadu_si256((const __m256i *)(cyconv_some + 8 - (n)))
#define EVEN(a, b)                                                                               \
    _mm256_castpd_ps(_mm256_permute4x64_pd(                                                      \
        _mm256_castps_pd(_mm256_shuffle_ps(a, b, _MM_SHUFFLE(3, 1, 2, 0))), _MM_SHUFFLE(3, 1, 2, 0)))
#define IN_ORDER(v)                                                                              \
    _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(v), _MM_SHUFFLE(3, 1, 2, 0)))
#define EVEN_LANES _MM_SHUFFLE(2, 0, 2, 0)
#define ODD_LANES _MM_SHUFFLE(3, 1, 3, 1)
typedef __m256 vector_float;
typedef __m256i mask_float;
#elif defined(CYCONV_NEON)
#define INTRINSIC(operation) operation##_f32
typedef float32x4_t vector_float;
#else
#define ALL(value) {value, value, value, value}
#define EVEN(a, b) {a[0], a[2], b[1], b[3]}
#define ZIP_LOW(a, b) {a[0], b[0], a[1], b[1]}
#define ZIP_HIGH(a, b) {a[2], b[2], a[3], b[3]}
#endif
#include "simd.h"
#undef REAL
#undef NAME
#undef INTRINSIC
#undef ZIP_LOW
#undef ZIP_HIGH
#undef HALVES
#undef SOME
#undef EVEN
#undef EVEN_OF
#undef ODD_OF
#undef IN_ORDER
#undef EVEN_LANES
#undef ODD_LANES
#undef ALL

#define REAL double
#define NAME(function) function##_double
#if defined(CYCONV_AVX512)
#define INTRINSIC(operation) _mm512_##operation##_pd
#define ZIP_LOW _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11)
#define ZIP_HIGH _mm512_setr_epi64(4, 12, 5, 13, 6, 14, 7, 15)
#define SOME(n) ((__mmask8)((1u << (n)) - 1))
#define EVEN _mm512_setr_epi64(0, 2, 4, 6, 9, 11, 13, 15)
#define EVEN_OF _mm512_setr_epi64(0, 2, 4, 6, 8, 10, 12, 14)
#define ODD_OF _mm512_setr_epi64(1, 3, 5, 7, 9, 11, 13, 15)
typedef __m512d vector_double;
typedef __mmask8 mask_double;
#elif defined(CYCONV_AVX2)
#define INTRINSIC(operation) _mm256_##operation##_pd
#define HALVES _mm256_permute2f128_pd
#define SOME(n) _mm256_loadu_si256((const __m256i *)(cyconv_some + 8 - 2 * (n)))
#define EVEN(a, b)                                                                               \
    _mm256_permute4x64_pd(_mm256_shuffle_pd(a, b, 10), _MM_SHUFFLE(3, 1, 2, 0))
#define IN_ORDER(v) _mm256_permute4x64_pd(v, _MM_SHUFFLE(3, 1, 2, 0))
#define EVEN_LANES 0
#define ODD_LANES 15
typedef __m256d vector_double;
typedef __m256i mask_double;
#elif defined(CYCONV_NEON)
#define INTRINSIC(operation) operation##_f64
typedef float64x2_t vector_double;
#else
#define ALL(value) {value, value}
#define EVEN(a, b) {a[0], b[1]}
#define ZIP_LOW(a, b) {a[0], b[0]}
#define ZIP_HIGH(a, b) {a[1], b[1]}
#endif
#include "simd.h"
#undef REAL
#undef NAME
#undef INTRINSIC
#undef ZIP_LOW
#undef ZIP_HIGH
#undef HALVES
#undef SOME
#undef EVEN
#undef EVEN_OF
#undef ODD_OF
#undef IN_ORDER
#undef EVEN_LANES
#undef ODD_LANES
#undef ALL

#endif

#else /* REAL: once for each type */

#define LANES ((ptrdiff_t)(VECTOR_BYTES / sizeof(REAL)))
#define VECTOR NAME(vector)

#if defined(CYCONV_AVX512) || defined(CYCONV_AVX2)

ALWAYS_INLINE VECTOR NAME(load)(const REAL *cells) { return INTRINSIC(loadu)(cells); }
ALWAYS_INLINE void NAME(store)(REAL *cells, VECTOR v) { INTRINSIC(storeu)(cells, v); }
ALWAYS_INLINE VECTOR NAME(spread)(REAL value) { return INTRINSIC(set1)(value); }
ALWAYS_INLINE VECTOR NAME(multiply_add)(VECTOR sum, VECTOR a, VECTOR b) {
    return INTRINSIC(fmadd)(a, b, sum);
}
ALWAYS_INLINE VECTOR NAME(multiply)(VECTOR a, VECTOR b) { return INTRINSIC(mul)(a, b); }
ALWAYS_INLINE VECTOR NAME(add)(VECTOR a, VECTOR b) { return INTRINSIC(add)(a, b); }
ALWAYS_INLINE VECTOR NAME(subtract)(VECTOR a, VECTOR b) { return INTRINSIC(sub)(a, b); }
#if defined(CYCONV_AVX512)
ALWAYS_INLINE VECTOR NAME(load_some)(const REAL *cells, ptrdiff_t n) {
    return INTRINSIC(maskz_loadu)(SOME(n), cells);
}
ALWAYS_INLINE void NAME(store_some)(REAL *cells, VECTOR v, ptrdiff_t n) {
    INTRINSIC(mask_storeu)(cells, SOME(n), v);
}
ALWAYS_INLINE NAME(mask) NAME(mask_of)(ptrdiff_t first, ptrdiff_t last) {
    return (NAME(mask))((1u << last) - (1u << first));
}
ALWAYS_INLINE VECTOR NAME(load_masked)(const REAL *cells, NAME(mask) lanes) {
    return INTRINSIC(maskz_loadu)(lanes, cells);
}
ALWAYS_INLINE REAL NAME(total)(VECTOR v) { return INTRINSIC(reduce_add)(v); }
ALWAYS_INLINE VECTOR NAME(pick_even)(VECTOR a, VECTOR b) {
    return INTRINSIC(permutex2var)(a, EVEN, b);
}
ALWAYS_INLINE VECTOR NAME(even_of)(VECTOR a, VECTOR b) {
    return INTRINSIC(permutex2var)(a, EVEN_OF, b);
}
ALWAYS_INLINE VECTOR NAME(odd_of)(VECTOR a, VECTOR b) {
    return INTRINSIC(permutex2var)(a, ODD_OF, b);
}
ALWAYS_INLINE VECTOR NAME(zip_low)(VECTOR a, VECTOR b) {
    return INTRINSIC(permutex2var)(a, ZIP_LOW, b);
}
ALWAYS_INLINE VECTOR NAME(zip_high)(VECTOR a, VECTOR b) {
    return INTRINSIC(permutex2var)(a, ZIP_HIGH, b);
}
#else
ALWAYS_INLINE VECTOR NAME(load_some)(const REAL *cells, ptrdiff_t n) {
    return INTRINSIC(maskload)(cells, SOME(n));
}
ALWAYS_INLINE NAME(mask) NAME(mask_of)(ptrdiff_t first, ptrdiff_t last) {
    return _mm256_andnot_si256(SOME(first), SOME(last));
}
ALWAYS_INLINE VECTOR NAME(load_masked)(const REAL *cells, NAME(mask) lanes) {
    return INTRINSIC(maskload)(cells, lanes);
}
ALWAYS_INLINE REAL NAME(total)(VECTOR v) {
    REAL lanes[VECTOR_BYTES / sizeof(REAL)], sum = 0;
    v = NAME(add)(v, HALVES(v, v, 1));
    INTRINSIC(storeu)(lanes, v);
    for (int i = 0; i < LANES / 2; i++) sum += lanes[i];
    return sum;
}
ALWAYS_INLINE VECTOR NAME(pick_even)(VECTOR a, VECTOR b) { return EVEN(a, b); }
ALWAYS_INLINE VECTOR NAME(even_of)(VECTOR a, VECTOR b) {
    return IN_ORDER(INTRINSIC(shuffle)(a, b, EVEN_LANES));
}
ALWAYS_INLINE VECTOR NAME(odd_of)(VECTOR a, VECTOR b) {
    return IN_ORDER(INTRINSIC(shuffle)(a, b, ODD_LANES));
}
ALWAYS_INLINE VECTOR NAME(zip_low)(VECTOR a, VECTOR b) {
    return HALVES(INTRINSIC(unpacklo)(a, b), INTRINSIC(unpackhi)(a, b), 0x20);
}
ALWAYS_INLINE VECTOR NAME(zip_high)(VECTOR a, VECTOR b) {
    return HALVES(INTRINSIC(unpacklo)(a, b), INTRINSIC(unpackhi)(a, b), 0x31);
}
#endif

#elif defined(CYCONV_NEON)

ALWAYS_INLINE VECTOR NAME(load)(const REAL *cells) { return INTRINSIC(vld1q)(cells); }
ALWAYS_INLINE void NAME(store)(REAL *cells, VECTOR v) { INTRINSIC(vst1q)(cells, v); }
ALWAYS_INLINE VECTOR NAME(spread)(REAL value) { return INTRINSIC(vdupq_n)(value); }
ALWAYS_INLINE VECTOR NAME(multiply_add)(VECTOR sum, VECTOR a, VECTOR b) {
    return INTRINSIC(vfmaq)(sum, a, b);
}
ALWAYS_INLINE VECTOR NAME(multiply)(VECTOR a, VECTOR b) { return INTRINSIC(vmulq)(a, b); }
ALWAYS_INLINE VECTOR NAME(add)(VECTOR a, VECTOR b) { return INTRINSIC(vaddq)(a, b); }
ALWAYS_INLINE VECTOR NAME(subtract)(VECTOR a, VECTOR b) { return INTRINSIC(vsubq)(a, b); }
ALWAYS_INLINE VECTOR NAME(zip_low)(VECTOR a, VECTOR b) { return INTRINSIC(vzip1q)(a, b); }
ALWAYS_INLINE VECTOR NAME(zip_high)(VECTOR a, VECTOR b) { return INTRINSIC(vzip2q)(a, b); }
ALWAYS_INLINE VECTOR NAME(pick_even)(VECTOR a, VECTOR b) {
    return INTRINSIC(vuzp1q)(a, INTRINSIC(vextq)(b, b, 1));
}

#else

#if defined(__GNUC__)
/* Lanes are put together in one expression: GCC makes one instruction of it, and ten where they are
   set one by one. */
typedef REAL VECTOR __attribute__((vector_size(VECTOR_BYTES)));
ALWAYS_INLINE VECTOR NAME(spread)(REAL value) { return (VECTOR)ALL(value); }
ALWAYS_INLINE VECTOR NAME(multiply_add)(VECTOR sum, VECTOR a, VECTOR b) { return sum + a * b; }
ALWAYS_INLINE VECTOR NAME(multiply)(VECTOR a, VECTOR b) { return a * b; }
ALWAYS_INLINE VECTOR NAME(add)(VECTOR a, VECTOR b) { return a + b; }
ALWAYS_INLINE VECTOR NAME(subtract)(VECTOR a, VECTOR b) { return a - b; }
ALWAYS_INLINE VECTOR NAME(zip_low)(VECTOR a, VECTOR b) { return (VECTOR)ZIP_LOW(a, b); }
ALWAYS_INLINE VECTOR NAME(zip_high)(VECTOR a, VECTOR b) { return (VECTOR)ZIP_HIGH(a, b); }
ALWAYS_INLINE VECTOR NAME(pick_even)(VECTOR a, VECTOR b) { return (VECTOR)EVEN(a, b); }
#else
typedef struct { REAL lanes[VECTOR_BYTES / sizeof(REAL)]; } VECTOR;
ALWAYS_INLINE VECTOR NAME(spread)(REAL value) {
    VECTOR v;
    for (ptrdiff_t i = 0; i < LANES; i++) v.lanes[i] = value;
    return v;
}
ALWAYS_INLINE VECTOR NAME(multiply_add)(VECTOR sum, VECTOR a, VECTOR b) {
    for (ptrdiff_t i = 0; i < LANES; i++) sum.lanes[i] += a.lanes[i] * b.lanes[i];
    return sum;
}
ALWAYS_INLINE VECTOR NAME(multiply)(VECTOR a, VECTOR b) {
    for (ptrdiff_t i = 0; i < LANES; i++) a.lanes[i] *= b.lanes[i];
    return a;
}
ALWAYS_INLINE VECTOR NAME(add)(VECTOR a, VECTOR b) {
    for (ptrdiff_t i = 0; i < LANES; i++) a.lanes[i] += b.lanes[i];
    return a;
}
ALWAYS_INLINE VECTOR NAME(subtract)(VECTOR a, VECTOR b) {
    for (ptrdiff_t i = 0; i < LANES; i++) a.lanes[i] -= b.lanes[i];
    return a;
}
ALWAYS_INLINE VECTOR NAME(zip_low)(VECTOR a, VECTOR b) {
    VECTOR v;
    for (ptrdiff_t i = 0; i < LANES; i++) v.lanes[i] = (i % 2 ? b : a).lanes[i / 2];
    return v;
}
ALWAYS_INLINE VECTOR NAME(zip_high)(VECTOR a, VECTOR b) {
    VECTOR v;
    for (ptrdiff_t i = 0; i < LANES; i++) v.lanes[i] = (i % 2 ? b : a).lanes[(LANES + i) / 2];
    return v;
}
ALWAYS_INLINE VECTOR NAME(pick_even)(VECTOR a, VECTOR b) {
    VECTOR v;
    for (ptrdiff_t i = 0; i < LANES; i++)
        v.lanes[i] = 2 * i < LANES ? a.lanes[2 * i] : b.lanes[2 * i + 1 - LANES];
    return v;
}
#endif
ALWAYS_INLINE VECTOR NAME(load)(const REAL *cells) {
    VECTOR v;
    memcpy(&v, cells, sizeof v);
    return v;
}
ALWAYS_INLINE void NAME(store)(REAL *cells, VECTOR v) { memcpy(cells, &v, sizeof v); }

#endif

/* Where there are masks, load_masked reads the lanes from `first` up to `last` of mask_of, and the
   others are zero; total is the sum of all lanes; and even_of and odd_of are every second lane of two
   vectors that follow each other (for pick_even the second begins a lane earlier). */

/* load_some and store_some touch the first n cells only, of which there are at most a vector's; the
   other lanes are zero. Where the set has no masks for that they do it one by one. */
#if !defined(MASKS)
ALWAYS_INLINE VECTOR NAME(load_some)(const REAL *cells, ptrdiff_t n) {
    REAL some[VECTOR_BYTES / sizeof(REAL)] = {0};
    for (ptrdiff_t i = 0; i < n; i++) some[i] = cells[i];
    return NAME(load)(some);
}
ALWAYS_INLINE void NAME(store_some)(REAL *cells, VECTOR v, ptrdiff_t n) {
    REAL some[VECTOR_BYTES / sizeof(REAL)];
    NAME(store)(some, v);
    for (ptrdiff_t i = 0; i < n; i++) cells[i] = some[i];
}
#endif

/* Every second cell, of as many as that takes and not one more; and of the first n of these. */
ALWAYS_INLINE VECTOR NAME(load_even)(const REAL *cells) {
    return NAME(pick_even)(NAME(load)(cells), NAME(load)(cells + LANES - 1));
}
ALWAYS_INLINE VECTOR NAME(load_some_even)(const REAL *cells, ptrdiff_t n) {
    const ptrdiff_t first = 2 * n - 1 < LANES ? 2 * n - 1 : LANES;
    return NAME(pick_even)(
        NAME(load_some)(cells, first),
        2 * n > LANES ? NAME(load_some)(cells + LANES - 1, 2 * n - LANES) : NAME(spread)(0));
}

/* One tap of the microkernel, below. Where registers are crowded, and a table takes some more, the cells
   of two rows are read one after another, and of more rows the last for each row again: a seventh less
   time for plain C, and a tenth with AVX2. */
ALWAYS_INLINE void NAME(add_tap)(
    const int rows, const int vectors, const REAL *from, const REAL *const *row, ptrdiff_t weight_at,
    const int crowded, VECTOR (*sums)[2 * MOST_VECTORS]) {
    VECTOR cells[2 * MOST_VECTORS], weights[MOST_ROWS];
    if (crowded && rows <= 2) {
        UNROLL
        for (int i = 0; i < rows; i++) weights[i] = NAME(spread)(row[i][weight_at]);
        UNROLL
        for (int j = 0; j < vectors; j++) {
            NOT_SO_SOON;
            cells[j] = NAME(load)(from + j * LANES);
            UNROLL
            for (int i = 0; i < rows; i++)
                sums[i][j] = NAME(multiply_add)(sums[i][j], weights[i], cells[j]);
        }
        return;
    }
    UNROLL
    for (int j = 0; j < vectors; j++) cells[j] = NAME(load)(from + j * LANES);
    UNROLL
    for (int i = 0; i < rows; i++) {
        const VECTOR weight = NAME(spread)(row[i][weight_at]);
        if (crowded) {
            NOT_SO_SOON;
            cells[vectors - 1] = NAME(load)(from + (vectors - 1) * LANES);
        }
        UNROLL
        for (int j = 0; j < vectors; j++)
            sums[i][j] = NAME(multiply_add)(sums[i][j], weight, cells[j]);
    }
}

/* The microkernel: for `rows` rows and `vectors` whole vectors of positions,

       y[i * y_step + j] = start + the sum over taps of
                           weights[row_at[i] + tap.weight] * x[tap.cell + j]

   where start is bias[i], or zero where bias is NULL; added to what y holds where `add` is set, in
   the end, so that long sums are sums of shorter ones, which are more accurate. Called with constants
   for rows and vectors, so that the sums are in registers. Weights are read where they lie: for
   forward passes a copy in the order of reading gained nothing. Cells are fetched into the nearest
   cache some taps ahead; the table of taps goes on that far.

   Without a table (NULL, a constant too) taps are equal steps of x and of the weights, as of a matrix
   product: no table is read, nor anything fetched, which is a tenth of the time with sixteen registers,
   and with two vectors on processors of Intel's, which multiply twice as much for each cell they read. */
ALWAYS_INLINE void NAME(tile)(
    const int rows, const int vectors, const REAL *x, const Tap *taps, const Tap *step,
    ptrdiff_t count, const REAL *weights, const ptrdiff_t *row_at, const REAL *bias, int add, REAL *y,
    ptrdiff_t y_step) {
    VECTOR sums[MOST_ROWS][2 * MOST_VECTORS];
    const REAL *row[MOST_ROWS];
    UNROLL
    for (int i = 0; i < rows; i++) {
        row[i] = weights + row_at[i];
        UNROLL
        for (int j = 0; j < vectors; j++)
            sums[i][j] = NAME(spread)(bias ? bias[i] : 0);
    }
    if (taps)
        for (ptrdiff_t k = 0; k < count; k++) {
            const REAL *from = x + taps[k].cell, *next = x + taps[k + AHEAD].cell;
            const ptrdiff_t weight_at = taps[k].weight;
            UNROLL
            for (int j = 0; j < vectors; j++) PREFETCH(next + j * LANES);
            NAME(add_tap)(rows, vectors, from, row, weight_at, CROWDED(rows, vectors), sums);
        }
    else
        for (ptrdiff_t k = 0, weight_at = 0; k < count; k++, x += step->cell, weight_at += step->weight)
            NAME(add_tap)(rows, vectors, x, row, weight_at, 0, sums);
    if (add) {
        const VECTOR one = NAME(spread)(1);
        UNROLL
        for (int i = 0; i < rows; i++) {
            UNROLL
            for (int j = 0; j < vectors; j++)
                sums[i][j] = NAME(multiply_add)(sums[i][j], one, NAME(load)(y + i * y_step + j * LANES));
        }
    }
    UNROLL
    for (int i = 0; i < rows; i++) {
        UNROLL
        for (int j = 0; j < vectors; j++) NAME(store)(y + i * y_step + j * LANES, sums[i][j]);
    }
}

/* Fetch where a tile will be written, so that it has come when the sums are done: first layers and 1x1
   with few channels took 0.75 to 0.95 times as long. (Winograd's products, which stay in cache, took
   1.03 times.) */
static void NAME(fetch_tile)(const REAL *y, ptrdiff_t y_step, int rows, int vectors) {
    for (int i = 0; i < rows; i++, y += y_step)
        for (int j = 0; j < vectors; j++) PREFETCH(y + j * LANES);
}

/* Fetch rows that are read after this tile and the next ones, from memory that no cache has. */
static void NAME(fetch_rows)(const REAL *x, ptrdiff_t items) {
    for (ptrdiff_t i = 0; i < items; i += CACHE_LINE / sizeof(REAL)) PREFETCH_NEAR(x + i);
}

/* Fetch the starts of rows that are turned soon: where a few cells of each are read at a time, of one row
   after another, no processor guesses what comes next. */
static void NAME(fetch_starts)(const REAL *x, ptrdiff_t step, ptrdiff_t rows) {
    for (ptrdiff_t i = 0; i < rows; i++) PREFETCH_NEAR(x + i * step);
}

#define DEFINE_TILE(ROWS, VECTORS)                                                               \
    static void NAME(tile_##ROWS##_##VECTORS)(                                                   \
        const REAL *x, const Tap *taps, ptrdiff_t count, const REAL *weights,                    \
        const ptrdiff_t *row_at, const REAL *bias, int add, REAL *y, ptrdiff_t y_step) {         \
        NAME(tile)(                                                                              \
            ROWS, VECTORS, x, taps, NULL, count, weights, row_at, bias, add, y, y_step);         \
    }
#define DEFINE_PRODUCT(ROWS, VECTORS)                                                            \
    static void NAME(product_##ROWS##_##VECTORS)(                                                \
        const REAL *x, const Tap *step, ptrdiff_t count, const REAL *weights,                    \
        const ptrdiff_t *row_at, const REAL *bias, int add, REAL *y, ptrdiff_t y_step) {         \
        NAME(tile)(                                                                              \
            ROWS, VECTORS, x, NULL, step, count, weights, row_at, bias, add, y, y_step);         \
    }
#define THREE(DO, ROWS) DO(ROWS, 1) DO(ROWS, 2) DO(ROWS, 3)
#define THREE_MORE(DO, ROWS) DO(ROWS, 4) DO(ROWS, 5) DO(ROWS, 6)
#define DEFINE_TILES(ROWS) THREE(DEFINE_TILE, ROWS)
#define DEFINE_WIDE_TILES(ROWS) THREE_MORE(DEFINE_TILE, ROWS)
FOR_EACH_ROWS(DEFINE_TILES)
FOR_FEW_ROWS(DEFINE_WIDE_TILES)

#define DEFINE_PRODUCTS(ROWS) THREE(DEFINE_PRODUCT, ROWS)
FOR_EACH_ROWS(DEFINE_PRODUCTS)
#undef DEFINE_PRODUCTS

/* The microkernel for 1 to MOST_ROWS rows and at most MOST_VECTORS vectors; twice as many where rows
   are at most half as many. `steady` says that taps are equal steps, which need no table: up to
   MOST_VECTORS only two of them are read. */
static void NAME(multiply_tile)(
    int rows, int vectors, const REAL *x, const Tap *taps, int steady, ptrdiff_t count,
    const REAL *weights, const ptrdiff_t *row_at, const REAL *bias, int add, REAL *y,
    ptrdiff_t y_step) {
#define CASES(ROWS) THREE(CASE, ROWS)
#define WIDE_CASES(ROWS) THREE_MORE(CASE, ROWS)
    if (steady && vectors <= MOST_VECTORS) {
        const Tap step = {taps[1].cell - taps[0].cell, taps[1].weight - taps[0].weight};
        x += taps[0].cell;
        weights += taps[0].weight;
        switch (8 * rows + vectors) {
#define CASE(ROWS, VECTORS)                                                                      \
    case 8 * ROWS + VECTORS:                                                                     \
        NAME(product_##ROWS##_##VECTORS)(x, &step, count, weights, row_at, bias, add, y, y_step);\
        return;
            FOR_EACH_ROWS(CASES)
#undef CASE
        }
    }
    switch (8 * rows + vectors) {
#define CASE(ROWS, VECTORS)                                                                      \
    case 8 * ROWS + VECTORS:                                                                     \
        NAME(tile_##ROWS##_##VECTORS)(x, taps, count, weights, row_at, bias, add, y, y_step);    \
        break;
        FOR_EACH_ROWS(CASES)
        FOR_FEW_ROWS(WIDE_CASES)
#undef CASE
    }
}

/* Transpose as many vectors as one has lanes: by rounds in which each is zipped with the one half of
   them further on. */
ALWAYS_INLINE void NAME(turn)(VECTOR *a) {
    VECTOR b[VECTOR_BYTES / sizeof(REAL)];
    UNROLL
    for (int round = 1; round < LANES; round *= 2) {
        UNROLL
        for (int i = 0; i < LANES / 2; i++) {
            b[2 * i] = NAME(zip_low)(a[i], a[i + LANES / 2]);
            b[2 * i + 1] = NAME(zip_high)(a[i], a[i + LANES / 2]);
        }
        UNROLL
        for (int i = 0; i < LANES; i++) a[i] = b[i];
    }
}

/* to[j * to_step + i] = from[i * from_step + j], for as many i and j as a vector has lanes; or for
   fewer rows i and columns j. */
static void NAME(transpose_tile)(const REAL *from, ptrdiff_t from_step, REAL *to, ptrdiff_t to_step) {
    VECTOR a[VECTOR_BYTES / sizeof(REAL)];
    UNROLL
    for (int i = 0; i < LANES; i++) a[i] = NAME(load)(from + i * from_step);
    NAME(turn)(a);
    UNROLL
    for (int i = 0; i < LANES; i++) NAME(store)(to + i * to_step, a[i]);
}

static void NAME(transpose_some)(
    const REAL *from, ptrdiff_t from_step, ptrdiff_t rows, ptrdiff_t columns, REAL *to, ptrdiff_t to_step) {
#if defined(MASKS)
    VECTOR a[VECTOR_BYTES / sizeof(REAL)];
    if (rows == LANES) { /* the usual case, in registers: Winograd layers took 0.92 to 1.0 of the time */
        UNROLL
        for (int i = 0; i < LANES; i++) a[i] = NAME(load_some)(from + i * from_step, columns);
        NAME(turn)(a);
        UNROLL
        for (int i = 0; i < LANES; i++)
            if (i < columns) NAME(store)(to + i * to_step, a[i]);
        return;
    }
    for (ptrdiff_t i = 0; i < LANES; i++)
        a[i] = i < rows ? NAME(load_some)(from + i * from_step, columns) : NAME(spread)(0);
    NAME(turn)(a);
    for (ptrdiff_t i = 0; i < columns; i++) NAME(store_some)(to + i * to_step, a[i], rows);
#else
    for (ptrdiff_t i = 0; i < rows; i++)
        for (ptrdiff_t j = 0; j < columns; j++) to[j * to_step + i] = from[i * from_step + j];
#endif
}

/* The same for any number of rows and columns, first along the side whose neighbours are nearer: the
   other's may compete for the same lines of the nearest cache. The last tile reaches back to where the
   one before has been, if there is one: with AVX2, whose masks are slow, forward passes by Winograd
   took 3% less time so. Those of AVX-512 are as fast. */
static void NAME(transpose)(
    const REAL *from, ptrdiff_t from_step, ptrdiff_t rows, ptrdiff_t columns, REAL *to,
    ptrdiff_t to_step) {
#if defined(CYCONV_AVX512)
    const int reach = 0;
#else
    const int reach = rows >= LANES && columns >= LANES;
#endif
    const ptrdiff_t r = rows % LANES, c = columns % LANES, bottom = rows - r, right = columns - c;
#define TURN(i, j)                                                                               \
    NAME(transpose_tile)(from + (i) * from_step + (j), from_step, to + (j) * to_step + (i), to_step)
#define TURN_SOME(i, j, r, c)                                                                    \
    NAME(transpose_some)(                                                                        \
        from + (i) * from_step + (j), from_step, r, c, to + (j) * to_step + (i), to_step)
    if (to_step > from_step)
        for (ptrdiff_t j = 0; j < right; j += LANES)
            for (ptrdiff_t i = 0; i < bottom; i += LANES) TURN(i, j);
    else
        for (ptrdiff_t i = 0; i < bottom; i += LANES)
            for (ptrdiff_t j = 0; j < right; j += LANES) TURN(i, j);
    for (ptrdiff_t i = 0; c && i < bottom; i += LANES) {
        if (reach)
            TURN(i, columns - LANES);
        else
            TURN_SOME(i, right, LANES, c);
    }
    for (ptrdiff_t j = 0; r && j < right; j += LANES) {
        if (reach)
            TURN(rows - LANES, j);
        else
            TURN_SOME(bottom, j, r, LANES);
    }
    if (r && c) {
        if (reach)
            TURN(rows - LANES, columns - LANES);
        else
            TURN_SOME(bottom, right, r, c);
    }
#undef TURN
#undef TURN_SOME
}

#undef DEFINE_TILE
#undef DEFINE_PRODUCT
#undef THREE
#undef THREE_MORE
#undef DEFINE_TILES
#undef DEFINE_WIDE_TILES
#undef CASES
#undef WIDE_CASES
#undef LANES
#undef VECTOR

#endif
