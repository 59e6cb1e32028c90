/* The kernels of arrays for one instruction set: a file per set defines WE_ARRAY_ISA, the
 * bytes of its vectors (WE_ARRAY_VECTOR), and includes this. The loops are plain C that compilers turn into
 * vectors; those of the C library's functions too where it has vector versions (libmvec). */
#if defined(__GNUC__)
#pragma GCC diagnostic ignored "-Wtype-limits"           /* one formula serves signed and unsigned types */
#pragma GCC diagnostic ignored "-Wunused-local-typedefs" /* T, R and W are there for the formulas */
#endif

#include <math.h>
#include <string.h>

#if defined(WE_HAVE_MVEC) && defined(__GNUC__) && !defined(__clang__)
/* Tell the compiler what <math.h> only tells it under -ffast-math: there are versions of these for whole
 * vectors. */
#define VECTORS1(name)                                                                                       \
    __attribute__((__simd__("notinbranch"), __const__)) double name(double);                                 \
    __attribute__((__simd__("notinbranch"), __const__)) float name##f(float);
#define VECTORS2(name)                                                                                       \
    __attribute__((__simd__("notinbranch"), __const__)) double name(double, double);                         \
    __attribute__((__simd__("notinbranch"), __const__)) float name##f(float, float);
VECTORS1(sin)
VECTORS1(cos)
VECTORS1(tan)
VECTORS1(asin)
VECTORS1(acos)
VECTORS1(atan)
VECTORS1(sinh)
VECTORS1(cosh)
VECTORS1(tanh)
VECTORS1(asinh)
VECTORS1(acosh)
VECTORS1(atanh)
VECTORS1(exp)
VECTORS1(exp2)
VECTORS1(expm1)
VECTORS1(log)
VECTORS1(log2)
VECTORS1(log10)
VECTORS1(log1p)
VECTORS1(cbrt)
VECTORS2(pow)
VECTORS2(atan2)
VECTORS2(hypot)
#endif

#include <tgmath.h>

#include "kernels/array.h"
#include "kernels/array_classes.h"

/* No element depends on another, also where result and operand are one. */
#if defined(__clang__)
#define INDEPENDENT _Pragma("clang loop vectorize(enable)")
#else
#define INDEPENDENT _Pragma("GCC ivdep")
#endif

#define RESULT_SAME T
#define RESULT_REAL R
#define RESULT_BOOL uint8_t
#define RESULT_WIDE W

/* ---- What formulas use beyond tgmath ---- */

/* glibc gives C11's macro to GCC alone; clang has the same built-in function. */
#ifndef CMPLX
#define CMPLX(real, imag) __builtin_complex((double)(real), (double)(imag))
#endif

#define COMPLEX_OF(real, imag) ((T)(CMPLX((double)(real), (double)(imag))))

static inline double floor_divide_f64(double x, double y) {
    double mod = fmod(x, y), quotient = x / y;
    if (y == 0 || quotient != quotient)
        return quotient;
    double whole = (x - mod) / y;
    if (mod != 0 && (y < 0) != (mod < 0))
        whole -= 1;
    if (whole == 0)
        return copysign(0.0, quotient);
    double rounded = floor(whole);
    return whole - rounded > 0.5 ? rounded + 1 : rounded;
}

static inline float floor_divide_f32(float x, float y) {
    return (float)floor_divide_f64(x, y);
}

/* The remainder of Python: it has the sign of y. */
static inline double remainder_f64(double x, double y) {
    double mod = fmod(x, y);
    if (mod == 0)
        return copysign(0.0, y);
    return (y < 0) != (mod < 0) ? mod + y : mod;
}

static inline float remainder_f32(float x, float y) {
    float mod = fmodf(x, y);
    if (mod == 0)
        return copysignf(0.0f, y);
    return (y < 0) != (mod < 0) ? mod + y : mod;
}

#define floor_divide(x, y) _Generic((x), float: floor_divide_f32, double: floor_divide_f64)(x, y)
#define remainder_of(x, y) _Generic((x), float: remainder_f32, double: remainder_f64)(x, y)

static inline uint64_t unsigned_power(uint64_t base, uint64_t exponent) {
    uint64_t result = 1;
    for (; exponent; exponent >>= 1, base *= base)
        result *= exponent & 1 ? base : 1;
    return result;
}

