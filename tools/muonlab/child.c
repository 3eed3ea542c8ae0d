#define _GNU_SOURCE /* pipe2, prctl */
#include "child.h"

#include "base/text.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

static void set_signals(void)
{
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
}

/* In the child: never returns. A failure before the program runs goes through the pipe. */
static _Noreturn void become(char *const *argv, int output, int report, pid_t parent)
{
	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	int null = open("/dev/null", O_RDONLY);
	if (getppid() == parent && null >= 0 && dup2(null, 0) >= 0 && dup2(output, 1) >= 0 &&
	    dup2(output, 2) >= 0) {
		set_signals();
		execvp(argv[0], argv);
	}
	int reason = errno;
	if (write(report, &reason, sizeof reason) < 0)
		_exit(126);
	_exit(127);
}

int child_start(pid_t *pid, char *const *argv, const char *output, muon_error *err)
{
	int report[2], reason = 0;
	int file = open(output, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
	if (file < 0)
		return muon_fail(err, MUON_E_WRITE, output, "%s", strerror(errno));
	if (pipe2(report, O_CLOEXEC)) {
		reason = errno;
		close(file);
		return muon_fail(err, MUON_E_INTERNAL, argv[0], "%s", strerror(reason));
	}
	pid_t parent = getpid();
	*pid = fork();
	if (!*pid)
		become(argv, file, report[1], parent);
	reason = *pid < 0 ? errno : 0;
	close(file);
	close(report[1]);
	if (*pid > 0) {
		setpgid(*pid, *pid); /* whoever comes first */
		while (read(report[0], &reason, sizeof reason) < 0 && errno == EINTR)
			;
	}
	close(report[0]);
	return reason ? muon_fail(err, MUON_E_OPEN, argv[0], "can't be started: %s",
	                          strerror(reason))
	              : MUON_OK; /* what the child left is reaped by the caller's wait */
}

long child_output_size(const char *output)
{
	struct stat st;
	return stat(output, &st) ? 0 : (long)st.st_size;
}

static bool has_letter(const char *line)
{
	while (*line && !isalpha((unsigned char)*line))
		line++;
	return *line != 0;
}

static bool is_said_by(const char *line, const char *who)
{
	size_t length = strlen(who);
	return !strncmp(line, who, length) && line[length] == ':';
}

/* The text's lines end with '\n'; what is before a '\r' has been drawn over. */
static const char *choose_line(char *text, const char *who)
{
	const char *last = "", *said = NULL;
	for (char *next, *line = text; line; line = next) {
		next = strchr(line, '\n');
		if (next)
			*next++ = 0;
		const char *drawn = strrchr(line, '\r');
		const char *shown = drawn ? drawn + 1 : line;
		last = has_letter(shown) ? shown : last;
		said = is_said_by(shown, who) ? shown : said;
	}
	return said ? said : last;
}

void child_last_words(char *line, size_t capacity, const char *output, long from, const char *who)
{
	enum { TAIL = 4000 };
	char tail[TAIL + 1];
	FILE *file = fopen(output, "rb");
	*line = 0;
	if (!file)
		return;
	long size = child_output_size(output);
	size_t length = fseek(file, size - from > TAIL ? size - TAIL : from, SEEK_SET)
	                    ? 0
	                    : fread(tail, 1, TAIL, file);
	fclose(file);
	for (size_t i = 0; i < length; i++) /* NULs would end a line */
		tail[i] = tail[i] ? tail[i] : ' ';
	tail[length] = 0;
	muon_escape(line, capacity, choose_line(tail, who));
}

void child_signal(pid_t pid, int signal)
{
	if (kill(-pid, signal))
		kill(pid, signal);
}
