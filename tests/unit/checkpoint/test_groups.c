#include "unit/checkpoint/fake.h"
#include "unit/unit.h"

#include <muonspec/checkpoint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SAME(a, b, what) same((a), (b), (what), __LINE__)
static void same(const char *a, const char *b, const char *what, int line)
{
	char text[512];
	snprintf(text, sizeof text, "%s: got %s, expected %s", what, a ? a : "(null)", b);
	CU_assertImplementation(a && !strcmp(a, b), (unsigned)line, text, __FILE__, "", CU_FALSE);
}

/* A tensor of the given rank whose leading dimensions are 2. */
static void add(mspec_checkpoint *c, const char *name, int rank)
{
	fake_add(c, name, rank > 2 ? 2 : 24, rank > 3 ? 2 : 16, rank > 2 ? 24 : 0,
		 rank > 3 ? 16 : 0, 0);
}

static void check_group(const char *layout, const char *name, int rank, const char *expected)
{
	mspec_checkpoint *c = fake_checkpoint(layout);
	add(c, name, rank);
	mspec_views v;
	CU_ASSERT_EQUAL_FATAL(mspec_views_create(&v, c, NULL, NULL), MUON_OK);
	CU_ASSERT_TRUE_FATAL(v.count > 0);
	SAME(v.matrices[0].group, expected, name);
	mspec_views_destroy(&v);
	mspec_close(&c);
}

typedef struct expectation {
	const char *group, *name;
} expectation;

static void check_all(const char *layout, const expectation *table, size_t count)
{
	for (size_t i = 0; i < count; i++)
		check_group(layout, table[i].name, 2, table[i].group);
}
#define CHECK_ALL(layout, table) check_all(layout, table, sizeof table / sizeof *table)

