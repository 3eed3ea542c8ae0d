/* Checkpoints of a training. */
#include "base/memory.h"
#include "base/output.h"
#include "checkpoint/writer.h"

#include <muonspec/training.h>

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define STATE "optimizer/"
#define STEPS "optimizer_steps"

enum { MAX_NAME = 1024, BLOCK = 1 << 20 /* bytes copied at a time */ };

static int leave_together(muon_comm *comm, int code)
{
	return comm ? muon_comm_agree(comm, code) : code;
}

static bool is_writer(const mspec_training *training)
{
	return !training->comm || muon_comm_rank(training->comm) == 0;
}

/* ---- files that appear whole --------------------------------------------------------------- */

typedef struct new_file {
	const char *path;
	char *temporary;
	mspec_hdf5_writer *writer;
} new_file;

static int begin_file(new_file *file, const char *path, muon_error *err)
{
	*file = (new_file){.path = path, .temporary = muon_output_temporary(path, (long)getpid())};
	if (!file->temporary)
		return muon_fail(err, MUON_E_MEMORY, path, "out of memory");
	return mspec_hdf5_create(&file->writer, file->temporary, err);
}

/* The file is there after this, or nothing is, for a `code` that is no MUON_OK. */
static int end_file(new_file *file, int code, muon_error *err)
{
	if (!code)
		code = mspec_hdf5_finish(&file->writer, err);
	if (!code)
		code = muon_output_commit(file->temporary, file->path, err);
	mspec_hdf5_abandon(&file->writer);
	if (code && file->temporary)
		muon_output_discard(file->temporary, file->path);
	muon_free(file->temporary);
	return code;
}

static int put_tensor(mspec_hdf5_writer *writer, const char *name, muon_dtype dtype, int rank,
                      const int64_t *dims, const void *data, muon_error *err)
{
	int64_t count = 1;
	for (int i = 0; i < rank; i++)
		count *= dims[i];
	int code = mspec_hdf5_dataset(writer, name, dtype, rank, dims, err);
	return code ? code : mspec_hdf5_append(writer, data, count, err);
}

/* ---- saving -------------------------------------------------------------------------------- */

static int put_tensors(mspec_hdf5_writer *writer, const mspec_training *training, muon_error *err)
{
	int code = MUON_OK;
	for (size_t i = 0; i < training->tensor_count && !code; i++) {
		const mspec_training_tensor *t = &training->tensors[i];
		code = put_tensor(writer, t->name, t->dtype, t->rank, t->dims, t->data, err);
	}
	return code;
}

static int put_attributes(mspec_hdf5_writer *writer, const mspec_training *training,
                          muon_error *err)
{
	int code = mspec_hdf5_attribute_number(writer, NULL, "muonspec_format",
	                                       MSPEC_FORMAT_VERSION, err);
	for (size_t i = 0; i < training->number_count && !code; i++)
		code = mspec_hdf5_attribute_number(writer, NULL, training->numbers[i].name,
		                                   training->numbers[i].value, err);
	for (size_t i = 0; i < training->text_count && !code; i++)
		code = mspec_hdf5_attribute_text(writer, NULL, training->texts[i].name,
		                                 training->texts[i].value, err);
	if (!code && training->optimizer)
		code = mspec_hdf5_attribute_number(
		    writer, NULL, STEPS, (double)muon_optimizer_steps(training->optimizer), err);
	return code;
}

static int put_state(void *context, const muon_state_tensor *t, muon_error *err)
{
	char name[MAX_NAME];
	if (snprintf(name, sizeof name, STATE "%s", t->name) >= (int)sizeof name)
		return muon_fail(err, MUON_E_WRITE, t->name, "the name is too long");
	return put_tensor(context, name, t->dtype, t->rank, t->dims, t->data, err);
}

int mspec_training_save(const char *path, const mspec_training *training, muon_error *err)
{
	new_file file = {.path = path};
	int code = MUON_OK;
	if (is_writer(training)) {
		code = begin_file(&file, path, err);
		if (!code)
			code = put_attributes(file.writer, training, err);
		if (!code)
			code = put_tensors(file.writer, training, err);
	}
	code = leave_together(training->comm, code);
	if (!code && training->optimizer)
		code = muon_optimizer_save(training->optimizer, put_state, file.writer, err);
	if (is_writer(training))
		code = end_file(&file, code, err);
	return leave_together(training->comm, code);
}

/* ---- loading ------------------------------------------------------------------------------- */

/* The tensor `name` in whatever role, which must be of this type and shape; its data is read. */
static int get_tensor(mspec_checkpoint *checkpoint, const char *name, muon_dtype dtype, int rank,
                      const int64_t *dims, void *data, muon_error *err)
{
	size_t index = 0, count = mspec_tensor_count(checkpoint);
	while (index < count && strcmp(mspec_tensor_at(checkpoint, index)->name, name))
		index++;
	if (index == count)
		return muon_fail(err, MUON_E_FORMAT, name, "is missing from the checkpoint");
	const mspec_tensor *t = mspec_tensor_at(checkpoint, index);
	if (t->status)
		return muon_fail(err, t->status, name, "%s", t->problem);
	bool fits = t->rank == rank;
	for (int i = 0; fits && i < rank; i++)
		fits = t->dims[i] == dims[i];
	if (!fits)
		return muon_fail(err, MUON_E_FORMAT, name,
		                 "has another shape in the checkpoint");
	if (t->dtype != dtype)
		return muon_fail(err, MUON_E_FORMAT, name, "has type %s in the checkpoint, not %s",
		                 muon_dtype_name(t->dtype), muon_dtype_name(dtype));
	return mspec_read(checkpoint, index, 0, t->elements, data, err);
}

