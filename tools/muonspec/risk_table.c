/* The report for people: a line a kind, what is to be watched, and what could not be judged. */
#include "risk_output.h"

#include "common/screen.h"

#include "base/memory.h"
#include "base/text.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_SHOWN = 5 }; /* of a kind, unless --all */

static void print_file(const mspec_checkpoint_info *info)
{
	char text[1024];
	printf("%s: %s, %s layout", muon_escape(text, sizeof text, info->path), info->format,
	       info->layout);
	if (isfinite(info->step))
		printf(", step %.0f", info->step);
	if (info->optimizer)
		printf(", %s", muon_escape(text, sizeof text, info->optimizer));
}

static void print_setting(const char *name, double value, double given)
{
	char number[32];
	if (isnan(value))
		printf("%s unknown", name);
	else
		printf("%s %s%s", name, short_number(number, sizeof number, value),
		       isnan(given) ? "" : " (given)");
}

static void print_head(const mspec_risk_report *r, const mspec_risk_options *how)
{
	print_file(r->checkpoint);
	putchar('\n');
	if (r->earlier) {
		fputs("earlier: ", stdout);
		print_file(r->earlier);
		putchar('\n');
	}
	print_setting("lr", r->lr, how->lr);
	fputs(", ", stdout);
	print_setting("weight decay", r->weight_decay, how->weight_decay);
	fputs(", ", stdout);
	print_setting("update RMS", r->update_rms, how->update_rms);
	putchar('\n');
}

/* ---- kinds --------------------------------------------------------------------------------- */

/* Is `a` worse than `b`, or as bad with a worse value? */
static bool is_worse(const mspec_risk *a, const mspec_risk *b)
{
	if (a->verdict != b->verdict)
		return a->verdict > b->verdict;
	if (isnan(a->value) || isnan(b->value))
		return isnan(a->value) && !isnan(b->value);
	return mspec_risk_larger_is_worse(a->kind) ? a->value > b->value : a->value < b->value;
}

typedef struct tally {
	size_t counts[MSPEC_VERDICT_RISK + 1];
	const mspec_risk *worst;
} tally;

static tally tally_kind(const mspec_risk_report *r, mspec_risk_kind kind)
{
	tally t = {.worst = NULL};
	for (size_t i = 0; i < r->count; i++) {
		const mspec_risk *risk = &r->risks[i];
		if (risk->kind != kind)
			continue;
		t.counts[risk->verdict]++;
		if (!t.worst || is_worse(risk, t.worst))
			t.worst = risk;
	}
	return t;
}

static void number_cell(screen_table *table, double value)
{
	char text[32];
	table_cell(table, short_number(text, sizeof text, value));
}

/* Is the worst value beyond a limit that its verdict does not go with? */
static bool is_milder(const mspec_risk *worst, const mspec_risk_limits *limits)
{
	bool larger = mspec_risk_larger_is_worse(worst->kind);
	double value = worst->value;
	mspec_verdict plain = (larger ? value >= limits->risk : value <= limits->risk)
	                          ? MSPEC_VERDICT_RISK
	                      : (larger ? value >= limits->watch : value <= limits->watch)
	                          ? MSPEC_VERDICT_WATCH
	                          : MSPEC_VERDICT_OK;
	return worst->verdict < plain;
}

static const char *why_milder(const mspec_risk *worst)
{
	if (worst->kind == MSPEC_RISK_ATTENTION_LOGITS)
		return "attention_logits: no logit was measured; a bound from the weights alone is "
		       "only to be watched";
	if (worst->kind == MSPEC_RISK_GROWTH && worst->verdict == MSPEC_VERDICT_OK)
		return "growth: the RMS is beyond the equilibrium, and yet does not grow any more";
	return "growth: a single checkpoint does not tell whether the RMS still grows";
}

static void kind_cells(screen_table *table, const mspec_risk_report *r,
                       const mspec_risk_options *how, mspec_risk_kind kind)
{
	char text[32];
	tally t = tally_kind(r, kind);
	table_cell(table, mspec_risk_kind_name(kind));
	table_cell(table, t.worst ? mspec_verdict_name(t.worst->verdict) : "unjudged");
	for (int v = MSPEC_VERDICT_OK; v <= MSPEC_VERDICT_RISK; v++)
		table_cell(table, grouped_integer(text, sizeof text, (int64_t)t.counts[v]));
	short_number(text, sizeof text - 1, t.worst ? t.worst->value : NAN);
	if (t.worst && is_milder(t.worst, &how->limits[kind]))
		strcat(text, "*");
	table_cell(table, text);
	number_cell(table, how->limits[kind].watch);
	number_cell(table, how->limits[kind].risk);
}

/* What the stars in the table stand for. */
static void print_milder(const mspec_risk_report *r, const mspec_risk_options *how, int width)
{
	char text[160];
	for (int k = 0; k < MSPEC_RISK_KINDS; k++) {
		tally t = tally_kind(r, (mspec_risk_kind)k);
		if (!t.worst || !is_milder(t.worst, &how->limits[k]))
			continue;
		snprintf(text, sizeof text, "* %s", why_milder(t.worst));
		print_wrapped(stdout, text, 0, width);
	}
}