static void test_decoders(void)
{
	static const expectation table[] = {
	    /* Llama, Qwen, Mistral */
	    {"Embedding", "model.embed_tokens.weight"},
	    {"AttnQO", "model.layers.0.self_attn.q_proj.weight"},
	    {"AttnKV", "model.layers.0.self_attn.k_proj.weight"},
	    {"AttnKV", "model.layers.0.self_attn.v_proj.weight"},
	    {"AttnQO", "model.layers.0.self_attn.o_proj.weight"},
	    {"Dense", "model.layers.0.mlp.gate_proj.weight"},
	    {"Dense", "model.layers.0.mlp.up_proj.weight"},
	    {"Dense", "model.layers.0.mlp.down_proj.weight"},
	    {"Dense", "model.layers.0.mlp.gate_up_proj.weight"},
	    {"AttnQO", "model.layers.0.self_attn.qkv_proj.weight"},
	    {"Head", "lm_head.weight"},
	    {"AttnQO", "model.layers.20.self_attn.q_proj.lora_a"},
	    {"AttnKV", "base_model.model.model.layers.0.self_attn.v_proj.lora_B.default.weight"},
	    {"AttnQO", "optimizer/momentum/model.layers.0.self_attn.q_proj.weight"},
	    /* mixtures of experts */
	    {"Router", "model.layers.1.mlp.gate.weight"},
	    {"Experts", "model.layers.1.mlp.experts.17.gate_proj.weight"},
	    {"SharedExperts", "model.layers.1.mlp.shared_experts.gate_proj.weight"},
	    {"SharedExperts", "model.layers.1.mlp.shared_expert.down_proj.weight"},
	    {"Router", "model.layers.1.mlp.shared_expert_gate.weight"},
	    {"Router", "model.layers.0.block_sparse_moe.gate.weight"},
	    {"Experts", "model.layers.0.block_sparse_moe.experts.7.w2.weight"},
	    {"Router", "model.layers.0.mlp.router.weight"},
	    {"Router", "encoder.block.1.layer.1.mlp.router.classifier.weight"},
	    {"Experts", "encoder.block.1.layer.1.mlp.experts.expert_3.wo.weight"},
	    {"Router", "transformer.blocks.0.ffn.router.layer.weight"},
	    /* DeepSeek and Moonlight, and DeepSeek's own names */
	    {"AttnQO", "model.layers.0.self_attn.q_a_proj.weight"},
	    {"AttnQO", "model.layers.0.self_attn.q_b_proj.weight"},
	    {"AttnKV", "model.layers.0.self_attn.kv_a_proj_with_mqa.weight"},
	    {"AttnKV", "model.layers.0.self_attn.kv_b_proj.weight"},
	    {"AttnQO", "layers.0.attn.wq_a.weight"},
	    {"AttnKV", "layers.0.attn.wkv_b.weight"},
	    {"Router", "layers.3.ffn.gate.weight"},
	    {"Experts", "layers.3.ffn.experts.9.w1.weight"},
	    {"SharedExperts", "layers.3.ffn.shared_experts.w1.weight"},
	    {"Head", "head.weight"},
	    {"Embedding", "embed.weight"},
	    /* Meta's Llama, llama2.c */
	    {"Embedding", "tok_embeddings.weight"},
	    {"Embedding", "token_embedding_table"},
	    {"AttnQO", "layers.0.attention.wq.weight"},
	    {"AttnKV", "layers.0.attention.wk.weight"},
	    {"AttnKV", "layers.0.attention.wv.weight"},
	    {"AttnQO", "layers.0.attention.wo.weight"},
	    {"Dense", "layers.0.feed_forward.w1.weight"},
	    {"Head", "output.weight"},
	    {"Head", "wcls"},
	    {"AttnKV", "layers/2/wv"},
	    {"Dense", "layers/2/w3"},
	    /* GPT-2, NeoX, others of their time */
	    {"Embedding", "transformer.wte.weight"},
	    {"Embedding", "wpe.weight"},
	    {"AttnQO", "transformer.h.0.attn.c_attn.weight"},
	    {"AttnQO", "transformer.h.0.attn.c_proj.weight"},
	    {"Dense", "transformer.h.0.mlp.c_fc.weight"},
	    {"Dense", "transformer.h.0.mlp.c_proj.weight"},
	    {"Embedding", "gpt_neox.embed_in.weight"},
	    {"AttnQO", "gpt_neox.layers.0.attention.query_key_value.weight"},
	    {"AttnQO", "gpt_neox.layers.0.attention.dense.weight"},
	    {"Dense", "gpt_neox.layers.0.mlp.dense_h_to_4h.weight"},
	    {"Dense", "gpt_neox.layers.0.mlp.dense_4h_to_h.weight"},
	    {"Head", "embed_out.weight"},
	    {"AttnQO", "model.decoder.layers.0.self_attn.out_proj.weight"},
	    {"Dense", "model.decoder.layers.0.fc1.weight"},
	    {"AttnQO", "h.0.attn.Wqkv.weight"},
	    {"AttnQO", "blocks.0.sa.heads.0.query.weight"},
	    {"AttnKV", "blocks.0.sa.heads.0.key.weight"},
	    {"AttnKV", "blocks.0.att.value.weight"},
	    {"Dense", "blocks.0.ffn.value.weight"},
	};
	CHECK_ALL("pytorch", table);
}

