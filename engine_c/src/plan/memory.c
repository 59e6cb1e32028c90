#include <stdlib.h>
#include <string.h>

#include "base/dtype.h"
#include "base/error.h"
#include "plan/plan.h"

static int64_t aligned(int64_t bytes) {
    return (bytes + WE_ALIGNMENT - 1) / WE_ALIGNMENT * WE_ALIGNMENT;
}

static int64_t bytes_of(const we_tensor *tensor) {
    return aligned(tensor->count * (int64_t)we_dtype_size(tensor->dtype));
}

static void written(const we_program *program, we_span *spans, int32_t tensor, int32_t command) {
    int64_t offset;
    int32_t root = we_program_root(program, tensor, &offset);
    if (spans[root].first < 0)
        spans[root].first = command;
    spans[root].last = command;
    spans[root].bytes = bytes_of(&program->tensors[root]);
}

/* first and last of every root, and room for the scratch of every command; tensors in `kept` live to the end.
 * What a loop's body writes lives while the loop runs. */
static we_status lives(const we_program *program, const bool *kept, we_span **out, we_error *err) {
    int64_t offset;
    size_t count = program->tensor_count + program->command_count;
    we_span *spans = we_memory_new(count * sizeof *spans);
    if (!spans)
        return we_error_no_memory(err);
    for (size_t t = 0; t < count; t++)
        spans[t] = (we_span){.offset = -1, .first = -1, .last = -1};
    for (size_t c = 0; c < program->command_count; c++) {
        const we_command *command = &program->commands[c];
        if (command->removed)
            continue;
        for (size_t i = 0; i < we_command_writes(command); i++)
            written(program, spans, we_command_write(command, i), (int32_t)c);
        for (size_t i = 0; command->kind == WE_COMMAND_LOOP && i < command->u.loop.body_count; i++)
            written(program, spans, command->u.loop.body[i].out, (int32_t)c);
        for (size_t i = 0; i < we_command_reads(command); i++)
            spans[we_program_root(program, we_command_read(command, i), &offset)].last = (int32_t)c;
    }
    for (size_t t = 0; t < program->tensor_count; t++) {
        if (kept[t])
            spans[we_program_root(program, (int32_t)t, &offset)].last = (int32_t)program->command_count;
    }
    *out = spans;
    return WE_OK;
}

/* May the command write over its operand i? The operand must be read element by element in the output's
 * order. */
static bool can_overwrite(const we_program *program, const we_command *command, int32_t i) {
    const we_tensor *in = &program->tensors[command->in[i]], *out = &program->tensors[command->out];
    if (in->count != out->count || we_dtype_size(in->dtype) != we_dtype_size(out->dtype))
        return false;
    if (command->kind == WE_COMMAND_UNARY || command->kind == WE_COMMAND_CHAIN)
        return true;
    if (command->kind != WE_COMMAND_BINARY || !we_walk_in_order(&command->u.binary.walk, i))
        return false;
    int64_t offset, other_offset;
    if (command->in[0] == command->in[1])
        return we_walk_in_order(&command->u.binary.walk, 1 - i);
    return we_program_root(program, command->in[0], &offset) !=
           we_program_root(program, command->in[1], &other_offset);
}

we_status we_plan_in_place(we_program *program, const bool *kept, we_error *err) {
    we_span *spans;
    WE_TRY(lives(program, kept, &spans, err));
    for (size_t c = 0; c < program->command_count; c++) {
        const we_command *command = &program->commands[c];
        if (command->removed)
            continue;
        for (int32_t i = 0; i < 2 && command->kind != WE_COMMAND_RASTER && command->in[i] >= 0; i++) {
            int64_t offset;
            int32_t root = we_program_root(program, command->in[i], &offset);
            if (program->tensors[root].kind != WE_TENSOR_TEMP || spans[root].last != (int32_t)c ||
                offset != 0 || program->tensors[root].count != program->tensors[command->in[i]].count ||
                program->tensors[command->out].alias_of >= 0 || kept[command->out] ||
                !can_overwrite(program, command, i))
                continue;
            program->tensors[command->out].alias_of = root;
            program->tensors[command->out].alias_offset = 0;
            spans[root].last = spans[command->out].last;
            break;
        }
    }
    we_memory_free(spans);
    return WE_OK;
}

/* ---- Places ---- */

/* Every order ends so, for plans must not depend on the sort. */
static int by_place(const we_span *a, const we_span *b) {
    return a < b ? -1 : 1;
}

static int largest_first(const void *a, const void *b) {
    const we_span *p = *(const we_span *const *)a, *q = *(const we_span *const *)b;
    return p->bytes != q->bytes ? (p->bytes < q->bytes ? 1 : -1) : by_place(p, q);
}

static int earliest_first(const void *a, const void *b) {
    const we_span *p = *(const we_span *const *)a, *q = *(const we_span *const *)b;
    return p->first != q->first ? (p->first < q->first ? -1 : 1) : largest_first(a, b);
}

