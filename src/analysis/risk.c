/* risk: what bf16 does to a checkpoint, judged from weights, recorded activations and the
 * training's settings. */
#include "analysis/forward_store.h"
#include "analysis/judging.h"

#include <math.h>

#define USUAL_UPDATE_RMS 0.2

static void fill_binades(mspec_judging *j)
{
	mspec_binades *b = &j->report->binades;
	int first = 0, last = MSPEC_BINADES - 1;
	double total = (double)j->zeros;
	while (last > 0 && !j->binades[last])
		last--;
	while (first < last && !j->binades[first])
		first++;
	for (int i = first; i <= last; i++)
		total += (double)j->binades[i];
	*b = (mspec_binades){.first = first + MSPEC_FIRST_BINADE, .zeros = NAN};
	if (total == 0)
		return;
	b->zeros = (double)j->zeros / total;
	b->share = muon_arena_alloc(j->arena, (size_t)(last - first + 1), sizeof *b->share);
	if (!b->share)
		j->code = muon_fail(j->err, MUON_E_MEMORY, NULL, "out of memory");
	for (int i = first; i <= last && b->share; i++)
		b->share[b->count++] = (double)j->binades[i] / total;
}

static double first_known(double a, double b)
{
	return isnan(a) ? b : a;
}

static bool has_recorded(const mspec_checkpoint *checkpoint)
{
	static const char *const names[] = {"activations/output_rms", "activations/output_max_abs",
	                                    "activations/max_attention_logit"};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (mspec_find_tensor(checkpoint, names[i]) != SIZE_MAX)
			return true;
	return false;
}

/* A store that can't be used has nothing to say; only memory is a failure. */
static void find_stored(mspec_judging *j)
{
	const mspec_risk_options *o = j->options;
	if (!o->store || o->measured || has_recorded(j->checkpoint))
		return;
	int code = mspec_forward_find(&j->stored, &j->store, o->store,
	                              mspec_info(j->checkpoint)->path);
	if (code == MUON_E_MEMORY)
		j->code = muon_fail(j->err, code, NULL, "out of memory");
}

static void judge_all(mspec_judging *j)
{
	mspec_risk_report *r = j->report;
	const mspec_risk_options *o = j->options;
	r->checkpoint = mspec_info(j->checkpoint);
	r->earlier = j->earlier ? mspec_info(j->earlier) : NULL;
	r->lr = first_known(o->lr, r->checkpoint->lr);
	r->weight_decay = first_known(o->weight_decay, r->checkpoint->weight_decay);
	r->update_rms = first_known(
	    o->update_rms,
	    first_known(mspec_attribute_number(j->checkpoint, "update_rms"), USUAL_UPDATE_RMS));
	find_stored(j);
	if (!j->code)
		mspec_judge_weights(j);
	if (!j->code)
		mspec_judge_outputs(j);
	if (!j->code)
		mspec_judge_attention(j);
	if (!j->code)
		fill_binades(j);
}

int mspec_risk_judge(mspec_risk_report **out, mspec_checkpoint *checkpoint,
                     mspec_checkpoint *earlier, const mspec_risk_options *options, muon_error *err)
{
	muon_arena arena = {0};
	*out = NULL;
	mspec_risk_report *report = muon_arena_alloc(&arena, 1, sizeof *report);
	muon_arena *kept = muon_arena_alloc(&arena, 1, sizeof *kept);
	if (!report || !kept) {
		muon_arena_release(&arena);
		return muon_fail(err, MUON_E_MEMORY, NULL, "out of memory");
	}
	mspec_judging j = {.checkpoint = checkpoint,
	                   .earlier = earlier,
	                   .options = options,
	                   .report = report,
	                   .arena = &arena,
	                   .err = err};
	judge_all(&j);
	mspec_store_close(&j.store);
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
