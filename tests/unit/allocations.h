/* An allocator that counts, from any thread. */
#ifndef TESTS_UNIT_ALLOCATIONS_H
#define TESTS_UNIT_ALLOCATIONS_H

#include <muon/error.h>

#include <limits.h>
#include <stdatomic.h>

typedef struct allocations {
	atomic_int left;   /* so many succeed, then all fail */
	atomic_int calls;  /* of them that failed, too */
	atomic_int blocks; /* not released yet */
	atomic_size_t largest;
} allocations;

#define ALLOCATIONS_INIT {.left = INT_MAX}

/* For muon_set_allocator. */
muon_allocator allocations_counted(allocations *counts);

#endif
