#include "messages.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static FILE *message_file;

/* A program started with one of them closed would take its own files for it. Writing to a standard
 * output that was closed fails, as it should. */
void open_standard_files(void)
{
	for (int fd = 0; fd < 3; fd++)
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == 1 ? O_RDONLY : O_RDWR) != fd)
			_exit(muon_exit_status(MUON_E_INTERNAL));
}

FILE *messages(void)
{
	return message_file ? message_file : stderr;
}

void set_messages(FILE *file)
{
	message_file = file;
}

int flush_results(const char *who)
{
	if ((!fflush(stdout) && !ferror(stdout)) || errno == EPIPE)
		return 0;
	fprintf(messages(), "%s: standard output: %s\n", who, strerror(errno));
	return muon_exit_status(MUON_E_WRITE);
}
