/* RotaryEmbedding: pairs (u, v) of each head turn by the angle of their place:
 * (cos * u - sin * v, sin * u + cos * v). A pair is two neighbours, or an element of each half. */
#include "geometry/parts.h"
#include "ops/sequence.h"

/* The rows of a table [positions, pairs] that position_ids name: [batch, length, pairs]. */
static int32_t look_up(we_lower *l, const we_rotary *r, int32_t table) {
    int64_t dims[3] = {r->batch, r->length, r->half}, places = r->batch * r->length;
    int32_t rows = we_lower_temp(l, l->call.in[0]->dtype, 3, dims);
    we_loop_builder loop;
    we_loop_begin(l, &loop, 1, &places);
    loop.loop.independent = true;
    int32_t from = we_loop_view_of(l, &loop, table, 1, &r->half, &(we_address){0});
    we_loop_move_by(l, &loop,
                    &(we_loop_index){.tensor = l->in[3],
                                     .components = 1,
                                     .at.stride = {1},
                                     .step = {r->half},
                                     .extent = {we_lower_tensor(l, table).dims[0]}});
    int32_t to = we_loop_view_of(l, &loop, rows, 1, &r->half, &(we_address){.stride = {r->half}});
    we_emit_reshape(l, from, 1, &r->half, to);
    we_loop_end(l, &loop);
    return rows;
}

/* Cosines or sines per place, to be broadcast over the heads. */
static int32_t angles(we_lower *l, const we_rotary *r, int32_t index) {
    int64_t dims[4] = {r->batch, r->packed ? r->length : 1, r->packed ? 1 : r->length, r->half};
    int32_t table = l->in[index];
    if (we_call_input(&l->call, 3))
        table = look_up(l, r, table);
    return we_emit_wide(l, we_emit_reshape(l, table, 4, dims, WE_NEW));
}

/* first op second, each an angle times one of the pair */
static int32_t turned(we_lower *l, we_binary_fn fn, int32_t angle_u, int32_t u, int32_t angle_v, int32_t v) {
    int32_t first = we_emit_binary(l, WE_BINARY_Mul, angle_u, u, WE_NEW);
    int32_t second = we_emit_binary(l, WE_BINARY_Mul, angle_v, v, WE_NEW);
    return we_emit_as(l, we_emit_binary(l, fn, first, second, WE_NEW), l->call.in[0]->dtype);
}

/* Elements start, start + step, ... of each head, from dense rows of `width` (those from `skip` on). */
static void place(we_lower *l, we_raster *raster, const we_rotary *r, int32_t from, int64_t width,
                  int64_t skip, int64_t start, int64_t step) {
    we_box box = {.rank = 2,
                  .size = {r->batch * r->heads * r->length, width - skip},
                  .src_stride = {width, 1},
                  .src_offset = skip,
                  .dst_stride = {r->size, step},
                  .dst_offset = start};
    we_raster_add(l, raster, from, &box);
}

void we_rule_rotary(we_lower *l) {
    we_rotary r;
    we_raster raster = {0};
    l->status = we_call_rotary(&l->call, &r);
    if (l->status != WE_OK)
        return;
    int64_t dims[4] = {r.batch, r.packed ? r.length : r.heads, r.packed ? r.heads : r.length, r.size};
    bool neighbours = we_node_int(l->call.node, "interleaved", 0) != 0;
    int64_t step = neighbours ? 2 : 1, second = neighbours ? 1 : r.half;
    int32_t x = we_emit_reshape(l, we_emit_wide(l, l->in[0]), 4, dims, WE_NEW);
    int32_t cosine = angles(l, &r, 1), sine = angles(l, &r, 2);
    int32_t u = we_emit_part(l, x, 3, 0, step, r.half), v = we_emit_part(l, x, 3, second, step, r.half);
    place(l, &raster, &r, turned(l, WE_BINARY_Sub, cosine, u, sine, v), r.half, 0, 0, step);
    place(l, &raster, &r, turned(l, WE_BINARY_Add, sine, u, cosine, v), r.half, 0, second, step);
    place(l, &raster, &r, l->in[0], r.size, 2 * r.half, 2 * r.half, 1);
    we_emit_raster(l, &raster, l->out[0]);
}
