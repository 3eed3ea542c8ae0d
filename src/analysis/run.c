/* A run: which files are its checkpoints, in which order, and which are not. */
#include "analysis/run_internal.h"

#include "base/text.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One file that may be a checkpoint of the run. */
typedef struct candidate {
	const char *path;
	size_t order;     /* among the files */
	mspec_hash hash;  /* of the content */
	const mspec_record *record;
	struct stat state;
	double step;
	const char *reason; /* why it is set aside; NULL: it is not */
} candidate;

typedef struct gathering {
	mspec_run *run;
	mspec_run_memory *memory;
	candidate *items;
	size_t count;
	char settings[20]; /* hash of what results depend on besides the content */
	muon_error *err;
} gathering;

int mspec_run_progress(const mspec_run_options *options, double done, double total,
		       const char *what, muon_error *err)
{
	if (options->progress && !options->progress(options->progress_state, done, total, what))
		return muon_fail(err, MUON_E_INTERNAL, NULL, "interrupted");
	return MUON_OK;
}

static int out_of_memory(const gathering *g)
{
	return muon_fail(g->err, MUON_E_MEMORY, NULL, "out of memory");
}

/* ---- keys --------------------------------------------------------------------------------- */

static int hash_settings(gathering *g)
{
	const mspec_run_options *o = &g->memory->options;
	muon_text all = {0};
	mspec_hash rules = {""};
	int code = o->view.groups_file ? mspec_hash_file(&rules, o->view.groups_file, 0, g->err)
				       : MUON_OK;
	if (code)
		return code;
	muon_text_format(&all, "1\nsvd %d\noptimizer %d\ngroups %s\n", (int)o->svd,
			 (int)o->view.include_optimizer, rules.hex);
	for (size_t i = 0; i < o->view.include_count; i++)
		muon_text_format(&all, "include %s\n", o->view.include[i]);
	for (size_t i = 0; i < o->view.exclude_count; i++)
		muon_text_format(&all, "exclude %s\n", o->view.exclude[i]);
	if (all.failed)
		code = out_of_memory(g);
	else
		snprintf(g->settings, sizeof g->settings, "%.16s",
			 mspec_hash_bytes(all.bytes, all.length).hex);
	muon_text_release(&all);
	return code;
}

/* ---- reading what files are --------------------------------------------------------------- */

static const char *escaped_reason(gathering *g, const muon_error *reason, int code)
{
	return muon_arena_string(&g->memory->arena,
				 reason->code ? reason->message : muon_error_text(code));
}

static int describe(gathering *g, candidate *c, const char *key)
{
	mspec_checkpoint *checkpoint;
	mspec_views views = {0};
	muon_arena arena = {0};
	mspec_record record;
	const mspec_listing *kept;
	muon_error reason = {0};
	mspec_run_watch watch;
	int code =
	    mspec_run_open_file(&checkpoint, &watch, &g->memory->options, c->path, &reason);
	if (code && code != MUON_E_MEMORY && !g->memory->options.strict) {
		c->reason = escaped_reason(g, &reason, code);
		return c->reason ? MUON_OK : out_of_memory(g);
	}
	if (code)
		return muon_fail(g->err, code, c->path, "%s", reason.message);
	code = mspec_views_create(&views, checkpoint, &g->memory->options.view, g->err);
	mspec_listing *listing = code ? NULL : mspec_listing_of(&views, &arena);
	if (!code)
		code = listing ? mspec_record_of(&record, checkpoint, listing, &arena)
			       : MUON_E_MEMORY;
	if (!code) {
		record.key = key;
		code = mspec_store_add_listing(g->memory->store, listing, &kept);
	}
	if (!code)
		code = mspec_store_add_record(g->memory->store, &record, &c->record);
	mspec_views_destroy(&views);
	mspec_close(&checkpoint);
	muon_arena_release(&arena);
	return code ? muon_fail(g->err, code, c->path, "%s", muon_error_text(code)) : MUON_OK;
}

static int look_at(gathering *g, candidate *c, muon_error *reason)
{
	const mspec_run_options *o = &g->memory->options;
	const char *refusal = o->refuses ? o->refuses(o->refuses_state, c->path) : NULL;
	if (stat(c->path, &c->state))
		return muon_fail(reason, MUON_E_OPEN, NULL, "is gone");
	if (refusal)
		return muon_fail(reason, MUON_E_FORMAT, NULL, "%s", refusal);
	return mspec_hash_checkpoint(&c->hash, c->path, reason);
}

