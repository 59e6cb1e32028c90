/* Pieces of formulas that the rules of normalisation, attention, recurrence and losses share, in terms of the
 * emitters of lower.h and with their conventions. */
#ifndef WE_GEOMETRY_PARTS_H
#define WE_GEOMETRY_PARTS_H

#include "geometry/lower.h"

/* The type a chain of operations is computed in, so that it rounds once: F32 for the half-width floats. */
we_dtype we_wide_type(we_dtype dtype);
/* x as that type; x itself where it has it already. */
int32_t we_emit_as(we_lower *l, int32_t x, we_dtype dtype);
int32_t we_emit_wide(we_lower *l, int32_t x);
/* The elements of x in order, in the type and shape of `into`. */
void we_emit_store(we_lower *l, int32_t x, int32_t into);
/* A raster that writes nothing but zeros to each output; true where input 0 has no elements. */
bool we_emit_if_empty(we_lower *l);

int32_t we_emit_times(we_lower *l, int32_t x, double factor, int32_t into);
int32_t we_emit_plus(we_lower *l, int32_t x, double addend, int32_t into);
/* All of one value. */
int32_t we_emit_fill(we_lower *l, we_dtype dtype, int32_t rank, const int64_t *dims, double value);
/* The I64 constant first, first + 1, ... of the shape, which has one dim that is not 1. */
int32_t we_emit_range(we_lower *l, int64_t first, int32_t rank, const int64_t *dims);

/* x[..., start + i * step, ...] along one axis, i < size. */
int32_t we_emit_part(we_lower *l, int32_t x, int32_t axis, int64_t start, int64_t step, int64_t size);
/* [rows, depth] times the transpose of [columns, depth]. */
int32_t we_emit_linear(we_lower *l, int32_t x, int32_t weight);

/* exp(x - most) over one axis and its sum; *shifted gets x - most. Subtracting the largest keeps exp in
 * range. `masked`: rows may be all -infinity; they give zeros. */
int32_t we_emit_shifted_exp(we_lower *l, int32_t x, int32_t axis, bool masked, int32_t *shifted,
                            int32_t *sum);
int32_t we_emit_log_softmax(we_lower *l, int32_t x, int32_t axis, int32_t into);

/* (x - mean) / sqrt(variance + epsilon) over the flagged axes; mean and inverse of the deviation go to
 * *mean and *inverse, which keep the axes as 1. */
int32_t we_emit_standardise(we_lower *l, int32_t x, const bool *reduced, double epsilon, int32_t *mean,
                            int32_t *inverse);

#endif