static int get_state(void *context, const muon_state_tensor *t, muon_error *err)
{
	char name[MAX_NAME];
	snprintf(name, sizeof name, STATE "%s", t->name);
	return get_tensor(context, name, t->dtype, t->rank, t->dims, t->data, err);
}

static bool has_state(const mspec_checkpoint *checkpoint)
{
	for (size_t i = 0; i < mspec_tensor_count(checkpoint); i++)
		if (mspec_tensor_at(checkpoint, i)->role == MSPEC_ROLE_OPTIMIZER)
			return true;
	return false;
}

/* What rank 0 does alone. */
static int read_file(mspec_checkpoint **checkpoint, const char *path,
                     const mspec_training *training, double *values, double *steps, muon_error *err)
{
	int code = mspec_open(checkpoint, path, NULL, err);
	for (size_t i = 0; i < training->tensor_count && !code; i++) {
		const mspec_training_tensor *t = &training->tensors[i];
		code = get_tensor(*checkpoint, t->name, t->dtype, t->rank, t->dims, t->data, err);
	}
	if (code)
		return code;
	for (size_t i = 0; i < training->number_count; i++)
		values[i] = mspec_attribute_number(*checkpoint, training->numbers[i].name);
	*steps = training->optimizer ? mspec_attribute_number(*checkpoint, STEPS) : 0;
	if (training->optimizer && !(has_state(*checkpoint) && *steps >= 0 && *steps < 0x1p53))
		return muon_fail(err, MUON_E_FORMAT, path, "holds no optimizer state");
	return MUON_OK;
}

static int copy_to_ranks(const mspec_training *training, double *values, double *steps,
                         muon_error *err)
{
	int code = muon_comm_broadcast(training->comm, steps, sizeof *steps, 0, err);
	if (!code && training->number_count)
		code = muon_comm_broadcast(training->comm, values,
		                           training->number_count * sizeof *values, 0, err);
	for (size_t i = 0; i < training->tensor_count && !code; i++) {
		const mspec_training_tensor *t = &training->tensors[i];
		size_t bytes = muon_dtype_size(t->dtype);
		for (int d = 0; d < t->rank; d++)
			bytes *= (size_t)t->dims[d];
		code = muon_comm_broadcast(training->comm, t->data, bytes, 0, err);
	}
	return code;
}

int mspec_training_load(const char *path, const mspec_training *training, double *values,
                        muon_error *err)
{
	mspec_checkpoint *checkpoint = NULL;
	double steps = 0;
	int code = MUON_OK;
	if (is_writer(training))
		code = read_file(&checkpoint, path, training, values, &steps, err);
	code = leave_together(training->comm, code);
	if (!code && training->comm)
		code = copy_to_ranks(training, values, &steps, err);
	if (!code && training->optimizer)
		code = muon_optimizer_load(training->optimizer, get_state, checkpoint,
		                           (int64_t)steps, err);
	mspec_close(&checkpoint);
	return leave_together(training->comm, code);
}

/* ---- stripping ----------------------------------------------------------------------------- */

static int copy_tensor(mspec_hdf5_writer *writer, mspec_checkpoint *from, size_t index, char *block,
                       muon_error *err)
{
	const mspec_tensor *t = mspec_tensor_at(from, index);
	if (t->status)
		return muon_fail(err, t->status, t->name, "%s", t->problem);
	int64_t most = BLOCK / (int64_t)muon_dtype_size(t->dtype);
	int code = mspec_hdf5_dataset(writer, t->name, t->dtype, t->rank, t->dims, err);
	for (int64_t first = 0, n; first < t->elements && !code; first += n) {
		n = t->elements - first < most ? t->elements - first : most;
		code = mspec_read(from, index, first, n, block, err);
		if (!code)
			code = mspec_hdf5_append(writer, block, n, err);
	}
	return code;
}

static int copy_without_state(mspec_checkpoint *from, const char *path, muon_error *err)
{
	new_file file;
	int code = begin_file(&file, path, err);
	char *block = muon_alloc(BLOCK, 1);
	if (!code && !block)
		code = muon_fail(err, MUON_E_MEMORY, path, "out of memory");
	if (!code)
		code = mspec_hdf5_copy_attributes(file.writer, from, err);
	for (size_t i = 0; i < mspec_tensor_count(from) && !code; i++)
		if (mspec_tensor_at(from, i)->role != MSPEC_ROLE_OPTIMIZER)
			code = copy_tensor(file.writer, from, i, block, err);
	muon_free(block);
	return end_file(&file, code, err);
}

int mspec_training_strip(const char *path, muon_error *err)
{
	mspec_checkpoint *from;
	int code = mspec_open(&from, path, NULL, err);
	if (!code && has_state(from))
		code = copy_without_state(from, path, err);
	mspec_close(&from);
	return code;
}
