/* Gradients of reductions, seen as [outer, k, inner] to [outer, 1, inner]. */
#include "geometry/parts.h"
#include "grad/grad.h"

typedef struct folded {
    we_lower *l;
    we_dtype dtype;
    int64_t outer, k, inner;
    int32_t g; /* [outer, 1, inner] */
    we_gradients *gradients;
    const we_command *command;
} folded;

static int32_t as(we_lower *l, int32_t x, int64_t outer, int64_t k, int64_t inner) {
    return we_emit_reshape(l, x, 3, (int64_t[]){outer, k, inner}, WE_NEW);
}

/* The operand, [outer, k, inner]; a sum does not ask for it. */
static int32_t operand(const folded *f) {
    return as(f->l, we_grad_read(f->gradients, f->command, 0), f->outer, f->k, f->inner);
}

static int32_t number(const folded *f, double value) {
    return we_lower_scalar(f->l, f->dtype, value);
}

static int32_t binary(const folded *f, we_binary_fn fn, int32_t a, int32_t b) {
    return we_emit_binary(f->l, fn, a, b, WE_NEW);
}

/* Every element counts once. */
static int32_t reduce_Sum(const folded *f) {
    int64_t dims[3] = {f->outer, f->k, f->inner};
    int32_t whole = we_lower_temp(f->l, f->dtype, 3, dims);
    we_box box = {.rank = 3, .size = {f->outer, f->k, f->inner}, .src_stride = {f->inner, 0, 1}};
    we_raster raster = {0};
    we_strides(3, dims, box.dst_stride);
    we_raster_add(f->l, &raster, f->g, &box);
    we_emit_raster(f->l, &raster, whole);
    return whole;
}

/* The product of the others: y / x, where no other is 0; where one alone is, it has what the others make. */
static int32_t reduce_Prod(const folded *f) {
    we_lower *l = f->l;
    const bool middle[WE_MAX_RANK] = {false, true};
    int32_t zero = number(f, 0), one = number(f, 1), x = operand(f);
    int32_t is_zero = binary(f, WE_BINARY_Equal, x, zero);
    int32_t full = we_emit_select(l, is_zero, one, x, WE_NEW);
    int32_t rest = we_emit_reduce(l, WE_REDUCE_Prod, full, middle, WE_NEW);
    int32_t zeros =
        we_emit_reduce(l, WE_REDUCE_Sum, we_emit_select(l, is_zero, one, zero, WE_NEW), middle, WE_NEW);
    int32_t if_none = we_emit_select(l, binary(f, WE_BINARY_Equal, zeros, zero), rest, zero, WE_NEW);
    int32_t if_one = we_emit_select(l, binary(f, WE_BINARY_Equal, zeros, one), rest, zero, WE_NEW);
    int32_t others = we_emit_select(l, is_zero, if_one, binary(f, WE_BINARY_Div, if_none, full), WE_NEW);
    return binary(f, WE_BINARY_Mul, others, f->g);
}

/* The first of the equals that is the result has all of it. */
static int32_t extreme(const folded *f, bool largest) {
    int32_t chosen = we_emit_arg(f->l, largest, false, operand(f), 1, WE_NEW);
    int32_t places = we_emit_range(f->l, 0, 3, (int64_t[]){1, f->k, 1});
    int32_t hit = binary(f, WE_BINARY_Equal, places, chosen);
    return we_emit_select(f->l, hit, f->g, number(f, 0), WE_NEW);
}

static int32_t reduce_Max(const folded *f) {
    return extreme(f, true);
}

static int32_t reduce_Min(const folded *f) {
    return extreme(f, false);
}

static int32_t reduced(const folded *f, we_reduce_fn fn) {
    switch (fn) {
#define WE_REDUCE_FN(Name, name, empty, step)                                                                \
    case WE_REDUCE_##Name:                                                                                   \
        return reduce_##Name(f);
#include "kernels/reduce_fns.inc"
#undef WE_REDUCE_FN
    default:
        return f->g;
    }
}

void we_grad_reduce(we_gradients *g, const we_command *command, int32_t of_out) {
    we_lower *l = g->l;
    int64_t outer = command->u.reduce.outer, k = command->u.reduce.k, inner = command->u.reduce.inner;
    folded f = {.l = l,
                .dtype = we_lower_tensor(l, of_out).dtype,
                .outer = outer,
                .k = k,
                .inner = inner,
                .g = as(l, of_out, outer, 1, inner),
                .gradients = g,
                .command = command};
    we_grad_add(g, command->in[0], reduced(&f, command->u.reduce.fn));
}
