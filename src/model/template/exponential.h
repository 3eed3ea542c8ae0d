/* e^x for loops that the compiler vectorises: no branches, no calls. Part of operators.h. */

#if REAL_BITS == 32
/* e^x for x <= 0, within 2 ulp; 0 below -87; NaN stays NaN. x = n ln 2 + r, |r| <= ln 2 / 2; ln 2 in
 * two parts, so that n times the first is exact; Taylor's polynomial for e^r. */
static inline float mspec_exp_f32(float x)
{
	const float round_to_integer = 0x1.8p23f; /* added, leaves an integer in the low bits */
	float shifted = x * 0x1.715476p0f + round_to_integer, n = shifted - round_to_integer;
	float r = (x - n * 0x1.62e4p-1f) - n * 0x1.7f7d1cp-20f;
	float p = 1.0f / 5040;
	p = p * r + 1.0f / 720;
	p = p * r + 1.0f / 120;
	p = p * r + 1.0f / 24;
	p = p * r + 1.0f / 6;
	p = p * r + 0.5f;
	p = p * r + 1;
	p = p * r + 1;
	uint32_t bits, not_tiny = (uint32_t)(x < -87) - 1; /* all ones, or 0 */
	memcpy(&bits, &shifted, sizeof bits);
	bits = (bits + 127) << 23; /* 2^n: what is above the integer's 8 bits falls out */
	float power;
	memcpy(&power, &bits, sizeof power);
	float result = p * power;
	memcpy(&bits, &result, sizeof bits);
	bits &= not_tiny;
	memcpy(&result, &bits, sizeof result);
	return result;
}
#else
/* e^x for x <= 0. */
static inline double mspec_exp_f64(double x)
{
	return exp(x);
}
#endif

/* 1 / (1 + e^-x). */
static inline real OP(sigmoid)(real x)
{
	real small = OP(exp)(x < 0 ? x : -x);
	return (x < 0 ? small : 1) / (1 + small);
}
