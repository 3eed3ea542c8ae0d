/* The HDF5 reader, on files that h5py made (tests/fuzz/make_hdf5_corpus.py says how) and on real
 * ones. */
#include "base/random.h"
#include "checkpoint/reader.h"
#include "unit/checkpoint/scratch.h"
#include "unit/unit.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define CORPUS "tests/fuzz/corpus/hdf5/"

static mspec_checkpoint *open_corpus(const char *name)
{
	char path[256];
	snprintf(path, sizeof path, CORPUS "%s", name);
	mspec_checkpoint *checkpoint = scratch_open(path);
	CU_ASSERT_PTR_NOT_NULL_FATAL(checkpoint);
	return checkpoint;
}

static size_t find(const mspec_checkpoint *checkpoint, const char *name)
{
	size_t index = scratch_find(checkpoint, name);
	CU_ASSERT_FATAL(index < mspec_tensor_count(checkpoint));
	return index;
}

static const mspec_tensor *tensor(const mspec_checkpoint *checkpoint, const char *name)
{
	return mspec_tensor_at(checkpoint, find(checkpoint, name));
}

/* Elements [first, first + count), as float64. */
static void read_f64(mspec_checkpoint *checkpoint, size_t index, int64_t first, int64_t count,
                     double *values)
{
	const mspec_tensor *t = mspec_tensor_at(checkpoint, index);
	char bytes[8 * 1024];
	muon_error err = {0};
	CU_ASSERT_FATAL((size_t)count * muon_dtype_size(t->dtype) <= sizeof bytes);
	CU_ASSERT_EQUAL(mspec_read(checkpoint, index, first, count, bytes, &err), MUON_OK);
	if (err.code)
		fprintf(stderr, "%s: %s\n", err.where, err.message);
	muon_convert_f64(t->dtype, bytes, (size_t)count, values);
}

/* What make_hdf5_corpus.py puts into element i. */
static double expected(muon_dtype dtype, int64_t i)
{
	bool without_sign = dtype == MUON_U8 || dtype == MUON_U16 || dtype == MUON_U32 ||
	                    dtype == MUON_U64;
	int64_t value = 7 * i % 31 - (without_sign ? 0 : 15);
	return dtype == MUON_BOOL ? (double)(i % 2) : (double)value;
}

static void check_values(mspec_checkpoint *checkpoint, const char *name, muon_dtype dtype)
{
	double values[1024];
	size_t index = find(checkpoint, name);
	const mspec_tensor *t = mspec_tensor_at(checkpoint, index);
	int wrong = 0;
	CU_ASSERT_EQUAL(t->status, MUON_OK);
	CU_ASSERT_EQUAL(t->dtype, dtype);
	if (t->status || t->dtype != dtype) {
		fprintf(stderr, "%s is %s, %s\n", name, t->type_name, t->problem);
		return;
	}
	read_f64(checkpoint, index, 0, t->elements, values);
	for (int64_t i = 0; i < t->elements; i++)
		wrong += values[i] != expected(dtype, i);
	CU_ASSERT_EQUAL(wrong, 0);
}

static void test_numbers(void)
{
	static const struct {
		const char *name;
		muon_dtype dtype;
	} types[] = {{"f8", MUON_F64}, {"f4", MUON_F32}, {"f2", MUON_F16}, {"i8", MUON_I64},
	             {"i4", MUON_I32}, {"i2", MUON_I16}, {"i1", MUON_I8},  {"u8", MUON_U64},
	             {"u4", MUON_U32}, {"u2", MUON_U16}, {"u1", MUON_U8}};
	mspec_checkpoint *c = open_corpus("plain.h5");
	for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
		char name[16];
		snprintf(name, sizeof name, "le/%s", types[i].name);
		check_values(c, name, types[i].dtype);
		snprintf(name, sizeof name, "be/%s", types[i].name);
		check_values(c, name, types[i].dtype);
	}
	check_values(c, "bool", MUON_BOOL);
	check_values(c, "scalar", MUON_F32);
	check_values(c, "empty", MUON_F32);
	check_values(c, "rank32", MUON_F32);
	CU_ASSERT_EQUAL(tensor(c, "scalar")->rank, 0);
	CU_ASSERT_EQUAL(tensor(c, "scalar")->elements, 1);
	CU_ASSERT_EQUAL(tensor(c, "empty")->elements, 0);
	CU_ASSERT_EQUAL(tensor(c, "rank32")->dims[31], 3);
	CU_ASSERT_EQUAL(mspec_tensor_count(c), 26);
	CU_ASSERT_STRING_EQUAL(tensor(c, "be/f4")->type_name, "float32 big-endian");
	mspec_close(&c);
}

