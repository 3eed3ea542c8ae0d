#include "optim/state_of_ranks.h"

#include "optim/exchanges.h"

#include <string.h>

enum { ENTRY = sizeof(float) }; /* distributed state is float32 */

int muon_optim_open_io(const muon_optimizer *o, muon_optim_pieces_io *io, size_t bytes,
		       muon_error *err)
{
	const size_t ranks = (size_t)o->comm->size;
	*io = (muon_optim_pieces_io){
	    .whole = muon_alloc_aligned(bytes, 1),
	    .send = muon_alloc_aligned(bytes, 1),
	    .received = muon_alloc_aligned(o->comm->rank == 0 ? bytes : 0, 1),
	    .offset = muon_alloc(ranks, sizeof(size_t)),
	    .out = muon_alloc(ranks, sizeof(size_t)),
	    .in = muon_alloc(ranks, sizeof(size_t)),
	    .no_offset = muon_alloc(ranks, sizeof(size_t)),
	};
	const bool good = io->whole && io->send && io->received && io->offset && io->out &&
			  io->in && io->no_offset;
	return muon_optim_agree(o, good ? MUON_OK : muon_optim_out_of_memory(NULL, err), err);
}

void muon_optim_close_io(muon_optim_pieces_io *io)
{
	muon_free_aligned(io->whole);
	muon_free_aligned(io->send);
	muon_free_aligned(io->received);
	muon_free(io->offset);
	muon_free(io->out);
	muon_free(io->in);
	muon_free(io->no_offset);
}

static muon_optim_cursor cursor_of(const muon_optimizer *o, const muon_optim_parameter *p, int rank)
{
	muon_optim_cursor c = muon_optim_cursor_at(o, rank, p->begin, p->begin + p->elements);
	c.parameter = (size_t)(p - o->parameters);
	return c;
}

static size_t bytes_of_rank(const muon_optimizer *o, const muon_optim_parameter *p, int rank)
{
	muon_optim_cursor cursor = cursor_of(o, p, rank);
	muon_optim_run run;
	size_t bytes = 0;
	while (muon_optim_next_run(o, &cursor, p->elements, &run))
		bytes += (size_t)run.count * ENTRY;
	return bytes;
}

static void pack_own(const muon_optimizer *o, const muon_optim_parameter *p, muon_optim_kind kind,
		     char *to)
{
	for (size_t i = p->first_piece; i < p->first_piece + p->piece_count; i++) {
		const muon_optim_piece *piece = &o->pieces[i];
		const size_t bytes = (size_t)(piece->end - piece->begin) * ENTRY;
		memcpy(to, o->state + piece->state[kind], bytes);
		to += bytes;
	}
}

static void unpack(const muon_optimizer *o, const muon_optim_parameter *p, int rank,
		   const char *from, char *whole)
{
	muon_optim_cursor cursor = cursor_of(o, p, rank);
	muon_optim_run run;
	while (muon_optim_next_run(o, &cursor, p->elements, &run)) {
		const size_t bytes = (size_t)run.count * ENTRY;
		memcpy(whole + (size_t)run.begin * ENTRY, from, bytes);
		from += bytes;
	}
}

int muon_optim_collect(const muon_optimizer *o, muon_optim_pieces_io *io,
		       const muon_optim_parameter *p, muon_optim_kind kind, muon_error *err)
{
	const bool is_root = o->comm->rank == 0;
	size_t received = 0;
	for (int r = 0; r < o->comm->size; r++) {
		io->offset[r] = received;
		io->in[r] = is_root ? bytes_of_rank(o, p, r) : 0;
		io->out[r] = 0;
		received += io->in[r];
	}
	io->out[0] = bytes_of_rank(o, p, o->comm->rank);
	pack_own(o, p, kind, io->send);
	const muon_exchange exchange = {io->send,     io->no_offset, io->out,
					io->received, io->offset,    io->in};
	int code = muon_comm_exchange(o->comm, MUON_PHASE_OTHER, &exchange, err);
	for (int r = 0; is_root && !code && r < o->comm->size; r++)
		unpack(o, p, r, io->received + io->offset[r], io->whole);
	return code;
}

int muon_optim_spread(const muon_optimizer *o, muon_optim_pieces_io *io,
		      const muon_optim_parameter *p, muon_optim_kind kind, char *state,
		      muon_error *err)
{
	int code = muon_comm_broadcast(o->comm, io->whole, (size_t)p->elements * ENTRY, 0, err);
	for (size_t i = p->first_piece; !code && i < p->first_piece + p->piece_count; i++) {
		const muon_optim_piece *piece = &o->pieces[i];
		memcpy(state + piece->state[kind], io->whole + (size_t)piece->begin * ENTRY,
		       (size_t)(piece->end - piece->begin) * ENTRY);
	}
	return code;
}
