/* Risks of the layers: recorded outputs and attention logits, and the bounds that weights set. */
#include "analysis/attention_bound.h"
#include "analysis/forward_store.h"
#include "analysis/judging.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MOST_LAYERS = 1 << 20 }; /* of a record */

/* A recorded array; NULL with *count 0 where there is none that can be read. */
static double *read_record(mspec_judging *j, const char *name, int64_t *count)
{
	size_t index = mspec_find_tensor(j->checkpoint, name);
	const mspec_tensor *t = index == SIZE_MAX ? NULL : mspec_tensor_at(j->checkpoint, index);
	*count = 0;
	if (!t || t->status || !muon_dtype_is_float(t->dtype) || t->elements < 1 ||
	    t->elements > MOST_LAYERS)
		return NULL;
	void *raw = muon_alloc((size_t)t->elements, sizeof(double));
	double *values = muon_arena_alloc(j->arena, (size_t)t->elements, sizeof *values);
	if (!raw || !values)
		j->code = muon_fail(j->err, MUON_E_MEMORY, NULL, "out of memory");
	else if (!mspec_read(j->checkpoint, index, 0, t->elements, raw, NULL) &&
	         !muon_convert_f64(t->dtype, raw, (size_t)t->elements, values))
		*count = t->elements;
	muon_free(raw);
	return *count ? values : NULL;
}

/* ---- activations, recorded, measured or stored --------------------------------------------- */

/* A statistic of every layer of the measured model. */
static double *list_measured(mspec_judging *j, size_t offset, int64_t *count)
{
	const mspec_forward *f = j->options->measured;
	double *values = muon_arena_alloc(j->arena, (size_t)f->layers, sizeof *values);
	*count = values ? f->layers : 0;
	if (!values)
		j->code = muon_fail(j->err, MUON_E_MEMORY, NULL, "out of memory");
	for (int64_t i = 0; i < *count; i++)
		values[i] = *(const double *)((const char *)&f->runs[0].layers[i] + offset);
	return values;
}

static double *list_stored(mspec_judging *j, const char *name, int64_t *count)
{
	const mspec_recorded *r = mspec_forward_recorded(j->stored, name);
	*count = r ? (int64_t)r->count : 0;
	return r && r->count ? r->values : NULL;
}

/* Where statistics come from, for reasons. */
static const char *source_of(const mspec_judging *j)
{
	return j->options->measured ? "measured" : j->stored ? "stored by forward" : "recorded";
}

/* The statistic `name` of mspec_forward_layer for every layer; NULL with *count 0 where there is
 * none. */
