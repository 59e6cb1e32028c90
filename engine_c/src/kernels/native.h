/* Kernels for what no region and no atomic operator expresses: reads at places that data decides, and
 * elimination. One sees whole tensors and makes a range of independent items of the result. */
#ifndef WE_KERNELS_NATIVE_H
#define WE_KERNELS_NATIVE_H

#include <stdbool.h>

#include <walle/engine.h>

typedef struct we_native {
    const char *name;
    /* Make items [begin, end). Returns NULL, or what is wrong with the inputs. in[i] is NULL where omitted.
     */
    const char *(*run)(const void *parameters, const void *const *in, void *out, int64_t begin, int64_t end);
} we_native;

/* How positions between and outside the elements of a plane are read. */
typedef enum we_sample_mode { WE_SAMPLE_NEAREST, WE_SAMPLE_LINEAR, WE_SAMPLE_CUBIC } we_sample_mode;
typedef enum we_sample_padding { WE_PAD_ZEROS, WE_PAD_BORDER, WE_PAD_REFLECTION } we_sample_padding;

/* in: x [N, C, size...], grid [N, positions, rank] of coordinates in [-1, 1], the innermost dim first.
 * out: [N, C, positions]. Item: one position of one n. F32, or F64 where `wide`. */
typedef struct we_grid_sample {
    bool wide, align_corners;
    we_sample_mode mode;
    we_sample_padding padding;
    int32_t rank; /* 1 to 3 */
    int64_t channels, positions, size[3];
} we_grid_sample;
extern const we_native we_native_grid_sample;

/* in: x [N, C, size...], offsets [N, groups, taps, rank, positions], mask [N, groups, taps, positions] or
 * NULL. out: columns [N, C, taps, positions] of what each tap sees, linearly interpolated, zero outside.
 * Item: one tap of one group of one n. */
typedef struct we_deform {
    bool wide;
    int32_t rank;
    int64_t channels, groups, taps, positions;
    int64_t size[3], kernel[3], stride[3], dilation[3], pad[3], out[3];
} we_deform;
extern const we_native we_native_deform;

/* in: x [N, C, height, width], rois [R, 4] as x1, y1, x2, y2, batch indices [R] (I64).
 * out: [R, C, out_height, out_width]. Item: one channel of one region. */
typedef struct we_roi_align {
    bool wide, half_pixel, largest;
    int64_t batch, channels, height, width, out_height, out_width, ratio; /* 0: as many samples as pixels */
    double scale;
} we_roi_align;
extern const we_native we_native_roi_align;

/* in: F64 [items, n, n]. out: the same, eliminated to upper triangles of the same determinants. */
typedef struct we_eliminate {
    int64_t n;
} we_eliminate;
extern const we_native we_native_eliminate;

/* A node of a decision tree. Leaves are nodes too, behind the others, and their own children, so that a walk
 * may take a step too many. */
typedef struct we_tree_node {
    double split;         /* WE_TREE_MEMBER: where its set begins */
    uint32_t feature;     /* below WE_TREE_FEATURES */
    uint8_t mode;         /* we_tree_mode */
    uint8_t missing_true; /* where NaN leads: 1 to the true branch, 0 to where the comparison says */
    int32_t child[2];     /* if the comparison holds, and if not */
} we_tree_node;

/* x compared with the split; ONNX's numbers. */
typedef enum we_tree_mode {
    WE_TREE_LEQ,
    WE_TREE_LT,
    WE_TREE_GTE,
    WE_TREE_GT,
    WE_TREE_EQ,
    WE_TREE_NEQ,
    WE_TREE_MEMBER,
    WE_TREE_MODES,
} we_tree_mode;

/* What a leaf adds to the result. */
typedef struct we_tree_vote {
    int32_t target;
    double weight;
} we_tree_vote;

/* How the votes for a target become one; ONNX's numbers. */
typedef enum we_tree_aggregate {
    WE_TREE_AVERAGE,
    WE_TREE_SUM,
    WE_TREE_MIN,
    WE_TREE_MAX,
    WE_TREE_AGGREGATES,
} we_tree_aggregate;

/* in: x [N, features]. out: F64 [N, targets]. Item: one row. A target without a vote is 0. Nodes below
 * `inner` compare, node inner + i is leaf i, whose votes are first_vote[i] .. first_vote[i + 1]. */
typedef struct we_trees {
    bool wide;       /* x is F64, not F32 */
    bool less_equal; /* all comparisons are WE_TREE_LEQ and NaN goes where they say */
    we_tree_aggregate aggregate;
    int32_t inner;
    int64_t features, targets, trees;
    const we_tree_node *nodes;
    const int32_t *roots, *first_vote;
    const we_tree_vote *votes;
    const double *members; /* sets, each ended by NaN */
} we_trees;
extern const we_native we_native_trees;

/* ---- Shared by the sampling kernels ---- */

static inline double we_sample_load(const void *x, bool wide, int64_t i) {
    return wide ? ((const double *)x)[i] : (double)((const float *)x)[i];
}

static inline void we_sample_store(void *y, bool wide, int64_t i, double value) {
    if (wide)
        ((double *)y)[i] = value;
    else
        ((float *)y)[i] = (float)value;
}

enum {
    WE_SAMPLE_TAPS = 4, /* per dim at most */
};

/* The elements one position reads along one dim: indices into it and weights, 0 where outside. */
typedef struct we_sample_line {
    int32_t count;
    int64_t at[WE_SAMPLE_TAPS];
    double weight[WE_SAMPLE_TAPS];
} we_sample_line;

/* What position x of a dim of n elements reads; `low` and `high` are where reflection turns. */
void we_sample_line_at(we_sample_mode mode, we_sample_padding padding, double x, int64_t n, double low,
                       double high, we_sample_line *out);

/* The weighted sum over the product of `rank` lines into a plane of that size. */
double we_sample_plane(const void *plane, bool wide, int32_t rank, const int64_t *size,
                       const we_sample_line *lines);

#endif
