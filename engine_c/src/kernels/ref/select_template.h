/* Choosing between two runs, plain C that compilers turn into vectors: the steps are spelled out for them.
 * Define KERNEL before including. */
#include "kernels/kernels.h"

#define CHOOSE(yes_at, no_at)                                                                                \
    for (int64_t i = 0; i < n; i++) {                                                                        \
        uint32_t a = yes[yes_at], b = no[no_at];                                                             \
        y[i] = condition[i] ? a : b;                                                                         \
    }

void KERNEL(int64_t n, const uint8_t *condition, const uint32_t *yes, int64_t yes_step, const uint32_t *no,
            int64_t no_step, uint32_t *y) {
    if (yes_step == 1 && no_step == 1)
        CHOOSE(i, i)
    else if (yes_step == 1 && no_step == 0)
        CHOOSE(i, 0)
    else if (yes_step == 0 && no_step == 1)
        CHOOSE(0, i)
    else
        CHOOSE(i * yes_step, i * no_step)
}
