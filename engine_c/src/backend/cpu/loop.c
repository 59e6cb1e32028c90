/* The loop command. A cursor steps through the iterations and keeps every view's place; a simple body (one
 * copy or one binary function between views) then runs straight on pointers, any other through the table of
 * commands with the views' entries in `memory` moved. The fast way for simple bodies is in loop_pieces.c. */
#include <string.h>

#include "backend/cpu/loop.h"
#include "base/dtype.h"
#include "base/error.h"
#include "graph/opspec.h"

typedef struct place {
    const we_loop_view *view;
    char *base, *first;
    int64_t width, at, index_at;
    we_tensor index; /* with data */
} place;

typedef struct cursor {
    const we_loop *loop;
    int64_t iteration, x[WE_MAX_RANK];
    place places[WE_LOOP_VIEWS];
} cursor;

/* ---- Indices are checked before the loop starts, or by who uses them ---- */

static we_status check_index(const we_run *run, const we_command *command, const we_loop_index *index,
                             we_error *err) {
    we_tensor tensor = run->program->tensors[index->tensor];
    const we_node *node = &run->graph->nodes[command->node];
    tensor.data = run->memory[index->tensor];
    for (int64_t i = 0; i < tensor.count; i++) {
        int64_t value = we_tensor_integer(&tensor, i), extent = index->extent[i % index->components];
        if (value < -extent || value >= extent)
            return we_error_set_at(err, WE_INVALID_ARGUMENT, we_op_name(node->op), node->name,
                                   "index %lld is outside an axis of %lld", (long long)value,
                                   (long long)extent);
    }
    return WE_OK;
}

static we_status check_indices(const we_run *run, const we_command *command, we_error *err) {
    const we_loop *loop = &command->u.loop;
    for (size_t v = 0; v < loop->view_count; v++) {
        if (loop->views[v].index.tensor >= 0)
            WE_TRY(check_index(run, command, &loop->views[v].index, err));
    }
    return WE_OK;
}

/* ---- Stepping ---- */

static void start(cursor *c, const we_run *run, const we_loop *loop, int64_t iteration) {
    c->loop = loop;
    c->iteration = iteration;
    for (int32_t i = loop->rank; i-- > 0; iteration /= loop->size[i])
        c->x[i] = iteration % loop->size[i];
    for (size_t v = 0; v < loop->view_count; v++) {
        const we_loop_view *view = &loop->views[v];
        place *p = &c->places[v];
        *p = (place){.view = view, .base = run->memory[view->base], .at = view->at.offset};
        p->width = (int64_t)we_dtype_size(run->program->tensors[view->view].dtype);
        p->first = view->first >= 0 ? run->memory[view->first] : NULL;
        p->index_at = view->index.at.offset;
        if (view->index.tensor >= 0) {
            p->index = run->program->tensors[view->index.tensor];
            p->index.data = run->memory[view->index.tensor];
        }
        for (int32_t i = 0; i < loop->rank; i++) {
            p->at += c->x[i] * view->at.stride[i];
            p->index_at += c->x[i] * view->index.at.stride[i];
        }
    }
}

/* Advance dim `dim` of every view by `count` steps. */
static void advance(cursor *c, int32_t dim, int64_t count) {
    for (size_t v = 0; v < c->loop->view_count; v++) {
        c->places[v].at += count * c->places[v].view->at.stride[dim];
        c->places[v].index_at += count * c->places[v].view->index.at.stride[dim];
    }
}

static void step(cursor *c) {
    c->iteration++;
    for (int32_t i = c->loop->rank; i-- > 0;) {
        advance(c, i, 1);
        if (++c->x[i] < c->loop->size[i])
            return;
        advance(c, i, -c->loop->size[i]);
        c->x[i] = 0;
    }
}

static char *pointer(const cursor *c, const place *p) {
    const we_loop_index *index = &p->view->index;
    int64_t at = p->at;
    if (p->first && c->iteration == 0)
        return p->first;
    for (int32_t k = 0; index->tensor >= 0 && k < index->components; k++) {
        int64_t value = we_tensor_integer(&p->index, p->index_at + k);
        at += (value < 0 ? value + index->extent[k] : value) * index->step[k];
    }
    return p->base + at * p->width;
}

/* ---- Simple bodies ---- */

typedef struct simple_job {
    const we_run *run;
    const we_loop *loop;
} simple_job;

