#define _XOPEN_SOURCE 700 /* realpath */
/* Where a run's results are kept when nobody says. */
#include "analysis/content_hash.h"

#include "base/memory.h"
#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <muonspec/run.h>

static bool is_folder(const char *path)
{
	struct stat st;
	return !stat(path, &st) && S_ISDIR(st.st_mode);
}

/* Cuts the last component off a real path; "/" stays. */
static void cut(char *path)
{
	char *slash = strrchr(path, '/');
	if (slash)
		slash[slash == path] = 0;
}

/* The store beside the run: of the folder /a/run it is /a/run.spectra.h5, of files in it
 * /a/run/run.spectra.h5. Its folder goes to `folder` (PATH_MAX bytes). NULL when out of memory. */
static char *beside(const char *real, bool folder_given, char *folder)
{
	muon_text path = {0};
	snprintf(folder, PATH_MAX, "%s", real);
	cut(folder);
	if (folder_given && strcmp(real, "/"))
		muon_text_format(&path, "%s.spectra.h5", real);
	else
		muon_text_format(&path, "%s/run.spectra.h5", folder);
	if (!path.failed)
		return path.bytes;
	muon_text_release(&path);
	return NULL;
}

/* Can files be made in the folder? Only trying tells, with read-only mounts. A folder that nobody
 * may write is left alone, by root too. */
static bool is_writable(const char *folder)
{
	struct stat st;
	if (stat(folder, &st) || !(st.st_mode & (S_IWUSR | S_IWGRP | S_IWOTH)))
		return false;
	char probe[PATH_MAX + 40];
	snprintf(probe, sizeof probe, "%s/.muonspec-%ld.tmp", folder, (long)getpid());
	int fd = open(probe, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return false;
	close(fd);
	return !unlink(probe);
}

static bool make_folder(const char *path)
{
	return !mkdir(path, 0777) || (errno == EEXIST && is_folder(path));
}

/* $XDG_CACHE_HOME or ~/.cache, made if it is not there, and muonspec in it. */
static bool cache_folder(char *folder, size_t capacity)
{
	const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
	int used;
	if (cache && *cache == '/') /* others are to be ignored, says the specification */
		used = snprintf(folder, capacity, "%s", cache);
	else if (home && *home)
		used = snprintf(folder, capacity, "%s/.cache", home);
	else
		return false;
	if (used < 0 || (size_t)used + sizeof "/muonspec" > capacity || !make_folder(folder))
		return false;
	strcat(folder, "/muonspec");
	return make_folder(folder) && is_writable(folder);
}

/* A name of its own for every run: its last component, and a hash of the path. */
static char *in_cache(const char *real)
{
	char folder[PATH_MAX];
	muon_text path = {0};
	if (!cache_folder(folder, sizeof folder))
		return NULL;
	const char *slash = strrchr(real, '/');
	muon_text_format(&path, "%s/%.100s-%.12s.spectra.h5", folder, slash ? slash + 1 : real,
			 mspec_hash_bytes(real, strlen(real)).hex);
	if (!path.failed)
		return path.bytes;
	muon_text_release(&path);
	return NULL;
}

char *mspec_run_default_store(const char *const *arguments, size_t count, const char **why)
{
	char real[PATH_MAX], folder[PATH_MAX];
	const char *reason = "neither beside the run nor in the cache folder can a file be written";
	char *path = NULL;
	if (count && realpath(arguments[0], real)) {
		path = beside(real, is_folder(real), folder);
		if (path && is_writable(folder))
			return path;
		muon_free(path);
		path = in_cache(real);
	}
	if (!path && why)
		*why = reason;
	return path;
}

void mspec_run_release_path(char *path)
{
	muon_free(path);
}