static void test_narrow_floats(void)
{
	mspec_checkpoint *c = open_corpus("narrow.h5");
	check_values(c, "bf16", MUON_BF16);
	check_values(c, "bf16_be", MUON_BF16);
	check_values(c, "opaque_labelled", MUON_BF16);
	check_values(c, "uint16_labelled", MUON_BF16);
	check_values(c, "uint16_be_labelled", MUON_BF16);
	check_values(c, "f4_labelled", MUON_F32); /* a real type is believed, not the label */
	CU_ASSERT_EQUAL(tensor(c, "opaque")->dtype, MUON_DTYPE_NONE);
	CU_ASSERT_EQUAL(tensor(c, "odd_bias")->dtype, MUON_DTYPE_NONE);
	CU_ASSERT_EQUAL(tensor(c, "uint16")->dtype, MUON_U16);
	CU_ASSERT_EQUAL(tensor(c, "uint16_mislabelled")->dtype, MUON_U16);
	CU_ASSERT_EQUAL(tensor(c, "e4m3_labelled")->dtype, MUON_F8_E4M3);
	CU_ASSERT_EQUAL(tensor(c, "e5m2_labelled")->dtype, MUON_F8_E5M2);
	CU_ASSERT_EQUAL(tensor(c, "e5m2")->dtype, MUON_F8_E5M2);
	unsigned char bytes[256];
	CU_ASSERT_EQUAL(mspec_read(c, find(c, "e4m3_labelled"), 0, 256, bytes, NULL), MUON_OK);
	for (int i = 0; i < 256; i++)
		CU_ASSERT_EQUAL(bytes[i], i);
	mspec_close(&c);
}

static void test_not_numbers(void)
{
	static const struct {
		const char *name, *type;
	} others[] = {{"string", "string"},       {"text", "string"},
	              {"complex", "compound"},    {"enum", "enum"},
	              {"vlen", "vlen"},           {"reference", "reference"},
	              {"opaque21", "opaque(21)"}, {"array", "array"},
	              {"bitfield", "bitfield"},   {"longdouble", "float80 in 16 bytes"},
	              {"int17", "int17 in 4 bytes"}};
	mspec_checkpoint *c = open_corpus("others.h5");
	for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
		const mspec_tensor *t = tensor(c, others[i].name);
		CU_ASSERT_EQUAL(t->dtype, MUON_DTYPE_NONE);
		CU_ASSERT_EQUAL(t->status, MUON_OK);
		CU_ASSERT_STRING_EQUAL(t->type_name, others[i].type);
	}
	scratch_problem(c, "null", MUON_E_FORMAT, "null dataspace");
	CU_ASSERT_EQUAL(tensor(c, "null")->elements, 0);
	scratch_problem(c, "unwritten", MUON_E_READ, "never written");
	scratch_problem(c, "unwritten_chunks", MUON_E_READ, "never written");
	scratch_problem(c, "huge", MUON_E_TOO_LARGE, "impossible size");
	scratch_problem(c, "absurd", MUON_E_READ, "declares 4398046511104 bytes, file holds 15800");
	mspec_close(&c);
}

