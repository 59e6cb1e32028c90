/* Numerical routines on dense arrays: linear algebra, Fourier transforms, sorting, random numbers.
 *
 * What engine.h says holds here too. Arrays are dense and row-major in the caller's memory; outputs do not
 * overlap inputs. All may be called from any thread and share one crew of helper threads. */
#ifndef WALLE_NUMERIC_H
#define WALLE_NUMERIC_H

#include <walle/array.h>
#include <walle/engine.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Linear algebra ---- */

/* What matrices consist of. A complex number is two reals, the real part first. */
typedef enum we_field { WE_FIELD_F32, WE_FIELD_F64, WE_FIELD_C64, WE_FIELD_C128 } we_field;

/* One operation on every matrix of a batch. "Reals" have the precision of the field.
 *
 *  SOLVE     in: a [n, n], b [n, k]   out: x [n, k] with a x = b
 *  INVERSE   in: a [n, n]             out: its inverse [n, n]
 *  DET       in: a [n, n]             out: determinant (field), its sign (field), logarithm of its size
 * (real) CHOLESKY  in: a [n, n], Hermitian  out: its lower factor l, a = l l^H. option: of the upper
 * triangle, u, a = u^H u QR        in: a [m, n]             out: q [m, q], r [q, n]; q = min(m, n), with the
 * option m. q may be NULL EIGH      in: a [n, n], Hermitian, of which the lower triangle counts (option: the
 * upper) out: eigenvalues [n] (reals, rising), eigenvectors [n, n] as columns or NULL SVD       in: a [m, n]
 * out: u [m, p], singular values [min(m, n)] (reals, falling), v^H [q, n]; p = q = min(m, n), with the option
 * p = m, q = n. u and v^H both or neither NULL
 */
typedef enum we_linalg_op {
    WE_LINALG_SOLVE,
    WE_LINALG_INVERSE,
    WE_LINALG_DET,
    WE_LINALG_CHOLESKY,
    WE_LINALG_QR,
    WE_LINALG_EIGH,
    WE_LINALG_SVD,
    WE_LINALG_COUNT
} we_linalg_op;

/* INVALID_ARGUMENT, naming the matrix: one is singular (SOLVE, INVERSE), not positive definite (CHOLESKY), or
 * not finite (EIGH, SVD). OUT_OF_MEMORY. */
WE_API we_status we_linalg(we_linalg_op op, we_field field, int64_t batch, int64_t m, int64_t n, int64_t k,
                           int option, const void *const in[2], void *const out[3], we_error *err);

/* ---- Fourier transforms ---- */

typedef enum we_fft_kind {
    WE_FFT_COMPLEX,      /* complex [outer, n, inner] to the same */
    WE_FFT_REAL,         /* real [outer, n, inner] to complex [outer, n / 2 + 1, inner] */
    WE_FFT_REAL_INVERSE, /* complex [outer, n / 2 + 1, inner] to real [outer, n, inner] */
} we_fft_kind;

/* out[k] = factor * sum over j of in[j] * e^(sign * 2 pi i j k / n) along the middle axis, sign -1 or 1. Of
 * the input's axis there are `given` elements: missing ones are zeros, superfluous ones ignored. For a
 * spectrum that WE_FFT_REAL_INVERSE takes, elements past n / 2 are the conjugates of those before, and the
 * first and the middle one count as real. Errors are of the order log(n) times the rounding unit. field: F32
 * or F64. OUT_OF_MEMORY. */
typedef struct we_fft_call {
    we_fft_kind kind;
    we_field field;
    int sign;
    int64_t outer, n, inner, given;
    double factor;
    const void *in;
    void *out;
} we_fft_call;

WE_API we_status we_fft(const we_fft_call *call, we_error *err);

/* ---- Sorting, searching, sets ---- */

/* Elements in order along the middle axis of [outer, n, inner]; n is below 2^32. NaN counts as larger than
 * all numbers, -0 equals 0, and equal elements keep their order, falling or rising. Complex numbers are
 * ordered by their real parts, then by their imaginary ones (not by we_sort: take from we_argsort).
 * OUT_OF_MEMORY. */
WE_API we_status we_sort(we_array_dtype dtype, int64_t outer, int64_t n, int64_t inner, int descending,
                         const void *in, void *out, we_error *err);
/* Where in the input the elements of the sorted axis are. */
WE_API we_status we_argsort(we_array_dtype dtype, int64_t outer, int64_t n, int64_t inner, int descending,
                            const void *in, int64_t *out, we_error *err);

/* Where each of `count` values belongs in a rising sequence of n: before its equals, or with `right` behind
 * them. sorter: NULL, or places that bring the sequence in order (INVALID_ARGUMENT where one is none). No
 * complex numbers. */
WE_API we_status we_searchsorted(we_array_dtype dtype, int64_t n, const void *sorted, const int64_t *sorter,
                                 int64_t count, const void *values, int right, int64_t *out, we_error *err);

/* The different values of n elements, in order: where the first of each is, how many there are, and for each
 * element which value it has. Arrays have room for n; inverse and counts may be NULL. Every NaN is a value of
 * its own. */
WE_API we_status we_unique(we_array_dtype dtype, int64_t n, const void *in, int64_t *first, int64_t *inverse,
                           int64_t *counts, int64_t *found, we_error *err);

/* ---- Random numbers ---- */

/* A generator: PCG64. Copy it to repeat a stream. One thread at a time. */
typedef struct we_random {
    uint64_t state[2], increment[2]; /* the high half first */
    uint32_t has_half, half;         /* of a draw of 64 bits */
} we_random;

typedef enum we_random_kind { WE_RANDOM_UNIFORM, WE_RANDOM_NORMAL, WE_RANDOM_EXPONENTIAL } we_random_kind;

/* From any number of words; the streams of NumPy's SeedSequence and PCG64. */
WE_API void we_random_seed(we_random *r, const uint32_t *words, size_t count);
/* out = shift + scale * x, x uniform in [0, 1) or of the standard distribution. */
WE_API void we_random_fill(we_random *r, we_random_kind kind, int64_t count, double shift, double scale,
                           double *out);
/* Uniform in [0, 1), of 24 bits. */
WE_API void we_random_fill_f32(we_random *r, int64_t count, float *out);
/* least..least + range, each as likely. */
WE_API void we_random_integers(we_random *r, int64_t least, uint64_t range, int64_t count, int64_t *out);
/* Exchange each of places[first..count), first >= 1, from the last on, with one before or itself; masked:
 * which one is drawn as NumPy's shuffle does, else as its choice does. */
WE_API void we_random_shuffle(we_random *r, int64_t first, int64_t count, int masked, int64_t *places);

#ifdef __cplusplus
}
#endif
#endif
