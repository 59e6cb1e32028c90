/* A tensor with concrete shape, as seen while a session is prepared. */
#ifndef WE_GRAPH_TENSOR_H
#define WE_GRAPH_TENSOR_H

#include <stdbool.h>

#include <walle/engine.h>

typedef enum we_tensor_kind {
    WE_TENSOR_TEMP,  /* written by a command */
    WE_TENSOR_CONST, /* contents known now: `data` */
    WE_TENSOR_INPUT, /* bound at each run: `index` */
    WE_TENSOR_VIEW,  /* part of another tensor, placed anew by each iteration of a loop */
} we_tensor_kind;

typedef struct we_tensor {
    we_tensor_kind kind;
    we_dtype dtype;
    int32_t rank;
    int64_t dims[WE_MAX_RANK];
    int64_t count; /* product of dims */
    const void *data;
    int32_t index;
    int32_t alias_of;     /* tensor whose memory this one shares, or -1 */
    int64_t alias_offset; /* elements from the start of that tensor */
} we_tensor;

#endif
