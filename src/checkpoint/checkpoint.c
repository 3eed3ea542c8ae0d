#include "base/text.h"
#include "checkpoint/reader.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* npz before the others: zip archives are recognised by their own magic */
static const mspec_reader *const readers[] = {
    &mspec_reader_npz,
    &mspec_reader_safetensors,
    &mspec_reader_hdf5,
    &mspec_reader_llama2c, /* last: it has no magic number */
};

mspec_entry *mspec_add_tensor(mspec_checkpoint *checkpoint, const char *name, muon_dtype dtype,
                              const char *type_name, int rank, const int64_t *dims)
{
	if (checkpoint->count == checkpoint->capacity) {
		size_t capacity = checkpoint->capacity ? 2 * checkpoint->capacity : 64;
		mspec_entry *grown =
		    muon_resize(checkpoint->entries, capacity, sizeof *checkpoint->entries);
		if (!grown)
			return NULL;
		checkpoint->entries = grown;
		checkpoint->capacity = capacity;
	}
	mspec_entry *entry = &checkpoint->entries[checkpoint->count];
	*entry = (mspec_entry){0};
	mspec_tensor *t = &entry->tensor;
	t->name = muon_arena_string(&checkpoint->arena, name);
	t->type_name = muon_arena_string(&checkpoint->arena, type_name);
	if (!t->name || !t->type_name)
		return NULL;
	checkpoint->count++;
	t->dtype = dtype;
	if (rank < 0 || rank > MSPEC_MAX_RANK) {
		mspec_set_problem(checkpoint, entry, MUON_E_FORMAT,
		                  "more dimensions than supported");
		return entry;
	}
	t->rank = rank;
	for (int i = 0; i < rank; i++)
		t->dims[i] = dims[i];
	t->elements = mspec_count_elements(rank, dims, muon_dtype_size(dtype));
	int64_t most = checkpoint->options.max_tensor_bytes;
	if (t->elements < 0) {
		t->elements = 0;
		mspec_set_problem(checkpoint, entry, MUON_E_TOO_LARGE, "impossible size");
	} else if (most > 0 && t->elements * (int64_t)muon_dtype_size(dtype) > most) {
		mspec_set_problem(checkpoint, entry, MUON_E_TOO_LARGE,
		                  "larger than the memory limit");
	}
	return entry;
}

mspec_entry *mspec_add_shapeless(mspec_checkpoint *checkpoint, const char *name,
                                 const char *type_name)
{
	mspec_entry *entry =
	    mspec_add_tensor(checkpoint, name, MUON_DTYPE_NONE, type_name, 0, NULL);
	if (entry)
		entry->tensor.elements = 0;
	return entry;
}

int64_t mspec_count_elements(int rank, const int64_t *dims, size_t size)
{
	int64_t elements = 1, bytes;
	bool zero = false, overflow = false;
	for (int i = 0; i < rank; i++) {
		if (dims[i] < 0)
			return -1;
		zero |= !dims[i];
		overflow |= __builtin_mul_overflow(elements, dims[i], &elements);
	}
	if (zero)
		return 0;
	overflow |= __builtin_mul_overflow(elements, (int64_t)size, &bytes);
	return overflow ? -1 : elements;
}

void mspec_set_problem(mspec_checkpoint *checkpoint, mspec_entry *entry, int code,
                       const char *problem)
{
	const char *copy = muon_arena_string(&checkpoint->arena, problem);
	entry->tensor.status = code;
	entry->tensor.problem = copy ? copy : muon_error_text(code);
}

void mspec_note_file(mspec_checkpoint *checkpoint, const char *path)
{
	struct stat st;
	if (checkpoint->listed || stat(path, &st))
		return;
	mspec_file_id *file = muon_arena_alloc(&checkpoint->arena, 1, sizeof *file);
	if (!file) {
		checkpoint->files_failed = true;
		return;
	}
	*file = (mspec_file_id){st.st_dev, st.st_ino, checkpoint->files};
	checkpoint->files = file;
}

bool mspec_uses_file(const mspec_checkpoint *checkpoint, const char *path)
{
	struct stat st;
	if (stat(path, &st))
		return false;
	for (const mspec_file_id *f = checkpoint->files; f; f = f->next)
		if (f->device == st.st_dev && f->number == st.st_ino)
			return true;
	return false;
}

void mspec_watch(const mspec_checkpoint *checkpoint, const char *what)
{
	if (checkpoint->options.watch)
		checkpoint->options.watch(checkpoint->options.watch_state, what);
}

void mspec_watch_again(const mspec_checkpoint *checkpoint, const char *what)
{
	mspec_watch(checkpoint, NULL);
	mspec_watch(checkpoint, what);
}

