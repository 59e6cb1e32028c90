/* RNN, GRU and LSTM with constant weights. The inputs' share of all gates is one product over all steps; W
 * and R are packed once, gate by gate, and a step multiplies the hidden state into sums that stay in cache.
 * Threads take a direction each, or else slices of the hidden elements, the same slice in every step, so that
 * a slice of R stays in the cache of its core. What else the operators offer - lengths, activations with
 * parameters, weights that are not constant - is left to the decomposition. */
#include <stdatomic.h>
#include <string.h>

#include "backend/cpu/cpu.h"
#include "base/dtype.h"
#include "base/error.h"
#include "geometry/cell_activation.h"
#include "kernels/pack/pack.h"
#include "ops/sequence.h"

enum {
    MAX_ACTIVATIONS = 3,
    MAX_BATCH = 16,        /* beyond, the blocked product reads R less often */
    WORTH_SHARING = 60000, /* products per slice and step: some us */
};

/* Gates in the order of their rows in W and R. */
enum { LSTM_INPUT, LSTM_OUTPUT, LSTM_FORGET, LSTM_CELL };
enum { GRU_UPDATE, GRU_RESET, GRU_NEW };

typedef struct direction {
    const float *w, *r, *bias, *peepholes; /* as given; the last two may be NULL */
    we_unary_fn activation[MAX_ACTIVATIONS];
    const float *packed_w, *packed_r; /* [gates][panels][k][columns] */
    float *start;                     /* of the gates: biases, [gates * hidden] */
    const float *inner;               /* bias of R that the reset gate of GRU scales, [hidden]; NULL: none */
} direction;

typedef struct parameters {
    we_recurrence sizes;
    int32_t op;
    float clip; /* 0: none */
    bool linear_before_reset, input_forget;
    we_dtype dtype; /* of what is multiplied: F32, or BF16 in words of two */
    direction directions[2];
} parameters;

/* Words of a column of k weights. */
static int64_t words_of(const parameters *p, int64_t k) {
    return p->dtype == WE_BF16 ? (k + 1) / 2 : k;
}

/* ---- Accepting ---- */

/* The function as a kernel has it: one without parameters. */
static bool plain_function(we_activation_kind kind, we_unary_fn *fn) {
    switch (kind) {
    case WE_ACTIVATION_Sigmoid:
        *fn = WE_UNARY_Sigmoid;
        return true;
    case WE_ACTIVATION_Tanh:
        *fn = WE_UNARY_Tanh;
        return true;
    case WE_ACTIVATION_Relu:
        *fn = WE_UNARY_Relu;
        return true;
    case WE_ACTIVATION_Softplus:
        *fn = WE_UNARY_Softplus;
        return true;
    default:
        return false;
    }
}

static bool read_activations(const we_call *call, parameters *p) {
    we_lower reader = {.call = *call};
    we_activation found[MAX_ACTIVATIONS];
    int32_t count;
    const we_activation_kind *usual = we_usual_activations(p->op, &count);
    for (int64_t d = 0; d < p->sizes.directions; d++) {
        we_activations_of(&reader, (int32_t)d * count, count, usual, found);
        for (int32_t i = 0; i < count; i++) {
            if (reader.status != WE_OK || !plain_function(found[i].kind, &p->directions[d].activation[i]))
                return false;
        }
    }
    return true;
}

/* The constant float32 data of an input, NULL where it is omitted; false where it is neither. */
static bool read_constant(const we_call *call, int32_t i, const float **data) {
    const we_tensor *x = we_call_input(call, i);
    *data = x ? x->data : NULL;
    return !x || (x->kind == WE_TENSOR_CONST && x->dtype == WE_F32);
}

