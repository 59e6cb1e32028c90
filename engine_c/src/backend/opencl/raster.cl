/* Regions. Definitions: TYPE, an element as bits; RANK of the one region, or 0 where there is a table of several; IX. */
#if RANK
typedef struct {
    IX count, size[RANK], src[RANK], dst[RANK];
} region;

kernel void raster(region r, global const char *p, long po, global char *q, long qo) {
    IX rest = get_global_id(0), from = 0, to = 0;
    if (rest >= r.count)
        return;
#pragma unroll
    for (int i = RANK - 1; i > 0; i--) {
        IX x = rest % r.size[i];
        rest /= r.size[i];
        from += x * r.src[i];
        to += x * r.dst[i];
    }
    from += rest * r.src[0];
    to += rest * r.dst[0];
    ((global TYPE *)(q + qo))[to] = ((global const TYPE *)(p + po))[from];
}
#else
enum { ROW = 29 }; /* of the table: see raster.c */

/* Each work item moves one element, and finds its region by bisection. */
kernel void raster_table(IX count, int regions, global const char *t, long to_table, global const char *work,
                         global const char *constants, global char *q, long qo) {
    global const long *table = (global const long *)(t + to_table);
    IX i = get_global_id(0);
    if (i >= count)
        return;
    int low = 0, high = regions - 1;
    while (low < high) {
        int middle = (low + high) / 2;
        if (i < (IX)table[middle * ROW])
            high = middle;
        else
            low = middle + 1;
    }
    global const long *r = table + low * ROW;
    IX rest = low ? i - (IX)r[-ROW] : i, from = 0, to = (IX)r[3];
    for (int d = (int)r[4] - 1; d >= 0; d--) {
        IX size = (IX)r[5 + d], x = d ? rest % size : rest;
        rest /= size;
        from += x * (IX)r[13 + d];
        to += x * (IX)r[21 + d];
    }
    global const TYPE *p = (global const TYPE *)((r[1] ? constants : work) + r[2]);
    ((global TYPE *)(q + qo))[to] = p[from];
}
#endif

kernel void fill(long count, ulong value, global char *q, long qo) {
    long i = get_global_id(0);
    if (i < count)
        ((global TYPE *)(q + qo))[i] = (TYPE)value;
}

kernel void copy(long count, global const char *p, long po, global char *q, long qo) {
    long i = get_global_id(0);
    if (i < count)
        (q + qo)[i] = (p + po)[i];
}
