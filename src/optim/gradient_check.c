/* Before anything changes: would it all stay finite? */
#include "optim/optim_internal.h"

#include "base/pool.h"

/* What is gathered in bf16 must not become Inf by it. */
static void round_for_gather(const muon_optimizer *o, double *u, size_t count)
{
	uint16_t rounded[MUON_OPTIM_CHUNK];
	if (!o->exchanges || o->distributed.gather_dtype != MUON_BF16)
		return;
	muon_optim_store(MUON_BF16, u, count, rounded);
	muon_convert_f64(MUON_BF16, rounded, count, u);
}

static bool moments_stay_finite(const muon_optimizer *o, const muon_optim_piece *piece, int64_t at,
				size_t count, const double *g)
{
	double a[MUON_OPTIM_CHUNK], b[MUON_OPTIM_CHUNK];
	const muon_optim_parameter *p = &o->parameters[piece->parameter];
	muon_convert_f64(p->state_dtype, muon_optim_state(o, piece, MUON_OPTIM_FIRST, at), count,
			 a);
	if (p->rule == MUON_RULE_MUON) {
		muon_optim_next_momentum(o, p->state_dtype, g, a, b, count);
		round_for_gather(o, b, count);
	} else {
		muon_convert_f64(p->state_dtype, muon_optim_state(o, piece, MUON_OPTIM_SECOND, at),
				 count, b);
		muon_optim_next_moments(o, p->state_dtype, g, a, b, count);
	}
	return muon_optim_is_finite(a, count) && muon_optim_is_finite(b, count);
}

static bool check_span(void *state, size_t task, int worker)
{
	(void)worker;
	const muon_optimizer *o = state;
	muon_optim_span *span = &o->spans[task];
	const muon_optim_piece *piece = &o->pieces[span->piece];
	double g[MUON_OPTIM_CHUNK];
	span->verdict = MUON_OPTIM_GOOD;
	for (int s = 0; s < MUON_OPTIM_SUMS; s++)
		span->sums[s] = 0;
	for (int64_t at = span->begin; at < span->end && !span->verdict; at += MUON_OPTIM_CHUNK) {
		const size_t count = muon_optim_chunk(at, span->end);
		muon_optim_load_gradient(o, piece, at, count, g);
		span->sums[MUON_OPTIM_GRADIENT] += muon_optim_sum_of_squares(g, count);
		if (!muon_optim_is_finite(g, count))
			span->verdict = MUON_OPTIM_BAD_GRADIENT;
		muon_optim_clip_gradient(o, piece, count, g);
		if (!span->verdict && !moments_stay_finite(o, piece, at, count, g))
			span->verdict = MUON_OPTIM_BAD_MOMENT;
	}
	return true;
}

static int refuse(const muon_optimizer *o, size_t parameter, muon_optim_verdict verdict,
		  muon_error *err)
{
	const muon_optim_parameter *p = &o->parameters[parameter];
	if (verdict == MUON_OPTIM_BAD_GRADIENT)
		return muon_fail(err, MUON_E_NONFINITE, p->given.name,
				 "step refused: the gradient holds NaN or Inf");
	return muon_fail(err, MUON_E_NONFINITE, p->given.name,
			 "step refused: %s would overflow with this gradient",
			 p->rule == MUON_RULE_MUON ? "momentum" : "a moment of AdamW");
}

int muon_optim_check(muon_optimizer *o, muon_error *err)
{
	muon_pool_run(o->threads, o->span_count, check_span, o);
	size_t parameter = o->count;
	muon_optim_verdict verdict = MUON_OPTIM_GOOD;
	for (size_t i = 0; !verdict && i < o->span_count; i++) {
		verdict = o->spans[i].verdict;
		if (verdict)
			parameter = o->pieces[o->spans[i].piece].parameter;
	}
	int code = muon_optim_agree_verdict(o, &parameter, &verdict, err);
	return code || !verdict ? code : refuse(o, parameter, verdict, err);
}
