/* Which files are a run's checkpoints, and what step their names say. */
#ifndef MUONSPEC_ANALYSIS_RUN_FILES_H
#define MUONSPEC_ANALYSIS_RUN_FILES_H

#include "base/memory.h"

#include <stdbool.h>

/* Paths, in natural order where a folder was listed. */
typedef struct mspec_run_files {
	const char **paths;
	size_t count;
	muon_arena arena; /* owns the paths */
} mspec_run_files;

/* The checkpoints that `arguments` name: files as they are; of a folder the HDF5, safetensors and
 * npz files in it (of a sharded safetensors the index), and its subfolders that hold a
 * model.safetensors. Not spectra files, nor hidden or temporary ones. MUON_E_OPEN, MUON_E_MEMORY.
 * Release also after a failure. */
int mspec_run_files_find(mspec_run_files *files, const char *const *arguments, size_t count,
			 muon_error *err);
void mspec_run_files_release(mspec_run_files *files);

/* Steps that the names of checkpoints say, NaN where they say none. `regex` (POSIX extended, on the
 * whole path): the number that its first group, or else the whole, matches. Without: the number
 * after a word such as "step" or "epoch" where there is one, else the first number in which the
 * names differ, or the only one of a single name; of names that are all the same, the folder's.
 * MUON_E_USAGE for a bad expression, MUON_E_MEMORY. */
int mspec_run_steps(double *steps, const char *const *paths, size_t count, const char *regex,
		    muon_error *err);

#endif
