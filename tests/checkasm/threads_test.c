/* The crew of helpers: every item is done once, workers have numbers of their own, several callers at once,
 * loops inside loops, a forked child, and the cores that a control group leaves. */
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cores.h"
#include "base/memory.h"
#include "base/threads.h"
#include "check.h"

enum {
    ITEMS = 5000,
    CALLERS = 8,
    CORES = 5, /* assumed */
};

typedef struct tally {
    we_pool *pool;
    _Atomic int32_t done[ITEMS];
    _Atomic int32_t inside[WE_POOL_THREADS]; /* threads at work under each number */
    _Atomic int64_t sum;
    _Atomic int32_t faults;
    int64_t count;
    bool nested;
} tally;

static void add_items(void *context, int64_t begin, int64_t end) {
    tally *t = context;
    for (int64_t i = begin; i < end; i++)
        atomic_fetch_add(&t->sum, i);
}

static void count_items(void *context, int64_t begin, int64_t end) {
    tally *t = context;
    int32_t number = we_pool_worker();
    if (begin >= end || number < 0 || number >= we_pool_threads(t->pool) ||
        atomic_fetch_add(&t->inside[number], 1) != 0)
        atomic_fetch_add(&t->faults, 1);
    for (int64_t i = begin; i < end; i++)
        atomic_fetch_add(&t->done[i], 1);
    if (t->nested)
        we_parallel_for(t->pool, end - begin, 1, add_items, t);
    if (we_pool_worker() != number)
        atomic_fetch_add(&t->faults, 1);
    atomic_fetch_sub(&t->inside[number], 1);
}

static void check_loop(tally *t, int64_t count, int64_t grain) {
    memset(t->done, 0, sizeof t->done);
    atomic_store(&t->sum, 0);
    we_parallel_for(t->pool, count, grain, count_items, t);
    for (int64_t i = 0; i < ITEMS; i++)
        CHECK(atomic_load(&t->done[i]) == (i < count), "item %" PRId64 " of %" PRId64 " done %d times", i,
              count, (int)atomic_load(&t->done[i]));
    CHECK(atomic_load(&t->faults) == 0, "%d faults", (int)atomic_load(&t->faults));
}

static void *call_loops(void *argument) {
    tally *t = argument;
    uint64_t state = (uint64_t)(uintptr_t)t;
    for (int n = 0; n < 300; n++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        int64_t count = (int64_t)(state >> 33) % (ITEMS + 1), grain = (int64_t)(state >> 50) % 40;
        t->nested = n % 3 == 0;
        if (n % 2)
            we_pool_run_begins();
        check_loop(t, count, grain);
        if (n % 2)
            we_pool_run_ends();
    }
    return NULL;
}

static tally *new_tally(int32_t threads) {
    we_error error;
    tally *t = we_memory_new(sizeof *t);
    CHECK(t && we_pool_new(threads, &t->pool, &error) == WE_OK, "%s", error.message);
    return t;
}

static void free_tally(tally *t) {
    we_pool_free(t->pool);
    we_memory_free(t);
}

static void check_one_caller(void) {
    for (int32_t threads = 1; threads <= CORES; threads++) {
        tally *t = new_tally(threads);
        CHECK(we_pool_threads(t->pool) == threads, "%d threads", (int)we_pool_threads(t->pool));
        for (int64_t count = 0; count < 40; count++)
            check_loop(t, count, count % 4);
        check_loop(t, ITEMS, 1);
        call_loops(t);
        free_tally(t);
    }
}

/* More callers than cores, all with another quota. */
static void check_callers(void) {
    pthread_t threads[CALLERS];
    tally *tallies[CALLERS];
    for (int i = 0; i < CALLERS; i++)
        tallies[i] = new_tally(1 + i % 4);
    for (int i = 0; i < CALLERS; i++)
        CHECK(pthread_create(&threads[i], NULL, call_loops, tallies[i]) == 0, "no thread");
    for (int i = 0; i < CALLERS; i++) {
        pthread_join(threads[i], NULL);
        free_tally(tallies[i]);
    }
}

/* Helpers do come: with loops that last, more than one number is seen. */
static void note_worker(void *context, int64_t begin, int64_t end) {
    _Atomic uint64_t *seen = context;
    (void)begin;
    (void)end;
    atomic_fetch_or(seen, (uint64_t)1 << we_pool_worker());
    usleep(2000);
}

