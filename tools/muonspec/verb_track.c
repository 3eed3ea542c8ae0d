#include "run_options.h"
#include "track_output.h"
#include "verbs.h"

#include "common/nearest.h"

#include "analysis/run_files.h"
#include "base/clock.h"
#include "base/memory.h"
#include "base/text.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

/* ---- limits ------------------------------------------------------------------------------- */

/* "METRIC=VALUE"; the names are cut out of copies in `memory`. */
static int parse_limit(const char *text, mspec_limit *limit, muon_arena *memory, muon_error *err)
{
	char shown[128], *end;
	size_t length = strcspn(text, "=");
	double value = text[length] ? strtod(text + length + 1, &end) : NAN;
	if (!length || !text[length] || end == text + length + 1 || *end || !isfinite(value))
		return muon_fail(err, MUON_E_USAGE, NULL, "--limit takes METRIC=VALUE, not '%s'",
		                 muon_escape(shown, sizeof shown, text));
	char *name = muon_arena_string(memory, text);
	if (!name)
		return muon_fail(err, MUON_E_MEMORY, NULL, "out of memory");
	name[length] = 0;
	*limit = (mspec_limit){name, value};
	return MUON_OK;
}

static int parse_limits(const tool_options *options, mspec_limit **limits, muon_arena *memory,
                        muon_error *err)
{
	int code = MUON_OK;
	*limits = muon_arena_alloc(memory, options->limits.count + 1, sizeof **limits);
	if (!*limits)
		return muon_fail(err, MUON_E_MEMORY, NULL, "out of memory");
	for (size_t i = 0; i < options->limits.count && !code; i++)
		code = parse_limit(options->limits.items[i], &(*limits)[i], memory, err);
	return code;
}

/* ---- watching ------------------------------------------------------------------------------ */

