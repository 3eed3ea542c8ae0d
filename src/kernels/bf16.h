/* bf16 and float32, the upper half of whose bits it is. */
#ifndef MUON_KERNELS_BF16_H
#define MUON_KERNELS_BF16_H

#include <stdint.h>
#include <string.h>

/* Nearest bf16 of x, ties to even; NaN stays NaN. */
static inline uint16_t muon_bf16_from_float(float x)
{
	uint32_t bits;
	memcpy(&bits, &x, sizeof bits);
	const uint32_t nearest = bits + 0x7fff + (bits >> 16 & 1);
	/* a NaN might round to Inf or wrap around to zero: it is cut, and kept quiet */
	const uint32_t is_nan = 0u - (uint32_t)((bits & 0x7fffffff) > 0x7f800000);
	return (uint16_t)(((nearest & ~is_nan) | ((bits | 0x400000) & is_nan)) >> 16);
}

static inline float muon_bf16_to_float(uint16_t x)
{
	const uint32_t bits = (uint32_t)x << 16;
	float value;
	memcpy(&value, &bits, sizeof value);
	return value;
}

#endif
