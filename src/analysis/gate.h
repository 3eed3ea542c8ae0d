/* Gates: the values of a checkpoint, a run or a comparison against limits and against a baseline.
 * gate.c compares and knows no file; gate_measure.c makes the values, gate_json.c reads baselines
 * and rules. */
#ifndef MUONSPEC_ANALYSIS_GATE_H
#define MUONSPEC_ANALYSIS_GATE_H

#include <muonspec/risk.h>
#include <muonspec/run.h>

/* ---- values ------------------------------------------------------------------------------- */

/* kind, its name in rules, its list in a baseline */
#define MSPEC_SUBJECT_TABLE(X)                                                                     \
	X(MSPEC_SUBJECT_RUN, "run", "run")                                                         \
	X(MSPEC_SUBJECT_MODEL, "model", "model")                                                   \
	X(MSPEC_SUBJECT_GROUP, "group", "groups")                                                  \
	X(MSPEC_SUBJECT_MATRIX, "matrix", "matrices")                                              \
	X(MSPEC_SUBJECT_LAYER, "layer", "layers")                                                  \
	X(MSPEC_SUBJECT_FINDINGS, "findings", "findings")

#define MSPEC_SUBJECT_ENUM(kind, name, list) kind,
typedef enum mspec_subject_kind {
	MSPEC_SUBJECT_TABLE(MSPEC_SUBJECT_ENUM) MSPEC_SUBJECT_KINDS
} mspec_subject_kind;
#undef MSPEC_SUBJECT_ENUM

const char *mspec_subject_kind_name(mspec_subject_kind kind);
const char *mspec_subject_kind_list(mspec_subject_kind kind);

enum { MSPEC_NO_VERDICT = -1 };

/* One number of a subject: "rms", "rms.mean" of a group, "rms.exponent" of a run, "rms.difference"
 * of a comparison, "risk.range". */
typedef struct mspec_measure {
	const char *metric;
	double value;     /* NaN: undefined */
	int verdict;      /* mspec_verdict of a risk, or MSPEC_NO_VERDICT */
	const char *note; /* why it is undefined, or the verdict's reason (escaped), or NULL */
} mspec_measure;

/* What has values: a matrix, a group "(AttnQO)", the model "(model)", ... */
typedef struct mspec_subject {
	mspec_subject_kind kind;
	const char *name;   /* UTF-8, not escaped */
	const char *group;  /* or NULL */
	double rows, cols;  /* of a matrix; 0: not known */
	const char *dtype;  /* or NULL */
	const char *status; /* "ok", or why there are no values */
	mspec_measure *measures;
	size_t count, room;
} mspec_subject;

typedef enum mspec_measured_kind {
	MSPEC_OF_CHECKPOINT,
	MSPEC_OF_RUN,
	MSPEC_OF_COMPARISON,
	MSPEC_OF_KINDS
} mspec_measured_kind;

const char *mspec_measured_kind_name(mspec_measured_kind kind); /* "checkpoint", ... */

/* A file that values come from. */
typedef struct mspec_source {
	const char *path, *format, *layout, *optimizer; /* all but path may be NULL */
	const char *digest;                             /* "xxh3-128:..." of the contents */
	double step;                                    /* NaN: not known */
} mspec_source;

/* All values of one thing, and where they come from. */
typedef struct mspec_measurement {
	mspec_measured_kind kind;
	mspec_source *sources;
	size_t source_count;
	const char *svd;            /* method, "gram" or "gesdd" */
	const char *const *metrics; /* of the registry, by name */
	size_t metric_count;
	const char *const *include, *const *exclude; /* globs that chose the matrices */
	size_t include_count, exclude_count;
	mspec_subject *subjects;
	size_t count, room;
	void *memory; /* arena */
} mspec_measurement;

/* An empty one with room for as many subjects. MUON_E_MEMORY. */
int mspec_measurement_create(mspec_measurement **out, mspec_measured_kind kind, size_t room);
void mspec_measurement_destroy(mspec_measurement **measurement); /* NULL-safe */

/* Add a subject with room for `measures`; names are copied, made UTF-8 where they are not. NULL
 * when out of memory or room. */
mspec_subject *mspec_add_subject(mspec_measurement *m, mspec_subject_kind kind, const char *name,
                                 const char *group, size_t measures);
