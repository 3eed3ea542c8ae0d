#include "trainer.h"

#include "base/clock.h"
#include "common/messages.h"

#include <math.h>
#include <signal.h>
#include <string.h>

/* ---- signals ------------------------------------------------------------------------------- */

static volatile sig_atomic_t signalled;

static void note_signal(int number)
{
	signalled = number;
}

/* What would end the program lets it end in order, unless its caller has it ignored. */
static void catch_signals(void)
{
	static const int ending[] = {SIGINT, SIGTERM, SIGHUP};
	for (size_t i = 0; i < sizeof ending / sizeof *ending; i++) {
		struct sigaction action;
		if (sigaction(ending[i], NULL, &action) || action.sa_handler == SIG_IGN)
			continue;
		/* a second one ends it at once */
		action = (struct sigaction){.sa_handler = note_signal,
		                            .sa_flags = (int)(SA_RESTART | SA_RESETHAND)};
		sigaction(ending[i], &action, NULL);
	}
}

/* The signal that some rank has got, or 0. */
static int signal_of_ranks(const trainer *t)
{
	double number = (double)signalled;
	if (t->comm && muon_comm_max(t->comm, &number, 1, NULL))
		return 0;
	return (int)number;
}

/* ---- a step -------------------------------------------------------------------------------- */

static int leave_together(const trainer *t, int code)
{
	return t->comm ? muon_comm_agree(t->comm, code) : code;
}

static void draw_batch(trainer *t)
{
	const train_options *o = t->options;
	for (int64_t i = 0; i < t->batch.count; i++)
		corpus_sample(&t->corpus, (uint64_t)o->seed, t->step, t->batch.first + i, o->length,
		              t->batch.tokens + i * o->length, t->batch.targets + i * o->length);
}

static int run_batch(trainer *t, batch_sums **sums, muon_error *err)
{
	const train_options *o = t->options;
	draw_batch(t);
	const batch_work work = {.parameters = t->parameters,
	                         .tokens = t->batch.tokens,
	                         .targets = t->batch.targets,
	                         .sequences = t->batch.count,
	                         .bf16 = o->precision != PRECISION_FLOAT32,
	                         .backward = true,
	                         .head_logits = o->qk_clip > 0,
	                         .loss_scale = 1 / (double)(o->batch * o->length)};
	int code = leave_together(t, micro_batches_run(t->batches, &work, sums, err));
	if (!code)
		code = batch_sums_over_ranks(t->model, t->comm, *sums, err);
	if (code)
		return code;
	t->row.loss = (*sums)->loss / (*sums)->targets;
	if (!isfinite(t->row.loss))
		return muon_fail(err, MUON_E_NONFINITE, NULL,
		                 "the loss of step %lld is %s: the training has diverged",
		                 (long long)t->step + 1, isnan(t->row.loss) ? "NaN" : "Inf");
	return MUON_OK;
}

/* Weights that are kept in bf16 alone. */
static void round_weights(trainer *t)
{
	for (size_t i = 0; i < mspec_model_tensor_count(t->model); i++) {
		const mspec_model_tensor *m = mspec_model_tensor_at(t->model, i);
		float *values = t->parameters + m->offset;
		for (int64_t k = 0; m->trained && k < m->count; k++)
			values[k] = (float)muon_round_bf16((double)values[k]);
	}
}

/* Loads of the experts over their layer's mean. */
static void note_loads(trainer *t, const int64_t *tokens)
{
	int64_t experts = t->config.experts;
	for (int64_t layer = t->config.dense_layers; layer < t->config.layers; layer++) {
		double total = 0;
		for (int64_t e = 0; e < experts; e++)
			total += (double)tokens[layer * experts + e];
		for (int64_t e = 0; e < experts && total > 0; e++) {
			double load = (double)(tokens[layer * experts + e] * experts) / total;
			t->row.expert_load_min = fmin(t->row.expert_load_min, load);
			t->row.expert_load_max = fmax(t->row.expert_load_max, load);
		}
	}
}

static void note_statistics(trainer *t)
{
	double gradient = 0, update = 0, weight = 0, hidden = 0;
	size_t index = 0;
	for (size_t i = 0; i < mspec_model_tensor_count(t->model); i++) {
		const mspec_model_tensor *m = mspec_model_tensor_at(t->model, i);
		muon_statistics s;
		if (!m->trained || muon_optimizer_statistics(t->optimizer, index++, &s))
			continue;
		double count = (double)m->count;
		gradient += count * s.gradient_rms * s.gradient_rms;
		if (m->role != MUON_ROLE_HIDDEN && m->role != MUON_ROLE_ROUTER)
			continue;
		hidden += count;
		update += count * s.update_rms * s.update_rms;
		weight += count * s.weight_rms * s.weight_rms;
	}
	t->row.gradient_norm = sqrt(gradient);
	t->row.update_rms = sqrt(update / hidden);
	t->row.weight_rms = sqrt(weight / hidden);
}

