#include <math.h>
#include <string.h>

#include "geometry/resize.h"

static bool is(const char *a, const char *b) {
    return strcmp(a, b) == 0;
}

double we_resize_coordinate(const we_resize_axis *p, int64_t o) {
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

static double nearest(const we_resize_axis *p, double x) {
    double low = floor(x), rest = x - low;
    if (rest == 0 || is(p->nearest, "floor"))
        return low;
    if (is(p->nearest, "ceil"))
        return low + 1;
    return rest < 0.5 || (rest == 0.5 && is(p->nearest, "round_prefer_floor")) ? low : low + 1;
}

/* ---- Interpolating kernels ---- */

static double kernel_at(const we_resize_axis *p, double x) {
    double a = p->cubic;
    x = fabs(x);
    if (is(p->mode, "linear"))
        return x < 1 ? 1 - x : 0;
    if (x <= 1) /* Source: Keys, "Cubic convolution interpolation", equation 4 */
        return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? ((x - 5) * x + 8) * x * a - 4 * a : 0;
}

/* Downscaling with antialias stretches the kernel. */
static double stretch_of(const we_resize_axis *p) {
    return p->antialias && p->scale < 1 ? p->scale : 1;
}

static int64_t first_tap(const we_resize_axis *p) {
    double reach = is(p->mode, "linear") ? 1 : 2;
    return (int64_t)floor(-reach / stretch_of(p)) + 1;
}

/* Positions and weights of output position o over `taps` taps, `step` entries apart. */
static void weigh(const we_resize_axis *p, int64_t o, int64_t taps, int64_t step, int64_t *at,
                  double *weight) {
    double x = we_resize_coordinate(p, o), low = floor(x), total = 0;
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

int64_t we_resize_taps(const we_resize_axis *p) {
    return we_resize_picks(p) ? 1 : 2 - 2 * first_tap(p);
}

void we_resize_fill(const we_resize_axis *p, int64_t *at, double *weights) {
    int64_t taps = we_resize_taps(p);
    for (int64_t o = 0; o < p->out; o++) {
        if (we_resize_picks(p))
            at[o] = clipped(nearest(p, we_resize_coordinate(p, o)), p->in);
        else
            weigh(p, o, taps, p->out, at + o, weights + o);
    }
}

bool we_resize_picks(const we_resize_axis *p) {
    return is(p->mode, "nearest");
}

bool we_resize_crops(const we_resize_axis *p) {
    return is(p->coordinates, "tf_crop_and_resize");
}

/* ---- The operators ---- */

we_resize_axis we_resize_modes(const we_node *node) {
    if (node->op == WE_OP_Upsample)
        return (we_resize_axis){
            .coordinates = "asymmetric", .mode = we_node_string(node, "mode", "nearest"), .nearest = "floor"};
    return (we_resize_axis){.coordinates =
                                we_node_string(node, "coordinate_transformation_mode", "half_pixel"),
                            .mode = we_node_string(node, "mode", "nearest"),
                            .nearest = we_node_string(node, "nearest_mode", "round_prefer_floor"),
                            .antialias = we_node_int(node, "antialias", 0) != 0,
                            .exclude_outside = we_node_int(node, "exclude_outside", 0) != 0,
                            .cubic = we_node_float(node, "cubic_coeff_a", -0.75)};
}

we_status we_resize_shapes(const we_call *call, we_resize *out) {
    return we_call_resize(call, call->node->op == WE_OP_Upsample ? 1 : 2, out);
}

bool we_resize_axis_is_same(we_resize_axis *p, const we_resize *r, const we_tensor *x, int32_t i) {
    p->in = x->dims[i];
    p->out = r->out[i];
    p->scale = r->scale[i];
    p->start = r->start[i];
    p->end = r->end[i];
    return p->out == p->in && p->scale == 1 && !(we_resize_crops(p) && (p->start != 0 || p->end != 1));
}
