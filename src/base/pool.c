#define _GNU_SOURCE /* sched_getaffinity */
#include "base/pool.h"

#include <pthread.h>
#include <sched.h>
#include <unistd.h>

enum { MOST_HELPERS = 63 }; /* kept on the stack, so that nothing is allocated */

typedef struct pool {
	pthread_mutex_t lock;
	size_t next, count;
	bool stopped;
	muon_task_fn task;
	void *state;
} pool;

typedef struct worker {
	pool *pool;
	int index;
	pthread_t thread;
} worker;

static void *work(void *argument)
{
	worker *self = argument;
	pool *p = self->pool;
	for (;;) {
		pthread_mutex_lock(&p->lock);
		size_t task = p->stopped ? p->count : p->next;
		if (task < p->count)
			p->next++;
		pthread_mutex_unlock(&p->lock);
		if (task >= p->count)
			return NULL;
		if (!p->task(p->state, task, self->index)) {
			pthread_mutex_lock(&p->lock);
			p->stopped = true;
			pthread_mutex_unlock(&p->lock);
		}
	}
}

void muon_pool_run(int threads, size_t count, muon_task_fn task, void *state)
{
	pool p = {.count = count, .task = task, .state = state};
	pthread_mutex_init(&p.lock, NULL);
	if (threads > 0 && (size_t)threads > count)
		threads = (int)count;
	int others = 0;
	worker self = {.pool = &p};
	worker helpers[MOST_HELPERS];
	while (others < threads - 1 && others < MOST_HELPERS) {
		worker *h = &helpers[others];
		*h = (worker){.pool = &p, .index = others + 1};
		if (pthread_create(&h->thread, NULL, work, h))
			break;
		others++;
	}
	work(&self);
	for (int i = 0; i < others; i++)
		pthread_join(helpers[i].thread, NULL);
	pthread_mutex_destroy(&p.lock);
}

int muon_processor_count(void)
{
	cpu_set_t set;
	if (!sched_getaffinity(0, sizeof set, &set)) {
		int count = CPU_COUNT(&set);
		if (count > 0)
			return count;
	}
	long online = sysconf(_SC_NPROCESSORS_ONLN);
	return online > 0 ? (int)online : 1;
}
