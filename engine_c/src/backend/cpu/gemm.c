#include "backend/cpu/gemm.h"

#include <string.h>

#include "kernels/pack/pack.h"

enum {
    UNIT_FLOATS = 64 << 10,  /* of packed B: 256 KiB, a part of the second-level cache */
    UNIT_STEPS = 200000,     /* products worth a thread: some 4 us */
    LARGEST_TILE = 14 * 128, /* floats */
};

#define WE_MATMUL_KERNEL_ROW(ISA, isa, DT, dt, rows, columns)                                                \
    _Static_assert((rows) * (columns) <= LARGEST_TILE, "a tile fits the buffers of tails");
#include "kernels/matmul.inc"
#undef WE_MATMUL_KERNEL_ROW

/* How C is cut: units of `width` column panels by `height` row panels. */
typedef struct grid {
    int64_t width, height, across, down;
} grid;

static int64_t unit_width(const we_matmul_row *kernel, int64_t n, int64_t k, int32_t threads) {
    int64_t most = UNIT_FLOATS / (we_least(k, WE_GEMM_DEPTH) * kernel->columns + 1);
    int64_t fair = we_panels(we_panels(n, kernel->columns), threads);
    int64_t width = we_least(most, fair);
    return width < 1 ? 1 : width;
}

static grid cut(const we_gemm *g, int32_t threads) {
    int64_t rows = we_panels(g->m, g->kernel->rows), columns = we_panels(g->n, g->kernel->columns);
    grid out = {.width = unit_width(g->kernel, g->n, g->k, threads), .height = rows};
    out.across = we_panels(columns, out.width);
    if (threads > 1 && out.across < 2 * threads && out.across % threads != 0)
        out.height = we_panels(rows, we_least(rows, we_panels(2 * threads, out.across)));
    out.down = we_panels(rows, out.height);
    return out;
}

static size_t unit_floats(const we_matmul_row *kernel, int64_t n, int64_t k, int32_t threads) {
    return (size_t)(unit_width(kernel, n, k, threads) * kernel->columns * we_least(k, WE_GEMM_DEPTH) +
                    WE_GEMM_SLACK);
}

size_t we_gemm_scratch(const we_matmul_row *kernel, int64_t n, int64_t k, int32_t threads) {
    return unit_floats(kernel, n, k, threads) * (size_t)threads * sizeof(float);
}

int64_t we_gemm_packed(int64_t lines, int64_t width, int64_t k) {
    return we_panels(lines, width) * width * k;
}

/* ---- Packing a whole operand ---- */

typedef struct pack_job {
    const float *from;
    int64_t line_step, step, lines, width, k;
    float *to;
} pack_job;

static void pack_panels(void *context, int64_t begin, int64_t end) {
    const pack_job *j = context;
    int64_t count = we_panels(j->lines, j->width);
    for (int64_t panel = begin; panel < end; panel++) {
        int64_t line = panel * j->width;
        for (int64_t at = 0; at < j->k; at += WE_GEMM_DEPTH) {
            int64_t depth = we_least(WE_GEMM_DEPTH, j->k - at);
            we_pack_panel(j->from + line * j->line_step + at * j->step, j->line_step, j->step,
                          we_least(j->width, j->lines - line), j->width, depth,
                          j->to + count * j->width * at + line * depth);
        }
    }
}

void we_gemm_pack(we_pool *pool, const float *from, int64_t line_step, int64_t step, int64_t lines,
                  int64_t width, int64_t k, float *to) {
    pack_job j = {from, line_step, step, lines, width, k, to};
    we_parallel_for(pool, we_panels(lines, width), 1 + 65536 / (width * (k + 1)), pack_panels, &j);
}

/* ---- One tile ---- */

typedef struct tile {
    const float *a, *b;
    int64_t row, column, depth;
    int32_t m, n;
    bool accumulate;
    const we_epilogue *epilogue; /* at the tile's row and column; NULL before the last block of depth */
} tile;

/* Copy a tile between C's layout and a dense [rows][width]. */
static void move_tile(const we_gemm *g, const tile *t, float *layout, float *dense, bool out) {
    for (int32_t j = 0; j < t->n;) {
        int64_t column = t->column + j, at = column % g->item;
        int32_t run = (int32_t)we_least(t->n - j, g->item - at);
        for (int32_t i = 0; i < t->m; i++) {
            float *far = layout + column / g->item * g->item_step + at + (t->row + i) * g->ldc;
            float *near = dense + i * g->kernel->columns + j;
            memcpy(out ? far : near, out ? near : far, (size_t)run * sizeof(float));
        }
        j += run;
    }
}

