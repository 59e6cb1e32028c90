#include "kernels/pack/pack.h"

#include <string.h>

#include "kernels/kernels.h"

enum {
    STRETCH = 16,
};

/* The lines of a matrix become its columns. */
static void turn_lines(const float *from, int64_t line_step, int64_t lines, int64_t width, int64_t depth,
                       float *to) {
    const we_kernels *kernels;
    we_kernels_get(&kernels, NULL); /* where WALLE_ENGINE_ISA is wrong, the reference's */
    kernels->transpose(depth, lines, (const uint32_t *)from, line_step, (uint32_t *)to, width);
}

void we_pack_panel(const float *from, int64_t line_step, int64_t step, int64_t lines, int64_t width,
                   int64_t depth, float *to) {
    if (lines < width)
        memset(to, 0, (size_t)(width * depth) * sizeof *to);
    if (line_step == 1) {
        for (int64_t p = 0; p < depth; p++)
            memcpy(to + p * width, from + p * step, (size_t)lines * sizeof *to);
        return;
    }
    if (step == 1) {
        turn_lines(from, line_step, lines, width, depth, to);
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
