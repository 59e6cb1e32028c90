/* The kernels of image_pixels_plain.h by integer vectors. Include simd/bytes_<isa>.h before and define
 * IMAGE(name). Where pixels lie apart, each gets a lane of 16 bytes: loaded by one instruction, its bytes
 * shuffled to pairs of words, which multiplying and adding words turns into sums. */
#include "kernels/simd/image_pixels_plain.h"

#define NONE -128 /* of a shuffle: a byte of zeros */

/* For i = 0, step, ... of n >= step results, and what is left over once more from n - step on. Two loops, as
 * choosing the next beginning in one takes longer than much of what is done here. */
#define EACH(i, n, step)                                                                                     \
    for (int rest_ = 0; rest_ < 2; rest_++)                                                                  \
        for (int64_t i = rest_ ? (n) - (step) : 0, end_ = !rest_         ? (n) - (n) % (step)                \
                                                          : (n) % (step) ? (n)                               \
                                                                         : 0;                                \
             i < end_; i += (step))

ALWAYS BYTES pairs_of(int32_t first, int32_t second) { /* two words in each dword */
    return I(set1_epi32)((int32_t)((uint32_t)second << 16 | (uint16_t)first));
}

/* ---- Colours ---- */

/* Sums of bytes, as words, times weights of more than 16 bits in two parts. */
ALWAYS void mix_steps(int64_t n, const uint8_t *a, const uint8_t *b, const uint8_t *c, const int32_t *k,
                      int32_t shift, bool wide, uint8_t *restrict y) {
    const BYTES low_ab = wide ? pairs_of(k[0] & 255, k[1] & 255) : pairs_of(k[0], k[1]),
                low_c = wide ? pairs_of(k[2] & 255, 0) : pairs_of(k[2], 0),
                high_ab = pairs_of(k[0] >> 8, k[1] >> 8), high_c = pairs_of(k[2] >> 8, 0),
                start = I(set1_epi32)(k[3]), zero = B_ZERO();
    const __m128i by = _mm_cvtsi32_si128(shift);
    EACH(i, n, B_COUNT) {
        BYTES va = B_LOAD(a + i), vb = B_LOAD(b + i), vc = B_LOAD(c + i), words[2];
        for (int half = 0; half < 2; half++) {
            BYTES ab = half ? I(unpackhi_epi8)(va, vb) : I(unpacklo_epi8)(va, vb);
            BYTES wc = half ? I(unpackhi_epi8)(vc, zero) : I(unpacklo_epi8)(vc, zero), sums[2];
            for (int q = 0; q < 2; q++) {
                BYTES pair = q ? I(unpackhi_epi8)(ab, zero) : I(unpacklo_epi8)(ab, zero);
                BYTES single = q ? I(unpackhi_epi16)(wc, zero) : I(unpacklo_epi16)(wc, zero);
                BYTES sum = I(add_epi32)(I(madd_epi16)(pair, low_ab), I(madd_epi16)(single, low_c));
                if (wide) {
                    BYTES high = I(add_epi32)(I(madd_epi16)(pair, high_ab), I(madd_epi16)(single, high_c));
                    sum = I(add_epi32)(sum, I(slli_epi32)(high, 8));
                }
                sums[q] = I(sra_epi32)(I(add_epi32)(sum, start), by);
            }
            words[half] = I(packs_epi32)(sums[0], sums[1]);
        }
        B_STORE(y + i, I(packus_epi16)(words[0], words[1]));
    }
}

void IMAGE(mix_u8)(int64_t n, const uint8_t *a, const uint8_t *b, const uint8_t *c, const int32_t *k,
                   int32_t shift, uint8_t *y) {
    bool narrow = true;
    for (int i = 0; i < 3; i++)
        narrow = narrow && k[i] >= INT16_MIN && k[i] <= INT16_MAX;
    if (n < B_COUNT)
        mix_plain(0, n, a, b, c, k, shift, y);
    else if (narrow)
        mix_steps(n, a, b, c, k, shift, false, y);
    else
        mix_steps(n, a, b, c, k, shift, true, y);
}

/* A word w and w * 2^7 side by side: with the two parts of a wide factor one instruction multiplies exactly.
 */
#define SEVENS(w, part) I(unpack##part##_epi16)(w, I(slli_epi16)(w, 7))
#define BY_SEVENS(factor) pairs_of((factor) & 127, (factor) >> 7)

/* Words of the even and of the odd elements, from dwords of their low and high halves: bytes in order. */
ALWAYS BYTES braided(const BYTES even[2], const BYTES odd[2]) {
    const BYTES order = B_EACH(_mm_setr_epi8(0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15));
    BYTES bytes = I(packus_epi16)(I(packs_epi32)(even[0], even[1]), I(packs_epi32)(odd[0], odd[1]));
    return I(shuffle_epi8)(bytes, order);
}

