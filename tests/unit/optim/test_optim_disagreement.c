/* Ranks that call the same function with different arguments: all get an error, nobody waits for
 * ever, and all can go on as if nothing had been. */
#include "unit/dist/thread_ranks.h"
#include "unit/optim/optim_fixture.h"

#include <stdlib.h>

enum { RANKS = 3, ODD = 1, STEPS = 3 };

typedef struct call_case {
	const char *name;
	int code; /* of the rank that is odd; MUON_E_ARGUMENT where no rank is wrong alone */
	const char *message; /* its own */
} call_case;

static const call_case cases[] = {
    {"lr", MUON_E_ARGUMENT, "differ in the learning rate"},
    {"lr NaN", MUON_E_ARGUMENT, "learning rate nan"},
    {"steps", MUON_E_ARGUMENT, "differ in the number of steps"},
    {"negative steps", MUON_E_ARGUMENT, "-1 steps"},
    {"statistics", MUON_E_ARGUMENT, "differ in the statistics"},
    {"unknown statistics", MUON_E_USAGE, "unknown statistics"},
    {"threshold", MUON_E_ARGUMENT, "differ in what is to be clipped"},
    {"alpha", MUON_E_ARGUMENT, "alpha 2"},
    {"layer", MUON_E_ARGUMENT, "differ in what is to be clipped"},
    {"no logits", MUON_E_USAGE, "max_logits is NULL"},
};

typedef struct run {
	optim_fixture fixtures[RANKS];
	const char *name; /* of the case; NULL: no rank is odd */
	saved_state saved;
	int codes[RANKS];
	muon_error errors[RANKS];
} run;

static int call(muon_optimizer *o, const char *name, bool is_odd, saved_state *saved,
		muon_error *err)
{
	const bool odd_steps = is_odd && strstr(name, "steps");
	const double logits[] = {250, 50};
	const muon_qk_layer two = {0, 1, 2, 2, 3, 0, 0}, one = {0, 1, 1, 1, 6, 0, 0};
	if (!strncmp(name, "lr", 2))
		return muon_optimizer_step(o, !is_odd ? 0.1 : strstr(name, "NaN") ? NAN : 0.2, err);
	if (strstr(name, "statistics"))
		return muon_optimizer_set_statistics(o, !is_odd ? 3u : *name == 'u' ? 8u : 1u, err);
	if (strstr(name, "steps"))
		return muon_optimizer_load(o, saved_state_get, saved,
					   !odd_steps     ? 1
					   : *name == 'n' ? -1
							  : 2,
					   err);
	return muon_optimizer_qk_clip(o, is_odd && !strcmp(name, "layer") ? &one : &two,
				      is_odd && !strcmp(name, "no logits") ? NULL : logits,
				      is_odd && !strcmp(name, "threshold") ? 90 : 100,
				      is_odd && !strcmp(name, "alpha") ? 2 : 0.5, NULL, err);
}

static int run_rank(muon_comm *comm, void *context, muon_error *err)
{
	run *r = context;
	const int rank = muon_comm_rank(comm);
	optim_fixture *f = &r->fixtures[rank];
	muon_options options = MUON_OPTIONS_INIT;
	muon_optimizer *o;
	options.threads = 1;
	int code = muon_optimizer_create_distributed(&o, &options, f->parameters, f->count, comm,
						     NULL, err);
	for (int t = 0; !code && t < STEPS; t++) {
		if (t == 1 && r->name)
			r->codes[rank] = call(o, r->name, rank == ODD, &r->saved, &r->errors[rank]);
		code = muon_optimizer_step(o, 0.1, err);
	}
	if (!code)
		code = muon_optimizer_save(o, saved_state_put, &r->saved, err);
	muon_optimizer_destroy(&o);
	return code;
}

static run *start_run(const char *name)
{
	run *r = calloc(1, sizeof *r);
	CU_ASSERT_PTR_NOT_NULL_FATAL(r);
	r->name = name;
	r->saved.fail_at = -1;
	for (int i = 0; i < RANKS; i++) {
		fixture_start(&r->fixtures[i], 5);
		FIXTURE_ADD(&r->fixtures[i], "q", MUON_F32, 6, 5);
		FIXTURE_ADD(&r->fixtures[i], "k", MUON_F32, 6, 5);
		FIXTURE_ADD(&r->fixtures[i], "norm", MUON_BF16, 7);
	}
	CU_ASSERT_EQUAL(thread_ranks_run(RANKS, run_rank, r, NULL), MUON_OK);
	return r;
}

static void end_run(run *r)
{
	for (int i = 0; i < RANKS; i++)
		fixture_end(&r->fixtures[i]);
	saved_state_release(&r->saved);
	free(r);
}

static void check_same(const run *a, const run *b)
{
	CU_ASSERT_EQUAL_FATAL(a->saved.used, b->saved.used);
	CU_ASSERT(!memcmp(a->saved.bytes, b->saved.bytes, a->saved.used));
	for (int i = 0; i < RANKS; i++) {
		size_t count;
		unsigned char *x = fixture_bytes(&a->fixtures[i], &count);
		unsigned char *y = fixture_bytes(&b->fixtures[i], &count);
		CU_ASSERT(!memcmp(x, y, count));
		muon_free(x);
		muon_free(y);
	}
}

