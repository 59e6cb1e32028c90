/* Gradients of products: with out = A B, of A it is G B^T, of B it is A^T G. What an operand repeats over
 * (the batch, for the weight of a convolution) is summed: it joins what the product sums over anyway. */
#include <string.h>

#include "grad/grad.h"

/* A batch of matrices somewhere in a tensor: element (b, row, column) lies at the sum of the steps. */
typedef struct matrices {
    int32_t tensor;
    int64_t rows, columns, row, column; /* sizes and steps */
    int64_t batch[WE_MAX_RANK];
} matrices;

static matrices transposed(matrices m) {
    matrices t = m;
    t.rows = m.columns;
    t.columns = m.rows;
    t.row = m.column;
    t.column = m.row;
    return t;
}

/* Which batch dims the sum takes. */
typedef struct batches {
    int32_t rank;
    int64_t size[WE_MAX_RANK];
    bool summed[WE_MAX_RANK];
    int64_t kept_count, summed_count;
} batches;

static batches batches_of(const we_matmul *p, const int64_t *steps) {
    batches b = {.rank = p->batch_rank, .kept_count = 1, .summed_count = 1};
    for (int32_t i = 0; i < b.rank; i++) {
        b.size[i] = p->batch[i];
        b.summed[i] = steps[i] == 0;
        *(b.summed[i] ? &b.summed_count : &b.kept_count) *= p->batch[i];
    }
    return b;
}

/* The matrices in order, [kept, rows, summed, columns] where the columns are summed over, else
 * [kept, summed, rows, columns]: with the summed batch dims as part of the rows or columns. */
static matrices line_up(we_lower *l, const batches *b, const matrices *m, bool columns) {
    we_box box = {.rank = 0};
    we_raster raster = {0};
    int64_t dims[3] = {b->kept_count, columns ? m->rows : b->summed_count * m->rows,
                       columns ? b->summed_count * m->columns : m->columns};
    for (int32_t pass = 0; pass < 2; pass++) {
        if (pass == 1 && columns) {
            box.size[box.rank] = m->rows;
            box.src_stride[box.rank++] = m->row;
        }
        for (int32_t i = 0; i < b->rank; i++) {
            if (b->summed[i] != (pass == 1))
                continue;
            box.size[box.rank] = b->size[i];
            box.src_stride[box.rank++] = m->batch[i];
        }
    }
    if (!columns) {
        box.size[box.rank] = m->rows;
        box.src_stride[box.rank++] = m->row;
    }
    box.size[box.rank] = m->columns;
    box.src_stride[box.rank++] = m->column;
    we_strides(box.rank, box.size, box.dst_stride);
    int32_t lined_up = we_lower_temp(l, we_lower_tensor(l, m->tensor).dtype, 3, dims);
    we_raster_add(l, &raster, m->tensor, &box);
    we_emit_raster(l, &raster, lined_up);
    return (matrices){.tensor = lined_up, .rows = dims[1], .columns = dims[2], .row = dims[2], .column = 1};
}

static we_matmul product_of(const matrices *left, const matrices *right) {
    return (we_matmul){.m = left->rows,
                       .n = right->columns,
                       .k = left->columns,
                       .a_row = left->row,
                       .a_column = left->column,
                       .b_row = right->row,
                       .b_column = right->column};
}

/* What is kept of the batch, then rows and columns, one behind the other. */
static matrices dense(const batches *b, int32_t tensor, int64_t rows, int64_t columns) {
    matrices m = {tensor, rows, columns, columns, 1, {0}};
    int64_t reached = rows * columns;
    for (int32_t i = b->rank; i-- > 0;) {
        if (b->summed[i])
            continue;
        m.batch[i] = reached;
        reached *= b->size[i];
    }
    return m;
}

