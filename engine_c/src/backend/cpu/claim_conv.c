/* Convolution as one product without the matrix of patches: filters are packed once, and patches are packed
 * straight from the stored images while the product runs. The columns of a whole chunk of images form one
 * matrix, so small images fill tiles as well as large ones. */
#include <string.h>

#include "backend/cpu/conv.h"
#include "backend/cpu/gemm.h"
#include "kernels/pack/pack.h"

enum {
    CHUNK_COLUMNS = 4096, /* columns of images that are stored and multiplied together */
    LARGEST_PANEL = 128,
};

typedef struct parameters {
    we_conv conv;
    we_matmul product;      /* of one group */
    const int32_t *offsets; /* per row of the patches: from the start of a stored image of the group */
    float *packed;          /* filters, group by group; made at preparation */
} parameters;

static int64_t chunk_items(const we_conv *c) {
    int64_t items = we_least(we_panels(CHUNK_COLUMNS, c->positions), c->items);
    int64_t most = INT32_MAX / (c->group * c->channels * c->plane); /* runs count in 32 bits */
    return we_least(items, most);
}

static const int32_t *row_offsets(const we_conv *c, we_arena *arena) {
    int32_t *offsets = we_arena_new(arena, (size_t)(c->channels * c->w.taps) * sizeof *offsets),
            *to = offsets;
    for (int64_t channel = 0; offsets && channel < c->channels; channel++) {
        for (int64_t i = 0; i < c->w.kernel[0]; i++) {
            for (int64_t j = 0; j < c->w.kernel[1]; j++)
                *to++ = (int32_t)(channel * c->plane + we_conv_tap(c, i, j));
        }
    }
    return offsets;
}

static bool accept(const we_call *call, we_arena *arena, const void **out) {
    we_conv conv;
    if (!we_conv_read(call, &conv))
        return false;
    parameters *p = we_arena_new(arena, sizeof *p);
    if (!p || !(p->offsets = row_offsets(&conv, arena)))
        return false;
    p->conv = conv;
    p->product = (we_matmul){.m = conv.filters,
                             .n = conv.items * conv.positions,
                             .k = conv.channels * conv.w.taps,
                             .batch_rank = 1,
                             .batch = {conv.group}};
    *out = p;
    return true;
}

/* Storing the images; the product is priced by the search. */
static double cost(const void *given) {
    const we_conv *c = &((const parameters *)given)->conv;
    return c->stored ? (double)(c->items * c->group * c->channels * c->plane) : 0;
}

static const we_matmul *product(const void *given) {
    return &((const parameters *)given)->product;
}

static we_status prepare(we_program *program, we_command *command, we_error *err) {
    parameters *p = (parameters *)command->u.claim.parameters; /* of this command alone */
    int64_t rows = command->u.claim.kernel->rows, each = we_gemm_packed(p->product.m, rows, p->product.k);
    p->packed = we_arena_new(&program->arena, (size_t)(each * p->conv.group) * sizeof *p->packed);
    if (!p->packed)
        return we_error_no_memory(err);
    for (int64_t g = 0; g < p->conv.group; g++)
        we_gemm_pack(NULL, p->conv.weights + g * p->product.m * p->product.k, p->product.k, 1, p->product.m,
                     rows, p->product.k, p->packed + g * each);
    return WE_OK;
}

static int64_t stored_floats(const we_conv *c) {
    return c->stored ? chunk_items(c) * c->group * c->channels * c->plane + WE_CONV_SLACK : 0;
}

static size_t scratch_size(const we_program *program, const we_command *command, int32_t threads) {
    const parameters *p = command->u.claim.parameters;
    (void)program;
    return (size_t)stored_floats(&p->conv) * sizeof(float) +
           we_gemm_scratch(command->u.claim.kernel, chunk_items(&p->conv) * p->conv.positions, p->product.k,
                           threads);
}

/* ---- Running ---- */

typedef struct chunk {
    const parameters *p;
    const float *x; /* the first image of the chunk */
    float *stored;
    const float *images; /* stored, or x itself; of the group at work */
    int64_t columns;     /* of the kernel's tile */
} chunk;

