#include "unit/unit.h"

#include <muon/error.h>
#include <string.h>

static void test_first_failure_is_kept(void)
{
	muon_error err = {0};
	CU_ASSERT_EQUAL(muon_fail(&err, MUON_E_READ, "a\nb", "offset %d", 12), MUON_E_READ);
	CU_ASSERT_EQUAL(muon_fail(&err, MUON_E_MEMORY, "c", "later"), MUON_E_MEMORY);
	CU_ASSERT_EQUAL(err.code, MUON_E_READ);
	CU_ASSERT_STRING_EQUAL(err.message, "offset 12");
	CU_ASSERT_STRING_EQUAL(err.where, "a\\nb");
	muon_error_clear(&err);
	CU_ASSERT_EQUAL(err.code, 0);
	CU_ASSERT_EQUAL(muon_fail(NULL, MUON_E_USAGE, NULL, "nobody reads this"), MUON_E_USAGE);
}

static void test_statuses(void)
{
	CU_ASSERT_EQUAL(muon_exit_status(MUON_OK), 0);
	CU_ASSERT_EQUAL(muon_exit_status(MUON_E_USAGE), 2);
	CU_ASSERT_EQUAL(muon_exit_status(MUON_E_FORMAT), 3);
	CU_ASSERT_EQUAL(muon_exit_status(MUON_E_NONFINITE), 4);
	CU_ASSERT_EQUAL(muon_exit_status(MUON_E_MEMORY), 5);
	CU_ASSERT_EQUAL(muon_exit_status(-999), 5);
	CU_ASSERT_STRING_EQUAL(muon_error_text(-999), "unknown error");
}

UNIT_SUITE(error, {"first failure is kept", test_first_failure_is_kept},
           {"exit statuses", test_statuses})
