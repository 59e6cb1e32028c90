/* From the bytes of a .wmodel to builder calls. Every byte is hostile; nothing is trusted before it is
 * checked. */
#ifndef WE_LOAD_LOAD_H
#define WE_LOAD_LOAD_H

#include <walle/engine.h>

typedef struct we_mapping {
    const unsigned char *bytes;
    size_t size;
    int mapped; /* by mmap; otherwise owned memory */
} we_mapping;

we_status we_mapping_open(const char *path, we_mapping *out, we_error *err);
we_status we_mapping_copy(const void *bytes, size_t size, we_mapping *out, we_error *err);
void we_mapping_close(we_mapping *mapping);

/* Weights are borrowed from the mapping, which must outlive the graph. *out is freed by the caller also on
 * failure. */
we_status we_load_graph(const we_mapping *mapping, we_builder **out, we_error *err);

#endif
