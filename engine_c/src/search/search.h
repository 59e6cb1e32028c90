/* Choosing how a command runs: min over its candidates of Q / P + S, with Q elementary steps, P the rate of
 * the instruction set, S the cost of starting. `space` lists candidates, `cost` prices them, this picks. */
#ifndef WE_SEARCH_SEARCH_H
#define WE_SEARCH_SEARCH_H

#include "backend/backend.h"
#include "search/parameters.h"

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

/* How candidates are chosen. */
typedef enum we_search {
    WE_SEARCH_MODEL,      /* by their predicted time */
    WE_SEARCH_MEASURE,    /* those of hot nodes that look good are timed */
    WE_SEARCH_EXHAUSTIVE, /* all of them are timed, for all nodes */
    WE_SEARCH_REFERENCE,  /* the plain kernels alone */
    WE_SEARCH_COUNT,
} we_search;

/* The name as users write it, and back; WE_SEARCH_COUNT where it is none. */
const char *we_search_name(we_search search);
we_search we_search_find(const char *name);

/* What a session may use. */
typedef struct we_machine {
    uint32_t isas;
    int32_t threads;
    we_precision precision;
    const we_parameters *parameters; /* what is believed of it; never NULL */
    double weights;                  /* bytes of all weights of the model */
    const char *wanted; /* the candidate to take wherever there is one of that name; NULL: the cheapest */
} we_machine;

enum {
    WE_CLAIM_ANY = -2,        /* whatever the model says */
    WE_MAX_ALTERNATIVES = 64, /* of a node */
};

/* One way to run a node. */
typedef struct we_alternative {
    int32_t claim;                    /* row of claims.inc; -1: the decomposition */
    const char *candidate;            /* wherever there is one of that name; NULL: there is no choice */
    double predicted_ms, measured_ms; /* measured: below 0 where it is not */
} we_alternative;

typedef struct we_alternatives {
    we_alternative at[WE_MAX_ALTERNATIVES];
    size_t count;
} we_alternatives;

/* The least predicted, or the least measured of those that were; 0 where there is none. */
size_t we_alternatives_predicted(const we_alternatives *list);
size_t we_alternatives_measured(const we_alternatives *list);

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
