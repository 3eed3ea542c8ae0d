/* AdamW (Loshchilov and Hutter 2019), with eps added after bias correction as in PyTorch. */
#include "optim/optim_internal.h"

#include "base/pool.h"
#include "kernels/simd.h"

#include <math.h>

SIMD_CLONES
static void average(double beta1, double beta2, const double *restrict g, double *restrict m,
		    double *restrict v, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		m[i] = beta1 * m[i] + (1 - beta1) * g[i];
		v[i] = beta2 * v[i] + (1 - beta2) * g[i] * g[i];
	}
}

void muon_optim_next_moments(const muon_optimizer *o, muon_dtype type, const double *g, double *m,
			     double *v, size_t count)
{
	average(o->options.beta1, o->options.beta2, g, m, v, count);
	muon_optim_round(type, m, count);
	muon_optim_round(type, v, count);
}

/* mh / (sqrt(vh) + eps) into m */
SIMD_CLONES
static void direction(double bias1, double bias2, double eps, double *restrict m,
		      const double *restrict v, size_t count)
{
	for (size_t i = 0; i < count; i++)
		m[i] = m[i] / bias1 / (sqrt(v[i] / bias2) + eps);
}

static void step_chunk(const muon_optimizer *o, const muon_optim_piece *piece, int64_t at,
		       size_t count, double *sums)
{
	double g[MUON_OPTIM_CHUNK], m[MUON_OPTIM_CHUNK], v[MUON_OPTIM_CHUNK];
	const muon_optim_parameter *p = &o->parameters[piece->parameter];
	void *first = muon_optim_state(o, piece, MUON_OPTIM_FIRST, at);
	void *second = muon_optim_state(o, piece, MUON_OPTIM_SECOND, at);
	muon_optim_load_gradient(o, piece, at, count, g);
	muon_optim_clip_gradient(o, piece, count, g);
	muon_convert_f64(p->state_dtype, first, count, m);
	muon_convert_f64(p->state_dtype, second, count, v);
	muon_optim_next_moments(o, p->state_dtype, g, m, v, count);
	muon_optim_store(p->state_dtype, m, count, first);
	muon_optim_store(p->state_dtype, v, count, second);
	sums[MUON_OPTIM_MOMENTUM] += muon_optim_sum_of_squares(m, count);
	direction(o->bias1, o->bias2, o->options.eps, m, v, count);
	muon_optim_move(o, piece, at, count, o->lr * p->lr_ratio, m, sums);
}

static bool step_span(void *state, size_t task, int worker)
{
	(void)worker;
	const muon_optimizer *o = state;
	muon_optim_span *span = &o->spans[o->adamw_spans[task]];
	const muon_optim_piece *piece = &o->pieces[span->piece];
	for (int64_t at = span->begin; at < span->end; at += MUON_OPTIM_CHUNK) {
		const size_t count = muon_optim_chunk(at, span->end);
		step_chunk(o, piece, at, count, span->sums);
	}
	return true;
}

void muon_optim_step_adamw(muon_optimizer *o)
{
	const double t = (double)(o->steps + 1);
	o->bias1 = 1 - pow(o->options.beta1, t);
	o->bias2 = 1 - pow(o->options.beta2, t);
	muon_pool_run(o->threads, o->adamw_span_count, step_span, o);
}
