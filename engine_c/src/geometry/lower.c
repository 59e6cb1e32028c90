#include "geometry/lower.h"

#include <math.h>
#include <string.h>

#include "base/dtype.h"
#include "base/error.h"
#include "graph/opspec.h"

static const we_rule RULES[] = {
#define WE_OP_ROW(Name, CLASS, min_in, max_in, min_out, max_out, shape, rule, tolerance, value)              \
    we_rule_##rule,
#include "ops/ops.inc"
#undef WE_OP_ROW
};

we_rule we_rule_of(int32_t op) {
    return RULES[op];
}

void we_rule_none(we_lower *l) {
    we_lower_fail(l, WE_INVALID_MODEL, "this operator is internal");
}

void we_lower_fail(we_lower *l, we_status status, const char *message) {
    if (l->status == WE_OK)
        l->status = WE_CALL_FAIL(&l->call, status, "%s", message);
}

static void no_memory(we_lower *l) {
    if (l->status == WE_OK)
        l->status = we_error_no_memory(l->call.err);
}

we_tensor we_lower_tensor(const we_lower *l, int32_t tensor) {
    return l->status == WE_OK ? l->program->tensors[tensor] : (we_tensor){.alias_of = -1};
}

static int32_t add_tensor(we_lower *l, we_tensor_kind kind, we_dtype dtype, int32_t rank, const int64_t *dims,
                          const void *data) {
    we_tensor tensor = {.kind = kind, .dtype = dtype, .rank = rank, .data = data, .alias_of = -1};
    int32_t index = 0;
    if (l->status != WE_OK)
        return 0;
    if (rank)
        memcpy(tensor.dims, dims, (size_t)rank * sizeof *dims);
    if (!we_shape_count(rank, dims, dtype, &tensor.count))
        we_lower_fail(l, WE_OUT_OF_MEMORY, "an intermediate result would be absurdly large");
    else
        l->status = we_program_tensor(l->program, &tensor, &index, l->call.err);
    return index;
}

int32_t we_lower_temp(we_lower *l, we_dtype dtype, int32_t rank, const int64_t *dims) {
    return add_tensor(l, WE_TENSOR_TEMP, dtype, rank, dims, NULL);
}

int32_t we_lower_constant(we_lower *l, we_dtype dtype, int32_t rank, const int64_t *dims, void **data) {
    int64_t count = 0;
    *data = NULL;
    if (l->status != WE_OK)
        return 0;
    if (!we_shape_count(rank, dims, dtype, &count) ||
        !(*data = we_arena_new(&l->program->arena, (size_t)count * we_dtype_size(dtype)))) {
        no_memory(l);
        return 0;
    }
    return add_tensor(l, WE_TENSOR_CONST, dtype, rank, dims, *data);
}

int32_t we_lower_scalar(we_lower *l, we_dtype dtype, double value) {
    void *data;
    int32_t wide = we_lower_constant(l, WE_F64, 0, NULL, &data);
    if (data)
        *(double *)data = value;
    return dtype == WE_F64 ? wide : we_emit_cast(l, wide, dtype, WE_NEW);
}

static void emit(we_lower *l, we_command command) {
    if (l->status != WE_OK)
        return;
    command.node = l->node;
    l->status = we_program_command(l->program, &command, l->call.err);
}

we_dtype we_compute_type(we_dtype dtype) {
    switch (dtype) {
    case WE_F32:
    case WE_F16:
    case WE_BF16:
    case WE_F8_E4M3:
    case WE_F8_E4M3FNUZ:
    case WE_F8_E5M2:
    case WE_F8_E5M2FNUZ:
    case WE_F8_E8M0:
    case WE_F4_E2M1:
        return WE_F32;
    case WE_I32:
    case WE_I16:
    case WE_U16:
    case WE_I8:
    case WE_U8:
    case WE_BOOL:
    case WE_I4:
    case WE_U4:
    case WE_I2:
    case WE_U2:
        return WE_I32;
    case WE_I64:
    case WE_U32:
        return WE_I64;
    case WE_F64:
        return WE_F64;
    case WE_U64:
        return WE_U64;
    default:
        return WE_DTYPE_COUNT;
    }
}

