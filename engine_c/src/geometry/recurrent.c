/* RNN, GRU and LSTM: a loop over the steps per direction. The product of all inputs with W is one matrix
 * product ahead of the loop; a step multiplies only the hidden state. Each step writes its row of the history
 * of hidden states, from which the next one reads it; the cell of LSTM stays in one place. A row of the batch
 * whose sequence has ended keeps its state, and its further outputs are 0; backward it starts late, which is
 * the same rule. Source: ONNX operator specification. */
#include "geometry/cell_activation.h"
#include "geometry/parts.h"
#include "ops/sequence.h"

enum {
    MAX_ACTIVATIONS = 3,
};

typedef struct state {
    int32_t hidden, cell; /* [batch, hidden]; the cell of LSTM only, else -1 */
} state;

/* One direction. Matrices have a row per gate and hidden element. */
typedef struct cell {
    we_recurrence sizes;
    we_dtype dtype;
    int32_t recurrent;  /* R */
    int32_t inner_bias; /* of R, [1, gates * hidden]; -1: none */
    int32_t peepholes;  /* [1, 3 * hidden]; -1: none */
    double clip;        /* 0: none */
    bool linear_before_reset, input_forget;
    we_activation activation[MAX_ACTIVATIONS];
} cell;

/* Columns of one gate. */
static int32_t gate(we_lower *l, const cell *c, int32_t gates, int32_t index) {
    return we_emit_part(l, gates, 1, index * c->sizes.hidden, 1, c->sizes.hidden);
}

static int32_t add(we_lower *l, int32_t a, int32_t b) {
    return we_emit_binary(l, WE_BINARY_Add, a, b, WE_NEW);
}

static int32_t multiply(we_lower *l, int32_t a, int32_t b) {
    return we_emit_binary(l, WE_BINARY_Mul, a, b, WE_NEW);
}

static int32_t activate(we_lower *l, const cell *c, int32_t function, int32_t x, int32_t into) {
    if (c->clip > 0) {
        x = we_emit_binary(l, WE_BINARY_Min, x, we_lower_scalar(l, c->dtype, c->clip), WE_NEW);
        x = we_emit_binary(l, WE_BINARY_Max, x, we_lower_scalar(l, c->dtype, -c->clip), WE_NEW);
    }
    return we_emit_activation(l, &c->activation[function], x, into);
}

/* ---- One step of each operator; `given` is the input's part of the gates, biases included. The new state
 * goes to `into` ---- */

static state rnn_step(we_lower *l, const cell *c, int32_t given, state s, state into) {
    int32_t sum = add(l, given, we_emit_linear(l, s.hidden, c->recurrent));
    return (state){activate(l, c, 0, sum, into.hidden), -1};
}

/* z and r gate: update and reset; h: the new hidden state, of which z keeps the old share. */
static state gru_step(we_lower *l, const cell *c, int32_t given, state s, state into) {
    enum {
        UPDATE,
        RESET,
        NEW,
    };
    int64_t hidden = c->sizes.hidden;
    int32_t ahead =
        c->linear_before_reset ? c->recurrent : we_emit_part(l, c->recurrent, 0, 0, 1, 2 * hidden);
    int32_t inner = we_emit_linear(l, s.hidden, ahead), fresh;
    int32_t z = activate(l, c, 0, add(l, gate(l, c, given, UPDATE), gate(l, c, inner, UPDATE)), WE_NEW);
    int32_t r = activate(l, c, 0, add(l, gate(l, c, given, RESET), gate(l, c, inner, RESET)), WE_NEW);
    if (c->linear_before_reset) {
        fresh = gate(l, c, inner, NEW);
        if (c->inner_bias >= 0)
            fresh = add(l, fresh, gate(l, c, c->inner_bias, NEW));
        fresh = multiply(l, r, fresh);
    } else {
        int32_t rows = we_emit_part(l, c->recurrent, 0, 2 * hidden, 1, hidden);
        fresh = we_emit_linear(l, multiply(l, r, s.hidden), rows);
    }
    fresh = activate(l, c, 1, add(l, gate(l, c, given, NEW), fresh), WE_NEW);
    int32_t change = we_emit_binary(l, WE_BINARY_Sub, s.hidden, fresh, WE_NEW);
    change = multiply(l, z, change);
    return (state){we_emit_binary(l, WE_BINARY_Add, fresh, change, into.hidden), -1};
}