static void test_refused(void)
{
	run *good = start_run(NULL);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		run *r = start_run(cases[i].name);
		for (int k = 0; k < RANKS; k++)
			CU_ASSERT_EQUAL(r->codes[k], cases[i].code);
		if (!strstr(r->errors[ODD].message, cases[i].message))
			printf("%s: '%s'\n", cases[i].name, r->errors[ODD].message);
		CU_ASSERT_PTR_NOT_NULL(strstr(r->errors[ODD].message, cases[i].message));
		CU_ASSERT(r->errors[0].message[0] != 0);
		check_same(good, r);
		end_run(r);
	}
	end_run(good);
}

/* ---- callbacks that are missing, or fail, on rank 0 ------------------------------------------ */

static int fail_saving(muon_comm *comm, void *context, muon_error *err)
{
	run *r = context;
	const int rank = muon_comm_rank(comm);
	optim_fixture *f = &r->fixtures[rank];
	const muon_options options = MUON_OPTIONS_INIT;
	saved_state failing = {.fail_at = 2};
	muon_optimizer *o;
	int code = muon_optimizer_create_distributed(&o, &options, f->parameters, f->count, comm,
						     NULL, err);
	if (code)
		return code;
	const int codes[] = {
	    muon_optimizer_save(o, NULL, NULL, &r->errors[rank]),
	    muon_optimizer_load(o, NULL, NULL, 1, NULL),
	    muon_optimizer_save(o, saved_state_put, &failing, NULL),
	    muon_optimizer_save(o, rank ? NULL : saved_state_put, &r->saved, NULL),
	};
	const int expected[] = {MUON_E_USAGE, MUON_E_USAGE, MUON_E_WRITE, MUON_OK};
	r->codes[rank] = memcmp(codes, expected, sizeof codes);
	saved_state_release(&failing);
	code = muon_optimizer_step(o, 0.1, err);
	muon_statistics before, after;
	muon_optimizer_statistics(o, 0, &before);
	r->saved.tensors = 0;
	if (!code)
		code = muon_optimizer_load(o, saved_state_get, &r->saved, 1, err);
	muon_optimizer_statistics(o, 0, &after); /* there has been no step since */
	r->codes[rank] |= isnan(before.update_rms) || !isnan(after.update_rms);
	muon_optimizer_destroy(&o);
	return code;
}

static void test_callbacks(void)
{
	run *r = start_run(NULL);
	saved_state_release(&r->saved);
	r->saved = (saved_state){.fail_at = -1};
	memset(r->codes, -1, sizeof r->codes);
	CU_ASSERT_EQUAL(thread_ranks_run(RANKS, fail_saving, r, NULL), MUON_OK);
	for (int i = 0; i < RANKS; i++)
		CU_ASSERT_EQUAL(r->codes[i], 0);
	CU_ASSERT_PTR_NOT_NULL(strstr(r->errors[0].message, "`put` is NULL"));
	end_run(r);
}

/* ---- one rank has no memory for statistics --------------------------------------------------- */

static _Thread_local bool has_no_memory;

static void *resize(void *state, void *block, size_t bytes)
{
	(void)state;
	return has_no_memory ? NULL : realloc(block, bytes);
}

static void release(void *state, void *block)
{
	(void)state;
	free(block);
}

/* What fails on one rank leaves all with the statistics, and the room, that they had; less is
 * always possible. */
static int change_statistics(muon_comm *comm, void *context, muon_error *err)
{
	run *r = context;
	const int rank = muon_comm_rank(comm);
	optim_fixture *f = &r->fixtures[rank];
	const muon_options options = MUON_OPTIONS_INIT;
	muon_optimizer *o;
	muon_statistics reported = {0};
	int code = muon_optimizer_create_distributed(&o, &options, f->parameters, f->count, comm,
						     NULL, err);
	if (code)
		return code;
	has_no_memory = rank == ODD;
	const int grown = muon_optimizer_set_statistics(o, MUON_STATISTICS_REACH, NULL);
	has_no_memory = false;
	code = muon_optimizer_step(o, 0.1, err);
	muon_optimizer_statistics(o, 0, &reported);
	const bool none = isnan(reported.below_reach);
	if (!code)
		code = muon_optimizer_set_statistics(o, MUON_STATISTICS_REACH, err);
	has_no_memory = rank == ODD;
	const int shrunk = muon_optimizer_set_statistics(o, 0, NULL);
	has_no_memory = false;
	r->codes[rank] = grown != MUON_E_MEMORY || !none || shrunk;
	if (!code)
		code = muon_optimizer_step(o, 0.1, err);
	muon_optimizer_destroy(&o);
	return code;
}

static void test_statistics(void)
{
	static const muon_allocator allocator = {resize, release, NULL};
	run *r = start_run(NULL);
	memset(r->codes, -1, sizeof r->codes);
	muon_set_allocator(&allocator);
	CU_ASSERT_EQUAL(thread_ranks_run(RANKS, change_statistics, r, NULL), MUON_OK);
	muon_set_allocator(NULL);
	for (int i = 0; i < RANKS; i++)
		CU_ASSERT_EQUAL(r->codes[i], 0);
	end_run(r);
}

UNIT_SUITE(optim_disagreement, {"refused", test_refused}, {"callbacks", test_callbacks},
	   {"statistics", test_statistics})
