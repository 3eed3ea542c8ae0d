/* Listing what an HDF5 checkpoint holds: all hard links first, then what soft and external links
 * add, so that an object is listed under its own name. Cycles end at objects seen before. */
#include "checkpoint/hdf5_library.h"
#include "base/text.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#define HASH_NONFATAL_OOM 1
#define uthash_malloc(bytes) muon_alloc(bytes, 1)
#define uthash_free(block, bytes) muon_free(block)
#include <uthash.h>

enum {
	MAX_DEPTH = 64,       /* groups in groups */
	MAX_LINKS = 1000000,  /* in all files of a checkpoint */
	MAX_NAMES = 256 << 20 /* bytes of all names */
};

/* An object of a file, so that it is listed once under its own name and cycles end. */
typedef struct visited {
	struct {
		uint64_t file, address;
	} key;
	const char *tensor; /* NULL for what is not a dataset */
	UT_hash_handle hh;
} visited;

/* A soft or external link: followed once all that the hard links hold has its name. */
typedef struct deferred {
	h5_file *file;
	char *path, *name;
	bool external;
	int depth;
	struct deferred *next;
} deferred;

typedef struct walk {
	mspec_checkpoint *checkpoint;
	h5_state *h5;
	muon_error *err;
	muon_arena scratch;
	visited *seen;
	deferred *first, **last;
	size_t links, name_bytes;
	/* where the walk is; the tensor's name is `prefix` and what follows `base` bytes of path */
	h5_file *file;
	muon_text path;
	const char *prefix;
	size_t base;
	muon_text name;
} walk;

static int out_of_memory(walk *w)
{
	return mspec_out_of_memory(w->checkpoint->info.path, w->err);
}

/* Name of the tensor at the current path; NULL when out of memory. */
static const char *current_name(walk *w)
{
	if (w->path.failed)
		return NULL;
	w->name.length = 0;
	muon_text_add_string(&w->name, w->prefix);
	if (w->path.length > w->base)
		muon_text_add(&w->name, w->path.bytes + w->base, w->path.length - w->base);
	return w->name.failed ? NULL : w->name.bytes;
}

/* List something that should have been a tensor or hold some. */
static int list_problem(walk *w, const char *type_name, int code, const char *problem)
{
	const char *name = current_name(w);
	mspec_entry *entry =
	    name ? mspec_add_shapeless(w->checkpoint, *name ? name : "/", type_name) : NULL;
	if (!entry)
		return out_of_memory(w);
	mspec_set_problem(w->checkpoint, entry, code, problem);
	return MUON_OK;
}

static int list_library_problem(walk *w, const char *type_name)
{
	char reason[H5_REASON];
	return list_problem(w, type_name, MUON_E_READ, mspec_h5_reason(reason));
}

/* Rank of the dataset, and its dims; negative with the reason. */
static int read_shape(hid_t dataset, int64_t *dims, bool *null, char *reason)
{
	hsize_t sizes[H5S_MAX_RANK];
	hid_t space = H5Dget_space(dataset);
	int rank = space < 0 ? -1 : H5Sget_simple_extent_dims(space, sizes, NULL);
	if (rank < 0)
		mspec_h5_reason(reason);
	for (int i = 0; i < rank; i++)
		dims[i] = sizes[i] > INT64_MAX ? -1 : (int64_t)sizes[i];
	*null = space >= 0 && H5Sget_simple_extent_type(space) == H5S_NULL;
	mspec_h5_close(space);
	return rank;
}

static h5_source *new_source(walk *w, bool swap)
{
	h5_source *s = muon_arena_alloc(&w->checkpoint->arena, 1, sizeof *s);
	if (!s)
		return NULL;
	*s = (h5_source){w->file, NULL, -1, swap};
	s->path = muon_arena_string(&w->checkpoint->arena, w->path.bytes);
	return s->path ? s : NULL;
}

