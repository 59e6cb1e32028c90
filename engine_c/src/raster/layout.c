/* Layouts. A claim that wants its tensors in another order stands between two rasters that permute. Moving
 * such a permutation behind the element-wise commands and reductions that read it brings it next to the
 * permutation in front of the following claim, where vertical merging makes both of them vanish: the commands
 * in between then run in the order of the claims.
 *
 *   y = f(permuted(x))   becomes   t = f(x); y = permuted(t)
 *
 * Invariants: a tensor that existed before is written with the same contents; only permutations of whole
 * tensors are moved, never views or parts. */
#include <string.h>

#include "base/error.h"
#include "raster/program.h"

typedef struct layout {
    we_program *program;
    we_command *commands; /* as they were */
    int32_t *permuted_by; /* per tensor: the command that writes it by a permutation, or -1 */
    we_error *err;
} layout;

/* A dim that neither the command's loops nor the permutation cut further. */
typedef struct dim {
    int64_t size, source; /* the permutation's step through its source */
    int64_t step[3];      /* of a walk: per operand */
    bool reduced;
} dim;

typedef struct dims {
    int32_t rank;
    dim at[WE_BOX_RANK];
} dims;

/* ---- Permutations ---- */

/* Are the strides those of a dense tensor, in whatever order? */
static bool is_dense(const we_region *r, const int64_t *stride) {
    int64_t dense = 1;
    for (int32_t found = 0; found < r->rank; found++) {
        int32_t i = 0;
        while (i < r->rank && stride[i] != dense)
            i++;
        if (i == r->rank)
            return false;
        dense *= r->size[i];
    }
    return true;
}

/* Does the raster write the whole of one tensor's elements in another order? Region dims are then in the
 * order of the output. */
static bool is_permutation(const we_program *program, const we_command *command) {
    if (command->removed || command->kind != WE_COMMAND_RASTER || command->u.raster.count != 1)
        return false;
    const we_region *r = &command->u.raster.regions[0];
    const we_tensor *out = &program->tensors[command->out], *source = &program->tensors[r->source];
    int64_t dense = 1;
    for (int32_t i = r->rank; i-- > 0; dense *= r->size[i]) {
        if (r->size[i] < 2 || r->dst.stride[i] != dense)
            return false;
    }
    return dense == out->count && dense == source->count && r->src.offset == 0 && r->dst.offset == 0 &&
           source->dtype == out->dtype && source->alias_of < 0 && source->kind != WE_TENSOR_VIEW &&
           is_dense(r, r->src.stride);
}

static const we_region *permutation_of(const layout *l, int32_t tensor) {
    int32_t index = tensor < 0 ? -1 : l->permuted_by[tensor];
    return index < 0 ? NULL : &l->commands[index].u.raster.regions[0];
}

static bool same_permutation(const we_region *a, const we_region *b) {
    return a && b && a->rank == b->rank && memcmp(a->size, b->size, (size_t)a->rank * sizeof *a->size) == 0 &&
           memcmp(a->src.stride, b->src.stride, (size_t)a->rank * sizeof *a->src.stride) == 0;
}

/* ---- Dims ---- */

/* Cut `given` (sizes and what goes with them, row-major) and the region's dims into common ones. False where
 * one does not divide the other. */
static bool refine(const dims *given, const we_region *region, dims *out) {
    dims turned = {0}; /* innermost first */
    int32_t i = given->rank - 1, j = region->rank - 1;
    int64_t done = 1, region_done = 1;
    while (i >= 0 && j >= 0) {
        int64_t left = given->at[i].size / done, region_left = region->size[j] / region_done;
        int64_t part = left < region_left ? left : region_left;
        if (part < 1 || left % part || region_left % part || turned.rank == WE_BOX_RANK)
            return false;
        dim d = given->at[i];
        d.size = part;
        d.source = region->src.stride[j] * region_done;
        for (int32_t n = 0; n < 3; n++)
            d.step[n] *= done;
        if (part > 1)
            turned.at[turned.rank++] = d;
        done *= part;
        region_done *= part;
        if (done == given->at[i].size)
            i--, done = 1;
        if (region_done == region->size[j])
            j--, region_done = 1;
    }
    out->rank = turned.rank;
    for (int32_t k = 0; k < turned.rank; k++)
        out->at[k] = turned.at[turned.rank - 1 - k];
    return out->rank <= WE_MAX_RANK;
}

