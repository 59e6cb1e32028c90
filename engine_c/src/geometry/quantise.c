/* Rules of quantised operators. A quantised value q stands for (q - zero point) * scale. */
#include <math.h>

#include "base/dtype.h"
#include "geometry/parts.h"
#include "geometry/quantise.h"
#include "geometry/window.h"
#include "graph/opspec.h"

static int32_t in_type(we_lower *l, int32_t x, we_dtype dtype) {
    return we_lower_tensor(l, x).dtype == dtype ? x : we_emit_cast(l, x, dtype, WE_NEW);
}

static int32_t as_scalar(we_lower *l, int32_t x) {
    return we_lower_tensor(l, x).rank == 0 ? x : we_emit_reshape(l, x, 0, NULL, WE_NEW);
}

static int32_t optional(const we_lower *l, int32_t input) {
    return we_call_input(&l->call, input) ? l->in[input] : -1;
}

/* Floating-point work is done in float64 where an operand is, else in float32. */
static we_dtype wide_of(we_dtype dtype) {
    return dtype == WE_F64 ? WE_F64 : WE_F32;
}

/* ---- Scales and zero points that broadcast to x ---- */

/* Each element of `blocks` repeated over its block of the axis. */
static int32_t repeat_blocks(we_lower *l, int32_t blocks, const we_tensor *x, const we_grain *grain) {
    int64_t outer = we_window_positions(grain->axis, x->dims), n = x->dims[grain->axis], block = grain->block;
    int64_t inner = we_window_positions(x->rank - grain->axis - 1, x->dims + grain->axis + 1);
    int64_t whole = n / block, count = (n + block - 1) / block;
    we_raster raster = {0};
    we_box full = {.rank = 4,
                   .size = {outer, whole, block, inner},
                   .src_stride = {count * inner, inner, 0, 1},
                   .dst_stride = {n * inner, block * inner, inner, 1}};
    we_box cut = {.rank = 3,
                  .size = {outer, n % block, inner},
                  .src_offset = whole * inner,
                  .src_stride = {count * inner, 0, 1},
                  .dst_offset = whole * block * inner,
                  .dst_stride = {n * inner, inner, 1}};
    int32_t out = we_lower_temp(l, we_lower_tensor(l, blocks).dtype, x->rank, x->dims);
    we_raster_add(l, &raster, blocks, &full);
    we_raster_add(l, &raster, blocks, &cut);
    we_emit_raster(l, &raster, out);
    return out;
}

static int32_t spread(we_lower *l, int32_t parameter, const we_tensor *x, const we_grain *grain) {
    int64_t dims[WE_MAX_RANK];
    if (we_lower_tensor(l, parameter).count == 1)
        return as_scalar(l, parameter);
    if (grain->kind == WE_GRAIN_BLOCK)
        return repeat_blocks(l, parameter, x, grain);
    for (int32_t i = 0; i < x->rank; i++)
        dims[i] = i == grain->axis ? x->dims[i] : 1;
    return we_emit_reshape(l, parameter, x->rank, dims, WE_NEW);
}

/* ---- Storing ---- */

static int bits_of(we_dtype dtype) {
    if (dtype == WE_I4 || dtype == WE_U4)
        return 4;
    return dtype == WE_I2 || dtype == WE_U2 ? 2 : 8 * (int)we_dtype_size(dtype);
}

static bool integer_range(we_dtype dtype, double *low, double *high) {
    char kind = we_dtype_kind(dtype);
    double span = ldexp(1, bits_of(dtype));
    *low = kind == 'i' ? -span / 2 : 0;
    *high = *low + span - 1;
    return kind == 'i' || kind == 'u';
}

