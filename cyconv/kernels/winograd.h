/* Winograd's transforms, of WIDE channels or filters at a time, side by side in the lanes of vectors,
   so that it does not matter how narrow an image is. What the matrices are, and why, is said in
   transforms.pxi: for kernels of three taps there are six points, for kernels of four seven. With
   stride 2, three taps take nine: five of two taps, and four of one.

   The file includes itself once for float and once for double. */

#ifndef REAL

#ifndef CYCONV_WINOGRAD_H
#define CYCONV_WINOGRAD_H

#include "simd.h"

#define WIDE 16

/* On the plain road what is transformed is large, and written one WIDE after another in each of its
   planes, which are more streams than processors follow. With 256 channels and filters on 56x56 the
   transforms of a weight gradient took 1.5 times as long without. */
#if defined(CYCONV_AVX512) || defined(CYCONV_AVX2) || defined(CYCONV_NEON)
#define FETCH_NEXT(cells) ((void)(cells))
#else
#define FETCH_NEXT(cells) PREFETCH_NEAR(cells)
#endif

/* Kinds of tiles, by their points; with nine, also those of an input gradient. */
#define SIX 6
#define SEVEN 7
#define STRIDED 9
#define STRIDED_BACK (-9)

/* The points: 0, +-1/sqrt(2), +-sqrt(2) and infinity; or the roots of three squares, or of two, and
   infinity. */
#define ROOT_HALF 0.7071067811865476
#define ROOT_TWO 1.4142135623730951
#define SQUARE_A 0.1
#define SQUARE_B 0.7
#define SQUARE_C 3.0
#define ROOT_A 0.31622776601683794
#define ROOT_B 0.8366600265340756
#define ROOT_C 1.7320508075688772
#define SQUARE_D 0.15
#define SQUARE_E 1.5
#define ROOT_D 0.3872983346207417
#define ROOT_E 1.224744871391589

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

