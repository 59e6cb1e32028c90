/* Transposed convolution without scattering: outputs whose coordinates leave the same remainder by the stride
 * (a phase) see the same taps at fixed distances, so each phase is a small convolution of its own over the
 * input, whose rows of outputs lie a stride apart. */
#include <math.h>
#include <string.h>

#include "backend/cpu/conv.h"
#include "backend/cpu/gemm.h"
#include "base/error.h"

enum {
    PACK_STEPS = 16, /* of a weight that varies */
};

/* Outputs begin + i * stride of one dim see the input at i + distance[t], for each of `count` taps. */
typedef struct phase {
    int64_t begin, outputs;
    int32_t count;
    const int32_t *taps, *distances;
} phase;

typedef struct parameters {
    we_conv conv;         /* in: the input, out: the outputs; weights are [channels, filters, taps] */
    phase *phases[2];     /* per spatial dim, as many as its stride */
    we_matmul product;    /* of one group and phase, on average */
    const float **packed; /* per phase and group; made at preparation, or by a run where weights vary */
    int64_t *places;      /* where they lie then, in floats, and all of them together */
    float *zeros;         /* a position outside the image */
} parameters;

static bool find_phases(const we_window *w, int32_t i, we_arena *arena, phase **out) {
    int64_t stride = w->stride[i];
    phase *phases = *out = we_arena_new(arena, (size_t)stride * sizeof *phases);
    for (int64_t p = 0; phases && p < stride; p++) {
        int32_t *taps = we_arena_new(arena, 2 * (size_t)w->kernel[i] * sizeof *taps);
        if (!taps)
            return false;
        int32_t *distances = taps + w->kernel[i];
        phases[p] = (phase){.begin = p, .taps = taps, .distances = distances};
        phases[p].outputs = w->out[i] > p ? (w->out[i] - p + stride - 1) / stride : 0;
        for (int64_t tap = 0; tap < w->kernel[i]; tap++) {
            int64_t distance = p + w->pad_begin[i] - tap * w->dilation[i];
            if (distance % stride != 0)
                continue;
            taps[phases[p].count] = (int32_t)tap;
            distances[phases[p].count++] = (int32_t)(distance / stride);
        }
    }
    return phases != NULL;
}

static bool accept(const we_call *call, we_arena *arena, const void **out) {
    const we_tensor *x = call->in[0], *weights = call->in[1], *bias = we_call_input(call, 2);
    we_conv c = {.group = we_node_int(call->node, "group", 1),
                 .items = x->dims[0],
                 .weights_vary = weights->kind != WE_TENSOR_CONST,
                 .bias_varies = bias && bias->kind != WE_TENSOR_CONST};
    if (x->dtype != WE_F32 || x->rank > 4 || x->count == 0 || weights->count == 0 ||
        we_call_transposed_window(call, weights->dims + 2, &c.w) != WE_OK)
        return false;
    if (c.w.rank == 1)
        we_conv_widen(&c.w);
    c.channels = weights->dims[0] / c.group;
    c.filters = weights->dims[1];
    c.positions = c.w.out[0] * c.w.out[1];
    c.weights = c.weights_vary ? NULL : weights->data;
    c.bias = bias && !c.bias_varies ? bias->data : NULL;
    int64_t phases = c.w.stride[0] * c.w.stride[1];
    parameters *p = we_arena_new(arena, sizeof *p);
    if (!p || c.positions == 0 || (c.weights_vary && we_conv_has_small_groups(&c)) || phases > c.w.taps ||
        c.w.taps > WE_TILE_RUNS * phases)
        return false;
    p->conv = c;
    p->product = (we_matmul){.m = (c.items * c.positions + phases - 1) / phases,
                             .n = c.filters,
                             .k = (c.channels * c.w.taps + phases - 1) / phases,
                             .batch_rank = 1,
                             .batch = {c.group * phases}};
    *out = p;
    return find_phases(&c.w, 0, arena, &p->phases[0]) && find_phases(&c.w, 1, arena, &p->phases[1]);
}

/* Packing weights that vary; the products are priced by the search. */
static double cost(const void *given) {
    const we_conv *c = &((const parameters *)given)->conv;
    return c->weights_vary ? PACK_STEPS * (double)(c->group * c->channels * c->filters * c->w.taps) : 0;
}

static const we_matmul *product(const void *given) {
    return &((const parameters *)given)->product;
}

/* ---- Packing ---- */

/* [taps of the phase, channels, filters] of a group. */
static void gather_filters(const we_conv *c, int64_t group, const phase *rows, const phase *columns,
                           float *to) {
    for (int32_t i = 0; i < rows->count * columns->count; i++) {
        int64_t tap = rows->taps[i / columns->count] * c->w.kernel[1] + columns->taps[i % columns->count];
        we_region turned = {.rank = 2,
                            .size = {c->channels, c->filters},
                            .src = {.stride = {c->filters * c->w.taps, c->w.taps}},
                            .dst = {.stride = {c->filters, 1}}};
        turned.src.offset = group * c->channels * c->filters * c->w.taps + tap;
        we_region_copy(&turned, sizeof *to, c->weights, to + i * c->channels * c->filters);
    }
}

