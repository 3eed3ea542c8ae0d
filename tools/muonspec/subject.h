/* What a plot or a report is about: a checkpoint, a run, or two of them, with all that is computed
 * of them. */
#ifndef MUONSPEC_TOOL_SUBJECT_H
#define MUONSPEC_TOOL_SUBJECT_H

#include "options.h"

#include "common/progress.h"

#include <muonspec/risk.h>
#include <muonspec/run.h>

typedef enum subject_kind { SUBJECT_CHECKPOINT, SUBJECT_RUN, SUBJECT_COMPARISON } subject_kind;

/* The checkpoint that spectra are shown of: the only one, a run's last, or of a comparison the last
 * that has a partner. */
typedef struct subject_side {
	const char *label;  /* as given, not escaped; "" if there is one side only */
	mspec_checkpoint *checkpoint, *earlier; /* earlier: of a run, the one before; or NULL */
	mspec_analysis *analysis;  /* with spectra and every metric */
	mspec_risk_report *risk;   /* where asked for, else NULL */
	double lr, update_rms;     /* that its updates have; NaN: unknown */
	double *steps, *recorded_update_rms; /* of a run's checkpoints; NaN where none is recorded */
	size_t recorded_count;
} subject_side;

typedef struct subject {
	subject_kind kind;
	subject_side sides[2];
	int side_count;
	mspec_track *track;           /* of a run */
	mspec_comparison *comparison; /* of two */
	mspec_risk_options judging;   /* how risks were judged */
	const tool_options *options;
	progress_line line;
} subject;

/* Compute all of options->arguments, risks too if wanted. Release also after a failure. */
int subject_load(subject *s, const tool_options *options, bool risks, const char *verb,
                 muon_error *err);
void subject_release(subject *s);

/* The run of a side: NULL for a single checkpoint. */
const mspec_run *subject_run(const subject *s, int side);
/* What is tracked of a side: NULL for a single checkpoint. */
const mspec_track *subject_track(const subject *s, int side);
/* The registry's metric in the sides' analyses. */
size_t subject_metric(const char *name);

#endif
