/* Reference-counted tensor memory, and the table that carries references from one interpreter to another. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#include <walle/array.h>

#include "base/dtype.h"
#include "base/error.h"
#include "base/memory.h"

struct we_block {
    _Atomic int64_t references;
    we_view view;
    size_t size, room; /* bytes of elements: in use, and there are */
    char *texts;       /* of a STRING block: what its elements point to */
    _Alignas(WE_ALIGNMENT) char elements[];
};

static _Atomic int64_t live_blocks;

/* Large blocks given back of late, for the next of about their size. Fresh ones come from the system page by
 * page, which costs more than most arithmetic on them: adding two arrays of 8 MB took 1.2 ms, 0.1 ms of it
 * the sums (2026-11). */
enum {
    SPARES = 2,
    SPARE_LEAST = 1 << 20, /* smaller ones the C library keeps well */
    SPARE_MOST = 16 << 20, /* each: together no more than 32 MiB lie idle */
};
static struct {
    pthread_mutex_t lock;
    we_block *blocks[SPARES];
    size_t next; /* to be thrown out */
} spares = {.lock = PTHREAD_MUTEX_INITIALIZER};

static we_block *take_spare(size_t size) {
    we_block *found = NULL;
    if (size < SPARE_LEAST || size > SPARE_MOST)
        return NULL;
    pthread_mutex_lock(&spares.lock);
    for (size_t i = 0; i < SPARES && !found; i++) {
        we_block *spare = spares.blocks[i];
        if (spare && spare->room >= size && spare->room / 4 * 3 <= size) {
            found = spare;
            spares.blocks[i] = NULL;
        }
    }
    pthread_mutex_unlock(&spares.lock);
    return found;
}

/* Keep a block, or give another that was kept longest, or the block itself, back to the caller to free. */
static we_block *keep_spare(we_block *block) {
    if (block->room < SPARE_LEAST || block->room > SPARE_MOST)
        return block;
    pthread_mutex_lock(&spares.lock);
    size_t place = spares.next;
    for (size_t i = 0; i < SPARES; i++)
        place = spares.blocks[i] ? place : i;
    we_block *out = spares.blocks[place];
    spares.blocks[place] = block;
    spares.next = (place + 1) % SPARES;
    pthread_mutex_unlock(&spares.lock);
    return out;
}

static we_status new_block(bool zeroed, we_dtype dtype, int32_t rank, const int64_t *dims, we_block **out,
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
    we_block *block = take_spare(size);
    if (block && zeroed)
        memset(block->elements, 0, size);
    if (!block) {
        block = zeroed ? we_memory_new(sizeof *block + size) : we_memory_new_dirty(sizeof *block + size);
        if (!block)
            return we_error_no_memory(err);
        block->room = size;
    }
    block->texts = NULL;
    atomic_init(&block->references, 1);
    block->size = size;
    block->view = (we_view){.dtype = dtype, .rank = rank, .data = block->elements};
    if (rank)
        memcpy(block->view.dims, dims, (size_t)rank * sizeof *dims);
    atomic_fetch_add_explicit(&live_blocks, 1, memory_order_relaxed);
    *out = block;
    return WE_OK;
}

we_status we_block_new(we_dtype dtype, int32_t rank, const int64_t *dims, we_block **out, we_error *err) {
    return new_block(true, dtype, rank, dims, out, err);
}

we_status we_block_new_dirty(we_dtype dtype, int32_t rank, const int64_t *dims, we_block **out,
                             we_error *err) {
    return new_block(false, dtype, rank, dims, out, err);
}

we_block *we_block_retain(we_block *block) {
    atomic_fetch_add_explicit(&block->references, 1, memory_order_relaxed);
    return block;
}

void we_block_release(we_block *block) {
    if (!block || atomic_fetch_sub_explicit(&block->references, 1, memory_order_acq_rel) != 1)
        return;
    we_memory_free(block->texts);
    we_memory_free(keep_spare(block));
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
