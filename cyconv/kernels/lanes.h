/* Depthwise, a lane a channel: as many channels as a vector has lanes are turned, so that a vector is
   the same cell of all of them. Taps then read whole vectors wherever the cell is, at any stride and
   however narrow the plane is.

   The file includes itself once for float and once for double; NAME(f) is f_float or f_double. */

#ifndef REAL

#ifndef CYCONV_LANES_H
#define CYCONV_LANES_H

#include "simd.h"

/* Outputs of a row whose sums are in registers at once. */
#define MOST_TOGETHER 8
#define FOR_EACH_TOGETHER(DO) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8)

#define REAL float
#define NAME(function) function##_float
#include "lanes.h"
#undef REAL
#undef NAME

#define REAL double
#define NAME(function) function##_double
#include "lanes.h"
#undef REAL
#undef NAME

#endif

#else /* REAL: once for each type */

#define LANES ((ptrdiff_t)(VECTOR_BYTES / sizeof(REAL)))
#define VECTOR NAME(vector)

/* to[places[i] + c] = x[c * x_step + i], for so many cells i of `channels` channels c; where these are
   fewer than lanes, the others are of no account. The last vectors of cells reach back to where the ones
   before have been, if there are that many. */
static void NAME(turn_cells)(
    const REAL *x, ptrdiff_t x_step, ptrdiff_t channels, ptrdiff_t cells, const ptrdiff_t *places,
    REAL *to) {
    const REAL *row[VECTOR_BYTES / sizeof(REAL)];
    VECTOR a[VECTOR_BYTES / sizeof(REAL)];
    if (cells < LANES) {
        for (ptrdiff_t i = 0; i < cells; i++)
            for (ptrdiff_t c = 0; c < channels; c++) to[places[i] + c] = x[c * x_step + i];
        return;
    }
    for (ptrdiff_t c = 0; c < LANES; c++) row[c] = x + (c < channels ? c : channels - 1) * x_step;
    for (ptrdiff_t i = 0; i < cells; i += LANES) {
        i = i + LANES > cells ? cells - LANES : i;
        UNROLL
        for (int c = 0; c < LANES; c++) a[c] = NAME(load)(row[c] + i);
        NAME(turn)(a);
        UNROLL
        for (int j = 0; j < LANES; j++) NAME(store)(to + places[i + j], a[j]);
    }
}

/* y[c * y_step + i] = sums[i * LANES + c], for so many positions i of `channels` channels c. */
static void NAME(turn_sums)(
    const REAL *sums, ptrdiff_t positions, ptrdiff_t channels, REAL *y, ptrdiff_t y_step) {
    VECTOR a[VECTOR_BYTES / sizeof(REAL)];
    if (positions < LANES || channels < LANES) {
        for (ptrdiff_t c = 0; c < channels; c++)
            for (ptrdiff_t i = 0; i < positions; i++) y[c * y_step + i] = sums[i * LANES + c];
        return;
    }
    for (ptrdiff_t i = 0; i < positions; i += LANES) {
        i = i + LANES > positions ? positions - LANES : i;
        UNROLL
        for (int j = 0; j < LANES; j++) a[j] = NAME(load)(sums + (i + j) * LANES);
        NAME(turn)(a);
        UNROLL
        for (int c = 0; c < LANES; c++) NAME(store)(y + c * y_step + i, a[c]);
    }
}

/* y[j] = start[j * start_step] + the sum over taps t of weights[t] * x[offsets[t] + j * step], for N
   outputs j: all of these are vectors. */
#define DEFINE_SUM_TOGETHER(N)                                                                   \
    static void NAME(sum_together_##N)(                                                          \
        const REAL *x, ptrdiff_t step, const ptrdiff_t *offsets, const REAL *weights,            \
        ptrdiff_t taps, const REAL *start, ptrdiff_t start_step, REAL *y) {                      \
        VECTOR sums[N];                                                                          \
        UNROLL                                                                                   \
        for (int j = 0; j < N; j++) sums[j] = NAME(load)(start + j * start_step);                \
        for (ptrdiff_t t = 0; t < taps; t++) {                                                   \
            const VECTOR weight = NAME(load)(weights + t * LANES);                               \
            const REAL *from = x + offsets[t];                                                   \
            UNROLL                                                                               \
            for (int j = 0; j < N; j++)                                                          \
                sums[j] = NAME(multiply_add)(sums[j], weight, NAME(load)(from + j * step));      \
        }                                                                                        \
        UNROLL                                                                                   \
        for (int j = 0; j < N; j++) NAME(store)(y + j * LANES, sums[j]);                         \
    }
FOR_EACH_TOGETHER(DEFINE_SUM_TOGETHER)

/* The same for n outputs, in parts of about the same size. */
static void NAME(sum_lanes)(
    const REAL *x, ptrdiff_t step, const ptrdiff_t *offsets, const REAL *weights, ptrdiff_t taps,
    const REAL *start, ptrdiff_t start_step, REAL *y, ptrdiff_t n) {
    for (ptrdiff_t parts = (n + MOST_TOGETHER - 1) / MOST_TOGETHER; parts > 0; parts--) {
        const ptrdiff_t some = (n + parts - 1) / parts;
        switch (some) {
#define CASE(N)                                                                                  \
    case N:                                                                                      \
        NAME(sum_together_##N)(x, step, offsets, weights, taps, start, start_step, y);           \
        break;
            FOR_EACH_TOGETHER(CASE)
#undef CASE
        }
        n -= some;
        x += some * step;
        start += some * start_step;
        y += some * LANES;
    }
}

#undef DEFINE_SUM_TOGETHER
#undef LANES
#undef VECTOR

#endif