static int longest_first(const void *a, const void *b) {
    const we_span *p = *(const we_span *const *)a, *q = *(const we_span *const *)b;
    int32_t one = p->last - p->first, other = q->last - q->first;
    return one != other ? (one < other ? 1 : -1) : largest_first(a, b);
}

static int (*const ORDERS[])(const void *, const void *) = {largest_first, longest_first, earliest_first};

/* Lowest offset at which `span` collides with none of the placed spans, which are kept sorted by offset. */
static void place(we_span **placed, size_t count, we_span *span, bool reuse) {
    int64_t at = 0;
    size_t slot = count;
    for (size_t i = 0; i < count; i++) {
        bool may_share = reuse || (placed[i]->scratch && span->scratch);
        if (may_share && (placed[i]->last < span->first || span->last < placed[i]->first))
            continue;
        if (placed[i]->offset - at >= span->bytes)
            break;
        int64_t end = placed[i]->offset + placed[i]->bytes;
        at = end > at ? end : at;
    }
    span->offset = at;
    while (slot > 0 && placed[slot - 1]->offset > at)
        slot--;
    memmove(placed + slot + 1, placed + slot, (count - slot) * sizeof *placed);
    placed[slot] = span;
}

/* Place the spans in their order; the bytes they take together. */
static int64_t place_all(we_span *const *order, we_span **placed, size_t count, bool reuse) {
    int64_t bytes = 0;
    for (size_t i = 0; i < count; i++) {
        place(placed, i, order[i], reuse);
        int64_t end = order[i]->offset + order[i]->bytes;
        bytes = end > bytes ? end : bytes;
    }
    return bytes;
}

/* `changes` has room for one number per command and one more, all 0. */
static int64_t largest_live_set(const we_program *program, we_span *const *spans, size_t count,
                                int64_t *changes) {
    int64_t alive = 0, largest = 0;
    for (size_t i = 0; i < count; i++) {
        changes[spans[i]->first] += spans[i]->bytes;
        if (spans[i]->last < (int32_t)program->command_count)
            changes[spans[i]->last + 1] -= spans[i]->bytes;
    }
    for (size_t c = 0; c < program->command_count; c++) {
        alive += changes[c];
        largest = alive > largest ? alive : largest;
    }
    return largest;
}

/* The spans that need a place, as pointers into the plan's. */
static size_t list_spans(const we_program *program, const bool *external, const size_t *scratch_bytes,
                         we_plan *plan, we_span **out) {
    size_t count = 0;
    for (size_t t = 0; t < program->tensor_count; t++) {
        const we_tensor *tensor = &program->tensors[t];
        if (tensor->kind == WE_TENSOR_TEMP && tensor->alias_of < 0 && !external[t] &&
            plan->spans[t].first >= 0)
            out[count++] = &plan->spans[t];
    }
    for (size_t c = 0; scratch_bytes && c < program->command_count; c++) {
        we_span *span = &plan->spans[program->tensor_count + c];
        if (program->commands[c].removed || scratch_bytes[c] == 0)
            continue;
        span->first = span->last = (int32_t)c;
        span->bytes = aligned((int64_t)scratch_bytes[c]);
        span->scratch = true;
        out[count++] = span;
    }
    return count;
}

/* Try the orders until one meets the bound; take the first of the best. */
static void place_best(we_span **order, we_span **placed, size_t count, bool reuse, we_plan *plan) {
    size_t orders = reuse ? sizeof ORDERS / sizeof *ORDERS : 1, best = 0, last = 0;
    for (size_t i = 0; i < orders && (i == 0 || plan->arena_bytes > plan->lower_bound); i++) {
        qsort(order, count, sizeof *order, ORDERS[i]);
        int64_t bytes = place_all(order, placed, count, reuse);
        last = i;
        if (i > 0 && bytes >= plan->arena_bytes)
            continue;
        plan->arena_bytes = bytes;
        best = i;
    }
    if (best == last)
        return;
    qsort(order, count, sizeof *order, ORDERS[best]);
    place_all(order, placed, count, reuse);
}

we_status we_plan_memory(const we_program *program, const bool *kept, const bool *external,
                         const size_t *scratch_bytes, bool reuse, we_plan *out, we_error *err) {
    *out = (we_plan){.span_count = program->tensor_count + program->command_count};
    WE_TRY(lives(program, kept, &out->spans, err));
    out->scratch = out->spans + program->tensor_count;
    we_span **order = we_memory_new(2 * out->span_count * sizeof *order);
    int64_t *changes = we_memory_new((program->command_count + 1) * sizeof *changes);
    we_status status = order && changes ? WE_OK : we_error_no_memory(err);
    if (status == WE_OK) {
        size_t count = list_spans(program, external, scratch_bytes, out, order);
        out->lower_bound = largest_live_set(program, order, count, changes);
        place_best(order, order + out->span_count, count, reuse, out);
    } else {
        we_plan_free(out);
    }
    we_memory_free(order);
    we_memory_free(changes);
    return status;
}

void we_plan_free(we_plan *plan) {
    we_memory_free(plan->spans);
    *plan = (we_plan){0};
}
