/* Operators on STRING tensors. Every text made comes from the run's set, so that equal texts are equal
 * pointers. */
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/dtype.h"
#include "base/error.h"
#include "graph/opspec.h"
#include "ops/host.h"
#include "ops/ops.h"

static const char *text_of(const we_view *x, int64_t i) {
    const char *text = ((const char *const *)x->data)[i];
    return text ? text : "";
}

/* ---- Two operands that broadcast ---- */

typedef struct pair {
    const we_view *a, *b;
    we_view out; /* shape */
} pair;

static we_status read_pair(const we_host *host, pair *p) {
    WE_TRY(we_host_typed(host, 0, WE_STRING, &p->a));
    WE_TRY(we_host_typed(host, 1, WE_STRING, &p->b));
    if (!we_broadcast(p->a->rank, p->a->dims, p->b->rank, p->b->dims, &p->out.rank, p->out.dims))
        return WE_HOST_FAIL(host, WE_INVALID_MODEL, "the shapes of the inputs do not broadcast together");
    return WE_OK;
}

/* The element of x that goes with element i of the result. */
static int64_t broadcast_index(const we_view *x, const we_view *out, int64_t i) {
    int64_t index = 0, stride = 1;
    for (int32_t d = 1; d <= out->rank; d++) {
        int64_t at = i % out->dims[out->rank - d];
        i /= out->dims[out->rank - d];
        if (d > x->rank)
            continue;
        index += x->dims[x->rank - d] == 1 ? 0 : at * stride;
        stride *= x->dims[x->rank - d];
    }
    return index;
}

we_status we_host_equal_texts(const we_host *host) {
    pair p;
    uint8_t *to;
    WE_TRY(read_pair(host, &p));
    WE_TRY(we_host_make(host, 0, WE_BOOL, p.out.rank, p.out.dims, &to));
    int64_t count = we_view_elements(&p.out);
    for (int64_t i = 0; i < count; i++)
        to[i] = strcmp(text_of(p.a, broadcast_index(p.a, &p.out, i)),
                       text_of(p.b, broadcast_index(p.b, &p.out, i))) == 0;
    return WE_OK;
}

static we_status joined(const we_host *host, const char *a, const char *b, const char **out) {
    size_t a_length = strlen(a), b_length = strlen(b);
    char *both = we_memory_new_dirty(a_length + b_length);
    if (!both)
        return we_error_no_memory(host->err);
    memcpy(both, a, a_length);
    memcpy(both + a_length, b, b_length);
    we_status status = we_host_text(host, both, a_length + b_length, out);
    we_memory_free(both);
    return status;
}

we_status we_host_string_concat(const we_host *host) {
    pair p;
    const char **to;
    WE_TRY(read_pair(host, &p));
    WE_TRY(we_host_make(host, 0, WE_STRING, p.out.rank, p.out.dims, &to));
    int64_t count = we_view_elements(&p.out);
    for (int64_t i = 0; i < count; i++)
        WE_TRY(joined(host, text_of(p.a, broadcast_index(p.a, &p.out, i)),
                      text_of(p.b, broadcast_index(p.b, &p.out, i)), &to[i]));
    return WE_OK;
}

/* ---- Splitting ---- */

/* Calls `take` for each part of the text. An empty delimiter splits at runs of blanks, as Python's str.split
 * does. */
typedef we_status (*take_part)(const we_host *host, void *into, const char *part, size_t length);

