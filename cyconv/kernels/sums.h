/* Sums over cells that follow each other, and over rows. Rounding errors grow with the logarithm of how
   many there are: a few are added up one after the other, these sums in float64, and all that is longer
   in halves.

   The file includes itself once for float and once for double; NAME(f) is f_float or f_double. */

#ifndef REAL

#ifndef CYCONV_SUMS_H
#define CYCONV_SUMS_H

#include "simd.h"

/* What is added up one after the other: cells of a lane of a vector, of which there are as many sums as
   keep a core busy, and rows, some at a time. */
#define CELLS_AT_ONCE 64
#define SUMS_AT_ONCE 4
#define ROWS_AT_ONCE 8
#define SOME_ROWS 128
/* Columns of which there are sums in halves. */
#define STRIP 64

#define REAL float
#define NAME(function) function##_float
#include "sums.h"
#undef REAL
#undef NAME

#define REAL double
#define NAME(function) function##_double
#include "sums.h"
#undef REAL
#undef NAME

#endif

#else /* REAL: once for each type */

#define LANES ((ptrdiff_t)(VECTOR_BYTES / sizeof(REAL)))
#define VECTOR NAME(vector)

/* The sum of n cells. */
static double NAME(sum_cells)(const REAL *x, ptrdiff_t n) {
    VECTOR sums[SUMS_AT_ONCE];
    REAL lanes[VECTOR_BYTES / sizeof(REAL)];
    double sum = 0;
    ptrdiff_t i = 0;
    if (n < LANES) {
        for (; i < n; i++) sum += x[i];
        return sum;
    }
    if (n > CELLS_AT_ONCE * LANES) return NAME(sum_cells)(x, n / 2) + NAME(sum_cells)(x + n / 2, n - n / 2);
    UNROLL
    for (int k = 0; k < SUMS_AT_ONCE; k++) sums[k] = NAME(spread)(0);
    for (; i + SUMS_AT_ONCE * LANES <= n; i += SUMS_AT_ONCE * LANES) {
        UNROLL
        for (int k = 0; k < SUMS_AT_ONCE; k++) sums[k] = NAME(add)(sums[k], NAME(load)(x + i + k * LANES));
    }
    for (; i + LANES <= n; i += LANES) sums[0] = NAME(add)(sums[0], NAME(load)(x + i));
    if (i < n) sums[1] = NAME(add)(sums[1], NAME(load_some)(x + i, n - i));
    NAME(store)(lanes, NAME(add)(NAME(add)(sums[0], sums[1]), NAME(add)(sums[2], sums[3])));
    for (i = 0; i < LANES; i++) sum += lanes[i];
    return sum;
}

/* sums[j] += the sum over a few rows r of x[r * step + j], for so many columns j. */
static void NAME(add_rows)(
    const REAL *x, ptrdiff_t step, ptrdiff_t rows, ptrdiff_t columns, double *sums) {
    REAL lanes[VECTOR_BYTES / sizeof(REAL)];
    for (ptrdiff_t j = 0; j < columns; j += LANES) {
        const ptrdiff_t n = columns - j < LANES ? columns - j : LANES;
        VECTOR sum = NAME(spread)(0);
        if (n == LANES)
            for (ptrdiff_t r = 0; r < rows; r++) sum = NAME(add)(sum, NAME(load)(x + r * step + j));
        else
            for (ptrdiff_t r = 0; r < rows; r++)
                sum = NAME(add)(sum, NAME(load_some)(x + r * step + j, n));
        NAME(store)(lanes, sum);
        for (ptrdiff_t k = 0; k < n; k++) sums[j + k] += lanes[k];
    }
}

/* sums[j] = the sum over all rows, for at most STRIP columns. */
static void NAME(sum_strip)(
    const REAL *x, ptrdiff_t step, ptrdiff_t rows, ptrdiff_t columns, double *sums) {
    if (rows > SOME_ROWS) {
        double more[STRIP];
        NAME(sum_strip)(x, step, rows / 2, columns, sums);
        NAME(sum_strip)(x + rows / 2 * step, step, rows - rows / 2, columns, more);
        for (ptrdiff_t j = 0; j < columns; j++) sums[j] += more[j];
        return;
    }
    for (ptrdiff_t j = 0; j < columns; j++) sums[j] = 0;
    for (ptrdiff_t r = 0; r < rows; r += ROWS_AT_ONCE)
        NAME(add_rows)(x + r * step, step, rows - r < ROWS_AT_ONCE ? rows - r : ROWS_AT_ONCE, columns, sums);
}

/* The same for any number of columns. */
static void NAME(sum_rows)(
    const REAL *x, ptrdiff_t step, ptrdiff_t rows, ptrdiff_t columns, double *sums) {
    for (ptrdiff_t j = 0; j < columns; j += STRIP)
        NAME(sum_strip)(x + j, step, rows, columns - j < STRIP ? columns - j : STRIP, sums + j);
}

#undef LANES
#undef VECTOR

#endif
