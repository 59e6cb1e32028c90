#include "stored.clh"
/* Products C = A * B of float32 by tiles in local memory, and any type element by element.
 *
 * Definitions of a tiled product: BM x BN, the tile of a group; BK, steps of k between barriers; TM x TN, the results of a
 * work item, in PM x PN pieces of 4 x 4; VA, VB: vectors of 4 of each tile that an item reads; READ_A, READ_B, how a tile of an operand is read:
 *   ALONG_K   4 neighbours along k lie together (k and all steps are multiples of 4)
 *   ACROSS    4 neighbours across k lie together (likewise)
 *   ANY       element by element, by steps
 *   PATCHES   B alone: the patches of an image that a convolution sees (see conv.c)
 * WIDE instead: tiles for processors, see there. JOIN: `matmul_join`; none of them: the plain product.
 * SPLIT: parts of k go to different groups, which leave partial sums for `matmul_join`.
 * OUT_IMAGES: columns are positions of images: C is [image, row, position].
 * A_IS, B_IS, C_IS, R_IS: how A, B, C and what is added to a result are stored; partial sums are float32.
 */
#define HELPER static __attribute__((always_inline))
#ifdef HAVE_F64
#pragma OPENCL EXTENSION cl_khr_fp64 : enable
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

#if SPLIT
#define RESULT float
#else
#define RESULT ELEMENT(C_IS)
#endif

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
#ifdef GPU
#pragma unroll
#endif
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

/* The image that PATCHES reads: sizes, and how a position moves the window. */
typedef struct {
    int height, width, out_width, stride_y, stride_x, pad_y, pad_x;
    int item; /* elements from one image to the next */
} image_t;

#if defined(TN)
#define NT ((BM / TM) * (BN / TN))
#define STEP_M (BM / PM)
#define STEP_N (BN / PN)
#define LDA (BM + 4)
#define LDB (BN + 4)

/* Sums and what is read ahead are variables with names, not arrays: so they are registers, whatever a compiler makes of
 * loops. EACH(n, X) is X(0) X(1)... */
#define EACH_1(X) X(0)
#define EACH_2(X) X(0) X(1)
#define EACH_4(X) X(0) X(1) X(2) X(3)
#define EACH_(n, X) EACH_##n(X)
#define EACH(n, X) EACH_(n, X)

/* Four that lie together, where they would be one vector's: aligned if they are float32. */
#define FOUR_F32(p) (*(global const float4 *)(p))
#define FOUR_F16(p) GET_N_F16(4, p)
#define FOUR_BF16(p) GET_N_BF16(4, p)
#define GET_FOUR(is, p) GLUE(FOUR_, is)(p)

/* Vector s of a tile of `across` x BK, whose neighbours across k are `step` apart in memory; zeros past the ends. */
#define READ_ALONG_K(q, s, is, across, from, step, first, count)                                                       \
    {                                                                                                                  \
        int e = lane + s * NT, i = first + e / (BK / 4), kk = k0 + e % (BK / 4) * 4;                                   \
        q##s = 0;                                                                                                      \
        if (i < count && kk < k_end)                                                                                   \
            q##s = GET_FOUR(is, from + (long)i * step + kk);                                                           \
    }
#define READ_ACROSS(q, s, is, across, from, k_step, first, count)                                                      \
    {                                                                                                                  \
        int e = lane + s * NT, i = first + e % (across / 4) * 4, kk = k0 + e / (across / 4);                           \
        q##s = 0;                                                                                                      \
        if (i < count && kk < k_end)                                                                                   \
            q##s = GET_FOUR(is, from + (long)kk * k_step + i);                                                         \
    }
#define READ_ELEMENT(to, n, is, across, from, step, k_step, first, count)                                              \
    {                                                                                                                  \
        int e = lane + (n) * NT, i = first + e % across, kk = k0 + e / across;                                         \
        to = 0;                                                                                                        \
        if (i < count && kk < k_end)                                                                                   \
            to = GET(is, from, (long)i * step + (long)kk * k_step);                                                    \
    }
