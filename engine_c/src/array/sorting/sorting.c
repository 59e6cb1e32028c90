/* Sorting along an axis, the order of elements, and what follows from it.
 *
 * Elements become whole numbers whose order is theirs (keys.inc), which the kernels sort. An order is sorted
 * as numbers of 64 bits: a key of 32 bits above the place of its element, which makes it stable for nothing.
 * Keys of 64 bits give their top 32 bits in use; elements that are equal in those are ordered among
 * themselves afterwards. */
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include <walle/numeric.h>

#include "array/loops.h"
#include "base/error.h"
#include "base/memory.h"
#include "base/threads.h"
#include "kernels/kernels.h"
#include "kernels/sort_keys.h"

enum {
    PARTS = 4, /* they are made by one thread: more cost more than better shares win */
    WORTH_PARTS = 1 << 16,
};

#define KEY int32_t
#define BITS uint32_t
#define REAL float
#define KERNELS i32_sort
#define NAME(function) function##_32
#include "array/sorting/keys.inc"
#undef KEY
#undef BITS
#undef REAL
#undef KERNELS
#undef NAME

#define KEY int64_t
#define BITS uint64_t
#define REAL double
#define KERNELS i64_sort
#define NAME(function) function##_64
#include "array/sorting/keys.inc"

static bool is_wide(we_array_dtype dtype) {
    return dtype == WE_ARRAY_I64 || dtype == WE_ARRAY_U64 || dtype == WE_ARRAY_F64;
}

static bool is_complex(we_array_dtype dtype) {
    return dtype == WE_ARRAY_C64 || dtype == WE_ARRAY_C128;
}

static we_array_dtype part_of(we_array_dtype dtype) {
    return dtype == WE_ARRAY_C64 ? WE_ARRAY_F32 : dtype == WE_ARRAY_C128 ? WE_ARRAY_F64 : dtype;
}

/* ---- Values ---- */

/* All lines of a call, for threads to share. */
typedef struct sort_job {
    we_array_dtype dtype;
    int64_t n, inner;
    bool descending;
    const char *in;
    char *out;
    const we_kernels *kernels;
    we_keys floats;
    we_pool *pool; /* for a single long line */
    atomic_bool failed;
} sort_job;

/* Byte offset of element 0 of a line. */
static int64_t start_of(const sort_job *job, int64_t line, int64_t size) {
    return (line / job->inner * job->n * job->inner + line % job->inner) * size;
}

/* Of equal elements only zeros differ: give those of the sorted line the signs they had, in order. */
#define DEFINE_RESTORE_ZEROS(real)                                                                           \
    static void restore_zeros_##real(const sort_job *job, int64_t line) {                                    \
        int64_t start = start_of(job, line, 1), low = 0, high = job->n;                                      \
        const real *from = (const real *)job->in + start;                                                    \
        real *to = (real *)job->out + start;                                                                 \
        while (low < high) {                                                                                 \
            int64_t middle = low + (high - low) / 2;                                                         \
            real x = to[middle * job->inner];                                                                \
            if (job->descending ? !(x <= 0) : x < 0)                                                         \
                low = middle + 1;                                                                            \
            else                                                                                             \
                high = middle;                                                                               \
        }                                                                                                    \
        if (low == job->n || to[low * job->inner] != 0)                                                      \
            return;                                                                                          \
        for (int64_t i = 0; i < job->n; i++) {                                                               \
            if (from[i * job->inner] == 0)                                                                   \
                to[low++ * job->inner] = from[i * job->inner];                                               \
        }                                                                                                    \
    }
DEFINE_RESTORE_ZEROS(float)
DEFINE_RESTORE_ZEROS(double)

/* Bytes: by counting. */
static void sort_bytes(const sort_job *job, int64_t line) {
    int64_t counts[256] = {0}, start = start_of(job, line, 1);
    const uint8_t *from = (const uint8_t *)job->in + start;
    uint8_t *to = (uint8_t *)job->out + start;
    const uint8_t flip = job->dtype == WE_ARRAY_I8 ? 0x80 : 0;
    for (int64_t i = 0; i < job->n; i++)
        counts[(uint8_t)(from[i * job->inner] ^ flip)]++;
    int64_t place = 0;
    for (int i = 0; i < 256; i++) {
        int value = job->descending ? 255 - i : i;
        for (int64_t count = counts[value]; count > 0; count--)
            to[place++ * job->inner] = (uint8_t)value ^ flip;
    }
}

