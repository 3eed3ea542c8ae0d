/* Runs a model on numbers from files, for model_torch.py.
 *
 *     run_model tensors KEY=VALUE...                   its tensors: name, trained, dims
 *     run_model f32|f64|bf16 IN OUT KEY=VALUE...       loss, logits and gradients; bf16: rounded to
 *                                                      it, in float64
 *
 * Keys are the fields of mspec_model_config, and sequences, length. IN: the parameters (float64), the
 * tokens and the targets (int32). OUT: loss sum, logits, gradient of the loss sum (float64). */
#include "model/float64.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct numbers {
	mspec_model_config config;
	int64_t sequences, length;
	double *parameters, *logits, *gradient, loss;
	int32_t *tokens, *targets;
	int64_t parameter_count, rows, logit_count;
} numbers;

static void demand(bool good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "run_model: %s\n", what);
	exit(1);
}

static void *allocate(int64_t count, size_t size)
{
	void *block = muon_alloc((size_t)count, size);
	demand(block, "out of memory");
	return block;
}

/* ---- the command line ----------------------------------------------------------------------- */

#define INTEGERS(X)                                                                                \
	X(vocab) X(hidden) X(layers) X(heads) X(kv_heads) X(head_dim) X(ffn) X(context)            \
	X(dense_layers) X(experts) X(shared_experts) X(top_k) X(expert_ffn) X(kv_rank) X(nope_dim) \
	X(rope_dim) X(value_dim)
#define REALS(X) X(rope_theta) X(norm_eps) X(routed_scale)

static void set(numbers *n, const char *setting)
{
	char key[32];
	double value;
	demand(sscanf(setting, "%31[^=]=%lf", key, &value) == 2, setting);
#define SET_INTEGER(name)                                                                          \
	if (!strcmp(key, #name))                                                                   \
		n->config.name = (int64_t)value;
#define SET_REAL(name)                                                                             \
	if (!strcmp(key, #name))                                                                   \
		n->config.name = value;
	INTEGERS(SET_INTEGER)
	REALS(SET_REAL)
	if (!strcmp(key, "tied_head"))
		n->config.tied_head = value != 0;
	if (!strcmp(key, "deepseek"))
		n->config.family = value != 0 ? MSPEC_FAMILY_DEEPSEEK : MSPEC_FAMILY_LLAMA;
	if (!strcmp(key, "sequences"))
		n->sequences = (int64_t)value;
	if (!strcmp(key, "length"))
		n->length = (int64_t)value;
}

static void list_tensors(const mspec_model *model)
{
	for (size_t i = 0; i < mspec_model_tensor_count(model); i++) {
		const mspec_model_tensor *t = mspec_model_tensor_at(model, i);
		printf("%s %d %lld", t->name, t->trained, (long long)t->dims[0]);
		if (t->rank == 2)
			printf(" %lld", (long long)t->dims[1]);
		printf("\n");
	}
}

/* ---- files ---------------------------------------------------------------------------------- */

static void read_input(numbers *n, const char *path)
{
	FILE *file = fopen(path, "rb");
	demand(file, path);
	n->parameters = allocate(n->parameter_count, sizeof(double));
	n->tokens = allocate(n->rows, sizeof(int32_t));
	n->targets = allocate(n->rows, sizeof(int32_t));
	size_t got = fread(n->parameters, sizeof(double), (size_t)n->parameter_count, file);
	got += fread(n->tokens, sizeof(int32_t), (size_t)n->rows, file);
	got += fread(n->targets, sizeof(int32_t), (size_t)n->rows, file);
	demand(got == (size_t)(n->parameter_count + 2 * n->rows), "the input is too short");
	fclose(file);
}

static void write_output(const numbers *n, const char *path)
{
	FILE *file = fopen(path, "wb");
	demand(file, path);
	size_t put = fwrite(&n->loss, sizeof(double), 1, file);
	put += fwrite(n->logits, sizeof(double), (size_t)n->logit_count, file);
	put += fwrite(n->gradient, sizeof(double), (size_t)n->parameter_count, file);
	demand(put == (size_t)(1 + n->logit_count + n->parameter_count) && !fclose(file),
	       "the output can't be written");
}

/* ---- runs ----------------------------------------------------------------------------------- */

static void run_float64(numbers *n, const mspec_model *model, bool bf16)
{
	const mspec_batch batch = {n->sequences, n->length, true};
	mspec_workspace_f64 workspace;
	demand(!mspec_workspace_init_f64(&workspace, model, &batch), "out of memory");
	mspec_run_f64 run = {
	    .model = model,
	    .workspace = &workspace,
	    .parameters = n->parameters,
	    .gradient = n->gradient,
	    .tokens = n->tokens,
	    .targets = n->targets,
	    .batch = batch,
	    .bf16 = bf16,
	    .logits = n->logits,
	    .loss_scale = 1,
	};
	demand(!mspec_model_run_f64(&run), "the run failed");
	n->loss = run.loss_sum;
	mspec_workspace_release_f64(&workspace);
}

static void run_float32(numbers *n, const mspec_model *model)
{
	float *parameters = allocate(n->parameter_count, sizeof(float));
	float *gradient = allocate(n->parameter_count, sizeof(float));
	float *logits = allocate(n->logit_count, sizeof(float));
	mspec_workspace *workspace;
	demand(!mspec_workspace_create(&workspace, model, n->sequences, n->length, true, NULL),
	       "out of memory");
	for (int64_t i = 0; i < n->parameter_count; i++)
		parameters[i] = (float)n->parameters[i];
	mspec_pass pass = {
	    .parameters = parameters,
	    .tokens = n->tokens,
	    .targets = n->targets,
	    .sequences = n->sequences,
	    .length = n->length,
	    .logits = logits,
	    .gradient = gradient,
	    .loss_scale = 1,
	};
	demand(!mspec_model_run(model, workspace, &pass), "the run failed");
	n->loss = pass.loss_sum;
	for (int64_t i = 0; i < n->parameter_count; i++)
		n->gradient[i] = (double)gradient[i];
	for (int64_t i = 0; i < n->logit_count; i++)
		n->logits[i] = (double)logits[i];
	mspec_workspace_destroy(&workspace);
	muon_free(parameters);
	muon_free(gradient);
	muon_free(logits);
}

int main(int argc, char **argv)
{
	demand(argc > 1, "usage: run_model tensors|f32|f64|bf16 [IN OUT] KEY=VALUE...");
	const bool only_list = !strcmp(argv[1], "tensors");
	numbers n = {0};
	for (int i = only_list ? 2 : 4; i < argc; i++)
		set(&n, argv[i]);
	mspec_model *model;
	muon_error err = {0};
	demand(!mspec_model_create(&model, &n.config, &err), err.message);
	if (only_list) {
		list_tensors(model);
	} else {
		demand(argc > 4, "IN and OUT are missing");
		n.parameter_count = mspec_model_parameter_count(model);
		n.rows = n.sequences * n.length;
		n.logit_count = n.rows * n.config.vocab;
		read_input(&n, argv[2]);
		n.logits = allocate(n.logit_count, sizeof(double));
		n.gradient = allocate(n.parameter_count, sizeof(double));
		muon_blas_single_thread();
		if (!strcmp(argv[1], "f32"))
			run_float32(&n, model);
		else
			run_float64(&n, model, !strcmp(argv[1], "bf16"));
		write_output(&n, argv[3]);
	}
	muon_free(n.parameters);
	muon_free(n.tokens);
	muon_free(n.targets);
	muon_free(n.logits);
	muon_free(n.gradient);
	mspec_model_destroy(&model);
	return 0;
}