/* Of a negative exponent, the whole part of the result. */
static inline int64_t signed_power(int64_t base, int64_t exponent) {
    if (exponent >= 0)
        return (int64_t)unsigned_power((uint64_t)base, (uint64_t)exponent);
    return base == 1 || base == -1 ? (exponent & 1 ? base : 1) : 0;
}

/* Without what 1 would swallow. */
static inline double _Complex complex_log1p(double _Complex x) {
    double a = creal(x), b = cimag(x);
    return CMPLX(log(hypot(a + 1, b)), atan2(b, a + 1));
}

static inline double _Complex complex_expm1(double _Complex x) {
    double a = creal(x), b = cimag(x), half = sin(b / 2);
    return CMPLX(expm1(a) * cos(b) - 2 * half * half, exp(a) * sin(b));
}

/* ---- Element by element ---- */

#define UNARY(DT, T_, R_, W_, function, result, ...)                                                         \
    static void unary_##function##_##DT(int64_t n, const void *from, void *to) {                             \
        typedef T_ T;                                                                                        \
        typedef R_ R;                                                                                        \
        const T *xs = from;                                                                                  \
        RESULT_##result *out = to;                                                                           \
        INDEPENDENT for (int64_t i = 0; i < n; i++) {                                                        \
            T x = xs[i];                                                                                     \
            (void)(R)0;                                                                                      \
            (void)x;                                                                                         \
            out[i] = (RESULT_##result)(__VA_ARGS__);                                                         \
        }                                                                                                    \
    }
#define WE_ARRAY_FN(function)
#define WE_ARRAY_ROW(function, class, result, ...) OF_##class(UNARY, function, result, __VA_ARGS__)
#include <walle/array_unary.inc>
#undef WE_ARRAY_FN
#undef WE_ARRAY_ROW

#define BINARY(DT, T_, R_, W_, function, result, ...)                                                        \
    static void binary_##function##_##DT(int64_t n, const void *from, const void *with, void *to) {          \
        typedef T_ T;                                                                                        \
        const T *xs = from, *ys = with;                                                                      \
        RESULT_##result *out = to;                                                                           \
        INDEPENDENT for (int64_t i = 0; i < n; i++) {                                                        \
            T x = xs[i], y = ys[i];                                                                          \
            out[i] = (RESULT_##result)(__VA_ARGS__);                                                         \
        }                                                                                                    \
    }
#define WE_ARRAY_FN(function)
#define WE_ARRAY_ROW(function, class, result, ...) OF_##class(BINARY, function, result, __VA_ARGS__)
#include <walle/array_binary.inc>
#undef WE_ARRAY_FN
#undef WE_ARRAY_ROW

#if WE_ARRAY_VECTOR == 64
#include "kernels/simd/array_power.h"
#endif

/* To bool by "is not 0"; floats to integers as C does it. */
#define CAST(DT, T_, R_, W_, FROM, From)                                                                     \
    static void cast_##FROM##_##DT(int64_t n, const void *from, void *to) {                                  \
        const From *xs = from;                                                                               \
        T_ *out = to;                                                                                        \
        INDEPENDENT for (int64_t i = 0; i < n; i++) out[i] = CONVERT_##DT(T_, xs[i]);                        \
    }
#define CONVERT_BOOL(T, x) ((x) != 0)
#define CONVERT_I8(T, x) ((T)(int64_t)(x))
#define CONVERT_I16(T, x) ((T)(int64_t)(x))
#define CONVERT_I32(T, x) ((T)(int64_t)(x))
#define CONVERT_I64(T, x) ((T)(x))
#define CONVERT_U8(T, x) ((T)(int64_t)(x))
#define CONVERT_U16(T, x) ((T)(int64_t)(x))
#define CONVERT_U32(T, x) ((T)(int64_t)(x))
#define CONVERT_U64(T, x) ((T)(x))
#define CONVERT_F32(T, x) ((T)(x))
#define CONVERT_F64(T, x) ((T)(x))
#define CONVERT_C64(T, x) ((T)(x))
#define CONVERT_C128(T, x) ((T)(x))
#define WE_ARRAY_DTYPE_ROW(NAME, name, type, kind, format, block, per) OF_ALL(CAST, NAME, type)
#include <walle/array_dtypes.inc>
#undef WE_ARRAY_DTYPE_ROW

