#include "dist/communicator.h"
#include "unit/dist/thread_ranks.h"
#include "unit/unit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_RANKS = 9 };

/* ---- sums ----------------------------------------------------------------------------------- */

enum { VALUES = 40000 }; /* more than one block of nine ranks */

/* Values whose sum depends on the order of summation. */
static double value(int rank, size_t i)
{
	return ldexp(1 + (double)((size_t)rank * 7919 + i * 104729) / 3, (int)(i % 97) - 40 + rank);
}

static double expected_sum(int ranks, size_t i)
{
	double v[16] = {0};
	for (int r = 0; r < ranks; r++)
		v[r] = value(r, i);
	/* ((0 + 1) + (2 + 3)) + ((4 + 5) + (6 + 7)) + ... ; adding zeros changes nothing */
	const double first = (v[0] + v[1]) + (v[2] + v[3]), second = (v[4] + v[5]) + (v[6] + v[7]);
	return (first + second) + v[8];
}

typedef struct sums {
	double sum[MOST_RANKS][VALUES], max[MOST_RANKS][4];
	uint64_t sent[MOST_RANKS];
} sums;

static int sum_values(muon_comm *comm, void *context, muon_error *err)
{
	sums *s = context;
	const int rank = muon_comm_rank(comm), ranks = muon_comm_size(comm);
	for (size_t i = 0; i < VALUES; i++)
		s->sum[rank][i] = value(rank, i);
	double *max = s->max[rank];
	max[0] = -rank;
	max[1] = rank;
	max[2] = rank == ranks / 2 ? NAN : 1;
	max[3] = rank == ranks - 1 ? INFINITY : -INFINITY;
	int code = muon_comm_sum(comm, s->sum[rank], VALUES, err);
	if (!code)
		code = muon_comm_max(comm, max, 4, err);
	s->sent[rank] = muon_comm_bytes_sent(comm, MUON_PHASE_OTHER);
	return code;
}

static void test_sums(void)
{
	sums *s = malloc(sizeof *s);
	CU_ASSERT_PTR_NOT_NULL_FATAL(s);
	for (int ranks = 1; ranks <= MOST_RANKS; ranks++) {
		muon_error err = {0};
		CU_ASSERT_EQUAL_FATAL(thread_ranks_run(ranks, sum_values, s, &err), MUON_OK);
		int wrong = 0;
		for (size_t i = 0; i < VALUES; i++)
			wrong += s->sum[0][i] != expected_sum(ranks, i);
		CU_ASSERT_EQUAL(wrong, 0);
		for (int r = 0; r < ranks; r++) {
			CU_ASSERT_EQUAL(memcmp(s->sum[r], s->sum[0], sizeof s->sum[0]), 0);
			CU_ASSERT_EQUAL(s->max[r][0], 0);
			CU_ASSERT_EQUAL(s->max[r][1], ranks - 1);
			CU_ASSERT(isnan(s->max[r][2]));
			CU_ASSERT_EQUAL(s->max[r][3], INFINITY);
			CU_ASSERT_EQUAL(s->sent[r], (uint64_t)(ranks - 1) * (VALUES + 4) * 8);
		}
	}
	free(s);
}

/* ---- exchange ------------------------------------------------------------------------------- */

/* Bytes that rank a sends to rank b; nothing for some. */
static size_t message(int a, int b)
{
	return (size_t)((a * 5 + b * 3) % 7) * 11;
}

static unsigned char content(int a, int b, size_t i)
{
	return (unsigned char)(a * 31 + b * 17 + (int)i);
}

enum { SLOT = 100 };

typedef struct exchanged {
	unsigned char received[MOST_RANKS][MOST_RANKS * SLOT];
	uint64_t sent[MOST_RANKS][MUON_PHASE_COUNT];
} exchanged;

static int exchange_bytes(muon_comm *comm, void *context, muon_error *err)
{
	exchanged *e = context;
	const int rank = muon_comm_rank(comm), ranks = muon_comm_size(comm);
	unsigned char send[MOST_RANKS * SLOT];
	size_t offset[MOST_RANKS], out[MOST_RANKS], in[MOST_RANKS];
	for (int r = 0; r < ranks; r++) {
		offset[r] = (size_t)(ranks - 1 - r) * SLOT;
		out[r] = message(rank, r);
		in[r] = message(r, rank);
		for (size_t i = 0; i < out[r]; i++)
			send[offset[r] + i] = content(rank, r, i);
	}
	const muon_exchange exchange = {send, offset, out, e->received[rank], offset, in};
	int code = muon_comm_exchange(comm, MUON_PHASE_GATHER, &exchange, err);
	for (int p = 0; p < MUON_PHASE_COUNT; p++)
		e->sent[rank][p] = muon_comm_bytes_sent(comm, (muon_phase)p);
	return code;
}

static void test_exchange(void)
{
	for (int ranks = 1; ranks <= MOST_RANKS; ranks++) {
		exchanged e;
		memset(&e, 0xee, sizeof e);
		muon_error err = {0};
		CU_ASSERT_EQUAL_FATAL(thread_ranks_run(ranks, exchange_bytes, &e, &err), MUON_OK);
		int wrong = 0;
		for (int r = 0; r < ranks; r++) {
			uint64_t sent = 0;
			for (int a = 0; a < ranks; a++) {
				const unsigned char *got = e.received[r] + (ranks - 1 - a) * SLOT;
				for (size_t i = 0; i < message(a, r); i++)
					wrong += got[i] != content(a, r, i);
				wrong += got[message(a, r)] != 0xee; /* nothing behind it */
				sent += a != r ? message(r, a) : 0;
			}
			CU_ASSERT_EQUAL(e.sent[r][MUON_PHASE_GATHER], sent);
			CU_ASSERT_EQUAL(e.sent[r][MUON_PHASE_REDUCE], 0);
			CU_ASSERT_EQUAL(e.sent[r][MUON_PHASE_OTHER], 0);
		}
		CU_ASSERT_EQUAL(wrong, 0);
	}
}

