#include "backend/cpu/byte_gemm.h"

#include <string.h>

#include "backend/cpu/gemm.h"

enum {
    QUAD = 4,
    BLOCK_BYTES = 256 << 10, /* of B, a good part of the second-level cache */
    FEW_TILES = 8, /* of rows: then B is what passes, and smaller blocks let the next one arrive meanwhile */
    SMALL_BLOCK = 64 << 10,
    UNIT_STEPS = 400000,  /* products worth handing to a thread */
    UNITS_PER_THREAD = 4, /* so that a slow core sheds load */
    LINE = 64,
};

/* ---- Packing ---- */

/* Element p of a run, of `count` columns from `first` on, into every fourth place; a run behind its end is
 * zeros. */
static void pack_row(const we_byte_right *r, int64_t run, int64_t p, int64_t first, int64_t count, int8_t *to,
                     int32_t *sums) {
    const int64_t width = r->depth / r->pieces, within = p % width;
    const uint8_t *from = r->b + run * r->run + p / width * r->piece + within * r->row + first * r->column;
    const int32_t *zero = r->zero ? r->zero + first : NULL;
    for (int64_t j = 0; j < count && within < r->given; j++) {
        to[j * QUAD] = (int8_t)((int8_t)(from[j * r->column] ^ r->flip) - (zero ? zero[j] : 0));
        sums[j] += to[j * QUAD];
    }
}

void we_byte_pack(const we_byte_matmul *kernel, const we_byte_right *r, int8_t *to) {
    int64_t columns = we_byte_columns(kernel, r->n), panels = we_byte_panels(kernel, r);
    int32_t *sums = (int32_t *)(to + panels);
    memset(to, 0, (size_t)panels);
    memset(sums, 0, (size_t)columns * sizeof *sums);
    for (int64_t first = 0; first < columns; first += kernel->columns) {
        int64_t count = we_least(kernel->columns, r->n - first);
        for (int64_t run = 0; run < r->runs; run++) {
            for (int64_t p = 0; p < r->depth; p += QUAD, to += kernel->columns * QUAD) {
                for (int64_t q = 0; q < QUAD; q++)
                    pack_row(r, run, p + q, first, count, to + q, sums + first);
            }
        }
    }
}

/* ---- Cutting ---- */

/* Units of whole panels and tiles, as equal as these allow. */
typedef struct cut {
    int64_t panels, tiles, across, down;
} cut;

static int64_t at_least_one(int64_t value) {
    return value < 1 ? 1 : value;
}

static cut cut_of(const we_byte_gemm *g, int32_t threads) {
    int64_t each = g->runs * g->depth * g->kernel->columns;
    cut c = {.panels = we_panels(g->n, g->kernel->columns), .tiles = we_panels(g->m, g->kernel->rows)};
    c.across = we_panels(c.panels, at_least_one((c.tiles <= FEW_TILES ? SMALL_BLOCK : BLOCK_BYTES) / each));
    c.down = 1;
    int64_t wanted = threads > 1 ? threads * UNITS_PER_THREAD : 1;
    if (c.tiles >= c.panels)
        c.down = at_least_one(we_least(c.tiles, we_panels(wanted, c.across)));
    else
        c.across = at_least_one(we_least(c.panels, c.across > wanted ? c.across : wanted));
    return c;
}

/* Of one thread: where the rows of a tile start, and the rows themselves where their bytes are changed. */
static int64_t pointer_bytes(const we_byte_gemm *g) {
    return we_panels(g->kernel->rows * g->runs * (int64_t)sizeof(uint8_t *), LINE) * LINE;
}

static int64_t thread_bytes(const we_byte_gemm *g) {
    int64_t changed = g->flip ? we_panels(g->kernel->rows * g->runs * g->depth, LINE) * LINE : 0;
    return pointer_bytes(g) + changed;
}

size_t we_byte_gemm_scratch(const we_byte_gemm *g, int32_t threads) {
    return (size_t)(thread_bytes(g) * threads);
}

/* ---- Running ---- */

typedef struct job {
    const we_pool *pool;
    const we_byte_gemm *gemm;
    cut cut;
    uint8_t *scratch;
} job;

