/* Reductions: elements along some axes become one. Accumulations: and every step of it is kept. */
#include <math.h>
#include <string.h>

#include "array/loops.h"
#include "base/error.h"
#include "base/memory.h"
#include "base/threads.h"
#include "kernels/array_classes.h"

enum {
    BUFFER = 8192,           /* bytes of elements gathered or converted at once */
    PIECE = 1 << 15,         /* elements worth a thread's while */
    MOST_PIECES = 64,        /* of one reduction */
    SHARE_ACCUMULATORS = 64, /* a piece with results of its own has this many elements for each, or more */
};

/* ---- Dtypes ---- */

enum { RESULT_SAME = 1, RESULT_WIDE };

#define ENTRY(DT, T, R, W, place, result) [place][WE_ARRAY_##DT] = RESULT_##result,
static const uint8_t RESULTS[WE_ARRAY_REDUCE_COUNT][WE_ARRAY_DTYPE_COUNT] = {
#define WE_ARRAY_FN(function, joins)
#define WE_ARRAY_ROW(function, class, result, ...) OF_##class(ENTRY, WE_ARRAY_REDUCE_##function, result)
#include <walle/array_reduce.inc>
#undef WE_ARRAY_FN
};
static const we_array_binary_fn JOINS[] = {
#undef WE_ARRAY_ROW
#define WE_ARRAY_ROW(function, class, result, ...)
#define WE_ARRAY_FN(function, joins) WE_ARRAY_BINARY_##joins,
#include <walle/array_reduce.inc>
#undef WE_ARRAY_FN
#undef WE_ARRAY_ROW
};

static we_array_dtype wide(we_array_dtype dtype) {
    switch (we_array_dtype_kind(dtype)) {
    case 'f':
        return WE_ARRAY_F64;
    case 'c':
        return WE_ARRAY_C128;
    case 'u':
        return WE_ARRAY_U64;
    default:
        return WE_ARRAY_I64;
    }
}

int we_array_reduce_types(we_array_reduce_fn fn, we_array_dtype dtype, we_array_types *out) {
    out->computed = RESULTS[fn][WE_ARRAY_I64] ? dtype : WE_ARRAY_BOOL;
    if (!RESULTS[fn][out->computed])
        return 0;
    out->result = out->computed;
    if (RESULTS[fn][out->computed] == RESULT_WIDE && we_array_dtype_kind(dtype) != 'f' &&
        we_array_dtype_kind(dtype) != 'c')
        out->result = wide(dtype); /* floating sums are kept wide, and rounded to their dtype at the end */
    return 1;
}

/* What reducing nothing gives. */
static void set_start(we_array_reduce_fn fn, we_array_dtype dtype, void *to) {
    union {
        uint64_t bits;
        float f32;
        double f64[2];
    } v = {.f64 = {0, 0}};
    bool one = fn == WE_ARRAY_REDUCE_prod || fn == WE_ARRAY_REDUCE_all, largest = fn == WE_ARRAY_REDUCE_min;
    char kind = we_array_dtype_kind(dtype);
    if (fn == WE_ARRAY_REDUCE_max || largest) {
        int bits = 8 * (int)we_array_dtype_size(dtype);
        if (dtype == WE_ARRAY_F32)
            v.f32 = largest ? INFINITY : -INFINITY;
        else if (dtype == WE_ARRAY_F64)
            v.f64[0] = largest ? INFINITY : -INFINITY;
        else if (kind == 'b')
            v.bits = largest;
        else if (kind == 'u')
            v.bits = largest ? UINT64_MAX : 0;
        else
            v.bits = largest ? UINT64_MAX >> (65 - bits) : (uint64_t)1 << (bits - 1);
    } else if (one && (dtype == WE_ARRAY_F64 || dtype == WE_ARRAY_C128)) {
        v.f64[0] = 1;
    } else if (one && (dtype == WE_ARRAY_F32 || dtype == WE_ARRAY_C64)) {
        v.f32 = 1;
    } else if (one) {
        v.bits = 1;
    }
    memcpy(to, &v, (size_t)we_array_dtype_size(dtype));
}

