/* The kernels of arrays: every instruction set's table against the reference's, entry by entry. */
#include <complex.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "base/cpu.h"
#include "check.h"
#include "kernels/array.h"

enum {
    MOST = 1000,
    GUARD = 64,
    ROOM = MOST * 16 + 2 * GUARD,
    FILL = 0x5a,
};

static const int64_t SIZES[] = {0, 1, 7, 63, 64, 65, MOST};
enum { SIZE_COUNT = sizeof SIZES / sizeof SIZES[0] };

/* Vectors of the C library's functions are within 4 units in the last place of the true value, scalars
 * within 1. */
static const double ULPS = 8;

static _Alignas(64) char operands[3][ROOM], expected[ROOM], found[ROOM];

static double random_number(void) {
    static const double special[] = {0, -0.0, 1, -1, INFINITY, -INFINITY, NAN, 0.5, 1e-30, 1e30};
    if (check_below(8) == 0)
        return special[check_below(sizeof special / sizeof special[0])];
    return ((double)check_below(2000001) - 1e6) / 1e5;
}

static void fill(char *to, we_array_dtype dtype) {
    for (int64_t i = 0; i < MOST; i++) {
        switch (dtype) {
        case WE_ARRAY_BOOL:
            to[i] = (char)check_below(2);
            break;
        case WE_ARRAY_F32:
            ((float *)to)[i] = (float)random_number();
            break;
        case WE_ARRAY_F64:
            ((double *)to)[i] = random_number();
            break;
        case WE_ARRAY_C64:
            ((float *)to)[2 * i] = (float)check_below(100) / 7 - 5;
            ((float *)to)[2 * i + 1] = (float)check_below(100) / 7 - 5;
            break;
        case WE_ARRAY_C128:
            ((double *)to)[2 * i] = (double)check_below(100) / 7 - 5;
            ((double *)to)[2 * i + 1] = (double)check_below(100) / 7 - 5;
            break;
        default: {
            uint64_t bits = check_random() >> (check_below(2) ? 0 : 58); /* all over, and small */
            memcpy(to + i * we_array_dtype_size(dtype), &bits, (size_t)we_array_dtype_size(dtype));
        }
        }
    }
}

/* What terms that may cancel were as large as. */
static double terms;

static bool near(double a, double b, double epsilon, double scale) {
    scale = scale > terms ? scale : terms;
    return (a != a && b != b) || a == b || fabs(a - b) <= ULPS * epsilon * scale + 1e-37;
}

static bool same(we_array_dtype dtype, int64_t i) {
    switch (dtype) {
    case WE_ARRAY_F32: {
        float a = ((float *)expected)[i], b = ((float *)found)[i];
        return near(a, b, 0x1p-23, fabsf(a));
    }
    case WE_ARRAY_F64: {
        double a = ((double *)expected)[i], b = ((double *)found)[i];
        return near(a, b, 0x1p-52, fabs(a));
    }
    case WE_ARRAY_C64: {
        float *a = (float *)expected + 2 * i, *b = (float *)found + 2 * i;
        double scale = hypot(a[0], a[1]);
        return near(a[0], b[0], 0x1p-23, scale) && near(a[1], b[1], 0x1p-23, scale);
    }
    case WE_ARRAY_C128: {
        double *a = (double *)expected + 2 * i, *b = (double *)found + 2 * i;
        double scale = hypot(a[0], a[1]);
        return near(a[0], b[0], 0x1p-52, scale) && near(a[1], b[1], 0x1p-52, scale);
    }
    default: {
        int64_t size = we_array_dtype_size(dtype);
        return memcmp(expected + i * size, found + i * size, (size_t)size) == 0;
    }
    }
}

static void compare(const char *what, we_array_dtype result, int64_t n) {
    int64_t end = n * we_array_dtype_size(result);
    for (int64_t i = 0; i < n; i++) {
        if (!same(result, i)) {
            CHECK(false, "%s: element %d of %d differs", what, (int)i, (int)n);
            return;
        }
    }
    for (int64_t i = 0; i < GUARD; i++)
        CHECK(found[end + i] == FILL, "%s: wrote past its %d elements", what, (int)n);
}

