#define _DEFAULT_SOURCE /* flock */
#include "analysis/run_store.h"

#include "analysis/content_hash.h"
#include "base/clock.h"
#include "base/output.h"
#include "base/text.h"
#include "checkpoint/column_file.h"
#include "checkpoint/writer.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC "muonspec store 1\n"

enum { SEAL = 512, OBJECT = 256 /* bytes of the path of an object */ };

/* Columns of `numbers`, one row per matrix. */
enum number {
	N_CODE, N_DTYPE, N_SIGMA, N_FLOOR, N_METHOD, N_COUNT, N_NAN, N_INF, N_ZEROS, N_BF16_EXACT,
	N_MAX_ABS, N_MEAN, N_M2, N_M3, N_M4, N_SUMSQ, N_BF16_ERROR_SQ, N_HAS_GAIN, N_GAIN_SUMSQ,
	NUMBERS
};
/* Columns of a change. */
enum change_number {
	C_CODE, C_KNOWN, C_ESTIMATED, C_SUMSQ, C_SPECTRAL_NORM, C_SVD_ENTROPY, C_ALIGN_OUT,
	C_ALIGN_IN, CHANGE_NUMBERS
};
enum info_number { I_STEP, I_LR, I_WEIGHT_DECAY, I_TOKENS, I_LOSS, I_RECORDED, INFO_NUMBERS };

static const char number_names[] =
    "code dtype singular_values sigma_floor method count nan inf zeros bf16_exact max_abs mean m2 "
    "m3 m4 sumsq bf16_error_sq has_gain gain_sumsq";
static const char change_names[] =
    "code known estimated sumsq spectral_norm svd_entropy align_out align_in";
static const char info_names[] = "step lr weight_decay tokens loss recorded";

/* Something to be written. */
typedef struct pending {
	struct pending *next;
	const mspec_listing *listing;
	const mspec_record *record;
	bool forward; /* the record is of forward */
	char *object; /* "checkpoints/<key>" or "changes/<before>/<key>", of: */
	double *numbers;
	size_t rows, columns;
	double *sigma; /* with spectra */
	size_t sigma_count;
	bool present;  /* the file has it already */
} pending;

struct mspec_store {
	muon_arena arena; /* listings, records */
	char *path;       /* NULL: nothing is kept */
	mspec_columns *columns; /* of the file as it was found or written last; NULL: none */
	struct stat found;
	const mspec_listing **listings;
	size_t listing_count;
	const mspec_record **records;
	size_t record_count;
	pending *first, *last;
	double committed, took; /* seconds: when, and how long it took */
	char problem[600];
};

/* ---- seals ------------------------------------------------------------------------------- */

/* The block before the data: what a file of this size and hash begins with. */
static void make_seal(char seal[SEAL], long long bytes, const mspec_hash *hash)
{
	memset(seal, 0, SEAL);
	snprintf(seal, SEAL, MAGIC "%lld bytes follow this block of %d; their XXH3-128 is %s\n",
		 bytes, SEAL, hash->hex);
}

static bool read_start(const char *path, char start[SEAL])
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	ssize_t got = fd < 0 ? -1 : pread(fd, start, SEAL, 0);
	if (fd >= 0)
		close(fd);
	if (got >= 0 && got < SEAL)
		memset(start + got, 0, SEAL - (size_t)got);
	return got >= 0;
}

/* Is the file what was written? */
static bool is_sealed(const char *path)
{
	char start[SEAL], seal[SEAL];
	struct stat st;
	mspec_hash hash;
	if (stat(path, &st) || st.st_size <= SEAL || !read_start(path, start) ||
	    memcmp(start, MAGIC, strlen(MAGIC)) || mspec_hash_file(&hash, path, SEAL, NULL))
		return false;
	make_seal(seal, (long long)st.st_size - SEAL, &hash);
	return !memcmp(start, seal, SEAL);
}

static int put_seal(const char *path, muon_error *err)
{
	char seal[SEAL];
	struct stat st;
	mspec_hash hash;
	int code = mspec_hash_file(&hash, path, SEAL, err);
	if (code)
		return code;
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool good = fd >= 0 && !fstat(fd, &st);
	if (good) {
		make_seal(seal, (long long)st.st_size - SEAL, &hash);
		good = pwrite(fd, seal, SEAL, 0) == SEAL;
	}
	int reason = errno;
	if (fd >= 0 && close(fd) && good) {
		reason = errno;
		good = false;
	}
	return good ? MUON_OK : muon_fail(err, MUON_E_WRITE, path, "%s", strerror(reason));
}

