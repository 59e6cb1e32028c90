/* One function per kind of command. */
#include "backend/cpu/cpu.h"

#include <stdatomic.h>
#include <string.h>

#include "base/dtype.h"
#include "base/error.h"
#include "graph/opspec.h"

enum {
    GRAIN = 8192,          /* elements per piece of an element-wise loop: some 2 us */
    MOST_PLACES = 1 << 24, /* that the kernel finds the extreme of */
};

typedef struct job {
    const we_run *run;
    const we_command *command;
} job;

static void unary_range(void *context, int64_t begin, int64_t end) {
    const job *j = context;
    we_dtype dtype = j->run->program->tensors[j->command->out].dtype;
    int64_t width = (int64_t)we_dtype_size(dtype);
    const char *in = we_run_in(j->run, j->command, 0);
    char *out = we_run_out(j->run, j->command);
    j->run->kernels->unary[j->command->u.unary][dtype](end - begin, in + begin * width, out + begin * width);
}

/* Move `count` operands' offsets to the row with that number (all dims but the innermost). */
static void row_offsets(const we_walk *walk, int64_t row, int32_t count, int64_t *offsets) {
    for (int32_t n = 0; n < count; n++)
        offsets[n] = 0;
    for (int32_t i = walk->rank - 2; i >= 0; i--) {
        int64_t x = row % walk->size[i];
        row /= walk->size[i];
        for (int32_t n = 0; n < count; n++)
            offsets[n] += x * walk->step[n][i];
    }
}

static int64_t inner_size(const we_walk *walk) {
    return walk->rank ? walk->size[walk->rank - 1] : 1;
}

static int64_t inner_step(const we_walk *walk, int32_t operand) {
    return walk->rank ? walk->step[operand][walk->rank - 1] : 0;
}

static void binary_rows(void *context, int64_t begin, int64_t end) {
    const job *j = context;
    const we_command *c = j->command;
    const we_walk *walk = &c->u.binary.walk;
    we_dtype dtype = j->run->program->tensors[c->in[0]].dtype;
    int64_t in_width = (int64_t)we_dtype_size(dtype), n = inner_size(walk);
    int64_t out_width = (int64_t)we_dtype_size(j->run->program->tensors[c->out].dtype);
    const char *a = we_run_in(j->run, c, 0), *b = we_run_in(j->run, c, 1);
    char *out = we_run_out(j->run, c);
    we_binary_kernel kernel = j->run->kernels->binary[c->u.binary.fn][dtype];
    for (int64_t row = begin; row < end; row++) {
        int64_t offsets[2];
        row_offsets(walk, row, 2, offsets);
        kernel(n, a + offsets[0] * in_width, inner_step(walk, 0), b + offsets[1] * in_width,
               inner_step(walk, 1), out + row * n * out_width);
    }
}

/* A walk of one long dim: threads share its elements instead of rows. */
static void binary_run(void *context, int64_t begin, int64_t end) {
    const job *j = context;
    const we_command *c = j->command;
    const we_walk *walk = &c->u.binary.walk;
    we_dtype dtype = j->run->program->tensors[c->in[0]].dtype;
    int64_t in_width = (int64_t)we_dtype_size(dtype);
    int64_t out_width = (int64_t)we_dtype_size(j->run->program->tensors[c->out].dtype);
    const char *a = we_run_in(j->run, c, 0), *b = we_run_in(j->run, c, 1);
    j->run->kernels->binary[c->u.binary.fn][dtype](
        end - begin, a + begin * inner_step(walk, 0) * in_width, inner_step(walk, 0),
        b + begin * inner_step(walk, 1) * in_width, inner_step(walk, 1),
        (char *)we_run_out(j->run, c) + begin * out_width);
}

void we_cpu_select(const we_kernels *kernels, size_t width, int64_t n, const char *const *in,
                   const int64_t *steps, void *y) {
    const uint8_t *condition = (const uint8_t *)in[0];
    if (width == sizeof(uint32_t) && steps[0] == 1) {
        kernels->select(n, condition, (const void *)in[1], steps[1], (const void *)in[2], steps[2], y);
        return;
    }
    char *out = y;
    for (int64_t i = 0; i < n; i++, out += width) {
        int32_t pick = condition[i * steps[0]] ? 1 : 2;
        memmove(out, in[pick] + i * steps[pick] * (int64_t)width, width);
    }
}

