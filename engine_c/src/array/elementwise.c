/* Element-wise functions, conversions, choices. */
#include "array/loops.h"
#include "base/cpu.h"
#include "base/error.h"
#include "kernels/array_classes.h"

/* ---- Dtypes ---- */

static const struct {
    const char *name;
    char kind;
    int8_t size;
} DTYPES[] = {
#define WE_ARRAY_DTYPE_ROW(NAME, name, type, kind, format, block, per) {#name, kind, sizeof(type)},
#include <walle/array_dtypes.inc>
#undef WE_ARRAY_DTYPE_ROW
};

const char *we_array_dtype_name(we_array_dtype dtype) {
    return DTYPES[dtype].name;
}

char we_array_dtype_kind(we_array_dtype dtype) {
    return DTYPES[dtype].kind;
}

int64_t we_array_dtype_size(we_array_dtype dtype) {
    return DTYPES[dtype].size;
}

we_status we_array_kernels_get(const we_array_kernels **out, we_error *err) {
    uint32_t isas;
    WE_TRY(we_cpu_isas(&isas, err));
    *out = &we_array_kernels__ref;
#if defined(WE_HAVE_X86)
    if (isas >> WE_ISA_AVX512 & 1)
        *out = &we_array_kernels__avx512;
    else if (isas >> WE_ISA_AVX2 & 1)
        *out = &we_array_kernels__avx2;
#endif
#if defined(WE_HAVE_ARM)
    if (isas >> WE_ISA_NEON & 1)
        *out = &we_array_kernels__neon;
#endif
    return WE_OK;
}

/* ---- Steps: the kernels as a loop calls them ---- */

static void unary_step(const void *kernel, int64_t n, void *const *operands) {
    (*(const we_array_unary_kernel *)kernel)(n, operands[0], operands[1]);
}

static void binary_step(const void *kernel, int64_t n, void *const *operands) {
    (*(const we_array_binary_kernel *)kernel)(n, operands[0], operands[1], operands[2]);
}

static void ternary_step(const void *kernel, int64_t n, void *const *operands) {
    (*(const we_array_ternary_kernel *)kernel)(n, operands[0], operands[1], operands[2], operands[3]);
}

static we_array_dtype real_of(we_array_dtype dtype) {
    return dtype == WE_ARRAY_C64 ? WE_ARRAY_F32 : dtype == WE_ARRAY_C128 ? WE_ARRAY_F64 : dtype;
}

/* What a row's RESULT column makes of the dtype it computes in; 0 where there is no row. */
enum { RESULT_SAME = 1, RESULT_BOOL, RESULT_REAL };

#define ENTRY(DT, T, R, W, place, result) [place][WE_ARRAY_##DT] = RESULT_##result,
static const uint8_t UNARY_RESULTS[WE_ARRAY_UNARY_COUNT][WE_ARRAY_DTYPE_COUNT] = {
#define WE_ARRAY_FN(function)
#define WE_ARRAY_ROW(function, class, result, ...) OF_##class(ENTRY, WE_ARRAY_UNARY_##function, result)
#include <walle/array_unary.inc>
#undef WE_ARRAY_ROW
};
static const uint8_t BINARY_RESULTS[WE_ARRAY_BINARY_COUNT][WE_ARRAY_DTYPE_COUNT] = {
#define WE_ARRAY_ROW(function, class, result, ...) OF_##class(ENTRY, WE_ARRAY_BINARY_##function, result)
#include <walle/array_binary.inc>
#undef WE_ARRAY_ROW
#undef WE_ARRAY_FN
};

/* The function's own rows first. Functions of floating numbers take integers as float64, functions of truth
 * values take anything by "is not 0". */
static int find_types(const uint8_t *results, we_array_dtype dtype, we_array_types *out) {
    char kind = we_array_dtype_kind(dtype);
    bool whole = kind == 'b' || kind == 'i' || kind == 'u', takes_whole = results[WE_ARRAY_I64] != 0;
    we_array_dtype computed = dtype;
    if (!results[dtype] && !takes_whole)
        computed = results[WE_ARRAY_BOOL] ? WE_ARRAY_BOOL : whole ? WE_ARRAY_F64 : dtype;
    if (!results[computed])
        return 0;
    out->computed = computed;
    out->result = results[computed] == RESULT_BOOL   ? WE_ARRAY_BOOL
                  : results[computed] == RESULT_REAL ? real_of(computed)
                                                     : computed;
    return 1;
}

int we_array_unary_types(we_array_unary_fn fn, we_array_dtype dtype, we_array_types *out) {
    return find_types(UNARY_RESULTS[fn], dtype, out);
}

int we_array_binary_types(we_array_binary_fn fn, we_array_dtype dtype, we_array_types *out) {
    return find_types(BINARY_RESULTS[fn], dtype, out);
}

/* ---- Functions ---- */

