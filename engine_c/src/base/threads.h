/* A small pool: the caller and `threads - 1` helpers share one loop at a time. */
#ifndef WE_BASE_THREADS_H
#define WE_BASE_THREADS_H

#include <walle/engine.h>

typedef struct we_pool we_pool;
/* Work on items [begin, end); called from several threads at once with disjoint ranges. */
typedef void (*we_pool_work)(void *context, int64_t begin, int64_t end);

we_status we_pool_new(int32_t threads, we_pool **out, we_error *err); /* *out is NULL for one thread */
void we_pool_free(we_pool *pool);
int32_t we_pool_threads(const we_pool *pool);

/* Inside work shared by a pool: the number of the running thread, below we_pool_threads; no two run under one
 * number at once. */
int32_t we_pool_worker(void);

/* Split [0, count) into pieces of at least `grain` items and return when all are done. Runs in the caller
 * alone when the pool is NULL, there is one piece, or another caller holds the pool, so it never waits for a
 * stranger. */
void we_parallel_for(we_pool *pool, int64_t count, int64_t grain, we_pool_work work, void *context);

#endif
