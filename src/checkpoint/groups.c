#include "checkpoint/groups.h"

#include "base/memory.h"
#include "base/text.h"
#include "checkpoint/names.h"

#include <errno.h>
#include <fnmatch.h>
#include <muonspec/checkpoint.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* the memo may stay incomplete when memory is short: its elements belong to the arena */
#define HASH_NONFATAL_OOM 1
#define uthash_nonfatal_oom(element) ((void)(element))
#define uthash_malloc(size) muon_alloc((size), 1)
#define uthash_free(block, size) muon_free(block)
#include <uthash.h>

typedef enum group {
	ATTN_QO,
	ATTN_KV,
	EXPERTS,
	SHARED_EXPERTS,
	ROUTER,
	DENSE,
	EMBEDDING,
	HEAD,
	CONV,
	RECURRENT,
	OTHER,
	GROUP_COUNT
} group;

static const char *const group_names[GROUP_COUNT + 1] = {
    [ATTN_QO] = "AttnQO",      [ATTN_KV] = "AttnKV",
    [EXPERTS] = "Experts",     [SHARED_EXPERTS] = "SharedExperts",
    [ROUTER] = "Router",       [DENSE] = "Dense",
    [EMBEDDING] = "Embedding", [HEAD] = "Head",
    [CONV] = "Conv",           [RECURRENT] = "Recurrent",
    [OTHER] = "Other",
};

/* What a rule asks for besides its glob. */
typedef enum condition {
	ALWAYS,
	IN_ATTENTION,  /* the name says somewhere that this is attention */
	IF_CONVOLUTION /* the tensor has the shape of a convolution's kernel */
} condition;

/* The rules, first match. Globs are on the key of names.h, where every number is '#' and a part of
 * a fused qkv ends in "@q.", "@k." or "@v.". A fused qkv that can't be split counts as AttnQO. */
