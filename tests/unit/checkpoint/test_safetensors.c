/* safetensors files made byte by byte, good and bad, and real ones. */
#include "checkpoint/writer.h"
#include "unit/checkpoint/scratch.h"
#include "unit/unit.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static const unsigned char ramp[256] = {
    0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21,
    22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43,
    44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63};

/* Header entry of a tensor of one byte. */
#define BYTE_AT(name, at) "\"" name "\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[" at "]}"

/* A file with the header length `length`, this header and `data` bytes of ramp. */
static void write_raw(const char *path, uint64_t length, const char *header, size_t data)
{
	size_t size = strlen(header);
	char *bytes = malloc(8 + size + data);
	for (int i = 0; i < 8; i++)
		bytes[i] = (char)(length >> 8 * i & 0xff);
	memcpy(bytes + 8, header, size);
	memcpy(bytes + 8 + size, ramp, data);
	scratch_write(path, bytes, 8 + size + data);
	free(bytes);
}

static const char *file_with(const char *header, size_t data)
{
	const char *path = scratch_path("made.safetensors");
	write_raw(path, strlen(header), header, data);
	return path;
}

static void test_every_type(void)
{
	static const struct {
		const char *label;
		muon_dtype dtype;
	} types[] = {
	    {"F64", MUON_F64},   {"F32", MUON_F32},         {"F16", MUON_F16},
	    {"BF16", MUON_BF16}, {"F8_E4M3", MUON_F8_E4M3}, {"F8_E5M2", MUON_F8_E5M2},
	    {"I64", MUON_I64},   {"I32", MUON_I32},         {"I16", MUON_I16},
	    {"I8", MUON_I8},     {"U64", MUON_U64},         {"U32", MUON_U32},
	    {"U16", MUON_U16},   {"U8", MUON_U8},           {"BOOL", MUON_BOOL},
	};
	CU_ASSERT_EQUAL(sizeof types / sizeof *types, MUON_DTYPE_COUNT);
	for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
		char header[256];
		size_t bytes = 6 * muon_dtype_size(types[i].dtype);
		snprintf(header, sizeof header,
		         "{\"w\":{\"dtype\":\"%s\",\"shape\":[2,3],\"data_offsets\":[3,%zu]}}",
		         types[i].label, 3 + bytes);
		mspec_checkpoint *c = scratch_open(file_with(header, 3 + bytes));
		const mspec_tensor *t = mspec_tensor_at(c, 0);
		CU_ASSERT_EQUAL(t->dtype, types[i].dtype);
		CU_ASSERT_STRING_EQUAL(t->type_name, types[i].label);
		CU_ASSERT_EQUAL(t->rank, 2);
		CU_ASSERT_EQUAL(t->dims[0], 2);
		CU_ASSERT_EQUAL(t->dims[1], 3);
		scratch_content(c, "w", ramp + 3, bytes);
		mspec_close(&c);
	}
}

static void test_ranks(void)
{
	char header[1024] = "{\"scalar\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]},"
			    "\"empty\":{\"dtype\":\"F32\",\"shape\":[4,0],\"data_offsets\":[1,1]},"
			    "\"deep\":{\"dtype\":\"U8\",\"shape\":[1";
	for (int i = 1; i < MSPEC_MAX_RANK; i++)
		strcat(header, ",1");
	strcat(header, "],\"data_offsets\":[1,2]},\"deeper\":{\"dtype\":\"U8\",\"shape\":[1");
	for (int i = 1; i <= MSPEC_MAX_RANK; i++)
		strcat(header, ",1");
	strcat(header, "],\"data_offsets\":[2,3]}}");
	mspec_checkpoint *c = scratch_open(file_with(header, 3));
	scratch_content(c, "scalar", ramp, 1);
	scratch_content(c, "empty", ramp, 0);
	scratch_content(c, "deep", ramp + 1, 1);
	CU_ASSERT_EQUAL(mspec_tensor_at(c, scratch_find(c, "deep"))->rank, MSPEC_MAX_RANK);
	scratch_problem(c, "deeper", MUON_E_FORMAT, "more dimensions");
	const mspec_tensor *t = mspec_tensor_at(c, scratch_find(c, "deeper"));
	CU_ASSERT_EQUAL(t->rank, 0);
	CU_ASSERT_EQUAL(t->elements, 0); /* unknown, unlike a scalar */
	CU_ASSERT_EQUAL(mspec_tensor_at(c, scratch_find(c, "scalar"))->elements, 1);
	mspec_close(&c);
}

static void test_lengths(void)
{
	const char *path = scratch_path("made.safetensors");
	const char *header = "{\"w\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}";
	uint64_t length = strlen(header);
	scratch_write(path, "", 0);
	scratch_refuse(path, MUON_E_FORMAT, "is empty");
	write_raw(path, length, "", 0); /* the header length alone, and less */
	scratch_refuse(path, MUON_E_FORMAT, "is not");
	if (truncate(path, 5))
		abort();
	scratch_refuse(path, MUON_E_FORMAT, "is not");
	write_raw(path, length + 5, header, 4);
	scratch_refuse(path, MUON_E_FORMAT, "is cut off: header of 58 bytes in a file of 65");
	write_raw(path, length + 4, header, 4);
	scratch_refuse(path, MUON_E_FORMAT, "header is not valid JSON");
	write_raw(path, length - 1, header, 4);
	scratch_refuse(path, MUON_E_FORMAT, "header is not valid JSON");
	write_raw(path, 0, header, 4);
	scratch_refuse(path, MUON_E_FORMAT, "header is not valid JSON");
	write_raw(path, 100000001, header, 4);
	scratch_refuse(path, MUON_E_FORMAT, "is not HDF5, safetensors");
	write_raw(path, UINT64_MAX, header, 4);
	scratch_refuse(path, MUON_E_FORMAT, "is not HDF5, safetensors");
	scratch_refuse(scratch_path("absent.safetensors"), MUON_E_OPEN, "No such file");
}

