#include "unit/unit.h"

#include "kernels/bf16.h"

#include <math.h>
#include <muon/kernels.h>

static float float_of(uint32_t bits)
{
	float x;
	memcpy(&x, &bits, sizeof x);
	return x;
}

/* Every upper half with lower halves on and beside the tie, against the rounding of float64. */
static void test_nearest(void)
{
	static const uint32_t lower[] = {0, 1, 0x7fff, 0x8000, 0x8001, 0xffff};
	int wrong = 0;
	for (uint32_t upper = 0; upper < 0x10000; upper++)
		for (size_t i = 0; i < sizeof lower / sizeof *lower; i++) {
			const float x = float_of(upper << 16 | lower[i]);
			const uint16_t rounded = muon_bf16_from_float(x);
			const double y = (double)muon_bf16_to_float(rounded);
			if (isnan(x))
				wrong += !isnan(y);
			else /* signbit says true with other numbers for float and double */
				wrong +=
				    y != muon_round_bf16((double)x) || !signbit(y) != !signbit(x);
		}
	CU_ASSERT_EQUAL(wrong, 0);
}

UNIT_SUITE(bf16, {"nearest, ties to even", test_nearest})
