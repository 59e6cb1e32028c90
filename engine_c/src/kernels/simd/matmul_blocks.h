/* The loop of matmul_tile.h over an instruction that multiplies two rows by two columns, four elements of k
 * at once: V_FMA_BLOCK(a, b, c), with the words of both rows or columns behind one another in a vector. Every
 * vector of sums is a block {row 0: two columns; row 1: the same}, and two of them make a vector of two rows.
 */
#ifndef WE_KERNELS_SIMD_MATMUL_BLOCKS_H
#define WE_KERNELS_SIMD_MATMUL_BLOCKS_H

enum {
    ROW_PAIRS = (ROWS + 1) / 2,
    BLOCKS = 2 * VECTORS, /* of a pair of rows */
};

/* Start, and what the blocks hold. */
INLINE void add_blocks(const int rows, const int vectors, VEC blocks[ROW_PAIRS][BLOCKS],
                       VEC sums[ROWS][VECTORS]) {
    UNROLL for (int i = 0; i < rows; i++) {
        UNROLL for (int j = 0; j < vectors; j++) {
            VEC *pair = &blocks[i / 2][2 * j];
            VEC row = i % 2 ? V_HIGH_HALVES(pair[0], pair[1]) : V_LOW_HALVES(pair[0], pair[1]);
            sums[i][j] = V_ADD(sums[i][j], row);
        }
    }
}

INLINE void multiply(const we_tile *tile, const int rows, const int vectors) {
    const we_tile own = *tile, *t = &own; /* a copy that no store to C can change */
    const int row_pairs = (rows + 1) / 2;
    VEC sums[ROWS][VECTORS], blocks[ROW_PAIRS][BLOCKS];
    const float *b = t->b, *ahead = t->ahead;
    const float *const *starts = t->rows;
    UNROLL for (int i = 0; i < row_pairs; i++) {
        UNROLL for (int j = 0; j < 2 * vectors; j++) blocks[i][j] = V_ZERO();
    }
    for (int64_t r = 0; r < t->runs; r++, starts += rows) {
        const float *a[ROWS];
        UNROLL for (int i = 0; i < rows; i++) a[i] = starts[i] + t->depth;
        for (int64_t p = -t->depth; p < 0; p += WE_COUPLE, b += BLOCKS * LANES, ahead += WE_COUPLE * LINE) {
            VEC pair[ROW_PAIRS];
            __builtin_prefetch(ahead, 0, 2);
            __builtin_prefetch(ahead + LINE, 0, 2);
            UNROLL for (int i = 0; i < row_pairs; i++) pair[i] =
                2 * i + 1 < rows ? V_LOAD_ROWS(a[2 * i] + p, a[2 * i + 1] + p) : V_LOAD_ROW(a[2 * i] + p);
            UNROLL for (int j = 0; j < 2 * vectors; j++) {
                VEC column = V_LOAD(b + j * LANES);
                UNROLL for (int i = 0; i < row_pairs; i++) blocks[i][j] =
                    V_FMA_BLOCK(pair[i], column, blocks[i][j]);
            }
        }
    }
    start(t, rows, vectors, sums);
    add_blocks(rows, vectors, blocks, sums);
    finish(t, rows, vectors, sums);
}

#endif
