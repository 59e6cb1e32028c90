/* Places of a run of indices, plain C that compilers turn into vectors; define KERNEL before including. */
#include "kernels/kernels.h"

static inline __attribute__((always_inline)) bool place(const we_place *p, const int64_t *index,
                                                        const int64_t stride, int64_t *restrict out) {
    uint64_t outside = 0, extent = (uint64_t)p->extent;
    int64_t start = p->start, step = p->step, by = p->by;
    for (int64_t j = 0; j < p->count; j++) {
        int64_t value = index[j * stride];
        value += value < 0 ? p->extent : 0;
        outside |= (uint64_t)value >= extent;
        out[j] = start + j * step + value * by;
    }
    return outside == 0;
}

bool KERNEL(const we_place *p, const int64_t *index, int64_t *out) {
    const we_place own = *p;
    return own.stride == 1 ? place(&own, index, 1, out) : place(&own, index, own.stride, out);
}