static bool read_weights(const we_call *call, parameters *p) {
    const we_recurrence *s = &p->sizes;
    const float *w, *r, *bias, *peepholes = NULL;
    int64_t width = s->gates * s->hidden;
    if (!read_constant(call, 1, &w) || !read_constant(call, 2, &r) || !read_constant(call, 3, &bias) ||
        (p->op == WE_OP_LSTM && !read_constant(call, 7, &peepholes)))
        return false;
    for (int64_t d = 0; d < s->directions; d++) {
        direction *to = &p->directions[d];
        to->w = w + d * width * s->inputs;
        to->r = r + d * width * s->hidden;
        to->bias = bias ? bias + d * 2 * width : NULL;
        to->peepholes = peepholes ? peepholes + d * 3 * s->hidden : NULL;
    }
    return true;
}

static bool accept(const we_call *call, we_arena *arena, we_dtype dtype, const void **out) {
    parameters *p = we_arena_new(arena, sizeof *p);
    if (!p || call->in[0]->dtype != WE_F32 || we_call_input(call, 4) ||
        we_call_recurrence(call, &p->sizes) != WE_OK)
        return false;
    const we_recurrence *s = &p->sizes;
    p->op = call->node->op;
    p->dtype = dtype;
    p->clip = (float)we_node_float(call->node, "clip", 0);
    p->linear_before_reset = we_node_int(call->node, "linear_before_reset", 0) != 0;
    p->input_forget = we_node_int(call->node, "input_forget", 0) != 0;
    *out = p;
    return s->steps > 0 && s->batch > 0 && s->batch <= MAX_BATCH && s->hidden > 0 &&
           read_activations(call, p) && read_weights(call, p);
}

static bool accept_plain(const we_call *call, we_arena *arena, const void **out) {
    return accept(call, arena, WE_F32, out);
}

static bool accept_narrow(const we_call *call, we_arena *arena, const void **out) {
    return accept(call, arena, WE_BF16, out);
}

/* The products at 5 (few rows) and 10 (many) times the rate of an element, and some 12 element-wise kernels.
 * Two neighbours are multiplied at once where they are of bfloat16. */
static double cost(const void *given) {
    const parameters *p = given;
    const we_recurrence *s = &p->sizes;
    double width = (double)(s->gates * s->hidden), rows = (double)(s->steps * s->batch * s->directions);
    double hidden = (double)words_of(p, s->hidden), inputs = (double)words_of(p, s->inputs);
    return rows * width * (hidden / 2.5 + inputs / 5 + 48) + 1600 * (double)s->steps;
}

/* ---- Packing ---- */

static int64_t panels_of(const we_recurrence *s, int64_t columns) {
    return (s->hidden + columns - 1) / columns;
}

typedef struct pack_job {
    const parameters *p;
    const float *from;
    int64_t k, columns;
} pack_job;

/* A panel of `count` lines, as words of two bfloat16. */
static void pack_pairs(const pack_job *j, const float *from, int64_t count, float *to) {
    enum { STRETCH = 32, MOST_COLUMNS = 64 };
    float some[(STRETCH + 1) * MOST_COLUMNS];
    for (int64_t p = 0; p < j->k; p += STRETCH) {
        int64_t rows = j->k - p < STRETCH ? j->k - p : STRETCH;
        we_pack_panel(from + p, j->k, 1, count, j->columns, rows, some);
        memset(some + rows * j->columns, 0, (size_t)j->columns * sizeof *some);
        for (int64_t q = 0; q < rows; q += 2, to += j->columns) {
            const float *even = some + q * j->columns, *odd = even + j->columns;
            for (int64_t i = 0; i < j->columns; i++) {
                uint32_t word = we_f32_to_bf16_part(even[i]) | (uint32_t)we_f32_to_bf16_part(odd[i]) << 16;
                memcpy(to + i, &word, sizeof word);
            }
        }
    }
}

