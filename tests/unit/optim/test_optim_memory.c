/* Allocations: counted, failing one by one, and none in a step. */
#include "unit/allocations.h"
#include "unit/dist/thread_ranks.h"
#include "unit/optim/optim_fixture.h"

static void test_failing(void)
{
	allocations c = {.left = 0};
	const muon_allocator allocator = allocations_counted(&c);
	muon_options options = MUON_OPTIONS_INIT;
	options.statistics = MUON_STATISTICS_ORTHOGONALITY | MUON_STATISTICS_REACH;
	optim_fixture f;
	muon_optimizer *o = NULL;
	int code = MUON_E_MEMORY, failures = 0;
	fixture_start(&f, 1);
	fixture_add_all_kinds(&f);
	for (int k = 0; code && k < 500; k++) {
		muon_error err = {0};
		c.left = k;
		muon_set_allocator(&allocator);
		code = muon_optimizer_create(&o, &options, f.parameters, f.count, &err);
		muon_set_allocator(NULL);
		CU_ASSERT(code == MUON_OK || code == MUON_E_MEMORY);
		CU_ASSERT_EQUAL(err.code, code);
		CU_ASSERT_EQUAL(o == NULL, code != MUON_OK);
		failures += code != MUON_OK;
	}
	CU_ASSERT_EQUAL(code, MUON_OK);
	CU_ASSERT(failures > 15);
	muon_optimizer_destroy(&o);
	fixture_end(&f);
}

/* What can't be allocated later leaves the optimizer as it was. */
static void test_failing_later(void)
{
	allocations c = {.left = 0};
	const muon_allocator allocator = allocations_counted(&c);
	const muon_options options = MUON_OPTIONS_INIT;
	optim_fixture f;
	saved_state before = {.fail_at = -1}, after = before;
	muon_statistics s;
	fixture_start(&f, 1);
	fixture_add_all_kinds(&f);
	muon_optimizer *o = fixture_optimizer(&f, &options);
	fixture_run(&f, o, 1, 0.1);
	CU_ASSERT_EQUAL(muon_optimizer_save(o, saved_state_put, &before, NULL), MUON_OK);
	muon_set_allocator(&allocator);
	CU_ASSERT_EQUAL(muon_optimizer_load(o, saved_state_get, &before, 7, NULL), MUON_E_MEMORY);
	CU_ASSERT_EQUAL(muon_optimizer_set_statistics(o, MUON_STATISTICS_REACH, NULL),
			MUON_E_MEMORY);
	muon_set_allocator(NULL);
	CU_ASSERT_EQUAL(muon_optimizer_steps(o), 1);
	CU_ASSERT_EQUAL(muon_optimizer_save(o, saved_state_put, &after, NULL), MUON_OK);
	CU_ASSERT(!memcmp(before.bytes, after.bytes, before.used));
	fixture_run(&f, o, 1, 0.1);
	CU_ASSERT_EQUAL(muon_optimizer_statistics(o, 1, &s), MUON_OK);
	CU_ASSERT(isnan(s.below_reach));
	saved_state_release(&before);
	saved_state_release(&after);
	muon_optimizer_destroy(&o);
	fixture_end(&f);
}

static void count_in_steps(int threads, unsigned statistics)
{
	allocations c = ALLOCATIONS_INIT;
	const muon_allocator allocator = allocations_counted(&c);
	muon_options options = MUON_OPTIONS_INIT;
	options.threads = threads;
	options.statistics = statistics;
	optim_fixture f;
	fixture_start(&f, 1);
	fixture_add_all_kinds(&f);
	FIXTURE_ADD(&f, "large", MUON_F32, 300, 260); /* gets all threads */
	muon_optimizer *o = fixture_optimizer(&f, &options);
	fixture_draw_gradients(&f, 1);
	muon_set_allocator(&allocator);
	for (int i = 0; i < 2; i++)
		CU_ASSERT_EQUAL(muon_optimizer_step(o, 0.1, NULL), MUON_OK);
	muon_set_allocator(NULL);
	CU_ASSERT_EQUAL(c.calls, 0);
	muon_optimizer_destroy(&o);
	fixture_end(&f);
}

static void test_none_in_steps(void)
{
	count_in_steps(1, 0);
	count_in_steps(3, 0);
	count_in_steps(2, MUON_STATISTICS_ORTHOGONALITY | MUON_STATISTICS_REACH);
}

/* ---- with ranks ----------------------------------------------------------------------------- */

