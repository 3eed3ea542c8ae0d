/* The HDF5 reader. */
#define _XOPEN_SOURCE 700 /* realpath */
#include "checkpoint/hdf5_library.h"
#include "checkpoint/layout.h"
#include "checkpoint/writer.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void read_info(mspec_checkpoint *checkpoint, hid_t root)
{
	mspec_checkpoint_info *info = &checkpoint->info;
	info->step = mspec_h5_read_number(root, "step");
	info->lr = mspec_h5_read_number(root, "lr");
	info->weight_decay = mspec_h5_read_number(root, "weight_decay");
	info->tokens = mspec_h5_read_number(root, "tokens");
	info->loss = mspec_h5_read_number(root, "loss");
	info->optimizer = mspec_h5_read_text(root, "optimizer", &checkpoint->arena);
	info->config = mspec_h5_read_text(root, "config", &checkpoint->arena);
}

/* Keras' layer_names, which an attribute too small for them makes layer_names0, layer_names1... */
static h5_strings read_layer_names(hid_t group, muon_arena *arena)
{
	h5_strings all = mspec_h5_read_strings(group, "layer_names", arena);
	bool whole = all.count;
	for (unsigned part = 0; !whole && part < 1000; part++) {
		char name[32];
		snprintf(name, sizeof name, "layer_names%u", part);
		h5_strings more = mspec_h5_read_strings(group, name, arena);
		char **joined =
		    more.count ? muon_arena_alloc(arena, all.count + more.count, sizeof *joined)
		               : NULL;
		if (!joined)
			break;
		if (all.count)
			memcpy(joined, all.items, all.count * sizeof *joined);
		memcpy(joined + all.count, more.items, more.count * sizeof *joined);
		all = (h5_strings){joined, all.count + more.count};
	}
	return all;
}

/* Is `group` what Keras 1 and 2 wrote? Its layers then give the order. */
static int detect_keras(mspec_checkpoint *checkpoint, hid_t root, hid_t group, const char *folder,
                        bool *found)
{
	muon_arena arena = {0};
	*found = H5Aexists(group, "layer_names") > 0 || H5Aexists(group, "layer_names0") > 0;
	int code = MUON_OK;
	if (*found) {
		h5_strings layers = read_layer_names(group, &arena);
		const char *version = mspec_h5_read_text(group, "keras_version", &arena);
		if (!version)
			version = mspec_h5_read_text(root, "keras_version", &arena);
		bool first = !version || (*version == '1' && version[1] == '.');
		checkpoint->info.layout = first ? "keras1" : "keras2";
		if (layers.count)
			code = mspec_order_by_layers(checkpoint, folder, layers.items,
			                             layers.count);
	}
	muon_arena_release(&arena);
	return code;
}

static int detect_layout(mspec_checkpoint *checkpoint, hid_t root)
{
	h5_state *h5 = checkpoint->file;
	mspec_checkpoint_info *info = &checkpoint->info;
	bool ours = H5Aexists(root, "muonspec_format") > 0, keras = false;
	for (size_t i = 0; i < checkpoint->count; i++) {
		mspec_tensor *t = &checkpoint->entries[i].tensor;
		t->role = mspec_role_from_name(t->name, ours ? "muonspec" : "custom");
	}
	if (ours) {
		info->layout = "muonspec";
		return MUON_OK;
	}
	int code = detect_keras(checkpoint, root, root, "", &keras);
	if (!keras && !code && H5Lexists(root, "model_weights", h5->links) > 0) {
		hid_t group = H5Oopen(root, "model_weights", h5->links);
		if (group >= 0)
			code = detect_keras(checkpoint, root, group, "model_weights/", &keras);
		mspec_h5_close(group);
	}
	if (!keras)
		info->layout = mspec_layout_from_names(checkpoint);
	/* a converted file keeps the names of its source but not what else told the layout */
	muon_arena arena = {0};
	const char *word = mspec_h5_read_text(root, "muonspec_layout", &arena);
	if (word && mspec_known_layout(word))
		info->layout = mspec_known_layout(word);
	muon_arena_release(&arena);
	return code;
}

