/* Products C = A * B of float32 by tiles in local memory, and any type element by element.
 *
 * Definitions of a tiled product: BM x BN, the tile of a group; BK, steps of k between barriers; TM x TN, the results of a
 * work item, in pieces of 4 x 4; READ_A, READ_B, how a tile of an operand is read:
 *   ALONG_K   4 neighbours along k lie together (k and all steps are multiples of 4)
 *   ACROSS    4 neighbours across k lie together (likewise)
 *   ANY       element by element, by steps
 *   PATCHES   B alone: the patches of an image that a convolution sees (see conv.c)
 * JOIN instead of a tile: `matmul_join`; neither: the plain product.
 * SPLIT: parts of k go to different groups, which leave partial sums for `matmul_join`.
 * OUT_IMAGES: columns are positions of images: C is [image, row, position].
 */
#define HELPER static __attribute__((always_inline))
#ifdef HAVE_F64
#pragma OPENCL EXTENSION cl_khr_fp64 : enable
#endif
/* GPUs keep arrays in registers only where every index is known; processors take long to compile what is unrolled. */
#ifdef GPU
#define UNROLL _Pragma("unroll")
#else
#define UNROLL
#endif
#define ALONG_K 0
#define ACROSS 1
#define ANY 2
#define PATCHES 3

/* What is added to and done with a result; a row bias is element (batch * m + row) mod period. */
typedef struct {
    long period;
    float ceiling; /* of a relu; 0: none */
    int bias;      /* 0: none, 1: of rows, 2: of columns */
    int relu, residual;
} finish_t;

HELPER float finish(float sum, finish_t f, long row, int column, float residual, global const float *bias) {
    if (f.bias == 1)
        sum += bias[row % f.period];
    if (f.bias == 2)
        sum += bias[column];
    if (f.residual)
        sum += residual;
    if (f.relu)
        sum = sum < 0 ? 0 : sum;
    if (f.ceiling > 0)
        sum = sum > f.ceiling ? f.ceiling : sum;
    return sum;
}

typedef struct {
    int m, n, k;
    int a_row, a_column, b_row, b_column;
    int splits, part; /* of k: how many, and how long each is */
    int positions;    /* of an image, where OUT_IMAGES */
    int batch_size[BATCH_RANK];
    int spare;
    long a_batch[BATCH_RANK], b_batch[BATCH_RANK];
} product_t;

/* Where item `batch` of both operands begins. */
HELPER void begin(product_t p, int batch, long *a, long *b) {
    *a = *b = 0;
UNROLL
    for (int i = BATCH_RANK - 1; i >= 0; i--) {
        int x = batch % p.batch_size[i];
        batch /= p.batch_size[i];
        *a += x * p.a_batch[i];
        *b += x * p.b_batch[i];
    }
}

/* Where a result goes. */
HELPER long place(product_t p, int batch, int row, int column) {
#if OUT_IMAGES
    int image = column / p.positions;
    return (((long)image * p.batch_size[BATCH_RANK - 1] + batch) * p.m + row) * p.positions + column -
           (long)image * p.positions;
#else
    return ((long)batch * p.m + row) * p.n + column;
#endif
}

#if defined(BM)
#define NT ((BM / TM) * (BN / TN))
#define PIECES_M (TM / 4)
#define PIECES_N (TN / 4)
#define STEP_M (BM / PIECES_M)
#define STEP_N (BN / PIECES_N)
#define LDA (BM + 4)
#define LDB (BN + 4)
/* Vectors of 4 of a tile, or elements, that each work item reads. */
#define A_VECTORS ((BM * BK / 4 + NT - 1) / NT)
#define A_ELEMENTS (BM * BK / NT)
#define B_VECTORS ((BN * BK / 4 + NT - 1) / NT)
#define B_ELEMENTS (BN * BK / NT)

#if READ_A == ANY
#define A_FLOATS A_ELEMENTS
#else
#define A_FLOATS (4 * A_VECTORS)
#endif
#if READ_B == ANY || READ_B == PATCHES
#define B_FLOATS B_ELEMENTS
#else
#define B_FLOATS (4 * B_VECTORS)
#endif

/* A tile of `across` x BK from steps in memory into registers: zeros past the ends. */
#define READ_VECTORS_ALONG_K(out, vectors, across, from, step, first, count, k0, k_end)                                   \
    UNROLL for (int s = 0; s < vectors; s++) {                                                                                \
        int e = lane + s * NT, i = first + e / (BK / 4), kk = k0 + e % (BK / 4) * 4;                                   \
        float4 v = 0;                                                                                                  \
        if (e < across * BK / 4 && i < count && kk < k_end)                                                            \
            v = *(global const float4 *)(from + (long)i * step + kk);                                                     \
        out[4 * s] = v.x, out[4 * s + 1] = v.y, out[4 * s + 2] = v.z, out[4 * s + 3] = v.w;                            \
    }
