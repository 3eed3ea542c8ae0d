/* NumPy's .npz (a zip archive of .npy arrays) and single .npy files. Data that can be read where it
 * is (plain .npy, uncompressed entries) is; compressed entries and arrays in column-major order are
 * unpacked once into a temporary file. */
#include "base/text.h"
#include "checkpoint/names.h"
#include "checkpoint/npy_header.h"
#include "checkpoint/reader.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include <zip.h>

/* deflate can't do better than 1032:1, so an entry that claims more lies about its size */
#define MAX_RATIO 1032
#define RATIO_SLACK 4096
#define CHUNK 262144
#define TILE 4194304 /* bytes of an array that change their order at a time */
/* Unpacked arrays are all forgotten when there is more of them than this, so that arrays that are
 * read by turns are not unpacked again and again. */
#define SPOOL_LIMIT ((int64_t)2 << 30)

typedef struct npz_file {
	const mspec_checkpoint *checkpoint; /* whose state this is */
	zip_t *zip;          /* NULL for a single .npy */
	int fd;              /* of a single .npy, or -1 */
	zip_file_t *entry;   /* the entry opened last, or NULL */
	zip_uint64_t opened; /* which one that is */
	int spool;           /* temporary file, or -1 before it is needed */
	int64_t spooled;     /* bytes in it */
	uint64_t round;      /* how often it was emptied, plus 1 */
} npz_file;

/* mspec_entry.source */
typedef struct array {
	zip_uint64_t index; /* in the archive */
	int64_t data;       /* where the data starts in the entry or file */
	bool in_place;      /* not compressed */
	bool verified;      /* checksum of the entry was found right */
	bool swapped, fortran_order;
	uint64_t round;   /* of the spool in which its data is; 0 if in none */
	int64_t position; /* in the spool */
} array;

static bool sniff(int fd, const char *path)
{
	(void)path;
	char start[6] = {0};
	return pread(fd, start, sizeof start, 0) == sizeof start &&
	       (!memcmp(start, "PK\3\4", 4) || !memcmp(start, "PK\5\6", 4) ||
	        !memcmp(start, "\x93NUMPY", 6));
}

/* ---- reading entries -------------------------------------------------------------------- */

static void close_entry(npz_file *f)
{
	if (f->entry)
		zip_fclose(f->entry);
	f->entry = NULL;
}

/* Open an entry at its start. */
static int open_entry(npz_file *f, zip_uint64_t index, const char *where, muon_error *err)
{
	close_entry(f);
	f->entry = zip_fopen_index(f->zip, index, 0);
	f->opened = index;
	return f->entry ? MUON_OK : muon_fail(err, MUON_E_READ, where, "%s", zip_strerror(f->zip));
}

/* The next bytes of the opened entry. */
static int read_entry(npz_file *f, void *buffer, size_t bytes, const char *where, muon_error *err)
{
	char *to = buffer;
	while (bytes) {
		zip_int64_t got = zip_fread(f->entry, to, bytes < CHUNK ? bytes : CHUNK);
		if (got < 0)
			return muon_fail(err, MUON_E_READ, where, "%s",
			                 zip_file_strerror(f->entry));
		if (!got)
			return muon_fail(err, MUON_E_READ, where,
			                 "archive entry ends inside the data");
		to += got;
		bytes -= (size_t)got;
	}
	return MUON_OK;
}

/* Data of an array that is in the file as it is. */
static int read_in_place(npz_file *f, const array *a, void *buffer, size_t bytes, int64_t offset,
                         const char *where, muon_error *err)
{
	if (!f->zip)
		return mspec_read_at(f->fd, buffer, bytes, a->data + offset, where, err);
	int code = MUON_OK;
	if (!f->entry || f->opened != a->index)
		code = open_entry(f, a->index, where, err);
	if (!code && zip_fseek(f->entry, a->data + offset, SEEK_SET))
		code = muon_fail(err, MUON_E_READ, where, "%s", zip_file_strerror(f->entry));
	return code ? code : read_entry(f, buffer, bytes, where, err);
}

/* ---- spool ------------------------------------------------------------------------------ */