/* Add the tensor, with what is wrong with it. */
static int list_tensor(walk *w, hid_t dataset, hid_t properties, const h5_element_type *element)
{
	int64_t dims[H5S_MAX_RANK] = {0};
	bool null;
	char reason[H5_REASON];
	int rank = read_shape(dataset, dims, &null, reason);
	if (rank < 0)
		return list_problem(w, "dataset", MUON_E_READ, reason);
	const char *name = current_name(w);
	mspec_entry *entry = name ? mspec_add_tensor(w->checkpoint, name, element->dtype,
	                                             element->name, null ? 1 : rank, dims)
	                          : NULL;
	h5_source *s = entry ? new_source(w, element->swap) : NULL;
	if (!s)
		return out_of_memory(w);
	entry->source = s;
	if (null)
		mspec_set_problem(w->checkpoint, entry, MUON_E_FORMAT,
		                  "has a null dataspace: no data");
	if (entry->tensor.dtype != MUON_DTYPE_NONE && entry->tensor.elements)
		mspec_h5_check_storage(w->checkpoint, dataset, properties, entry);
	return MUON_OK;
}

static int list_dataset(walk *w, hid_t dataset)
{
	char problem[H5_PROBLEM];
	h5_element_type element;
	hid_t properties = H5Dget_create_plist(dataset);
	if (properties < 0)
		return list_library_problem(w, "dataset");
	hid_t type = H5Dget_type(dataset);
	int code;
	if (type < 0) {
		code = list_library_problem(w, "dataset");
	} else if (H5Pget_layout(properties) == H5D_VIRTUAL &&
	           !mspec_h5_check_virtual(w->h5, w->file, properties, problem)) {
		code = list_problem(w, "virtual dataset", MUON_E_READ, problem);
	} else {
		mspec_h5_describe_type(dataset, type, &element);
		code = list_tensor(w, dataset, properties, &element);
	}
	mspec_h5_close(type);
	mspec_h5_close(properties);
	return code;
}

/* A dataset that has been listed under another name. */
static int list_alias(walk *w, hid_t dataset, const char *link, const char *original)
{
	size_t before = w->checkpoint->count;
	int code = list_dataset(w, dataset);
	if (code)
		return code;
	mspec_entry *entry = &w->checkpoint->entries[before];
	entry->link = link;
	entry->tensor.alias_of = original;
	return MUON_OK;
}

static visited *find_visited(walk *w, const H5O_info_t *info)
{
	visited key = {.key = {info->fileno, info->addr}}, *found;
	HASH_FIND(hh, w->seen, &key.key, sizeof key.key, found);
	return found;
}

static visited *add_visited(walk *w, const H5O_info_t *info)
{
	visited *v = muon_arena_alloc(&w->scratch, 1, sizeof *v);
	if (!v)
		return NULL;
	*v = (visited){.key = {info->fileno, info->addr}};
	HASH_ADD(hh, w->seen, key, sizeof v->key, v);
	return v->hh.tbl ? v : NULL;
}

typedef struct link_item {
	char *name;
	H5L_type_t type;
} link_item;

typedef struct link_list {
	walk *walk;
	muon_arena names;
	link_item *items;
	size_t count, capacity;
	int code;
} link_list;

static herr_t collect_link(hid_t group, const char *name, const H5L_info_t *info, void *state)
{
	(void)group;
	link_list *list = state;
	walk *w = list->walk;
	if (++w->links > MAX_LINKS) {
		list->code = muon_fail(w->err, MUON_E_FORMAT, w->checkpoint->info.path,
		                       "holds more than %d objects", MAX_LINKS);
		return -1;
	}
	if (list->count == list->capacity) {
		size_t capacity = list->capacity ? 2 * list->capacity : 32;
		link_item *items = muon_resize(list->items, capacity, sizeof *items);
		if (!items) {
			list->code = out_of_memory(w);
			return -1;
		}
		list->items = items;
		list->capacity = capacity;
	}
	char *copy = muon_arena_string(&list->names, name);
	if (!copy) {
		list->code = out_of_memory(w);
		return -1;
	}
	list->items[list->count++] = (link_item){copy, info->type};
	return 0;
}

