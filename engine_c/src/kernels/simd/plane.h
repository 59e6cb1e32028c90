/* The kernels that slide windows over a plane, of one instruction set, from its wrappers; NAME(name) is a
 * kernel's name.
 *
 * Rows are first put beside each other in the scratch: with what lies outside the plane to their left and
 * right spelled out, and where windows step over columns, apart by the remainder of the column. Then what a
 * tap sees of a row of outputs is one stretch, and every output is made alike. All rows of a call are put
 * there before the first is read at other places: what was just stored can be loaded as it was stored alone.
 */
#include <math.h>

#include "kernels/kernels.h"

#define UNROLL _Pragma("GCC unroll 8")
#define INLINE static inline __attribute__((always_inline))

enum {
    BLOCK = 4, /* vectors of outputs at once: their sums hide each other's latency */
};

/* How elements are brought together: their sum, or the largest, NaN where any is; CLEAN: none is. */
typedef enum mode { SUM, LARGEST, CLEAN } mode;

INLINE VEC joined(VEC a, VEC b, const mode m) {
    return m == SUM ? V_ADD(a, b) : m == LARGEST ? V_LARGER(a, b) : V_MAX(a, b);
}

INLINE VEC nothing(const mode m) {
    return m == SUM ? V_ZERO() : V_SPLAT(-INFINITY);
}

/* ---- Rows into the scratch ---- */

/* Where column `column` of the plane lies in a row of the scratch; step: of the columns. */
INLINE int64_t spot(const we_plane *p, int64_t column, const int64_t step) {
    int64_t padded = column + p->pad[1];
    return padded % step * p->width + padded / step;
}

/* The first `near` and the next `far` <= LANES elements of `rows` rows from x on, brought together. */
INLINE void down(const we_plane *p, const float *x, int64_t rows, const int32_t near, const int32_t far,
                 const mode m, VEC *a, VEC *b) {
    int64_t pitch = p->dilation[0] * p->in[1];
    *a = *b = nothing(m);
    if (rows > 0) {
        *a = V_LOAD_UP_TO(x, near);
        *b = far ? V_LOAD_UP_TO(x + LANES, far) : *b;
    }
    for (int64_t r = 1; r < rows; r++) {
        x += pitch;
        *a = joined(*a, V_LOAD_UP_TO(x, near), m);
        *b = far ? joined(*b, V_LOAD_UP_TO(x + LANES, far), m) : *b;
    }
}

/* Elements apart by the remainder of their column, one by one. */
static void scatter(const we_plane *p, const float *from, int64_t column, int32_t count, float *to) {
    for (int32_t i = 0; i < count; i++)
        to[spot(p, column + i, p->step[1])] = from[i];
}

/* `count` <= 2 * LANES elements from `column` on; step: of the columns, 0 for any. */
INLINE void put(const we_plane *p, VEC a, VEC b, int64_t column, const int32_t count, const int32_t step,
                float *to) {
    if (step == 2) {
        V_STORE_UP_TO(to + spot(p, column, 2), (count + 1) / 2, V_EVEN(a, b));
        if (count > 1)
            V_STORE_UP_TO(to + spot(p, column + 1, 2), count / 2, V_ODD(a, b));
        return;
    }
    float both[2 * LANES], *at = step == 1 ? to + column + p->pad[1] : both;
    V_STORE_UP_TO(at, count < LANES ? count : LANES, a);
    if (count > LANES)
        V_STORE_UP_TO(at + LANES, count - LANES, b);
    if (step != 1)
        scatter(p, both, column, count, to);
}

/* What lies to the left and right of the plane, as far as a window sees it; and somewhat more, which the row
 * then overwrites. */
INLINE void surround(const we_plane *p, const mode m, const int64_t step, float *to) {
    int64_t left = (p->pad[1] + step - 1) / step, right = (p->pad[1] + p->in[1]) / step;
    int64_t end = p->out[1] + (p->taps[1] - 1) * p->dilation[1] / step;
    for (int64_t remainder = 0; remainder < step; remainder++, to += p->width) {
        V_STORE(to, nothing(m));
        for (int64_t i = LANES; i < left; i += LANES)
            V_STORE(to + i, nothing(m));
        V_STORE(to + right, nothing(m));
        for (int64_t i = right + LANES; i < end; i += LANES)
            V_STORE(to + i, nothing(m));
    }
}

