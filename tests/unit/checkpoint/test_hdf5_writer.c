/* The HDF5 writer, read back by our reader and by h5py. */
#include "checkpoint/writer.h"
#include "unit/checkpoint/scratch.h"
#include "unit/unit.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { ROWS = 6, COLUMNS = 7, ELEMENTS = ROWS * COLUMNS };
static const int64_t shape[2] = {ROWS, COLUMNS};

/* Bytes with every kind of NaN in them; booleans must be 0 or 1. */
static void fill(muon_dtype dtype, unsigned char *bytes)
{
	for (size_t i = 0; i < ELEMENTS * muon_dtype_size(dtype); i++)
		bytes[i] = (unsigned char)(dtype == MUON_BOOL ? i % 2 : 255 - 5 * i);
}

/* One dataset of every type in pieces of `piece` elements, and attributes. */
static void write_all_types(const char *path, int64_t piece)
{
	unsigned char bytes[8 * ELEMENTS];
	muon_error err = {0};
	mspec_hdf5_writer *writer;
	CU_ASSERT_EQUAL_FATAL(mspec_hdf5_create(&writer, path, &err), MUON_OK);
	for (int type = 0; type < MUON_DTYPE_COUNT; type++) {
		char name[32];
		size_t size = muon_dtype_size((muon_dtype)type);
		fill((muon_dtype)type, bytes);
		snprintf(name, sizeof name, "types/%s", muon_dtype_name((muon_dtype)type));
		CU_ASSERT_EQUAL(mspec_hdf5_dataset(writer, name, (muon_dtype)type, 2, shape, &err),
		                MUON_OK);
		for (int64_t i = 0, count; i < ELEMENTS; i += count) {
			count = ELEMENTS - i < piece ? ELEMENTS - i : piece;
			CU_ASSERT_EQUAL(mspec_hdf5_append(writer, bytes + (size_t)i * size, count,
			                                  &err),
			                MUON_OK);
		}
	}
	static const int64_t empty[3] = {4, 0, 2};
	static const char *const texts[] = {"a", "", "\xc3\xa9"};
	float scalar = -1.5f;
	CU_ASSERT_EQUAL(mspec_hdf5_dataset(writer, "empty", MUON_F32, 3, empty, &err), MUON_OK);
	CU_ASSERT_EQUAL(mspec_hdf5_dataset(writer, "scalar", MUON_F32, 0, NULL, &err), MUON_OK);
	CU_ASSERT_EQUAL(mspec_hdf5_append(writer, &scalar, 1, &err), MUON_OK);
	CU_ASSERT_EQUAL(mspec_hdf5_strings(writer, "texts/three", texts, 3, &err), MUON_OK);
	CU_ASSERT_EQUAL(mspec_hdf5_strings(writer, "texts/none", NULL, 0, &err), MUON_OK);
	CU_ASSERT_EQUAL(mspec_hdf5_attribute_number(writer, NULL, "step", 1e15, &err), MUON_OK);
	CU_ASSERT_EQUAL(mspec_hdf5_attribute_number(writer, NULL, "lr", 0.1, &err), MUON_OK);
	CU_ASSERT_EQUAL(mspec_hdf5_attribute_number(writer, NULL, "loss", NAN, &err), MUON_OK);
	static const struct {
		const char *object, *name, *value;
	} notes[] = {{NULL, "optimizer", "adam"},
	             {NULL, "optimizer", "muon"},
	             {"types/f32", "unit", "\xc2\xb5m"}};
	for (size_t i = 0; i < sizeof notes / sizeof *notes; i++)
		CU_ASSERT_EQUAL(mspec_hdf5_attribute_text(writer, notes[i].object, notes[i].name,
		                                          notes[i].value, &err),
		                MUON_OK);
	CU_ASSERT_EQUAL(mspec_hdf5_finish(&writer, &err), MUON_OK);
	CU_ASSERT_PTR_NULL(writer);
	if (err.code)
		fprintf(stderr, "%s: %s\n", err.where, err.message);
}

