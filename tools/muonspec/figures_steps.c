/* Figures of runs over their steps. */
#include "figures.h"

#include "analysis/trends.h"
#include "base/memory.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MOST_GROUPS = 32 };

/* Values of the matrices of a group at one step. */
typedef struct spread {
	double count, sum, squares;
} spread;

/* Of one metric: a spread for each side, group and step. */
typedef struct grouped {
	const subject *subject;
	const char *const *groups; /* mspec_groups() */
	size_t group_count;
	double *steps[2];
	size_t step_count; /* of both sides: pairs */
	spread *spreads;   /* [(side * group_count + group) * step_count + step] */
	bool used[MOST_GROUPS];
} grouped;

static spread *spread_at(const grouped *g, int side, size_t group, size_t step)
{
	return &g->spreads[((size_t)side * g->group_count + group) * g->step_count + step];
}

static size_t group_index(const grouped *g, const char *name)
{
	size_t i = 0;
	while (i < g->group_count && strcmp(g->groups[i], name))
		i++;
	return i;
}

static void add_value(grouped *g, int side, const char *group, size_t step, double value)
{
	size_t index = group_index(g, group);
	if (index == g->group_count || !isfinite(value))
		return;
	spread *s = spread_at(g, side, index, step);
	s->count++;
	s->sum += value;
	s->squares += value * value;
	g->used[index] = true;
}

static void take_track(grouped *g, const mspec_track *t, const char *metric)
{
	for (size_t i = 0; i < t->series_count; i++) {
		const mspec_series *s = &t->series[i];
		for (size_t k = 0; s->kind == MSPEC_SERIES_MATRIX && !strcmp(s->metric, metric) &&
		                   k < s->count; k++)
			add_value(g, 0, s->group, k, s->values[k]);
	}
}

static void take_comparison(grouped *g, const mspec_comparison *c, size_t metric)
{
	size_t step = 0;
	for (size_t i = 0; i < c->pair_count; i++) {
		step += i && c->pairs[i].step != c->pairs[i - 1].step;
		g->steps[0][step] = g->steps[1][step] = c->pairs[i].step;
		add_value(g, 0, c->pairs[i].group, step, c->pairs[i].a[metric]);
		add_value(g, 1, c->pairs[i].group, step, c->pairs[i].b[metric]);
	}
}

static size_t count_pairs(const mspec_comparison *c)
{
	size_t steps = c->pair_count > 0;
	for (size_t i = 1; i < c->pair_count; i++)
		steps += c->pairs[i].step != c->pairs[i - 1].step;
	return steps;
}

static size_t metric_column(const mspec_comparison *c, const char *metric)
{
	size_t k = 0;
	while (k < c->metric_count && strcmp(c->metrics[k], metric))
		k++;
	return k;
}

static int group_values(grouped *g, const subject *s, const char *metric)
{
	bool one = s->kind == SUBJECT_RUN;
	*g = (grouped){.subject = s, .groups = mspec_groups(),
	               .step_count = one ? s->track->run->count : count_pairs(s->comparison)};
	while (g->groups[g->group_count] && g->group_count < MOST_GROUPS)
		g->group_count++;
	g->spreads = muon_alloc(2 * g->group_count * g->step_count + 1, sizeof *g->spreads);
	for (int side = 0; side < 2; side++)
		g->steps[side] = muon_alloc(g->step_count + 1, sizeof *g->steps[side]);
	if (!g->spreads || !g->steps[0] || !g->steps[1])
		return MUON_E_MEMORY;
	for (size_t i = 0; one && i < g->step_count; i++)
		g->steps[0][i] = s->track->run->checkpoints[i].step;
	if (one)
		take_track(g, s->track, metric);
	else if (metric_column(s->comparison, metric) < s->comparison->metric_count)
		take_comparison(g, s->comparison, metric_column(s->comparison, metric));
	return MUON_OK;
}

static void release_grouped(grouped *g)
{
	muon_free(g->spreads);
	muon_free(g->steps[0]);
	muon_free(g->steps[1]);
}

/* ---- axes ------------------------------------------------------------------------------------------- */

