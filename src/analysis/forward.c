#include "base/clock.h"
#include "base/memory.h"
#include "base/pool.h"

#include <muonspec/forward.h>

#include <math.h>
#include <pthread.h>
#include <string.h>

/* Windows are run several at a time: a task has about so many tokens, and fewer where their
 * activations take more bytes. Neither depends on the machine, as the order of sums does on both.
 */
enum { TASK_TOKENS = 2048, TASK_BYTES = 256 << 20, USUAL_LENGTH = 2048 };

/* What one task found; combined in order of the tasks, so that sums don't depend on threads. */
typedef struct task_result {
	mspec_records records[2];   /* float32, bf16 */
	double *error_sq, *norm_sq; /* layers: of the bf16 run's output against the float32 run's */
	double loss[2];
	double logits_error;
	int code;
} task_result;

typedef struct forward_job {
	const mspec_model *model;
	const mspec_model_config *config;
	const float *parameters;
	const int32_t *tokens;
	int64_t count;  /* tokens in all */
	int64_t length; /* of a window */
	int64_t windows, windows_a_task;
	int64_t tensors;
	const mspec_forward_options *options;
	task_result *results;
	size_t tasks;
	struct worker *workers;
	float *logits;
	pthread_mutex_t lock;
	size_t done;
	bool stopped;
} forward_job;

/* Buffers of one thread. */
typedef struct worker {
	mspec_workspace *workspace;
	float *outputs[2]; /* layers x tokens x hidden, of each run */
	float *logits[2];  /* tokens x vocab */
} worker;

/* ---- one task ---------------------------------------------------------------------------- */

/* A task's windows: all of the same length, but that the file's last may be shorter. */
typedef struct task_part {
	int64_t first; /* token */
	int64_t sequences, length;
} task_part;

static int64_t part_rows(const task_part *part)
{
	return part->sequences * part->length;
}

/* Windows are `length` tokens each, their targets the tokens one further on. */
static size_t list_parts(const forward_job *job, size_t task, task_part parts[2])
{
	int64_t targets = job->count - 1;
	int64_t first = (int64_t)task * job->windows_a_task * job->length;
	int64_t end = first + job->windows_a_task * job->length;
	end = end < targets ? end : targets;
	int64_t whole = (end - first) / job->length, rest = (end - first) % job->length;
	size_t count = 0;
	if (whole)
		parts[count++] = (task_part){first, whole, job->length};
	if (rest)
		parts[count++] = (task_part){first + whole * job->length, 1, rest};
	return count;
}

static void add_layer_errors(const forward_job *job, const worker *w, int64_t rows, task_result *r)
{
	size_t width = (size_t)(rows * job->config->hidden);
	for (int64_t layer = 0; layer < job->config->layers; layer++) {
		const float *a = w->outputs[0] + (size_t)layer * width;
		const float *b = w->outputs[1] + (size_t)layer * width;
		double error = 0, norm = 0;
		for (size_t i = 0; i < width; i++) {
			double difference = (double)b[i] - a[i];
			error += difference * difference;
			norm += (double)a[i] * a[i];
		}
		r->error_sq[layer] += error;
		r->norm_sq[layer] += norm;
	}
}

static double largest_difference(const float *a, const float *b, int64_t count)
{
	double largest = 0;
	for (int64_t i = 0; i < count; i++) {
		double difference = fabs((double)a[i] - b[i]);
		if (!(difference <= largest)) /* a NaN stays */
			largest = difference;
	}
	return largest;
}

static int run_part(forward_job *job, worker *w, const task_part *part, task_result *r)
{
	int64_t rows = part_rows(part), vocab = job->config->vocab;
	for (int bf16 = 0; bf16 < 2; bf16++) {
		mspec_pass pass = {.parameters = job->parameters,
		                   .tokens = job->tokens + part->first,
		                   .targets = job->tokens + part->first + 1,
		                   .sequences = part->sequences,
		                   .length = part->length,
		                   .bf16 = bf16,
		                   .logits = w->logits[bf16],
		                   .layer_outputs = w->outputs[bf16],
		                   .records = &r->records[bf16]};
		int code = mspec_model_run(job->model, w->workspace, &pass);
		if (code)
			return code;
		r->loss[bf16] += pass.loss_sum;
	}
	add_layer_errors(job, w, rows, r);
	double error = largest_difference(w->logits[0], w->logits[1], rows * vocab);
	if (!(error <= r->logits_error))
		r->logits_error = error;
	if (job->logits)
		memcpy(job->logits + part->first * vocab, w->logits[0],
		       (size_t)(rows * vocab) * sizeof *job->logits);
	return MUON_OK;
}

