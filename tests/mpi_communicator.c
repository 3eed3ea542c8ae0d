/* The MPI communicator, for tests/mpi.py: each rank runs
 *
 *     mpi_communicator collectives   exchange in pieces, sums, broadcast, agreement
 *     mpi_communicator large         a message of more than 2^31 bytes (5 GB of memory a rank)
 *     mpi_communicator kill|exit|quit|leave|abort|memory
 *                                    steps without end, until the last rank is gone in that way
 *
 * Status 1: a wrong result; otherwise that of the error. */
#include "dist/communicator.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_RANKS = 16, SLOT = 1000 };

static _Noreturn void fail(muon_comm *comm, const char *what)
{
	fprintf(stderr, "mpi_communicator: rank %d of %d: %s\n", muon_comm_rank(comm),
		muon_comm_size(comm), what);
	muon_comm_abort(comm, 1);
	abort();
}

static void require(muon_comm *comm, bool holds, const char *what)
{
	if (!holds)
		fail(comm, what);
}

static void check(muon_comm *comm, int code, const muon_error *err)
{
	if (code)
		fail(comm, err->message);
}

/* ---- collectives ---------------------------------------------------------------------------- */

static size_t message(int a, int b)
{
	return (size_t)((a * 5 + b * 3) % 7) * 113;
}

static unsigned char content(int a, int b, size_t i)
{
	return (unsigned char)(a * 31 + b * 17 + (int)i);
}

static void check_exchange(muon_comm *comm)
{
	static unsigned char send[MOST_RANKS * SLOT], receive[MOST_RANKS * SLOT];
	const int rank = muon_comm_rank(comm), size = muon_comm_size(comm);
	size_t offset[MOST_RANKS], out[MOST_RANKS], in[MOST_RANKS];
	uint64_t sent = muon_comm_bytes_sent(comm, MUON_PHASE_REDUCE);
	for (int r = 0; r < size; r++) {
		offset[r] = (size_t)(size - 1 - r) * SLOT;
		out[r] = message(rank, r);
		in[r] = message(r, rank);
		sent += r != rank ? out[r] : 0;
		for (size_t i = 0; i < out[r]; i++)
			send[offset[r] + i] = content(rank, r, i);
	}
	memset(receive, 0, sizeof receive);
	const muon_exchange exchange = {send, offset, out, receive, offset, in};
	muon_error err = {0};
	check(comm, muon_comm_exchange(comm, MUON_PHASE_REDUCE, &exchange, &err), &err);
	for (int r = 0; r < size; r++)
		for (size_t i = 0; i < SLOT; i++)
			require(comm,
				receive[offset[r] + i] == (i < in[r] ? content(r, rank, i) : 0),
				"exchange brings other bytes");
	require(comm, muon_comm_bytes_sent(comm, MUON_PHASE_REDUCE) == sent, "bytes miscounted");
}

static void check_sums(muon_comm *comm)
{
	const int rank = muon_comm_rank(comm), size = muon_comm_size(comm);
	double rows[MOST_RANKS], sum = 1 / (3.0 + rank), max = rank * (rank % 2 ? 1 : -1);
	double expected_max = 0;
	for (int r = 0; r < size; r++) {
		rows[r] = 1 / (3.0 + r);
		if (r % 2)
			expected_max = r;
	}
	muon_pairwise_sum(rows, 1, 1, size);
	muon_error err = {0};
	check(comm, muon_comm_sum(comm, &sum, 1, &err), &err);
	check(comm, muon_comm_max(comm, &max, 1, &err), &err);
	require(comm, !memcmp(&sum, rows, sizeof sum), "sum differs");
	require(comm, max == expected_max, "max differs");
	const int code = rank == size / 2 ? MUON_E_NONFINITE : MUON_OK;
	require(comm, muon_comm_agree(comm, code) == MUON_E_NONFINITE, "ranks don't agree");
}

static void check_broadcast(muon_comm *comm)
{
	char text[300] = "";
	const int root = muon_comm_size(comm) - 1;
	if (muon_comm_rank(comm) == root)
		for (size_t i = 0; i < sizeof text; i++)
			text[i] = (char)i;
	muon_error err = {0};
	check(comm, muon_comm_broadcast(comm, text, sizeof text, root, &err), &err);
	for (size_t i = 0; i < sizeof text; i++)
		require(comm, text[i] == (char)i, "broadcast brings other bytes");
	check(comm, muon_comm_barrier(comm, &err), &err);
}

/* A second communicator comes and goes without ending MPI. */
static void check_second(muon_comm *comm)
{
	muon_comm *second;
	muon_error err = {0};
	check(comm, muon_comm_create_mpi(&second, NULL, NULL, &err), &err);
	check_sums(second);
	muon_comm_destroy(&second);
	check_sums(comm);
}

static void check_collectives(muon_comm *comm)
{
	const size_t longest[] = {100, 113, (size_t)1 << 30};
	for (size_t i = 0; i < sizeof longest / sizeof *longest; i++) {
		muon_comm_mpi_set_longest(longest[i]);
		check_exchange(comm);
		check_sums(comm);
		check_broadcast(comm);
	}
	check_second(comm);
}

