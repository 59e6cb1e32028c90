/* Measuring what the cost model believes. Every figure is the best of some runs of what the engine itself
 * does: blocked products by each micro-kernel, its element-wise kernels, its copies, its commands. Others on
 * the machine can only make a run slower, so a figure is believed once a second pass, some time after the
 * first, comes near it; how far the two best passes of any figure are apart is the calibration's `spread`. */
#include <math.h>
#include <string.h>

#include "backend/cpu/byte_gemm.h"
#include "backend/cpu/gemm.h"
#include "backend/opencl/measure.h"
#include "base/error.h"
#include "search/cost.h"
#include "search/parameters.h"

enum {
    DEPTH = 512,    /* of the measured product, whose weights come from the last-level cache */
    COLUMNS = 2048, /* or somewhat more, whole panels */
    TILES = 4,
    ELEMENTS = 8192,  /* of an element-wise loop: operands and result in the second-level cache */
    COPIED = 2 << 20, /* bytes: from the last-level cache to it */
    TURNED = 1 << 20, /* bytes, likewise: an image of */
    TURNED_CHANNELS = 64,
    NEAR = 4 << 20, /* bytes of weights that stay in the last-level cache, */
    FAR = 96 << 20, /* and of such that do not */
    ROOM = 1 << 20, /* bytes beside them, of operands */
    PAGE = 4096,
    SHARED = 2, /* items of shared work, one per thread */
    MANY = 200, /* starts timed together: the clock is too coarse for one */
    MOST_RUNS = 4000,
    LEAST_FORK_NS = 300, /* some messages between cores, and the end of the slower one */
    VECTOR = 1024,       /* elements multiplied by weights to measure how fast these arrive */
    SIZES = 4,           /* of weights, each twice the one before, tried for what stays in the cache */
    PASSES = 4,          /* over everything, so that a disturbance does not last for all runs of one figure */
};

static const double EACH_S = 0.004; /* to measure one figure in one pass: less than a turn of the scheduler */
static const double SHARED_WELL = 0.75;

typedef struct bench {
    we_clock clock_s;
    void *context;
    const we_kernels *kernels;
    we_pool *pool, *all; /* SHARED threads, and one of each core; NULL: this thread alone */
    float *memory;       /* FAR + ROOM bytes */
} bench;

typedef void (*work)(const void *context);

/* Nanoseconds of the fastest run. */
static double best_ns(const bench *b, work run, const void *context) {
    double begin = b->clock_s(b->context), best = -1, last = begin;
    for (int i = 0; i < MOST_RUNS && (i == 0 || last - begin < EACH_S); i++) {
        double start = b->clock_s(b->context);
        run(context);
        last = b->clock_s(b->context);
        best = best < 0 || last - start < best ? last - start : best;
    }
    return best * 1e9;
}

/* The figures of one pass; 0: none. */
static void keep_rate(double *to, double amount, double ns) {
    *to = amount / ns;
}

static void keep_time(double *to, double ns) {
    *to = ns;
}

typedef struct product_run {
    we_gemm gemm;
    float *scratch;
    we_pool *pool;
} product_run;

static void run_product(const void *context) {
    const product_run *r = context;
    we_gemm_run(r->pool, &r->gemm, r->scratch);
}

/* Dense, but for where the operands are. */
static we_gemm product_of(const we_matmul_row *row, int64_t m, int64_t n, int64_t k) {
    return (we_gemm){.kernel = row,
                     .m = m,
                     .n = n,
                     .runs = 1,
                     .depth = k,
                     .a_row = k,
                     .ldc = n,
                     .low = -__builtin_inff(),
                     .high = __builtin_inff()};
}

