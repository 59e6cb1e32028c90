#include <math.h>
#include <stdio.h>
#include <string.h>

#include "backend/opencl/product.h"
#include "backend/opencl/tune.h"
#include "base/dtype.h"

/* As product_t and finish_t of matmul.cl, whose arrays are as long as the batch has dims, and one at least.
 */
typedef struct finish {
    int64_t period;
    float ceiling;
    int32_t bias, relu, residual;
} finish;

enum {
    INTS = 10, /* of product_t before its arrays */
    WORDS = INTS + 5 * WE_MAX_RANK + 1,
    SPLIT_STEPS = 128, /* of k, at least, in each part */
    GROUPS_PER_UNIT = 2,
    MOST_OF_A_CPU = 32 * 32, /* results of a tile of many items */
    WIDE_VECTORS = 2,        /* columns of a wide tile */
};
/* On a processor: what laying an element of B into a panel costs, in multiply-adds of one column; what share
 * of their rate tiles of many items reach, whose sums lie in memory between barriers. */
static const double PANEL = 6, PATCH_PANEL = 24, MANY_ITEMS = 0.15;

static const we_opencl_tile TILES[] = {
#define WE_OPENCL_TILE_ROW(bm, bn, bk, tm, tn, share) {bm, bn, bk, tm, tn, false, share},
#define WE_OPENCL_WIDE_ROW(bm, bk, tm, share) {bm, WIDE_VECTORS, bk, tm, WIDE_VECTORS, true, share},
#include "backend/opencl/tiles.inc"
#undef WE_OPENCL_TILE_ROW
#undef WE_OPENCL_WIDE_ROW
};
#define WE_OPENCL_TILE_ROW(bm, bn, bk, tm, tn, share)                                                        \
    _Static_assert((bm) * (bn) / ((tm) * (tn)) % (bn) == 0 && (bk) % 4 == 0, "see tiles.inc");               \
    _Static_assert((bm) * (bk) * (tm) * (tn) % (4 * (bm) * (bn)) == 0 &&                                     \
                       (bn) * (bk) * (tm) * (tn) % (4 * (bm) * (bn)) == 0,                                   \
                   "items read whole vectors");
#define WE_OPENCL_WIDE_ROW(bm, bk, tm, share)                                                                \
    _Static_assert((bm) % (tm) == 0, "the last rows of a group are whole too");
#include "backend/opencl/tiles.inc"
#undef WE_OPENCL_TILE_ROW
#undef WE_OPENCL_WIDE_ROW

static int64_t batch_of(const we_matmul *p) {
    int64_t batch = 1;
    for (int32_t i = 0; i < p->batch_rank; i++)
        batch *= p->batch[i];
    return batch;
}

static int32_t columns_of(const we_opencl_device *d, const we_opencl_tile *t) {
    return t->wide ? t->bn * (int32_t)d->width : t->bn;
}

/* Work items. */
static int32_t group_size(const we_opencl_tile *t) {
    return t->wide ? 1 : t->bm / t->tm * (t->bn / t->tn);
}

static size_t local_bytes(const we_opencl_device *d, const we_opencl_tile *t) {
    int32_t floats =
        t->wide ? (t->bk + t->bm + 3) * columns_of(d, t) + t->tm * t->bk : 2 * t->bk * (t->bm + t->bn + 8);
    return (size_t)floats * sizeof(float);
}

static bool is_cpu(const we_opencl_device *d) {
    return d->type & WE_CL_TYPE_CPU;
}

static int64_t blocks(int64_t count, int64_t size) {
    return (count + size - 1) / size;
}

/* ---- Which way ---- */

/* Multiply-adds of a group that a unit is busy with for as long. */
static double effort(const we_opencl_device *d, const we_opencl_product *q, const we_opencl_tile *t,
                     int32_t splits) {
    double columns = columns_of(d, t), depth = (double)blocks(q->p.k, splits), rows = t->bm;
    if (t->wide) {
        double own = (double)(blocks(q->p.m, t->tm) * t->tm);
        rows = fmin(rows, own) + (q->read_b == WE_READ_PATCHES ? PATCH_PANEL : PANEL);
    }
    return rows * columns * depth;
}