typedef struct ranks {
	optim_fixture fixtures[3];
	atomic_int *calls;
	atomic_int in_steps;
	int codes[3];
	bool only_create;
} ranks;

static int run_rank(muon_comm *comm, void *context, muon_error *err)
{
	ranks *r = context;
	const int rank = muon_comm_rank(comm);
	muon_options options = MUON_OPTIONS_INIT;
	options.threads = 1;
	const muon_distributed_options distributed = {.gather_dtype = MUON_F32};
	optim_fixture *f = &r->fixtures[rank];
	muon_optimizer *o;
	int code = r->codes[rank] = muon_optimizer_create_distributed(
	    &o, &options, f->parameters, f->count, comm, &distributed, err);
	if (!code && !r->only_create) {
		code = muon_comm_barrier(comm, err);
		const int before = *r->calls;
		for (int i = 0; !code && i < 2; i++)
			code = muon_optimizer_step(o, 0.1, err);
		if (!code)
			code = muon_comm_barrier(comm, err);
		r->in_steps += *r->calls - before;
	}
	muon_optimizer_destroy(&o);
	return r->only_create ? MUON_OK : code;
}

static void start_fixtures(ranks *r)
{
	for (int i = 0; i < 3; i++) {
		fixture_start(&r->fixtures[i], 1);
		fixture_add_all_kinds(&r->fixtures[i]);
	}
}

static void end_fixtures(ranks *r)
{
	for (int i = 0; i < 3; i++)
		fixture_end(&r->fixtures[i]);
}

static void test_none_in_distributed_steps(void)
{
	allocations c = ALLOCATIONS_INIT;
	const muon_allocator allocator = allocations_counted(&c);
	ranks r = {.calls = &c.calls};
	start_fixtures(&r);
	muon_set_allocator(&allocator);
	CU_ASSERT_EQUAL(thread_ranks_run(3, run_rank, &r, NULL), MUON_OK);
	muon_set_allocator(NULL);
	CU_ASSERT_EQUAL(r.in_steps, 0);
	end_fixtures(&r);
}

/* Whichever rank is out of memory, all leave creation with an error, and none waits for ever. */
static void test_failing_ranks(void)
{
	allocations c = {.left = 0};
	const muon_allocator allocator = allocations_counted(&c);
	ranks r = {.calls = &c.calls, .only_create = true};
	int done = 0;
	start_fixtures(&r);
	for (int k = 30; !done && k < 2000; k += 7) {
		c.left = k;
		muon_set_allocator(&allocator);
		thread_ranks_run(3, run_rank, &r, NULL);
		muon_set_allocator(NULL);
		for (int i = 1; i < 3; i++)
			CU_ASSERT_EQUAL(r.codes[i] == MUON_OK, r.codes[0] == MUON_OK);
		done = c.left >= 0;
	}
	CU_ASSERT(done);
	end_fixtures(&r);
}

/* ---- room ----------------------------------------------------------------------------------- */

/* Largest block that an optimizer over `count` equal matrices asks for, beside its state. */
static size_t room_for(int64_t experts)
{
	allocations c = ALLOCATIONS_INIT;
	const muon_allocator allocator = allocations_counted(&c);
	muon_options options = MUON_OPTIONS_INIT;
	options.threads = 2;
	optim_fixture f;
	muon_optimizer *o;
	fixture_start(&f, 1);
	FIXTURE_ADD(&f, "w", MUON_F32, experts, 40, 50);
	muon_set_allocator(&allocator);
	CU_ASSERT_EQUAL(muon_optimizer_create(&o, &options, f.parameters, 1, NULL), MUON_OK);
	muon_set_allocator(NULL);
	const size_t state = muon_optimizer_state_bytes(o);
	CU_ASSERT_EQUAL(state, (size_t)experts * 40 * 50 * 4); /* half of AdamW's */
	muon_optimizer_destroy(&o);
	fixture_end(&f);
	CU_ASSERT(c.largest < state + 100); /* of which one is the state itself */
	return (size_t)c.calls;
}

/* Allocations don't grow with the number of matrices: workspaces are the threads'. */
static void test_room(void)
{
	const size_t few = room_for(10), many = room_for(50);
	CU_ASSERT_EQUAL(few, many);
}

UNIT_SUITE(optim_memory, {"failing", test_failing}, {"failing later", test_failing_later},
	   {"none in steps", test_none_in_steps},
	   {"none in distributed steps", test_none_in_distributed_steps},
	   {"failing ranks", test_failing_ranks}, {"room", test_room})
