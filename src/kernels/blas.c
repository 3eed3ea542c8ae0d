#define _GNU_SOURCE /* MAP_ANONYMOUS */
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
