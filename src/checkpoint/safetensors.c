/* safetensors: 8 bytes of little-endian header length, a JSON header, then the data. One file, or
 * shards named by a *.index.json. Every number in the header is checked before it is used. */
#include "checkpoint/safetensors.h"

#include "base/text.h"
#include "checkpoint/layout.h"
#include "checkpoint/names.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_OPEN_SHARDS 16
#define LONGEST_HEADER 100000000       /* bytes; the reference implementation's limit */
#define LONGEST_CONFIG 65536           /* bytes; real ones have a few thousand */
#define MAX_PARSED ((size_t)512 << 20) /* bytes that a header may take once it is parsed */

const char *const mspec_safetensors_types[MUON_DTYPE_COUNT] = {
    [MUON_F64] = "F64",   [MUON_F32] = "F32",         [MUON_F16] = "F16",
    [MUON_BF16] = "BF16", [MUON_F8_E4M3] = "F8_E4M3", [MUON_F8_E5M2] = "F8_E5M2",
    [MUON_I64] = "I64",   [MUON_I32] = "I32",         [MUON_I16] = "I16",
    [MUON_I8] = "I8",     [MUON_U64] = "U64",         [MUON_U32] = "U32",
    [MUON_U16] = "U16",   [MUON_U8] = "U8",           [MUON_BOOL] = "BOOL",
};

typedef struct shard {
	const char *name, *path;
	int fd;       /* -1 while closed */
	int64_t size; /* of the file; -1 before it was opened first */
	int64_t data; /* where the data starts */
	uint64_t last_used;
	const char *problem; /* why nothing in it can be read, escaped */
} shard;

typedef struct shard_set {
	shard *shards;
	size_t count, open;
	uint64_t clock;
} shard_set;

/* mspec_entry.source */
typedef struct place {
	shard *shard;
	int64_t position; /* in its file */
} place;

/* ---- recognising ------------------------------------------------------------------------ */

#define NAME_CAPACITY 256

/* The checkpoint in a folder: its index, or the only file if there is no index. */
static bool find_in_folder(const char *folder, char name[NAME_CAPACITY])
{
	DIR *dir = opendir(folder);
	if (!dir)
		return false;
	size_t indexes = 0, files = 0;
	bool preferred = false;
	for (struct dirent *item; !preferred && (item = readdir(dir));) {
		if (*item->d_name == '.')
			continue;
		bool is_index = mspec_ends_with(item->d_name, ".safetensors.index.json");
		bool is_file = mspec_ends_with(item->d_name, ".safetensors");
		if (is_index || (is_file && !indexes))
			snprintf(name, NAME_CAPACITY, "%s", item->d_name);
		indexes += is_index;
		files += is_file;
		preferred = !strcmp(item->d_name, "model.safetensors.index.json");
	}
	closedir(dir);
	return preferred || (indexes ? indexes == 1 : files == 1);
}

static uint64_t little_endian_64(const unsigned char *bytes)
{
	uint64_t value = 0;
	for (int i = 7; i >= 0; i--)
		value = value << 8 | bytes[i];
	return value;
}

/* A header that claims more than the file has is still ours: the file was cut off. */
static bool sniff(int fd, const char *path)
{
	struct stat st;
	char name[NAME_CAPACITY];
	if (!fstat(fd, &st) && S_ISDIR(st.st_mode))
		return find_in_folder(path, name);
	unsigned char start[16] = {0};
	ssize_t got = pread(fd, start, sizeof start, 0);
	if (mspec_ends_with(path, ".json")) {
		const char *spaces = " \t\r\n";
		size_t i = 0;
		while (i < sizeof start && start[i] && strchr(spaces, start[i]))
			i++;
		return i < sizeof start && start[i] == '{';
	}
	return got > 8 && start[8] == '{' &&
	       little_endian_64(start) <= LONGEST_HEADER;
}

