/* Discrete Fourier transforms as products with small constant matrices, in float64. A length that is a
 * product a * b becomes transforms of a, a twist, and transforms of b (Cooley and Tukey), so that matrices
 * stay small. */
#include <math.h>

#include "geometry/window.h"

enum {
    SMALL = 32,           /* lengths up to this are one product */
    LARGEST_PRIME = 2048, /* a larger prime length would need a matrix of more than 128 MiB */
};

static const double PI = 3.14159265358979323846;

/* cos and sin of 2 pi i / n, with i reduced first so that large products stay exact. */
static double cosine(int64_t i, int64_t n) {
    return cos(2 * PI * (double)(i % n) / (double)n);
}

static double sine(int64_t i, int64_t n) {
    return sin(2 * PI * (double)(i % n) / (double)n);
}

/* x [lines, n, 2] times the matrix of one transform; sign is -1 forwards, 1 backwards. */
static int32_t direct(we_lower *l, int32_t x, int64_t lines, int64_t n, int sign) {
    double *m;
    int64_t dims[3] = {lines, n, 2}, matrix_dims[2] = {2 * n, 2 * n};
    if (n > LARGEST_PRIME)
        we_lower_fail(l, WE_UNSUPPORTED, "the length has a prime factor past 2048: pad the signal");
    int32_t matrix = we_lower_constant(l, WE_F64, 2, matrix_dims, (void **)&m);
    for (int64_t t = 0; m && t < n; t++) {
        for (int64_t k = 0; k < n; k++) {
            double c = cosine(t * k, n), s = sign * sine(t * k, n);
            m[(2 * t) * 2 * n + 2 * k] = m[(2 * t + 1) * 2 * n + 2 * k + 1] = c;
            m[(2 * t) * 2 * n + 2 * k + 1] = s;
            m[(2 * t + 1) * 2 * n + 2 * k] = -s;
        }
    }
    we_matmul p = {
        .m = lines, .n = 2 * n, .k = 2 * n, .a_row = 2 * n, .a_column = 1, .b_row = 2 * n, .b_column = 1};
    return we_emit_matmul(l, x, matrix, &p, 3, dims, WE_NEW);
}

/* [lines, first, second, 2] to [lines, second, first, 2] */
static int32_t turned(we_lower *l, int32_t x, int64_t lines, int64_t first, int64_t second) {
    int64_t dims[4] = {lines, first, second, 2};
    return we_emit_transpose(l, we_emit_reshape(l, x, 4, dims, WE_NEW), (int32_t[4]){0, 2, 1, 3}, WE_NEW);
}

/* x [lines, b, a, 2]: element (t, k) turned by the angle of t * k steps of n = a * b. */
static int32_t twisted(we_lower *l, int32_t x, int64_t lines, int64_t b, int64_t a, int sign) {
    double *cosines, *sines;
    int64_t dims[4] = {lines, b, a, 2};
    int32_t even = we_lower_constant(l, WE_F64, 3, (int64_t[3]){b, a, 1}, (void **)&cosines);
    int32_t odd = we_lower_constant(l, WE_F64, 3, dims + 1, (void **)&sines);
    for (int64_t i = 0; cosines && sines && i < a * b; i++) {
        int64_t steps = i / a * (i % a);
        cosines[i] = cosine(steps, a * b);
        sines[2 * i] = -sign * sine(steps, a * b);
        sines[2 * i + 1] = sign * sine(steps, a * b);
    }
    int32_t swapped = we_lower_temp(l, WE_F64, 4, dims); /* real and imaginary parts exchanged */
    we_raster raster = {0};
    we_box box = {
        .rank = 2, .size = {lines * a * b, 2}, .src_offset = 1, .src_stride = {2, -1}, .dst_stride = {2, 1}};
    we_raster_add(l, &raster, x, &box);
    we_emit_raster(l, &raster, swapped);
    int32_t kept = we_emit_binary(l, WE_BINARY_Mul, x, even, WE_NEW);
    int32_t crossed = we_emit_binary(l, WE_BINARY_Mul, swapped, odd, WE_NEW);
    return we_emit_binary(l, WE_BINARY_Add, kept, crossed, WE_NEW);
}

/* The transform of x [lines, n, 2], unscaled. With t = b t1 + t2 and k = k1 + a k2:
 * X[k] = sum over t2 of w_b^(t2 k2) * w_n^(t2 k1) * (sum over t1 of w_a^(t1 k1) * x[t]). */
static int32_t transform(we_lower *l, int32_t x, int64_t lines, int64_t n, int sign) {
    int64_t a = n > SMALL ? SMALL : 1;
    while (a > 1 && n % a)
        a--;
    if (l->status != WE_OK || a == 1)
        return direct(l, x, lines, n, sign);
    int64_t b = n / a, dims[3] = {lines, n, 2}, split[4] = {lines, b, a, 2};
    int32_t inner = direct(l, turned(l, x, lines, a, b), lines * b, a, sign);
    inner = twisted(l, we_emit_reshape(l, inner, 4, split, WE_NEW), lines, b, a, sign);
    inner = transform(l, turned(l, inner, lines, b, a), lines * a, b, sign);
    return we_emit_reshape(l, turned(l, inner, lines, a, b), 3, dims, WE_NEW);
}

