/* Attention of a block of queries per group (attention.cl). What else the operator offers - a past, windows,
 * a soft cap, further outputs - is left to the decomposition. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "backend/opencl/opencl.h"
#include "ops/sequence.h"

enum {
    QUERIES = 32,
    ITEMS = 256,
    MOST_SIZE = 128, /* of a head */
};

/* As place_t and attention_t of attention.cl. */
typedef struct place {
    int64_t batch, head, row;
} place;

typedef struct layout {
    place query, key, value, out, mask;
    int32_t heads, shared_heads, queries, keys, causal;
    float scale;
} layout;

typedef struct parameters {
    we_attention a;
    layout l;
    bool masked, boolean;
} parameters;

static place place_of(bool packed, int64_t heads, int64_t length, int64_t size) {
    int64_t all = heads * length * size;
    return packed ? (place){all, size, heads * size} : (place){all, length * size, size};
}

/* Steps of a mask whose dims are those of the scores, or 1; false where it ends before the keys do. */
static bool place_mask(const we_tensor *mask, int64_t keys, place *out) {
    int64_t steps[4] = {0}, dense = 1;
    for (int32_t i = 1; i <= mask->rank; i++) {
        int64_t dim = mask->dims[mask->rank - i];
        steps[4 - i] = dim == 1 ? 0 : dense;
        dense *= dim;
    }
    *out = (place){steps[0], steps[1], steps[2]};
    return mask->dims[mask->rank - 1] == keys && keys > 1;
}

static bool is_plain(const we_call *call, const we_attention *a) {
    return a->past == 0 && !we_call_input(call, 4) && !we_call_input(call, 5) && !we_call_input(call, 6) &&
           a->left < 0 && a->right < 0 && call->node->output_count == 1 &&
           !(we_node_float(call->node, "softcap", 0) > 0) &&
           we_node_int(call->node, "softmax_precision", 0) != 11 /* ONNX's DOUBLE */;
}

static bool accept(const we_call *call, we_arena *arena, const void **out) {
    parameters *p = we_arena_new(arena, sizeof *p);
    const we_tensor *mask = we_call_input(call, 3);
    if (!p || we_call_attention(call, &p->a) != WE_OK || !is_plain(call, &p->a))
        return false;
    const we_attention *a = &p->a;
    for (int32_t i = 0; i < 3; i++) {
        if (call->in[i]->dtype != WE_F32 || call->in[i]->count == 0)
            return false;
    }
    p->l = (layout){.query = place_of(a->packed, a->heads, a->queries, a->size),
                    .key = place_of(a->packed, a->shared_heads, a->keys, a->size),
                    .value = place_of(a->packed, a->shared_heads, a->keys, a->value_size),
                    .out = place_of(a->packed, a->heads, a->queries, a->value_size),
                    .heads = (int32_t)a->heads,
                    .shared_heads = (int32_t)a->shared_heads,
                    .queries = (int32_t)a->queries,
                    .keys = (int32_t)a->keys,
                    .causal = a->causal,
                    .scale = (float)we_node_float(call->node, "scale", 1 / sqrt((double)a->size))};
    p->masked = mask != NULL;
    p->boolean = mask && mask->dtype == WE_BOOL;
    *out = p;
    return a->size <= MOST_SIZE && a->value_size <= MOST_SIZE && a->keys < INT32_MAX &&
           a->queries < INT32_MAX &&
           (!mask || ((p->boolean || mask->dtype == WE_F32) && mask->rank <= 4 &&
                      place_mask(mask, a->keys, &p->l.mask)));
}

static we_work work(const void *given) {
    const we_attention *a = &((const parameters *)given)->a;
    double scores = (double)(a->batch * a->heads) * (double)a->queries * (double)a->keys;
    double rows = (double)(a->batch * a->heads) * (double)(a->queries + a->keys);
    return (we_work){2 * scores * (double)(a->size + a->value_size + 8),
                     rows * (double)(a->size + a->value_size) * sizeof(float), 1};
}

static void record(we_recorder *r, const we_command *c) {
    const parameters *p = c->u.claim.parameters;
    const we_ports *ports = c->u.claim.ports;
    const we_attention *a = &p->a;
    char options[WE_OPENCL_OPTIONS];
    int32_t keys =
        a->size + a->value_size > MOST_SIZE ? 16 : 32; /* three blocks fit the least local memory */
    we_opencl_options(r, WE_F32, options);
    size_t used = strlen(options);
    snprintf(options + used, sizeof options - used, " -DBQ=%d -DBK=%d -DD=%d -DDV=%d -DNT=%d -DMASK=%d",
             (int)QUERIES, (int)keys, (int)a->size, (int)a->value_size, (int)ITEMS,
             p->boolean ? 2 : p->masked);
    we_record_kernel(r, we_cl_attention, options, "attention");
    we_record_bytes(r, &p->l, sizeof p->l);
    we_record_tensor(r, c->in[0]);
    we_record_tensor(r, ports->in[1]);
    we_record_tensor(r, ports->in[2]);
    we_record_tensor(r, p->masked ? ports->in[3] : c->in[0]);
    we_record_tensor(r, c->out);
    int64_t groups[WE_TAPE_DIMS] = {(a->queries + QUERIES - 1) / QUERIES, a->heads, a->batch};
    we_record_groups(r, groups, ITEMS);
}

const we_claim_methods we_claim_tiled_attention = {
    .accept = accept, .work = work, .record = record, .reads = 1u << 1 | 1u << 2 | 1u << 3};
