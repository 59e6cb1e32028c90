/* Invariants:
 *  - Loops lie in a table that lives as long as the process, so a helper may look at one that is over.
 *  - A helper touches a loop's work only between taking a seat and counting itself as gone; the caller takes
 *    back the seats that are left and leaves when all who took one are gone. A seat is taken by one
 *    compare-and-swap, which also makes what the caller wrote before it opened the loop visible.
 *  - Seats are numbered, and each is taken at most once per loop: a seat is the worker's number.
 *  - Helper i works only while fewer than cores - i threads run: the crew and the runs fit the cores.
 *  - A helper without work spins for SPIN_S and then sleeps. Going to sleep and opening a loop are ordered
 *    (both sides write, then read the other's, sequentially consistent), so no loop is missed. */
#include "base/threads.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "base/clock.h"
#include "base/cores.h"
#include "base/error.h"
#include "base/memory.h"

enum {
    LOOPS = 64,      /* open at once; one more runs in its caller alone */
    PIECES_EACH = 4, /* at most, so that a slow core sheds load */
    WAKE_GRAINS = 4, /* of small items: worth the call that wakes a helper; a spinning one comes for less */
    SPIN_ROUND = 32, /* pauses between two looks at the clock */
};
static const double SPIN_S = 50e-6;

/* Pieces [low half, high half) that nobody has taken. */
typedef struct share {
    _Alignas(WE_ALIGNMENT) _Atomic uint64_t pieces;
} share;

typedef struct loop {
    _Alignas(WE_ALIGNMENT) _Atomic int32_t seats; /* free ones: the next to come takes the number of them */
    _Atomic int32_t gone;                         /* helpers that are done */
    _Atomic int32_t threads;                      /* shares */
    _Atomic bool owned;
    we_pool_work work;
    void *context;
    int64_t count, pieces;
    share shares[WE_POOL_THREADS];
} loop;

typedef struct helper {
    _Alignas(WE_ALIGNMENT) _Atomic bool asleep;
    int32_t index;
    pthread_mutex_t lock;
    pthread_cond_t wake;
} helper;

struct we_pool {
    int32_t threads;
};

static struct {
    pthread_mutex_t lock; /* guards `started` going up, `wanted` and `cores` */
    pthread_mutex_t end_lock;
    pthread_cond_t end;                             /* some loop's last helper has gone */
    _Atomic int32_t waiting;                        /* callers asleep until then */
    _Atomic int32_t cores;                          /* 0: not asked yet */
    _Atomic int32_t started;                        /* helpers */
    int32_t wanted;                                 /* by all quotas together */
    _Alignas(WE_ALIGNMENT) _Atomic int32_t running; /* threads inside a run */
    _Alignas(WE_ALIGNMENT) _Atomic int32_t opened;  /* loops of the table used so far */
    helper helpers[WE_POOL_THREADS];
    loop loops[LOOPS];
} crew = {.lock = PTHREAD_MUTEX_INITIALIZER,
          .end_lock = PTHREAD_MUTEX_INITIALIZER,
          .end = PTHREAD_COND_INITIALIZER};

static _Thread_local int32_t worker; /* in shared work: the number; else 0 */
static _Thread_local bool sharing;   /* in shared work */

static void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

static int32_t least(int32_t a, int32_t b) {
    return a < b ? a : b;
}

/* Cores that no run has; the thread that asks need not have said that it runs. */
static int32_t free_cores(void) {
    int32_t running = atomic_load_explicit(&crew.running, memory_order_relaxed);
    return atomic_load_explicit(&crew.cores, memory_order_relaxed) - (running > 0 ? running : 1);
}

/* ---- Pieces ---- */

static uint64_t range(int64_t begin, int64_t end) {
    return (uint64_t)end << 32 | (uint64_t)begin;
}

