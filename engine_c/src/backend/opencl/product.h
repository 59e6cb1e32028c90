/* Tiled products of float32: what products and convolutions share. */
#ifndef WE_BACKEND_OPENCL_PRODUCT_H
#define WE_BACKEND_OPENCL_PRODUCT_H

#include "backend/opencl/opencl.h"

/* How a tile of an operand is read; as in matmul.cl. */
typedef enum we_tile_reading {
    WE_READ_ALONG_K,
    WE_READ_ACROSS,
    WE_READ_ANY,
    WE_READ_PATCHES,
} we_tile_reading;

/* A way to cut a product among work items: one row of tiles.inc. */
typedef struct we_opencl_tile {
    int32_t bm, bn, bk, tm, tn;
    bool wide; /* for processors: bn and tn are vectors of the device */
    double share;
} we_opencl_tile;

/* As image_t of matmul.cl. */
typedef struct we_opencl_image {
    int32_t height, width, out_width, stride_y, stride_x, pad_y, pad_x, item;
} we_opencl_image;

typedef struct we_opencl_product {
    we_matmul p;
    we_spot a, b, bias, residual, c;                /* bias and residual: NONE where absent */
    we_dtype a_form, b_form, c_form, residual_form; /* how they are stored: F32, F16 or BF16 */
    we_tile_reading read_a, read_b;
    float ceiling;
    bool out_images;
    int64_t positions; /* of an image */
    we_spot taps;      /* of patches */
    we_opencl_image image;
} we_opencl_product;

/* The tile, and parts of k, that the product is expected to be fastest with. */
typedef struct we_opencl_cut {
    const we_opencl_tile *tile;
    int32_t splits;
    double ns, share; /* expected time; share of the device's arithmetic that the tile reaches */
} we_opencl_cut;
we_opencl_cut we_opencl_cut_of(const we_opencl_device *device, const we_opencl_parameters *parameters,
                               const we_opencl_product *product);

enum { WE_OPENCL_SPLITS = 16 }; /* parts of k, at most */

/* The n-th way the device can, with its expected time; false past the last. */
bool we_opencl_nth_cut(const we_opencl_device *device, const we_opencl_parameters *parameters,
                       const we_opencl_product *product, size_t n, we_opencl_cut *out);
/* Cuts as two numbers, for files. */
bool we_opencl_has_cut(const we_opencl_device *device, int32_t tile, int32_t splits);
we_opencl_cut we_opencl_cut_at(int32_t tile, int32_t splits);
int32_t we_opencl_tile_number(const we_opencl_tile *tile);

/* How its operands are read, from where they lie; patches stay patches. */
void we_opencl_product_settle(we_opencl_product *product);
void we_opencl_product_record(we_recorder *r, const we_opencl_product *product, const we_opencl_cut *cut);

#endif
