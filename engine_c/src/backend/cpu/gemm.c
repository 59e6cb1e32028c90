#include "backend/cpu/gemm.h"

#include <string.h>

#include "kernels/pack/pack.h"

enum {
    BLOCK_DEPTH = 1024,      /* of k; measured from 512 to 1024 on Zen 5, the deeper the better */
    BLOCK_BYTES = 36 << 10,  /* of the split rows of a tile, most of the first-level cache */
    BLOCK_FLOATS = 64 << 10, /* of B: 256 KiB, a good part of the second-level cache */
    UNIT_FLOATS = 64 << 10,  /* of C, which every block of k passes over */
    UNIT_STEPS = 100000,     /* products worth handing to a thread: 1 to 3 us */
    UNITS_PER_THREAD = 4,    /* so that a slow core sheds load */
    LINE_FLOATS = 16,
    CROWDED_FLOATS = 512, /* 2 KiB: 32 lines so far apart share two sets of 64 */
};

/* How a product is cut. */
typedef struct cut {
    int64_t runs, depth;  /* of a block of k: whole runs, or a piece of one */
    int64_t panels, rows; /* of a unit, at most */
    int64_t across, down; /* units */
} cut;

/* Where units begin: as equal as whole panels and tiles allow, so that shares of equal numbers of units
 * are. `across` and `down` themselves are the ends. */
static int64_t first_panel(const we_gemm *g, const cut *cut, int64_t across) {
    return we_panels(g->n, g->kernel->columns) * across / cut->across;
}

static int64_t first_row(const we_gemm *g, const cut *cut, int64_t down) {
    return we_least(g->m, we_panels(g->m, g->kernel->rows) * down / cut->down * g->kernel->rows);
}

/* The least piece of `total` so that as few pieces of at most `most` are needed. */
static int64_t even(int64_t total, int64_t most) {
    return we_panels(total, we_panels(total, most));
}

static int64_t at_least_one(int64_t value) {
    return value < 1 ? 1 : value;
}

static int64_t round_up(int64_t value, int64_t step) {
    return we_panels(value, step) * step;
}

/* ---- Words: a float32, or two neighbours along k of a part ---- */

/* Along k, of a run or a piece of one. */
static int64_t run_words(const we_matmul_row *kernel, int64_t depth) {
    return kernel->parts ? round_up(we_panels(depth, 2), kernel->granule) : depth;
}

/* Of a panel's run in all parts. */
static int64_t panel_words(const we_matmul_row *kernel, int64_t runs, int64_t depth) {
    return runs * run_words(kernel, depth) * at_least_one(kernel->parts) * kernel->columns;
}

/* A tile's split rows: words from one to the next, an odd number of cache lines so that they spread over the
 * sets of the cache. */
static int64_t row_words(const we_matmul_row *kernel, const cut *cut) {
    int64_t lines = we_panels(cut->runs * run_words(kernel, cut->depth), LINE_FLOATS);
    return (lines | 1) * LINE_FLOATS;
}

/* Does the kernel take the rows as they are? One that wants them evenly apart, or finds no whole granules,
 * gets a copy. */
static bool reads_in_place(const we_gemm *g) {
    bool whole = we_panels(g->depth, 2) % at_least_one(g->kernel->granule) == 0;
    return !g->kernel->parts || (g->narrow_rows && whole && !we_wants_even_rows(g->kernel));
}

/* A plain A of float32 that several units pass over is rounded once, for all of them: words of such a row. */
static int64_t rounded_row(const we_gemm *g, const cut *cut) {
    bool worth = g->kernel->parts == 1 && !g->narrow_rows && !g->rows && cut->across > 1;
    return worth ? round_up(run_words(g->kernel, g->depth), LINE_FLOATS) : 0;
}

static int64_t tile_words(const we_gemm *g, const cut *cut) {
    return reads_in_place(g) ? 0 : g->kernel->rows * g->kernel->parts * row_words(g->kernel, cut);
}

/* ---- Cutting ---- */

