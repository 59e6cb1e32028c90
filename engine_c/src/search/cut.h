/* Two ways for each of many items, where some pairs cost more if they differ: the cheapest assignment is a
 * minimum cut. Exact, by Dinic's way of finding maximum flows.
 * Source: Kolmogorov, Zabih, "What Energy Functions Can Be Minimized via Graph Cuts?" (2004). */
#ifndef WE_SEARCH_CUT_H
#define WE_SEARCH_CUT_H

#include <stdbool.h>

#include <walle/engine.h>

/* Costs `cost` if `from` goes the first way and `to` the second. INFINITY: they must not. */
typedef struct we_cut_edge {
    int32_t from, to;
    double cost;
} we_cut_edge;

/* costs[i]: of item i, the first way and the second; one of the two may be INFINITY. Ways that cost the same
 * go to the second. Writes second[i]. *solved is false where that took too long. */
we_status we_cut_solve(size_t count, const double (*costs)[2], const we_cut_edge *edges, size_t edge_count,
                       bool *second, bool *solved, we_error *err);

#endif
