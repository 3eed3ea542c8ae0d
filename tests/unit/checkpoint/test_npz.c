/* .npy headers, .npy files and .npz archives, made here byte by byte or by libzip, by NumPy, and
 * real ones. */
#include "checkpoint/npy_header.h"
#include "unit/checkpoint/scratch.h"
#include "unit/unit.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include <zip.h>

/* ---- making files ----------------------------------------------------------------------- */

typedef struct bytes {
	char *data;
	size_t count;
} bytes;

/* An array of format `version`.0 with this header text and data. */
static bytes make_npy(int version, const char *text, const void *data, size_t count)
{
	size_t length = strlen(text), prefix = version == 1 ? 10 : 12;
	bytes b = {malloc(prefix + length + count + 1), prefix + length + count};
	memcpy(b.data, "\x93NUMPY", 6);
	b.data[6] = (char)version;
	b.data[7] = 0;
	for (size_t i = 0; i < prefix - 8; i++)
		b.data[8 + i] = (char)(length >> 8 * i & 0xff);
	memcpy(b.data + prefix, text, length);
	memcpy(b.data + prefix + length, data, count);
	return b;
}

static const char *npy_file(const char *name, const char *text, const void *data, size_t count)
{
	const char *path = scratch_path(name);
	bytes b = make_npy(1, text, data, count);
	scratch_write(path, b.data, b.count);
	free(b.data);
	return path;
}

typedef struct member {
	const char *name;
	bool deflated;
	bytes content;
} member;

/* A zip archive of these members, whose contents are released. */
static const char *zip_file(const char *name, const member *members, size_t count)
{
	const char *path = scratch_path(name);
	int reason;
	zip_t *zip = zip_open(path, ZIP_CREATE | ZIP_TRUNCATE, &reason);
	for (size_t i = 0; zip && i < count; i++) {
		zip_source_t *source =
		    zip_source_buffer(zip, members[i].content.data, members[i].content.count, 0);
		zip_int64_t index = zip_file_add(zip, members[i].name, source, 0);
		if (index < 0 || zip_set_file_compression(
				     zip, (zip_uint64_t)index,
				     members[i].deflated ? ZIP_CM_DEFLATE : ZIP_CM_STORE, 9))
			abort();
	}
	if (!zip || zip_close(zip))
		abort();
	for (size_t i = 0; i < count; i++)
		free(members[i].content.data);
	return path;
}

static const char f4_23[] = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n";

/* An archive of one array "w" of six f32. */
static const char *simple_zip(bool deflated)
{
	static const float values[6] = {1, 2, 3, 4, 5, 6};
	member m = {"w.npy", deflated, make_npy(1, f4_23, values, sizeof values)};
	return zip_file("made.npz", &m, 1);
}

/* Replace every `from` in the file by `to`, of the same length; at least `times` must be there. */
static void patch(const char *path, const void *from, const void *to, size_t length, int times)
{
	static char content[1 << 16];
	FILE *file = fopen(path, "rb");
	size_t size = fread(content, 1, sizeof content, file);
	fclose(file);
	for (size_t i = 0; i + length <= size; i++)
		if (!memcmp(content + i, from, length)) {
			memcpy(content + i, to, length);
			times--;
		}
	CU_ASSERT_EQUAL(times, 0);
	scratch_write(path, content, size);
}

/* Change bytes of the first central directory record. */
static void patch_central(const char *path, size_t offset, const void *to, size_t length)
{
	static char content[1 << 16];
	FILE *file = fopen(path, "rb");
	size_t size = fread(content, 1, sizeof content, file), i = 0;
	fclose(file);
	while (i + 4 < size && memcmp(content + i, "PK\1\2", 4))
		i++;
	memcpy(content + i + offset, to, length);
	scratch_write(path, content, size);
}

enum { CENTRAL_FLAGS = 8, CENTRAL_METHOD = 10, CENTRAL_CRC = 16, CENTRAL_SIZE = 24 };

/* ---- headers ---------------------------------------------------------------------------- */

static bool parse(const char *text, mspec_npy_header *header, const char **problem)
{
	bytes b = make_npy(1, text, "", 0);
	bool parsed =
	    mspec_npy_header_parse((const unsigned char *)b.data, b.count, header, problem);
	free(b.data);
	return parsed;
}