static const struct {
	group group;
	condition condition;
	const char *glob;
} builtin[] = {
    {ATTN_QO, ALWAYS, "*@q."},
    {ATTN_KV, ALWAYS, "*@[kv]."},

    /* mixtures of experts */
    {EXPERTS, ALWAYS, "*.experts.#.*"},
    {ROUTER, ALWAYS, "*.shared_expert_gate.*"},
    {ROUTER, ALWAYS, "*shared_expert*.gate_weight."},
    {SHARED_EXPERTS, ALWAYS, "*shared_expert*"},
    {SHARED_EXPERTS, ALWAYS, "*.shared_mlp.*"},
    {ROUTER, ALWAYS, "*.router.*"},
    {ROUTER, ALWAYS, "*_router.*"},
    {ROUTER, ALWAYS, "*.mlp.gate.*"},
    {ROUTER, ALWAYS, "*.ffn.gate.*"},
    {ROUTER, ALWAYS, "*.feed_forward.gate.*"},
    {ROUTER, ALWAYS, "*.moe_gate.*"},
    {ROUTER, ALWAYS, "*moe*.gate.*"},
    {ROUTER, ALWAYS, "*.gate.wg.*"},
    {EXPERTS, ALWAYS, "*expert*"},
    {EXPERTS, ALWAYS, "*.switch_mlp.*"},

    /* T5 calls the second matrix of its MLP "wo", as others do attention's output */
    {DENSE, ALWAYS, "*densereludense.*"},
    {DENSE, ALWAYS, "*.mlp.wo.*"},
    {DENSE, ALWAYS, "*.ffn.wo.*"},
    {DENSE, ALWAYS, "*.feed_forward.wo.*"},

    /* attention: keys and values */
    {ATTN_KV, ALWAYS, "*.[kv]_proj*"},
    {ATTN_KV, ALWAYS, "*.kv_proj.*"},
    {ATTN_KV, ALWAYS, "*.kv_*_proj*"},
    {ATTN_KV, ALWAYS, "*.[kv]_up_proj.*"},
    {ATTN_KV, ALWAYS, "*.w[kv].*"},
    {ATTN_KV, ALWAYS, "*.wkv*"},
    {ATTN_KV, ALWAYS, "*_w[kv]."},
    {ATTN_KV, ALWAYS, "*.to_[kv].*"},
    {ATTN_KV, ALWAYS, "*.to_kv.*"},
    {ATTN_KV, ALWAYS, "*.[kv]_lin.*"},
    {ATTN_KV, ALWAYS, "*.key_dense.*"},
    {ATTN_KV, ALWAYS, "*.value_dense.*"},
    {ATTN_KV, ALWAYS, "*.key_proj.*"},
    {ATTN_KV, ALWAYS, "*.value_proj.*"},
    {ATTN_KV, ALWAYS, "*.linear_kv*"},
    {ATTN_KV, IN_ATTENTION, "*.[kv].*"},
    {ATTN_KV, IN_ATTENTION, "*.key.*"},
    {ATTN_KV, IN_ATTENTION, "*.value.*"},
    {ATTN_KV, IN_ATTENTION, "*.linear_[kv].*"},

    /* attention: queries, output, and what is fused */
    {ATTN_QO, ALWAYS, "*.[qo]_proj*"},
    {ATTN_QO, ALWAYS, "*.q_*_proj*"},
    {ATTN_QO, ALWAYS, "*.wq*"},
    {ATTN_QO, ALWAYS, "*.wo.*"},
    {ATTN_QO, ALWAYS, "*_w[qo]."},
    {ATTN_QO, ALWAYS, "*.to_q.*"},
    {ATTN_QO, ALWAYS, "*.to_out.*"},
    {ATTN_QO, ALWAYS, "*.q_lin.*"},
    {ATTN_QO, ALWAYS, "*.out_lin.*"},
    {ATTN_QO, ALWAYS, "*qkv*"},
    {ATTN_QO, ALWAYS, "*.query_key_value.*"},
    {ATTN_QO, ALWAYS, "*.query.*"},
    {ATTN_QO, ALWAYS, "*.query_dense.*"},
    {ATTN_QO, ALWAYS, "*.query_proj.*"},
    {ATTN_QO, ALWAYS, "*.attention_output.*"},
    {ATTN_QO, ALWAYS, "*.in_proj_weight."},
    {ATTN_QO, ALWAYS, "*.[cq]_attn.*"},
    {ATTN_QO, IN_ATTENTION, "*.[qo].*"},
    {ATTN_QO, IN_ATTENTION, "*.out.*"},
    {ATTN_QO, IN_ATTENTION, "*.out_proj*"},
    {ATTN_QO, IN_ATTENTION, "*.output.*"},
    {ATTN_QO, IN_ATTENTION, "*.output_dense.*"},
    {ATTN_QO, IN_ATTENTION, "*.dense.*"},
    {ATTN_QO, IN_ATTENTION, "*.c_proj.*"},
    {ATTN_QO, IN_ATTENTION, "*.proj.*"},
    {ATTN_QO, IN_ATTENTION, "*.in_proj.*"},
    {ATTN_QO, IN_ATTENTION, "*.linear_proj.*"},
    {ATTN_QO, IN_ATTENTION, "*.linear_q*"},
    {ATTN_QO, IN_ATTENTION, "*.linear_out.*"},
    {ATTN_QO, IN_ATTENTION, "*.receptance.*"},

    /* stacked experts that are named only by the layer */
    {EXPERTS, ALWAYS, "*.moe.*"},
    {EXPERTS, ALWAYS, "*_moe.*"},
    {EXPERTS, ALWAYS, "*.moe_*"},

    /* from the last hidden state to the output */
    {DENSE, ALWAYS, "*.lm_head.dense.*"},
    {HEAD, ALWAYS, "*.lm_head.*"},
    {HEAD, ALWAYS, "*.embed_out.*"},
    {HEAD, ALWAYS, ".output.weight."},
    {HEAD, ALWAYS, ".model.output.weight."},
    {HEAD, ALWAYS, ".head.*"},
    {HEAD, ALWAYS, ".model.head.*"},
    {HEAD, ALWAYS, ".head_dist.*"},
    {HEAD, ALWAYS, ".mlp_head.*"},
    {HEAD, ALWAYS, ".proj_out.*"},
    {HEAD, ALWAYS, ".generator.proj.*"},
    {HEAD, ALWAYS, "*.output_layer.*"},
    {HEAD, ALWAYS, "*.output.kernel."},
    {HEAD, ALWAYS, "*.output.output_*"},
    {HEAD, ALWAYS, "*.wcls.*"},
    {HEAD, ALWAYS, "*.predictions.decoder.*"},
    {HEAD, ALWAYS, "*.predictions.kernel."},
    {HEAD, ALWAYS, "*.seq_relationship.*"},
    {HEAD, ALWAYS, "*.nsp.*"},
    {HEAD, ALWAYS, "*.vocab_projector.*"},
    {HEAD, ALWAYS, "*.classifier.*"},
    {HEAD, ALWAYS, "*.score.weight."},
    {HEAD, ALWAYS, "*.qa_outputs.*"},
    {HEAD, ALWAYS, "*.logits.*"},

    {RECURRENT, ALWAYS, "*conv_lstm*"},
    {CONV, IF_CONVOLUTION, "*"},

    {DENSE, ALWAYS, "*embed*.mlp.*"},
    {DENSE, ALWAYS, "*embed*.linear_#.*"},
    {DENSE, ALWAYS, "*embed*.dense.*"},
    {EMBEDDING, ALWAYS, "*.wte.*"},
    {EMBEDDING, ALWAYS, "*.wpe.*"},
    {EMBEDDING, ALWAYS, "*.embed.*"},
    {EMBEDDING, ALWAYS, "*.embed_*"},
    {EMBEDDING, ALWAYS, "*_embed.*"},
    {EMBEDDING, ALWAYS, "*.embedding*"},
    {EMBEDDING, ALWAYS, "*_embedding*"},
    {EMBEDDING, ALWAYS, ".shared.weight."},
    {EMBEDDING, ALWAYS, "*.relative_attention_bias.*"},
    {EMBEDDING, ALWAYS, "*.relative_position_bias_table."},

    {DENSE, ALWAYS, "*.fc.weight."},
    {DENSE, ALWAYS, "*.fc#.weight."},
    {DENSE, ALWAYS, "*.linear.weight."},
    {RECURRENT, ALWAYS, "*lstm*"},
    {RECURRENT, ALWAYS, "*.gru*"},
    {RECURRENT, ALWAYS, "*_gru*"},
    {RECURRENT, ALWAYS, "*.rnn*"},
    {RECURRENT, ALWAYS, "*_rnn*"},
    {RECURRENT, ALWAYS, "*.bidirectional*"},
    {RECURRENT, ALWAYS, "*recurrent_kernel*"},
    {RECURRENT, ALWAYS, "*.weight_[ih]h*"},
    {RECURRENT, ALWAYS, "*.weight_hr*"},
    {RECURRENT, ALWAYS, "*.weights_input.*"},
    {RECURRENT, ALWAYS, "*.weights_hidden.*"},

    {DENSE, ALWAYS, "*.gate_proj*"},
    {DENSE, ALWAYS, "*.up_proj*"},
    {DENSE, ALWAYS, "*.down_proj*"},
    {DENSE, ALWAYS, "*.gate_up_proj*"},
    {DENSE, ALWAYS, "*.w#.*"},
    {DENSE, ALWAYS, "*.wi.*"},
    {DENSE, ALWAYS, "*.wi_#.*"},
    {DENSE, ALWAYS, "*.c_fc.*"},
    {DENSE, ALWAYS, "*.c_proj.*"},
    {DENSE, ALWAYS, "*.dense_h_to_#h.*"},
    {DENSE, ALWAYS, "*.dense_#h_to_h.*"},
    {DENSE, ALWAYS, "*.intermediate.dense.*"},
    {DENSE, ALWAYS, "*.output.dense.*"},
    {DENSE, ALWAYS, "*.mlp.*"},
    {DENSE, ALWAYS, "*.mlp_*"},
    {DENSE, ALWAYS, "*_mlp.*"},
    {DENSE, ALWAYS, "*.ff.*"},
    {DENSE, ALWAYS, "*.ffn.*"},
    {DENSE, ALWAYS, "*.ffn_*"},
    {DENSE, ALWAYS, "*.feed_forward.*"},
    {DENSE, ALWAYS, "*feedforward*"},
    {CONV, ALWAYS, "*conv*"},
    {DENSE, ALWAYS, "*.pooler.*"},
    {DENSE, ALWAYS, "*.pre_classifier.*"},
    {DENSE, ALWAYS, "*.vocab_transform.*"},
    {DENSE, ALWAYS, "*.fc.*"},
    {DENSE, ALWAYS, "*.fc#*"},
    {DENSE, ALWAYS, "*_fc.*"},
    {DENSE, ALWAYS, "*_fc#*"},
    {DENSE, ALWAYS, "*.linear*"},
    {DENSE, ALWAYS, "*_linear*"},
    {DENSE, ALWAYS, "*.lin#.*"},
    {DENSE, ALWAYS, "*.dense.*"},
    {DENSE, ALWAYS, "*.dense_*"},
    {DENSE, ALWAYS, "*.dense#*"},
    {DENSE, ALWAYS, "*[_-]dense*"},
    {DENSE, ALWAYS, "*.in_proj.*"},
    {DENSE, ALWAYS, "*.out_proj.*"},
    {DENSE, ALWAYS, "*.x_proj.*"},
    {DENSE, ALWAYS, "*.dt_proj.*"},
    {DENSE, ALWAYS, "*.projection.*"},
    {DENSE, ALWAYS, "*_projection.*"},
    {DENSE, ALWAYS, "*.weights.parameters."}, /* rl-tools */
    {DENSE, ALWAYS, "*.kernel."},             /* Keras: what has no other name is a Dense layer */
};

