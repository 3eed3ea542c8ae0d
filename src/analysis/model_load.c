/* From a checkpoint to a model that runs. */
#include "base/memory.h"

#include <muonspec/forward.h>

#include <string.h>

enum { BLOCK = 65536 }; /* elements converted at a time */

typedef struct loading {
	mspec_checkpoint *checkpoint;
	const mspec_model *model;
	size_t *sources; /* for each tensor of the model, its index in the checkpoint */
	float *parameters;
	int64_t *block;  /* BLOCK elements of any stored type */
	double *doubles; /* BLOCK */
	muon_error *err;
} loading;

/* ---- what the checkpoint must have ---------------------------------------------------------- */

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

/* Before memory is taken for them: a configuration may ask for anything. */
static int find_tensors(loading *l)
{
	int code = MUON_OK;
	for (size_t i = 0; i < mspec_model_tensor_count(l->model) && !code; i++) {
		const mspec_model_tensor *wanted = mspec_model_tensor_at(l->model, i);
		l->sources[i] = mspec_find_tensor(l->checkpoint, wanted->name);
		if (l->sources[i] == SIZE_MAX)
			return muon_fail(l->err, MUON_E_FORMAT, wanted->name,
			                 "is missing from the checkpoint");
		code = check_tensor(mspec_tensor_at(l->checkpoint, l->sources[i]), wanted, l->err);
	}
	return code;
}

/* ---- reading -------------------------------------------------------------------------------- */

static int read_tensor(loading *l, size_t index)
{
	const mspec_model_tensor *wanted = mspec_model_tensor_at(l->model, index);
	muon_dtype type = mspec_tensor_at(l->checkpoint, l->sources[index])->dtype;
	float *to = l->parameters + wanted->offset;
	int code = MUON_OK;
	for (int64_t first = 0, n; first < wanted->count && !code; first += n) {
		n = wanted->count - first < BLOCK ? wanted->count - first : BLOCK;
		code = mspec_read(l->checkpoint, l->sources[index], first, n, l->block, l->err);
		if (!code)
			code = muon_convert_f64(type, l->block, (size_t)n, l->doubles);
		for (int64_t i = 0; i < n && !code; i++)
			to[first + i] = (float)l->doubles[i];
	}
	return code;
}

/* Rows 2i and 2i + 1 of a head, which llama2.c turns together, become rows i and i + head_dim / 2,
 * which we do. */
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

static int reorder_llama2c(loading *l)
{
	const mspec_model_config *c = mspec_model_config_of(l->model);
	float *head = muon_alloc((size_t)(c->head_dim * c->hidden), sizeof *head);
	if (!head)
		return MUON_E_MEMORY;
	for (size_t i = 0; i < mspec_model_tensor_count(l->model); i++) {
		const mspec_model_tensor *t = mspec_model_tensor_at(l->model, i);
		if (ends_with(t->name, ".q_proj.weight") || ends_with(t->name, ".k_proj.weight"))
			reorder_heads(l->parameters + t->offset, t->dims[0] / c->head_dim,
			              c->head_dim, t->dims[1], head);
	}
	muon_free(head);
	return MUON_OK;
}

/* ---- the whole ------------------------------------------------------------------------------ */

static int read_parameters(loading *l)
{
	const mspec_checkpoint_info *info = mspec_info(l->checkpoint);
	size_t count = (size_t)mspec_model_parameter_count(l->model);
	l->parameters = muon_alloc_aligned(count, sizeof *l->parameters);
	l->block = muon_alloc(BLOCK, sizeof *l->block);
	l->doubles = muon_alloc(BLOCK, sizeof *l->doubles);
	int code = l->parameters && l->block && l->doubles ? MUON_OK : MUON_E_MEMORY;
	for (size_t i = 0; i < mspec_model_tensor_count(l->model) && !code; i++)
		code = read_tensor(l, i);
	if (!code && !strcmp(info->layout, "llama2.c") &&
	    mspec_model_config_of(l->model)->family == MSPEC_FAMILY_LLAMA)
		code = reorder_llama2c(l);
	return code;
}

static int load_model(loading *l)
{
	l->sources = muon_alloc(mspec_model_tensor_count(l->model), sizeof *l->sources);
	int code = l->sources ? find_tensors(l) : MUON_E_MEMORY;
	if (!code)
		code = read_parameters(l);
	muon_free(l->sources);
	muon_free(l->block);
	muon_free(l->doubles);
	/* what has no record of its own yet */
	return code ? muon_fail(l->err, code, mspec_info(l->checkpoint)->path, "%s",
	                        muon_error_text(code))
	            : MUON_OK;
}

static int create_model(mspec_model **model, const mspec_checkpoint *checkpoint, muon_error *err)
{
	mspec_model_config config;
	muon_error reason = {0};
	int code = mspec_model_config_read(&config, checkpoint, err);
	if (code)
		return code;
	code = mspec_model_create(model, &config, &reason);
	if (code == MUON_E_USAGE) /* nobody used it wrongly: the file asks for it */
		code = MUON_E_FORMAT;
	return code ? muon_fail(err, code, mspec_info(checkpoint)->path, "%s", reason.message)
	            : MUON_OK;
}

int mspec_model_load(mspec_model **model, float **parameters, mspec_checkpoint *checkpoint,
                     muon_error *err)
{
	*model = NULL;
	*parameters = NULL;
	int code = create_model(model, checkpoint, err);
	if (code)
		return code;
	loading l = {.checkpoint = checkpoint, .model = *model, .err = err};
	code = load_model(&l);
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
