/* Pools of images whose planes lie behind one another. */
#include "backend/cpu/planes.h"

static bool accept_max(const we_call *call, we_arena *arena, const void **out) {
    we_conv conv;
    we_planes *p = we_arena_new(arena, sizeof *p);
    *out = p;
    return p && we_pool_read(call, &conv) && we_planes_of(&conv, NULL, p);
}

/* One over each number of taps inside that rows or columns of outputs may see. */
static bool share_out(const we_window *w, bool counts_padding, we_arena *arena, we_plane *plane) {
    float *rows = we_arena_new(arena, (size_t)(w->kernel[0] + 1) * sizeof *rows);
    float *columns = we_arena_new(arena, (size_t)w->out[1] * sizeof *columns);
    if (!rows || !columns)
        return false;
    for (int64_t seen = 0; seen <= w->kernel[0]; seen++)
        rows[seen] = 1 / (float)(counts_padding ? w->kernel[0] : seen > 0 ? seen : 1);
    for (int64_t o = 0; o < w->out[1]; o++) {
        int64_t begin, end;
        we_conv_inside(w, 1, o, &begin, &end);
        columns[o] = 1 / (float)(counts_padding ? w->kernel[1] : end > begin ? end - begin : 1);
    }
    plane->row_shares = rows;
    plane->column_shares = columns;
    return true;
}

static bool accept_average(const we_call *call, we_arena *arena, const void **out) {
    we_conv conv;
    bool counts_padding;
    we_planes *p = we_arena_new(arena, sizeof *p);
    *out = p;
    return p && we_pool_read_mean(call, &conv, &counts_padding) && we_planes_of(&conv, NULL, p) &&
           share_out(&conv.w, counts_padding, arena, &p->plane);
}

/* Rows that are brought together are read once for each output, then every output sees some columns. Rows
 * cost something by themselves. Measured on Zen 5, 2026-11-26. */
static double cost(const void *given) {
    const we_planes *p = given;
    const we_plane *plane = &p->plane;
    return (double)(p->items * p->channels * plane->out[0]) *
           (100 + (double)plane->in[1] * (1 + (double)plane->taps[0] / 4) +
            (double)plane->out[1] * (0.5 + (double)plane->taps[1] / 4));
}

static size_t scratch_size(const we_program *program, const we_command *command, int32_t threads) {
    (void)program;
    return we_planes_scratch(command->u.claim.parameters, threads);
}

static void run_max(const we_run *run, const we_command *command) {
    we_planes_run(run, command->u.claim.parameters, run->kernels->plane_largest, we_run_in(run, command, 0),
                  NULL, we_run_out(run, command));
}

static void run_average(const we_run *run, const we_command *command) {
    we_planes_run(run, command->u.claim.parameters, run->kernels->plane_mean, we_run_in(run, command, 0),
                  NULL, we_run_out(run, command));
}

const we_claim_methods we_claim_max_pool_planes = {
    .accept = accept_max, .cost = cost, .run = run_max, .differentiable = true, .scratch_size = scratch_size};
const we_claim_methods we_claim_average_pool_planes = {
    .accept = accept_average, .cost = cost, .run = run_average, .scratch_size = scratch_size};
