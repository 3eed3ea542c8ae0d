/* Power-law fit of the eigenvalues' tail, and its metrics.
 *
 * In y = ln(lambda/lambda_1) a power-law tail is an exponential distribution, so everything is
 * done on logarithms: no scale of the weights over- or underflows.
 *
 * When is a fit good? The least KS distance exists for any spectrum, so it alone would give every
 * Gaussian matrix an exponent. Four conditions must hold; the limits of the first three come from
 * simulation.
 * 1. At least MIN_TAIL eigenvalues: shorter tails fit anything. Shorter ones aren't even tried,
 *    which would otherwise be the best fits of most Gaussian matrices.
 * 2. KS distance times sqrt(tail) at most KS_LIMIT: 98 of 100 samples from true power laws are
 *    below (300 to 2000 values, xmin fitted). Of 600 Gaussian matrices, 1 is.
 * 3. The coefficient of variation of y above xmin, 1 for a power law, is not too small:
 *    (cv - 1) sqrt(tail) at least CV_LIMIT. It is the statistic of the most powerful unbiased test
 *    of a power law against a truncated log-normal tail (del Castillo and Puig 1999; Malevergne,
 *    Pisarenko and Sornette 2011), and says that the tail ends too soon. 99 of 100 power laws are
 *    above -1.9. The square-root edge of a Marchenko-Pastur spectrum has cv near 0.65: 600
 *    Gaussian matrices from 64 x 64 to 2048 x 1408 gave -4.2 to -2.37.
 * 4. alpha at most MAX_ALPHA. A steeper tail of 50 spans less than a factor 1.6 in lambda: the
 *    rounding of an orthogonal matrix, not a law. WeightWatcher distrusts alpha above 6 to 8, but
 *    matrices of independent entries with a Pareto tail of exponent 3 come out at 5 to 9. */
#include "metric/functions.h"

enum { MIN_TAIL = 50 };
#define KS_LIMIT 0.9
#define CV_LIMIT (-2.0)
#define MAX_ALPHA 10.0

/* Kolmogorov-Smirnov distance between the `tail` largest values y (descending) and the exponential
 * distribution with that rate from the last of them on. Gives up, returning some lower bound of
 * the distance above `limit`, as soon as it can: *worst is where to look first, and receives where
 * the distance was found. */
static double ks_distance(const double *y, int64_t tail, double rate, double limit, int64_t *worst)
{
	enum { STRIDE = 16 };
	double start = y[tail - 1], step = 1 / (double)tail, distance = 0;
	int64_t first = *worst < tail ? *worst : tail - 1;
	for (int64_t pass = -1; pass < STRIDE && distance <= limit; pass++) {
		int64_t i = pass < 0 ? first : pass, stride = pass < 0 ? tail : STRIDE;
		for (; i < tail; i += stride) {
			double model = exp(-rate * (y[i] - start));
			double above = (double)(i + 1) * step - model, below = model - (double)i * step;
			double gap = above > below ? above : below;
			if (gap > distance) {
				distance = gap;
				*worst = i;
			}
		}
	}
	return distance;
}

/* The tail of least KS distance, the longest if several: its length, or 0 if all values are equal.
 * Every distinct value is tried as xmin; a coarse pass first makes most of them give up early. */
static int64_t best_tail(const double *y, int64_t count, double *rate, double *ks)
{
	enum { COARSE = 64 };
	int64_t best = 0, worst = 0;
	*ks = INFINITY;
	for (int64_t stride = COARSE; stride; stride /= COARSE) {
		double sum = 0;
		for (int64_t tail = 1; tail <= count; tail++) {
			sum += y[tail - 1];
			double excess = sum / (double)tail - y[tail - 1]; /* mean of ln(lambda/xmin) */
			bool distinct = tail == count || y[tail] < y[tail - 1];
			if (tail < MIN_TAIL || tail % stride || !distinct || !(excess > 0))
				continue;
			double distance = ks_distance(y, tail, 1 / excess, *ks, &worst);
			if (distance < *ks || (distance == *ks && tail > best)) {
				best = tail;
				*rate = 1 / excess;
				*ks = distance;
			}
		}
	}
	return best;
}

