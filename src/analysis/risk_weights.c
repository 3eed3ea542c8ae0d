/* Risks of the weights: range, precision, lost updates, growth. */
#include "analysis/judging.h"

#include "base/pool.h"
#include "base/text.h"

#include <math.h>
#include <string.h>

enum { MOST_THREADS = 64 };

/* ---- gathering, matrix by matrix ----------------------------------------------------------- */

typedef struct gathered {
	const mspec_matrix *matrix, *before; /* before: NULL where the earlier one has no such */
	mspec_bf16_entries entries;
	int code; /* why there are no entries */
	const char *reason;
} gathered;

typedef struct gathering {
	mspec_judging *judging;
	mspec_views views, before;
	gathered *matrices;
	mspec_update_model update;
	double done, total;        /* entries */
	pthread_mutex_t read_lock; /* of both checkpoints */
	pthread_mutex_t lock;      /* of everything else that is shared */
} gathering;

static double entries_of(const mspec_matrix *m)
{
	return (double)m->rows * (double)m->cols;
}

/* False to stop. */
static bool report(gathering *g, const gathered *finished, const muon_error *reason)
{
	mspec_judging *j = g->judging;
	const mspec_risk_options *o = j->options;
	pthread_mutex_lock(&g->lock);
	g->done += entries_of(finished->matrix);
	if (finished->code == MUON_E_MEMORY && !j->code)
		j->code = muon_fail(j->err, MUON_E_MEMORY, NULL, "%s", reason->message);
	if (o->progress && !j->code &&
	    !o->progress(o->progress_state, g->done, g->total, finished->matrix->name))
		j->code = muon_fail(j->err, MUON_E_INTERNAL, NULL, "interrupted");
	bool go_on = !j->code;
	pthread_mutex_unlock(&g->lock);
	return go_on;
}

static const char *keep(gathering *g, const muon_error *reason)
{
	pthread_mutex_lock(&g->lock);
	const char *text = muon_arena_string(g->judging->arena, reason->message);
	pthread_mutex_unlock(&g->lock);
	return text;
}

static bool gather_matrix(void *state, size_t task, int worker)
{
	(void)worker;
	gathering *g = state;
	const mspec_judging *j = g->judging;
	gathered *to = &g->matrices[task];
	const mspec_entries_source source = {j->checkpoint, to->matrix};
	const mspec_entries_source earlier = {j->earlier, to->before};
	bool predict = g->update.lr * g->update.update_rms > 0;
	muon_error reason = {0};
	to->code = mspec_bf16_entries_gather(&to->entries, &source, to->before ? &earlier : NULL,
	                                     predict ? &g->update : NULL, &g->read_lock, &reason);
	if (to->code)
		to->reason = keep(g, &reason);
	return report(g, to, &reason);
}

/* The matrix of the same name and shape; mostly it has the same index. */
static const mspec_matrix *find_matrix(const mspec_views *views, const mspec_matrix *wanted,
                                       size_t guess)
{
	for (size_t i = 0; i < views->count; i++) {
		const mspec_matrix *m = &views->matrices[(guess + i) % views->count];
		if (!strcmp(m->name, wanted->name))
			return m->stored_rows == wanted->stored_rows &&
			               m->stored_cols == wanted->stored_cols
			           ? m
			           : NULL;
	}
	return NULL;
}

static int create_views(gathering *g)
{
	mspec_judging *j = g->judging;
	int code = mspec_views_create(&g->views, j->checkpoint, &j->options->view, j->err);
	if (!code && j->earlier)
		code = mspec_views_create(&g->before, j->earlier, &j->options->view, j->err);
	if (code)
		return code;
	g->matrices = muon_alloc(g->views.count, sizeof *g->matrices);
	if (!g->matrices)
		return muon_fail(j->err, MUON_E_MEMORY, NULL, "out of memory");
	for (size_t i = 0; i < g->views.count; i++) {
		const mspec_matrix *m = &g->views.matrices[i];
		g->matrices[i].matrix = m;
		g->matrices[i].before = find_matrix(&g->before, m, i);
		g->total += entries_of(m);
	}
	return MUON_OK;
}