/* Some rows of the plane, brought together, as one row of the scratch. */
INLINE void gather_row(const we_plane *p, const float *x, int64_t rows, const mode m, const int32_t step,
                       float *to) {
    int64_t column = 0, columns = p->in[1];
    surround(p, m, step ? step : p->step[1], to);
    VEC a, b;
    for (; column + 2 * LANES <= columns; column += 2 * LANES) {
        down(p, x + column, rows, LANES, LANES, m, &a, &b);
        put(p, a, b, column, 2 * LANES, step, to);
    }
    int32_t count = (int32_t)(columns - column);
    if (count > LANES) {
        down(p, x + column, rows, LANES, count - LANES, m, &a, &b);
        put(p, a, b, column, count, step, to);
    } else if (count > 0) {
        down(p, x + column, rows, count, 0, m, &a, &b);
        put(p, a, b, column, count, step, to);
    }
}

INLINE void gather_any(const we_plane *p, const float *x, int64_t rows, const mode m, float *to) {
    if (p->step[1] == 1)
        gather_row(p, x, rows, m, 1, to);
    else if (p->step[1] == 2)
        gather_row(p, x, rows, m, 2, to);
    else
        gather_row(p, x, rows, m, 0, to);
}

/* Of output row `row`: the first row of the plane it sees, and how many; *tap is the first of its taps there.
 */
INLINE int64_t rows_seen(const we_plane *p, int64_t row, int64_t *tap, int64_t *rows) {
    int64_t first = we_plane_seen(p, 0, row, 0), by = p->dilation[0];
    int64_t begin = 0, end = p->taps[0];
    if (first < 0) /* divisions are for the edges */
        begin = (-first + by - 1) / by;
    if (first + (end - 1) * by >= p->in[0])
        end = (p->in[0] - first + by - 1) / by;
    *tap = begin;
    *rows = end > begin ? end - begin : 0;
    return first + begin * by;
}

/* How windows step over columns: by one or two over taps that are neighbours, or in any way. */
typedef enum pace { ONE, TWO, ANY } pace;

INLINE pace pace_of(const we_plane *p) {
    return p->dilation[1] != 1 || p->step[1] > 2 ? ANY : p->step[1] == 1 ? ONE : TWO;
}

/* Where in a row of the scratch the first output's tap looks. */
INLINE int64_t place_of(const we_plane *p, int64_t tap, const pace how) {
    if (how == ONE)
        return tap;
    if (how == TWO)
        return tap % 2 * p->width + tap / 2;
    return tap * p->dilation[1] % p->step[1] * p->width + tap * p->dilation[1] / p->step[1];
}

/* ---- Pools ---- */

/* `vectors` of outputs from what lies at `from` on, the last of `count` lanes. */
INLINE void across(const we_plane *p, const float *from, const int64_t taps, const pace how,
                   const int32_t vectors, const int32_t count, const mode m, const float *shares, float share,
                   float *y) {
    VEC all[BLOCK];
    UNROLL for (int32_t v = 0; v < vectors; v++) all[v] = V_LOAD(from + v * LANES);
    UNROLL for (int64_t c = 1; c < taps; c++) {
        const float *seen = from + place_of(p, c, how);
        UNROLL for (int32_t v = 0; v < vectors; v++) all[v] = joined(all[v], V_LOAD(seen + v * LANES), m);
    }
    UNROLL for (int32_t v = 0; v < vectors; v++) {
        const int32_t lanes = v == vectors - 1 ? count : LANES;
        if (m == SUM)
            all[v] = V_MUL(V_MUL(all[v], V_SPLAT(share)), V_LOAD_UP_TO(shares + v * LANES, lanes));
        V_STORE_UP_TO(y + v * LANES, lanes, all[v]);
    }
}