static void test_header_syntax(void)
{
	static const char *const same[] = {
	    "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }          \n",
	    "{'descr':'<f4','fortran_order':True,'shape':(2,3)}",
	    "{ \"shape\" : ( 2 , 3 , ) ,\n\t\"fortran_order\" : True , \"descr\" : \"<f4\" , } ",
	    "{'shape': (2L, 3L), 'fortran_order': True, 'descr': '<f4'}",
	};
	static const char *const malformed[] = {
	    "",
	    " ",
	    "{",
	    "{}",
	    "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), ",
	    "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }x",
	    "{'descr': '<f4', 'fortran_order': True}",
	    "{'descr': '<f4' 'fortran_order': True, 'shape': (2, 3)}",
	    "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), 'shape': (2, 3)}",
	    "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), 'more': 1}",
	    "{'descr': '<f4', 'fortran_order': 1, 'shape': (2, 3)}",
	    "{'descr': '<f4', 'fortran_order': Truer, 'shape': (2, 3)}",
	    "{'descr': '<f4', 'fortran_order': True, 'shape': (2 3)}",
	    "{'descr': '<f4', 'fortran_order': True, 'shape': (2,, 3)}",
	    "{'descr': '<f4', 'fortran_order': True, 'shape': (,)}",
	    "{'descr': '<f4', 'fortran_order': True, 'shape': (2)}",
	    "{'descr': '<f4', 'fortran_order': True, 'shape': 2}",
	    "{'descr': '<f4', 'fortran_order': True, 'shape': [2, 3]}",
	    "{'descr': '<f4', 'fortran_order': True, 'shape': (-2, 3)}",
	    "{'descr': '<f4', 'fortran_order': True, 'shape': (2.0, 3)}",
	    "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3}",
	    "{'descr': <f4, 'fortran_order': True, 'shape': (2, 3)}",
	    "{'descr': '<f4, 'fortran_order': True, 'shape': (2, 3)}",
	    "{'descr': '\\x3cf4', 'fortran_order': True, 'shape': (2, 3)}",
	    "{'descr': [('a', '<f4'), 'fortran_order': True, 'shape': (2, 3)}",
	    "{,'descr': '<f4', 'fortran_order': True, 'shape': (2, 3)}",
	    "{'descr': '<f4',, 'fortran_order': True, 'shape': (2, 3)}",
	};
	mspec_npy_header h;
	for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
		const char *problem = NULL;
		CU_ASSERT_TRUE(parse(same[i], &h, &problem));
		CU_ASSERT_EQUAL(h.dtype, MUON_F32);
		CU_ASSERT_STRING_EQUAL(h.type_name, "<f4");
		CU_ASSERT_TRUE(h.fortran_order && !h.big_endian);
		CU_ASSERT_EQUAL(h.rank, 2);
		CU_ASSERT_EQUAL(h.dims[0], 2);
		CU_ASSERT_EQUAL(h.dims[1], 3);
	}
	for (size_t i = 0; i < sizeof malformed / sizeof *malformed; i++) {
		const char *problem = NULL;
		bool parsed = parse(malformed[i], &h, &problem);
		CU_ASSERT_FALSE(parsed);
		CU_ASSERT_PTR_NOT_NULL(problem);
		if (parsed)
			printf("\n    %s\n", malformed[i]);
	}
}

static void test_header_shapes(void)
{
	mspec_npy_header h;
	const char *problem;
	CU_ASSERT_TRUE(parse("{'descr':'<f4','fortran_order':False,'shape':()}", &h, &problem));
	CU_ASSERT_EQUAL(h.rank, 0);
	CU_ASSERT_TRUE(parse("{'descr':'<f4','fortran_order':False,'shape':(7,)}", &h, &problem));
	CU_ASSERT_EQUAL(h.rank, 1);
	CU_ASSERT_EQUAL(h.dims[0], 7);
	CU_ASSERT_TRUE(
	    parse("{'descr':'<f4','fortran_order':False,"
	          "'shape':(9223372036854775807, 9223372036854775808, 99999999999999999999)}",
	          &h, &problem));
	CU_ASSERT_EQUAL(h.dims[0], INT64_MAX);
	CU_ASSERT_EQUAL(h.dims[1], INT64_MAX);
	CU_ASSERT_EQUAL(h.dims[2], INT64_MAX);
	char text[256] = "{'descr':'<f4','fortran_order':False,'shape':(1";
	for (int i = 1; i < 40; i++)
		strcat(text, ",1");
	strcat(text, ")}");
	CU_ASSERT_TRUE(parse(text, &h, &problem));
	CU_ASSERT_EQUAL(h.rank, 40);
}