static bool sniff(int fd, const char *path)
{
	static const unsigned char signature[8] = "\x89HDF\r\n\x1a\n";
	(void)path;
	unsigned char bytes[sizeof signature];
	/* the file may start with a block of the user's own, of 512 bytes or a power of two more */
	for (off_t at = 0; pread(fd, bytes, sizeof bytes, at) == (ssize_t)sizeof bytes;
	     at = at ? 2 * at : 512) {
		if (!memcmp(bytes, signature, sizeof bytes))
			return true;
		if (at > INT64_MAX / 4)
			break;
	}
	return false;
}

static int fail_open(const mspec_checkpoint *checkpoint, const char *reason, muon_error *err)
{
	if (strstr(reason, "already open for write"))
		return muon_fail(err, MUON_E_READ, checkpoint->info.path,
		                 "HDF5: marked as open for writing; if no program is writing it, "
		                 "'h5clear -s FILE' removes the mark");
	return muon_fail(err, MUON_E_READ, checkpoint->info.path, "HDF5: %s", reason);
}

static int open_checkpoint(mspec_checkpoint *checkpoint, muon_error *err)
{
	const char *path = checkpoint->info.path;
	h5_state *h5 = muon_arena_alloc(&checkpoint->arena, 1, sizeof *h5);
	if (!h5)
		return mspec_out_of_memory(path, err);
	h5->links = h5->dataset = h5->type = H5I_INVALID_HID;
	h5->checkpoint = checkpoint;
	checkpoint->file = h5;
	char real[PATH_MAX], reason[H5_REASON];
	if (!realpath(path, real))
		return muon_fail(err, MUON_E_OPEN, path, "%s", strerror(errno));
	h5->links = H5Pcreate(H5P_LINK_ACCESS);
	if (h5->links < 0 || H5Pset_elink_cb(h5->links, mspec_h5_refuse_link, NULL) < 0)
		return muon_fail(err, MUON_E_INTERNAL, path, "HDF5: %s", mspec_h5_reason(reason));
	h5_file *file;
	int code = mspec_h5_open_file(&file, checkpoint, real, reason);
	if (code == MUON_E_MEMORY)
		return mspec_out_of_memory(path, err);
	if (code)
		return fail_open(checkpoint, reason, err);
	h5->root = file->folder;
	code = mspec_h5_walk(checkpoint, err);
	if (code)
		return code;
	hid_t root = H5Oopen(file->id, "/", h5->links);
	if (root < 0)
		return muon_fail(err, MUON_E_READ, path, "HDF5: %s", mspec_h5_reason(reason));
	mspec_watch(checkpoint, path);
	read_info(checkpoint, root);
	code = detect_layout(checkpoint, root);
	mspec_h5_close(root);
	return code ? muon_fail(err, code, path, "%s", muon_error_text(code)) : MUON_OK;
}

/* Room for the chunks that one row of the tensor touches: blocks of rows are read in order, and
 * their borders needn't be those of chunks. */
static int set_chunk_cache(hid_t access, hid_t properties, const mspec_tensor *t)
{
	hsize_t chunk[H5S_MAX_RANK];
	if (H5Pget_layout(properties) != H5D_CHUNKED)
		return 0;
	int rank = H5Pget_chunk(properties, H5S_MAX_RANK, chunk);
	int64_t one = (int64_t)muon_dtype_size(t->dtype), across = 1;
	for (int i = 0; i < rank && i < t->rank; i++) { /* listed: the product is in MAX_CHUNK */
		one *= (int64_t)chunk[i];
		if (i)
			across = mspec_h5_product(across, (t->dims[i] - 1) / (int64_t)chunk[i] + 1);
	}
	int64_t bytes = mspec_h5_product(one, across);
	bytes = bytes > H5_CHUNK_CACHE ? H5_CHUNK_CACHE : bytes < (1 << 20) ? 1 << 20 : bytes;
	bytes = bytes < one ? one : bytes;
	int64_t slots = bytes / one * 16 + 521;
	return H5Pset_chunk_cache(access, (size_t)(slots < 1000003 ? slots : 1000003),
	                          (size_t)bytes, H5D_CHUNK_CACHE_W0_DEFAULT);
}

