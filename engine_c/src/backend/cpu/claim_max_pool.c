/* Largest of each window read in place, without lining up the taps in memory first. */
#include <math.h>

#include "backend/cpu/cpu.h"

typedef struct parameters {
    int64_t planes;
    we_window w;
} parameters;

/* Float32 over one or two spatial dims, the values alone. */
static bool accept(const we_call *call, we_arena *arena, const void **out) {
    const we_tensor *x = call->in[0];
    we_window w;
    if (call->node->output_count > 1 || x->dtype != WE_F32 || x->rank > 4 || x->count == 0 || we_call_window(call, NULL, &w) != WE_OK)
        return false;
    if (w.rank == 1) { /* a plane of one row */
        w.kernel[1] = w.kernel[0], w.stride[1] = w.stride[0], w.dilation[1] = w.dilation[0];
        w.pad_begin[1] = w.pad_begin[0], w.in[1] = w.in[0], w.out[1] = w.out[0];
        w.kernel[0] = w.stride[0] = w.dilation[0] = w.in[0] = w.out[0] = 1;
        w.pad_begin[0] = 0;
    }
    parameters *p = we_arena_new(arena, sizeof *p);
    if (!p)
        return false;
    p->planes = x->dims[0] * x->dims[1];
    p->w = w;
    *out = p;
    return true;
}

static double cost(const void *given) {
    const parameters *p = given;
    return (double)(p->planes * p->w.out[0] * p->w.out[1] * p->w.taps);
}

typedef struct job {
    const parameters *p;
    const float *x;
    float *y;
} job;

static float window_max(const we_window *w, const float *x, int64_t top, int64_t left) {
    float most = -INFINITY;
    for (int64_t i = 0; i < w->kernel[0]; i++) {
        int64_t row = top + i * w->dilation[0];
        if (row < 0 || row >= w->in[0])
            continue;
        for (int64_t j = 0; j < w->kernel[1]; j++) {
            int64_t column = left + j * w->dilation[1];
            if (column < 0 || column >= w->in[1])
                continue;
            float value = x[row * w->in[1] + column];
            most = value > most || value != value ? value : most;
        }
    }
    return most;
}

static void planes(void *context, int64_t begin, int64_t end) {
    const job *job = context;
    const we_window *w = &job->p->w;
    for (int64_t plane = begin; plane < end; plane++) {
        const float *x = job->x + plane * w->in[0] * w->in[1];
        float *y = job->y + plane * w->out[0] * w->out[1];
        for (int64_t i = 0; i < w->out[0]; i++) {
            for (int64_t j = 0; j < w->out[1]; j++)
                y[i * w->out[1] + j] =
                    window_max(w, x, i * w->stride[0] - w->pad_begin[0], j * w->stride[1] - w->pad_begin[1]);
        }
    }
}

static void run_claim(const we_run *run, const we_command *command) {
    const parameters *p = command->u.claim.parameters;
    job j = {p, we_run_in(run, command, 0), we_run_out(run, command)};
    we_parallel_for(run->pool, p->planes, 1 + 16384 / (p->w.out[0] * p->w.out[1] * p->w.taps), planes, &j);
}

const we_claim_methods we_claim_max_pool = {.accept = accept, .cost = cost, .run = run_claim};
