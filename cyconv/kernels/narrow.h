/* Depthwise on narrow planes, for builds with masks: a plane is read where it lies, and each of its
   rows once.

   Along W, a tap reads a vector of cells at an offset; lanes whose cell is beside the row are masked
   off, so that they are zero and touch no memory. Along H, the cells that a row gives are used for all
   outputs that they belong to: there are as many sums under way, in registers, as the kernel has
   rows. Both take code of its own for each size of the kernel. Stride is 1.

   The file includes itself once for float and once for double; NAME(f) is f_float or f_double. */

#ifndef REAL

#ifndef CYCONV_NARROW_H
#define CYCONV_NARROW_H

#include "simd.h"

#define MOST_COLUMNS 7
/* Rows have at most so many vectors. */
#define MOST_ACROSS 4

/* What the tap of one column reads, for one vector of a row: `cell` lanes away from the first cell of
   the row, in the lanes `first` to `last`. */
typedef struct { ptrdiff_t cell, first, last; } Column;

typedef struct {
    ptrdiff_t kernel; /* 8 times its height, and its width */
    ptrdiff_t size, dilation, low; /* along H */
    ptrdiff_t rows, width; /* of the output */
    Column columns[MOST_ACROSS][MOST_COLUMNS];
} Narrow;

#if defined(MASKS)
#define FOR_EACH_KERNEL(DO) DO(1, 1) DO(1, 2) DO(2, 1) DO(2, 2) DO(3, 3) DO(5, 5) DO(7, 7)
#else
#define FOR_EACH_KERNEL(DO)
#endif

/* Whether there is code for a kernel of this size. */
static int cyconv_has_narrow(ptrdiff_t height, ptrdiff_t width) {
#define COMPARE(KH, KW) if (height == KH && width == KW) return 1;
    FOR_EACH_KERNEL(COMPARE)
#undef COMPARE
    return 0;
}

#define REAL float
#define NAME(function) function##_float
#include "narrow.h"
#undef REAL
#undef NAME

#define REAL double
#define NAME(function) function##_double
#include "narrow.h"
#undef REAL
#undef NAME

#endif

#else /* REAL: once for each type */

#define LANES ((ptrdiff_t)(VECTOR_BYTES / sizeof(REAL)))
#define VECTOR NAME(vector)
#define MASK NAME(mask)

#if defined(MASKS)

/* A row of x belongs, by row i of the kernel, to the output i rows up: so after each row the sums, or
   the rows of dy, move on by one. With dilation, every dilation-th row is on its own. */

/* What the taps of a row of the kernel read, for one vector of a row. */
#define READ_COLUMNS(columns, k0, K)                                                             \
    UNROLL                                                                                       \
    for (int k = 0; k < K; k++) {                                                                \
        at[k] = x + columns[k0 + k].cell;                                                        \
        masks[k] = NAME(mask_of)(columns[k0 + k].first, columns[k0 + k].last);                   \
    }
#define LOAD_CELLS(h, K)                                                                         \
    UNROLL                                                                                       \
    for (int k = 0; k < K; k++) cells[k] = NAME(load_masked)(at[k] + (h) * x_step, masks[k]);