/* Once ended, MPI can't be started again. */
static int check_no_third(void)
{
	muon_comm *third;
	muon_error err = {0};
	if (muon_comm_create_mpi(&third, NULL, NULL, &err) == MUON_E_UNSUPPORTED && !third)
		return 0;
	fprintf(stderr, "mpi_communicator: MPI was started twice\n");
	return 1;
}

static void check_large(muon_comm *comm)
{
	const size_t bytes = ((size_t)1 << 31) + 12345, offset[MOST_RANKS] = {0};
	const int rank = muon_comm_rank(comm), size = muon_comm_size(comm);
	size_t out[MOST_RANKS] = {0}, in[MOST_RANKS] = {0};
	unsigned char *send = malloc(bytes), *receive = malloc(bytes);
	require(comm, send && receive, "out of memory");
	out[(rank + 1) % size] = in[(rank + size - 1) % size] = bytes;
	for (size_t i = 0; i < bytes; i++)
		send[i] = (unsigned char)((i >> 20) + i + (size_t)rank);
	const muon_exchange exchange = {send, offset, out, receive, offset, in};
	muon_error err = {0};
	check(comm, muon_comm_exchange(comm, MUON_PHASE_REDUCE, &exchange, &err), &err);
	for (size_t i = 0; i < bytes; i++)
		require(comm,
			receive[i] ==
			    (unsigned char)((i >> 20) + i + (size_t)((rank + size - 1) % size)),
			"large message differs");
	check(comm, muon_comm_broadcast(comm, send, bytes, 0, &err), &err);
	for (size_t i = 0; i < bytes; i++)
		require(comm, send[i] == (unsigned char)((i >> 20) + i), "large broadcast differs");
	free(send);
	free(receive);
}

/* ---- failures ------------------------------------------------------------------------------- */

/* Exchange a megabyte with each rank. */
static int step(muon_comm *comm, muon_error *err)
{
	enum { BYTES = 1 << 20 };
	static char send[BYTES], receive[MOST_RANKS * BYTES];
	size_t from[MOST_RANKS] = {0}, to[MOST_RANKS], bytes[MOST_RANKS];
	for (int r = 0; r < muon_comm_size(comm); r++) {
		to[r] = (size_t)r * BYTES;
		bytes[r] = BYTES;
	}
	const muon_exchange exchange = {send, from, bytes, receive, to, bytes};
	return muon_comm_exchange(comm, MUON_PHASE_REDUCE, &exchange, err);
}

static void *no_memory(void *state, void *block, size_t bytes)
{
	(void)state;
	(void)block;
	(void)bytes;
	return NULL;
}

static void give_back(void *state, void *block)
{
	(void)state;
	free(block);
}

/* The next exchange takes more messages than those before: room for them is missing on one rank. */
static void ask_for_room(bool is_missing)
{
	static const muon_allocator allocator = {no_memory, give_back, NULL};
	muon_comm_mpi_set_longest(10000);
	if (is_missing)
		muon_set_allocator(&allocator);
}

static int lose_rank(muon_comm *comm, const char *how, muon_error *err)
{
	const bool last = muon_comm_rank(comm) == muon_comm_size(comm) - 1;
	for (int i = 0;; i++) {
		const bool grows = i == 20 && !strcmp(how, "memory");
		if (grows)
			ask_for_room(last);
		if (i == 20 && last && !grows) {
			if (!strcmp(how, "kill"))
				raise(SIGKILL);
			if (!strcmp(how, "exit"))
				exit(7);
			if (!strcmp(how, "quit"))
				exit(0);
			if (!strcmp(how, "abort")) {
				fprintf(stderr, "mpi_communicator: the last rank gives up\n");
				muon_comm_abort(comm, 7);
			}
			return muon_fail(err, MUON_E_NONFINITE, NULL, "this rank's own reason");
		}
		const int code = step(comm, err);
		if (code)
			return code;
	}
}

int main(int argc, char **argv)
{
	muon_comm *comm;
	muon_error err = {0};
	const char *mode = argc > 1 ? argv[1] : "collectives";
	int code = muon_comm_create_mpi(&comm, &argc, &argv, &err);
	if (code) {
		fprintf(stderr, "mpi_communicator: %s\n", err.message);
		return muon_exit_status(code);
	}
	const int rank = muon_comm_rank(comm);
	require(comm, muon_comm_size(comm) <= MOST_RANKS, "too many ranks");
	if (!strcmp(mode, "collectives"))
		check_collectives(comm);
	else if (!strcmp(mode, "large"))
		check_large(comm);
	else
		code = lose_rank(comm, mode, &err);
	if (code)
		fprintf(stderr, "mpi_communicator: rank %d: %s\n", rank, err.message);
	muon_comm_destroy(&comm);
	return code ? muon_exit_status(code) : check_no_third();
}
