/* What the formulas of kernels/*_fns.inc are written with. Definitions: TYPE, SIGNED, FLOATING of the operands; IX, the type
 * of indices. The kernel is made per formula and walk (elementwise.c). */
#define HELPER static __attribute__((always_inline))
#pragma OPENCL FP_CONTRACT OFF
#ifdef HAVE_F64
#pragma OPENCL EXTENSION cl_khr_fp64 : enable
#endif
#define M(function) function
#define int64_t long
#define uint64_t ulong
#define RIGHT_SHIFT(a, b)                                                                                              \
    (SIGNED ? (ulong)((long)(a) >> ((ulong)(b) > 63 ? 63 : (b))) : ((ulong)(b) > 63 ? 0 : (ulong)(a) >> (b)))
#define INTEGER_POWER(a, b) (SIGNED ? (TYPE)integer_power(a, b) : (TYPE)unsigned_power(a, b))

HELPER ulong unsigned_power(ulong base, ulong exponent) {
    ulong result = 1;
    for (; exponent; exponent >>= 1, base *= base)
        result = exponent & 1 ? result * base : result;
    return result;
}

HELPER long integer_power(long base, long exponent) {
    if (exponent < 0)
        return base == 1 ? 1 : base == -1 ? (exponent & 1 ? -1 : 1) : 0;
    return (long)unsigned_power((ulong)base, (ulong)exponent);
}

/* The remainder with the sign of b. */
HELPER TYPE floored_mod(TYPE a, TYPE b) {
#if FLOATING
    TYPE rest = fmod(a, b);
    return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
#else
    if (b == 0 || (SIGNED && b == (TYPE)-1))
        return 0;
    TYPE rest = a % b;
    return SIGNED && rest != 0 && (rest ^ b) >> (8 * sizeof b - 1) ? rest + b : rest;
#endif
}

HELPER ushort to_bf16(float value) {
    uint wide = as_uint(value);
    return (wide & 0x7FFFFFFF) > 0x7F800000 ? (ushort)(wide >> 16 | 0x40)
                                            : (ushort)((wide + 0x7FFF + (wide >> 16 & 1)) >> 16);
}

#define LOAD(TYPE_, p, o, a) (((global const TYPE_ *)(p + o))[a])
#define LOAD_F16(p, o, a) vload_half(a, (global const half *)(p + o))
#define LOAD_BF16(p, o, a) as_float((uint)LOAD(ushort, p, o, a) << 16)
#define STORE(TYPE_, q, o, a, value) (((global TYPE_ *)(q + o))[a] = (TYPE_)(value))
#define STORE_F16(q, o, a, value) vstore_half_rte(value, a, (global half *)(q + o))
#define STORE_BF16(q, o, a, value) (((global ushort *)(q + o))[a] = to_bf16(value))

/* As backend/cpu/cast.c: towards zero, and what no 64-bit integer holds saturates. */
#define TO_WHOLE(x) convert_long_sat(x)
#define TO_UNSIGNED(x) ((x) >= 9223372036854775808.0f ? convert_ulong_sat(x) : (ulong)TO_WHOLE(x))
