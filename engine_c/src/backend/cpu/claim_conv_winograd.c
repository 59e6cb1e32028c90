/* Convolution by 3 x 3 filters, Winograd's way: patches of the image and filters are transformed, multiplied
 * position by position of the patch over all channels, and the sums transformed back. 4 x 4 outputs need 36
 * multiplications where the direct way needs 144, 2 x 2 outputs 16 for 36, 6 x 6 outputs 64 for 324; the
 * results differ from the direct way's by some units in float32's last places (relative Frobenius error some
 * 1e-6, of 6 x 6 outputs up to 5e-6).
 *
 * Tiles are taken in chunks whose transformed patches and sums stay near. Threads take whole chunks, as many
 * each; where there are too few tiles for that, a chunk is shared out step by step. */
#include <math.h>
#include <string.h>

#include "backend/cpu/conv.h"
#include "backend/cpu/gemm.h"
#include "base/error.h"

enum {
    TAPS = 9,
    CHUNK_FLOATS = 256 << 10, /* of patches and sums: 1 MiB */
    CHUNK_TILES = 14,         /* at least: with fewer rows of a product its filters arrive too slowly */
    PATCHES = WE_WINOGRAD_SIZE * WE_WINOGRAD_SIZE,
    BLOCK = 16, /* filters transformed side by side */
    LINE_FLOATS = 16,
    FEWEST_CHANNELS = 8,
    FILTER_STEPS = 60, /* to transform a filter that varies, and */
    PLACE_STEPS = 6,   /* for each place of its patch */
};

/* What the transforms round off goes by the numbers of the whole patch. An output that is a sum of a few of
 * them only, of few channels or at a corner far outside the image, could lose more than `high` may. */
static bool sums_enough(const we_conv *c) {
    for (int32_t i = 0; i < 2; i++) {
        if (c->w.pad_begin[i] > 1 || c->w.pad_end[i] > 1)
            return false;
    }
    return c->channels >= FEWEST_CHANNELS;
}

typedef struct parameters {
    we_conv conv;
    int32_t outputs, size; /* of a tile and of its patch, per side */
    int64_t down, across;  /* tiles of an image */
    we_matmul product;     /* [tiles, channels] by [channels, filters], for every place of the patch */
    const float *packed;   /* per place, panels of transformed filters; made at preparation, or by a run
                              where they vary */
    float *zeros;          /* what lies outside the image; likewise */
} parameters;

static bool accept(const we_call *call, we_arena *arena, int32_t outputs, const void **out) {
    we_conv c;
    if (!we_conv_read_varying(call, &c) || c.group != 1 || !sums_enough(&c))
        return false;
    for (int32_t i = 0; i < 2; i++) {
        if (c.w.kernel[i] != 3 || c.w.stride[i] != 1 || c.w.dilation[i] != 1)
            return false;
    }
    parameters *p = we_arena_new(arena, sizeof *p);
    if (!p)
        return false;
    *p = (parameters){.conv = c,
                      .outputs = outputs,
                      .size = outputs + 2,
                      .down = we_panels(c.w.out[0], outputs),
                      .across = we_panels(c.w.out[1], outputs)};
    p->product = (we_matmul){.m = c.items * p->down * p->across,
                             .n = c.filters,
                             .k = c.channels,
                             .batch_rank = 1,
                             .batch = {p->size * p->size}};
    *out = p;
    return true;
}

static bool accept_2(const we_call *call, we_arena *arena, const void **out) {
    return accept(call, arena, 2, out);
}

static bool accept_6(const we_call *call, we_arena *arena, const void **out) {
    return accept(call, arena, 6, out);
}

static bool accept_4(const we_call *call, we_arena *arena, const void **out) {
    return accept(call, arena, 4, out);
}

/* Both transforms, some steps per tile and channel (measured on Zen 5); the products are priced by the
 * search. */
