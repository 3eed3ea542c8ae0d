#include "analysis/judging.h"

#include <math.h>
#include <string.h>

#define BF16_LARGEST 0x1.fep127
#define F16_LARGEST 65504.0

/* ---- kinds ------------------------------------------------------------------------------- */

typedef struct kind_row {
	const char *name, *meaning;
	bool larger_is_worse;
	mspec_risk_limits limits;
} kind_row;

#define KIND_ROW(kind, name, larger, watch, risk, meaning)                                         \
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

bool mspec_risk_larger_is_worse(mspec_risk_kind kind)
{
	return kinds[kind].larger_is_worse;
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

/* ---- verdicts ----------------------------------------------------------------------------- */

static void out_of_memory(mspec_judging *j)
{
	if (!j->code)
		j->code = muon_fail(j->err, MUON_E_MEMORY, NULL, "out of memory");
}

static mspec_risk_limits limits_of(const mspec_judging *j, mspec_risk_kind kind)
{
	mspec_risk_limits given = j->options->limits[kind], usual = kinds[kind].limits;
	return (mspec_risk_limits){isnan(given.watch) ? usual.watch : given.watch,
	                           isnan(given.risk) ? usual.risk : given.risk};
}

static bool beyond(mspec_risk_kind kind, double value, double limit)
{
	if (isnan(value))
		return true;
	return kinds[kind].larger_is_worse ? value >= limit : value <= limit;
}

/* Room for one more; NULL when out of memory. */
static mspec_risk *new_risk(mspec_judging *j)
{
	mspec_risk_report *r = j->report;
	if (r->count == j->capacity) {
		size_t capacity = j->capacity ? 2 * j->capacity : 64;
		mspec_risk *grown = muon_resize(r->risks, capacity, sizeof *grown);
		if (!grown)
			return NULL;
		r->risks = grown;
		j->capacity = capacity;
	}
	return &r->risks[r->count++];
}

void mspec_judge(mspec_judging *j, mspec_risk_kind kind, const char *name, const char *group,
                 double value, mspec_verdict worst, const char *reason)
{
	mspec_risk_limits limits = limits_of(j, kind);
	mspec_verdict verdict = beyond(kind, value, limits.risk)    ? MSPEC_VERDICT_RISK
	                        : beyond(kind, value, limits.watch) ? MSPEC_VERDICT_WATCH
	                                                            : MSPEC_VERDICT_OK;
	verdict = verdict < worst ? verdict : worst;
	const char *own_name = muon_arena_string(j->arena, name);
	const char *own_group = group ? muon_arena_string(j->arena, group) : NULL;
	if (j->code)
		return;
	mspec_risk *risk = reason && own_name && (own_group || !group) ? new_risk(j) : NULL;
	if (!risk) {
		out_of_memory(j);
		return;
	}
	double threshold = verdict == MSPEC_VERDICT_RISK ? limits.risk : limits.watch;
	*risk = (mspec_risk){own_name, own_group, kind, value, threshold, verdict, reason};
	if (verdict > j->report->verdict)
		j->report->verdict = verdict;
}

void mspec_cannot_judge(mspec_judging *j, mspec_risk_kind kind, const char *reason)
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

/* ---- range, of weights and outputs --------------------------------------------------------- */

void mspec_judge_range(mspec_judging *j, const char *name, const char *group, const char *what,
                       double max_abs)
{
	double bf16 = log2(BF16_LARGEST / max_abs), f16 = log2(F16_LARGEST / max_abs);
	if (max_abs == 0)
		mspec_judge(j, MSPEC_RISK_RANGE, name, group, NAN, MSPEC_VERDICT_OK,
		            muon_arena_format(j->arena, "every %s is 0", what));
	else if (!isfinite(max_abs))
		mspec_judge(j, MSPEC_RISK_RANGE, name, group, NAN, MSPEC_VERDICT_RISK,
		            muon_arena_format(j->arena, "the largest %s is not finite", what));
	else
		mspec_judge(
		    j, MSPEC_RISK_RANGE, name, group, bf16, MSPEC_VERDICT_RISK,
		    muon_arena_format(j->arena,
		                      "the largest %s, %.3g, is %.1f powers of two %s bf16's "
		                      "largest value and %.1f %s fp16's",
		                      what, max_abs, fabs(bf16), bf16 < 0 ? "above" : "below",
		                      fabs(f16), f16 < 0 ? "above" : "below"));
}