static int defer_link(walk *w, bool external, int depth)
{
	const char *name = current_name(w);
	deferred *d = muon_arena_alloc(&w->scratch, 1, sizeof *d);
	if (!name || !d)
		return out_of_memory(w);
	*d = (deferred){.file = w->file, .external = external, .depth = depth};
	d->path = muon_arena_string(&w->scratch, w->path.bytes);
	d->name = muon_arena_string(&w->scratch, name);
	if (!d->path || !d->name)
		return out_of_memory(w);
	*w->last = d;
	w->last = &d->next;
	return MUON_OK;
}

static int walk_object(walk *w, hid_t object, const char *link, int depth);

static int walk_link(walk *w, hid_t group, const link_item *item, int depth)
{
	if (item->type == H5L_TYPE_SOFT || item->type == H5L_TYPE_EXTERNAL)
		return defer_link(w, item->type == H5L_TYPE_EXTERNAL, depth);
	if (item->type != H5L_TYPE_HARD)
		return list_problem(w, "link", MUON_E_FORMAT, "is a link of an unknown kind");
	hid_t object = H5Oopen(group, item->name, w->h5->links);
	if (object < 0)
		return list_library_problem(w, "object");
	int code = walk_object(w, object, "hard", depth);
	mspec_h5_close(object);
	return code;
}

static int walk_group(walk *w, hid_t group, int depth)
{
	char reason[H5_REASON];
	link_list list = {.walk = w};
	bool failed =
	    H5Literate(group, H5_INDEX_NAME, H5_ITER_INC, NULL, collect_link, &list) < 0;
	int code = list.code;
	if (failed && !code) {
		mspec_h5_reason(reason);
		code = w->path.length ? list_problem(w, "group", MUON_E_READ, reason)
		                      : muon_fail(w->err, MUON_E_READ, w->checkpoint->info.path,
		                                  "HDF5: %s", reason);
	}
	size_t length = w->path.length;
	for (size_t i = 0; i < list.count && !code; i++) {
		if (length)
			muon_text_add(&w->path, "/", 1);
		muon_text_add_string(&w->path, list.items[i].name);
		if (w->path.failed) {
			code = out_of_memory(w);
			break;
		}
		mspec_watch(w->checkpoint, w->path.bytes);
		w->name_bytes += w->path.length;
		code = w->name_bytes > MAX_NAMES
		           ? muon_fail(w->err, MUON_E_FORMAT, w->checkpoint->info.path,
		                       "holds more than %d bytes of names", MAX_NAMES)
		           : walk_link(w, group, &list.items[i], depth);
		w->path.length = length;
		w->path.bytes[length] = 0;
	}
	muon_free(list.items);
	muon_arena_release(&list.names);
	return code;
}

/* List the object at the current path, reached through a link of kind `link`. */
static int walk_object(walk *w, hid_t object, const char *link, int depth)
{
	H5O_info_t info;
	if (H5Oget_info2(object, &info, H5O_INFO_BASIC) < 0)
		return list_library_problem(w, "object");
	visited *known = find_visited(w, &info);
	if (known)
		return known->tensor ? list_alias(w, object, link, known->tensor) : MUON_OK;
	visited *v = add_visited(w, &info);
	if (!v)
		return out_of_memory(w);
	if (info.type == H5O_TYPE_DATASET) {
		size_t before = w->checkpoint->count;
		int code = list_dataset(w, object);
		if (!code)
			v->tensor = w->checkpoint->entries[before].tensor.name;
		return code;
	}
	if (info.type != H5O_TYPE_GROUP)
		return MUON_OK; /* a committed type */
	if (depth == MAX_DEPTH)
		return list_problem(w, "group", MUON_E_FORMAT, "is nested too deeply");
	return walk_group(w, object, depth + 1);
}

/* Continue at `path` of `file`, under the tensor name `name`. */
static void move_to(walk *w, h5_file *file, const char *path, const char *name)
{
	w->file = file;
	w->path.length = 0;
	muon_text_add_string(&w->path, path);
	w->base = strlen(path);
	w->prefix = name;
}

