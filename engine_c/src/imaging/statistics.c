/* What an image as a whole says: extremes, sums, histograms, and the thresholds found in them. */
#include <float.h>
#include <stdatomic.h>

#include "imaging/imaging.h"

static we_status expect_mask(const we_imaging_call *c, const we_image **mask, we_error *err) {
    *mask = c->in_count > 1 ? &c->in[1] : NULL;
    if (*mask && ((*mask)->dtype != WE_U8 || (*mask)->channels != 1 || (*mask)->height != c->in->height ||
                  (*mask)->width != c->in->width))
        return we_error_set(err, WE_INVALID_ARGUMENT,
                            "a mask is an image of bytes with one channel, as large as the image");
    return WE_OK;
}

static we_status expect_numbers(const we_image *out, int64_t n, we_error *err) {
    if (out->dtype == WE_F64 && out->height == 1 && out->width == n && out->channels == 1)
        return WE_OK;
    return we_error_set(err, WE_INVALID_ARGUMENT, "the result is %lld float64 numbers", (long long)n);
}

/* Of bytes, all of which count: rows are searched only where the extremes of all are. */
static void byte_extremes(const we_imaging_call *c, double result[6]) {
    uint8_t least = 255, most = 0;
    int64_t least_y = -1, most_y = -1;
    for (int64_t y = 0; y < c->in->height; y++) {
        uint8_t low, high;
        c->kernels->range_of_u8(c->in->width, (const uint8_t *)we_image_row(c->in, y), &low, &high);
        if (least_y < 0 || low < least) {
            least = low;
            least_y = y;
        }
        if (most_y < 0 || high > most) {
            most = high;
            most_y = y;
        }
    }
    const char *low_row = we_image_row(c->in, least_y), *high_row = we_image_row(c->in, most_y);
    const char *low_at = memchr(low_row, least, (size_t)c->in->width),
               *high_at = memchr(high_row, most, (size_t)c->in->width);
    result[0] = least;
    result[1] = most;
    result[2] = (double)(low_at - low_row);
    result[3] = (double)least_y;
    result[4] = (double)(high_at - high_row);
    result[5] = (double)most_y;
}

/* Result: least, largest, x and y of the first of each; x = -1 where the mask lets nothing through. */
we_status we_imaging_extremes(const we_imaging_call *c, we_error *err) {
    const we_image *in = c->in, *mask;
    WE_TRY(we_image_expect(in, WE_ANY_PIXELS, "minMaxLoc", err));
    WE_TRY(expect_mask(c, &mask, err));
    WE_TRY(expect_numbers(c->out, 6, err));
    if (we_image_is_empty(in) || in->channels != 1)
        return we_error_set(err, WE_INVALID_ARGUMENT,
                            "minMaxLoc takes an image of one channel that is not empty");
    double *out = c->out->data;
    double result[6] = {INFINITY, -INFINITY, -1, -1, -1, -1};
    int64_t n = in->width;
    bool bytes = in->dtype == WE_U8 && !mask;
    if (bytes)
        byte_extremes(c, result);
    for (int64_t y = 0; !bytes && y < in->height; y++) {
        const uint8_t *let = mask ? (const uint8_t *)we_image_row(mask, y) : NULL;
        WE_FOR_PIXELS(in->dtype, {
            const T *x = (const T *)(const void *)we_image_row(in, y);
            T least = x[0];
            T most = x[0];
            for (int64_t i = 0; !let && i < n; i++) { /* without places, so that it is vector code */
                least = x[i] < least ? x[i] : least;
                most = x[i] > most ? x[i] : most;
            }
            bool news = let || !((double)least >= result[0] && (double)most <= result[1]);
            for (int64_t i = 0; news && i < n; i++) {
                if (let && !let[i])
                    continue;
                if ((double)x[i] < result[0]) {
                    result[0] = (double)x[i];
                    result[2] = (double)i;
                    result[3] = (double)y;
                }
                if ((double)x[i] > result[1]) {
                    result[1] = (double)x[i];
                    result[4] = (double)i;
                    result[5] = (double)y;
                }
            }
        })
    }
    if (result[2] < 0)
        result[0] = result[1] = 0;
    memcpy(out, result, sizeof result);
    return WE_OK;
}

