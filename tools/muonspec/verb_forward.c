#include "forward_material.h"
#include "forward_output.h"
#include "verbs.h"

#include "common/messages.h"
#include "common/output_file.h"
#include "common/progress.h"

#include "analysis/forward_store.h"
#include "base/memory.h"
#include "base/output.h"
#include "base/text.h"

#include <math.h>

/* What the verb works with. */
typedef struct material {
	mspec_checkpoint *checkpoint;
	forward_material forward;
	char *temporary; /* file of logits */
	char *place;     /* of the store, when it is the default one */
	const char *store; /* file to keep results in, or NULL */
	mspec_hash hash; /* of the checkpoint, before it was read */
} material;

int load_forward(forward_material *m, mspec_checkpoint *checkpoint, const tool_options *options,
                 muon_error *err)
{
	*m = (forward_material){0};
	int code = mspec_model_load(&m->model, &m->parameters, checkpoint, err);
	if (!code)
		code = mspec_tokens_read(&m->tokens, &m->count, options->tokens,
		                         mspec_model_config_of(m->model)->vocab,
		                         options->max_tokens, err);
	return code;
}

void release_forward(forward_material *m)
{
	mspec_tokens_destroy(&m->tokens);
	mspec_parameters_destroy(&m->parameters);
	mspec_model_destroy(&m->model);
}

/* Find out where results go before the work. */
static int prepare_store(material *m, const tool_options *options, muon_error *err)
{
	const char *path = options->arguments[0], *why = "out of memory";
	char shown[1024];
	bool damaged;
	if (options->store && options->store_file)
		return muon_fail(err, MUON_E_USAGE, NULL, "--store or --store-file, not both");
	if (!options->store && !options->store_file)
		return MUON_OK;
	m->place = options->store ? mspec_forward_place(path, &why) : NULL;
	m->store = options->store ? m->place : options->store_file;
	if (!m->store)
		return muon_fail(err, MUON_E_WRITE, path, "--store: %s", why);
	if (output_file_same(options->tokens, m->store) || output_file_same(path, m->store) ||
	    (options->output && output_file_same(options->output, m->store)))
		return muon_fail(err, MUON_E_USAGE, m->store,
		                 "is another file of this call; name one for the store");
	int code = mspec_forward_check_store(m->store, &damaged, &m->hash, path, err);
	if (!code && damaged)
		fprintf(messages(), "muonspec forward: %s: is damaged and made anew\n",
		        muon_escape(shown, sizeof shown, m->store));
	return code;
}

static int load(material *m, const tool_options *options, muon_error *err)
{
	int code = prepare_store(m, options, err);
	if (!code)
		code = open_checkpoint(&m->checkpoint, options->arguments[0], err);
	if (!code && options->output)
		code = claim_output(&m->temporary, options, m->checkpoint, err);
	return code ? code : load_forward(&m->forward, m->checkpoint, options, err);
}

static void release(material *m)
{
	muon_free(m->temporary);
	muon_free(m->place);
	release_forward(&m->forward);
	mspec_close(&m->checkpoint);
}

static bool show_progress(void *state, double share)
{
	progress_update(state, share, 1, "");
	return true;
}

int run_forward_material(mspec_forward **forward, const forward_material *m, bool keep_logits,
                         const tool_options *options, muon_error *err)
{
	progress_line line;
	const mspec_forward_options how = {.length = options->length,
	                                   .threads = (int)options->threads,
	                                   .keep_logits = keep_logits,
	                                   .progress = show_progress,
	                                   .progress_state = &line};
	progress_start(&line, options->progress, options->quiet);
	int code = mspec_forward_run_model(forward, m->model, m->parameters, m->tokens, m->count,
	                                   &how, err);
	progress_end(&line);
	return code;
}

const char *forward_arithmetic(const mspec_forward_run *run)
{
	return run->bf16 ? "bf16" : "float32";
}

static int print(const mspec_forward *forward, const mspec_checkpoint_info *checkpoint,
                 const tool_options *options, muon_error *err)
{
	switch (options->format) {
	case FORMAT_JSON:
		return forward_json(forward, checkpoint, options, err);
	case FORMAT_JSONL:
		return forward_jsonl(forward, checkpoint, options, err);
	case FORMAT_CSV:
		return forward_csv(forward, err);
	default:
		return forward_table(forward, checkpoint, options, err);
	}
}

static int store(const mspec_forward *forward, const material *m, const tool_options *options,
                 muon_error *err)
{
	char shown[1024];
	int code = mspec_forward_store(forward, &m->hash, options->arguments[0], m->store, err);
	if (!code && !options->quiet)
		fprintf(messages(), "muonspec forward: results are kept in %s\n",
		        muon_escape(shown, sizeof shown, m->store));
	return code;
}

static int finish(const mspec_forward *forward, const material *m, const tool_options *options,
                  muon_error *err)
{
	int code = MUON_OK;
	if (m->temporary)
		code = mspec_forward_write_logits(forward, m->temporary, err);
	if (!code && m->temporary)
		code = muon_output_commit(m->temporary, options->output, err);
	if (!code && m->store)
		code = store(forward, m, options, err);
	if (!code)
		code = print(forward, mspec_info(m->checkpoint), options, err);
	if (!code && options->strict && !isfinite(forward->runs[0].loss))
		code = muon_fail(err, MUON_E_NONFINITE, options->arguments[0],
		                 "the model's loss is not finite");
	return code;
}

static int run_model(const material *m, const tool_options *options, muon_error *err)
{
	mspec_forward *forward;
	int code = run_forward_material(&forward, &m->forward, m->temporary != NULL, options, err);
	if (!code)
		code = finish(forward, m, options, err);
	mspec_forward_destroy(&forward);
	return code;
}

int run_forward(const tool_options *options, muon_error *err)
{
	material m = {0};
	if (!options->tokens)
		return muon_fail(err, MUON_E_USAGE, "forward",
		                 "--tokens names the file of tokens to run the model on");
	int code = load(&m, options, err);
	if (!code)
		code = run_model(&m, options, err);
	if (code && m.temporary)
		muon_output_discard(m.temporary, options->output);
	release(&m);
	return code;
}
