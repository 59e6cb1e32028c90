/* softmax(scale * Q x K^T + mask) x V per head, without the matrix of all scores: a block of queries meets
 * all the keys it sees, its scores are softened where they lie in the cache, and weigh the values. Q, K, V
 * and the result are read and written where they lie, packed or not; K and V of a head are put into panels
 * once per unit of work. What else the operator offers - a past, windows, a soft cap, further outputs - is
 * left to the decomposition. */
#include <math.h>
#include <string.h>

#include "backend/cpu/cpu.h"
#include "backend/cpu/gemm.h"
#include "ops/sequence.h"

enum {
    SCORE_FLOATS = 8
        << 10,      /* of a block: 32 KiB, so that the softmax finds most of them in the first-level cache */
    MOST_TILES = 2, /* of rows per block: a panel of K is read from the first-level cache so often */
    UNITS_PER_THREAD = 2,
    FEW = 2,     /* queries for which K and V are read where they lie: packing them costs as much as */
    PACKING = 8, /* so many queries */
};

/* Where [batch, head, row, size] lies; steps in elements, that of `size` is 1. A mask may repeat in any dim.
 */
typedef struct place {
    int64_t batch, head, row;
} place;

typedef struct parameters {
    we_attention a;
    we_matmul product; /* both products as one, for the choice of a kernel */
    float scale;
    place query, key, value, out, mask;
    bool masked, boolean;
} parameters;

static place place_of(bool packed, int64_t heads, int64_t length, int64_t size) {
    int64_t all = heads * length * size;
    return packed ? (place){all, size, heads * size} : (place){all, length * size, size};
}

/* Steps of a mask whose dims are those of the scores, or 1; false where it ends before the keys do. */
static bool place_mask(const we_tensor *mask, int64_t keys, place *out) {
    int64_t steps[4] = {0}, dense = 1;
    for (int32_t i = 1; i <= mask->rank; i++) {
        int64_t dim = mask->dims[mask->rank - i];
        steps[4 - i] = dim == 1 ? 0 : dense;
        dense *= dim;
    }
    *out = (place){steps[0], steps[1], steps[2]};
    return mask->dims[mask->rank - 1] == keys;
}

static bool is_plain(const we_call *call, const we_attention *a) {
    return a->past == 0 && !we_call_input(call, 4) && !we_call_input(call, 5) && !we_call_input(call, 6) &&
           a->left < 0 && a->right < 0 && call->node->output_count == 1 &&
           !(we_node_float(call->node, "softcap", 0) > 0) &&
           we_node_int(call->node, "softmax_precision", 0) != 11 /* ONNX's DOUBLE */;
}

static bool accept(const we_call *call, we_arena *arena, const void **out) {
    parameters *p = we_arena_new(arena, sizeof *p);
    const we_tensor *mask = we_call_input(call, 3);
    if (!p || we_call_attention(call, &p->a) != WE_OK || !is_plain(call, &p->a))
        return false;
    const we_attention *a = &p->a;
    for (int32_t i = 0; i < 3; i++) {
        if (call->in[i]->dtype != WE_F32 || call->in[i]->count == 0)
            return false;
    }
    p->scale = (float)we_node_float(call->node, "scale", 1 / sqrt((double)a->size));
    p->query = place_of(a->packed, a->heads, a->queries, a->size);
    p->key = place_of(a->packed, a->shared_heads, a->keys, a->size);
    p->value = place_of(a->packed, a->shared_heads, a->keys, a->value_size);
    p->out = place_of(a->packed, a->heads, a->queries, a->value_size);
    p->masked = mask != NULL;
    p->boolean = mask && mask->dtype == WE_BOOL;
    p->product = (we_matmul){.m = a->queries,
                             .n = a->keys,
                             .k = a->size + a->value_size,
                             .batch_rank = 1,
                             .batch = {a->batch * a->heads}};
    *out = p;
    return !mask || ((p->boolean || mask->dtype == WE_F32) && place_mask(mask, a->keys, &p->mask));
}

