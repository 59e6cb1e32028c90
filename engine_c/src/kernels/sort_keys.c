#include "kernels/sort_keys.h"

we_keys we_keys_for(const we_kernels *kernels) {
    we_keys best = {0};
#define WE_KEYS_ROW(ISA, isa)                                                                                \
    if (kernels->isas >> WE_ISA_##ISA & 1)                                                                   \
        best = (we_keys){we_encode_32__##isa, we_decode_32__##isa, we_encode_64__##isa, we_decode_64__##isa};
#include "kernels/sort_keys.inc"
#undef WE_KEYS_ROW
    return best;
}
