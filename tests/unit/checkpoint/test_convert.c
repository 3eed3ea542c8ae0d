/* Conversion between formats: the same bits under the same names, or an error. */
#include "unit/checkpoint/scratch.h"
#include "unit/unit.h"

#include "checkpoint/writer.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CORPUS "tests/fuzz/corpus/hdf5/"

static int convert(const char *from, const char *to, const char *format, muon_error *err)
{
	mspec_checkpoint *c = scratch_open(from);
	CU_ASSERT_PTR_NOT_NULL_FATAL(c);
	int code = mspec_convert(c, to, format, NULL, NULL, err);
	if (code && err && !err->code)
		CU_FAIL("no error recorded");
	mspec_close(&c);
	return code;
}

static char *contents(mspec_checkpoint *c, const mspec_tensor *t, size_t index, size_t *size)
{
	*size = (size_t)t->elements * muon_dtype_size(t->dtype);
	char *bytes = calloc(*size + 1, 1);
	CU_ASSERT_EQUAL(mspec_read(c, index, 0, t->elements, bytes, NULL), MUON_OK);
	return bytes;
}

static bool same_number(double a, double b)
{
	return a == b || (isnan(a) && isnan(b));
}

/* Both checkpoints hold the same tensors, in any order, and say the same of themselves. */
static void check_same(const char *path_a, const char *path_b)
{
	mspec_checkpoint *a = scratch_open(path_a), *b = scratch_open(path_b);
	CU_ASSERT_FATAL(a && b);
	const mspec_checkpoint_info *x = mspec_info(a), *y = mspec_info(b);
	CU_ASSERT_STRING_EQUAL(x->layout, y->layout);
	CU_ASSERT_STRING_EQUAL(x->optimizer ? x->optimizer : "", y->optimizer ? y->optimizer : "");
	CU_ASSERT(same_number(x->step, y->step) && same_number(x->lr, y->lr) &&
	          same_number(x->weight_decay, y->weight_decay) &&
	          same_number(x->tokens, y->tokens) && same_number(x->loss, y->loss));
	CU_ASSERT_EQUAL(mspec_tensor_count(a), mspec_tensor_count(b));
	for (size_t i = 0; i < mspec_tensor_count(a); i++) {
		const mspec_tensor *t = mspec_tensor_at(a, i);
		size_t j = scratch_find(b, t->name), size;
		if (j == SIZE_MAX)
			continue;
		const mspec_tensor *u = mspec_tensor_at(b, j);
		CU_ASSERT_EQUAL(t->dtype, u->dtype);
		CU_ASSERT_EQUAL(t->rank, u->rank);
		CU_ASSERT_EQUAL(t->role, u->role);
		CU_ASSERT_EQUAL(memcmp(t->dims, u->dims, (size_t)t->rank * sizeof *t->dims), 0);
		char *bytes = contents(a, t, i, &size);
		scratch_content(b, t->name, bytes, size);
		free(bytes);
	}
	mspec_close(&a);
	mspec_close(&b);
}

/* From HDF5 to safetensors to HDF5: each has what the first had. */
static void check_round_trip(const char *path)
{
	const char *st = scratch_path("there.safetensors"), *h5 = scratch_path("back.h5");
	muon_error err = {0};
	CU_ASSERT_EQUAL(convert(path, st, "safetensors", &err), MUON_OK);
	CU_ASSERT_EQUAL(convert(st, h5, "hdf5", &err), MUON_OK);
	if (err.code)
		fprintf(stderr, "%s: %s\n", err.where, err.message);
	check_same(path, st);
	check_same(path, h5);
}

static void test_round_trips(void)
{
	check_round_trip(CORPUS "plain.h5"); /* big-endian, empty, scalar, 32 dimensions */
	check_round_trip(CORPUS "muonspec.h5");
	check_round_trip(CORPUS "pytorch.h5");
	check_round_trip(CORPUS "keras1.h5");
	check_round_trip(CORPUS "keras2.h5");
	check_round_trip(CORPUS "keras3.h5");
	check_round_trip(CORPUS "converted.h5");
	check_round_trip(CORPUS "userblock.h5");
}

/* Every type, with every byte value: NaN of all kinds must keep their bits. */
static void test_all_types(void)
{
	static const int64_t shape[2] = {16, 16};
	unsigned char bytes[8 * 256];
	mspec_hdf5_writer *writer;
	const char *path = scratch_path("all.h5");
	CU_ASSERT_EQUAL_FATAL(mspec_hdf5_create(&writer, path, NULL), MUON_OK);
	for (int type = 0; type < MUON_DTYPE_COUNT; type++) {
		const char *name = muon_dtype_name((muon_dtype)type);
		size_t size = muon_dtype_size((muon_dtype)type);
		for (size_t i = 0; i < 256 * size; i++)
			bytes[i] = (unsigned char)(type == MUON_BOOL ? i % 2 : 255 - i / size);
		CU_ASSERT_EQUAL(mspec_hdf5_dataset(writer, name, (muon_dtype)type, 2, shape, NULL),
		                MUON_OK);
		CU_ASSERT_EQUAL(mspec_hdf5_append(writer, bytes, 256, NULL), MUON_OK);
	}
	CU_ASSERT_EQUAL(mspec_hdf5_attribute_number(writer, NULL, "lr", 1e-3 / 3, NULL), MUON_OK);
	CU_ASSERT_EQUAL(mspec_hdf5_finish(&writer, NULL), MUON_OK);
	check_round_trip(path);
}

