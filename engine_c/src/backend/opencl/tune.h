/* The fastest cuts of products, timed on the device. What was found holds for all sessions of the process,
 * and for later ones where programs are kept. */
#ifndef WE_BACKEND_OPENCL_TUNE_H
#define WE_BACKEND_OPENCL_TUNE_H

#include "backend/opencl/product.h"

/* The cut of a product: as it was timed before, or is timed now where the recorder has time left for that;
 * else as the cost model says. */
we_opencl_cut we_opencl_tuned(we_recorder *r, const we_opencl_product *product);

#endif
