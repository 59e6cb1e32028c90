#include <math.h>

#include "kernels/kernels.h"

/* Of output `at` along dim i: taps [*begin, *end) lie inside the plane. */
static void inside(const we_plane *p, int i, int64_t at, int64_t *begin, int64_t *end) {
    *begin = 0;
    *end = p->taps[i];
    while (*begin < *end && we_plane_seen(p, i, at, *begin) < 0)
        ++*begin;
    while (*end > *begin && we_plane_seen(p, i, at, *end - 1) >= p->in[i])
        --*end;
}

static float larger(float a, float b) {
    return b > a || b != b ? b : a;
}

static float add(float a, float b) {
    return a + b;
}

/* One output: `combine` over what it sees. */
static float reduce(const we_plane *p, const float *x, int64_t row, int64_t column, float empty,
                    float (*combine)(float, float)) {
    int64_t top, bottom, left, right;
    float all = empty;
    inside(p, 0, row, &top, &bottom);
    inside(p, 1, column, &left, &right);
    for (int64_t r = top; r < bottom; r++) {
        for (int64_t c = left; c < right; c++)
            all = combine(all, x[we_plane_seen(p, 0, row, r) * p->in[1] + we_plane_seen(p, 1, column, c)]);
    }
    return all;
}

void we_f32_plane_largest__ref(const we_plane *p, const float *x, float *y) {
    for (int64_t row = p->first; row < p->end; row++) {
        for (int64_t column = 0; column < p->out[1]; column++)
            y[row * p->out[1] + column] = reduce(p, x, row, column, -INFINITY, larger);
    }
}

void we_f32_plane_mean__ref(const we_plane *p, const float *x, float *y) {
    for (int64_t row = p->first; row < p->end; row++) {
        int64_t top, bottom;
        inside(p, 0, row, &top, &bottom);
        for (int64_t column = 0; column < p->out[1]; column++)
            y[row * p->out[1] + column] =
                reduce(p, x, row, column, 0, add) * p->row_shares[bottom - top] * p->column_shares[column];
    }
}

void we_f32_plane_filter__ref(const we_plane *p, const float *x, float *y) {
    for (int64_t row = p->first; row < p->end; row++) {
        for (int64_t column = 0; column < p->out[1]; column++) {
            int64_t at = row * p->out[1] + column, top, bottom, left, right;
            float sum = p->bias;
            inside(p, 0, row, &top, &bottom);
            inside(p, 1, column, &left, &right);
            for (int64_t r = top; r < bottom; r++) {
                for (int64_t c = left; c < right; c++)
                    sum += p->weights[r * p->taps[1] + c] *
                           x[we_plane_seen(p, 0, row, r) * p->in[1] + we_plane_seen(p, 1, column, c)];
            }
            sum += p->residual ? p->residual[at] : 0;
            sum = sum < p->low ? p->low : sum;
            y[at] = sum > p->high ? p->high : sum;
        }
    }
}
