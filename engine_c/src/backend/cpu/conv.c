#include "backend/cpu/conv.h"

#include <string.h>

/* One spatial dim is a plane of one row. */
static void widen(we_window *w) {
    w->kernel[1] = w->kernel[0], w->stride[1] = w->stride[0], w->dilation[1] = w->dilation[0];
    w->pad_begin[1] = w->pad_begin[0], w->pad_end[1] = w->pad_end[0];
    w->in[1] = w->in[0], w->out[1] = w->out[0];
    w->kernel[0] = w->stride[0] = w->dilation[0] = w->in[0] = w->out[0] = 1;
    w->pad_begin[0] = w->pad_end[0] = 0;
    w->rank = 2;
}

/* Columns or rows that the taps reach, padding included. */
static int64_t reach(const we_window *w, int32_t i) {
    return (w->out[i] - 1) * w->stride[i] + (w->kernel[i] - 1) * w->dilation[i] + 1;
}

bool we_conv_read(const we_call *call, we_conv *out) {
    const we_tensor *x = call->in[0], *weights = call->in[1], *bias = we_call_input(call, 2);
    we_conv c = {.items = x->dims[0], .group = we_node_int(call->node, "group", 1)};
    if (x->dtype != WE_F32 || x->rank > 4 || x->count == 0 || weights->kind != WE_TENSOR_CONST ||
        weights->count == 0 || (bias && bias->kind != WE_TENSOR_CONST) ||
        we_call_window(call, weights->dims + 2, &c.w) != WE_OK)
        return false;
    if (c.w.rank == 1)
        widen(&c.w);
    c.channels = x->dims[1] / c.group;
    c.filters = weights->dims[0] / c.group;
    c.positions = c.w.out[0] * c.w.out[1];
    c.weights = weights->data;
    c.bias = bias ? bias->data : NULL;
    c.stored = c.w.taps != 1 || c.w.stride[0] != 1 || c.w.stride[1] != 1 || c.positions != c.w.in[0] * c.w.in[1];
    c.parts = c.w.stride[1];
    c.part = (reach(&c.w, 1) + c.parts - 1) / c.parts;
    c.row = c.part * c.parts;
    c.plane = c.stored ? reach(&c.w, 0) * c.row : c.positions;
    *out = c;
    return c.positions > 0 && c.plane * c.channels * c.group < INT32_MAX / 2;
}

int64_t we_conv_tap(const we_conv *c, int64_t i, int64_t j) {
    int64_t column = j * c->w.dilation[1];
    return i * c->w.dilation[0] * c->row + column % c->parts * c->part + column / c->parts;
}

int64_t we_conv_row_step(const we_conv *c) {
    return c->stored ? c->w.stride[0] * c->row : c->w.out[1];
}

/* One row of the image, parted; `to` holds zeros already where padding is. */
static void store_row(const we_conv *c, const float *x, float *to) {
    int64_t before = c->w.pad_begin[1], count = c->w.in[1];
    if (before + count > c->row)
        count = c->row - before;
    if (c->parts == 1) {
        if (count > 0)
            memcpy(to + before, x, (size_t)count * sizeof *to);
        return;
    }
    for (int64_t part = 0; part < c->parts; part++) {
        int64_t first = (part - before % c->parts + c->parts) % c->parts; /* its first column of the image */
        float *at = to + part * c->part + (first + before) / c->parts;
        for (int64_t j = first; j < count; j += c->parts)
            *at++ = x[j];
    }
}

void we_conv_store(const we_conv *c, const float *x, float *to) {
    int64_t rows = c->plane / c->row;
    for (int64_t i = 0; i < rows; i++, to += c->row) {
        int64_t from = i - c->w.pad_begin[0];
        bool inside = from >= 0 && from < c->w.in[0];
        if (!inside || c->w.pad_begin[1] > 0 || c->w.in[1] + c->w.pad_begin[1] < c->row)
            memset(to, 0, (size_t)c->row * sizeof *to);
        if (inside)
            store_row(c, x + from * c->w.in[1], to);
    }
}
