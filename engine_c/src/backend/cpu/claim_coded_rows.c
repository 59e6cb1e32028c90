/* A matrix kept in codes of 4 or 8 bits: weights become float32 in registers, or with many rows a stretch of
 * a panel at a time in cache. Memory holds codes alone. */
#include "backend/cpu/cpu.h"
#include "base/error.h"

enum {
    FEW_ROWS = 24, /* up to here, weights are cheaper made anew for each few rows than stored */
    STRETCH = 256, /* places along k that are made at a time: a panel of 64 columns takes 64 KiB */
};

typedef struct parameters {
    we_coded_rows rows;
    int64_t count; /* of rows to be multiplied */
    const uint8_t *codes;
    const float *scales;
    const uint8_t *zero_points; /* NULL where absent */
    const uint8_t *packed_codes;
    const float *packed_scales, *packed_zeros;
} parameters;

static bool is_constant(const we_tensor *x) {
    return !x || x->kind == WE_TENSOR_CONST;
}

static bool accept(const we_call *call, we_arena *arena, const void **out) {
    const we_tensor *x = call->in[0], *zero_points = we_call_input(call, 3);
    we_coded_rows rows;
    if (we_call_coded_rows(call, &rows) != WE_OK || x->dtype != WE_F32 || x->count == 0 ||
        !is_constant(call->in[1]) || !is_constant(call->in[2]) || !is_constant(zero_points))
        return false;
    parameters *p = we_arena_new(arena, sizeof *p);
    if (!p)
        return false;
    *p = (parameters){.rows = rows,
                      .count = x->count / rows.k,
                      .codes = call->in[1]->data,
                      .scales = call->in[2]->data,
                      .zero_points = zero_points ? zero_points->data : NULL};
    *out = p;
    return true;
}

/* Per weight: to make it, and a multiplication for each row; with many, to store it as well. Measured on a
 * Zen 5 with AVX-512, 2026-11-27: 19 million weights with 1, 8, 32, 128 rows in 0.5, 1.7, 7, 21 ms. */
static double cost(const void *given) {
    const parameters *p = given;
    double weights = (double)(p->rows.n * p->rows.k), count = (double)p->count;
    return p->count <= FEW_ROWS ? weights * (0.35 + 0.18 * count) : weights * (1.6 + 0.165 * count);
}

/* ---- Packing: once for all sessions ---- */

typedef struct pack_job {
    const parameters *p;
    int64_t columns;
} pack_job;

static we_dtype dtype_of(const parameters *p) {
    return p->rows.bits == 4 ? WE_U4 : WE_U8;
}

static int64_t panels_of(const parameters *p, int64_t columns) {
    return (p->rows.n + columns - 1) / columns;
}

/* Bytes of a row that hold its k codes. */
static int64_t row_bytes(const we_coded_rows *rows) {
    return (rows->k * rows->bits + 7) / 8;
}

/* Panels of columns from rows; two codes of a byte stay together. */
static void pack_codes(we_pool *pool, const void *context, void *to) {
    const pack_job *j = context;
    const we_coded_rows *rows = &j->p->rows;
    int64_t from_row = rows->blocks * rows->block * rows->bits / 8, bytes = row_bytes(rows);
    uint8_t *out = to;
    (void)pool;
    for (int64_t panel = 0; panel < panels_of(j->p, j->columns); panel++) {
        for (int64_t i = 0; i < bytes; i++) {
            for (int64_t c = 0; c < j->columns; c++) {
                int64_t n = panel * j->columns + c;
                *out++ = n < rows->n ? j->p->codes[n * from_row + i] : 0;
            }
        }
    }
}

static float scale_at(const parameters *p, int64_t n, int64_t block) {
    return p->scales[n * p->rows.blocks + block];
}

static float zero_at(const parameters *p, int64_t n, int64_t block) {
    int64_t row = (p->rows.blocks * p->rows.bits + 7) / 8;
    if (p->rows.bits == 8)
        return p->zero_points[n * row + block];
    return (float)(p->zero_points[n * row + block / 2] >> (block % 2 ? 4 : 0) & 15);
}

static void pack_blocks(const pack_job *j, float (*at)(const parameters *, int64_t, int64_t), float *to) {
    for (int64_t panel = 0; panel < panels_of(j->p, j->columns); panel++) {
        for (int64_t block = 0; block < j->p->rows.blocks; block++) {
            for (int64_t c = 0; c < j->columns; c++) {
                int64_t n = panel * j->columns + c;
                *to++ = n < j->p->rows.n ? at(j->p, n, block) : 0;
            }
        }
    }
}

static void pack_scales(we_pool *pool, const void *context, void *to) {
    (void)pool;
    pack_blocks(context, scale_at, to);
}

static void pack_zeros(we_pool *pool, const void *context, void *to) {
    (void)pool;
    pack_blocks(context, zero_at, to);
}

