/* Activations over the steps of runs. */
#include "figures.h"
#include "recorded.h"

#include "base/memory.h"

#include <math.h>

/* Steps at which a side knows a statistic; *zero: it is 0 at all of them. */
static size_t known_steps(const mspec_track *t, const char *metric, bool *zero)
{
	size_t count = 0;
	*zero = true;
	for (size_t k = 0; t && k < t->run->count; k++) {
		recorded_range r = recorded_at(t, metric, t->run->checkpoints[k].step);
		count += r.count > 0;
		*zero &= !r.count || (r.low == 0 && r.high == 0);
	}
	return count;
}

/* Is there a line to draw: two steps or more of which something is known, not 0 throughout? */
static bool is_line(const subject *s, const char *metric)
{
	bool line = false, zero;
	for (int side = 0; side < s->side_count; side++)
		line |= known_steps(subject_track(s, side), metric, &zero) > 1 && !zero;
	return line;
}

static recorded_statistics lines_of(const subject *s)
{
	recorded_statistics all = recorded_of(s), lines = {.count = 0};
	for (int i = 0; i < all.count; i++)
		if (is_line(s, all.metrics[i]))
			lines.metrics[lines.count++] = all.metrics[i];
	return lines;
}

/* The steps of both sides, for the axis; NULL when out of memory. */
static double *steps_of(const subject *s, size_t *count)
{
	size_t room = 0;
	for (int side = 0; side < s->side_count; side++)
		room += subject_track(s, side)->run->count;
	double *steps = muon_alloc(room + 1, sizeof *steps);
	*count = 0;
	for (int side = 0; steps && side < s->side_count; side++) {
		const mspec_run *run = subject_track(s, side)->run;
		for (size_t k = 0; k < run->count; k++)
			steps[(*count)++] = run->checkpoints[k].step;
	}
	return steps;
}

static void add_band_data(muon_text *data, const mspec_track *t, const char *metric, bool log,
                          double range[2])
{
	for (size_t k = 0; k < t->run->count; k++) {
		double step = t->run->checkpoints[k].step;
		recorded_range r = recorded_at(t, metric, step);
		if (!r.count || (log && !(step > 0)))
			continue;
		muon_text_format(data, "%.15g %.8g %.8g %.8g\n", step, r.mean, r.low, r.high);
		range[0] = fmin(range[0], r.low);
		range[1] = fmax(range[1], r.high);
	}
	muon_text_add_string(data, "\n\n");
}

static void add_statistic(panel_grid *grid, const subject *s, const char *metric,
                          const double span[2], bool log, int *block)
{
	figure *f = grid->figure;
	double range[2] = {INFINITY, -INFINITY};
	bool drawn[2] = {false, false}, zero;
	for (int side = 0; side < s->side_count; side++) {
		drawn[side] = known_steps(subject_track(s, side), metric, &zero) > 0;
		if (drawn[side])
			add_band_data(&f->data, subject_track(s, side), metric, log, range);
	}
	panels_next(grid, recorded_words(metric));
	put_band_axes(f, span[0], span[1], log, range);
	for (int side = 0; side < s->side_count; side++)
		if (drawn[side])
			put_band(&f->script, s, side, (*block)++, !side || !drawn[0]);
	muon_text_add_string(&f->script, "\n");
}

static void describe(figure *f, const subject *s, const recorded_statistics *r, bool log)
{
	muon_text_add_string(&f->title, "Activations");
	muon_text_format(&f->words,
	                 "Activations over %ss, as the training recorded them or 'muonspec forward "
	                 "--store' measured them: the mean over the layers, and in the band all layers, "
	                 "from the least to the greatest. What is 0 throughout is in the table only.%s%s",
	                 step_word(s), log ? " Steps by their logarithm, without step 0." : "",
	                 r->count == MOST_STATISTICS ? " Further statistics are in the table only." : "");
}

int add_recorded(figure_list *list, const subject *s)
{
	recorded_statistics r = lines_of(s);
	size_t count;
	double span[2] = {INFINITY, -INFINITY}, *steps;
	int block = 0;
	if (!r.count)
		return MUON_OK;
	steps = steps_of(s, &count);
	figure *f = steps ? figure_add(list, "activations", panel_width(r.count), panel_height(r.count))
	                  : NULL;
	if (!f) {
		muon_free(steps);
		return MUON_E_MEMORY;
	}
	bool log = steps_want_log(steps, count);
	for (size_t i = 0; i < count; i++) {
		span[0] = fmin(span[0], steps[i]);
		span[1] = fmax(span[1], steps[i]);
	}
	panel_grid grid;
	describe(f, s, &r, log);
	put_step_axis(f, steps, count, log);
	muon_text_add_string(&f->script, "set format y '%.4g'\nset tics font ',10'\nset key top left\n");
	panels_begin(&grid, f, r.count, step_word(s), "of each layer", false);
	for (int i = 0; i < r.count; i++)
		add_statistic(&grid, s, r.metrics[i], span, log, &block);
	panels_end(&grid);
	muon_free(steps);
	return MUON_OK;
}
