/* What is done with every element by itself: to bytes, from bytes, and sums of two. Either layout will do, so
 * each has a row for both. */
#include "backend/cpu/bytes.h"

enum {
    GRAIN = 16384, /* elements worth handing to a thread */
    IMAGE_RANK = 3,
};

typedef struct parameters {
    int64_t count;
    float scale;
    int32_t zero; /* of what is read, as the kernel takes it */
    uint8_t flip;
    we_byte_range range;
    we_byte_sum sum;
} parameters;

static parameters *new_parameters(const we_call *call, we_arena *arena, const void **out) {
    parameters *p = we_arena_new(arena, sizeof *p);
    if (p)
        p->count = call->in[0]->count;
    *out = p;
    return p;
}

typedef struct job {
    const parameters *p;
    const we_byte_rows *rows;
    const void *in[2];
    void *out;
} job;

static void share(const we_run *run, const we_command *command, we_pool_work work) {
    const parameters *p = command->u.claim.parameters;
    job j = {.p = p, .rows = &run->kernels->byte_rows, .out = we_run_out(run, command)};
    for (int32_t i = 0; i < 2 && command->in[i] >= 0; i++)
        j.in[i] = we_run_in(run, command, i);
    we_parallel_for(run->pool, p->count, GRAIN, work, &j);
}

static bool is_image(const we_call *call) {
    return call->in[0]->rank >= IMAGE_RANK;
}

/* ---- To bytes ---- */

static bool accept_quantise(const we_call *call, we_arena *arena, const void **out) {
    parameters *p = new_parameters(call, arena, out);
    const we_tensor *zero = we_call_input(call, 2);
    const char *precision = we_node_string(call->node, "precision", NULL);
    bool bytes = zero ? we_is_byte(zero) : !we_node_attr(call->node, "output_dtype");
    return p && bytes && !precision && call->in[0]->dtype == WE_F32 &&
           we_node_int(call->node, "block_size", 0) == 0 && we_byte_number(call, 1, &p->scale) &&
           we_byte_read_range(call, 1, 2, &p->range);
}

static bool accept_quantise_last(const we_call *call, we_arena *arena, const void **out) {
    return is_image(call) && accept_quantise(call, arena, out);
}

static double cost_of_quantise(const void *given) {
    return 2 * (double)((const parameters *)given)->count;
}

static void quantise(void *context, int64_t begin, int64_t end) {
    const job *j = context;
    j->rows->quantise(end - begin, j->p->scale, &j->p->range, (const float *)j->in[0] + begin,
                      (uint8_t *)j->out + begin);
}

static void run_quantise(const we_run *run, const we_command *command) {
    share(run, command, quantise);
}

const we_claim_methods we_claim_quantise = {
    .accept = accept_quantise,
    .cost = cost_of_quantise,
    .run = run_quantise,
};
const we_claim_methods we_claim_quantise_last = {
    .accept = accept_quantise_last,
    .cost = cost_of_quantise,
    .run = run_quantise,
    .channels_last = true,
};

/* ---- From bytes ---- */

static bool accept_dequantise(const we_call *call, we_arena *arena, const void **out) {
    parameters *p = new_parameters(call, arena, out);
    if (!p || !we_is_byte(call->in[0]) || we_node_attr(call->node, "output_dtype") ||
        we_node_int(call->node, "block_size", 0) != 0 || !we_byte_number(call, 1, &p->scale) ||
        !we_byte_zero(call, 2, &p->zero))
        return false;
    p->flip = we_byte_flip(call->in[0]->dtype);
    p->zero += p->flip;
    return true;
}

static bool accept_dequantise_last(const we_call *call, we_arena *arena, const void **out) {
    return is_image(call) && accept_dequantise(call, arena, out);
}

static double cost_of_dequantise(const void *given) {
    return (double)((const parameters *)given)->count;
}

static void dequantise(void *context, int64_t begin, int64_t end) {
    const job *j = context;
    j->rows->dequantise(end - begin, j->p->zero, j->p->flip, j->p->scale, (const uint8_t *)j->in[0] + begin,
                        (float *)j->out + begin);
}

static void run_dequantise(const we_run *run, const we_command *command) {
    share(run, command, dequantise);
}

const we_claim_methods we_claim_dequantise = {
    .accept = accept_dequantise,
    .cost = cost_of_dequantise,
    .run = run_dequantise,
};
const we_claim_methods we_claim_dequantise_last = {
    .accept = accept_dequantise_last,
    .cost = cost_of_dequantise,
    .run = run_dequantise,
    .channels_last = true,
};

/* ---- Sums ---- */

enum { B = 3 }; /* the node input that is the other image */

static bool is_alike(const we_tensor *a, const we_tensor *b) {
    bool alike = a->rank == b->rank;
    for (int32_t i = 0; alike && i < a->rank; i++)
        alike = a->dims[i] == b->dims[i];
    return alike;
}

/* One operand of a sum: its factor, and its zero as the kernel takes it. */
static bool read_operand(const we_call *call, int32_t at, float y_scale, int32_t *zero, uint8_t *flip,
                         float *factor) {
    if (!we_byte_number(call, at + 1, factor) || !we_byte_zero(call, at + 2, zero))
        return false;
    *factor /= y_scale;
    *flip = we_byte_flip(call->in[at]->dtype);
    *zero += *flip;
    return true;
}

static bool accept_add(const we_call *call, we_arena *arena, const void **out) {
    parameters *p = new_parameters(call, arena, out);
    float y_scale;
    if (!p || !is_alike(call->in[0], call->in[B]) || !we_byte_number(call, 6, &y_scale) ||
        !we_byte_read_range(call, 6, 7, &p->sum.range))
        return false;
    we_byte_sum *s = &p->sum;
    return read_operand(call, 0, y_scale, &s->a_zero, &s->a_flip, &s->a_factor) &&
           read_operand(call, B, y_scale, &s->b_zero, &s->b_flip, &s->b_factor);
}

static bool accept_add_last(const we_call *call, we_arena *arena, const void **out) {
    return is_image(call) && accept_add(call, arena, out);
}

static double cost_of_add(const void *given) {
    return 2 * (double)((const parameters *)given)->count;
}

static const we_byte_sum *byte_sum(const void *given) {
    return &((const parameters *)given)->sum;
}

static void add(void *context, int64_t begin, int64_t end) {
    const job *j = context;
    j->rows->add(end - begin, &j->p->sum, (const uint8_t *)j->in[0] + begin,
                 (const uint8_t *)j->in[1] + begin, (uint8_t *)j->out + begin);
}

static void run_add(const we_run *run, const we_command *command) {
    share(run, command, add);
}

const we_claim_methods we_claim_byte_add = {
    .accept = accept_add,
    .cost = cost_of_add,
    .run = run_add,
    .second = B,
    .byte_sum = byte_sum,
};
const we_claim_methods we_claim_byte_add_last = {
    .accept = accept_add_last,
    .cost = cost_of_add,
    .run = run_add,
    .second = B,
    .byte_sum = byte_sum,
    .channels_last = true,
};
