/* Lines and filled shapes drawn into an image, pixel for pixel as OpenCV draws them. Positions inside are in
 * 16 bits behind the point. */
#include <stdlib.h>

#include "imaging/imaging.h"

enum { SHIFT = 16 };
#define ONE ((int64_t)1 << SHIFT)

typedef struct canvas {
    const we_image *image;
    char pixel[32 * sizeof(double)];
    size_t size; /* of a pixel */
} canvas;

typedef struct point {
    int64_t x, y;
} point;

static void put(const canvas *v, int64_t x, int64_t y) {
    if ((uint64_t)x < (uint64_t)v->image->width && (uint64_t)y < (uint64_t)v->image->height)
        memcpy(we_image_row(v->image, y) + (size_t)x * v->size, v->pixel, v->size);
}

static void put_span(const canvas *v, int64_t y, int64_t first, int64_t last) {
    if ((uint64_t)y >= (uint64_t)v->image->height)
        return;
    first = first < 0 ? 0 : first;
    last = last >= v->image->width ? v->image->width - 1 : last;
    char *row = we_image_row(v->image, y);
    for (int64_t x = first; x <= last; x++)
        memcpy(row + (size_t)x * v->size, v->pixel, v->size);
}

/* Cut the line to [0, right] x [0, bottom]; false where nothing is left. Source: Cohen and Sutherland's
 * outcodes. */
static bool clip(int64_t right, int64_t bottom, point *a, point *b) {
#define SIDES(p) (((p)->x < 0) + ((p)->x > right) * 2)
#define CODE(p) (SIDES(p) + ((p)->y < 0) * 4 + ((p)->y > bottom) * 8)
    if (right < 0 || bottom < 0)
        return false;
    int ca = CODE(a), cb = CODE(b);
    if ((ca & cb) == 0 && (ca | cb) != 0) {
        point *ends[2] = {a, b};
        int *codes[2] = {&ca, &cb};
        for (int i = 0; i < 2; i++) {
            if (*codes[i] & 12) {
                int64_t edge = *codes[i] < 8 ? 0 : bottom;
                ends[i]->x +=
                    (int64_t)((double)(edge - ends[i]->y) * (double)(b->x - a->x) / (double)(b->y - a->y));
                ends[i]->y = edge;
                *codes[i] = SIDES(ends[i]);
            }
        }
        if ((ca & cb) == 0 && (ca | cb) != 0) {
            for (int i = 0; i < 2; i++) {
                if (*codes[i]) {
                    int64_t edge = *codes[i] == 1 ? 0 : right;
                    ends[i]->y += (int64_t)((double)(edge - ends[i]->x) * (double)(b->y - a->y) /
                                            (double)(b->x - a->x));
                    ends[i]->x = edge;
                    *codes[i] = 0;
                }
            }
        }
    }
    return (ca | cb) == 0;
#undef SIDES
#undef CODE
}

/* Source: Bresenham, "Algorithm for computer control of a digital plotter" (1965). Whole positions. */
static void thin_line(const canvas *v, point a, point b, bool four) {
    if (!clip(v->image->width - 1, v->image->height - 1, &a, &b))
        return;
    if (b.x < a.x) {
        point swap = a;
        a = b;
        b = swap;
    }
    int64_t dx = b.x - a.x, dy = b.y - a.y, down = dy < 0 ? -1 : 1;
    dy = dy < 0 ? -dy : dy;
    bool steep = dy > dx;
    int64_t along = steep ? dy : dx, aside = steep ? dx : dy;
    int64_t error = four ? 0 : along - 2 * aside, plus = four ? 2 * along + 2 * aside : 2 * along,
            minus = -2 * aside;
    int64_t count = four ? along + aside + 1 : along + 1;
    point at = a;
    for (int64_t i = 0; i < count; i++) {
        put(v, at.x, at.y);
        bool turn = error < 0;
        error += minus + (turn ? plus : 0);
        bool forward = !four || !turn;
        if (forward && steep)
            at.y += down;
        else if (forward)
            at.x++;
        if (turn && steep)
            at.x++;
        else if (turn)
            at.y += down;
    }
}

