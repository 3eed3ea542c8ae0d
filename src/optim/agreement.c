/* What ranks agree on, so that they go on or leave together. */
#include "optim/optim_internal.h"

#include <string.h>

static bool is_one_process(const muon_optimizer *o)
{
	return !o->comm || o->comm->size < 2;
}

int muon_optim_agree(const muon_optimizer *o, int code, muon_error *err)
{
	return muon_optim_agree_on(o, code, 0, "nothing", err);
}

int muon_optim_agree_on(const muon_optimizer *o, int code, double x, const char *what,
			muon_error *err)
{
	double most[] = {-(double)code, code ? 0 : x, code ? 0 : -x};
	if (is_one_process(o))
		return code;
	const int failure = muon_comm_max(o->comm, most, sizeof most / sizeof *most, err);
	if (failure)
		return failure;
	const int worst = -(int)most[0];
	if (worst && !code)
		return muon_fail(err, worst, NULL, "another rank failed: %s",
				 muon_error_text(worst));
	if (!worst && most[1] != -most[2])
		return muon_fail(err, MUON_E_ARGUMENT, NULL, "ranks differ in %s", what);
	return worst;
}

int muon_optim_agree_verdict(const muon_optimizer *o, size_t *parameter,
			     muon_optim_verdict *verdict, muon_error *err)
{
	/* the first bad parameter is the largest number */
	enum { VERDICTS = MUON_OPTIM_BAD_MOMENT + 1 };
	double worst = *verdict ? (double)((o->count - *parameter) * VERDICTS + *verdict) : 0;
	if (is_one_process(o))
		return MUON_OK;
	int code = muon_comm_max(o->comm, &worst, 1, err);
	if (code || worst == 0)
		return code;
	*parameter = o->count - (size_t)worst / VERDICTS;
	*verdict = (muon_optim_verdict)((size_t)worst % VERDICTS);
	return MUON_OK;
}

/* ---- the same options and parameters everywhere --------------------------------------------- */

typedef uint32_t hash;

/* FNV-1a; 32 bits, which a double holds. */
static hash add_bytes(hash h, const void *bytes, size_t count)
{
	const unsigned char *b = bytes;
	for (size_t i = 0; i < count; i++)
		h = (h ^ b[i]) * 16777619u;
	return h;
}

static hash add_number(hash h, double x)
{
	return add_bytes(h, &x, sizeof x);
}

static const hash seed = 2166136261u;

double muon_optim_hash(const double *x, size_t count)
{
	return add_bytes(seed, x, count * sizeof *x);
}

static hash hash_parameter(const muon_optim_parameter *p)
{
	const muon_parameter *g = &p->given;
	hash h = add_bytes(seed, g->name, strlen(g->name));
	for (int i = 0; i < g->rank; i++)
		h = add_number(h, (double)g->dims[i]);
	for (size_t i = 0; i < p->block_count && g->splits && i < (size_t)g->split_count; i++)
		h = add_number(h, (double)g->splits[i]);
	h = add_number(h, p->rule);
	h = add_number(h, (double)p->block_count);
	h = add_number(h, (double)p->rows);
	h = add_number(h, g->dtype);
	h = add_number(h, g->gradient_dtype);
	return add_number(h, p->decay);
}

static hash hash_options(const muon_optimizer *o)
{
	const muon_options *p = &o->options;
	const double numbers[] = {
	    p->momentum,
	    p->momentum_kind,
	    p->nesterov,
	    p->scale,
	    p->update_rms,
	    p->fixed_width,
	    p->ns_precision,
	    p->ns_form,
	    p->adamw_lr_ratio,
	    p->beta1,
	    p->beta2,
	    p->eps,
	    p->clip_norm,
	    o->coefficients.steps,
	    o->coefficients.norm_factor,
	    o->distributed.placement,
	    o->distributed.gather_dtype,
	    o->distributed.gradient_factor,
	};
	const hash h = add_bytes(seed, numbers, sizeof numbers);
	return add_bytes(h, o->coefficients.step,
			 (size_t)o->coefficients.steps * sizeof *o->coefficients.step);
}

/* Do all ranks have these numbers? Else the index of the first that differs. `work` holds twice as
 * many. */
static int find_difference(const muon_optimizer *o, double *work, size_t count, size_t *index,
			   muon_error *err)
{
	for (size_t i = 0; i < count; i++)
		work[count + i] = -work[i];
	int code = muon_comm_max(o->comm, work, 2 * count, err);
	for (*index = 0; !code && *index < count; ++*index)
		if (work[*index] != -work[count + *index])
			break;
	return code;
}

static int compare_parameters(const muon_optimizer *o, muon_error *err)
{
	double *work = muon_alloc(o->count, 2 * sizeof *work);
	int code = work ? MUON_OK : muon_optim_out_of_memory(NULL, err);
	size_t index;
	code = muon_optim_agree(o, code, err);
	for (size_t i = 0; !code && i < o->count; i++)
		work[i] = hash_parameter(&o->parameters[i]);
	if (!code)
		code = find_difference(o, work, o->count, &index, err);
	muon_free(work);
	if (code || index == o->count)
		return code;
	return muon_fail(err, MUON_E_USAGE, o->parameters[index].given.name,
			 "parameter %zu is not the same on all ranks", index);
}

int muon_optim_compare_ranks(const muon_optimizer *o, muon_error *err)
{
	double work[4] = {(double)o->count, hash_options(o)};
	size_t index;
	if (is_one_process(o))
		return MUON_OK;
	int code = find_difference(o, work, 2, &index, err);
	if (code)
		return code;
	if (index == 0)
		return muon_fail(err, MUON_E_USAGE, NULL,
				 "ranks differ in the number of parameters: %zu here", o->count);
	if (index == 1)
		return muon_fail(err, MUON_E_USAGE, NULL,
				 "ranks differ in the optimizer's options");
	return compare_parameters(o, err);
}
