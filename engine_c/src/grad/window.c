/* The gradient of a convolution that runs as a whole, in operators that may do so as well: of the image it is
 * the transposed convolution by the same weights, of the weights a sum over all positions of what each tap
 * saw there times the gradient. */
#include <string.h>

#include "grad/grad.h"

/* What the operators of the way back have in common with the convolution. */
typedef struct attributes {
    we_window w;
    int64_t pads[2 * WE_MAX_SPATIAL], extra[WE_MAX_SPATIAL];
    we_attr list[6];
    size_t count;
} attributes;

static void add_ints(attributes *a, const char *name, const int64_t *values, int32_t count) {
    a->list[a->count++] =
        (we_attr){.name = name, .kind = WE_ATTR_INTS, .integers = values, .count = (size_t)count};
}

/* Of this very place: the list points into it. */
static void fill(attributes *a) {
    const int32_t rank = a->w.rank;
    for (int32_t i = 0; i < rank; i++) { /* a window that was rounded up to ends past the border */
        int64_t reach = (a->w.kernel[i] - 1) * a->w.dilation[i] + 1;
        int64_t end = a->w.stride[i] * (a->w.out[i] - 1) + reach - a->w.in[i] - a->w.pad_begin[i];
        a->w.pad_end[i] = end > a->w.pad_end[i] ? end : a->w.pad_end[i];
    }
    memcpy(a->pads, a->w.pad_begin, (size_t)rank * sizeof *a->pads);
    memcpy(a->pads + rank, a->w.pad_end, (size_t)rank * sizeof *a->pads);
    add_ints(a, "kernel_shape", a->w.kernel, rank);
    add_ints(a, "strides", a->w.stride, rank);
    add_ints(a, "dilations", a->w.dilation, rank);
    add_ints(a, "pads", a->pads, 2 * rank);
}

/* [N, spatial..., C] from [N, C, spatial...], or the other way round. */
static int32_t turned(we_lower *l, int32_t x, bool to_last) {
    const int32_t rank = we_lower_tensor(l, x).rank;
    int32_t perm[WE_MAX_RANK] = {0};
    for (int32_t i = 1; i < rank; i++)
        perm[i] = to_last ? (i + 1 < rank ? i + 1 : 1) : (i == 1 ? rank - 1 : i - 1);
    return we_emit_transpose(l, x, perm, WE_NEW);
}

/* The image channels first, and part of its gradient as the command reads it. */
static int32_t image_of(we_lower *l, const we_command *command) {
    bool last = command->u.claim.channels > 0 && !command->u.claim.plain;
    return last ? turned(l, command->in[0], false) : command->in[0];
}

static void add_to_image(we_gradients *g, const we_command *command, int32_t part) {
    bool last = command->u.claim.channels > 0 && !command->u.claim.plain;
    we_grad_add(g, command->in[0], last ? turned(g->l, part, true) : part);
}

/* Result or gradient channels first. */
static int32_t result_of(we_lower *l, const we_command *command, int32_t like_result) {
    return command->u.claim.channels > 0 ? turned(l, like_result, false) : like_result;
}

/* ---- Convolutions: of the image it is the transposed convolution by the same weights, of the weights a sum
 * over all positions of what each tap saw there times the gradient ---- */

/* Of the image: positions past the last window, which a step left out, get zeros. */
static void add_of_image(we_gradients *g, const we_command *command, attributes *a, const we_tensor *image,
                         int32_t weights, int32_t of_out) {
    we_lower *l = g->l;
    const we_window *w = &a->w;
    for (int32_t i = 0; i < w->rank; i++) {
        int64_t reach = (w->kernel[i] - 1) * w->dilation[i] + 1;
        a->extra[i] = w->in[i] + w->pad_begin[i] + w->pad_end[i] - reach - w->stride[i] * (w->out[i] - 1);
    }
    add_ints(a, "output_padding", a->extra, w->rank);
    int32_t part = we_lower_temp(l, image->dtype, image->rank, image->dims);
    we_emit_node(l, WE_OP_ConvTranspose, a->list, a->count, (int32_t[]){of_out, weights}, 2, part);
    add_to_image(g, command, part);
}

static void add_of_weights(we_gradients *g, const attributes *a, int32_t image, int32_t weights,
                           int32_t of_out) {
    we_tensor like = we_lower_tensor(g->l, weights);
    int32_t part = we_lower_temp(g->l, like.dtype, like.rank, like.dims);
    we_emit_node(g->l, WE_OP_ConvFilterGradient, a->list, a->count, (int32_t[]){image, of_out}, 2, part);
    we_grad_add(g, weights, part);
}

void we_grad_conv(we_gradients *g, const we_command *command, int32_t of_out) {
    we_lower *l = g->l;
    const we_node *node = &l->call.graph->nodes[command->node];
    const int32_t weights = command->u.claim.ports->in[1], bias = command->u.claim.ports->in[2];
    const int32_t image = image_of(l, command), slope = result_of(l, command, of_out);
    const we_tensor x = we_lower_tensor(l, image), filters = we_lower_tensor(l, weights);
    const we_call call = {l->call.graph, node, (const we_tensor *const[]){&x, &filters, NULL}, l->call.err};
    attributes a = {.count = 0};
    if (l->status == WE_OK)
        l->status = we_call_window(&call, filters.dims + 2, &a.w);
    if (l->status != WE_OK)
        return;
    fill(&a);
    a.list[a.count++] =
        (we_attr){.name = "group", .kind = WE_ATTR_INT, .integer = we_node_int(node, "group", 1)};
    if (we_grad_wants(g, weights))
        add_of_weights(g, &a, image, weights, slope);
    if (we_grad_wants(g, bias)) {
        bool reduced[WE_MAX_RANK];
        for (int32_t i = 0; i < WE_MAX_RANK; i++)
            reduced[i] = i != 1 && i < x.rank;
        we_grad_add(g, bias, we_emit_reduce(l, WE_REDUCE_Sum, slope, reduced, WE_NEW));
    }
    if (we_grad_wants(g, command->in[0])) /* with an attribute more than the others */
        add_of_image(g, command, &a, &x, weights, slope);
}

/* ---- Pools ---- */

void we_grad_max_pool(we_gradients *g, const we_command *command, int32_t of_out) {
    we_lower *l = g->l;
    const we_node *node = &l->call.graph->nodes[command->node];
    const int32_t image = image_of(l, command);
    const int32_t in[3] = {image, result_of(l, command, command->out), result_of(l, command, of_out)};
    const we_tensor x = we_lower_tensor(l, image);
    const we_call call = {l->call.graph, node, (const we_tensor *const[]){&x}, l->call.err};
    attributes a = {.count = 0};
    if (l->status == WE_OK)
        l->status = we_call_window(&call, NULL, &a.w);
    if (l->status != WE_OK)
        return;
    fill(&a);
    int32_t part = we_lower_temp(l, x.dtype, x.rank, x.dims);
    we_emit_node(l, WE_OP_MaxPoolGradient, a.list, a.count, in, 3, part);
    add_to_image(g, command, part);
}
