#include "base/cpu.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

static const char *const ISA_NAMES[] = {
#define WE_ISA_ROW(id, name) name,
#include "base/isa.inc"
#undef WE_ISA_ROW
};

size_t we_isa_count(void) {
    return WE_ISA_COUNT;
}

const char *we_isa_name(size_t index) {
    return index < WE_ISA_COUNT ? ISA_NAMES[index] : NULL;
}

int32_t we_isa_lanes(we_isa isa) {
    switch (isa) {
    case WE_ISA_REF:
        return 1;
    case WE_ISA_NEON:
    case WE_ISA_NEONDOT:
    case WE_ISA_NEONBF16:
        return 4;
    case WE_ISA_AVX2:
        return 8;
    default:
        return 16;
    }
}

#if defined(__x86_64__)
/* Register state the operating system saves (XCR0); an instruction set without it would fault or corrupt. */
static uint64_t saved_state(void) {
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

static bool bit(uint32_t word, int index) {
    return word >> index & 1;
}

/* Tile registers are the process's only for the asking. Source: Linux, Documentation/arch/x86/xstate.rst. */
static bool tiles_are_permitted(void) {
    enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 };
    return syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
}

/* Source: Intel SDM volume 1, sections 13.3 and 14.3 (feature bits and XCR0 checks); volume 2, CPUID leaf 7.
 */
static uint32_t detect(void) {
    uint32_t found = 1u << WE_ISA_REF;
    uint32_t a, b, c, d, b7, c7, d7;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !bit(c, 27) || !bit(c, 28))
        return found;
    uint32_t c1 = c;
    uint64_t state = saved_state();
    if ((state & 0x6) != 0x6 || !__get_cpuid_count(7, 0, &a, &b7, &c7, &d7))
        return found;
    if (bit(b7, 5) && bit(c1, 12) && bit(c1, 29)) /* AVX2, FMA, F16C */
        found |= 1u << WE_ISA_AVX2;
    else
        return found;
    if ((state & 0xE6) != 0xE6)
        return found;
    if (bit(b7, 16) && bit(b7, 17) && bit(b7, 28) && bit(b7, 30) && bit(b7, 31)) /* F, DQ, CD, BW, VL */
        found |= 1u << WE_ISA_AVX512;
    else
        return found;
    if (bit(c7, 11))
        found |= 1u << WE_ISA_AVX512VNNI;
    uint32_t a71, b71, c71, d71;
    if (!__get_cpuid_count(7, 1, &a71, &b71, &c71, &d71) || !bit(a71, 5)) /* AVX512_BF16 */
        return found;
    found |= 1u << WE_ISA_AVX512BF16;
    if ((state & 0x60000) == 0x60000 && bit(d7, 22) && bit(d7, 24) && /* AMX-BF16, AMX-TILE */
        tiles_are_permitted())
        found |= 1u << WE_ISA_AMX;
    return found;
}
#elif defined(__aarch64__)
/* The base architecture includes Advanced SIMD; what else there is the kernel says (Linux,
 * Documentation/arch/arm64/elf_hwcaps.rst). */
static uint32_t detect(void) {
    uint32_t found = 1u << WE_ISA_REF | 1u << WE_ISA_NEON;
#if defined(__linux__)
    if (!(getauxval(AT_HWCAP) & HWCAP_ASIMDDP))
        return found;
    found |= 1u << WE_ISA_NEONDOT;
    if (getauxval(AT_HWCAP2) & HWCAP2_BF16) /* only beside dot products: Armv8.6 has both */
        found |= 1u << WE_ISA_NEONBF16;
#endif
    return found;
}
#else
static uint32_t detect(void) {
    return 1u << WE_ISA_REF;
}
#endif

we_status we_cpu_isas_capped(const char *cap, uint32_t *out, we_error *err) {
    uint32_t found = detect();
    *out = 1u << WE_ISA_REF;
    if (!cap || !cap[0]) {
        *out = found;
        return WE_OK;
    }
    for (int i = 0; i < WE_ISA_COUNT; i++) {
        if (strcmp(cap, ISA_NAMES[i]) == 0) {
            *out = found & ((2u << i) - 1);
            return WE_OK;
        }
    }
    char legal[128] = "";
    for (int i = 0; i < WE_ISA_COUNT; i++) {
        size_t used = strlen(legal);
        snprintf(legal + used, sizeof legal - used, "%s%s", i ? ", " : "", ISA_NAMES[i]);
    }
    return we_error_set(err, WE_CONFIG,
                        "WALLE_ENGINE_ISA is '%.40s', which is no instruction set; use one of: %s", cap,
                        legal);
}

static struct {
    pthread_once_t once;
    we_status status;
    uint32_t isas;
    we_error error;
} process = {.once = PTHREAD_ONCE_INIT};

static void read_once(void) {
    process.status = we_cpu_isas_capped(getenv("WALLE_ENGINE_ISA"), &process.isas, &process.error);
}

we_status we_cpu_isas(uint32_t *out, we_error *err) {
    pthread_once(&process.once, read_once);
    *out = process.isas;
    if (process.status != WE_OK && err)
        *err = process.error;
    return process.status;
}

we_status we_isa_current(const char **out, we_error *err) {
    uint32_t isas;
    *out = ISA_NAMES[WE_ISA_REF];
    WE_TRY(we_cpu_isas(&isas, err));
    for (int i = 0; i < WE_ISA_COUNT; i++) {
        if (isas >> i & 1)
            *out = ISA_NAMES[i];
    }
    return WE_OK;
}
