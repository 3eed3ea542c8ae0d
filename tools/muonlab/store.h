/* An experiment's results, in its folder: runs.csv (a row a run), curves.csv (its log, thinned),
 * spectra.csv (metrics of its checkpoints' matrices), and all three once more in results.h5. */
#ifndef MUONLAB_STORE_H
#define MUONLAB_STORE_H

#include "grid.h"

typedef struct lab_store {
	const char *folder; /* the caller's */
	csv_table runs, curves, spectra;
} lab_store;

/* What is there already; nothing is an empty store. Release also after a failure. */
int lab_store_read(lab_store *store, const char *folder, muon_error *err);
void lab_store_release(lab_store *store);

/* Mark as done every run of the grid that has a result of the same settings, and resolve what that
 * resolves. */
void lab_store_match(const lab_store *store, lab_grid *grid);

/* How a run ended. */
typedef struct lab_outcome {
	const char *status; /* "ok", "diverged", "failed" */
	const char *message;
	const char *command;
	double seconds; /* of this session; the log's count where it has them */
} lab_outcome;

/* Put what `run` left in `folder` (log.csv, inspect.csv, spectra.csv) in place of what the store
 * had of it. MUON_E_MEMORY, and what reading gives. */
int lab_store_take(lab_store *store, const lab_plan *plan, lab_run *run,
                   const char *folder, const lab_outcome *outcome, muon_error *err);

/* Write the CSV files, in the plan's order; results of runs that the plan no longer has stay, at
 * the end. */
int lab_store_write(lab_store *store, const lab_grid *grid, muon_error *err);
/* Write results.h5. */
int lab_store_export(const lab_store *store, muon_error *err);

#endif