/* A tile whose columns belong to several items goes through a buffer. */
static void multiply_scattered(const we_gemm *g, const tile *t) {
    float sums[LARGEST_TILE], residual[LARGEST_TILE];
    we_epilogue epilogue;
    if (t->accumulate)
        move_tile(g, t, g->c, sums, false);
    if (t->epilogue) {
        epilogue = *t->epilogue;
        if (epilogue.residual) {
            move_tile(g, t, (float *)g->epilogue.residual, residual, false); /* only read */
            epilogue.residual = residual;
        }
    }
    g->kernel->kernel(t->depth, t->a, t->b, sums, g->kernel->columns, t->m, t->n, t->accumulate,
                      t->epilogue ? &epilogue : NULL);
    move_tile(g, t, g->c, sums, true);
}

static void multiply(const we_gemm *g, tile *t, bool last) {
    const we_epilogue *whole = &g->epilogue;
    we_epilogue epilogue = *whole;
    int64_t inside = t->column % g->item;
    int64_t offset = t->column / g->item * g->item_step + inside + t->row * g->ldc;
    if (last && (whole->row_bias || whole->column_bias || whole->residual || whole->relu)) {
        epilogue.row_bias += whole->row_bias ? t->row : 0;
        epilogue.column_bias += whole->column_bias ? t->column : 0;
        epilogue.residual += whole->residual ? offset : 0;
        t->epilogue = &epilogue;
    }
    if (inside + t->n > g->item)
        multiply_scattered(g, t);
    else
        g->kernel->kernel(t->depth, t->a, t->b, g->c + offset, g->ldc, t->m, t->n, t->accumulate,
                          t->epilogue);
}

/* ---- Units ---- */

typedef struct job {
    const we_pool *pool;
    const we_gemm *gemm;
    grid grid;
    size_t floats; /* of scratch per thread */
} job;

/* All products of one block of depth: a panel of A serves all columns of the unit while it is in cache. */
static void multiply_block(const we_gemm *g, const float *b, int64_t at, int64_t depth, int64_t row_begin,
                           int64_t row_end, int64_t column_begin, int64_t column_end) {
    int64_t rows = g->kernel->rows, columns = g->kernel->columns;
    const float *a = g->a + we_panels(g->m, rows) * rows * at;
    for (int64_t i = row_begin; i < row_end; i++) {
        for (int64_t j = column_begin; j < column_end; j++) {
            tile t = {.a = a + i * rows * depth,
                      .b = b + (j - column_begin) * columns * depth,
                      .row = i * rows,
                      .column = j * columns,
                      .depth = depth,
                      .accumulate = at > 0};
            t.m = (int32_t)we_least(rows, g->m - t.row);
            t.n = (int32_t)we_least(columns, g->n - t.column);
            multiply(g, &t, at + depth == g->k);
        }
    }
}

static void pack_unit(const we_gemm *g, int64_t begin, int64_t end, int64_t at, int64_t depth, float *to) {
    int64_t columns = g->kernel->columns;
    for (int64_t j = begin; j < end; j++, to += columns * depth)
        g->pack(g->source, j * columns, we_least(columns, g->n - j * columns), at, depth, to);
}

static void run_units(void *context, int64_t begin, int64_t end) {
    const job *j = context;
    const we_gemm *g = j->gemm;
    int64_t rows = we_panels(g->m, g->kernel->rows), columns = we_panels(g->n, g->kernel->columns);
    float *scratch = g->b ? NULL : g->scratch + (size_t)(j->pool ? we_pool_worker() : 0) * j->floats;
    for (int64_t unit = begin; unit < end; unit++) {
        int64_t column = unit / j->grid.down * j->grid.width, row = unit % j->grid.down * j->grid.height;
        int64_t column_end = we_least(columns, column + j->grid.width);
        for (int64_t at = 0; at < g->k || at == 0; at += WE_GEMM_DEPTH) {
            int64_t depth = we_least(WE_GEMM_DEPTH, g->k - at);
            const float *b = scratch;
            if (g->b)
                b = g->b + columns * g->kernel->columns * at + column * g->kernel->columns * depth;
            else
                pack_unit(g, column, column_end, at, depth, scratch);
            multiply_block(g, b, at, depth, row, we_least(rows, row + j->grid.height), column, column_end);
        }
    }
}

void we_gemm_run(we_pool *pool, const we_gemm *g) {
    int32_t threads = we_pool_threads(pool);
    job j = {pool, g, cut(g, threads), unit_floats(g->kernel, g->n, g->k, threads)};
    int64_t steps = g->m * g->n * (g->k + 1) / (j.grid.across * j.grid.down);
    we_parallel_for(pool, j.grid.across * j.grid.down, 1 + UNIT_STEPS / (steps + 1), run_units, &j);
}
