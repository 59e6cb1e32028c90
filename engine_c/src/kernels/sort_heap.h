/* What quicksorts fall back on where pivots turn out badly, so that no input takes quadratic time. The
 * including file says KEY. Source: Williams, Algorithm 232, Heapsort (1964). */
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