/* Numbers: which of the sums are wanted. */
enum { SUM = 1, SQUARES = 2, NOT_ZERO = 4 };

/* Of bytes, all of which count. */
static we_status byte_sums(const we_imaging_call *c, int64_t wanted, double *out, we_error *err) {
    const we_image *in = c->in;
    const we_image_kernels *k = c->kernels;
    int64_t row = in->width * in->channels, rows = in->height;
    if (in->row == row) { /* packed: as one row */
        row *= rows;
        rows = 1;
    }
    uint64_t *totals = we_memory_new((size_t)in->channels * 3 * sizeof(uint64_t));
    if (!totals)
        return we_error_no_memory(err);
    for (int64_t y = 0; y < rows; y++) {
        const uint8_t *x = (const uint8_t *)we_image_row(in, y);
        if (wanted & SUM)
            k->total_u8(row, (int32_t)in->channels, x, totals);
        if (wanted & SQUARES)
            k->total_squares_u8(row, (int32_t)in->channels, x, totals + in->channels);
        if (wanted & NOT_ZERO)
            k->total_set_u8(row, (int32_t)in->channels, x, totals + 2 * in->channels);
    }
    out[0] = (double)in->height * (double)in->width;
    for (int64_t i = 0; i < 3 * in->channels; i++)
        out[1 + i] = (double)totals[i];
    we_memory_free(totals);
    return WE_OK;
}

/* Result: how many pixels count, then for each channel the sum, the sum of squares, and how many are not 0.
 */
we_status we_imaging_sums(const we_imaging_call *c, we_error *err) {
    const we_image *in = c->in, *mask;
    int64_t channels = in->channels, wanted = 0;
    WE_TRY(we_image_expect(in, WE_ANY_PIXELS, "a sum", err));
    WE_TRY(expect_mask(c, &mask, err));
    WE_TRY(expect_numbers(c->out, 1 + 3 * channels, err));
    WE_TRY(we_number_within(c->p[0], 0, SUM | SQUARES | NOT_ZERO, "what is wanted of a sum", &wanted, err));
    double *out = c->out->data;
    memset(out, 0, (size_t)(1 + 3 * channels) * sizeof(double));
    if (in->dtype == WE_U8 && !mask && !we_image_is_empty(in))
        return byte_sums(c, wanted, out, err);
    for (int64_t y = 0; y < in->height; y++) {
        const uint8_t *let = mask ? (const uint8_t *)we_image_row(mask, y) : NULL;
        for (int64_t i = 0; i < in->width; i++)
            out[0] += !let || let[i];
        WE_FOR_PIXELS(in->dtype, {
            const T *x = (const T *)(const void *)we_image_row(in, y);
            for (int64_t channel = 0; channel < channels; channel++) {
                double sum = 0;
                double squares = 0;
                int64_t count = 0;
                for (int64_t i = 0; i < in->width; i++) {
                    double value = !let || let[i] ? (double)x[i * channels + channel] : 0;
                    sum += value;
                    squares += value * value;
                    count += value != 0;
                }
                out[1 + channel] += sum;
                out[1 + channels + channel] += squares;
                out[1 + 2 * channels + channel] += (double)count;
            }
        })
    }
    return WE_OK;
}

/* ---- Histograms ---- */

enum { MOST_DIMS = 3 };

typedef struct axis {
    const we_image *image;
    int64_t channel, bins;
    double low, high, scale, shift;
} axis;

/* The bin of a value, -1 outside. */
static int64_t bin_of(const axis *a, double value) {
    if (!(value >= a->low && value < a->high))
        return -1;
    int64_t bin = (int64_t)floor(value * a->scale + a->shift);
    return bin < 0 ? 0 : bin < a->bins ? bin : a->bins - 1;
}

/* The bin of each element of a row, -1 outside. */
static void row_bins(const axis *a, int64_t y, int32_t *bins) {
    const we_image *image = a->image;
    WE_FOR_PIXELS(image->dtype, {
        const T *x = (const T *)(const void *)we_image_row(image, y);
        for (int64_t i = 0; i < image->width; i++)
            bins[i] = (int32_t)bin_of(a, (double)x[i * image->channels + a->channel]);
    })
}

typedef struct byte_counts {
    const we_image *image, *mask;
    int64_t channel;
    atomic_uint counts[256];
} byte_counts;