static void measure_kernel(const bench *b, const we_matmul_row *row, double *cycles) {
    int64_t m = TILES * row->rows, n = (COLUMNS / row->columns + 1) * row->columns, k = DEPTH;
    float *a = b->memory, *c = a + m * k, *plain = c + m * n, *packed = plain + n * k;
    for (float *at = a; at < packed; at++)
        *at = 1; /* plain kernels take longer over some numbers than over others */
    we_gemm_right right = {.b = plain, .row = n, .column = 1, .n = n, .runs = 1, .depth = k};
    product_run run = {.gemm = product_of(row, m, n, k), .scratch = packed + we_gemm_packed(row, n, k)};
    we_gemm_pack(NULL, row, &right, packed);
    run.gemm.a = a;
    run.gemm.packed = packed;
    run.gemm.c = c;
    we_matmul product = {.m = m, .n = n, .k = k};
    keep_rate(cycles, we_cost_cycles(&product, row), best_ns(b, run_product, &run));
}

typedef struct vectors {
    const we_kernels *kernels;
    float *x;
    int64_t count;
} vectors;

static void run_sum(const void *context) {
    const vectors *v = context;
    v->kernels->binary[WE_BINARY_Add][WE_F32](v->count, v->x, 1, v->x + v->count, 1, v->x + 2 * v->count);
}

static void run_copy(const void *context) {
    const vectors *v = context;
    we_region whole = {.rank = 1, .size = {v->count}, .src = {.stride = {1}}, .dst = {.stride = {1}}};
    we_region_copy(&whole, sizeof(float), v->x, v->x + v->count);
}

/* An image from channels first to channels last. */
static void run_turn(const void *context) {
    const vectors *v = context;
    int64_t positions = v->count / TURNED_CHANNELS;
    v->kernels->transpose(positions, TURNED_CHANNELS, (const uint32_t *)v->x, positions,
                          (uint32_t *)(v->x + v->count), TURNED_CHANNELS);
}

static void measure_turn(const bench *b, double *turn) {
    vectors v = {b->kernels, b->memory, TURNED / sizeof(float)};
    keep_rate(turn, TURNED, best_ns(b, run_turn, &v));
}

typedef struct byte_product_run {
    we_byte_gemm gemm;
    void *scratch;
} byte_product_run;

static void run_byte_product(const void *context) {
    const byte_product_run *r = context;
    we_byte_gemm_run(NULL, &r->gemm, r->scratch);
}

/* As measure_kernel does it. */
static void measure_bytes(const bench *b, const we_byte_matmul *kernel, double *rate) {
    int64_t m = TILES * kernel->rows, n = (COLUMNS / kernel->columns + 1) * kernel->columns, k = DEPTH;
    we_byte_right right = {.n = n, .runs = 1, .depth = k, .given = k, .pieces = 1, .row = n, .column = 1};
    float *factor = b->memory;
    int32_t *start = (int32_t *)(factor + n);
    uint8_t *a = (uint8_t *)(start + n), *c = a + m * k, *plain = c + m * n, *packed = plain + n * k;
    for (int64_t j = 0; j < n; j++)
        factor[j] = 1, start[j] = 0;
    memset(a, 1, (size_t)(packed - a));
    right.b = plain;
    we_byte_pack(kernel, &right, (int8_t *)packed);
    byte_product_run run = {.gemm = {.kernel = kernel,
                                     .m = m,
                                     .n = n,
                                     .runs = 1,
                                     .depth = k,
                                     .a = a,
                                     .a_row = k,
                                     .packed = (int8_t *)packed,
                                     .start = start,
                                     .how = {.factor = factor, .range = {.high = UINT8_MAX}},
                                     .c = c,
                                     .ldc = n},
                            .scratch = packed + we_byte_packed(kernel, &right)};
    keep_rate(rate, (double)m * (double)n * (double)k, best_ns(b, run_byte_product, &run));
}

static void measure_isa(const bench *b, int isa, we_parameters *out) {
    we_kernels kernels;
    we_kernels_fill(b->kernels->isas & ((2u << isa) - 1), &kernels);
    vectors v = {&kernels, b->memory, ELEMENTS};
    keep_rate(&out->element[isa], ELEMENTS, best_ns(b, run_sum, &v));
    v.count = COPIED / sizeof(float);
    keep_rate(&out->copy[isa], COPIED, best_ns(b, run_copy, &v));
    measure_bytes(b, &kernels.byte_matmul, &out->bytes[isa]);
}

