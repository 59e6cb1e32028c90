/* Quicksort round what instruction sets do differently: the including file says KEY, LEAST (the smallest
 * key), SORT, PARTITION and FEW, and defines choose, sort_few and PARTITION. Where pivots turn out badly a
 * heap takes over, so that no input takes quadratic time. Source: Williams, Algorithm 232, Heapsort (1964).
 */
#include "kernels/kernels.h"

/* A pivot for n > FEW keys. */
static KEY choose(int64_t n, const KEY *keys);
/* Sort n <= FEW keys. */
static void sort_few(int64_t n, KEY *keys);

static void sift(int64_t n, KEY *keys, int64_t place) {
    KEY key = keys[place];
    for (;;) {
        int64_t child = 2 * place + 1;
        if (child >= n)
            break;
        child += child + 1 < n && keys[child + 1] > keys[child];
        if (keys[child] <= key)
            break;
        keys[place] = keys[child];
        place = child;
    }
    keys[place] = key;
}

static void heap_sort(int64_t n, KEY *keys) {
    for (int64_t i = n / 2; i-- > 0;)
        sift(n, keys, i);
    for (int64_t i = n - 1; i > 0; i--) {
        KEY most = keys[0];
        keys[0] = keys[i], keys[i] = most;
        sift(i, keys, 0);
    }
}

/* Levels of partitions after which a heap takes over. */
static int32_t patience_for(int64_t n) {
    int32_t levels = 4;
    for (; n > 0; n >>= 1)
        levels += 2;
    return levels;
}

/* Partition key by key: Lomuto's, without a branch that depends on the keys. */
static int64_t partition_each(int64_t n, KEY *keys, KEY pivot) {
    int64_t low = 0;
    for (int64_t i = 0; i < n; i++) {
        KEY key = keys[i];
        keys[i] = keys[low];
        keys[low] = key;
        low += key <= pivot;
    }
    return low;
}

static void quicksort(int64_t n, KEY *keys, int32_t patience) {
    while (n > FEW) {
        if (patience-- == 0) {
            heap_sort(n, keys);
            return;
        }
        KEY pivot = choose(n, keys);
        int64_t low = PARTITION(n, keys, pivot);
        if (low == n) { /* the pivot is the largest: its equals are in place behind the others */
            if (pivot == LEAST)
                return;
            n = PARTITION(n, keys, pivot - 1);
            continue;
        }
        if (low < n - low) {
            quicksort(low, keys, patience);
            keys += low, n -= low;
        } else {
            quicksort(n - low, keys + low, patience);
            n = low;
        }
    }
    sort_few(n, keys);
}

void SORT(int64_t n, KEY *keys) {
    quicksort(n, keys, patience_for(n));
}
