/* The gradient of a loop is a loop that goes through the same iterations the other way round. Each of them
 *
 * - computes anew what its body computed, as far as the formulas ask for it. What the loop had overwritten by
 *   then is on a tape: the forward loop gets one command more that keeps it;
 * - walks its body backward, from the gradients of what it wrote to those of what it read;
 * - adds the latter to where the views lie: a place that iterations share gets the sum.
 *
 * A matrix that every iteration multiplies by would get a product each, as large as itself. Instead, what it
 * was multiplied with and the gradient of the result are stacked, for one product behind the loop.
 *
 * A result that the loop reads back, or that began as a copy, has its gradient in a tensor that the backward
 * loop changes: when an iteration has passed, the places it wrote hold what the values before it count for.
 * That tensor reaches beyond the result where the first iteration read its start from elsewhere. */
#include <string.h>

#include "base/dtype.h"
#include "base/error.h"
#include "geometry/parts.h"
#include "grad/grad.h"

/* What the backward loop changes: the gradient of a tensor that views look into. */
typedef struct account {
    int32_t base;     /* of the forward loop */
    int32_t gradient; /* dense, its first element is `before` elements ahead of the base's */
    int64_t before, after;
    bool written;  /* by the forward loop */
    bool kept;     /* is it more than read? Else it is the gradient as it came */
    bool changed;  /* by the backward loop's body */
    int32_t begin; /* what it is at first */
} account;

/* A product by a matrix from outside: all rows that it met, and the gradients of what they became. */
typedef struct stacked {
    bool is;              /* it is done so */
    int32_t rows, slopes; /* [iterations * m, k], [iterations * m, n]; -1: no gradient came */
} stacked;

typedef struct we_reversal {
    we_loop loop; /* forward */
    size_t command;
    we_loop_builder builder; /* backward */
    size_t cursor;           /* body command that is walked */
    int32_t *recomputed;     /* per body command: its result in the backward loop; -1: not asked for yet */
    int32_t given[WE_LOOP_VIEWS]; /* per view: what it showed before the body ran; -1: not asked for yet */
    int32_t tapes[WE_LOOP_VIEWS]; /* per view: where the forward loop keeps that; -1: nowhere */
    account accounts[WE_LOOP_VIEWS];
    int32_t account_count;
    bool *wanted;    /* per tensor: see we_gradients, of the body's */
    stacked *stacks; /* per body command */
} we_reversal;

/* ---- Places ---- */

static we_address reversed(const we_loop *loop, const we_address *at, int64_t moved) {
    we_address back = {.offset = at->offset + moved};
    for (int32_t i = 0; i < loop->rank; i++) {
        back.offset += at->stride[i] * (loop->size[i] - 1);
        back.stride[i] = -at->stride[i];
    }
    return back;
}

static int32_t view_number(const we_loop *loop, int32_t tensor) {
    for (size_t v = 0; v < loop->view_count; v++) {
        if (loop->views[v].view == tensor)
            return (int32_t)v;
    }
    return -1;
}

static bool is_among(const int32_t *list, size_t count, int32_t tensor) {
    for (size_t i = 0; i < count; i++) {
        if (list[i] == tensor)
            return true;
    }
    return false;
}

static bool writes_base(const we_loop *loop, int32_t base) {
    return is_among(loop->writes, loop->write_count, base);
}

static bool body_writes(const we_loop *loop, int32_t tensor) {
    for (size_t c = 0; c < loop->body_count; c++) {
        if (loop->body[c].out == tensor)
            return true;
    }
    return false;
}

static bool body_reads(const we_loop *loop, int32_t tensor) {
    for (size_t c = 0; c < loop->body_count; c++) {
        for (size_t i = 0; i < we_command_reads(&loop->body[c]); i++) {
            if (we_command_read(&loop->body[c], i) == tensor)
                return true;
        }
    }
    return false;
}

