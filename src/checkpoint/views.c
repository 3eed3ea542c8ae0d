#include "base/memory.h"
#include "base/text.h"
#include "checkpoint/groups.h"
#include "checkpoint/names.h"
#include "checkpoint/reader.h"
#include "checkpoint/shapes.h"

#include <fnmatch.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* a file may declare a stack of any height in a few bytes */
static const int64_t most_matrices = 1000000;

/* What views->memory points to. */
typedef struct storage {
	muon_arena arena;
	mspec_matrix *matrices;
	mspec_skip *skipped;
	size_t matrices_capacity, skipped_capacity;
} storage;

typedef struct builder {
	mspec_views *views;
	storage *storage;
	const mspec_checkpoint *checkpoint;
	const mspec_view_options *options;
	mspec_conventions conventions;
	mspec_group_rules *rules;
	muon_error *err;
} builder;

static int out_of_memory(const builder *b)
{
	return mspec_out_of_memory(mspec_info(b->checkpoint)->path, b->err);
}

/* Make room for one more element in a list of the given capacity. */
static void *grow(void *list, size_t count, size_t *capacity, size_t size)
{
	if (count < *capacity)
		return list;
	size_t wanted = *capacity ? 2 * *capacity : 64;
	void *grown = muon_resize(list, wanted, size);
	if (grown)
		*capacity = wanted;
	return grown;
}

/* ---- tensors that hold no matrix --------------------------------------------------------- */

/* `reason` is in the arena or static; NULL means that memory ran out making it. */
static int skip(builder *b, size_t tensor, const char *reason)
{
	storage *s = b->storage;
	mspec_skip *list =
	    grow(s->skipped, b->views->skipped_count, &s->skipped_capacity, sizeof *s->skipped);
	if (!list || !reason)
		return out_of_memory(b);
	s->skipped = list;
	list[b->views->skipped_count++] = (mspec_skip){tensor, reason};
	return MUON_OK;
}

/* Escaped copy with words before and after. */
static const char *reason_with(builder *b, const char *before, const char *foreign,
			       const char *after)
{
	char escaped[256];
	return muon_arena_format(&b->storage->arena, "%s%s%s", before,
				 muon_escape(escaped, sizeof escaped, foreign), after);
}

static const char *empty_reason(builder *b, const mspec_tensor *t)
{
	char text[MSPEC_MAX_RANK * 24] = "";
	for (int i = 0; i < t->rank; i++) {
		size_t used = strlen(text);
		snprintf(text + used, sizeof text - used, "%s%" PRId64, i ? " x " : "", t->dims[i]);
	}
	return muon_arena_format(&b->storage->arena, "empty (%s)", text);
}

static bool is_empty(const mspec_tensor *t)
{
	for (int i = 0; i < t->rank; i++)
		if (!t->dims[i])
			return true;
	return false;
}

static bool has_rank_of_matrices(const mspec_tensor *t)
{
	return t->rank >= 2 && t->rank <= 5;
}

/* Matrices that can't be read still get their row in reports, with that status, as long as their
 * shape can be believed. */
static bool deserves_row(const mspec_tensor *t)
{
	return !t->status || (muon_dtype_is_float(t->dtype) && has_rank_of_matrices(t) &&
			      mspec_count_elements(t->rank, t->dims, sizeof(double)) > 0);
}

/* The same data under a second name would count twice. */
static const char *alias_reason(builder *b, size_t index)
{
	const mspec_entry *entry = &b->checkpoint->entries[index];
	char before[32];
	snprintf(before, sizeof before, "%s link to '", entry->link ? entry->link : "hard");
	return reason_with(b, before, entry->tensor.alias_of, "'");
}