/* The run's files, their sizes and times, in one line of text; NULL when out of memory. */
static char *look(const tool_options *options)
{
	mspec_run_files files;
	muon_text all = {0};
	mspec_run_files_find(&files, (const char *const *)options->arguments,
	                     (size_t)options->argument_count, NULL);
	for (size_t i = 0; i < files.count; i++) {
		struct stat st = {0};
		stat(files.paths[i], &st);
		muon_text_format(&all, "%s %lld %lld.%09ld\n", files.paths[i], (long long)st.st_size,
		                 (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
	}
	mspec_run_files_release(&files);
	muon_text_add_string(&all, ".");
	if (!all.failed)
		return all.bytes;
	muon_text_release(&all);
	return NULL;
}

static void pause_for(double seconds)
{
	struct timespec time = {(time_t)seconds, (long)(1e9 * (seconds - floor(seconds)))};
	nanosleep(&time, NULL);
}

/* Wait until the files are others than `seen` (taken over) and have stayed as they are from one look
 * to the next, so that none is being written. False when --idle is over or memory is. */
static bool wait_for_change(const tool_options *options, char *seen, char **now)
{
	double started = muon_seconds();
	char *before = NULL;
	*now = NULL;
	for (;;) {
		pause_for(options->interval);
		char *look_now = look(options);
		bool steady = look_now && before && !strcmp(look_now, before);
		if (!look_now || (steady && (!seen || strcmp(look_now, seen)))) {
			*now = look_now;
			break;
		}
		bool waiting = isnan(options->idle) || muon_seconds() - started < options->idle;
		muon_free(before);
		before = look_now;
		if (!waiting)
			break;
	}
	muon_free(before == *now ? NULL : before);
	muon_free(seen);
	return *now;
}

/* ---- the verb ------------------------------------------------------------------------------- */

typedef struct tracking {
	const tool_options *options;
	mspec_track_options how;
	progress_line line;
	const char *no_store; /* why nothing is kept */
	double printed;       /* last step printed, -1: none */
} tracking;

static int print(const mspec_track *track, tracking *t, muon_error *err)
{
	switch (t->options->format) {
	case FORMAT_JSON:
		return track_json(track, t->options, err);
	case FORMAT_JSONL:
		return track_jsonl(track, t->options, t->printed, err);
	case FORMAT_CSV:
		return track_csv(track, t->printed, err);
	default:
		if (t->printed >= 0)
			putchar('\n');
		return track_table(track, t->options, err);
	}
}

static int track_once(tracking *t, muon_error *err)
{
	mspec_track *track;
	progress_start(&t->line, t->options->progress, t->options->quiet);
	int code = mspec_track_run(&track, (const char *const *)t->options->arguments,
	                           (size_t)t->options->argument_count, &t->how, err);
	progress_end(&t->line);
	if (code)
		return code;
	report_store("track", t->options, track->run, t->no_store);
	code = print(track, t, err);
	if (track->run->count)
		t->printed = track->run->checkpoints[track->run->count - 1].step;
	mspec_track_destroy(&track);
	return code;
}

/* A folder in which nothing is yet is no error while watching. */
static int watch(tracking *t, muon_error *err)
{
	char *seen = look(t->options);
	int code;
	do {
		muon_error reason = {0};
		code = track_once(t, &reason);
		if (code && code != MUON_E_FORMAT && code != MUON_E_OPEN)
			return muon_free(seen),
			       muon_fail(err, code, reason.where, "%s", reason.message);
		fflush(stdout);
	} while (!ferror(stdout) && wait_for_change(t->options, seen, &seen));
	return t->printed >= 0 ? MUON_OK
	                       : muon_fail(err, MUON_E_FORMAT, t->options->arguments[0],
	                                   "no checkpoint has come");
}

static bool has_folder(const char *path)
{
	char folder[PATH_MAX] = ".";
	const char *slash = strrchr(path, '/');
	struct stat st;
	if (slash && (size_t)(slash + 1 - path) < sizeof folder) {
		memcpy(folder, path, (size_t)(slash + 1 - path));
		folder[slash + 1 - path] = 0;
	}
	return !stat(folder, &st) && S_ISDIR(st.st_mode);
}

static int track_with(tracking *t, muon_error *err)
{
	const tool_options *options = t->options;
	char *place = NULL;
	if (options->output && !has_folder(options->output))
		return muon_fail(err, MUON_E_WRITE, options->output, "%s", strerror(ENOENT));
	if (options->output)
		t->how.run.store = options->output;
	else if (options->no_store)
		t->no_store = "--no-store";
	else
		t->how.run.store = place = mspec_run_default_store(
		    (const char *const *)options->arguments, (size_t)options->argument_count,
		    &t->no_store);
	int code = options->watch ? watch(t, err) : track_once(t, err);
	mspec_run_release_path(place);
	return code;
}

int run_track(const tool_options *options, muon_error *err)
{
	tracking t = {.options = options, .printed = -1};
	muon_arena memory = {0};
	mspec_limit *limits;
	size_t *metrics, metric_count;
	if (options->align > MUON_KRYLOV_VECTORS)
		return muon_fail(err, MUON_E_USAGE, NULL, "--align takes up to %d",
		                 MUON_KRYLOV_VECTORS);
	if (options->watch && options->format == FORMAT_JSON)
		return muon_fail(err, MUON_E_USAGE, NULL,
		                 "--watch prints tables, jsonl or csv: json would never end");
	int code = run_metrics_chosen(options, &metrics, &metric_count, err);
	if (!code)
		code = parse_limits(options, &limits, &memory, err);
	if (!code) {
		t.how = (mspec_track_options){.run = run_options(options, &t.line),
		                              .metrics = metrics,
		                              .metric_count = metric_count,
		                              .limits = limits,
		                              .limit_count = options->limits.count};
		code = track_with(&t, err);
	}
	muon_free(metrics);
	muon_arena_release(&memory);
	return code;
}
