#include "unit/unit.h"

#include <muon/optim.h>
#include <stdio.h>

static muon_rule route(const char *name, int rank)
{
	const int64_t dims[] = {4, 4, 4, 4};
	return muon_route(name, rank, dims, MUON_ROLE_AUTO, MUON_RULE_MUON);
}

static void expect(muon_rule rule, const char *const *names)
{
	for (; *names; names++)
		if (route(*names, 2) != rule)
			CU_FAIL_FATAL(*names);
}

static void test_hidden(void)
{
	static const char *const names[] = {"model.layers.3.self_attn.q_proj.weight",
					    "model.layers.3.mlp.gate_proj.weight",
					    "model.layers.0.self_attn.kv_a_proj_with_mqa.weight",
					    "model.layers.0.self_attn.kv_b_proj.weight",
					    "model.layers.5.mlp.experts.63.down_proj.weight",
					    "model.layers.5.mlp.shared_experts.up_proj.weight",
					    "model.layers.1.block_sparse_moe.experts.7.w1.weight",
					    "transformer.h.0.attn.c_attn.weight",
					    "transformer.h.11.mlp.c_proj.weight",
					    "gpt_neox.layers.2.attention.query_key_value.weight",
					    "gpt_neox.layers.2.mlp.dense_4h_to_h.weight",
					    "bert.encoder.layer.0.attention.self.query.weight",
					    "bert.encoder.layer.0.attention.output.dense.weight",
					    "bert.encoder.layer.0.output.dense.weight",
					    "layers.0.feed_forward.w2.weight",
					    "w",
					    "model.layers.0.mlp.gate_up_proj.weight",
					    NULL};
	expect(MUON_RULE_MUON, names);
}

static void test_adamw(void)
{
	static const char *const names[] = {"model.embed_tokens.weight",
					    "lm_head.weight",
					    "transformer.wte.weight",
					    "transformer.wpe.weight",
					    "gpt_neox.embed_in.weight",
					    "embed_out.weight",
					    "bert.embeddings.word_embeddings.weight",
					    "bert.embeddings.position_embeddings.weight",
					    "cls.predictions.decoder.weight",
					    "tok_embeddings.weight",
					    "output.weight",
					    "model.layers.0.input_layernorm.weight",
					    "h.0.attn.bias",
					    "classifier.weight",
					    "shared.weight",
					    "Model/Embed_Tokens/weight",
					    NULL};
	expect(MUON_RULE_ADAMW, names);
	CU_ASSERT_EQUAL(route("model.layers.3.self_attn.q_proj.weight", 1), MUON_RULE_ADAMW);
	CU_ASSERT_EQUAL(route("temperature", 0), MUON_RULE_ADAMW);
	CU_ASSERT_EQUAL(route("features.0.weight", 4), MUON_RULE_MUON);
}

static void test_router(void)
{
	static const char *const names[] = {"model.layers.1.mlp.gate.weight",
					    "model.layers.1.block_sparse_moe.gate.weight",
					    "model.layers.1.mlp.shared_expert_gate.weight",
					    "decoder.layers.1.mlp.router.weight", NULL};
	const int64_t dims[] = {64, 2048};
	for (const char *const *name = names; *name; name++) {
		CU_ASSERT_EQUAL(muon_route(*name, 2, dims, MUON_ROLE_AUTO, MUON_RULE_MUON),
				MUON_RULE_MUON);
		CU_ASSERT_EQUAL(muon_route(*name, 2, dims, MUON_ROLE_AUTO, MUON_RULE_ADAMW),
				MUON_RULE_ADAMW);
	}
	CU_ASSERT_EQUAL(muon_route("model.layers.1.mlp.gate.e_score_correction_bias", 1, dims,
				   MUON_ROLE_AUTO, MUON_RULE_MUON),
			MUON_RULE_ADAMW);
}

static void test_given_roles(void)
{
	const int64_t dims[] = {8, 8};
	static const muon_rule expected[] = {
	    [MUON_ROLE_HIDDEN] = MUON_RULE_MUON,     [MUON_ROLE_ROUTER] = MUON_RULE_ADAMW,
	    [MUON_ROLE_EMBEDDING] = MUON_RULE_ADAMW, [MUON_ROLE_HEAD] = MUON_RULE_ADAMW,
	    [MUON_ROLE_VECTOR] = MUON_RULE_ADAMW,
	};
	for (int role = MUON_ROLE_HIDDEN; role <= MUON_ROLE_VECTOR; role++)
		CU_ASSERT_EQUAL(
		    muon_route("lm_head.weight", 2, dims, (muon_role)role, MUON_RULE_ADAMW),
		    expected[role]);
}

/* A name longer than the table looks at is judged by its end. */
static void test_long_name(void)
{
	char name[2000];
	for (int i = 0; i < 1980; i++)
		name[i] = "ab."[i % 3];
	snprintf(name + 1980, sizeof name - 1980, ".lm_head.weight");
	CU_ASSERT_EQUAL(route(name, 2), MUON_RULE_ADAMW);
	snprintf(name + 1980, sizeof name - 1980, ".up_proj.weight");
	CU_ASSERT_EQUAL(route(name, 2), MUON_RULE_MUON);
}

UNIT_SUITE(routing, {"hidden matrices", test_hidden}, {"AdamW's", test_adamw},
	   {"routers", test_router}, {"given roles", test_given_roles},
	   {"long name", test_long_name})