#define READ_VECTORS_ACROSS(out, vectors, across, from, step, first, count, k0, k_end)                                    \
    UNROLL for (int s = 0; s < vectors; s++) {                                                                                \
        int e = lane + s * NT, i = first + e % (across / 4) * 4, kk = k0 + e / (across / 4);                           \
        float4 v = 0;                                                                                                  \
        if (e < across * BK / 4 && i < count && kk < k_end)                                                            \
            v = *(global const float4 *)(from + (long)kk * step + i);                                                     \
        out[4 * s] = v.x, out[4 * s + 1] = v.y, out[4 * s + 2] = v.z, out[4 * s + 3] = v.w;                            \
    }
#define READ_ELEMENTS(out, elements, across, from, step, k_step, first, count, k0, k_end)                                 \
    UNROLL for (int s = 0; s < elements; s++) {                                                                               \
        int e = lane + s * NT, i = first + e % across, kk = k0 + e / across;                                           \
        out[s] = i < count && kk < k_end ? from[(long)i * step + (long)kk * k_step] : 0;                                  \
    }
/* From registers into local memory, [BK][across]. */
#define KEEP_VECTORS_ALONG_K(in, vectors, across, to, ld)                                                              \
    UNROLL for (int s = 0; s < vectors; s++) {                                                                                \
        int e = lane + s * NT;                                                                                         \
        if (e < across * BK / 4) {                                                                                     \
            local float *at = to + e % (BK / 4) * 4 * ld + e / (BK / 4);                                               \
            at[0] = in[4 * s], at[ld] = in[4 * s + 1], at[2 * ld] = in[4 * s + 2], at[3 * ld] = in[4 * s + 3];         \
        }                                                                                                              \
    }
#define KEEP_VECTORS_ACROSS(in, vectors, across, to, ld)                                                               \
    UNROLL for (int s = 0; s < vectors; s++) {                                                                                \
        int e = lane + s * NT;                                                                                         \
        if (e < across * BK / 4)                                                                                       \
            *(local float4 *)(to + e / (across / 4) * ld + e % (across / 4) * 4) =                                     \
                (float4)(in[4 * s], in[4 * s + 1], in[4 * s + 2], in[4 * s + 3]);                                      \
    }
#define KEEP_ELEMENTS(in, elements, across, to, ld)                                                                    \
    UNROLL for (int s = 0; s < elements; s++) {                                                                               \
        int e = lane + s * NT;                                                                                         \
        to[e / across * ld + e % across] = in[s];                                                                      \
    }

#if READ_A == ALONG_K
#define READ_TILE_A(k0) READ_VECTORS_ALONG_K(ra, A_VECTORS, BM, a, p.a_row, m0, p.m, k0, k_end)
#define KEEP_TILE_A(to) KEEP_VECTORS_ALONG_K(ra, A_VECTORS, BM, to, LDA)
#elif READ_A == ACROSS
#define READ_TILE_A(k0) READ_VECTORS_ACROSS(ra, A_VECTORS, BM, a, p.a_column, m0, p.m, k0, k_end)
#define KEEP_TILE_A(to) KEEP_VECTORS_ACROSS(ra, A_VECTORS, BM, to, LDA)
#else
#define READ_TILE_A(k0) READ_ELEMENTS(ra, A_ELEMENTS, BM, a, p.a_row, p.a_column, m0, p.m, k0, k_end)
#define KEEP_TILE_A(to) KEEP_ELEMENTS(ra, A_ELEMENTS, BM, to, LDA)
#endif

#if READ_B == ALONG_K
#define READ_TILE_B(k0) READ_VECTORS_ALONG_K(rb, B_VECTORS, BN, b, p.b_column, n0, p.n, k0, k_end)
#define KEEP_TILE_B(to) KEEP_VECTORS_ALONG_K(rb, B_VECTORS, BN, to, LDB)
#elif READ_B == ACROSS
#define READ_TILE_B(k0) READ_VECTORS_ACROSS(rb, B_VECTORS, BN, b, p.b_row, n0, p.n, k0, k_end)
#define KEEP_TILE_B(to) KEEP_VECTORS_ACROSS(rb, B_VECTORS, BN, to, LDB)
#elif READ_B == ANY
#define READ_TILE_B(k0) READ_ELEMENTS(rb, B_ELEMENTS, BN, b, p.b_column, p.b_row, n0, p.n, k0, k_end)
#define KEEP_TILE_B(to) KEEP_ELEMENTS(rb, B_ELEMENTS, BN, to, LDB)
#else /* NT is a multiple of BN, so that an item reads one position's taps */
/* The position each work item reads: its first tap's place in the image. taps[k]: offset, then row and column of the tap. */
#define READ_TILE_B(k0)                                                                                                \
    UNROLL for (int s = 0; s < B_ELEMENTS; s++) {                                                                             \
        int kk = k0 + lane / BN + s * (NT / BN);                                                                       \
        rb[s] = 0;                                                                                                     \
        if (kk < k_end) {                                                                                              \
            int2 tap = taps[kk];                                                                                       \
            int y = patch_y + (tap.y >> 16), x = patch_x + (tap.y & 0xFFFF);                                           \
            if ((uint)y < (uint)image.height && (uint)x < (uint)image.width)                                           \
                rb[s] = b[patch + tap.x];                                                                              \
        }                                                                                                              \
    }
