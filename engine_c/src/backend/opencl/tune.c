/* Candidates are timed on a buffer of zeros that is laid out like the product's operands. A line of the file
 * of a device is `KEY tile splits`; lines that make no sense are passed over. */
#include "backend/opencl/tune.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/opencl/play.h"
#include "backend/opencl/programs.h"
#include "base/clock.h"
#include "base/error.h"

enum {
    KEY_BYTES = 256,
    LAUNCHES = 5, /* between two waits */
    TURNS = 3,
    APART = 256,
};
static const double WORTH = 3; /* times the model's best: what the model thinks slower is not timed */

struct we_opencl_tuning {
    we_opencl_tuning *next;
    char key[KEY_BYTES];
    int32_t tile, splits;
};

/* ---- What is known ---- */

/* All that the time of a product depends on, without spaces. */
static void key_of(const we_opencl_product *q, char key[KEY_BYTES]) {
    const we_matmul *p = &q->p;
    int64_t batch = 1;
    for (int32_t i = 0; i < p->batch_rank; i++)
        batch *= p->batch[i];
    snprintf(key, KEY_BYTES, "%lldx%lldx%lldx%lld:%d%d%d:%dx%d:%dx%d:%s-%s-%s-%s", (long long)p->m,
             (long long)p->n, (long long)p->k, (long long)batch, (int)q->read_a, (int)q->read_b,
             q->out_images, (int)q->image.height, (int)q->image.width, (int)q->image.stride_y,
             (int)q->image.out_width, we_dtype_name(q->a_form), we_dtype_name(q->b_form),
             we_dtype_name(q->c_form), we_dtype_name(q->residual_form));
}

static we_opencl_tuning *find(we_opencl_device *d, const char *key) {
    we_opencl_tuning *t = d->tunings;
    while (t && strcmp(t->key, key) != 0)
        t = t->next;
    return t;
}

static void know(we_opencl_device *d, const char *key, int32_t tile, int32_t splits) {
    we_opencl_tuning *t = we_memory_new(sizeof *t);
    if (!t)
        return;
    snprintf(t->key, sizeof t->key, "%s", key);
    t->tile = tile;
    t->splits = splits;
    t->next = d->tunings;
    d->tunings = t;
}

static void load(we_opencl_device *d) {
    char path[WE_OPENCL_PATH], key[KEY_BYTES];
    int tile, splits;
    d->tunings_read = true;
    FILE *file = we_opencl_kept_path(d, "tuned", path) ? fopen(path, "r") : NULL;
    while (file && fscanf(file, "%255s %d %d", key, &tile, &splits) == 3) {
        if (we_opencl_has_cut(d, tile, splits))
            know(d, key, tile, splits);
    }
    if (file)
        fclose(file);
}

/* Appended in one write, so that lines of several processes stay whole. */
static void save(const we_opencl_device *d, const char *key, int32_t tile, int32_t splits) {
    char path[WE_OPENCL_PATH], line[KEY_BYTES + 32];
    FILE *file = we_opencl_kept_path(d, "tuned", path) ? fopen(path, "a") : NULL;
    if (!file)
        return;
    snprintf(line, sizeof line, "%s %d %d\n", key, (int)tile, (int)splits);
    fputs(line, file);
    fclose(file);
}

/* ---- Timing ---- */

typedef struct layout {
    we_opencl_product product; /* in the buffer */
    int64_t bytes, scratch_at;
} layout;

static we_spot reserve(layout *l, int64_t bytes) {
    we_spot spot = {WE_SPACE_WORK, l->bytes};
    l->bytes += (bytes + APART - 1) / APART * APART;
    return spot;
}

/* Floats from the first to the last that an operand has. */
static int64_t span(const we_matmul *p, const int64_t *batch, int64_t across, int64_t across_step,
                    int64_t k_step) {
    int64_t last = (across - 1) * across_step + (p->k - 1) * k_step;
    for (int32_t i = 0; i < p->batch_rank; i++)
        last += (p->batch[i] - 1) * batch[i];
    return last + 1;
}

static layout lay_out(const we_opencl_product *q) {
    layout l = {.product = *q};
    const we_matmul *p = &q->p;
    int64_t batch = 1, width = (int64_t)sizeof(float); /* at most */
    for (int32_t i = 0; i < p->batch_rank; i++)
        batch *= p->batch[i];
    bool patches = q->read_b == WE_READ_PATCHES;
    int64_t images = patches ? p->n / q->positions * q->image.item : 0;
    l.product.a = reserve(&l, width * span(p, p->a_batch, p->m, p->a_row, p->a_column));
    l.product.b = reserve(&l, width * (patches ? images : span(p, p->b_batch, p->n, p->b_column, p->b_row)));
    l.product.c = reserve(&l, width * batch * p->m * p->n);
    if (q->taps.space != WE_SPACE_NONE)
        l.product.taps = reserve(&l, p->k * 2 * (int64_t)sizeof(int32_t));
    if (q->bias.space != WE_SPACE_NONE)
        l.product.bias = reserve(&l, width * (p->bias == WE_BIAS_COLUMN ? p->n : p->period));
    if (q->residual.space != WE_SPACE_NONE)
        l.product.residual = reserve(&l, width * batch * p->m * p->n);
    l.scratch_at = l.bytes;
    l.bytes += width * batch * p->m * p->n * WE_OPENCL_SPLITS;
    return l;
}