/* ---- Reducing ---- */

typedef struct reduction {
    const we_array_kernels *kernels;
    we_array_reduce_fn fn;
    we_array_dtype from, computed, kept; /* of the input, of what a kernel reads, of the results */
    int64_t from_size, computed_size, kept_size;
    const char *data;
    char *results; /* [pieces or 1][count] */
    int64_t count; /* results */
    bool apart;    /* each piece has results of its own */
    int64_t pieces;
    we_array_nest nest; /* input, results; dims that are reduced have stride 0 in the results */
} reduction;

/* Elements of the input together and in one dtype: where they lie, or in the buffer. */
static const void *fetch(const reduction *r, const char *from, int64_t stride, int64_t n,
                         we_array_dtype dtype, char *raw, char *converted) {
    if (stride != r->from_size) {
        we_array_move(n, r->from_size, from, stride, raw, r->from_size);
        from = raw;
    }
    if (r->from == dtype)
        return from;
    r->kernels->cast[r->from][dtype](n, from, converted);
    return converted;
}

typedef struct buffers {
    _Alignas(64) char raw[BUFFER], converted[BUFFER];
} buffers;

static int64_t chunk_of(const reduction *r, we_array_dtype dtype) {
    int64_t size = we_array_dtype_size(dtype);
    return BUFFER / (size > r->from_size ? size : r->from_size);
}

static void reduce_row(const reduction *r, buffers *b, const char *from, int64_t n, char *result) {
    int64_t stride = r->nest.strides[0][r->nest.rank - 1];
    we_array_reduce_kernel kernel = r->kernels->reduce[r->fn][r->computed];
    bool direct = stride == r->from_size && r->from == r->computed;
    int64_t chunk = direct ? n : chunk_of(r, r->computed);
    for (int64_t at = 0; at < n; at += chunk) {
        int64_t count = n - at < chunk ? n - at : chunk;
        kernel(count, fetch(r, from + at * stride, stride, count, r->computed, b->raw, b->converted), result);
    }
}

static void join_row(const reduction *r, buffers *b, const char *from, int64_t n, char *results) {
    int64_t stride = r->nest.strides[0][r->nest.rank - 1], to = r->nest.strides[1][r->nest.rank - 1];
    we_array_binary_kernel kernel = r->kernels->binary[JOINS[r->fn]][r->kept];
    int64_t chunk = chunk_of(r, r->kept);
    for (int64_t at = 0; at < n; at += chunk) {
        int64_t count = n - at < chunk ? n - at : chunk;
        const void *elements = fetch(r, from + at * stride, stride, count, r->kept, b->raw, b->converted);
        char *result = results + at * to;
        if (to == r->kept_size) {
            kernel(count, result, elements, result);
            continue;
        }
        char together[BUFFER * 2];
        we_array_move(count, r->kept_size, result, to, together, r->kept_size);
        kernel(count, together, elements, together);
        we_array_move(count, r->kept_size, together, r->kept_size, result, to);
    }
}

/* The part [begin, end) of the outermost dim. */
static void reduce_part(const reduction *r, int64_t begin, int64_t end, char *results) {
    we_array_nest nest = r->nest;
    buffers b;
    int32_t inner = nest.rank - 1;
    int64_t rows = 1;
    const char *data = r->data + begin * nest.strides[0][0];
    results += begin * nest.strides[1][0];
    nest.dims[0] = end - begin;
    for (int32_t axis = 0; axis < inner; axis++)
        rows *= nest.dims[axis];
    we_array_place at = {{0}};
    for (int64_t row = 0; row < rows; row++) {
        const char *from = data + we_array_offset(&nest, 0, &at);
        char *to = results + we_array_offset(&nest, 1, &at);
        if (nest.strides[1][inner] == 0)
            reduce_row(r, &b, from, nest.dims[inner], to);
        else
            join_row(r, &b, from, nest.dims[inner], to);
        for (int32_t axis = inner - 1; axis >= 0 && ++at.index[axis] == nest.dims[axis]; axis--)
            at.index[axis] = 0;
    }
}

