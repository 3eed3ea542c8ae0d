/* analyze: the spectra and metrics of every matrix of a checkpoint. */
#include "analysis/change_spectrum.h"
#include "analysis/matrix_spectrum.h"

#include "base/clock.h"
#include "base/memory.h"
#include "base/pool.h"

#include <muonspec/report.h>

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_THREADS = 64 }; /* as many as OpenBLAS has buffers for */

/* One matrix to do, with what it costs. */
typedef struct analyze_job {
	size_t row;
	double flops;
	double bytes; /* working memory for its spectrum, and for that or its change */
	double most_bytes;
	bool alone;   /* leaves no memory for as many others as there are workers */
} analyze_job;

typedef struct analysis_run {
	mspec_analysis *result;
	const mspec_analyze_options *options;
	unsigned needs; /* of the metrics chosen */
	mspec_spectrum_source source;
	mspec_change_source change;    /* before is NULL unless changes are wanted */
	mspec_change_scratch scratch[MOST_THREADS]; /* of each worker */
	mspec_views previous;          /* matrices of the checkpoint before */
	muon_arena *arena; /* guarded by report_lock */
	pthread_mutex_t read_lock;
	pthread_mutex_t report_lock;
	const analyze_job *jobs;
	size_t job_count;
	int kernel_threads; /* inside one matrix */
	double started;
	mspec_progress progress;
	muon_error *err; /* of the first fatal row; guarded by report_lock */
	int code;
} analysis_run;

/* ---- cost -------------------------------------------------------------------------------- */

static double decomposition_flops(int64_t rows, int64_t cols)
{
	double n = (double)(rows < cols ? rows : cols), m = (double)(rows < cols ? cols : rows);
	return m * n * n + 4.0 / 3.0 * n * n * n;
}

static int compare_jobs(const void *a, const void *b)
{
	const analyze_job *x = a, *y = b;
	if (x->alone != y->alone)
		return x->alone ? -1 : 1;
	if (x->flops != y->flops)
		return x->flops > y->flops ? -1 : 1;
	return x->row < y->row ? -1 : x->row > y->row;
}

/* ---- progress ----------------------------------------------------------------------------- */

static void report_progress(analysis_run *run, double flops, const mspec_matrix *finished)
{
	pthread_mutex_lock(&run->report_lock);
	mspec_progress *p = &run->progress;
	p->work_done += flops;
	if (finished) {
		p->done++;
		p->name = finished->name;
	}
	p->seconds = muon_seconds() - run->started;
	if (run->options->progress && !run->code &&
	    !run->options->progress(run->options->progress_state, p))
		run->code = muon_fail(run->err, MUON_E_INTERNAL, NULL, "interrupted");
	pthread_mutex_unlock(&run->report_lock);
}

/* Half of a matrix' work is done with its reading, the other half with its decomposition. */
typedef struct reading {
	analysis_run *run;
	double flops;
} reading;

static void report_reading(void *state, double share)
{
	const reading *r = state;
	report_progress(r->run, share * r->flops / 2, NULL);
}

/* ---- rows -------------------------------------------------------------------------------- */

static const char *row_status(int code)
{
	switch (code) {
	case MUON_OK:
		return "ok";
	case MUON_E_NONFINITE:
		return "nonfinite";
	case MUON_E_TOO_LARGE:
	case MUON_E_MEMORY:
		return "too_large";
	case MUON_E_NO_CONVERGENCE:
		return "no_convergence";
	default:
		return "unreadable";
	}
}

/* Notes are few: one array that grows by one is good enough. report_lock is held. */
static void add_note(analysis_run *run, mspec_row *row, const char *note)
{
	const char **grown = muon_arena_alloc(run->arena, row->note_count + 1, sizeof *grown);
	if (!grown || !note) { /* a value without its reason is no result */
		if (!run->code)
			run->code = muon_fail(run->err, MUON_E_MEMORY, row->matrix->name, "out of memory");
		return;
	}
	if (row->note_count)
		memcpy(grown, row->notes, row->note_count * sizeof *grown);
	grown[row->note_count++] = note;
	row->notes = grown;
}

