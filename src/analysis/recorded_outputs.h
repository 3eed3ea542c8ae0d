/* What a run's checkpoints record of the outputs y = W x of single matrices, as series. */
#ifndef MUONSPEC_ANALYSIS_RECORDED_OUTPUTS_H
#define MUONSPEC_ANALYSIS_RECORDED_OUTPUTS_H

#include "analysis/run_internal.h"

/* output_rms of each matrix of the run at each of its checkpoints, values[matrix * stride +
 * checkpoint]; values is NULL where it is not known. */
typedef struct mspec_closed_form {
	const double *values;
	size_t stride;
} mspec_closed_form;

/* Is it of the output of one matrix, not of layers? */
bool mspec_is_output_record(const mspec_recorded *recorded);

/* One series per matrix and MSPEC_SERIES_OUTPUT's metric that is known at some checkpoint, by
 * matrix, into memory of the arena; `steps` has one entry per checkpoint. MUON_E_MEMORY. */
int mspec_recorded_outputs(mspec_series **series, size_t *count, const mspec_run *run,
			   const double *steps, const mspec_closed_form *closed, muon_arena *arena);

#endif