/* The name under which it is added: itself when it is UTF-8. NULL when out of memory. */
const char *mspec_subject_name(mspec_measurement *m, const char *name);
/* Add a value; strings are copied, an infinite value becomes NaN. MUON_E_MEMORY. */
int mspec_add_measure(mspec_measurement *m, mspec_subject *subject, const char *metric,
                      const char *suffix, double value, int verdict, const char *note);
const mspec_measure *mspec_find_measure(const mspec_subject *subject, const char *metric);

/* The subjects in the order of kind and name, to be found by them. */
typedef struct mspec_subject_index {
	mspec_subject **subjects;
	size_t count;
} mspec_subject_index;

/* MUON_E_MEMORY */
int mspec_index_subjects(mspec_subject_index *index, const mspec_measurement *m);
void mspec_index_release(mspec_subject_index *index);
mspec_subject *mspec_index_find(const mspec_subject_index *index, mspec_subject_kind kind,
                                const char *name); /* or NULL */

/* ---- measuring ---------------------------------------------------------------------------- */

typedef struct mspec_measure_options {
	mspec_run_options run; /* view, open, svd, threads, progress; changes are not measured */
	const char *stores[2]; /* of a comparison's sides; a run's is run.store */
	const size_t *metrics; /* of the registry */
	size_t metric_count;
} mspec_measure_options;

/* Metrics of every matrix, mean, least and largest of every group, and the verdicts of
 * mspec_risk_judge. A matrix that is not ok is a subject with a status. */
int mspec_measure_checkpoint(mspec_measurement **out, mspec_checkpoint *checkpoint,
                             const mspec_measure_options *options, muon_error *err);

/* Of the last checkpoint: metrics of matrices, groups and the model, recorded activations, risks
 * since the checkpoint before. Of all: the exponent of every trend, and of "(run)" how many
 * checkpoints there are, the last step, the files set aside and the checkpoints of which some
 * matrices are not ok. */
int mspec_measure_run(mspec_measurement **out, const char *const *arguments, size_t count,
                      const mspec_measure_options *options, muon_error *err);

/* Of the last pair of checkpoints: every metric of a and b and their difference, and the findings
 * over all matrices; of "(comparison)" how many checkpoints pair and how many don't. A matrix that
 * only one side has is a subject that is not ok. */
int mspec_measure_comparison(mspec_measurement **out, const char *a, const char *b,
                             const mspec_measure_options *options, muon_error *err);

/* ---- rules -------------------------------------------------------------------------------- */

/* Which way a value must not go from its baseline. */
typedef enum mspec_direction { MSPEC_BOTH_WAYS, MSPEC_UP, MSPEC_DOWN } mspec_direction;

/* What a value may differ from its baseline: by the larger of `absolute` and `relative` times the
 * baseline's size. */
typedef struct mspec_tolerance {
	double relative, absolute;
	mspec_direction direction;
	bool ignore; /* is not compared */
} mspec_tolerance;

/* The one that holds for a metric where no rule says another. */
mspec_tolerance mspec_default_tolerance(const char *metric);

typedef struct mspec_gate_rule {
	const char *label;          /* "rule 2" */
	const char *metric;         /* glob */
	const char *name, *group;   /* globs; NULL: any */
	int kind;                   /* mspec_subject_kind, or -1: any */
	double min, max;            /* NaN: none */
	bool has_tolerance;
	mspec_tolerance tolerance;
	int worst;                  /* mspec_verdict that is still allowed, or MSPEC_NO_VERDICT */
	bool optional;              /* it may match nothing */
} mspec_gate_rule;

/* What fails unless its name is allowed. */
typedef enum mspec_allowance {
	MSPEC_ALLOW_MISSING,   /* of the baseline, and not there now */
	MSPEC_ALLOW_NEW,       /* not of the baseline */
	MSPEC_ALLOW_UNDEFINED, /* values; globs match NAME or NAME:METRIC */
	MSPEC_ALLOW_NOT_OK,    /* NaN, Inf, unreadable, ... */
	MSPEC_ALLOWANCES
} mspec_allowance;

const char *mspec_allowance_name(mspec_allowance allowance); /* "missing", ..., "not_ok" */

