/* Panels of a matrix in the order a micro-kernel reads them. Both operands use the same routine: a panel is
 * `width` rows of A, or `width` columns of B, stored [depth][width], padded with zeros to the width. */
#ifndef WE_KERNELS_PACK_PACK_H
#define WE_KERNELS_PACK_PACK_H

#include <stdbool.h>
#include <stdint.h>

/* Pack `lines` (<= width) lines of `depth` elements. Element (line i, depth p) is at from[i * line_step + p *
 * step]; steps of any sign, in elements. */
void we_pack_panel(const float *from, int64_t line_step, int64_t step, int64_t lines, int64_t width,
                   int64_t depth, float *to);

/* A stretch of a panel's columns that lies together in memory. */
typedef struct we_pack_run {
    int32_t from, to, count; /* element offset in the source, first column, columns */
} we_pack_run;

enum {
    WE_PACK_SLACK = 8, /* elements that we_pack_runs may read and write past a run */
};

/* Pack a panel whose row p is made of runs of from + offsets[p]. Runs are in order of `to` and may spill
 * WE_PACK_SLACK elements past their end, on both sides, unless `exact`. Columns that no run covers are left
 * alone. */
void we_pack_runs(const float *from, const int32_t *offsets, int64_t depth, const we_pack_run *runs,
                  int32_t count, int64_t width, bool exact, float *to);

#endif
