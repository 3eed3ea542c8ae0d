#define _GNU_SOURCE /* prctl, strsignal */
#include "crash.h"

#include "messages.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

static void silence_standard_error(void)
{
	int copy = dup(STDERR_FILENO), null = open("/dev/null", O_WRONLY | O_CLOEXEC);
	FILE *file = copy >= 0 && null >= 0 ? fdopen(copy, "w") : NULL;
	if (file) {
		setvbuf(file, NULL, _IOLBF, 1024);
		set_messages(file);
		dup2(null, STDERR_FILENO);
	}
	if (null >= 0)
		close(null);
	setenv("LIBC_FATAL_STDERR_", "1", 1); /* not to the terminal either */
}

void child_of_unknown_files(pid_t parent)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent) /* it died before prctl */
		_exit(muon_exit_status(MUON_E_INTERNAL));
	setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
	silence_standard_error();
}

bool is_crash(int signal)
{
	return signal == SIGSEGV || signal == SIGBUS || signal == SIGABRT || signal == SIGFPE ||
	       signal == SIGILL || signal == SIGTRAP || signal == SIGSYS;
}

const char *explain_crash(char text[CRASH_TEXT], int signal)
{
	snprintf(text, CRASH_TEXT, "malformed: the library that reads it crashed (%s)",
	         strsignal(signal));
	return text;
}