/* Of the softmax, and of putting K and V into panels. */
static double cost(const void *given) {
    const we_attention *a = &((const parameters *)given)->a;
    return 6.0 * (double)(a->batch * a->heads) * (double)(a->queries + 8) * (double)a->keys +
           2.0 * (double)(a->batch * a->shared_heads * a->keys) * (double)(a->size + a->value_size);
}

static const we_matmul *product(const void *given) {
    return &((const parameters *)given)->product;
}

/* ---- Memory of one thread ---- */

/* Rows of a block, whole tiles where they allow. */
static int64_t block_rows(const we_attention *a, const we_matmul_row *kernel) {
    int64_t tiles = SCORE_FLOATS / (a->keys * kernel->rows + 1);
    tiles = tiles < 1 ? 1 : we_least(tiles, MOST_TILES);
    return we_least(tiles * kernel->rows, a->queries);
}

/* Rows times a packed matrix: C[m, n] = rows[m][k] * B. */
static we_gemm gemm_of(const we_matmul_row *kernel, int64_t m, int64_t n, int64_t k, const float *packed) {
    return (we_gemm){.kernel = kernel,
                     .m = m,
                     .n = n,
                     .runs = 1,
                     .depth = k,
                     .packed = packed,
                     .low = -INFINITY,
                     .high = INFINITY};
}

static int64_t gemm_floats(const we_matmul_row *kernel, int64_t m, int64_t n, int64_t k) {
    static const float SOME; /* B is packed, wherever */
    we_gemm g = gemm_of(kernel, m, n, k, &SOME);
    return (int64_t)(we_gemm_scratch(&g, 1) / sizeof(float));
}

/* Where things lie in it, in floats. */
typedef struct layout {
    int64_t value;  /* packed, behind the packed keys */
    int64_t scores; /* [rows of a block, keys] */
    int64_t added;  /* a row of what the mask adds */
    int64_t gemm;   /* scratch of a product */
    int64_t end;
} layout;

static int64_t aligned(int64_t floats) {
    return (floats + 15) / 16 * 16;
}

static layout lay_out(const we_attention *a, const we_matmul_row *kernel) {
    int64_t rows = block_rows(a, kernel);
    int64_t scores = gemm_floats(kernel, rows, a->keys, a->size);
    int64_t values = gemm_floats(kernel, rows, a->value_size, a->keys);
    layout l = {.value = aligned(we_gemm_packed(kernel, a->keys, a->size))};
    l.scores = l.value + aligned(we_gemm_packed(kernel, a->value_size, a->keys));
    l.added = l.scores + rows * a->keys;
    l.gemm = aligned(l.added + a->keys);
    l.end = aligned(l.gemm + (scores > values ? scores : values));
    return l;
}

static size_t scratch_size(const we_program *program, const we_command *command, int32_t threads) {
    const parameters *p = command->u.claim.parameters;
    (void)program;
    return (size_t)(lay_out(&p->a, command->u.claim.kernel).end * threads) * sizeof(float);
}

/* ---- One block of queries ---- */

typedef struct job {
    const we_run *run;
    const parameters *p;
    const we_matmul_row *kernel;
    const float *query, *key, *value;
    const char *mask; /* NULL: none */
    float *out;
    int64_t blocks; /* of one head's queries */
    int64_t parts;  /* of the blocks of all heads that share keys */
} job;

/* The mask of a query as floats to add; a BOOL one is spelled out in `added`. */
static const float *mask_row(const job *j, int64_t batch, int64_t head, int64_t query, float *added) {
    const place *m = &j->p->mask;
    int64_t at = batch * m->batch + head * m->head + query * m->row;
    if (!j->mask || !j->p->boolean)
        return j->mask ? (const float *)(const void *)j->mask + at : NULL;
    for (int64_t i = 0; i < j->p->a.keys; i++)
        added[i] = j->mask[at + i] ? 0 : -INFINITY;
    return added;
}

