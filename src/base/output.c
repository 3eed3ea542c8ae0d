#include "base/output.h"

#include "base/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

char *muon_output_temporary(const char *path, long pid)
{
	struct stat st;
	bool direct = !stat(path, &st) && !S_ISREG(st.st_mode);
	size_t capacity = strlen(path) + 40;
	char *name = muon_alloc(capacity, 1);
	if (name && direct)
		snprintf(name, capacity, "%s", path);
	else if (name)
		snprintf(name, capacity, "%s.%ld.tmp", path, pid);
	return name;
}

/* A file that was renamed before its bytes reached the disk is empty after a power cut. */
static int flush_to_disk(const char *path)
{
	int fd = open(path, O_RDONLY);
	if (fd < 0)
		return -1;
	int failed = fsync(fd);
	int reason = errno;
	close(fd);
	errno = reason;
	return failed && reason != EINVAL && reason != ENOTSUP ? -1 : 0;
}

int muon_output_commit(const char *temporary, const char *path, muon_error *err)
{
	if (!strcmp(temporary, path))
		return MUON_OK;
	if (flush_to_disk(temporary) || rename(temporary, path)) {
		int reason = errno;
		unlink(temporary);
		return muon_fail(err, MUON_E_WRITE, path, "%s", strerror(reason));
	}
	return MUON_OK;
}

void muon_output_discard(const char *temporary, const char *path)
{
	if (strcmp(temporary, path))
		unlink(temporary);
}
