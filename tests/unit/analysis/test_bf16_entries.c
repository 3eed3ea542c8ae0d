/* What bf16 does to entries: steps against rounding itself, losses against draws, and lost updates
 * built to be lost in a known share. */
#include "analysis/bf16_entries.h"
#include "base/random.h"
#include "checkpoint/writer.h"
#include "unit/checkpoint/scratch.h"
#include "unit/unit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- steps ------------------------------------------------------------------------------- */

/* A change of less than half a step does not get a bf16 number rounded away from itself, one of
 * more does (upwards, where no smaller binade's finer steps are). */
static void check_step(double w)
{
	double half = mspec_half_bf16_step(w), away = w < 0 ? -1 : 1;
	CU_ASSERT_EQUAL(muon_round_bf16(w), w);
	CU_ASSERT_EQUAL(muon_round_bf16(w + away * 0.99 * half), w);
	CU_ASSERT_EQUAL(muon_round_bf16(w + away * 1.01 * half), w + away * 2 * half);
}

static void test_steps(void)
{
	static const double exact[][2] = {{1, 0x1p-8},          {1.99, 0x1p-8},       {2, 0x1p-7},
	                                  {-0.75, 0x1p-9},      {255, 0.5},           {256, 1},
	                                  {0x1p-126, 0x1p-134}, {0x1p-130, 0x1p-134}, {0, 0x1p-134},
	                                  {0x1.fep127, 0x1p119}};
	for (size_t i = 0; i < sizeof exact / sizeof *exact; i++)
		CU_ASSERT_EQUAL(mspec_half_bf16_step(exact[i][0]), exact[i][1]);
	for (int exponent = -126; exponent < 127; exponent += 11)
		for (int m = 128; m < 256; m += 9) {
			check_step(ldexp(m, exponent - 7));
			check_step(-ldexp(m, exponent - 7));
		}
}

/* The share of draws from the model that are under half a step. */
static double drawn_share(const mspec_update_model *model, double w)
{
	enum { DRAWS = 200000 };
	muon_random random;
	int lost = 0;
	muon_random_seed(&random, 8);
	for (int i = 0; i < DRAWS; i++) {
		double z = muon_random_normal(&random);
		lost += fabs(model->lr * (model->update_rms * z + model->weight_decay * w)) <
		        mspec_half_bf16_step(w);
	}
	return lost / (double)DRAWS;
}

static void test_probabilities(void)
{
	const mspec_update_model models[] = {
	    {1e-3, 0.2, 0}, {1e-3, 0.2, 0.1}, {0.02, 0.2, 2}, {0.01, 0, 0.3}, {0.01, 0, 0.7}};
	static const double weights[] = {0.02, -0.6, 0.043, 1.7, 3, 0};
	for (size_t i = 0; i < sizeof models / sizeof *models; i++)
		for (size_t k = 0; k < sizeof weights / sizeof *weights; k++) {
			double p = mspec_loss_probability(&models[i], weights[k]);
			/* four standard deviations of the draws */
			CU_ASSERT_TRUE(fabs(p - drawn_share(&models[i], weights[k])) < 0.0045);
		}
	/* the report's figures: a step of 0.2 RMS at lr 4.2e-5 is lost at 2.35e-2, mostly not
	 * at 4.2e-4 */
	CU_ASSERT_TRUE(mspec_loss_probability(&(mspec_update_model){4.2e-5, 0.2, 0}, 2.35e-2) >
	               0.99);
	CU_ASSERT_TRUE(mspec_loss_probability(&(mspec_update_model){4.2e-4, 0.2, 0}, 2.35e-2) <
	               0.55);
}

/* ---- matrices ------------------------------------------------------------------------------ */

static mspec_checkpoint *write_matrix(const char *name, const double *w, int64_t rows, int64_t cols)
{
	const char *path = scratch_path(name);
	const int64_t dims[] = {rows, cols};
	mspec_hdf5_writer *writer;
	CU_ASSERT_EQUAL_FATAL(mspec_hdf5_create(&writer, path, NULL), MUON_OK);
	mspec_hdf5_dataset(writer, "w.weight", MUON_F64, 2, dims, NULL);
	mspec_hdf5_append(writer, w, rows * cols, NULL);
	CU_ASSERT_EQUAL_FATAL(mspec_hdf5_finish(&writer, NULL), MUON_OK);
	return scratch_open(path);
}

/* Gather over the only matrix of each file; `earlier` may be NULL. */
static void gather(mspec_bf16_entries *e, mspec_checkpoint *now, mspec_checkpoint *earlier,
                   const mspec_update_model *model)
{
	pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	mspec_views views = {0}, before = {0};
	CU_ASSERT_EQUAL_FATAL(mspec_views_create(&views, now, NULL, NULL), MUON_OK);
	if (earlier)
		CU_ASSERT_EQUAL_FATAL(mspec_views_create(&before, earlier, NULL, NULL), MUON_OK);
	const mspec_entries_source source = {now, views.matrices};
	const mspec_entries_source from = {earlier, before.matrices};
	CU_ASSERT_EQUAL(
	    mspec_bf16_entries_gather(e, &source, earlier ? &from : NULL, model, &lock, NULL),
	    MUON_OK);
	mspec_views_destroy(&views);
	mspec_views_destroy(&before);
}

