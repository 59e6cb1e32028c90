/* The borders of regions of a binary image, and what is measured and simplified of polygons.
 * Source: Suzuki and Abe, "Topological structural analysis of digitized binary images by border following"
 * (1985); order and form of the results are OpenCV's. */
#include "imaging/imaging.h"

enum { EXTERNAL, LIST, CCOMP, TREE };
enum { APPROX_NONE = 1, APPROX_SIMPLE };

typedef struct found {
    int32_t parent, first_child,
        next; /* numbers of others, -1: none; a new one comes first among its siblings */
    bool hole;
    size_t start, end; /* its points */
} found;

/* The image with a border of zeros. A pixel of a region is 1, or +-(2 + number of the border that went
 * through it last); negative where the region ends to its right. */
typedef struct tracing {
    int32_t *labels;
    int64_t step, height, width;
    bool simple;
    int32_t x_offset, y_offset;
    found *all;
    size_t count, capacity;
    int32_t (*points)[2];
    size_t point_count, point_capacity;
} tracing;

/* Directions, against the clock from the right. */
static const int32_t DX[8] = {1, 1, 0, -1, -1, -1, 0, 1}, DY[8] = {0, -1, -1, -1, 0, 1, 1, 1};

static bool add_point(tracing *t, int64_t x, int64_t y) {
    if (!we_memory_grow((void **)&t->points, &t->point_capacity, t->point_count, sizeof *t->points))
        return false;
    t->points[t->point_count][0] = (int32_t)(x - 1 + t->x_offset);
    t->points[t->point_count++][1] = (int32_t)(y - 1 + t->y_offset);
    return true;
}

/* Follow the border that starts at (x, y); `label` marks it. False when out of memory. */
static bool follow(tracing *t, int64_t x, int64_t y, bool hole, int32_t label) {
    int32_t *start = t->labels + y * t->step + x;
    int64_t deltas[8];
    for (int d = 0; d < 8; d++)
        deltas[d] = DY[d] * t->step + DX[d];
    int from = hole ? 0 : 4, d = from;
    do
        d = (d - 1) & 7;
    while (start[deltas[d]] == 0 && d != from);
    if (d == from) { /* a pixel by itself */
        *start = -label;
        return add_point(t, x, y);
    }
    int32_t *first = start + deltas[d], *at = start;
    int before = d ^ 4;
    for (;;) {
        int came = d;
        int32_t *next;
        do
            next = at + deltas[++d & 7];
        while (*next == 0);
        d &= 7;
        if ((unsigned)(d - 1) < (unsigned)came)
            *at = -label;
        else if (*at == 1)
            *at = label;
        if ((d != before || !t->simple) && !add_point(t, x, y))
            return false;
        before = d;
        x += DX[d];
        y += DY[d];
        if (next == start && at == first)
            return true;
        at = next;
        d = (d + 4) & 7;
    }
}

/* The border round a new one, from the last one met to its left. */
static int32_t parent_of(const tracing *t, int mode, bool hole, int64_t last_x, int64_t last_y) {
    if (mode <= LIST || (!hole && mode == CCOMP) || last_x <= 0)
        return -1;
    int32_t label = t->labels[last_y * t->step + last_x];
    int32_t number = (label < 0 ? -label : label) - 2;
    if (number < 0)
        return -1;
    return t->all[number].hole == hole ? t->all[number].parent : number;
}

static bool scan(tracing *t, int mode, int32_t *top) {
    for (int64_t y = 1; y <= t->height; y++) {
        int32_t *row = t->labels + y * t->step;
        int32_t before = 0;
        int64_t last = 0; /* where the last border was met */
        for (int64_t x = 1; x <= t->width + 1; x++) {
            int32_t here = row[x];
            if (here == before)
                continue;
            bool outer = before == 0 && here == 1, hole = !outer && here == 0 && before >= 1;
            if (hole && before > 1)
                last = x - 1;
            if ((outer || hole) && !(mode == EXTERNAL && (hole || row[last] > 0))) {
                int32_t parent = parent_of(t, mode, hole, last, y), number = (int32_t)t->count;
                if (t->count == t->capacity &&
                    !we_memory_grow((void **)&t->all, &t->capacity, t->count, sizeof(found)))
                    return false;
                int32_t *siblings = parent < 0 ? top : &t->all[parent].first_child;
                t->all[t->count++] = (found){parent, -1, *siblings, hole, t->point_count, 0};
                *siblings = number;
                last = x - hole;
                if (!follow(t, x - hole, y, hole, number + 2))
                    return false;
                t->all[number].end = t->point_count;
                here = row[x];
            }
            before = here;
            if (here > 1 || here < 0)
                last = x;
        }
    }
    return true;
}