/* ns of a tiling: rounds of all units, each as long as one tile. */
static double price(const we_opencl_device *d, const we_opencl_parameters *believed,
                    const we_opencl_product *q, const we_opencl_tile *t, int32_t splits) {
    const we_matmul *p = &q->p;
    double groups = (double)(blocks(p->m, t->bm) * blocks(p->n, columns_of(d, t)) * batch_of(p) * splits);
    double together = t->wide ? 1 : GROUPS_PER_UNIT; /* on a unit */
    double rate = believed->products * t->share * (is_cpu(d) && !t->wide ? MANY_ITEMS : 1);
    double rounds = fmax(1, groups / (d->units * together));
    rounds = groups > 8.0 * d->units * together ? rounds : ceil(rounds);
    double each = effort(d, q, t, splits) / (rate / d->units) * together;
    double lone = groups < d->units * together ? 0.6 : 1; /* a group alone on its unit is faster */
    double join = splits > 1 ? believed->launch + (double)(p->m * p->n * batch_of(p)) * 4 * (splits + 1) /
                                                      believed->bandwidth
                             : 0;
    return rounds * each * (t->wide ? 1 : lone) + join;
}

/* Wide tiles are for processors, which have no registers for the sums of many items. */
static bool fits_device(const we_opencl_device *d, const we_opencl_tile *t) {
    return (size_t)group_size(t) <= d->group && local_bytes(d, t) <= d->local_bytes &&
           (t->wide ? is_cpu(d) : !is_cpu(d) || t->bm * t->bn <= MOST_OF_A_CPU);
}

static const size_t TILE_COUNT = sizeof TILES / sizeof *TILES;

/* Splittings are 1, 2, 4...; those of one tile follow each other. */
bool we_opencl_nth_cut(const we_opencl_device *d, const we_opencl_parameters *believed,
                       const we_opencl_product *product, size_t n, we_opencl_cut *out) {
    const we_matmul *p = &product->p;
    for (size_t tile = 0; tile < TILE_COUNT; tile++) {
        if (!fits_device(d, &TILES[tile]))
            continue;
        for (int32_t splits = 1; splits <= WE_OPENCL_SPLITS && (splits == 1 || p->k / splits >= SPLIT_STEPS);
             splits *= 2) {
            if (n-- > 0)
                continue;
            *out = (we_opencl_cut){&TILES[tile], splits, price(d, believed, product, &TILES[tile], splits),
                                   TILES[tile].share};
            return true;
        }
    }
    return false;
}

we_opencl_cut we_opencl_cut_of(const we_opencl_device *d, const we_opencl_parameters *believed,
                               const we_opencl_product *product) {
    we_opencl_cut best = {.ns = INFINITY}, cut;
    for (size_t n = 0; we_opencl_nth_cut(d, believed, product, n, &cut); n++)
        best = cut.ns < best.ns ? cut : best;
    return best;
}

bool we_opencl_has_cut(const we_opencl_device *d, int32_t tile, int32_t splits) {
    return tile >= 0 && (size_t)tile < TILE_COUNT && fits_device(d, &TILES[tile]) && splits >= 1 &&
           splits <= WE_OPENCL_SPLITS;
}

we_opencl_cut we_opencl_cut_at(int32_t tile, int32_t splits) {
    return (we_opencl_cut){&TILES[tile], splits, 0, TILES[tile].share};
}

int32_t we_opencl_tile_number(const we_opencl_tile *tile) {
    return (int32_t)(tile - TILES);
}

/* ---- Arguments ---- */

/* The struct product_t, as the kernel's options lay it out. */
static size_t pack_product(const we_opencl_product *q, int32_t splits, int64_t part, int32_t words[WORDS]) {
    const we_matmul *p = &q->p;
    int64_t rank = p->batch_rank > 0 ? p->batch_rank : 1;
    int64_t head[INTS] = {p->m,     p->n,        p->k,   p->a_row, p->a_column,
                          p->b_row, p->b_column, splits, part,     q->positions};
    size_t count = 0;
    for (int32_t i = 0; i < INTS; i++)
        words[count++] = (int32_t)head[i];
    for (int64_t i = 0; i < rank; i++)
        words[count++] = p->batch_rank ? (int32_t)p->batch[i] : 1;
    words[count++] = 0;
    count += count % 2; /* the longs are aligned */
    for (int32_t side = 0; side < 2; side++) {
        for (int64_t i = 0; i < rank; i++, count += 2) {
            int64_t step = p->batch_rank ? (side ? p->b_batch : p->a_batch)[i] : 0;
            memcpy(words + count, &step, sizeof step);
        }
    }
    return count * sizeof *words;
}

static void record_optional(we_recorder *r, we_spot spot, we_spot instead) {
    we_record_spot(r, spot.space == WE_SPACE_NONE ? instead : spot);
}