/* x in the type it is computed in. */
static int32_t widened(we_lower *l, int32_t x) {
    we_dtype dtype = we_lower_tensor(l, x).dtype, computed = we_compute_type(dtype);
    if (computed == WE_DTYPE_COUNT) {
        we_lower_fail(l, WE_UNSUPPORTED, "this type has no arithmetic");
        return x;
    }
    return dtype == computed ? x : we_emit_cast(l, x, computed, WE_NEW);
}

/* Where to compute a result that is to be stored in `into` (of a possibly narrower type). */
static int32_t compute_target(we_lower *l, int32_t into, we_dtype computed) {
    we_tensor target = we_lower_tensor(l, into);
    return target.dtype == computed ? into : we_lower_temp(l, computed, target.rank, target.dims);
}

static int32_t narrowed(we_lower *l, int32_t from, int32_t into) {
    return from == into ? into : we_emit_cast(l, from, we_lower_tensor(l, into).dtype, into);
}

int32_t we_emit_cast(we_lower *l, int32_t x, we_dtype dtype, int32_t into) {
    return we_emit_cast_as(l, (we_cast){0}, x, dtype, into);
}

int32_t we_emit_cast_as(we_lower *l, we_cast how, int32_t x, we_dtype dtype, int32_t into) {
    we_tensor from = we_lower_tensor(l, x);
    if (into == WE_NEW)
        into = we_lower_temp(l, dtype, from.rank, from.dims);
    emit(l, (we_command){.kind = WE_COMMAND_CAST, .in = {x, -1, -1}, .out = into, .u.cast = how});
    return into;
}

int32_t we_emit_unary(we_lower *l, we_unary_fn fn, int32_t x, int32_t into) {
    we_tensor from = we_lower_tensor(l, x);
    if (into == WE_NEW)
        into = we_lower_temp(l, from.dtype, from.rank, from.dims);
    int32_t wide = widened(l, x);
    we_dtype computed = we_lower_tensor(l, wide).dtype;
    if (l->status == WE_OK && !l->kernels->unary[fn][computed])
        we_lower_fail(l, WE_UNSUPPORTED, "not defined for this type: insert a Cast to F32");
    int32_t out = compute_target(l, into, computed);
    emit(l, (we_command){.kind = WE_COMMAND_UNARY, .in = {wide, -1, -1}, .out = out, .u.unary = fn});
    return narrowed(l, out, into);
}

int32_t we_emit_binary(we_lower *l, we_binary_fn fn, int32_t a, int32_t b, int32_t into) {
    we_tensor ta = we_lower_tensor(l, a), tb = we_lower_tensor(l, b), to = ta;
    if (!we_broadcast(ta.rank, ta.dims, tb.rank, tb.dims, &to.rank, to.dims))
        we_lower_fail(l, WE_INVALID_MODEL, "the shapes of the inputs do not broadcast together");
    if (into == WE_NEW)
        into = we_lower_temp(l, we_binary_is_compare(fn) ? WE_BOOL : ta.dtype, to.rank, to.dims);
    we_command command = {
        .kind = WE_COMMAND_BINARY, .in = {widened(l, a), widened(l, b), -1}, .u.binary.fn = fn};
    we_tensor wide[2] = {we_lower_tensor(l, command.in[0]), we_lower_tensor(l, command.in[1])};
    if (l->status == WE_OK && (wide[0].dtype != wide[1].dtype || !l->kernels->binary[fn][wide[0].dtype]))
        we_lower_fail(l, WE_UNSUPPORTED, "not defined for these types: insert a Cast");
    command.out = we_binary_is_compare(fn) ? into : compute_target(l, into, wide[0].dtype);
    if (l->status == WE_OK) {
        const we_tensor *operands[2] = {&wide[0], &wide[1]};
        we_walk_broadcast(&l->program->tensors[command.out], operands, 2, &command.u.binary.walk);
    }
    emit(l, command);
    return narrowed(l, command.out, into);
}