/* Write contours parents first, the last found first among siblings. */
static bool list(const tracing *t, int32_t top, we_contours *out) {
    out->count = t->count;
    out->starts = we_memory_new((t->count + 1) * sizeof(size_t));
    out->points = we_memory_new((2 * t->point_count + 1) * sizeof(int32_t));
    out->hierarchy = we_memory_new((4 * t->count + 1) * sizeof(int32_t));
    int32_t *places = we_memory_new((t->count + 1) * sizeof(int32_t));
    bool enough = out->starts && out->points && out->hierarchy && places;
    size_t written = 0, points = 0;
    for (int32_t at = enough ? top : -1; at >= 0;) {
        const found *f = &t->all[at];
        places[at] = (int32_t)written;
        out->starts[written++] = points;
        memcpy(out->points + 2 * points, t->points + f->start, (f->end - f->start) * sizeof *t->points);
        points += f->end - f->start;
        if (f->first_child >= 0) {
            at = f->first_child;
            continue;
        }
        while (at >= 0 && t->all[at].next < 0)
            at = t->all[at].parent;
        at = at < 0 ? -1 : t->all[at].next;
    }
    if (enough) {
        out->starts[written] = points;
        for (size_t i = 0; i < 4 * t->count; i++)
            out->hierarchy[i] = -1;
        for (size_t i = 0; i < t->count; i++) {
            const found *f = &t->all[i];
            int32_t *line = out->hierarchy + 4 * places[i];
            if (f->next >= 0) {
                line[0] = places[f->next];
                out->hierarchy[4 * places[f->next] + 1] = places[i];
            }
            line[2] = f->first_child < 0 ? -1 : places[f->first_child];
            line[3] = f->parent < 0 ? -1 : places[f->parent];
        }
    }
    we_memory_free(places);
    return enough;
}

we_status we_contours_find(const we_image *image, int mode, int method, int32_t x_offset, int32_t y_offset,
                           we_contours *out, we_error *err) {
    *out = (we_contours){0};
    we_error_clear(err);
    WE_TRY(we_image_expect(image, WE_TYPE(U8) | WE_TYPE(I8), "findContours", err));
    if (image->channels != 1 || mode < EXTERNAL || mode > TREE ||
        (method != APPROX_NONE && method != APPROX_SIMPLE))
        return we_error_set(
            err, WE_INVALID_ARGUMENT,
            "findContours takes an image of one channel, a mode from 0 to 3, and CHAIN_APPROX_NONE or "
            "CHAIN_APPROX_SIMPLE");
    if (image->height > 1 << 20 || image->width > 1 << 20 || image->height * image->width > 1 << 29)
        return we_error_set(err, WE_INVALID_ARGUMENT,
                            "the image is too large for findContours: resize it first");
    if (we_image_is_empty(image))
        return WE_OK;
    tracing t = {.step = image->width + 2,
                 .height = image->height,
                 .width = image->width,
                 .simple = method == APPROX_SIMPLE,
                 .x_offset = x_offset,
                 .y_offset = y_offset};
    t.labels = we_memory_new((size_t)((t.height + 2) * t.step) * sizeof(int32_t));
    for (int64_t y = 0; t.labels && y < t.height; y++) {
        const uint8_t *x = (const uint8_t *)we_image_row(image, y);
        for (int64_t i = 0; i < t.width; i++)
            t.labels[(y + 1) * t.step + i + 1] = x[i] != 0;
    }
    int32_t top = -1;
    bool enough = t.labels && scan(&t, mode, &top) && list(&t, top, out);
    we_memory_free(t.labels);
    we_memory_free(t.all);
    we_memory_free(t.points);
    if (enough)
        return WE_OK;
    we_contours_free(out);
    return we_error_no_memory(err);
}

void we_contours_free(we_contours *contours) {
    we_memory_free(contours->starts);
    we_memory_free(contours->points);
    we_memory_free(contours->hierarchy);
    *contours = (we_contours){0};
}