void IMAGE(video_u8)(int64_t n, const uint8_t *y, const uint8_t *u, const uint8_t *v,
                     uint8_t *const *planes) {
    if (n < B_COUNT) {
        video_plain(0, n, y, u, v, planes);
        return;
    }
    uint8_t *restrict b = planes[0], *restrict g = planes[1], *restrict r = planes[2];
    const BYTES middle = I(set1_epi16)(128), black = I(set1_epi8)(16), low = I(set1_epi16)(255),
                start = I(set1_epi32)(VIDEO_ROUND), by_y = BY_SEVENS(VIDEO_Y),
                by_bu = BY_SEVENS(VIDEO_B_OF_U), by_gu = BY_SEVENS(VIDEO_G_OF_U),
                by_gv = BY_SEVENS(VIDEO_G_OF_V), by_rv = BY_SEVENS(VIDEO_R_OF_V);
    EACH(i, n, B_COUNT) {
        BYTES luma = I(subs_epu8)(B_LOAD(y + i), black);
        BYTES du = I(sub_epi16)(B_LOAD_WORDS(u + i / 2), middle),
              dv = I(sub_epi16)(B_LOAD_WORDS(v + i / 2), middle);
        BYTES even = B_AND(luma, low), odd = I(srli_epi16)(luma, 8), evens[3][2], odds[3][2];
#define HALF(h, part)                                                                                        \
    {                                                                                                        \
        BYTES su = SEVENS(du, part), sv = SEVENS(dv, part);                                                  \
        BYTES y0 = I(add_epi32)(I(madd_epi16)(SEVENS(even, part), by_y), start),                             \
              y1 = I(add_epi32)(I(madd_epi16)(SEVENS(odd, part), by_y), start);                              \
        BYTES add[3] = {I(madd_epi16)(su, by_bu),                                                            \
                        I(add_epi32)(I(madd_epi16)(su, by_gu), I(madd_epi16)(sv, by_gv)),                    \
                        I(madd_epi16)(sv, by_rv)};                                                           \
        for (int c = 0; c < 3; c++) {                                                                        \
            evens[c][h] = I(srai_epi32)(I(add_epi32)(y0, add[c]), 20);                                       \
            odds[c][h] = I(srai_epi32)(I(add_epi32)(y1, add[c]), 20);                                        \
        }                                                                                                    \
    }
        HALF(0, lo)
        HALF(1, hi)
#undef HALF
        B_STORE(b + i, braided(evens[0], odds[0]));
        B_STORE(g + i, braided(evens[1], odds[1]));
        B_STORE(r + i, braided(evens[2], odds[2]));
    }
}

/* twelve_bits of dwords; of 0 it is whatever, which what it is multiplied with takes away, being 0. */
ALWAYS BYTES twelve_bits_of(FLOATS top, BYTES by) {
    BYTES bits = B_BITS(I(add_ps)(I(div_ps)(top, I(cvtepi32_ps)(by)), I(set1_ps)(ROUNDER)));
    return I(sub_epi32)(bits, I(set1_epi32)(ROUNDER_BITS));
}

void IMAGE(hsv_u8)(int64_t n, const uint8_t *b, const uint8_t *g, const uint8_t *r, int32_t range,
                   uint8_t *restrict h, uint8_t *restrict s, uint8_t *restrict v) {
    if (n < B_DWORDS) {
        hsv_plain(0, n, b, g, r, range, h, s, v);
        return;
    }
    const FLOATS hues = I(set1_ps)((float)(range << 12) / 6.0f), full = I(set1_ps)((float)(255 << 12));
    const BYTES round = I(set1_epi32)(1 << 11), circle = I(set1_epi32)(range), top = I(set1_epi32)(255);
    EACH(i, n, B_DWORDS) {
        BYTES blue = B_LOAD_DWORDS(b + i), green = B_LOAD_DWORDS(g + i), red = B_LOAD_DWORDS(r + i);
        BYTES most = I(max_epi32)(I(max_epi32)(blue, green), red),
              least = I(min_epi32)(I(min_epi32)(blue, green), red), spread = I(sub_epi32)(most, least);
        BYTES of_green = I(add_epi32)(I(sub_epi32)(blue, red), I(slli_epi32)(spread, 1)),
              of_blue = I(add_epi32)(I(sub_epi32)(red, green), I(slli_epi32)(spread, 2));
        BYTES angle =
            B_PICK_EQUAL(most, red, I(sub_epi32)(green, blue), B_PICK_EQUAL(most, green, of_green, of_blue));
        BYTES hue = I(mullo_epi32)(angle, twelve_bits_of(hues, spread)),
              sat = I(mullo_epi32)(spread, twelve_bits_of(full, most));
        hue = I(srai_epi32)(I(add_epi32)(hue, round), 12);
        hue = I(add_epi32)(hue, B_AND(I(srai_epi32)(hue, 31), circle));
        B_STORE_DWORDS(h + i, I(min_epi32)(hue, top));
        B_STORE_DWORDS(s + i, I(srai_epi32)(I(add_epi32)(sat, round), 12));
        B_STORE_DWORDS(v + i, most);
    }
}

ALWAYS BYTES rounded_bytes(FLOATS value) { /* rounded_byte of value * 255, as dwords */
    value = I(min_ps)(I(max_ps)(I(mul_ps)(value, I(set1_ps)(255.0f)), I(set1_ps)(0)), I(set1_ps)(255.0f));
    return I(sub_epi32)(B_BITS(I(add_ps)(value, I(set1_ps)(ROUNDER))), I(set1_epi32)(ROUNDER_BITS));
}