static void gather_all(gathering *g)
{
	mspec_judging *j = g->judging;
	int threads = j->options->threads > 0 ? j->options->threads : muon_processor_count();
	if ((size_t)threads > g->views.count)
		threads = (int)g->views.count;
	threads = threads < MOST_THREADS ? threads : MOST_THREADS;
	j->report->threads = threads > 0 ? threads : 1;
	muon_pool_run(j->report->threads, g->views.count, gather_matrix, g);
}

/* ---- judging -------------------------------------------------------------------------------- */

double mspec_equilibrium_rms(double lr, double weight_decay, double update_rms)
{
	return update_rms * sqrt(lr / (2 * weight_decay - lr * weight_decay * weight_decay));
}

/* Where weights stand, and where they stood. */
typedef struct rms_pair {
	double now, before; /* before: NaN if unknown */
} rms_pair;

/* Without decay whatever grows is not held. */
static void judge_unheld_growth(mspec_judging *j, const mspec_matrix *m, const rms_pair *rms)
{
	bool grew = rms->now > rms->before;
	const char *reason =
	    isnan(rms->before)
		? muon_arena_format(
		      j->arena,
		      "there is no weight decay: nothing holds the RMS, now %.3g, which "
		      "grows with the square root of the steps or faster",
		      rms->now)
		: muon_arena_format(
		      j->arena,
		      "there is no weight decay: nothing holds the RMS, which went from "
		      "%.4g to %.4g",
		      rms->before, rms->now);
	mspec_judge(j, MSPEC_RISK_GROWTH, m->name, m->group, NAN,
	            grew ? MSPEC_VERDICT_RISK : MSPEC_VERDICT_WATCH, reason);
}

/* What decay alone would have taken from log(RMS) since the earlier checkpoint; NaN: unknown. */
static double decay_since(const mspec_judging *j)
{
	const mspec_risk_report *r = j->report;
	double steps = r->earlier ? r->checkpoint->step - r->earlier->step : NAN;
	double before = r->earlier ? r->earlier->lr : NAN;
	double lr = isnan(before) ? r->lr : (r->lr + before) / 2;
	return steps > 0 ? steps * lr * r->weight_decay : NAN;
}

/* Has the RMS grown by more than a tenth of what decay alone would have taken away, or by 1% where
 * that is not known? Less is level. */
static bool still_grows(const mspec_judging *j, const rms_pair *rms)
{
	double pull = decay_since(j);
	return log(rms->now / rms->before) > 0.1 * (isnan(pull) ? 0.1 : pull);
}

/* A single checkpoint's RMS may be on its way down, from the start or from a larger learning rate:
 * only one that still grows is a risk. */
static void judge_held_growth(mspec_judging *j, const mspec_matrix *m, const rms_pair *rms)
{
	const mspec_risk_report *r = j->report;
	double rest = mspec_equilibrium_rms(r->lr, r->weight_decay, r->update_rms);
	double ratio = rms->now / rest;
	char *reason =
	    muon_arena_format(j->arena,
	                      "the RMS %.3g is %.2g times %.3g, at which lr %.3g and decay "
	                      "%.3g hold updates of RMS %.2g after some %.2g steps",
	                      rms->now, ratio, rest, r->lr, r->weight_decay, r->update_rms,
	                      1 / (r->lr * r->weight_decay));
	bool known = !isnan(rms->before), grows = known && still_grows(j, rms);
	mspec_verdict worst = !known  ? MSPEC_VERDICT_WATCH
	                      : grows ? MSPEC_VERDICT_RISK
	                              : MSPEC_VERDICT_OK;
	if (reason && known)
		reason = muon_arena_format(j->arena, "%s; it went from %.4g to %.4g: %s", reason,
		                           rms->before, rms->now,
		                           grows ? "decay does not hold it yet" : "decay holds it");
	mspec_judge(j, MSPEC_RISK_GROWTH, m->name, m->group, ratio, worst, reason);
}

