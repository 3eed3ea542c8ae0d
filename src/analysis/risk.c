/* risk: what bf16 does to a checkpoint, judged from weights, recorded activations and the
 * training's settings. */
#include "analysis/attention_bound.h"
#include "analysis/bf16_entries.h"

#include "base/memory.h"

#include <math.h>
#include <muonspec/risk.h>
#include <stdio.h>
#include <string.h>

#define BF16_LARGEST 3.3895313892515355e38
#define F16_LARGEST 65504.0
#define USUAL_UPDATE_RMS 0.2

/* ---- kinds ------------------------------------------------------------------------------- */

typedef struct kind_row {
	const char *name, *meaning;
	bool larger_is_worse;
	mspec_risk_limits limits;
} kind_row;

#define KIND_ROW(kind, name, unit, larger, watch, risk, meaning)                                   \
	[kind] = {name, meaning, larger, {watch, risk}},
static const kind_row kinds[MSPEC_RISK_KINDS] = {MSPEC_RISK_TABLE(KIND_ROW)};

const char *mspec_risk_kind_name(mspec_risk_kind kind)
{
	return kinds[kind].name;
}

const char *mspec_risk_kind_meaning(mspec_risk_kind kind)
{
	return kinds[kind].meaning;
}

mspec_risk_limits mspec_risk_default_limits(mspec_risk_kind kind)
{
	return kinds[kind].limits;
}

const char *mspec_verdict_name(mspec_verdict verdict)
{
	static const char *const names[] = {"ok", "watch", "risk"};
	return names[verdict];
}

/* ---- a judgement in the making ------------------------------------------------------------ */

typedef struct judging {
	mspec_checkpoint *checkpoint; /* the one that is judged */
	mspec_checkpoint *earlier;    /* NULL if there is none */
	const mspec_risk_options *options;
	mspec_risk_report *report;
	muon_arena *arena;
	size_t capacity, bad;
	int64_t binades[MSPEC_BINADES];
	muon_error *err;
	int code;
} judging;

static void out_of_memory(judging *j)
{
	if (!j->code)
		j->code = muon_fail(j->err, MUON_E_MEMORY, NULL, "out of memory");
}

static bool beyond(mspec_risk_kind kind, double value, double limit)
{
	return kinds[kind].larger_is_worse ? value >= limit : value <= limit;
}

static mspec_risk_limits limits_of(const judging *j, mspec_risk_kind kind)
{
	mspec_risk_limits given = j->options->limits[kind], usual = kinds[kind].limits;
	return (mspec_risk_limits){isnan(given.watch) ? usual.watch : given.watch,
				   isnan(given.risk) ? usual.risk : given.risk};
}

/* Room for one more; NULL when out of memory. */
static mspec_risk *new_risk(judging *j)
{
	mspec_risk_report *r = j->report;
	if (r->count == j->capacity) {
		size_t capacity = j->capacity ? 2 * j->capacity : 64;
		mspec_risk *grown = muon_resize(r->risks, capacity, sizeof *grown);
		if (!grown) {
			out_of_memory(j);
			return NULL;
		}
		r->risks = grown;
		j->capacity = capacity;
	}
	return &r->risks[r->count++];
}

/* Judge a value by its kind's limits, but at worst as `worst`. */
static void judge(judging *j, mspec_risk_kind kind, const char *name, const char *group,
		  double value, mspec_verdict worst, const char *reason)
{
	mspec_risk_limits limits = limits_of(j, kind);
	mspec_verdict verdict = MSPEC_VERDICT_OK;
	if (beyond(kind, value, limits.risk) || isnan(value))
		verdict = MSPEC_VERDICT_RISK;
	else if (beyond(kind, value, limits.watch))
		verdict = MSPEC_VERDICT_WATCH;
	if (verdict > worst)
		verdict = worst;
	name = muon_arena_string(j->arena, name);
	const char *kept = group ? muon_arena_string(j->arena, group) : NULL;
	mspec_risk *risk = new_risk(j);
	if (!risk || !name || !reason || (group && !kept)) {
		out_of_memory(j);
		return;
	}
	*risk = (mspec_risk){
	    name,    kept,  kind, value, verdict == MSPEC_VERDICT_RISK ? limits.risk : limits.watch,
	    verdict, reason};
	if (verdict > j->report->verdict)
		j->report->verdict = verdict;
}

