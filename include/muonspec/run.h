/* Runs: the checkpoints of one training over its steps, what becomes of its weights, and how two
 * runs differ. */
#ifndef MUONSPEC_RUN_H
#define MUONSPEC_RUN_H

#include <muonspec/report.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- a run ------------------------------------------------------------------------------- */

typedef struct mspec_run_options {
	mspec_view_options view;
	mspec_open_options open;
	const char *step_regex;   /* POSIX extended, on paths; NULL: the built-in rules */
	const char *store;        /* file that keeps results (run_store.h); NULL: none is kept */
	muon_svd_method svd;
	int threads;              /* as in mspec_analyze_options */
	int64_t max_memory;
	bool strict;              /* a matrix that is not ok, or a file that can't be read, is an error */
	mspec_change_method changes;
	int align;                /* leading singular vectors to compare; 0: none */
	/* Called for each file before it is opened: why it is to be set aside unread (escaped, and in
	 * being until the run is closed); NULL: it is not. May be NULL. */
	const char *(*refuses)(void *state, const char *path);
	void *refuses_state;
	/* Called with checkpoints done, of how many, and what is being done; false stops with
	 * MUON_E_INTERNAL. May be NULL. */
	bool (*progress)(void *state, double done, double total, const char *what);
	void *progress_state;
} mspec_run_options;

typedef struct mspec_run_checkpoint {
	const char *path;
	double step;
	const char *status;    /* "ok"; "partial" once some of its matrices have been found not ok */
	const char *optimizer; /* or NULL */
	double lr, weight_decay, tokens, loss; /* NaN where the file says nothing */
} mspec_run_checkpoint;

/* A file that is not of the run, or not to be read, and why (escaped). */
typedef struct mspec_set_aside {
	const char *path, *reason;
} mspec_set_aside;

typedef struct mspec_run {
	mspec_run_checkpoint *checkpoints; /* by step, ascending, no step twice */
	size_t count;
	mspec_set_aside *set_aside;
	size_t set_aside_count;
	bool positions;      /* nothing says steps: they are the files' places, from 0 */
	/* the matrices that every checkpoint has, in checkpoint order; names are UTF-8 */
	size_t matrix_count;
	const char *const *names, *const *groups;
	const double *rows, *cols;
	const char *store;         /* file in use, or NULL */
	const char *store_problem; /* one line, or NULL */
	bool kept;                 /* results are in the store, or will be */
	size_t computed, reused;   /* checkpoints */
	void *memory;
} mspec_run;

/* See the files that `arguments` name (files, or folders of them) as a run: hash them, find their
 * steps in attributes, else in names, and set aside what has other matrices than most (of as many,
 * than the first), the same bytes, or the same step as another, no step, or can't be read. What the
 * store knows is not opened. MUON_E_OPEN; MUON_E_FORMAT when no checkpoint is left. */
MUON_API int mspec_run_open(mspec_run **out, const char *const *arguments, size_t count,
                            const mspec_run_options *options, muon_error *err);
MUON_API void mspec_run_close(mspec_run **run); /* NULL-safe */

/* Where the results of a run are kept when nobody says: DIR.spectra.h5 beside a folder DIR,
 * run.spectra.h5 beside files; where that can't be written, a file in $XDG_CACHE_HOME/muonspec or
 * ~/.cache/muonspec, which is made. NULL where neither can be (*why says it), or out of memory.
 * Release with mspec_run_release_path. */
MUON_API char *mspec_run_default_store(const char *const *arguments, size_t count,
                                       const char **why);
MUON_API void mspec_run_release_path(char *path);

/* ---- track ------------------------------------------------------------------------------- */

/* A limit whose crossing is asked for. */
typedef struct mspec_limit {
	const char *metric; /* of the registry or a change's */
	double value;
} mspec_limit;

typedef struct mspec_track_options {
	mspec_run_options run;
	const size_t *metrics; /* of the registry; NULL: rms, spectral_norm, svd_entropy, stable_rank,
	                          output_rms */
	size_t metric_count;
	const mspec_limit *limits;
	size_t limit_count;
	double level;          /* of intervals; 0: 0.95 */
	bool spectra;          /* fill mspec_track.spectra */
} mspec_track_options;

/* What a series is about. */
typedef enum mspec_series_kind {
	MSPEC_SERIES_MODEL,  /* all weights: name "(model)", no group */
	MSPEC_SERIES_GROUP,  /* name "(AttnQO)" */
	MSPEC_SERIES_MATRIX,
	MSPEC_SERIES_LAYER,  /* recorded activations: "layer 3", metric "recorded_output_rms" */
	/* recorded outputs y = W x of a matrix: "recorded_output_rms", "recorded_output_max_abs", and
	 * "recorded_output_rms_ratio", recorded over closed form */
	MSPEC_SERIES_OUTPUT,
	/* what `muonspec forward --store` measured: "(model)" with metric "forward_loss"; "layer 3"
	 * with "forward_output_rms" and the like of mspec_forward_layer */
	MSPEC_SERIES_FORWARD
} mspec_series_kind;