static void prepare(void) {
    memset(expected, FILL, sizeof expected);
    memset(found, FILL, sizeof found);
}

static void check_unary(const we_array_kernels *a, const we_array_kernels *b) {
    for (int fn = 0; fn < WE_ARRAY_UNARY_COUNT; fn++) {
        for (int dtype = 0; dtype < WE_ARRAY_DTYPE_COUNT; dtype++) {
            we_array_types types;
            CHECK(!a->unary[fn][dtype] == !b->unary[fn][dtype], "tables differ in %s",
                  we_array_unary_name(fn));
            if (!a->unary[fn][dtype] || !we_array_unary_types(fn, dtype, &types))
                continue;
            fill(operands[0], dtype);
            for (int s = 0; s < SIZE_COUNT; s++) {
                prepare();
                a->unary[fn][dtype](SIZES[s], operands[0], expected);
                b->unary[fn][dtype](SIZES[s], operands[0], found);
                compare(we_array_unary_name(fn), types.result, SIZES[s]);
            }
        }
    }
}

static void check_binary(const we_array_kernels *a, const we_array_kernels *b) {
    for (int fn = 0; fn < WE_ARRAY_BINARY_COUNT; fn++) {
        for (int dtype = 0; dtype < WE_ARRAY_DTYPE_COUNT; dtype++) {
            we_array_types types;
            if (!a->binary[fn][dtype] || !we_array_binary_types(fn, dtype, &types))
                continue;
            fill(operands[0], dtype);
            fill(operands[1], dtype);
            terms = fn == WE_ARRAY_BINARY_logaddexp ? 10 : 0;
            for (int s = 0; s < SIZE_COUNT; s++) {
                prepare();
                a->binary[fn][dtype](SIZES[s], operands[0], operands[1], expected);
                b->binary[fn][dtype](SIZES[s], operands[0], operands[1], found);
                compare(we_array_binary_name(fn), types.result, SIZES[s]);
            }
            if (types.result != (we_array_dtype)dtype)
                continue;
            prepare();
            /* In place. */
            memcpy(found, operands[0], MOST * (size_t)we_array_dtype_size(dtype));
            a->binary[fn][dtype](MOST, operands[0], operands[1], expected);
            b->binary[fn][dtype](MOST, found, operands[1], found);
            compare(we_array_binary_name(fn), types.result, MOST);
        }
    }
}

/* The order of steps is the same everywhere, so results are, but for what a vector product of complex numbers
 * rounds otherwise, and for which of their parts become infinite first. All but those of float32 are kept in
 * doubles. */
static bool same_results(we_array_dtype dtype, int64_t n, const double *a, const double *b) {
    const float *x = (const float *)a, *y = (const float *)b;
    if (we_array_dtype_kind(dtype) == 'c') {
        double size = hypot(a[0], a[1]);
        return !(size < INFINITY) || hypot(a[0] - b[0], a[1] - b[1]) <= (double)n * 0x1p-51 * size;
    }
    return memcmp(a, b, sizeof *a) == 0 || (a[0] != a[0] && b[0] != b[0]) ||
           (dtype == WE_ARRAY_F32 && x[0] != x[0] && y[0] != y[0]);
}

static void check_reductions(const we_array_kernels *a, const we_array_kernels *b) {
    terms = 0;
    for (int fn = 0; fn < WE_ARRAY_REDUCE_COUNT; fn++) {
        for (int dtype = 0; dtype < WE_ARRAY_DTYPE_COUNT; dtype++) {
            if (!a->reduce[fn][dtype])
                continue;
            fill(operands[0], dtype);
            for (int s = 0; s < SIZE_COUNT; s++) {
                double first[2] = {1, 0}, second[2] = {1, 0};
                a->reduce[fn][dtype](SIZES[s], operands[0], first);
                b->reduce[fn][dtype](SIZES[s], operands[0], second);
                CHECK(same_results(dtype, SIZES[s], first, second), "reduction %d of %s differs", fn,
                      we_array_dtype_name(dtype));
            }
            int place = fn == WE_ARRAY_REDUCE_max ? 0 : fn == WE_ARRAY_REDUCE_min ? 1 : -1;
            for (int s = 1; place >= 0 && s < SIZE_COUNT; s++)
                CHECK(a->find[place][dtype](SIZES[s], operands[0]) ==
                          b->find[place][dtype](SIZES[s], operands[0]),
                      "place %d of %s differs", place, we_array_dtype_name(dtype));
        }
    }
}

