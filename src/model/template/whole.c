/* The whole model: its memory, forward and backward. */

/* ---- memory ------------------------------------------------------------------------------- */

/* Pieces of one allocation, on 64-byte boundaries. Without `base` only their size is added up. */
typedef struct OP(carver) {
	real *base;
	size_t used; /* SIZE_MAX: too much */
} OP(carver);

static real *OP(take)(OP(carver) *carver, size_t count)
{
	const size_t unit = 64 / sizeof(real);
	real *piece = carver->base ? carver->base + carver->used : NULL;
	size_t padded = mspec_times(mspec_plus(count, unit - 1) / unit, unit);
	carver->used = mspec_plus(carver->used, padded);
	return piece;
}

static const OP(block) *OP(attention_of_layer)(const mspec_model *model)
{
	return model->config.family == MSPEC_FAMILY_DEEPSEEK ? &OP(mla_block)
	                                                     : &OP(attention_block);
}

static const OP(block) *OP(mlp_of_layer)(const mspec_model *model, int64_t layer)
{
	return model->layers[layer].is_moe ? &OP(moe_block) : &OP(mlp_block);
}

static size_t OP(larger)(size_t a, size_t b)
{
	return a > b ? a : b;
}

/* The layers' memory. Without backward a layer works in the stream, on what the one before it left,
 * and all have one `kept`, the largest. */
static void OP(carve_layers)(OP(workspace) *w, OP(carver) *carver)
{
	const mspec_model *model = w->model;
	const mspec_batch *batch = &w->batch;
	const size_t rows = mspec_batch_rows(batch);
	const size_t stream = mspec_times(rows, (size_t)model->config.hidden);
	const OP(block) *attention = OP(attention_of_layer)(model);
	size_t attention_kept = 0, mlp_kept = 0, scratch = 0;
	for (int64_t l = 0; l < model->config.layers; l++) {
		const OP(block) *mlp = OP(mlp_of_layer)(model, l);
		OP(layer_memory) *m = &w->layers[l];
		size_t here = attention->kept(model, l, batch), there = mlp->kept(model, l, batch);
		attention_kept = OP(larger)(attention_kept, here);
		mlp_kept = OP(larger)(mlp_kept, there);
		scratch = OP(larger)(scratch, attention->scratch(model, l, batch));
		scratch = OP(larger)(scratch, mlp->scratch(model, l, batch));
		if (!batch->backward)
			continue;
		*m = (OP(layer_memory)){
		    .input = OP(take)(carver, stream),
		    .middle = OP(take)(carver, stream),
		    .attention_rstd = OP(take)(carver, rows),
		    .mlp_rstd = OP(take)(carver, rows),
		    .attention = OP(take)(carver, here),
		    .mlp = OP(take)(carver, there),
		};
	}
	w->output = OP(take)(carver, stream);
	w->final_rstd = OP(take)(carver, rows);
	w->scratch = OP(take)(carver, scratch);
	if (batch->backward)
		return;
	real *attention_memory = OP(take)(carver, attention_kept);
	real *mlp_memory = OP(take)(carver, mlp_kept);
	for (int64_t l = 0; l < model->config.layers; l++)
		w->layers[l] = (OP(layer_memory)){w->output,     w->output,        w->final_rstd,
		                                  w->final_rstd, attention_memory, mlp_memory};
}

static void OP(carve)(OP(workspace) *w, OP(carver) *carver)
{
	const mspec_model *model = w->model;
	const size_t rows = mspec_batch_rows(&w->batch);
	const size_t stream = mspec_times(rows, (size_t)model->config.hidden);
	const size_t angles =
	    mspec_times((size_t)w->batch.length, (size_t)mspec_rotating_dims(&model->config) / 2);
	OP(carve_layers)(w, carver);
	w->normed = OP(take)(carver, stream);
	w->change = OP(take)(carver, stream);
	w->d_stream = OP(take)(carver, w->batch.backward ? stream : 0);
	w->logits = OP(take)(carver, mspec_times((size_t)OP(head_rows)(model, (int64_t)rows),
	                                         (size_t)model->config.vocab));
	w->cosine = OP(take)(carver, angles);
	w->sine = OP(take)(carver, angles);
	w->rounded = OP(take)(carver, (size_t)model->largest_group);
}

int OP(workspace_init)(OP(workspace) *workspace, const mspec_model *model, const mspec_batch *batch)
{
	*workspace = (OP(workspace)){.model = model, .batch = *batch};
	workspace->layers = muon_alloc((size_t)model->config.layers, sizeof *workspace->layers);
	if (!workspace->layers)
		return MUON_E_MEMORY;
	OP(carver) carver = {0};
	OP(carve)(workspace, &carver);
	carver.base = workspace->memory = muon_alloc_aligned(carver.used, sizeof(real));
	if (!carver.base) {
		OP(workspace_release)(workspace);
		return MUON_E_MEMORY;
	}
	carver.used = 0;
	OP(carve)(workspace, &carver);
	OP(fill_angles)(workspace->cosine, workspace->sine, batch->length,
	                mspec_rotating_dims(&model->config), model->config.rope_theta);
	return MUON_OK;
}

void OP(workspace_release)(OP(workspace) *workspace)
{
	muon_free(workspace->layers);
	muon_free_aligned(workspace->memory);
	*workspace = (OP(workspace)){0};
}

/* ---- forward ------------------------------------------------------------------------------ */

static void OP(embed)(const OP(run) *run, real *x)
{
	const int64_t hidden = run->model->config.hidden;
	const real *table = run->parameters + run->model->tensors[run->model->embedding].offset;
	for (int64_t t = 0; t < run->rows; t++)
		memcpy(x + t * hidden, table + run->tokens[t] * hidden,
		       (size_t)hidden * sizeof *x);
	OP(round)(run, x, run->rows * hidden);
}