static void test_read_back(void)
{
	static const int64_t pieces[] = {1, 5, 23, ELEMENTS};
	for (size_t p = 0; p < sizeof pieces / sizeof *pieces; p++) {
		unsigned char bytes[8 * ELEMENTS];
		float scalar = -1.5f;
		const char *path = scratch_path("types.h5");
		write_all_types(path, pieces[p]);
		mspec_checkpoint *c = scratch_open(path);
		CU_ASSERT_PTR_NOT_NULL_FATAL(c);
		for (int type = 0; type < MUON_DTYPE_COUNT; type++) {
			char name[32];
			fill((muon_dtype)type, bytes);
			snprintf(name, sizeof name, "types/%s", muon_dtype_name((muon_dtype)type));
			size_t index = scratch_find(c, name);
			CU_ASSERT_FATAL(index < mspec_tensor_count(c));
			const mspec_tensor *t = mspec_tensor_at(c, index);
			CU_ASSERT_EQUAL(t->dtype, (muon_dtype)type);
			CU_ASSERT(t->rank == 2 && t->dims[0] == ROWS && t->dims[1] == COLUMNS);
			scratch_content(c, name, bytes, ELEMENTS * muon_dtype_size(t->dtype));
		}
		scratch_content(c, "scalar", &scalar, sizeof scalar);
		scratch_content(c, "empty", "", 0);
		CU_ASSERT_EQUAL(mspec_info(c)->step, 1e15);
		CU_ASSERT_EQUAL(mspec_info(c)->lr, 0.1);
		CU_ASSERT(isnan(mspec_info(c)->loss));
		CU_ASSERT_STRING_EQUAL(mspec_info(c)->optimizer, "muon");
		CU_ASSERT_EQUAL(mspec_tensor_count(c), MUON_DTYPE_COUNT + 4);
		mspec_close(&c);
	}
}

/* What h5py makes of the file of write_all_types. */
static const char h5py_check[] =
    "import sys\n"
    "try:\n"
    "    import h5py, numpy as np\n"
    "except ImportError:\n"
    "    sys.exit(77)\n"
    "f = h5py.File(sys.argv[1], 'r')\n"
    "def ramp(n, dtype):\n"
    "    return (255 - 5 * np.arange(n * 42)).astype('u1').view(dtype).reshape(6, 7)\n"
    "for ours, theirs in dict(f64='f8', f32='f4', f16='f2', i64='i8', i32='i4', i16='i2',\n"
    "                         i8='i1', u64='u8', u32='u4', u16='u2', u8='u1', f8_e4m3='u1',\n"
    "                         f8_e5m2='u1').items():\n"
    "    d, t = f['types/' + ours], np.dtype(theirs)\n"
    "    assert d.dtype == t, (ours, d.dtype)\n"
    "    assert d[()].tobytes() == ramp(t.itemsize, t).tobytes(), ours\n"
    "assert f['types/bool'].dtype == bool\n"
    "assert (f['types/bool'][()].ravel() == np.arange(42) % 2).all()\n"
    "bits = ramp(2, 'u2').astype('u4') << 16\n"
    "got = f['types/bf16'].astype('f4')[()]\n"
    "finite = np.isfinite(bits.view('f4'))\n"
    "assert finite.sum() > 30\n"
    "assert (got[finite] == bits.view('f4')[finite]).all(), 'bf16'\n"
    "t = f['types/bf16'].id.get_type()\n"
    "assert (t.get_fields(), t.get_ebias(), t.get_size()) == ((15, 7, 8, 0, 7), 127, 2)\n"
    "assert f['types/f8_e4m3'].attrs['dtype'] == 'float8_e4m3fn'\n"
    "assert f['empty'].shape == (4, 0, 2) and f['scalar'][()] == -1.5\n"
    "assert list(f['texts/three'].asstr()) == ['a', '', '\\u00e9']\n"
    "assert f['texts/none'].shape == (0,)\n"
    "assert f.attrs['step'] == 10**15 and f.attrs['step'].dtype == np.int64\n"
    "assert f.attrs['lr'] == 0.1 and np.isnan(f.attrs['loss'])\n"
    "assert f.attrs['optimizer'] == 'muon' and f['types/f32'].attrs['unit'] == '\\u00b5m'\n";

static void test_h5py(void)
{
	const char *path = scratch_path("types.h5"), *script = scratch_path("check.py");
	char command[1200];
	write_all_types(path, 11);
	scratch_write(script, h5py_check, sizeof h5py_check - 1);
	snprintf(command, sizeof command, "/usr/bin/python3 '%s' '%s'", script, path);
	int status = system(command);
	if (WIFEXITED(status) && (WEXITSTATUS(status) == 77 || WEXITSTATUS(status) == 127))
		unit_skip("no h5py");
	else
		CU_ASSERT_EQUAL(status, 0);
}

