/* Products of matrices. float32 goes the way of the engine's matrix products, float64 has a blocked loop of
 * its own round the tile of dense linear algebra, everything else and all vectors go row by row. */
#include <math.h>
#include <string.h>

#include "array/loops.h"
#include "backend/cpu/gemm.h"
#include "base/error.h"
#include "base/memory.h"
#include "base/threads.h"

enum {
    BLOCK_DEPTH = 512,    /* of k, so that a tile of the result is seldom read and written again */
    BLOCK_ROWS = 96,      /* of A, packed: in the second-level cache beside the panels that pass by */
    BLOCK_COLUMNS = 1024, /* of B, packed and shared by all threads */
    ROW_WORK = 1 << 15,   /* products worth a thread's while */
    FEW = 4,              /* rows or columns: too thin for tiles */
};

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static bool rows_lie_together(const we_array *x) {
    return x->dims[1] < 2 || x->strides[1] == we_array_dtype_size(x->dtype);
}

/* x with rows that lie together; a copy is the caller's to free. */
static we_status with_rows_together(const we_array *x, we_array *rows, void **memory, we_error *err) {
    int64_t size = we_array_dtype_size(x->dtype);
    *rows = *x;
    if (rows_lie_together(x))
        return WE_OK;
    rows->strides[1] = size;
    rows->strides[0] = size * x->dims[1];
    rows->data = *memory = we_memory_new_dirty((size_t)(size * x->dims[0] * x->dims[1]));
    if (!*memory)
        return we_error_no_memory(err);
    return we_array_copy(x, rows, err);
}

/* ---- Row by row ---- */

typedef struct by_rows {
    const we_array_kernels *kernels;
    we_array x, y, out;
} by_rows;

/* A row of the result is the sum of rows of y, each times an element of x. */
static void rows_of_sums(void *context, int64_t begin, int64_t end) {
    const by_rows *w = context;
    int64_t size = we_array_dtype_size(w->out.dtype), k = w->y.dims[0], n = w->y.dims[1];
    we_array_axpy_kernel axpy = w->kernels->axpy[w->out.dtype];
    for (int64_t i = begin; i < end; i++) {
        char *to = w->out.data + i * w->out.strides[0];
        memset(to, 0, (size_t)(n * size));
        for (int64_t p = 0; p < k; p++)
            axpy(n, w->x.data + i * w->x.strides[0] + p * w->x.strides[1], w->y.data + p * w->y.strides[0],
                 to);
    }
}

/* Columns of a single row, so that threads can share it. */
static void columns_of_sums(void *context, int64_t begin, int64_t end) {
    const by_rows *w = context;
    int64_t size = we_array_dtype_size(w->out.dtype);
    we_array_axpy_kernel axpy = w->kernels->axpy[w->out.dtype];
    for (int64_t i = 0; i < w->x.dims[0]; i++) {
        char *to = w->out.data + i * w->out.strides[0] + begin * size;
        memset(to, 0, (size_t)((end - begin) * size));
        for (int64_t p = 0; p < w->y.dims[0]; p++)
            axpy(end - begin, w->x.data + i * w->x.strides[0] + p * w->x.strides[1],
                 w->y.data + p * w->y.strides[0] + begin * size, to);
    }
}

/* An element of the result is the sum of products along a row of x and a row of y transposed. */
static void rows_of_dots(void *context, int64_t begin, int64_t end) {
    const by_rows *w = context;
    we_array_dot_kernel dot = w->kernels->dot[w->out.dtype];
    for (int64_t i = begin; i < end; i++) {
        for (int64_t j = 0; j < w->y.dims[0]; j++)
            dot(w->x.dims[1], w->x.data + i * w->x.strides[0], w->y.data + j * w->y.strides[0],
                w->out.data + i * w->out.strides[0] + j * w->out.strides[1]);
    }
}

static we_array transposed(const we_array *x) {
    we_array t = *x;
    t.dims[0] = x->dims[1];
    t.dims[1] = x->dims[0];
    t.strides[0] = x->strides[1];
    t.strides[1] = x->strides[0];
    return t;
}