/* Random ranges of datasets that libhdf5 must read, and of one that it need not. */
static void test_ranges(void)
{
	static const char *const names[] = {"gzip", "fletcher32", "plain", "compact"};
	mspec_checkpoint *c = open_corpus("chunked.h5");
	muon_random random;
	muon_random_seed(&random, 1);
	for (size_t n = 0; n < sizeof names / sizeof *names; n++) {
		size_t index = find(c, names[n]);
		int64_t elements = mspec_tensor_at(c, index)->elements;
		check_values(c, names[n], MUON_F32);
		for (int trial = 0; trial < 60; trial++) {
			double values[1024];
			int wrong = 0;
			int64_t first = (int64_t)(muon_random_bits(&random) % (uint64_t)elements);
			int64_t count = 1 + (int64_t)(muon_random_bits(&random) %
			                              (uint64_t)(elements - first));
			read_f64(c, index, first, count, values);
			for (int64_t i = 0; i < count; i++)
				wrong += values[i] != expected(MUON_F32, first + i);
			CU_ASSERT_EQUAL(wrong, 0);
		}
	}
	char byte[8];
	CU_ASSERT_EQUAL(mspec_read(c, find(c, "gzip"), 210, 1, byte, NULL), MUON_E_ARGUMENT);
	CU_ASSERT_EQUAL(mspec_read(c, find(c, "gzip"), -1, 1, byte, NULL), MUON_E_ARGUMENT);
	CU_ASSERT_EQUAL(mspec_read(c, find(c, "lzf"), 0, 1, byte, NULL), MUON_E_READ);
	mspec_close(&c);
}

static void test_storage(void)
{
	mspec_checkpoint *c = open_corpus("chunked.h5");
	double values[16];
	scratch_problem(c, "lzf", MUON_E_READ, "filter 32000 (lzf) is not available");
	scratch_problem(c, "wide_chunks", MUON_E_READ, "in chunks of 1073741824");
	/* chunks that were never written hold the fill value, by HDF5's own rule */
	read_f64(c, find(c, "sparse"), 0, 16, values);
	for (int i = 0; i < 16; i++)
		CU_ASSERT_EQUAL(values[i], i < 4 ? expected(MUON_F32, i) : 9);
	mspec_close(&c);

	c = open_corpus("userblock.h5");
	check_values(c, "w", MUON_F32);
	check_values(c, "c", MUON_F32);
	mspec_close(&c);

	c = open_corpus("latest.h5");
	CU_ASSERT_EQUAL(mspec_tensor_count(c), 21);
	CU_ASSERT_STRING_EQUAL(mspec_tensor_at(c, 3)->name, "dense_group/w2"); /* before w10 */
	check_values(c, "c", MUON_F32);
	mspec_close(&c);

	c = open_corpus("lying.h5");
	scratch_problem(c, "w", MUON_E_READ, "declares 12264 bytes, stores 12252");
	mspec_close(&c);
	c = open_corpus("lying_twice.h5");
	scratch_problem(c, "w", MUON_E_READ, "file holds 14300");
	mspec_close(&c);
}

static void test_data_elsewhere(void)
{
	mspec_checkpoint *c = open_corpus("external.h5");
	double values[24];
	read_f64(c, find(c, "good"), 0, 12, values);
	for (int i = 0; i < 12; i++)
		CU_ASSERT_EQUAL(values[i], expected(MUON_F32, i + 2));
	scratch_problem(c, "short", MUON_E_READ, "declares 48 bytes, its data files hold 40");
	scratch_problem(c, "outside", MUON_E_READ, "outside.raw");
	mspec_close(&c);

	c = open_corpus("virtual.h5");
	read_f64(c, find(c, "good"), 0, 24, values);
	for (int i = 0; i < 24; i++)
		CU_ASSERT_EQUAL(values[i], expected(MUON_F32, i % 12));
	scratch_problem(c, "missing", MUON_E_READ, "'none.h5' does not exist");
	scratch_problem(c, "no_source", MUON_E_READ, "'none' is missing");
	scratch_problem(c, "outside", MUON_E_READ, "outside.h5");
	scratch_problem(c, "nested", MUON_E_READ, "elsewhere");
	mspec_close(&c);
}

