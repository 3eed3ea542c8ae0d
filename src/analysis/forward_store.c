#include "analysis/forward_store.h"

#include "base/text.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

/* One value of the model, then one a layer each. */
enum statistic {
	LOSS, OUTPUT_RMS, OUTPUT_MAX_ABS, MAX_ATTENTION_LOGIT, SHARE_LOGITS_OVER_100, BF16_ERROR,
	STATISTICS
};
static const char *const names[STATISTICS] = {
    "forward_loss",
    "forward_output_rms",
    "forward_output_max_abs",
    "forward_max_attention_logit",
    "forward_share_logits_over_100",
    "forward_bf16_error"};

/* ---- places ------------------------------------------------------------------------------- */

/* "." for a name alone; NULL when out of memory. */
static char *folder_of(const char *path)
{
	const char *slash = strrchr(path, '/');
	muon_text folder = {0};
	muon_text_format(&folder, "%.*s", slash ? (int)(slash + 1 - path) : 1, slash ? path : ".");
	if (!folder.failed)
		return folder.bytes;
	muon_text_release(&folder);
	return NULL;
}

char *mspec_forward_place(const char *path, const char **why)
{
	char *folder = folder_of(path);
	const char *const folders[] = {folder};
	char *place = folder ? mspec_run_default_store(folders, 1, why) : NULL;
	muon_free(folder);
	return place;
}

static int check_folder(const char *store, muon_error *err)
{
	struct stat st;
	char *folder = folder_of(store);
	if (!folder)
		return muon_fail(err, MUON_E_MEMORY, store, "out of memory");
	int reason = stat(folder, &st) ? errno : S_ISDIR(st.st_mode) ? 0 : ENOTDIR;
	muon_free(folder);
	return reason ? muon_fail(err, MUON_E_WRITE, store, "%s", strerror(reason)) : MUON_OK;
}

int mspec_forward_check_store(const char *store, bool *damaged, mspec_hash *hash,
                              const char *path, muon_error *err)
{
	mspec_store *opened = NULL;
	int code = check_folder(store, err);
	if (!code)
		code = mspec_store_open(&opened, store, err);
	*damaged = !code && mspec_store_problem(opened);
	mspec_store_close(&opened);
	return code ? code : mspec_hash_checkpoint(hash, path, err);
}

/* ---- keeping ------------------------------------------------------------------------------ */

static double value_of(const mspec_forward *f, enum statistic which, size_t layer)
{
	const mspec_forward_layer *l = &f->runs[0].layers[layer];
	switch (which) {
	case OUTPUT_RMS:
		return l->output_rms;
	case OUTPUT_MAX_ABS:
		return l->output_max_abs;
	case MAX_ATTENTION_LOGIT:
		return l->max_attention_logit;
	case SHARE_LOGITS_OVER_100:
		return l->share_logits_over_100;
	default:
		return f->runs[1].layers[layer].bf16_error;
	}
}

static int record_of(mspec_record *record, const mspec_forward *f, muon_arena *arena)
{
	size_t layers = (size_t)f->layers;
	record->recorded_count = STATISTICS;
	record->recorded = muon_arena_alloc(arena, STATISTICS, sizeof *record->recorded);
	double *values = muon_arena_alloc(arena, STATISTICS * (layers + 1), sizeof *values);
	if (!record->recorded || !values)
		return MUON_E_MEMORY;
	for (int i = 0; i < STATISTICS; i++, values += layers + 1) {
		record->recorded[i] = (mspec_recorded){names[i], i == LOSS ? 1 : layers, values};
		for (size_t k = 0; k < layers && i != LOSS; k++)
			values[k] = value_of(f, (enum statistic)i, k);
		if (i == LOSS)
			values[0] = f->runs[0].loss;
	}
	return MUON_OK;
}

static int add_and_commit(mspec_store *store, const mspec_record *record, const char *path,
                          muon_error *err)
{
	if (mspec_store_add_forward(store, record))
		return muon_fail(err, MUON_E_MEMORY, path, "out of memory");
	mspec_store_commit(store, true);
	if (!mspec_store_keeps(store))
		return muon_fail(err, MUON_E_WRITE, path, "%s", mspec_store_problem(store));
	return MUON_OK;
}