/* The view of the forward loop, in the iteration that the backward loop is at, into another tensor laid out
 * like its base. */
static int32_t look_back(we_lower *l, we_reversal *r, const we_loop_view *view, int32_t into, int64_t moved) {
    we_tensor shape = we_lower_tensor(l, view->view);
    we_address at = reversed(&r->loop, &view->at, moved);
    int32_t back = we_loop_view_of(l, &r->builder, into, shape.rank, shape.dims, &at);
    if (view->index.tensor >= 0) {
        we_loop_index index = view->index;
        index.at = reversed(&r->loop, &view->index.at, 0);
        we_loop_move_by(l, &r->builder, &index);
    }
    return back;
}

/* ---- Values of the forward loop, as they were in that iteration ---- */

/* Where a tape has the part of an iteration: one behind the other. */
static we_address on_tape(const we_loop *loop, int64_t each) {
    we_address at = {.offset = 0};
    for (int32_t i = loop->rank; i-- > 0; each *= loop->size[i])
        at.stride[i] = each;
    return at;
}

static int32_t given_by_view(we_lower *l, we_reversal *r, int32_t v) {
    const we_loop_view *view = &r->loop.views[v];
    if (r->given[v] >= 0)
        return r->given[v];
    if (!writes_base(&r->loop, view->base) && view->first < 0) {
        r->given[v] = look_back(l, r, view, view->base, 0);
        return r->given[v];
    }
    we_tensor shape = we_lower_tensor(l, view->view);
    int64_t dims[2] = {we_loop_iterations(&r->loop), shape.count};
    r->tapes[v] = we_lower_temp(l, shape.dtype, 2, dims);
    we_address forward = on_tape(&r->loop, shape.count), at = reversed(&r->loop, &forward, 0);
    r->given[v] = we_loop_view_of(l, &r->builder, r->tapes[v], shape.rank, shape.dims, &at);
    return r->given[v];
}

static int32_t value_before(we_gradients *g, int32_t tensor, size_t command);

/* The result of a body command, computed anew. */
static int32_t recompute(we_gradients *g, size_t c) {
    we_lower *l = g->l;
    we_reversal *r = g->reversal;
    we_command command = r->loop.body[c];
    if (r->recomputed[c] >= 0 || l->status != WE_OK)
        return r->recomputed[c];
    for (int32_t i = 0; i < 3; i++)
        command.in[i] = command.in[i] < 0 ? -1 : value_before(g, command.in[i], c);
    if (command.kind == WE_COMMAND_RASTER) {
        size_t count = command.u.raster.count;
        we_region *regions =
            we_arena_copy(&l->program->arena, command.u.raster.regions, count * sizeof *regions);
        for (size_t i = 0; regions && i < count; i++)
            regions[i].source = value_before(g, regions[i].source, c);
        command.u.raster.regions = regions;
        if (!regions && l->status == WE_OK)
            l->status = we_error_no_memory(l->call.err);
    }
    we_tensor out = we_lower_tensor(l, command.out);
    command.out = r->recomputed[c] = we_lower_temp(l, out.dtype, out.rank, out.dims);
    if (l->status == WE_OK)
        l->status = we_program_command(l->program, &command, l->call.err);
    return r->recomputed[c];
}

/* What the tensor held when that body command began. */
static int32_t value_before(we_gradients *g, int32_t tensor, size_t command) {
    for (size_t c = command; c-- > 0;) {
        if (g->reversal->loop.body[c].out == tensor)
            return recompute(g, c);
    }
    int32_t v = view_number(&g->reversal->loop, tensor);
    return v < 0 ? tensor : given_by_view(g->l, g->reversal, v);
}

int32_t we_reversal_read(we_gradients *g, const we_command *command, int32_t i) {
    return value_before(g, command->in[i], g->reversal->cursor);
}

int32_t we_reversal_written(we_gradients *g, const we_command *command) {
    (void)command;
    return recompute(g, g->reversal->cursor);
}

