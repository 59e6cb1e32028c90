/* Unary, binary, select, cast and chain are one thing here: a walk over the elements of the output, some
 * operands read at each, and a formula. The kernel is written per formula, types and rank; sizes and steps
 * are arguments. */
#include <string.h>

#include "backend/opencl/formulas.h"
#include "backend/opencl/opencl.h"
#include "backend/opencl/text.h"
#include "base/dtype.h"

typedef enum reading {
    READ_IN_ORDER, /* element i of the output's order */
    READ_ONE,      /* the same element always */
    READ_STEPS,
} reading;

typedef struct operand {
    int32_t tensor;
    we_dtype dtype;
    reading how;
    int64_t step[WE_MAX_RANK];
} operand;

typedef struct walk {
    int64_t count;
    int32_t rank, operand_count;
    int64_t size[WE_MAX_RANK];
    operand operands[WE_CHAIN_OPERANDS];
    int32_t out;
    we_dtype out_dtype;
    bool wide; /* an index passes 32 bits */
} walk;

/* ---- The walk ---- */

static reading reading_of(const walk *w, const operand *o) {
    int64_t dense = 1;
    bool one = true, in_order = true;
    for (int32_t i = w->rank; i-- > 0; dense *= w->size[i]) {
        one = one && o->step[i] == 0;
        in_order = in_order && o->step[i] == dense;
    }
    return in_order ? READ_IN_ORDER : one ? READ_ONE : READ_STEPS;
}

/* Rank becomes 0 where nobody needs coordinates. */
static void settle(const we_program *program, walk *w) {
    bool walked = false;
    w->count = program->tensors[w->out].count;
    w->wide = w->count > INT32_MAX / 2;
    for (int32_t n = 0; n < w->operand_count; n++) {
        operand *o = &w->operands[n];
        o->dtype = program->tensors[o->tensor].dtype;
        o->how = reading_of(w, o);
        walked = walked || o->how == READ_STEPS;
        for (int32_t i = 0; i < w->rank; i++)
            w->wide = w->wide || o->step[i] * w->size[i] > INT32_MAX / 2;
    }
    w->rank = walked ? w->rank : 0;
}

/* What is only moved goes by its width, so that the device need not have the type. */
static we_dtype as_bits(we_dtype dtype) {
    static const we_dtype BY_WIDTH[] = {[1] = WE_U8, [2] = WE_U16, [4] = WE_U32, [8] = WE_U64};
    return BY_WIDTH[we_dtype_size(dtype)];
}

static walk walk_of(const we_program *program, const we_command *c, int32_t operands, const we_walk *from) {
    walk w = {.rank = from->rank, .operand_count = operands, .out = c->out};
    w.out_dtype = program->tensors[c->out].dtype;
    memcpy(w.size, from->size, sizeof w.size);
    for (int32_t n = 0; n < operands; n++) {
        w.operands[n].tensor = c->in[n];
        memcpy(w.operands[n].step, from->step[n], sizeof from->step[n]);
    }
    settle(program, &w);
    for (int32_t n = 1; c->kind == WE_COMMAND_SELECT && n < operands; n++)
        w.operands[n].dtype = w.out_dtype = as_bits(w.out_dtype);
    return w;
}

static walk dense_walk(const we_program *program, const we_command *c) {
    const we_walk one = {.rank = 1, .size = {program->tensors[c->out].count}, .step = {{1}}};
    return walk_of(program, c, 1, &one);
}

static walk chain_walk(const we_program *program, const we_command *c) {
    const we_chain *chain = c->u.chain;
    walk w = {.rank = 2, .operand_count = chain->operand_count, .out = c->out};
    w.out_dtype = program->tensors[c->out].dtype;
    w.size[0] = chain->rows;
    w.size[1] = chain->columns;
    for (int32_t n = 0; n < chain->operand_count; n++) {
        w.operands[n].tensor = chain->operands[n].tensor;
        w.operands[n].step[0] = chain->operands[n].row_step;
        w.operands[n].step[1] = chain->operands[n].step;
    }
    settle(program, &w);
    return w;
}

/* ---- The formula: statements that leave the result in y ---- */

static const char *compute_type(we_dtype dtype) {
    return dtype == WE_F16 || dtype == WE_BF16 ? "float" : we_opencl_type(dtype);
}

