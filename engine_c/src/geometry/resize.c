/* Resize and Upsample, one axis after another. Which inputs an output position sees, and with what weights,
 * is known beforehand: the positions become regions, the weights a constant. */
#include <math.h>
#include <string.h>

#include "base/dtype.h"
#include "geometry/lower.h"
#include "geometry/pick.h"
#include "geometry/quantise.h"
#include "geometry/window.h"

enum {
    MOST_ENTRIES = 1 << 26, /* of one axis's table */
};

/* The resize of one axis. */
typedef struct axis_plan {
    int64_t in, out;
    double scale, start, end;
    const char *coordinates, *mode, *nearest;
    bool antialias, exclude_outside;
    double cubic;
} axis_plan;

static bool is(const char *a, const char *b) {
    return strcmp(a, b) == 0;
}

/* The input coordinate of output position o. Source: ONNX operator specification, Resize. */
static double coordinate(const axis_plan *p, int64_t o) {
    double x = (double)o, n = (double)p->in, wanted = p->scale * n;
    if (is(p->coordinates, "asymmetric"))
        return x / p->scale;
    if (is(p->coordinates, "align_corners"))
        return wanted == 1 ? 0 : x * (n - 1) / (wanted - 1);
    if (is(p->coordinates, "tf_crop_and_resize"))
        return wanted == 1 ? (p->start + p->end) * (n - 1) / 2
                           : p->start * (n - 1) + x * (p->end - p->start) * (n - 1) / (wanted - 1);
    if (is(p->coordinates, "pytorch_half_pixel") && p->out <= 1)
        return 0;
    double plain = (x + 0.5) / p->scale - 0.5;
    if (is(p->coordinates, "half_pixel_symmetric"))
        return plain + n / 2 * (1 - (double)p->out / wanted);
    return plain;
}

static int64_t clipped(double at, int64_t n) {
    return at<0 ? 0 : at>(double)(n - 1) ? n - 1 : (int64_t)at;
}

static double nearest(const axis_plan *p, double x) {
    double low = floor(x), rest = x - low;
    if (rest == 0 || is(p->nearest, "floor"))
        return low;
    if (is(p->nearest, "ceil"))
        return low + 1;
    return rest < 0.5 || (rest == 0.5 && is(p->nearest, "round_prefer_floor")) ? low : low + 1;
}

/* ---- Interpolating kernels ---- */

static double kernel_at(const axis_plan *p, double x) {
    double a = p->cubic;
    x = fabs(x);
    if (is(p->mode, "linear"))
        return x < 1 ? 1 - x : 0;
    if (x <= 1) /* Source: Keys, "Cubic convolution interpolation", equation 4 */
        return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? ((x - 5) * x + 8) * x * a - 4 * a : 0;
}

/* Downscaling with antialias stretches the kernel. */
static double stretch_of(const axis_plan *p) {
    return p->antialias && p->scale < 1 ? p->scale : 1;
}

static int64_t first_tap(const axis_plan *p) {
    double reach = is(p->mode, "linear") ? 1 : 2;
    return (int64_t)floor(-reach / stretch_of(p)) + 1;
}

/* Positions and weights of output position o over `taps` taps, `step` entries apart. */
static void weigh(const axis_plan *p, int64_t o, int64_t taps, int64_t step, int64_t *at, double *weight) {
    double x = coordinate(p, o), low = floor(x), total = 0;
    for (int64_t j = 0; j < taps; j++) {
        double place = low + (double)(first_tap(p) + j);
        bool outside = place < 0 || place > (double)(p->in - 1);
        at[j * step] = clipped(place, p->in);
        weight[j * step] = outside && p->exclude_outside ? 0 : kernel_at(p, (place - x) * stretch_of(p));
        total += weight[j * step];
    }
    for (int64_t j = 0; (p->antialias || p->exclude_outside) && total != 0 && j < taps; j++)
        weight[j * step] /= total;
}

/* ---- One axis; x is [outer, in, inner], the result [outer, out, inner] ---- */

typedef struct slab {
    int64_t outer, inner;
} slab;

static int64_t *new_table(we_lower *l, const axis_plan *p, int64_t taps) {
    if (taps > MOST_ENTRIES || p->out > MOST_ENTRIES / taps) {
        we_lower_fail(l, WE_UNSUPPORTED, "an axis is resized to an absurd size");
        return NULL;
    }
    int64_t *table = we_memory_new((size_t)(p->out * taps + 1) * sizeof *table);
    if (!table)
        we_lower_fail(l, WE_OUT_OF_MEMORY, "out of memory");
    return table;
}

