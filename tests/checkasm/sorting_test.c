/* Sorting, orders, searches and sets of every dtype, by what they promise; and random numbers by the first of
 * a known stream. Run under sanitizers, that is what this test is for: results beside NumPy are tested from
 * Python. */
#include <math.h>
#include <string.h>

#include <walle/numeric.h>

#include "base/memory.h"
#include "check.h"

enum {
    LONG = 3000,
};

/* Fill with few different values, or with any bits. */
static void fill_any(we_array_dtype dtype, char *to, int64_t count) {
    int64_t size = we_array_dtype_size(dtype);
    bool few = check_below(2);
    for (int64_t i = 0; i < count * size; i++)
        to[i] = few && i % size != size - 1 ? 0 : (char)(few ? check_below(5) : check_below(256));
    for (int64_t i = 0; dtype == WE_ARRAY_BOOL && i < count; i++)
        to[i] &= 1;
}

/* Element `at` as a number whose order is that of the elements; NaN is above all. */
static long double order_of(we_array_dtype dtype, const char *from, int64_t at) {
    switch (dtype) {
#define VALUE(NAME, type)                                                                                    \
    case WE_ARRAY_##NAME:                                                                                    \
        return (long double)((const type *)from)[at]
        VALUE(BOOL, uint8_t);
        VALUE(I8, int8_t);
        VALUE(I16, int16_t);
        VALUE(I32, int32_t);
        VALUE(I64, int64_t);
        VALUE(U8, uint8_t);
        VALUE(U16, uint16_t);
        VALUE(U32, uint32_t);
        VALUE(U64, uint64_t);
        VALUE(F32, float);
#undef VALUE
    default:
        return (long double)((const double *)from)[at];
    }
}

static bool not_above(long double x, long double y) {
    return y != y || x <= y;
}

static void check_line(we_array_dtype dtype, const char *in, const char *sorted, const int64_t *places,
                       int64_t n, int64_t step, bool falling) {
    for (int64_t i = 0; i < n; i++) {
        int64_t place = places[i * step];
        CHECK(place >= 0 && place < n, "place %d", (int)place);
        long double x = order_of(dtype, in, place * step), y = order_of(dtype, sorted, i * step);
        CHECK(x == y || (x != x && y != y), "the order and the sorted elements differ");
        if (i == 0)
            continue;
        long double before = order_of(dtype, sorted, (i - 1) * step);
        CHECK(falling ? not_above(y, before) : not_above(before, y), "not in order at %d of %d", (int)i,
              (int)n);
        bool equal = y == before || (y != y && before != before);
        CHECK(!equal || places[(i - 1) * step] < place, "equal elements changed places");
    }
}

static void check_sorts(we_array_dtype dtype) {
    int64_t outer = check_below(4), n = check_below(check_below(4) ? 90 : LONG), inner = 1 + check_below(3);
    int64_t size = we_array_dtype_size(dtype), count = outer * n * inner;
    bool falling = check_below(2);
    char *in = malloc((size_t)(count * size) + 1), *sorted = malloc((size_t)(count * size) + 1);
    int64_t *places = malloc((size_t)count * sizeof *places + 1);
    we_error error;
    fill_any(dtype, in, count);
    CHECK(we_sort(dtype, outer, n, inner, falling, in, sorted, &error) == WE_OK, "%s", error.message);
    CHECK(we_argsort(dtype, outer, n, inner, falling, in, places, &error) == WE_OK, "%s", error.message);
    for (int64_t line = 0; line < outer * inner; line++) {
        int64_t start = line / inner * n * inner + line % inner;
        check_line(dtype, in + start * size, sorted + start * size, places + start, n, inner, falling);
    }
    free(in), free(sorted), free(places);
}

static void check_sets(we_array_dtype dtype) {
    int64_t n = check_below(check_below(4) ? 60 : LONG), size = we_array_dtype_size(dtype), found, total = 0;
    char *in = malloc((size_t)(n * size) + 1);
    int64_t *parts[3];
    we_error error;
    for (int i = 0; i < 3; i++)
        parts[i] = malloc((size_t)n * sizeof *parts[i] + 1);
    fill_any(dtype, in, n);
    CHECK(we_unique(dtype, n, in, parts[0], parts[1], parts[2], &found, &error) == WE_OK, "%s",
          error.message);
    for (int64_t i = 0; i < found; i++)
        total += parts[2][i];
    CHECK(total == n, "counts add up to %d of %d", (int)total, (int)n);
    for (int64_t i = 0; i < n; i++)
        CHECK(parts[1][i] >= 0 && parts[1][i] < found && parts[0][parts[1][i]] <= i, "inverse at %d", (int)i);
    free(in), free(parts[0]), free(parts[1]), free(parts[2]);
}