/* Both operands in order, so that the sum over the batch is one over longer columns. */
static matrices product_in_order(we_lower *l, const batches *b, const matrices *given_left,
                                 const matrices *given_right) {
    matrices left = line_up(l, b, given_left, true), right = line_up(l, b, given_right, false);
    we_matmul p = product_of(&left, &right);
    int64_t dims[3] = {b->kept_count, p.m, p.n};
    p.batch_rank = 1;
    p.batch[0] = b->kept_count;
    p.a_batch[0] = p.m * p.k;
    p.b_batch[0] = p.k * p.n;
    return dense(b, we_emit_matmul(l, left.tensor, right.tensor, &p, 3, dims, WE_NEW), p.m, p.n);
}

/* A product for each of the batch, then their sum. */
static matrices sum_of_products(we_lower *l, const batches *b, const matrices *left, const matrices *right) {
    we_matmul p = product_of(left, right);
    bool summed[WE_MAX_RANK] = {false};
    int64_t dims[WE_MAX_RANK];
    for (int32_t i = 0; i < b->rank; i++) {
        if (b->size[i] == 1)
            continue;
        summed[p.batch_rank] = b->summed[i];
        dims[p.batch_rank] = p.batch[p.batch_rank] = b->size[i];
        p.a_batch[p.batch_rank] = left->batch[i];
        p.b_batch[p.batch_rank++] = right->batch[i];
    }
    if (p.batch_rank + 2 > WE_MAX_RANK) {
        we_lower_fail(l, WE_INVALID_MODEL, "a product of so many dims has no gradient");
        return *left;
    }
    dims[p.batch_rank] = p.m;
    dims[p.batch_rank + 1] = p.n;
    int32_t products = we_emit_matmul(l, left->tensor, right->tensor, &p, p.batch_rank + 2, dims, WE_NEW);
    if (b->summed_count > 1)
        products = we_emit_reduce(l, WE_REDUCE_Sum, products, summed, WE_NEW);
    return dense(b, products, p.m, p.n);
}

/* Do the matrices on the right of one on the left move fewer elements beside one another, once in and once
 * out, than that one has for each of them? */
static bool pays_side_by_side(const batches *b, const matrices *left, const matrices *right) {
    int64_t beside = 1;
    for (int32_t i = 0; i < b->rank; i++)
        beside *= left->batch[i] == 0 ? b->size[i] : 1;
    return b->summed_count == 1 && beside > 1 && 2 * right->columns < left->rows &&
           b->rank + 2 <= WE_MAX_RANK;
}

static void add_dim(we_box *box, int64_t size, int64_t stride) {
    box->size[box->rank] = size;
    box->src_stride[box->rank++] = stride;
}

/* Batch dims along which the left is the same are dims of the columns: [others, rows, those, columns]. */
static matrices product_side_by_side(we_lower *l, const batches *b, const matrices *left,
                                     const matrices *right) {
    we_box box = {.rank = 0};
    we_raster raster = {0};
    int32_t place[WE_MAX_RANK];
    for (int32_t i = 0; i < b->rank; i++) {
        place[i] = box.rank;
        if (left->batch[i] != 0)
            add_dim(&box, b->size[i], right->batch[i]);
    }
    int32_t row = box.rank;
    add_dim(&box, right->rows, right->row);
    for (int32_t i = 0; i < b->rank; i++) {
        if (left->batch[i] != 0)
            continue;
        place[i] = box.rank;
        add_dim(&box, b->size[i], right->batch[i]);
    }
    add_dim(&box, right->columns, right->column);
    we_strides(box.rank, box.size, box.dst_stride);
    int32_t lined_up = we_lower_temp(l, we_lower_tensor(l, right->tensor).dtype, box.rank, box.size);
    we_raster_add(l, &raster, right->tensor, &box);
    we_emit_raster(l, &raster, lined_up);

    we_matmul p = product_of(left, right);
    p.b_row = p.n = box.dst_stride[row];
    p.b_column = 1;
    for (int32_t i = 0; i < b->rank; i++) {
        if (left->batch[i] == 0)
            continue;
        p.batch[p.batch_rank] = b->size[i];
        p.a_batch[p.batch_rank] = left->batch[i];
        p.b_batch[p.batch_rank++] = box.dst_stride[place[i]];
    }
    int64_t strides[WE_MAX_RANK];
    box.size[row] = left->rows;
    we_strides(box.rank, box.size, strides);
    matrices m = {.rows = left->rows, .columns = right->columns, .row = strides[row], .column = 1};
    m.tensor = we_emit_matmul(l, left->tensor, lined_up, &p, box.rank, box.size, WE_NEW);
    for (int32_t i = 0; i < b->rank; i++)
        m.batch[i] = strides[place[i]];
    return m;
}

