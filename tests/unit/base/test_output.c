#include "base/memory.h"
#include "base/output.h"
#include "unit/unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void put(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");
	CU_ASSERT_PTR_NOT_NULL_FATAL(f);
	fputs(text, f);
	fclose(f);
}

static void test_commit_and_discard(void)
{
	char folder[] = "/tmp/muonspec-unit-XXXXXX", path[64];
	CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(folder));
	snprintf(path, sizeof path, "%s/out.h5", folder);
	char *temporary = muon_output_temporary(path, 42);
	CU_ASSERT_PTR_NOT_NULL_FATAL(temporary);
	CU_ASSERT_STRING_NOT_EQUAL(temporary, path);
	put(temporary, "whole");
	muon_error err = {0};
	CU_ASSERT_EQUAL(muon_output_commit(temporary, path, &err), MUON_OK);
	CU_ASSERT_EQUAL(access(path, F_OK), 0);
	CU_ASSERT_NOT_EQUAL(access(temporary, F_OK), 0);

	put(temporary, "half");
	muon_output_discard(temporary, path);
	CU_ASSERT_NOT_EQUAL(access(temporary, F_OK), 0);
	CU_ASSERT_EQUAL(access(path, F_OK), 0);
	CU_ASSERT_EQUAL(muon_output_commit(temporary, path, &err), MUON_E_WRITE);
	muon_free(temporary);

	temporary = muon_output_temporary("/dev/null", 42); /* written directly */
	CU_ASSERT_STRING_EQUAL(temporary, "/dev/null");
	muon_output_discard(temporary, "/dev/null");
	CU_ASSERT_EQUAL(access("/dev/null", F_OK), 0);
	muon_free(temporary);
	unlink(path);
	rmdir(folder);
}

UNIT_SUITE(output, {"commit and discard", test_commit_and_discard})
