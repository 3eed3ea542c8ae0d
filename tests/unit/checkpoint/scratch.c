#include "unit/checkpoint/scratch.h"

#include "unit/unit.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BUFFERS 8

static char folder[64];

static void remove_folder(void)
{
	char command[128];
	snprintf(command, sizeof command, "rm -rf '%s'", folder);
	if (system(command))
		fprintf(stderr, "could not remove %s\n", folder);
}

const char *scratch_path_in(const char *inner, const char *name)
{
	static char buffers[BUFFERS][512];
	static int turn;
	if (!*folder) {
		snprintf(folder, sizeof folder, "/tmp/muonspec-unit-XXXXXX");
		if (!mkdtemp(folder))
			abort();
		atexit(remove_folder);
	}
	char *path = buffers[turn++ % BUFFERS];
	snprintf(path, sizeof buffers[0], "%s/%s", folder, inner);
	if (*inner)
		mkdir(path, 0777);
	snprintf(path, sizeof buffers[0], "%s%s%s%s%s", folder, *inner ? "/" : "", inner,
	         *name ? "/" : "", name);
	return path;
}

const char *scratch_path(const char *name)
{
	return scratch_path_in("", name);
}

void scratch_write(const char *path, const void *bytes, size_t count)
{
	FILE *file = fopen(path, "wb");
	if (!file || fwrite(bytes, 1, count, file) != count || fclose(file))
		abort();
}

const char *scratch_shared(const char *name)
{
	static char path[1024];
	const char *data = getenv("MUONSPEC_TEST_DATA");
	snprintf(path, sizeof path, "%s/%s", data ? data : "../shared/data", name);
	if (!access(path, R_OK))
		return path;
	unit_skip("no shared/data");
	return NULL;
}

mspec_checkpoint *scratch_open(const char *path)
{
	mspec_checkpoint *checkpoint = NULL;
	muon_error err = {0};
	int code = mspec_open(&checkpoint, path, NULL, &err);
	CU_ASSERT_EQUAL(code, MUON_OK);
	CU_ASSERT_EQUAL(err.code, MUON_OK);
	if (code)
		printf("\n    %s: %s\n", err.where, err.message);
	return checkpoint;
}

void scratch_refuse(const char *path, int code, const char *text)
{
	mspec_checkpoint *checkpoint = NULL;
	muon_error err = {0};
	CU_ASSERT_EQUAL(mspec_open(&checkpoint, path, NULL, &err), code);
	CU_ASSERT_PTR_NULL(checkpoint);
	CU_ASSERT_EQUAL(err.code, code);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.message, text));
	if (!strstr(err.message, text))
		printf("\n    %s: \"%s\" has no \"%s\"\n", err.where, err.message, text);
	mspec_close(&checkpoint);
}

size_t scratch_find(const mspec_checkpoint *checkpoint, const char *name)
{
	for (size_t i = 0; i < mspec_tensor_count(checkpoint); i++)
		if (!strcmp(mspec_tensor_at(checkpoint, i)->name, name))
			return i;
	CU_FAIL("tensor is not listed");
	printf("\n    %s\n", name);
	return SIZE_MAX;
}

void scratch_problem(const mspec_checkpoint *checkpoint, const char *name, int status,
                     const char *text)
{
	size_t index = scratch_find(checkpoint, name);
	if (index == SIZE_MAX)
		return;
	const mspec_tensor *t = mspec_tensor_at(checkpoint, index);
	CU_ASSERT_EQUAL(t->status, status);
	bool told = t->problem && strstr(t->problem, text);
	CU_ASSERT_TRUE(told);
	if (!told)
		printf("\n    %s: \"%s\" has no \"%s\"\n", name, t->problem ? t->problem : "",
		       text);
}

void scratch_content(mspec_checkpoint *checkpoint, const char *name, const void *bytes,
                     size_t count)
{
	size_t index = scratch_find(checkpoint, name);
	if (index == SIZE_MAX)
		return;
	const mspec_tensor *t = mspec_tensor_at(checkpoint, index);
	size_t size = muon_dtype_size(t->dtype);
	CU_ASSERT_EQUAL(t->status, MUON_OK);
	CU_ASSERT_EQUAL(t->elements * (int64_t)size, (int64_t)count);
	if (t->elements * (int64_t)size != (int64_t)count)
		return;
	char *whole = malloc(count + 1), *pieces = malloc(count + 1);
	muon_error err = {0};
	CU_ASSERT_EQUAL(mspec_read(checkpoint, index, 0, t->elements, whole, &err), MUON_OK);
	CU_ASSERT_EQUAL(memcmp(whole, bytes, count), 0);
	for (int64_t i = t->elements; i-- > 0;)
		CU_ASSERT_EQUAL(
		    mspec_read(checkpoint, index, i, 1, pieces + i * (int64_t)size, &err), MUON_OK);
	CU_ASSERT_EQUAL(memcmp(pieces, bytes, count), 0);
	free(whole);
	free(pieces);
}

double scratch_weighted_sum(mspec_checkpoint *checkpoint, size_t index)
{
	const mspec_tensor *t = mspec_tensor_at(checkpoint, index);
	size_t count = (size_t)t->elements;
	char *raw = malloc(count * muon_dtype_size(t->dtype) + 1);
	double *values = malloc((count + 1) * sizeof *values), sum = 0;
	CU_ASSERT_EQUAL(mspec_read(checkpoint, index, 0, t->elements, raw, NULL), MUON_OK);
	CU_ASSERT_EQUAL(muon_convert_f64(t->dtype, raw, count, values), MUON_OK);
	for (size_t i = 0; i < count; i++)
		sum += (double)(i + 1) * values[i];
	free(raw);
	free(values);
	return sum;
}

static int open_and_read(const char *path, muon_error *err)
{
	mspec_checkpoint *checkpoint;
	int code = mspec_open(&checkpoint, path, NULL, err);
	char buffer[4096];
	for (size_t i = 0; !code && i < mspec_tensor_count(checkpoint); i++) {
		const mspec_tensor *t = mspec_tensor_at(checkpoint, i);
		if (!t->status && t->dtype != MUON_DTYPE_NONE &&
		    t->elements * (int64_t)muon_dtype_size(t->dtype) <= (int64_t)sizeof buffer)
			code = mspec_read(checkpoint, i, 0, t->elements, buffer, err);
	}
	mspec_close(&checkpoint);
	return code;
}

void scratch_exhaust_memory(const char *path)
{
	int left = 0, code = MUON_E_MEMORY;
	const muon_allocator allocator = unit_failing_allocator(&left);
	for (int k = 0; k < 1000 && code; k++) {
		muon_error err = {0};
		left = k;
		muon_set_allocator(&allocator);
		code = open_and_read(path, &err);
		muon_set_allocator(NULL);
		CU_ASSERT_TRUE(code == MUON_OK || code == MUON_E_MEMORY);
		CU_ASSERT_EQUAL(err.code, code);
	}
	CU_ASSERT_EQUAL(code, MUON_OK);
}
