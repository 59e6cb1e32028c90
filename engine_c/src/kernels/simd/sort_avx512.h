/* Quicksort by vectors: partitions by compression, and networks for what fits a few registers. The including
 * file says KEY, LEAST, MOST, SORT, PARTITION, LANES and the operations V_*. Source: Bramas, A novel hybrid
 * quicksort algorithm vectorized using AVX-512 (2017); Batcher, Sorting networks (1968). */
#include "kernels/kernels.h"

enum {
    VECTORS = 8, /* that a network sorts at most */
    FEW = VECTORS * LANES,
    UNROLLED =
        2, /* vectors per choice of a side: what a network does not take is then partitioned by vectors */
};

#include "kernels/sort_quick.h"

/* ---- Networks ---- */

/* Lanes and their partners by an exclusive or; the lane of a pair with the bit `upper` gets the larger. */
static inline __attribute__((always_inline)) VEC exchange(VEC v, int partner, int upper) {
    VEC other = V_PERMUTE(V_XOR(V_IOTA(), V_SPLAT(partner)), v);
    return V_SELECT(V_TEST(V_IOTA(), V_SPLAT(upper)), V_MAX(v, other), V_MIN(v, other));
}

/* A bitonic vector to a sorted one. */
static inline __attribute__((always_inline)) VEC merge_lanes(VEC v) {
#pragma GCC unroll 4
    for (int distance = LANES / 2; distance > 0; distance /= 2)
        v = exchange(v, distance, distance);
    return v;
}

static inline __attribute__((always_inline)) VEC sort_lanes(VEC v) {
#pragma GCC unroll 4
    for (int size = 2; size <= LANES; size *= 2) {
        v = exchange(v, size - 1, size / 2); /* the second half reversed: bitonic */
#pragma GCC unroll 4
        for (int distance = size / 4; distance > 0; distance /= 2)
            v = exchange(v, distance, distance);
    }
    return v;
}

static inline __attribute__((always_inline)) void exchange_vectors(VEC *a, VEC *b) {
    VEC low = V_MIN(*a, *b);
    *b = V_MAX(*a, *b);
    *a = low;
}

/* Two sorted halves of v[0, count) to one. */
static inline __attribute__((always_inline)) void merge_vectors(VEC *v, int count) {
    for (int i = 0; i < count / 2; i++) { /* against the second half reversed; count is a constant */
        VEC mirrored = V_PERMUTE(V_XOR(V_IOTA(), V_SPLAT(LANES - 1)), v[count - 1 - i]);
        exchange_vectors(&v[i], &mirrored);
        v[count - 1 - i] = mirrored;
    }
#pragma GCC unroll 4
    for (int distance = count / 4; distance > 0; distance /= 2) {
#pragma GCC unroll 8
        for (int i = 0; i < count; i++) {
            if (!(i & distance))
                exchange_vectors(&v[i], &v[i + distance]);
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < count; i++)
        v[i] = merge_lanes(v[i]);
}

static inline __attribute__((always_inline)) void sort_vectors(int64_t n, KEY *keys, int count) {
    VEC v[VECTORS];
#pragma GCC unroll 8
    for (int i = 0; i < count; i++) {
        int64_t left = n - i * LANES;
        v[i] = V_LOAD_FIRST(keys + i * LANES, left < 0 ? 0 : left < LANES ? left : LANES);
        v[i] = sort_lanes(v[i]);
    }
#pragma GCC unroll 4
    for (int size = 2; size <= count; size *= 2) {
#pragma GCC unroll 8
        for (int first = 0; first < count; first += size)
            merge_vectors(v + first, size);
    }
#pragma GCC unroll 8
    for (int i = 0; i < count; i++) {
        int64_t left = n - i * LANES;
        V_STORE_FIRST(keys + i * LANES, left < 0 ? 0 : left < LANES ? left : LANES, v[i]);
    }
}

static void sort_few(int64_t n, KEY *keys) {
    if (n <= LANES)
        sort_vectors(n, keys, 1);
    else if (n <= 2 * LANES)
        sort_vectors(n, keys, 2);
    else if (n <= 4 * LANES)
        sort_vectors(n, keys, 4);
    else
        sort_vectors(n, keys, 8);
}

/* ---- Partitions ---- */

/* Put the lanes up to the pivot at *low and the others before *high. Each side has room for a whole vector.
 */
static inline __attribute__((always_inline)) void divide(VEC v, VEC pivot, KEY **low, KEY **high) {
    V_MASK small = V_NOT_ABOVE(v, pivot);
    int count = __builtin_popcount(small);
    VEC apart = V_APART(v, small, count);
    V_STORE(*low, apart);
    V_STORE(*high - LANES, apart);
    *low += count;
    *high -= LANES - count;
}

/* As many blocks from either end as were read make the room to write. */
int64_t PARTITION(int64_t n, KEY *keys, KEY pivot) {
    enum { BLOCK = UNROLLED * LANES };
    const VEC split = V_SPLAT(pivot);
    KEY *begin = keys, *end = keys + n;
    if (n >= 3 * BLOCK) {
        VEC first[UNROLLED], last[UNROLLED], v[UNROLLED];
        KEY *low = begin, *high = end;
        for (int i = 0; i < UNROLLED; i++)
            first[i] = V_LOAD(begin + i * LANES), last[i] = V_LOAD(end - (i + 1) * LANES);
        begin += BLOCK, end -= BLOCK;
        while (end - begin >= BLOCK) {
            bool from_low = begin - low <= high - end; /* the side with less room */
            const KEY *from = from_low ? begin : end - BLOCK;
            begin += from_low ? BLOCK : 0;
            end -= from_low ? 0 : BLOCK;
            for (int i = 0; i < UNROLLED; i++)
                v[i] = V_LOAD(from + i * LANES);
            for (int i = 0; i < UNROLLED; i++)
                divide(v[i], split, &low, &high);
        }
        KEY rest[BLOCK];
        int64_t left = end - begin;
        memcpy(rest, begin, (size_t)left * sizeof(KEY));
        for (int64_t i = 0; i < left; i++) {
            const bool small = rest[i] <= pivot; /* a branch would be guessed wrong every other time */
            *low = high[-1] = rest[i];
            low += small;
            high -= !small;
        }
        for (int i = 0; i < UNROLLED; i++)
            divide(first[i], split, &low, &high);
        for (int i = 0; i + 1 < UNROLLED; i++)
            divide(last[i], split, &low, &high);
        /* Exactly one vector of room is left: both stores meet there. */
        divide(last[UNROLLED - 1], split, &low, &high);
        return low - keys;
    }
    return partition_each(n, keys, pivot);
}

/* The median of a vector of samples. */
static KEY choose(int64_t n, const KEY *keys) {
    KEY samples[LANES];
    for (int i = 0; i < LANES; i++)
        samples[i] = keys[n / LANES * i + n / LANES / 2];
    V_STORE(samples, sort_lanes(V_LOAD(samples)));
    return samples[LANES / 2];
}
