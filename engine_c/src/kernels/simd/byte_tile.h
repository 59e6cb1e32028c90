/* One micro-kernel of bytes from vector wrappers. Before including define KERNEL (name), ROWS, VECTORS
 * (columns / lanes), and include a header that has LANES; SUMS, FLOATS (vectors of int32, float32); LEFT,
 * RIGHT (what products take of a row, of a column) Q_SPLAT(p), Q_COLUMNS(p): four bytes of a row for all
 * lanes, LANES columns of four; Q_DOT(sums, left, right), Q_KEEP(p, sums); where sums of other vectors run on
 * the way, RUNNING and Q_START(p); and the conversions Q_ that are used below, or Q_FINISH(tile, sums), which
 * makes the bytes. Like simd/matmul_tile.h, every number of rows and of vectors is a variant of its own. */
#include <stdint.h>
#include <string.h>

#include "kernels/kernels.h"

enum {
    LINE = 64, /* bytes */
};

#define UNROLL _Pragma("GCC unroll 64")
#define INLINE static inline __attribute__((always_inline))

#if !defined(RUNNING)
#define RUNNING SUMS
#define Q_START(p) Q_INTS(p)
#endif

#if !defined(Q_FINISH)
typedef struct limits {
    FLOATS low, high;
    SUMS zero;
} limits;

INLINE limits limits_of(const we_byte_range *range) {
    return (limits){Q_ALL(range->low), Q_ALL(range->high), Q_ALL_INTS(range->zero)};
}

#define WITHIN(value, l) Q_ROUND(Q_LEAST(Q_MOST(value, (l).low), (l).high))

/* Vector j of the columns, row by row. Sums come by way of memory: where they stay in registers until here,
 * GCC spills some of them in the loop over k. */
INLINE void finish_column(const we_byte_tile *t, const int32_t *sums, const int32_t j, const int32_t count) {
    const limits own = limits_of(&t->how->range), last = t->added ? limits_of(&t->then->range) : own;
    const FLOATS factor = Q_FLOATS(t->how->factor + j),
                 shift = t->how->shift ? Q_FLOATS(t->how->shift + j) : Q_ALL(0);
    uint8_t *c = t->c + j;
    if (!t->added && !t->how->shift) {
        for (int32_t i = 0; i < t->m; i++, c += t->ldc, sums += VECTORS * LANES)
            Q_STORE_BYTES(c, count,
                          Q_ADD_INTS(WITHIN(Q_MUL(Q_TO_FLOATS(Q_INTS(sums)), factor), own), own.zero));
        return;
    }
    const FLOATS a = t->added ? Q_ALL(t->then->a_factor) : shift,
                 b = t->added ? Q_ALL(t->then->b_factor) : shift;
    const SUMS b_zero = Q_ALL_INTS(t->added ? t->then->b_zero : 0);
    const uint8_t *added = t->added ? t->added + j : NULL;
    for (int32_t i = 0; i < t->m; i++, c += t->ldc, sums += VECTORS * LANES) {
        FLOATS value = Q_MUL(Q_TO_FLOATS(Q_INTS(sums)), factor);
        value = t->how->shift ? Q_ADD(value, shift) : value;
        SUMS whole = WITHIN(value, own);
        if (added) {
            FLOATS other = Q_TO_FLOATS(Q_SUB_INTS(Q_BYTES(added, count, t->then->b_flip), b_zero));
            whole = WITHIN(Q_ADD(Q_MUL(Q_TO_FLOATS(whole), a), Q_MUL(other, b)), last);
            added += t->ldc;
        }
        Q_STORE_BYTES(c, count, Q_ADD_INTS(whole, last.zero));
    }
}

static void finish(const we_byte_tile *t, const int32_t *sums) {
    for (int32_t j = 0; j < t->n; j += LANES) {
        const int32_t count = t->n - j;
        if (count >= LANES)
            finish_column(t, sums + j, j, LANES);
        else
            finish_column(t, sums + j, j, count);
    }
}

#define Q_FINISH finish
#endif

static void keep_sums(const we_byte_tile *t, const int32_t *sums) {
    for (int32_t i = 0; i < t->m; i++)
        memcpy(t->sums + i * t->ldc, sums + i * VECTORS * LANES, (size_t)t->n * sizeof *sums);
}

INLINE void multiply(const we_byte_tile *t, const int rows, const int vectors, int32_t *to) {
    const int64_t depth = t->quads * 4;
    RUNNING sums[ROWS][VECTORS];
    const int8_t *b = t->b, *ahead = t->ahead;
    const uint8_t *const *starts = t->rows;
    UNROLL for (int j = 0; j < vectors; j++) {
        const RUNNING start = Q_START(t->start + j * LANES);
        UNROLL for (int i = 0; i < rows; i++) sums[i][j] = start;
    }
    for (int64_t r = 0; r < t->runs; r++, starts += rows) {
        const uint8_t *a[ROWS];
        UNROLL for (int i = 0; i < rows; i++) a[i] = starts[i] + depth;
        for (int64_t p = -depth; p < 0; p += 4, b += VECTORS * LANES * 4, ahead += LINE) {
            RIGHT columns[VECTORS];
            __builtin_prefetch(ahead, 0, 2);
            UNROLL for (int j = 0; j < vectors; j++) columns[j] = Q_COLUMNS(b + j * LANES * 4);
            UNROLL for (int i = 0; i < rows; i++) {
                const LEFT row = Q_SPLAT(a[i] + p);
                UNROLL for (int j = 0; j < vectors; j++) sums[i][j] = Q_DOT(sums[i][j], row, columns[j]);
            }
        }
    }
    UNROLL for (int i = 0; i < rows; i++) {
        UNROLL for (int j = 0; j < vectors; j++) Q_KEEP(to + (i * VECTORS + j) * LANES, sums[i][j]);
    }
}

/* One function per number of rows. */
#define AT_MOST(count) (VECTORS < (count) ? VECTORS : (count))
#define VARIANT(rows)                                                                                        \
    static void multiply_##rows(const we_byte_tile *t, int32_t *sums) {                                      \
        int32_t vectors = (t->n + LANES - 1) / LANES;                                                        \
        if (vectors <= 1)                                                                                    \
            multiply(t, rows, 1, sums);                                                                      \
        else if (VECTORS == 2 || vectors == 2)                                                               \
            multiply(t, rows, AT_MOST(2), sums);                                                             \
        else if (VECTORS == 3 || vectors == 3)                                                               \
            multiply(t, rows, AT_MOST(3), sums);                                                             \
        else                                                                                                 \
            multiply(t, rows, AT_MOST(4), sums);                                                             \
    }
#define ENTRY(rows) [rows] = multiply_##rows,
#define UP_TO_4(X) X(1) X(2) X(3) X(4)
#define UP_TO_6(X) UP_TO_4(X) X(5) X(6)
#define UP_TO_8(X) UP_TO_6(X) X(7) X(8)
#define UP_TO_14(X) UP_TO_8(X) X(9) X(10) X(11) X(12) X(13) X(14)
#define PASTE(a, b) a##b
#define UP_TO(rows, X) PASTE(UP_TO_, rows)(X)

UP_TO(ROWS, VARIANT)

void KERNEL(const we_byte_tile *t) {
    static void (*const VARIANTS[ROWS + 1])(const we_byte_tile *, int32_t *) = {UP_TO(ROWS, ENTRY)};
    int32_t sums[ROWS * VECTORS * LANES];
    const we_byte_tile own = *t; /* a copy that no store to C can change */
    VARIANTS[own.m](&own, sums);
    (own.sums ? keep_sums : Q_FINISH)(&own, sums);
}