int32_t we_emit_select(we_lower *l, int32_t condition, int32_t yes, int32_t no, int32_t into) {
    we_tensor in[3] = {we_lower_tensor(l, condition), we_lower_tensor(l, yes), we_lower_tensor(l, no)},
              to = in[1];
    if (!we_broadcast(to.rank, to.dims, in[2].rank, in[2].dims, &to.rank, to.dims) ||
        !we_broadcast(to.rank, to.dims, in[0].rank, in[0].dims, &to.rank, to.dims))
        we_lower_fail(l, WE_INVALID_MODEL, "the shapes of the inputs do not broadcast together");
    if (into == WE_NEW)
        into = we_lower_temp(l, to.dtype, to.rank, to.dims);
    we_command command = {.kind = WE_COMMAND_SELECT, .in = {condition, yes, no}, .out = into};
    if (l->status == WE_OK) {
        const we_tensor *operands[3] = {&in[0], &in[1], &in[2]};
        we_walk_broadcast(&l->program->tensors[into], operands, 3, &command.u.select);
    }
    emit(l, command);
    return into;
}

void we_strides(int32_t rank, const int64_t *dims, int64_t *strides) {
    int64_t reached = 1;
    for (int32_t i = rank; i-- > 0;) {
        strides[i] = reached;
        reached *= dims[i];
    }
}

/* ---- Rasters ---- */

static void add_region(we_lower *l, we_raster *raster, int32_t source, const we_box *box) {
    if (!we_memory_grow((void **)&raster->regions, &raster->room, raster->count, sizeof *raster->regions)) {
        no_memory(l);
        return;
    }
    we_region region = {.source = source, .rank = box->rank};
    region.src.offset = box->src_offset;
    region.dst.offset = box->dst_offset;
    memcpy(region.size, box->size, sizeof region.size);
    memcpy(region.src.stride, box->src_stride, sizeof region.src.stride);
    memcpy(region.dst.stride, box->dst_stride, sizeof region.dst.stride);
    raster->regions[raster->count++] = region;
}

void we_raster_add(we_lower *l, we_raster *raster, int32_t source, const we_box *given) {
    we_box box = *given;
    if (l->status != WE_OK)
        return;
    for (int32_t i = 0; i < box.rank; i++) {
        if (box.size[i] == 0)
            return;
    }
    we_box_coalesce(&box);
    if (box.rank <= WE_MAX_RANK) {
        add_region(l, raster, source, &box);
        return;
    }
    /* More dims than a region has: unroll the outermost. */
    int64_t size = box.size[0], src = box.src_stride[0], dst = box.dst_stride[0];
    box.rank--;
    memmove(box.size, box.size + 1, (size_t)box.rank * sizeof *box.size);
    memmove(box.src_stride, box.src_stride + 1, (size_t)box.rank * sizeof *box.size);
    memmove(box.dst_stride, box.dst_stride + 1, (size_t)box.rank * sizeof *box.size);
    for (int64_t i = 0; i < size && l->status == WE_OK; i++) {
        we_raster_add(l, raster, source, &box);
        box.src_offset += src;
        box.dst_offset += dst;
    }
}

void we_emit_raster(we_lower *l, we_raster *raster, int32_t out) {
    if (l->status == WE_OK) {
        we_region *regions =
            we_arena_copy(&l->program->arena, raster->regions, raster->count * sizeof *raster->regions);
        if (!regions)
            no_memory(l);
        we_command command = {.kind = WE_COMMAND_RASTER, .in = {-1, -1, -1}, .out = out};
        command.u.raster.regions = regions;
        command.u.raster.count = raster->count;
        command.u.raster.fill = raster->fill;
        emit(l, command);
    }
    we_memory_free(raster->regions);
    *raster = (we_raster){0};
}