typedef struct conversion {
    const sort_job *job;
    int64_t line;
    void *keys;
    bool back;
} conversion;

static void convert_range(void *context, int64_t begin, int64_t end) {
    const conversion *c = context;
    const sort_job *job = c->job;
    int64_t size = we_array_dtype_size(job->dtype), count = end - begin;
    int64_t start = start_of(job, c->line, size) + begin * job->inner * size;
    if (is_wide(job->dtype)) {
        int64_t *keys = (int64_t *)c->keys + begin;
        if (c->back)
            store_64(&job->floats, job->dtype, keys, count, -(int64_t)job->descending, job->out + start,
                     job->inner);
        else
            load_64(&job->floats, job->dtype, job->in + start, job->inner, count, -(int64_t)job->descending,
                    keys);
    } else {
        int32_t *keys = (int32_t *)c->keys + begin;
        if (c->back)
            store_32(&job->floats, job->dtype, keys, count, -(int32_t)job->descending, job->out + start,
                     job->inner);
        else
            load_32(&job->floats, job->dtype, job->in + start, job->inner, count, -(int32_t)job->descending,
                    keys);
    }
}

static void sort_line(sort_job *job, int64_t line, void *keys) {
    int64_t size = we_array_dtype_size(job->dtype);
    if (size == 1) {
        sort_bytes(job, line);
        return;
    }
    if (job->inner == 1 && size >= 4) /* in place: elements are as wide as keys */
        keys = job->out + start_of(job, line, size);
    conversion c = {job, line, keys, false};
    we_parallel_for(job->pool, job->n, WORTH_PARTS / 4, convert_range, &c);
    if (is_wide(job->dtype))
        sort_keys_64(job->kernels, job->pool, job->n, keys);
    else
        sort_keys_32(job->kernels, job->pool, job->n, keys);
    c.back = true;
    bool as_they_are = keys == job->out + start_of(job, line, size) && !job->descending &&
                       we_array_dtype_kind(job->dtype) == 'i';
    if (!as_they_are)
        we_parallel_for(job->pool, job->n, WORTH_PARTS / 4, convert_range, &c);
    if (job->dtype == WE_ARRAY_F32)
        restore_zeros_float(job, line);
    else if (job->dtype == WE_ARRAY_F64)
        restore_zeros_double(job, line);
}

static void sort_lines(void *context, int64_t begin, int64_t end) {
    sort_job *job = context;
    int64_t keys[64], *more = NULL;
    if (job->n > 64 && !(job->inner == 1 && we_array_dtype_size(job->dtype) >= 4)) {
        more = we_memory_new_dirty((size_t)job->n * sizeof *more);
        if (more == NULL) {
            atomic_store(&job->failed, true);
            return;
        }
    }
    for (int64_t line = begin; line < end; line++)
        sort_line(job, line, more ? more : keys);
    we_memory_free(more);
}

/* ---- The order of elements ---- */

/* places: the order of the keys, equal ones by their place. */
static void order_32(const we_kernels *kernels, we_pool *pool, int64_t n, const int32_t *keys,
                     int64_t *places) {
    for (int64_t i = 0; i < n; i++)
        places[i] = (int64_t)((uint64_t)(uint32_t)keys[i] << 32 | (uint64_t)i);
    sort_keys_64(kernels, pool, n, places);
    for (int64_t i = 0; i < n; i++)
        places[i] &= 0xffffffff;
}

static we_status order_64(const we_kernels *kernels, we_pool *pool, int64_t n, const int64_t *keys,
                          int64_t *places, we_error *err);