#define CLIP(DT, T_, R_, W_, ...)                                                                            \
    static void clip_##DT(int64_t n, const void *from, const void *low, const void *high, void *to) {        \
        typedef T_ T;                                                                                        \
        const T *xs = from, *ys = low, *zs = high;                                                           \
        T *out = to;                                                                                         \
        INDEPENDENT for (int64_t i = 0; i < n; i++) {                                                        \
            T x = xs[i], y = ys[i], z = zs[i];                                                               \
            x = x < y || y != y ? y : x;                                                                     \
            out[i] = x > z || z != z ? z : x;                                                                \
        }                                                                                                    \
    }
OF_TRUTH(CLIP, 0)
OF_REAL_NUMBER(CLIP, 0)

typedef struct wide_element {
    uint64_t low, high;
} wide_element;

#define WHERE(width, T)                                                                                      \
    static void where_##width(int64_t n, const void *which, const void *yes, const void *no, void *to) {     \
        const uint8_t *cs = which;                                                                           \
        const T *xs = yes, *ys = no;                                                                         \
        T *out = to;                                                                                         \
        INDEPENDENT for (int64_t i = 0; i < n; i++) {                                                        \
            T x = xs[i], y = ys[i];                                                                          \
            out[i] = cs[i] ? x : y;                                                                          \
        }                                                                                                    \
    }
WHERE(1, uint8_t)
WHERE(2, uint16_t)
WHERE(4, uint32_t)
WHERE(8, uint64_t)
WHERE(16, wide_element)

/* ---- Reductions: LANES partial results side by side, over blocks of BLOCK, which keeps the rounding of long
 * sums of float32 within that of a short one; the blocks' are joined in the result's dtype. ---- */

enum {
    LANES = 64,
    BLOCK = 4096,
};

#define LOWEST ((T)((T) - 1 < 0 ? (T)((T)1 << (sizeof(T) * 8 - 1)) : 0))
#define HIGHEST ((T)~LOWEST)

/* The dtype of the lanes: that of the result where that is an integer. */
#define LANE_BOOL(T, W) W
#define LANE_I8(T, W) W
#define LANE_I16(T, W) W
#define LANE_I32(T, W) W
#define LANE_I64(T, W) W
#define LANE_U8(T, W) W
#define LANE_U16(T, W) W
#define LANE_U32(T, W) W
#define LANE_U64(T, W) W
#define LANE_F32(T, W) T
#define LANE_F64(T, W) T
#define LANE_C64(T, W) W
#define LANE_C128(T, W) W

