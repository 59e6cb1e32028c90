/* The engine through its public header: half-width conversions, handles, the builder, and every allocation
 * failing in turn while a small network is built, prepared and run. */
#include <math.h>
#include <string.h>

#include "base/dtype.h"
#include "base/memory.h"
#include "failing.h"
#include <walle/engine.h>

static void check_halves(void) {
    for (uint32_t bits = 0; bits < 65536; bits++) {
        float value = we_f16_to_f32((uint16_t)bits);
        uint16_t back = we_f32_to_f16(value);
        CHECK(value != value ? (back & 0x7C00) == 0x7C00 && (back & 0x3FF) : back == bits,
              "f16 %04x comes back as %04x", bits, back);
        value = we_bf16_to_f32((uint16_t)bits);
        back = we_f32_to_bf16(value);
        CHECK(value != value || back == bits, "bf16 %04x comes back as %04x", bits, back);
    }
    CHECK(we_f32_to_f16(65520.0f) == 0x7C00 && we_f32_to_f16(65519.0f) == 0x7BFF, "f16 overflow");
    CHECK(we_f32_to_f16(1.0f + 0x1p-11f) == 0x3C00 && we_f32_to_f16(1.0f + 0x1.8p-10f) == 0x3C02,
          "f16 ties to even");
    CHECK(we_f32_to_bf16(1.0f + 0x1p-8f) == 0x3F80 && we_f32_to_bf16(1.0f + 0x1.8p-7f) == 0x3F82,
          "bf16 ties to even");
}

static void check_handles(void) {
    we_block *block, *back;
    uint64_t handle;
    we_error error;
    const int64_t dims[] = {2, 3};
    int64_t before = we_live_blocks();
    CHECK(we_block_new(WE_F32, 2, dims, &block, &error) == WE_OK, "%s", error.message);
    CHECK(we_block_export(block, &handle, &error) == WE_OK, "%s", error.message);
    we_block_release(block);
    CHECK(we_live_blocks() == before + 1, "the export holds a reference");
    CHECK(we_block_import(handle, &back, &error) == WE_OK && back == block, "import");
    CHECK(we_block_import(handle, &block, &error) == WE_INVALID_ARGUMENT, "a handle works once");
    CHECK(we_block_import(0, &block, &error) == WE_INVALID_ARGUMENT, "handle 0");
    CHECK(we_block_import(UINT64_MAX, &block, &error) == WE_INVALID_ARGUMENT, "handle -1");
    we_block_release(back);
    CHECK(we_live_blocks() == before, "no block is left");
}

/* Conv -> Relu -> MaxPool -> Reshape -> MatMul on [1, 1, 6, 6]. */
static we_status build(we_model **model, we_error *err) {
    static float weight[2 * 9], matrix[18 * 3];
    static int64_t shape[2] = {1, 18};
    const int64_t x_dims[] = {1, 1, 6, 6}, pads[] = {1, 1, 1, 1}, two[] = {2, 2};
    we_view w = {WE_F32, 4, {2, 1, 3, 3}, weight}, m = {WE_F32, 2, {18, 3}, matrix},
            s = {WE_I64, 1, {2}, shape};
    we_attr conv_attrs[] = {{.name = "pads", .kind = WE_ATTR_INTS, .integers = pads, .count = 4}};
    we_attr pool_attrs[] = {{.name = "kernel_shape", .kind = WE_ATTR_INTS, .integers = two, .count = 2},
                            {.name = "strides", .kind = WE_ATTR_INTS, .integers = two, .count = 2}};
    const char *conv_in[] = {"x", "w"}, *reshape_in[] = {"p", "s"}, *product_in[] = {"f", "m"};
    const char *c = "c", *r = "r", *p = "p", *f = "f", *y = "y";
    we_builder *b = NULL;
    for (int i = 0; i < 54; i++) {
        matrix[i] = (float)(i % 5) - 2;
        weight[i % 18] = (float)(i % 7) - 3;
    }
    we_status status = we_builder_new("small", &b, err);
    if (status == WE_OK)
        status = we_builder_input(b, "x", WE_F32, 4, x_dims, NULL, err);
    if (status == WE_OK)
        status = we_builder_weight(b, "w", &w, err);
    if (status == WE_OK)
        status = we_builder_weight(b, "m", &m, err);
    if (status == WE_OK)
        status = we_builder_weight(b, "s", &s, err);
    if (status == WE_OK)
        status = we_builder_node(b, "MatMul", "last", product_in, 2, &y, 1, NULL, 0,
                                 err); /* out of order on purpose */
    if (status == WE_OK)
        status = we_builder_node(b, "Conv", "first", conv_in, 2, &c, 1, conv_attrs, 1, err);
    if (status == WE_OK)
        status = we_builder_node(b, "Relu", "relu", &c, 1, &r, 1, NULL, 0, err);
    if (status == WE_OK)
        status = we_builder_node(b, "MaxPool", "pool", &r, 1, &p, 1, pool_attrs, 2, err);
    if (status == WE_OK)
        status = we_builder_node(b, "Reshape", "flat", reshape_in, 2, &f, 1, NULL, 0, err);
    if (status == WE_OK)
        status = we_builder_output(b, "y", err);
    if (status == WE_OK)
        status = we_builder_finish(b, model, err);
    we_builder_free(b);
    return status;
}

static we_status build_and_run(float *out, uint32_t flags, we_error *err) {
    float x[36];
    we_model *model = NULL;
    we_session *session = NULL;
    we_block *output = NULL;
    we_session_options options = {.threads = 2, .flags = flags};
    we_binding binding = {"x", {WE_F32, 4, {1, 1, 6, 6}, x}};
    for (int i = 0; i < 36; i++)
        x[i] = (float)(i * 7 % 11) - 5;
    we_status status = build(&model, err);
    if (status == WE_OK)
        status = we_session_new(model, &options, &session, err);
    if (status == WE_OK)
        status = we_session_run(session, &binding, 1, &output, err);
    if (status == WE_OK)
        memcpy(out, we_block_view(output).data, 3 * sizeof *out);
    we_block_release(output);
    we_session_release(session);
    we_model_release(model);
    return status;
}

static void check_settings_agree(const float *want) {
    for (uint32_t flags = 0; flags < 16; flags++) {
        float got[3];
        we_error error = {0};
        CHECK(build_and_run(got, flags, &error) == WE_OK, "flags %u: %s", flags, error.message);
        CHECK(memcmp(got, want, sizeof got) == 0, "flags %u change the result",
              flags); /* small integers: exact */
    }
}

static we_status as_given(float *out, we_error *err) {
    return build_and_run(out, 0, err);
}

int main(void) {
    float want[3] = {0};
    we_error error = {0};
    check_halves();
    check_handles();
    CHECK(build_and_run(want, 0, &error) == WE_OK, "%s", error.message);
    CHECK(want[0] != 0 || want[1] != 0, "the network computes something");
    check_settings_agree(want);
    check_failing_allocations(as_given, want, 3);
    return check_result();
}
