/* Where a run's results are kept between calls: an HDF5 file that is replaced as a whole, whose
 * bytes carry their own hash, so that what was damaged or half written is never taken for a result.
 *
 * Before the HDF5 data stands a block of 512 bytes with the hash of all that follows. Results are
 * found by a key made from the checkpoint's content, never by its name or time:
 *   /listings/<id>/{name,group,rows,cols}  the matrices that checkpoints have
 *   /checkpoints/<key>/{info,numbers,singular_values,...}
 *   /changes/<key before>/<key>            what changed from one to the other
 *   /forward/<hash of the content>         what forward measured; the only ones to be replaced */
#ifndef MUONSPEC_ANALYSIS_RUN_STORE_H
#define MUONSPEC_ANALYSIS_RUN_STORE_H

#include <muonspec/report.h>

#include "base/memory.h"

/* The matrices of a checkpoint: what must be the same all through a run. Names are UTF-8. */
typedef struct mspec_listing {
	const char *id; /* hash of all of the following */
	size_t count;
	const char **names, **groups;
	double *rows, *cols;
} mspec_listing;

/* Statistics of activations that the checkpoint records, one value per layer, or one of a matrix. */
typedef struct mspec_recorded {
	const char *name; /* "output_rms", "matrices/model.layers.0.mlp.up_proj.weight/output_rms" */
	size_t count;
	double *values;
} mspec_recorded;

/* What is known of a checkpoint without its spectra. */
typedef struct mspec_record {
	const char *key;
	const char *listing;
	const char *optimizer; /* or NULL */
	double step, lr, weight_decay, tokens, loss;
	mspec_recorded *recorded;
	size_t recorded_count;
} mspec_record;

/* The spectra of a checkpoint's matrices, in the order of its listing. */
typedef struct mspec_spectra {
	size_t count;
	mspec_spectrum *spectra; /* sigma is NULL where code is not MUON_OK */
	int *codes;
	double *sigma;           /* memory behind the spectra's, or NULL */
} mspec_spectra;
void mspec_spectra_release(mspec_spectra *spectra);

typedef struct mspec_store mspec_store;

/* Open the store at `path`, which need not exist; NULL: keep nothing. What is there and can't be
 * trusted is told by mspec_store_problem, and replaced. MUON_E_MEMORY; MUON_E_USAGE for a file that
 * is no store and not to be overwritten. */
int mspec_store_open(mspec_store **out, const char *path, muon_error *err);
/* Forgets what was not committed. NULL-safe. */
void mspec_store_close(mspec_store **store);
/* One line, or NULL; also of a commit that failed, after which nothing more is kept. */
const char *mspec_store_problem(const mspec_store *store);
/* Does it keep what is added: false without a path, and after a failure. */
bool mspec_store_keeps(const mspec_store *store);

/* All found things live as long as the store, but for spectra, which the caller releases. NULL or
 * false where the store has none. */
const mspec_record *mspec_store_record(mspec_store *store, const char *key);
const mspec_listing *mspec_store_listing(mspec_store *store, const char *id);
bool mspec_store_spectra(mspec_store *store, const char *key, const mspec_listing *listing,
			 mspec_spectra *spectra);
bool mspec_store_changes(mspec_store *store, const char *before, const char *key,
			 mspec_change *changes, size_t count);
/* Of the checkpoint with this hash: a record of which only key and recorded values are set. */
const mspec_record *mspec_store_forward(mspec_store *store, const char *hash);

/* Copies are kept until they are committed. MUON_E_MEMORY. */
int mspec_store_add_listing(mspec_store *store, const mspec_listing *listing,
			    const mspec_listing **kept);
int mspec_store_add_record(mspec_store *store, const mspec_record *record,
			   const mspec_record **kept);
int mspec_store_add_spectra(mspec_store *store, const char *key, const mspec_spectra *spectra);
int mspec_store_add_changes(mspec_store *store, const char *before, const char *key,
			    const mspec_change *changes, size_t count);
/* The record's key is the content's hash; takes the place of what is kept under it. */
int mspec_store_add_forward(mspec_store *store, const mspec_record *record);

/* Write what was added, together with what other processes have written meanwhile; unless `now`,
 * only if the last time was long enough ago for writing to cost little. A failure is the store's
 * problem, not the caller's. */
void mspec_store_commit(mspec_store *store, bool now);

#endif
