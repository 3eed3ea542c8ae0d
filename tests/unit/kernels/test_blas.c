#include "unit/unit.h"

#include <muon/kernels.h>
#include <string.h>

static void test_room(void)
{
	CU_ASSERT_TRUE(muon_blas_has_room(1, 0));
	CU_ASSERT_FALSE(muon_blas_has_room(1, 1e300));
	CU_ASSERT_FALSE(muon_blas_has_room(1, 0x1p60)); /* more than any machine can map */
}

static void test_description(void)
{
	CU_ASSERT_PTR_NOT_NULL(strstr(muon_blas_description(), "BLAS "));
}

UNIT_SUITE(blas, {"room", test_room}, {"description", test_description})
