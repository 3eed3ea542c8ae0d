/* Copying a checkpoint, bit for bit, into another file format. */
#include "base/text.h"
#include "checkpoint/reader.h"
#include "checkpoint/writer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 16 << 20 }; /* bytes moved at a time */

typedef struct conversion {
	mspec_checkpoint *from;
	mspec_declared *declared;
	bool is_hdf5;
	mspec_hdf5_writer *hdf5;
	mspec_safetensors_writer *safetensors;
	void *block;
	mspec_progress_fn progress;
	void *progress_state;
	double done, total; /* bytes */
} conversion;

static int64_t tensor_bytes(const mspec_tensor *t)
{
	return t->elements * (int64_t)muon_dtype_size(t->dtype);
}

/* ---- what is to be copied ------------------------------------------------------------------ */

/* Nothing is left out silently: one tensor that can't be copied ends the conversion. A second name
 * of a tensor becomes a tensor of its own. */
static int declare_all(conversion *c, muon_error *err)
{
	for (size_t i = 0; i < c->from->count; i++) {
		const mspec_tensor *t = &c->from->entries[i].tensor;
		char type[64];
		if (t->status)
			return muon_fail(err, t->status, t->name, "can't be converted: %s",
			                 t->problem);
		if (t->dtype == MUON_DTYPE_NONE)
			return muon_fail(err, MUON_E_FORMAT, t->name,
			                 "can't be converted: type %s is not a number",
			                 muon_escape(type, sizeof type, t->type_name));
		c->declared[i] = (mspec_declared){t->name, t->dtype, t->rank, t->dims};
		c->total += (double)tensor_bytes(t);
	}
	return MUON_OK;
}

/* ---- what the file says about itself ------------------------------------------------------- */

enum { FACTS = 6, FACT_TEXT = 32 };

/* Numbers and format version, NaN where there is nothing to say. */
static size_t list_facts(const mspec_checkpoint_info *info, const char **keys, double *values)
{
	const struct {
		const char *key;
		double value;
	} facts[FACTS] = {
	    {"muonspec_format",
	     !strcmp(info->layout, "muonspec") ? MSPEC_FORMAT_VERSION : NAN},
	    {"step", info->step},
	    {"lr", info->lr},
	    {"weight_decay", info->weight_decay},
	    {"tokens", info->tokens},
	    {"loss", info->loss},
	};
	size_t count = 0;
	for (size_t i = 0; i < FACTS; i++)
		if (!isnan(facts[i].value)) {
			keys[count] = facts[i].key;
			values[count++] = facts[i].value;
		}
	return count;
}

static int write_hdf5_facts(conversion *c, muon_error *err)
{
	const mspec_checkpoint_info *info = &c->from->info;
	const char *keys[FACTS];
	double values[FACTS];
	size_t count = list_facts(info, keys, values);
	int code = mspec_hdf5_attribute_text(c->hdf5, NULL, "muonspec_layout", info->layout, err);
	for (size_t i = 0; i < count && !code; i++)
		code = mspec_hdf5_attribute_number(c->hdf5, NULL, keys[i], values[i], err);
	if (!code && info->optimizer)
		code = mspec_hdf5_attribute_text(c->hdf5, NULL, "optimizer", info->optimizer, err);
	if (!code && info->config)
		code = mspec_hdf5_attribute_text(c->hdf5, NULL, "config", info->config, err);
	return code;
}

static int create_safetensors(conversion *c, const char *path, muon_error *err)
{
	const mspec_checkpoint_info *info = &c->from->info;
	const char *metadata[2 * (FACTS + 3) + 1] = {"muonspec_layout", info->layout};
	const char *keys[FACTS];
	double values[FACTS];
	char texts[FACTS][FACT_TEXT];
	size_t count = list_facts(info, keys, values), used = 2;
	for (size_t i = 0; i < count; i++) {
		snprintf(texts[i], sizeof texts[i], "%.17g", values[i]);
		metadata[used++] = keys[i];
		metadata[used++] = texts[i];
	}
	if (info->optimizer) {
		metadata[used++] = "optimizer";
		metadata[used++] = info->optimizer;
	}
	if (info->config) {
		metadata[used++] = "config";
		metadata[used++] = info->config;
	}
	metadata[used] = NULL;
	return mspec_safetensors_create(&c->safetensors, path, c->declared, c->from->count,
	                                metadata, err);
}

/* ---- the copy ------------------------------------------------------------------------------ */

static int copy_tensor(conversion *c, size_t i, muon_error *err)
{
	const mspec_declared *d = &c->declared[i];
	int64_t size = (int64_t)muon_dtype_size(d->dtype);
	int64_t elements = c->from->entries[i].tensor.elements;
	int code = MUON_OK;
	if (c->is_hdf5)
		code = mspec_hdf5_dataset(c->hdf5, d->name, d->dtype, d->rank, d->dims, err);
	for (int64_t first = 0, count; first < elements && !code; first += count) {
		count = elements - first < BLOCK / size ? elements - first : BLOCK / size;
		code = mspec_read(c->from, i, first, count, c->block, err);
		if (!code && c->is_hdf5)
			code = mspec_hdf5_append(c->hdf5, c->block, count, err);
		else if (!code)
			code = mspec_safetensors_append(c->safetensors, c->block,
			                                (size_t)(count * size), err);
		c->done += (double)(count * size);
		if (!code && c->progress)
			c->progress(c->progress_state, c->done, c->total, d->name);
	}
	return code;
}

static int copy_all(conversion *c, const char *path, muon_error *err)
{
	int code = c->is_hdf5 ? mspec_hdf5_create(&c->hdf5, path, err)
	                      : create_safetensors(c, path, err);
	if (!code && c->is_hdf5)
		code = write_hdf5_facts(c, err);
	for (size_t i = 0; i < c->from->count && !code; i++)
		code = copy_tensor(c, i, err);
	if (!code)
		code = c->is_hdf5 ? mspec_hdf5_finish(&c->hdf5, err)
		                  : mspec_safetensors_finish(&c->safetensors, err);
	mspec_hdf5_abandon(&c->hdf5);
	mspec_safetensors_abandon(&c->safetensors);
	return code;
}

int mspec_convert(mspec_checkpoint *from, const char *path, const char *format_name,
                  mspec_progress_fn progress, void *progress_state, muon_error *err)
{
	conversion c = {.from = from, .progress = progress, .progress_state = progress_state};
	c.is_hdf5 = !strcmp(format_name, "hdf5");
	if (!c.is_hdf5 && strcmp(format_name, "safetensors")) {
		char escaped[64];
		return muon_fail(err, MUON_E_USAGE, path, "unknown format '%s'",
		                 muon_escape(escaped, sizeof escaped, format_name));
	}
	c.declared = muon_alloc(from->count, sizeof *c.declared);
	c.block = muon_alloc_aligned(BLOCK, 1);
	int code = c.declared && c.block ? declare_all(&c, err)
	                                 : mspec_out_of_memory(from->info.path, err);
	if (!code)
		code = copy_all(&c, path, err);
	muon_free_aligned(c.block);
	muon_free(c.declared);
	return code;
}