/* Of every 10 entries, 3 change by 0.49 of a step, 1 not at all, 6 by 0.51 of one and more: exactly
 * 40% are lost. The matrix takes several blocks, whichever side is long. */
static void check_lost(int64_t rows, int64_t cols)
{
	static const double steps[10] = {0.49, -0.51, 0.49, 0, 1, -0.49, 3, 0.51, 100, -0.51};
	int64_t count = rows * cols;
	double *w = malloc((size_t)count * sizeof *w), *later = malloc((size_t)count * sizeof *w);
	muon_random random;
	muon_random_seed(&random, 4);
	for (int64_t i = 0; i < count; i++) {
		w[i] = ldexp(muon_random_normal(&random), (int)(i % 40) - 30);
		later[i] = w[i] + steps[i % 10] * 2 * mspec_half_bf16_step(w[i]);
	}
	mspec_checkpoint *before = write_matrix("bf16-before.h5", w, rows, cols);
	mspec_checkpoint *now = write_matrix("bf16-now.h5", later, rows, cols);
	mspec_bf16_entries e;
	gather(&e, now, before, NULL);
	CU_ASSERT_EQUAL(e.compared, count);
	CU_ASSERT_EQUAL(e.lost, count / 10 * 4);
	CU_ASSERT_EQUAL(e.unchanged, count / 10);
	CU_ASSERT_EQUAL(e.moments.count, count);
	double sumsq = 0, earlier_sumsq = 0;
	for (int64_t i = 0; i < count; i++) {
		sumsq += later[i] * later[i];
		earlier_sumsq += w[i] * w[i];
	}
	UNIT_CLOSE(e.moments.sumsq, sumsq, 1e-12);
	UNIT_CLOSE(e.earlier_sumsq, earlier_sumsq, 1e-12);
	mspec_close(&before);
	mspec_close(&now);
	free(w);
	free(later);
}

static void test_lost_updates(void)
{
	check_lost(20, 30);
	check_lost(1000, 600);
	check_lost(600000, 1);
	check_lost(1, 600000);
	check_lost(2, 300000);
}

static void test_binades(void)
{
	const double w[] = {1,   1.5, -1.99, 2,        0x1p-133, 0x1p-140, 0x1p-1000, 0,
	                    -0., NAN, -4,    INFINITY, 1e300,    0.3,      -0.26,     0x1p127};
	mspec_bf16_entries e;
	mspec_checkpoint *checkpoint = write_matrix("bf16-binades.h5", w, 4, 4);
	gather(&e, checkpoint, NULL, NULL);
	CU_ASSERT_EQUAL(e.binades[0 - MSPEC_FIRST_BINADE], 3);
	CU_ASSERT_EQUAL(e.binades[1 - MSPEC_FIRST_BINADE], 1);
	CU_ASSERT_EQUAL(e.binades[2 - MSPEC_FIRST_BINADE], 1);
	CU_ASSERT_EQUAL(e.binades[-2 - MSPEC_FIRST_BINADE], 2);
	CU_ASSERT_EQUAL(e.binades[0], 3);
	CU_ASSERT_EQUAL(e.binades[MSPEC_BINADES - 1], 2);
	CU_ASSERT_EQUAL(e.moments.zeros, 2);
	CU_ASSERT_EQUAL(e.moments.nan, 1);
	CU_ASSERT_EQUAL(e.moments.inf, 1);
	int64_t all = 0;
	for (int i = 0; i < MSPEC_BINADES; i++)
		all += e.binades[i];
	CU_ASSERT_EQUAL(all + e.moments.zeros, e.moments.count);
	mspec_close(&checkpoint);
}

/* With an update model: the sum of probabilities, non-finite entries left out. */
static void test_expected_losses(void)
{
	const double w[] = {0.02, 0.3, NAN, 1, -2, 0};
	const mspec_update_model model = {1e-3, 0.2, 0.1};
	mspec_bf16_entries e;
	mspec_checkpoint *checkpoint = write_matrix("bf16-expected.h5", w, 2, 3);
	gather(&e, checkpoint, NULL, &model);
	double sum = 0;
	for (int i = 0; i < 6; i++)
		sum += isnan(w[i]) ? 0 : mspec_loss_probability(&model, w[i]);
	UNIT_CLOSE(e.expected_lost, sum, 1e-14);
	CU_ASSERT_EQUAL(e.compared, 0);
	mspec_close(&checkpoint);
}

UNIT_SUITE(bf16_entries, {"steps", test_steps}, {"probabilities", test_probabilities},
           {"lost_updates", test_lost_updates}, {"binades", test_binades},
           {"expected_losses", test_expected_losses})