/* Of k, so that a tile's rows of A fit the first-level cache. */
static int64_t most_depth(const we_matmul_row *kernel) {
    return kernel->parts ? BLOCK_BYTES / (kernel->rows * kernel->parts * 2)
                         : we_least(BLOCK_DEPTH, BLOCK_BYTES / (kernel->rows * 4));
}

/* Pieces of a run begin at whole granules. */
static int64_t block_depth(const we_gemm *g) {
    int64_t depth = even(g->depth, most_depth(g->kernel));
    return g->kernel->parts ? we_least(g->depth, round_up(depth, 2 * g->kernel->granule)) : depth;
}

static cut cut_of(const we_gemm *g, int32_t threads) {
    int64_t columns = g->kernel->columns, rows = g->kernel->rows;
    int64_t panels = at_least_one(we_panels(g->n, columns)), tiles = at_least_one(we_panels(g->m, rows));
    cut out = {.depth = block_depth(g)};
    out.runs = out.depth < g->depth
                   ? 1
                   : even(g->runs, we_least(at_least_one(most_depth(g->kernel) / g->depth), WE_TILE_RUNS));
    out.panels = we_least(at_least_one(BLOCK_FLOATS / panel_words(g->kernel, out.runs, out.depth)), panels);
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
    out.across = we_panels(panels, out.panels);
    out.down = we_panels(tiles, unit_tiles);
    out.rows = we_panels(tiles, out.down) * rows;
    return out;
}

/* Floats of `panels` packed panels, their float32 copy and what tells which are within the limits. */
static int64_t packed_floats(const we_matmul_row *kernel, int64_t panels, int64_t runs, int64_t depth) {
    int64_t copy = kernel->exact ? runs * depth * kernel->columns + 1 : 0;
    return panels * (panel_words(kernel, runs, depth) + copy);
}

/* Sums of a unit, which later blocks add to, where the result has no room for them; their columns. */
static int64_t sums_columns(const we_gemm *g, const cut *cut) {
    bool one_block = cut->runs == g->runs && cut->depth == g->depth;
    return g->narrow && !one_block ? we_least(cut->panels * g->kernel->columns, g->n) : 0;
}

static int64_t sums_floats(const we_gemm *g, const cut *cut) {
    return sums_columns(g, cut) * we_least(cut->rows, g->m);
}

/* Of one thread: the split rows of a tile, the sums of a unit, then a block of B. */
static int64_t thread_floats(const we_gemm *g, const cut *cut) {
    int64_t own = g->packed ? 0 : packed_floats(g->kernel, cut->panels, cut->runs, cut->depth);
    return tile_words(g, cut) + sums_floats(g, cut) + own;
}

/* Results of the units before that one. */
static double results_before(const we_gemm *g, const cut *cut, int64_t unit) {
    int64_t across = unit / cut->down, from = first_panel(g, cut, across) * g->kernel->columns;
    double columns = (double)we_least(g->n, from), rows = (double)first_row(g, cut, unit % cut->down);
    if (rows == 0)
        return columns * (double)g->m;
    int64_t to = we_least(g->n, first_panel(g, cut, across + 1) * g->kernel->columns);
    return columns * (double)g->m + ((double)to - columns) * rows;
}

/* Of all results, those of the thread that has the most. */
static double busiest_share(const we_gemm *g, const cut *cut, int32_t threads) {
    int64_t units = cut->across * cut->down;
    double largest = 0;
    for (int64_t i = 0; i < threads; i++) {
        double share =
            results_before(g, cut, units * (i + 1) / threads) - results_before(g, cut, units * i / threads);
        largest = share > largest ? share : largest;
    }
    return largest / ((double)g->m * (double)g->n);
}

we_gemm_passes we_gemm_cut(const we_gemm *g, int32_t threads) {
    cut cut = cut_of(g, threads);
    return (we_gemm_passes){
        .rows = cut.rows, .a_passes = cut.across, .share = busiest_share(g, &cut, threads)};
}

