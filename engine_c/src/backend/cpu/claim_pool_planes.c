/* Pools of images whose planes lie behind one another: a window of largest or of equally weighted elements is
 * one along a row and one across. For those that step over elements: where all are seen again and again,
 * turning the image costs less (20 x 20, 5 x 5: 71 to 121 us, Zen 5, 2026-11-26). */
#include "backend/cpu/conv.h"
#include "backend/cpu/separable.h"

/* Places outside the image become the nearest inside, which is within the window as well; a sum has none. */
static bool read_axis(const we_window *w, int32_t i, bool sums, we_arena *arena, we_separable_axis *to) {
    int64_t kernel = w->kernel[i];
    if (w->dilation[i] != 1 || !we_separable_axis_new(arena, w->in[i], w->out[i], kernel, sums, to))
        return false;
    for (int64_t o = 0; o < w->out[i]; o++) {
        int64_t first = o * w->stride[i] - w->pad_begin[i], begin, end;
        we_conv_inside(w, i, o, &begin, &end);
        if (begin == end || (sums && end - begin < kernel))
            return false;
        for (int64_t tap = 0; tap < kernel; tap++) {
            int64_t place = first + tap;
            to->at[tap * w->out[i] + o] = (int32_t)(place < 0 ? 0 : place >= w->in[i] ? w->in[i] - 1 : place);
            if (sums)
                to->weights[tap * w->out[i] + o] = 1;
        }
    }
    return we_separable_axis_finish(to);
}

static bool read(const we_call *call, bool sums, we_arena *arena, const void **out) {
    we_conv conv;
    we_separable *s = we_arena_new(arena, sizeof *s);
    if (!s || !we_pool_read(call, &conv) || conv.w.stride[0] < 2 || conv.w.stride[1] < 2)
        return false;
    *s = (we_separable){
        .items = conv.items * conv.group, .inner = 1, .factor = sums ? 1 / (float)conv.w.taps : 1};
    *out = s;
    return read_axis(&conv.w, 0, sums, arena, &s->rows) && read_axis(&conv.w, 1, sums, arena, &s->columns);
}

static bool accept_max(const we_call *call, we_arena *arena, const void **out) {
    return read(call, false, arena, out);
}

static bool accept_average(const we_call *call, we_arena *arena, const void **out) {
    return read(call, true, arena, out);
}

static double cost(const void *given) {
    return we_separable_cost(given);
}

static size_t scratch_size(const we_program *program, const we_command *command, int32_t threads) {
    (void)program;
    return we_separable_scratch(command->u.claim.parameters, threads);
}

static void run_claim(const we_run *run, const we_command *command) {
    we_separable_run(run, command, command->u.claim.parameters);
}

const we_claim_methods we_claim_max_pool_planes = {
    .accept = accept_max, .cost = cost, .run = run_claim, .scratch_size = scratch_size};
const we_claim_methods we_claim_average_pool_planes = {
    .accept = accept_average, .cost = cost, .run = run_claim, .scratch_size = scratch_size};
