/* Invariants:
 *  - `running` (the pool's lock) is held by the one caller whose loop is shared out.
 *  - A helper touches the loop only between `generation` changing and its decrement of `busy`;
 *    the caller leaves only when `busy` is zero, so the loop may live on the caller's stack.
 *  - Helpers sleep on a condition variable between loops: an idle pool costs nothing. */
#include "base/threads.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "base/error.h"
#include "base/memory.h"

/* A helper's number, from 1; 0 in every other thread. */
static _Thread_local int32_t worker;

typedef struct loop {
    we_pool_work work;
    void *context;
    int64_t count, piece;
    _Atomic int64_t next;
} loop;

struct we_pool {
    pthread_mutex_t running, lock;
    pthread_cond_t start, done;
    loop *current;
    uint64_t generation;
    int32_t busy, helpers;
    bool closing;
    _Atomic int32_t numbered; /* helpers that took their number */
    pthread_t threads[];
};

static void take_pieces(loop *l) {
    for (;;) {
        int64_t begin = atomic_fetch_add_explicit(&l->next, l->piece, memory_order_relaxed);
        if (begin >= l->count)
            return;
        int64_t end = begin + l->piece < l->count ? begin + l->piece : l->count;
        l->work(l->context, begin, end);
    }
}

static void *help(void *argument) {
    we_pool *pool = argument;
    uint64_t seen = 0;
    worker = 1 + atomic_fetch_add(&pool->numbered, 1);
    pthread_mutex_lock(&pool->lock);
    for (;;) {
        while (!pool->closing && pool->generation == seen)
            pthread_cond_wait(&pool->start, &pool->lock);
        if (pool->closing)
            break;
        seen = pool->generation;
        loop *l = pool->current;
        pthread_mutex_unlock(&pool->lock);
        take_pieces(l);
        pthread_mutex_lock(&pool->lock);
        if (--pool->busy == 0)
            pthread_cond_signal(&pool->done);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

we_status we_pool_new(int32_t threads, we_pool **out, we_error *err) {
    *out = NULL;
    if (threads <= 1)
        return WE_OK;
    we_pool *pool = we_memory_new(sizeof *pool + sizeof(pthread_t) * (size_t)(threads - 1));
    if (!pool)
        return we_error_no_memory(err);
    pthread_mutex_init(&pool->running, NULL);
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->start, NULL);
    pthread_cond_init(&pool->done, NULL);
    while (pool->helpers < threads - 1) {
        if (pthread_create(&pool->threads[pool->helpers], NULL, help, pool) != 0) {
            we_pool_free(pool);
            return we_error_set(err, WE_OUT_OF_MEMORY, "cannot start %d threads: use fewer", (int)threads);
        }
        pool->helpers++;
    }
    *out = pool;
    return WE_OK;
}

void we_pool_free(we_pool *pool) {
    if (!pool)
        return;
    pthread_mutex_lock(&pool->lock);
    pool->closing = true;
    pthread_cond_broadcast(&pool->start);
    pthread_mutex_unlock(&pool->lock);
    for (int32_t i = 0; i < pool->helpers; i++)
        pthread_join(pool->threads[i], NULL);
    pthread_cond_destroy(&pool->done);
    pthread_cond_destroy(&pool->start);
    pthread_mutex_destroy(&pool->lock);
    pthread_mutex_destroy(&pool->running);
    we_memory_free(pool);
}

int32_t we_pool_threads(const we_pool *pool) {
    return pool ? pool->helpers + 1 : 1;
}

int32_t we_pool_worker(void) {
    return worker;
}

void we_parallel_for(we_pool *pool, int64_t count, int64_t grain, we_pool_work work, void *context) {
    if (count <= 0)
        return;
    if (grain < 1)
        grain = 1;
    if (!pool || count < 2 * grain || pthread_mutex_trylock(&pool->running) != 0) {
        work(context, 0, count);
        return;
    }
    int64_t pieces = 4 * (int64_t)we_pool_threads(pool); /* four each, so that a slow core sheds load */
    int64_t piece = (count + pieces - 1) / pieces;
    loop l = {.work = work, .context = context, .count = count, .piece = piece > grain ? piece : grain};
    atomic_init(&l.next, 0);
    pthread_mutex_lock(&pool->lock);
    pool->current = &l;
    pool->busy = pool->helpers;
    pool->generation++;
    pthread_cond_broadcast(&pool->start);
    pthread_mutex_unlock(&pool->lock);
    take_pieces(&l);
    pthread_mutex_lock(&pool->lock);
    while (pool->busy)
        pthread_cond_wait(&pool->done, &pool->lock);
    pthread_mutex_unlock(&pool->lock);
    pthread_mutex_unlock(&pool->running);
}
