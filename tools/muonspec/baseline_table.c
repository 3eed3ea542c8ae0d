#include "baseline_output.h"
#include "gate_input.h"

#include "common/screen.h"

#include "base/memory.h"
#include "base/text.h"

#include <math.h>
#include <string.h>

enum { MOST_SHOWN = 20 }; /* unless --all */

/* ---- what changes ------------------------------------------------------------------------- */

typedef struct changes {
	screen_table table;
	size_t most, count, added, removed;
} changes;

static void number_cell(screen_table *table, double value)
{
	char text[32];
	table_cell(table, short_number(text, sizeof text, value));
}

static void add_value(changes *c, const mspec_subject *s, const char *metric, double before,
                      double now)
{
	char name[1024], text[1200], share[32] = "-";
	if (before == now || (isnan(before) && isnan(now)))
		return;
	if (c->count++ >= c->most)
		return;
	if (isfinite(now / before))
		snprintf(share, sizeof share, "%+.3g%%", 100 * (now / before - 1));
	snprintf(text, sizeof text, "%s of %s", metric, muon_escape(name, sizeof name, s->name));
	table_cell(&c->table, text);
	number_cell(&c->table, before);
	number_cell(&c->table, now);
	table_cell(&c->table, share);
}

static void add_verdict(changes *c, const mspec_subject *s, const mspec_measure *before, int now)
{
	char name[1024], text[1200];
	if (before->verdict == now || c->count++ >= c->most)
		return;
	snprintf(text, sizeof text, "%s of %s", before->metric, muon_escape(name, sizeof name, s->name));
	table_cell(&c->table, text);
	table_cell(&c->table, mspec_verdict_name((mspec_verdict)before->verdict));
	table_cell(&c->table, now < 0 ? "-" : mspec_verdict_name((mspec_verdict)now));
	table_cell(&c->table, "");
}

static void add_subject(changes *c, const mspec_subject *before, const mspec_subject *s)
{
	for (size_t k = 0; k < before->count; k++) {
		const mspec_measure *was = &before->measures[k],
		                    *is = mspec_find_measure(s, was->metric);
		if (was->verdict != MSPEC_NO_VERDICT)
			add_verdict(c, s, was, is ? is->verdict : MSPEC_NO_VERDICT);
		else
			add_value(c, s, was->metric, was->value, is ? is->value : NAN);
	}
	for (size_t k = 0; k < s->count; k++)
		if (!mspec_find_measure(before, s->measures[k].metric))
			add_value(c, s, s->measures[k].metric, NAN, s->measures[k].value);
}

static void print_presence(changes *c, const mspec_measurement *m, const mspec_subject_index *other,
                           const char *what, size_t *count)
{
	char name[1024];
	for (size_t i = 0; i < m->count; i++) {
		const mspec_subject *s = &m->subjects[i];
		if (mspec_index_find(other, s->kind, s->name))
			continue;
		if ((*count)++ < c->most)
			printf("  %s: %s\n", what, muon_escape(name, sizeof name, s->name));
	}
	if (*count > c->most)
		printf("  and %zu more %s (--all shows them)\n", *count - c->most, what);
}

static bool print_changes(const mspec_measurement *m, const mspec_measurement *before,
                          const tool_options *options)
{
	static const bool left[] = {true, false, false, false};
	static const char *const headers[] = {"value", "before", "now", "change"};
	changes c = {.table = {.columns = 4, .left = left},
	             .most = options->all ? SIZE_MAX : MOST_SHOWN};
	mspec_subject_index now = {0}, then = {0};
	bool ok = !mspec_index_subjects(&now, m) && !mspec_index_subjects(&then, before);
	for (size_t i = 0; i < 4; i++)
		table_cell(&c.table, headers[i]);
	if (ok) {
		print_presence(&c, before, &now, "no longer", &c.removed);
		print_presence(&c, m, &then, "new", &c.added);
	}
	for (size_t i = 0; i < m->count && ok; i++) {
		const mspec_subject *was =
		    mspec_index_find(&then, m->subjects[i].kind, m->subjects[i].name);
		if (was)
			add_subject(&c, was, &m->subjects[i]);
	}
	printf("%zu values change, %zu entries are new, %zu are no longer there\n", c.count, c.added,
	       c.removed);
	if (c.count) {
		putchar('\n');
		table_print(stdout, &c.table, screen_width(options->width),
		            screen_colors(options->color));
	}
	if (c.count > c.most)
		printf("and %zu more (--all shows them)\n", c.count - c.most);
	ok &= !c.table.failed;
	table_release(&c.table);
	mspec_index_release(&now);
	mspec_index_release(&then);
	return ok;
}

int baseline_table(const mspec_measurement *m, const mspec_measurement *before,
                   const tool_options *options, muon_error *err)
{
	char path[1024];
	size_t matrices = count_subjects(m, MSPEC_SUBJECT_MATRIX);
	printf("%s: baseline of a %s, %zu file%s, %zu %s, %zu metric%s\n",
	       muon_escape(path, sizeof path, options->output), mspec_measured_kind_name(m->kind),
	       m->source_count, m->source_count == 1 ? "" : "s", matrices,
	       matrices == 1 ? "matrix" : "matrices", m->metric_count,
	       m->metric_count == 1 ? "" : "s");
	if (before && !print_changes(m, before, options))
		return muon_fail(err, MUON_E_MEMORY, NULL, "out of memory");
	return MUON_OK;
}