static void close_current(h5_state *h5)
{
	mspec_h5_close(h5->type);
	mspec_h5_close(h5->dataset);
	h5->type = h5->dataset = H5I_INVALID_HID;
	h5->current = NULL;
}

/* Open the tensor's dataset for reads to come; false with the reason (H5_PROBLEM bytes). */
static bool open_dataset(h5_state *h5, const mspec_tensor *t, const h5_source *s, char *reason)
{
	close_current(h5);
	hid_t access = H5Pcreate(H5P_DATASET_ACCESS), plain = H5I_INVALID_HID, properties = plain;
	if (access >= 0 && H5Pset_elink_cb(access, mspec_h5_refuse_link, NULL) >= 0 &&
	    H5Pset_efile_prefix(access, s->file->folder) >= 0 &&
	    H5Pset_virtual_prefix(access, s->file->folder) >= 0)
		plain = H5Dopen2(s->file->id, s->path, access);
	if (plain >= 0)
		properties = H5Dget_create_plist(plain);
	bool good = properties >= 0 && set_chunk_cache(access, properties, t) >= 0;
	if (!good)
		mspec_h5_reason(reason);
	else if (H5Pget_layout(properties) == H5D_VIRTUAL) /* sources may have gone since */
		good = mspec_h5_check_virtual(h5, s->file, properties, reason);
	mspec_h5_close(properties);
	mspec_h5_close(plain); /* or its chunk cache would be the one in use */
	if (good) {
		h5->dataset = H5Dopen2(s->file->id, s->path, access);
		h5->type = h5->dataset < 0 ? H5I_INVALID_HID : H5Dget_type(h5->dataset);
		good = h5->type >= 0;
		if (!good)
			mspec_h5_reason(reason);
	}
	mspec_h5_close(access);
	h5->current = good ? s : NULL;
	return good;
}

static int read_by_library(mspec_checkpoint *checkpoint, const mspec_entry *entry, int64_t first,
                           int64_t count, void *buffer, muon_error *err)
{
	h5_state *h5 = checkpoint->file;
	const mspec_tensor *t = &entry->tensor;
	const h5_source *s = entry->source;
	char reason[H5_PROBLEM];
	if (h5->current != s && !open_dataset(h5, t, s, reason))
		return muon_fail(err, MUON_E_READ, t->name, "HDF5: %s", reason);
	h5_transfer move = {.dataset = h5->dataset, .type = h5->type, .rank = t->rank};
	move.element = muon_dtype_size(t->dtype);
	move.buffer.to = buffer;
	for (int i = 0; i < t->rank; i++)
		move.dims[i] = (hsize_t)t->dims[i];
	move.space = H5Dget_space(h5->dataset);
	if (move.space < 0)
		return muon_fail(err, MUON_E_READ, t->name, "HDF5: %s", mspec_h5_reason(reason));
	herr_t status = mspec_h5_transfer(&move, 0, (hsize_t)first, (hsize_t)count);
	mspec_h5_close(move.space);
	return status < 0 ? muon_fail(err, MUON_E_READ, t->name, "HDF5: %s", move.reason) : MUON_OK;
}

