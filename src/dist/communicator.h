/* What a communicator does for the optimizer. A backend fills in the table; bytes are counted here,
 * above it. All operations are collective: every rank calls the same ones in the same order. */
#ifndef MUON_DIST_COMMUNICATOR_H
#define MUON_DIST_COMMUNICATOR_H

#include <muon/dist.h>

/* Rank r gets send[send_offset[r] ..) of send_bytes[r] bytes, and what it sends to us arrives at
 * receive[receive_offset[r]]. Our own part is copied. Arrays have one entry a rank. The two buffers
 * don't overlap. */
typedef struct muon_exchange {
	const void *send;
	const size_t *send_offset, *send_bytes;
	void *receive;
	const size_t *receive_offset, *receive_bytes;
} muon_exchange;

/* An operation that fails on one rank fails on all that wait for it, MUON_E_COMMUNICATION there.
 * A rank that destroys its communicator while others go on is such a failure. */
typedef struct muon_comm_backend {
	const char *name;
	int (*exchange)(void *state, const muon_exchange *exchange, muon_error *err);
	int (*barrier)(void *state, muon_error *err);
	int (*broadcast)(void *state, void *data, size_t bytes, int root, muon_error *err);
	void (*abort)(void *state, int status);
	void (*destroy)(void *state);
} muon_comm_backend;

struct muon_comm {
	const muon_comm_backend *backend; /* NULL: one process alone */
	void *state;
	int rank, size;
	uint64_t sent[MUON_PHASE_COUNT];
	/* room for sums: `block` values of every rank, and one entry a rank */
	size_t block;
	double *values;
	size_t *offset, *bytes, *no_offset; /* the last is zeros */
};

/* A communicator over a backend and its state, which it owns from then on, on success alone.
 * MUON_E_MEMORY. */
int muon_comm_create(muon_comm **out, const muon_comm_backend *backend, void *state, int rank,
                     int size, muon_error *err);

/* Send and receive, counted under `phase`. MUON_E_COMMUNICATION if sizes differ from what the others
 * have, or if one is gone. */
int muon_comm_exchange(muon_comm *comm, muon_phase phase, const muon_exchange *exchange,
                       muon_error *err);

/* Sum of `ranks` rows of `count` values, `stride` apart, in the documented order: into the first
 * row; the others are destroyed. */
void muon_pairwise_sum(double *rows, size_t stride, size_t count, int ranks);

/* dist_mpi.c: MUON_E_UNSUPPORTED in a build without MPI. Sets backend, state, rank and size. */
int muon_comm_mpi_backend(muon_comm *comm, int *argc, char ***argv, muon_error *err);

/* Longest message of the MPI backend in bytes; what is longer goes in pieces. For tests. */
void muon_comm_mpi_set_longest(size_t bytes);

#endif
