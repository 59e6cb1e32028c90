/* The blocked product with every kernel that this CPU can run: shapes around the tiles and blocks, operands
 * read in place, in runs and strided, what is added, threads; and how exact products of parts are, on
 * operands that are badly scaled, cancel, are denormal, infinite or NaN. */
#include <math.h>
#include <string.h>

#include "amx_emulated.h"
#include "backend/cpu/gemm.h"
#include "base/dtype.h"
#include "base/memory.h"
#include "check.h"

typedef enum values {
    ORDINARY,
    SCALED,     /* each row of A and column of B has a magnitude of its own */
    CANCELLING, /* large terms that leave little */
    DENORMAL,
    SPECIAL, /* a few infinities and NaN */
    VALUES,
} values;

/* A [m][runs][depth] whose runs lie somewhere, B [k][n]. */
typedef struct problem {
    int64_t m, n, runs, depth, k;
    values values;
    float *a, *b, *c, *before, *bias, *residual;
    uint16_t *narrow_a, *narrow_c, *narrow_residual; /* the same numbers as bfloat16 */
} problem;

static double uniform(void) {
    return (double)(check_random() >> 11) * 0x1p-52 - 1;
}

static float *floats(int64_t count) {
    float *to = we_memory_new((size_t)(count + 1) * sizeof *to);
    for (int64_t i = 0; i < count; i++)
        to[i] = (float)uniform();
    return to;
}

static uint16_t *narrowed(const float *from, int64_t count) {
    uint16_t *to = we_memory_new((size_t)(count + 1) * sizeof *to);
    for (int64_t i = 0; i < count; i++)
        to[i] = we_f32_to_bf16_part(from[i]);
    return to;
}

/* One behind the other. */
static uint16_t *narrowed_twice(const float *from, int64_t count) {
    uint16_t *to = we_memory_new((size_t)(2 * count + 1) * sizeof *to);
    for (int64_t i = 0; i < 2 * count; i++)
        to[i] = we_f32_to_bf16_part(from[i % count]);
    return to;
}

static void spoil(problem *p, float *x, int64_t lines, int64_t line, int64_t at) {
    for (int64_t i = 0; i < lines; i++) {
        float factor = ldexpf(1, (int)check_below(100) - 60);
        for (int64_t q = 0; q < p->k; q++) {
            float *to = &x[i * line + q * at];
            if (p->values == SCALED)
                *to *= factor;
            else if (p->values == DENORMAL)
                *to *= 1e-39f;
            else if (p->values == SPECIAL && check_below(3 * p->k) == 0)
                *to = check_below(2) ? NAN : copysignf(INFINITY, *to);
        }
    }
}

/* Neighbours along k are opposites but for a little. */
static void cancel(const problem *p) {
    for (int64_t q = 0; q + 1 < p->k; q += 2) {
        for (int64_t i = 0; i < p->m; i++)
            p->a[i * p->k + q + 1] = -p->a[i * p->k + q] * (1 + 0x1p-18f);
        for (int64_t j = 0; j < p->n; j++)
            p->b[(q + 1) * p->n + j] = p->b[q * p->n + j];
    }
}

static problem make_problem(int64_t m, int64_t n, int64_t runs, int64_t depth, values values) {
    problem p = {.m = m, .n = n, .runs = runs, .depth = depth, .k = runs * depth, .values = values};
    p.a = floats(m * p.k);
    p.b = floats(p.k * n);
    p.c = floats(m * n);
    p.before = floats(m * n);
    p.bias = floats(m + n);
    p.residual = floats(m * n);
    spoil(&p, p.a, m, p.k, 1);
    spoil(&p, p.b, n, 1, n);
    if (values == CANCELLING)
        cancel(&p);
    p.narrow_a = narrowed_twice(p.a, m * p.k);
    p.narrow_c = narrowed(p.c, m * n);
    p.narrow_residual = narrowed(p.residual, m * n);
    return p;
}

static void free_problem(problem *p) {
    void *all[] = {p->a,        p->b,        p->c,        p->before,         p->bias,
                   p->residual, p->narrow_a, p->narrow_c, p->narrow_residual};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        we_memory_free(all[i]);
}

static void find_rows(const void *source, int64_t row, int32_t count, int64_t run, int64_t runs,
                      const float **to) {
    const problem *p = source;
    for (int64_t r = 0; r < runs; r++) {
        for (int32_t i = 0; i < count; i++)
            to[r * count + i] = p->a + (row + i) * p->k + (run + r) * p->depth;
    }
}

