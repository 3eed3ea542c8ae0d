#include "base/pool.h"
#include "unit/unit.h"

#include <stdatomic.h>

typedef struct pool_test {
	atomic_int runs[1000];
	atomic_int worst_worker;
	size_t stop_at;
} pool_test;

static bool count_run(void *state, size_t task, int worker)
{
	pool_test *t = state;
	t->runs[task]++;
	if (worker > t->worst_worker)
		t->worst_worker = worker;
	return task != t->stop_at;
}

static void test_every_task_once(void)
{
	for (int threads = 1; threads <= 5; threads++) {
		pool_test t = {.stop_at = 5000};
		muon_pool_run(threads, 1000, count_run, &t);
		int wrong = 0;
		for (int i = 0; i < 1000; i++)
			wrong += t.runs[i] != 1;
		CU_ASSERT_EQUAL(wrong, 0);
		CU_ASSERT(t.worst_worker < threads);
	}
	muon_pool_run(3, 0, count_run, NULL);
}

static void test_stop(void)
{
	pool_test t = {.stop_at = 10};
	muon_pool_run(1, 1000, count_run, &t);
	CU_ASSERT_EQUAL(t.runs[10], 1);
	CU_ASSERT_EQUAL(t.runs[11], 0);
}

UNIT_SUITE(pool, {"every task once", test_every_task_once}, {"stop", test_stop})
