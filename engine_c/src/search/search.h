/* Choosing how a command runs: min over its candidates of Q / P + S, with Q elementary steps, P the rate of
 * the instruction set, S the cost of starting. `space` lists candidates, `cost` prices them, this picks. */
#ifndef WE_SEARCH_SEARCH_H
#define WE_SEARCH_SEARCH_H

#include "backend/backend.h"

/* How exact float32 products are, in PyTorch's words; elsewhere float32 is float32. */
typedef enum we_precision {
    WE_PRECISION_HIGHEST, /* sums of float32 products; three parts, which are as exact */
    WE_PRECISION_HIGH,    /* relative Frobenius error of a product up to 1e-5: Winograd, two parts */
    WE_PRECISION_MEDIUM,  /* bfloat16 inputs, float32 sums */
    WE_PRECISION_COUNT,
} we_precision;

/* The name as users write it, and back; WE_PRECISION_COUNT where it is none. */
const char *we_precision_name(we_precision precision);
we_precision we_precision_find(const char *name);

/* What a session may use. */
typedef struct we_machine {
    uint32_t isas;
    int32_t threads;
    we_precision precision;
} we_machine;

enum {
    WE_MAX_CANDIDATES = 32,
};

typedef struct we_candidate {
    const char *name;
    const we_matmul_row *kernel; /* of a product: NULL for the plain loop */
    bool pieces;                 /* of a loop */
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