/* A second name of "a_hard": readable, and skipped by views for this reason. */
static void check_alias(mspec_checkpoint *c, const char *name, const char *reason)
{
	size_t index = find(c, name);
	CU_ASSERT_STRING_EQUAL(tensor(c, name)->alias_of, "a_hard");
	CU_ASSERT_EQUAL(tensor(c, name)->status, MUON_OK);
	CU_ASSERT_PTR_NULL(tensor(c, name)->problem);
	check_values(c, name, MUON_F32);
	mspec_views views;
	CU_ASSERT_EQUAL_FATAL(mspec_views_create(&views, c, NULL, NULL), MUON_OK);
	bool skipped = false;
	for (size_t i = 0; i < views.skipped_count; i++)
		skipped |= views.skipped[i].tensor == index &&
		           !strcmp(views.skipped[i].reason, reason);
	CU_ASSERT_TRUE(skipped);
	for (size_t i = 0; i < views.count; i++)
		CU_ASSERT_NOT_EQUAL(views.matrices[i].tensor, index);
	mspec_views_destroy(&views);
}

static void test_links(void)
{
	mspec_checkpoint *c = open_corpus("links.h5");
	check_values(c, "a_hard", MUON_F32);
	check_alias(c, "z/w", "hard link to 'a_hard'");
	check_alias(c, "a_soft", "soft link to 'a_hard'");
	CU_ASSERT_PTR_NULL(tensor(c, "a_hard")->alias_of);
	scratch_problem(c, "dangling", MUON_E_READ, "'/z/none'");
	scratch_problem(c, "circle", MUON_E_READ, "'/circle'");
	scratch_problem(c, "through", MUON_E_READ, "'/outside'");
	scratch_problem(c, "outside", MUON_E_READ, "'../outside.h5'");
	scratch_problem(c, "missing", MUON_E_READ, "does not exist");
	check_values(c, "inside/f2", MUON_F16);
	check_values(c, "inside/u8", MUON_U64);
	check_values(c, "inside_one", MUON_F32);
	scratch_problem(c, "typed", MUON_E_FORMAT, "null dataspace");
	CU_ASSERT_EQUAL(tensor(c, "odd\n\u202ename")->status, MUON_OK);
	int deep = 0;
	for (size_t i = 0; i < mspec_tensor_count(c); i++) {
		const mspec_tensor *t = mspec_tensor_at(c, i);
		deep += t->problem && strstr(t->problem, "nested too deeply");
	}
	CU_ASSERT_EQUAL(deep, 1);
	CU_ASSERT_EQUAL(mspec_tensor_count(c), 23);
	mspec_close(&c);
}

static void copy_corpus(const char *name, const char *to)
{
	char path[256], bytes[1 << 17];
	snprintf(path, sizeof path, CORPUS "%s", name);
	FILE *file = fopen(path, "rb");
	CU_ASSERT_PTR_NOT_NULL_FATAL(file);
	scratch_write(to, bytes, fread(bytes, 1, sizeof bytes, file));
	fclose(file);
}

/* Files outside the checkpoint's folder exist now, and one is linked to from inside. */
static void test_folder_is_a_border(void)
{
	static const struct {
		const char *file, *tensor, *words;
	} cases[] = {
	    {"links.h5", "outside", "is outside the checkpoint's folder"},
	    {"links.h5", "inside_one", "is outside the checkpoint's folder"},
	    {"links.h5", "through", "can't be opened here"},
	    {"virtual.h5", "outside", "is outside the checkpoint's folder"},
	    {"virtual.h5", "good", "is outside the checkpoint's folder"},
	    {"external.h5", "outside", "is outside the checkpoint's folder"},
	};
	copy_corpus("plain.h5", scratch_path("outside.h5"));
	copy_corpus("external.raw", scratch_path("outside.raw"));
	CU_ASSERT_EQUAL(symlink("../outside.h5", scratch_path_in("border", "plain.h5")), 0);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		const char *path = scratch_path_in("border", cases[i].file);
		copy_corpus(cases[i].file, path);
		mspec_checkpoint *c = scratch_open(path);
		CU_ASSERT_PTR_NOT_NULL_FATAL(c);
		scratch_problem(c, cases[i].tensor, MUON_E_READ, cases[i].words);
		mspec_close(&c);
	}
}

static void check_order(const mspec_checkpoint *c, const char *const *names)
{
	for (size_t i = 0; names[i]; i++) {
		CU_ASSERT_FATAL(i < mspec_tensor_count(c));
		CU_ASSERT_STRING_EQUAL(mspec_tensor_at(c, i)->name, names[i]);
	}
}

