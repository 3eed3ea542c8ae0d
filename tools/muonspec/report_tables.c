/* The numbers of a report. */
#include "recorded.h"
#include "report_parts.h"

#include "base/memory.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MOST_RISKS = 1000, MOST_COLUMNS = 96, MOST_LISTED = 1000 };

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* ---- weights ------------------------------------------------------------------------------------- */

static void begin_side(muon_text *page, const subject *s, int side, const char *what)
{
	muon_text_add_string(page, "<h3>");
	page_text(page, what);
	if (s->side_count > 1) {
		muon_text_add_string(page, ": ");
		page_text(page, s->sides[side].label);
	}
	muon_text_add_string(page, "</h3>\n");
}

static void group_count_cells(muon_text *page, const mspec_analysis *a, size_t groups, int what)
{
	static const char *const names[] = {"matrices", "ok", "parameters"};
	page_row(page);
	page_cell_text(page, names[what]);
	for (size_t g = 0; g < groups; g++) {
		const mspec_group_row *row = &a->groups[g];
		page_cell_number(page, what == 0   ? (double)row->count
		                       : what == 1 ? (double)row->ok
		                                   : (double)row->parameters);
	}
}

/* A row a metric: there are more of them than groups, as a rule. */
static void table_of_groups(muon_text *page, const mspec_analysis *a)
{
	const char *columns[MOST_COLUMNS] = {"metric"};
	size_t groups = a->group_count < MOST_COLUMNS - 1 ? a->group_count : MOST_COLUMNS - 1;
	for (size_t g = 0; g < groups; g++)
		columns[1 + g] = a->groups[g].group;
	if (groups < a->group_count)
		muon_text_format(page, "<p>The first %zu of %zu groups.</p>\n", groups, a->group_count);
	page_table_begin(page, "Groups: means over their matrices", columns, 1 + groups,
	                 3 + a->metric_count);
	for (int what = 0; what < 3; what++)
		group_count_cells(page, a, groups, what);
	for (size_t k = 0; k < a->metric_count; k++) {
		page_row(page);
		page_cell_text(page, mspec_metric_at(a->metrics[k])->name);
		for (size_t g = 0; g < groups; g++)
			page_cell_number(page, a->groups[g].summaries[k].mean);
	}
	page_table_end(page, 3 + a->metric_count);
}

static void table_of_matrices(muon_text *page, const mspec_analysis *a)
{
	static const char *const shown[] = {"rms",          "spectral_norm",    "svd_entropy",
	                                    "svd_entropy_excess", "effective_rank", "stable_rank",
	                                    "condition_number",   "alpha", "output_rms", "max_abs"};
	const char *columns[6 + COUNT(shown)] = {"matrix", "group", "rows", "cols", "dtype", "status"};
	for (size_t k = 0; k < COUNT(shown); k++)
		columns[6 + k] = shown[k];
	page_table_begin(page, "Matrices", columns, COUNT(columns), a->views.count);
	for (size_t i = 0; i < a->views.count; i++) {
		const mspec_row *row = &a->rows[i];
		page_row(page);
		page_cell_text(page, row->matrix->name);
		page_cell_text(page, row->matrix->group);
		page_cell_number(page, (double)row->matrix->rows);
		page_cell_number(page, (double)row->matrix->cols);
		page_cell_text(page, muon_dtype_name(row->matrix->dtype));
		page_cell_text(page, row->status);
		for (size_t k = 0; k < COUNT(shown); k++)
			page_cell_number(page, row->values[subject_metric(shown[k])]);
	}
	page_table_end(page, a->views.count);
}