static void check_casts(const we_array_kernels *a, const we_array_kernels *b) {
    for (int from = 0; from < WE_ARRAY_DTYPE_COUNT; from++) {
        fill(operands[0], WE_ARRAY_BOOL);
        a->cast[WE_ARRAY_BOOL][from](MOST, operands[0], operands[1]); /* floats that fit every integer */
        for (int to = 0; to < WE_ARRAY_DTYPE_COUNT; to++) {
            prepare();
            a->cast[from][to](MOST, operands[1], expected);
            b->cast[from][to](MOST, operands[1], found);
            compare("cast", to, MOST);
        }
    }
}

static void check_choices(const we_array_kernels *a, const we_array_kernels *b) {
    static const we_array_dtype of_width[] = {WE_ARRAY_U8, WE_ARRAY_U16, WE_ARRAY_U32, WE_ARRAY_U64,
                                              WE_ARRAY_C128};
    for (int width = 0; width < WE_ARRAY_WIDTHS; width++) {
        fill(operands[0], WE_ARRAY_BOOL);
        fill(operands[1], of_width[width]);
        fill(operands[2], of_width[width]);
        prepare();
        a->where[width](MOST, operands[0], operands[1], operands[2], expected);
        b->where[width](MOST, operands[0], operands[1], operands[2], found);
        compare("where", of_width[width], MOST);
    }
    for (int dtype = 0; dtype < WE_ARRAY_DTYPE_COUNT; dtype++) {
        if (!a->clip[dtype])
            continue;
        for (int i = 0; i < 3; i++)
            fill(operands[i], dtype);
        prepare();
        a->clip[dtype](MOST, operands[0], operands[1], operands[2], expected);
        b->clip[dtype](MOST, operands[0], operands[1], operands[2], found);
        compare("clip", dtype, MOST);
    }
}

/* Any float32 above 0, to powers of which half leave no result in its range; and now and then another, which
 * turns the whole stretch over to the C library. */
static void check_positive_power(const we_array_kernels *a, const we_array_kernels *b) {
    float *x = (float *)operands[0], *y = (float *)operands[1];
    for (int turn = 0; turn < 50; turn++) {
        for (int64_t i = 0; i < MOST; i++) {
            uint32_t bits =
                1 + (uint32_t)check_below(turn % 2 ? 0x7f7fffff : 0x3fffff) + (turn % 2 ? 0 : 0x3f600000);
            memcpy(x + i, &bits, sizeof bits);
            y[i] = (float)(random_number() * (turn % 2 ? 1 : 10));
            y[i] = isfinite(y[i]) ? y[i] : 2;
        }
        if (turn % 5 == 0)
            x[check_below(MOST)] = (float[]){0, -3, INFINITY, NAN}[check_below(4)];
        for (int s = 0; s < SIZE_COUNT; s++) {
            prepare();
            a->binary[WE_ARRAY_BINARY_pow][WE_ARRAY_F32](SIZES[s], x, y, expected);
            b->binary[WE_ARRAY_BINARY_pow][WE_ARRAY_F32](SIZES[s], x, y, found);
            compare("pow of positive numbers", WE_ARRAY_F32, SIZES[s]);
        }
    }
}

int main(int argc, char **argv) {
    const we_array_kernels *best;
    check_seed(argc, argv);
    if (we_array_kernels_get(&best, NULL) != WE_OK)
        return 1;
    check_unary(&we_array_kernels__ref, best);
    check_binary(&we_array_kernels__ref, best);
    check_positive_power(&we_array_kernels__ref, best);
    check_reductions(&we_array_kernels__ref, best);
    check_casts(&we_array_kernels__ref, best);
    check_choices(&we_array_kernels__ref, best);
    return check_result();
}