static void test_keras(void)
{
	mspec_checkpoint *c = open_corpus("keras2.h5");
	static const char *const keras2[] = {
	    "model_weights/dense_2/dense_2/bias:0",     "model_weights/dense_2/dense_2/kernel:0",
	    "model_weights/dense_10/dense_10/bias:0",   "model_weights/dense_10/dense_10/kernel:0",
	    "model_weights/block/conv/block/conv/bias:0",
	    "model_weights/block/conv/block/conv/kernel:0",
	    "model_weights/dense_1/dense_1/bias:0",     "model_weights/dense_1/dense_1/kernel:0",
	    "optimizer_weights/training/Adam/Variable:0", NULL};
	CU_ASSERT_STRING_EQUAL(mspec_info(c)->layout, "keras2");
	check_order(c, keras2);
	for (size_t i = 0; i < mspec_tensor_count(c); i++)
		CU_ASSERT_EQUAL(mspec_tensor_at(c, i)->role,
		                i < 8 ? MSPEC_ROLE_PARAMETER : MSPEC_ROLE_OPTIMIZER);
	mspec_close(&c);

	c = open_corpus("keras1.h5");
	static const char *const keras1[] = {"convolution2d_2/convolution2d_2_W",
	                                     "convolution2d_1/convolution2d_1_W", NULL};
	CU_ASSERT_STRING_EQUAL(mspec_info(c)->layout, "keras1");
	check_order(c, keras1);
	mspec_close(&c);

	c = open_corpus("keras3.h5");
	CU_ASSERT_STRING_EQUAL(mspec_info(c)->layout, "keras3");
	CU_ASSERT_STRING_EQUAL(mspec_tensor_at(c, 10)->name, "layers/dense/vars/10");
	CU_ASSERT_EQUAL(tensor(c, "optimizer/vars/1")->role, MSPEC_ROLE_OPTIMIZER);
	CU_ASSERT_EQUAL(tensor(c, "layers/lstm/cell/vars/0")->role, MSPEC_ROLE_PARAMETER);
	mspec_close(&c);
}

static void test_info(void)
{
	mspec_checkpoint *c = open_corpus("muonspec.h5");
	const mspec_checkpoint_info *info = mspec_info(c);
	static const char *const names[] = {"activations/output_rms", "blocks.2.attn.q.weight",
	                                    "blocks.10.attn.q.weight",
	                                    "optimizer/momentum/blocks.2.attn.q.weight", NULL};
	CU_ASSERT_STRING_EQUAL(info->format, "hdf5");
	CU_ASSERT_STRING_EQUAL(info->layout, "muonspec");
	CU_ASSERT_STRING_EQUAL(info->optimizer, "muon");
	CU_ASSERT_EQUAL(info->step, 200);
	CU_ASSERT_EQUAL(info->lr, 0.5);
	CU_ASSERT_EQUAL(info->weight_decay, 0.125);
	CU_ASSERT_EQUAL(info->tokens, 1e12);
	CU_ASSERT(isnan(info->loss)); /* a string */
	check_order(c, names);
	CU_ASSERT_EQUAL(mspec_tensor_at(c, 0)->role, MSPEC_ROLE_ACTIVATION);
	CU_ASSERT_EQUAL(mspec_tensor_at(c, 1)->role, MSPEC_ROLE_PARAMETER);
	CU_ASSERT_EQUAL(mspec_tensor_at(c, 3)->role, MSPEC_ROLE_OPTIMIZER);
	mspec_close(&c);

	c = open_corpus("pytorch.h5");
	CU_ASSERT_STRING_EQUAL(mspec_info(c)->layout, "pytorch");
	CU_ASSERT_PTR_NULL(mspec_info(c)->optimizer);
	CU_ASSERT(isnan(mspec_info(c)->step)); /* three numbers */
	CU_ASSERT_EQUAL(tensor(c, "optimizer.state.0.exp_avg")->role, MSPEC_ROLE_OPTIMIZER);
	mspec_close(&c);

	c = open_corpus("converted.h5");
	CU_ASSERT_STRING_EQUAL(mspec_info(c)->layout, "keras2");
	mspec_close(&c);
	c = open_corpus("plain.h5");
	CU_ASSERT_STRING_EQUAL(mspec_info(c)->layout, "custom");
	mspec_close(&c);
}

