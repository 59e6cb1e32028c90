#include <math.h>

#include "kernels/native.h"

static const double FAR = 1e9; /* coordinates past this, and NaN, are as far outside */

static double mirrored(double x, double low, double high) {
    double range = high - low;
    if (range <= 0)
        return low;
    double beyond = x < low ? low - x : x > high ? x - high : -1;
    if (beyond < 0)
        return x;
    double rounds = floor(beyond / range), rest = beyond - rounds * range;
    bool from_start = (x < low) == (fmod(rounds, 2) == 0);
    return from_start ? low + rest : high - rest;
}

static double clamped(double x, double low, double high) {
    return x < low ? low : x > high ? high : x;
}

/* Source: Keys, "Cubic convolution interpolation", with a = -0.75. */
static double cubic(double x) {
    x = fabs(x);
    return x <= 1 ? (1.25 * x - 2.25) * x * x + 1 : x < 2 ? ((-0.75 * x + 3.75) * x - 6) * x + 3 : 0;
}

static void add_tap(we_sample_padding padding, double place, double weight, int64_t n, double low,
                    double high, we_sample_line *out) {
    if (padding == WE_PAD_REFLECTION)
        place = mirrored(place, low, high);
    bool outside = place < 0 || place > (double)(n - 1);
    out->at[out->count] = (int64_t)clamped(place, 0, (double)(n - 1));
    out->weight[out->count++] = outside && padding == WE_PAD_ZEROS ? 0 : weight;
}

void we_sample_line_at(we_sample_mode mode, we_sample_padding padding, double x, int64_t n, double low,
                       double high, we_sample_line *out) {
    x = x != x ? -FAR : clamped(x, -FAR, FAR);
    if (mode == WE_SAMPLE_NEAREST)
        x = rint(x);
    if ((x < low || x > high) && padding == WE_PAD_BORDER)
        x = clamped(x, 0, (double)(n - 1));
    else if (padding == WE_PAD_REFLECTION)
        x = mirrored(x, low, high);
    double first = floor(x), rest = x - first;
    out->count = 0;
    if (mode == WE_SAMPLE_NEAREST) {
        add_tap(padding, trunc(x), 1, n, low, high, out);
    } else if (mode == WE_SAMPLE_LINEAR) {
        add_tap(padding, first, 1 - rest, n, low, high, out);
        add_tap(padding, first + 1, rest, n, low, high, out);
    } else {
        for (int32_t i = -1; i <= 2; i++)
            add_tap(padding, first + i, cubic(rest - i), n, low, high, out);
    }
}

double we_sample_plane(const void *plane, bool wide, int32_t rank, const int64_t *size,
                       const we_sample_line *lines) {
    int32_t pick[3] = {0};
    double sum = 0;
    for (;;) {
        double weight = 1;
        int64_t at = 0;
        for (int32_t i = 0; i < rank; i++) {
            weight *= lines[i].weight[pick[i]];
            at = at * size[i] + lines[i].at[pick[i]];
        }
        if (weight != 0) /* what is outside must not spread infinities */
            sum += weight * we_sample_load(plane, wide, at);
        int32_t i = rank - 1;
        for (; i >= 0 && ++pick[i] == lines[i].count; i--)
            pick[i] = 0;
        if (i < 0)
            return sum;
    }
}

static int64_t product(int32_t rank, const int64_t *size) {
    int64_t count = 1;
    for (int32_t i = 0; i < rank; i++)
        count *= size[i];
    return count;
}

static const char *offset_of(const void *data, bool wide, int64_t elements) {
    return (const char *)data + elements * (wide ? 8 : 4);
}

/* ---- Grid sampling ---- */

static const char *grid_sample(const void *parameters, const void *const *in, void *out, int64_t begin,
                               int64_t end) {
    const we_grid_sample *p = parameters;
    int64_t plane = product(p->rank, p->size);
    for (int64_t item = begin; item < end; item++) {
        we_sample_line lines[3];
        for (int32_t i = 0; i < p->rank; i++) {
            double g = we_sample_load(in[1], p->wide, item * p->rank + p->rank - 1 - i);
            double n = (double)p->size[i], low = p->align_corners ? 0 : -0.5;
            double x = p->align_corners ? (g + 1) / 2 * (n - 1) : ((g + 1) * n - 1) / 2;
            we_sample_line_at(p->mode, p->padding, x, p->size[i], low, n - 1 - low, &lines[i]);
        }
        int64_t n = item / p->positions, position = item % p->positions;
        for (int64_t c = n * p->channels; c < (n + 1) * p->channels; c++)
            we_sample_store(
                out, p->wide, c * p->positions + position,
                we_sample_plane(offset_of(in[0], p->wide, c * plane), p->wide, p->rank, p->size, lines));
    }
    return NULL;
}

const we_native we_native_grid_sample = {"grid_sample", grid_sample};

/* ---- Deformed windows ---- */

/* One tap of one group, over all positions and the channels of the group. */
static void deform_tap(const we_deform *p, const void *const *in, void *out, int64_t n, int64_t group,
                       int64_t tap) {
    int64_t plane = product(p->rank, p->size), share = p->channels / p->groups;
    int64_t number = (n * p->groups + group) * p->taps + tap;
    for (int64_t position = 0; position < p->positions; position++) {
        we_sample_line lines[3];
        int64_t rest = position, tap_rest = tap;
        for (int32_t i = p->rank; i-- > 0;) {
            double start = (double)(rest % p->out[i] * p->stride[i] - p->pad[i] +
                                    tap_rest % p->kernel[i] * p->dilation[i]);
            double moved = we_sample_load(in[1], p->wide, (number * p->rank + i) * p->positions + position);
            we_sample_line_at(WE_SAMPLE_LINEAR, WE_PAD_ZEROS, start + moved, p->size[i], 0,
                              (double)(p->size[i] - 1), &lines[i]);
            rest /= p->out[i];
            tap_rest /= p->kernel[i];
        }
        double mask = in[2] ? we_sample_load(in[2], p->wide, number * p->positions + position) : 1;
        for (int64_t j = 0; j < share; j++) {
            int64_t c = n * p->channels + group * share + j;
            double value =
                we_sample_plane(offset_of(in[0], p->wide, c * plane), p->wide, p->rank, p->size, lines);
            we_sample_store(out, p->wide, (c * p->taps + tap) * p->positions + position, mask * value);
        }
    }
}

static const char *deform(const void *parameters, const void *const *in, void *out, int64_t begin,
                          int64_t end) {
    const we_deform *p = parameters;
    for (int64_t item = begin; item < end; item++)
        deform_tap(p, in, out, item / p->taps / p->groups, item / p->taps % p->groups, item % p->taps);
    return NULL;
}

const we_native we_native_deform = {"deform", deform};