void IMAGE(unhsv_u8)(int64_t n, const uint8_t *h, const uint8_t *s, const uint8_t *v, float scale,
                     uint8_t *const *planes) {
    if (n < B_DWORDS) {
        unhsv_plain(0, n, h, s, v, scale, planes);
        return;
    }
    uint8_t *restrict b = planes[0], *restrict g = planes[1], *restrict r = planes[2];
    const FLOATS one = I(set1_ps)(1), byte = I(set1_ps)(1.0f / 255.0f), turn = I(set1_ps)(scale);
#define NUMBER(k) I(set1_epi32)(k)
#define AT(k, yes, no) B_PICK_EQUAL(sector, NUMBER(k), yes, no)
#define BELOW(k, yes, no) B_PICK_LESS(sector, NUMBER(k), yes, no)
    EACH(i, n, B_DWORDS) {
        FLOATS angle = I(mul_ps)(I(cvtepi32_ps)(B_LOAD_DWORDS(h + i)), turn),
               sat = I(mul_ps)(I(cvtepi32_ps)(B_LOAD_DWORDS(s + i)), byte),
               value = I(mul_ps)(I(cvtepi32_ps)(B_LOAD_DWORDS(v + i)), byte);
        BYTES sector = I(cvttps_epi32)(angle);
        FLOATS f = I(sub_ps)(angle, I(cvtepi32_ps)(sector));
        sector = BELOW(6, sector, I(sub_epi32)(sector, NUMBER(6)));
        BYTES all = B_BITS(value), low = B_BITS(I(mul_ps)(value, I(sub_ps)(one, sat))),
              down = B_BITS(I(mul_ps)(value, I(sub_ps)(one, I(mul_ps)(sat, f)))),
              up = B_BITS(I(mul_ps)(value, I(sub_ps)(one, I(mul_ps)(sat, I(sub_ps)(one, f)))));
        BYTES blue = BELOW(2, low, AT(2, up, BELOW(5, all, down))),
              green = AT(0, up, BELOW(3, all, AT(3, down, low))),
              red = AT(0, all, AT(1, down, BELOW(4, low, AT(4, up, all))));
        B_STORE_DWORDS(b + i, rounded_bytes(B_FLOATS(blue)));
        B_STORE_DWORDS(g + i, rounded_bytes(B_FLOATS(green)));
        B_STORE_DWORDS(r + i, rounded_bytes(B_FLOATS(red)));
    }
#undef NUMBER
#undef AT
#undef BELOW
}

/* ---- Pixels that change places ---- */

#define LANE_LOAD(p) _mm_loadu_si128((const __m128i *)(const void *)(p))
#define LANE_STORE(p, v) _mm_storeu_si128((__m128i *)(void *)(p), v)

/* Four pixels of `channels` bytes in each lane. */
ALWAYS BYTES load_fours(const uint8_t *p, int32_t channels) {
    return channels == 1 ? B_LANE_DWORDS(p) : channels == 3 ? b_load_twelves(p) : B_LOAD(p);
}

ALWAYS void store_fours(uint8_t *p, int32_t channels, BYTES v) {
    if (channels == 3)
        b_store_twelves(p, v);
    else
        B_STORE(p, v);
}

ALWAYS void order_steps(int64_t n, int32_t from, int32_t to, const int8_t *order, const uint8_t *x,
                        uint8_t *restrict y) {
    int8_t which[16],
        first[16]; /* of a lane's bytes: the channel of the result, the byte its source begins at */
    for (int j = 0; j < 16; j++) {
        which[j] = j < 4 * to ? (int8_t)(j % to) : NONE;
        first[j] = j < 4 * to ? (int8_t)(j / to * from) : 0;
    }
    uint32_t channels = 0; /* put together in a register: memory would be read before it is written */
    for (int32_t c = 0; c < to; c++)
        channels |= (uint32_t)(uint8_t)order[c] << 8 * c;
    __m128i read = _mm_shuffle_epi8(_mm_cvtsi32_si128((int32_t)channels), LANE_LOAD(which)),
            none = _mm_cmplt_epi8(read, _mm_setzero_si128());
    const BYTES by = B_EACH(_mm_or_si128(_mm_add_epi8(read, LANE_LOAD(first)), none)), with = B_EACH(none);
    EACH(i, n, 4 * B_LANES)
    store_fours(y + i * to, to, B_OR(I(shuffle_epi8)(load_fours(x + i * from, from), by), with));
}

void IMAGE(order_u8)(int64_t n, int32_t from, int32_t to, const int8_t *order, const uint8_t *x, uint8_t *y) {
#define ORDER(f, t)                                                                                          \
    if (from == (f) && to == (t) && n >= 4 * B_LANES) {                                                      \
        order_steps(n, f, t, order, x, y);                                                                   \
        return;                                                                                              \
    }
    ORDER(1, 3);
    ORDER(1, 4);
    ORDER(3, 3);
    ORDER(3, 4);
    ORDER(4, 3);
    ORDER(4, 4);
#undef ORDER
    order_plain(0, n, from, to, order, x, y);
}

