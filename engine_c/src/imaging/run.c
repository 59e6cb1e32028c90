/* The table of operations, what every call is checked for, and how rows are shared among threads. */
#include <stdatomic.h>

#include "base/cores.h"
#include "imaging/imaging.h"

typedef struct operation {
    const char *name;
    we_status (*run)(const we_imaging_call *c, we_error *err);
    size_t least_in, most_in, outs, least_numbers, most_numbers;
} operation;

static const operation OPERATIONS[] = {
#define WE_IMAGING_ROW(name, least_in, most_in, outs, least_numbers, most_numbers)                           \
    {#name, we_imaging_##name, least_in, most_in, outs, least_numbers, most_numbers},
#include "imaging/imaging.inc"
#undef WE_IMAGING_ROW
};
static const int OPERATION_COUNT = sizeof OPERATIONS / sizeof *OPERATIONS;

/* Work that is worth a second thread: a few microseconds of it. */
static const int64_t SHARED_BYTES = 64 * 1024;

int we_imaging_find(const char *name) {
    for (int op = 0; op < OPERATION_COUNT; op++) {
        if (strcmp(OPERATIONS[op].name, name) == 0)
            return op;
    }
    return -1;
}

const char *we_imaging_name(int op) {
    return op >= 0 && op < OPERATION_COUNT ? OPERATIONS[op].name : NULL;
}

/* No product of an image's sizes may overflow, nor an index of its pixels 31 bits. */
static we_status check_image(const we_image *image, we_error *err) {
    enum { MOST_SIDE = 1 << 30, MOST_BYTES = INT32_MAX };
    bool sane = image->height >= 0 && image->width >= 0 && image->channels >= 0 &&
                image->height <= MOST_SIDE && image->width <= MOST_SIDE && image->channels <= MOST_SIDE &&
                (image->data || we_image_is_empty(image)) && we_dtype_size(image->dtype) != 0;
    if (sane && !we_image_is_empty(image))
        sane = image->width <= MOST_BYTES / image->channels &&
               image->height <= INT64_MAX / 8 / (image->width * image->channels) &&
               image->width * image->channels <= MOST_BYTES / (int64_t)we_image_size(image);
    if (!sane)
        return we_error_set(
            err, WE_INVALID_ARGUMENT,
            "an image of %lld x %lld pixels with %lld channels is too large: rows of 2 GiB are the most",
            (long long)image->height, (long long)image->width, (long long)image->channels);
    return WE_OK;
}

static we_status check_count(const operation *op, const char *what, size_t count, size_t least, size_t most,
                             we_error *err) {
    if (count < least || count > most)
        return we_error_set(err, WE_INVALID_ARGUMENT, "%s takes %zu to %zu %s, not %zu", op->name, least,
                            most, what, count);
    return WE_OK;
}

we_status we_imaging_run(int index, const we_image *in, size_t in_count, const we_image *out,
                         size_t out_count, const double *numbers, size_t number_count, int32_t threads,
                         we_error *err) {
    we_error_clear(err);
    if (!we_imaging_name(index))
        return we_error_set(err, WE_INVALID_ARGUMENT, "there is no image operation %d", index);
    const operation *op = &OPERATIONS[index];
    WE_TRY(check_count(op, "inputs", in_count, op->least_in, op->most_in, err));
    WE_TRY(check_count(op, "outputs", out_count, op->outs ? op->outs : 1,
                       op->outs ? op->outs : WE_MOST_PLANES, err));
    WE_TRY(check_count(op, "numbers", number_count, op->least_numbers, op->most_numbers, err));
    for (size_t i = 0; i < in_count + out_count; i++)
        WE_TRY(check_image(i < in_count ? &in[i] : &out[i - in_count], err));
    const we_kernels *kernels;
    WE_TRY(we_kernels_get(&kernels, err));
    we_imaging_call call = {.in = in,
                            .out = out,
                            .in_count = in_count,
                            .out_count = out_count,
                            .number_count = number_count,
                            .p = numbers,
                            .kernels = &kernels->image};
    if (threads != 1)
        WE_TRY(we_pool_new(threads <= 0 ? WE_POOL_THREADS : threads, &call.pool, err));
    we_pool_run_begins();
    we_status status = op->run(&call, err);
    we_pool_run_ends();
    we_pool_free(call.pool);
    return status;
}

/* ---- Checks ---- */

we_status we_image_expect(const we_image *image, uint32_t dtypes, const char *what, we_error *err) {
    if (dtypes >> image->dtype & 1)
        return WE_OK;
    return we_error_set(err, WE_INVALID_ARGUMENT,
                        "%s does not take elements of type %s: convert the image first", what,
                        we_dtype_name(image->dtype));
}

we_status we_image_expect_size(const we_image *image, const we_image *like, const char *what, we_error *err) {
    if (image->height == like->height && image->width == like->width && image->channels == like->channels)
        return WE_OK;
    return we_error_set(
        err, WE_INVALID_ARGUMENT,
        "%s: images of %lld x %lld pixels with %lld channels and of %lld x %lld with %lld do not match", what,
        (long long)like->height, (long long)like->width, (long long)like->channels, (long long)image->height,
        (long long)image->width, (long long)image->channels);
}

we_status we_image_expect_like(const we_image *image, const we_image *like, const char *what, we_error *err) {
    WE_TRY(we_image_expect_size(image, like, what, err));
    if (image->dtype == like->dtype)
        return WE_OK;
    return we_error_set(err, WE_INVALID_ARGUMENT, "%s: elements of types %s and %s do not match", what,
                        we_dtype_name(like->dtype), we_dtype_name(image->dtype));
}

we_status we_number_within(double number, int64_t low, int64_t high, const char *what, int64_t *out,
                           we_error *err) {
    if (!(number >= (double)low && number <= (double)high))
        return we_error_set(err, WE_INVALID_ARGUMENT, "%s is %g; it must be from %lld to %lld", what, number,
                            (long long)low, (long long)high);
    *out = (int64_t)number;
    return WE_OK;
}

we_status we_border_of(double number, int *border, we_error *err) {
    int64_t value = 0;
    WE_TRY(we_number_within(number, 0, WE_BORDER_ISOLATED | WE_BORDER_REFLECT_101, "the border type", &value,
                            err));
    *border = (int)(value & ~WE_BORDER_ISOLATED);
    if (*border > WE_BORDER_REFLECT_101)
        return we_error_set(err, WE_INVALID_ARGUMENT, "there is no border type %d for this operation",
                            (int)value);
    return WE_OK;
}

int64_t we_border_at(int64_t p, int64_t n, int border) {
    if (p >= 0 && p < n)
        return p;
    switch (border) {
    case WE_BORDER_REPLICATE:
        return p < 0 ? 0 : n - 1;
    case WE_BORDER_WRAP:
        return (p % n + n) % n;
    case WE_BORDER_REFLECT:
    case WE_BORDER_REFLECT_101: {
        if (n == 1)
            return 0;
        int64_t near =
            border == WE_BORDER_REFLECT ? (p < 0 ? -1 - p : 2 * n - 1 - p) : (p < 0 ? -p : 2 * n - 2 - p);
        if (near >= 0 && near < n)
            return near;
        int64_t period = border == WE_BORDER_REFLECT ? 2 * n : 2 * n - 2;
        p = (p % period + period) % period;
        return p < n ? p : period - p - (border == WE_BORDER_REFLECT);
    }
    default:
        return -1;
    }
}

static void copy_pixel(char *to, const char *from, size_t size) {
    switch (size) { /* known sizes are no calls */
    case 1:
        *to = *from;
        break;
    case 2:
        memcpy(to, from, 2);
        break;
    case 3:
        memcpy(to, from, 3);
        break;
    case 4:
        memcpy(to, from, 4);
        break;
    case 6:
        memcpy(to, from, 6);
        break;
    default:
        memcpy(to, from, size);
    }
}

void we_image_extend(char *row, int64_t width, int64_t channels, size_t element, int64_t left, int64_t right,
                     int border, const void *outside) {
    size_t pixel = (size_t)channels * element;
    char *middle = row + (size_t)left * pixel, *end = middle + (size_t)width * pixel;
    if (border == WE_BORDER_CONSTANT && element == 1) {
        memset(row, *(const uint8_t *)outside, (size_t)left * pixel);
        memset(end, *(const uint8_t *)outside, (size_t)right * pixel);
        return;
    }
    if (border == WE_BORDER_REFLECT_101 && left < width &&
        right < width) { /* the usual one, as each pixel counts */
        for (int64_t i = 1; i <= left; i++)
            copy_pixel(middle - (size_t)i * pixel, middle + (size_t)i * pixel, pixel);
        for (int64_t i = 0; i < right; i++)
            copy_pixel(end + (size_t)i * pixel, end - (size_t)(i + 2) * pixel, pixel);
        return;
    }
    for (int64_t i = -left; i < width + right; i++) {
        if (i == 0)
            i = width;
        if (i >= width + right)
            break;
        int64_t from = we_border_at(i, width, border);
        char *to = middle + i * (int64_t)pixel;
        if (from >= 0) {
            copy_pixel(to, middle + (size_t)from * pixel, pixel);
            continue;
        }
        for (int64_t c = 0; c < channels; c++)
            copy_pixel(to + (size_t)c * element, outside, element);
    }
}

/* ---- Rows among threads ---- */

typedef struct shared_rows {
    we_rows_work work;
    void *context;
    atomic_bool failed;
} shared_rows;

static void run_rows(void *context, int64_t begin, int64_t end) {
    shared_rows *s = context;
    if (!s->work(s->context, begin, end))
        atomic_store(&s->failed, true);
}

we_status we_imaging_rows(const we_imaging_call *c, int64_t rows, int64_t row_bytes, we_rows_work work,
                          void *context, we_error *err) {
    shared_rows s = {work, context, false};
    int64_t grain = SHARED_BYTES / (row_bytes + 1) + 1;
    if (c->pool && grain < rows / (8 * we_pool_threads(c->pool)))
        grain = rows / (8 * we_pool_threads(c->pool)); /* every piece warms up anew */
    if (rows > 0)
        we_parallel_for(c->pool, rows, grain, run_rows, &s);
    return atomic_load(&s.failed) ? we_error_no_memory(err) : WE_OK;
}

/* ---- Elements as numbers ---- */

void we_pixels_to_f64(we_dtype dtype, int64_t n, const void *x, double *y) {
    WE_FOR_PIXELS(dtype, {
        for (int64_t i = 0; i < n; i++)
            y[i] = (double)((const T *)x)[i];
    })
}

double we_pixel_saturate(we_dtype dtype, double value) {
    static const struct {
        double low, high;
    } RANGES[WE_DTYPE_COUNT] = {[WE_U8] = {0, 255},
                                [WE_U16] = {0, 65535},
                                [WE_I16] = {-32768, 32767},
                                [WE_I8] = {-128, 127},
                                [WE_I32] = {INT32_MIN, INT32_MAX},
                                [WE_U32] = {0, UINT32_MAX}};
    if (dtype == WE_F32 || dtype == WE_F64)
        return value;
    value = value == value ? rint(value) : 0;
    return value < RANGES[dtype].low    ? RANGES[dtype].low
           : value > RANGES[dtype].high ? RANGES[dtype].high
                                        : value;
}

void we_pixels_from_f64(we_dtype dtype, int64_t n, const double *x, void *y) {
    WE_FOR_PIXELS(dtype, {
        for (int64_t i = 0; i < n; i++)
            ((T *)y)[i] = (T)we_pixel_saturate(dtype, x[i]);
    })
}
