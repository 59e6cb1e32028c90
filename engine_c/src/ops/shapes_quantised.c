/* Shape functions of quantised operators. */
#include <string.h>

#include "base/dtype.h"
#include "base/error.h"
#include "ops/shapes.h"

static void set(const we_tensor *x, we_dtype dtype, we_tensor *out) {
    out->dtype = dtype;
    out->rank = x->rank;
    memcpy(out->dims, x->dims, sizeof out->dims);
}

we_status we_call_grain(const we_call *call, const we_tensor *scale, we_grain *out) {
    const we_tensor *x = call->in[0];
    int64_t block = we_node_int(call->node, "block_size", 0), axis = we_node_int(call->node, "axis", 1);
    *out = (we_grain){.kind = WE_GRAIN_TENSOR};
    if (block < 0)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "attribute 'block_size' is negative");
    if (block == 0 && scale->count == 1 && scale->rank <= 1)
        return WE_OK;
    out->kind = block ? WE_GRAIN_BLOCK : WE_GRAIN_AXIS;
    out->block = block;
    WE_TRY(we_call_axis(call, axis, x->rank, &out->axis));
    bool fits = block ? scale->rank == x->rank : scale->rank == 1;
    if (!block)
        fits = fits && scale->dims[0] == x->dims[out->axis];
    for (int32_t i = 0; block && fits && i < x->rank; i++)
        fits = scale->dims[i] == (i == out->axis ? (x->dims[i] + block - 1) / block : x->dims[i]);
    return fits
               ? WE_OK
               : WE_CALL_FAIL(call, WE_INVALID_MODEL,
                              "the scale must have one element, one per entry of the axis, or one per block");
}

static we_status check_zero_point(const we_call *call, const we_tensor *scale, const we_tensor *zero_point) {
    bool same =
        !zero_point || zero_point->rank == scale->rank || (zero_point->count == 1 && scale->count == 1);
    for (int32_t i = 0; zero_point && same && zero_point->count != 1 && i < scale->rank; i++)
        same = zero_point->dims[i] == scale->dims[i];
    return same ? WE_OK : WE_CALL_FAIL(call, WE_INVALID_MODEL, "scale and zero point have different shapes");
}

static we_status check_scale(const we_call *call, const we_tensor *scale) {
    if (we_dtype_kind(scale->dtype) != 'f')
        return WE_CALL_FAIL(call, WE_UNSUPPORTED, "the scale must be of a floating-point type");
    return WE_OK;
}

we_status we_shape_quantize(const we_call *call, we_tensor *out) {
    const we_tensor *zero_point = we_call_input(call, 2);
    we_dtype dtype = zero_point ? zero_point->dtype : WE_U8;
    we_dtype precision;
    we_grain grain;
    WE_TRY(we_call_dtype(call, "output_dtype", dtype, &dtype));
    WE_TRY(we_call_dtype(call, "precision", WE_F32, &precision));
    if (zero_point && zero_point->dtype != dtype)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "the zero point has another type than the result");
    WE_TRY(check_scale(call, call->in[1]));
    WE_TRY(we_call_grain(call, call->in[1], &grain));
    WE_TRY(check_zero_point(call, call->in[1], zero_point));
    set(call->in[0], dtype, out);
    return WE_OK;
}

we_status we_shape_dequantize(const we_call *call, we_tensor *out) {
    const we_tensor *zero_point = we_call_input(call, 2);
    we_dtype dtype = call->in[1]->dtype;
    we_grain grain;
    WE_TRY(we_call_dtype(call, "output_dtype", dtype, &dtype));
    if (zero_point && zero_point->dtype != call->in[0]->dtype)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "the zero point has another type than the input");
    if (we_dtype_kind(dtype) != 'f')
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "the result must be of a floating-point type");
    WE_TRY(check_scale(call, call->in[1]));
    WE_TRY(we_call_grain(call, call->in[1], &grain));
    WE_TRY(check_zero_point(call, call->in[1], zero_point));
    set(call->in[0], dtype, out);
    return WE_OK;
}

we_status we_shape_dynamic_quantize(const we_call *call, we_tensor *out) {
    if (call->in[0]->dtype != WE_F32 || call->in[0]->count == 0)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "a float32 tensor that is not empty is required");
    set(call->in[0], WE_U8, &out[0]);
    out[1].dtype = WE_F32;
    out[2].dtype = WE_U8;
    out[1].rank = out[2].rank = 0;
    return WE_OK;
}

