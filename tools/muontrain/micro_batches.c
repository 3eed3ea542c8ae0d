#include "micro_batches.h"

#include "base/memory.h"
#include "base/pool.h"

#include <math.h>
#include <pthread.h>
#include <string.h>

enum { MAX_LEVELS = 40 };

struct micro_batches {
	const mspec_model *model;
	int64_t sequences, length;
	size_t capacity;
	int threads;
	mspec_workspace **workspaces; /* one a thread */
	size_t entries;               /* of a gradient */
	float *gradient;
	float **spare; /* gradients not in use */
	size_t spare_count;
	/* one a micro-batch; the first of a subtree holds the sum over it once that is complete */
	batch_sums *sums;
	float **gradients;
	unsigned char *arrived[MAX_LEVELS]; /* a node: children complete */
	int levels;
	pthread_mutex_t lock;               /* spare, arrived, code */
	/* the run under way */
	const batch_work *work;
	size_t count;
	int code;
};

/* ---- buffers ------------------------------------------------------------------------------- */

static bool allocate_records(mspec_records *records, const mspec_model *model)
{
	const mspec_model_config *c = mspec_model_config_of(model);
	size_t layers = (size_t)c->layers, experts = (size_t)c->experts;
	records->layers = muon_alloc(layers, sizeof *records->layers);
	records->tensors = muon_alloc(mspec_model_tensor_count(model), sizeof *records->tensors);
	records->head_max_logits =
	    muon_alloc(layers * (size_t)c->heads, sizeof *records->head_max_logits);
	records->expert_tokens =
	    muon_alloc(layers * (experts ? experts : 1), sizeof *records->expert_tokens);
	return records->layers && records->tensors && records->head_max_logits &&
	       records->expert_tokens;
}

static void release_records(mspec_records *records)
{
	muon_free(records->layers);
	muon_free(records->tensors);
	muon_free(records->head_max_logits);
	muon_free(records->expert_tokens);
}

static void clear_sums(batch_sums *sums, const mspec_model *model)
{
	const mspec_model_config *c = mspec_model_config_of(model);
	sums->loss = sums->targets = 0;
	for (int64_t i = 0; i < c->layers; i++)
		sums->records.layers[i] = (mspec_layer_record){.max_attention_logit = -INFINITY};
	for (int64_t i = 0; i < c->layers * c->heads; i++)
		sums->records.head_max_logits[i] = -INFINITY;
	memset(sums->records.tensors, 0,
	       mspec_model_tensor_count(model) * sizeof *sums->records.tensors);
	if (c->experts)
		memset(sums->records.expert_tokens, 0,
		       (size_t)(c->layers * c->experts) * sizeof *sums->records.expert_tokens);
}

static bool allocate_tree(micro_batches *b)
{
	for (b->levels = 0; !b->levels || (size_t)1 << (b->levels - 1) < b->capacity; b->levels++) {
		b->arrived[b->levels] = muon_alloc((b->capacity >> b->levels) + 1, 1);
		if (!b->arrived[b->levels])
			return false;
	}
	b->sums = muon_alloc(b->capacity, sizeof *b->sums);
	b->gradients = muon_alloc(b->capacity, sizeof *b->gradients);
	b->spare = muon_alloc(b->capacity, sizeof *b->spare);
	if (!b->sums || !b->gradients || !b->spare)
		return false;
	for (size_t i = 0; i < b->capacity; i++)
		if (!allocate_records(&b->sums[i].records, b->model))
			return false;
	return true;
}

/* As many workspaces as there is memory for; at least one. */
static int allocate_workspaces(micro_batches *b, int threads, muon_error *err)
{
	b->workspaces = muon_alloc((size_t)threads, sizeof *b->workspaces);
	if (!b->workspaces)
		return muon_fail(err, MUON_E_MEMORY, NULL, "out of memory");
	for (b->threads = 0; b->threads < threads; b->threads++) {
		muon_error one = {0};
		int code = mspec_workspace_create(&b->workspaces[b->threads], b->model,
		                                  b->sequences, b->length, b->gradient != NULL,
		                                  &one);
		if (code && (!b->threads || code != MUON_E_MEMORY))
			return muon_fail(err, code, one.where, "%s", one.message);
		if (code)
			break;
	}
	return MUON_OK;
}

