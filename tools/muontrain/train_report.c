#include "run_folder.h"
#include "trainer.h"

#include "common/json_output.h"
#include "common/messages.h"
#include "common/screen.h"

#include "base/memory.h"
#include "base/text.h"

#include <math.h>

static bool is_silent(const trainer *t)
{
	return t->rank || t->options->quiet;
}

static const char *optimizer_name(const trainer *t)
{
	return t->options->optimizer == OPTIMIZER_MUON ? "muon" : "adamw";
}

/* "400 GFLOP", "12 TFLOP" */
static const char *flops_text(char *text, size_t capacity, double flops)
{
	if (flops < 1e12)
		snprintf(text, capacity, "%.3g GFLOP", flops / 1e9);
	else if (flops < 1e15)
		snprintf(text, capacity, "%.3g TFLOP", flops / 1e12);
	else
		snprintf(text, capacity, "%.3g PFLOP", flops / 1e15);
	return text;
}

static const char *time_text(char *text, size_t capacity, double seconds)
{
	if (seconds < 99.5)
		snprintf(text, capacity, "%.0f seconds", seconds);
	else if (seconds < 5400)
		snprintf(text, capacity, "%.0f minutes", seconds / 60);
	else
		snprintf(text, capacity, "%.1f hours", seconds / 3600);
	return text;
}

static double step_flops(const trainer *t)
{
	const train_options *o = t->options;
	return (double)(o->batch * o->length) * mspec_model_token_flops(t->model, o->length);
}

static void report_model(const trainer *t)
{
	const train_options *o = t->options;
	char all[32], active[32], name[400];
	fprintf(messages(),
	        "muontrain: %s, %s parameters, %s of them active outside embedding and head; %s; "
	        "%d thread%s",
	        muon_escape(name, sizeof name, o->init_from ? o->init_from : o->model),
	        grouped_integer(all, sizeof all, mspec_model_parameter_count(t->model)),
	        grouped_integer(active, sizeof active, mspec_model_active_parameters(t->model)),
	        optimizer_name(t), t->threads, t->threads > 1 ? "s" : "");
	if (t->ranks > 1)
		fprintf(messages(), " on each of %d ranks", t->ranks);
	fputc('\n', messages());
}

static void report_corpus(const trainer *t)
{
	char bytes[32], held_out[32], name[400];
	const corpus *c = &t->corpus;
	fprintf(messages(),
	        "muontrain: %s, %s bytes, the last %s held out; unigram entropy %.4f nats "
	        "(%.3f bits) a byte\n",
	        muon_escape(name, sizeof name, t->options->corpus),
	        grouped_integer(bytes, sizeof bytes, c->count),
	        grouped_integer(held_out, sizeof held_out, c->count - c->train), c->entropy,
	        c->entropy / log(2));
}

static void report_cost(const trainer *t)
{
	const train_options *o = t->options;
	int64_t left = o->steps - t->step;
	double flops = (double)left * step_flops(t);
	char work[32], time[32];
	fprintf(messages(), "muontrain: %lld steps of %lld x %lld tokens, %s in the model",
	        (long long)left, (long long)o->batch, (long long)o->length,
	        flops_text(work, sizeof work, flops));
	if (t->sgemm_rate > 0)
		fprintf(messages(), "; at half of sgemm's %.0f GFLOP/s here: %s", t->sgemm_rate,
		        time_text(time, sizeof time, flops / t->sgemm_rate / 0.5e9));
	fputc('\n', messages());
}

void report_start(trainer *t)
{
	if (!t->options->quiet) { /* all ranks at a time, as they will compute */
		t->sgemm_rate = muon_sgemm_rate(t->threads, &t->sgemm_processor_rate);
		if (t->comm)
			muon_comm_sum(t->comm, &t->sgemm_rate, 1, NULL);
	}
	if (is_silent(t))
		return;
	report_model(t);
	report_corpus(t);
	report_cost(t);
	if (t->step)
		fprintf(messages(), "muontrain: going on after step %lld\n", (long long)t->step);
}

void report_evaluation(trainer *t)
{
	if (is_silent(t))
		return;
	progress_end(&t->progress);
	fprintf(messages(), "step %6lld  held-out loss %.4f", (long long)t->step, t->held_out_loss);
	if (!isnan(t->row.loss))
		fprintf(messages(), "  loss %.4f  gradient %.3g  %.0f tokens/s", t->row.loss,
		        t->row.gradient_norm, t->row.tokens_per_second);
	if (t->config.experts && !isnan(t->row.expert_load_min))
		fprintf(messages(), "  expert load %.2f to %.2f", t->row.expert_load_min,
		        t->row.expert_load_max);
	fputc('\n', messages());
}

void report_step(trainer *t)
{
	char label[64];
	if (t->rank)
		return;
	if (t->options->verbose && t->evaluated != t->step)
		fprintf(messages(), "step %6lld  loss %.4f  gradient %.3g  %.0f tokens/s\n",
		        (long long)t->step, t->row.loss, t->row.gradient_norm,
		        t->row.tokens_per_second);
	snprintf(label, sizeof label, "loss %.4f  %.0f tokens/s", t->row.loss,
	         t->row.tokens_per_second);
	progress_update(&t->progress, (double)(t->step - t->started_at),
	                (double)(t->options->steps - t->started_at), label);
}

/* ---- at the end ---------------------------------------------------------------------------- */

