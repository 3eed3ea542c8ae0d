/* Ranks as processes under Open MPI.
 *
 * Who dies or exits without a word is noticed by mpirun, which ends the others and says so. Who
 * leaves in good order, because of an error of its own, would leave the others waiting: so its
 * farewell tells how many operations it took part in, and those that wait for it in a later one
 * fail. That is why every wait here is a poll. */
#include "dist/communicator.h"

#include <stdlib.h>

bool muon_comm_launched_by_mpi(void)
{
	/* Open MPI's mpirun sets both; srun and prun the second */
	return getenv("OMPI_COMM_WORLD_SIZE") || getenv("PMIX_RANK");
}

#ifndef MUON_WITH_MPI

bool muon_comm_has_mpi(void)
{
	return false;
}

void muon_comm_mpi_set_longest(size_t bytes)
{
	(void)bytes;
}

int muon_comm_mpi_backend(muon_comm *comm, int *argc, char ***argv, muon_error *err)
{
	(void)comm;
	(void)argc;
	(void)argv;
	return muon_fail(err, MUON_E_UNSUPPORTED, NULL,
			 "this libmuon was built without MPI; with libopenmpi-dev installed, "
			 "'make MPI=1' builds it in");
}

#else

#include "base/memory.h"

#include <mpi.h>
#include <sched.h>

enum { TAG_DATA = 1, TAG_FAREWELL = 2 };

/* MPI counts in int. */
static size_t longest = (size_t)1 << 30;

/* Communicators that are open, and whether MPI was started for them. */
static int open_count;
static bool started_here;

typedef struct mpi_state {
	MPI_Comm comm;
	int rank, size;
	uint64_t operations; /* that this rank has done its part of */
	bool failed;         /* nothing goes on after that */
	uint64_t *left;      /* operations that a rank took part in before it left */
	MPI_Request *requests;
	MPI_Status *statuses;
	int *expected; /* bytes of a receive; -1: not a receive */
	int count, capacity;
} mpi_state;

static const uint64_t still_here = UINT64_MAX;

static int mpi_failure(int mpi_code, const char *doing, muon_error *err)
{
	char text[MPI_MAX_ERROR_STRING] = "";
	int length = 0;
	MPI_Error_string(mpi_code, text, &length);
	return muon_fail(err, MUON_E_COMMUNICATION, NULL, "MPI failed to %s: %s", doing, text);
}

/* ---- waiting -------------------------------------------------------------------------------- */

static void read_farewells(mpi_state *s)
{
	int there = 0;
	MPI_Status status;
	while (!MPI_Iprobe(MPI_ANY_SOURCE, TAG_FAREWELL, s->comm, &there, &status) && there) {
		const int from = status.MPI_SOURCE;
		if (MPI_Recv(&s->left[from], 1, MPI_UINT64_T, from, TAG_FAREWELL, s->comm,
			     MPI_STATUS_IGNORE))
			return;
	}
}

static int check_all_here(mpi_state *s, muon_error *err)
{
	read_farewells(s);
	for (int r = 0; r < s->size; r++)
		if (s->left[r] < s->operations)
			return muon_fail(err, MUON_E_COMMUNICATION, NULL,
					 "rank %d has left the run, while rank %d waits for it", r,
					 s->rank);
	return MUON_OK;
}

static int check_received(const mpi_state *s, int mpi_code, muon_error *err)
{
	for (int i = 0; i < s->count; i++) {
		const MPI_Status *status = &s->statuses[i];
		int got = 0;
		if (mpi_code == MPI_ERR_IN_STATUS && status->MPI_ERROR &&
		    status->MPI_ERROR != MPI_ERR_PENDING)
			return mpi_failure(status->MPI_ERROR, "exchange data", err);
		if (mpi_code || s->expected[i] < 0)
			continue;
		MPI_Get_count(status, MPI_BYTE, &got);
		if (got != s->expected[i])
			return muon_fail(err, MUON_E_COMMUNICATION, NULL,
					 "rank %d sends %d bytes where rank %d expects %d",
					 status->MPI_SOURCE, got, s->rank, s->expected[i]);
	}
	return mpi_code ? mpi_failure(mpi_code, "exchange data", err) : MUON_OK;
}

/* Give up what is under way. Collectives can't be, and stay behind. */
static void drop_requests(mpi_state *s)
{
	for (int i = 0; i < s->count; i++) {
		if (s->requests[i] == MPI_REQUEST_NULL)
			continue;
		if (s->expected[i] >= 0)
			MPI_Cancel(&s->requests[i]);
		MPI_Request_free(&s->requests[i]);
	}
	s->count = 0;
}