void we_emit_quantised(we_lower *l, int32_t scaled, int32_t zero_point, int32_t into) {
    we_dtype wide = we_lower_tensor(l, scaled).dtype, dtype = we_lower_tensor(l, into).dtype;
    double low, high;
    bool integer = integer_range(dtype, &low, &high);
    int32_t value = integer ? we_emit_unary(l, WE_UNARY_Round, scaled, WE_NEW) : scaled;
    if (zero_point >= 0)
        value = we_emit_binary(l, WE_BINARY_Add, value, in_type(l, zero_point, wide), WE_NEW);
    if (integer) {
        value = we_emit_binary(l, WE_BINARY_Max, value, we_lower_scalar(l, wide, low), WE_NEW);
        value = we_emit_binary(l, WE_BINARY_Min, value, we_lower_scalar(l, wide, high), WE_NEW);
    }
    we_cast how = {.overflow = we_node_int(l->call.node, "saturate", 1) == 0};
    we_emit_cast_as(l, how, value, dtype, into);
}

void we_rule_quantize(we_lower *l) {
    const we_tensor *x = l->call.in[0], *scale = l->call.in[1];
    we_grain grain;
    we_dtype precision = scale->dtype;
    const char *name = we_node_string(l->call.node, "precision", NULL);
    l->status = we_call_grain(&l->call, scale, &grain);
    if (name)
        we_dtype_find(name, &precision); /* known: shape inference has looked */
    int32_t divisor = in_type(l, spread(l, l->in[1], x, &grain), precision);
    int32_t scaled = we_emit_binary(l, WE_BINARY_Div, in_type(l, l->in[0], precision), divisor, WE_NEW);
    int32_t zero_point = optional(l, 2);
    zero_point = zero_point < 0 ? -1 : spread(l, zero_point, x, &grain);
    we_emit_quantised(l, in_type(l, scaled, wide_of(precision)), zero_point, l->out[0]);
}

/* x less its zero point (-1: none), exactly: as I32 where it is of an integer type. */
static int32_t centred(we_lower *l, int32_t x, int32_t zero_point) {
    we_dtype exact = we_dtype_kind(we_lower_tensor(l, x).dtype) == 'f' ? WE_F32 : WE_I32;
    x = in_type(l, x, exact);
    return zero_point < 0 ? x : we_emit_binary(l, WE_BINARY_Sub, x, in_type(l, zero_point, exact), WE_NEW);
}

void we_rule_dequantize(we_lower *l) {
    const we_tensor *x = l->call.in[0], *scale = l->call.in[1];
    we_dtype wide = wide_of(scale->dtype), dtype = we_lower_tensor(l, l->out[0]).dtype;
    we_grain grain;
    l->status = we_call_grain(&l->call, scale, &grain);
    int32_t zero_point = optional(l, 2);
    zero_point = zero_point < 0 ? -1 : spread(l, zero_point, x, &grain);
    int32_t value = in_type(l, centred(l, l->in[0], zero_point), wide);
    int32_t factor = in_type(l, spread(l, l->in[1], x, &grain), wide);
    int32_t product = we_emit_binary(l, WE_BINARY_Mul, value, factor, dtype == wide ? l->out[0] : WE_NEW);
    if (dtype != wide)
        we_emit_cast(l, product, dtype, l->out[0]);
}

/* The range of x, widened to hold 0, over 255 steps. */
void we_rule_dynamic_quantize(we_lower *l) {
    const bool reduced[WE_MAX_RANK] = {true};
    int64_t count = l->call.in[0]->count;
    int32_t x = we_emit_reshape(l, l->in[0], 1, &count, WE_NEW), zero = we_lower_scalar(l, WE_F32, 0);
    int32_t most = as_scalar(l, we_emit_reduce(l, WE_REDUCE_Max, x, reduced, WE_NEW));
    int32_t least = as_scalar(l, we_emit_reduce(l, WE_REDUCE_Min, x, reduced, WE_NEW));
    int32_t steps = we_lower_scalar(l, WE_F32, 255);
    most = we_emit_binary(l, WE_BINARY_Max, most, zero, WE_NEW);
    least = we_emit_binary(l, WE_BINARY_Min, least, zero, WE_NEW);
    int32_t range = we_emit_binary(l, WE_BINARY_Sub, most, least, WE_NEW);
    we_emit_binary(l, WE_BINARY_Div, range, steps, l->out[1]);
    int32_t below = we_emit_binary(l, WE_BINARY_Div, least, l->out[1], WE_NEW);
    we_emit_quantised(l, we_emit_unary(l, WE_UNARY_Neg, below, WE_NEW), -1, l->out[2]);
    int32_t scaled = we_emit_binary(l, WE_BINARY_Div, l->in[0], l->out[1], WE_NEW);
    we_emit_quantised(l, scaled, l->out[2], l->out[0]);
}

