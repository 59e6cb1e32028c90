#include "raster/program.h"

#include <string.h>

#include "base/error.h"

void we_program_free(we_program *program) {
    we_memory_free(program->tensors);
    we_memory_free(program->commands);
    for (size_t i = 0; i < program->held_count; i++)
        we_pack_release(program->packs, program->held[i]);
    we_memory_free(program->held);
    we_arena_free(&program->arena);
    memset(program, 0, sizeof *program);
}

we_status we_program_pack(we_program *program, const we_pack_key *key, size_t bytes, we_pack_work work,
                          const void *context, const void **out, we_error *err) {
    if (!we_memory_grow((void **)&program->held, &program->held_room, program->held_count,
                        sizeof *program->held))
        return we_error_no_memory(err);
    we_pack **pack = &program->held[program->held_count];
    WE_TRY(we_packs_get(program->packs, program->pool, key, bytes, work, context, pack, err));
    program->held_count++;
    program->packed_bytes += (int64_t)bytes;
    *out = we_pack_bytes(*pack);
    return WE_OK;
}

we_status we_program_tensor(we_program *program, const we_tensor *tensor, int32_t *index, we_error *err) {
    if (program->tensor_count > (1u << 28) ||
        !we_memory_grow((void **)&program->tensors, &program->tensor_room, program->tensor_count,
                        sizeof *program->tensors))
        return we_error_no_memory(err);
    *index = (int32_t)program->tensor_count;
    program->tensors[program->tensor_count++] = *tensor;
    return WE_OK;
}

we_status we_program_command(we_program *program, const we_command *command, we_error *err) {
    if (!we_memory_grow((void **)&program->commands, &program->command_room, program->command_count,
                        sizeof *program->commands))
        return we_error_no_memory(err);
    program->commands[program->command_count++] = *command;
    return WE_OK;
}

static const we_ports *ports_of(const we_command *command) {
    return command->kind == WE_COMMAND_CLAIM ? command->u.claim.ports : NULL;
}

static size_t count_ports(const int32_t *ports, size_t room) {
    size_t count = 0;
    for (size_t i = 0; i < room; i++)
        count += ports[i] >= 0;
    return count;
}

/* The n-th that is present. */
static int32_t nth_port(const int32_t *ports, size_t n) {
    size_t i = 0;
    while (ports[i] < 0 || n-- > 0)
        i++;
    return ports[i];
}

size_t we_command_reads(const we_command *command) {
    if (command->kind == WE_COMMAND_RASTER)
        return command->u.raster.count;
    if (command->kind == WE_COMMAND_LOOP)
        return command->u.loop.read_count;
    if (command->kind == WE_COMMAND_CHAIN)
        return (size_t)command->u.chain->operand_count;
    size_t count = 0;
    while (count < 3 && command->in[count] >= 0)
        count++;
    const we_ports *ports = ports_of(command);
    return count + (ports ? count_ports(ports->in, WE_CLAIM_INPUTS) : 0);
}

int32_t we_command_read(const we_command *command, size_t i) {
    if (command->kind == WE_COMMAND_LOOP)
        return command->u.loop.reads[i];
    if (command->kind == WE_COMMAND_RASTER)
        return command->u.raster.regions[i].source;
    if (command->kind == WE_COMMAND_CHAIN)
        return command->u.chain->operands[i].tensor;
    size_t count = 0;
    while (count < 3 && command->in[count] >= 0)
        count++;
    return i < count ? command->in[i] : nth_port(ports_of(command)->in, i - count);
}

size_t we_command_writes(const we_command *command) {
    const we_ports *ports = ports_of(command);
    if (command->kind == WE_COMMAND_LOOP)
        return command->u.loop.write_count;
    return 1 + (ports ? count_ports(ports->out, WE_CLAIM_OUTPUTS) : 0);
}

int32_t we_command_write(const we_command *command, size_t i) {
    if (command->kind == WE_COMMAND_LOOP)
        return command->u.loop.writes[i];
    return i == 0 ? command->out : nth_port(ports_of(command)->out, i - 1);
}

