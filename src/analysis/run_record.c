/* What a checkpoint says about itself, without its spectra. */
#include "analysis/run_internal.h"

#include "base/text.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static void relay_watch(void *state, const char *what)
{
	mspec_run_watch *w = state;
	if (what && strcmp(what, w->path)) {
		snprintf(w->text, sizeof w->text, "%s: %s", w->path, what);
		what = w->text;
	}
	w->options->watch(w->options->watch_state, what);
}

int mspec_run_open_file(mspec_checkpoint **out, mspec_run_watch *watch,
			const mspec_run_options *options, const char *path, muon_error *err)
{
	mspec_open_options how = options->open;
	watch->options = &options->open;
	watch->path = path;
	if (how.watch) {
		how.watch = relay_watch;
		how.watch_state = watch;
	}
	return mspec_open(out, path, &how, err);
}

/* HDF5 wants UTF-8: other names are escaped, here and not in the store, so that they are the same
 * whether they come from it or not. */
static const char *utf8_name(const char *name, muon_arena *arena)
{
	if (muon_is_utf8(name))
		return muon_arena_string(arena, name);
	char *escaped = muon_escape_all(name);
	const char *copy = escaped ? muon_arena_string(arena, escaped) : NULL;
	muon_free(escaped);
	return copy;
}

static const char *hash_listing(const mspec_listing *l, muon_arena *arena)
{
	enum { DIGITS = 16 };
	muon_text all = {0};
	for (size_t i = 0; i < l->count; i++) {
		muon_text_add_string(&all, l->names[i]);
		muon_text_format(&all, "\n%s %.0f %.0f\n", l->groups[i], l->rows[i], l->cols[i]);
	}
	const char *id = NULL;
	if (!all.failed) {
		mspec_hash hash = mspec_hash_bytes(all.length ? all.bytes : "", all.length);
		hash.hex[DIGITS] = 0;
		id = muon_arena_string(arena, hash.hex);
	}
	muon_text_release(&all);
	return id;
}

mspec_listing *mspec_listing_of(const mspec_views *views, muon_arena *arena)
{
	size_t room = views->count + 1;
	mspec_listing *l = muon_arena_alloc(arena, 1, sizeof *l);
	if (!l)
		return NULL;
	l->count = views->count;
	l->names = muon_arena_alloc(arena, room, sizeof *l->names);
	l->groups = muon_arena_alloc(arena, room, sizeof *l->groups);
	l->rows = muon_arena_alloc(arena, room, sizeof *l->rows);
	l->cols = muon_arena_alloc(arena, room, sizeof *l->cols);
	if (!l->names || !l->groups || !l->rows || !l->cols)
		return NULL;
	for (size_t i = 0; i < l->count; i++) {
		const mspec_matrix *m = &views->matrices[i];
		l->names[i] = utf8_name(m->name, arena);
		l->groups[i] = utf8_name(m->group, arena);
		if (!l->names[i] || !l->groups[i])
			return NULL;
		l->rows[i] = (double)m->rows;
		l->cols[i] = (double)m->cols;
	}
	l->id = hash_listing(l, arena);
	return l->id ? l : NULL;
}

/* ---- activations -------------------------------------------------------------------------- */

/* A statistic per layer, or per layer and head, of which the largest counts. */
static bool is_recorded(const mspec_tensor *t)
{
	enum { MOST = 1 << 20 };
	return t->role == MSPEC_ROLE_ACTIVATION && !t->status && (t->rank == 1 || t->rank == 2) &&
	       t->elements > 0 && t->elements <= MOST && t->dtype != MUON_DTYPE_NONE;
}

static int read_recorded(mspec_recorded *r, mspec_checkpoint *checkpoint, size_t index,
			 muon_arena *arena)
{
	const mspec_tensor *t = mspec_tensor_at(checkpoint, index);
	size_t count = (size_t)t->elements, layers = (size_t)t->dims[0], heads = count / layers;
	const char *slash = strchr(t->name, '/'); /* behind "activations" */
	void *raw = muon_alloc(count, muon_dtype_size(t->dtype));
	double *values = muon_alloc(count, sizeof *values);
	r->name = utf8_name(slash ? slash + 1 : t->name, arena);
	r->count = layers;
	r->values = muon_arena_alloc(arena, layers, sizeof *r->values);
	int code = raw && values && r->name && r->values ? MUON_OK : MUON_E_MEMORY;
	if (!code)
		code = mspec_read(checkpoint, index, 0, t->elements, raw, NULL);
	if (!code)
		code = muon_convert_f64(t->dtype, raw, count, values);
	for (size_t i = 0; i < layers && !code; i++) {
		r->values[i] = values[i * heads];
		for (size_t h = 1; h < heads; h++)
			if (values[i * heads + h] > r->values[i])
				r->values[i] = values[i * heads + h];
	}
	muon_free(raw);
	muon_free(values);
	return code;
}

int mspec_record_of(mspec_record *record, mspec_checkpoint *checkpoint, const mspec_listing *listing,
		    muon_arena *arena)
{
	const mspec_checkpoint_info *info = mspec_info(checkpoint);
	size_t tensors = mspec_tensor_count(checkpoint), found = 0;
	*record = (mspec_record){.listing = listing->id,
				 .step = info->step,
				 .lr = info->lr,
				 .weight_decay = info->weight_decay,
				 .tokens = info->tokens,
				 .loss = info->loss};
	if (info->optimizer && !(record->optimizer = utf8_name(info->optimizer, arena)))
		return MUON_E_MEMORY;
	for (size_t i = 0; i < tensors; i++)
		found += is_recorded(mspec_tensor_at(checkpoint, i));
	record->recorded = muon_arena_alloc(arena, found + 1, sizeof *record->recorded);
	if (!record->recorded)
		return MUON_E_MEMORY;
	for (size_t i = 0; i < tensors; i++) {
		if (!is_recorded(mspec_tensor_at(checkpoint, i)))
			continue;
		int code = read_recorded(&record->recorded[record->recorded_count], checkpoint, i,
					 arena);
		if (code == MUON_E_MEMORY)
			return code;
		record->recorded_count += !code; /* one that can't be read is no loss to the rest */
	}
	return MUON_OK;
}
