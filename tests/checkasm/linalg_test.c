/* Linear algebra over every field, judged by what each factorisation promises: residuals of a few n eps.
 * Sizes are those where blocks begin and end; run under sanitizers, that is what this test is for. Accuracy
 * beside NumPy is tested from Python. */
#include <complex.h>
#include <float.h>
#include <math.h>
#include <string.h>

#include <walle/numeric.h>

#include "base/memory.h"
#include "check.h"

/* Matrices in the test are complex doubles, whatever the field computes in. */
typedef double complex number;

static const char *const FIELDS[] = {"float32", "float64", "complex64", "complex128"};

static size_t size_of(we_field field) {
    static const size_t sizes[] = {4, 8, 8, 16};
    return sizes[field];
}

static double unit_of(we_field field) {
    return field == WE_FIELD_F32 || field == WE_FIELD_C64 ? FLT_EPSILON : DBL_EPSILON;
}

static void *narrow(we_field field, int64_t count, const number *from) {
    char *to = malloc(size_of(field) * (size_t)count + 1);
    for (int64_t i = 0; i < count; i++) {
        void *at = to + size_of(field) * (size_t)i;
        switch (field) {
        case WE_FIELD_F32:
            *(float *)at = (float)creal(from[i]);
            break;
        case WE_FIELD_F64:
            *(double *)at = creal(from[i]);
            break;
        case WE_FIELD_C64:
            *(float complex *)at = (float complex)from[i];
            break;
        case WE_FIELD_C128:
            *(number *)at = from[i];
        }
    }
    return to;
}

static number *widen(we_field field, int64_t count, const void *from) {
    number *to = malloc(sizeof *to * (size_t)count + 1);
    for (int64_t i = 0; i < count; i++) {
        const void *at = (const char *)from + size_of(field) * (size_t)i;
        to[i] = field == WE_FIELD_F32   ? (number) * (const float *)at
                : field == WE_FIELD_F64 ? (number) * (const double *)at
                : field == WE_FIELD_C64 ? (number) * (const float complex *)at
                                        : *(const number *)at;
    }
    return to;
}

static number *random_matrix(we_field field, int64_t count) {
    number *x = calloc((size_t)count + 1, sizeof *x);
    bool complex_field = field == WE_FIELD_C64 || field == WE_FIELD_C128;
    for (int64_t i = 0; i < count; i++) {
        x[i] = (double)check_below(2001) / 1000 - 1;
        if (complex_field)
            x[i] += I * ((double)check_below(2001) / 1000 - 1);
    }
    void *there = narrow(field, count, x); /* what the field can hold */
    free(x);
    x = widen(field, count, there);
    free(there);
    return x;
}

static double norm_of(int64_t count, const number *x) {
    double sum = 0;
    for (int64_t i = 0; i < count; i++)
        sum += creal(x[i] * conj(x[i]));
    return sqrt(sum);
}

/* || a b - c ||, b scaled by rows where `scales` is there. */
static double residual(int64_t m, int64_t k, int64_t n, const number *a, const number *b,
                       const double *scales, const number *c) {
    double sum = 0;
    for (int64_t i = 0; i < m; i++) {
        for (int64_t j = 0; j < n; j++) {
            number entry = c ? -c[i * n + j] : -(i == j);
            for (int64_t p = 0; p < k; p++)
                entry += a[i * k + p] * (scales ? scales[p] : 1) * b[p * n + j];
            sum += creal(entry * conj(entry));
        }
    }
    return sqrt(sum);
}

static number *adjoint(int64_t m, int64_t n, const number *a) {
    number *t = malloc(sizeof *t * (size_t)(m * n) + 1);
    for (int64_t i = 0; i < m * n; i++)
        t[i % n * m + i / n] = conj(a[i]);
    return t;
}

/* Columns orthonormal: || a^H a - 1 ||. */
static double skewness(int64_t m, int64_t n, const number *a) {
    number *t = adjoint(m, n, a);
    double result = residual(n, m, n, t, a, NULL, NULL);
    free(t);
    return result;
}

static double *reals(we_field field, int64_t count, const void *from) {
    number *wide =
        widen(field == WE_FIELD_F32 || field == WE_FIELD_C64 ? WE_FIELD_F32 : WE_FIELD_F64, count, from);
    double *to = malloc(sizeof *to * (size_t)count + 1);
    for (int64_t i = 0; i < count; i++)
        to[i] = creal(wide[i]);
    free(wide);
    return to;
}

