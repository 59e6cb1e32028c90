/* Merging the rasters of a program. Each raster in turn, so that what it reads is merged already:
 *   vertical    a region that reads a raster's output reads that raster's sources instead; an operand that a
 *               command walks by steps does so too
 *   alias       a raster that copies a tensor in order becomes a view of it
 *   horizontal  a raster that does what an earlier one does becomes a view of that one's output
 * and what nobody reads any more is dropped. */
#include <stdlib.h>
#include <string.h>

#include "base/dtype.h"
#include "base/error.h"
#include "raster/program.h"

enum {
    MAX_REGIONS = 4096, /* of one raster; more are not worth a copy saved */
    FREE_PIECES = 8,    /* a region may fall into, and two for each region it reads through */
};

typedef struct merger {
    we_program *program;
    const we_merge_settings *settings;
    we_merge_report *report;
    we_command *before;   /* the commands as they were */
    int32_t *producer_of; /* per tensor: the command that writes it, or -1 */
    int32_t *table;       /* of canonical rasters, open addressing: command or -1 */
    size_t table_size;    /* a power of two */
    we_composition *lists;
    we_region *regions; /* of the raster being merged */
    size_t count, room;
    we_error *err;
} merger;

we_traffic we_program_traffic(const we_program *program) {
    we_traffic traffic = {0};
    for (size_t c = 0; c < program->command_count; c++) {
        const we_command *command = &program->commands[c];
        if (command->removed || command->kind != WE_COMMAND_RASTER)
            continue;
        int64_t width = (int64_t)we_dtype_size(program->tensors[command->out].dtype);
        traffic.rasters++;
        traffic.regions += (int64_t)command->u.raster.count;
        for (size_t i = 0; i < command->u.raster.count; i++)
            traffic.bytes += we_region_count(&command->u.raster.regions[i]) * width;
    }
    return traffic;
}

/* ---- Vertical ---- */

/* Follow aliases, so that regions read memory that is really written. */
static void resolve_source(const we_program *program, we_region *region) {
    int64_t offset;
    region->source = we_program_root(program, region->source, &offset);
    region->src.offset += offset;
}

/* May what no region of `producer` covers be left to the fill of `raster`? If so, that fill is set. */
static bool take_fill(const we_program *program, const we_command *producer, we_command *raster,
                      bool *taken) {
    if (program->tensors[producer->out].dtype != program->tensors[raster->out].dtype)
        return false;
    if (*taken)
        return memcmp(&producer->u.raster.fill, &raster->u.raster.fill, sizeof producer->u.raster.fill) == 0;
    raster->u.raster.fill = producer->u.raster.fill;
    *taken = true;
    return true;
}

/* Put the regions that read through `producer` in place of regions[index]; false where they stay as they are.
 */
static bool compose(merger *m, const we_command *producer, we_command *raster, size_t index, bool *filled) {
    we_composition *lists = m->lists;
    lists->reader.count = 1;
    lists->through.count = 0;
    we_box_of_region(&m->regions[index], &lists->reader.at[0]);
    for (size_t i = 0; i < producer->u.raster.count && lists->reader.count; i++) {
        if (!we_region_compose(&producer->u.raster.regions[i], &lists->reader, &lists->spare,
                               &lists->through))
            return false;
    }
    size_t pieces = lists->through.count;
    if (pieces > FREE_PIECES + 2 * producer->u.raster.count || m->count + pieces > MAX_REGIONS)
        return false;
    return lists->reader.count == 0 || take_fill(m->program, producer, raster, filled);
}

static we_status add_region(merger *m, const we_region *region) {
    if (!we_memory_grow((void **)&m->regions, &m->room, m->count, sizeof *m->regions))
        return we_error_no_memory(m->err);
    m->regions[m->count++] = *region;
    return WE_OK;
}

static we_status merge_regions(merger *m, we_command *raster) {
    bool filled = !we_raster_is_full(m->program, raster);
    m->count = 0;
    for (size_t i = 0; i < raster->u.raster.count; i++) {
        WE_TRY(add_region(m, &raster->u.raster.regions[i]));
        resolve_source(m->program, &m->regions[i]);
    }
    for (size_t i = 0; m->settings->vertical && i < m->count;) {
        int32_t index = m->producer_of[m->regions[i].source];
        const we_command *producer = index >= 0 ? &m->program->commands[index] : NULL;
        if (!producer || producer->kind != WE_COMMAND_RASTER || !compose(m, producer, raster, i, &filled)) {
            i++;
            continue;
        }
        m->report->composed++;
        m->regions[i] = m->regions[--m->count]; /* looked at next */
        for (size_t k = 0; k < m->lists->through.count; k++)
            WE_TRY(add_region(m, &m->lists->through.at[k]));
    }
    return WE_OK;
}