/* Headers of the longest size, or just over it, and ones that would take far more memory than the
 * file has bytes. */
static void test_expensive_headers(void)
{
	static const char *const repeated[] = {"0,", "{},", "[],"};
	const size_t size = 24 << 20, longest = 32 << 20;
	char *header = malloc(longest + 9);
	for (size_t k = 0; k < sizeof repeated / sizeof *repeated; k++) {
		size_t step = strlen(repeated[k]);
		memcpy(header, "{\"a\":[", 6);
		for (size_t i = 6; i < size; i++)
			header[i] = repeated[k][(i - 6) % step];
		header[size] = 0;
		const char *path = file_with(header, 0);
		scratch_refuse(path, MUON_E_FORMAT, "header holds too many values");
	}
	memset(header, ' ', longest + 8);
	memcpy(header, "{}", 2);
	header[longest + 8] = 0;
	scratch_refuse(file_with(header, 0), MUON_E_FORMAT, "over the limit of 33554432");
	header[longest] = 0;
	mspec_checkpoint *c = scratch_open(file_with(header, 0));
	CU_ASSERT_EQUAL(mspec_tensor_count(c), 0);
	mspec_close(&c);
	free(header);
	scratch_write(scratch_path("made.safetensors"), "", 0); /* not to keep 32 MB */
}

/* What stands for a file in a clone without Git LFS. */
static void test_lfs_pointer(void)
{
	static const char text[] = "version https://git-lfs.github.com/spec/v1\n"
				   "oid sha256:0123\nsize 4\n";
	static const char *const names[] = {"lfs.safetensors", "lfs.h5", "lfs.json"};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		const char *path = scratch_path(names[i]);
		scratch_write(path, text, sizeof text - 1);
		scratch_refuse(path, MUON_E_FORMAT, "is a Git LFS pointer; run 'git lfs pull'");
		scratch_write(path, text, 10);
		scratch_refuse(path, MUON_E_FORMAT, "is not HDF5, safetensors");
	}
}

static void test_bad_json(void)
{
	scratch_refuse(file_with("{\"a\":", 4), MUON_E_FORMAT, "header is not valid JSON");
	scratch_refuse(file_with("{} {}", 4), MUON_E_FORMAT, "header is not valid JSON");
	scratch_refuse(file_with("{\"\xff\":1}", 0), MUON_E_FORMAT, "header is not valid JSON");
	scratch_refuse(file_with("{\"\\u0000\":1}", 0), MUON_E_FORMAT, "header is not valid JSON");
	scratch_refuse(file_with("{\"a\":1,\"a\":2}", 0), MUON_E_FORMAT,
	               "header holds a name twice: duplicate object key near '\"a\"'");
	scratch_refuse(file_with("{\"a\":{\"dtype\":\"U8\",\"dtype\":\"I8\"}}", 0), MUON_E_FORMAT,
	               "header holds a name twice");
	scratch_refuse(file_with("{\"a\\u0007\\nb\":1,\"a\\u0007\\nb\":2}", 0), MUON_E_FORMAT,
	               "near '\"a\\\\u0007\\\\nb\"'");
	scratch_refuse(file_with("{\"__metadata__\":[]}", 0), MUON_E_FORMAT,
	               "__metadata__ is not an object");
	char deep[6000] = "{\"a\":";
	memset(deep + 5, '[', 5000);
	scratch_refuse(file_with(deep, 0), MUON_E_FORMAT, "header is not valid JSON");

	mspec_checkpoint *c = scratch_open(file_with("{}      ", 0));
	CU_ASSERT_EQUAL(mspec_tensor_count(c), 0);
	mspec_close(&c);
}

/* One tensor "bad" with these members beside one that is all right. */
static mspec_checkpoint *open_beside(const char *members)
{
	char header[512];
	snprintf(header, sizeof header,
	         "{\"bad\":{%s},\"good\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[8,12]}}",
	         members);
	mspec_checkpoint *c = scratch_open(file_with(header, 12));
	CU_ASSERT_EQUAL(mspec_tensor_count(c), 2);
	scratch_content(c, "good", ramp + 8, 4);
	return c;
}

