/* A step of training through the public header, every allocation failing in turn: products, windows, extremes
 * and a recurrence, whose loop gets a tape. */
#include <math.h>
#include <string.h>

#include "failing.h"
#include <walle/engine.h>

enum {
    INPUTS = 5,
    OUTPUTS = 4,
    MOST = 64,
};

typedef struct input {
    const char *name;
    int32_t rank;
    int64_t dims[4];
} input;

static const input GIVEN[INPUTS] = {
    {"x", 4, {1, 1, 6, 6}},  {"filter", 4, {2, 1, 3, 3}}, {"matrix", 2, {18, 3}},
    {"steps", 3, {4, 1, 3}}, {"recurrent", 3, {1, 2, 2}},
};
static const char *const WANTED[OUTPUTS] = {"loss", "of filter", "of matrix", "of recurrent"};

static we_status node(we_builder *b, const char *op, const char *inputs, const char *outputs,
                      const we_attr *attrs, size_t attr_count, we_error *err) {
    char text[2][128];
    const char *names[2][MOST];
    size_t counts[2] = {0, 0};
    strcpy(text[0], inputs);
    strcpy(text[1], outputs);
    for (int side = 0; side < 2; side++) {
        for (char *name = text[side], *end; name; name = end) {
            end = strchr(name, ',');
            if (end)
                *end++ = 0;
            names[side][counts[side]++] = name;
        }
    }
    return we_builder_node(b, op, op, names[0], counts[0], names[1], counts[1], attrs, attr_count, err);
}

static we_status add_nodes(we_builder *b, we_error *err) {
    static float weight[6] = {0.5f, -0.25f, 1, 0.75f, 0.5f, -1};
    static int64_t shape[2] = {1, 18};
    const int64_t pads[] = {1, 1, 1, 1}, two[] = {2, 2};
    we_view held = {WE_F32, 3, {1, 2, 3}, weight}, flat = {WE_I64, 1, {2}, shape};
    we_attr conv[] = {{.name = "pads", .kind = WE_ATTR_INTS, .integers = pads, .count = 4}};
    we_attr pool[] = {{.name = "kernel_shape", .kind = WE_ATTR_INTS, .integers = two, .count = 2},
                      {.name = "strides", .kind = WE_ATTR_INTS, .integers = two, .count = 2}};
    we_attr rnn[] = {{.name = "hidden_size", .kind = WE_ATTR_INT, .integer = 2}};
    we_attr sum[] = {{.name = "keepdims", .kind = WE_ATTR_INT, .integer = 0}};
    we_status status = we_builder_weight(b, "weight", &held, err);
    if (status == WE_OK)
        status = we_builder_weight(b, "flat", &flat, err);
    if (status == WE_OK)
        status = node(b, "Conv", "x,filter", "c", conv, 1, err);
    if (status == WE_OK)
        status = node(b, "MaxPool", "c", "p", pool, 2, err);
    if (status == WE_OK)
        status = node(b, "Reshape", "p,flat", "f", NULL, 0, err);
    if (status == WE_OK)
        status = node(b, "MatMul", "f,matrix", "y", NULL, 0, err);
    if (status == WE_OK)
        status = node(b, "RNN", "steps,weight,recurrent", "h", rnn, 1, err);
    if (status == WE_OK)
        status = node(b, "ReduceSumSquare", "y", "first", sum, 1, err);
    if (status == WE_OK)
        status = node(b, "ReduceSum", "h", "second", sum, 1, err);
    if (status == WE_OK)
        status = node(b, "Add", "first,second", "loss", NULL, 0, err);
    if (status == WE_OK)
        status = node(b, "Gradient", "filter,matrix,recurrent,loss", "of filter,of matrix,of recurrent", NULL,
                      0, err);
    return status;
}

static we_status build(we_model **model, we_error *err) {
    we_builder *b = NULL;
    we_status status = we_builder_new("step", &b, err);
    for (int i = 0; i < INPUTS && status == WE_OK; i++)
        status = we_builder_input(b, GIVEN[i].name, WE_F32, GIVEN[i].rank, GIVEN[i].dims, NULL, err);
    if (status == WE_OK)
        status = add_nodes(b, err);
    for (int i = 0; i < OUTPUTS && status == WE_OK; i++)
        status = we_builder_output(b, WANTED[i], err);
    if (status == WE_OK)
        status = we_builder_finish(b, model, err);
    we_builder_free(b);
    return status;
}

/* The numbers of all outputs, one behind the other; `step` is added to element `at` of `moved` (-1: nothing).
 */
static we_status build_and_run(float *out, int moved, int at, float step, we_error *err) {
    float memory[INPUTS][MOST];
    we_model *model = NULL;
    we_session *session = NULL;
    we_block *outputs[OUTPUTS] = {NULL};
    we_binding bindings[INPUTS];
    for (int i = 0; i < INPUTS; i++) {
        for (int k = 0; k < MOST; k++)
            memory[i][k] = sinf((float)(k * 7 + i * 3 + 1)) * 0.5f;
        if (i == moved)
            memory[i][at] += step;
        bindings[i] = (we_binding){GIVEN[i].name, {WE_F32, GIVEN[i].rank, {0}, memory[i]}};
        memcpy(bindings[i].view.dims, GIVEN[i].dims, sizeof GIVEN[i].dims);
    }
    we_status status = build(&model, err);
    if (status == WE_OK)
        status = we_session_new(model, NULL, &session, err);
    if (status == WE_OK)
        status = we_session_run(session, bindings, INPUTS, outputs, err);
    for (int i = 0; i < OUTPUTS && status == WE_OK; i++) {
        size_t bytes = we_block_nbytes(outputs[i]);
        memcpy(out, we_block_view(outputs[i]).data, bytes);
        out += bytes / sizeof *out;
    }
    for (int i = 0; i < OUTPUTS; i++)
        we_block_release(outputs[i]);
    we_session_release(session);
    we_model_release(model);
    return status;
}

enum {
    FILTER = 1,
    MATRIX = FILTER + 18,
    RECURRENT = MATRIX + 54,
    NUMBERS = RECURRENT + 4,
};

/* The gradient of one element beside the slope of the loss. */
static void check_slope(const float *want, int input, int at, int place) {
    const float step = 1e-2f;
    float ahead[NUMBERS], behind[NUMBERS];
    we_error error = {0};
    CHECK(build_and_run(ahead, input, at, step, &error) == WE_OK, "%s", error.message);
    CHECK(build_and_run(behind, input, at, -step, &error) == WE_OK, "%s", error.message);
    float slope = (ahead[0] - behind[0]) / (2 * step), said = want[place];
    CHECK(fabsf(slope - said) <= 2e-3f * (1 + fabsf(said)), "input %d, element %d: slope %g, gradient %g",
          input, at, (double)slope, (double)said);
}

static we_status unmoved(float *out, we_error *err) {
    return build_and_run(out, -1, 0, 0, err);
}

int main(void) {
    float want[NUMBERS] = {0};
    we_error error = {0};
    CHECK(build_and_run(want, -1, 0, 0, &error) == WE_OK, "%s", error.message);
    for (int at = 0; at < 18; at += 5)
        check_slope(want, 1, at, FILTER + at);
    for (int at = 0; at < 54; at += 7)
        check_slope(want, 2, at, MATRIX + at);
    for (int at = 0; at < 4; at++)
        check_slope(want, 4, at, RECURRENT + at);
    check_failing_allocations(unmoved, want, NUMBERS);
    return check_result();
}
