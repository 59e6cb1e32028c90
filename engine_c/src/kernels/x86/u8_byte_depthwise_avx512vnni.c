/* Windows of three rows: the bytes of a channel in the three rows at one column make a quad, which is made
 * once and serves every output that sees the column. Others by plain loops. */
#include "kernels/simd/quads_avx512vnni.h"

#include "kernels/simd/byte_depthwise.h"

#define UNROLL _Pragma("GCC unroll 8")
#define INLINE static inline __attribute__((always_inline))

enum { BLOCK = 64, QUARTERS = 4, TAPS = 3 };

/* Of 64 channels: quads of channels 0-3, 16-19, 32-35, 48-51, then of the next four of each, as unpacking
 * makes them and packing takes them. */
typedef struct quads {
    __m512i of[QUARTERS];
} quads;

INLINE quads interleave(__m512i a, __m512i b, __m512i c) {
    const __m512i none = _mm512_setzero_si512();
    const __m512i low = _mm512_unpacklo_epi8(a, b), high = _mm512_unpackhi_epi8(a, b);
    const __m512i low_c = _mm512_unpacklo_epi8(c, none), high_c = _mm512_unpackhi_epi8(c, none);
    return (quads){{_mm512_unpacklo_epi16(low, low_c), _mm512_unpackhi_epi16(low, low_c),
                    _mm512_unpacklo_epi16(high, high_c), _mm512_unpackhi_epi16(high, high_c)}};
}

/* 64 words of 32 bits, of which `mask` has those that are there, in the order of quads. */
INLINE void load_quarters(const void *from, __mmask64 mask, __m512i *to) {
    const int32_t *words = from;
    __m512i v[QUARTERS];
    UNROLL for (int i = 0; i < QUARTERS; i++) v[i] =
        _mm512_maskz_loadu_epi32((__mmask16)(mask >> (16 * i)), words + 16 * i);
    const __m512i a = _mm512_shuffle_i32x4(v[0], v[1], 0x44), b = _mm512_shuffle_i32x4(v[0], v[1], 0xee);
    const __m512i c = _mm512_shuffle_i32x4(v[2], v[3], 0x44), d = _mm512_shuffle_i32x4(v[2], v[3], 0xee);
    to[0] = _mm512_shuffle_i32x4(a, c, 0x88);
    to[1] = _mm512_shuffle_i32x4(a, c, 0xdd);
    to[2] = _mm512_shuffle_i32x4(b, d, 0x88);
    to[3] = _mm512_shuffle_i32x4(b, d, 0xdd);
}

typedef struct strip {
    __mmask64 mask;
    __m512i start[QUARTERS], factor[QUARTERS], shift[QUARTERS], flip;
    quads weights[TAPS];
    q_packed_range range;
    bool shifts;
} strip;

INLINE strip strip_at(const we_byte_depthwise *d, int64_t channel) {
    const int64_t left = d->channels - channel;
    strip s = {.mask = left >= BLOCK ? ~(__mmask64)0 : ((__mmask64)1 << left) - 1,
               .flip = _mm512_set1_epi8((char)d->flip),
               .range = q_packed_range_of(&d->how.range),
               .shifts = d->how.shift != NULL};
    load_quarters(d->start + channel, s.mask, s.start);
    load_quarters(d->how.factor + channel, s.mask, s.factor);
    if (s.shifts)
        load_quarters(d->how.shift + channel, s.mask, s.shift);
    UNROLL for (int column = 0; column < TAPS; column++) {
        const int8_t *w = d->weights + column * d->channels + channel;
        s.weights[column] = interleave(_mm512_maskz_loadu_epi8(s.mask, w),
                                       _mm512_maskz_loadu_epi8(s.mask, w + TAPS * d->channels),
                                       _mm512_maskz_loadu_epi8(s.mask, w + 2 * TAPS * d->channels));
    }
    return s;
}

INLINE quads column_at(const strip *s, const uint8_t *const *rows, int64_t at) {
    return interleave(_mm512_xor_si512(_mm512_maskz_loadu_epi8(s->mask, rows[0] + at), s->flip),
                      _mm512_xor_si512(_mm512_maskz_loadu_epi8(s->mask, rows[1] + at), s->flip),
                      _mm512_xor_si512(_mm512_maskz_loadu_epi8(s->mask, rows[2] + at), s->flip));
}

INLINE __m512i finished(const strip *s, int quarter, __m512i sum) {
    __m512 value = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), _mm512_castsi512_ps(s->factor[quarter]));
    if (s->shifts)
        value = _mm512_add_ps(value, _mm512_castsi512_ps(s->shift[quarter]));
    return Q_ROUND(_mm512_min_ps(value, s->range.high));
}

INLINE void put(const strip *s, const quads *a, const quads *b, const quads *c, uint8_t *y) {
    __m512i sums[QUARTERS];
    UNROLL for (int q = 0; q < QUARTERS; q++) {
        sums[q] = _mm512_dpbusd_epi32(s->start[q], a->of[q], s->weights[0].of[q]);
        sums[q] = _mm512_dpbusd_epi32(sums[q], b->of[q], s->weights[1].of[q]);
        sums[q] = finished(s, q, _mm512_dpbusd_epi32(sums[q], c->of[q], s->weights[2].of[q]));
    }
    _mm512_mask_storeu_epi8(y, s->mask, q_pack(sums[0], sums[1], sums[2], sums[3], &s->range));
}

/* shared: columns of one output that the next one sees too. */
INLINE void slide(const we_byte_depthwise *d, const uint8_t *const *rows, int64_t channel, const int shared,
                  uint8_t *y) {
    const strip s = strip_at(d, channel);
    const int64_t column = d->x_column;
    quads a = column_at(&s, rows, channel), b = column_at(&s, rows, channel + column);
    for (int64_t i = 0, at = channel; i < d->count; i++, at += d->x_step) {
        if (i && shared < 2)
            b = column_at(&s, rows, at + column);
        const quads c = column_at(&s, rows, at + 2 * column);
        put(&s, &a, &b, &c, y + i * d->y_step + channel);
        a = shared == 2 ? b : c;
        b = c;
    }
}

void we_u8_byte_depthwise__avx512vnni(const we_byte_depthwise *given, const uint8_t *const *rows,
                                      uint8_t *y) {
    const we_byte_depthwise own = *given, *d = &own; /* a copy that no store to y can change */
    bool shares = d->x_step == d->x_column || d->x_step == 2 * d->x_column;
    if (d->row_count != TAPS || d->columns != TAPS || !shares || d->count == 0) {
        filter_plainly(d, rows, 0, y);
        return;
    }
    for (int64_t channel = 0; channel < d->channels; channel += BLOCK) {
        if (d->x_step == d->x_column)
            slide(d, rows, channel, 2, y);
        else
            slide(d, rows, channel, 1, y);
    }
}