static void test_bad_entries(void)
{
	static const struct {
		const char *members;
		int status;
		const char *text;
	} cases[] = {
	    {"", MUON_E_FORMAT, "no valid dtype"},
	    {"\"dtype\":\"U8\",\"shape\":[2]", MUON_E_FORMAT, "no valid dtype"},
	    {"\"shape\":[2],\"data_offsets\":[0,2]", MUON_E_FORMAT, "no valid dtype"},
	    {"\"dtype\":1,\"shape\":[2],\"data_offsets\":[0,2]", MUON_E_FORMAT, "no valid dtype"},
	    {"\"dtype\":\"U8\",\"shape\":2,\"data_offsets\":[0,2]", MUON_E_FORMAT,
	     "no valid dtype"},
	    {"\"dtype\":\"U8\",\"shape\":[2.0],\"data_offsets\":[0,2]", MUON_E_FORMAT, "no valid"},
	    {"\"dtype\":\"U8\",\"shape\":[\"2\"],\"data_offsets\":[0,2]", MUON_E_FORMAT,
	     "no valid"},
	    {"\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0]", MUON_E_FORMAT,
	     "no valid dtype"},
	    {"\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2,4]", MUON_E_FORMAT, "no valid"},
	    {"\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2.0]", MUON_E_FORMAT, "no valid"},
	    {"\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[2,0]", MUON_E_FORMAT, "no valid"},
	    {"\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[-2,0]", MUON_E_FORMAT, "no valid"},
	    {"\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,3]", MUON_E_FORMAT,
	     "shape and type need 2 bytes, data_offsets give 3"},
	    {"\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,7]", MUON_E_FORMAT,
	     "need 8 bytes"},
	    {"\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,1]", MUON_E_FORMAT,
	     "need 0 bytes"},
	    {"\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[12,14]", MUON_E_READ,
	     "file is cut off: data up to byte 14, but it ends at 12"},
	    {"\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[13,13]", MUON_E_READ, "cut off"},
	    {"\"dtype\":\"U8\",\"shape\":[9223372036854775807],"
	     "\"data_offsets\":[12,9223372036854775807]",
	     MUON_E_FORMAT, "need 9223372036854775807 bytes"},
	    {"\"dtype\":\"U8\",\"shape\":[1],"
	     "\"data_offsets\":[9223372036854775806,9223372036854775807]",
	     MUON_E_READ, "cut off"},
	    {"\"dtype\":\"U8\",\"shape\":[2],"
	     "\"data_offsets\":[9223372036854775806,9223372036854775807]",
	     MUON_E_FORMAT, "need 2 bytes"},
	    {"\"dtype\":\"F64\",\"shape\":[1099511627776,1048576],"
	     "\"data_offsets\":[9223372036854775807,9223372036854775807]",
	     MUON_E_TOO_LARGE, "impossible"},
	    {"\"dtype\":\"U8\",\"shape\":[-1],\"data_offsets\":[0,1]", MUON_E_TOO_LARGE,
	     "impossible"},
	    {"\"dtype\":\"U8\",\"shape\":[-1,-2],\"data_offsets\":[0,2]", MUON_E_TOO_LARGE,
	     "impos"},
	    {"\"dtype\":\"F64\",\"shape\":[1099511627776,1048576],\"data_offsets\":[0,8]",
	     MUON_E_TOO_LARGE, "impossible"},
	    {"\"dtype\":\"U8\",\"shape\":[4294967296,4294967296,4294967297],\"data_offsets\":[0,8]",
	     MUON_E_TOO_LARGE, "impossible"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		mspec_checkpoint *c = open_beside(cases[i].members);
		scratch_problem(c, "bad", cases[i].status, cases[i].text);
		muon_error err = {0};
		char byte;
		CU_ASSERT_EQUAL(mspec_read(c, 0, 0, 0, &byte, &err), cases[i].status);
		mspec_close(&c);
	}
	scratch_refuse(file_with("{\"a\":{\"dtype\":\"U8\",\"shape\":[99999999999999999999],"
	                         "\"data_offsets\":[0,1]}}",
	                         1),
	               MUON_E_FORMAT, "too big integer");
	mspec_checkpoint *c = open_beside(
	    "\"dtype\":\"U8\",\"shape\":[4294967296,4294967296,0],\"data_offsets\":[3,3]");
	scratch_content(c, "bad", ramp, 0); /* no elements, however large the other sizes */
	mspec_close(&c);
}

static void test_unknown_types(void)
{
	mspec_checkpoint *c =
	    open_beside("\"dtype\":\"F4\\n\",\"shape\":[4],\"data_offsets\":[0,2]");
	const mspec_tensor *t = mspec_tensor_at(c, 0);
	CU_ASSERT_EQUAL(t->status, MUON_OK);
	CU_ASSERT_EQUAL(t->dtype, MUON_DTYPE_NONE);
	CU_ASSERT_STRING_EQUAL(t->type_name, "F4\n");
	CU_ASSERT_EQUAL(t->elements, 4);
	char bytes[16];
	muon_error err = {0};
	CU_ASSERT_EQUAL(mspec_read(c, 0, 0, 4, bytes, &err), MUON_E_FORMAT);
	CU_ASSERT_STRING_EQUAL(err.message, "type F4\\n is not a number");
	mspec_close(&c);
	c = open_beside("\"dtype\":\"f32\",\"shape\":[1],\"data_offsets\":[0,4]");
	CU_ASSERT_EQUAL(mspec_tensor_at(c, 0)->dtype, MUON_DTYPE_NONE); /* case counts */
	mspec_close(&c);
}

static void test_overlaps(void)
{
	scratch_refuse(file_with("{" BYTE_AT("a", "0,4") "," BYTE_AT("b\\n", "3,8") "}", 8),
	               MUON_E_FORMAT, "data of a and b\\n overlap");
	scratch_refuse(file_with("{" BYTE_AT("a", "0,4") "," BYTE_AT("b", "0,4") "}", 8),
	               MUON_E_FORMAT, " overlap");
	scratch_refuse(file_with("{" BYTE_AT("a", "2,3") "," BYTE_AT("b", "0,8") "}", 8),
	               MUON_E_FORMAT, "data of b and a overlap");
	scratch_refuse(
	    file_with("{" BYTE_AT("a", "0,9") "," BYTE_AT("c", "3,4") "," BYTE_AT("b", "7,8") "}",
	              9),
	    MUON_E_FORMAT, "overlap");
	mspec_checkpoint *c = scratch_open(
	    file_with("{\"hole\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[6,8]},"
	              "\"inside\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[2,2]},"
	              "\"first\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}",
	              20));
	scratch_content(c, "first", ramp, 4);
	scratch_content(c, "hole", ramp + 6, 2);
	scratch_content(c, "inside", ramp, 0);
	mspec_close(&c);
}

static void test_names(void)
{
	static const char header[] = "{" BYTE_AT("l.10.w", "0,1")
	    "," BYTE_AT("l.2.w", "1,2")
	    "," BYTE_AT("", "2,3")
	    "," BYTE_AT("\\u00e9\\ud83d\\ude00\xc3\xa9", "3,4")
	    "," BYTE_AT("\\u001b[31m<b>\\\"", "4,5") "}";
	mspec_checkpoint *c = scratch_open(file_with(header, 5));
	CU_ASSERT_EQUAL(mspec_tensor_count(c), 5);
	CU_ASSERT_TRUE(scratch_find(c, "l.2.w") < scratch_find(c, "l.10.w"));
	scratch_content(c, "l.10.w", ramp, 1);
	scratch_content(c, "l.2.w", ramp + 1, 1);
	scratch_content(c, "", ramp + 2, 1);
	scratch_content(c, "\xc3\xa9\xf0\x9f\x98\x80\xc3\xa9", ramp + 3, 1);
	scratch_content(c, "\x1b[31m<b>\"", ramp + 4, 1);
	mspec_close(&c);
}

static void test_metadata(void)
{
	mspec_checkpoint *c = scratch_open(file_with(
	    "{\"__metadata__\":{\"format\":\"pt\",\"step\":\"1200\",\"optimizer\":\"muon\","
	    "\"lr\":\"2.5e-4\",\"weight_decay\":\"-0.1\",\"tokens\":\"1e9\",\"loss\":\"3.5\","
	    "\"muonspec_layout\":\"keras2\"}}",
	    0));
	const mspec_checkpoint_info *info = mspec_info(c);
	CU_ASSERT_STRING_EQUAL(info->format, "safetensors");
	CU_ASSERT_STRING_EQUAL(info->layout, "keras2");
	CU_ASSERT_STRING_EQUAL(info->optimizer, "muon");
	CU_ASSERT_EQUAL(info->step, 1200);
	CU_ASSERT_EQUAL(info->lr, 2.5e-4);
	CU_ASSERT_EQUAL(info->weight_decay, -0.1);
	CU_ASSERT_EQUAL(info->tokens, 1e9);
	CU_ASSERT_EQUAL(info->loss, 3.5);
	CU_ASSERT_EQUAL(mspec_tensor_count(c), 0);
	mspec_close(&c);

	c = scratch_open(file_with(
	    "{\"__metadata__\":{\"step\":\"12x\",\"lr\":\"1e999\",\"weight_decay\":\"nan\","
	    "\"tokens\":\"0x10\",\"loss\":\" 1\",\"optimizer\":3,\"muonspec_layout\":\"mine\"}}",
	    0));
	info = mspec_info(c);
	CU_ASSERT_TRUE(isnan(info->step) && isnan(info->lr) && isnan(info->weight_decay));
	CU_ASSERT_TRUE(isnan(info->tokens) && isnan(info->loss));
	CU_ASSERT_PTR_NULL(info->optimizer);
	CU_ASSERT_STRING_EQUAL(info->layout, "pytorch");
	mspec_close(&c);

	c = scratch_open(file_with("{\"__metadata__\":null," BYTE_AT("a", "0,1") "}", 1));
	CU_ASSERT_EQUAL(mspec_tensor_count(c), 1);
	mspec_close(&c);
}

static void test_roles(void)
{
	for (int ours = 0; ours < 2; ours++) {
		char header[512];
		snprintf(header, sizeof header,
		         "{\"__metadata__\":{\"muonspec_layout\":\"%s\"}"
		         "," BYTE_AT("optimizer/m", "0,1")
		         "," BYTE_AT("optimizer.state.m", "1,2")
		         "," BYTE_AT("activations/rms", "2,3")
		         "," BYTE_AT("my.optimizer.w", "3,4") "}",
		         ours ? "muonspec" : "pytorch");
		mspec_checkpoint *c = scratch_open(file_with(header, 4));
		CU_ASSERT_EQUAL(mspec_tensor_at(c, scratch_find(c, "optimizer/m"))->role,
		                MSPEC_ROLE_OPTIMIZER);
		CU_ASSERT_EQUAL(mspec_tensor_at(c, scratch_find(c, "optimizer.state.m"))->role,
		                MSPEC_ROLE_OPTIMIZER);
		CU_ASSERT_EQUAL(mspec_tensor_at(c, scratch_find(c, "activations/rms"))->role,
		                ours ? MSPEC_ROLE_ACTIVATION : MSPEC_ROLE_PARAMETER);
		CU_ASSERT_EQUAL(mspec_tensor_at(c, scratch_find(c, "my.optimizer.w"))->role,
		                MSPEC_ROLE_PARAMETER);
		mspec_close(&c);
	}
}

static void test_memory_limit(void)
{
	const char *path =
	    file_with("{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]},"
	              "\"b\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[16,28]},"
	              "\"c\":{\"dtype\":\"F32\",\"shape\":[9],\"data_offsets\":[28,64]}}",
	              28);
	mspec_open_options options = {.max_tensor_bytes = 12};
	mspec_checkpoint *c;
	muon_error err = {0};
	CU_ASSERT_EQUAL_FATAL(mspec_open(&c, path, &options, &err), MUON_OK);
	scratch_problem(c, "a", MUON_E_TOO_LARGE, "limit");
	scratch_content(c, "b", ramp + 16, 12);
	scratch_problem(c, "c", MUON_E_READ, "cut off"); /* not there at all */
	mspec_close(&c);
}

static void test_changed_file(void)
{
	const char *header = "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}";
	const char *path = file_with(header, 4);
	mspec_checkpoint *c = scratch_open(path);
	if (truncate(path, 8 + (off_t)strlen(header) + 2))
		abort();
	char bytes[4];
	muon_error err = {0};
	CU_ASSERT_EQUAL(mspec_read(c, 0, 0, 4, bytes, &err), MUON_E_READ);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.message, "file ends inside the data"));
	mspec_close(&c);
}