/* The forward loop as it was, and before its body a copy of each view that has a tape. */
static void keep_tapes(we_lower *l, we_reversal *r) {
    const we_loop *old = &r->loop;
    we_arena *arena = &l->program->arena;
    size_t tapes = 0;
    for (size_t v = 0; v < old->view_count; v++)
        tapes += r->tapes[v] >= 0;
    if (tapes == 0 || l->status != WE_OK)
        return;
    if (old->view_count + tapes > WE_LOOP_VIEWS) {
        we_lower_fail(l, WE_INVALID_MODEL, "a loop with so many views has no gradient");
        return;
    }
    we_loop loop = *old;
    we_loop_view *views = we_arena_new(arena, (old->view_count + tapes) * sizeof *views);
    we_command *body = we_arena_new(arena, (old->body_count + tapes) * sizeof *body);
    int32_t *writes = we_arena_new(arena, 2 * (old->write_count + tapes) * sizeof *writes);
    we_region *regions = we_arena_new(arena, tapes * sizeof *regions);
    if (!views || !body || !writes || !regions) {
        l->status = we_error_no_memory(l->call.err);
        return;
    }
    int32_t *seeds = writes + old->write_count + tapes;
    memcpy(views, old->views, old->view_count * sizeof *views);
    memcpy(writes, old->writes, old->write_count * sizeof *writes);
    memcpy(seeds, old->seeds, old->write_count * sizeof *seeds);
    memcpy(body + tapes, old->body, old->body_count * sizeof *body);
    for (size_t v = 0, t = 0; v < old->view_count; v++) {
        if (r->tapes[v] < 0)
            continue;
        we_tensor part = we_lower_tensor(l, old->views[v].view);
        int32_t to = we_lower_temp(l, part.dtype, part.rank, part.dims);
        if (l->status != WE_OK)
            return;
        l->program->tensors[to].kind = WE_TENSOR_VIEW;
        views[loop.view_count++] = (we_loop_view){
            .view = to, .base = r->tapes[v], .first = -1, .at = on_tape(old, part.count), .index.tensor = -1};
        regions[t] = (we_region){.source = old->views[v].view, .rank = 1, .size = {part.count}};
        regions[t].src.stride[0] = regions[t].dst.stride[0] = 1;
        body[t] = (we_command){.kind = WE_COMMAND_RASTER, .node = l->node, .in = {-1, -1, -1}, .out = to};
        body[t].u.raster.regions = &regions[t];
        body[t++].u.raster.count = 1;
        seeds[loop.write_count] = -1;
        writes[loop.write_count++] = r->tapes[v];
    }
    loop.body_count += tapes;
    loop.body = body;
    loop.views = views;
    loop.writes = writes;
    loop.seeds = seeds;
    l->program->commands[r->command].u.loop = loop;
}

/* ---- Products by a matrix from outside ---- */

static bool is_outside(const we_loop *loop, int32_t tensor) {
    return view_number(loop, tensor) < 0 && !body_writes(loop, tensor);
}

/* Do rows and gradients of an iteration take less than the product would? */
static bool pays_stacking(const we_reversal *r, const we_command *command) {
    const we_matmul *p = &command->u.matmul;
    int64_t batch = 1;
    for (int32_t i = 0; i < p->batch_rank && command->kind == WE_COMMAND_MATMUL; i++)
        batch *= p->batch[i];
    return command->kind == WE_COMMAND_MATMUL && batch == 1 && is_outside(&r->loop, command->in[1]) &&
           command->in[0] != command->in[1] && r->wanted[command->in[1]] &&
           p->m * (p->k + p->n) < p->k * p->n;
}

