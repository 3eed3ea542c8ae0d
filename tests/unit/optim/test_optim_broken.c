/* Steps that end half-way, because an exchange between ranks fails or a rank leaves. */
#include "unit/dist/thread_ranks.h"
#include "unit/optim/optim_fixture.h"

#include "dist/communicator.h"

#include <limits.h>

enum { RANKS = 3, LEAVER = 1, ROOM = 4096, MOST_EXCHANGES = 200 };

/* A communicator whose exchange number `left` fails. */
typedef struct fuse {
	const muon_comm_backend *backend;
	void *state;
	int left; /* -1: it has failed */
} fuse;

static int fused_exchange(void *state, const muon_exchange *exchange, muon_error *err)
{
	fuse *f = state;
	if (f->left-- == 0)
		return muon_fail(err, MUON_E_COMMUNICATION, NULL, "as told");
	return f->backend->exchange(f->state, exchange, err);
}

/* Broadcasts and barriers are not of a step. */
static const muon_comm_backend fused_backend = {"fused", fused_exchange, NULL, NULL, NULL, NULL};

static void light(fuse *f, muon_comm *comm, int exchanges)
{
	*f = (fuse){comm->backend, comm->state, exchanges};
	comm->backend = &fused_backend;
	comm->state = f;
}

static void put_out(const fuse *f, muon_comm *comm)
{
	comm->backend = f->backend;
	comm->state = f->state;
}

typedef struct broken_run {
	int fails_at; /* exchange of the second step */
	bool leaves;  /* LEAVER, when it fails; else it fails for all, and they go on */
	optim_fixture fixtures[RANKS];
	saved_state saved;
	char values[RANKS][ROOM];
	bool has_failed, was_refused, wrong[RANKS]; /* the first two as rank 0 saw it */
} broken_run;

/* Copy all values out of the fixture, or back. */
static void copy_values(optim_fixture *f, char *kept, bool back)
{
	for (size_t k = 0; k < f->count; k++) {
		const muon_parameter *p = &f->parameters[k];
		const size_t bytes = (size_t)fixture_elements(p) * muon_dtype_size(p->dtype);
		memcpy(back ? p->values : kept, back ? kept : p->values, bytes);
		kept += bytes;
	}
}

/* What was kept before the step is enough to do it once more. */
static int load_and_step(muon_optimizer *o, broken_run *r, int rank, muon_error *err)
{
	copy_values(&r->fixtures[rank], r->values[rank], true);
	int code = muon_optimizer_load(o, saved_state_get, &r->saved, 1, err);
	return code ? code : muon_optimizer_step(o, 0.1, err);
}

/* A step that failed has either changed nothing, and is simply repeated, or is refused. */
static int go_on(muon_optimizer *o, broken_run *r, int rank, muon_error *err)
{
	muon_error refusal = {0}, lost = {0};
	int code = muon_optimizer_step(o, 0.1, &refusal);
	if (!code)
		return MUON_OK;
	if (!rank)
		r->was_refused = true;
	r->wrong[rank] |= code != MUON_E_INTERNAL || !strstr(refusal.message, "half-way");
	r->wrong[rank] |= muon_optimizer_save(o, saved_state_put, &r->saved, &lost) !=
	                  MUON_E_INTERNAL;
	r->wrong[rank] |= !strstr(lost.message, "half-way");
	return load_and_step(o, r, rank, err);
}

/* Nothing works any more without the rank that has left; what is said is the first reason. */
static void try_alone(muon_optimizer *o, broken_run *r, int rank)
{
	muon_error refusal = {0};
	const bool wrong = muon_optimizer_step(o, 0.1, &refusal) != MUON_E_COMMUNICATION ||
	                   muon_optimizer_save(o, saved_state_put, &r->saved, NULL) !=
	                       MUON_E_COMMUNICATION;
	r->wrong[rank] |= wrong;
	if (!rank)
		r->was_refused = strstr(refusal.message, "half-way") != NULL;
}

