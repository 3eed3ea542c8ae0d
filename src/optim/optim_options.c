/* Options that make sense. */
#include "optim/optim_internal.h"

#include "base/pool.h"
#include "base/text.h"

#include <math.h>

static bool is_share(double x)
{
	return x >= 0 && x < 1;
}

static bool is_not_negative(double x)
{
	return x >= 0 && isfinite(x);
}

static bool is_positive(double x)
{
	return x > 0 && isfinite(x);
}

static int refuse(muon_error *err, const char *what)
{
	return muon_fail(err, MUON_E_USAGE, NULL, "optimizer options: %s", what);
}

static int check_numbers(const muon_options *p, muon_error *err)
{
	if (!is_share(p->momentum))
		return refuse(err, "momentum must be in [0, 1)");
	if (!is_not_negative(p->weight_decay) || !is_not_negative(p->adamw_weight_decay))
		return refuse(err, "weight decay must not be negative");
	if (!is_positive(p->update_rms))
		return refuse(err, "update_rms must be positive");
	if (p->scale == MUON_SCALE_FIXED && !is_positive(p->fixed_width))
		return refuse(err, "a fixed scale needs a positive fixed_width");
	if (!is_share(p->beta1) || !is_share(p->beta2))
		return refuse(err, "beta1 and beta2 must be in [0, 1)");
	if (!is_positive(p->eps))
		return refuse(err, "eps must be positive");
	if (!is_not_negative(p->adamw_lr_ratio))
		return refuse(err, "adamw_lr_ratio must not be negative");
	if (!is_not_negative(p->clip_norm))
		return refuse(err, "clip_norm must not be negative");
	return MUON_OK;
}

static int check_choices(const muon_options *p, muon_error *err)
{
	if ((unsigned)p->momentum_kind > MUON_MOMENTUM_EMA)
		return refuse(err, "unknown kind of momentum");
	if ((unsigned)p->scale > MUON_SCALE_FIXED)
		return refuse(err, "unknown scale");
	if ((unsigned)p->ns_form > MUON_NS_GRAM)
		return refuse(err, "unknown form of Newton-Schulz");
	if ((unsigned)p->router > MUON_RULE_ADAMW)
		return refuse(err, "unknown rule for routers");
	if (p->statistics & ~(unsigned)(MUON_STATISTICS_ORTHOGONALITY | MUON_STATISTICS_REACH))
		return refuse(err, "unknown statistics");
	if (p->threads < 0)
		return refuse(err, "threads must not be negative");
	return MUON_OK;
}

static int check_precision(muon_precision precision, muon_error *err)
{
	const char *why = NULL;
	if ((unsigned)precision > MUON_PRECISION_F64)
		return refuse(err, "unknown precision of Newton-Schulz");
	if (!muon_precision_available(precision, &why))
		return muon_fail(err, MUON_E_UNSUPPORTED, NULL, "Newton-Schulz in %s: %s",
				 muon_precision_name(precision), why);
	return MUON_OK;
}

static int choose_coefficients(muon_coefficients *c, const muon_options *p, muon_error *err)
{
	char name[64];
	if (!p->coefficients == !p->custom_coefficients)
		return refuse(err,
			      "give coefficients, or custom_coefficients with coefficients NULL");
	if (p->ns_steps < 0 || p->ns_steps > MUON_NS_MAX_STEPS)
		return muon_fail(err, MUON_E_USAGE, NULL,
				 "optimizer options: ns_steps %d is not 0 to %d", p->ns_steps,
				 MUON_NS_MAX_STEPS);
	if (p->coefficients && muon_coefficients_named(c, p->coefficients, p->ns_steps))
		return muon_fail(err, MUON_E_USAGE, NULL, "optimizer options: no coefficients '%s'",
				 muon_escape(name, sizeof name, p->coefficients));
	if (p->custom_coefficients) {
		if (p->ns_steps && p->ns_steps != p->custom_coefficients->steps)
			return refuse(err, "ns_steps differs from the custom coefficients' steps");
		*c = *p->custom_coefficients;
	}
	/* what a plan of any shape would refuse */
	muon_ns_plan *plan;
	if (muon_ns_plan_create(&plan, 1, 1, c, MUON_PRECISION_F64, MUON_NS_PLAIN) ==
	    MUON_E_ARGUMENT)
		return refuse(err, "these coefficients let singular values diverge or turn round");
	muon_ns_plan_destroy(&plan);
	return MUON_OK;
}

static int worker_threads(int asked)
{
	const int threads = asked ? asked : muon_processor_count();
	return threads < MUON_OPTIM_THREADS ? threads : MUON_OPTIM_THREADS;
}

int muon_optim_set_options(muon_optimizer *o, const muon_options *options, muon_error *err)
{
	if (!options)
		return muon_fail(err, MUON_E_USAGE, NULL, "optimizer options: none given");
	int code = check_numbers(options, err);
	if (!code)
		code = check_choices(options, err);
	if (!code)
		code = check_precision(options->ns_precision, err);
	if (!code)
		code = choose_coefficients(&o->coefficients, options, err);
	if (code)
		return code;
	o->options = *options;
	o->options.coefficients = NULL; /* the caller's strings and tables may go */
	o->options.custom_coefficients = NULL;
	o->reach = muon_coefficients_reach(&o->coefficients);
	o->threads = worker_threads(options->threads);
	return MUON_OK;
}
