#include "model_json.h"
#include "run_folder.h"
#include "trainer.h"

#include "base/memory.h"
#include "base/pool.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- the model ----------------------------------------------------------------------------- */

static int make_model(trainer *t, const train_start *start, muon_error *err)
{
	int code = mspec_model_create(&t->model, &t->config, err);
	if (code)
		return code;
	size_t count = (size_t)mspec_model_parameter_count(t->model);
	t->parameters = muon_alloc_aligned(count, sizeof *t->parameters);
	t->gradient = muon_alloc_aligned(count, sizeof *t->gradient);
	t->config_json = model_json(&t->config);
	t->described = describe_run(t->options);
	if (!t->parameters || !t->gradient || !t->config_json || !t->described)
		return muon_fail(err, MUON_E_MEMORY, NULL, "out of memory");
	if (start->parameters)
		memcpy(t->parameters, start->parameters, count * sizeof *t->parameters);
	else
		mspec_model_initialize(t->model, (uint64_t)t->options->seed, t->parameters);
	for (size_t i = 0; i < count && t->options->precision == PRECISION_BF16_NO_MASTER; i++)
		t->parameters[i] = (float)muon_round_bf16((double)t->parameters[i]);
	return MUON_OK;
}

/* ---- the optimizer ------------------------------------------------------------------------- */

static bool ends_with(const char *text, const char *end)
{
	size_t length = strlen(text), want = strlen(end);
	return length >= want && !strcmp(text + length - want, end);
}

/* Heads whose rows follow each other in the matrix; 0 for others. */
static int heads_of(const mspec_model_config *c, const char *name)
{
	if (ends_with(name, ".q_proj.weight") || ends_with(name, ".kv_b_proj.weight"))
		return (int)c->heads;
	if (ends_with(name, ".k_proj.weight") || ends_with(name, ".v_proj.weight"))
		return (int)c->kv_heads;
	return 0;
}

static size_t list_parameters(const trainer *t, muon_parameter *parameters)
{
	size_t count = 0;
	for (size_t i = 0; i < mspec_model_tensor_count(t->model); i++) {
		const mspec_model_tensor *m = mspec_model_tensor_at(t->model, i);
		if (!m->trained)
			continue;
		parameters[count++] = (muon_parameter){
		    .name = m->name,
		    .rank = m->rank,
		    .dims = {m->dims[0], m->dims[1]},
		    .dtype = MUON_F32,
		    .values = t->parameters + m->offset,
		    .gradient_dtype = MUON_F32,
		    .gradient = t->gradient + m->offset,
		    .role = m->role,
		    .heads = t->options->per_head ? heads_of(&t->config, m->name) : 0};
	}
	return count;
}

static muon_options optimizer_options(const trainer *t)
{
	const train_options *o = t->options;
	return (muon_options){
	    .momentum = o->momentum,
	    .momentum_kind = (muon_momentum_kind)o->momentum_kind,
	    .nesterov = !o->no_nesterov,
	    .weight_decay = o->weight_decay,
	    .scale = (muon_scale)o->scale,
	    .update_rms = o->update_rms,
	    .fixed_width = o->fixed_width,
	    .coefficients = o->coefficients,
	    .ns_steps = (int)o->ns_steps,
	    .ns_precision = (muon_precision)o->ns_precision,
	    .ns_form = (muon_ns_form)o->ns_form,
	    .router = (muon_rule)o->router,
	    .all_adamw = o->optimizer == OPTIMIZER_ADAMW,
	    .adamw_lr_ratio = o->adamw_lr_ratio,
	    .beta1 = o->beta1,
	    .beta2 = o->beta2,
	    .eps = o->eps,
	    .adamw_weight_decay =
	        o->optimizer == OPTIMIZER_ADAMW ? o->weight_decay : o->adamw_weight_decay,
	    .clip_norm = fmax(o->clip_norm, 0),
	    .threads = t->threads};
}