static int create_spool(npz_file *f, const char *where, muon_error *err)
{
	const char *folder = getenv("TMPDIR");
	char name[4096];
	int length =
	    snprintf(name, sizeof name, "%s/muonspec-XXXXXX", folder && *folder ? folder : "/tmp");
	f->spool = length < (int)sizeof name ? mkstemp(name) : -1;
	if (f->spool < 0)
		return muon_fail(err, MUON_E_READ, where,
		                 "no temporary file to unpack into (set TMPDIR): %s",
		                 strerror(errno));
	unlink(name);
	fcntl(f->spool, F_SETFD, FD_CLOEXEC);
	return MUON_OK;
}

static int check_room(const npz_file *f, int64_t bytes, const char *where, muon_error *err)
{
	struct statvfs disk;
	if (fstatvfs(f->spool, &disk)) /* then writing will tell */
		return MUON_OK;
	double free_bytes = (double)disk.f_bavail * (double)disk.f_frsize;
	if ((double)bytes <= free_bytes)
		return MUON_OK;
	return muon_fail(err, MUON_E_TOO_LARGE, where,
	                 "unpacking takes %lld bytes, there is room for %.0f (set TMPDIR)",
	                 (long long)bytes, free_bytes);
}

/* Room at the end of the spool, which is emptied if it would grow too long. */
static int reserve(npz_file *f, int64_t bytes, int64_t *position, const char *where,
                   muon_error *err)
{
	int code = f->spool < 0 ? create_spool(f, where, err) : MUON_OK;
	if (!code && f->spooled && bytes > SPOOL_LIMIT - f->spooled) {
		f->spooled = 0;
		f->round++;
		if (ftruncate(f->spool, 0))
			code = muon_fail(err, MUON_E_READ, where, "%s", strerror(errno));
	}
	if (!code)
		code = check_room(f, bytes, where, err);
	*position = f->spooled;
	if (!code)
		f->spooled += bytes;
	return code;
}

/* Give back what is in the spool from `position` on. */
static int release(npz_file *f, int64_t position, const char *where, muon_error *err)
{
	f->spooled = position;
	return ftruncate(f->spool, (off_t)position)
	           ? muon_fail(err, MUON_E_READ, where, "%s", strerror(errno))
	           : MUON_OK;
}

static int write_spool(npz_file *f, const void *bytes, size_t count, int64_t position,
                       const char *where, muon_error *err)
{
	const char *from = bytes;
	while (count) {
		ssize_t put = pwrite(f->spool, from, count, (off_t)position);
		if (put < 0 && errno == EINTR)
			continue;
		bool full = put < 0 && (errno == ENOSPC || errno == EFBIG || errno == EDQUOT);
		if (put <= 0)
			return muon_fail(err, full ? MUON_E_TOO_LARGE : MUON_E_READ, where,
			                 "unpacking into a temporary file failed (set TMPDIR): %s",
			                 strerror(errno));
		from += put;
		position += put;
		count -= (size_t)put;
	}
	return MUON_OK;
}

/* Read an entry from start to end, so that its checksum is compared, and keep its data in the spool
 * at `position` unless that is negative. */
static int stream_entry(npz_file *f, array *a, int64_t bytes, int64_t position, const char *where,
                        muon_error *err)
{
	char *buffer = muon_alloc(CHUNK, 1);
	if (!buffer)
		return mspec_out_of_memory(where, err);
	int code = open_entry(f, a->index, where, err);
	for (int64_t left = a->data; left && !code;) {
		size_t part = left < CHUNK ? (size_t)left : CHUNK;
		code = read_entry(f, buffer, part, where, err);
		left -= (int64_t)part;
	}
	for (int64_t done = 0; done < bytes && !code;) {
		size_t part = bytes - done < CHUNK ? (size_t)(bytes - done) : CHUNK;
		code = read_entry(f, buffer, part, where, err);
		if (!code && position >= 0)
			code = write_spool(f, buffer, part, position + done, where, err);
		done += (int64_t)part;
		mspec_watch_again(f->checkpoint, where);
	}
	if (!code) { /* the checksum is compared when the end is met */
		zip_int64_t got = zip_fread(f->entry, buffer, 1);
		if (got < 0)
			code =
			    muon_fail(err, MUON_E_READ, where, "%s", zip_file_strerror(f->entry));
		else if (got)
			code = muon_fail(err, MUON_E_READ, where,
			                 "archive entry is longer than it says");
	}
	muon_free(buffer);
	close_entry(f);
	a->verified = !code;
	return code;
}

