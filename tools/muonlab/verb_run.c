/* `muonlab run`: trainings as child processes, a few at a time, until every run of the plan has its
 * result. */
#include "child.h"
#include "corpora.h"
#include "lab_options.h"
#include "store.h"
#include "launch.h"

#include "base/clock.h"
#include "base/pool.h"
#include "base/text.h"
#include "common/messages.h"
#include "common/progress.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	MOST_JOBS = 64,
	PATH_ROOM = 4096,
	LONGEST_PATH = 2000, /* of a folder that is given; others go into it */
	PATIENCE = 60 /* seconds for children to end */
};

typedef struct job {
	lab_run *run;
	pid_t pid; /* 0: this place is free */
	bool inspecting, resumed;
	int places;
	double started;
	const char *folder, *command;
	long printed; /* bytes of output that were there before its program began */
	lab_outcome outcome;
	char words[1200];
} job;

typedef struct session {
	const cli_options *options;
	lab_plan plan;
	lab_grid grid;
	lab_store store;
	lab_trainer trainer;
	char folder[PATH_ROOM], runs[PATH_ROOM], self[PATH_ROOM], program[PATH_ROOM];
	job jobs[MOST_JOBS];
	int places, taken;
	double cost_done;      /* of runs that ended in this session */
	double cost_wanted;    /* of all runs that this session is to do */
	size_t ended, failed;
	int failed_status;     /* exit status of the first that failed */
	int signal;            /* that ended us, or 0 */
	sigset_t signals;
	progress_line line;
	muon_error *err;
} session;

/* ---- what there is to do ----------------------------------------------------------------- */

static bool is_wanted(const session *s, const lab_run *run)
{
	const text_list *only = &s->options->only;
	return !only->count || muon_matches_any(only->items, only->count, run->name);
}

/* Is the run's last checkpoint still there? */
static bool has_folder(const session *s, const lab_run *run)
{
	char path[2 * PATH_ROOM];
	snprintf(path, sizeof path, "%s/%s/log.csv", s->runs, run->name);
	return !access(path, R_OK);
}

/* Reopen what `run` begins with if its checkpoint is gone; true if something was. */
static bool reopen_start_of(session *s, const lab_run *run)
{
	bool changed = false;
	for (size_t k = 0; k < s->grid.count && run->stage->start.stage; k++) {
		lab_run *other = &s->grid.runs[k];
		if (other->state == LAB_DONE &&
		    !strcmp(other->stage->name, run->stage->start.stage) &&
		    lab_run_needed(other, run) && !has_folder(s, other)) {
			other->state = LAB_WAITING;
			other->again = changed = true;
		}
	}
	return changed;
}

/* A run that is done is done again if another that is not begins with its checkpoint, and that is
 * gone. */
static void reopen_starts(session *s)
{
	for (bool changed = true; changed;) {
		changed = false;
		for (size_t i = 0; i < s->grid.count; i++)
			if (s->grid.runs[i].state == LAB_WAITING && is_wanted(s, &s->grid.runs[i]))
				changed |= reopen_start_of(s, &s->grid.runs[i]);
	}
}

static size_t count_state(const session *s, lab_state state)
{
	size_t count = 0;
	for (size_t i = 0; i < s->grid.count; i++)
		count += s->grid.runs[i].state == state && is_wanted(s, &s->grid.runs[i]);
	return count;
}

static void list_runs(const session *s)
{
	static const char *const words[] = {"to do", "running", "done", "failed", "blocked"};
	double total = 0;
	for (size_t i = 0; i < s->grid.count; i++) {
		const lab_run *run = &s->grid.runs[i];
		double cost = launch_cost(run);
		if (!is_wanted(s, run))
			continue;
		printf("%-8s %-40s %10.3g flops  %s\n",
		       run->diverged ? "diverged" : words[run->state], run->name, cost,
		       run->resolved ? run->settings : "(takes settings from runs to do)");
		total += run->state == LAB_WAITING ? cost : 0;
	}
	printf("%zu to do (%.3g model flops), %zu done\n", count_state(s, LAB_WAITING), total,
	       count_state(s, LAB_DONE));
}

