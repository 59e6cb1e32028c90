/* Module mode through the public header: a model with a loop, a branch, a sequence, text and shapes from
 * data, and every allocation failing in turn while it is built and run. */
#include <string.h>

#include "failing.h"
#include <walle/engine.h>

/* A node of up to three inputs and two outputs ("" past the last) in a few words. */
typedef struct line {
    const char *op, *in[3], *out[2];
    we_attr attr;
} line;

static we_status add_lines(we_builder *b, const line *lines, size_t count, we_error *err) {
    for (size_t i = 0; i < count; i++) {
        size_t inputs = 0, outputs = 0;
        while (inputs < 3 && lines[i].in[inputs])
            inputs++;
        while (outputs < 2 && lines[i].out[outputs])
            outputs++;
        we_status status = we_builder_node(b, lines[i].op, lines[i].out[0], lines[i].in, inputs, lines[i].out,
                                           outputs, &lines[i].attr, lines[i].attr.name != NULL, err);
        if (status != WE_OK)
            return status;
    }
    return WE_OK;
}

/* (i, c, s, q) to (c, s + s, q with i, s): a state, a sequence, and a scan output. */
static we_status build_body(we_builder *b, we_error *err) {
    static const line LINES[] = {
        {.op = "Identity", .in = {"c"}, .out = {"go"}},
        {.op = "Add", .in = {"s", "x"}, .out = {"sum"}},
        {.op = "SequenceInsert", .in = {"q", "i"}, .out = {"longer"}},
        {.op = "Identity", .in = {"sum"}, .out = {"row"}},
    };
    static const char *const INPUTS[] = {"i", "c", "s", "q"}, *const OUTPUTS[] = {"go", "sum", "longer",
                                                                                  "row"};
    we_status status = WE_OK;
    for (int i = 0; i < 4 && status == WE_OK; i++)
        status = we_builder_input_untyped(b, INPUTS[i], WE_IO_TENSOR, WE_DTYPE_COUNT, err);
    if (status == WE_OK)
        status = add_lines(b, LINES, sizeof LINES / sizeof *LINES, err);
    for (int i = 0; i < 4 && status == WE_OK; i++)
        status = we_builder_output(b, OUTPUTS[i], err);
    return status;
}

static we_status build_branch(we_builder *b, const char *op, we_error *err) {
    const line only = {.op = op, .in = {"last"}, .out = {"chosen"}};
    we_status status = add_lines(b, &only, 1, err);
    return status == WE_OK ? we_builder_output(b, "chosen", err) : status;
}

static we_status build_graph(we_builder *b, we_builder *body, we_builder *yes, we_builder *no,
                             we_error *err) {
    static int64_t trips = 3, shape[2] = {-1, 1};
    const int64_t dims[] = {-1};
    const line before[] = {
        {.op = "SequenceEmpty", .in = {NULL}, .out = {"none"}},
        {.op = "RegexFullMatch",
         .in = {"t"},
         .out = {"fits"},
         .attr = {.name = "pattern", .kind = WE_ATTR_STRING, .string = "(a|b)+c?"}},
        {.op = "NonZero", .in = {"x"}, .out = {"places"}},
        {.op = "Shape", .in = {"places"}, .out = {"size"}},
        {.op = "ConstantOfShape", .in = {"size"}, .out = {"zeros"}},
    };
    const char *loop_in[] = {"trips", "", "x", "none"}, *loop_out[] = {"last", "counts", "rows"},
               *chosen = "y";
    we_attr body_attr = {.name = "body", .kind = WE_ATTR_GRAPH, .graph = body};
    we_attr branches[] = {{.name = "then_branch", .kind = WE_ATTR_GRAPH, .graph = yes},
                          {.name = "else_branch", .kind = WE_ATTR_GRAPH, .graph = no}};
    const line after[] = {{.op = "StringConcat", .in = {"t", "t"}, .out = {"twice"}},
                          {.op = "Reshape", .in = {"twice", "shape"}, .out = {"texts"}}};
    const char *outputs[] = {"y", "counts", "rows", "texts", "zeros"};
    we_view n = {WE_I64, 0, {0}, &trips}, s = {WE_I64, 1, {2}, shape};
    const char *condition = "fits";
    we_status status = we_builder_input(b, "x", WE_F32, 1, dims, NULL, err);
    if (status == WE_OK)
        status = we_builder_input(b, "t", WE_STRING, 1, dims, NULL, err);
    if (status == WE_OK)
        status = we_builder_weight(b, "trips", &n, err);
    if (status == WE_OK)
        status = we_builder_weight(b, "shape", &s, err);
    if (status == WE_OK)
        status = add_lines(b, before, sizeof before / sizeof *before, err);
    if (status == WE_OK)
        status = we_builder_node(b, "Loop", "loop", loop_in, 4, loop_out, 3, &body_attr, 1, err);
    if (status == WE_OK)
        status = we_builder_node(b, "If", "if", &condition, 1, &chosen, 1, branches, 2, err);
    if (status == WE_OK)
        status = add_lines(b, after, sizeof after / sizeof *after, err);
    for (int i = 0; i < 5 && status == WE_OK; i++)
        status = we_builder_output(b, outputs[i], err);
    return status;
}

