/* Matrix products. Two ways: the plain loop over strided operands (any type), and the blocked product of
 * gemm.h. A constant B that serves the whole batch is packed once at preparation. */
#include <math.h>

#include "backend/cpu/cpu.h"
#include "backend/cpu/gemm.h"
#include "base/dtype.h"
#include "base/error.h"

enum {
    ITEM_START = 16000,  /* products that a call of the blocked loop and its packing take the time of */
    ITEM_STEPS = 100000, /* products worth handing to a thread: 1 to 3 us */
};

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

we_status we_cpu_matmul_prepare(we_program *program, we_command *command, we_error *err) {
    we_matmul *p = &command->u.matmul;
    const we_tensor *b = &program->tensors[command->in[1]];
    if (!p->kernel || b->kind != WE_TENSOR_CONST || !shared_by_batch(p, p->b_batch))
        return WE_OK;
    we_gemm_right right = {
        .b = b->data, .row = p->b_row, .column = p->b_column, .n = p->n, .runs = 1, .depth = p->k};
    return we_gemm_pack_constants(program, p->kernel, &right, 1, 0, &p->packed_b, err);
}

static we_gemm gemm_of(const we_matmul *p) {
    return (we_gemm){.kernel = p->kernel,
                     .m = p->m,
                     .n = p->n,
                     .runs = 1,
                     .depth = p->k,
                     .a_row = p->a_row,
                     .packed = p->packed_b,
                     .b_row = p->b_row,
                     .b_column = p->b_column,
                     .ldc = p->n,
                     .low = p->relu ? 0 : -INFINITY,
                     .high = INFINITY};
}

/* Rows of A are read in place unless their elements are apart. */
static int64_t copied_floats(const we_matmul *p) {
    return p->a_column == 1 || p->k == 1 ? 0 : p->m * p->k;
}

/* Items of the batch run side by side where there are enough of them, else each is shared out. */
static bool items_at_once(const we_matmul *p, int32_t threads) {
    return threads > 1 && batch_count(p) >= threads;
}

/* Scratch of one thread that takes whole items, or of all that share one, in floats. */
static size_t item_floats(const we_matmul *p, int32_t threads) {
    we_gemm g = gemm_of(p);
    return (size_t)copied_floats(p) + we_gemm_scratch(&g, threads) / sizeof(float);
}

size_t we_cpu_matmul_scratch(const we_program *program, const we_command *command, int32_t threads) {
    const we_matmul *p = &command->u.matmul;
    (void)program;
    if (!p->kernel)
        return 0;
    size_t floats = items_at_once(p, threads) ? (size_t)threads * item_floats(p, 1) : item_floats(p, threads);
    return floats * sizeof(float);
}

typedef struct item_job {
    const we_run *run;
    const we_command *command;
    we_pool *pool; /* within an item */
} item_job;

static void multiply_item(const item_job *j, int64_t item, float *scratch) {
    const we_matmul *p = &j->command->u.matmul;
    const float *bias = p->bias == WE_BIAS_NONE ? NULL : we_run_in(j->run, j->command, 2);
    we_gemm g = gemm_of(p);
    g.a = (const float *)we_run_in(j->run, j->command, 0) + batch_offset(p, p->a_batch, item);
    g.b = (const float *)we_run_in(j->run, j->command, 1) + batch_offset(p, p->b_batch, item);
    g.c = (float *)we_run_out(j->run, j->command) + item * p->m * p->n;
    g.row_bias = p->bias == WE_BIAS_ROW ? bias + item * p->m % p->period : NULL;
    g.column_bias = p->bias == WE_BIAS_COLUMN ? bias : NULL;
    if (copied_floats(p) > 0) {
        we_region turned = {.rank = 2,
                            .size = {p->m, p->k},
                            .src = {.stride = {p->a_row, p->a_column}},
                            .dst = {.stride = {p->k, 1}}};
        we_region_copy(&turned, sizeof(float), g.a, scratch);
        g.a = scratch;
        g.a_row = p->k;
        scratch += copied_floats(p);
    }
    we_gemm_run(j->pool, &g, scratch);
}

static void multiply_items(void *context, int64_t begin, int64_t end) {
    const item_job *j = context;
    const we_matmul *p = &j->command->u.matmul;
    bool alone = items_at_once(p, we_pool_threads(j->run->pool));
    float *scratch =
        (float *)j->run->scratch + (alone ? (size_t)we_run_worker(j->run) * item_floats(p, 1) : 0);
    for (int64_t item = begin; item < end; item++)
        multiply_item(j, item, scratch);
}

static void multiply_tiled(const we_run *run, const we_command *command) {
    const we_matmul *p = &command->u.matmul;
    item_job j = {run, command, NULL};
    if (items_at_once(p, we_pool_threads(run->pool))) {
        we_parallel_for(run->pool, batch_count(p), 1 + ITEM_STEPS / (p->m * p->n * p->k + ITEM_START),
                        multiply_items, &j);
        return;
    }
    j.pool = run->pool;
    multiply_items(&j, 0, batch_count(p));
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
    if (p->kernel) {
        multiply_tiled(run, command);
        return;
    }
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
        if (dtype == WE_F32)
            plain_float(p, l, r, o, e);
        else if (dtype == WE_F64)
            plain_double(p, l, r, o, e);
        else if (dtype == WE_I32)
            plain_int32_t(p, l, r, o, e);
        else
            plain_int64_t(p, l, r, o, e);
    }
}
