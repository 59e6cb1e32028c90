/* From a graph and the shapes of its inputs to something that runs. */
#ifndef WE_RUN_PREPARE_H
#define WE_RUN_PREPARE_H

#include "backend/opencl/device.h"
#include "plan/plan.h"
#include "run/offload.h"
#include "run/placing.h"
#include "run/profile.h"
#include "run/quantised.h"
#include "run/workspace.h"
#include "search/search.h"

/* Where commands run. */
typedef enum we_placing {
    WE_PLACE_CPU,
    WE_PLACE_DEVICE, /* all that the device can run */
    WE_PLACE_AUTO,   /* where the whole costs least */
    WE_PLACE_COUNT,
} we_placing;

typedef struct we_settings {
    const we_backend *backend;
    we_opencl_device *device; /* that commands may run on besides; NULL: there is none */
    we_placing placing;
    we_opencl_parameters device_parameters;
    const we_kernels *kernels;
    we_machine machine;
    we_parameters parameters; /* of the machine, as the session found them */
    uint32_t flags;           /* of we_session_flag */
    we_search search;
    const we_alternative
        *choices;      /* how each node is to run; WE_CLAIM_ANY: as the model says. NULL: all so */
    const bool *inner; /* of a trial: inputs of the graph that are other steps' results in truth; or NULL */
    double search_s;   /* to measure for, at most */
    we_clock clock_s;  /* to measure with; never NULL */
    void *clock_context;
    int64_t memory_limit; /* bytes of one run */
    int64_t max_trips;    /* of all loops of one run */
    we_profile *profile;  /* of the session; never NULL */
    we_packs *packs;      /* of the model */
    we_pool *pool;        /* of the session, for packing and measuring */
} we_settings;

/* A node whose alternatives were timed. */
typedef struct we_trial {
    int32_t node;
    we_alternatives *alternatives;
    size_t predicted, chosen; /* by the model, and in the end */
    bool remembered;          /* timed for an equal node before */
} we_trial;

/* A tensor that lies elsewhere in each run: in an input, or in an output that the program writes itself. */
typedef struct we_moving {
    int32_t tensor, root;
    int64_t offset; /* bytes from the root's start */
} we_moving;

typedef struct we_prepared {
    we_program program;
    we_plan plan;
    const we_graph *graph;     /* it was made of: the given one, or that of `quantised` */
    we_quantised *quantised;   /* NULL: the graph has no layer on bytes */
    int32_t *inputs, *outputs; /* tensors, in the graph's order */
    int32_t *tensor_of;        /* per value of the graph */
    const bool *between;       /* per node: it is differentiated, and its ways are not timed; NULL: none is */
    bool *direct;              /* per output: the program writes the caller's block itself */
    we_moving *moving;         /* roots come first */
    size_t moving_count;
    we_offload *offload; /* NULL: all runs on the CPU */
    we_placing_report placing;
    size_t scratch_bytes; /* the most that a command needs */
    we_merge_report merging;
    int64_t run_bytes; /* that a run takes: arena and outputs */
    const we_trial *trials;
    size_t trial_count;
    we_arena trial_arena;
} we_prepared;

/* `shapes` has one view per graph input, checked by the caller; data pointers are not read. Where a node has
 * no place in the program (UNSUPPORTED), *reached is the number of nodes before it (NULL allowed).
 * OUT_OF_MEMORY past the memory limit. */
we_status we_prepare(const we_graph *graph, const we_settings *settings, const we_view *shapes,
                     we_prepared **out, size_t *reached, we_error *err);
void we_prepared_free(we_prepared *prepared);

/* The ways to run a graph's last node, with what the model says of each; for graphs of one node. */
we_status we_prepare_alternatives(const we_graph *graph, const we_settings *settings, const we_view *shapes,
                                  we_alternatives *out, we_error *err);

we_status we_prepared_workspace(const we_prepared *prepared, we_workspace **out, we_error *err);

/* Execute. The workspace is one of this program and nobody else's meanwhile. Outputs are dense blocks of the
 * planned shapes: made where they are NULL, else an earlier run's, written again. */
we_status we_prepared_run(const we_prepared *prepared, const we_settings *settings, we_pool *pool,
                          const we_workspace *space, const we_view *inputs, we_block **outputs,
                          we_error *err);

#endif