#define READ_ELEMENTS(q, s, is, across, from, step, k_step, first, count)                                              \
    READ_ELEMENT(q##s.x, 4 * s, is, across, from, step, k_step, first, count)                                          \
    READ_ELEMENT(q##s.y, 4 * s + 1, is, across, from, step, k_step, first, count)                                      \
    READ_ELEMENT(q##s.z, 4 * s + 2, is, across, from, step, k_step, first, count)                                      \
    READ_ELEMENT(q##s.w, 4 * s + 3, is, across, from, step, k_step, first, count)
/* The same into local memory, [BK][across]. */
#define KEEP_ALONG_K(q, s, across, to, ld)                                                                             \
    {                                                                                                                  \
        int e = lane + s * NT;                                                                                         \
        local float *at = to + e % (BK / 4) * 4 * ld + e / (BK / 4);                                                   \
        at[0] = q##s.x, at[ld] = q##s.y, at[2 * ld] = q##s.z, at[3 * ld] = q##s.w;                                     \
    }
#define KEEP_ACROSS(q, s, across, to, ld)                                                                              \
    {                                                                                                                  \
        int e = lane + s * NT;                                                                                         \
        *(local float4 *)(to + e / (across / 4) * ld + e % (across / 4) * 4) = q##s;                                   \
    }
#define KEEP_ELEMENT(value, n, across, to, ld) to[(lane + (n) * NT) / across * ld + (lane + (n) * NT) % across] = value;
#define KEEP_ELEMENTS(q, s, across, to, ld)                                                                            \
    KEEP_ELEMENT(q##s.x, 4 * s, across, to, ld)                                                                        \
    KEEP_ELEMENT(q##s.y, 4 * s + 1, across, to, ld)                                                                    \
    KEEP_ELEMENT(q##s.z, 4 * s + 2, across, to, ld)                                                                    \
    KEEP_ELEMENT(q##s.w, 4 * s + 3, across, to, ld)

#if READ_A == ALONG_K
#define READ_PART_A(s) READ_ALONG_K(qa, s, A_IS, BM, a, p.a_row, m0, p.m)
#define KEEP_PART_A(s) KEEP_ALONG_K(qa, s, BM, to_a, LDA)
#elif READ_A == ACROSS
#define READ_PART_A(s) READ_ACROSS(qa, s, A_IS, BM, a, p.a_column, m0, p.m)
#define KEEP_PART_A(s) KEEP_ACROSS(qa, s, BM, to_a, LDA)
#else
#define READ_PART_A(s) READ_ELEMENTS(qa, s, A_IS, BM, a, p.a_row, p.a_column, m0, p.m)
#define KEEP_PART_A(s) KEEP_ELEMENTS(qa, s, BM, to_a, LDA)
#endif

#if READ_B == ALONG_K
#define READ_PART_B(s) READ_ALONG_K(qb, s, B_IS, BN, b, p.b_column, n0, p.n)
#define KEEP_PART_B(s) KEEP_ALONG_K(qb, s, BN, to_b, LDB)
#elif READ_B == ACROSS
#define READ_PART_B(s) READ_ACROSS(qb, s, B_IS, BN, b, p.b_row, n0, p.n)
#define KEEP_PART_B(s) KEEP_ACROSS(qb, s, BN, to_b, LDB)
#elif READ_B == ANY
#define READ_PART_B(s) READ_ELEMENTS(qb, s, B_IS, BN, b, p.b_column, p.b_row, n0, p.n)
#define KEEP_PART_B(s) KEEP_ELEMENTS(qb, s, BN, to_b, LDB)
#else
/* NT is a multiple of BN, so a work item reads taps of one position. taps[k]: offset, then row and column of the tap. */
#define READ_TAP(to, n)                                                                                                \
    {                                                                                                                  \
        int kk = k0 + lane / BN + (n) * (NT / BN);                                                                     \
        to = 0;                                                                                                        \
        if (kk < k_end) {                                                                                              \
            int2 tap = taps[kk];                                                                                       \
            int y = patch_y + (tap.y >> 16), x = patch_x + (tap.y & 0xFFFF);                                           \
            if ((uint)y < (uint)image.height && (uint)x < (uint)image.width)                                           \
                to = GET(B_IS, b, patch + tap.x);                                                                      \
        }                                                                                                              \
    }
#define READ_PART_B(s)                                                                                                 \
    READ_TAP(qb##s.x, 4 * s) READ_TAP(qb##s.y, 4 * s + 1) READ_TAP(qb##s.z, 4 * s + 2) READ_TAP(qb##s.w, 4 * s + 3)
#define KEEP_PART_B(s) KEEP_ELEMENTS(qb, s, BN, to_b, LDB)
#endif

/* Piece (i, j) of the sums: rows i * STEP_M + 4 * ty and on, columns j * STEP_N + 4 * tx and on. */
#define START_PIECE(i, j) float4 s##i##j##0 = 0, s##i##j##1 = 0, s##i##j##2 = 0, s##i##j##3 = 0;
#define MULTIPLY_PIECE(i, j)                                                                                           \
    s##i##j##0 = fma((float4)(fa##i.x), fb##j, s##i##j##0);                                                            \
    s##i##j##1 = fma((float4)(fa##i.y), fb##j, s##i##j##1);                                                            \
    s##i##j##2 = fma((float4)(fa##i.z), fb##j, s##i##j##2);                                                            \
    s##i##j##3 = fma((float4)(fa##i.w), fb##j, s##i##j##3);
#define STORE_ROW(i, j, r)                                                                                             \
    store(p, f, m0 + i * STEP_M + 4 * ty + r, n0 + j * STEP_N + 4 * tx, batch, s##i##j##r, bias, residual, c);
#define STORE_PIECE(i, j) STORE_ROW(i, j, 0) STORE_ROW(i, j, 1) STORE_ROW(i, j, 2) STORE_ROW(i, j, 3)
#if PN == 2
#define COLUMNS_OF(X, i) X(i, 0) X(i, 1)
#else
#define COLUMNS_OF(X, i) X(i, 0)
#endif
#if PM == 2
#define EACH_PIECE(X) COLUMNS_OF(X, 0) COLUMNS_OF(X, 1)
#else
#define EACH_PIECE(X) COLUMNS_OF(X, 0)
#endif
#define READ_FA(i) float4 fa##i = *(local const float4 *)(la + kk * LDA + i * STEP_M);
#define READ_FB(j) float4 fb##j = *(local const float4 *)(lb + kk * LDB + j * STEP_N);
#define NAME_A(s) float4 qa##s;
#define NAME_B(s) float4 qb##s;

/* Four results of a row. */
HELPER void store(product_t p, finish_t f, int row, int column, int batch, float4 v, global const float *bias,
                  global const ELEMENT(R_IS) * residual, global RESULT *c) {
    if (row >= p.m || column >= p.n)
        return;
#if SPLIT
    global float *at = c + ((long)get_group_id(2) * p.m + row) * p.n + column;
    at[0] = v.x;
    if (column + 1 < p.n)
        at[1] = v.y;
    if (column + 2 < p.n)
        at[2] = v.z;
    if (column + 3 < p.n)
        at[3] = v.w;
#else
    long line = (long)batch * p.m + row, at = place(p, batch, row, column);
    if (p.n % 4 == 0 && (p.positions % 4 == 0 || !OUT_IMAGES)) {
        float4 rest = 0;
        if (f.residual)
            rest = GET_N(R_IS, 4, residual + at);
        v.x = finish(v.x, f, line, column, rest.x, bias);
        v.y = finish(v.y, f, line, column + 1, rest.y, bias);
        v.z = finish(v.z, f, line, column + 2, rest.z, bias);
        v.w = finish(v.w, f, line, column + 3, rest.w, bias);
        PUT_N(C_IS, 4, c + at, v);
        return;
    }
    PUT(C_IS, c, at, finish(v.x, f, line, column, f.residual ? GET(R_IS, residual, at) : 0, bias));
    if (column + 1 < p.n) {
        at = place(p, batch, row, column + 1);
        PUT(C_IS, c, at, finish(v.y, f, line, column + 1, f.residual ? GET(R_IS, residual, at) : 0, bias));
    }
    if (column + 2 < p.n) {
        at = place(p, batch, row, column + 2);
        PUT(C_IS, c, at, finish(v.z, f, line, column + 2, f.residual ? GET(R_IS, residual, at) : 0, bias));
    }
    if (column + 3 < p.n) {
        at = place(p, batch, row, column + 3);
        PUT(C_IS, c, at, finish(v.w, f, line, column + 3, f.residual ? GET(R_IS, residual, at) : 0, bias));
    }
#endif
}

kernel __attribute__((reqd_work_group_size(NT, 1, 1))) void
matmul(product_t p, finish_t f, image_t image, global const char *a_, long ao, global const char *b_, long bo,
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
    global const ELEMENT(A_IS) *restrict a = (global const ELEMENT(A_IS) *)(a_ + ao) + a_at;
    global const ELEMENT(B_IS) *restrict b = (global const ELEMENT(B_IS) *)(b_ + bo) + b_at;
#if READ_B == PATCHES
    global const int2 *restrict taps = (global const int2 *)(taps_ + to);
    int n_own = n0 + lane % BN, item = n_own / p.positions, position = n_own % p.positions;
    int patch_y = n_own < p.n ? position / image.out_width * image.stride_y - image.pad_y : -0x10000;
    int patch_x = position % image.out_width * image.stride_x - image.pad_x;
    long patch = (long)item * image.item + (long)patch_y * image.width + patch_x;
#endif
    EACH_PIECE(START_PIECE)
    EACH(VA, NAME_A)
    EACH(VB, NAME_B)
    int k0 = k_begin, now = 0;
    local float *to_a = tile_a, *to_b = tile_b;
    EACH(VA, READ_PART_A)
    EACH(VB, READ_PART_B)
    EACH(VA, KEEP_PART_A)
    EACH(VB, KEEP_PART_B)
    barrier(CLK_LOCAL_MEM_FENCE);
    /* One tile is read ahead while another is multiplied. */
    while (k0 < k_end) {
        local const float *la = tile_a + now * BK * LDA + 4 * ty, *lb = tile_b + now * BK * LDB + 4 * tx;
        k0 += BK;
        EACH(VA, READ_PART_A)
        EACH(VB, READ_PART_B)
#ifdef GPU /* processors take long to compile what is unrolled */
#pragma unroll
#endif
        for (int kk = 0; kk < BK; kk++) {
            EACH(PM, READ_FA)
            EACH(PN, READ_FB)
            EACH_PIECE(MULTIPLY_PIECE)
        }
        now = 1 - now;
        to_a = tile_a + now * BK * LDA;
        to_b = tile_b + now * BK * LDB;
        EACH(VA, KEEP_PART_A)
        EACH(VB, KEEP_PART_B)
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    global RESULT *c = (global RESULT *)(c_ + co);
    global const float *restrict bias = (global const float *)(bias_ + biaso);
    global const ELEMENT(R_IS) *residual = (global const ELEMENT(R_IS) *)(residual_ + ro);
    EACH_PIECE(STORE_PIECE)
}
#elif defined(WIDE)
/* For processors, whose vectors have WIDE floats. A group is one work item with neither barriers nor neighbours: it has
 * BM x COLUMNS results, TM rows of them at a time in registers. Every BK steps of k it lays its columns of B into a panel,
 * which all its rows then go over. UNIT_A: neighbours along k of A lie together, WIDE_A: as float32; READ_B is ACROSS, ANY or PATCHES. */
#define VECTOR GLUE(float, WIDE)
#define VLOAD GLUE(vload, WIDE)
#define VSTORE GLUE(vstore, WIDE)
#define COLUMNS (2 * WIDE)
#define EACH_1(X) X(0)
#define EACH_2(X) EACH_1(X) X(1)
#define EACH_4(X) EACH_2(X) X(2) X(3)
#define EACH_6(X) EACH_4(X) X(4) X(5)
#define EACH_ROW GLUE(EACH_, TM)
#if UNIT_A
#define A_STEP 1
#else
#define A_STEP p.a_column
#endif
#if UNIT_A && WIDE_A
#define ROW_SPACE global /* rows of A are read where they lie */
#else
#define ROW_SPACE local
#endif

/* What a column of patches sees: its offset in the image, and where its window begins. */
typedef struct {
    int at[COLUMNS], y[COLUMNS], x[COLUMNS];
} columns_t;

/* The steps [k0, k0 + steps) of the columns from n0 on; zeros past the last column. */
#if READ_B == PATCHES
HELPER void find_columns(product_t p, image_t image, int n0, local columns_t *to) {
    for (int j = 0; j < COLUMNS; j++) {
        int item = (n0 + j) / p.positions, position = (n0 + j) % p.positions;
        int y = position / image.out_width * image.stride_y - image.pad_y;
        to->x[j] = position % image.out_width * image.stride_x - image.pad_x;
        to->y[j] = n0 + j < p.n ? y : -0x10000;
        to->at[j] = item * image.item + y * image.width + to->x[j];
    }
}

/* Whether vector `first` reads neighbours of one row of the image. */
HELPER int is_run(local const columns_t *c, int first) {
    int last = first + WIDE - 1;
    return c->x[last] - c->x[first] == WIDE - 1 && c->y[last] == c->y[first] && c->at[last] - c->at[first] == WIDE - 1;
}

HELPER void fill(product_t p, image_t image, global const ELEMENT(B_IS) *restrict b, global const int2 *restrict taps,
                 local const columns_t *c, int n0, int k0, int steps, local float *restrict panel) {
    for (int first = 0; first < COLUMNS; first += WIDE) {
        int run = is_run(c, first);
        for (int kk = 0; kk < steps; kk++) {
            int2 tap = taps[k0 + kk];
            int dy = tap.y >> 16, dx = tap.y & 0xFFFF, x = c->x[first] + dx;
            local float *to = panel + kk * COLUMNS + first;
            if (run && x >= 0 && x + WIDE <= image.width) {
                VECTOR v = 0;
                if ((uint)(c->y[first] + dy) < (uint)image.height)
                    v = GET_N(B_IS, WIDE, b + c->at[first] + tap.x);
                VSTORE(v, 0, to);
                continue;
            }
            for (int j = 0; j < WIDE; j++) {
                int inside = (uint)(c->y[first + j] + dy) < (uint)image.height &&
                             (uint)(c->x[first + j] + dx) < (uint)image.width;
                to[j] = inside ? GET(B_IS, b, c->at[first + j] + tap.x) : 0;
            }
        }
    }
}
#else
HELPER void fill_few(product_t p, global const ELEMENT(B_IS) *restrict b, int n0, int k0, int steps,
                     local float *restrict panel) {
    for (int j = 0; j < COLUMNS; j++) {
        global const ELEMENT(B_IS) *from = b + (long)k0 * p.b_row + (long)(n0 + j) * p.b_column;
        for (int kk = 0; kk < steps; kk++)
            panel[kk * COLUMNS + j] = n0 + j < p.n ? GET(B_IS, from, (long)kk * p.b_row) : 0;
    }
}

HELPER void fill(product_t p, image_t image, global const ELEMENT(B_IS) *restrict b, global const int2 *restrict taps,
                 local const columns_t *c, int n0, int k0, int steps, local float *restrict panel) {
    if (READ_B == ANY || n0 + COLUMNS > p.n) {
        fill_few(p, b, n0, k0, steps, panel);
        return;
    }
    for (int kk = 0; kk < steps; kk++) {
        global const ELEMENT(B_IS) *from = b + (long)(k0 + kk) * p.b_row + n0;
        VSTORE(GET_N(B_IS, WIDE, from), 0, panel + kk * COLUMNS);
        VSTORE(GET_N(B_IS, WIDE, from + WIDE), 0, panel + kk * COLUMNS + WIDE);
    }
}
#endif

/* Where the steps of row `row` of A are to be found as float32: `kept` is room for them. */
HELPER ROW_SPACE const float *row_of(product_t p, global const ELEMENT(A_IS) *restrict a, int row, int k0, int steps,
                                     local float *restrict kept) {
    global const ELEMENT(A_IS) *from = a + (long)min(row, p.m - 1) * p.a_row + (long)k0 * A_STEP;
#if UNIT_A && WIDE_A
    return from;
#else
    int kk = 0;
#if UNIT_A
    for (; kk + WIDE <= steps; kk += WIDE)
        VSTORE(GET_N(A_IS, WIDE, from + kk), 0, kept + kk);
#endif
    for (; kk < steps; kk++)
        kept[kk] = GET(A_IS, from, (long)kk * A_STEP);
    return kept;
#endif
}

/* Adds the panel's steps, or begins with them, in TM rows from `row` on; past the last row of all, the last is taken. */
HELPER void multiply(product_t p, global const ELEMENT(A_IS) *restrict a, int row, int k0, int steps, int begins,
                     local const float *restrict panel, local float *restrict kept, local float *restrict sums) {
#define START_ROW(r)                                                                                                   \
    ROW_SPACE const float *restrict a##r = row_of(p, a, row + r, k0, steps, kept + r * BK);                            \
    VECTOR s##r##0 = begins ? (VECTOR)0 : VLOAD(0, sums + r * COLUMNS);                                                \
    VECTOR s##r##1 = begins ? (VECTOR)0 : VLOAD(0, sums + r * COLUMNS + WIDE);
#define MULTIPLY_ROW(r)                                                                                                \
    {                                                                                                                  \
        VECTOR x = (VECTOR)(a##r[kk]);                                                                                 \
        s##r##0 = fma(x, b0, s##r##0);                                                                                 \
        s##r##1 = fma(x, b1, s##r##1);                                                                                 \
    }
#define KEEP_ROW(r)                                                                                                    \
    VSTORE(s##r##0, 0, sums + r * COLUMNS);                                                                            \
    VSTORE(s##r##1, 0, sums + r * COLUMNS + WIDE);
    EACH_ROW(START_ROW)
    for (int kk = 0; kk < steps; kk++) {
        VECTOR b0 = VLOAD(0, panel + kk * COLUMNS), b1 = VLOAD(0, panel + kk * COLUMNS + WIDE);
        EACH_ROW(MULTIPLY_ROW)
    }
    EACH_ROW(KEEP_ROW)
}

/* A vector of results of a row, from `column` on. */
HELPER void store(product_t p, finish_t f, int row, int column, int batch, local const float *sums,
                  global const float *bias, global const ELEMENT(R_IS) * residual, global RESULT *c) {
#if SPLIT
    global float *to = c + ((long)get_group_id(2) * p.m + row) * p.n + column;
    for (int j = 0; j < WIDE && column + j < p.n; j++)
        to[j] = sums[j];
#else
    long line = (long)batch * p.m + row;
    if (column + WIDE > p.n || (OUT_IMAGES && column % p.positions + WIDE > p.positions)) {
        for (int j = 0; j < WIDE && column + j < p.n; j++) {
            long at = place(p, batch, row, column + j);
            float rest = f.residual ? GET(R_IS, residual, at) : 0;
            PUT(C_IS, c, at, finish(sums[j], f, line, column + j, rest, bias));
        }
        return;
    }
    long at = place(p, batch, row, column);
    VECTOR v = VLOAD(0, sums);
    if (f.bias == 1)
        v += bias[line % f.period];
    if (f.bias == 2)
        v += VLOAD(0, bias + column);
    if (f.residual)
        v += GET_N(R_IS, WIDE, residual + at);
    if (f.relu)
        v = v < 0 ? (VECTOR)0 : v;
    if (f.ceiling > 0)
        v = v > f.ceiling ? (VECTOR)f.ceiling : v;
    PUT_N(C_IS, WIDE, c + at, v);
#endif
}

kernel __attribute__((reqd_work_group_size(1, 1, 1))) void
matmul_wide(product_t p, finish_t f, image_t image, global const char *a_, long ao, global const char *b_, long bo,
            global const char *taps_, long to, global const char *bias_, long biaso, global const char *residual_,
            long ro, global char *c_, long co) {
    local VECTOR panel_[2 * BK], sums_[2 * BM];
    local columns_t columns;
#if UNIT_A && WIDE_A
    local float kept[1];
#else
    local float kept[TM * BK];
#endif
    local float *panel = (local float *)panel_, *sums = (local float *)sums_;
    int n0 = get_group_id(0) * COLUMNS, m0 = get_group_id(1) * BM, rows = min(BM, p.m - m0);
    int batch = get_group_id(2) / p.splits, split = get_group_id(2) % p.splits;
    int k_begin = min(p.k, split * p.part), k_end = min(p.k, k_begin + p.part);
    long a_at, b_at;
    begin(p, batch, &a_at, &b_at);
    global const ELEMENT(A_IS) *a = (global const ELEMENT(A_IS) *)(a_ + ao) + a_at;
    global const ELEMENT(B_IS) *b = (global const ELEMENT(B_IS) *)(b_ + bo) + b_at;
    global const int2 *taps = (global const int2 *)(taps_ + to);
#if READ_B == PATCHES
    find_columns(p, image, n0, &columns);
#endif
    int k0 = k_begin;
    do { /* once at least: a part of k that is empty leaves zeros */
        int steps = min(BK, k_end - k0);
        fill(p, image, b, taps, &columns, n0, k0, steps, panel);
        for (int i = 0; i < rows; i += TM)
            multiply(p, a, m0 + i, k0, steps, k0 == k_begin, panel, kept, sums + i * COLUMNS);
        k0 += BK;
    } while (k0 < k_end);
    for (int i = 0; i < rows; i++) {
        for (int j = 0; j < COLUMNS; j += WIDE)
            store(p, f, m0 + i, n0 + j, batch, sums + i * COLUMNS + j, (global const float *)(bias_ + biaso),
                  (global const ELEMENT(R_IS) *)(residual_ + ro), (global RESULT *)(c_ + co));
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
    global const ELEMENT(R_IS) *residual = (global const ELEMENT(R_IS) *)(residual_ + ro);
    global ELEMENT(C_IS) *c = (global ELEMENT(C_IS) *)(c_ + co);
    float rest = f.residual ? GET(R_IS, residual, at) : 0;
    PUT(C_IS, c, at, finish(sum, f, (long)batch * p.m + row, column, rest, bias));
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
