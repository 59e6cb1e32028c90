#include "kernels/pack/pack.h"

#include <string.h>

enum {
    STRETCH = 16,
};

void we_pack_panel(const float *from, int64_t line_step, int64_t step, int64_t lines, int64_t width,
                   int64_t depth, float *to) {
    if (lines < width)
        memset(to, 0, (size_t)(width * depth) * sizeof *to);
    if (line_step == 1) {
        for (int64_t p = 0; p < depth; p++)
            memcpy(to + p * width, from + p * step, (size_t)lines * sizeof *to);
        return;
    }
    /* Line by line in short stretches, so that each cache line of the source is read once while the stretch
     * of the panel stays in the first-level cache. */
    for (int64_t begin = 0; begin < depth; begin += STRETCH) {
        int64_t end = begin + STRETCH < depth ? begin + STRETCH : depth;
        for (int64_t i = 0; i < lines; i++) {
            for (int64_t p = begin; p < end; p++)
                to[p * width + i] = from[i * line_step + p * step];
        }
    }
}
