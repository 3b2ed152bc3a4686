/* The innermost loops of depthwise.pxi: runs of output positions, a few taps of the kernel at once.

   A tap reads, for all positions of a run, a run of cells at a constant offset. Up to MOST_TAPS
   taps go through one loop, their weights or sums in registers: 9 is a 3x3 kernel, and what the 16
   registers of baseline x86 hold beside the cells. Loops are plain C that compilers vectorise as it
   stands; only sums over positions need help, since without -ffast-math a compiler must not reorder
   them: they keep a sum a lane, in the vectors of simd.h.

   The file includes itself once for float and once for double; NAME(f) is f_float or f_double. */

#ifndef REAL

#ifndef CYCONV_ROWS_H
#define CYCONV_ROWS_H

#include "simd.h"

#define MOST_TAPS 9
/* Rows of fewer positions are done one by one: less than half a vector, or any where there are no
   masks. */
#if defined(MASKS)
#define SHORT_ROW (LANES / 2)
#else
#define SHORT_ROW LANES
#endif

#define EACH1(DO) DO(0)
#define EACH2(DO) EACH1(DO) DO(1)
#define EACH3(DO) EACH2(DO) DO(2)
#define EACH4(DO) EACH3(DO) DO(3)
#define EACH5(DO) EACH4(DO) DO(4)
#define EACH6(DO) EACH5(DO) DO(5)
#define EACH9(DO) EACH6(DO) DO(6) DO(7) DO(8)

/* Seven or eight taps are done as four and the rest. */
#define FOR_EACH_COUNT(DO) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(9)
#define SOME_TAPS(left) ((left) <= 6 || (left) == MOST_TAPS ? (left) : 4)

#define REAL float
#define NAME(function) function##_float
#include "rows.h"
#undef REAL
#undef NAME

#define REAL double
#define NAME(function) function##_double
#include "rows.h"
#undef REAL
#undef NAME

#endif

#else /* REAL: once for each type */

#define LANES ((ptrdiff_t)(VECTOR_BYTES / sizeof(REAL)))
#define VECTOR NAME(vector)

/* y[r, j] = start + the sum over taps t of weights[t] * x[r, offsets[t] + STRIDE * j], where start is
   `bias`, or what y holds where `add` is set. What is left of a row after whole vectors is its last
   vector again (where it adds to y it has read y before), or, of a short row, some lanes of one. */
#define LOAD_1(cells) NAME(load)(cells)
#define LOAD_2(cells) NAME(load_even)(cells)
#define LOAD_SOME_1(cells, n) NAME(load_some)(cells, n)
#define LOAD_SOME_2(cells, n) NAME(load_some_even)(cells, n)
#define WEIGHT(t) const VECTOR w##t = NAME(spread)(weights[t]);
#define CELLS(t) const REAL *x##t = x + offsets[t];
#define ADD_TAP_1(t) sum = NAME(multiply_add)(sum, w##t, LOAD_1(x##t + j));
#define ADD_TAP_2(t) sum = NAME(multiply_add)(sum, w##t, LOAD_2(x##t + 2 * j));
#define ADD_SOME_1(t) sum = NAME(multiply_add)(sum, w##t, LOAD_SOME_1(x##t, n));
#define ADD_SOME_2(t) sum = NAME(multiply_add)(sum, w##t, LOAD_SOME_2(x##t, n));
#define DEFINE_SUM_TAPS(T, STRIDE)                                                               \
    static void NAME(sum_taps_##T##_##STRIDE)(                                                   \
        const REAL *x, ptrdiff_t x_step, const ptrdiff_t *offsets, const REAL *weights,          \
        REAL *y, ptrdiff_t y_step, ptrdiff_t rows, ptrdiff_t n, REAL bias, int add) {            \
        const VECTOR start = NAME(spread)(bias);                                                 \
        const ptrdiff_t whole = n - n % LANES;                                                   \
        EACH##T(WEIGHT)                                                                          \
        for (ptrdiff_t r = 0; r < rows; r++, x += x_step, y += y_step) {                         \
            EACH##T(CELLS)                                                                       \
            if (n < LANES) {                                                                     \
                VECTOR sum = add ? NAME(load_some)(y, n) : start;                                \
                EACH##T(ADD_SOME_##STRIDE)                                                       \
                NAME(store_some)(y, sum, n);                                                     \
                continue;                                                                        \
            }                                                                                    \
            const VECTOR last = add ? NAME(load)(y + n - LANES) : start;                         \
            ptrdiff_t j = 0;                                                                     \
            for (; j < whole; j += LANES) {                                                      \
                VECTOR sum = add ? NAME(load)(y + j) : start;                                    \
                EACH##T(ADD_TAP_##STRIDE)                                                        \
                NAME(store)(y + j, sum);                                                         \
            }                                                                                    \
            if (j < n) {                                                                         \
                VECTOR sum = last;                                                               \
                j = n - LANES;                                                                   \
                EACH##T(ADD_TAP_##STRIDE)                                                        \
                NAME(store)(y + j, sum);                                                         \
            }                                                                                    \
        }                                                                                        \
    }