/* Where spectra are looked at side by side: shares p of the way from the largest singular value to
 * the smallest; of n values it is number round(p (n - 1)), counted from 0. */
enum { MSPEC_SPECTRUM_PLACES = 7 };
MUON_API const double *mspec_spectrum_places(void);

/* One number over steps. RMS and changes of groups and of the model are of all their entries taken
 * together; other metrics are the mean over matrices. */
typedef struct mspec_series {
	mspec_series_kind kind;
	const char *name, *group, *metric;
	size_t count;
	const double *steps, *values; /* NaN: undefined, or the matrix not ok */
} mspec_series;

/* value ~ step^exponent, fitted to the logarithms. */
typedef struct mspec_trend {
	const mspec_series *series;
	double exponent, exponent_error; /* standard error; NaN where there is no fit */
	bool crosses;                    /* `at` is known */
	double limit;                    /* NaN: none was asked for */
	double at, low, high;            /* step; low and high may be infinite or NaN */
	const char *note;                /* what the data don't support, or NULL */
} mspec_trend;

typedef struct mspec_track {
	mspec_run *run;
	mspec_series *series;
	size_t series_count;
	mspec_trend *trends;
	size_t trend_count;
	const char *const *metrics; /* names of the columns: registry metrics, then changes */
	size_t metric_count;
	/* Spectra in outline, if asked for: s_i / s_1 at each of mspec_spectrum_places for matrix i at
	 * checkpoint k, from (i * run->count + k) * MSPEC_SPECTRUM_PLACES; NaN where not ok. */
	const double *spectra;
	bool estimated; /* some spectra of changes are estimates */
	void *memory;
} mspec_track;

MUON_API int mspec_track_run(mspec_track **out, const char *const *arguments, size_t count,
                             const mspec_track_options *options, muon_error *err);
MUON_API void mspec_track_destroy(mspec_track **track);

/* ---- compare ----------------------------------------------------------------------------- */

/* What pairs the checkpoints of two runs. */
typedef enum mspec_pairing { MSPEC_PAIR_STEP, MSPEC_PAIR_TOKENS } mspec_pairing;

typedef struct mspec_compare_options {
	mspec_run_options run;     /* store is not used: see stores */
	const char *stores[2];     /* of a and b; may be NULL */
	const size_t *metrics;     /* as in mspec_track_options */
	size_t metric_count;
	mspec_pairing pairing;
	const char *labels[2];
	double level;              /* of intervals; 0: 0.95 */
} mspec_compare_options;

/* Metrics of one matrix, or of a group or the model, at one pair of checkpoints; a and b have
 * metric_count values each. */
typedef struct mspec_pair {
	mspec_series_kind kind;
	const char *name, *group;
	double step;              /* of a */
	const double *a, *b;
	/* s_i / s_1 at each of mspec_spectrum_places; NULL but for matrices of the last pair of
	 * checkpoints */
	const double *spectrum_a, *spectrum_b;
} mspec_pair;

/* One metric over the matrices of the last pair of checkpoints. */
typedef struct mspec_finding {
	const char *metric;
	double share_higher_a, share_higher_b, ties; /* of `count` matrices */
	double sign_test_p;
	double median_difference, low, high; /* a - b, with its bootstrap interval */
	double effect_size;                  /* mean difference over its standard deviation */
	size_t count;
} mspec_finding;

/* A matrix or checkpoint that only one side has. */
typedef struct mspec_unpaired {
	int side;          /* 0: a, 1: b */
	const char *name;  /* matrix, or path of a checkpoint */
	const char *reason;
} mspec_unpaired;

typedef struct mspec_comparison {
	mspec_run *runs[2];
	const mspec_track *tracks[2]; /* of each side by itself, without changes */
	const char *labels[2];
	const char *const *metrics;
	size_t metric_count;
	mspec_pair *pairs;  /* matrices, by step */
	size_t pair_count;
	mspec_pair *groups; /* groups and the model */
	size_t group_count;
	mspec_finding *findings;
	size_t finding_count;
	double step, step_b; /* of the findings: of a's checkpoint and of b's */
	mspec_unpaired *unpaired;
	size_t unpaired_count;
	void *memory;
} mspec_comparison;

/* a and b: a checkpoint or a run each. Single checkpoints make a pair whatever their steps; runs
 * are paired by equal steps, or by the nearest tokens within 2 per cent. MUON_E_FORMAT when nothing
 * pairs. */
MUON_API int mspec_compare(mspec_comparison **out, const char *a, const char *b,
                           const mspec_compare_options *options, muon_error *err);
MUON_API void mspec_comparison_destroy(mspec_comparison **comparison);

#ifdef __cplusplus
}
#endif
#endif
