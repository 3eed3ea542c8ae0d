/* Norms and extremes of the singular values, and what is noise among them. */
#include "metric/functions.h"

const char *mspec_sigma_missing(const mspec_spectrum *spectrum)
{
	if (spectrum->moments.nan || spectrum->moments.inf)
		return "the matrix holds NaN or Inf";
	if (!spectrum->sigma || spectrum->count <= 0)
		return "no singular values";
	return isfinite(spectrum->sigma[0]) ? NULL : MSPEC_NOTE_RANGE;
}

const char *mspec_sigma_missing_or_zero(const mspec_spectrum *spectrum)
{
	const char *missing = mspec_sigma_missing(spectrum);
	if (missing)
		return missing;
	if (!(spectrum->sigma[0] > 0))
		return MSPEC_NOTE_ZERO;
	return spectrum->sigma[0] > spectrum->sigma_floor ? NULL
	                                                  : "no singular value above sigma_floor";
}

int64_t mspec_sigma_above_floor(const mspec_spectrum *spectrum)
{
	int64_t low = 0, high = spectrum->count;
	while (low < high) {
		int64_t middle = low + (high - low) / 2;
		if (spectrum->sigma[middle] > spectrum->sigma_floor)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

mspec_metric_value mspec_spectral_norm(const mspec_metric_input *input)
{
	const char *missing = mspec_sigma_missing(input->spectrum);
	return missing ? mspec_undefined(missing) : mspec_value(input->spectrum->sigma[0]);
}

/* A singular value that is truly 0 comes out of the Gram matrix as anything up to sigma_floor, so
 * a matrix of low rank would get a norm that is too large by noise. */
mspec_metric_value mspec_nuclear_norm(const mspec_metric_input *input)
{
	const mspec_spectrum *spectrum = input->spectrum;
	const char *missing = mspec_sigma_missing(spectrum);
	if (missing)
		return mspec_undefined(missing);
	int64_t kept = mspec_sigma_above_floor(spectrum);
	double sum = 0;
	for (int64_t i = kept - 1; i >= 0; i--)
		sum += spectrum->sigma[i];
	if (!isfinite(sum))
		return mspec_undefined("the sum leaves the range of float64");
	bool noted = kept < spectrum->count && spectrum->sigma[0] > 0;
	return mspec_value_note(sum,
	                        noted ? "singular values below sigma_floor taken as 0" : NULL);
}

mspec_metric_value mspec_sigma_min(const mspec_metric_input *input)
{
	const mspec_spectrum *spectrum = input->spectrum;
	const char *missing = mspec_sigma_missing(spectrum);
	if (missing)
		return mspec_undefined(missing);
	double last = spectrum->sigma[spectrum->count - 1];
	bool noise = last <= spectrum->sigma_floor && spectrum->sigma[0] > 0;
	return mspec_value_note(last, noise ? "below sigma_floor: rounding noise" : NULL);
}

mspec_metric_value mspec_condition_number(const mspec_metric_input *input)
{
	const mspec_spectrum *spectrum = input->spectrum;
	const char *missing = mspec_sigma_missing_or_zero(spectrum);
	if (missing)
		return mspec_undefined(missing);
	double last = spectrum->sigma[spectrum->count - 1];
	if (last > spectrum->sigma_floor)
		return mspec_value(spectrum->sigma[0] / last);
	return mspec_undefined(spectrum->method == MUON_SVD_GRAM
	                           ? "sigma_min is below sigma_floor; gesdd may resolve it"
	                           : "singular to working precision");
}

mspec_metric_value mspec_sigma_floor(const mspec_metric_input *input)
{
	const char *missing = mspec_sigma_missing(input->spectrum);
	return missing ? mspec_undefined(missing) : mspec_value(input->spectrum->sigma_floor);
}

mspec_metric_value mspec_output_rms_max(const mspec_metric_input *input)
{
	const mspec_spectrum *spectrum = input->spectrum;
	const char *missing = mspec_sigma_missing(spectrum);
	if (missing)
		return mspec_undefined(missing);
	double value = spectrum->sigma[0] * sqrt((double)spectrum->cols / (double)spectrum->rows);
	return isfinite(value) ? mspec_value(value)
	                       : mspec_undefined("the product leaves the range of float64");
}