static void reduce_pieces(void *context, int64_t begin, int64_t end) {
    const reduction *r = context;
    for (int64_t piece = begin; piece < end; piece++) {
        int64_t from = r->nest.dims[0] * piece / r->pieces, to = r->nest.dims[0] * (piece + 1) / r->pieces;
        reduce_part(r, from, to, r->results + (r->apart ? piece * r->count * r->kept_size : 0));
    }
}

/* How the outermost dim is cut. The same on every machine, so that sums are. */
static void choose_pieces(reduction *r, int64_t elements) {
    int64_t most = elements / PIECE < MOST_PIECES ? elements / PIECE : MOST_PIECES;
    r->apart = r->nest.strides[1][0] == 0;
    if (r->apart && most > elements / SHARE_ACCUMULATORS / r->count)
        most = elements / SHARE_ACCUMULATORS / r->count;
    r->pieces = most < r->nest.dims[0] ? most : r->nest.dims[0];
    if (r->pieces < 2) {
        r->pieces = 1;
        r->apart = false;
    }
}

static we_array results_of(const reduction *r, const we_array *out) {
    we_array results = *out;
    int64_t stride = r->kept_size;
    results.dtype = r->kept;
    results.data = r->results;
    for (int32_t axis = out->rank - 1; axis >= 0; axis--) {
        results.strides[axis] = stride;
        stride *= out->dims[axis];
    }
    return results;
}

static we_status divide_results(const we_array *results, double divisor, we_error *err) {
    we_array number = {.dtype = WE_ARRAY_F64, .data = (char *)&divisor};
    return we_array_binary(WE_ARRAY_BINARY_divide, results->dtype, results, &number, results, err);
}

we_status we_array_reduce(we_array_reduce_fn fn, we_array_dtype dtype, const we_array *x, uint32_t axes,
                          double divisor, const we_array *out, we_error *err) {
    we_array_types types;
    int64_t elements = we_array_count(x);
    reduction r = {.fn = fn, .from = x->dtype, .data = x->data, .count = we_array_count(out)};
    WE_TRY(we_array_kernels_get(&r.kernels, err));
    if (!we_array_reduce_types(fn, dtype, &types))
        return we_error_set(err, WE_INVALID_ARGUMENT, "this reduction has no meaning for %s",
                            we_array_dtype_name(dtype));
    r.computed = types.computed;
    r.kept = RESULTS[fn][r.computed] == RESULT_WIDE ? wide(r.computed) : r.computed;
    r.from_size = we_array_dtype_size(r.from);
    r.computed_size = we_array_dtype_size(r.computed);
    r.kept_size = we_array_dtype_size(r.kept);
    if (r.count == 0)
        return WE_OK;
    we_array spread = *x, results; /* the results as the input's dims see them */
    int64_t stride = r.kept_size;
    spread.dtype = r.kept;
    for (int32_t axis = x->rank - 1; axis >= 0; axis--) {
        bool reduced = axes >> axis & 1;
        spread.strides[axis] = reduced ? 0 : stride;
        stride *= reduced ? 1 : x->dims[axis];
    }
    r.pieces = 1;
    if (elements > 0) {
        we_array_nest_make(&r.nest, 2, (const we_array *const[]){x, &spread}, 0);
        if (r.nest.dims[0] == 1 && r.nest.rank == 1)
            r.nest.strides[1][0] = 0;
        choose_pieces(&r, elements);
    }
    char few[256]; /* results, where they are few */
    size_t size = (size_t)((r.apart ? r.pieces : 1) * r.count * r.kept_size);
    r.results = size <= sizeof few ? few : we_memory_new_dirty(size);
    if (!r.results)
        return we_error_no_memory(err);
    set_start(fn, r.kept, r.results);
    for (size_t done = (size_t)r.kept_size; done < size; done *= 2) /* the same everywhere */
        memcpy(r.results + done, r.results, done < size - done ? done : size - done);
    if (elements > 0 && r.pieces == 1)
        reduce_part(&r, 0, r.nest.dims[0], r.results);
    else if (elements > 0)
        we_array_share(true, r.pieces, 1, reduce_pieces, &r);
    for (int64_t piece = 1; r.apart && piece < r.pieces; piece++)
        r.kernels->binary[JOINS[fn]][r.kept](r.count, r.results, r.results + piece * r.count * r.kept_size,
                                             r.results);
    results = results_of(&r, out);
    we_status status = divisor != 1 ? divide_results(&results, divisor, err) : WE_OK;
    if (status == WE_OK)
        status = we_array_copy(&results, out, err);
    if (r.results != few)
        we_memory_free(r.results);
    return status;
}