static bool is_blank(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static we_status split_blanks(const we_host *host, const char *text, int64_t most, take_part take,
                              void *into) {
    for (int64_t splits = 0;; splits++) {
        while (is_blank(*text))
            text++;
        if (!*text)
            return WE_OK;
        const char *end = text;
        if (splits >= most) { /* the rest, without the blanks after it */
            end += strlen(text);
            while (is_blank(end[-1]))
                end--;
            return take(host, into, text, (size_t)(end - text));
        }
        while (*end && !is_blank(*end))
            end++;
        WE_TRY(take(host, into, text, (size_t)(end - text)));
        text = end;
    }
}

static we_status split_text(const we_host *host, const char *text, const char *delimiter, int64_t most,
                            take_part take, void *into) {
    if (!delimiter[0])
        return split_blanks(host, text, most, take, into);
    for (int64_t splits = 0;; splits++) {
        const char *end = splits < most ? strstr(text, delimiter) : NULL;
        WE_TRY(take(host, into, text, end ? (size_t)(end - text) : strlen(text)));
        if (!end)
            return WE_OK;
        text = end + strlen(delimiter);
    }
}

static we_status count_part(const we_host *host, void *into, const char *part, size_t length) {
    (void)host;
    (void)part;
    (void)length;
    ++*(int64_t *)into;
    return WE_OK;
}

static we_status store_part(const we_host *host, void *into, const char *part, size_t length) {
    const char ***at = into;
    return we_host_text(host, part, length, (*at)++);
}

we_status we_host_string_split(const we_host *host) {
    const we_view *x;
    const char *delimiter = we_node_string(host->node, "delimiter", ""), *empty, **to;
    int64_t most = we_node_int(host->node, "maxsplit", INT64_MAX), widest = 0, *lengths;
    we_datum *counts;
    WE_TRY(we_host_typed(host, 0, WE_STRING, &x));
    if (x->rank == WE_MAX_RANK)
        return WE_HOST_FAIL(host, WE_UNSUPPORTED, "the result has more than %d dims", WE_MAX_RANK);
    most = most < 0 ? INT64_MAX : most;
    WE_TRY(we_datum_make(host->budget, host->node->name, WE_I64, x->rank, x->dims, &counts, host->err));
    lengths = counts->view.data;
    int64_t count = we_view_elements(x);
    for (int64_t i = 0; i < count; i++) {
        split_text(host, text_of(x, i), delimiter, most, count_part, &lengths[i]);
        widest = lengths[i] > widest ? lengths[i] : widest;
    }
    we_view shape = *x;
    shape.dims[shape.rank++] = widest;
    we_status status = we_host_make(host, 0, WE_STRING, shape.rank, shape.dims, &to);
    if (status == WE_OK)
        status = we_host_text(host, "", 0, &empty);
    for (int64_t i = 0; i < count && status == WE_OK; i++) {
        const char **at = to + i * widest;
        status = split_text(host, text_of(x, i), delimiter, most, store_part, &at);
        while (status == WE_OK && at < to + (i + 1) * widest)
            *at++ = empty;
    }
    if (status == WE_OK && host->node->output_count > 1)
        host->out[1] = counts;
    else
        we_datum_release(counts);
    return status;
}

/* ---- Normalising ---- */

typedef enum letter_case { CASE_KEEP, CASE_LOWER, CASE_UPPER } letter_case;

static char changed(char c, letter_case to) {
    if (to == CASE_LOWER && c >= 'A' && c <= 'Z')
        return (char)(c - 'A' + 'a');
    if (to == CASE_UPPER && c >= 'a' && c <= 'z')
        return (char)(c - 'a' + 'A');
    return c;
}

static bool same_text(const char *a, const char *b, bool exact) {
    while (*a && changed(*a, exact ? CASE_KEEP : CASE_LOWER) == changed(*b, exact ? CASE_KEEP : CASE_LOWER)) {
        a++;
        b++;
    }
    return *a == *b;
}

static bool is_stopword(const we_attr *words, const char *text, bool exact) {
    for (size_t i = 0; words && i < words->count; i++) {
        if (same_text(text, words->strings[i], exact))
            return true;
    }
    return false;
}

static we_status in_case(const we_host *host, const char *text, letter_case to, const char **out) {
    size_t length = strlen(text);
    char *copy = we_memory_new_dirty(length);
    if (!copy)
        return we_error_no_memory(host->err);
    we_status status = WE_OK;
    for (size_t i = 0; i < length && status == WE_OK; i++) {
        if (to != CASE_KEEP && (unsigned char)text[i] > 127)
            status = WE_HOST_FAIL(host, WE_UNSUPPORTED, "changing the case of letters beyond ASCII");
        copy[i] = changed(text[i], to);
    }
    if (status == WE_OK)
        status = we_host_text(host, copy, length, out);
    we_memory_free(copy);
    return status;
}

static we_status read_case(const we_host *host, letter_case *out) {
    const char *action = we_node_string(host->node, "case_change_action", "NONE");
    *out = strcmp(action, "LOWER") == 0 ? CASE_LOWER : strcmp(action, "UPPER") == 0 ? CASE_UPPER : CASE_KEEP;
    if (*out == CASE_KEEP && strcmp(action, "NONE") != 0)
        return WE_HOST_FAIL(host, WE_INVALID_MODEL, "case_change_action '%.20s' is unknown", action);
    return WE_OK;
}

we_status we_host_string_normalizer(const we_host *host) {
    const we_view *x;
    const char **to, *empty;
    const we_attr *words = we_node_attr(host->node, "stopwords");
    bool exact = we_node_int(host->node, "is_case_sensitive", 0) != 0;
    letter_case change = CASE_KEEP;
    WE_TRY(we_host_typed(host, 0, WE_STRING, &x));
    WE_TRY(read_case(host, &change));
    if (x->rank < 1 || x->rank > 2 || (x->rank == 2 && x->dims[0] != 1))
        return WE_HOST_FAIL(host, WE_INVALID_MODEL, "texts of shape [n] or [1, n] are required");
    int64_t count = we_view_elements(x), kept = 0, n = 0;
    for (int64_t i = 0; i < count; i++)
        kept += !is_stopword(words, text_of(x, i), exact);
    int64_t dims[2] = {1, 1};
    dims[x->rank - 1] = kept ? kept : 1; /* where nothing is left, one empty text */
    WE_TRY(we_host_make(host, 0, WE_STRING, x->rank, dims, &to));
    WE_TRY(we_host_text(host, "", 0, &empty));
    to[0] = empty;
    for (int64_t i = 0; i < count; i++) {
        if (!is_stopword(words, text_of(x, i), exact))
            WE_TRY(in_case(host, text_of(x, i), change, &to[n++]));
    }
    return WE_OK;
}

/* ---- Constants and casts ---- */

we_status we_host_constant_text(const we_host *host) {
    const we_attr *one = we_node_attr(host->node, "value_string"),
                  *many = we_node_attr(host->node, "value_strings");
    const char **to;
    if (host->node->attr_count != 1)
        return WE_HOST_FAIL(host, WE_INVALID_MODEL, "exactly one value attribute is required");
    int64_t count = many ? (int64_t)many->count : 1;
    WE_TRY(we_host_make(host, 0, WE_STRING, many ? 1 : 0, &count, &to));
    for (int64_t i = 0; i < count; i++) {
        const char *text = many ? many->strings[i] : one->string;
        WE_TRY(we_host_text(host, text, strlen(text), &to[i]));
    }
    return WE_OK;
}

/* The shortest decimal that reads back as the same number, the way NumPy prints it: 1.0, 0.1, 1e-05, nan,
 * inf. */
static void print_number(const we_view *x, int64_t i, char *to, size_t room) {
    char kind = we_dtype_kind(x->dtype);
    if (x->dtype == WE_BOOL) {
        snprintf(to, room, "%s", we_view_integer(x, i) ? "True" : "False");
    } else if (x->dtype == WE_U64) {
        snprintf(to, room, "%llu", (unsigned long long)we_view_integer(x, i));
    } else if (kind != 'f') {
        snprintf(to, room, "%lld", (long long)we_view_integer(x, i));
    } else {
        double value = we_view_number(x, i);
        bool fits = false;
        for (int digits = 1; digits <= 17 && !fits && isfinite(value); digits++) {
            snprintf(to, room, "%.*g", digits, value);
            double back = strtod(to, NULL);
            fits = x->dtype == WE_F64    ? back == value
                   : x->dtype == WE_F16  ? we_f16_to_f32(we_f32_to_f16((float)back)) == (float)value
                   : x->dtype == WE_BF16 ? we_bf16_to_f32(we_f32_to_bf16((float)back)) == (float)value
                                         : (float)back == (float)value;
        }
        if (!isfinite(value))
            snprintf(to, room, "%s", isnan(value) ? "nan" : value < 0 ? "-INF" : "INF");
        else if (!strpbrk(to, ".e"))
            strncat(to, ".0", room - strlen(to) - 1);
    }
}

static we_status numbers_to_text(const we_host *host, const we_view *x) {
    const char **to;
    WE_TRY(we_host_make(host, 0, WE_STRING, x->rank, x->dims, &to));
    int64_t count = we_view_elements(x);
    for (int64_t i = 0; i < count; i++) {
        char text[64];
        print_number(x, i, text, sizeof text);
        WE_TRY(we_host_text(host, text, strlen(text), &to[i]));
    }
    return WE_OK;
}

static we_status store_number(const we_host *host, we_dtype dtype, const char *text, void *to, int64_t i) {
    char *end = NULL;
    double real = strtod(text, &end);
    bool whole = we_dtype_kind(dtype) == 'i' || we_dtype_kind(dtype) == 'u';
    long long integer = whole ? strtoll(text, &end, 10) : 0;
    if (end == text || *end)
        return WE_HOST_FAIL(host, WE_INVALID_ARGUMENT, "'%.60s' is no number of type %s", text,
                            we_dtype_name(dtype));
    switch (dtype) {
    case WE_F32:
        ((float *)to)[i] = strtof(text, NULL);
        return WE_OK;
    case WE_F64:
        ((double *)to)[i] = real;
        return WE_OK;
    case WE_F16:
        ((uint16_t *)to)[i] = we_f32_to_f16((float)real);
        return WE_OK;
    case WE_BF16:
        ((uint16_t *)to)[i] = we_f32_to_bf16((float)real);
        return WE_OK;
    case WE_I32:
        ((int32_t *)to)[i] = (int32_t)integer;
        return WE_OK;
    case WE_I64:
        ((int64_t *)to)[i] = integer;
        return WE_OK;
    default:
        return WE_HOST_FAIL(host, WE_UNSUPPORTED,
                            "text becomes F16, BF16, F32, F64, I32 or I64 only: cast again");
    }
}

we_status we_host_cast_text(const we_host *host) {
    const we_view *x;
    const char *name = we_node_string(host->node, "to", "");
    we_dtype dtype;
    void *to;
    WE_TRY(we_host_tensor(host, 0, &x));
    if (!we_dtype_find(name, &dtype))
        return WE_HOST_FAIL(host, WE_UNSUPPORTED, "the type '%.30s' is unknown", name);
    if (dtype == x->dtype)
        host->out[0] = we_datum_retain(host->in[0]);
    if (dtype == x->dtype)
        return WE_OK;
    if (dtype == WE_STRING)
        return numbers_to_text(host, x);
    WE_TRY(we_host_make(host, 0, dtype, x->rank, x->dims, &to));
    int64_t count = we_view_elements(x);
    for (int64_t i = 0; i < count; i++)
        WE_TRY(store_number(host, dtype, text_of(x, i), to, i));
    return WE_OK;
}