bool steps_want_log(const double *steps, size_t count)
{
	double least = INFINITY, most = 0;
	for (size_t i = 0; i < count; i++) {
		if (steps[i] > 0 && steps[i] < least)
			least = steps[i];
		most = fmax(most, steps[i]);
	}
	return most > 30 * least;
}

void put_step_axis(figure *f, const double *steps, size_t count, bool log)
{
	double first = INFINITY, last = 0;
	for (size_t i = 0; i < count && log; i++) {
		first = steps[i] > 0 ? fmin(first, steps[i]) : first;
		last = fmax(last, steps[i]);
	}
	if (log)
		muon_text_format(&f->script,
		                 "set logscale x 10\nset format x '%%g'\nset xrange [%.8g:%.8g]\n",
		                 first / 1.05, last * 1.05);
}

const char *step_word(const subject *s)
{
	const mspec_run *run = subject_run(s, 0);
	return run->positions ? "checkpoint" : "step";
}

/* ---- a panel for each group -------------------------------------------------------------------------- */

static void add_band(const grouped *g, int side, size_t group, bool log, muon_text *data,
                     double range[2])
{
	muon_text_format(data, "# %s, %s\n", g->groups[group], side ? "b" : "a");
	for (size_t k = 0; k < g->step_count; k++) {
		const spread *s = spread_at(g, side, group, k);
		double step = g->steps[side][k];
		if (!(s->count > 0) || (log && !(step > 0)))
			continue;
		double mean = s->sum / s->count;
		double variance = s->count > 1
		                      ? (s->squares - s->sum * mean) / (s->count - 1)
		                      : 0;
		double deviation = variance > 0 ? sqrt(variance) : 0;
		muon_text_format(data, "%.15g %.8g %.8g %.8g\n", step, mean, mean - deviation,
		                 mean + deviation);
		range[0] = fmin(range[0], mean - deviation);
		range[1] = fmax(range[1], mean + deviation);
	}
	muon_text_add_string(data, "\n\n");
}

/* As many tics as there is room for. */
void put_band_axes(figure *f, double first, double last, bool log, const double range[2])
{
	double pad = range[1] > range[0] ? 0.06 * (range[1] - range[0]) : 0.01 * fabs(range[1]) + 1e-9;
	if (!(range[1] >= range[0]))
		return;
	muon_text_format(&f->script, "set yrange [%.8g:%.8g]\nset ytics %.8g\n", range[0] - pad,
	                 range[1] + pad, figure_tics(range[1] - range[0] + 2 * pad, 5));
	if (!log)
		muon_text_format(&f->script, "set xrange [%.8g:%.8g]\nset xtics %.8g\n", first,
		                 last > first ? last : first + 1, figure_tics(last - first, 4));
}

void put_band(muon_text *script, const subject *s, int side, int block, bool first)
{
	muon_text_format(script,
	                 "%sdata index %d using 1:3:4 with filledcurves fillstyle transparent solid "
	                 "0.2 noborder lc rgb '%s' notitle, \\\n  data index %d using 1:2 with "
	                 "linespoints pt 7 ps 0.35 lw 1.8 lc rgb '%s' ",
	                 first ? "plot " : ", \\\n  ", block, figure_color((size_t)side), block,
	                 figure_color((size_t)side));
	if (s->side_count < 2) {
		muon_text_add_string(script, "notitle");
		return;
	}
	muon_text_add_string(script, "title ");
	figure_quote(script, s->sides[side].label, 20, false);
}

static void add_group_panel(const grouped *g, panel_grid *grid, size_t group, bool log, int *block)
{
	figure *f = grid->figure;
	double range[2] = {INFINITY, -INFINITY};
	for (int side = 0; side < g->subject->side_count; side++)
		add_band(g, side, group, log, &f->data, range);
	panels_next(grid, g->groups[group]);
	put_band_axes(f, g->steps[0][0], g->steps[0][g->step_count - 1], log, range);
	for (int side = 0; side < g->subject->side_count; side++)
		put_band(&f->script, g->subject, side, (*block)++, !side);
	muon_text_add_string(&f->script, "\n");
}