/* Elements [begin, end) of places, whose keys agree in their top bits, by their whole keys. */
static we_status order_run(const we_kernels *kernels, const int64_t *keys, int64_t begin, int64_t end,
                           int64_t *places, we_error *err) {
    enum { BY_INSERTION = 24 };
    int64_t n = end - begin, *run = places + begin;
    if (n <= BY_INSERTION) {
        for (int64_t i = 1; i < n; i++) {
            int64_t moved = run[i], place = i;
            for (; place > 0 && keys[run[place - 1]] > keys[moved]; place--)
                run[place] = run[place - 1];
            run[place] = moved;
        }
        return WE_OK;
    }
    int64_t *memory = we_memory_new_dirty((size_t)n * 3 * sizeof *memory), *own = memory + n, *old = own + n;
    if (memory == NULL)
        return we_error_no_memory(err);
    memcpy(old, run, (size_t)n * sizeof *old);
    for (int64_t i = 0; i < n; i++)
        memory[i] = keys[old[i]];
    we_status status = order_64(kernels, NULL, n, memory, own, err); /* they differ in fewer bits */
    for (int64_t i = 0; status == WE_OK && i < n; i++)
        run[i] = old[own[i]];
    we_memory_free(memory);
    return status;
}

static we_status order_64(const we_kernels *kernels, we_pool *pool, int64_t n, const int64_t *keys,
                          int64_t *places, we_error *err) {
    int64_t least = INT64_MAX, most = INT64_MIN;
    for (int64_t i = 0; i < n; i++) {
        least = keys[i] < least ? keys[i] : least;
        most = keys[i] > most ? keys[i] : most;
    }
    uint64_t range = n ? (uint64_t)most - (uint64_t)least : 0;
    int drop = range >> 32 ? 32 - __builtin_clzll(range) : 0; /* low bits that do not fit */
    for (int64_t i = 0; i < n; i++) {
        uint64_t top = ((uint64_t)keys[i] - (uint64_t)least) >> drop;
        places[i] = (int64_t)((top << 32 | (uint64_t)i) ^ (uint64_t)1 << 63);
    }
    sort_keys_64(kernels, pool, n, places);
    for (int64_t begin = 0, end; begin < n; begin = end) {
        uint64_t top = (uint64_t)places[begin] >> 32;
        for (end = begin; end < n && (uint64_t)places[end] >> 32 == top; end++)
            places[end] &= 0xffffffff;
        if (drop && end - begin > 1)
            WE_TRY(order_run(kernels, keys, begin, end, places, err));
    }
    return WE_OK;
}

/* The order of n elements `step` apart, of a dtype that is no complex one. */
static we_status order_reals(const we_kernels *kernels, we_pool *pool, we_array_dtype dtype, bool descending,
                             int64_t n, const char *from, int64_t step, int64_t *places, we_error *err) {
    int64_t few[64], *keys = n <= 64 ? few : we_memory_new_dirty((size_t)n * sizeof *keys);
    if (keys == NULL)
        return we_error_no_memory(err);
    const we_keys floats = we_keys_for(kernels);
    we_status status = WE_OK;
    if (is_wide(dtype)) {
        load_64(&floats, dtype, from, step, n, -(int64_t)descending, keys);
        status = order_64(kernels, pool, n, keys, places, err);
    } else {
        load_32(&floats, dtype, from, step, n, -(int32_t)descending, (int32_t *)keys);
        order_32(kernels, pool, n, (int32_t *)keys, places);
    }
    if (keys != few)
        we_memory_free(keys);
    return status;
}

/* Which parts of a complex number are NaN: 0 neither, 1 the imaginary one, 2 the real one, 3 both. */
static int nan_parts(we_array_dtype dtype, const char *at) {
    if (dtype == WE_ARRAY_C64) {
        float x[2];
        memcpy(x, at, sizeof x);
        return 2 * (x[0] != x[0]) + (x[1] != x[1]);
    }
    double x[2];
    memcpy(x, at, sizeof x);
    return 2 * (x[0] != x[0]) + (x[1] != x[1]);
}

/* Those with NaN come last, as in NumPy. `spare` has room for n places. */
static void put_nans_last(we_array_dtype dtype, int64_t n, const char *from, int64_t step, int64_t *places,
                          int64_t *spare) {
    int64_t bytes = we_array_dtype_size(dtype) * step, count = 0;
    for (int parts = 0; parts < 4; parts++) {
        for (int64_t i = 0; i < n; i++) {
            if (nan_parts(dtype, from + places[i] * bytes) == parts)
                spare[count++] = places[i];
        }
        if (count == n && parts == 0)
            return; /* there is none */
    }
    memcpy(places, spare, (size_t)n * sizeof *places);
}

/* Complex numbers are ordered by their real parts, then by their imaginary ones: the other way round, stably.
 */