/* ---- shards ----------------------------------------------------------------------------- */

static void write_shard(const char *folder, const char *name, const char *header, size_t data)
{
	write_raw(scratch_path_in(folder, name), strlen(header), header, data);
}

static void write_index(const char *folder, const char *name, const char *json)
{
	scratch_write(scratch_path_in(folder, name), json, strlen(json));
}

static void test_shards(void)
{
	write_index(
	    "s1", "model.safetensors.index.json",
	    " {\"metadata\":{\"total_size\":9},\"weight_map\":{\"a\":\"1.safetensors\","
	    "\"b\":\"2.safetensors\",\"lost\":\"2.safetensors\",\"c\":\"3.safetensors\","
	    "\"d\":\"4.safetensors\",\"moved\":\"1.safetensors\",\"e\":\"5.safetensors\"}}");
	write_shard("s1", "1.safetensors",
	            "{\"__metadata__\":{\"step\":\"5\"}," BYTE_AT("a", "0,1") "}", 4);
	write_shard("s1", "2.safetensors",
	            "{\"__metadata__\":{\"step\":\"6\",\"lr\":\"1\"}"
	            "," BYTE_AT("b", "1,2") "," BYTE_AT("extra", "2,3")
	            "," BYTE_AT("moved", "3,4") "}",
	            4);
	write_shard("s1", "4.safetensors", "{\"d\":", 4);
	write_index("s1", "5.safetensors",
	            "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n");
	for (int i = 0; i < 2; i++) {
		mspec_checkpoint *c =
		    scratch_open(scratch_path_in("s1", i ? "model.safetensors.index.json" : ""));
		CU_ASSERT_EQUAL_FATAL(mspec_tensor_count(c), 8);
		scratch_content(c, "a", ramp, 1);
		scratch_content(c, "b", ramp + 1, 1);
		scratch_content(c, "extra", ramp + 2, 1);
		scratch_problem(c, "lost", MUON_E_READ, "is not in the shard");
		scratch_problem(c, "moved", MUON_E_READ, "in another shard than the index says");
		scratch_problem(c, "c", MUON_E_READ, "3.safetensors: No such file");
		scratch_problem(c, "d", MUON_E_READ, "4.safetensors: header is not valid JSON");
		scratch_problem(c, "e", MUON_E_READ, "5.safetensors: is a Git LFS pointer");
		CU_ASSERT_EQUAL(mspec_info(c)->step, 5);
		CU_ASSERT_EQUAL(mspec_info(c)->lr, 1);
		CU_ASSERT_STRING_EQUAL(mspec_info(c)->format, "safetensors");
		mspec_close(&c);
	}
}