static int add_group_panels(figure_list *list, const subject *s, const char *metric,
                            const char *name, const char *what)
{
	grouped g;
	panel_grid grid;
	int count = 0, block = 0, code = group_values(&g, s, metric);
	for (size_t i = 0; !code && i < g.group_count; i++)
		count += g.used[i];
	int shown = count < PANELS ? count : PANELS;
	figure *f = code || !count ? NULL
	                           : figure_add(list, name, panel_width(shown), panel_height(shown));
	if (!f) {
		release_grouped(&g);
		return code || count ? MUON_E_MEMORY : MUON_OK;
	}
	bool log = steps_want_log(g.steps[0], g.step_count);
	muon_text_format(&f->title, "%s by group", what);
	muon_text_format(&f->words,
	                 "%s over %ss, by group: the mean over the group's matrices, and in the band "
	                 "one standard deviation of them to either side.%s%s",
	                 what, step_word(s), log ? " Steps by their logarithm, without step 0." : "",
	                 count > shown ? " Further groups are in the table only." : "");
	put_step_axis(f, g.steps[0], g.step_count, log);
	muon_text_add_string(&f->script, "set format y '%.4g'\nset tics font ',10'\n"
	                                 "set key bottom right\n");
	panels_begin(&grid, f, shown, step_word(s), what, false);
	for (size_t i = 0; i < g.group_count && shown; i++)
		if (g.used[i]) {
			add_group_panel(&g, &grid, i, log, &block);
			shown--;
		}
	panels_end(&grid);
	release_grouped(&g);
	return MUON_OK;
}

/* ---- growth --------------------------------------------------------------------------------------------- */

double precision_limit(double increment, double share)
{
	const int half_step = 8; /* half a bf16 step at 2^e is 2^(e - 8) */
	return increment > 0 ? ldexp(1, half_step + (int)ceil(log2(increment * share))) : NAN;
}

static const mspec_series *series_of(const mspec_track *t, mspec_series_kind kind,
                                     const char *metric, size_t *from)
{
	for (; *from < t->series_count; ++*from) {
		const mspec_series *s = &t->series[*from];
		if (s->kind == kind && !strcmp(s->metric, metric))
			return &t->series[(*from)++];
	}
	return NULL;
}

typedef struct growth {
	figure *figure;
	muon_text plot;      /* the plot command, which comes after the ranges */
	const subject *subject;
	double last, first;  /* steps */
	double low, high;    /* values */
	double end;          /* of the steps shown */
	int blocks;
	bool begun;
} growth;

static void add_line(growth *g, const char *style, const char *title)
{
	muon_text_format(&g->plot, "%sdata index %d using 1:2 with %s title ",
	                 g->begun ? ", \\\n  " : "plot ", g->blocks++, style);
	figure_quote(&g->plot, title, 60, false);
	g->begun = true;
}

static void add_growth_series(growth *g, const mspec_series *s, size_t index)
{
	char style[128];
	bool model = s->kind == MSPEC_SERIES_MODEL;
	muon_text_format(&g->figure->data, "# %s\n", model ? "all weights" : s->group);
	for (size_t k = 0; k < s->count; k++) {
		if (!(s->steps[k] > 0) || !(s->values[k] > 0))
			continue;
		muon_text_format(&g->figure->data, "%.15g %.8g\n", s->steps[k], s->values[k]);
		g->first = fmin(g->first, s->steps[k]);
		g->last = fmax(g->last, s->steps[k]);
		g->low = fmin(g->low, s->values[k]);
		g->high = fmax(g->high, s->values[k]);
	}
	muon_text_add_string(&g->figure->data, "\n\n");
	if (model)
		snprintf(style, sizeof style, "linespoints pt 7 ps 0.5 lw 3 lc rgb 'black'");
	else
		snprintf(style, sizeof style,
		         "linespoints pt %d ps 0.45 lw 1.6 lc rgb '%s' dt %d", index < 7 ? 7 : 5,
		         figure_color(index), index < 7 ? 1 : 2);
	add_line(g, style, model ? "all weights" : s->group);
}