static void test_encoders(void)
{
	static const expectation table[] = {
	    /* BERT and its kin */
	    {"Embedding", "bert.embeddings.word_embeddings.weight"},
	    {"Embedding", "bert.embeddings.position_embeddings.weight"},
	    {"AttnQO", "bert.encoder.layer.0.attention.self.query.weight"},
	    {"AttnKV", "bert.encoder.layer.0.attention.self.key.weight"},
	    {"AttnKV", "bert.encoder.layer.0.attention.self.value.weight"},
	    {"AttnQO", "bert.encoder.layer.0.attention.output.dense.weight"},
	    {"Dense", "bert.encoder.layer.0.intermediate.dense.weight"},
	    {"Dense", "bert.encoder.layer.0.output.dense.weight"},
	    {"Dense", "bert.pooler.dense.weight"},
	    {"Head", "cls.predictions.decoder.weight"},
	    {"Dense", "cls.predictions.transform.dense.weight"},
	    {"Head", "cls.seq_relationship.weight"},
	    {"Head", "classifier.weight"},
	    {"Dense", "lm_head.dense.weight"},
	    {"AttnQO", "distilbert.transformer.layer.0.attention.out_lin.weight"},
	    {"AttnKV", "distilbert.transformer.layer.0.attention.k_lin.weight"},
	    {"Dense", "distilbert.transformer.layer.0.ffn.lin1.weight"},
	    /* T5 */
	    {"Embedding", "shared.weight"},
	    {"AttnQO", "encoder.block.0.layer.0.SelfAttention.q.weight"},
	    {"AttnKV", "encoder.block.0.layer.0.SelfAttention.k.weight"},
	    {"AttnKV", "decoder.block.0.layer.1.EncDecAttention.v.weight"},
	    {"AttnQO", "encoder.block.0.layer.0.SelfAttention.o.weight"},
	    {"Embedding", "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"},
	    {"Dense", "encoder.block.0.layer.1.DenseReluDense.wi_0.weight"},
	    {"Dense", "encoder.block.0.layer.1.DenseReluDense.wo.weight"},
	    /* vision */
	    {"AttnQO", "blocks.0.attn.qkv.weight"},
	    {"AttnQO", "blocks.0.attn.proj.weight"},
	    {"Dense", "blocks.0.mlp.fc2.weight"},
	    {"Embedding", "pos_embed"},
	    {"Head", "head.weight"},
	    {"AttnQO", "vit.encoder.layer.0.attention.attention.query.weight"},
	    {"AttnQO", "vit.encoder.layer.0.attention.output.dense.weight"},
	    {"Dense", "vit.encoder.layer.0.output.dense.weight"},
	    {"Dense", "t_embedder.mlp.0.weight"},
	    {"Dense", "time_embedding.linear_1.weight"},
	    {"AttnQO", "mid.attentions.0.to_out.0.weight"},
	    {"Conv", "convnext.encoder.stages.0.layers.0.pwconv1.weight"},
	    /* PyTorch's own layers */
	    {"AttnQO", "encoder.layers.0.self_attn.in_proj_weight"},
	    {"Dense", "encoder.layers.0.linear1.weight"},
	    {"Recurrent", "lstm.weight_ih_l0"},
	    {"Recurrent", "encoder.weight_hh_l1_reverse"},
	    {"Dense", "rnn.fc.weight"},
	    {"Embedding", "rnn.embedding.weight"},
	    {"Dense", "fc3.weight"},
	    {"Other", "pattern.matter.weight"},
	    {"Other", "net.0.weight"},
	    {"Dense", "backbone.layers.0.mixer.in_proj.weight"},
	    /* rl-tools */
	    {"Dense", "actor/layers/0/weights/parameters"},
	    {"Recurrent", "actor/layers/1/weights_hidden/parameters"},
	};
	CHECK_ALL("pytorch", table);
}