#define LAYER_STATISTIC(j, name, count)                                                            \
	((j)->options->measured ? list_measured(j, offsetof(mspec_forward_layer, name), count)     \
	 : (j)->stored          ? list_stored(j, "forward_" #name, count)                          \
	                        : read_record(j, "activations/" #name, count))

/* RMS of the output of a layer's matrix; NaN if it is not known. */
static double matrix_output(mspec_judging *j, int64_t layer, const char *matrix)
{
	const mspec_forward *f = j->options->measured;
	char name[128], record[192];
	int64_t count;
	snprintf(name, sizeof name, "model.layers.%lld.%s.weight", (long long)layer, matrix);
	for (int64_t i = 0; f && i < f->matrices; i++)
		if (!strcmp(f->runs[0].matrices[i].name, name))
			return f->runs[0].matrices[i].output_rms;
	if (f)
		return NAN;
	snprintf(record, sizeof record, "activations/matrices/%s/output_rms", name);
	const double *rms = read_record(j, record, &count);
	return rms ? rms[0] : NAN;
}

/* ---- outputs -------------------------------------------------------------------------------- */

/* What layer `i` adds to the residual stream, which must still be seen in it: the smaller of its
 * two blocks' outputs where both are known, else what the stream's growth tells if the two are
 * not correlated. NaN: unknown. */
static double added_to_stream(mspec_judging *j, int64_t i, const double *rms)
{
	double attention = matrix_output(j, i, "self_attn.o_proj");
	double mlp = matrix_output(j, i, "mlp.down_proj");
	if (!isnan(attention) && !isnan(mlp))
		return fmin(attention, mlp);
	return i ? sqrt(fabs(rms[i] * rms[i] - rms[i - 1] * rms[i - 1])) : NAN;
}

static void judge_stream(mspec_judging *j, int64_t layer, const char *name, const double *rms)
{
	double added = added_to_stream(j, layer, rms), half = mspec_half_bf16_step(rms[layer]);
	if (added > 0 && !j->code)
		mspec_judge(j, MSPEC_RISK_PRECISION, name, NULL, half / added, MSPEC_VERDICT_RISK,
		            muon_arena_format(j->arena,
		                              "half a bf16 step is %.2g at the output's RMS %.3g%s, "
		                              "to which a block of the layer adds %.2g",
		                              half, rms[layer],
		                              j->stored ? " (stored by forward)" : "", added));
}

void mspec_judge_outputs(mspec_judging *j)
{
	int64_t layers, sizes;
	const double *rms = LAYER_STATISTIC(j, output_rms, &layers);
	const double *largest = LAYER_STATISTIC(j, output_max_abs, &sizes);
	if (!j->code && !rms && !largest) {
		const char *why = "of outputs: the checkpoint has no recorded activations "
		                  "('muonspec forward --store' measures them)";
		mspec_cannot_judge(j, MSPEC_RISK_RANGE, why);
		mspec_cannot_judge(j, MSPEC_RISK_PRECISION, why);
	}
	for (int64_t i = 0; (i < layers || i < sizes) && !j->code; i++) {
		char name[32];
		snprintf(name, sizeof name, "layers.%lld", (long long)i);
		if (i < sizes)
			mspec_judge_range(j, name, NULL,
			                  j->stored ? "output stored by forward" : "output",
			                  largest[i]);
		if (i < layers)
			judge_stream(j, i, name, rms);
	}
}

/* ---- attention ------------------------------------------------------------------------------ */

static int64_t worst_head(const double *bounds, int64_t heads)
{
	int64_t worst = 0;
	for (int64_t h = 1; h < heads; h++)
		if (bounds[h] > bounds[worst])
			worst = h;
	return worst;
}

static void judge_logits(mspec_judging *j, const mspec_attention_layer *a)
{
	char name[48];
	const char *reason;
	const double *bounds = a->head_bounds;
	int64_t worst = bounds ? worst_head(bounds, j->report->heads) : 0;
	snprintf(name, sizeof name, "layers.%lld.self_attn", (long long)a->layer);
	if (!isnan(a->recorded)) {
		const char *how = source_of(j);
		reason = bounds
		             ? muon_arena_format(j->arena,
		                                 "the largest logit %s is %.4g; the weights of "
		                                 "head %lld allow up to %.4g",
		                                 how, a->recorded, (long long)worst, bounds[worst])
		             : muon_arena_format(j->arena, "the largest logit %s is %.4g", how,
		                                 a->recorded);
		mspec_judge(j, MSPEC_RISK_ATTENTION_LOGITS, name, "AttnQO", a->recorded,
		            MSPEC_VERDICT_RISK, reason);
	} else if (bounds) {
		/* a bound is no measurement: real inputs stay far below it */
		reason = muon_arena_format(j->arena,
		                           "the weights of head %lld allow logits up to %.4g "
		                           "('muonspec forward --store' measures them)",
		                           (long long)worst, bounds[worst]);
		mspec_judge(j, MSPEC_RISK_ATTENTION_LOGITS, name, "AttnQO", bounds[worst],
		            MSPEC_VERDICT_WATCH, reason);
	}
}

/* Bounds of a layer's heads, NULL where they can't be had; the first reason stays in `reason`. */
static const double *find_bounds(mspec_judging *j, const mspec_model_config *config, int64_t layer,
                                 muon_error *reason)
{
	double *bounds = muon_arena_alloc(j->arena, (size_t)config->heads, sizeof *bounds);
	int code = bounds ? mspec_attention_bounds(j->checkpoint, config, layer, bounds, reason)
	                  : MUON_E_MEMORY;
	if (code == MUON_E_MEMORY)
		j->code = muon_fail(j->err, code, NULL, "out of memory");
	return code ? NULL : bounds;
}

static void explain_missing_bounds(mspec_judging *j, const muon_error *reason)
{
	mspec_cannot_judge(j, MSPEC_RISK_ATTENTION_LOGITS,
	                   muon_arena_format(j->arena, "bound from the weights: %s%s%s",
	                                     reason->where, *reason->where ? ": " : "",
	                                     reason->message));
}

void mspec_judge_attention(mspec_judging *j)
{
	mspec_risk_report *r = j->report;
	mspec_model_config config;
	muon_error reason = {0};
	int64_t recorded;
	const double *logits = LAYER_STATISTIC(j, max_attention_logit, &recorded);
	bool known = !mspec_model_config_read(&config, j->checkpoint, &reason);
	int64_t layers = known ? config.layers : recorded;
	r->attention = muon_arena_alloc(j->arena, (size_t)layers, sizeof *r->attention);
	if (!r->attention && !j->code)
		j->code = muon_fail(j->err, MUON_E_MEMORY, NULL, "out of memory");
	r->heads = known ? config.heads : 0;
	for (int64_t i = 0; i < layers && !j->code; i++) {
		mspec_attention_layer *a = &r->attention[r->attention_count++];
		*a = (mspec_attention_layer){.layer = i,
		                             .head_bounds =
		                                 known ? find_bounds(j, &config, i, &reason) : NULL,
		                             .recorded = i < recorded ? logits[i] : NAN};
		judge_logits(j, a);
	}
	if (reason.code && !j->code)
		explain_missing_bounds(j, &reason);
}
