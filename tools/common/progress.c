#include "progress.h"

#include "messages.h"

#include "base/clock.h"
#include "base/text.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void progress_start(progress_line *line, when shown, bool quiet)
{
	*line = (progress_line){.started = muon_seconds()};
	line->shown = shown == WHEN_ALWAYS ||
	              (shown == WHEN_AUTO && !quiet && isatty(fileno(messages())) &&
	               getenv("TERM") && strcmp(getenv("TERM"), "dumb"));
}

static void format_time(char *text, size_t capacity, double seconds)
{
	if (seconds < 99.5)
		snprintf(text, capacity, "%.0f s", seconds);
	else if (seconds < 5400)
		snprintf(text, capacity, "%.0f min", seconds / 60);
	else
		snprintf(text, capacity, "%.1f h", seconds / 3600);
}

void progress_update(progress_line *line, double done, double total, const char *label)
{
	double now = muon_seconds(), spent = now - line->started;
	if (!line->shown || spent < 0.3 || now - line->last < 0.1 || !(total > 0))
		return;
	char left[32] = "", name[80];
	double share = done < total ? done / total : 1;
	if (share > 0.005 || spent > 5)
		format_time(left, sizeof left, share > 0 ? spent * (1 - share) / share : 0);
	muon_escape(name, 40, label ? label : "");
	fprintf(messages(), "\r\033[K%3.0f%%  %s%s%s", 100 * share, *left ? left : "",
	        *left ? " left  " : "", name);
	fflush(messages());
	line->last = now;
	line->drawn = true;
}

void progress_end(progress_line *line)
{
	if (line->drawn) {
		fputs("\r\033[K", messages());
		fflush(messages());
	}
	line->drawn = false;
}
