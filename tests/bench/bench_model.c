/* Speed of the models' forward and backward in float32, one micro-batch a thread.
 *
 *     bench_model [--quick]      --quick measures each for a shorter time
 *
 * Times are processor time, of the thread that takes most, which other programs disturb less; with
 * the machine to itself that is the clock's. Model flops are those of mspec_model_token_flops;
 * the share is of sgemm's rate on as many threads at a time, measured before and after. The best of
 * each counts. */
#include "base/memory.h"
#include "base/pool.h"
#include "base/random.h"

#include <cblas.h>
#include <muon/kernels.h>
#include <muonspec/model.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
	GEMM = 1024, /* size of the sgemm that sets the rate */
	GEMMS = 3,   /* timed together */
	THREADS = 2,
	BATCH_TOKENS = 512, /* of one micro-batch */
};

static void demand(int code, const char *what)
{
	if (code) {
		fprintf(stderr, "bench_model: %s failed with %d\n", what, code);
		exit(5);
	}
}

static void *allocate(int64_t count, size_t size)
{
	void *block = muon_alloc_aligned((size_t)count, size);
	demand(block ? MUON_OK : MUON_E_MEMORY, "allocation");
	return block;
}

/* ---- time ----------------------------------------------------------------------------------- */

/* The same work on each of so many threads. */
typedef struct team {
	void (*work)(void *state, size_t thread);
	void *state;
	double seconds[THREADS];
} team;

static double processor_seconds(void)
{
	struct timespec t;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static bool run_member(void *state, size_t task, int worker)
{
	(void)worker;
	team *t = state;
	const double start = processor_seconds();
	t->work(t->state, task);
	t->seconds[task] = processor_seconds() - start;
	return true;
}

/* Processor time of the thread that took most. */
static double time_of(int threads, void (*work)(void *state, size_t thread), void *state)
{
	team t = {.work = work, .state = state};
	double most = 0;
	muon_pool_run(threads, (size_t)threads, run_member, &t);
	for (int i = 0; i < threads; i++)
		most = t.seconds[i] > most ? t.seconds[i] : most;
	return most;
}

/* ---- rate of sgemm -------------------------------------------------------------------------- */

typedef struct gemm {
	float *a[THREADS], *b[THREADS], *c[THREADS];
} gemm;

static void gemm_setup(gemm *g)
{
	const int64_t size = (int64_t)GEMM * GEMM;
	for (int t = 0; t < THREADS; t++) {
		g->a[t] = allocate(size, sizeof(float));
		g->b[t] = allocate(size, sizeof(float));
		g->c[t] = allocate(size, sizeof(float));
		for (int64_t i = 0; i < size; i++) {
			g->a[t][i] = (float)(i % 1021) / 1021 - 0.5f;
			g->b[t][i] = (float)(i % 1019) / 1019 - 0.5f;
			g->c[t][i] = 0;
		}
	}
}

static void gemm_release(gemm *g)
{
	for (int t = 0; t < THREADS; t++) {
		muon_free_aligned(g->a[t]);
		muon_free_aligned(g->b[t]);
		muon_free_aligned(g->c[t]);
	}
}

static void multiply(void *state, size_t thread)
{
	gemm *g = state;
	for (int i = 0; i < GEMMS; i++)
		cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, GEMM, GEMM, GEMM, 1,
			    g->a[thread], GEMM, g->b[thread], GEMM, 0, g->c[thread], GEMM);
}

/* Flops a second of all threads. */
static double gemm_rate(gemm *g, int threads)
{
	return threads * GEMMS * 2.0 * GEMM * GEMM * GEMM / time_of(threads, multiply, g);
}

/* ---- a model -------------------------------------------------------------------------------- */

typedef struct bench {
	mspec_model *model;
	mspec_workspace *workspaces[THREADS];
	mspec_pass passes[THREADS];
	float *parameters, *gradients[THREADS];
	int32_t *tokens; /* one more than a micro-batch, as targets are shifted */
	bool backward;
} bench;

