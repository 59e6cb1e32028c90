/* Reading through a raster without moving anything: an operand of a product or of an element-wise command is
 * walked by steps, so where a raster only permutes, repeats or picks, other steps through its source do. */
#include <string.h>

#include "base/error.h"
#include "raster/program.h"

enum {
    SHORTEST_RUN = 8, /* elements an element-wise kernel should get at once */
};

/* The loop dims of a command in row-major order, and each operand's step along them. */
typedef struct grid {
    int32_t rank, operands;
    int64_t size[WE_BOX_RANK], step[3][WE_BOX_RANK];
    int32_t from[WE_BOX_RANK]; /* the command's own dim each is a part of */
} grid;

static we_walk *walk_of(we_command *command) {
    return command->kind == WE_COMMAND_BINARY ? &command->u.binary.walk : &command->u.select;
}

static void add_dim(grid *g, int32_t from, int64_t size, const int64_t *steps) {
    g->size[g->rank] = size;
    g->from[g->rank] = from;
    for (int32_t n = 0; n < g->operands; n++)
        g->step[n][g->rank] = steps[n];
    g->rank++;
}

/* Of a product: the batch, then rows and columns of the operand asked for. */
static void grid_of(we_command *command, int32_t operand, grid *g) {
    g->rank = 0;
    if (command->kind != WE_COMMAND_MATMUL) {
        const we_walk *walk = walk_of(command);
        g->operands = command->kind == WE_COMMAND_BINARY ? 2 : 3;
        for (int32_t i = 0; i < walk->rank; i++)
            add_dim(g, i, walk->size[i], (int64_t[]){walk->step[0][i], walk->step[1][i], walk->step[2][i]});
        return;
    }
    const we_matmul *p = &command->u.matmul;
    g->operands = 2;
    for (int32_t i = 0; i < p->batch_rank; i++)
        add_dim(g, i, p->batch[i], (int64_t[]){p->a_batch[i], p->b_batch[i]});
    int64_t row = operand ? p->b_row : p->a_row, column = operand ? p->b_column : p->a_column;
    add_dim(g, p->batch_rank, operand ? p->k : p->m, (int64_t[]){row, row});
    add_dim(g, p->batch_rank + 1, operand ? p->n : p->k, (int64_t[]){column, column});
}

static bool is_row_major(const we_region *region) {
    int64_t dense = 1;
    for (int32_t i = region->rank; i-- > 0;) {
        if (region->dst.stride[i] != dense)
            return false;
        dense *= region->size[i];
    }
    return region->dst.offset == 0;
}

/* Cut the dims of the grid and of the region, which cover the same elements in order, into common ones, with
 * the region's strides for the operand. False where one does not divide the other. */
static bool refine(const grid *g, int32_t operand, const we_region *region, grid *out) {
    int32_t i = g->rank - 1, j = region->rank - 1;
    int64_t done = 1, region_done = 1;       /* of dim i and of dim j */
    grid turned = {.operands = g->operands}; /* innermost first */
    while (i >= 0) {
        int64_t left = g->size[i] / done, region_left = j >= 0 ? region->size[j] / region_done : 1;
        int64_t part = left == 1 || region_left == 1 || left < region_left ? left : region_left;
        if (left > 1 && region_left == 1 && j >= 0) { /* the region's dim is used up */
            j--;
            region_done = 1;
            continue;
        }
        if ((left > 1 && j < 0) || left % part || (part > 1 && region_left % part) ||
            turned.rank == WE_BOX_RANK)
            return false;
        int64_t steps[3];
        for (int32_t n = 0; n < g->operands; n++)
            steps[n] = n != operand ? g->step[n][i] * done
                       : part > 1   ? region->src.stride[j] * region_done
                                    : 0;
        add_dim(&turned, g->from[i], part, steps);
        done *= part;
        region_done *= part;
        if (done == g->size[i]) {
            i--;
            done = 1;
        }
    }
    *out = (grid){.operands = g->operands};
    for (int32_t k = turned.rank; k-- > 0;)
        add_dim(out, turned.from[k], turned.size[k],
                (int64_t[]){turned.step[0][k], turned.step[1][k], turned.step[2][k]});
    return true;
}

