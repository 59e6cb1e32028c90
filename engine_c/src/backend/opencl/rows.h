/* Kernels of rows.cl, which give each row a group. */
#ifndef WE_BACKEND_OPENCL_ROWS_H
#define WE_BACKEND_OPENCL_ROWS_H

#include "backend/opencl/record.h"

/* Begin the launch of such a kernel for rows of k elements; the work items of a group. */
size_t we_opencl_row_kernel(we_recorder *r, int64_t k, const char *name);

#endif
