#include "search/search.h"

void we_search_choose(const we_machine *machine, const we_program *program, bool plain_only,
                      we_command *command) {
    we_candidate candidates[WE_MAX_CANDIDATES];
    size_t count = we_space_candidates(machine, program, command, plain_only, candidates), best = 0;
    double least = 0;
    for (size_t i = 0; command->kind == WE_COMMAND_LOOP && i < command->u.loop.body_count; i++)
        we_search_choose(machine, program, plain_only, &command->u.loop.body[i]);
    for (size_t i = 0; i < count; i++) {
        double ms = we_cost_candidate(machine, program, command, &candidates[i]);
        if (i == 0 || ms < least) {
            least = ms;
            best = i;
        }
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