typedef struct mspec_gate_rules {
	mspec_gate_rule *rules;
	size_t count;
	const char *const *allow[MSPEC_ALLOWANCES]; /* globs on names */
	size_t allow_count[MSPEC_ALLOWANCES];
	void *memory; /* arena, or NULL: the caller's */
} mspec_gate_rules;

void mspec_gate_rules_release(mspec_gate_rules *rules);

/* Does a rule name the registry's metric, or a number made of it? */
bool mspec_rules_want(const mspec_gate_rules *rules, const char *metric);

/* ---- comparing ---------------------------------------------------------------------------- */

/* cause, its name in reports */
#define MSPEC_CAUSE_TABLE(X)                                                                       \
	X(MSPEC_CAUSE_LIMIT, "limit")                                                              \
	X(MSPEC_CAUSE_TOLERANCE, "tolerance")                                                      \
	X(MSPEC_CAUSE_VERDICT, "verdict")                                                          \
	X(MSPEC_CAUSE_MISSING, "missing")                                                          \
	X(MSPEC_CAUSE_NEW, "new")                                                                  \
	X(MSPEC_CAUSE_UNDEFINED, "undefined")                                                      \
	X(MSPEC_CAUSE_STATUS, "status")                                                            \
	X(MSPEC_CAUSE_CHANGED, "changed")                                                          \
	X(MSPEC_CAUSE_NOTHING, "nothing")

#define MSPEC_CAUSE_ENUM(cause, name) cause,
typedef enum mspec_gate_cause { MSPEC_CAUSE_TABLE(MSPEC_CAUSE_ENUM) MSPEC_CAUSES } mspec_gate_cause;
#undef MSPEC_CAUSE_ENUM

const char *mspec_gate_cause_name(mspec_gate_cause cause);

typedef struct mspec_gate {
	const char *name, *group; /* of the subject, not escaped; group may be NULL */
	const char *metric;
	double baseline, value, limit; /* NaN: there is none */
	mspec_gate_cause cause;        /* what was looked at */
	bool failed;
	const char *reason; /* one line; bytes from files are escaped */
} mspec_gate;

typedef struct mspec_gate_report {
	mspec_gate *gates; /* in the order of the subjects, then what is missing, then rules */
	size_t count, failed;
	void *memory;
} mspec_gate_report;

/* Can what is of this kind be held against them? MUON_E_USAGE where a rule needs a baseline and there
 * is none, or the baseline is of another kind. */
int mspec_gate_fit(mspec_measured_kind kind, const mspec_measurement *baseline,
                   const mspec_gate_rules *rules, muon_error *err);

/* Hold `now` against `baseline` (NULL: none) and `rules`. With a baseline every value of it is
 * compared, by the last rule with a tolerance that matches or by mspec_default_tolerance; a risk
 * must not get worse. Limits of all rules that match hold. Fails closed: see mspec_allowance; no
 * matrices, a rule that matches nothing and no gates at all are failures too. Both measurements and
 * the rules must live as long as the report. MUON_E_USAGE as mspec_gate_fit; MUON_E_MEMORY. */
int mspec_gate_check(mspec_gate_report **out, const mspec_measurement *now,
                     const mspec_measurement *baseline, const mspec_gate_rules *rules,
                     muon_error *err);
void mspec_gate_report_destroy(mspec_gate_report **report); /* NULL-safe */

/* ---- files -------------------------------------------------------------------------------- */

#define MSPEC_BASELINE_SCHEMA "muonspec/baseline/1"
#define MSPEC_RULES_SCHEMA "muonspec/rules/1"

/* Read a baseline. MUON_E_OPEN; MUON_E_FORMAT for what is no baseline of this schema or holds no
 * matrices; MUON_E_MEMORY. `parse` takes text; `where` names it in messages. */
int mspec_baseline_load(mspec_measurement **out, const char *path, muon_error *err);
int mspec_baseline_parse(mspec_measurement **out, const char *text, size_t size, const char *where,
                         muon_error *err);

/* Read rules. MUON_E_OPEN; MUON_E_USAGE for what is wrong in them; MUON_E_MEMORY. Release also
 * after a failure. */
int mspec_rules_load(mspec_gate_rules *rules, const char *path, muon_error *err);
int mspec_rules_parse(mspec_gate_rules *rules, const char *text, size_t size, const char *where,
                      muon_error *err);

#endif
