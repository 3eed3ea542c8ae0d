/* From a checkpoint to a model that runs. */
#include "base/memory.h"

#include <muonspec/forward.h>
#include <string.h>

enum { BLOCK = 65536 }; /* elements converted at a time */

typedef struct loading {
	mspec_checkpoint *checkpoint;
	const mspec_model *model;
	float *parameters;
	int64_t *block;  /* BLOCK elements of any stored type */
	double *doubles; /* BLOCK */
} loading;

static size_t find_tensor(const mspec_checkpoint *checkpoint, const char *name)
{
	for (size_t i = 0; i < mspec_tensor_count(checkpoint); i++) {
		const mspec_tensor *t = mspec_tensor_at(checkpoint, i);
		if (t->role == MSPEC_ROLE_PARAMETER && !strcmp(t->name, name))
			return i;
	}
	return SIZE_MAX;
}

static int check_tensor(const mspec_tensor *found, const mspec_model_tensor *wanted,
			muon_error *err)
{
	bool fits = found->rank == wanted->rank;
	for (int i = 0; fits && i < wanted->rank; i++)
		fits = found->dims[i] == wanted->dims[i];
	if (!fits)
		return muon_fail(err, MUON_E_FORMAT, found->name,
				 "has another shape than the model's configuration asks for");
	if (found->status)
		return muon_fail(err, found->status, found->name, "%s", found->problem);
	if (!muon_dtype_is_float(found->dtype))
		return muon_fail(err, MUON_E_FORMAT, found->name,
				 "has type %s, which no weight has", muon_dtype_name(found->dtype));
	return MUON_OK;
}

static int load_tensor(loading *l, const mspec_model_tensor *wanted, muon_error *err)
{
	size_t index = find_tensor(l->checkpoint, wanted->name);
	if (index == SIZE_MAX)
		return muon_fail(err, MUON_E_FORMAT, wanted->name,
				 "is missing from the checkpoint");
	const mspec_tensor *found = mspec_tensor_at(l->checkpoint, index);
	int code = check_tensor(found, wanted, err);
	float *to = l->parameters + wanted->offset;
	for (int64_t first = 0, n; first < wanted->count && !code; first += n) {
		n = wanted->count - first < BLOCK ? wanted->count - first : BLOCK;
		code = mspec_read(l->checkpoint, index, first, n, l->block, err);
		if (!code)
			code = muon_convert_f64(found->dtype, l->block, (size_t)n, l->doubles);
		for (int64_t i = 0; i < n && !code; i++)
			to[first + i] = (float)l->doubles[i];
	}
	return code;
}

/* llama2.c turns neighbouring rows of a head together, we turn rows i and i + head_dim/2. */
static void reorder_heads(float *rows, int64_t heads, int64_t head_dim, int64_t cols, float *head)
{
	size_t row_bytes = (size_t)cols * sizeof *rows;
	for (int64_t h = 0; h < heads; h++, rows += head_dim * cols) {
		memcpy(head, rows, (size_t)head_dim * row_bytes);
		for (int64_t i = 0; i < head_dim; i++) {
			int64_t to = i / 2 + (i % 2 ? head_dim / 2 : 0);
			memcpy(rows + to * cols, head + i * cols, row_bytes);
		}
	}
}

static bool ends_with(const char *text, const char *end)
{
	size_t length = strlen(text), want = strlen(end);
	return length >= want && !strcmp(text + length - want, end);
}

static int reorder_llama2c(loading *l, muon_error *err)
{
	const mspec_model_config *c = mspec_model_config_of(l->model);
	float *head = muon_alloc((size_t)(c->head_dim * c->hidden), sizeof *head);
	if (!head)
		return muon_fail(err, MUON_E_MEMORY, NULL, "out of memory");
	for (size_t i = 0; i < mspec_model_tensor_count(l->model); i++) {
		const mspec_model_tensor *t = mspec_model_tensor_at(l->model, i);
		if (ends_with(t->name, ".q_proj.weight") || ends_with(t->name, ".k_proj.weight"))
			reorder_heads(l->parameters + t->offset, t->dims[0] / c->head_dim,
				      c->head_dim, t->dims[1], head);
	}
	muon_free(head);
	return MUON_OK;
}

static int load_parameters(loading *l, muon_error *err)
{
	const char *layout = mspec_info(l->checkpoint)->layout;
	int code = MUON_OK;
	for (size_t i = 0; i < mspec_model_tensor_count(l->model) && !code; i++)
		code = load_tensor(l, mspec_model_tensor_at(l->model, i), err);
	if (!code && !strcmp(layout, "llama2.c"))
		code = reorder_llama2c(l, err);
	return code;
}

int mspec_model_load(mspec_model **model, float **parameters, mspec_checkpoint *checkpoint,
		     muon_error *err)
{
	mspec_model_config config;
	*model = NULL;
	*parameters = NULL;
	int code = mspec_model_config_read(&config, mspec_info(checkpoint), err);
	if (!code)
		code = mspec_model_create(model, &config, err);
	if (code)
		return code;
	loading l = {.checkpoint = checkpoint, .model = *model};
	l.parameters =
	    muon_alloc_aligned((size_t)mspec_model_parameter_count(*model), sizeof(float));
	l.block = muon_alloc(BLOCK, sizeof *l.block);
	l.doubles = muon_alloc(BLOCK, sizeof *l.doubles);
	code = l.parameters && l.block && l.doubles
		   ? load_parameters(&l, err)
		   : muon_fail(err, MUON_E_MEMORY, mspec_info(checkpoint)->path, "out of memory");
	muon_free(l.block);
	muon_free(l.doubles);
	*parameters = l.parameters;
	if (code) {
		mspec_parameters_destroy(parameters);
		mspec_model_destroy(model);
	}
	return code;
}

void mspec_parameters_destroy(float **parameters)
{
	muon_free_aligned(*parameters);
	*parameters = NULL;
}
