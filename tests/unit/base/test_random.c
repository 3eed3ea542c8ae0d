#include "base/random.h"
#include "unit/unit.h"

#include <math.h>

/* First outputs of the reference xoshiro256++ for the state 1, 2, 3, 4. */
static void test_reference_sequence(void)
{
	static const uint64_t expected[] = {41943041u, 58720359u, 3588806011781223u,
	                                    3591011842654386u};
	muon_random random = {{1, 2, 3, 4}};
	for (int i = 0; i < 4; i++)
		CU_ASSERT_EQUAL(muon_random_bits(&random), expected[i]);
}

static void test_normal_moments(void)
{
	enum { COUNT = 200000 };
	muon_random random;
	double sum = 0, square = 0, fourth = 0;
	muon_random_seed(&random, 1);
	for (int i = 0; i < COUNT; i++) {
		double x = muon_random_normal(&random);
		sum += x;
		square += x * x;
		fourth += x * x * x * x;
	}
	/* five standard errors */
	CU_ASSERT(fabs(sum / COUNT) < 5 / sqrt(COUNT));
	CU_ASSERT(fabs(square / COUNT - 1) < 5 * sqrt(2.0 / COUNT));
	CU_ASSERT(fabs(fourth / COUNT - 3) < 5 * sqrt(96.0 / COUNT));
}

UNIT_SUITE(random, {"reference sequence", test_reference_sequence},
           {"normal moments", test_normal_moments})
