/* A risk report in the making: verdicts on values, and what could not be judged. */
#ifndef MUONSPEC_ANALYSIS_JUDGING_H
#define MUONSPEC_ANALYSIS_JUDGING_H

#include "analysis/bf16_entries.h"
#include "analysis/run_store.h"
#include "base/memory.h"

#include <muonspec/risk.h>

typedef struct mspec_judging {
	mspec_checkpoint *checkpoint; /* the one that is judged */
	mspec_checkpoint *earlier;    /* NULL if there is none */
	const mspec_risk_options *options;
	mspec_risk_report *report;
	muon_arena *arena;
	size_t capacity; /* of report->risks */
	mspec_store *store;         /* of: */
	const mspec_record *stored; /* what forward measured, if it is to be used; else NULL */
	int64_t binades[MSPEC_BINADES], zeros;
	muon_error *err;
	int code; /* the first failure */
} mspec_judging;

/* Judge a value by its kind's limits, but at worst as `worst`; a NaN is as bad as that allows.
 * `reason` comes from the arena: NULL means that memory is out. */
void mspec_judge(mspec_judging *j, mspec_risk_kind kind, const char *name, const char *group,
                 double value, mspec_verdict worst, const char *reason);

/* Say why a kind can't be judged, wholly or in part. */
void mspec_cannot_judge(mspec_judging *j, mspec_risk_kind kind, const char *reason);

/* The parts of the report, each in a file of its own; failures end in j->code. */
void mspec_judge_weights(mspec_judging *j);
void mspec_judge_outputs(mspec_judging *j);
void mspec_judge_attention(mspec_judging *j);

/* Head-room of the largest weight or output (`what`) below the largest values of bf16 and fp16. */
void mspec_judge_range(mspec_judging *j, const char *name, const char *group, const char *what,
                       double max_abs);

#endif
