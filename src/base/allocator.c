/* The hook, alone in its file: libmuonspec.so has its own copy of base's other files, but both
 * libraries allocate through this one. */
#include <muon/error.h>

#include <stdlib.h>

static void *plain_resize(void *state, void *block, size_t bytes)
{
	(void)state;
	return realloc(block, bytes);
}

static void plain_release(void *state, void *block)
{
	(void)state;
	free(block);
}

static const muon_allocator plain = {plain_resize, plain_release, NULL};
static muon_allocator hook = {plain_resize, plain_release, NULL};

void muon_set_allocator(const muon_allocator *allocator)
{
	hook = allocator ? *allocator : plain;
}

muon_allocator muon_get_allocator(void)
{
	return hook;
}