/* Where the body finds a tensor: the place of its view, or NULL where it does not move. */
static const place *place_of(const cursor *c, int32_t tensor) {
    for (size_t v = 0; v < c->loop->view_count; v++) {
        if (c->places[v].view->view == tensor)
            return &c->places[v];
    }
    return NULL;
}

static char *operand(const cursor *c, const we_run *run, const place *p, int32_t tensor) {
    return p ? pointer(c, p) : run->memory[tensor];
}

static void copies(const cursor *at, const we_run *run, const we_command *body, int64_t count) {
    cursor c = *at;
    we_region region = body->u.raster.regions[0];
    size_t width = we_dtype_size(run->program->tensors[body->out].dtype);
    size_t bytes = (size_t)we_region_count(&region) * width;
    const place *from = place_of(&c, region.source), *to = place_of(&c, body->out);
    we_region_coalesce(&region);
    bool whole =
        region.src.offset == 0 && region.dst.offset == 0 &&
        (region.rank == 0 || (region.rank == 1 && region.src.stride[0] == 1 && region.dst.stride[0] == 1));
    for (int64_t i = 0; i < count; i++, step(&c)) {
        const char *in = operand(&c, run, from, region.source);
        if (whole)
            memcpy(pointer(&c, to), in, bytes);
        else
            we_region_copy(&region, width, in, pointer(&c, to));
    }
}

static void binaries(const cursor *at, const we_run *run, const we_command *body, int64_t count) {
    cursor c = *at;
    const we_walk *walk = &body->u.binary.walk;
    we_binary_kernel kernel =
        run->kernels->binary[body->u.binary.fn][run->program->tensors[body->in[0]].dtype];
    const place *left = place_of(&c, body->in[0]), *right = place_of(&c, body->in[1]),
                *to = place_of(&c, body->out);
    int64_t n = walk->rank ? walk->size[0] : 1;
    int64_t left_step = walk->rank ? walk->step[0][0] : 0, right_step = walk->rank ? walk->step[1][0] : 0;
    for (int64_t i = 0; i < count; i++, step(&c))
        kernel(n, operand(&c, run, left, body->in[0]), left_step, operand(&c, run, right, body->in[1]),
               right_step, pointer(&c, to));
}

static void simple_range(void *context, int64_t begin, int64_t end) {
    const simple_job *job = context;
    cursor c;
    start(&c, job->run, job->loop, begin);
    (job->loop->body[0].kind == WE_COMMAND_RASTER ? copies : binaries)(&c, job->run, &job->loop->body[0],
                                                                       end - begin);
}

/* ---- Any body ---- */

static we_status run_body(const we_run *run, const we_loop *loop, we_error *err) {
    cursor c;
    int64_t count = we_loop_iterations(loop);
    start(&c, run, loop, 0);
    for (int64_t i = 0; i < count; i++, step(&c)) {
        for (size_t v = 0; v < loop->view_count; v++)
            run->memory[loop->views[v].view] = pointer(&c, &c.places[v]);
        for (size_t b = 0; b < loop->body_count; b++)
            WE_TRY(we_cpu_backend.execute(run, &loop->body[b], err));
    }
    return WE_OK;
}

we_status we_cpu_loop(const we_run *run, const we_command *command, we_error *err) {
    const we_loop *loop = &command->u.loop;
    int64_t count = we_loop_iterations(loop);
    if (!loop->pieces) /* which looks at each index itself */
        WE_TRY(check_indices(run, command, err));
    for (size_t i = 0; i < loop->write_count; i++) {
        const we_tensor *result = &run->program->tensors[loop->writes[i]];
        if (loop->seeds[i] >= 0 && result->count)
            memcpy(run->memory[loop->writes[i]], run->memory[loop->seeds[i]],
                   (size_t)result->count * we_dtype_size(result->dtype));
    }
    if (count == 0)
        return WE_OK;
    if (!we_loop_is_simple(run->program, loop))
        return run_body(run, loop, err);
    int64_t each = run->program->tensors[loop->body[0].out].count, grain = 1 + 32768 / (each + 8);
    if (loop->pieces)
        return we_cpu_loop_pieces(run, loop, grain) ? WE_OK : check_indices(run, command, err);
    simple_job job = {run, loop};
    we_parallel_for(loop->independent ? run->pool : NULL, count, grain, simple_range, &job);
    return WE_OK;
}
