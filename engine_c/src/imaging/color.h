/* What conversions between colour spaces share. Bytes go through planes of a block of pixels, so that what is
 * computed are plain rows; all else goes pixel by pixel as doubles. */
#ifndef WE_IMAGING_COLOR_H
#define WE_IMAGING_COLOR_H

#include "imaging/imaging.h"

enum { WE_COLOR_BLOCK = 512, WE_COLOR_PLANES = 4 };

typedef struct we_coloring we_coloring;
/* Make the result's planes of n pixels in[channel][...] of bytes. */
typedef void (*we_u8_formula)(const we_coloring *k, int64_t n, uint8_t *const *in, uint8_t *const *out);
/* Make one result pixel of one source pixel. */
typedef void (*we_f64_formula)(const we_coloring *k, const double *in, double *out);

struct we_coloring {
    const we_imaging_call *c;
    const we_image *in, *out;
    const double *p; /* numbers behind the formula's own */
    we_u8_formula u8;
    we_rows_work bytes; /* makes rows of bytes; NULL: by `u8` */
    we_f64_formula f64;
    int blue;         /* channel of blue on the side that has it */
    double one, half; /* of the element type: full scale and the middle of chroma */
    float hue_scale;
    int32_t range;
};

/* Run the formulas over the image, having checked its type and the channels of both sides. */
we_status we_color_convert(we_coloring *k, uint32_t dtypes, int64_t least_in, int64_t most_in,
                           int64_t least_out, int64_t most_out, we_error *err);
/* The first number of a call: the channel of blue. */
we_status we_color_blue_of(const we_imaging_call *c, int *blue, we_error *err);

#endif