static void write_cast(we_text *t, we_dtype from, we_dtype to, bool f64) {
    bool real = we_dtype_kind(from) == 'f', wide = !real && we_dtype_size(from) == 8;
    if (to == WE_BOOL)
        we_text_add(t, "uchar y = v0 != 0;\n");
    else if (we_dtype_kind(to) == 'f')
        we_text_add(t, "%s y = %sv0;\n", to == WE_F16 && from == WE_F64 ? "double" : compute_type(to),
                    wide && f64 ? "(double)" : "");
    else
        we_text_add(t, "%s y = (%s)%s(v0);\n", we_opencl_type(to), we_opencl_type(to),
                    !real          ? ""
                    : to == WE_U64 ? "TO_UNSIGNED"
                                   : "TO_WHOLE");
}

/* The name of a chain's operand or earlier result. */
static const char *name_of(int32_t in, char name[16]) {
    snprintf(name, 16, in < 0 ? "r%d" : "v%d", (int)(in < 0 ? ~in : in));
    return name;
}

static void write_step(we_text *t, const we_chain_step *s, const char *result) {
    char in[3][16];
    for (int32_t i = 0; i < s->in_count; i++)
        name_of(s->in[i], in[i]);
    bool compares = s->kind == WE_COMMAND_BINARY && we_binary_is_compare((we_binary_fn)s->fn);
    const char *type = compares ? "uchar" : "float";
    we_text_add(t, "%s %s; { ", type, result);
    if (s->kind == WE_COMMAND_UNARY)
        we_text_add(t, "float x = %s; %s = %s;", in[0], result, we_formula_unary((we_unary_fn)s->fn, WE_F32));
    else if (s->kind == WE_COMMAND_BINARY)
        we_text_add(t, "float a = %s, b = %s; %s = %s;", in[0], in[1], result,
                    we_formula_binary((we_binary_fn)s->fn, WE_F32));
    else
        we_text_add(t, "%s = %s ? %s : %s;", result, in[0], in[1], in[2]);
    we_text_add(t, " }\n");
}

static void write_chain(we_text *t, const we_chain *chain) {
    char name[16];
    for (int32_t s = 0; s < chain->step_count; s++)
        write_step(t, &chain->steps[s], s + 1 == chain->step_count ? "y" : name_of(~s, name));
}

static void write_formula(we_text *t, const walk *w, const we_command *c, bool f64) {
    const char *type = compute_type(w->operands[0].dtype);
    switch (c->kind) {
    case WE_COMMAND_UNARY:
        we_text_add(t, "%s x = v0; %s y = %s;\n", type, type,
                    we_formula_unary(c->u.unary, w->operands[0].dtype));
        break;
    case WE_COMMAND_BINARY:
        we_text_add(t, "%s a = v0, b = v1; %s y = %s;\n", type, compute_type(w->out_dtype),
                    we_formula_binary(c->u.binary.fn, w->operands[0].dtype));
        break;
    case WE_COMMAND_SELECT:
        we_text_add(t, "%s y = v0 ? v1 : v2;\n", we_opencl_type(w->out_dtype));
        break;
    case WE_COMMAND_CAST:
        write_cast(t, w->operands[0].dtype, w->out_dtype, f64);
        break;
    default:
        write_chain(t, c->u.chain);
    }
}

/* ---- The kernel ---- */

static void write_index(we_text *t, const walk *w, int32_t n) {
    static const char *const SIMPLE[] = {[READ_IN_ORDER] = "i", [READ_ONE] = "0"};
    const operand *o = &w->operands[n];
    if (o->how != READ_STEPS) {
        we_text_add(t, "%s", SIMPLE[o->how]);
        return;
    }
    for (int32_t i = 0; i < w->rank; i++)
        we_text_add(t, "%sx%d * w.step[%d]", i ? " + " : "", (int)i, (int)(n * w->rank + i));
}

static void write_coordinates(we_text *t, const walk *w) {
    if (w->rank == 0)
        return;
    we_text_add(t, "IX rest = i;\n");
    for (int32_t i = w->rank - 1; i > 0; i--)
        we_text_add(t, "IX x%d = rest %% w.size[%d]; rest /= w.size[%d];\n", (int)i, (int)i, (int)i);
    we_text_add(t, "IX x0 = rest;\n");
}