/* Declare one dataset in a file of its own: the code, and whether the message has the words. */
static int declare(const char *first, const char *name, const char *words)
{
	muon_error err = {0};
	mspec_hdf5_writer *writer;
	const char *path = scratch_path("names.h5");
	int64_t none = 0;
	CU_ASSERT_EQUAL_FATAL(mspec_hdf5_create(&writer, path, &err), MUON_OK);
	int code = first ? mspec_hdf5_dataset(writer, first, MUON_F32, 1, &none, &err) : MUON_OK;
	CU_ASSERT_EQUAL(code, MUON_OK);
	code = mspec_hdf5_dataset(writer, name, MUON_F32, 1, &none, &err);
	CU_ASSERT_EQUAL(mspec_hdf5_finish(&writer, &err), code);
	CU_ASSERT_EQUAL(err.code, code);
	if (code) {
		CU_ASSERT_PTR_NOT_NULL(strstr(err.message, words));
		return code;
	}
	mspec_checkpoint *c = scratch_open(path);
	CU_ASSERT(scratch_find(c, name) != SIZE_MAX);
	mspec_close(&c);
	return code;
}

static void test_names(void)
{
	static const char *const good[] = {
	    "a",   "a.b.c", "a/b", "a b",  "...",
	    ".a",  "a..",   "a:0", "%s%n", "\xe2\x80\xae\n\t\"<b>",
	    "\xff\xfe"};
	static const char *const bad[] = {"",  "/",  "/a",    "a/",   "a//b",
	                                  ".", "..", "a/./b", "a/..", "../b"};
	for (size_t i = 0; i < sizeof good / sizeof *good; i++)
		CU_ASSERT_EQUAL(declare(NULL, good[i], ""), MUON_OK);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		CU_ASSERT_EQUAL(declare(NULL, bad[i], "HDF5 can't hold this name"), MUON_E_WRITE);
	CU_ASSERT_EQUAL(declare("a", "a", "exists"), MUON_E_WRITE);
	CU_ASSERT_EQUAL(declare("a", "a/b", "HDF5: "), MUON_E_WRITE); /* "a" is no group */
	CU_ASSERT_EQUAL(declare("a/b", "a", "exists"), MUON_E_WRITE);
}

static void test_wrong_use(void)
{
	static const int64_t three = 3, negative = -1, huge[2] = {INT64_MAX, 2};
	float values[4] = {0};
	muon_error err = {0};
	mspec_hdf5_writer *writer;
	const char *path = scratch_path("wrong.h5");

	CU_ASSERT_EQUAL_FATAL(mspec_hdf5_create(&writer, path, NULL), MUON_OK);
	CU_ASSERT_EQUAL(mspec_hdf5_append(writer, values, 1, NULL), MUON_E_ARGUMENT);
	mspec_hdf5_abandon(&writer);
	CU_ASSERT_PTR_NULL(writer);
	mspec_hdf5_abandon(&writer);

	/* too few elements: seen by whatever comes next, and final */
	CU_ASSERT_EQUAL_FATAL(mspec_hdf5_create(&writer, path, NULL), MUON_OK);
	CU_ASSERT_EQUAL(mspec_hdf5_dataset(writer, "w", MUON_F32, 1, &three, NULL), MUON_OK);
	CU_ASSERT_EQUAL(mspec_hdf5_append(writer, values, 2, NULL), MUON_OK);
	CU_ASSERT_EQUAL(mspec_hdf5_dataset(writer, "v", MUON_F32, 1, &three, &err),
	                MUON_E_ARGUMENT);
	CU_ASSERT_STRING_EQUAL(err.where, "w");
	CU_ASSERT_EQUAL(mspec_hdf5_append(writer, values, 1, NULL), MUON_E_ARGUMENT);
	CU_ASSERT_EQUAL(mspec_hdf5_finish(&writer, NULL), MUON_E_ARGUMENT);

	CU_ASSERT_EQUAL_FATAL(mspec_hdf5_create(&writer, path, NULL), MUON_OK);
	CU_ASSERT_EQUAL(mspec_hdf5_dataset(writer, "w", MUON_F32, 1, &three, NULL), MUON_OK);
	CU_ASSERT_EQUAL(mspec_hdf5_append(writer, values, 4, NULL), MUON_E_ARGUMENT);
	CU_ASSERT_EQUAL(mspec_hdf5_finish(&writer, NULL), MUON_E_ARGUMENT);

	CU_ASSERT_EQUAL_FATAL(mspec_hdf5_create(&writer, path, NULL), MUON_OK);
	CU_ASSERT_EQUAL(mspec_hdf5_dataset(writer, "w", MUON_F32, 1, &negative, NULL),
	                MUON_E_ARGUMENT);
	mspec_hdf5_abandon(&writer);
	CU_ASSERT_EQUAL_FATAL(mspec_hdf5_create(&writer, path, NULL), MUON_OK);
	CU_ASSERT_EQUAL(mspec_hdf5_dataset(writer, "w", MUON_F32, 2, huge, NULL), MUON_E_ARGUMENT);
	mspec_hdf5_abandon(&writer);

	err = (muon_error){0};
	path = scratch_path("no/such/folder.h5");
	CU_ASSERT_EQUAL(mspec_hdf5_create(&writer, path, &err), MUON_E_WRITE);
	CU_ASSERT_PTR_NULL(writer);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.message, "No such file"));
}