/* ---- column-major order ------------------------------------------------------------------ */

/* An array on its way from column-major to row-major order. Its dimensions are split in two: `a`,
 * the first, which are next to each other in the source, and `b`, the others, which are so in the
 * result. In each both orders number the elements in their own way. */
typedef struct reordering {
	npz_file *f;
	const char *name;
	size_t size; /* of an element */
	const int64_t *dims;
	int rank, split;
	int64_t a, b; /* elements: products of the dimensions of each part */
	int from_fd;
	int64_t from, to; /* byte positions of source and result */
	char *columns, *rows; /* a tile in the order of the source, and of the result */
} reordering;

/* What is element `index` when the first dimension is counted fastest, counted with the last one
 * fastest; for `backwards` the other way round. */
static int64_t renumber(const int64_t *dims, int count, bool backwards, int64_t index)
{
	int64_t result = 0;
	for (int i = 0; i < count; i++) {
		int64_t size = dims[backwards ? count - 1 - i : i];
		result = result * size + index % size;
		index /= size;
	}
	return result;
}

static int64_t column_of(const reordering *r, int64_t b)
{
	return renumber(r->dims + r->split, r->rank - r->split, true, b);
}

static int64_t row_of(const reordering *r, int64_t a)
{
	return renumber(r->dims, r->split, false, a);
}

/* A piece of the array: `as` elements of part a, from number `a` on in the source's order, for each
 * of `bs` of part b, from number `b` on in the result's order. */
typedef struct tile {
	int64_t a, as, b, bs;
} tile;

/* Runs that follow each other in the file are moved by one call: narrow arrays have many. */
static int read_columns(const reordering *r, const tile *t, muon_error *err)
{
	int code = MUON_OK;
	for (int64_t i = 0, n; i < t->bs && !code; i += n) {
		int64_t first = column_of(r, t->b + i);
		n = 1;
		while (t->as == r->a && i + n < t->bs && column_of(r, t->b + i + n) == first + n)
			n++;
		code = mspec_read_at(r->from_fd, r->columns + (size_t)(i * t->as) * r->size,
		                     (size_t)(n * t->as) * r->size,
		                     r->from + (first * r->a + t->a) * (int64_t)r->size, r->name,
		                     err);
	}
	return code;
}

static int write_rows(const reordering *r, const tile *t, muon_error *err)
{
	int code = MUON_OK;
	for (int64_t i = 0, n; i < t->as && !code; i += n) {
		int64_t first = row_of(r, t->a + i);
		n = 1;
		while (t->bs == r->b && i + n < t->as && row_of(r, t->a + i + n) == first + n)
			n++;
		code = write_spool(r->f, r->rows + (size_t)(i * t->bs) * r->size,
		                   (size_t)(n * t->bs) * r->size,
		                   r->to + (first * r->b + t->b) * (int64_t)r->size, r->name, err);
	}
	return code;
}

static int move_tile(const reordering *r, const tile *t, muon_error *err)
{
	int code = read_columns(r, t, err);
	if (code)
		return code;
	for (int64_t j = 0; j < t->as; j++)
		for (int64_t i = 0; i < t->bs; i++)
			memcpy(r->rows + (size_t)(j * t->bs + i) * r->size,
			       r->columns + (size_t)(i * t->as + j) * r->size, r->size);
	code = write_rows(r, t, err);
	mspec_watch_again(r->f->checkpoint, r->name);
	return code;
}

static int64_t smaller(int64_t x, int64_t y)
{
	return x < y ? x : y;
}

/* Split the dimensions so that neither part is narrower than it must be. */
static void split_dimensions(reordering *r, int64_t elements)
{
	int64_t a = 1, best = 0;
	for (int i = 1; i < r->rank; i++) {
		a *= r->dims[i - 1];
		if (smaller(a, elements / a) <= best)
			continue;
		best = smaller(a, elements / a);
		r->split = i;
		r->a = a;
		r->b = elements / a;
	}
}