typedef struct bench {
    we_opencl_device *device;
    void *queue, *work;
} bench;

static int32_t play(const bench *b, const we_tape *tape) {
    int32_t code = 0;
    pthread_mutex_lock(&b->device->lock);
    for (size_t i = 0; i < tape->launch_count && code == 0; i++)
        code = we_opencl_launch(b->device, tape, &tape->launches[i], b->queue, b->work, b->work);
    pthread_mutex_unlock(&b->device->lock);
    return code;
}

static double time_tape(const bench *b, const we_tape *tape) {
    const we_cl *cl = b->device->cl;
    double best = INFINITY;
    if (play(b, tape) != 0 || cl->Finish(b->queue) != 0)
        return INFINITY;
    for (int turn = 0; turn < TURNS; turn++) {
        double start = we_clock_now_s();
        for (int i = 0; i < LAUNCHES; i++) {
            if (play(b, tape) != 0)
                return INFINITY;
        }
        if (cl->Finish(b->queue) != 0)
            return INFINITY;
        best = fmin(best, (we_clock_now_s() - start) * 1e9 / LAUNCHES);
    }
    return best;
}

static double time_cut(const we_recorder *r, const bench *b, const layout *l, const we_opencl_cut *cut) {
    we_tape tape = {0};
    we_recorder own = {
        .device = r->device, .parameters = r->parameters, .tape = &tape, .scratch_at = l->scratch_at};
    we_opencl_product_record(&own, &l->product, cut);
    double ns = own.status == WE_OK ? time_tape(b, &tape) : INFINITY;
    we_tape_free(&tape);
    return ns;
}

static we_opencl_cut fastest(const we_recorder *r, const bench *b, const layout *l, we_opencl_cut best) {
    double limit = WORTH * best.ns;
    we_opencl_cut cut;
    best.ns = INFINITY;
    for (size_t i = 0; we_opencl_nth_cut(r->device, &r->parameters, &l->product, i, &cut); i++) {
        if (!(cut.ns <= limit) || (best.ns < INFINITY && we_clock_now_s() >= r->tune_until_s))
            continue;
        cut.ns = time_cut(r, b, l, &cut);
        best = cut.ns < best.ns ? cut : best;
    }
    return best;
}

/* Zeros, so that patches stay inside the image. */
static bool open_bench(const layout *l, bench *b) {
    const we_cl *cl = b->device->cl;
    int32_t code;
    void *zeros = we_memory_new((size_t)l->scratch_at);
    b->queue = cl->CreateCommandQueue(b->device->context, b->device->id, 0, &code);
    b->work = cl->CreateBuffer(b->device->context, WE_CL_MEM_READ_WRITE, (size_t)l->bytes, NULL, &code);
    bool open =
        zeros && b->queue && b->work &&
        cl->EnqueueWriteBuffer(b->queue, b->work, 1, 0, (size_t)l->scratch_at, zeros, 0, NULL, NULL) == 0;
    we_memory_free(zeros);
    return open;
}

static void close_bench(const bench *b) {
    if (b->work)
        b->device->cl->ReleaseMemObject(b->work);
    if (b->queue)
        b->device->cl->ReleaseCommandQueue(b->queue);
}

static we_opencl_cut tune(const we_recorder *r, const we_opencl_product *q, we_opencl_cut predicted) {
    layout l = lay_out(q);
    bench b = {.device = r->device};
    we_opencl_cut best = {.ns = INFINITY};
    if ((uint64_t)l.bytes <= r->device->most_bytes && open_bench(&l, &b))
        best = fastest(r, &b, &l, predicted);
    close_bench(&b);
    return best;
}

we_opencl_cut we_opencl_tuned(we_recorder *r, const we_opencl_product *q) {
    char key[KEY_BYTES];
    we_opencl_device *d = r->device;
    we_opencl_cut cut = we_opencl_cut_of(d, &r->parameters, q);
    key_of(q, key);
    pthread_mutex_lock(&d->tuning_lock);
    if (!d->tunings_read)
        load(d);
    const we_opencl_tuning *known = find(d, key);
    if (known) {
        cut = we_opencl_cut_at(known->tile, known->splits);
    } else if (we_clock_now_s() < r->tune_until_s) {
        we_opencl_cut timed = tune(r, q, cut);
        if (timed.ns < INFINITY) {
            cut = timed;
            know(d, key, we_opencl_tile_number(cut.tile), cut.splits);
            save(d, key, we_opencl_tile_number(cut.tile), cut.splits);
        }
    }
    pthread_mutex_unlock(&d->tuning_lock);
    return cut;
}
