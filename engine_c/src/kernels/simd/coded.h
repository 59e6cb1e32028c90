/* Kernels of one panel of a matrix in codes, VECTORS vectors wide, from vector wrappers, for codes of
 * CODE_BITS bits, to be defined as GEMV and EXPAND. Rows go MOST_ROWS at a time: MOST_ROWS * VECTORS sums, a
 * vector of weights and one of x must fit the register file. A block's sums are scaled once, and those of the
 * blocks before lie in y. */
#include "kernels/kernels.h"

#define VECTORS 4
#define COLUMNS (VECTORS * LANES)
#define UNROLL _Pragma("GCC unroll 8")
#define INLINE static inline __attribute__((always_inline))

/* Zero points of a block: one of each column, or the middle of all codes. */
INLINE void load_zeros(const we_coded *w, int64_t block, VEC zeros[VECTORS]) {
    UNROLL for (int j = 0; j < VECTORS; j++) {
        zeros[j] = w->zeros ? V_LOAD(w->zeros + block * COLUMNS + j * LANES)
                            : V_SPLAT((float)(1 << (CODE_BITS - 1)));
    }
}

/* What lies in codes at place p along k (with 4 bits, an even p) less its zero points: of p, and of p + 1. */
INLINE VEC weight_at(const uint8_t *codes, int half, VEC zero) {
#if CODE_BITS == 8
    return V_SUB(V_NUMBERS(V_CODES(codes + half * COLUMNS)), zero);
#else
    return V_SUB(V_NUMBERS(half ? V_HIGH_HALF(V_CODES(codes)) : V_LOW_HALF(V_CODES(codes))), zero);
#endif
}

/* Where the codes of places p and p + 1 begin, p even. */
INLINE const uint8_t *codes_at(const we_coded *w, int64_t p) {
    return w->codes + p * COLUMNS * CODE_BITS / 8;
}

INLINE void add_place(const uint8_t *codes, int half, const VEC *zeros, const float *x, int64_t x_row,
                      const int rows, VEC sums[MOST_ROWS][VECTORS]) {
    UNROLL for (int j = 0; j < VECTORS; j++) {
        VEC weight = weight_at(codes + j * LANES, half, zeros[j]);
        UNROLL for (int i = 0; i < rows; i++) sums[i][j] = V_FMA(V_SPLAT(x[i * x_row]), weight, sums[i][j]);
    }
}

/* y = sum * scale, and what was there before but for the first block. */
INLINE void finish(const we_coded *w, int64_t block, VEC sum, int j, float *y, int32_t count) {
    VEC scale = V_LOAD(w->scales + block * COLUMNS + j * LANES);
    int32_t left = count - j * LANES;
    y += j * LANES;
    if (left >= LANES)
        V_STORE(y, block ? V_FMA(sum, scale, V_LOAD(y)) : V_MUL(sum, scale));
    else if (left > 0)
        V_STORE_PART(y, left, block ? V_FMA(sum, scale, V_LOAD_PART(y, left)) : V_MUL(sum, scale));
}

INLINE void some_rows(const we_coded *w, const float *x, int64_t x_row, float *y, int64_t y_row,
                      int32_t count, const int rows) {
    for (int64_t from = 0, block = 0; from < w->k; from += w->block, block++) {
        int64_t end = w->k - from < w->block ? w->k : from + w->block, p = from;
        VEC zeros[VECTORS], sums[MOST_ROWS][VECTORS];
        load_zeros(w, block, zeros);
        UNROLL for (int i = 0; i < rows; i++) {
            UNROLL for (int j = 0; j < VECTORS; j++) sums[i][j] = V_ZERO();
        }
        for (; p + 2 <= end; p += 2) {
            add_place(codes_at(w, p), 0, zeros, x + p, x_row, rows, sums);
            add_place(codes_at(w, p), 1, zeros, x + p + 1, x_row, rows, sums);
        }
        if (p < end)
            add_place(codes_at(w, p), 0, zeros, x + p, x_row, rows, sums);
        UNROLL for (int i = 0; i < rows; i++) {
            UNROLL for (int j = 0; j < VECTORS; j++) finish(w, block, sums[i][j], j, y + i * y_row, count);
        }
    }
}

void GEMV(const we_coded *w, int64_t rows, const float *x, int64_t x_row, float *y, int64_t y_row,
          int32_t count) {
    int64_t row = 0;
    for (; row + MOST_ROWS <= rows; row += MOST_ROWS)
        some_rows(w, x + row * x_row, x_row, y + row * y_row, y_row, count, MOST_ROWS);
    for (; row + 2 <= rows; row += 2)
        some_rows(w, x + row * x_row, x_row, y + row * y_row, y_row, count, 2);
    if (row < rows)
        some_rows(w, x + row * x_row, x_row, y + row * y_row, y_row, count, 1);
}

void EXPAND(const we_coded *w, int64_t from, int64_t count, float *to) {
    for (int64_t p = from; p < from + count; p += 2) {
        int64_t block = p / w->block;
        VEC zeros[VECTORS];
        load_zeros(w, block, zeros);
        for (int half = 0; half < 2 && p + half < from + count; half++, to += COLUMNS) {
            UNROLL for (int j = 0; j < VECTORS; j++) {
                VEC scale = V_LOAD(w->scales + block * COLUMNS + j * LANES);
                V_STORE(to + j * LANES, V_MUL(weight_at(codes_at(w, p) + j * LANES, half, zeros[j]), scale));
            }
        }
    }
}
