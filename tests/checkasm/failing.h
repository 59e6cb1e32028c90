/* Fail the n-th allocation, then the next, until all comes through: nothing leaks, and the result stays. */
#ifndef WALLE_FAILING_H
#define WALLE_FAILING_H

#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "check.h"

typedef we_status check_attempt(float *out, we_error *err);

/* attempt: makes everything anew and writes `count` numbers, those of `want` if nothing failed. */
static inline void check_failing_allocations(check_attempt *attempt, const float *want, size_t count) {
    enum { MOST_ALLOCATIONS = 20000, MOST_NUMBERS = 256 };
    float got[MOST_NUMBERS] = {0};
    int64_t before = we_live_blocks();
    CHECK(count <= MOST_NUMBERS, "%zu numbers", count);
    for (int64_t n = 0; n < MOST_ALLOCATIONS; n++) {
        we_error error = {0};
        we_memory_fail_after(n);
        we_status status = attempt(got, &error);
        we_memory_fail_after(-1);
        CHECK(we_live_blocks() == before, "failing allocation %" PRId64 " leaks a block", n);
        if (status == WE_OK) {
            CHECK(memcmp(got, want, count * sizeof *got) == 0, "allocation %" PRId64 " changes the result",
                  n);
            printf("%" PRId64 " allocations failed one by one\n", n);
            return;
        }
        CHECK(status == WE_OUT_OF_MEMORY && error.status == WE_OUT_OF_MEMORY,
              "allocation %" PRId64 ": %s: %s", n, we_status_name(status), error.message);
    }
    CHECK(0, "never passes");
}

#endif
