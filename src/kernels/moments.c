/* Entry statistics. A block of entries that stays in the first-level cache is read for its mean and
 * then again for its sums about that mean, which avoids the cancellation of one-pass sums; blocks
 * are merged by Pebay's formulas. */
#include <muon/kernels.h>

#include "kernels/simd.h"

#include <math.h>
#include <string.h>

enum {
	BLOCK = 2048, /* entries, 16 KB */
	LANES = 32    /* independent sums, combined in a fixed order; GCC unrolls fewer before it
		       * vectorises, and then doesn't */
};

static inline uint64_t bits_of(double x)
{
	uint64_t bits;
	memcpy(&bits, &x, sizeof bits);
	return bits;
}

static inline double from_bits(uint64_t bits)
{
	double x;
	memcpy(&x, &bits, sizeof x);
	return x;
}

/* ---- bf16 ----------------------------------------------------------------------------------- */

#define BF16_MIN_NORMAL 0x1p-126
/* halfway between the largest bf16 and 2^128: rounds to Inf */
#define BF16_OVERFLOW 0x1.ffp127

/* Nearest bf16 of finite x, |x| < BF16_OVERFLOW. bf16 keeps the upper 7 of 52 fraction bits, or
 * below its normal range multiples of 2^-133, the spacing of doubles at 2^-81. */
static inline double round_bf16(double x)
{
	uint64_t bits = bits_of(x), sign = bits & (UINT64_C(1) << 63), magnitude = bits ^ sign;
	uint64_t nearest = magnitude + ((UINT64_C(1) << 44) - 1) + (magnitude >> 45 & 1);
	double normal = from_bits(nearest & ~((UINT64_C(1) << 45) - 1));
	double subnormal = (from_bits(magnitude) + 0x1p-81) - 0x1p-81;
	uint64_t is_normal = 0u - (uint64_t)(from_bits(magnitude) >= BF16_MIN_NORMAL);
	uint64_t value = (bits_of(normal) & is_normal) | (bits_of(subnormal) & ~is_normal);
	return from_bits(value | sign);
}

double muon_round_bf16(double x)
{
	if (isnan(x))
		return x;
	if (fabs(x) >= BF16_OVERFLOW)
		return copysign(INFINITY, x);
	return round_bf16(x);
}

/* ---- a block of at most BLOCK entries: three passes over the cache -------------------------- */

typedef struct extent {
	double shifted_sum; /* of x - x[0]: exactly 0 when all entries are equal */
	double max_abs;
	double not_finite; /* 0 when all entries are finite, else NaN and the rest means nothing */
} extent;

typedef struct extent_lanes {
	double shifted_sum[LANES], max_abs[LANES], not_finite[LANES];
} extent_lanes;

static inline void extent_step(extent_lanes *lanes, size_t l, double x, double shift)
{
	double magnitude = fabs(x);
	lanes->shifted_sum[l] += x - shift;
	lanes->max_abs[l] = lanes->max_abs[l] < magnitude ? magnitude : lanes->max_abs[l];
	lanes->not_finite[l] += magnitude * 0;
}

SIMD_CLONES
static extent block_extent(const double *restrict x, size_t count)
{
	extent_lanes lanes = {{0}, {0}, {0}};
	size_t whole = count - count % LANES;
	for (size_t i = 0; i < whole; i += LANES)
		for (size_t l = 0; l < LANES; l++)
			extent_step(&lanes, l, x[i + l], x[0]);
	for (size_t i = whole; i < count; i++)
		extent_step(&lanes, i - whole, x[i], x[0]);
	extent sum = {0, 0, 0};
	for (size_t l = 0; l < LANES; l++) {
		sum.shifted_sum += lanes.shifted_sum[l];
		sum.max_abs = fmax(sum.max_abs, lanes.max_abs[l]);
		sum.not_finite += lanes.not_finite[l];
	}
	return sum;
}

typedef struct powers {
	double d2, d3, d4; /* sums of powers of x - mean */
} powers;

typedef struct powers_lanes {
	double d2[LANES], d3[LANES], d4[LANES];
} powers_lanes;

static inline void powers_step(powers_lanes *lanes, size_t l, double x, double mean)
{
	double d = x - mean, square = d * d;
	lanes->d2[l] += square;
	lanes->d3[l] += square * d;
	lanes->d4[l] += square * square;
}

SIMD_CLONES
static powers block_powers(const double *restrict x, size_t count, double mean)
{
	powers_lanes lanes = {{0}, {0}, {0}};
	size_t whole = count - count % LANES;
	for (size_t i = 0; i < whole; i += LANES)
		for (size_t l = 0; l < LANES; l++)
			powers_step(&lanes, l, x[i + l], mean);
	for (size_t i = whole; i < count; i++)
		powers_step(&lanes, i - whole, x[i], mean);
	powers sum = {0, 0, 0};
	for (size_t l = 0; l < LANES; l++) {
		sum.d2 += lanes.d2[l];
		sum.d3 += lanes.d3[l];
		sum.d4 += lanes.d4[l];
	}
	return sum;
}

