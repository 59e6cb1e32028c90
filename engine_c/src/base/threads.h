/* One crew of helper threads for the whole process, and per session a quota of it.
 *
 * A loop is cut into pieces, and each thread that takes part has a share of them: it takes its own from the
 * front, so that the same part of the data stays with the same core from loop to loop, and then steals from
 * the back of the others'. The caller never waits for a helper to come: what nobody takes it does itself.
 *
 * The crew never uses more threads than the process has cores: with as many runs as cores going on, each run
 * stays in its own thread. */
#ifndef WE_BASE_THREADS_H
#define WE_BASE_THREADS_H

#include <walle/engine.h>

enum {
    WE_POOL_THREADS = 64, /* the largest quota */
};

typedef struct we_pool we_pool;
/* Work on items [begin, end); called from several threads at once with disjoint ranges. */
typedef void (*we_pool_work)(void *context, int64_t begin, int64_t end);

/* A quota of at most `threads`, and of the cores there are. *out is NULL for one thread. */
we_status we_pool_new(int32_t threads, we_pool **out, we_error *err);
void we_pool_free(we_pool *pool);
int32_t we_pool_threads(const we_pool *pool);

/* Inside shared work: the number of the running thread, below we_pool_threads; no two threads work at one
 * loop under one number. */
int32_t we_pool_worker(void);

/* Split [0, count) into pieces of at least `grain` items and return when all are done. Runs in the caller
 * alone where the pool is NULL, there is one piece, no core is free, or the caller is inside shared work. */
void we_parallel_for(we_pool *pool, int64_t count, int64_t grain, we_pool_work work, void *context);

/* Round every run, whatever its quota: helpers keep off the cores of those who are running. */
void we_pool_run_begins(void);
void we_pool_run_ends(void);

/* For tests, while nothing runs: have as many helpers as with that many cores. */
void we_pool_assume_cores(int32_t cores);

#endif
