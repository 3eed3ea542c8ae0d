/* The distributed optimizer on threads as ranks. */
#include "base/pool.h"
#include "unit/dist/thread_ranks.h"
#include "unit/optim/optim_fixture.h"

#include <float.h>
#include <muon/dist.h>
#include <stdlib.h>

enum { MOST_RANKS = 16, PART = 8 };

typedef struct ranks_run {
	muon_options options;
	muon_distributed_options distributed;
	int steps, poison_rank, poison_step; /* this rank's gradient has a NaN at this step */
	optim_fixture fixtures[MOST_RANKS];
	saved_state start, end; /* .start: loaded first if it holds anything */
	int64_t start_steps;
	muon_statistics statistics[MOST_RANKS][FIXTURE_MOST];
	int codes[MOST_RANKS];
	muon_error errors[MOST_RANKS];
	uint64_t sent[MOST_RANKS][MUON_PHASE_COUNT];
	size_t state_bytes[MOST_RANKS];
} ranks_run;

static void draw_part(muon_random *random, double *x)
{
	*x = (double)((int)(muon_random_bits(random) % (4 * PART + 1)) - 2 * PART) / PART;
}

/* The step's global gradient in parts that add up to it exactly in any order, bf16 included. */
static void set_gradients(optim_fixture *f, int step, int rank, int ranks)
{
	muon_random random;
	muon_random_seed(&random, (uint64_t)step + 100);
	for (size_t k = 0; k < f->count; k++) {
		muon_parameter *p = &f->parameters[k];
		for (int64_t i = 0; i < fixture_elements(p); i++) {
			double global, part = 0, left, mine = 0;
			draw_part(&random, &global);
			left = global;
			muon_random parts = random; /* doesn't move the global one on */
			for (int r = 0; r < ranks; r++) {
				draw_part(&parts, &part);
				part = r == ranks - 1 ? left : part;
				left -= part;
				mine = r == rank ? part : mine;
			}
			fixture_set_gradient(p, i, mine);
		}
	}
}

static void keep_results(const muon_optimizer *o, ranks_run *run, const muon_comm *comm, int rank)
{
	for (size_t k = 0; k < run->fixtures[rank].count; k++)
		muon_optimizer_statistics(o, k, &run->statistics[rank][k]);
	for (int p = 0; p < MUON_PHASE_COUNT; p++)
		run->sent[rank][p] = muon_comm_bytes_sent(comm, (muon_phase)p);
	run->state_bytes[rank] = muon_optimizer_state_bytes(o);
}

static int take_steps(muon_optimizer *o, ranks_run *run, int rank, int ranks, muon_error *err)
{
	optim_fixture *f = &run->fixtures[rank];
	int code = MUON_OK;
	for (int t = 0; !code && t < run->steps; t++) {
		set_gradients(f, (int)muon_optimizer_steps(o), rank, ranks);
		if (rank == run->poison_rank && t == run->poison_step)
			fixture_set_gradient(&f->parameters[4], 7, NAN);
		code = muon_optimizer_step(o, 0.01 * (t + 1), err);
	}
	return code;
}

static int run_rank(muon_comm *comm, void *context, muon_error *err)
{
	ranks_run *run = context;
	const int rank = muon_comm_rank(comm), ranks = muon_comm_size(comm);
	optim_fixture *f = &run->fixtures[rank];
	muon_optimizer *o;
	int code = muon_optimizer_create_distributed(&o, &run->options, f->parameters, f->count,
						     comm, &run->distributed, err);
	if (code)
		return code;
	if (run->start.used)
		code = muon_optimizer_load(o, saved_state_get, &run->start, run->start_steps, err);
	if (!code)
		code = take_steps(o, run, rank, ranks, err);
	run->codes[rank] = code;
	run->errors[rank] = *err;
	keep_results(o, run, comm, rank);
	if (!code || code == MUON_E_NONFINITE)
		code = muon_optimizer_save(o, saved_state_put, &run->end, err);
	muon_optimizer_destroy(&o);
	return code;
}