static int32_t pick_nearest(we_lower *l, int32_t x, const axis_plan *p, slab s) {
    int64_t dims[3] = {s.outer, p->out, s.inner};
    int64_t *table = new_table(l, p, 1);
    int32_t into = we_lower_temp(l, we_lower_tensor(l, x).dtype, 3, dims);
    we_raster raster = {0};
    for (int64_t o = 0; table && o < p->out; o++)
        table[o] = clipped(nearest(p, coordinate(p, o)), p->in);
    if (table)
        we_pick(l, &raster, x, &(we_picked){s.outer, p->in, s.inner, p->out, table, 0});
    we_emit_raster(l, &raster, into);
    we_memory_free(table);
    return into;
}

static int32_t interpolate(we_lower *l, int32_t x, const axis_plan *p, slab s) {
    const bool reduced[WE_MAX_RANK] = {true};
    we_dtype dtype = we_lower_tensor(l, x).dtype;
    int64_t taps = 2 - 2 * first_tap(p);
    int64_t dims[4] = {taps, s.outer, p->out, s.inner}, weight_dims[4] = {taps, 1, p->out, 1};
    int64_t *table = new_table(l, p, taps);
    double *weights = NULL;
    int32_t seen = we_lower_temp(l, dtype, 4, dims);
    int32_t weight = we_lower_constant(l, WE_F64, 4, weight_dims, (void **)&weights);
    we_raster raster = {0};
    for (int64_t o = 0; table && weights && o < p->out; o++)
        weigh(p, o, taps, p->out, table + o, weights + o);
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
static int32_t extrapolate(we_lower *l, int32_t y, const axis_plan *p) {
    uint8_t *flags;
    int64_t dims[2] = {p->out, 1};
    int32_t outside = we_lower_constant(l, WE_BOOL, 2, dims, (void **)&flags);
    for (int64_t o = 0; flags && o < p->out; o++) {
        double x = coordinate(p, o);
        flags[o] = x < 0 || x > (double)(p->in - 1);
    }
    int32_t value = we_lower_scalar(l, we_lower_tensor(l, y).dtype,
                                    we_node_float(l->call.node, "extrapolation_value", 0));
    return we_emit_select(l, outside, value, y, WE_NEW);
}

static int32_t resize_axis(we_lower *l, int32_t x, const axis_plan *p, slab s) {
    int32_t y = is(p->mode, "nearest") ? pick_nearest(l, x, p, s) : interpolate(l, x, p, s);
    return is(p->coordinates, "tf_crop_and_resize") ? extrapolate(l, y, p) : y;
}

/* ---- The operators ---- */

static bool is_known(const char *value, const char *const *known) {
    while (*known && !is(value, *known))
        known++;
    return *known != NULL;
}

static void check_modes(we_lower *l, const axis_plan *p) {
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
static we_dtype working_type(const axis_plan *p, we_dtype dtype) {
    if (is(p->mode, "nearest") || dtype == WE_F32)
        return dtype;
    bool narrow = we_dtype_size(dtype) <= 2;
    return narrow ? WE_F32 : WE_F64;
}

static void resize(we_lower *l, axis_plan *p, const we_resize *r) {
    const we_tensor *x = l->call.in[0];
    we_dtype working = working_type(p, x->dtype);
    int32_t so_far = x->dtype == working ? l->in[0] : we_emit_cast(l, l->in[0], working, WE_NEW);
    bool cropped = is(p->coordinates, "tf_crop_and_resize");
    int64_t outer = 1, inner = x->count;
    check_modes(l, p);
    we_tensor out = we_lower_tensor(l, l->out[0]);
    if (l->status == WE_OK && out.count == 0) {
        we_emit_raster(l, &(we_raster){0}, l->out[0]);
        return;
    }
    for (int32_t i = 0; i < x->rank && l->status == WE_OK; i++) {
        p->in = x->dims[i];
        p->out = r->out[i];
        p->scale = r->scale[i];
        p->start = r->start[i];
        p->end = r->end[i];
        inner /= p->in;
        bool same = p->out == p->in && p->scale == 1 && !(cropped && (p->start != 0 || p->end != 1));
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
    const we_node *node = l->call.node;
    we_resize r;
    axis_plan p = {.coordinates = we_node_string(node, "coordinate_transformation_mode", "half_pixel"),
                   .mode = we_node_string(node, "mode", "nearest"),
                   .nearest = we_node_string(node, "nearest_mode", "round_prefer_floor"),
                   .antialias = we_node_int(node, "antialias", 0) != 0,
                   .exclude_outside = we_node_int(node, "exclude_outside", 0) != 0,
                   .cubic = we_node_float(node, "cubic_coeff_a", -0.75)};
    l->status = we_call_resize(&l->call, 2, &r);
    if (l->status == WE_OK)
        resize(l, &p, &r);
}

void we_rule_upsample(we_lower *l) {
    we_resize r;
    axis_plan p = {.coordinates = "asymmetric",
                   .mode = we_node_string(l->call.node, "mode", "nearest"),
                   .nearest = "floor"};
    l->status = we_call_resize(&l->call, 1, &r);
    if (l->status == WE_OK)
        resize(l, &p, &r);
}