size_t we_gemm_scratch(const we_gemm *g, int32_t threads) {
    cut cut = cut_of(g, threads);
    return (size_t)(g->m * rounded_row(g, &cut) + thread_floats(g, &cut) * threads) * sizeof(float);
}

int64_t we_gemm_packed_runs(const we_matmul_row *kernel, int64_t n, int64_t runs, int64_t depth) {
    return packed_floats(kernel, we_panels(n, kernel->columns), runs, depth);
}

/* ---- Packing ---- */

/* Can a product of parts be as exact as one of float32 where this is the largest magnitude, as bits? Flushed
 * parts and products then lose less than float32 rounds off. */
static bool is_within_limits(uint32_t largest) {
    const uint32_t lowest = (127 - 24) << 23, highest = (127 + 40) << 23;
    return largest == 0 || (largest >= lowest && largest <= highest);
}

static uint32_t larger(uint32_t a, uint32_t b) {
    return a > b ? a : b;
}

/* A packed B, whole or a block of it. */
typedef struct packing {
    const we_matmul_row *kernel;
    const we_gemm_right *right;
    float *words, *copy, *within; /* the last two where the kernel has parts enough */
} packing;

static packing packing_at(const we_matmul_row *kernel, const we_gemm_right *right, int64_t panels,
                          float *to) {
    packing p = {kernel, right, to, NULL, NULL};
    if (kernel->exact) {
        p.copy = to + panels * panel_words(kernel, right->runs, right->depth);
        p.within = p.copy + panels * right->runs * right->depth * kernel->columns;
    }
    return p;
}

/* Rows [at, at + rows) of a run of `count` columns that start at `from`, as float32. */
static void pack_rows(const we_gemm_right *b, const float *from, int64_t at, int64_t rows, int64_t count,
                      int64_t columns, float *to) {
    int64_t piece = b->depth / at_least_one(b->pieces);
    for (int64_t taken; rows > 0; at += taken, rows -= taken, to += taken * columns) {
        taken = we_least(rows, piece - at % piece);
        we_pack_panel(from + at / piece * b->piece + at % piece * b->row, b->column, b->row, count, columns,
                      taken, to);
    }
}

/* Each two rows of words become pairs, column by column. */
static void couple_rows(int64_t rows, int64_t columns, float *words) {
    float both[WE_COUPLE * WE_TILE_COLUMNS];
    for (int64_t w = 0; w < rows; w += WE_COUPLE, words += WE_COUPLE * columns) {
        memcpy(both, words, (size_t)(WE_COUPLE * columns) * sizeof *words);
        for (int64_t j = 0; j < columns; j++) {
            words[2 * j] = both[j];
            words[2 * j + 1] = both[columns + j];
        }
    }
}

/* One run of `count` columns that start at `from`, by stretches of float32 rows that are then paired. Returns
 * the largest magnitude as bits. copy: NULL, or where the rows are kept. */
static uint32_t pack_run(const packing *k, const float *from, int64_t count, float *words, float *copy) {
    enum { STRETCH = 2 * WE_PART_WORDS };
    static const float NONE[WE_TILE_COLUMNS];
    const we_matmul_row *kernel = k->kernel;
    const we_gemm_right *b = k->right;
    int64_t columns = kernel->columns, left = run_words(kernel, b->depth);
    float own[STRETCH * WE_TILE_COLUMNS];
    uint32_t largest = 0;
    for (int64_t p = 0; left > 0; p += STRETCH, left -= WE_PART_WORDS) {
        int64_t rows = we_least(STRETCH, b->depth - p), count_words = we_least(WE_PART_WORDS, left);
        float *to = copy ? copy + p * columns : own;
        pack_rows(b, from, p, rows, count, columns, to);
        for (int64_t w = 0; w < count_words; w++) {
            const float *first = 2 * w < rows ? to + 2 * w * columns : NONE;
            const float *second = 2 * w + 1 < rows ? to + (2 * w + 1) * columns : NONE;
            largest = larger(largest, kernel->split.pair(kernel->parts, columns, first, second,
                                                         words + w * columns, WE_PART_WORDS * columns));
        }
        if (kernel->granule == WE_COUPLE)
            couple_rows(count_words, columns, words);
        words += count_words * kernel->parts * columns;
    }
    return largest;
}