#define REDUCE(DT, T_, R_, W_, function, result, start, ...)                                                 \
    static void reduce_##function##_##DT(int64_t n, const void *from, void *to) {                            \
        typedef T_ T;                                                                                        \
        typedef W_ W;                                                                                        \
        typedef LANE_##result(DT, T, W) L;                                                                   \
        const T *xs = from;                                                                                  \
        RESULT_##result total = *(RESULT_##result *)to;                                                      \
        for (int64_t at = 0; at < n; at += BLOCK) {                                                          \
            int64_t count = n - at < BLOCK ? n - at : BLOCK, i = 0;                                          \
            L lanes[LANES];                                                                                  \
            if (count >= LANES) {                                                                            \
                for (int j = 0; j < LANES; j++)                                                              \
                    lanes[j] = (L)(start);                                                                   \
                for (; i + LANES <= count; i += LANES) {                                                     \
                    for (int j = 0; j < LANES; j++) {                                                        \
                        L a = lanes[j], b = (L)xs[at + i + j];                                               \
                        lanes[j] = (L)(__VA_ARGS__);                                                         \
                    }                                                                                        \
                }                                                                                            \
                for (int half = LANES / 2; half > 0; half /= 2) {                                            \
                    for (int j = 0; j < half; j++) {                                                         \
                        L a = lanes[j], b = lanes[j + half];                                                 \
                        lanes[j] = (L)(__VA_ARGS__);                                                         \
                    }                                                                                        \
                }                                                                                            \
                RESULT_##result a = total, b = (RESULT_##result)lanes[0];                                    \
                total = (RESULT_##result)(__VA_ARGS__);                                                      \
            }                                                                                                \
            for (; i < count; i++) {                                                                         \
                RESULT_##result a = total, b = (RESULT_##result)xs[at + i];                                  \
                total = (RESULT_##result)(__VA_ARGS__);                                                      \
            }                                                                                                \
        }                                                                                                    \
        *(RESULT_##result *)to = total;                                                                      \
    }
#define LANE_SAME(DT, T, W) T
#define LANE_WIDE(DT, T, W) LANE_##DT(T, W)
#define WE_ARRAY_FN(function, joins)
#define WE_ARRAY_ROW(function, class, result, start, ...)                                                    \
    OF_##class(REDUCE, function, result, start, __VA_ARGS__)
#include <walle/array_reduce.inc>
#undef WE_ARRAY_FN
#undef WE_ARRAY_ROW

#define ACCUMULATE(DT, T_, R_, W_, function, ...)                                                            \
    static void accumulate_##function##_##DT(int64_t n, const void *from, void *to, void *state) {           \
        typedef T_ T;                                                                                        \
        const T *xs = from;                                                                                  \
        T *out = to, a = *(T *)state;                                                                        \
        for (int64_t i = 0; i < n; i++) {                                                                    \
            T b = xs[i];                                                                                     \
            out[i] = a = (T)(__VA_ARGS__);                                                                   \
        }                                                                                                    \
        *(T *)state = a;                                                                                     \
    }
OF_NUMERIC(ACCUMULATE, sum, a + b)
OF_NUMERIC(ACCUMULATE, prod, a *b)

/* Block by block: the reduction of each, which lies in the cache then, tells whether it holds a new best. */
#define FIND(DT, T_, R_, W_, function)                                                                       \
    static int64_t find_##function##_##DT(int64_t n, const void *from) {                                     \
        const T_ *xs = from;                                                                                 \
        T_ best = xs[0];                                                                                     \
        int64_t at = 0;                                                                                      \
        for (int64_t block = 0; block < n && best == best; block += BLOCK) {                                 \
            T_ own = xs[block];                                                                              \
            reduce_##function##_##DT(n - block < BLOCK ? n - block : BLOCK, xs + block, &own);               \
            if (own != own || (own != best && FIND_##function(own, best))) {                                 \
                best = own;                                                                                  \
                at = block;                                                                                  \
            }                                                                                                \
        }                                                                                                    \
        while (at < n - 1 && !(xs[at] == best || xs[at] != xs[at]))                                          \
            at++;                                                                                            \
        return at;                                                                                           \
    }
#define FIND_max(own, best) ((own) > (best))
#define FIND_min(own, best) ((own) < (best))
OF_TRUTH(FIND, max)
OF_REAL_NUMBER(FIND, max)
OF_TRUTH(FIND, min)
OF_REAL_NUMBER(FIND, min)

#define SPREAD(DT, T, R, W, ...)                                                                             \
    static void spread_##DT(int64_t n, const void *from, const void *centre, double *sum) {                  \
        const T *xs = from;                                                                                  \
        double mean = *(const double *)centre, total = *sum;                                                 \
        double lanes[LANES] = {0};                                                                           \
        int64_t i = 0;                                                                                       \
        for (; i + LANES <= n; i += LANES) {                                                                 \
            for (int j = 0; j < LANES; j++) {                                                                \
                double d = (double)xs[i + j] - mean;                                                         \
                lanes[j] += d * d;                                                                           \
            }                                                                                                \
        }                                                                                                    \
        for (int j = 0; j < LANES; j++)                                                                      \
            total += lanes[j];                                                                               \
        for (; i < n; i++) {                                                                                 \
            double d = (double)xs[i] - mean;                                                                 \
            total += d * d;                                                                                  \
        }                                                                                                    \
        *sum = total;                                                                                        \
    }
OF_REAL_NUMBER(SPREAD, 0)

/* ---- Products ---- */

#define PRODUCT(DT, T_, R_, W_, ...)                                                                         \
    static void axpy_##DT(int64_t n, const void *factor, const void *from, void *to) {                       \
        typedef T_ T;                                                                                        \
        T a = *(const T *)factor;                                                                            \
        const T *xs = from;                                                                                  \
        T *ys = to;                                                                                          \
        INDEPENDENT for (int64_t i = 0; i < n; i++) ys[i] += a * xs[i];                                      \
    }                                                                                                        \
    static void dot_##DT(int64_t n, const void *from, const void *with, void *to) {                          \
        typedef T_ T;                                                                                        \
        const T *xs = from, *ys = with;                                                                      \
        T lanes[LANES] = {0}, total = 0;                                                                     \
        int64_t i = 0;                                                                                       \
        for (; i + LANES <= n; i += LANES) {                                                                 \
            for (int j = 0; j < LANES; j++)                                                                  \
                lanes[j] += xs[i + j] * ys[i + j];                                                           \
        }                                                                                                    \
        for (int half = LANES / 2; half > 0; half /= 2) {                                                    \
            for (int j = 0; j < half; j++)                                                                   \
                lanes[j] += lanes[j + half];                                                                 \
        }                                                                                                    \
        total = lanes[0];                                                                                    \
        for (; i < n; i++)                                                                                   \
            total += xs[i] * ys[i];                                                                          \
        *(T *)to = total;                                                                                    \
    }