static void cannot_judge(judging *j, mspec_risk_kind kind, const char *reason)
{
	mspec_risk_report *r = j->report;
	mspec_unjudged *grown = muon_arena_alloc(j->arena, r->unjudged_count + 1, sizeof *grown);
	if (!grown || !reason) {
		out_of_memory(j);
		return;
	}
	if (r->unjudged_count)
		memcpy(grown, r->unjudged, r->unjudged_count * sizeof *grown);
	grown[r->unjudged_count++] = (mspec_unjudged){kind, reason};
	r->unjudged = grown;
}

/* ---- weights ----------------------------------------------------------------------------- */

static void judge_range(judging *j, const char *name, const char *group, const char *what,
			double max_abs)
{
	double bf16 = max_abs > 0 ? log2(BF16_LARGEST / max_abs) : INFINITY;
	double f16 = max_abs > 0 ? log2(F16_LARGEST / max_abs) : INFINITY;
	judge(j, MSPEC_RISK_RANGE, name, group, bf16, MSPEC_VERDICT_RISK,
	      muon_arena_format(
		  j->arena,
		  "largest %s %.3g: %.1f powers of two below bf16's largest value%s%.1f "
		  "below fp16's",
		  what, max_abs, bf16, f16 < 0 ? ", but fp16 can't hold it: " : ", ", f16));
}

/* Where the RMS of W <- (1 - lr decay) W - lr u settles when successive u are uncorrelated: the fixed
 * point of E[W^2] = (1 - lr decay)^2 E[W^2] + lr^2 u^2. */
static double equilibrium_rms(const mspec_risk_report *r)
{
	double decay = 2 * r->weight_decay - r->lr * r->weight_decay * r->weight_decay;
	return r->update_rms * sqrt(r->lr / decay);
}

static void judge_growth(judging *j, const mspec_matrix *m, double rms)
{
	const mspec_risk_report *r = j->report;
	if (isnan(r->lr) || isnan(r->weight_decay) || !(r->lr > 0))
		return;
	if (!(r->weight_decay > 0)) {
		judge(j, MSPEC_RISK_GROWTH, m->name, m->group, INFINITY, MSPEC_VERDICT_WATCH,
		      "no weight decay: nothing holds the RMS, which grows with the square root of "
		      "the steps or faster");
		return;
	}
	double rest = equilibrium_rms(r), ratio = rms / rest;
	judge(j, MSPEC_RISK_GROWTH, m->name, m->group, ratio, MSPEC_VERDICT_RISK,
	      muon_arena_format(j->arena,
				"RMS %.3g is %.2g times %.3g, where lr %.3g and decay %.3g hold "
				"updates of RMS %.3g",
				rms, ratio, rest, r->lr, r->weight_decay, r->update_rms));
}

static void judge_precision(judging *j, const mspec_matrix *m, double rms, double max_abs)
{
	const mspec_risk_report *r = j->report;
	double increment = r->lr * r->update_rms;
	if (!(increment > 0))
		return;
	double half = mspec_half_bf16_step(rms);
	judge(j, MSPEC_RISK_PRECISION, m->name, m->group, half / increment, MSPEC_VERDICT_RISK,
	      muon_arena_format(j->arena,
				"half a bf16 step is %.2g at the RMS %.3g and %.2g at the largest "
				"%.3g; a step changes entries by %.2g",
				half, rms, mspec_half_bf16_step(max_abs), max_abs, increment));
}