static void record_heads(we_recorder *r, const we_opencl_product *q, int32_t splits, int64_t part) {
    int32_t words[WORDS] = {0};
    size_t bytes = pack_product(q, splits, part, words);
    finish f = {q->p.period ? q->p.period : 1, q->ceiling, (int32_t)q->p.bias, q->p.relu,
                q->residual.space != WE_SPACE_NONE};
    we_record_bytes(r, words, bytes);
    we_record_bytes(r, &f, sizeof f);
}

static void add_options(const we_opencl_product *q, char *options, const char *more) {
    size_t used = strlen(options);
    snprintf(options + used, WE_OPENCL_OPTIONS - used,
             " -DBATCH_RANK=%d -DOUT_IMAGES=%d -DA_IS=%s -DB_IS=%s -DC_IS=%s -DR_IS=%s%s",
             q->p.batch_rank ? (int)q->p.batch_rank : 1, q->out_images, we_dtype_name(q->a_form),
             we_dtype_name(q->b_form), we_dtype_name(q->c_form), we_dtype_name(q->residual_form), more);
}

static void record_join(we_recorder *r, const we_opencl_product *q, const we_opencl_cut *cut, int64_t bytes) {
    char options[WE_OPENCL_OPTIONS];
    int64_t count = q->p.m * q->p.n * batch_of(&q->p);
    we_opencl_options(r, WE_F32, options);
    add_options(q, options, " -DJOIN");
    we_record_kernel(r, we_cl_matmul, options, "matmul_join");
    record_heads(r, q, cut->splits, 0);
    we_record_long(r, count);
    we_record_scratch(r, 0, bytes);
    record_optional(r, q->bias, q->c);
    record_optional(r, q->residual, q->c);
    we_record_spot(r, q->c);
    we_record_items(r, count, we_opencl_group(r));
}

/* What a tile is called in matmul.cl. */
static void write_tile(const we_opencl_product *q, const we_opencl_cut *cut, const we_opencl_device *d,
                       char *out, size_t room) {
    const we_opencl_tile *t = cut->tile;
    if (t->wide)
        snprintf(out, room,
                 " -DWIDE=%d -DBM=%d -DBK=%d -DTM=%d -DUNIT_A=%d -DWIDE_A=%d -DREAD_B=%d -DSPLIT=%d",
                 (int)d->width, (int)t->bm, (int)t->bk, (int)t->tm, q->p.a_column == 1, q->a_form == WE_F32,
                 q->read_b == WE_READ_PATCHES ? WE_READ_PATCHES
                 : q->p.b_column == 1         ? WE_READ_ACROSS
                                              : WE_READ_ANY,
                 cut->splits > 1);
    else
        snprintf(out, room,
                 " -DBM=%d -DBN=%d -DBK=%d -DTM=%d -DTN=%d -DPM=%d -DPN=%d -DVA=%d -DVB=%d -DREAD_A=%d "
                 "-DREAD_B=%d -DSPLIT=%d",
                 (int)t->bm, (int)t->bn, (int)t->bk, (int)t->tm, (int)t->tn, (int)t->tm / 4, (int)t->tn / 4,
                 (int)(t->bm * t->bk / 4 / group_size(t)), (int)(t->bn * t->bk / 4 / group_size(t)),
                 (int)q->read_a, (int)q->read_b, cut->splits > 1);
}

void we_opencl_product_record(we_recorder *r, const we_opencl_product *q, const we_opencl_cut *by) {
    char options[WE_OPENCL_OPTIONS], more[160];
    const we_opencl_cut cut = *by;
    const we_opencl_tile *t = cut.tile;
    const we_matmul *p = &q->p;
    int64_t batch = batch_of(p), step = t->wide ? 1 : t->bk;
    int64_t part = blocks(blocks(p->k, cut.splits), step) * step;
    int64_t bytes = batch * cut.splits * p->m * p->n * (int64_t)sizeof(float);
    we_opencl_options(r, WE_F32, options);
    write_tile(q, by, r->device, more, sizeof more);
    add_options(q, options, more);
    we_record_kernel(r, we_cl_matmul, options, t->wide ? "matmul_wide" : "matmul");
    record_heads(r, q, cut.splits, part);
    we_record_bytes(r, &q->image, sizeof q->image);
    we_record_spot(r, q->a);
    we_record_spot(r, q->b);
    record_optional(r, q->taps, q->a);
    record_optional(r, q->bias, q->a);
    record_optional(r, q->residual, q->a);
    if (cut.splits > 1)
        we_record_scratch(r, 0, bytes);
    else
        we_record_spot(r, q->c);
    int64_t columns = columns_of(r->device, t);
    int64_t groups[WE_TAPE_DIMS] = {blocks(p->n, columns), blocks(p->m, t->bm), batch * cut.splits};
    we_record_groups(r, groups, (size_t)group_size(t));
    if (cut.splits > 1)
        record_join(r, q, &cut, bytes);
}

