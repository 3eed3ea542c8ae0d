/* One step: gradients are checked before anything changes; then momentum, orthogonalisation and
 * update of each block, and AdamW for the rest. */
#include "optim/optim_internal.h"

#include "base/clock.h"
#include "optim/exchanges.h"

#include <math.h>

static double lap(double *from)
{
	const double now = muon_seconds(), passed = now - *from;
	*from = now;
	return passed;
}

static int can_step(const muon_optimizer *o, double lr, muon_error *err)
{
	if (!isfinite(lr) || lr < 0)
		return muon_fail(err, MUON_E_ARGUMENT, NULL,
				 "step refused: learning rate %g is not a number from 0 up", lr);
	if (o->is_broken)
		return muon_fail(err, MUON_E_INTERNAL, NULL,
				 "step refused: an earlier one ended half-way; load a state first");
	return MUON_OK;
}

/* What may fail half-way. */
static int change(muon_optimizer *o, muon_error *err)
{
	double start = muon_seconds();
	muon_optim_step_cut_momentum(o);
	o->seconds.momentum += lap(&start);
	int code = muon_optim_gather(o, err);
	o->seconds.gather = lap(&start);
	if (code)
		return code;
	code = muon_optim_step_muon(o, err); /* keeps its time itself */
	start = muon_seconds();
	if (!code)
		muon_optim_step_adamw(o);
	o->seconds.update += lap(&start);
	code = muon_optim_agree(o, code, err);
	if (!code)
		code = muon_optim_all_gather(o, err);
	o->seconds.all_gather = lap(&start);
	return code;
}

int muon_optimizer_step(muon_optimizer *o, double lr, muon_error *err)
{
	const double begin = muon_seconds();
	double start = begin;
	int code = muon_optim_need(o, err);
	if (!code)
		code = muon_optim_agree_on(o, can_step(o, lr, err), lr, "the learning rate", err);
	if (code)
		return code;
	muon_blas_single_thread();
	o->seconds = (muon_step_seconds){0};
	code = muon_optim_reduce(o, err);
	o->seconds.reduce = lap(&start);
	if (!code)
		code = muon_optim_find_clip(o, err);
	if (!code)
		code = muon_optim_check(o, err);
	o->seconds.check = lap(&start);
	if (code)
		return code;
	o->lr = lr;
	code = change(o, err);
	o->is_broken = code != MUON_OK;
	if (code)
		return code;
	o->steps++;
	o->measured = o->options.statistics;
	o->has_statistics = true;
	code = muon_optim_gather_statistics(o, err);
	o->is_broken = code != MUON_OK; /* a caller who repeats the step would take it twice */
	o->seconds.total = muon_seconds() - begin;
	return code;
}
