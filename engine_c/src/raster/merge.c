/* Vertical merging: writer x -> t, reader t -> y becomes x -> y for the part of t that the writer covers.
 *
 * The writer's destination is read as a mixed-radix number system: an address in t decodes into one digit per
 * dim of the writer, and it is written if every digit is on that dim's lattice 0, step, .. (count - 1) *
 * step. A reader whose dims each walk along one digit, without carries, meets the written part in a box; what
 * is left of the reader is cut into boxes too. A reader that carries is cut where the digits carry first. */
#include <stdlib.h>
#include <string.h>

#include "raster/region.h"

enum {
    MAX_DIGITS = WE_MAX_RANK + 1,
};

typedef struct digit {
    int64_t radix; /* value of 1 in t, a multiple of the next digit's */
    int64_t cap;   /* digits below this do not carry; of the first: none */
    int64_t count, step;
    int64_t src; /* stride in the writer's source */
} digit;

typedef struct digits {
    digit at[MAX_DIGITS]; /* largest radix first, the last is 1 */
    int32_t count;
    int64_t dst_offset, src_offset;
    int64_t low, high; /* first and last address written */
} digits;

/* How a box walks the digits. */
typedef struct walk {
    int32_t digit[WE_BOX_RANK]; /* -1: stands still */
    int64_t advance[WE_BOX_RANK];
    int64_t start[MAX_DIGITS]; /* value in the first iteration */
} walk;

/* The members of a dim: first, first + stride, .. */
typedef struct progression {
    int64_t first, stride, count;
} progression;

typedef enum verdict {
    OUTSIDE, /* the box reads nothing the writer writes */
    CUT,     /* looked at in parts */
    MEETS,   /* in a box */
    HARD,
} verdict;

