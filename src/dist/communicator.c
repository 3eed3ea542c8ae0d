/* Communicators: checks, counting, and what can be built on exchange alone. */
#include "dist/communicator.h"

#include "base/memory.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Doubles that a sum keeps room for: of all ranks together, and of each at least. */
enum { VALUES = 65536, LEAST_BLOCK = 64 };

int muon_comm_create(muon_comm **out, const muon_comm_backend *backend, void *state, int rank,
		     int size, muon_error *err)
{
	*out = NULL;
	muon_comm *comm = muon_alloc(1, sizeof *comm);
	if (!comm)
		return muon_fail(err, MUON_E_MEMORY, NULL, "out of memory for a communicator");
	const size_t ranks = (size_t)size;
	comm->rank = rank;
	comm->size = size;
	comm->block = VALUES / ranks > LEAST_BLOCK ? VALUES / ranks : LEAST_BLOCK;
	comm->values = muon_alloc(ranks * comm->block, sizeof *comm->values);
	comm->offset = muon_alloc(ranks, sizeof *comm->offset);
	comm->bytes = muon_alloc(ranks, sizeof *comm->bytes);
	comm->no_offset = muon_alloc(ranks, sizeof *comm->no_offset);
	*out = comm;
	if (!comm->values || !comm->offset || !comm->bytes || !comm->no_offset) {
		muon_comm_destroy(out);
		return muon_fail(err, MUON_E_MEMORY, NULL, "out of memory for %d ranks", size);
	}
	comm->backend = backend;
	comm->state = state;
	return MUON_OK;
}

int muon_comm_create_self(muon_comm **out, muon_error *err)
{
	return muon_comm_create(out, NULL, NULL, 0, 1, err);
}

int muon_comm_create_mpi(muon_comm **out, int *argc, char ***argv, muon_error *err)
{
	muon_comm started = {0};
	*out = NULL;
	int code = muon_comm_mpi_backend(&started, argc, argv, err);
	if (code)
		return code;
	code =
	    muon_comm_create(out, started.backend, started.state, started.rank, started.size, err);
	if (code)
		started.backend->destroy(started.state);
	return code;
}

void muon_comm_destroy(muon_comm **comm)
{
	muon_comm *c = comm ? *comm : NULL;
	if (!c)
		return;
	if (c->backend)
		c->backend->destroy(c->state);
	muon_free(c->values);
	muon_free(c->offset);
	muon_free(c->bytes);
	muon_free(c->no_offset);
	muon_free(c);
	*comm = NULL;
}

int muon_comm_rank(const muon_comm *comm)
{
	return comm->rank;
}

int muon_comm_size(const muon_comm *comm)
{
	return comm->size;
}

uint64_t muon_comm_bytes_sent(const muon_comm *comm, muon_phase phase)
{
	return (unsigned)phase < MUON_PHASE_COUNT ? comm->sent[phase] : 0;
}

int muon_comm_exchange(muon_comm *comm, muon_phase phase, const muon_exchange *exchange,
		       muon_error *err)
{
	const int self = comm->rank;
	const size_t own = exchange->send_bytes[self];
	if ((unsigned)phase >= MUON_PHASE_COUNT || own != exchange->receive_bytes[self])
		return muon_fail(err, MUON_E_ARGUMENT, NULL,
				 "rank %d sends itself %zu bytes and expects %zu", self, own,
				 exchange->receive_bytes[self]);
	int code = comm->backend ? comm->backend->exchange(comm->state, exchange, err) : MUON_OK;
	if (code)
		return code;
	if (own)
		memcpy((char *)exchange->receive + exchange->receive_offset[self],
		       (const char *)exchange->send + exchange->send_offset[self], own);
	for (int r = 0; r < comm->size; r++)
		if (r != self)
			comm->sent[phase] += exchange->send_bytes[r];
	return MUON_OK;
}

int muon_comm_barrier(muon_comm *comm, muon_error *err)
{
	return comm->backend ? comm->backend->barrier(comm->state, err) : MUON_OK;
}

int muon_comm_broadcast(muon_comm *comm, void *data, size_t bytes, int root, muon_error *err)
{
	if (root < 0 || root >= comm->size)
		return muon_fail(err, MUON_E_ARGUMENT, NULL, "no rank %d to broadcast from", root);
	int code = MUON_OK;
	if (comm->backend && bytes)
		code = comm->backend->broadcast(comm->state, data, bytes, root, err);
	if (!code && comm->rank == root)
		comm->sent[MUON_PHASE_OTHER] += (uint64_t)bytes * (uint64_t)(comm->size - 1);
	return code;
}

/* ---- sums ----------------------------------------------------------------------------------- */

static void add_values(double *a, const double *b, size_t count)
{
	for (size_t i = 0; i < count; i++)
		a[i] += b[i];
}

/* NaN is greater than anything. */
static void max_values(double *a, const double *b, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (b[i] > a[i] || isnan(b[i]))
			a[i] = b[i];
}

typedef void combine_fn(double *a, const double *b, size_t count);

static void combine_rows(combine_fn *combine, double *rows, size_t stride, size_t count, int ranks)
{
	const size_t end = (size_t)ranks;
	for (size_t apart = 1; apart < end; apart *= 2)
		for (size_t r = 0; r + apart < end; r += 2 * apart)
			combine(rows + r * stride, rows + (r + apart) * stride, count);
}

void muon_pairwise_sum(double *rows, size_t stride, size_t count, int ranks)
{
	combine_rows(add_values, rows, stride, count, ranks);
}

/* Every rank gets the values of all and combines them itself, so all have the same bits. */
static int reduce(muon_comm *comm, combine_fn *combine, double *values, size_t count,
		  muon_error *err)
{
	int code = MUON_OK;
	for (size_t first = 0; !code && first < count; first += comm->block) {
		const size_t some = count - first < comm->block ? count - first : comm->block;
		for (int r = 0; r < comm->size; r++) {
			comm->offset[r] = (size_t)r * some * sizeof *values;
			comm->bytes[r] = some * sizeof *values;
		}
		const muon_exchange exchange = {values + first, comm->no_offset, comm->bytes,
						comm->values,   comm->offset,    comm->bytes};
		code = muon_comm_exchange(comm, MUON_PHASE_OTHER, &exchange, err);
		if (code)
			break;
		combine_rows(combine, comm->values, some, some, comm->size);
		memcpy(values + first, comm->values, some * sizeof *values);
	}
	return code;
}

int muon_comm_sum(muon_comm *comm, double *values, size_t count, muon_error *err)
{
	return reduce(comm, add_values, values, count, err);
}

int muon_comm_max(muon_comm *comm, double *values, size_t count, muon_error *err)
{
	return reduce(comm, max_values, values, count, err);
}

int muon_comm_agree(muon_comm *comm, int code)
{
	double worst = -(double)code;
	if (muon_comm_max(comm, &worst, 1, NULL))
		return MUON_E_COMMUNICATION;
	return -(int)worst;
}

void muon_comm_abort(muon_comm *comm, int status)
{
	if (comm->backend)
		comm->backend->abort(comm->state, status);
	exit(status);
}
