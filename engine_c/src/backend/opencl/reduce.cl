/* Reductions, extremes and orders of [outer, k, inner]. Definitions: TYPE; FLOATING; LOWEST, HIGHEST; START and STEP of a
 * reduction, in s and x; LARGEST, LAST of an extreme; GROUP, the work items of a group. */
#define HELPER static __attribute__((always_inline))
#ifdef HAVE_F64
#pragma OPENCL EXTENSION cl_khr_fp64 : enable
#endif

#ifdef STEP
HELPER TYPE reduced(TYPE s, TYPE x) {
    return STEP;
}

/* One work item per result. */
kernel void reduce_items(long count, long k, long inner, global const char *p, long po, global char *q, long qo) {
    long i = get_global_id(0);
    if (i >= count)
        return;
    global const TYPE *x = (global const TYPE *)(p + po) + i / inner * k * inner + i % inner;
    TYPE s = START;
    for (long j = 0; j < k; j++)
        s = reduced(s, x[j * inner]);
    ((global TYPE *)(q + qo))[i] = s;
}

/* One group per result. */
kernel __attribute__((reqd_work_group_size(GROUP, 1, 1))) void reduce_group(long count, long k, long inner,
                                                                           global const char *p, long po,
                                                                           global char *q, long qo) {
    local TYPE parts[GROUP];
    long i = get_group_id(0);
    int lane = get_local_id(0);
    global const TYPE *x = (global const TYPE *)(p + po) + i / inner * k * inner + i % inner;
    TYPE s = START;
    for (long j = lane; j < k; j += GROUP)
        s = reduced(s, x[j * inner]);
    parts[lane] = s;
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int width = GROUP / 2; width > 0; width /= 2) {
        if (lane < width)
            parts[lane] = reduced(parts[lane], parts[lane + width]);
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    if (lane == 0)
        ((global TYPE *)(q + qo))[i] = parts[0];
}
#endif

#ifdef LARGEST
/* NaN is the most extreme. */
kernel void arg(long count, long k, long inner, global const char *p, long po, global char *q, long qo) {
    long i = get_global_id(0);
    if (i >= count)
        return;
    global const TYPE *x = (global const TYPE *)(p + po) + i / inner * k * inner + i % inner;
    long best = 0;
    TYPE a = x[0];
    for (long j = 1; j < k; j++) {
        TYPE b = x[j * inner];
        bool better = (LARGEST ? b > a : b < a) || (b != b && a == a);
        bool equal = b == a || (b != b && a != a);
        if (better || (LAST && equal)) {
            best = j;
            a = b;
        }
    }
    ((global long *)(q + qo))[i] = best;
}

/* Does a, of index i, come before b, of index j? NaN is the largest of all; of equals the first comes first. */
HELPER bool comes_before(TYPE a, long i, TYPE b, long j) {
    bool a_nan = a != a, b_nan = b != b;
    bool greater = a_nan ? !b_nan : !b_nan && a > b, less = b_nan ? !a_nan : !a_nan && a < b;
    return (LARGEST ? greater : less) || (!greater && !less && i < j);
}

/* Indices [outer, k, inner] of the first k: an element's place is how many come before it. */
kernel void top(long count, long n, long inner, long k, global const char *p, long po, global char *q, long qo) {
    long i = get_global_id(0);
    if (i >= count)
        return;
    long outer = i / (n * inner), at = i / inner % n, column = i % inner, place = 0;
    global const TYPE *x = (global const TYPE *)(p + po) + outer * n * inner + column;
    TYPE own = x[at * inner];
    for (long j = 0; j < n && place < k; j++)
        place += comes_before(x[j * inner], j, own, at);
    if (place < k)
        ((global long *)(q + qo))[(outer * k + place) * inner + column] = at;
}
#endif

/* As backend/cpu/random.c. */
HELPER ulong mixed(ulong x) {
    x += 0x9E3779B97F4A7C15ul;
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9ul;
    x = (x ^ x >> 27) * 0x94D049BB133111EBul;
    return x ^ x >> 31;
}

kernel void random(long count, ulong seed, int normal, global char *q, long qo) {
    long i = get_global_id(0);
    if (i >= count)
        return;
    ulong bits = mixed(seed + (ulong)i * 2);
    float uniform_ = (float)(bits >> 40) * 0x1p-24f;
    if (normal) {
        float angle = 6.28318530717958647692f * uniform_;
        float other = (float)((mixed(seed + (ulong)i * 2 + 1) >> 40) + 1) * 0x1p-24f;
        uniform_ = sqrt(-2 * log(other)) * cos(angle);
    }
    ((global float *)(q + qo))[i] = uniform_;
}
