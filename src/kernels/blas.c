#define _GNU_SOURCE /* MAP_ANONYMOUS */
#include "base/clock.h"
#include "base/memory.h"
#include "base/pool.h"

#include <muon/kernels.h>

#include <cblas.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

const char *muon_blas_description(void)
{
	/* "OpenBLAS 0.3.21 NO_LAPACKE DYNAMIC_ARCH ... MAX_THREADS=64": only the first two words */
	static _Thread_local char text[128];
	const char *config = openblas_get_config();
	size_t length = strcspn(config, " ");
	if (config[length])
		length += 1 + strcspn(config + length + 1, " ");
	snprintf(text, sizeof text, "%.*s (%s)", (int)length, config, openblas_get_corename());
	return text;
}

bool muon_blas_has_room(int threads, double bytes)
{
	const double per_thread = 144.0 * 1048576; /* OpenBLAS' buffer, the thread's stack and heap */
	double needed = bytes + threads * per_thread;
	if (!(needed < (double)(SIZE_MAX / 4)))
		return false;
	void *probe = mmap(NULL, (size_t)needed, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
	                   -1, 0);
	if (probe == MAP_FAILED)
		return false;
	munmap(probe, (size_t)needed);
	return true;
}

void muon_blas_single_thread(void)
{
	openblas_set_num_threads(1);
}

/* ---- rate ---------------------------------------------------------------------------------- */

enum { RATE_SIZE = 1024, RATE_TRIALS = 4 };

typedef struct rate_trial {
	float *matrices;  /* three a thread */
	double *seconds;  /* a thread's processor time */
} rate_trial;

/* The product of one thread: c = a b. */
static bool multiply_once(void *state, size_t task, int worker)
{
	const size_t area = (size_t)RATE_SIZE * RATE_SIZE;
	const rate_trial *trial = state;
	float *a = trial->matrices + 3 * area * task;
	double started = muon_thread_seconds();
	(void)worker;
	cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, RATE_SIZE, RATE_SIZE, RATE_SIZE, 1, a,
	            RATE_SIZE, a + area, RATE_SIZE, 0, a + 2 * area, RATE_SIZE);
	trial->seconds[task] = muon_thread_seconds() - started;
	return true;
}

/* Best rates of a few trials. */
static void try_products(rate_trial *trial, int threads, double *rate, double *processor_rate)
{
	const double flops = 2.0 * RATE_SIZE * RATE_SIZE * RATE_SIZE * threads / 1e9;
	for (int i = 0; i < RATE_TRIALS; i++) {
		double started = muon_seconds(), busy = 0;
		muon_pool_run(threads, (size_t)threads, multiply_once, trial);
		double passed = muon_seconds() - started;
		for (int t = 0; t < threads; t++)
			busy += trial->seconds[t] / threads;
		*rate = flops / passed > *rate ? flops / passed : *rate;
		*processor_rate = flops / busy > *processor_rate ? flops / busy : *processor_rate;
	}
}

double muon_sgemm_rate(int threads, double *processor_rate)
{
	const size_t count = (size_t)3 * RATE_SIZE * RATE_SIZE * (size_t)threads;
	double rate = 0, by_processor = 0;
	rate_trial trial = {.matrices = muon_alloc_aligned(count, sizeof *trial.matrices),
	                    .seconds = muon_alloc((size_t)threads, sizeof *trial.seconds)};
	for (size_t i = 0; trial.matrices && i < count; i++)
		trial.matrices[i] = (float)(i % 17) / 16;
	if (trial.matrices && trial.seconds)
		try_products(&trial, threads, &rate, &by_processor);
	muon_free_aligned(trial.matrices);
	muon_free(trial.seconds);
	if (processor_rate)
		*processor_rate = by_processor;
	return rate;
}
