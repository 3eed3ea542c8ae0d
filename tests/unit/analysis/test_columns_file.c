#include "analysis/columns_file.h"

#include "unit/checkpoint/scratch.h"
#include "unit/unit.h"

#include <math.h>
#include <muonspec/checkpoint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const double numbers[] = {1.5, NAN, -2e-300};
static const char *const strings[] = {"one", "", "dr\xc3\xa9i"};
static const mspec_column columns[] = {{"value", numbers, NULL}, {"name", NULL, strings}};
static const mspec_columns tables[] = {{"runs", columns, 2, 3}, {"empty", columns, 2, 0}};

static void test_round_trip(void)
{
	const char *path = scratch_path("columns.h5");
	muon_error err = {0};
	mspec_checkpoint *file = NULL;
	double back[3] = {0};
	CU_ASSERT_EQUAL_FATAL(mspec_write_columns(path, "test/1", tables, 2, &err), MUON_OK);
	CU_ASSERT_EQUAL_FATAL(mspec_open(&file, path, NULL, &err), MUON_OK);
	CU_ASSERT_EQUAL(mspec_tensor_count(file), 4);
	for (size_t i = 0; i < mspec_tensor_count(file); i++) {
		const mspec_tensor *tensor = mspec_tensor_at(file, i);
		if (strcmp(tensor->name, "runs/value"))
			continue;
		CU_ASSERT_EQUAL(tensor->dtype, MUON_F64);
		CU_ASSERT_EQUAL_FATAL(tensor->elements, 3);
		CU_ASSERT_EQUAL(mspec_read(file, i, 0, 3, back, &err), MUON_OK);
	}
	CU_ASSERT(back[0] == 1.5 && isnan(back[1]) && back[2] == -2e-300);
	mspec_close(&file);
}

/* Long columns are compressed, and the same. */
static void test_long(void)
{
	enum { COUNT = 100000 };
	const char *path = scratch_path("long_columns.h5");
	muon_error err = {0};
	mspec_checkpoint *file = NULL;
	struct stat st;
	double *written = calloc(2 * COUNT, sizeof *written), *back = written + COUNT;
	CU_ASSERT_PTR_NOT_NULL_FATAL(written);
	for (size_t i = 0; i < COUNT; i++)
		written[i] = i % 10 ? 0.5 : (double)i;
	const mspec_column column = {"value", written, NULL};
	const mspec_columns table = {"curves", &column, 1, COUNT};
	CU_ASSERT_EQUAL_FATAL(mspec_write_columns(path, "test/1", &table, 1, &err), MUON_OK);
	CU_ASSERT(!stat(path, &st) && st.st_size < COUNT);
	CU_ASSERT_EQUAL_FATAL(mspec_open(&file, path, NULL, &err), MUON_OK);
	CU_ASSERT_EQUAL(mspec_read(file, 0, 0, COUNT, back, &err), MUON_OK);
	CU_ASSERT(!memcmp(written, back, COUNT * sizeof *back));
	mspec_close(&file);
	free(written);
}

static void test_refused(void)
{
	muon_error err = {0};
	char long_name[400];
	memset(long_name, 'x', sizeof long_name - 1);
	long_name[sizeof long_name - 1] = 0;
	const mspec_column column = {long_name, numbers, NULL};
	const mspec_columns table = {"runs", &column, 1, 3};
	CU_ASSERT_EQUAL(mspec_write_columns("/nowhere/at/all.h5", "test/1", tables, 2, &err),
	                MUON_E_WRITE);
	CU_ASSERT_EQUAL(mspec_write_columns(scratch_path("long.h5"), "test/1", &table, 1, NULL),
	                MUON_E_ARGUMENT);
}

UNIT_SUITE(columns_file, {"round trip", test_round_trip}, {"long", test_long},
           {"refused", test_refused})