/* Work of some ten microseconds per item. */
static void add_items(void *context, int64_t begin, int64_t end) {
    const bench *b = context;
    vectors v = {b->kernels, b->memory, ELEMENTS};
    for (int64_t i = begin; i < end; i++) {
        v.x = b->memory + i * 3 * ELEMENTS;
        for (int times = 0; times < 16; times++)
            run_sum(&v);
    }
}

static void run_alone(const void *context) {
    we_parallel_for(NULL, SHARED, 1, add_items, (void *)context);
}

static void run_shared(const void *context) {
    we_parallel_for(((const bench *)context)->pool, SHARED, 1, add_items, (void *)context);
}

/* What sharing takes beyond a fair share of the work. Where that is no faster than working alone, the other
 * core was never free, and nothing is known. */
static void measure_fork(const bench *b, double *fork_ns) {
    double alone = best_ns(b, run_alone, b), together = best_ns(b, run_shared, b);
    if (together > SHARED_WELL * alone)
        return;
    double lost = together - alone / SHARED;
    keep_time(fork_ns, lost > LEAST_FORK_NS ? lost : LEAST_FORK_NS);
}

typedef struct start {
    const we_backend *backend;
    we_run run;
    we_command command;
} start;

static void run_start(const void *context) {
    const start *s = context;
    for (int i = 0; i < MANY; i++)
        s->backend->execute(&s->run, &s->command, NULL);
}

/* A command on one element. */
static void measure_start(const bench *b, double *start_ns) {
    we_tensor tensors[2] = {{.dtype = WE_F32, .count = 1, .alias_of = -1},
                            {.dtype = WE_F32, .count = 1, .alias_of = -1}};
    we_program program = {.tensors = tensors, .tensor_count = 2};
    void *memory[2] = {b->memory, b->memory + 1};
    start s = {.backend = we_backend_find("cpu"),
               .run = {.program = &program, .memory = memory, .kernels = b->kernels},
               .command = {.kind = WE_COMMAND_UNARY, .in = {0, -1, -1}, .out = 1, .u.unary = WE_UNARY_Relu}};
    keep_time(start_ns, best_ns(b, run_start, &s) / MANY);
}

/* Bytes per ns of that many bytes of weights, used again and again by one row, on the pool's threads. */
static double weight_rate(const bench *b, const we_matmul_row *row, int64_t bytes, we_pool *pool) {
    int64_t n = bytes / (int64_t)sizeof(float) / VECTOR / row->columns * row->columns;
    float *a = b->memory, *c = a + VECTOR;
    product_run run = {.gemm = product_of(row, 1, n, VECTOR), .pool = pool};
    run.gemm.a = a;
    run.gemm.packed = c + n;
    run.gemm.c = c;
    return (double)bytes / best_ns(b, run_product, &run);
}

static void measure_memory(const bench *b, const we_matmul_row *row, we_parameters *out) {
    double near = weight_rate(b, row, NEAR, NULL), far = weight_rate(b, row, FAR, NULL);
    double all = weight_rate(b, row, FAR, b->all);
    out->near = near;
    out->far = far < near ? far : near;
    out->far_all = all > out->far ? all : out->far;
    out->cache = NEAR;
    for (int64_t bytes = 2 * NEAR, i = 0; i < SIZES; i++, bytes *= 2) {
        double rate = weight_rate(b, row, bytes, NULL);
        if (rate * rate > near * far) /* nearer to the cache's than to the memory's */
            out->cache = (double)bytes;
    }
}

static void measure_all(const bench *b, we_parameters *out) {
    const we_matmul_row *rows, *best = NULL;
    size_t count = we_matmul_rows(&rows);
    for (size_t i = 0; i < count && i < WE_MAX_KERNELS; i++) {
        if (!(b->kernels->isas >> rows[i].isa & 1))
            continue;
        measure_kernel(b, &rows[i], &out->cycles[i]);
        best = rows[i].parts ? best : &rows[i];
    }
    for (int isa = 0; isa < WE_ISA_COUNT; isa++) {
        if (b->kernels->isas >> isa & 1)
            measure_isa(b, isa, out);
    }
    measure_turn(b, &out->turn);
    measure_start(b, &out->start);
    if (b->pool)
        measure_fork(b, &out->fork);
    measure_memory(b, best, out);
}

