#include "search/search.h"

#include <string.h>

/* Predictions of tiles that close are equal: what tells them apart is the noise of the calibration, so the
 * first of them is taken, whatever that says. */
static const double AS_GOOD = 1.02;

static bool are_alike(const we_matmul_row *a, const we_matmul_row *b) {
    return a && b && a->isa == b->isa && a->parts == b->parts;
}

/* Of candidates with these predictions: one that is wanted, else the first tile that is as good as the best.
 */
static size_t pick(const we_machine *machine, const we_candidate *candidates, const double *ms,
                   size_t count) {
    size_t best = 0, first = 0;
    for (size_t i = 0; i < count; i++) {
        if (machine->wanted && strcmp(machine->wanted, candidates[i].name) == 0)
            return i;
        best = ms[i] < ms[best] ? i : best;
    }
    while (first < best &&
           (ms[first] > ms[best] * AS_GOOD || !are_alike(candidates[first].kernel, candidates[best].kernel)))
        first++;
    return first;
}

void we_search_choose(const we_machine *machine, const we_program *program, bool plain_only,
                      we_command *command) {
    we_candidate candidates[WE_MAX_CANDIDATES];
    double ms[WE_MAX_CANDIDATES];
    size_t count = we_space_candidates(machine, program, command, plain_only, candidates);
    for (size_t i = 0; command->kind == WE_COMMAND_LOOP && i < command->u.loop.body_count; i++)
        we_search_choose(machine, program, plain_only, &command->u.loop.body[i]);
    for (size_t i = 0; i < count; i++)
        ms[i] = we_cost_candidate(machine, program, command, &candidates[i]);
    size_t best = pick(machine, candidates, ms, count);
    command->candidate = candidates[best].name;
    command->predicted_ms = ms[best];
    if (command->kind == WE_COMMAND_MATMUL)
        command->u.matmul.kernel = candidates[best].kernel;
    if (command->kind == WE_COMMAND_LOOP)
        command->u.loop.pieces = candidates[best].pieces;
    if (command->kind == WE_COMMAND_CLAIM)
        command->u.claim.kernel = candidates[best].kernel;
}

static const we_matmul_row *kernel_named(const char *name) {
    const we_matmul_row *rows;
    size_t count = we_matmul_rows(&rows);
    for (size_t i = 0; name && i < count; i++) {
        if (strcmp(rows[i].name, name) == 0)
            return &rows[i];
    }
    return NULL;
}

/* By the same rule as `pick`. */
size_t we_alternatives_predicted(const we_alternatives *list) {
    size_t best = 0, first = 0;
    for (size_t i = 1; i < list->count; i++)
        best = list->at[i].predicted_ms < list->at[best].predicted_ms ? i : best;
    const we_alternative *least = &list->at[best];
    const we_matmul_row *kernel = kernel_named(least->candidate);
    while (first < best && (list->at[first].claim != least->claim ||
                            list->at[first].predicted_ms > least->predicted_ms * AS_GOOD ||
                            !are_alike(kernel_named(list->at[first].candidate), kernel)))
        first++;
    return first;
}

size_t we_alternatives_measured(const we_alternatives *list) {
    size_t best = we_alternatives_predicted(list);
    for (size_t i = 0; i < list->count; i++) {
        double ms = list->at[i].measured_ms, least = list->at[best].measured_ms;
        best = ms >= 0 && (least < 0 || ms < least) ? i : best;
    }
    return best;
}
