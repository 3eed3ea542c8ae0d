/* The progress line on standard error. */
#ifndef MUONSPEC_TOOL_PROGRESS_H
#define MUONSPEC_TOOL_PROGRESS_H

#include "option_table.h"

typedef struct progress_line {
	bool shown;
	double started, last; /* seconds */
	bool drawn;
} progress_line;

/* Shown always, never, or (auto) on a terminal unless `quiet`. */
void progress_start(progress_line *line, when shown, bool quiet);
/* `done` of `total` units of work; `label` is escaped here. */
void progress_update(progress_line *line, double done, double total, const char *label);
/* Wipe the line. */
void progress_end(progress_line *line);

#endif