static void test_header_types(void)
{
	static const struct {
		const char *descr;
		muon_dtype dtype;
		bool big_endian;
		const char *type_name;
	} types[] = {
	    {"'<f8'", MUON_F64, false, "<f8"},
	    {"'>f4'", MUON_F32, true, ">f4"},
	    {"'<f2'", MUON_F16, false, "<f2"},
	    {"'=f4'", MUON_F32, false, "=f4"},
	    {"'|b1'", MUON_BOOL, false, "|b1"},
	    {"'|i1'", MUON_I8, false, "|i1"},
	    {"'<i2'", MUON_I16, false, "<i2"},
	    {"'>i4'", MUON_I32, true, ">i4"},
	    {"'<i8'", MUON_I64, false, "<i8"},
	    {"'|u1'", MUON_U8, false, "|u1"},
	    {"'<u2'", MUON_U16, false, "<u2"},
	    {"'<u4'", MUON_U32, false, "<u4"},
	    {"'>u8'", MUON_U64, true, ">u8"},
	    {"'|V2'", MUON_DTYPE_NONE, false, "V2"},
	    {"'|O'", MUON_DTYPE_NONE, false, "object"},
	    {"'<U12'", MUON_DTYPE_NONE, false, "text"},
	    {"'|S3'", MUON_DTYPE_NONE, false, "text"},
	    {"'<c8'", MUON_DTYPE_NONE, false, "complex"},
	    {"'<c16'", MUON_DTYPE_NONE, false, "complex"},
	    {"'<f16'", MUON_DTYPE_NONE, false, "float128"},
	    {"'<M8[ns]'", MUON_DTYPE_NONE, false, "<M8[ns]"},
	    {"'<f3'", MUON_DTYPE_NONE, false, "<f3"},
	    {"'<f4x'", MUON_DTYPE_NONE, false, "<f4x"},
	    {"'< f4'", MUON_DTYPE_NONE, false, "< f4"},
	    {"'<f+4'", MUON_DTYPE_NONE, false, "<f+4"},
	    {"'<f4294967300'", MUON_DTYPE_NONE, false, "<f4294967300"},
	    {"'float32'", MUON_DTYPE_NONE, false, "float32"},
	    {"''", MUON_DTYPE_NONE, false, ""},
	    {"'<'", MUON_DTYPE_NONE, false, "<"},
	    {"'<f'", MUON_DTYPE_NONE, false, "<f"},
	    {"[('a', '<f4'), (\"b]'\", '<i8', (2,))]", MUON_DTYPE_NONE, false, "structured"},
	    {"[('a\\']', '>f4')]", MUON_DTYPE_NONE, false, "structured"},
	    {"('<f4', (2,))", MUON_DTYPE_NONE, false, "structured"},
	};
	for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
		char text[256];
		snprintf(text, sizeof text,
		         "{'descr': %s, 'fortran_order': False, 'shape': (1,), }", types[i].descr);
		mspec_npy_header h;
		const char *problem;
		CU_ASSERT_TRUE(parse(text, &h, &problem));
		CU_ASSERT_EQUAL(h.dtype, types[i].dtype);
		CU_ASSERT_EQUAL(h.big_endian, types[i].big_endian);
		CU_ASSERT_STRING_EQUAL(h.type_name, types[i].type_name);
	}
}

