#include "base/statistics.h"

#include "base/memory.h"
#include "base/random.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

double muon_mean(const double *values, size_t count)
{
	double sum = 0;
	for (size_t i = 0; i < count; i++)
		sum += values[i];
	return count ? sum / (double)count : NAN;
}

double muon_standard_deviation(const double *values, size_t count)
{
	if (count < 2)
		return NAN;
	double mean = muon_mean(values, count), sum = 0;
	for (size_t i = 0; i < count; i++)
		sum += (values[i] - mean) * (values[i] - mean);
	return sqrt(sum / (double)(count - 1));
}

static int ascending(const void *a, const void *b)
{
	double x, y;
	memcpy(&x, a, sizeof x);
	memcpy(&y, b, sizeof y);
	return (x > y) - (x < y);
}

static double middle_of(double a, double b, double c)
{
	return fmax(fmin(a, b), fmin(fmax(a, b), c));
}

static void swap(double *a, double *b)
{
	double kept = *a;
	*a = *b;
	*b = kept;
}

/* The value that sorting would bring to `place`; before it are then those that are not larger.
 * Quickselect, which gives up to sorting where its pivots are bad. */
static double select_place(double *values, size_t count, size_t place)
{
	enum { FEW = 16, ROUNDS = 64 };
	size_t low = 0, high = count;
	for (int round = 0; high - low > FEW && round < ROUNDS; round++) {
		double pivot = middle_of(values[low], values[low + (high - low) / 2], values[high - 1]);
		size_t less = low, at = low, more = high;
		while (at < more) {
			if (values[at] < pivot)
				swap(&values[less++], &values[at++]);
			else if (values[at] > pivot)
				swap(&values[at], &values[--more]);
			else
				at++;
		}
		if (place >= less && place < more)
			return pivot;
		low = place < less ? low : more;
		high = place < less ? less : high;
	}
	qsort(values + low, high - low, sizeof *values, ascending);
	return values[place];
}

double muon_median(double *values, size_t count)
{
	if (!count)
		return NAN;
	double upper = select_place(values, count, count / 2);
	if (count % 2)
		return upper;
	double lower = values[0];
	for (size_t i = 1; i < count / 2; i++)
		lower = fmax(lower, values[i]);
	return 0.5 * (lower + upper);
}

/* ---- distributions ------------------------------------------------------------------------- */

/* The continued fraction of I_x(a, b) by Lentz's method; converges fast for x < (a+1)/(a+b+2). */
static double beta_fraction(double a, double b, double x)
{
	const double tiny = 1e-300;
	double c = 1, d = 1 - (a + b) * x / (a + 1);
	d = 1 / (fabs(d) < tiny ? tiny : d);
	double f = d;
	for (int m = 1; m <= 10000; m++) {
		double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
		double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
		double change = 1;
		for (int half = 0; half < 2; half++) {
			double term = half ? odd : even;
			d = 1 + term * d;
			c = 1 + term / c;
			d = 1 / (fabs(d) < tiny ? tiny : d);
			c = fabs(c) < tiny ? tiny : c;
			change = c * d;
			f *= change;
		}
		if (fabs(change - 1) < 1e-16)
			break;
	}
	return f;
}

double muon_incomplete_beta(double a, double b, double x)
{
	if (!(a > 0 && b > 0 && x >= 0 && x <= 1))
		return NAN;
	if (x == 0 || x == 1)
		return x;
	double log_front = lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x);
	if (x < (a + 1) / (a + b + 2))
		return exp(log_front) * beta_fraction(a, b, x) / a;
	return 1 - exp(log_front) * beta_fraction(b, a, 1 - x) / b;
}

/* P(|T| > t), t >= 0, with full relative accuracy in the tail. */
static double student_tails(double t, double freedom)
{
	double square = t * t;
	if (isinf(square))
		return 0;
	if (square < freedom) /* 1 - x would lose digits of a small t */
		return 1 - muon_incomplete_beta(0.5, freedom / 2, square / (freedom + square));
	return muon_incomplete_beta(freedom / 2, 0.5, freedom / (freedom + square));
}

double muon_student_cdf(double t, double freedom)
{
	if (isnan(t) || !(freedom > 0))
		return NAN;
	double tail = 0.5 * student_tails(fabs(t), freedom);
	return t > 0 ? 1 - tail : tail;
}

double muon_student_quantile(double p, double freedom)
{
	if (!(p > 0 && p < 1 && freedom > 0))
		return NAN;
	if (p == 0.5)
		return 0;
	double tails = 2 * fmin(p, 1 - p), low = 0, high = 1;
	while (student_tails(high, freedom) > tails && high < 1e300)
		low = high, high *= 2;
	for (int i = 0; i < 200; i++) {
		double middle = low + 0.5 * (high - low);
		if (middle <= low || middle >= high)
			break;
		if (student_tails(middle, freedom) > tails)
			low = middle;
		else
			high = middle;
	}
	return p < 0.5 ? -high : high;
}

double muon_sign_test(size_t wins, size_t losses)
{
	size_t fewer = wins < losses ? wins : losses, count = wins + losses;
	if (!count || wins == losses)
		return 1;
	/* P(at most `fewer` heads of `count`) = I_1/2(count - fewer, fewer + 1) */
	double tail = muon_incomplete_beta((double)(count - fewer), (double)fewer + 1, 0.5);
	return fmin(1, 2 * tail);
}

muon_interval muon_mean_interval(const double *values, size_t count, double level)
{
	double mean = muon_mean(values, count);
	if (count < 2)
		return (muon_interval){mean, NAN, NAN};
	double error = muon_standard_deviation(values, count) / sqrt((double)count);
	double half = muon_student_quantile(0.5 + level / 2, (double)count - 1) * error;
	return (muon_interval){mean, mean - half, mean + half};
}