static void note_time(trainer *t, double seconds, double optimizer)
{
	double tokens = (double)(t->options->batch * t->options->length);
	muon_step_seconds phases;
	muon_optimizer_seconds(t->optimizer, &phases);
	t->row.reduce_seconds = phases.reduce;
	t->row.momentum_seconds = phases.momentum;
	t->row.gather_seconds = phases.gather;
	t->row.newton_schulz_seconds = phases.newton_schulz;
	t->row.update_seconds = phases.update;
	t->row.all_gather_seconds = phases.all_gather;
	t->row.tokens = (double)t->step * tokens;
	t->row.tokens_per_second = tokens / seconds;
	t->row.step_seconds = seconds;
	t->row.optimizer_seconds = optimizer;
	t->step_seconds += seconds;
	t->optimizer_seconds += optimizer;
}

static int update(trainer *t, muon_error *err)
{
	muon_error reason = {0};
	int code = muon_optimizer_step(t->optimizer, t->row.lr, &reason);
	if (code == MUON_E_NONFINITE)
		return muon_fail(err, code, reason.where, "step %lld: %s: the training has diverged",
		                 (long long)t->step + 1, reason.message);
	return code ? muon_fail(err, code, reason.where, "%s", reason.message) : MUON_OK;
}

static int take_step(trainer *t, muon_error *err)
{
	double started = muon_seconds(), busy = muon_processor_seconds(), computed;
	batch_sums *sums;
	log_row_clear(&t->row, t->step + 1);
	t->row.lr = muon_schedule_lr(&t->schedule, t->step);
	int code = run_batch(t, &sums, err);
	if (code)
		return code;
	computed = muon_seconds();
	code = update(t, err);
	if (code)
		return code;
	if (t->options->qk_clip > 0)
		code = trainer_clip(t, sums->records.head_max_logits, err);
	if (code)
		return code;
	if (t->config.experts) {
		mspec_model_balance(t->model, t->parameters, sums->records.expert_tokens,
		                    t->options->balance_speed);
		note_loads(t, sums->records.expert_tokens);
	}
	if (t->options->precision == PRECISION_BF16_NO_MASTER)
		round_weights(t);
	t->step++;
	note_statistics(t);
	note_time(t, muon_seconds() - started, muon_seconds() - computed);
	t->processor_seconds += muon_processor_seconds() - busy;
	return MUON_OK;
}

/* ---- the run ------------------------------------------------------------------------------- */

/* After a step, or before the first: evaluate, log and save as due. */
static int finish_step(trainer *t, bool stopping, muon_error *err)
{
	bool saves = stopping || trainer_saves_after(t, t->step);
	bool evaluates = saves || t->step % t->options->eval_every == 0;
	int code = evaluates ? trainer_evaluate(t, err) : MUON_OK;
	if (!code && !t->rank)
		code = run_log_write(&t->log, &t->row, err);
	code = leave_together(t, code);
	if (!code && evaluates)
		report_evaluation(t);
	return !code && saves ? trainer_save(t, err) : code;
}

/* Say where one can go on from. */
static int explain(const trainer *t, int code, const muon_error *err)
{
	if (t->rank || code == MUON_E_USAGE || !err || t->options->quiet)
		return code;
	if (t->saved_step >= 0)
		fprintf(messages(), "muontrain: the last checkpoint is %s/step-%06lld.h5\n",
		        t->options->out, (long long)t->saved_step);
	return code;
}

int trainer_run(trainer *t, int *stopped, muon_error *err)
{
	int code = MUON_OK;
	*stopped = 0;
	catch_signals();
	progress_start(&t->progress, (when)t->options->progress, t->options->quiet);
	if (!t->step && t->started_at == 0 && t->saved_step < 0) {
		log_row_clear(&t->row, 0);
		t->row.tokens = 0;
		code = finish_step(t, false, err);
	}
	while (!code && t->step < t->options->steps && !*stopped) {
		code = take_step(t, err);
		if (code)
			break;
		*stopped = signal_of_ranks(t);
		code = finish_step(t, *stopped != 0, err);
		if (!code)
			report_step(t);
	}
	progress_end(&t->progress);
	return code ? explain(t, code, err) : MUON_OK;
}