static int examine(gathering *g, candidate *c)
{
	char key[MSPEC_HASH_DIGITS + sizeof g->settings + 1];
	muon_error reason = {0};
	int code = look_at(g, c, &reason);
	if (code == MUON_E_MEMORY || (code && g->memory->options.strict))
		return muon_fail(g->err, code, c->path, "%s", reason.message);
	if (code) {
		c->reason = escaped_reason(g, &reason, code);
		return c->reason ? MUON_OK : out_of_memory(g);
	}
	snprintf(key, sizeof key, "%s-%s", c->hash.hex, g->settings);
	c->record = mspec_store_record(g->memory->store, key);
	return c->record ? MUON_OK : describe(g, c, key);
}

/* ---- setting aside ------------------------------------------------------------------------ */

static int set_aside(gathering *g, candidate *c, const char *reason)
{
	c->reason = reason;
	return reason ? MUON_OK : out_of_memory(g);
}

/* The last component of a path, escaped, short enough for a message. */
static const char *short_name(char *out, size_t capacity, const char *path)
{
	const char *slash = strrchr(path, '/');
	return muon_escape(out, capacity, slash && slash[1] ? slash + 1 : path);
}

static int find_steps(gathering *g)
{
	const char **paths = muon_alloc(g->count + 1, sizeof *paths);
	double *steps = muon_alloc(g->count + 1, sizeof *steps);
	if (!paths || !steps) {
		muon_free(paths);
		muon_free(steps);
		return out_of_memory(g);
	}
	for (size_t i = 0; i < g->count; i++)
		paths[i] = g->items[i].path;
	int code = mspec_run_steps(steps, paths, g->count, g->memory->options.step_regex, g->err);
	for (size_t i = 0; i < g->count && !code; i++) {
		const mspec_record *r = g->items[i].record;
		bool told = r && isfinite(r->step) && !g->memory->options.step_regex;
		g->items[i].step = told ? r->step : steps[i];
	}
	muon_free(paths);
	muon_free(steps);
	return code;
}

/* Files with the bytes of another: the one with a step stays. */
static int drop_copies(gathering *g)
{
	char name[120];
	int code = MUON_OK;
	for (size_t i = 0; i < g->count; i++)
		for (size_t k = 0; k < i && !g->items[i].reason && !code; k++) {
			candidate *a = &g->items[k], *b = &g->items[i];
			if (a->reason || strcmp(a->hash.hex, b->hash.hex))
				continue;
			candidate *out = isnan(a->step) && !isnan(b->step) ? a : b;
			code = set_aside(
			    g, out,
			    muon_arena_format(&g->memory->arena, "has the same bytes as %s",
					      short_name(name, sizeof name, (out == a ? b : a)->path)));
		}
	return code;
}

/* The listing that most candidates have; of equally many, that of the earliest step. */
static const mspec_listing *commonest(const gathering *g)
{
	const candidate *best = NULL;
	size_t best_count = 0;
	for (size_t i = 0; i < g->count; i++) {
		const candidate *c = &g->items[i];
		size_t count = 0;
		for (size_t k = 0; k < g->count && !c->reason; k++)
			count += !g->items[k].reason &&
				 !strcmp(g->items[k].record->listing, c->record->listing);
		if (count > best_count ||
		    (count && count == best_count && c->step < best->step)) {
			best = c;
			best_count = count;
		}
	}
	return best ? mspec_store_listing(g->memory->store, best->record->listing) : NULL;
}

/* Index of the matrix, or SIZE_MAX; `near` is where it should be. */
static size_t find_matrix(const mspec_listing *l, const char *name, size_t near)
{
	if (near < l->count && !strcmp(l->names[near], name))
		return near;
	for (size_t i = 0; i < l->count; i++)
		if (!strcmp(l->names[i], name))
			return i;
	return SIZE_MAX;
}

