/* Statistics of parameters, from those of the blocks and spans that this step went through. */
#include "optim/optim_internal.h"

#include <math.h>
#include <string.h>

static void add(double *to, const double *from)
{
	for (int s = 0; s < MUON_OPTIM_SUMS; s++)
		to[s] += from[s];
}

/* In the order of the list, so that the bits don't depend on the threads. */
static void sum_own(muon_optimizer *o)
{
	for (size_t i = 0; i < o->count; i++) {
		muon_optim_parameter *p = &o->parameters[i];
		p->orthogonality = NAN;
		for (int s = 0; s < MUON_OPTIM_SUMS; s++)
			p->sums[s] = 0;
	}
	for (size_t i = 0; i < o->span_count; i++)
		add(o->parameters[o->pieces[o->spans[i].piece].parameter].sums, o->spans[i].sums);
	for (size_t i = 0; i < o->block_count; i++) {
		const muon_optim_block *b = &o->blocks[i];
		muon_optim_parameter *p = &o->parameters[b->parameter];
		if (b->first_piece == b->last_piece)
			continue;
		add(p->sums, b->sums);
		p->orthogonality = fmax(p->orthogonality, b->orthogonality);
	}
}

enum { NONE = -1 }; /* of an error that is not negative */

int muon_optim_gather_statistics(muon_optimizer *o, muon_error *err)
{
	double *sums = o->figures, *worst = sums + o->count * MUON_OPTIM_SUMS;
	sum_own(o);
	if (!sums)
		return MUON_OK;
	for (size_t i = 0; i < o->count; i++) {
		const muon_optim_parameter *p = &o->parameters[i];
		memcpy(sums + i * MUON_OPTIM_SUMS, p->sums, sizeof p->sums);
		worst[i] = isnan(p->orthogonality) ? NONE : p->orthogonality;
	}
	int code = muon_comm_sum(o->comm, sums, o->count * MUON_OPTIM_SUMS, err);
	if (!code)
		code = muon_comm_max(o->comm, worst, o->count, err);
	for (size_t i = 0; !code && i < o->count; i++) {
		muon_optim_parameter *p = &o->parameters[i];
		memcpy(p->sums, sums + i * MUON_OPTIM_SUMS, sizeof p->sums);
		p->orthogonality = worst[i] == NONE ? NAN : worst[i];
	}
	return code;
}

/* Short sides of all blocks together: singular values of a parameter's momentum. */
static double singular_values(const muon_optimizer *o, const muon_optim_parameter *p)
{
	double sum = 0;
	for (size_t i = 0; i < p->block_count; i++) {
		const muon_optim_block *b = &o->blocks[p->first_block + i];
		sum += (double)(b->rows < b->cols ? b->rows : b->cols);
	}
	return sum;
}

int muon_optimizer_statistics(const muon_optimizer *o, size_t parameter,
			      muon_statistics *statistics)
{
	*statistics = (muon_statistics){NAN, NAN, NAN, NAN, NAN, NAN, NAN};
	if (parameter >= o->count)
		return MUON_E_ARGUMENT;
	const muon_optim_parameter *p = &o->parameters[parameter];
	const double entries = (double)p->elements;
	const bool is_muon = p->rule == MUON_RULE_MUON;
	if (!o->has_statistics)
		return MUON_OK;
	statistics->update_rms = sqrt(p->sums[MUON_OPTIM_UPDATE] / entries);
	statistics->weight_rms = sqrt(p->sums[MUON_OPTIM_WEIGHT] / entries);
	statistics->gradient_rms = sqrt(p->sums[MUON_OPTIM_GRADIENT] / entries);
	statistics->momentum_norm = sqrt(p->sums[MUON_OPTIM_MOMENTUM]);
	statistics->effective_lr = is_muon ? p->sums[MUON_OPTIM_EFFECTIVE_LR] : o->lr * p->lr_ratio;
	if (is_muon && o->measured & MUON_STATISTICS_ORTHOGONALITY)
		statistics->orthogonality_error = p->orthogonality;
	if (is_muon && o->measured & MUON_STATISTICS_REACH)
		statistics->below_reach = p->sums[MUON_OPTIM_BELOW] / singular_values(o, p);
	return MUON_OK;
}
