#include <pthread.h>
#include <string.h>

#include "base/error.h"
#include "kernels/kernels.h"

enum { /* places of float32 kernels in the table */
#define WE_MATMUL_KERNEL_ROW(ISA, isa, DT, dt, rows, columns) ROW_##rows##x##columns##__##isa,
#define WE_SPLIT_MATMUL_KERNEL_ROW(ISA, isa, parts, rows, columns, granule, split, exact)
#include "kernels/matmul.inc"
#undef WE_MATMUL_KERNEL_ROW
#undef WE_SPLIT_MATMUL_KERNEL_ROW
};
#define EXACT_NONE NULL
#define EXACT_4x4__ref &MATMUL_ROWS[ROW_4x4__ref]
#define EXACT_14x32__avx512 &MATMUL_ROWS[ROW_14x32__avx512]
#define OPEN_ref NULL
#define OPEN_neonbf16 NULL
#define OPEN_avx512bf16 NULL
#define OPEN_amx we_amx_open
#define CLOSE_ref NULL
#define CLOSE_neonbf16 NULL
#define CLOSE_avx512bf16 NULL
#define CLOSE_amx we_amx_close

static const we_matmul_row MATMUL_ROWS[] = {
#define WE_MATMUL_KERNEL_ROW(ISA, isa_, DT, dt, rows_, columns_)                                             \
    {.name = "we_" #dt "_matmul_" #rows_ "x" #columns_ "__" #isa_,                                           \
     .isa = WE_ISA_##ISA,                                                                                    \
     .rows = (rows_),                                                                                        \
     .columns = (columns_),                                                                                  \
     .granule = 1,                                                                                           \
     .kernel = we_##dt##_matmul_##rows_##x##columns_##__##isa_},
#define WE_SPLIT_MATMUL_KERNEL_ROW(ISA, isa_, parts_, rows_, columns_, granule_, split_, exact_)             \
    {.name = "we_bf16x" #parts_ "_matmul_" #rows_ "x" #columns_ "__" #isa_,                                  \
     .isa = WE_ISA_##ISA,                                                                                    \
     .rows = (rows_),                                                                                        \
     .columns = (columns_),                                                                                  \
     .parts = (parts_),                                                                                      \
     .granule = (granule_),                                                                                  \
     .kernel = we_bf16x##parts_##_matmul_##rows_##x##columns_##__##isa_,                                     \
     .split = {we_bf16_split__##split_, we_bf16_pair__##split_},                                             \
     .exact = EXACT_##exact_,                                                                                \
     .open = OPEN_##isa_,                                                                                    \
     .close = CLOSE_##isa_},
#include "kernels/matmul.inc"
#undef WE_MATMUL_KERNEL_ROW
#undef WE_SPLIT_MATMUL_KERNEL_ROW
};

static const char *const UNARY_NAMES[] = {
#define WE_UNARY_FN(Name, name, formula) #Name,
#include "kernels/unary_fns.inc"
#undef WE_UNARY_FN
};

static const char *const BINARY_NAMES[] = {
#define WE_BINARY_FN(Name, name, floating, integer) #Name,
#include "kernels/binary_fns.inc"
#undef WE_BINARY_FN
#define WE_INTEGER_FN(Name, name, formula) #Name,
#include "kernels/binary_fns.inc"
#undef WE_INTEGER_FN
#define WE_COMPARE_FN(Name, name, formula) #Name,
#include "kernels/binary_fns.inc"
#undef WE_COMPARE_FN
};

static const char *const REDUCE_NAMES[] = {
#define WE_REDUCE_FN(Name, name, start, step) #Name,
#include "kernels/reduce_fns.inc"
#undef WE_REDUCE_FN
};

size_t we_matmul_rows(const we_matmul_row **out) {
    *out = MATMUL_ROWS;
    return sizeof MATMUL_ROWS / sizeof *MATMUL_ROWS;
}

const char *we_unary_name(we_unary_fn fn) {
    return UNARY_NAMES[fn];
}

const char *we_binary_name(we_binary_fn fn) {
    return BINARY_NAMES[fn];
}

const char *we_reduce_name(we_reduce_fn fn) {
    return REDUCE_NAMES[fn];
}

#define WE_IMAGE_FN(name, parameters) .name = we_image_##name##__ref,
static const we_image_kernels image_kernels__ref = {
#include "kernels/image.inc"
};
#undef WE_IMAGE_FN
#if defined(WE_HAVE_X86)
#define WE_IMAGE_FN(name, parameters) .name = we_image_##name##__avx2,
static const we_image_kernels image_kernels__avx2 = {
#include "kernels/image.inc"
};
#undef WE_IMAGE_FN
#define WE_IMAGE_FN(name, parameters) .name = we_image_##name##__avx512,
static const we_image_kernels image_kernels__avx512 = {
#include "kernels/image.inc"
};
#undef WE_IMAGE_FN
#endif
#if defined(WE_HAVE_ARM)
#define WE_IMAGE_FN(name, parameters) .name = we_image_##name##__neon,
static const we_image_kernels image_kernels__neon = {
#include "kernels/image.inc"
};
#undef WE_IMAGE_FN
#endif

#define WE_BYTE_ROWS_FN(name, parameters) .name = we_u8_rows_##name##__ref,
static const we_byte_rows byte_rows__ref = {
#include "kernels/byte_rows.inc"
};
#undef WE_BYTE_ROWS_FN
#if defined(WE_HAVE_X86)
#define WE_BYTE_ROWS_FN(name, parameters) .name = we_u8_rows_##name##__avx2,
static const we_byte_rows byte_rows__avx2 = {
#include "kernels/byte_rows.inc"
};
#undef WE_BYTE_ROWS_FN
#define WE_BYTE_ROWS_FN(name, parameters) .name = we_u8_rows_##name##__avx512,
static const we_byte_rows byte_rows__avx512 = {
#include "kernels/byte_rows.inc"
};
#undef WE_BYTE_ROWS_FN
#endif
#if defined(WE_HAVE_ARM)
#define WE_BYTE_ROWS_FN(name, parameters) .name = we_u8_rows_##name##__neon,
static const we_byte_rows byte_rows__neon = {
#include "kernels/byte_rows.inc"
};
#undef WE_BYTE_ROWS_FN
#endif

/* Rows are listed weakest ISA first, so a later usable row is the better one. */
void we_kernels_fill(uint32_t isas, we_kernels *out) {
    memset(out, 0, sizeof *out);
    out->isas = isas;
#define WE_UNARY_KERNEL_ROW(ISA, isa, DT, dt, Name, name, ulps)                                              \
    if (isas >> WE_ISA_##ISA & 1)                                                                            \
        out->unary[WE_UNARY_##Name][WE_##DT] = we_##dt##_unary_##name##__##isa;
#include "kernels/unary.inc"
#undef WE_UNARY_KERNEL_ROW
#define WE_BINARY_KERNEL_ROW(ISA, isa, DT, dt, Name, name, exact)                                            \
    if (isas >> WE_ISA_##ISA & 1)                                                                            \
        out->binary[WE_BINARY_##Name][WE_##DT] = we_##dt##_binary_##name##__##isa;
#include "kernels/binary.inc"
#undef WE_BINARY_KERNEL_ROW
#define WE_REDUCE_KERNEL_ROW(ISA, isa, DT, dt, Name, name, exact)                                            \
    if (isas >> WE_ISA_##ISA & 1)                                                                            \
        out->reduce[WE_REDUCE_##Name][WE_##DT] = we_##dt##_reduce_##name##__##isa;
#include "kernels/reduce.inc"
#undef WE_REDUCE_KERNEL_ROW
#define WE_DEPTHWISE_KERNEL_ROW(ISA, isa, DT, dt)                                                            \
    if (isas >> WE_ISA_##ISA & 1)                                                                            \
        out->depthwise[WE_##DT] = we_##dt##_depthwise__##isa;
#include "kernels/depthwise.inc"
#undef WE_DEPTHWISE_KERNEL_ROW
#define WE_GROUPED_KERNEL_ROW(ISA, isa, DT, dt)                                                              \
    if (isas >> WE_ISA_##ISA & 1)                                                                            \
        out->grouped = we_##dt##_grouped__##isa;
#include "kernels/grouped.inc"
#undef WE_GROUPED_KERNEL_ROW
#define WE_PLANE_KERNEL_ROW(ISA, isa, DT, dt)                                                                \
    if (isas >> WE_ISA_##ISA & 1) {                                                                          \
        out->plane_largest = we_##dt##_plane_largest__##isa;                                                 \
        out->plane_mean = we_##dt##_plane_mean__##isa;                                                       \
        out->plane_filter = we_##dt##_plane_filter__##isa;                                                   \
    }
#include "kernels/plane.inc"
#undef WE_PLANE_KERNEL_ROW
#define WE_WINDOW_KERNEL_ROW(ISA, isa, DT, dt, Name, name)                                                   \
    if (isas >> WE_ISA_##ISA & 1)                                                                            \
        out->window_##name[WE_##DT] = we_##dt##_window_##name##__##isa;
#include "kernels/window.inc"
#undef WE_WINDOW_KERNEL_ROW
#define WE_TRANSPOSE_KERNEL_ROW(ISA, isa, DT, dt)                                                            \
    if (isas >> WE_ISA_##ISA & 1)                                                                            \
        out->transpose = we_##dt##_transpose__##isa;
#include "kernels/transpose.inc"
#undef WE_TRANSPOSE_KERNEL_ROW
#define WE_WINOGRAD_KERNEL_ROW(ISA, isa, DT, dt)                                                             \
    if (isas >> WE_ISA_##ISA & 1) {                                                                          \
        out->winograd_in[WE_##DT] = we_##dt##_winograd_in__##isa;                                            \
        out->winograd_out[WE_##DT] = we_##dt##_winograd_out__##isa;                                          \
    }
#include "kernels/winograd.inc"
#undef WE_WINOGRAD_KERNEL_ROW
#define WE_SOFTMAX_KERNEL_ROW(ISA, isa, DT, dt)                                                              \
    if (isas >> WE_ISA_##ISA & 1)                                                                            \
        out->softmax = we_##dt##_softmax__##isa;
#include "kernels/softmax.inc"
#undef WE_SOFTMAX_KERNEL_ROW
#define WE_NORM_KERNEL_ROW(ISA, isa, DT, dt)                                                                 \
    if (isas >> WE_ISA_##ISA & 1)                                                                            \
        out->norm = we_##dt##_norm__##isa;
#include "kernels/norm.inc"
#undef WE_NORM_KERNEL_ROW
#define WE_CAST_KERNEL_ROW(ISA, isa, FROM, from, TO, to)                                                     \
    if (isas >> WE_ISA_##ISA & 1)                                                                            \
        out->cast[WE_##FROM][WE_##TO] = we_##from##_cast_##to##__##isa;
#include "kernels/cast.inc"
#undef WE_CAST_KERNEL_ROW
#define WE_RESAMPLE_KERNEL_ROW(ISA, isa, DT, dt)                                                             \
    if (isas >> WE_ISA_##ISA & 1) {                                                                          \
        out->resample = we_##dt##_resample__##isa;                                                           \
        out->mix = we_##dt##_mix__##isa;                                                                     \
        out->pick = we_##dt##_pick__##isa;                                                                   \
    }
#include "kernels/resample.inc"
#undef WE_RESAMPLE_KERNEL_ROW
#define WE_PLACE_KERNEL_ROW(ISA, isa, DT, dt)                                                                \
    if (isas >> WE_ISA_##ISA & 1)                                                                            \
        out->place = we_##dt##_place__##isa;
#include "kernels/place.inc"
#undef WE_PLACE_KERNEL_ROW
#define WE_SELECT_KERNEL_ROW(ISA, isa, DT, dt)                                                               \
    if (isas >> WE_ISA_##ISA & 1)                                                                            \
        out->select = we_##dt##_select__##isa;
#include "kernels/select.inc"
#undef WE_SELECT_KERNEL_ROW
#define WE_ARG_KERNEL_ROW(ISA, isa, DT, dt)                                                                  \
    if (isas >> WE_ISA_##ISA & 1)                                                                            \
        out->arg = we_##dt##_arg__##isa;
#include "kernels/arg.inc"
#undef WE_ARG_KERNEL_ROW
#define WE_GEMV_KERNEL_ROW(ISA, isa, DT, dt, columns)                                                        \
    if (isas >> WE_ISA_##ISA & 1) {                                                                          \
        out->gemv[WE_##DT] = we_##dt##_gemv_##columns##__##isa;                                              \
        out->gemv_columns[WE_##DT] = columns;                                                                \
    }
#include "kernels/gemv.inc"
#undef WE_GEMV_KERNEL_ROW
#define WE_CODED_KERNEL_ROW(ISA, isa, DT, dt, columns)                                                       \
    if (isas >> WE_ISA_##ISA & 1)                                                                            \
        out->coded[WE_##DT] = (we_coded_kernels){we_##dt##_coded_gemv_##columns##__##isa,                    \
                                                 we_##dt##_coded_expand_##columns##__##isa, columns};
#include "kernels/coded.inc"
#undef WE_CODED_KERNEL_ROW
#define WE_DENSE_KERNEL_ROW(ISA, isa, DT, dt, real, rows, columns)                                           \
    if (isas >> WE_ISA_##ISA & 1)                                                                            \
        out->dt##_dense = (we_##dt##_dense){rows,                                                            \
                                            columns,                                                         \
                                            we_##dt##_dense_dot__##isa,                                      \
                                            we_##dt##_dense_add__##isa,                                      \
                                            we_##dt##_dense_turn__##isa,                                     \
                                            we_##dt##_dense_tile__##isa};
#include "kernels/dense.inc"
#undef WE_DENSE_KERNEL_ROW
#define WE_SORT_KERNEL_ROW(ISA, isa, DT, dt, type)                                                           \
    if (isas >> WE_ISA_##ISA & 1)                                                                            \
        out->dt##_sort = (we_##dt##_sort){we_##dt##_sort__##isa, we_##dt##_partition__##isa};
#include "kernels/sort.inc"
#undef WE_SORT_KERNEL_ROW
#define WE_FFT_KERNEL_ROW(ISA, isa, DT, dt, real)                                                            \
    if (isas >> WE_ISA_##ISA & 1)                                                                            \
        out->dt##_fft = we_##dt##_fft__##isa;
#include "kernels/fft.inc"
#undef WE_FFT_KERNEL_ROW
#define WE_IMAGE_KERNEL_ROW(ISA, isa)                                                                        \
    if (isas >> WE_ISA_##ISA & 1)                                                                            \
        out->image = image_kernels__##isa;
#include "kernels/image.inc"
#undef WE_IMAGE_KERNEL_ROW
#define WE_BYTE_MATMUL_KERNEL_ROW(ISA, isa_, rows, columns, signed_rows)                                     \
    if (isas >> WE_ISA_##ISA & 1)                                                                            \
        out->byte_matmul = (we_byte_matmul){                                                                 \
            "we_u8_byte_matmul_" #rows "x" #columns "__" #isa_, WE_ISA_##ISA, rows, columns, signed_rows,    \
            we_u8_byte_matmul_##rows##x##columns##__##isa_};
#include "kernels/byte_matmul.inc"
#undef WE_BYTE_MATMUL_KERNEL_ROW
#define WE_BYTE_DEPTHWISE_KERNEL_ROW(ISA, isa)                                                               \
    if (isas >> WE_ISA_##ISA & 1)                                                                            \
        out->byte_depthwise = we_u8_byte_depthwise__##isa;
#include "kernels/byte_depthwise.inc"
#undef WE_BYTE_DEPTHWISE_KERNEL_ROW
#define WE_BYTE_ROWS_KERNEL_ROW(ISA, isa)                                                                    \
    if (isas >> WE_ISA_##ISA & 1)                                                                            \
        out->byte_rows = byte_rows__##isa;
#include "kernels/byte_rows.inc"
#undef WE_BYTE_ROWS_KERNEL_ROW
}

static struct {
    pthread_once_t once;
    we_status status;
    we_error error;
    we_kernels kernels;
} process = {.once = PTHREAD_ONCE_INIT};

static void fill_once(void) {
    uint32_t isas;
    process.status = we_cpu_isas(&isas, &process.error);
    we_kernels_fill(isas, &process.kernels);
}

we_status we_kernels_get(const we_kernels **out, we_error *err) {
    pthread_once(&process.once, fill_once);
    *out = &process.kernels;
    if (process.status != WE_OK && err)
        *err = process.error;
    return process.status;
}

/* ---- The kernel list of the public header ---- */

static const we_kernel_info KERNELS[] = {
#define WE_UNARY_KERNEL_ROW(ISA, isa, DT, dt, Name, name, ulps)                                              \
    {"unary",      #isa,           "we_" #dt "_unary_" #name "__" #isa, WE_##DT, 0, 0, 0, (ulps) == 0,       \
     WE_ISA_##ISA, WE_UNARY_##Name},
#include "kernels/unary.inc"
#undef WE_UNARY_KERNEL_ROW
#define WE_BINARY_KERNEL_ROW(ISA, isa, DT, dt, Name, name, exact)                                            \
    {"binary",        #isa, "we_" #dt "_binary_" #name "__" #isa, WE_##DT, 0, 0, 0, exact, WE_ISA_##ISA,     \
     WE_BINARY_##Name},
#include "kernels/binary.inc"
#undef WE_BINARY_KERNEL_ROW
#define WE_REDUCE_KERNEL_ROW(ISA, isa, DT, dt, Name, name, exact)                                            \
    {"reduce",        #isa, "we_" #dt "_reduce_" #name "__" #isa, WE_##DT, 0, 0, 0, exact, WE_ISA_##ISA,     \
     WE_REDUCE_##Name},
#include "kernels/reduce.inc"
#undef WE_REDUCE_KERNEL_ROW
#define WE_MATMUL_KERNEL_ROW(ISA, isa, DT, dt, rows, columns)                                                \
    {"matmul",     #isa, "we_" #dt "_matmul_" #rows "x" #columns "__" #isa, WE_##DT, rows, columns, 1, 0,    \
     WE_ISA_##ISA, 0},
#define WE_SPLIT_MATMUL_KERNEL_ROW(ISA, isa, parts, rows, columns, granule, split, exact)                    \
    {"matmul", #isa, "we_bf16x" #parts "_matmul_" #rows "x" #columns "__" #isa,                              \
     WE_BF16,  rows, columns,                                                                                \
     1,        0,    WE_ISA_##ISA,                                                                           \
     0},
#include "kernels/matmul.inc"
#undef WE_MATMUL_KERNEL_ROW
#undef WE_SPLIT_MATMUL_KERNEL_ROW
#define WE_SPLIT_KERNEL_ROW(ISA, isa, DT, dt)                                                                \
    {"split", #isa, "we_" #dt "_split__" #isa, WE_##DT, 0, 0, 0, 1, WE_ISA_##ISA, 0},                        \
        {"split", #isa, "we_" #dt "_pair__" #isa, WE_##DT, 0, 0, 0, 1, WE_ISA_##ISA, 1},
#include "kernels/split.inc"
#undef WE_SPLIT_KERNEL_ROW
#define WE_DEPTHWISE_KERNEL_ROW(ISA, isa, DT, dt)                                                            \
    {"depthwise", #isa, "we_" #dt "_depthwise__" #isa, WE_##DT, 0, 0, 0, 0, WE_ISA_##ISA, 0},
#include "kernels/depthwise.inc"
#undef WE_DEPTHWISE_KERNEL_ROW
#define WE_GROUPED_KERNEL_ROW(ISA, isa, DT, dt)                                                              \
    {"grouped", #isa, "we_" #dt "_grouped__" #isa, WE_##DT, 0, 0, 0, 0, WE_ISA_##ISA, 0},
#include "kernels/grouped.inc"
#undef WE_GROUPED_KERNEL_ROW
#define WE_PLANE_KERNEL_ROW(ISA, isa, DT, dt)                                                                \
    {"plane", #isa, "we_" #dt "_plane_largest__" #isa, WE_##DT, 0, 0, 0, 0, WE_ISA_##ISA, 0},                \
        {"plane", #isa, "we_" #dt "_plane_mean__" #isa, WE_##DT, 0, 0, 0, 0, WE_ISA_##ISA, 1},               \
        {"plane", #isa, "we_" #dt "_plane_filter__" #isa, WE_##DT, 0, 0, 0, 0, WE_ISA_##ISA, 2},
#include "kernels/plane.inc"
#undef WE_PLANE_KERNEL_ROW
#define WE_WINDOW_KERNEL_ROW(ISA, isa, DT, dt, Name, name)                                                   \
    {"window",        #isa, "we_" #dt "_window_" #name "__" #isa, WE_##DT, 0, 0, 0, 1, WE_ISA_##ISA,         \
     WE_REDUCE_##Name},
#include "kernels/window.inc"
#undef WE_WINDOW_KERNEL_ROW
#define WE_TRANSPOSE_KERNEL_ROW(ISA, isa, DT, dt)                                                            \
    {"transpose", #isa, "we_" #dt "_transpose__" #isa, WE_##DT, 0, 0, 0, 1, WE_ISA_##ISA, 0},
#include "kernels/transpose.inc"
#undef WE_TRANSPOSE_KERNEL_ROW
#define WE_WINOGRAD_KERNEL_ROW(ISA, isa, DT, dt)                                                             \
    {"winograd", #isa, "we_" #dt "_winograd_in__" #isa, WE_##DT, 0, 0, 0, 0, WE_ISA_##ISA, 0},               \
        {"winograd", #isa, "we_" #dt "_winograd_out__" #isa, WE_##DT, 0, 0, 0, 0, WE_ISA_##ISA, 1},
#include "kernels/winograd.inc"
#undef WE_WINOGRAD_KERNEL_ROW
#define WE_SOFTMAX_KERNEL_ROW(ISA, isa, DT, dt)                                                              \
    {"softmax", #isa, "we_" #dt "_softmax__" #isa, WE_##DT, 0, 0, 0, 0, WE_ISA_##ISA, 0},
#include "kernels/softmax.inc"
#undef WE_SOFTMAX_KERNEL_ROW
#define WE_NORM_KERNEL_ROW(ISA, isa, DT, dt)                                                                 \
    {"norm", #isa, "we_" #dt "_norm__" #isa, WE_##DT, 0, 0, 0, 0, WE_ISA_##ISA, 0},
#include "kernels/norm.inc"
#undef WE_NORM_KERNEL_ROW
#define WE_CAST_KERNEL_ROW(ISA, isa, FROM, from, TO, to)                                                     \
    {"cast", #isa, "we_" #from "_cast_" #to "__" #isa, WE_##FROM, 0, 0, 0, 1, WE_ISA_##ISA, WE_##TO},
#include "kernels/cast.inc"
#undef WE_CAST_KERNEL_ROW
#define WE_RESAMPLE_KERNEL_ROW(ISA, isa, DT, dt)                                                             \
    {"resample", #isa, "we_" #dt "_resample__" #isa, WE_##DT, 0, 0, 0, 0, WE_ISA_##ISA, 0},                  \
        {"resample", #isa, "we_" #dt "_mix__" #isa, WE_##DT, 0, 0, 0, 0, WE_ISA_##ISA, 1},                   \
        {"resample", #isa, "we_" #dt "_pick__" #isa, WE_##DT, 0, 0, 0, 1, WE_ISA_##ISA, 2},
#include "kernels/resample.inc"
#undef WE_RESAMPLE_KERNEL_ROW
#define WE_PLACE_KERNEL_ROW(ISA, isa, DT, dt)                                                                \
    {"place", #isa, "we_" #dt "_place__" #isa, WE_##DT, 0, 0, 0, 1, WE_ISA_##ISA, 0},
#include "kernels/place.inc"
#undef WE_PLACE_KERNEL_ROW
#define WE_SELECT_KERNEL_ROW(ISA, isa, DT, dt)                                                               \
    {"select", #isa, "we_" #dt "_select__" #isa, WE_##DT, 0, 0, 0, 1, WE_ISA_##ISA, 0},
#include "kernels/select.inc"
#undef WE_SELECT_KERNEL_ROW
#define WE_ARG_KERNEL_ROW(ISA, isa, DT, dt)                                                                  \
    {"arg", #isa, "we_" #dt "_arg__" #isa, WE_##DT, 0, 0, 0, 1, WE_ISA_##ISA, 0},
#include "kernels/arg.inc"
#undef WE_ARG_KERNEL_ROW
#define WE_GEMV_KERNEL_ROW(ISA, isa, DT, dt, columns)                                                        \
    {"gemv", #isa, "we_" #dt "_gemv_" #columns "__" #isa, WE_##DT, 0, columns, 0, 0, WE_ISA_##ISA, 0},
#include "kernels/gemv.inc"
#undef WE_GEMV_KERNEL_ROW
#define WE_CODED_KERNEL_ROW(ISA, isa, DT, dt, columns)                                                       \
    {                                                                                                        \
        "coded",      #isa, "we_" #dt "_coded_gemv_" #columns "__" #isa, WE_##DT, 0, columns, 1, 0,          \
        WE_ISA_##ISA, 0},                                                                                    \
        {"coded",      #isa, "we_" #dt "_coded_expand_" #columns "__" #isa, WE_##DT, 0, columns, 1, 1,       \
         WE_ISA_##ISA, 1},
#include "kernels/coded.inc"
#undef WE_CODED_KERNEL_ROW
#define WE_DENSE_KERNEL_ROW(ISA, isa, DT, dt, real, rows, columns)                                           \
    {"dense", #isa, "we_" #dt "_dense_dot__" #isa, WE_##DT, 0, 0, 0, 0, WE_ISA_##ISA, 0},                    \
        {"dense", #isa, "we_" #dt "_dense_add__" #isa, WE_##DT, 0, 0, 0, 0, WE_ISA_##ISA, 1},                \
        {"dense", #isa, "we_" #dt "_dense_turn__" #isa, WE_##DT, 0, 0, 0, 0, WE_ISA_##ISA, 2},               \
        {"dense", #isa, "we_" #dt "_dense_tile__" #isa, WE_##DT, rows, columns, 0, 0, WE_ISA_##ISA, 3},
#include "kernels/dense.inc"
#undef WE_DENSE_KERNEL_ROW
#define WE_SORT_KERNEL_ROW(ISA, isa, DT, dt, type)                                                           \
    {"sort", #isa, "we_" #dt "_sort__" #isa, WE_##DT, 0, 0, 0, 1, WE_ISA_##ISA, 0},                          \
        {"sort", #isa, "we_" #dt "_partition__" #isa, WE_##DT, 0, 0, 0, 1, WE_ISA_##ISA, 1},
#include "kernels/sort.inc"
#undef WE_SORT_KERNEL_ROW
#define WE_FFT_KERNEL_ROW(ISA, isa, DT, dt, real)                                                            \
    {"fft", #isa, "we_" #dt "_fft__" #isa, WE_##DT, 0, 0, 0, 0, WE_ISA_##ISA, 0},
#include "kernels/fft.inc"
#undef WE_FFT_KERNEL_ROW
#define WE_IMAGE_KERNEL_ROW(ISA, isa)                                                                        \
    {"image", #isa, "we_image_*__" #isa, WE_U8, 0, 0, 0, 1, WE_ISA_##ISA, 0},
#include "kernels/image.inc"
#undef WE_IMAGE_KERNEL_ROW
#define WE_BYTE_MATMUL_KERNEL_ROW(ISA, isa, rows, columns, signed_rows)                                      \
    {"byte_matmul", #isa, "we_u8_byte_matmul_" #rows "x" #columns "__" #isa, WE_U8, rows, columns, 0, 1,     \
     WE_ISA_##ISA,  0},
#include "kernels/byte_matmul.inc"
#undef WE_BYTE_MATMUL_KERNEL_ROW
#define WE_BYTE_DEPTHWISE_KERNEL_ROW(ISA, isa)                                                               \
    {"byte_depthwise", #isa, "we_u8_byte_depthwise__" #isa, WE_U8, 0, 0, 0, 1, WE_ISA_##ISA, 0},
#include "kernels/byte_depthwise.inc"
#undef WE_BYTE_DEPTHWISE_KERNEL_ROW
#define WE_BYTE_ROWS_KERNEL_ROW(ISA, isa)                                                                    \
    {"byte_rows", #isa, "we_u8_rows_*__" #isa, WE_U8, 0, 0, 0, 1, WE_ISA_##ISA, 0},
#include "kernels/byte_rows.inc"
#undef WE_BYTE_ROWS_KERNEL_ROW
};

size_t we_kernel_count(void) {
    return sizeof KERNELS / sizeof *KERNELS;
}

/* Is a later usable row the same family, dtype and function? (`chosen` holds the function in the static
 * rows.) */
static bool overwritten(size_t index, uint32_t isas) {
    const we_kernel_info *row = &KERNELS[index];
    for (size_t i = index + 1; i < we_kernel_count(); i++) {
        const we_kernel_info *later = &KERNELS[i];
        if (strcmp(later->family, row->family) == 0 && later->dtype == row->dtype &&
            later->chosen == row->chosen && (isas >> later->available & 1))
            return true;
    }
    return false;
}

we_status we_kernel_get(size_t index, we_kernel_info *out, we_error *err) {
    const we_kernels *kernels;
    if (index >= we_kernel_count())
        return we_error_set(err, WE_INVALID_ARGUMENT, "there is no kernel %zu; the last is %zu", index,
                            we_kernel_count() - 1);
    WE_TRY(we_kernels_get(&kernels, err));
    *out = KERNELS[index];
    out->available = kernels->isas >> KERNELS[index].available & 1;
    out->chosen = out->available && (out->packed || !overwritten(index, kernels->isas));
    return WE_OK;
}