static int move_tiles(const reordering *r, muon_error *err)
{
	int64_t most = TILE / (int64_t)r->size, side = 1;
	while (4 * side * side <= most)
		side *= 2;
	int64_t as = smaller(r->a, side), bs = smaller(r->b, most / as);
	as = smaller(r->a, most / bs);
	int code = MUON_OK;
	for (int64_t a = 0; a < r->a && !code; a += as)
		for (int64_t b = 0; b < r->b && !code; b += bs) {
			tile t = {a, smaller(as, r->a - a), b, smaller(bs, r->b - b)};
			code = move_tile(r, &t, err);
		}
	return code;
}

/* Write the array whose elements are at `from` of the file, in column-major order, to the spool at
 * `to`, in row-major order. */
static int reorder(npz_file *f, const mspec_tensor *t, int from_fd, int64_t from, int64_t to,
                   muon_error *err)
{
	reordering r = {.f = f, .name = t->name, .size = muon_dtype_size(t->dtype)};
	r.dims = t->dims;
	r.rank = t->rank;
	r.from_fd = from_fd;
	r.from = from;
	r.to = to;
	split_dimensions(&r, t->elements);
	r.columns = muon_alloc_aligned(TILE, 1);
	r.rows = muon_alloc_aligned(TILE, 1);
	int code = r.columns && r.rows ? move_tiles(&r, err) : mspec_out_of_memory(t->name, err);
	muon_free_aligned(r.columns);
	muon_free_aligned(r.rows);
	return code;
}

/* ---- arrays ----------------------------------------------------------------------------- */

/* Have the array's data in the spool at `position`, in row-major order; what follows there is free
 * for use as long as the array. */
static int unpack(npz_file *f, array *a, const mspec_tensor *t, int64_t bytes, int64_t position,
                  muon_error *err)
{
	if (!a->fortran_order)
		return stream_entry(f, a, bytes, position, t->name, err);
	if (!f->zip)
		return reorder(f, t, f->fd, a->data, position, err);
	int code = stream_entry(f, a, bytes, position + bytes, t->name, err);
	return code ? code : reorder(f, t, f->spool, position + bytes, position, err);
}

/* Before an array's data is read: verify it, or have it in the spool in row-major order. */
static int prepare(npz_file *f, array *a, const mspec_tensor *t, muon_error *err)
{
	int64_t bytes = t->elements * (int64_t)muon_dtype_size(t->dtype), position, room = bytes;
	if (a->in_place && !a->fortran_order)
		return !f->zip || a->verified ? MUON_OK
		                              : stream_entry(f, a, bytes, -1, t->name, err);
	if (a->round == f->round)
		return MUON_OK;
	bool twice = a->fortran_order && f->zip; /* in both orders */
	if (twice && __builtin_mul_overflow(bytes, 2, &room))
		return muon_fail(err, MUON_E_TOO_LARGE, t->name, "impossible size");
	int code = reserve(f, room, &position, t->name, err);
	if (code)
		return code;
	code = unpack(f, a, t, bytes, position, err);
	int released = twice || code
	                   ? release(f, code ? position : position + bytes, t->name, err)
	                   : MUON_OK;
	if (code || released)
		return code ? code : released;
	a->round = f->round;
	a->position = position;
	return MUON_OK;
}

/* ---- listing ---------------------------------------------------------------------------- */

/* An entry that is listed although there is no array to read. */
static int add_unreadable(mspec_checkpoint *checkpoint, const char *name, const char *type_name,
                          int code, const char *problem, muon_error *err)
{
	mspec_entry *added = mspec_add_shapeless(checkpoint, name, type_name);
	if (!added)
		return mspec_out_of_memory(name, err);
	if (problem)
		mspec_set_problem(checkpoint, added, code, problem);
	return MUON_OK;
}