/* Some rows of the other copy, so that not all lie evenly apart. */
static void find_narrow_rows(const void *source, int64_t row, int32_t count, int64_t run, int64_t runs,
                             const float **to) {
    const problem *p = source;
    for (int64_t r = 0; r < runs; r++) {
        for (int32_t i = 0; i < count; i++) {
            int64_t copy = (row + i) % 41 == 7 ? p->m : 0;
            to[r * count + i] = (const float *)(const void *)p->narrow_a +
                                ((copy + row + i) * p->k + (run + r) * p->depth) / 2;
        }
    }
}

/* What of the product can be of bfloat16 is, now and then. */
static void narrow_gemm(const problem *p, we_gemm *g) {
    if (g->kernel->parts != 1)
        return;
    g->narrow_rows = p->depth % 2 == 0 && check_below(4) != 0;
    if (g->narrow_rows) {
        g->rows = p->runs > 1 ? find_narrow_rows : NULL;
        g->a = (const float *)(const void *)p->narrow_a;
        g->a_row = p->k / 2;
    }
    g->narrow = check_below(4) != 0;
    g->c = g->narrow ? NULL : p->c;
    g->narrow_c = g->narrow ? p->narrow_c : NULL;
    if (g->residual && check_below(2)) {
        g->residual = NULL;
        g->narrow_residual = p->narrow_residual;
    }
}

static we_gemm plain_gemm(const problem *p, const we_matmul_row *kernel) {
    return (we_gemm){.kernel = kernel,
                     .m = p->m,
                     .n = p->n,
                     .runs = p->runs,
                     .depth = p->depth,
                     .rows = p->runs > 1 ? find_rows : NULL,
                     .source = p,
                     .a = p->a,
                     .a_row = p->k,
                     .b = p->b,
                     .b_row = p->n,
                     .b_column = 1,
                     .c = p->c,
                     .ldc = p->n,
                     .low = -INFINITY,
                     .high = INFINITY};
}

static void run_gemm(we_gemm *g, bool pack, int32_t threads) {
    we_pool *pool = NULL;
    float *packed = NULL;
    we_error error;
    CHECK(we_pool_new(threads, &pool, &error) == WE_OK, "no pool");
    if (pack) {
        we_gemm_right right = {.b = g->b,
                               .run = g->depth * g->b_row,
                               .row = g->b_row,
                               .column = g->b_column,
                               .n = g->n,
                               .runs = g->runs,
                               .depth = g->depth};
        packed = floats(we_gemm_packed_runs(g->kernel, g->n, g->runs, g->depth));
        we_gemm_pack(pool, g->kernel, &right, packed);
        g->packed = packed;
    }
    size_t bytes = we_gemm_scratch(g, we_pool_threads(pool));
    float *scratch = bytes ? we_memory_new_dirty(bytes) : NULL;
    we_gemm_run(pool, g, scratch);
    we_memory_free(scratch);
    we_memory_free(packed);
    we_pool_free(pool);
}

/* ---- Element by element ---- */

/* The value that a kernel of one part sees. */
static double seen(const we_matmul_row *kernel, float x) {
    return kernel->parts == 1 ? (double)we_bf16_to_f32(we_f32_to_bf16(fabsf(x) < 0x1p-126f ? x * 0 : x))
                              : (double)x;
}

/* Relative to the sum of magnitudes: k sums rounded in any order; of parts, what is left out as well.
 * Absolute: what denormals lose that are flushed. */
static void check_elements(const we_matmul_row *kernel, const problem *p, const we_gemm *g) {
    static const double LEFT_OUT[WE_PARTS + 1] = {0, 0, 0x1p-15, 0x1p-24 + 0x1p-34};
    double products = kernel->parts * (kernel->parts + 1) / 2, sums = kernel->parts ? products : 1;
    for (int64_t i = 0; i < p->m; i++) {
        for (int64_t j = 0; j < p->n; j++) {
            int64_t at = i * p->n + j;
            double want = g->column_bias  ? g->column_bias[j]
                          : g->row_bias   ? g->row_bias[i]
                          : g->accumulate ? p->before[at]
                                          : 0;
            double size = fabs(want) + 1, got = g->narrow ? we_bf16_to_f32(p->narrow_c[at]) : p->c[at];
            for (int64_t q = 0; q < p->k; q++) {
                double term = seen(kernel, p->a[i * p->k + q]) * seen(kernel, p->b[q * p->n + j]);
                want += term;
                size += fabs(term);
            }
            want += g->residual          ? g->residual[at]
                    : g->narrow_residual ? we_bf16_to_f32(p->narrow_residual[at])
                                         : 0;
            want = want < g->low ? g->low : want > g->high ? g->high : want;
            if (isnan(want) || isinf(want)) {
                CHECK(isnan(want) ? isnan(got) : got == want, "%s: %g, not %g", kernel->name, got, want);
                continue;
            }
            double allowed = ((double)(p->k + 4) * sums * 0x1p-24 + LEFT_OUT[kernel->parts]) * size;
            allowed += g->narrow ? 0x1p-8 * fabs(want) + 0x1p-126 : 0;
            CHECK(fabs(got - want) <= allowed + (double)p->k * 0x1p-82,
                  "%s, values %d: [%" PRId64 ", %" PRId64 "] of %" PRId64 " x %" PRId64 " x %" PRId64
                  ": %g, not %g",
                  kernel->name, p->values, i, j, p->m, p->n, p->k, got, want);
        }
    }
}