/* One call on one matrix; the outputs widened (the second of SVD and the first of EIGH are reals, left to the
 * caller). */
static we_status call(we_linalg_op op, we_field field, int64_t m, int64_t n, int64_t k, int option,
                      const number *a, int64_t a_count, const number *b, void *out[3]) {
    void *in[2] = {narrow(field, a_count, a), b ? narrow(field, n * k, b) : NULL};
    we_error error;
    we_status status = we_linalg(op, field, 1, m, n, k, option, (const void *const *)in, out, &error);
    CHECK((status == WE_OK) == (error.status == WE_OK), "status and slot differ");
    free(in[0]);
    free(in[1]);
    return status;
}

#define EXPECT(what, error, scale, size)                                                                     \
    CHECK((error) <= 20 * (double)(size) * unit_of(field) * ((scale) + 1e-30),                               \
          "%s of %s, %d x %d: error %g", what, FIELDS[field], (int)m, (int)n, error)

static void check_square(we_field field, int64_t n) {
    int64_t m = n, k = 1 + check_below(12);
    number *a = random_matrix(field, n * n), *b = random_matrix(field, n * k);
    for (int64_t i = 0; i < n; i++)
        a[i * n + i] += 3; /* far from singular */
    void *out[3] = {malloc(16 * (size_t)(n * n + n * k + 1)), malloc(16 * (size_t)(n * n + 1)), malloc(64)};
    CHECK(call(WE_LINALG_SOLVE, field, n, n, k, 0, a, n * n, b, out) == WE_OK, "solve failed");
    number *x = widen(field, n * k, out[0]);
    EXPECT("solve", residual(n, n, k, a, x, NULL, b), norm_of(n * n, a) * norm_of(n * k, x), n + 1);
    free(x);
    CHECK(call(WE_LINALG_INVERSE, field, n, n, 0, 0, a, n * n, NULL, out) == WE_OK, "inverse failed");
    x = widen(field, n * n, out[0]);
    EXPECT("inverse", residual(n, n, n, a, x, NULL, NULL), norm_of(n * n, a) * norm_of(n * n, x), n + 1);
    free(x);
    CHECK(call(WE_LINALG_DET, field, n, n, 0, 0, a, n * n, NULL, out) == WE_OK, "det failed");

    number *t = adjoint(n, n, a), *h = malloc(sizeof *h * (size_t)(n * n) + 1);
    for (int64_t i = 0; i < n * n; i++)
        h[i] = a[i] + t[i];
    for (int upper = 0; upper < 2; upper++) {
        CHECK(call(WE_LINALG_EIGH, field, n, n, 0, upper, h, n * n, NULL, out) == WE_OK, "eigh failed");
        number *v = widen(field, n * n, out[1]), *vh = adjoint(n, n, v);
        double *w = reals(field, n, out[0]);
        EXPECT("eigh", residual(n, n, n, v, vh, w, h), norm_of(n * n, h), n + 1);
        EXPECT("vectors of eigh", skewness(n, n, v), 1.0, n + 1);
        free(v), free(vh), free(w);
    }
    for (int64_t i = 0; i < n; i++)
        h[i * n + i] += 4 * (double)n;
    for (int upper = 0; upper < 2; upper++) {
        CHECK(call(WE_LINALG_CHOLESKY, field, n, n, 0, upper, h, n * n, NULL, out) == WE_OK,
              "cholesky failed");
        number *l = widen(field, n * n, out[0]), *lh = adjoint(n, n, l);
        EXPECT("cholesky", residual(n, n, n, upper ? lh : l, upper ? l : lh, NULL, h), norm_of(n * n, h),
               n + 1);
        free(l), free(lh);
    }
    if (n > 0) {
        h[0] = -1;
        CHECK(call(WE_LINALG_CHOLESKY, field, n, n, 0, 0, h, n * n, NULL, out) == WE_INVALID_ARGUMENT,
              "indefinite");
        memset(a, 0, sizeof *a * (size_t)n);
        CHECK(call(WE_LINALG_SOLVE, field, n, n, k, 0, a, n * n, b, out) == WE_INVALID_ARGUMENT, "singular");
        h[0] = NAN;
        CHECK(call(WE_LINALG_EIGH, field, n, n, 0, 0, h, n * n, NULL, out) == WE_INVALID_ARGUMENT,
              "not a number");
        CHECK(call(WE_LINALG_SVD, field, n, n, 0, 0, h, n * n, NULL, out) == WE_INVALID_ARGUMENT,
              "not a number");
    }
    free(a), free(b), free(t), free(h), free(out[0]), free(out[1]), free(out[2]);
}