/* Add the array whose header was parsed; `available` bytes of data follow the header. */
static int add_array(mspec_checkpoint *checkpoint, const char *name, const mspec_npy_header *header,
                     const array *place, int64_t available, muon_error *err)
{
	int rank = header->rank <= MSPEC_MAX_RANK ? header->rank : MSPEC_MAX_RANK + 1;
	mspec_entry *added = mspec_add_tensor(checkpoint, name, header->dtype, header->type_name,
	                                      rank, header->dims);
	array *a = muon_arena_alloc(&checkpoint->arena, 1, sizeof *a);
	if (!added || !a)
		return mspec_out_of_memory(name, err);
	*a = *place;
	a->swapped = header->big_endian == (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__);
	a->fortran_order = header->fortran_order && rank > 1;
	added->source = a;
	const mspec_tensor *t = &added->tensor;
	if ((t->status && !t->elements) || t->dtype == MUON_DTYPE_NONE)
		return MUON_OK;
	const npz_file *f = checkpoint->file;
	int64_t bytes = t->elements * (int64_t)muon_dtype_size(t->dtype);
	char problem[128];
	if (bytes > available) {
		snprintf(problem, sizeof problem, "is cut off: %lld bytes of data, %lld are needed",
		         (long long)available, (long long)bytes);
		mspec_set_problem(checkpoint, added, MUON_E_READ, problem);
	} else if (bytes < available && f->zip) {
		snprintf(problem, sizeof problem, "%lld bytes of data, but only %lld are declared",
		         (long long)available, (long long)bytes);
		mspec_set_problem(checkpoint, added, MUON_E_FORMAT, problem);
	}
	return MUON_OK;
}

/* Bytes at the start of a single .npy file, or the next bytes of the opened entry. */
static int read_start(npz_file *f, void *buffer, size_t bytes, size_t offset, const char *where,
                      muon_error *err)
{
	return f->zip ? read_entry(f, buffer, bytes, where, err)
	              : mspec_read_at(f->fd, buffer, bytes, (int64_t)offset, where, err);
}

/* Read and parse the header of an array that takes `size` bytes in all; *data gets its length. */
static int load_header(npz_file *f, int64_t size, mspec_npy_header *header, int64_t *data,
                       const char *where, muon_error *err)
{
	const char *problem = NULL;
	unsigned char prefix[MSPEC_NPY_PREFIX];
	if (size < MSPEC_NPY_PREFIX)
		return muon_fail(err, MUON_E_FORMAT, where, "is cut off inside the .npy header");
	int code = read_start(f, prefix, sizeof prefix, 0, where, err);
	if (code)
		return code;
	size_t length = mspec_npy_header_size(prefix, &problem);
	if (!length)
		return muon_fail(err, MUON_E_FORMAT, where, "%s", problem);
	if (length < sizeof prefix || (int64_t)length > size)
		return muon_fail(err, MUON_E_FORMAT, where, "is cut off inside the .npy header");
	unsigned char *bytes = muon_alloc(length, 1);
	if (!bytes)
		return mspec_out_of_memory(where, err);
	memcpy(bytes, prefix, sizeof prefix);
	code =
	    read_start(f, bytes + sizeof prefix, length - sizeof prefix, sizeof prefix, where, err);
	if (!code && !mspec_npy_header_parse(bytes, length, header, &problem))
		code = muon_fail(err, MUON_E_FORMAT, where, "%s", problem);
	muon_free(bytes);
	*data = (int64_t)length;
	return code;
}

/* ---- archives --------------------------------------------------------------------------- */

static const char *entry_problem(const zip_stat_t *st)
{
	const zip_uint64_t need = ZIP_STAT_SIZE | ZIP_STAT_COMP_SIZE | ZIP_STAT_COMP_METHOD;
	if ((st->valid & need) != need || st->size > INT64_MAX)
		return "archive entry has no valid size";
	if (st->valid & ZIP_STAT_ENCRYPTION_METHOD && st->encryption_method != ZIP_EM_NONE)
		return "is encrypted";
	if (st->comp_method != ZIP_CM_STORE && st->comp_method != ZIP_CM_DEFLATE)
		return "is compressed by a method that NumPy does not use";
	bool stored = st->comp_method == ZIP_CM_STORE;
	if (stored ? st->size != st->comp_size
	           : st->size / MAX_RATIO > st->comp_size + RATIO_SLACK / MAX_RATIO)
		return "claims more data than its compressed bytes can hold";
	return NULL;
}