static void judge_lost(judging *j, const mspec_matrix *m, const mspec_bf16_entries *e)
{
	if (e->compared) {
		double share = (double)e->lost / (double)e->compared;
		judge(j, MSPEC_RISK_LOST_UPDATES, m->name, m->group, share, MSPEC_VERDICT_RISK,
		      muon_arena_format(
			  j->arena,
			  "%lld of %lld entries changed by less than half a bf16 step "
			  "since the checkpoint before, %lld of them not at all",
			  (long long)e->lost, (long long)e->compared, (long long)e->unchanged));
	} else if (e->count && j->report->lr * j->report->update_rms > 0) {
		double share = e->expected_lost / (double)e->count;
		judge(j, MSPEC_RISK_LOST_UPDATES, m->name, m->group, share, MSPEC_VERDICT_RISK,
		      muon_arena_format(j->arena,
					"%.3g of the entries would lose a step of RMS %.2g in bf16 "
					"without a float32 master, if updates are normally "
					"distributed",
					share, j->report->lr * j->report->update_rms));
	}
}

static const mspec_matrix *find_matrix(const mspec_views *views, const mspec_matrix *wanted)
{
	for (size_t i = 0; i < views->count; i++) {
		const mspec_matrix *m = &views->matrices[i];
		if (!strcmp(m->name, wanted->name))
			return m->stored_rows == wanted->stored_rows &&
				       m->stored_cols == wanted->stored_cols
				   ? m
				   : NULL;
	}
	return NULL;
}

static void judge_matrix(judging *j, const mspec_matrix *m, const mspec_matrix *before)
{
	const mspec_risk_report *r = j->report;
	mspec_update_model model = {r->lr, r->update_rms,
				    r->weight_decay > 0 ? r->weight_decay : 0};
	bool predict = !before && r->lr * r->update_rms > 0;
	mspec_bf16_entries e, now;
	muon_error ignored = {0};
	/* updates are lost at the weights that they are added to, those before */
	int code = before ? mspec_bf16_entries_gather(&e, j->earlier, before, j->checkpoint, m,
						      NULL, &ignored)
			  : MUON_OK;
	if (!code)
		code = mspec_bf16_entries_gather(&now, j->checkpoint, m, NULL, NULL,
						 predict ? &model : NULL, &ignored);
	if (code == MUON_E_MEMORY)
		out_of_memory(j);
	if (code || now.nonfinite || !now.count) {
		j->bad++;
		return;
	}
	double rms = sqrt(now.sumsq / (double)now.count);
	for (int i = 0; i < MSPEC_BINADES; i++)
		j->binades[i] += now.binades[i];
	judge_range(j, m->name, m->group, "weight", now.max_abs);
	judge_precision(j, m, rms, now.max_abs);
	judge_lost(j, m, before ? &e : &now);
	judge_growth(j, m, rms);
}

static void judge_weights(judging *j)
{
	mspec_views views = {0}, before = {0};
	j->code = mspec_views_create(&views, j->checkpoint, &j->options->view, j->err);
	if (!j->code && j->earlier)
		j->code = mspec_views_create(&before, j->earlier, &j->options->view, j->err);
	for (size_t i = 0; i < views.count && !j->code; i++) {
		const mspec_matrix *m = &views.matrices[i];
		judge_matrix(j, m, find_matrix(&before, m));
	}
	mspec_views_destroy(&views);
	mspec_views_destroy(&before);
}

/* ---- recorded activations ------------------------------------------------------------------ */

static size_t find_tensor(const mspec_checkpoint *checkpoint, const char *name)
{
	for (size_t i = 0; i < mspec_tensor_count(checkpoint); i++)
		if (!strcmp(mspec_tensor_at(checkpoint, i)->name, name))
			return i;
	return SIZE_MAX;
}

/* A recorded array; NULL with *count 0 where there is none that can be read. */
static double *read_record(judging *j, const char *name, int64_t *count)
{
	size_t index = find_tensor(j->checkpoint, name);
	const mspec_tensor *t = index == SIZE_MAX ? NULL : mspec_tensor_at(j->checkpoint, index);
	*count = 0;
	if (!t || t->status || !muon_dtype_is_float(t->dtype) || t->elements < 1)
		return NULL;
	void *raw = muon_alloc((size_t)t->elements, sizeof(double));
	double *values = muon_arena_alloc(j->arena, (size_t)t->elements, sizeof *values);
	if (!raw || !values)
		out_of_memory(j);
	else if (!mspec_read(j->checkpoint, index, 0, t->elements, raw, NULL) &&
		 !muon_convert_f64(t->dtype, raw, (size_t)t->elements, values))
		*count = t->elements;
	muon_free(raw);
	return *count ? values : NULL;
}

