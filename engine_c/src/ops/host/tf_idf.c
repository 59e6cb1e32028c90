/* TfIdfVectorizer: how often each n-gram of a pool occurs in rows of integers or texts. */
#include <string.h>

#include "base/error.h"
#include "graph/opspec.h"
#include "ops/host.h"

typedef struct vectorizer {
    const int64_t *counts;  /* where the 1-grams, 2-grams, ... begin in the pool */
    const int64_t *indexes; /* per n-gram its place in the output */
    const int64_t *integers;
    const char *const *texts; /* the pool is one of these two */
    const double *weights;    /* per n-gram, or NULL */
    int64_t orders, pool, grams, width;
    int64_t shortest, longest, skips;
    bool by_count, by_weight;
} vectorizer;

static const int64_t *ints_of(const we_host *host, const char *name, int64_t *count) {
    const we_attr *attr = we_node_attr(host->node, name);
    *count = attr ? (int64_t)attr->count : 0;
    return attr ? attr->integers : NULL;
}

/* Where the n-grams of order n (from 1) end in the pool. */
static int64_t end_of(const vectorizer *v, int64_t n) {
    return n < v->orders ? v->counts[n] : v->pool;
}

static we_status check_pool(const we_host *host, vectorizer *v) {
    int64_t grams = 0;
    for (int64_t n = 1; n <= v->orders; n++) {
        int64_t from = v->counts[n - 1], to = end_of(v, n);
        if (from < 0 || to < from || to > v->pool || (to - from) % n || (n == 1 && from != 0))
            return WE_HOST_FAIL(host, WE_INVALID_MODEL, "ngram_counts does not fit the pool");
        grams += (to - from) / n;
    }
    if (grams != v->grams)
        return WE_HOST_FAIL(host, WE_INVALID_MODEL, "%lld n-grams in the pool, %lld in ngram_indexes",
                            (long long)grams, (long long)v->grams);
    for (int64_t i = 0; i < v->grams; i++) {
        if (v->indexes[i] < 0 || v->indexes[i] > INT32_MAX)
            return WE_HOST_FAIL(host, WE_INVALID_MODEL, "ngram_indexes holds %lld", (long long)v->indexes[i]);
        v->width = v->indexes[i] + 1 > v->width ? v->indexes[i] + 1 : v->width;
    }
    return WE_OK;
}

static we_status read_mode(const we_host *host, vectorizer *v) {
    const char *mode = we_node_string(host->node, "mode", "");
    v->by_count = strcmp(mode, "TF") == 0 || strcmp(mode, "TFIDF") == 0;
    v->by_weight = strcmp(mode, "IDF") == 0 || strcmp(mode, "TFIDF") == 0;
    return v->by_count || v->by_weight
               ? WE_OK
               : WE_HOST_FAIL(host, WE_INVALID_MODEL, "mode '%.20s' is none of TF, IDF, TFIDF", mode);
}

static we_status read_attrs(const we_host *host, vectorizer *v) {
    const we_attr *texts = we_node_attr(host->node, "pool_strings"),
                  *weights = we_node_attr(host->node, "weights");
    *v = (vectorizer){.shortest = we_node_int(host->node, "min_gram_length", 1),
                      .longest = we_node_int(host->node, "max_gram_length", 1),
                      .skips = we_node_int(host->node, "max_skip_count", 0)};
    v->counts = ints_of(host, "ngram_counts", &v->orders);
    v->indexes = ints_of(host, "ngram_indexes", &v->grams);
    v->integers = ints_of(host, "pool_int64s", &v->pool);
    if (texts && !v->integers) {
        v->texts = texts->strings;
        v->pool = (int64_t)texts->count;
    }
    v->weights = weights ? weights->reals : NULL;
    if (weights && (int64_t)weights->count != v->grams)
        return WE_HOST_FAIL(host, WE_INVALID_MODEL, "%zu weights for %lld n-grams", weights->count,
                            (long long)v->grams);
    if (v->shortest < 1 || v->longest < v->shortest || v->longest > v->orders || v->skips < 0)
        return WE_HOST_FAIL(host, WE_INVALID_MODEL, "the gram lengths or max_skip_count are illegal");
    WE_TRY(read_mode(host, v));
    return check_pool(host, v);
}

static bool same_item(const vectorizer *v, const we_view *x, int64_t at, int64_t in_pool) {
    if (!v->texts)
        return we_view_integer(x, at) == v->integers[in_pool];
    const char *text = ((const char *const *)x->data)[at];
    return strcmp(text ? text : "", v->texts[in_pool]) == 0;
}

/* Count the n-gram of items first, first + step, ... wherever the pool has it. */
static void count_gram(const vectorizer *v, const we_view *x, int64_t first, int64_t step, int64_t n,
                       int64_t gram, float *to) {
    for (int64_t at = v->counts[n - 1]; at < end_of(v, n); at += n, gram++) {
        int64_t i = 0;
        while (i < n && same_item(v, x, first + i * step, at + i))
            i++;
        if (i < n)
            continue;
        float weight = v->by_weight && v->weights ? (float)v->weights[gram] : 1;
        float *cell = &to[v->indexes[gram]];
        *cell = v->by_count ? *cell + weight : weight;
    }
}

static void count_row(const vectorizer *v, const we_view *x, int64_t from, int64_t length, float *to) {
    int64_t gram = 0; /* number of the first of this order */
    for (int64_t n = 1; n <= v->longest; n++) {
        int64_t skips = n == 1 ? 0 : v->skips;
        for (int64_t step = 1; n >= v->shortest && step <= skips + 1 && (n - 1) * step < length; step++) {
            for (int64_t first = 0; first + (n - 1) * step < length; first++)
                count_gram(v, x, from + first, step, n, gram, to);
        }
        gram += (end_of(v, n) - v->counts[n - 1]) / n;
    }
}

we_status we_host_tf_idf(const we_host *host) {
    const we_view *x;
    vectorizer v;
    float *to;
    WE_TRY(we_host_tensor(host, 0, &x));
    WE_TRY(read_attrs(host, &v));
    if (v.texts ? x->dtype != WE_STRING : x->dtype != WE_I64 && x->dtype != WE_I32)
        return WE_HOST_FAIL(host, WE_INVALID_MODEL, "the input must be of the pool's type");
    if (x->rank < 1 || x->rank > 2)
        return WE_HOST_FAIL(host, WE_INVALID_MODEL, "rank 1 or 2 is required, not %d", (int)x->rank);
    int64_t rows = x->rank == 2 ? x->dims[0] : 1, length = x->dims[x->rank - 1];
    int64_t dims[2] = {rows, v.width};
    WE_TRY(we_host_make(host, 0, WE_F32, x->rank, x->rank == 2 ? dims : dims + 1, &to));
    for (int64_t r = 0; r < rows; r++)
        count_row(&v, x, r * length, length, to + r * v.width);
    return WE_OK;
}
