/* The life of an optimizer. */
#include "optim/exchanges.h"

#include <math.h>

int muon_optim_out_of_memory(const char *where, muon_error *err)
{
	return muon_fail(err, MUON_E_MEMORY, where, "out of memory");
}

int muon_optim_need(const muon_optimizer *o, muon_error *err)
{
	return o ? MUON_OK : muon_fail(err, MUON_E_USAGE, NULL, "there is no optimizer (NULL)");
}

/* What makes sense by itself, then who owns what and the room for it. */
static int describe(muon_optimizer *o, const muon_options *options,
		    const muon_parameter *parameters, size_t count, muon_error *err)
{
	int code = muon_optim_set_options(o, options, err);
	if (!code)
		code = muon_optim_set_parameters(o, parameters, count, err);
	return code ? code : muon_optim_make_blocks(o, err);
}

static int make_figures(muon_optimizer *o, muon_error *err)
{
	if (!o->exchanges)
		return MUON_OK;
	o->figures = muon_alloc(o->count, (MUON_OPTIM_SUMS + 1) * sizeof *o->figures);
	return o->figures ? MUON_OK : muon_optim_out_of_memory(NULL, err);
}

static int place(muon_optimizer *o, muon_error *err)
{
	int code = muon_optim_make_pieces(o, err);
	if (!code)
		code = muon_optim_make_plans(o, err);
	if (!code)
		code = muon_optim_make_exchanges(o, err);
	return code ? code : make_figures(o, err);
}

static int build(muon_optimizer *o, const muon_options *options, const muon_parameter *parameters,
		 size_t count, muon_error *err)
{
	int code = muon_optim_agree(o, describe(o, options, parameters, count, err), err);
	if (!code)
		code = muon_optim_compare_ranks(o, err);
	return code ? code : muon_optim_agree(o, place(o, err), err);
}

/* float64 is for reference: what ranks send is float32 or bf16. */
static int check_distributed(const muon_distributed_options *d, const muon_parameter *parameters,
			     size_t count, muon_error *err)
{
	if ((unsigned)d->placement > MUON_PLACEMENT_WHOLE)
		return muon_fail(err, MUON_E_USAGE, NULL, "unknown placement");
	if (d->gather_dtype != MUON_F32 && d->gather_dtype != MUON_BF16)
		return muon_fail(err, MUON_E_USAGE, NULL,
				 "matrices are gathered in float32 or bf16, not %s",
				 muon_dtype_name(d->gather_dtype));
	if (!isfinite(d->gradient_factor))
		return muon_fail(err, MUON_E_USAGE, NULL, "the gradient's factor is not finite");
	for (size_t i = 0; parameters && i < count; i++)
		if (parameters[i].dtype == MUON_F64)
			return muon_fail(err, MUON_E_USAGE, parameters[i].name,
					 "parameter: float64 values can't be distributed");
	return MUON_OK;
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

int muon_optimizer_create_distributed(muon_optimizer **out, const muon_options *options,
				      const muon_parameter *parameters, size_t count,
				      muon_comm *comm, const muon_distributed_options *distributed,
				      muon_error *err)
{
	static const muon_distributed_options usual = {.gather_dtype = MUON_F32};
	*out = NULL;
	if (!comm)
		return muon_fail(err, MUON_E_USAGE, NULL, "a distributed optimizer needs ranks");
	muon_optimizer nothing = {.comm = comm}, *o = muon_alloc(1, sizeof *o);
	int code = o ? MUON_OK : muon_optim_out_of_memory(NULL, err);
	const muon_distributed_options *d = distributed ? distributed : &usual;
	if (!code)
		code = check_distributed(d, parameters, count, err);
	code = muon_optim_agree(&nothing, code, err);
	if (!code) {
		o->comm = comm;
		o->distributed = *d;
		if (d->gradient_factor == 0)
			o->distributed.gradient_factor = 1;
		code = build(o, options, parameters, count, err);
	}
	*out = o;
	if (code)
		muon_optimizer_destroy(out);
	return code;
}

void muon_optimizer_destroy(muon_optimizer **optimizer)
{
	muon_optimizer *o = optimizer ? *optimizer : NULL;
	if (!o)
		return;
	*optimizer = NULL;
	muon_optim_release_plans(o);
	muon_optim_release_exchanges(o);
	muon_free(o->parameters);
	muon_ownership_release(&o->ownership);
	muon_free(o->blocks);
	muon_free(o->pieces);
	muon_free(o->spans);
	muon_free(o->adamw_spans);
	muon_free(o->figures);
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
	int code = muon_optim_need(o, err);
	if (code)
		return code;
	if (statistics & ~known)
		code = muon_fail(err, MUON_E_USAGE, NULL, "unknown statistics");
	code = muon_optim_agree_on(o, code, statistics, "the statistics", err);
	/* room for what was asked before, too: another rank may have none, and all stays as it was
	 */
	const unsigned either = statistics | o->options.statistics;
	if (!code && either != o->options.statistics)
		code = muon_optim_agree(o, muon_optim_make_workers(o, either, err), err);
	if (code)
		return code;
	o->options.statistics = statistics;
	if (either != statistics) /* where that fails, there is more room than it takes */
		muon_optim_make_workers(o, statistics, NULL);
	return MUON_OK;
}