/* Softmax of the row's first `seen` scores; the rest of `keys` get weight 0. */
static void soften(const job *j, const float *added, int64_t seen, int64_t keys, float *scores) {
    we_softmax how = {.k = seen, .factor = j->p->scale, .added = added, .masked = j->p->masked};
    j->run->kernels->softmax(&how, scores, scores);
    memset(scores + seen, 0, (size_t)(keys - seen) * sizeof *scores);
}

/* The values by their weights. They are packed for all keys, so one panel at a time where fewer are seen. */
static void weigh(const job *j, const layout *l, float *packed, int64_t rows, int64_t keys, float *out) {
    const we_attention *a = &j->p->a;
    int64_t columns = keys == a->keys ? a->value_size : j->kernel->columns;
    int64_t panel = we_gemm_packed(j->kernel, j->kernel->columns, a->keys) * (keys < a->keys);
    const float *values = packed + l->value;
    for (int64_t column = 0; column < a->value_size; column += columns, values += panel) {
        we_gemm g = gemm_of(j->kernel, rows, we_least(columns, a->value_size - column), keys, values);
        g.a = packed + l->scores;
        g.a_row = a->keys;
        g.c = out + column;
        g.ldc = j->p->out.row;
        we_gemm_run(NULL, &g, packed + l->gemm);
    }
}

static void attend(const job *j, const layout *l, float *packed, int64_t batch, int64_t head, int64_t first) {
    const we_attention *a = &j->p->a;
    const place *q = &j->p->query, *o = &j->p->out;
    float *scores = packed + l->scores;
    int64_t rows = we_least(block_rows(a, j->kernel), a->queries - first);
    /* What a kernel of several parts wants packed is found by the number of all keys. */
    int64_t keys = a->causal && !j->kernel->exact ? we_least(a->keys, first + rows) : a->keys;
    we_gemm g = gemm_of(j->kernel, rows, keys, a->size, packed);
    g.a = j->query + batch * q->batch + head * q->head + first * q->row;
    g.a_row = q->row;
    g.c = scores;
    g.ldc = a->keys;
    we_gemm_run(NULL, &g, packed + l->gemm);
    for (int64_t i = 0; i < rows; i++)
        soften(j, mask_row(j, batch, head, first + i, packed + l->added),
               a->causal ? we_least(keys, first + i + 1) : keys, keys, scores + i * a->keys);
    weigh(j, l, packed, rows, keys, j->out + batch * o->batch + head * o->head + first * o->row);
}

/* ---- Few queries ---- */

static bool is_few(const we_attention *a) {
    return a->queries * (a->heads / a->shared_heads) <= FEW;
}

/* One query, its keys and values as they lie. */
static void attend_alone(const job *j, const float *key, const float *value, int64_t batch, int64_t head,
                         int64_t query, float *scores, float *added) {
    const we_attention *a = &j->p->a;
    const place *q = &j->p->query, *o = &j->p->out;
    const we_f32_dense *dense = &j->run->kernels->f32_dense;
    const float *asked = j->query + batch * q->batch + head * q->head + query * q->row;
    float *out = j->out + batch * o->batch + head * o->head + query * o->row;
    int64_t seen = a->causal ? we_least(a->keys, query + 1) : a->keys;
    for (int64_t i = 0; i < seen; i++)
        scores[i] = dense->dot(a->size, asked, key + i * j->p->key.row);
    soften(j, mask_row(j, batch, head, query, added), seen, seen, scores);
    memset(out, 0, (size_t)a->value_size * sizeof *out);
    for (int64_t i = 0; i < seen; i++)
        dense->add(a->value_size, scores[i], value + i * j->p->value.row, out);
}

