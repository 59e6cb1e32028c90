/* What the two ways to run a simple loop share. */
#ifndef WE_BACKEND_CPU_LOOP_H
#define WE_BACKEND_CPU_LOOP_H

#include "backend/cpu/cpu.h"

/* Run a loop that we_loop_has_pieces, at least `grain` iterations per thread; false where an index is outside
 * its axis: then part of the result is not written. */
bool we_cpu_loop_pieces(const we_run *run, const we_loop *loop, int64_t grain);

#endif
