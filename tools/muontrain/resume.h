/* Finding where a run stopped. */
#ifndef MUONTRAIN_RESUME_H
#define MUONTRAIN_RESUME_H

#include "train_options.h"

typedef struct resume_point {
	char *path; /* the newest checkpoint with the optimizer's state */
	int64_t step;
	uint64_t corpus_hash;
	char *described; /* what describe_run said of the run, newlines included */
	char *corpus;
	mspec_model_config config;
	char *words; /* what its options point into */
} resume_point;

/* Look in the folder. MUON_E_USAGE if there is nothing to go on from; MUON_E_FORMAT for a checkpoint
 * that does not say how it was made. Release also after a failure. */
int resume_find(resume_point *point, const char *folder, muon_error *err);

/* The run's own options over the defaults. */
int resume_options(train_options *options, resume_point *point, muon_error *err);

/* Are the resolved options, with what the command line has changed, still those of the run?
 * MUON_E_USAGE naming the first that is not. */
int resume_check(const train_options *options, const resume_point *point, muon_error *err);

void resume_release(resume_point *point);

#endif