/* ---- files ------------------------------------------------------------------------------ */

static void close_shard(shard_set *set, shard *s)
{
	if (s->fd < 0)
		return;
	close(s->fd);
	s->fd = -1;
	set->open--;
}

static void close_oldest(shard_set *set)
{
	shard *oldest = NULL;
	for (size_t i = 0; i < set->count; i++) {
		shard *s = &set->shards[i];
		if (s->fd >= 0 && (!oldest || s->last_used < oldest->last_used))
			oldest = s;
	}
	if (oldest)
		close_shard(set, oldest);
}

static int open_shard(mspec_checkpoint *checkpoint, shard *s, muon_error *err)
{
	shard_set *set = checkpoint->file;
	s->last_used = ++set->clock;
	if (s->fd >= 0)
		return MUON_OK;
	if (set->open == MAX_OPEN_SHARDS)
		close_oldest(set);
	s->fd = open(s->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (s->fd < 0)
		return muon_fail(err, MUON_E_READ, s->path, "%s", strerror(errno));
	set->open++;
	mspec_note_file(checkpoint, s->path);
	struct stat st;
	if (fstat(s->fd, &st) || !S_ISREG(st.st_mode)) {
		close_shard(set, s);
		return muon_fail(err, MUON_E_READ, s->path, "is not a regular file");
	}
	if (s->size >= 0 && st.st_size != s->size) {
		close_shard(set, s);
		return muon_fail(err, MUON_E_READ, s->path, "has changed while it was being read");
	}
	s->size = st.st_size;
	return MUON_OK;
}

/* Shards of a checkpoint with room for `capacity`; none yet. */
static shard_set *create_shards(mspec_checkpoint *checkpoint, size_t capacity)
{
	shard_set *set = muon_arena_alloc(&checkpoint->arena, 1, sizeof *set);
	if (set)
		set->shards = muon_arena_alloc(&checkpoint->arena, capacity, sizeof *set->shards);
	return set && set->shards ? checkpoint->file = set : NULL;
}

static bool add_shard(mspec_checkpoint *checkpoint, const char *name, const char *path)
{
	shard_set *set = checkpoint->file;
	shard *s = &set->shards[set->count];
	s->fd = -1;
	s->size = -1;
	s->name = muon_arena_string(&checkpoint->arena, name);
	s->path = path;
	set->count += s->name && path;
	return s->name && path;
}

/* ---- headers ---------------------------------------------------------------------------- */

/* Bytes that jansson takes for this text, about: a value of two characters can take a hundred times
 * as much. What is inside strings is counted too, which is little in an honest header. */
static size_t parsed_size(const char *text, size_t bytes)
{
	enum { OBJECT = 224, ARRAY = 128, ITEM = 56, MEMBER = 112 };
	size_t size = 2 * bytes;
	for (size_t i = 0; i < bytes; i++)
		switch (text[i]) {
		case '{':
			size += OBJECT;
			break;
		case '[':
			size += ARRAY;
			break;
		case ',':
			size += ITEM;
			break;
		case ':':
			size += MEMBER;
			break;
		}
	return size;
}

static int load_json(int fd, size_t bytes, int64_t offset, const char *where, const char *what,
                     json_t **json, muon_error *err)
{
	char *text = muon_alloc(bytes, 1);
	if (!text)
		return mspec_out_of_memory(where, err);
	json_error_t reason;
	int code = mspec_read_at(fd, text, bytes, offset, where, err);
	if (!code && parsed_size(text, bytes) > MAX_PARSED)
		code = muon_fail(err, MUON_E_FORMAT, where, "%s holds too many values", what);
	*json = code ? NULL : json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &reason);
	muon_free(text);
	if (code || *json)
		return code;
	char escaped[2 * JSON_ERROR_TEXT_LENGTH];
	muon_escape(escaped, sizeof escaped, reason.text);
	switch (json_error_code(&reason)) {
	case json_error_out_of_memory:
		return mspec_out_of_memory(where, err);
	case json_error_duplicate_key:
		return muon_fail(err, MUON_E_FORMAT, where, "%s holds a name twice: %s", what,
		                 escaped);
	default:
		return muon_fail(err, MUON_E_FORMAT, where, "%s is not valid JSON: %s", what,
		                 escaped);
	}
}