/* ---- opening ------------------------------------------------------------------------------ */

static void MUON_PRINTF(2, 3) set_problem(mspec_store *store, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(store->problem, sizeof store->problem, format, arguments);
	va_end(arguments);
}

static bool is_same_state(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
	       a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

/* Read from the file at the store's path, which is sound. */
static void attach(mspec_store *store)
{
	muon_error err = {0};
	mspec_columns_close(&store->columns);
	if (stat(store->path, &store->found) ||
	    mspec_columns_open(&store->columns, store->path, &err))
		set_problem(store, "%s; its results are computed again",
			    err.code ? err.message : strerror(errno));
}

/* May the file, which is no sound store, be replaced? One that was one, or has the name of one and
 * is no other HDF5 file. */
static bool is_replaceable(const char *path)
{
	static const char end[] = ".spectra.h5";
	char start[SEAL];
	size_t length = strlen(path);
	if (!read_start(path, start))
		return false;
	return !memcmp(start, MAGIC, strlen(MAGIC)) ||
	       (length > strlen(end) && !strcmp(path + length - strlen(end), end) &&
		memcmp(start, "\211HDF", 4));
}

int mspec_store_open(mspec_store **out, const char *path, muon_error *err)
{
	mspec_store *store = *out = muon_alloc(1, sizeof *store);
	if (store && path)
		store->path = muon_arena_string(&store->arena, path);
	if (!store || (path && !store->path)) {
		mspec_store_close(out);
		return muon_fail(err, MUON_E_MEMORY, path, "out of memory");
	}
	store->committed = muon_seconds();
	if (!path || access(path, F_OK))
		return MUON_OK;
	if (is_sealed(path)) {
		attach(store);
	} else if (is_replaceable(path)) {
		set_problem(store, "is damaged; all its results are computed again");
	} else {
		mspec_store_close(out);
		return muon_fail(err, MUON_E_USAGE, path,
				 "is there and is no store of muonspec; name another file");
	}
	return MUON_OK;
}

static void drop_pending(mspec_store *store)
{
	while (store->first) {
		pending *p = store->first;
		store->first = p->next;
		muon_free(p->numbers);
		muon_free(p->sigma);
		muon_free(p->object);
		muon_free(p);
	}
	store->last = NULL;
}

void mspec_store_close(mspec_store **store)
{
	mspec_store *s = *store;
	*store = NULL;
	if (!s)
		return;
	drop_pending(s);
	mspec_columns_close(&s->columns);
	muon_free(s->listings);
	muon_free(s->records);
	muon_arena_release(&s->arena);
	muon_free(s);
}

const char *mspec_store_problem(const mspec_store *store)
{
	return *store->problem ? store->problem : NULL;
}

bool mspec_store_keeps(const mspec_store *store)
{
	return store->path != NULL;
}

void mspec_spectra_release(mspec_spectra *spectra)
{
	muon_free(spectra->spectra);
	muon_free(spectra->codes);
	muon_free(spectra->sigma);
	*spectra = (mspec_spectra){0};
}

/* ---- finding ------------------------------------------------------------------------------ */

static bool keep_listing(mspec_store *store, const mspec_listing *listing)
{
	const mspec_listing **grown =
	    muon_resize(store->listings, store->listing_count + 1, sizeof *grown);
	if (!grown)
		return false;
	grown[store->listing_count++] = listing;
	store->listings = grown;
	return true;
}

static bool keep_record(mspec_store *store, const mspec_record *record)
{
	const mspec_record **grown =
	    muon_resize(store->records, store->record_count + 1, sizeof *grown);
	if (!grown)
		return false;
	grown[store->record_count++] = record;
	store->records = grown;
	return true;
}

static mspec_listing *new_listing(muon_arena *arena, const char *id, size_t count)
{
	mspec_listing *l = muon_arena_alloc(arena, 1, sizeof *l);
	if (!l)
		return NULL;
	l->count = count;
	l->id = muon_arena_string(arena, id);
	l->names = muon_arena_alloc(arena, count + 1, sizeof *l->names);
	l->groups = muon_arena_alloc(arena, count + 1, sizeof *l->groups);
	l->rows = muon_arena_alloc(arena, count + 1, sizeof *l->rows);
	l->cols = muon_arena_alloc(arena, count + 1, sizeof *l->cols);
	return l->id && l->names && l->groups && l->rows && l->cols ? l : NULL;
}

const mspec_listing *mspec_store_listing(mspec_store *store, const char *id)
{
	char name[4][OBJECT];
	static const char *const columns[] = {"name", "group", "rows", "cols"};
	for (size_t i = 0; i < store->listing_count; i++)
		if (!strcmp(store->listings[i]->id, id))
			return store->listings[i];
	if (!store->columns)
		return NULL;
	for (int i = 0; i < 4; i++)
		snprintf(name[i], sizeof name[i], "listings/%s/%s", id, columns[i]);
	int64_t count = mspec_columns_count(store->columns, name[0]);
	mspec_listing *l = count < 0 ? NULL : new_listing(&store->arena, id, (size_t)count);
	if (!l ||
	    mspec_columns_strings(store->columns, name[0], l->names, count, &store->arena, NULL) ||
	    mspec_columns_strings(store->columns, name[1], l->groups, count, &store->arena, NULL) ||
	    mspec_columns_read(store->columns, name[2], l->rows, count, NULL) ||
	    mspec_columns_read(store->columns, name[3], l->cols, count, NULL) ||
	    !keep_listing(store, l))
		return NULL;
	return l;
}

/* The recorded statistics of activations of the checkpoint at `object`. */
static bool find_recorded(mspec_store *store, const char *object, mspec_record *record)
{
	char name[OBJECT + 40];
	size_t count = record->recorded_count;
	muon_arena *arena = &store->arena;
	record->recorded = muon_arena_alloc(arena, count + 1, sizeof *record->recorded);
	const char **names = muon_arena_alloc(arena, count + 1, sizeof *names);
	if (!record->recorded || !names)
		return false;
	snprintf(name, sizeof name, "%s/recorded_names", object);
	if (count && mspec_columns_strings(store->columns, name, names, (int64_t)count, arena, NULL))
		return false;
	for (size_t i = 0; i < count; i++) {
		snprintf(name, sizeof name, "%s/recorded_%zu", object, i);
		int64_t values = mspec_columns_count(store->columns, name);
		mspec_recorded *r = &record->recorded[i];
		r->name = names[i];
		r->count = values < 0 ? 0 : (size_t)values;
		r->values = muon_arena_alloc(arena, r->count + 1, sizeof *r->values);
		if (values < 0 || !r->values ||
		    mspec_columns_read(store->columns, name, r->values, values, NULL))
			return false;
	}
	return true;
}

const mspec_record *mspec_store_record(mspec_store *store, const char *key)
{
	char object[OBJECT], name[OBJECT + 8];
	double info[INFO_NUMBERS];
	for (size_t i = 0; i < store->record_count; i++)
		if (!strcmp(store->records[i]->key, key))
			return store->records[i];
	snprintf(object, sizeof object, "checkpoints/%s", key);
	snprintf(name, sizeof name, "%s/info", object);
	if (!store->columns || mspec_columns_count(store->columns, name) != INFO_NUMBERS ||
	    mspec_columns_read(store->columns, name, info, INFO_NUMBERS, NULL))
		return NULL;
	mspec_record *r = muon_arena_alloc(&store->arena, 1, sizeof *r);
	if (!r)
		return NULL;
	r->key = muon_arena_string(&store->arena, key);
	r->listing = mspec_columns_text(store->columns, object, "listing", &store->arena);
	r->optimizer = mspec_columns_text(store->columns, object, "optimizer", &store->arena);
	r->step = info[I_STEP];
	r->lr = info[I_LR];
	r->weight_decay = info[I_WEIGHT_DECAY];
	r->tokens = info[I_TOKENS];
	r->loss = info[I_LOSS];
	r->recorded_count = info[I_RECORDED] >= 0 && info[I_RECORDED] < 1e6
				? (size_t)info[I_RECORDED]
				: 0;
	if (!r->key || !r->listing || !mspec_store_listing(store, r->listing) ||
	    !find_recorded(store, object, r) || !keep_record(store, r))
		return NULL;
	return r;
}

const mspec_record *mspec_store_forward(mspec_store *store, const char *hash)
{
	enum { MOST = 1000 };
	char object[OBJECT], name[OBJECT + 16];
	snprintf(object, sizeof object, "forward/%s", hash);
	snprintf(name, sizeof name, "%s/recorded_names", object);
	int64_t count = store->columns ? mspec_columns_count(store->columns, name) : -1;
	if (count < 1 || count > MOST)
		return NULL;
	mspec_record *r = muon_arena_alloc(&store->arena, 1, sizeof *r);
	if (!r)
		return NULL;
	r->key = muon_arena_string(&store->arena, hash);
	r->recorded_count = (size_t)count;
	return r->key && find_recorded(store, object, r) ? r : NULL;
}

static void take_numbers(mspec_spectrum *s, int *code, const double *x)
{
	*code = (int)x[N_CODE];
	s->dtype = (muon_dtype)x[N_DTYPE];
	s->sigma_floor = x[N_FLOOR];
	s->method = (muon_svd_method)x[N_METHOD];
	s->moments = (muon_moments){.count = (int64_t)x[N_COUNT],
				    .nan = (int64_t)x[N_NAN],
				    .inf = (int64_t)x[N_INF],
				    .zeros = (int64_t)x[N_ZEROS],
				    .bf16_exact = (int64_t)x[N_BF16_EXACT],
				    .max_abs = x[N_MAX_ABS],
				    .mean = x[N_MEAN],
				    .m2 = x[N_M2],
				    .m3 = x[N_M3],
				    .m4 = x[N_M4],
				    .sumsq = x[N_SUMSQ],
				    .bf16_error_sq = x[N_BF16_ERROR_SQ]};
	s->has_gain = x[N_HAS_GAIN] != 0;
	s->gain_sumsq = x[N_GAIN_SUMSQ];
}

static void give_numbers(const mspec_spectrum *s, int code, double *x)
{
	const muon_moments *m = &s->moments;
	const double values[NUMBERS] = {
	    [N_CODE] = code,
	    [N_DTYPE] = s->dtype,
	    [N_SIGMA] = s->sigma ? (double)s->count : 0,
	    [N_FLOOR] = s->sigma_floor,
	    [N_METHOD] = s->method,
	    [N_COUNT] = (double)m->count,
	    [N_NAN] = (double)m->nan,
	    [N_INF] = (double)m->inf,
	    [N_ZEROS] = (double)m->zeros,
	    [N_BF16_EXACT] = (double)m->bf16_exact,
	    [N_MAX_ABS] = m->max_abs,
	    [N_MEAN] = m->mean,
	    [N_M2] = m->m2,
	    [N_M3] = m->m3,
	    [N_M4] = m->m4,
	    [N_SUMSQ] = m->sumsq,
	    [N_BF16_ERROR_SQ] = m->bf16_error_sq,
	    [N_HAS_GAIN] = s->has_gain,
	    [N_GAIN_SUMSQ] = s->gain_sumsq,
	};
	memcpy(x, values, sizeof values);
}

static bool take_spectra(mspec_spectra *spectra, const mspec_listing *listing,
			 const double *numbers, int64_t sigma_count)
{
	int64_t used = 0;
	for (size_t i = 0; i < listing->count; i++) {
		mspec_spectrum *s = &spectra->spectra[i];
		int64_t kept = (int64_t)numbers[i * NUMBERS + N_SIGMA];
		s->rows = (int64_t)listing->rows[i];
		s->cols = (int64_t)listing->cols[i];
		s->count = s->rows < s->cols ? s->rows : s->cols;
		take_numbers(s, &spectra->codes[i], numbers + i * NUMBERS);
		if (kept && (kept != s->count || kept > sigma_count - used))
			return false;
		s->sigma = kept ? spectra->sigma + used : NULL;
		used += kept;
	}
	return used == sigma_count;
}

bool mspec_store_spectra(mspec_store *store, const char *key, const mspec_listing *listing,
			 mspec_spectra *spectra)
{
	char numbers_name[OBJECT], sigma_name[OBJECT];
	*spectra = (mspec_spectra){.count = listing->count};
	if (!store->columns)
		return false;
	snprintf(numbers_name, sizeof numbers_name, "checkpoints/%s/numbers", key);
	snprintf(sigma_name, sizeof sigma_name, "checkpoints/%s/singular_values", key);
	size_t cells = listing->count * NUMBERS;
	int64_t count = mspec_columns_count(store->columns, sigma_name);
	if (count < 0 || mspec_columns_count(store->columns, numbers_name) != (int64_t)cells)
		return false;
	double *numbers = muon_alloc(cells + 1, sizeof *numbers);
	spectra->spectra = muon_alloc(listing->count + 1, sizeof *spectra->spectra);
	spectra->codes = muon_alloc(listing->count + 1, sizeof *spectra->codes);
	spectra->sigma = muon_alloc((size_t)count + 1, sizeof *spectra->sigma);
	bool good =
	    numbers && spectra->spectra && spectra->codes && spectra->sigma &&
	    !mspec_columns_read(store->columns, numbers_name, numbers, (int64_t)cells, NULL) &&
	    !mspec_columns_read(store->columns, sigma_name, spectra->sigma, count, NULL) &&
	    take_spectra(spectra, listing, numbers, count);
	muon_free(numbers);
	if (!good)
		mspec_spectra_release(spectra);
	return good;
}

bool mspec_store_changes(mspec_store *store, const char *before, const char *key,
			 mspec_change *changes, size_t count)
{
	char name[OBJECT];
	if (!store->columns)
		return false;
	snprintf(name, sizeof name, "changes/%s/%s/numbers", before, key);
	size_t cells = count * CHANGE_NUMBERS;
	double *numbers = muon_alloc(cells + 1, sizeof *numbers);
	bool good = numbers && mspec_columns_count(store->columns, name) == (int64_t)cells &&
		    !mspec_columns_read(store->columns, name, numbers, (int64_t)cells, NULL);
	for (size_t i = 0; good && i < count; i++) {
		const double *x = numbers + i * CHANGE_NUMBERS;
		changes[i] = (mspec_change){.code = (int)x[C_CODE],
					    .known = x[C_KNOWN] != 0,
					    .estimated = x[C_ESTIMATED] != 0,
					    .sumsq = x[C_SUMSQ],
					    .spectral_norm = x[C_SPECTRAL_NORM],
					    .svd_entropy = x[C_SVD_ENTROPY],
					    .align_out = x[C_ALIGN_OUT],
					    .align_in = x[C_ALIGN_IN]};
	}
	muon_free(numbers);
	return good;
}

/* ---- adding ------------------------------------------------------------------------------- */

static pending *add_pending(mspec_store *store)
{
	pending *p = muon_alloc(1, sizeof *p);
	if (!p)
		return NULL;
	if (store->last)
		store->last->next = p;
	else
		store->first = p;
	return store->last = p;
}

int mspec_store_add_listing(mspec_store *store, const mspec_listing *listing,
			    const mspec_listing **kept)
{
	*kept = mspec_store_listing(store, listing->id);
	if (*kept)
		return MUON_OK;
	muon_arena *arena = &store->arena;
	mspec_listing *l = new_listing(arena, listing->id, listing->count);
	if (!l)
		return MUON_E_MEMORY;
	for (size_t i = 0; i < l->count; i++) {
		l->names[i] = muon_arena_string(arena, listing->names[i]);
		l->groups[i] = muon_arena_string(arena, listing->groups[i]);
		if (!l->names[i] || !l->groups[i])
			return MUON_E_MEMORY;
		l->rows[i] = listing->rows[i];
		l->cols[i] = listing->cols[i];
	}
	pending *p = store->path ? add_pending(store) : NULL;
	if ((store->path && !p) || !keep_listing(store, l))
		return MUON_E_MEMORY;
	if (p)
		p->listing = l;
	*kept = l;
	return MUON_OK;
}

static mspec_record *copy_record(muon_arena *arena, const mspec_record *record)
{
	mspec_record *r = muon_arena_alloc(arena, 1, sizeof *r);
	if (!r)
		return NULL;
	*r = *record;
	r->key = muon_arena_string(arena, record->key);
	r->listing = muon_arena_string(arena, record->listing ? record->listing : "");
	r->optimizer = record->optimizer ? muon_arena_string(arena, record->optimizer) : NULL;
	r->recorded = muon_arena_alloc(arena, record->recorded_count + 1, sizeof *r->recorded);
	if (!r->key || !r->listing || (record->optimizer && !r->optimizer) || !r->recorded)
		return NULL;
	for (size_t i = 0; i < record->recorded_count; i++) {
		const mspec_recorded *from = &record->recorded[i];
		mspec_recorded *to = &r->recorded[i];
		to->count = from->count;
		to->name = muon_arena_string(arena, from->name);
		to->values = muon_arena_alloc(arena, from->count + 1, sizeof *to->values);
		if (!to->name || !to->values)
			return NULL;
		for (size_t k = 0; k < from->count; k++)
			to->values[k] = from->values[k];
	}
	return r;
}

int mspec_store_add_record(mspec_store *store, const mspec_record *record,
			   const mspec_record **kept)
{
	mspec_record *r = copy_record(&store->arena, record);
	pending *p = r && store->path ? add_pending(store) : NULL;
	if (!r || (store->path && !p) || !keep_record(store, r))
		return MUON_E_MEMORY;
	if (p)
		p->record = r;
	*kept = r;
	return MUON_OK;
}

int mspec_store_add_forward(mspec_store *store, const mspec_record *record)
{
	const mspec_record *r = copy_record(&store->arena, record);
	pending *p = r && store->path ? add_pending(store) : NULL;
	if (!r || (store->path && !p))
		return MUON_E_MEMORY;
	if (p) {
		p->record = r;
		p->forward = true;
	}
	return MUON_OK;
}

/* Rows of numbers that belong to `object`; NULL when out of memory. */
static pending *add_numbers(mspec_store *store, const char *object, size_t rows, size_t columns)
{
	size_t length = strlen(object) + 1;
	char *copy = muon_alloc(length, 1);
	double *numbers = muon_alloc(rows * columns + 1, sizeof *numbers);
	pending *p = copy && numbers ? add_pending(store) : NULL;
	if (!p) {
		muon_free(copy);
		muon_free(numbers);
		return NULL;
	}
	memcpy(copy, object, length);
	p->object = copy;
	p->numbers = numbers;
	p->rows = rows;
	p->columns = columns;
	return p;
}

int mspec_store_add_spectra(mspec_store *store, const char *key, const mspec_spectra *spectra)
{
	char object[OBJECT];
	size_t values = 0, used = 0;
	if (!store->path)
		return MUON_OK;
	for (size_t i = 0; i < spectra->count; i++)
		values += spectra->spectra[i].sigma ? (size_t)spectra->spectra[i].count : 0;
	double *sigma = muon_alloc(values + 1, sizeof *sigma);
	snprintf(object, sizeof object, "checkpoints/%s", key);
	pending *p = sigma ? add_numbers(store, object, spectra->count, NUMBERS) : NULL;
	if (!p) {
		muon_free(sigma);
		return MUON_E_MEMORY;
	}
	for (size_t i = 0; i < spectra->count; i++) {
		const mspec_spectrum *s = &spectra->spectra[i];
		give_numbers(s, spectra->codes[i], p->numbers + i * NUMBERS);
		if (s->sigma)
			memcpy(sigma + used, s->sigma, (size_t)s->count * sizeof *sigma);
		used += s->sigma ? (size_t)s->count : 0;
	}
	p->sigma = sigma;
	p->sigma_count = values;
	return MUON_OK;
}

int mspec_store_add_changes(mspec_store *store, const char *before, const char *key,
			    const mspec_change *changes, size_t count)
{
	char object[OBJECT];
	if (!store->path)
		return MUON_OK;
	snprintf(object, sizeof object, "changes/%s/%s", before, key);
	pending *p = add_numbers(store, object, count, CHANGE_NUMBERS);
	if (!p)
		return MUON_E_MEMORY;
	for (size_t i = 0; i < count; i++) {
		const mspec_change *c = &changes[i];
		const double values[CHANGE_NUMBERS] = {
		    [C_CODE] = c->code,
		    [C_KNOWN] = c->known,
		    [C_ESTIMATED] = c->estimated,
		    [C_SUMSQ] = c->sumsq,
		    [C_SPECTRAL_NORM] = c->spectral_norm,
		    [C_SVD_ENTROPY] = c->svd_entropy,
		    [C_ALIGN_OUT] = c->align_out,
		    [C_ALIGN_IN] = c->align_in,
		};
		memcpy(p->numbers + i * CHANGE_NUMBERS, values, sizeof values);
	}
	return MUON_OK;
}

/* ---- writing ------------------------------------------------------------------------------ */

static int write_doubles(mspec_hdf5_writer *w, const char *object, const char *column,
			 const double *values, size_t rows, size_t columns, const char *names,
			 muon_error *err)
{
	char name[OBJECT + 32];
	const int64_t dims[] = {(int64_t)rows, (int64_t)columns};
	snprintf(name, sizeof name, "%s/%s", object, column);
	int code = mspec_hdf5_dataset(w, name, MUON_F64, columns ? 2 : 1, dims, err);
	if (!code)
		code = mspec_hdf5_append(w, values, dims[0] * (columns ? dims[1] : 1), err);
	if (!code && names)
		code = mspec_hdf5_attribute_text(w, name, "columns", names, err);
	return code;
}

static int write_texts(mspec_hdf5_writer *w, const char *object, const char *column,
		       const char *const *texts, size_t count, muon_error *err)
{
	char name[OBJECT + 32];
	snprintf(name, sizeof name, "%s/%s", object, column);
	return mspec_hdf5_strings(w, name, texts, count, err);
}

static int write_listing(mspec_hdf5_writer *w, const mspec_listing *l, muon_error *err)
{
	char object[OBJECT];
	snprintf(object, sizeof object, "listings/%s", l->id);
	int code = write_texts(w, object, "name", l->names, l->count, err);
	if (!code)
		code = write_texts(w, object, "group", l->groups, l->count, err);
	if (!code)
		code = write_doubles(w, object, "rows", l->rows, l->count, 0, NULL, err);
	return code ? code : write_doubles(w, object, "cols", l->cols, l->count, 0, NULL, err);
}

static int write_recorded(mspec_hdf5_writer *w, const char *object, const mspec_record *r,
			  muon_error *err)
{
	char column[32];
	const char **names = muon_alloc(r->recorded_count + 1, sizeof *names);
	if (!names)
		return muon_fail(err, MUON_E_MEMORY, object, "out of memory");
	for (size_t i = 0; i < r->recorded_count; i++)
		names[i] = r->recorded[i].name;
	int code = r->recorded_count
		       ? write_texts(w, object, "recorded_names", names, r->recorded_count, err)
		       : MUON_OK;
	muon_free(names);
	for (size_t i = 0; i < r->recorded_count && !code; i++) {
		snprintf(column, sizeof column, "recorded_%zu", i);
		code = write_doubles(w, object, column, r->recorded[i].values, r->recorded[i].count,
				     0, NULL, err);
	}
	return code;
}

static int write_record(mspec_hdf5_writer *w, const mspec_record *r, muon_error *err)
{
	char object[OBJECT];
	const double info[INFO_NUMBERS] = {
	    [I_STEP] = r->step,     [I_LR] = r->lr,     [I_WEIGHT_DECAY] = r->weight_decay,
	    [I_TOKENS] = r->tokens, [I_LOSS] = r->loss, [I_RECORDED] = (double)r->recorded_count,
	};
	snprintf(object, sizeof object, "checkpoints/%s", r->key);
	int code = write_doubles(w, object, "info", info, INFO_NUMBERS, 0, info_names, err);
	if (!code)
		code = mspec_hdf5_attribute_text(w, object, "listing", r->listing, err);
	if (!code && r->optimizer)
		code = mspec_hdf5_attribute_text(w, object, "optimizer", r->optimizer, err);
	return code ? code : write_recorded(w, object, r, err);
}

static int write_forward(mspec_hdf5_writer *w, const mspec_record *r, muon_error *err)
{
	char object[OBJECT];
	snprintf(object, sizeof object, "forward/%s", r->key);
	int code = mspec_hdf5_remove(w, object, err);
	return code ? code : write_recorded(w, object, r, err);
}

static int write_numbers(mspec_hdf5_writer *w, const pending *p, muon_error *err)
{
	const char *names = p->sigma ? number_names : change_names;
	int code = p->sigma ? write_doubles(w, p->object, "singular_values", p->sigma,
					    p->sigma_count, 0, NULL, err)
			    : MUON_OK;
	return code ? code
		    : write_doubles(w, p->object, "numbers", p->numbers, p->rows, p->columns, names,
				    err);
}

static void name_of(const pending *p, char name[OBJECT + 16])
{
	if (p->listing)
		snprintf(name, OBJECT, "listings/%s", p->listing->id);
	else if (p->forward)
		snprintf(name, OBJECT, "forward/%s", p->record->key);
	else if (p->record)
		snprintf(name, OBJECT, "checkpoints/%s/info", p->record->key);
	else
		snprintf(name, OBJECT + 16, "%s/numbers", p->object);
}

static bool is_repeated(const mspec_store *store, const pending *p)
{
	char name[OBJECT + 16], other[OBJECT + 16];
	name_of(p, name);
	for (const pending *q = store->first; q != p; q = q->next) {
		name_of(q, other);
		if (!strcmp(name, other))
			return true;
	}
	return false;
}

/* What of the pending things is in the file already, by another process or in the same call. */
static int mark_present(mspec_store *store, const char *path, muon_error *err)
{
	mspec_columns *columns = NULL;
	int code = path ? mspec_columns_open(&columns, path, err) : MUON_OK;
	for (pending *p = store->first; p && !code; p = p->next) {
		char name[OBJECT + 16];
		name_of(p, name);
		p->present = !p->forward && ((columns && mspec_columns_has(columns, name)) ||
					     is_repeated(store, p));
	}
	mspec_columns_close(&columns);
	return code;
}

static int write_pending(mspec_store *store, const char *path, bool add, muon_error *err)
{
	mspec_hdf5_writer *w = NULL;
	int code = add ? mspec_hdf5_reopen(&w, path, err)
		       : mspec_hdf5_create_after(&w, path, SEAL, err);
	if (!code && !add)
		code = mspec_hdf5_attribute_text(w, NULL, "schema", "muonspec/store/1", err);
	if (!code && !add)
		code = mspec_hdf5_attribute_text(w, NULL, "tool_version", muon_version(), err);
	for (const pending *p = store->first; p && !code; p = p->next) {
		if (p->present)
			continue;
		code = p->listing  ? write_listing(w, p->listing, err)
		       : p->forward ? write_forward(w, p->record, err)
		       : p->record ? write_record(w, p->record, err)
				   : write_numbers(w, p, err);
	}
	if (!code)
		code = mspec_hdf5_finish(&w, err);
	mspec_hdf5_abandon(&w);
	return code ? code : put_seal(path, err);
}

static int copy_file(const char *from, const char *to, muon_error *err)
{
	enum { PIECE = 1 << 20 };
	char *piece = muon_alloc(PIECE, 1);
	if (!piece)
		return muon_fail(err, MUON_E_MEMORY, to, "out of memory");
	int in = open(from, O_RDONLY | O_CLOEXEC);
	int out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0666);
	bool good = in >= 0 && out >= 0;
	ssize_t got = 0;
	while (good && (got = read(in, piece, PIECE)) != 0)
		good = (got < 0 && errno == EINTR) ||
		       (got > 0 && write(out, piece, (size_t)got) == got);
	int reason = errno;
	if (in >= 0)
		close(in);
	if (out >= 0 && close(out) && good) {
		reason = errno;
		good = false;
	}
	muon_free(piece);
	return good ? MUON_OK : muon_fail(err, MUON_E_WRITE, to, "%s", strerror(reason));
}