/* ---- Along one axis: places of extremes, running sums ---- */

typedef struct along {
    const we_array_kernels *kernels;
    const we_array *x, *out; /* the axis is the last; out has it too, except for places */
    we_array_reduce_fn fn;
    bool places;
    we_array_dtype computed;
    int64_t n, rows;
    char *scratch; /* [threads][2][n] elements of the computed dtype or the input's */
    int64_t scratch_row;
} along;

static int64_t row_offset(const we_array *x, int32_t rank, int64_t row) {
    int64_t offset = 0;
    for (int32_t axis = rank - 1; axis >= 0; axis--) {
        offset += row % x->dims[axis] * x->strides[axis];
        row /= x->dims[axis];
    }
    return offset;
}

static void along_rows(void *context, int64_t begin, int64_t end) {
    const along *a = context;
    int32_t outer = a->x->rank - 1;
    int64_t size = we_array_dtype_size(a->x->dtype), computed_size = we_array_dtype_size(a->computed);
    int64_t stride = a->x->strides[outer];
    char *raw = a->scratch + we_pool_worker() * 2 * a->scratch_row, *converted = raw + a->scratch_row;
    for (int64_t row = begin; row < end; row++) {
        const char *from = a->x->data + row_offset(a->x, outer, row);
        char *to = a->out->data + row_offset(a->out, outer, row);
        if (stride != size) {
            we_array_move(a->n, size, from, stride, raw, size);
            from = raw;
        }
        if (a->computed != a->x->dtype) {
            a->kernels->cast[a->x->dtype][a->computed](a->n, from, converted);
            from = converted;
        }
        if (a->places) {
            int64_t place = a->kernels->find[a->fn == WE_ARRAY_REDUCE_min][a->computed](a->n, from);
            memcpy(to, &place, sizeof place);
            continue;
        }
        char state[16];
        set_start(a->fn, a->computed, state);
        bool together = a->out->strides[outer] == computed_size;
        char *steps = together ? to : converted;
        a->kernels->accumulate[a->fn][a->computed](a->n, from, steps, state);
        if (!together)
            we_array_move(a->n, computed_size, steps, computed_size, to, a->out->strides[outer]);
    }
}

static we_status run_along(along *a, we_error *err) {
    int32_t outer = a->x->rank - 1, threads = we_pool_threads(we_array_pool());
    a->n = a->x->dims[outer];
    a->rows = 1;
    for (int32_t axis = 0; axis < outer; axis++)
        a->rows *= a->x->dims[axis];
    if (a->rows == 0 || a->n == 0)
        return WE_OK;
    WE_TRY(we_array_kernels_get(&a->kernels, err));
    int64_t grain = PIECE / a->n + 1;
    if (a->rows <= grain)
        threads = 1;
    a->scratch_row = (a->n * 16 + 63) / 64 * 64;
    a->scratch = we_memory_new_dirty((size_t)(threads * 2 * a->scratch_row));
    if (!a->scratch)
        return we_error_no_memory(err);
    we_array_share(threads > 1, a->rows, grain, along_rows, a);
    we_memory_free(a->scratch);
    return WE_OK;
}

/* Of one long row: the first of the places of its pieces. */
typedef struct find_pieces {
    const we_array_kernels *kernels;
    const we_array *x;
    we_array_reduce_fn fn;
    int64_t pieces, count, places[MOST_PIECES];
} find_pieces;