/* A raster that repeats a small tensor. */
static bool repeats(const we_program *program, const we_command *raster) {
    return raster->u.raster.count == 1 &&
           program->tensors[raster->u.raster.regions[0].source].count < program->tensors[raster->out].count;
}

/* Operands that are walked by steps read past rasters too. Where a repeating raster was merged with those
 * before it into too many regions, reading past it alone still saves the repetition. */
static we_status merge_operands(merger *m, int32_t index) {
    we_program *program = m->program;
    we_command command = program->commands[index];
    for (int32_t i = 0; i < 3 && command.in[i] >= 0 && m->settings->vertical; i++) {
        int64_t offset;
        int32_t producer = m->producer_of[we_program_root(program, command.in[i], &offset)];
        bool done = false;
        if (producer < 0 || program->commands[producer].kind != WE_COMMAND_RASTER ||
            !we_command_takes_steps(&command, i))
            continue;
        WE_TRY(
            we_operand_through(program, &command, i, &program->commands[producer], m->lists, &done, m->err));
        if (!done && repeats(program, &m->before[producer]))
            WE_TRY(we_operand_through(program, &command, i, &m->before[producer], m->lists, &done, m->err));
        m->report->operands += done;
    }
    program->commands[index] = command;
    return WE_OK;
}

/* ---- Canonical form: one way to write each set of regions ---- */

static void canonical_region(we_region *r) {
    for (int32_t i = 0; i < r->rank; i++) {
        if (r->dst.stride[i] >= 0)
            continue;
        r->dst.offset += (r->size[i] - 1) * r->dst.stride[i];
        r->src.offset += (r->size[i] - 1) * r->src.stride[i];
        r->dst.stride[i] = -r->dst.stride[i];
        r->src.stride[i] = -r->src.stride[i];
    }
    for (int32_t i = 1; i < r->rank; i++) { /* insertion sort by destination stride, largest first */
        int64_t size = r->size[i], src = r->src.stride[i], dst = r->dst.stride[i];
        int32_t at = i;
        for (; at > 0 && r->dst.stride[at - 1] < dst; at--) {
            r->size[at] = r->size[at - 1];
            r->src.stride[at] = r->src.stride[at - 1];
            r->dst.stride[at] = r->dst.stride[at - 1];
        }
        r->size[at] = size;
        r->src.stride[at] = src;
        r->dst.stride[at] = dst;
    }
    we_region_coalesce(r);
    for (int32_t i = r->rank; i < WE_MAX_RANK; i++) /* so that equal regions are equal bytes */
        r->size[i] = r->src.stride[i] = r->dst.stride[i] = 0;
}

static int by_destination(const void *a, const void *b) {
    const we_region *p = a, *q = b;
    return p->dst.offset < q->dst.offset ? -1 : p->dst.offset > q->dst.offset;
}

/* ---- Horizontal ---- */

static uint64_t mix(uint64_t hash, uint64_t value) {
    hash = (hash ^ value) * 0x9E3779B97F4A7C15u;
    return hash ^ hash >> 29;
}

static uint64_t hash_of(const we_program *program, const we_command *raster) {
    const we_tensor *out = &program->tensors[raster->out];
    uint64_t hash = mix(mix((uint64_t)out->dtype, (uint64_t)out->count), raster->u.raster.count);
    for (size_t i = 0; i < raster->u.raster.count; i++) {
        const we_region *r = &raster->u.raster.regions[i];
        hash = mix(mix(hash, (uint64_t)r->source), (uint64_t)r->src.offset);
        hash = mix(mix(hash, (uint64_t)r->dst.offset), (uint64_t)r->rank);
        for (int32_t d = 0; d < r->rank; d++)
            hash = mix(mix(hash, (uint64_t)r->size[d]), (uint64_t)r->src.stride[d]);
    }
    return hash;
}

static bool same_rasters(const we_program *program, const we_command *a, const we_command *b) {
    const we_tensor *p = &program->tensors[a->out], *q = &program->tensors[b->out];
    size_t count = a->u.raster.count;
    return p->dtype == q->dtype && p->count == q->count && count == b->u.raster.count &&
           (we_raster_is_full(program, a) ||
            memcmp(&a->u.raster.fill, &b->u.raster.fill, sizeof a->u.raster.fill) == 0) &&
           (count == 0 ||
            memcmp(a->u.raster.regions, b->u.raster.regions, count * sizeof *a->u.raster.regions) == 0);
}

/* The earlier raster that writes the same, or -1; then this one is remembered. */
static int32_t find_same(merger *m, int32_t index) {
    const we_command *commands = m->program->commands;
    size_t slot = hash_of(m->program, &commands[index]) & (m->table_size - 1);
    for (; m->table[slot] >= 0; slot = (slot + 1) & (m->table_size - 1)) {
        if (same_rasters(m->program, &commands[m->table[slot]], &commands[index]))
            return m->table[slot];
    }
    m->table[slot] = index;
    return -1;
}