typedef struct file_rule {
	struct file_rule *next;
	group group;
	const char *glob;
} file_rule;

/* The layers of a model repeat the same names with other numbers, so that few names are new. */
typedef struct remembered {
	char *key;
	group group;
	UT_hash_handle hh;
} remembered;

struct mspec_group_rules {
	file_rule *first, **last;
	remembered *memo;
	muon_arena arena;
};

const char *const *mspec_groups(void)
{
	return group_names;
}

static int unknown_group(const char *path, int number, const char *word, muon_error *err)
{
	char escaped[64], list[160] = "";
	for (int g = 0; g < GROUP_COUNT; g++) {
		size_t used = strlen(list);
		snprintf(list + used, sizeof list - used, "%s%s", g ? ", " : "", group_names[g]);
	}
	return muon_fail(err, MUON_E_USAGE, path,
			 "line %d: no group is called '%s'; the groups are %s", number,
			 muon_escape(escaped, sizeof escaped, word), list);
}

static int add_rule(mspec_group_rules *rules, const char *path, int number, char *line,
		    muon_error *err)
{
	static const char blank[] = " \t\r\n\f\v";
	char *word = line + strspn(line, blank);
	if (!*word || *word == '#')
		return MUON_OK;
	char *end = word + strcspn(word, blank);
	char *glob = end + strspn(end, blank);
	size_t length = strlen(glob);
	while (length && strchr(blank, glob[length - 1]))
		glob[--length] = 0;
	*end = 0;
	int g = 0;
	while (g < GROUP_COUNT && strcasecmp(word, group_names[g]))
		g++;
	if (g == GROUP_COUNT)
		return unknown_group(path, number, word, err);
	if (!length)
		return muon_fail(err, MUON_E_USAGE, path,
				 "line %d: a glob on tensor names must follow the group", number);
	file_rule *rule = muon_arena_alloc(&rules->arena, 1, sizeof *rule);
	char *copy = muon_arena_string(&rules->arena, glob);
	if (!rule || !copy)
		return muon_fail(err, MUON_E_MEMORY, path, "out of memory");
	*rule = (file_rule){NULL, (group)g, copy};
	*rules->last = rule;
	rules->last = &rule->next;
	return MUON_OK;
}

