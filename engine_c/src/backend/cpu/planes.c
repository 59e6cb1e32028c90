#include "backend/cpu/planes.h"

enum {
    MOST = 1 << 20,        /* of any extent, and of scratch for a row of outputs */
    NEAR_FLOATS = 6144,    /* of scratch, which stay in the first-level cache beside what is read */
    UNIT_STEPS = 64 << 10, /* taps worth handing to a thread: some 2 us */
};

bool we_planes_of(const we_conv *conv, const float *weights, we_planes *out) {
    const we_window *w = &conv->w;
    we_planes p = {.items = conv->items, .channels = conv->group, .bias = conv->bias};
    p.plane.weights = weights;
    for (int i = 0; i < 2; i++) {
        p.plane.in[i] = w->in[i];
        p.plane.out[i] = w->out[i];
        p.plane.taps[i] = w->kernel[i];
        p.plane.step[i] = w->stride[i];
        p.plane.dilation[i] = w->dilation[i];
        p.plane.pad[i] = w->pad_begin[i];
        if (w->kernel[i] > WE_PLANE_TAPS || w->in[i] > MOST || w->out[i] > MOST || w->stride[i] > MOST ||
            w->dilation[i] > MOST || w->pad_begin[i] > MOST)
            return false;
    }
    p.plane.width = we_plane_width(&p.plane);
    if (we_plane_scratch(&p.plane, 1) > MOST)
        return false;
    for (p.rows = 1; p.rows < w->out[0] && we_plane_scratch(&p.plane, p.rows + 1) <= NEAR_FLOATS;)
        p.rows++;
    *out = p;
    return true;
}

static int64_t scratch_floats(const we_planes *p) {
    return (we_plane_scratch(&p->plane, p->rows) + 15) / 16 * 16;
}

size_t we_planes_scratch(const we_planes *p, int32_t threads) {
    return (size_t)(scratch_floats(p) * threads) * sizeof(float);
}

typedef struct job {
    const we_run *run;
    const we_planes *p;
    we_plane_kernel kernel;
    const float *x, *residual;
    float *y;
    int64_t parts; /* of a plane */
} job;

static void work(void *context, int64_t begin, int64_t end) {
    const job *j = context;
    const we_planes *p = j->p;
    for (int64_t unit = begin; unit < end; unit++) {
        int64_t number = unit / j->parts, channel = number % p->channels, first = unit % j->parts * p->rows;
        int64_t out = number * p->plane.out[0] * p->plane.out[1];
        we_plane plane = p->plane;
        plane.first = first;
        plane.end = first + p->rows < plane.out[0] ? first + p->rows : plane.out[0];
        plane.scratch = (float *)j->run->scratch + we_run_worker(j->run) * scratch_floats(p);
        plane.weights += plane.weights ? channel * plane.taps[0] * plane.taps[1] : 0;
        plane.bias = p->bias ? p->bias[channel] : 0;
        plane.residual = j->residual ? j->residual + out : NULL;
        j->kernel(&plane, j->x + number * plane.in[0] * plane.in[1], j->y + out);
    }
}

void we_planes_run(const we_run *run, const we_planes *p, we_plane_kernel kernel, const float *x,
                   const float *residual, float *y) {
    job j = {run, p, kernel, x, residual, y, (p->plane.out[0] + p->rows - 1) / p->rows};
    int64_t seen =
        p->plane.weights ? p->plane.taps[0] * p->plane.taps[1] : p->plane.taps[0] + p->plane.taps[1];
    int64_t steps = p->rows * p->plane.out[1] * (seen + 4);
    we_parallel_for(run->pool, p->items * p->channels * j.parts, 1 + UNIT_STEPS / (steps + 1), work, &j);
}