/* The sum over the batch dims that are to be summed of left times right; in the way that moves fewer
 * elements. */
static matrices product(we_lower *l, const batches *b, const matrices *left, const matrices *right) {
    if (pays_side_by_side(b, left, right))
        return product_side_by_side(l, b, left, right);
    double operands = (double)left->columns * (double)(left->rows + right->columns);
    double results = (double)left->rows * (double)right->columns;
    return b->summed_count > 1 && operands < results ? product_in_order(l, b, left, right)
                                                     : sum_of_products(l, b, left, right);
}

/* Add left times right to the gradient of what lies as `at` says. */
static void add_product(we_gradients *g, const we_matmul *p, matrices at, int32_t operand, matrices left,
                        matrices right) {
    we_lower *l = g->l;
    batches b = batches_of(p, at.batch);
    if (at.row < at.column) { /* in the order it lies */
        matrices first = transposed(right);
        right = transposed(left);
        left = first;
        at = transposed(at);
    }
    matrices made = product(l, &b, &left, &right);
    we_region region = {.source = made.tensor};
    for (int32_t i = 0; i < b.rank; i++) {
        if (b.summed[i])
            continue;
        region.size[region.rank] = b.size[i];
        region.src.stride[region.rank] = made.batch[i];
        region.dst.stride[region.rank++] = at.batch[i];
    }
    if (region.rank + 2 > WE_MAX_RANK) {
        we_lower_fail(l, WE_INVALID_MODEL, "a product of so many dims has no gradient");
        return;
    }
    region.size[region.rank] = at.rows;
    region.src.stride[region.rank] = made.row;
    region.dst.stride[region.rank++] = at.row;
    region.size[region.rank] = at.columns;
    region.src.stride[region.rank] = made.column;
    region.dst.stride[region.rank++] = at.column;
    we_tensor like = we_lower_tensor(l, operand);
    if (l->status == WE_OK)
        we_grad_add(g, operand, we_grad_scatter(l, &region, 1, &like));
}

/* An operand where it lies. */
static matrices operand(int64_t rows, int64_t columns, int64_t row, int64_t column, const int64_t *batch) {
    matrices m = {-1, rows, columns, row, column, {0}};
    memcpy(m.batch, batch, sizeof m.batch);
    return m;
}

void we_grad_matmul(we_gradients *g, const we_command *command, int32_t of_out) {
    const we_matmul *p = &command->u.matmul;
    matrices a = operand(p->m, p->k, p->a_row, p->a_column, p->a_batch);
    matrices b = operand(p->k, p->n, p->b_row, p->b_column, p->b_batch);
    matrices out = {of_out, p->m, p->n, p->n, 1, {0}};
    int64_t reached = p->m * p->n;
    for (int32_t i = p->batch_rank; i-- > 0; reached *= p->batch[i])
        out.batch[i] = reached;
    if (p->k == 0 || we_lower_tensor(g->l, of_out).count == 0)
        return;
    if (we_grad_wants(g, command->in[0])) {
        b.tensor = we_grad_read(g, command, 1);
        add_product(g, p, a, command->in[0], out, transposed(b));
    }
    if (we_grad_wants(g, command->in[1])) {
        a.tensor = we_grad_read(g, command, 0);
        add_product(g, p, b, command->in[1], transposed(a), out);
    }
}
