/* A pool of workers over independent tasks. */
#ifndef MUON_BASE_POOL_H
#define MUON_BASE_POOL_H

#include <stdbool.h>
#include <stddef.h>

/* One task; `worker` is 0 .. threads-1, for per-worker buffers. Returns false to stop the pool:
 * tasks already running end, no further one starts. */
typedef bool (*muon_task_fn)(void *state, size_t task, int worker);

/* Run tasks 0 .. count-1, started in that order, on up to `threads` threads (64 at most), the
 * calling one included. Runs on with fewer if threads can't be created. Returns when all have
 * ended. Allocates nothing through the hook. */
void muon_pool_run(int threads, size_t count, muon_task_fn task, void *state);

/* Processors that this process may use. */
int muon_processor_count(void);

#endif