/* Each takes two views more. */
static void find_stacked(we_reversal *r) {
    size_t count = 0;
    for (size_t c = 0; c < r->loop.body_count; c++) {
        r->stacks[c] = (stacked){.is = pays_stacking(r, &r->loop.body[c]), .rows = -1, .slopes = -1};
        count += r->stacks[c].is;
    }
    bool fits = 2 * (count + r->loop.view_count) + r->loop.read_count <= WE_LOOP_VIEWS;
    for (size_t c = 0; c < r->loop.body_count && !fits; c++)
        r->stacks[c].is = false;
}

/* Does nothing else in the body read the tensor? */
static bool is_only_stacked(const we_reversal *r, int32_t tensor) {
    for (size_t c = 0; c < r->loop.body_count; c++) {
        const we_command *command = &r->loop.body[c];
        bool by_product = r->stacks[c].is && command->in[1] == tensor;
        for (size_t i = 0; i < we_command_reads(command) && !by_product; i++) {
            if (we_command_read(command, i) == tensor)
                return false;
        }
    }
    return true;
}

/* A tensor with a part for each iteration of the backward loop, and into it, in this one, a matrix that lies
 * with those steps. */
static int32_t stack(we_lower *l, we_reversal *r, int32_t matrix, int64_t rows, int64_t columns, int64_t row,
                     int64_t column) {
    int64_t dims[2] = {we_loop_iterations(&r->loop) * rows, columns}, each[2] = {rows, columns};
    we_address at = on_tape(&r->loop, rows * columns);
    we_box box = {
        .rank = 2, .size = {rows, columns}, .src_stride = {row, column}, .dst_stride = {columns, 1}};
    we_raster raster = {0};
    int32_t whole = we_lower_temp(l, we_lower_tensor(l, matrix).dtype, 2, dims);
    int32_t part = we_loop_view_of(l, &r->builder, whole, 2, each, &at);
    we_raster_add(l, &raster, matrix, &box);
    we_emit_raster(l, &raster, part);
    return whole;
}

static void stack_product(we_gradients *inner, we_reversal *r, size_t c, int32_t of_out) {
    const we_command *command = &r->loop.body[c];
    const we_matmul *p = &command->u.matmul;
    int32_t rows = we_grad_read(inner, command, 0);
    r->stacks[c].rows = stack(inner->l, r, rows, p->m, p->k, p->a_row, p->a_column);
    r->stacks[c].slopes = stack(inner->l, r, of_out, p->m, p->n, p->n, 1);
}

/* Behind the loop: the gradients of such matrices, as of one product with all rows. */
static void add_stacked(we_gradients *g, const we_reversal *r) {
    for (size_t c = 0; c < r->loop.body_count && g->l->status == WE_OK; c++) {
        we_command all = r->loop.body[c];
        if (r->stacks[c].rows < 0)
            continue;
        all.in[0] = r->stacks[c].rows;
        all.u.matmul.m *= we_loop_iterations(&r->loop);
        all.u.matmul.a_row = all.u.matmul.k;
        all.u.matmul.a_column = 1;
        all.u.matmul.batch_rank = 0;
        we_grad_matmul(g, &all, r->stacks[c].slopes);
    }
}

/* ---- Accounts ---- */

static account *account_of(we_reversal *r, int32_t base) {
    for (int32_t i = 0; i < r->account_count; i++) {
        if (r->accounts[i].base == base)
            return &r->accounts[i];
    }
    return NULL;
}

/* A tensor like `base` with room around it, `from` (-1: nothing) in the middle and zeros elsewhere. */
static int32_t surround(we_lower *l, const account *a, int32_t from) {
    we_tensor base = we_lower_tensor(l, a->base);
    int64_t dims[1] = {a->before + base.count + a->after};
    int32_t into = we_lower_temp(l, base.dtype, 1, dims);
    we_box box = {
        .rank = 1, .size = {base.count}, .src_stride = {1}, .dst_stride = {1}, .dst_offset = a->before};
    we_raster raster = {0};
    if (from >= 0)
        we_raster_add(l, &raster, from, &box);
    we_emit_raster(l, &raster, into);
    return into;
}