void IMAGE(reverse_u8)(int64_t n, int32_t size, const uint8_t *x, uint8_t *restrict y) {
    static const int8_t TURNS[][16] = {[1] = {15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0},
                                       [2] = {14, 15, 12, 13, 10, 11, 8, 9, 6, 7, 4, 5, 2, 3, 0, 1},
                                       [3] = {9, 10, 11, 6, 7, 8, 3, 4, 5, 0, 1, 2, NONE, NONE, NONE, NONE},
                                       [4] = {12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3},
                                       [8] = {8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7}};
    int64_t step = B_LANES * (size == 3 ? 12 : 16), bytes = n * size;
    if ((size > 4 && size != 8) || bytes < step) {
        reverse_plain(0, n, size, x, y);
        return;
    }
    const BYTES by = B_EACH(LANE_LOAD(TURNS[size]));
    EACH(i, bytes, step) {
        const uint8_t *from = x + bytes - i - step;
        BYTES v = size == 3 ? b_load_twelves(from) : B_LOAD(from);
        v = I(shuffle_epi8)(B_TURN_LANES(v), by);
        if (size == 3)
            b_store_twelves(y + i, v);
        else
            B_STORE(y + i, v);
    }
}

/* Where the channels of 16 pixels of three lie in three units of 16 bytes: channel c at byte p of unit u if
 * (16 u + p) % 3 == c. The same places in another order are filled by one shuffle. */
#define THIRD(k) (0x9249u << (k) & 0xffffu) /* bits k, k + 3, ... */
#define THREE(c, j) (3 * (j) + (c)) % 16
#define UNZIP(c)                                                                                             \
    B_EACH(_mm_setr_epi8(THREE(c, 0), THREE(c, 1), THREE(c, 2), THREE(c, 3), THREE(c, 4), THREE(c, 5),       \
                         THREE(c, 6), THREE(c, 7), THREE(c, 8), THREE(c, 9), THREE(c, 10), THREE(c, 11),     \
                         THREE(c, 12), THREE(c, 13), THREE(c, 14), THREE(c, 15)))
#define WHICH(c, p) ((p) + 48 - (c)) * 11 % 16 /* j with 3 j + c = p modulo 16 */
#define ZIP(c)                                                                                               \
    B_EACH(_mm_setr_epi8(WHICH(c, 0), WHICH(c, 1), WHICH(c, 2), WHICH(c, 3), WHICH(c, 4), WHICH(c, 5),       \
                         WHICH(c, 6), WHICH(c, 7), WHICH(c, 8), WHICH(c, 9), WHICH(c, 10), WHICH(c, 11),     \
                         WHICH(c, 12), WHICH(c, 13), WHICH(c, 14), WHICH(c, 15)))

void IMAGE(split_u8)(int64_t n, int32_t channels, const uint8_t *x, uint8_t *const *planes) {
    if (channels != 3 || n < B_COUNT) {
        split_plain(n, channels, x, planes);
        return;
    }
    uint8_t *restrict a = planes[0], *restrict b = planes[1], *restrict c = planes[2];
    EACH(i, n, B_COUNT) {
        BYTES v[3];
        b_load_threes(x + 3 * i, v);
        B_STORE(a + i, I(shuffle_epi8)(B_BLEND(THIRD(1), B_BLEND(THIRD(2), v[0], v[1]), v[2]), UNZIP(0)));
        B_STORE(b + i, I(shuffle_epi8)(B_BLEND(THIRD(2), B_BLEND(THIRD(0), v[0], v[1]), v[2]), UNZIP(1)));
        B_STORE(c + i, I(shuffle_epi8)(B_BLEND(THIRD(0), B_BLEND(THIRD(1), v[0], v[1]), v[2]), UNZIP(2)));
    }
}

void IMAGE(merge_u8)(int64_t n, int32_t channels, const uint8_t *const *planes, uint8_t *restrict y) {
    if (channels != 3 || n < B_COUNT) {
        merge_plain(n, channels, planes, y);
        return;
    }
    const uint8_t *a = planes[0], *b = planes[1], *c = planes[2];
    EACH(i, n, B_COUNT) {
        BYTES va = I(shuffle_epi8)(B_LOAD(a + i), ZIP(0)), vb = I(shuffle_epi8)(B_LOAD(b + i), ZIP(1)),
              vc = I(shuffle_epi8)(B_LOAD(c + i), ZIP(2));
        const BYTES v[3] = {B_BLEND(THIRD(2), B_BLEND(THIRD(1), va, vb), vc),
                            B_BLEND(THIRD(1), B_BLEND(THIRD(0), va, vb), vc),
                            B_BLEND(THIRD(0), B_BLEND(THIRD(2), va, vb), vc)};
        b_store_threes(y + 3 * i, v);
    }
}

/* A tile of 16 x 16 bytes: four times, each pair of lanes half the tile apart is braided. */
ALWAYS void transpose_tile(const uint8_t *in, int64_t in_row, uint8_t *restrict out, int64_t out_row) {
    __m128i v[2][16];
    for (int k = 0; k < 16; k++)
        v[0][k] = LANE_LOAD(in + k * in_row);
#define ROUND(from, to)                                                                                      \
    for (int k = 0; k < 8; k++) {                                                                            \
        v[to][2 * k] = _mm_unpacklo_epi8(v[from][k], v[from][k + 8]);                                        \
        v[to][2 * k + 1] = _mm_unpackhi_epi8(v[from][k], v[from][k + 8]);                                    \
    }
    ROUND(0, 1)
    ROUND(1, 0)
    ROUND(0, 1)
    ROUND(1, 0)
#undef ROUND
    for (int k = 0; k < 16; k++)
        LANE_STORE(out + k * out_row, v[0][k]);
}

