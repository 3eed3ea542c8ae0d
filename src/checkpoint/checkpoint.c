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
		mspec_set_problem(checkpoint, entry, MUON_E_FORMAT, "more dimensions than supported");
		return entry;
	}
	t->rank = rank;
	t->elements = 1;
	bool negative = false, zero = false, overflow = false;
	for (int i = 0; i < rank; i++) {
		t->dims[i] = dims[i];
		negative |= dims[i] < 0;
		zero |= dims[i] == 0;
		overflow |= __builtin_mul_overflow(t->elements, dims[i], &t->elements);
	}
	int64_t bytes = 0;
	if (zero && !negative)
		t->elements = 0;
	else if (negative || overflow ||
	         __builtin_mul_overflow(t->elements, (int64_t)muon_dtype_size(dtype), &bytes)) {
		t->elements = 0;
		mspec_set_problem(checkpoint, entry, MUON_E_TOO_LARGE, "impossible size");
	}
	if (checkpoint->options.max_tensor_bytes > 0 &&
	    bytes > checkpoint->options.max_tensor_bytes)
		mspec_set_problem(checkpoint, entry, MUON_E_TOO_LARGE, "larger than the memory limit");
	return entry;
}

void mspec_set_problem(mspec_checkpoint *checkpoint, mspec_entry *entry, int code,
                       const char *problem)
{
	const char *copy = muon_arena_string(&checkpoint->arena, problem);
	entry->tensor.status = code;
	entry->tensor.problem = copy ? copy : muon_error_text(code);
}

void mspec_watch(const mspec_checkpoint *checkpoint, const char *what)
{
	if (checkpoint->options.watch)
		checkpoint->options.watch(checkpoint->options.watch_state, what);
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
			code = muon_fail(err, MUON_E_FORMAT, path,
			                 "is not HDF5, safetensors, npz or npy");
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
		return muon_fail(err, MUON_E_MEMORY, path, "out of memory");
	if (options)
		checkpoint->options = *options;
	mspec_checkpoint_info *info = &checkpoint->info;
	info->step = info->lr = info->weight_decay = info->tokens = info->loss = NAN;
	info->layout = "custom";
	info->path = muon_arena_string(&checkpoint->arena, path);
	int code = info->path ? find_reader(checkpoint, path, err)
	                      : muon_fail(err, MUON_E_MEMORY, path, "out of memory");
	if (!code) {
		info->format = checkpoint->reader->format;
		mspec_watch(checkpoint, path);
		code = checkpoint->reader->open(checkpoint, err);
		mspec_watch(checkpoint, NULL);
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

size_t mspec_tensor_count(const mspec_checkpoint *checkpoint)
{
	return checkpoint->count;
}

const mspec_tensor *mspec_tensor_at(const mspec_checkpoint *checkpoint, size_t index)
{
	return &checkpoint->entries[index].tensor;
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