static void test_bad_shards(void)
{
	static const struct {
		const char *bytes;
		size_t count;
		const char *text;
	} cases[] = {
	    {"", 0, "bad.safetensors: is cut off: it has 0 bytes"},
	    {"1234567", 7, "bad.safetensors: is cut off: it has 7 bytes"},
	    {"\2\0\0\0\0\0\0\0{", 9, "is cut off: header of 2 bytes in a file of 9"},
	    {"\1\xe1\xf5\5\0\0\0\0{}", 10, "header length 100000001 is impossible"},
	    {"PK\3\4------", 10, "is not safetensors: header length"},
	    {"\2\0\0\0\0\0\0\0[]", 10, "header is not a JSON object"},
	};
	write_index("s6", "model.safetensors.index.json",
	            "{\"weight_map\":{\"a\":\"1.safetensors\",\"b\":\"bad.safetensors\","
	            "\"c\":\"folder\"}}");
	write_shard("s6", "1.safetensors", "{" BYTE_AT("a", "0,1") "}", 1);
	mkdir(scratch_path_in("s6", "folder"), 0777);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		scratch_write(scratch_path_in("s6", "bad.safetensors"), cases[i].bytes,
		              cases[i].count);
		mspec_checkpoint *c = scratch_open(scratch_path_in("s6", ""));
		scratch_content(c, "a", ramp, 1);
		scratch_problem(c, "b", MUON_E_READ, cases[i].text);
		scratch_problem(c, "c", MUON_E_READ, "folder: is not a regular file");
		mspec_close(&c);
	}
}

static void test_bad_indexes(void)
{
	const char *index = "x.safetensors.index.json";
	const char *path = scratch_path_in("s2", index);
	write_shard("s2", "1.safetensors", "{" BYTE_AT("a", "0,1") "}", 4);
	write_shard("s2", "2.safetensors", "{" BYTE_AT("a", "0,1") "}", 4);
	static const char *const names[] = {"../s1/1.safetensors", "/etc/passwd", "..", ".", ""};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		char json[128];
		snprintf(json, sizeof json, "{\"weight_map\":{\"a\\n\":\"%s\"}}", names[i]);
		write_index("s2", index, json);
		scratch_refuse(path, MUON_E_FORMAT, "the file for a\\n is not a plain file name");
	}
	write_index("s2", index, "{\"weight_map\":{\"a\":1}}");
	scratch_refuse(path, MUON_E_FORMAT, "the file for a is not a plain file name");
	write_index("s2", index, "{\"weight_map\":[]}");
	scratch_refuse(path, MUON_E_FORMAT, "has no weight_map");
	write_index("s2", index, "{\"gates\":[]}");
	scratch_refuse(path, MUON_E_FORMAT, "has no weight_map");
	write_index("s2", index, "{\"weight_map\":");
	scratch_refuse(path, MUON_E_FORMAT, "index is not valid JSON");
	write_index("s2", index, "[]");
	scratch_refuse(path, MUON_E_FORMAT, "is not HDF5, safetensors");
	write_index("s2", index,
	            "{\"weight_map\":{\"a\":\"1.safetensors\",\"a\":\"2.safetensors\"}}");
	scratch_refuse(path, MUON_E_FORMAT, "index holds a name twice");
	write_index("s2", index,
	            "{\"weight_map\":{\"a\":\"1.safetensors\",\"b\":\"2.safetensors\"}}");
	scratch_refuse(path, MUON_E_FORMAT, "tensor a is in another shard too");
	write_index("s2", index,
	            "{\"weight_map\":{\"a\":\"8.safetensors\",\"b\":\"9.safetensors\"}}");
	scratch_refuse(path, MUON_E_READ, "No such file");
	write_index("s2", index, "{\"weight_map\":{}}");
	mspec_checkpoint *c = scratch_open(path);
	CU_ASSERT_EQUAL(mspec_tensor_count(c), 0);
	mspec_close(&c);
}

