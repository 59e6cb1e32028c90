/* Dense linear algebra over four fields: float32, float64 and the complex numbers of each.
 *
 * Each algorithm is one text, <name>.inc, that fields.c instantiates per field. Matrices are row-major.
 * Inside, a matrix whose columns are worked on lies transposed, so that they are contiguous. What costs n^3
 * goes through `product`, which packs operands for the tiles of kernels/dense.inc.
 *
 * Accuracy: every algorithm is backward stable, so results are exact for inputs changed by a small multiple
 * of n eps in norm. Source for all: Golub, Van Loan, Matrix Computations, 4th ed.; LAPACK's working notes
 * where named. */
#ifndef WE_ARRAY_LINALG_LINALG_H
#define WE_ARRAY_LINALG_LINALG_H

#include <walle/numeric.h>

#include "base/threads.h"
#include "kernels/kernels.h"

/* One call: `batch` items, each a matrix m x n (and a right side n x k). */
typedef struct we_linalg_call {
    we_linalg_op op;
    int64_t batch, m, n, k;
    bool option; /* see we_linalg_op */
    const void *in[2];
    void *out[3]; /* NULL: not wanted, where the operation allows that */
    const we_kernels *kernels;
    we_pool *pool;
} we_linalg_call;

/* Work on one item of the batch. */
typedef we_status (*we_linalg_item)(const we_linalg_call *call, int64_t item, we_error *err);

extern const we_linalg_item we_linalg_items_f32[WE_LINALG_COUNT], we_linalg_items_f64[WE_LINALG_COUNT],
    we_linalg_items_c64[WE_LINALG_COUNT], we_linalg_items_c128[WE_LINALG_COUNT];

#endif