static void test_header_sizes(void)
{
	static const struct {
		const char *prefix;
		size_t size;
		const char *problem;
	} cases[] = {
	    {"\x93NUMPY\1\0\x76\0{'", 128, NULL},
	    {"\x93NUMPY\1\0\0\1{'", 266, NULL},
	    {"\x93NUMPY\2\0\x74\0\0\0", 128, NULL},
	    {"\x93NUMPY\3\0\0\0\1\0", 65548, NULL},
	    {"\x93NUMPY\3\0\1\0\x10\0", 0, "longer than any"},
	    {"\x93NUMPY\2\0\xff\xff\xff\xff", 0, "longer than any"},
	    {"\x93NUMPX\1\0\x76\0{'", 0, "is not a .npy array"},
	    {"\x93NUMPY\4\0\x76\0{'", 0, "unknown version"},
	    {"\x93NUMPY\0\0\x76\0{'", 0, "unknown version"},
	    {"\x93NUMPY\1\1\x76\0{'", 0, "unknown version"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		const char *problem = NULL;
		CU_ASSERT_EQUAL(
		    mspec_npy_header_size((const unsigned char *)cases[i].prefix, &problem),
		    cases[i].size);
		CU_ASSERT_EQUAL(!problem, !cases[i].problem);
		if (problem && cases[i].problem)
			CU_ASSERT_PTR_NOT_NULL(strstr(problem, cases[i].problem));
	}
}

/* ---- .npy ------------------------------------------------------------------------------- */

static void test_npy(void)
{
	static const float values[6] = {1, 2, 3, 4, 5, 6};
	for (int version = 1; version <= 3; version++) {
		const char *path = scratch_path("layers.0.weight.npy");
		bytes b = make_npy(version, f4_23, values, sizeof values);
		scratch_write(path, b.data, b.count);
		free(b.data);
		mspec_checkpoint *c = scratch_open(path);
		CU_ASSERT_STRING_EQUAL(mspec_info(c)->format, "npy");
		CU_ASSERT_STRING_EQUAL(mspec_info(c)->layout, "pytorch");
		CU_ASSERT_EQUAL(mspec_tensor_count(c), 1);
		scratch_content(c, "layers.0.weight", values, sizeof values);
		mspec_close(&c);
	}
	/* a second array may follow in the same file; np.load takes the first too */
	float more[12] = {1, 2, 3, 4, 5, 6, 7};
	mspec_checkpoint *c = scratch_open(npy_file("plain", f4_23, more, sizeof more));
	CU_ASSERT_STRING_EQUAL(mspec_info(c)->layout, "custom");
	scratch_content(c, "plain", values, sizeof values);
	mspec_close(&c);
}

static void test_npy_order(void)
{
	/* element (i, j) = 10 i + j, (i, j, k) = 100 i + 10 j + k */
	static const int16_t columns[6] = {0, 10, 1, 11, 2, 12}, rows[6] = {0, 1, 2, 10, 11, 12};
	mspec_checkpoint *c = scratch_open(
	    npy_file("f.npy", "{'descr':'<i2','fortran_order':True,'shape':(2,3)}", columns, 12));
	scratch_content(c, "f", rows, 12);
	mspec_close(&c);

	int16_t deep[24], expected[24];
	for (int i = 0, at = 0; i < 2; i++)
		for (int j = 0; j < 3; j++)
			for (int k = 0; k < 4; k++) {
				expected[at++] = (int16_t)(100 * i + 10 * j + k);
				deep[i + 2 * (j + 3 * k)] = (int16_t)(100 * i + 10 * j + k);
			}
	c = scratch_open(
	    npy_file("f.npy", "{'descr':'<i2','fortran_order':True,'shape':(2,3,4)}", deep, 48));
	scratch_content(c, "f", expected, 48);
	mspec_close(&c);

	c = scratch_open(
	    npy_file("f.npy", "{'descr':'<i2','fortran_order':True,'shape':(6,)}", columns, 12));
	scratch_content(c, "f", columns, 12); /* a vector has no order */
	mspec_close(&c);
	c = scratch_open(
	    npy_file("f.npy", "{'descr':'<i2','fortran_order':True,'shape':(3,0)}", columns, 0));
	scratch_content(c, "f", columns, 0);
	mspec_close(&c);
}

/* Byte k of an array, in row-major order; no two tiles are alike. */
static unsigned char byte_at(uint64_t k)
{
	return (unsigned char)(k * 0x9e3779b97f4a7c15u >> 56);
}

/* How often the watcher is told that reading goes on. */
static void count_watch(void *state, const char *what)
{
	*(int *)state += what != NULL;
}

/* An array that takes several tiles to transpose, with one byte per element. */
static void check_large_order(int d0, int d1, int d2, int kind)
{
	char text[128];
	size_t count = (size_t)d0 * (size_t)d1 * (size_t)d2, k = 0;
	unsigned char *columns = malloc(count), *all = malloc(count);
	for (int i = 0; i < d0; i++)
		for (int j = 0; j < d1; j++)
			for (int l = 0; l < d2; l++)
				columns[i + (int64_t)d0 * (j + (int64_t)d1 * l)] = byte_at(k++);
	snprintf(text, sizeof text, "{'descr':'|u1','fortran_order':True,'shape':(%d,%d,%d)}", d0,
	         d1, d2);
	const char *path;
	if (kind) {
		member m = {"f.npy", kind == 2, make_npy(1, text, columns, count)};
		path = zip_file("order.npz", &m, 1);
	} else {
		path = npy_file("f.npy", text, columns, count);
	}
	int watched = 0;
	const mspec_open_options options = {.watch = count_watch, .watch_state = &watched};
	mspec_checkpoint *c;
	CU_ASSERT_EQUAL_FATAL(mspec_open(&c, path, &options, NULL), MUON_OK);
	watched = 0;
	CU_ASSERT_EQUAL(mspec_read(c, 0, 0, (int64_t)count, all, NULL), MUON_OK);
	CU_ASSERT_TRUE(watched >= (kind ? 16 : 2)); /* not once for the whole */
	bool same = true;
	for (k = 0; k < count; k++)
		same &= all[k] == byte_at(k);
	CU_ASSERT_TRUE(same);
	mspec_close(&c);
	free(columns);
	free(all);
	unlink(path);
}

static void test_large_order(void)
{
	check_large_order(2501, 2003, 1, 0);
	check_large_order(3, 1500007, 1, 0);
	check_large_order(1500007, 3, 1, 1);
	check_large_order(151, 173, 193, 2);
	check_large_order(1, 2101, 2111, 1);
}

/* A file that claims more than fits beside it is refused before the disk is full. */
static void test_no_room(void)
{
	struct statvfs disk;
	const char *folder = getenv("TMPDIR");
	if (statvfs(folder && *folder ? folder : "/tmp", &disk))
		abort();
	char text[128];
	long long rows = (long long)(2 * disk.f_blocks * disk.f_frsize / 1000 + 1000000);
	snprintf(text, sizeof text, "{'descr':'|u1','fortran_order':True,'shape':(%lld,1000)}",
	         rows);
	const char *path = npy_file("sparse.npy", text, "", 0);
	if (truncate(path, (off_t)(1000 * rows + 200))) {
		unit_skip("no large sparse files");
		return;
	}
	mspec_checkpoint *c = scratch_open(path);
	char byte;
	muon_error err = {0};
	CU_ASSERT_EQUAL(mspec_read(c, 0, 0, 1, &byte, &err), MUON_E_TOO_LARGE);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.message, "set TMPDIR"));
	mspec_close(&c);
	unlink(path);
}

static void test_npy_endianness(void)
{
	static const unsigned char big[] = {0x3f, 0xf0, 0, 0, 0, 0, 0, 0,
	                                    0xc0, 0,    0, 0, 0, 0, 0, 0};
	static const double values[] = {1, -2};
	mspec_checkpoint *c = scratch_open(
	    npy_file("b.npy", "{'descr':'>f8','fortran_order':False,'shape':(2,)}", big, 16));
	scratch_content(c, "b", values, 16);
	mspec_close(&c);
	static const unsigned char columns[] = {0, 1, 0, 3, 0, 2, 0, 4};
	static const uint16_t rows[] = {1, 2, 3, 4};
	c = scratch_open(
	    npy_file("b.npy", "{'descr':'>u2','fortran_order':True,'shape':(2,2)}", columns, 8));
	scratch_content(c, "b", rows, 8);
	mspec_close(&c);
}