int mspec_out_of_memory(const char *where, muon_error *err)
{
	return muon_fail(err, MUON_E_MEMORY, where, "out of memory");
}

int mspec_refuse_lfs_pointer(int fd, const char *where, muon_error *err)
{
	static const char first[] = "version https://git-lfs";
	char start[sizeof first - 1];
	if (pread(fd, start, sizeof start, 0) != (ssize_t)sizeof start ||
	    memcmp(start, first, sizeof start))
		return MUON_OK;
	return muon_fail(err, MUON_E_FORMAT, where, "is a Git LFS pointer; run 'git lfs pull'");
}

int mspec_read_at(int fd, void *buffer, size_t bytes, int64_t offset, const char *where,
                  muon_error *err)
{
	char *to = buffer;
	while (bytes) {
		ssize_t got = pread(fd, to, bytes < (1u << 30) ? bytes : 1u << 30, (off_t)offset);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return muon_fail(err, MUON_E_READ, where, "%s", strerror(errno));
		if (!got)
			return muon_fail(err, MUON_E_READ, where, "file ends inside the data");
		to += got;
		offset += got;
		bytes -= (size_t)got;
	}
	return MUON_OK;
}

void mspec_swap_bytes(void *elements, size_t count, size_t size)
{
	unsigned char *p = elements;
	for (size_t i = 0; i < count; i++, p += size)
		for (size_t a = 0, b = size - 1; a < b; a++, b--) {
			unsigned char t = p[a];
			p[a] = p[b];
			p[b] = t;
		}
}

muon_dtype mspec_dtype_from_label(const char *label)
{
	static const struct {
		const char *label;
		muon_dtype dtype;
	} known[] = {
	    {"bfloat16", MUON_BF16},        {"bf16", MUON_BF16},
	    {"float16", MUON_F16},          {"float8_e4m3fn", MUON_F8_E4M3},
	    {"float8_e4m3", MUON_F8_E4M3},  {"float8_e5m2", MUON_F8_E5M2},
	    {"torch.bfloat16", MUON_BF16},  {"torch.float16", MUON_F16},
	    {"torch.float8_e4m3fn", MUON_F8_E4M3}, {"torch.float8_e5m2", MUON_F8_E5M2},
	};
	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		if (!strcmp(label, known[i].label))
			return known[i].dtype;
	return MUON_DTYPE_NONE;
}

mspec_role mspec_role_from_name(const char *name, const char *layout)
{
	static const char *const optimizer[] = {"optimizer/",       "optimizer.",
	                                        "optimizer_state/", "optimizer_state.",
	                                        "optimizer_state_dict/", "optimizer_state_dict.",
	                                        "optimizer_weights/"};
	for (size_t i = 0; i < sizeof optimizer / sizeof *optimizer; i++)
		if (!strncmp(name, optimizer[i], strlen(optimizer[i])))
			return MSPEC_ROLE_OPTIMIZER;
	if (strstr(name, "/optimizer_weights/")) /* Keras, also below another group */
		return MSPEC_ROLE_OPTIMIZER;
	if (!strcmp(layout, "muonspec") && !strncmp(name, "activations/", strlen("activations/")))
		return MSPEC_ROLE_ACTIVATION;
	return MSPEC_ROLE_PARAMETER;
}

void mspec_set_roles(mspec_checkpoint *checkpoint)
{
	for (size_t i = 0; i < checkpoint->count; i++) {
		mspec_tensor *t = &checkpoint->entries[i].tensor;
		t->role = mspec_role_from_name(t->name, checkpoint->info.layout);
	}
}

static int compare_entries(const void *a, const void *b)
{
	const mspec_entry *x = a, *y = b;
	if (x->order != y->order)
		return x->order < y->order ? -1 : 1;
	return muon_natural_compare(x->tensor.name, y->tensor.name);
}

static int find_reader(mspec_checkpoint *checkpoint, const char *path, muon_error *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO must not block us */
	struct stat st;
	if (fd < 0 || fstat(fd, &st)) {
		int reason = errno;
		if (fd >= 0)
			close(fd);
		return muon_fail(err, MUON_E_OPEN, path, "%s", strerror(reason));
	}
	int code = MUON_OK;
	if (S_ISDIR(st.st_mode)) {
		/* only safetensors knows folders; its sniff looks for an index inside */
		if (mspec_reader_safetensors.sniff(fd, path))
			checkpoint->reader = &mspec_reader_safetensors;
		else
			code = muon_fail(err, MUON_E_FORMAT, path,
			                 "is a folder without model.safetensors.index.json; name a file");
	} else if (!S_ISREG(st.st_mode)) {
		code = muon_fail(err, MUON_E_FORMAT, path, "is not a regular file");
	} else if (!st.st_size) {
		code = muon_fail(err, MUON_E_FORMAT, path, "is empty");
	} else {
		for (size_t i = 0; i < sizeof readers / sizeof *readers && !checkpoint->reader; i++)
			if (readers[i]->sniff(fd, path))
				checkpoint->reader = readers[i];
		if (!checkpoint->reader)
			code = mspec_refuse_lfs_pointer(fd, path, err);
		if (!checkpoint->reader && !code)
			code = muon_fail(err, MUON_E_FORMAT, path,
			                 "is not HDF5, safetensors, npz, npy or llama2.c");
	}
	close(fd);
	return code;
}