/* A line between fixed-point positions. */
static void fine_line(const canvas *v, point a, point b) {
    if (!clip((v->image->width << SHIFT) - 1, (v->image->height << SHIFT) - 1, &a, &b))
        return;
    int64_t dx = b.x - a.x, dy = b.y - a.y, ax = dx < 0 ? -dx : dx, ay = dy < 0 ? -dy : dy;
    bool flat = ax > ay;
    if (flat ? dx < 0 : dy < 0) {
        point swap = a;
        a = b;
        b = swap;
        dx = -dx;
        dy = -dy;
    }
    put(v, (b.x + (ONE >> 1)) >> SHIFT, (b.y + (ONE >> 1)) >> SHIFT);
    int64_t step = flat ? dy * ONE / (ax | 1) : dx * ONE / (ay | 1);
    int64_t count = (flat ? b.x - a.x : b.y - a.y) >> SHIFT;
    a.x += ONE >> 1;
    a.y += ONE >> 1;
    for (int64_t i = 0; i <= count; i++) {
        if (flat)
            put(v, (a.x >> SHIFT) + i, (a.y + i * step) >> SHIFT);
        else
            put(v, (a.x + i * step) >> SHIFT, (a.y >> SHIFT) + i);
    }
}

/* ---- Filled shapes ---- */

typedef struct edge {
    int64_t next, direction, x, dx, until;
} edge;

/* A convex polygon of fixed-point positions: two edges go down from its highest point. */
static void fill_convex(const canvas *v, const point *p, int64_t n, bool whole, bool four) {
    int64_t highest = 0, least = p[0].y, most = p[0].y;
    point before = p[n - 1];
    for (int64_t i = 0; i < n; i++) {
        if (p[i].y < least) {
            least = p[i].y;
            highest = i;
        }
        most = p[i].y > most ? p[i].y : most;
        if (whole)
            thin_line(v, (point){before.x >> SHIFT, before.y >> SHIFT},
                      (point){p[i].x >> SHIFT, p[i].y >> SHIFT}, four);
        else
            fine_line(v, before, p[i]);
        before = p[i];
    }
    int64_t half = ONE >> 1, y = (least + half) >> SHIFT, bottom = (most + half) >> SHIFT;
    bottom = bottom >= v->image->height ? v->image->height - 1 : bottom;
    if (n < 3)
        return;
    edge edges[2] = {{highest, 1, -ONE, 0, y}, {highest, n - 1, -ONE, 0, y}};
    for (int64_t left = n; y <= bottom; y++) {
        for (int i = 0; i < 2; i++) {
            edge *e = &edges[i];
            if (y < e->until)
                continue;
            int64_t from = e->next, to = (from + e->direction) % n;
            for (; left-- > 0; from = to, to = (to + e->direction) % n) {
                int64_t end = (p[to].y + half) >> SHIFT;
                if (end > y) {
                    e->dx = ((p[to].x - p[from].x) * 2 + (end - y)) / (2 * (end - y));
                    e->until = end;
                    e->x = p[from].x;
                    e->next = to;
                    break;
                }
            }
        }
        if (left < 0) /* no corner is left: what remains is the outline */
            break;
        int64_t a = edges[0].x < edges[1].x ? edges[0].x : edges[1].x;
        int64_t b = edges[0].x < edges[1].x ? edges[1].x : edges[0].x;
        put_span(v, y, (a + half) >> SHIFT, (b + half) >> SHIFT);
        edges[0].x += edges[0].dx;
        edges[1].x += edges[1].dx;
    }
}