int mspec_forward_store(const mspec_forward *forward, const mspec_hash *hash, const char *path,
                        const char *store, muon_error *err)
{
	mspec_hash now;
	mspec_store *opened = NULL;
	muon_arena arena = {0};
	mspec_record record = {.key = hash->hex};
	int code = mspec_hash_checkpoint(&now, path, err);
	if (!code && strcmp(now.hex, hash->hex))
		code = muon_fail(err, MUON_E_READ, path,
		                 "changed while its model ran; nothing is kept");
	if (!code && record_of(&record, forward, &arena))
		code = muon_fail(err, MUON_E_MEMORY, path, "out of memory");
	if (!code)
		code = mspec_store_open(&opened, store, err);
	if (!code)
		code = add_and_commit(opened, &record, store, err);
	mspec_store_close(&opened);
	muon_arena_release(&arena);
	return code;
}

/* ---- finding ------------------------------------------------------------------------------ */

int mspec_forward_find(const mspec_record **found, mspec_store **store, const char *file,
                       const char *path)
{
	mspec_hash hash;
	struct stat st;
	*found = NULL;
	*store = NULL;
	if (stat(file, &st)) /* before all the checkpoint is read */
		return MUON_OK;
	int code = mspec_store_open(store, file, NULL);
	if (!code)
		code = mspec_hash_checkpoint(&hash, path, NULL);
	if (!code)
		*found = mspec_store_forward(*store, hash.hex);
	if (!*found)
		mspec_store_close(store);
	return code;
}

const mspec_recorded *mspec_forward_recorded(const mspec_record *record, const char *name)
{
	for (size_t i = 0; i < record->recorded_count; i++)
		if (!strcmp(record->recorded[i].name, name))
			return &record->recorded[i];
	return NULL;
}

/* ---- series ------------------------------------------------------------------------------- */

/* The most values of that name at a checkpoint: 1 for the loss, else layers. */
static size_t most_values(const mspec_run *run, const char *name)
{
	const mspec_run_memory *m = run->memory;
	size_t most = 0;
	for (size_t i = 0; i < run->count; i++) {
		const mspec_recorded *r =
		    m->forwards[i] ? mspec_forward_recorded(m->forwards[i], name) : NULL;
		if (r && r->count > most)
			most = r->count;
	}
	return most;
}

static int fill(mspec_series *s, const mspec_run *run, enum statistic which, size_t layer,
                const double *steps, muon_arena *arena)
{
	const mspec_run_memory *m = run->memory;
	double *at = muon_arena_alloc(arena, run->count + 1, sizeof *at);
	double *values = muon_arena_alloc(arena, run->count + 1, sizeof *values);
	*s = (mspec_series){.kind = MSPEC_SERIES_FORWARD,
	                    .name = which == LOSS ? "(model)"
	                                          : muon_arena_format(arena, "layer %zu", layer),
	                    .metric = names[which],
	                    .steps = at,
	                    .values = values};
	if (!at || !values || !s->name)
		return MUON_E_MEMORY;
	for (size_t i = 0; i < run->count; i++) {
		const mspec_recorded *r =
		    m->forwards[i] ? mspec_forward_recorded(m->forwards[i], names[which]) : NULL;
		if (!r || layer >= r->count)
			continue;
		at[s->count] = steps[i];
		values[s->count++] = r->values[layer];
	}
	return MUON_OK;
}

int mspec_forward_series(mspec_series **series, size_t *count, const mspec_run *run,
                         const double *steps, muon_arena *arena)
{
	size_t used = 0;
	int code = MUON_OK;
	*count = 0;
	for (int i = 0; i < STATISTICS; i++)
		*count += most_values(run, names[i]);
	*series = muon_arena_alloc(arena, *count + 1, sizeof **series);
	if (!*series)
		return MUON_E_MEMORY;
	for (int i = 0; i < STATISTICS && !code; i++)
		for (size_t k = 0, most = most_values(run, names[i]); k < most && !code; k++)
			code = fill(&(*series)[used++], run, (enum statistic)i, k, steps, arena);
	return code;
}