static ranks_run *make_run(muon_placement placement, muon_dtype gather)
{
	ranks_run *run = calloc(1, sizeof *run);
	CU_ASSERT_PTR_NOT_NULL_FATAL(run);
	run->options = (muon_options)MUON_OPTIONS_INIT;
	run->options.threads = 1;
	run->options.statistics = MUON_STATISTICS_ORTHOGONALITY | MUON_STATISTICS_REACH;
	run->distributed = (muon_distributed_options){placement, gather, 0};
	run->start.fail_at = run->end.fail_at = -1;
	run->poison_rank = -1;
	return run;
}

typedef void fill_fn(optim_fixture *f);

static void end_run(ranks_run *run)
{
	for (int r = 0; r < MOST_RANKS; r++)
		fixture_end(&run->fixtures[r]);
	saved_state_release(&run->start);
	saved_state_release(&run->end);
	free(run);
}

static void start_ranks(ranks_run *run, int ranks, fill_fn *fill)
{
	for (int r = 0; r < ranks; r++) {
		fixture_end(&run->fixtures[r]);
		fixture_start(&run->fixtures[r], 11);
		fill(&run->fixtures[r]);
	}
	saved_state_release(&run->end);
}

static void run_ranks(ranks_run *run, int ranks, fill_fn *fill)
{
	muon_error err = {0};
	start_ranks(run, ranks, fill);
	int code = thread_ranks_run(ranks, run_rank, run, &err);
	if (code)
		printf("%s: %s\n", err.where, err.message);
	CU_ASSERT_EQUAL(code, MUON_OK);
}

/* Parameters of all ranks, and the state, are those of one process. */
static void check_like_one(const ranks_run *one, const ranks_run *many, int ranks)
{
	const optim_fixture *f = &one->fixtures[0];
	CU_ASSERT_EQUAL_FATAL(one->end.used, many->end.used);
	CU_ASSERT(!memcmp(one->end.bytes, many->end.bytes, one->end.used));
	for (int r = 0; r < ranks; r++)
		for (size_t k = 0; k < f->count; k++) {
			const muon_parameter *p = &f->parameters[k];
			const size_t bytes =
			    (size_t)fixture_elements(p) * muon_dtype_size(p->dtype);
			CU_ASSERT(
			    !memcmp(p->values, many->fixtures[r].parameters[k].values, bytes));
		}
}

static bool is_near(double a, double b)
{
	return (isnan(a) && isnan(b)) || fabs(a - b) <= 1e-12 * fabs(b);
}

static void check_statistics(const ranks_run *one, const ranks_run *many, int ranks)
{
	for (int r = 0; r < ranks; r++)
		for (size_t k = 0; k < one->fixtures[0].count; k++) {
			const muon_statistics *a = &many->statistics[r][k];
			const muon_statistics *b = &one->statistics[0][k];
			CU_ASSERT(is_near(a->update_rms, b->update_rms));
			CU_ASSERT(is_near(a->weight_rms, b->weight_rms));
			CU_ASSERT(is_near(a->gradient_rms, b->gradient_rms));
			CU_ASSERT(is_near(a->effective_lr, b->effective_lr));
			CU_ASSERT(is_near(a->momentum_norm, b->momentum_norm));
			CU_ASSERT(is_near(a->orthogonality_error, b->orthogonality_error));
			CU_ASSERT(is_near(a->below_reach, b->below_reach));
		}
}

/* ---- the same bits for any number of ranks -------------------------------------------------- */

static void fill_one_matrix(optim_fixture *f)
{
	FIXTURE_ADD(f, "w", MUON_F32, 3, 2);
}

static void fill_scraps(optim_fixture *f)
{
	FIXTURE_ADD(f, "a", MUON_F32, 1, 1);
	FIXTURE_ADD(f, "b", MUON_BF16, 1);
	FIXTURE_ADD(f, "c", MUON_F32, 1, 3);
}

/* More than one round of exchanges. */
static void fill_large(optim_fixture *f)
{
	FIXTURE_ADD(f, "embed.weight", MUON_F32, 1031, 1033);
	FIXTURE_ADD(f, "w", MUON_BF16, 37, 41);
}