static void add_level(growth *g, double value, const char *style, const char *title)
{
	if (!(value > 0) || value > 300 * g->high || value < g->low / 300)
		return;
	muon_text_format(&g->figure->data, "# limit\n%.15g %.8g\n%.15g %.8g\n\n\n", g->first, value,
	                 g->end, value);
	add_line(g, style, title);
}

/* Where the fitted power leads from the last value. */
static void add_projection(growth *g, const mspec_series *s, const mspec_trend *t)
{
	enum { POINTS = 24 };
	size_t last = s->count;
	while (last && !(s->values[last - 1] > 0))
		last--;
	if (!last || isnan(t->exponent))
		return;
	double from = s->steps[last - 1], value = s->values[last - 1];
	muon_text_add_string(&g->figure->data, "# projection\n");
	for (int i = 0; i <= POINTS; i++) {
		double step = from * pow(g->end / from, (double)i / POINTS);
		muon_text_format(&g->figure->data, "%.15g %.8g\n", step,
		                 value * pow(step / from, t->exponent));
	}
	muon_text_add_string(&g->figure->data, "\n\n");
	add_line(g, "lines dt (6,4) lw 2 lc rgb 'black'", "projection of all weights");
}

static void describe_growth(growth *g, const mspec_trend *t, double limit)
{
	muon_text *words = &g->figure->words;
	const subject_side *side = &g->subject->sides[0];
	bool projected = !isnan(t->exponent) && !t->note;
	muon_text_format(words, "RMS of the weights over %ss, both by their logarithm, of all weights "
	                        "and by group.", step_word(g->subject));
	if (projected)
		muon_text_format(words, " All weights grow as %s^%.3g (standard error %.2g).",
		                 step_word(g->subject), t->exponent, t->exponent_error);
	else if (t->note)
		muon_text_format(words, " No projection: %s.", t->note);
	if (isnan(limit))
		muon_text_add_string(words, " No limit is drawn: the learning rate is not known "
		                            "(--lr).");
	else
		muon_text_format(words,
		                 " From an RMS of %.4g on, half a bf16 step is as large as a step of "
		                 "the optimizer (%.3g), and weights kept in bf16 stand still.%s "
		                 "bf16's largest number, 3.39e38, is far above.",
		                 limit, side->lr * side->update_rms,
		                 limit > 300 * g->high ? " That is beyond the figure." : "");
	if (t->crosses && t->at <= g->last)
		muon_text_format(words, " All weights were there by step %.15g.", t->at);
	else if (projected && t->crosses)
		muon_text_format(words, " At this rate it is reached at step %.3g (%.3g to %.3g).",
		                 t->at, t->low, t->high);
}

static int fit_model(const mspec_series *model, double limit, mspec_trend *t, muon_arena *arena)
{
	mspec_trend_rules rules = {.level = 0.95};
	return mspec_trend_fit(t, model, limit, &rules, arena);
}

static int draw_growth(growth *g, const mspec_series *model, muon_arena *arena)
{
	const mspec_track *track = g->subject->track;
	const subject_side *side = &g->subject->sides[0];
	double increment = side->lr * side->update_rms, limit = precision_limit(increment, 1);
	const mspec_series *s;
	size_t from = 0, index = 0;
	mspec_trend trend;
	int code = fit_model(model, limit, &trend, arena);
	if (code)
		return code;
	muon_text_add_string(&g->figure->title, "RMS growth");
	muon_text_format(&g->figure->script,
	                 "set logscale xy 10\nset xlabel '%s'\nset ylabel 'RMS of the weights'\n"
	                 "set format y '%%.3g'\nset format x '%%g'\n"
	                 "set key outside right center Left reverse\n",
	                 step_word(g->subject));
	figure_put_title(g->figure);
	add_growth_series(g, model, 0);
	while ((s = series_of(track, MSPEC_SERIES_GROUP, "rms", &from)))
		add_growth_series(g, s, index++);
	if (!(g->last > 0))
		return MUON_OK;
	bool projected = !isnan(trend.exponent) && !trend.note;
	g->end = projected ? 4 * g->last : g->last;
	if (projected)
		add_projection(g, model, &trend);
	add_level(g, precision_limit(increment, 0.25), "lines dt (2,3) lw 2 lc rgb '#e69f00'",
	          "bf16 rounds a step (watch)");
	add_level(g, limit, "lines dt (2,3) lw 2 lc rgb '#d55e00'", "bf16 loses a step (risk)");
	describe_growth(g, &trend, limit);
	muon_text_format(&g->figure->script, "set xrange [%.8g:%.8g]\n%s\n", g->first / 1.05,
	                 g->end * 1.05, g->plot.bytes ? g->plot.bytes : "");
	g->figure->script.failed |= g->plot.failed;
	return MUON_OK;
}

