/* LabelEncoder: each element replaced by what a table holds for it. Keys of every type become words: texts of
 * a run are equal exactly if their pointers are, numbers if their bits are once -0 is 0 and NaN is one NaN.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/dtype.h"
#include "base/error.h"
#include "graph/opspec.h"
#include "ops/host.h"

typedef struct entry {
    uint64_t word;
    int64_t place; /* among the values */
} entry;

/* A list of texts, or a weight of numbers. */
typedef struct labels {
    bool is_text;
    const char *const *texts;
    we_view numbers;
    int64_t count;
} labels;

static int by_word(const void *a, const void *b) {
    const entry *x = a, *y = b;
    if (x->word != y->word)
        return x->word < y->word ? -1 : 1;
    return x->place < y->place ? -1 : x->place > y->place;
}

static uint64_t word_of_number(const we_view *x, int64_t i) {
    if (we_dtype_kind(x->dtype) != 'f')
        return (uint64_t)we_view_integer(x, i);
    double value = we_view_number(x, i);
    uint64_t word;
    value = isnan(value) ? NAN : value + 0.0; /* -0 + 0 is 0 */
    memcpy(&word, &value, sizeof word);
    return word;
}

static we_status word_of_text(const we_host *host, const char *text, uint64_t *word) {
    const char *own;
    WE_TRY(we_host_text(host, text ? text : "", text ? strlen(text) : 0, &own));
    *word = (uint64_t)(uintptr_t)own;
    return WE_OK;
}

static void weight_of(const we_host *host, const we_attr *attr, labels *out) {
    const we_value *value = &host->graph->values[we_names_find(&host->graph->names, attr->string)];
    out->numbers =
        (we_view){.dtype = value->dtype, .rank = value->rank, .data = (void *)(uintptr_t)value->data};
    memcpy(out->numbers.dims, value->dims, sizeof out->numbers.dims);
    out->count = we_view_elements(&out->numbers);
}

/* The attribute `texts` or the attribute `numbers`; exactly one must be there. */
static we_status read_labels(const we_host *host, const char *texts, const char *numbers, labels *out) {
    const we_attr *text = we_node_attr(host->node, texts), *number = we_node_attr(host->node, numbers);
    *out = (labels){0};
    if (!text == !number)
        return WE_HOST_FAIL(host, WE_INVALID_MODEL, "one of '%s' and '%s' is required", texts, numbers);
    if (number) {
        weight_of(host, number, out);
    } else {
        out->is_text = true;
        out->texts = text->strings;
        out->count = (int64_t)text->count;
    }
    return WE_OK;
}

/* ---- The table ---- */

static we_status fill_table(const we_host *host, const labels *keys, entry *table) {
    for (int64_t i = 0; i < keys->count; i++) {
        table[i].place = i;
        if (keys->is_text)
            WE_TRY(word_of_text(host, keys->texts[i], &table[i].word));
        else
            table[i].word = word_of_number(&keys->numbers, i);
    }
    qsort(table, (size_t)keys->count, sizeof *table, by_word);
    return WE_OK;
}

/* The place of the last of equal keys, or -1. */
static int64_t find(const entry *table, int64_t count, uint64_t word) {
    int64_t low = 0, high = count; /* the entries before low are not above word, those from high on are */
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (table[middle].word <= word)
            low = middle + 1;
        else
            high = middle;
    }
    return low > 0 && table[low - 1].word == word ? table[low - 1].place : -1;
}

/* places[i]: which value element i of x becomes, -1 for the default. */
static we_status look_up(const we_host *host, const we_view *x, const labels *keys, const entry *table,
                         int64_t *places) {
    int64_t count = we_view_elements(x);
    for (int64_t i = 0; i < count; i++) {
        uint64_t word;
        if (keys->is_text)
            WE_TRY(word_of_text(host, ((const char *const *)x->data)[i], &word));
        else
            word = word_of_number(x, i);
        places[i] = find(table, keys->count, word);
    }
    return WE_OK;
}

/* ---- The result ---- */

static we_status make_texts(const we_host *host, const we_view *x, const labels *values,
                            const int64_t *places) {
    const char **to, *fallback = we_node_string(host->node, "default_string", "_Unused");
    WE_TRY(we_host_make(host, 0, WE_STRING, x->rank, x->dims, &to));
    int64_t count = we_view_elements(x);
    for (int64_t i = 0; i < count; i++) {
        const char *text = places[i] < 0 ? fallback : values->texts[places[i]];
        WE_TRY(we_host_text(host, text, strlen(text), &to[i]));
    }
    return WE_OK;
}

static we_status make_numbers(const we_host *host, const we_view *x, const labels *values,
                              const int64_t *places) {
    const we_attr *attr = we_node_attr(host->node, "default_tensor");
    labels fallback = {0};
    char *to;
    if (attr)
        weight_of(host, attr, &fallback);
    if (fallback.count != 1 || fallback.numbers.dtype != values->numbers.dtype)
        return WE_HOST_FAIL(host, WE_INVALID_MODEL,
                            "'default_tensor' must hold one element of the values' type");
    WE_TRY(we_host_make(host, 0, values->numbers.dtype, x->rank, x->dims, &to));
    int64_t count = we_view_elements(x);
    size_t width = we_dtype_size(values->numbers.dtype);
    for (int64_t i = 0; i < count; i++) {
        const char *from = places[i] < 0 ? fallback.numbers.data
                                         : (const char *)values->numbers.data + (size_t)places[i] * width;
        memcpy(to + (size_t)i * width, from, width);
    }
    return WE_OK;
}

static we_status encode(const we_host *host, const we_view *x, const labels *keys, const labels *values,
                        entry *table, int64_t *places) {
    WE_TRY(fill_table(host, keys, table));
    WE_TRY(look_up(host, x, keys, table, places));
    return (values->is_text ? make_texts : make_numbers)(host, x, values, places);
}

we_status we_host_label_encoder(const we_host *host) {
    const we_view *x;
    labels keys, values;
    WE_TRY(we_host_tensor(host, 0, &x));
    WE_TRY(read_labels(host, "keys_strings", "keys_tensor", &keys));
    WE_TRY(read_labels(host, "values_strings", "values_tensor", &values));
    if (keys.count != values.count)
        return WE_HOST_FAIL(host, WE_INVALID_MODEL, "%lld keys for %lld values", (long long)keys.count,
                            (long long)values.count);
    if (x->dtype != (keys.is_text ? WE_STRING : keys.numbers.dtype))
        return WE_HOST_FAIL(host, WE_INVALID_MODEL, "the keys are %s, the input is %s",
                            we_dtype_name(keys.is_text ? WE_STRING : keys.numbers.dtype),
                            we_dtype_name(x->dtype));
    entry *table = we_memory_new_dirty((size_t)keys.count * sizeof *table);
    int64_t *places = we_memory_new_dirty((size_t)we_view_elements(x) * sizeof *places);
    we_status status =
        table && places ? encode(host, x, &keys, &values, table, places) : we_error_no_memory(host->err);
    we_memory_free(table);
    we_memory_free(places);
    return status;
}
