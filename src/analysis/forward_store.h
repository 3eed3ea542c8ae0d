/* What forward measured of checkpoints, kept in a run's store (run_store.h). */
#ifndef MUONSPEC_ANALYSIS_FORWARD_STORE_H
#define MUONSPEC_ANALYSIS_FORWARD_STORE_H

#include "analysis/run_internal.h"

#include <muonspec/forward.h>

/* Where `muonspec track FOLDER` keeps the results of the checkpoint's folder; see
 * mspec_run_default_store. NULL as there. Release with mspec_run_release_path. */
char *mspec_forward_place(const char *path, const char **why);

/* Before the work: may the file be written to (MUON_E_USAGE), has it a folder (MUON_E_WRITE), and
 * what is the hash of the checkpoint at `path`; MUON_E_OPEN, MUON_E_READ, MUON_E_FORMAT, as for a
 * folder, MUON_E_MEMORY. *damaged: what the file kept can't be trusted and will be replaced. */
int mspec_forward_check_store(const char *store, bool *damaged, mspec_hash *hash,
                              const char *path, muon_error *err);

/* Keep the results in the file, in the place of earlier ones for the same content. MUON_E_READ when
 * the checkpoint has not this hash any more; MUON_E_WRITE, MUON_E_USAGE, MUON_E_MEMORY. */
int mspec_forward_store(const mspec_forward *forward, const mspec_hash *hash, const char *path,
                        const char *store, muon_error *err);

/* What the file keeps of the checkpoint at `path`: *found lives as long as *store, which the caller
 * closes; both are NULL if there is nothing. MUON_E_MEMORY, or why the files can't be used. */
int mspec_forward_find(const mspec_record **found, mspec_store **store, const char *file,
                       const char *path);

/* The values of that name ("forward_output_rms"); NULL: none. */
const mspec_recorded *mspec_forward_recorded(const mspec_record *record, const char *name);

/* One series for "forward_loss" and one per other name and layer, of what is known at some
 * checkpoint, into memory of the arena; `steps` has one entry per checkpoint. MUON_E_MEMORY. */
int mspec_forward_series(mspec_series **series, size_t *count, const mspec_run *run,
                         const double *steps, muon_arena *arena);

#endif
