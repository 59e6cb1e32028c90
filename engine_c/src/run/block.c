/* Reference-counted tensor memory, and the table that carries references from one interpreter to another. */
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include <walle/array.h>

#include "base/dtype.h"
#include "base/error.h"
#include "base/memory.h"
#include "run/block.h"

struct we_block {
    _Atomic int64_t references;
    we_view view;
    size_t size;
    char *texts; /* of a STRING block: what its elements point to */
    _Alignas(WE_ALIGNMENT) char elements[];
};

static _Atomic int64_t live_blocks;

/* ---- Spares: blocks of some size that were released, for the next of their size. Fresh memory comes page by
 * page, which costs more than many a result takes to compute (3.2 MB: 530 us in the kernel, measured
 * 2026-11-26).
 */

enum {
    SPARES = 8,
    SPARE_LEAST = 64 << 10, /* bytes; smaller ones the allocator does not give back to the system */
    SPARE_MOST = 32 << 20,  /* of all together */
};

static struct {
    pthread_mutex_t lock;
    we_block *blocks[SPARES]; /* the oldest first */
    int32_t count;
    size_t bytes;
} spares = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* The caller holds the lock. */
static we_block *take_spare(int32_t i) {
    we_block *block = spares.blocks[i];
    spares.bytes -= block->size;
    spares.count--;
    memmove(spares.blocks + i, spares.blocks + i + 1, (size_t)(spares.count - i) * sizeof *spares.blocks);
    return block;
}

static we_block *find_spare(size_t size) {
    we_block *found = NULL;
    pthread_mutex_lock(&spares.lock);
    for (int32_t i = spares.count; i-- > 0 && !found;)
        found = spares.blocks[i]->size == size ? take_spare(i) : NULL;
    pthread_mutex_unlock(&spares.lock);
    if (found && !we_memory_adopt(found)) {
        we_memory_free_unowned(found);
        found = NULL;
    }
    return found;
}

static void free_all(we_block **blocks, int32_t count) {
    for (int32_t i = 0; i < count; i++)
        we_memory_free_unowned(blocks[i]);
}

static void keep_spare(we_block *block) {
    we_block *dropped[SPARES];
    int32_t count = 0;
    we_memory_disown(block);
    pthread_mutex_lock(&spares.lock);
    while (spares.count > 0 && (spares.count == SPARES || spares.bytes + block->size > SPARE_MOST))
        dropped[count++] = take_spare(0);
    spares.blocks[spares.count++] = block;
    spares.bytes += block->size;
    pthread_mutex_unlock(&spares.lock);
    free_all(dropped, count);
}

void we_block_drop_spares(void) {
    we_block *dropped[SPARES];
    int32_t count = 0;
    pthread_mutex_lock(&spares.lock);
    while (spares.count > 0)
        dropped[count++] = take_spare(0);
    pthread_mutex_unlock(&spares.lock);
    free_all(dropped, count);
}

/* ---- Blocks ---- */

we_status we_block_new(we_dtype dtype, int32_t rank, const int64_t *dims, we_block **out, we_error *err) {
    WE_TRY(we_block_new_dirty(dtype, rank, dims, out, err));
    memset((*out)->elements, 0, (*out)->size);
    return WE_OK;
}

we_status we_block_new_dirty(we_dtype dtype, int32_t rank, const int64_t *dims, we_block **out,
                             we_error *err) {
    int64_t count = 0;
    if (!out)
        return we_error_set(err, WE_INVALID_ARGUMENT, "the out pointer is NULL");
    *out = NULL;
    if ((rank > 0 && !dims) || !we_shape_count(rank, dims, dtype, &count))
        return we_error_set(
            err, WE_INVALID_ARGUMENT,
            "illegal tensor: dims must be non-negative, rank at most %d, the dtype known and the size "
            "sane",
            WE_MAX_RANK);
    size_t size = (size_t)count * we_dtype_size(dtype);
    we_block *block = size >= SPARE_LEAST ? find_spare(size) : NULL;
    if (!block)
        block = we_memory_new_dirty(sizeof *block + size);
    if (!block)
        return we_error_no_memory(err);
    memset(block, 0, sizeof *block);
    atomic_init(&block->references, 1);
    block->size = size;
    block->view = (we_view){.dtype = dtype, .rank = rank, .data = block->elements};
    if (rank)
        memcpy(block->view.dims, dims, (size_t)rank * sizeof *dims);
    atomic_fetch_add_explicit(&live_blocks, 1, memory_order_relaxed);
    *out = block;
    return WE_OK;
}