/* ---- The program ---- */

static void make_alias(we_program *program, we_command *command, int32_t of, int64_t offset) {
    program->tensors[command->out].alias_of = of;
    program->tensors[command->out].alias_offset = offset;
    command->removed = true;
}

static we_status merge_raster(merger *m, int32_t index) {
    we_command *command = &m->program->commands[index];
    int64_t offset;
    WE_TRY(merge_regions(m, command));
    for (size_t i = 0; i < m->count; i++)
        canonical_region(&m->regions[i]);
    if (m->count)
        qsort(m->regions, m->count, sizeof *m->regions, by_destination);
    const we_region *regions = we_arena_copy(&m->program->arena, m->regions, m->count * sizeof *m->regions);
    if (!regions)
        return we_error_no_memory(m->err);
    command->u.raster.regions = regions;
    command->u.raster.count = m->count;
    if (we_raster_is_alias(m->program, command, &offset)) {
        make_alias(m->program, command, command->u.raster.regions[0].source, offset);
        m->report->aliases++;
        return WE_OK;
    }
    int32_t same = m->settings->horizontal ? find_same(m, index) : -1;
    if (same >= 0) {
        make_alias(m->program, command, m->program->commands[same].out, 0);
        m->report->shared++;
    }
    return WE_OK;
}

/* Remove commands nobody reads any more, from the end so that chains vanish together. */
static we_status sweep(we_program *program, const bool *kept, we_error *err) {
    bool *used = we_memory_new(program->tensor_count * sizeof *used);
    int64_t offset;
    if (!used)
        return we_error_no_memory(err);
    for (size_t t = 0; t < program->tensor_count; t++) {
        if (kept[t])
            used[we_program_root(program, (int32_t)t, &offset)] = true;
    }
    for (size_t c = program->command_count; c-- > 0;) {
        we_command *command = &program->commands[c];
        if (command->removed)
            continue;
        command->removed = true;
        for (size_t i = 0; i < we_command_writes(command); i++)
            command->removed = command->removed && !used[we_command_write(command, i)];
        for (size_t i = 0; !command->removed && i < we_command_reads(command); i++)
            used[we_program_root(program, we_command_read(command, i), &offset)] = true;
    }
    we_memory_free(used);
    return WE_OK;
}

static we_status merge_all(merger *m) {
    we_program *program = m->program;
    for (size_t c = 0; c < program->command_count; c++) {
        we_command *command = &program->commands[c];
        if (command->removed)
            continue;
        if (command->kind == WE_COMMAND_RASTER)
            WE_TRY(merge_raster(m, (int32_t)c));
        else
            WE_TRY(merge_operands(m, (int32_t)c));
        for (size_t i = 0; !command->removed && i < we_command_writes(command); i++)
            m->producer_of[we_command_write(command, i)] = (int32_t)c;
    }
    return WE_OK;
}

static we_status merge_and_sweep(merger *m, const bool *kept) {
    we_program *program = m->program;
    size_t count = program->command_count;
    if (count)
        memcpy(m->before, program->commands, count * sizeof *m->before);
    WE_TRY(merge_all(m));
    WE_TRY(sweep(program, kept, m->err));
    return m->settings->verify ? we_program_verify(program, m->before, count, m->err) : WE_OK;
}

we_status we_program_merge(we_program *program, const bool *kept, const we_merge_settings *settings,
                           we_merge_report *report, we_error *err) {
    merger m = {.program = program, .settings = settings, .report = report, .table_size = 16, .err = err};
    while (m.table_size < 2 * program->command_count)
        m.table_size *= 2;
    size_t tensors = program->tensor_count + WE_MERGE_TENSORS * program->command_count;
    m.producer_of = we_memory_new_dirty(tensors * sizeof *m.producer_of);
    m.table = we_memory_new_dirty(m.table_size * sizeof *m.table);
    m.lists = we_memory_new_dirty(sizeof *m.lists);
    m.before = we_memory_new_dirty(program->command_count * sizeof *m.before);
    we_status status = m.producer_of && m.table && m.lists && m.before ? WE_OK : we_error_no_memory(err);
    if (status == WE_OK) {
        memset(m.producer_of, -1, tensors * sizeof *m.producer_of);
        memset(m.table, -1, m.table_size * sizeof *m.table);
        status = merge_and_sweep(&m, kept);
    }
    report->after = we_program_traffic(program);
    we_memory_free(m.producer_of);
    we_memory_free(m.table);
    we_memory_free(m.lists);
    we_memory_free(m.before);
    we_memory_free(m.regions);
    return status;
}
