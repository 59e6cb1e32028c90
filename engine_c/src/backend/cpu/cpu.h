/* The CPU back end: loops, blocking, packing and threads around the kernels. */
#ifndef WE_BACKEND_CPU_CPU_H
#define WE_BACKEND_CPU_CPU_H

#include "backend/backend.h"

extern const we_backend we_cpu_backend;

/* Pack the constant operands of a float32 product into the program's arena. */
we_status we_cpu_matmul_prepare(we_program *program, we_command *command, we_error *err);
size_t we_cpu_matmul_scratch(const we_program *program, const we_command *command, int32_t threads);
void we_cpu_matmul(const we_run *run, const we_command *command);

we_status we_cpu_loop(const we_run *run, const we_command *command, we_error *err);
void we_cpu_raster(const we_run *run, const we_command *command);
/* The bytes of that value; infinities are the extremes of an integer type. */
void we_cpu_element(we_dtype dtype, double value, char element[8]);
we_status we_cpu_top(const we_run *run, const we_command *command, we_error *err);
void we_cpu_chain(const we_run *run, const we_command *command);
/* y[i] = in[0][i] ? in[1][i] : in[2][i] over n elements of `width` bytes, in[0] of one; steps in elements. y
 * may be in[1] or in[2] where that has step 1. */
void we_cpu_select(const we_kernels *kernels, size_t width, int64_t n, const char *const *in,
                   const int64_t *steps, void *y);
void we_cpu_random(const we_run *run, const we_command *command);
uint64_t
we_cpu_random_seed(const we_command *command); /* what element 0 of the command's numbers is made from */
void we_cpu_cast(const we_run *run, const we_command *command);
/* Convert n elements. from and to must not overlap unless the types are one. */
void we_cpu_cast_elements(we_cast how, we_dtype from_type, const void *from, we_dtype to_type, void *to,
                          int64_t n);

/* Memory of the command's input or output. */
static inline void *we_run_in(const we_run *run, const we_command *command, int32_t i) {
    return run->memory[command->in[i]];
}
static inline void *we_run_out(const we_run *run, const we_command *command) {
    return run->memory[command->out];
}

/* The same by place at the node; NULL where the claim has no such input or output. */
static inline const void *we_claim_in(const we_run *run, const we_command *command, int32_t i) {
    const we_ports *ports = command->u.claim.ports;
    int32_t tensor = i == 0 ? command->in[0] : ports ? ports->in[i] : -1;
    return tensor < 0 ? NULL : run->memory[tensor];
}
static inline void *we_claim_out(const we_run *run, const we_command *command, int32_t i) {
    const we_ports *ports = command->u.claim.ports;
    int32_t tensor = i == 0 ? command->out : ports ? ports->out[i] : -1;
    return tensor < 0 ? NULL : run->memory[tensor];
}

/* Number of the thread at work inside a shared loop of this run, below the threads it was prepared for. */
static inline int32_t we_run_worker(const we_run *run) {
    return run->pool ? we_pool_worker() : 0;
}

#endif
