/* Depthwise on narrow planes, for builds with masks: a plane is read where it lies, and each of its
   rows once.

   Along W, a tap reads a vector of cells at an offset; lanes whose cell is beside the row are masked
   off, so that they are zero and touch no memory. Along H, the cells that a row gives are used for all
   outputs that they belong to: there are as many sums under way, in registers, as the kernel has
   rows. Both take code of its own for each size of the kernel.

   With stride 2 two taps share two vectors of cells, of which one has the even and the other the odd
   ones; and of two rows of x, one belongs to the even and the other to the odd rows of the kernel.

   The file includes itself once for float and once for double; NAME(f) is f_float or f_double. */

#ifndef REAL

#ifndef CYCONV_NARROW_H
#define CYCONV_NARROW_H

#include "simd.h"

#define MOST_COLUMNS 7
/* Rows have at most so many vectors. */
#define MOST_ACROSS 4

/* What the tap of one column reads, for one vector of a row: `cell` lanes away from the first cell of
   the row, in the lanes `first` to `last`. With stride 2, which vector a pair of taps reads first, and
   which second. */
typedef struct { ptrdiff_t cell, first, last; } Column;

typedef struct {
    ptrdiff_t kernel; /* of its height, its width and the stride: see KERNEL_NUMBER */
    ptrdiff_t size, dilation, low; /* along H */
    ptrdiff_t rows, width; /* of the output; when dy spreads, the rows of dy and the width of dx */
    int low_odd; /* then, whether the padding along W is */
    Column columns[MOST_ACROSS][MOST_COLUMNS];
} Narrow;

#if defined(MASKS)
#define FOR_EACH_STRIDED(DO) DO(3, 3, 2) DO(5, 5, 2)
#define FOR_EACH_KERNEL(DO)                                                                      \
    DO(1, 1, 1) DO(1, 2, 1) DO(2, 1, 1) DO(2, 2, 1) DO(3, 3, 1) DO(5, 5, 1) DO(7, 7, 1)          \
    FOR_EACH_STRIDED(DO)
#else
#define FOR_EACH_STRIDED(DO)
#define FOR_EACH_KERNEL(DO)
#endif
#define KERNEL_NUMBER(height, width, stride) (64 * (stride) + 8 * (height) + (width))