static void pack_gates(we_pool *pool, const void *context, void *to) {
    const pack_job *j = context;
    const we_recurrence *s = &j->p->sizes;
    int64_t panels = panels_of(s, j->columns), panel = words_of(j->p, j->k) * j->columns;
    (void)pool;
    for (int64_t i = 0; i < s->gates * panels; i++) {
        int64_t unit = i % panels * j->columns, left = s->hidden - unit;
        int64_t count = left < j->columns ? left : j->columns;
        const float *from = j->from + (i / panels * s->hidden + unit) * j->k;
        if (j->p->dtype == WE_BF16)
            pack_pairs(j, from, count, (float *)to + i * panel);
        else
            we_pack_panel(from, j->k, 1, count, j->columns, j->k, (float *)to + i * panel);
    }
}

static we_status pack(we_program *program, const pack_job *j, const float **out, we_error *err) {
    static const char gates_in_panels;
    const we_recurrence *s = &j->p->sizes;
    size_t floats = (size_t)(s->gates * panels_of(s, j->columns) * words_of(j->p, j->k) * j->columns);
    we_pack_key key = {.source = j->from,
                       .source_bytes = (size_t)(s->gates * s->hidden * j->k) * sizeof *j->from,
                       .form = &gates_in_panels,
                       .parameters = {s->gates, s->hidden, j->k, j->columns, j->p->dtype}};
    const void *packed = NULL;
    WE_TRY(we_program_pack(program, &key, floats * sizeof(float), pack_gates, j, &packed, err));
    *out = packed;
    return WE_OK;
}

/* Both biases in one, but for the part of R's that stays apart. */
static float *join_biases(we_arena *arena, const parameters *p, direction *d) {
    int64_t width = p->sizes.gates * p->sizes.hidden, joined = width;
    float *start = we_arena_new(arena, (size_t)width * sizeof *start); /* zeros */
    if (!start || !d->bias)
        return start;
    if (p->op == WE_OP_GRU && p->linear_before_reset) {
        joined = GRU_NEW * p->sizes.hidden;
        d->inner = d->bias + width + joined;
    }
    for (int64_t i = 0; i < width; i++)
        start[i] = d->bias[i] + (i < joined ? d->bias[width + i] : 0);
    return start;
}

static we_status prepare(we_program *program, we_command *command, we_error *err) {
    parameters *p = (parameters *)command->u.claim.parameters; /* of this command alone */
    const we_kernels *kernels;
    WE_TRY(we_kernels_get(&kernels, err));
    for (int64_t i = 0; i < p->sizes.directions; i++) {
        direction *d = &p->directions[i];
        pack_job w = {p, d->w, p->sizes.inputs, kernels->gemv_columns[p->dtype]};
        pack_job r = {p, d->r, p->sizes.hidden, kernels->gemv_columns[p->dtype]};
        WE_TRY(pack(program, &w, &d->packed_w, err));
        WE_TRY(pack(program, &r, &d->packed_r, err));
        d->start = join_biases(&program->arena, p, d);
        if (!d->start)
            return we_error_no_memory(err);
    }
    return WE_OK;
}

/* Floats of one direction: the inputs' share of all steps, the sums of one, two cells and two spare states.
 */
static int64_t direction_floats(const we_recurrence *s) {
    return (s->steps + 1) * s->batch * s->gates * s->hidden + 4 * s->batch * s->hidden;
}

static size_t scratch_size(const we_program *program, const we_command *command, int32_t threads) {
    const we_recurrence *s = &((const parameters *)command->u.claim.parameters)->sizes;
    (void)program;
    (void)threads;
    return (size_t)(s->directions * direction_floats(s)) * sizeof(float);
}

/* ---- One direction at work ---- */

/* Rows of the batch, `row` elements apart. */
typedef struct rows {
    const float *data;
    int64_t row;
} rows;

typedef struct course {
    const we_run *run;
    const parameters *p;
    const direction *d;
    float *given, *sums; /* [steps * batch, gates * hidden] in the order of X; [batch, gates * hidden] */
    float *cell, *reset, *bent; /* [batch, hidden] each */
    rows old;                   /* hidden state before the step */
    float *fresh;               /* and after it, rows as fresh_row says */
    int64_t fresh_row;
    const float *now; /* the step's part of `given` */
    int64_t now_row;
    bool back;         /* through R from its end: every other step, as its end is what the cache still has */
    bool second;       /* phase of a GRU whose reset gate comes before the product */
    int64_t slices;    /* of the panels */
    atomic_uint taken; /* slices of this phase, a bit each */
} course;