static void fill_metrics(analysis_run *run, mspec_row *row, const mspec_power_law *fit)
{
	const mspec_metric_input input = {&row->spectrum, fit};
	for (size_t i = 0; i < run->result->metric_count; i++) {
		const mspec_metric *metric = mspec_metric_at(run->result->metrics[i]);
		mspec_metric_value v = metric->value(&input);
		row->values[i] = v.value;
		if (v.note)
			add_note(run, row, muon_arena_format(run->arena, "%s: %s", metric->name, v.note));
	}
}

static void set_failure(analysis_run *run, mspec_row *row, int code, const muon_error *reason)
{
	const muon_moments *moments = &row->spectrum.moments;
	row->code = code;
	row->status = row_status(code);
	const char *note =
	    code == MUON_E_NONFINITE
	        ? muon_arena_format(run->arena, "%lld NaN and %lld Inf among %lld entries",
	                            (long long)moments->nan, (long long)moments->inf,
	                            (long long)(row->matrix->rows * row->matrix->cols))
	        : muon_arena_string(run->arena,
	                            reason->code ? reason->message : muon_error_text(code));
	add_note(run, row, note);
	if (run->options->strict && !run->code)
		run->code = muon_fail(run->err, code, row->matrix->name, "%s",
		                      note ? note : muon_error_text(code));
}

static int fit_power_law(const analysis_run *run, const mspec_spectrum *spectrum,
                         mspec_power_law *fit)
{
	if (!(run->needs & MSPEC_NEEDS_POWER_LAW) || run->options->changes_only)
		return MUON_OK;
	double *work = muon_alloc((size_t)spectrum->count, sizeof *work);
	if (!work)
		return MUON_E_MEMORY;
	mspec_fit_power_law(spectrum, work, fit);
	muon_free(work);
	return MUON_OK;
}

/* The matrix of that name in the checkpoint before, normally at the same place; NULL if none. */
static const mspec_matrix *find_previous(const analysis_run *run, size_t row)
{
	const mspec_views *views = &run->previous;
	const char *name = run->result->rows[row].matrix->name;
	if (row < views->count && !strcmp(views->matrices[row].name, name))
		return &views->matrices[row];
	for (size_t i = 0; i < views->count; i++)
		if (!strcmp(views->matrices[i].name, name))
			return &views->matrices[i];
	return NULL;
}

/* A change that can't be found is no fault of the matrix: its code says why. */
static void find_change(analysis_run *run, size_t row_index, int worker)
{
	mspec_row *row = &run->result->rows[row_index];
	const mspec_matrix *before = run->change.before ? find_previous(run, row_index) : NULL;
	if (before)
		mspec_change_spectrum(&run->change, before, row->matrix, &run->scratch[worker],
		                      &row->change);
}

/* Takes `sigma`, the memory of the spectrum's values, over. */
static void finish_row(analysis_run *run, mspec_row *row, int code, const mspec_spectrum *spectrum,
                       double *sigma, const muon_error *reason)
{
	mspec_power_law fit;
	if (!code)
		code = fit_power_law(run, spectrum, &fit);
	pthread_mutex_lock(&run->report_lock);
	row->spectrum = *spectrum;
	if (code)
		set_failure(run, row, code, reason);
	else if (!run->options->changes_only)
		fill_metrics(run, row, run->needs & MSPEC_NEEDS_POWER_LAW ? &fit : NULL);
	if (code || !run->options->keep_spectra)
		row->spectrum.sigma = NULL;
	else
		row->sigma = sigma;
	pthread_mutex_unlock(&run->report_lock);
	if (!row->sigma)
		muon_free(sigma);
}