#define KEEP_TILE_B(to) KEEP_ELEMENTS(rb, B_ELEMENTS, BN, to, LDB)
#endif

/* The image that PATCHES reads: sizes, and how a position moves the window. */
typedef struct {
    int height, width, out_width, stride_y, stride_x, pad_y, pad_x;
    int item; /* elements from one image to the next */
} image_t;

kernel __attribute__((reqd_work_group_size(NT, 1, 1))) void matmul(
    product_t p, finish_t f, image_t image, global const char *a_, long ao, global const char *b_, long bo,
    global const char *taps_, long to, global const char *bias_, long biaso, global const char *residual_, long ro,
    global char *c_, long co) {
    local float4 fours_a[2 * BK * LDA / 4], fours_b[2 * BK * LDB / 4]; /* aligned for vectors */
    local float *const tile_a = (local float *)fours_a, *const tile_b = (local float *)fours_b;
    int lane = get_local_id(0), tx = lane % (BN / TN), ty = lane / (BN / TN);
    int n0 = get_group_id(0) * BN, m0 = get_group_id(1) * BM;
    int batch = get_group_id(2) / p.splits, split = get_group_id(2) % p.splits;
    int k_begin = split * p.part, k_end = min(p.k, k_begin + p.part);
    long a_at, b_at;
    begin(p, batch, &a_at, &b_at);
    global const float *restrict a = (global const float *)(a_ + ao) + a_at;
    global const float *restrict b = (global const float *)(b_ + bo) + b_at;
    float ra[A_FLOATS], rb[B_FLOATS];
#if READ_B == PATCHES
    global const int2 *restrict taps = (global const int2 *)(taps_ + to);
    int n_own = n0 + lane % BN, item = n_own / p.positions, position = n_own % p.positions;
    int patch_y = n_own < p.n ? position / image.out_width * image.stride_y - image.pad_y : -0x10000;
    int patch_x = position % image.out_width * image.stride_x - image.pad_x;
    long patch = (long)item * image.item + (long)patch_y * image.width + patch_x;
#endif
    float sum[TM][TN];
UNROLL
    for (int i = 0; i < TM; i++)
UNROLL
        for (int j = 0; j < TN; j++)
            sum[i][j] = 0;

    READ_TILE_A(k_begin)
    READ_TILE_B(k_begin)
    KEEP_TILE_A(tile_a)
    KEEP_TILE_B(tile_b)
    barrier(CLK_LOCAL_MEM_FENCE);
    int now = 0;
    for (int k0 = k_begin; k0 < k_end; k0 += BK) {
        bool more = k0 + BK < k_end;
        if (more) {
            READ_TILE_A(k0 + BK)
            READ_TILE_B(k0 + BK)
        }
        local const float *la = tile_a + now * BK * LDA + 4 * ty, *lb = tile_b + now * BK * LDB + 4 * tx;
UNROLL
        for (int kk = 0; kk < BK; kk++) {
            float fa[TM], fb[TN];
UNROLL
            for (int i = 0; i < PIECES_M; i++) {
                float4 v = *(local const float4 *)(la + kk * LDA + i * STEP_M);
                fa[4 * i] = v.x, fa[4 * i + 1] = v.y, fa[4 * i + 2] = v.z, fa[4 * i + 3] = v.w;
            }
UNROLL
            for (int j = 0; j < PIECES_N; j++) {
                float4 v = *(local const float4 *)(lb + kk * LDB + j * STEP_N);
                fb[4 * j] = v.x, fb[4 * j + 1] = v.y, fb[4 * j + 2] = v.z, fb[4 * j + 3] = v.w;
            }
UNROLL
            for (int i = 0; i < TM; i++)
UNROLL
                for (int j = 0; j < TN; j++)
                    sum[i][j] = fma(fa[i], fb[j], sum[i][j]);
        }
        if (more) {
            local float *next_a = tile_a + (1 - now) * BK * LDA, *next_b = tile_b + (1 - now) * BK * LDB;
            KEEP_TILE_A(next_a)
            KEEP_TILE_B(next_b)
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        now = 1 - now;
    }

    global float *c = (global float *)(c_ + co);
#if !SPLIT
    global const float *restrict bias = (global const float *)(bias_ + biaso);
    global const float *residual = (global const float *)(residual_ + ro);
#endif
#if SPLIT
    global float *part = c + (long)get_group_id(2) * p.m * p.n;
#endif
    bool fours = p.n % 4 == 0 && (!OUT_IMAGES || p.positions % 4 == 0);
UNROLL
    for (int i = 0; i < TM; i++) {
        int row = m0 + i / 4 * STEP_M + 4 * ty + i % 4;
UNROLL
        for (int j = 0; j < PIECES_N; j++) {
            int column = n0 + j * STEP_N + 4 * tx;
#if SPLIT
UNROLL
            for (int e = 0; e < 4; e++) {
                if (row < p.m && column + e < p.n)
                    part[(long)row * p.n + column + e] = sum[i][4 * j + e];
            }
#else
            float4 v;
            v.x = sum[i][4 * j], v.y = sum[i][4 * j + 1], v.z = sum[i][4 * j + 2], v.w = sum[i][4 * j + 3];
            if (row < p.m && column < p.n && fours) {
                long at = place(p, batch, row, column);
                long line = (long)batch * p.m + row;
                float4 rest = f.residual ? vload4(0, residual + at) : (float4)0;
                v.x = finish(v.x, f, line, column, rest.x, bias);
                v.y = finish(v.y, f, line, column + 1, rest.y, bias);
                v.z = finish(v.z, f, line, column + 2, rest.z, bias);
                v.w = finish(v.w, f, line, column + 3, rest.w, bias);
                vstore4(v, 0, c + at);
            } else if (row < p.m) {
UNROLL
                for (int e = 0; e < 4; e++) {
                    if (column + e < p.n) {
                        long at = place(p, batch, row, column + e);
                        c[at] = finish(sum[i][4 * j + e], f, (long)batch * p.m + row, column + e,
                                       f.residual ? residual[at] : 0, bias);
                    }
                }
            }
#endif
        }
    }
}
#elif defined(JOIN)
/* Adds the partial sums [batch, split, m, n]. */
kernel void matmul_join(product_t p, finish_t f, long count, global const char *sums_, long so,
                        global const char *bias_, long biaso, global const char *residual_, long ro, global char *c_,
                        long co) {
    long i = get_global_id(0), each = (long)p.m * p.n;
    if (i >= count)
        return;
    int batch = i / each, row = i % each / p.n, column = i % p.n;
    global const float *sums = (global const float *)(sums_ + so) + (long)batch * p.splits * each + i % each;
    float sum = 0;
    for (int s = 0; s < p.splits; s++)
        sum += sums[s * each];
    long at = place(p, batch, row, column);
    global const float *bias = (global const float *)(bias_ + biaso);
    global const float *residual = (global const float *)(residual_ + ro);
    ((global float *)(c_ + co))[at] =
        finish(sum, f, (long)batch * p.m + row, column, f.residual ? residual[at] : 0, bias);
}

#else
/* Any type, one work item per result: the plain reference beside the tiles. */
kernel void matmul_plain(product_t p, finish_t f, long count, global const char *a_, long ao, global const char *b_,
                         long bo, global const char *bias_, long biaso, global char *c_, long co) {
    long i = get_global_id(0), each = (long)p.m * p.n;
    if (i >= count)
        return;
    int batch = i / each, row = i % each / p.n, column = i % p.n;
    long a_at, b_at;
    begin(p, batch, &a_at, &b_at);
    global const TYPE *a = (global const TYPE *)(a_ + ao) + a_at + (long)row * p.a_row;
    global const TYPE *b = (global const TYPE *)(b_ + bo) + b_at + (long)column * p.b_column;
    TYPE sum = 0;
    for (int j = 0; j < p.k; j++)
        sum += a[(long)j * p.a_column] * b[(long)j * p.b_row];
#if FLOATING
    global const TYPE *bias = (global const TYPE *)(bias_ + biaso);
    if (f.bias == 1)
        sum += bias[((long)batch * p.m + row) % f.period];
    if (f.bias == 2)
        sum += bias[column];
    if (f.relu)
        sum = sum < 0 ? 0 : sum;
#endif
    ((global TYPE *)(c_ + co))[i] = sum;
}
#endif
