/* What the C tests share: a seeded generator, and failures that say where. */
#ifndef WALLE_CHECK_H
#define WALLE_CHECK_H

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static uint64_t check_state = 1;
static int check_failures;

/* SplitMix64. Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators" (2014). */
static inline uint64_t check_random(void) {
    uint64_t z = (check_state += 0x9E3779B97F4A7C15u);
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

static inline int64_t check_below(int64_t n) {
    return (int64_t)(check_random() % (uint64_t)n);
}

/* The seed: argument `--seed N`, or the clock; printed so that a failure can be repeated. */
static inline void check_seed(int argc, char **argv) {
    check_state = (uint64_t)time(NULL);
    for (int i = 1; i + 1 < argc; i++) {
        if (argv[i][0] == '-' && argv[i][2] == 's')
            check_state = strtoull(argv[i + 1], NULL, 10);
    }
    printf("seed %" PRIu64 "\n", check_state);
}

/* How many random cases: argument `--cases N`, or the usual number. */
static inline int check_count(int argc, char **argv, int usual) {
    for (int i = 1; i + 1 < argc; i++) {
        if (argv[i][0] == '-' && argv[i][2] == 'c')
            return atoi(argv[i + 1]);
    }
    return usual;
}

#define CHECK(condition, ...)                                                                                \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            printf("%s:%d: ", __FILE__, __LINE__);                                                           \
            printf(__VA_ARGS__);                                                                             \
            printf("\n");                                                                                    \
            if (++check_failures > 20)                                                                       \
                exit(1);                                                                                     \
        }                                                                                                    \
    } while (0)

static inline int check_result(void) {
    printf(check_failures ? "%d failures\n" : "all passed\n", check_failures);
    return check_failures != 0;
}

#endif