static void test_folders(void)
{
	const char *one = "{" BYTE_AT("one", "0,1") "}";
	scratch_refuse(scratch_path_in("s3", ""), MUON_E_FORMAT, "is a folder without");
	write_shard("s3", "a.safetensors", one, 1);
	write_shard("s3", ".hidden.safetensors", one, 1);
	write_index("s3", "config.json", "{}");
	mspec_checkpoint *c = scratch_open(scratch_path_in("s3", ""));
	CU_ASSERT_EQUAL(mspec_tensor_count(c), 1);
	mspec_close(&c);
	write_shard("s3", "b.safetensors", "{" BYTE_AT("two", "0,1") "}", 1);
	scratch_refuse(scratch_path_in("s3", ""), MUON_E_FORMAT, "is a folder without");
	write_index("s3", "x.safetensors.index.json",
	            "{\"weight_map\":{\"two\":\"b.safetensors\"}}");
	c = scratch_open(scratch_path_in("s3", ""));
	scratch_content(c, "two", ramp, 1);
	mspec_close(&c);
	write_index("s3", "y.safetensors.index.json", "{\"weight_map\":{}}");
	scratch_refuse(scratch_path_in("s3", ""), MUON_E_FORMAT, "is a folder without");
	write_index("s3", "model.safetensors.index.json",
	            "{\"weight_map\":{\"one\":\"a.safetensors\"}}");
	c = scratch_open(scratch_path_in("s3", ""));
	scratch_content(c, "one", ramp, 1);
	mspec_close(&c);
}

/* More shards than the process may have files open. */
static void test_many_shards(void)
{
	enum { SHARDS = 60, FILES = 40 };
	char json[8192] = "{\"weight_map\":{", piece[160];
	for (int i = 0; i < SHARDS; i++) {
		char name[32];
		snprintf(name, sizeof name, "%d.safetensors", i);
		snprintf(piece, sizeof piece, "%s\"t%d\":\"%s\"", i ? "," : "", i, name);
		strcat(json, piece);
		snprintf(piece, sizeof piece,
		         "{\"t%d\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[%d,%d]}}", i,
		         i, i + 2);
		write_shard("s4", name, piece, 63);
	}
	strcat(json, "}}");
	write_index("s4", "model.safetensors.index.json", json);
	struct rlimit before, few;
	if (getrlimit(RLIMIT_NOFILE, &before))
		abort();
	few = before;
	few.rlim_cur = FILES;
	if (setrlimit(RLIMIT_NOFILE, &few))
		abort();
	mspec_checkpoint *c = scratch_open(scratch_path_in("s4", ""));
	for (int i = 0; i < 2 * SHARDS; i++) {
		snprintf(piece, sizeof piece, "t%d", i * 7 % SHARDS);
		scratch_content(c, piece, ramp + i * 7 % SHARDS, 2);
	}
	if (truncate(scratch_path_in("s4", "0.safetensors"), 100)) /* no longer open by now? */
		abort();
	for (int i = 1; i <= 20; i++) {
		snprintf(piece, sizeof piece, "t%d", i);
		scratch_content(c, piece, ramp + i, 2);
	}
	char bytes[2];
	muon_error err = {0};
	CU_ASSERT_EQUAL(mspec_read(c, scratch_find(c, "t0"), 0, 2, bytes, &err), MUON_E_READ);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.message, "has changed while it was being read"));
	mspec_close(&c);
	if (setrlimit(RLIMIT_NOFILE, &before))
		abort();
}

static void test_memory(void)
{
	scratch_exhaust_memory(
	    file_with("{\"__metadata__\":{\"optimizer\":\"muon\"}," BYTE_AT("a", "0,1") "}", 1));
	write_index("s5", "model.safetensors.index.json",
	            "{\"weight_map\":{\"a\":\"1.safetensors\",\"b\":\"2.safetensors\"}}");
	write_shard("s5", "1.safetensors", "{" BYTE_AT("a", "0,1") "," BYTE_AT("c", "1,2") "}", 2);
	write_shard("s5", "2.safetensors", "{" BYTE_AT("b", "0,1") "}", 1);
	scratch_exhaust_memory(scratch_path_in("s5", ""));
}

/* ---- real files ------------------------------------------------------------------------- */

/* Sums of (i + 1) x_i computed with NumPy, the types without a NumPy counterpart from their bits.
 */