static bool is_byte(const we_tensor *x) {
    return x->dtype == WE_I8 || x->dtype == WE_U8;
}

/* Infer as the plain operator does on inputs `a`, `b` of int32 without a third input. */
static we_status as_plain(const we_call *call, int32_t a, int32_t b, bool conv, we_dtype dtype,
                          we_tensor *out) {
    if (!is_byte(call->in[a]) || !is_byte(call->in[b]))
        return WE_CALL_FAIL(call, WE_UNSUPPORTED, "both operands must be I8 or U8");
    we_tensor wide[2] = {*call->in[a], *call->in[b]};
    wide[0].dtype = wide[1].dtype = WE_I32;
    if (!conv && we_node_int(call->node, "transB", 0)) {
        if (wide[1].rank != 2)
            return WE_CALL_FAIL(call, WE_UNSUPPORTED, "only a matrix is transposed");
        wide[1].dims[0] = call->in[b]->dims[1];
        wide[1].dims[1] = call->in[b]->dims[0];
    }
    const we_tensor *in[2] = {&wide[0], &wide[1]};
    we_node node = *call->node;
    node.input_count = 2;
    we_call plain = {.graph = call->graph, .node = &node, .in = in, .err = call->err};
    WE_TRY(conv ? we_shape_conv(&plain, out) : we_shape_matmul(&plain, out));
    out->dtype = dtype;
    return WE_OK;
}

/* The zero point (or scale) is one number, or one per entry of that axis of x, alone or in place. */
static we_status check_per_axis(const we_call *call, int32_t of, int32_t axis_from_end, int32_t input) {
    const we_tensor *x = call->in[of], *p = we_call_input(call, input);
    if (!p || p->count == 1)
        return WE_OK;
    int64_t wanted = x->rank >= axis_from_end ? x->dims[x->rank - axis_from_end] : 1;
    bool fits = p->rank == 1 && p->dims[0] == wanted;
    if (p->rank == x->rank && p->rank > 1) {
        fits = true;
        for (int32_t i = 0; i < p->rank; i++)
            fits = fits && p->dims[i] == (i == x->rank - 1 - (axis_from_end == 1 ? 1 : 0) ? 1 : x->dims[i]);
    }
    return fits ? WE_OK
                : WE_CALL_FAIL(call, WE_INVALID_MODEL,
                               "input %d must have one element, or one per row or column", (int)input);
}

static we_status check_single(const we_call *call, int32_t input) {
    const we_tensor *p = we_call_input(call, input);
    return !p || p->count == 1
               ? WE_OK
               : WE_CALL_FAIL(call, WE_INVALID_MODEL, "input %d must have one element", (int)input);
}

/* Of QLinearConv and QLinearMatMul: one entry per channel or column. */
static we_status check_bias(const we_call *call, int64_t count) {
    const we_tensor *bias = we_call_input(call, 8);
    bool typed = !bias || bias->dtype == WE_I32 || bias->dtype == WE_F32;
    return typed && (!bias || (bias->rank == 1 && bias->dims[0] == count))
               ? WE_OK
               : WE_CALL_FAIL(call, WE_INVALID_MODEL,
                              "the bias must be I32 (or F32) with one entry per channel or column");
}

we_status we_shape_matmul_integer(const we_call *call, we_tensor *out) {
    WE_TRY(as_plain(call, 0, 1, false, WE_I32, out));
    WE_TRY(check_per_axis(call, 0, 2, 2));
    return check_per_axis(call, 1, 1, 3);
}

we_status we_shape_qlinear_matmul(const we_call *call, we_tensor *out) {
    int32_t columns = we_node_int(call->node, "transB", 0) ? 2 : 1;
    WE_TRY(as_plain(call, 0, 3, false, call->in[7]->dtype, out));
    for (int32_t i = 1; i <= 2; i++) {
        WE_TRY(check_per_axis(call, 0, 2, i));
        WE_TRY(check_per_axis(call, 3, columns, 3 + i));
    }
    WE_TRY(check_single(call, 6));
    WE_TRY(check_single(call, 7));
    const we_tensor *b = call->in[3];
    return check_bias(call, b->rank >= columns ? b->dims[b->rank - columns] : 1);
}

static we_status check_per_channel(const we_call *call, const we_tensor *weight, int32_t input) {
    const we_tensor *p = we_call_input(call, input);
    return !p || p->count == 1 || (p->rank == 1 && p->dims[0] == weight->dims[0])
               ? WE_OK
               : WE_CALL_FAIL(call, WE_INVALID_MODEL, "input %d must have one element, or one per channel",
                              (int)input);
}