static void OP(layer_forward)(OP(run) *run, int64_t layer, real *output)
{
	const OP(workspace) *w = run->workspace;
	const OP(layer_memory) *m = &w->layers[layer];
	const mspec_model_layer *l = &run->model->layers[layer];
	const int64_t hidden = run->model->config.hidden, stream = run->rows * hidden;
	OP(norm_forward)(run, l->attention_norm, m->input, hidden, run->rows, w->normed,
	                 m->attention_rstd);
	OP(attention_of_layer)(run->model)->forward(run, layer, w->normed, w->change, m->attention);
	OP(add)(run, m->input, w->change, m->middle, stream);
	OP(norm_forward)(run, l->mlp_norm, m->middle, hidden, run->rows, w->normed, m->mlp_rstd);
	OP(mlp_of_layer)(run->model, layer)->forward(run, layer, w->normed, w->change, m->mlp);
	OP(add)(run, m->middle, w->change, output, stream);
	OP(record_layer)(run, layer, output);
	if (run->layer_outputs)
		memcpy(run->layer_outputs + layer * stream, output,
		       (size_t)stream * sizeof *output);
}

static void OP(forward)(OP(run) *run)
{
	const OP(workspace) *w = run->workspace;
	const int64_t layers = run->model->config.layers, hidden = run->model->config.hidden;
	OP(embed)(run, w->layers[0].input);
	for (int64_t l = 0; l < layers; l++)
		OP(layer_forward)(run, l, l + 1 < layers ? w->layers[l + 1].input : w->output);
	OP(norm_forward)(run, run->model->final_norm, w->output, hidden, run->rows, w->normed,
	                 w->final_rstd);
}

/* ---- backward ----------------------------------------------------------------------------- */

/* One half of a layer, x + f(norm(x)): from the gradient of its result in d_stream to that of x. */
static void OP(half_backward)(OP(run) *run, int64_t layer, const OP(block) *block, size_t norm,
                              const real *x, const real *rstd, real *kept)
{
	const OP(workspace) *w = run->workspace;
	const int64_t hidden = run->model->config.hidden;
	OP(norm_repeat)(run, norm, x, hidden, run->rows, rstd, w->normed);
	block->backward(run, layer, w->normed, w->d_stream, w->change, kept);
	OP(norm_backward)(run, norm, x, hidden, run->rows, rstd, w->change, w->d_stream);
}

SIMD_CLONES
static void OP(accumulate)(real *restrict sum, const real *restrict x, int64_t count)
{
	for (int64_t i = 0; i < count; i++)
		sum[i] += x[i];
}

static void OP(embed_backward)(const OP(run) *run, const real *dx)
{
	const int64_t hidden = run->model->config.hidden;
	real *table = run->gradient + run->model->tensors[run->model->embedding].offset;
	for (int64_t t = 0; t < run->rows; t++)
		OP(accumulate)(table + run->tokens[t] * hidden, dx + t * hidden, hidden);
}

/* The gradient of the final norm's output is in `change`. */
static void OP(backward)(OP(run) *run)
{
	const OP(workspace) *w = run->workspace;
	const mspec_model *model = run->model;
	const int64_t hidden = model->config.hidden;
	memset(w->d_stream, 0, (size_t)(run->rows * hidden) * sizeof *w->d_stream);
	OP(norm_backward)(run, model->final_norm, w->output, hidden, run->rows, w->final_rstd,
	                  w->change, w->d_stream);
	for (int64_t l = model->config.layers - 1; l >= 0; l--) {
		const OP(layer_memory) *m = &w->layers[l];
		OP(half_backward)(run, l, OP(mlp_of_layer)(model, l), model->layers[l].mlp_norm,
		                  m->middle, m->mlp_rstd, m->mlp);
		OP(half_backward)(run, l, OP(attention_of_layer)(model),
		                  model->layers[l].attention_norm, m->input, m->attention_rstd,
		                  m->attention);
	}
	OP(embed_backward)(run, w->d_stream);
}

/* ---- the run ------------------------------------------------------------------------------ */

static bool OP(is_runnable)(const OP(run) *run)
{
	const mspec_batch *most = &run->workspace->batch, *batch = &run->batch;
	const int64_t vocab = run->model->config.vocab;
	if (run->workspace->model != run->model || !run->parameters || !run->tokens)
		return false;
	if (batch->sequences < 1 || batch->sequences > most->sequences || batch->length < 1 ||
	    batch->length > most->length)
		return false;
	if (run->gradient && !(most->backward && run->targets))
		return false;
	for (int64_t t = 0; t < batch->sequences * batch->length; t++)
		if (run->tokens[t] < 0 || run->tokens[t] >= vocab ||
		    (run->targets && (run->targets[t] < -1 || run->targets[t] >= vocab)))
			return false;
	return true;
}

int OP(model_run)(OP(run) *run)
{
	const OP(workspace) *w = run->workspace;
	if (!OP(is_runnable)(run))
		return MUON_E_ARGUMENT;
	run->batch.backward = run->gradient != NULL;
	run->rows = run->batch.sequences * run->batch.length;
	run->cosine = w->cosine;
	run->sine = w->sine;
	run->rounded = w->rounded;
	run->scratch = w->scratch;
	run->loss_sum = 0;
	run->loss_count = 0;
	if (run->gradient)
		memset(run->gradient, 0,
		       (size_t)run->model->parameter_count * sizeof *run->gradient);
	OP(forward)(run);
	OP(head)(run, w->normed, w->change);
	if (run->gradient)
		OP(backward)(run);
	return MUON_OK;
}