static int add_growth(figure_list *list, const subject *s)
{
	size_t from = 0;
	muon_arena arena = {0};
	const mspec_series *model = series_of(s->track, MSPEC_SERIES_MODEL, "rms", &from);
	if (!model)
		return MUON_OK;
	growth g = {.subject = s, .first = INFINITY, .low = INFINITY,
	            .figure = figure_add(list, "growth", 820, 430)};
	if (!g.figure)
		return MUON_E_MEMORY;
	int code = draw_growth(&g, model, &arena);
	if (code || !(g.last > 0))
		figure_drop(list);
	muon_text_release(&g.plot);
	muon_arena_release(&arena);
	return code;
}

/* ---- update RMS --------------------------------------------------------------------------------------------- */

static int add_update_rms(figure_list *list, const subject *s)
{
	bool any = false;
	for (int side = 0; side < s->side_count; side++)
		for (size_t i = 0; i < s->sides[side].recorded_count; i++)
			any |= s->sides[side].recorded_update_rms[i] > 0;
	if (!any)
		return MUON_OK;
	figure *f = figure_add(list, "update-rms", 640, 360);
	if (!f)
		return MUON_E_MEMORY;
	muon_text_add_string(&f->title, "Update RMS");
	muon_text_format(&f->words, "RMS of what the learning rate multiplies, as the checkpoints "
	                            "record it, over %ss.", step_word(s));
	bool log = steps_want_log(s->sides[0].steps, s->sides[0].recorded_count);
	put_step_axis(f, s->sides[0].steps, s->sides[0].recorded_count, log);
	figure_put_title(f);
	muon_text_format(&f->script,
	                 "set xlabel '%s'\nset ylabel 'update RMS'\nset yrange [0:*]\n"
	                 "set offsets 0,0,graph 0.05,0\nset key bottom right\nplot ", step_word(s));
	for (int side = 0; side < s->side_count; side++) {
		const subject_side *t = &s->sides[side];
		for (size_t i = 0; i < t->recorded_count; i++)
			if (t->recorded_update_rms[i] > 0 && (!log || t->steps[i] > 0))
				muon_text_format(&f->data, "%.15g %.8g\n", t->steps[i],
				                 t->recorded_update_rms[i]);
		muon_text_add_string(&f->data, "# end\n\n\n");
		muon_text_format(&f->script,
		                 "%sdata index %d using 1:2 with linespoints pt 7 ps 0.5 lw 2 lc rgb "
		                 "'%s' ",
		                 side ? ", \\\n  " : "", side, figure_color((size_t)side));
		if (s->side_count > 1) {
			muon_text_add_string(&f->script, "title ");
			figure_quote(&f->script, t->label, 24, false);
		} else {
			muon_text_add_string(&f->script, "notitle");
		}
	}
	muon_text_add_string(&f->script, "\n");
	return MUON_OK;
}

int figures_of_steps(figure_list *list, const subject *s, muon_error *err)
{
	bool steps = s->kind == SUBJECT_RUN ||
	             (s->kind == SUBJECT_COMPARISON && count_pairs(s->comparison) > 1);
	int code = MUON_OK;
	if (!steps)
		return MUON_OK;
	if (s->kind == SUBJECT_RUN)
		code = add_growth(list, s);
	else
		code = add_group_panels(list, s, "rms", "growth", "RMS of the weights");
	if (!code)
		code = add_group_panels(list, s, "svd_entropy", "entropy-steps", "SVD entropy");
	if (!code)
		code = add_update_rms(list, s);
	if (!code)
		code = add_recorded(list, s);
	return code ? muon_fail(err, code, NULL, "%s", muon_error_text(code)) : MUON_OK;
}