static void test_unreadable_files(void)
{
	scratch_refuse(CORPUS "truncated.h5", MUON_E_READ, "truncated file: eof = 1500");
	scratch_refuse(CORPUS "writing.h5", MUON_E_READ, "h5clear -s");
	scratch_refuse(CORPUS "no_root.h5", MUON_E_READ, "bad object header");
}

static void test_memory_limit(void)
{
	mspec_checkpoint *c;
	mspec_open_options options = {.max_tensor_bytes = 500};
	CU_ASSERT_EQUAL_FATAL(mspec_open(&c, CORPUS "chunked.h5", &options, NULL), MUON_OK);
	CU_ASSERT_EQUAL(tensor(c, "gzip")->status, MUON_E_TOO_LARGE); /* 840 bytes */
	CU_ASSERT_EQUAL(tensor(c, "compact")->status, MUON_OK);
	mspec_close(&c);
}

static void test_out_of_memory(void)
{
	scratch_exhaust_memory(CORPUS "links.h5");
	scratch_exhaust_memory(CORPUS "keras2.h5");
	scratch_exhaust_memory(CORPUS "virtual.h5");
}

/* Sum and sum of squares of elements that h5py 3.7 read from files in ../shared/data. */
static void test_real_files(void)
{
	static const struct {
		const char *file, *tensor;
		int64_t elements;
		double sum, sum_of_squares;
	} cases[] = {
	    {"hdf5/textgenrnn_weights.hdf5", "output/output/kernel:0", 165540,
	     -6607.7066999624976, 210173.19090578507},
	    {"hdf5/random_minimodel_policy_weights.hdf5", "convolution2d_1/convolution2d_1_W", 4800,
	     2.4805828025212122, 3.9481923643888859},
	    {"odd/hdf5/twithub513.h5", "g1/g1.1/dset1.1.1", 100, 2025, 81225},
	    {"odd/hdf5/be_data.h5", "Deflate_float_data_be", 42, 58.799999564886093,
	     196.37333377758674},
	    {"odd/hdf5/h5repack_szip.h5", "dset_szip", 800, 319600, 170346800},
	    {"odd/jhdf/implicit_index_datasets.hdf5", "implicit_index_mismatch", 50, 1225, 40425},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		const char *path = scratch_shared(cases[i].file);
		if (!path)
			return;
		mspec_checkpoint *c = scratch_open(path);
		CU_ASSERT_PTR_NOT_NULL_FATAL(c);
		size_t index = find(c, cases[i].tensor);
		const mspec_tensor *t = mspec_tensor_at(c, index);
		CU_ASSERT_EQUAL_FATAL(t->elements, cases[i].elements);
		double sum = 0, sum_of_squares = 0, values[1000];
		for (int64_t first = 0, count; first < t->elements; first += count) {
			count = t->elements - first < 1000 ? t->elements - first : 1000;
			read_f64(c, index, first, count, values);
			for (int64_t k = 0; k < count; k++) {
				sum += values[k];
				sum_of_squares += values[k] * values[k];
			}
		}
		UNIT_CLOSE(sum, cases[i].sum, 1e-11);
		UNIT_CLOSE(sum_of_squares, cases[i].sum_of_squares, 1e-12);
		mspec_close(&c);
	}
}

UNIT_SUITE(hdf5, {"numbers of every type", test_numbers}, {"narrow floats", test_narrow_floats},
           {"what is not a number", test_not_numbers}, {"ranges", test_ranges},
           {"storage", test_storage}, {"data in other files", test_data_elsewhere},
           {"links", test_links}, {"the folder is a border", test_folder_is_a_border},
           {"Keras layouts", test_keras}, {"what the file says of itself", test_info},
           {"unreadable files", test_unreadable_files}, {"memory limit", test_memory_limit},
           {"out of memory", test_out_of_memory}, {"real files", test_real_files})
