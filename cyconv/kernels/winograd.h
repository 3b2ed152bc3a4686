/* Winograd's transforms, WIDE tiles at a time, side by side in the lanes of vectors: on the fast road
   those of WIDE channels, so that it does not matter how narrow an image is; on the plain road those
   of neighbours in a row. What the matrices are, and why, is said in transforms.pxi.

   The file includes itself once for float and once for double. */

#ifndef REAL

#ifndef CYCONV_WINOGRAD_H
#define CYCONV_WINOGRAD_H

#include "simd.h"

#define WIDE 16

#define REAL float
#define NAME(function) function##_float
#include "winograd.h"
#undef REAL
#undef NAME

#define REAL double
#define NAME(function) function##_double
#include "winograd.h"
#undef REAL
#undef NAME

#endif

#else /* REAL: once for each type */

#define LANES ((ptrdiff_t)(VECTOR_BYTES / sizeof(REAL)))
#define VECTOR NAME(vector)
#define ADD(a, b) NAME(add)(a, b)
#define SUBTRACT(a, b) NAME(subtract)(a, b)
/* a + number * b, and number * b */
#define PLUS(a, number, b) NAME(multiply_add)(a, NAME(spread)((REAL)(number)), b)
#define TIMES(number, b) NAME(multiply)(NAME(spread)((REAL)(number)), b)
#define ROOT_HALF 0.7071067811865476
#define ROOT_TWO 1.4142135623730951

/* B^T: six to six. */
ALWAYS_INLINE void NAME(input_six)(const VECTOR *x, VECTOR *y) {
    const VECTOR even1 = PLUS(x[4], -2, x[2]), odd1 = TIMES(ROOT_HALF, PLUS(x[3], -2, x[1]));
    const VECTOR even2 = PLUS(x[4], -0.5, x[2]), odd2 = TIMES(ROOT_TWO, PLUS(x[3], -0.5, x[1]));
    y[0] = ADD(PLUS(x[0], -2.5, x[2]), x[4]);
    y[1] = ADD(even1, odd1);
    y[2] = SUBTRACT(even1, odd1);
    y[3] = ADD(even2, odd2);
    y[4] = SUBTRACT(even2, odd2);
    y[5] = ADD(PLUS(x[1], -2.5, x[3]), x[5]);
}

/* A^T: six to four. */
ALWAYS_INLINE void NAME(output_six)(const VECTOR *x, VECTOR *y) {
    const VECTOR even1 = ADD(x[1], x[2]), odd1 = TIMES(ROOT_HALF, SUBTRACT(x[1], x[2]));
    const VECTOR even2 = ADD(x[3], x[4]), odd2 = TIMES(ROOT_TWO, SUBTRACT(x[3], x[4]));
    y[0] = ADD(ADD(x[0], even1), even2);
    y[1] = ADD(odd1, odd2);
    y[2] = PLUS(TIMES(0.5, even1), 2, even2);
    y[3] = ADD(PLUS(TIMES(0.5, odd1), 2, odd2), x[5]);
}

/* A: four to six. */
ALWAYS_INLINE void NAME(output_grad_four)(const VECTOR *x, VECTOR *y) {
    const VECTOR even1 = PLUS(x[0], 0.5, x[2]), odd1 = TIMES(ROOT_HALF, PLUS(x[1], 0.5, x[3]));
    const VECTOR even2 = PLUS(x[0], 2, x[2]), odd2 = TIMES(ROOT_TWO, PLUS(x[1], 2, x[3]));
    y[0] = x[0];
    y[1] = ADD(even1, odd1);
    y[2] = SUBTRACT(even1, odd1);
    y[3] = ADD(even2, odd2);
    y[4] = SUBTRACT(even2, odd2);
    y[5] = x[3];
}

/* G: three to six. */
ALWAYS_INLINE void NAME(weight_three)(const VECTOR *x, VECTOR *y) {
    const VECTOR even1 = TIMES(-2.0 / 3, PLUS(x[0], 0.5, x[2])), odd1 = TIMES(-2.0 / 3 * ROOT_HALF, x[1]);
    const VECTOR even2 = TIMES(1.0 / 6, PLUS(x[0], 2, x[2])), odd2 = TIMES(1.0 / 6 * ROOT_TWO, x[1]);
    y[0] = x[0];
    y[1] = ADD(even1, odd1);
    y[2] = SUBTRACT(even1, odd1);
    y[3] = ADD(even2, odd2);
    y[4] = SUBTRACT(even2, odd2);
    y[5] = x[2];
}