static bool count_rows(void *context, int64_t begin, int64_t end) {
    byte_counts *b = context;
    uint32_t split[4][256]; /* neighbours are often equal: they count apart */
    memset(split, 0, sizeof split);
    int64_t step = b->image->channels, width = b->image->width;
    for (int64_t y = begin; y < end; y++) {
        const uint8_t *x = (const uint8_t *)we_image_row(b->image, y) + b->channel;
        const uint8_t *let = b->mask ? (const uint8_t *)we_image_row(b->mask, y) : NULL;
        int64_t i = 0;
        for (; !let && i + 4 <= width; i += 4) {
            split[0][x[i * step]]++;
            split[1][x[(i + 1) * step]]++;
            split[2][x[(i + 2) * step]]++;
            split[3][x[(i + 3) * step]]++;
        }
        for (; i < width; i++)
            split[0][x[i * step]] += !let || let[i];
    }
    bool alone = begin == 0 && end == b->image->height; /* an atomic sum costs more than all of this */
    for (int i = 0; i < 256; i++) {
        uint32_t sum = split[0][i] + split[1][i] + split[2][i] + split[3][i];
        if (alone)
            atomic_store_explicit(&b->counts[i], sum, memory_order_relaxed);
        else
            atomic_fetch_add_explicit(&b->counts[i], sum, memory_order_relaxed);
    }
    return true;
}

static we_status count_bytes(const we_imaging_call *c, const we_image *image, int64_t channel,
                             const we_image *mask, uint32_t counts[256], we_error *err) {
    byte_counts b = {.image = image, .mask = mask, .channel = channel};
    WE_TRY(we_imaging_rows(c, image->height, image->width * 2, count_rows, &b, err));
    for (int i = 0; i < 256; i++)
        counts[i] = atomic_load_explicit(&b.counts[i], memory_order_relaxed);
    return WE_OK;
}

static we_status histogram_bytes(const we_imaging_call *c, const axis *a, const we_image *mask, float *out,
                                 we_error *err) {
    uint32_t counts[256];
    WE_TRY(count_bytes(c, a->image, a->channel, mask, counts, err));
    for (int i = 0; i < 256; i++) {
        int64_t bin = bin_of(a, i);
        if (bin >= 0)
            out[bin] += (float)counts[i];
    }
    return WE_OK;
}

/* Inputs: images of one size. Numbers: whether the last is a mask, then for each dim: number of the image,
 * channel, bins, and the range [low, high). Result: F32, one row of all bins. */
we_status we_imaging_histogram(const we_imaging_call *c, we_error *err) {
    const we_image *mask = c->p[0] != 0 && c->in_count > 1 ? &c->in[c->in_count - 1] : NULL;
    size_t images = c->in_count - (mask != NULL), dims = (c->number_count - 1) / 5;
    axis axes[MOST_DIMS];
    int64_t bins = 1;
    if ((c->number_count - 1) % 5 || (mask && mask->dtype != WE_U8))
        return we_error_set(err, WE_INVALID_ARGUMENT,
                            "a histogram has five numbers for each dim, a mask bytes");
    for (size_t i = 0; i < c->in_count; i++) {
        WE_TRY(we_image_expect(&c->in[i], WE_ANY_PIXELS, "a histogram", err));
        if (c->in[i].height != c->in->height || c->in[i].width != c->in->width)
            return we_error_set(err, WE_INVALID_ARGUMENT,
                                "the images and the mask of a histogram have one size");
    }
    for (size_t d = 0; d < dims; d++) {
        const double *p = c->p + 1 + 5 * d;
        int64_t image = 0;
        WE_TRY(we_number_within(p[0], 0, (int64_t)images - 1, "the image of a dim", &image, err));
        axes[d].image = &c->in[image];
        WE_TRY(we_number_within(p[1], 0, axes[d].image->channels - 1, "the channel of a dim",
                                &axes[d].channel, err));
        WE_TRY(we_number_within(p[2], 1, 1 << 20, "the number of bins", &axes[d].bins, err));
        if (!(p[4] > p[3]) || !isfinite(p[3]) || !isfinite(p[4]))
            return we_error_set(err, WE_INVALID_ARGUMENT, "a range of a histogram must not be empty");
        axes[d].low = p[3];
        axes[d].high = p[4];
        axes[d].scale = (double)axes[d].bins / (p[4] - p[3]);
        axes[d].shift = -axes[d].scale * p[3];
        bins *= axes[d].bins;
    }
    const we_image *out = c->out;
    if (out->dtype != WE_F32 || out->channels != 1 || out->height != 1 || out->width != bins)
        return we_error_set(err, WE_INVALID_ARGUMENT,
                            "the result of a histogram is one row of float32 for all bins");
    float *counts = out->data;
    memset(counts, 0, (size_t)bins * sizeof(float));
    if (dims == 1 && axes[0].image->dtype == WE_U8) {
        return histogram_bytes(c, &axes[0], mask, counts, err);
    }
    int64_t width = c->in->width;
    int32_t *places = we_memory_new((size_t)(width * MOST_DIMS + 1) * sizeof(int32_t));
    if (!places)
        return we_error_no_memory(err);
    for (int64_t y = 0; y < c->in->height; y++) {
        for (size_t d = 0; d < dims; d++)
            row_bins(&axes[d], y, places + (int64_t)d * width);
        for (int64_t i = 0; i < width; i++) {
            int64_t at = !mask || ((const uint8_t *)we_image_row(mask, y))[i] ? 0 : -1;
            for (size_t d = 0; d < dims; d++) {
                int32_t bin = places[(int64_t)d * width + i];
                at = at < 0 || bin < 0 ? -1 : at * axes[d].bins + bin;
            }
            if (at >= 0)
                counts[at]++;
        }
    }
    we_memory_free(places);
    return WE_OK;
}

