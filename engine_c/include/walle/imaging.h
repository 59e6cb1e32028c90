/* Operations on images: the part of the library that the vision functions of a task are made of.
 *
 * All are run by one function, which takes the number of a row of imaging.inc, images, and plain numbers. An
 * image is rows of packed pixels in memory that somebody else owns; kernels, tables and points are images
 * too, of one row or one column. Outputs are made by the caller in the size and type the operation wants.
 * Nothing here keeps state between calls but the crew of helper threads; all of it may be called from any
 * thread. Values that do not fit are refused by INVALID_ARGUMENT with a sentence for the caller's user. */
#ifndef WALLE_IMAGING_H
#define WALLE_IMAGING_H

#include <walle/engine.h>

typedef struct we_image {
    void *data;
    int64_t height, width, channels;
    int64_t row; /* bytes from one row to the next; may be negative */
    we_dtype dtype;
} we_image;

/* The number of the operation called so, or -1. */
WE_API int we_imaging_find(const char *name);
/* The name of operation `op`, NULL behind the last. */
WE_API const char *we_imaging_name(int op);

/* Run an operation with at most `threads` threads (0: as many as there are cores). Outputs must not overlap
 * inputs or each other, except where imaging.inc says so. */
WE_API we_status we_imaging_run(int op, const we_image *in, size_t in_count, const we_image *out,
                                size_t out_count, const double *numbers, size_t number_count, int32_t threads,
                                we_error *err);

/* The borders of the regions of a binary image (any non-zero pixel is inside), as OpenCV's findContours lists
 * them. */
typedef struct we_contours {
    size_t count;       /* contours */
    size_t *starts;     /* count + 1: contour i has points starts[i] .. starts[i + 1] */
    int32_t *points;    /* x, y of each */
    int32_t *hierarchy; /* next, previous, first child, parent of each contour; -1 where there is none */
} we_contours;
WE_API we_status we_contours_find(const we_image *image, int mode, int method, int32_t x_offset,
                                  int32_t y_offset, we_contours *out, we_error *err);
WE_API void we_contours_free(we_contours *contours);

#endif