static const struct known {
	const char *name;
	muon_dtype dtype;
	int rank;
	int64_t elements;
	double sum;
} sharded[] =
    {
	{"bfloat16_3", MUON_BF16, 1, 3, 0.9609375},
	{"bfloat16_35", MUON_BF16, 2, 15, 28.4638671875},
	{"bfloat16_357", MUON_BF16, 3, 105, 782.45514917373657},
	{"bool_3", MUON_BOOL, 1, 3, 0},
	{"bool_35", MUON_BOOL, 2, 15, 0},
	{"bool_357", MUON_BOOL, 3, 105, 0},
	{"float8_e4m3fn_3", MUON_F8_E4M3, 1, 3, -4},
	{"float8_e4m3fn_35", MUON_F8_E4M3, 2, 15, -50.546875},
	{"float8_e4m3fn_357", MUON_F8_E4M3, 3, 105, -142},
	{"float8_e5m2_3", MUON_F8_E5M2, 1, 3, -3.375},
	{"float8_e5m2_35", MUON_F8_E5M2, 2, 15, 7.3125},
	{"float8_e5m2_357", MUON_F8_E5M2, 3, 105, 65.9954833984375},
	{"float16_3", MUON_F16, 1, 3, 4.775390625},
	{"float16_35", MUON_F16, 2, 15, 67.070877075195312},
	{"float16_357", MUON_F16, 3, 105, 55.141563415527344},
	{"float32_3", MUON_F32, 1, 3, 2.6015460472553968},
	{"float32_35", MUON_F32, 2, 15, -22.120675297454},
	{"float32_357", MUON_F32, 3, 105, -332.73624144867063},
	{"float64_3", MUON_F64, 1, 3, -2.4200261920531108},
	{"float64_35", MUON_F64, 2, 15, 47.725487086894603},
	{"float64_357", MUON_F64, 3, 105, 952.19746959437043},
	{"int8_3", MUON_I8, 1, 3, 189},
	{"int8_35", MUON_I8, 2, 15, 6422},
	{"int8_357", MUON_I8, 3, 105, 265013},
	{"int16_3", MUON_I16, 1, 3, 72},
	{"int16_35", MUON_I16, 2, 15, 6801},
	{"int16_357", MUON_I16, 3, 105, 286800},
	{"int32_3", MUON_I32, 1, 3, 245},
	{"int32_35", MUON_I32, 2, 15, 5235},
	{"int32_357", MUON_I32, 3, 105, 291286},
	{"int64_3", MUON_I64, 1, 3, 282},
	{"int64_35", MUON_I64, 2, 15, 6694},
	{"int64_357", MUON_I64, 3, 105, 285366},
	{"uint8_3", MUON_U8, 1, 3, 241},
	{"uint8_35", MUON_U8, 2, 15, 6868},
	{"uint8_357", MUON_U8, 3, 105, 297781},
},
  torch[] =
      {
	  {"conv1.bias", MUON_F32, 1, 4, 0.97237782925367355},
	  {"conv1.weight", MUON_F32, 4, 108, 14.64062646671664},
	  {"fc1.bias", MUON_F32, 1, 16, -1.52725949883461},
	  {"fc1.weight", MUON_F32, 2, 4096, -11523.374439403415},
	  {"norm1.bias", MUON_F32, 1, 4, 0},
	  {"norm1.num_batches_tracked", MUON_I64, 0, 1, 1},
	  {"norm1.running_mean", MUON_F32, 1, 4, 0.18951193010434508},
	  {"norm1.running_var", MUON_F32, 1, 4, 9.0306181907653809},
	  {"norm1.weight", MUON_F32, 1, 4, 10},
},
  doubles[] = {
      {"weight1", MUON_F64, 2, 64, 1053.4704060873278},
      {"weight2", MUON_F64, 2, 256, 16535.73003975151},
};

/* The tables are in the order in which the tensors must come. */
static void check_known(const char *name, const struct known *known, size_t count)
{
	const char *path = scratch_shared(name);
	if (!path)
		return;
	mspec_checkpoint *c = scratch_open(path);
	CU_ASSERT_PTR_NOT_NULL_FATAL(c);
	CU_ASSERT_EQUAL_FATAL(mspec_tensor_count(c), count);
	CU_ASSERT_STRING_EQUAL(mspec_info(c)->layout, "pytorch");
	for (size_t i = 0; i < count; i++) {
		const mspec_tensor *t = mspec_tensor_at(c, i);
		CU_ASSERT_STRING_EQUAL(t->name, known[i].name);
		CU_ASSERT_EQUAL(t->dtype, known[i].dtype);
		CU_ASSERT_EQUAL(t->rank, known[i].rank);
		CU_ASSERT_EQUAL_FATAL(t->elements, known[i].elements);
		CU_ASSERT_EQUAL(t->role, MSPEC_ROLE_PARAMETER);
		UNIT_CLOSE(scratch_weighted_sum(c, i), known[i].sum, 1e-15);
	}
	mspec_close(&c);
}

#define KNOWN(table) table, sizeof(table) / sizeof(table)[0]

static void test_real_files(void)
{
	check_known("safetensors/sharded", KNOWN(sharded));
	check_known("safetensors/sharded/model.safetensors.index.json", KNOWN(sharded));
	check_known("safetensors/multi_layer.safetensors", KNOWN(torch));
	check_known("safetensors/syoyo_f64.safetensors", KNOWN(doubles));
}

/* ---- writer ----------------------------------------------------------------------------- */

static void test_writer_bytes(void)
{
	const char *path = scratch_path("written.safetensors");
	int64_t matrix[] = {2, 3}, empty[] = {4294967296, 4294967296, 0};
	mspec_declared declared[] = {{"z.weight", MUON_BF16, 2, matrix},
	                             {"a\n\xc3\xa9", MUON_U8, 0, NULL},
	                             {"e", MUON_F64, 3, empty}};
	const char *metadata[] = {"step", "1200", "muonspec_layout", "muonspec", NULL};
	mspec_safetensors_writer *w;
	muon_error err = {0};
	CU_ASSERT_EQUAL_FATAL(mspec_safetensors_create(&w, path, declared, 3, metadata, &err),
	                      MUON_OK);
	CU_ASSERT_EQUAL(mspec_safetensors_append(w, ramp, 5, &err), MUON_OK);
	CU_ASSERT_EQUAL(mspec_safetensors_append(w, ramp + 5, 8, &err), MUON_OK);
	CU_ASSERT_EQUAL(mspec_safetensors_finish(&w, &err), MUON_OK);
	CU_ASSERT_PTR_NULL(w);

	static const char header[] =
	    "{\"__metadata__\":{\"step\":\"1200\",\"muonspec_layout\":\"muonspec\"},"
	    "\"z.weight\":{\"dtype\":\"BF16\",\"shape\":[2,3],\"data_offsets\":[0,12]},"
	    "\"a\\n\xc3\xa9\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[12,13]},"
	    "\"e\":{\"dtype\":\"F64\",\"shape\":[4294967296,4294967296,0],\"data_offsets\":[13,13]}"
	    "}";
	size_t length = (sizeof header - 1 + 7) / 8 * 8;
	CU_ASSERT_NOT_EQUAL(length, sizeof header - 1); /* there is padding to see */
	char expected[512], got[512];
	memset(expected, ' ', sizeof expected);
	memcpy(expected, (uint64_t[]){length}, 8); /* the writer is for little-endian machines */
	memcpy(expected + 8, header, sizeof header - 1);
	memcpy(expected + 8 + length, ramp, 13);
	FILE *file = fopen(path, "rb");
	size_t size = fread(got, 1, sizeof got, file);
	fclose(file);
	CU_ASSERT_EQUAL(size, 8 + length + 13);
	CU_ASSERT_EQUAL(memcmp(got, expected, 8 + length + 13), 0);

	mspec_checkpoint *c = scratch_open(path);
	CU_ASSERT_EQUAL(mspec_info(c)->step, 1200);
	scratch_content(c, "z.weight", ramp, 12);
	scratch_content(c, "a\n\xc3\xa9", ramp + 12, 1);
	scratch_content(c, "e", ramp, 0);
	mspec_close(&c);
}