/* Source: Otsu, "A threshold selection method from gray-level histograms" (1979), summed as OpenCV does. */
static double otsu(const uint32_t counts[256], double total) {
    double mean = 0, q1 = 0, mean1 = 0, best = 0, best_at = 0, scale = 1. / total;
    for (int i = 0; i < 256; i++)
        mean += i * (double)counts[i];
    mean *= scale;
    for (int i = 0; i < 256; i++) {
        double p = counts[i] * scale, q2;
        mean1 *= q1;
        q1 += p;
        q2 = 1. - q1;
        if (fmin(q1, q2) < FLT_EPSILON || fmax(q1, q2) > 1. - FLT_EPSILON)
            continue;
        mean1 = (mean1 + i * p) / q1;
        double mean2 = (mean - q1 * mean1) / q2, sigma = q1 * q2 * (mean1 - mean2) * (mean1 - mean2);
        if (sigma > best) {
            best = sigma;
            best_at = i;
        }
    }
    return best_at;
}

/* Source: Zack, Rogers, Latt, "Automatic measurement of sister chromatid exchange frequency" (1977), as
 * OpenCV has it: the bin farthest from the line between the peak and the far end. */
static double triangle(const uint32_t given[256]) {
    uint32_t counts[256];
    memcpy(counts, given, sizeof counts);
    int left = 0, right = 0, peak = 0;
    uint32_t most = 0;
    for (int i = 0; i < 256; i++) {
        if (counts[i] > 0) {
            left = i;
            break;
        }
    }
    left -= left > 0;
    for (int i = 255; i > 0; i--) {
        if (counts[i] > 0) {
            right = i;
            break;
        }
    }
    right += right < 255;
    for (int i = 0; i < 256; i++) {
        if (counts[i] > most) {
            most = counts[i];
            peak = i;
        }
    }
    bool flipped = peak - left < right - peak;
    if (flipped) {
        for (int i = 0, j = 255; i < j; i++, j--) {
            uint32_t swap = counts[i];
            counts[i] = counts[j];
            counts[j] = swap;
        }
        left = 255 - right;
        peak = 255 - peak;
    }
    double limit = left, a = most, b = left - peak, farthest = 0;
    for (int i = left + 1; i <= peak; i++) {
        double distance = a * i + b * counts[i];
        if (distance > farthest) {
            farthest = distance;
            limit = i;
        }
    }
    limit--;
    return flipped ? 255 - limit : limit;
}

