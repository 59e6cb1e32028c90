/* Rules that fill a table: windows, the mel filter bank, the grid of an affine map. */
#include <math.h>

#include "base/dtype.h"
#include "geometry/lower.h"

static const double PI = 3.14159265358979323846;

/* Store an F64 constant in the type of output 0. */
static void store_table(we_lower *l, int32_t table) {
    we_emit_cast(l, table, WE_DTYPE_COUNT, l->out[0]);
}

/* first - second * cos(2 pi n / N) + third * cos(4 pi n / N) */
static void window(we_lower *l, double first, double second, double third) {
    we_tensor out = we_lower_tensor(l, l->out[0]);
    bool periodic = we_node_int(l->call.node, "periodic", 1) != 0;
    double *values, period = (double)(periodic || out.count < 2 ? out.count : out.count - 1);
    int32_t table = we_lower_constant(l, WE_F64, 1, out.dims, (void **)&values);
    for (int64_t n = 0; values && n < out.count; n++) {
        double angle = 2 * PI * (double)n / period;
        values[n] = first - second * cos(angle) + third * cos(2 * angle);
    }
    store_table(l, table);
}

void we_rule_hann_window(we_lower *l) {
    window(l, 0.5, 0.5, 0);
}

void we_rule_hamming_window(we_lower *l) {
    window(l, 25.0 / 46, 21.0 / 46, 0);
}

void we_rule_blackman_window(we_lower *l) {
    window(l, 0.42, 0.5, 0.08);
}

static double mel_of(double hertz) {
    return 2595 * log10(1 + hertz / 700);
}

/* The spectrogram bin of edge i of `bands` + 2 edges evenly spaced in mel, kept within the bins there are. */
static int64_t edge_bin(const double *p, int64_t i, int64_t bins) {
    double bands = p[0], length = p[1], rate = p[2], low = mel_of(p[3]), high = mel_of(p[4]);
    double hertz = 700 * (pow(10, (low + (double)i * (high - low) / (bands + 2)) / 2595) - 1);
    double bin = floor((length + 1) * hertz / rate);
    if (!(bin > 0)) /* NaN too: an edge may be infinite */
        return 0;
    return bin > (double)(bins - 1) ? bins - 1 : (int64_t)bin;
}

/* One triangle per column: up from edge i to edge i + 1, down to edge i + 2.
 * Source: ONNX operator specification, MelWeightMatrix. */
void we_rule_mel_weight_matrix(we_lower *l) {
    we_tensor out = we_lower_tensor(l, l->out[0]);
    double *values, p[5];
    for (int32_t i = 0; i < 5; i++)
        p[i] = we_tensor_number(l->call.in[i], 0);
    int32_t table = we_lower_constant(l, WE_F64, 2, out.dims, (void **)&values);
    int64_t bins = out.dims[0], bands = out.dims[1];
    for (int64_t i = 0; values && i < out.count; i++)
        values[i] = 0;
    for (int64_t band = 0; values && band < bands; band++) {
        int64_t low = edge_bin(p, band, bins), middle = edge_bin(p, band + 1, bins);
        int64_t high = edge_bin(p, band + 2, bins);
        for (int64_t j = low; j < middle; j++)
            values[j * bands + band] = (double)(j - low) / (double)(middle - low);
        values[middle * bands + band] = 1;
        for (int64_t j = middle + 1; j < high; j++)
            values[j * bands + band] = (double)(high - j) / (double)(high - middle);
    }
    store_table(l, table);
}

/* Position i of n between -1 and 1: centres of the outer pixels, or their edges. */
static double grid_position(int64_t i, int64_t n, bool align_corners) {
    if (align_corners)
        return n > 1 ? -1 + 2 * (double)i / (double)(n - 1) : 0;
    return -1 + (2 * (double)i + 1) / (double)n;
}

/* grid[n, p, :] = theta[n] * (x, y[, z], 1) of position p */
void we_rule_affine_grid(we_lower *l) {
    const we_tensor *theta = l->call.in[0];
    we_tensor out = we_lower_tensor(l, l->out[0]);
    bool align = we_node_int(l->call.node, "align_corners", 0) != 0;
    int32_t rank = out.rank - 2;
    int64_t positions = 1, width = rank + 1;
    for (int32_t i = 0; i < rank; i++)
        positions *= out.dims[1 + i];
    double *values;
    int32_t table = we_lower_constant(l, WE_F64, 2, (int64_t[2]){positions, width}, (void **)&values);
    for (int64_t p = 0; values && p < positions; p++) {
        int64_t rest = p;
        for (int32_t i = 0; i < rank; i++) { /* the innermost dim is x */
            int64_t n = out.dims[rank - i];
            values[p * width + i] = grid_position(rest % n, n, align);
            rest /= n;
        }
        values[p * width + rank] = 1;
    }
    if (theta->dtype != WE_F64)
        table = we_emit_cast(l, table, theta->dtype, WE_NEW);
    we_matmul p = {.m = positions, .n = rank, .k = width, .batch_rank = 1};
    p.batch[0] = out.dims[0];
    p.a_row = width;
    p.a_column = 1;
    p.b_row = 1;
    p.b_column = width;
    p.b_batch[0] = rank * width;
    we_emit_matmul(l, table, l->in[0], &p, out.rank, out.dims, l->out[0]);
}
