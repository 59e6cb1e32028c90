#include "backend/cpu/gemm.h"

#include "kernels/pack/pack.h"

enum {
    BLOCK_DEPTH = 1024,      /* of k; measured from 512 to 1024 on Zen 5, the deeper the better */
    BLOCK_FLOATS = 64 << 10, /* of B: 256 KiB, a good part of the second-level cache */
    UNIT_FLOATS = 64 << 10,  /* of C, which every block of k passes over */
    UNIT_STEPS = 100000,     /* products worth handing to a thread: 1 to 3 us */
    LINE_FLOATS = 16,
    UNITS_PER_THREAD = 4, /* so that a slow core sheds load */
};

/* How a product is cut. */
typedef struct cut {
    int64_t runs, depth;  /* of a block of k: whole runs, or a piece of one */
    int64_t panels, rows; /* of a unit */
    int64_t across, down; /* units */
} cut;

/* The least piece of `total` so that as few pieces of at most `most` are needed. */
static int64_t even(int64_t total, int64_t most) {
    return we_panels(total, we_panels(total, most));
}

static int64_t at_least_one(int64_t value) {
    return value < 1 ? 1 : value;
}

static cut cut_of(const we_gemm *g, int32_t threads) {
    int64_t columns = g->kernel->columns, rows = g->kernel->rows;
    int64_t panels = we_panels(g->n, columns), tiles = we_panels(g->m, rows);
    cut out = {.depth = even(g->depth, BLOCK_DEPTH)};
    out.runs = out.depth < g->depth
                   ? 1
                   : even(g->runs, we_least(at_least_one(BLOCK_DEPTH / g->depth), WE_TILE_RUNS));
    out.panels = we_least(at_least_one(BLOCK_FLOATS / (out.runs * out.depth * columns)), panels);
    /* C is passed over once per block; where B is not packed, every unit packs its part anew. */
    bool one_block = out.runs == g->runs && out.depth == g->depth;
    int64_t unit_tiles = tiles;
    if (g->packed && !one_block)
        unit_tiles = we_least(at_least_one(UNIT_FLOATS / (out.panels * columns * rows)), tiles);
    if (threads > 1 && tiles > panels && (g->packed || panels < threads))
        unit_tiles = we_least(unit_tiles, we_panels(tiles, threads * UNITS_PER_THREAD));
    else if (threads > 1)
        out.panels = we_least(out.panels, we_panels(panels, threads * UNITS_PER_THREAD));
    out.panels = even(panels, out.panels);
    out.rows = even(tiles, unit_tiles) * rows;
    out.across = we_panels(panels, out.panels);
    out.down = we_panels(g->m, out.rows);
    return out;
}

static int64_t block_floats(const we_gemm *g, const cut *cut) {
    return cut->panels * g->kernel->columns * cut->runs * cut->depth;
}

size_t we_gemm_scratch(const we_gemm *g, int32_t threads) {
    cut cut = cut_of(g, threads);
    return g->packed ? 0 : (size_t)(block_floats(g, &cut) * threads) * sizeof(float);
}

int64_t we_gemm_packed(const we_matmul_row *kernel, int64_t n, int64_t k) {
    return we_panels(n, kernel->columns) * kernel->columns * k;
}

/* ---- Packing ---- */

typedef struct pack_job {
    const we_gemm_right *right;
    int64_t columns;
    float *to;
} pack_job;

static void pack_panels(void *context, int64_t begin, int64_t end) {
    const pack_job *j = context;
    const we_gemm_right *b = j->right;
    float *to = j->to + begin * j->columns * b->runs * b->depth;
    for (int64_t panel = begin; panel < end; panel++) {
        int64_t column = panel * j->columns, count = we_least(j->columns, b->n - column);
        for (int64_t r = 0; r < b->runs; r++, to += j->columns * b->depth)
            we_pack_panel(b->b + r * b->run + column * b->column, b->column, b->row, count, j->columns,
                          b->depth, to);
    }
}

void we_gemm_pack(we_pool *pool, const we_matmul_row *kernel, const we_gemm_right *right, float *to) {
    pack_job j = {right, kernel->columns, to};
    int64_t steps = kernel->columns * right->runs * right->depth;
    we_parallel_for(pool, we_panels(right->n, kernel->columns), 1 + 65536 / (steps + 1), pack_panels, &j);
}

typedef struct constants {
    const we_matmul_row *kernel;
    we_gemm_right right;
    int64_t count, step;
} constants;

static void pack_constants(we_pool *pool, const void *context, void *to) {
    const constants *c = context;
    we_gemm_right right = c->right;
    float *at = to;
    for (int64_t i = 0; i < c->count; i++, right.b += c->step) {
        we_gemm_pack(pool, c->kernel, &right, at);
        at += we_gemm_packed(c->kernel, right.n, right.runs * right.depth);
    }
}

we_status we_gemm_pack_constants(we_program *program, const we_matmul_row *kernel, const we_gemm_right *right,
                                 int64_t count, int64_t step, const float **out, we_error *err) {
    const constants c = {kernel, *right, count, step};
    const void *packed = NULL;
    int64_t each = right->n * right->runs * right->depth;
    size_t bytes =
        (size_t)(count * we_gemm_packed(kernel, right->n, right->runs * right->depth)) * sizeof(float);
    we_pack_key key = {.source = right->b,
                       .source_bytes = (size_t)(each + (count - 1) * step) * sizeof(float),
                       .form = kernel,
                       .parameters = {right->run, right->row, right->column, right->n, right->runs,
                                      right->depth, count, step}};
    WE_TRY(we_program_pack(program, &key, bytes, pack_constants, &c, &packed, err));
    *out = packed;
    return WE_OK;
}

/* ---- Units ---- */

