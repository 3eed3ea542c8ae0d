#include "output_file.h"

#include "base/memory.h"
#include "base/output.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char *copy_text(const char *text)
{
	size_t size = strlen(text) + 1;
	char *copy = muon_alloc(size, 1);
	return copy ? memcpy(copy, text, size) : NULL;
}

/* Where the link `path` leads, seen from where `path` is seen from. */
static char *follow_link(const char *path)
{
	char target[PATH_MAX];
	ssize_t length = readlink(path, target, sizeof target - 1);
	if (length < 0)
		return copy_text(path);
	target[length] = 0;
	const char *slash = strrchr(path, '/');
	size_t folder = slash && *target != '/' ? (size_t)(slash + 1 - path) : 0;
	char *joined = muon_alloc(folder + (size_t)length + 1, 1);
	if (joined) {
		memcpy(joined, path, folder);
		memcpy(joined + folder, target, (size_t)length + 1);
	}
	return joined;
}

static bool is_link(const char *path)
{
	struct stat st;
	return !lstat(path, &st) && S_ISLNK(st.st_mode);
}

char *output_file_resolve(const char *path)
{
	enum { MOST_LINKS = 40 }; /* as in the kernel */
	struct stat st;
	char *now = copy_text(path);
	/* devices and pipes are not replaced: /dev/stdout may stay what it is */
	bool direct = !stat(path, &st) && !S_ISREG(st.st_mode);
	for (int i = 0; i < MOST_LINKS && now && !direct && is_link(now); i++) {
		char *next = follow_link(now);
		muon_free(now);
		now = next;
	}
	return now;
}

bool output_file_same(const char *a, const char *b)
{
	struct stat x, y;
	return !stat(a, &x) && !stat(b, &y) && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* Why nothing can be written there, or NULL. */
static const char *problem_of_kind(const char *path)
{
	struct stat st;
	if (!*path)
		return "the file to write has no name";
	if (stat(path, &st))
		return errno == ENOENT ? NULL : strerror(errno);
	if (S_ISDIR(st.st_mode))
		return strerror(EISDIR);
	return S_ISREG(st.st_mode) || S_ISCHR(st.st_mode)
	           ? NULL
	           : "is neither a regular file nor a character device; name a file";
}

/* A process of the same number may have left one, and no link put there is to be followed. */
static int make_file(const char *temporary, const char *path)
{
	bool direct = !strcmp(temporary, path);
	if (!direct && unlink(temporary) && errno != ENOENT)
		return -1;
	int fd = open(temporary, direct ? O_WRONLY | O_CLOEXEC | O_NOCTTY
	                                : O_WRONLY | O_CLOEXEC | O_CREAT | O_EXCL | O_NOFOLLOW,
	              0666);
	return fd < 0 ? -1 : close(fd);
}

int output_file_claim(char **temporary, const char *path, muon_error *err)
{
	*temporary = NULL;
	const char *problem = problem_of_kind(path);
	if (problem)
		return muon_fail(err, MUON_E_WRITE, path, "%s", problem);
	*temporary = muon_output_temporary(path, (long)getpid());
	if (!*temporary)
		return muon_fail(err, MUON_E_MEMORY, path, "out of memory");
	if (make_file(*temporary, path)) {
		int reason = errno;
		muon_free(*temporary);
		*temporary = NULL;
		return muon_fail(err, MUON_E_WRITE, path, "%s", strerror(reason));
	}
	return MUON_OK;
}

static int write_bytes(const char *temporary, const void *bytes, size_t count)
{
	FILE *file = fopen(temporary, "wb");
	if (!file)
		return errno;
	int reason = fwrite(bytes, 1, count, file) == count ? 0 : errno;
	return fclose(file) && !reason ? errno : reason;
}

int output_file_write(const char *path, const void *bytes, size_t count, muon_error *err)
{
	char *temporary = muon_output_temporary(path, (long)getpid());
	if (!temporary)
		return muon_fail(err, MUON_E_MEMORY, path, "out of memory");
	int code, reason = write_bytes(temporary, bytes, count);
	if (reason) {
		muon_output_discard(temporary, path);
		code = muon_fail(err, MUON_E_WRITE, path, "%s", strerror(reason));
	} else {
		code = muon_output_commit(temporary, path, err);
	}
	muon_free(temporary);
	return code;
}