int32_t we_emit_reshape(we_lower *l, int32_t x, int32_t rank, const int64_t *dims, int32_t into) {
    we_tensor from = we_lower_tensor(l, x);
    we_raster raster = {0};
    if (into == WE_NEW)
        into = we_lower_temp(l, from.dtype, rank, dims);
    we_box box = {.rank = 1, .size = {from.count}, .src_stride = {1}, .dst_stride = {1}};
    we_raster_add(l, &raster, x, &box);
    we_emit_raster(l, &raster, into);
    return into;
}

int32_t we_emit_transpose(we_lower *l, int32_t x, const int32_t *perm, int32_t into) {
    we_tensor from = we_lower_tensor(l, x);
    int64_t strides[WE_MAX_RANK], dims[WE_MAX_RANK] = {0};
    we_box box = {.rank = from.rank};
    we_raster raster = {0};
    we_strides(from.rank, from.dims, strides);
    for (int32_t i = 0; i < from.rank; i++) {
        dims[i] = box.size[i] = from.dims[perm[i]];
        box.src_stride[i] = strides[perm[i]];
    }
    we_strides(from.rank, dims, box.dst_stride);
    if (into == WE_NEW)
        into = we_lower_temp(l, from.dtype, from.rank, dims);
    we_raster_add(l, &raster, x, &box);
    we_emit_raster(l, &raster, into);
    return into;
}

/* ---- Reductions and products ---- */

/* Put the reduced axes side by side (in place if they are already, dims of 1 apart) and describe the result
 * as [outer, k, inner]. */
static int32_t gather_axes(we_lower *l, int32_t x, const bool *reduced, we_command *command) {
    we_tensor from = we_lower_tensor(l, x);
    int32_t perm[WE_MAX_RANK], kept = 0, first = -1;
    int64_t outer = 1, k = 1, inner = 1;
    bool together = true;
    for (int32_t i = 0; i < from.rank; i++) {
        if (from.dims[i] == 1)
            continue;
        if (reduced[i]) {
            together = together && (first < 0 || inner == 1);
            first = first < 0 ? i : first;
            k *= from.dims[i];
        } else if (first < 0) {
            outer *= from.dims[i];
        } else {
            inner *= from.dims[i];
        }
    }
    if (!together) {
        for (int32_t i = 0; i < from.rank; i++) {
            if (!reduced[i])
                perm[kept++] = i;
        }
        for (int32_t i = 0, to = kept; i < from.rank; i++) {
            if (reduced[i])
                perm[to++] = i;
        }
        x = we_emit_transpose(l, x, perm, WE_NEW);
        outer *= inner;
        inner = 1;
    }
    command->u.reduce.outer = outer;
    command->u.reduce.k = k;
    command->u.reduce.inner = inner;
    return x;
}

int32_t we_emit_reduce(we_lower *l, we_reduce_fn fn, int32_t x, const bool *reduced, int32_t into) {
    we_tensor from = we_lower_tensor(l, x);
    if (into == WE_NEW) {
        int64_t dims[WE_MAX_RANK] = {0};
        for (int32_t i = 0; i < from.rank; i++)
            dims[i] = reduced[i] ? 1 : from.dims[i];
        into = we_lower_temp(l, from.dtype, from.rank, dims);
    }
    bool empty = from.count == 0 && we_lower_tensor(l, into).count != 0;
    if (empty) {
        static const double OF_NOTHING[] = {
            [WE_REDUCE_Prod] = 1, [WE_REDUCE_Max] = -INFINITY, [WE_REDUCE_Min] = INFINITY};
        we_raster raster = {.fill = OF_NOTHING[fn]};
        we_emit_raster(l, &raster, into);
        return into;
    }
    we_command command = {.kind = WE_COMMAND_REDUCE, .in = {-1, -1, -1}, .u.reduce.fn = fn};
    int32_t wide = widened(l, x);
    command.in[0] = gather_axes(l, wide, reduced, &command);
    command.out = compute_target(l, into, we_lower_tensor(l, wide).dtype);
    emit(l, command);
    return narrowed(l, command.out, into);
}