static void fill_rows(const we_byte_gemm *g, int64_t row, int32_t count, int64_t run, int64_t runs,
                      const uint8_t **to) {
    if (g->rows) {
        g->rows(g->source, row, count, run, runs, to);
        return;
    }
    for (int32_t i = 0; i < count; i++)
        to[i] = g->a + (row + i) * g->a_row;
}

/* The runs copied with their bytes changed. */
static void flip_rows(const we_byte_gemm *g, int64_t count, const uint8_t **rows, uint8_t *to) {
    for (int64_t i = 0; i < count; i++, to += g->depth) {
        const uint8_t *from = rows[i];
        for (int64_t p = 0; p < g->depth; p++)
            to[p] = from[p] ^ g->flip;
        rows[i] = to;
    }
}

/* A tile brings a cache line near for every quad, so the first tiles of a block of B share what is next among
 * them. */
static const int8_t *ahead_of(const we_byte_gemm *g, const we_byte_tile *t, int64_t next, int64_t tile) {
    const int64_t part = tile * LINE * t->runs * t->quads;
    return next && part < g->kernel->columns * QUAD * t->runs * t->quads ? t->b + next + part : t->b;
}

/* Tiles of rows [row, end) over panels [panel, panel_end). */
static void multiply(const we_byte_gemm *g, int64_t row, int64_t end, int64_t panel, int64_t panel_end,
                     const uint8_t **rows, uint8_t *scratch) {
    const int64_t columns = g->kernel->columns, each = g->runs * g->depth * columns;
    we_byte_tile t = {
        .runs = g->runs, .quads = g->depth / QUAD, .rows = rows, .ldc = g->ldc, .then = g->then};
    const int64_t next =
        row == 0 && end == g->m && panel_end < we_panels(g->n, columns) ? (panel_end - panel) * each : 0;
    int64_t rows_each = we_panels(end - row, we_panels(end - row, g->kernel->rows));
    for (int64_t tile = 0; row < end; row += t.m, tile++) {
        t.m = (int32_t)we_least(rows_each, end - row);
        fill_rows(g, row, t.m, 0, g->runs, rows);
        if (g->flip)
            flip_rows(g, g->runs * t.m, rows, scratch);
        for (int64_t at = panel; at < panel_end; at++) {
            int64_t j = at * columns, out = row * g->ldc + j;
            we_requantise how = {g->how.factor ? g->how.factor + j : NULL,
                                 g->how.shift ? g->how.shift + j : NULL, g->how.range};
            t.n = (int32_t)we_least(columns, g->n - j);
            t.b = g->packed + at * each;
            t.ahead = ahead_of(g, &t, at + panel_end - panel < we_panels(g->n, columns) ? next : 0, tile);
            t.start = g->start + j;
            t.how = &how;
            t.sums = g->sums ? g->sums + out : NULL;
            t.c = g->c ? g->c + out : NULL;
            t.added = g->added ? g->added + out : NULL;
            g->kernel->kernel(&t);
        }
    }
}

static void run_units(void *context, int64_t begin, int64_t end) {
    const job *j = context;
    const we_byte_gemm *g = j->gemm;
    const cut *cut = &j->cut;
    uint8_t *own = j->scratch + (j->pool ? we_pool_worker() : 0) * thread_bytes(g);
    for (int64_t unit = begin; unit < end; unit++) {
        int64_t across = unit / cut->down, down = unit % cut->down;
        int64_t first = cut->tiles * down / cut->down * g->kernel->rows;
        int64_t last = cut->tiles * (down + 1) / cut->down * g->kernel->rows;
        multiply(g, first, we_least(g->m, last), cut->panels * across / cut->across,
                 cut->panels * (across + 1) / cut->across, (const uint8_t **)own, own + pointer_bytes(g));
    }
}

void we_byte_gemm_run(we_pool *pool, const we_byte_gemm *g, void *scratch) {
    if (g->m == 0 || g->n == 0)
        return;
    job j = {pool, g, cut_of(g, we_pool_threads(pool)), scratch};
    int64_t units = j.cut.across * j.cut.down, steps = g->m * g->n * g->runs * g->depth / units;
    we_parallel_for(pool, units, 1 + UNIT_STEPS / (steps + 1), run_units, &j);
}
