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

enum {
    STEP = WE_PACK_SLACK, /* elements moved at once: whole vectors, whatever the build's instruction set */
};

static inline void copy_run(const float *from, int32_t count, bool exact, float *to) {
    int32_t i = 0;
    for (; i + STEP <= count; i += STEP)
        memcpy(to + i, from + i, STEP * sizeof *to);
    if (i < count)
        memcpy(to + i, from + i, exact ? (size_t)(count - i) * sizeof *to : STEP * sizeof *to);
}

void we_pack_runs(const float *from, const int32_t *offsets, int64_t depth, const we_pack_run *runs,
                  int32_t count, int64_t width, bool exact, float *to) {
    if (count == 1 && runs->count == 32) { /* a full panel of the widest tile from one row: the usual case */
        for (int64_t p = 0; p < depth; p++)
            memcpy(to + p * width + runs->to, from + offsets[p] + runs->from, 32 * sizeof *to);
        return;
    }
    for (int64_t p = 0; p < depth; p++) {
        for (int32_t i = 0; i < count; i++)
            copy_run(from + offsets[p] + runs[i].from, runs[i].count, exact, to + p * width + runs[i].to);
    }
}