static double cost(const void *given) {
    const parameters *p = given;
    double in = p->outputs == 6 ? 148 : p->outputs == 4 ? 56 : 24;
    double out = p->outputs == 6 ? 156 : p->outputs == 4 ? 64 : 28;
    double filters = p->conv.weights_vary ? (double)(p->conv.channels * p->conv.filters) : 0;
    return (double)p->product.m * (in * (double)p->conv.channels + out * (double)p->conv.filters) +
           filters * (FILTER_STEPS + PLACE_STEPS * p->size * p->size);
}

static const we_matmul *product(const void *given) {
    return &((const parameters *)given)->product;
}

/* ---- Filters ---- */

static const float G6[8][3] = {{1, 0, 0},
                               {-2.f / 9, -2.f / 9, -2.f / 9},
                               {-2.f / 9, 2.f / 9, -2.f / 9},
                               {1.f / 90, 1.f / 45, 2.f / 45},
                               {1.f / 90, -1.f / 45, 2.f / 45},
                               {32.f / 45, 16.f / 45, 8.f / 45},
                               {32.f / 45, -16.f / 45, 8.f / 45},
                               {0, 0, 1}};
static const float G4[6][3] = {{1.f / 4, 0, 0},
                               {-1.f / 6, -1.f / 6, -1.f / 6},
                               {-1.f / 6, 1.f / 6, -1.f / 6},
                               {1.f / 24, 1.f / 12, 1.f / 6},
                               {1.f / 24, -1.f / 12, 1.f / 6},
                               {0, 0, 1}};
static const float G2[4][3] = {{1, 0, 0}, {.5f, .5f, .5f}, {.5f, -.5f, .5f}, {0, 0, 1}};

static const float (*g_of(const parameters *p))[3] {
    return p->outputs == 6 ? G6 : p->outputs == 4 ? G4 : G2;
}

/* G g transpose(G) of a block of filters side by side. */
static void transform_block(const float (*g)[3], int32_t size, float taps[TAPS][BLOCK],
                            float out[PATCHES][BLOCK]) {
    float half[WE_WINOGRAD_SIZE][3][BLOCK];
    for (int32_t i = 0; i < size; i++) {
        for (int32_t j = 0; j < 3; j++) {
            for (int32_t f = 0; f < BLOCK; f++)
                half[i][j][f] = g[i][0] * taps[j][f] + g[i][1] * taps[3 + j][f] + g[i][2] * taps[6 + j][f];
        }
    }
    for (int32_t i = 0; i < size; i++) {
        for (int32_t j = 0; j < size; j++) {
            for (int32_t f = 0; f < BLOCK; f++)
                out[i * size + j][f] =
                    g[j][0] * half[i][0][f] + g[j][1] * half[i][1][f] + g[j][2] * half[i][2][f];
        }
    }
}

/* The filters of one channel, `count` <= BLOCK of them from `first` on, to their columns of a panel; those
 * past the last filter are zeros. */
static void pack_block(const parameters *p, int64_t channel, int64_t first, int64_t count, int64_t each,
                       float *to) {
    const we_conv *c = &p->conv;
    const we_conv_steps at = we_conv_weight_steps(c);
    float taps[TAPS][BLOCK] = {{0}}, out[PATCHES][BLOCK];
    for (int64_t f = 0; f < count && first + f < c->filters; f++) {
        const float *from = c->weights + at.first + (first + f) * at.filter + channel * at.channel;
        for (int32_t t = 0; t < TAPS; t++)
            taps[t][f] = from[t * at.tap];
    }
    transform_block(g_of(p), p->size, taps, out);
    for (int32_t place = 0; place < p->size * p->size; place++)
        memcpy(to + place * each, out[place], (size_t)count * sizeof **out);
}

typedef struct pack_job {
    const parameters *p;
    int64_t columns, each; /* floats of one place */
    float *to;
} pack_job;

static void pack_panels(void *context, int64_t begin, int64_t end) {
    const pack_job *j = context;
    int64_t channels = j->p->conv.channels, columns = j->columns;
    for (int64_t panel = begin; panel < end; panel++) {
        for (int64_t channel = 0; channel < channels; channel++) {
            float *to = j->to + (panel * channels + channel) * columns;
            for (int64_t f = 0; f < columns; f += BLOCK)
                pack_block(j->p, channel, panel * columns + f, we_least(BLOCK, columns - f), j->each, to + f);
        }
    }
}