/* Wait for the requests, or for a rank's farewell. */
static int wait_all(mpi_state *s, muon_error *err)
{
	enum { CHECK_EVERY = 64, YIELD_EVERY = 16 };
	for (unsigned turn = 1;; turn++) {
		int done = 0;
		int code = MPI_Testall(s->count, s->requests, &done, s->statuses);
		if (code || done)
			return check_received(s, code, err);
		if (turn % YIELD_EVERY == 0)
			sched_yield(); /* to a rank that shares this processor */
		if (turn % CHECK_EVERY == 0) {
			code = check_all_here(s, err);
			if (code)
				return code;
		}
	}
}

/* ---- operations ----------------------------------------------------------------------------- */

/* After a failure ranks are at different places: what one sends would be taken for another thing.
 */
static int can_go_on(const mpi_state *s, muon_error *err)
{
	if (s->failed)
		return muon_fail(err, MUON_E_COMMUNICATION, NULL,
				 "rank %d: communication has failed before", s->rank);
	return MUON_OK;
}

static int reserve(mpi_state *s, size_t count, muon_error *err)
{
	if (count <= (size_t)s->capacity)
		return MUON_OK;
	MPI_Request *requests = muon_resize(s->requests, count, sizeof *requests);
	if (requests)
		s->requests = requests;
	MPI_Status *statuses = muon_resize(s->statuses, count, sizeof *statuses);
	if (statuses)
		s->statuses = statuses;
	int *expected = muon_resize(s->expected, count, sizeof *expected);
	if (expected)
		s->expected = expected;
	if (!requests || !statuses || !expected)
		return muon_fail(err, MUON_E_MEMORY, NULL, "out of memory for %zu messages", count);
	s->capacity = (int)count;
	return MUON_OK;
}

static size_t pieces(size_t bytes)
{
	return bytes / longest + (bytes % longest != 0);
}

static int post(mpi_state *s, bool receives, char *data, size_t bytes, int peer)
{
	int code = MPI_SUCCESS;
	while (!code && bytes) {
		const int some = (int)(bytes < longest ? bytes : longest);
		MPI_Request *request = &s->requests[s->count];
		s->expected[s->count] = receives ? some : -1;
		if (receives)
			code = MPI_Irecv(data, some, MPI_BYTE, peer, TAG_DATA, s->comm, request);
		else
			code = MPI_Isend(data, some, MPI_BYTE, peer, TAG_DATA, s->comm, request);
		s->count += !code;
		data += some;
		bytes -= (size_t)some;
	}
	return code;
}

static int mpi_exchange(void *state, const muon_exchange *e, muon_error *err)
{
	mpi_state *s = state;
	size_t count = 0;
	for (int r = 0; r < s->size; r++)
		if (r != s->rank)
			count += pieces(e->send_bytes[r]) + pieces(e->receive_bytes[r]);
	int code = can_go_on(s, err);
	if (!code)
		code = reserve(s, count, err);
	s->failed |= code != MUON_OK;
	if (code)
		return code;
	int mpi_code = MPI_SUCCESS;
	for (int i = 1; !mpi_code && i < s->size; i++) { /* everyone starts with another peer */
		const int from = (s->rank + s->size - i) % s->size;
		mpi_code = post(s, true, (char *)e->receive + e->receive_offset[from],
				e->receive_bytes[from], from);
	}
	for (int i = 1; !mpi_code && i < s->size; i++) {
		const int to = (s->rank + i) % s->size;
		/* MPI 3 takes what it sends as const; `post` serves both ways */
		mpi_code = post(s, false, (char *)(uintptr_t)e->send + e->send_offset[to],
				e->send_bytes[to], to);
	}
	s->operations += !mpi_code;
	code = mpi_code ? mpi_failure(mpi_code, "exchange data", err) : wait_all(s, err);
	if (code)
		drop_requests(s);
	s->count = 0;
	s->failed |= code != MUON_OK;
	return code;
}

static int wait_collective(mpi_state *s, int mpi_code, const char *doing, muon_error *err)
{
	s->expected[0] = -1;
	s->count = 1;
	const int code = mpi_code ? mpi_failure(mpi_code, doing, err) : wait_all(s, err);
	s->count = 0;
	s->failed |= code != MUON_OK;
	return code;
}

static int mpi_barrier(void *state, muon_error *err)
{
	mpi_state *s = state;
	int code = can_go_on(s, err);
	if (code)
		return code;
	const int mpi_code = MPI_Ibarrier(s->comm, &s->requests[0]);
	s->operations += !mpi_code;
	return wait_collective(s, mpi_code, "wait for all ranks", err);
}