static void check_searches(we_array_dtype dtype) {
    int64_t n = check_below(100), count = check_below(50), size = we_array_dtype_size(dtype);
    char *in = malloc((size_t)(n * size) + 1), *sorted = malloc((size_t)(n * size) + 1);
    char *values = malloc((size_t)(count * size) + 1);
    int64_t *out = malloc((size_t)count * sizeof *out + 1), bad = n;
    bool right = check_below(2);
    we_error error;
    fill_any(dtype, in, n), fill_any(dtype, values, count);
    CHECK(we_sort(dtype, 1, n, 1, 0, in, sorted, &error) == WE_OK, "%s", error.message);
    CHECK(we_searchsorted(dtype, n, sorted, NULL, count, values, right, out, &error) == WE_OK, "%s",
          error.message);
    for (int64_t i = 0; i < count; i++) {
        long double x = order_of(dtype, values, i);
        if (x != x)
            continue;
        if (out[i] > 0)
            CHECK(order_of(dtype, sorted, out[i] - 1) <= x, "too far right");
        if (out[i] < n && !right)
            CHECK(!(order_of(dtype, sorted, out[i]) < x), "too far left");
    }
    if (n > 0)
        CHECK(we_searchsorted(dtype, 1, sorted, &bad, 0, values, 0, out, &error) == WE_INVALID_ARGUMENT,
              "a sorter beyond the end");
    free(in), free(sorted), free(values), free(out);
}

static void check_memory(void) {
    enum { N = 200 };
    double in[2 * N];
    int64_t out[2 * N], found;
    for (int i = 0; i < 2 * N; i++)
        in[i] = (double)check_below(1000) / 7;
    for (int what = 0; what < 3; what++) {
        we_status status = WE_OUT_OF_MEMORY;
        for (int64_t countdown = 0; status != WE_OK && countdown < 100; countdown++) {
            we_memory_fail_after(countdown);
            status = what == 0   ? we_sort(WE_ARRAY_F64, 1, N, 2, 0, in, out, NULL)
                     : what == 1 ? we_argsort(WE_ARRAY_F64, 1, N, 2, 0, in, out, NULL)
                                 : we_unique(WE_ARRAY_C128, N, in, out, NULL, NULL, &found, NULL);
            we_memory_fail_after(-1);
            CHECK(status == WE_OK || status == WE_OUT_OF_MEMORY, "status %d", status);
        }
        CHECK(status == WE_OK, "call %d never came through", what);
    }
}

/* The stream of seed 12345, and that every kind stays in its range. */
static void check_random_numbers(void) {
    static const double wanted[] = {0.22733602246716966, 0.31675833970975287, 0.79736545733273412};
    double out[LONG];
    int64_t integers[LONG];
    we_random r;
    we_random_seed(&r, &(uint32_t){12345}, 1);
    we_random_fill(&r, WE_RANDOM_UNIFORM, 3, 0, 1, out);
    for (int i = 0; i < 3; i++)
        CHECK(fabs(out[i] - wanted[i]) < 1e-15, "number %d is %.17g", i, out[i]);
    we_random_fill(&r, WE_RANDOM_NORMAL, LONG, 0, 1, out);
    double sum = 0, squares = 0;
    for (int i = 0; i < LONG; i++)
        sum += out[i], squares += out[i] * out[i];
    CHECK(fabs(sum / LONG) < 0.1 && fabs(squares / LONG - 1) < 0.2, "mean %g, variance %g", sum / LONG,
          squares / LONG);
    we_random_fill(&r, WE_RANDOM_EXPONENTIAL, LONG, 0, 1, out);
    for (int i = 0; i < LONG; i++)
        CHECK(out[i] >= 0 && out[i] < 60, "exponential %g", out[i]);
    we_random_integers(&r, -5, 10, LONG, integers);
    for (int i = 0; i < LONG; i++)
        CHECK(integers[i] >= -5 && integers[i] <= 5, "integer %d", (int)integers[i]);
    for (int i = 0; i < LONG; i++)
        integers[i] = i;
    we_random_shuffle(&r, 1, LONG, 1, integers);
    int64_t places = 0;
    for (int i = 0; i < LONG; i++)
        places += integers[i];
    CHECK(places == (int64_t)LONG * (LONG - 1) / 2, "a shuffle lost something");
}

int main(int argc, char **argv) {
    check_seed(argc, argv);
    for (int round = 0; round < check_count(argc, argv, 40); round++) {
        for (we_array_dtype dtype = 0; dtype < WE_ARRAY_DTYPE_COUNT; dtype++) {
            check_sets(dtype);
            if (we_array_dtype_kind(dtype) == 'c')
                continue;
            check_sorts(dtype);
            check_searches(dtype);
        }
    }
    check_memory();
    check_random_numbers();
    return check_result();
}