static void table_of_skipped(muon_text *page, const subject_side *side)
{
	static const char *const columns[] = {"tensor", "why it is no row"};
	const mspec_views *v = &side->analysis->views;
	size_t count = v->skipped_count < MOST_LISTED ? v->skipped_count : MOST_LISTED;
	if (!count)
		return;
	muon_text_format(page, "<details><summary>%zu tensors that were not analyzed</summary>\n",
	                 v->skipped_count);
	page_table_begin(page, "Not analyzed", columns, COUNT(columns), 0);
	for (size_t i = 0; i < count; i++) {
		page_row(page);
		page_cell_text(page, mspec_tensor_at(side->checkpoint, v->skipped[i].tensor)->name);
		page_cell_text(page, v->skipped[i].reason);
	}
	page_table_end(page, 0);
	muon_text_add_string(page, "</details>\n");
}

/* The worst first: at risk, then to watch. */
static void table_of_risks(muon_text *page, const mspec_risk_report *r)
{
	static const char *const columns[] = {"name", "group", "kind", "verdict", "value", "threshold",
	                                      "reason"};
	size_t all = 0, shown = 0;
	for (size_t i = 0; i < r->count; i++)
		all += r->risks[i].verdict != MSPEC_VERDICT_OK;
	if (!all) {
		muon_text_format(page, "<p>%zu judged; none to watch, none at risk.</p>\n", r->count);
		return;
	}
	size_t rows = all < MOST_RISKS ? all : MOST_RISKS;
	muon_text_format(page, "<p>%zu of %zu are to be watched or at risk%s.</p>\n", all, r->count,
	                 rows < all ? "; the first thousand are listed ('muonspec risk' has them all)"
	                            : "");
	page_table_begin(page, "To watch and at risk", columns, COUNT(columns), rows);
	for (int verdict = MSPEC_VERDICT_RISK; verdict > MSPEC_VERDICT_OK; verdict--)
		for (size_t i = 0; i < r->count && shown < rows; i++) {
			const mspec_risk *risk = &r->risks[i];
			if ((int)risk->verdict != verdict)
				continue;
			shown++;
			page_row(page);
			page_cell_text(page, risk->name);
			page_cell_text(page, risk->group);
			page_cell_text(page, mspec_risk_kind_name(risk->kind));
			page_cell_text(page, mspec_verdict_name(risk->verdict));
			page_cell_number(page, risk->value);
			page_cell_number(page, risk->threshold);
			page_cell_text(page, risk->reason);
		}
	page_table_end(page, rows);
}

/* ---- runs ---------------------------------------------------------------------------------------- */

static size_t series_of_kind(const mspec_track *t, mspec_series_kind kind)
{
	size_t count = 0;
	for (size_t i = 0; i < t->series_count; i++)
		count += t->series[i].kind == kind;
	return count;
}

static double value_at(const mspec_series *s, double step)
{
	for (size_t k = 0; k < s->count; k++)
		if (s->steps[k] == step)
			return s->values[k];
	return NAN;
}

/* The columns of tables over steps: two words, then the last steps of the run. */
typedef struct step_columns {
	const char *names[MOST_COLUMNS];
	char steps[MOST_COLUMNS][32];
	size_t first, shown; /* checkpoints */
} step_columns;

static void name_steps(step_columns *c, const mspec_run *run, const char *first, const char *second)
{
	const size_t most = MOST_COLUMNS - 2;
	c->names[0] = first;
	c->names[1] = second;
	c->shown = run->count < most ? run->count : most;
	c->first = run->count - c->shown;
	for (size_t k = 0; k < c->shown; k++) {
		snprintf(c->steps[k], sizeof c->steps[k], "%.15g",
		         run->checkpoints[c->first + k].step);
		c->names[2 + k] = c->steps[k];
	}
}

static void row_of_steps(muon_text *page, const step_columns *c, const mspec_run *run,
                         const char *name, const mspec_series *s)
{
	page_row(page);
	page_cell_text(page, name);
	page_cell_text(page, s->metric);
	for (size_t k = 0; k < c->shown; k++)
		page_cell_number(page, value_at(s, run->checkpoints[c->first + k].step));
}

