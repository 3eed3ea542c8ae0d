/* analyze: the spectra and metrics of every matrix of a checkpoint. */
#include "base/clock.h"
#include "base/memory.h"
#include "base/pool.h"

#include <muonspec/report.h>

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* Bytes of stored data that are read and fed to the kernels at a time: large enough to read
 * quickly, small enough that several workers stay within a small footprint. */
enum { BLOCK_BYTES = 8 << 20 };

/* One matrix to do, with what it costs. */
typedef struct analyze_job {
	size_t row;
	double flops;
	double bytes; /* working memory */
	bool alone;   /* leaves no memory for as many others as there are workers */
} analyze_job;

typedef struct analysis_run {
	mspec_analysis *result;
	mspec_checkpoint *checkpoint;
	const mspec_analyze_options *options;
	unsigned needs; /* of the metrics chosen */
	bool wants_gain;
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

static bool needs_sigma(unsigned needs)
{
	return needs & (MSPEC_NEEDS_SIGMA | MSPEC_NEEDS_POWER_LAW);
}

/* Rows (or columns, for wide matrices) of the stored matrix that are read at a time: a multiple of
 * the kernels' panel depth and a function of the shape alone, so that results don't depend on how
 * many workers there are. */
static int64_t block_lines(const mspec_matrix *m)
{
	int64_t line = m->stored_rows < m->stored_cols ? m->stored_rows : m->stored_cols;
	int64_t lines = m->stored_rows < m->stored_cols ? m->stored_cols : m->stored_rows;
	int64_t depth = muon_gram_panel_depth(m->stored_rows, m->stored_cols);
	int64_t count = BLOCK_BYTES / (line * (int64_t)muon_dtype_size(m->dtype));
	count = count / depth * depth;
	if (count < depth)
		count = depth;
	return count < lines ? count : lines;
}

static double block_bytes(const mspec_matrix *m)
{
	int64_t line = m->stored_rows < m->stored_cols ? m->stored_rows : m->stored_cols;
	return (double)block_lines(m) * (double)line * (double)muon_dtype_size(m->dtype);
}

/* What one matrix takes, in bytes or doubles. */
typedef struct scratch_sizes {
	size_t block, workspace, solver, sigma;
} scratch_sizes;

static scratch_sizes find_sizes(const analysis_run *run, const mspec_matrix *m)
{
	size_t entries = (size_t)m->rows * (size_t)m->cols;
	size_t line = (size_t)m->stored_cols * muon_dtype_size(m->dtype);
	scratch_sizes s = {.block = (size_t)block_bytes(m),
	                   .workspace = muon_gram_workspace(m->stored_rows, m->stored_cols)};
	if (!needs_sigma(run->needs))
		return s;
	s.sigma = (size_t)(m->rows < m->cols ? m->rows : m->cols);
	if (run->options->svd == MUON_SVD_GRAM) {
		s.solver = muon_gram_singular_values_workspace((int64_t)s.sigma);
		return s;
	}
	/* gesdd reads whole stored rows, as many as there is room for */
	s.block = s.block > line ? s.block : line;
	s.workspace = s.workspace > entries ? s.workspace : entries;
	s.solver = muon_singular_values_gesdd_workspace(m->stored_rows, m->stored_cols);
	return s;
}

static double working_bytes(const analysis_run *run, const mspec_matrix *m)
{
	scratch_sizes s = find_sizes(run, m);
	double doubles = (double)s.workspace + (double)s.solver + (double)s.sigma;
	double k = (double)(m->rows < m->cols ? m->rows : m->cols);
	if (!needs_sigma(run->needs))
		doubles -= k * k; /* the Gram matrix stays untouched, so it takes no memory */
	return (double)s.block + doubles * sizeof(double);
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

/* ---- one matrix -------------------------------------------------------------------------- */

/* What a worker needs for the matrix it has in hand. */
typedef struct scratch {
	void *block;       /* stored elements */
	size_t block_size; /* bytes */
	double *workspace; /* Gram matrix and panel; the whole matrix for gesdd */
	double *solver;
	double *sigma;
	double *gain;
} scratch;

static void scratch_release(scratch *s)
{
	muon_free_aligned(s->block);
	muon_free_aligned(s->workspace);
	muon_free_aligned(s->solver);
	muon_free(s->gain);
	*s = (scratch){.sigma = s->sigma};
}

static int read_block(analysis_run *run, const mspec_matrix *m, int64_t row, int64_t rows,
                      int64_t col, int64_t cols, void *buffer, muon_error *err)
{
	pthread_mutex_lock(&run->read_lock);
	int code = mspec_read_block(run->checkpoint, m, row, rows, col, cols, buffer, err);
	pthread_mutex_unlock(&run->read_lock);
	return code;
}

/* The gain of the norm before the matrix as float64, or NULL where there is none. */
static int read_gain(analysis_run *run, const mspec_matrix *m, double **gain, muon_error *err)
{
	*gain = NULL;
	size_t index = run->wants_gain ? mspec_gain_tensor(run->checkpoint, m) : SIZE_MAX;
	if (index == SIZE_MAX)
		return MUON_OK;
	const mspec_tensor *t = mspec_tensor_at(run->checkpoint, index);
	size_t count = (size_t)t->elements;
	void *raw = muon_alloc(count, muon_dtype_size(t->dtype));
	double *values = muon_alloc(count, sizeof *values);
	int code = raw && values ? MUON_OK : MUON_E_MEMORY;
	if (!code) {
		pthread_mutex_lock(&run->read_lock);
		code = mspec_read(run->checkpoint, index, 0, t->elements, raw, err);
		pthread_mutex_unlock(&run->read_lock);
	}
	if (!code)
		code = muon_convert_f64(t->dtype, raw, count, values);
	muon_free(raw);
	if (code)
		muon_free(values);
	else
		*gain = values;
	return code;
}

/* Largest |x| of a float64 matrix, which alone can over- or underflow when squared. */
static int find_max_abs(analysis_run *run, const mspec_matrix *m, scratch *s, double *max_abs,
                        muon_error *err)
{
	bool wide = m->stored_rows < m->stored_cols;
	int64_t lines = wide ? m->stored_cols : m->stored_rows, step = block_lines(m);
	*max_abs = 0;
	for (int64_t at = 0; at < lines; at += step) {
		int64_t n = lines - at < step ? lines - at : step;
		int code = wide ? read_block(run, m, 0, m->stored_rows, at, n, s->block, err)
		                : read_block(run, m, at, n, 0, m->stored_cols, s->block, err);
		if (code)
			return code;
		const double *x = s->block;
		int64_t count = n * (wide ? m->stored_rows : m->stored_cols);
		for (int64_t i = 0; i < count; i++)
			if (isfinite(x[i]) && fabs(x[i]) > *max_abs)
				*max_abs = fabs(x[i]);
	}
	return MUON_OK;
}

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

/* Read the whole matrix block by block into the Gram accumulation. */
static int accumulate(analysis_run *run, const mspec_matrix *m, scratch *s, muon_gram *gram,
                      double flops, muon_error *err)
{
	bool wide = m->stored_rows < m->stored_cols;
	int64_t lines = wide ? m->stored_cols : m->stored_rows, step = block_lines(m);
	double share = flops / (double)lines;
	for (int64_t at = 0; at < lines; at += step) {
		int64_t n = lines - at < step ? lines - at : step;
		int code;
		if (wide) {
			code = read_block(run, m, 0, m->stored_rows, at, n, s->block, err);
			if (!code)
				code = muon_gram_add_cols(gram, m->dtype, s->block, at, n, n);
		} else {
			code = read_block(run, m, at, n, 0, m->stored_cols, s->block, err);
			if (!code)
				code = muon_gram_add_rows(gram, m->dtype, s->block, at, n, m->stored_cols);
		}
		if (code)
			return code;
		report_progress(run, share * (double)n, NULL);
	}
	return MUON_OK;
}

/* All entries as float64 into s->workspace, in stored order, for gesdd. */
static int load_f64(analysis_run *run, const mspec_matrix *m, scratch *s, muon_error *err)
{
	size_t line = (size_t)m->stored_cols * muon_dtype_size(m->dtype);
	int64_t step = (int64_t)(s->block_size / line);
	for (int64_t at = 0; at < m->stored_rows; at += step) {
		int64_t n = m->stored_rows - at < step ? m->stored_rows - at : step;
		int code = read_block(run, m, at, n, 0, m->stored_cols, s->block, err);
		if (!code)
			code = muon_convert_f64(m->dtype, s->block, (size_t)(n * m->stored_cols),
			                        s->workspace + at * m->stored_cols);
		if (code)
			return code;
	}
	return MUON_OK;
}

static int allocate_scratch(const scratch_sizes *sizes, scratch *s)
{
	s->block = muon_alloc_aligned(sizes->block, 1);
	s->block_size = sizes->block;
	s->workspace = muon_alloc_aligned(sizes->workspace, sizeof(double));
	s->solver = sizes->solver ? muon_alloc_aligned(sizes->solver, sizeof(double)) : NULL;
	s->sigma = sizes->sigma ? muon_alloc(sizes->sigma, sizeof(double)) : NULL;
	return s->block && s->workspace && (s->solver || !sizes->solver) &&
	               (s->sigma || !sizes->sigma)
	           ? MUON_OK
	           : MUON_E_MEMORY;
}

static int decompose(analysis_run *run, const mspec_matrix *m, scratch *s, muon_gram *gram,
                     mspec_spectrum *spectrum, muon_error *err)
{
	int code;
	if (run->options->svd == MUON_SVD_GESDD) {
		code = load_f64(run, m, s, err);
		if (!code)
			code = muon_singular_values_gesdd(m->stored_rows, m->stored_cols, s->workspace,
			                                  s->sigma, &spectrum->sigma_floor, s->solver);
	} else {
		code = muon_gram_singular_values(gram, s->sigma, &spectrum->sigma_floor, s->solver);
	}
	if (!code)
		spectrum->sigma = s->sigma;
	return code;
}

/* The spectrum of one matrix. s->sigma outlives the scratch and is the caller's. */
static int analyze_matrix(analysis_run *run, const analyze_job *job, scratch *s, mspec_spectrum *spectrum,
                          muon_error *err)
{
	const mspec_matrix *m = run->result->rows[job->row].matrix;
	bool gesdd = run->options->svd == MUON_SVD_GESDD, sigma = needs_sigma(run->needs);
	*spectrum = (mspec_spectrum){.rows = m->rows,
	                             .cols = m->cols,
	                             .dtype = m->dtype,
	                             .count = m->rows < m->cols ? m->rows : m->cols,
	                             .sigma_floor = NAN,
	                             .method = run->options->svd};
	double scale = 1;
	muon_gram gram;
	scratch_sizes sizes = find_sizes(run, m);
	int code = allocate_scratch(&sizes, s);
	if (!code)
		code = read_gain(run, m, &s->gain, err);
	if (!code && m->dtype == MUON_F64 && sigma && !gesdd) {
		double max_abs;
		code = find_max_abs(run, m, s, &max_abs, err);
		if (!code)
			scale = muon_gram_scale(max_abs);
	}
	if (!code)
		code = muon_gram_init(&gram, m->stored_rows, m->stored_cols, scale, s->gain,
		                      m->transposed, s->workspace);
	if (!code) {
		gram.threads = run->kernel_threads;
		gram.entries_only = gesdd || !sigma;
		code = accumulate(run, m, s, &gram, job->flops / 2, err);
	}
	if (code)
		return code;
	spectrum->moments = gram.moments;
	spectrum->has_gain = s->gain != NULL;
	spectrum->gain_sumsq = gram.gain_sumsq;
	if (gram.moments.nan || gram.moments.inf)
		return MUON_E_NONFINITE;
	return sigma ? decompose(run, m, s, &gram, spectrum, err) : MUON_OK;
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

static void finish_row(analysis_run *run, const analyze_job *job, int code, scratch *s,
                       mspec_spectrum *spectrum, const muon_error *reason)
{
	mspec_row *row = &run->result->rows[job->row];
	mspec_power_law fit;
	bool fitted = false;
	if (!code && (run->needs & MSPEC_NEEDS_POWER_LAW)) {
		double *work = muon_alloc((size_t)spectrum->count, sizeof *work);
		if (work) {
			mspec_fit_power_law(spectrum, work, &fit);
			fitted = true;
		} else {
			code = MUON_E_MEMORY;
		}
		muon_free(work);
	}
	pthread_mutex_lock(&run->report_lock);
	row->spectrum = *spectrum;
	if (code)
		set_failure(run, row, code, reason);
	else
		fill_metrics(run, row, fitted ? &fit : NULL);
	if (run->options->keep_spectra && !code && s->sigma) {
		row->spectrum.sigma = s->sigma;
		s->sigma = NULL;
	} else {
		row->spectrum.sigma = NULL;
	}
	pthread_mutex_unlock(&run->report_lock);
	muon_free(s->sigma);
	s->sigma = NULL;
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
	(void)worker;
	analysis_run *run = state;
	const analyze_job *job = &run->jobs[task];
	mspec_row *row = &run->result->rows[job->row];
	muon_error reason = {0};
	scratch s = {0};
	mspec_spectrum spectrum = {0};
	int code;
	if (run->options->max_memory > 0 && job->bytes > (double)run->options->max_memory)
		code = too_large(job, run->options->max_memory, &reason);
	else
		code = analyze_matrix(run, job, &s, &spectrum, &reason);
	double unreported = code == MUON_E_TOO_LARGE ? job->flops : job->flops / 2;
	scratch_release(&s);
	finish_row(run, job, code, &s, &spectrum, &reason);
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
			row.parameters += m->rows * m->cols;
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
		run->wants_gain |= !strcmp(metric->name, "output_rms");
	}
	if (options->keep_spectra)
		run->needs |= MSPEC_NEEDS_SIGMA;
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
		const mspec_tensor *t = mspec_tensor_at(run->checkpoint, m->tensor);
		row->tensor_name = t->name;
		muon_error reason = {0};
		if (t->status) {
			muon_fail(&reason, t->status, NULL, "%s", t->problem);
			set_failure(run, row, t->status, &reason);
			continue;
		}
		analyze_job *j = &(*jobs)[run->job_count++];
		*j = (analyze_job){.row = i, .bytes = working_bytes(run, m)};
		j->alone = run->options->max_memory > 0 &&
		           j->bytes * a->threads > (double)run->options->max_memory;
		j->flops = needs_sigma(run->needs) ? decomposition_flops(m->rows, m->cols)
		                                   : (double)m->rows * (double)m->cols;
		if (needs_sigma(run->needs))
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

static int run_all(analysis_run *run, int threads)
{
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
	analysis_run run = {.result = a,
	                    .checkpoint = checkpoint,
	                    .options = options,
	                    .arena = arena,
	                    .err = err,
	                    .started = muon_seconds()};
	pthread_mutex_init(&run.read_lock, NULL);
	pthread_mutex_init(&run.report_lock, NULL);
	muon_blas_single_thread();
	analyze_job *jobs = NULL;
	int code = choose_metrics(&run, options);
	if (!code)
		code = mspec_views_create(&a->views, checkpoint, &options->view, err);
	if (!code)
		code = prepare_rows(&run, &jobs);
	if (!code)
		code = run_all(&run, a->threads);
	if (!code)
		code = summarize_groups(a, arena);
	a->seconds = muon_seconds() - run.started;
	muon_free(jobs);
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
		muon_free((void *)(uintptr_t)a->rows[i].spectrum.sigma);
	mspec_views_destroy(&a->views);
	muon_arena *arena = a->memory;
	muon_arena_release(arena);
	muon_free(arena);
}