static void pack_panels(void *context, int64_t begin, int64_t end) {
    const packing *k = context;
    const we_gemm_right *b = k->right;
    int64_t columns = k->kernel->columns, copied = b->depth * columns;
    int64_t run_floats = panel_words(k->kernel, 1, b->depth);
    for (int64_t panel = begin; panel < end; panel++) {
        int64_t column = panel * columns, count = we_least(columns, b->n - column);
        uint32_t largest = 0;
        for (int64_t r = 0; r < b->runs; r++) {
            const float *from = b->b + r * b->run + column * b->column;
            float *to = k->words + (panel * b->runs + r) * run_floats;
            float *copy = k->copy ? k->copy + (panel * b->runs + r) * copied : NULL;
            if (k->kernel->parts)
                largest = larger(largest, pack_run(k, from, count, to, copy));
            else
                pack_rows(b, from, 0, b->depth, count, columns, to);
        }
        if (k->within)
            k->within[panel] = is_within_limits(largest);
    }
}

void we_gemm_pack(we_pool *pool, const we_matmul_row *kernel, const we_gemm_right *right, float *to) {
    int64_t panels = we_panels(right->n, kernel->columns),
            steps = kernel->columns * right->runs * right->depth;
    packing k = packing_at(kernel, right, panels, to);
    we_parallel_for(pool, panels, 1 + 65536 / (steps + 1), pack_panels, &k);
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
        at += we_gemm_packed_runs(c->kernel, right.n, right.runs, right.depth);
    }
}

we_status we_gemm_pack_constants(we_program *program, const we_matmul_row *kernel, const we_gemm_right *right,
                                 int64_t count, int64_t step, const float **out, we_error *err) {
    const constants c = {kernel, *right, count, step};
    const void *packed = NULL;
    int64_t each = right->n * right->runs * right->depth;
    size_t bytes =
        (size_t)(count * we_gemm_packed_runs(kernel, right->n, right->runs, right->depth)) * sizeof(float);
    we_pack_key key = {.source = right->b,
                       .source_bytes = (size_t)(each + (count - 1) * step) * sizeof(float),
                       .form = kernel,
                       .parameters = {right->run, right->row, right->column, right->n, right->runs,
                                      right->depth, count, step, right->piece, right->pieces}};
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
    int64_t panel;  /* words from one panel to the next */
    int64_t next;   /* words from a panel's block to the one that is multiplied next; 0: it is near already */
    const float *copy,
        *within; /* where the kernel has an exact one: its B, and by panel whether to use the other */
    int64_t copy_panel;
    float *split; /* room for the rows of a tile */
    float *sums;  /* of the unit, where they have a place of their own, else NULL */
    bool first, last;
} block;

static void fill_rows(const we_gemm *g, const block *b, int64_t row, int32_t count, const float **to) {
    int64_t at = g->narrow_rows ? b->at / 2 : b->at;
    if (!g->rows) {
        for (int32_t i = 0; i < count; i++)
            to[i] = g->a + (row + i) * g->a_row + at;
        return;
    }
    g->rows(g->source, row, count, b->run, b->runs, to);
    for (int64_t i = 0; at && i < b->runs * count; i++)
        to[i] += at;
}

/* One run as words of the kernel's, all parts of it; the largest magnitude as bits. */
static uint32_t split_run(const we_gemm *g, int64_t depth, const float *from, int64_t words, float *to,
                          int64_t part) {
    if (!g->narrow_rows)
        return g->kernel->split.split(g->kernel->parts, depth, from, words, to, part);
    int64_t whole = we_panels(depth, 2);
    memcpy(to, from, (size_t)whole * sizeof *to);
    memset(to + whole, 0, (size_t)(words - whole) * sizeof *to);
    return 0; /* one part has no limits */
}

