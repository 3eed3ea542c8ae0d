#include <muon/kernels.h>

#include <cblas.h>
#include <stdio.h>
#include <string.h>

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

void muon_blas_single_thread(void)
{
	openblas_set_num_threads(1);
}