/* Source: Bresenham, "A linear algorithm for incremental digital display of circular arcs" (1977). */
static void circle(const canvas *v, point center, int64_t radius, bool filled) {
    int64_t error = 0, dx = radius, dy = 0, plus = 1, minus = 2 * radius - 1;
    while (dx >= dy) {
        const int64_t reach[2] = {dx, dy}, off[2] = {dy, dx};
        for (int i = 0; i < 2; i++) {
            for (int side = -1; side <= 1; side += 2) {
                int64_t y = center.y + side * off[i];
                if (filled) {
                    put_span(v, y, center.x - reach[i], center.x + reach[i]);
                } else {
                    put(v, center.x - reach[i], y);
                    put(v, center.x + reach[i], y);
                }
            }
        }
        dy++;
        error += plus;
        plus += 2;
        if (error > 0) {
            error -= minus;
            dx--;
            minus -= 2;
        }
    }
}

static point rounded(point p) {
    return (point){(p.x + (ONE >> 1)) >> SHIFT, (p.y + (ONE >> 1)) >> SHIFT};
}

/* A line between fixed-point positions, with round ends. */
static void line(const canvas *v, point a, point b, int64_t thickness, bool four, bool ends_a) {
    if (thickness <= 1) {
        thin_line(v, rounded(a), rounded(b), four);
        return;
    }
    double dx = (double)(a.x - b.x) / (double)ONE, dy = (double)(b.y - a.y) / (double)ONE;
    double length = dx * dx + dy * dy;
    int64_t odd = thickness & 1, half = thickness << (SHIFT - 1);
    if (length > 2.2e-16) {
        double r = ((double)half + (double)odd * (double)ONE * 0.5) / sqrt(length);
        point off = {(int64_t)rint(dy * r), (int64_t)rint(dx * r)};
        const point corners[4] = {{a.x + off.x, a.y + off.y},
                                  {a.x - off.x, a.y - off.y},
                                  {b.x - off.x, b.y - off.y},
                                  {b.x + off.x, b.y + off.y}};
        fill_convex(v, corners, 4, false, four);
    }
    if (ends_a)
        circle(v, rounded(a), (half + (ONE >> 1)) >> SHIFT, true);
    circle(v, rounded(b), (half + (ONE >> 1)) >> SHIFT, true);
}

static point fixed(point p) {
    return (point){p.x << SHIFT, p.y << SHIFT};
}

/* The same between whole positions: cut, to whole ones, where its middle is farther outside than it is thick.
 */
static void whole_line(const canvas *v, point a, point b, int64_t thickness, bool four, bool ends_a) {
    if (thickness > 1) {
        a = (point){a.x + thickness, a.y + thickness};
        b = (point){b.x + thickness, b.y + thickness};
        if (!clip(v->image->width + 2 * thickness - 1, v->image->height + 2 * thickness - 1, &a, &b))
            return;
        a = (point){a.x - thickness, a.y - thickness};
        b = (point){b.x - thickness, b.y - thickness};
    }
    line(v, fixed(a), fixed(b), thickness, four, ends_a);
}

/* ---- Operations ---- */

enum { FARTHEST = 1 << 24, THICKEST = 32767 };

static we_status open_canvas(const we_image *image, const double *color, canvas *v, we_error *err) {
    WE_TRY(we_image_expect(image, WE_ANY_PIXELS, "drawing", err));
    if (image->channels > 4)
        return we_error_set(err, WE_INVALID_ARGUMENT, "drawing takes an image of 1 to 4 channels");
    v->image = image;
    v->size = (size_t)image->channels * we_image_size(image);
    we_pixels_from_f64(image->dtype, image->channels, color, v->pixel);
    return WE_OK;
}

static we_status expect_points(const we_image *points, int64_t *n, const int32_t **out, we_error *err) {
    int64_t all = points->height * points->width * points->channels;
    bool fits = points->dtype == WE_I32 && all % 2 == 0 &&
                (points->height <= 1 || points->row == points->width * points->channels * 4);
    const int32_t *p = points->data;
    for (int64_t i = 0; fits && i < all; i++)
        fits = p[i] > -FARTHEST && p[i] < FARTHEST;
    *n = all / 2;
    *out = p;
    return fits ? WE_OK
                : we_error_set(err, WE_INVALID_ARGUMENT,
                               "points to draw are pairs of int32 below 2^24 in size");
}