static bool report_progress(forward_job *job)
{
	pthread_mutex_lock(&job->lock);
	job->done++;
	if (job->options->progress &&
	    !job->options->progress(job->options->progress_state,
	                            (double)job->done / (double)job->tasks))
		job->stopped = true;
	bool go_on = !job->stopped;
	pthread_mutex_unlock(&job->lock);
	return go_on;
}

static bool run_task(void *state, size_t task, int index)
{
	forward_job *job = state;
	task_result *r = &job->results[task];
	task_part parts[2];
	size_t count = list_parts(job, task, parts);
	for (size_t i = 0; i < count && !r->code; i++)
		r->code = run_part(job, &job->workers[index], &parts[i], r);
	return report_progress(job) && !r->code;
}

/* ---- combining --------------------------------------------------------------------------- */

static void add_layer(mspec_layer_record *sum, const mspec_layer_record *part)
{
	sum->output_sumsq += part->output_sumsq;
	sum->output_count += part->output_count;
	sum->output_max_abs = fmax(sum->output_max_abs, part->output_max_abs);
	sum->max_attention_logit = fmax(sum->max_attention_logit, part->max_attention_logit);
	sum->logits_over_100 += part->logits_over_100;
	sum->logit_count += part->logit_count;
}

static void add_tensor(mspec_tensor_record *sum, const mspec_tensor_record *part)
{
	sum->output_sumsq += part->output_sumsq;
	sum->output_count += part->output_count;
	sum->output_max_abs = fmax(sum->output_max_abs, part->output_max_abs);
}

/* Add a task's findings to those of the first task. */
static void add_result(const forward_job *job, task_result *sum, const task_result *part)
{
	int64_t layers = job->config->layers, heads = layers * job->config->heads;
	for (int run = 0; run < 2; run++) {
		mspec_records *to = &sum->records[run];
		const mspec_records *from = &part->records[run];
		for (int64_t i = 0; i < layers; i++)
			add_layer(&to->layers[i], &from->layers[i]);
		for (int64_t i = 0; i < job->tensors; i++)
			add_tensor(&to->tensors[i], &from->tensors[i]);
		for (int64_t i = 0; i < heads; i++)
			to->head_max_logits[i] =
			    fmax(to->head_max_logits[i], from->head_max_logits[i]);
		sum->loss[run] += part->loss[run];
	}
	for (int64_t i = 0; i < layers; i++) {
		sum->error_sq[i] += part->error_sq[i];
		sum->norm_sq[i] += part->norm_sq[i];
	}
	if (!(part->logits_error <= sum->logits_error))
		sum->logits_error = part->logits_error;
}

static void fill_layers(mspec_forward_run *run, const task_result *sum, int64_t layers)
{
	for (int64_t i = 0; i < layers; i++) {
		const mspec_layer_record *record = &sum->records[run->bf16].layers[i];
		run->layers[i] = (mspec_forward_layer){
		    .output_rms = sqrt(record->output_sumsq / record->output_count),
		    .output_max_abs = record->output_max_abs,
		    .max_attention_logit = record->max_attention_logit,
		    .share_logits_over_100 = record->logits_over_100 / record->logit_count,
		    .bf16_error = run->bf16 ? sqrt(sum->error_sq[i] / sum->norm_sq[i]) : NAN,
		};
	}
}

/* A tensor that multiplies activations: its output was recorded, or would be for some token. The
 * embedding does where it is the head too. */
static bool has_output(const mspec_model *model, const mspec_model_tensor *tensor)
{
	return tensor->rank == 2 &&
	       (tensor->role != MUON_ROLE_EMBEDDING || mspec_model_config_of(model)->tied_head);
}

static void fill_matrices(const forward_job *job, mspec_forward_run *run, const task_result *sum)
{
	int64_t n = 0;
	for (int64_t i = 0; i < job->tensors; i++) {
		const mspec_model_tensor *t = mspec_model_tensor_at(job->model, (size_t)i);
		const mspec_tensor_record *record = &sum->records[run->bf16].tensors[i];
		bool seen = record->output_count > 0;
		if (has_output(job->model, t))
			run->matrices[n++] = (mspec_forward_matrix){
			    t->name, seen ? sqrt(record->output_sumsq / record->output_count) : NAN,
			    seen ? record->output_max_abs : NAN};
	}
}

static void fill_report(const forward_job *job, mspec_forward *f)
{
	task_result *sum = &job->results[0];
	for (size_t i = 1; i < job->tasks; i++)
		add_result(job, sum, &job->results[i]);
	for (int run = 0; run < 2; run++) {
		mspec_forward_run *to = &f->runs[run];
		to->bf16 = run;
		to->loss = sum->loss[run] / (double)f->tokens;
		to->logits_error = run ? sum->logits_error : NAN;
		fill_layers(to, sum, f->layers);
		fill_matrices(job, to, sum);
		memcpy(to->head_max_logits, sum->records[run].head_max_logits,
		       (size_t)(f->layers * f->heads) * sizeof *to->head_max_logits);
	}
}