/* Of a phase and group. */
static int64_t runs_of(const parameters *p, int64_t index) {
    int64_t number = index / p->conv.group, columns = p->conv.w.stride[1];
    return (int64_t)p->phases[0][number / columns].count * p->phases[1][number % columns].count;
}

static int64_t parts_count(const we_conv *c) {
    return c->w.stride[0] * c->w.stride[1] * c->group;
}

static int64_t gathered_floats(const we_conv *c) {
    return c->w.taps * c->channels * c->filters;
}

static void pack_part(we_pool *pool, const we_matmul_row *kernel, const parameters *p, int64_t index,
                      float *gathered, float *to) {
    const we_conv *c = &p->conv;
    int64_t number = index / c->group;
    gather_filters(c, index % c->group, &p->phases[0][number / c->w.stride[1]],
                   &p->phases[1][number % c->w.stride[1]], gathered);
    we_gemm_right right = {.b = gathered,
                           .run = c->channels * c->filters,
                           .row = c->filters,
                           .column = 1,
                           .n = c->filters,
                           .runs = runs_of(p, index),
                           .depth = c->channels};
    if (right.runs > 0)
        we_gemm_pack(pool, kernel, &right, to);
}

static void pack_all(we_pool *pool, const we_matmul_row *kernel, const parameters *p, float *gathered,
                     float *to, const float **packed) {
    for (int64_t i = 0; i < parts_count(&p->conv); i++) {
        pack_part(pool, kernel, p, i, gathered, to + p->places[i]);
        packed[i] = to + p->places[i];
    }
}

static we_status pack_constants(we_program *program, const we_matmul_row *kernel, parameters *p,
                                we_error *err) {
    const int64_t count = parts_count(&p->conv);
    float *to = we_arena_new(&program->arena, (size_t)p->places[count] * sizeof *to);
    float *gathered = we_memory_new((size_t)gathered_floats(&p->conv) * sizeof *gathered);
    p->packed = we_arena_new(&program->arena, (size_t)count * sizeof *p->packed);
    we_status status = to && gathered && p->packed ? WE_OK : we_error_no_memory(err);
    if (status == WE_OK)
        pack_all(program->pool, kernel, p, gathered, to, p->packed);
    we_memory_free(gathered);
    return status;
}

static we_status prepare(we_program *program, we_command *command, we_error *err) {
    parameters *p = (parameters *)command->u.claim.parameters; /* of this command alone */
    const we_conv *c = &p->conv;
    const we_matmul_row *kernel = command->u.claim.kernel;
    int64_t count = parts_count(c);
    p->places = we_arena_new(&program->arena, (size_t)(count + 1) * sizeof *p->places);
    p->zeros = we_arena_new(&program->arena, (size_t)c->channels * sizeof *p->zeros);
    if (!p->places || !p->zeros)
        return we_error_no_memory(err);
    memset(p->zeros, 0, (size_t)c->channels * sizeof *p->zeros);
    for (int64_t i = 0; i < count; i++)
        p->places[i + 1] = p->places[i] + we_gemm_packed(kernel, c->filters, runs_of(p, i) * c->channels);
    return c->weights_vary ? WE_OK : pack_constants(program, kernel, p, err);
}

/* Where weights vary: pointers, what is packed, and room to gather it. */
static size_t scratch_size(const we_program *program, const we_command *command, int32_t threads) {
    const parameters *p = command->u.claim.parameters;
    const int64_t count = parts_count(&p->conv);
    (void)program;
    (void)threads;
    return p->conv.weights_vary ? (size_t)count * sizeof *p->packed +
                                      (size_t)(p->places[count] + gathered_floats(&p->conv)) * sizeof(float)
                                : 0;
}

/* ---- Running ---- */

/* A row of outputs of one phase, as the product asks for its rows. */
typedef struct stripe {
    const parameters *p;
    const phase *rows, *columns;
    const float *image; /* of the group at work */
    int64_t row;        /* of the phase */
} stripe;

static void stripe_rows(const void *source, int64_t row, int32_t count, int64_t run, int64_t runs,
                        const float **to) {
    const stripe *s = source;
    const we_conv *c = &s->p->conv;
    for (int64_t r = 0; r < runs; r++) {
        int64_t y = s->row + s->rows->distances[(run + r) / s->columns->count];
        int64_t left = row + s->columns->distances[(run + r) % s->columns->count];
        for (int32_t i = 0; i < count; i++) {
            bool inside = y >= 0 && y < c->w.in[0] && left + i >= 0 && left + i < c->w.in[1];
            to[r * count + i] =
                inside ? s->image + (y * c->w.in[1] + left + i) * we_conv_channels_in(c) : s->p->zeros;
        }
    }
}

