#include <stdlib.h>
#include <string.h>

#include "base/dtype.h"
#include "base/error.h"
#include "plan/plan.h"

static int64_t bytes_of(const we_tensor *tensor) {
    int64_t bytes = tensor->count * (int64_t)we_dtype_size(tensor->dtype);
    return (bytes + WE_ALIGNMENT - 1) / WE_ALIGNMENT * WE_ALIGNMENT;
}

static void written(const we_program *program, we_span *spans, int32_t tensor, int32_t command) {
    int64_t offset;
    int32_t root = we_program_root(program, tensor, &offset);
    if (spans[root].first < 0)
        spans[root].first = command;
    spans[root].last = command;
    spans[root].bytes = bytes_of(&program->tensors[root]);
}

/* first and last of every root; tensors in `kept` live to the end. What a loop's body writes lives while the
 * loop runs. */
static we_status lives(const we_program *program, const bool *kept, we_span **out, we_error *err) {
    int64_t offset;
    we_span *spans = we_memory_new(program->tensor_count * sizeof *spans);
    if (!spans)
        return we_error_no_memory(err);
    for (size_t t = 0; t < program->tensor_count; t++)
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

static int compare(const void *a, const void *b) {
    const we_span *const *p = a, *const *q = b;
    if ((*p)->bytes != (*q)->bytes)
        return (*p)->bytes < (*q)->bytes ? 1 : -1;
    return *p < *q ? -1 : 1; /* a fixed order, so that plans do not depend on the sort */
}

/* Lowest offset at which `span` collides with none of the placed spans, which are kept sorted by offset. */
static void place(we_span **placed, size_t count, we_span *span, bool reuse) {
    int64_t at = 0;
    size_t slot = count;
    for (size_t i = 0; i < count; i++) {
        bool apart = reuse && (placed[i]->last < span->first || span->last < placed[i]->first);
        if (apart)
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

static int64_t largest_live_set(const we_program *program, we_span *const *spans, size_t count) {
    int64_t largest = 0;
    for (size_t c = 0; c < program->command_count; c++) {
        int64_t alive = 0;
        for (size_t i = 0; i < count; i++)
            alive += spans[i]->first <= (int32_t)c && (int32_t)c <= spans[i]->last ? spans[i]->bytes : 0;
        largest = alive > largest ? alive : largest;
    }
    return largest;
}

we_status we_plan_memory(const we_program *program, const bool *kept, const bool *external, bool reuse,
                         we_plan *out, we_error *err) {
    memset(out, 0, sizeof *out);
    WE_TRY(lives(program, kept, &out->spans, err));
    we_span **order = we_memory_new(program->tensor_count * sizeof *order);
    we_span **placed = we_memory_new(program->tensor_count * sizeof *placed);
    size_t count = 0;
    if (!order || !placed) {
        we_memory_free(order);
        we_memory_free(placed);
        we_plan_free(out);
        return we_error_no_memory(err);
    }
    for (size_t t = 0; t < program->tensor_count; t++) {
        const we_tensor *tensor = &program->tensors[t];
        if (tensor->kind == WE_TENSOR_TEMP && tensor->alias_of < 0 && !external[t] &&
            out->spans[t].first >= 0)
            order[count++] = &out->spans[t];
    }
    qsort(order, count, sizeof *order, compare);
    for (size_t i = 0; i < count; i++) {
        place(placed, i, order[i], reuse);
        int64_t end = order[i]->offset + order[i]->bytes;
        out->arena_bytes = end > out->arena_bytes ? end : out->arena_bytes;
    }
    out->lower_bound = largest_live_set(program, order, count);
    we_memory_free(order);
    we_memory_free(placed);
    return WE_OK;
}

void we_plan_free(we_plan *plan) {
    we_memory_free(plan->spans);
    *plan = (we_plan){0};
}
