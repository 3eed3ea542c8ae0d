#include "run_folder.h"
#include "trainer.h"

#include "base/memory.h"
#include "common/messages.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- when ---------------------------------------------------------------------------------- */

/* 0, 1, 2, 5, 10, 20, 50, ... */
static bool is_log_spaced(int64_t step)
{
	for (; step && step % 10 == 0;)
		step /= 10;
	return step == 0 || step == 1 || step == 2 || step == 5;
}

static bool is_listed(const char *list, int64_t step)
{
	for (char *end; *list; list = *end ? end + 1 : end)
		if (strtoll(list, &end, 10) == step)
			return true;
	return false;
}

int check_checkpoint_steps(const char *list, muon_error *err)
{
	char *end;
	for (const char *at = list; at; at = *end ? end + 1 : NULL) {
		long long step = strtoll(at, &end, 10);
		if (end == at || step < 0 || (*end && *end != ','))
			return muon_fail(err, MUON_E_USAGE, NULL,
			                 "--checkpoint-steps takes steps separated by commas, such as "
			                 "0,10,100");
	}
	return MUON_OK;
}

bool trainer_saves_after(const trainer *t, int64_t step)
{
	const train_options *o = t->options;
	if (step == o->steps || (o->checkpoint_every > 0 && step % o->checkpoint_every == 0))
		return true;
	if (o->checkpoint_steps)
		return is_listed(o->checkpoint_steps, step);
	return o->checkpoint_every < 0 && is_log_spaced(step);
}

/* ---- what ---------------------------------------------------------------------------------- */

/* A checkpoint's content, with the memory that it needs. */
typedef struct content {
	muon_arena arena;
	mspec_training training;
	mspec_training_tensor *tensors;
	mspec_training_number numbers[12];
	mspec_training_text texts[8];
	bool failed;
} content;

static double *add_record(content *c, const char *name, int rank, int64_t rows, int64_t columns)
{
	size_t count = (size_t)(rows * (rank > 1 ? columns : 1));
	double *values = muon_arena_alloc(&c->arena, count, sizeof *values);
	name = muon_arena_string(&c->arena, name);
	if (!values || !name) {
		c->failed = true;
		return NULL;
	}
	c->tensors[c->training.tensor_count++] =
	    (mspec_training_tensor){name, MUON_F64, rank, {rows, columns}, values};
	return values;
}

static void add_layers(content *c, const trainer *t)
{
	int64_t layers = t->config.layers;
	double *rms = add_record(c, "activations/output_rms", 1, layers, 0);
	double *max_abs = add_record(c, "activations/output_max_abs", 1, layers, 0);
	double *logit = add_record(c, "activations/max_attention_logit", 1, layers, 0);
	double *over = add_record(c, "activations/share_logits_over_100", 1, layers, 0);
	double *heads = add_record(c, "activations/head_max_logits", 2, layers, t->config.heads);
	if (c->failed)
		return;
	for (int64_t i = 0; i < layers; i++) {
		const mspec_layer_record *layer = &t->records->records.layers[i];
		rms[i] = sqrt(layer->output_sumsq / layer->output_count);
		max_abs[i] = layer->output_max_abs;
		logit[i] = layer->max_attention_logit;
		over[i] = layer->logits_over_100 / layer->logit_count;
	}
	memcpy(heads, t->records->records.head_max_logits,
	       (size_t)(layers * t->config.heads) * sizeof *heads);
}

static void add_loads(content *c, const trainer *t)
{
	int64_t layers = t->config.layers, experts = t->config.experts;
	double *loads = add_record(c, "activations/expert_tokens", 2, layers, experts);
	for (int64_t i = 0; loads && i < layers * experts; i++)
		loads[i] = (double)t->records->records.expert_tokens[i];
}

/* The outputs of matrices that saw a token. */
static void add_matrices(content *c, const trainer *t)
{
	for (size_t i = 0; i < mspec_model_tensor_count(t->model) && !c->failed; i++) {
		const mspec_tensor_record *record = &t->records->records.tensors[i];
		const char *tensor = mspec_model_tensor_at(t->model, i)->name;
		char name[400];
		if (!(record->output_count > 0))
			continue;
		snprintf(name, sizeof name, "activations/matrices/%s/output_rms", tensor);
		double *rms = add_record(c, name, 1, 1, 0);
		snprintf(name, sizeof name, "activations/matrices/%s/output_max_abs", tensor);
		double *max_abs = add_record(c, name, 1, 1, 0);
		if (c->failed)
			return;
		*rms = sqrt(record->output_sumsq / record->output_count);
		*max_abs = record->output_max_abs;
	}
}

static void add_number(content *c, const char *name, double value)
{
	if (!isnan(value))
		c->numbers[c->training.number_count++] = (mspec_training_number){name, value};
}

static void add_text(content *c, const char *name, const char *value)
{
	c->texts[c->training.text_count++] = (mspec_training_text){name, value};
}