we_block *we_block_retain(we_block *block) {
    atomic_fetch_add_explicit(&block->references, 1, memory_order_relaxed);
    return block;
}

void we_block_release(we_block *block) {
    if (!block || atomic_fetch_sub_explicit(&block->references, 1, memory_order_acq_rel) != 1)
        return;
    we_memory_free(block->texts);
    if (block->size >= SPARE_LEAST && block->size <= SPARE_MOST)
        keep_spare(block);
    else
        we_memory_free(block);
    atomic_fetch_sub_explicit(&live_blocks, 1, memory_order_relaxed);
}

we_status we_block_set_texts(we_block *block, const char *const *texts, we_error *err) {
    if (!block || block->view.dtype != WE_STRING || block->texts)
        return we_error_set(err, WE_INVALID_ARGUMENT, "texts go into a fresh block of dtype STRING");
    size_t count = block->size / sizeof(char *), bytes = 0;
    for (size_t i = 0; i < count; i++)
        bytes += texts[i] ? strlen(texts[i]) + 1 : 0;
    char *at = we_memory_new_dirty(bytes);
    if (!at)
        return we_error_no_memory(err);
    block->texts = at;
    for (size_t i = 0; i < count; i++) {
        if (!texts[i])
            continue;
        size_t length = strlen(texts[i]) + 1;
        memcpy(at, texts[i], length);
        ((const char **)block->view.data)[i] = at;
        at += length;
    }
    return WE_OK;
}

we_view we_block_view(const we_block *block) {
    return block->view;
}

size_t we_block_nbytes(const we_block *block) {
    return block->size;
}

int64_t we_live_blocks(void) {
    return atomic_load_explicit(&live_blocks, memory_order_relaxed);
}

/* A handle is slot number + 1 in the low half and the slot's generation in the high half, so that a handle
 * used once never names a later export. */
typedef struct handle_slot {
    we_block *block;
    uint32_t generation;
} handle_slot;

static struct {
    pthread_mutex_t lock;
    handle_slot *slots;
    size_t count, room;
} handles = {.lock = PTHREAD_MUTEX_INITIALIZER};

we_status we_block_export(we_block *block, uint64_t *handle, we_error *err) {
    we_status status = WE_OK;
    size_t slot = 0;
    if (!block || !handle)
        return we_error_set(err, WE_INVALID_ARGUMENT, "block or handle pointer is NULL");
    pthread_mutex_lock(&handles.lock);
    while (slot < handles.count && handles.slots[slot].block)
        slot++;
    if (slot == handles.count) {
        if (slot < UINT32_MAX - 1 &&
            we_memory_grow((void **)&handles.slots, &handles.room, handles.count, sizeof *handles.slots))
            handles.count++;
        else
            status = we_error_no_memory(err);
    }
    if (status == WE_OK) {
        handle_slot *entry = &handles.slots[slot];
        entry->generation++;
        entry->block = we_block_retain(block);
        *handle = (uint64_t)entry->generation << 32 | (uint32_t)(slot + 1);
    }
    pthread_mutex_unlock(&handles.lock);
    return status;
}

we_status we_block_import(uint64_t handle, we_block **out, we_error *err) {
    size_t slot = (uint32_t)handle;
    if (!out)
        return we_error_set(err, WE_INVALID_ARGUMENT, "the out pointer is NULL");
    *out = NULL;
    pthread_mutex_lock(&handles.lock);
    if (slot >= 1 && slot <= handles.count &&
        handles.slots[slot - 1].generation == (uint32_t)(handle >> 32)) {
        *out = handles.slots[slot - 1].block;
        handles.slots[slot - 1].block = NULL;
    }
    pthread_mutex_unlock(&handles.lock);
    if (!*out)
        return we_error_set(err, WE_INVALID_ARGUMENT,
                            "unknown tensor handle: each export is good for exactly one import");
    return WE_OK;
}