/* A new file at `temporary`: what is at the store's path now, if that is sound, and what is
 * pending. */
static int make_file(mspec_store *store, const char *temporary, muon_error *err)
{
	struct stat now;
	bool there = !stat(store->path, &now);
	bool sound = there && ((store->columns && is_same_state(&now, &store->found)) ||
			       is_sealed(store->path));
	if (there && !sound && !is_replaceable(store->path))
		return muon_fail(err, MUON_E_WRITE, store->path, "is no store of muonspec any more");
	int code = copy_file(sound ? store->path : "/dev/null", temporary, err);
	if (!code)
		code = mark_present(store, sound ? temporary : NULL, err);
	return code ? code : write_pending(store, temporary, sound, err);
}

/* The folder of the store, held so that one process at a time replaces it; -1 where the file system
 * can't: replacing is atomic all the same, only results of the other may be lost. */
static int lock_folder(const char *path)
{
	char folder[PATH_MAX] = ".";
	const char *slash = strrchr(path, '/');
	if (slash && (size_t)(slash + 1 - path) < sizeof folder) {
		memcpy(folder, path, (size_t)(slash + 1 - path));
		folder[slash + 1 - path] = 0;
	}
	int fd = open(folder, O_RDONLY | O_CLOEXEC);
	int failed = -1;
	while (fd >= 0 && (failed = flock(fd, LOCK_EX)) && errno == EINTR)
		;
	if (fd >= 0 && failed) {
		close(fd);
		fd = -1;
	}
	return fd;
}

