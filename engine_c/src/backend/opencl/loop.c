/* Loops. One with a simple body is one launch: a work item per iteration and element where iterations are
 * independent, else one per element that goes through the iterations in order. Any other loop without indices
 * is recorded iteration by iteration, with the views moved to where they are in each. */
#include <stdio.h>
#include <string.h>

#include "backend/opencl/formulas.h"
#include "backend/opencl/opencl.h"
#include "backend/opencl/text.h"
#include "base/dtype.h"

enum {
    MOST_LAUNCHES = 1 << 15, /* of one loop */
    MOST_ARGUMENT = 1000,    /* bytes of all arguments: what every device takes, less those of the buffers */
    SIDES = 3,               /* the result, then what is read */
};

/* A view, or a tensor that does not move, and how its elements are walked. */
typedef struct side {
    int32_t tensor;
    const we_loop_view *view;
    int64_t offset; /* elements */
    int64_t step[WE_MAX_RANK];
} side;

typedef struct simple {
    const we_loop *loop;
    int32_t side_count, rank; /* rank: of the elements of one iteration */
    int64_t each, size[WE_MAX_RANK];
    side sides[SIDES];
    const char *formula; /* NULL: a copy */
    we_dtype in_dtype, out_dtype;
} simple;

static const we_loop_view *view_of(const we_loop *loop, int32_t tensor) {
    for (size_t v = 0; v < loop->view_count; v++) {
        if (loop->views[v].view == tensor)
            return &loop->views[v];
    }
    return NULL;
}

static we_dtype bits_of(we_dtype dtype) {
    static const we_dtype BY_WIDTH[] = {[1] = WE_U8, [2] = WE_U16, [4] = WE_U32, [8] = WE_U64};
    return BY_WIDTH[we_dtype_size(dtype)];
}

static void read_copy(const we_command *body, simple *s) {
    we_region region = body->u.raster.regions[0];
    we_region_coalesce(&region);
    s->rank = region.rank;
    s->each = we_region_count(&region);
    memcpy(s->size, region.size, sizeof region.size);
    s->sides[0] = (side){.tensor = body->out, .offset = region.dst.offset};
    s->sides[1] = (side){.tensor = region.source, .offset = region.src.offset};
    memcpy(s->sides[0].step, region.dst.stride, sizeof region.dst.stride);
    memcpy(s->sides[1].step, region.src.stride, sizeof region.src.stride);
    s->side_count = 2;
    s->in_dtype = s->out_dtype = bits_of(s->out_dtype);
}

static void read_binary(const we_command *body, simple *s) {
    const we_walk *walk = &body->u.binary.walk;
    s->rank = walk->rank;
    s->each = s->size[0] = walk->rank ? walk->size[0] : 1;
    s->sides[0] = (side){.tensor = body->out, .step = {1}};
    for (int32_t i = 0; i < 2; i++)
        s->sides[1 + i] = (side){.tensor = body->in[i], .step = {walk->rank ? walk->step[i][0] : 0}};
    s->side_count = 3;
    s->formula = we_formula_binary(body->u.binary.fn, s->in_dtype);
}

static simple simple_of(const we_program *program, const we_loop *loop) {
    const we_command *body = &loop->body[0];
    simple s = {.loop = loop, .out_dtype = program->tensors[body->out].dtype};
    s.in_dtype = body->kind == WE_COMMAND_BINARY ? program->tensors[body->in[0]].dtype : s.out_dtype;
    (body->kind == WE_COMMAND_RASTER ? read_copy : read_binary)(body, &s);
    for (int32_t i = 0; i < s.side_count; i++)
        s.sides[i].view = view_of(loop, s.sides[i].tensor);
    return s;
}

static bool is_indexed(const side *s) {
    return s->view && s->view->index.tensor >= 0;
}

/* ---- The arguments: structs of longs, and the text of their types ---- */

typedef struct longs {
    int64_t at[MOST_ARGUMENT / sizeof(int64_t)];
    size_t count;
    bool failed;
} longs;

static void push(longs *l, int64_t value) {
    if (l->count < sizeof l->at / sizeof *l->at)
        l->at[l->count++] = value;
    else
        l->failed = true;
}

static void push_all(longs *l, const int64_t *values, int32_t count) {
    for (int32_t i = 0; i < count; i++)
        push(l, values[i]);
}

static void push_side(longs *l, const simple *s, const side *of) {
    static const int64_t still[WE_MAX_RANK];
    const we_loop_view *view = of->view;
    push(l, of->offset + (view ? view->at.offset : 0));
    push_all(l, view ? view->at.stride : still, s->loop->rank);
    push_all(l, of->step, s->rank);
    if (!is_indexed(of))
        return;
    push(l, view->index.at.offset);
    push_all(l, view->index.at.stride, s->loop->rank);
    push_all(l, view->index.step, view->index.components);
    push_all(l, view->index.extent, view->index.components);
}

static longs arguments_of(const simple *s) {
    longs l = {.count = 0};
    push(&l, we_loop_iterations(s->loop));
    push(&l, s->each);
    push_all(&l, s->loop->size, s->loop->rank);
    push_all(&l, s->size, s->rank);
    for (int32_t i = 0; i < s->side_count; i++)
        push_side(&l, s, &s->sides[i]);
    return l;
}

