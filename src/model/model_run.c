/* The public run: float32. */
#include "model/float32.h"

#include <limits.h>

struct mspec_workspace {
	mspec_workspace_f32 f32;
};

/* Rows, and the choices of their experts, are counted in int. */
static bool has_too_many_rows(const mspec_model_config *c, int64_t sequences, int64_t length)
{
	int64_t of_row = c->family == MSPEC_FAMILY_DEEPSEEK ? c->top_k : 1;
	return sequences > INT_MAX / length / of_row;
}

int mspec_workspace_create(mspec_workspace **out, const mspec_model *model, int64_t sequences,
                           int64_t length, bool backward, muon_error *err)
{
	*out = NULL;
	if (sequences < 1 || length < 1 || length > model->config.context ||
	    has_too_many_rows(&model->config, sequences, length))
		return muon_fail(err, MUON_E_ARGUMENT, NULL,
		                 "%lld sequences of %lld tokens; the model's context is %lld",
		                 (long long)sequences, (long long)length,
		                 (long long)model->config.context);
	mspec_workspace *workspace = muon_alloc(1, sizeof *workspace);
	if (!workspace)
		return muon_fail(err, MUON_E_MEMORY, NULL, "out of memory");
	const mspec_batch batch = {sequences, length, backward};
	int code = mspec_workspace_init_f32(&workspace->f32, model, &batch);
	if (code) {
		muon_free(workspace);
		return muon_fail(err, code, NULL,
		                 "out of memory for the activations of %lld sequences of %lld tokens",
		                 (long long)sequences, (long long)length);
	}
	*out = workspace;
	return MUON_OK;
}

void mspec_workspace_destroy(mspec_workspace **workspace)
{
	if (!*workspace)
		return;
	mspec_workspace_release_f32(&(*workspace)->f32);
	muon_free(*workspace);
	*workspace = NULL;
}

int mspec_model_run(const mspec_model *model, mspec_workspace *workspace, mspec_pass *pass)
{
	mspec_run_f32 run = {
	    .model = model,
	    .workspace = &workspace->f32,
	    .parameters = pass->parameters,
	    .gradient = pass->gradient,
	    .tokens = pass->tokens,
	    .targets = pass->targets,
	    .batch = {.sequences = pass->sequences, .length = pass->length},
	    .bf16 = pass->bf16,
	    .logits = pass->logits,
	    .layer_outputs = pass->layer_outputs,
	    .loss_scale = pass->loss_scale,
	    .records = pass->records,
	};
	int code = mspec_model_run_f32(&run);
	pass->loss_sum = run.loss_sum;
	pass->loss_count = run.loss_count;
	return code;
}
