/* Checkpoints of random Gaussian-like matrices in the shapes that the benchmarks need:
 * `make_checkpoint twelve|moonlight-layer|embedding FILE`, the format after the file's ending. */
#include "base/memory.h"
#include "base/random.h"
#include "checkpoint/writer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct bench_tensor {
	char name[96];
	int64_t dims[2];
} bench_tensor;

typedef struct bench_model {
	muon_dtype dtype;
	size_t count;
	bench_tensor tensors[256];
} bench_model;

static void add(bench_model *model, int64_t rows, int64_t cols, const char *before, int index,
                const char *after)
{
	bench_tensor *t = &model->tensors[model->count++];
	snprintf(t->name, sizeof t->name, "%s.%d.%s", before, index, after);
	t->dims[0] = rows;
	t->dims[1] = cols;
}

static void make_twelve(bench_model *m)
{
	m->dtype = MUON_F32;
	for (int i = 0; i < 4; i++)
		add(m, 768, 768, "blocks", i, "attn.proj.weight");
	for (int i = 0; i < 2; i++) {
		add(m, 768, 3072, "blocks", i, "mlp.down_proj.weight");
		add(m, 3072, 768, "blocks", i, "mlp.up_proj.weight");
		add(m, 2048, 1408, "experts", i, "down_proj.weight");
		add(m, 4096, 1024, "blocks", i, "fc.weight");
	}
}

static void make_moonlight_layer(bench_model *m)
{
	m->dtype = MUON_BF16;
	for (int e = 0; e < 64; e++) {
		add(m, 1408, 2048, "model.layers.1.mlp.experts", e, "gate_proj.weight");
		add(m, 1408, 2048, "model.layers.1.mlp.experts", e, "up_proj.weight");
		add(m, 2048, 1408, "model.layers.1.mlp.experts", e, "down_proj.weight");
	}
	add(m, 2816, 2048, "model.layers", 1, "mlp.shared_experts.gate_proj.weight");
	add(m, 2816, 2048, "model.layers", 1, "mlp.shared_experts.up_proj.weight");
	add(m, 2048, 2816, "model.layers", 1, "mlp.shared_experts.down_proj.weight");
	add(m, 64, 2048, "model.layers", 1, "mlp.gate.weight");
	add(m, 3072, 2048, "model.layers", 1, "self_attn.q_proj.weight");
	add(m, 576, 2048, "model.layers", 1, "self_attn.kv_a_proj_with_mqa.weight");
	add(m, 4096, 512, "model.layers", 1, "self_attn.kv_b_proj.weight");
	add(m, 2048, 2048, "model.layers", 1, "self_attn.o_proj.weight");
}

static void make_embedding(bench_model *m)
{
	m->dtype = MUON_BF16;
	add(m, 163840, 2048, "model", 0, "embed_tokens.weight");
}

/* The sum of four uniform 16-bit numbers is close enough to a Gaussian, and quick. */
static float quick_normal(muon_random *random)
{
	uint64_t bits = muon_random_bits(random);
	int sum = (int)(bits & 0xffff) + (int)(bits >> 16 & 0xffff) + (int)(bits >> 32 & 0xffff) +
	          (int)(bits >> 48);
	return (float)(sum - 131070) * (0.02f / 37837.0f);
}

static void fill(muon_dtype dtype, void *block, size_t count, muon_random *random)
{
	for (size_t i = 0; i < count; i++) {
		float x = quick_normal(random);
		uint32_t bits;
		memcpy(&bits, &x, sizeof bits);
		if (dtype == MUON_F32)
			((float *)block)[i] = x;
		else
			((uint16_t *)block)[i] = (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
	}
}

static int write_hdf5(const bench_model *model, const char *path, void *block, size_t room,
                      muon_error *err)
{
	mspec_hdf5_writer *writer;
	muon_random random;
	muon_random_seed(&random, 2502);
	int code = mspec_hdf5_create(&writer, path, err);
	for (size_t i = 0; i < model->count && !code; i++) {
		const bench_tensor *t = &model->tensors[i];
		size_t left = (size_t)(t->dims[0] * t->dims[1]);
		code = mspec_hdf5_dataset(writer, t->name, model->dtype, 2, t->dims, err);
		while (left && !code) {
			size_t n = left < room ? left : room;
			fill(model->dtype, block, n, &random);
			code = mspec_hdf5_append(writer, block, (int64_t)n, err);
			left -= n;
		}
	}
	return code ? code : mspec_hdf5_finish(&writer, err);
}

static int write_safetensors(const bench_model *model, const char *path, void *block, size_t room,
                             muon_error *err)
{
	static const char *const no_metadata[] = {NULL};
	mspec_declared declared[256];
	mspec_safetensors_writer *writer;
	muon_random random;
	muon_random_seed(&random, 2502);
	for (size_t i = 0; i < model->count; i++)
		declared[i] = (mspec_declared){model->tensors[i].name, model->dtype, 2,
		                               model->tensors[i].dims};
	int code = mspec_safetensors_create(&writer, path, declared, model->count, no_metadata, err);
	for (size_t i = 0; i < model->count && !code; i++) {
		size_t left = (size_t)(declared[i].dims[0] * declared[i].dims[1]);
		while (left && !code) {
			size_t n = left < room ? left : room;
			fill(model->dtype, block, n, &random);
			code = mspec_safetensors_append(writer, block, n * muon_dtype_size(model->dtype),
			                                err);
			left -= n;
		}
	}
	return code ? code : mspec_safetensors_finish(&writer, err);
}

int main(int argc, char **argv)
{
	static bench_model model;
	enum { ROOM = 1 << 20 };
	muon_error err = {0};
	void *block = muon_alloc(ROOM, sizeof(float));
	if (argc != 3 || !block)
		return 2;
	if (!strcmp(argv[1], "twelve"))
		make_twelve(&model);
	else if (!strcmp(argv[1], "moonlight-layer"))
		make_moonlight_layer(&model);
	else if (!strcmp(argv[1], "embedding"))
		make_embedding(&model);
	else
		return 2;
	int code = strstr(argv[2], ".safetensors")
	               ? write_safetensors(&model, argv[2], block, ROOM, &err)
	               : write_hdf5(&model, argv[2], block, ROOM, &err);
	muon_free(block);
	if (code)
		fprintf(stderr, "make_checkpoint: %s: %s\n", argv[2], err.message);
	return muon_exit_status(code);
}