static void write_type(we_text *t, const simple *s) {
    we_text_add(t, "typedef struct { long iterations, each");
    for (int32_t i = 0; i < s->loop->rank; i++)
        we_text_add(t, ", size%d", (int)i);
    for (int32_t i = 0; i < s->rank; i++)
        we_text_add(t, ", e%d", (int)i);
    for (int32_t n = 0; n < s->side_count; n++) {
        const side *of = &s->sides[n];
        we_text_add(t, ", at%d", (int)n);
        for (int32_t i = 0; i < s->loop->rank; i++)
            we_text_add(t, ", at%d_%d", (int)n, (int)i);
        for (int32_t i = 0; i < s->rank; i++)
            we_text_add(t, ", step%d_%d", (int)n, (int)i);
        if (!is_indexed(of))
            continue;
        we_text_add(t, ", index%d", (int)n);
        for (int32_t i = 0; i < s->loop->rank; i++)
            we_text_add(t, ", index%d_%d", (int)n, (int)i);
        for (int32_t i = 0; i < of->view->index.components; i++)
            we_text_add(t, ", move%d_%d", (int)n, (int)i);
        for (int32_t i = 0; i < of->view->index.components; i++)
            we_text_add(t, ", extent%d_%d", (int)n, (int)i);
    }
    we_text_add(t, "; } loop_t;\n");
}

/* ---- The kernel ---- */

/* Coordinates of `from` in the box of sizes w.<size>0... */
static void write_coordinates(we_text *t, const char *name, const char *size, const char *from,
                              int32_t rank) {
    we_text_add(t, "long %s_rest = %s;\n", name, from);
    for (int32_t i = rank - 1; i >= 0; i--)
        we_text_add(t, "long %s%d = %s_rest %% w.%s%d; %s_rest /= w.%s%d;\n", name, (int)i, name, size,
                    (int)i, name, size, (int)i);
}

/* Where side n is in iteration `it`, in elements from its base. */
static void write_address(we_text *t, const we_program *program, const simple *s, int32_t n) {
    const side *of = &s->sides[n];
    we_text_add(t, "long a%d = w.at%d", (int)n, (int)n);
    for (int32_t i = 0; i < s->loop->rank; i++)
        we_text_add(t, " + x%d * w.at%d_%d", (int)i, (int)n, (int)i);
    we_text_add(t, ";\n");
    for (int32_t k = 0; is_indexed(of) && k < of->view->index.components; k++) {
        we_text_add(t, "{ long v = LOAD(%s, j%d, jo%d, w.index%d + %d",
                    we_opencl_type(program->tensors[of->view->index.tensor].dtype), (int)n, (int)n, (int)n,
                    (int)k);
        for (int32_t i = 0; i < s->loop->rank; i++)
            we_text_add(t, " + x%d * w.index%d_%d", (int)i, (int)n, (int)i);
        we_text_add(t,
                    "); long extent = w.extent%d_%d;\nif (v < -extent || v >= extent) { complain(work, "
                    "command, v, extent); "
                    "return; }\na%d += (v < 0 ? v + extent : v) * w.move%d_%d; }\n",
                    (int)n, (int)k, (int)n, (int)n, (int)k);
    }
}

/* The element: side n's operand, which is another tensor's in the first iteration where that is so. */
static void write_operand(we_text *t, const simple *s, int32_t n) {
    const side *of = &s->sides[n];
    we_text_add(t, "{ long f = a%d", (int)n);
    for (int32_t i = 0; i < s->rank; i++)
        we_text_add(t, " + y%d * w.step%d_%d", (int)i, (int)n, (int)i);
    we_text_add(t, ";\n");
    if (of->view && of->view->first >= 0) {
        we_text_add(t, "long g = %lld", (long long)of->offset);
        for (int32_t i = 0; i < s->rank; i++)
            we_text_add(t, " + y%d * w.step%d_%d", (int)i, (int)n, (int)i);
        we_text_add(t, ";\n");
    }
}

static void write_moves(we_text *t, const simple *s) {
    static const char *const NAMES[] = {"", "a", "b"};
    const char *type = we_opencl_type(s->in_dtype);
    for (int32_t n = 1; n < s->side_count; n++) {
        bool first = s->sides[n].view && s->sides[n].view->first >= 0;
        we_text_add(t, "%s %s;\n", type, NAMES[n]);
        write_operand(t, s, n);
        if (first)
            we_text_add(t, "%s = it == 0 ? LOAD(%s, k%d, ko%d, g) : LOAD(%s, p%d, o%d, f); }\n", NAMES[n],
                        type, (int)n, (int)n, type, (int)n, (int)n);
        else
            we_text_add(t, "%s = LOAD(%s, p%d, o%d, f); }\n", NAMES[n], type, (int)n, (int)n);
    }
    write_operand(t, s, 0);
    we_text_add(t, "STORE(%s, p0, o0, f, %s); }\n", we_opencl_type(s->out_dtype),
                s->formula ? s->formula : "a");
}