static int too_large(const analyze_job *job, int64_t limit, muon_error *reason)
{
	const double mib = 1048576;
	int digits = (double)limit < 10 * mib ? 3 : 0;
	return muon_fail(reason, MUON_E_TOO_LARGE, NULL,
	                 "needs %.*f MiB of working memory; --max-memory allows %.*f", digits,
	                 job->bytes / mib, digits, (double)limit / mib);
}

static bool run_job(void *state, size_t task, int worker)
{
	analysis_run *run = state;
	const analyze_job *job = &run->jobs[task];
	mspec_row *row = &run->result->rows[job->row];
	muon_error reason = {0};
	mspec_spectrum spectrum = {0};
	double *sigma = NULL;
	reading progress = {run, job->flops};
	int code = MUON_OK;
	if (run->options->max_memory > 0 && job->bytes > (double)run->options->max_memory)
		code = too_large(job, run->options->max_memory, &reason);
	else if (!muon_blas_has_room(1, job->bytes))
		code = muon_fail(&reason, MUON_E_TOO_LARGE, NULL,
		                 "needs more address space than 'ulimit -v' leaves");
	else if (!run->options->changes_only)
		code = mspec_matrix_spectrum(&run->source, row->matrix, run->kernel_threads, &progress,
		                             &spectrum, &sigma, &reason);
	if (!code)
		find_change(run, job->row, worker);
	double unreported = code == MUON_E_TOO_LARGE ? job->flops : job->flops / 2;
	finish_row(run, row, code, &spectrum, sigma, &reason);
	report_progress(run, unreported, row->matrix);
	pthread_mutex_lock(&run->report_lock);
	bool go_on = !run->code;
	pthread_mutex_unlock(&run->report_lock);
	return go_on;
}

/* ---- groups ------------------------------------------------------------------------------ */

static void summarize(mspec_group_row *group, const mspec_analysis *a)
{
	for (size_t k = 0; k < a->metric_count; k++) {
		mspec_summary s = {NAN, NAN, NAN};
		double sum = 0;
		size_t count = 0;
		for (size_t i = 0; i < a->views.count; i++) {
			const mspec_row *row = &a->rows[i];
			double x = row->values[k];
			if (row->code || isnan(x) || strcmp(row->matrix->group, group->group))
				continue;
			sum += x;
			s.min = count && s.min < x ? s.min : x;
			s.max = count && s.max > x ? s.max : x;
			count++;
		}
		if (count)
			s.mean = sum / (double)count;
		group->summaries[k] = s;
	}
}

static int summarize_groups(mspec_analysis *a, muon_arena *arena)
{
	size_t all = 0;
	while (mspec_groups()[all])
		all++;
	a->groups = muon_arena_alloc(arena, all, sizeof *a->groups);
	if (!a->groups)
		return MUON_E_MEMORY;
	for (size_t g = 0; g < all; g++) {
		mspec_group_row row = {.group = mspec_groups()[g]};
		for (size_t i = 0; i < a->views.count; i++) {
			const mspec_matrix *m = a->rows[i].matrix;
			if (strcmp(m->group, row.group))
				continue;
			row.count++;
			row.ok += !a->rows[i].code;
			if (__builtin_add_overflow(row.parameters, m->rows * m->cols, &row.parameters))
				row.parameters = INT64_MAX; /* sizes that a file only declares */
		}
		if (!row.count)
			continue;
		row.summaries = muon_arena_alloc(arena, a->metric_count, sizeof *row.summaries);
		if (!row.summaries)
			return MUON_E_MEMORY;
		summarize(&row, a);
		a->groups[a->group_count++] = row;
	}
	return MUON_OK;
}

/* ---- the whole --------------------------------------------------------------------------- */