static void check_rectangle(we_field field, int64_t m, int64_t n, int full) {
    number *a = random_matrix(field, m * n);
    int64_t least = m < n ? m : n, p = full ? m : least, q = full ? n : least;
    if (check_below(3) == 0) { /* of low rank */
        for (int64_t i = 0; i < m * n; i++)
            a[i] = a[i % n];
    }
    void *out[3] = {malloc(16 * (size_t)(m * p + 1)), malloc(16 * (size_t)(p * n + least + 1)),
                    malloc(16 * (size_t)(q * n + 1))};
    CHECK(call(WE_LINALG_QR, field, m, n, 0, full, a, m * n, NULL, out) == WE_OK, "qr failed");
    number *u = widen(field, m * p, out[0]), *r = widen(field, p * n, out[1]);
    EXPECT("qr", residual(m, p, n, u, r, NULL, a), norm_of(m * n, a), m + n + 1);
    EXPECT("q of qr", skewness(m, p, u), 1.0, m + n + 1);
    free(u), free(r);
    CHECK(call(WE_LINALG_SVD, field, m, n, 0, full, a, m * n, NULL, out) == WE_OK, "svd failed");
    u = widen(field, m * p, out[0]);
    number *vh = widen(field, q * n, out[2]), *v = adjoint(q, n, vh),
           *thin = malloc(sizeof *thin * (size_t)(m * least) + 1);
    double *s = reals(field, least, out[1]);
    for (int64_t i = 0; i < m * least; i++)
        thin[i] = u[i / least * p + i % least];
    EXPECT("svd", residual(m, least, n, thin, vh, s, a), norm_of(m * n, a), m + n + 1);
    EXPECT("u of svd", skewness(m, p, u), 1.0, m + n + 1);
    EXPECT("v of svd", skewness(n, q, v), 1.0, m + n + 1);
    for (int64_t i = 0; i + 1 < least; i++)
        CHECK(s[i] >= s[i + 1] && s[i + 1] >= 0, "singular values are not in order");
    free(a), free(u), free(vh), free(v), free(thin), free(s), free(out[0]), free(out[1]), free(out[2]);
}

/* Every allocation that can fail gives OUT_OF_MEMORY, and nothing leaks (the sanitizer tells). */
static void check_memory(we_linalg_op op) {
    enum { N = 70 };
    number *a = random_matrix(WE_FIELD_F64, N * N);
    for (int64_t i = 0; i < N * N; i++)
        a[i] = i / N == i % N ? 200 : (i / N < i % N ? a[i] : a[i % N * N + i / N]);
    number *b = random_matrix(WE_FIELD_F64, N * 9);
    void *out[3] = {malloc(8 * N * N), malloc(8 * N * N), malloc(8 * N * N)};
    we_status status = WE_OUT_OF_MEMORY;
    for (int64_t countdown = 0; status != WE_OK && countdown < 1000; countdown++) {
        we_memory_fail_after(countdown);
        status = call(op, WE_FIELD_F64, N, N, 9, 0, a, N * N, b, out);
        we_memory_fail_after(-1);
        CHECK(status == WE_OK || status == WE_OUT_OF_MEMORY, "operation %d: status %d", op, status);
    }
    CHECK(status == WE_OK, "operation %d never came through", op);
    free(a), free(b), free(out[0]), free(out[1]), free(out[2]);
}

int main(int argc, char **argv) {
    static const int64_t sizes[] = {0, 1, 2, 3, 5, 8, 16, 31, 32, 33, 48, 49, 65};
    check_seed(argc, argv);
    for (we_field field = WE_FIELD_F32; field <= WE_FIELD_C128; field++) {
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
            check_square(field, sizes[i]);
        for (int round = 0; round < check_count(argc, argv, 25); round++)
            check_rectangle(field, check_below(70), check_below(70), (int)check_below(2));
    }
    for (int op = 0; op < WE_LINALG_COUNT; op++)
        check_memory(op);
    return check_result();
}
