#define _GNU_SOURCE /* MAP_ANONYMOUS */
#include "supervise.h"

#include "base/clock.h"
#include "base/memory.h"
#include "base/output.h"
#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* What the child tells the parent, in memory that both see. */
typedef struct watch_page {
	_Atomic double since; /* start of the reading under way; 0: none */
	char what[400];       /* escaped; may be read half-written, so always NUL-terminated */
} watch_page;

static watch_page *page;
static FILE *message_file;

FILE *messages(void)
{
	return message_file ? message_file : stderr;
}

void watch_reading(void *state, const char *what)
{
	(void)state;
	if (!page)
		return;
	if (!what) {
		page->since = 0;
		return;
	}
	muon_escape(page->what, sizeof page->what - 1, what);
	if (page->since == 0)
		page->since = muon_seconds();
}

static int report(const verb_spec *verb, const muon_error *err, int code)
{
	if (code) {
		fprintf(messages(), "muonspec %s: %s%s%s\n", verb->name, err->where,
		        *err->where && strcmp(err->where, verb->name) ? ": " : "",
		        err->code ? err->message : muon_error_text(code));
	}
	return muon_exit_status(code);
}

/* Results may be cut off by a reader that has seen enough (`| head -1`): that is no failure. A
 * full disk is. */
static int flush_results(const verb_spec *verb)
{
	if (!fflush(stdout) && !ferror(stdout))
		return 0;
	if (errno == EPIPE)
		return 0;
	fprintf(messages(), "muonspec %s: standard output: %s\n", verb->name, strerror(errno));
	return muon_exit_status(MUON_E_WRITE);
}

int run_verb(const verb_spec *verb, const tool_options *options)
{
	muon_error err = {0};
	int code = verb->run(options, &err);
	if (code && err.code && !strcmp(err.where, verb->name))
		*err.where = 0;
	int flushed = flush_results(verb);
	int status = report(verb, &err, code);
	return status ? status : flushed;
}

/* libhdf5 and the C library print to standard error when they break; our own line is enough. */
static void silence_standard_error(void)
{
	int copy = dup(STDERR_FILENO), null = open("/dev/null", O_WRONLY | O_CLOEXEC);
	FILE *file = copy >= 0 && null >= 0 ? fdopen(copy, "w") : NULL;
	if (file) {
		setvbuf(file, NULL, _IOLBF, 1024);
		message_file = file;
		dup2(null, STDERR_FILENO);
	}
	if (null >= 0)
		close(null);
	setenv("LIBC_FATAL_STDERR_", "1", 1); /* not to the terminal either */
}

static _Noreturn void be_child(const verb_spec *verb, const tool_options *options,
                               const sigset_t *signals, pid_t parent)
{
	sigprocmask(SIG_UNBLOCK, signals, NULL);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent) /* it died before prctl */
		_exit(muon_exit_status(MUON_E_INTERNAL));
	setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
	silence_standard_error();
	int status = run_verb(verb, options);
	fflush(messages());
	_exit(status); /* without exit handlers: libhdf5's may crash after a bad file */
}

/* The file and, where it is known, the object inside it that was being read. */
static void print_place(const verb_spec *verb, const tool_options *options)
{
	char path[400];
	muon_escape(path, sizeof path, options->arguments[0]);
	fprintf(stderr, "muonspec %s: %s: ", verb->name, path);
	if (*page->what && strcmp(page->what, path))
		fprintf(stderr, "%s: ", page->what);
}

static int explain_death(const verb_spec *verb, const tool_options *options, int signal)
{
	if (signal == SIGKILL) {
		print_place(verb, options);
		fprintf(stderr, "killed by the system, probably out of memory; try --threads 1 or "
		                "--max-memory\n");
		return muon_exit_status(MUON_E_MEMORY);
	}
	if (*page->what) { /* the harm may show only after the reading that did it */
		print_place(verb, options);
		fprintf(stderr, "malformed: the library that reads it crashed (%s)\n",
		        strsignal(signal));
		return muon_exit_status(MUON_E_FORMAT);
	}
	fprintf(stderr, "muonspec %s: internal error: %s; please report it\n", verb->name,
	        strsignal(signal));
	return muon_exit_status(MUON_E_INTERNAL);
}

/* Remove what a child that did not end well has left of the output. */
static void clean_up(const tool_options *options, pid_t child)
{
	if (!options->output)
		return;
	char *temporary = muon_output_temporary(options->output, (long)child);
	if (temporary)
		muon_output_discard(temporary, options->output);
	muon_free(temporary);
}

static int wait_for(pid_t child, const verb_spec *verb, const tool_options *options,
                    const sigset_t *signals)
{
	for (;;) {
		int status;
		pid_t ended = waitpid(child, &status, WNOHANG);
		if (ended == child && WIFEXITED(status)) {
			if (WEXITSTATUS(status))
				clean_up(options, child);
			return WEXITSTATUS(status);
		}
		if (ended == child && WIFSIGNALED(status)) {
			clean_up(options, child);
			return explain_death(verb, options, WTERMSIG(status));
		}
		double since = page->since;
		if (since > 0 && muon_seconds() - since > options->open_timeout) {
			kill(child, SIGKILL);
			waitpid(child, &status, 0);
			clean_up(options, child);
			print_place(verb, options);
			fprintf(stderr, "not read within %g seconds; malformed, or raise --open-timeout\n",
			        options->open_timeout);
			return muon_exit_status(MUON_E_TIMEOUT);
		}
		int signal = sigtimedwait(signals, NULL, &(struct timespec){0, 200000000});
		if (signal > 0 && signal != SIGCHLD) {
			kill(child, SIGKILL);
			waitpid(child, &status, 0);
			clean_up(options, child);
			sigprocmask(SIG_UNBLOCK, signals, NULL);
			raise(signal); /* end as whoever sent it expects */
			return muon_exit_status(MUON_E_INTERNAL);
		}
	}
}

int supervise(const verb_spec *verb, const tool_options *options)
{
	page = mmap(NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (page == MAP_FAILED) {
		page = NULL;
		return run_verb(verb, options);
	}
	sigset_t signals;
	sigemptyset(&signals);
	sigaddset(&signals, SIGCHLD);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGHUP);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	pid_t parent = getpid(), child = fork();
	if (child < 0) {
		sigprocmask(SIG_UNBLOCK, &signals, NULL);
		return run_verb(verb, options);
	}
	if (!child)
		be_child(verb, options, &signals, parent);
	return wait_for(child, verb, options, &signals);
}