/* How the matrices of a checkpoint differ from the run's, in one line. */
static const char *explain_difference(gathering *g, const mspec_listing *run,
				      const mspec_listing *other)
{
	char first[320] = "", name[200];
	size_t differing = 0;
	for (size_t i = 0; i < run->count; i++) {
		size_t at = find_matrix(other, run->names[i], i);
		bool same = at != SIZE_MAX && other->rows[at] == run->rows[i] &&
			    other->cols[at] == run->cols[i];
		differing += !same;
		if (same || *first)
			continue;
		muon_escape(name, sizeof name, run->names[i]);
		if (at == SIZE_MAX)
			snprintf(first, sizeof first, "has no %s", name);
		else
			snprintf(first, sizeof first, "%s is %.0fx%.0f, not %.0fx%.0f", name,
				 other->rows[at], other->cols[at], run->rows[i], run->cols[i]);
	}
	for (size_t i = 0; i < other->count; i++)
		if (find_matrix(run, other->names[i], i) == SIZE_MAX) {
			differing++;
			if (!*first)
				snprintf(first, sizeof first, "has %s, which the others have not",
					 muon_escape(name, sizeof name, other->names[i]));
		}
	return differing ? muon_arena_format(&g->memory->arena,
					     "is of another run: %s (%zu %s)", first, differing,
					     differing == 1 ? "matrix differs" : "matrices differ")
			 : "is of another run: its matrices come in another order or are of other "
			   "groups";
}

static int drop_strangers(gathering *g)
{
	const mspec_listing *run = g->memory->listing = commonest(g);
	int code = MUON_OK;
	if (!run)
		return MUON_OK;
	for (size_t i = 0; i < g->count && !code; i++) {
		candidate *c = &g->items[i];
		if (c->reason || !strcmp(c->record->listing, run->id))
			continue;
		const mspec_listing *other =
		    mspec_store_listing(g->memory->store, c->record->listing);
		code = set_aside(g, c, other ? explain_difference(g, run, other) : NULL);
	}
	return code;
}

/* Without any step, files come as they were given. */
static void number_by_position(gathering *g)
{
	double next = 0;
	for (size_t i = 0; i < g->count; i++)
		if (!g->items[i].reason && !isnan(g->items[i].step))
			return;
	for (size_t i = 0; i < g->count; i++)
		if (!g->items[i].reason)
			g->items[i].step = next++;
	g->run->positions = next > 0;
}

static int drop_stepless(gathering *g)
{
	char name[120];
	int code = MUON_OK;
	for (size_t i = 0; i < g->count && !code; i++) {
		candidate *c = &g->items[i];
		if (!c->reason && isnan(c->step))
			code = set_aside(g, c,
					 "says no step, neither in its attributes nor in its name; see "
					 "--step-regex");
		for (size_t k = 0; k < i && !c->reason && !code; k++)
			if (!g->items[k].reason && g->items[k].step == c->step)
				code = set_aside(
				    g, c,
				    muon_arena_format(
					&g->memory->arena, "says step %.17g, as %s does", c->step,
					short_name(name, sizeof name, g->items[k].path)));
	}
	return code;
}

/* ---- the run ------------------------------------------------------------------------------ */

static int compare_steps(const void *x, const void *y)
{
	const candidate *a = x, *b = y;
	if (a->step != b->step)
		return a->step < b->step ? -1 : 1;
	return a->order < b->order ? -1 : a->order > b->order;
}

/* Those that stay, by step, before those that don't, as they came. */
static int compare_candidates(const void *x, const void *y)
{
	const candidate *a = x, *b = y;
	if (!a->reason != !b->reason)
		return a->reason ? 1 : -1;
	if (!a->reason)
		return compare_steps(x, y);
	return a->order < b->order ? -1 : a->order > b->order;
}

static int fill_run(gathering *g)
{
	mspec_run *run = g->run;
	mspec_run_memory *m = g->memory;
	qsort(g->items, g->count, sizeof *g->items, compare_candidates);
	while (run->count < g->count && !g->items[run->count].reason)
		run->count++;
	run->set_aside_count = g->count - run->count;
	run->checkpoints = muon_arena_alloc(&m->arena, run->count + 1, sizeof *run->checkpoints);
	run->set_aside = muon_arena_alloc(&m->arena, run->set_aside_count + 1,
					  sizeof *run->set_aside);
	m->records = muon_arena_alloc(&m->arena, run->count + 1, sizeof *m->records);
	m->forwards = muon_arena_alloc(&m->arena, run->count + 1, sizeof *m->forwards);
	m->states = muon_arena_alloc(&m->arena, run->count + 1, sizeof *m->states);
	if (!run->checkpoints || !run->set_aside || !m->records || !m->forwards ||
	    !m->states)
		return out_of_memory(g);
	for (size_t i = 0; i < run->count; i++) {
		const candidate *c = &g->items[i];
		const mspec_record *r = c->record;
		run->checkpoints[i] = (mspec_run_checkpoint){.path = c->path,
							     .step = c->step,
							     .status = "ok",
							     .optimizer = r->optimizer,
							     .lr = r->lr,
							     .weight_decay = r->weight_decay,
							     .tokens = r->tokens,
							     .loss = r->loss};
		m->records[i] = r;
		m->forwards[i] = mspec_store_forward(m->store, c->hash.hex);
		m->states[i] = c->state;
	}
	for (size_t i = run->count; i < g->count; i++)
		run->set_aside[i - run->count] =
		    (mspec_set_aside){g->items[i].path, g->items[i].reason};
	if (m->listing) {
		run->matrix_count = m->listing->count;
		run->names = m->listing->names;
		run->groups = m->listing->groups;
		run->rows = m->listing->rows;
		run->cols = m->listing->cols;
	}
	return MUON_OK;
}