/* RMS of the output of a layer's matrix; NaN if it was not recorded. */
static double matrix_output(judging *j, int64_t layer, const char *matrix)
{
	char name[160];
	int64_t count;
	snprintf(name, sizeof name, "activations/matrices/model.layers.%lld.%s.weight/output_rms",
		 (long long)layer, matrix);
	const double *rms = read_record(j, name, &count);
	return rms ? rms[0] : NAN;
}

/* What a layer adds to the residual stream, by the smaller of its two blocks' outputs. */
static double smallest_block_output(judging *j, int64_t layer)
{
	return fmin(matrix_output(j, layer, "self_attn.o_proj"),
		    matrix_output(j, layer, "mlp.down_proj"));
}

static void judge_stream(judging *j, int64_t layer, const char *name, double rms)
{
	double added = smallest_block_output(j, layer), half = mspec_half_bf16_step(rms);
	if (!(added > 0))
		return;
	judge(j, MSPEC_RISK_PRECISION, name, NULL, half / added, MSPEC_VERDICT_RISK,
	      muon_arena_format(j->arena,
				"the layer's output has RMS %.3g, where half a bf16 step is %.2g; "
				"the smaller of its blocks adds %.2g",
				rms, half, added));
}

static void judge_outputs(judging *j)
{
	int64_t layers, sizes;
	const double *rms = read_record(j, "activations/output_rms", &layers);
	const double *largest = read_record(j, "activations/output_max_abs", &sizes);
	if (!rms && !largest)
		cannot_judge(j, MSPEC_RISK_RANGE,
			     "outputs: the checkpoint has no recorded activations");
	for (int64_t i = 0; i < layers || i < sizes; i++) {
		char name[32];
		snprintf(name, sizeof name, "layers.%lld", (long long)i);
		if (i < sizes)
			judge_range(j, name, NULL, "output", largest[i]);
		if (i < layers)
			judge_stream(j, i, name, rms[i]);
	}
}

/* ---- attention ------------------------------------------------------------------------------ */

static double largest_of(const double *values, int64_t count)
{
	double largest = -INFINITY;
	for (int64_t i = 0; i < count; i++)
		largest = fmax(largest, values[i]);
	return largest;
}

static void judge_layer_attention(judging *j, int64_t layer, double bound, double recorded)
{
	char name[48];
	snprintf(name, sizeof name, "layers.%lld.self_attn", (long long)layer);
	if (!isnan(recorded))
		judge(j, MSPEC_RISK_ATTENTION_LOGITS, name, "AttnQO", recorded, MSPEC_VERDICT_RISK,
		      isnan(bound)
			  ? muon_arena_format(j->arena, "largest recorded logit %.4g", recorded)
			  : muon_arena_format(j->arena,
					      "largest recorded logit %.4g; the weights "
					      "allow up to %.4g",
					      recorded, bound));
	else if (!isnan(bound))
		/* a bound is no measurement: real inputs stay far below it */
		judge(j, MSPEC_RISK_ATTENTION_LOGITS, name, "AttnQO", bound, MSPEC_VERDICT_WATCH,
		      muon_arena_format(j->arena,
					"the weights of the worst head allow logits up to %.4g; "
					"'muonspec forward' measures them",
					bound));
}

static void judge_attention(judging *j)
{
	mspec_model_config config;
	muon_error reason = {0};
	int64_t recorded;
	const double *logits = read_record(j, "activations/max_attention_logit", &recorded);
	bool known = !mspec_model_config_read(&config, mspec_info(j->checkpoint), &reason);
	int64_t layers = known ? config.layers : recorded;
	double *bounds = muon_alloc(known ? (size_t)config.heads : 1, sizeof *bounds);
	if (!bounds)
		out_of_memory(j);
	for (int64_t i = 0; i < layers && !j->code; i++) {
		double bound = NAN;
		if (known && !mspec_attention_bounds(j->checkpoint, &config, i, bounds, &reason))
			bound = largest_of(bounds, config.heads);
		judge_layer_attention(j, i, bound, i < recorded ? logits[i] : NAN);
	}
	muon_free(bounds);
	if (reason.code)
		cannot_judge(j, MSPEC_RISK_ATTENTION_LOGITS,
			     muon_arena_format(j->arena, "bound from weights: %s%s%s", reason.where,
					       *reason.where ? ": " : "", reason.message));
}

