/* Which nodes run on the device, chosen for the graph as a whole. Each node has its price in either place; a
 * value written in one and read in the other costs a copy, once for all who read it there. The least sum is a
 * minimum cut (search/cut.h). */
#ifndef WE_RUN_PLACING_H
#define WE_RUN_PLACING_H

#include "backend/opencl/device.h"
#include "graph/graph.h"
#include "raster/program.h"

/* What a node costs in either place, in ms; `device` may be INFINITY. */
typedef struct we_placing_price {
    double cpu, device;
} we_placing_price;

/* What the choice was between. */
typedef struct we_placing_report {
    const we_placing_price *prices; /* per node; NULL: there was no choice */
    const bool *away;               /* per node: it runs on the device */
    we_opencl_parameters parameters;
} we_placing_report;

/* away[node]: shall it run on the device? False everywhere where the cut takes too long to find. `program` is
 * one of the graph, tensor_of has its tensor for each value. */
we_status we_placing_assign(const we_graph *graph, const we_program *program, const int32_t *tensor_of,
                            const we_opencl_parameters *parameters, const we_placing_price *prices,
                            bool *away, we_error *err);

#endif