/* ---- memory ------------------------------------------------------------------------------ */

static bool allocate_result(const forward_job *job, muon_arena *arena, task_result *r)
{
	size_t layers = (size_t)job->config->layers, heads = layers * (size_t)job->config->heads;
	r->error_sq = muon_arena_alloc(arena, layers, sizeof *r->error_sq);
	r->norm_sq = muon_arena_alloc(arena, layers, sizeof *r->norm_sq);
	for (int run = 0; run < 2; run++) {
		mspec_records *records = &r->records[run];
		records->layers = muon_arena_alloc(arena, layers, sizeof *records->layers);
		records->tensors =
		    muon_arena_alloc(arena, (size_t)job->tensors, sizeof *records->tensors);
		records->head_max_logits =
		    muon_arena_alloc(arena, heads, sizeof *records->head_max_logits);
		if (!records->layers || !records->tensors || !records->head_max_logits)
			return false;
		for (size_t i = 0; i < layers; i++)
			records->layers[i].max_attention_logit = -INFINITY;
		for (size_t i = 0; i < heads; i++)
			records->head_max_logits[i] = -INFINITY;
	}
	return r->error_sq && r->norm_sq;
}

static bool allocate_run(muon_arena *arena, const mspec_forward *f, mspec_forward_run *run)
{
	run->layers = muon_arena_alloc(arena, (size_t)f->layers, sizeof *run->layers);
	run->matrices = muon_arena_alloc(arena, (size_t)f->matrices, sizeof *run->matrices);
	run->head_max_logits =
	    muon_arena_alloc(arena, (size_t)(f->layers * f->heads), sizeof *run->head_max_logits);
	return run->layers && run->matrices && run->head_max_logits;
}

/* TASK_BYTES bounds what a worker takes unless one window alone takes more. */
static int create_worker(const forward_job *job, worker *w, muon_error *err)
{
	int64_t rows = job->windows_a_task * job->length;
	size_t outputs = (size_t)(rows * job->config->layers * job->config->hidden);
	size_t logits = (size_t)(rows * job->config->vocab);
	int code = mspec_workspace_create(&w->workspace, job->model, job->windows_a_task,
	                                  job->length, false, err);
	for (int run = 0; run < 2 && !code; run++) {
		w->outputs[run] = muon_alloc_aligned(outputs, sizeof(float));
		w->logits[run] = muon_alloc_aligned(logits, sizeof(float));
		if (!w->outputs[run] || !w->logits[run])
			code = muon_fail(err, MUON_E_MEMORY, NULL,
			                 "out of memory for the activations of windows of %lld "
			                 "tokens",
			                 (long long)job->length);
	}
	return code;
}

static void destroy_worker(worker *w)
{
	mspec_workspace_destroy(&w->workspace);
	for (int run = 0; run < 2; run++) {
		muon_free_aligned(w->outputs[run]);
		muon_free_aligned(w->logits[run]);
	}
}

/* ---- the whole --------------------------------------------------------------------------- */

static int check_tokens(const forward_job *job, muon_error *err)
{
	if (job->count < 2)
		return muon_fail(err, MUON_E_ARGUMENT, NULL, "fewer than two tokens");
	for (int64_t i = 0; i < job->count; i++)
		if (job->tokens[i] < 0 || job->tokens[i] >= job->config->vocab)
			return muon_fail(err, MUON_E_ARGUMENT, NULL,
			                 "token %lld is not in the vocabulary", (long long)i);
	return MUON_OK;
}

/* Bytes of a token's activations that a worker keeps. */
static int64_t token_bytes(const mspec_model_config *c)
{
	return 2 * (int64_t)sizeof(float) * (c->layers * c->hidden + c->vocab);
}