/* Does the kernel take rows of bfloat16 run by run, a number of them evenly apart? */
static bool takes_even_rows(const we_gemm *g) {
    return g->narrow_rows && g->kernel->parts == 1 && we_wants_even_rows(g->kernel);
}

/* And not so far that they share few sets of the first-level cache, where they are to stay. */
static bool are_even(const float *const *rows) {
    const int64_t step = rows[1] - rows[0];
    if (step % CROWDED_FLOATS == 0)
        return false;
    for (int i = 2; i < WE_EVEN_ROWS; i++) {
        if (rows[i] - rows[i - 1] != step)
            return false;
    }
    return true;
}

/* Rows that lie evenly apart and are whole granules stay where they are; others are copied together. */
static void even_rows(const we_gemm *g, const cut *cut, const block *b, int32_t m, const float **rows) {
    int64_t row = row_words(g->kernel, cut), words = run_words(g->kernel, b->depth);
    for (int64_t r = 0; r < b->runs; r++, rows += m) {
        for (int32_t first = 0; first < m; first += WE_EVEN_ROWS) {
            if (first + WE_EVEN_ROWS <= m && b->depth == 2 * words && are_even(rows + first))
                continue;
            for (int32_t i = first; i < m && i < first + WE_EVEN_ROWS; i++) {
                float *to = b->split + i * row + r * words;
                split_run(g, b->depth, rows[i], words, to, 0);
                rows[i] = to;
            }
        }
    }
}

/* Split the rows of a tile: split_rows[parts][m] become where they lie. False where one is outside the
 * limits. */
static bool split_tile(const we_gemm *g, const cut *cut, const block *b, int32_t m, const float *const *rows,
                       const float **split_rows) {
    const we_matmul_row *kernel = g->kernel;
    int64_t row = row_words(kernel, cut), part = kernel->rows * row, words = run_words(kernel, b->depth);
    bool within = true;
    for (int32_t i = 0; i < m; i++) {
        uint32_t largest = 0;
        for (int64_t r = 0; r < b->runs; r++)
            largest = larger(largest, split_run(g, b->depth, rows[r * m + i], words,
                                                b->split + i * row + r * words, part));
        within = within && is_within_limits(largest);
        for (int32_t p = 0; p < kernel->parts; p++)
            split_rows[p * m + i] = b->split + p * part + i * row;
    }
    return within;
}

/* The tile by the exact kernel, which may have fewer rows. */
static void multiply_exactly(const we_gemm *g, const block *b, const we_tile *tile, int64_t panel,
                             const float *const *rows) {
    const float *some[WE_TILE_RUNS * WE_TILE_ROWS];
    we_tile t = *tile;
    t.runs = b->runs;
    t.depth = b->depth;
    t.rows = some;
    t.b = t.ahead = b->copy + panel * b->copy_panel;
    for (int32_t i = 0; i < tile->m; i += t.m) {
        t.m = (int32_t)we_least(g->kernel->exact->rows, tile->m - i);
        for (int64_t r = 0; r < b->runs; r++)
            memcpy(some + r * t.m, rows + r * tile->m + i, (size_t)t.m * sizeof *some);
        t.c = tile->c + i * t.ldc;
        t.row_bias = tile->row_bias ? tile->row_bias + i : NULL;
        t.residual = tile->residual ? tile->residual + i * t.ldc : NULL;
        g->kernel->exact->kernel(&t);
    }
}

/* A tile brings as many cache lines near as it takes steps of k, so the first tiles of a block share the one
 * that is next among them: weights then arrive from memory while others are multiplied (7 x 7 images
 * of 512 channels: 1.27 to 1.03 ms, Zen 5). */
static const float *ahead_of(const block *b, const we_tile *t, int64_t columns, int64_t tile) {
    int64_t part = tile * LINE_FLOATS;
    return b->next && part < columns ? t->b + b->next + part * t->runs * t->depth : t->b;
}

