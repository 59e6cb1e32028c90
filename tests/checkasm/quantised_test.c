/* A small quantised network with every allocation failing in turn while it is built, prepared and run. */
#include <string.h>

#include <walle/engine.h>

#include "failing.h"

enum {
    CHANNELS = 4,
    SIDE = 5,
    COUNT = CHANNELS * SIDE * SIDE,
};

static we_status node(we_builder *b, const char *op, const char *const *in, size_t in_count, const char *out,
                      we_error *err) {
    return we_builder_node(b, op, out, in, in_count, &out, 1, NULL, 0, err);
}

static we_status add_weights(we_builder *b, we_error *err) {
    static int8_t weights[CHANNELS * CHANNELS];
    static float scale = 0.5f;
    static uint8_t zero = 3;
    static int8_t none = 0;
    for (int i = 0; i < CHANNELS * CHANNELS; i++)
        weights[i] = (int8_t)(i * 5 % 7 - 3);
    we_view w = {WE_I8, 4, {CHANNELS, CHANNELS, 1, 1}, weights}, s = {WE_F32, 0, {0}, &scale};
    we_view z = {WE_U8, 0, {0}, &zero}, n = {WE_I8, 0, {0}, &none};
    we_status status = we_builder_weight(b, "w", &w, err);
    if (status == WE_OK)
        status = we_builder_weight(b, "s", &s, err);
    if (status == WE_OK)
        status = we_builder_weight(b, "z", &z, err);
    return status == WE_OK ? we_builder_weight(b, "n", &n, err) : status;
}

static we_status add_nodes(we_builder *b, we_error *err) {
    static const struct {
        const char *op, *in[3], *out;
        size_t count;
    } NODES[] = {{"QuantizeLinear", {"x", "s", "z"}, "xq", 3},
                 {"DequantizeLinear", {"xq", "s", "z"}, "xd", 3},
                 {"DequantizeLinear", {"w", "s", "n"}, "wd", 3},
                 {"Conv", {"xd", "wd"}, "c", 2},
                 {"Relu", {"c"}, "r", 1},
                 {"QuantizeLinear", {"r", "s", "z"}, "rq", 3},
                 {"DequantizeLinear", {"rq", "s", "z"}, "rd", 3},
                 {"Add", {"rd", "xd"}, "a", 2},
                 {"QuantizeLinear", {"a", "s", "z"}, "aq", 3},
                 {"DequantizeLinear", {"aq", "s", "z"}, "y", 3}};
    we_status status = add_weights(b, err);
    for (size_t i = 0; i < sizeof NODES / sizeof *NODES && status == WE_OK; i++)
        status = node(b, NODES[i].op, NODES[i].in, NODES[i].count, NODES[i].out, err);
    return status;
}

static we_status build(we_model **model, we_error *err) {
    static const int64_t dims[] = {1, CHANNELS, SIDE, SIDE};
    we_builder *b = NULL;
    we_status status = we_builder_new("quantised", &b, err);
    if (status == WE_OK)
        status = we_builder_input(b, "x", WE_F32, 4, dims, NULL, err);
    if (status == WE_OK)
        status = add_nodes(b, err);
    if (status == WE_OK)
        status = we_builder_output(b, "y", err);
    if (status == WE_OK)
        status = we_builder_finish(b, model, err);
    we_builder_free(b);
    return status;
}

static we_status build_and_run(float *out, uint32_t flags, we_error *err) {
    float x[COUNT];
    we_model *model = NULL;
    we_session *session = NULL;
    we_block *output = NULL;
    we_session_options options = {.threads = 2, .flags = flags};
    we_binding binding = {"x", {WE_F32, 4, {1, CHANNELS, SIDE, SIDE}, x}};
    for (int i = 0; i < COUNT; i++)
        x[i] = (float)(i * 7 % 11) - 5; /* exact in halves, so that float32 rounds nothing either */
    we_status status = build(&model, err);
    if (status == WE_OK)
        status = we_session_new(model, &options, &session, err);
    if (status == WE_OK)
        status = we_session_run(session, &binding, 1, &output, err);
    if (status == WE_OK)
        memcpy(out, we_block_view(output).data, COUNT * sizeof *out);
    we_block_release(output);
    we_session_release(session);
    we_model_release(model);
    return status;
}

static we_status on_bytes(float *out, we_error *err) {
    return build_and_run(out, 0, err);
}

int main(void) {
    float want[COUNT], plain[COUNT];
    we_error error = {0};
    CHECK(build_and_run(want, 0, &error) == WE_OK, "%s", error.message);
    CHECK(build_and_run(plain, WE_SESSION_NO_FUSE, &error) == WE_OK, "%s", error.message);
    CHECK(memcmp(want, plain, sizeof want) == 0, "layers on bytes change the result");
    CHECK(want[0] != want[1] || want[1] != want[2], "the network computes something");
    check_failing_allocations(on_bytes, want, COUNT);
    return check_result();
}
