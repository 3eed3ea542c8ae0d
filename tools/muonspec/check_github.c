/* Workflow commands of GitHub Actions: "::error title=TITLE::MESSAGE". */
#include "check_output.h"

#include "base/memory.h"
#include "base/text.h"

#include <string.h>

/* As the runner decodes them: '%' first, line ends everywhere, ':' and ',' in properties. */
static void print_data(const char *text, bool property)
{
	for (const char *c = text; *c; c++)
		if (*c == '%' || *c == '\r' || *c == '\n' || (property && (*c == ':' || *c == ',')))
			printf("%%%02X", (unsigned char)*c);
		else
			putchar(*c);
}

static bool print_gate(const mspec_gate *g)
{
	char *name = muon_escape_all(g->name);
	if (!name)
		return false;
	fputs("::error title=", stdout);
	print_data(g->metric, true);
	print_data(" of ", true);
	print_data(name, true);
	fputs("::", stdout);
	print_data(name, false); /* titles are not shown everywhere */
	print_data(": ", false);
	print_data(g->metric, false);
	putchar(' ');
	print_data(g->reason, false);
	putchar('\n');
	muon_free(name);
	return true;
}

int check_github(const check_result *result, muon_error *err)
{
	const mspec_gate_report *r = result->report;
	bool ok = true;
	/* first, as only ten of a step are shown */
	if (r->failed)
		printf("::error title=muonspec check::%zu of %zu gates failed\n", r->failed, r->count);
	else
		printf("::notice title=muonspec check::all %zu gates hold\n", r->count);
	for (size_t i = 0; i < r->count && ok; i++)
		ok = !r->gates[i].failed || print_gate(&r->gates[i]);
	return ok ? MUON_OK : muon_fail(err, MUON_E_MEMORY, NULL, "out of memory");
}