static void compare(fill_fn *fill, muon_placement placement, const int *counts, int steps)
{
	ranks_run *one = make_run(placement, MUON_F32), *many = make_run(placement, MUON_F32);
	one->steps = many->steps = steps;
	run_ranks(one, 1, fill);
	for (; *counts; counts++) {
		many->options.threads = 1 + *counts % 2;
		run_ranks(many, *counts, fill);
		check_like_one(one, many, *counts);
		check_statistics(one, many, *counts);
	}
	end_run(one);
	end_run(many);
}

static void test_same_bits(void)
{
	static const int counts[] = {1, 2, 3, 4, 5, 7, 0}, many[] = {16, 0};
	for (int p = MUON_PLACEMENT_FLAT; p <= MUON_PLACEMENT_WHOLE; p++) {
		compare(fixture_add_all_kinds, (muon_placement)p, counts, 20);
		compare(fixture_add_all_kinds, (muon_placement)p, many, 2);
		compare(fill_one_matrix, (muon_placement)p, counts, 20);
		compare(fill_scraps, (muon_placement)p, counts, 20);
	}
}

static void test_many_rounds(void)
{
	static const int counts[] = {2, 3, 0};
	for (int p = MUON_PLACEMENT_FLAT; p <= MUON_PLACEMENT_WHOLE; p++)
		compare(fill_large, (muon_placement)p, counts, 1);
}

/* One process, without any communicator, is the same again. */
static void test_like_undistributed(void)
{
	ranks_run *run = make_run(MUON_PLACEMENT_FLAT, MUON_F32);
	optim_fixture f;
	run->steps = 5;
	run_ranks(run, 3, fixture_add_all_kinds);
	fixture_start(&f, 11);
	fixture_add_all_kinds(&f);
	muon_optimizer *o = fixture_optimizer(&f, &run->options);
	for (int t = 0; t < run->steps; t++) {
		set_gradients(&f, t, 0, 1);
		CU_ASSERT_EQUAL(muon_optimizer_step(o, 0.01 * (t + 1), NULL), MUON_OK);
	}
	for (size_t k = 0; k < f.count; k++) {
		const muon_parameter *p = &f.parameters[k];
		CU_ASSERT(!memcmp(p->values, run->fixtures[2].parameters[k].values,
				  (size_t)fixture_elements(p) * muon_dtype_size(p->dtype)));
	}
	muon_optimizer_destroy(&o);
	fixture_end(&f);
	end_run(run);
}

/* ---- the mean over ranks -------------------------------------------------------------------- */

static int run_means(muon_comm *comm, void *context, muon_error *err)
{
	ranks_run *run = context;
	const int rank = muon_comm_rank(comm);
	optim_fixture *f = &run->fixtures[rank];
	muon_optimizer *o;
	int code = muon_optimizer_create_distributed(&o, &run->options, f->parameters, f->count,
						     comm, &run->distributed, err);
	if (code)
		return code;
	set_gradients(f, 0, 0, 1); /* all the same */
	code = muon_optimizer_step(o, 0.01, err);
	keep_results(o, run, comm, rank);
	muon_optimizer_destroy(&o);
	return code;
}

static void test_mean(void)
{
	double rms[2];
	for (int i = 0; i < 2; i++) {
		const int ranks = i ? 4 : 1;
		ranks_run *run = make_run(MUON_PLACEMENT_FLAT, MUON_F32);
		run->distributed.gradient_factor = 0.5 / ranks;
		start_ranks(run, ranks, fixture_add_all_kinds);
		CU_ASSERT_EQUAL(thread_ranks_run(ranks, run_means, run, NULL), MUON_OK);
		rms[i] = run->statistics[0][0].gradient_rms;
		end_run(run);
	}
	CU_ASSERT(rms[0] > 0.5 && rms[0] < 0.75); /* half of what is uniform in [-2, 2] */
	UNIT_CLOSE(rms[1], rms[0], 1e-14);
}

/* ---- the order of sums ---------------------------------------------------------------------- */

enum { SUMMANDS = 30 };

static double summand(int rank, int i)
{
	muon_random random;
	muon_random_seed(&random, (uint64_t)(rank * SUMMANDS + i));
	return (double)(float)(muon_random_normal(&random) * pow(10, i % 5));
}