static state lstm_step(we_lower *l, const cell *c, int32_t given, state s, state into) {
    enum {
        INPUT,
        OUTPUT,
        FORGET,
        CELL,
    };
    int32_t sums = add(l, given, we_emit_linear(l, s.hidden, c->recurrent)), in[4];
    for (int32_t i = INPUT; i <= CELL; i++)
        in[i] = gate(l, c, sums, i);
    if (c->peepholes >= 0) {
        in[INPUT] = add(l, in[INPUT], multiply(l, gate(l, c, c->peepholes, INPUT), s.cell));
        in[FORGET] = add(l, in[FORGET], multiply(l, gate(l, c, c->peepholes, FORGET), s.cell));
    }
    int32_t i = activate(l, c, 0, in[INPUT], WE_NEW), forget;
    if (c->input_forget)
        forget = we_emit_binary(l, WE_BINARY_Sub, we_lower_scalar(l, c->dtype, 1), i, WE_NEW);
    else
        forget = activate(l, c, 0, in[FORGET], WE_NEW);
    int32_t kept = multiply(l, forget, s.cell), fresh = multiply(l, i, activate(l, c, 1, in[CELL], WE_NEW));
    int32_t next = we_emit_binary(l, WE_BINARY_Add, kept, fresh, into.cell);
    if (c->peepholes >= 0)
        in[OUTPUT] = add(l, in[OUTPUT], multiply(l, gate(l, c, c->peepholes, OUTPUT), next));
    int32_t open = activate(l, c, 0, in[OUTPUT], WE_NEW), bent = activate(l, c, 2, next, WE_NEW);
    return (state){we_emit_binary(l, WE_BINARY_Mul, open, bent, into.hidden), next};
}

static state step(we_lower *l, const cell *c, int32_t given, state s, state into) {
    switch (l->call.node->op) {
    case WE_OP_LSTM:
        return lstm_step(l, c, given, s, into);
    case WE_OP_GRU:
        return gru_step(l, c, given, s, into);
    default:
        return rnn_step(l, c, given, s, into);
    }
}

/* ---- One direction ---- */

/* Row d of [directions, rows, columns], or of [directions, columns] as [1, columns]. */
static int32_t of_direction(we_lower *l, const cell *c, int32_t index, int64_t d) {
    const we_tensor *x = we_call_input(&l->call, index);
    if (!x)
        return -1;
    int64_t dims[2] = {x->rank == 3 ? x->dims[1] : 1, x->dims[x->rank - 1]};
    int32_t row = we_emit_part(l, we_emit_as(l, l->in[index], c->dtype), 0, d, 1, 1);
    return we_emit_reshape(l, row, 2, dims, WE_NEW);
}

/* The initial state of direction d, [batch, hidden]; zeros where it is not given. */
static int32_t initial(we_lower *l, const cell *c, int32_t index, int64_t d) {
    int64_t dims[2] = {c->sizes.batch, c->sizes.hidden};
    if (!we_call_input(&l->call, index))
        return we_emit_fill(l, c->dtype, 2, dims, 0);
    int32_t part = we_emit_part(l, l->in[index], c->sizes.batch_first ? 1 : 0, d, 1, 1);
    return we_emit_reshape(l, we_emit_as(l, part, c->dtype), 2, dims, WE_NEW);
}

static cell cell_of(we_lower *l, const we_recurrence *sizes, int64_t d) {
    int32_t count;
    const we_activation_kind *usual = we_usual_activations(l->call.node->op, &count);
    cell c = {.sizes = *sizes,
              .dtype = we_wide_type(l->call.in[0]->dtype),
              .inner_bias = -1,
              .clip = we_node_float(l->call.node, "clip", 0),
              .linear_before_reset = we_node_int(l->call.node, "linear_before_reset", 0) != 0,
              .input_forget = we_node_int(l->call.node, "input_forget", 0) != 0};
    c.recurrent = of_direction(l, &c, 2, d);
    c.peepholes = l->call.node->op == WE_OP_LSTM ? of_direction(l, &c, 7, d) : -1;
    we_activations_of(l, (int32_t)d * count, count, usual, c.activation);
    return c;
}

