/* Quicksort, element by element. The including file says KEY, LEAST (the smallest key), SORT and PARTITION.
 */
enum {
    FEW = 24, /* sorted by insertion */
};

#include "kernels/sort_quick.h"

static void sort_few(int64_t n, KEY *keys) {
    for (int64_t i = 1; i < n; i++) {
        KEY key = keys[i];
        int64_t place = i;
        for (; place > 0 && keys[place - 1] > key; place--)
            keys[place] = keys[place - 1];
        keys[place] = key;
    }
}

int64_t PARTITION(int64_t n, KEY *keys, KEY pivot) {
    return partition_each(n, keys, pivot);
}

static KEY choose(int64_t n, const KEY *keys) {
    KEY a = keys[n / 4], b = keys[n / 2], c = keys[n / 4 * 3], low = a < b ? a : b, high = a < b ? b : a;
    return c < low ? low : c > high ? high : c;
}