static we_status no_types(const char *function, we_array_dtype dtype, we_error *err) {
    return we_error_set(err, WE_INVALID_ARGUMENT, "%s has no meaning for %s", function,
                        we_array_dtype_name(dtype));
}

/* Functions of the C library take some ten times as long as sums. */
static int64_t grain_of(int transcendental) {
    return transcendental ? 4096 : 0;
}

we_status we_array_unary(we_array_unary_fn fn, const we_array *x, const we_array *out, we_error *err) {
    const we_array_kernels *kernels;
    we_array_types types;
    if (!we_array_unary_types(fn, x->dtype, &types))
        return no_types(we_array_unary_name(fn), x->dtype, err);
    WE_TRY(we_array_kernels_get(&kernels, err));
    we_array_loop loop = {.inputs = 1,
                          .operands = {[1] = *out},
                          .computed = {types.computed, types.result},
                          .step = unary_step,
                          .kernel = &kernels->unary[fn][types.computed],
                          .grain = grain_of(fn >= WE_ARRAY_UNARY_exp && fn <= WE_ARRAY_UNARY_atanh)};
    WE_TRY(we_array_broadcast(x, out, &loop.operands[0], err));
    return we_array_loop_run(&loop, err);
}

we_status we_array_binary(we_array_binary_fn fn, we_array_dtype dtype, const we_array *x, const we_array *y,
                          const we_array *out, we_error *err) {
    const we_array_kernels *kernels;
    we_array_types types;
    if (!we_array_binary_types(fn, dtype, &types))
        return no_types(we_array_binary_name(fn), dtype, err);
    WE_TRY(we_array_kernels_get(&kernels, err));
    we_array_loop loop = {.inputs = 2,
                          .operands = {[2] = *out},
                          .computed = {types.computed, types.computed, types.result},
                          .step = binary_step,
                          .kernel = &kernels->binary[fn][types.computed],
                          .grain = grain_of(fn >= WE_ARRAY_BINARY_floor_divide && fn <= WE_ARRAY_BINARY_pow)};
    WE_TRY(we_array_broadcast(x, out, &loop.operands[0], err));
    WE_TRY(we_array_broadcast(y, out, &loop.operands[1], err));
    return we_array_loop_run(&loop, err);
}

we_status we_array_copy(const we_array *x, const we_array *out, we_error *err) {
    const we_array_kernels *kernels;
    WE_TRY(we_array_kernels_get(&kernels, err));
    we_array_loop loop = {.inputs = 1,
                          .operands = {[1] = *out},
                          .computed = {x->dtype, out->dtype},
                          .step = unary_step,
                          .kernel = &kernels->cast[x->dtype][out->dtype]};
    WE_TRY(we_array_broadcast(x, out, &loop.operands[0], err));
    return we_array_loop_run(&loop, err);
}

static we_status ternary(const we_array_ternary_kernel *kernel, we_array_dtype first, const we_array *x,
                         const we_array *y, const we_array *z, const we_array *out, we_error *err) {
    we_array_loop loop = {.inputs = 3,
                          .operands = {[3] = *out},
                          .computed = {first, out->dtype, out->dtype, out->dtype},
                          .step = ternary_step,
                          .kernel = kernel};
    WE_TRY(we_array_broadcast(x, out, &loop.operands[0], err));
    WE_TRY(we_array_broadcast(y, out, &loop.operands[1], err));
    WE_TRY(we_array_broadcast(z, out, &loop.operands[2], err));
    return we_array_loop_run(&loop, err);
}

we_status we_array_where(const we_array *condition, const we_array *x, const we_array *y, const we_array *out,
                         we_error *err) {
    const we_array_kernels *kernels;
    int width = 0;
    WE_TRY(we_array_kernels_get(&kernels, err));
    while (1 << width < we_array_dtype_size(out->dtype))
        width++;
    return ternary(&kernels->where[width], WE_ARRAY_BOOL, condition, x, y, out, err);
}

we_status we_array_clip(const we_array *x, const we_array *low, const we_array *high, const we_array *out,
                        we_error *err) {
    const we_array_kernels *kernels;
    WE_TRY(we_array_kernels_get(&kernels, err));
    if (!kernels->clip[out->dtype])
        return no_types("clip", out->dtype, err);
    return ternary(&kernels->clip[out->dtype], out->dtype, x, low, high, out, err);
}

/* ---- Names ---- */

const char *we_array_unary_name(we_array_unary_fn fn) {
    static const char *const names[] = {
#define WE_ARRAY_ROW(function, class, result, ...)
#define WE_ARRAY_FN(function) #function,
#include <walle/array_unary.inc>
    };
    return names[fn];
}

const char *we_array_binary_name(we_array_binary_fn fn) {
    static const char *const names[] = {
#include <walle/array_binary.inc>
#undef WE_ARRAY_FN
#undef WE_ARRAY_ROW
    };
    return names[fn];
}
