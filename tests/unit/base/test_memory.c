#include "base/memory.h"
#include "unit/unit.h"

#include <string.h>

static void test_overflow(void)
{
	CU_ASSERT_PTR_NULL(muon_alloc(SIZE_MAX / 2, 3));
	CU_ASSERT_PTR_NULL(muon_resize(NULL, SIZE_MAX, 2));
	CU_ASSERT_PTR_NULL(muon_alloc_aligned(SIZE_MAX, 1));
	muon_arena arena = {0};
	CU_ASSERT_PTR_NULL(muon_arena_alloc(&arena, SIZE_MAX, 8));
	muon_arena_release(&arena);
}

static void test_aligned(void)
{
	for (size_t bytes = 1; bytes < 5000; bytes += 613) {
		char *block = muon_alloc_aligned(bytes, 1);
		CU_ASSERT_PTR_NOT_NULL_FATAL(block);
		CU_ASSERT_EQUAL((uintptr_t)block % 64, 0);
		memset(block, 1, bytes);
		muon_free_aligned(block);
	}
	muon_free_aligned(NULL);
}

static void test_arena(void)
{
	muon_arena arena = {0};
	char *first = muon_arena_format(&arena, "%s-%d", "tensor", 7);
	for (size_t i = 1; i < 3000; i += 7) {
		unsigned char *block = muon_arena_alloc(&arena, i, 3);
		CU_ASSERT_PTR_NOT_NULL_FATAL(block);
		CU_ASSERT_EQUAL((uintptr_t)block % sizeof(void *), 0);
		for (size_t k = 0; k < 3 * i; k++)
			CU_ASSERT_EQUAL_FATAL(block[k], 0);
		memset(block, 0xff, 3 * i);
	}
	CU_ASSERT_STRING_EQUAL(first, "tensor-7");
	CU_ASSERT_STRING_EQUAL(muon_arena_string(&arena, "copy"), "copy");
	muon_arena_release(&arena);
	CU_ASSERT_PTR_NULL(arena.chunks);
}

static void test_hook(void)
{
	int left = 1;
	const muon_allocator failing = unit_failing_allocator(&left);
	muon_set_allocator(&failing);
	const muon_allocator kept = muon_get_allocator();
	CU_ASSERT_PTR_EQUAL(kept.resize, failing.resize);
	CU_ASSERT_PTR_EQUAL(kept.state, &left);
	void *block = muon_alloc(1, 8);
	CU_ASSERT_PTR_NOT_NULL(block);
	CU_ASSERT_PTR_NULL(muon_alloc(1, 8));
	CU_ASSERT_PTR_NULL(muon_alloc_aligned(1, 8));
	muon_free(block);
	muon_set_allocator(NULL);
	CU_ASSERT_PTR_NOT_EQUAL(muon_get_allocator().resize, failing.resize);
	muon_set_allocator(&kept); /* what was got is not changed by what is set */
	CU_ASSERT_PTR_EQUAL(muon_get_allocator().state, &left);
	muon_set_allocator(NULL);
	block = muon_alloc(1, 8);
	CU_ASSERT_PTR_NOT_NULL(block);
	muon_free(block);
}

UNIT_SUITE(memory, {"overflow", test_overflow}, {"aligned", test_aligned}, {"arena", test_arena},
           {"hook", test_hook})
