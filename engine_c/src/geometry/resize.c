/* Resize and Upsample, one axis after another. Which inputs an output position sees, and with what weights,
 * is known beforehand: the positions become regions, the weights a constant (see resize.h). */
#include <string.h>

#include "base/dtype.h"
#include "geometry/lower.h"
#include "geometry/pick.h"
#include "geometry/quantise.h"
#include "geometry/resize.h"

enum {
    MOST_ENTRIES = 1 << 22, /* of one axis's table */
};

/* ---- One axis; x is [outer, in, inner], the result [outer, out, inner] ---- */

typedef struct slab {
    int64_t outer, inner;
} slab;

static int64_t *new_table(we_lower *l, const we_resize_axis *p, int64_t taps) {
    if (taps > MOST_ENTRIES || p->out > MOST_ENTRIES / taps) {
        we_lower_fail(l, WE_UNSUPPORTED, "an axis is resized to an absurd size");
        return NULL;
    }
    int64_t *table = we_memory_new((size_t)(p->out * taps + 1) * sizeof *table);
    if (!table)
        we_lower_fail(l, WE_OUT_OF_MEMORY, "out of memory");
    return table;
}

static int32_t pick_nearest(we_lower *l, int32_t x, const we_resize_axis *p, slab s) {
    int64_t dims[3] = {s.outer, p->out, s.inner};
    int64_t *table = new_table(l, p, 1);
    int32_t into = we_lower_temp(l, we_lower_tensor(l, x).dtype, 3, dims);
    we_raster raster = {0};
    if (table) {
        we_resize_fill(p, table, NULL);
        we_pick(l, &raster, x, &(we_picked){s.outer, p->in, s.inner, p->out, table, 0});
    }
    we_emit_raster(l, &raster, into);
    we_memory_free(table);
    return into;
}

static int32_t interpolate(we_lower *l, int32_t x, const we_resize_axis *p, slab s) {
    const bool reduced[WE_MAX_RANK] = {true};
    we_dtype dtype = we_lower_tensor(l, x).dtype;
    int64_t taps = we_resize_taps(p);
    int64_t dims[4] = {taps, s.outer, p->out, s.inner}, weight_dims[4] = {taps, 1, p->out, 1};
    int64_t *table = new_table(l, p, taps);
    double *weights = NULL;
    int32_t seen = we_lower_temp(l, dtype, 4, dims);
    int32_t weight = we_lower_constant(l, WE_F64, 4, weight_dims, (void **)&weights);
    we_raster raster = {0};
    if (table && weights)
        we_resize_fill(p, table, weights);
    for (int64_t j = 0; table && j < taps; j++)
        we_pick(l, &raster, x,
                &(we_picked){s.outer, p->in, s.inner, p->out, table + j * p->out,
                             j * s.outer * p->out * s.inner});
    we_emit_raster(l, &raster, seen);
    we_memory_free(table);
    weight = dtype == WE_F64 ? weight : we_emit_cast(l, weight, dtype, WE_NEW);
    int32_t weighted = we_emit_binary(l, WE_BINARY_Mul, seen, weight, WE_NEW);
    return we_emit_reduce(l, WE_REDUCE_Sum, weighted, reduced, we_lower_temp(l, dtype, 3, dims + 1));
}

/* Positions whose coordinate lies outside the input get the extrapolation value. */
static int32_t extrapolate(we_lower *l, int32_t y, const we_resize_axis *p) {
    uint8_t *flags;
    int64_t dims[2] = {p->out, 1};
    int32_t outside = we_lower_constant(l, WE_BOOL, 2, dims, (void **)&flags);
    for (int64_t o = 0; flags && o < p->out; o++) {
        double x = we_resize_coordinate(p, o);
        flags[o] = x < 0 || x > (double)(p->in - 1);
    }
    int32_t value = we_lower_scalar(l, we_lower_tensor(l, y).dtype,
                                    we_node_float(l->call.node, "extrapolation_value", 0));
    return we_emit_select(l, outside, value, y, WE_NEW);
}

static int32_t resize_axis(we_lower *l, int32_t x, const we_resize_axis *p, slab s) {
    int32_t y = we_resize_picks(p) ? pick_nearest(l, x, p, s) : interpolate(l, x, p, s);
    return we_resize_crops(p) ? extrapolate(l, y, p) : y;
}

/* ---- The operators ---- */

static bool is_known(const char *value, const char *const *known) {
    while (*known && strcmp(value, *known) != 0)
        known++;
    return *known != NULL;
}

static void check_modes(we_lower *l, const we_resize_axis *p) {
    static const char *const MODES[] = {"nearest", "linear", "cubic", NULL};
    static const char *const NEAREST[] = {"round_prefer_floor", "round_prefer_ceil", "floor", "ceil", NULL};
    static const char *const COORDINATES[] = {"half_pixel",
                                              "half_pixel_symmetric",
                                              "pytorch_half_pixel",
                                              "align_corners",
                                              "asymmetric",
                                              "tf_crop_and_resize",
                                              NULL};
    if (!is_known(p->mode, MODES) || !is_known(p->nearest, NEAREST) || !is_known(p->coordinates, COORDINATES))
        we_lower_fail(l, WE_INVALID_MODEL,
                      "attribute 'mode', 'nearest_mode' or 'coordinate_transformation_mode' is unknown");
}

/* The type to interpolate in. */
static we_dtype working_type(const we_resize_axis *p, we_dtype dtype) {
    if (we_resize_picks(p) || dtype == WE_F32)
        return dtype;
    bool narrow = we_dtype_size(dtype) <= 2;
    return narrow ? WE_F32 : WE_F64;
}

static void resize(we_lower *l, we_resize_axis *p, const we_resize *r) {
    const we_tensor *x = l->call.in[0];
    we_dtype working = working_type(p, x->dtype);
    int32_t so_far = x->dtype == working ? l->in[0] : we_emit_cast(l, l->in[0], working, WE_NEW);
    int64_t outer = 1, inner = x->count;
    check_modes(l, p);
    we_tensor out = we_lower_tensor(l, l->out[0]);
    if (l->status == WE_OK && out.count == 0) {
        we_emit_raster(l, &(we_raster){0}, l->out[0]);
        return;
    }
    for (int32_t i = 0; i < x->rank && l->status == WE_OK; i++) {
        bool same = we_resize_axis_is_same(p, r, x, i);
        inner /= p->in;
        if (!same)
            so_far = resize_axis(l, so_far, p, (slab){outer, inner});
        outer *= p->out;
    }
    if (x->dtype == working)
        we_emit_reshape(l, so_far, out.rank, out.dims, l->out[0]);
    else if (we_dtype_kind(x->dtype) == 'f')
        we_emit_cast(l, we_emit_reshape(l, so_far, out.rank, out.dims, WE_NEW), x->dtype, l->out[0]);
    else
        we_emit_quantised(l, we_emit_reshape(l, so_far, out.rank, out.dims, WE_NEW), -1, l->out[0]);
}

void we_rule_resize(we_lower *l) {
    we_resize r;
    we_resize_axis p = we_resize_modes(l->call.node);
    l->status = we_resize_shapes(&l->call, &r);
    if (l->status == WE_OK)
        resize(l, &p, &r);
}
