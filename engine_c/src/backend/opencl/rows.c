#include "backend/opencl/rows.h"

#include <stdio.h>
#include <string.h>

#include "backend/opencl/opencl.h"

enum {
    LEAST = 32, /* work items: what GPUs run in step */
    EACH = 4,   /* elements of a row that an item is there for */
};

size_t we_opencl_row_kernel(we_recorder *r, int64_t k, const char *name) {
    char options[WE_OPENCL_OPTIONS];
    size_t group = LEAST;
    while (group * 2 <= we_opencl_group(r) && (int64_t)group * EACH < k)
        group *= 2;
    we_opencl_options(r, WE_F32, options);
    size_t used = strlen(options);
    snprintf(options + used, sizeof options - used, " -DGROUP=%zu", group);
    we_record_kernel(r, we_cl_rows, options, name);
    return group;
}