/* ---- progress ---------------------------------------------------------------------------- */

/* Share of its steps that a training has done, from the last whole line of its log. */
static double share_done(const job *j)
{
	char path[2 * PATH_ROOM], tail[2001];
	double steps = lab_run_number(j->run, "steps", 300);
	snprintf(path, sizeof path, "%s/log.csv", j->folder);
	FILE *file = fopen(path, "rb");
	if (!file)
		return 0;
	if (fseek(file, -2000, SEEK_END))
		rewind(file);
	size_t length = fread(tail, 1, 2000, file);
	fclose(file);
	while (length && tail[length - 1] != '\n')
		length--;
	tail[length ? length - 1 : 0] = 0;
	const char *last = strrchr(tail, '\n');
	double step = last ? atof(last + 1) : 0;
	return j->inspecting ? 1 : fmin(1, fmax(0, step / steps));
}

static void show_progress(session *s)
{
	muon_text label = {0};
	double done = s->cost_done;
	if (!s->line.shown)
		return;
	muon_text_format(&label, "%zu/%zu", s->ended, s->ended + (size_t)s->taken +
	                                                  count_state(s, LAB_WAITING));
	for (int i = 0; i < MOST_JOBS; i++)
		if (s->jobs[i].pid) {
			done += launch_cost(s->jobs[i].run) * share_done(&s->jobs[i]);
			muon_text_format(&label, " %s", s->jobs[i].run->name);
		}
	progress_update(&s->line, done, s->cost_wanted, label.failed ? "" : label.bytes);
	muon_text_release(&label);
}

static void print_time(FILE *to, double seconds)
{
	if (seconds < 100)
		fprintf(to, "%.0f s", seconds);
	else
		fprintf(to, "%.0f min", seconds / 60);
}

/* One line for a run that has ended. */
static void report_end(session *s, const job *j)
{
	const csv_table *runs = &s->store.runs;
	double loss = csv_table_number(runs, j->run->row, "held_out_loss");
	progress_end(&s->line);
	printf("%-40s %-8s", j->run->name, j->outcome.status);
	if (!isnan(loss) && !strcmp(j->outcome.status, "ok"))
		printf(" held-out loss %.4f", loss);
	printf("  ");
	print_time(stdout, j->outcome.seconds);
	double spent = muon_seconds() - s->line.started;
	double left = s->cost_done > 0 ? spent * (s->cost_wanted / s->cost_done - 1) : 0;
	if (left > 0.5) {
		printf(", about ");
		print_time(stdout, left);
		printf(" left");
	}
	printf("\n");
	fflush(stdout);
	if (strcmp(j->outcome.status, "ok") && *j->outcome.message)
		fprintf(messages(), "muonlab run: %s: %s: %s\n", j->run->name, j->outcome.status,
		        j->outcome.message);
}

/* ---- jobs -------------------------------------------------------------------------------- */

static int no_memory(session *s)
{
	return muon_fail(s->err, MUON_E_MEMORY, NULL, "out of memory");
}

/* The run's result enters the store, which is written at once: whatever happens, it is not lost. */
static int end_job(session *s, job *j)
{
	lab_run *run = j->run;
	bool failed = !strcmp(j->outcome.status, "failed");
	j->outcome.seconds = muon_seconds() - j->started;
	j->outcome.command = j->command;
	int code = lab_store_take(&s->store, &s->plan, run, j->folder, &j->outcome, s->err);
	if (!code)
		code = lab_store_write(&s->store, &s->grid, s->err);
	run->state = failed ? LAB_FAILED : LAB_DONE;
	run->diverged = !strcmp(j->outcome.status, "diverged");
	s->ended++;
	s->failed += failed;
	s->cost_done += launch_cost(run);
	s->taken -= j->places;
	if (!code)
		report_end(s, j);
	j->pid = 0;
	return code;
}