/* ---- lines --------------------------------------------------------------------------------- */

bool muon_line_fit(muon_line *line, const double *x, const double *y, size_t count)
{
	*line = (muon_line){.count = count};
	double mean_x = muon_mean(x, count), mean_y = muon_mean(y, count);
	double xx = 0, xy = 0, yy = 0;
	for (size_t i = 0; i < count; i++) {
		xx += (x[i] - mean_x) * (x[i] - mean_x);
		xy += (x[i] - mean_x) * (y[i] - mean_y);
		yy += (y[i] - mean_y) * (y[i] - mean_y);
	}
	if (count < 2 || !isfinite(mean_y) || !isfinite(yy) || !(xx > 0) || isinf(xx))
		return false;
	line->slope = xy / xx;
	line->intercept = mean_y - line->slope * mean_x;
	line->mean_x = mean_x;
	line->spread_x = xx;
	double rest = 0; /* summed again: yy - xy^2/xx would cancel */
	for (size_t i = 0; i < count; i++) {
		double r = y[i] - mean_y - line->slope * (x[i] - mean_x);
		rest += r * r;
	}
	double variance = count > 2 ? rest / (double)(count - 2) : NAN;
	line->residual = sqrt(variance);
	line->slope_error = sqrt(variance / xx);
	line->intercept_error = sqrt(variance * (1 / (double)count + mean_x * mean_x / xx));
	line->covariance = -mean_x * variance / xx;
	line->r_squared = yy > 0 ? 1 - rest / yy : NAN;
	return true;
}

static double line_quantile(const muon_line *line, double level)
{
	return line->count > 2 ? muon_student_quantile(0.5 + level / 2, (double)line->count - 2)
	                       : NAN;
}

muon_interval muon_line_at(const muon_line *line, double x, double level)
{
	double value = line->intercept + line->slope * x, from_mean = x - line->mean_x;
	double half = line_quantile(line, level) * line->residual *
	              sqrt(1 / (double)line->count + from_mean * from_mean / line->spread_x);
	return (muon_interval){value, value - half, value + half};
}

muon_interval muon_line_slope(const muon_line *line, double level)
{
	double half = line_quantile(line, level) * line->slope_error;
	return (muon_interval){line->slope, line->slope - half, line->slope + half};
}

/* Fieller: the x whose interval of the line holds y, a quadratic in d = x - mean_x:
 * (y - mean_y - slope d)^2 <= t^2 s^2 (1/n + d^2/Sxx). */
muon_interval muon_line_reaches(const muon_line *line, double y, double level)
{
	if (line->slope == 0)
		return (muon_interval){NAN, NAN, NAN};
	double value = (y - line->intercept) / line->slope;
	double t = line_quantile(line, level);
	if (isnan(t) || isnan(line->residual))
		return (muon_interval){value, NAN, NAN};
	double above = y - line->intercept - line->slope * line->mean_x;
	double ts = t * line->residual, half_ts = t * line->slope_error;
	double a = line->slope * line->slope - half_ts * half_ts;
	double b = above * line->slope;
	double c = above * above - ts * ts / (double)line->count;
	double root = b * b - a * c;
	if (a > 0) { /* the slope is surely not 0; then b^2 >= a c */
		double width = sqrt(fmax(0, root));
		return (muon_interval){value, line->mean_x + (b - width) / a,
		                       line->mean_x + (b + width) / a};
	}
	/* All x, or all but a gap; the value lies in one of the gap's two sides. */
	double low = -INFINITY, high = INFINITY;
	if (a < 0 && root > 0) {
		double one = line->mean_x + (b + sqrt(root)) / a;
		double other = line->mean_x + (b - sqrt(root)) / a;
		if (value >= fmax(one, other))
			low = fmax(one, other);
		else if (value <= fmin(one, other))
			high = fmin(one, other);
	}
	return (muon_interval){value, low, high};
}

/* ---- bootstrap ----------------------------------------------------------------------------- */

double muon_sample_mean(double *values, size_t count)
{
	return muon_mean(values, count);
}

double muon_sample_median(double *values, size_t count)
{
	return muon_median(values, count);
}

/* The quantile between the sorted values on both sides (NumPy's "linear"). */
static double sorted_quantile(const double *sorted, size_t count, double p)
{
	double place = p * (double)(count - 1);
	size_t below = (size_t)place;
	if (below + 1 >= count)
		return sorted[count - 1];
	return sorted[below] + (place - (double)below) * (sorted[below + 1] - sorted[below]);
}

int muon_bootstrap(muon_interval *interval, const double *values, size_t count,
                   muon_statistic_fn statistic, double level, size_t resamples, uint64_t seed)
{
	if (!count || !resamples || !(level > 0 && level < 1))
		return MUON_E_ARGUMENT;
	double *sample = muon_alloc(count, sizeof *sample);
	double *results = muon_alloc(resamples, sizeof *results);
	int code = sample && results ? MUON_OK : MUON_E_MEMORY;
	if (!code) {
		memcpy(sample, values, count * sizeof *sample);
		interval->value = statistic(sample, count);
		muon_random random;
		muon_random_seed(&random, seed);
		for (size_t r = 0; r < resamples; r++) {
			for (size_t i = 0; i < count; i++) {
				double at = muon_random_uniform(&random) * (double)count;
				sample[i] = values[(size_t)at];
			}
			results[r] = statistic(sample, count);
		}
		qsort(results, resamples, sizeof *results, ascending);
		interval->low = sorted_quantile(results, resamples, 0.5 - level / 2);
		interval->high = sorted_quantile(results, resamples, 0.5 + level / 2);
	}
	muon_free(sample);
	muon_free(results);
	return code;
}
