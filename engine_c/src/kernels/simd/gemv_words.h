/* One kernel of few rows times a panel of words of two bfloat16, from vector wrappers whose V_FMA is a dot
 * product of words, to be defined as KERNEL. x is rounded on the way, a vector of words at a time by
 * v_round_words. */
#include "kernels/kernels.h"

enum {
    VECTORS = 4,
    MOST_ROWS = 6,
    SETS = 4, /* of sums of one row, or each would wait for the one before */
};

#define UNROLL _Pragma("GCC unroll 16")
#define INLINE static inline __attribute__((always_inline))

INLINE void finish(const we_gemv *g, int64_t row, VEC sum, int32_t j) {
    int32_t left = g->count - j * LANES, count = left < LANES ? left : LANES;
    if (left <= 0)
        return;
    if (g->start)
        sum = V_ADD(sum, V_LOAD_UP_TO(g->start + row * g->start_row + j * LANES, count));
    V_STORE_UP_TO(g->y + row * g->y_row + j * LANES, count, sum);
}

/* Once for every word of a vector. A lane has to be a constant; without an instruction that takes one, words
 * are spread on their way from memory. */
#if defined(V_FMA_LANE)
#define FOR_WORDS(HOW, DO) DO(0) DO(1) DO(2) DO(3)
#else
#define V_FMA_LANE(p, q, b, c) V_FMA(V_SPLAT((p)[q]), b, c)
#define FOR_WORDS(HOW, DO) HOW for (int q = 0; q < LANES; q++) DO(q)
#endif

INLINE void add_word(const float *w, float word, VEC sums[VECTORS]) {
    VEC value = V_SPLAT(word);
    UNROLL for (int j = 0; j < VECTORS; j++) sums[j] = V_FMA(value, V_LOAD(w + j * LANES), sums[j]);
}

/* Of whole vectors of words: word q of a row goes to the sums in turn. */
#define ADD_TO_SET(q)                                                                                        \
    UNROLL for (int j = 0; j < VECTORS; j++) sums[(q) % SETS][j] =                                           \
        V_FMA_LANE(words, q, V_LOAD(w + ((q) * VECTORS + j) * LANES), sums[(q) % SETS][j]);

static void one_row(const we_gemv *g, int64_t row) {
    const float *x = g->x + row * g->x_row, *w = g->w;
    float words[LANES];
    VEC sums[SETS][VECTORS];
    UNROLL for (int s = 0; s < SETS; s++) {
        UNROLL for (int j = 0; j < VECTORS; j++) sums[s][j] = V_ZERO();
    }
    int64_t p = 0;
    for (; p + 2 * LANES <= g->k; p += 2 * LANES, w += LANES * VECTORS * LANES) {
        v_round_words(x + p, 2 * LANES, words);
        FOR_WORDS(UNROLL, ADD_TO_SET)
    }
    if (p < g->k)
        v_round_words(x + p, g->k - p, words);
    for (int i = 0; p < g->k; p += 2, i++, w += VECTORS * LANES)
        add_word(w, words[i], sums[0]);
    UNROLL for (int j = 0; j < VECTORS; j++)
        finish(g, row, V_ADD(V_ADD(sums[0][j], sums[1][j]), V_ADD(sums[2][j], sums[3][j])), j);
}

/* Word q of every row. */
#define ADD_TO_ROWS(q)                                                                                       \
    {                                                                                                        \
        UNROLL for (int j = 0; j < VECTORS; j++, w += LANES) {                                               \
            VEC column = V_LOAD(w);                                                                          \
            UNROLL for (int i = 0; i < rows; i++) sums[i][j] = V_FMA_LANE(words[i], q, column, sums[i][j]);  \
        }                                                                                                    \
    }

INLINE void some_rows(const we_gemv *g, int64_t row, const int rows) {
    const float *x = g->x + row * g->x_row, *w = g->w;
    float words[MOST_ROWS][LANES];
    VEC sums[MOST_ROWS][VECTORS];
    UNROLL for (int i = 0; i < rows; i++) {
        UNROLL for (int j = 0; j < VECTORS; j++) sums[i][j] = V_ZERO();
    }
    int64_t p = 0;
    for (; p + 2 * LANES <= g->k; p += 2 * LANES) {
        UNROLL for (int i = 0; i < rows; i++) v_round_words(x + i * g->x_row + p, 2 * LANES, words[i]);
        FOR_WORDS(, ADD_TO_ROWS)
    }
    if (p < g->k) {
        UNROLL for (int i = 0; i < rows; i++) v_round_words(x + i * g->x_row + p, g->k - p, words[i]);
    }
    for (int q = 0; p < g->k; p += 2, q++, w += VECTORS * LANES) {
        UNROLL for (int i = 0; i < rows; i++) add_word(w, words[i][q], sums[i]);
    }
    UNROLL for (int i = 0; i < rows; i++) {
        UNROLL for (int j = 0; j < VECTORS; j++) finish(g, row + i, sums[i][j], j);
    }
}

void KERNEL(const we_gemv *g) {
    int64_t row = 0;
    for (; row + MOST_ROWS <= g->rows; row += MOST_ROWS)
        some_rows(g, row, MOST_ROWS);
    for (; row + 2 <= g->rows; row += 2)
        some_rows(g, row, 2);
    if (row < g->rows)
        one_row(g, row);
}