static int read_header_length(shard *s, size_t *length, muon_error *err)
{
	unsigned char start[8];
	if (s->size < (int64_t)sizeof start)
		return muon_fail(err, MUON_E_FORMAT, s->path, "is cut off: it has %lld bytes",
		                 (long long)s->size);
	int code = mspec_refuse_lfs_pointer(s->fd, s->path, err);
	if (!code)
		code = mspec_read_at(s->fd, start, sizeof start, 0, s->path, err);
	if (code)
		return code;
	uint64_t claimed = little_endian_64(start);
	if (claimed > LONGEST_HEADER)
		return muon_fail(err, MUON_E_FORMAT, s->path,
		                 "is not safetensors: header length %llu is impossible",
		                 (unsigned long long)claimed);
	if ((int64_t)claimed > s->size - 8)
		return muon_fail(err, MUON_E_FORMAT, s->path,
		                 "is cut off: header of %llu bytes in a file of %lld",
		                 (unsigned long long)claimed, (long long)s->size);
	if (claimed > MSPEC_SAFETENSORS_MAX_HEADER)
		return muon_fail(err, MUON_E_FORMAT, s->path,
		                 "header of %llu bytes is over the limit of %d",
		                 (unsigned long long)claimed, MSPEC_SAFETENSORS_MAX_HEADER);
	*length = (size_t)claimed;
	return MUON_OK;
}

typedef struct range {
	int64_t begin, end;
	const char *name;
} range;

static bool parse_range(const json_t *entry, range *r)
{
	const json_t *pair = json_object_get(entry, "data_offsets");
	const json_t *begin = json_array_get(pair, 0), *end = json_array_get(pair, 1);
	if (json_array_size(pair) != 2 || !json_is_integer(begin) || !json_is_integer(end))
		return false;
	r->begin = json_integer_value(begin);
	r->end = json_integer_value(end);
	return r->begin >= 0 && r->begin <= r->end;
}

static int compare_ranges(const void *a, const void *b)
{
	const range *x = a, *y = b;
	return x->begin != y->begin ? (x->begin < y->begin ? -1 : 1)
	                            : (x->end > y->end) - (x->end < y->end);
}

/* Data that belongs to two tensors is no honest file; the reference implementation refuses it too.
 * Holes between tensors are harmless. */
static int check_overlaps(json_t *header, const char *where, muon_error *err)
{
	range *ranges = muon_alloc(json_object_size(header), sizeof *ranges);
	if (!ranges)
		return mspec_out_of_memory(where, err);
	size_t count = 0;
	const char *name;
	json_t *entry;
	json_object_foreach(header, name, entry) {
		range r = {.name = name};
		if (parse_range(entry, &r) && r.begin < r.end)
			ranges[count++] = r;
	}
	if (count)
		qsort(ranges, count, sizeof *ranges, compare_ranges);
	int code = MUON_OK;
	for (size_t i = 1; i < count && !code; i++) {
		if (ranges[i].begin >= ranges[i - 1].end)
			continue;
		char a[96], b[96];
		muon_escape(a, sizeof a, ranges[i - 1].name);
		muon_escape(b, sizeof b, ranges[i].name);
		code = muon_fail(err, MUON_E_FORMAT, where, "data of %s and %s overlap", a, b);
	}
	muon_free(ranges);
	return code;
}

static double parse_number(const char *text)
{
	if (!text || !*text || strspn(text, "+-.0123456789eE") != strlen(text))
		return NAN;
	char *end;
	double value = strtod(text, &end);
	return *end || !isfinite(value) ? NAN : value;
}