static void add_attributes(content *c, const trainer *t)
{
	const train_options *o = t->options;
	int64_t last = t->step ? t->step - 1 : 0;
	add_number(c, "step", (double)t->step);
	add_number(c, "tokens", (double)(t->step * o->batch * o->length));
	add_number(c, "lr", muon_schedule_lr(&t->schedule, last));
	add_number(c, "weight_decay", o->weight_decay);
	add_number(c, "loss", t->held_out_loss);
	add_number(c, "train_loss", t->row.loss);
	add_number(c, "update_rms", t->row.update_rms);
	add_number(c, "weight_rms", t->row.weight_rms);
	add_number(c, "unigram_entropy", t->corpus.entropy);
	add_number(c, "seed", (double)o->seed);
	add_text(c, "optimizer", o->optimizer == OPTIMIZER_MUON ? "muon" : "adamw");
	add_text(c, "config", t->config_json);
	add_text(c, "options", t->described);
	add_text(c, "corpus", o->corpus);
	add_text(c, "corpus_hash", muon_arena_format(&c->arena, "%016llx",
	                                             (unsigned long long)t->corpus.hash));
	add_text(c, "program", "muontrain " MUON_VERSION);
}

static void add_parameters(content *c, const trainer *t)
{
	for (size_t i = 0; i < mspec_model_tensor_count(t->model); i++) {
		const mspec_model_tensor *m = mspec_model_tensor_at(t->model, i);
		c->tensors[c->training.tensor_count++] = (mspec_training_tensor){
		    m->name, MUON_F32, m->rank, {m->dims[0], m->dims[1]},
		    t->parameters + m->offset};
	}
}

static int begin_content(content *c, const trainer *t, muon_error *err)
{
	enum { LAYER_RECORDS = 6 };
	*c = (content){0};
	c->tensors = muon_arena_alloc(&c->arena,
	                              3 * mspec_model_tensor_count(t->model) + LAYER_RECORDS,
	                              sizeof *c->tensors);
	c->training = (mspec_training){.tensors = c->tensors, .numbers = c->numbers,
	                               .texts = c->texts, .comm = t->comm};
	if (!c->tensors)
		return muon_fail(err, MUON_E_MEMORY, NULL, "out of memory");
	add_parameters(c, t);
	return MUON_OK;
}

/* ---- saving and loading -------------------------------------------------------------------- */

static int save_content(trainer *t, content *c, const char *path, muon_error *err)
{
	bool with_state = t->options->states != STATES_NONE;
	add_layers(c, t);
	add_matrices(c, t);
	if (t->config.experts)
		add_loads(c, t);
	add_attributes(c, t);
	if (c->failed)
		return muon_fail(err, MUON_E_MEMORY, path, "out of memory");
	c->training.optimizer = with_state ? t->optimizer : NULL;
	return mspec_training_save(path, &c->training, err);
}

/* Only the newest checkpoint needs the state. That an older one keeps it for want of space is no
 * reason to stop. */
static void strip_older(trainer *t)
{
	muon_error err = {0};
	int64_t older = t->state_step;
	bool strip = t->options->states == STATES_LAST && older >= 0 && older != t->step;
	char *path = strip && !t->rank ? folder_checkpoint(t->options->out, older) : NULL;
	if (path && mspec_training_strip(path, &err) && !t->options->quiet)
		fprintf(messages(), "muontrain: %s: keeps its optimizer state: %s\n", err.where,
		        err.message);
	muon_free(path);
	if (t->options->states != STATES_NONE)
		t->state_step = t->step;
}

int trainer_save(trainer *t, muon_error *err)
{
	content c;
	int code = t->evaluated == t->step ? MUON_OK : trainer_evaluate(t, err);
	if (code)
		return code;
	char *path = folder_checkpoint(t->options->out, t->step);
	code = begin_content(&c, t, err);
	if (!code && !path)
		code = muon_fail(err, MUON_E_MEMORY, NULL, "out of memory");
	if (!code && !t->rank)
		code = run_log_flush(&t->log, err);
	code = t->comm ? muon_comm_agree(t->comm, code) : code;
	if (!code)
		code = save_content(t, &c, path, err);
	muon_arena_release(&c.arena);
	muon_free(path);
	if (code)
		return code;
	t->saved_step = t->step;
	strip_older(t);
	return MUON_OK;
}

static int load_content(trainer *t, content *c, const char *path, muon_error *err)
{
	double values[2] = {NAN, NAN};
	add_number(c, "loss", 0);
	add_number(c, "train_loss", 0);
	int code = mspec_training_load(path, &c->training, values, err);
	t->held_out_loss = values[0];
	t->row.loss = values[1];
	return code;
}

int trainer_load(trainer *t, const train_start *start, muon_error *err)
{
	content c;
	int code = begin_content(&c, t, err);
	if (!code) {
		c.training.optimizer = t->optimizer;
		code = load_content(t, &c, start->resume, err);
	}
	muon_arena_release(&c.arena);
	t->step = t->started_at = t->state_step = t->saved_step = start->step;
	return code;
}
