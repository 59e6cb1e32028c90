/* Rules of matrix products. */
#include <string.h>

#include "geometry/lower.h"

/* Steps of the batch dims of x inside an output batch of `rank` dims; 0 where x repeats. */
static void batch_steps(const we_tensor *x, int32_t rank, int64_t *steps) {
    int32_t own = x->rank > 2 ? x->rank - 2 : 0;
    int64_t reached = x->rank >= 2 ? x->dims[x->rank - 1] * x->dims[x->rank - 2] : x->count;
    for (int32_t i = 1; i <= rank; i++) {
        int64_t dim = i <= own ? x->dims[own - i] : 1;
        steps[rank - i] = dim == 1 ? 0 : reached;
        reached *= dim;
    }
}

int32_t we_emit_product(we_lower *l, int32_t left, int32_t right, int32_t into) {
    we_tensor a = we_lower_tensor(l, left), b = we_lower_tensor(l, right), out = we_lower_tensor(l, into);
    if (l->status != WE_OK)
        return into;
    we_matmul p = {.m = a.rank > 1 ? a.dims[a.rank - 2] : 1,
                   .k = a.dims[a.rank - 1],
                   .n = b.rank > 1 ? b.dims[b.rank - 1] : 1};
    p.a_row = p.k;
    p.a_column = 1;
    p.b_row = p.n;
    p.b_column = 1;
    p.batch_rank = out.rank - (a.rank > 1) - (b.rank > 1);
    memcpy(p.batch, out.dims, sizeof p.batch);
    batch_steps(&a, p.batch_rank, p.a_batch);
    batch_steps(&b, p.batch_rank, p.b_batch);
    /* Many left matrices against one right matrix are one tall left matrix. */
    bool shared = true;
    for (int32_t i = 0; i < p.batch_rank; i++)
        shared = shared && (p.b_batch[i] == 0) && (p.a_batch[i] != 0 || p.batch[i] == 1);
    for (int32_t i = 0; shared && i < p.batch_rank; i++)
        p.m *= p.batch[i];
    p.batch_rank = shared ? 0 : p.batch_rank;
    return we_emit_matmul(l, left, right, &p, out.rank, out.dims, into);
}

void we_rule_matmul(we_lower *l) {
    we_emit_product(l, l->in[0], l->in[1], l->out[0]);
}

void we_rule_gemm(we_lower *l) {
    const we_node *node = l->call.node;
    const we_tensor *a = l->call.in[0], *b = l->call.in[1];
    we_tensor out = we_lower_tensor(l, l->out[0]);
    bool ta = we_node_int(node, "transA", 0), tb = we_node_int(node, "transB", 0);
    double alpha = we_node_float(node, "alpha", 1), beta = we_node_float(node, "beta", 1);
    bool added = we_call_input(&l->call, 2) && beta != 0;
    we_matmul p = {.m = out.dims[0], .n = out.dims[1], .k = a->dims[!ta]};
    p.a_row = ta ? 1 : a->dims[1];
    p.a_column = ta ? a->dims[1] : 1;
    p.b_row = tb ? 1 : b->dims[1];
    p.b_column = tb ? b->dims[1] : 1;
    int32_t product =
        we_emit_matmul(l, l->in[0], l->in[1], &p, 2, out.dims, alpha == 1 && !added ? l->out[0] : WE_NEW);
    if (alpha != 1)
        product = we_emit_binary(l, WE_BINARY_Mul, product, we_lower_scalar(l, out.dtype, alpha),
                                 added ? WE_NEW : l->out[0]);
    if (!added)
        return;
    int32_t bias = l->in[2];
    if (beta != 1)
        bias = we_emit_binary(l, WE_BINARY_Mul, bias, we_lower_scalar(l, out.dtype, beta), WE_NEW);
    we_emit_binary(l, WE_BINARY_Add, product, bias, l->out[0]);
}
