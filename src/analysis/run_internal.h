/* What stands behind a mspec_run. */
#ifndef MUONSPEC_ANALYSIS_RUN_INTERNAL_H
#define MUONSPEC_ANALYSIS_RUN_INTERNAL_H

#include "analysis/content_hash.h"
#include "analysis/run_files.h"
#include "analysis/run_store.h"

#include <muonspec/run.h>

#include <sys/stat.h>

typedef struct mspec_run_memory {
	muon_arena arena;
	mspec_run_options options;
	mspec_run_files files;
	mspec_store *store;
	const mspec_listing *listing;
	const mspec_record **records; /* of run.checkpoints */
	const mspec_record **forwards; /* what forward stored of them; NULL: nothing */
	struct stat *states;          /* of their files when they were hashed */
} mspec_run_memory;

/* What the caller's watcher is told of a file of the run: its path before the object's name. */
typedef struct mspec_run_watch {
	const mspec_open_options *options; /* the caller's */
	const char *path;
	char text[1024];
} mspec_run_watch;

/* mspec_open; `watch` lives as long as the checkpoint. */
int mspec_run_open_file(mspec_checkpoint **out, mspec_run_watch *watch,
			const mspec_run_options *options, const char *path, muon_error *err);

/* The matrices that a checkpoint's views show, into memory of the arena; NULL when out of it. */
mspec_listing *mspec_listing_of(const mspec_views *views, muon_arena *arena);

/* What the record of a checkpoint says, into memory of the arena but for info's strings; its key is
 * not set. MUON_E_MEMORY. */
int mspec_record_of(mspec_record *record, mspec_checkpoint *checkpoint, const mspec_listing *listing,
		    muon_arena *arena);

/* Tell the caller how far things are; MUON_E_INTERNAL when it wants to stop. */
int mspec_run_progress(const mspec_run_options *options, double done, double total,
		       const char *what, muon_error *err);

#endif
