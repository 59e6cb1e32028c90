/* Quicksort, element by element. The including file says KEY, LEAST (the smallest key), SORT and PARTITION.
 */
#include "kernels/kernels.h"

#include "kernels/sort_heap.h"

enum {
    FEW = 24, /* sorted by insertion */
};

static void insertion_sort(int64_t n, KEY *keys) {
    for (int64_t i = 1; i < n; i++) {
        KEY key = keys[i];
        int64_t place = i;
        for (; place > 0 && keys[place - 1] > key; place--)
            keys[place] = keys[place - 1];
        keys[place] = key;
    }
}

/* Lomuto's, without a branch that depends on the keys. */
int64_t PARTITION(int64_t n, KEY *keys, KEY pivot) {
    int64_t low = 0;
    for (int64_t i = 0; i < n; i++) {
        KEY key = keys[i];
        keys[i] = keys[low];
        keys[low] = key;
        low += key <= pivot;
    }
    return low;
}

static KEY middle(KEY a, KEY b, KEY c) {
    KEY low = a < b ? a : b, high = a < b ? b : a;
    return c < low ? low : c > high ? high : c;
}

static void quicksort(int64_t n, KEY *keys, int32_t patience) {
    while (n > FEW) {
        if (patience-- == 0) {
            heap_sort(n, keys);
            return;
        }
        KEY pivot = middle(keys[n / 4], keys[n / 2], keys[n / 4 * 3]);
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
    insertion_sort(n, keys);
}

void SORT(int64_t n, KEY *keys) {
    quicksort(n, keys, patience_for(n));
}
