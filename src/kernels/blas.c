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

/* The product of one thread: c = a b, of three matrices one behind another. */
static bool multiply_once(void *state, size_t task, int worker)
{
	const size_t area = (size_t)RATE_SIZE * RATE_SIZE;
	float *a = (float *)state + 3 * area * task;
	(void)worker;
	cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, RATE_SIZE, RATE_SIZE, RATE_SIZE, 1, a,
	            RATE_SIZE, a + area, RATE_SIZE, 0, a + 2 * area, RATE_SIZE);
	return true;
}

double muon_sgemm_rate(int threads)
{
	const size_t area = (size_t)RATE_SIZE * RATE_SIZE, count = 3 * area * (size_t)threads;
	float *matrices = muon_alloc_aligned(count, sizeof *matrices);
	double best = 0;
	if (!matrices)
		return 0;
	for (size_t i = 0; i < count; i++)
		matrices[i] = (float)(i % 17) / 16;
	for (int trial = 0; trial < RATE_TRIALS; trial++) {
		double started = muon_seconds();
		muon_pool_run(threads, (size_t)threads, multiply_once, matrices);
		double rate = 2.0 * RATE_SIZE * (double)area * threads / (muon_seconds() - started);
		best = rate > best ? rate : best;
	}
	muon_free_aligned(matrices);
	return best / 1e9;
}