/* All that work. */
static void measure_devices(we_clock clock_s, void *context) {
    we_opencl_device *list, *device;
    we_opencl_parameters found;
    size_t count = we_opencl_devices(&list);
    for (size_t i = 0; i < count; i++) {
        if (we_opencl_open(i, &device, NULL) == WE_OK &&
            we_opencl_measure(device, clock_s, context, &found, NULL) == WE_OK)
            we_parameters_use_for(device, &found);
    }
}

/* ---- Passes ---- */

/* The two best passes of every figure; 0: there is none. */
typedef struct found {
    we_parameters best, second;
} found;

/* A rate is good where it is high, a time where it is low; both lie where we_parameters has them. */
static bool is_time(const we_parameters *p, const double *figure) {
    return figure == &p->start || figure == &p->fork;
}

static void add_pass(const we_parameters *pass, found *all) {
    const double *from = (const double *)pass;
    double *best = (double *)&all->best, *second = (double *)&all->second;
    for (size_t i = 0; i < sizeof *pass / sizeof *from; i++) {
        bool time = is_time(pass, from + i);
        if (from[i] <= 0)
            continue;
        if (best[i] <= 0 || (time ? from[i] < best[i] : from[i] > best[i])) {
            second[i] = best[i];
            best[i] = from[i];
        } else if (second[i] <= 0 || (time ? from[i] < second[i] : from[i] > second[i])) {
            second[i] = from[i];
        }
    }
}

/* How far the second best pass of a figure is from the best, at most. What another thread takes part in
 * depends on when that comes, and the size of the cache is no measure of time. */
static double spread_of(const found *all) {
    const double *best = (const double *)&all->best, *second = (const double *)&all->second;
    double most = WE_PARAMETER_LEAST;
    for (size_t i = 0; i < sizeof all->best / sizeof *best; i++) {
        const double *at = best + i;
        if (*at <= 0 || at == &all->best.fork || at == &all->best.cache || at == &all->best.far_all)
            continue;
        double apart = second[i] <= 0 ? 1 : fabs(*at - second[i]) / (*at > second[i] ? *at : second[i]);
        most = apart > most ? apart : most;
    }
    return most;
}

/* Take over what was found. A clock too coarse, or a faulty one, must not make figures out of nothing. */
static void take_over(const we_parameters *measured, we_parameters *out) {
    const double *from = (const double *)measured;
    double *to = (double *)out;
    for (size_t i = 0; i < sizeof *measured / sizeof *from; i++)
        to[i] = from[i] >= WE_PARAMETER_LEAST && from[i] <= WE_PARAMETER_MOST ? from[i] : to[i];
}

static void run_passes(const bench *b, we_parameters *out) {
    found all = {0};
    for (int pass = 0; pass < PASSES; pass++) {
        we_parameters one = {0};
        measure_all(b, &one);
        add_pass(&one, &all);
    }
    all.best.spread = spread_of(&all);
    measure_devices(b->clock_s, b->context);
    take_over(&all.best, out);
}

we_status we_parameters_measure(we_clock clock_s, void *context, we_parameters *out, we_error *err) {
    bench b = {.clock_s = clock_s, .context = context};
    we_status status = we_kernels_get(&b.kernels, err);
    if (status == WE_OK)
        status = we_pool_new(SHARED, &b.pool, err);
    if (status == WE_OK)
        status = we_pool_new(WE_POOL_THREADS, &b.all, err);
    if (status == WE_OK) {
        b.memory = we_memory_new(FAR + ROOM);
        status = b.memory ? WE_OK : we_error_no_memory(err);
    }
    if (status == WE_OK) {
        for (size_t at = 0; at < (FAR + ROOM) / sizeof(float); at += PAGE / sizeof(float))
            b.memory[at] = 1; /* pages of its own */
        run_passes(&b, out);
    }
    we_memory_free(b.memory);
    we_pool_free(b.all);
    we_pool_free(b.pool);
    return status;
}
