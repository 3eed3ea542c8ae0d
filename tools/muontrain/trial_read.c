#include "trial_read.h"

#include "common/crash.h"

#include "base/text.h"

#include <errno.h>
#include <muonspec/checkpoint.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	PATIENCE = 20, /* seconds for one object, as muonspec has */
	WHAT = 400,    /* bytes of a name; what is written to a pipe at once stays together */
	CHUNK = 65536  /* elements */
};

/* ---- the child ----------------------------------------------------------------------------- */

static void tell(void *state, const char *what)
{
	const int *pipe_end = state;
	char name[WHAT] = "";
	if (what)
		muon_escape(name, sizeof name, what);
	if (what && write(*pipe_end, name, sizeof name) < 0)
		_exit(0); /* nobody listens */
}

static void read_tensor(mspec_checkpoint *checkpoint, size_t index)
{
	static double buffer[CHUNK];
	const mspec_tensor *t = mspec_tensor_at(checkpoint, index);
	int code = t->status;
	for (int64_t at = 0; !code && at < t->elements; at += CHUNK) {
		int64_t left = t->elements - at;
		code = mspec_read(checkpoint, index, at, left < CHUNK ? left : CHUNK, buffer, NULL);
	}
}

static _Noreturn void be_child(const char *path, int pipe_end, pid_t parent)
{
	mspec_checkpoint *checkpoint;
	const mspec_open_options options = {.watch = tell, .watch_state = &pipe_end};
	child_of_unknown_files(parent);
	if (!mspec_open(&checkpoint, path, &options, NULL))
		for (size_t i = 0; i < mspec_tensor_count(checkpoint); i++)
			read_tensor(checkpoint, i);
	mspec_close(&checkpoint);
	_exit(0);
}

/* ---- the parent ---------------------------------------------------------------------------- */

/* Hear what the child reads until it ends; false if it is at one thing for too long. */
static bool listen(int pipe_end, char what[WHAT])
{
	struct pollfd from = {.fd = pipe_end, .events = POLLIN};
	for (;;) {
		int ready = poll(&from, 1, 1000 * PATIENCE);
		if (!ready)
			return false;
		if (ready < 0 && errno != EINTR)
			return true;
		if (ready > 0 && read(pipe_end, what, WHAT) <= 0)
			return true;
	}
}

static int judge(const char *path, const char *what, bool in_time, int status, muon_error *err)
{
	char why[CRASH_TEXT], shown[WHAT];
	muon_escape(shown, sizeof shown, path);
	bool inside = *what && strcmp(what, shown) != 0;
	const char *object = inside ? what : "", *colon = inside ? ": " : "";
	if (!in_time)
		return muon_fail(err, MUON_E_TIMEOUT, path,
		                 "%s%snot read within %d seconds; malformed?", object, colon,
		                 PATIENCE);
	if (WIFSIGNALED(status) && is_crash(WTERMSIG(status)))
		return muon_fail(err, MUON_E_FORMAT, path, "%s%s%s", object, colon,
		                 explain_crash(why, WTERMSIG(status)));
	return MUON_OK;
}

int trial_read(const char *path, muon_error *err)
{
	int ends[2], status = 0;
	char what[WHAT] = "";
	if (pipe(ends))
		return MUON_OK;
	pid_t parent = getpid(), child = fork();
	if (!child)
		be_child(path, ends[1], parent);
	close(ends[1]);
	bool in_time = child < 0 || listen(ends[0], what);
	close(ends[0]);
	if (child < 0)
		return MUON_OK;
	if (!in_time)
		kill(child, SIGKILL);
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	return judge(path, what, in_time, status, err);
}