void IMAGE(transpose_u8)(int64_t rows, int64_t columns, const uint8_t *in, int64_t in_row, uint8_t *out,
                         int64_t out_row) {
    if (rows < 16 || columns < 16) {
        transpose_plain(rows, columns, in, in_row, out, out_row);
        return;
    }
    EACH(i, rows, 16) {
        EACH(j, columns, 16)
        transpose_tile(in + j * in_row + i, in_row, out + i * out_row + j, out_row);
    }
}

/* ---- Pixels read where they lie apart ---- */

/* Shuffles of pixels that lie one behind the other from byte `start` of a lane, for pairs of words: channel c
 * of the first and of the second. */
#define PAIRS_1(s)                                                                                           \
    _mm_setr_epi8(s, NONE, s + 1, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE,    \
                  NONE)
#define PAIRS_3(s)                                                                                           \
    _mm_setr_epi8(s, NONE, s + 3, NONE, s + 1, NONE, s + 4, NONE, s + 2, NONE, s + 5, NONE, NONE, NONE,      \
                  NONE, NONE)
#define PAIRS_4(s)                                                                                           \
    _mm_setr_epi8(s, NONE, s + 4, NONE, s + 1, NONE, s + 5, NONE, s + 2, NONE, s + 6, NONE, s + 3, NONE,     \
                  s + 7, NONE)
#define PAIRS(channels, s) ((channels) == 3 ? B_EACH(PAIRS_3(s)) : B_EACH(PAIRS_4(s)))

/* 8 bytes at p and 8 at q. */
ALWAYS __m128i two_eights(const uint8_t *p, const uint8_t *q) {
    __m128d low = _mm_castsi128_pd(_mm_loadl_epi64((const __m128i *)(const void *)p));
    return _mm_castpd_si128(_mm_loadh_pd(low, (const double *)(const void *)q));
}

/* Lanes of four words, of which three count for three channels: together, 12 bytes of each lane. */
ALWAYS void store_word_lanes(BYTES v, int32_t channels, int16_t *y) {
    if (channels == 4)
        B_STORE(y, v);
    else
        b_store_twelves(y, I(shuffle_epi8)(v, B_EACH(_mm_setr_epi8(0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13,
                                                                   NONE, NONE, NONE, NONE))));
}

/* Dword lanes of four times B_LANES pixels as bytes: pixels k, k + 4, ... in v[k]. */
ALWAYS void store_byte_lanes(const BYTES v[4], int32_t channels, uint8_t *y) {
    BYTES bytes = I(packus_epi16)(I(packs_epi32)(v[0], v[1]), I(packs_epi32)(v[2], v[3]));
    if (channels == 4)
        B_STORE(y, bytes);
    else
        b_store_twelves(y, I(shuffle_epi8)(bytes, B_EACH(_mm_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14,
                                                                       NONE, NONE, NONE, NONE))));
}

ALWAYS int64_t resize_steps(int64_t n, int32_t channels, const uint8_t *x, const int32_t *at,
                            const int16_t *w, int16_t *restrict y) {
    const BYTES first = PAIRS(channels, 0), second = PAIRS(channels, 8);
    int64_t i = 0;
    for (; i + 2 * B_LANES <= n; i += 2 * B_LANES) {
#define TWO(lane) two_eights(x + at[i + 2 * (lane)], x + at[i + 2 * (lane) + 1])
        BYTES pixels = B_LANES_OF(TWO);
        BYTES even = I(madd_epi16)(I(shuffle_epi8)(pixels, first), B_EVEN_DWORDS(w + 2 * i)),
              odd = I(madd_epi16)(I(shuffle_epi8)(pixels, second), B_ODD_DWORDS(w + 2 * i));
        store_word_lanes(I(packs_epi32)(I(srai_epi32)(even, 4), I(srai_epi32)(odd, 4)), channels,
                         y + i * channels);
#undef TWO
    }
    return i;
}

/* Of one channel: dwords of which two bytes count. */
ALWAYS BYTES word_pairs(BYTES dwords) {
    return I(shuffle_epi8)(dwords, B_EACH(_mm_setr_epi8(0, NONE, 1, NONE, 4, NONE, 5, NONE, 8, NONE, 9, NONE,
                                                        12, NONE, 13, NONE)));
}

/* Four pixels of one channel that lie within 16 bytes can be had by one load: where each begins in it, as the
 * shuffle for the pair there. Are all such? */
ALWAYS bool within_window(BYTES at, int32_t taps, BYTES *pairs) {
    BYTES place = I(sub_epi32)(at, I(shuffle_epi32)(at, 0));
    *pairs = I(add_epi32)(B_OR(place, I(slli_epi32)(place, 16)), I(set1_epi32)((int32_t)0x80018000u));
    return !B_ANY_ABOVE(place, 16 - taps);
}

