#include "unit/optim/optim_fixture.h"

static void fill(optim_fixture *f)
{
	fixture_start(f, 21);
	fixture_add_all_kinds(f);
	FIXTURE_ADD(f, "large", MUON_F32, 330, 280); /* alone, with all threads */
	FIXTURE_ADD(f, "stack", MUON_F32, 5, 40, 30);
	FIXTURE_ADD(f, "long", MUON_F32, 150001);
}

static unsigned char *run(int threads, size_t *count, muon_statistics *statistics)
{
	muon_options options = MUON_OPTIONS_INIT;
	options.threads = threads;
	options.statistics = MUON_STATISTICS_ORTHOGONALITY | MUON_STATISTICS_REACH;
	optim_fixture f;
	fill(&f);
	muon_optimizer *o = fixture_optimizer(&f, &options);
	fixture_run(&f, o, 2, 0.02);
	for (size_t k = 0; k < f.count; k++)
		muon_optimizer_statistics(o, k, &statistics[k]);
	unsigned char *bytes = fixture_bytes(&f, count);
	muon_optimizer_destroy(&o);
	fixture_end(&f);
	return bytes;
}

/* Values and statistics, bit for bit. */
static void test_same_bits(void)
{
	muon_statistics one[FIXTURE_MOST], many[FIXTURE_MOST];
	size_t n, m;
	memset(one, 0, sizeof one);
	unsigned char *a = run(1, &n, one);
	for (int threads = 2; threads <= 5; threads += 3) {
		memset(many, 0, sizeof many);
		unsigned char *b = run(threads, &m, many);
		CU_ASSERT_EQUAL_FATAL(n, m);
		CU_ASSERT(!memcmp(a, b, n));
		CU_ASSERT(!memcmp(one, many, sizeof one));
		muon_free(b);
	}
	muon_free(a);
}

/* Phases are measured, and add up to no more than the whole. */
static void test_seconds(void)
{
	const muon_options options = MUON_OPTIONS_INIT;
	optim_fixture f;
	muon_step_seconds s;
	fill(&f);
	muon_optimizer *o = fixture_optimizer(&f, &options);
	muon_optimizer_seconds(o, &s);
	CU_ASSERT_EQUAL(s.total, 0);
	fixture_run(&f, o, 1, 0.02);
	muon_optimizer_seconds(o, &s);
	CU_ASSERT(s.check > 0 && s.momentum > 0 && s.newton_schulz > 0 && s.update > 0);
	const double sum =
	    s.check + s.reduce + s.momentum + s.gather + s.newton_schulz + s.update + s.all_gather;
	CU_ASSERT(sum <= s.total * (1 + 1e-9));
	muon_optimizer_destroy(&o);
	fixture_end(&f);
}

UNIT_SUITE(optim_threads, {"same bits", test_same_bits}, {"seconds", test_seconds})