/* Where a tile's sums are, and what of it is bfloat16, `at` elements from the start of C and `sum` from that
 * of the unit's sums. */
static void place_narrow(const we_gemm *g, const block *b, we_tile *t, int64_t at, int64_t sum) {
    t->c = b->sums ? b->sums + sum : g->narrow ? NULL : g->c + at;
    t->narrow = b->last && g->narrow ? g->narrow_c + at : NULL;
    t->narrow_residual = b->last && g->narrow_residual ? g->narrow_residual + at : NULL;
}

/* All tiles of a unit over one block: the rows of a tile serve all panels while they are in cache. */
static void multiply_block(const we_gemm *g, const cut *cut, const block *b, int64_t row, int64_t row_end,
                           int64_t column, int64_t column_end) {
    const float *rows[WE_TILE_RUNS * WE_TILE_ROWS], *split_rows[WE_PARTS * WE_TILE_ROWS];
    const we_matmul_row *kernel = g->kernel;
    const bool evens = takes_even_rows(g), in_place = evens || reads_in_place(g);
    const bool narrow = g->narrow || g->narrow_residual;
    const int64_t first_row = row, sums_row = sums_columns(g, cut);
    we_tile t = {.runs = b->runs,
                 .depth = run_words(kernel, b->depth),
                 .rows = rows,
                 .ldc = b->sums ? sums_row : g->ldc,
                 .accumulate = !b->first || g->accumulate,
                 .narrow_row = g->ldc};
    if (!in_place) {
        t.runs = 1;
        t.depth *= b->runs;
        t.rows = split_rows;
    }
    t.low = b->last ? g->low : -__builtin_inff();
    t.high = b->last ? g->high : __builtin_inff();
    /* No vector kernel ends with few rows; tile registers take sixteen as fast as one. */
    int64_t rows_each = we_wants_even_rows(kernel) ? kernel->rows : even(row_end - row, kernel->rows);
    for (int64_t tile = 0; row < row_end; row += t.m, tile++) {
        t.m = (int32_t)we_least(rows_each, row_end - row);
        fill_rows(g, b, row, t.m, rows);
        if (evens)
            even_rows(g, cut, b, t.m, rows);
        bool within = in_place || split_tile(g, cut, b, t.m, rows, split_rows) || !kernel->exact;
        t.row_bias = g->row_bias ? g->row_bias + row : NULL;
        t.b = b->b;
        for (int64_t j = column, panel = 0; j < column_end; j += t.n, t.b += b->panel, panel++) {
            t.n = (int32_t)we_least(kernel->columns, column_end - j);
            int64_t at = row * g->ldc + j;
            if (narrow)
                place_narrow(g, b, &t, at, (row - first_row) * sums_row + j - column);
            else
                t.c = g->c + at;
            t.column_bias = g->column_bias ? g->column_bias + j : NULL;
            t.residual = b->last && g->residual ? g->residual + at : NULL;
            t.ahead = ahead_of(b, &t, kernel->columns, tile);
            if (within && (!kernel->exact || b->within[panel] != 0))
                kernel->kernel(&t);
            else
                multiply_exactly(g, b, &t, panel, rows);
        }
    }
}

/* The block of a B that is packed whole. */
static void find_packed(const we_gemm *g, const cut *cut, block *b, int64_t panel, int64_t panel_end) {
    const we_matmul_row *kernel = g->kernel;
    int64_t panels = we_panels(g->n, kernel->columns), words = panel_words(kernel, g->runs, g->depth);
    int64_t copied = g->runs * g->depth * kernel->columns;
    int64_t at = panel_words(kernel, b->run, g->depth) + panel_words(kernel, 1, b->at);
    b->panel = words;
    b->b = g->packed + panel * words + at;
    b->next = panel_words(kernel, b->runs, b->depth);
    if (b->last) /* the next unit's first block; behind the last unit another product's weights may lie */
        b->next = cut->down == 1 ? (panel_end - panel) * words - at : 0;
    if (kernel->exact) {
        b->copy_panel = copied;
        b->copy = g->packed + panels * words + panel * copied + (b->run * g->depth + b->at) * kernel->columns;
        b->within = g->packed + panels * (words + copied) + panel;
    }
}

