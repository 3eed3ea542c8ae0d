/* Writing safetensors: the header comes before any data, so all tensors are declared first. */
#include "base/text.h"
#include "checkpoint/reader.h"
#include "checkpoint/safetensors.h"
#include "checkpoint/writer.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct mspec_safetensors_writer {
	FILE *file;
	char *path;
	int64_t declared, written; /* bytes of data */
};

/* Set a member whose key comes from outside; `value` is taken over. */
static int set_member(json_t *object, const char *key, json_t *value, const char *path,
                      muon_error *err)
{
	char escaped[128];
	muon_escape(escaped, sizeof escaped, key);
	if (json_object_get(object, key)) {
		json_decref(value);
		return muon_fail(err, MUON_E_WRITE, path, "%s would be written twice", escaped);
	}
	if (json_object_set_new(object, key, value))
		return muon_fail(err, MUON_E_WRITE, path, "%s or its value is not valid UTF-8",
		                 escaped);
	return MUON_OK;
}

static int describe_metadata(json_t *header, const char *const *metadata, const char *path,
                             muon_error *err)
{
	json_t *object = json_object();
	if (json_object_set_new(header, "__metadata__", object))
		return mspec_out_of_memory(path, err);
	int code = MUON_OK;
	for (size_t i = 0; metadata[i] && !code; i += 2)
		code = set_member(object, metadata[i], json_string(metadata[i + 1]), path, err);
	return code;
}

/* Bytes of a tensor's data; -1 if there can't be any such tensor. */
static int64_t data_bytes(const mspec_declared *tensor)
{
	if (tensor->dtype < 0 || tensor->dtype >= MUON_DTYPE_NONE || tensor->rank < 0)
		return -1;
	int64_t size = (int64_t)muon_dtype_size(tensor->dtype);
	int64_t elements = mspec_count_elements(tensor->rank, tensor->dims, (size_t)size);
	return elements < 0 ? -1 : elements * size;
}

static int describe_tensor(json_t *header, const mspec_declared *tensor, int64_t *declared,
                           const char *path, muon_error *err)
{
	int64_t bytes = data_bytes(tensor), end;
	if (!strcmp(tensor->name, "__metadata__"))
		return muon_fail(err, MUON_E_WRITE, path,
		                 "a tensor can't be called __metadata__ in safetensors");
	if (bytes < 0 || __builtin_add_overflow(*declared, bytes, &end))
		return muon_fail(err, MUON_E_ARGUMENT, tensor->name, "impossible type or size");
	json_t *shape = json_array();
	for (int i = 0; i < tensor->rank; i++)
		if (json_array_append_new(shape, json_integer(tensor->dims[i]))) {
			json_decref(shape);
			return mspec_out_of_memory(path, err);
		}
	json_t *entry =
	    json_pack("{s:s, s:o, s:[I, I]}", "dtype", mspec_safetensors_types[tensor->dtype],
	              "shape", shape, "data_offsets", (json_int_t)*declared, (json_int_t)end);
	if (!entry)
		return mspec_out_of_memory(path, err);
	*declared = end;
	return set_member(header, tensor->name, entry, path, err);
}

/* Header length and header, padded with spaces so that the data is aligned. */
static int write_header(mspec_safetensors_writer *writer, const json_t *header, muon_error *err)
{
	size_t length = json_dumpb(header, NULL, 0, JSON_COMPACT);
	size_t padded = (length + 7) / 8 * 8;
	if (!length || padded > MSPEC_SAFETENSORS_MAX_HEADER)
		return muon_fail(err, MUON_E_WRITE, writer->path,
		                 "too many or too long names for a safetensors header");
	char *bytes = muon_alloc(8 + padded, 1);
	if (!bytes)
		return mspec_out_of_memory(writer->path, err);
	for (int i = 0; i < 8; i++)
		bytes[i] = (char)((uint64_t)padded >> 8 * i & 0xff);
	memset(bytes + 8, ' ', padded);
	json_dumpb(header, bytes + 8, length, JSON_COMPACT);
	bool failed = fwrite(bytes, 1, 8 + padded, writer->file) != 8 + padded;
	int reason = errno;
	muon_free(bytes);
	return failed ? muon_fail(err, MUON_E_WRITE, writer->path, "%s", strerror(reason))
	              : MUON_OK;
}

static int open_output(mspec_safetensors_writer *writer, const char *path, muon_error *err)
{
	size_t length = strlen(path) + 1;
	writer->path = muon_alloc(length, 1);
	if (!writer->path)
		return mspec_out_of_memory(path, err);
	memcpy(writer->path, path, length);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (fd < 0)
		return muon_fail(err, MUON_E_WRITE, path, "%s", strerror(errno));
	writer->file = fdopen(fd, "wb");
	if (!writer->file) {
		close(fd);
		return mspec_out_of_memory(path, err);
	}
	return MUON_OK;
}

int mspec_safetensors_create(mspec_safetensors_writer **out, const char *path,
                             const mspec_declared *tensors, size_t count,
                             const char *const *metadata, muon_error *err)
{
	*out = NULL;
	json_t *header = json_object();
	mspec_safetensors_writer *writer = muon_alloc(1, sizeof *writer);
	int code = header && writer ? MUON_OK : mspec_out_of_memory(path, err);
	if (!code && metadata && *metadata)
		code = describe_metadata(header, metadata, path, err);
	for (size_t i = 0; i < count && !code; i++)
		code = describe_tensor(header, &tensors[i], &writer->declared, path, err);
	if (!code)
		code = open_output(writer, path, err);
	if (!code)
		code = write_header(writer, header, err);
	json_decref(header);
	if (code)
		mspec_safetensors_abandon(&writer);
	*out = writer;
	return code;
}

int mspec_safetensors_append(mspec_safetensors_writer *writer, const void *bytes, size_t count,
                             muon_error *err)
{
	if (count > (uint64_t)(writer->declared - writer->written))
		return muon_fail(err, MUON_E_ARGUMENT, writer->path, "more data than was declared");
	if (count && fwrite(bytes, 1, count, writer->file) != count)
		return muon_fail(err, MUON_E_WRITE, writer->path, "%s", strerror(errno));
	writer->written += (int64_t)count;
	return MUON_OK;
}

int mspec_safetensors_finish(mspec_safetensors_writer **writer, muon_error *err)
{
	mspec_safetensors_writer *w = *writer;
	int code = MUON_OK;
	if (w->written != w->declared)
		code = muon_fail(err, MUON_E_ARGUMENT, w->path, "less data than was declared");
	FILE *file = w->file;
	w->file = NULL;
	if (fclose(file) && !code) /* what was buffered is written only now */
		code = muon_fail(err, MUON_E_WRITE, w->path, "%s", strerror(errno));
	mspec_safetensors_abandon(writer);
	return code;
}

void mspec_safetensors_abandon(mspec_safetensors_writer **writer)
{
	mspec_safetensors_writer *w = *writer;
	*writer = NULL;
	if (!w)
		return;
	if (w->file)
		fclose(w->file);
	muon_free(w->path);
	muon_free(w);
}