static int read_rules(mspec_group_rules *rules, const char *path, muon_error *err)
{
	FILE *file = fopen(path, "r");
	if (!file)
		return muon_fail(err, MUON_E_USAGE, path, "the groups file: %s", strerror(errno));
	char line[4096];
	int code = MUON_OK;
	for (int number = 1; !code && fgets(line, sizeof line, file); number++) {
		if (strlen(line) == sizeof line - 1 && line[sizeof line - 2] != '\n')
			code = muon_fail(err, MUON_E_USAGE, path, "line %d is too long", number);
		else
			code = add_rule(rules, path, number, line, err);
	}
	if (!code && ferror(file))
		code = muon_fail(err, MUON_E_USAGE, path, "the groups file: %s", strerror(errno));
	fclose(file);
	return code;
}

int mspec_group_rules_create(mspec_group_rules **out, const char *path, muon_error *err)
{
	mspec_group_rules *rules = *out = muon_alloc(1, sizeof *rules);
	if (!rules)
		return muon_fail(err, MUON_E_MEMORY, path, "out of memory");
	rules->last = &rules->first;
	int code = path ? read_rules(rules, path, err) : MUON_OK;
	if (code)
		mspec_group_rules_destroy(out);
	return code;
}

void mspec_group_rules_destroy(mspec_group_rules **rules)
{
	mspec_group_rules *r = *rules;
	*rules = NULL;
	if (!r)
		return;
	HASH_CLEAR(hh, r->memo);
	muon_arena_release(&r->arena);
	muon_free(r);
}