/* Elements from `start` of an account, as a tensor like `like`. */
static int32_t part_of(we_lower *l, const account *a, int64_t start, int32_t like) {
    we_tensor shape = we_lower_tensor(l, like);
    int32_t into = we_lower_temp(l, shape.dtype, shape.rank, shape.dims);
    we_box box = {
        .rank = 1, .size = {shape.count}, .src_stride = {1}, .dst_stride = {1}, .src_offset = start};
    we_raster raster = {0};
    we_raster_add(l, &raster, a->gradient, &box);
    we_emit_raster(l, &raster, into);
    return into;
}

static int32_t seed_of(const we_loop *loop, int32_t base) {
    for (size_t i = 0; i < loop->write_count; i++) {
        if (loop->writes[i] == base)
            return loop->seeds[i];
    }
    return -1;
}

/* Room for what the first iteration read from elsewhere; false where that lies inside the result. */
static bool make_room(we_lower *l, const we_loop *loop, account *a) {
    int64_t count = we_lower_tensor(l, a->base).count;
    for (size_t v = 0; v < loop->view_count; v++) {
        const we_loop_view *view = &loop->views[v];
        if (view->base != a->base || view->first < 0)
            continue;
        int64_t begin = view->at.offset, end = begin + we_lower_tensor(l, view->view).count;
        if (view->index.tensor >= 0 || (begin < count && end > 0))
            return false;
        a->before = -begin > a->before ? -begin : a->before;
        a->after = end - count > a->after ? end - count : a->after;
    }
    return true;
}

/* Does the body read back what it writes there? */
static bool reads_back(const we_loop *loop, int32_t base) {
    for (size_t v = 0; v < loop->view_count; v++) {
        if (loop->views[v].base == base && body_reads(loop, loop->views[v].view))
            return true;
    }
    return false;
}

static void open_account(we_gradients *g, we_reversal *r, int32_t base) {
    we_lower *l = g->l;
    account a = {.base = base, .written = writes_base(&r->loop, base)};
    if (account_of(r, base) || !we_grad_wants(g, base))
        return;
    if (!make_room(l, &r->loop, &a)) {
        we_lower_fail(l, WE_INVALID_MODEL, "a loop that starts inside its result has no gradient");
        return;
    }
    a.kept = !a.written || seed_of(&r->loop, base) >= 0 || reads_back(&r->loop, base);
    int32_t come = a.written ? g->of[base] : -1;
    if (!a.kept && come < 0)
        return; /* nobody wants to know of this result */
    if (a.kept) {
        a.begin = surround(l, &a, come);
        we_tensor shape = we_lower_tensor(l, a.begin);
        a.gradient = we_lower_temp(l, shape.dtype, shape.rank, shape.dims);
    } else {
        a.gradient = come;
    }
    if (l->status == WE_OK)
        r->accounts[r->account_count++] = a;
}

/* One for each tensor of outside that a gradient comes from or goes to. */
static void open_accounts(we_gradients *g, we_reversal *r) {
    for (size_t v = 0; v < r->loop.view_count; v++)
        open_account(g, r, r->loop.views[v].base);
    for (size_t i = 0; i < r->loop.read_count; i++) {
        int32_t tensor = r->loop.reads[i];
        bool plain = we_grad_wants(g, tensor) && body_reads(&r->loop, tensor) && !is_only_stacked(r, tensor);
        if (r->account_count + (int32_t)plain > WE_LOOP_VIEWS)
            we_lower_fail(g->l, WE_INVALID_MODEL, "a loop with so many operands has no gradient");
        else if (plain)
            open_account(g, r, tensor);
    }
}

/* ---- The body, backward ---- */

/* Where the gradient of a view lies in this iteration. */
static int32_t place(we_lower *l, we_reversal *r, const we_loop_view *view, const account *a) {
    return look_back(l, r, view, a->gradient, a->before);
}

