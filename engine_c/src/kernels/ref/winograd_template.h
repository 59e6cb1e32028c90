/* Reference: the matrices spelt out. Bt of all sizes, and the transpose of A. Define KERNEL_IN, KERNEL_OUT,
 * ELEMENT, LOAD(x) and STORE(x) before. */
#include "base/dtype.h"
#include "kernels/kernels.h"

typedef const float matrix_row[WE_WINOGRAD_SIZE];

static matrix_row BT6[8] = {{1, 0, -5.25f, 0, 5.25f, 0, -1, 0},      {0, 1, 1, -4.25f, -4.25f, 1, 1, 0},
                            {0, -1, 1, 4.25f, -4.25f, -1, 1, 0},     {0, .5f, .25f, -2.5f, -1.25f, 2, 1, 0},
                            {0, -.5f, .25f, 2.5f, -1.25f, -2, 1, 0}, {0, 2, 4, -2.5f, -5, .5f, 1, 0},
                            {0, -2, 4, 2.5f, -5, -.5f, 1, 0},        {0, -1, 0, 5.25f, 0, -5.25f, 0, 1}};
static matrix_row AT6[6] = {{1, 1, 1, 1, 1, 1, 1, 0},
                            {0, 1, -1, 2, -2, .5f, -.5f, 0},
                            {0, 1, 1, 4, 4, .25f, .25f, 0},
                            {0, 1, -1, 8, -8, .125f, -.125f, 0},
                            {0, 1, 1, 16, 16, .0625f, .0625f, 0},
                            {0, 1, -1, 32, -32, .03125f, -.03125f, 1}};
static matrix_row BT4[6] = {{4, 0, -5, 0, 1, 0},  {0, -4, -4, 1, 1, 0}, {0, 4, -4, -1, 1, 0},
                            {0, -2, -1, 2, 1, 0}, {0, 2, -1, -2, 1, 0}, {0, 4, 0, -5, 0, 1}};
static matrix_row AT4[4] = {
    {1, 1, 1, 1, 1, 0}, {0, 1, -1, 2, -2, 0}, {0, 1, 1, 4, 4, 0}, {0, 1, -1, 8, -8, 1}};
static matrix_row BT2[4] = {{1, 0, -1, 0}, {0, 1, 1, 0}, {0, -1, 1, 0}, {0, 1, 0, -1}};
static matrix_row AT2[2] = {{1, 1, 1, 0}, {0, 1, -1, -1}};

static matrix_row *bt_of(int32_t outputs) {
    return outputs == 6 ? BT6 : outputs == 4 ? BT4 : BT2;
}

static matrix_row *at_of(int32_t outputs) {
    return outputs == 6 ? AT6 : outputs == 4 ? AT4 : AT2;
}

/* Element (i, j) of M d transpose(M). */
static double both_sides(matrix_row *m, int32_t size, int32_t i, int32_t j, const float *d) {
    double sum = 0;
    for (int32_t k = 0; k < size; k++) {
        for (int32_t l = 0; l < size; l++)
            sum += (double)m[i][k] * d[k * size + l] * m[j][l];
    }
    return sum;
}

void KERNEL_IN(int32_t outputs, int64_t channels, const void *const *patch, float *v, int64_t plane) {
    int32_t size = outputs + 2;
    for (int64_t c = 0; c < channels; c++) {
        float d[WE_WINOGRAD_SIZE * WE_WINOGRAD_SIZE];
        for (int32_t p = 0; p < size * size; p++)
            d[p] = LOAD(((const ELEMENT *)patch[p])[c]);
        for (int32_t p = 0; p < size * size; p++)
            v[p * plane + c] = (float)both_sides(bt_of(outputs), size, p / size, p % size, d);
    }
}

void KERNEL_OUT(int32_t outputs, const we_winograd_out *o) {
    int32_t size = outputs + 2;
    for (int64_t c = 0; c < o->channels; c++) {
        float m[WE_WINOGRAD_SIZE * WE_WINOGRAD_SIZE];
        for (int32_t p = 0; p < size * size; p++)
            m[p] = o->from[p * o->plane + c];
        for (int32_t p = 0; p < outputs * outputs; p++) {
            if (!o->to[p])
                continue;
            float sum = (float)both_sides(at_of(outputs), size, p / outputs, p % outputs, m);
            sum += o->bias ? o->bias[c] : 0;
            sum += o->residual ? LOAD(((const ELEMENT *)o->residual[p])[c]) : 0;
            sum = sum < o->low ? o->low : sum;
            ((ELEMENT *)o->to[p])[c] = STORE(sum > o->high ? o->high : sum);
        }
    }
}