ALWAYS_INLINE void NAME(sum_plane)(
    const int KH, const int KW, const Narrow *g, const REAL *x, ptrdiff_t x_step, const REAL *weights,
    REAL bias, int add, REAL *y, ptrdiff_t y_step) {
    const ptrdiff_t size = g->size, rows = g->rows, width = g->width, step = g->dilation, low = g->low;
    const VECTOR start = NAME(spread)(bias);
    VECTOR w[MOST_COLUMNS * MOST_COLUMNS], sums[MOST_COLUMNS], cells[MOST_COLUMNS];
    const REAL *at[MOST_COLUMNS];
    MASK masks[MOST_COLUMNS];
    UNROLL
    for (int k = 0; k < KH * KW; k++) w[k] = NAME(spread)(weights[k]);
    for (ptrdiff_t j = 0; j < width; j += LANES) {
        const ptrdiff_t n = width - j < LANES ? width - j : LANES;
        READ_COLUMNS(g->columns[j / LANES], 0, KW)
        for (ptrdiff_t first = 0; first < step && first < rows; first++) {
            ptrdiff_t h = first - low;
            UNROLL
            for (int i = 0; i < KH; i++) sums[i] = start;
            for (ptrdiff_t to = first - (KH - 1) * step; to < rows; to += step, h += step) {
                if (h >= 0 && h < size) {
                    LOAD_CELLS(h, KW)
                    UNROLL
                    for (int i = 0; i < KH; i++) {
                        /* Apart from what they are added to, which is not known so soon. */
                        VECTOR sum = NAME(multiply)(w[i * KW], cells[0]);
                        UNROLL
                        for (int k = 1; k < KW; k++)
                            sum = NAME(multiply_add)(sum, w[i * KW + k], cells[k]);
                        sums[i] = NAME(add)(sums[i], sum);
                    }
                }
                if (to >= 0) {
                    REAL *row = y + to * y_step + j;
                    if (add) sums[KH - 1] = NAME(add)(sums[KH - 1], NAME(load_some)(row, n));
                    NAME(store_some)(row, sums[KH - 1], n);
                }
                UNROLL
                for (int i = KH - 1; i > 0; i--) sums[i] = sums[i - 1];
                sums[0] = start;
            }
        }
    }
}

/* Add the products with a row of x, by those rows of the kernel for which there is a row of dy. With 16
   registers cells are read one after another, or there were no room for the sums. */
#if REGISTERS == 32
#define ADD_PRODUCTS(condition)                                                                  \
    LOAD_CELLS(h, K)                                                                             \
    UNROLL                                                                                       \
    for (int i = 0; i < KH; i++) {                                                               \
        if (!(condition)) continue;                                                              \
        UNROLL                                                                                   \
        for (int k = 0; k < K; k++)                                                              \
            sums[i * K + k] = NAME(multiply_add)(sums[i * K + k], d[i], cells[k]);               \
    }
#else
#define ADD_PRODUCTS(condition)                                                                  \
    UNROLL                                                                                       \
    for (int k = 0; k < K; k++) {                                                                \
        NOT_SO_SOON;                                                                             \
        cells[k] = NAME(load_masked)(at[k] + h * x_step, masks[k]);                              \
        UNROLL                                                                                   \
        for (int i = 0; i < KH; i++)                                                             \
            if (condition)                                                                       \
                sums[i * K + k] = NAME(multiply_add)(sums[i * K + k], d[i], cells[k]);           \
    }
#endif

/* The same for K columns of the kernel from k0 on: as many as registers hold the sums of. */
ALWAYS_INLINE void NAME(dot_columns)(
    const int KH, const int KW, const int k0, const int K, const Narrow *g, const REAL *dy,
    ptrdiff_t dy_step, const REAL *x, ptrdiff_t x_step, double *totals) {
    const ptrdiff_t size = g->size, rows = g->rows, width = g->width, step = g->dilation, low = g->low;
    const VECTOR zero = NAME(spread)(0);
    VECTOR sums[MOST_COLUMNS * MOST_COLUMNS], d[MOST_COLUMNS], cells[MOST_COLUMNS];
    const REAL *at[MOST_COLUMNS];
    MASK masks[MOST_COLUMNS];
    UNROLL
    for (int k = 0; k < KH * K; k++) sums[k] = zero;
    for (ptrdiff_t j = 0; j < width; j += LANES) {
        const ptrdiff_t n = width - j < LANES ? width - j : LANES;
        READ_COLUMNS(g->columns[j / LANES], k0, K)
        for (ptrdiff_t first = 0; first < step && first < rows; first++) {
            ptrdiff_t h = first - low;
            UNROLL
            for (int i = 0; i < KH; i++) d[i] = zero;
            for (ptrdiff_t row = first; row < rows + (KH - 1) * step; row += step, h += step) {
                UNROLL
                for (int i = KH - 1; i > 0; i--) d[i] = d[i - 1];
                d[0] = row < rows ? NAME(load_some)(dy + row * dy_step + j, n) : zero;
                if (h < 0 || h >= size) continue;
                const int inside = row >= (KH - 1) * step && row < rows;
                /* Nothing beside dy: there a zero would make NaN of a NaN or Inf of x. With 16 registers
                   to know that nothing is, once a row, is worth a tenth; with 32 it lost as much. */
                if (REGISTERS == 16 && inside) {
                    ADD_PRODUCTS(1)
                } else {
                    ADD_PRODUCTS(inside || (row >= i * step && row - i * step < rows))
                }
            }
        }
    }
    UNROLL
    for (int k = 0; k < KH * K; k++) totals[k / K * KW + k0 + k % K] += NAME(total)(sums[k]);
}

