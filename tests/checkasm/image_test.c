/* The kernels on rows of images: every set this machine can run gives the bits of the reference, and touches
 * nothing else. */
#include <math.h>
#include <string.h>

#include "base/cpu.h"
#include "check.h"
#include "kernels/kernels.h"

enum { MOST = 300, CHANNELS = 4, TAPS = 25, GUARD = 64, ROOM = MOST * CHANNELS + GUARD };

static const int64_t SIZES[] = {0, 1, 2, 7, 15, 16, 17, 31, 33, 63, 64, 65, 127, 128, 129, 200, 255, 299};
enum { SIZE_COUNT = sizeof SIZES / sizeof *SIZES };

static union {
    uint8_t u8[TAPS][ROOM];
    uint16_t u16[TAPS][ROOM];
    int16_t i16[TAPS][ROOM];
    float f32[TAPS][ROOM];
    double f64[TAPS][ROOM];
} in;
static union {
    uint8_t bytes[CHANNELS][ROOM * sizeof(double)];
} got, want;

static void fill_bytes(void *to, size_t size) {
    for (size_t i = 0; i < size; i++)
        ((uint8_t *)to)[i] = (uint8_t)check_random();
}

static void fresh_outputs(void) {
    fill_bytes(&got, sizeof got);
    want = got;
}

static void compare(const char *set, const char *name, int64_t n) {
    for (size_t c = 0; c < CHANNELS; c++) {
        for (size_t i = 0; i < sizeof got.bytes[c]; i++) {
            if (got.bytes[c][i] != want.bytes[c][i]) {
                CHECK(0, "%s of %s: n %" PRId64 ": plane %zu differs at byte %zu", name, set, n, c, i);
                return;
            }
        }
    }
}

