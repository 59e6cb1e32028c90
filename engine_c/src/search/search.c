#include "search/search.h"

#include <string.h>

void we_search_choose(const we_machine *machine, const we_program *program, bool plain_only,
                      we_command *command) {
    we_candidate candidates[WE_MAX_CANDIDATES];
    size_t count = we_space_candidates(machine, program, command, plain_only, candidates), best = 0;
    double least = 0;
    bool wanted = false;
    for (size_t i = 0; command->kind == WE_COMMAND_LOOP && i < command->u.loop.body_count; i++)
        we_search_choose(machine, program, plain_only, &command->u.loop.body[i]);
    for (size_t i = 0; i < count; i++) {
        double ms = we_cost_candidate(machine, program, command, &candidates[i]);
        bool this_one = machine->wanted && strcmp(machine->wanted, candidates[i].name) == 0;
        if (i == 0 || this_one || (ms < least && !wanted)) {
            least = ms;
            best = i;
        }
        wanted = wanted || this_one;
    }
    command->candidate = candidates[best].name;
    command->predicted_ms = least;
    if (command->kind == WE_COMMAND_MATMUL)
        command->u.matmul.kernel = candidates[best].kernel;
    if (command->kind == WE_COMMAND_LOOP)
        command->u.loop.pieces = candidates[best].pieces;
    if (command->kind == WE_COMMAND_CLAIM)
        command->u.claim.kernel = candidates[best].kernel;
}

size_t we_alternatives_predicted(const we_alternatives *list) {
    size_t best = 0;
    for (size_t i = 1; i < list->count; i++)
        best = list->at[i].predicted_ms < list->at[best].predicted_ms ? i : best;
    return best;
}

size_t we_alternatives_measured(const we_alternatives *list) {
    size_t best = we_alternatives_predicted(list);
    for (size_t i = 0; i < list->count; i++) {
        double ms = list->at[i].measured_ms, least = list->at[best].measured_ms;
        best = ms >= 0 && (least < 0 || ms < least) ? i : best;
    }
    return best;
}
