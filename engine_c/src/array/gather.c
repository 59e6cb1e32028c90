/* Moving elements, or parts of an array, that lie at given offsets. */
#include <string.h>

#include "array/loops.h"
#include "base/error.h"
#include "base/threads.h"

enum { GRAIN = 16384 };

typedef struct gathering {
    const int64_t *offsets;
    int64_t size;
    char *parts, *dense;
    bool out; /* from the parts to the dense array */
} gathering;

#define MOVE(T)                                                                                              \
    for (int64_t i = begin; i < end; i++) {                                                                  \
        if (g->out)                                                                                          \
            memcpy(g->dense + i * (int64_t)sizeof(T), g->parts + g->offsets[i], sizeof(T));                  \
        else                                                                                                 \
            memcpy(g->parts + g->offsets[i], g->dense + i * (int64_t)sizeof(T), sizeof(T));                  \
    }

static void gather_range(void *context, int64_t begin, int64_t end) {
    const gathering *g = context;
    switch (g->size) {
    case 1:
        MOVE(uint8_t)
        break;
    case 2:
        MOVE(uint16_t)
        break;
    case 4:
        MOVE(uint32_t)
        break;
    case 8:
        MOVE(uint64_t)
        break;
    default:
        MOVE(double _Complex)
    }
}

we_status we_array_gather(const int64_t *offsets, int64_t count, we_array_dtype dtype, char *parts,
                          char *dense, int out, we_error *err) {
    (void)err;
    gathering g = {offsets, we_array_dtype_size(dtype), parts, dense, out != 0};
    /* Of offsets that repeat, the last must win: scattering goes in order. */
    we_array_share(out && count >= 4 * GRAIN, count, GRAIN, gather_range, &g);
    return WE_OK;
}

we_status we_array_gather_parts(const int64_t *offsets, int64_t count, const we_array *part,
                                const we_array *row, int64_t step, int out, we_error *err) {
    we_array there = *part, here = *row;
    for (int64_t i = 0; i < count; i++) {
        there.data = part->data + offsets[i];
        here.data = row->data + i * step;
        WE_TRY(we_array_copy(out ? &there : &here, out ? &here : &there, err));
    }
    return WE_OK;
}