/* ---- The command ---- */

/* Vectors of 4 need all that is stepped over in fours, from a place that is one. */
static bool in_fours(const we_matmul *p, const int64_t *batch_steps, int64_t step, int64_t count,
                     int64_t at) {
    bool fits = step % 4 == 0 && count % 4 == 0 && at % 16 == 0;
    for (int32_t i = 0; i < p->batch_rank && fits; i++)
        fits = batch_steps[i] % 4 == 0;
    return fits;
}

/* across_step: between neighbours across k; k_step: along it. */
static we_tile_reading reading_of(const we_matmul *p, const int64_t *batch_steps, int64_t across_step,
                                  int64_t across, int64_t k_step, int64_t at) {
    if (k_step == 1 && in_fours(p, batch_steps, across_step, p->k, at))
        return WE_READ_ALONG_K;
    return across_step == 1 && in_fours(p, batch_steps, k_step, across, at) ? WE_READ_ACROSS : WE_READ_ANY;
}

void we_opencl_product_settle(we_opencl_product *q) {
    const we_matmul *p = &q->p;
    q->read_a = reading_of(p, p->a_batch, p->a_row, p->m, p->a_column, q->a.at);
    if (q->read_b != WE_READ_PATCHES)
        q->read_b = reading_of(p, p->b_batch, p->b_column, p->n, p->b_row, q->b.at);
}

static bool is_small(int64_t value) {
    return value >= 0 && value <= INT32_MAX;
}

/* Whether the kernels' indices hold it. */
static bool fits_ints(const we_matmul *p) {
    return is_small(p->m) && is_small(p->n) && is_small(p->k) && is_small(p->a_row) &&
           is_small(p->a_column) && is_small(p->b_row) && is_small(p->b_column) &&
           batch_of(p) * WE_OPENCL_SPLITS <= INT32_MAX && p->m * p->n <= INT32_MAX;
}

bool we_opencl_takes_matmul(const we_matmul *p) {
    return fits_ints(p);
}

static void record_plain(we_recorder *r, const we_opencl_product *q, we_dtype dtype) {
    char options[WE_OPENCL_OPTIONS];
    int64_t count = q->p.m * q->p.n * batch_of(&q->p);
    we_opencl_options(r, dtype, options);
    add_options(q, options, "");
    we_record_kernel(r, we_cl_matmul, options, "matmul_plain");
    record_heads(r, q, 1, 0);
    we_record_long(r, count);
    we_record_spot(r, q->a);
    we_record_spot(r, q->b);
    record_optional(r, q->bias, q->a);
    we_record_spot(r, q->c);
    we_record_items(r, count, we_opencl_group(r));
}

/* An operand; a constant is stored as its values and the session's precision allow. */
static we_spot operand_of(we_recorder *r, int32_t tensor, we_dtype *form) {
    const we_tensor *t = &r->program->tensors[tensor];
    *form = t->dtype;
    return t->kind == WE_TENSOR_CONST && t->dtype == WE_F32 ? we_record_weights(r, t->data, t->count, form)
                                                            : we_record_spot_of(r, tensor);
}

/* Results of 16 bits are those of a product that has taken in a cast: it sums in float32. */
static bool is_stored_float(we_dtype dtype) {
    return dtype == WE_F32 || dtype == WE_F16 || dtype == WE_BF16;
}

void we_opencl_matmul(we_recorder *r, const we_command *c) {
    we_dtype dtype = r->program->tensors[c->out].dtype;
    we_opencl_product q = {.p = c->u.matmul, .c = we_record_spot_of(r, c->out)};
    const we_matmul *p = &q.p;
    if (p->bias != WE_BIAS_NONE)
        q.bias = we_record_spot_of(r, c->in[2]);
    q.c_form = dtype;
    if (!is_stored_float(dtype) || p->k == 0) {
        q.a = we_record_spot_of(r, c->in[0]);
        q.b = we_record_spot_of(r, c->in[1]);
        record_plain(r, &q, dtype);
        return;
    }
    q.a = operand_of(r, c->in[0], &q.a_form);
    q.b = operand_of(r, c->in[1], &q.b_form);
    we_opencl_product_settle(&q);
    const we_opencl_cut cut = we_opencl_tuned(r, &q);
    we_opencl_product_record(r, &q, &cut);
}
