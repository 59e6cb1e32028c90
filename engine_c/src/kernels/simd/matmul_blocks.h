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

/* Add what a pair of words of each row makes with the columns at b. */
INLINE void add_couple(const VEC *pair, const float *b, const int row_pairs, const int vectors,
                       VEC blocks[ROW_PAIRS][BLOCKS]) {
    UNROLL for (int j = 0; j < 2 * vectors; j++) {
        VEC column = V_LOAD(b + j * LANES);
        UNROLL for (int i = 0; i < row_pairs; i++) blocks[i][j] = V_FMA_BLOCK(pair[i], column, blocks[i][j]);
    }
}

/* Rows are read a whole vector at a time, two pairs of words, whose halves then meet those of the row beside
 * it; a last row without one meets itself. */
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
        const float *a[2 * ROW_PAIRS];
        UNROLL for (int i = 0; i < 2 * row_pairs; i++) a[i] = starts[i < rows ? i : i - 1] + t->depth;
        int64_t p = -t->depth;
        for (; p + LANES <= 0; p += LANES, b += 2 * BLOCKS * LANES) {
            VEC pair[ROW_PAIRS];
            UNROLL for (int i = 0; i < LANES; i++, ahead += LINE) __builtin_prefetch(ahead, 0, 2);
            UNROLL for (int i = 0; i < row_pairs; i++) pair[i] =
                V_LOW_HALVES(V_LOAD(a[2 * i] + p), V_LOAD(a[2 * i + 1] + p));
            add_couple(pair, b, row_pairs, vectors, blocks);
            int64_t again = p; /* loads are to spare, registers are not */
            __asm__("" : "+r"(again));
            UNROLL for (int i = 0; i < row_pairs; i++) pair[i] =
                V_HIGH_HALVES(V_LOAD(a[2 * i] + again), V_LOAD(a[2 * i + 1] + again));
            add_couple(pair, b + BLOCKS * LANES, row_pairs, vectors, blocks);
        }
        if (p < 0) {
            VEC pair[ROW_PAIRS];
            UNROLL for (int i = 0; i < row_pairs; i++) pair[i] =
                V_LOAD_HALVES(a[2 * i] + p, a[2 * i + 1] + p);
            add_couple(pair, b, row_pairs, vectors, blocks);
            b += BLOCKS * LANES;
            ahead += WE_COUPLE * LINE;
        }
    }
    start(t, rows, vectors, sums);
    add_blocks(rows, vectors, blocks, sums);
    finish(t, rows, vectors, sums);
}

#endif
