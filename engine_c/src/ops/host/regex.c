/* RegexFullMatch: a pattern against whole texts, in time linear in the text.
 *
 * The pattern becomes a small program (Thompson's construction); all its threads step through the text at
 * once, so no pattern can make the match explode. Source: K. Thompson, Regular Expression Search Algorithm,
 * CACM 11(6), 1968.
 *
 * Understood: literals, . [] [^] | () (?:) * + ? {m} {m,} {m,n} (lazy forms too: whole matches are the same),
 * ^ $ \b \B
 * \A \z, \d \w \s and their opposites, \t \n \r \f \v, escaped punctuation. Characters are code points. */
#include <string.h>

#include "base/error.h"
#include "graph/opspec.h"
#include "ops/host.h"

enum {
    MAX_STEPS = 20000, /* of a program */
    MAX_NESTING = 64,
    MAX_REPEAT = 1000,
    MAX_RANGES = 4096,
};

typedef enum step_kind { STEP_SET, STEP_SPLIT, STEP_JUMP, STEP_ASSERT, STEP_MATCH } step_kind;

typedef struct step {
    step_kind kind;
    bool negated;         /* sets */
    int32_t first, count; /* sets: their ranges */
    int32_t next, other;  /* where to go on */
    char what;            /* assertions: ^ $ b B */
} step;

typedef struct range {
    uint32_t low, high;
} range;

typedef struct regex {
    const we_host *host;
    const char *at; /* of the pattern */
    int32_t depth;
    step *steps;
    range *ranges;
    size_t step_count, step_room, range_count, range_room;
} regex;

/* One code point; malformed bytes stand for themselves. */
static uint32_t code_point(const char **text) {
    const unsigned char *s = (const unsigned char *)*text;
    int more = s[0] >= 0xf0 ? 3 : s[0] >= 0xe0 ? 2 : s[0] >= 0xc0 ? 1 : 0;
    uint32_t value = more == 3 ? s[0] & 7u : more == 2 ? s[0] & 15u : more == 1 ? s[0] & 31u : s[0];
    for (int i = 1; i <= more; i++) {
        if ((s[i] & 0xc0) != 0x80) {
            ++*text;
            return s[0];
        }
        value = value << 6 | (s[i] & 63u);
    }
    *text += more + 1;
    return value;
}

static we_status refuse(const regex *r, const char *problem) {
    return WE_HOST_FAIL(r->host, WE_UNSUPPORTED, "the pattern holds %s, which is not understood here",
                        problem);
}

static we_status add_step(regex *r, step made, int32_t *index) {
    if (r->step_count >= MAX_STEPS)
        return WE_HOST_FAIL(r->host, WE_UNSUPPORTED, "the pattern is too large");
    if (!we_memory_grow((void **)&r->steps, &r->step_room, r->step_count, sizeof *r->steps))
        return we_error_no_memory(r->host->err);
    *index = (int32_t)r->step_count;
    r->steps[r->step_count++] = made;
    return WE_OK;
}

static we_status add_range(regex *r, uint32_t low, uint32_t high) {
    if (r->range_count >= MAX_RANGES)
        return WE_HOST_FAIL(r->host, WE_UNSUPPORTED, "the pattern has too many sets");
    if (!we_memory_grow((void **)&r->ranges, &r->range_room, r->range_count, sizeof *r->ranges))
        return we_error_no_memory(r->host->err);
    r->ranges[r->range_count++] = (range){low, high};
    return WE_OK;
}

/* ---- Sets ---- */

static const range DIGITS[] = {{'0', '9'}}, WORDS[] = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}},
                   BLANKS[] = {{'\t', '\n'}, {'\f', '\r'}, {' ', ' '}};

/* The ranges of \d, \w or \s; false for another letter. */
static bool class_of(char letter, const range **ranges, size_t *count) {
    switch (letter | 0x20) {
    case 'd':
        *ranges = DIGITS;
        *count = sizeof DIGITS / sizeof *DIGITS;
        return true;
    case 'w':
        *ranges = WORDS;
        *count = sizeof WORDS / sizeof *WORDS;
        return true;
    case 's':
        *ranges = BLANKS;
        *count = sizeof BLANKS / sizeof *BLANKS;
        return true;
    default:
        return false;
    }
}