static void pack_filters(we_pool *pool, const void *context, void *to) {
    pack_job j = *(const pack_job *)context;
    const we_conv *c = &j.p->conv;
    j.to = to;
    we_parallel_for(pool, we_panels(c->filters, j.columns), 1 + 4096 / (c->channels * j.columns), pack_panels,
                    &j);
}

static int64_t packed_floats(const parameters *p, const we_matmul_row *kernel) {
    return p->size * p->size * we_gemm_packed(kernel, p->conv.filters, p->conv.channels);
}

static we_status pack_weights(we_program *program, const we_command *command, parameters *p, we_error *err) {
    const we_conv *c = &p->conv;
    const we_matmul_row *kernel = command->u.claim.kernel;
    pack_job j = {p, kernel->columns, we_gemm_packed(kernel, c->filters, c->channels), NULL};
    we_pack_key key = {.source = c->weights,
                       .source_bytes = (size_t)(c->filters * c->channels * TAPS) * sizeof *c->weights,
                       .form = g_of(p),
                       .parameters = {j.columns, c->filters, c->channels}};
    const void *packed = NULL;
    WE_TRY(we_program_pack(program, &key, (size_t)packed_floats(p, kernel) * sizeof(float), pack_filters, &j,
                           &packed, err));
    p->packed = packed;
    return WE_OK;
}

static we_status prepare(we_program *program, we_command *command, we_error *err) {
    parameters *p = (parameters *)command->u.claim.parameters; /* of this command alone */
    p->zeros = we_arena_new(&program->arena, (size_t)p->conv.channels * sizeof *p->zeros);
    if (!p->zeros)
        return we_error_no_memory(err);
    memset(p->zeros, 0, (size_t)p->conv.channels * sizeof *p->zeros);
    return p->conv.weights_vary ? WE_OK : pack_weights(program, command, p, err);
}

/* ---- Chunks ---- */

/* Does each thread take whole chunks? */
static bool takes_chunks(const parameters *p, int32_t threads) {
    return p->product.m >= (int64_t)CHUNK_TILES * threads;
}

/* Chunks, of equal size but for one tile: as many as keep them about as large as they may be, and for every
 * thread the same number. */
static int64_t chunk_count(const parameters *p, int32_t threads) {
    int64_t each = p->size * p->size * (p->conv.channels + p->conv.filters), tiles = p->product.m;
    bool shared = threads > 1 && !takes_chunks(p, threads);
    int64_t most = CHUNK_FLOATS / each * (shared ? threads : 1);
    most = most < CHUNK_TILES ? CHUNK_TILES : most;
    int64_t count = (tiles + most / 2) / most;
    count = count < 1 ? 1 : count;
    return shared ? count : we_least(we_panels(count, threads) * threads, tiles);
}

static int64_t chunk_tiles(const void *given, int32_t threads) {
    const parameters *p = given;
    return we_panels(p->product.m, chunk_count(p, threads));
}

/* From one place of the patch to the next: an odd number of cache lines, so that a tile's spread over the
 * sets of the cache (16 tiles of 64 channels, 36 places: 0.110 to 0.100 ms, Zen 5). */
static int64_t plane_floats(int64_t tiles, int64_t channels) {
    return (we_panels(tiles * channels, LINE_FLOATS) | 1) * LINE_FLOATS;
}

static size_t chunk_floats(const parameters *p, int32_t threads) {
    int64_t tiles = chunk_tiles(p, threads), places = p->size * p->size;
    return (size_t)(places * (plane_floats(tiles, p->conv.channels) + plane_floats(tiles, p->conv.filters)));
}

static size_t scratch_size(const we_program *program, const we_command *command, int32_t threads) {
    const parameters *p = command->u.claim.parameters;
    (void)program;
    size_t packed = p->conv.weights_vary ? (size_t)packed_floats(p, command->u.claim.kernel) : 0;
    return (packed + chunk_floats(p, threads) * (size_t)threads) * sizeof(float);
}

