/* Allocation through the hook of muon_set_allocator, and arenas for temporaries. */
#ifndef MUON_BASE_MEMORY_H
#define MUON_BASE_MEMORY_H

#include <muon/error.h>
#include <stdint.h>

/* `count` elements of `size` bytes, zeroed; NULL when out of memory or the product overflows. */
void *muon_alloc(size_t count, size_t size);
/* Grow or shrink; the old block stays valid when NULL is returned. */
void *muon_resize(void *block, size_t count, size_t size);
/* NULL-safe. */
void muon_free(void *block);

/* `count` elements of `size` bytes, not zeroed, on a 64-byte boundary, for matrices. Large blocks
 * come from the kernel and go back to it. Release with muon_free_aligned. */
void *muon_alloc_aligned(size_t count, size_t size);
void muon_free_aligned(void *block);

/* Many small blocks released together. Zero-initialise. */
typedef struct muon_arena {
	struct muon_arena_chunk *chunks;
} muon_arena;

/* Zeroed memory that lives until the arena is released; NULL when out of memory. */
void *muon_arena_alloc(muon_arena *arena, size_t count, size_t size);
char *muon_arena_string(muon_arena *arena, const char *text);
char *muon_arena_format(muon_arena *arena, const char *format, ...) MUON_PRINTF(2, 3);
void muon_arena_release(muon_arena *arena);

#endif
