/* The blocked product behind matrix products and convolutions: C = A * B, all row by row.
 *
 * A is read where it lies: a row is a number of runs, and `rows` says where each starts, so a convolution
 * needs no matrix of patches. B is packed in panels as wide as the kernel's tile: once where it is constant,
 * else by each unit of work. k is cut into blocks; within a unit, a block of B stays in the second-level
 * cache while the rows of A pass by. Units are what threads take, and they meet only at the end.
 *
 * Kernels of split operands (see we_matmul_row) get the rows of a tile split once per block, for all panels
 * of the unit; rows that are of bfloat16 already are read where they lie, and a plain A for one part that
 * several units share is rounded beforehand. Where there are several parts, a
 * row or a panel whose largest magnitude is outside [2^-24, 2^40] and not zero (infinities and NaN are) makes
 * its tile go to the exact kernel, for which B is packed as float32 too. */
#ifndef WE_BACKEND_CPU_GEMM_H
#define WE_BACKEND_CPU_GEMM_H

#include "backend/backend.h"

typedef struct we_gemm {
    const we_matmul_row *kernel;
    int64_t m, n;
    int64_t runs, depth; /* k = runs * depth; both 1 or more */
    /* Write where the runs [run, run + run_count) of rows [row, row + count) start to to[run_count][count].
     * NULL: there is one run, and row i starts at a + i * a_row. */
    void (*rows)(const void *source, int64_t row, int32_t count, int64_t run, int64_t run_count,
                 const float **to);
    const void *source;
    const float *a;
    int64_t a_row;
    const float *packed; /* B by we_gemm_pack, or NULL: element (p, j) is at b + p * b_row + j * b_column */
    const float *b;
    int64_t b_row, b_column;
    float *c;
    int64_t ldc;
    const float *row_bias, *column_bias, *residual; /* as in we_tile */
    float low, high;
    bool accumulate; /* to what C holds, with no bias; C is not narrow then */
    /* With a kernel of one part. narrow_rows: A is of bfloat16, two neighbours a word, and its addresses and
     * steps count words; `depth` is even. narrow: so is C, which is narrow_c then. narrow_residual: as in
     * we_tile. */
    bool narrow_rows, narrow;
    uint16_t *narrow_c;
    const uint16_t *narrow_residual;
} we_gemm;

static inline int64_t we_least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static inline int64_t we_panels(int64_t lines, int64_t width) {
    return (lines + width - 1) / width;
}

/* scratch: we_gemm_scratch bytes; may be NULL where those are 0: B is packed, and of float32. */
void we_gemm_run(we_pool *pool, const we_gemm *gemm, float *scratch);
/* How a product is cut, as the search prices it. rows: that meet all of B before the next ones do; where they
 * are fewer than m, B passes several times, and what is multiplied next is not brought near meanwhile.
 * a_passes: how often A comes past. share: of the whole that the busiest thread computes. */
typedef struct we_gemm_passes {
    int64_t rows, a_passes;
    double share;
} we_gemm_passes;

/* m, n and k are 1 or more. */
we_gemm_passes we_gemm_cut(const we_gemm *gemm, int32_t threads);
/* Bytes of scratch for products of that shape with that many threads. */
size_t we_gemm_scratch(const we_gemm *gemm, int32_t threads);

/* A B to pack: element p of run r of column j is at b + r * run + p * row + j * column. A run may consist of
 * several pieces of equal length: then p is within one, and piece q starts q * piece further. */
typedef struct we_gemm_right {
    const float *b;
    int64_t run, row, column;
    int64_t n, runs, depth;
    int64_t piece, pieces;
} we_gemm_right;

/* Floats of a packed B, and packing it whole: [panels][runs][depth][columns], in words and parts as the
 * kernel has them; then, where there are several parts, the same of float32, and of every panel whether it is
 * within the limits. */
int64_t we_gemm_packed_runs(const we_matmul_row *kernel, int64_t n, int64_t runs, int64_t depth);
static inline int64_t we_gemm_packed(const we_matmul_row *kernel, int64_t n, int64_t k) {
    return we_gemm_packed_runs(kernel, n, 1, k);
}
void we_gemm_pack(we_pool *pool, const we_matmul_row *kernel, const we_gemm_right *right, float *to);
/* Pack `count` constant B, `step` elements apart, one after the other. They are shared with other programs.
 */
we_status we_gemm_pack_constants(we_program *program, const we_matmul_row *kernel, const we_gemm_right *right,
                                 int64_t count, int64_t step, const float **out, we_error *err);

#endif