/* The dims in the order of the permutation's source. */
static void sort_by_source(dims *d) {
    for (int32_t i = 1; i < d->rank; i++) {
        dim moved = d->at[i];
        int32_t to = i;
        for (; to > 0 && d->at[to - 1].source < moved.source; to--)
            d->at[to] = d->at[to - 1];
        d->at[to] = moved;
    }
}

/* ---- Moving ---- */

/* A tensor for the result in the order of `ordered`, and the raster from it to `out`, whose elements are in
 * the order of `plain`. */
static we_status permute_after(layout *l, const we_command *command, const dims *ordered, const dims *plain,
                               int32_t *result) {
    const we_tensor *out = &l->program->tensors[command->out];
    we_tensor tensor = {.kind = WE_TENSOR_TEMP, .dtype = out->dtype, .alias_of = -1, .count = out->count};
    we_region *region = we_arena_new(&l->program->arena, sizeof *region);
    int64_t dense = 1;
    if (!region)
        return we_error_no_memory(l->err);
    *region = (we_region){.rank = plain->rank};
    for (int32_t i = plain->rank; i-- > 0; dense *= plain->at[i].size) {
        region->size[i] = plain->at[i].size;
        region->dst.stride[i] = dense;
    }
    dense = 1;
    tensor.rank = ordered->rank;
    for (int32_t i = ordered->rank; i-- > 0; dense *= ordered->at[i].size) {
        tensor.dims[i] = ordered->at[i].size;
        for (int32_t k = 0; k < plain->rank; k++) {
            if (plain->at[k].source == ordered->at[i].source)
                region->src.stride[k] = dense;
        }
    }
    WE_TRY(we_program_tensor(l->program, &tensor, result, l->err));
    region->source = *result;
    we_command raster = {
        .kind = WE_COMMAND_RASTER, .node = command->node, .in = {-1, -1, -1}, .out = command->out};
    raster.u.raster.regions = region;
    raster.u.raster.count = 1;
    return we_program_command(l->program, &raster, l->err);
}

/* The commands of `moved` and then of the raster behind it. */
static we_status emit_before(layout *l, const we_command *command, const we_command *moved,
                             const dims *ordered, const dims *plain) {
    int32_t result;
    size_t place = l->program->command_count;
    WE_TRY(we_program_command(l->program, moved, l->err));
    WE_TRY(permute_after(l, command, ordered, plain, &result));
    l->program->commands[place].out = result;
    return WE_OK;
}

static void dims_of_region(const we_region *region, dims *d) {
    d->rank = region->rank;
    for (int32_t i = 0; i < region->rank; i++)
        d->at[i] = (dim){.size = region->size[i], .source = region->src.stride[i]};
}

static we_status move_elementwise(layout *l, const we_command *command, bool *moved) {
    const we_region *region = permutation_of(l, command->in[0]);
    dims plain, ordered;
    *moved = region != NULL;
    if (!*moved)
        return WE_OK;
    dims_of_region(region, &plain);
    ordered = plain;
    sort_by_source(&ordered);
    we_command changed = *command;
    changed.in[0] = region->source;
    return emit_before(l, command, &changed, &ordered, &plain);
}

/* The walk through the ordered dims, neighbours joined where all operands allow. */
static void walk_of(const dims *ordered, int32_t operands, we_walk *walk) {
    *walk = (we_walk){0};
    for (int32_t i = 0; i < ordered->rank; i++) {
        const dim *d = &ordered->at[i];
        bool joins = walk->rank > 0;
        for (int32_t n = 0; n < operands && joins; n++)
            joins = walk->step[n][walk->rank - 1] == d->step[n] * d->size;
        int32_t to = joins ? walk->rank - 1 : walk->rank++;
        walk->size[to] = joins ? walk->size[to] * d->size : d->size;
        for (int32_t n = 0; n < operands; n++)
            walk->step[n][to] = d->step[n];
    }
}

static we_status move_walk(layout *l, const we_command *command, int32_t operands, bool *moved) {
    we_command changed = *command;
    we_walk *walk = command->kind == WE_COMMAND_BINARY ? &changed.u.binary.walk : &changed.u.select;
    const we_region *region = NULL;
    dims given = {.rank = walk->rank}, plain, ordered;
    for (int32_t n = 0; n < operands && !region; n++)
        region = we_walk_in_order(walk, n) ? permutation_of(l, command->in[n]) : NULL;
    for (int32_t i = 0; i < walk->rank; i++) {
        given.at[i] = (dim){.size = walk->size[i]};
        for (int32_t n = 0; n < operands; n++)
            given.at[i].step[n] = walk->step[n][i];
    }
    *moved = region && refine(&given, region, &plain);
    for (int32_t n = 0; n < operands && *moved; n++) {
        const we_region *own = permutation_of(l, command->in[n]);
        if (!we_walk_in_order(walk, n) || !same_permutation(own, region)) {
            /* A large one would be read against its order. */
            *moved = l->program->tensors[command->in[n]].count < l->program->tensors[command->out].count;
            continue;
        }
        changed.in[n] = own->source;
        for (int32_t i = 0; i < plain.rank; i++)
            plain.at[i].step[n] = plain.at[i].source;
    }
    if (!*moved)
        return WE_OK;
    ordered = plain;
    sort_by_source(&ordered);
    walk_of(&ordered, operands, walk);
    return emit_before(l, command, &changed, &ordered, &plain);
}

