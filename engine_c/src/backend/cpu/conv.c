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

void we_conv_size(we_conv *c) {
    we_window *w = &c->w;
    if (w->rank == 1)
        widen(w);
    c->positions = w->out[0] * w->out[1];
    c->stored = w->taps != 1 || w->stride[0] != 1 || w->stride[1] != 1 || c->positions != w->in[0] * w->in[1];
    c->parts = w->stride[1];
    c->part = (reach(w, 1) + c->parts - 1) / c->parts;
    c->row = c->part * c->parts;
    c->plane = c->stored ? reach(w, 0) * c->row : c->positions; /* unstored, rows are not told apart */
}

bool we_conv_read(const we_call *call, we_conv *out) {
    const we_tensor *x = call->in[0], *weights = call->in[1], *bias = we_call_input(call, 2);
    we_conv c = {.items = x->dims[0], .group = we_node_int(call->node, "group", 1)};
    if (x->dtype != WE_F32 || x->rank > 4 || x->count == 0 || weights->kind != WE_TENSOR_CONST ||
        weights->count == 0 || (bias && bias->kind != WE_TENSOR_CONST) ||
        we_call_window(call, weights->dims + 2, &c.w) != WE_OK)
        return false;
    c.channels = x->dims[1] / c.group;
    c.filters = weights->dims[0] / c.group;
    c.weights = weights->data;
    c.bias = bias ? bias->data : NULL;
    we_conv_size(&c);
    *out = c;
    return c.positions > 0 && c.plane * c.channels * c.group < INT32_MAX / 2;
}

void we_conv_must_store(we_conv *c) {
    c->stored = true;
    c->plane = reach(&c->w, 0) * c->row;
}

int64_t we_conv_tap(const we_conv *c, int64_t i, int64_t j) {
    int64_t column = j * c->w.dilation[1];
    return i * c->w.dilation[0] * c->row + column % c->parts * c->part + column / c->parts;
}

const int32_t *we_conv_tap_offsets(const we_conv *c, we_arena *arena) {
    int32_t *offsets = we_arena_new(arena, (size_t)c->w.taps * sizeof *offsets), *to = offsets;
    for (int64_t i = 0; offsets && i < c->w.kernel[0]; i++) {
        for (int64_t j = 0; j < c->w.kernel[1]; j++)
            *to++ = (int32_t)we_conv_tap(c, i, j);
    }
    return offsets;
}

size_t we_conv_plane_floats(const we_conv *c) {
    return (size_t)(c->plane + WE_CONV_SLACK);
}

we_taps we_conv_taps(const we_conv *c, const int32_t *offsets) {
    return (we_taps){.rows = c->w.out[0],
                     .columns = c->w.out[1],
                     .x_row = we_conv_row_step(c),
                     .y_row = c->w.out[1],
                     .count = (int32_t)c->w.taps,
                     .offsets = offsets};
}

int64_t we_conv_row_step(const we_conv *c) {
    return c->stored ? c->w.stride[0] * c->row : c->w.out[1];
}

static void clear(float *to, float fill, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        to[i] = fill;
}

/* One row of the image, parted; `to` holds the fill already where padding is. */
static void store_row(const we_conv *c, const float *x, float *to) {
    int64_t before = c->w.pad_begin[1], count = c->w.in[1];
    if (before + count > c->row)
        count = c->row - before;
    if (c->parts == 1) {
        if (count > 0)
            memcpy(to + before, x, (size_t)count * sizeof *to);
        return;
    }
    if (c->parts == 2) { /* the usual stride: both parts in one go, which compilers turn into shuffles */
        int64_t half = before / 2, odd = before % 2, pairs = (count - odd) / 2;
        float *even = to + half + odd, *uneven = to + c->part + half;
        if (odd && count > 0)
            uneven[0] = x[0], uneven++, x++;
        for (int64_t j = 0; j < pairs; j++)
            even[j] = x[2 * j], uneven[j] = x[2 * j + 1];
        if (count - odd > 2 * pairs)
            even[pairs] = x[2 * pairs];
        return;
    }
    for (int64_t part = 0; part < c->parts; part++) {
        int64_t first = (part - before % c->parts + c->parts) % c->parts; /* its first column of the image */
        float *at = to + part * c->part + (first + before) / c->parts;
        for (int64_t j = first; j < count; j += c->parts)
            *at++ = x[j];
    }
}

void we_conv_store(const we_conv *c, const float *x, float fill, float *to) {
    int64_t rows = c->plane / c->row;
    for (int64_t i = 0; i < rows; i++, to += c->row) {
        int64_t from = i - c->w.pad_begin[0];
        bool inside = from >= 0 && from < c->w.in[0];
        if (!inside || c->w.pad_begin[1] > 0 || c->w.in[1] + c->w.pad_begin[1] < c->row)
            clear(to, fill, c->row);
        if (inside)
            store_row(c, x + from * c->w.in[1], to);
    }
}
