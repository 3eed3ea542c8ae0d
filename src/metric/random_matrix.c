/* What a matrix of independent Gaussian entries would show: the baselines. */
#include "metric/functions.h"

/* Large-size limit. At 16 x 16 it is 0.005 above the mean of real Gaussian matrices, at 128 x 128
 * 0.0006: at every size less than one such matrix differs from the next. */
double mspec_gaussian_entropy(int64_t m, int64_t n)
{
	double low = (double)(m < n ? m : n), high = (double)(m < n ? n : m);
	return low < 2 ? NAN : 1 - low / (2 * high) / log(low);
}

/* Largest singular value that entries of this variance make in the limit of large sizes. */
static mspec_metric_value edge(const mspec_spectrum *spectrum)
{
	const char *missing = mspec_sigma_missing_or_zero(spectrum);
	if (!missing)
		missing = mspec_entries_missing(spectrum);
	if (missing)
		return mspec_undefined(missing);
	double std = mspec_entry_std(&spectrum->moments);
	if (isnan(std))
		return mspec_undefined(MSPEC_NOTE_RANGE);
	if (std == 0)
		return mspec_undefined("all entries are equal");
	return mspec_value(std * (sqrt((double)spectrum->rows) + sqrt((double)spectrum->cols)));
}

mspec_metric_value mspec_mp_edge_ratio(const mspec_metric_input *input)
{
	mspec_metric_value value = edge(input->spectrum);
	if (!isnan(value.value))
		value.value = input->spectrum->sigma[0] / value.value;
	return value;
}

mspec_metric_value mspec_mp_spikes(const mspec_metric_input *input)
{
	const mspec_spectrum *spectrum = input->spectrum;
	mspec_metric_value value = edge(spectrum);
	if (isnan(value.value))
		return value;
	int64_t above = mspec_sigma_above_floor(spectrum), spikes = 0;
	while (spikes < above && spectrum->sigma[spikes] > value.value)
		spikes++;
	return mspec_value_note((double)spikes, value.value < spectrum->sigma_floor
	                                            ? "the edge is below sigma_floor"
	                                            : NULL);
}
