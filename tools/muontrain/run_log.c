#define _DEFAULT_SOURCE /* flock */
#include "run_log.h"

#include "base/memory.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#define LOG_NAME(name) "," #name
static const char header[] = "step" LOG_COLUMNS(LOG_NAME) "\n";
#undef LOG_NAME

static int fail_write(const run_log *log, muon_error *err)
{
	return muon_fail(err, MUON_E_WRITE, log->path, "%s", strerror(errno));
}

static int open_log(run_log *log, const char *path, const char *mode, muon_error *err)
{
	size_t size = strlen(path) + 1;
	*log = (run_log){.path = muon_alloc(size, 1)};
	if (!log->path)
		return muon_fail(err, MUON_E_MEMORY, path, "out of memory");
	memcpy(log->path, path, size);
	log->file = fopen(path, mode);
	if (!log->file)
		return fail_write(log, err);
	if (flock(fileno(log->file), LOCK_EX | LOCK_NB))
		return muon_fail(err, MUON_E_WRITE, path,
		                 "another muontrain is writing it; wait for it, or name another "
		                 "folder with --out");
	return MUON_OK;
}

int run_log_create(run_log *log, const char *path, muon_error *err)
{
	int code = open_log(log, path, "a", err);
	if (!code && ftruncate(fileno(log->file), 0))
		code = fail_write(log, err);
	if (!code && fputs(header, log->file) == EOF)
		code = fail_write(log, err);
	return code;
}

/* Offset behind the last whole row of at most `step`; negative when the file is no log. */
static long find_end(FILE *file, int64_t step)
{
	char line[4096];
	long end = -1;
	while (fgets(line, sizeof line, file) && strchr(line, '\n')) {
		bool keep = end < 0 ? !strcmp(line, header) : strtoll(line, NULL, 10) <= step;
		if (!keep)
			break;
		end = ftell(file);
	}
	return end;
}

int run_log_continue(run_log *log, const char *path, int64_t step, muon_error *err)
{
	int code = open_log(log, path, "r+", err);
	if (code)
		return code;
	long end = find_end(log->file, step);
	if (ferror(log->file))
		return muon_fail(err, MUON_E_READ, path, "%s", strerror(errno));
	if (end < 0)
		return muon_fail(err, MUON_E_FORMAT, path, "does not begin as a log of muontrain");
	if (ftruncate(fileno(log->file), end) || fseek(log->file, end, SEEK_SET))
		return fail_write(log, err);
	return MUON_OK;
}

void log_row_clear(log_row *row, int64_t step)
{
#define LOG_CLEAR(name) row->name = NAN;
	LOG_COLUMNS(LOG_CLEAR)
#undef LOG_CLEAR
	row->step = step;
}

static void print_number(FILE *file, double value)
{
	if (isnan(value))
		fputc(',', file);
	else
		fprintf(file, ",%.9g", value);
}

int run_log_write(run_log *log, const log_row *row, muon_error *err)
{
	fprintf(log->file, "%lld", (long long)row->step);
#define LOG_PRINT(name) print_number(log->file, row->name);
	LOG_COLUMNS(LOG_PRINT)
#undef LOG_PRINT
	fputc('\n', log->file);
	return fflush(log->file) || ferror(log->file) ? fail_write(log, err) : MUON_OK;
}

int run_log_flush(run_log *log, muon_error *err)
{
	if (fflush(log->file) || ferror(log->file))
		return fail_write(log, err);
	return fsync(fileno(log->file)) && errno != EINVAL && errno != ENOTSUP ? fail_write(log, err)
	                                                                       : MUON_OK;
}

void run_log_close(run_log *log)
{
	if (log->file)
		fclose(log->file);
	muon_free(log->path);
	*log = (run_log){0};
}