int micro_batches_create(micro_batches **out, const mspec_model *model, int64_t sequences,
                         int64_t length, size_t count, int threads, float *gradient,
                         muon_error *err)
{
	micro_batches *b = muon_alloc(1, sizeof *b);
	*out = b;
	if (!b)
		return muon_fail(err, MUON_E_MEMORY, NULL, "out of memory");
	*b = (micro_batches){.model = model, .sequences = sequences, .length = length,
	                     .capacity = count ? count : 1, .gradient = gradient,
	                     .entries = (size_t)mspec_model_parameter_count(model)};
	pthread_mutex_init(&b->lock, NULL);
	threads = (size_t)threads < b->capacity ? threads : (int)b->capacity;
	int code = allocate_tree(b) ? allocate_workspaces(b, threads, err)
	                            : muon_fail(err, MUON_E_MEMORY, NULL, "out of memory");
	if (code)
		micro_batches_destroy(out);
	return code;
}

void micro_batches_destroy(micro_batches **batches)
{
	micro_batches *b = *batches;
	if (!b)
		return;
	for (int i = 0; i < b->threads; i++)
		mspec_workspace_destroy(&b->workspaces[i]);
	for (size_t i = 0; i < b->spare_count; i++)
		muon_free_aligned(b->spare[i]);
	for (size_t i = 0; i < b->capacity; i++) {
		if (b->sums)
			release_records(&b->sums[i].records);
		if (b->gradients && b->gradients[i] != b->gradient)
			muon_free_aligned(b->gradients[i]);
	}
	for (int level = 0; level < MAX_LEVELS; level++)
		muon_free(b->arrived[level]);
	muon_free(b->workspaces);
	muon_free(b->spare);
	muon_free(b->sums);
	muon_free(b->gradients);
	pthread_mutex_destroy(&b->lock);
	muon_free(b);
	*batches = NULL;
}

/* ---- sums ---------------------------------------------------------------------------------- */

static double larger(double a, double b)
{
	return isnan(a) || a > b ? a : b;
}

static void add_layer(mspec_layer_record *a, const mspec_layer_record *b)
{
	a->output_sumsq += b->output_sumsq;
	a->output_max_abs = larger(a->output_max_abs, b->output_max_abs);
	a->output_count += b->output_count;
	a->max_attention_logit = larger(a->max_attention_logit, b->max_attention_logit);
	a->logits_over_100 += b->logits_over_100;
	a->logit_count += b->logit_count;
}

static void add_sums(batch_sums *a, const batch_sums *b, const mspec_model *model)
{
	const mspec_model_config *c = mspec_model_config_of(model);
	a->loss += b->loss;
	a->targets += b->targets;
	for (int64_t i = 0; i < c->layers; i++)
		add_layer(&a->records.layers[i], &b->records.layers[i]);
	for (size_t i = 0; i < mspec_model_tensor_count(model); i++) {
		mspec_tensor_record *x = &a->records.tensors[i];
		const mspec_tensor_record *y = &b->records.tensors[i];
		x->output_sumsq += y->output_sumsq;
		x->output_max_abs = larger(x->output_max_abs, y->output_max_abs);
		x->output_count += y->output_count;
	}
	for (int64_t i = 0; i < c->layers * c->heads; i++)
		a->records.head_max_logits[i] =
		    larger(a->records.head_max_logits[i], b->records.head_max_logits[i]);
	for (int64_t i = 0; i < c->layers * c->experts; i++)
		a->records.expert_tokens[i] += b->records.expert_tokens[i];
}

/* Gradient buffers: the first micro-batch's is where the whole sum ends. */
static float *take_gradient(micro_batches *b, size_t index)
{
	if (!index)
		return b->gradient;
	pthread_mutex_lock(&b->lock);
	float *gradient = b->spare_count ? b->spare[--b->spare_count] : NULL;
	pthread_mutex_unlock(&b->lock);
	return gradient ? gradient : muon_alloc_aligned(b->entries, sizeof *gradient);
}