/* ---- Products of bytes, summed in int32 ---- */

/* A parameter per row of a matrix may come without its last dim of 1. */
static int32_t per_row(we_lower *l, int32_t parameter) {
    if (parameter < 0)
        return -1;
    we_tensor p = we_lower_tensor(l, parameter);
    int64_t dims[2] = {p.count, 1};
    if (p.count == 1)
        return as_scalar(l, parameter);
    return p.rank == 1 ? we_emit_reshape(l, parameter, 2, dims, WE_NEW) : parameter;
}

static int32_t per_column(we_lower *l, int32_t parameter) {
    return parameter < 0 || we_lower_tensor(l, parameter).count > 1 ? parameter : as_scalar(l, parameter);
}

/* A parameter per output channel, with `after` dims of 1 behind it. */
static int32_t per_channel(we_lower *l, int32_t parameter, int32_t after) {
    int64_t dims[WE_MAX_RANK] = {1, 1, 1, 1, 1, 1, 1, 1};
    if (parameter < 0)
        return -1;
    dims[0] = we_lower_tensor(l, parameter).count;
    return dims[0] == 1 ? as_scalar(l, parameter) : we_emit_reshape(l, parameter, 1 + after, dims, WE_NEW);
}

void we_rule_matmul_integer(we_lower *l) {
    int32_t a = centred(l, l->in[0], per_row(l, optional(l, 2)));
    int32_t b = centred(l, l->in[1], per_column(l, optional(l, 3)));
    we_emit_product(l, a, b, l->out[0]);
}

/* Kept within the node's `min` and `max`, which are what the result stands for. */
static int32_t limit(we_lower *l, int32_t scaled, int32_t y_scale) {
    static const struct {
        const char *name;
        we_binary_fn fn;
    } LIMITS[] = {{"min", WE_BINARY_Max}, {"max", WE_BINARY_Min}};
    for (int i = 0; i < 2; i++) {
        if (!we_node_attr(l->call.node, LIMITS[i].name))
            continue;
        int32_t bound = we_lower_scalar(l, WE_F32, we_node_float(l->call.node, LIMITS[i].name, 0));
        bound = we_emit_binary(l, WE_BINARY_Div, bound, y_scale, WE_NEW);
        scaled = we_emit_binary(l, LIMITS[i].fn, scaled, bound, WE_NEW);
    }
    return scaled;
}

/* sums * (a_scale * b_scale / y_scale) + bias / y_scale, stored. bias: -1, or of float32. */
static void requantise(we_lower *l, int32_t sums, int32_t a_scale, int32_t b_scale, int32_t bias,
                       int32_t y_scale, int32_t zero_point) {
    int32_t factor =
        we_emit_binary(l, WE_BINARY_Mul, in_type(l, a_scale, WE_F32), in_type(l, b_scale, WE_F32), WE_NEW);
    y_scale = in_type(l, as_scalar(l, y_scale), WE_F32);
    factor = we_emit_binary(l, WE_BINARY_Div, factor, y_scale, WE_NEW);
    int32_t scaled = we_emit_binary(l, WE_BINARY_Mul, in_type(l, sums, WE_F32), factor, WE_NEW);
    if (bias >= 0)
        scaled = we_emit_binary(l, WE_BINARY_Add, scaled,
                                we_emit_binary(l, WE_BINARY_Div, bias, y_scale, WE_NEW), WE_NEW);
    we_emit_quantised(l, limit(l, scaled, y_scale), as_scalar(l, zero_point), l->out[0]);
}

/* Input 8, where it is of that type: int32 is added to sums, float32 to what they stand for. */
static int32_t bias_of(const we_lower *l, we_dtype dtype) {
    int32_t bias = optional(l, 8);
    return bias >= 0 && l->call.in[8]->dtype == dtype ? bias : -1;
}

