/* CumSum in one pass: rows that lie together side by side, columns row by row. */
#include <string.h>

#include "backend/cpu/cpu.h"

enum {
    ROWS = 8,         /* side by side, as each sum waits for the one before */
    STRIP = 128,      /* columns that a thread takes together */
    GRAIN = 16 << 10, /* elements worth handing to a thread */
};

typedef struct parameters {
    int64_t outer, n, inner; /* x is [outer, n, inner] */
    bool exclusive, reverse;
} parameters;

static bool accept(const we_call *call, we_arena *arena, const void **out) {
    const we_tensor *x = call->in[0];
    int64_t given = 0;
    int32_t count, axis = 0;
    parameters *p = we_arena_new(arena, sizeof *p);
    if (!p || x->dtype != WE_F32 || x->count == 0 || we_call_ints(call, 1, &given, 1, &count) != WE_OK ||
        we_call_axis(call, given, x->rank, &axis) != WE_OK)
        return false;
    *p = (parameters){.outer = 1,
                      .n = x->dims[axis],
                      .inner = 1,
                      .exclusive = we_node_int(call->node, "exclusive", 0) != 0,
                      .reverse = we_node_int(call->node, "reverse", 0) != 0};
    for (int32_t i = 0; i < x->rank; i++) {
        p->outer *= i < axis ? x->dims[i] : 1;
        p->inner *= i > axis ? x->dims[i] : 1;
    }
    *out = p;
    return true;
}

/* Sums that wait for each other. */
static double cost(const void *given) {
    const parameters *p = given;
    return 4.0 * (double)(p->outer * p->n * p->inner);
}

typedef struct job {
    const parameters *p;
    const float *x;
    float *y;
    we_binary_kernel add;
} job;

/* `rows` of them at once. */
static inline __attribute__((always_inline)) void sum_rows(const parameters *p, const float *x, float *y,
                                                           const int32_t rows) {
    int64_t step = p->reverse ? -1 : 1, at = p->reverse ? p->n - 1 : 0;
    float sums[ROWS] = {0};
    for (int64_t i = 0; i < p->n; i++, at += step) {
        for (int32_t row = 0; row < rows; row++) {
            float before = sums[row];
            sums[row] += x[row * p->n + at];
            y[row * p->n + at] = p->exclusive ? before : sums[row];
        }
    }
}

static void sum_along(void *context, int64_t begin, int64_t end) {
    const job *j = context;
    int64_t row = begin, n = j->p->n;
    for (; row + ROWS <= end; row += ROWS)
        sum_rows(j->p, j->x + row * n, j->y + row * n, ROWS);
    for (; row < end; row++)
        sum_rows(j->p, j->x + row * n, j->y + row * n, 1);
}

static void sum_columns(const job *j, const float *x, float *y, int64_t count) {
    const parameters *p = j->p;
    int64_t step = p->reverse ? -p->inner : p->inner, first = p->reverse ? (p->n - 1) * p->inner : 0;
    if (p->exclusive)
        memset(y + first, 0, (size_t)count * sizeof *y);
    else
        memcpy(y + first, x + first, (size_t)count * sizeof *y);
    for (int64_t i = 1; i < p->n; i++) {
        int64_t at = first + i * step;
        j->add(count, y + at - step, 1, x + (p->exclusive ? at - step : at), 1, y + at);
    }
}

static int64_t strips_of(const parameters *p) {
    return (p->inner + STRIP - 1) / STRIP;
}

static void sum_across(void *context, int64_t begin, int64_t end) {
    const job *j = context;
    int64_t strips = strips_of(j->p);
    for (int64_t i = begin; i < end; i++) {
        int64_t column = i % strips * STRIP, left = j->p->inner - column;
        int64_t at = i / strips * j->p->n * j->p->inner + column;
        sum_columns(j, j->x + at, j->y + at, left < STRIP ? left : STRIP);
    }
}

static void run_claim(const we_run *run, const we_command *command) {
    const parameters *p = command->u.claim.parameters;
    job j = {p, we_run_in(run, command, 0), we_run_out(run, command),
             run->kernels->binary[WE_BINARY_Add][WE_F32]};
    if (p->inner == 1)
        we_parallel_for(run->pool, p->outer, 1 + GRAIN / p->n, sum_along, &j);
    else
        we_parallel_for(run->pool, p->outer * strips_of(p), 1 + GRAIN / (p->n * STRIP), sum_across, &j);
}

const we_claim_methods we_claim_cum_sum = {.accept = accept, .cost = cost, .run = run_claim};
