/* Convolution as a product: filters times the patches that positions see. Patches are read from the image as
 * the product goes; a filter of one tap sees the image itself, whose positions lie together. */
#include "backend/opencl/product.h"
#include "backend/opencl/tune.h"
#include "backend/opencl/window.h"

typedef struct parameters {
    we_conv conv;
    we_opencl_product product; /* but for places */
    const int32_t *taps;       /* [k][2]: offset in the image, row << 16 | column; NULL where there is one */
} parameters;

static bool is_pointwise(const we_conv *c) {
    const we_window *w = &c->w;
    return w->taps == 1 && w->stride[0] == 1 && w->stride[1] == 1 && w->out[0] == w->in[0] &&
           w->out[1] == w->in[1] && w->pad_begin[0] == 0 && w->pad_begin[1] == 0;
}

static const int32_t *make_taps(const we_conv *c, we_arena *arena) {
    const we_window *w = &c->w;
    int32_t *taps = we_arena_new(arena, (size_t)(c->channels * w->taps * 2) * sizeof *taps), *at = taps;
    for (int64_t channel = 0; taps && channel < c->channels; channel++) {
        for (int64_t tap = 0; tap < w->taps; tap++) {
            int64_t y = tap / w->kernel[1] * w->dilation[0], x = tap % w->kernel[1] * w->dilation[1];
            *at++ = (int32_t)((channel * w->in[0] + y) * w->in[1] + x);
            *at++ = (int32_t)(y << 16 | x);
        }
    }
    return taps;
}

/* Positions of all images are the columns. */
static void of_patches(const we_conv *c, we_opencl_product *q) {
    const we_window *w = &c->w;
    q->p.n = c->items * c->positions;
    q->p.batch_rank = 1;
    q->p.batch[0] = c->group;
    q->p.a_batch[0] = c->filters * q->p.k;
    q->p.b_batch[0] = c->channels * w->in[0] * w->in[1];
    q->read_b = WE_READ_PATCHES;
    q->out_images = true;
    q->positions = c->positions;
    q->image = (we_opencl_image){.height = (int32_t)w->in[0],
                                 .width = (int32_t)w->in[1],
                                 .out_width = (int32_t)w->out[1],
                                 .stride_y = (int32_t)w->stride[0],
                                 .stride_x = (int32_t)w->stride[1],
                                 .pad_y = (int32_t)w->pad_begin[0],
                                 .pad_x = (int32_t)w->pad_begin[1],
                                 .item = (int32_t)(c->group * c->channels * w->in[0] * w->in[1])};
}

static void of_points(const we_conv *c, we_opencl_product *q) {
    q->p.n = c->positions;
    q->p.batch_rank = 2;
    q->p.batch[0] = c->items;
    q->p.batch[1] = c->group;
    q->p.a_batch[1] = c->filters * q->p.k;
    q->p.b_batch[1] = c->channels * c->positions;
    q->p.b_batch[0] = c->group * q->p.b_batch[1];
    q->p.b_row = c->positions;
    q->p.b_column = 1;
}

static bool accept(const we_call *call, we_arena *arena, const void **out) {
    parameters *p = we_arena_new(arena, sizeof *p);
    we_opencl_window window;
    if (!p || !we_conv_read(call, &p->conv) || !we_opencl_window_of(&p->conv, &window) ||
        p->conv.channels == 0)
        return false;
    const we_conv *c = &p->conv;
    we_matmul *m = &p->product.p;
    m->m = c->filters;
    m->k = c->channels * c->w.taps;
    m->a_row = m->k;
    m->a_column = 1;
    m->bias = c->bias ? WE_BIAS_ROW : WE_BIAS_NONE;
    m->period = c->group * c->filters;
    if (is_pointwise(c))
        of_points(c, &p->product);
    else
        of_patches(c, &p->product);
    p->taps = is_pointwise(c) ? NULL : make_taps(c, arena);
    *out = p;
    return (is_pointwise(c) || p->taps) && we_opencl_takes_matmul(m);
}

static we_work work(const void *given) {
    const parameters *p = given;
    const we_matmul *m = &p->product.p;
    double batch = 1;
    for (int32_t i = 0; i < m->batch_rank; i++)
        batch *= (double)m->batch[i];
    return (we_work){batch * (double)m->m * (double)m->n * (double)m->k, we_opencl_window_bytes(&p->conv), 1};
}

static void record(we_recorder *r, const we_command *c) {
    const parameters *p = c->u.claim.parameters;
    const we_conv *conv = &p->conv;
    we_opencl_product q = p->product;
    int64_t filters = conv->group * conv->filters;
    q.a = we_record_weights(r, conv->weights, filters * q.p.k, &q.a_form);
    q.b = we_record_spot_of(r, c->in[0]);
    q.b_form = r->program->tensors[c->in[0]].dtype;
    q.c = we_record_spot_of(r, c->out);
    q.c_form = r->program->tensors[c->out].dtype;
    if (conv->bias)
        q.bias = we_record_constant(r, conv->bias, (size_t)filters * sizeof(float));
    if (c->in[1] >= 0) {
        q.residual = we_record_spot_of(r, c->in[1]);
        q.residual_form = r->program->tensors[c->in[1]].dtype;
    }
    if (p->taps)
        q.taps = we_record_constant(r, p->taps, (size_t)q.p.k * 2 * sizeof *p->taps);
    q.p.relu = c->u.claim.relu;
    q.ceiling = c->u.claim.ceiling;
    we_opencl_product_settle(&q);
    const we_opencl_cut cut = we_opencl_tuned(r, &q);
    we_opencl_product_record(r, &q, &cut);
}

const we_claim_methods we_claim_tiled_conv = {
    .accept = accept, .work = work, .record = record, .narrows = we_opencl_narrows, .fuses = true};
