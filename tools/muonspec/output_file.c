#include "output_file.h"

#include "base/memory.h"
#include "base/output.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool is_same_file(const char *a, const char *b)
{
	struct stat x, y;
	return !stat(a, &x) && !stat(b, &y) && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

int output_file_claim(char **temporary, const char *path, const char *input, muon_error *err)
{
	*temporary = NULL;
	if (is_same_file(input, path))
		return muon_fail(err, MUON_E_USAGE, path, "is the file to read; name another");
	*temporary = muon_output_temporary(path, (long)getpid());
	if (!*temporary)
		return muon_fail(err, MUON_E_MEMORY, path, "out of memory");
	int fd = open(*temporary, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
	if (fd < 0)
		return muon_fail(err, MUON_E_WRITE, path, "%s", strerror(errno));
	close(fd);
	return MUON_OK;
}
