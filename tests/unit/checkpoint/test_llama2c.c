/* llama2.c's .bin files: a small one made here, and the real stories260K. */
#include "unit/checkpoint/scratch.h"
#include "unit/unit.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { DIM = 8, FFN = 12, LAYERS = 2, HEADS = 4, KV_HEADS = 2, VOCAB = 5, CONTEXT = 3, KV = 4 };
/* floats of everything but a head of its own */
enum {
	LAYER_FLOATS = 2 * DIM + 2 * DIM * DIM + 2 * KV * DIM + 3 * FFN * DIM,
	FLOATS = VOCAB * DIM + LAYERS * LAYER_FLOATS + DIM + 2 * CONTEXT,
	HEAD_FLOATS = VOCAB * DIM
};

static unsigned char file_bytes[28 + 4 * (FLOATS + HEAD_FLOATS)];

/* Element i of the file is the number i. */
static const char *make_file(const char *name, const int32_t header[7], size_t floats)
{
	const char *path = scratch_path(name);
	memcpy(file_bytes, header, 28);
	for (size_t i = 0; i < floats; i++) {
		float x = (float)i;
		memcpy(file_bytes + 28 + 4 * i, &x, 4);
	}
	scratch_write(path, file_bytes, 28 + 4 * floats);
	return path;
}

static float first_element(mspec_checkpoint *checkpoint, const char *name)
{
	float x = -1;
	size_t index = scratch_find(checkpoint, name);
	if (index != SIZE_MAX)
		CU_ASSERT_EQUAL(mspec_read(checkpoint, index, 0, 1, &x, NULL), MUON_OK);
	return x;
}

static void test_layout(void)
{
	const int32_t header[7] = {DIM, FFN, LAYERS, HEADS, KV_HEADS, VOCAB, CONTEXT};
	mspec_checkpoint *c = scratch_open(make_file("tied.bin", header, FLOATS));
	if (!c)
		return;
	CU_ASSERT_STRING_EQUAL(mspec_info(c)->format, "llama2.c");
	CU_ASSERT_PTR_NOT_NULL(strstr(mspec_info(c)->config, "\"num_key_value_heads\": 2"));
	CU_ASSERT_PTR_NOT_NULL(strstr(mspec_info(c)->config, "\"tie_word_embeddings\": true"));
	CU_ASSERT_EQUAL(mspec_tensor_count(c), 2 + 9 * LAYERS);
	int at = VOCAB * DIM;
	CU_ASSERT_EQUAL(first_element(c, "model.embed_tokens.weight"), 0);
	CU_ASSERT_EQUAL(first_element(c, "model.layers.1.input_layernorm.weight"), at + DIM);
	at += LAYERS * DIM;
	CU_ASSERT_EQUAL(first_element(c, "model.layers.0.self_attn.q_proj.weight"), at);
	at += LAYERS * DIM * DIM;
	CU_ASSERT_EQUAL(first_element(c, "model.layers.1.self_attn.k_proj.weight"), at + KV * DIM);
	at += 2 * LAYERS * KV * DIM;
	CU_ASSERT_EQUAL(first_element(c, "model.layers.0.self_attn.o_proj.weight"), at);
	at += LAYERS * DIM * DIM + LAYERS * DIM;
	CU_ASSERT_EQUAL(first_element(c, "model.layers.0.mlp.gate_proj.weight"), at);
	at += LAYERS * FFN * DIM;
	CU_ASSERT_EQUAL(first_element(c, "model.layers.1.mlp.down_proj.weight"), at + FFN * DIM);
	at += LAYERS * FFN * DIM;
	CU_ASSERT_EQUAL(first_element(c, "model.layers.0.mlp.up_proj.weight"), at);
	at += LAYERS * FFN * DIM;
	CU_ASSERT_EQUAL(first_element(c, "model.norm.weight"), at);
	CU_ASSERT_EQUAL(at + DIM + 2 * CONTEXT, FLOATS);
	mspec_close(&c);
}

static void test_own_head(void)
{
	const int32_t header[7] = {DIM, FFN, LAYERS, HEADS, KV_HEADS, -VOCAB, CONTEXT};
	mspec_checkpoint *c = scratch_open(make_file("untied.bin", header, FLOATS + HEAD_FLOATS));
	if (!c)
		return;
	CU_ASSERT_EQUAL(first_element(c, "lm_head.weight"), FLOATS);
	CU_ASSERT_PTR_NOT_NULL(strstr(mspec_info(c)->config, "\"tie_word_embeddings\": false"));
	mspec_close(&c);
}

/* Whatever does not fit the file to the byte is some other kind of file. */
static void test_refused(void)
{
	static const int32_t good[7] = {DIM, FFN, LAYERS, HEADS, KV_HEADS, VOCAB, CONTEXT};
	static const int32_t bad[] = {0, -1, INT32_MAX, INT32_MIN, 3};
	scratch_refuse(make_file("short.bin", good, FLOATS - 1), MUON_E_FORMAT, "llama2.c");
	scratch_refuse(make_file("long.bin", good, FLOATS + 1), MUON_E_FORMAT, "llama2.c");
	for (int field = 0; field < 7; field++)
		for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
			int32_t header[7];
			memcpy(header, good, sizeof header);
			if (header[field] == bad[i])
				continue;
			header[field] = bad[i];
			scratch_refuse(make_file("bad.bin", header, FLOATS), MUON_E_FORMAT, "");
		}
}

static void test_memory(void)
{
	const int32_t header[7] = {DIM, FFN, LAYERS, HEADS, KV_HEADS, VOCAB, CONTEXT};
	scratch_exhaust_memory(make_file("memory.bin", header, FLOATS));
}

static void test_real(void)
{
	const char *path = scratch_shared("raw/stories260K.bin");
	mspec_checkpoint *c = path ? scratch_open(path) : NULL;
	if (!c)
		return;
	CU_ASSERT_EQUAL(mspec_tensor_count(c), 2 + 9 * 5);
	size_t index = scratch_find(c, "model.layers.4.self_attn.k_proj.weight");
	CU_ASSERT_EQUAL(mspec_tensor_at(c, index)->dims[0], 32);
	CU_ASSERT_EQUAL(mspec_tensor_at(c, index)->dims[1], 64);
	mspec_close(&c);
}

UNIT_SUITE(llama2c, {"layout", test_layout}, {"own_head", test_own_head},
           {"refused", test_refused}, {"memory", test_memory}, {"real", test_real})
