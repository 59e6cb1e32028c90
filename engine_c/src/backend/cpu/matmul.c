/* Matrix products. Two ways: the plain loop over strided operands (any type), and packed panels through a
 * micro-kernel.
 *
 * Packed: A lies in panels of `rows`, B in panels of `columns`, both cut into blocks of DEPTH. Constants that
 * serve the whole batch are packed once at preparation; other operands are packed per batch item (A whole, B
 * per block). for each block of WIDTH columns: for each block of DEPTH: pack B; for all tiles: kernel The
 * epilogue runs with the last block of DEPTH. */
#include <string.h>

#include "backend/cpu/cpu.h"
#include "base/dtype.h"
#include "base/error.h"
#include "kernels/pack/pack.h"

enum {
    DEPTH = 256,  /* a panel of B (DEPTH x 32 floats) fits a 48 KiB first-level cache beside one of A */
    WIDTH = 1024, /* DEPTH x WIDTH floats of B: 1 MiB, the usual second-level cache */
};

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static int64_t panels(int64_t lines, int64_t width) {
    return (lines + width - 1) / width;
}

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

/* All of one operand: blocks of DEPTH, each [panels][depth][width]. */
static void pack_all(const float *from, int64_t line_step, int64_t step, int64_t lines, int64_t width,
                     int64_t k, float *to) {
    for (int64_t at = 0; at < k; at += DEPTH) {
        int64_t depth = least(DEPTH, k - at);
        for (int64_t line = 0; line < lines; line += width) {
            we_pack_panel(from + line * line_step + at * step, line_step, step, least(width, lines - line),
                          width, depth, to);
            to += width * depth;
        }
    }
}

static const float *pack_constant(we_program *program, int32_t tensor, int64_t line_step, int64_t step,
                                  int64_t lines, int64_t width, int64_t k) {
    float *to = we_arena_new(&program->arena, (size_t)(panels(lines, width) * width * k) * sizeof *to);
    if (to)
        pack_all(program->tensors[tensor].data, line_step, step, lines, width, k, to);
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

static int64_t padded_width(const we_matmul *p) {
    return panels(least(p->n, WIDTH), p->kernel->columns) * p->kernel->columns;
}

size_t we_cpu_matmul_scratch(const we_program *program, const we_command *command) {
    const we_matmul *p = &command->u.matmul;
    (void)program;
    if (!p->kernel)
        return 0;
    int64_t floats = 0;
    if (!p->packed_a)
        floats += panels(p->m, p->kernel->rows) * p->kernel->rows * p->k;
    if (!p->packed_b)
        floats += padded_width(p) * least(DEPTH, p->k);
    return (size_t)floats * sizeof(float);
}

/* One (columns block, depth block) of one batch item. */
typedef struct block {
    const we_matmul *p;
    const float *b;        /* of the batch item, for packing */
    const float *a_panels; /* of this depth block */
    float *b_panels;       /* scratch, or constant panels that are only read */
    float *c;
    const float *bias; /* of the batch item */
    int64_t column, width, at, depth;
} block;

static void pack_columns(void *context, int64_t begin, int64_t end) {
    const block *k = context;
    const we_matmul *p = k->p;
    int64_t columns = p->kernel->columns;
    for (int64_t panel = begin; panel < end; panel++) {
        int64_t first = k->column + panel * columns;
        we_pack_panel(k->b + first * p->b_column + k->at * p->b_row, p->b_column, p->b_row,
                      least(columns, k->column + k->width - first), columns, k->depth,
                      k->b_panels + panel * columns * k->depth);
    }
}

static void multiply_tile(const block *k, int64_t row_panel, int64_t column_panel) {
    const we_matmul *p = k->p;
    int64_t rows = p->kernel->rows, columns = p->kernel->columns;
    int64_t row = row_panel * rows, column = k->column + column_panel * columns;
    bool last = k->at + k->depth == p->k;
    we_epilogue epilogue = {.relu = p->relu};
    if (p->bias == WE_BIAS_ROW)
        epilogue.row_bias = k->bias + row;
    if (p->bias == WE_BIAS_COLUMN)
        epilogue.column_bias = k->bias + column;
    p->kernel->kernel(k->depth, k->a_panels + row * k->depth, k->b_panels + column_panel * columns * k->depth,
                      k->c + row * p->n + column, p->n, (int32_t)least(rows, p->m - row),
                      (int32_t)least(columns, k->column + k->width - column), k->at > 0,
                      last && (p->relu || p->bias != WE_BIAS_NONE) ? &epilogue : NULL);
}

/* Tiles in column-major order, so that one panel of B serves all rows while it is in the first-level cache.
 */
static void multiply_tiles(void *context, int64_t begin, int64_t end) {
    const block *k = context;
    int64_t row_panels = panels(k->p->m, k->p->kernel->rows);
    for (int64_t tile = begin; tile < end; tile++)
        multiply_tile(k, tile % row_panels, tile / row_panels);
}

static void multiply_item(const we_run *run, const we_matmul *p, const float *a, const float *b, float *c,
                          const float *bias) {
    int64_t rows = p->kernel->rows, columns = p->kernel->columns;
    int64_t row_panels = panels(p->m, rows), all_columns = panels(p->n, columns) * columns;
    float *scratch = run->scratch;
    const float *a_packed = p->packed_a;
    if (!a_packed) {
        pack_all(a, p->a_row, p->a_column, p->m, rows, p->k, scratch);
        a_packed = scratch;
        scratch += row_panels * rows * p->k;
    }
    for (int64_t column = 0; column < p->n; column += WIDTH) {
        block k = {
            .p = p, .b = b, .c = c, .bias = bias, .column = column, .width = least(WIDTH, p->n - column)};
        int64_t column_panels = panels(k.width, columns);
        for (int64_t at = 0; at < p->k || at == 0; at += DEPTH) {
            k.at = at;
            k.depth = least(DEPTH, p->k - at);
            k.a_panels = a_packed + row_panels * rows * at;
            k.b_panels = scratch;
            if (p->packed_b) /* only read below: pack_columns does not run */
                k.b_panels = (float *)p->packed_b + all_columns * at + column * k.depth;
            else
                we_parallel_for(run->pool, column_panels, 1 + 65536 / (columns * (k.depth + 1)), pack_columns,
                                &k);
            /* A piece should take some 20 us, or waking a thread costs more than it saves. */
            int64_t grain = 1 + 1000000 / (rows * columns * (k.depth + 1));
            we_parallel_for(run->pool, row_panels * column_panels, grain, multiply_tiles, &k);
        }
    }
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
