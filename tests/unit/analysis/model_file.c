#include "unit/analysis/model_file.h"

#include "checkpoint/writer.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

const char *model_file_json(const mspec_model_config *c)
{
	static char json[2048];
	bool llama = c->family == MSPEC_FAMILY_LLAMA;
	int used = snprintf(
	    json, sizeof json,
	    "{\"model_type\": \"%s\", \"vocab_size\": %lld, \"hidden_size\": %lld, "
	    "\"num_hidden_layers\": %lld, \"num_attention_heads\": %lld, \"intermediate_size\": "
	    "%lld, "
	    "\"max_position_embeddings\": %lld, \"rope_theta\": %.17g, \"rms_norm_eps\": %.17g, "
	    "\"tie_word_embeddings\": %s",
	    llama ? "llama" : "deepseek_v3", (long long)c->vocab, (long long)c->hidden,
	    (long long)c->layers, (long long)c->heads, (long long)c->ffn, (long long)c->context,
	    c->rope_theta, c->norm_eps, c->tied_head ? "true" : "false");
	if (llama)
		snprintf(json + used, sizeof json - (size_t)used,
		         ", \"num_key_value_heads\": %lld, \"head_dim\": %lld}",
		         (long long)c->kv_heads, (long long)c->head_dim);
	else
		snprintf(json + used, sizeof json - (size_t)used,
		         ", \"first_k_dense_replace\": %lld, \"n_routed_experts\": %lld, "
		         "\"n_shared_experts\": %lld, \"num_experts_per_tok\": %lld, "
		         "\"moe_intermediate_size\": %lld, \"routed_scaling_factor\": %.17g, "
		         "\"kv_lora_rank\": %lld, \"qk_nope_head_dim\": %lld, "
		         "\"qk_rope_head_dim\": %lld, \"v_head_dim\": %lld}",
		         (long long)c->dense_layers, (long long)c->experts,
		         (long long)c->shared_experts, (long long)c->top_k,
		         (long long)c->expert_ffn, c->routed_scale, (long long)c->kv_rank,
		         (long long)c->nope_dim, (long long)c->rope_dim, (long long)c->value_dim);
	return json;
}

static mspec_model *lay_out(const mspec_model_config *config)
{
	mspec_model *model;
	CU_ASSERT_EQUAL_FATAL(mspec_model_create(&model, config, NULL), MUON_OK);
	return model;
}

float *model_file_parameters(const mspec_model_config *config, uint64_t seed)
{
	mspec_model *model = lay_out(config);
	int64_t count = mspec_model_parameter_count(model);
	float *parameters = muon_alloc((size_t)count, sizeof *parameters);
	CU_ASSERT_PTR_NOT_NULL_FATAL(parameters);
	double *noise = fixture_normal(count, seed + 1);
	mspec_model_initialize(model, seed, parameters);
	for (size_t i = 0; i < mspec_model_tensor_count(model); i++) {
		const mspec_model_tensor *t = mspec_model_tensor_at(model, i);
		for (int64_t k = t->offset; t->rank == 1 && k < t->offset + t->count; k++)
			parameters[k] += (float)(0.2 * noise[k]);
	}
	muon_free(noise);
	mspec_model_destroy(&model);
	return parameters;
}

float *model_file_tensor(const mspec_model_config *config, float *parameters, const char *name)
{
	mspec_model *model = lay_out(config);
	float *found = NULL;
	for (size_t i = 0; i < mspec_model_tensor_count(model); i++)
		if (!strcmp(mspec_model_tensor_at(model, i)->name, name))
			found = parameters + mspec_model_tensor_at(model, i)->offset;
	CU_ASSERT_PTR_NOT_NULL_FATAL(found);
	mspec_model_destroy(&model);
	return found;
}

/* ---- the file ------------------------------------------------------------------------------ */

static void write_number(mspec_hdf5_writer *writer, const char *name, double value)
{
	if (!isnan(value))
		CU_ASSERT_EQUAL(mspec_hdf5_attribute_number(writer, NULL, name, value, NULL),
		                MUON_OK);
}

static void write_record(mspec_hdf5_writer *writer, const char *name, const double *values,
                         int64_t layers)
{
	if (!values)
		return;
	CU_ASSERT_EQUAL(mspec_hdf5_dataset(writer, name, MUON_F64, 1, &layers, NULL), MUON_OK);
	CU_ASSERT_EQUAL(mspec_hdf5_append(writer, values, layers, NULL), MUON_OK);
}

static void write_tensors(mspec_hdf5_writer *writer, const model_file *file)
{
	mspec_model *model = lay_out(file->config);
	for (size_t i = 0; i < mspec_model_tensor_count(model); i++) {
		const mspec_model_tensor *t = mspec_model_tensor_at(model, i);
		if (file->without && !strcmp(file->without, t->name))
			continue;
		CU_ASSERT_EQUAL(
		    mspec_hdf5_dataset(writer, t->name, MUON_F32, t->rank, t->dims, NULL), MUON_OK);
		CU_ASSERT_EQUAL(
		    mspec_hdf5_append(writer, file->parameters + t->offset, t->count, NULL),
		    MUON_OK);
	}
	mspec_model_destroy(&model);
}

void model_file_write(const char *path, const model_file *file)
{
	mspec_hdf5_writer *writer;
	const char *json = file->json ? file->json : model_file_json(file->config);
	CU_ASSERT_EQUAL_FATAL(mspec_hdf5_create(&writer, path, NULL), MUON_OK);
	write_number(writer, "muonspec_format", 1);
	write_number(writer, "step", file->step);
	write_number(writer, "lr", file->lr);
	write_number(writer, "weight_decay", file->weight_decay);
	if (*json)
		CU_ASSERT_EQUAL(mspec_hdf5_attribute_text(writer, NULL, "config", json, NULL),
		                MUON_OK);
	write_tensors(writer, file);
	write_record(writer, "activations/output_rms", file->output_rms, file->config->layers);
	write_record(writer, "activations/output_max_abs", file->output_max_abs,
	             file->config->layers);
	write_record(writer, "activations/max_attention_logit", file->max_attention_logit,
	             file->config->layers);
	CU_ASSERT_EQUAL_FATAL(mspec_hdf5_finish(&writer, NULL), MUON_OK);
}
