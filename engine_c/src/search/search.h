/* Choosing how a command runs: min over its candidates of Q / P + S, with Q elementary steps, P the rate of
 * the instruction set, S the cost of starting. `space` lists candidates, `cost` prices them, this picks. */
#ifndef WE_SEARCH_SEARCH_H
#define WE_SEARCH_SEARCH_H

#include "backend/backend.h"

typedef struct we_machine {
    uint32_t isas;
    int32_t threads;
} we_machine;

enum {
    WE_MAX_CANDIDATES = 16,
};

typedef struct we_candidate {
    const char *name;
    const we_matmul_row *kernel; /* of a product: NULL for the plain loop */
} we_candidate;

/* Candidates of a command on this machine; always at least one. `plain_only` leaves the reference alone. */
size_t we_space_candidates(const we_machine *machine, const we_program *program, const we_command *command,
                           bool plain_only, we_candidate *out);
/* Predicted milliseconds. */
double we_cost_candidate(const we_machine *machine, const we_program *program, const we_command *command,
                         const we_candidate *candidate);

/* Set candidate, predicted_ms and what the choice decides. */
void we_search_choose(const we_machine *machine, const we_program *program, bool plain_only,
                      we_command *command);

#endif