/* Input: points. Numbers: colour in four channels, thickness, 4 or 8 neighbours, whether closed. */
we_status we_imaging_draw_lines(const we_imaging_call *c, we_error *err) {
    canvas v;
    int64_t n, thickness = 0;
    const int32_t *p;
    WE_TRY(open_canvas(c->out, c->p, &v, err));
    WE_TRY(expect_points(c->in, &n, &p, err));
    WE_TRY(we_number_within(c->p[4], 1, THICKEST, "the thickness", &thickness, err));
    bool closed = c->p[6] != 0, first = !closed;
    for (int64_t i = closed ? 0 : 1; i < n; i++) {
        int64_t before = i ? i - 1 : n - 1;
        whole_line(&v, (point){p[2 * before], p[2 * before + 1]}, (point){p[2 * i], p[2 * i + 1]}, thickness,
                   c->p[5] == 4, first);
        first = false;
    }
    return WE_OK;
}

/* A ring as OpenCV draws it: a polygon of many sides, in lines that are thick. */
static void thick_circle(const canvas *v, point center, int64_t radius, int64_t thickness) {
    int64_t delta = radius < 3 ? 90 : radius < 10 ? 30 : radius < 15 ? 18 : 5;
    point before = {0, 0};
    for (int64_t angle = 0; angle <= 360; angle += delta) {
        double radians = (double)angle * 0.017453292519943295, reach = (double)(radius << SHIFT);
        point at = {(center.x << SHIFT) + (int64_t)rint(reach * (double)(float)cos(radians)),
                    (center.y << SHIFT) + (int64_t)rint(reach * (double)(float)sin(radians))};
        if (angle > 0)
            line(v, before, at, thickness, false, angle == delta);
        before = at;
    }
}

/* Numbers: colour in four channels, centre x, y, radius, thickness (below 0: filled). */
we_status we_imaging_draw_circle(const we_imaging_call *c, we_error *err) {
    canvas v;
    int64_t x = 0, y = 0, radius = 0, thickness = 0;
    WE_TRY(open_canvas(c->out, c->p, &v, err));
    WE_TRY(we_number_within(c->p[4], -FARTHEST, FARTHEST, "the centre", &x, err));
    WE_TRY(we_number_within(c->p[5], -FARTHEST, FARTHEST, "the centre", &y, err));
    WE_TRY(we_number_within(c->p[6], 0, FARTHEST, "the radius", &radius, err));
    WE_TRY(we_number_within(c->p[7], -1, THICKEST, "the thickness", &thickness, err));
    if (thickness > 1)
        thick_circle(&v, (point){x, y}, radius, thickness);
    else
        circle(&v, (point){x, y}, radius, thickness < 0);
    return WE_OK;
}

/* Input: points. Numbers: colour in four channels. */
we_status we_imaging_draw_convex(const we_imaging_call *c, we_error *err) {
    canvas v;
    int64_t n;
    const int32_t *p;
    WE_TRY(open_canvas(c->out, c->p, &v, err));
    WE_TRY(expect_points(c->in, &n, &p, err));
    if (n == 0)
        return WE_OK;
    point *corners = we_memory_new((size_t)n * sizeof(point));
    if (!corners)
        return we_error_no_memory(err);
    for (int64_t i = 0; i < n; i++)
        corners[i] = (point){(int64_t)p[2 * i] << SHIFT, (int64_t)p[2 * i + 1] << SHIFT};
    fill_convex(&v, corners, n, true, false);
    we_memory_free(corners);
    return WE_OK;
}

typedef struct side {
    int64_t top, bottom, x, dx; /* rows [top, bottom), and the crossing in the first */
} side;