static double variation_coefficient(const double *y, int64_t tail, double rate)
{
	double mean = 1 / rate, sum = 0;
	for (int64_t i = 0; i < tail; i++) {
		double deviation = y[i] - y[tail - 1] - mean;
		sum += deviation * deviation;
	}
	return sqrt(sum / (double)tail) / mean;
}

static const char *objection(const double *y, int64_t tail, double rate, double ks)
{
	double root = sqrt((double)tail);
	if (ks * root > KS_LIMIT)
		return "no power law: KS distance of the best fit is too large for its tail";
	if ((variation_coefficient(y, tail, rate) - 1) * root < CV_LIMIT)
		return "no power law: the tail ends sooner than one would";
	if (1 + rate > MAX_ALPHA)
		return "no power law: alpha is above 10, the tail spans too little";
	return NULL;
}

void mspec_fit_power_law(const mspec_spectrum *spectrum, double *workspace, mspec_power_law *fit)
{
	*fit = (mspec_power_law){NAN, NAN, NAN, NAN, 0, false, NULL};
	fit->reason = mspec_sigma_missing_or_zero(spectrum);
	if (fit->reason)
		return;
	int64_t count = mspec_sigma_above_floor(spectrum);
	const double *sigma = spectrum->sigma;
	for (int64_t i = 0; i < count; i++)
		workspace[i] = 2 * log(sigma[i] / sigma[0]);
	double rate, ks;
	int64_t tail = count < MIN_TAIL ? 0 : best_tail(workspace, count, &rate, &ks);
	if (!tail) {
		fit->reason = count < MIN_TAIL ? "fewer than 50 eigenvalues above the noise"
		                               : "eigenvalues are equal";
		return;
	}
	fit->alpha = 1 + rate;
	fit->xmin = sigma[tail - 1] * sigma[tail - 1];
	fit->ks = ks;
	fit->sigma = rate / sqrt((double)tail);
	fit->tail = tail;
	fit->reason = objection(workspace, tail, rate, ks);
	fit->good = !fit->reason;
}

/* Why there is no value: no fit at all or, for metrics that need it, no good one. */
static const char *fit_missing(const mspec_metric_input *input, bool good)
{
	const mspec_power_law *fit = input->power_law;
	if (!fit)
		return "no power-law fit was made";
	return !fit->tail || (good && !fit->good) ? fit->reason : NULL;
}

mspec_metric_value mspec_alpha(const mspec_metric_input *input)
{
	const char *missing = fit_missing(input, true);
	return missing ? mspec_undefined(missing) : mspec_value(input->power_law->alpha);
}

mspec_metric_value mspec_alpha_sigma(const mspec_metric_input *input)
{
	const char *missing = fit_missing(input, true);
	return missing ? mspec_undefined(missing) : mspec_value(input->power_law->sigma);
}

mspec_metric_value mspec_alpha_xmin(const mspec_metric_input *input)
{
	const char *missing = fit_missing(input, false);
	if (missing)
		return mspec_undefined(missing);
	double xmin = input->power_law->xmin;
	return isnormal(xmin) ? mspec_value(xmin)
	                      : mspec_undefined("the eigenvalue leaves the range of float64");
}

mspec_metric_value mspec_alpha_ks(const mspec_metric_input *input)
{
	const char *missing = fit_missing(input, false);
	return missing ? mspec_undefined(missing) : mspec_value(input->power_law->ks);
}

mspec_metric_value mspec_alpha_tail(const mspec_metric_input *input)
{
	const char *missing = fit_missing(input, false);
	return missing ? mspec_undefined(missing) : mspec_value((double)input->power_law->tail);
}
