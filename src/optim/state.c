/* State out and in, tensor by tensor. What comes in is checked and kept aside until all of it is
 * there. */
#include "optim/optim_internal.h"

#include <math.h>
#include <string.h>

/* ---- a tensor of state ---------------------------------------------------------------------- */

static muon_state_tensor tensor_of(const muon_optim_parameter *p, muon_optim_kind kind, void *data)
{
	return (muon_state_tensor){
	    .name = p->state_name[kind],
	    .dtype = p->state_dtype,
	    .rank = p->given.rank,
	    .dims = p->given.dims,
	    .elements = p->elements,
	    .data = data,
	};
}

static size_t bytes_of(const muon_optim_parameter *p)
{
	return (size_t)p->elements * muon_dtype_size(p->state_dtype);
}

/* ---- saving --------------------------------------------------------------------------------- */

static int save_tensor(muon_optimizer *o, const muon_optim_parameter *p, muon_optim_kind kind,
		       muon_state_fn put, void *context, muon_error *err)
{
	const muon_optim_piece *piece = &o->pieces[p->first_piece];
	const muon_state_tensor tensor =
	    tensor_of(p, kind, muon_optim_state(o, piece, kind, 0));
	return put(context, &tensor, err);
}

int muon_optimizer_save(muon_optimizer *o, muon_state_fn put, void *context, muon_error *err)
{
	int code = MUON_OK;
	if (o->is_broken)
		return muon_fail(err, MUON_E_INTERNAL, NULL,
				 "no state to save: a step ended half-way");
	for (size_t i = 0; !code && i < o->count; i++)
		for (int k = 0; !code && k < MUON_OPTIM_KINDS; k++)
			if (o->parameters[i].state_name[k])
				code = save_tensor(o, &o->parameters[i], (muon_optim_kind)k, put,
						   context, err);
	return code;
}

/* ---- loading -------------------------------------------------------------------------------- */

/* Second moments are not negative, and nothing is NaN or Inf. */
static int check_tensor(const muon_state_tensor *tensor, bool is_second, muon_error *err)
{
	double x[MUON_OPTIM_CHUNK];
	const size_t size = muon_dtype_size(tensor->dtype);
	for (int64_t at = 0; at < tensor->elements; at += MUON_OPTIM_CHUNK) {
		const int64_t left = tensor->elements - at;
		const size_t count = (size_t)(left < MUON_OPTIM_CHUNK ? left : MUON_OPTIM_CHUNK);
		muon_convert_f64(tensor->dtype, (char *)tensor->data + (size_t)at * size, count, x);
		if (!muon_optim_is_finite(x, count))
			return muon_fail(err, MUON_E_NONFINITE, tensor->name,
					 "state not loaded: it holds NaN or Inf");
		for (size_t i = 0; is_second && i < count; i++)
			if (x[i] < 0)
				return muon_fail(err, MUON_E_FORMAT, tensor->name,
						 "state not loaded: a second moment is negative");
	}
	return MUON_OK;
}

static int load_tensor(muon_optimizer *o, const muon_optim_parameter *p, muon_optim_kind kind,
		       char *staged, muon_state_fn get, void *context, muon_error *err)
{
	const muon_optim_piece *piece = &o->pieces[p->first_piece];
	const muon_state_tensor tensor = tensor_of(p, kind, staged + piece->state[kind]);
	memset(tensor.data, 0, bytes_of(p));
	int code = get(context, &tensor, err);
	return code ? code : check_tensor(&tensor, kind == MUON_OPTIM_SECOND, err);
}

static int load_all(muon_optimizer *o, char *staged, muon_state_fn get, void *context,
		    muon_error *err)
{
	int code = MUON_OK;
	for (size_t i = 0; !code && i < o->count; i++)
		for (int k = 0; !code && k < MUON_OPTIM_KINDS; k++)
			if (o->parameters[i].state_name[k])
				code = load_tensor(o, &o->parameters[i], (muon_optim_kind)k, staged,
						   get, context, err);
	return code;
}

void muon_optim_set_values(muon_optimizer *o)
{
	double x[MUON_OPTIM_CHUNK];
	for (size_t i = 0; i < o->piece_count; i++) {
		const muon_optim_piece *piece = &o->pieces[i];
		const muon_optim_parameter *p = &o->parameters[piece->parameter];
		if (p->given.dtype != MUON_BF16)
			continue;
		for (int64_t at = piece->begin; at < piece->end; at += MUON_OPTIM_CHUNK) {
			const int64_t left = piece->end - at;
			const size_t count =
			    (size_t)(left < MUON_OPTIM_CHUNK ? left : MUON_OPTIM_CHUNK);
			void *master = muon_optim_state(o, piece, MUON_OPTIM_MASTER, at);
			muon_convert_f64(MUON_F32, master, count, x);
			muon_optim_store(MUON_BF16, x, count, (uint16_t *)p->given.values + at);
		}
	}
}

int muon_optimizer_load(muon_optimizer *o, muon_state_fn get, void *context, int64_t steps,
			muon_error *err)
{
	if (steps < 0)
		return muon_fail(err, MUON_E_ARGUMENT, NULL, "state not loaded: %lld steps",
				 (long long)steps);
	char *staged = muon_alloc_aligned(o->state_size, 1);
	if (!staged)
		return muon_optim_out_of_memory(NULL, err);
	int code = load_all(o, staged, get, context, err);
	if (code) {
		muon_free_aligned(staged);
		return code;
	}
	muon_free_aligned(o->state);
	o->state = staged;
	o->steps = steps;
	o->is_broken = false;
	o->has_statistics = false;
	muon_optim_set_values(o);
	return MUON_OK;
}