static void run_few(void *context, int64_t begin, int64_t end) {
    const job *j = context;
    const we_attention *a = &j->p->a;
    const place *k = &j->p->key, *v = &j->p->value;
    layout l = lay_out(a, j->kernel);
    float *scratch = (float *)j->run->scratch + we_run_worker(j->run) * l.end;
    for (int64_t unit = begin; unit < end; unit++) {
        int64_t batch = unit / a->shared_heads, head = unit % a->shared_heads;
        int64_t group = a->heads / a->shared_heads;
        for (int64_t i = 0; i < group * a->queries; i++)
            attend_alone(j, j->key + batch * k->batch + head * k->head,
                         j->value + batch * v->batch + head * v->head, batch, head * group + i / a->queries,
                         i % a->queries, scratch + l.scores, scratch + l.added);
    }
}

/* ---- Units: the heads that share keys, or a part of their blocks ---- */

static void run_units(void *context, int64_t begin, int64_t end) {
    const job *j = context;
    const we_attention *a = &j->p->a;
    const place *k = &j->p->key, *v = &j->p->value;
    int64_t group = a->heads / a->shared_heads, blocks = group * j->blocks;
    layout l = lay_out(a, j->kernel);
    float *packed = (float *)j->run->scratch + we_run_worker(j->run) * l.end;
    for (int64_t unit = begin; unit < end; unit++) {
        int64_t shared = unit / j->parts, part = unit % j->parts;
        int64_t batch = shared / a->shared_heads, head = shared % a->shared_heads;
        we_gemm_right keys = {.b = j->key + batch * k->batch + head * k->head,
                              .row = 1,
                              .column = k->row,
                              .n = a->keys,
                              .runs = 1,
                              .depth = a->size};
        we_gemm_right values = {.b = j->value + batch * v->batch + head * v->head,
                                .row = v->row,
                                .column = 1,
                                .n = a->value_size,
                                .runs = 1,
                                .depth = a->keys};
        we_gemm_pack(NULL, j->kernel, &keys, packed);
        we_gemm_pack(NULL, j->kernel, &values, packed + l.value);
        for (int64_t i = blocks * part / j->parts; i < blocks * (part + 1) / j->parts; i++)
            attend(j, &l, packed, batch, head * group + i / j->blocks,
                   i % j->blocks * block_rows(a, j->kernel));
    }
}

static void run_claim(const we_run *run, const we_command *command) {
    const parameters *p = command->u.claim.parameters;
    const we_attention *a = &p->a;
    int64_t heads = a->batch * a->shared_heads, wanted = UNITS_PER_THREAD * we_pool_threads(run->pool);
    job j = {.run = run,
             .p = p,
             .kernel = command->u.claim.kernel,
             .query = we_claim_in(run, command, 0),
             .key = we_claim_in(run, command, 1),
             .value = we_claim_in(run, command, 2),
             .mask = we_claim_in(run, command, 3),
             .out = we_run_out(run, command)};
    if (is_few(a))
        wanted = 1;
    j.blocks = we_panels(a->queries, block_rows(a, j.kernel));
    j.parts = run->pool && heads < wanted ? we_least(we_panels(wanted, heads), j.blocks) : 1;
    int64_t queries = a->queries * a->heads / a->shared_heads / j.parts + (is_few(a) ? 2 : PACKING);
    int64_t steps = queries * a->keys * (a->size + a->value_size);
    int64_t grain = 1 + 200000 / (steps + 1);
    if (is_few(a))
        we_parallel_for(run->pool, heads, grain, run_few, &j);
    else
        we_parallel_for(run->pool, heads * j.parts, grain, run_units, &j);
}

const we_claim_methods we_claim_attention = {
    .accept = accept,
    .cost = cost,
    .run = run_claim,
    .product = product,
    .splits = true,
    .scratch_size = scratch_size,
    .reads = 1u << 1 | 1u << 2 | 1u << 3,
};