/* A file of 8 datasets, 800 kB. */
static int write_much(const char *path, muon_error *err)
{
	static const float values[25000];
	static const int64_t length = 25000;
	mspec_hdf5_writer *writer;
	int code = mspec_hdf5_create(&writer, path, err);
	for (int i = 0; i < 8 && !code; i++) {
		char name[16];
		snprintf(name, sizeof name, "w%d", i);
		code = mspec_hdf5_dataset(writer, name, MUON_F32, 1, &length, err);
		if (!code)
			code = mspec_hdf5_append(writer, values, length, err);
	}
	if (!writer)
		return code;
	int last = mspec_hdf5_finish(&writer, err);
	return code ? code : last;
}

/* A disk that is full after `limit` bytes, in a process of its own since libhdf5 doesn't forget. */
static int write_on_full_disk(const char *path, rlim_t limit)
{
	fflush(NULL);
	pid_t child = fork();
	if (!child) {
		struct rlimit most = {limit, limit};
		muon_error err = {0};
		signal(SIGXFSZ, SIG_IGN);
		int code = setrlimit(RLIMIT_FSIZE, &most) ? 99 : write_much(path, &err);
		_exit(code == MUON_E_WRITE && *err.message && *err.where ? 1 : code ? 2 : 0);
	}
	int status;
	CU_ASSERT_EQUAL(waitpid(child, &status, 0), child);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void test_full_disk(void)
{
	const char *path = scratch_path("full.h5");
	static const rlim_t limits[] = {0,      50,     1000,   2048,   2100,
	                                100000, 400000, 799000, 800000, 802000};
	for (size_t i = 0; i < sizeof limits / sizeof *limits; i++)
		CU_ASSERT_EQUAL(write_on_full_disk(path, limits[i]), 1);
	CU_ASSERT_EQUAL(write_on_full_disk(path, 1 << 20), 0);
}

/* The file's bytes; at most `capacity` of them. */
static size_t read_file(const char *path, char *bytes, size_t capacity)
{
	FILE *file = fopen(path, "rb");
	CU_ASSERT_PTR_NOT_NULL_FATAL(file);
	size_t count = fread(bytes, 1, capacity, file);
	fclose(file);
	return count;
}

/* The same content is the same bytes, in whichever second it is written. */
static void test_reproducible(void)
{
	static char first[1 << 18], second[1 << 18];
	write_all_types(scratch_path("first.h5"), ELEMENTS);
	for (time_t written = time(NULL); time(NULL) == written;)
		nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
	write_all_types(scratch_path("second.h5"), ELEMENTS);
	size_t count = read_file(scratch_path("first.h5"), first, sizeof first);
	CU_ASSERT_TRUE(count > 0 && count < sizeof first);
	CU_ASSERT_EQUAL(read_file(scratch_path("second.h5"), second, sizeof second), count);
	CU_ASSERT_EQUAL(memcmp(first, second, count), 0);
}

UNIT_SUITE(hdf5_writer, {"read back", test_read_back}, {"read by h5py", test_h5py},
           {"names", test_names}, {"wrong use", test_wrong_use}, {"full disk", test_full_disk},
           {"reproducible", test_reproducible})