static int mpi_broadcast(void *state, void *data, size_t bytes, int root, muon_error *err)
{
	mpi_state *s = state;
	char *from = data;
	int code = can_go_on(s, err);
	s->operations += !code;
	while (!code && bytes) {
		const size_t some = bytes < longest ? bytes : longest;
		const int mpi_code =
		    MPI_Ibcast(from, (int)some, MPI_BYTE, root, s->comm, &s->requests[0]);
		code = wait_collective(s, mpi_code, "broadcast", err);
		from += some;
		bytes -= some;
	}
	return code;
}

static void mpi_abort(void *state, int status)
{
	(void)state;
	MPI_Abort(MPI_COMM_WORLD, status);
}

/* ---- start and end -------------------------------------------------------------------------- */

/* Tell all, and wait until all have told. */
static void say_farewell(mpi_state *s)
{
	for (int r = 0; r < s->size; r++)
		if (r != s->rank)
			MPI_Send(&s->operations, 1, MPI_UINT64_T, r, TAG_FAREWELL, s->comm);
	for (int r = 0; r < s->size; r++)
		while (r != s->rank && s->left[r] == still_here) {
			read_farewells(s);
			sched_yield();
		}
}

static void release(mpi_state *s)
{
	muon_free(s->left);
	muon_free(s->requests);
	muon_free(s->statuses);
	muon_free(s->expected);
	muon_free(s);
}

static void mpi_destroy(void *state)
{
	mpi_state *s = state;
	int ended = 0;
	MPI_Finalized(&ended);
	if (!ended) {
		say_farewell(s);
		if (!s->failed) /* or a collective may still be under way in it */
			MPI_Comm_free(&s->comm);
	}
	release(s);
	open_count--;
	if (!ended && !open_count && started_here)
		MPI_Finalize();
}

static const muon_comm_backend mpi_backend = {"Open MPI",    mpi_exchange, mpi_barrier,
					      mpi_broadcast, mpi_abort,    mpi_destroy};

static int start_mpi(int *argc, char ***argv, muon_error *err)
{
	int started = 0, ended = 0, level = 0;
	MPI_Initialized(&started);
	MPI_Finalized(&ended);
	if (ended)
		return muon_fail(err, MUON_E_UNSUPPORTED, NULL,
				 "MPI has ended in this process and can't be started again");
	if (!started) {
		const int code = MPI_Init_thread(argc, argv, MPI_THREAD_FUNNELED, &level);
		if (code)
			return mpi_failure(code, "start", err);
		started_here = true;
	}
	MPI_Query_thread(&level);
	if (level < MPI_THREAD_FUNNELED)
		return muon_fail(err, MUON_E_UNSUPPORTED, NULL,
				 "MPI was started without support for threads "
				 "(MPI_THREAD_FUNNELED or more is needed)");
	return MUON_OK;
}

static mpi_state *make_state(muon_error *err)
{
	mpi_state *s = muon_alloc(1, sizeof *s);
	if (s && !reserve(s, 1, NULL)) {
		MPI_Comm_size(MPI_COMM_WORLD, &s->size);
		MPI_Comm_rank(MPI_COMM_WORLD, &s->rank);
		s->left = muon_alloc((size_t)s->size, sizeof *s->left);
		for (int r = 0; s->left && r < s->size; r++)
			s->left[r] = still_here;
		if (s->left)
			return s;
	}
	muon_fail(err, MUON_E_MEMORY, NULL, "out of memory for a communicator");
	if (s)
		release(s);
	return NULL;
}

int muon_comm_mpi_backend(muon_comm *comm, int *argc, char ***argv, muon_error *err)
{
	int code = start_mpi(argc, argv, err);
	if (code)
		return code;
	mpi_state *s = make_state(err);
	if (!s)
		return MUON_E_MEMORY;
	const int mpi_code = MPI_Comm_dup(MPI_COMM_WORLD, &s->comm);
	if (mpi_code) {
		release(s);
		return mpi_failure(mpi_code, "start", err);
	}
	MPI_Comm_set_errhandler(s->comm, MPI_ERRORS_RETURN);
	open_count++;
	comm->backend = &mpi_backend;
	comm->state = s;
	comm->rank = s->rank;
	comm->size = s->size;
	return MUON_OK;
}

void muon_comm_mpi_set_longest(size_t bytes)
{
	longest = bytes;
}

bool muon_comm_has_mpi(void)
{
	return true;
}

#endif