OF_NUMERIC(PRODUCT, 0)

/* ---- The table ---- */

#define GLUE_(a, b) a##b
#define GLUE(a, b) GLUE_(a, b)
#define UNARY_ENTRY(DT, T, R, W, function)                                                                   \
    [WE_ARRAY_UNARY_##function][WE_ARRAY_##DT] = unary_##function##_##DT,
#define BINARY_ENTRY(DT, T, R, W, function)                                                                  \
    [WE_ARRAY_BINARY_##function][WE_ARRAY_##DT] = binary_##function##_##DT,
#define REDUCE_ENTRY(DT, T, R, W, function)                                                                  \
    [WE_ARRAY_REDUCE_##function][WE_ARRAY_##DT] = reduce_##function##_##DT,
#define CAST_ENTRY(DT, T, R, W, FROM) [WE_ARRAY_##FROM][WE_ARRAY_##DT] = cast_##FROM##_##DT,
#define CLIP_ENTRY(DT, T, R, W, ...) [WE_ARRAY_##DT] = clip_##DT,
#define ACCUMULATE_ENTRY(DT, T, R, W, function)                                                              \
    [WE_ARRAY_REDUCE_##function][WE_ARRAY_##DT] = accumulate_##function##_##DT,
#define FIND_ENTRY(DT, T, R, W, function, place) [place][WE_ARRAY_##DT] = find_##function##_##DT,
#define AXPY_ENTRY(DT, T, R, W, ...) [WE_ARRAY_##DT] = axpy_##DT,
#define DOT_ENTRY(DT, T, R, W, ...) [WE_ARRAY_##DT] = dot_##DT,
#define SPREAD_ENTRY(DT, T, R, W, ...) [WE_ARRAY_##DT] = spread_##DT,

const we_array_kernels GLUE(we_array_kernels__, WE_ARRAY_ISA) = {
#define WE_ARRAY_FN(function)
#define WE_ARRAY_ROW(function, class, result, ...) OF_##class(UNARY_ENTRY, function)
    .unary =
        {
#include <walle/array_unary.inc>
        },
#undef WE_ARRAY_ROW
#define WE_ARRAY_ROW(function, class, result, ...) OF_##class(BINARY_ENTRY, function)
    .binary =
        {
#include <walle/array_binary.inc>
        },
#undef WE_ARRAY_ROW
#undef WE_ARRAY_FN
#define WE_ARRAY_FN(function, joins)
#define WE_ARRAY_ROW(function, class, result, ...) OF_##class(REDUCE_ENTRY, function)
    .reduce =
        {
#include <walle/array_reduce.inc>
        },
#undef WE_ARRAY_ROW
#undef WE_ARRAY_FN
#define WE_ARRAY_DTYPE_ROW(NAME, name, type, kind, format, block, per) OF_ALL(CAST_ENTRY, NAME)
    .cast =
        {
#include <walle/array_dtypes.inc>
        },
#undef WE_ARRAY_DTYPE_ROW
    .clip = {OF_TRUTH(CLIP_ENTRY, 0) OF_REAL_NUMBER(CLIP_ENTRY, 0)},
    .where = {where_1, where_2, where_4, where_8, where_16},
    .accumulate = {OF_NUMERIC(ACCUMULATE_ENTRY, sum) OF_NUMERIC(ACCUMULATE_ENTRY, prod)},
    .find = {OF_TRUTH(FIND_ENTRY, max, 0) OF_REAL_NUMBER(FIND_ENTRY, max, 0) OF_TRUTH(FIND_ENTRY, min, 1)
                 OF_REAL_NUMBER(FIND_ENTRY, min, 1)},
    .axpy = {OF_NUMERIC(AXPY_ENTRY, 0)},
    .dot = {OF_NUMERIC(DOT_ENTRY, 0)},
    .spread = {OF_REAL_NUMBER(SPREAD_ENTRY, 0)},
};