int32_t we_emit_arg(we_lower *l, bool largest, bool last, int32_t x, int32_t axis, int32_t into) {
    we_tensor from = we_lower_tensor(l, x);
    we_command command = {.kind = WE_COMMAND_ARG, .in = {x, -1, -1}};
    if (l->status != WE_OK)
        return 0;
    command.u.arg.largest = largest;
    command.u.arg.last = last;
    command.u.arg.outer = command.u.arg.inner = 1;
    command.u.arg.k = from.dims[axis];
    for (int32_t i = 0; i < from.rank; i++) {
        command.u.arg.outer *= i < axis ? from.dims[i] : 1;
        command.u.arg.inner *= i > axis ? from.dims[i] : 1;
    }
    from.dims[axis] = 1;
    command.out = into == WE_NEW ? we_lower_temp(l, WE_I64, from.rank, from.dims) : into;
    emit(l, command);
    return command.out;
}

int32_t we_emit_mean(we_lower *l, int32_t x, const bool *reduced, int32_t into) {
    we_tensor from = we_lower_tensor(l, x);
    double k = 1;
    for (int32_t i = 0; i < from.rank; i++)
        k *= reduced[i] ? (double)from.dims[i] : 1;
    if (we_dtype_kind(from.dtype) == 'f') {
        int32_t sum = we_emit_reduce(l, WE_REDUCE_Sum, x, reduced, WE_NEW);
        if (into != WE_NEW) { /* the wanted result may lack the reduced dims */
            we_tensor to = we_lower_tensor(l, into);
            sum = we_emit_reshape(l, sum, to.rank, to.dims, WE_NEW);
        }
        return we_emit_binary(l, WE_BINARY_Mul, sum, we_lower_scalar(l, from.dtype, 1 / k), into);
    }
    int32_t wide = we_emit_mean(l, we_emit_cast(l, x, WE_F64, WE_NEW), reduced, WE_NEW);
    return we_emit_cast(l, wide, from.dtype, into); /* truncates */
}

int32_t we_emit_matmul(we_lower *l, int32_t a, int32_t b, const we_matmul *matmul, int32_t rank,
                       const int64_t *dims, int32_t into) {
    we_command command = {
        .kind = WE_COMMAND_MATMUL, .in = {widened(l, a), widened(l, b), -1}, .u.matmul = *matmul};
    if (into == WE_NEW)
        into = we_lower_temp(l, we_lower_tensor(l, a).dtype, rank, dims);
    command.out = compute_target(l, into, we_lower_tensor(l, command.in[0]).dtype);
    emit(l, command);
    return narrowed(l, command.out, into);
}

int32_t we_emit_native(we_lower *l, const we_native *native, const void *parameters, size_t size,
                       int64_t items, double steps, const int32_t in[3], int32_t into) {
    if (l->status != WE_OK)
        return into;
    we_command command = {.kind = WE_COMMAND_NATIVE, .in = {in[0], in[1], in[2]}, .out = into};
    command.u.native.native = native;
    command.u.native.parameters = we_arena_copy(&l->program->arena, parameters, size);
    command.u.native.items = items;
    command.u.native.steps = steps;
    if (!command.u.native.parameters)
        no_memory(l);
    emit(l, command);
    return into;
}

int32_t we_emit_node(we_lower *l, int32_t op, const we_attr *attrs, size_t attr_count, const int32_t *in,
                     int32_t in_count, int32_t into) {
    const int32_t named = 0; /* rules ask whether an output is wanted, not what it is called */
    const we_node node = {.op = op,
                          .name = l->call.node->name,
                          .input_count = in_count,
                          .output_count = 1,
                          .inputs = in,
                          .outputs = &named,
                          .attrs = attrs,
                          .attr_count = attr_count};
    if (l->status == WE_OK)
        l->status = l->nested(l, &node, in, into);
    return into;
}