static int make_optimizer(trainer *t, muon_error *err)
{
	const train_options *o = t->options;
	const muon_options options = optimizer_options(t);
	const muon_distributed_options distributed = {
	    .placement = (muon_placement)o->placement,
	    .gather_dtype = o->gather ? MUON_BF16 : MUON_F32};
	muon_parameter *parameters =
	    muon_alloc(mspec_model_tensor_count(t->model), sizeof *parameters);
	if (!parameters)
		return muon_fail(err, MUON_E_MEMORY, NULL, "out of memory");
	size_t count = list_parameters(t, parameters);
	int code = t->comm ? muon_optimizer_create_distributed(&t->optimizer, &options, parameters,
	                                                       count, t->comm, &distributed, err)
	                   : muon_optimizer_create(&t->optimizer, &options, parameters, count, err);
	muon_free(parameters);
	t->schedule = (muon_schedule){.kind = (muon_schedule_kind)o->schedule,
	                              .lr = o->lr,
	                              .final_lr = o->lr * o->final_lr_ratio,
	                              .steps = o->steps,
	                              .warmup_steps = o->warmup,
	                              .decay_steps = o->decay_steps};
	return code;
}

/* ---- the data ------------------------------------------------------------------------------ */

/* This rank's share of `all` sequences, in whole micro-batches. */
static int make_set(trainer *t, sequence_set *set, int64_t all, int64_t micro, muon_error *err)
{
	size_t first, end;
	rank_share((size_t)((all + micro - 1) / micro), t->rank, t->ranks, &first, &end);
	int64_t last = (int64_t)end * micro < all ? (int64_t)end * micro : all;
	*set = (sequence_set){.all = all, .first = (int64_t)first * micro};
	set->count = last > set->first ? last - set->first : 0;
	size_t tokens = (size_t)(set->count ? set->count : 1) * (size_t)t->options->length;
	set->tokens = muon_alloc(tokens, sizeof *set->tokens);
	set->targets = muon_alloc(tokens, sizeof *set->targets);
	return set->tokens && set->targets ? MUON_OK
	                                   : muon_fail(err, MUON_E_MEMORY, NULL, "out of memory");
}

static int make_data(trainer *t, const train_start *start, muon_error *err)
{
	const train_options *o = t->options;
	int64_t micro = o->batch / o->micro_batches;
	int code = corpus_read(&t->corpus, o->corpus, o->held_out_share, o->length, err);
	if (code)
		return code;
	if (start->resume && t->corpus.hash != start->corpus_hash)
		return muon_fail(err, MUON_E_USAGE, o->corpus,
		                 "is not the text that the run was started with");
	int64_t windows = corpus_windows(&t->corpus, o->length);
	windows = windows < o->eval_windows ? windows : o->eval_windows;
	code = make_set(t, &t->batch, o->batch, micro, err);
	if (!code)
		code = make_set(t, &t->held_out, windows, micro, err);
	if (code)
		return code;
	for (int64_t i = 0; i < t->held_out.count; i++)
		corpus_held_out(&t->corpus, t->held_out.first + i, o->length,
		                t->held_out.tokens + i * o->length,
		                t->held_out.targets + i * o->length);
	int64_t most = t->batch.count > t->held_out.count ? t->batch.count : t->held_out.count;
	return micro_batches_create(&t->batches, t->model, micro, o->length,
	                            (size_t)((most + micro - 1) / micro), t->threads, t->gradient,
	                            err);
}

/* ---- the folder ---------------------------------------------------------------------------- */

static int refuse_used_folder(const trainer *t, muon_error *err)
{
	int64_t *steps;
	size_t count;
	int code = folder_steps(t->options->out, &steps, &count, err);
	if (!code && count)
		code = muon_fail(err, MUON_E_USAGE, t->options->out,
		                 "holds a run; --resume goes on with it, --out names another folder");
	muon_free(steps);
	return code;
}

/* The evaluations' text, for others to run the checkpoints on. */
static int write_held_out(const trainer *t, muon_error *err)
{
	const corpus *c = &t->corpus;
	size_t count = (size_t)(t->held_out.all * t->options->length + 1);
	return folder_write(t->options->out, "held_out.txt", c->bytes + c->train, count, err);
}