/* Take one piece of a share: the owner's from its front, a thief's from its back. */
static bool take(share *s, bool front, int64_t *piece) {
    uint64_t seen = atomic_load_explicit(&s->pieces, memory_order_relaxed);
    for (;;) {
        int64_t begin = (uint32_t)seen, end = (int64_t)(seen >> 32);
        if (begin >= end)
            return false;
        uint64_t rest = front ? range(begin + 1, end) : range(begin, end - 1);
        if (atomic_compare_exchange_weak_explicit(&s->pieces, &seen, rest, memory_order_relaxed,
                                                  memory_order_relaxed)) {
            *piece = front ? begin : end - 1;
            return true;
        }
    }
}

static bool next_piece(loop *l, int32_t home, int32_t threads, int64_t *piece) {
    if (take(&l->shares[home], true, piece))
        return true;
    for (int32_t i = 1; i < threads; i++) {
        if (take(&l->shares[(home + i) % threads], false, piece))
            return true;
    }
    return false;
}

/* Helpers leave early where runs need their core: `h` is NULL for the caller. */
static void take_pieces(loop *l, int32_t home, const helper *h) {
    int32_t threads = atomic_load_explicit(&l->threads, memory_order_relaxed);
    int64_t piece;
    while ((!h || h->index < free_cores()) && next_piece(l, home % threads, threads, &piece)) {
        l->work(l->context, l->count * piece / l->pieces, l->count * (piece + 1) / l->pieces);
    }
}

/* ---- Helpers ---- */

/* Wake the first helper that sleeps; it wakes the next. */
static void wake_one(int32_t most) {
    int32_t helpers = least(most, atomic_load_explicit(&crew.started, memory_order_acquire));
    for (int32_t i = 0; i < helpers; i++) {
        helper *h = &crew.helpers[i];
        if (!atomic_load(&h->asleep) || !atomic_exchange(&h->asleep, false))
            continue;
        pthread_mutex_lock(&h->lock); /* it is waiting then, not about to */
        pthread_mutex_unlock(&h->lock);
        pthread_cond_signal(&h->wake);
        return;
    }
}

/* The open loop with the fewest helpers, or NULL. */
static loop *find_loop(const helper *h) {
    loop *best = NULL;
    int32_t fewest = INT32_MAX;
    int32_t opened = atomic_load_explicit(&crew.opened, memory_order_acquire);
    if (h->index >= free_cores())
        return NULL;
    for (int32_t i = 0; i < opened; i++) {
        loop *l = &crew.loops[(h->index + i) % opened];
        int32_t seats = atomic_load(&l->seats);
        int32_t inside = atomic_load_explicit(&l->threads, memory_order_relaxed) - 1 - seats;
        if (seats > 0 && inside < fewest) {
            best = l;
            fewest = inside;
        }
    }
    return best;
}

static void join(loop *l, const helper *h) {
    int32_t seats = atomic_load_explicit(&l->seats, memory_order_relaxed);
    do {
        if (seats <= 0)
            return;
    } while (!atomic_compare_exchange_weak(&l->seats, &seats, seats - 1));
    if (seats > 1)
        wake_one(free_cores());
    worker = seats;
    take_pieces(l, h->index + 1, h);
    atomic_fetch_add(&l->gone, 1);
    if (atomic_load(&crew.waiting) == 0)
        return;
    pthread_mutex_lock(&crew.end_lock);
    pthread_mutex_unlock(&crew.end_lock);
    pthread_cond_broadcast(&crew.end);
}

static loop *spin(const helper *h) {
    double until_s = we_clock_now_s() + SPIN_S;
    do {
        for (int32_t i = 0; i < SPIN_ROUND; i++) {
            loop *found = find_loop(h);
            if (found)
                return found;
            relax();
        }
        sched_yield(); /* it may have been woken on its caller's core */
    } while (h->index < free_cores() && we_clock_now_s() < until_s);
    return NULL;
}