typedef struct span {
    int64_t first, count; /* hidden elements */
} span;

static void apply(const course *c, we_binary_fn fn, int64_t n, const float *a, const float *b, float *y) {
    c->run->kernels->binary[fn][WE_F32](n, a, 1, b, 1, y);
}

/* x may be y. */
static void activate(const course *c, int32_t function, int64_t n, const float *x, float *y) {
    if (c->p->clip > 0) {
        float high = c->p->clip, low = -high;
        c->run->kernels->binary[WE_BINARY_Min][WE_F32](n, x, 1, &high, 0, y);
        c->run->kernels->binary[WE_BINARY_Max][WE_F32](n, y, 1, &low, 0, y);
        x = y;
    }
    c->run->kernels->unary[c->d->activation[function]][WE_F32](n, x, y);
}

/* sums of one gate = start + state x R^T */
static void multiply(const course *c, rows state, int64_t gate, span s, const float *start,
                     int64_t start_row) {
    const we_recurrence *r = &c->p->sizes;
    int64_t columns = c->run->kernels->gemv_columns[c->p->dtype], panels = panels_of(r, columns);
    we_gemv g = {.k = r->hidden,
                 .rows = r->batch,
                 .x = state.data,
                 .x_row = state.row,
                 .start_row = start_row,
                 .y_row = r->gates * r->hidden};
    int64_t count = (s.count + columns - 1) / columns;
    for (int64_t i = 0; i < count; i++) {
        int64_t unit = s.first + (c->back ? count - 1 - i : i) * columns, left = r->hidden - unit;
        g.w = c->d->packed_r + (gate * panels + unit / columns) * words_of(c->p, r->hidden) * columns;
        g.start = start ? start + unit : NULL;
        g.y = c->sums + gate * r->hidden + unit;
        g.count = (int32_t)(left < columns ? left : columns);
        c->run->kernels->gemv[c->p->dtype](&g);
    }
}

static void multiply_given(const course *c, rows state, int64_t gate, span s) {
    multiply(c, state, gate, s, c->now + gate * c->p->sizes.hidden, c->now_row);
}

/* x += peephole * cell; scratch holds the product. */
static void peep(const course *c, int64_t which, span s, const float *cell, float *x, float *scratch) {
    if (!c->d->peepholes)
        return;
    apply(c, WE_BINARY_Mul, s.count, c->d->peepholes + which * c->p->sizes.hidden + s.first, cell, scratch);
    apply(c, WE_BINARY_Add, s.count, x, scratch, x);
}

static void lstm_row(const course *c, int64_t b, span s) {
    int64_t hidden = c->p->sizes.hidden, n = s.count, at = b * hidden + s.first;
    float *sums = c->sums + b * 4 * hidden + s.first, *cell = c->cell + at, *bent = c->bent + at;
    float *in = sums + LSTM_INPUT * hidden, *out = sums + LSTM_OUTPUT * hidden;
    float *forget = sums + LSTM_FORGET * hidden, *new = sums + LSTM_CELL * hidden, one = 1;
    peep(c, LSTM_INPUT, s, cell, in, bent);
    activate(c, 0, n, in, in);
    if (c->p->input_forget) {
        c->run->kernels->binary[WE_BINARY_Sub][WE_F32](n, &one, 0, in, 1, forget);
    } else {
        peep(c, LSTM_FORGET, s, cell, forget, bent);
        activate(c, 0, n, forget, forget);
    }
    activate(c, 1, n, new, new);
    apply(c, WE_BINARY_Mul, n, forget, cell, cell);
    apply(c, WE_BINARY_Mul, n, in, new, new);
    apply(c, WE_BINARY_Add, n, cell, new, cell);
    peep(c, LSTM_OUTPUT, s, cell, out, bent);
    activate(c, 0, n, out, out);
    activate(c, 2, n, cell, bent);
    apply(c, WE_BINARY_Mul, n, out, bent, c->fresh + b * c->fresh_row + s.first);
}

