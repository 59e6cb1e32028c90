/* Any bytes as a model: load; if that works, prepare and run on zeros with small shapes. Nothing may crash.
 */
#include <stdint.h>
#include <stdlib.h>

#include <walle/engine.h>

enum {
    LARGEST = 1 << 16, /* elements of an input worth running */
};

static void run(we_model *model) {
    const we_session_options options = {.memory_limit = (int64_t)64 << 20, .max_trips = 64};
    we_session *session = NULL;
    we_block *inputs[8], *outputs[64];
    we_binding bindings[8];
    size_t count = we_model_input_count(model), made = 0, output_count = we_model_output_count(model);
    if (count > 8 || output_count > 64 || we_session_new(model, &options, &session, NULL) != WE_OK)
        return;
    for (; made < count; made++) {
        we_io_info info;
        int64_t elements = 1;
        we_model_input(model, made, &info, NULL);
        info.dtype = info.dtype == WE_DTYPE_COUNT ? WE_F32 : info.dtype;
        if (info.rank < 0) {
            info.rank = 1;
            info.dims[0] = 2;
        }
        for (int i = 0; i < info.rank; i++) {
            info.dims[i] = info.dims[i] < 0 ? 2 : info.dims[i];
            elements = info.dims[i] > LARGEST ? LARGEST + 1 : elements * info.dims[i];
            elements = elements > LARGEST ? LARGEST + 1 : elements;
        }
        if (elements > LARGEST ||
            we_block_new(info.dtype, info.rank, info.dims, &inputs[made], NULL) != WE_OK)
            break;
        bindings[made] = (we_binding){info.name, we_block_view(inputs[made])};
    }
    if (made == count && we_session_run(session, bindings, count, outputs, NULL) == WE_OK) {
        for (size_t i = 0; i < output_count; i++)
            we_block_release(outputs[i]);
    }
    while (made > 0)
        we_block_release(inputs[--made]);
    we_session_release(session);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    we_model *model;
    if (we_model_load_memory(data, size, &model, NULL) == WE_OK) {
        run(model);
        we_model_release(model);
    }
    return 0;
}