static bool print_kinds(const mspec_risk_report *r, const mspec_risk_options *how,
                        const tool_options *options)
{
	static const bool left[] = {true, true, false, false, false, false, false, false};
	static const char *const headers[] = {"kind", "verdict", "ok",       "watch",
	                                      "risk", "worst",   "watch at", "risk at"};
	enum { COLUMNS = sizeof headers / sizeof *headers };
	screen_table table = {.columns = COLUMNS, .left = left};
	for (size_t i = 0; i < COLUMNS; i++)
		table_cell(&table, headers[i]);
	for (int k = 0; k < MSPEC_RISK_KINDS; k++)
		kind_cells(&table, r, how, (mspec_risk_kind)k);
	putchar('\n');
	table_print(stdout, &table, screen_width(options->width), screen_colors(options->color));
	bool failed = table.failed;
	table_release(&table);
	print_milder(r, how, screen_width(options->width));
	return !failed;
}

/* ---- findings ------------------------------------------------------------------------------- */

static void print_finding(const mspec_risk *risk, int width)
{
	char name[1024], value[32], threshold[32];
	printf("  %s: %s", muon_escape(name, sizeof name, risk->name),
	       mspec_verdict_name(risk->verdict));
	if (!isnan(risk->value))
		printf(", %s against %s", short_number(value, sizeof value, risk->value),
		       short_number(threshold, sizeof threshold, risk->threshold));
	putchar('\n');
	print_wrapped(stdout, risk->reason, 4, width);
}

/* The worst first, else in the report's order. */
static int compare_risks(const void *x, const void *y)
{
	const mspec_risk *a = *(const mspec_risk *const *)x, *b = *(const mspec_risk *const *)y;
	if (is_worse(a, b) != is_worse(b, a))
		return is_worse(a, b) ? -1 : 1;
	return a < b ? -1 : a > b;
}

/* The worst findings of a kind, those that are not ok unless --all. False when out of memory. */
static bool print_findings(const mspec_risk_report *r, mspec_risk_kind kind,
                           const tool_options *options)
{
	tally t = tally_kind(r, kind);
	size_t count = 0, bad = t.counts[MSPEC_VERDICT_WATCH] + t.counts[MSPEC_VERDICT_RISK];
	size_t wanted = bad < MOST_SHOWN ? bad : MOST_SHOWN;
	const mspec_risk **risks = muon_alloc(r->count, sizeof *risks);
	if (!risks)
		return false;
	for (size_t i = 0; i < r->count; i++)
		if (r->risks[i].kind == kind)
			risks[count++] = &r->risks[i];
	qsort(risks, count, sizeof *risks, compare_risks);
	wanted = options->all ? count : wanted;
	if (wanted)
		printf("\n%s: %s\n", mspec_risk_kind_name(kind), mspec_risk_kind_meaning(kind));
	for (size_t i = 0; i < wanted; i++)
		print_finding(risks[i], screen_width(options->width));
	if (bad > wanted)
		printf("  and %zu more (--all shows them)\n", bad - wanted);
	muon_free(risks);
	return true;
}

/* ---- the rest ------------------------------------------------------------------------------- */

/* The binade in which the share of entries up to it reaches `share`. */
static int binade_at(const mspec_binades *b, double share)
{
	double sum = b->zeros;
	size_t i = 0;
	while (i + 1 < b->count && sum + b->share[i] < share)
		sum += b->share[i++];
	return b->first + (int)i;
}

static void print_binades(const mspec_binades *b, bool every)
{
	if (!b->count)
		return;
	printf("\nWeights by size: 5%% under 2^%d, half under 2^%d, 95%% under 2^%d",
	       binade_at(b, 0.05) + 1, binade_at(b, 0.5) + 1, binade_at(b, 0.95) + 1);
	if (b->zeros > 0)
		printf(", %.2g%% zeros", 100 * b->zeros);
	putchar('\n');
	for (size_t i = 0; every && i < b->count; i++)
		printf("  2^%-5d %8.4f%%\n", b->first + (int)i, 100 * b->share[i]);
}

static void print_unjudged(const mspec_risk_report *r, int width)
{
	if (r->unjudged_count)
		puts("\nNot judged:");
	for (size_t i = 0; i < r->unjudged_count; i++) {
		printf("  %s:\n", mspec_risk_kind_name(r->unjudged[i].kind));
		print_wrapped(stdout, r->unjudged[i].reason, 4, width);
	}
}

int risk_table(const mspec_risk_report *r, const mspec_risk_options *how,
               const tool_options *options, muon_error *err)
{
	print_head(r, how);
	bool ok = print_kinds(r, how, options);
	for (int k = 0; k < MSPEC_RISK_KINDS && ok; k++)
		ok = print_findings(r, (mspec_risk_kind)k, options);
	print_binades(&r->binades, options->verbose > 0);
	print_unjudged(r, screen_width(options->width));
	printf("\nVerdict: %s\n", mspec_verdict_name(r->verdict));
	return ok ? MUON_OK : muon_fail(err, MUON_E_MEMORY, NULL, "out of memory");
}