/* What leaves the image goes on as what of it is inside goes, which is cut to whole positions. */
static side side_of(const canvas *v, point from, point to) {
    point a = from, b = to;
    (void)clip(v->image->width - 1, v->image->height - 1, &a, &b);
    if (a.y == b.y) {
        a.y = from.y;
        b.y = to.y;
    }
    int64_t dx = (b.x - a.x) * ONE / (b.y - a.y);
    if (from.y < to.y)
        return (side){from.y, to.y, a.x * ONE + (from.y - a.y) * dx, dx};
    return (side){to.y, from.y, b.x * ONE + (to.y - b.y) * dx, dx};
}

static int by_top(const void *a, const void *b) {
    const side *s = a, *t = b;
    return s->top < t->top ? -1 : s->top > t->top ? 1 : 0;
}

static int by_value(const void *a, const void *b) {
    int64_t s = *(const int64_t *)a, t = *(const int64_t *)b;
    return s < t ? -1 : s > t ? 1 : 0;
}

/* Rows between the sides, every second stretch of them. */
static void fill_sides(const canvas *v, side *sides, int64_t n, int64_t *crossings) {
    qsort(sides, (size_t)n, sizeof *sides, by_top);
    int64_t live = 0, next = 0;
    for (int64_t y = 0; y < v->image->height; y++) {
        for (; next < n && sides[next].top <= y; next++)
            sides[live++] = sides[next];
        int64_t count = 0, kept = 0;
        for (int64_t i = 0; i < live; i++) {
            if (sides[i].bottom <= y)
                continue;
            crossings[count++] = sides[i].x + (y - sides[i].top) * sides[i].dx;
            sides[kept++] = sides[i];
        }
        live = kept;
        qsort(crossings, (size_t)count, sizeof *crossings, by_value);
        for (int64_t i = 0; i + 1 < count; i += 2)
            put_span(v, y, (crossings[i] + ONE - 1) >> SHIFT, crossings[i + 1] >> SHIFT);
    }
}

/* Inputs: points of all polygons, number of points of each (I32). Numbers: colour in four channels, 4 or 8
 * neighbours. */
we_status we_imaging_draw_polygons(const we_imaging_call *c, we_error *err) {
    canvas v;
    int64_t n, counts_n = c->in[1].width * c->in[1].height, count = 0, at = 0;
    const int32_t *p, *lengths = c->in[1].data;
    WE_TRY(open_canvas(c->out, c->p, &v, err));
    WE_TRY(expect_points(c->in, &n, &p, err));
    int64_t total = 0;
    bool fits = c->in[1].dtype == WE_I32 && c->in[1].channels == 1 && c->in[1].height <= 1;
    for (int64_t i = 0; fits && i < counts_n; i++) {
        fits = lengths[i] >= 0;
        total += lengths[i];
    }
    if (!fits || total != n)
        return we_error_set(err, WE_INVALID_ARGUMENT, "the lengths of the polygons do not add up");
    side *sides = we_memory_new((size_t)(n + 1) * sizeof(side));
    int64_t *crossings = we_memory_new((size_t)(n + 1) * sizeof(int64_t));
    if (sides && crossings) {
        for (int64_t k = 0; k < counts_n; at += lengths[k++]) {
            for (int64_t i = 0; i < lengths[k]; i++) {
                int64_t before = at + (i ? i - 1 : lengths[k] - 1);
                point a = {p[2 * before], p[2 * before + 1]}, b = {p[2 * (at + i)], p[2 * (at + i) + 1]};
                thin_line(&v, a, b, c->p[4] == 4);
                if (a.y == b.y)
                    continue;
                sides[count++] = side_of(&v, a, b);
            }
        }
        fill_sides(&v, sides, count, crossings);
    }
    bool enough = sides && crossings;
    we_memory_free(sides);
    we_memory_free(crossings);
    return enough ? WE_OK : we_error_no_memory(err);
}