static void test_npy_damage(void)
{
	static const float values[6] = {1, 2, 3, 4, 5, 6};
	const char *path = npy_file("cut.npy", f4_23, values, 23);
	mspec_checkpoint *c = scratch_open(path);
	scratch_problem(c, "cut", MUON_E_READ, "is cut off: 23 bytes of data, 24 are needed");
	mspec_close(&c);
	for (off_t size = 40; size > 5; size -= 7) {
		if (truncate(path, size))
			abort();
		scratch_refuse(path, MUON_E_FORMAT, "is cut off inside the .npy header");
	}
	scratch_refuse(npy_file("bad.npy", "{'descr': 1}", "", 0), MUON_E_FORMAT, "malformed");
	c = scratch_open(npy_file("huge.npy",
	                          "{'descr':'<f8','fortran_order':False,"
	                          "'shape':(4294967296,4294967296)}",
	                          "", 0));
	scratch_problem(c, "huge", MUON_E_TOO_LARGE, "impossible size");
	mspec_close(&c);
	c = scratch_open(npy_file("huge.npy",
	                          "{'descr':'|u1','fortran_order':False,"
	                          "'shape':(99999999999999999999,)}",
	                          "", 0));
	scratch_problem(c, "huge", MUON_E_READ, "is cut off");
	mspec_close(&c);
	c = scratch_open(npy_file("text.npy", "{'descr':'<U5','fortran_order':False,'shape':(1,)}",
	                          "12345678901234567890", 20));
	CU_ASSERT_EQUAL(mspec_tensor_at(c, 0)->dtype, MUON_DTYPE_NONE);
	CU_ASSERT_EQUAL(mspec_tensor_at(c, 0)->status, MUON_OK);
	char text[20];
	CU_ASSERT_EQUAL(mspec_read(c, 0, 0, 1, text, NULL), MUON_E_FORMAT);
	mspec_close(&c);
}

/* ---- .npz ------------------------------------------------------------------------------- */

static void test_npz(void)
{
	static const float values[6] = {1, 2, 3, 4, 5, 6};
	static const int16_t columns[6] = {0, 10, 1, 11, 2, 12}, rows[6] = {0, 1, 2, 10, 11, 12};
	const char *fortran = "{'descr':'<i2','fortran_order':True,'shape':(2,3)}";
	const char *object = "{'descr':'|O','fortran_order':False,'shape':(1,)}";
	member members[] = {
	    {"layers.10.weight.npy", false, make_npy(1, f4_23, values, 24)},
	    {"layers.2.weight.npy", true, make_npy(1, f4_23, values, 24)},
	    {"f/stored.npy", false, make_npy(2, fortran, columns, 12)},
	    {"f/deflated.npy", true, make_npy(3, fortran, columns, 12)},
	    {"optimizer/m.npy", false, make_npy(1, f4_23, values, 24)},
	    {"object.npy", true, make_npy(1, object, "pickle", 6)},
	    {"readme.txt", true, make_npy(1, "hello", "", 0)},
	    {"empty.npy", false,
	     make_npy(1, "{'descr':'<f4','fortran_order':False,'shape':(0,3)}", "", 0)},
	    {"short.npy", false, make_npy(1, f4_23, values, 20)},
	    {"long.npy", true, make_npy(1, f4_23, (float[8]){0}, 32)},
	    {"junk.npy", true, make_npy(1, "what?", "", 0)},
	    {"text.npy", false, {calloc(1, 100), 100}},
	    {"zero.npy", false, {calloc(1, 1), 0}},
	    {"folder/", false, {calloc(1, 1), 0}},
	};
	mspec_checkpoint *c =
	    scratch_open(zip_file("made.npz", members, sizeof members / sizeof *members));
	CU_ASSERT_EQUAL(mspec_tensor_count(c), 13);
	CU_ASSERT_STRING_EQUAL(mspec_info(c)->format, "npz");
	CU_ASSERT_STRING_EQUAL(mspec_info(c)->layout, "pytorch");
	CU_ASSERT_TRUE(scratch_find(c, "layers.2.weight") < scratch_find(c, "layers.10.weight"));
	for (int twice = 0; twice < 2; twice++) {
		scratch_content(c, "layers.2.weight", values, 24);
		scratch_content(c, "layers.10.weight", values, 24);
		scratch_content(c, "f/deflated", rows, 12);
		scratch_content(c, "f/stored", rows, 12);
		scratch_content(c, "empty", values, 0);
	}
	CU_ASSERT_EQUAL(mspec_tensor_at(c, scratch_find(c, "optimizer/m"))->role,
	                MSPEC_ROLE_OPTIMIZER);
	const mspec_tensor *t = mspec_tensor_at(c, scratch_find(c, "object"));
	CU_ASSERT_STRING_EQUAL(t->type_name, "object");
	CU_ASSERT_EQUAL(t->status, MUON_OK);
	t = mspec_tensor_at(c, scratch_find(c, "readme.txt"));
	CU_ASSERT_STRING_EQUAL(t->type_name, "not an array");
	CU_ASSERT_EQUAL(t->dtype, MUON_DTYPE_NONE);
	scratch_problem(c, "short", MUON_E_READ, "is cut off: 20 bytes of data, 24 are needed");
	scratch_problem(c, "long", MUON_E_FORMAT, "32 bytes of data, but only 24 are declared");
	scratch_problem(c, "junk", MUON_E_FORMAT, "malformed");
	scratch_problem(c, "text", MUON_E_FORMAT, "is not a .npy array");
	scratch_problem(c, "zero", MUON_E_FORMAT, "is cut off inside the .npy header");
	mspec_close(&c);

	member plain = {"arr_0.npy", false, make_npy(1, f4_23, values, 24)};
	c = scratch_open(zip_file("plain.npz", &plain, 1));
	CU_ASSERT_STRING_EQUAL(mspec_info(c)->layout, "custom");
	mspec_close(&c);
}