static void find_in_pieces(void *context, int64_t begin, int64_t end) {
    find_pieces *f = context;
    int64_t size = we_array_dtype_size(f->x->dtype);
    for (int64_t piece = begin; piece < end; piece++) {
        int64_t from = f->count * piece / f->pieces, to = f->count * (piece + 1) / f->pieces;
        f->places[piece] = from + f->kernels->find[f->fn == WE_ARRAY_REDUCE_min][f->x->dtype](
                                      to - from, f->x->data + from * size);
    }
}

static we_status find_in_long_row(we_array_reduce_fn fn, const we_array *x, const we_array *out,
                                  we_error *err) {
    find_pieces f = {.x = x, .fn = fn, .count = x->dims[0]};
    char candidates[MOST_PIECES * 8];
    int64_t size = we_array_dtype_size(x->dtype);
    WE_TRY(we_array_kernels_get(&f.kernels, err));
    f.pieces = f.count / PIECE < MOST_PIECES ? f.count / PIECE : MOST_PIECES;
    we_array_share(true, f.pieces, 1, find_in_pieces, &f);
    for (int64_t i = 0; i < f.pieces; i++)
        memcpy(candidates + i * size, x->data + f.places[i] * size, (size_t)size);
    int64_t best = f.kernels->find[fn == WE_ARRAY_REDUCE_min][x->dtype](f.pieces, candidates);
    memcpy(out->data, &f.places[best], sizeof f.places[best]);
    return WE_OK;
}

we_status we_array_find(we_array_reduce_fn fn, const we_array *x, const we_array *out, we_error *err) {
    along a = {.x = x, .out = out, .fn = fn, .places = true, .computed = x->dtype};
    if (we_array_dtype_kind(x->dtype) == 'c')
        return we_error_set(err, WE_INVALID_ARGUMENT, "complex numbers have no order");
    if (x->rank == 1 && x->dims[0] >= 2 * PIECE && x->strides[0] == we_array_dtype_size(x->dtype))
        return find_in_long_row(fn, x, out, err);
    return run_along(&a, err);
}

we_status we_array_accumulate(we_array_reduce_fn fn, const we_array *x, const we_array *out, we_error *err) {
    along a = {.x = x, .out = out, .fn = fn, .computed = out->dtype};
    if (out->dtype == WE_ARRAY_BOOL || (fn != WE_ARRAY_REDUCE_sum && fn != WE_ARRAY_REDUCE_prod))
        return we_error_set(err, WE_INVALID_ARGUMENT, "this has no running form in %s",
                            we_array_dtype_name(out->dtype));
    return run_along(&a, err);
}

/* ---- Spread ---- */

typedef struct spread {
    we_array_spread_kernel kernel;
    const char *data;
    int64_t count, size;
    double mean, sums[MOST_PIECES];
} spread_work;

static void spread_pieces(void *context, int64_t begin, int64_t end) {
    spread_work *s = context;
    for (int64_t piece = begin; piece < end; piece++) {
        int64_t from = piece * PIECE, n = s->count - from < PIECE ? s->count - from : PIECE;
        s->kernel(n, s->data + from * s->size, &s->mean, &s->sums[piece % MOST_PIECES]);
    }
}

we_status we_array_spread(const we_array *x, double mean, double *out, we_error *err) {
    const we_array_kernels *kernels;
    WE_TRY(we_array_kernels_get(&kernels, err));
    spread_work s = {.kernel = kernels->spread[x->dtype],
                     .data = x->data,
                     .count = we_array_count(x),
                     .size = we_array_dtype_size(x->dtype),
                     .mean = mean};
    *out = 0;
    if (!s.kernel)
        return we_error_set(err, WE_INVALID_ARGUMENT, "there is no spread of %s",
                            we_array_dtype_name(x->dtype));
    for (int64_t piece = 0; piece * PIECE < s.count; piece += MOST_PIECES) { /* one thread at a sum */
        spread_work part = s;
        part.data += piece * PIECE * s.size;
        part.count -= piece * PIECE;
        int64_t pieces = (part.count + PIECE - 1) / PIECE;
        we_array_share(true, pieces < MOST_PIECES ? pieces : MOST_PIECES, 1, spread_pieces, &part);
        for (int i = 0; i < MOST_PIECES; i++)
            *out += part.sums[i];
    }
    return WE_OK;
}