static void judge_growth(mspec_judging *j, const mspec_matrix *m, const rms_pair *rms)
{
	const mspec_risk_report *r = j->report;
	if (!(r->lr > 0) || isnan(r->weight_decay))
		return;
	if (r->weight_decay > 0)
		judge_held_growth(j, m, rms);
	else
		judge_unheld_growth(j, m, rms);
}

static void judge_precision(mspec_judging *j, const mspec_matrix *m, double rms, double max_abs)
{
	double increment = j->report->lr * j->report->update_rms;
	if (!(increment > 0))
		return;
	double half = mspec_half_bf16_step(rms);
	mspec_judge(
	    j, MSPEC_RISK_PRECISION, m->name, m->group, half / increment, MSPEC_VERDICT_RISK,
	    muon_arena_format(j->arena,
	                      "half a bf16 step is %.2g at the RMS %.3g and %.2g at the "
	                      "largest weight %.3g; a step changes entries by about %.2g",
	                      half, rms, mspec_half_bf16_step(max_abs), max_abs, increment));
}

/* The step predicted from the learning rate, for the sentence; empty where it is not known. */
static const char *predicted_loss(mspec_judging *j, const mspec_bf16_entries *e, double *share)
{
	double increment = j->report->lr * j->report->update_rms;
	*share = increment > 0 ? e->expected_lost / (double)e->moments.count : NAN;
	if (isnan(*share))
		return "";
	return muon_arena_format(
	    j->arena,
	    "without a float32 master, %.3g of the entries would lose a step of "
	    "RMS %.2g, if its entries are normally distributed",
	    *share, increment);
}

static void judge_lost(mspec_judging *j, const mspec_matrix *m, const mspec_bf16_entries *e)
{
	double share;
	const char *predicted = predicted_loss(j, e, &share);
	if (e->compared && predicted)
		mspec_judge(
		    j, MSPEC_RISK_LOST_UPDATES, m->name, m->group,
		    (double)e->lost / (double)e->compared, MSPEC_VERDICT_RISK,
		    muon_arena_format(j->arena,
		                      "%lld of %lld entries changed by less than half a bf16 "
		                      "step since the earlier checkpoint, %lld of them not at "
		                      "all%s%s",
		                      (long long)e->lost, (long long)e->compared,
		                      (long long)e->unchanged, *predicted ? "; " : "", predicted));
	else if (!isnan(share) || !predicted)
		mspec_judge(j, MSPEC_RISK_LOST_UPDATES, m->name, m->group, share,
		            MSPEC_VERDICT_RISK, predicted);
}

static void judge_matrix(mspec_judging *j, const gathered *g)
{
	const mspec_matrix *m = g->matrix;
	const mspec_bf16_entries *e = &g->entries;
	const muon_moments *all = &e->moments;
	if (all->nan || all->inf) {
		mspec_judge(j, MSPEC_RISK_RANGE, m->name, m->group, NAN, MSPEC_VERDICT_RISK,
		            muon_arena_format(j->arena, "%lld entries of %lld are NaN and %lld Inf",
		                              (long long)all->nan,
		                              (long long)(all->count + all->nan + all->inf),
		                              (long long)all->inf));
		return;
	}
	for (int i = 0; i < MSPEC_BINADES; i++)
		j->binades[i] += e->binades[i];
	j->zeros += all->zeros;
	const rms_pair rms = {sqrt(all->sumsq / (double)all->count),
	                      e->compared ? sqrt(e->earlier_sumsq / (double)e->compared) : NAN};
	mspec_judge_range(j, m->name, m->group, "weight", all->max_abs);
	judge_precision(j, m, rms.now, all->max_abs);
	judge_lost(j, m, e);
	judge_growth(j, m, &rms);
}