/* Add \d and the like, or what lies between its ranges where the letter is a capital. */
static we_status add_class(regex *r, char letter) {
    const range *ranges = NULL;
    size_t count = 0;
    uint32_t from = 0;
    class_of(letter, &ranges, &count);
    bool opposite = letter >= 'A' && letter <= 'Z';
    for (size_t i = 0; i < count; i++) {
        if (!opposite)
            WE_TRY(add_range(r, ranges[i].low, ranges[i].high));
        else if (ranges[i].low > from)
            WE_TRY(add_range(r, from, ranges[i].low - 1));
        from = ranges[i].high + 1;
    }
    return opposite ? add_range(r, from, UINT32_MAX) : WE_OK;
}

/* The character after a backslash that stands for one character. */
static we_status escaped(regex *r, uint32_t *out) {
    static const char FROM[] = "tnrfv", TO[] = "\t\n\r\f\v";
    char c = *r->at;
    const char *known = c ? strchr(FROM, c) : NULL;
    if (!c || (!known && ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'))))
        return refuse(r, "an escape");
    *out = known ? (uint32_t)TO[known - FROM] : code_point(&r->at);
    r->at += known != NULL;
    return WE_OK;
}

/* One end of a range inside brackets. */
static we_status bracket_character(regex *r, uint32_t *out) {
    if (*r->at == '\\') {
        r->at++;
        return escaped(r, out);
    }
    if (r->at[0] == '[' && r->at[1] == ':')
        return refuse(r, "a named class");
    *out = code_point(&r->at);
    return WE_OK;
}

static we_status bracket_item(regex *r) {
    const range *ranges;
    size_t count;
    uint32_t low = 0, high = 0;
    if (r->at[0] == '\\' && class_of(r->at[1], &ranges, &count)) {
        r->at += 2;
        return add_class(r, r->at[-1]);
    }
    WE_TRY(bracket_character(r, &low));
    high = low;
    if (r->at[0] == '-' && r->at[1] && r->at[1] != ']') {
        r->at++;
        WE_TRY(bracket_character(r, &high));
    }
    return high < low ? refuse(r, "a range that runs backwards") : add_range(r, low, high);
}

static we_status bracket(regex *r, step *set) {
    set->negated = *r->at == '^';
    r->at += set->negated;
    for (bool first = true; first || *r->at != ']'; first = false) {
        if (!*r->at)
            return WE_HOST_FAIL(r->host, WE_INVALID_MODEL, "the pattern has a [ without ]");
        WE_TRY(bracket_item(r));
    }
    r->at++;
    return WE_OK;
}

/* ---- The pattern to steps. Every piece begins at its first step and falls through to the step after its
 * last. ---- */

static we_status alternatives(regex *r);

static we_status add_assert(regex *r, char what) {
    int32_t index;
    return add_step(r, (step){.kind = STEP_ASSERT, .what = what}, &index);
}

static we_status group(regex *r) {
    if (r->at[0] == '?' && r->at[1] == ':')
        r->at += 2;
    else if (r->at[0] == '?')
        return refuse(r, "a group with (?");
    if (++r->depth > MAX_NESTING)
        return refuse(r, "groups nested too deep");
    WE_TRY(alternatives(r));
    r->depth--;
    if (*r->at != ')')
        return WE_HOST_FAIL(r->host, WE_INVALID_MODEL, "the pattern has a ( without )");
    r->at++;
    return WE_OK;
}

static we_status atom(regex *r) {
    step set = {.kind = STEP_SET, .first = (int32_t)r->range_count};
    const range *ranges;
    size_t count;
    int32_t index;
    uint32_t c = 0;
    char letter = *r->at;
    if (letter == '(') {
        r->at++;
        return group(r);
    }
    if (letter == '^' || letter == '$') {
        r->at++;
        return add_assert(r, letter);
    }
    if (letter == '*' || letter == '+' || letter == '?')
        return refuse(r, "a repetition of nothing");
    if (letter == '[') {
        r->at++;
        WE_TRY(bracket(r, &set));
    } else if (letter == '.') {
        r->at++;
        set.negated = true;
        WE_TRY(add_range(r, '\n', '\n'));
    } else if (letter == '\\') {
        r->at++;
        char what = *r->at;
        if (what == 'b' || what == 'B' || what == 'A' || what == 'z') {
            r->at++;
            return add_assert(r, what == 'A' ? '^' : what == 'z' ? '$' : what);
        }
        if (class_of(what, &ranges, &count)) {
            r->at++;
            WE_TRY(add_class(r, what));
        } else {
            WE_TRY(escaped(r, &c));
            WE_TRY(add_range(r, c, c));
        }
    } else {
        c = code_point(&r->at);
        WE_TRY(add_range(r, c, c));
    }
    set.count = (int32_t)r->range_count - set.first;
    return add_step(r, set, &index);
}

static int32_t number(regex *r) {
    int32_t value = -1;
    while (*r->at >= '0' && *r->at <= '9' && value <= MAX_REPEAT)
        value = (value < 0 ? 0 : value * 10) + (*r->at++ - '0');
    return value;
}

/* {m}, {m,} or {m,n}; anything else after a brace is a brace. */
static bool braces(regex *r, int32_t *least, int32_t *most) {
    const char *start = r->at++;
    *least = *most = number(r);
    if (*least >= 0 && *r->at == ',') {
        r->at++;
        *most = number(r);
    }
    if (*least >= 0 && *r->at == '}') {
        r->at++;
        return true;
    }
    r->at = start;
    return false;
}

/* Append a copy of the steps [from, to); they refer to each other relatively, so a copy is as good. */
static we_status repeat(regex *r, int32_t from, int32_t to) {
    for (int32_t i = from; i < to; i++) {
        int32_t index;
        WE_TRY(add_step(r, r->steps[i], &index));
    }
    return WE_OK;
}

/* Make room for one step at `at`; what lies behind moves, which relative references allow. */
static we_status insert(regex *r, int32_t at, step made) {
    int32_t index;
    WE_TRY(add_step(r, made, &index));
    memmove(&r->steps[at + 1], &r->steps[at], (size_t)(index - at) * sizeof *r->steps);
    r->steps[at] = made;
    return WE_OK;
}

/* The piece [from, end) any number of times, or at most once. `next` and `other` are distances. */
static we_status any_number(regex *r, int32_t from) {
    int32_t size = (int32_t)r->step_count - from, index;
    WE_TRY(insert(r, from, (step){.kind = STEP_SPLIT, .next = 1, .other = size + 2}));
    return add_step(r, (step){.kind = STEP_JUMP, .next = -(size + 1)}, &index);
}

static we_status perhaps(regex *r, int32_t from) {
    int32_t size = (int32_t)r->step_count - from;
    return insert(r, from, (step){.kind = STEP_SPLIT, .next = 1, .other = size + 1});
}

/* least..most times (most < 0: no end) the piece that begins at `from`. */
static we_status repeated(regex *r, int32_t from, int32_t least, int32_t most) {
    int32_t size = (int32_t)r->step_count - from;
    if (least > MAX_REPEAT || most > MAX_REPEAT || (most >= 0 && most < least))
        return refuse(r, "a repetition count");
    for (int32_t i = 0; i < least; i++)
        WE_TRY(repeat(r, from, from + size));
    for (int32_t i = least; i < (most < 0 ? least + 1 : most); i++) {
        int32_t copy = (int32_t)r->step_count;
        WE_TRY(repeat(r, from, from + size));
        WE_TRY(most < 0 ? any_number(r, copy) : perhaps(r, copy));
    }
    /* The copies stand behind the piece itself: drop that. */
    memmove(&r->steps[from], &r->steps[from + size],
            (r->step_count - (size_t)(from + size)) * sizeof *r->steps);
    r->step_count -= (size_t)size;
    return WE_OK;
}

static we_status piece(regex *r) {
    int32_t from = (int32_t)r->step_count, least, most;
    WE_TRY(atom(r));
    for (;;) {
        char c = *r->at;
        if (c == '*' || c == '+' || c == '?') {
            r->at++;
            least = c == '+';
            most = c == '?' ? 1 : -1;
        } else if (c != '{' || !braces(r, &least, &most)) {
            return WE_OK;
        }
        WE_TRY(repeated(r, from, least, most));
        r->at += *r->at == '?'; /* lazy: the same whole matches */
    }
}

static we_status sequence(regex *r) {
    while (*r->at && *r->at != '|' && *r->at != ')')
        WE_TRY(piece(r));
    return WE_OK;
}

static we_status alternatives(regex *r) {
    int32_t from = (int32_t)r->step_count, index;
    WE_TRY(sequence(r));
    if (*r->at != '|')
        return WE_OK;
    r->at++;
    WE_TRY(perhaps(r, from)); /* a split: this one, or what follows */
    WE_TRY(add_step(r, (step){.kind = STEP_JUMP}, &index));
    r->steps[from].other++;
    WE_TRY(alternatives(r));
    r->steps[index].next = (int32_t)r->step_count - index;
    return WE_OK;
}

/* ---- Matching ---- */

static bool is_word(uint32_t c) {
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || c == '_' || (c >= 'a' && c <= 'z');
}

static bool holds(char what, uint32_t before, uint32_t after) {
    bool edge = is_word(before) != is_word(after);
    return what == '^' ? before == 0 : what == '$' ? after == 0 : what == 'b' ? edge : !edge;
}

static bool in_set(const regex *r, const step *set, uint32_t c) {
    bool found = false;
    for (int32_t i = 0; i < set->count && !found; i++)
        found = c >= r->ranges[set->first + i].low && c <= r->ranges[set->first + i].high;
    return found != set->negated;
}

/* Threads: steps that wait for a character. `seen` marks steps reached at this place; `stack` is scratch. */
typedef struct threads {
    int32_t *now, *later, *stack;
    int64_t *seen; /* the place where last reached, from 1 */
    int32_t count, later_count;
} threads;

/* Follow everything that needs no character, from one step on. */
static void follow(const regex *r, threads *t, int32_t from, int64_t place, uint32_t before, uint32_t after) {
    int32_t depth = 0;
    t->stack[depth++] = from;
    while (depth) {
        int32_t at = t->stack[--depth];
        if (t->seen[at] == place)
            continue;
        t->seen[at] = place;
        const step *s = &r->steps[at];
        if (s->kind == STEP_SPLIT)
            t->stack[depth++] = at + s->other;
        if (s->kind == STEP_SPLIT || s->kind == STEP_JUMP)
            t->stack[depth++] = at + s->next;
        else if (s->kind == STEP_ASSERT && holds(s->what, before, after))
            t->stack[depth++] = at + 1;
        else if (s->kind == STEP_SET || s->kind == STEP_MATCH)
            t->later[t->later_count++] = at;
    }
}

static void swap(threads *t) {
    int32_t *now = t->now;
    t->now = t->later;
    t->later = now;
    t->count = t->later_count;
    t->later_count = 0;
}

static uint32_t peek(const char *text) {
    return *text ? code_point(&text) : 0;
}

static bool matches(const regex *r, threads *t, const char *text, int64_t *place) {
    t->later_count = 0;
    follow(r, t, 0, ++*place, 0, peek(text));
    for (swap(t); *text && t->count; swap(t)) {
        uint32_t c = code_point(&text);
        ++*place;
        for (int32_t i = 0; i < t->count; i++) {
            if (r->steps[t->now[i]].kind == STEP_SET && in_set(r, &r->steps[t->now[i]], c))
                follow(r, t, t->now[i] + 1, *place, c, peek(text));
        }
    }
    for (int32_t i = 0; !*text && i < t->count; i++) {
        if (r->steps[t->now[i]].kind == STEP_MATCH)
            return true;
    }
    return false;
}

static we_status match_all(const regex *r, const we_view *x, uint8_t *to) {
    threads t = {.now = we_memory_new(r->step_count * sizeof *t.now),
                 .later = we_memory_new(r->step_count * sizeof *t.later),
                 .stack = we_memory_new((2 * r->step_count + 2) * sizeof *t.stack),
                 .seen = we_memory_new(r->step_count * sizeof *t.seen)};
    int64_t place = 0, count = we_view_elements(x);
    bool ok = t.now && t.later && t.stack && t.seen;
    for (int64_t i = 0; ok && i < count; i++) {
        const char *text = ((const char *const *)x->data)[i];
        to[i] = matches(r, &t, text ? text : "", &place);
    }
    we_memory_free(t.now);
    we_memory_free(t.later);
    we_memory_free(t.stack);
    we_memory_free(t.seen);
    return ok ? WE_OK : we_error_no_memory(r->host->err);
}

static we_status compile(regex *r) {
    int32_t index;
    WE_TRY(alternatives(r));
    if (*r->at)
        return WE_HOST_FAIL(r->host, WE_INVALID_MODEL, "the pattern has a ) without (");
    return add_step(r, (step){.kind = STEP_MATCH}, &index);
}

we_status we_host_regex_full_match(const we_host *host) {
    const we_view *x;
    uint8_t *to;
    regex r = {.host = host, .at = we_node_string(host->node, "pattern", "")};
    WE_TRY(we_host_typed(host, 0, WE_STRING, &x));
    we_status status = compile(&r);
    if (status == WE_OK)
        status = we_host_make(host, 0, WE_BOOL, x->rank, x->dims, &to);
    if (status == WE_OK)
        status = match_all(&r, x, to);
    we_memory_free(r.steps);
    we_memory_free(r.ranges);
    return status;
}