/* Of the model and its groups: one row a metric, one column a step. */
static void table_of_steps(muon_text *page, const mspec_track *t)
{
	step_columns columns;
	size_t rows = series_of_kind(t, MSPEC_SERIES_MODEL) + series_of_kind(t, MSPEC_SERIES_GROUP);
	name_steps(&columns, t->run, "group", "metric");
	page_table_begin(page, t->run->positions ? "By checkpoint" : "By step", columns.names,
	                 2 + columns.shown, rows);
	for (size_t i = 0; i < t->series_count; i++) {
		const mspec_series *s = &t->series[i];
		if (s->kind == MSPEC_SERIES_MODEL || s->kind == MSPEC_SERIES_GROUP)
			row_of_steps(page, &columns, t->run,
			             s->kind == MSPEC_SERIES_MODEL ? "(model)" : s->group, s);
	}
	page_table_end(page, rows);
}

/* Likewise of the layers' activations. */
static void table_of_recorded(muon_text *page, const subject *s, int side)
{
	const mspec_track *t = subject_track(s, side);
	const recorded_statistics statistics = recorded_of(s);
	step_columns columns;
	size_t rows = 0;
	for (size_t i = 0; t && i < t->series_count; i++)
		rows += is_recorded_series(&statistics, &t->series[i]);
	if (!rows)
		return;
	begin_side(page, s, side, "Activations");
	name_steps(&columns, t->run, "layer", "metric");
	page_table_begin(page, t->run->positions ? "Activations by checkpoint" : "Activations by step",
	                 columns.names, 2 + columns.shown, rows);
	for (size_t i = 0; i < t->series_count; i++)
		if (is_recorded_series(&statistics, &t->series[i]))
			row_of_steps(page, &columns, t->run, t->series[i].name, &t->series[i]);
	page_table_end(page, rows);
}

static void table_of_trends(muon_text *page, const mspec_track *t)
{
	static const char *const columns[] = {"name", "group", "metric", "first", "last", "exponent",
	                                      "standard error", "note"};
	size_t rows = 0;
	for (size_t i = 0; i < t->trend_count; i++)
		rows += !strcmp(t->trends[i].series->metric, "rms");
	page_table_begin(page, "Growth of the RMS: value ~ step^exponent", columns, COUNT(columns), rows);
	for (size_t i = 0; i < t->trend_count; i++) {
		const mspec_trend *trend = &t->trends[i];
		const mspec_series *s = trend->series;
		if (strcmp(s->metric, "rms"))
			continue;
		page_row(page);
		page_cell_text(page, s->name);
		page_cell_text(page, s->group);
		page_cell_text(page, s->metric);
		page_cell_number(page, s->count ? s->values[0] : NAN);
		page_cell_number(page, s->count ? s->values[s->count - 1] : NAN);
		page_cell_number(page, trend->exponent);
		page_cell_number(page, trend->exponent_error);
		page_cell_text(page, trend->note);
	}
	page_table_end(page, rows);
}

/* ---- two of them ----------------------------------------------------------------------------------- */

static void table_of_findings(muon_text *page, const mspec_comparison *c)
{
	const char *const columns[] = {"metric", "pairs", "share higher, first", "share higher, second",
	                               "ties", "sign test p", "median difference", "low", "high",
	                               "effect size"};
	page_table_begin(page, "Findings at the last checkpoints that pair", columns, COUNT(columns),
	                 c->finding_count);
	for (size_t i = 0; i < c->finding_count; i++) {
		const mspec_finding *f = &c->findings[i];
		const double values[] = {(double)f->count, f->share_higher_a, f->share_higher_b, f->ties,
		                         f->sign_test_p, f->median_difference, f->low, f->high,
		                         f->effect_size};
		page_row(page);
		page_cell_text(page, f->metric);
		for (size_t k = 0; k < COUNT(values); k++)
			page_cell_number(page, values[k]);
	}
	page_table_end(page, c->finding_count);
}

static void pair_cells(muon_text *page, const mspec_pair *p, size_t metric)
{
	page_cell_number(page, p->a[metric]);
	page_cell_number(page, p->b[metric]);
	page_cell_number(page, p->a[metric] - p->b[metric]);
}