#define DEFINE_SUMS(T) DEFINE_SUM_TAPS(T, 1) DEFINE_SUM_TAPS(T, 2)
FOR_EACH_COUNT(DEFINE_SUMS)

/* The same for one position a row, row after row: the ends of rows, and short rows. */
#define ONE_WEIGHT(t) const REAL w##t = weights[t];
#define ADD_ONE(t) sum += w##t * x##t[r * x_step];
#define DEFINE_SUM_COLUMN(T)                                                                     \
    static void NAME(sum_column_##T)(                                                            \
        const REAL *x, ptrdiff_t x_step, const ptrdiff_t *offsets, const REAL *weights,          \
        REAL *y, ptrdiff_t y_step, ptrdiff_t rows, REAL bias, int add) {                         \
        EACH##T(ONE_WEIGHT)                                                                      \
        EACH##T(CELLS)                                                                           \
        for (ptrdiff_t r = 0; r < rows; r++) {                                                   \
            REAL sum = add ? y[r * y_step] : bias;                                               \
            EACH##T(ADD_ONE)                                                                     \
            y[r * y_step] = sum;                                                                 \
        }                                                                                        \
    }
FOR_EACH_COUNT(DEFINE_SUM_COLUMN)

/* The same for any number of taps, in parts of at most MOST_TAPS, any length of rows, and a
   stride of 1 or 2. */