/* x x W^T plus the biases, for all steps: [rows of x, gates * hidden]. A bias of R that the reset gate scales
 * stays apart. */
static int32_t project(we_lower *l, cell *c, int32_t x, int64_t d) {
    int64_t width = c->sizes.gates * c->sizes.hidden;
    int32_t given = we_emit_linear(l, x, of_direction(l, c, 1, d)), bias = of_direction(l, c, 3, d);
    if (bias < 0)
        return given;
    int32_t inner = we_emit_part(l, bias, 1, width, 1, width);
    bias = we_emit_part(l, bias, 1, 0, 1, width);
    if (c->linear_before_reset) {
        int64_t dims[2] = {1, width};
        int32_t summed = we_lower_temp(l, c->dtype, 2, dims);
        we_box gates = {.rank = 1, .size = {2 * c->sizes.hidden}, .src_stride = {1}, .dst_stride = {1}};
        we_raster raster = {0};
        we_raster_add(l, &raster, inner, &gates);
        we_emit_raster(l, &raster, summed);
        c->inner_bias = inner;
        inner = summed;
    }
    return add(l, given, add(l, bias, inner));
}

/* ---- The loop ---- */

/* A view of `count` elements as [rows, columns] that moves by its own size per step, backward where `back`.
 * The first iteration is `shift` of its sizes further on. */
static int32_t moving(we_lower *l, we_loop_builder *loop, int32_t base, int64_t rows, int64_t columns,
                      bool back, int64_t shift) {
    int64_t dims[2] = {rows, columns}, each = rows * columns, last = loop->loop.size[0] - 1;
    we_address at = {.offset = back ? (last - shift) * each : shift * each, .stride = {back ? -each : each}};
    return we_loop_view_of(l, loop, base, 2, dims, &at);
}

static int32_t still(we_lower *l, we_loop_builder *loop, int32_t base, int64_t rows, int64_t columns) {
    int64_t dims[2] = {rows, columns};
    return we_loop_view_of(l, loop, base, 2, dims, &(we_address){0});
}

/* Results of one direction: [steps, batch, hidden] of all hidden states, and the last states. */
typedef struct course {
    int32_t history;
    state last;
} course;

/* `valid`: [steps, batch, 1], does the row's sequence reach that step; -1: always. */
static course run_steps(we_lower *l, const cell *c, int32_t given, int32_t valid, bool back, state first) {
    const we_recurrence *r = &c->sizes;
    int64_t history_dims[3] = {r->steps, r->batch, r->hidden}, dims[2] = {r->batch, r->hidden};
    int64_t width = r->gates * r->hidden;
    course done = {.history = we_lower_temp(l, c->dtype, 3, history_dims), .last.cell = -1};
    we_loop_builder loop;
    we_loop_begin(l, &loop, 1, &r->steps);
    state old = {moving(l, &loop, done.history, r->batch, r->hidden, back, -1), -1};
    we_loop_start_from(l, &loop, first.hidden);
    state next = {moving(l, &loop, done.history, r->batch, r->hidden, back, 0), -1};
    if (first.cell >= 0) {
        done.last.cell = we_lower_temp(l, c->dtype, 2, dims);
        we_loop_seed(l, &loop, done.last.cell, first.cell);
        old.cell = next.cell = still(l, &loop, done.last.cell, r->batch, r->hidden);
    }
    int32_t now = moving(l, &loop, given, r->batch, width, back, 0);
    if (valid < 0) {
        step(l, c, now, old, next);
    } else {
        int32_t live = moving(l, &loop, valid, r->batch, 1, back, 0);
        state fresh = step(l, c, now, old, (state){WE_NEW, WE_NEW});
        we_emit_select(l, live, fresh.hidden, old.hidden, next.hidden);
        if (fresh.cell >= 0) /* not straight into the view: it is read at the same time */
            we_emit_store(l, we_emit_select(l, live, fresh.cell, old.cell, WE_NEW), next.cell);
    }
    we_loop_end(l, &loop);
    int32_t last = we_emit_part(l, done.history, 0, back ? 0 : r->steps - 1, 1, 1);
    done.last.hidden = we_emit_reshape(l, last, 2, dims, WE_NEW);
    return done;
}

