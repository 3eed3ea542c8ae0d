/* Reports: what the verbs of muonspec compute, as data. Rendering is the caller's. */
#ifndef MUONSPEC_REPORT_H
#define MUONSPEC_REPORT_H

#include <muonspec/checkpoint.h>
#include <muonspec/metric.h>

#ifdef __cplusplus
extern "C" {
#endif

/* How the spectra of changes between checkpoints are found. */
typedef enum mspec_change_method {
	MSPEC_CHANGES_ESTIMATE, /* by a few products, where a decomposition would take long */
	MSPEC_CHANGES_EXACT,
	MSPEC_CHANGES_NONE
} mspec_change_method;

/* The change of a matrix since an earlier checkpoint; numbers are NaN where they are undefined. */
typedef struct mspec_change {
	int code;       /* MUON_OK, or why nothing is known */
	bool known;     /* false: nothing was asked for */
	bool estimated; /* spectral_norm and svd_entropy are estimates (muon_krylov) */
	double sumsq;   /* sum of (w - w_before)^2 */
	double spectral_norm, svd_entropy;
	/* mean squared cosine between the spaces of the leading singular vectors then and now, on
	 * the side of the rows (out) and of the columns (in): 1 when they are the same */
	double align_out, align_in;
} mspec_change;

/* One row of a report: a matrix and its metrics. */
typedef struct mspec_row {
	const mspec_matrix *matrix;
	const char *tensor_name; /* as the file has it, not escaped */
	const char *status;     /* "ok", "nonfinite", "too_large", "unreadable", "no_convergence" */
	int code;               /* MUON_OK, or the error behind the status */
	double *values;         /* metrics, in the order of mspec_analysis.metrics; NaN: undefined */
	const char **notes;     /* one line each, "metric: why" or what went wrong; escaped */
	size_t note_count;
	mspec_spectrum spectrum; /* sigma is NULL unless keep_spectra was asked for */
	double *sigma;           /* the memory behind spectrum.sigma */
	mspec_change change;     /* since options.previous */
} mspec_row;

/* mean, min and max of a metric over the ok rows of a group where it is defined; NaN if none. */
typedef struct mspec_summary {
	double mean, min, max;
} mspec_summary;

typedef struct mspec_group_row {
	const char *group;
	size_t count;             /* rows of the group, whatever their status */
	size_t ok;
	int64_t parameters;       /* entries of all rows */
	mspec_summary *summaries; /* per metric */
} mspec_group_row;

typedef struct mspec_progress {
	double work_done, work_total; /* in flops */
	double seconds;               /* since the start */
	size_t done, count;           /* matrices */
	const char *name;             /* the matrix finished last */
} mspec_progress;

typedef struct mspec_analyze_options {
	mspec_view_options view;
	const size_t *metrics;    /* indices into the registry, in the order wanted; NULL: all */
	size_t metric_count;
	muon_svd_method svd;
	int threads;              /* 0: one per processor; at most 64 are used */
	int64_t max_memory;       /* bytes that matrices in flight may take; 0: no limit */
	bool keep_spectra;
	bool strict;              /* the first row that is not ok ends the analysis */
	mspec_checkpoint *previous; /* open: rows get their changes since then; NULL: no changes */
	mspec_change_method changes;
	int align;                /* leading singular vectors to compare with those of `previous` */
	bool changes_only;        /* no spectra of the matrices themselves, nor metrics of them */
	/* Called from one thread at a time; return false to stop with MUON_E_INTERNAL. May be NULL. */
	bool (*progress)(void *state, const mspec_progress *progress);
	void *progress_state;
} mspec_analyze_options;

typedef struct mspec_analysis {
	const mspec_checkpoint_info *checkpoint;
	int threads;              /* workers used */
	const size_t *metrics;
	size_t metric_count;
	mspec_views views;
	mspec_row *rows;          /* views.count of them, in checkpoint order */
	mspec_group_row *groups;  /* only groups that have rows */
	size_t group_count;
	double seconds;
	double flops;             /* m n^2 + 4/3 n^3 summed over decomposed matrices, m >= n */
	void *memory;
} mspec_analysis;

/* Analyse every matrix of an open checkpoint, which must stay open while the result is used. A bad
 * tensor is a row with a status; only `strict` makes it the function's error. Same bits for any
 * number of threads. Makes BLAS single-threaded in this process. */
MUON_API int mspec_analyze(mspec_analysis **out, mspec_checkpoint *checkpoint,
                           const mspec_analyze_options *options, muon_error *err);
MUON_API void mspec_analysis_destroy(mspec_analysis **analysis);

/* Write the analysis, made with keep_spectra, as an HDF5 file of columns: /matrices/<column> with
 * one entry per matrix (names, shapes, status, every metric, and `offset` and `count` of its
 * singular values inside /singular_values). The caller gives a temporary name and renames. */
MUON_API int mspec_write_spectra(const mspec_analysis *analysis, const char *path, muon_error *err);

#ifdef __cplusplus
}
#endif
#endif