static void test_keras(void)
{
	static const expectation keras2[] = {
	    {"Dense", "model_weights/dense_1/dense_1/kernel:0"},
	    {"Dense", "bottleneck/bottleneck/kernel:0"},
	    {"Dense", "encoder_dense0/encoder_dense0/kernel:0"},
	    {"Embedding", "embedding_1/embedding_1/embeddings:0"},
	    {"Recurrent", "lstm_1/lstm_1/kernel:0"},
	    {"Recurrent", "lstm_1/lstm_1/recurrent_kernel:0"},
	    {"Recurrent", "bidirectional/forward_lstm/kernel:0"},
	    {"Recurrent", "gru_2/gru_2/kernel:0"},
	    {"Recurrent", "rnn_1/rnn_1/kernel:0"},
	    {"Head", "output/output/kernel:0"},
	    {"AttnQO", "Encoder-1-MultiHeadSelfAttention/x/Encoder-1-MultiHeadSelfAttention_Wq:0"},
	    {"AttnQO", "Encoder-1-MultiHeadSelfAttention/x/Encoder-1-MultiHeadSelfAttention_Wo:0"},
	    {"AttnKV", "Encoder-1-MultiHeadSelfAttention/x/Encoder-1-MultiHeadSelfAttention_Wk:0"},
	    {"AttnKV", "Encoder-1-MultiHeadSelfAttention/x/Encoder-1-MultiHeadSelfAttention_Wv:0"},
	    {"Dense", "Encoder-1-FeedForward/Encoder-1-FeedForward/Encoder-1-FeedForward_W1:0"},
	    {"Embedding", "Embedding-Token/Embedding-Token/embeddings:0"},
	    {"Dense", "MLM-Dense/MLM-Dense/kernel:0"},
	    {"Head", "NSP/NSP/kernel:0"},
	};
	CHECK_ALL("keras2", keras2);
	static const expectation keras3[] = {
	    {"Dense", "layers/dense_12/vars/0"},
	    {"Embedding", "layers/embedding/vars/0"},
	    {"Recurrent", "layers/lstm/cell/vars/1"},
	    {"Recurrent", "layers/bidirectional/forward_layer/cell/vars/0"},
	};
	CHECK_ALL("keras3", keras3);
	check_group("keras2", "mha/mha/query/kernel:0", 3, "AttnQO");
	check_group("keras2", "multi_head_attention_3/multi_head_attention_3/value/kernel:0", 3,
		    "AttnKV");
	check_group("keras2", "multi_head_attention_3/m/attention_output/kernel:0", 3, "AttnQO");
	check_group("keras3", "layers/multi_head_attention/key_dense/vars/0", 3, "AttnKV");
	check_group("keras3", "layers/multi_head_attention/output_dense/vars/0", 3, "AttnQO");
	check_group("keras2", "conv2d_1/conv2d_1_1/kernel:0", 4, "Conv");
	check_group("keras2", "separable_conv2d_1/separable_conv2d_1_1/depthwise_kernel:0", 4,
		    "Conv");
	check_group("keras2", "block1/kernel:0", 4, "Conv");
	check_group("keras2", "conv_lstm2d/kernel:0", 4, "Recurrent");
	check_group("keras1", "convolution2d_1/convolution2d_1_W", 4, "Conv");
}

static void test_shapes(void)
{
	check_group("pytorch", "patch_embed.proj.weight", 4, "Conv");
	check_group("pytorch", "embeddings.patch_embeddings.projection.weight", 4, "Conv");
	check_group("pytorch", "features.0.weight", 4, "Conv");
	check_group("pytorch", "features.denseblock1.denselayer2.conv1.weight", 4, "Conv");
	check_group("pytorch", "rnn.conv1.weight", 4, "Conv");
	check_group("pytorch", "features.0.weight", 3, "Other"); /* a stack */
	check_group("pytorch", "layers.0.mlp.experts.gate_up_proj", 3, "Experts");
	check_group("pytorch", "layers.0.mlp.switch_mlp.gate_proj.weight", 3, "Experts");
	check_group("pytorch", "layers.0.block_sparse_moe.input_linear.weight", 3, "Experts");
	check_group("pytorch", "layers.mlp.experts.w1", 4, "Experts");
}

static void test_slices(void)
{
	static const char *const expected[] = {"AttnQO", "AttnKV", "AttnKV"};
	mspec_checkpoint *c = fake_checkpoint("pytorch");
	fake_add(c, "h.0.attn.c_attn.weight", 24, 8, 0, 0, 0);
	fake_add(c, "h.0.attn.qkv.weight", 24, 8, 0, 0, 0);
	mspec_views v;
	CU_ASSERT_EQUAL_FATAL(mspec_views_create(&v, c, NULL, NULL), MUON_OK);
	CU_ASSERT_EQUAL_FATAL(v.count, 6);
	for (size_t i = 0; i < 6; i++)
		SAME(v.matrices[i].group, expected[i % 3], v.matrices[i].name);
	mspec_views_destroy(&v);
	mspec_close(&c);
}