static void check_helpers_come(void) {
    tally *t = new_tally(3);
    _Atomic uint64_t seen = 0;
    for (int n = 0; n < 200 && atomic_load(&seen) != 7; n++)
        we_parallel_for(t->pool, 12, 1, note_worker, (void *)&seen);
    CHECK(atomic_load(&seen) == 7, "workers seen: %" PRIx64, atomic_load(&seen));
    free_tally(t);
}

/* With as many runs as cores each stays in its own thread. */
static void check_busy_machine(void) {
    tally *t = new_tally(4);
    _Atomic uint64_t seen = 0;
    for (int i = 0; i < CORES; i++)
        we_pool_run_begins();
    for (int n = 0; n < 3; n++)
        we_parallel_for(t->pool, 12, 1, note_worker, (void *)&seen);
    CHECK(atomic_load(&seen) == 1, "workers seen: %" PRIx64, atomic_load(&seen));
    for (int i = 0; i < CORES; i++)
        we_pool_run_ends();
    free_tally(t);
}

static void check_fork(void) {
#ifndef __SANITIZE_THREAD__ /* it allows no threads in a child */
    tally *t = new_tally(3);
    call_loops(t);
    pid_t child = fork();
    if (child == 0) {
        alarm(60); /* a hang ends the child, and so the test */
        call_loops(t);
        _exit(check_failures != 0);
    }
    int status = -1;
    CHECK(child > 0 && waitpid(child, &status, 0) == child && status == 0, "the child ends with %d", status);
    call_loops(t);
    free_tally(t);
#endif
}

static void write_file(const char *folder, const char *name, const char *text) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    CHECK(file != NULL, "cannot write %s", path);
    if (file) {
        fputs(text, file);
        fclose(file);
    }
}

static void check_quota(void) {
    char root[] = "/tmp/walle-cores-XXXXXX", outer[256], inner[256], legacy[256], groups[256], command[600];
    CHECK(mkdtemp(root) != NULL, "no folder");
    snprintf(outer, sizeof outer, "%s/a", root);
    snprintf(inner, sizeof inner, "%s/a/b", root);
    snprintf(legacy, sizeof legacy, "%s/cpu/c", root);
    snprintf(groups, sizeof groups, "%s/groups", root);
    snprintf(command, sizeof command, "mkdir -p %s %s", inner, legacy);
    CHECK(system(command) == 0, "no folders");
    CHECK(we_cores_quota(groups, root) == INT32_MAX, "no such file");
    write_file(root, "groups", "0::/a/b\n");
    CHECK(we_cores_quota(groups, root) == INT32_MAX, "no quota");
    write_file(inner, "cpu.max", "max 100000\n");
    CHECK(we_cores_quota(groups, root) == INT32_MAX, "max");
    write_file(inner, "cpu.max", "350000 100000\n");
    CHECK(we_cores_quota(groups, root) == 4, "%d", (int)we_cores_quota(groups, root));
    write_file(outer, "cpu.max", "150000 100000\n");
    CHECK(we_cores_quota(groups, root) == 2, "the group outside limits: %d",
          (int)we_cores_quota(groups, root));
    write_file(outer, "cpu.max", "nonsense");
    CHECK(we_cores_quota(groups, root) == 4, "%d", (int)we_cores_quota(groups, root));
    write_file(root, "groups", "7:memory:/m\n3:cpuacct,cpu:/c\nbroken\n");
    CHECK(we_cores_quota(groups, root) == INT32_MAX, "no old quota");
    write_file(legacy, "cpu.cfs_period_us", "50000\n");
    write_file(legacy, "cpu.cfs_quota_us", "-1\n");
    CHECK(we_cores_quota(groups, root) == INT32_MAX, "an old quota of none");
    write_file(legacy, "cpu.cfs_quota_us", "50001\n");
    CHECK(we_cores_quota(groups, root) == 2, "%d", (int)we_cores_quota(groups, root));
    CHECK(we_cores() >= 1, "%d", (int)we_cores());
    snprintf(command, sizeof command, "rm -r %s", root);
    CHECK(system(command) == 0, "%s stays", root);
}

int main(void) {
    check_quota();
    we_pool_assume_cores(CORES);
    check_one_caller();
    check_helpers_come();
    check_busy_machine();
    check_callers();
    check_fork();
    return check_result();
}