static void table_of_group_pairs(muon_text *page, const mspec_comparison *c)
{
	static const char *const columns[] = {"group", "step", "metric", "first", "second",
	                                      "difference"};
	size_t rows = c->group_count * c->metric_count;
	page_table_begin(page, "Groups by step", columns, COUNT(columns), rows);
	for (size_t i = 0; i < c->group_count; i++)
		for (size_t k = 0; k < c->metric_count; k++) {
			page_row(page);
			page_cell_text(page, c->groups[i].name);
			page_cell_number(page, c->groups[i].step);
			page_cell_text(page, c->metrics[k]);
			pair_cells(page, &c->groups[i], k);
		}
	page_table_end(page, rows);
}

static void table_of_pairs(muon_text *page, const mspec_comparison *c)
{
	const char *columns[MOST_COLUMNS] = {"matrix", "group"};
	char names[MOST_COLUMNS][64];
	static const char *const parts[] = {"first", "second", "difference"};
	size_t count = 2, rows = 0;
	for (size_t k = 0; k < c->metric_count && count + 3 <= MOST_COLUMNS; k++)
		for (size_t i = 0; i < 3; i++, count++) {
			snprintf(names[count], sizeof *names, "%s, %s", c->metrics[k], parts[i]);
			columns[count] = names[count];
		}
	for (size_t i = 0; i < c->pair_count; i++)
		rows += c->pairs[i].step == c->step;
	page_table_begin(page, "Pairs of matrices at the last checkpoints that pair", columns, count,
	                 rows);
	for (size_t i = 0; i < c->pair_count; i++) {
		const mspec_pair *p = &c->pairs[i];
		if (p->step != c->step)
			continue;
		page_row(page);
		page_cell_text(page, p->name);
		page_cell_text(page, p->group);
		for (size_t k = 0; 2 + 3 * k < count; k++)
			pair_cells(page, p, k);
	}
	page_table_end(page, rows);
}

static void table_of_unpaired(muon_text *page, const mspec_comparison *c)
{
	static const char *const columns[] = {"side", "name", "reason"};
	size_t rows = c->unpaired_count < MOST_LISTED ? c->unpaired_count : MOST_LISTED;
	if (!rows)
		return;
	page_table_begin(page, "Without a partner", columns, COUNT(columns), rows);
	for (size_t i = 0; i < rows; i++) {
		page_row(page);
		page_cell_text(page, c->labels[c->unpaired[i].side]);
		page_cell_text(page, c->unpaired[i].name);
		page_cell_text(page, c->unpaired[i].reason);
	}
	page_table_end(page, rows);
}

static void tables_of_comparison(muon_text *page, const mspec_comparison *c)
{
	muon_text_add_string(page, "<p>First: ");
	page_text(page, c->labels[0]);
	muon_text_add_string(page, ". Second: ");
	page_text(page, c->labels[1]);
	muon_text_add_string(page, ". Differences are first minus second.</p>\n");
	table_of_findings(page, c);
	table_of_group_pairs(page, c);
	table_of_pairs(page, c);
	table_of_unpaired(page, c);
}

void report_tables(muon_text *page, const subject *s)
{
	muon_text_add_string(page, "<section id=\"tables\"><h2>Numbers</h2>\n<p class=\"dim\">"
	                           "<span class=\"scripted\" hidden>A click, or Enter, on a column's name "
	                           "sorts by it. </span>An empty cell is a number that is not defined "
	                           "there.</p>\n");
	if (s->kind == SUBJECT_COMPARISON)
		tables_of_comparison(page, s->comparison);
	if (s->kind == SUBJECT_RUN) {
		table_of_steps(page, s->track);
		table_of_trends(page, s->track);
	}
	for (int side = 0; side < s->side_count; side++) {
		const subject_side *t = &s->sides[side];
		begin_side(page, s, side, "Risks");
		table_of_risks(page, t->risk);
		table_of_recorded(page, s, side);
		begin_side(page, s, side, s->kind == SUBJECT_CHECKPOINT ? "Weights"
		                                                        : "Weights of the last checkpoint");
		table_of_groups(page, t->analysis);
		table_of_matrices(page, t->analysis);
		table_of_skipped(page, t);
	}
	muon_text_add_string(page, "</section>\n");
}