/* Elements k and n - k of a real signal's spectrum are conjugates, so the first half stands for both. */
static int32_t both_halves(we_lower *l, int32_t x, int64_t n) {
    double *weights;
    int32_t weight = we_lower_constant(l, WE_F64, 2, (int64_t[2]){n, 2}, (void **)&weights);
    for (int64_t k = 0; weights && k < n; k++) {
        bool alone = k == 0 || 2 * k == n;
        weights[2 * k] = alone ? 1 : 2 * k < n ? 2 : 0;
        weights[2 * k + 1] = alone ? 0 : weights[2 * k];
    }
    return we_emit_binary(l, WE_BINARY_Mul, x, weight, WE_NEW);
}

static int32_t wide(we_lower *l, int32_t x) {
    return we_lower_tensor(l, x).dtype == WE_F64 ? x : we_emit_cast(l, x, WE_F64, WE_NEW);
}

/* Real numbers get an imaginary part of 0, signals are cut or filled with zeros to n: [outer, inner, n, 2].
 */
static int32_t lined_up(we_lower *l, int32_t x, int64_t outer, int64_t have, int64_t inner, int64_t parts,
                        int64_t n) {
    int64_t dims[4] = {outer, inner, n, 2};
    int32_t lines = we_lower_temp(l, WE_F64, 4, dims);
    we_raster raster = {0};
    we_box box = {.rank = 4,
                  .size = {outer, inner, have < n ? have : n, parts},
                  .src_stride = {have * inner * parts, parts, inner * parts, 1},
                  .dst_stride = {inner * n * 2, n * 2, 2, 1}};
    we_raster_add(l, &raster, x, &box);
    we_emit_raster(l, &raster, lines);
    return lines;
}

/* The first `count` entries of lines [outer, inner, n, 2] into output 0, [outer, count, inner, parts]. */
static void put_back(we_lower *l, int32_t lines, int64_t outer, int64_t inner, int64_t n, int64_t count,
                     int64_t parts) {
    we_tensor out = we_lower_tensor(l, l->out[0]);
    int32_t into = out.dtype == WE_F64 ? l->out[0] : we_lower_temp(l, WE_F64, out.rank, out.dims);
    we_raster raster = {0};
    we_box box = {.rank = 4,
                  .size = {outer, inner, count, parts},
                  .src_stride = {inner * n * 2, n * 2, 2, 1},
                  .dst_stride = {count * inner * parts, parts, inner * parts, 1}};
    we_raster_add(l, &raster, lines, &box);
    we_emit_raster(l, &raster, into);
    if (into != l->out[0])
        we_emit_cast(l, into, WE_DTYPE_COUNT, l->out[0]);
}

void we_rule_dft(we_lower *l) {
    const we_tensor *x = l->call.in[0];
    bool inverse = we_node_int(l->call.node, "inverse", 0) != 0;
    bool half = inverse && we_node_int(l->call.node, "onesided", 0) != 0;
    we_dft d;
    l->status = we_call_dft(&l->call, &d);
    if (l->status != WE_OK)
        return;
    int64_t outer = we_window_positions(d.axis, x->dims), parts = x->dims[x->rank - 1];
    int64_t inner = we_window_positions(x->rank - 2 - d.axis, x->dims + d.axis + 1);
    int32_t lines = lined_up(l, wide(l, l->in[0]), outer, x->dims[d.axis], inner, parts, d.length);
    if (half)
        lines = both_halves(l, lines, d.length);
    lines = transform(l, lines, outer * inner, d.length, inverse ? 1 : -1);
    if (inverse)
        lines =
            we_emit_binary(l, WE_BINARY_Mul, lines, we_lower_scalar(l, WE_F64, 1 / (double)d.length), WE_NEW);
    put_back(l, lines, outer, inner, d.length, d.bins, half ? 1 : 2);
}

/* Frames overlap in what they read, so they are one region; then each is one line. */
void we_rule_stft(we_lower *l) {
    const we_tensor *x = l->call.in[0];
    we_tensor out = we_lower_tensor(l, l->out[0]);
    we_stft s;
    l->status = we_call_stft(&l->call, &s);
    if (l->status != WE_OK)
        return;
    int64_t parts = x->dims[2], lines = x->dims[0] * s.frames;
    int64_t dims[3] = {lines, s.length, parts};
    int32_t frames = we_lower_temp(l, WE_F64, 3, dims);
    we_raster raster = {0};
    we_box box = {.rank = 3,
                  .size = {x->dims[0], s.frames, s.length * parts},
                  .src_stride = {x->dims[1] * parts, s.step * parts, 1},
                  .dst_stride = {s.frames * s.length * parts, s.length * parts, 1}};
    we_raster_add(l, &raster, wide(l, l->in[0]), &box);
    we_emit_raster(l, &raster, frames);
    if (we_call_input(&l->call, 2)) {
        int32_t window = we_emit_reshape(l, wide(l, l->in[2]), 2, (int64_t[2]){s.length, 1}, WE_NEW);
        frames = we_emit_binary(l, WE_BINARY_Mul, frames, window, WE_NEW);
    }
    frames = lined_up(l, frames, lines, s.length, 1, parts, s.length);
    put_back(l, transform(l, frames, lines, s.length, -1), lines, 1, s.length, out.dims[2], 2);
}