/* Pack the block of B that a unit multiplies with. */
static void pack_block(const we_gemm *g, block *b, int64_t first_panel, int64_t last_panel, float *to) {
    int64_t column = first_panel * g->kernel->columns, at = b->run * g->depth + b->at;
    we_gemm_right right = {.b = g->b + at * g->b_row + column * g->b_column,
                           .run = g->depth * g->b_row,
                           .row = g->b_row,
                           .column = g->b_column,
                           .n = g->n - column,
                           .runs = b->runs,
                           .depth = b->depth};
    packing k = packing_at(g->kernel, &right, last_panel - first_panel, to);
    pack_panels(&k, 0, last_panel - first_panel);
    b->b = to;
    b->panel = panel_words(g->kernel, b->runs, b->depth);
    b->next = 0;
    b->copy = k.copy;
    b->within = k.within;
    b->copy_panel = b->runs * b->depth * g->kernel->columns;
}

static void run_units(void *context, int64_t begin, int64_t end) {
    const job *j = context;
    const we_gemm *g = j->gemm;
    const cut *cut = &j->cut;
    float *own = j->scratch ? j->scratch + (j->pool ? we_pool_worker() : 0) * thread_floats(g, cut) : NULL;
    int64_t columns = g->kernel->columns;
    bool has_sums = sums_floats(g, cut) > 0;
    if (g->kernel->open)
        g->kernel->open();
    for (int64_t unit = begin; unit < end; unit++) {
        int64_t across = unit / cut->down, down = unit % cut->down;
        int64_t panel = first_panel(g, cut, across), panel_end = first_panel(g, cut, across + 1);
        block b = {.first = true, .split = own, .sums = has_sums ? own + tile_words(g, cut) : NULL};
        while (b.run < g->runs) {
            b.runs = we_least(cut->runs, g->runs - b.run);
            b.depth = we_least(cut->depth, g->depth - b.at);
            b.last = b.run + b.runs == g->runs && b.at + b.depth == g->depth;
            if (g->packed)
                find_packed(g, cut, &b, panel, panel_end);
            else
                pack_block(g, &b, panel, panel_end, own + tile_words(g, cut) + sums_floats(g, cut));
            multiply_block(g, cut, &b, first_row(g, cut, down), first_row(g, cut, down + 1), panel * columns,
                           we_least(g->n, panel_end * columns));
            b.first = false;
            b.at += b.depth;
            if (b.at == g->depth) {
                b.at = 0;
                b.run += b.runs;
            }
        }
    }
    if (g->kernel->close)
        g->kernel->close();
}

typedef struct rounding {
    const we_gemm *g;
    int64_t row;
    float *to;
} rounding;

static void round_rows(void *context, int64_t begin, int64_t end) {
    const rounding *r = context;
    const we_gemm *g = r->g;
    for (int64_t i = begin; i < end; i++)
        g->kernel->split.split(1, g->depth, g->a + i * g->a_row, r->row, r->to + i * r->row, 0);
}

void we_gemm_run(we_pool *pool, const we_gemm *given, float *scratch) {
    we_gemm own = *given, *g = &own;
    job j = {pool, g, cut_of(g, we_pool_threads(pool)), scratch};
    rounding r = {given, rounded_row(g, &j.cut), scratch};
    if (r.row) {
        we_parallel_for(pool, g->m, 1 + 32768 / g->depth, round_rows, &r);
        own.narrow_rows = true;
        own.a = r.to;
        own.a_row = r.row;
        j.scratch += g->m * r.row;
    }
    int64_t units = j.cut.across * j.cut.down, steps = g->m * g->n * g->runs * g->depth / units;
    we_parallel_for(pool, units, 1 + UNIT_STEPS / (steps + 1), run_units, &j);
}