/* Take over the gradients of what this iteration wrote. */
static void begin_body(we_gradients *inner, we_reversal *r, int32_t *places) {
    we_lower *l = inner->l;
    for (size_t v = 0; v < r->loop.view_count; v++) {
        const we_loop_view *view = &r->loop.views[v];
        account *a = account_of(r, view->base);
        places[v] = -1;
        if (!a || !body_writes(&r->loop, view->view))
            continue;
        we_tensor shape = we_lower_tensor(l, view->view);
        places[v] = place(l, r, view, a);
        inner->of[view->view] =
            a->kept ? we_emit_reshape(l, places[v], shape.rank, shape.dims, WE_NEW) : places[v];
    }
}

static void walk_body(we_gradients *inner, we_reversal *r) {
    for (size_t c = r->loop.body_count; c-- > 0 && inner->l->status == WE_OK;) {
        const we_command *command = &r->loop.body[c];
        int32_t of_out = inner->of[command->out];
        if (of_out < 0)
            continue;
        inner->of[command->out] = -1; /* what was there before is another value */
        r->cursor = c;
        if (r->stacks[c].is) {
            stack_product(inner, r, c, of_out);
            r->wanted[command->in[1]] = false; /* of this command, by itself */
        }
        we_grad_command(inner, command, of_out);
        if (r->stacks[c].is)
            r->wanted[command->in[1]] = true;
    }
}

static void add_to(we_lower *l, int32_t place, int32_t part) {
    we_emit_binary(l, WE_BINARY_Add, place, part, place);
}

/* Bring what the body read to its accounts. */
static void end_body(we_gradients *inner, we_reversal *r, const int32_t *places) {
    we_lower *l = inner->l;
    for (size_t v = 0; v < r->loop.view_count; v++) {
        const we_loop_view *view = &r->loop.views[v];
        account *a = account_of(r, view->base);
        int32_t part = inner->of[view->view];
        we_raster nothing = {0};
        if (!a || !a->kept)
            continue;
        a->changed = a->changed || places[v] >= 0 || part >= 0;
        if (places[v] >= 0 && part < 0)
            we_emit_raster(l, &nothing, places[v]);
        else if (places[v] >= 0)
            we_emit_store(l, part, places[v]);
        else if (part >= 0)
            add_to(l, place(l, r, view, a), part);
    }
    for (int32_t i = 0; i < r->account_count; i++) {
        account *a = &r->accounts[i];
        int32_t part = inner->of[a->base];
        we_tensor shape = we_lower_tensor(l, a->base);
        we_address all = {.offset = a->before};
        if (part < 0)
            continue;
        a->changed = true;
        add_to(l, we_loop_view_of(l, &r->builder, a->gradient, shape.rank, shape.dims, &all), part);
    }
}

/* End the loop with what it changes; false: that is nothing, and there is no loop. */
static bool end_loop(we_lower *l, we_reversal *r) {
    bool any = false;
    for (size_t c = 0; c < r->loop.body_count; c++)
        any = any || r->stacks[c].rows >= 0;
    for (int32_t i = 0; i < r->account_count; i++) {
        account *a = &r->accounts[i];
        any = any || a->changed;
        if (a->changed)
            we_loop_seed(l, &r->builder, a->gradient, a->begin);
        else if (a->kept)
            a->gradient = a->begin;
    }
    if (any)
        we_loop_end(l, &r->builder);
    else if (l->status == WE_OK)
        l->program->command_count = r->builder.command_mark;
    return any;
}

