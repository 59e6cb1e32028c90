/* Matrix products. Two ways: the plain loop over strided operands (any type), and packed panels through a
 * micro-kernel (gemm.h). Constants that serve the whole batch are packed once at preparation; other operands
 * are packed per batch item, A whole and B unit by unit. */
#include <string.h>

#include "backend/cpu/cpu.h"
#include "backend/cpu/gemm.h"
#include "base/dtype.h"
#include "base/error.h"
#include "kernels/pack/pack.h"

static bool shared_by_batch(const we_matmul *p, const int64_t *steps) {
    for (int32_t i = 0; i < p->batch_rank; i++) {
        if (p->batch[i] > 1 && steps[i] != 0)
            return false;
    }
    return true;
}

static int64_t batch_count(const we_matmul *p) {
    int64_t count = 1;
    for (int32_t i = 0; i < p->batch_rank; i++)
        count *= p->batch[i];
    return count;
}

/* Offset of an operand in batch item b. */
static int64_t batch_offset(const we_matmul *p, const int64_t *steps, int64_t b) {
    int64_t offset = 0;
    for (int32_t i = p->batch_rank; i-- > 0; b /= p->batch[i])
        offset += b % p->batch[i] * steps[i];
    return offset;
}

static const float *pack_constant(we_program *program, int32_t tensor, int64_t line_step, int64_t step,
                                  int64_t lines, int64_t width, int64_t k) {
    float *to = we_arena_new(&program->arena, (size_t)we_gemm_packed(lines, width, k) * sizeof *to);
    if (to)
        we_gemm_pack(NULL, program->tensors[tensor].data, line_step, step, lines, width, k, to);
    return to;
}

we_status we_cpu_matmul_prepare(we_program *program, we_command *command, we_error *err) {
    we_matmul *p = &command->u.matmul;
    if (!p->kernel)
        return WE_OK;
    if (program->tensors[command->in[0]].kind == WE_TENSOR_CONST && shared_by_batch(p, p->a_batch)) {
        p->packed_a =
            pack_constant(program, command->in[0], p->a_row, p->a_column, p->m, p->kernel->rows, p->k);
        if (!p->packed_a)
            return we_error_no_memory(err);
    }
    if (program->tensors[command->in[1]].kind == WE_TENSOR_CONST && shared_by_batch(p, p->b_batch)) {
        p->packed_b =
            pack_constant(program, command->in[1], p->b_column, p->b_row, p->n, p->kernel->columns, p->k);
        if (!p->packed_b)
            return we_error_no_memory(err);
    }
    return WE_OK;
}

size_t we_cpu_matmul_scratch(const we_program *program, const we_command *command, int32_t threads) {
    const we_matmul *p = &command->u.matmul;
    (void)program;
    if (!p->kernel)
        return 0;
    size_t a = p->packed_a ? 0 : (size_t)we_gemm_packed(p->m, p->kernel->rows, p->k) * sizeof(float);
    return a + (p->packed_b ? 0 : we_gemm_scratch(p->kernel, p->n, p->k, threads));
}

/* B of one batch item, as the blocked product asks for it. */
typedef struct right {
    const we_matmul *p;
    const float *b;
} right;

static void pack_right(const void *source, int64_t column, int64_t count, int64_t at, int64_t depth,
                       float *to) {
    const right *r = source;
    const we_matmul *p = r->p;
    we_pack_panel(r->b + column * p->b_column + at * p->b_row, p->b_column, p->b_row, count,
                  p->kernel->columns, depth, to);
}

static void multiply_item(const we_run *run, const we_matmul *p, const float *a, const float *b, float *c,
                          const float *bias) {
    right r = {p, b};
    we_gemm g = {.kernel = p->kernel,
                 .m = p->m,
                 .n = p->n,
                 .k = p->k,
                 .a = p->packed_a,
                 .b = p->packed_b,
                 .pack = pack_right,
                 .source = &r,
                 .scratch = run->scratch,
                 .c = c,
                 .ldc = p->n,
                 .item = p->n,
                 .epilogue = {.row_bias = p->bias == WE_BIAS_ROW ? bias : NULL,
                              .column_bias = p->bias == WE_BIAS_COLUMN ? bias : NULL,
                              .relu = p->relu}};
    if (!g.a) {
        we_gemm_pack(run->pool, a, p->a_row, p->a_column, p->m, p->kernel->rows, p->k, g.scratch);
        g.a = g.scratch;
        g.scratch += we_gemm_packed(p->m, p->kernel->rows, p->k);
    }
    we_gemm_run(run->pool, &g);
}

#define PLAIN(TYPE, SUM)                                                                                     \
    static void plain_##TYPE(const we_matmul *p, const TYPE *a, const TYPE *b, TYPE *c, const TYPE *bias) {  \
        for (int64_t i = 0; i < p->m; i++) {                                                                 \
            for (int64_t j = 0; j < p->n; j++) {                                                             \
                SUM sum = 0;                                                                                 \
                for (int64_t q = 0; q < p->k; q++)                                                           \
                    sum += (SUM)a[i * p->a_row + q * p->a_column] * (SUM)b[q * p->b_row + j * p->b_column];  \
                TYPE value = (TYPE)sum;                                                                      \
                if (p->bias != WE_BIAS_NONE)                                                                 \
                    value += bias[p->bias == WE_BIAS_ROW ? i : j];                                           \
                c[i * p->n + j] = p->relu && value < 0 ? 0 : value;                                          \
            }                                                                                                \
        }                                                                                                    \
    }
PLAIN(float,
      double) /* products of float32 are exact in double: the reference the fast ways are compared with */
PLAIN(double, double)
PLAIN(int32_t, int32_t)
PLAIN(int64_t, int64_t)

void we_cpu_matmul(const we_run *run, const we_command *command) {
    const we_matmul *p = &command->u.matmul;
    we_dtype dtype = run->program->tensors[command->out].dtype;
    int64_t width = (int64_t)we_dtype_size(dtype), count = batch_count(p);
    for (int64_t b = 0; b < count; b++) {
        const char *left = we_run_in(run, command, 0), *right = we_run_in(run, command, 1);
        const char *bias = p->bias == WE_BIAS_NONE ? NULL : we_run_in(run, command, 2);
        char *out = (char *)we_run_out(run, command) + b * p->m * p->n * width;
        left += batch_offset(p, p->a_batch, b) * width;
        right += batch_offset(p, p->b_batch, b) * width;
        if (p->bias == WE_BIAS_ROW)
            bias += b * p->m % p->period * width;
        const void *l = left, *r = right, *e = bias;
        void *o = out;
        if (dtype == WE_F32 && p->kernel)
            multiply_item(run, p, l, r, o, e);
        else if (dtype == WE_F32)
            plain_float(p, l, r, o, e);
        else if (dtype == WE_F64)
            plain_double(p, l, r, o, e);
        else if (dtype == WE_I32)
            plain_int32_t(p, l, r, o, e);
        else
            plain_int64_t(p, l, r, o, e);
    }
}
