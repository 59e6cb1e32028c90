/* Random numbers by a counter: element i depends on the seed and i alone, so threads do not change the
 * result. */
#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "backend/cpu/cpu.h"

/* Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014 (SplitMix64). */
static uint64_t mixed(uint64_t x) {
    x += 0x9E3779B97F4A7C15u;
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
    x = (x ^ x >> 27) * 0x94D049BB133111EBu;
    return x ^ x >> 31;
}

typedef struct random_job {
    float *out;
    uint64_t seed;
    bool normal;
} random_job;

static void random_range(void *context, int64_t begin, int64_t end) {
    const random_job *job = context;
    for (int64_t i = begin; i < end; i++) {
        uint64_t bits = mixed(job->seed + (uint64_t)i * 2);
        float uniform = (float)(bits >> 40) * 0x1p-24f; /* [0, 1) */
        if (job->normal) {                              /* Source: Box and Muller, 1958 */
            float angle = 6.28318530717958647692f * uniform;
            float other = (float)((mixed(job->seed + (uint64_t)i * 2 + 1) >> 40) + 1) * 0x1p-24f; /* (0, 1] */
            uniform = sqrtf(-2 * logf(other)) * cosf(angle);
        }
        job->out[i] = uniform;
    }
}

uint64_t we_cpu_random_seed(const we_command *c) {
    static _Atomic uint64_t drawn; /* so that runs without a seed differ */
    uint64_t seed = 0;
    if (c->u.random.seeded)
        memcpy(&seed, &c->u.random.seed, sizeof seed);
    else
        seed = atomic_fetch_add_explicit(&drawn, 1, memory_order_relaxed);
    return mixed(mixed(seed) + (uint64_t)c->node);
}

void we_cpu_random(const we_run *run, const we_command *c) {
    uint64_t seed = we_cpu_random_seed(c), turn;
    if (c->in[0] >= 0) {
        memcpy(&turn, run->memory[c->in[0]], sizeof turn);
        seed = mixed(seed + turn);
    }
    random_job job = {we_run_out(run, c), seed, c->u.random.normal};
    we_parallel_for(run->pool, run->program->tensors[c->out].count, 8192, random_range, &job);
}
