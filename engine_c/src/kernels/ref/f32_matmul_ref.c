/* Reference micro-kernel: the plain triple loop on packed panels. */
#include "kernels/kernels.h"

enum {
    ROWS = 4,
    COLUMNS = 4,
};

void we_f32_matmul_4x4__ref(int64_t k, const float *a, const float *b, float *c, int64_t ldc, int32_t m,
                            int32_t n, bool accumulate, const we_epilogue *epilogue) {
    for (int32_t i = 0; i < m; i++) {
        for (int32_t j = 0; j < n; j++) {
            float sum = accumulate ? c[i * ldc + j] : 0;
            for (int64_t p = 0; p < k; p++)
                sum += a[p * ROWS + i] * b[p * COLUMNS + j];
            if (epilogue) {
                sum += epilogue->row_bias ? epilogue->row_bias[i] : 0;
                sum += epilogue->column_bias ? epilogue->column_bias[j] : 0;
                sum += epilogue->residual ? epilogue->residual[i * ldc + j] : 0;
                sum = epilogue->relu && sum < 0 ? 0 : sum;
                sum = epilogue->ceiling > 0 && sum > epilogue->ceiling ? epilogue->ceiling : sum;
            }
            c[i * ldc + j] = sum;
        }
    }
}
