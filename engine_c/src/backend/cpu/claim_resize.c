/* Resize of the two innermost dims of an image, one after the other. */
#include <string.h>

#include "backend/cpu/separable.h"
#include "geometry/resize.h"

/* The tables of one axis, rounded to float32. */
static bool read_axis(const we_resize_axis *from, bool same, we_arena *arena, we_separable_axis *to) {
    bool weighted = !same && !we_resize_picks(from);
    if (!we_separable_axis_new(arena, from->in, from->out, same ? 1 : we_resize_taps(from), weighted, to))
        return false;
    int64_t count = to->taps * to->out;
    int64_t *at = we_memory_new((size_t)count * sizeof *at);
    double *weights = we_memory_new((size_t)count * sizeof *weights);
    if (at && weights && !same)
        we_resize_fill(from, at, weights);
    for (int64_t i = 0; at && weights && i < count; i++) {
        to->at[i] = (int32_t)(same ? i : at[i]);
        if (weighted)
            to->weights[i] = (float)weights[i];
    }
    bool filled = at && weights;
    we_memory_free(at);
    we_memory_free(weights);
    return filled && we_separable_axis_finish(to);
}

static bool is_known(const char *value, const char *first, const char *second, const char *third) {
    return strcmp(value, first) == 0 || strcmp(value, second) == 0 || strcmp(value, third) == 0;
}

/* Float32, modes that the rule knows, and no dims but `row` and the one behind it. */
static bool read(const we_call *call, int32_t row, we_arena *arena, we_separable *p) {
    const we_tensor *x = call->in[0];
    we_resize shapes;
    we_resize_axis how = we_resize_modes(call->node);
    if (x->dtype != WE_F32 || x->count == 0 || we_resize_crops(&how) ||
        !is_known(how.mode, "nearest", "linear", "cubic") || we_resize_shapes(call, &shapes) != WE_OK)
        return false;
    p->items = p->inner = 1;
    p->factor = 1;
    for (int32_t i = 0; i < x->rank; i++) {
        we_resize_axis own = how;
        bool same = we_resize_axis_is_same(&own, &shapes, x, i);
        if (i == row || i == row + 1) {
            if (own.out == 0 || !read_axis(&own, same, arena, i == row ? &p->rows : &p->columns))
                return false;
        } else if (!same) {
            return false;
        }
    }
    return true;
}

/* Images whose planes lie behind one another. */
static bool accept(const we_call *call, we_arena *arena, const void **out) {
    const we_tensor *x = call->in[0];
    we_separable *p = we_arena_new(arena, sizeof *p);
    if (!p || x->rank < 2 || !read(call, x->rank - 2, arena, p))
        return false;
    p->items = x->count / (p->rows.in * p->columns.in);
    *out = p;
    return true;
}

/* Images whose channels lie together. */
static bool accept_last(const we_call *call, we_arena *arena, const void **out) {
    const we_tensor *x = call->in[0];
    we_separable *p = we_arena_new(arena, sizeof *p);
    if (!p || x->rank != 4 || !read(call, 2, arena, p))
        return false;
    p->items = x->dims[0];
    p->inner = x->dims[1];
    *out = p;
    return true;
}

static double cost(const void *given) {
    return 2 * we_separable_cost(given);
}

static size_t scratch_size(const we_program *program, const we_command *command, int32_t threads) {
    (void)program;
    return we_separable_scratch(command->u.claim.parameters, threads);
}

static void run_claim(const we_run *run, const we_command *command) {
    we_separable_run(run, command, command->u.claim.parameters);
}

const we_claim_methods we_claim_resize = {
    .accept = accept, .cost = cost, .run = run_claim, .scratch_size = scratch_size};
const we_claim_methods we_claim_resize_last = {.accept = accept_last,
                                               .cost = cost,
                                               .run = run_claim,
                                               .scratch_size = scratch_size,
                                               .channels_last = true};
