/* Every kernel row that this CPU can run (under WALLE_ENGINE_ISA) against the reference row: sizes 0, 1,
 * around the tile, odd; unaligned pointers; special values; guard bytes on both sides of every output.
 * `checkasm --bench` times the rows instead, `--isa` says how far they go. `--seed N` repeats a run. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "amx_emulated.h"
#include "base/clock.h"
#include "base/dtype.h"
#include "check.h"
#include "kernels/kernels.h"
#include "kernels/pack/pack.h"

enum {
    GUARD = 64, /* bytes */
    LONGEST = 1500,
};

static const int64_t SIZES[] = {0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 1001};
enum {
    SIZE_COUNT = sizeof SIZES / sizeof *SIZES,
};

typedef struct output {
    unsigned char bytes[GUARD * 2 + (LONGEST + 1) * 8];
    unsigned char *data;
    size_t size;
} output;

/* An output of `size` bytes at a pointer that is `skew` bytes off alignment. */
static void open_output(output *o, size_t size, size_t skew) {
    memset(o->bytes, 0xA5, sizeof o->bytes);
    o->data = o->bytes + GUARD - 8 + skew;
    o->size = size;
}

static int guards_hold(const output *o) {
    for (const unsigned char *p = o->bytes; p < o->bytes + sizeof o->bytes; p++) {
        if ((p < o->data || p >= o->data + o->size) && *p != 0xA5)
            return 0;
    }
    return 1;
}

static double special(int64_t i) {
    static const double VALUES[] = {0.0,    -0.0,    1.0,      -1.0,     INFINITY, -INFINITY,
                                    NAN,    FLT_MIN, -FLT_MIN, 1e-42,    88.0,     -87.5,
                                    -103.0, 89.5,    FLT_MAX,  -FLT_MAX, 0.5,      1e-20};
    return VALUES[i % (int64_t)(sizeof VALUES / sizeof *VALUES)];
}

/* Random elements of a type; one in eight is special where `specials` says so. */
static void fill(we_dtype dtype, void *to, int64_t n, int specials) {
    for (int64_t i = 0; i < n; i++) {
        double r = ((double)(check_random() >> 11) * 0x1p-53 - 0.5) * 8;
        if (specials && check_below(8) == 0)
            r = special(check_below(1000));
        switch (dtype) {
        case WE_F32:
            ((float *)to)[i] = (float)r;
            break;
        case WE_F64:
            ((double *)to)[i] = r;
            break;
        case WE_I32:
            ((int32_t *)to)[i] = specials && check_below(8) == 0 ? INT32_MIN : (int32_t)check_below(7) - 3;
            break;
        default:
            ((int64_t *)to)[i] = specials && check_below(8) == 0 ? INT64_MIN : check_below(7) - 3;
            break;
        }
    }
}

/* Distance in units in the last place; 0 for equal values and for two NaNs. */
static double ulps(float a, float b) {
    int32_t x, y;
    if (a == b || (a != a && b != b))
        return 0;
    if (a != a || b != b)
        return INFINITY;
    memcpy(&x, &a, 4);
    memcpy(&y, &b, 4);
    int64_t p = x < 0 ? INT32_MIN - (int64_t)x : x, q = y < 0 ? INT32_MIN - (int64_t)y : y;
    return fabs((double)(p - q));
}

static void compare(const char *name, we_dtype dtype, int exact, double allowed, const output *got,
                    const void *want, int64_t n) {
    CHECK(guards_hold(got), "%s wrote outside its output (n = %" PRId64 ")", name, n);
    if (exact && dtype != WE_F32) {
        CHECK(memcmp(got->data, want, got->size) == 0, "%s differs (n = %" PRId64 ")", name, n);
        return;
    }
    for (int64_t i = 0; i < n && dtype == WE_F32; i++) {
        float a, b;
        memcpy(&a, got->data + i * 4, 4);
        memcpy(&b, (const char *)want + i * 4, 4);
        CHECK(ulps(a, b) <= (exact ? 0 : allowed), "%s: element %" PRId64 " of %" PRId64 " is %.9g, not %.9g",
              name, i, n, a, b);
    }
}

/* ---- Families; each takes the row and the reference row of the same function ---- */

/* Every exponent alike. */
static void fill_patterns(float *to, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits = (uint32_t)check_random();
        memcpy(&to[i], &bits, 4);
    }
}

/* A float32 kernel takes patterns too, and values about zero many times over, for its worst error. */
static void check_unary(const char *name, we_dtype dtype, double allowed, we_unary_kernel kernel,
                        we_unary_kernel ref) {
    static _Alignas(64) unsigned char in[(LONGEST + 2) * 8], want[(LONGEST + 2) * 8];
    output got;
    size_t width = we_dtype_size(dtype);
    for (int s = 0; s < 5 * SIZE_COUNT; s++) {
        int64_t n = SIZES[s % SIZE_COUNT];
        const unsigned char *x = in + width * (size_t)check_below(2);
        fill(dtype, in, n + 1, s % 3);
        if (dtype == WE_F32 && s % 2)
            fill_patterns((float *)in, n + 1);
        open_output(&got, (size_t)n * width, width * (size_t)check_below(2));
        ref(n, x, want);
        kernel(n, x, got.data);
        compare(name, dtype, allowed == 0, allowed, &got, want, n);
        memcpy(got.data, x, (size_t)n * width);
        kernel(n, got.data, got.data);
        compare(name, dtype, allowed == 0, allowed, &got, want, n);
    }
}

static void check_binary(const char *name, we_dtype dtype, int exact, int compares, we_binary_kernel kernel,
                         we_binary_kernel ref) {
    static const int64_t STEPS[][2] = {{1, 1}, {1, 0}, {0, 1}, {0, 0}, {2, 1}, {1, -1}};
    static _Alignas(64) unsigned char a[(2 * LONGEST + 2) * 8], b[(2 * LONGEST + 2) * 8],
        want[(LONGEST + 2) * 8];
    output got;
    size_t width = we_dtype_size(dtype), out_width = compares ? 1 : width;
    for (int s = 0; s < SIZE_COUNT * 6; s++) {
        int64_t n = SIZES[s / 6], a_step = STEPS[s % 6][0], b_step = STEPS[s % 6][1];
        const unsigned char *x = a + width,
                            *y = b + (b_step < 0 ? (size_t)(n > 0 ? n - 1 : 0) * width : width);
        fill(dtype, a, 2 * n + 2, 1);
        fill(dtype, b, 2 * n + 2, 1);
        open_output(&got, (size_t)n * out_width, width * (size_t)check_below(2));
        ref(n, x, a_step, y, b_step, want);
        kernel(n, x, a_step, y, b_step, got.data);
        compare(name, compares ? WE_BOOL : dtype, exact, 0, &got, want, n);
    }
}

static void check_reduce(const char *name, we_dtype dtype, int exact, we_reduce_kernel kernel,
                         we_reduce_kernel ref) {
    static const int64_t INNERS[] = {1, 3, 8, 17};
    static _Alignas(64) unsigned char in[LONGEST * 17 * 8], want[64 * 8];
    output got;
    size_t width = we_dtype_size(dtype);
    for (int s = 1; s < SIZE_COUNT * 4; s++) {
        int64_t k = SIZES[s / 4], inner = INNERS[s % 4];
        if (k == 0)
            continue;
        fill(dtype, in, k * inner, exact);
        open_output(&got, (size_t)inner * width, 0);
        ref(k, inner, in, want);
        kernel(k, inner, in, got.data);
        if (exact) {
            compare(name, dtype, exact, 0, &got, want, inner);
            continue;
        }
        CHECK(guards_hold(&got), "%s wrote outside its output", name);
        for (int64_t j = 0; j < inner; j++) {
            float sum;
            double size = 0;
            memcpy(&sum, got.data + j * 4, 4);
            for (int64_t i = 0; i < k; i++)
                size += fabs(((float *)in)[i * inner + j]);
            double error = fabs((double)sum - ((float *)want)[j]);
            CHECK(error <= (double)k * 0x1p-24 * size, "%s: k %" PRId64 " error %g", name, k, error);
        }
    }
}

/* ---- Products against their sums in double ---- */

enum {
    TILE_RUNS = 3,
    TILE_DEPTH = 129, /* at least the largest */
    TILE_LDC = 70,
    TILE_NARROW_ROW = 75,
};
static float tile_a[WE_TILE_ROWS * WE_PARTS * TILE_DEPTH + 16],
    tile_b[WE_TILE_COLUMNS * WE_PARTS * TILE_DEPTH + 16], tile_c[WE_TILE_ROWS * TILE_LDC],
    tile_before[WE_TILE_ROWS * TILE_LDC], tile_bias[TILE_LDC], tile_residual[WE_TILE_ROWS * TILE_NARROW_ROW];
static uint16_t tile_narrow[WE_TILE_ROWS * TILE_NARROW_ROW],
    tile_narrow_before[WE_TILE_ROWS * TILE_NARROW_ROW], tile_narrow_residual[WE_TILE_ROWS * TILE_NARROW_ROW];
static const float *tile_rows[TILE_RUNS * WE_TILE_ROWS];

typedef struct sum {
    double value, size; /* of all terms, and of their magnitudes */
    int64_t terms;
} sum;

static void add_term(sum *s, double a, double b) {
    s->value += a * b;
    s->size += fabs(a * b);
    s->terms++;
}

static sum plain_sum(const we_matmul_row *row, const we_tile *t, int32_t i, int64_t j) {
    sum s = {0};
    for (int64_t p = 0; p < t->runs * t->depth; p++)
        add_term(&s, (double)t->rows[p / t->depth * t->m + i][p % t->depth], t->b[p * row->columns + j]);
    return s;
}

/* The half of a word. */
static double half_of(const float *word, int64_t which) {
    uint32_t bits;
    memcpy(&bits, word, sizeof bits);
    return we_bf16_to_f32((uint16_t)(bits >> 16 * which));
}

/* Of a packed b: word `w` of part q for column j. */
static const float *word_of(const we_matmul_row *row, const we_tile *t, int64_t w, int32_t q, int64_t j) {
    if (row->granule == WE_COUPLE)
        return t->b + (w / 2 * row->columns + j) * 2 + w % 2;
    int64_t chunk = row->parts == 1 ? 1 : WE_PART_WORDS;
    return t->b + ((w / chunk * row->parts + q) * chunk + w % chunk) * row->columns + j;
}

