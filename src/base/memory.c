#define _DEFAULT_SOURCE /* madvise */
#include "base/memory.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

void *muon_resize(void *block, size_t count, size_t size)
{
	if (size && count > SIZE_MAX / size)
		return NULL;
	size_t bytes = count * size;
	const muon_allocator hook = muon_get_allocator();
	return hook.resize(hook.state, block, bytes ? bytes : 1);
}

void *muon_alloc(size_t count, size_t size)
{
	void *block = muon_resize(NULL, count, size);
	if (block)
		memset(block, 0, count * size);
	return block;
}

void muon_free(void *block)
{
	const muon_allocator hook = muon_get_allocator();
	hook.release(hook.state, block);
}

/* Ask for large pages, where the system gives them to those who ask: columns of a large matrix
 * are a page apart from entry to entry. */
static void use_large_pages(char *block, size_t bytes)
{
#ifdef MADV_HUGEPAGE
	const size_t worthwhile = (size_t)4 << 20, page = (size_t)sysconf(_SC_PAGESIZE);
	if (bytes < worthwhile)
		return;
	char *first = block + (page - (uintptr_t)block % page) % page;
	madvise(first, (size_t)(block + bytes - first) / page * page, MADV_HUGEPAGE);
#else
	(void)block, (void)bytes;
#endif
}

/* The hook promises no alignment beyond malloc's, so the start of the block is kept in front. */
void *muon_alloc_aligned(size_t count, size_t size)
{
	enum { ALIGNMENT = 64 };
	if (size && count > (SIZE_MAX - ALIGNMENT - sizeof(void *)) / size)
		return NULL;
	const size_t bytes = count * size + ALIGNMENT + sizeof(void *);
	char *block = muon_resize(NULL, bytes, 1);
	if (!block)
		return NULL;
	use_large_pages(block, bytes);
	uintptr_t start = ((uintptr_t)block + sizeof(void *) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
	memcpy((char *)start - sizeof(void *), &block, sizeof block);
	return (void *)start;
}

void muon_free_aligned(void *block)
{
	if (!block)
		return;
	void *start;
	memcpy(&start, (char *)block - sizeof start, sizeof start);
	muon_free(start);
}

typedef struct muon_arena_chunk {
	struct muon_arena_chunk *next;
	size_t used, capacity;
	max_align_t bytes[];
} muon_arena_chunk;

void *muon_arena_alloc(muon_arena *arena, size_t count, size_t size)
{
	enum { CHUNK = 16384 };
	if (size && count > (SIZE_MAX / 2) / size)
		return NULL;
	size_t unit = sizeof(max_align_t);
	size_t bytes = (count * size + unit - 1) / unit * unit;
	muon_arena_chunk *chunk = arena->chunks;
	if (!chunk || chunk->capacity - chunk->used < bytes) {
		size_t capacity = bytes > CHUNK ? bytes : CHUNK;
		chunk = muon_alloc(1, sizeof *chunk + capacity);
		if (!chunk)
			return NULL;
		chunk->capacity = capacity;
		chunk->next = arena->chunks;
		arena->chunks = chunk;
	}
	void *block = (char *)chunk->bytes + chunk->used;
	chunk->used += bytes;
	return block;
}

char *muon_arena_string(muon_arena *arena, const char *text)
{
	size_t length = strlen(text) + 1;
	char *copy = muon_arena_alloc(arena, length, 1);
	if (copy)
		memcpy(copy, text, length);
	return copy;
}

char *muon_arena_format(muon_arena *arena, const char *format, ...)
{
	va_list args, again;
	va_start(args, format);
	va_copy(again, args);
	int length = vsnprintf(NULL, 0, format, args);
	va_end(args);
	char *text = length < 0 ? NULL : muon_arena_alloc(arena, (size_t)length + 1, 1);
	if (text)
		vsnprintf(text, (size_t)length + 1, format, again);
	va_end(again);
	return text;
}

void muon_arena_release(muon_arena *arena)
{
	while (arena->chunks) {
		muon_arena_chunk *next = arena->chunks->next;
		muon_free(arena->chunks);
		arena->chunks = next;
	}
}