static int read_elements(mspec_checkpoint *checkpoint, size_t index, int64_t first, int64_t count,
                         void *buffer, muon_error *err)
{
	const mspec_entry *entry = &checkpoint->entries[index];
	const h5_source *s = entry->source;
	size_t size = muon_dtype_size(entry->tensor.dtype);
	int code;
	if (s->offset >= 0) {
		code = mspec_read_at(s->file->fd, buffer, (size_t)count * size,
		                     s->offset + first * (int64_t)size, entry->tensor.name, err);
	} else {
		H5E_BEGIN_TRY
		{
			code = read_by_library(checkpoint, entry, first, count, buffer, err);
		}
		H5E_END_TRY
	}
	if (!code && s->swap)
		mspec_swap_bytes(buffer, (size_t)count, size);
	return code;
}

static int open_quietly(mspec_checkpoint *checkpoint, muon_error *err)
{
	int code;
	H5E_BEGIN_TRY
	{
		code = open_checkpoint(checkpoint, err);
	}
	H5E_END_TRY
	return code;
}

static void close_checkpoint(mspec_checkpoint *checkpoint)
{
	h5_state *h5 = checkpoint->file;
	if (!h5)
		return;
	H5E_BEGIN_TRY
	{
		close_current(h5);
		mspec_h5_close(h5->links);
		for (h5_file *f = h5->files; f; f = f->next)
			H5Fclose(f->id);
	}
	H5E_END_TRY
}

/* The checkpoint's own file is the last of the list. */
static hid_t open_root(const mspec_checkpoint *checkpoint)
{
	const h5_state *h5 = checkpoint->file;
	const h5_file *file = h5->files;
	while (file->next)
		file = file->next;
	return H5Oopen(file->id, "/", h5->links);
}

static double root_number(const mspec_checkpoint *checkpoint, const char *name)
{
	double value = NAN;
	H5E_BEGIN_TRY
	{
		hid_t root = open_root(checkpoint);
		if (root >= 0)
			value = mspec_h5_read_number(root, name);
		mspec_h5_close(root);
	}
	H5E_END_TRY
	return value;
}

static const char *root_text(mspec_checkpoint *checkpoint, const char *name)
{
	const char *value = NULL;
	H5E_BEGIN_TRY
	{
		hid_t root = open_root(checkpoint);
		if (root >= 0)
			value = mspec_h5_read_text(root, name, &checkpoint->arena);
		mspec_h5_close(root);
	}
	H5E_END_TRY
	return value;
}

/* The name of the root's attribute, and how many there are. */
static bool attribute_name(const mspec_checkpoint *from, hsize_t index, char *name, size_t capacity,
                           hsize_t *count)
{
	bool found = false;
	H5E_BEGIN_TRY
	{
		H5O_info_t info;
		hid_t root = open_root(from);
		*count = root >= 0 && H5Oget_info2(root, &info, H5O_INFO_NUM_ATTRS) >= 0
		             ? info.num_attrs
		             : 0;
		if (index < *count)
			found = H5Aget_name_by_idx(root, ".", H5_INDEX_NAME, H5_ITER_INC, index,
			                           name, capacity, H5P_DEFAULT) > 0;
		mspec_h5_close(root);
	}
	H5E_END_TRY
	return found;
}

int mspec_hdf5_copy_attributes(mspec_hdf5_writer *writer, mspec_checkpoint *from, muon_error *err)
{
	char name[256];
	hsize_t count = 1;
	int code = MUON_OK;
	for (hsize_t i = 0; i < count && !code; i++) {
		if (!attribute_name(from, i, name, sizeof name, &count))
			continue;
		const char *text = root_text(from, name);
		code = text ? mspec_hdf5_attribute_text(writer, NULL, name, text, err)
		            : mspec_hdf5_attribute_number(writer, NULL, name,
		                                          root_number(from, name), err);
	}
	return code;
}

const mspec_reader mspec_reader_hdf5 = {
    .format = "hdf5",
    .sniff = sniff,
    .open = open_quietly,
    .read = read_elements,
    .close = close_checkpoint,
    .number = root_number,
    .text = root_text,
};