typedef struct summary {
	double tokens, tokens_per_second, gflops, optimizer_share;
	double share_of_sgemm, processor_share; /* the latter by processor time */
	double expert_load_min, expert_load_max; /* on the held-out text */
	char *checkpoint;
} summary;

/* Loads on the held-out text, which the checkpoint holds too. */
static void summarize_loads(const trainer *t, summary *s)
{
	s->expert_load_min = s->expert_load_max = NAN;
	if (!t->config.experts || t->evaluated != t->step)
		return;
	for (int64_t layer = t->config.dense_layers; layer < t->config.layers; layer++) {
		const int64_t *tokens = t->records->records.expert_tokens + layer * t->config.experts;
		double total = 0;
		for (int64_t e = 0; e < t->config.experts; e++)
			total += (double)tokens[e];
		for (int64_t e = 0; e < t->config.experts; e++) {
			double load = (double)tokens[e] * (double)t->config.experts / total;
			s->expert_load_min = fmin(s->expert_load_min, load);
			s->expert_load_max = fmax(s->expert_load_max, load);
		}
	}
}

static summary summarize(const trainer *t)
{
	double steps = (double)(t->step - t->started_at);
	summary s = {.tokens = (double)(t->step * t->options->batch * t->options->length)};
	s.tokens_per_second =
	    steps * (double)(t->options->batch * t->options->length) / t->step_seconds;
	s.gflops = steps * step_flops(t) / t->step_seconds / 1e9;
	s.share_of_sgemm = t->sgemm_rate > 0 ? s.gflops / t->sgemm_rate : NAN;
	/* a rank does its part of the flops, in its threads' time */
	double busy_rate = steps * step_flops(t) / t->ranks / 1e9 /
	                   (t->processor_seconds / t->threads);
	s.processor_share =
	    t->sgemm_processor_rate > 0 ? busy_rate / t->sgemm_processor_rate : NAN;
	s.optimizer_share = t->optimizer_seconds / t->step_seconds;
	s.checkpoint = t->saved_step < 0 ? NULL : folder_checkpoint(t->options->out, t->saved_step);
	summarize_loads(t, &s);
	return s;
}


static int print_json(const trainer *t, const summary *s, muon_error *err)
{
	json_t *object = json_pack(
	    "{s:s, s:o, s:o, s:s, s:I, s:I, s:I}", "schema", "muontrain/run/1", "tool",
	    json_tool(t->threads), "model", json_text(t->options->model), "optimizer",
	    optimizer_name(t), "parameters", (json_int_t)mspec_model_parameter_count(t->model),
	    "step", (json_int_t)t->step, "steps", (json_int_t)t->options->steps);
	json_put(object, "tokens", json_integer((json_int_t)s->tokens));
	json_put(object, "loss", json_number_or_null(t->row.loss));
	json_put(object, "held_out_loss", json_number_or_null(t->held_out_loss));
	json_put(object, "unigram_entropy", json_number_or_null(t->corpus.entropy));
	json_put(object, "tokens_per_second", json_number_or_null(s->tokens_per_second));
	json_put(object, "gflops", json_number_or_null(s->gflops));
	json_put(object, "sgemm_gflops",
	         json_number_or_null(t->sgemm_rate > 0 ? t->sgemm_rate : NAN));
	json_put(object, "share_of_sgemm", json_number_or_null(s->share_of_sgemm));
	json_put(object, "processor_share_of_sgemm", json_number_or_null(s->processor_share));
	json_put(object, "optimizer_share", json_number_or_null(s->optimizer_share));
	json_put(object, "expert_load_min", json_number_or_null(s->expert_load_min));
	json_put(object, "expert_load_max", json_number_or_null(s->expert_load_max));
	json_put(object, "checkpoint", json_text(s->checkpoint));
	return json_print(object, false, err);
}

static void print_table(const trainer *t, const summary *s)
{
	char tokens[32], path[1000];
	printf("steps       %lld of %lld, %s tokens\n", (long long)t->step,
	       (long long)t->options->steps, grouped_integer(tokens, sizeof tokens,
	                                                     (int64_t)s->tokens));
	printf("loss        %.4f held out, unigram entropy %.4f nats a byte\n", t->held_out_loss,
	       t->corpus.entropy);
	if (t->step > t->started_at) {
		printf("speed       %.0f tokens/s, %.1f GFLOP/s in the model", s->tokens_per_second,
		       s->gflops);
		if (t->sgemm_rate > 0)
			printf(", %.0f %% of sgemm's %.0f (%.0f %% by processor time)",
			       100 * s->share_of_sgemm, t->sgemm_rate, 100 * s->processor_share);
		printf("\noptimizer   %.1f %% of the time\n", 100 * s->optimizer_share);
	}
	if (!isnan(s->expert_load_min))
		printf("experts     %.2f to %.2f of the mean load on the held-out text\n",
		       s->expert_load_min, s->expert_load_max);
	if (s->checkpoint)
		printf("checkpoint  %s\n", muon_escape(path, sizeof path, s->checkpoint));
}

int report_end(const trainer *t, muon_error *err)
{
	if (t->rank)
		return MUON_OK;
	summary s = summarize(t);
	int code = MUON_OK;
	if (t->options->format)
		code = print_json(t, &s, err);
	else if (!t->options->quiet)
		print_table(t, &s);
	muon_free(s.checkpoint);
	return code;
}