/* What of the body's tensors depends on what is chosen. */
static void flag_body(const we_gradients *outer, const we_reversal *r, bool *wanted) {
    const we_program *program = outer->l->program;
    const we_loop *loop = &r->loop;
    for (size_t i = 0; i < loop->read_count; i++)
        wanted[loop->reads[i]] = we_grad_wants(outer, loop->reads[i]);
    for (size_t v = 0; v < loop->view_count; v++)
        wanted[loop->views[v].view] =
            we_grad_wants(outer, loop->views[v].base) || we_grad_wants(outer, loop->views[v].first);
    for (size_t c = 0; c < loop->body_count; c++) {
        const we_command *command = &loop->body[c];
        bool any = false;
        for (size_t i = 0; i < we_command_reads(command); i++)
            any = any || wanted[we_command_read(command, i)];
        if (any && we_grad_passes(program, command))
            wanted[command->out] = we_dtype_kind(program->tensors[command->out].dtype) == 'f';
    }
}

/* ---- The loop ---- */

/* What is left in the accounts goes to who was read, and to what results began with. */
static void close_accounts(we_gradients *g, we_reversal *r) {
    we_lower *l = g->l;
    for (int32_t i = 0; i < r->account_count && l->status == WE_OK; i++) {
        const account *a = &r->accounts[i];
        int32_t seed = a->written ? seed_of(&r->loop, a->base) : a->base;
        if (a->kept && we_grad_wants(g, seed))
            we_grad_add(g, seed, part_of(l, a, a->before, a->base));
    }
    for (size_t v = 0; v < r->loop.view_count && l->status == WE_OK; v++) {
        const we_loop_view *view = &r->loop.views[v];
        account *a = account_of(r, view->base);
        if (a && a->kept && view->first >= 0 && we_grad_wants(g, view->first))
            we_grad_add(g, view->first, part_of(l, a, a->before + view->at.offset, view->view));
    }
}

static bool any_gradient(const we_gradients *g, const we_loop *loop) {
    for (size_t i = 0; i < loop->write_count; i++) {
        if (we_grad_wants(g, loop->writes[i]) && g->of[loop->writes[i]] >= 0)
            return true;
    }
    return false;
}

static void reverse(we_gradients *g, we_reversal *r, bool *wanted, int32_t *of) {
    we_lower *l = g->l;
    int32_t places[WE_LOOP_VIEWS];
    we_gradients inner = {.l = l, .known = g->known, .wanted = wanted, .of = of, .reversal = r};
    memset(of, -1, g->known * sizeof *of);
    memset(r->recomputed, -1, (r->loop.body_count + 1) * sizeof *r->recomputed);
    memset(r->given, -1, sizeof r->given);
    memset(r->tapes, -1, sizeof r->tapes);
    flag_body(g, r, wanted);
    find_stacked(r);
    we_loop_begin(l, &r->builder, r->loop.rank, r->loop.size);
    open_accounts(g, r);
    begin_body(&inner, r, places);
    walk_body(&inner, r);
    end_body(&inner, r, places);
    if (end_loop(l, r)) {
        keep_tapes(l, r);
        close_accounts(g, r);
        add_stacked(g, r);
    }
}

void we_grad_loop(we_gradients *g, size_t command) {
    we_lower *l = g->l;
    const we_loop *loop = &l->program->commands[command].u.loop;
    if (!any_gradient(g, loop) || we_loop_iterations(loop) == 0)
        return;
    we_reversal *r = we_memory_new(sizeof *r);
    bool *wanted = we_memory_new(g->known * sizeof *wanted);
    int32_t *of = we_memory_new(g->known * sizeof *of);
    int32_t *recomputed = we_memory_new((loop->body_count + 1) * sizeof *recomputed);
    stacked *stacks = we_memory_new((loop->body_count + 1) * sizeof *stacks);
    if (r && wanted && of && recomputed && stacks) {
        *r = (we_reversal){
            .loop = *loop, .command = command, .recomputed = recomputed, .wanted = wanted, .stacks = stacks};
        reverse(g, r, wanted, of);
    } else if (l->status == WE_OK) {
        l->status = we_error_no_memory(l->call.err);
    }
    we_memory_free(r);
    we_memory_free(wanted);
    we_memory_free(of);
    we_memory_free(recomputed);
    we_memory_free(stacks);
}