static void test_names(void)
{
	static const char *const expected[] = {"AttnQO", "AttnKV",    "Experts",   "SharedExperts",
					       "Router", "Dense",     "Embedding", "Head",
					       "Conv",   "Recurrent", "Other"};
	const char *const *groups = mspec_groups();
	for (size_t i = 0; i < 11; i++)
		SAME(groups[i], expected[i], "mspec_groups");
	CU_ASSERT_PTR_NULL(groups[11]);
}

/* A name of any length and content has a group. */
static void test_hostile_names(void)
{
	static char name[100001];
	mspec_checkpoint *c = fake_checkpoint("pytorch");
	memset(name, '.', sizeof name - 1);
	add(c, name, 2);
	memset(name, '7', sizeof name - 1);
	add(c, name, 2);
	for (size_t i = 0; i + 1 < sizeof name; i++)
		name[i] = "*[?\\\xff\x01"[i % 6];
	add(c, name, 2);
	memcpy(name + sizeof name - 15, ".q_proj.weight", 14);
	add(c, name, 2);
	add(c, "", 2);
	mspec_views v;
	CU_ASSERT_EQUAL_FATAL(mspec_views_create(&v, c, NULL, NULL), MUON_OK);
	CU_ASSERT_EQUAL_FATAL(v.count, 5);
	SAME(v.matrices[2].group, "Other", "special characters");
	SAME(v.matrices[3].group, "AttnQO", "the end of a long name");
	mspec_views_destroy(&v);
	mspec_close(&c);
}

/* ---- groups files --------------------------------------------------------------------------- */

