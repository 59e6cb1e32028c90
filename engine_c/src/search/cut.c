#include "search/cut.h"

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"

enum {
    MOST_VISITS = 1 << 24, /* of arcs: a tenth of a second */
};

/* An arc and what it can still carry; its opposite has the number that differs in the last bit. */
typedef struct arc {
    int32_t to, next; /* the next one from the same point, or -1 */
    double room;
} arc;

/* The points are the items, a source (all that goes the first way is on its side of the cut) and a sink. */
typedef struct flow {
    int32_t points, source, sink;
    arc *arcs;
    int32_t arc_count;
    int32_t *first, *at; /* arcs per point: the first, and the one to try next */
    int32_t *level;      /* steps from the source; -1: not reached */
    int32_t *stack;      /* points to visit, then arcs of the path */
    int64_t visits;
} flow;

static void add_arc(flow *f, int32_t from, int32_t to, double room) {
    f->arcs[f->arc_count] = (arc){to, f->first[from], room};
    f->first[from] = f->arc_count++;
    f->arcs[f->arc_count] = (arc){from, f->first[to], 0};
    f->first[to] = f->arc_count++;
}

/* Is the sink within reach? */
static bool find_levels(flow *f) {
    int32_t read = 0, written = 0;
    memset(f->level, -1, (size_t)f->points * sizeof *f->level);
    f->level[f->source] = 0;
    f->stack[written++] = f->source;
    while (read < written) {
        int32_t point = f->stack[read++];
        for (int32_t a = f->first[point]; a >= 0; a = f->arcs[a].next, f->visits++) {
            const arc *arc = &f->arcs[a];
            if (arc->room > 0 && f->level[arc->to] < 0) {
                f->level[arc->to] = f->level[point] + 1;
                f->stack[written++] = arc->to;
            }
        }
    }
    return f->level[f->sink] >= 0;
}

/* Fill the path; how much of it remains before the first arc that is full. */
static int32_t fill_path(flow *f, int32_t length) {
    double room = INFINITY;
    int32_t kept = length;
    for (int32_t i = 0; i < length; i++)
        room = fmin(room, f->arcs[f->stack[i]].room);
    for (int32_t i = length; i-- > 0;) {
        f->arcs[f->stack[i]].room -= room;
        f->arcs[f->stack[i] ^ 1].room += room;
        kept = f->arcs[f->stack[i]].room > 0 ? kept : i;
    }
    return kept;
}

/* All paths that rise by one level with each step. */
static void fill_levels(flow *f) {
    int32_t length = 0;
    memcpy(f->at, f->first, (size_t)f->points * sizeof *f->at);
    while (f->visits < MOST_VISITS) {
        int32_t point = length ? f->arcs[f->stack[length - 1]].to : f->source;
        if (point == f->sink) {
            length = fill_path(f, length);
            continue;
        }
        int32_t a = f->at[point];
        for (; a >= 0; a = f->arcs[a].next, f->visits++) {
            if (f->arcs[a].room > 0 && f->level[f->arcs[a].to] == f->level[point] + 1)
                break;
        }
        f->at[point] = a;
        if (a < 0 && length == 0)
            return;
        if (a < 0)
            f->level[point] = -1, length--; /* a dead end */
        else
            f->stack[length++] = a;
    }
}

static void build(flow *f, size_t count, const double (*costs)[2], const we_cut_edge *edges,
                  size_t edge_count) {
    memset(f->first, -1, (size_t)f->points * sizeof *f->first);
    for (size_t i = 0; i < count; i++) { /* what both ways cost is no matter */
        if (costs[i][0] > costs[i][1])
            add_arc(f, (int32_t)i, f->sink, costs[i][0] - costs[i][1]);
        else if (costs[i][1] > costs[i][0])
            add_arc(f, f->source, (int32_t)i, costs[i][1] - costs[i][0]);
    }
    for (size_t i = 0; i < edge_count; i++)
        add_arc(f, edges[i].from, edges[i].to, edges[i].cost);
}

we_status we_cut_solve(size_t count, const double (*costs)[2], const we_cut_edge *edges, size_t edge_count,
                       bool *second, bool *solved, we_error *err) {
    flow f = {.points = (int32_t)count + 2, .source = (int32_t)count, .sink = (int32_t)count + 1};
    size_t points = count + 2, arcs = 2 * (count + edge_count);
    f.arcs = we_memory_new_dirty((arcs + 1) * sizeof *f.arcs);
    f.first = we_memory_new_dirty(4 * points * sizeof *f.first);
    if (f.arcs && f.first) {
        f.at = f.first + points;
        f.level = f.at + points;
        f.stack = f.level + points;
        build(&f, count, costs, edges, edge_count);
        while (find_levels(&f) && f.visits < MOST_VISITS)
            fill_levels(&f);
        *solved = f.visits < MOST_VISITS;
        for (size_t i = 0; i < count; i++)
            second[i] = f.level[i] < 0;
    }
    bool failed = !f.arcs || !f.first;
    we_memory_free(f.first);
    we_memory_free(f.arcs);
    return failed ? we_error_no_memory(err) : WE_OK;
}