INLINE void pool_row(const we_plane *p, const float *from, const int64_t taps, const pace how, const mode m,
                     float share, float *y) {
    const float *shares = p->column_shares;
    int64_t i = 0, n = p->out[1];
    for (; i + 2 * LANES <= n; i += 2 * LANES)
        across(p, from + i, taps, how, 2, LANES, m, shares + (m == SUM ? i : 0), share, y + i);
    if (i + LANES < n)
        across(p, from + i, taps, how, 2, (int32_t)(n - i - LANES), m, shares + (m == SUM ? i : 0), share,
               y + i);
    else if (i < n)
        across(p, from + i, taps, how, 1, (int32_t)(n - i), m, shares + (m == SUM ? i : 0), share, y + i);
}

INLINE void pool_rows(const we_plane *p, float *y, const int64_t taps, const pace how, const mode m) {
    const float *from = p->scratch;
    int64_t tap, rows;
    for (int64_t row = p->first; row < p->end; row++, from += p->step[1] * p->width) {
        float share = 0;
        if (m == SUM) {
            rows_seen(p, row, &tap, &rows);
            share = p->row_shares[rows];
        }
        pool_row(p, from, taps, how, m, share, y + row * p->out[1]);
    }
}

INLINE void pool(const we_plane *p, const float *x, float *y, const mode m) {
    int64_t tap, rows, taps = p->taps[1];
    float *to = p->scratch;
    for (int64_t row = p->first; row < p->end; row++, to += p->step[1] * p->width) {
        int64_t from = rows_seen(p, row, &tap, &rows);
        gather_any(p, x + (rows ? from * p->in[1] : 0), rows, m, to);
    }
    pace how = m == LARGEST ? ANY : pace_of(p);
    if (how == ONE && taps == 3)
        pool_rows(p, y, 3, ONE, m);
    else if (how == ONE && taps == 5)
        pool_rows(p, y, 5, ONE, m);
    else if (how == TWO && taps == 2)
        pool_rows(p, y, 2, TWO, m);
    else if (how == TWO && taps == 3)
        pool_rows(p, y, 3, TWO, m);
    else
        pool_rows(p, y, taps, ANY, m);
}

/* Is any element NaN that the rows of outputs see? */
static bool has_nan(const we_plane *p, const float *x) {
    int64_t begin = we_plane_seen(p, 0, p->first, 0),
            end = we_plane_seen(p, 0, p->end - 1, p->taps[0] - 1) + 1;
    begin = (begin < 0 ? 0 : begin) * p->in[1];
    end = (end > p->in[0] ? p->in[0] : end) * p->in[1];
    VEC odd = V_ZERO();
    V_MASK nan = V_IS_NAN(odd);
    for (; begin + 2 * LANES <= end; begin += 2 * LANES)
        nan = V_EITHER(nan, V_IS_UNORDERED(V_LOAD(x + begin), V_LOAD(x + begin + LANES)));
    for (; begin < end; begin += LANES)
        nan = V_EITHER(
            nan, V_IS_NAN(V_LOAD_PART(x + begin, end - begin < LANES ? (int32_t)(end - begin) : LANES)));
    return V_ANY(nan);
}

void NAME(plane_largest)(const we_plane *given, const float *x, float *y) {
    const we_plane p = *given; /* a copy that no store to y can change */
    if (p.first == p.end)
        return;
    if (has_nan(&p, x))
        pool(&p, x, y, LARGEST);
    else
        pool(&p, x, y, CLEAN);
}

void NAME(plane_mean)(const we_plane *given, const float *x, float *y) {
    const we_plane p = *given;
    pool(&p, x, y, SUM);
}

/* ---- Filters ---- */