static void fill_summands(optim_fixture *f)
{
	FIXTURE_ADD(f, "w", MUON_F32, 5, 6);
}

static int sum_once(muon_comm *comm, void *context, muon_error *err)
{
	ranks_run *run = context;
	const int rank = muon_comm_rank(comm);
	optim_fixture *f = &run->fixtures[rank];
	muon_optimizer *o;
	int code = muon_optimizer_create_distributed(&o, &run->options, f->parameters, f->count,
						     comm, &run->distributed, err);
	for (int i = 0; i < SUMMANDS; i++)
		fixture_set_gradient(&f->parameters[0], i, summand(rank, i));
	if (!code)
		code = muon_optimizer_step(o, 0.01, err);
	if (!code)
		code = muon_optimizer_save(o, saved_state_put, &run->end, err);
	muon_optimizer_destroy(&o);
	return code;
}

/* ((0 + 1) + (2 + 3)) + ((4 + 5) + 6) in float32, then the factor: the first momentum. */
static float expected_sum(int i, double factor)
{
	float g[7];
	for (int r = 0; r < 7; r++)
		g[r] = (float)summand(r, i);
	const float first = (g[0] + g[1]) + (g[2] + g[3]), second = (g[4] + g[5]) + g[6];
	return (float)((double)(first + second) * factor);
}

static void test_sums(void)
{
	ranks_run *run = make_run(MUON_PLACEMENT_FLAT, MUON_F32);
	run->distributed.gradient_factor = 1.0 / 7;
	start_ranks(run, 7, fill_summands);
	CU_ASSERT_EQUAL(thread_ranks_run(7, sum_once, run, NULL), MUON_OK);
	CU_ASSERT_EQUAL_FATAL(run->end.used, SUMMANDS * sizeof(float));
	for (int i = 0; i < SUMMANDS; i++) {
		float momentum;
		memcpy(&momentum, run->end.bytes + (size_t)i * sizeof momentum, sizeof momentum);
		CU_ASSERT_EQUAL(momentum, expected_sum(i, 1.0 / 7));
	}
	end_run(run);
}

/* ---- gathering in bf16 ---------------------------------------------------------------------- */

static void test_bf16_gather(void)
{
	ranks_run *one = make_run(MUON_PLACEMENT_FLAT, MUON_BF16);
	ranks_run *many = make_run(MUON_PLACEMENT_FLAT, MUON_BF16);
	one->steps = many->steps = 5;
	run_ranks(one, 1, fixture_add_all_kinds);
	run_ranks(many, 3, fixture_add_all_kinds);
	double worst = 0;
	for (size_t k = 0; k < one->fixtures[0].count; k++) {
		const muon_parameter *p = &one->fixtures[0].parameters[k];
		const muon_parameter *q = many->fixtures[0].parameters + k;
		const size_t bytes = (size_t)fixture_elements(p) * muon_dtype_size(p->dtype);
		for (int r = 1; r < 3; r++) /* all ranks have the same */
			CU_ASSERT(
			    !memcmp(q->values, many->fixtures[r].parameters[k].values, bytes));
		if (p->dtype == MUON_F32)
			for (int64_t i = 0; i < fixture_elements(p); i++)
				worst =
				    fmax(worst, fabs(fixture_value(p, i) - fixture_value(q, i)));
	}
	CU_ASSERT(worst > 0); /* it was rounded, by 2^-9 of updates of 0.15 */
	CU_ASSERT(worst < 0.15 * 0.02);
	end_run(one);
	end_run(many);
}

/* ---- bytes ---------------------------------------------------------------------------------- */

static void fill_float32(optim_fixture *f)
{
	FIXTURE_ADD(f, "embed.weight", MUON_F32, 10, 7);
	FIXTURE_ADD(f, "a", MUON_F32, 24, 20);
	FIXTURE_ADD(f, "b", MUON_F32, 5, 9, 11);
	FIXTURE_ADD(f, "norm", MUON_F32, 13);
	FIXTURE_ADD(f, "c", MUON_F32, 30, 8);
}