/* ---- glossary and provenance ------------------------------------------------------------------------ */

void report_glossary(muon_text *page, const subject *s)
{
	muon_text_add_string(page, "<section id=\"glossary\"><h2>Glossary</h2>\n<details><summary>Metrics "
	                           "and risks, with their formulas and sources</summary>\n<dl>\n");
	for (size_t k = 0; k < mspec_metric_count(); k++) {
		const mspec_metric *m = mspec_metric_at(k);
		muon_text_format(page, "<dt>%s</dt><dd>", m->name);
		page_text(page, m->formula);
		muon_text_add_string(page, " <span class=\"dim\">(unit: ");
		page_text(page, m->unit);
		muon_text_add_string(page, "; ");
		page_text(page, m->source);
		muon_text_add_string(page, ")</span></dd>\n");
	}
	for (int k = 0; k < MSPEC_RISK_KINDS; k++) {
		mspec_risk_kind kind = (mspec_risk_kind)k;
		muon_text_format(page, "<dt>risk: %s</dt><dd>", mspec_risk_kind_name(kind));
		page_text(page, mspec_risk_kind_meaning(kind));
		muon_text_format(page, " <span class=\"dim\">(watch at %g, risk at %g)</span></dd>\n",
		                 s->judging.limits[k].watch, s->judging.limits[k].risk);
	}
	muon_text_add_string(page, "</dl></details></section>\n");
}

static void known(muon_text *page, const char *word, double value)
{
	if (!isnan(value))
		muon_text_format(page, "; %s %.15g", word, value);
}

static void describe_checkpoint(muon_text *page, const mspec_checkpoint_info *info)
{
	page_text(page, info->path);
	muon_text_format(page, ": %s, layout %s", info->format, info->layout);
	known(page, "step", info->step);
	if (info->optimizer) {
		muon_text_add_string(page, "; optimizer ");
		page_text(page, info->optimizer);
	}
	known(page, "learning rate", info->lr);
	known(page, "weight decay", info->weight_decay);
	known(page, "tokens", info->tokens);
	known(page, "loss", info->loss);
}

static void list_set_aside(muon_text *page, const mspec_run *run)
{
	for (size_t i = 0; run && i < run->set_aside_count && i < MOST_LISTED; i++) {
		muon_text_add_string(page, "<li>Set aside: ");
		page_text(page, run->set_aside[i].path);
		muon_text_add_string(page, ": ");
		page_text(page, run->set_aside[i].reason);
		muon_text_add_string(page, "</li>\n");
	}
}

void report_provenance(muon_text *page, const subject *s)
{
	const tool_options *o = s->options;
	muon_text_format(page, "<footer id=\"provenance\"><h2>Provenance</h2>\n<ul>\n<li>muonspec %s, %s"
	                       "</li>\n<li>muonspec report",
	                 muon_version(), muon_blas_description());
	for (int i = 0; i < o->argument_count; i++) {
		muon_text_add_string(page, " ");
		page_text(page, o->arguments[i]);
	}
	muon_text_add_string(page, "</li>\n");
	for (int side = 0; side < s->side_count; side++) {
		muon_text_add_string(page, "<li>");
		if (s->side_count > 1) {
			page_text(page, s->sides[side].label);
			muon_text_add_string(page, ": ");
		}
		describe_checkpoint(page, mspec_info(s->sides[side].checkpoint));
		muon_text_add_string(page, "</li>\n");
		list_set_aside(page, subject_run(s, side));
	}
	muon_text_add_string(page, "</ul></footer>\n");
}
