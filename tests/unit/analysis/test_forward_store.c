/* What forward keeps in a run's store, when memory runs out. */
#include "analysis/forward_store.h"
#include "unit/checkpoint/scratch.h"
#include "unit/unit.h"

#include <stdio.h>

enum { LAYERS = 2 };

static int keep(const char *store, const char *path, double loss, muon_error *err)
{
	mspec_forward_layer layers[LAYERS] = {{.output_rms = 1}, {.output_rms = 2}};
	mspec_forward forward = {.layers = LAYERS};
	mspec_hash hash;
	forward.runs[0] = (mspec_forward_run){.loss = loss, .layers = layers};
	forward.runs[1] = forward.runs[0];
	int code = mspec_hash_checkpoint(&hash, path, err);
	return code ? code : mspec_forward_store(&forward, &hash, path, store, err);
}

/* The loss that is kept; NaN is never one. */
static double kept_loss(const char *store, const char *path)
{
	const mspec_record *record;
	mspec_store *opened;
	CU_ASSERT_EQUAL(mspec_forward_find(&record, &opened, store, path), MUON_OK);
	CU_ASSERT_PTR_NOT_NULL_FATAL(record);
	CU_ASSERT_EQUAL(mspec_forward_recorded(record, "forward_output_rms")->values[1], 2);
	double loss = mspec_forward_recorded(record, "forward_loss")->values[0];
	mspec_store_close(&opened);
	return loss;
}

/* The k-th allocation fails: the record before stays, or the new one is there. */
static void test_memory(void)
{
	char path[512], store[512];
	snprintf(path, sizeof path, "%s", scratch_path("forward_store.bin"));
	snprintf(store, sizeof store, "%s", scratch_path("forward_store.spectra.h5"));
	scratch_write(path, "content", 7);
	CU_ASSERT_EQUAL_FATAL(keep(store, path, 1, NULL), MUON_OK);
	int left = 0, code = MUON_E_MEMORY;
	const muon_allocator allocator = unit_failing_allocator(&left);
	for (int k = 0; k < 1000 && code; k++) {
		muon_error err = {0};
		left = k;
		muon_set_allocator(&allocator);
		code = keep(store, path, 2, &err);
		muon_set_allocator(NULL);
		CU_ASSERT_TRUE(!code || code == MUON_E_MEMORY || code == MUON_E_WRITE);
		CU_ASSERT_EQUAL(err.code, code);
		double loss = kept_loss(store, path);
		CU_ASSERT_TRUE(loss == 2 || (code && loss == 1));
	}
	CU_ASSERT_EQUAL(code, MUON_OK);
}

UNIT_SUITE(forward_store, {"failing allocations", test_memory})