static we_status build(we_model **model, we_error *err) {
    we_builder *b[4] = {NULL};
    we_status status = WE_OK;
    for (int i = 0; i < 4 && status == WE_OK; i++)
        status = we_builder_new("module", &b[i], err);
    if (status == WE_OK)
        status = build_body(b[1], err);
    if (status == WE_OK)
        status = build_branch(b[2], "Neg", err);
    if (status == WE_OK)
        status = build_branch(b[3], "Identity", err);
    if (status == WE_OK)
        status = build_graph(b[0], b[1], b[2], b[3], err);
    if (status == WE_OK)
        status = we_builder_finish(b[0], model, err);
    for (int i = 0; i < 4; i++)
        we_builder_free(b[i]);
    return status;
}

static void check_outputs(we_datum *const *outputs) {
    we_block *y = we_datum_block(outputs[0]), *rows = we_datum_block(outputs[2]),
             *texts = we_datum_block(outputs[3]);
    we_datum *item = we_datum_item(outputs[1], 2);
    we_block *count = we_datum_block(item);
    we_view view = we_block_view(rows);
    CHECK(((const float *)we_block_view(y).data)[2] == -12, "the branch taken negates the loop's result");
    CHECK(view.rank == 2 && view.dims[0] == 3 && view.dims[1] == 3, "one row per pass");
    CHECK(we_datum_kind_of(outputs[1]) == WE_DATUM_SEQUENCE && we_datum_count(outputs[1]) == 3,
          "one item per pass");
    CHECK(*(const int64_t *)we_block_view(count).data == 2, "the pass number");
    CHECK(strcmp(((const char *const *)we_block_view(texts).data)[0], "abcabc") == 0,
          "text outlives the run");
    we_block_release(count);
    we_datum_release(item);
    we_block_release(texts);
    we_block_release(rows);
    we_block_release(y);
}

static we_status make_inputs(we_datum **inputs, we_error *err) {
    static float x[3] = {1, 0, 3};
    static const char *t[1] = {"abc"};
    const int64_t dims[] = {3};
    we_view view = {WE_STRING, 1, {1}, t};
    we_block *block = NULL;
    we_status status = we_block_new(WE_F32, 1, dims, &block, err);
    if (status == WE_OK) {
        memcpy(we_block_view(block).data, x, sizeof x);
        status = we_datum_new_tensor(block, &inputs[0], err);
    }
    we_block_release(block);
    return status == WE_OK ? we_datum_new_view(&view, &inputs[1], err) : status;
}

static we_status build_and_run(we_error *err) {
    we_model *model = NULL;
    we_session *session = NULL;
    we_datum *inputs[2] = {NULL}, *outputs[5] = {NULL};
    we_status status = build(&model, err);
    if (status == WE_OK)
        status = we_session_new(model, NULL, &session, err);
    if (status == WE_OK)
        status = make_inputs(inputs, err);
    if (status == WE_OK)
        status = we_session_run_values(session, inputs, 2, outputs, err);
    if (status == WE_OK)
        check_outputs(outputs);
    for (int i = 0; i < 5; i++)
        we_datum_release(outputs[i]);
    we_datum_release(inputs[0]);
    we_datum_release(inputs[1]);
    we_session_release(session);
    we_model_release(model);
    return status;
}

static we_status checked(float *out, we_error *err) {
    (void)out; /* it checks its results itself */
    return build_and_run(err);
}

int main(void) {
    we_error error = {0};
    CHECK(build_and_run(&error) == WE_OK, "%s %s: %s", error.op, error.node, error.message);
    const float nothing[1] = {0};
    check_failing_allocations(checked, nothing, 0);
    return check_result();
}
