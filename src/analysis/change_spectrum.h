/* The change of a matrix between two checkpoints of a run, and its spectrum. */
#ifndef MUONSPEC_ANALYSIS_CHANGE_SPECTRUM_H
#define MUONSPEC_ANALYSIS_CHANGE_SPECTRUM_H

#include <muonspec/report.h>

#include <pthread.h>

/* Which change is wanted, and how. */
typedef struct mspec_change_source {
	mspec_checkpoint *before, *after;
	pthread_mutex_t *read_lock; /* held while reading either */
	mspec_change_method method;
	int align;          /* leading singular vectors to compare, 0 to MUON_KRYLOV_VECTORS */
	double max_memory;  /* bytes; 0: no limit. Above it changes are decomposed block by block */
} mspec_change_source;

/* Memory that one worker uses again and again: fresh memory for every matrix would cost as much as
 * the estimates. Zero-initialise. */
typedef struct mspec_change_scratch {
	void *memory;
	size_t bytes;
} mspec_change_scratch;
void mspec_change_scratch_release(mspec_change_scratch *scratch);

/* Working memory in bytes that mspec_change_spectrum takes for the matrix. */
double mspec_change_spectrum_bytes(const mspec_change_source *source, const mspec_matrix *matrix);

/* The change from `before` to `after`, the same matrix of the two checkpoints. Where matrices are
 * up to 128 on the short side, or the method says so, the change is decomposed; else its spectrum
 * is estimated (muon_krylov_spectrum). change->code is what is returned.
 * MUON_E_READ, MUON_E_NONFINITE, MUON_E_NO_CONVERGENCE, MUON_E_TOO_LARGE, MUON_E_MEMORY,
 * MUON_E_UNSUPPORTED for a matrix that the two store in different layouts. */
int mspec_change_spectrum(const mspec_change_source *source, const mspec_matrix *before,
			  const mspec_matrix *after, mspec_change_scratch *scratch,
			  mspec_change *change);

#endif
