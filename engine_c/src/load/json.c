#include "load/json.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/names.h"

enum {
    MAX_DEPTH = 32,
    MAX_VALUES = 1 << 22,
    MAX_NUMBER = 64, /* characters */
};

typedef struct parser {
    we_arena *arena;
    const char *start, *at, *end;
    const char *what;
    size_t values;
    we_error *err;
} parser;

static we_status wrong(const parser *p, const char *problem) {
    return we_error_set(p->err, WE_INVALID_MODEL, "%s is no valid JSON: %s at byte %zu", p->what, problem,
                        (size_t)(p->at - p->start));
}

static void skip_blanks(parser *p) {
    while (p->at < p->end && (*p->at == ' ' || *p->at == '\t' || *p->at == '\n' || *p->at == '\r'))
        p->at++;
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Four hex digits at p->at; -1 if there are not four. */
static int32_t read_hex4(parser *p) {
    int32_t value = 0;
    if (p->end - p->at < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        int digit = hex_digit(p->at[i]);
        if (digit < 0)
            return -1;
        value = value * 16 + digit;
    }
    p->at += 4;
    return value;
}

static char *put_utf8(char *to, uint32_t code) {
    if (code < 0x80) {
        *to++ = (char)code;
    } else if (code < 0x800) {
        *to++ = (char)(0xC0 | code >> 6);
        *to++ = (char)(0x80 | (code & 0x3F));
    } else if (code < 0x10000) {
        *to++ = (char)(0xE0 | code >> 12);
        *to++ = (char)(0x80 | (code >> 6 & 0x3F));
        *to++ = (char)(0x80 | (code & 0x3F));
    } else {
        *to++ = (char)(0xF0 | code >> 18);
        *to++ = (char)(0x80 | (code >> 12 & 0x3F));
        *to++ = (char)(0x80 | (code >> 6 & 0x3F));
        *to++ = (char)(0x80 | (code & 0x3F));
    }
    return to;
}

/* Length of the valid UTF-8 sequence at `at`, or 0. Source: RFC 3629, section 4. */
static size_t utf8_length(const unsigned char *at, size_t room) {
    size_t length = at[0] < 0x80 ? 1 : at[0] >= 0xC2 && at[0] < 0xE0 ? 2 : (at[0] & 0xF0) == 0xE0 ? 3 : 0;
    if (at[0] >= 0xF0 && at[0] <= 0xF4)
        length = 4;
    if (length == 0 || length > room)
        return 0;
    for (size_t i = 1; i < length; i++) {
        if ((at[i] & 0xC0) != 0x80)
            return 0;
    }
    bool bad = (at[0] == 0xE0 && at[1] < 0xA0) || (at[0] == 0xED && at[1] > 0x9F) ||
               (at[0] == 0xF0 && at[1] < 0x90) || (at[0] == 0xF4 && at[1] > 0x8F);
    return bad ? 0 : length;
}

/* One escape after its backslash. */
static we_status parse_escape(parser *p, char **to) {
    static const char FROM[] = "\"\\/bfnrt", MEANT[] = "\"\\/\b\f\n\r\t";
    if (p->at == p->end)
        return wrong(p, "unfinished string");
    char c = *p->at++;
    const char *found = c ? strchr(FROM, c) : NULL;
    if (found) {
        *(*to)++ = MEANT[found - FROM];
        return WE_OK;
    }
    int32_t code = c == 'u' ? read_hex4(p) : -1;
    if (code >= 0xD800 && code < 0xDC00 && p->end - p->at >= 2 && p->at[0] == '\\' && p->at[1] == 'u') {
        p->at += 2;
        int32_t low = read_hex4(p);
        code = low >= 0xDC00 && low < 0xE000 ? 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00) : -1;
    }
    if (code <= 0 || (code >= 0xD800 && code < 0xE000))
        return wrong(p, "bad escape");
    *to = put_utf8(*to, (uint32_t)code);
    return WE_OK;
}

/* The closing quote of the string that starts at p->at, or NULL. */
static const char *closing_quote(const parser *p) {
    for (const char *c = p->at; c < p->end; c++) {
        if (*c == '\\')
            c++;
        else if (*c == '"')
            return c;
    }
    return NULL;
}

static we_status parse_string(parser *p, const char **text, size_t *length) {
    p->at++;
    const char *close = closing_quote(p);
    if (!close)
        return wrong(p, "unfinished string");
    char *to = we_arena_new(p->arena, (size_t)(close - p->at) + 1); /* escapes only shrink */
    if (!to)
        return we_error_no_memory(p->err);
    *text = to;
    while (p->at < close) {
        unsigned char c = (unsigned char)*p->at;
        if (c == '\\') {
            p->at++;
            WE_TRY(parse_escape(p, &to));
            continue;
        }
        size_t run = c < 0x20 ? 0 : utf8_length((const unsigned char *)p->at, (size_t)(close - p->at));
        if (run == 0)
            return wrong(p, "a control character or invalid UTF-8 in a string");
        memcpy(to, p->at, run);
        to += run;
        p->at += run;
    }
    p->at = close + 1;
    *length = (size_t)(to - *text);
    return WE_OK;
}

/* Integers are summed here; fractions go to strtod on a bounded copy (the process keeps the C numeric locale,
 * as Python does). */