/* The value of a link, NUL-terminated, in scratch memory; NULL if it can't be had. */
static char *link_value(walk *w, const deferred *d, size_t *size)
{
	H5L_info_t info;
	if (H5Lget_info(d->file->id, d->path, &info, w->h5->links) < 0 ||
	    info.u.val_size > H5_MAX_ATTRIBUTE)
		return NULL;
	*size = info.u.val_size;
	char *value = muon_arena_alloc(&w->scratch, *size + 1, 1);
	if (!value || H5Lget_val(d->file->id, d->path, value, *size, w->h5->links) < 0)
		return NULL;
	return value;
}

static int follow_soft_link(walk *w, const deferred *d)
{
	hid_t object = H5Oopen(d->file->id, d->path, w->h5->links);
	if (object >= 0) {
		int code = walk_object(w, object, "soft", d->depth);
		mspec_h5_close(object);
		return code;
	}
	char escaped[H5_REASON], problem[H5_REASON + 64];
	size_t size;
	const char *target = link_value(w, d, &size);
	snprintf(problem, sizeof problem, "leads to '%s', which can't be opened here",
	         muon_escape(escaped, sizeof escaped, target ? target : "?"));
	return list_problem(w, "soft link", MUON_E_READ, problem);
}

static int follow_external_link(walk *w, const deferred *d)
{
	size_t size;
	unsigned flags;
	const char *file_name, *object_name;
	char real[PATH_MAX], reason[H5_REASON], escaped[H5_REASON], problem[2 * H5_REASON + 64];
	char *value = link_value(w, d, &size);
	if (!value || H5Lunpack_elink_val(value, size, &flags, &file_name, &object_name) < 0)
		return list_library_problem(w, "external link");
	const char *wrong = mspec_h5_resolve_inside(w->h5->root, d->file->folder, file_name, real);
	h5_file *file;
	int code = wrong ? MUON_E_READ : mspec_h5_open_file(&file, w->checkpoint, real, reason);
	if (code == MUON_E_MEMORY)
		return out_of_memory(w);
	if (code) {
		snprintf(problem, sizeof problem, "leads to file '%s': %s",
		         muon_escape(escaped, sizeof escaped, file_name), wrong ? wrong : reason);
		return list_problem(w, "external link", MUON_E_READ, problem);
	}
	hid_t object = H5Oopen(file->id, object_name, w->h5->links);
	if (object < 0) {
		snprintf(problem, sizeof problem,
		         "leads to '%s' in '%s', which can't be opened here",
		         muon_escape(reason, sizeof reason, object_name),
		         muon_escape(escaped, sizeof escaped, file_name));
		return list_problem(w, "external link", MUON_E_READ, problem);
	}
	move_to(w, file, object_name, d->name);
	code = w->path.failed ? out_of_memory(w) : walk_object(w, object, "external", d->depth);
	mspec_h5_close(object);
	return code;
}

int mspec_h5_walk(mspec_checkpoint *checkpoint, muon_error *err)
{
	h5_state *h5 = checkpoint->file;
	walk w = {.checkpoint = checkpoint, .h5 = h5, .err = err};
	w.last = &w.first;
	move_to(&w, h5->files, "", "");
	hid_t root = H5Oopen(w.file->id, "/", h5->links);
	char reason[H5_REASON];
	int code = root < 0 ? muon_fail(err, MUON_E_READ, checkpoint->info.path, "HDF5: %s",
	                                mspec_h5_reason(reason))
	                    : walk_object(&w, root, "hard", 0);
	mspec_h5_close(root);
	for (deferred *d = w.first; d && !code; d = d->next) {
		move_to(&w, d->file, d->path, d->name);
		if (w.path.failed)
			code = out_of_memory(&w);
		mspec_watch(checkpoint, d->name);
		if (!code)
			code = d->external ? follow_external_link(&w, d) : follow_soft_link(&w, d);
	}
	HASH_CLEAR(hh, w.seen);
	muon_arena_release(&w.scratch);
	muon_text_release(&w.path);
	muon_text_release(&w.name);
	return code;
}
