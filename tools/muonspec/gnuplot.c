#define _GNU_SOURCE /* pipe2, prctl */
#include "gnuplot.h"

#include "base/clock.h"
#include "base/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	LONGEST_SECONDS = 120,
	MOST_WORDS = 16384,     /* bytes of messages that are kept */
	MOST_BYTES = 256 << 20, /* of a picture */
	PIECE = 65536
};

/* ---- finding it ----------------------------------------------------------------------------- */

static bool is_program(const char *path)
{
	struct stat st;
	return !stat(path, &st) && S_ISREG(st.st_mode) && !access(path, X_OK);
}

/* The program `name` in one of the folders of PATH. */
static bool find_in_path(char *path, size_t capacity, const char *name)
{
	const char *folders = getenv("PATH");
	for (const char *at = folders ? folders : ""; *at;) {
		size_t length = strcspn(at, ":");
		int size = snprintf(path, capacity, "%.*s/%s", (int)length, at, name);
		if (length && size > 0 && (size_t)size < capacity && is_program(path))
			return true;
		at += length;
		at += *at == ':';
	}
	return false;
}

static bool find_gnuplot(char *path, size_t capacity)
{
	const char *named = getenv("MUONSPEC_GNUPLOT");
	if (!named)
		return find_in_path(path, capacity, "gnuplot");
	if (!strchr(named, '/'))
		return find_in_path(path, capacity, named);
	return (size_t)snprintf(path, capacity, "%s", named) < capacity && is_program(path);
}

int gnuplot_check(muon_error *err)
{
	char path[PATH_MAX], shown[256];
	if (find_gnuplot(path, sizeof path))
		return MUON_OK;
	const char *named = getenv("MUONSPEC_GNUPLOT");
	return named ? muon_fail(err, MUON_E_UNSUPPORTED, NULL,
	                         "MUONSPEC_GNUPLOT names no program: '%s'",
	                         muon_escape(shown, sizeof shown, named))
	             : muon_fail(err, MUON_E_UNSUPPORTED, NULL,
	                         "figures need gnuplot, which is not in PATH: install gnuplot-nox, or "
	                         "set MUONSPEC_GNUPLOT to the program");
}

/* ---- running it ------------------------------------------------------------------------------ */

/* Ours are `ends`: where its input is written, its output and its messages read. */
typedef struct drawing {
	pid_t pid;
	int ends[3];
	const muon_text *script;
	size_t written;
	muon_text *picture;
	muon_text words;
	double until;
	bool too_much;
} drawing;

/* In the child: never returns. */
static _Noreturn void become_gnuplot(const char *path, const int ends[3], pid_t parent)
{
	char *const argv[] = {"gnuplot", "-d", "-", NULL}; /* -d: no gnuplotrc */
	sigset_t none;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	setenv("LC_ALL", "C", 1);
	unsetenv("GNUTERM");
	unsetenv("GNUPLOT_LIB");
	unsetenv("DISPLAY");
	if (getppid() == parent && dup2(ends[0], 0) >= 0 && dup2(ends[1], 1) >= 0 &&
	    dup2(ends[2], 2) >= 0)
		execv(path, argv);
	_exit(127);
}

