/* The classes of array dtypes that rows of walle/array_*.inc speak of. */
#ifndef WE_KERNELS_ARRAY_CLASSES_H
#define WE_KERNELS_ARRAY_CLASSES_H

/* OF_<class>(M, ...): M(DTYPE, T, R, W, ...) for each dtype of the class. R: the type of a complex number's
 * parts, else T; W: what sums of T are kept in. */
#define OF_TRUTH(M, ...) M(BOOL, uint8_t, uint8_t, int64_t, __VA_ARGS__)
#define OF_INT(M, ...)                                                                                       \
    M(I8, int8_t, int8_t, int64_t, __VA_ARGS__)                                                              \
    M(I16, int16_t, int16_t, int64_t, __VA_ARGS__)                                                           \
    M(I32, int32_t, int32_t, int64_t, __VA_ARGS__)                                                           \
    M(I64, int64_t, int64_t, int64_t, __VA_ARGS__)
#define OF_UINT(M, ...)                                                                                      \
    M(U8, uint8_t, uint8_t, uint64_t, __VA_ARGS__)                                                           \
    M(U16, uint16_t, uint16_t, uint64_t, __VA_ARGS__)                                                        \
    M(U32, uint32_t, uint32_t, uint64_t, __VA_ARGS__)                                                        \
    M(U64, uint64_t, uint64_t, uint64_t, __VA_ARGS__)
#define OF_FLOAT(M, ...)                                                                                     \
    M(F32, float, float, double, __VA_ARGS__)                                                                \
    M(F64, double, double, double, __VA_ARGS__)
#define OF_COMPLEX(M, ...)                                                                                   \
    M(C64, float _Complex, float, double _Complex, __VA_ARGS__)                                              \
    M(C128, double _Complex, double, double _Complex, __VA_ARGS__)
#define OF_INTEGER(M, ...) OF_INT(M, __VA_ARGS__) OF_UINT(M, __VA_ARGS__)
#define OF_FLOATING(M, ...) OF_FLOAT(M, __VA_ARGS__) OF_COMPLEX(M, __VA_ARGS__)
#define OF_REAL_NUMBER(M, ...) OF_INTEGER(M, __VA_ARGS__) OF_FLOAT(M, __VA_ARGS__)
#define OF_NUMERIC(M, ...) OF_REAL_NUMBER(M, __VA_ARGS__) OF_COMPLEX(M, __VA_ARGS__)
#define OF_ALL(M, ...) OF_TRUTH(M, __VA_ARGS__) OF_NUMERIC(M, __VA_ARGS__)

#endif