/* ---- Polygons ---- */

/* Points as an image of two numbers each, in any arrangement; x and y of point i. */
static double coordinate(const we_image *points, int64_t i, int axis) {
    int64_t at = 2 * i + axis;
    return points->dtype == WE_I32 ? (double)((const int32_t *)points->data)[at]
                                   : (double)((const float *)points->data)[at];
}

static we_status expect_points(const we_image *points, int64_t *count, we_error *err) {
    int64_t all = points->height * points->width * points->channels;
    bool packed = points->height <= 1 ||
                  points->row == points->width * points->channels * (int64_t)we_image_size(points);
    if ((points->dtype != WE_I32 && points->dtype != WE_F32) || all % 2 || !packed)
        return we_error_set(err, WE_INVALID_ARGUMENT, "points are pairs of int32 or float32");
    *count = all / 2;
    return WE_OK;
}

/* Input: points. Numbers: whether the last is joined to the first. Result: signed area, length, least x and
 * y, largest. */
we_status we_imaging_polygon(const we_imaging_call *c, we_error *err) {
    int64_t n = 0;
    WE_TRY(expect_points(c->in, &n, err));
    if (c->out->dtype != WE_F64 || c->out->height * c->out->width * c->out->channels != 6)
        return we_error_set(err, WE_INVALID_ARGUMENT, "the result is six numbers");
    double *out = c->out->data;
    memset(out, 0, 6 * sizeof(double));
    for (int64_t i = 0; i < n; i++) {
        double x = coordinate(c->in, i, 0), y = coordinate(c->in, i, 1);
        int64_t before = i ? i - 1 : n - 1;
        double px = coordinate(c->in, before, 0), py = coordinate(c->in, before, 1);
        out[0] += px * y - py * x;
        if (i || c->p[0] != 0) {
            float dx = (float)x - (float)px, dy = (float)y - (float)py;
            out[1] += (double)sqrtf(dx * dx + dy * dy);
        }
        out[2] = i == 0 || x < out[2] ? x : out[2];
        out[3] = i == 0 || y < out[3] ? y : out[3];
        out[4] = i == 0 || x > out[4] ? x : out[4];
        out[5] = i == 0 || y > out[5] ? y : out[5];
    }
    out[0] *= 0.5;
    return WE_OK;
}

typedef struct span {
    int64_t start, end;
} span;

typedef struct simplifying {
    const we_image *points;
    int64_t n;
    double tolerance; /* squared */
    bool closed;
    span *stack;
    int32_t *kept; /* numbers of points */
    int64_t count;
} simplifying;

static double x_of(const simplifying *s, int64_t i) {
    return coordinate(s->points, i, 0);
}

static double y_of(const simplifying *s, int64_t i) {
    return coordinate(s->points, i, 1);
}

/* Two points far from each other, found by going to the farthest a few times, split a closed polygon; false
 * where all are as one. */
static bool split_closed(simplifying *s, int rounds, int64_t *top) {
    int64_t at = 0, step = 0;
    double farthest = 0;
    for (int i = 0; i < rounds; i++) {
        at = (at + step) % s->n;
        farthest = 0;
        for (int64_t j = 1; j < s->n; j++) {
            int64_t other = (at + j) % s->n;
            double dx = x_of(s, other) - x_of(s, at), dy = y_of(s, other) - y_of(s, at);
            if (dx * dx + dy * dy > farthest) {
                farthest = dx * dx + dy * dy;
                step = j;
            }
        }
    }
    if (farthest <= s->tolerance) {
        s->kept[s->count++] = (int32_t)at;
        return false;
    }
    int64_t other = (at + step) % s->n;
    s->stack[(*top)++] = (span){other, at};
    s->stack[(*top)++] = (span){at, other};
    return true;
}

/* Distance of point i from the stretch between two others. */
static double distance_from(const simplifying *s, int64_t i, span between) {
    double dx = x_of(s, between.end) - x_of(s, between.start),
           dy = y_of(s, between.end) - y_of(s, between.start);
    double px = x_of(s, i) - x_of(s, between.start), py = y_of(s, i) - y_of(s, between.start);
    double length = dx * dx + dy * dy, along = length > 0 ? (px * dx + py * dy) / length : 0;
    if (along < 0 || length == 0)
        return sqrt(px * px + py * py);
    if (along > 1)
        return sqrt((px - dx) * (px - dx) + (py - dy) * (py - dy));
    return fabs(py * dx - px * dy) / sqrt(length);
}

