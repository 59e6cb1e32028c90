#include "backend/backend.h"

#include <string.h>

#include "backend/cpu/cpu.h"
#include "graph/opspec.h"

static const we_claim CLAIMS[] = {
#define WE_CLAIM_ROW(Op, backend, name) {WE_OP_##Op, #backend, #name, &we_claim_##name},
#include "backend/claims.inc"
#undef WE_CLAIM_ROW
};

const we_backend *we_backend_find(const char *name) {
    return strcmp(name, we_cpu_backend.name) == 0 ? &we_cpu_backend : NULL;
}

const we_claim *we_claim_find(const char *backend, int32_t op, int32_t *row) {
    for (size_t i = (size_t)*row; i < sizeof CLAIMS / sizeof *CLAIMS; i++) {
        if (CLAIMS[i].op == op && strcmp(CLAIMS[i].backend, backend) == 0) {
            *row = (int32_t)i;
            return &CLAIMS[i];
        }
    }
    return NULL;
}

const we_claim *we_claim_row(int32_t row) {
    return &CLAIMS[row];
}

const we_claim_methods *we_claim_of(const we_command *command) {
    return command->kind == WE_COMMAND_CLAIM ? CLAIMS[command->u.claim.claim].methods : NULL;
}

const char *we_op_claims(int32_t op) {
    int32_t row = 0, device_row = 0;
    bool cpu = we_claim_find("cpu", op, &row), device = we_claim_find("opencl", op, &device_row);
    return cpu && device ? "cpu,opencl" : cpu ? "cpu" : device ? "opencl" : "";
}
