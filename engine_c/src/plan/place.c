/* A raster that joins results, as concatenation does, only copies them side by side. Where a claim can write
 * its channels into a wider row, it writes them there at once, and the copy is dropped. */
#include "backend/backend.h"
#include "base/error.h"
#include "plan/plan.h"

/* Does the region copy the whole source, row by row of `channels`, to rows further apart? */
static bool copies_rows(const we_region *region, const we_tensor *source, int64_t channels, int64_t *pitch) {
    we_region r = *region;
    we_region_coalesce(&r);
    if (r.src.offset != 0 || we_region_count(&r) != source->count || r.rank < 1 || r.rank > 2 ||
        r.src.stride[r.rank - 1] != 1 || r.dst.stride[r.rank - 1] != 1)
        return false;
    *pitch = r.rank == 2 ? r.dst.stride[0] : channels;
    return r.rank == 1 || (r.size[1] == channels && r.src.stride[0] == channels && *pitch >= channels);
}

/* May the claim's result go where the region takes it? */
static bool can_place(const we_program *program, const we_command *claim, const we_region *region,
                      int64_t *pitch) {
    const we_claim_methods *methods = we_claim_of(claim);
    const we_tensor *out = &program->tensors[claim->out];
    return methods && methods->places && claim->u.claim.pitch == 0 && claim->in[1] < 0 && out->alias_of < 0 &&
           out->kind == WE_TENSOR_TEMP && copies_rows(region, out, claim->u.claim.channels, pitch);
}

static void place_sources(we_program *program, we_command *raster, const int32_t *reads,
                          const int32_t *writer) {
    we_region *regions = (we_region *)raster->u.raster.regions; /* of this raster alone */
    const we_tensor *out = &program->tensors[raster->out];
    size_t kept = 0;
    if (out->kind != WE_TENSOR_TEMP || out->alias_of >= 0 || !we_raster_is_full(program, raster))
        return;
    for (size_t i = 0; i < raster->u.raster.count; i++) {
        int32_t source = regions[i].source;
        int64_t pitch;
        we_command *claim = writer[source] < 0 ? NULL : &program->commands[writer[source]];
        if (!claim || reads[source] != 1 || program->tensors[source].dtype != out->dtype ||
            !can_place(program, claim, &regions[i], &pitch)) {
            regions[kept++] = regions[i];
            continue;
        }
        claim->out = raster->out;
        claim->u.claim.pitch = pitch;
        claim->u.claim.offset = regions[i].dst.offset;
        raster->u.raster.partial = true;
    }
    raster->u.raster.count = kept;
    raster->removed = kept == 0;
}

we_status we_plan_place(we_program *program, const bool *kept, we_error *err) {
    int32_t *reads = NULL;
    WE_TRY(we_plan_count_reads(program, kept, &reads, err));
    int32_t *writer = we_memory_new_dirty(program->tensor_count * sizeof *writer);
    we_status status = writer ? WE_OK : we_error_no_memory(err);
    for (size_t t = 0; t < program->tensor_count && writer; t++)
        writer[t] = -1;
    for (size_t c = 0; c < program->command_count && writer; c++) {
        we_command *command = &program->commands[c];
        if (command->kind == WE_COMMAND_CLAIM && !command->removed && we_command_writes(command) == 1)
            writer[command->out] = (int32_t)c;
        if (command->kind == WE_COMMAND_RASTER && !command->removed)
            place_sources(program, command, reads, writer);
    }
    we_memory_free(writer);
    we_memory_free(reads);
    return status;
}