static course run_direction(we_lower *l, const we_recurrence *r, int32_t x, int32_t valid, int64_t d) {
    cell c = cell_of(l, r, d);
    int32_t given = project(l, &c, x, d);
    state first = {initial(l, &c, 5, d), l->call.node->op == WE_OP_LSTM ? initial(l, &c, 6, d) : -1};
    course done = {.history = -1, .last = first};
    if (r->steps > 0 && r->batch > 0 && r->hidden > 0)
        done = run_steps(l, &c, given, valid, r->backward || d == 1, first);
    if (valid >= 0 && done.history >= 0) /* no output after the end of a sequence */
        done.history = we_emit_select(l, valid, done.history, we_lower_scalar(l, c.dtype, 0), WE_NEW);
    return done;
}

/* ---- Collecting the outputs ---- */

/* Put [steps, batch, hidden] (one step for the last states) at direction d of an output. */
static void collect(we_lower *l, we_raster *raster, const we_recurrence *r, int32_t from, int64_t steps,
                    int64_t d) {
    int64_t each = r->batch * r->hidden;
    we_box box = {.rank = 3, .size = {steps, r->batch, r->hidden}, .src_stride = {each, r->hidden, 1}};
    box.dst_stride[2] = 1;
    if (r->batch_first) {
        box.dst_offset = d * r->hidden;
        box.dst_stride[0] = r->directions * r->hidden;
        box.dst_stride[1] = steps * r->directions * r->hidden;
    } else {
        box.dst_offset = d * each;
        box.dst_stride[0] = r->directions * each;
        box.dst_stride[1] = r->hidden;
    }
    if (from >= 0)
        we_raster_add(l, raster, from, &box);
}

/* [steps, batch, 1]: step < length */
static int32_t valid_steps(we_lower *l, const we_recurrence *r) {
    int64_t steps[3] = {r->steps, 1, 1}, batch[3] = {1, r->batch, 1};
    if (!we_call_input(&l->call, 4))
        return -1;
    int32_t lengths = we_emit_reshape(l, we_emit_as(l, l->in[4], WE_I64), 3, batch, WE_NEW);
    return we_emit_binary(l, WE_BINARY_Less, we_emit_range(l, 0, 3, steps), lengths, WE_NEW);
}

void we_rule_recurrence(we_lower *l) {
    we_recurrence r;
    we_raster rasters[3] = {{0}};
    l->status = we_call_recurrence(&l->call, &r);
    if (l->status != WE_OK)
        return;
    int64_t rows[2] = {r.steps * r.batch, r.inputs};
    int32_t x = we_emit_wide(l, l->in[0]);
    if (r.batch_first)
        x = we_emit_transpose(l, x, (int32_t[]){1, 0, 2}, WE_NEW);
    x = we_emit_reshape(l, x, 2, rows, WE_NEW);
    int32_t valid = valid_steps(l, &r);
    for (int64_t d = 0; d < r.directions; d++) {
        course done = run_direction(l, &r, x, valid, d);
        collect(l, &rasters[0], &r, done.history, r.steps, d);
        collect(l, &rasters[1], &r, done.last.hidden, 1, d);
        collect(l, &rasters[2], &r, done.last.cell, 1, d);
    }
    for (int32_t i = 0; i < 3; i++) {
        bool wanted = i < l->call.node->output_count;
        we_tensor to = wanted ? we_lower_tensor(l, l->out[i]) : (we_tensor){0};
        int32_t collected = wanted ? we_lower_temp(l, we_wide_type(to.dtype), to.rank, to.dims) : -1;
        if (wanted) {
            we_emit_raster(l, &rasters[i], collected);
            we_emit_store(l, collected, l->out[i]);
        }
        we_memory_free(rasters[i].regions);
    }
}