/* Record why a job can't go on. */
static int fail_job(session *s, job *j, int status, const char *why)
{
	if (why != j->words)
		snprintf(j->words, sizeof j->words, "%s", why);
	j->outcome.status = "failed";
	j->outcome.message = j->words;
	if (!s->failed_status)
		s->failed_status = status >= 2 && status <= 5 ? status : 5;
	return end_job(s, j);
}

static int start_program(session *s, job *j, char *const *arguments)
{
	char output[2 * PATH_ROOM];
	snprintf(output, sizeof output, "%s/output.txt", j->folder);
	muon_error err = {0};
	j->printed = child_output_size(output);
	int code = child_start(&j->pid, arguments, output, &err);
	if (!code)
		return MUON_OK;
	if (j->pid > 0)
		waitpid(j->pid, NULL, 0);
	snprintf(j->words, sizeof j->words, "%.500s: %s", arguments[0], err.message);
	return fail_job(s, j, muon_exit_status(code), j->words);
}

static int start_inspection(session *s, job *j)
{
	muon_text metrics = {0};
	for (size_t i = 0; i < j->run->stage->spectra_count; i++)
		muon_text_format(&metrics, "%s%s", i ? "," : "", j->run->stage->spectra[i]);
	char *folder = muon_arena_string(&s->plan.memory, j->folder);
	const char *planned = lab_run_option(j->run, "checkpoint-steps");
	char *steps = muon_arena_string(&s->plan.memory, planned ? planned : "");
	char inspect[] = "inspect", with_metrics[] = "--metrics", with_steps[] = "--steps";
	char *arguments[] = {s->self, inspect, folder, metrics.length ? with_metrics : NULL,
	                     metrics.bytes, planned ? with_steps : NULL, steps, NULL};
	j->inspecting = true;
	bool good = folder && steps && !metrics.failed;
	int code = good ? start_program(s, j, arguments) : no_memory(s);
	muon_text_release(&metrics);
	return code;
}

static job *free_job(session *s)
{
	for (int i = 0; i < MOST_JOBS; i++)
		if (!s->jobs[i].pid)
			return &s->jobs[i];
	return NULL;
}

static int places_of(const session *s, const lab_run *run)
{
	double ranks = lab_run_number(run, "ranks", 1) * lab_run_number(run, "threads", 1);
	return ranks < s->places ? (int)ranks : s->places;
}

/* Start, or go on with, the training of a job. */
static int start_training(session *s, job *j)
{
	char **arguments;
	muon_error err = {0};
	int code = launch_prepare(j->run, j->folder, &j->resumed, &err);
	if (!code)
		code = launch_arguments(&arguments, &s->trainer, j->run, j->folder, j->resumed,
		                        &s->plan.memory, &err);
	const char *line = code ? NULL : launch_line(arguments, s->trainer.program,
	                                             &s->plan.memory);
	if (!code && !line)
		return no_memory(s);
	if (code) {
		snprintf(j->words, sizeof j->words, "%s: %s", err.where, err.message);
		return fail_job(s, j, muon_exit_status(code), j->words);
	}
	j->command = line;
	return start_program(s, j, arguments);
}

static int start_run(session *s, lab_run *run)
{
	job *j = free_job(s);
	*j = (job){.run = run, .places = places_of(s, run), .started = muon_seconds(),
	           .command = ""};
	j->outcome = (lab_outcome){.status = "ok", .message = "", .command = ""};
	j->folder = muon_arena_format(&s->plan.memory, "%s/%s", s->runs, run->name);
	if (!j->folder)
		return no_memory(s);
	run->state = LAB_RUNNING;
	s->taken += j->places;
	return start_training(s, j);
}