/* Source: Douglas and Peucker, "Algorithms for the reduction of the number of points required to represent a
 * digitized line" (1973). */
static void divide(simplifying *s, int64_t top) {
    while (top > 0) {
        span now = s->stack[--top];
        int64_t farthest_at = now.start;
        double farthest = 0;
        for (int64_t at = (now.start + 1) % s->n; at != now.end; at = (at + 1) % s->n) {
            double distance = distance_from(s, at, now);
            if (distance > farthest) {
                farthest = distance;
                farthest_at = at;
            }
        }
        if (farthest * farthest <= s->tolerance || farthest_at == now.start) {
            s->kept[s->count++] = (int32_t)now.start;
        } else {
            s->stack[top++] = (span){farthest_at, now.end};
            s->stack[top++] = (span){now.start, farthest_at};
        }
    }
}

/* Drop points that lie, nearly, between their neighbours. */
static void straighten(simplifying *s) {
    int64_t n = s->count, left = n, at = s->closed ? n - 1 : 0;
    int32_t *k = s->kept;
#define NEXT(p) ((p) + 1 >= n ? 0 : (p) + 1)
    int32_t start = k[at];
    at = NEXT(at);
    int64_t to = at;
    int32_t point = k[at];
    at = NEXT(at);
    for (int64_t i = !s->closed; i < n - !s->closed && left > 2; i++) {
        int32_t end = k[at];
        at = NEXT(at);
        double dx = x_of(s, end) - x_of(s, start), dy = y_of(s, end) - y_of(s, start);
        double px = x_of(s, point) - x_of(s, start), py = y_of(s, point) - y_of(s, start);
        double distance = fabs(px * dy - py * dx);
        double onwards = px * (x_of(s, end) - x_of(s, point)) + py * (y_of(s, end) - y_of(s, point));
        if (distance * distance <= 0.5 * s->tolerance * (dx * dx + dy * dy) && dx != 0 && dy != 0 &&
            onwards >= 0) {
            left--;
            k[to] = start = end;
            to = NEXT(to);
            point = k[at];
            at = NEXT(at);
            i++;
            continue;
        }
        k[to] = start = point;
        to = NEXT(to);
        point = end;
    }
#undef NEXT
    if (!s->closed)
        k[to] = point;
    s->count = left;
}

/* Input: points. Numbers: tolerance, whether closed. Result: I32, how many points stay, then their numbers.
 */
we_status we_imaging_simplify(const we_imaging_call *c, we_error *err) {
    simplifying s = {.points = c->in, .closed = c->p[1] != 0, .tolerance = c->p[0] * c->p[0]};
    WE_TRY(expect_points(c->in, &s.n, err));
    if (c->out->dtype != WE_I32 || c->out->height * c->out->width * c->out->channels != s.n + 1 ||
        !(c->p[0] >= 0 && c->p[0] < 1e30) || s.n > INT32_MAX - 2)
        return we_error_set(err, WE_INVALID_ARGUMENT, "approxPolyDP takes a tolerance from 0 on");
    for (int64_t i = 0; i < 2 * s.n; i++) {
        if (!isfinite(coordinate(c->in, i / 2, i % 2)))
            return we_error_set(err, WE_INVALID_ARGUMENT, "approxPolyDP takes finite points");
    }
    int32_t *out = c->out->data;
    s.kept = out + 1;
    s.stack = we_memory_new_dirty((size_t)(s.n + 2) * sizeof(span));
    if (!s.stack)
        return we_error_no_memory(err);
    int64_t top = 0, last = s.n - 1;
    if (s.n > 0) {
        bool ring = s.closed || (x_of(&s, 0) == x_of(&s, last) && y_of(&s, 0) == y_of(&s, last));
        if (ring)
            split_closed(&s, s.closed ? 3 : 1, &top);
        else
            s.stack[top++] = (span){0, last};
        divide(&s, top);
        if (!ring)
            s.kept[s.count++] = (int32_t)last;
        straighten(&s);
    }
    out[0] = (int32_t)s.count;
    we_memory_free(s.stack);
    return WE_OK;
}