typedef struct precision {
	double error_sq; /* sum of (x - bf16(x))^2 */
	int64_t exact, zeros;
} precision;

typedef struct precision_lanes {
	double error_sq[LANES];
	int64_t exact[LANES], zeros[LANES];
} precision_lanes;

static inline void precision_step(precision_lanes *lanes, size_t l, double x, double rounded)
{
	double error = x - rounded;
	lanes->error_sq[l] += error * error;
	lanes->exact[l] += error == 0;
	lanes->zeros[l] += x == 0;
}

static precision precision_sum(const precision_lanes *lanes)
{
	precision sum = {0, 0, 0};
	for (size_t l = 0; l < LANES; l++) {
		sum.error_sq += lanes->error_sq[l];
		sum.exact += lanes->exact[l];
		sum.zeros += lanes->zeros[l];
	}
	return sum;
}

SIMD_CLONES
static precision block_precision(const double *restrict x, size_t count)
{
	precision_lanes lanes = {{0}, {0}, {0}};
	size_t whole = count - count % LANES;
	for (size_t i = 0; i < whole; i += LANES)
		for (size_t l = 0; l < LANES; l++)
			precision_step(&lanes, l, x[i + l], round_bf16(x[i + l]));
	for (size_t i = whole; i < count; i++)
		precision_step(&lanes, i - whole, x[i], round_bf16(x[i]));
	return precision_sum(&lanes);
}

/* The same where entries may be beyond bf16's range. */
static precision block_precision_wide(const double *x, size_t count)
{
	precision_lanes lanes = {{0}, {0}, {0}};
	for (size_t i = 0; i < count; i++)
		precision_step(&lanes, i % LANES, x[i], muon_round_bf16(x[i]));
	return precision_sum(&lanes);
}

/* ---- merging -------------------------------------------------------------------------------- */

/* Count, mean, m2, m3 and m4 of the union (Pebay 2008). */
static void merge(muon_moments *a, const muon_moments *b)
{
	double na = (double)a->count, nb = (double)b->count, n = na + nb;
	double delta = b->mean - a->mean, shift = delta * nb / n;
	double between = delta * delta * na * nb / n;
	a->m4 += b->m4 + between * delta * delta * (na * na - na * nb + nb * nb) / (n * n) +
		 6 * delta * delta * (na * na * b->m2 + nb * nb * a->m2) / (n * n) +
		 4 * delta * (na * b->m3 - nb * a->m3) / n;
	a->m3 +=
	    b->m3 + between * delta * (na - nb) / n + 3 * delta * (na * b->m2 - nb * a->m2) / n;
	a->m2 += b->m2 + between;
	a->mean += shift;
	a->count += b->count;
}

static void add_finite_block(muon_moments *moments, const double *x, size_t count, extent range)
{
	double n = (double)count, mean = x[0] + range.shifted_sum / n;
	powers p = block_powers(x, count, mean);
	precision q = range.max_abs < BF16_OVERFLOW ? block_precision(x, count)
						    : block_precision_wide(x, count);
	muon_moments block = {
	    .count = (int64_t)count, .mean = mean, .m2 = p.d2, .m3 = p.d3, .m4 = p.d4};
	merge(moments, &block);
	moments->sumsq += block.m2 + n * block.mean * block.mean;
	moments->max_abs = fmax(moments->max_abs, range.max_abs);
	moments->zeros += q.zeros;
	moments->bf16_exact += q.exact;
	moments->bf16_error_sq += q.error_sq;
}

/* Count the entries that are not finite and add the others. */
static void add_mixed_block(muon_moments *moments, const double *x, size_t count)
{
	double finite[BLOCK];
	size_t kept = 0;
	for (size_t i = 0; i < count; i++) {
		if (isfinite(x[i]))
			finite[kept++] = x[i];
		else if (isnan(x[i]))
			moments->nan++;
		else
			moments->inf++;
	}
	if (kept)
		add_finite_block(moments, finite, kept, block_extent(finite, kept));
}

void muon_moments_add(muon_moments *moments, const double *x, size_t count)
{
	for (size_t i = 0; i < count; i += BLOCK) {
		size_t length = count - i < BLOCK ? count - i : BLOCK;
		extent range = block_extent(x + i, length);
		if (range.not_finite == 0)
			add_finite_block(moments, x + i, length, range);
		else
			add_mixed_block(moments, x + i, length);
	}
}