static void NAME(sum_taps)(
    const REAL *x, ptrdiff_t x_step, const ptrdiff_t *offsets, const REAL *weights, ptrdiff_t taps,
    REAL *y, ptrdiff_t y_step, ptrdiff_t rows, ptrdiff_t n, ptrdiff_t stride, REAL bias) {
    ptrdiff_t done = 0;
    while (done < taps) {
        const ptrdiff_t parts = (taps - done + MOST_TAPS - 1) / MOST_TAPS;
        const ptrdiff_t end = done + SOME_TAPS((taps - done + parts - 1) / parts);
        const ptrdiff_t *cells = offsets + done;
        const REAL *w = weights + done;
        switch (end - done) {
#define CASE(T)                                                                                  \
    case T:                                                                                      \
        if (n < SHORT_ROW)                                                                           \
            for (ptrdiff_t j = 0; j < n; j++)                                                    \
                NAME(sum_column_##T)(x + j * stride, x_step, cells, w, y + j, y_step, rows,      \
                                     bias, done > 0);                                            \
        else if (stride == 1)                                                                    \
            NAME(sum_taps_##T##_1)(x, x_step, cells, w, y, y_step, rows, n, bias, done > 0);     \
        else                                                                                     \
            NAME(sum_taps_##T##_2)(x, x_step, cells, w, y, y_step, rows, n, bias, done > 0);     \
        break;
            FOR_EACH_COUNT(CASE)
#undef CASE
        }
        done = end;
    }
    if (taps == 0) /* all of them in the padding */
        for (ptrdiff_t r = 0; r < rows; r++)
            for (ptrdiff_t j = 0; j < n; j++) y[r * y_step + j] = bias;
}

/* sums[t] += the sum over r and j of dy[r, j] * x[r, offsets[t] + STRIDE * j]. What is left of rows
   after whole vectors is some lanes of one, or where there are no masks, columns of one position. */
#define ZERO(t) VECTOR s##t = zero;
#define ADD_PRODUCT_1(t) s##t = NAME(multiply_add)(s##t, d, LOAD_1(x##t + j));
#define ADD_PRODUCT_2(t) s##t = NAME(multiply_add)(s##t, d, LOAD_2(x##t + 2 * j));
#define ADD_REST_1(t) s##t = NAME(multiply_add)(s##t, d, LOAD_SOME_1(x##t + j, n - j));
#define ADD_REST_2(t) s##t = NAME(multiply_add)(s##t, d, LOAD_SOME_2(x##t + 2 * j, n - j));
#define ADD_TOTAL(t)                                                                             \
    total = 0;                                                                                   \
    NAME(store)(lanes, s##t);                                                                    \
    for (ptrdiff_t i = 0; i < LANES; i++) total += lanes[i];                                     \
    sums[t] += total;
#if defined(MASKS)
#define DOT_REST(T, STRIDE)                                                                      \
    if (j < n) {                                                                                 \
        VECTOR d = NAME(load_some)(dy + j, n - j);                                               \
        EACH##T(ADD_REST_##STRIDE)                                                               \
    }
#define DOT_COLUMNS(T) (void)0
#define SHORT_DOT 1
#else
#define SHORT_DOT LANES
#define DOT_REST(T, STRIDE)
#define ZERO_ONE(t) REAL s##t = 0;
#define ADD_ONE_PRODUCT(t) s##t += d * x##t[r * x_step];
#define ADD_SUM(t) sums[t] += s##t;
#define DEFINE_DOT_COLUMN(T)                                                                     \
    static void NAME(dot_column_##T)(                                                            \
        const REAL *dy, ptrdiff_t dy_step, const REAL *x, ptrdiff_t x_step,                      \
        const ptrdiff_t *offsets, ptrdiff_t rows, double *sums) {                                \
        EACH##T(ZERO_ONE)                                                                        \
        EACH##T(CELLS)                                                                           \
        for (ptrdiff_t r = 0; r < rows; r++) {                                                   \
            const REAL d = dy[r * dy_step];                                                      \
            EACH##T(ADD_ONE_PRODUCT)                                                             \
        }                                                                                        \
        EACH##T(ADD_SUM)                                                                         \
    }
FOR_EACH_COUNT(DEFINE_DOT_COLUMN)
#define DOT_COLUMNS(T)                                                                           \
    for (ptrdiff_t j = n - n % LANES; j < n; j++)                                                \
    NAME(dot_column_##T)(dy + j, dy_step, x + j * stride, x_step, offsets + done, rows, sums + done)
#endif
#define DEFINE_DOT_TAPS(T, STRIDE)                                                               \
    static void NAME(dot_taps_##T##_##STRIDE)(                                                   \
        const REAL *dy, ptrdiff_t dy_step, const REAL *x, ptrdiff_t x_step,                      \
        const ptrdiff_t *offsets, ptrdiff_t rows, ptrdiff_t n, double *sums) {                   \
        const VECTOR zero = NAME(spread)(0);                                                     \
        const ptrdiff_t whole = n - n % LANES;                                                   \
        EACH##T(ZERO)                                                                            \
        for (ptrdiff_t r = 0; r < rows; r++, x += x_step, dy += dy_step) {                       \
            EACH##T(CELLS)                                                                       \
            ptrdiff_t j = 0;                                                                     \
            for (; j < whole; j += LANES) {                                                      \
                VECTOR d = NAME(load)(dy + j);                                                   \
                EACH##T(ADD_PRODUCT_##STRIDE)                                                    \
            }                                                                                    \
            DOT_REST(T, STRIDE)                                                                  \
        }                                                                                        \
        double total;                                                                            \
        REAL lanes[VECTOR_BYTES / sizeof(REAL)];                                                 \
        EACH##T(ADD_TOTAL)                                                                       \
    }
#define DEFINE_DOTS(T) DEFINE_DOT_TAPS(T, 1) DEFINE_DOT_TAPS(T, 2)
FOR_EACH_COUNT(DEFINE_DOTS)

/* The same for any number of taps, in parts of at most MOST_TAPS. */
static void NAME(dot_taps)(
    const REAL *dy, ptrdiff_t dy_step, const REAL *x, ptrdiff_t x_step, const ptrdiff_t *offsets,
    ptrdiff_t taps, ptrdiff_t rows, ptrdiff_t n, ptrdiff_t stride, double *sums) {
    ptrdiff_t done = 0;
    while (done < taps) {
        const ptrdiff_t parts = (taps - done + MOST_TAPS - 1) / MOST_TAPS;
        const ptrdiff_t end = done + SOME_TAPS((taps - done + parts - 1) / parts);
        switch (end - done) {
#define CASE(T)                                                                                  \
    case T:                                                                                      \
        if (n < SHORT_DOT)                                                                       \
            ; /* no vector of a row is whole */                                                  \
        else if (stride == 1)                                                                    \
            NAME(dot_taps_##T##_1)(dy, dy_step, x, x_step, offsets + done, rows, n, sums + done);\
        else                                                                                     \
            NAME(dot_taps_##T##_2)(dy, dy_step, x, x_step, offsets + done, rows, n, sums + done);\
        DOT_COLUMNS(T);                                                                          \
        break;
            FOR_EACH_COUNT(CASE)
#undef CASE
        }
        done = end;
    }
}

#if defined(MASKS)
#define COPY_SHORT(some, cell) NAME(store_some)(row, some, n);
#else
#define COPY_SHORT(some, cell)                                                                   \
    for (; j < n; j++) row[j] = cell;
#endif

/* row[j] = cells[j], without the call that compilers make of a plain loop: rows are short. The rest of a
   row is its last vector again, and a row shorter than a vector some lanes of one. */
ALWAYS_INLINE void NAME(copy_row)(const REAL *cells, REAL *row, ptrdiff_t n) {
    ptrdiff_t j = 0;
    if (n < LANES) {
        COPY_SHORT(NAME(load_some)(cells, n), cells[j])
        return;
    }
    for (; j < n - LANES; j += LANES) {
        NAME(store)(row + j, NAME(load)(cells + j));
    }
    NAME(store)(row + n - LANES, NAME(load)(cells + n - LANES));
}

/* row[j] += cells[j], and no cell more. */
static void NAME(add_row)(const REAL *cells, REAL *row, ptrdiff_t n) {
    ptrdiff_t j = 0;
    for (; j + (ptrdiff_t)LANES <= n; j += LANES)
        NAME(store)(row + j, NAME(add)(NAME(load)(row + j), NAME(load)(cells + j)));
#if defined(MASKS)
    if (j < n)
        NAME(store_some)(
            row + j, NAME(add)(NAME(load_some)(row + j, n - j), NAME(load_some)(cells + j, n - j)),
            n - j);
#else
    for (; j < n; j++) row[j] += cells[j];
#endif
}

/* The same for every stride-th cell: row[j] = cells[j * stride]. Of strides other than the usual ones,
   one by one. */
ALWAYS_INLINE void NAME(pick_row)(
    const REAL *RESTRICT cells, REAL *RESTRICT row, ptrdiff_t n, ptrdiff_t stride) {
    ptrdiff_t j = 0;
    if (stride == 2 && n < LANES) {
        COPY_SHORT(NAME(load_some_even)(cells, n), cells[2 * j])
    } else if (stride == 2) {
        for (; j < n; j += LANES) {
            j = j + LANES > n ? n - LANES : j;
            NAME(store)(row + j, NAME(load_even)(cells + 2 * j));
        }
    } else if (stride == 4 && n >= LANES) {
        for (; j < n; j += LANES) {
            j = j + LANES > n ? n - LANES : j;
            const VECTOR first = NAME(load_even)(cells + 4 * j);
            const VECTOR second = NAME(load_even)(cells + 4 * j + 2 * (LANES - 1));
            NAME(store)(row + j, NAME(pick_even)(first, second));
        }
    } else {
        for (; j < n; j++) row[j] = cells[j * stride];
    }
}

/* The even and the odd cells of a row, apart and together again: even[j] = cells[2 * j] and
   odd[j] = cells[2 * j + 1]. These loops compilers vectorise as they stand. */
ALWAYS_INLINE void NAME(split_row)(
    const REAL *RESTRICT cells, REAL *RESTRICT even, REAL *RESTRICT odd, ptrdiff_t n) {
    if (n < LANES) {
        for (ptrdiff_t j = 0; j < n; j++) {
            even[j] = cells[2 * j];
            odd[j] = cells[2 * j + 1];
        }
        return;
    }
    for (ptrdiff_t j = 0; j < n; j += LANES) {
        j = j + LANES > n ? n - LANES : j;
        for (ptrdiff_t i = 0; i < LANES; i++) {
            even[j + i] = cells[2 * (j + i)];
            odd[j + i] = cells[2 * (j + i) + 1];
        }
    }
}

/* The same for many rows, perhaps empty: to[r, j] = cells[r, j * stride], and even and odd[r, j]. */
static void NAME(copy_rows)(
    const REAL *cells, ptrdiff_t cell_step, REAL *to, ptrdiff_t to_step, ptrdiff_t rows, ptrdiff_t n,
    ptrdiff_t stride) {
    if (n < 1) return; /* where a tap sees padding only */
    if (stride == 1)
        for (ptrdiff_t r = 0; r < rows; r++) NAME(copy_row)(cells + r * cell_step, to + r * to_step, n);
    else
        for (ptrdiff_t r = 0; r < rows; r++)
            NAME(pick_row)(cells + r * cell_step, to + r * to_step, n, stride);
}

static void NAME(split_rows)(
    const REAL *cells, ptrdiff_t cell_step, REAL *even, REAL *odd, ptrdiff_t to_step, ptrdiff_t rows,
    ptrdiff_t n) {
    for (ptrdiff_t r = 0; r < rows; r++)
        NAME(split_row)(cells + r * cell_step, even + r * to_step, odd + r * to_step, n);
}

static void NAME(join_row)(
    const REAL *RESTRICT even, const REAL *RESTRICT odd, REAL *RESTRICT cells, ptrdiff_t n) {
    if (n < LANES) {
        for (ptrdiff_t j = 0; j < n; j++) {
            cells[2 * j] = even[j];
            cells[2 * j + 1] = odd[j];
        }
        return;
    }
    for (ptrdiff_t j = 0; j < n; j += LANES) {
        j = j + LANES > n ? n - LANES : j;
        for (ptrdiff_t i = 0; i < LANES; i++) {
            cells[2 * (j + i)] = even[j + i];
            cells[2 * (j + i) + 1] = odd[j + i];
        }
    }
}

#undef COPY_SHORT
#undef LANES
#undef VECTOR
#undef LOAD_1
#undef LOAD_2
#undef LOAD_SOME_1
#undef LOAD_SOME_2
#undef WEIGHT
#undef CELLS
#undef ADD_TAP_1
#undef ADD_TAP_2
#undef ADD_SOME_1
#undef ADD_SOME_2
#undef DEFINE_SUM_TAPS
#undef DEFINE_SUMS
#undef ONE_WEIGHT
#undef ADD_ONE
#undef DEFINE_SUM_COLUMN
#undef ZERO
#undef ADD_PRODUCT_1
#undef ADD_PRODUCT_2
#undef ADD_REST_1
#undef ADD_REST_2
#undef ADD_TOTAL
#undef DEFINE_DOT_TAPS
#undef DOT_REST
#undef DOT_COLUMNS
#undef SHORT_DOT
#undef ZERO_ONE
#undef ADD_ONE_PRODUCT
#undef ADD_SUM
#undef DEFINE_DOT_COLUMN
#undef DEFINE_DOTS

#endif
