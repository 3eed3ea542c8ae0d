/* State out and in, tensor by tensor. What comes in is checked and kept aside until all of it is
 * there. */
#include "optim/exchanges.h"
#include "optim/state_of_ranks.h"

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

/* Tensors in order, until one fails. */
typedef int tensor_fn(void *context, muon_optimizer *o, const muon_optim_parameter *p,
		      muon_optim_kind kind, muon_error *err);

static int for_each_tensor(muon_optimizer *o, tensor_fn *fn, void *context, muon_error *err)
{
	int code = MUON_OK;
	for (size_t i = 0; !code && i < o->count; i++)
		for (int k = 0; !code && k < MUON_OPTIM_KINDS; k++)
			if (o->parameters[i].state_name[k])
				code = fn(context, o, &o->parameters[i], (muon_optim_kind)k, err);
	return code;
}

static size_t largest_tensor(const muon_optimizer *o)
{
	size_t most = 0;
	for (size_t i = 0; i < o->count; i++)
		most = bytes_of(&o->parameters[i]) > most ? bytes_of(&o->parameters[i]) : most;
	return most;
}

/* Does this rank call the caller's functions? */
static bool hands_tensors(const muon_optimizer *o)
{
	return !o->exchanges || o->comm->rank == 0;
}

/* ---- saving --------------------------------------------------------------------------------- */

typedef struct saving {
	muon_state_fn put;
	void *context;
	muon_optim_pieces_io *io; /* NULL: one process has whole tensors */
} saving;

static int save_tensor(void *context, muon_optimizer *o, const muon_optim_parameter *p,
		       muon_optim_kind kind, muon_error *err)
{
	const saving *s = context;
	void *data =
	    s->io ? s->io->whole : muon_optim_state(o, &o->pieces[p->first_piece], kind, 0);
	const muon_state_tensor tensor = tensor_of(p, kind, data);
	int code = s->io ? muon_optim_collect(o, s->io, p, kind, err) : MUON_OK;
	if (!code && hands_tensors(o))
		code = s->put(s->context, &tensor, err);
	return muon_optim_agree(o, code, err);
}

static int can_save(const muon_optimizer *o, muon_state_fn put, muon_error *err)
{
	if (o->is_broken)
		return muon_fail(err, MUON_E_INTERNAL, NULL,
				 "no state to save: a step ended half-way");
	if (!put && hands_tensors(o))
		return muon_fail(err, MUON_E_USAGE, NULL, "state not saved: `put` is NULL");
	return MUON_OK;
}

int muon_optimizer_save(muon_optimizer *o, muon_state_fn put, void *context, muon_error *err)
{
	muon_optim_pieces_io io;
	saving s = {put, context, NULL};
	int code = muon_optim_need(o, err);
	if (!code)
		code = muon_optim_agree(o, can_save(o, put, err), err);
	if (code || !o->exchanges)
		return code ? code : for_each_tensor(o, save_tensor, &s, err);
	code = muon_optim_open_io(o, &io, largest_tensor(o), err);
	s.io = &io;
	if (!code)
		code = for_each_tensor(o, save_tensor, &s, err);
	muon_optim_close_io(&io);
	return code;
}

/* ---- loading -------------------------------------------------------------------------------- */

/* Second moments are not negative, and nothing is NaN or Inf. */
static int check_tensor(const muon_state_tensor *tensor, bool is_second, muon_error *err)
{
	double x[MUON_OPTIM_CHUNK];
	const size_t size = muon_dtype_size(tensor->dtype);
	for (int64_t at = 0; at < tensor->elements; at += MUON_OPTIM_CHUNK) {
		const size_t count = muon_optim_chunk(at, tensor->elements);
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

typedef struct loading {
	muon_state_fn get;
	void *context;
	char *staged;
	muon_optim_pieces_io *io;
} loading;

static int fill(const loading *l, const muon_state_tensor *tensor, bool is_second, muon_error *err)
{
	memset(tensor->data, 0, (size_t)tensor->elements * muon_dtype_size(tensor->dtype));
	int code = l->get(l->context, tensor, err);
	return code ? code : check_tensor(tensor, is_second, err);
}

static int load_tensor(void *context, muon_optimizer *o, const muon_optim_parameter *p,
		       muon_optim_kind kind, muon_error *err)
{
	const loading *l = context;
	void *data = l->io ? l->io->whole : l->staged + o->pieces[p->first_piece].state[kind];
	const muon_state_tensor tensor = tensor_of(p, kind, data);
	int code = MUON_OK;
	if (hands_tensors(o))
		code = fill(l, &tensor, kind == MUON_OPTIM_SECOND, err);
	code = muon_optim_agree(o, code, err);
	return code || !l->io ? code : muon_optim_spread(o, l->io, p, kind, l->staged, err);
}

/* All of it, aside. */
static int load_all(muon_optimizer *o, loading *l, muon_error *err)
{
	muon_optim_pieces_io io;
	int code = l->staged ? MUON_OK : muon_optim_out_of_memory(NULL, err);
	code = muon_optim_agree(o, code, err);
	if (code || !o->exchanges)
		return code ? code : for_each_tensor(o, load_tensor, l, err);
	code = muon_optim_open_io(o, &io, largest_tensor(o), err);
	l->io = &io;
	if (!code)
		code = for_each_tensor(o, load_tensor, l, err);
	muon_optim_close_io(&io);
	return code;
}

static int can_load(const muon_optimizer *o, muon_state_fn get, int64_t steps, muon_error *err)
{
	if (steps < 0)
		return muon_fail(err, MUON_E_ARGUMENT, NULL, "state not loaded: %lld steps",
				 (long long)steps);
	if (!get && hands_tensors(o))
		return muon_fail(err, MUON_E_USAGE, NULL, "state not loaded: `get` is NULL");
	return MUON_OK;
}

int muon_optimizer_load(muon_optimizer *o, muon_state_fn get, void *context, int64_t steps,
			muon_error *err)
{
	int code = muon_optim_need(o, err);
	if (!code)
		code = muon_optim_agree_on(o, can_load(o, get, steps, err), (double)steps,
					   "the number of steps", err);
	if (code)
		return code;
	loading l = {get, context, muon_alloc_aligned(o->state_size, 1), NULL};
	code = load_all(o, &l, err);
	if (code) {
		muon_free_aligned(l.staged);
		return code;
	}
	muon_free_aligned(o->state);
	o->state = l.staged;
	o->steps = steps;
	o->has_statistics = false;
	muon_optim_copy_masters(o, MUON_OPTIM_TO_VALUES);
	code = muon_optim_all_gather(o, err);
	o->is_broken = code != MUON_OK;
	return code;
}
