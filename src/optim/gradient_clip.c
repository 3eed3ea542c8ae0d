/* Clipping by the norm of the whole gradient (Pascanu et al. 2013).
 *
 * How entries are cut over ranks must not change a bit of the norm. So squares are added up as
 * integers, in which no order matters: a pass finds the largest entry, which brings the others below
 * 1, and another sums squares in units of 2^-50. A chunk's sum, below 2^60, goes into the halves
 * `high` and `low` of 30 bits each; sums of those are exact in float64 for up to 2^33 entries. */
#include "optim/optim_internal.h"

#include "base/pool.h"

#include <math.h>

enum { UNIT_BITS = 50, HALF_BITS = 30, LEAST_EXPONENT = -1000 };

static double largest_of(const double *x, size_t count, double most)
{
	for (size_t i = 0; i < count; i++)
		most = fmax(most, fabs(x[i]));
	return most;
}

static bool find_largest(void *state, size_t task, int worker)
{
	(void)worker;
	const muon_optimizer *o = state;
	muon_optim_span *span = &o->spans[task];
	double g[MUON_OPTIM_CHUNK];
	span->largest = 0;
	for (int64_t at = span->begin; at < span->end; at += MUON_OPTIM_CHUNK) {
		const size_t count = muon_optim_chunk(at, span->end);
		muon_optim_load_gradient(o, &o->pieces[span->piece], at, count, g);
		span->largest = largest_of(g, count, span->largest);
	}
	return true;
}

/* Sum of squares, of entries that `scale` brings below 1. */
static uint64_t units_of(const double *x, double scale, size_t count)
{
	const double units = ldexp(1, UNIT_BITS);
	uint64_t sum = 0;
	for (size_t i = 0; i < count; i++) {
		const double scaled = x[i] * scale;
		sum += (uint64_t)(int64_t)(scaled * scaled * units + 0.5);
	}
	return sum;
}

typedef struct squaring {
	const muon_optimizer *o;
	double scale;
} squaring;

static bool square_span(void *state, size_t task, int worker)
{
	(void)worker;
	const squaring *s = state;
	muon_optim_span *span = &s->o->spans[task];
	const uint64_t mask = (UINT64_C(1) << HALF_BITS) - 1;
	double g[MUON_OPTIM_CHUNK];
	span->squares[0] = span->squares[1] = 0;
	for (int64_t at = span->begin; at < span->end; at += MUON_OPTIM_CHUNK) {
		const size_t count = muon_optim_chunk(at, span->end);
		muon_optim_load_gradient(s->o, &s->o->pieces[span->piece], at, count, g);
		const uint64_t sum = units_of(g, s->scale, count);
		span->squares[0] += (double)(sum >> HALF_BITS);
		span->squares[1] += (double)(sum & mask);
	}
	return true;
}

static int find_norm(muon_optimizer *o, double largest, double *norm, muon_error *err)
{
	double high_low[2] = {0, 0};
	int exponent;
	frexp(largest, &exponent);
	exponent = exponent > LEAST_EXPONENT ? exponent : LEAST_EXPONENT; /* 2^-exponent is finite */
	squaring s = {o, ldexp(1, -exponent)};
	muon_pool_run(o->threads, o->span_count, square_span, &s);
	for (size_t i = 0; i < o->span_count; i++) {
		high_low[0] += o->spans[i].squares[0];
		high_low[1] += o->spans[i].squares[1];
	}
	int code = o->exchanges ? muon_comm_sum(o->comm, high_low, 2, err) : MUON_OK;
	const double sum = ldexp(high_low[0], HALF_BITS) + high_low[1];
	*norm = ldexp(sqrt(ldexp(sum, -UNIT_BITS)), exponent);
	return code;
}

int muon_optim_find_clip(muon_optimizer *o, muon_error *err)
{
	const double limit = o->options.clip_norm, small = 1e-6; /* as in PyTorch */
	double largest = 0, norm;
	o->clip = 1;
	if (!(limit > 0))
		return MUON_OK;
	muon_pool_run(o->threads, o->span_count, find_largest, o);
	for (size_t i = 0; i < o->span_count; i++)
		largest = fmax(largest, o->spans[i].largest);
	int code = o->exchanges ? muon_comm_max(o->comm, &largest, 1, err) : MUON_OK;
	if (code || !(largest > 0) || !isfinite(largest)) /* what isn't finite will be refused */
		return code;
	code = find_norm(o, largest, &norm, err);
	if (!code)
		o->clip = fmin(1, limit / (norm + small));
	return code;
}