static void lstm_step(course *c, span s) {
    for (int64_t gate = 0; gate < 4; gate++)
        multiply_given(c, c->old, c->back ? 3 - gate : gate, s);
    for (int64_t b = 0; b < c->p->sizes.batch; b++)
        lstm_row(c, b, s);
}

static void rnn_step(course *c, span s) {
    multiply_given(c, c->old, 0, s);
    for (int64_t b = 0; b < c->p->sizes.batch; b++)
        activate(c, 0, s.count, c->sums + b * c->p->sizes.hidden + s.first,
                 c->fresh + b * c->fresh_row + s.first);
}

/* fresh = new + update * (old - new) of finished gates */
static void gru_mix(const course *c, int64_t b, span s) {
    int64_t hidden = c->p->sizes.hidden;
    float *sums = c->sums + b * 3 * hidden + s.first, *bent = c->bent + b * hidden + s.first;
    float *update = sums + GRU_UPDATE * hidden, *new = sums + GRU_NEW * hidden;
    activate(c, 1, s.count, new, new);
    apply(c, WE_BINARY_Sub, s.count, c->old.data + b * c->old.row + s.first, new, bent);
    apply(c, WE_BINARY_Mul, s.count, update, bent, bent);
    apply(c, WE_BINARY_Add, s.count, new, bent, c->fresh + b * c->fresh_row + s.first);
}

/* Update and reset gate. What is reset is the new gate's product, or before it the state. */
static void gru_gates(course *c, span s) {
    int64_t hidden = c->p->sizes.hidden;
    bool after = c->p->linear_before_reset;
    multiply_given(c, c->old, GRU_UPDATE, s);
    multiply_given(c, c->old, GRU_RESET, s);
    if (after)
        multiply(c, c->old, GRU_NEW, s, c->d->inner, 0);
    for (int64_t b = 0; b < c->p->sizes.batch; b++) {
        float *sums = c->sums + b * 3 * hidden + s.first, *new = sums + GRU_NEW * hidden;
        float *reset = sums + GRU_RESET * hidden;
        activate(c, 0, s.count, sums, sums);
        activate(c, 0, s.count, reset, reset);
        if (after) {
            apply(c, WE_BINARY_Mul, s.count, reset, new, new);
            apply(c, WE_BINARY_Add, s.count, new, c->now + b * c->now_row + GRU_NEW * hidden + s.first, new);
            gru_mix(c, b, s);
        } else {
            apply(c, WE_BINARY_Mul, s.count, reset, c->old.data + b * c->old.row + s.first,
                  c->reset + b * hidden + s.first);
        }
    }
}

static void gru_new(course *c, span s) {
    multiply_given(c, (rows){c->reset, c->p->sizes.hidden}, GRU_NEW, s);
    for (int64_t b = 0; b < c->p->sizes.batch; b++)
        gru_mix(c, b, s);
}

/* ---- Steps ---- */

/* Slice i of the hidden elements, in whole panels. */
static span slice(const course *c, int64_t i) {
    const we_recurrence *r = &c->p->sizes;
    int64_t columns = c->run->kernels->gemv_columns[c->p->dtype], panels = panels_of(r, columns);
    int64_t first = panels * i / c->slices * columns, end = panels * (i + 1) / c->slices * columns;
    return (span){first, (end < r->hidden ? end : r->hidden) - first};
}

/* The worker's own slice where nobody has taken it, so that it finds its part of R in its cache. */
static int64_t take_slice(course *c) {
    int64_t own = we_run_worker(c->run) % c->slices;
    for (int64_t i = own;; i = (i + 1) % c->slices) {
        if (!(atomic_fetch_or(&c->taken, 1u << i) >> i & 1))
            return i;
    }
}