typedef struct job {
    const we_run *run;
    const we_command *command;
} job;

static void fill_stripe(const we_gemm *g) {
    for (int64_t i = 0; i < g->m; i++) {
        for (int64_t j = 0; j < g->n; j++) {
            float sum =
                (g->column_bias ? g->column_bias[j] : 0) + (g->residual ? g->residual[i * g->ldc + j] : 0);
            sum = sum < g->low ? g->low : sum;
            g->c[i * g->ldc + j] = sum > g->high ? g->high : sum;
        }
    }
}

static void run_stripe(const job *j, const stripe *s, int64_t item, int64_t number) {
    const parameters *p = s->p;
    const we_conv *c = &p->conv;
    int64_t pitch = we_conv_pitch(c, j->command), width = c->group * c->filters;
    int64_t position =
        (item * c->w.out[0] + s->rows->begin + s->row * c->w.stride[0]) * c->w.out[1] + s->columns->begin;
    const float *added = j->command->in[1] >= 0 ? we_run_in(j->run, j->command, 1) : NULL;
    for (int64_t g = 0; g < c->group; g++) {
        stripe own = *s;
        own.image += g * c->channels;
        we_gemm gemm = {.kernel = j->command->u.claim.kernel,
                        .m = s->columns->outputs,
                        .n = c->filters,
                        .runs = s->rows->count * s->columns->count,
                        .depth = c->channels,
                        .rows = stripe_rows,
                        .source = &own,
                        .packed = p->packed[number * c->group + g],
                        .c = we_conv_out(j->run, j->command, position * pitch + g * c->filters),
                        .ldc = c->w.stride[1] * pitch,
                        .column_bias = c->bias ? c->bias + g * c->filters : NULL,
                        .residual = added ? added + position * width + g * c->filters : NULL,
                        .low = j->command->u.claim.relu ? 0 : -INFINITY,
                        .high = j->command->u.claim.ceiling > 0 ? j->command->u.claim.ceiling : INFINITY};
        if (gemm.runs == 0)
            fill_stripe(&gemm); /* a kernel with holes: nothing falls here but the bias */
        else
            we_gemm_run(NULL, &gemm, NULL);
    }
}

/* Rows of outputs of all images, whole. */
static void run_rows(void *context, int64_t begin, int64_t end) {
    const job *j = context;
    const parameters *p = j->command->u.claim.parameters;
    const we_conv *c = &p->conv;
    const float *x = we_run_in(j->run, j->command, 0);
    for (int64_t i = begin; i < end; i++) {
        int64_t item = i / c->w.out[0], y = i % c->w.out[0], row_phase = y % c->w.stride[0];
        for (int64_t column_phase = 0; column_phase < c->w.stride[1]; column_phase++) {
            stripe s = {.p = p,
                        .rows = &p->phases[0][row_phase],
                        .columns = &p->phases[1][column_phase],
                        .image = x + item * c->w.in[0] * c->w.in[1] * we_conv_channels_in(c),
                        .row = y / c->w.stride[0]};
            if (s.columns->outputs > 0)
                run_stripe(j, &s, item, row_phase * c->w.stride[1] + column_phase);
        }
    }
}

static void run_packed(const we_run *run, const we_command *command) {
    const parameters *p = command->u.claim.parameters;
    const we_conv *c = &p->conv;
    job j = {run, command};
    int64_t steps = c->w.out[1] * c->group * c->filters * p->product.k;
    we_parallel_for(run->pool, c->items * c->w.out[0], 1 + 100000 / (steps + 1), run_rows, &j);
}

/* With what varies in the place of what was prepared. */
static void run_claim(const we_run *run, const we_command *command) {
    parameters own = *(const parameters *)command->u.claim.parameters;
    we_command packed = *command;
    if (own.conv.weights_vary) {
        const int64_t count = parts_count(&own.conv);
        own.conv.weights = we_claim_in(run, command, 1);
        own.packed = run->scratch;
        float *to = (float *)(own.packed + count);
        pack_all(run->pool, command->u.claim.kernel, &own, to + own.places[count], to, own.packed);
    }
    if (own.conv.bias_varies)
        own.conv.bias = we_claim_in(run, command, 2);
    packed.u.claim.parameters = &own;
    run_packed(run, &packed);
}

const we_claim_methods we_claim_conv_transpose = {
    .accept = accept,
    .cost = cost,
    .run = run_claim,
    .product = product,
    .prepare = prepare,
    .scratch_size = scratch_size,
    .reads_varying = 1 << 1 | 1 << 2,
    .channels_last = true,
    .places = true,
    .fuses = true,
};
