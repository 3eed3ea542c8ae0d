#include "unit/unit.h"

#include <muon/optim.h>

static void test_warmup(void)
{
	const muon_schedule s = {
	    .kind = MUON_SCHEDULE_CONSTANT, .lr = 0.5, .steps = 20, .warmup_steps = 4};
	CU_ASSERT_EQUAL(muon_schedule_lr(&s, 0), 0.125);
	CU_ASSERT_EQUAL(muon_schedule_lr(&s, 2), 0.375);
	CU_ASSERT_EQUAL(muon_schedule_lr(&s, 3), 0.5);
	CU_ASSERT_EQUAL(muon_schedule_lr(&s, 4), 0.5);
	CU_ASSERT_EQUAL(muon_schedule_lr(&s, 1000), 0.5);
	CU_ASSERT_EQUAL(muon_schedule_lr(&s, -1), 0.125);
}

static void test_cosine(void)
{
	const muon_schedule s = {.kind = MUON_SCHEDULE_COSINE,
				 .lr = 1,
				 .final_lr = 0.1,
				 .steps = 110,
				 .warmup_steps = 10};
	CU_ASSERT_EQUAL(muon_schedule_lr(&s, 9), 1);
	CU_ASSERT_EQUAL(muon_schedule_lr(&s, 10), 1);
	UNIT_CLOSE(muon_schedule_lr(&s, 35), 0.1 + 0.9 * (1 + 0.70710678118654752) / 2, 1e-14);
	UNIT_CLOSE(muon_schedule_lr(&s, 60), 0.55, 1e-14);
	for (int64_t i = 11; i < 110; i++)
		CU_ASSERT(muon_schedule_lr(&s, i) < muon_schedule_lr(&s, i - 1));
	CU_ASSERT(muon_schedule_lr(&s, 109) > 0.1);
	UNIT_CLOSE(muon_schedule_lr(&s, 110), 0.1, 1e-14);
	UNIT_CLOSE(muon_schedule_lr(&s, 500), 0.1, 1e-14);
}

static void test_warmup_stable_decay(void)
{
	const muon_schedule s = {.kind = MUON_SCHEDULE_WSD,
				 .lr = 2,
				 .steps = 100,
				 .warmup_steps = 10,
				 .decay_steps = 20};
	CU_ASSERT_EQUAL(muon_schedule_lr(&s, 10), 2);
	CU_ASSERT_EQUAL(muon_schedule_lr(&s, 80), 2);
	UNIT_CLOSE(muon_schedule_lr(&s, 81), 1.9, 1e-14);
	UNIT_CLOSE(muon_schedule_lr(&s, 90), 1, 1e-14);
	UNIT_CLOSE(muon_schedule_lr(&s, 99), 0.1, 1e-13);
	CU_ASSERT_EQUAL(muon_schedule_lr(&s, 100), 0);
}

/* A schedule of nothing but warm-up, and one whose decay is as long as the run. */
static void test_edges(void)
{
	muon_schedule s = {
	    .kind = MUON_SCHEDULE_COSINE, .lr = 1, .final_lr = 0, .steps = 5, .warmup_steps = 5};
	CU_ASSERT_EQUAL(muon_schedule_lr(&s, 4), 1);
	CU_ASSERT_EQUAL(muon_schedule_lr(&s, 5), 1);
	s = (muon_schedule){.kind = MUON_SCHEDULE_WSD, .lr = 1, .steps = 4, .decay_steps = 4};
	CU_ASSERT_EQUAL(muon_schedule_lr(&s, 0), 1);
	UNIT_CLOSE(muon_schedule_lr(&s, 3), 0.25, 1e-15);
}

UNIT_SUITE(schedule, {"warm-up", test_warmup}, {"cosine", test_cosine},
	   {"warm-up, stable, decay", test_warmup_stable_decay}, {"edges", test_edges})
