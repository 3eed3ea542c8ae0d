/* The life of an optimizer. */
#include "optim/optim_internal.h"

int muon_optim_out_of_memory(const char *where, muon_error *err)
{
	return muon_fail(err, MUON_E_MEMORY, where, "out of memory");
}

static int build(muon_optimizer *o, const muon_options *options, const muon_parameter *parameters,
		 size_t count, muon_error *err)
{
	int code = muon_optim_set_options(o, options, err);
	if (!code)
		code = muon_optim_set_parameters(o, parameters, count, err);
	if (!code)
		code = muon_optim_make_blocks(o, err);
	if (!code)
		code = muon_optim_make_pieces(o, err);
	return code ? code : muon_optim_make_plans(o, err);
}

int muon_optimizer_create(muon_optimizer **out, const muon_options *options,
			  const muon_parameter *parameters, size_t count, muon_error *err)
{
	muon_optimizer *o = *out = muon_alloc(1, sizeof *o);
	if (!o)
		return muon_optim_out_of_memory(NULL, err);
	o->distributed.gradient_factor = 1;
	int code = build(o, options, parameters, count, err);
	if (code)
		muon_optimizer_destroy(out);
	return code;
}

void muon_optimizer_destroy(muon_optimizer **optimizer)
{
	muon_optimizer *o = *optimizer;
	*optimizer = NULL;
	if (!o)
		return;
	muon_optim_release_plans(o);
	muon_free(o->parameters);
	muon_free(o->ownership.segments);
	muon_free(o->blocks);
	muon_free(o->pieces);
	muon_free(o->spans);
	muon_free(o->adamw_spans);
	muon_free_aligned(o->state);
	muon_arena_release(&o->arena);
	muon_free(o);
}

int64_t muon_optimizer_steps(const muon_optimizer *o)
{
	return o->steps;
}

muon_rule muon_optimizer_rule(const muon_optimizer *o, size_t parameter)
{
	return parameter < o->count ? o->parameters[parameter].rule : MUON_RULE_ADAMW;
}

size_t muon_optimizer_state_bytes(const muon_optimizer *o)
{
	return o->state_bytes;
}

void muon_optimizer_seconds(const muon_optimizer *o, muon_step_seconds *seconds)
{
	*seconds = o->seconds;
}

int muon_optimizer_set_statistics(muon_optimizer *o, unsigned statistics, muon_error *err)
{
	const unsigned known = MUON_STATISTICS_ORTHOGONALITY | MUON_STATISTICS_REACH;
	if (statistics & ~known)
		return muon_fail(err, MUON_E_USAGE, NULL, "unknown statistics");
	int code = muon_optim_make_workers(o, statistics, err);
	if (!code)
		o->options.statistics = statistics;
	return code;
}