static int gather(gathering *g)
{
	mspec_run_memory *m = g->memory;
	int code = hash_settings(g);
	for (size_t i = 0; i < g->count && !code; i++) {
		g->items[i].path = m->files.paths[i];
		g->items[i].order = i;
		code = mspec_run_progress(&m->options, 0, (double)g->count, g->items[i].path,
					  g->err);
		if (!code)
			code = examine(g, &g->items[i]);
	}
	if (!code)
		code = find_steps(g);
	if (!code)
		code = drop_copies(g);
	if (!code)
		code = drop_strangers(g);
	if (code)
		return code;
	number_by_position(g);
	code = drop_stepless(g);
	if (!code)
		code = fill_run(g);
	mspec_store_commit(m->store, false);
	return code;
}

/* The store itself, when it lies among the checkpoints under a name like theirs. */
static void leave_store_out(mspec_run_memory *m)
{
	struct stat store, st;
	size_t kept = 0;
	if (!m->options.store || stat(m->options.store, &store))
		return;
	for (size_t i = 0; i < m->files.count; i++) {
		bool same = !stat(m->files.paths[i], &st) && st.st_dev == store.st_dev &&
			    st.st_ino == store.st_ino;
		if (!same)
			m->files.paths[kept++] = m->files.paths[i];
	}
	m->files.count = kept;
}

static int refuse_empty(const mspec_run *run, const char *where, muon_error *err)
{
	char name[120];
	if (run->set_aside_count)
		return muon_fail(err, MUON_E_FORMAT, where, "no checkpoint of a run; %s: %s",
				 short_name(name, sizeof name, run->set_aside[0].path),
				 run->set_aside[0].reason);
	return muon_fail(err, MUON_E_FORMAT, where,
			 "holds no checkpoints (.h5, .hdf5, .safetensors, .npz)");
}

int mspec_run_open(mspec_run **out, const char *const *arguments, size_t count,
		   const mspec_run_options *options, muon_error *err)
{
	mspec_run *run = *out = muon_alloc(1, sizeof *run);
	mspec_run_memory *m = run ? run->memory = muon_alloc(1, sizeof *m) : NULL;
	if (!m) {
		mspec_run_close(out);
		return muon_fail(err, MUON_E_MEMORY, NULL, "out of memory");
	}
	m->options = *options;
	gathering g = {.run = run, .memory = m, .err = err};
	int code = mspec_run_files_find(&m->files, arguments, count, err);
	if (!code)
		code = mspec_store_open(&m->store, options->store, err);
	if (!code) {
		leave_store_out(m);
		g.count = m->files.count;
		g.items = muon_alloc(g.count + 1, sizeof *g.items);
		code = g.items ? gather(&g) : out_of_memory(&g);
	}
	muon_free(g.items);
	if (!code) {
		run->store = options->store;
		run->store_problem = mspec_store_problem(m->store);
		run->kept = mspec_store_keeps(m->store);
		if (!run->count)
			code = refuse_empty(run, count ? arguments[0] : NULL, err);
		else if (!run->matrix_count)
			code = muon_fail(err, MUON_E_FORMAT, arguments[0],
					 "no matrices in its checkpoints, or none left by the filters");
	}
	if (code)
		mspec_run_close(out);
	return code;
}

void mspec_run_close(mspec_run **run)
{
	mspec_run *r = *run;
	*run = NULL;
	if (!r)
		return;
	mspec_run_memory *m = r->memory;
	if (m) {
		mspec_store_close(&m->store);
		mspec_run_files_release(&m->files);
		muon_arena_release(&m->arena);
		muon_free(m);
	}
	muon_free(r);
}
