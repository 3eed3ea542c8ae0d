/* Entropies and ranks: how many directions of a matrix carry its weight. All are sums over ratios
 * s_i/s_1, smallest first, so that neither the scale nor the number of values costs digits. */
#include "metric/functions.h"

static int64_t larger_side(const mspec_spectrum *spectrum)
{
	return spectrum->rows > spectrum->cols ? spectrum->rows : spectrum->cols;
}

/* -sum p ln p of p_i = s_i^power / sum s^power. With a_i = (s_i/s_1)^power and T = sum of a_i over
 * i > 1 it is log1p(T) - (sum a ln a)/(1 + T): no term is negative, so nothing cancels even when
 * one value has nearly all the weight. */
static double entropy(const mspec_spectrum *spectrum, int power)
{
	double rest = 0, logs = 0;
	for (int64_t i = mspec_sigma_above_floor(spectrum) - 1; i > 0; i--) {
		double ratio = spectrum->sigma[i] / spectrum->sigma[0];
		double a = power == 2 ? ratio * ratio : ratio;
		rest += a;
		if (a > 0)
			logs += a * power * log(ratio);
	}
	return log1p(rest) - logs / (1 + rest);
}

mspec_metric_value mspec_svd_entropy(const mspec_metric_input *input)
{
	const mspec_spectrum *spectrum = input->spectrum;
	const char *missing = mspec_sigma_missing_or_zero(spectrum);
	if (missing)
		return mspec_undefined(missing);
	if (spectrum->count == 1)
		return mspec_undefined("0/0 for a single singular value");
	return mspec_value(entropy(spectrum, 2) / log((double)spectrum->count));
}

mspec_metric_value mspec_svd_entropy_excess(const mspec_metric_input *input)
{
	mspec_metric_value value = mspec_svd_entropy(input);
	value.value -= mspec_gaussian_entropy(input->spectrum->rows, input->spectrum->cols);
	return value;
}

mspec_metric_value mspec_effective_rank(const mspec_metric_input *input)
{
	const mspec_spectrum *spectrum = input->spectrum;
	const char *missing = mspec_sigma_missing_or_zero(spectrum);
	if (missing)
		return mspec_undefined(missing);
	bool noise = mspec_sigma_above_floor(spectrum) < spectrum->count;
	return mspec_value_note(exp(entropy(spectrum, 1)),
	                        noise ? "singular values below sigma_floor taken as 0" : NULL);
}

/* WeightWatcher (RMT_Util.matrix_entropy) decomposes in float64 and divides by the logarithm of
 * the rank at NumPy's float64 tolerance, s_1 max(m, n) 2^-52. A matrix stored in 32 or fewer bits
 * has full rank by that, whatever its true rank: the rounding of its entries is far above. The
 * Gram matrix can't show values that small, so all that it hides are counted, as they would be. */
mspec_metric_value mspec_ww_entropy(const mspec_metric_input *input)
{
	const mspec_spectrum *spectrum = input->spectrum;
	const char *missing = mspec_sigma_missing_or_zero(spectrum);
	if (missing)
		return mspec_undefined(missing);
	double tolerance = spectrum->sigma[0] * (double)larger_side(spectrum) * 0x1p-52;
	bool hidden = spectrum->method == MUON_SVD_GRAM &&
	              mspec_sigma_above_floor(spectrum) < spectrum->count;
	int64_t rank = hidden ? spectrum->count : 0;
	while (rank < spectrum->count && spectrum->sigma[rank] > tolerance)
		rank++;
	if (rank < 2)
		return mspec_undefined("WeightWatcher's rank is 1, and ln 1 = 0");
	return mspec_value_note(entropy(spectrum, 2) / log((double)rank),
	                        hidden ? "singular values below sigma_floor counted in the rank"
	                               : NULL);
}

/* Sum of (s_i/s_1)^power over the values that are not noise. */
static double power_sum(const mspec_spectrum *spectrum, int power)
{
	double sum = 0;
	for (int64_t i = mspec_sigma_above_floor(spectrum) - 1; i >= 0; i--) {
		double ratio = spectrum->sigma[i] / spectrum->sigma[0];
		double square = ratio * ratio;
		sum += power == 4 ? square * square : square;
	}
	return sum;
}

mspec_metric_value mspec_stable_rank(const mspec_metric_input *input)
{
	const char *missing = mspec_sigma_missing_or_zero(input->spectrum);
	return missing ? mspec_undefined(missing) : mspec_value(power_sum(input->spectrum, 2));
}

mspec_metric_value mspec_participation_ratio(const mspec_metric_input *input)
{
	const char *missing = mspec_sigma_missing_or_zero(input->spectrum);
	if (missing)
		return mspec_undefined(missing);
	double squares = power_sum(input->spectrum, 2);
	return mspec_value(squares * squares / power_sum(input->spectrum, 4));
}

mspec_metric_value mspec_numerical_rank(const mspec_metric_input *input)
{
	const mspec_spectrum *spectrum = input->spectrum;
	const char *missing = mspec_sigma_missing(spectrum);
	if (missing)
		return mspec_undefined(missing);
	if (!(spectrum->sigma[0] > 0))
		return mspec_value(0);
	double relative = (double)larger_side(spectrum) * muon_dtype_eps(spectrum->dtype);
	if (relative >= 1)
		return mspec_undefined("eps of the stored type is too coarse for a matrix this large");
	double tolerance = spectrum->sigma[0] * relative;
	int64_t above = mspec_sigma_above_floor(spectrum), rank = 0;
	while (rank < above && spectrum->sigma[rank] > tolerance)
		rank++;
	bool floor_decided = rank == above && above < spectrum->count &&
	                     spectrum->sigma_floor > tolerance;
	return mspec_value_note((double)rank,
	                        floor_decided ? "decided by sigma_floor, which is above the tolerance "
	                                        "of the stored type"
	                                      : NULL);
}