static sum split_sum(const we_matmul_row *row, const we_tile *t, int32_t i, int64_t j) {
    sum s = {0};
    for (int64_t k = 0; k < 2 * t->runs * t->depth; k++) {
        const float *const *rows = t->rows + k / 2 / t->depth * t->m;
        for (int32_t p = 0; p < row->parts; p++) {
            for (int32_t q = 0; p + q < row->parts; q++) {
                int64_t w = k / 2;
                add_term(&s, half_of(&rows[p * t->m + i][w % t->depth], k % 2),
                         half_of(word_of(row, t, w, q, j), k % 2));
            }
        }
    }
    return s;
}

static void fill_words(float *to, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        float halves[2];
        fill(WE_F32, halves, 2, 0);
        uint32_t word = we_f32_to_bf16(halves[0]) | (uint32_t)we_f32_to_bf16(halves[1]) << 16;
        memcpy(to + i, &word, sizeof word);
    }
}

/* Images of float32 or bfloat16. */
static void fill_narrow(uint16_t *to, int64_t n, int specials) {
    for (int64_t i = 0; i < n; i++) {
        float x;
        fill(WE_F32, &x, 1, specials);
        to[i] = we_f32_to_bf16_part(x);
    }
}

static void fill_image(we_dtype dtype, void *to, int64_t n, int specials) {
    if (dtype == WE_BF16)
        fill_narrow(to, n, specials);
    else
        fill(dtype, to, n, specials);
}

static float image_at(we_dtype dtype, const void *image, int64_t i) {
    return dtype == WE_BF16 ? we_bf16_to_f32(((const uint16_t *)image)[i]) : ((const float *)image)[i];
}

static void *image_from(we_dtype dtype, void *image, int64_t i) {
    return (char *)image + i * (int64_t)we_dtype_size(dtype);
}

/* What one rounding of a result may take away. */
static float rounding_of(we_dtype dtype, float x) {
    return dtype == WE_BF16 ? 0x1p-7f * fabsf(x) : 0;
}

/* Everything about a tile but its operands. */
static we_tile random_tile(const we_matmul_row *row, int round) {
    int mode = (int)check_below(3);
    fill(WE_F32, tile_c, WE_TILE_ROWS * TILE_LDC, 0);
    fill(WE_F32, tile_bias, TILE_LDC, 0);
    fill(WE_F32, tile_residual, WE_TILE_ROWS * TILE_NARROW_ROW, 0);
    memcpy(tile_before, tile_c, sizeof tile_c);
    return (we_tile){.rows = tile_rows,
                     .b = tile_b + check_below(2),
                     .c = tile_c,
                     .ldc = TILE_LDC,
                     .m = round % 3 ? 1 + (int32_t)check_below(row->rows) : row->rows,
                     .n = round % 5 ? 1 + (int32_t)check_below(row->columns) : row->columns,
                     .accumulate = check_below(3) == 0,
                     .row_bias = mode == 1 ? tile_bias : NULL,
                     .column_bias = mode == 2 ? tile_bias : NULL,
                     .residual = check_below(2) ? tile_residual : NULL,
                     .low = check_below(2) ? 0 : -INFINITY,
                     .high = check_below(2) ? 3 : INFINITY,
                     .ahead = tile_b};
}

/* A kernel of one part may read and write bfloat16. */
static void narrow_tile(we_tile *t) {
    fill_narrow(tile_narrow, WE_TILE_ROWS * TILE_NARROW_ROW, 0);
    fill_narrow(tile_narrow_residual, WE_TILE_ROWS * TILE_NARROW_ROW, 0);
    memcpy(tile_narrow_before, tile_narrow, sizeof tile_narrow);
    t->narrow_row = TILE_NARROW_ROW;
    if (check_below(2))
        t->narrow = tile_narrow;
    if (check_below(2)) {
        t->residual = NULL;
        t->narrow_residual = tile_narrow_residual;
    }
}

static double rest_of(const we_tile *t, int32_t i, int64_t j) {
    int64_t at = i * (t->narrow ? TILE_NARROW_ROW : TILE_LDC) + j;
    return t->narrow_residual ? (double)we_bf16_to_f32(tile_narrow_residual[at])
           : t->residual      ? (double)tile_residual[at]
                              : 0;
}

static void check_outside(const we_matmul_row *row, const we_tile *t) {
    for (int32_t i = 0; i < WE_TILE_ROWS; i++) {
        bool inside = i < t->m;
        for (int64_t j = 0; j < TILE_LDC; j++)
            CHECK((inside && j < t->n && !t->narrow) ||
                      tile_c[i * TILE_LDC + j] == tile_before[i * TILE_LDC + j],
                  "%s wrote outside its tile", row->name);
        for (int64_t j = 0; j < TILE_NARROW_ROW && t->narrow; j++)
            CHECK((inside && j < t->n) ||
                      tile_narrow[i * TILE_NARROW_ROW + j] == tile_narrow_before[i * TILE_NARROW_ROW + j],
                  "%s wrote outside its narrow tile", row->name);
    }
}

static double start_of(const we_tile *t, int32_t i, int64_t j) {
    if (t->accumulate)
        return tile_before[i * TILE_LDC + j];
    return t->row_bias ? tile_bias[i] : t->column_bias ? tile_bias[j] : 0;
}

static void check_tile(const we_matmul_row *row, const we_tile *t) {
    check_outside(row, t);
    for (int32_t i = 0; i < t->m; i++) {
        for (int64_t j = 0; j < t->n; j++) {
            double got =
                t->narrow ? we_bf16_to_f32(tile_narrow[i * TILE_NARROW_ROW + j]) : tile_c[i * TILE_LDC + j];
            double start = start_of(t, i, j), rest = rest_of(t, i, j);
            sum s = row->parts ? split_sum(row, t, i, j) : plain_sum(row, t, i, j);
            double want = fmin(fmax(start + s.value + rest, t->low), t->high);
            double size = s.size + fabs(start) + 8; /* 8: what is added */
            double rounding = t->narrow ? 0x1p-8 * fabs(want) : 0;
            CHECK(fabs(got - want) <=
                      (double)(s.terms + 4) * 0x1p-24 * size + rounding, /* for any order of summation */
                  "%s: m %d n %d k %" PRId64 ": %g, not %g", row->name, t->m, t->n, s.terms, got, want);
        }
    }
}

static void check_matmul(const we_matmul_row *row) {
    static const int64_t DEPTHS[] = {0, 1, 2, 7, 64, TILE_DEPTH};
    const int64_t floats = sizeof tile_a / sizeof *tile_a;
    for (int round = 0; round < 400; round++) {
        we_tile t = random_tile(row, round);
        t.runs = 1 + check_below(TILE_RUNS);
        t.depth = DEPTHS[check_below(6)];
        fill(WE_F32, tile_a, floats, 0);
        fill(WE_F32, tile_b, sizeof tile_b / sizeof *tile_b, 0);
        for (int64_t i = 0; i < t.runs * t.m; i++) /* anywhere, overlapping too */
            tile_rows[i] = tile_a + check_below(floats - TILE_DEPTH);
        row->kernel(&t);
        check_tile(row, &t);
    }
}

/* Rows that lie anywhere, in several runs. */
static void scatter_runs(we_tile *t) {
    const int64_t floats = sizeof tile_a / sizeof *tile_a;
    t->runs = 1 + check_below(TILE_RUNS);
    for (int64_t i = 0; i < t->runs * t->m; i++)
        tile_rows[i] = tile_a + check_below(floats - TILE_DEPTH);
}

/* Several runs, of which each so many rows are evenly apart. */
static void scatter_even_runs(we_tile *t) {
    const int64_t floats = sizeof tile_a / sizeof *tile_a;
    t->runs = 1 + check_below(TILE_RUNS);
    for (int64_t i = 0; i < t->runs * t->m; i++) {
        static int64_t from, step;
        int64_t row = i % t->m % WE_EVEN_ROWS;
        if (row == 0) {
            step = check_below(TILE_DEPTH);
            from = check_below(floats - TILE_DEPTH - (WE_EVEN_ROWS - 1) * step);
        }
        tile_rows[i] = tile_a + from + row * step;
    }
}

/* Operands are words; that they are parts of anything is nothing to the kernel. */
static void check_split_matmul(const we_matmul_row *row) {
    static const int64_t DEPTHS[] = {0, 1, 2, 5, 7, 8};
    if (row->open)
        row->open();
    for (int round = 0; round < 200; round++) {
        we_tile t = random_tile(row, round);
        int64_t skew = check_below(2), line = TILE_DEPTH - check_below(2);
        t.runs = 1;
        t.depth = DEPTHS[check_below(6)] * row->granule;
        fill_words(tile_a, sizeof tile_a / sizeof *tile_a);
        fill_words(tile_b, sizeof tile_b / sizeof *tile_b);
        for (int32_t i = 0; i < row->parts * t.m; i++)
            tile_rows[i] = tile_a + skew + (i / t.m * row->rows + i % t.m) * line;
        if (row->parts == 1)
            (we_wants_even_rows(row) ? scatter_even_runs : scatter_runs)(&t);
        if (row->parts == 1)
            narrow_tile(&t);
        row->kernel(&t);
        check_tile(row, &t);
    }
    if (row->close)
        row->close();
}

/* ---- Splitting and packing ---- */

static void fill_for_split(float *to, int64_t n) {
    fill(WE_F32, to, n, 1);
    if (check_below(2))
        fill_patterns(to, n);
}

static void check_split(const char *name, const we_split *split, const we_split *ref) {
    enum { LONG = 150, PART = LONG + 40 };
    static float x[2 * LONG + 2], y[LONG + 2], got[WE_PARTS * PART], want[WE_PARTS * PART];
    for (int round = 0; round < 2000; round++) {
        int32_t parts = 1 + (int32_t)check_below(WE_PARTS);
        int64_t n = check_below(2 * LONG), words = (n + 1) / 2 + check_below(40), skew = check_below(2);
        fill_for_split(x, 2 * LONG + 2);
        fill_for_split(y, LONG + 2);
        memset(got, 0x5A, sizeof got);
        memset(want, 0x5A, sizeof want);
        uint32_t largest = split->split(parts, n, x + skew, words, got + skew, PART);
        CHECK(largest == ref->split(parts, n, x + skew, words, want + skew, PART) &&
                  memcmp(got, want, sizeof got) == 0,
              "%s: split of %" PRId64 " in %d parts differs", name, n, parts);
        n /= 2;
        memset(got, 0x5A, sizeof got);
        memset(want, 0x5A, sizeof want);
        largest = split->pair(parts, n, x + skew, y, got + skew, PART);
        CHECK(largest == ref->pair(parts, n, x + skew, y, want + skew, PART) &&
                  memcmp(got, want, sizeof got) == 0,
              "%s: pairs of %" PRId64 " in %d parts differ", name, n, parts);
    }
}