/* `vectors` of outputs that see `rows` rows from `from` on, the last of `count` lanes. */
INLINE void filter(const we_plane *p, const float *from, const float *weights, int64_t rows,
                   const int64_t columns, const pace how, const int32_t vectors, const int32_t count,
                   const float *residual, float *y) {
    int64_t pitch = p->dilation[0] * p->step[1] * p->width;
    VEC sums[BLOCK];
    UNROLL for (int32_t v = 0; v < vectors; v++) sums[v] = V_SPLAT(p->bias);
    for (int64_t r = 0; r < rows; r++, from += pitch, weights += columns) {
        UNROLL for (int64_t c = 0; c < columns; c++) {
            VEC weight = V_SPLAT(weights[c]);
            const float *seen = from + place_of(p, c, how);
            UNROLL for (int32_t v = 0; v < vectors; v++) sums[v] =
                V_FMA(weight, V_LOAD(seen + v * LANES), sums[v]);
        }
    }
    UNROLL for (int32_t v = 0; v < vectors; v++) {
        const int32_t lanes = v == vectors - 1 ? count : LANES;
        if (residual)
            sums[v] = V_ADD(sums[v], V_LOAD_UP_TO(residual + v * LANES, lanes));
        V_STORE_UP_TO(y + v * LANES, lanes, V_CAP(V_RAISE(sums[v], p->low), p->high));
    }
}

INLINE void filter_row(const we_plane *p, const float *from, const float *weights, int64_t rows,
                       const int64_t columns, const pace how, const float *residual, float *y) {
    int64_t n = p->out[1];
    for (int64_t i = 0; i < n; i += BLOCK * LANES) {
        int64_t left = n - i, vectors = left < BLOCK * LANES ? (left + LANES - 1) / LANES : BLOCK;
        int32_t count = left < BLOCK * LANES ? (int32_t)(left - (vectors - 1) * LANES) : LANES;
        const float *added = residual ? residual + i : NULL;
        if (vectors == 4)
            filter(p, from + i, weights, rows, columns, how, 4, count, added, y + i);
        else if (vectors == 3)
            filter(p, from + i, weights, rows, columns, how, 3, count, added, y + i);
        else if (vectors == 2)
            filter(p, from + i, weights, rows, columns, how, 2, count, added, y + i);
        else
            filter(p, from + i, weights, rows, columns, how, 1, count, added, y + i);
    }
}

/* All rows of outputs, once what they see is in the scratch, from row `begin` of the plane on. */
INLINE void filter_rows(const we_plane *p, int64_t begin, const int64_t columns, const pace how, float *y) {
    for (int64_t row = p->first; row < p->end; row++) {
        int64_t tap, rows, seen = rows_seen(p, row, &tap, &rows);
        const float *from = p->scratch + (rows ? seen - begin : 0) * p->step[1] * p->width;
        filter_row(p, from, p->weights + tap * columns, rows, columns, how,
                   p->residual ? p->residual + row * p->out[1] : NULL, y + row * p->out[1]);
    }
}

void NAME(plane_filter)(const we_plane *given, const float *x, float *y) {
    const we_plane p = *given;
    if (p.first == p.end)
        return;
    int64_t begin = we_plane_seen(&p, 0, p.first, 0), columns = p.taps[1];
    int64_t end = we_plane_seen(&p, 0, p.end - 1, p.taps[0] - 1) + 1;
    begin = begin < 0 ? 0 : begin;
    end = end > p.in[0] ? p.in[0] : end;
    for (int64_t row = begin; row < end; row++)
        gather_any(&p, x + row * p.in[1], 1, SUM, p.scratch + (row - begin) * p.step[1] * p.width);
    pace how = pace_of(&p);
    if (how == ONE && columns == 3)
        filter_rows(&p, begin, 3, ONE, y);
    else if (how == ONE && columns == 5)
        filter_rows(&p, begin, 5, ONE, y);
    else if (how == ONE && columns == 7)
        filter_rows(&p, begin, 7, ONE, y);
    else if (how == TWO && columns == 3)
        filter_rows(&p, begin, 3, TWO, y);
    else if (how == TWO && columns == 5)
        filter_rows(&p, begin, 5, TWO, y);
    else
        filter_rows(&p, begin, columns, ANY, y);
}