/* Keep the text that metadata has under `key`, unless one is known already. */
static int copy_text(mspec_checkpoint *checkpoint, const json_t *metadata, const char *key,
                     const char **text, const char *where, muon_error *err)
{
	const char *found = json_string_value(json_object_get(metadata, key));
	if (!found || *text)
		return MUON_OK;
	*text = muon_arena_string(&checkpoint->arena, found);
	return *text ? MUON_OK : mspec_out_of_memory(where, err);
}

/* What a file says about the checkpoint; of several shards the first to say it counts. */
static int take_metadata(mspec_checkpoint *checkpoint, const json_t *header, const char *where,
                         muon_error *err)
{
	const json_t *metadata = json_object_get(header, "__metadata__");
	if (!metadata || json_is_null(metadata)) /* MLX writes null */
		return MUON_OK;
	if (!json_is_object(metadata))
		return muon_fail(err, MUON_E_FORMAT, where, "__metadata__ is not an object");
	mspec_checkpoint_info *info = &checkpoint->info;
	const struct {
		const char *key;
		double *value;
	} numbers[] = {
	    {"step", &info->step},     {"lr", &info->lr},     {"weight_decay", &info->weight_decay},
	    {"tokens", &info->tokens}, {"loss", &info->loss},
	};
	for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
		if (isnan(*numbers[i].value))
			*numbers[i].value = parse_number(
			    json_string_value(json_object_get(metadata, numbers[i].key)));
	const char *layout = json_string_value(json_object_get(metadata, "muonspec_layout"));
	if (layout && !info->layout)
		info->layout = mspec_known_layout(layout);
	int code = copy_text(checkpoint, metadata, "optimizer", &info->optimizer, where, err);
	return code ? code : copy_text(checkpoint, metadata, "config", &info->config, where, err);
}

/* Read and check what concerns the file as a whole; *header is the caller's to release. */
static int load_header(mspec_checkpoint *checkpoint, shard *s, json_t **header, muon_error *err)
{
	*header = NULL;
	int code = open_shard(checkpoint, s, err);
	size_t length = 0;
	if (!code)
		code = read_header_length(s, &length, err);
	if (!code)
		code = load_json(s->fd, length, 8, s->path, "header", header, err);
	if (!code && !json_is_object(*header))
		code = muon_fail(err, MUON_E_FORMAT, s->path, "header is not a JSON object");
	if (!code)
		code = check_overlaps(*header, s->path, err);
	if (!code)
		code = take_metadata(checkpoint, *header, s->path, err);
	s->data = 8 + (int64_t)length;
	if (code) {
		json_decref(*header);
		*header = NULL;
	}
	return code;
}

static muon_dtype find_type(const char *label)
{
	for (int i = 0; i < MUON_DTYPE_COUNT; i++)
		if (!strcmp(label, mspec_safetensors_types[i]))
			return (muon_dtype)i;
	return MUON_DTYPE_NONE;
}

/* The tensor's data against its shape and the file's size. */
static void check_data(mspec_checkpoint *checkpoint, mspec_entry *added, const shard *s,
                       const range *r)
{
	const mspec_tensor *t = &added->tensor;
	if (t->status && !t->elements)
		return; /* its size is impossible already */
	char problem[160];
	int64_t need = t->elements * (int64_t)muon_dtype_size(t->dtype);
	int64_t available = s->size - s->data;
	if (t->dtype != MUON_DTYPE_NONE && r->end - r->begin != need) {
		snprintf(problem, sizeof problem,
		         "shape and type need %lld bytes, data_offsets give %lld", (long long)need,
		         (long long)(r->end - r->begin));
		mspec_set_problem(checkpoint, added, MUON_E_FORMAT, problem);
	} else if (r->end > available) {
		snprintf(problem, sizeof problem,
		         "file is cut off: data up to byte %lld, but it ends at %lld",
		         (long long)r->end, (long long)available);
		mspec_set_problem(checkpoint, added, MUON_E_READ, problem);
	}
}