/* What the parts are for: three hold a float32 whose parts are not denormal, two all but 2^-17 of it, one all
 * but 2^-8. */
static void check_parts(const we_split *ref) {
    static const double LEFT[WE_PARTS + 1] = {1, 0x1p-8, 0x1p-17, 0};
    for (int round = 0; round < 20000; round++) {
        float x, to[WE_PARTS];
        fill_patterns(&x, 1);
        uint32_t largest = ref->split(WE_PARTS, 1, &x, 1, to, 1);
        if (largest < 0x0C800000 || largest > 0x7F000000) /* 2^-102, so that the last bit is normal; 2^127 */
            continue;
        double left = x;
        for (int32_t parts = 1; parts <= WE_PARTS; parts++) {
            left -= half_of(&to[parts - 1], 0);
            CHECK(fabs(left) <= LEFT[parts] * fabs((double)x), "%d parts of %a leave %g", parts, x, left);
        }
    }
}

static void check_pack(void) {
    float from[40 * 40], to[16 * 40 + 1];
    fill(WE_F32, from, 40 * 40, 0);
    for (int round = 0; round < 200; round++) {
        int64_t width = 1 + check_below(16), lines = 1 + check_below(width), depth = check_below(40);
        int64_t line_step = round & 1 ? 1 : 40, step = round & 1 ? 40 : 1;
        to[width * depth] = 42;
        we_pack_panel(from, line_step, step, lines, width, depth, to);
        CHECK(to[width * depth] == 42, "we_pack_panel wrote outside its panel");
        for (int64_t p = 0; p < depth; p++) {
            for (int64_t i = 0; i < width; i++)
                CHECK(to[p * width + i] == (i < lines ? from[i * line_step + p * step] : 0),
                      "we_pack_panel differs");
        }
    }
}

/* Stretches of outputs: partial vectors of channels, any taps and steps, and what is added. */
enum { MOST_CHANNELS = 37, MOST_OUTPUTS = 19, MOST_TAPS = 8, IMAGE = 40 * MOST_CHANNELS * 8 };

static we_stretch some_stretch(void) {
    we_stretch s = {.channels = 1 + check_below(MOST_CHANNELS),
                    .count = 1 + check_below(MOST_OUTPUTS),
                    .rows = (int32_t)check_below(MOST_TAPS + 1),
                    .columns = (int32_t)check_below(MOST_TAPS + 1)};
    if (check_below(2))
        s.rows = 2 + (int32_t)check_below(4), s.columns = 2 + (int32_t)check_below(4); /* at edges too */
    s.x_step = s.channels * (1 + check_below(2));
    s.x_column = s.channels * (1 + check_below(2));
    s.x_row = s.channels * (10 + check_below(9));
    s.y_step = s.channels + check_below(3);
    return s;
}

static void check_depthwise(const char *name, we_dtype dtype, we_depthwise_kernel kernel,
                            we_depthwise_kernel ref) {
    enum { OUT = MOST_OUTPUTS * (MOST_CHANNELS + 2) + 16 };
    static float x[IMAGE], y[OUT], want[OUT], added[OUT], weights[MOST_TAPS * MOST_TAPS * MOST_CHANNELS * 2],
        bias[MOST_CHANNELS];
    for (int round = 0; round < 400; round++) {
        we_depthwise d = {.stretch = some_stretch(),
                          .weights = weights,
                          .bias = check_below(2) ? bias : NULL,
                          .residual = check_below(2) ? added : NULL,
                          .low = check_below(2) ? 0 : -INFINITY,
                          .high = check_below(2) ? 2 : INFINITY};
        d.w_row = d.stretch.channels * (MOST_TAPS + check_below(2));
        fill_image(dtype, x, IMAGE, 0);
        fill_image(dtype, y, OUT, 0);
        fill_image(dtype, added, OUT, 0);
        fill(WE_F32, weights, sizeof weights / sizeof *weights, 0);
        fill(WE_F32, bias, MOST_CHANNELS, 0);
        memcpy(want, y, sizeof y);
        ref(&d, x, want);
        kernel(&d, x, y);
        for (int64_t i = 0; i < OUT; i++) {
            int inside = i < d.stretch.count * d.stretch.y_step && i % d.stretch.y_step < d.stretch.channels;
            float got = image_at(dtype, y, i), due = image_at(dtype, want, i);
            CHECK(inside ? fabsf(got - due) <= 2e-4f + rounding_of(dtype, due) : got == due,
                  "%s: element %" PRId64 " is %g, not %g", name, i, got, due);
        }
    }
}

static void check_grouped(const char *name, we_grouped_kernel kernel) {
    enum { OUT = MOST_OUTPUTS * (MOST_CHANNELS + 2) + 16 };
    static float x[IMAGE], y[OUT], want[OUT], added[OUT], bias[MOST_CHANNELS],
        weights[MOST_TAPS * MOST_TAPS * MOST_CHANNELS * 2 * WE_GROUP_MOST];
    for (int round = 0; round < 400; round++) {
        we_grouped g = {.stretch = some_stretch(),
                        .weights = weights,
                        .bias = check_below(2) ? bias : NULL,
                        .residual = check_below(2) ? added : NULL,
                        .low = check_below(2) ? 0 : -INFINITY,
                        .high = check_below(2) ? 2 : INFINITY,
                        .size = 2 << check_below(4)};
        if (g.stretch.channels < g.size)
            continue;
        g.stretch.channels -= g.stretch.channels % g.size;
        g.w_row = g.stretch.channels * g.size * (MOST_TAPS + check_below(2));
        fill(WE_F32, x, IMAGE, 0);
        fill(WE_F32, y, OUT, 0);
        fill(WE_F32, added, OUT, 0);
        fill(WE_F32, weights, sizeof weights / sizeof *weights, 0);
        fill(WE_F32, bias, MOST_CHANNELS, 0);
        memcpy(want, y, sizeof y);
        we_f32_grouped__ref(&g, x, want);
        kernel(&g, x, y);
        for (int64_t i = 0; i < OUT; i++) {
            int inside = i < g.stretch.count * g.stretch.y_step && i % g.stretch.y_step < g.stretch.channels;
            CHECK(inside ? fabsf(y[i] - want[i]) <= 2e-3f : y[i] == want[i],
                  "%s: element %" PRId64 " is %g, not %g", name, i, y[i], want[i]);
        }
    }
}

/* A result of several roundings against the reference in double: so many units of what it is made of. */
static void check_near(const char *name, int64_t k, float got, float want, double size, double units) {
    double error = fabs((double)got - want);
    CHECK(got == want || (got != got && want != want) || error <= units * 0x1p-24 * size,
          "%s: k %" PRId64 ": %.9g, not %.9g", name, k, got, want);
}

/* Planes of some rows, windows of any size, step, dilation and padding, in parts. */
static we_plane some_plane(bool filters) {
    enum { MOST_EXTENT = 70 };
    we_plane p = {.low = check_below(2) ? 0 : -INFINITY, .high = check_below(2) ? 2 : INFINITY, .bias = 0.5f};
    for (int i = 0; i < 2; i++) {
        p.in[i] = 1 + check_below(i ? MOST_EXTENT : 20);
        p.taps[i] = 1 + check_below(check_below(2) ? 3 : 7);
        p.step[i] = 1 + check_below(4);
        p.dilation[i] = 1 + (check_below(4) == 0) * check_below(3);
        p.pad[i] = check_below(p.taps[i] * p.dilation[i] + 2);
        p.out[i] = (p.in[i] + p.pad[i] + check_below(4)) / p.step[i] + 1;
    }
    p.first = check_below(p.out[0]);
    p.end = p.first + check_below(p.out[0] - p.first + 1);
    static const float SOME;
    p.weights = filters ? &SOME : NULL;
    p.width = we_plane_width(&p);
    return p;
}

static void check_plane(const char *name, we_plane_kernel kernel, we_plane_kernel ref, bool filters) {
    enum { MOST = 2 * LONGEST, SCRATCH = 1 << 16 };
    static float x[MOST], want[MOST], added[MOST], weights[64], shares[2][200], scratch[SCRATCH + 16];
    output got;
    for (int round = 0; round < 1000; round++) {
        we_plane p = some_plane(filters);
        int64_t in = p.in[0] * p.in[1], out = p.out[0] * p.out[1],
                room = we_plane_scratch(&p, p.end - p.first);
        if (in > MOST || out > MOST || room > SCRATCH || p.first == p.end)
            continue;
        int64_t skew = check_below(16);
        fill(WE_F32, x, in, 0);
        if (check_below(4) == 0 && !filters)
            x[check_below(in)] = NAN;
        fill(WE_F32, added, out, 0);
        fill(WE_F32, weights, 64, 0);
        fill(WE_F32, shares[0], 200, 0);
        fill(WE_F32, shares[1], 200, 0);
        fill(WE_F32, scratch, SCRATCH + 16, 1);
        p.scratch = scratch + skew;
        scratch[skew + room] = 42;
        p.weights = filters ? weights : NULL;
        p.residual = check_below(2) ? added : NULL;
        p.row_shares = shares[0], p.column_shares = shares[1];
        open_output(&got, (size_t)out * 4, 4 * (size_t)check_below(2));
        memset(got.data, 0, (size_t)out * 4);
        memset(want, 0, (size_t)out * 4);
        ref(&p, x, want);
        kernel(&p, x, (float *)got.data);
        CHECK(guards_hold(&got) && (room == SCRATCH || scratch[skew + room] == 42), "%s wrote outside", name);
        for (int64_t i = 0; i < out; i++)
            check_near(name, i, ((float *)got.data)[i], want[i],
                       ref == we_f32_plane_largest__ref ? 0 : 16 * 64, 4);
    }
}

