/* JUnit XML: what Ant's schema asks for and Jenkins' allows. */
#include "check_output.h"

#include "base/memory.h"
#include "base/text.h"

#include <string.h>
#include <time.h>

/* Of an escaped text, which holds no control characters: XML has no way to write U+FFFE and
 * U+FFFF. */
static void print_text(FILE *to, const char *text)
{
	for (const char *c = text; *c; c++) {
		if (!strncmp(c, "\xef\xbf\xbe", 3) || !strncmp(c, "\xef\xbf\xbf", 3)) {
			fprintf(to, "\\xef\\xbf\\x%02x", (unsigned char)c[2]);
			c += 2;
			continue;
		}
		switch (*c) {
		case '&': fputs("&amp;", to); break;
		case '<': fputs("&lt;", to); break;
		case '>': fputs("&gt;", to); break;
		case '"': fputs("&quot;", to); break;
		case '\'': fputs("&apos;", to); break;
		default: fputc(*c, to);
		}
	}
}

/* name="text" behind a space; false when out of memory. */
static bool print_attribute(FILE *to, const char *name, const char *text)
{
	char *escaped = muon_escape_all(text);
	if (!escaped)
		return false;
	fprintf(to, " %s=\"", name);
	print_text(to, escaped);
	fputc('"', to);
	muon_free(escaped);
	return true;
}

static bool print_case(FILE *to, const mspec_gate *g)
{
	fputs("    <testcase", to);
	bool ok = print_attribute(to, "classname", g->name) && print_attribute(to, "name", g->metric);
	fputs(" time=\"0\"", to);
	if (!g->failed) {
		fputs("/>\n", to);
		return ok;
	}
	fputs(">\n      <failure type=\"", to);
	print_text(to, mspec_gate_cause_name(g->cause));
	fputs("\" message=\"", to);
	print_text(to, g->reason);
	fputs("\">", to);
	print_text(to, g->reason);
	fputs("</failure>\n    </testcase>\n", to);
	return ok;
}

static bool print_properties(FILE *to, const check_result *result)
{
	const tool_options *o = result->options;
	const mspec_measurement *m = result->now;
	const char *const names[] = {"version", "of", "path", "baseline", "rules"};
	const char *const values[] = {muon_version(), mspec_measured_kind_name(m->kind),
	                              m->sources[m->source_count - 1].path, o->baseline, o->rules};
	bool ok = true;
	fputs("    <properties>\n", to);
	for (size_t i = 0; i < sizeof names / sizeof *names && ok; i++) {
		if (!values[i])
			continue;
		fprintf(to, "      <property name=\"%s\"", names[i]);
		ok = print_attribute(to, "value", values[i]);
		fputs("/>\n", to);
	}
	fputs("    </properties>\n", to);
	return ok;
}

int check_junit(FILE *to, const check_result *result, muon_error *err)
{
	const mspec_gate_report *r = result->report;
	time_t now = time(NULL);
	struct tm utc = {0};
	char stamp[32] = "";
	gmtime_r(&now, &utc);
	strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &utc);
	fprintf(to,
	        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n"
	        "  <testsuite name=\"muonspec check\" package=\"muonspec\" id=\"0\" "
	        "timestamp=\"%s\" hostname=\"localhost\" tests=\"%zu\" failures=\"%zu\" errors=\"0\" "
	        "time=\"%.3f\">\n",
	        stamp, r->count, r->failed, result->seconds);
	bool ok = print_properties(to, result);
	for (size_t i = 0; i < r->count && ok; i++)
		ok = print_case(to, &r->gates[i]);
	fputs("    <system-out/>\n    <system-err/>\n  </testsuite>\n</testsuites>\n", to);
	return ok ? MUON_OK : muon_fail(err, MUON_E_MEMORY, NULL, "out of memory");
}
