#include <math.h>

#include "kernels/native.h"

enum {
    MOST_SAMPLES = 1 << 12, /* per side of a bin */
};

/* One axis of a region: where its bins start, how long they are, how many samples each takes. */
typedef struct span {
    double start, bin;
    int64_t samples;
} span;

static const char *span_of(const we_roi_align *p, double from, double to, int64_t bins, span *out) {
    double offset = p->half_pixel ? 0.5 : 0, length = (to - from) * p->scale;
    if (!p->half_pixel && length < 1)
        length = 1;
    out->start = from * p->scale - offset;
    out->bin = length / (double)bins;
    double samples = p->ratio > 0 ? (double)p->ratio : ceil(out->bin);
    if (!isfinite(out->start) || !(samples <= MOST_SAMPLES))
        return "a region is not finite, or absurdly large";
    out->samples = samples < 0 ? 0 : (int64_t)samples;
    return NULL;
}

/* The two elements around x and how much of the second; false where x is outside. */
static bool neighbours(double x, int64_t n, int64_t *low, int64_t *high, double *rest) {
    if (x < -1 || x > (double)n)
        return false;
    x = x > 0 ? x : 0;
    *low = (int64_t)x < n - 1 ? (int64_t)x : n - 1;
    *high = *low < n - 1 ? *low + 1 : *low;
    *rest = *low < n - 1 ? x - (double)*low : 0;
    return true;
}

static double sample(const we_roi_align *p, const void *x, int64_t plane, double row, double column) {
    int64_t top, bottom, left, right;
    double down, across;
    if (!neighbours(row, p->height, &top, &bottom, &down) ||
        !neighbours(column, p->width, &left, &right, &across))
        return 0;
    double a = (1 - down) * (1 - across) * we_sample_load(x, p->wide, plane + top * p->width + left);
    double b = (1 - down) * across * we_sample_load(x, p->wide, plane + top * p->width + right);
    double c = down * (1 - across) * we_sample_load(x, p->wide, plane + bottom * p->width + left);
    double d = down * across * we_sample_load(x, p->wide, plane + bottom * p->width + right);
    return p->largest ? fmax(fmax(a, b), fmax(c, d)) : a + b + c + d;
}

/* The mean or largest sample of one bin. */
static double pool(const we_roi_align *p, const void *x, int64_t plane, const span *rows, const span *columns,
                   int64_t bin_row, int64_t bin_column) {
    double result = 0;
    for (int64_t i = 0; i < rows->samples; i++) {
        double row = rows->start + ((double)bin_row + ((double)i + 0.5) / (double)rows->samples) * rows->bin;
        for (int64_t j = 0; j < columns->samples; j++) {
            double column =
                columns->start +
                ((double)bin_column + ((double)j + 0.5) / (double)columns->samples) * columns->bin;
            double value = sample(p, x, plane, row, column);
            bool first = i == 0 && j == 0;
            result = !p->largest ? result + value : first ? value : fmax(result, value);
        }
    }
    int64_t count = rows->samples * columns->samples;
    return p->largest || count == 0 ? result : result / (double)count;
}

static const char *roi_align(const void *parameters, const void *const *in, void *out, int64_t begin,
                             int64_t end) {
    const we_roi_align *p = parameters;
    for (int64_t item = begin; item < end; item++) {
        int64_t roi = item / p->channels, batch = ((const int64_t *)in[2])[roi];
        span rows, columns;
        if (batch < 0 || batch >= p->batch)
            return "a batch index is outside the batch";
        double box[4];
        for (int32_t i = 0; i < 4; i++)
            box[i] = we_sample_load(in[1], p->wide, roi * 4 + i);
        const char *problem = span_of(p, box[0], box[2], p->out_width, &columns);
        problem = problem ? problem : span_of(p, box[1], box[3], p->out_height, &rows);
        if (problem)
            return problem;
        int64_t plane = (batch * p->channels + item % p->channels) * p->height * p->width;
        for (int64_t i = 0; i < p->out_height * p->out_width; i++)
            we_sample_store(out, p->wide, item * p->out_height * p->out_width + i,
                            pool(p, in[0], plane, &rows, &columns, i / p->out_width, i % p->out_width));
    }
    return NULL;
}

const we_native we_native_roi_align = {"roi_align", roi_align};