static void select_rows(void *context, int64_t begin, int64_t end) {
    const job *j = context;
    const we_command *c = j->command;
    const we_walk *walk = &c->u.select;
    int64_t width = (int64_t)we_dtype_size(j->run->program->tensors[c->out].dtype), n = inner_size(walk);
    int64_t steps[3] = {inner_step(walk, 0), inner_step(walk, 1), inner_step(walk, 2)};
    char *out = we_run_out(j->run, c);
    for (int64_t row = begin; row < end; row++) {
        int64_t offsets[3];
        const char *in[3];
        row_offsets(walk, row, 3, offsets);
        for (int32_t i = 0; i < 3; i++)
            in[i] = (const char *)we_run_in(j->run, c, i) + offsets[i] * (i ? width : 1);
        we_cpu_select(j->run->kernels, (size_t)width, n, in, steps, out + row * n * width);
    }
}

static void reduce_range(void *context, int64_t begin, int64_t end) {
    const job *j = context;
    const we_command *c = j->command;
    we_dtype dtype = j->run->program->tensors[c->out].dtype;
    int64_t width = (int64_t)we_dtype_size(dtype), k = c->u.reduce.k, inner = c->u.reduce.inner;
    const char *in = we_run_in(j->run, c, 0);
    char *out = we_run_out(j->run, c);
    for (int64_t i = begin; i < end; i++)
        j->run->kernels->reduce[c->u.reduce.fn][dtype](k, inner, in + i * k * inner * width,
                                                       out + i * inner * width);
}

/* Index of the largest or smallest of k elements, `step` apart. NaN counts as the most extreme; integers
 * compare as integers. */
static int64_t extreme(const we_tensor *x, const void *data, int64_t at, int64_t step, int64_t k,
                       bool largest, bool last) {
    we_tensor view = *x;
    view.data = data;
    bool real = we_dtype_kind(x->dtype) == 'f';
    int64_t best = 0;
    for (int64_t i = 1; i < k; i++) {
        int64_t p = at + best * step, q = at + i * step;
        double a = real ? we_tensor_number(&view, p) : 0, b = real ? we_tensor_number(&view, q) : 0;
        int64_t u = real ? 0 : we_tensor_ordered(&view, p), v = real ? 0 : we_tensor_ordered(&view, q);
        bool better = real ? (largest ? b > a : b < a) || (b != b && a == a) : (largest ? v > u : v < u);
        bool equal = real ? b == a || (b != b && a != a) : v == u;
        if (better || (equal && last))
            best = i;
    }
    return best;
}

/* By the kernel: places up to the end of a slice at once. */
static void arg_floats(const job *j, int64_t begin, int64_t end) {
    const we_command *c = j->command;
    int64_t k = c->u.arg.k, inner = c->u.arg.inner, *out = we_run_out(j->run, c);
    const float *x = we_run_in(j->run, c, 0);
    we_arg how = {.k = k, .step = inner, .largest = c->u.arg.largest, .last = c->u.arg.last};
    for (int64_t i = begin; i < end; i += how.count) {
        int64_t left = inner - i % inner;
        how.count = left < end - i ? left : end - i;
        j->run->kernels->arg(&how, x + i / inner * k * inner + i % inner, out + i);
    }
}

static void arg_range(void *context, int64_t begin, int64_t end) {
    const job *j = context;
    const we_command *c = j->command;
    int64_t k = c->u.arg.k, inner = c->u.arg.inner;
    const we_tensor *x = &j->run->program->tensors[c->in[0]];
    int64_t *out = we_run_out(j->run, c);
    if (x->dtype == WE_F32 && k < MOST_PLACES) {
        arg_floats(j, begin, end);
        return;
    }
    for (int64_t i = begin; i < end; i++)
        out[i] = extreme(x, we_run_in(j->run, c, 0), i / inner * k * inner + i % inner, inner, k,
                         c->u.arg.largest, c->u.arg.last);
}

typedef struct native_job {
    const we_command *command;
    const void *in[3];
    void *out;
    _Atomic(const char *) problem; /* of any item */
} native_job;

static void native_items(void *context, int64_t begin, int64_t end) {
    native_job *j = context;
    const we_native *native = j->command->u.native.native;
    const char *problem = native->run(j->command->u.native.parameters, j->in, j->out, begin, end);
    if (problem)
        atomic_store(&j->problem, problem);
}