/* Arrays that take many chunks, read by turns. */
static void test_npz_large(void)
{
	enum { ROWS = 700, COLS = 500, COUNT = ROWS * COLS };
	int32_t *values = malloc(COUNT * sizeof *values),
		*columns = malloc(COUNT * sizeof *columns);
	for (int i = 0; i < COUNT; i++) {
		values[i] = i * 7;
		columns[i % COLS * ROWS + i / COLS] = i * 7;
	}
	const char *c_order = "{'descr':'<i4','fortran_order':False,'shape':(700,500)}";
	const char *f_order = "{'descr':'<i4','fortran_order':True,'shape':(700,500)}";
	member members[] = {
	    {"0.npy", false, make_npy(1, c_order, values, COUNT * sizeof *values)},
	    {"1.npy", true, make_npy(1, c_order, values, COUNT * sizeof *values)},
	    {"2.npy", false, make_npy(1, f_order, columns, COUNT * sizeof *values)},
	    {"3.npy", true, make_npy(1, f_order, columns, COUNT * sizeof *values)},
	};
	mspec_checkpoint *c = scratch_open(zip_file("large.npz", members, 4));
	CU_ASSERT_EQUAL_FATAL(mspec_tensor_count(c), 4);
	int32_t *part = malloc(COUNT * sizeof *part);
	muon_error err = {0};
	for (int64_t first = 0, count; first < COUNT; first += count) {
		count = COUNT - first < 99991 ? COUNT - first : 99991;
		for (size_t i = 0; i < 4; i++) {
			memset(part, 0, COUNT * sizeof *part);
			CU_ASSERT_EQUAL(mspec_read(c, i, first, count, part, &err), MUON_OK);
			CU_ASSERT_EQUAL(memcmp(part, values + first, (size_t)count * sizeof *part),
			                0);
		}
	}
	/* what was unpacked once is not read from the archive again */
	if (truncate(mspec_info(c)->path, 0))
		abort();
	for (size_t i = 0; i < 4; i++)
		CU_ASSERT_EQUAL(mspec_read(c, i, 0, COUNT, part, NULL), i ? MUON_OK : MUON_E_READ);
	CU_ASSERT_EQUAL(memcmp(part, values, COUNT * sizeof *part), 0);
	mspec_close(&c);
	free(values);
	free(columns);
	free(part);
}