static void run_slices(void *context, int64_t begin, int64_t end) {
    course *c = context;
    for (int64_t i = begin; i < end; i++) {
        span s = slice(c, c->slices == 1 ? 0 : take_slice(c));
        if (c->second)
            gru_new(c, s);
        else if (c->p->op == WE_OP_GRU)
            gru_gates(c, s);
        else if (c->p->op == WE_OP_LSTM)
            lstm_step(c, s);
        else
            rnn_step(c, s);
    }
}

static void run_phase(course *c, we_pool *pool, bool second) {
    c->second = second;
    atomic_store(&c->taken, 0);
    we_parallel_for(pool, c->slices, 1, run_slices, c);
}

/* The inputs' share of all gates, panel by panel, so that a panel of W is read from memory once. */
typedef struct projection {
    const course *c;
    const float *x;
} projection;

static void project(void *context, int64_t begin, int64_t end) {
    const projection *j = context;
    const course *c = j->c;
    const we_recurrence *r = &c->p->sizes;
    int64_t columns = c->run->kernels->gemv_columns[c->p->dtype], panels = panels_of(r, columns);
    for (int64_t i = begin; i < end; i++) {
        int64_t unit = i % panels * columns, at = i / panels * r->hidden + unit, left = r->hidden - unit;
        we_gemv g = {.k = r->inputs,
                     .rows = r->steps * r->batch,
                     .x = j->x,
                     .x_row = r->inputs,
                     .w = c->d->packed_w + i * words_of(c->p, r->inputs) * columns,
                     .start = c->d->start + at,
                     .y = c->given + at,
                     .y_row = r->gates * r->hidden,
                     .count = (int32_t)(left < columns ? left : columns)};
        c->run->kernels->gemv[c->p->dtype](&g);
    }
}

/* ---- Directions ---- */

typedef struct job {
    const we_run *run;
    const we_command *command;
    we_pool *pool; /* for the inside of a direction */
} job;

/* Row b, direction d of a [directions, batch, hidden] state, or with layout 1 [batch, directions, hidden]. */
static int64_t state_at(const we_recurrence *s, int64_t d, int64_t b) {
    return (s->batch_first ? b * s->directions + d : d * s->batch + b) * s->hidden;
}

static void copy_state(const we_recurrence *s, const float *from, int64_t from_row, float *to,
                       int64_t to_row) {
    for (int64_t b = 0; b < s->batch; b++)
        memcpy(to + b * to_row, from + b * from_row, (size_t)s->hidden * sizeof *to);
}

static course begin_course(const job *j, const parameters *p, int64_t d) {
    const we_recurrence *s = &p->sizes;
    int64_t each = s->batch * s->hidden, width = s->gates * s->hidden;
    int64_t threads = we_pool_threads(j->pool),
            panels = panels_of(s, j->run->kernels->gemv_columns[p->dtype]);
    int64_t shares = width * s->hidden * s->batch / WORTH_SHARING;
    course c = {.run = j->run, .p = p, .d = &p->directions[d]};
    c.given = (float *)j->run->scratch + d * direction_floats(s);
    c.sums = c.given + s->steps * s->batch * width;
    c.cell = c.sums + s->batch * width;
    c.reset = c.cell + each;
    c.bent = c.reset + each;
    c.now_row = s->batch_first ? s->steps * width : width;
    c.fresh_row = s->batch_first ? s->steps * s->directions * s->hidden : s->hidden;
    c.slices = threads < panels ? threads : panels;
    c.slices = shares < c.slices ? shares : c.slices;
    c.slices = c.slices < 1 ? 1 : c.slices > 32 ? 32 : c.slices;
    return c;
}