typedef struct job {
    const we_pool *pool;
    const we_gemm *gemm;
    cut cut;
    float *scratch;
} job;

/* A block of k: runs [run, run + runs), elements [at, at + depth) of each. */
typedef struct block {
    int64_t run, runs, at, depth;
    const float *b; /* its first panel of the unit */
    int64_t panel;  /* floats from one panel to the next */
    int64_t next; /* floats from a panel's block to the one that is multiplied next; 0: it is near already */
    bool first, last;
} block;

static void fill_rows(const we_gemm *g, const block *b, int64_t row, int32_t count, const float **to) {
    if (!g->rows) {
        for (int32_t i = 0; i < count; i++)
            to[i] = g->a + (row + i) * g->a_row + b->at;
        return;
    }
    g->rows(g->source, row, count, b->run, b->runs, to);
    for (int64_t i = 0; b->at && i < b->runs * count; i++)
        to[i] += b->at;
}

/* A tile brings as many cache lines near as it takes steps of k, so the first tiles of a block share the one
 * that is next among them: weights then arrive from memory while others are multiplied (7 x 7 images
 * of 512 channels: 1.27 to 1.03 ms, Zen 5). */
static const float *ahead_of(const we_gemm *g, const block *b, const float *panel, int64_t tile) {
    int64_t part = tile * LINE_FLOATS;
    return b->next && part < g->kernel->columns ? panel + b->next + part * b->runs * b->depth : panel;
}

/* All tiles of a unit over one block: the rows of a tile serve all panels while they are in cache. */
static void multiply_block(const we_gemm *g, const block *b, int64_t row, int64_t row_end, int64_t column,
                           int64_t column_end) {
    const float *rows[WE_TILE_RUNS * WE_TILE_ROWS];
    we_tile t = {.runs = b->runs, .depth = b->depth, .rows = rows, .ldc = g->ldc, .accumulate = !b->first};
    t.low = b->last ? g->low : -__builtin_inff();
    t.high = b->last ? g->high : __builtin_inff();
    int64_t rows_each = even(row_end - row, g->kernel->rows); /* no tile of few rows at the end */
    for (int64_t tile = 0; row < row_end; row += t.m, tile++) {
        t.m = (int32_t)we_least(rows_each, row_end - row);
        fill_rows(g, b, row, t.m, rows);
        t.row_bias = g->row_bias ? g->row_bias + row : NULL;
        t.b = b->b;
        for (int64_t j = column; j < column_end; j += t.n, t.b += b->panel) {
            t.n = (int32_t)we_least(g->kernel->columns, column_end - j);
            t.c = g->c + row * g->ldc + j;
            t.column_bias = g->column_bias ? g->column_bias + j : NULL;
            t.residual = b->last && g->residual ? g->residual + row * g->ldc + j : NULL;
            t.ahead = ahead_of(g, b, t.b, tile);
            g->kernel->kernel(&t);
        }
    }
}

/* The block of B that a unit multiplies with, packed now if it is not yet. */
static void find_columns(const job *j, block *b, int64_t first_panel, int64_t last_panel) {
    const we_gemm *g = j->gemm;
    int64_t k = g->runs * g->depth, at = b->run * g->depth + b->at, count = b->runs * b->depth;
    if (g->packed) {
        b->panel = k * g->kernel->columns;
        b->b = g->packed + first_panel * b->panel + at * g->kernel->columns;
        b->next = count * g->kernel->columns;
        if (b->last) /* the next unit's first block; behind the last unit another product's weights may lie */
            b->next = j->cut.down == 1 ? (last_panel - first_panel) * b->panel - at * g->kernel->columns : 0;
        return;
    }
    float *own = j->scratch + (j->pool ? we_pool_worker() : 0) * block_floats(g, &j->cut);
    int64_t column = first_panel * g->kernel->columns;
    we_gemm_right right = {.b = g->b + at * g->b_row + column * g->b_column,
                           .row = g->b_row,
                           .column = g->b_column,
                           .n = g->n - column,
                           .runs = 1,
                           .depth = count};
    pack_panels(&(pack_job){&right, g->kernel->columns, own}, 0, last_panel - first_panel);
    b->b = own;
    b->panel = count * g->kernel->columns;
    b->next = 0;
}

static void run_units(void *context, int64_t begin, int64_t end) {
    const job *j = context;
    const we_gemm *g = j->gemm;
    const cut *cut = &j->cut;
    int64_t columns = g->kernel->columns, panels = we_panels(g->n, columns);
    for (int64_t unit = begin; unit < end; unit++) {
        int64_t panel = unit / cut->down * cut->panels, row = unit % cut->down * cut->rows;
        int64_t panel_end = we_least(panels, panel + cut->panels);
        block b = {.first = true};
        while (b.run < g->runs) {
            b.runs = we_least(cut->runs, g->runs - b.run);
            b.depth = we_least(cut->depth, g->depth - b.at);
            b.last = b.run + b.runs == g->runs && b.at + b.depth == g->depth;
            find_columns(j, &b, panel, panel_end);
            multiply_block(g, &b, row, we_least(g->m, row + cut->rows), panel * columns,
                           we_least(g->n, panel_end * columns));
            b.first = false;
            b.at += b.depth;
            if (b.at == g->depth) {
                b.at = 0;
                b.run += b.runs;
            }
        }
    }
}

void we_gemm_run(we_pool *pool, const we_gemm *g, float *scratch) {
    job j = {pool, g, cut_of(g, we_pool_threads(pool)), scratch};
    int64_t units = j.cut.across * j.cut.down, steps = g->m * g->n * g->runs * g->depth / units;
    we_parallel_for(pool, units, 1 + UNIT_STEPS / (steps + 1), run_units, &j);
}
