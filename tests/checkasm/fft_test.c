/* Fourier transforms against the definition in double: every kind, both signs, lengths of every sort of plan,
 * lines along the last axis and across, missing and superfluous elements. Run under sanitizers; accuracy
 * beside NumPy is tested from Python. */
#include <complex.h>
#include <math.h>
#include <string.h>

#include <walle/numeric.h>

#include "base/memory.h"
#include "check.h"

static const double PI = 3.14159265358979323846;

/* Element of an array of complex (or real) numbers of that field; 0 past what is given. */
static double complex element(const we_fft_call *c, bool is_complex, int64_t o, int64_t j, int64_t i) {
    if (j >= c->given)
        return 0;
    int64_t at = (o * c->given + j) * c->inner + i;
    if (c->field == WE_FIELD_F32) {
        const float *x = c->in;
        return is_complex ? x[2 * at] + I * x[2 * at + 1] : x[at];
    }
    const double *x = c->in;
    return is_complex ? x[2 * at] + I * x[2 * at + 1] : x[at];
}

/* The input along the axis as n numbers. */
static void line_of(const we_fft_call *c, int64_t o, int64_t i, double complex *x) {
    for (int64_t j = 0; j < c->n; j++) {
        if (c->kind != WE_FFT_REAL_INVERSE) {
            x[j] = element(c, c->kind == WE_FFT_COMPLEX, o, j, i);
            continue;
        }
        int64_t mirror = j <= c->n / 2 ? j : c->n - j;
        x[j] = element(c, true, o, mirror, i);
        if (mirror == 0 || 2 * mirror == c->n)
            x[j] = creal(x[j]);
        if (j > c->n / 2)
            x[j] = conj(x[j]);
    }
}

static void check_line(const we_fft_call *c, int64_t o, int64_t i) {
    double complex *x = malloc(sizeof *x * (size_t)c->n);
    line_of(c, o, i, x);
    double size = 0, error = 0;
    int64_t length = c->kind == WE_FFT_REAL ? c->n / 2 + 1 : c->n;
    for (int64_t k = 0; k < length; k++) {
        double complex want = 0, got;
        for (int64_t j = 0; j < c->n; j++)
            want += x[j] * cexp(I * c->sign * 2 * PI * (double)(j * k % c->n) / (double)c->n);
        want *= c->factor;
        we_fft_call out = *c; /* the output as an input */
        out.in = c->out, out.given = length;
        got = element(&out, c->kind != WE_FFT_REAL_INVERSE, o, k, i);
        size += creal(want * conj(want));
        error += creal((got - want) * conj(got - want));
    }
    double unit = c->field == WE_FIELD_F32 ? 0x1p-24 : 0x1p-50; /* the definition itself errs in double */
    CHECK(sqrt(error) <= 4 * (2 + log2((double)c->n)) * unit * (sqrt(size) + 1e-30),
          "kind %d, n %d, given %d, inner %d, sign %d: error %g of %g", c->kind, (int)c->n, (int)c->given,
          (int)c->inner, c->sign, sqrt(error), sqrt(size));
    free(x);
}

static void check_call(int64_t n) {
    we_fft_call c = {.kind = (we_fft_kind)check_below(3),
                     .field = check_below(2) ? WE_FIELD_F64 : WE_FIELD_F32};
    c.sign = check_below(2) ? 1 : -1, c.n = n, c.factor = check_below(2) ? 1 : 0.25;
    c.outer = check_below(4) ? 1 + check_below(3) : check_below(20);
    c.inner = check_below(2) ? 1 : check_below(20);
    c.given = check_below(4) ? (c.kind == WE_FFT_REAL_INVERSE ? n / 2 + 1 : n) : 1 + check_below(n + 3);
    int64_t length = c.kind == WE_FFT_REAL ? n / 2 + 1 : n, count = c.outer * c.inner;
    int64_t in_reals = count * c.given * (c.kind == WE_FFT_REAL ? 1 : 2);
    int64_t out_reals = count * length * (c.kind == WE_FFT_REAL_INVERSE ? 1 : 2);
    size_t size = c.field == WE_FIELD_F32 ? 4 : 8;
    void *in = malloc(size * (size_t)in_reals + 1);
    c.in = in, c.out = malloc(size * (size_t)out_reals + 1);
    for (int64_t i = 0; i < in_reals; i++) {
        double value = (double)check_below(2001) / 1000 - 1;
        if (c.field == WE_FIELD_F32)
            ((float *)in)[i] = (float)value;
        else
            ((double *)in)[i] = value;
    }
    we_error error;
    CHECK(we_fft(&c, &error) == WE_OK, "%s", error.message);
    for (int64_t o = 0; o < c.outer && c.inner; o++)
        check_line(&c, o, check_below(c.inner));
    free(in), free(c.out);
}

/* A new length makes plans: each of their allocations may fail. */
static void check_memory(int64_t n) {
    double in[2 * 128] = {0}, out[2 * 128];
    we_fft_call c = {WE_FFT_COMPLEX, WE_FIELD_F64, -1, 1, n, 1, n, 1, in, out};
    we_status status = WE_OUT_OF_MEMORY;
    for (int64_t countdown = 0; status != WE_OK && countdown < 100; countdown++) {
        we_memory_fail_after(countdown);
        status = we_fft(&c, NULL);
        we_memory_fail_after(-1);
        CHECK(status == WE_OK || status == WE_OUT_OF_MEMORY, "status %d", status);
    }
    CHECK(status == WE_OK, "never came through");
}

int main(int argc, char **argv) {
    check_seed(argc, argv);
    check_memory(96);
    check_memory(97);
    for (int64_t n = 1; n < 80; n++)
        check_call(n);
    static const int64_t lengths[] = {121, 169, 210, 256, 283, 500, 1024, 1155, 2048};
    for (int round = 0; round < check_count(argc, argv, 60); round++)
        check_call(round % 2 ? lengths[check_below(9)] : 1 + check_below(300));
    we_fft_call none = {.n = 0, .outer = 1, .inner = 1};
    CHECK(we_fft(&none, NULL) == WE_INVALID_ARGUMENT, "length 0");
    return check_result();
}
