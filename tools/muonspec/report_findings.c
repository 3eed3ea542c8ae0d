/* What a report says first, in words. */
#include "recorded.h"
#include "report_parts.h"

#include "common/screen.h"

#include "base/memory.h"
#include "base/statistics.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const char *number(char *out, double value)
{
	return short_number(out, 32, value);
}

static const char *side_name(const subject *s, int side)
{
	return s->side_count > 1 ? s->sides[side].label : "";
}

/* "muon: " before what is about one of two. */
static void begin_item(muon_text *page, const subject *s, int side)
{
	muon_text_add_string(page, "<li>");
	if (s->side_count > 1) {
		muon_text_add_string(page, "<b>");
		page_text(page, side_name(s, side));
		muon_text_add_string(page, ":</b> ");
	}
}

/* ---- weights ----------------------------------------------------------------------------------- */

static void count_matrices(muon_text *page, const subject *s, int side)
{
	const mspec_analysis *a = s->sides[side].analysis;
	char count[32], parameters[32];
	int64_t entries = 0;
	size_t bad = 0;
	for (size_t g = 0; g < a->group_count; g++)
		if (__builtin_add_overflow(entries, a->groups[g].parameters, &entries))
			entries = INT64_MAX;
	for (size_t i = 0; i < a->views.count; i++)
		bad += a->rows[i].code != 0;
	begin_item(page, s, side);
	muon_text_format(page, "%s %s, %s parameters, in %zu %s",
	                 grouped_integer(count, sizeof count, (int64_t)a->views.count),
	                 a->views.count == 1 ? "matrix" : "matrices",
	                 grouped_integer(parameters, sizeof parameters, entries), a->group_count,
	                 a->group_count == 1 ? "group" : "groups");
	if (bad)
		muon_text_format(page, "; <span class=\"risk\">%zu could not be analyzed</span> (NaN, "
		                       "Inf, too large or unreadable: see their status)", bad);
	muon_text_add_string(page, ".</li>\n");
}

static void describe_entropy(muon_text *page, const subject *s, int side)
{
	const mspec_analysis *a = s->sides[side].analysis;
	size_t entropy = subject_metric("svd_entropy"), excess = subject_metric("svd_entropy_excess");
	double *values = muon_alloc(2 * a->views.count + 1, sizeof *values);
	const mspec_row *lowest = NULL;
	size_t count = 0;
	char text[3][32];
	page->failed |= !values;
	for (size_t i = 0; values && i < a->views.count; i++) {
		const mspec_row *row = &a->rows[i];
		if (row->code || !isfinite(row->values[entropy]) || !isfinite(row->values[excess]))
			continue;
		values[count] = row->values[entropy];
		values[a->views.count + count++] = row->values[excess];
		if (!lowest || row->values[entropy] < lowest->values[entropy])
			lowest = row;
	}
	if (count) {
		begin_item(page, s, side);
		muon_text_format(page,
		                 "The median SVD entropy is %s; against matrices of the same shapes "
		                 "with Gaussian entries the median difference is %s. The lowest is %s, "
		                 "of ",
		                 number(text[0], muon_median(values, count)),
		                 number(text[1], muon_median(values + a->views.count, count)),
		                 number(text[2], lowest->values[entropy]));
		page_text(page, lowest->matrix->name);
		muon_text_add_string(page, ".</li>\n");
	}
	muon_free(values);
}

/* ---- risks ------------------------------------------------------------------------------------- */

static const mspec_risk *worst_of(const mspec_risk_report *r, int kind, size_t counts[3])
{
	const mspec_risk *worst = NULL;
	memset(counts, 0, 3 * sizeof *counts);
	for (size_t i = 0; i < r->count; i++) {
		const mspec_risk *risk = &r->risks[i];
		if ((int)risk->kind != kind)
			continue;
		counts[risk->verdict]++;
		bool worse = !worst || risk->verdict > worst->verdict;
		if (worst && risk->verdict == worst->verdict && isfinite(risk->value))
			worse = mspec_risk_larger_is_worse((mspec_risk_kind)kind)
			            ? risk->value > worst->value
			            : risk->value < worst->value;
		worst = worse ? risk : worst;
	}
	return worst;
}

