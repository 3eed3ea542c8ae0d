/* From one matrix of a checkpoint to its spectrum, reading in blocks. */
#ifndef MUONSPEC_ANALYSIS_MATRIX_SPECTRUM_H
#define MUONSPEC_ANALYSIS_MATRIX_SPECTRUM_H

#include <muonspec/checkpoint.h>
#include <muonspec/spectrum.h>

#include <pthread.h>

/* Where matrices come from and what is wanted of them. */
typedef struct mspec_spectrum_source {
	mspec_checkpoint *checkpoint;
	pthread_mutex_t *read_lock; /* held while reading; several threads share the checkpoint */
	muon_svd_method svd;
	bool sigma; /* singular values, not just the entries' statistics */
	bool gain;  /* the effect of the norm before the matrix */
	/* called with the matrix read so far, 0 to 1; may be NULL */
	void (*progress)(void *state, double share);
} mspec_spectrum_source;

/* Working memory in bytes that mspec_matrix_spectrum takes for the matrix. */
double mspec_matrix_spectrum_bytes(const mspec_spectrum_source *source, const mspec_matrix *matrix);

/* Compute the spectrum with `threads` threads: the same bits for any number of them.
 * The singular values are in *sigma, which the caller releases with muon_free, and in
 * spectrum->sigma; both are NULL unless values were asked for and found. The statistics of the
 * entries are valid with MUON_E_NONFINITE too.
 * MUON_E_READ, MUON_E_NONFINITE, MUON_E_NO_CONVERGENCE, MUON_E_TOO_LARGE, MUON_E_MEMORY. */
int mspec_matrix_spectrum(const mspec_spectrum_source *source, const mspec_matrix *matrix,
                          int threads, void *progress_state, mspec_spectrum *spectrum,
                          double **sigma, muon_error *err);

#endif
