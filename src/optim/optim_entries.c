/* Loops over entries, in float64. */
#include "optim/optim_internal.h"

#include "kernels/bf16.h"
#include "kernels/simd.h"

#include <string.h>

enum { LANES = 16 };

void *muon_optim_state(const muon_optimizer *o, const muon_optim_piece *piece, muon_optim_kind kind,
		       int64_t at)
{
	const size_t size = muon_dtype_size(o->parameters[piece->parameter].state_dtype);
	return o->state + piece->state[kind] + (size_t)(at - piece->begin) * size;
}

SIMD_CLONES
static void round_f32(double *x, size_t count)
{
	for (size_t i = 0; i < count; i++)
		x[i] = (double)(float)x[i];
}

void muon_optim_round(muon_dtype type, double *x, size_t count)
{
	if (type == MUON_F32)
		round_f32(x, count);
}

SIMD_CLONES
void muon_optim_multiply(double *x, double factor, size_t count)
{
	for (size_t i = 0; i < count; i++)
		x[i] *= factor;
}

void muon_optim_load_gradient(const muon_optimizer *o, const muon_optim_piece *piece, int64_t at,
			      size_t count, double *g)
{
	const muon_optim_parameter *p = &o->parameters[piece->parameter];
	const size_t size = muon_dtype_size(p->given.gradient_dtype);
	if (o->reduced) {
		const float *reduced = o->reduced + piece->local + (at - piece->begin);
		muon_convert_f64(MUON_F32, reduced, count, g);
		return;
	}
	const char *gradient = p->given.gradient;
	muon_convert_f64(p->given.gradient_dtype, gradient + (size_t)at * size, count, g);
	if (o->distributed.gradient_factor != 1) {
		muon_optim_multiply(g, o->distributed.gradient_factor, count);
		muon_optim_round(p->state_dtype, g, count);
	}
}

void muon_optim_clip_gradient(const muon_optimizer *o, const muon_optim_piece *piece,
			      size_t count, double *g)
{
	if (o->clip == 1)
		return;
	muon_optim_multiply(g, o->clip, count);
	muon_optim_round(o->parameters[piece->parameter].state_dtype, g, count);
}

SIMD_CLONES
static void store_f32(const double *restrict x, size_t count, float *restrict to)
{
	for (size_t i = 0; i < count; i++)
		to[i] = (float)x[i];
}

SIMD_CLONES
static void store_bf16(const double *restrict x, size_t count, uint16_t *restrict to)
{
	for (size_t i = 0; i < count; i++)
		to[i] = muon_bf16_from_float((float)x[i]);
}

void muon_optim_store(muon_dtype type, const double *x, size_t count, void *to)
{
	if (type == MUON_F64)
		memcpy(to, x, count * sizeof *x);
	else if (type == MUON_F32)
		store_f32(x, count, to);
	else
		store_bf16(x, count, to);
}

void muon_optim_copy_masters(muon_optimizer *o, muon_optim_way way)
{
	double x[MUON_OPTIM_CHUNK];
	const bool is_out = way == MUON_OPTIM_TO_VALUES;
	for (size_t i = 0; i < o->piece_count; i++) {
		const muon_optim_piece *piece = &o->pieces[i];
		const muon_parameter *p = &o->parameters[piece->parameter].given;
		if (p->dtype != MUON_BF16)
			continue;
		for (int64_t at = piece->begin; at < piece->end; at += MUON_OPTIM_CHUNK) {
			const size_t count = muon_optim_chunk(at, piece->end);
			void *master = muon_optim_state(o, piece, MUON_OPTIM_MASTER, at);
			void *values = (uint16_t *)p->values + at;
			muon_convert_f64(is_out ? MUON_F32 : MUON_BF16, is_out ? master : values,
					 count, x);
			muon_optim_store(is_out ? MUON_BF16 : MUON_F32, x, count,
					 is_out ? values : master);
		}
	}
}

SIMD_CLONES
bool muon_optim_is_finite(const double *x, size_t count)
{
	const uint64_t exponent = UINT64_C(0x7ff) << 52;
	uint64_t bad = 0;
	for (size_t i = 0; i < count; i++) {
		uint64_t bits;
		memcpy(&bits, &x[i], sizeof bits);
		bad |= 0u - (uint64_t)((bits & exponent) == exponent);
	}
	return !bad;
}

SIMD_CLONES
double muon_optim_sum_of_squares(const double *x, size_t count)
{
	double lanes[LANES] = {0}, sum = 0;
	const size_t whole = count - count % LANES;
	for (size_t i = 0; i < whole; i += LANES)
		for (size_t l = 0; l < LANES; l++)
			lanes[l] += x[i + l] * x[i + l];
	for (size_t i = whole; i < count; i++)
		lanes[i - whole] += x[i] * x[i];
	for (size_t l = 0; l < LANES; l++)
		sum += lanes[l];
	return sum;
}

SIMD_CLONES
static void move(double *restrict w, double keep, double lr, const double *restrict update,
		 size_t count)
{
	for (size_t i = 0; i < count; i++)
		w[i] = keep * w[i] - lr * update[i];
}

void muon_optim_move(const muon_optimizer *o, const muon_optim_piece *piece, int64_t at,
		     size_t count, double lr, const double *update, double *sums)
{
	double w[MUON_OPTIM_CHUNK];
	const muon_optim_parameter *p = &o->parameters[piece->parameter];
	const bool has_master = p->given.dtype == MUON_BF16;
	char *values = (char *)p->given.values + (size_t)at * muon_dtype_size(p->given.dtype);
	void *master = has_master ? muon_optim_state(o, piece, MUON_OPTIM_MASTER, at) : values;
	muon_convert_f64(p->state_dtype, master, count, w);
	move(w, 1 - lr * p->decay, lr, update, count);
	muon_optim_store(p->state_dtype, w, count, master);
	if (has_master) {
		muon_optim_round(MUON_F32, w, count);
		muon_optim_store(MUON_BF16, w, count, values);
	}
	muon_convert_f64(p->given.dtype, values, count, w); /* as the model sees them */
	sums[MUON_OPTIM_UPDATE] += muon_optim_sum_of_squares(update, count);
	sums[MUON_OPTIM_WEIGHT] += muon_optim_sum_of_squares(w, count);
}