static int add_entry(mspec_checkpoint *checkpoint, const zip_stat_t *st, const char *name,
                     muon_error *err)
{
	npz_file *f = checkpoint->file;
	const char *problem = entry_problem(st);
	if (problem)
		return add_unreadable(checkpoint, name, "unknown", MUON_E_READ, problem, err);
	array place = {.index = st->index, .in_place = st->comp_method == ZIP_CM_STORE};
	mspec_npy_header header;
	muon_error reason = {0};
	int code = open_entry(f, st->index, name, &reason);
	if (!code)
		code = load_header(f, (int64_t)st->size, &header, &place.data, name, &reason);
	close_entry(f);
	if (code == MUON_E_MEMORY)
		return mspec_out_of_memory(name, err);
	if (code)
		return add_unreadable(checkpoint, name, "unknown", code, reason.message, err);
	return add_array(checkpoint, name, &header, &place, (int64_t)st->size - place.data, err);
}

/* Archives that hold something else are told by the names in them. */
static int check_contents(zip_t *zip, const char *path, muon_error *err)
{
	zip_int64_t count = zip_get_num_entries(zip, 0);
	bool any = false;
	for (zip_int64_t i = 0; i < count; i++) {
		const char *name = zip_get_name(zip, (zip_uint64_t)i, 0);
		if (!name)
			return muon_fail(err, MUON_E_FORMAT, path, "archive entry without a name");
		if (!strcmp(name, "data.pkl") || mspec_ends_with(name, "/data.pkl"))
			return muon_fail(err, MUON_E_FORMAT, path,
			                 "is a PyTorch pickle archive; save the state dict with "
			                 "safetensors or h5py");
		if (!strcmp(name, "model.weights.h5"))
			return muon_fail(err, MUON_E_FORMAT, path,
			                 "is a .keras archive; unzip it and pass model.weights.h5");
		any |= mspec_ends_with(name, ".npy");
	}
	return any ? MUON_OK
	           : muon_fail(err, MUON_E_FORMAT, path, "is a zip archive without .npy arrays");
}

static int refuse_twice(const mspec_checkpoint *checkpoint, const char *name, muon_error *err)
{
	char escaped[128];
	muon_escape(escaped, sizeof escaped, name);
	return muon_fail(err, MUON_E_FORMAT, checkpoint->info.path,
	                 "archive holds %s more than once", escaped);
}

/* The entry `st` of the archive, under its name without ".npy". */
static int list_entry(mspec_checkpoint *checkpoint, const zip_stat_t *st, muon_error *err)
{
	npz_file *f = checkpoint->file;
	zip_int64_t same = zip_name_locate(f->zip, st->name, 0);
	if (same >= 0 && (zip_uint64_t)same != st->index)
		return refuse_twice(checkpoint, st->name, err);
	if (mspec_ends_with(st->name, "/"))
		return MUON_OK; /* a folder */
	if (!mspec_ends_with(st->name, ".npy"))
		return add_unreadable(checkpoint, st->name, "not an array", MUON_OK, NULL, err);
	char *name = muon_arena_string(&checkpoint->arena, st->name);
	if (!name)
		return mspec_out_of_memory(st->name, err);
	name[strlen(name) - strlen(".npy")] = 0;
	if (zip_name_locate(f->zip, name, 0) >= 0)
		return refuse_twice(checkpoint, name, err);
	return add_entry(checkpoint, st, name, err);
}

static int open_archive(mspec_checkpoint *checkpoint, int64_t file_size, muon_error *err)
{
	const char *path = checkpoint->info.path;
	npz_file *f = checkpoint->file;
	int reason = 0;
	f->zip = zip_open(path, ZIP_RDONLY, &reason);
	if (!f->zip) {
		zip_error_t error;
		zip_error_init_with_code(&error, reason);
		muon_fail(err, MUON_E_FORMAT, path, "zip archive is damaged or cut off: %s",
		          zip_error_strerror(&error));
		zip_error_fini(&error);
		return MUON_E_FORMAT;
	}
	int code = check_contents(f->zip, path, err);
	zip_int64_t count = zip_get_num_entries(f->zip, 0);
	uint64_t compressed = 0;
	for (zip_int64_t i = 0; i < count && !code; i++) {
		zip_stat_t st;
		if (zip_stat_index(f->zip, (zip_uint64_t)i, 0, &st) || !(st.valid & ZIP_STAT_NAME))
			return muon_fail(err, MUON_E_FORMAT, path, "%s", zip_strerror(f->zip));
		uint64_t here = st.valid & ZIP_STAT_COMP_SIZE ? st.comp_size : 0;
		if (here > (uint64_t)file_size - compressed)
			return muon_fail(err, MUON_E_FORMAT, path,
			                 "entries of the archive overlap or reach beyond its end");
		compressed += here;
		code = list_entry(checkpoint, &st, err);
	}
	return code;
}