/* Views of three tensors under a groups file with this text. */
static int with_file(const char *text, mspec_views *v, mspec_checkpoint **c, muon_error *err)
{
	char path[] = "/tmp/muonspec-groups-XXXXXX";
	int fd = mkstemp(path);
	CU_ASSERT_TRUE_FATAL(fd >= 0);
	CU_ASSERT_EQUAL_FATAL(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
	*c = fake_checkpoint("pytorch");
	fake_add(*c, "Attn.c_attn.weight", 24, 8, 0, 0, 0);
	fake_add(*c, "a b/x", 8, 8, 0, 0, 0);
	fake_add(*c, "lm_head.weight", 8, 8, 0, 0, 0);
	const mspec_view_options options = {.groups_file = path};
	int code = mspec_views_create(v, *c, &options, err);
	unlink(path);
	return code;
}

static void test_file(void)
{
	mspec_views v;
	mspec_checkpoint *c;
	CU_ASSERT_EQUAL_FATAL(with_file("# mine\n\n  Router \t a b/* \r\nhead Attn.*[[]v]\n"
					"Conv nothing\nOther lm_head*",
					&v, &c, NULL),
			      MUON_OK);
	static const char *const expected[] = {"AttnQO", "AttnKV", "Head", "Router", "Other"};
	CU_ASSERT_EQUAL_FATAL(v.count, 5);
	for (size_t i = 0; i < 5; i++)
		SAME(v.matrices[i].group, expected[i], v.matrices[i].name);
	mspec_views_destroy(&v);
	mspec_close(&c);
	/* the glob is on the name as it is, in upper and lower case, and of the whole tensor */
	CU_ASSERT_EQUAL_FATAL(
	    with_file("Dense attn.*\nConv *c_attn.weight\nEmbedding lm_head", &v, &c, NULL),
	    MUON_OK);
	SAME(v.matrices[0].group, "Conv", "case");
	SAME(v.matrices[2].group, "Conv", "slices by the tensor's name");
	SAME(v.matrices[4].group, "Head", "part of a name");
	mspec_views_destroy(&v);
	mspec_close(&c);
}

static void test_file_errors(void)
{
	static const struct {
		const char *text, *message;
	} cases[] = {
	    {"Dense a*\nAttention b*\n", "line 2: no group is called 'Attention'; the groups are "
					 "AttnQO, AttnKV, Experts, SharedExperts, Router, Dense, "
					 "Embedding, Head, Conv, Recurrent, Other"},
	    {"Dense\n", "line 1: a glob on tensor names must follow the group"},
	    {"\x1b[31m x\n", "line 1: no group is called '\\x1b[31m'"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		mspec_views v;
		mspec_checkpoint *c;
		muon_error err = {0};
		CU_ASSERT_EQUAL(with_file(cases[i].text, &v, &c, &err), MUON_E_USAGE);
		CU_ASSERT_PTR_NULL(v.memory);
		CU_ASSERT_PTR_NOT_NULL(strstr(err.message, cases[i].message));
		CU_ASSERT_PTR_NOT_NULL(strstr(err.where, "muonspec-groups"));
		mspec_close(&c);
	}
	static char line[6000];
	memset(line, 'x', sizeof line - 1);
	mspec_views v;
	mspec_checkpoint *c;
	CU_ASSERT_EQUAL(with_file(line, &v, &c, NULL), MUON_E_USAGE);
	const char *const unreadable[] = {"/nonexistent/groups", "/tmp"};
	for (size_t i = 0; i < 2; i++) {
		muon_error err = {0};
		const mspec_view_options options = {.groups_file = unreadable[i]};
		CU_ASSERT_EQUAL(mspec_views_create(&v, c, &options, &err), MUON_E_USAGE);
		SAME(err.where, unreadable[i], "file named in the error");
	}
	mspec_close(&c);
}

/* ---- gains ---------------------------------------------------------------------------------- */

/* Name of the gain that feeds the only matrix of a checkpoint with these vectors of length 16, or
 * "". Vectors in natural order, the matrix among them. */
static void check_gain(const char *layout, const char *const *names, const char *weight,
		       const char *expected)
{
	mspec_checkpoint *c = fake_checkpoint(layout);
	for (; *names; names++)
		if (!strcmp(*names, weight))
			fake_add(c, *names, 24, 16, 0, 0, 0);
		else
			fake_add(c, *names, 16, 0, 0, 0, 0);
	mspec_views v;
	CU_ASSERT_EQUAL_FATAL(mspec_views_create(&v, c, NULL, NULL), MUON_OK);
	CU_ASSERT_EQUAL_FATAL(v.count, 1);
	size_t found = mspec_gain_tensor(c, &v.matrices[0]);
	SAME(found == SIZE_MAX ? "" : mspec_tensor_at(c, found)->name, expected, weight);
	mspec_views_destroy(&v);
	mspec_close(&c);
}

/* All layers' norms and the weights of layer 10; only `weight` is present as a matrix. */
static void check_llama(const char *weight, const char *expected)
{
	const char *names[] = {"lm_head.weight",
			       "model.layers.1.input_layernorm.weight",
			       "model.layers.1.post_attention_layernorm.weight",
			       "model.layers.10.input_layernorm.weight",
			       "model.layers.10.mlp",
			       "model.layers.10.post_attention_layernorm.weight",
			       "model.layers.10.self_attn",
			       "model.layers.10.self_attn.kv_a_layernorm.weight",
			       "model.layers.10.self_attn.q_a_layernorm.weight",
			       "model.layers.10.self_attn.z",
			       "model.norm.weight",
			       NULL};
	if (strstr(weight, ".mlp."))
		names[4] = weight;
	else if (strstr(weight, ".self_attn.o") || strstr(weight, ".self_attn.q") ||
		 strstr(weight, "self_attn.kv_b"))
		names[9] = weight;
	else if (strstr(weight, ".self_attn."))
		names[6] = weight;
	/* keep the list in natural order around q_a_layernorm */
	if (names[9] == weight && strcmp(weight, names[8]) < 0) {
		names[9] = names[8];
		names[8] = weight;
	}
	check_gain("pytorch", names, weight, expected);
}

static void test_gains(void)
{
	check_llama("model.layers.10.self_attn.k_proj.weight",
		    "model.layers.10.input_layernorm.weight");
	check_llama("model.layers.10.self_attn.q_proj.weight",
		    "model.layers.10.input_layernorm.weight");
	check_llama("model.layers.10.self_attn.q_b_proj.weight",
		    "model.layers.10.self_attn.q_a_layernorm.weight");
	check_llama("model.layers.10.self_attn.kv_b_proj.weight",
		    "model.layers.10.self_attn.kv_a_layernorm.weight");
	check_llama("model.layers.10.self_attn.o_proj.weight", "");
	check_llama("model.layers.10.mlp.gate_proj.weight",
		    "model.layers.10.post_attention_layernorm.weight");
	check_llama("model.layers.10.mlp.experts.123.up_proj.weight",
		    "model.layers.10.post_attention_layernorm.weight");
	check_llama("model.layers.10.mlp.experts.x.up_proj.weight", "");
	check_llama("model.layers.10.mlp.gate.weight",
		    "model.layers.10.post_attention_layernorm.weight");
	check_llama("model.layers.10.mlp.down_proj.weight", "");
	check_llama("lm_head.weight", "model.norm.weight");

	static const char *const meta[] = {"layers.0.attention.wq.weight",
					   "layers.0.attention_norm.weight",
					   "layers.0.ffn_norm.weight", "norm.weight", NULL};
	check_gain("pytorch", meta, meta[0], "layers.0.attention_norm.weight");
	static const char *const out[] = {"norm.weight", "output.weight", NULL};
	check_gain("pytorch", out, "output.weight", "norm.weight");
	static const char *const gpt2[] = {"h.0.ln_1.weight", "h.0.ln_2.weight",
					   "h.0.mlp.c_fc.weight", NULL};
	check_gain("pytorch", gpt2, "h.0.mlp.c_fc.weight", "h.0.ln_2.weight");
	/* norms after the weights (OLMo 2), or gains that are 1 + g (Gemma 2) */
	static const char *const after[] = {"l.0.mlp.up_proj.weight",
					    "l.0.post_attention_layernorm.weight",
					    "l.0.post_feedforward_layernorm.weight", NULL};
	check_gain("pytorch", after, after[0], "");
	/* only at the boundary of a part of the name */
	static const char *const boundary[] = {"norm.weight", "xoutput.weight", NULL};
	check_gain("pytorch", boundary, "xoutput.weight", "");
}

static void test_unfit_gains(void)
{
	for (int unfit = 0; unfit < 5; unfit++) {
		mspec_checkpoint *c = fake_checkpoint("pytorch");
		int64_t length = unfit == 1 ? 24 : 16;
		mspec_entry *e = mspec_add_tensor(
		    c, "norm.weight", unfit == 2 ? MUON_I32 : MUON_F32, "F32", 1, &length);
		if (unfit == 3)
			mspec_set_problem(c, e, MUON_E_READ, "filter lzf");
		e = fake_add(c, "output.weight", 24, 16, 0, 0, 0);
		if (unfit == 4)
			e->tensor.role = MSPEC_ROLE_OPTIMIZER;
		const mspec_view_options options = {.include_optimizer = true};
		mspec_views v;
		CU_ASSERT_EQUAL_FATAL(mspec_views_create(&v, c, &options, NULL), MUON_OK);
		CU_ASSERT_EQUAL_FATAL(v.count, 1);
		CU_ASSERT_EQUAL(mspec_gain_tensor(c, &v.matrices[0]), unfit ? SIZE_MAX : 0);
		mspec_views_destroy(&v);
		mspec_close(&c);
	}
}

UNIT_SUITE(groups, {"names", test_names}, {"decoders", test_decoders}, {"encoders", test_encoders},
	   {"keras", test_keras}, {"shapes", test_shapes}, {"slices", test_slices},
	   {"hostile_names", test_hostile_names}, {"file", test_file},
	   {"file_errors", test_file_errors}, {"gains", test_gains},
	   {"unfit_gains", test_unfit_gains})