/* ---- broadcast, agreement ------------------------------------------------------------------- */

typedef struct spread {
	char text[MOST_RANKS][32];
	int agreed[MOST_RANKS], refused[MOST_RANKS];
	uint64_t sent[MOST_RANKS];
} spread;

static int spread_text(muon_comm *comm, void *context, muon_error *err)
{
	spread *s = context;
	const int rank = muon_comm_rank(comm), root = muon_comm_size(comm) - 1;
	strcpy(s->text[rank], rank == root ? "of the last rank" : "");
	int code = muon_comm_broadcast(comm, s->text[rank], sizeof s->text[rank], root, err);
	s->sent[rank] = muon_comm_bytes_sent(comm, MUON_PHASE_OTHER);
	s->refused[rank] = muon_comm_broadcast(comm, s->text[rank], 1, root + 1, NULL);
	if (!code)
		code = muon_comm_barrier(comm, err);
	s->agreed[rank] = muon_comm_agree(comm, rank == root / 2 ? MUON_E_NONFINITE : MUON_OK);
	return code;
}

static void test_broadcast(void)
{
	for (int ranks = 1; ranks <= 5; ranks++) {
		spread s;
		muon_error err = {0};
		CU_ASSERT_EQUAL_FATAL(thread_ranks_run(ranks, spread_text, &s, &err), MUON_OK);
		for (int r = 0; r < ranks; r++) {
			CU_ASSERT_STRING_EQUAL(s.text[r], "of the last rank");
			CU_ASSERT_EQUAL(s.agreed[r], MUON_E_NONFINITE);
			CU_ASSERT_EQUAL(s.refused[r], MUON_E_ARGUMENT);
			CU_ASSERT_EQUAL(s.sent[r], r == ranks - 1 ? 32u * (unsigned)r : 0);
		}
	}
}

/* ---- failures ------------------------------------------------------------------------------- */

static int leave_early(muon_comm *comm, void *context, muon_error *err)
{
	int *codes = context;
	const int rank = muon_comm_rank(comm);
	if (rank == 1)
		return codes[rank] = muon_fail(err, MUON_E_NONFINITE, NULL, "rank 1's own reason");
	double one = 1;
	codes[rank] = muon_comm_sum(comm, &one, 1, err);
	return codes[rank];
}

static void test_rank_leaves(void)
{
	int codes[3] = {0};
	muon_error err = {0};
	CU_ASSERT_EQUAL(thread_ranks_run(3, leave_early, codes, &err), MUON_E_NONFINITE);
	CU_ASSERT_STRING_EQUAL(err.message, "rank 1's own reason");
	CU_ASSERT_EQUAL(codes[0], MUON_E_COMMUNICATION);
	CU_ASSERT_EQUAL(codes[2], MUON_E_COMMUNICATION);
}

static int expect_too_much(muon_comm *comm, void *context, muon_error *err)
{
	(void)context;
	const int rank = muon_comm_rank(comm);
	const size_t offset[2] = {0}, out[2] = {8, 8}, in[2] = {8, rank ? 8 : 16};
	char send[8] = {0}, receive[16];
	const muon_exchange exchange = {send, offset, out, receive, offset, in};
	return muon_comm_exchange(comm, MUON_PHASE_OTHER, &exchange, err);
}

static void test_sizes_differ(void)
{
	muon_error err = {0};
	CU_ASSERT_EQUAL(thread_ranks_run(2, expect_too_much, NULL, &err), MUON_E_COMMUNICATION);
}

static void test_self(void)
{
	muon_comm *comm;
	CU_ASSERT_EQUAL_FATAL(muon_comm_create_self(&comm, NULL), MUON_OK);
	CU_ASSERT_EQUAL(muon_comm_rank(comm), 0);
	CU_ASSERT_EQUAL(muon_comm_size(comm), 1);
	const size_t offset = 1, bytes = 3;
	const char send[] = "abcd";
	char receive[] = "wxyz";
	const muon_exchange exchange = {send, &offset, &bytes, receive, &offset, &bytes};
	CU_ASSERT_EQUAL(muon_comm_exchange(comm, MUON_PHASE_REDUCE, &exchange, NULL), MUON_OK);
	CU_ASSERT_STRING_EQUAL(receive, "wbcd");
	double v = 3;
	CU_ASSERT_EQUAL(muon_comm_sum(comm, &v, 1, NULL), MUON_OK);
	CU_ASSERT_EQUAL(v, 3);
	CU_ASSERT_EQUAL(muon_comm_agree(comm, MUON_E_READ), MUON_E_READ);
	for (int p = 0; p < MUON_PHASE_COUNT; p++)
		CU_ASSERT_EQUAL(muon_comm_bytes_sent(comm, (muon_phase)p), 0);
	muon_comm_destroy(&comm);
	CU_ASSERT_PTR_NULL(comm);
	muon_comm_destroy(&comm);
}

UNIT_SUITE(communicator, {"sums", test_sums}, {"exchange", test_exchange},
	   {"broadcast", test_broadcast}, {"rank leaves", test_rank_leaves},
	   {"sizes differ", test_sizes_differ}, {"self", test_self})
