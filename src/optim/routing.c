/* Who updates a parameter, from its name. */
#include <muon/optim.h>

#include <ctype.h>
#include <fnmatch.h>
#include <string.h>

typedef struct name_rule {
	muon_role role;
	const char *glob; /* of the name in lower case, between dots, numbers as '#' */
} name_rule;

/* First match. Names of Llama, Qwen and Mistral; DeepSeek and Moonlight; GPT-2 and NeoX; BERT. A
 * gate_proj is half of an MLP: a router's gate stands alone. */
static const name_rule rules[] = {
    {MUON_ROLE_VECTOR, "*.bias."},
    {MUON_ROLE_VECTOR, "*.e_score_correction_bias."},
    {MUON_ROLE_VECTOR, "*norm.weight."},
    {MUON_ROLE_VECTOR, "*.ln_*"},

    {MUON_ROLE_HEAD, "*.lm_head.*"},
    {MUON_ROLE_HEAD, "*.output.weight."}, /* Llama as Meta has it; BERT's is output.dense */
    {MUON_ROLE_HEAD, "*.embed_out.*"},
    {MUON_ROLE_HEAD, "*.unembed*"},
    {MUON_ROLE_HEAD, "*.cls.*"},
    {MUON_ROLE_HEAD, "*.classifier.*"},
    {MUON_ROLE_HEAD, "*.score.weight."},
    {MUON_ROLE_HEAD, "*.qa_outputs.*"},

    {MUON_ROLE_ROUTER, "*.gate.weight."},
    {MUON_ROLE_ROUTER, "*.gate."},
    {MUON_ROLE_ROUTER, "*.shared_expert_gate.*"},
    {MUON_ROLE_ROUTER, "*.router.*"},

    {MUON_ROLE_EMBEDDING, "*.wte.*"},
    {MUON_ROLE_EMBEDDING, "*.wpe.*"},
    {MUON_ROLE_EMBEDDING, "*.embed.*"},
    {MUON_ROLE_EMBEDDING, "*.embed_*"},
    {MUON_ROLE_EMBEDDING, "*.embedding.*"},
    {MUON_ROLE_EMBEDDING, "*.embeddings.*"}, /* word, position, token type */
    {MUON_ROLE_EMBEDDING, "*_embedding.*"},
    {MUON_ROLE_EMBEDDING, "*_embeddings.*"},
    {MUON_ROLE_EMBEDDING, ".shared.weight."}, /* T5 */
    {MUON_ROLE_EMBEDDING, "*.relative_attention_bias.*"},
};

enum { KEY = 512 };

/* ".model.layers.#.mlp.gate.weight."; the end of a name that is too long. */
static void make_key(char key[KEY], const char *name)
{
	const size_t length = strlen(name), most = KEY - 3;
	char *to = key;
	if (length > most)
		name += length - most;
	*to++ = '.';
	while (*name) {
		const size_t digits = strspn(name, "0123456789");
		const char c = *name == '/' ? '.' : (char)tolower((unsigned char)*name);
		*to++ = digits ? '#' : c;
		name += digits ? digits : 1;
	}
	*to++ = '.';
	*to = 0;
}

static muon_role role_of(const char *name, int rank)
{
	char key[KEY];
	if (rank < 2)
		return MUON_ROLE_VECTOR;
	make_key(key, name);
	for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
		if (!fnmatch(rules[i].glob, key, 0))
			return rules[i].role;
	return MUON_ROLE_HIDDEN;
}

muon_rule muon_route(const char *name, int rank, const int64_t *dims, muon_role role,
		     muon_rule router)
{
	(void)dims;
	if (role == MUON_ROLE_AUTO)
		role = role_of(name, rank);
	switch (role) {
	case MUON_ROLE_HIDDEN:
		return MUON_RULE_MUON;
	case MUON_ROLE_ROUTER:
		return router;
	default:
		return MUON_RULE_ADAMW;
	}
}