static void write_load(we_text *t, const walk *w, int32_t n) {
    we_dtype dtype = w->operands[n].dtype;
    we_text_add(t, "%s v%d = ", compute_type(dtype), (int)n);
    if (dtype == WE_F16 || dtype == WE_BF16)
        we_text_add(t, "LOAD_%s(", we_dtype_name(dtype));
    else
        we_text_add(t, "LOAD(%s, ", we_opencl_type(dtype));
    we_text_add(t, "p%d, o%d, ", (int)n, (int)n);
    write_index(t, w, n);
    we_text_add(t, ");\n");
}

static void write_kernel(we_text *t, const walk *w, const we_command *c, bool f64) {
    we_text_add(t, "%s\ntypedef struct { IX count; ", we_cl_elementwise);
    if (w->rank)
        we_text_add(t, "IX size[%d], step[%d]; ", (int)w->rank, (int)(w->rank * w->operand_count));
    we_text_add(t, "} walk;\nkernel void elementwise(walk w");
    for (int32_t n = 0; n < w->operand_count; n++)
        we_text_add(t, ", global const char *p%d, long o%d", (int)n, (int)n);
    we_text_add(t,
                ", global char *q, long qo) {\nIX i = get_global_id(0);\nif (i >= w.count)\n    return;\n");
    write_coordinates(t, w);
    for (int32_t n = 0; n < w->operand_count; n++)
        write_load(t, w, n);
    write_formula(t, w, c, f64);
    if (w->out_dtype == WE_F16 || w->out_dtype == WE_BF16)
        we_text_add(t, "STORE_%s(q, qo, i, y);\n}\n", we_dtype_name(w->out_dtype));
    else
        we_text_add(t, "STORE(%s, q, qo, i, y);\n}\n", we_opencl_type(w->out_dtype));
}

/* The struct of the kernel's first argument. */
static void record_sizes(we_recorder *r, const walk *w) {
    int64_t wide[1 + WE_MAX_RANK * (1 + WE_CHAIN_OPERANDS)];
    int32_t narrow[1 + WE_MAX_RANK * (1 + WE_CHAIN_OPERANDS)];
    size_t count = 0;
    wide[count++] = w->count;
    for (int32_t i = 0; i < w->rank; i++)
        wide[count++] = w->size[i];
    for (int32_t n = 0; n < w->operand_count; n++) {
        for (int32_t i = 0; i < w->rank; i++)
            wide[count++] = w->operands[n].step[i];
    }
    for (size_t i = 0; i < count; i++)
        narrow[i] = (int32_t)wide[i];
    if (w->wide)
        we_record_bytes(r, wide, count * sizeof *wide);
    else
        we_record_bytes(r, narrow, count * sizeof *narrow);
}

void we_opencl_elementwise(we_recorder *r, const we_command *c) {
    const we_program *program = r->program;
    walk w = c->kind == WE_COMMAND_BINARY   ? walk_of(program, c, 2, &c->u.binary.walk)
             : c->kind == WE_COMMAND_SELECT ? walk_of(program, c, 3, &c->u.select)
             : c->kind == WE_COMMAND_CHAIN  ? chain_walk(program, c)
                                            : dense_walk(program, c);
    we_text *t = we_memory_new_dirty(sizeof *t);
    char options[WE_OPENCL_OPTIONS];
    if (!t) {
        we_record_fail(r, we_error_no_memory(r->err));
        return;
    }
    t->length = 0;
    t->failed = false;
    write_kernel(t, &w, c, r->device->f64);
    we_opencl_options(
        r, c->kind == WE_COMMAND_CHAIN || c->kind == WE_COMMAND_SELECT ? WE_F32 : w.operands[0].dtype,
        options);
    strcat(options, w.wide ? " -DIX=long" : " -DIX=int");
    if (t->failed)
        we_record_fail(r, we_error_set(r->err, WE_INTERNAL, "an element-wise kernel is too long"));
    we_record_kernel(r, t->bytes, options, "elementwise");
    we_memory_free(t);
    record_sizes(r, &w);
    for (int32_t n = 0; n < w.operand_count; n++)
        we_record_tensor(r, w.operands[n].tensor);
    we_record_tensor(r, w.out);
    we_record_items(r, w.count, we_opencl_group(r));
}

bool we_opencl_casts(const we_opencl_device *d, we_dtype from, we_dtype to) {
    bool wide = from == WE_F64 || (we_dtype_kind(from) != 'f' && we_dtype_size(from) > 2);
    if (!we_opencl_type(from) || !we_opencl_type(to) || (to == WE_BF16 && wide))
        return false; /* which would round twice */
    return d->f64 || (from != WE_F64 && to != WE_F64);
}