static int add_tensor(mspec_checkpoint *checkpoint, shard *s, const char *name, const json_t *entry,
                      muon_error *err)
{
	range r = {.name = name};
	const char *type = json_string_value(json_object_get(entry, "dtype"));
	const json_t *shape = json_object_get(entry, "shape");
	bool valid = type && json_is_array(shape) && parse_range(entry, &r);
	int64_t dims[MSPEC_MAX_RANK] = {0};
	size_t rank = json_array_size(shape);
	for (size_t i = 0; i < rank; i++) {
		const json_t *size = json_array_get(shape, i);
		valid &= json_is_integer(size);
		if (i < MSPEC_MAX_RANK)
			dims[i] = json_integer_value(size);
	}
	const char *word = type ? type : "unknown";
	int listed_rank = rank <= MSPEC_MAX_RANK ? (int)rank : MSPEC_MAX_RANK + 1;
	mspec_entry *added = valid ? mspec_add_tensor(checkpoint, name, find_type(type), word,
	                                              listed_rank, dims)
	                           : mspec_add_shapeless(checkpoint, name, word);
	place *source = muon_arena_alloc(&checkpoint->arena, 1, sizeof *source);
	if (!added || !source)
		return mspec_out_of_memory(s->path, err);
	added->source = source;
	source->shard = s;
	if (!valid)
		mspec_set_problem(checkpoint, added, MUON_E_FORMAT,
		                  "no valid dtype, shape and data_offsets in the header");
	else
		check_data(checkpoint, added, s, &r);
	if (!added->tensor.status) /* else the sum might overflow */
		source->position = s->data + r.begin;
	return MUON_OK;
}

/* ---- one file --------------------------------------------------------------------------- */

static int open_single(mspec_checkpoint *checkpoint, const char *path, muon_error *err)
{
	if (!create_shards(checkpoint, 1) || !add_shard(checkpoint, path, path))
		return mspec_out_of_memory(path, err);
	shard_set *set = checkpoint->file;
	json_t *header;
	int code = load_header(checkpoint, &set->shards[0], &header, err);
	const char *name;
	json_t *entry;
	json_object_foreach(header, name, entry)
		if (!code && strcmp(name, "__metadata__"))
			code = add_tensor(checkpoint, &set->shards[0], name, entry, err);
	json_decref(header);
	return code;
}

/* ---- shards ----------------------------------------------------------------------------- */

static int load_index(mspec_checkpoint *checkpoint, const char *path, json_t **index,
                      muon_error *err)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return muon_fail(err, MUON_E_OPEN, path, "%s", strerror(errno));
	mspec_note_file(checkpoint, path);
	int code = MUON_OK;
	if (fstat(fd, &st) || !S_ISREG(st.st_mode) || st.st_size > MSPEC_SAFETENSORS_MAX_HEADER)
		code = muon_fail(err, MUON_E_FORMAT, path,
		                 "is not a regular file, or too long for an index");
	if (!code)
		code = load_json(fd, (size_t)st.st_size, 0, path, "index", index, err);
	close(fd);
	return code;
}

/* Names with a path could lead out of the checkpoint's folder. */
static bool is_plain_name(const char *name)
{
	return name && *name && !strchr(name, '/') && strcmp(name, ".") && strcmp(name, "..");
}

