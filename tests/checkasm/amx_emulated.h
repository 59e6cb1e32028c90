/* The tile registers' instructions in plain C under the engine's own kernels, so that their logic is tested
 * on every machine. As the hardware has it, denormals are zeros and every sum of a pair's product is rounded.
 */
#ifndef WALLE_AMX_EMULATED_H
#define WALLE_AMX_EMULATED_H

#include <math.h>
#include <string.h>

#include "base/dtype.h"
#include "kernels/kernels.h"

static _Thread_local float emulated_tiles[8][16][16];

static inline float emulated_normal(float x) {
    return fabsf(x) < 0x1p-126f ? x * 0 : x;
}

static inline float emulated_half(float word, int which) {
    uint32_t bits;
    memcpy(&bits, &word, sizeof bits);
    return emulated_normal(we_bf16_to_f32((uint16_t)(bits >> 16 * which)));
}

static inline void emulated_load(int tile, const void *from, int64_t row_bytes) {
    for (int i = 0; i < 16; i++)
        memcpy(emulated_tiles[tile][i], (const char *)from + i * row_bytes, 64);
}

static inline void emulated_store(int tile, void *to, int64_t row_bytes) {
    for (int i = 0; i < 16; i++)
        memcpy((char *)to + i * row_bytes, emulated_tiles[tile][i], 64);
}

static inline void emulated_dot(int sums, int a, int b) {
    for (int i = 0; i < 16; i++) {
        for (int w = 0; w < 16; w++) {
            for (int j = 0; j < 16; j++) {
                float sum = emulated_tiles[sums][i][j];
                for (int h = 1; h >= 0; h--)
                    sum = emulated_normal(fmaf(emulated_half(emulated_tiles[a][i][w], h),
                                               emulated_half(emulated_tiles[b][w][j], h), sum));
                emulated_tiles[sums][i][j] = sum;
            }
        }
    }
}

#define TILE_ZERO(tile) memset(emulated_tiles[tile], 0, sizeof emulated_tiles[tile])
#define TILE_LOAD(tile, from, row_bytes) emulated_load(tile, from, row_bytes)
#define TILE_STORE(tile, to, row_bytes) emulated_store(tile, to, row_bytes)
#define TILE_DOT(sums, a, b) emulated_dot(sums, a, b)

typedef struct emulated_vec {
    float lanes[16];
} emulated_vec;

#define LANES 16
#define VEC emulated_vec
#define EACH_LANE(out, value)                                                                                \
    emulated_vec out;                                                                                        \
    for (int l = 0; l < 16; l++)                                                                             \
        out.lanes[l] = (value);

static inline emulated_vec emulated_vector(const float *p, int count) {
    EACH_LANE(out, l < count ? p[l] : 0)
    return out;
}
static inline emulated_vec emulated_splat(float x) {
    EACH_LANE(out, x)
    return out;
}
static inline emulated_vec emulated_add(emulated_vec a, emulated_vec b) {
    EACH_LANE(out, a.lanes[l] + b.lanes[l])
    return out;
}
static inline emulated_vec emulated_kept(emulated_vec v, float low, float high) {
    EACH_LANE(out, v.lanes[l] < low ? low : v.lanes[l] > high ? high : v.lanes[l])
    return out;
}
static inline emulated_vec emulated_narrow(const uint16_t *p, int count) {
    EACH_LANE(out, l < count ? we_bf16_to_f32(p[l]) : 0)
    return out;
}
static inline void emulated_put(float *p, int count, emulated_vec v) {
    memcpy(p, v.lanes, (size_t)count * sizeof *p);
}
static inline void emulated_put_narrow(uint16_t *p, int count, emulated_vec v) {
    for (int l = 0; l < count; l++)
        p[l] = we_f32_to_bf16_part(v.lanes[l]);
}

#define V_ZERO() emulated_splat(0)
#define V_SPLAT(x) emulated_splat(x)
#define V_LOAD(p) emulated_vector(p, 16)
#define V_LOAD_UP_TO(p, count) emulated_vector(p, count)
#define V_LOAD_NARROW(p, count) emulated_narrow(p, count)
#define V_STORE_UP_TO(p, count, v) emulated_put(p, count, v)
#define V_STORE_NARROW(p, count, v) emulated_put_narrow(p, count, v)
#define V_ADD(a, b) emulated_add(a, b)
#define V_RAISE(v, least) emulated_kept(v, least, INFINITY)
#define V_CAP(v, most) emulated_kept(v, -INFINITY, most)
#include "kernels/simd/matmul_amx.h"

static void emulated_1(const we_tile *t) {
    multiply_parts(t, 1);
}
static void emulated_2(const we_tile *t) {
    multiply_parts(t, 2);
}
static void emulated_3(const we_tile *t) {
    multiply_parts(t, 3);
}

/* float32, 32 columns. */
static void emulated_exact(const we_tile *t) {
    for (int32_t i = 0; i < t->m; i++) {
        for (int32_t j = 0; j < t->n; j++) {
            float *c = &t->c[i * t->ldc + j];
            float sum = t->accumulate    ? *c
                        : t->column_bias ? t->column_bias[j]
                        : t->row_bias    ? t->row_bias[i]
                                         : 0;
            for (int64_t p = 0; p < t->runs * t->depth; p++)
                sum = fmaf(t->rows[p / t->depth * t->m + i][p % t->depth], t->b[p * AMX_COLUMNS + j], sum);
            sum += t->residual ? t->residual[i * t->ldc + j] : 0;
            sum = sum < t->low ? t->low : sum;
            *c = sum > t->high ? t->high : sum;
        }
    }
}
static const we_matmul_row EMULATED_EXACT = {
    .name = "emulated exact", .rows = 14, .columns = AMX_COLUMNS, .granule = 1, .kernel = emulated_exact};

#define EMULATED(parts_)                                                                                     \
    {.name = "emulated bf16x" #parts_,                                                                       \
     .isa = WE_ISA_AMX,                                                                                      \
     .rows = AMX_ROWS,                                                                                       \
     .columns = AMX_COLUMNS,                                                                                 \
     .parts = (parts_),                                                                                      \
     .granule = WE_PART_WORDS,                                                                               \
     .kernel = emulated_##parts_,                                                                            \
     .split = {we_bf16_split__ref, we_bf16_pair__ref},                                                       \
     .exact = (parts_) > 1 ? &EMULATED_EXACT : NULL}
static const we_matmul_row EMULATED_ROWS[] = {EMULATED(1), EMULATED(2), EMULATED(3)};

enum {
    EMULATED_COUNT = sizeof EMULATED_ROWS / sizeof *EMULATED_ROWS,
};

#endif
