/* Both ends of Winograd's convolution from vector wrappers, to be defined as KERNEL_IN and KERNEL_OUT. The
 * matrices are those of ref/f32_winograd_ref.c, with common terms taken together. */
#include "kernels/kernels.h"
#include "kernels/simd/image.h"

#define UNROLL _Pragma("GCC unroll 8")
#define INLINE static inline __attribute__((always_inline))

/* Bt times a column of vectors. */
INLINE void in_column(const int outputs, const VEC *d, VEC *to) {
    if (outputs == 2) {
        to[0] = V_SUB(d[0], d[2]);
        to[1] = V_ADD(d[1], d[2]);
        to[2] = V_SUB(d[2], d[1]);
        to[3] = V_SUB(d[1], d[3]);
        return;
    }
    VEC four = V_SPLAT(4), two = V_SPLAT(2);
    if (outputs == 6) {
        VEC five = V_SPLAT(5), quarter = V_SPLAT(.25f), half = V_SPLAT(.5f), most = V_SPLAT(5.25f);
        VEC even = V_FNMA(V_SPLAT(4.25f), d[4], V_ADD(d[2], d[6]));
        VEC odd = V_FNMA(V_SPLAT(4.25f), d[3], V_ADD(d[1], d[5]));
        to[0] = V_FMA(most, V_SUB(d[4], d[2]), V_SUB(d[0], d[6]));
        to[1] = V_ADD(even, odd);
        to[2] = V_SUB(even, odd);
        even = V_FMA(quarter, d[2], V_FNMA(V_SPLAT(1.25f), d[4], d[6]));
        odd = V_FMA(two, d[5], V_FNMA(V_SPLAT(2.5f), d[3], V_MUL(half, d[1])));
        to[3] = V_ADD(even, odd);
        to[4] = V_SUB(even, odd);
        even = V_FMA(four, d[2], V_FNMA(five, d[4], d[6]));
        odd = V_FMA(two, d[1], V_FNMA(V_SPLAT(2.5f), d[3], V_MUL(half, d[5])));
        to[5] = V_ADD(even, odd);
        to[6] = V_SUB(even, odd);
        to[7] = V_FMA(most, V_SUB(d[3], d[5]), V_SUB(d[7], d[1]));
        return;
    }
    /* In an order, and with terms taken together, so that what a product is added to is not needed again:
     * where it has to be overwritten, nothing is copied. */
    VEC near = V_SUB(d[4], d[2]), step = V_SUB(d[3], d[1]), far = V_MUL(two, step);
    to[3] = V_ADD(near, far);
    to[4] = V_SUB(near, far);
    to[0] = V_FMA(four, V_SUB(d[0], d[2]), near);
    to[5] = V_FNMA(four, step, V_SUB(d[5], d[3]));
    VEC even = V_FNMA(four, d[2], d[4]), odd = V_FNMA(four, d[1], d[3]);
    to[1] = V_ADD(even, odd);
    to[2] = V_SUB(even, odd);
}

/* At times a column likewise. */
INLINE void out_column(const int outputs, const VEC *m, VEC *to) {
    if (outputs == 2) {
        to[0] = V_ADD(V_ADD(m[0], m[1]), m[2]);
        to[1] = V_SUB(V_SUB(m[1], m[2]), m[3]);
        return;
    }
    VEC sum = V_ADD(m[1], m[2]), difference = V_SUB(m[1], m[2]);
    VEC far_sum = V_ADD(m[3], m[4]), far_difference = V_SUB(m[3], m[4]);
    if (outputs == 6) {
        VEC near_sum = V_ADD(m[5], m[6]), near_difference = V_SUB(m[5], m[6]);
        to[0] = V_ADD(V_ADD(m[0], sum), V_ADD(far_sum, near_sum));
        to[5] = V_FMA(V_SPLAT(.03125f), near_difference,
                      V_FMA(V_SPLAT(32), far_difference, V_ADD(difference, m[7])));
        to[2] = V_FMA(V_SPLAT(.25f), near_sum, V_FMA(V_SPLAT(4), far_sum, sum));
        to[4] = V_FMA(V_SPLAT(.0625f), near_sum, V_FMA(V_SPLAT(16), far_sum, sum));
        to[1] = V_FMA(V_SPLAT(.5f), near_difference, V_FMA(V_SPLAT(2), far_difference, difference));
        to[3] = V_FMA(V_SPLAT(.125f), near_difference, V_FMA(V_SPLAT(8), far_difference, difference));
        return;
    }
    to[0] = V_ADD(V_ADD(m[0], sum), far_sum);
    to[3] = V_FMA(V_SPLAT(8), far_difference, V_ADD(difference, m[5]));
    to[1] = V_FMA(V_SPLAT(2), far_difference, difference);
    to[2] = V_FMA(V_SPLAT(4), far_sum, sum);
}

