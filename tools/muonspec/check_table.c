#include "check_output.h"

#include "common/screen.h"

#include "base/text.h"

#include <math.h>
#include <string.h>

enum { MOST_SHOWN = 20 }; /* failures, unless --all */

/* GitHub's runner obeys "##[command]" anywhere in a line of a log, and "::command::" where one
 * begins: no line here begins with a name, and none holds the former. */
static void print_name(const char *name)
{
	char text[1024];
	muon_escape(text, sizeof text, name);
	for (const char *c = text; *c; c++) {
		if (strncmp(c, "##[", 3)) {
			putchar(*c);
		} else {
			fputs("##\\x5b", stdout);
			c += 2;
		}
	}
}

static void print_gate(const mspec_gate *gate, int width)
{
	printf("%s  %s of ", gate->failed ? "FAILED" : "ok    ", gate->metric);
	print_name(gate->name);
	putchar('\n');
	print_wrapped(stdout, gate->reason, 8, width);
}

static void print_causes(const mspec_gate_report *r)
{
	const char *before = ": ";
	for (int cause = 0; cause < MSPEC_CAUSES; cause++) {
		size_t count = 0;
		for (size_t i = 0; i < r->count; i++)
			count += r->gates[i].failed && r->gates[i].cause == (mspec_gate_cause)cause;
		if (!count)
			continue;
		printf("%s%zu %s", before, count, mspec_gate_cause_name((mspec_gate_cause)cause));
		before = ", ";
	}
}

static void print_sources(const mspec_measurement *m)
{
	const mspec_source *last = &m->sources[m->source_count - 1];
	printf("%s of %zu file%s: ", mspec_measured_kind_name(m->kind), m->source_count,
	       m->source_count == 1 ? "" : "s");
	print_name(m->sources[0].path);
	if (m->source_count > 1) {
		fputs(m->source_count > 2 ? " ... " : ", ", stdout);
		print_name(last->path);
	}
	putchar('\n');
}

int check_table(const check_result *result, muon_error *err)
{
	const mspec_gate_report *r = result->report;
	const tool_options *options = result->options;
	size_t shown = 0, most = options->all ? SIZE_MAX : MOST_SHOWN;
	(void)err;
	print_sources(result->now);
	for (size_t i = 0; i < r->count; i++) {
		const mspec_gate *gate = &r->gates[i];
		if (!(options->all || gate->failed) || shown == most)
			continue;
		if (!shown++)
			putchar('\n');
		print_gate(gate, screen_width(options->width));
	}
	if (!options->all && r->failed > shown)
		printf("and %zu more (--all shows them, and those that hold)\n", r->failed - shown);
	printf("%s%zu gates, %zu failed", shown ? "\n" : "", r->count, r->failed);
	print_causes(r);
	printf("\nVerdict: %s\n", r->failed ? "failed" : "ok");
	return MUON_OK;
}