static void check_window(const char *name, we_dtype dtype, we_window_kernel kernel, we_window_kernel ref) {
    enum { OUT = MOST_OUTPUTS * (MOST_CHANNELS + 2) + 16 };
    static float x[IMAGE], y[OUT], want[OUT];
    for (int round = 0; round < 400; round++) {
        we_stretch s = some_stretch();
        fill_image(dtype, x, IMAGE, 1);
        fill_image(dtype, y, OUT, 0);
        memcpy(want, y, sizeof y);
        ref(&s, x, want);
        kernel(&s, x, y);
        for (int64_t i = 0; i < OUT; i++)
            CHECK(ulps(image_at(dtype, y, i), image_at(dtype, want, i)) == 0,
                  "%s: element %" PRId64 " is %g, not %g", name, i, image_at(dtype, y, i),
                  image_at(dtype, want, i));
    }
}

static void check_softmax(const char *name, we_softmax_kernel kernel) {
    static float x[LONGEST + 1], added[LONGEST + 1], want[LONGEST];
    output got;
    for (int s = SIZE_COUNT; s < SIZE_COUNT * 8; s++) {
        int64_t k = SIZES[s % SIZE_COUNT] + (SIZES[s % SIZE_COUNT] == 0);
        int skew = (int)check_below(2), infinite = s / SIZE_COUNT == 7;
        we_softmax how = {.k = k,
                          .factor = s & 1 ? 0.125f : 1,
                          .added = s & 2 ? added + skew : NULL,
                          .masked = check_below(2)};
        fill(WE_F32, x, k + 1, s % 5 == 0);
        fill(WE_F32, added, k + 1, 0);
        for (int64_t i = 0; i <= k; i++) {
            x[i] = infinite ? -INFINITY : x[i];
            added[i] = check_below(4) == 0 ? -INFINITY : added[i];
        }
        we_f32_softmax__ref(&how, x + skew, want);
        open_output(&got, (size_t)k * 4, 4 * (size_t)check_below(2));
        for (int in_place = 0; in_place < 2; in_place++) {
            if (in_place)
                memcpy(got.data, x + skew, (size_t)k * 4);
            kernel(&how, in_place ? (float *)got.data : x + skew, (float *)got.data);
            CHECK(guards_hold(&got), "%s wrote outside its output", name);
            for (int64_t i = 0; i < k; i++)
                check_near(name, k, ((float *)got.data)[i], want[i], 1 + fabs(want[i]), 8);
        }
    }
}

static void check_norm(const char *name, we_norm_kernel kernel) {
    static float x[LONGEST + 1], scale[LONGEST + 1], bias[LONGEST + 1], want[LONGEST];
    output got;
    for (int s = SIZE_COUNT; s < SIZE_COUNT * 8; s++) {
        int64_t k = SIZES[s % SIZE_COUNT] + (SIZES[s % SIZE_COUNT] == 0), plane = 1;
        int skew = (int)check_below(2);
        while (s % 3 == 0 && plane < k && (k % plane || check_below(4)))
            plane++;
        plane = k % plane ? k : plane;
        we_norm how = {.k = k,
                       .plane = plane,
                       .epsilon = 1e-5f,
                       .centred = s / SIZE_COUNT & 1,
                       .scale = s & 1 ? scale + skew : NULL,
                       .bias = s & 2 ? bias + skew : NULL};
        fill(WE_F32, x, k + 1, 0);
        fill(WE_F32, scale, k + 1, 0);
        fill(WE_F32, bias, k + 1, 0);
        double odd = special(check_below(1000));
        if (s % 11 == 0 &&
            !(isfinite(odd) && fabs(odd) > 1)) /* squares of large ones are infinite in float32 */
            x[check_below(k) + skew] = (float)odd;
        we_moments expected = we_f32_norm__ref(&how, x + skew, want);
        open_output(&got, (size_t)k * 4, 4 * (size_t)check_below(2));
        memcpy(got.data, x + skew, (size_t)k * 4);
        we_moments found = kernel(&how, (float *)got.data, (float *)got.data);
        CHECK(guards_hold(&got), "%s wrote outside its output", name);
        check_near(name, k, found.mean, expected.mean, 4, 4);
        check_near(name, k, found.inverse, expected.inverse, fabs(expected.inverse), 64);
        for (int64_t i = 0; i < k; i++)
            check_near(name, k, ((float *)got.data)[i], want[i],
                       16 * fabs(expected.inverse) + fabs(want[i]) + 4, 64);
    }
}

static void fill_any(we_dtype dtype, void *to, int64_t n) {
    size_t width = we_dtype_size(dtype);
    for (int64_t i = 0; i < n; i++) {
        uint64_t bits = check_random();
        memcpy((char *)to + i * (int64_t)width, &bits, width);
    }
    if (width >= 4 && check_below(2))
        fill(dtype, to, n, 1);
}

static void check_cast(const char *name, we_dtype from, we_dtype to, we_unary_kernel kernel,
                       we_unary_kernel ref) {
    static _Alignas(64) unsigned char in[(LONGEST + 2) * 8], want[(LONGEST + 2) * 8];
    output got;
    for (int s = 0; s < SIZE_COUNT * 4; s++) {
        int64_t n = SIZES[s % SIZE_COUNT];
        size_t skew = we_dtype_size(from) * (size_t)check_below(2);
        fill_any(from, in, n + 1);
        ref(n, in + skew, want);
        open_output(&got, (size_t)n * we_dtype_size(to), we_dtype_size(to) * (size_t)check_below(2));
        kernel(n, in + skew, got.data);
        compare(name, to, 1, 0, &got, want, n);
    }
}

/* Rows seen by windows narrow and wide, and rows mixed. */
static void check_resample(const char *name, we_resample_kernel kernel, we_mix_kernel mix) {
    enum { MOST_TAPS = 6, MOST = 200 };
    static float x[LONGEST], weights[MOST_TAPS * MOST], want[MOST];
    static int32_t at[MOST_TAPS * MOST];
    output got;
    for (int round = 0; round < 400; round++) {
        int64_t count = 1 + check_below(MOST), length = 1 + check_below(round % 2 ? 900 : 100);
        int64_t picks = check_below(3) == 0, taps = picks && check_below(2) ? 1 : 1 + check_below(MOST_TAPS);
        for (int64_t i = 0; i < count; i++) {
            for (int64_t j = 0; j < taps; j++) {
                int64_t place = i * length / count + j - taps / 2;
                at[j * count + i] = (int32_t)(place < 0 ? 0 : place >= length ? length - 1 : place);
            }
        }
        we_resample how = {count, taps, length, at, picks ? NULL : weights};
        int skew = (int)check_below(2);
        fill(WE_F32, x, length + skew, picks);
        fill(WE_F32, weights, taps * count, 0);
        we_f32_resample__ref(&how, x + skew, want);
        open_output(&got, (size_t)count * 4, 4 * (size_t)check_below(2));
        kernel(&how, x + skew, (float *)got.data);
        CHECK(guards_hold(&got), "%s wrote outside its output", name);
        for (int64_t i = 0; i < count; i++)
            check_near(name, count, ((float *)got.data)[i], want[i], 16 * (double)taps, 4);
        const float *rows[MOST_TAPS];
        fill(WE_F32, x, LONGEST, picks);
        for (int64_t j = 0; j < taps; j++)
            rows[j] = x + j * MOST + skew;
        we_f32_mix__ref(count, taps, rows, how.weights, count, want);
        open_output(&got, (size_t)count * 4, 4 * (size_t)check_below(2));
        mix(count, taps, rows, how.weights, count, (float *)got.data);
        CHECK(guards_hold(&got), "%s wrote outside its output", name);
        for (int64_t i = 0; i < count; i++)
            check_near(name, count, ((float *)got.data)[i], want[i], 16 * (double)taps, 4);
    }
}

/* Planes that grow and shrink: columns within a vector, within two, and far apart. */
static void check_pick(const char *name, we_pick_kernel kernel) {
    enum { SIDE = 30, MOST = 100 };
    static float x[SIDE * MOST], want[SIDE * MOST];
    static int32_t rows[SIDE], columns[MOST];
    output got;
    for (int round = 0; round < 400; round++) {
        we_picks p = {.rows = 1 + check_below(SIDE),
                      .columns = 1 + check_below(MOST),
                      .in = {1 + check_below(SIDE), 1 + check_below(MOST)},
                      .row_at = rows,
                      .column_at = columns};
        int64_t in = p.in[0] * p.in[1];
        for (int64_t i = 0; i < p.rows; i++)
            rows[i] = (int32_t)(i * p.in[0] / p.rows);
        for (int64_t i = 0; i < p.columns; i++)
            columns[i] = (int32_t)(i * p.in[1] / p.columns);
        fill(WE_F32, x, SIDE * MOST, 1);
        we_f32_pick__ref(&p, x + SIDE * MOST - in, want);
        open_output(&got, (size_t)(p.rows * p.columns) * 4, 4 * (size_t)check_below(2));
        kernel(&p, x + SIDE * MOST - in, (float *)got.data);
        CHECK(guards_hold(&got), "%s wrote outside its output", name);
        CHECK(memcmp(got.data, want, (size_t)(p.rows * p.columns) * 4) == 0, "%s differs", name);
    }
}

/* Now and then an index that is outside. */
static void check_place(const char *name, we_place_kernel kernel) {
    enum { MOST = 130 };
    static int64_t index[MOST * 3], got[MOST + 2], want[MOST];
    for (int round = 0; round < 300; round++) {
        we_place p = {.count = check_below(MOST + 1),
                      .stride = check_below(2) ? 1 : check_below(4),
                      .extent = 1 + check_below(1000),
                      .by = check_below(100) * 4,
                      .start = check_below(1000),
                      .step = check_below(20)};
        for (int i = 0; i < MOST * 3; i++)
            index[i] = check_below(2 * p.extent) - p.extent;
        if (round % 3 == 0)
            index[check_below(MOST)] = check_below(2) ? p.extent : -p.extent - 1;
        got[0] = got[p.count + 1] = 42;
        bool inside = kernel(&p, index, got + 1), expected = we_i64_place__ref(&p, index, want);
        CHECK(got[0] == 42 && got[p.count + 1] == 42, "%s wrote outside its output", name);
        CHECK(inside == expected && (!inside || memcmp(got + 1, want, (size_t)p.count * 8) == 0),
              "%s differs", name);
    }
}