static we_status pack(we_program *program, const pack_job *j, const void *source, int64_t source_bytes,
                      we_pack_work work, int64_t bytes, const void **out, we_error *err) {
    static const char forms[3];
    const we_coded_rows *rows = &j->p->rows;
    we_pack_key key = {.source = source,
                       .source_bytes = (size_t)source_bytes,
                       .form = &forms[work == pack_codes    ? 0
                                      : work == pack_scales ? 1
                                                            : 2],
                       .parameters = {rows->n, rows->k, rows->block, rows->bits, j->columns}};
    return we_program_pack(program, &key, (size_t)bytes, work, j, out, err);
}

static we_status prepare(we_program *program, we_command *command, we_error *err) {
    parameters *p = (parameters *)command->u.claim.parameters; /* of this command alone */
    const we_coded_rows *rows = &p->rows;
    const we_kernels *kernels;
    const void *codes = NULL, *scales = NULL, *zeros = NULL;
    WE_TRY(we_kernels_get(&kernels, err));
    pack_job j = {p, kernels->coded[dtype_of(p)].columns};
    int64_t width = panels_of(p, j.columns) * j.columns,
            floats = width * rows->blocks * (int64_t)sizeof(float);
    WE_TRY(pack(program, &j, p->codes, rows->n * rows->blocks * rows->block * rows->bits / 8, pack_codes,
                width * row_bytes(rows), &codes, err));
    WE_TRY(pack(program, &j, p->scales, rows->n * rows->blocks * (int64_t)sizeof(float), pack_scales, floats,
                &scales, err));
    if (p->zero_points)
        WE_TRY(pack(program, &j, p->zero_points, rows->n * ((rows->blocks * rows->bits + 7) / 8), pack_zeros,
                    floats, &zeros, err));
    p->packed_codes = codes;
    p->packed_scales = scales;
    p->packed_zeros = zeros;
    return WE_OK;
}

/* ---- Running ---- */

static size_t scratch_size(const we_program *program, const we_command *command, int32_t threads) {
    const parameters *p = command->u.claim.parameters;
    (void)program;
    enum { MOST_COLUMNS = 64 };
    return p->count <= FEW_ROWS ? 0 : (size_t)threads * STRETCH * MOST_COLUMNS * sizeof(float);
}

typedef struct job {
    const we_run *run;
    const parameters *p;
    const we_coded_kernels *kernels;
    const float *x;
    float *y;
} job;

/* All rows times a panel that is made float32 a stretch at a time. */
static void multiply_expanded(const job *j, const we_coded *w, float *y, int32_t count) {
    const we_coded_rows *rows = &j->p->rows;
    int32_t columns = j->kernels->columns;
    float *made = (float *)j->run->scratch + (int64_t)we_run_worker(j->run) * STRETCH * columns;
    for (int64_t from = 0; from < rows->k; from += STRETCH) {
        int64_t places = rows->k - from < STRETCH ? rows->k - from : STRETCH;
        j->kernels->expand(w, from, places, made);
        we_gemv g = {.k = places,
                     .rows = j->p->count,
                     .x = j->x + from,
                     .w = made,
                     .start = from ? y : NULL,
                     .y = y,
                     .x_row = rows->k,
                     .start_row = rows->n,
                     .y_row = rows->n,
                     .count = count};
        j->run->kernels->gemv[WE_F32](&g);
    }
}

static void multiply_panels(void *context, int64_t begin, int64_t end) {
    const job *j = context;
    const we_coded_rows *rows = &j->p->rows;
    int64_t columns = j->kernels->columns;
    for (int64_t panel = begin; panel < end; panel++) {
        int64_t at = panel * columns, left = rows->n - at, floats = panel * rows->blocks * columns;
        int32_t count = (int32_t)(left < columns ? left : columns);
        we_coded w = {.k = rows->k,
                      .block = rows->block,
                      .codes = j->p->packed_codes + panel * row_bytes(rows) * columns,
                      .scales = j->p->packed_scales + floats,
                      .zeros = j->p->packed_zeros ? j->p->packed_zeros + floats : NULL};
        if (j->p->count <= FEW_ROWS)
            j->kernels->gemv(&w, j->p->count, j->x, rows->k, j->y + at, rows->n, count);
        else
            multiply_expanded(j, &w, j->y + at, count);
    }
}

static void run_claim(const we_run *run, const we_command *command) {
    const parameters *p = command->u.claim.parameters;
    job j = {run, p, &run->kernels->coded[dtype_of(p)], we_run_in(run, command, 0), we_run_out(run, command)};
    int64_t panel = p->rows.k * j.kernels->columns * p->count; /* products */
    we_parallel_for(run->pool, panels_of(p, j.kernels->columns), 1 + 65536 / panel, multiply_panels, &j);
}

const we_claim_methods we_claim_coded_rows = {
    .accept = accept,
    .cost = cost,
    .run = run_claim,
    .prepare = prepare,
    .scratch_size = scratch_size,
    .compact = true,
};