/* Numbers: 0 for Otsu's, 1 for the triangle's. Result: the threshold. */
we_status we_imaging_auto_threshold(const we_imaging_call *c, we_error *err) {
    WE_TRY(we_image_expect(c->in, WE_TYPE(U8), "an automatic threshold", err));
    WE_TRY(expect_numbers(c->out, 1, err));
    if (c->in->channels != 1 || we_image_is_empty(c->in))
        return we_error_set(err, WE_INVALID_ARGUMENT, "an automatic threshold takes an image of one channel");
    uint32_t counts[256];
    WE_TRY(count_bytes(c, c->in, 0, NULL, counts, err));
    double total = (double)c->in->height * (double)c->in->width;
    *(double *)c->out->data = c->p[0] == 0 ? otsu(counts, total) : triangle(counts);
    return WE_OK;
}

we_status we_imaging_equalize(const we_imaging_call *c, we_error *err) {
    const we_image *in = c->in, *out = c->out;
    WE_TRY(we_image_expect(in, WE_TYPE(U8), "equalizeHist", err));
    WE_TRY(we_image_expect_like(out, in, "equalizeHist", err));
    if (in->channels != 1)
        return we_error_set(err, WE_INVALID_ARGUMENT, "equalizeHist takes an image of one channel");
    uint32_t counts[256];
    WE_TRY(count_bytes(c, in, 0, NULL, counts, err));
    int first = 0;
    while (first < 255 && !counts[first])
        first++;
    int64_t total = in->height * in->width;
    uint8_t table[256] = {0};
    if (total == counts[first]) {
        memset(table, first, sizeof table);
    } else {
        float scale = 255.f / (float)(total - counts[first]);
        int64_t sum = 0;
        for (int i = first + 1; i < 256; i++) {
            sum += counts[i];
            table[i] = (uint8_t)we_pixel_saturate(WE_U8, (double)((float)sum * scale));
        }
    }
    we_image lookup = {.data = table, .dtype = WE_U8, .height = 1, .width = 256, .channels = 1, .row = 256};
    we_imaging_call call = *c;
    call.in = (we_image[]){*in, lookup};
    call.in_count = 2;
    return we_imaging_lut(&call, err);
}

/* Result: one row and one column more, I32 of bytes or F64. */
we_status we_imaging_integral(const we_imaging_call *c, we_error *err) {
    const we_image *in = c->in, *out = c->out;
    int64_t channels = in->channels;
    WE_TRY(we_image_expect(in, WE_TYPE(U8) | WE_TYPE(F32) | WE_TYPE(F64), "integral", err));
    if (out->dtype != (in->dtype == WE_U8 ? WE_I32 : WE_F64) || out->height != in->height + 1 ||
        out->width != in->width + 1 || out->channels != channels)
        return we_error_set(err, WE_INVALID_ARGUMENT,
                            "the result of integral has one row and one column more");
    memset(we_image_row(out, 0), 0, (size_t)(out->width * channels) * we_image_size(out));
    for (int64_t y = 0; y < in->height; y++) {
        if (in->dtype == WE_U8) {
            const uint8_t *x = (const uint8_t *)we_image_row(in, y);
            int32_t *to = (int32_t *)(void *)we_image_row(out, y + 1);
            const int32_t *above = (const int32_t *)(const void *)we_image_row(out, y);
            if (channels == 1) {
                to[0] = 0;
                c->kernels->integral_u8(in->width, x, above + 1, to + 1);
                continue;
            }
            for (int64_t k = 0; k < channels; k++) {
                int32_t sum = to[k] = 0;
                for (int64_t i = 0; i < in->width; i++) {
                    sum += x[i * channels + k];
                    to[(i + 1) * channels + k] = above[(i + 1) * channels + k] + sum;
                }
            }
            continue;
        }
        double *to = (double *)(void *)we_image_row(out, y + 1);
        const double *above = (const double *)(const void *)we_image_row(out, y);
        WE_FOR_PIXELS(in->dtype, {
            const T *x = (const T *)(const void *)we_image_row(in, y);
            for (int64_t k = 0; k < channels; k++) {
                double sum = to[k] = 0;
                for (int64_t i = 0; i < in->width; i++) {
                    sum += (double)x[i * channels + k];
                    to[(i + 1) * channels + k] = above[(i + 1) * channels + k] + sum;
                }
            }
        })
    }
    return WE_OK;
}
