#include "run/model.h"

#include <string.h>

#include "base/error.h"
#include "ops/trees.h"

/* Takes over the builder's graph and, on success, the mapping. */
static we_status seal(we_builder *builder, we_mapping mapping, we_model **out, we_error *err) {
    we_model *model = we_memory_new(sizeof *model);
    if (!model)
        return we_error_no_memory(err);
    we_status status = we_builder_seal(builder, &model->graph, err);
    if (status == WE_OK)
        status = we_trees_check(&model->graph, err);
    if (status != WE_OK) {
        we_packs_close(&model->packs);
        we_graph_free(&model->graph);
        we_memory_free(model);
        return status;
    }
    atomic_init(&model->references, 1);
    model->mapping = mapping;
    we_packs_init(&model->packs, mapping.mapped ? mapping.bytes : NULL, mapping.size);
    *out = model;
    return WE_OK;
}

we_status we_builder_finish(we_builder *builder, we_model **out, we_error *err) {
    if (!out)
        return we_error_set(err, WE_INVALID_ARGUMENT, "the out pointer is NULL");
    *out = NULL;
    return seal(builder, (we_mapping){0}, out, err);
}

/* Takes over the mapping, whatever happens. */
static we_status from_mapping(we_mapping mapping, we_model **out, we_error *err) {
    we_builder *builder = NULL;
    we_status status = we_load_graph(&mapping, &builder, err);
    if (status == WE_OK)
        status = seal(builder, mapping, out, err);
    we_builder_free(builder);
    if (status != WE_OK)
        we_mapping_close(&mapping);
    return status;
}

we_status we_model_load(const char *path, we_model **out, we_error *err) {
    we_mapping mapping;
    if (!out || !path)
        return we_error_set(err, WE_INVALID_ARGUMENT, "path or out pointer is NULL");
    *out = NULL;
    WE_TRY(we_mapping_open(path, &mapping, err));
    return from_mapping(mapping, out, err);
}

we_status we_model_load_memory(const void *bytes, size_t size, we_model **out, we_error *err) {
    we_mapping mapping;
    if (!out || (!bytes && size))
        return we_error_set(err, WE_INVALID_ARGUMENT, "bytes or out pointer is NULL");
    *out = NULL;
    WE_TRY(we_mapping_copy(bytes, size, &mapping, err));
    return from_mapping(mapping, out, err);
}

we_model *we_model_retain(we_model *model) {
    atomic_fetch_add_explicit(&model->references, 1, memory_order_relaxed);
    return model;
}

void we_model_release(we_model *model) {
    if (!model || atomic_fetch_sub_explicit(&model->references, 1, memory_order_acq_rel) != 1)
        return;
    we_graph_free(&model->graph);
    we_mapping_close(&model->mapping);
    we_memory_free(model);
}

const char *we_model_name(const we_model *model) {
    return model->graph.name;
}

size_t we_model_input_count(const we_model *model) {
    return model->graph.input_count;
}

size_t we_model_output_count(const we_model *model) {
    return model->graph.output_count;
}

size_t we_model_node_count(const we_model *model) {
    return model->graph.node_count;
}

static void describe(const we_value *value, we_io_info *out) {
    memset(out, 0, sizeof *out);
    out->name = value->name;
    out->kind = value->io;
    out->dtype = value->typed || value->kind == WE_VALUE_INPUT ? value->dtype : WE_DTYPE_COUNT;
    out->rank = value->typed ? value->rank : -1;
    for (int32_t i = 0; i < out->rank; i++) {
        out->dims[i] = value->dims[i];
        out->symbols[i] = value->symbols[i];
    }
}

we_status we_model_input(const we_model *model, size_t index, we_io_info *out, we_error *err) {
    if (index >= model->graph.input_count)
        return we_error_set(err, WE_INVALID_ARGUMENT, "the model has %zu inputs", model->graph.input_count);
    describe(&model->graph.values[model->graph.inputs[index]], out);
    return WE_OK;
}

we_status we_model_output(const we_model *model, size_t index, we_io_info *out, we_error *err) {
    if (index >= model->graph.output_count)
        return we_error_set(err, WE_INVALID_ARGUMENT, "the model has %zu outputs", model->graph.output_count);
    describe(&model->graph.values[model->graph.outputs[index]], out);
    return WE_OK;
}