/* A run that was killed may have left the optimizer's state in more than the newest. */
static int strip_older(const trainer *t, const train_start *start, muon_error *err)
{
	int64_t *steps;
	size_t count;
	int code = folder_steps(t->options->out, &steps, &count, err);
	for (size_t i = 0; i < count && !code && steps[i] < start->step; i++) {
		char *path = folder_checkpoint(t->options->out, steps[i]);
		code = path ? mspec_training_strip(path, err)
		            : muon_fail(err, MUON_E_MEMORY, NULL, "out of memory");
		muon_free(path);
	}
	muon_free(steps);
	return code;
}

static int make_folder(trainer *t, const train_start *start, muon_error *err)
{
	const char *folder = t->options->out;
	int code = start->resume ? MUON_OK : refuse_used_folder(t, err);
	if (!code)
		code = folder_make(folder, err);
	char *log = code ? NULL : folder_path(folder, "log.csv");
	if (!code && !log)
		code = muon_fail(err, MUON_E_MEMORY, folder, "out of memory");
	if (!code)
		code = start->resume ? run_log_continue(&t->log, log, start->step, err)
		                     : run_log_create(&t->log, log, err);
	muon_free(log);
	if (code)
		return code;
	folder_clean(folder);
	if (start->resume && t->options->states == STATES_LAST)
		code = strip_older(t, start, err);
	return code ? code : write_held_out(t, err);
}

/* ---- all ----------------------------------------------------------------------------------- */

static int share_of_processors(int ranks)
{
	int share = muon_processor_count() / ranks;
	return share > 1 ? share : 1;
}

/* OpenBLAS waits for ever where it can't have its buffers. */
static int check_room(const trainer *t, muon_error *err)
{
	double parameters = (double)mspec_model_parameter_count(t->model);
	if (muon_blas_has_room(t->threads, 4 * sizeof(float) * parameters))
		return MUON_OK;
	return muon_fail(err, MUON_E_MEMORY, NULL,
	                 "no address space for BLAS on %d threads; try --threads 1", t->threads);
}

static int open_parts(trainer *t, const train_start *start, muon_error *err)
{
	int code = make_model(t, start, err);
	if (!code)
		code = check_room(t, err);
	if (!code)
		code = make_data(t, start, err);
	if (t->comm) /* creating the optimizer is for all ranks or none */
		code = muon_comm_agree(t->comm, code);
	if (!code)
		code = make_optimizer(t, err);
	if (!code && !t->rank)
		code = make_folder(t, start, err);
	if (t->comm)
		code = muon_comm_agree(t->comm, code);
	return !code && start->resume ? trainer_load(t, start, err) : code;
}

int trainer_open(trainer *t, train_options *options, const mspec_model_config *config,
                 const train_start *start, muon_comm *comm, muon_error *err)
{
	*t = (trainer){.options = options, .config = *config, .comm = comm, .ranks = 1,
	               .evaluated = -1, .state_step = -1, .saved_step = -1};
	log_row_clear(&t->row, 0);
	if (comm) {
		t->rank = muon_comm_rank(comm);
		t->ranks = muon_comm_size(comm);
	}
	t->threads = options->threads > 0 ? (int)options->threads : share_of_processors(t->ranks);
	muon_blas_single_thread();
	return open_parts(t, start, err);
}

void trainer_close(trainer *t)
{
	run_log_close(&t->log);
	muon_optimizer_destroy(&t->optimizer);
	micro_batches_destroy(&t->batches);
	mspec_model_destroy(&t->model);
	corpus_release(&t->corpus);
	muon_free_aligned(t->parameters);
	muon_free_aligned(t->gradient);
	muon_free(t->batch.tokens);
	muon_free(t->batch.targets);
	muon_free(t->held_out.tokens);
	muon_free(t->held_out.targets);
	muon_free(t->described);
	free(t->config_json);
	*t = (trainer){0};
}
