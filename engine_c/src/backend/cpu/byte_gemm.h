/* The blocked product of bytes behind quantised convolutions and matrix products. As in gemm.h, rows of A are
 * read where they lie, run by run, and B is packed in panels. Sums are exact whatever their order, and they
 * fit the registers however deep the product is, so k is not cut. */
#ifndef WE_BACKEND_CPU_BYTE_GEMM_H
#define WE_BACKEND_CPU_BYTE_GEMM_H

#include "backend/backend.h"

typedef struct we_byte_gemm {
    const we_byte_matmul *kernel;
    int64_t m, n;
    int64_t runs, depth; /* k = runs * depth; depth in bytes, a multiple of 4 */
    /* As in we_gemm; NULL: there is one run, and row i starts at a + i * a_row. */
    void (*rows)(const void *source, int64_t row, int32_t count, int64_t run, int64_t run_count,
                 const uint8_t **to);
    const void *source;
    const uint8_t *a;
    int64_t a_row;
    uint8_t flip; /* of the bytes of A, so that they are what the kernel takes */
    const int8_t *packed;
    const int32_t *start; /* per column; this and what `how` holds have room for whole panels */
    we_requantise how;
    int32_t *sums; /* as in we_byte_tile */
    uint8_t *c;
    int64_t ldc;
    const we_byte_sum *then;
    const uint8_t *added;
} we_byte_gemm;

/* scratch: we_byte_gemm_scratch bytes. */
void we_byte_gemm_run(we_pool *pool, const we_byte_gemm *gemm, void *scratch);
size_t we_byte_gemm_scratch(const we_byte_gemm *gemm, int32_t threads);

/* A B to pack: element p of run r of column j is at b + r * run + p * row + j * column, changed by `flip` and
 * less `zero[j]` (NULL: 0), which fits int8. Of depth - given elements of a run behind the last there is
 * none. */
typedef struct we_byte_right {
    const uint8_t *b;
    int64_t run, row, column;
    int64_t n, runs, depth;
    int64_t given, pieces, piece; /* a run has `pieces` pieces of `given` elements, `piece` apart */
    uint8_t flip;
    const int32_t *zero;
} we_byte_right;

/* Columns with those that fill the last panel. */
static inline int64_t we_byte_columns(const we_byte_matmul *kernel, int64_t n) {
    return (n + kernel->columns - 1) / kernel->columns * kernel->columns;
}
/* Bytes of a packed B: the panels, and behind them the sum of each column, int32. */
static inline int64_t we_byte_panels(const we_byte_matmul *kernel, const we_byte_right *right) {
    return we_byte_columns(kernel, right->n) * right->runs * right->depth;
}
static inline int64_t we_byte_packed(const we_byte_matmul *kernel, const we_byte_right *right) {
    return we_byte_panels(kernel, right) + we_byte_columns(kernel, right->n) * (int64_t)sizeof(int32_t);
}
void we_byte_pack(const we_byte_matmul *kernel, const we_byte_right *right, int8_t *to);

#endif
