#include "stored.clh"
/* Windows over images, one work item per result: pools, and convolutions of few channels per group. Definitions for a pool:
 * POOL 1, AVERAGE (else the largest), COUNT_PADDING; for a convolution: POOL 0. X_IS, W_IS, R_IS, Q_IS: how the image, the
 * weights, what is added to a result and the result are stored. */
typedef struct {
    int count, groups, channels, filters; /* results; channels and filters are of a group */
    int in_height, in_width, out_height, out_width;
    int kernel_y, kernel_x, stride_y, stride_x, dilation_y, dilation_x, pad_y, pad_x;
} window_t;

#if POOL
kernel void pool(window_t w, global const char *p, long po, global char *q, long qo) {
    int i = get_global_id(0);
    if (i >= w.count)
        return;
    int column = i % w.out_width, rest = i / w.out_width, row = rest % w.out_height, plane = rest / w.out_height;
    global const ELEMENT(X_IS) *x = (global const ELEMENT(X_IS) *)(p + po) + (long)plane * w.in_height * w.in_width;
    int y0 = row * w.stride_y - w.pad_y, x0 = column * w.stride_x - w.pad_x, seen = 0;
    float result = AVERAGE ? 0 : -INFINITY;
    for (int ty = 0; ty < w.kernel_y; ty++) {
        int yy = y0 + ty * w.dilation_y;
        if (yy < 0 || yy >= w.in_height)
            continue;
        for (int tx = 0; tx < w.kernel_x; tx++) {
            int xx = x0 + tx * w.dilation_x;
            if (xx < 0 || xx >= w.in_width)
                continue;
            float v = GET(X_IS, x, yy * w.in_width + xx);
            if (AVERAGE)
                result += v;
            else
                result = v > result || v != v ? v : result;
            seen++;
        }
    }
    if (AVERAGE)
        result = result * (1 / (float)(COUNT_PADDING ? w.kernel_y * w.kernel_x : max(seen, 1)));
    PUT(Q_IS, (global ELEMENT(Q_IS) *)(q + qo), i, result);
}
#else
typedef struct {
    float ceiling;
    int bias, relu, residual;
} after_t;

kernel void direct_conv(window_t w, after_t f, global const char *p, long po, global const char *weights_, long wo,
                        global const char *bias_, long bo, global const char *residual_, long ro, global char *q,
                        long qo) {
    int i = get_global_id(0);
    if (i >= w.count)
        return;
    int column = i % w.out_width, rest = i / w.out_width, row = rest % w.out_height;
    rest /= w.out_height;
    int filter = rest % (w.filters * w.groups), item = rest / (w.filters * w.groups), group = filter / w.filters;
    int plane = w.in_height * w.in_width, taps = w.kernel_y * w.kernel_x;
    global const ELEMENT(X_IS) *x =
        (global const ELEMENT(X_IS) *)(p + po) + (long)(item * w.groups + group) * w.channels * plane;
    global const ELEMENT(W_IS) *weights =
        (global const ELEMENT(W_IS) *)(weights_ + wo) + (long)filter * w.channels * taps;
    int y0 = row * w.stride_y - w.pad_y, x0 = column * w.stride_x - w.pad_x;
    float sum = f.bias ? ((global const float *)(bias_ + bo))[filter] : 0;
    for (int c = 0; c < w.channels; c++, x += plane, weights += taps) {
        for (int ty = 0; ty < w.kernel_y; ty++) {
            int yy = y0 + ty * w.dilation_y;
            if (yy < 0 || yy >= w.in_height)
                continue;
            for (int tx = 0; tx < w.kernel_x; tx++) {
                int xx = x0 + tx * w.dilation_x;
                if (xx >= 0 && xx < w.in_width)
                    sum = fma(GET(X_IS, x, yy * w.in_width + xx), GET(W_IS, weights, ty * w.kernel_x + tx), sum);
            }
        }
    }
    if (f.residual)
        sum += GET(R_IS, (global const ELEMENT(R_IS) *)(residual_ + ro), i);
    if (f.relu)
        sum = sum < 0 ? 0 : sum;
    if (f.ceiling > 0)
        sum = sum > f.ceiling ? f.ceiling : sum;
    PUT(Q_IS, (global ELEMENT(Q_IS) *)(q + qo), i, sum);
}
#endif