static void write_kernel(we_text *t, const we_program *program, const simple *s) {
    we_text_add(t, "%s\n%s\n", we_cl_elementwise, we_cl_loop);
    write_type(t, s);
    we_text_add(t, "kernel void loop(loop_t w, int command, global char *work");
    for (int32_t n = 0; n < s->side_count; n++) {
        we_text_add(t, ", global %schar *p%d, long o%d", n ? "const " : "", (int)n, (int)n);
        if (s->sides[n].view && s->sides[n].view->first >= 0)
            we_text_add(t, ", global const char *k%d, long ko%d", (int)n, (int)n);
        if (is_indexed(&s->sides[n]))
            we_text_add(t, ", global const char *j%d, long jo%d", (int)n, (int)n);
    }
    we_text_add(t, ") {\nlong id = get_global_id(0);\n");
    if (s->loop->independent)
        we_text_add(t, "if (id >= w.iterations * w.each)\n    return;\n{ long it = id / w.each, element = id "
                       "%% w.each;\n");
    else
        we_text_add(t, "if (id >= w.each)\n    return;\nfor (long it = 0; it < w.iterations; it++) { long "
                       "element = id;\n");
    write_coordinates(t, "x", "size", "it", s->loop->rank);
    write_coordinates(t, "y", "e", "element", s->rank);
    for (int32_t n = 0; n < s->side_count; n++)
        write_address(t, program, s, n);
    write_moves(t, s);
    we_text_add(t, "}\n}\n");
}

static void record_simple(we_recorder *r, const simple *s) {
    longs arguments = arguments_of(s);
    char options[WE_OPENCL_OPTIONS];
    we_text *t = we_memory_new(sizeof *t);
    if (!t) {
        we_record_fail(r, we_error_no_memory(r->err));
        return;
    }
    write_kernel(t, r->program, s);
    if (t->failed || arguments.failed)
        we_record_fail(r, we_error_set(r->err, WE_INTERNAL, "a loop's kernel is too long"));
    we_opencl_options(r, s->in_dtype, options);
    we_record_kernel(r, t->bytes, options, "loop");
    we_memory_free(t);
    we_record_bytes(r, arguments.at, arguments.count * sizeof *arguments.at);
    we_record_int(r, r->command);
    we_record_check(r);
    for (int32_t n = 0; n < s->side_count; n++) {
        const side *of = &s->sides[n];
        we_record_tensor(r, of->view ? of->view->base : of->tensor);
        if (of->view && of->view->first >= 0)
            we_record_tensor(r, of->view->first);
        if (is_indexed(of))
            we_record_tensor(r, of->view->index.tensor);
    }
    we_record_items(r, s->each * (s->loop->independent ? we_loop_iterations(s->loop) : 1),
                    we_opencl_group(r));
}

/* ---- Any body ---- */

static void move_views(we_recorder *r, const we_loop *loop, int64_t iteration) {
    for (size_t v = 0; v < loop->view_count; v++) {
        const we_loop_view *view = &loop->views[v];
        int64_t at = view->at.offset, rest = iteration;
        for (int32_t i = loop->rank; i-- > 0; rest /= loop->size[i])
            at += rest % loop->size[i] * view->at.stride[i];
        bool first = view->first >= 0 && iteration == 0;
        we_spot spot = we_record_spot_of(r, first ? view->first : view->base);
        spot.at += first ? 0 : at * (int64_t)we_dtype_size(r->program->tensors[view->view].dtype);
        r->spots[view->view] = spot;
    }
}

static bool has_indices(const we_loop *loop) {
    for (size_t v = 0; v < loop->view_count; v++) {
        if (loop->views[v].index.tensor >= 0)
            return true;
    }
    return false;
}

bool we_opencl_takes_loop(const we_opencl_device *device, const we_program *program, const we_loop *loop) {
    for (size_t i = 0; i < loop->body_count; i++) {
        if (!we_opencl_takes(device, program, &loop->body[i]))
            return false;
    }
    if (we_loop_is_simple(program, loop)) {
        simple s = simple_of(program, loop);
        return !arguments_of(&s).failed;
    }
    return !has_indices(loop) && we_loop_iterations(loop) * (int64_t)loop->body_count <= MOST_LAUNCHES;
}

void we_opencl_loop(we_recorder *r, const we_command *c) {
    const we_loop *loop = &c->u.loop;
    int64_t count = we_loop_iterations(loop);
    for (size_t i = 0; i < loop->write_count; i++) {
        if (loop->seeds[i] >= 0 && r->program->tensors[loop->writes[i]].count)
            we_opencl_copy(r, loop->seeds[i], loop->writes[i]);
    }
    if (count == 0)
        return;
    if (we_loop_is_simple(r->program, loop)) {
        simple s = simple_of(r->program, loop);
        if (s.each > 0)
            record_simple(r, &s);
        return;
    }
    for (int64_t i = 0; i < count && r->status == WE_OK; i++) {
        move_views(r, loop, i);
        for (size_t b = 0; b < loop->body_count; b++)
            we_opencl_record(r, &loop->body[b]);
    }
}
