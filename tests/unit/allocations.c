#include "unit/allocations.h"

#include <stdlib.h>

static void *counted_resize(void *state, void *block, size_t bytes)
{
	allocations *a = state;
	a->calls++;
	if (bytes > a->largest)
		a->largest = bytes;
	if (a->left-- <= 0)
		return NULL;
	a->blocks += !block;
	return realloc(block, bytes);
}

static void counted_release(void *state, void *block)
{
	allocations *a = state;
	a->blocks -= !!block;
	free(block);
}

muon_allocator allocations_counted(allocations *counts)
{
	return (muon_allocator){counted_resize, counted_release, counts};
}