/* The number of a kernel of this size, or 0 if there is no code for it. */
static ptrdiff_t cyconv_narrow_kernel(ptrdiff_t height, ptrdiff_t width, ptrdiff_t stride) {
#define COMPARE(KH, KW, S)                                                                       \
    if (height == KH && width == KW && stride == S) return KERNEL_NUMBER(KH, KW, S);
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
   the rows of dy, move on by one. With dilation, every dilation-th row is on its own. With stride 2 they
   move on after two rows, q = 0 and 1, which belong by row 2 * i + q of the kernel to the output i up. */
#define UNDER_WAY(KH, S) (((KH) + (S) - 1) / (S))

/* What the taps of a row of the kernel read, for one vector of a row. */
#define READ_COLUMNS(columns, k0, K, S)                                                          \
    UNROLL                                                                                       \
    for (int k = 0; k < (K + S - 1) / S * S; k++) {                                              \
        at[k] = x + columns[k0 + k].cell;                                                        \
        masks[k] = NAME(mask_of)(columns[k0 + k].first, columns[k0 + k].last);                   \
    }
#define LOAD_CELL(h, k) NAME(load_masked)(at[k] + (h) * x_step, masks[k])
#define LOAD_CELLS(h, K, S)                                                                      \
    UNROLL                                                                                       \
    for (int k = 0; k < K; k += S) {                                                             \
        cells[k] = LOAD_CELL(h, k);                                                              \
        if (S == 1) continue;                                                                    \
        const VECTOR first = cells[k], second = LOAD_CELL(h, k + 1);                             \
        cells[k] = NAME(even_of)(first, second);                                                 \
        if (k + 1 < K) cells[k + 1] = NAME(odd_of)(first, second);                               \
    }

/* Of the next plane, which mostly follows this one, the same row: columns of vectors are nothing that a
   processor would see coming. From memory, planes took 0.4 to 0.7 of the time so (and dw 0.3 to 0.6, if
   dy is fetched too). */
#define FETCH_NEXT(h, S)                                                                         \
    {                                                                                            \
        UNROLL                                                                                   \
        for (int k = 0; k < S; k++) PREFETCH(at[k] + (h + size) * x_step);                       \
    }

ALWAYS_INLINE void NAME(sum_plane)(
    const int KH, const int KW, const int S, const Narrow *g, const REAL *x, ptrdiff_t x_step,
    const REAL *weights, REAL bias, int add, REAL *y, ptrdiff_t y_step) {
    const ptrdiff_t size = g->size, rows = g->rows, width = g->width, step = g->dilation, low = g->low;
    const VECTOR start = NAME(spread)(bias);
    const int M = UNDER_WAY(KH, S);
    VECTOR w[MOST_COLUMNS * MOST_COLUMNS], sums[MOST_COLUMNS], cells[MOST_COLUMNS];
    const REAL *at[MOST_COLUMNS];
    MASK masks[MOST_COLUMNS];
    UNROLL
    for (int k = 0; k < KH * KW; k++) w[k] = NAME(spread)(weights[k]);
    for (ptrdiff_t j = 0; j < width; j += LANES) {
        const ptrdiff_t n = width - j < LANES ? width - j : LANES;
        READ_COLUMNS(g->columns[j / LANES], 0, KW, S)
        for (ptrdiff_t first = 0; first < step && first < rows; first++) {
            ptrdiff_t h = first - low;
            UNROLL
            for (int i = 0; i < M; i++) sums[i] = start;
            for (ptrdiff_t to = first - (M - 1) * step; to < rows; to += step, h += S * step) {
                UNROLL
                for (int q = 0; q < S; q++) {
                    if (h + q < 0 || h + q >= size) continue;
                    LOAD_CELLS(h + q, KW, S)
                    FETCH_NEXT(h + q, S)
                    UNROLL
                    for (int i = 0; S * i + q < KH; i++) {
                        /* Apart from what they are added to, which is not known so soon. */
                        const VECTOR *row = w + (S * i + q) * KW;
                        VECTOR sum = NAME(multiply)(row[0], cells[0]);
                        UNROLL
                        for (int k = 1; k < KW; k++) sum = NAME(multiply_add)(sum, row[k], cells[k]);
                        sums[i] = NAME(add)(sums[i], sum);
                    }
                }
                if (to >= 0) {
                    REAL *row = y + to * y_step + j;
                    if (add) sums[M - 1] = NAME(add)(sums[M - 1], NAME(load_some)(row, n));
                    NAME(store_some)(row, sums[M - 1], n);
                    PREFETCH_RESULT(row + rows * y_step);
                }
                UNROLL
                for (int i = M - 1; i > 0; i--) sums[i] = sums[i - 1];
                sums[0] = start;
            }
        }
    }
}

/* Add the products with a row of x, by those rows of the kernel for which there is a row of dy. With 16
   registers cells are read one after another, or there were no room for the sums. */
#define ADD_PRODUCTS(condition)                                                                  \
    if (REGISTERS == 32 || S == 2) {                                                             \
        LOAD_CELLS(h + q, K, S)                                                                  \
        UNROLL                                                                                   \
        for (int i = 0; S * i + q < KH; i++) {                                                   \
            if (!(condition)) continue;                                                          \
            UNROLL                                                                               \
            for (int k = 0; k < K; k++) ADD_PRODUCT(S * i + q, d[i])                             \
        }                                                                                        \
    } else {                                                                                     \
        UNROLL                                                                                   \
        for (int k = 0; k < K; k++) {                                                            \
            NOT_SO_SOON;                                                                         \
            cells[k] = LOAD_CELL(h, k);                                                          \
            UNROLL                                                                               \
            for (int i = 0; i < KH; i++)                                                         \
                if (condition) ADD_PRODUCT(i, d[i])                                              \
        }                                                                                        \
    }
#define ADD_PRODUCT(i, d) sums[(i) * K + k] = NAME(multiply_add)(sums[(i) * K + k], d, cells[k]);

/* The same for K columns of the kernel from k0 on: as many as registers hold the sums of. */
ALWAYS_INLINE void NAME(dot_columns)(
    const int KH, const int KW, const int S, const int k0, const int K, const Narrow *g,
    const REAL *dy, ptrdiff_t dy_step, const REAL *x, ptrdiff_t x_step, double *totals) {
    const ptrdiff_t size = g->size, rows = g->rows, width = g->width, step = g->dilation, low = g->low;
    const VECTOR zero = NAME(spread)(0);
    const int M = UNDER_WAY(KH, S);
    VECTOR sums[MOST_COLUMNS * MOST_COLUMNS], d[MOST_COLUMNS], cells[MOST_COLUMNS];
    const REAL *at[MOST_COLUMNS];
    MASK masks[MOST_COLUMNS];
    UNROLL
    for (int k = 0; k < KH * K; k++) sums[k] = zero;
    for (ptrdiff_t j = 0; j < width; j += LANES) {
        const ptrdiff_t n = width - j < LANES ? width - j : LANES;
        READ_COLUMNS(g->columns[j / LANES], k0, K, S)
        for (ptrdiff_t first = 0; first < step && first < rows; first++) {
            ptrdiff_t h = first - low;
            UNROLL
            for (int i = 0; i < M; i++) d[i] = zero;
            for (ptrdiff_t row = first; row < rows + (M - 1) * step; row += step, h += S * step) {
                UNROLL
                for (int i = M - 1; i > 0; i--) d[i] = d[i - 1];
                d[0] = row < rows ? NAME(load_some)(dy + row * dy_step + j, n) : zero;
                PREFETCH(dy + (row + rows) * dy_step + j);
                const int inside = row >= (M - 1) * step && row < rows;
                UNROLL
                for (int q = 0; q < S; q++) {
                    if (h + q < 0 || h + q >= size) continue;
                    FETCH_NEXT(h + q, S)
                    /* Nothing beside dy: there a zero would make NaN of a NaN or Inf of x. With 16
                       registers to know that nothing is, once a row, is worth a tenth; with 32 it lost
                       as much. */
                    if (REGISTERS == 16 && inside) {
                        ADD_PRODUCTS(1)
                    } else {
                        ADD_PRODUCTS(inside || (row >= i * step && row - i * step < rows))
                    }
                }
            }
        }
    }
    UNROLL
    for (int k = 0; k < KH * K; k++) totals[k / K * KW + k0 + k % K] += NAME(total)(sums[k]);
}

ALWAYS_INLINE void NAME(dot_plane)(
    const int KH, const int KW, const int S, const Narrow *g, const REAL *dy, ptrdiff_t dy_step,
    const REAL *x, ptrdiff_t x_step, double *totals) {
    const int most = (REGISTERS - UNDER_WAY(KH, S) - 1) / (KH + 1);
    const int K = most < KW ? most / S * S : KW, rest = KW % K;
    for (int k0 = 0; k0 < KW - rest; k0 += K)
        NAME(dot_columns)(KH, KW, S, k0, K, g, dy, dy_step, x, x_step, totals);
    if (rest)
        NAME(dot_columns)(KH, KW, S, KW - rest, rest, g, dy, dy_step, x, x_step, totals);
}

/* dx, of stride 2, as dy spreads: cells of dx two apart read what follows each other in dy. So a row of
   dy gives, for each row of the kernel, the cells that its even columns reach, and those of its odd
   ones, which are zipped and stored when the rows of dy that reach them have been there. */
ALWAYS_INLINE void NAME(spread_plane)(
    const int KH, const int KW, const Narrow *g, const REAL *x, ptrdiff_t x_step, const REAL *weights,
    REAL *dx, ptrdiff_t dx_step) {
    const ptrdiff_t size = g->size, rows = g->rows, width = g->width;
    const VECTOR zero = NAME(spread)(0);
    VECTOR w[MOST_COLUMNS * MOST_COLUMNS], cells[MOST_COLUMNS];
    VECTOR even[MOST_COLUMNS + 2], odd[MOST_COLUMNS + 2];
    const REAL *at[MOST_COLUMNS];
    MASK masks[MOST_COLUMNS];
    UNROLL
    for (int k = 0; k < KH * KW; k++) w[k] = NAME(spread)(weights[k]);
    for (ptrdiff_t j = 0; 2 * j < width; j += LANES) {
        const ptrdiff_t n = width - 2 * j;
        READ_COLUMNS(g->columns[j / LANES], 0, KW, 1)
        UNROLL
        for (int i = 0; i < KH + 2; i++) even[i] = odd[i] = zero;
        for (ptrdiff_t row = 0, h = -g->low; h < size; row++, h += 2) {
            if (row < rows) {
                LOAD_CELLS(row, KW, 1)
                PREFETCH(at[0] + (row + rows) * x_step);
                UNROLL
                for (int i = 0; i < KH; i++) {
                    UNROLL
                    for (int k = 0; k < KW; k += 2)
                        even[i] = NAME(multiply_add)(even[i], w[i * KW + k], cells[k]);
                    UNROLL
                    for (int k = 1; k < KW; k += 2)
                        odd[i] = NAME(multiply_add)(odd[i], w[i * KW + k], cells[k]);
                }
            }
            UNROLL
            for (int q = 0; q < 2; q++) {
                if (h + q < 0 || h + q >= size) continue;
                REAL *to = dx + (h + q) * dx_step + 2 * j;
                const VECTOR first = g->low_odd ? odd[q] : even[q], second = g->low_odd ? even[q] : odd[q];
                PREFETCH_RESULT(to + size * dx_step);
                PREFETCH_RESULT(to + size * dx_step + LANES);
                NAME(store_some)(to, NAME(zip_low)(first, second), n < LANES ? n : LANES);
                if (n > LANES) {
                    const ptrdiff_t rest = n < 2 * LANES ? n - LANES : LANES;
                    NAME(store_some)(to + LANES, NAME(zip_high)(first, second), rest);
                }
            }
            UNROLL
            for (int i = 0; i < KH; i++) {
                even[i] = even[i + 2];
                odd[i] = odd[i + 2];
            }
        }
    }
}

#define DEFINE_KERNEL(KH, KW, S)                                                                 \
    static void NAME(sum_plane_##KH##_##KW##_##S)(                                               \
        const Narrow *g, const REAL *x, ptrdiff_t x_step, const REAL *weights, REAL bias, int add, \
        REAL *y, ptrdiff_t y_step) {                                                             \
        NAME(sum_plane)(KH, KW, S, g, x, x_step, weights, bias, add, y, y_step);                 \
    }                                                                                            \
    static void NAME(dot_plane_##KH##_##KW##_##S)(                                               \
        const Narrow *g, const REAL *dy, ptrdiff_t dy_step, const REAL *x, ptrdiff_t x_step,     \
        double *totals) {                                                                        \
        NAME(dot_plane)(KH, KW, S, g, dy, dy_step, x, x_step, totals);                           \
    }
FOR_EACH_KERNEL(DEFINE_KERNEL)
#undef DEFINE_KERNEL
#define DEFINE_SPREAD(KH, KW, S)                                                                 \
    static void NAME(spread_plane_##KH##_##KW)(                                                  \
        const Narrow *g, const REAL *dy, ptrdiff_t dy_step, const REAL *weights, REAL *dx,       \
        ptrdiff_t dx_step) {                                                                     \
        NAME(spread_plane)(KH, KW, g, dy, dy_step, weights, dx, dx_step);                        \
    }
FOR_EACH_STRIDED(DEFINE_SPREAD)
#undef DEFINE_SPREAD
#undef UNDER_WAY
#undef READ_COLUMNS
#undef LOAD_CELL
#undef LOAD_CELLS
#undef FETCH_NEXT
#undef ADD_PRODUCTS
#undef ADD_PRODUCT

#endif

/* y = bias + the sum over taps, of one channel; or added to what y holds. */
static void NAME(sum_narrow)(
    const Narrow *g, const REAL *x, ptrdiff_t x_step, const REAL *weights, REAL bias, int add, REAL *y,
    ptrdiff_t y_step) {
    switch (g->kernel) {
#define CASE(KH, KW, S)                                                                          \
    case KERNEL_NUMBER(KH, KW, S):                                                               \
        NAME(sum_plane_##KH##_##KW##_##S)(g, x, x_step, weights, bias, add, y, y_step);          \
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
#define CASE(KH, KW, S)                                                                          \
    case KERNEL_NUMBER(KH, KW, S):                                                               \
        NAME(dot_plane_##KH##_##KW##_##S)(g, dy, dy_step, x, x_step, totals);                    \
        break;
        FOR_EACH_KERNEL(CASE)
#undef CASE
    }
}

/* dx = what dy spreads to, of one channel, with stride 2. */
static void NAME(spread_narrow)(
    const Narrow *g, const REAL *dy, ptrdiff_t dy_step, const REAL *weights, REAL *dx,
    ptrdiff_t dx_step) {
    switch (g->kernel) {
#define CASE(KH, KW, S)                                                                          \
    case KERNEL_NUMBER(KH, KW, S):                                                               \
        NAME(spread_plane_##KH##_##KW)(g, dy, dy_step, weights, dx, dx_step);                    \
        break;
        FOR_EACH_STRIDED(CASE)
#undef CASE
    }
}

#undef LANES
#undef VECTOR
#undef MASK

#endif
