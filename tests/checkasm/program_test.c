/* Loop commands as rules build them: a recurrent cell with a carried state, run forwards and backwards, and
 * indexed additions with several components and negative indices, beside plain C. And the verifier of
 * merging: it must find a region that was changed. */
#include <math.h>
#include <string.h>

#include "backend/backend.h"
#include "check.h"
#include "geometry/lower.h"
#include "plan/plan.h"
#include "search/search.h"

enum {
    STEPS = 7,
    IN = 5,
    STATE = 3,
};

typedef struct bench {
    we_program program;
    we_error error;
    we_node node;
    we_graph graph;
    we_lower l;
} bench;

static void begin(bench *b) {
    memset(b, 0, sizeof *b);
    CHECK(we_kernels_get(&b->l.kernels, &b->error) == WE_OK, "%s", b->error.message);
    b->node.name = "loop";
    b->graph.nodes = &b->node;
    b->l.program = &b->program;
    b->l.call = (we_call){.graph = &b->graph, .node = &b->node, .err = &b->error};
}

static int32_t constant(bench *b, we_dtype dtype, int32_t rank, const int64_t *dims, const void *values,
                        size_t size) {
    void *data;
    int32_t tensor = we_lower_constant(&b->l, dtype, rank, dims, &data);
    memcpy(data, values, size);
    return tensor;
}

/* Plan, run and copy `tensor` out. */
static we_status finish(bench *b, int32_t tensor, float *out) {
    we_program *program = &b->program;
    we_plan plan = {0};
    size_t scratch_size = 1;
    we_parameters parameters = we_parameters_standard();
    we_machine machine = {.isas = b->l.kernels->isas, .threads = 1, .parameters = &parameters};
    const we_backend *cpu = we_backend_find("cpu");
    bool kept[256] = {0}, external[256] = {0};
    void *memory[256] = {0};
    CHECK(b->l.status == WE_OK, "%s", b->error.message);
    kept[tensor] = true;
    for (size_t c = 0; c < program->command_count; c++) {
        we_search_choose(&machine, program, false, &program->commands[c]);
        CHECK(cpu->prepare(program, &program->commands[c], &b->error) == WE_OK, "%s", b->error.message);
        size_t size = cpu->scratch_size(program, &program->commands[c], machine.threads);
        scratch_size = size > scratch_size ? size : scratch_size;
    }
    CHECK(we_plan_memory(program, kept, external, NULL, true, &plan, &b->error) == WE_OK, "%s",
          b->error.message);
    char *arena = we_memory_new((size_t)plan.arena_bytes), *scratch = we_memory_new(scratch_size);
    for (size_t t = 0; t < program->tensor_count; t++)
        memory[t] = program->tensors[t].kind == WE_TENSOR_CONST ? (void *)program->tensors[t].data
                    : plan.spans[t].offset >= 0                 ? arena + plan.spans[t].offset
                                                                : NULL;
    we_run run = {.program = program,
                  .memory = memory,
                  .scratch = scratch,
                  .kernels = b->l.kernels,
                  .graph = &b->graph};
    we_status status = WE_OK;
    for (size_t c = 0; c < program->command_count && status == WE_OK; c++)
        status = cpu->execute(&run, &program->commands[c], &b->error);
    memcpy(out, memory[tensor], (size_t)program->tensors[tensor].count * sizeof *out);
    we_plan_free(&plan);
    we_memory_free(arena);
    we_memory_free(scratch);
    we_program_free(program);
    return status;
}

static void fill(float *values, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        values[i] = (float)(check_below(2001) - 1000) / 1000;
}