static loop *sleep_until_called(helper *h) {
    loop *found;
    pthread_mutex_lock(&h->lock);
    for (;;) {
        atomic_store(&h->asleep, true);
        found = find_loop(h);
        if (found)
            break;
        pthread_cond_wait(&h->wake, &h->lock);
    }
    atomic_store(&h->asleep, false);
    pthread_mutex_unlock(&h->lock);
    return found;
}

static void *help(void *argument) {
    helper *h = argument;
    sharing = true;
    for (;;) {
        loop *l = spin(h);
        join(l ? l : sleep_until_called(h), h);
    }
    return NULL;
}

/* ---- The crew ---- */

/* A child of fork has the caller's thread alone. */
static void forget_threads(void) {
    pthread_mutex_init(&crew.lock, NULL);
    pthread_mutex_init(&crew.end_lock, NULL);
    pthread_cond_init(&crew.end, NULL);
    atomic_store(&crew.waiting, 0);
    atomic_store(&crew.started, 0);
    atomic_store(&crew.running, 0);
    for (int32_t i = 0; i < LOOPS; i++) {
        atomic_store(&crew.loops[i].seats, 0);
        atomic_store(&crew.loops[i].owned, false);
    }
}

static bool start_helper(int32_t index) {
    helper *h = &crew.helpers[index];
    pthread_attr_t attributes;
    pthread_t thread;
    sigset_t all, before;
    *h = (helper){.index = index};
    pthread_mutex_init(&h->lock, NULL);
    pthread_cond_init(&h->wake, NULL);
    if (pthread_attr_init(&attributes) != 0)
        return false;
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    sigfillset(&all); /* signals are for the program's own threads */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    bool started = pthread_create(&thread, &attributes, help, h) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return started;
}

/* Have as many helpers as the quotas want and the cores can run. The caller holds the lock. */
static bool start_helpers(void) {
    int32_t cores = atomic_load(&crew.cores), started = atomic_load(&crew.started);
    int32_t most = least(least(crew.wanted, cores - 1), WE_POOL_THREADS);
    for (; started < most; atomic_store(&crew.started, ++started)) {
        if (!start_helper(started))
            return false;
    }
    return true;
}

static void ask_cores(void) {
    if (atomic_load(&crew.cores) != 0)
        return;
    atomic_store(&crew.cores, we_cores());
    pthread_atfork(NULL, NULL, forget_threads);
}

we_status we_pool_new(int32_t threads, we_pool **out, we_error *err) {
    *out = NULL;
    pthread_mutex_lock(&crew.lock);
    ask_cores();
    threads = least(least(threads, atomic_load(&crew.cores)), WE_POOL_THREADS);
    pthread_mutex_unlock(&crew.lock);
    if (threads <= 1)
        return WE_OK;
    we_pool *pool = we_memory_new(sizeof *pool);
    if (!pool)
        return we_error_no_memory(err);
    pool->threads = threads;
    pthread_mutex_lock(&crew.lock);
    crew.wanted += threads - 1;
    bool started = start_helpers();
    pthread_mutex_unlock(&crew.lock);
    if (!started) {
        we_pool_free(pool);
        return we_error_set(err, WE_OUT_OF_MEMORY, "cannot start %d threads: use fewer", (int)threads);
    }
    *out = pool;
    return WE_OK;
}

void we_pool_free(we_pool *pool) {
    if (!pool)
        return;
    pthread_mutex_lock(&crew.lock);
    crew.wanted -= pool->threads - 1;
    pthread_mutex_unlock(&crew.lock);
    we_memory_free(pool);
}

void we_pool_assume_cores(int32_t cores) {
    pthread_mutex_lock(&crew.lock);
    ask_cores();
    atomic_store(&crew.cores, cores);
    start_helpers();
    pthread_mutex_unlock(&crew.lock);
}

int32_t we_pool_threads(const we_pool *pool) {
    return pool ? pool->threads : 1;
}

int32_t we_pool_worker(void) {
    return worker;
}

