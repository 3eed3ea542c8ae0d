#include "analysis/run_visit.h"

#include "analysis/run_internal.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* The checkpoint in hand. */
typedef struct visiting {
	mspec_run *run;
	mspec_run_memory *memory;
	size_t index;
	mspec_spectra spectra;
	mspec_change *changes; /* one per matrix */
	bool has_changes;
	muon_error *err;
} visiting;

/* ---- metrics ------------------------------------------------------------------------------ */

void mspec_spectrum_metrics(const mspec_spectrum *spectrum, const size_t *metrics, size_t count,
			    double *work, double *values)
{
	mspec_power_law fit;
	bool fitted = false;
	for (size_t k = 0; k < count; k++) {
		const mspec_metric *metric = mspec_metric_at(metrics[k]);
		bool needs_fit = metric->needs & MSPEC_NEEDS_POWER_LAW;
		if (needs_fit && !fitted)
			mspec_fit_power_law(spectrum, work, &fit);
		fitted |= needs_fit;
		const mspec_metric_input input = {spectrum, needs_fit ? &fit : NULL};
		values[k] = metric->value(&input).value;
	}
}

void mspec_usual_metrics(size_t metrics[MSPEC_USUAL_METRICS])
{
	static const char *const names[MSPEC_USUAL_METRICS] = {
	    "rms", "spectral_norm", "svd_entropy", "stable_rank", "output_rms"};
	for (size_t i = 0; i < MSPEC_USUAL_METRICS; i++)
		metrics[i] = mspec_metric_find(names[i]);
}

/* ---- computing ---------------------------------------------------------------------------- */

/* Is a result one of the content alone, that any other call would find too? */
static bool is_lasting(int code)
{
	return code == MUON_OK || code == MUON_E_NONFINITE || code == MUON_E_NO_CONVERGENCE ||
	       code == MUON_E_UNSUPPORTED;
}

static bool is_unchanged(const visiting *v)
{
	struct stat now;
	const struct stat *then = &v->memory->states[v->index];
	return !stat(v->run->checkpoints[v->index].path, &now) && now.st_size == then->st_size &&
	       now.st_mtim.tv_sec == then->st_mtim.tv_sec &&
	       now.st_mtim.tv_nsec == then->st_mtim.tv_nsec && now.st_ino == then->st_ino;
}

static bool relay_progress(void *state, const mspec_progress *p)
{
	const visiting *v = state;
	const mspec_run_options *o = &v->memory->options;
	double share = p->work_total > 0 ? p->work_done / p->work_total : 0;
	return !o->progress || o->progress(o->progress_state, (double)v->index + share,
					   (double)v->run->count,
					   v->run->checkpoints[v->index].path);
}

/* The rows' spectra, which they give up, in the place of those that the store did not have. */
static int take_spectra(visiting *v, mspec_analysis *a)
{
	mspec_spectra *s = &v->spectra;
	s->count = a->views.count;
	s->spectra = muon_alloc(s->count + 1, sizeof *s->spectra);
	s->codes = muon_alloc(s->count + 1, sizeof *s->codes);
	size_t values = 0, used = 0;
	for (size_t i = 0; i < s->count; i++)
		values += a->rows[i].spectrum.sigma ? (size_t)a->rows[i].spectrum.count : 0;
	s->sigma = muon_alloc(values + 1, sizeof *s->sigma);
	if (!s->spectra || !s->codes || !s->sigma)
		return MUON_E_MEMORY;
	for (size_t i = 0; i < s->count; i++) {
		const mspec_row *row = &a->rows[i];
		s->codes[i] = row->code;
		s->spectra[i] = row->spectrum;
		s->spectra[i].rows = row->matrix->rows;
		s->spectra[i].cols = row->matrix->cols;
		s->spectra[i].dtype = row->matrix->dtype;
		if (!row->spectrum.sigma)
			continue;
		size_t count = (size_t)row->spectrum.count;
		s->spectra[i].sigma =
		    memcpy(s->sigma + used, row->spectrum.sigma, count * sizeof *s->sigma);
		used += count;
	}
	return MUON_OK;
}

static void take_changes(visiting *v, const mspec_analysis *a)
{
	const mspec_change unknown = {.sumsq = NAN,
				      .spectral_norm = NAN,
				      .svd_entropy = NAN,
				      .align_out = NAN,
				      .align_in = NAN};
	for (size_t i = 0; i < a->views.count; i++)
		v->changes[i] = a->rows[i].change.known ? a->rows[i].change : unknown;
}

/* Has the file still the matrices that it had when the run was opened? */
static int check_listing(visiting *v, const mspec_analysis *a)
{
	const mspec_run *run = v->run;
	bool same = a->views.count == run->matrix_count;
	for (size_t i = 0; same && i < a->views.count; i++)
		same = a->views.matrices[i].rows == (int64_t)run->rows[i] &&
		       a->views.matrices[i].cols == (int64_t)run->cols[i];
	return same ? MUON_OK
		    : muon_fail(v->err, MUON_E_READ, run->checkpoints[v->index].path,
				"was changed while it was read");
}