/* h[t] = tanh(x[t] W + h[t - 1] R), h[-1] = h0; backwards h[t + 1] takes the place of h[t - 1]. */
static void check_recurrence(bool backwards) {
    float x[STEPS * IN], w[IN * STATE], r[STATE * STATE], h0[STATE], got[STEPS * STATE];
    double state[STATE];
    const int64_t x_dims[] = {STEPS, IN}, w_dims[] = {IN, STATE}, r_dims[] = {STATE, STATE},
                  h_dims[] = {1, STATE}, y_dims[] = {STEPS, STATE}, x_row[] = {1, IN}, steps[] = {STEPS};
    int64_t start = backwards ? STEPS - 1 : 0, sign = backwards ? -1 : 1;
    bench b;
    begin(&b);
    fill(x, STEPS * IN);
    fill(w, IN * STATE);
    fill(r, STATE * STATE);
    fill(h0, STATE);
    int32_t tx = constant(&b, WE_F32, 2, x_dims, x, sizeof x),
            tw = constant(&b, WE_F32, 2, w_dims, w, sizeof w);
    int32_t tr = constant(&b, WE_F32, 2, r_dims, r, sizeof r),
            th = constant(&b, WE_F32, 2, h_dims, h0, sizeof h0);
    int32_t y = we_lower_temp(&b.l, WE_F32, 2, y_dims);
    we_loop_builder loop;
    we_loop_begin(&b.l, &loop, 1, steps);
    int32_t now = we_loop_view_of(&b.l, &loop, tx, 2, x_row,
                                  &(we_address){.offset = start * IN, .stride = {sign * IN}});
    int32_t before = we_loop_view_of(
        &b.l, &loop, y, 2, h_dims, &(we_address){.offset = (start - sign) * STATE, .stride = {sign * STATE}});
    we_loop_start_from(&b.l, &loop, th);
    int32_t next = we_loop_view_of(&b.l, &loop, y, 2, h_dims,
                                   &(we_address){.offset = start * STATE, .stride = {sign * STATE}});
    we_matmul p = {.m = 1, .n = STATE, .k = IN, .a_row = IN, .a_column = 1, .b_row = STATE, .b_column = 1};
    int32_t from_input = we_emit_matmul(&b.l, now, tw, &p, 2, h_dims, WE_NEW);
    p.k = p.a_row = STATE;
    int32_t from_state = we_emit_matmul(&b.l, before, tr, &p, 2, h_dims, WE_NEW);
    int32_t unused = we_emit_unary(&b.l, WE_UNARY_Neg, tw, WE_NEW); /* varies with nothing */
    we_emit_unary(&b.l, WE_UNARY_Tanh, we_emit_binary(&b.l, WE_BINARY_Add, from_input, from_state, WE_NEW),
                  next);
    we_loop_end(&b.l, &loop);
    CHECK(b.program.command_count == 2 && b.program.commands[0].out == unused,
          "what does not vary leaves the loop");
    CHECK(b.program.commands[1].u.loop.body_count == 4, "four commands stay");
    CHECK(finish(&b, y, got) == WE_OK, "%s", b.error.message);
    for (int j = 0; j < STATE; j++)
        state[j] = h0[j];
    for (int64_t t = start; t >= 0 && t < STEPS; t += sign) {
        double sum[STATE] = {0};
        for (int j = 0; j < STATE; j++) {
            for (int i = 0; i < IN; i++)
                sum[j] += (double)x[t * IN + i] * w[i * STATE + j];
            for (int i = 0; i < STATE; i++)
                sum[j] += state[i] * r[i * STATE + j];
        }
        for (int j = 0; j < STATE; j++) {
            state[j] = tanh(sum[j]);
            CHECK(fabs(state[j] - got[t * STATE + j]) < 1e-5, "state %d of step %d", j, (int)t);
        }
    }
}

