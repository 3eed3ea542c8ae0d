#include "csv_output.h"

#include "base/text.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static bool line_begun;

static void separate(void)
{
	if (line_begun)
		putchar(',');
	line_begun = true;
}

void csv_text(const char *text)
{
	char escaped[4096];
	separate();
	muon_escape(escaped, sizeof escaped, text ? text : "");
	bool formula = *escaped && strchr("=+-@", *escaped);
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

void csv_end(void)
{
	putchar('\n');
	line_begun = false;
}