/* What is sent is what the plan on paper says; state is half of AdamW's for Muon's share. */
static void check_bytes(muon_placement placement, muon_dtype gather, int ranks)
{
	static const muon_planned planned[] = {
	    {"embed.weight", 10, 7, 1, MUON_RULE_ADAMW},
	    {"a", 24, 20, 1, MUON_RULE_MUON},
	    {"b", 9, 11, 5, MUON_RULE_MUON},
	    {"norm", 13, 1, 1, MUON_RULE_ADAMW},
	    {"c", 30, 8, 1, MUON_RULE_MUON},
	};
	const size_t count = sizeof planned / sizeof *planned;
	muon_placement_costs costs;
	ranks_run *run = make_run(placement, gather);
	double sent[MUON_PHASE_COUNT] = {0}, state = 0, most = 0;
	run->steps = 3;
	run_ranks(run, ranks, fill_float32);
	CU_ASSERT_EQUAL(muon_placement_plan(placement, planned, count, ranks, gather, 0, &costs),
			0);
	for (int r = 0; r < ranks; r++) {
		state += (double)run->state_bytes[r] / ranks;
		most = fmax(most, (double)run->state_bytes[r]);
		for (int p = 0; p < MUON_PHASE_COUNT; p++)
			sent[p] += (double)run->sent[r][p] / run->steps;
	}
	UNIT_CLOSE(sent[MUON_PHASE_REDUCE], costs.reduce_bytes, 1e-12);
	UNIT_CLOSE(sent[MUON_PHASE_GATHER], costs.gather_bytes, 1e-12);
	UNIT_CLOSE(sent[MUON_PHASE_ALL_GATHER], costs.all_gather_bytes, 1e-12);
	UNIT_CLOSE(state, costs.state_bytes_mean, 1e-12);
	UNIT_CLOSE(most, costs.state_bytes_max, 1e-12);
	end_run(run);
}

static void test_bytes(void)
{
	for (int p = MUON_PLACEMENT_FLAT; p <= MUON_PLACEMENT_WHOLE; p++)
		for (int ranks = 1; ranks <= 6; ranks++) {
			check_bytes((muon_placement)p, MUON_F32, ranks);
			check_bytes((muon_placement)p, MUON_BF16, ranks);
		}
}

/* ---- state from any number of ranks to any other -------------------------------------------- */

static void copy_values(ranks_run *to, int ranks, const ranks_run *from)
{
	for (int r = 0; r < ranks; r++)
		for (size_t k = 0; k < from->fixtures[0].count; k++) {
			const muon_parameter *p = &from->fixtures[0].parameters[k];
			const size_t bytes =
			    (size_t)fixture_elements(p) * muon_dtype_size(p->dtype);
			if (p->dtype == MUON_F32) /* bf16 comes from the masters */
				memcpy(to->fixtures[r].parameters[k].values, p->values, bytes);
		}
}

/* Loading alone brings back all bf16 values, on all ranks. */
static void test_loaded_values(void)
{
	ranks_run *a = make_run(MUON_PLACEMENT_FLAT, MUON_F32);
	ranks_run *b = make_run(MUON_PLACEMENT_WHOLE, MUON_F32);
	a->steps = 2;
	run_ranks(a, 2, fixture_add_all_kinds);
	b->start = a->end;
	b->start_steps = 2;
	a->end = (saved_state){.fail_at = -1};
	start_ranks(b, 5, fixture_add_all_kinds);
	copy_values(b, 5, a);
	CU_ASSERT_EQUAL(thread_ranks_run(5, run_rank, b, NULL), MUON_OK);
	a->end = b->start;
	b->start = (saved_state){.fail_at = -1};
	check_like_one(a, b, 5);
	end_run(a);
	end_run(b);
}