static void check_select(const char *name, we_select_kernel kernel) {
    static uint32_t yes[LONGEST * 2], no[LONGEST * 2], want[LONGEST];
    static uint8_t condition[LONGEST];
    output got;
    for (int s = 0; s < SIZE_COUNT * 8; s++) {
        int64_t n = SIZES[s % SIZE_COUNT], yes_step = check_below(3), no_step = check_below(3);
        for (int i = 0; i < LONGEST * 2; i++)
            yes[i] = (uint32_t)check_random(), no[i] = (uint32_t)check_random();
        for (int i = 0; i < LONGEST; i++)
            condition[i] = (uint8_t)(check_below(2) * (1 + check_below(255)));
        int skew = (int)check_below(2);
        we_u32_select__ref(n, condition + skew, yes + skew, yes_step, no, no_step, want);
        open_output(&got, (size_t)n * 4, 4 * (size_t)check_below(2));
        const uint32_t *chosen = no;
        if (no_step == 1 && check_below(2))
            chosen = memcpy(got.data, no, (size_t)n * 4); /* in place */
        kernel(n, condition + skew, yes + skew, yes_step, chosen, no_step, (uint32_t *)got.data);
        CHECK(guards_hold(&got), "%s wrote outside its output", name);
        CHECK(memcmp(got.data, want, (size_t)n * 4) == 0, "%s differs (n = %" PRId64 ")", name, n);
    }
}

