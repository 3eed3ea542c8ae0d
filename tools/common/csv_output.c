#include "csv_output.h"

#include "base/memory.h"
#include "base/text.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static bool line_begun, incomplete;

static void separate(void)
{
	if (line_begun)
		putchar(',');
	line_begun = true;
}

/* Of those that spreadsheets take for one: = + - @, of full width too. */
static bool begins_formula(const char *text)
{
	static const char *const wide[] = {"\xef\xbc\x9d", "\xef\xbc\x8b", "\xef\xbc\x8d",
	                                   "\xef\xbc\xa0"};
	for (size_t i = 0; i < sizeof wide / sizeof *wide; i++)
		if (!strncmp(text, wide[i], strlen(wide[i])))
			return true;
	return *text && strchr("=+-@", *text);
}

/* Without control characters: escaped. */
static void print_cell(const char *escaped)
{
	bool formula = begins_formula(escaped);
	bool quoted = escaped[strcspn(escaped, ",\" ;")] != 0;
	if (quoted)
		putchar('"');
	if (formula)
		putchar('\'');
	for (const char *c = escaped; *c; c++) {
		if (*c == '"')
			putchar('"');
		putchar(*c);
	}
	if (quoted)
		putchar('"');
}

void csv_text(const char *text)
{
	separate();
	char *escaped = muon_escape_all(text ? text : "");
	if (escaped)
		print_cell(escaped);
	else
		incomplete = true;
	muon_free(escaped);
}

void csv_list(const char *const *texts, size_t count)
{
	muon_text all = {0};
	separate();
	for (size_t i = 0; i < count; i++)
		muon_text_format(&all, "%s%s", i ? "; " : "", texts[i]);
	if (all.bytes && !all.failed)
		print_cell(all.bytes);
	incomplete |= all.failed;
	muon_text_release(&all);
}

void csv_number(double value)
{
	separate();
	if (!isnan(value))
		printf("%.17g", value);
}

void csv_integer(int64_t value)
{
	separate();
	printf("%lld", (long long)value);
}

int csv_end(muon_error *err)
{
	bool failed = incomplete;
	putchar('\n');
	line_begun = incomplete = false;
	return failed ? muon_fail(err, MUON_E_MEMORY, NULL, "out of memory") : MUON_OK;
}