static int64_t greatest_divisor(int64_t a, int64_t b) {
    while (b) {
        int64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

static int64_t floor_div(int64_t a, int64_t b) { /* b > 0 */
    return a / b - (a % b < 0);
}

static int64_t ceil_div(int64_t a, int64_t b) { /* b > 0 */
    return -floor_div(-a, b);
}

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static int64_t most(int64_t a, int64_t b) {
    return a > b ? a : b;
}

/* ---- The writer ---- */

/* The writer's dims as digits with strides for radices, largest first; false if a dim overwrites itself. */
static bool sort_dims(const we_region *writer, digits *d) {
    d->count = 0;
    d->dst_offset = writer->dst.offset;
    d->src_offset = writer->src.offset;
    for (int32_t i = 0; i < writer->rank; i++) {
        int64_t n = writer->size[i], dst = writer->dst.stride[i], src = writer->src.stride[i];
        if (n == 1)
            continue;
        if (n == 0 || dst == 0)
            return false;
        if (dst < 0) { /* walk the dim from its other end */
            d->dst_offset += (n - 1) * dst;
            d->src_offset += (n - 1) * src;
            dst = -dst;
            src = -src;
        }
        int32_t at = d->count++;
        for (; at > 0 && d->at[at - 1].radix < dst; at--)
            d->at[at] = d->at[at - 1];
        d->at[at] = (digit){.radix = dst, .count = n, .src = src};
    }
    return true;
}

/* False if addresses do not decode uniquely. */
static bool digits_of(const we_region *writer, digits *d) {
    if (!sort_dims(writer, d))
        return false;
    d->low = d->high = d->dst_offset;
    for (int32_t k = 0; k < d->count; k++) {
        digit *own = &d->at[k];
        int64_t stride = own->radix;
        d->high += (own->count - 1) * stride;
        own->radix = k ? greatest_divisor(stride, d->at[k - 1].radix) : stride;
        own->step = stride / own->radix;
        own->cap = k ? d->at[k - 1].radix / own->radix : INT64_MAX;
        if (k && (own->count - 1) * own->step >= own->cap)
            return false;
    }
    if (d->count == 0 || d->at[d->count - 1].radix > 1) { /* between two written elements */
        int64_t cap = d->count ? d->at[d->count - 1].radix : INT64_MAX;
        d->at[d->count++] = (digit){.radix = 1, .cap = cap, .count = 1, .step = 1};
    }
    return true;
}

static int64_t extent(const digit *d) {
    return (d->count - 1) * d->step + 1;
}

/* ---- Cutting boxes ---- */

/* Keep only a progression of one dim. */
static void narrow(we_box *box, int32_t dim, progression p) {
    box->src_offset += p.first * box->src_stride[dim];
    box->dst_offset += p.first * box->dst_stride[dim];
    box->src_stride[dim] *= p.stride;
    box->dst_stride[dim] *= p.stride;
    box->size[dim] = p.count;
}

static bool push(we_box_list *list, const we_box *box) {
    if (list->count == WE_BOX_LIST)
        return false;
    list->at[list->count++] = *box;
    return true;
}

static verdict cut_at(we_box_list *pending, const we_box *box, int32_t dim, int64_t at) {
    we_box head = *box, tail = *box;
    narrow(&head, dim, (progression){0, 1, at});
    narrow(&tail, dim, (progression){at, 1, box->size[dim] - at});
    return push(pending, &tail) && push(pending, &head) ? CUT : HARD;
}

/* Make two dims of one: whole periods, and the position in each; then what is left over. */
static verdict cut_periods(we_box_list *pending, const we_box *box, int32_t dim, int64_t period) {
    int64_t whole = box->size[dim] / period;
    we_box body = *box;
    if (whole < 2)
        return cut_at(pending, box, dim, period);
    if (whole * period < box->size[dim])
        return cut_at(pending, box, dim, whole * period);
    if (body.rank == WE_BOX_RANK)
        return HARD;
    for (int32_t i = body.rank++; i > dim; i--) {
        body.size[i] = body.size[i - 1];
        body.src_stride[i] = body.src_stride[i - 1];
        body.dst_stride[i] = body.dst_stride[i - 1];
    }
    body.size[dim] = whole;
    body.size[dim + 1] = period;
    body.src_stride[dim] *= period;
    body.dst_stride[dim] *= period;
    return push(pending, &body) ? CUT : HARD;
}

/* ---- Walking the digits ---- */

/* The dim that moves digit k furthest, or -1; the others' span. */
static int32_t main_walker(const we_box *box, const walk *w, int32_t k, int64_t *others_low,
                           int64_t *others_high) {
    int32_t best = -1;
    *others_low = *others_high = 0;
    for (int32_t i = 0; i < box->rank; i++) {
        if (w->digit[i] == k && (best < 0 || llabs(w->advance[i]) * (box->size[i] - 1) >
                                                 llabs(w->advance[best]) * (box->size[best] - 1)))
            best = i;
    }
    for (int32_t i = 0; i < box->rank; i++) {
        if (w->digit[i] != k || i == best)
            continue;
        int64_t span = w->advance[i] * (box->size[i] - 1);
        *others_low += span < 0 ? span : 0;
        *others_high += span > 0 ? span : 0;
    }
    return best;
}

/* Digit k carries somewhere in the box: cut at the first carry, or into periods from there. `start` is in
 * [0, cap). */
static verdict cut_at_carry(we_box_list *pending, const we_box *box, const walk *w, const digit *d, int32_t k,
                            int64_t start) {
    int64_t low, high;
    int32_t dim = main_walker(box, w, k, &low, &high);
    if (dim < 0)
        return HARD;
    int64_t advance = llabs(w->advance[dim]), n = box->size[dim];
    int64_t from = start + low - floor_div(start + low, d->cap) * d->cap; /* least value at x = 0 */
    if (from % advance + (high - low) >= advance && high != low)
        return cut_at(pending, box, dim, n / 2); /* the other dims carry too: look at fewer steps at once */
    bool up = w->advance[dim] > 0;
    bool aligned = up ? from < advance : from >= d->cap - advance;
    int64_t first = up ? ceil_div(d->cap - from, advance) : from / advance + 1;
    if (first >= n)
        return cut_at(pending, box, dim, n / 2);
    return aligned && d->cap % advance == 0 ? cut_periods(pending, box, dim, d->cap / advance)
                                            : cut_at(pending, box, dim, first);
}

/* Find the digit each dim walks along, and the digits of the first address. CUT where a dim does not keep to
 * one digit, MEETS where all do. */
static verdict walk_digits(const digits *d, const we_box *box, we_box_list *pending, walk *w) {
    for (int32_t i = 0; i < box->rank; i++) {
        int64_t distance = llabs(box->src_stride[i]);
        w->digit[i] = -1;
        w->advance[i] = 0;
        if (distance == 0 || box->size[i] == 1)
            continue;
        int32_t k = 0;
        while (d->at[k].radix > distance)
            k++;
        if (distance % d->at[k].radix)
            return cut_at(pending, box, i, box->size[i] / 2);
        w->digit[i] = k;
        w->advance[i] = box->src_stride[i] / d->at[k].radix;
    }
    int64_t rest = box->src_offset - d->dst_offset;
    for (int32_t k = d->count - 1; k > 0; k--) {
        const digit *own = &d->at[k];
        int64_t low = 0, high = 0, start = rest - floor_div(rest, own->cap) * own->cap;
        for (int32_t i = 0; i < box->rank; i++) {
            int64_t span = w->digit[i] == k ? w->advance[i] * (box->size[i] - 1) : 0;
            low += span < 0 ? span : 0;
            high += span > 0 ? span : 0;
        }
        /* A value off the lattice's range must not equal one inside it by a carry. */
        bool fits = start + high < own->cap && start + low >= extent(own) - own->cap;
        bool fits_below = start + high < 2 * own->cap && start + low >= extent(own);
        if (!fits && !fits_below)
            return cut_at_carry(pending, box, w, own, k, start);
        w->start[k] = fits ? start : start - own->cap;
        rest = (rest - w->start[k]) / own->cap;
    }
    w->start[0] = rest;
    return MEETS;
}

/* ---- Meeting the writer ---- */

/* The part of [0, n) where `from + advance * x` lies in [0, last]. */
static progression range_inside(int64_t from, int64_t advance, int64_t last, int64_t n) {
    int64_t low = advance > 0 ? ceil_div(-from, advance) : ceil_div(from - last, -advance);
    int64_t high = advance > 0 ? floor_div(last - from, advance) : floor_div(from, -advance);
    low = most(low, 0);
    high = least(high, n - 1);
    return (progression){low, 1, most(high - low + 1, 0)};
}

/* The members of the main walker of digit k that hit the lattice. */
static verdict meet_digit(const digit *own, const we_box *box, const walk *w, int32_t k, we_box_list *pending,
                          progression *members) {
    int64_t others_low, others_high;
    int32_t dim = main_walker(box, w, k, &others_low, &others_high);
    if (dim < 0)
        return w->start[k] >= 0 && w->start[k] < extent(own) && w->start[k] % own->step == 0 ? MEETS
                                                                                             : OUTSIDE;
    for (int32_t i = 0; i < box->rank; i++) {
        if (w->digit[i] == k && i != dim && w->advance[i] % own->step)
            return cut_at(pending, box, i, box->size[i] / 2);
    }
    int64_t from = w->start[k] + others_low, width = others_high - others_low, n = box->size[dim];
    int64_t advance = w->advance[dim];
    /* Steps at which all the other dims stay inside, and steps at which any does. */
    progression inside = range_inside(from, advance, extent(own) - 1 - width, n);
    progression touching = range_inside(from + width, advance, extent(own) - 1 + width, n);
    if (touching.count == 0)
        return OUTSIDE;
    if (inside.count == 0)
        return n < 2 ? HARD : cut_at(pending, box, dim, n / 2);
    if (inside.first > touching.first)
        return cut_at(pending, box, dim, inside.first);
    if (inside.count < touching.count)
        return cut_at(pending, box, dim, inside.first + inside.count);
    int64_t stride = own->step / greatest_divisor(llabs(advance), own->step),
            last = inside.first + inside.count;
    while (inside.first < last && (w->start[k] + inside.first * advance) % own->step)
        inside.first++;
    if (inside.first == last)
        return OUTSIDE;
    *members = (progression){inside.first, stride, (last - 1 - inside.first) / stride + 1};
    return MEETS;
}

/* What of the dim is not a member; `box` keeps the members. */
static bool peel(we_box *box, int32_t dim, progression members, we_box_list *rest) {
    int64_t n = box->size[dim], end = members.first + (members.count - 1) * members.stride + 1;
    progression left[2] = {{0, 1, members.first}, {end, 1, n - end}};
    for (int32_t i = 0; i < 2; i++) {
        we_box part = *box;
        narrow(&part, dim, left[i]);
        if (left[i].count && !push(rest, &part))
            return false;
    }
    for (int64_t r = 1; r < members.stride && members.count > 1; r++) {
        we_box part = *box;
        narrow(&part, dim, (progression){members.first + r, members.stride, members.count - 1});
        if (!push(rest, &part))
            return false;
    }
    narrow(box, dim, members);
    return true;
}

/* The region through the writer's source for a box that lies wholly on the lattice. */
static bool through_writer(const digits *d, const we_region *writer, const we_box *box, const walk *w,
                           const progression *members, we_region *out) {
    we_box merged = *box;
    merged.src_offset = d->src_offset;
    for (int32_t k = 0; k < d->count; k++) {
        int64_t value = w->start[k];
        for (int32_t i = 0; i < box->rank; i++)
            value += w->digit[i] == k ? w->advance[i] * members[i].first : 0;
        merged.src_offset += value / d->at[k].step * d->at[k].src;
    }
    for (int32_t i = 0; i < box->rank; i++) {
        const digit *own = w->digit[i] < 0 ? NULL : &d->at[w->digit[i]];
        merged.src_stride[i] =
            own && box->size[i] > 1 ? w->advance[i] * members[i].stride / own->step * own->src : 0;
    }
    *out = (we_region){.source = writer->source};
    return we_box_to_region(&merged, out);
}

static verdict examine(const digits *d, const we_region *writer, const we_box *given, we_box_list *pending,
                       we_box_list *rest, we_region_list *out) {
    walk w;
    progression members[WE_BOX_RANK];
    we_box box = *given;
    int64_t low = box.src_offset, high = box.src_offset;
    for (int32_t i = 0; i < box.rank; i++) {
        int64_t span = (box.size[i] - 1) * box.src_stride[i];
        low += span < 0 ? span : 0;
        high += span > 0 ? span : 0;
        members[i] = (progression){0, 1, box.size[i]};
    }
    if (high < d->low || low > d->high)
        return OUTSIDE;
    verdict found = walk_digits(d, &box, pending, &w);
    for (int32_t k = 0; k < d->count && found == MEETS; k++) {
        int64_t ignored_low, ignored_high;
        int32_t dim = main_walker(&box, &w, k, &ignored_low, &ignored_high);
        found = meet_digit(&d->at[k], &box, &w, k, pending, dim < 0 ? NULL : &members[dim]);
    }
    if (found != MEETS)
        return found;
    for (int32_t i = 0; i < box.rank; i++) {
        if (members[i].count < box.size[i] && !peel(&box, i, members[i], rest))
            return HARD;
    }
    if (out->count == WE_BOX_LIST || !through_writer(d, writer, &box, &w, members, &out->at[out->count]))
        return HARD;
    out->count++;
    return MEETS;
}

bool we_region_compose(const we_region *writer, we_box_list *reader, we_box_list *spare,
                       we_region_list *out) {
    digits d;
    if (!digits_of(writer, &d))
        return false;
    spare->count = 0; /* collects what the writer does not cover */
    int32_t looks = 0;
    while (reader->count) {
        we_box box = reader->at[--reader->count];
        verdict found = examine(&d, writer, &box, reader, spare, out);
        if (found == OUTSIDE && !push(spare, &box))
            found = HARD;
        if (found == HARD || ++looks > 4 * WE_BOX_LIST)
            return false;
    }
    memcpy(reader->at, spare->at, spare->count * sizeof *spare->at);
    reader->count = spare->count;
    return true;
}
