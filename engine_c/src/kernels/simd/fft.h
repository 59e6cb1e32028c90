/* One pass by the compiler's vector types. The including file says REAL, KERNEL, PASS and LANES. */
#include "kernels/kernels.h"

typedef REAL whole __attribute__((vector_size(LANES * sizeof(REAL)), aligned(sizeof(REAL)), may_alias));
typedef REAL partial __attribute__((vector_size(LANES / 2 * sizeof(REAL)), aligned(sizeof(REAL)), may_alias));

#define V whole
#define WIDTH LANES
#define AT(name) name##_whole
#include "kernels/simd/fft_radix.h"

#define V partial
#define WIDTH (LANES / 2)
#define AT(name) name##_half
#include "kernels/simd/fft_radix.h"

#define V REAL
#define WIDTH 1
#define AT(name) name##_one
#include "kernels/simd/fft_radix.h"

static inline __attribute__((always_inline)) void pass(const PASS *f, int64_t begin, int64_t end, int radix,
                                                       const REAL *cosines, const REAL *sines) {
    int64_t p = begin;
    if (f->s == 1 && f->last == 1) {
        for (; p + LANES <= end; p += LANES)
            across_whole(f, p, radix, cosines, sines);
        for (; p + LANES / 2 <= end; p += LANES / 2)
            across_half(f, p, radix, cosines, sines);
    }
    for (; p < end; p++) {
        int64_t q = f->first;
        for (; q + LANES <= f->last; q += LANES)
            along_whole(f, p, q, radix, cosines, sines);
        for (; q + LANES / 2 <= f->last; q += LANES / 2)
            along_half(f, p, q, radix, cosines, sines);
        for (; q < f->last; q++)
            along_one(f, p, q, radix, cosines, sines);
    }
}

/* cos and sin of 2 pi k / radix. */
#define WE_FFT_ROOTS(radix, ...)                                                                             \
    static const REAL cosines_##radix[] = {__VA_ARGS__};                                                     \
    static const REAL sines_##radix[]
WE_FFT_ROOTS(3, 1, -0.5, -0.5) = {0, 0.86602540378443864676, -0.86602540378443864676};
WE_FFT_ROOTS(5, 1, 0.30901699437494742410, -0.80901699437494742410, -0.80901699437494742410,
             0.30901699437494742410) = {0, 0.95105651629515357212, 0.58778525229247312917,
                                        -0.58778525229247312917, -0.95105651629515357212};
WE_FFT_ROOTS(7, 1, 0.62348980185873353053, -0.22252093395631440429, -0.90096886790241912624,
             -0.90096886790241912624, -0.22252093395631440429,
             0.62348980185873353053) = {0,
                                        0.78183148246802980871,
                                        0.97492791218182360702,
                                        0.43388373911755812048,
                                        -0.43388373911755812048,
                                        -0.97492791218182360702,
                                        -0.78183148246802980871};
WE_FFT_ROOTS(11, 1, 0.84125353283118116886, 0.41541501300188642553, -0.14231483827328514044,
             -0.65486073394528506406, -0.95949297361449738989, -0.95949297361449738989,
             -0.65486073394528506406, -0.14231483827328514044, 0.41541501300188642553,
             0.84125353283118116886) = {0,
                                        0.54064081745559758211,
                                        0.90963199535451837141,
                                        0.98982144188093273238,
                                        0.75574957435425828377,
                                        0.28173255684142969771,
                                        -0.28173255684142969771,
                                        -0.75574957435425828377,
                                        -0.98982144188093273238,
                                        -0.90963199535451837141,
                                        -0.54064081745559758211};
WE_FFT_ROOTS(13, 1, 0.88545602565320989590, 0.56806474673115580251, 0.12053668025532305335,
             -0.35460488704253562597, -0.74851074817110109863, -0.97094181742605202716,
             -0.97094181742605202716, -0.74851074817110109863, -0.35460488704253562597,
             0.12053668025532305335, 0.56806474673115580251,
             0.88545602565320989590) = {0,
                                        0.46472317204376854566,
                                        0.82298386589365639458,
                                        0.99270887409805399280,
                                        0.93501624268541482344,
                                        0.66312265824079520238,
                                        0.23931566428755776715,
                                        -0.23931566428755776715,
                                        -0.66312265824079520238,
                                        -0.93501624268541482344,
                                        -0.99270887409805399280,
                                        -0.82298386589365639458,
                                        -0.46472317204376854566};

void KERNEL(const PASS *f, int64_t begin, int64_t end) {
    switch (f->radix) {
    case 2:
        pass(f, begin, end, 2, NULL, NULL);
        break;
    case 3:
        pass(f, begin, end, 3, cosines_3, sines_3);
        break;
    case 4:
        pass(f, begin, end, 4, NULL, NULL);
        break;
    case 5:
        pass(f, begin, end, 5, cosines_5, sines_5);
        break;
    case 7:
        pass(f, begin, end, 7, cosines_7, sines_7);
        break;
    case 8:
        pass(f, begin, end, 8, NULL, NULL);
        break;
    case 11:
        pass(f, begin, end, 11, cosines_11, sines_11);
        break;
    default:
        pass(f, begin, end, 13, cosines_13, sines_13);
        break;
    }
}