ALWAYS_INLINE void NAME(dot_plane)(
    const int KH, const int KW, const Narrow *g, const REAL *dy, ptrdiff_t dy_step, const REAL *x,
    ptrdiff_t x_step, double *totals) {
    const int most = (REGISTERS - KH - 1) / (KH + 1), K = most < KW ? most : KW, rest = KW % K;
    for (int k0 = 0; k0 < KW - rest; k0 += K)
        NAME(dot_columns)(KH, KW, k0, K, g, dy, dy_step, x, x_step, totals);
    if (rest)
        NAME(dot_columns)(KH, KW, KW - rest, rest, g, dy, dy_step, x, x_step, totals);
}

#define DEFINE_KERNEL(KH, KW)                                                                    \
    static void NAME(sum_plane_##KH##_##KW)(                                                     \
        const Narrow *g, const REAL *x, ptrdiff_t x_step, const REAL *weights, REAL bias, int add, \
        REAL *y, ptrdiff_t y_step) {                                                             \
        NAME(sum_plane)(KH, KW, g, x, x_step, weights, bias, add, y, y_step);                    \
    }                                                                                            \
    static void NAME(dot_plane_##KH##_##KW)(                                                     \
        const Narrow *g, const REAL *dy, ptrdiff_t dy_step, const REAL *x, ptrdiff_t x_step,     \
        double *totals) {                                                                        \
        NAME(dot_plane)(KH, KW, g, dy, dy_step, x, x_step, totals);                              \
    }
FOR_EACH_KERNEL(DEFINE_KERNEL)
#undef DEFINE_KERNEL
#undef READ_COLUMNS
#undef LOAD_CELLS
#undef ADD_PRODUCTS

#endif

/* y = bias + the sum over taps, of one channel; or added to what y holds. */
static void NAME(sum_narrow)(
    const Narrow *g, const REAL *x, ptrdiff_t x_step, const REAL *weights, REAL bias, int add, REAL *y,
    ptrdiff_t y_step) {
    switch (g->kernel) {
#define CASE(KH, KW)                                                                             \
    case 8 * KH + KW:                                                                            \
        NAME(sum_plane_##KH##_##KW)(g, x, x_step, weights, bias, add, y, y_step);                \
        break;
        FOR_EACH_KERNEL(CASE)
#undef CASE
    }
}

/* totals[tap] += the sum of dy times the cells that it reads. */
static void NAME(dot_narrow)(
    const Narrow *g, const REAL *dy, ptrdiff_t dy_step, const REAL *x, ptrdiff_t x_step,
    double *totals) {
    switch (g->kernel) {
#define CASE(KH, KW)                                                                             \
    case 8 * KH + KW:                                                                            \
        NAME(dot_plane_##KH##_##KW)(g, dy, dy_step, x, x_step, totals);                          \
        break;
        FOR_EACH_KERNEL(CASE)
#undef CASE
    }
}

#undef LANES
#undef VECTOR
#undef MASK

#endif