static void give_back_gradient(micro_batches *b, size_t index)
{
	if (b->gradients[index] && b->gradients[index] != b->gradient) {
		pthread_mutex_lock(&b->lock);
		b->spare[b->spare_count++] = b->gradients[index];
		pthread_mutex_unlock(&b->lock);
	}
	b->gradients[index] = NULL;
}

static void merge(micro_batches *b, size_t left, size_t right)
{
	add_sums(&b->sums[left], &b->sums[right], b->model);
	if (!b->work->backward)
		return;
	float *restrict to = b->gradients[left];
	const float *restrict from = b->gradients[right];
	for (size_t i = 0; i < b->entries; i++)
		to[i] += from[i];
	give_back_gradient(b, right);
}

/* The micro-batch is done: add up every subtree that this completes. */
static void climb(micro_batches *b, size_t index)
{
	size_t node = index;
	for (int level = 0; (size_t)1 << level < b->count; level++) {
		size_t left = (node & ~(size_t)1) << level, right = left + ((size_t)1 << level);
		node >>= 1;
		if (right >= b->count)
			continue; /* an only child */
		pthread_mutex_lock(&b->lock);
		bool both = ++b->arrived[level + 1][node] == 2;
		pthread_mutex_unlock(&b->lock);
		if (!both)
			return; /* the sibling's thread goes on */
		merge(b, left, right);
	}
}

/* ---- running ------------------------------------------------------------------------------- */

static int run_one(micro_batches *b, size_t index, int worker)
{
	const batch_work *work = b->work;
	int64_t first = (int64_t)index * b->sequences, left = work->sequences - first;
	batch_sums *sums = &b->sums[index];
	mspec_records loads = {.expert_tokens = sums->records.expert_tokens};
	clear_sums(sums, b->model);
	b->gradients[index] = work->backward ? take_gradient(b, index) : NULL;
	if (work->backward && !b->gradients[index])
		return MUON_E_MEMORY;
	mspec_pass pass = {
	    .parameters = work->parameters,
	    .tokens = work->tokens + first * b->length,
	    .targets = work->targets + first * b->length,
	    .sequences = left < b->sequences ? left : b->sequences,
	    .length = b->length,
	    .bf16 = work->bf16,
	    .gradient = b->gradients[index],
	    .loss_scale = work->loss_scale,
	    .records = work->full_records ? &sums->records : &loads,
	};
	if (work->head_logits)
		loads.head_max_logits = sums->records.head_max_logits;
	if (!mspec_model_config_of(b->model)->experts && !work->full_records && !work->head_logits)
		pass.records = NULL;
	int code = mspec_model_run(b->model, b->workspaces[worker], &pass);
	sums->loss = pass.loss_sum;
	sums->targets = (double)pass.loss_count;
	return code;
}

static bool run_task(void *state, size_t task, int worker)
{
	micro_batches *b = state;
	int code = run_one(b, task, worker);
	if (!code) {
		climb(b, task);
		return true;
	}
	pthread_mutex_lock(&b->lock);
	b->code = code;
	pthread_mutex_unlock(&b->lock);
	return false;
}

int micro_batches_run(micro_batches *b, const batch_work *work, batch_sums **sums,
                      muon_error *err)
{
	b->work = work;
	b->code = MUON_OK;
	b->count = (size_t)((work->sequences + b->sequences - 1) / b->sequences);
	for (int level = 0; level < b->levels; level++)
		memset(b->arrived[level], 0, (b->capacity >> level) + 1);
	if (b->count) {
		muon_pool_run(b->threads, b->count, run_task, b);
	} else { /* this rank has no share */
		clear_sums(&b->sums[0], b->model);
		if (work->backward)
			memset(b->gradient, 0, b->entries * sizeof *b->gradient);
	}
	for (size_t i = 0; i < b->count; i++)
		give_back_gradient(b, i);
	*sums = &b->sums[0];
	return b->code ? muon_fail(err, b->code, NULL, "%s", muon_error_text(b->code)) : MUON_OK;
}

