/* Rows of [rows, k], one group each. Definition: GROUP, its work items. */
#define HELPER static __attribute__((always_inline))

HELPER float group_sum(float value, local float *parts) {
    int lane = get_local_id(0);
    barrier(CLK_LOCAL_MEM_FENCE);
    parts[lane] = value;
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int width = GROUP / 2; width > 0; width /= 2) {
        if (lane < width)
            parts[lane] += parts[lane + width];
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    return parts[0];
}

/* NaN wins. */
HELPER float group_max(float value, local float *parts) {
    int lane = get_local_id(0);
    barrier(CLK_LOCAL_MEM_FENCE);
    parts[lane] = value;
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int width = GROUP / 2; width > 0; width /= 2) {
        float a = parts[lane], b = lane < width ? parts[lane + width] : 0;
        if (lane < width)
            parts[lane] = a > b || a != a ? a : b;
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    return parts[0];
}

kernel __attribute__((reqd_work_group_size(GROUP, 1, 1))) void softmax(int k, global const char *p, long po,
                                                                      global char *q, long qo) {
    local float parts[GROUP];
    int lane = get_local_id(0);
    global const float *x = (global const float *)(p + po) + (long)get_group_id(0) * k;
    global float *y = (global float *)(q + qo) + (long)get_group_id(0) * k;
    float most = -INFINITY;
    for (int i = lane; i < k; i += GROUP)
        most = x[i] > most || x[i] != x[i] ? x[i] : most;
    most = group_max(most, parts);
    float sum = 0;
    for (int i = lane; i < k; i += GROUP) {
        float e = exp(x[i] - most);
        y[i] = e;
        sum += e;
    }
    sum = group_sum(sum, parts);
    for (int i = lane; i < k; i += GROUP)
        y[i] /= sum;
}

typedef struct {
    int k;
    float epsilon;
    int centred, biased, with_mean, with_inverse;
} norm_t;

/* y = (x - mean) / sqrt(variance + epsilon) * scale + bias; without `centred` the mean is taken for 0. */
kernel __attribute__((reqd_work_group_size(GROUP, 1, 1))) void norm(norm_t n, global const char *p, long po,
                                                                   global const char *scale_, long so,
                                                                   global const char *bias_, long bo, global char *q,
                                                                   long qo, global char *means, long mo,
                                                                   global char *inverses, long io) {
    local float parts[GROUP];
    int lane = get_local_id(0), row = get_group_id(0);
    global const float *x = (global const float *)(p + po) + (long)row * n.k;
    global const float *scale = (global const float *)(scale_ + so), *bias = (global const float *)(bias_ + bo);
    global float *y = (global float *)(q + qo) + (long)row * n.k;
    float mean = 0, squares = 0;
    if (n.centred) {
        float sum = 0;
        for (int i = lane; i < n.k; i += GROUP)
            sum += x[i];
        mean = group_sum(sum, parts) / n.k;
    }
    for (int i = lane; i < n.k; i += GROUP)
        squares += (x[i] - mean) * (x[i] - mean);
    float inverse = 1 / sqrt(group_sum(squares, parts) / n.k + n.epsilon);
    for (int i = lane; i < n.k; i += GROUP)
        y[i] = (x[i] - mean) * inverse * scale[i] + (n.biased ? bias[i] : 0);
    if (lane == 0 && n.with_mean)
        ((global float *)(means + mo))[row] = mean;
    if (lane == 0 && n.with_inverse)
        ((global float *)(inverses + io))[row] = inverse;
}