/* Call both with the same arguments; OUT and PLANES stand for where each writes. */
#define BOTH(name, ...)                                                                                      \
    do {                                                                                                     \
        fresh_outputs();                                                                                     \
        {                                                                                                    \
            void *OUT = want.bytes[0];                                                                       \
            void *PLANES[CHANNELS] = {want.bytes[0], want.bytes[1], want.bytes[2], want.bytes[3]};           \
            (void)OUT, (void)PLANES;                                                                         \
            ref->name(__VA_ARGS__);                                                                          \
        }                                                                                                    \
        {                                                                                                    \
            void *OUT = got.bytes[0];                                                                        \
            void *PLANES[CHANNELS] = {got.bytes[0], got.bytes[1], got.bytes[2], got.bytes[3]};               \
            (void)OUT, (void)PLANES;                                                                         \
            k->name(__VA_ARGS__);                                                                            \
        }                                                                                                    \
        compare(set, #name, n);                                                                              \
    } while (0)

static void check_sums(const char *set, const we_image_kernels *k, const we_image_kernels *ref, int64_t n) {
    const void *x[TAPS];
    uint16_t w16[TAPS];
    int16_t small[TAPS];
    float w32[TAPS];
    double w64[TAPS];
    int32_t taps = (int32_t)check_below(TAPS) + 1;
    for (int t = 0; t < TAPS; t++) {
        w16[t] = (uint16_t)check_below(256 / TAPS);
        small[t] = (int16_t)(check_below(5) - 2);
        w32[t] = (float)check_below(1000) / 500 - 1;
        w64[t] = (double)w32[t];
    }
    int64_t skew = check_below(8);
#define ROWS(field)                                                                                          \
    for (int t = 0; t < TAPS; t++)                                                                           \
        x[t] = in.field[t] + skew;
    fill_bytes(&in, sizeof in);
    ROWS(u8)
    BOTH(taps_u8_u16, n, taps, (const uint8_t *const *)x, w16, OUT);
    BOTH(taps_u8_i16, n, taps, (const uint8_t *const *)x, small, OUT);
    BOTH(least_u8, n, taps, (const uint8_t *const *)x, OUT);
    BOTH(most_u8, n, taps, (const uint8_t *const *)x, OUT);
    BOTH(middle9_u8, n, (const uint8_t *const *)x, OUT);
    BOTH(middle25_u8, n, (const uint8_t *const *)x, OUT);
    BOTH(least_pair_u8, n, taps % 20 + 1, (const uint8_t *const *)x, PLANES[0], PLANES[1]);
    BOTH(most_pair_u8, n, taps % 20 + 1, (const uint8_t *const *)x, PLANES[0], PLANES[1]);
    ROWS(u16)
    BOTH(taps_u16_u8, n, taps, (const uint16_t *const *)x, w16, OUT);
    const uint16_t fifth[5] = {1, 4, 6, 4, 1};
    for (int t = 0; t < TAPS; t++) {
        for (int i = 0; i < ROOM; i++)
            in.u16[t][i] = (uint16_t)check_below(255 * 16 + 1);
    }
    BOTH(taps_small_u8, n, taps % 5 + 1, (const uint16_t *const *)x, fifth, 8, OUT);
    ROWS(i16)
    BOTH(keep_i16_u8, n, x[0], -7, OUT);
    BOTH(taps_i16, n, taps, (const int16_t *const *)x, small, OUT);
    for (int t = 0; t < TAPS; t++) {
        for (int i = 0; i < ROOM; i++)
            in.f32[t][i] = (float)check_below(100000) / 300 - 20;
    }
    ROWS(f32)
    BOTH(taps_f32, n, taps, (const float *const *)x, w32, OUT);
    BOTH(taps_f32_u8, n, taps, (const float *const *)x, w32, -3.5f, OUT);
    BOTH(scale_f32_u8, n, x[0], 0.7f, 3.25f, 0, OUT);
    BOTH(scale_f32_u8, n, x[0], -0.7f, 3.25f, 1, OUT);
    BOTH(lerp_f32, n, x[0], x[1], 0.3f, 0.7f, OUT);
    for (int t = 0; t < TAPS; t++) {
        for (int i = 0; i < ROOM; i++)
            in.f64[t][i] = (double)check_below(100000) / 300 - 20;
    }
    ROWS(f64)
    BOTH(taps_f64, n, taps, (const double *const *)x, w64, OUT);
#undef ROWS
}

static void check_pixels(const char *set, const we_image_kernels *k, const we_image_kernels *ref, int64_t n) {
    fill_bytes(&in, sizeof in);
    int32_t channels = (int32_t)check_below(3) + 2;
    const uint8_t *a = in.u8[0] + check_below(8), *b = in.u8[4] + check_below(8),
                  *c = in.u8[8] + check_below(8);
    const uint8_t *const planes[CHANNELS] = {a, b, c, in.u8[12]};
    const int32_t mixing[4] = {3735, 19235, -9798, 1 << 14};
    const int32_t wide[4] = {102760, -528482, 269484, (1 << 19) + (16 << 20)};
    const float scales[CHANNELS] = {0.5f, 0.25f, 1.5f, 2}, shifts[CHANNELS] = {-1, 0, 1, 2};
    BOTH(slide_u8, n, a, b, OUT);
    BOTH(slide_u8, n, a, NULL, OUT);
    BOTH(slide_counts, in.u16[0], in.u16[1], OUT);
    BOTH(widen_u8_f32, n, a, OUT);
    BOTH(halve_u8, n / 2, channels, a, b, OUT);
    int8_t order[CHANNELS];
    for (int c = 0; c < CHANNELS; c++)
        order[c] = (int8_t)(check_below((uint32_t)channels + 1) - 1);
    int32_t from = channels, to = (int32_t)check_below(CHANNELS) + 1, size = (int32_t)check_below(17) + 1;
    BOTH(order_u8, n, from, to, order, a, OUT);
    BOTH(reverse_u8, n * CHANNELS / size, size, a, OUT);
    BOTH(split_u8, n, channels, a, (uint8_t *const *)PLANES);
    BOTH(merge_u8, n, channels, planes, OUT);
    BOTH(mix_u8, n, a, b, c, mixing, 15, OUT);
    BOTH(mix_u8, n, a, b, c, wide, 20, OUT);
    BOTH(video_u8, n / 2 * 2, a, b, c, (uint8_t *const *)PLANES);
    BOTH(hsv_u8, n, a, b, c, 180, PLANES[0], PLANES[1], PLANES[2]);
    BOTH(unhsv_u8, n, a, b, c, 6.0f / 255, (uint8_t *const *)PLANES);
    BOTH(blend_u8, n, a, b, 0.3f, 1.1f, -4.5f, OUT);
    BOTH(scale_u8, n, a, -1.7f, 40.5f, 1, OUT);
    BOTH(scale_u8, n, a, -1.7f, 240.5f, 0, OUT);
    BOTH(scale_u8, n, a, INFINITY, -INFINITY, 0, OUT); /* NaN */
    BOTH(scale_u8_f32, n, a, -1.7f, 40.5f, OUT);
    BOTH(total_u8, n, channels, a, OUT);
    BOTH(total_squares_u8, n, channels, a, OUT);
    BOTH(total_set_u8, n, channels, a, OUT);
    BOTH(range_of_u8, n, a, PLANES[0], PLANES[1]);
    BOTH(normalise_u8, n, channels, a, scales, shifts, (float *const *)PLANES);
    uint16_t sums[ROOM];
    for (int i = 0; i < ROOM; i++)
        sums[i] = (uint16_t)check_below(255 * 5);
    for (int32_t taps = 1; taps <= 9; taps++) {
        int64_t most = n - 9 * channels < 0 ? 0 : n - 9 * channels;
        BOTH(box_u16_u8, most, taps, channels, sums, 1.0f / (float)(5 * taps), 0, 0, 0, OUT);
        uint32_t area = 5 * (uint32_t)taps;
        BOTH(box_u16_u8, most, taps, channels, sums, 0, ((1u << 24) + area - 1) / area, area / 2, 24, OUT);
        BOTH(box_u16_u8, most, taps, channels, sums, 0, ((1u << 18) + area - 1) / area, area / 2, 18, OUT);
    }
}

/* Medians of squares are the middles of all their elements, where pixels at the ends repeat. */
static void check_medians(const char *set, const we_image_kernels *k, const we_image_kernels *ref,
                          int64_t pixels) {
    static uint8_t wide[5][ROOM];
    enum { BEYOND_A_BLOCK = 257 };
    int64_t step = (int64_t)check_below(4) + 1, n = (check_below(4) ? pixels : BEYOND_A_BLOCK) * step;
    fill_bytes(&in, sizeof in);
    for (int i = check_below(2) ? 0 : ROOM; i < ROOM; i++) {
        for (int t = 0; t < 5; t++)
            in.u8[t][i] &= 3; /* many are equal */
    }
    for (int64_t side = 3; side <= 5; side += 2) {
        const uint8_t *rows[5], *all[25];
        int64_t reach = side / 2 * step;
        for (int64_t t = 0; t < side; t++) {
            rows[t] = in.u8[t] + step;
            for (int64_t i = 0; n > 0 && i < n + 2 * reach; i++) {
                int64_t from = i - reach;
                from = from < 0 ? i % step : from >= n ? n - step + i % step : from;
                wide[t][i] = rows[t][from];
            }
        }
        for (int64_t t = 0; t < side * side; t++)
            all[t] = wide[t / side] + t % side * step;
        fresh_outputs();
        ref->middle9_u8(side == 3 ? n : 0, all, want.bytes[0]);
        k->median3_u8(side == 3 ? n : 0, step, rows, got.bytes[0]);
        ref->middle25_u8(side == 5 ? n : 0, all, want.bytes[0]);
        k->median5_u8(side == 5 ? n : 0, step, rows, got.bytes[0]);
        compare(set, side == 3 ? "median3_u8" : "median5_u8", n);
    }
}

static void check_elements(const char *set, const we_image_kernels *k, const we_image_kernels *ref,
                           int64_t n) {
    fill_bytes(&in, sizeof in);
    const uint8_t *a = in.u8[0] + check_below(8), *b = in.u8[4] + check_below(8);
    int16_t bound = (int16_t)(check_below(512) - 256);
    uint8_t limit = (uint8_t)check_random(), low[4], high[4];
    int32_t channels = (int32_t)check_below(4) + 1;
    for (int c = 0; c < 4; c++) {
        low[c] = (uint8_t)check_below(200);
        high[c] = (uint8_t)(low[c] + check_below(56));
    }
    for (int32_t fn = 0; fn < WE_POINTWISE_COUNT; fn++)
        BOTH(pointwise_u8, fn, n, a, b, OUT);
    for (int32_t type = 0; type <= WE_THRESHOLD_TO_ZERO_INV; type++)
        BOTH(threshold_u8, type, n, a, limit, 200, OUT);
    BOTH(threshold_by_u8, n, a, b, bound, 210, 3, OUT);
    BOTH(range_u8, n, channels, a, low, high, OUT);
    BOTH(lut_u8, n, a, in.u8[9], OUT);
    int32_t above[MOST], sizes[3][MOST + 2];
    int16_t dx[MOST], dy[MOST];
    for (int i = 0; i < MOST; i++) {
        above[i] = (int32_t)check_random();
        dx[i] = (int16_t)(check_below(5) ? check_below(41) - 20 : check_below(1 << 16));
        dy[i] = (int16_t)(check_below(5) ? check_below(41) - 20 : check_below(1 << 16));
    }
    for (int i = 0; i < MOST + 2; i++) {
        for (int t = 0; t < 3; t++)
            sizes[t][i] = (int32_t)check_below(4) * 20;
    }
    BOTH(integral_u8, n, a, above, OUT);
    BOTH(edge_sizes, n, dx, dy, 0, OUT);
    BOTH(edge_sizes, n, dx, dy, 1, OUT);
    BOTH(edge_marks, n, dx, dy, sizes[0] + 1, sizes[1] + 1, sizes[2] + 1, 10, 45, OUT);
}

static void check_resize(const char *set, const we_image_kernels *k, const we_image_kernels *ref, int64_t n) {
    int32_t at[MOST], channels = (int32_t)check_below(CHANNELS) + 1;
    int16_t w[2 * MOST], rows[2][ROOM];
    fill_bytes(&in, sizeof in);
    for (int i = 0; i < MOST; i++) {
        at[i] = (int32_t)check_below(MOST - 1) * channels;
        w[2 * i] = (int16_t)check_below(2049);
        w[2 * i + 1] = (int16_t)(2048 - w[2 * i]);
    }
    BOTH(resize_u8, n, channels, in.u8[0], at, channels, w, OUT);
    for (int i = 0; i < ROOM; i++) {
        rows[0][i] = (int16_t)check_below(255 * 128 + 1);
        rows[1][i] = (int16_t)check_below(255 * 128 + 1);
    }
    BOTH(lerp_i16_u8, n * channels, rows[0], rows[1], w[0], w[1], OUT);
}

/* Pixels read where a map says, by two or more taps a side. */
static void check_places(const char *set, const we_image_kernels *k, const we_image_kernels *ref, int64_t n) {
    enum { SIDE = 40 };
    static const float STRANGE[] = {NAN, INFINITY, -INFINITY, 1e30f, -1e30f, 0, -0.0f, -1, SIDE - 1, SIDE};
    int32_t channels = (int32_t)check_below(CHANNELS) + 1, at[MOST];
    int16_t w[8 * MOST], pairs[2][2 * MOST];
    int64_t row = SIDE * channels;
    fill_bytes(&in, sizeof in);
    fill_bytes(w, sizeof w);
    for (int i = 0; i < MOST; i++) {
        at[i] = (int32_t)check_below((SIDE - 1) * SIDE) * channels;
        int32_t fx = (int32_t)check_below(16385), fy = (int32_t)check_below(16385), both = fx * fy >> 14;
        pairs[0][2 * i] = (int16_t)(16384 - fx - fy + both);
        pairs[0][2 * i + 1] = (int16_t)(fx - both);
        pairs[1][2 * i] = (int16_t)(fy - both);
        pairs[1][2 * i + 1] = (int16_t)both;
    }
    BOTH(bilinear_u8, n, channels, in.u8[0], row, at, pairs[0], pairs[1], OUT);
    for (int32_t taps = 4; taps <= 8; taps += 4) {
        const int32_t *rows[8];
        const int16_t weights[8] = {-30, 100, -300, 1250, 1300, -400, 150, -22};
        for (int t = 0; t < 8; t++)
            rows[t] = (const int32_t *)in.f32[t];
        BOTH(weigh_u8, n, channels, taps, in.u8[0], at, w, OUT);
        for (int t = 0; t < 8; t++) {
            for (int i = 0; i < ROOM; i++)
                ((int32_t *)in.f32[t])[i] = (int32_t)check_below(255 * 2048 * 2) - 255 * 1024;
        }
        BOTH(taps_i32_u8, n * channels, taps, rows, weights, OUT);
        fill_bytes(&in, sizeof in);
    }
    float px[MOST], py[MOST];
    for (int i = 0; i < MOST; i++) {
        px[i] = check_below(9) ? (float)check_below(100 * (SIDE + 4)) / 100 - 2 : STRANGE[check_below(10)];
        py[i] = check_below(9) ? (float)check_below(100 * (SIDE + 4)) / 100 - 2 : STRANGE[check_below(10)];
    }
    const we_image_grid grid = {SIDE, SIDE, (int32_t)(check_below(2) ? row : -row), channels,
                                (int32_t)row * 30};
    BOTH(corners, n, px, py, &grid, PLANES[0], PLANES[1], PLANES[2]);
    bool turn = check_below(2);
    double x0 = (double)check_below(9);
    BOTH(spots, n, px, py, &grid, OUT);
    int64_t rows = check_below(40), columns = check_below(30);
    BOTH(transpose_u8, rows, columns, in.u8[0], rows + 3, OUT, columns + 2);
    for (int i = 0; i < MOST; i++) /* near each other, as in most images */
        at[i] = i * 3 / 2 + (int32_t)check_below(3);
    BOTH(bilinear_u8, n, 1, in.u8[0], 2 * MOST, at, pairs[0], pairs[1], OUT);
    BOTH(weigh_u8, n, 1, 4, in.u8[0], at, w, OUT);
    BOTH(weigh_u8, n, 1, 8, in.u8[0], at, w, OUT);
    for (int i = 0; i < 2 * MOST; i++)
        w[i] = (int16_t)(pairs[0][i] / 16);
    BOTH(resize_u8, n, 1, in.u8[0], at, 1, w, OUT);
    const double m[9] = {0.9, 0.1, -3, -0.2, 1.1, 2, 1e-3, -2e-3, check_below(2) ? 1 : 0};
    BOTH(places, n, m, turn, x0, 7, PLANES[0], PLANES[1]);
    for (int i = 0; i < ROOM; i++)
        in.u16[0][i] = (uint16_t)check_below(255 * 9);
    for (int32_t size = 1; size <= 5; size++)
        BOTH(area_u16_u8, n / size, channels, size, in.u16[0], 1.0f / (float)(9 * size), OUT);
}

int main(int argc, char **argv) {
    uint32_t isas;
    we_error error;
    static we_kernels ref, set;
    if (we_cpu_isas(&isas, &error) != WE_OK) {
        printf("%s\n", error.message);
        return 1;
    }
    check_seed(argc, argv);
    we_kernels_fill(1u << WE_ISA_REF, &ref);
#define WE_IMAGE_KERNEL_ROW(ISA, isa)                                                                        \
    if (isas >> WE_ISA_##ISA & 1) {                                                                          \
        we_kernels_fill(1u << WE_ISA_REF | 1u << WE_ISA_##ISA, &set);                                        \
        for (int round = 0; round < 3 * SIZE_COUNT; round++) {                                               \
            check_sums(#isa, &set.image, &ref.image, SIZES[round % SIZE_COUNT]);                             \
            check_pixels(#isa, &set.image, &ref.image, SIZES[round % SIZE_COUNT]);                           \
            check_medians(#isa, &set.image, &ref.image, SIZES[round % SIZE_COUNT]);                          \
            check_elements(#isa, &set.image, &ref.image, SIZES[round % SIZE_COUNT]);                         \
            check_resize(#isa, &set.image, &ref.image, SIZES[round % SIZE_COUNT]);                           \
            check_places(#isa, &set.image, &ref.image, SIZES[round % SIZE_COUNT]);                           \
        }                                                                                                    \
    }
#include "kernels/image.inc"
    return check_result();
}