static we_status parse_number(parser *p, we_json *value) {
    char copy[MAX_NUMBER + 1];
    size_t length = 0;
    const char *c = p->at;
    bool fraction = false;
    while (c < p->end && *c && strchr("+-0123456789.eE", *c)) {
        fraction = fraction || strchr(".eE", *c);
        if (length == MAX_NUMBER)
            return wrong(p, "a number of too many characters");
        copy[length++] = *c++;
    }
    copy[length] = '\0';
    const char *digits = copy + (copy[0] == '-');
    bool leading_zero = digits[0] == '0' && digits[1] >= '0' && digits[1] <= '9';
    const char *dot = strchr(digits, '.');
    bool bare_dot = dot && !(dot[1] >= '0' && dot[1] <= '9');
    if (digits[0] < '0' || digits[0] > '9' || leading_zero || bare_dot)
        return wrong(p, "a malformed number");
    char *rest;
    value->kind = WE_JSON_NUMBER;
    value->real = strtod(copy, &rest);
    if (*rest)
        return wrong(p, "a malformed number");
    if (!fraction) {
        errno = 0;
        value->integer = strtoll(copy, &rest, 10);
        value->whole = errno == 0;
    }
    p->at = c;
    return WE_OK;
}

static we_status parse_value(parser *p, int depth, we_json **out);

static we_status parse_member_key(parser *p, we_names *keys, const char **key) {
    size_t length;
    skip_blanks(p);
    if (p->at == p->end || *p->at != '"')
        return wrong(p, "expected a key");
    WE_TRY(parse_string(p, key, &length));
    if (we_names_find(keys, *key) >= 0)
        return wrong(p, "a key given twice");
    if (!we_names_add(keys, *key, 0))
        return we_error_no_memory(p->err);
    skip_blanks(p);
    if (p->at == p->end || *p->at != ':')
        return wrong(p, "expected ':'");
    p->at++;
    return WE_OK;
}

static we_status parse_children(parser *p, int depth, we_json *value, we_names *keys) {
    bool object = value->kind == WE_JSON_OBJECT;
    char close = object ? '}' : ']';
    we_json **tail = &value->first;
    p->at++;
    skip_blanks(p);
    if (p->at < p->end && *p->at == close) {
        p->at++;
        return WE_OK;
    }
    for (;;) {
        const char *key = NULL;
        if (object)
            WE_TRY(parse_member_key(p, keys, &key));
        WE_TRY(parse_value(p, depth + 1, tail));
        (*tail)->key = key;
        tail = &(*tail)->next;
        value->count++;
        skip_blanks(p);
        if (p->at == p->end || (*p->at != ',' && *p->at != close))
            return wrong(p, "expected ',' or a closing bracket");
        if (*p->at++ == close)
            return WE_OK;
    }
}

static we_status parse_word(parser *p, we_json *value) {
    static const struct {
        const char *word;
        we_json_kind kind;
        int64_t integer;
    } WORDS[] = {{"null", WE_JSON_NULL, 0}, {"true", WE_JSON_BOOL, 1}, {"false", WE_JSON_BOOL, 0}};
    for (size_t i = 0; i < sizeof WORDS / sizeof *WORDS; i++) {
        size_t length = strlen(WORDS[i].word);
        if ((size_t)(p->end - p->at) >= length && memcmp(p->at, WORDS[i].word, length) == 0) {
            value->kind = WORDS[i].kind;
            value->integer = WORDS[i].integer;
            p->at += length;
            return WE_OK;
        }
    }
    return wrong(p, "an unexpected character");
}

static we_status parse_value(parser *p, int depth, we_json **out) {
    if (depth > MAX_DEPTH)
        return wrong(p, "nested too deeply");
    if (++p->values > MAX_VALUES)
        return wrong(p, "too many values");
    we_json *value = we_arena_new(p->arena, sizeof *value);
    if (!value)
        return we_error_no_memory(p->err);
    *out = value;
    skip_blanks(p);
    if (p->at == p->end)
        return wrong(p, "it ends early");
    if (*p->at == '"') {
        value->kind = WE_JSON_STRING;
        return parse_string(p, &value->text, &value->length);
    }
    if (*p->at == '{' || *p->at == '[') {
        we_names keys = {0};
        value->kind = *p->at == '{' ? WE_JSON_OBJECT : WE_JSON_ARRAY;
        we_status status = parse_children(p, depth, value, &keys);
        we_names_free(&keys);
        return status;
    }
    if (*p->at == '-' || (*p->at >= '0' && *p->at <= '9'))
        return parse_number(p, value);
    return parse_word(p, value);
}

we_status we_json_parse(we_arena *arena, const char *bytes, size_t size, const char *what, we_json **out,
                        we_error *err) {
    parser p = {.arena = arena, .start = bytes, .at = bytes, .end = bytes + size, .what = what, .err = err};
    WE_TRY(parse_value(&p, 0, out));
    skip_blanks(&p);
    return p.at == p.end ? WE_OK : wrong(&p, "something after the end");
}

const we_json *we_json_get(const we_json *object, const char *key) {
    if (!object || object->kind != WE_JSON_OBJECT)
        return NULL;
    for (const we_json *member = object->first; member; member = member->next) {
        if (strcmp(member->key, key) == 0)
            return member;
    }
    return NULL;
}