/* Why a tensor holds no matrix whatever its name: into *reason, NULL for a matrix. */
static int unfit(builder *b, size_t index, const char **reason)
{
	const mspec_tensor *t = mspec_tensor_at(b->checkpoint, index);
	muon_arena *arena = &b->storage->arena;
	*reason = NULL;
	if (t->role == MSPEC_ROLE_OPTIMIZER && !(b->options && b->options->include_optimizer))
		*reason = "optimizer state (--include-optimizer)";
	else if (t->role == MSPEC_ROLE_ACTIVATION)
		*reason = "recorded activations";
	else if (t->alias_of)
		*reason = alias_reason(b, index);
	else if (!deserves_row(t))
		*reason =
		    muon_arena_string(arena, t->problem ? t->problem : muon_error_text(t->status));
	else if (t->dtype == MUON_DTYPE_NONE)
		*reason = reason_with(b, "type ", t->type_name, "");
	else if (t->dtype == MUON_BOOL)
		*reason = "booleans";
	else if (!muon_dtype_is_float(t->dtype))
		*reason = muon_arena_format(arena, "integers (%s)", muon_dtype_name(t->dtype));
	else if (!t->rank)
		*reason = "not a matrix (scalar)";
	else if (!has_rank_of_matrices(t))
		*reason = muon_arena_format(arena, "not a matrix (%d-d)", t->rank);
	else if (is_empty(t))
		*reason = empty_reason(b, t);
	else
		return MUON_OK;
	return *reason ? MUON_OK : out_of_memory(b);
}

/* ---- the filters of the command line ------------------------------------------------------ */

/* The first of the globs that matches either name, NULL if none. Slices have brackets in their
 * names, which a glob would take for a set of characters: equal text matches as well. */
static const char *matching(const char *const *globs, size_t count, const char *tensor,
			    const char *matrix)
{
	for (size_t i = 0; i < count; i++)
		if (!strcmp(globs[i], tensor) || !strcmp(globs[i], matrix) ||
		    !fnmatch(globs[i], tensor, 0) || !fnmatch(globs[i], matrix, 0))
			return globs[i];
	return NULL;
}

/* Do the filters keep this matrix? If not, *glob is what excludes it, or NULL if nothing includes
 * it. */
static bool kept(const builder *b, const char *tensor, const char *matrix, const char **glob)
{
	const mspec_view_options *o = b->options;
	*glob = NULL;
	if (!o)
		return true;
	if (o->include_count && !matching(o->include, o->include_count, tensor, matrix))
		return false;
	*glob = matching(o->exclude, o->exclude_count, tensor, matrix);
	return !*glob;
}

/* ---- matrices ------------------------------------------------------------------------------ */

/* The name of slice i of a tensor; NULL when out of memory. */
static const char *slice_name(builder *b, const mspec_shape *shape, int64_t i)
{
	static const char *const qkv[] = {"q", "k", "v"};
	if (shape->slicing == MSPEC_QKV)
		return qkv[i];
	if (shape->inner)
		return muon_arena_format(&b->storage->arena, "%" PRId64 ",%" PRId64,
					 i / shape->inner, i % shape->inner);
	return muon_arena_format(&b->storage->arena, "%" PRId64, i);
}

static mspec_matrix place(const mspec_shape *shape, int64_t i)
{
	int64_t stored_cols = shape->block_count * shape->block_cols;
	return (mspec_matrix){
	    .rows = shape->transposed ? stored_cols : shape->stored_rows,
	    .cols = shape->transposed ? shape->stored_rows : stored_cols,
	    .transposed = shape->transposed,
	    .stored_rows = shape->stored_rows,
	    .stored_cols = stored_cols,
	    .block_count = shape->block_count,
	    .block_cols = shape->block_cols,
	    .block_stride = shape->block_stride,
	    .offset = i * shape->step,
	    .row_stride = shape->row_stride,
	};
}

static int append(builder *b, const mspec_matrix *matrix)
{
	storage *s = b->storage;
	mspec_matrix *list =
	    grow(s->matrices, b->views->count, &s->matrices_capacity, sizeof *s->matrices);
	if (!list)
		return out_of_memory(b);
	s->matrices = list;
	list[b->views->count++] = *matrix;
	return MUON_OK;
}