static void test_foreign_archives(void)
{
	member torch[] = {{"model/data.pkl", false, make_npy(1, "", "", 0)},
	                  {"model/data/0", false, make_npy(1, "", "", 0)}};
	scratch_refuse(zip_file("model.pt", torch, 2), MUON_E_FORMAT,
	               "is a PyTorch pickle archive");
	member keras[] = {{"metadata.json", true, make_npy(1, "", "", 0)},
	                  {"model.weights.h5", true, make_npy(1, "", "", 0)}};
	scratch_refuse(zip_file("model.keras", keras, 2), MUON_E_FORMAT, "is a .keras archive");
	member document[] = {{"word/document.xml", true, make_npy(1, "", "", 0)}};
	scratch_refuse(zip_file("letter.docx", document, 1), MUON_E_FORMAT, "without .npy arrays");
	const char *path = scratch_path("none.npz");
	scratch_write(path, "PK\5\6\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 22);
	scratch_refuse(path, MUON_E_FORMAT, "without .npy arrays");
}

static void test_bad_archives(void)
{
	static const float values[6] = {1, 2, 3, 4, 5, 6};
	for (int duplicate = 0; duplicate < 2; duplicate++) {
		member members[] = {{"a\nx.npy", false, make_npy(1, f4_23, values, 24)},
		                    {"b\nx.npy", false, make_npy(1, f4_23, values, 24)}};
		const char *path = zip_file("twice.npz", members, 2);
		if (duplicate) {
			patch(path, "b\nx.npy", "a\nx.npy", 7, 2);
			scratch_refuse(path, MUON_E_FORMAT,
			               "archive holds a\\nx.npy more than once");
		} else {
			mspec_checkpoint *c = scratch_open(path);
			CU_ASSERT_EQUAL(mspec_tensor_count(c), 2);
			mspec_close(&c);
		}
	}
	member alike[] = {{"a.npy", false, make_npy(1, f4_23, values, 24)},
	                  {"a", false, make_npy(1, f4_23, values, 24)}};
	scratch_refuse(zip_file("alike.npz", alike, 2), MUON_E_FORMAT, "holds a more than once");
	const char *path = simple_zip(true);
	struct stat st;
	if (stat(path, &st) || truncate(path, st.st_size - 1))
		abort();
	scratch_refuse(path, MUON_E_FORMAT, "zip archive is damaged or cut off");
	if (truncate(path, 30))
		abort();
	scratch_refuse(path, MUON_E_FORMAT, "zip archive is damaged or cut off");
}

/* Data that does not agree with its checksum must not be read, stored or deflated. */
static void test_checksums(void)
{
	for (int deflated = 0; deflated < 2; deflated++) {
		const char *path = simple_zip(deflated);
		patch_central(path, CENTRAL_CRC, "\1\2\3\4", 4);
		mspec_checkpoint *c = scratch_open(path);
		float part[6];
		for (int twice = 0; twice < 2; twice++) {
			muon_error err = {0};
			CU_ASSERT_EQUAL(mspec_read(c, 0, 1, 2, part, &err), MUON_E_READ);
			CU_ASSERT_PTR_NOT_NULL(strstr(err.message, "CRC"));
		}
		mspec_close(&c);
	}
	const char *path = simple_zip(false);
	patch(path, (float[]){3, 4}, (float[]){3, 5}, 8, 1);
	mspec_checkpoint *c = scratch_open(path);
	float all[6];
	CU_ASSERT_EQUAL(mspec_read(c, 0, 0, 6, all, NULL), MUON_E_READ);
	mspec_close(&c);
}

/* Open an archive whose central directory was patched: its array must be listed as a problem. */
static void check_patched(bool deflated, size_t offset, const void *to, size_t length,
                          const char *text)
{
	const char *path = simple_zip(deflated);
	patch_central(path, offset, to, length);
	mspec_checkpoint *c = scratch_open(path);
	scratch_problem(c, "w", MUON_E_READ, text);
	mspec_close(&c);
}

static void test_hostile_entries(void)
{
	/* far more than deflate can make of so few bytes, whatever the array declares */
	check_patched(true, CENTRAL_SIZE, "\0\0\0\x70", 4, "claims more data than its compressed");
	check_patched(false, CENTRAL_SIZE, "\x61\0\0\0", 4, "claims more data than its compressed");
	check_patched(true, CENTRAL_METHOD, "\x0c\0", 2, "method that NumPy does not use");
	check_patched(true, CENTRAL_FLAGS, "\1\0", 2, "is encrypted");

	/* entries that unpack to more, or less, than directory and array agree on */
	for (int columns = 2; columns <= 4; columns++) {
		char text[64];
		snprintf(text, sizeof text, "{'descr':'<f4','fortran_order':False,'shape':(2,%d)}",
		         columns);
		member m = {"w.npy", true, make_npy(1, text, (float[6]){1, 2, 3, 4, 5, 6}, 24)};
		char claimed[4] = {(char)(10 + strlen(text) + 8 * (size_t)columns), 0, 0, 0};
		const char *path = zip_file("lies.npz", &m, 1);
		patch_central(path, CENTRAL_SIZE, claimed, 4);
		mspec_checkpoint *c = scratch_open(path);
		CU_ASSERT_EQUAL(mspec_tensor_at(c, 0)->status, MUON_OK);
		float all[8];
		CU_ASSERT_EQUAL(mspec_read(c, 0, 0, 2 * columns, all, NULL),
		                columns == 3 ? MUON_OK : MUON_E_READ);
		mspec_close(&c);
	}
}

/* Several directory records for the same bytes: the quadratic zip bomb. */
static void test_overlapping_entries(void)
{
	static char file[8192];
	char data[1024] = {0};
	const char *text = "{'descr':'|u1','fortran_order':False,'shape':(1024,)}";
	member m = {"a.npy", false, make_npy(1, text, data, sizeof data)};
	const char *path = zip_file("bomb.npz", &m, 1);
	FILE *stream = fopen(path, "rb");
	size_t size = fread(file, 1, sizeof file, stream), record = 0;
	fclose(stream);
	while (memcmp(file + record, "PK\1\2", 4))
		record++;
	char *end = file + size - 22; /* end of central directory */
	size_t length = (size_t)(end - (file + record));
	char last[22];
	memcpy(last, end, sizeof last);
	for (int i = 1; i < 3; i++, end += length) {
		memcpy(end, file + record, length);
		end[46] = (char)('a' + i);
	}
	last[8] = last[10] = 3;
	last[12] = (char)(3 * length);
	memcpy(end, last, sizeof last);
	scratch_write(path, file, (size_t)(end + sizeof last - file));
	scratch_refuse(path, MUON_E_FORMAT, "entries of the archive overlap");
}

static void test_spool(void)
{
	const char *before = getenv("TMPDIR");
	char *kept = before ? strdup(before) : NULL;
	setenv("TMPDIR", scratch_path("no/such/folder"), 1);
	mspec_checkpoint *c = scratch_open(simple_zip(true));
	float all[6];
	muon_error err = {0};
	CU_ASSERT_EQUAL(mspec_read(c, 0, 0, 6, all, &err), MUON_E_READ);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.message, "set TMPDIR"));
	if (kept)
		setenv("TMPDIR", kept, 1);
	else
		unsetenv("TMPDIR");
	CU_ASSERT_EQUAL(mspec_read(c, 0, 0, 6, all, NULL), MUON_OK);
	CU_ASSERT_EQUAL(all[5], 6);
	free(kept);
	mspec_close(&c);
}