/* Runs, columns and pieces of columns; few values, so that equals are many. */
static void check_arg(const char *name, we_arg_kernel kernel) {
    static float x[LONGEST];
    int64_t want[LONGEST];
    output got;
    for (int round = 0; round < 400; round++) {
        int64_t inner = round % 2 ? 1 : 1 + check_below(70), k = 1 + check_below(round % 2 ? 300 : 20);
        int64_t first = check_below(inner);
        we_arg how = {.k = k,
                      .step = inner,
                      .count = 1 + check_below(inner - first),
                      .largest = check_below(2),
                      .last = check_below(2)};
        for (int64_t i = 0; i < k * inner; i++)
            x[i] = check_below(12) == 0 && round % 3 == 0 ? (float)special(check_below(1000))
                                                          : (float)(check_below(9) - 4);
        we_f32_arg__ref(&how, x + first, want);
        open_output(&got, (size_t)how.count * 8, 8 * (size_t)check_below(2));
        kernel(&how, x + first, (int64_t *)got.data);
        CHECK(guards_hold(&got), "%s wrote outside its output", name);
        CHECK(memcmp(got.data, want, got.size) == 0, "%s differs (k = %" PRId64 ", step %" PRId64 ")", name,
              k, inner);
    }
}
/* Dense linear algebra against plain sums in the widest type. `unit`: of rounding. */
#define DEFINE_CHECK_DENSE(DT, dt, real, unit)                                                               \
    static void check_##dt##_vectors(const char *name, const we_##dt##_dense *kernels) {                     \
        enum { LONG = 301 };                                                                                 \
        static real x[LONG + 4], y[LONG + 4], before[LONG + 4];                                              \
        int64_t n = check_below(LONG), skew = check_below(3);                                                \
        fill(WE_##DT, x, LONG + 4, 0);                                                                       \
        fill(WE_##DT, y, LONG + 4, 0);                                                                       \
        memcpy(before, y, sizeof y);                                                                         \
        long double sum = 0, size = 0;                                                                       \
        for (int64_t i = 0; i < n; i++) {                                                                    \
            long double term = (long double)x[i + 1] * y[i + skew];                                          \
            sum += term, size += fabsl(term);                                                                \
        }                                                                                                    \
        CHECK(fabsl(kernels->dot(n, x + 1, y + skew) - sum) <= (n + 1) * (unit) * size, "%s: dot", name);    \
        real a = x[0];                                                                                       \
        kernels->add(n, a, x + 1, y + skew);                                                                 \
        for (int64_t i = 0; i < LONG + 4; i++) {                                                             \
            bool inside = i >= skew && i < n + skew;                                                         \
            long double term = inside ? (long double)a * x[i - skew + 1] : 0, want = before[i] + term;       \
            CHECK(fabsl(y[i] - want) <= 2 * (unit) * (fabsl(term) + fabsl(want)), "%s: add at %d of %d",     \
                  name, (int)i, (int)n);                                                                     \
        }                                                                                                    \
    }                                                                                                        \
    static void check_##dt##_turn(const char *name, const we_##dt##_dense *kernels) {                        \
        enum { ROWS = 7, WIDTH = 150 };                                                                      \
        static real x[ROWS * WIDTH], wanted[ROWS * WIDTH], cosines[ROWS], sines[ROWS];                       \
        int64_t columns = check_below(WIDTH), count = check_below(ROWS);                                     \
        bool up = check_below(2);                                                                            \
        fill(WE_##DT, x, ROWS * WIDTH, 0);                                                                   \
        memcpy(wanted, x, sizeof x);                                                                         \
        for (int64_t i = 0; i < ROWS; i++) {                                                                 \
            double angle = (double)check_below(1000);                                                        \
            cosines[i] = (real)cos(angle), sines[i] = (real)sin(angle);                                      \
        }                                                                                                    \
        int64_t first = up ? count * WIDTH : 0, step = up ? -WIDTH : WIDTH;                                  \
        kernels->turn(columns, count, cosines, sines, x + first, step);                                      \
        we_##dt##_dense_turn__ref(columns, count, cosines, sines, wanted + first, step);                     \
        for (int64_t i = 0; i < ROWS * WIDTH; i++) {                                                         \
            bool inside = i % WIDTH < columns && i / WIDTH <= count;                                         \
            double error = fabs((double)x[i] - wanted[i]);                                                   \
            CHECK(inside ? error <= 1000 * (unit) * ROWS : error == 0, "%s: turn %d x %d: %g, not %g", name, \
                  (int)count, (int)columns, (double)x[i], (double)wanted[i]);                                \
        }                                                                                                    \
    }                                                                                                        \
    static void check_##dt##_tile(const char *name, const we_##dt##_dense *kernels) {                        \
        enum { DEPTH = 37, LDC = 61 };                                                                       \
        static real a[DEPTH * 64], b[DEPTH * 64], c[64 * LDC], before[64 * LDC];                             \
        int64_t k = check_below(DEPTH);                                                                      \
        int32_t m = 1 + (int32_t)check_below(kernels->rows), n = 1 + (int32_t)check_below(kernels->columns); \
        if (check_below(3) == 0)                                                                             \
            m = kernels->rows, n = kernels->columns;                                                         \
        CHECK(kernels->rows * kernels->columns <= WE_DENSE_TILE, "%s: the tile is too large", name);         \
        fill(WE_##DT, a, DEPTH * 64, 0);                                                                     \
        fill(WE_##DT, b, DEPTH * 64, 0);                                                                     \
        fill(WE_##DT, c, 64 * LDC, 0);                                                                       \
        memcpy(before, c, sizeof c);                                                                         \
        real sign = check_below(2) ? 1 : -1;                                                                 \
        kernels->tile(k, a, b, sign, c, LDC, m, n);                                                          \
        for (int64_t i = 0; i < 64 * LDC; i++) {                                                             \
            int64_t r = i / LDC, j = i % LDC;                                                                \
            long double want = before[i], size = fabsl(want);                                                \
            for (int64_t p = 0; p < k && r < m && j < n; p++) {                                              \
                long double term = (long double)a[p * kernels->rows + r] * b[p * kernels->columns + j];      \
                want += sign * term, size += fabsl(term);                                                    \
            }                                                                                                \
            bool inside = r < m && j < n;                                                                    \
            CHECK(inside ? fabsl(c[i] - want) <= (k + 2) * (unit) * size : c[i] == before[i],                \
                  "%s: tile %d x %d, depth %d", name, m, n, (int)k);                                         \
        }                                                                                                    \
    }                                                                                                        \
    static void check_##dt##_dense(const char *name, const we_##dt##_dense *kernels) {                       \
        for (int round = 0; round < 100; round++) {                                                          \
            check_##dt##_vectors(name, kernels);                                                             \
            check_##dt##_turn(name, kernels);                                                                \
            check_##dt##_tile(name, kernels);                                                                \
        }                                                                                                    \
    }
DEFINE_CHECK_DENSE(F32, f32, float, 0x1p-24)
DEFINE_CHECK_DENSE(F64, f64, double, 0x1p-53)

/* A pass against the reference of the widest type; radices, and every kind of loop over q and p. */
#define DEFINE_CHECK_FFT(DT, dt, real, unit)                                                                 \
    static void check_##dt##_fft(const char *name, we_##dt##_fft_kernel kernel) {                            \
        enum { MOST = 13 * 40 * 40 };                                                                        \
        static const int32_t radices[] = {2, 3, 4, 5, 7, 8, 11, 13};                                         \
        static real from[2 * MOST], roots[2 * MOST], to[2 * MOST], want[2 * MOST];                           \
        for (int round = 0; round < 400; round++) {                                                          \
            we_##dt##_fft_pass pass = {.radix = radices[check_below(8)], .m = 1 + check_below(39)};          \
            pass.s = check_below(3) ? 1 + check_below(39) : 1;                                               \
            pass.last = check_below(3) ? pass.s : 1 + check_below(pass.s);                                   \
            pass.first = check_below(pass.last);                                                             \
            int64_t count = pass.radix * pass.m * pass.s, begin = check_below(pass.m);                       \
            fill(WE_##DT, from, 2 * count, 0);                                                               \
            fill(WE_##DT, roots, 2 * count, 0);                                                              \
            memset(to, 0, sizeof to), memset(want, 0, sizeof want);                                          \
            pass.re = from, pass.im = from + count, pass.cosines = roots, pass.sines = roots + count;        \
            pass.to_re = to, pass.to_im = to + count;                                                        \
            kernel(&pass, begin, pass.m);                                                                    \
            pass.to_re = want, pass.to_im = want + count;                                                    \
            we_##dt##_fft__ref(&pass, begin, pass.m);                                                        \
            for (int64_t i = 0; i < 2 * count; i++) /* elements and roots are below 4 */                     \
                CHECK(want[i] == 0 ? fabs((double)to[i]) < 1e-4                                              \
                                   : fabs((double)to[i] - want[i]) <= 64.0 * 16 * pass.radix * (unit),       \
                      "%s: radix %d, m %d, s %d: %g, not %g", name, pass.radix, (int)pass.m, (int)pass.s,    \
                      (double)to[i], (double)want[i]);                                                       \
        }                                                                                                    \
    }
DEFINE_CHECK_FFT(F32, f32, float, 0x1p-24)
DEFINE_CHECK_FFT(F64, f64, double, 0x1p-53)

/* Against the reference's order, for few and many equal keys, and for input that makes pivots bad. */
#define DEFINE_CHECK_SORT(dt, type)                                                                          \
    static int compare_##dt(const void *a, const void *b) {                                                  \
        type x = *(const type *)a, y = *(const type *)b;                                                     \
        return (x > y) - (x < y);                                                                            \
    }                                                                                                        \
    static void check_##dt##_sort(const char *name, const we_##dt##_sort *kernels) {                         \
        enum { LONG = 3000 };                                                                                \
        static type keys[LONG + 2], want[LONG + 2];                                                          \
        for (int round = 0; round < 300; round++) {                                                          \
            int64_t n = check_below(round % 3 ? 150 : LONG), skew = check_below(2), kind = check_below(5);   \
            for (int64_t i = 0; i < LONG + 2; i++) {                                                         \
                uint64_t any = check_random();                                                               \
                keys[i] = kind == 0   ? (type)any                                                            \
                          : kind == 1 ? (type)(any % 5)                                                      \
                          : kind == 2 ? (type)i                                                              \
                          : kind == 3 ? (type)((uint64_t)1 << (sizeof(type) * 8 - 1)) + (type)(any % 2)      \
                                      : (type)((i * 7919) % 97 * (any % 3));                                 \
            }                                                                                                \
            memcpy(want, keys, sizeof keys);                                                                 \
            qsort(want + skew, (size_t)n, sizeof(type), compare_##dt);                                       \
            type pivot = n ? keys[skew + check_below(n)] : 0;                                                \
            int64_t low = kernels->partition(n, keys + skew, pivot);                                         \
            for (int64_t i = 0; i < n; i++)                                                                  \
                CHECK((keys[skew + i] <= pivot) == (i < low), "%s: partition of %d at %d", name, (int)n,     \
                      (int)i);                                                                               \
            kernels->sort(n, keys + skew);                                                                   \
            CHECK(memcmp(keys, want, sizeof keys) == 0, "%s: %d keys of kind %d", name, (int)n, (int)kind);  \
        }                                                                                                    \
    }
DEFINE_CHECK_SORT(i32, int32_t)
DEFINE_CHECK_SORT(i64, int64_t)

/* An element times that of a column; of words, rounded and half of one. */
static double gemv_term(we_dtype dtype, float x, const float *w, int64_t columns, int64_t p) {
    if (dtype == WE_F32)
        return (double)x * w[p * columns];
    return (double)we_bf16_to_f32(we_f32_to_bf16_part(x)) * half_of(&w[p / 2 * columns], p % 2);
}

/* Rows times a panel against the plain sum in double; start may be y itself. */
static void check_gemv(const char *name, we_dtype dtype, we_gemv_kernel kernel, int32_t columns) {
    enum { ROWS = 9, DEPTH = 67, WIDTH = 70 };
    static float x[ROWS * (DEPTH + 3)], w[DEPTH * 64 + 1], start[ROWS * WIDTH], y[ROWS * WIDTH + 1],
        before[ROWS * WIDTH + 1];
    for (int round = 0; round < 300; round++) {
        int skew = (int)check_below(2), mode = (int)check_below(3);
        int32_t count = round % 4 ? 1 + (int32_t)check_below(columns) : columns;
        we_gemv g = {.k = check_below(DEPTH + 1), .rows = check_below(ROWS + 1), .x = x, .w = w + skew};
        g.x_row = DEPTH + 3, g.y_row = WIDTH, g.y = y + skew, g.count = count;
        fill(WE_F32, x, sizeof x / sizeof *x, 0);
        if (dtype == WE_BF16)
            fill_words(w, sizeof w / sizeof *w);
        else
            fill(WE_F32, w, sizeof w / sizeof *w, 0);
        fill(WE_F32, start, sizeof start / sizeof *start, 0);
        fill(WE_F32, y, sizeof y / sizeof *y, 0);
        memcpy(before, y, sizeof y);
        g.start = mode == 0 ? NULL : mode == 1 ? start : g.y;
        g.start_row = mode == 1 ? 0 : WIDTH;
        kernel(&g);
        for (int64_t i = 0; i < ROWS * WIDTH; i++) {
            int64_t r = i / WIDTH, j = i % WIDTH;
            double want = mode == 0 ? 0 : mode == 1 ? start[j] : before[skew + i], size = 4;
            if (r >= g.rows || j >= count) {
                CHECK(y[skew + i] == before[skew + i], "%s wrote outside its output", name);
                continue;
            }
            for (int64_t p = 0; p < g.k; p++) {
                double term = gemv_term(dtype, x[r * g.x_row + p], g.w + j, columns, p);
                want += term;
                size += fabs(term);
            }
            CHECK(fabs(y[skew + i] - want) <= (double)(g.k + 2) * 0x1p-24 * size,
                  "%s: k %" PRId64 ": %g, not %g", name, g.k, y[skew + i], want);
        }
    }
}

enum { CODED_DEPTH = 100, CODED_ROWS = 9, CODED_WIDTH = 70, CODED_SIZE = (CODED_DEPTH + 1) * 64 };

/* A panel of random codes: blocks of 16 or 32, with zero points or without. */
static we_coded random_panel(bool zeros_given) {
    static uint8_t codes[CODED_SIZE];
    static float scales[CODED_SIZE], zeros[CODED_SIZE];
    for (int i = 0; i < CODED_SIZE; i++) {
        codes[i] = (uint8_t)check_random();
        zeros[i] = (float)check_below(16);
    }
    fill(WE_F32, scales, CODED_SIZE, 0);
    return (we_coded){.k = check_below(CODED_DEPTH + 1),
                      .block = 16 << check_below(2),
                      .codes = codes + check_below(2),
                      .scales = scales,
                      .zeros = zeros_given ? zeros : NULL};
}

static double coded_weight(const we_coded *w, int32_t bits, int32_t columns, int64_t p, int64_t j) {
    int64_t block = p / w->block * columns + j;
    int code = bits == 8 ? w->codes[p * columns + j] : w->codes[p / 2 * columns + j] >> (p % 2 ? 4 : 0) & 15;
    double zero = w->zeros ? w->zeros[block] : 1 << (bits - 1);
    return (code - zero) * w->scales[block];
}

static void check_coded(const char *name, we_dtype dtype, const we_coded_kernels *kernels) {
    static float x[CODED_ROWS * (CODED_DEPTH + 3)], y[CODED_ROWS * CODED_WIDTH], made[CODED_SIZE];
    int32_t bits = dtype == WE_U4 ? 4 : 8, columns = kernels->columns;
    for (int round = 0; round < 200; round++) {
        we_coded w = random_panel(round % 2);
        int64_t rows = check_below(CODED_ROWS + 1), from = 2 * check_below(w.k / 2 + 1);
        int32_t count = round % 4 ? 1 + (int32_t)check_below(columns) : columns;
        if (w.k == 0)
            continue;
        fill(WE_F32, x, sizeof x / sizeof *x, 0);
        for (int i = 0; i < CODED_ROWS * CODED_WIDTH; i++)
            y[i] = 7;
        for (int i = 0; i < CODED_SIZE; i++)
            made[i] = 7;
        kernels->gemv(&w, rows, x, CODED_DEPTH + 3, y, CODED_WIDTH, count);
        kernels->expand(&w, from, w.k - from, made);
        for (int64_t i = 0; i < CODED_ROWS * CODED_WIDTH; i++) {
            int64_t r = i / CODED_WIDTH, j = i % CODED_WIDTH;
            double want = 0, size = 0;
            if (r >= rows || j >= count) {
                CHECK(y[i] == 7, "%s wrote outside its output", name);
                continue;
            }
            for (int64_t p = 0; p < w.k; p++) {
                double term = x[r * (CODED_DEPTH + 3) + p] * coded_weight(&w, bits, columns, p, j);
                want += term;
                size += fabs(term);
            }
            CHECK(fabs(y[i] - want) <= (double)(w.k + 4) * 0x1p-24 * size, "%s: k %" PRId64 ": %g, not %g",
                  name, w.k, y[i], want);
        }
        for (int64_t i = 0; i < CODED_SIZE; i++) {
            int64_t p = from + i / columns;
            float want = p < w.k ? (float)coded_weight(&w, bits, columns, p, i % columns) : 7;
            CHECK(made[i] == want, "%s: place %" PRId64 " of %" PRId64 " becomes %g, not %g", name, p, w.k,
                  made[i], want);
        }
    }
}

static void check_transpose(const char *name, we_transpose_kernel kernel) {
    enum { SIDE = 37, ROW = 41, SIZE = SIDE * ROW };
    static uint32_t in[SIZE], out[SIZE], want[SIZE];
    for (int round = 0; round < 200; round++) {
        int64_t rows = check_below(SIDE + 1), columns = check_below(SIDE + 1);
        for (int i = 0; i < SIZE; i++) {
            in[i] = (uint32_t)check_random();
            out[i] = want[i] = (uint32_t)check_random();
        }
        we_u32_transpose__ref(rows, columns, in, SIDE + 1, want, ROW);
        kernel(rows, columns, in, SIDE + 1, out, ROW);
        CHECK(memcmp(out, want, sizeof out) == 0, "%s: %" PRId64 " x %" PRId64 " differs", name, rows,
              columns);
    }
}

/* Patches anywhere, partial vectors of channels, places that are left out. */
static void check_winograd(const char *name, we_dtype dtype, we_winograd_in_kernel in,
                           we_winograd_out_kernel out, we_winograd_in_kernel in_ref,
                           we_winograd_out_kernel out_ref) {
    enum { CHANNELS = 37, PLANE = 40, PLACES = WE_WINOGRAD_SIZE * WE_WINOGRAD_SIZE };
    enum { ROOM = 3000 };
    static float x[ROOM], v[PLACES * PLANE], want[PLACES * PLANE], y[ROOM], expected[ROOM], added[ROOM],
        bias[CHANNELS];
    for (int round = 0; round < 200; round++) {
        int32_t outputs = 2 + 2 * (int32_t)check_below(3), size = outputs + 2;
        int64_t channels = 1 + check_below(CHANNELS);
        const void *patch[PLACES], *residual[PLACES];
        void *to[PLACES], *to_ref[PLACES];
        fill_image(dtype, x, ROOM, 0);
        fill(WE_F32, v, PLACES * PLANE, 0);
        for (int i = 0; i < size * size; i++)
            patch[i] = image_from(dtype, x, check_below(ROOM - CHANNELS));
        memcpy(want, v, sizeof v);
        in_ref(outputs, channels, patch, want, PLANE);
        in(outputs, channels, patch, v, PLANE);
        for (int64_t i = 0; i < PLACES * PLANE;
             i++) /* 400: what the matrices may blow an error up by, squared */
            CHECK(fabsf(v[i] - want[i]) <= 400 * 0x1p-22f && (i % PLANE < channels || v[i] == want[i]),
                  "%s: patch %" PRId64 " is %g, not %g", name, i, v[i], want[i]);
        fill(WE_F32, x, ROOM, 0);
        fill_image(dtype, y, ROOM, 0);
        fill_image(dtype, added, ROOM, 0);
        fill(WE_F32, bias, CHANNELS, 0);
        memcpy(expected, y, sizeof y);
        for (int i = 0; i < outputs * outputs; i++) { /* places apart, as no two may overlap */
            bool skipped = check_below(4) == 0;
            to[i] = skipped ? NULL : image_from(dtype, y, i * 41);
            to_ref[i] = skipped ? NULL : image_from(dtype, expected, i * 41);
            residual[i] = image_from(dtype, added, i * 41);
        }
        we_winograd_out o = {.channels = channels,
                             .plane = PLANE,
                             .from = x,
                             .bias = check_below(2) ? bias : NULL,
                             .to = to_ref,
                             .residual = check_below(2) ? residual : NULL,
                             .low = check_below(2) ? 0 : -INFINITY,
                             .high = check_below(2) ? 30 : INFINITY};
        out_ref(outputs, &o);
        o.to = to;
        out(outputs, &o);
        for (int64_t i = 0; i < ROOM; i++)
            CHECK(fabsf(image_at(dtype, y, i) - image_at(dtype, expected, i)) <=
                      (outputs == 6 ? 12 : 1) * 1024 * 0x1p-20f +
                          rounding_of(dtype, image_at(dtype, expected, i)),
                  "%s: output %" PRId64 " is %g, not %g", name, i, image_at(dtype, y, i),
                  image_at(dtype, expected, i));
    }
}

static void check_all(uint32_t isas) {
    const we_matmul_row *rows;
    size_t count = we_matmul_rows(&rows);
#define WE_UNARY_KERNEL_ROW(ISA, isa, DT, dt, Name, name, ulps)                                              \
    if (isas >> WE_ISA_##ISA & 1)                                                                            \
        check_unary("we_" #dt "_unary_" #name "__" #isa, WE_##DT, ulps, we_##dt##_unary_##name##__##isa,     \
                    we_##dt##_unary_##name##__ref);
#include "kernels/unary.inc"
#undef WE_UNARY_KERNEL_ROW
#define WE_BINARY_KERNEL_ROW(ISA, isa, DT, dt, Name, name, exact)                                            \
    if (isas >> WE_ISA_##ISA & 1)                                                                            \
        check_binary("we_" #dt "_binary_" #name "__" #isa, WE_##DT, exact,                                   \
                     we_binary_is_compare(WE_BINARY_##Name), we_##dt##_binary_##name##__##isa,               \
                     we_##dt##_binary_##name##__ref);
#include "kernels/binary.inc"
#undef WE_BINARY_KERNEL_ROW
#define WE_REDUCE_KERNEL_ROW(ISA, isa, DT, dt, Name, name, exact)                                            \
    if (isas >> WE_ISA_##ISA & 1)                                                                            \
        check_reduce("we_" #dt "_reduce_" #name "__" #isa, WE_##DT, exact, we_##dt##_reduce_##name##__##isa, \
                     we_##dt##_reduce_##name##__ref);
#include "kernels/reduce.inc"
#undef WE_REDUCE_KERNEL_ROW
#define WE_DEPTHWISE_KERNEL_ROW(ISA, isa, DT, dt)                                                            \
    if (isas >> WE_ISA_##ISA & 1)                                                                            \
        check_depthwise("we_" #dt "_depthwise__" #isa, WE_##DT, we_##dt##_depthwise__##isa,                  \
                        we_##dt##_depthwise__ref);
#include "kernels/depthwise.inc"
#undef WE_DEPTHWISE_KERNEL_ROW
#define WE_GROUPED_KERNEL_ROW(ISA, isa, DT, dt)                                                              \
    if (isas >> WE_ISA_##ISA & 1)                                                                            \
        check_grouped("we_" #dt "_grouped__" #isa, we_##dt##_grouped__##isa);
#include "kernels/grouped.inc"
#undef WE_GROUPED_KERNEL_ROW
#define WE_WINDOW_KERNEL_ROW(ISA, isa, DT, dt, Name, name)                                                   \
    if (isas >> WE_ISA_##ISA & 1)                                                                            \
        check_window("we_" #dt "_window_" #name "__" #isa, WE_##DT, we_##dt##_window_##name##__##isa,        \
                     we_##dt##_window_##name##__ref);
#include "kernels/window.inc"
#undef WE_WINDOW_KERNEL_ROW
#define WE_TRANSPOSE_KERNEL_ROW(ISA, isa, DT, dt)                                                            \
    if (isas >> WE_ISA_##ISA & 1)                                                                            \
        check_transpose("we_" #dt "_transpose__" #isa, we_##dt##_transpose__##isa);
#include "kernels/transpose.inc"
#undef WE_TRANSPOSE_KERNEL_ROW
#define WE_WINOGRAD_KERNEL_ROW(ISA, isa, DT, dt)                                                             \
    if (isas >> WE_ISA_##ISA & 1)                                                                            \
        check_winograd("we_" #dt "_winograd__" #isa, WE_##DT, we_##dt##_winograd_in__##isa,                  \
                       we_##dt##_winograd_out__##isa, we_##dt##_winograd_in__ref,                            \
                       we_##dt##_winograd_out__ref);
#include "kernels/winograd.inc"
#undef WE_WINOGRAD_KERNEL_ROW
#define WE_SOFTMAX_KERNEL_ROW(ISA, isa, DT, dt)                                                              \
    if (isas >> WE_ISA_##ISA & 1)                                                                            \
        check_softmax("we_" #dt "_softmax__" #isa, we_##dt##_softmax__##isa);
#include "kernels/softmax.inc"
#undef WE_SOFTMAX_KERNEL_ROW
#define WE_NORM_KERNEL_ROW(ISA, isa, DT, dt)                                                                 \
    if (isas >> WE_ISA_##ISA & 1)                                                                            \
        check_norm("we_" #dt "_norm__" #isa, we_##dt##_norm__##isa);
#include "kernels/norm.inc"
#undef WE_NORM_KERNEL_ROW
#define WE_CAST_KERNEL_ROW(ISA, isa, FROM, from, TO, to)                                                     \
    if (isas >> WE_ISA_##ISA & 1)                                                                            \
        check_cast("we_" #from "_cast_" #to "__" #isa, WE_##FROM, WE_##TO, we_##from##_cast_##to##__##isa,   \
                   we_##from##_cast_##to##__ref);
#include "kernels/cast.inc"
#undef WE_CAST_KERNEL_ROW
#define WE_PLANE_KERNEL_ROW(ISA, isa, DT, dt)                                                                \
    if (isas >> WE_ISA_##ISA & 1) {                                                                          \
        check_plane("we_" #dt "_plane_largest__" #isa, we_##dt##_plane_largest__##isa,                       \
                    we_##dt##_plane_largest__ref, false);                                                    \
        check_plane("we_" #dt "_plane_mean__" #isa, we_##dt##_plane_mean__##isa, we_##dt##_plane_mean__ref,  \
                    false);                                                                                  \
        check_plane("we_" #dt "_plane_filter__" #isa, we_##dt##_plane_filter__##isa,                         \
                    we_##dt##_plane_filter__ref, true);                                                      \
    }
#include "kernels/plane.inc"
#undef WE_PLANE_KERNEL_ROW
#define WE_RESAMPLE_KERNEL_ROW(ISA, isa, DT, dt)                                                             \
    if (isas >> WE_ISA_##ISA & 1)                                                                            \
        check_pick("we_" #dt "_pick__" #isa, we_##dt##_pick__##isa);                                         \
    if (isas >> WE_ISA_##ISA & 1)                                                                            \
        check_resample("we_" #dt "_resample__" #isa, we_##dt##_resample__##isa, we_##dt##_mix__##isa);
#include "kernels/resample.inc"
#undef WE_RESAMPLE_KERNEL_ROW
#define WE_PLACE_KERNEL_ROW(ISA, isa, DT, dt)                                                                \
    if (isas >> WE_ISA_##ISA & 1)                                                                            \
        check_place("we_" #dt "_place__" #isa, we_##dt##_place__##isa);
#include "kernels/place.inc"
#undef WE_PLACE_KERNEL_ROW
#define WE_SELECT_KERNEL_ROW(ISA, isa, DT, dt)                                                               \
    if (isas >> WE_ISA_##ISA & 1)                                                                            \
        check_select("we_" #dt "_select__" #isa, we_##dt##_select__##isa);
#include "kernels/select.inc"
#undef WE_SELECT_KERNEL_ROW
#define WE_ARG_KERNEL_ROW(ISA, isa, DT, dt)                                                                  \
    if (isas >> WE_ISA_##ISA & 1)                                                                            \
        check_arg("we_" #dt "_arg__" #isa, we_##dt##_arg__##isa);
#include "kernels/arg.inc"
#undef WE_ARG_KERNEL_ROW
#define WE_GEMV_KERNEL_ROW(ISA, isa, DT, dt, columns)                                                        \
    if (isas >> WE_ISA_##ISA & 1)                                                                            \
        check_gemv("we_" #dt "_gemv_" #columns "__" #isa, WE_##DT, we_##dt##_gemv_##columns##__##isa,        \
                   columns);
#include "kernels/gemv.inc"
#undef WE_GEMV_KERNEL_ROW
#define WE_CODED_KERNEL_ROW(ISA, isa, DT, dt, columns)                                                       \
    if (isas >> WE_ISA_##ISA & 1)                                                                            \
        check_coded("we_" #dt "_coded_" #columns "__" #isa, WE_##DT,                                         \
                    &(we_coded_kernels){we_##dt##_coded_gemv_##columns##__##isa,                             \
                                        we_##dt##_coded_expand_##columns##__##isa, columns});
#include "kernels/coded.inc"
#undef WE_CODED_KERNEL_ROW
#define WE_DENSE_KERNEL_ROW(ISA, isa, DT, dt, real, rows, columns)                                           \
    if (isas >> WE_ISA_##ISA & 1)                                                                            \
        check_##dt##_dense("we_" #dt "_dense__" #isa,                                                        \
                           &(const we_##dt##_dense){rows, columns, we_##dt##_dense_dot__##isa,               \
                                                    we_##dt##_dense_add__##isa, we_##dt##_dense_turn__##isa, \
                                                    we_##dt##_dense_tile__##isa});
#include "kernels/dense.inc"
#undef WE_DENSE_KERNEL_ROW
#define WE_SORT_KERNEL_ROW(ISA, isa, DT, dt, type)                                                           \
    if (isas >> WE_ISA_##ISA & 1)                                                                            \
        check_##dt##_sort("we_" #dt "_sort__" #isa,                                                          \
                          &(const we_##dt##_sort){we_##dt##_sort__##isa, we_##dt##_partition__##isa});
#include "kernels/sort.inc"
#undef WE_SORT_KERNEL_ROW
#define WE_FFT_KERNEL_ROW(ISA, isa, DT, dt, real)                                                            \
    if (isas >> WE_ISA_##ISA & 1)                                                                            \
        check_##dt##_fft("we_" #dt "_fft__" #isa, we_##dt##_fft__##isa);
#include "kernels/fft.inc"
#undef WE_FFT_KERNEL_ROW
    for (size_t i = 0; i < count; i++) {
        if (isas >> rows[i].isa & 1 && rows[i].parts)
            check_split_matmul(&rows[i]);
        else if (isas >> rows[i].isa & 1)
            check_matmul(&rows[i]);
    }
    for (int i = 0; i < EMULATED_COUNT; i++)
        check_split_matmul(&EMULATED_ROWS[i]);
    const we_split ref = {we_bf16_split__ref, we_bf16_pair__ref};
#define WE_SPLIT_KERNEL_ROW(ISA, isa, DT, dt)                                                                \
    if (isas >> WE_ISA_##ISA & 1)                                                                            \
        check_split("we_" #dt "_split__" #isa,                                                               \
                    &(const we_split){we_##dt##_split__##isa, we_##dt##_pair__##isa}, &ref);
#include "kernels/split.inc"
#undef WE_SPLIT_KERNEL_ROW
    check_parts(&ref);
    check_pack();
}

/* Of split operands, products of float32 and not of their parts are counted. */
static void bench_matmul(const we_matmul_row *row) {
    enum { DEPTH = 256, CALLS = 20000 };
    static _Alignas(64) float a[WE_TILE_ROWS * WE_PARTS * DEPTH], b[WE_TILE_COLUMNS * WE_PARTS * DEPTH],
        c[WE_TILE_ROWS * WE_TILE_COLUMNS];
    const float *rows[WE_PARTS * WE_TILE_ROWS];
    we_tile t = {.runs = 1, .depth = DEPTH, .rows = rows, .b = b, .c = c, .ldc = WE_TILE_COLUMNS, .ahead = b};
    t.low = -INFINITY;
    fill_words(a, sizeof a / sizeof *a);
    fill_words(b, sizeof b / sizeof *b);
    t.high = INFINITY;
    t.m = row->rows;
    t.n = row->columns;
    for (int i = 0; i < WE_PARTS * row->rows; i++)
        rows[i] = a + i * DEPTH;
    double best = 1e9, steps = DEPTH * (row->parts ? 2 : 1);
    if (row->open)
        row->open();
    for (int round = 0; round < 5; round++) {
        double start = we_clock_now_s();
        for (int64_t i = 0; i < CALLS; i++)
            row->kernel(&t);
        double seconds = we_clock_now_s() - start;
        best = seconds < best ? seconds : best;
    }
    if (row->close)
        row->close();
    printf("%-38s %7.1f GFLOP/s\n", row->name, 2e-9 * steps * row->rows * row->columns * CALLS / best);
}

static void bench_unary(const char *name, we_unary_kernel kernel) {
    static _Alignas(64) float x[4096], y[4096];
    double best = 1e9;
    fill(WE_F32, x, 4096, 0);
    for (int round = 0; round < 5; round++) {
        double start = we_clock_now_s();
        for (int i = 0; i < 500; i++)
            kernel(4096, x, y);
        double seconds = we_clock_now_s() - start;
        best = seconds < best ? seconds : best;
    }
    printf("%-28s %7.2f elements/ns\n", name, 1e-9 * 4096 * 500 / best);
}

/* Rows of 512, as a sequence model has them. */
static void bench_rows(const char *name, we_softmax_kernel softmax, we_norm_kernel norm) {
    static _Alignas(64) float x[512], y[512];
    we_softmax soft = {.k = 512, .factor = 0.125f, .added = x};
    we_norm how = {.k = 512, .plane = 1, .centred = true, .scale = x, .bias = x};
    double best = 1e9;
    fill(WE_F32, x, 512, 0);
    for (int round = 0; round < 5; round++) {
        double start = we_clock_now_s();
        for (int i = 0; i < 4000; i++) {
            if (softmax)
                softmax(&soft, x, y);
            else
                norm(&how, x, y);
        }
        double seconds = we_clock_now_s() - start;
        best = seconds < best ? seconds : best;
    }
    printf("%-28s %7.2f elements/ns\n", name, 1e-9 * 512 * 4000 / best);
}

/* A matrix of 128 KiB, from the second-level cache. */
static void bench_gemv(const char *name, we_gemv_kernel kernel, int32_t columns, int64_t rows) {
    static _Alignas(64) float x[12 * 128], w[128 * 256], y[12 * 64];
    we_gemv g = {.k = 128, .rows = rows, .x = x, .w = w, .y = y, .x_row = 128, .y_row = 64, .count = columns};
    int64_t panels = 256 / columns, calls = 2000;
    double best = 1e9;
    fill(WE_F32, x, 12 * 128, 0);
    fill(WE_F32, w, 128 * 256, 0);
    for (int round = 0; round < 5; round++) {
        double start = we_clock_now_s();
        for (int64_t i = 0; i < calls; i++) {
            g.w = w + i % panels * 128 * columns;
            kernel(&g);
        }
        double seconds = we_clock_now_s() - start;
        best = seconds < best ? seconds : best;
    }
    printf("%-24s %2d rows %7.1f GFLOP/s\n", name, (int)rows,
           2e-9 * 128 * columns * (double)(rows * calls) / best);
}

/* The same matrix in codes. */
static void bench_coded(const char *name, we_dtype dtype, const we_coded_kernels *kernels, int64_t rows) {
    static _Alignas(64) float x[12 * 128], y[12 * 64], scales[8 * 64];
    static _Alignas(64) uint8_t codes[128 * 256];
    int64_t panels = 256 / kernels->columns, calls = 2000;
    int64_t bytes = 128 * kernels->columns / (dtype == WE_U4 ? 2 : 1);
    double best = 1e9;
    fill(WE_F32, x, 12 * 128, 0);
    for (int round = 0; round < 5; round++) {
        double start = we_clock_now_s();
        for (int64_t i = 0; i < calls; i++) {
            we_coded w = {.k = 128, .block = 32, .codes = codes + i % panels * bytes, .scales = scales};
            kernels->gemv(&w, rows, x, 128, y, 64, kernels->columns);
        }
        double seconds = we_clock_now_s() - start;
        best = seconds < best ? seconds : best;
    }
    printf("%-24s %2d rows %7.1f GFLOP/s\n", name, (int)rows,
           2e-9 * 128 * kernels->columns * (double)(rows * calls) / best);
}

static void bench_all(uint32_t isas) {
    const we_matmul_row *rows;
    size_t count = we_matmul_rows(&rows);
    for (size_t i = 0; i < count; i++) {
        if (isas >> rows[i].isa & 1)
            bench_matmul(&rows[i]);
    }
#define WE_UNARY_KERNEL_ROW(ISA, isa, DT, dt, Name, name, ulps)                                              \
    if ((isas >> WE_ISA_##ISA & 1) && WE_##DT == WE_F32)                                                     \
        bench_unary("we_" #dt "_unary_" #name "__" #isa, we_##dt##_unary_##name##__##isa);
#include "kernels/unary.inc"
#undef WE_UNARY_KERNEL_ROW
#define WE_SOFTMAX_KERNEL_ROW(ISA, isa, DT, dt)                                                              \
    if (isas >> WE_ISA_##ISA & 1)                                                                            \
        bench_rows("we_" #dt "_softmax__" #isa, we_##dt##_softmax__##isa, NULL);
#include "kernels/softmax.inc"
#undef WE_SOFTMAX_KERNEL_ROW
#define WE_NORM_KERNEL_ROW(ISA, isa, DT, dt)                                                                 \
    if (isas >> WE_ISA_##ISA & 1)                                                                            \
        bench_rows("we_" #dt "_norm__" #isa, NULL, we_##dt##_norm__##isa);
#include "kernels/norm.inc"
#undef WE_NORM_KERNEL_ROW
#define WE_GEMV_KERNEL_ROW(ISA, isa, DT, dt, columns)                                                        \
    for (int64_t rows = 1; rows <= 12 && (isas >> WE_ISA_##ISA & 1); rows += 11)                             \
        bench_gemv("we_" #dt "_gemv_" #columns "__" #isa, we_##dt##_gemv_##columns##__##isa, columns, rows);
#include "kernels/gemv.inc"
#undef WE_GEMV_KERNEL_ROW
#define WE_CODED_KERNEL_ROW(ISA, isa, DT, dt, columns)                                                       \
    for (int64_t rows = 1; rows <= 12 && (isas >> WE_ISA_##ISA & 1); rows += 11)                             \
        bench_coded("we_" #dt "_coded_" #columns "__" #isa, WE_##DT,                                         \
                    &(we_coded_kernels){we_##dt##_coded_gemv_##columns##__##isa,                             \
                                        we_##dt##_coded_expand_##columns##__##isa, columns},                 \
                    rows);
#include "kernels/coded.inc"
#undef WE_CODED_KERNEL_ROW
}

int main(int argc, char **argv) {
    uint32_t isas;
    we_error error;
    if (we_cpu_isas(&isas, &error) != WE_OK) {
        printf("%s\n", error.message);
        return 1;
    }
    if (argc > 1 && strcmp(argv[1], "--bench") == 0) {
        bench_all(isas);
        return 0;
    }
    if (argc > 1 && strcmp(argv[1], "--isa") == 0) {
        const char *isa;
        bool known = we_isa_current(&isa, &error) == WE_OK;
        printf("%s\n", known ? isa : error.message);
        return !known;
    }
    check_seed(argc, argv);
    check_all(isas);
    return check_result();
}