static void keep(visiting *v, const char *before, const char *key, bool spectra, bool changes)
{
	int code = MUON_OK;
	for (size_t i = 0; i < v->run->matrix_count; i++) {
		spectra = spectra && is_lasting(v->spectra.codes[i]);
		changes = changes && is_lasting(v->spectra.codes[i]) &&
			  is_lasting(v->changes[i].code);
	}
	if (spectra)
		code = mspec_store_add_spectra(v->memory->store, key, &v->spectra);
	if (changes && !code)
		mspec_store_add_changes(v->memory->store, before, key, v->changes,
					v->run->matrix_count);
	mspec_store_commit(v->memory->store, false);
}

/* What changes are kept under: the checkpoint before, and how they were found. */
static void change_key(const visiting *v, char *key, size_t capacity)
{
	const mspec_run_options *o = &v->memory->options;
	snprintf(key, capacity, "%s-%d-%d", v->memory->records[v->index - 1]->key, (int)o->changes,
		 o->align);
}

static int compute(visiting *v, bool wants_changes, bool has_spectra)
{
	const mspec_run_options *o = &v->memory->options;
	mspec_checkpoint *checkpoint = NULL, *previous = NULL;
	mspec_analysis *a = NULL;
	const size_t metric = mspec_metric_find("output_rms"); /* so that gains are read */
	mspec_run_watch watch[2];
	int code = mspec_run_open_file(&checkpoint, &watch[0], o,
				       v->run->checkpoints[v->index].path, v->err);
	if (!code && wants_changes)
		code = mspec_run_open_file(&previous, &watch[1], o,
					   v->run->checkpoints[v->index - 1].path, v->err);
	const mspec_analyze_options how = {.view = o->view,
					   .metrics = &metric,
					   .metric_count = 1,
					   .svd = o->svd,
					   .threads = o->threads,
					   .max_memory = o->max_memory,
					   .keep_spectra = true,
					   .strict = o->strict,
					   .previous = previous,
					   .changes = o->changes,
					   .align = o->align,
					   .changes_only = has_spectra,
					   .progress = relay_progress,
					   .progress_state = v};
	if (!code)
		code = mspec_analyze(&a, checkpoint, &how, v->err);
	if (!code)
		code = check_listing(v, a);
	if (!code && !has_spectra)
		code = take_spectra(v, a);
	if (!code && wants_changes)
		take_changes(v, a);
	mspec_analysis_destroy(&a);
	mspec_close(&previous);
	mspec_close(&checkpoint);
	return code ? muon_fail(v->err, code, v->run->checkpoints[v->index].path, "%s",
				muon_error_text(code))
		    : MUON_OK;
}

/* ---- visiting ----------------------------------------------------------------------------- */

static int find_or_compute(visiting *v)
{
	mspec_run_memory *m = v->memory;
	const mspec_run_options *o = &m->options;
	const char *key = m->records[v->index]->key;
	char before[MSPEC_HASH_DIGITS + 60] = "";
	bool wants = v->index && (o->changes != MSPEC_CHANGES_NONE || o->align);
	if (wants)
		change_key(v, before, sizeof before);
	bool has_spectra = mspec_store_spectra(m->store, key, m->listing, &v->spectra);
	v->has_changes =
	    wants && mspec_store_changes(m->store, before, key, v->changes, v->run->matrix_count);
	if (has_spectra && v->has_changes == wants) {
		v->run->reused++;
		return MUON_OK;
	}
	int code = compute(v, wants && !v->has_changes, has_spectra);
	if (!code) {
		v->run->computed++;
		if (is_unchanged(v))
			keep(v, before, key, !has_spectra, wants && !v->has_changes);
		v->has_changes = wants;
	}
	return code;
}

static int check_strictly(const visiting *v)
{
	for (size_t i = 0; i < v->run->matrix_count; i++) {
		int code = v->spectra.codes[i];
		if (!code)
			continue;
		v->run->checkpoints[v->index].status = "partial";
		if (v->memory->options.strict)
			return muon_fail(v->err, code, v->run->names[i], "%s: %s",
					 v->run->checkpoints[v->index].path, muon_error_text(code));
	}
	return MUON_OK;
}

static int visit_one(visiting *v, mspec_visit_fn visit, void *state)
{
	int code = mspec_run_progress(&v->memory->options, (double)v->index, (double)v->run->count,
				      v->run->checkpoints[v->index].path, v->err);
	v->spectra = (mspec_spectra){0};
	if (!code)
		code = find_or_compute(v);
	if (!code)
		code = check_strictly(v);
	if (!code)
		code = visit(state, v->index, &v->spectra, v->has_changes ? v->changes : NULL,
			     v->memory->records[v->index], v->err);
	mspec_spectra_release(&v->spectra);
	return code;
}

int mspec_run_visit(mspec_run *run, mspec_visit_fn visit, void *state, muon_error *err)
{
	visiting v = {.run = run, .memory = run->memory, .err = err};
	v.changes = muon_alloc(run->matrix_count + 1, sizeof *v.changes);
	int code = v.changes ? MUON_OK : muon_fail(err, MUON_E_MEMORY, NULL, "out of memory");
	for (v.index = 0; v.index < run->count && !code; v.index++)
		code = visit_one(&v, visit, state);
	muon_free(v.changes);
	mspec_store_commit(v.memory->store, true);
	run->store_problem = mspec_store_problem(v.memory->store);
	run->kept = mspec_store_keeps(v.memory->store);
	return code;
}