static int fail_step(muon_comm *comm, muon_optimizer *o, broken_run *r, muon_error *err)
{
	fuse f;
	const int rank = muon_comm_rank(comm);
	light(&f, comm, r->leaves && rank != LEAVER ? INT_MAX : r->fails_at);
	int code = muon_optimizer_step(o, 0.1, NULL);
	put_out(&f, comm);
	if (!code)
		return MUON_OK;
	if (!rank)
		r->has_failed = true;
	r->wrong[rank] |= code != MUON_E_COMMUNICATION;
	if (!r->leaves)
		return go_on(o, r, rank, err);
	if (rank != LEAVER)
		try_alone(o, r, rank);
	return MUON_OK;
}

static int run_rank(muon_comm *comm, void *context, muon_error *err)
{
	broken_run *r = context;
	const int rank = muon_comm_rank(comm);
	optim_fixture *f = &r->fixtures[rank];
	muon_options options = MUON_OPTIONS_INIT;
	muon_optimizer *o;
	options.threads = 1;
	int code = muon_optimizer_create_distributed(&o, &options, f->parameters, f->count, comm,
	                                             NULL, err);
	if (!code)
		code = muon_optimizer_step(o, 0.1, err);
	if (!code)
		code = muon_optimizer_save(o, saved_state_put, &r->saved, err);
	copy_values(f, r->values[rank], false);
	if (!code)
		code = fail_step(comm, o, r, err);
	muon_optimizer_destroy(&o);
	return code;
}

/* Two steps, the second with exchange `fails_at` failing. */
static void run(broken_run *r, int fails_at, bool leaves)
{
	*r = (broken_run){.fails_at = fails_at, .leaves = leaves, .saved = {.fail_at = -1}};
	for (int i = 0; i < RANKS; i++) {
		fixture_start(&r->fixtures[i], 5);
		FIXTURE_ADD(&r->fixtures[i], "q", MUON_F32, 6, 5);
		FIXTURE_ADD(&r->fixtures[i], "k", MUON_BF16, 7, 5);
		FIXTURE_ADD(&r->fixtures[i], "norm", MUON_F32, 7);
	}
	CU_ASSERT_EQUAL(thread_ranks_run(RANKS, run_rank, r, NULL), MUON_OK);
	for (int i = 0; i < RANKS; i++)
		CU_ASSERT(!r->wrong[i]);
}

static void end(broken_run *r)
{
	for (int i = 0; i < RANKS; i++)
		fixture_end(&r->fixtures[i]);
	saved_state_release(&r->saved);
}

/* Whichever exchange fails, all end with the bits of a run in which none did. */
static void test_recovery(void)
{
	static broken_run good, bad;
	int k = 0, refused = 0;
	run(&good, INT_MAX, false);
	for (bool failed = true; failed && k < MOST_EXCHANGES; k++) {
		char there[ROOM] = {0}, here[ROOM] = {0};
		run(&bad, k, false);
		for (int i = 0; i < RANKS; i++) {
			copy_values(&good.fixtures[i], there, false);
			copy_values(&bad.fixtures[i], here, false);
			CU_ASSERT(!memcmp(there, here, sizeof here));
		}
		failed = bad.has_failed;
		refused += bad.was_refused;
		end(&bad);
	}
	CU_ASSERT(k < MOST_EXCHANGES);
	CU_ASSERT(refused > 2 && refused < k - 2); /* some before any change, some after */
	end(&good);
}

static void test_leaving(void)
{
	static broken_run r;
	int k = 0, refused = 0;
	for (bool failed = true; failed && k < MOST_EXCHANGES; k++) {
		run(&r, k, true);
		failed = r.has_failed;
		refused += r.was_refused;
		end(&r);
	}
	CU_ASSERT(k < MOST_EXCHANGES);
	CU_ASSERT(refused > 2 && refused < k - 2);
}

UNIT_SUITE(optim_broken, {"recovery", test_recovery}, {"leaving", test_leaving})