/* out = data; out[index[i][0], index[i][1], :] += updates[i, :], with repeated and negative indices. */
static void check_indexed_addition(int64_t bad) {
    float data[4 * 3 * 2], updates[6 * 2], got[4 * 3 * 2];
    const int64_t index[6][2] = {{0, 0}, {3, 2}, {-1, -1}, {1, -3}, {0, 0}, {bad, 1}};
    const int64_t data_dims[] = {4, 3, 2}, index_dims[] = {6, 2}, update_dims[] = {6, 2}, two = 2, count = 6;
    bench b;
    begin(&b);
    fill(data, 24);
    fill(updates, 12);
    int32_t td = constant(&b, WE_F32, 3, data_dims, data, sizeof data);
    int32_t ti = constant(&b, WE_I64, 2, index_dims, index, sizeof index);
    int32_t tu = constant(&b, WE_F32, 2, update_dims, updates, sizeof updates);
    int32_t out = we_lower_temp(&b.l, WE_F32, 3, data_dims);
    we_loop_builder loop;
    we_loop_begin(&b.l, &loop, 1, &count);
    int32_t update = we_loop_view_of(&b.l, &loop, tu, 1, &two, &(we_address){.stride = {2}});
    int32_t place = we_loop_view_of(&b.l, &loop, out, 1, &two, &(we_address){.offset = 0});
    we_loop_move_by(
        &b.l, &loop,
        &(we_loop_index){.tensor = ti, .components = 2, .at.stride = {2}, .step = {6, 2}, .extent = {4, 3}});
    we_loop_seed(&b.l, &loop, out, td);
    we_emit_binary(&b.l, WE_BINARY_Add, place, update, place);
    we_loop_end(&b.l, &loop);
    CHECK(we_loop_is_simple(&b.program, &b.program.commands[0].u.loop), "one addition is a simple body");
    we_status status = finish(&b, out, got);
    if (bad < -4 || bad >= 4) {
        CHECK(status == WE_INVALID_ARGUMENT && strstr(b.error.message, "outside an axis of 4"), "%s",
              b.error.message);
        return;
    }
    for (int i = 0; i < 6; i++) {
        for (int j = 0; j < 2; j++)
            data[(index[i][0] + 4) % 4 * 6 + (index[i][1] + 3) % 3 * 2 + j] += updates[i * 2 + j];
    }
    CHECK(status == WE_OK && memcmp(got, data, sizeof data) == 0, "indexed addition");
}

/* A transpose read by a slice; then one of the merged regions is moved by `shift` elements. */
static void check_verifier(int64_t shift) {
    const int64_t dims[] = {4, 6}, half = 12;
    const int32_t perm[] = {1, 0};
    const we_merge_settings settings = {.vertical = true, .horizontal = true};
    we_merge_report report = {0};
    bench b;
    begin(&b);
    int32_t x = we_lower_temp(&b.l, WE_F32, 2, dims);
    int32_t turned = we_emit_transpose(&b.l, x, perm, WE_NEW), part = we_lower_temp(&b.l, WE_F32, 1, &half);
    we_raster raster = {0};
    we_raster_add(
        &b.l, &raster, turned,
        &(we_box){.rank = 1, .size = {half}, .src_offset = 8, .src_stride = {1}, .dst_stride = {1}});
    we_emit_raster(&b.l, &raster, part);
    we_command before[2];
    bool kept[8] = {0};
    memcpy(before, b.program.commands, sizeof before);
    kept[part] = true;
    CHECK(we_program_merge(&b.program, kept, &settings, &report, &b.error) == WE_OK, "%s", b.error.message);
    CHECK(report.after.rasters == 1 && report.composed == 1, "one raster is left");
    we_region *region = (we_region *)&b.program.commands[1].u.raster.regions[0];
    region->src.offset += shift;
    we_status status = we_program_verify(&b.program, before, 2, &b.error);
    CHECK(status == (shift ? WE_INTERNAL : WE_OK), "shifted by %d: %s", (int)shift, we_status_name(status));
    we_program_free(&b.program);
}

int main(int argc, char **argv) {
    check_seed(argc, argv);
    check_recurrence(false);
    check_recurrence(true);
    check_indexed_addition(2);
    check_indexed_addition(4);
    check_indexed_addition(-5);
    check_verifier(0);
    check_verifier(1);
    return check_result();
}