we_status we_shape_conv_integer(const we_call *call, we_tensor *out) {
    WE_TRY(as_plain(call, 0, 1, true, WE_I32, out));
    WE_TRY(check_single(call, 2));
    return check_per_channel(call, call->in[1], 3);
}

we_status we_shape_qlinear_conv(const we_call *call, we_tensor *out) {
    const we_tensor *weight = call->in[3];
    WE_TRY(as_plain(call, 0, 3, true, call->in[7]->dtype, out));
    for (int32_t i = 1; i <= 2; i++) {
        WE_TRY(check_single(call, i));
        WE_TRY(check_single(call, 5 + i));
        WE_TRY(check_per_channel(call, weight, 3 + i));
    }
    return check_bias(call, weight->dims[0]);
}

we_status we_shape_qlinear_add(const we_call *call, we_tensor *out) {
    const we_tensor *a = call->in[0], *b = call->in[3];
    if (!is_byte(a) || !is_byte(b) || !is_byte(call->in[7]))
        return WE_CALL_FAIL(call, WE_UNSUPPORTED, "operands and result must be I8 or U8");
    for (int32_t i = 1; i < 8; i++) {
        if (i != 3)
            WE_TRY(check_single(call, i));
    }
    if (!we_broadcast(a->rank, a->dims, b->rank, b->dims, &out->rank, out->dims))
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "the shapes do not broadcast together");
    out->dtype = call->in[7]->dtype;
    return WE_OK;
}

we_status we_shape_qlinear_mean(const we_call *call, we_tensor *out) {
    const we_tensor *x = call->in[0];
    if (!is_byte(x) || !is_byte(call->in[4]))
        return WE_CALL_FAIL(call, WE_UNSUPPORTED, "input and result must be I8 or U8");
    if (x->rank < 3)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "images [N, C, spatial...] are required");
    for (int32_t i = 1; i < 5; i++)
        WE_TRY(check_single(call, i));
    set(x, call->in[4]->dtype, out);
    for (int32_t i = 2; i < x->rank; i++)
        out->dims[i] = 1;
    return WE_OK;
}

static bool has_count(const we_tensor *x, we_dtype dtype, int64_t count) {
    return !x || (x->dtype == dtype && x->count == count);
}

we_status we_call_coded_rows(const we_call *call, we_coded_rows *out) {
    enum { LARGEST = 1 << 30 }; /* of any size; keeps their products far from overflow */
    const we_node *node = call->node;
    int64_t k = we_node_int(node, "K", 0), n = we_node_int(node, "N", 0);
    int64_t bits = we_node_int(node, "bits", 4), block = we_node_int(node, "block_size", 0);
    if (k < 1 || n < 1 || k > LARGEST || n > LARGEST)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "attributes 'K' and 'N' must be positive");
    if (block < 16 || block > LARGEST || block % 16)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "attribute 'block_size' must be a multiple of 16");
    if (bits != 4 && bits != 8)
        return WE_CALL_FAIL(call, WE_UNSUPPORTED, "only codes of 4 and 8 bits are known");
    *out = (we_coded_rows){
        .n = n, .k = k, .block = block, .blocks = (k + block - 1) / block, .bits = (int32_t)bits};
    int64_t blob = block * bits / 8;
    if (!has_count(call->in[1], WE_U8, n * out->blocks * blob))
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "the codes must be U8: N rows of blocks");
    if (!has_count(call->in[2], call->in[0]->dtype, n * out->blocks))
        return WE_CALL_FAIL(call, WE_INVALID_MODEL,
                            "there must be one scale per block, of the type of the first input");
    if (!has_count(we_call_input(call, 3), WE_U8, n * ((out->blocks * bits + 7) / 8)))
        return WE_CALL_FAIL(call, WE_INVALID_MODEL,
                            "the zero points must be U8: a code per block, packed by row");
    return WE_OK;
}

we_status we_shape_matmul_nbits(const we_call *call, we_tensor *out) {
    const we_tensor *x = call->in[0];
    we_coded_rows rows;
    WE_TRY(we_call_coded_rows(call, &rows));
    if (we_dtype_kind(x->dtype) != 'f')
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "codes are multiplied by floating-point numbers");
    if (x->rank < 1 || x->dims[x->rank - 1] != rows.k)
        return WE_CALL_FAIL(call, WE_INVALID_MODEL, "the last dim of the first input must be K");
    set(x, x->dtype, out);
    out->dims[x->rank - 1] = rows.n;
    return WE_OK;
}