/* ---- ranks --------------------------------------------------------------------------------- */

void rank_share(size_t count, int rank, int ranks, size_t *first, size_t *end)
{
	size_t r = (size_t)rank, all = (size_t)ranks, whole = 1;
	if (all & (all - 1)) { /* no power of two: even shares */
		*first = count * r / all;
		*end = count * (r + 1) / all;
		return;
	}
	while (whole < count)
		whole *= 2;
	size_t share = whole / all ? whole / all : 1;
	*first = r * share < count ? r * share : count;
	*end = (r + 1) * share < count ? (r + 1) * share : count;
}

/* Numbers of the sums, to add up (`maxima` false) or to take the largest of, to or from `values`. */
typedef struct packing {
	double *values; /* NULL: count only */
	size_t count;
	bool unpack;
} packing;

static void pack(packing *p, double *number)
{
	if (p->values && p->unpack)
		*number = p->values[p->count];
	else if (p->values)
		p->values[p->count] = *number;
	p->count++;
}

static void pack_sums(packing *p, batch_sums *sums, const mspec_model *model)
{
	const mspec_model_config *c = mspec_model_config_of(model);
	pack(p, &sums->loss);
	pack(p, &sums->targets);
	for (int64_t i = 0; i < c->layers; i++) {
		mspec_layer_record *layer = &sums->records.layers[i];
		pack(p, &layer->output_sumsq);
		pack(p, &layer->output_count);
		pack(p, &layer->logits_over_100);
		pack(p, &layer->logit_count);
	}
	for (size_t i = 0; i < mspec_model_tensor_count(model); i++) {
		pack(p, &sums->records.tensors[i].output_sumsq);
		pack(p, &sums->records.tensors[i].output_count);
	}
	for (int64_t i = 0; i < c->layers * c->experts; i++) {
		double tokens = (double)sums->records.expert_tokens[i];
		pack(p, &tokens);
		sums->records.expert_tokens[i] = (int64_t)tokens;
	}
}

static void pack_maxima(packing *p, batch_sums *sums, const mspec_model *model)
{
	const mspec_model_config *c = mspec_model_config_of(model);
	for (int64_t i = 0; i < c->layers; i++) {
		pack(p, &sums->records.layers[i].output_max_abs);
		pack(p, &sums->records.layers[i].max_attention_logit);
	}
	for (size_t i = 0; i < mspec_model_tensor_count(model); i++)
		pack(p, &sums->records.tensors[i].output_max_abs);
	for (int64_t i = 0; i < c->layers * c->heads; i++)
		pack(p, &sums->records.head_max_logits[i]);
}

typedef void (*pack_fn)(packing *p, batch_sums *sums, const mspec_model *model);
typedef int (*combine_fn)(muon_comm *comm, double *values, size_t count, muon_error *err);

static int combine(pack_fn pack_all, combine_fn over_ranks, const mspec_model *model,
                   muon_comm *comm, batch_sums *sums, muon_error *err)
{
	packing p = {0};
	pack_all(&p, sums, model);
	double *values = muon_alloc(p.count, sizeof *values);
	int code = values ? MUON_OK : muon_fail(err, MUON_E_MEMORY, NULL, "out of memory");
	code = muon_comm_agree(comm, code);
	if (!code) {
		p = (packing){.values = values};
		pack_all(&p, sums, model);
		code = over_ranks(comm, values, p.count, err);
	}
	if (!code) {
		p = (packing){.values = values, .unpack = true};
		pack_all(&p, sums, model);
	}
	muon_free(values);
	return code;
}

int batch_sums_over_ranks(const mspec_model *model, muon_comm *comm, batch_sums *sums,
                          muon_error *err)
{
	if (!comm || muon_comm_size(comm) == 1)
		return MUON_OK;
	int code = combine(pack_sums, muon_comm_sum, model, comm, sums, err);
	return code ? code : combine(pack_maxima, muon_comm_max, model, comm, sums, err);
}