typedef struct seen {
	double done, total;
	int calls;
	bool falls;
} seen;

static void watch_progress(void *state, double done, double total, const char *what)
{
	seen *s = state;
	s->falls |= done < s->done || done > total || !what;
	s->done = done;
	s->total = total;
	s->calls++;
}

/* More than one block, of a size that blocks don't divide. */
static void test_blocks(void)
{
	static const int64_t shape[3] = {3, 1000003, 2};
	enum { COUNT = 6000018 };
	float *values = malloc(COUNT * sizeof *values);
	mspec_hdf5_writer *writer;
	const char *path = scratch_path("long.h5"), *st = scratch_path("long.safetensors");
	for (int i = 0; i < COUNT; i++)
		values[i] = (float)i;
	CU_ASSERT_EQUAL_FATAL(mspec_hdf5_create(&writer, path, NULL), MUON_OK);
	CU_ASSERT_EQUAL(mspec_hdf5_dataset(writer, "w", MUON_F32, 3, shape, NULL), MUON_OK);
	CU_ASSERT_EQUAL(mspec_hdf5_append(writer, values, COUNT, NULL), MUON_OK);
	CU_ASSERT_EQUAL(mspec_hdf5_finish(&writer, NULL), MUON_OK);
	mspec_checkpoint *c = scratch_open(path);
	seen s = {0};
	CU_ASSERT_EQUAL(mspec_convert(c, st, "safetensors", watch_progress, &s, NULL), MUON_OK);
	CU_ASSERT(s.calls > 1 && !s.falls && s.done == s.total && s.total == 4.0 * COUNT);
	mspec_close(&c);
	CU_ASSERT_EQUAL(convert(st, path, "hdf5", NULL), MUON_OK);
	c = scratch_open(path);
	float *back = malloc(COUNT * sizeof *back);
	CU_ASSERT_EQUAL(mspec_read(c, scratch_find(c, "w"), 0, COUNT, back, NULL), MUON_OK);
	CU_ASSERT_EQUAL(memcmp(values, back, COUNT * sizeof *values), 0);
	mspec_close(&c);
	free(values);
	free(back);
}

/* A second name of a dataset becomes a dataset of its own. */
static void test_aliases(void)
{
	const char *from = scratch_path("aliases.h5"), *to = scratch_path("aliases.safetensors");
	char command[1200];
	snprintf(command, sizeof command,
	         "/usr/bin/python3 -c \"import h5py; f = h5py.File('%s', 'w'); "
	         "f['b/w'] = [1., 2.]; f['a'] = h5py.SoftLink('/b/w'); f['c'] = f['b/w']\" "
	         "2>/dev/null",
	         from);
	if (system(command)) {
		unit_skip("no h5py");
		return;
	}
	double values[2] = {1, 2};
	CU_ASSERT_EQUAL(convert(from, to, "safetensors", NULL), MUON_OK);
	mspec_checkpoint *c = scratch_open(to);
	CU_ASSERT_EQUAL(mspec_tensor_count(c), 3);
	scratch_content(c, "a", values, sizeof values);
	scratch_content(c, "b/w", values, sizeof values);
	scratch_content(c, "c", values, sizeof values);
	mspec_close(&c);
}

/* Conversion of the file must fail on this tensor with these words. */
static void check_refused(const char *from, const char *tensor, const char *words)
{
	muon_error err = {0};
	CU_ASSERT_NOT_EQUAL(convert(from, scratch_path("refused.h5"), "hdf5", &err), MUON_OK);
	CU_ASSERT_STRING_EQUAL(err.where, tensor);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.message, words));
	if (!strstr(err.message, words))
		fprintf(stderr, "%s: %s\n", err.where, err.message);
}

static void test_refusals(void)
{
	check_refused(CORPUS "others.h5", "absurd", "declares 4398046511104 bytes");
	check_refused(CORPUS "narrow.h5", "odd_bias", "not a number");
	check_refused(CORPUS "virtual.h5", "missing", "does not exist");
	muon_error err = {0};
	const char *to = scratch_path("refused.out");
	CU_ASSERT_EQUAL(convert(CORPUS "plain.h5", to, "gguf", &err), MUON_E_USAGE);
	err = (muon_error){0};
	to = scratch_path("no/such/folder");
	CU_ASSERT_EQUAL(convert(CORPUS "plain.h5", to, "hdf5", &err), MUON_E_WRITE);
	CU_ASSERT_EQUAL(convert(CORPUS "plain.h5", to, "safetensors", NULL), MUON_E_WRITE);
}

/* Names that safetensors allows and HDF5 does not. */
static void test_names(void)
{
	static const char header[] = "{\"a/./b\":{\"dtype\":\"U8\",\"shape\":[0],"
	                             "\"data_offsets\":[0,0]}}";
	unsigned char file[8 + sizeof header - 1] = {sizeof header - 1};
	const char *path = scratch_path("dots.safetensors");
	memcpy(file + 8, header, sizeof header - 1);
	scratch_write(path, file, sizeof file);
	check_refused(path, "a/./b", "HDF5 can't hold this name");
}

UNIT_SUITE(convert, {"round trips", test_round_trips}, {"all types", test_all_types},
           {"blocks", test_blocks}, {"aliases", test_aliases}, {"refusals", test_refusals},
           {"names", test_names})