/* ---- the whole ------------------------------------------------------------------------------ */

static void report_unreadable(mspec_judging *j, const gathering *g)
{
	const gathered *first = NULL;
	size_t count = 0;
	for (size_t i = 0; i < g->views.count; i++)
		if (g->matrices[i].code) {
			first = first ? first : &g->matrices[i];
			count++;
		}
	char name[256];
	if (!count)
		return;
	mspec_cannot_judge(
	    j, MSPEC_RISK_RANGE,
	    muon_arena_format(j->arena, "%zu of %zu matrices can't be read: %s: %s%s", count,
	                      g->views.count, muon_escape(name, sizeof name, first->matrix->name),
	                      first->reason ? first->reason : "", count > 1 ? ", ..." : ""));
}

static void explain_gaps(mspec_judging *j, const gathering *g)
{
	const mspec_risk_report *r = j->report;
	size_t unmatched = 0;
	for (size_t i = 0; i < g->views.count; i++)
		unmatched += !g->matrices[i].before;
	if (!g->views.count)
		mspec_cannot_judge(j, MSPEC_RISK_RANGE, "there are no matrices to judge");
	if (!(r->lr > 0)) {
		const char *why = isnan(r->lr) ? "the learning rate is not known (--lr)"
		                               : "the learning rate is 0 (--lr)";
		mspec_cannot_judge(j, MSPEC_RISK_PRECISION,
		                   muon_arena_format(j->arena, "of weights: %s", why));
		if (!j->earlier)
			mspec_cannot_judge(
			    j, MSPEC_RISK_LOST_UPDATES,
			    muon_arena_format(j->arena, "%s, and there is no earlier checkpoint",
			                      why));
	}
	if (!(r->lr > 0) || isnan(r->weight_decay))
		mspec_cannot_judge(j, MSPEC_RISK_GROWTH,
		                   "needs learning rate and weight decay (--lr, --weight-decay)");
	if (j->earlier && unmatched)
		mspec_cannot_judge(j, MSPEC_RISK_LOST_UPDATES,
		                   muon_arena_format(j->arena,
		                                     "%zu of %zu matrices are not in the earlier "
		                                     "checkpoint with the same shape",
		                                     unmatched, g->views.count));
	report_unreadable(j, g);
}

static void refuse_bad_matrix(mspec_judging *j, const gathered *g)
{
	const muon_moments *all = &g->entries.moments;
	if (g->code)
		j->code = muon_fail(j->err, g->code, g->matrix->name, "%s",
		                    g->reason ? g->reason : muon_error_text(g->code));
	else if (all->nan || all->inf)
		j->code = muon_fail(j->err, MUON_E_NONFINITE, g->matrix->name,
		                    "%lld entries are NaN and %lld Inf", (long long)all->nan,
		                    (long long)all->inf);
}

void mspec_judge_weights(mspec_judging *j)
{
	const mspec_risk_report *r = j->report;
	gathering g = {.judging = j,
	               .update = {r->lr, r->update_rms, r->weight_decay > 0 ? r->weight_decay : 0},
	               .read_lock = PTHREAD_MUTEX_INITIALIZER,
	               .lock = PTHREAD_MUTEX_INITIALIZER};
	j->code = create_views(&g);
	if (!j->code)
		gather_all(&g);
	for (size_t i = 0; i < g.views.count && !j->code && j->options->strict; i++)
		refuse_bad_matrix(j, &g.matrices[i]);
	for (size_t i = 0; i < g.views.count && !j->code; i++)
		if (!g.matrices[i].code)
			judge_matrix(j, &g.matrices[i]);
	if (!j->code)
		explain_gaps(j, &g);
	muon_free(g.matrices);
	mspec_views_destroy(&g.views);
	mspec_views_destroy(&g.before);
}