static void store_planes(void *context, int64_t begin, int64_t end) {
    const chunk *k = context;
    const we_conv *c = &k->p->conv;
    for (int64_t plane = begin; plane < end; plane++)
        we_conv_store(c, k->x + plane * c->w.in[0] * c->w.in[1], 0, k->stored + plane * c->plane);
}

/* The stretches of output rows that `count` columns from `column` on are made of. */
static int32_t list_runs(const we_conv *c, int64_t column, int64_t count, we_pack_run *runs) {
    int64_t image = c->group * c->channels * c->plane, width = c->stored ? c->w.out[1] : c->positions;
    int32_t found = 0;
    for (int64_t done = 0; done < count; found++) {
        int64_t position = (column + done) % c->positions, at = position % width;
        int64_t run = we_least(count - done, width - at);
        runs[found] = (we_pack_run){.from = (int32_t)((column + done) / c->positions * image +
                                                      position / width * we_conv_row_step(c) + at),
                                    .to = (int32_t)done,
                                    .count = (int32_t)run};
        done += run;
    }
    return found;
}

static void pack_patches(const void *source, int64_t column, int64_t count, int64_t at, int64_t depth,
                         float *to) {
    const chunk *k = source;
    we_pack_run runs[LARGEST_PANEL];
    int32_t found = list_runs(&k->p->conv, column, count, runs);
    if (count < k->columns)
        memset(to, 0, (size_t)(k->columns * depth) * sizeof *to);
    we_pack_runs(k->images, k->p->offsets + at, depth, runs, found, k->columns, !k->p->conv.stored, to);
}

static void run_group(const we_run *run, const we_command *command, chunk *k, we_gemm *gemm, int64_t g) {
    const we_conv *c = &k->p->conv;
    int64_t first = g * c->filters * c->positions;
    we_gemm own = *gemm;
    k->images = (c->stored ? k->stored : k->x) + g * c->channels * c->plane;
    own.a = k->p->packed + g * we_gemm_packed(own.m, own.kernel->rows, own.k);
    own.c += first;
    own.epilogue.relu = command->u.claim.relu;
    own.epilogue.ceiling = command->u.claim.ceiling;
    own.epilogue.row_bias = c->bias ? c->bias + g * c->filters : NULL;
    own.epilogue.residual += own.epilogue.residual ? first : 0;
    we_gemm_run(run->pool, &own);
}

static void run_chunk(const we_run *run, const we_command *command, int64_t begin, int64_t items) {
    const parameters *p = command->u.claim.parameters;
    const we_conv *c = &p->conv;
    int64_t planes = c->group * c->channels, image_out = c->group * c->filters * c->positions;
    const float *residual = command->in[1] >= 0 ? we_run_in(run, command, 1) : NULL;
    chunk k = {.p = p,
               .x = (const float *)we_run_in(run, command, 0) + begin * planes * c->w.in[0] * c->w.in[1],
               .stored = run->scratch,
               .columns = command->u.claim.kernel->columns};
    if (c->stored)
        we_parallel_for(run->pool, items * planes, 1 + 8192 / c->plane, store_planes, &k);
    we_gemm gemm = {.kernel = command->u.claim.kernel,
                    .m = p->product.m,
                    .n = items * c->positions,
                    .k = p->product.k,
                    .pack = pack_patches,
                    .source = &k,
                    .scratch = (float *)run->scratch + stored_floats(c),
                    .c = (float *)we_run_out(run, command) + begin * image_out,
                    .ldc = c->positions,
                    .item = c->positions,
                    .item_step = image_out,
                    .epilogue = {.residual = residual ? residual + begin * image_out : NULL}};
    for (int64_t g = 0; g < c->group; g++)
        run_group(run, command, &k, &gemm, g);
}

static void run_claim(const we_run *run, const we_command *command) {
    const we_conv *c = &((const parameters *)command->u.claim.parameters)->conv;
    int64_t each = chunk_items(c);
    for (int64_t begin = 0; begin < c->items; begin += each)
        run_chunk(run, command, begin, we_least(each, c->items - begin));
}

const we_claim_methods we_claim_conv = {
    .accept = accept,
    .cost = cost,
    .run = run_claim,
    .product = product,
    .prepare = prepare,
    .scratch_size = scratch_size,
    .fuses = true,
};
