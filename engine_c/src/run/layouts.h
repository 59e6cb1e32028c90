/* Which nodes run channels last, chosen for the graph as a whole. Each node with ways in both layouts has its
 * price in each; a tensor written in one and read in the other costs turning it, once for all who read it so.
 * The least sum is a minimum cut (search/cut.h). */
#ifndef WE_RUN_LAYOUTS_H
#define WE_RUN_LAYOUTS_H

#include "graph/graph.h"
#include "search/search.h"

/* What a node does to layouts; it follows from its commands. */
typedef enum we_layout_role {
    WE_LAYOUT_FIRST,   /* reads and writes channels first */
    WE_LAYOUT_CHOICE,  /* has ways of both kinds */
    WE_LAYOUT_FOLLOWS, /* element-wise: channels last if all its large inputs are */
    WE_LAYOUT_MOVES,   /* rasters, which a permutation merges with */
    WE_LAYOUT_REDUCES, /* reads either, writes channels first */
} we_layout_role;

/* How a node may run. */
typedef struct we_layout_ways {
    we_layout_role role;
    double ms[2];     /* of a choice: predicted, channels first and last; INFINITY: not so */
    int32_t second;   /* of a choice: an input, besides the first, that lies as the result does; 0: none */
    bool reads_plain; /* of a choice: its way channels last reads the first input channels first */
    bool last;        /* of a choice: what was taken, looking at the node alone */
} we_layout_ways;

/* Of a node that runs by those commands of the program and not by a claim. */
we_layout_role we_layout_role_of(const we_program *program, size_t begin, size_t end);

/* last[node]: shall it run channels last? *better: that costs less than what was taken. */
we_status we_layouts_assign(const we_graph *graph, const we_machine *machine, const we_program *program,
                            const int32_t *tensor_of, const we_layout_ways *ways, bool *last, bool *better,
                            we_error *err);

#endif