static void refuse_to_write(const mspec_declared *declared, size_t count,
                            const char *const *metadata, int code, const char *text)
{
	mspec_safetensors_writer *w;
	muon_error err = {0};
	const char *path = scratch_path("refused.safetensors");
	CU_ASSERT_EQUAL(mspec_safetensors_create(&w, path, declared, count, metadata, &err), code);
	CU_ASSERT_PTR_NULL(w);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.message, text));
}

static void test_writer_refusals(void)
{
	int64_t huge[] = {INT64_MAX / 2, 3}, negative[] = {-1}, one[] = {1};
	refuse_to_write(&(mspec_declared){"bad\xff", MUON_F32, 1, one}, 1, NULL, MUON_E_WRITE,
	                "bad\\xff or its value is not valid UTF-8");
	refuse_to_write(&(mspec_declared){"__metadata__", MUON_F32, 1, one}, 1, NULL, MUON_E_WRITE,
	                "__metadata__");
	refuse_to_write((mspec_declared[]){{"a", MUON_F32, 1, one}, {"a", MUON_F32, 1, one}}, 2,
	                NULL, MUON_E_WRITE, "a would be written twice");
	refuse_to_write(&(mspec_declared){"a", MUON_U8, 2, huge}, 1, NULL, MUON_E_ARGUMENT,
	                "impos");
	refuse_to_write(&(mspec_declared){"a", MUON_U8, 1, negative}, 1, NULL, MUON_E_ARGUMENT,
	                "impo");
	refuse_to_write(&(mspec_declared){"a", MUON_DTYPE_NONE, 1, one}, 1, NULL, MUON_E_ARGUMENT,
	                "i");
	refuse_to_write(NULL, 0, (const char *[]){"optimizer", "\xff", NULL}, MUON_E_WRITE,
	                "optimizer or its value is not valid UTF-8");
	CU_ASSERT_NOT_EQUAL(access(scratch_path("refused.safetensors"), F_OK), 0);
}

static void test_writer_failures(void)
{
	int64_t dims[] = {64};
	mspec_declared declared = {"a", MUON_U8, 1, dims};
	mspec_safetensors_writer *w;
	muon_error err = {0};
	CU_ASSERT_EQUAL(mspec_safetensors_create(&w, "/dev/full", &declared, 1, NULL, &err),
	                MUON_OK);
	CU_ASSERT_EQUAL(mspec_safetensors_append(w, ramp, 64, &err), MUON_OK);
	CU_ASSERT_EQUAL(mspec_safetensors_finish(&w, &err), MUON_E_WRITE); /* told at the end */
	CU_ASSERT_PTR_NOT_NULL(strstr(err.message, "No space left"));
	CU_ASSERT_PTR_NULL(w);

	dims[0] = 1 << 20;
	char *large = calloc(1, 1 << 20);
	muon_error_clear(&err);
	CU_ASSERT_EQUAL(mspec_safetensors_create(&w, "/dev/full", &declared, 1, NULL, &err),
	                MUON_OK);
	CU_ASSERT_EQUAL(mspec_safetensors_append(w, large, 1 << 20, &err), MUON_E_WRITE);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.message, "No space left"));
	mspec_safetensors_abandon(&w);
	CU_ASSERT_PTR_NULL(w);
	mspec_safetensors_abandon(&w);
	free(large);

	muon_error_clear(&err);
	CU_ASSERT_EQUAL(
	    mspec_safetensors_create(&w, scratch_path("no/such/folder"), NULL, 0, NULL, &err),
	    MUON_E_WRITE);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.message, "No such file"));

	dims[0] = 8;
	const char *path = scratch_path("short.safetensors");
	muon_error_clear(&err);
	CU_ASSERT_EQUAL(mspec_safetensors_create(&w, path, &declared, 1, NULL, &err), MUON_OK);
	CU_ASSERT_EQUAL(mspec_safetensors_append(w, ramp, 9, &err), MUON_E_ARGUMENT);
	CU_ASSERT_EQUAL(mspec_safetensors_append(w, ramp, 7, &err), MUON_OK);
	CU_ASSERT_EQUAL(mspec_safetensors_finish(&w, &err), MUON_E_ARGUMENT);
	CU_ASSERT_PTR_NULL(w);
}

UNIT_SUITE(safetensors, {"every type", test_every_type}, {"ranks", test_ranks},
           {"lengths", test_lengths}, {"bad JSON", test_bad_json},
           {"expensive headers", test_expensive_headers}, {"LFS pointer", test_lfs_pointer},
           {"bad entries", test_bad_entries}, {"unknown types", test_unknown_types},
           {"overlaps", test_overlaps}, {"names", test_names}, {"metadata", test_metadata},
           {"roles", test_roles}, {"memory limit", test_memory_limit},
           {"changed file", test_changed_file}, {"shards", test_shards},
           {"bad shards", test_bad_shards}, {"bad indexes", test_bad_indexes},
           {"folders", test_folders}, {"many shards", test_many_shards}, {"memory", test_memory},
           {"real files", test_real_files}, {"writer: bytes", test_writer_bytes},
           {"writer: refusals", test_writer_refusals}, {"writer: failures", test_writer_failures})