/* Add matrix i of the tensor unless the filters drop it; then *glob says why, see kept. */
static int add_matrix(builder *b, size_t index, const char *tensor_name, const char *key,
		      const mspec_shape *shape, int64_t i, const char **glob)
{
	const char *slice = NULL, *name = tensor_name;
	if (shape->slicing != MSPEC_WHOLE) {
		slice = slice_name(b, shape, i);
		name = slice ? muon_arena_format(&b->storage->arena, "%s[%s]", tensor_name, slice)
			     : NULL;
		if (!name)
			return out_of_memory(b);
	}
	if (!kept(b, tensor_name, name, glob))
		return MUON_OK;
	mspec_matrix matrix = place(shape, i);
	matrix.name = name;
	matrix.slice = slice;
	matrix.tensor = index;
	matrix.dtype = mspec_tensor_at(b->checkpoint, index)->dtype;
	matrix.group = mspec_group_of(b->rules, tensor_name, name, key, slice, shape->convolution);
	return append(b, &matrix);
}

static int add_matrices(builder *b, size_t index, const char *key, const mspec_shape *shape)
{
	const mspec_tensor *t = mspec_tensor_at(b->checkpoint, index);
	if (shape->count > most_matrices - (int64_t)b->views->count)
		return skip(b, index,
			    muon_arena_format(&b->storage->arena,
					      "%" PRId64 " matrices, over the limit of %" PRId64
					      " for one checkpoint",
					      shape->count, most_matrices));
	const char *name = muon_arena_string(&b->storage->arena, t->name), *glob = NULL;
	if (!name)
		return out_of_memory(b);
	size_t before = b->views->count;
	for (int64_t i = 0; i < shape->count; i++) {
		int code = add_matrix(b, index, name, key, shape, i, &glob);
		if (code)
			return code;
	}
	if (b->views->count > before)
		return MUON_OK;
	return skip(b, index,
		    glob ? reason_with(b, "excluded by --exclude '", glob, "'")
			 : "not matched by --include");
}

static int add_tensor(builder *b, size_t index)
{
	const mspec_tensor *t = mspec_tensor_at(b->checkpoint, index);
	const char *reason;
	int code = unfit(b, index, &reason);
	if (code || reason)
		return code ? code : skip(b, index, reason);
	char key[MSPEC_KEY_SIZE];
	mspec_name_key(key, t->name);
	mspec_shape shape = mspec_find_shape(&b->conventions, t, key);
	if (shape.other)
		return skip(b, index,
			    muon_arena_format(&b->storage->arena, "%s, not a matrix (%d-d)",
					      shape.other, t->rank));
	return add_matrices(b, index, key, &shape);
}

int mspec_views_create(mspec_views *views, const mspec_checkpoint *checkpoint,
		       const mspec_view_options *options, muon_error *err)
{
	*views = (mspec_views){0};
	builder b = {
	    .views = views,
	    .checkpoint = checkpoint,
	    .options = options,
	    .conventions = mspec_find_conventions(checkpoint),
	    .err = err,
	};
	int code = mspec_group_rules_create(&b.rules, options ? options->groups_file : NULL, err);
	if (code)
		return code;
	views->memory = b.storage = muon_alloc(1, sizeof *b.storage);
	if (!b.storage)
		code = out_of_memory(&b);
	for (size_t i = 0; i < mspec_tensor_count(checkpoint) && !code; i++)
		code = add_tensor(&b, i);
	mspec_group_rules_destroy(&b.rules);
	if (code) {
		mspec_views_destroy(views);
		return code;
	}
	views->matrices = b.storage->matrices;
	views->skipped = b.storage->skipped;
	return MUON_OK;
}

void mspec_views_destroy(mspec_views *views)
{
	storage *s = views->memory;
	*views = (mspec_views){0};
	if (!s)
		return;
	muon_free(s->matrices);
	muon_free(s->skipped);
	muon_arena_release(&s->arena);
	muon_free(s);
}
