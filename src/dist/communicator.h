/* What a communicator does for the optimizer. A backend fills in the table; bytes are counted here,
 * above it. */
#ifndef MUON_DIST_COMMUNICATOR_H
#define MUON_DIST_COMMUNICATOR_H

#include <muon/dist.h>

/* Rank r gets send[send_offset[r] ..) of send_bytes[r] bytes, and what it sends to us arrives at
 * receive[receive_offset[r]]. Our own part is copied. Arrays have one entry a rank. */
typedef struct muon_exchange {
	const void *send;
	const size_t *send_offset, *send_bytes;
	void *receive;
	const size_t *receive_offset, *receive_bytes;
} muon_exchange;

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
};

int muon_comm_exchange(muon_comm *comm, muon_phase phase, const muon_exchange *exchange,
                       muon_error *err);

/* dist_mpi.c: MUON_E_UNSUPPORTED in a build without MPI */
int muon_comm_mpi_backend(muon_comm *comm, int *argc, char ***argv, muon_error *err);

#endif