static void close_end(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static int start(drawing *d, const char *path, muon_error *err)
{
	int in[2] = {-1, -1}, out[2] = {-1, -1}, words[2] = {-1, -1};
	bool piped = !pipe2(in, O_CLOEXEC) && !pipe2(out, O_CLOEXEC) && !pipe2(words, O_CLOEXEC);
	const int theirs[3] = {in[0], out[1], words[1]};
	pid_t parent = getpid();
	d->pid = piped ? fork() : -1;
	int reason = errno;
	if (!d->pid)
		become_gnuplot(path, theirs, parent);
	close_end(&in[0]);
	close_end(&out[1]);
	close_end(&words[1]);
	d->ends[0] = in[1];
	d->ends[1] = out[0];
	d->ends[2] = words[0];
	if (d->pid > 0) {
		fcntl(d->ends[0], F_SETFL, O_NONBLOCK); /* it may stop reading while it writes */
		return MUON_OK;
	}
	for (int i = 0; i < 3; i++)
		close_end(&d->ends[i]);
	return muon_fail(err, MUON_E_INTERNAL, NULL, "gnuplot can't be started: %s",
	                 strerror(reason));
}

static void write_script(drawing *d)
{
	ssize_t done = write(d->ends[0], d->script->bytes + d->written,
	                     d->script->length - d->written);
	if (done > 0)
		d->written += (size_t)done;
	bool later = done < 0 && (errno == EAGAIN || errno == EINTR);
	if (d->written == d->script->length || (done < 0 && !later))
		close_end(&d->ends[0]);
}

static void read_end(drawing *d, int *fd, muon_text *into, size_t most)
{
	char piece[PIECE];
	ssize_t length = read(*fd, piece, sizeof piece);
	if (length > 0 && into->length + (size_t)length <= most)
		muon_text_add(into, piece, (size_t)length);
	else if (length > 0 && into == d->picture)
		d->too_much = true;
	else if (!length || (length < 0 && errno != EINTR))
		close_end(fd);
}

/* Feed it and listen until it has closed its ends; false when its time is over. */
static bool converse(drawing *d)
{
	while (d->ends[1] >= 0 || d->ends[2] >= 0) {
		struct pollfd fds[3] = {{d->ends[0], POLLOUT, 0}, {d->ends[1], POLLIN, 0},
		                        {d->ends[2], POLLIN, 0}};
		double left = d->until - muon_seconds();
		if (left <= 0 || d->too_much)
			return d->too_much;
		if (poll(fds, 3, 1 + (int)(1000 * left)) < 0 && errno != EINTR)
			return true;
		if (d->ends[0] >= 0 && fds[0].revents)
			write_script(d);
		if (d->ends[1] >= 0 && fds[1].revents)
			read_end(d, &d->ends[1], d->picture, MOST_BYTES);
		if (d->ends[2] >= 0 && fds[2].revents)
			read_end(d, &d->ends[2], &d->words, MOST_WORDS);
	}
	return true;
}

/* The last line of what it said that is not empty: where it stands and what is wrong. */
static const char *last_words(const drawing *d, char *line, size_t capacity)
{
	const char *text = d->words.bytes ? d->words.bytes : "";
	size_t end = strlen(text);
	while (end && strchr("\n\r\t ", text[end - 1]))
		end--;
	size_t begin = end;
	while (begin && text[begin - 1] != '\n')
		begin--;
	char raw[400];
	size_t length = end - begin < sizeof raw ? end - begin : sizeof raw - 1;
	memcpy(raw, text + begin, length);
	raw[length] = 0;
	return muon_escape(line, capacity, *raw ? raw : "it said nothing");
}

static int judge(const drawing *d, bool in_time, int status, muon_error *err)
{
	char line[500];
	if (d->picture->failed || d->words.failed)
		return muon_fail(err, MUON_E_MEMORY, NULL, "out of memory");
	if (d->too_much)
		return muon_fail(err, MUON_E_INTERNAL, NULL, "gnuplot: more than %d MiB of picture",
		                 MOST_BYTES >> 20);
	if (!in_time)
		return muon_fail(err, MUON_E_TIMEOUT, NULL, "gnuplot was not done within %d seconds",
		                 LONGEST_SECONDS);
	if (WIFSIGNALED(status))
		return muon_fail(err, MUON_E_INTERNAL, NULL, "gnuplot ended: %s",
		                 strsignal(WTERMSIG(status)));
	if (WEXITSTATUS(status) || !d->picture->length)
		return muon_fail(err, MUON_E_INTERNAL, NULL, "gnuplot failed: %s",
		                 last_words(d, line, sizeof line));
	return MUON_OK;
}

int gnuplot_draw(muon_text *picture, const muon_text *script, muon_error *err)
{
	char path[PATH_MAX];
	drawing d = {.script = script, .picture = picture,
	             .until = muon_seconds() + LONGEST_SECONDS};
	if (!find_gnuplot(path, sizeof path))
		return gnuplot_check(err);
	int code = start(&d, path, err), status = 0;
	if (code)
		return code;
	bool in_time = converse(&d);
	if (!in_time || d.too_much)
		kill(d.pid, SIGKILL);
	for (int i = 0; i < 3; i++)
		close_end(&d.ends[i]);
	while (waitpid(d.pid, &status, 0) < 0 && errno == EINTR)
		;
	code = judge(&d, in_time, status, err);
	muon_text_release(&d.words);
	return code;
}