/* B^T: six to six. */
ALWAYS_INLINE void NAME(input_6)(const VECTOR *x, VECTOR *y) {
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
ALWAYS_INLINE void NAME(output_6)(const VECTOR *x, VECTOR *y) {
    const VECTOR even1 = ADD(x[1], x[2]), odd1 = TIMES(ROOT_HALF, SUBTRACT(x[1], x[2]));
    const VECTOR even2 = ADD(x[3], x[4]), odd2 = TIMES(ROOT_TWO, SUBTRACT(x[3], x[4]));
    y[0] = ADD(ADD(x[0], even1), even2);
    y[1] = ADD(odd1, odd2);
    y[2] = PLUS(TIMES(0.5, even1), 2, even2);
    y[3] = ADD(PLUS(TIMES(0.5, odd1), 2, odd2), x[5]);
}

/* A: four to six. */
ALWAYS_INLINE void NAME(output_grad_6)(const VECTOR *x, VECTOR *y) {
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
ALWAYS_INLINE void NAME(weight_6)(const VECTOR *x, VECTOR *y) {
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
ALWAYS_INLINE void NAME(weight_grad_6)(const VECTOR *x, VECTOR *y) {
    const VECTOR even1 = TIMES(-2.0 / 3, ADD(x[1], x[2]));
    const VECTOR odd1 = TIMES(-2.0 / 3 * ROOT_HALF, SUBTRACT(x[1], x[2]));
    const VECTOR even2 = TIMES(1.0 / 6, ADD(x[3], x[4]));
    const VECTOR odd2 = TIMES(1.0 / 6 * ROOT_TWO, SUBTRACT(x[3], x[4]));
    y[0] = ADD(ADD(x[0], even1), even2);
    y[1] = ADD(odd1, odd2);
    y[2] = ADD(PLUS(TIMES(0.5, even1), 2, even2), x[5]);
}

/* With seven points all but infinity are in pairs, +-sqrt(p): PAIR of the number of the first, p, its
   root and the other two. B^T: seven to seven. */
#define EACH_PAIR(PAIR)                                                                          \
    PAIR(0, SQUARE_A, ROOT_A, SQUARE_B, SQUARE_C)                                                \
    PAIR(2, SQUARE_B, ROOT_B, SQUARE_A, SQUARE_C)                                                \
    PAIR(4, SQUARE_C, ROOT_C, SQUARE_A, SQUARE_B)
ALWAYS_INLINE void NAME(input_7)(const VECTOR *x, VECTOR *y) {
#define PAIR(i, p, root, q, r)                                                                   \
    const VECTOR even##i = PLUS(PLUS(x[4], -(q + r), x[2]), q * r, x[0]);                        \
    const VECTOR odd##i = PLUS(PLUS(x[5], -(q + r), x[3]), q * r, x[1]);                         \
    y[i] = PLUS(even##i, 1 / root, odd##i);                                                      \
    y[i + 1] = PLUS(even##i, -1 / root, odd##i);
    EACH_PAIR(PAIR)
#undef PAIR
    y[6] = PLUS(x[6], -(SQUARE_A + SQUARE_B + SQUARE_C), x[4]);
    y[6] = PLUS(y[6], SQUARE_A * SQUARE_B + SQUARE_A * SQUARE_C + SQUARE_B * SQUARE_C, x[2]);
    y[6] = PLUS(y[6], -SQUARE_A * SQUARE_B * SQUARE_C, x[0]);
}

/* A^T: seven to four. */
ALWAYS_INLINE void NAME(output_7)(const VECTOR *x, VECTOR *y) {
    const VECTOR evens[3] = {ADD(x[0], x[1]), ADD(x[2], x[3]), ADD(x[4], x[5])};
    const VECTOR odds[3] = {
        TIMES(ROOT_A, SUBTRACT(x[0], x[1])), TIMES(ROOT_B, SUBTRACT(x[2], x[3])),
        TIMES(ROOT_C, SUBTRACT(x[4], x[5]))};
    y[0] = ADD(ADD(evens[0], evens[1]), evens[2]);
    y[1] = ADD(ADD(odds[0], odds[1]), odds[2]);
    y[2] = PLUS(PLUS(TIMES(SQUARE_A, evens[0]), SQUARE_B, evens[1]), SQUARE_C, evens[2]);
    y[3] = ADD(PLUS(PLUS(TIMES(SQUARE_A, odds[0]), SQUARE_B, odds[1]), SQUARE_C, odds[2]), x[6]);
}

/* A: four to seven. EVALUATE is a polynomial of degree 3 at a pair of points. */
#define EVALUATE(i, p, root, ...)                                                                \
    const VECTOR even##i = PLUS(x[0], p, x[2]), odd##i = PLUS(x[1], p, x[3]);                    \
    y[i] = PLUS(even##i, root, odd##i);                                                          \
    y[i + 1] = PLUS(even##i, -root, odd##i);
ALWAYS_INLINE void NAME(output_grad_7)(const VECTOR *x, VECTOR *y) {
    EACH_PAIR(EVALUATE)
    y[6] = x[3];
}

/* G: four to seven. */
#define SHARE(p, q, r) (0.5 / ((p - q) * (p - r)))
ALWAYS_INLINE void NAME(weight_7)(const VECTOR *x, VECTOR *y) {
#define PAIR(i, p, root, q, r)                                                                   \
    const VECTOR even##i = TIMES(SHARE(p, q, r), PLUS(x[0], p, x[2]));                           \
    const VECTOR odd##i = PLUS(x[1], p, x[3]);                                                   \
    y[i] = PLUS(even##i, SHARE(p, q, r) * root, odd##i);                                         \
    y[i + 1] = PLUS(even##i, -SHARE(p, q, r) * root, odd##i);
    EACH_PAIR(PAIR)
#undef PAIR
    y[6] = x[3];
}

/* G^T: seven to four. */
ALWAYS_INLINE void NAME(weight_grad_7)(const VECTOR *x, VECTOR *y) {
    VECTOR shares[7];
#define PAIR(i, p, root, q, r)                                                                   \
    shares[i] = TIMES(SHARE(p, q, r), x[i]);                                                     \
    shares[i + 1] = TIMES(SHARE(p, q, r), x[i + 1]);
    EACH_PAIR(PAIR)
#undef PAIR
    shares[6] = x[6];
    NAME(output_7)(shares, y);
}

/* With stride 2, even cells meet the first and the last of three taps, at five points, two pairs and
   infinity, and odd cells the second, as they are: four points more. B^T of the even cells, which are
   `step` apart: five to five. */
#define EACH_OF_TWO(PAIR) PAIR(0, SQUARE_D, ROOT_D, SQUARE_E) PAIR(2, SQUARE_E, ROOT_E, SQUARE_D)
ALWAYS_INLINE void NAME(input_5)(const VECTOR *x, const int step, VECTOR *y) {
#define PAIR(i, p, root, q)                                                                      \
    const VECTOR even##i = PLUS(x[2 * step], -q, x[0]);                                          \
    const VECTOR odd##i = PLUS(x[3 * step], -q, x[step]);                                        \
    y[i] = PLUS(even##i, 1 / root, odd##i);                                                      \
    y[i + 1] = PLUS(even##i, -1 / root, odd##i);
    EACH_OF_TWO(PAIR)
#undef PAIR
    y[4] = PLUS(x[4 * step], -(SQUARE_D + SQUARE_E), x[2 * step]);
    y[4] = PLUS(y[4], SQUARE_D * SQUARE_E, x[0]);
}

/* Nine to nine. */
ALWAYS_INLINE void NAME(input_9)(const VECTOR *x, VECTOR *y) {
    NAME(input_5)(x, 2, y);
    UNROLL
    for (int i = 0; i < 4; i++) y[5 + i] = x[1 + 2 * i];
}

/* Of the input gradient, whose even cells meet two taps and odd ones one: five to nine. */
ALWAYS_INLINE void NAME(input_back)(const VECTOR *x, VECTOR *y) {
    NAME(input_5)(x, 1, y);
    UNROLL
    for (int i = 0; i < 4; i++) y[5 + i] = x[i];
}

/* A^T: five to four. */
ALWAYS_INLINE void NAME(output_5)(const VECTOR *x, VECTOR *y) {
    const VECTOR evens[2] = {ADD(x[0], x[1]), ADD(x[2], x[3])};
    const VECTOR odds[2] = {
        TIMES(ROOT_D, SUBTRACT(x[0], x[1])), TIMES(ROOT_E, SUBTRACT(x[2], x[3]))};
    y[0] = ADD(evens[0], evens[1]);
    y[1] = ADD(odds[0], odds[1]);
    y[2] = PLUS(TIMES(SQUARE_D, evens[0]), SQUARE_E, evens[1]);
    y[3] = ADD(PLUS(TIMES(SQUARE_D, odds[0]), SQUARE_E, odds[1]), x[4]);
}

/* Nine to four. */
ALWAYS_INLINE void NAME(output_9)(const VECTOR *x, VECTOR *y) {
    NAME(output_5)(x, y);
    UNROLL
    for (int i = 0; i < 4; i++) y[i] = ADD(y[i], x[5 + i]);
}

/* Of the input gradient, from the tile's first cell, an odd one, on: nine to eight. */
ALWAYS_INLINE void NAME(output_back)(const VECTOR *x, VECTOR *y) {
    VECTOR evens[4];
    NAME(output_5)(x, evens);
    UNROLL
    for (int i = 0; i < 4; i++) {
        y[2 * i] = x[5 + i];
        y[2 * i + 1] = evens[i];
    }
}

/* A: four to nine. */
ALWAYS_INLINE void NAME(output_grad_9)(const VECTOR *x, VECTOR *y) {
    EACH_OF_TWO(EVALUATE)
    y[4] = x[3];
    UNROLL
    for (int i = 0; i < 4; i++) y[5 + i] = x[i];
}

/* G: three to six, the last of which serves the four last points. */
ALWAYS_INLINE void NAME(weight_9)(const VECTOR *x, VECTOR *y) {
#define PAIR(i, p, root, q)                                                                      \
    const VECTOR first##i = TIMES(0.5 / (p - q), x[0]);                                          \
    y[i] = PLUS(first##i, 0.5 / (p - q) * root, x[2]);                                           \
    y[i + 1] = PLUS(first##i, -0.5 / (p - q) * root, x[2]);
    EACH_OF_TWO(PAIR)
#undef PAIR
    y[4] = x[2];
    y[5] = x[1];
}

/* G^T: six to three. */
ALWAYS_INLINE void NAME(weight_grad_9)(const VECTOR *x, VECTOR *y) {
    const double share = 0.5 / (SQUARE_D - SQUARE_E);
    const VECTOR odds = PLUS(TIMES(ROOT_D, SUBTRACT(x[0], x[1])), -ROOT_E, SUBTRACT(x[2], x[3]));
    y[0] = TIMES(share, SUBTRACT(ADD(x[0], x[1]), ADD(x[2], x[3])));
    y[1] = x[5];
    y[2] = PLUS(x[4], share, odds);
}

/* A tile there and back: to[(i * N + j) * to_step] = (M x M^T)[i, j] of an S x S tile x[i, j] =
   from[i * row_step + j * column_step], N x N afterwards; each is WIDE items. Rows and columns are
   loops: unrolled, they took as long, with AVX2 a little longer, and a twentieth of the wheel. */
#define DEFINE_TILE(NAME_OF, S, N)                                                               \
    static void NAME(NAME_OF##_tile)(                                                            \
        const REAL *from, ptrdiff_t row_step, ptrdiff_t column_step, REAL *to,                   \
        ptrdiff_t to_row_step, ptrdiff_t to_column_step, const REAL *bias) {                     \
        for (int i = 0; i < N; i++)                                                              \
            for (int j = 0; j < N; j++)                                                          \
                FETCH_NEXT(to + i * to_row_step + j * to_column_step + WIDE);                    \
        for (ptrdiff_t lane = 0; lane < WIDE; lane += LANES) {                                   \
            VECTOR half[S][N], x[S], y[N];                                                       \
            for (int j = 0; j < S; j++) {                                                        \
                UNROLL                                                                           \
                for (int i = 0; i < S; i++)                                                      \
                    x[i] = NAME(load)(from + i * row_step + j * column_step + lane);             \
                NAME(NAME_OF)(x, half[j]);                                                       \
            }                                                                                    \
            for (int i = 0; i < N; i++) {                                                        \
                UNROLL                                                                           \
                for (int j = 0; j < S; j++) x[j] = half[j][i];                                   \
                NAME(NAME_OF)(x, y);                                                             \
                UNROLL                                                                           \
                for (int j = 0; j < N; j++)                                                      \
                    NAME(store)(                                                                 \
                        to + i * to_row_step + j * to_column_step + lane,                        \
                        bias ? ADD(y[j], NAME(load)(bias + lane)) : y[j]);                       \
            }                                                                                    \
        }                                                                                        \
    }
DEFINE_TILE(input_6, 6, 6)
DEFINE_TILE(input_7, 7, 7)
DEFINE_TILE(input_9, 9, 9)
DEFINE_TILE(input_back, 5, 9)
DEFINE_TILE(output_6, 6, 4)
DEFINE_TILE(output_7, 7, 4)
DEFINE_TILE(output_9, 9, 4)
DEFINE_TILE(output_back, 9, 8)
DEFINE_TILE(output_grad_6, 4, 6)
DEFINE_TILE(output_grad_7, 4, 7)
DEFINE_TILE(output_grad_9, 4, 9)
DEFINE_TILE(weight_6, 3, 6)
DEFINE_TILE(weight_7, 4, 7)
DEFINE_TILE(weight_9, 3, 6)
DEFINE_TILE(weight_grad_6, 6, 3)
DEFINE_TILE(weight_grad_7, 7, 4)
DEFINE_TILE(weight_grad_9, 6, 3)

/* The same by the kind of tiles; `back` is what it is for STRIDED_BACK. */
#define DEFINE_TILES(NAME_OF, BACK)                                                              \
    static void NAME(NAME_OF##_tile)(                                                            \
        int kind, const REAL *from, ptrdiff_t row_step, ptrdiff_t column_step, REAL *to,         \
        ptrdiff_t to_row_step, ptrdiff_t to_column_step, const REAL *bias) {                     \
        (kind == SIX       ? NAME(NAME_OF##_6_tile)                                              \
         : kind == SEVEN   ? NAME(NAME_OF##_7_tile)                                              \
         : kind == STRIDED ? NAME(NAME_OF##_9_tile)                                              \
                           : NAME(BACK##_tile))(                                                 \
            from, row_step, column_step, to, to_row_step, to_column_step, bias);                 \
    }
DEFINE_TILES(input, input_back)
DEFINE_TILES(output, output_back)
DEFINE_TILES(output_grad, output_grad_9)
DEFINE_TILES(weight, weight_9)
DEFINE_TILES(weight_grad, weight_grad_9)

#undef LANES
#undef VECTOR
#undef ADD
#undef SUBTRACT
#undef PLUS
#undef TIMES
#undef EACH_PAIR
#undef EACH_OF_TWO
#undef EVALUATE
#undef SHARE
#undef DEFINE_TILE
#undef DEFINE_TILES

#endif