/* Every file that the weight map names, once; `listed` gets the number of each. */
static int list_shards(mspec_checkpoint *checkpoint, json_t *map, json_t *listed, const char *path,
                       muon_error *err)
{
	shard_set *set = create_shards(checkpoint, json_object_size(map));
	if (!set)
		return mspec_out_of_memory(path, err);
	const char *slash = strrchr(path, '/');
	int folder = slash ? (int)(slash + 1 - path) : 0;
	const char *tensor;
	json_t *value;
	json_object_foreach(map, tensor, value) {
		const char *name = json_string_value(value);
		if (!is_plain_name(name)) {
			char escaped[128];
			muon_escape(escaped, sizeof escaped, tensor);
			return muon_fail(err, MUON_E_FORMAT, path,
			                 "the file for %s is not a plain file name", escaped);
		}
		if (json_object_get(listed, name))
			continue;
		const char *full =
		    muon_arena_format(&checkpoint->arena, "%.*s%s", folder, path, name);
		if (json_object_set_new(listed, name, json_integer((json_int_t)set->count)) ||
		    !add_shard(checkpoint, name, full))
			return mspec_out_of_memory(path, err);
	}
	return MUON_OK;
}

/* Add a shard's tensors; `seen` collects the names of those of all shards. */
static int add_shard_tensors(mspec_checkpoint *checkpoint, shard *s, json_t *header,
                             const json_t *map, json_t *seen, muon_error *err)
{
	const char *name;
	json_t *entry;
	json_object_foreach(header, name, entry) {
		if (!strcmp(name, "__metadata__"))
			continue;
		char escaped[128];
		muon_escape(escaped, sizeof escaped, name);
		if (json_object_get(seen, name))
			return muon_fail(err, MUON_E_FORMAT, s->path,
			                 "tensor %s is in another shard too", escaped);
		if (json_object_set_new(seen, name, json_true()))
			return mspec_out_of_memory(s->path, err);
		int code = add_tensor(checkpoint, s, name, entry, err);
		if (code)
			return code;
		const char *mapped = json_string_value(json_object_get(map, name));
		if (mapped && strcmp(mapped, s->name))
			mspec_set_problem(checkpoint, &checkpoint->entries[checkpoint->count - 1],
			                  MUON_E_READ, "is in another shard than the index says");
	}
	return MUON_OK;
}

/* Tensors that the index promises and no shard has. */
static int add_missing(mspec_checkpoint *checkpoint, json_t *map, const json_t *listed,
                       const json_t *seen, muon_error *err)
{
	const shard_set *set = checkpoint->file;
	const char *name;
	json_t *value;
	json_object_foreach(map, name, value) {
		if (json_object_get(seen, name))
			continue;
		const json_t *number = json_object_get(listed, json_string_value(value));
		const char *problem = set->shards[json_integer_value(number)].problem;
		mspec_entry *added = mspec_add_shapeless(checkpoint, name, "unknown");
		if (!added)
			return mspec_out_of_memory(name, err);
		mspec_set_problem(checkpoint, added, MUON_E_READ,
		                  problem ? problem : "is not in the shard that the index names");
	}
	return MUON_OK;
}

/* A shard that can't be read is the problem of its tensors, unless they are all like that. */
static int add_shards(mspec_checkpoint *checkpoint, const json_t *map, json_t *seen,
                      muon_error *err)
{
	shard_set *set = checkpoint->file;
	size_t unreadable = 0;
	muon_error first = {0};
	for (size_t i = 0; i < set->count; i++) {
		shard *s = &set->shards[i];
		muon_error reason = {0};
		json_t *header;
		int code = load_header(checkpoint, s, &header, &reason);
		if (!code) {
			code = add_shard_tensors(checkpoint, s, header, map, seen, err);
			json_decref(header);
			if (code)
				return code;
			continue;
		}
		char name[128];
		muon_escape(name, sizeof name, s->name);
		s->problem = muon_arena_format(&checkpoint->arena, "%s: %s", name, reason.message);
		if (code == MUON_E_MEMORY || !s->problem)
			return mspec_out_of_memory(s->path, err);
		muon_fail(&first, code, s->path, "%s", reason.message);
		unreadable++;
	}
	if (set->count && unreadable == set->count)
		return muon_fail(err, first.code, set->shards[0].path, "%s", first.message);
	return MUON_OK;
}