static void describe_risks(muon_text *page, const subject *s, int side)
{
	const mspec_risk_report *r = s->sides[side].risk;
	size_t counts[3];
	const char *verdict = mspec_verdict_name(r->verdict);
	begin_item(page, s, side);
	muon_text_format(page, "What bf16 puts at risk: <span class=\"%s\">%s</span>.", verdict, verdict);
	muon_text_add_string(page, "<ul>\n");
	for (int kind = 0; kind < MSPEC_RISK_KINDS; kind++) {
		const mspec_risk *worst = worst_of(r, kind, counts);
		if (!worst)
			continue;
		verdict = mspec_verdict_name(worst->verdict);
		muon_text_format(page, "<li>%s: <span class=\"%s\">%s</span>; %zu ok, %zu to watch, %zu "
		                       "at risk",
		                 mspec_risk_kind_name((mspec_risk_kind)kind), verdict, verdict,
		                 counts[0], counts[1], counts[2]);
		if (worst->verdict != MSPEC_VERDICT_OK) {
			muon_text_add_string(page, ". The worst, ");
			page_text(page, worst->name);
			muon_text_add_string(page, ": ");
			page_text(page, worst->reason);
		}
		muon_text_add_string(page, ".</li>\n");
	}
	for (size_t i = 0; i < r->unjudged_count; i++) {
		muon_text_format(page, "<li class=\"dim\">%s, not judged: ",
		                 mspec_risk_kind_name(r->unjudged[i].kind));
		page_text(page, r->unjudged[i].reason);
		muon_text_add_string(page, ".</li>\n");
	}
	muon_text_add_string(page, "</ul></li>\n");
}

/* ---- runs -------------------------------------------------------------------------------------- */

static void describe_growth(muon_text *page, const mspec_trend *t)
{
	const mspec_series *s = t->series;
	double first = NAN, last = NAN;
	char text[4][32];
	for (size_t k = 0; k < s->count; k++) {
		first = isnan(first) ? s->values[k] : first;
		last = isnan(s->values[k]) ? last : s->values[k];
	}
	if (s->kind == MSPEC_SERIES_MODEL)
		muon_text_add_string(page, "<li>The RMS of all weights went from ");
	else {
		muon_text_add_string(page, "<li>");
		page_text(page, s->group);
		muon_text_add_string(page, ": from ");
	}
	muon_text_format(page, "%s to %s, %s times", number(text[0], first), number(text[1], last),
	                 number(text[2], last / first));
	if (!isnan(t->exponent))
		muon_text_format(page, "; as step<sup>%s</sup> with standard error %s",
		                 number(text[0], t->exponent), number(text[1], t->exponent_error));
	if (t->note) {
		muon_text_add_string(page, " (");
		page_text(page, t->note);
		muon_text_add_string(page, ")");
	}
	muon_text_add_string(page, ".</li>\n");
}

static void describe_run(muon_text *page, const mspec_track *track)
{
	const mspec_run *run = track->run;
	muon_text_format(page, "<li>%zu checkpoints, %s %.15g to %.15g", run->count,
	                 run->positions ? "places" : "steps", run->checkpoints[0].step,
	                 run->checkpoints[run->count - 1].step);
	if (run->set_aside_count)
		muon_text_format(page, "; %zu files were set aside (listed below)", run->set_aside_count);
	muon_text_add_string(page, ".</li>\n");
	for (size_t i = 0; i < track->trend_count; i++) {
		const mspec_trend *t = &track->trends[i];
		if (!strcmp(t->series->metric, "rms") && (t->series->kind == MSPEC_SERIES_MODEL ||
		                                          t->series->kind == MSPEC_SERIES_GROUP))
			describe_growth(page, t);
	}
}

/* ---- activations ------------------------------------------------------------------------------- */

