#define _GNU_SOURCE /* MAP_ANONYMOUS */
#include "supervise.h"

#include "common/crash.h"
#include "common/messages.h"

#include "base/clock.h"
#include "base/memory.h"
#include "base/output.h"
#include "base/text.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WHAT = 400, MOST_REFUSED = 16 };

/* A file of a run during whose reading a child has died. */
typedef struct refused_reading {
	char what[WHAT];
	char why[CRASH_TEXT];
	struct stat file; /* as it was when the next child first asked; zeros before */
} refused_reading;

/* What the child tells the parent, in memory that both see. */
typedef struct watch_page {
	_Atomic unsigned long reading; /* counts begun and ended readings; odd: one is under way */
	char what[WHAT]; /* escaped; may be read half-written, so always NUL-terminated */
	/* the parent tells the next child, whose verb goes on without them if it ever asks */
	refused_reading refused[MOST_REFUSED];
	size_t refused_count;
	_Atomic bool asks;
} watch_page;

static watch_page *page;

void watch_reading(void *state, const char *what)
{
	(void)state;
	if (!page)
		return;
	bool busy = page->reading % 2;
	if (what)
		muon_escape(page->what, sizeof page->what - 1, what);
	if (busy != (what != NULL)) /* a new name inside one reading does not restart its time */
		page->reading++;
}

/* A file that was half-written may be whole now. */
static bool is_unchanged(refused_reading *r, const char *path)
{
	struct stat now;
	if (stat(path, &now))
		return true;
	if (!r->file.st_ino)
		r->file = now;
	return now.st_ino == r->file.st_ino && now.st_size == r->file.st_size &&
	       now.st_mtim.tv_sec == r->file.st_mtim.tv_sec &&
	       now.st_mtim.tv_nsec == r->file.st_mtim.tv_nsec;
}

const char *refuses_reading(void *state, const char *path)
{
	char shown[WHAT];
	(void)state;
	if (!page)
		return NULL;
	page->asks = true;
	size_t length = strlen(muon_escape(shown, sizeof shown - 1, path));
	if (length >= sizeof shown - 2) /* cut off: it may be another */
		return NULL;
	for (size_t i = 0; i < page->refused_count; i++) {
		refused_reading *r = &page->refused[i];
		bool same = !strncmp(r->what, shown, length) &&
		            (r->what[length] == ':' || !r->what[length]);
		if (same && is_unchanged(r, path))
			return r->why;
	}
	return NULL;
}

/* Let the next child go on without what this one died of? */
static bool refuse_reading(const char *why)
{
	if (!page->asks || page->reading % 2 == 0 || page->refused_count == MOST_REFUSED)
		return false;
	for (size_t i = 0; i < page->refused_count; i++)
		if (!strcmp(page->refused[i].what, page->what))
			return false; /* to no avail */
	refused_reading *r = &page->refused[page->refused_count++];
	memcpy(r->what, page->what, sizeof r->what);
	snprintf(r->why, sizeof r->why, "%s", why);
	page->reading = 0;
	*page->what = 0;
	return true;
}

static int report(const verb_spec *verb, const muon_error *err, int code)
{
	if (code == VERDICT)
		return VERDICT;
	if (code) {
		fprintf(messages(), "muonspec %s: %s%s%s\n", verb->name, err->where,
		        *err->where && strcmp(err->where, verb->name) ? ": " : "",
		        err->code ? err->message : muon_error_text(code));
	}
	return muon_exit_status(code);
}

int run_verb(const verb_spec *verb, const tool_options *options)
{
	muon_error err = {0};
	int code = verb->run(options, &err);
	if (code && err.code && !strcmp(err.where, verb->name))
		*err.where = 0;
	char who[64];
	snprintf(who, sizeof who, "muonspec %s", verb->name);
	int flushed = flush_results(who);
	int status = report(verb, &err, code);
	return flushed && code >= 0 ? flushed : status;
}

static _Noreturn void be_child(const verb_spec *verb, const tool_options *options, pid_t parent)
{
	if (page->refused_count && isatty(STDERR_FILENO)) /* over an earlier child's progress line */
		fputs("\r\033[K", stderr);
	child_of_unknown_files(parent);
	signal(SIGXFSZ, SIG_IGN); /* writing fails instead, and says so */
	int status = run_verb(verb, options);
	fflush(messages());
	_exit(status); /* without exit handlers: libhdf5's may crash after a bad file */
}

/* "muonspec VERB: FILE: OBJECT: ", the object inside the file where it is known. */
static void print_place(const verb_spec *verb, const tool_options *options)
{
	char path[400];
	muon_escape(path, sizeof path, options->arguments[0]);
	if (isatty(STDERR_FILENO)) /* over what the child may have left of its progress line */
		fputs("\r\033[K", stderr);
	fprintf(stderr, "muonspec %s: %s: ", verb->name, path);
	if (*page->what && strcmp(page->what, path))
		fprintf(stderr, "%s: ", page->what);
}