/* G^T: six to three. */
ALWAYS_INLINE void NAME(weight_grad_six)(const VECTOR *x, VECTOR *y) {
    const VECTOR even1 = TIMES(-2.0 / 3, ADD(x[1], x[2]));
    const VECTOR odd1 = TIMES(-2.0 / 3 * ROOT_HALF, SUBTRACT(x[1], x[2]));
    const VECTOR even2 = TIMES(1.0 / 6, ADD(x[3], x[4]));
    const VECTOR odd2 = TIMES(1.0 / 6 * ROOT_TWO, SUBTRACT(x[3], x[4]));
    y[0] = ADD(ADD(x[0], even1), even2);
    y[1] = ADD(odd1, odd2);
    y[2] = ADD(PLUS(TIMES(0.5, even1), 2, even2), x[5]);
}

/* A tile there and back: to[(i * N + j) * to_step] = (M x M^T)[i, j] of an S x S tile x[i, j] =
   from[i * row_step + j * column_step], N x N afterwards; each is WIDE items. */
#define DEFINE_TILE(NAME_OF, ONE_D, S, N)                                                        \
    static void NAME(NAME_OF)(                                                                   \
        const REAL *from, ptrdiff_t row_step, ptrdiff_t column_step, REAL *to,                   \
        ptrdiff_t to_row_step, ptrdiff_t to_column_step, const REAL *bias) {                     \
        for (ptrdiff_t lane = 0; lane < WIDE; lane += LANES) {                                   \
            VECTOR half[S][N], x[S], y[N];                                                       \
            UNROLL                                                                               \
            for (int j = 0; j < S; j++) {                                                        \
                UNROLL                                                                           \
                for (int i = 0; i < S; i++)                                                      \
                    x[i] = NAME(load)(from + i * row_step + j * column_step + lane);             \
                NAME(ONE_D)(x, half[j]);                                                         \
            }                                                                                    \
            UNROLL                                                                               \
            for (int i = 0; i < N; i++) {                                                        \
                UNROLL                                                                           \
                for (int j = 0; j < S; j++) x[j] = half[j][i];                                   \
                NAME(ONE_D)(x, y);                                                               \
                UNROLL                                                                           \
                for (int j = 0; j < N; j++)                                                      \
                    NAME(store)(                                                                 \
                        to + i * to_row_step + j * to_column_step + lane,                        \
                        bias ? ADD(y[j], NAME(load)(bias + lane)) : y[j]);                       \
            }                                                                                    \
        }                                                                                        \
    }
DEFINE_TILE(input_tile, input_six, 6, 6)
DEFINE_TILE(output_tile, output_six, 6, 4)
DEFINE_TILE(output_grad_tile, output_grad_four, 4, 6)
DEFINE_TILE(weight_tile, weight_three, 3, 6)
DEFINE_TILE(weight_grad_tile, weight_grad_six, 6, 3)

/* Cell k of tiles that stand side by side, 4 apart, of `width` (4 or 6) cells each, from a row of an
   image: v[k * step + i] = cells[4 * i + k]. Tiles are taken in fours, and with six cells each four
   cells beyond the last are read. All is done in registers: to read from v what begins the next tile
   would be to wait for what was just written. */
#if VECTOR_BYTES == 16
ALWAYS_INLINE void NAME(split_columns)(
    const REAL *cells, const int some, REAL *v, ptrdiff_t step) {
    VECTOR a[VECTOR_BYTES / sizeof(REAL)];
    UNROLL
    for (int lane = 0; lane < LANES; lane++) a[lane] = NAME(load)(cells + 4 * lane);
    NAME(turn)(a);
    UNROLL
    for (int lane = 0; lane < some; lane++) NAME(store)(v + lane * step, a[lane]);
}

static void NAME(split_tiles)(
    const REAL *cells, ptrdiff_t tiles, int width, REAL *v, ptrdiff_t step) {
    for (ptrdiff_t i = 0; i < tiles; i += 4) {
        UNROLL
        for (ptrdiff_t j = i; j < i + 4; j += LANES) {
            UNROLL
            for (int k = 0; k < 4; k += LANES)
                NAME(split_columns)(cells + 4 * j + k, LANES, v + k * step + j, step);
            if (width == 6) NAME(split_columns)(cells + 4 * j + 4, 2, v + 4 * step + j, step);
        }
    }
}
#endif

#undef LANES
#undef VECTOR
#undef ADD
#undef SUBTRACT
#undef PLUS
#undef TIMES
#undef ROOT_HALF
#undef ROOT_TWO
#undef DEFINE_TILE

#endif
