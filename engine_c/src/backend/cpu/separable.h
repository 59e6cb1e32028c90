/* Windows over images that can be looked at one axis after the other: every output is a sum of weighted
 * elements, or the largest of them, along rows and across. Row by row while they are in cache, in the order
 * that makes fewer rows go along: where the image grows, every row of the input once, kept until no output
 * needs it any more; else the rows that were combined first. */
#ifndef WE_BACKEND_CPU_SEPARABLE_H
#define WE_BACKEND_CPU_SEPARABLE_H

#include "backend/cpu/cpu.h"

enum {
    WE_SEPARABLE_TAPS = 64,
    WE_SEPARABLE_POSITIONS = 1 << 20,
};

/* Output o sees elements at[tap * out + o], which ascend along both; see we_resample. */
typedef struct we_separable_axis {
    int64_t in, out, taps;
    int32_t *at;
    float *weights; /* NULL: the largest, or the only one */
    bool same;      /* every output is the element of its place */
} we_separable_axis;

typedef struct we_separable {
    int64_t items, inner; /* images, and elements that every position of a row has */
    we_separable_axis rows, columns;
    float factor; /* of every output, in the end */
} we_separable;

/* Tables to be filled; false where they would be too large, or memory is out. */
bool we_separable_axis_new(we_arena *arena, int64_t in, int64_t out, int64_t taps, bool weighted,
                           we_separable_axis *axis);
/* Once they are; false where they do not ascend. */
bool we_separable_axis_finish(we_separable_axis *axis);

/* Steps for the search. */
double we_separable_cost(const we_separable *s);
size_t we_separable_scratch(const we_separable *s, int32_t threads);
void we_separable_run(const we_run *run, const we_command *command, const we_separable *s);

#endif
