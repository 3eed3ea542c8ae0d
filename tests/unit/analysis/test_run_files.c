/* Which files are checkpoints, and the steps that names say. */
#include "analysis/run_files.h"
#include "unit/checkpoint/scratch.h"
#include "unit/unit.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { MOST = 12 };

typedef struct name_case {
	const char *regex;
	const char *paths[MOST];
	double steps[MOST];
} name_case;

static const name_case names[] = {
    {NULL,
     {"r/fer2013_mini_XCEPTION.00-0.47.hdf5", "r/fer2013_mini_XCEPTION.02-0.52.hdf5",
      "r/fer2013_mini_XCEPTION.102-0.66.hdf5"},
     {0, 2, 102}},
    {NULL, {"AiW-1.h5", "AiW-20.h5", "AiW-5.h5"}, {1, 20, 5}},
    {NULL, {"loss0.5-step10.h5", "loss0.4-step20.h5", "loss0.35-step100.h5"}, {10, 20, 100}},
    {NULL, {"ckpt_e1_it500.npz", "ckpt_e2_it1000.npz"}, {500, 1000}},
    {NULL, {"model_v2_100.h5", "model_v2_9.h5"}, {100, 9}},
    {NULL, {"0000100_adapters.safetensors", "0000200_adapters.safetensors", "adapters.safetensors"},
     {100, 200, NAN}},
    {NULL, {"r/checkpoint-500/model.safetensors", "r/checkpoint-1000/model.safetensors"},
     {500, 1000}},
    {NULL, {"r/checkpoint-500/model.safetensors"}, {500}},
    {NULL, {"a.h5", "b.h5"}, {NAN, NAN}},
    {NULL, {"weights.7.h5"}, {7}},
    {NULL, {"fer2013_mini.00-0.47.hdf5"}, {NAN}},
    {NULL, {"fer2013_epoch.12-0.47.hdf5"}, {12}},
    {"e([0-9]+)", {"r7/s1e20.h5", "r7/s2e10.h5", "r7/none.h5"}, {20, 10, NAN}},
    {"[0-9]+k", {"x-10k.h5", "x-2k.h5"}, {10, 2}},
};

static void test_steps(void)
{
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		double steps[MOST];
		size_t count = 0;
		while (count < MOST && names[i].paths[count])
			count++;
		CU_ASSERT_EQUAL(
		    mspec_run_steps(steps, names[i].paths, count, names[i].regex, NULL), MUON_OK);
		for (size_t k = 0; k < count; k++) {
			bool same = isnan(names[i].steps[k]) ? isnan(steps[k])
							     : steps[k] == names[i].steps[k];
			CU_ASSERT_TRUE(same);
			if (!same)
				printf("\n    %s: %g\n", names[i].paths[k], steps[k]);
		}
	}
	muon_error err = {0};
	double step;
	CU_ASSERT_EQUAL(mspec_run_steps(&step, names[0].paths, 1, "([0-9]", &err), MUON_E_USAGE);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.message, "regular expression"));
}

static void put(const char *folder, const char *name)
{
	scratch_write(scratch_path_in(folder, name), "x", 1);
}

static void test_folder(void)
{
	static const char *const kept[] = {"s-2.h5", "s-10.hdf5", "s-11.safetensors", "s-12.npz",
					   "whole/model.safetensors.index.json",
					   "whole2/model.safetensors"};
	static const char *const ignored[] = {".hidden.h5", "s.spectra.h5", "spectra.h5", "log.csv",
					      "config.json", "s-3.h5.77.tmp",
					      "model-00001-of-00002.safetensors"};
	mspec_run_files files;
	for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++)
		put("files", ignored[i]);
	mkdir(scratch_path_in("files", "whole"), 0777);
	mkdir(scratch_path_in("files", "whole2"), 0777);
	mkdir(scratch_path_in("files", "empty"), 0777);
	for (size_t i = sizeof kept / sizeof *kept; i-- > 0;)
		put("files", kept[i]);
	const char *folder = scratch_path_in("files", "");
	CU_ASSERT_EQUAL(mspec_run_files_find(&files, &folder, 1, NULL), MUON_OK);
	CU_ASSERT_EQUAL_FATAL(files.count, sizeof kept / sizeof *kept);
	for (size_t i = 0; i < files.count; i++)
		CU_ASSERT_STRING_EQUAL(files.paths[i], scratch_path_in("files", kept[i]));
	mspec_run_files_release(&files);
	/* files are taken as they come, whatever they are called */
	const char *list[] = {scratch_path_in("files", "log.csv"), scratch_path_in("files", "s-2.h5")};
	CU_ASSERT_EQUAL(mspec_run_files_find(&files, list, 2, NULL), MUON_OK);
	CU_ASSERT_EQUAL(files.count, 2);
	CU_ASSERT_STRING_EQUAL(files.paths[0], list[0]);
	mspec_run_files_release(&files);
	const char *missing = scratch_path("no-such-run");
	muon_error err = {0};
	CU_ASSERT_EQUAL(mspec_run_files_find(&files, &missing, 1, &err), MUON_E_OPEN);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.where, "no-such-run"));
	mspec_run_files_release(&files);
}

UNIT_SUITE(run_files, {"steps in names", test_steps}, {"a folder", test_folder})