static void test_resume(void)
{
	static const int counts[][2] = {{1, 3}, {3, 1}, {4, 7}, {7, 2}, {2, 16}};
	ranks_run *whole = make_run(MUON_PLACEMENT_FLAT, MUON_F32);
	whole->steps = 2;
	run_ranks(whole, 1, fixture_add_all_kinds);
	saved_state middle = whole->end;
	whole->end = (saved_state){.fail_at = -1};
	for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
		for (int p = MUON_PLACEMENT_FLAT; p <= MUON_PLACEMENT_WHOLE; p++) {
			ranks_run *a = make_run((muon_placement)p, MUON_F32);
			ranks_run *b = make_run(MUON_PLACEMENT_FLAT, MUON_F32);
			ranks_run *one = make_run(MUON_PLACEMENT_FLAT, MUON_F32);
			a->steps = 2;
			run_ranks(a, counts[i][0], fixture_add_all_kinds);
			CU_ASSERT(!memcmp(a->end.bytes, middle.bytes, middle.used));
			/* both go on from there, on other ranks and on one */
			b->steps = one->steps = 3;
			b->start_steps = one->start_steps = 2;
			b->start = a->end;
			a->end = (saved_state){.fail_at = -1};
			one->start = b->start;
			start_ranks(b, counts[i][1], fixture_add_all_kinds);
			start_ranks(one, 1, fixture_add_all_kinds);
			copy_values(b, counts[i][1], a);
			copy_values(one, 1, a);
			CU_ASSERT_EQUAL(thread_ranks_run(counts[i][1], run_rank, b, NULL), 0);
			CU_ASSERT_EQUAL(thread_ranks_run(1, run_rank, one, NULL), 0);
			check_like_one(one, b, counts[i][1]);
			one->start = (saved_state){.fail_at = -1};
			end_run(a);
			end_run(b);
			end_run(one);
		}
	saved_state_release(&middle);
	end_run(whole);
}

/* ---- failures, on all ranks ----------------------------------------------------------------- */

static void test_poison(void)
{
	ranks_run *clean = make_run(MUON_PLACEMENT_FLAT, MUON_F32);
	clean->steps = 2;
	run_ranks(clean, 3, fixture_add_all_kinds);
	for (int rank = 0; rank < 3; rank++) {
		ranks_run *run = make_run(MUON_PLACEMENT_FLAT, MUON_F32);
		run->steps = 4;
		run->poison_rank = rank;
		run->poison_step = 2;
		start_ranks(run, 3, fixture_add_all_kinds);
		muon_error err = {0};
		CU_ASSERT_EQUAL(thread_ranks_run(3, run_rank, run, &err), MUON_OK);
		for (int r = 0; r < 3; r++) {
			CU_ASSERT_EQUAL(run->codes[r], MUON_E_NONFINITE);
			CU_ASSERT_STRING_EQUAL(run->errors[r].where, "experts");
		}
		check_like_one(clean, run, 3);
		end_run(run);
	}
	end_run(clean);
}

/* Larger than bf16 holds: refused before anything has changed, where it would be gathered so. */
static int step_of_largest(muon_comm *comm, void *context, muon_error *err)
{
	ranks_run *run = context;
	const int rank = muon_comm_rank(comm);
	optim_fixture *f = &run->fixtures[rank];
	muon_options options = run->options;
	muon_optimizer *o;
	options.nesterov = false; /* what is orthogonalised is the gradient then */
	int code = muon_optimizer_create_distributed(&o, &options, f->parameters, f->count, comm,
						     &run->distributed, err);
	if (code)
		return code;
	fixture_set_gradient(&f->parameters[4], 7, rank ? 0 : FLT_MAX);
	run->codes[rank] = muon_optimizer_step(o, 0.1, &run->errors[rank]);
	fixture_set_gradient(&f->parameters[4], 7, 1);
	if (run->codes[rank])
		code = muon_optimizer_step(o, 0.1, err);
	muon_optimizer_destroy(&o);
	return code;
}

static void test_bf16_overflow(void)
{
	for (int bf16 = 0; bf16 < 2; bf16++) {
		ranks_run *run = make_run(MUON_PLACEMENT_FLAT, bf16 ? MUON_BF16 : MUON_F32);
		start_ranks(run, 3, fixture_add_all_kinds);
		CU_ASSERT_EQUAL(thread_ranks_run(3, step_of_largest, run, NULL), MUON_OK);
		for (int r = 0; r < 3; r++) {
			CU_ASSERT_EQUAL(run->codes[r], bf16 ? MUON_E_NONFINITE : MUON_OK);
			CU_ASSERT_STRING_EQUAL(run->errors[r].where, bf16 ? "experts" : "");
		}
		end_run(run);
	}
}