static int64_t least(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static void divide(forward_job *job)
{
	const mspec_model_config *c = job->config;
	int64_t targets = job->count - 1, wanted = job->options->length;
	int64_t task_tokens = least(TASK_TOKENS, TASK_BYTES / token_bytes(c));
	job->length = least(least(wanted > 0 ? wanted : USUAL_LENGTH, c->context), targets);
	job->windows = (targets + job->length - 1) / job->length;
	job->windows_a_task = task_tokens > job->length ? task_tokens / job->length : 1;
	job->windows_a_task = least(job->windows_a_task, job->windows);
	job->tasks = (size_t)((job->windows + job->windows_a_task - 1) / job->windows_a_task);
	job->tensors = (int64_t)mspec_model_tensor_count(job->model);
}

static int64_t count_matrices(const mspec_model *model)
{
	int64_t count = 0;
	for (size_t i = 0; i < mspec_model_tensor_count(model); i++)
		count += has_output(model, mspec_model_tensor_at(model, i));
	return count;
}

static bool allocate_report(forward_job *job, muon_arena *arena, mspec_forward *f)
{
	bool ok = allocate_run(arena, f, &f->runs[0]) && allocate_run(arena, f, &f->runs[1]);
	job->results = muon_arena_alloc(arena, job->tasks, sizeof *job->results);
	for (size_t i = 0; ok && job->results && i < job->tasks; i++)
		ok = allocate_result(job, arena, &job->results[i]);
	if (ok && job->options->keep_logits) {
		f->logits =
		    muon_alloc_aligned((size_t)(f->tokens * job->config->vocab), sizeof *f->logits);
		ok = f->logits;
		job->logits = f->logits;
	}
	return ok && job->results;
}

/* As many workers as there are tasks, threads and memory for; one at least. */
static int create_workers(forward_job *job, int *threads, muon_error *err)
{
	int wanted = job->options->threads > 0 ? job->options->threads : muon_processor_count();
	if ((size_t)wanted > job->tasks)
		wanted = (int)job->tasks;
	*threads = 0;
	job->workers = muon_alloc((size_t)wanted, sizeof *job->workers);
	if (!job->workers)
		return muon_fail(err, MUON_E_MEMORY, NULL, "out of memory");
	muon_error reason = {0};
	while (*threads < wanted && !create_worker(job, &job->workers[*threads], &reason))
		++*threads;
	if (*threads < wanted)
		destroy_worker(&job->workers[*threads]);
	return *threads ? MUON_OK : muon_fail(err, reason.code, NULL, "%s", reason.message);
}

static int run_tasks(forward_job *job, int *threads, muon_error *err)
{
	muon_blas_single_thread();
	int code = create_workers(job, threads, err);
	if (!code)
		muon_pool_run(*threads, job->tasks, run_task, job);
	for (int i = 0; i < *threads; i++)
		destroy_worker(&job->workers[i]);
	muon_free(job->workers);
	for (size_t i = 0; i < job->tasks && !code; i++)
		if (job->results[i].code)
			code = muon_fail(err, job->results[i].code, NULL, "the model can't run");
	if (!code && job->stopped)
		code = muon_fail(err, MUON_E_INTERNAL, NULL, "stopped");
	return code;
}

static int run_job(forward_job *job, muon_arena *arena, mspec_forward *f, muon_error *err)
{
	f->config = job->config;
	f->parameters = mspec_model_parameter_count(job->model);
	f->layers = job->config->layers;
	f->heads = job->config->heads;
	f->matrices = count_matrices(job->model);
	f->length = job->length;
	f->windows = job->windows;
	f->tokens = job->count - 1;
	if (!allocate_report(job, arena, f))
		return muon_fail(err, MUON_E_MEMORY, NULL, "out of memory");
	int code = run_tasks(job, &f->threads, err);
	if (!code)
		fill_report(job, f);
	return code;
}

int mspec_forward_run_model(mspec_forward **out, const mspec_model *model, const float *parameters,
                            const int32_t *tokens, int64_t count,
                            const mspec_forward_options *options, muon_error *err)
{
	double start = muon_seconds();
	forward_job job = {.model = model,
	                   .config = mspec_model_config_of(model),
	                   .parameters = parameters,
	                   .tokens = tokens,
	                   .count = count,
	                   .options = options,
	                   .lock = PTHREAD_MUTEX_INITIALIZER};
	*out = NULL;
	int code = check_tokens(&job, err);
	if (code)
		return code;
	divide(&job);
	muon_arena arena = {0};
	mspec_forward *f = muon_arena_alloc(&arena, 1, sizeof *f);
	muon_arena *kept = muon_arena_alloc(&arena, 1, sizeof *kept);
	if (!f || !kept) {
		muon_arena_release(&arena);
		return muon_fail(err, MUON_E_MEMORY, NULL, "out of memory");
	}
	code = run_job(&job, &arena, f, err);
	f->seconds = muon_seconds() - start;
	*kept = arena;
	f->memory = kept;
	*out = f;
	if (code)
		mspec_forward_destroy(out);
	return code;
}

void mspec_forward_destroy(mspec_forward **forward)
{
	if (!*forward)
		return;
	muon_free_aligned((*forward)->logits);
	muon_arena arena = *(muon_arena *)(*forward)->memory;
	muon_arena_release(&arena);
	*forward = NULL;
}
