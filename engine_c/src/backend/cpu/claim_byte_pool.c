/* Pools of bytes. The largest byte stands for the largest number, and a mean is a sum that is rescaled. */
#include <string.h>

#include "backend/cpu/bytes.h"
#include "backend/cpu/conv.h"
#include "backend/cpu/gemm.h"

/* ---- The largest of each window ---- */

static bool accept_max(const we_call *call, we_arena *arena, const void **out) {
    we_conv *p = we_arena_new(arena, sizeof *p);
    *out = p;
    return p && we_pool_read_bytes(call, p);
}

static double cost_of_max(const void *given) {
    const we_conv *c = given;
    return (double)(c->items * c->positions) * (double)c->w.taps * (16 + (double)c->group / 8);
}

/* The first tap, then the larger of that and each other. Outputs that lie side by side, and whose taps do,
 * are one long one. */
static void visit(const we_run *run, const we_command *command, const we_conv_part *part) {
    const we_stretch *s = &part->stretch;
    const uint8_t *x = we_conv_at(run, command->in[0], part->x);
    uint8_t *y = we_conv_out(run, command, part->y), flip = we_byte_flip(we_conv_dtype(run, command->out));
    bool together = s->x_step == s->channels && s->y_step == s->channels;
    int64_t count = together ? 1 : s->count, n = together ? s->count * s->channels : s->channels;
    bool sees = s->rows > 0 && s->columns > 0;
    for (int64_t i = 0; i < count; i++) {
        if (sees)
            memcpy(y + i * s->y_step, x + i * s->x_step, (size_t)n);
        else
            memset(y + i * s->y_step, 0, (size_t)n);
    }
    for (int32_t tap = 1; sees && tap < s->rows * s->columns; tap++) {
        const uint8_t *seen = x + tap / s->columns * s->x_row + tap % s->columns * s->x_column;
        run->kernels->byte_rows.largest(n, count, flip, seen, s->x_step, y, s->y_step);
    }
}

static void run_max(const we_run *run, const we_command *command) {
    we_conv_each_part(run, command, command->u.claim.parameters, visit);
}

const we_claim_methods we_claim_byte_max_pool = {
    .accept = accept_max,
    .cost = cost_of_max,
    .run = run_max,
    .channels_last = true,
    .places = true,
};

/* ---- The mean of each image ---- */

enum { STRIP = 256 }; /* channels summed at once */

typedef struct mean {
    int64_t items, channels, positions;
    int32_t zero;
    uint8_t flip;
    float factor;
    we_byte_range range;
} mean;

static bool accept_mean(const we_call *call, we_arena *arena, const void **out) {
    const we_tensor *x = call->in[0];
    mean *p = we_arena_new(arena, sizeof *p);
    float scale, y_scale;
    if (!p || x->count == 0 || !we_byte_number(call, 1, &scale) || !we_byte_zero(call, 2, &p->zero) ||
        !we_byte_number(call, 3, &y_scale) || !we_byte_read_range(call, 3, 4, &p->range))
        return false;
    p->items = x->dims[0];
    p->channels = x->dims[1];
    p->positions = x->count / p->items / p->channels;
    p->flip = we_byte_flip(x->dtype);
    p->zero += p->flip;
    p->factor = scale / y_scale / (float)p->positions;
    *out = p;
    return true;
}

static double cost_of_mean(const void *given) {
    const mean *p = given;
    return (double)(p->items * p->channels * p->positions) / 2;
}

typedef struct job {
    const mean *p;
    const we_run *run;
    const uint8_t *x;
    uint8_t *y;
} job;

static void run_strips(void *context, int64_t begin, int64_t end) {
    const job *j = context;
    const mean *p = j->p;
    const we_byte_rows *rows = &j->run->kernels->byte_rows;
    int64_t strips = we_panels(p->channels, STRIP);
    for (int64_t i = begin; i < end; i++) {
        int32_t sums[STRIP];
        int64_t item = i / strips, first = i % strips * STRIP, count = we_least(STRIP, p->channels - first);
        for (int64_t c = 0; c < count; c++)
            sums[c] = (int32_t)-(p->positions * p->zero);
        rows->sum(count, p->positions, p->channels, p->flip, j->x + item * p->positions * p->channels + first,
                  sums);
        rows->requantise(count, p->factor, &p->range, sums, j->y + item * p->channels + first);
    }
}

static void run_mean(const we_run *run, const we_command *command) {
    const mean *p = command->u.claim.parameters;
    job j = {p, run, we_run_in(run, command, 0), we_run_out(run, command)};
    we_parallel_for(run->pool, p->items * we_panels(p->channels, STRIP), 1 + 65536 / (STRIP * p->positions),
                    run_strips, &j);
}

const we_claim_methods we_claim_byte_mean = {
    .accept = accept_mean,
    .cost = cost_of_mean,
    .run = run_mean,
    .channels_last = true,
};
