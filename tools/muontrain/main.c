#include "resume.h"
#include "trainer.h"
#include "trial_read.h"

#include "common/messages.h"
#include "common/program_documents.h"

#include "base/memory.h"
#include "base/text.h"

#include <muonspec/forward.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- options and start --------------------------------------------------------------------- */

typedef struct beginning {
	train_options options;
	mspec_model_config config;
	resume_point point;
	float *parameters; /* of --init-from */
	char *folder;      /* the default one */
	train_start start;
} beginning;

static int load_initial(beginning *b, muon_error *err)
{
	mspec_checkpoint *checkpoint;
	mspec_model *model = NULL;
	int code = trial_read(b->options.init_from, err);
	if (code)
		return code;
	code = mspec_open(&checkpoint, b->options.init_from, NULL, err);
	if (!code)
		code = mspec_model_load(&model, &b->parameters, checkpoint, err);
	if (!code)
		b->config = *mspec_model_config_of(model);
	mspec_model_destroy(&model);
	mspec_close(&checkpoint);
	return code;
}

static int name_folder(beginning *b, muon_error *err)
{
	const char *model = b->options.init_from ? "fine-tuned" : b->options.model;
	const char *optimizer = b->options.optimizer == OPTIMIZER_MUON ? "muon" : "adamw";
	size_t capacity = strlen(model) + 40;
	b->folder = muon_alloc(capacity, 1);
	if (!b->folder)
		return muon_fail(err, MUON_E_MEMORY, NULL, "out of memory");
	snprintf(b->folder, capacity, "runs/%s-%s", model, optimizer);
	b->options.out = b->folder;
	return MUON_OK;
}

/* A new run. */
static int begin_new(beginning *b, muon_error *err)
{
	train_options *o = &b->options;
	bool initial = o->init_from != NULL;
	if (initial && o->model)
		return muon_fail(err, MUON_E_USAGE, NULL, "--model and --init-from exclude each other");
	if (initial && strchr(o->init_from, '\n'))
		return muon_fail(err, MUON_E_USAGE, NULL, "--init-from: a name without line breaks, please");
	int code = initial ? load_initial(b, err) : MUON_OK;
	const mspec_model_config config = b->config;
	if (!code)
		code = resolve_options(o, initial ? &config : NULL, &b->config, err);
	if (!code && !o->out)
		code = name_folder(b, err);
	b->start = (train_start){.parameters = b->parameters};
	return code;
}

/* Going on with one: its own options first, then those of the command line. */
static int begin_again(beginning *b, int argc, char **argv, muon_error *err)
{
	if (!b->options.out)
		return muon_fail(err, MUON_E_USAGE, NULL, "--resume needs --out, the run's folder");
	int code = resume_find(&b->point, b->options.out, err);
	if (!code)
		code = resume_options(&b->options, &b->point, err);
	if (!code)
		code = parse_train_options(&b->options, argc, argv, err);
	const mspec_model_config *initial = b->options.init_from ? &b->point.config : NULL;
	if (!code)
		code = resolve_options(&b->options, initial, &b->config, err);
	if (!code)
		code = resume_check(&b->options, &b->point, err);
	b->start = (train_start){.resume = b->point.path, .step = b->point.step,
	                         .corpus_hash = b->point.corpus_hash};
	return code;
}

static int begin(beginning *b, int argc, char **argv, muon_error *err)
{
	int code = b->options.checkpoint_steps
	               ? check_checkpoint_steps(b->options.checkpoint_steps, err)
	               : MUON_OK;
	if (code)
		return code;
	return b->options.resume ? begin_again(b, argc, argv, err) : begin_new(b, err);
}

static void end(beginning *b)
{
	resume_release(&b->point);
	mspec_parameters_destroy(&b->parameters);
	muon_free(b->folder);
}

/* ---- running ------------------------------------------------------------------------------- */

static int train(beginning *b, muon_comm *comm, int *stopped, muon_error *err)
{
	trainer t;
	int code = trainer_open(&t, &b->options, &b->config, &b->start, comm, err);
	if (!code) {
		report_start(&t);
		code = trainer_run(&t, stopped, err);
	}
	if (!code && *stopped && !t.rank && !b->options.quiet)
		fprintf(messages(), "muontrain: stopped after step %lld; 'muontrain --resume --out %s' "
		        "goes on\n", (long long)t.step, b->options.out);
	if (!code)
		code = report_end(&t, err);
	trainer_close(&t);
	return code;
}

/* One line: by the first rank if it knows the reason, else by those that do. */
static void print_failure(const muon_error *err, int code, muon_comm *comm)
{
	int first = err->code;
	if (comm && muon_comm_broadcast(comm, &first, sizeof first, 0, NULL))
		first = 0;
	int rank = comm ? muon_comm_rank(comm) : 0;
	if (rank && (first || !err->code))
		return;
	fprintf(messages(), "muontrain: %s%s%s\n", err->where, *err->where ? ": " : "",
	        err->code ? err->message : muon_error_text(code));
}

static int run(int argc, char **argv, muon_comm *comm, int *stopped)
{
	beginning b = {0};
	muon_error err = {0};
	default_options(&b.options);
	int code = parse_train_options(&b.options, argc, argv, &err);
	if (!code && (b.options.help || b.options.version)) {
		if (comm && muon_comm_rank(comm))
			return 0;
		if (b.options.help)
			print_train_help(stdout);
		else
			printf("muontrain %s\n", muon_version());
		return flush_results("muontrain");
	}
	if (code) /* of options no more is said than what is wrong */
		*err.where = 0;
	if (!code)
		code = begin(&b, argc, argv, &err);
	if (comm)
		code = muon_comm_agree(comm, code);
	if (!code)
		code = train(&b, comm, stopped, &err);
	if (code)
		print_failure(&err, code, comm);
	end(&b);
	int flushed = flush_results("muontrain");
	return code ? muon_exit_status(code) : flushed;
}

static const char *const *words_of(const option_row *row)
{
	return !strcmp(row->name, "model")          ? mspec_model_presets()
	       : !strcmp(row->name, "coefficients") ? muon_coefficients_names()
	                                            : NULL;
}

/* End as whoever sent the signal expects. */
static int end_by_signal(int number)
{
	signal(number, SIG_DFL);
	raise(number);
	return 128 + number;
}

int main(int argc, char **argv)
{
	open_standard_files();
	signal(SIGPIPE, SIG_IGN); /* writing fails instead, and says so */
	signal(SIGXFSZ, SIG_IGN);
	const program_tables tables = {"muontrain", &train_command, 1, words_of};
	if (argc == 2 && print_document(stdout, &tables, argv[1]))
		return flush_results("muontrain");
	muon_comm *comm = NULL;
	muon_error err = {0};
	bool launched = muon_comm_launched_by_mpi();
	if (launched && muon_comm_create_mpi(&comm, &argc, &argv, &err)) {
		fprintf(stderr, "muontrain: %s\n", err.message);
		return muon_exit_status(err.code);
	}
	int stopped = 0, status = run(argc, argv, comm, &stopped);
	muon_comm_destroy(&comm);
	if (stopped && !status)
		return launched ? 128 + stopped : end_by_signal(stopped);
	if (status) { /* without exit handlers: libhdf5's crash after a full disk */
		fflush(NULL);
		_exit(status);
	}
	return status;
}