ALWAYS BYTES later_pairs(BYTES pairs, int32_t taps) {
    return I(add_epi32)(pairs, I(set1_epi32)(taps * 0x00010001));
}

ALWAYS int64_t resize_steps_1(int64_t n, const uint8_t *x, const int32_t *at, const int16_t *w,
                              int16_t *restrict y) {
    int64_t i = 0;
    for (; i + B_DWORDS <= n; i += B_DWORDS) {
        BYTES from = B_LOAD(at + i), pairs;
#define WINDOW(lane) LANE_LOAD(x + at[i + 4 * (lane)])
        bool near = within_window(from, 2, &pairs);
        pairs = near ? I(shuffle_epi8)(B_LANES_OF(WINDOW), pairs) : word_pairs(B_GATHER(x, from));
#undef WINDOW
        BYTES sums = I(madd_epi16)(pairs, B_LOAD(w + 2 * i));
        B_STORE_WORDS_OF_DWORDS(y + i, I(srai_epi32)(sums, 4));
    }
    return i;
}

void IMAGE(resize_u8)(int64_t n, int32_t channels, const uint8_t *x, const int32_t *at, int32_t step,
                      const int16_t *w, int16_t *y) {
    int64_t made = step != channels ? 0
                   : channels == 1  ? resize_steps_1(n, x, at, w, y)
                   : channels == 3  ? resize_steps(n, 3, x, at, w, y)
                   : channels == 4  ? resize_steps(n, 4, x, at, w, y)
                                    : 0;
    resize_plain(made, n, channels, x, at, step, w, y);
}

/* Each lane makes two pixels of two rows of four pixels, which are 12 or 16 bytes. */
ALWAYS int64_t halve_steps(int64_t n, int32_t channels, const uint8_t *a, const uint8_t *b,
                           uint8_t *restrict y) {
    const __m128i threes = _mm_setr_epi8(0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11, NONE, NONE, NONE, NONE),
                  fours = _mm_setr_epi8(0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15);
    const BYTES order = B_EACH(channels == 3 ? threes : fours), ones = I(set1_epi8)(1),
                two = I(set1_epi16)(2);
    int64_t i = 0;
    for (; i + 4 * B_LANES + 2 <= n; i += 4 * B_LANES) {
        BYTES words[2];
        for (int h = 0; h < 2; h++) {
            const uint8_t *p = a + (2 * i + 4 * h) * channels, *q = b + (2 * i + 4 * h) * channels;
#define UPPER(lane) LANE_LOAD(p + 8 * (lane) * channels)
#define LOWER(lane) LANE_LOAD(q + 8 * (lane) * channels)
            BYTES upper = I(maddubs_epi16)(I(shuffle_epi8)(B_LANES_OF(UPPER), order), ones),
                  lower = I(maddubs_epi16)(I(shuffle_epi8)(B_LANES_OF(LOWER), order), ones);
            words[h] = I(srli_epi16)(I(add_epi16)(I(add_epi16)(upper, lower), two), 2);
#undef UPPER
#undef LOWER
        }
        BYTES bytes = I(packus_epi16)(words[0], words[1]);
        if (channels == 4)
            B_STORE(y + i * 4, bytes);
        else
            b_store_twelves(y + i * 3,
                            I(shuffle_epi8)(bytes, B_EACH(_mm_setr_epi8(0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12,
                                                                        13, NONE, NONE, NONE, NONE))));
    }
    return i;
}

void IMAGE(halve_u8)(int64_t n, int32_t channels, const uint8_t *a, const uint8_t *b, uint8_t *restrict y) {
    if (channels == 1) { /* compilers see through this one */
        for (int64_t i = 0; i < n; i++)
            y[i] = (uint8_t)((a[2 * i] + a[2 * i + 1] + b[2 * i] + b[2 * i + 1] + 2) >> 2);
        return;
    }
    int64_t made = channels == 3   ? halve_steps(n, 3, a, b, y)
                   : channels == 4 ? halve_steps(n, 4, a, b, y)
                                   : 0;
    halve_plain(made, n, channels, a, b, y);
}

ALWAYS FLOATS kept_near_of(FLOATS v) { /* MAXPS returns its second operand where either is NaN */
    return I(min_ps)(I(max_ps)(v, I(set1_ps)(-1e9f)), I(set1_ps)(1e9f));
}

ALWAYS BYTES weights_of(FLOATS part) {
    return I(cvttps_epi32)(I(add_ps)(I(mul_ps)(part, I(set1_ps)(16384.0f)), I(set1_ps)(0.5f)));
}