typedef struct chunk {
    const we_run *run;
    const we_command *command;
    const parameters *p;
    int64_t first, tiles;
    float *patches, *sums;          /* [places][tiles][channels or filters], */
    int64_t patch_plane, sum_plane; /* so many floats from place to place */
} chunk;

/* Where a tile lies: its image and its first output. */
typedef struct spot {
    int64_t item, y, x;
} spot;

static spot spot_of(const parameters *p, int64_t tile) {
    int64_t in_image = tile % (p->down * p->across);
    return (spot){tile / (p->down * p->across), in_image / p->across * p->outputs,
                  in_image % p->across * p->outputs};
}

static void transform_patches(void *context, int64_t begin, int64_t end) {
    const chunk *k = context;
    const parameters *p = k->p;
    const we_window *w = &p->conv.w;
    const int32_t image = k->command->in[0];
    const void *patch[PATCHES];
    int64_t channels = p->conv.channels;
    for (int64_t tile = begin; tile < end; tile++) {
        spot s = spot_of(p, k->first + tile);
        for (int32_t i = 0; i < p->size * p->size; i++) {
            int64_t y = s.y - w->pad_begin[0] + i / p->size, x = s.x - w->pad_begin[1] + i % p->size;
            bool inside = y >= 0 && y < w->in[0] && x >= 0 && x < w->in[1];
            int64_t at = ((s.item * w->in[0] + y) * w->in[1] + x) * channels;
            patch[i] = inside ? we_conv_at(k->run, image, at) : p->zeros;
        }
        k->run->kernels->winograd_in[we_conv_dtype(k->run, image)](
            p->outputs, channels, patch, k->patches + tile * channels, k->patch_plane);
    }
}

static void multiply_places(void *context, int64_t begin, int64_t end) {
    const chunk *k = context;
    const we_conv *c = &k->p->conv;
    const we_matmul_row *kernel = k->command->u.claim.kernel;
    for (int64_t place = begin; place < end; place++) {
        we_gemm g = {.kernel = kernel,
                     .m = k->tiles,
                     .n = c->filters,
                     .runs = 1,
                     .depth = c->channels,
                     .a = k->patches + place * k->patch_plane,
                     .a_row = c->channels,
                     .packed = k->p->packed + place * we_gemm_packed(kernel, c->filters, c->channels),
                     .c = k->sums + place * k->sum_plane,
                     .ldc = c->filters,
                     .low = -INFINITY,
                     .high = INFINITY};
        we_gemm_run(NULL, &g, NULL);
    }
}

static void transform_sums(void *context, int64_t begin, int64_t end) {
    const chunk *k = context;
    const parameters *p = k->p;
    const we_conv *c = &p->conv;
    int64_t pitch = we_conv_pitch(c, k->command);
    const int32_t added = k->command->in[1];
    void *to[PATCHES];
    const void *residual[PATCHES];
    we_winograd_out o = {.channels = c->filters,
                         .plane = k->sum_plane,
                         .bias = c->bias,
                         .to = to,
                         .residual = added >= 0 ? residual : NULL,
                         .low = k->command->u.claim.relu ? 0 : -INFINITY,
                         .high = k->command->u.claim.ceiling > 0 ? k->command->u.claim.ceiling : INFINITY};
    for (int64_t tile = begin; tile < end; tile++) {
        spot s = spot_of(p, k->first + tile);
        for (int32_t i = 0; i < p->outputs * p->outputs; i++) {
            int64_t y = s.y + i / p->outputs, x = s.x + i % p->outputs;
            int64_t at = ((s.item * c->w.out[0] + y) * c->w.out[1] + x) * pitch;
            bool inside = y < c->w.out[0] && x < c->w.out[1];
            to[i] = inside ? we_conv_out(k->run, k->command, at) : NULL;
            residual[i] = inside && added >= 0 ? we_conv_at(k->run, added, at) : NULL;
        }
        o.from = k->sums + tile * c->filters;
        k->run->kernels->winograd_out[we_conv_dtype(k->run, k->command->out)](p->outputs, &o);
    }
}