/* From where to where, and the highest of any layer and step. */
static void describe_statistic(muon_text *page, const subject *s, int side, const char *metric)
{
	const mspec_track *t = subject_track(s, side);
	recorded_range first = {0}, last = {0}, top = {.high = -INFINITY};
	double step = NAN;
	char text[3][32];
	for (size_t k = 0; t && k < t->run->count; k++) {
		recorded_range r = recorded_at(t, metric, t->run->checkpoints[k].step);
		if (!r.count)
			continue;
		first = first.count ? first : r;
		last = r;
		step = r.high > top.high ? t->run->checkpoints[k].step : step;
		top = r.high > top.high ? r : top;
	}
	if (!first.count)
		return;
	begin_item(page, s, side);
	muon_text_format(page, "The %s of any layer went from %s to %s; the highest was %s, of %s at %s "
	                       "%.15g (%s).</li>\n",
	                 recorded_words(metric), number(text[0], first.high),
	                 number(text[1], last.high), number(text[2], top.high), top.highest,
	                 t->run->positions ? "checkpoint" : "step", step,
	                 strncmp(metric, "forward_", strlen("forward_")) ? "recorded" : "measured");
}

static void describe_activations(muon_text *page, const subject *s, int side)
{
	static const char *const told[] = {"largest attention logit", "largest activation"};
	const recorded_statistics r = recorded_of(s);
	for (size_t k = 0; k < sizeof told / sizeof *told; k++)
		for (int i = 0; i < r.count; i++)
			if (!strcmp(recorded_words(r.metrics[i]), told[k]))
				describe_statistic(page, s, side, r.metrics[i]);
}

/* ---- two of them --------------------------------------------------------------------------------- */

static void describe_finding(muon_text *page, const mspec_comparison *c, const mspec_finding *f)
{
	char text[4][32];
	bool a = f->share_higher_a >= f->share_higher_b, told = f->sign_test_p < 0.05;
	if (!f->count)
		return;
	muon_text_add_string(page, "<li>");
	if (told) {
		page_text(page, c->labels[a ? 0 : 1]);
		muon_text_format(page, " has the higher %s in %.0f%% of %zu pairs of matrices", f->metric,
		                 100 * (a ? f->share_higher_a : f->share_higher_b), f->count);
	} else {
		muon_text_format(page, "No difference in %s can be told from %zu pairs of matrices (",
		                 f->metric, f->count);
		page_text(page, c->labels[0]);
		muon_text_format(page, " is higher in %.0f%%)", 100 * f->share_higher_a);
	}
	muon_text_format(page, ": sign test p = %s, median difference %s",
	                 number(text[0], f->sign_test_p), number(text[1], f->median_difference));
	if (isfinite(f->low) && isfinite(f->high))
		muon_text_format(page, " (95%% interval %s to %s)", number(text[2], f->low),
		                 number(text[3], f->high));
	muon_text_add_string(page, ", ");
	page_text(page, c->labels[0]);
	muon_text_add_string(page, " minus ");
	page_text(page, c->labels[1]);
	muon_text_add_string(page, ".</li>\n");
}

/* Entropy is what Muon is about: it comes first. */
static void describe_comparison(muon_text *page, const mspec_comparison *c)
{
	for (int rest = 0; rest < 2; rest++)
		for (size_t i = 0; i < c->finding_count; i++)
			if ((strcmp(c->findings[i].metric, "svd_entropy") != 0) == (rest > 0))
				describe_finding(page, c, &c->findings[i]);
	if (c->unpaired_count)
		muon_text_format(page, "<li>%zu matrices, checkpoints or files have no partner (listed "
		                       "below).</li>\n",
		                 c->unpaired_count);
}

void report_findings(muon_text *page, const subject *s)
{
	muon_text_add_string(page, "<section id=\"findings\"><h2>Findings</h2>\n<ul>\n");
	if (s->kind == SUBJECT_COMPARISON)
		describe_comparison(page, s->comparison);
	if (s->kind == SUBJECT_RUN)
		describe_run(page, s->track);
	for (int side = 0; side < s->side_count; side++) {
		count_matrices(page, s, side);
		describe_entropy(page, s, side);
		describe_activations(page, s, side);
		describe_risks(page, s, side);
	}
	muon_text_add_string(page, "</ul></section>\n");
}
