#include "run_folder.h"

#include "common/output_file.h"

#include "base/memory.h"

#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

char *folder_path(const char *folder, const char *name)
{
	size_t length = strlen(folder), capacity = length + strlen(name) + 2;
	char *path = muon_alloc(capacity, 1);
	if (path)
		snprintf(path, capacity, "%s%s%s", folder,
		         length && folder[length - 1] == '/' ? "" : "/", name);
	return path;
}

char *folder_checkpoint(const char *folder, int64_t step)
{
	char name[40];
	snprintf(name, sizeof name, "step-%06lld.h5", (long long)step);
	return folder_path(folder, name);
}

int folder_make(const char *folder, muon_error *err)
{
	size_t length = strlen(folder);
	char *path = muon_alloc(length + 1, 1);
	if (!path)
		return muon_fail(err, MUON_E_MEMORY, folder, "out of memory");
	int failed = 0;
	for (size_t i = 1; i <= length && !failed; i++) {
		if (folder[i] && folder[i] != '/')
			continue;
		memcpy(path, folder, i);
		path[i] = 0;
		failed = mkdir(path, 0777) && errno != EEXIST ? errno : 0;
	}
	struct stat st;
	if (!failed && stat(folder, &st))
		failed = errno;
	else if (!failed && !S_ISDIR(st.st_mode))
		failed = ENOTDIR;
	muon_free(path);
	return failed ? muon_fail(err, MUON_E_WRITE, folder, "%s", strerror(failed)) : MUON_OK;
}

/* The step of a checkpoint's name, -1 for another name. */
static int64_t step_of(const char *name)
{
	char *end;
	if (strncmp(name, "step-", 5) || name[5] < '0' || name[5] > '9')
		return -1;
	long long step = strtoll(name + 5, &end, 10);
	return strcmp(end, ".h5") ? -1 : step;
}

static int compare_steps(const void *a, const void *b)
{
	const int64_t *x = a, *y = b;
	return (*x > *y) - (*x < *y);
}

int folder_steps(const char *folder, int64_t **steps, size_t *count, muon_error *err)
{
	DIR *dir = opendir(folder);
	int code = MUON_OK;
	*steps = NULL;
	*count = 0;
	if (!dir)
		return errno == ENOENT ? MUON_OK
		                       : muon_fail(err, MUON_E_OPEN, folder, "%s", strerror(errno));
	for (const struct dirent *entry; !code && (entry = readdir(dir));) {
		int64_t step = step_of(entry->d_name);
		if (step < 0)
			continue;
		int64_t *grown = muon_resize(*steps, *count + 1, sizeof *grown);
		if (!grown) {
			code = muon_fail(err, MUON_E_MEMORY, folder, "out of memory");
			break;
		}
		grown[(*count)++] = step;
		*steps = grown;
	}
	closedir(dir);
	if (*count)
		qsort(*steps, *count, sizeof **steps, compare_steps);
	return code;
}

/* "step-000100.h5.4711.tmp", as base/output.h names them. */
static bool is_leftover(const char *name)
{
	size_t length = strlen(name);
	return !strncmp(name, "step-", 5) && strstr(name, ".h5.") && length > 4 &&
	       !strcmp(name + length - 4, ".tmp");
}

void folder_clean(const char *folder)
{
	DIR *dir = opendir(folder);
	if (!dir)
		return;
	for (const struct dirent *entry; (entry = readdir(dir));) {
		char *path = is_leftover(entry->d_name) ? folder_path(folder, entry->d_name) : NULL;
		if (path)
			unlink(path);
		muon_free(path);
	}
	closedir(dir);
}

int folder_write(const char *folder, const char *name, const void *bytes, size_t count,
                 muon_error *err)
{
	char *path = folder_path(folder, name);
	int code = path ? output_file_write(path, bytes, count, err)
	                : muon_fail(err, MUON_E_MEMORY, folder, "out of memory");
	muon_free(path);
	return code;
}