void IMAGE(corners)(int64_t n, const float *px, const float *py, const we_image_grid *g, int32_t *restrict at,
                    int16_t *restrict top, int16_t *restrict bottom) {
    if (n < B_DWORDS) {
        corners_plain(0, n, px, py, g, at, top, bottom);
        return;
    }
    const BYTES row = I(set1_epi32)(g->row), pixel = I(set1_epi32)(g->pixel), most = I(set1_epi32)(g->most),
                width = I(set1_epi32)(g->width), height = I(set1_epi32)(g->height), one = I(set1_epi32)(1),
                outside = I(set1_epi32)(WE_OUTSIDE), edge = I(set1_epi32)(WE_EDGE),
                all = I(set1_epi32)(16384), word = I(set1_epi32)(0xffff);
    EACH(i, n, B_DWORDS) {
        FLOATS x = kept_near_of(I(loadu_ps)(px + i)), y = kept_near_of(I(loadu_ps)(py + i));
        FLOATS left = I(floor_ps)(x), above = I(floor_ps)(y), fx = I(sub_ps)(x, left),
               fy = I(sub_ps)(y, above);
        BYTES sx = I(cvttps_epi32)(left), sy = I(cvttps_epi32)(above);
        BYTES offset = I(add_epi32)(I(mullo_epi32)(sy, row), I(mullo_epi32)(sx, pixel)), to = offset;
        to = B_PICK_LESS(most, offset, edge, to);
#define BOUND(s, size)                                                                                       \
    to = B_PICK_LESS(s, B_ZERO(), edge, to);                                                                 \
    to = B_PICK_LESS(I(add_epi32)(s, one), size, to, edge);
        BOUND(sx, width)
        BOUND(sy, height)
#undef BOUND
#define BOUND(s, size)                                                                                       \
    to = B_PICK_LESS(I(add_epi32)(s, one), B_ZERO(), outside, to);                                           \
    to = B_PICK_LESS(s, size, to, outside);
        BOUND(sx, width)
        BOUND(sy, height)
#undef BOUND
        B_STORE(at + i, to);
        BYTES wx = weights_of(fx), wy = weights_of(fy), both = weights_of(I(mul_ps)(fx, fy));
        BYTES right = I(sub_epi32)(wx, both), first = I(sub_epi32)(I(sub_epi32)(all, wy), right),
              below = I(sub_epi32)(wy, both);
        B_STORE(top + 2 * i, B_OR(B_AND(first, word), I(slli_epi32)(right, 16)));
        B_STORE(bottom + 2 * i, B_OR(B_AND(below, word), I(slli_epi32)(both, 16)));
    }
}

void IMAGE(spots)(int64_t n, const float *px, const float *py, const we_image_grid *g, int32_t *restrict at) {
    if (n < B_DWORDS) {
        spots_plain(0, n, px, py, g, at);
        return;
    }
    const BYTES row = I(set1_epi32)(g->row), pixel = I(set1_epi32)(g->pixel), width = I(set1_epi32)(g->width),
                height = I(set1_epi32)(g->height), outside = I(set1_epi32)(WE_OUTSIDE);
    EACH(i, n, B_DWORDS) {
        BYTES sx = I(cvtps_epi32)(kept_near_of(I(loadu_ps)(px + i))),
              sy = I(cvtps_epi32)(kept_near_of(I(loadu_ps)(py + i)));
        BYTES to = I(add_epi32)(I(mullo_epi32)(sy, row), I(mullo_epi32)(sx, pixel));
        to = B_PICK_LESS(sx, width, B_PICK_LESS(sy, height, to, outside), outside);
        to = B_PICK_LESS(sx, B_ZERO(), outside, B_PICK_LESS(sy, B_ZERO(), outside, to));
        B_STORE(at + i, to);
    }
}

ALWAYS int64_t bilinear_steps(int64_t n, int32_t channels, const uint8_t *x, int64_t row, const int32_t *at,
                              const int16_t *top, const int16_t *bottom, uint8_t *restrict y) {
    const BYTES first = PAIRS(channels, 0), second = PAIRS(channels, 8), round = I(set1_epi32)(1 << 13);
    int64_t i = 0;
    for (; i + 4 * B_LANES <= n; i += 4 * B_LANES) {
        const int32_t *from = at + i;
        BYTES upper = B_LOAD(top + 2 * i), lower = B_LOAD(bottom + 2 * i), v[4];
#define TWO(k, lane) two_eights(x + from[4 * (lane) + (k)], x + from[4 * (lane) + (k)] + row)
#define MADE(k, lanes)                                                                                       \
    {                                                                                                        \
        BYTES pixels = B_LANES_OF(lanes);                                                                    \
        BYTES sum = I(add_epi32)(                                                                            \
            I(madd_epi16)(I(shuffle_epi8)(pixels, first), I(shuffle_epi32)(upper, (k) * 0x55)),              \
            I(madd_epi16)(I(shuffle_epi8)(pixels, second), I(shuffle_epi32)(lower, (k) * 0x55)));            \
        v[k] = I(srai_epi32)(I(add_epi32)(sum, round), 14);                                                  \
    }
#define TWO_0(lane) TWO(0, lane)
#define TWO_1(lane) TWO(1, lane)
#define TWO_2(lane) TWO(2, lane)
#define TWO_3(lane) TWO(3, lane)
        MADE(0, TWO_0)
        MADE(1, TWO_1)
        MADE(2, TWO_2)
        MADE(3, TWO_3)
#undef MADE
        store_byte_lanes(v, channels, y + i * channels);
    }
    return i;
}

