/* Every allocation of the engine goes through here: one seam for quotas and for fault injection.
 * An arena owns many small pieces with one lifetime; freeing it frees them all. */
#ifndef WE_BASE_MEMORY_H
#define WE_BASE_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    WE_ALIGNMENT = 64, /* bytes: a cache line and the widest vector */
};

void *we_memory_new(size_t size);       /* zeroed, WE_ALIGNMENT-aligned; NULL when out of memory */
void *we_memory_new_dirty(size_t size); /* the same, contents undefined */
void we_memory_free(void *memory);

/* Memory that the process keeps between users: whoever had it pays no more from `disown` on, and the next one
 * pays from `adopt` on, which may be refused. What nobody pays for is freed by `free_unowned`. */
void we_memory_disown(void *memory);
bool we_memory_adopt(void *memory);
void we_memory_free_unowned(void *memory);

/* Let go of the pages that lie wholly in part of a mapped file; they come back from it when read. */
void we_memory_forget(const void *bytes, size_t size);

/* Fail the allocation `countdown` calls from now and all after it; negative: never. For fault tests only. */
void we_memory_fail_after(int64_t countdown);

/* Make room for one more element of `size` bytes in a growing array; false when out of memory. */
bool we_memory_grow(void **items, size_t *capacity, size_t count, size_t size);

typedef struct we_arena_chunk we_arena_chunk;
typedef struct we_arena {
    we_arena_chunk *chunks;
} we_arena;

void *we_arena_new(we_arena *arena, size_t size); /* zeroed, 16-byte aligned */
void *we_arena_copy(we_arena *arena, const void *bytes, size_t size);
char *we_arena_text(we_arena *arena, const char *text, size_t length); /* adds the NUL */
void we_arena_free(we_arena *arena);

#endif