static int choose_metrics(analysis_run *run, const mspec_analyze_options *options)
{
	mspec_analysis *a = run->result;
	a->metric_count = options->metrics ? options->metric_count : mspec_metric_count();
	size_t *metrics = muon_arena_alloc(run->arena, a->metric_count, sizeof *metrics);
	if (!metrics)
		return MUON_E_MEMORY;
	a->metrics = metrics;
	for (size_t i = 0; i < a->metric_count; i++) {
		metrics[i] = options->metrics ? options->metrics[i] : i;
		if (metrics[i] >= mspec_metric_count())
			return MUON_E_ARGUMENT;
		const mspec_metric *metric = mspec_metric_at(metrics[i]);
		run->needs |= metric->needs;
	}
	run->source.gain = run->needs & MSPEC_NEEDS_GAIN;
	run->source.sigma = options->keep_spectra ||
	                    (run->needs & (MSPEC_NEEDS_SIGMA | MSPEC_NEEDS_POWER_LAW));
	return MUON_OK;
}

static int prepare_rows(analysis_run *run, analyze_job **jobs)
{
	mspec_analysis *a = run->result;
	size_t count = a->views.count;
	a->rows = muon_arena_alloc(run->arena, count, sizeof *a->rows);
	*jobs = muon_alloc(count, sizeof **jobs);
	if (!a->rows || !*jobs)
		return MUON_E_MEMORY;
	for (size_t i = 0; i < count; i++) {
		mspec_row *row = &a->rows[i];
		const mspec_matrix *m = &a->views.matrices[i];
		row->matrix = m;
		row->status = row_status(MUON_OK);
		row->values = muon_arena_alloc(run->arena, a->metric_count, sizeof *row->values);
		if (!row->values)
			return MUON_E_MEMORY;
		for (size_t k = 0; k < a->metric_count; k++)
			row->values[k] = NAN;
		const mspec_tensor *t = mspec_tensor_at(run->source.checkpoint, m->tensor);
		row->tensor_name = t->name;
		muon_error reason = {0};
		if (t->status) {
			muon_fail(&reason, t->status, NULL, "%s", t->problem);
			set_failure(run, row, t->status, &reason);
			continue;
		}
		analyze_job *j = &(*jobs)[run->job_count++];
		*j = (analyze_job){.row = i, .bytes = mspec_matrix_spectrum_bytes(&run->source, m)};
		j->most_bytes = j->bytes;
		if (run->change.before) { /* one after the other */
			double bytes = mspec_change_spectrum_bytes(&run->change, m);
			j->most_bytes = bytes > j->bytes ? bytes : j->bytes;
		}
		j->alone = run->options->max_memory > 0 &&
		           j->most_bytes * a->threads > (double)run->options->max_memory;
		j->flops = run->source.sigma ? decomposition_flops(m->rows, m->cols)
		                                   : (double)m->rows * (double)m->cols;
		if (run->source.sigma)
			a->flops += j->flops;
		run->progress.work_total += j->flops;
	}
	run->progress.count = run->job_count;
	qsort(*jobs, run->job_count, sizeof **jobs, compare_jobs);
	run->jobs = *jobs;
	return run->code;
}

/* Matrices that would keep one worker busy long after the others have run out of work, or that
 * leave no memory for another beside them, come first, one at a time with all threads. */
static size_t count_giants(const analysis_run *run, int threads)
{
	double left = run->progress.work_total;
	size_t giants = 0;
	while (giants < run->job_count) {
		const analyze_job *j = &run->jobs[giants];
		bool dominates = j->flops * threads > left && j->flops > 1e10;
		if (threads < 2 || !(dominates || j->alone))
			break;
		left -= j->flops;
		giants++;
	}
	return giants;
}

/* Workers for which there is address space (ulimit -v) beside the largest matrices: 1 at least. A
 * matrix that is too large even alone fails when its memory is asked for. */