/* The states before the first step; what is not given is 0. */
static void begin_states(const job *j, course *c, int64_t d) {
    const we_recurrence *s = &c->p->sizes;
    const float *hidden = we_claim_in(j->run, j->command, 5);
    const float *cell = c->p->op == WE_OP_LSTM ? we_claim_in(j->run, j->command, 6) : NULL;
    int64_t row = state_at(s, 0, 1) - state_at(s, 0, 0);
    float *zeros = c->bent + s->batch * s->hidden;
    memset(zeros, 0, (size_t)(s->batch * s->hidden) * sizeof *zeros);
    memset(c->cell, 0, (size_t)(s->batch * s->hidden) * sizeof *zeros);
    c->old = hidden ? (rows){hidden + state_at(s, d, 0), row} : (rows){zeros, s->hidden};
    if (cell)
        copy_state(s, cell + state_at(s, d, 0), row, c->cell, s->hidden);
}

static void end_states(const job *j, const course *c, int64_t d) {
    const we_recurrence *s = &c->p->sizes;
    float *hidden = we_claim_out(j->run, j->command, 1);
    float *cell = we_claim_out(j->run, j->command, 2);
    int64_t row = state_at(s, 0, 1) - state_at(s, 0, 0);
    if (hidden)
        copy_state(s, c->old.data, c->old.row, hidden + state_at(s, d, 0), row);
    if (cell)
        copy_state(s, c->cell, s->hidden, cell + state_at(s, d, 0), row);
}

/* Every step writes its row of Y and reads the one before it there. */
static void run_direction(const job *j, int64_t d) {
    const parameters *p = j->command->u.claim.parameters;
    const we_recurrence *s = &p->sizes;
    course c = begin_course(j, p, d);
    projection first = {&c, we_claim_in(j->run, j->command, 0)};
    float *y = we_run_out(j->run, j->command);
    int64_t width = s->gates * s->hidden,
            y_step = (s->batch_first ? 1 : s->batch) * s->directions * s->hidden;
    int64_t given_step = (s->batch_first ? 1 : s->batch) * width;
    int64_t panels = s->gates * panels_of(s, j->run->kernels->gemv_columns[p->dtype]);
    we_parallel_for(j->pool, panels,
                    1 + WORTH_SHARING * panels / (s->steps * s->batch * s->inputs * width + 1), project,
                    &first);
    begin_states(j, &c, d);
    y += s->batch_first ? d * s->hidden : d * s->batch * s->hidden;
    for (int64_t i = 0; i < s->steps; i++) {
        int64_t t = s->backward || d == 1 ? s->steps - 1 - i : i;
        c.now = c.given + t * given_step;
        c.fresh = y + t * y_step;
        c.back = i % 2;
        run_phase(&c, j->pool, false);
        if (p->op == WE_OP_GRU && !p->linear_before_reset)
            run_phase(&c, j->pool, true);
        c.old = (rows){c.fresh, c.fresh_row};
    }
    end_states(j, &c, d);
}

static void run_directions(void *context, int64_t begin, int64_t end) {
    for (int64_t d = begin; d < end; d++)
        run_direction(context, d);
}

static void run_claim(const we_run *run, const we_command *command) {
    const we_recurrence *s = &((const parameters *)command->u.claim.parameters)->sizes;
    job j = {run, command, s->directions == 1 ? run->pool : NULL};
    we_parallel_for(run->pool, s->directions, 1, run_directions, &j);
}

#define METHODS(name, accept_it, is_narrow)                                                                  \
    const we_claim_methods name = {                                                                          \
        .accept = accept_it,                                                                                 \
        .cost = cost,                                                                                        \
        .run = run_claim,                                                                                    \
        .prepare = prepare,                                                                                  \
        .scratch_size = scratch_size,                                                                        \
        .reads = 1u << 5 | 1u << 6,                                                                          \
        .writes = 1u << 1 | 1u << 2,                                                                         \
        .narrow = is_narrow,                                                                                 \
    };
METHODS(we_claim_recurrent, accept_plain, false)
METHODS(we_claim_recurrent_narrow, accept_narrow, true)