/* The reduced dims must lie together in the source. */
static we_status move_reduction(layout *l, const we_command *command, bool *moved) {
    const we_region *region = permutation_of(l, command->in[0]);
    we_command changed = *command;
    dims given = {.rank = 3}, plain, ordered, kept_plain = {0}, kept = {0};
    given.at[0].size = command->u.reduce.outer;
    given.at[1] = (dim){.size = command->u.reduce.k, .reduced = true};
    given.at[2].size = command->u.reduce.inner;
    *moved = region && refine(&given, region, &plain);
    if (!*moved)
        return WE_OK;
    ordered = plain;
    sort_by_source(&ordered);
    int32_t first = 0, last = ordered.rank - 1;
    while (first < ordered.rank && !ordered.at[first].reduced)
        first++;
    while (last >= 0 && !ordered.at[last].reduced)
        last--;
    changed.u.reduce.outer = changed.u.reduce.inner = 1;
    for (int32_t i = 0; i < ordered.rank; i++) {
        *moved = *moved && (ordered.at[i].reduced || i < first || i > last);
        if (!ordered.at[i].reduced) {
            *(i < first ? &changed.u.reduce.outer : &changed.u.reduce.inner) *= ordered.at[i].size;
            kept.at[kept.rank++] = ordered.at[i];
        }
        if (!plain.at[i].reduced)
            kept_plain.at[kept_plain.rank++] = plain.at[i];
    }
    if (!*moved || first > last) {
        *moved = false;
        return WE_OK;
    }
    changed.in[0] = region->source;
    return emit_before(l, command, &changed, &kept, &kept_plain);
}

static we_status move_past(layout *l, const we_command *command, bool *moved) {
    *moved = false;
    switch (command->kind) {
    case WE_COMMAND_UNARY:
    case WE_COMMAND_CAST:
        return move_elementwise(l, command, moved);
    case WE_COMMAND_BINARY:
        return move_walk(l, command, 2, moved);
    case WE_COMMAND_SELECT:
        return move_walk(l, command, 3, moved);
    case WE_COMMAND_REDUCE:
        return move_reduction(l, command, moved);
    default:
        return WE_OK;
    }
}

/* The program's list of commands is written anew; `l->commands` holds every command that may be looked up. */
static we_status move_all(layout *l, size_t count, size_t *seen) {
    for (size_t c = 0; c < count; c++) {
        bool moved = false;
        size_t before = l->program->command_count;
        if (!l->commands[c].removed)
            WE_TRY(move_past(l, &l->commands[c], &moved));
        if (!moved)
            WE_TRY(we_program_command(l->program, &l->commands[c], l->err));
        for (; before < l->program->command_count; before++) {
            const we_command *written = &l->program->commands[before];
            l->commands[count + *seen] = *written;
            l->permuted_by[written->out] =
                is_permutation(l->program, written) ? (int32_t)(count + *seen) : -1;
            ++*seen;
        }
    }
    return WE_OK;
}

we_status we_program_move_permutations(we_program *program, we_error *err) {
    size_t count = program->command_count, seen = 0, tensors = program->tensor_count + count;
    layout l = {.program = program, .err = err};
    we_status status = WE_OK;
    if (count == 0)
        return WE_OK;
    l.commands = we_memory_new_dirty(3 * count * sizeof *l.commands);
    l.permuted_by = we_memory_new_dirty(tensors * sizeof *l.permuted_by);
    if (l.commands && l.permuted_by) {
        memset(l.permuted_by, -1, tensors * sizeof *l.permuted_by);
        memcpy(l.commands, program->commands, count * sizeof *l.commands);
        program->command_count = 0;
        status = move_all(&l, count, &seen);
    } else {
        status = we_error_no_memory(err);
    }
    we_memory_free(l.permuted_by);
    we_memory_free(l.commands);
    return status;
}