static int affordable_threads(const analysis_run *run, int threads)
{
	double bytes = 0;
	int affordable = 0;
	while (affordable < threads) { /* jobs come largest first, or nearly so */
		bytes += (size_t)affordable < run->job_count ? run->jobs[affordable].most_bytes : 0;
		if (!muon_blas_has_room(affordable + 1, bytes))
			break;
		affordable++;
	}
	return affordable > 1 ? affordable : 1;
}

static int run_all(analysis_run *run, int threads)
{
	if (!muon_blas_has_room(1, 0))
		return muon_fail(run->err, MUON_E_MEMORY, NULL,
		                 "not enough address space for BLAS; raise 'ulimit -v'");
	threads = affordable_threads(run, threads);
	size_t giants = count_giants(run, threads);
	run->kernel_threads = threads;
	for (size_t i = 0; i < giants && !run->code; i++)
		run_job(run, i, 0);
	run->kernel_threads = 1;
	run->jobs += giants;
	if (!run->code)
		muon_pool_run(threads, run->job_count - giants, run_job, run);
	return run->code;
}

int mspec_analyze(mspec_analysis **out, mspec_checkpoint *checkpoint,
                  const mspec_analyze_options *options, muon_error *err)
{
	*out = NULL;
	muon_arena *arena = muon_alloc(1, sizeof *arena);
	mspec_analysis *a = arena ? muon_arena_alloc(arena, 1, sizeof *a) : NULL;
	if (!a) {
		muon_free(arena);
		return muon_fail(err, MUON_E_MEMORY, NULL, "out of memory");
	}
	a->memory = arena;
	a->checkpoint = mspec_info(checkpoint);
	a->threads = options->threads > 0 ? options->threads : muon_processor_count();
	if (a->threads > MOST_THREADS)
		a->threads = MOST_THREADS;
	analysis_run run = {.result = a,
	                    .options = options,
	                    .arena = arena,
	                    .err = err,
	                    .started = muon_seconds()};
	run.source = (mspec_spectrum_source){.checkpoint = checkpoint,
	                                     .read_lock = &run.read_lock,
	                                     .svd = options->svd,
	                                     .progress = report_reading};
	if (options->changes != MSPEC_CHANGES_NONE || options->align)
		run.change = (mspec_change_source){.before = options->previous,
		                                   .after = checkpoint,
		                                   .read_lock = &run.read_lock,
		                                   .method = options->changes,
		                                   .align = options->align,
		                                   .max_memory = (double)options->max_memory};
	pthread_mutex_init(&run.read_lock, NULL);
	pthread_mutex_init(&run.report_lock, NULL);
	muon_blas_single_thread();
	analyze_job *jobs = NULL;
	int code = choose_metrics(&run, options);
	if (!code)
		code = mspec_views_create(&a->views, checkpoint, &options->view, err);
	if (!code && run.change.before)
		code = mspec_views_create(&run.previous, run.change.before, &options->view, err);
	if (!code)
		code = prepare_rows(&run, &jobs);
	if (!code)
		code = run_all(&run, a->threads);
	if (!code)
		code = summarize_groups(a, arena);
	a->seconds = muon_seconds() - run.started;
	muon_free(jobs);
	mspec_views_destroy(&run.previous);
	for (int i = 0; i < MOST_THREADS; i++)
		mspec_change_scratch_release(&run.scratch[i]);
	pthread_mutex_destroy(&run.read_lock);
	pthread_mutex_destroy(&run.report_lock);
	if (code) {
		muon_fail(err, code, NULL, "%s", muon_error_text(code));
		mspec_analysis_destroy(&a);
		return code;
	}
	*out = a;
	return MUON_OK;
}

void mspec_analysis_destroy(mspec_analysis **analysis)
{
	mspec_analysis *a = *analysis;
	*analysis = NULL;
	if (!a)
		return;
	for (size_t i = 0; a->rows && i < a->views.count; i++)
		muon_free(a->rows[i].sigma);
	mspec_views_destroy(&a->views);
	muon_arena *arena = a->memory;
	muon_arena_release(arena);
	muon_free(arena);
}