static void bench_setup(bench *b, const char *preset)
{
	mspec_model_config config;
	demand(mspec_model_preset(&config, preset), "mspec_model_preset");
	demand(mspec_model_create(&b->model, &config, NULL), "mspec_model_create");
	const int64_t count = mspec_model_parameter_count(b->model), length = config.context;
	b->parameters = allocate(count, sizeof(float));
	mspec_model_initialize(b->model, 1, b->parameters);
	b->tokens = allocate(BATCH_TOKENS + 1, sizeof *b->tokens);
	muon_random random;
	muon_random_seed(&random, 2);
	for (int64_t i = 0; i <= BATCH_TOKENS; i++)
		b->tokens[i] = (int32_t)(muon_random_bits(&random) % (uint64_t)config.vocab);
	for (int t = 0; t < THREADS; t++) {
		demand(mspec_workspace_create(&b->workspaces[t], b->model, BATCH_TOKENS / length,
					      length, true, NULL),
		       "mspec_workspace_create");
		b->gradients[t] = allocate(count, sizeof(float));
		b->passes[t] = (mspec_pass){
		    .parameters = b->parameters,
		    .tokens = b->tokens,
		    .targets = b->tokens + 1,
		    .sequences = BATCH_TOKENS / length,
		    .length = length,
		    .loss_scale = 1,
		};
	}
}

static void bench_release(bench *b)
{
	for (int t = 0; t < THREADS; t++) {
		mspec_workspace_destroy(&b->workspaces[t]);
		muon_free_aligned(b->gradients[t]);
	}
	muon_free_aligned(b->tokens);
	muon_free_aligned(b->parameters);
	mspec_model_destroy(&b->model);
}

static void run_model(void *state, size_t thread)
{
	bench *b = state;
	demand(mspec_model_run(b->model, b->workspaces[thread], &b->passes[thread]),
	       "mspec_model_run");
}

static double smaller(double a, double b)
{
	return a < b ? a : b;
}

static double larger(double a, double b)
{
	return a > b ? a : b;
}

/* Least seconds of one run on each thread; *sgemm becomes the best rate, if better than before. */
static double bench_time(bench *b, gemm *g, int threads, bool backward, bool bf16, double seconds,
                         double *sgemm)
{
	for (int t = 0; t < THREADS; t++) {
		b->passes[t].gradient = backward ? b->gradients[t] : NULL;
		b->passes[t].bf16 = bf16;
	}
	double best = time_of(threads, run_model, b); /* the first finds no memory mapped */
	*sgemm = larger(*sgemm, gemm_rate(g, threads));
	for (double spent = 0, now; spent < seconds; spent += now) {
		now = time_of(threads, run_model, b);
		best = smaller(best, now);
	}
	*sgemm = larger(*sgemm, gemm_rate(g, threads));
	return best;
}

static void report(bench *b, gemm *g, const char *preset, int threads, bool bf16, double seconds)
{
	const double tokens = (double)threads * BATCH_TOKENS;
	double sgemm = 0;
	const double forward = bench_time(b, g, threads, false, bf16, seconds / 3, &sgemm);
	const double whole = bench_time(b, g, threads, true, bf16, seconds, &sgemm);
	const double rate = tokens / whole *
			    mspec_model_token_flops(b->model, b->passes[0].length);
	printf("| %-10s | %7.2f | %-8s | %7d | %10.0f | %10.0f | %7.1f | %8.1f | %4.0f%% |\n", preset,
	       (double)mspec_model_parameter_count(b->model) / 1e6, bf16 ? "bf16" : "float32",
	       threads, tokens / forward, tokens / whole, rate / 1e9, sgemm / 1e9,
	       100 * rate / sgemm);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	const bool quick = argc == 2 && !strcmp(argv[1], "--quick");
	if (argc > 1 && !quick) {
		fprintf(stderr, "usage: bench_model [--quick]\n");
		return 2;
	}
	gemm g = {0};
	muon_blas_single_thread();
	gemm_setup(&g);
	printf("Models on micro-batches of %d tokens, one a thread, %s; processor time.\n\n",
	       BATCH_TOKENS, muon_blas_description());
	printf("| model      | params  | rounding | threads |  forward/s |    train/s |   GF/s | "
	       "sgemm's | share |\n"
	       "|            |       M |          |         |     tokens |     tokens |        | "
	       "        |       |\n"
	       "|------------|--------:|----------|--------:|-----------:|-----------:|-------:|"
	       "--------:|------:|\n");
	for (const char *const *name = mspec_model_presets(); *name; name++) {
		bench b = {0};
		bench_setup(&b, *name);
		for (int threads = 1; threads <= THREADS; threads++)
			report(&b, &g, *name, threads, false, quick ? 0.3 : 4);
		report(&b, &g, *name, THREADS, true, quick ? 0.3 : 4);
		bench_release(&b);
	}
	gemm_release(&g);
	return 0;
}
