#include "analysis/scaling_law.h"

#include "base/memory.h"

#include <math.h>

bool mspec_scaling_law_fit(mspec_scaling_law *law, const double *compute, const double *loss,
                           size_t count)
{
	double *x = muon_alloc(2 * count, sizeof *x), *y = x + count;
	for (size_t i = 0; x && i < count; i++) {
		x[i] = log(compute[i]); /* NaN or infinite, and refused, if not positive */
		y[i] = log(loss[i]);
	}
	bool good = x && muon_line_fit(&law->line, x, y, count);
	muon_free(x);
	return good;
}

mspec_scaling_law mspec_scaling_law_given(double scale, double exponent)
{
	return (mspec_scaling_law){{.intercept = log(scale),
	                            .slope = exponent,
	                            .intercept_error = NAN,
	                            .slope_error = NAN,
	                            .covariance = NAN,
	                            .residual = NAN,
	                            .r_squared = NAN}};
}

mspec_scaling_law mspec_scaling_law_report_muon(void)
{
	return mspec_scaling_law_given(2.506, -0.052);
}

mspec_scaling_law mspec_scaling_law_report_adamw(void)
{
	return mspec_scaling_law_given(2.608, -0.054);
}

static muon_interval exponentials(muon_interval logarithms)
{
	return (muon_interval){exp(logarithms.value), exp(logarithms.low), exp(logarithms.high)};
}

muon_interval mspec_scaling_law_scale(const mspec_scaling_law *law, double level)
{
	return mspec_scaling_law_loss(law, 1, level);
}

muon_interval mspec_scaling_law_exponent(const mspec_scaling_law *law, double level)
{
	return muon_line_slope(&law->line, level);
}

muon_interval mspec_scaling_law_loss(const mspec_scaling_law *law, double compute, double level)
{
	return exponentials(muon_line_at(&law->line, log(compute), level));
}

/* Variance of the line's value at x. */
static double variance_at(const muon_line *line, double x)
{
	double from_mean = x - line->mean_x;
	return line->residual * line->residual *
	       (1 / (double)line->count + from_mean * from_mean / line->spread_x);
}

/* Degrees of freedom of the sum of two estimated variances (Welch 1947, Satterthwaite 1946). */
static double welch_freedom(double v, double v_freedom, double w, double w_freedom)
{
	double sum = v + w;
	return sum > 0 ? sum * sum / (v * v / v_freedom + w * w / w_freedom)
	               : v_freedom + w_freedom;
}

muon_interval mspec_compute_ratio(const mspec_scaling_law *law, const mspec_scaling_law *base,
                                  double compute, double level)
{
	const muon_line *line = &law->line, *other = &base->line;
	double x = log(compute), y = other->intercept + other->slope * x;
	double reached = (y - line->intercept) / line->slope, value = exp(reached - x);
	if (!(line->count > 2 && other->count > 2) || line->slope == 0)
		return (muon_interval){value, NAN, NAN};
	/* (y - mean - slope d)^2 <= t^2 (v + s^2 (1/n + d^2/S)), a quadratic in d = x' - mean_x */
	double v = variance_at(other, x), w = variance_at(line, reached);
	double freedom =
	    welch_freedom(v, (double)other->count - 2, w, (double)line->count - 2);
	double t = muon_student_quantile(0.5 + level / 2, freedom);
	double above = y - (line->intercept + line->slope * line->mean_x);
	double s = line->residual * line->residual;
	double a = line->slope * line->slope - t * t * s / line->spread_x;
	double b = above * line->slope;
	double c = above * above - t * t * (v + s / (double)line->count);
	if (!(a > 0)) /* the slope may be 0: no bound */
		return (muon_interval){value, 0, INFINITY};
	double width = sqrt(fmax(0, b * b - a * c));
	return (muon_interval){value, exp(line->mean_x + (b - width) / a - x),
	                       exp(line->mean_x + (b + width) / a - x)};
}