static we_status run_native(const we_run *run, const we_command *c, we_error *err) {
    native_job j = {.command = c, .out = we_run_out(run, c)};
    const we_node *node = &run->graph->nodes[c->node];
    for (int32_t i = 0; i < 3 && c->in[i] >= 0; i++)
        j.in[i] = we_run_in(run, c, i);
    we_parallel_for(run->pool, c->u.native.items, 1 + (int64_t)(GRAIN / (c->u.native.steps + 1)),
                    native_items, &j);
    const char *problem = atomic_load(&j.problem);
    return problem
               ? we_error_set_at(err, WE_INVALID_ARGUMENT, we_op_name(node->op), node->name, "%s", problem)
               : WE_OK;
}

static we_status execute(const we_run *run, const we_command *c, we_error *err) {
    const we_tensor *out = &run->program->tensors[c->out];
    job j = {run, c};
    if (out->count == 0 && c->kind != WE_COMMAND_LOOP)
        return WE_OK;
    switch (c->kind) {
    case WE_COMMAND_UNARY:
        we_parallel_for(run->pool, out->count, GRAIN / 4, unary_range, &j);
        return WE_OK;
    case WE_COMMAND_BINARY:
        if (c->u.binary.walk.rank <= 1)
            we_parallel_for(run->pool, out->count, GRAIN, binary_run, &j);
        else
            we_parallel_for(run->pool, out->count / inner_size(&c->u.binary.walk),
                            1 + GRAIN / inner_size(&c->u.binary.walk), binary_rows, &j);
        return WE_OK;
    case WE_COMMAND_SELECT:
        we_parallel_for(run->pool, out->count / inner_size(&c->u.select),
                        1 + GRAIN / inner_size(&c->u.select), select_rows, &j);
        return WE_OK;
    case WE_COMMAND_CAST:
        we_cpu_cast(run, c);
        return WE_OK;
    case WE_COMMAND_REDUCE:
        we_parallel_for(run->pool, c->u.reduce.outer, 1 + GRAIN / (c->u.reduce.k * c->u.reduce.inner),
                        reduce_range, &j);
        return WE_OK;
    case WE_COMMAND_ARG:
        we_parallel_for(run->pool, out->count, 1 + GRAIN / c->u.arg.k, arg_range, &j);
        return WE_OK;
    case WE_COMMAND_TOP:
        return we_cpu_top(run, c, err);
    case WE_COMMAND_RANDOM:
        we_cpu_random(run, c);
        return WE_OK;
    case WE_COMMAND_MATMUL:
        we_cpu_matmul(run, c);
        return WE_OK;
    case WE_COMMAND_LOOP:
        return we_cpu_loop(run, c, err);
    case WE_COMMAND_RASTER:
        we_cpu_raster(run, c);
        return WE_OK;
    case WE_COMMAND_CLAIM:
        we_claim_of(c)->run(run, c);
        return WE_OK;
    case WE_COMMAND_NATIVE:
        return run_native(run, c, err);
    case WE_COMMAND_CHAIN:
        we_cpu_chain(run, c);
        return WE_OK;
    }
    return we_error_set(err, WE_INTERNAL, "unknown command %d", (int)c->kind);
}

static we_status prepare(we_program *program, we_command *command, we_error *err) {
    for (size_t i = 0; command->kind == WE_COMMAND_LOOP && i < command->u.loop.body_count; i++)
        WE_TRY(prepare(program, &command->u.loop.body[i], err));
    if (command->kind == WE_COMMAND_MATMUL)
        return we_cpu_matmul_prepare(program, command, err);
    const we_claim_methods *claim = we_claim_of(command);
    return claim && claim->prepare ? claim->prepare(program, command, err) : WE_OK;
}

static size_t scratch_size(const we_program *program, const we_command *command, int32_t threads) {
    const we_claim_methods *claim = we_claim_of(command);
    size_t most = 0;
    if (command->kind == WE_COMMAND_MATMUL)
        most = we_cpu_matmul_scratch(program, command, threads);
    if (claim && claim->scratch_size)
        most = claim->scratch_size(program, command, threads);
    for (size_t i = 0; command->kind == WE_COMMAND_LOOP && i < command->u.loop.body_count; i++) {
        size_t own = scratch_size(program, &command->u.loop.body[i], threads);
        most = own > most ? own : most;
    }
    return most;
}

const we_backend we_cpu_backend = {
    .name = "cpu",
    .prepare = prepare,
    .scratch_size = scratch_size,
    .execute = execute,
};