static int create_unequal(muon_comm *comm, void *context, muon_error *err)
{
	ranks_run *run = context;
	const int rank = muon_comm_rank(comm);
	optim_fixture *f = &run->fixtures[rank];
	muon_options options = run->options;
	size_t count = f->count;
	if (rank == 1 && run->poison_step == 0)
		f->parameters[1].name = "Wide";
	if (rank == 1 && run->poison_step == 1)
		f->parameters[6].heads = 6;
	if (rank == 1 && run->poison_step == 2)
		count--;
	if (rank == 1 && run->poison_step == 3)
		options.momentum = 0.9;
	if (rank == 1 && run->poison_step == 4)
		f->parameters[2].values = NULL;
	muon_optimizer *o;
	int code = muon_optimizer_create_distributed(&o, &options, f->parameters, count, comm,
						     &run->distributed, err);
	run->codes[rank] = code;
	run->errors[rank] = *err;
	if (o)
		muon_optimizer_destroy(&o);
	return MUON_OK;
}

static void test_unequal(void)
{
	static const char *const where[] = {"wide", "heads", "", "", ""};
	for (int i = 0; i < 5; i++) {
		ranks_run *run = make_run(MUON_PLACEMENT_FLAT, MUON_F32);
		start_ranks(run, 3, fixture_add_all_kinds);
		run->poison_step = i;
		void *values = run->fixtures[1].parameters[2].values;
		CU_ASSERT_EQUAL(thread_ranks_run(3, create_unequal, run, NULL), MUON_OK);
		run->fixtures[1].parameters[2].values = values;
		for (int r = 0; r < 3; r++) {
			CU_ASSERT_EQUAL(run->codes[r], MUON_E_USAGE);
			CU_ASSERT(run->errors[r].message[0] != 0);
		}
		CU_ASSERT_STRING_EQUAL(run->errors[0].where, where[i]);
		end_run(run);
	}
}

static void test_options(void)
{
	ranks_run *run = make_run(MUON_PLACEMENT_FLAT, MUON_F32);
	muon_comm *comm;
	muon_optimizer *o;
	muon_error err = {0};
	fixture_start(&run->fixtures[0], 1);
	muon_parameter *p = FIXTURE_ADD(&run->fixtures[0], "w", MUON_F64, 2, 3);
	CU_ASSERT_EQUAL_FATAL(muon_comm_create_self(&comm, NULL), MUON_OK);
	CU_ASSERT_EQUAL(muon_optimizer_create_distributed(&o, &run->options, p, 1, comm,
							  &run->distributed, &err),
			MUON_E_USAGE);
	CU_ASSERT_STRING_EQUAL(err.where, "w");
	CU_ASSERT_PTR_NULL(o);
	const muon_distributed_options bad[] = {
	    {MUON_PLACEMENT_FLAT, MUON_F64, 1},
	    {(muon_placement)7, MUON_F32, 1},
	    {MUON_PLACEMENT_FLAT, MUON_F32, NAN},
	};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		CU_ASSERT_EQUAL(
		    muon_optimizer_create_distributed(&o, &run->options, p, 1, comm, &bad[i], NULL),
		    MUON_E_USAGE);
	CU_ASSERT_EQUAL(muon_optimizer_create_distributed(&o, &run->options, p, 1, NULL,
							  &run->distributed, NULL),
			MUON_E_USAGE);
	muon_comm_destroy(&comm);
	end_run(run);
}

UNIT_SUITE(optim_ranks, {"same bits", test_same_bits}, {"many rounds", test_many_rounds},
	   {"like undistributed", test_like_undistributed}, {"mean", test_mean},
	   {"order of sums", test_sums}, {"gather in bf16", test_bf16_gather},
	   {"bytes", test_bytes}, {"loaded values", test_loaded_values}, {"resume", test_resume},
	   {"poisoned gradient", test_poison}, {"overflow in bf16", test_bf16_overflow},
	   {"unequal ranks", test_unequal}, {"options", test_options})