void we_rule_qlinear_matmul(we_lower *l) {
    we_tensor out = we_lower_tensor(l, l->out[0]);
    int32_t a = centred(l, l->in[0], per_row(l, l->in[2]));
    bool turned = we_node_int(l->call.node, "transB", 0) != 0;
    int32_t b = turned ? we_emit_transpose(l, l->in[3], (const int32_t[]){1, 0}, WE_NEW) : l->in[3];
    b = centred(l, b, per_column(l, l->in[5]));
    int32_t sums = we_emit_product(l, a, b, we_lower_temp(l, WE_I32, out.rank, out.dims));
    if (bias_of(l, WE_I32) >= 0)
        sums = we_emit_binary(l, WE_BINARY_Add, sums, l->in[8], WE_NEW);
    requantise(l, sums, per_row(l, l->in[1]), per_column(l, l->in[4]), bias_of(l, WE_F32), l->in[6],
               l->in[7]);
}

/* The convolution of two centred operands, summed in I32 into `into`. */
static int32_t integer_conv(we_lower *l, int32_t x, int32_t weight, int32_t bias, int32_t into) {
    we_tensor w = we_lower_tensor(l, weight);
    we_window window;
    if (l->status == WE_OK)
        l->status = we_call_window(&l->call, w.dims + 2, &window);
    if (l->status != WE_OK)
        return into;
    return we_emit_conv(l, x, weight, bias, &window, we_node_int(l->call.node, "group", 1), into);
}

void we_rule_conv_integer(we_lower *l) {
    int32_t zero_point = optional(l, 2), rank = l->call.in[0]->rank;
    int32_t x = centred(l, l->in[0], zero_point < 0 ? -1 : as_scalar(l, zero_point));
    int32_t weight = centred(l, l->in[1], per_channel(l, optional(l, 3), rank - 1));
    integer_conv(l, x, weight, -1, l->out[0]);
}

void we_rule_qlinear_conv(we_lower *l) {
    we_tensor out = we_lower_tensor(l, l->out[0]);
    int32_t x = centred(l, l->in[0], as_scalar(l, l->in[2]));
    int32_t weight = centred(l, l->in[3], per_channel(l, l->in[5], out.rank - 1));
    int32_t sums =
        integer_conv(l, x, weight, bias_of(l, WE_I32), we_lower_temp(l, WE_I32, out.rank, out.dims));
    requantise(l, sums, as_scalar(l, l->in[1]), per_channel(l, l->in[4], out.rank - 2),
               per_channel(l, bias_of(l, WE_F32), out.rank - 2), l->in[6], l->in[7]);
}

/* (x - zero point) * (scale / y_scale) of inputs x, x + 1, x + 2. */
static int32_t rescaled(we_lower *l, int32_t x, int32_t y_scale) {
    int32_t factor =
        we_emit_binary(l, WE_BINARY_Div, in_type(l, as_scalar(l, l->in[x + 1]), WE_F32), y_scale, WE_NEW);
    int32_t value = in_type(l, centred(l, l->in[x], as_scalar(l, l->in[x + 2])), WE_F32);
    return we_emit_binary(l, WE_BINARY_Mul, value, factor, WE_NEW);
}

void we_rule_qlinear_add(we_lower *l) {
    int32_t y_scale = in_type(l, as_scalar(l, l->in[6]), WE_F32);
    int32_t sum = we_emit_binary(l, WE_BINARY_Add, rescaled(l, 0, y_scale), rescaled(l, 3, y_scale), WE_NEW);
    we_emit_quantised(l, limit(l, sum, y_scale), as_scalar(l, l->in[7]), l->out[0]);
}

