/* One optimizer step over one matrix of each hidden shape of Moonlight-16B, float32, five Jordan
 * steps: its phases, Newton-Schulz' rate and its share of sgemm's, and AdamW's step over the same
 * parameters. By one thread and by all.
 *
 *     bench_step [--quick]        --quick takes some of the smaller matrices
 *
 * Medians of several steps after the first. Phases are by the clock; rates are of a core, by
 * processor time, which a busy machine disturbs less; sgemm's is measured between the steps. */
#include "base/clock.h"
#include "base/memory.h"
#include "base/pool.h"
#include "base/random.h"

#include <cblas.h>
#include <muon/optim.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { GEMM = 2048, /* size of the sgemm that sets the rate */ ROUNDS = 3 };

typedef struct shape {
	const char *name;
	int64_t rows, cols; /* out, in */
	bool quick;
} shape;

static const shape shapes[] = {
    {"q_proj", 3072, 2048, false},    {"kv_a", 576, 2048, true},
    {"kv_b", 4096, 512, true},        {"o_proj", 2048, 2048, false},
    {"dense_up", 11264, 2048, false}, {"dense_down", 2048, 11264, false},
    {"expert_up", 1408, 2048, true},  {"expert_down", 2048, 1408, false},
    {"shared_up", 2816, 2048, false}, {"shared_down", 2048, 2816, false},
    {"router", 64, 2048, true},
};
enum { SHAPES = sizeof shapes / sizeof *shapes };

static void demand(int code, const char *what)
{
	if (code) {
		fprintf(stderr, "bench_step: %s failed with %d\n", what, code);
		exit(5);
	}
}

static float *gaussian(int64_t rows, int64_t cols, uint64_t seed)
{
	float *a = muon_alloc_aligned((size_t)(rows * cols), sizeof *a);
	demand(a ? MUON_OK : MUON_E_MEMORY, "allocation");
	muon_random random;
	muon_random_seed(&random, seed);
	for (int64_t i = 0; i < rows * cols; i++)
		a[i] = (float)(0.02 * muon_random_normal(&random));
	return a;
}

static double processor_seconds(void)
{
	struct timespec t;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int compare_doubles(const void *a, const void *b)
{
	const double *x = a, *y = b;
	return (*x > *y) - (*x < *y);
}

static double median(double *values)
{
	qsort(values, ROUNDS, sizeof *values, compare_doubles);
	return values[ROUNDS / 2];
}

/* ---- what is measured ----------------------------------------------------------------------- */

typedef struct model {
	muon_parameter parameters[SHAPES];
	float *buffers[2 * SHAPES];
	size_t count;
	double elements, flops, plain_flops; /* of Newton-Schulz in one step */
} model;

static void add_flops(model *m, const shape *s)
{
	const muon_ns_form forms[] = {MUON_NS_AUTO, MUON_NS_PLAIN};
	double *sums[] = {&m->flops, &m->plain_flops};
	muon_coefficients jordan;
	demand(muon_coefficients_named(&jordan, "jordan", 0), "coefficients");
	for (int i = 0; i < 2; i++) {
		muon_ns_plan *plan;
		demand(muon_ns_plan_create(&plan, s->rows, s->cols, &jordan, MUON_PRECISION_F32,
					   forms[i]),
		       "plan");
		*sums[i] += muon_ns_flops(plan);
		muon_ns_plan_destroy(&plan);
	}
}

static void model_setup(model *m, bool quick)
{
	*m = (model){.count = 0};
	for (const shape *s = shapes; s < shapes + SHAPES; s++) {
		if (quick && !s->quick)
			continue;
		float **buffers = &m->buffers[2 * m->count];
		buffers[0] = gaussian(s->rows, s->cols, 1);
		buffers[1] = gaussian(s->rows, s->cols, 2);
		m->parameters[m->count++] = (muon_parameter){
		    .name = s->name,
		    .rank = 2,
		    .dims = {s->rows, s->cols},
		    .dtype = MUON_F32,
		    .values = buffers[0],
		    .gradient_dtype = MUON_F32,
		    .gradient = buffers[1],
		    .role = MUON_ROLE_HIDDEN,
		};
		m->elements += (double)s->rows * (double)s->cols;
		add_flops(m, s);
	}
}

static void model_release(model *m)
{
	for (size_t i = 0; i < 2 * m->count; i++)
		muon_free_aligned(m->buffers[i]);
}

/* As many sgemms at a time as workers, each of one thread as theirs are. */
typedef struct gemm {
	float *a, *b, *c[64];
} gemm;

static bool run_gemm(void *state, size_t task, int worker)
{
	const gemm *g = state;
	(void)worker;
	cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, GEMM, GEMM, GEMM, 1, g->a, GEMM,
		    g->b, GEMM, 0, g->c[task], GEMM);
	return true;
}

