/* Ranks as threads of one process, so that unit tests run what is collective with any number of
 * ranks and without MPI:
 *
 *     static int body(muon_comm *comm, void *context, muon_error *err)
 *     {
 *             double *sums = context; // one entry a rank
 *             double *mine = &sums[muon_comm_rank(comm)];
 *             *mine = 1;
 *             return muon_comm_sum(comm, mine, 1, err);
 *     }
 *     ...
 *     double sums[5];
 *     muon_error err = {0};
 *     CU_ASSERT_EQUAL(thread_ranks_run(5, body, sums, &err), MUON_OK);
 *     CU_ASSERT_EQUAL(sums[4], 5);
 *
 * CUnit's assertions are not thread-safe: let bodies write into the context, and check after
 * thread_ranks_run. A body that returns (with an error, say) while other ranks still want something
 * of it makes their operation fail with MUON_E_COMMUNICATION, as under MPI, and not hang. */
#ifndef TESTS_THREAD_RANKS_H
#define TESTS_THREAD_RANKS_H

#include <muon/dist.h>

typedef int thread_rank_fn(muon_comm *comm, void *context, muon_error *err);

/* Run body on ranks 0 .. ranks-1, each on a thread of its own with its own communicator, and wait
 * for all. Returns MUON_OK, or the code of the first rank that failed for a reason of its own
 * (MUON_E_COMMUNICATION if there is none), with its message in *err. */
int thread_ranks_run(int ranks, thread_rank_fn *body, void *context, muon_error *err);

#endif