static int open_sharded(mspec_checkpoint *checkpoint, const char *path, muon_error *err)
{
	json_t *index = NULL, *listed = json_object(), *seen = json_object();
	int code = listed && seen ? load_index(checkpoint, path, &index, err)
	                          : mspec_out_of_memory(path, err);
	json_t *map = json_object_get(index, "weight_map");
	if (!code && !json_is_object(map))
		code = muon_fail(err, MUON_E_FORMAT, path,
		                 "has no weight_map: it is not an index of safetensors shards");
	if (!code)
		code = list_shards(checkpoint, map, listed, path, err);
	if (!code)
		code = add_shards(checkpoint, map, seen, err);
	if (!code)
		code = add_missing(checkpoint, map, listed, seen, err);
	json_decref(listed);
	json_decref(seen);
	json_decref(index);
	return code;
}

/* ---- reader ----------------------------------------------------------------------------- */

/* Hugging Face's config.json in the folder of `path`, if there is one that can be read. */
static int read_config(mspec_checkpoint *checkpoint, const char *path, muon_error *err)
{
	const char *slash = strrchr(path, '/');
	int folder = slash ? (int)(slash - path) : 1;
	const char *name = muon_arena_format(&checkpoint->arena, "%.*s/config.json", folder,
	                                     slash ? path : ".");
	char *text = name ? muon_arena_alloc(&checkpoint->arena, LONGEST_CONFIG + 1, 1) : NULL;
	if (!text)
		return mspec_out_of_memory(path, err);
	FILE *file = fopen(name, "r");
	if (!file)
		return MUON_OK;
	size_t length = fread(text, 1, LONGEST_CONFIG + 1, file);
	if (length <= LONGEST_CONFIG && !ferror(file) && !memchr(text, 0, length))
		checkpoint->info.config = text;
	fclose(file);
	return MUON_OK;
}

static int open_checkpoint(mspec_checkpoint *checkpoint, muon_error *err)
{
	const char *path = checkpoint->info.path;
	checkpoint->info.layout = NULL;
	struct stat st;
	char name[NAME_CAPACITY];
	if (!stat(path, &st) && S_ISDIR(st.st_mode)) {
		if (!find_in_folder(path, name))
			return muon_fail(err, MUON_E_FORMAT, path,
			                 "holds no safetensors checkpoint");
		path = muon_arena_format(&checkpoint->arena, "%s/%s", path, name);
		if (!path)
			return mspec_out_of_memory(checkpoint->info.path, err);
	}
	int code = mspec_ends_with(path, ".json") ? open_sharded(checkpoint, path, err)
	                                          : open_single(checkpoint, path, err);
	if (!checkpoint->info.layout)
		checkpoint->info.layout = "pytorch";
	mspec_set_roles(checkpoint);
	return code || checkpoint->info.config ? code : read_config(checkpoint, path, err);
}

static int read_elements(mspec_checkpoint *checkpoint, size_t index, int64_t first, int64_t count,
                         void *buffer, muon_error *err)
{
	const mspec_entry *entry = &checkpoint->entries[index];
	const place *source = entry->source;
	int code = open_shard(checkpoint, source->shard, err);
	if (code)
		return code;
	size_t size = muon_dtype_size(entry->tensor.dtype);
	return mspec_read_at(source->shard->fd, buffer, (size_t)count * size,
	                     source->position + first * (int64_t)size, entry->tensor.name, err);
}

static void close_checkpoint(mspec_checkpoint *checkpoint)
{
	shard_set *set = checkpoint->file;
	for (size_t i = 0; set && i < set->count; i++)
		close_shard(set, &set->shards[i]);
}

const mspec_reader mspec_reader_safetensors = {
    .format = "safetensors",
    .sniff = sniff,
    .open = open_checkpoint,
    .read = read_elements,
    .close = close_checkpoint,
};
