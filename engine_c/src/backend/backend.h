/* What a back end offers: it runs commands, packs what it can beforehand, and claims composites. */
#ifndef WE_BACKEND_BACKEND_H
#define WE_BACKEND_BACKEND_H

#include "base/threads.h"
#include "raster/program.h"

/* Everything one run of a program uses; nothing in it is shared with another run but the constants and the
 * pool. */
typedef struct we_run {
    const we_program *program;
    void **memory; /* per tensor; loops move their views */
    void *scratch; /* as many bytes as the largest command asked for */
    we_pool *pool;
    const we_kernels *kernels;
    const we_graph *graph; /* for names in messages */
} we_run;

typedef struct we_backend {
    const char *name;
    /* Called once per command while the session is prepared: pack constants into the program's arena. */
    we_status (*prepare)(we_program *program, we_command *command, we_error *err);
    /* Bytes of scratch `execute` needs with that many threads. */
    size_t (*scratch_size)(const we_program *program, const we_command *command, int32_t threads);
    we_status (*execute)(const we_run *run, const we_command *command, we_error *err);
} we_backend;

const we_backend *we_backend_find(const char *name); /* NULL if there is none */

/* Which tensors of a claim may lie as bfloat16: the image, what is added to the result, the result. */
typedef struct we_narrow {
    bool in, residual, out;
    bool together;           /* all or none of them */
    bool result_as_residual; /* the last two, or neither */
} we_narrow;

/* A product of bytes: multiply-adds, and the bytes of packed weights. */
typedef struct we_byte_work {
    double products, weights;
} we_byte_work;

/* What a command gives a device to do. */
typedef struct we_work {
    double products; /* multiply-adds */
    double bytes;    /* of the device's memory */
    double launches;
} we_work;

struct we_recorder; /* of backend/opencl/record.h */

/* What a claim's file exports as we_claim_<name>. */
typedef struct we_claim_methods {
    /* True, with parameters in the arena, where the claim can run this call. */
    bool (*accept)(const we_call *call, we_arena *arena, const void **parameters);
    /* Elementary steps (an addition of elements in the second-level cache); of what the product does not
     * count. */
    double (*cost)(const void *parameters);
    void (*run)(const we_run *run, const we_command *command);
    /* Of a back end with a device instead of `run`: record what it is to do, and what that costs. */
    void (*record)(struct we_recorder *recorder, const we_command *command);
    we_work (*work)(const void *parameters);
    /* The rest may be NULL. The product of bytes inside, which is not among the steps. */
    we_byte_work (*byte_work)(const void *parameters);
    /* The float32 product inside: the search picks its micro-kernel (u.claim.kernel).
     */
    const we_matmul *(*product)(const void *parameters);
    bool splits; /* the product may have a kernel of split operands, as we_gemm has */
    /* Rows of the product that are multiplied together: its B passes once for each such part. NULL: all. */
    int64_t (*rows)(const void *parameters, int32_t threads);
    /* Once, after the choice: pack constants into the program's arena. */
    we_status (*prepare)(we_program *program, we_command *command, we_error *err);
    size_t (*scratch_size)(const we_program *program, const we_command *command, int32_t threads);
    uint32_t reads, writes; /* bit sets of node inputs and outputs past the first that it has while running */
    uint32_t reads_varying; /* inputs that it has where they are no constants, and for a gradient */
    uint32_t reads_last;    /* inputs past the first that are channels last as well */
    bool differentiable;    /* the command has all that its gradient needs: grad/composite_grads.inc */
    /* Inputs and outputs of the command are channels last, [N, spatial..., C], though the node's are channels
     * first. reads_plain: input 0 is given channels first nevertheless. */
    bool channels_last;
    bool (*reads_plain)(const void *parameters);
    int32_t second;      /* the node input that is an image besides the first: in[1]. 0: none */
    bool compact;        /* its weights take less memory than those of the decomposition */
    bool places;         /* honours pitch and offset of the command: channels last, without an addition */
    bool approximate;    /* not for the highest precision */
    bool narrow;         /* multiplies bfloat16 by kernels of its own: for 'medium', where there are such */
    bool takes_byte_sum; /* a following addition of bytes (u.claim.then) */
    const we_byte_sum *(*byte_sum)(const void *parameters); /* what such an addition is */
    bool fuses; /* takes a following addition of a tensor like its result (in[1]) and a following relu */
    /* Of a command whose kernel is chosen; NULL: it has to do with float32 alone. */
    we_narrow (*narrows)(const we_command *command);
} we_claim_methods;

typedef struct we_claim {
    int32_t op;
    const char *backend, *name;
    const we_claim_methods *methods;
} we_claim;

/* The first claim at or after row *row that a back end has on an op, or NULL; *row becomes its number. */
const we_claim *we_claim_find(const char *backend, int32_t op, int32_t *row);
const we_claim *we_claim_row(int32_t row);
/* What a command that is a claim goes by; NULL for other commands. */
const we_claim_methods *we_claim_of(const we_command *command);

#define WE_CLAIM_ROW(Op, backend, name) extern const we_claim_methods we_claim_##name;
#include "backend/claims.inc"
#undef WE_CLAIM_ROW

#endif