/* The key with '#' for every number, and the part of a fused qkv at its end. */
static void general_key(char out[MSPEC_KEY_SIZE + 4], const char *key, const char *slice)
{
	char *to = out;
	while (*key) {
		size_t digits = strspn(key, "0123456789");
		*to++ = digits ? '#' : *key;
		key += digits ? digits : 1;
	}
	if (slice && (!strcmp(slice, "q") || !strcmp(slice, "k") || !strcmp(slice, "v"))) {
		*to++ = '@';
		*to++ = *slice;
		*to++ = '.';
	}
	*to = 0;
}

static bool in_attention(const char *key)
{
	static const char *const words[] = {"attn", "attention", ".att.",
					    ".sa.", ".mha.",     ".sa_head"};
	for (size_t i = 0; i < sizeof words / sizeof *words; i++)
		if (mspec_key_has(key, words[i]))
			return true;
	return false;
}

static group builtin_group(const char *key, bool convolution)
{
	bool attention = in_attention(key);
	for (size_t i = 0; i < sizeof builtin / sizeof *builtin; i++) {
		if ((builtin[i].condition == IN_ATTENTION && !attention) ||
		    (builtin[i].condition == IF_CONVOLUTION && !convolution))
			continue;
		if (!fnmatch(builtin[i].glob, key, 0))
			return builtin[i].group;
	}
	return OTHER;
}

static group remembered_group(mspec_group_rules *rules, const char *key, const char *slice,
			      bool convolution)
{
	char general[MSPEC_KEY_SIZE + 8];
	general_key(general, key, slice);
	size_t length = strlen(general);
	general[length + 1] = 0;
	general[length] = convolution ? '+' : '-'; /* the same names, two shapes */
	remembered *known;
	HASH_FIND(hh, rules->memo, general, length + 1, known);
	if (known)
		return known->group;
	known = muon_arena_alloc(&rules->arena, 1, sizeof *known);
	char *copy = muon_arena_string(&rules->arena, general);
	general[length] = 0;
	group found = builtin_group(general, convolution);
	if (known && copy) {
		known->key = copy;
		known->group = found;
		HASH_ADD_KEYPTR(hh, rules->memo, known->key, length + 1, known);
	}
	return found;
}

const char *mspec_group_of(mspec_group_rules *rules, const char *tensor_name,
			   const char *matrix_name, const char *key, const char *slice,
			   bool convolution)
{
	for (const file_rule *rule = rules->first; rule; rule = rule->next)
		if (!fnmatch(rule->glob, tensor_name, 0) || !fnmatch(rule->glob, matrix_name, 0))
			return group_names[rule->group];
	return group_names[remembered_group(rules, key, slice, convolution)];
}