static bool apply_to_walk(const grid *g, int32_t operand, we_walk *walk) {
    we_walk joined = {0};
    for (int32_t i = 0; i < g->rank; i++) {
        bool fits = joined.rank > 0;
        if (g->size[i] == 1)
            continue;
        for (int32_t n = 0; n < g->operands && fits; n++)
            fits = joined.step[n][joined.rank - 1] == g->step[n][i] * g->size[i];
        if (!fits && joined.rank == WE_MAX_RANK)
            return false;
        int32_t to = fits ? joined.rank - 1 : joined.rank++;
        joined.size[to] = fits ? joined.size[to] * g->size[i] : g->size[i];
        for (int32_t n = 0; n < g->operands; n++)
            joined.step[n][to] = g->step[n][i];
    }
    if (joined.rank > 1 &&
        (joined.size[joined.rank - 1] < SHORTEST_RUN || joined.step[operand][joined.rank - 1] < 0 ||
         joined.step[operand][joined.rank - 1] > 1))
        return false;
    *walk = joined;
    return true;
}

/* Rows and columns must stay one dim each; the batch may be cut. */
static bool apply_to_product(const grid *g, int32_t operand, we_matmul *p) {
    we_matmul changed = *p;
    int32_t rows = 0, columns = 0;
    changed.batch_rank = 0;
    for (int32_t i = 0; i < g->rank; i++) {
        if (g->from[i] >= p->batch_rank) {
            bool row = g->from[i] == p->batch_rank;
            *(row ? &rows : &columns) += 1;
            *(operand ? (row ? &changed.b_row : &changed.b_column)
                      : (row ? &changed.a_row : &changed.a_column)) = g->step[operand][i];
            continue;
        }
        if (changed.batch_rank == WE_MAX_RANK)
            return false;
        changed.batch[changed.batch_rank] = g->size[i];
        changed.a_batch[changed.batch_rank] = g->step[0][i];
        changed.b_batch[changed.batch_rank++] = g->step[1][i];
    }
    if (rows != 1 || columns != 1)
        return false;
    *p = changed;
    return true;
}

/* The tensor that lies `offset` elements into `source` and is read as `dtype`. */
static we_status tensor_at(we_program *program, int32_t source, int64_t offset, int32_t like, int32_t *out,
                           we_error *err) {
    if (offset == 0 && program->tensors[source].dtype == program->tensors[like].dtype) {
        *out = source;
        return WE_OK;
    }
    we_tensor tensor = program->tensors[like];
    tensor.kind = WE_TENSOR_TEMP;
    tensor.alias_of = source;
    tensor.alias_offset = offset;
    return we_program_tensor(program, &tensor, out, err);
}

bool we_command_takes_steps(const we_command *command, int32_t operand) {
    return command->kind == WE_COMMAND_BINARY || command->kind == WE_COMMAND_SELECT ||
           (command->kind == WE_COMMAND_MATMUL && operand < 2);
}

we_status we_operand_through(we_program *program, we_command *command, int32_t operand,
                             const we_command *producer, we_composition *lists, bool *done, we_error *err) {
    grid g, refined;
    int64_t offset, dense = 1;
    we_program_root(program, command->in[operand], &offset);
    *done = false;
    grid_of(command, operand, &g);
    we_box box = {.rank = g.rank, .src_offset = offset};
    for (int32_t i = g.rank; i-- > 0; dense *= g.size[i]) {
        box.size[i] = g.size[i];
        box.src_stride[i] = g.step[operand][i];
        box.dst_stride[i] = dense;
    }
    if (dense == 0)
        return WE_OK;
    lists->reader.count = 1;
    lists->reader.at[0] = box;
    lists->through.count = 0;
    for (size_t i = 0; i < producer->u.raster.count && lists->reader.count; i++) {
        if (!we_region_compose(&producer->u.raster.regions[i], &lists->reader, &lists->spare,
                               &lists->through))
            return WE_OK;
    }
    const we_region *region = &lists->through.at[0];
    if (lists->reader.count || lists->through.count != 1 || !is_row_major(region) ||
        !refine(&g, operand, region, &refined))
        return WE_OK;
    int32_t tensor;
    we_command changed = *command;
    *done = command->kind == WE_COMMAND_MATMUL ? apply_to_product(&refined, operand, &changed.u.matmul)
                                               : apply_to_walk(&refined, operand, walk_of(&changed));
    if (!*done)
        return WE_OK;
    WE_TRY(tensor_at(program, region->source, region->src.offset, command->in[operand], &tensor, err));
    changed.in[operand] = tensor;
    *command = changed;
    return WE_OK;
}