void we_pool_run_begins(void) {
    atomic_fetch_add_explicit(&crew.running, 1, memory_order_relaxed);
}

void we_pool_run_ends(void) {
    atomic_fetch_sub_explicit(&crew.running, 1, memory_order_relaxed);
}

/* ---- Callers ---- */

/* A loop of the table for this caller alone, the same as last time if it can be; NULL if all are in use. */
static loop *own_loop(void) {
    static _Thread_local int32_t last;
    for (int32_t n = 0; n < LOOPS; n++) {
        int32_t i = n == 0 ? last : n - 1;
        loop *l = &crew.loops[i];
        if (atomic_load_explicit(&l->owned, memory_order_relaxed) ||
            atomic_exchange_explicit(&l->owned, true, memory_order_acquire))
            continue;
        int32_t opened = atomic_load_explicit(&crew.opened, memory_order_relaxed);
        while (opened <= i && !atomic_compare_exchange_weak(&crew.opened, &opened, i + 1)) {
        }
        last = i;
        return l;
    }
    return NULL;
}

static void wait_for_helpers(loop *l, int32_t joined) {
    double until_s = 0;
    for (int32_t i = 1; atomic_load_explicit(&l->gone, memory_order_acquire) != joined; i++) {
        relax();
        if (i % SPIN_ROUND != 0)
            continue;
        sched_yield();
        double now_s = we_clock_now_s();
        until_s = until_s == 0 ? now_s + SPIN_S : until_s;
        if (now_s < until_s)
            continue;
        pthread_mutex_lock(&crew.end_lock);
        atomic_fetch_add(&crew.waiting, 1);
        while (atomic_load(&l->gone) != joined)
            pthread_cond_wait(&crew.end, &crew.end_lock);
        atomic_fetch_sub(&crew.waiting, 1);
        pthread_mutex_unlock(&crew.end_lock);
        return;
    }
}

static void share_out(loop *l, int32_t threads, bool wake) {
    for (int64_t i = 0; i < threads; i++)
        atomic_store_explicit(&l->shares[i].pieces,
                              range(l->pieces * i / threads, l->pieces * (i + 1) / threads),
                              memory_order_relaxed);
    atomic_store_explicit(&l->threads, threads, memory_order_relaxed);
    atomic_store_explicit(&l->gone, 0, memory_order_relaxed);
    atomic_store(&l->seats, threads - 1); /* open */
    if (wake)
        wake_one(threads - 1);
    sharing = true;
    take_pieces(l, 0, NULL);
    sharing = false;
    int32_t left = atomic_exchange(&l->seats, 0);
    wait_for_helpers(l, threads - 1 - left);
}

void we_parallel_for(we_pool *pool, int64_t count, int64_t grain, we_pool_work work, void *context) {
    if (count <= 0)
        return;
    grain = grain < 1 ? 1 : grain;
    loop *l = NULL;
    int32_t threads = 1;
    if (pool && count / 2 >= grain && !sharing) {
        if (atomic_load_explicit(&crew.started, memory_order_relaxed) == 0) { /* after a fork */
            pthread_mutex_lock(&crew.lock);
            start_helpers(); /* without them the caller does it all */
            pthread_mutex_unlock(&crew.lock);
        }
        threads = least(pool->threads, 1 + free_cores());
        threads = count / grain < threads ? (int32_t)(count / grain) : threads;
        l = threads > 1 ? own_loop() : NULL;
    }
    if (!l) {
        work(context, 0, count);
        return;
    }
    int64_t pieces = count / grain, most = PIECES_EACH * (int64_t)threads;
    l->work = work;
    l->context = context;
    l->count = count;
    l->pieces = pieces < most ? pieces - pieces % threads : most; /* equal shares of equal pieces */
    share_out(l, threads, grain == 1 || count / WAKE_GRAINS >= grain);
    atomic_store_explicit(&l->owned, false, memory_order_release);
}
