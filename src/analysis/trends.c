#include "analysis/trends.h"

#include "base/statistics.h"

#include <math.h>

static double quantile(mspec_trend_rules *rules, int place, double p, double freedom)
{
	if (rules->known[place].p != p || rules->known[place].freedom != freedom) {
		rules->known[place].p = p;
		rules->known[place].freedom = freedom;
		rules->known[place].t = muon_student_quantile(p, freedom);
	}
	return rules->known[place].t;
}

/* The points of a series that have a logarithm. */
typedef struct points {
	double *x, *y; /* ln step, ln value */
	size_t count;
	size_t left_out; /* values of 0 or less, or at step 0 */
} points;

static int take_points(points *p, const mspec_series *s)
{
	*p = (points){.x = muon_alloc(s->count + 1, sizeof *p->x),
		      .y = muon_alloc(s->count + 1, sizeof *p->y)};
	if (!p->x || !p->y)
		return MUON_E_MEMORY;
	for (size_t i = 0; i < s->count; i++) {
		if (isnan(s->values[i]))
			continue;
		if (!(s->steps[i] > 0) || !(s->values[i] > 0) || isinf(s->values[i])) {
			p->left_out++;
			continue;
		}
		p->x[p->count] = log(s->steps[i]);
		p->y[p->count++] = log(s->values[i]);
	}
	return MUON_OK;
}

static void release_points(points *p)
{
	muon_free(p->x);
	muon_free(p->y);
}

/* ---- is it one power ------------------------------------------------------------------------ */

typedef enum shape { ONE_POWER, LEVELS_OFF, STEEPENS } shape;

/* What a quadratic term would add to the line, if it is told from the scatter with 99 per cent:
 * the regression of what the line leaves of y on what it leaves of x^2. Overwrites the points. */
static shape find_shape(const points *p, const muon_line *line, mspec_trend_rules *rules)
{
	const double level = 0.99;
	muon_line square, bend;
	if (p->count < 5)
		return ONE_POWER;
	for (size_t i = 0; i < p->count; i++) {
		p->y[i] -= line->intercept + line->slope * p->x[i];
		double centred = p->x[i] - line->mean_x;
		p->x[i] = centred;
	}
	double *z = p->x;
	size_t n = p->count;
	double *squares = muon_alloc(n, sizeof *squares);
	if (!squares)
		return ONE_POWER;
	for (size_t i = 0; i < n; i++)
		squares[i] = z[i] * z[i];
	bool good = muon_line_fit(&square, z, squares, n);
	for (size_t i = 0; good && i < n; i++)
		squares[i] -= square.intercept + square.slope * z[i];
	good = good && muon_line_fit(&bend, squares, p->y, n);
	muon_free(squares);
	double freedom = (double)n - 3;
	double error = good ? bend.slope_error * sqrt((freedom + 1) / freedom) : NAN;
	if (!good || !(fabs(bend.slope) > quantile(rules, 1, (1 + level) / 2, freedom) * error))
		return ONE_POWER;
	return bend.slope * line->slope < 0 ? LEVELS_OFF : STEEPENS;
}

/* ---- crossing ------------------------------------------------------------------------------- */

/* Has the series crossed the limit, as seen from its first value? Then between which steps. */
static bool find_crossed(mspec_trend *t)
{
	const mspec_series *s = t->series;
	double first = NAN, before = NAN;
	for (size_t i = 0; i < s->count; i++) {
		double v = s->values[i];
		if (isnan(v))
			continue;
		if (isnan(first))
			first = v;
		if (first < t->limit ? v >= t->limit : v <= t->limit) {
			t->crosses = true;
			t->at = t->high = s->steps[i];
			t->low = isnan(before) ? s->steps[i] : before;
			return true;
		}
		before = s->steps[i];
	}
	return false;
}

static void project(mspec_trend *t, const muon_line *line, double level, muon_arena *arena)
{
	const double far = 10; /* times the last step */
	double last = t->series->steps[t->series->count - 1];
	muon_interval x = muon_line_reaches(line, log(t->limit), level);
	double at = exp(x.value);
	if (!(t->limit > 0) || !(at > last)) {
		t->note = t->limit > 0 ? "the trend leads away from the limit"
				       : "no power of steps reaches a limit of 0 or less";
		return;
	}
	t->crosses = true;
	t->at = at;
	t->low = exp(x.low);
	t->high = exp(x.high);
	if (at > far * last)
		t->note = muon_arena_format(arena,
					    "the limit is %.3g times the last step away: no more "
					    "than a guess",
					    at / last);
	else if (isinf(t->high))
		t->note = "the data do not bound the step from above";
}

/* ---- the whole ------------------------------------------------------------------------------ */

static void judge(mspec_trend *t, const points *p, mspec_trend_rules *rules, muon_arena *arena)
{
	muon_line line;
	if (p->count < 3) {
		t->note = p->left_out ? "fewer than 3 steps above 0 with values above 0"
				      : "fewer than 3 steps";
		return;
	}
	if (!muon_line_fit(&line, p->x, p->y, p->count)) {
		t->note = "no fit";
		return;
	}
	t->exponent = line.slope;
	t->exponent_error = line.slope_error;
	double most = quantile(rules, 0, (1 + rules->level) / 2, (double)p->count - 2);
	if (!(fabs(line.slope) > most * line.slope_error)) {
		t->note = "no trend that could be told from the scatter";
		return;
	}
	shape form = find_shape(p, &line, rules);
	if (form == LEVELS_OFF)
		t->note = "not one power of steps: it levels off";
	else if (!isnan(t->limit) && !t->crosses)
		project(t, &line, rules->level, arena);
	if (form == STEEPENS && !t->note)
		t->note = "not one power of steps: it steepens, so a limit is reached sooner";
}

int mspec_trend_fit(mspec_trend *trend, const mspec_series *series, double limit,
		    mspec_trend_rules *rules, muon_arena *arena)
{
	points p;
	*trend = (mspec_trend){.series = series,
			       .exponent = NAN,
			       .exponent_error = NAN,
			       .limit = limit,
			       .at = NAN,
			       .low = NAN,
			       .high = NAN};
	int code = take_points(&p, series);
	if (!code) {
		if (!isnan(limit))
			find_crossed(trend);
		judge(trend, &p, rules, arena);
	}
	release_points(&p);
	return code;
}
