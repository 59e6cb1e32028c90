/* The blocked product behind matrix products and convolutions: packed panels through a micro-kernel.
 *
 * C's columns are cut into units that threads take whole: a unit packs its part of B block by block of
 * WE_GEMM_DEPTH into memory of its own and multiplies every row panel of A with it, so threads meet only at
 * the end. Where columns are few, units share them and split the rows. */
#ifndef WE_BACKEND_CPU_GEMM_H
#define WE_BACKEND_CPU_GEMM_H

#include "backend/backend.h"

enum {
    WE_GEMM_DEPTH = 256, /* a panel of A (14 x 256 floats) stays in the first-level cache while B goes by */
};

typedef struct we_gemm {
    const we_matmul_row *kernel;
    int64_t m, n, k;
    const float *a; /* packed: blocks of WE_GEMM_DEPTH, each [row panels][depth][rows] */
    const float *b; /* packed likewise, or NULL: `pack` is asked */
    /* Write rows [at, at + depth) of B's columns [column, column + count), count <= kernel->columns, as one
     * panel [depth][kernel->columns]. It may write up to WE_GEMM_SLACK floats past the panel's end. */
    void (*pack)(const void *source, int64_t column, int64_t count, int64_t at, int64_t depth, float *to);
    const void *source;
    float *scratch; /* we_gemm_scratch bytes; may be NULL where b is given */
    /* Column j lies at c + j / item * item_step + j % item, rows are ldc apart. A plain matrix has item = n.
     */
    float *c;
    int64_t ldc, item, item_step;
    we_epilogue epilogue; /* at row 0, column 0; the residual lies as C does */
} we_gemm;

enum {
    WE_GEMM_SLACK = 16,
};

static inline int64_t we_least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static inline int64_t we_panels(int64_t lines, int64_t width) {
    return (lines + width - 1) / width;
}

void we_gemm_run(we_pool *pool, const we_gemm *gemm);
/* Bytes of scratch with that many threads. */
size_t we_gemm_scratch(const we_matmul_row *kernel, int64_t n, int64_t k, int32_t threads);

/* Floats of a packed operand, and packing it whole: element (line, p) is at from[line * line_step + p *
 * step]. */
int64_t we_gemm_packed(int64_t lines, int64_t width, int64_t k);
void we_gemm_pack(we_pool *pool, const float *from, int64_t line_step, int64_t step, int64_t lines,
                  int64_t width, int64_t k, float *to);

#endif
