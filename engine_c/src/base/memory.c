#include "base/memory.h"

#include <malloc.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <walle/engine.h>

static const we_memory_account *_Atomic account;

void we_memory_set_account(const we_memory_account *payer) {
    atomic_store(&account, payer);
}

static const we_memory_account *payer(void) {
    return atomic_load_explicit(&account, memory_order_acquire);
}

static _Atomic int64_t fail_countdown = -1;

void we_memory_fail_after(int64_t countdown) {
    atomic_store(&fail_countdown, countdown);
}

enum {
    HUGE_PAGE = 2 << 20,
};

static bool must_fail(void) {
    int64_t left = atomic_load_explicit(&fail_countdown, memory_order_relaxed);
    if (left < 0)
        return false;
    if (left == 0)
        return true;
    atomic_store_explicit(&fail_countdown, left - 1, memory_order_relaxed);
    return false;
}

/* `size` is a positive multiple of WE_ALIGNMENT. */
static void *take_aligned(size_t size) {
    if (size < HUGE_PAGE)
        return aligned_alloc(WE_ALIGNMENT, size);
    /* Weights and activations are walked in strides of whole rows: with pages of 2 MiB they miss the TLB
     * less. */
    void *memory;
    if (posix_memalign(&memory, HUGE_PAGE, size) != 0)
        return NULL;
    madvise(memory, size / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE); /* a wish: it may be refused */
    return memory;
}

void *we_memory_new_dirty(size_t size) {
    if (size > SIZE_MAX / 2 || must_fail())
        return NULL;
    size = size ? (size + WE_ALIGNMENT - 1) / WE_ALIGNMENT * WE_ALIGNMENT : WE_ALIGNMENT;
    const we_memory_account *by = payer();
    if (!by)
        return take_aligned(size);
    void *memory = by->allows(size) ? take_aligned(size) : NULL;
    if (memory)
        by->charge((int64_t)malloc_usable_size(memory));
    return memory;
}

void we_memory_forget(const void *bytes, size_t size) {
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t begin = ((uintptr_t)bytes + page - 1) / page * page,
              end = ((uintptr_t)bytes + size) / page * page;
    if (begin < end)
        madvise((void *)begin, end - begin, MADV_DONTNEED);
}

void *we_memory_new(size_t size) {
    void *memory = we_memory_new_dirty(size);
    if (memory)
        memset(memory, 0, size);
    return memory;
}

void we_memory_free(void *memory) {
    if (memory)
        we_memory_disown(memory);
    free(memory);
}

void we_memory_disown(void *memory) {
    const we_memory_account *by = payer();
    if (by)
        by->charge(-(int64_t)malloc_usable_size(memory));
}

bool we_memory_adopt(void *memory) {
    const we_memory_account *by = payer();
    if (!by)
        return true;
    size_t size = malloc_usable_size(memory);
    if (!by->allows(size))
        return false;
    by->charge((int64_t)size);
    return true;
}

void we_memory_free_unowned(void *memory) {
    free(memory);
}

bool we_memory_grow(void **items, size_t *capacity, size_t count, size_t size) {
    if (count < *capacity)
        return true;
    size_t wanted = *capacity ? *capacity * 2 : 16;
    if (wanted > SIZE_MAX / 2 / size)
        return false;
    void *bigger = we_memory_new_dirty(wanted * size);
    if (!bigger)
        return false;
    if (count)
        memcpy(bigger, *items, count * size);
    memset((char *)bigger + count * size, 0, (wanted - count) * size);
    we_memory_free(*items);
    *items = bigger;
    *capacity = wanted;
    return true;
}

enum {
    CHUNK_SIZE = 16 * 1024,
    ARENA_ALIGNMENT = 16, /* of small pieces; large ones begin a chunk */
};

struct we_arena_chunk {
    we_arena_chunk *next;
    size_t used, size;
    _Alignas(WE_ALIGNMENT) unsigned char bytes[];
};

void *we_arena_new(we_arena *arena, size_t size) {
    if (size > SIZE_MAX / 4)
        return NULL;
    size = (size + ARENA_ALIGNMENT - 1) / ARENA_ALIGNMENT * ARENA_ALIGNMENT;
    we_arena_chunk *chunk = arena->chunks;
    if (!chunk || chunk->size - chunk->used < size) {
        size_t room = size > CHUNK_SIZE ? size : CHUNK_SIZE;
        chunk = we_memory_new(sizeof *chunk + room);
        if (!chunk)
            return NULL;
        chunk->size = room;
        chunk->next = arena->chunks;
        arena->chunks = chunk;
    }
    void *piece = chunk->bytes + chunk->used;
    chunk->used += size;
    return piece;
}

void *we_arena_copy(we_arena *arena, const void *bytes, size_t size) {
    void *copy = we_arena_new(arena, size);
    if (copy && size)
        memcpy(copy, bytes, size);
    return copy;
}

char *we_arena_text(we_arena *arena, const char *text, size_t length) {
    char *copy = we_arena_new(arena, length + 1);
    if (copy && length)
        memcpy(copy, text, length);
    return copy;
}

void we_arena_free(we_arena *arena) {
    while (arena->chunks) {
        we_arena_chunk *next = arena->chunks->next;
        we_memory_free(arena->chunks);
        arena->chunks = next;
    }
}
