/* Small-sample statistics: lines by least squares, Student's t, the sign test, the bootstrap. */
#ifndef MUON_BASE_STATISTICS_H
#define MUON_BASE_STATISTICS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A value and the interval around it; NAN where the data give none. */
typedef struct muon_interval {
	double value, low, high;
} muon_interval;

double muon_mean(const double *values, size_t count); /* NAN for none */
/* Sample standard deviation (count - 1 below); NAN for fewer than two. */
double muon_standard_deviation(const double *values, size_t count);
/* Reorders `values`, which hold no NaN; the mean of the middle two when count is even; NAN for none. */
double muon_median(double *values, size_t count);

/* ---- distributions ------------------------------------------------------------------------- */

/* Regularised incomplete beta function I_x(a, b), a, b > 0, x in [0, 1] (continued fraction of
 * Press et al., Numerical Recipes, 6.4). */
double muon_incomplete_beta(double a, double b, double x);

/* P(T <= t) of Student's t with `freedom` > 0 degrees of freedom (not only whole numbers). */
double muon_student_cdf(double t, double freedom);
/* The t that P(T <= t) = p, 0 < p < 1; NAN otherwise. */
double muon_student_quantile(double p, double freedom);

/* Two-sided p of the sign test: `wins` against `losses`, ties left out beforehand. Exact binomial;
 * 1 when there is nothing to compare. */
double muon_sign_test(size_t wins, size_t losses);

/* Mean of `count` values and its t interval that holds the true mean with probability `level`
 * (0.95); for pairs, give the differences. No interval for fewer than two. */
muon_interval muon_mean_interval(const double *values, size_t count, double level);

/* ---- lines --------------------------------------------------------------------------------- */

/* y = intercept + slope x, by ordinary least squares. */
typedef struct muon_line {
	double intercept, slope;
	double intercept_error, slope_error; /* standard errors; NAN when count is 2 */
	double covariance;                   /* of intercept and slope; NAN likewise */
	double residual;                     /* standard deviation about the line, n - 2 below */
	double r_squared;                    /* NAN when all y are equal */
	double mean_x, spread_x;             /* spread: sum of (x - mean_x)^2 */
	size_t count;
} muon_line;

/* False, and nothing is known, for fewer than two points, all x equal, or a value that is not
 * finite. */
bool muon_line_fit(muon_line *line, const double *x, const double *y, size_t count);

/* The line at x with the t interval of its mean there. */
muon_interval muon_line_at(const muon_line *line, double x, double level);
/* The slope with its t interval. */
muon_interval muon_line_slope(const muon_line *line, double level);

/* The x at which the line reaches y, by Fieller's theorem. An end of the interval is infinite where
 * the data do not bound it; all three are NAN for a slope of 0. */
muon_interval muon_line_reaches(const muon_line *line, double y, double level);

/* ---- bootstrap ----------------------------------------------------------------------------- */

/* A number of a sample; may reorder `values`. */
typedef double (*muon_statistic_fn)(double *values, size_t count);
double muon_sample_mean(double *values, size_t count);
double muon_sample_median(double *values, size_t count); /* muon_median */

/* The statistic of `values` and its percentile bootstrap interval (Efron 1979) of `resamples`
 * samples drawn with `seed`; for pairs, give the differences. MUON_E_MEMORY, MUON_E_ARGUMENT for an
 * empty sample. */
int muon_bootstrap(muon_interval *interval, const double *values, size_t count,
                   muon_statistic_fn statistic, double level, size_t resamples, uint64_t seed);

#endif