static int explain_death(const verb_spec *verb, const tool_options *options, int signal)
{
	print_place(verb, options);
	if (signal == SIGKILL) {
		fprintf(stderr, "killed by the system, probably out of memory; try --threads 1 or "
		                "--max-memory\n");
		return muon_exit_status(MUON_E_MEMORY);
	}
	if (is_crash(signal) && *page->what) { /* harm may show only after the reading that did it */
		char why[CRASH_TEXT];
		fprintf(stderr, "%s\n", explain_crash(why, signal));
		return muon_exit_status(MUON_E_FORMAT);
	}
	fprintf(stderr, is_crash(signal) ? "internal error: %s; please report it\n" : "ended: %s\n",
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

static void stop_child(pid_t child, const tool_options *options)
{
	kill(child, SIGKILL);
	while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
		;
	clean_up(options, child);
}

/* End as whoever sent the signal expects. */
static int end_by_signal(int signal, const sigset_t *signals)
{
	sigprocmask(SIG_UNBLOCK, signals, NULL);
	raise(signal);
	return muon_exit_status(MUON_E_INTERNAL);
}

/* How long the child has been at one reading, in seconds during which this process was awake: a
 * stopped or suspended program has not been slow. */
typedef struct reading_clock {
	unsigned long reading;
	double seconds, last;
} reading_clock;

static bool reads_too_long(reading_clock *clock, double limit)
{
	const double most = 0.5; /* of a look every 0.2 seconds */
	double now = muon_seconds(), passed = now - clock->last;
	unsigned long reading = page->reading;
	clock->last = now;
	if (reading != clock->reading || reading % 2 == 0) {
		clock->reading = reading;
		clock->seconds = 0;
		return false;
	}
	clock->seconds += passed < most ? passed : most;
	return clock->seconds > limit;
}

enum { TRY_AGAIN = -1 };

/* The exit status of the program, or TRY_AGAIN. */
static int wait_for(pid_t child, const verb_spec *verb, const tool_options *options,
                    const sigset_t *signals)
{
	reading_clock clock = {.last = muon_seconds()};
	char why[CRASH_TEXT];
	for (;;) {
		int status;
		pid_t ended = waitpid(child, &status, WNOHANG);
		if (ended < 0 && errno != EINTR) {
			clean_up(options, child);
			fprintf(stderr, "muonspec %s: lost its child process: %s\n", verb->name,
			        strerror(errno));
			return muon_exit_status(MUON_E_INTERNAL);
		}
		if (ended == child && WIFEXITED(status)) {
			if (WEXITSTATUS(status))
				clean_up(options, child);
			return WEXITSTATUS(status);
		}
		if (ended == child && WIFSIGNALED(status)) {
			int signal = WTERMSIG(status);
			clean_up(options, child);
			if (is_crash(signal) && refuse_reading(explain_crash(why, signal)))
				return TRY_AGAIN;
			return sigismember(signals, signal) ? end_by_signal(signal, signals)
			                                    : explain_death(verb, options, signal);
		}
		if (reads_too_long(&clock, options->open_timeout)) {
			stop_child(child, options);
			snprintf(why, sizeof why,
			         "not read within %g seconds; malformed, or raise --open-timeout",
			         options->open_timeout);
			if (refuse_reading(why))
				return TRY_AGAIN;
			print_place(verb, options);
			fprintf(stderr, "%s\n", why);
			return muon_exit_status(MUON_E_TIMEOUT);
		}
		int signal = sigtimedwait(signals, NULL, &(struct timespec){0, 200000000});
		if (signal > 0 && signal != SIGCHLD) {
			stop_child(child, options);
			return end_by_signal(signal, signals);
		}
	}
}

/* The child's end, and what ends this program unless its caller has it ignored (nohup). */
static void choose_signals(sigset_t *signals)
{
	static const int ending[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGXCPU};
	signal(SIGCHLD, SIG_DFL); /* inherited as ignored, it would take the child's status away */
	sigemptyset(signals);
	sigaddset(signals, SIGCHLD);
	for (size_t i = 0; i < sizeof ending / sizeof *ending; i++) {
		struct sigaction action;
		if (!sigaction(ending[i], NULL, &action) && action.sa_handler != SIG_IGN)
			sigaddset(signals, ending[i]);
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
	choose_signals(&signals);
	int status = TRY_AGAIN;
	while (status == TRY_AGAIN) {
		pid_t parent = getpid(), child = fork();
		if (child < 0)
			return run_verb(verb, options);
		if (!child)
			be_child(verb, options, parent);
		/* after fork, in which OpenBLAS' handlers may hang */
		sigprocmask(SIG_BLOCK, &signals, NULL);
		status = wait_for(child, verb, options, &signals);
		if (status == TRY_AGAIN)
			sigprocmask(SIG_UNBLOCK, &signals, NULL);
	}
	return status;
}