typedef struct job {
    const we_run *run;
    const we_command *command;
} job;

static chunk chunk_at(const job *j, int64_t index, int32_t threads) {
    const parameters *p = j->command->u.claim.parameters;
    int64_t count = chunk_count(p, threads), first = p->product.m * index / count;
    chunk k = {.run = j->run, .command = j->command, .p = p, .first = first};
    k.tiles = p->product.m * (index + 1) / count - first;
    k.patches = (float *)j->run->scratch + (size_t)we_run_worker(j->run) * chunk_floats(p, threads);
    k.patch_plane = plane_floats(k.tiles, p->conv.channels);
    k.sum_plane = plane_floats(k.tiles, p->conv.filters);
    k.sums = k.patches + p->size * p->size * k.patch_plane;
    return k;
}

static void run_chunks(void *context, int64_t begin, int64_t end) {
    const job *j = context;
    for (int64_t i = begin; i < end; i++) {
        chunk k = chunk_at(j, i, we_pool_threads(j->run->pool));
        transform_patches(&k, 0, k.tiles);
        multiply_places(&k, 0, k.p->size * k.p->size);
        transform_sums(&k, 0, k.tiles);
    }
}

static void run_packed(const we_run *run, const we_command *command) {
    const parameters *p = command->u.claim.parameters;
    int32_t threads = we_pool_threads(run->pool);
    int64_t chunks = chunk_count(p, threads);
    job j = {run, command};
    if (threads == 1 || takes_chunks(p, threads)) {
        we_parallel_for(run->pool, chunks, 1, run_chunks, &j);
        return;
    }
    for (int64_t i = 0; i < chunks; i++) {
        chunk k = chunk_at(&j, i, threads);
        int64_t steps = k.tiles * p->conv.channels * p->conv.filters;
        we_parallel_for(run->pool, k.tiles, 1 + 4096 / p->conv.channels, transform_patches, &k);
        we_parallel_for(run->pool, p->size * p->size, 1 + 400000 / steps, multiply_places, &k);
        we_parallel_for(run->pool, k.tiles, 1 + 4096 / p->conv.filters, transform_sums, &k);
    }
}

/* With what varies in the place of what was prepared. */
static void run_claim(const we_run *run, const we_command *command) {
    parameters own = *(const parameters *)command->u.claim.parameters;
    const we_matmul_row *kernel = command->u.claim.kernel;
    we_run rest = *run;
    we_command packed = *command;
    if (own.conv.weights_vary) {
        own.conv.weights = we_claim_in(run, command, 1);
        const pack_job j = {&own, kernel->columns,
                            we_gemm_packed(kernel, own.conv.filters, own.conv.channels), NULL};
        pack_filters(run->pool, &j, run->scratch);
        own.packed = run->scratch;
        rest.scratch = (float *)run->scratch + packed_floats(&own, kernel);
    }
    if (own.conv.bias_varies)
        own.conv.bias = we_claim_in(run, command, 2);
    packed.u.claim.parameters = &own;
    run_packed(&rest, &packed);
}

static we_narrow narrows(const we_command *command) {
    (void)command;
    return (we_narrow){.in = true, .residual = true, .out = true, .result_as_residual = true};
}

#define METHODS(outputs)                                                                                     \
    const we_claim_methods we_claim_conv_winograd_##outputs = {                                              \
        .accept = accept_##outputs,                                                                          \
        .cost = cost,                                                                                        \
        .run = run_claim,                                                                                    \
        .product = product,                                                                                  \
        .rows = chunk_tiles,                                                                                 \
        .prepare = prepare,                                                                                  \
        .scratch_size = scratch_size,                                                                        \
        .reads_varying = 1 << 1 | 1 << 2,                                                                    \
        .differentiable = true,                                                                              \
        .channels_last = true,                                                                               \
        .places = true,                                                                                      \
        .approximate = true,                                                                                 \
        .fuses = true,                                                                                       \
        .narrows = narrows,                                                                                  \
    };
METHODS(2)
METHODS(4)
METHODS(6)
