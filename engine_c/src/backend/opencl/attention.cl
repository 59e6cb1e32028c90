/* softmax(scale * Q x K^T + mask) x V of one head and BQ queries a group, key block by key block: the scores are never
 * whole. What was summed before a larger score came is scaled down (Source: Dao et al., "FlashAttention", 2022).
 * Definitions: BQ queries, BK keys of a block; D, DV sizes of a head; NT work items, a multiple of BQ; MASK 0 none, 1 added,
 * 2 boolean. */
#define HELPER static __attribute__((always_inline))
typedef struct {
    long batch, head, row; /* elements between neighbours */
} place_t;

typedef struct {
    place_t query, key, value, out, mask;
    int heads, shared_heads, queries, keys;
    int causal;
    float scale;
} attention_t;

enum { LANES = NT / BQ, COLUMNS = (DV + LANES - 1) / LANES }; /* work items of a query; results of an item */

HELPER float masked(float score, attention_t a, global const char *mask, long at, int query, int key) {
    if (a.causal && key > query)
        return -INFINITY;
#if MASK == 1
    score += ((global const float *)mask)[at];
#elif MASK == 2
    score = mask[at] ? score : -INFINITY;
#endif
    return score;
}

kernel __attribute__((reqd_work_group_size(NT, 1, 1))) void attention(
    attention_t a, global const char *q_, long qo, global const char *k_, long ko, global const char *v_, long vo,
    global const char *m_, long mo, global char *o_, long oo) {
    local float queries[BQ][D + 1], keys[BK][D + 1], values[BK][DV], scores[BQ][BK + 1];
    local float most[BQ], total[BQ], shrink[BQ];
    int lane = get_local_id(0), row = lane / LANES, first = lane % LANES;
    int q0 = get_group_id(0) * BQ, head = get_group_id(1), item = get_group_id(2);
    int shared = head / (a.heads / a.shared_heads);
    global const float *q = (global const float *)(q_ + qo) + item * a.query.batch + head * a.query.head;
    global const float *k = (global const float *)(k_ + ko) + item * a.key.batch + shared * a.key.head;
    global const float *v = (global const float *)(v_ + vo) + item * a.value.batch + shared * a.value.head;
    global const char *mask = m_ + mo;
    float sum[COLUMNS];
#ifdef GPU
#pragma unroll
#endif
    for (int c = 0; c < COLUMNS; c++)
        sum[c] = 0;
    for (int e = lane; e < BQ * D; e += NT)
        queries[e / D][e % D] = q0 + e / D < a.queries ? q[(q0 + e / D) * a.query.row + e % D] * a.scale : 0;
    if (lane < BQ) {
        most[lane] = -INFINITY;
        total[lane] = 0;
    }
    for (int k0 = 0; k0 < a.keys; k0 += BK) {
        barrier(CLK_LOCAL_MEM_FENCE);
        for (int e = lane; e < BK * D; e += NT)
            keys[e / D][e % D] = k0 + e / D < a.keys ? k[(k0 + e / D) * a.key.row + e % D] : 0;
        for (int e = lane; e < BK * DV; e += NT)
            values[e / DV][e % DV] = k0 + e / DV < a.keys ? v[(k0 + e / DV) * a.value.row + e % DV] : 0;
        barrier(CLK_LOCAL_MEM_FENCE);
        for (int j = first; j < BK; j += LANES) {
            float score = 0;
            for (int d = 0; d < D; d++)
                score = fma(queries[row][d], keys[j][d], score);
            long at = item * a.mask.batch + head * a.mask.head + (q0 + row) * a.mask.row + k0 + j;
            bool inside = q0 + row < a.queries && k0 + j < a.keys;
            scores[row][j] = inside ? masked(score, a, mask, at, q0 + row, k0 + j) : -INFINITY;
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        if (first == 0) {
            float before = most[row], now = before, part = 0;
            for (int j = 0; j < BK; j++)
                now = scores[row][j] > now || scores[row][j] != scores[row][j] ? scores[row][j] : now;
            float base = now == -INFINITY ? 0 : now;
            for (int j = 0; j < BK; j++) {
                scores[row][j] = exp(scores[row][j] - base);
                part += scores[row][j];
            }
            shrink[row] = before == -INFINITY ? 0 : exp(before - base);
            total[row] = total[row] * shrink[row] + part;
            most[row] = now;
        }
        barrier(CLK_LOCAL_MEM_FENCE);
#ifdef GPU
#pragma unroll
#endif
        for (int c = 0; c < COLUMNS; c++)
            sum[c] *= shrink[row];
        for (int j = 0; j < BK; j++) {
            float weight = scores[row][j];
#ifdef GPU
#pragma unroll
#endif
            for (int c = 0; c < COLUMNS; c++) {
                int column = first + c * LANES;
                if (column < DV)
                    sum[c] = fma(weight, values[j][column], sum[c]);
            }
        }
    }
    global float *o = (global float *)(o_ + oo) + item * a.out.batch + head * a.out.head;
#ifdef GPU
#pragma unroll
#endif
    for (int c = 0; c < COLUMNS; c++) {
        int column = first + c * LANES;
        if (column < DV && q0 + row < a.queries)
            o[(q0 + row) * a.out.row + column] = sum[c] / total[row];
    }
}