int mspec_open(mspec_checkpoint **out, const char *path, const mspec_open_options *options,
               muon_error *err)
{
	*out = NULL;
	mspec_checkpoint *checkpoint = muon_alloc(1, sizeof *checkpoint);
	if (!checkpoint)
		return mspec_out_of_memory(path, err);
	if (options)
		checkpoint->options = *options;
	mspec_checkpoint_info *info = &checkpoint->info;
	info->step = info->lr = info->weight_decay = info->tokens = info->loss = NAN;
	info->layout = "custom";
	info->path = muon_arena_string(&checkpoint->arena, path);
	int code = info->path ? find_reader(checkpoint, path, err)
	                      : mspec_out_of_memory(path, err);
	if (!code) {
		info->format = checkpoint->reader->format;
		mspec_note_file(checkpoint, path);
		mspec_watch(checkpoint, path);
		code = checkpoint->reader->open(checkpoint, err);
		mspec_watch(checkpoint, NULL);
		checkpoint->listed = true;
		if (!code && checkpoint->files_failed)
			code = MUON_E_MEMORY;
		if (code) /* readers say what, here is where */
			muon_fail(err, code, path, "%s", muon_error_text(code));
	}
	if (code) {
		mspec_close(&checkpoint);
		return code;
	}
	if (checkpoint->count)
		qsort(checkpoint->entries, checkpoint->count, sizeof *checkpoint->entries,
		      compare_entries);
	*out = checkpoint;
	return MUON_OK;
}

void mspec_close(mspec_checkpoint **checkpoint)
{
	mspec_checkpoint *c = *checkpoint;
	*checkpoint = NULL;
	if (!c)
		return;
	if (c->reader) {
		mspec_watch(c, c->info.path);
		c->reader->close(c);
		mspec_watch(c, NULL);
	}
	muon_free(c->entries);
	muon_arena_release(&c->arena);
	muon_free(c);
}

const mspec_checkpoint_info *mspec_info(const mspec_checkpoint *checkpoint)
{
	return &checkpoint->info;
}

double mspec_attribute_number(const mspec_checkpoint *checkpoint, const char *name)
{
	return checkpoint->reader->number ? checkpoint->reader->number(checkpoint, name) : NAN;
}

const char *mspec_attribute_text(mspec_checkpoint *checkpoint, const char *name)
{
	return checkpoint->reader->text ? checkpoint->reader->text(checkpoint, name) : NULL;
}

size_t mspec_tensor_count(const mspec_checkpoint *checkpoint)
{
	return checkpoint->count;
}

const mspec_tensor *mspec_tensor_at(const mspec_checkpoint *checkpoint, size_t index)
{
	return &checkpoint->entries[index].tensor;
}

size_t mspec_find_tensor(const mspec_checkpoint *checkpoint, const char *name)
{
	for (size_t i = 0; i < checkpoint->count; i++)
		if (!strcmp(checkpoint->entries[i].tensor.name, name))
			return i;
	return SIZE_MAX;
}

int mspec_read(mspec_checkpoint *checkpoint, size_t index, int64_t first, int64_t count,
               void *buffer, muon_error *err)
{
	if (index >= checkpoint->count)
		return muon_fail(err, MUON_E_ARGUMENT, checkpoint->info.path, "no such tensor");
	const mspec_tensor *t = &checkpoint->entries[index].tensor;
	if (t->status)
		return muon_fail(err, t->status, t->name, "%s", t->problem);
	if (first < 0 || count < 0 || count > t->elements || first > t->elements - count)
		return muon_fail(err, MUON_E_ARGUMENT, t->name, "range outside the tensor");
	if (t->dtype == MUON_DTYPE_NONE) {
		char type[64];
		muon_escape(type, sizeof type, t->type_name);
		return muon_fail(err, MUON_E_FORMAT, t->name, "type %s is not a number", type);
	}
	if (!count)
		return MUON_OK;
	mspec_watch(checkpoint, t->name);
	int code = checkpoint->reader->read(checkpoint, index, first, count, buffer, err);
	mspec_watch(checkpoint, NULL);
	return code;
}