/* Another muontrain than the one that left the checkpoint may not go on from it. */
static int start_afresh(session *s, job *j, const char *why)
{
	fprintf(messages(), "muonlab run: %s: begins anew, for it can't go on: %s\n", j->run->name,
	        why);
	launch_forget(j->folder);
	return start_training(s, j);
}

/* Start what can be started. */
static int fill_places(session *s)
{
	int code = MUON_OK;
	lab_store_match(&s->store, &s->grid);
	for (size_t i = 0; i < s->grid.count && s->taken < s->places && !code; i++) {
		lab_run *run = &s->grid.runs[i];
		bool can = run->state == LAB_WAITING && is_wanted(s, run) &&
		           lab_run_resolve(&s->grid, run, &s->store.runs, NULL) &&
		           (!run->start || run->start->state == LAB_DONE);
		if (can && s->taken + places_of(s, run) <= s->places)
			code = start_run(s, run);
	}
	return code;
}

/* A child of the job has ended: what next? */
static int follow_up(session *s, job *j, int status)
{
	char output[2 * PATH_ROOM];
	snprintf(output, sizeof output, "%s/output.txt", j->folder);
	if (s->signal) { /* interrupted with us: goes on another time */
		j->run->state = LAB_WAITING;
		s->taken -= j->places;
		j->pid = 0;
		return MUON_OK;
	}
	if (WIFEXITED(status) && !WEXITSTATUS(status))
		return j->inspecting ? end_job(s, j) : start_inspection(s, j);
	char last[300];
	child_last_words(last, sizeof last, output, j->printed,
	                 j->inspecting ? "muonlab inspect" : "muontrain");
	if (j->resumed && !j->inspecting && WIFEXITED(status) && WEXITSTATUS(status) == 2)
		return start_afresh(s, j, last);
	if (WIFSIGNALED(status))
		snprintf(j->words, sizeof j->words, "killed by signal %d (%s)", WTERMSIG(status),
		         strsignal(WTERMSIG(status)));
	else
		snprintf(j->words, sizeof j->words, "exit status %d: %s", WEXITSTATUS(status),
		         last);
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 4 || j->inspecting)
		return fail_job(s, j, WIFEXITED(status) ? WEXITSTATUS(status) : 5, j->words);
	j->outcome.status = "diverged"; /* a result too */
	j->outcome.message = j->words;
	return end_job(s, j);
}

static int reap(session *s)
{
	int status, code = MUON_OK;
	for (int i = 0; i < MOST_JOBS && !code; i++) {
		pid_t pid = s->jobs[i].pid;
		if (pid && waitpid(pid, &status, WNOHANG) == pid)
			code = follow_up(s, &s->jobs[i], status);
	}
	return code;
}

/* ---- the session ------------------------------------------------------------------------- */

static void signal_children(session *s, int signal)
{
	for (int i = 0; i < MOST_JOBS; i++)
		if (s->jobs[i].pid)
			child_signal(s->jobs[i].pid, signal);
}

/* Wait for the children, which have been told to end; then they are made to. */
static void end_children(session *s)
{
	double until = muon_seconds() + PATIENCE;
	signal_children(s, SIGTERM);
	while (s->taken > 0) {
		reap(s);
		int signal = s->taken ? sigtimedwait(&s->signals, NULL,
		                                     &(struct timespec){0, 100000000})
		                      : 0;
		bool again = signal > 0 && signal != SIGCHLD;
		if (s->taken > 0 && (again || muon_seconds() > until)) {
			signal_children(s, SIGKILL);
			for (int i = 0; i < MOST_JOBS; i++)
				if (s->jobs[i].pid)
					waitpid(s->jobs[i].pid, NULL, 0);
			return;
		}
	}
}