/* The sum over an image times scale / y_scale / positions. */
void we_rule_qlinear_mean(we_lower *l) {
    const we_tensor *x = l->call.in[0];
    bool spatial[WE_MAX_RANK] = {false};
    double positions = 1;
    for (int32_t i = 2; i < x->rank; i++) {
        spatial[i] = true;
        positions *= (double)x->dims[i];
    }
    int32_t y_scale = in_type(l, as_scalar(l, l->in[3]), WE_F32);
    int32_t factor =
        we_emit_binary(l, WE_BINARY_Div, in_type(l, as_scalar(l, l->in[1]), WE_F32), y_scale, WE_NEW);
    factor = we_emit_binary(l, WE_BINARY_Div, factor, we_lower_scalar(l, WE_F32, positions), WE_NEW);
    int32_t sums =
        we_emit_reduce(l, WE_REDUCE_Sum, centred(l, l->in[0], as_scalar(l, l->in[2])), spatial, WE_NEW);
    int32_t scaled = we_emit_binary(l, WE_BINARY_Mul, in_type(l, sums, WE_F32), factor, WE_NEW);
    we_emit_quantised(l, scaled, as_scalar(l, l->in[4]), l->out[0]);
}

/* ---- Products with rows kept in codes ---- */

/* Bytes [n, bytes] as the `count` codes that each row of them holds, I32: low bits first. */
static int32_t unpack(we_lower *l, int32_t bytes, int64_t n, int64_t row, int32_t bits, int64_t count) {
    int64_t flat[2] = {n, row}, wide[3] = {n, row, 8 / bits}, all[2] = {n, row * (8 / bits)};
    int32_t x = we_emit_cast(l, we_emit_reshape(l, bytes, 2, flat, WE_NEW), WE_I32, WE_NEW);
    if (bits < 8) {
        we_raster joined = {0};
        int32_t mask = we_lower_scalar(l, WE_I32, 15), out = we_lower_temp(l, WE_I32, 3, wide);
        int32_t low = we_emit_binary(l, WE_BINARY_BitwiseAnd, x, mask, WE_NEW);
        int32_t high = we_emit_binary(l, WE_BINARY_ShiftRight, x, we_lower_scalar(l, WE_I32, 4), WE_NEW);
        we_box box = {.rank = 1, .size = {n * row}, .src_stride = {1}, .dst_stride = {2}};
        we_raster_add(l, &joined, low, &box);
        box.dst_offset = 1;
        we_raster_add(l, &joined, high, &box);
        we_emit_raster(l, &joined, out);
        x = we_emit_reshape(l, out, 2, all, WE_NEW);
    }
    return we_emit_part(l, x, 1, 0, 1, count);
}

/* Each of [n, blocks] for all `block` entries of its block, the first k of a row. */
static int32_t over_blocks(we_lower *l, int32_t x, const we_coded_rows *rows) {
    we_tensor whole = {.rank = 2, .dims = {rows->n, rows->k}};
    we_grain grain = {.kind = WE_GRAIN_BLOCK, .axis = 1, .block = rows->block};
    return repeat_blocks(l, x, &whole, &grain);
}

void we_rule_matmul_nbits(we_lower *l) {
    we_coded_rows rows;
    l->status = we_call_coded_rows(&l->call, &rows);
    if (l->status != WE_OK)
        return;
    int64_t blocks[2] = {rows.n, rows.blocks}, row = rows.blocks * rows.block * rows.bits / 8;
    int32_t codes = unpack(l, l->in[1], rows.n, row, rows.bits, rows.k), zero_point = optional(l, 3);
    int32_t zero = we_lower_scalar(l, WE_I32, 1 << (rows.bits - 1));
    if (zero_point >= 0) {
        int64_t bytes = (rows.blocks * rows.bits + 7) / 8;
        zero = over_blocks(l, unpack(l, zero_point, rows.n, bytes, rows.bits, rows.blocks), &rows);
    }
    we_dtype dtype = l->call.in[0]->dtype;
    int32_t weight = in_type(l, we_emit_binary(l, WE_BINARY_Sub, codes, zero, WE_NEW), dtype);
    int32_t scale = over_blocks(l, we_emit_reshape(l, l->in[2], 2, blocks, WE_NEW), &rows);
    weight = we_emit_binary(l, WE_BINARY_Mul, weight, scale, WE_NEW);
    we_tensor out = we_lower_tensor(l, l->out[0]);
    we_matmul p = {.m = out.count / rows.n, .k = rows.k, .n = rows.n};
    p.a_row = p.k;
    p.a_column = 1;
    p.b_row = 1;
    p.b_column = p.k;
    we_emit_matmul(l, l->in[0], weight, &p, out.rank, out.dims, l->out[0]);
}
