/* Metrics of the entries: no decomposition needed. */
#include "metric/functions.h"

/* Entries smaller than this have squares (fourth powers) that start to vanish. Only float64 can
 * hold such weights; the large end shows as sums that are not finite. */
#define SMALLEST_FOR_SQUARES 0x1p-430
#define SMALLEST_FOR_FOURTH 0x1p-215

const char *mspec_entries_missing(const mspec_spectrum *spectrum)
{
	const muon_moments *moments = &spectrum->moments;
	if (moments->nan || moments->inf)
		return "the matrix holds NaN or Inf";
	return moments->count > 0 ? NULL : "no entries";
}

static bool squares_in_range(const muon_moments *moments)
{
	return isfinite(moments->sumsq) && isfinite(moments->m2) &&
	       (moments->max_abs == 0 || moments->max_abs >= SMALLEST_FOR_SQUARES);
}

/* From the entries, which is exact; from the singular values where the squares leave the range. */
static double frobenius(const mspec_spectrum *spectrum)
{
	if (squares_in_range(&spectrum->moments))
		return sqrt(spectrum->moments.sumsq);
	if (mspec_sigma_missing_or_zero(spectrum))
		return NAN;
	double squares = 0;
	for (int64_t i = spectrum->count - 1; i >= 0; i--) {
		double ratio = spectrum->sigma[i] / spectrum->sigma[0];
		squares += ratio * ratio;
	}
	return spectrum->sigma[0] * sqrt(squares);
}

double mspec_entry_std(const muon_moments *moments)
{
	/* the deviations of a constant matrix are the rounding of its mean */
	const double rounding = 64 * 0x1p-52;
	if (!squares_in_range(moments))
		return NAN;
	double std = sqrt(moments->m2 / (double)moments->count);
	return std > rounding * moments->max_abs ? std : 0;
}

static mspec_metric_value over_norm(const mspec_metric_input *input, double divisor)
{
	const char *missing = mspec_entries_missing(input->spectrum);
	if (missing)
		return mspec_undefined(missing);
	double norm = frobenius(input->spectrum);
	return isfinite(norm) ? mspec_value(norm / divisor) : mspec_undefined(MSPEC_NOTE_RANGE);
}

mspec_metric_value mspec_rms(const mspec_metric_input *input)
{
	return over_norm(input, sqrt((double)input->spectrum->moments.count));
}

mspec_metric_value mspec_frobenius_norm(const mspec_metric_input *input)
{
	return over_norm(input, 1);
}

mspec_metric_value mspec_max_abs(const mspec_metric_input *input)
{
	const char *missing = mspec_entries_missing(input->spectrum);
	return missing ? mspec_undefined(missing) : mspec_value(input->spectrum->moments.max_abs);
}

mspec_metric_value mspec_mean(const mspec_metric_input *input)
{
	const char *missing = mspec_entries_missing(input->spectrum);
	if (missing)
		return mspec_undefined(missing);
	double mean = input->spectrum->moments.mean;
	return isfinite(mean) ? mspec_value(mean)
	                      : mspec_undefined("sum of the entries leaves the range of float64");
}

mspec_metric_value mspec_std(const mspec_metric_input *input)
{
	const char *missing = mspec_entries_missing(input->spectrum);
	if (missing)
		return mspec_undefined(missing);
	double std = mspec_entry_std(&input->spectrum->moments);
	return isnan(std) ? mspec_undefined(MSPEC_NOTE_RANGE) : mspec_value(std);
}

mspec_metric_value mspec_excess_kurtosis(const mspec_metric_input *input)
{
	const char *missing = mspec_entries_missing(input->spectrum);
	if (missing)
		return mspec_undefined(missing);
	const muon_moments *moments = &input->spectrum->moments;
	double std = mspec_entry_std(moments);
	if (std == 0)
		return mspec_undefined("all entries are equal");
	if (isnan(std) || !isfinite(moments->m4) || moments->max_abs < SMALLEST_FOR_FOURTH)
		return mspec_undefined("fourth powers of the entries leave the range of float64");
	return mspec_value(moments->m4 / moments->m2 * ((double)moments->count / moments->m2) - 3);
}

static mspec_metric_value fraction(const mspec_spectrum *spectrum, int64_t part)
{
	const char *missing = mspec_entries_missing(spectrum);
	return missing ? mspec_undefined(missing)
	               : mspec_value((double)part / (double)spectrum->moments.count);
}

mspec_metric_value mspec_zero_fraction(const mspec_metric_input *input)
{
	return fraction(input->spectrum, input->spectrum->moments.zeros);
}

mspec_metric_value mspec_bf16_exact_fraction(const mspec_metric_input *input)
{
	return fraction(input->spectrum, input->spectrum->moments.bf16_exact);
}

mspec_metric_value mspec_bf16_rel_error(const mspec_metric_input *input)
{
	const char *missing = mspec_entries_missing(input->spectrum);
	if (missing)
		return mspec_undefined(missing);
	const muon_moments *moments = &input->spectrum->moments;
	if (moments->max_abs == 0)
		return mspec_undefined(MSPEC_NOTE_ZERO);
	if (!isfinite(moments->bf16_error_sq))
		return mspec_undefined("entries are beyond the largest bf16 number, 3.39e38");
	if (!squares_in_range(moments))
		return mspec_undefined(MSPEC_NOTE_RANGE);
	return mspec_value(sqrt(moments->bf16_error_sq / moments->sumsq));
}

mspec_metric_value mspec_output_rms(const mspec_metric_input *input)
{
	const mspec_spectrum *spectrum = input->spectrum;
	double rows = (double)spectrum->rows;
	if (!spectrum->has_gain)
		return over_norm(input, sqrt(rows));
	const char *missing = mspec_entries_missing(spectrum);
	if (missing)
		return mspec_undefined(missing);
	if (isnan(spectrum->gain_sumsq))
		return mspec_undefined("the gain of the norm before the matrix holds NaN or Inf");
	if (!isfinite(spectrum->gain_sumsq) || !squares_in_range(&spectrum->moments))
		return mspec_undefined("gain times entries, squared, leave the range of float64");
	return mspec_value(sqrt(spectrum->gain_sumsq / rows));
}