static void test_memory(void)
{
	static const int16_t columns[6] = {0, 10, 1, 11, 2, 12};
	const char *fortran = "{'descr':'<i2','fortran_order':True,'shape':(2,3)}";
	member members[] = {
	    {"stored.npy", false, make_npy(2, fortran, columns, 12)},
	    {"deflated.npy", true, make_npy(3, fortran, columns, 12)},
	    {"other.txt", true, make_npy(1, "", "", 0)},
	};
	scratch_exhaust_memory(zip_file("memory.npz", members, 3));
	scratch_exhaust_memory(npy_file("memory.npy", fortran, columns, 12));
}

/* ---- files that others made ------------------------------------------------------------- */

static void test_numpy(void)
{
	char command[2048];
	const char *paths[] = {scratch_path("numpy.npz"), scratch_path("numpy_deflated.npz")};
	snprintf(
	    command, sizeof command,
	    "/usr/bin/python3 -c \"import sys, numpy as np\n"
	    "x = np.arange(60, dtype='<f8').reshape(3, 4, 5) / 8\n"
	    "arrays = dict(c=x, f=np.asfortranarray(x), big=x.astype('>f4'), half=x.astype('f2'),\n"
	    "    flag=x > 1, bf16=np.zeros(3, 'V2'), scalar=np.int32(-7), none=np.zeros((0, 4)),\n"
	    "    pair=np.zeros(2, [('a', 'f4'), ('b', 'i8')]), transposed=x.T.astype('i8'),\n"
	    "    text=np.array(['ab', 'c']), z=x.astype(complex))\n"
	    "np.savez(sys.argv[1], **arrays)\n"
	    "np.savez_compressed(sys.argv[2], **arrays)\" '%s' '%s' 2>/dev/null",
	    paths[0], paths[1]);
	if (system(command)) {
		unit_skip("no python3-numpy");
		return;
	}
	for (int i = 0; i < 2; i++) {
		double x[60];
		float single[60];
		unsigned char flags[60];
		int64_t transposed[60];
		for (int j = 0; j < 60; j++) {
			x[j] = j / 8.0;
			single[j] = (float)x[j];
			flags[j] = x[j] > 1;
		}
		for (int a = 0, at = 0; a < 5; a++) /* .T reverses the order of all indices */
			for (int b = 0; b < 4; b++)
				for (int d = 0; d < 3; d++)
					transposed[at++] = (20 * d + 5 * b + a) / 8;
		mspec_checkpoint *c = scratch_open(paths[i]);
		CU_ASSERT_EQUAL_FATAL(mspec_tensor_count(c), 12);
		scratch_content(c, "c", x, sizeof x);
		scratch_content(c, "f", x, sizeof x);
		scratch_content(c, "big", single, sizeof single);
		scratch_content(c, "flag", flags, sizeof flags);
		scratch_content(c, "transposed", transposed, sizeof transposed);
		scratch_content(c, "scalar", (int32_t[]){-7}, 4);
		scratch_content(c, "none", x, 0);
		CU_ASSERT_EQUAL(mspec_tensor_at(c, scratch_find(c, "half"))->dtype, MUON_F16);
		static const char *const unread[][2] = {
		    {"bf16", "V2"}, {"pair", "structured"}, {"text", "text"}, {"z", "complex"}};
		for (size_t k = 0; k < sizeof unread / sizeof *unread; k++) {
			const mspec_tensor *t = mspec_tensor_at(c, scratch_find(c, unread[k][0]));
			CU_ASSERT_EQUAL(t->dtype, MUON_DTYPE_NONE);
			CU_ASSERT_STRING_EQUAL(t->type_name, unread[k][1]);
		}
		mspec_close(&c);
	}
}

static void test_real_files(void)
{
	const char *path = scratch_shared("npz/tl_test.npz");
	if (!path)
		return;
	mspec_checkpoint *c = scratch_open(path);
	CU_ASSERT_EQUAL_FATAL(mspec_tensor_count(c), 2);
	CU_ASSERT_STRING_EQUAL(mspec_tensor_at(c, 0)->name, "biases");
	CU_ASSERT_EQUAL(mspec_tensor_at(c, 0)->rank, 2);
	scratch_content(c, "biases", (int32_t[]){10, 20, 30, 40}, 16);
	scratch_content(c, "weights", (float[]){1, 2, 3}, 12);
	mspec_close(&c);
	c = scratch_open(scratch_shared("npz/candle_test.npz"));
	scratch_content(c, "x", (int64_t[]){0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, 80);
	scratch_content(c, "x_plus_one", (int64_t[]){1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, 80);
	mspec_close(&c);
}

UNIT_SUITE(npz, {"header: syntax", test_header_syntax}, {"header: shapes", test_header_shapes},
           {"header: types", test_header_types}, {"header: sizes", test_header_sizes},
           {"npy", test_npy}, {"npy: order", test_npy_order},
           {"npy: large order", test_large_order}, {"npy: no room", test_no_room},
           {"npy: endianness", test_npy_endianness}, {"npy: damage", test_npy_damage},
           {"npz", test_npz}, {"npz: large", test_npz_large},
           {"foreign archives", test_foreign_archives}, {"bad archives", test_bad_archives},
           {"checksums", test_checksums}, {"hostile entries", test_hostile_entries},
           {"overlapping entries", test_overlapping_entries}, {"spool", test_spool},
           {"memory", test_memory}, {"numpy", test_numpy}, {"real files", test_real_files})
