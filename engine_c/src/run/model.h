/* A model: an immutable graph and the file it borrows its weights from. */
#ifndef WE_RUN_MODEL_H
#define WE_RUN_MODEL_H

#include <stdatomic.h>

#include "base/packs.h"
#include "graph/graph.h"
#include "load/load.h"

struct we_model {
    _Atomic int64_t references;
    we_graph graph;
    we_mapping mapping;
    we_packs packs;
};

#endif