static we_status product_by_rows(by_rows *w, we_error *err) {
    void *copies[2] = {NULL, NULL};
    int64_t m = w->x.dims[0], k = w->x.dims[1], n = w->y.dims[1];
    we_array t = transposed(&w->y), x, y;
    bool dots = (n < FEW || (rows_lie_together(&t) && !rows_lie_together(&w->y))) && k > 0;
    we_status status = with_rows_together(dots ? &t : &w->y, &y, &copies[0], err);
    x = w->x;
    if (status == WE_OK && dots)
        status = with_rows_together(&w->x, &x, &copies[1], err);
    if (status == WE_OK) {
        int64_t work = k * n + 1;
        w->x = x;
        w->y = y;
        if (dots)
            we_array_share(true, m, ROW_WORK / work + 1, rows_of_dots, w);
        else if (m < FEW)
            we_array_share(true, n, ROW_WORK / (k * m + 1) + 64, columns_of_sums, w);
        else
            we_array_share(true, m, ROW_WORK / work + 1, rows_of_sums, w);
    }
    we_memory_free(copies[0]);
    we_memory_free(copies[1]);
    return status;
}

/* ---- float32 ---- */

static const we_matmul_row *float32_kernel(int64_t n, we_error *err) {
    const we_matmul_row *rows, *best = NULL;
    uint32_t isas;
    if (we_cpu_isas(&isas, err) != WE_OK)
        return NULL;
    for (size_t i = 0, count = we_matmul_rows(&rows); i < count; i++) {
        const we_matmul_row *row = &rows[i];
        if (row->parts || !(isas >> row->isa & 1))
            continue;
        int64_t padded = we_panels(n, row->columns) * row->columns;
        int64_t best_padded = best ? we_panels(n, best->columns) * best->columns : 0;
        if (!best || row->isa > best->isa || (row->isa == best->isa && padded < best_padded))
            best = row;
    }
    return best;
}

static we_status product_f32(const we_array *x, const we_array *y, const we_array *out, we_error *err) {
    void *copy = NULL;
    we_array rows;
    const we_matmul_row *kernel = float32_kernel(y->dims[1], err);
    if (!kernel)
        return WE_CONFIG;
    WE_TRY(with_rows_together(x, &rows, &copy, err));
    we_gemm g = {.kernel = kernel,
                 .m = x->dims[0],
                 .n = y->dims[1],
                 .runs = 1,
                 .depth = x->dims[1],
                 .a = (const float *)rows.data,
                 .a_row = rows.strides[0] / 4,
                 .b = (const float *)y->data,
                 .b_row = y->strides[0] / 4,
                 .b_column = y->strides[1] / 4,
                 .c = (float *)out->data,
                 .ldc = out->strides[0] / 4,
                 .low = -INFINITY,
                 .high = INFINITY};
    we_pool *pool = g.m * g.n * g.depth < ROW_WORK ? NULL : we_array_pool();
    size_t size = we_gemm_scratch(&g, we_pool_threads(pool));
    void *scratch = size ? we_memory_new_dirty(size) : NULL;
    we_status status = size && !scratch ? we_error_no_memory(err) : WE_OK;
    if (status == WE_OK) {
        we_pool_run_begins();
        we_gemm_run(pool, &g, scratch);
        we_pool_run_ends();
    }
    we_memory_free(scratch);
    we_memory_free(copy);
    return status;
}

/* ---- float64 ---- */

typedef struct tiles {
    const we_f64_dense *kernels;
    const we_array *x, *y, *out;
    int64_t column, columns, depth, from; /* the block of y: columns, and rows `from` to `from + depth` */
    double *b;                            /* the block packed: [panels][depth][tile columns] */
    double *a;                            /* [threads][BLOCK_ROWS strips][depth][tile rows] */
    int64_t a_size;
} tiles;

static void pack_panels(void *context, int64_t begin, int64_t end) {
    const tiles *t = context;
    int64_t width = t->kernels->columns;
    for (int64_t panel = begin; panel < end; panel++) {
        double *to = t->b + panel * t->depth * width;
        int64_t first = t->column + panel * width, n = least(width, t->column + t->columns - first);
        const char *from = t->y->data + t->from * t->y->strides[0] + first * t->y->strides[1];
        for (int64_t p = 0; p < t->depth; p++, to += width, from += t->y->strides[0]) {
            we_array_move(n, 8, from, t->y->strides[1], (char *)to, 8);
            memset(to + n, 0, (size_t)(width - n) * 8);
        }
    }
}