/* Under the lock the temporary name is always the same, so that what a killed process has left is
 * overwritten. */
static int replace_file(mspec_store *store, muon_error *err)
{
	int lock = lock_folder(store->path);
	char *temporary = muon_output_temporary(store->path, lock < 0 ? (long)getpid() : 0);
	int code = temporary ? make_file(store, temporary, err)
			     : muon_fail(err, MUON_E_MEMORY, store->path, "out of memory");
	if (!code)
		code = muon_output_commit(temporary, store->path, err);
	else if (temporary)
		unlink(temporary);
	muon_free(temporary);
	if (!code)
		attach(store);
	if (lock >= 0)
		close(lock);
	return code;
}

/* Writing may take this share of the time at the most, and need not be done more often than every
 * second. */
static bool is_due(const mspec_store *store)
{
	const double share = 0.02, least = 1;
	double passed = muon_seconds() - store->committed;
	return passed > least && store->took < share * passed;
}

void mspec_store_commit(mspec_store *store, bool now)
{
	if (!store->path || !store->first || (!now && !is_due(store)))
		return;
	muon_error err = {0};
	double started = muon_seconds();
	int code = replace_file(store, &err);
	if (code) {
		set_problem(store, "cannot be written: %s; results are not kept",
			    err.code ? err.message : muon_error_text(code));
		store->path = NULL;
	}
	drop_pending(store);
	store->committed = muon_seconds();
	store->took = store->committed - started;
}
