/* What the families of image operations share. An operation checks all it is given: callers are scripts. */
#ifndef WE_IMAGING_IMAGING_H
#define WE_IMAGING_IMAGING_H

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include <walle/imaging.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/threads.h"
#include "kernels/kernels.h"

/* One call: inputs, outputs, numbers, as imaging.inc counts them. */
typedef struct we_imaging_call {
    const we_image *in, *out;
    size_t in_count, out_count, number_count;
    const double *p;
    const we_image_kernels *kernels;
    we_pool *pool;
} we_imaging_call;

#define WE_IMAGING_ROW(name, least_in, most_in, outs, least_numbers, most_numbers)                           \
    we_status we_imaging_##name(const we_imaging_call *c, we_error *err);
#include "imaging/imaging.inc"
#undef WE_IMAGING_ROW

enum { WE_MOST_PLANES = 32 }; /* results of one call */

/* OpenCV's numbers. */
enum {
    WE_BORDER_CONSTANT,
    WE_BORDER_REPLICATE,
    WE_BORDER_REFLECT,
    WE_BORDER_WRAP,
    WE_BORDER_REFLECT_101,
    WE_BORDER_TRANSPARENT,
    WE_BORDER_ISOLATED = 16
};

/* Where position p of a line of n >= 1 elements is read; -1: the constant. */
int64_t we_border_at(int64_t p, int64_t n, int border);
/* A row of which `width` pixels are there after room for `left`: these and `right` ones behind are made, of
 * copies or of the element `outside`. */
void we_image_extend(char *row, int64_t width, int64_t channels, size_t element, int64_t left, int64_t right,
                     int border, const void *outside);
/* `number` as one of the borders a filter can have. ISOLATED is dropped: every image is its own. */
we_status we_border_of(double number, int *border, we_error *err);

static inline char *we_image_row(const we_image *image, int64_t y) {
    return (char *)image->data + y * image->row;
}

static inline size_t we_image_size(const we_image *image) { /* of an element */
    return we_dtype_size(image->dtype);
}

static inline bool we_image_is_empty(const we_image *image) {
    return image->height == 0 || image->width == 0 || image->channels == 0;
}

/* Refuse unless the dtype is among the bits (1 << WE_U8 | ...) that operation `what` takes. */
we_status we_image_expect(const we_image *image, uint32_t dtypes, const char *what, we_error *err);
/* Refuse unless both have the same height, width and channels. */
we_status we_image_expect_size(const we_image *image, const we_image *like, const char *what, we_error *err);
we_status we_image_expect_like(const we_image *image, const we_image *like, const char *what, we_error *err);
/* Refuse NaN, infinities and what is beyond [low, high]; else *out = number, truncated. */
we_status we_number_within(double number, int64_t low, int64_t high, const char *what, int64_t *out,
                           we_error *err);

#define WE_TYPE(dtype) (1u << WE_##dtype)
enum {
    WE_PIXELS = WE_TYPE(U8) | WE_TYPE(U16) | WE_TYPE(I16) | WE_TYPE(F32) | WE_TYPE(F64),
    WE_ANY_PIXELS = WE_PIXELS | WE_TYPE(I8) | WE_TYPE(I32) | WE_TYPE(U32),
};

/* Run `body` once for every element type, with T as its name, for the dtype given. */
#define WE_FOR_PIXELS(dtype_, body)                                                                          \
    switch (dtype_) {                                                                                        \
        WE_FOR_TYPE_(U8, uint8_t, body)                                                                      \
        WE_FOR_TYPE_(U16, uint16_t, body)                                                                    \
        WE_FOR_TYPE_(I16, int16_t, body)                                                                     \
        WE_FOR_TYPE_(F32, float, body)                                                                       \
        WE_FOR_TYPE_(F64, double, body)                                                                      \
        WE_FOR_TYPE_(I8, int8_t, body)                                                                       \
        WE_FOR_TYPE_(I32, int32_t, body)                                                                     \
        WE_FOR_TYPE_(U32, uint32_t, body)                                                                    \
    default:                                                                                                 \
        break;                                                                                               \
    }
#define WE_FOR_TYPE_(DT, type, body)                                                                         \
    case WE_##DT: {                                                                                          \
        typedef type T;                                                                                      \
        body;                                                                                                \
        break;                                                                                               \
    }

/* Rows [begin, end) of a result; false when out of memory. */
typedef bool (*we_rows_work)(void *context, int64_t begin, int64_t end);
/* Share `rows` rows of `row_bytes` bytes of work each. */
we_status we_imaging_rows(const we_imaging_call *c, int64_t rows, int64_t row_bytes, we_rows_work work,
                          void *context, we_error *err);

/* n elements to and from double or float, rounded half to even and kept within the type's range; NaN is 0. */
void we_pixels_to_f64(we_dtype dtype, int64_t n, const void *x, double *y);
void we_pixels_from_f64(we_dtype dtype, int64_t n, const double *x, void *y);
double we_pixel_saturate(we_dtype dtype, double value);

/* Takes row y of a result as it is made, from several threads at once. */
typedef void (*we_row_sink)(void *context, int64_t y, const uint8_t *row);
/* Resize the first input, of bytes, by linear weights into a sink. */
we_status we_resize_bytes_to(const we_imaging_call *c, int64_t height, int64_t width, we_row_sink sink,
                             void *sink_context, we_error *err);

static inline int32_t
we_round(double value) { /* half to even, saturated: lrint of huge values is undefined */
    return value >= 2147483647.0    ? INT32_MAX
           : value <= -2147483648.0 ? INT32_MIN
           : value != value         ? INT32_MIN
                                    : (int32_t)lrint(value);
}

#endif