static void check_random_products(const we_matmul_row *kernel, int cases) {
    for (int i = 0; i < cases; i++) {
        bool deep = i % 8 == 0;
        int64_t runs = check_below(2) ? 1 : 1 + check_below(deep ? 100 : 9);
        problem p = make_problem(1 + check_below(deep ? 10 : 70), 1 + check_below(deep ? 40 : 150), runs,
                                 1 + check_below(deep ? (runs > 1 ? 40 : 3000) : 50), i % VALUES);
        we_gemm g = plain_gemm(&p, kernel);
        int mode = (int)check_below(4);
        g.row_bias = mode == 1 ? p.bias : NULL;
        g.column_bias = mode == 2 ? p.bias : NULL;
        g.residual = check_below(2) ? p.residual : NULL;
        g.low = check_below(2) ? 0 : -INFINITY;
        g.high = check_below(2) ? 0.5f : INFINITY;
        narrow_gemm(&p, &g);
        g.accumulate = mode == 3 && !g.narrow;
        memcpy(p.c, p.before, (size_t)(p.m * p.n) * sizeof *p.c);
        run_gemm(&g, check_below(2), 1 + (int32_t)check_below(3));
        check_elements(kernel, &p, &g);
        free_problem(&p);
    }
}

/* ---- As a whole ---- */

/* Relative Frobenius error. Where terms cancel, or a few elements are all the norm, which may cancel by
 * chance, the norm is what terms of random signs would have. */
static double error_of(const we_matmul_row *kernel, problem *p) {
    double error = 0, size = 0;
    we_gemm g = plain_gemm(p, kernel);
    run_gemm(&g, true, 1);
    for (int64_t i = 0; i < p->m; i++) {
        for (int64_t j = 0; j < p->n; j++) {
            double want = 0, magnitude = 0;
            for (int64_t q = 0; q < p->k; q++) {
                double term = (double)p->a[i * p->k + q] * p->b[q * p->n + j];
                want += term;
                magnitude += term * term;
            }
            double off = p->c[i * p->n + j] - want;
            error += off * off;
            size += p->values == ORDINARY ? want * want : magnitude;
        }
    }
    return sqrt(error / size);
}

/* Two parts stay below 1e-5, three at or below the float32 kernel that they replace. */
static void check_precision(const we_matmul_row *kernel) {
    static const values KINDS[] = {ORDINARY, SCALED, CANCELLING};
    for (int i = 0; i < 3; i++) {
        problem p = make_problem(48, 40, 1, 1200, KINDS[i]);
        double error = error_of(kernel, &p);
        if (kernel->parts == 2)
            CHECK(error <= 1e-5, "%s, values %d: error %g", kernel->name, KINDS[i], error);
        if (kernel->parts == 3) {
            double plain = error_of(kernel->exact, &p);
            CHECK(error <= plain, "%s, values %d: error %g, of float32 %g", kernel->name, KINDS[i], error,
                  plain);
        }
        free_problem(&p);
    }
}

static void check_kernel(const we_matmul_row *kernel, int cases) {
    check_random_products(kernel, cases);
    if (kernel->exact)
        check_precision(kernel);
}

int main(int argc, char **argv) {
    uint32_t isas;
    we_error error;
    const we_matmul_row *rows;
    size_t count = we_matmul_rows(&rows);
    check_seed(argc, argv);
    CHECK(we_cpu_isas(&isas, &error) == WE_OK, "%s", error.message);
    we_pool_assume_cores(3);
    for (size_t i = 0; i < count; i++) {
        if (isas >> rows[i].isa & 1)
            check_kernel(&rows[i], check_count(argc, argv, 40));
    }
    for (int i = 0; i < EMULATED_COUNT; i++)
        check_kernel(&EMULATED_ROWS[i], check_count(argc, argv, 40));
    return check_result();
}