/* ---- the whole ------------------------------------------------------------------------------ */

static void explain_gaps(judging *j)
{
	const mspec_risk_report *r = j->report;
	if (isnan(r->lr)) {
		cannot_judge(j, MSPEC_RISK_PRECISION,
			     "weights: the learning rate is not known (--lr)");
		if (!j->earlier)
			cannot_judge(j, MSPEC_RISK_LOST_UPDATES,
				     "needs two checkpoints of a run, or the learning rate (--lr)");
	}
	if (isnan(r->lr) || isnan(r->weight_decay))
		cannot_judge(j, MSPEC_RISK_GROWTH,
			     "needs learning rate and weight decay (--lr, --weight-decay)");
	if (j->bad)
		cannot_judge(j, MSPEC_RISK_RANGE,
			     muon_arena_format(j->arena,
					       "%zu matrices can't be read or hold NaN or Inf; "
					       "'muonspec analyze' names them",
					       j->bad));
}

static void fill_binades(judging *j)
{
	int first = 0, last = MSPEC_BINADES - 1;
	double total = 0;
	while (last > 0 && !j->binades[last])
		last--;
	while (first < last && !j->binades[first])
		first++;
	for (int i = first; i <= last; i++)
		total += (double)j->binades[i];
	mspec_binades *b = &j->report->binades;
	b->first = first + MSPEC_FIRST_BINADE;
	b->share = muon_arena_alloc(j->arena, (size_t)(last - first + 1), sizeof *b->share);
	if (!b->share) {
		out_of_memory(j);
		return;
	}
	for (int i = first; i <= last && total > 0; i++)
		b->share[b->count++] = (double)j->binades[i] / total;
}

static double first_known(double a, double b, double c)
{
	return !isnan(a) ? a : !isnan(b) ? b : c;
}

int mspec_risk_judge(mspec_risk_report **out, mspec_checkpoint *checkpoint, mspec_checkpoint *later,
		     const mspec_risk_options *options, muon_error *err)
{
	muon_arena arena = {0};
	*out = NULL;
	mspec_risk_report *report = muon_arena_alloc(&arena, 1, sizeof *report);
	muon_arena *kept = muon_arena_alloc(&arena, 1, sizeof *kept);
	if (!report || !kept) {
		muon_arena_release(&arena);
		return muon_fail(err, MUON_E_MEMORY, NULL, "out of memory");
	}
	judging j = {.checkpoint = later ? later : checkpoint,
		     .earlier = later ? checkpoint : NULL,
		     .options = options,
		     .report = report,
		     .arena = &arena,
		     .err = err};
	const mspec_checkpoint_info *info = mspec_info(j.checkpoint);
	report->lr = first_known(options->lr, info->lr, NAN);
	report->weight_decay = first_known(options->weight_decay, info->weight_decay, NAN);
	report->update_rms = first_known(options->update_rms, USUAL_UPDATE_RMS, NAN);
	judge_weights(&j);
	if (!j.code)
		judge_outputs(&j);
	if (!j.code)
		judge_attention(&j);
	if (!j.code) {
		explain_gaps(&j);
		fill_binades(&j);
	}
	*kept = arena;
	report->memory = kept;
	*out = report;
	if (j.code)
		mspec_risk_destroy(out);
	return j.code;
}

void mspec_risk_destroy(mspec_risk_report **report)
{
	if (!*report)
		return;
	muon_free((*report)->risks);
	muon_arena arena = *(muon_arena *)(*report)->memory;
	muon_arena_release(&arena);
	*report = NULL;
}