static void pack_strip(const tiles *t, int64_t row, int64_t rows, double *to) {
    int64_t height = t->kernels->rows, sx = t->x->strides[1];
    for (int64_t i = 0; i < height; i++) {
        const char *from = t->x->data + (row + i) * t->x->strides[0] + t->from * sx;
        for (int64_t p = 0; p < t->depth; p++)
            to[p * height + i] = i < rows ? *(const double *)(from + p * sx) : 0;
    }
}

static void run_blocks(void *context, int64_t begin, int64_t end) {
    const tiles *t = context;
    int64_t height = t->kernels->rows, width = t->kernels->columns, m = t->x->dims[0];
    int64_t c_row = t->out->strides[0] / 8;
    double *a = t->a + we_pool_worker() * t->a_size;
    for (int64_t block = begin; block < end; block++) {
        int64_t row = block * BLOCK_ROWS, rows = least(BLOCK_ROWS, m - row);
        double *c = (double *)t->out->data + row * c_row + t->column;
        for (int64_t i = 0; i < rows; i += height)
            pack_strip(t, row + i, least(height, rows - i), a + i * t->depth);
        for (int64_t j = 0; j < t->columns; j += width) {
            for (int64_t i = 0; i < rows; i += height)
                t->kernels->tile(t->depth, a + i * t->depth, t->b + j * t->depth, 1, c + i * c_row + j, c_row,
                                 (int32_t)least(height, rows - i), (int32_t)least(width, t->columns - j));
        }
    }
}

static we_status product_f64(const we_array *x, const we_array *y, const we_array *out, we_error *err) {
    const we_kernels *kernels;
    WE_TRY(we_kernels_get(&kernels, err));
    int64_t m = x->dims[0], k = x->dims[1], n = y->dims[1], width = kernels->f64_dense.columns;
    we_pool *pool = m * n * k < 4 * ROW_WORK ? NULL : we_array_pool();
    int32_t threads = we_pool_threads(pool);
    int64_t deepest = least(k, BLOCK_DEPTH), widest = we_panels(least(n, BLOCK_COLUMNS), width) * width;
    tiles t = {.kernels = &kernels->f64_dense,
               .x = x,
               .y = y,
               .out = out,
               .a_size = (BLOCK_ROWS + kernels->f64_dense.rows) * deepest};
    double *scratch = we_memory_new_dirty((size_t)(widest * deepest + threads * t.a_size) * sizeof *scratch);
    if (!scratch)
        return we_error_no_memory(err);
    t.b = scratch;
    t.a = t.b + widest * deepest;
    memset(out->data, 0, (size_t)(m * n) * 8);
    for (t.column = 0; t.column < n; t.column += BLOCK_COLUMNS) {
        t.columns = least(BLOCK_COLUMNS, n - t.column);
        for (t.from = 0; t.from < k; t.from += BLOCK_DEPTH) {
            t.depth = least(BLOCK_DEPTH, k - t.from);
            int64_t panels = we_panels(t.columns, width);
            we_array_share(pool, panels, 4, pack_panels, &t);
            we_array_share(pool, we_panels(m, BLOCK_ROWS), 1, run_blocks, &t);
        }
    }
    we_memory_free(scratch);
    return WE_OK;
}

we_status we_array_product(const we_array *x, const we_array *y, const we_array *out, we_error *err) {
    by_rows w = {.x = *x, .y = *y, .out = *out};
    int64_t m = x->dims[0], k = x->dims[1], n = y->dims[1];
    if (m == 0 || n == 0)
        return WE_OK;
    WE_TRY(we_array_kernels_get(&w.kernels, err));
    if (!w.kernels->axpy[out->dtype])
        return we_error_set(err, WE_INVALID_ARGUMENT, "there is no product of %s",
                            we_array_dtype_name(out->dtype));
    bool tall = m >= FEW && n >= FEW && k >= FEW;
    if (tall && out->dtype == WE_ARRAY_F32)
        return product_f32(x, y, out, err);
    if (tall && out->dtype == WE_ARRAY_F64)
        return product_f64(x, y, out, err);
    return product_by_rows(&w, err);
}
