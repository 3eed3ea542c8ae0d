/* What track and compare share: a run's spectra, one checkpoint after the other. */
#ifndef MUONSPEC_ANALYSIS_RUN_VISIT_H
#define MUONSPEC_ANALYSIS_RUN_VISIT_H

#include "analysis/run_store.h"

#include <muonspec/run.h>

/* Called for each checkpoint of the run in the order of steps, with its spectra, the changes since
 * the one before (NULL for the first, or if none are wanted; as many as matrices), and its record. */
typedef int (*mspec_visit_fn)(void *state, size_t index, const mspec_spectra *spectra,
			      const mspec_change *changes, const mspec_record *record,
			      muon_error *err);

/* From the store what it has, computed and kept there what it has not. */
int mspec_run_visit(mspec_run *run, mspec_visit_fn visit, void *state, muon_error *err);

/* The metrics of one spectrum into `values`; `work` has spectrum->count doubles. */
void mspec_spectrum_metrics(const mspec_spectrum *spectrum, const size_t *metrics, size_t count,
			    double *work, double *values);

/* Registry indices of the metrics that are shown unasked. */
enum { MSPEC_USUAL_METRICS = 5 };
void mspec_usual_metrics(size_t metrics[MSPEC_USUAL_METRICS]);

#endif