static we_status order_complex(const we_kernels *kernels, we_pool *pool, we_array_dtype dtype,
                               bool descending, int64_t n, const char *from, int64_t step, int64_t *places,
                               we_error *err) {
    we_array_dtype part = part_of(dtype);
    int64_t size = we_array_dtype_size(part);
    int64_t *memory = we_memory_new_dirty((size_t)(3 * n + 1) * sizeof *memory);
    if (memory == NULL)
        return we_error_no_memory(err);
    int64_t *by_imaginary = memory, *by_real = memory + n;
    char *parts = (char *)(memory + 2 * n);
    we_status status =
        order_reals(kernels, pool, part, descending, n, from + size, 2 * step, by_imaginary, err);
    for (int64_t i = 0; status == WE_OK && i < n; i++)
        memcpy(parts + i * size, from + by_imaginary[i] * 2 * step * size, (size_t)size);
    if (status == WE_OK)
        status = order_reals(kernels, pool, part, descending, n, parts, 1, by_real, err);
    for (int64_t i = 0; status == WE_OK && i < n; i++)
        places[i] = by_imaginary[by_real[i]];
    if (status == WE_OK)
        put_nans_last(dtype, n, from, step, places, memory);
    we_memory_free(memory);
    return status;
}

static we_status order_line(const we_kernels *kernels, we_pool *pool, we_array_dtype dtype, bool descending,
                            int64_t n, const char *from, int64_t step, int64_t *places, we_error *err) {
    return (is_complex(dtype) ? order_complex : order_reals)(kernels, pool, dtype, descending, n, from, step,
                                                             places, err);
}

static void order_lines(void *context, int64_t begin, int64_t end) {
    sort_job *job = context;
    int64_t size = we_array_dtype_size(job->dtype), few[64];
    int64_t *places = job->n <= 64 ? few : we_memory_new_dirty((size_t)job->n * sizeof *places);
    bool fine = places != NULL;
    for (int64_t line = begin; fine && line < end; line++) {
        int64_t *to = (int64_t *)job->out + start_of(job, line, 1);
        int64_t *own = job->inner == 1 ? to : places;
        fine = order_line(job->kernels, job->pool, job->dtype, job->descending, job->n,
                          job->in + start_of(job, line, size), job->inner, own, NULL) == WE_OK;
        for (int64_t i = 0; fine && own != to && i < job->n; i++)
            to[i * job->inner] = own[i];
    }
    if (!fine)
        atomic_store(&job->failed, true);
    if (places != few)
        we_memory_free(places);
}

/* ---- The calls ---- */

static we_status run_lines(sort_job *job, int64_t outer, we_pool_work work, we_error *err) {
    we_error_clear(err);
    WE_TRY(we_kernels_get(&job->kernels, err));
    job->floats = we_keys_for(job->kernels);
    if (job->n > UINT32_MAX)
        return we_error_set(err, WE_INVALID_ARGUMENT, "%lld elements are more than can be sorted: 2^32 - 1",
                            (long long)job->n);
    int64_t lines = outer * job->inner;
    we_pool *pool = lines * job->n >= WORTH_PARTS / 4 ? we_array_pool() : NULL;
    job->pool = lines == 1 ? pool : NULL;
    we_parallel_for(job->pool ? NULL : pool, job->n ? lines : 0, WORTH_PARTS / 16 / (job->n + 1) + 1, work,
                    job);
    return atomic_load(&job->failed) ? we_error_no_memory(err) : WE_OK;
}

we_status we_sort(we_array_dtype dtype, int64_t outer, int64_t n, int64_t inner, int descending,
                  const void *in, void *out, we_error *err) {
    sort_job job = {.dtype = dtype, .n = n, .inner = inner, .descending = descending, .in = in, .out = out};
    return run_lines(&job, outer, sort_lines, err);
}

we_status we_argsort(we_array_dtype dtype, int64_t outer, int64_t n, int64_t inner, int descending,
                     const void *in, int64_t *out, we_error *err) {
    sort_job job = {
        .dtype = dtype, .n = n, .inner = inner, .descending = descending, .in = in, .out = (char *)out};
    return run_lines(&job, outer, order_lines, err);
}

/* ---- Searching ---- */