/* ---- single arrays ---------------------------------------------------------------------- */

static int open_single(mspec_checkpoint *checkpoint, int64_t file_size, muon_error *err)
{
	const char *path = checkpoint->info.path;
	npz_file *f = checkpoint->file;
	checkpoint->info.format = "npy";
	array place = {.in_place = true};
	mspec_npy_header header;
	int code = load_header(f, file_size, &header, &place.data, path, err);
	if (code)
		return code;
	const char *slash = strrchr(path, '/');
	char *name = muon_arena_string(&checkpoint->arena, slash ? slash + 1 : path);
	if (!name)
		return mspec_out_of_memory(path, err);
	if (mspec_ends_with(name, ".npy") && strlen(name) > strlen(".npy"))
		name[strlen(name) - strlen(".npy")] = 0;
	return add_array(checkpoint, name, &header, &place, file_size - place.data, err);
}

/* ---- reader ----------------------------------------------------------------------------- */

/* Names with dots, or as PyTorch calls its parameters: then weights are [out, in]. */
static const char *guess_layout(const mspec_checkpoint *checkpoint)
{
	for (size_t i = 0; i < checkpoint->count; i++) {
		const char *name = checkpoint->entries[i].tensor.name;
		if (checkpoint->entries[i].source &&
		    (strchr(name, '.') || mspec_ends_with(name, "weight") ||
		     mspec_ends_with(name, "bias")))
			return "pytorch";
	}
	return "custom";
}

static int open_checkpoint(mspec_checkpoint *checkpoint, muon_error *err)
{
	const char *path = checkpoint->info.path;
	npz_file *f = muon_arena_alloc(&checkpoint->arena, 1, sizeof *f);
	if (!f)
		return mspec_out_of_memory(path, err);
	checkpoint->file = f;
	f->checkpoint = checkpoint;
	f->spool = -1;
	f->round = 1;
	f->fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	char magic[2] = {0};
	if (f->fd < 0 || fstat(f->fd, &st))
		return muon_fail(err, MUON_E_OPEN, path, "%s", strerror(errno));
	int code = mspec_read_at(f->fd, magic, sizeof magic, 0, path, err);
	if (!code)
		code = memcmp(magic, "PK", 2) ? open_single(checkpoint, st.st_size, err)
		                              : open_archive(checkpoint, st.st_size, err);
	checkpoint->info.layout = guess_layout(checkpoint);
	mspec_set_roles(checkpoint);
	return code;
}

static int read_elements(mspec_checkpoint *checkpoint, size_t index, int64_t first, int64_t count,
                         void *buffer, muon_error *err)
{
	npz_file *f = checkpoint->file;
	const mspec_tensor *t = &checkpoint->entries[index].tensor;
	array *a = checkpoint->entries[index].source;
	size_t size = muon_dtype_size(t->dtype), bytes = (size_t)count * size;
	int64_t offset = first * (int64_t)size;
	int code = prepare(f, a, t, err);
	if (code)
		return code;
	if (a->in_place && !a->fortran_order)
		code = read_in_place(f, a, buffer, bytes, offset, t->name, err);
	else
		code = mspec_read_at(f->spool, buffer, bytes, a->position + offset, t->name, err);
	if (!code && a->swapped && size > 1)
		mspec_swap_bytes(buffer, (size_t)count, size);
	return code;
}

static void close_checkpoint(mspec_checkpoint *checkpoint)
{
	npz_file *f = checkpoint->file;
	if (!f)
		return;
	close_entry(f);
	if (f->zip)
		zip_discard(f->zip);
	if (f->fd >= 0)
		close(f->fd);
	if (f->spool >= 0)
		close(f->spool);
}

const mspec_reader mspec_reader_npz = {
    .format = "npz",
    .sniff = sniff,
    .open = open_checkpoint,
    .read = read_elements,
    .close = close_checkpoint,
};
