/* What the CPU and the operating system can do, and the cap that WALLE_ENGINE_ISA sets. */
#ifndef WE_BASE_CPU_H
#define WE_BASE_CPU_H

#include <stdbool.h>

#include <walle/engine.h>

typedef enum we_isa {
#define WE_ISA_ROW(id, name) WE_ISA_##id,
#include "base/isa.inc"
#undef WE_ISA_ROW
    WE_ISA_COUNT
} we_isa;

/* float32 in one of its vectors. */
int32_t we_isa_lanes(we_isa isa);

/* Bit i set: instruction set i is usable under the cap. Bit WE_ISA_REF is always set.
 * The environment is read at the first call of the process. CONFIG for an unknown value, then and ever after.
 */
we_status we_cpu_isas(uint32_t *out, we_error *err);

/* The same for a given cap, without the environment (NULL: no cap). */
we_status we_cpu_isas_capped(const char *cap, uint32_t *out, we_error *err);

#endif