int64_t we_loop_iterations(const we_loop *loop) {
    int64_t count = 1;
    for (int32_t i = 0; i < loop->rank; i++)
        count *= loop->size[i];
    return count;
}

bool we_loop_is_simple(const we_program *program, const we_loop *loop) {
    if (loop->body_count != 1 || program->tensors[loop->body[0].out].kind != WE_TENSOR_VIEW)
        return false;
    const we_command *body = &loop->body[0];
    return body->kind == WE_COMMAND_RASTER ? body->u.raster.count == 1
                                           : body->kind == WE_COMMAND_BINARY && body->u.binary.walk.rank <= 1;
}

bool we_loop_has_pieces(const we_program *program, const we_loop *loop) {
    if (!we_loop_is_simple(program, loop))
        return false;
    for (size_t v = 0; v < loop->view_count; v++) {
        if (loop->views[v].first >= 0)
            return false;
    }
    const we_command *body = &loop->body[0];
    if (body->kind == WE_COMMAND_BINARY)
        return true;
    we_region region = body->u.raster.regions[0];
    we_region_coalesce(&region);
    return region.src.offset == 0 && region.dst.offset == 0 &&
           we_region_count(&region) == program->tensors[body->out].count &&
           (region.rank == 0 || (region.rank == 1 && region.src.stride[0] == 1 && region.dst.stride[0] == 1));
}

int32_t we_program_root(const we_program *program, int32_t tensor, int64_t *offset) {
    *offset = 0;
    while (program->tensors[tensor].alias_of >= 0) {
        *offset += program->tensors[tensor].alias_offset;
        tensor = program->tensors[tensor].alias_of;
    }
    return tensor;
}

void we_walk_broadcast(const we_tensor *out, const we_tensor *const *in, int32_t count, we_walk *walk) {
    walk->rank = 0;
    int64_t reached[3] = {1, 1, 1}, step[3][WE_MAX_RANK] = {{0}};
    for (int32_t n = 0; n < count; n++) {
        for (int32_t i = 1; i <= in[n]->rank; i++) {
            int64_t dim = in[n]->dims[in[n]->rank - i];
            step[n][out->rank - i] = dim == 1 ? 0 : reached[n];
            reached[n] *= dim;
        }
    }
    for (int32_t i = 0; i < out->rank; i++) {
        if (out->dims[i] == 1)
            continue;
        bool fits = walk->rank > 0;
        for (int32_t n = 0; n < count && fits; n++)
            fits = walk->step[n][walk->rank - 1] == step[n][i] * out->dims[i];
        int32_t to = fits ? walk->rank - 1 : walk->rank++;
        walk->size[to] = fits ? walk->size[to] * out->dims[i] : out->dims[i];
        for (int32_t n = 0; n < count; n++)
            walk->step[n][to] = step[n][i];
    }
}

bool we_walk_in_order(const we_walk *walk, int32_t operand) {
    int64_t dense = 1;
    for (int32_t i = walk->rank; i-- > 0; dense *= walk->size[i]) {
        if (walk->step[operand][i] != dense)
            return false;
    }
    return true;
}

bool we_raster_is_full(const we_program *program, const we_command *raster) {
    int64_t moved = 0;
    for (size_t i = 0; i < raster->u.raster.count; i++)
        moved += we_region_count(&raster->u.raster.regions[i]);
    return moved == program->tensors[raster->out].count;
}

bool we_raster_is_alias(const we_program *program, const we_command *raster, int64_t *offset) {
    if (raster->u.raster.count != 1 || !we_raster_is_full(program, raster))
        return false;
    we_region r = raster->u.raster.regions[0];
    we_region_coalesce(&r);
    *offset = r.src.offset;
    return r.dst.offset == 0 &&
           (r.rank == 0 || (r.rank == 1 && r.src.stride[0] == 1 && r.dst.stride[0] == 1)) &&
           program->tensors[r.source].dtype == program->tensors[raster->out].dtype;
}