typedef struct search_job {
    we_keys floats;
    we_array_dtype dtype;
    int64_t n;
    const char *sorted;
    const int64_t *sorter;
    bool right;
    const char *values;
    int64_t *out;
} search_job;

static int64_t key_at(const we_keys *floats, we_array_dtype dtype, const char *from, int64_t at) {
    from += at * we_array_dtype_size(dtype);
    if (is_wide(dtype)) {
        int64_t key;
        load_64(floats, dtype, from, 1, 1, 0, &key);
        return key;
    }
    int32_t key;
    load_32(floats, dtype, from, 1, 1, 0, &key);
    return key;
}

static void search_range(void *context, int64_t begin, int64_t end) {
    const search_job *job = context;
    for (int64_t i = begin; i < end; i++) {
        int64_t wanted = key_at(&job->floats, job->dtype, job->values, i), low = 0, high = job->n;
        while (low < high) {
            int64_t middle = low + (high - low) / 2;
            int64_t key =
                key_at(&job->floats, job->dtype, job->sorted, job->sorter ? job->sorter[middle] : middle);
            if (key < wanted || (job->right && key == wanted))
                low = middle + 1;
            else
                high = middle;
        }
        job->out[i] = low;
    }
}

we_status we_searchsorted(we_array_dtype dtype, int64_t n, const void *sorted, const int64_t *sorter,
                          int64_t count, const void *values, int right, int64_t *out, we_error *err) {
    const we_kernels *kernels;
    we_error_clear(err);
    WE_TRY(we_kernels_get(&kernels, err));
    for (int64_t i = 0; sorter && i < n; i++) {
        if (sorter[i] < 0 || sorter[i] >= n)
            return we_error_set(err, WE_INVALID_ARGUMENT,
                                "sorter has %lld at place %lld; places are 0 to %lld", (long long)sorter[i],
                                (long long)i, (long long)n - 1);
    }
    search_job job = {we_keys_for(kernels), dtype, n, sorted, sorter, right, values, out};
    we_parallel_for(count > 4096 ? we_array_pool() : NULL, count, 1024, search_range, &job);
    return WE_OK;
}

/* ---- Sets ---- */

static bool same(we_array_dtype dtype, const char *from, int64_t a, int64_t b) {
    int64_t size = we_array_dtype_size(dtype);
    const char *x = from + a * size, *y = from + b * size;
#define SAME(type, parts)                                                                                    \
    {                                                                                                        \
        const type *p = (const type *)x, *q = (const type *)y;                                               \
        return p[0] == q[0] && p[(parts) - 1] == q[(parts) - 1];                                             \
    }
    switch (dtype) { /* a NaN equals nothing, not even itself */
    case WE_ARRAY_F32:
        SAME(float, 1)
    case WE_ARRAY_F64:
        SAME(double, 1)
    case WE_ARRAY_C64:
        SAME(float, 2)
    case WE_ARRAY_C128:
        SAME(double, 2)
    default:
        return memcmp(x, y, (size_t)size) == 0;
    }
#undef SAME
}

we_status we_unique(we_array_dtype dtype, int64_t n, const void *in, int64_t *first, int64_t *inverse,
                    int64_t *counts, int64_t *found, we_error *err) {
    const we_kernels *kernels;
    we_error_clear(err);
    WE_TRY(we_kernels_get(&kernels, err));
    *found = 0;
    if (n > UINT32_MAX)
        return we_error_set(err, WE_INVALID_ARGUMENT, "%lld elements are more than can be sorted: 2^32 - 1",
                            (long long)n);
    int64_t *order = we_memory_new_dirty((size_t)(n + 1) * sizeof *order);
    if (order == NULL)
        return we_error_no_memory(err);
    we_status status =
        order_line(kernels, n >= WORTH_PARTS ? we_array_pool() : NULL, dtype, false, n, in, 1, order, err);
    int64_t values = 0;
    for (int64_t i = 0; status == WE_OK && i < n; i++) {
        if (i == 0 || !same(dtype, in, order[i - 1], order[i])) {
            first[values] = order[i];
            if (counts)
                counts[values] = 0;
            values++;
        }
        if (counts)
            counts[values - 1]++;
        if (inverse)
            inverse[order[i]] = values - 1;
    }
    *found = values;
    we_memory_free(order);
    return status;
}
