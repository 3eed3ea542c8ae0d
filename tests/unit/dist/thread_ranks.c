#include "unit/dist/thread_ranks.h"

#include "dist/communicator.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct offer { /* what a rank shows the others during an operation */
	const muon_exchange *exchange;
	void *data;
	size_t bytes;
} offer;

typedef struct group {
	pthread_mutex_t lock;
	pthread_cond_t moved;
	int ranks, arrived, gone;
	unsigned generation;
	offer *offers;
} group;

typedef struct member {
	group *group;
	int rank;
	muon_comm *comm;
	thread_rank_fn *body;
	void *context;
	pthread_t thread;
	muon_error err;
	int code;
} member;

static int thread_barrier(void *state, muon_error *err)
{
	group *g = ((member *)state)->group;
	pthread_mutex_lock(&g->lock);
	const unsigned generation = g->generation;
	if (!g->gone && ++g->arrived == g->ranks) {
		g->arrived = 0;
		g->generation++;
		pthread_cond_broadcast(&g->moved);
	}
	while (g->generation == generation && !g->gone)
		pthread_cond_wait(&g->moved, &g->lock);
	const bool complete = g->generation != generation;
	pthread_mutex_unlock(&g->lock);
	if (complete)
		return MUON_OK;
	return muon_fail(err, MUON_E_COMMUNICATION, NULL, "a rank has left while others wait");
}

/* Show `mine` to all and wait until all have shown theirs. */
static int show(member *self, const offer *mine, muon_error *err)
{
	self->group->offers[self->rank] = *mine;
	return thread_barrier(self, err);
}

static int thread_exchange(void *state, const muon_exchange *exchange, muon_error *err)
{
	member *self = state;
	int code = show(self, &(offer){.exchange = exchange}, err);
	if (code)
		return code;
	for (int r = 0; r < self->group->ranks; r++) {
		const muon_exchange *other = self->group->offers[r].exchange;
		const size_t bytes = exchange->receive_bytes[r];
		if (!other || other->send_bytes[self->rank] != bytes)
			code = muon_fail(err, MUON_E_COMMUNICATION, NULL,
					 "rank %d does not send the %zu bytes that rank %d expects",
					 r, bytes, self->rank);
		else if (r != self->rank && bytes)
			memcpy((char *)exchange->receive + exchange->receive_offset[r],
			       (const char *)other->send + other->send_offset[self->rank], bytes);
	}
	const int end = thread_barrier(self, err);
	return code ? code : end;
}

static int thread_broadcast(void *state, void *data, size_t bytes, int root, muon_error *err)
{
	member *self = state;
	int code = show(self, &(offer){.data = data, .bytes = bytes}, err);
	if (code)
		return code;
	const offer *from = &self->group->offers[root];
	if (!from->data || from->bytes != bytes)
		code = muon_fail(err, MUON_E_COMMUNICATION, NULL, "rank %d has no %zu bytes", root,
				 bytes);
	else if (root != self->rank)
		memcpy(data, from->data, bytes);
	const int end = thread_barrier(self, err);
	return code ? code : end;
}

static void thread_abort(void *state, int status)
{
	fprintf(stderr, "rank %d aborts with status %d\n", ((member *)state)->rank, status);
	abort();
}

static void thread_leave(void *state)
{
	group *g = ((member *)state)->group;
	pthread_mutex_lock(&g->lock);
	g->gone++;
	pthread_cond_broadcast(&g->moved);
	pthread_mutex_unlock(&g->lock);
}

static const muon_comm_backend thread_backend = {"threads",        thread_exchange, thread_barrier,
						 thread_broadcast, thread_abort,    thread_leave};

static void *run_rank(void *argument)
{
	member *self = argument;
	self->code = self->body(self->comm, self->context, &self->err);
	muon_comm_destroy(&self->comm);
	return NULL;
}

static int run_all(member *members, int ranks, muon_error *err)
{
	int code = MUON_OK, started = 0;
	for (int r = 0; !code && r < ranks; r++)
		code =
		    muon_comm_create(&members[r].comm, &thread_backend, &members[r], r, ranks, err);
	while (!code && started < ranks) {
		if (pthread_create(&members[started].thread, NULL, run_rank, &members[started]))
			code =
			    muon_fail(err, MUON_E_INTERNAL, NULL, "no thread for rank %d", started);
		else
			started++;
	}
	for (int r = started; r < ranks; r++) /* lets those that run end */
		muon_comm_destroy(&members[r].comm);
	for (int r = 0; r < started; r++)
		pthread_join(members[r].thread, NULL);
	return code;
}

/* The failure that made others fail. */
static const member *first_failure(const member *members, int ranks)
{
	const member *found = NULL;
	for (int r = 0; r < ranks; r++) {
		const member *m = &members[r];
		if (m->code && m->code != MUON_E_COMMUNICATION)
			return m;
		if (m->code && !found)
			found = m;
	}
	return found;
}

int thread_ranks_run(int ranks, thread_rank_fn *body, void *context, muon_error *err)
{
	group g = {.ranks = ranks};
	member *members = calloc((size_t)ranks, sizeof *members);
	g.offers = calloc((size_t)ranks, sizeof *g.offers);
	int code = MUON_E_MEMORY;
	if (members && g.offers) {
		pthread_mutex_init(&g.lock, NULL);
		pthread_cond_init(&g.moved, NULL);
		for (int r = 0; r < ranks; r++)
			members[r] =
			    (member){.group = &g, .rank = r, .body = body, .context = context};
		code = run_all(members, ranks, err);
		const member *failed = first_failure(members, ranks);
		if (!code && failed) {
			code = failed->code;
			if (err && !err->code)
				*err = failed->err;
		}
		pthread_cond_destroy(&g.moved);
		pthread_mutex_destroy(&g.lock);
	}
	free(members);
	free(g.offers);
	return code;
}
