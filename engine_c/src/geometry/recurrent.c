/* RNN, GRU and LSTM, written out step by step. The product of all inputs with W is one matrix product ahead of
 * the steps; a step multiplies only the hidden state, by weights packed once. A row of the batch whose sequence
 * has ended keeps its state, and its further outputs are 0; backward it starts late, which is the same rule.
 * Source: ONNX operator specification. */
#include "geometry/recurrent_activation.h"
#include "geometry/parts.h"
#include "ops/sequence.h"

enum {
    MAX_ACTIVATIONS = 3,
};

typedef struct state {
    int32_t hidden, cell; /* [batch, hidden]; the cell of LSTM only */
} state;

/* One direction. Matrices have a row per gate and hidden element. */
typedef struct cell {
    we_recurrence sizes;
    we_dtype dtype;
    int32_t recurrent;     /* R */
    int32_t inner_bias;    /* of R, [1, gates * hidden]; -1: none */
    int32_t peepholes;     /* [1, 3 * hidden]; -1: none */
    double clip;           /* 0: none */
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

static int32_t activate(we_lower *l, const cell *c, int32_t function, int32_t x) {
    if (c->clip > 0) {
        x = we_emit_binary(l, WE_BINARY_Min, x, we_lower_scalar(l, c->dtype, c->clip), WE_NEW);
        x = we_emit_binary(l, WE_BINARY_Max, x, we_lower_scalar(l, c->dtype, -c->clip), WE_NEW);
    }
    return we_emit_activation(l, &c->activation[function], x);
}

/* ---- One step of each operator; `given` is the input's part of the gates, biases included ---- */

static state rnn_step(we_lower *l, const cell *c, int32_t given, state s) {
    int32_t sum = add(l, given, we_emit_linear(l, s.hidden, c->recurrent));
    return (state){activate(l, c, 0, sum), -1};
}

/* z and r gate: update and reset; h: the new hidden state, of which z keeps the old share. */
static state gru_step(we_lower *l, const cell *c, int32_t given, state s) {
    enum {
        UPDATE,
        RESET,
        NEW,
    };
    int64_t hidden = c->sizes.hidden;
    int32_t ahead = c->linear_before_reset ? c->recurrent : we_emit_part(l, c->recurrent, 0, 0, 1, 2 * hidden);
    int32_t inner = we_emit_linear(l, s.hidden, ahead), fresh;
    int32_t z = activate(l, c, 0, add(l, gate(l, c, given, UPDATE), gate(l, c, inner, UPDATE)));
    int32_t r = activate(l, c, 0, add(l, gate(l, c, given, RESET), gate(l, c, inner, RESET)));
    if (c->linear_before_reset) {
        fresh = gate(l, c, inner, NEW);
        if (c->inner_bias >= 0)
            fresh = add(l, fresh, gate(l, c, c->inner_bias, NEW));
        fresh = multiply(l, r, fresh);
    } else {
        int32_t rows = we_emit_part(l, c->recurrent, 0, 2 * hidden, 1, hidden);
        fresh = we_emit_linear(l, multiply(l, r, s.hidden), rows);
    }
    fresh = activate(l, c, 1, add(l, gate(l, c, given, NEW), fresh));
    int32_t change = we_emit_binary(l, WE_BINARY_Sub, s.hidden, fresh, WE_NEW);
    return (state){add(l, fresh, multiply(l, z, change)), -1};
}

static state lstm_step(we_lower *l, const cell *c, int32_t given, state s) {
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
    int32_t i = activate(l, c, 0, in[INPUT]), forget;
    if (c->input_forget)
        forget = we_emit_binary(l, WE_BINARY_Sub, we_lower_scalar(l, c->dtype, 1), i, WE_NEW);
    else
        forget = activate(l, c, 0, in[FORGET]);
    int32_t next = add(l, multiply(l, forget, s.cell), multiply(l, i, activate(l, c, 1, in[CELL])));
    if (c->peepholes >= 0)
        in[OUTPUT] = add(l, in[OUTPUT], multiply(l, gate(l, c, c->peepholes, OUTPUT), next));
    return (state){multiply(l, activate(l, c, 0, in[OUTPUT]), activate(l, c, 2, next)), next};
}

static state step(we_lower *l, const cell *c, int32_t given, state s) {
    switch (l->call.node->op) {
    case WE_OP_LSTM:
        return lstm_step(l, c, given, s);
    case WE_OP_GRU:
        return gru_step(l, c, given, s);
    default:
        return rnn_step(l, c, given, s);
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
    static const we_activation_kind GATED[MAX_ACTIVATIONS] = {WE_ACTIVATION_Sigmoid, WE_ACTIVATION_Tanh,
                                                              WE_ACTIVATION_Tanh};
    static const we_activation_kind PLAIN[MAX_ACTIVATIONS] = {WE_ACTIVATION_Tanh};
    int32_t op = l->call.node->op, count = op == WE_OP_LSTM ? 3 : op == WE_OP_GRU ? 2 : 1;
    cell c = {.sizes = *sizes,
              .dtype = we_wide_type(l->call.in[0]->dtype),
              .inner_bias = -1,
              .clip = we_node_float(l->call.node, "clip", 0),
              .linear_before_reset = we_node_int(l->call.node, "linear_before_reset", 0) != 0,
              .input_forget = we_node_int(l->call.node, "input_forget", 0) != 0};
    c.recurrent = of_direction(l, &c, 2, d);
    c.peepholes = op == WE_OP_LSTM ? of_direction(l, &c, 7, d) : -1;
    we_activations_of(l, (int32_t)d * count, count, op == WE_OP_RNN ? PLAIN : GATED, c.activation);
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

/* What goes into each output of the operator. */
typedef struct results {
    we_raster raster[3];
} results;

/* Put [batch, hidden] at `offset` of output `index`, rows `row` apart. */
static void collect(we_lower *l, results *out, int32_t index, const we_recurrence *r, int32_t from,
                    int64_t offset, int64_t row) {
    we_box box = {.rank = 2,
                  .size = {r->batch, r->hidden},
                  .src_stride = {r->hidden, 1},
                  .dst_stride = {row, 1},
                  .dst_offset = offset};
    if (index < l->call.node->output_count && l->call.node->outputs[index] >= 0)
        we_raster_add(l, &out->raster[index], from, &box);
}

/* `valid`: [steps, batch, 1], does the row's sequence reach that step; -1: always. */
static void run_direction(we_lower *l, const we_recurrence *r, int32_t x, int32_t valid, int64_t d,
                          results *out) {
    cell c = cell_of(l, r, d);
    int32_t given = project(l, &c, x, d), zero = we_lower_scalar(l, c.dtype, 0);
    state s = {initial(l, &c, 5, d), l->call.node->op == WE_OP_LSTM ? initial(l, &c, 6, d) : -1};
    int64_t valid_dims[2] = {r->batch, 1};
    for (int64_t i = 0; i < r->steps && l->status == WE_OK; i++) {
        int64_t t = r->backward || d == 1 ? r->steps - 1 - i : i;
        state next = step(l, &c, we_emit_part(l, given, 0, t * r->batch, 1, r->batch), s);
        int32_t shown = next.hidden;
        if (valid >= 0) {
            int32_t now =
                we_emit_reshape(l, we_emit_part(l, valid, 0, t, 1, 1), 2, valid_dims, WE_NEW);
            shown = we_emit_select(l, now, next.hidden, zero, WE_NEW);
            next.hidden = we_emit_select(l, now, next.hidden, s.hidden, WE_NEW);
            if (next.cell >= 0)
                next.cell = we_emit_select(l, now, next.cell, s.cell, WE_NEW);
        }
        s = next;
        int64_t at = t * r->directions + d, each = r->batch * r->hidden;
        if (r->batch_first)
            collect(l, out, 0, r, shown, at * r->hidden, r->steps * r->directions * r->hidden);
        else
            collect(l, out, 0, r, shown, at * each, r->hidden);
    }
    int64_t offset = r->batch_first ? d * r->hidden : d * r->batch * r->hidden;
    int64_t row = r->batch_first ? r->directions * r->hidden : r->hidden;
    collect(l, out, 1, r, s.hidden, offset, row);
    if (s.cell >= 0)
        collect(l, out, 2, r, s.cell, offset, row);
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
    results out = {0};
    l->status = we_call_recurrence(&l->call, &r);
    if (l->status != WE_OK)
        return;
    int64_t rows[2] = {r.steps * r.batch, r.inputs};
    int32_t x = we_emit_wide(l, l->in[0]);
    if (r.batch_first)
        x = we_emit_transpose(l, x, (int32_t[]){1, 0, 2}, WE_NEW);
    x = we_emit_reshape(l, x, 2, rows, WE_NEW);
    int32_t valid = valid_steps(l, &r);
    for (int64_t d = 0; d < r.directions; d++)
        run_direction(l, &r, x, valid, d, &out);
    for (int32_t i = 0; i < l->call.node->output_count; i++) {
        we_tensor to = we_lower_tensor(l, l->out[i]);
        int32_t collected = we_lower_temp(l, we_wide_type(to.dtype), to.rank, to.dims);
        we_emit_raster(l, &out.raster[i], collected);
        we_emit_store(l, collected, l->out[i]);
    }
}