static void choose_signals(session *s)
{
	static const int ending[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
	signal(SIGCHLD, SIG_DFL);
	sigemptyset(&s->signals);
	sigaddset(&s->signals, SIGCHLD);
	for (size_t i = 0; i < sizeof ending / sizeof *ending; i++) {
		struct sigaction action;
		if (!sigaction(ending[i], NULL, &action) && action.sa_handler != SIG_IGN)
			sigaddset(&s->signals, ending[i]);
	}
	sigprocmask(SIG_BLOCK, &s->signals, NULL);
}

static int work(session *s)
{
	int code = fill_places(s);
	while (!code && s->taken > 0 && !s->signal) {
		int signal = sigtimedwait(&s->signals, NULL, &(struct timespec){0, 300000000});
		if (signal > 0 && signal != SIGCHLD)
			s->signal = signal;
		if (s->signal)
			break;
		code = reap(s);
		if (!code)
			code = fill_places(s);
		show_progress(s);
	}
	progress_end(&s->line);
	if (code && !s->signal)
		s->signal = SIGTERM; /* nothing that ends now is recorded */
	if (s->taken > 0)
		end_children(s);
	return code;
}

/* One muonlab at a time: the lock is held until the process ends. */
static int lock_runs(session *s)
{
	char path[2 * PATH_ROOM];
	snprintf(path, sizeof path, "%s/lock", s->runs);
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	if (fd >= 0 && !fcntl(fd, F_SETLK, &lock))
		return MUON_OK;
	if (fd >= 0 && !fcntl(fd, F_GETLK, &lock) && lock.l_type != F_UNLCK)
		return muon_fail(s->err, MUON_E_WRITE, s->runs,
		                 "process %ld is running these trainings already",
		                 (long)lock.l_pid);
	return muon_fail(s->err, MUON_E_WRITE, path, "%s", strerror(errno));
}

static int find_programs(session *s)
{
	ssize_t length = readlink("/proc/self/exe", s->self, sizeof s->self - 1);
	if (length <= 0)
		return muon_fail(s->err, MUON_E_INTERNAL, "/proc/self/exe", "%s", strerror(errno));
	s->self[length] = 0;
	const char *slash = strrchr(s->self, '/');
	snprintf(s->program, sizeof s->program, "%.*s/muontrain", (int)(slash - s->self), s->self);
	s->trainer = (lab_trainer){s->options->muontrain ? s->options->muontrain : s->program,
	                           s->runs};
	return MUON_OK;
}

/* Where results and runs go. */
static int choose_folders(session *s)
{
	const cli_options *o = s->options;
	const char *slash = strrchr(s->plan.path, '/'), *runs = o->runs ? o->runs : "build/lab";
	char scale[40] = "";
	if (strlen(runs) > LONGEST_PATH || strlen(o->out ? o->out : s->plan.path) > LONGEST_PATH)
		return muon_fail(s->err, MUON_E_USAGE, NULL, "a folder's name is too long");
	if (o->scale != 1)
		snprintf(scale, sizeof scale, "/scale-%g", o->scale);
	if (o->out)
		snprintf(s->folder, sizeof s->folder, "%.2000s%s", o->out, scale);
	else
		snprintf(s->folder, sizeof s->folder, "%.*s%s",
		         slash ? (int)(slash - s->plan.path) : 1, slash ? s->plan.path : ".",
		         scale);
	snprintf(s->runs, sizeof s->runs, "%.2000s/%.1000s%s", runs, s->plan.experiment, scale);
	return MUON_OK;
}

static int begin(session *s)
{
	const cli_options *o = s->options;
	if (!(o->scale > 0 && o->scale <= 1e6))
		return muon_fail(s->err, MUON_E_USAGE, "--scale", "must be above 0");
	s->places = o->jobs ? (int)(o->jobs < MOST_JOBS ? o->jobs : MOST_JOBS)
	                    : muon_processor_count();
	s->places = s->places < MOST_JOBS ? s->places : MOST_JOBS;
	int code = lab_plan_read(&s->plan, o->arguments[0], o->scale, s->err);
	if (!code)
		code = lab_grid_make(&s->grid, &s->plan, s->err);
	if (code)
		return code;
	code = choose_folders(s);
	if (!code)
		code = lab_store_read(&s->store, s->folder, s->err);
	if (!code)
		code = find_programs(s);
	if (!code) {
		lab_store_match(&s->store, &s->grid);
		reopen_starts(s);
	}
	return code;
}

static int run_all(session *s)
{
	int code = make_folders(s->runs, s->err);
	if (!code)
		code = make_folders(s->folder, s->err);
	if (!code)
		code = lock_runs(s);
	char corpora[2 * PATH_ROOM];
	snprintf(corpora, sizeof corpora, "%s/corpora", s->runs);
	if (!code)
		code = corpora_make(&s->plan, corpora, s->err);
	if (code)
		return code;
	for (size_t i = 0; i < s->grid.count; i++)
		if (s->grid.runs[i].state == LAB_WAITING && is_wanted(s, &s->grid.runs[i]))
			s->cost_wanted += launch_cost(&s->grid.runs[i]);
	setenv("OPENBLAS_NUM_THREADS", "1", 1);
	setenv("OMP_NUM_THREADS", "1", 1);
	choose_signals(s);
	progress_start(&s->line, (when)s->options->progress, s->options->quiet);
	code = work(s);
	if (s->ended && !code)
		code = lab_store_export(&s->store, s->err);
	return code;
}

/* End as whoever sent the signal expects. */
static void end_by_signal(session *s)
{
	fflush(NULL);
	sigprocmask(SIG_UNBLOCK, &s->signals, NULL);
	signal(s->signal, SIG_DFL);
	raise(s->signal);
}

/* The code whose exit status a run that failed has given. */
static int code_of_status(int status)
{
	static const int codes[] = {MUON_E_USAGE, MUON_E_READ, MUON_E_NONFINITE, MUON_E_INTERNAL};
	return codes[status >= 2 && status <= 5 ? status - 2 : 3];
}

static int summarize(session *s)
{
	size_t done = count_state(s, LAB_DONE), waiting = count_state(s, LAB_WAITING);
	size_t blocked = count_state(s, LAB_BLOCKED), all = done + waiting + blocked + s->failed;
	for (size_t i = 0; i < s->grid.count; i++)
		if (s->grid.runs[i].state == LAB_BLOCKED && is_wanted(s, &s->grid.runs[i]))
			fprintf(messages(),
			        "muonlab run: %s: not run: one that it needs has failed or has no "
			        "loss\n",
			        s->grid.runs[i].name);
	if (s->signal) {
		fprintf(messages(),
		        "muonlab run: interrupted; %zu of %zu runs are done, and the same command "
		        "goes on\n",
		        done, all);
		end_by_signal(s);
	}
	if (waiting && !s->failed)
		fprintf(messages(),
		        "muonlab run: %zu runs wait for others that --only leaves out\n", waiting);
	if (!s->options->quiet)
		printf("%zu of %zu runs are done; results in %s\n", done, all, s->folder);
	fflush(stdout);
	return s->failed ? muon_fail(s->err, code_of_status(s->failed_status), NULL,
	                             "%zu %s failed; their messages are in runs.csv", s->failed,
	                             s->failed == 1 ? "run has" : "runs have")
	                 : MUON_OK;
}

int run_run(const cli_options *options, muon_error *err)
{
	session *s = muon_alloc(1, sizeof *s);
	if (!s)
		return muon_fail(err, MUON_E_MEMORY, NULL, "out of memory");
	s->options = options;
	s->err = err;
	int code = begin(s);
	if (!code && options->list)
		list_runs(s);
	else if (!code && !(code = run_all(s)))
		code = summarize(s);
	lab_store_release(&s->store);
	muon_free(s->grid.runs);
	lab_plan_release(&s->plan);
	muon_free(s);
	return code;
}