/* Operations a second of a core. */
static double gemm_rate(gemm *g, int threads)
{
	const double start = processor_seconds();
	muon_pool_run(threads, (size_t)threads, run_gemm, g);
	return threads * 2.0 * GEMM * GEMM * GEMM / (processor_seconds() - start);
}

/* ---- steps ---------------------------------------------------------------------------------- */

enum { CHECK, MOMENTUM, NEWTON_SCHULZ, UPDATE, TOTAL, PHASES };
static const char *const phase_names[] = {"check", "momentum", "Newton-Schulz", "update", "step"};

typedef struct timing {
	double seconds[PHASES];
	double rate, sgemm, share; /* of Newton-Schulz and sgemm, by a core */
} timing;

static void step(muon_optimizer *optimizer)
{
	muon_error err = {0};
	demand(muon_optimizer_step(optimizer, 1e-3, &err), "muon_optimizer_step");
}

/* Of the steps of an optimizer, which is released. */
static timing time_steps(muon_optimizer *optimizer, const model *m, gemm *g, int threads)
{
	double seconds[PHASES][ROUNDS], rate[ROUNDS], sgemm[ROUNDS], share[ROUNDS];
	step(optimizer);
	double before = gemm_rate(g, threads);
	for (int i = 0; i < ROUNDS; i++) {
		muon_step_seconds s;
		const double start = processor_seconds();
		step(optimizer);
		const double busy = processor_seconds() - start, after = gemm_rate(g, threads);
		muon_optimizer_seconds(optimizer, &s);
		const double phases[] = {s.check, s.momentum, s.newton_schulz, s.update, s.total};
		for (int p = 0; p < PHASES; p++)
			seconds[p][i] = phases[p];
		rate[i] = m->flops / (busy * s.newton_schulz / s.total);
		sgemm[i] = (before + after) / 2;
		share[i] = rate[i] / sgemm[i];
		before = after;
	}
	timing t = {.rate = median(rate), .sgemm = median(sgemm), .share = median(share)};
	for (int p = 0; p < PHASES; p++)
		t.seconds[p] = median(seconds[p]);
	muon_optimizer_destroy(&optimizer);
	return t;
}

static muon_optimizer *make_optimizer(const model *m, bool all_adamw, int threads)
{
	muon_options options = MUON_OPTIONS_INIT;
	muon_error err = {0};
	muon_optimizer *optimizer;
	options.all_adamw = all_adamw;
	options.threads = threads;
	demand(muon_optimizer_create(&optimizer, &options, m->parameters, m->count, &err),
	       "muon_optimizer_create");
	return optimizer;
}

static void report(const model *m, gemm *g, int threads)
{
	const timing muon = time_steps(make_optimizer(m, false, threads), m, g, threads);
	const timing adamw = time_steps(make_optimizer(m, true, threads), m, g, threads);
	printf("\n%d thread%s\n\n| phase         |       s |  share |\n|---------------|--------:|"
	       "-------:|\n",
	       threads, threads > 1 ? "s" : "");
	for (int p = 0; p < PHASES; p++)
		printf("| %-13s | %7.3f | %5.1f%% |\n", phase_names[p], muon.seconds[p],
		       100 * muon.seconds[p] / muon.seconds[TOTAL]);
	printf("| %-13s | %7.3f |        |\n\n", "AdamW's step", adamw.seconds[TOTAL]);
	printf("Newton-Schulz, by the clock: %.1f GFLOP/s done, %.1f useful; a core: %.1f, %.0f%% "
	       "of sgemm's %.1f\n",
	       m->flops / muon.seconds[NEWTON_SCHULZ] / 1e9,
	       m->plain_flops / muon.seconds[NEWTON_SCHULZ] / 1e9, muon.rate / 1e9,
	       100 * muon.share, muon.sgemm / 1e9);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	const bool quick = argc == 2 && !strcmp(argv[1], "--quick");
	if (argc > 1 && !quick) {
		fprintf(stderr, "usage: bench_step [--quick]\n");
		return 2;
	}
	const int all = muon_processor_count(), most = all < 64 ? all : 64;
	model m;
	model_setup(&m, quick);
	gemm g = {.a = gaussian(GEMM, GEMM, 1), .b = gaussian(GEMM, GEMM, 2)};
	for (int i = 0; i < most; i++)
		g.c[i] = gaussian(GEMM, GEMM, 3);
	muon_blas_single_thread();
	gemm_rate(&g, most);
	printf("Optimizer step over %zu matrices, %.1fM parameters, %s. Useful: operations of the "
	       "plain form in our time.\n",
	       m.count, m.elements / 1e6, muon_blas_description());
	report(&m, &g, 1);
	if (most > 1)
		report(&m, &g, most);
	for (int i = 0; i < most; i++)
		muon_free_aligned(g.c[i]);
	muon_free_aligned(g.a);
	muon_free_aligned(g.b);
	model_release(&m);
	return 0;
}
