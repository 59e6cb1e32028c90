/* A program of three commands, played for itself: one on an element, one on what no cache holds, and a
 * product. */
#include "backend/opencl/measure.h"

#include "backend/opencl/play.h"
#include "backend/opencl/product.h"
#include "base/error.h"

enum {
    ONE, /* tensors: in and out of the first command, */
    ONE_OUT,
    MANY, /* of the second, */
    MANY_OUT,
    LEFT, /* and of the product */
    RIGHT,
    PRODUCT,
    TENSORS,
};
enum { START, STREAM, MULTIPLY, COMMANDS };
enum {
    TURNS = 3,
    LAUNCHES = 100,           /* of one element, in a row */
    COPIES = 20,              /* likewise */
    STREAM_FLOATS = 16 << 20, /* more than any cache of today's GPUs */
    STREAM_FLOATS_CPU = 4 << 20,
    SIDE = 2048, /* of the product */
    SIDE_CPU = 256,
};

typedef struct bench {
    const we_opencl_device *device;
    we_opencl_space *space;
    we_clock clock_s;
    void *context;
    float *host; /* as many floats as are streamed */
    we_error *err;
} bench;

static int64_t never(const void *plan, int32_t root) {
    (void)plan, (void)root;
    return -1;
}

static int64_t side_of(const we_opencl_device *d) {
    return d->type & WE_CL_TYPE_CPU ? SIDE_CPU : SIDE;
}

static int64_t streamed(const we_opencl_device *d) {
    return d->type & WE_CL_TYPE_CPU ? STREAM_FLOATS_CPU : STREAM_FLOATS;
}

static we_matmul product_of(int64_t side) {
    return (we_matmul){
        .m = side, .n = side, .k = side, .a_row = side, .a_column = 1, .b_row = side, .b_column = 1};
}

static void describe(const we_opencl_device *d, we_tensor tensors[TENSORS], we_command commands[COMMANDS]) {
    int64_t side = side_of(d),
            counts[TENSORS] = {1, 1, streamed(d), streamed(d), side * side, side * side, side * side};
    for (int32_t t = 0; t < TENSORS; t++)
        tensors[t] = (we_tensor){.dtype = WE_F32, .count = counts[t], .alias_of = -1};
    commands[START] =
        (we_command){.kind = WE_COMMAND_UNARY, .in = {ONE, -1, -1}, .out = ONE_OUT, .u.unary = WE_UNARY_Relu};
    commands[STREAM] = (we_command){
        .kind = WE_COMMAND_UNARY, .in = {MANY, -1, -1}, .out = MANY_OUT, .u.unary = WE_UNARY_Relu};
    commands[MULTIPLY] = (we_command){
        .kind = WE_COMMAND_MATMUL, .in = {LEFT, RIGHT, -1}, .out = PRODUCT, .u.matmul = product_of(side)};
}

/* ---- ns of one of `count`, the best of some turns ---- */

typedef we_status (*deed)(const bench *b, int32_t what);

static we_status play(const bench *b, int32_t command) {
    return we_opencl_play(b->space, command, b->err);
}

static we_status upload(const bench *b, int32_t tensor) {
    return we_opencl_upload(b->space, tensor, b->host, b->err);
}

static we_status download(const bench *b, int32_t tensor) {
    return we_opencl_download(b->space, tensor, b->host, b->err);
}

static we_status best_ns(const bench *b, deed work, int32_t what, int count, bool together, double *ns) {
    WE_TRY(work(b, what)); /* builds what is built late */
    WE_TRY(we_opencl_finish(b->space, NULL, b->err));
    for (int turn = 0; turn < TURNS; turn++) {
        double start = b->clock_s(b->context);
        for (int i = 0; i < count; i++) {
            WE_TRY(work(b, what));
            if (!together)
                WE_TRY(we_opencl_finish(b->space, NULL, b->err));
        }
        WE_TRY(we_opencl_finish(b->space, NULL, b->err));
        double each = (b->clock_s(b->context) - start) * 1e9 / count;
        *ns = turn == 0 || each < *ns ? each : *ns;
    }
    return WE_OK;
}

static we_status measure(const bench *b, we_opencl_parameters *out) {
    const we_opencl_device *d = b->device;
    double launch, stream, multiply, copy, to, from;
    double bytes = (double)streamed(d) * sizeof(float), side = (double)side_of(d);
    we_opencl_product product = {.p = product_of(side_of(d))};
    WE_TRY(best_ns(b, upload, ONE, COPIES, false, &copy));
    WE_TRY(best_ns(b, upload, MANY, 1, true, &to));
    WE_TRY(best_ns(b, play, START, LAUNCHES, true, &launch));
    WE_TRY(best_ns(b, play, STREAM, 1, true, &stream));
    WE_TRY(best_ns(b, download, MANY_OUT, 1, true, &from));
    WE_TRY(best_ns(b, play, MULTIPLY, 1, true, &multiply));
    *out = (we_opencl_parameters){.products = side * side * side / multiply /
                                              we_opencl_cut_of(d, &d->parameters, &product).share,
                                  .bandwidth = 2 * bytes / stream,
                                  .launch = launch,
                                  .to_rate = bytes / (to > copy ? to - copy : to),
                                  .from_rate = bytes / (from > copy ? from - copy : from),
                                  .copy = copy};
    return WE_OK;
}

we_status we_opencl_measure(we_opencl_device *device, we_clock clock_s, void *context,
                            we_opencl_parameters *out, we_error *err) {
    we_tensor tensors[TENSORS];
    we_command commands[COMMANDS];
    const bool here[COMMANDS] = {true, true, true};
    we_opencl_score *score = NULL;
    bench b = {.device = device, .clock_s = clock_s, .context = context, .err = err};
    describe(device, tensors, commands);
    we_program program = {
        .tensors = tensors, .tensor_count = TENSORS, .commands = commands, .command_count = COMMANDS};
    b.host = we_memory_new((size_t)streamed(device) * sizeof *b.host);
    const we_opencl_manner manner = {.parameters = device->parameters};
    we_status status = b.host
                           ? we_opencl_score_new(device, &manner, &program, here, never, NULL, 0, &score, err)
                           : we_error_no_memory(err);
    if (status == WE_OK)
        status = we_opencl_space_new(score, &b.space, err);
    if (status == WE_OK)
        status = measure(&b, out);
    we_opencl_space_free(b.space);
    we_opencl_score_free(score);
    we_memory_free(b.host);
    return status;
}
