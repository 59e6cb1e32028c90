/* Rule of Pad. Every axis is cut into stretches, and each combination of stretches is one region. */
#include <string.h>

#include "geometry/lower.h"

typedef enum pad_mode {
    CONSTANT,
    EDGE,
    REFLECT,
    WRAP,
    MODE_COUNT,
} pad_mode;

static const char *const MODES[] = {"constant", "edge", "reflect", "wrap"};

/* Where a part of an axis comes from: extent, first source coordinate, source step (0 repeats, -1 mirrors),
 * and where it goes. `inside` where it is of the input itself. */
typedef struct stretch {
    int64_t size, src, step, dst;
    bool inside;
} stretch;

/* One round of padding: amounts per axis, negative ones crop. */
typedef struct padding {
    int64_t begin[WE_MAX_RANK], end[WE_MAX_RANK];
} padding;

/* The stretches of one axis of extent n; returns how many. Where `n` is 0, only a constant fills. */
static int32_t stretches_of(pad_mode mode, int64_t n, int64_t begin, int64_t end, stretch *out) {
    int32_t count = 0;
    int64_t crop_head = begin < 0 ? -begin : 0, crop_tail = end < 0 ? -end : 0;
    int64_t middle = n - crop_head - crop_tail, head = begin > 0 ? begin : 0, tail = end > 0 ? end : 0;
    int64_t after = head + (middle > 0 ? middle : 0);
    if (middle > 0)
        out[count++] = (stretch){middle, crop_head, 1, head, true};
    stretch before[] = {[CONSTANT] = {head, 0, 0, 0, false},
                        [EDGE] = {head, 0, 0, 0, false},
                        [REFLECT] = {head, head, -1, 0, false},
                        [WRAP] = {head, n - head, 1, 0, false}};
    stretch behind[] = {[CONSTANT] = {tail, 0, 0, after, false},
                        [EDGE] = {tail, n - 1, 0, after, false},
                        [REFLECT] = {tail, n - 2, -1, after, false},
                        [WRAP] = {tail, 0, 1, after, false}};
    if (head)
        out[count++] = before[mode];
    if (tail)
        out[count++] = behind[mode];
    return count;
}

/* x padded into `out`, a tensor of the right shape. Regions outside the input read `value`, a scalar; where
 * that is -1 they are left to the raster's fill of 0. */
static void pad_once(we_lower *l, pad_mode mode, int32_t x, const padding *p, int32_t value, int32_t out) {
    we_tensor from = we_lower_tensor(l, x), to = we_lower_tensor(l, out);
    stretch stretches[WE_MAX_RANK][3];
    int32_t counts[WE_MAX_RANK], pick[WE_MAX_RANK] = {0};
    int64_t src[WE_MAX_RANK], dst[WE_MAX_RANK];
    we_raster raster = {0};
    bool any = l->status == WE_OK;
    we_strides(from.rank, from.dims, src);
    we_strides(to.rank, to.dims, dst);
    for (int32_t i = 0; i < from.rank; i++) {
        counts[i] = stretches_of(mode, from.dims[i], p->begin[i], p->end[i], stretches[i]);
        any = any && counts[i] > 0;
    }
    while (any) {
        we_box box = {.rank = from.rank};
        bool inside = true;
        for (int32_t i = 0; i < from.rank; i++) {
            const stretch *s = &stretches[i][pick[i]];
            inside = inside && (s->inside || mode != CONSTANT);
            box.size[i] = s->size;
            box.src_offset += s->src * src[i];
            box.src_stride[i] = s->step * src[i];
            box.dst_offset += s->dst * dst[i];
            box.dst_stride[i] = dst[i];
        }
        if (!inside) {
            box.src_offset = 0;
            memset(box.src_stride, 0, sizeof box.src_stride);
        }
        if (inside || value >= 0)
            we_raster_add(l, &raster, inside ? x : value, &box);
        int32_t i = from.rank - 1;
        for (; i >= 0 && ++pick[i] == counts[i]; i--)
            pick[i] = 0;
        any = i >= 0 && l->status == WE_OK;
    }
    we_emit_raster(l, &raster, out);
}

/* Take from `rest` what one round can pad: a mirror or a repetition reaches no further than the input.
 * Returns true where nothing is left. */
static bool take_round(pad_mode mode, const int64_t *dims, int32_t rank, padding *rest, padding *round) {
    bool last = true;
    for (int32_t i = 0; i < rank; i++) {
        int64_t most = mode == REFLECT ? dims[i] - 1 : mode == WRAP ? dims[i] : INT64_MAX;
        round->begin[i] = rest->begin[i] < most ? rest->begin[i] : most;
        round->end[i] = rest->end[i] < most ? rest->end[i] : most;
        rest->begin[i] -= round->begin[i];
        rest->end[i] -= round->end[i];
        last = last && rest->begin[i] == 0 && rest->end[i] == 0;
    }
    return last;
}

/* Borders read the input, so they need one; a mirror needs two elements. */
static bool can_pad(pad_mode mode, const we_tensor *x, const padding *p) {
    for (int32_t i = 0; i < x->rank; i++) {
        bool padded = p->begin[i] > 0 || p->end[i] > 0, cropped = p->begin[i] < 0 || p->end[i] < 0;
        int64_t left = x->dims[i] + (p->begin[i] < 0 ? p->begin[i] : 0) + (p->end[i] < 0 ? p->end[i] : 0);
        if (padded && (left <= 0 || (mode == REFLECT && x->dims[i] < 2) || (mode != EDGE && cropped)))
            return false;
    }
    return true;
}

static pad_mode mode_of(we_lower *l) {
    const char *name = we_node_string(l->call.node, "mode", "constant");
    for (int mode = 0; mode < MODE_COUNT; mode++) {
        if (strcmp(name, MODES[mode]) == 0)
            return (pad_mode)mode;
    }
    we_lower_fail(l, WE_INVALID_MODEL, "attribute 'mode' must be 'constant', 'edge', 'reflect' or 'wrap'");
    return CONSTANT;
}

void we_rule_pad(we_lower *l) {
    const we_tensor *value = we_call_input(&l->call, 2);
    pad_mode mode = mode_of(l);
    padding rest, round;
    if (value && (value->count != 1 || value->dtype != l->call.in[0]->dtype))
        we_lower_fail(l, WE_INVALID_MODEL, "the padding value must be a scalar of the input's type");
    if (l->status == WE_OK)
        l->status = we_call_pads(&l->call, rest.begin, rest.end);
    if (l->status != WE_OK)
        return;
    if (mode != CONSTANT && !can_pad(mode, l->call.in[0], &rest)) {
        we_lower_fail(l, WE_INVALID_MODEL, "the input is too small to pad by this mode");
        return;
    }
    int32_t x = l->in[0], filler = value && mode == CONSTANT ? l->in[2] : -1;
    for (bool last = false; !last && l->status == WE_OK;) {
        we_tensor from = we_lower_tensor(l, x);
        last = take_round(mode, from.dims, from.rank, &rest, &round);
        for (int32_t i = 0; i < from.rank; i++)
            from.dims[i] += round.begin[i] + round.end[i];
        int32_t to = last ? l->out[0] : we_lower_temp(l, from.dtype, from.rank, from.dims);
        pad_once(l, mode, x, &round, filler, to);
        x = to;
    }
}