/* `count` <= LANES channels from `channel` on. */
INLINE void in_channels(const int outputs, const void *const *patch, int64_t channel, int32_t count, float *v,
                        int64_t plane) {
    const int size = outputs + 2;
    VEC d[WE_WINOGRAD_SIZE], half[WE_WINOGRAD_SIZE][WE_WINOGRAD_SIZE], row[WE_WINOGRAD_SIZE];
    UNROLL for (int j = 0; j < size; j++) {
        UNROLL for (int i = 0; i < size; i++) d[i] =
            V_LOAD_IMAGE((const ELEMENT *)patch[i * size + j] + channel, count);
        in_column(outputs, d, row);
        UNROLL for (int i = 0; i < size; i++) half[i][j] = row[i];
    }
    UNROLL for (int i = 0; i < size; i++) {
        in_column(outputs, half[i], row);
        UNROLL for (int j = 0; j < size; j++)
            V_STORE_UP_TO(v + (i * size + j) * plane + channel, count, row[j]);
    }
}

INLINE void out_channels(const int outputs, const we_winograd_out *o, int64_t channel, int32_t count) {
    const int size = outputs + 2;
    VEC m[WE_WINOGRAD_SIZE], half[6][WE_WINOGRAD_SIZE], row[6];
    VEC bias = o->bias ? V_LOAD_UP_TO(o->bias + channel, count) : V_ZERO();
    UNROLL for (int j = 0; j < size; j++) {
        UNROLL for (int i = 0; i < size; i++) m[i] =
            V_LOAD_UP_TO(o->from + (i * size + j) * o->plane + channel, count);
        out_column(outputs, m, row);
        UNROLL for (int i = 0; i < outputs; i++) half[i][j] = row[i];
    }
    UNROLL for (int i = 0; i < outputs; i++) {
        out_column(outputs, half[i], row);
        UNROLL for (int j = 0; j < outputs; j++) {
            ELEMENT *to = o->to[i * outputs + j];
            const ELEMENT *residual = o->residual ? o->residual[i * outputs + j] : NULL;
            VEC sum = V_ADD(row[j], bias);
            if (!to)
                continue;
            if (residual)
                sum = V_ADD(sum, V_LOAD_IMAGE(residual + channel, count));
            V_STORE_IMAGE(to + channel, count, V_CAP(V_RAISE(sum, o->low), o->high));
        }
    }
}

/* Whole vectors of channels, then what is left. */
INLINE void in_all(const int outputs, int64_t channels, const void *const *patch, float *v, int64_t plane) {
    int64_t c = 0;
    for (; c + LANES <= channels; c += LANES)
        in_channels(outputs, patch, c, LANES, v, plane);
    if (c < channels)
        in_channels(outputs, patch, c, (int32_t)(channels - c), v, plane);
}

INLINE void out_all(const int outputs, const we_winograd_out *o) {
    int64_t c = 0;
    for (; c + LANES <= o->channels; c += LANES)
        out_channels(outputs, o, c, LANES);
    if (c < o->channels)
        out_channels(outputs, o, c, (int32_t)(o->channels - c));
}

void KERNEL_IN(int32_t outputs, int64_t channels, const void *const *patch, float *v, int64_t plane) {
    if (outputs == 2)
        in_all(2, channels, patch, v, plane);
    else if (outputs == 6)
        in_all(6, channels, patch, v, plane);
    else
        in_all(4, channels, patch, v, plane);
}

void KERNEL_OUT(int32_t outputs, const we_winograd_out *o) {
    const we_winograd_out own = *o; /* a copy that no store to an image can change */
    if (outputs == 2)
        out_all(2, &own);
    else if (outputs == 6)
        out_all(6, &own);
    else
        out_all(4, &own);
}