ALWAYS int64_t bilinear_steps_1(int64_t n, const uint8_t *x, int64_t row, const int32_t *at,
                                const int16_t *top, const int16_t *bottom, uint8_t *restrict y) {
    const BYTES round = I(set1_epi32)(1 << 13);
    int64_t i = 0;
    for (; i + B_DWORDS <= n; i += B_DWORDS) {
        BYTES from = B_LOAD(at + i), pairs, upper, lower;
        if (within_window(from, 2, &pairs)) {
#define WINDOW(lane) LANE_LOAD(x + at[i + 4 * (lane)])
            upper = I(shuffle_epi8)(B_LANES_OF(WINDOW), pairs);
#undef WINDOW
#define WINDOW(lane) LANE_LOAD(x + at[i + 4 * (lane)] + row)
            lower = I(shuffle_epi8)(B_LANES_OF(WINDOW), pairs);
#undef WINDOW
        } else {
            upper = word_pairs(B_GATHER(x, from));
            lower = word_pairs(B_GATHER(x + row, from));
        }
        BYTES sum = I(add_epi32)(I(madd_epi16)(upper, B_LOAD(top + 2 * i)),
                                 I(madd_epi16)(lower, B_LOAD(bottom + 2 * i)));
        B_STORE_DWORDS(y + i, I(srai_epi32)(I(add_epi32)(sum, round), 14));
    }
    return i;
}

void IMAGE(bilinear_u8)(int64_t n, int32_t channels, const uint8_t *x, int64_t row, const int32_t *at,
                        const int16_t *top, const int16_t *bottom, uint8_t *y) {
    int64_t made = channels == 1   ? bilinear_steps_1(n, x, row, at, top, bottom, y)
                   : channels == 3 ? bilinear_steps(n, 3, x, row, at, top, bottom, y)
                   : channels == 4 ? bilinear_steps(n, 4, x, row, at, top, bottom, y)
                                   : 0;
    bilinear_plain(made, n, channels, x, row, at, top, bottom, y);
}

/* Of 4 or 8 taps, four are read at once. */
ALWAYS int64_t weigh_steps(int64_t n, int32_t channels, int32_t taps, const uint8_t *x, const int32_t *at,
                           const int16_t *w, int32_t *restrict y) {
    const BYTES first = PAIRS(channels, 0), second = channels == 3 ? B_EACH(PAIRS_3(6)) : B_EACH(PAIRS_4(8));
    int64_t i = 0;
    for (; i + B_LANES <= n; i += B_LANES) {
        BYTES sum = B_ZERO();
        for (int32_t t = 0; t < taps; t += 4) {
#define FOUR(lane) LANE_LOAD(x + at[i + (lane)] + t * channels)
            BYTES pixels = B_LANES_OF(FOUR);
#undef FOUR
            BYTES a = I(madd_epi16)(I(shuffle_epi8)(pixels, first), B_LANE_DWORDS(w + 2 * (t / 2 * n + i))),
                  b = I(madd_epi16)(I(shuffle_epi8)(pixels, second),
                                    B_LANE_DWORDS(w + 2 * ((t / 2 + 1) * n + i)));
            sum = I(add_epi32)(sum, I(add_epi32)(a, b));
        }
        if (channels == 4)
            B_STORE(y + i * 4, sum);
        else
            b_store_twelves(y + i * 3, sum);
    }
    return i;
}

ALWAYS int64_t weigh_steps_1(int64_t n, int32_t taps, const uint8_t *x, const int32_t *at, const int16_t *w,
                             int32_t *restrict y) {
    int64_t i = 0;
    for (; i + B_DWORDS <= n; i += B_DWORDS) {
        BYTES from = B_LOAD(at + i), sum = B_ZERO(), pairs;
        bool near = within_window(from, 4, &pairs);
        for (int32_t t = 0; t < taps; t += 4) {
#define WINDOW(lane) LANE_LOAD(x + t + at[i + 4 * (lane)])
            BYTES lanes = near ? B_LANES_OF(WINDOW) : B_GATHER(x + t, from);
#undef WINDOW
            BYTES early = near ? I(shuffle_epi8)(lanes, pairs) : word_pairs(lanes),
                  late = near ? I(shuffle_epi8)(lanes, later_pairs(pairs, 2))
                              : word_pairs(I(srli_epi32)(lanes, 16));
            BYTES a = I(madd_epi16)(early, B_LOAD(w + 2 * (t / 2 * n + i))),
                  b = I(madd_epi16)(late, B_LOAD(w + 2 * ((t / 2 + 1) * n + i)));
            sum = I(add_epi32)(sum, I(add_epi32)(a, b));
        }
        B_STORE(y + i, sum);
    }
    return i;
}

void IMAGE(weigh_u8)(int64_t n, int32_t channels, int32_t taps, const uint8_t *x, const int32_t *at,
                     const int16_t *w, int32_t *y) {
    int64_t made = 0;
    if (taps == 4)
        made = channels == 1   ? weigh_steps_1(n, 4, x, at, w, y)
               : channels == 3 ? weigh_steps(n, 3, 4, x, at, w, y)
               : channels == 4 ? weigh_steps(n, 4, 4, x, at, w, y)
                               : 0;
    else if (taps == 8)
        made = channels == 1   ? weigh_steps_1(n, 8, x, at, w, y)
               : channels == 3 ? weigh_steps(n, 3, 8, x, at, w, y)
               : channels == 4 ? weigh_steps(n, 4, 8, x, at, w, y)
                               : 0;
    weigh_plain(made, n, channels, taps, x, at, w, y);
}
